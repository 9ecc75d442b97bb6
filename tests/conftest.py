"""Settings and fixtures of all tests: few threads, no network, the folder of real corpora."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Set before torch is imported: small tensors are not faster with many threads, and subprocesses inherit both settings.
os.environ.setdefault("OMP_NUM_THREADS", "1" if "PYTEST_XDIST_WORKER" in os.environ else "2")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real corpora: $SEQ2SEQ_DATA, or shared/data next to the checkout."""
    named = os.environ.get("SEQ2SEQ_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real corpora: {folder} is not a folder; SEQ2SEQ_DATA names it")
    return folder
