"""Repeat random strings with a fixed context, with attention and with copying, and measure the accuracy by length.

    python scripts/tutorial/echo.py [--figure echo.png]

The encoder reads a string and the decoder writes it again. Twenty letters have embeddings and outputs; the others are
rare: they share one input embedding, and only copying can write them. Strings of 1 to 12 letters are trained, strings of
2 to 20 letters are tested. Takes about 40 seconds on one core, and writes the accuracies beside the figure, as JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F
from tutorial_run import make_parser, save, start, train

from seq2seq.layers import RecurrentEncoder, StackedCell, make_attention

KNOWN, RARE = 20, 6  # letters; ids from 2 on
UNK, START, FIRST = 0, 1, 2  # ids of the input: rare letter, start of the output, first known letter
VOCAB, SIZE = FIRST + KNOWN, FIRST + KNOWN + RARE  # without and with the rare letters
RARE_SHARE = 0.1  # of the letters
TRAINED, TESTED = 12, (2, 4, 6, 8, 10, 12, 14, 16, 18, 20)
WAYS = ("fixed context", "attention", "copying")


def draw(rows: int, length: int) -> Tensor:
    """Draw strings: (B, T); rare letters have ids of ``VOCAB`` or higher."""
    known = torch.randint(FIRST, VOCAB, (rows, length))
    rare = torch.randint(VOCAB, SIZE, (rows, length))
    return rare.where(torch.rand(rows, length) < RARE_SHARE, known)


class EchoNetwork(nn.Module):
    """Encoder and decoder; the context of a step is the attention's, or always the summary of the string."""

    def __init__(self, way: str, width: int = 64) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCAB, width)
        self.encoder = RecurrentEncoder("gru", input_size=width, hidden_size=width)
        self.decoder = StackedCell("gru", input_size=2 * width, hidden_size=width)
        attention = make_attention("additive", query_size=width, memory_size=width)
        self.attention = None if way == "fixed context" else attention
        self.gate = nn.Linear(2 * width, 1) if way == "copying" else None
        self.output = nn.Linear(2 * width, VOCAB)

    def forward(self, string: Tensor, target: Tensor | None = None) -> Tensor:
        """Compute log-probabilities (B, T, SIZE); each step reads the letter before it of the target, or its own one."""
        encoded = self.encoder(self._embed(string))
        keys = None if self.attention is None else self.attention.keys(encoded.values)
        context, state = encoded.summary, encoded.summary.unsqueeze(1)
        letters, weights, results = string.new_full((len(string),), START), None, []
        for t in range(string.shape[1]):
            output, state = self.decoder.step(torch.cat((self._embed(letters), context), dim=1), state)
            if self.attention is not None:
                attended = self.attention(output.unsqueeze(1), encoded.values, encoded.mask, keys=keys)
                context, weights = attended.context.squeeze(1), attended.weights.squeeze(1)
            results.append(self._log_probs(torch.cat((output, context), dim=1), weights, string))
            letters = results[-1].argmax(dim=1) if target is None else target[:, t]
        return torch.stack(results, dim=1)

    def _embed(self, letters: Tensor) -> Tensor:
        return self.embedding(letters.masked_fill(letters >= VOCAB, UNK))

    def _log_probs(self, features: Tensor, weights: Tensor | None, string: Tensor) -> Tensor:
        """Compute log P(w), where P(w) = p_gen P_vocab(w) + (1 - p_gen) times the sum of the weights of w."""
        generated = F.pad(self.output(features).softmax(dim=1), (0, RARE))  # (B, SIZE)
        if self.gate is not None and weights is not None:
            p_gen = torch.sigmoid(self.gate(features))
            generated = (p_gen * generated).scatter_add(1, string, (1 - p_gen) * weights)
        return (generated + 1e-9).log()


def loss(network: EchoNetwork) -> Tensor:
    """Compute the loss of new strings; a network that does not copy learns to write ``UNK`` for a rare letter."""
    string = draw(64, int(torch.randint(1, TRAINED + 1, ())))
    target = string if network.gate is not None else string.masked_fill(string >= VOCAB, UNK)
    return F.nll_loss(network(string, string).flatten(0, 1), target.flatten())


@torch.no_grad()
def accuracies(network: EchoNetwork, lengths: Sequence[int], rows: int = 300) -> dict[str, list[float]]:
    """Compute the share of correct known and rare letters of each length, without the target as input."""
    shares: dict[str, list[float]] = {"known": [], "rare": []}
    for string in (draw(rows, length) for length in lengths):
        correct = network(string).argmax(dim=2) == string
        for name, chosen in (("known", string < VOCAB), ("rare", string >= VOCAB)):
            shares[name].append(round(float(correct[chosen].float().mean()), 3))
    return shares


def draw_figure(result: dict[str, dict[str, list[float]]]) -> Figure:
    """Draw the accuracies of the three ways by length."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    for axes, kind in zip(figure.subplots(1, 2, sharey=True), ("known", "rare"), strict=True):
        for way, marker in zip(WAYS, "osD", strict=True):
            axes.plot(TESTED, result[way][kind], marker=marker, label=way)
        axes.axvline(TRAINED, color="0.5", linestyle=":", label="longest in training")
        axes.set(title=f"{kind} letters", xlabel="length of the string", ylabel="share of correct letters")
    axes.legend()
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and test the three networks, and draw the figure."""
    options = start(make_parser(__doc__, figure="echo.png", updates=600), arguments)
    result = {}
    for way in WAYS:
        torch.manual_seed(options.seed)
        train(network := EchoNetwork(way), partial(loss, network), updates=options.updates, learning_rate=6e-3)
        result[way] = accuracies(network, TESTED)
    save(draw_figure(result), options.figure, {"updates": options.updates, "lengths": TESTED, **result})


if __name__ == "__main__":
    main()
