"""Turn sine waves into cosine waves with a recurrent network, also beyond the trained length.

    python scripts/tutorial/sine.py [--figure sine.png] [--cell gru]

At each step the network reads one value of sin(a t + b) and predicts cos(a t + b). Frequency a and phase b of a wave are
random, so one value is not enough: the network has to remember the values before it. It is trained on 50 steps and
tested on 200. Takes about twenty seconds on one core, and writes the errors by step beside the figure, as JSON.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F
from tutorial_run import make_parser, save, start, train

from seq2seq.layers import RecurrentEncoder

TRAINED, TESTED = 50, 200  # steps
WARM_UP = 10  # first steps of a wave, in which its frequency is not known yet; not in the reported errors
CELLS = ("rnn_tanh", "rnn_relu", "gru", "lstm")


class Waves(NamedTuple):
    """Waves of random frequency and phase."""

    sine: Tensor  # (B, T, 1)
    cosine: Tensor  # (B, T, 1)


def draw(count: int, steps: int) -> Waves:
    """Draw waves with periods between 16 and 63 steps."""
    frequency = torch.empty(count, 1, 1).uniform_(0.1, 0.4)
    phase = torch.empty(count, 1, 1).uniform_(0, 2 * math.pi)
    angle = frequency * torch.arange(steps).view(1, -1, 1) + phase
    return Waves(angle.sin(), angle.cos())


class WaveNetwork(nn.Module):
    """One recurrent layer that reads from left to right, and a linear map of each of its outputs."""

    def __init__(self, cell: str, width: int = 32) -> None:
        super().__init__()
        self.recurrent = RecurrentEncoder(cell, input_size=1, hidden_size=width, bidirectional=False)
        self.output = nn.Linear(width, 1)

    def forward(self, sine: Tensor) -> Tensor:
        """Predict the cosine of every step: (B, T, 1) -> (B, T, 1)."""
        return self.output(self.recurrent(sine).values)


def loss(network: WaveNetwork) -> Tensor:
    """Compute the mean square error of new waves."""
    waves = draw(64, TRAINED)
    return F.mse_loss(network(waves.sine), waves.cosine)


@torch.no_grad()
def errors(network: WaveNetwork, waves: Waves) -> Tensor:
    """Compute the root mean square error of each step over all waves: (T,)."""
    return (network(waves.sine) - waves.cosine).square().mean(dim=(0, 2)).sqrt()


def draw_figure(by_step: Tensor, prediction: Tensor, wave: Waves) -> Figure:
    """Draw one wave with its prediction, and the error of every step."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True)
    top.plot(wave.sine[0, :, 0].numpy(), color="0.7", label="input: sine")
    top.plot(wave.cosine[0, :, 0].numpy(), color="black", label="target: cosine")
    top.plot(prediction[0, :, 0].numpy(), color="tab:red", linestyle="--", label="prediction")
    top.set_ylabel("value")
    top.legend(loc="upper right", ncols=3)
    bottom.plot(by_step.numpy(), color="tab:red")
    bottom.set(xlabel="step", ylabel="RMS error over 500 waves", ylim=(0, None))
    for axes in (top, bottom):
        axes.axvline(TRAINED, color="tab:blue", linestyle=":")
    bottom.text(TRAINED + 1, float(by_step.max()), "longer than in training", color="tab:blue", va="top")
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, test and draw."""
    parser = make_parser(__doc__, figure="sine.png", updates=1500)
    parser.add_argument("--cell", choices=CELLS, default="gru", help="recurrent cell (default gru)")
    options = start(parser, arguments)
    network = WaveNetwork(options.cell)
    train(network, partial(loss, network), updates=options.updates, learning_rate=5e-3)
    waves = draw(500, TESTED)
    by_step = errors(network, waves)
    with torch.no_grad():
        prediction = network(waves.sine[:1])
    rms = [round(float(part.square().mean().sqrt()), 4) for part in (by_step[WARM_UP:TRAINED], by_step[TRAINED:])]
    result = {"cell": options.cell, "updates": options.updates, "error_trained": rms[0], "error_beyond": rms[1]}
    save(draw_figure(by_step, prediction, waves), options.figure, result)


if __name__ == "__main__":
    main()
