"""The run directory: its lock, its configuration, and the settings that may change when the run continues."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from seq2seq.config import Config
from seq2seq.data.report import Report
from seq2seq.files import expand_home, make_folder, read_file, special_kind, write_atomically
from seq2seq.training.metrics_log import MetricsLog
from seq2seq.training.state import has_state, new_run_advice

RUN_CONFIG = "config.yaml"
METRICS_FILE = "metrics.jsonl"
DATA_REPORT = "data.json"
TEST_TRANSLATIONS = "test.hyp"
REPORTED_CHANGES = (  # settings of the updates and of the log that may change when a run continues; each change is logged
    "train.learning_rate",
    "train.log_every",
    "train.plateau_factor",
    "train.profile",
    "train.schedule",
    "train.warmup",
)
MAY_CHANGE = (  # all keys and prefixes of keys that may differ when a run continues
    *REPORTED_CHANGES,
    "run_dir",
    "data.test",
    "train.device",
    "train.max_epochs",
    "train.max_updates",
    "train.patience",
    "train.resume",
    "train.threads",
    "train.track",
)
# The saved state holds fingerprints of the training and validation texts, so their names and places may change.
COMPARED_BY_CONTENT = ("data.root", "data.train", "data.valid.", "data.src_field", "data.tgt_field")


class Change(NamedTuple):
    """A setting that differs from the one that the run had before."""

    key: str
    before: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.key} (was {self.before}, is {self.now})"


def find_run(config: Config) -> Path:
    """Return the run directory if it is free or its run can be continued.

    Writes nothing, so a command that fails early leaves no run directory. A run that stopped before it saved its state
    can be started again with other settings.

    Raises:
        ValueError: a name is empty, the directory can't be written, or it holds a run and train.resume=never, or a run of
            another configuration, or its configuration is damaged.
    """
    for key in ("name", "run_dir"):
        if not getattr(config, key).strip():
            raise ValueError(f"{key} must not be empty: it names the run directory")
    run = expand_home(config.run_dir)
    if config.train.resume == "never" and ((run / RUN_CONFIG).exists() or has_state(run / "last")):
        raise ValueError(
            f"{run} holds a run already; set name to start a new run, or train.resume=auto to continue this one"
        )
    find_changes(run, config)
    _check_places(run)
    return run


def _check_places(run: Path) -> None:
    """Check that the folders and files of a run can be written, because a run writes most of them late.

    Raises:
        ValueError: a folder is none or can't be written, or a file to replace is not a regular file.
    """
    for folder in (run, run / "last", run / "model"):
        place = next(place for place in (folder, *folder.absolute().parents) if os.path.lexists(place))
        if not place.is_dir():
            found = special_kind(place) or "a file"
            raise ValueError(f"{place} can't be written: it is {found}, not a folder; set run_dir to another folder")
        if not os.access(place, os.W_OK | os.X_OK):
            raise ValueError(f"{place} can't be written by this user; set run_dir to another folder")
    for name in (METRICS_FILE, DATA_REPORT, TEST_TRANSLATIONS):
        if kind := special_kind(run / name):
            raise ValueError(f"{run / name} must be a regular file, but is {kind}")


def find_changes(run: Path, config: Config) -> list[Change]:
    """List the changed settings of a run with a saved state that are among ``REPORTED_CHANGES``.

    Raises:
        ValueError: other settings have changed than those that may, or the saved configuration is damaged.
    """
    if not has_state(run / "last"):
        return []
    # A run of an older version lacks newer settings; they had the effect of their defaults.
    saved = read_run_settings(run, advice=f"restore it, or {new_run_advice(run)}")
    old, new = _flat(dataclasses.asdict(Config())) | _flat(saved), _flat(dataclasses.asdict(config))
    changes = [
        Change(key, old.get(key), new.get(key))
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]
    refused = [change for change in changes if not change.key.startswith((*MAY_CHANGE, *COMPARED_BY_CONTENT))]
    if refused:
        raise ValueError(
            f"{run} holds a run of another configuration: {', '.join(map(str, refused))}; "
            f"set them back to continue that run, or {new_run_advice(run)}; "
            f"only {', '.join(MAY_CHANGE)} may change, and files of the same content may be named differently"
        )
    reported = set(REPORTED_CHANGES)
    if config.train.schedule == "cosine":
        reported.add("train.max_updates")  # where the learning rate ends
    return [change for change in changes if change.key in reported]


def open_log(run: Path) -> MetricsLog:
    """Create the run directory if it is new, and lock it for this process by its log.

    Raises:
        ValueError: another process trains in it, or it cannot be written.
    """
    try:
        make_folder(run)
        return MetricsLog(run / METRICS_FILE)
    except OSError as error:
        raise _unwritable(error) from error


def write_config(run: Path, config: Config) -> None:
    """Write the configuration into the run directory, which must be locked.

    Raises:
        ValueError: it cannot be written.
    """
    text = yaml.safe_dump(_plain(dataclasses.asdict(config)), sort_keys=False, allow_unicode=True)
    try:
        write_atomically(run / RUN_CONFIG, text.encode())
    except OSError as error:
        raise _unwritable(error) from error


def _plain(value: Any) -> Any:
    """Replace data sets in nested settings by their descriptions."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return f"datasets.Dataset of {len(value)} rows" if hasattr(value, "select_columns") else value


def _unwritable(error: OSError) -> ValueError:
    return ValueError(f"{error.filename} can't be written: {error.strerror}; set run_dir to another folder")


def write_data_report(run: Path, report: Report) -> None:
    """Write the report on the training data into the run directory, which must be locked.

    Raises:
        ValueError: it cannot be written.
    """
    try:
        write_atomically(run / DATA_REPORT, (json.dumps(report.as_dict(), indent=2) + "\n").encode())
    except OSError as error:
        raise _unwritable(error) from error


def read_run_settings(run: Path, *, advice: str) -> dict[str, Any]:
    """Read the saved configuration.

    Args:
        advice: what to do if it is missing or damaged.

    Raises:
        ValueError: it is missing or damaged.
    """
    path = run / RUN_CONFIG
    try:
        values = yaml.safe_load(read_file(path).decode())
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
    except UnicodeDecodeError:
        reason = "is damaged: it is not UTF-8"
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        if str(error).startswith(str(path)):  # not a regular file
            raise
        reason = "is damaged: it is not YAML"
    else:
        if isinstance(values, dict):
            return values
        reason = (
            f"is damaged: it must hold the settings of the run, but holds {'nothing' if values is None else values}"
        )
    raise ValueError(f"{path} {reason}; {advice}")


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
