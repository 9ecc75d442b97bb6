"""The length limit of a run: learned and saved with the model; older runs keep the limit that they were started with."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from small_runs import config_of, metrics_of

from seq2seq.config import Config, ModelConfig, SearchConfig
from seq2seq.metrics.scores import Score
from seq2seq.model_dir import load_settings
from seq2seq.training.older_runs import with_saved_defaults
from seq2seq.training.reporting import Reporter
from seq2seq.training.run_dir import find_run
from seq2seq.training.train import train
from seq2seq.training.validation import ValidationResult
from seq2seq.translator import Translator

LEARNED: dict[str, Any] = {"search.max_length_ratio": None, "search.max_length_extra": None}


def start_older_run(folder: Path, *, bridge: str | None = None, **search: Any) -> Config:
    """Create a run directory whose configuration holds the given settings; return the same with defaults."""
    (folder / "run" / "last").mkdir(parents=True)
    (folder / "run" / "last" / "state.pt").touch()
    config = Config(name="toy", run_dir=str(folder / "run"))
    values = dataclasses.asdict(config)
    values["search"] |= search
    values["model"]["bridge"] = bridge
    (folder / "run" / "config.yaml").write_text(yaml.safe_dump(values))
    return config


@pytest.mark.parametrize(
    ("saved", "now", "kept"),
    [
        ((2.0, 10), (None, None), (2.0, 10)),
        ((2.0, 10), (2.0, 10), (2.0, 10)),
        ((3.0, 10), (3.0, None), (3.0, 10)),
        ((2.0, 4), (None, 4), (2.0, 4)),
        ((None, None), (None, None), (None, None)),
    ],
)
def test_an_older_run_keeps_its_limit_and_continues(tmp_path: Path, saved: Any, now: Any, kept: Any) -> None:
    config = start_older_run(tmp_path, max_length_ratio=saved[0], max_length_extra=saved[1])
    search = SearchConfig(max_length_ratio=now[0], max_length_extra=now[1])
    continued = with_saved_defaults(dataclasses.replace(config, search=search))
    assert (continued.search.max_length_ratio, continued.search.max_length_extra) == kept
    assert find_run(continued) == tmp_path / "run"


def test_another_limit_is_still_another_configuration(tmp_path: Path) -> None:
    config = with_saved_defaults(start_older_run(tmp_path, max_length_ratio=3.0, max_length_extra=10))
    with pytest.raises(ValueError, match=r"search\.max_length_ratio \(was 3\.0, is None\)"):
        find_run(config)


@pytest.mark.parametrize(
    ("saved", "now", "kept"), [("linear", None, "linear"), ("linear", "linear", "linear"), (None, None, None)]
)
def test_an_older_run_keeps_the_bridge_that_was_the_default(
    tmp_path: Path, saved: str | None, now: str | None, kept: str | None
) -> None:
    config = start_older_run(tmp_path, bridge=saved)
    continued = with_saved_defaults(dataclasses.replace(config, model=ModelConfig(bridge=now)))
    assert continued.model.bridge == kept
    assert find_run(continued) == tmp_path / "run"


def test_another_bridge_is_still_another_configuration(tmp_path: Path) -> None:
    config = with_saved_defaults(start_older_run(tmp_path, bridge="last"))
    with pytest.raises(ValueError, match=r"model\.bridge \(was last, is None\)"):
        find_run(config)


def test_a_transformer_is_another_configuration_than_an_older_run(tmp_path: Path) -> None:
    config = start_older_run(tmp_path, bridge="linear")
    config = with_saved_defaults(dataclasses.replace(config, model=ModelConfig(encoder="transformer")))
    assert config.model.bridge is None
    with pytest.raises(ValueError, match=r"model\.encoder \(was rnn, is transformer\)"):
        find_run(config)


def test_damaged_settings_are_left_to_the_check_of_the_run(tmp_path: Path) -> None:
    config = start_older_run(tmp_path)
    for content in ("[", "", "search: 3", "name: toy"):
        (tmp_path / "run" / "config.yaml").write_text(content)
        assert with_saved_defaults(config) == config
    assert with_saved_defaults(Config(run_dir=str(tmp_path / "new"))) == Config(run_dir=str(tmp_path / "new"))


def test_a_run_validates_with_the_learned_limit_and_saves_it(folder: Path) -> None:
    config = config_of(folder, **LEARNED)
    train(config)
    found = [load_settings(Path(config.run_dir) / part)[0] for part in ("last", "model")]
    limit = found[0].length_limit
    assert limit is not None
    assert found[0] == found[1]
    assert limit.uncovered(*(_lengths(folder, side) for side in ("src", "tgt"))) <= 0.001
    assert Translator.load(config.run_dir, device="cpu").max_length(3) == limit.max_length(3)
    valid = [line for line in metrics_of(config) if "valid_cut" in line]
    assert valid
    train(dataclasses.replace(config, train=dataclasses.replace(config.train, max_updates=6)))
    assert json.loads((Path(config.run_dir) / "last" / "config.json").read_text())["search"]["max_length_ratio"] is None


def _lengths(folder: Path, side: str) -> Any:
    import numpy as np

    lines = (folder / f"train.{side}").read_text().splitlines()
    return np.array([len(line.split()) for line in lines if line])


@pytest.mark.parametrize("cut", [0, 4])
def test_a_validation_reports_how_many_translations_were_cut(cut: int) -> None:
    printed: list[str] = []
    records: list[dict[str, Any]] = []
    display: Any = SimpleNamespace(print=printed.append)
    log: Any = SimpleNamespace(write=records.append)
    score = Score("BLEU", 1.0, "signature", {})
    Reporter(Config(), display=display, log=log).validation(
        3, ValidationResult(score, score, 2.0, cut=cut), is_best=True
    )
    assert records[0]["valid_cut"] == cut
    assert printed[1:] == ["  4 of the validation translations were cut at the maximum length"] * (cut > 0)


def test_a_run_directory_of_an_unknown_user_is_one_sentence() -> None:
    with pytest.raises(
        ValueError, match=r"^~nobodyhere/run must start with the home folder of a user, but ~nobodyhere has"
    ):
        with_saved_defaults(Config(run_dir="~nobodyhere/run"))
