"""How this process was started: alone, or with others by torchrun, which describes them in environment variables."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


class Launch(NamedTuple):
    """The place of this process among those that were started together."""

    rank: int = 0  # number of this process, from 0
    size: int = 1  # number of processes
    local_rank: int = 0  # number of this process among those of its host, from 0


def read_launch(environment: Mapping[str, str] = os.environ) -> Launch:
    """Read the environment variables of torchrun; without RANK and WORLD_SIZE, the process is alone.

    Raises:
        ValueError: a variable is missing or is not a number in its range.
    """
    if not {"RANK", "WORLD_SIZE"} <= environment.keys() or environment["WORLD_SIZE"] == "1":
        return Launch()
    missing = [name for name in _VARIABLES if not environment.get(name)]
    if missing:
        raise ValueError(
            f"WORLD_SIZE={environment['WORLD_SIZE']} starts several processes, which requires {', '.join(missing)} too; "
            "start them with torchrun, or unset WORLD_SIZE to train with one"
        )
    try:
        launch = Launch(*(int(environment[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")))
    except ValueError:
        launch = Launch(size=0)
    if not 0 <= launch.local_rank <= launch.rank < launch.size:
        values = ", ".join(f"{name}={environment[name]}" for name in _VARIABLES[:3])
        raise ValueError(f"0 <= LOCAL_RANK <= RANK < WORLD_SIZE must hold, but the environment has {values}")
    return launch
