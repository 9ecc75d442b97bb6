"""Name the desk of a news report with a bidirectional LSTM and an attention pool, or the class of texts in other files.

    python scripts/tutorial/topics.py [--figure topics.png]
    python scripts/tutorial/topics.py --train train.tsv.gz --valid valid.tsv.gz --seeds 5 --updates 500 --rate 0.002

The bundled reports have ten desks. Other files have a text, a tab and its class on each line; five seeds reach 75.2 to 77.6 %
on the sentiment of Pang and Lee 2005 (Kim 2014, ten-fold: 76.1 %). Takes about twenty seconds on one core with the reports.
Writes the accuracy of each seed on the validation texts beside the figure, as JSON; the figure shows the weights of some words.
"""

from __future__ import annotations

import gzip
import json
import re
import statistics
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F
from tutorial_run import make_parser, save, start, train

from seq2seq.data.batching import pad
from seq2seq.layers import AttentionPool, RecurrentEncoder, SequenceDropout, WordDropout

BULLETINS = Path(__file__).resolve().parents[2] / "data" / "bulletins"
PAD, UNK, LONGEST = 0, 1, 100  # two ids; the most words of a text, the rest is cut
Example = tuple[list[str], str]  # words, class


def read(path: Path) -> list[Example]:
    """Read the texts of a file: JSONL with report and desk, or lines of text, tab and class."""
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as lines:
        if ".jsonl" in path.suffixes:
            pairs = [(record["report"], record["desk"]) for record in map(json.loads, lines)]
        else:
            pairs = [(text, name) for text, _, name in (line.rstrip("\n").rpartition("\t") for line in lines)]
    return [(re.findall(r"[\w']+|[^\w\s]", text.lower())[:LONGEST] or ["."], name) for text, name in pairs]


class TopicNetwork(nn.Module):
    """Embeddings, bidirectional LSTM, attention pool and a linear map to the classes."""

    def __init__(self, examples: list[Example], width: int = 128) -> None:
        super().__init__()
        counts = Counter(word for words, _ in examples for word in words)
        self.ids = {word: number + 2 for number, word in enumerate(sorted(w for w, n in counts.items() if n > 1))}
        self.names = sorted({name for _, name in examples})
        self.embedding = nn.Embedding(len(self.ids) + 2, width, padding_idx=PAD)
        nn.init.uniform_(self.embedding.weight[UNK:], -0.1, 0.1)  # with the default, N(0, 1), rare words are noise
        self.input_dropout = nn.Sequential(SequenceDropout(0.4, locked=True), WordDropout(0.1))
        self.encoder = RecurrentEncoder("lstm", input_size=width, hidden_size=width)
        self.pool = AttentionPool(width)
        self.dropout = nn.Dropout(0.5)
        self.output = nn.Linear(width, len(self.names))

    def encode(self, texts: Sequence[list[str]]) -> tuple[Tensor, Tensor]:
        """Return the values (B, S, M) of texts and the mask (B, S)."""
        ids, lengths = pad([[self.ids.get(word, UNK) for word in words] for words in texts], PAD)
        encoded = self.encoder(self.input_dropout(self.embedding(ids)), lengths)
        return encoded.values, encoded.mask

    def forward(self, texts: Sequence[list[str]]) -> Tensor:
        """Compute the logits of the classes: (B, C)."""
        return self.output(self.dropout(self.pool(*self.encode(texts))))


def loss(network: TopicNetwork, examples: list[Example]) -> Tensor:
    """Compute the cross-entropy of 50 random texts."""
    texts, names = zip(*(examples[n] for n in torch.randint(len(examples), (50,)).tolist()), strict=True)
    return F.cross_entropy(network(texts), torch.tensor([network.names.index(name) for name in names]))


@torch.no_grad()
def accuracy(network: TopicNetwork, examples: list[Example]) -> float:
    """Compute the share of texts whose class is found."""
    ordered, right = sorted(examples, key=lambda example: len(example[0])), 0
    for first in range(0, len(ordered), 100):
        texts, names = zip(*ordered[first : first + 100], strict=True)
        right += sum(network.names[n] == name for n, name in zip(network(texts).argmax(dim=1), names, strict=True))
    return right / len(ordered)


@torch.no_grad()
def draw_figure(network: TopicNetwork, examples: list[Example], most: int = 8) -> Figure:
    """Draw the weights of the words of some short texts, with the classes that the network finds."""
    figure = Figure(figsize=(11, 9), layout="constrained")
    for axes, (words, name) in zip(figure.subplots(most, 1), sorted(examples, key=lambda e: len(e[0])), strict=False):
        weights = network.pool.weights(*network.encode([words]))[0]
        axes.bar(range(len(words)), weights.numpy())
        axes.set_xticks(range(len(words)), words, rotation=40, ha="right", fontsize=7)
        axes.set_title(f"{name}, found: {network.names[int(network([words]).argmax())]}", fontsize=8)
        axes.set_ylabel("weight", fontsize=7)
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    """Train with several seeds, and draw the weights of the last one."""
    parser = make_parser(__doc__, figure="topics.png", updates=300, seeds=1)
    parser.add_argument("--rate", type=float, default=4e-3, help="learning rate (default 0.004)")
    for split in ("train", "valid"):
        parser.add_argument(f"--{split}", type=Path, default=BULLETINS / f"{split}.jsonl", help="default: the reports")
    options = start(parser, arguments)
    training, valid, shares = read(options.train), read(options.valid), []
    for seed in range(options.seed, options.seed + options.seeds):
        torch.manual_seed(seed)
        network = TopicNetwork(training)
        train(network, partial(loss, network, training), updates=options.updates, learning_rate=options.rate)
        shares.append(round(accuracy(network, valid), 4))
    result = {"updates": options.updates, "accuracy": shares, "mean": round(statistics.mean(shares), 4)}
    save(draw_figure(network, valid), options.figure, result | {"spread": round(max(shares) - min(shares), 4)})


if __name__ == "__main__":
    main()
