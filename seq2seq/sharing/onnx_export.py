"""Export of a recurrent model to ONNX: the encoder and one decoder step, as two graphs.

``seq2seq.sharing.onnx_search`` runs them with ONNX Runtime. torch's exporter fixes the number of time steps of a recurrent
layer, so the layers of the encoder are written as the operators LSTM, GRU and RNN of ONNX, whose input ``sequence_lens``
gives the lengths; padding is then not read in either direction.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seq2seq import model_dir
from seq2seq.config import SearchConfig
from seq2seq.files import make_folder
from seq2seq.layers.attention import Memory
from seq2seq.layers.decoder import RecurrentDecoder
from seq2seq.layers.distribution import as_fp32
from seq2seq.layers.encoder import Encoded, RecurrentEncoder
from seq2seq.layers.fast import plain_layers
from seq2seq.model import Seq2Seq
from seq2seq.model_dir import Settings
from seq2seq.sharing.onnx_search import ENCODER_GRAPH, STEP_GRAPH, OnnxTranslator
from seq2seq.translator import Translator

OPSET = 18
_OPERATORS: dict[
    str, tuple[str, tuple[int, ...], dict[str, Any]]
] = {  # cell: operator of ONNX, its order of torch's gates, its attributes
    "lstm": ("LSTM", (0, 3, 1, 2), {}),
    "gru": ("GRU", (1, 0, 2), {"linear_before_reset": 1}),
    "rnn_tanh": ("RNN", (0,), {"activations": ["Tanh"]}),
    "rnn_relu": ("RNN", (0,), {"activations": ["Relu"]}),
}
_CHECKED_LINES = 8
_PLAIN_SEARCH = (  # settings of the search that ``OnnxTranslator`` does not have
    "coverage_penalty",
    "summary_penalty",
    "samples",
    "no_repeat_ngram",
    "repetition_penalty",
    "forbidden",
    "mbr",
    "shortlist",
    "precision",
)


class EncoderGraph(nn.Module):
    """The encoder: src (B, S) and lengths (B,) -> the tensors of the memory, and the first state of the decoder."""

    def __init__(self, model: Seq2Seq, cell: str) -> None:
        super().__init__()
        assert isinstance(model.encoder, RecurrentEncoder)
        assert isinstance(model.decoder, RecurrentDecoder)
        self.model, self.cell = model, cell
        self.encoder, self.decoder = model.encoder, model.decoder

    def forward(self, src: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        """Return values, keys, mask, hidden and context, then fertility and copy_keys as far as the model has them."""
        mask = torch.arange(src.shape[1], device=src.device) < lengths.unsqueeze(1)
        values = self.model.src_embedding(src)
        states = []
        for number, layer in enumerate(self.encoder.layers):
            below = values
            values, state = self._run(layer, below, lengths)
            if self.encoder.residual and number > 0:
                values = values + below * mask.unsqueeze(2)
            states.append(state)
        final = torch.stack(states, dim=1)  # (B, L, D, W)
        summary = final[:, -1, :, : self.encoder.direction_size].flatten(1)
        hidden = self.decoder.bridge(Encoded(values, mask, summary, final))
        found = [values, self.decoder.keys(values), mask, hidden, torch.zeros_like(summary)]
        if self.decoder.coverage != "none":
            found.append(self.decoder.fertility(values))
        if has_copy_keys(self.model):
            assert self.model.pointer is not None
            found.append(self.model.pointer.keys(values))
        return tuple(found)

    def _run(self, layer: nn.Module, below: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Run one layer as an operator of ONNX: (B, S, I) -> (B, S, M), and the final states (B, D, W)."""
        operator, order, attributes = _OPERATORS[self.cell]
        directions, width = self.encoder.directions, self.encoder.direction_size

        def stack(name: str) -> Tensor:  # with the gates in the order of ONNX: (D, G*H, ...)
            suffixes = ("", "_reverse")[:directions]
            weights = [getattr(layer, f"{name}_l0{suffix}").detach().chunk(len(order)) for suffix in suffixes]
            return torch.stack([torch.cat([gates[place] for place in order]) for gates in weights])

        biases = torch.cat((stack("bias_ih"), stack("bias_hh")), dim=1)
        steps, rows = below.shape[1], below.shape[0]
        num_states = 2 if operator == "LSTM" else 1
        if "activations" in attributes:
            attributes = {"activations": attributes["activations"] * directions}
        values, *state = torch.onnx.ops.symbolic_multi_out(
            operator,
            (below.transpose(0, 1), stack("weight_ih"), stack("weight_hh"), biases, lengths.to(torch.int32)),
            {"hidden_size": width, "direction": "bidirectional" if directions == 2 else "forward", **attributes},
            dtypes=[torch.float32] * (1 + num_states),
            shapes=[(steps, directions, rows, width), *[(directions, rows, width)] * num_states],
        )
        return values.permute(2, 0, 1, 3).flatten(2), torch.cat(state, dim=2).transpose(0, 1)


