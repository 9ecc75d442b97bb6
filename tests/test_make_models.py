"""The script of the ready models: it trains and packs models that translate."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from seq2seq.translator import Translator

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts" / "make_models.py"


def make_models(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_model_is_trained_and_packed(tmp_path: Path) -> None:
    done = make_models(tmp_path, "--short", "numbers")
    assert done.returncode == 0, done.stderr
    assert "models/numbers-short is ready" in done.stdout
    packed, run = tmp_path / "models" / "numbers-short", tmp_path / "runs" / "models" / "numbers-short"
    assert {path.name for path in packed.iterdir()} == {"config.json", "model.safetensors", "tokenizer.model"}
    assert (run / "test.hyp").exists()
    lines = ["12", "345"]
    assert Translator.load(packed, device="cpu").translate(lines) == Translator.load(run, device="cpu").translate(lines)


def test_an_unknown_model_is_refused(tmp_path: Path) -> None:
    done = make_models(tmp_path, "nosuch")
    assert done.returncode == 2
    assert "a model must be one of phrasebook, bulletins, numbers, but is nosuch" in done.stderr
