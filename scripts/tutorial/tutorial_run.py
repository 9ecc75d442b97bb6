"""The command line, the outputs and the training that the systems of this folder share."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from seq2seq.threads import set_threads


def make_parser(description: str, *, figure: str, updates: int, seeds: int | None = None) -> argparse.ArgumentParser:
    """Make a parser with the options of every system.

    Args:
        description: the docstring of the script; its first line is shown by ``--help``.
        figure: the default name of the figure.
        updates: the default number of updates of each training.
        seeds: the default number of trainings, for ``--seeds``; None: there is no such option.
    """
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--figure", type=Path, default=Path(figure), help=f"picture to write (default {figure})")
    parser.add_argument("--updates", type=int, default=updates, help=f"updates of a training (default {updates})")
    parser.add_argument("--seed", type=int, default=1, help="seed of data and weights (default 1)")
    if seeds is not None:
        parser.add_argument("--seeds", type=int, default=seeds, help=f"trainings, from --seed on (default {seeds})")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")
    return parser


def start(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line, check the numbers and set the threads and the seed."""
    options = parser.parse_args(arguments)
    for name in ("updates", "seeds", "threads"):
        if getattr(options, name, 1) < 1:
            parser.error(f"--{name} must be at least 1, but is {getattr(options, name)}")
    try:
        set_threads(options.threads, name="--threads")
    except ValueError as error:
        parser.error(str(error))
    torch.manual_seed(options.seed)
    return options


def train(network: nn.Module, loss: Callable[[], Tensor], *, updates: int, learning_rate: float) -> None:
    """Minimise the loss, which draws a new batch at each call, with Adam; the learning rate falls to 0 as a cosine."""
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
    network.train()
    for _ in range(updates):
        optimizer.zero_grad()
        loss().backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    network.eval()


def save(figure: Figure, path: Path, result: dict[str, object]) -> None:
    """Write the figure, and the result beside it as JSON; print the result."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    path.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))
    print(f"wrote {path} and {path.with_suffix('.json')}")
