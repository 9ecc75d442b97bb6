"""The run directory is continued only with the same configuration, except for the keys that may change."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from seq2seq.config import Config, TrainConfig, from_container
from seq2seq.training.run_dir import MAY_CHANGE, Change, find_changes, find_run, open_log, write_config
from seq2seq.training.state import STATE


def config_of(folder: Path, **sections: Any) -> Config:
    config: Config = from_container(Config, {"name": "toy", "run_dir": str(folder / "run"), **sections})
    return config


def claim(config: Config) -> None:
    """Create a run directory as the trainer does."""
    open_log(Path(config.run_dir)).close()
    write_config(Path(config.run_dir), config)


def start_run(config: Config) -> None:
    """Create a run directory with a saved state."""
    claim(config)
    (Path(config.run_dir) / "last").mkdir(exist_ok=True)
    (Path(config.run_dir) / "last" / STATE).touch()


def test_finding_writes_nothing_and_claiming_writes_the_configuration(tmp_path: Path) -> None:
    config = config_of(tmp_path, data={"root": "é"})
    assert find_run(config) == tmp_path / "run"
    assert not (tmp_path / "run").exists()
    claim(config)
    saved = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text(encoding="utf-8"))
    assert from_container(Config, saved) == config
    assert find_run(config) == tmp_path / "run"


def test_other_settings_are_named_with_both_values(tmp_path: Path) -> None:
    start_run(config_of(tmp_path))
    other = config_of(tmp_path, model={"cell": "gru", "hidden_size": 8}, train={"max_updates": 3})
    with pytest.raises(ValueError, match="another configuration") as caught:
        find_run(other)
    assert str(caught.value) == (
        f"{tmp_path / 'run'} holds a run of another configuration: "
        "model.cell (was lstm, is gru), model.hidden_size (was 256, is 8); "
        "set them back to continue that run, or set name to start a new run; "
        "only train.learning_rate, train.log_every, train.plateau_factor, train.profile, train.schedule, train.warmup, "
        "run_dir, data.test, train.device, train.max_epochs, train.max_updates, train.patience, train.resume, "
        "train.threads, train.track may change, and files of the same content may be named differently"
    )


def test_a_run_that_saved_nothing_can_be_started_with_other_settings(tmp_path: Path) -> None:
    claim(config_of(tmp_path))
    assert find_run(config_of(tmp_path, train={"batch_tokens": 5})) == tmp_path / "run"


OTHER = {
    "train": {
        "max_updates": 7,
        "max_epochs": 7,
        "patience": 7,
        "log_every": 7,
        "device": "cpu",
        "threads": 7,
        "learning_rate": 7.0,
        "warmup": 7,
        "schedule": "plateau",
        "plateau_factor": 0.7,
        "profile": True,
    },
    "data": {
        "root": "elsewhere",
        "train": {"file": "./a"},
        "valid": {"src": "x"},
        "src_field": "en",
        "tgt_field": "de",
        "test": {"src": "x", "tgt": "y", "file": "z"},
    },
}


def test_keys_that_may_change_do(tmp_path: Path) -> None:
    start_run(config_of(tmp_path, train={"resume": "never"}))
    other = config_of(tmp_path, **OTHER)
    find_run(other)
    start_run(other)
    saved = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert saved["train"]["max_updates"] == 7, "the run directory holds the newest configuration"


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("data", "max_source_length", 9),
        ("data", "valid_lines", 5),
        ("tokenizer", "type", "bpe"),
        ("model", "attention_size", 3),
        ("loss", "label_smoothing", 0.0),
        ("search", "beam_size", 2),
        ("train", "seed", 2),
        ("train", "batch_tokens", 7),
        ("train", "valid_every", 7),
        ("train", "metric", "loss"),
    ],
)
def test_settings_that_the_result_depends_on_may_not_change(tmp_path: Path, section: str, key: str, value: Any) -> None:
    start_run(config_of(tmp_path))
    with pytest.raises(ValueError, match=rf"{section}\.{key} \(was .*, is "):
        find_run(config_of(tmp_path, **{section: {key: value}}))


def test_changes_of_the_updates_and_the_log_are_listed(tmp_path: Path) -> None:
    start_run(config_of(tmp_path))
    assert find_changes(tmp_path / "run", config_of(tmp_path)) == []
    assert find_changes(tmp_path / "run", config_of(tmp_path, **OTHER)) == [
        Change("train.learning_rate", 0.002, 7.0),
        Change("train.log_every", 50, 7),
        Change("train.plateau_factor", None, 0.7),
        Change("train.profile", False, True),
        Change("train.schedule", "constant", "plateau"),
        Change("train.warmup", 0, 7),
    ]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is damaged: it must hold the settings of the run, but holds nothing"),
        (b"- 1\n", "is damaged: it must hold the settings of the run, but holds [1]"),
        (b"5", "is damaged: it must hold the settings of the run, but holds 5"),
        (b"{", "is damaged: it is not YAML"),
        (b"a: b: c", "is damaged: it is not YAML"),
        (b"!!python/object:os.system {}", "is damaged: it is not YAML"),
        (b"\0", "is damaged: it is not YAML"),
        (b"\xff", "is damaged: it is not UTF-8"),
        (b"[" * 100_000, "is damaged: it is not YAML"),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_a_damaged_configuration_is_named(tmp_path: Path, content: bytes | None, reason: str) -> None:
    config = config_of(tmp_path)
    start_run(config)
    path = tmp_path / "run" / "config.yaml"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    message = f"{path} {reason}; restore it, or set name to start a new run"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        find_run(config)


@pytest.mark.parametrize("line", ["5: x", "train: 5", "data: [1]", "x: {y: {z: 1}}", "? [1]\n: 2"])
def test_wrong_settings_of_a_run_are_one_sentence(tmp_path: Path, line: str) -> None:
    config = config_of(tmp_path)
    start_run(config)
    with (tmp_path / "run" / "config.yaml").open("a") as stream:
        stream.write(line + "\n")
    with pytest.raises(ValueError, match=re.escape(str(tmp_path / "run"))) as caught:
        find_run(config)
    assert len(str(caught.value).splitlines()) == 1


def test_a_configuration_that_is_no_file_is_refused(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    start_run(config)
    path = tmp_path / "run" / "config.yaml"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))} must be a regular file, but is a named pipe$"):
        find_run(config)


def test_keys_that_may_change_exist() -> None:
    names = {f"{section.name}.{item}" for section in dataclasses.fields(Config) for item in _names(section.name)}
    assert {key for key in MAY_CHANGE if "." in key} <= names


def _names(section: str) -> list[str]:
    part = getattr(Config(), section)
    return [item.name for item in dataclasses.fields(part)] if dataclasses.is_dataclass(part) else []


def test_a_key_of_another_version_is_named(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    start_run(config)
    path = tmp_path / "run" / "config.yaml"
    settings = yaml.safe_load(path.read_text())
    settings["train"]["sead"] = settings["train"].pop("seed")
    path.write_text(yaml.safe_dump(settings))
    with pytest.raises(ValueError, match=r"configuration: train\.sead \(was 1, is None\); set"):
        find_run(config)


def test_a_setting_newer_than_the_run_counts_as_its_default(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    start_run(config)
    path = tmp_path / "run" / "config.yaml"
    saved = yaml.safe_load(path.read_text())
    del saved["model"]["memory_dropout"]
    path.write_text(yaml.safe_dump(saved))
    assert find_run(config) == tmp_path / "run"
    with pytest.raises(ValueError, match=r"model\.memory_dropout \(was 0\.0, is 0\.5\)"):
        find_run(config_of(tmp_path, model={"memory_dropout": 0.5}))


def test_resume_never_refuses_a_run_and_accepts_an_empty_directory(tmp_path: Path) -> None:
    config = config_of(tmp_path, train={"resume": "never"})
    (tmp_path / "run").mkdir()
    find_run(config)
    start_run(config)
    message = f"{tmp_path / 'run'} holds a run already; set name to start a new run, or train.resume=auto to continue this one"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        find_run(config)


def test_a_run_directory_that_cannot_be_created(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    message = f"{tmp_path / 'run'} can't be written: File exists; set run_dir to another folder"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        start_run(config_of(tmp_path))


@pytest.mark.parametrize("place", ["run", "run/last", "run/model"])
def test_a_folder_that_is_none_is_found_before_the_data_are_read(tmp_path: Path, place: str) -> None:
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    for make, kind in ((Path.touch, "a file"), (os.mkfifo, "a named pipe")):
        make(path)
        message = f"{path} can't be written: it is {kind}, not a folder; set run_dir to another folder"
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            find_run(config_of(tmp_path))
        path.unlink()
    find_run(config_of(tmp_path))


def test_a_run_directory_inside_a_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    message = f"{file} can't be written: it is a file, not a folder; set run_dir to another folder"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        find_run(dataclasses.replace(config_of(tmp_path), run_dir=str(file / "one" / "two")))


@pytest.mark.parametrize("place", [".", "run", "run/last", "run/model"])
def test_a_folder_that_is_read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    protected = tmp_path / place
    protected.mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(os, "access", lambda path, mode: path != protected)  # root may write everywhere
    message = f"{protected} can't be written by this user; set run_dir to another folder"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        find_run(config_of(tmp_path))


@pytest.mark.parametrize("name", ["metrics.jsonl", "test.hyp"])
def test_a_file_of_the_run_that_is_a_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "run" / name).mkdir(parents=True)
    message = f"{tmp_path / 'run' / name} must be a regular file, but is a folder"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        find_run(config_of(tmp_path))


def test_a_blank_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="name must not be empty"):
        find_run(Config(name=" ", run_dir=str(tmp_path)))


def test_a_tilde_in_the_run_directory_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    config = config_of(tmp_path)
    config.run_dir = "~/run"
    assert find_run(config) == tmp_path / "run"
    start_run(config_of(tmp_path))
    config.model.cell = "gru"
    with pytest.raises(ValueError, match="holds a run of another configuration"):
        find_run(config)


def test_the_number_of_updates_is_a_reported_change_with_the_schedule_cosine(tmp_path: Path) -> None:
    """The learning rate of the remaining updates depends on it."""
    for schedule, reported in (("cosine", [Change("train.max_updates", 9, 12)]), ("constant", [])):
        run = tmp_path / schedule
        config = Config(run_dir=str(run), train=TrainConfig(schedule=schedule, max_updates=9))
        (run / "last").mkdir(parents=True)
        (run / "last" / "state.pt").touch()
        write_config(run, config)
        config.train.max_updates = 12
        assert find_changes(run, config) == reported
