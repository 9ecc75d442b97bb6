"""Fixtures of the training tests: a temporary cache and a corpus."""

from __future__ import annotations

from pathlib import Path

import datasets
import pytest
from small_runs import write_corpus


@pytest.fixture(autouse=True)
def _temporary_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a corpus of digits to be copied."""
    write_corpus(tmp_path, pairs=160)
    return tmp_path
