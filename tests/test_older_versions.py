"""Models and runs of an older version: the present code translates and continues with the same results.

tests/fixtures/README.md describes the files and how they were made.
"""

from __future__ import annotations

import json
import platform
import shutil
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
import yaml
from safetensors.torch import load_file

from seq2seq.config import Config, from_container
from seq2seq.model_dir import current_names
from seq2seq.training.train import train
from seq2seq.translator import Translator

FIXTURES = Path(__file__).parent / "fixtures"
LOSSES = ("loss", "coverage_loss", "valid_loss")
END = 20  # the last update of the recorded continuation


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="\n") as stream:
        return [json.loads(line) for line in stream]


def losses_of(records: list[dict[str, Any]]) -> dict[tuple[int, str], float]:
    """The losses by update and kind."""
    return {(record["update"], key): record[key] for record in records for key in LOSSES if key in record}


def continued_config(folder: Path) -> Config:
    """The configuration that was saved with the run; only settings that may change are changed."""
    values = yaml.safe_load((FIXTURES / "run" / "config.yaml").read_text(encoding="utf-8"))
    values["run_dir"] = str(folder / "run")
    values["data"]["root"] = str(FIXTURES / "corpus")
    values["train"]["max_updates"] = END
    config: Config = from_container(Config, values)
    return config


def test_an_older_model_translates_as_before() -> None:
    translator = Translator.load(FIXTURES / "model", device="cpu")
    lines = (FIXTURES / "lines.src").read_text(encoding="utf-8").splitlines()
    expected = read_jsonl(FIXTURES / "translations.jsonl")
    found = [best[0] for best in translator.search(lines)]
    assert [item.translation for item in found] == [record["translation"] for record in expected]
    for key in ("score", "log_prob"):
        values = [getattr(item, key) for item in found]
        assert values == pytest.approx([record[key] for record in expected], rel=1e-5), key


@pytest.mark.skipif(
    platform.machine().lower() not in ("x86_64", "amd64"), reason="the recorded losses are those of x86_64"
)
def test_an_older_run_continues_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    shutil.copytree(FIXTURES / "run", tmp_path / "run")
    before = read_jsonl(FIXTURES / "run" / "metrics.jsonl")
    threads = torch.get_num_threads()
    try:
        train(continued_config(tmp_path))
    finally:
        torch.set_num_threads(threads)  # the run sets train.threads
    expected = losses_of(before) | losses_of(read_jsonl(FIXTURES / "continued.jsonl"))
    assert max(update for update, _ in expected) == END
    assert losses_of(read_jsonl(tmp_path / "run" / "metrics.jsonl")) == pytest.approx(expected, rel=1e-6)
    weights = load_file(tmp_path / "run" / "model" / "model.safetensors")
    recorded = current_names(load_file(FIXTURES / "continued.safetensors"))
    assert weights.keys() == recorded.keys()
    for name, weight in recorded.items():
        torch.testing.assert_close(weights[name], weight, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: name + text)
