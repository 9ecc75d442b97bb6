"""The train command, which separates flags from settings and runs the training with Hydra."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

import typer

from seq2seq.commands.errors import fail
from seq2seq.training.launch import read_launch


class Value(Enum):
    """Whether a flag has a value."""

    NONE = "none"
    REQUIRED = "required"
    OPTIONAL = "optional"


class Flag(NamedTuple):
    """A flag that Hydra documents."""

    name: str
    short: str = ""
    value: Value = Value.NONE
    choices: tuple[str, ...] = ()  # possible values; empty: any value

    def __str__(self) -> str:
        return f"{self.name} ({self.short})" if self.short else self.name


FLAGS = (
    Flag("--help", "-h"),
    Flag("--hydra-help"),
    Flag("--version"),
    Flag("--cfg", "-c", Value.REQUIRED, ("job", "hydra", "all")),
    Flag("--resolve"),
    Flag("--package", "-p", Value.REQUIRED),
    Flag("--run", "-r"),
    Flag("--multirun", "-m"),
    Flag("--shell-completion", "-sc"),
    Flag("--config-path", "-cp", Value.REQUIRED),
    Flag("--config-name", "-cn", Value.REQUIRED),
    Flag("--config-dir", "-cd", Value.REQUIRED),
    Flag("--experimental-rerun", "", Value.REQUIRED),
    Flag(
        "--info", "-i", Value.OPTIONAL, ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
    ),  # the first choice is the value if none is given
)


def split_arguments(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Split the arguments of train into flags and settings, which may be in any order.

    Returns:
        The values of the flags by their long names (an empty value for a flag without one), and the settings.

    Raises:
        ValueError: an unknown flag, or a flag without its value.
    """
    by_name = {name: flag for flag in FLAGS for name in (flag.name, flag.short) if name}
    flags: dict[str, str] = {}
    settings = []
    remaining = list(arguments)
    while remaining:
        argument = remaining.pop(0)
        if not argument.startswith("-"):
            settings.append(argument)
            continue
        name, equals, value = argument.partition("=")
        if name not in by_name:
            raise ValueError(
                f"train has no flag {name}; settings are given as KEY=VALUE (seq2seq train --help lists them), "
                f"and the flags are {', '.join(map(str, FLAGS))}"
            )
        flag = by_name[name]
        if not equals and flag.value is Value.REQUIRED and remaining:
            value = remaining.pop(0)
        elif not equals and flag.value is Value.OPTIONAL:
            value = remaining.pop(0) if remaining and remaining[0] in flag.choices else flag.choices[0]
        _check_value(flag, name, value)
        flags[flag.name] = value
    return flags, settings


def _check_value(flag: Flag, name: str, value: str) -> None:
    if flag.value is Value.NONE:
        if value:
            raise ValueError(f"{name} takes no value, but is given {value}")
    elif not value:
        raise ValueError(f"{name} requires a value{': one of ' * bool(flag.choices)}{', '.join(flag.choices)}")
    elif flag.choices and value not in flag.choices:
        raise ValueError(f"{name} must be one of {', '.join(flag.choices)}, but is {value}")


def train(context: typer.Context) -> None:
    """Run ``seq2seq train`` with the command line of Hydra."""
    quiet = read_launch().local_rank > 0
    try:
        flags, settings = split_arguments(context.args)
        from seq2seq.commands.jobs import run_jobs

        run_jobs(flags, settings)
    except ValueError as error:
        fail(str(error), quiet=quiet)
