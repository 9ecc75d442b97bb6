"""Bridges: compute the decoder's initial state from the encoder. Depths and widths may differ.

The cell state of the LSTM has a separate map, without tanh, because cell states are not bounded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from seq2seq.layers.encoder import Encoded


class BridgeSizes(NamedTuple):
    """Sizes of the encoder and the decoder that a bridge connects."""

    memory_size: int  # M
    direction_size: int | None  # M/D, the width of one direction of the encoder; None: it has no final states
    hidden_size: int  # H
    num_layers: int  # L, layers of the decoder
    parts: int  # parts of a packed state: 2 (h, c) for the LSTM, else 1


class _Bridge(nn.Module):
    """Maps ``Encoded`` to the decoder's initial packed state (B, L, W)."""

    def __init__(self, sizes: BridgeSizes) -> None:
        super().__init__()
        self.sizes = sizes


class ZeroBridge(_Bridge):
    """Initialises the decoder with zeros."""

    def forward(self, encoded: Encoded) -> Tensor:
        sizes = self.sizes
        return encoded.values.new_zeros(len(encoded.values), sizes.num_layers, sizes.hidden_size * sizes.parts)


class LastBridge(_Bridge):
    """Copies final states: those of encoder layer l, or of the top layer, to decoder layer l, directions concatenated."""

    def __init__(self, sizes: BridgeSizes) -> None:
        super().__init__(sizes)
        if sizes.memory_size != sizes.hidden_size:
            raise ValueError(
                f"model.bridge=last requires encoder and decoder of the same width, but the encoder has width "
                f"{sizes.memory_size} and the decoder {sizes.hidden_size}; set model.encoder_hidden_size={sizes.hidden_size} or model.bridge=linear"
            )

    def forward(self, encoded: Encoded) -> Tensor:
        assert encoded.final is not None, "the encoder has no final states"
        layers = [min(layer, encoded.final.shape[1] - 1) for layer in range(self.sizes.num_layers)]
        final = torch.stack([encoded.final[:, layer] for layer in layers], dim=1)  # (B, L, D, W)
        # (B, L, D, P, H/D) -> (B, L, P, D, H/D): h of both directions, then c of both
        return final.unflatten(3, (self.sizes.parts, -1)).transpose(2, 3).flatten(2)


class _MappedBridge(_Bridge):
    """Computes h = tanh(W x + b) and c = W' x' + b' from one vector of the encoder per part of the state."""

    def __init__(self, sizes: BridgeSizes, input_size: int) -> None:
        super().__init__(sizes)
        maps = [nn.Linear(input_size, sizes.num_layers * sizes.hidden_size) for _ in range(sizes.parts)]
        self.maps = nn.ModuleList(maps)
        for linear in maps:
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def inputs(self, encoded: Encoded) -> list[Tensor]:
        """Return one vector (B, input_size) per part of the state."""
        raise NotImplementedError

    def forward(self, encoded: Encoded) -> Tensor:
        h, *c = [
            linear(inputs).unflatten(1, (self.sizes.num_layers, self.sizes.hidden_size))
            for linear, inputs in zip(self.maps, self.inputs(encoded), strict=True)
        ]
        return torch.cat((torch.tanh(h), *c), dim=-1)


class LinearBridge(_MappedBridge):
    """Maps the final state of the top encoder layer's last direction.

    h = tanh(W h_backward_1 + b) (Bahdanau et al. 2015, section A.2.2, there without b). A unidirectional encoder has only
    the forward direction.
    """

    def __init__(self, sizes: BridgeSizes) -> None:
        assert sizes.direction_size is not None, "the encoder has no final states"
        super().__init__(sizes, sizes.direction_size)

    def inputs(self, encoded: Encoded) -> list[Tensor]:
        """Return h, and for the LSTM also c."""
        assert encoded.final is not None, "the encoder has no final states"
        return list(encoded.final[:, -1, -1].chunk(self.sizes.parts, dim=-1))


class MeanBridge(_MappedBridge):
    """Maps the mean of the values over real positions (Sennrich et al. 2017, Nematus)."""

    def __init__(self, sizes: BridgeSizes) -> None:
        super().__init__(sizes, sizes.memory_size)

    def inputs(self, encoded: Encoded) -> list[Tensor]:
        """Return the mean once per part of the state."""
        real = encoded.mask.unsqueeze(2)
        return [(encoded.values * real).sum(dim=1) / real.sum(dim=1)] * self.sizes.parts


BRIDGES: dict[str, Callable[[BridgeSizes], nn.Module]] = {
    "linear": LinearBridge,
    "last": LastBridge,
    "mean": MeanBridge,
    "zero": ZeroBridge,
}


def make_bridge(kind: str | None, sizes: BridgeSizes) -> nn.Module:
    """Make a bridge: a module that maps ``Encoded`` to a packed state (B, L, W).

    Args:
        kind: its name in ``BRIDGES``; None: ``linear`` if the encoder has final states, else ``mean``.

    Raises:
        ValueError: the kind is unknown, or it cannot connect these sizes.
    """
    if kind is None:
        kind = "mean" if sizes.direction_size is None else "linear"
    if kind not in BRIDGES:
        raise ValueError(f"model.bridge must be one of {', '.join(BRIDGES)}, but is {kind}")
    return BRIDGES[kind](sizes)
