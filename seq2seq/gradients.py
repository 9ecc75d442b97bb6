"""Gradients over time: how much of a gradient is left after k steps of the cells of a trained model, on real text.

Two quantities are measured, exactly, by autograd in float64:

- state: the norm of d state_t / d state_{t-k} for each layer, and each direction of the encoder. The state of a layer is h,
  for the LSTM h and c. The derivative is the total one, through every path: in the decoder also through attention, context
  and the layers above. The norm is the Frobenius norm divided by the root of the width of the state, which is the root mean
  square of the singular values. It is 1 at k = 0, and a^k for a linear cell whose h-to-h weight is a times the identity.
- loss: the Euclidean norm of d loss_t / d input_{t-k}, where loss_t is minus the log-probability of target piece t, and
  input_{t-k} the embedding that the decoder reads at step t-k. The encoder has no loss of a step.

Both are averaged over t and over the lines. In the backward direction of the encoder, step t reads the t-th piece from the
end. The method is that of Bengio et al. 1994 and Pascanu et al. 2013: the norm vanishes or explodes with k.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from seq2seq.data.batching import Batch
from seq2seq.layers.cells import Cell, Parts
from seq2seq.layers.fast import plain_layers
from seq2seq.model import Seq2Seq
from seq2seq.translator import Translator


class GradientCurve(NamedTuple):
    """Mean norms of gradients against the distance k = 0, 1, ... in steps."""

    part: str  # encoder or decoder
    direction: str  # forward or backward
    layer: int  # from 1; 0 for the loss
    quantity: str  # state or loss
    mean: list[float]  # per distance
    pairs: list[int]  # per distance, the pairs of steps in the mean

    @property
    def name(self) -> str:
        """The name of the curve without its layer, for example ``encoder backward: state``."""
        direction = f" {self.direction}" if self.part == "encoder" else ""
        return f"{self.part}{direction}: {self.quantity}"


class _Sums:
    """The sums and counts of one curve."""

    def __init__(self, size: int) -> None:
        self.total = torch.zeros(size, dtype=torch.float64)
        self.count = torch.zeros(size, dtype=torch.long)

    def add(self, distance: int, norm: Tensor) -> None:
        self.total[distance] += norm
        self.count[distance] += 1


def gradients_of_lines(
    translator: Translator, sources: Sequence[str], targets: Sequence[str], *, max_distance: int = 50
) -> list[GradientCurve]:
    """Measure the gradients of a translator's model on pairs of lines; see ``gradients_over_time``."""
    model = translator.model
    if not isinstance(model, Seq2Seq):
        raise ValueError("gradients over time are those of one model; give a single model")
    batches = [translator.pair_batch(src, tgt) for src, tgt in zip(sources, targets, strict=True)]
    return gradients_over_time(model, batches, max_distance=max_distance)


