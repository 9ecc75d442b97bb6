"""Read handwritten digits row by row with a recurrent network.

    python scripts/tutorial/digits.py [--figure digits.png] [--seeds 3]

The images are the 1,797 digits of 8 x 8 pixels that scikit-learn includes (pip install scikit-learn). An image is a
sequence of 8 steps, one row of 8 values each. A bidirectional LSTM reads it; the last output of each direction decides.
A quarter of the images is held out; the split is the same for all seeds. Takes about twenty seconds on one core, and
writes the accuracy of each seed beside the figure, as JSON.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from tutorial_run import make_parser, save, start, train

from seq2seq.layers import RecurrentEncoder

HELD_OUT = 450
SPLIT_SEED = 0


class Images(NamedTuple):
    """Images and their digits."""

    rows: Tensor  # (B, 8, 8), between 0 and 1
    digits: Tensor  # (B,)


def load() -> tuple[Images, Images]:
    """Load the images for training and the held-out ones."""
    data = load_digits()
    rows = torch.tensor(data.images, dtype=torch.float32) / 16
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(SPLIT_SEED))
    images = Images(rows[order], torch.tensor(data.target)[order])
    return Images(*(t[HELD_OUT:] for t in images)), Images(*(t[:HELD_OUT] for t in images))


class DigitNetwork(nn.Module):
    """Bidirectional LSTM, and a linear map of its last outputs to the ten digits."""

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.encoder = RecurrentEncoder("lstm", input_size=8, hidden_size=width)
        self.dropout = nn.Dropout(0.3)
        self.output = nn.Linear(width, 10)

    def forward(self, rows: Tensor) -> Tensor:
        """Compute the logits of the digits: (B, 8, 8) -> (B, 10)."""
        return self.output(self.dropout(self.encoder(rows).summary))


def loss(network: DigitNetwork, images: Images) -> Tensor:
    """Compute the cross-entropy of 64 random images."""
    chosen = torch.randint(len(images.rows), (64,))
    return F.cross_entropy(network(images.rows[chosen]), images.digits[chosen])


def draw_figure(images: Images, predicted: Tensor) -> Figure:
    """Draw the confusions, and up to 15 images that were not recognised."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    grid = figure.add_gridspec(1, 2)
    left, right = figure.add_subfigure(grid[0, 0]), figure.add_subfigure(grid[0, 1])
    axes = left.subplots()
    counts = torch.zeros(10, 10, dtype=torch.long)
    for digit, guess in zip(images.digits, predicted, strict=True):
        counts[digit, guess] += 1
    axes.imshow(counts.float().log1p().numpy(), cmap="Blues")
    for digit, guess in counts.nonzero().tolist():
        axes.text(guess, digit, str(int(counts[digit, guess])), ha="center", va="center", fontsize=8)
    axes.set(xlabel="predicted digit", ylabel="digit", xticks=range(10), yticks=range(10))
    wrong = (images.digits != predicted).nonzero().squeeze(1).tolist()[:15]
    right.suptitle(f"{int((images.digits != predicted).sum())} of {len(predicted)} are wrong")
    for cell, number in zip(right.subplots(3, 5).flat, [*wrong, *[None] * 15], strict=False):
        cell.axis("off")
        if number is not None:
            cell.imshow(images.rows[number].numpy(), cmap="gray_r")
            cell.set_title(f"{int(images.digits[number])} as {int(predicted[number])}", fontsize=8)
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    """Train with several seeds, test, and draw the result of the last one."""
    options = start(make_parser(__doc__, figure="digits.png", updates=500, seeds=3), arguments)
    training, held_out = load()
    accuracy = []
    for seed in range(options.seed, options.seed + options.seeds):
        torch.manual_seed(seed)
        network = DigitNetwork()
        train(network, partial(loss, network, training), updates=options.updates, learning_rate=5e-3)
        predicted = network(held_out.rows).argmax(dim=1)
        accuracy.append(round(float((predicted == held_out.digits).float().mean()), 4))
    result = {"updates": options.updates, "accuracy": accuracy, "mean": round(statistics.mean(accuracy), 4)}
    save(draw_figure(held_out, predicted), options.figure, result)


if __name__ == "__main__":
    main()