class StepGraph(nn.Module):
    """One step of N hypotheses; every tensor of the memory has a row for each of them."""

    def __init__(self, model: Seq2Seq) -> None:
        super().__init__()
        assert isinstance(model.decoder, RecurrentDecoder)
        self.model, self.decoder = model, model.decoder

    def forward(
        self,
        tokens: Tensor,
        hidden: Tensor,
        context: Tensor,
        values: Tensor,
        keys: Tensor,
        mask: Tensor,
        coverage: Tensor | None = None,
        fertility: Tensor | None = None,
        copy_keys: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Return log P of generating each id (N, V), hidden and context; coverage; log P of copying each position (N, S)."""
        nothing = values[:, :, 0].float()[:, :0]
        ids = torch.zeros_like(mask, dtype=torch.int64)
        fertility = nothing if fertility is None else fertility
        copy_keys = values[:, :, :0] if copy_keys is None else copy_keys
        memory = Memory(values, keys, mask, context, fertility, copy_keys, ids, ids)
        embedded = self.model.tgt_embedding(tokens)
        gates = self.decoder.stack.project(embedded) + self.decoder.context_gates(context)
        output, hidden = self.decoder.stack(gates, hidden, self.decoder.stack.prepare(1))
        queries = output.unsqueeze(1)
        contexts, log_weights = self.decoder.attention.attend(
            queries, memory, (nothing if coverage is None else coverage).unsqueeze(1)
        )
        context = contexts.squeeze(1)
        logits = as_fp32(self.model.readout(self.model.readout.features(output, context)))
        log_probs = torch.log_softmax(logits, dim=1)
        found = [hidden, context]
        if coverage is not None:
            found.append(coverage + log_weights.squeeze(1).exp() / fertility)
        if self.model.pointer is None:
            return (log_probs, *found)
        gate, energies = self.model.pointer(queries, contexts, embedded.unsqueeze(1), log_weights, memory)
        energies = energies.squeeze(1)
        if gate is None:  # one softmax over vocabulary and positions, see Distribution
            gate = (logits.logsumexp(dim=1) - energies.logsumexp(dim=1)).unsqueeze(1)
        generated = log_probs + nn.functional.logsigmoid(gate)
        return (generated, *found, torch.log_softmax(energies, dim=1) + nn.functional.logsigmoid(-gate))


def has_copy_keys(model: Seq2Seq) -> bool:
    """Whether copying reads keys of its own."""
    return model.pointer is not None and getattr(model.pointer, "attention", model.pointer) is not None


def export_onnx(path: str | Path, folder: Path) -> None:
    """Export a model to a folder, with its settings and tokenizers, and compare translations of both.

    Raises:
        ValueError: the model has parts that are not exported, or the graphs translate differently.
    """
    translator = Translator.load(path, device="cpu")
    settings, tokenizers = model_dir.load_settings(model_dir.find(path))
    check_exportable(settings)
    assert isinstance(translator.model, Seq2Seq)
    model = translator.model
    make_folder(folder)
    model_dir.save_settings(folder, settings, tokenizers)
    with torch.no_grad(), plain_layers(), _quiet():
        _write_graphs(model, settings.model.cell, folder)
    _check_translations(translator, folder)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the warnings of torch's exporter, which are about itself and not about the model."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def check_exportable(settings: Settings) -> None:
    """Refuse models with parts that are not exported.

    Raises:
        ValueError: with the setting.
    """
    model, search = settings.model, settings.search
    required: dict[str, tuple[Any, Any]] = {
        "model.encoder": (model.encoder, "rnn"),
        "model.decoder": (model.decoder, "rnn"),
    }
    required["model.layer_norm"] = (model.layer_norm, False)
    plain = SearchConfig()
    required |= {f"search.{name}": (getattr(search, name), getattr(plain, name)) for name in _PLAIN_SEARCH}
    for key, (value, exported) in required.items():
        if value != exported:
            message = f"only models with {key}={exported} are exported to ONNX, but this one has {value}"
            if key.startswith("search."):
                message += (
                    f"; save a copy from Python: Translator.load(MODEL).with_search({key[7:]}={exported!r}).save(COPY)"
                )
            raise ValueError(message)
    if model.attention == "none":
        raise ValueError("only models with an attention are exported to ONNX, but this one has model.attention=none")


def _write_graphs(model: Seq2Seq, cell: str, folder: Path) -> None:
    rows, steps = torch.export.Dim("rows"), torch.export.Dim("steps")
    memory = ["values", "keys", "mask", "hidden", "context"]
    memory += ["fertility"] if model.decoder.coverage != "none" else []
    memory += ["copy_keys"] if has_copy_keys(model) else []
    src, lengths = torch.tensor([[5, 6, 3], [6, 3, 0], [5, 3, 0]]), torch.tensor([3, 2, 2])
    encoder = EncoderGraph(model, cell).eval()
    torch.onnx.export(
        encoder,
        (src, lengths),
        folder / ENCODER_GRAPH,
        input_names=["src", "lengths"],
        output_names=memory,
        dynamic_shapes=({0: rows, 1: steps}, {0: rows}),
        opset_version=OPSET,
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    # the operators have no values in torch, so the example of a step is made of random tensors
    shapes = {"values": (3, 3, encoder.encoder.hidden_size), "context": (3, encoder.encoder.hidden_size)}
    values = torch.randn(shapes["values"])
    example = {
        "tokens": torch.tensor([1, 5, 6]),
        "hidden": encoder.decoder.stack.start(3),
        "context": torch.randn(shapes["context"]),
        "values": values,
        "keys": encoder.decoder.keys(values),
        "mask": torch.arange(3) < lengths.unsqueeze(1),
    }
    if model.decoder.coverage != "none":
        example |= {"coverage": torch.zeros(3, 3), "fertility": encoder.decoder.fertility(values)}
    if has_copy_keys(model):
        assert model.pointer is not None
        example["copy_keys"] = model.pointer.keys(values)
    per_step = {"values", "keys", "mask", "coverage", "fertility", "copy_keys"}
    torch.onnx.export(
        StepGraph(model).eval(),
        kwargs=example,
        f=folder / STEP_GRAPH,
        input_names=list(example),
        output_names=[
            *("log_probs", "next_hidden", "next_context"),
            *(["next_coverage"] if "coverage" in example else []),
            *(["copy_log_probs"] if model.pointer is not None else []),
        ],
        dynamic_shapes={name: {0: rows, 1: steps} if name in per_step else {0: rows} for name in example},
        opset_version=OPSET,
        dynamo=True,
        external_data=False,
        verbose=False,
    )


def _check_translations(translator: Translator, folder: Path) -> None:
    """Translate random sources with both and compare.

    Raises:
        ValueError: a translation or its score differs.
    """
    generator = torch.Generator().manual_seed(1)
    tokenizer = translator.tokenizers.src
    most = min(translator.model.max_source_length, 12)
    rows = [
        torch.randint(4, tokenizer.size, (1 + i * (most - 1) // 8,), generator=generator) for i in range(_CHECKED_LINES)
    ]
    lines = [tokenizer.decode(row.tolist()) for row in rows]
    exported = OnnxTranslator(folder)
    expected = [best[0] for best in translator.with_search(too_long="cut").search(lines)]
    for line, one, (text, score) in zip(lines, expected, exported.search(lines), strict=True):
        if one.translation != text or abs(one.score - score) > 1e-3 + 1e-5 * abs(score):
            raise ValueError(
                f"the exported graphs in {folder} must translate like the model, but {line!r} gives {text!r} with score "
                f"{score:.4f} instead of {one.translation!r} with {one.score:.4f}; report this with seq2seq env"
            )
