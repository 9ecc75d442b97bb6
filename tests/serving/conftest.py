"""Fixtures of the tests of the server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from served import RunningServer, save_model


@pytest.fixture(scope="session")
def copying(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that copies, in a folder whose name is HTML."""
    return save_model(tmp_path_factory.mktemp("models") / "<img src=x onerror=document.title='bad'>", copy="pointer")


@pytest.fixture
def start_server() -> Iterator[Callable[..., RunningServer]]:
    """Start servers, which end with the test."""
    servers: list[RunningServer] = []

    def start(model: Path, *arguments: str) -> RunningServer:
        servers.append(RunningServer(model, *arguments))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()
