"""Start runs in several processes, which ``several_worker`` runs.

The processes are forked from a server that has imported torch and the package: starting two of them takes 0.1 s instead of
10 s of processor time.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import socket
import sys
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from small_runs import TOY

FILES = {f"data.{split}.{side}": f"{split}.{side}" for split in ("train", "valid") for side in ("src", "tgt")}


class Ended(NamedTuple):
    """A process that has ended."""

    code: int
    err: str


def settings(folder: Path, run: str, changes: dict[str, Any]) -> list[str]:
    """Return the arguments of train for the toy task."""
    values = {"name": "toy", "run_dir": folder / run, "data.root": folder, **FILES, **TOY, **changes}
    return ["train", *(f"{key}={value}" for key, value in values.items())]


def _run_worker(*arguments: Any) -> None:
    """Run the worker; its module is imported in the new process only, since it replaces parts of the package."""
    importlib.import_module("several_worker").run(*arguments)


def start(
    folder: Path, run: str, changes: dict[str, Any], *, size: int, faults: dict[int, dict[str, Any]] | None = None
) -> list[ForkServerProcess]:
    """Start the processes of a run, as torchrun does.

    Args:
        faults: of each rank, see ``several_worker.run``.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["several_worker"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank in range(size):
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        environment = {key: str(value) for key, value in place.items()} | {"GLOO_SOCKET_IFNAME": "lo"}
        arguments = folder, rank, environment, settings(folder, run, changes), (faults or {}).get(rank, {})
        process = context.Process(target=_run_worker, args=arguments)
        with pytest.MonkeyPatch.context() as patch:  # the server is started with the first process
            patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
            process.start()
        started.append(process)
    return started


def wait(folder: Path, processes: list[ForkServerProcess]) -> list[Ended]:
    """Wait for the processes; they print nothing to standard output."""
    try:
        for process in processes:
            process.join(timeout=100)
    finally:
        for process in processes:
            process.kill()
    ended = []
    for rank, process in enumerate(processes):
        process.join()
        assert (folder / f"out-{rank}").read_text() == ""
        assert process.exitcode is not None
        ended.append(Ended(process.exitcode, (folder / f"err-{rank}").read_text()))
    return ended


def train_together(folder: Path, run: str, changes: dict[str, Any], *, size: int = 2, **options: Any) -> list[Ended]:
    """Train to the end in several processes, without an error."""
    ended = wait(folder, start(folder, run, changes, size=size, **options))
    assert [each.code for each in ended] == [0] * size, "\n".join(each.err for each in ended)
    return ended


def recorded(folder: Path) -> list[tuple[int, int, list[int]]]:
    """Return update, epoch and row numbers of everything that the processes computed."""
    paths = sorted(folder.glob("pairs-*.jsonl"))
    return [tuple(json.loads(line)) for path in paths for line in path.read_text().splitlines()]