def gradients_over_time(model: Seq2Seq, batches: Iterable[Batch], *, max_distance: int = 50) -> list[GradientCurve]:
    """Measure the gradients of a model, without dropout.

    Args:
        batches: pairs of source and target, one in each batch, so that there is no padding.
        max_distance: the largest k.

    Raises:
        ValueError: there is no batch, a batch has more than one pair, or the encoder has sentences.
    """
    if model.encoder.has_sentences:
        raise ValueError(
            "gradients over time require model.encoder=rnn or transformer, but it is hierarchical, whose layers start anew in "
            "every sentence; choose a model with another encoder"
        )
    model = copy.deepcopy(model).cpu().double().eval().requires_grad_(False)
    sums: dict[tuple[str, str, int, str], _Sums] = {}

    def sums_of(*key: Any) -> _Sums:
        return sums.setdefault(key, _Sums(max_distance + 1))

    for batch in batches:
        if len(batch.src) != 1:
            raise ValueError(f"a batch must hold one pair, so that there is no padding, but holds {len(batch.src)}")
        with plain_layers(), ExitStack() as stack:
            encoder, decoder, _, inputs = (
                stack.enter_context(recording)
                for recording in (
                    _record_states(model.get_submodule("encoder")),
                    _record_states(model.get_submodule("decoder")),
                    _record_embeddings(model.src_embedding),
                    _record_embeddings(model.tgt_embedding),
                )
            )
            losses = -model.log_probs(batch.to(torch.device("cpu")))
        length, steps = batch.src.shape[1], len(losses)
        for number, first in enumerate(range(0, len(encoder), length)):  # layer after layer, direction after direction
            layer, d = divmod(number, getattr(model.encoder, "directions", 1))
            direction = ("forward", "backward")[d]
            _add_states(sums_of("encoder", direction, layer + 1, "state"), encoder[first : first + length])
        for layer in range(len(decoder) // steps):  # step after step, and in each layer after layer
            _add_states(sums_of("decoder", "forward", layer + 1, "state"), decoder[layer :: len(decoder) // steps])
        _add_losses(sums_of("decoder", "forward", 0, "loss"), losses, inputs[0])
    if not sums:
        raise ValueError("gradients require at least one line that is not blank")
    return [_curve(key, value) for key, value in sums.items()]


def _curve(key: tuple[str, str, int, str], sums: _Sums) -> GradientCurve:
    """Make the curve of the distances that the lines have."""
    size = int((sums.count > 0).sum())
    part, direction, layer, quantity = key
    mean = (sums.total[:size] / sums.count[:size]).tolist()
    return GradientCurve(part, direction, layer, quantity, mean, sums.count[:size].tolist())


def _add_states(sums: _Sums, states: Sequence[Tensor]) -> None:
    """Add the norms of d state_t / d state_{t-k} of all t; the states (1, W) are those of one layer in reading order."""
    width = states[0].shape[1]
    unit = torch.eye(width, dtype=torch.float64).unsqueeze(1)  # (W, 1, W), one unit of state_t each
    for t, state in enumerate(states):
        earlier = states[max(0, t - len(sums.total) + 1) : t + 1]
        jacobians = torch.autograd.grad(state, earlier, unit, is_grads_batched=True, retain_graph=True)
        for distance, jacobian in enumerate(reversed(jacobians)):
            sums.add(distance, jacobian.norm() / width**0.5)


def _add_losses(sums: _Sums, losses: Tensor, inputs: Tensor) -> None:
    """Add the norms of d loss_t / d input_{t-k}: losses (T,), inputs (1, T, E)."""
    unit = torch.eye(len(losses), dtype=losses.dtype)
    (gradients,) = torch.autograd.grad(losses, inputs, unit, is_grads_batched=True, retain_graph=True)
    norms = gradients.squeeze(1).norm(dim=2)  # (T, T): loss, input
    for t, row in enumerate(norms):
        for distance in range(min(t + 1, len(sums.total))):
            sums.add(distance, row[t - distance])


@contextmanager
def _record_states(module: nn.Module) -> Iterator[list[Tensor]]:
    """Record the packed state (B, W) after every step of the cells of a module, in the order of the steps.

    Everything that follows a step is computed from the recorded tensor, so its gradient is the total derivative. The
    list stays empty for a module without recurrent cells.
    """
    states: list[Tensor] = []
    owners: list[Any] = [part for part in module.modules() if isinstance(getattr(part, "cell", None), Cell)]
    cells: list[Cell] = [owner.cell for owner in owners]

    def recorded(cell: Cell) -> Cell:
        def step(*arguments: Any) -> Parts:
            parts = cell.step(*arguments)
            packed = torch.cat(parts, dim=-1)
            states.append(packed)
            return packed.split(parts[0].shape[-1], dim=-1)

        return cell._replace(step=step)

    for owner, cell in zip(owners, cells, strict=True):
        owner.cell = recorded(cell)
    try:
        yield states
    finally:
        for owner, cell in zip(owners, cells, strict=True):
            owner.cell = cell


@contextmanager
def _record_embeddings(embedding: nn.Embedding) -> Iterator[list[Tensor]]:
    """Record the outputs of an embedding, and make them the start of the graph."""
    outputs: list[Tensor] = []

    def record(module: nn.Module, arguments: Any, output: Tensor) -> Tensor:
        outputs.append(output.detach().requires_grad_())
        return outputs[-1]

    handle = embedding.register_forward_hook(record)
    try:
        yield outputs
    finally:
        handle.remove()
