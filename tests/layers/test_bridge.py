"""Bridges: the decoder's initial state equals its formula of the encoder's final states."""

from __future__ import annotations

import re
from typing import NamedTuple

import pytest
import torch
from torch import nn

from seq2seq.layers.bridge import BRIDGES, BridgeSizes, make_bridge
from seq2seq.layers.cells import CELLS
from seq2seq.layers.encoder import Encoded, RecurrentEncoder

B, S, E, H, M = 3, 5, 6, 8, 8
EVERY_CELL = pytest.mark.parametrize("cell", CELLS)
LENGTHS = torch.tensor([5, 2, 3])


class Lengths(NamedTuple):
    """A source with lengths only."""

    src_lengths: torch.Tensor


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(1)


def encode(
    cell: str, num_layers: int = 1, width: int = M, bidirectional: bool = True
) -> tuple[RecurrentEncoder, Encoded]:
    encoder = RecurrentEncoder(
        cell, input_size=E, hidden_size=width, num_layers=num_layers, bidirectional=bidirectional
    )
    return encoder, encoder(torch.randn(B, S, E), Lengths(LENGTHS))


def bridge(kind: str, cell: str, encoder: RecurrentEncoder, num_layers: int = 1, width: int = H) -> nn.Module:
    made = make_bridge(
        kind,
        BridgeSizes(
            memory_size=encoder.hidden_size,
            direction_size=encoder.direction_size,
            hidden_size=width,
            num_layers=num_layers,
            parts=CELLS[cell].parts,
        ),
    )
    for linear in getattr(made, "maps", []):
        nn.init.uniform_(linear.bias, -0.5, 0.5)
    return made


@EVERY_CELL
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("encoder_layers", "decoder_layers", "width"), [(1, 1, H), (2, 3, 10), (3, 1, 6)])
def test_the_linear_bridge_is_the_formula_of_bahdanau(cell, bidirectional, encoder_layers, decoder_layers, width):
    encoder, encoded = encode(cell, encoder_layers, M, bidirectional)
    made = bridge("linear", cell, encoder, decoder_layers, width)
    start = made(encoded)
    parts = CELLS[cell].parts
    assert start.shape == (B, decoder_layers, width * parts)
    # the top layer's backward state at the first word, or its forward state at the last word
    last = [length - 1 for length in LENGTHS.tolist()]
    if bidirectional:
        h = encoded.values[:, 0, M // 2 :]
    else:
        h = encoded.values[torch.arange(B), last]
    for layer in range(decoder_layers):
        rows = slice(layer * width, (layer + 1) * width)
        expected = torch.tanh(h @ made.maps[0].weight[rows].T + made.maps[0].bias[rows])
        torch.testing.assert_close(start[:, layer, :width], expected)
        if parts == 2:
            c = encoded.final[:, -1, -1, encoder.direction_size :]
            expected = c @ made.maps[1].weight[rows].T + made.maps[1].bias[rows]
            torch.testing.assert_close(start[:, layer, width:], expected)


@EVERY_CELL
def test_the_mean_bridge_averages_only_real_positions(cell):
    encoder, encoded = encode(cell, 2)
    made = bridge("mean", cell, encoder, 2, 10)
    noisy = encoded._replace(values=encoded.values + 9 * ~encoded.mask.unsqueeze(2))
    start = made(noisy)
    for row, length in enumerate(LENGTHS.tolist()):
        mean = encoded.values[row, :length].mean(dim=0)
        expected = torch.tanh(made.maps[0](mean)).view(2, 10)
        torch.testing.assert_close(start[row, :, :10], expected)
        if CELLS[cell].parts == 2:
            torch.testing.assert_close(start[row, :, 10:], made.maps[1](mean).view(2, 10))


@EVERY_CELL
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("encoder_layers", "decoder_layers"), [(2, 2), (1, 3), (3, 1)])
def test_last_bridge_copies_final_states(cell, bidirectional, encoder_layers, decoder_layers):
    encoder, encoded = encode(cell, encoder_layers, H, bidirectional)
    start = bridge("last", cell, encoder, decoder_layers)(encoded)
    width = encoder.direction_size
    for layer in range(decoder_layers):
        final = encoded.final[:, min(layer, encoder_layers - 1)]  # (B, D, W)
        h = torch.cat([final[:, d, :width] for d in range(encoder.directions)], dim=1)
        torch.testing.assert_close(start[:, layer, :H], h)
        if CELLS[cell].parts > 1:
            c = torch.cat([final[:, d, width:] for d in range(encoder.directions)], dim=1)
            torch.testing.assert_close(start[:, layer, H:], c)


@EVERY_CELL
def test_zero_bridge_starts_from_zeros(cell):
    encoder, encoded = encode(cell)
    start = bridge("zero", cell, encoder, 2, 10)(encoded)
    assert start.shape == (B, 2, 10 * CELLS[cell].parts)
    assert not start.any()


def test_last_bridge_refuses_different_widths():
    encoder, _ = encode("gru", width=6)
    message = (
        "model.bridge=last requires encoder and decoder of the same width, but the encoder has width 6 and the decoder 8; "
        "set model.encoder_hidden_size=8 or model.bridge=linear"
    )
    with pytest.raises(ValueError, match=message):
        bridge("last", "gru", encoder)


def test_an_unknown_bridge_is_refused_with_the_list():
    encoder, _ = encode("gru")
    message = f"model.bridge must be one of {', '.join(BRIDGES)}, but is first"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        bridge("first", "gru", encoder)
