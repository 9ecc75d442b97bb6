"""Reads what a run directory records: the settings, the report on the data, the log, and the scores of the test files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seq2seq.config import Config, from_container
from seq2seq.data.report import Report
from seq2seq.files import expand_home, read_file
from seq2seq.training.run_dir import DATA_REPORT, METRICS_FILE, read_run_settings

_ADVICE = "give a run directory, as seq2seq train makes it"


@dataclass(frozen=True)
class RunRecord:
    """The records of a run."""

    path: Path
    config: Config
    updates: list[dict[str, Any]]  # records of metrics.jsonl with means over updates: loss, learning_rate, ...
    validations: list[dict[str, Any]]  # records with valid_loss, valid_bleu, ...
    test: dict[str, Any] | None  # the record with test_BLEU, ...; None if the run has not translated data.test
    data: Report | None  # None for a run of a version that did not save it

    @property
    def name(self) -> str:
        """Name of the run: that of its folder."""
        return self.path.resolve().name

    @property
    def best(self) -> dict[str, Any] | None:
        """The validation of the saved model; None if there is none."""
        return next((record for record in reversed(self.validations) if record.get("best")), None)


def read_run(path: str | Path) -> RunRecord:
    """Read the records of a run directory.

    Raises:
        ValueError: it is not a run directory, or a file in it is damaged.
    """
    run = expand_home(path)
    if not run.is_dir():
        raise ValueError(f"there is no run directory {run}")
    settings = read_run_settings(run, advice=_ADVICE)
    try:
        config: Config = from_container(Config, settings)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{run / 'config.yaml'}: {error}") from error
    records = _read_log(run / METRICS_FILE)
    return RunRecord(
        path=run,
        config=config,
        updates=[record for record in records if "loss" in record],
        validations=[record for record in records if "valid_loss" in record],
        test=next((record for record in reversed(records) if any(key.startswith("test_") for key in record)), None),
        data=_read_data_report(run / DATA_REPORT),
    )


def _read_log(path: Path) -> list[dict[str, Any]]:
    """Read metrics.jsonl; the records that the report uses must have their numbers.

    Raises:
        ValueError: it is missing or damaged.
    """
    records = []
    for number, line in enumerate(_read(path).split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict) or not all(_is_number(record[key]) for key in _NUMBERS if key in record):
            raise ValueError(f"{path} is damaged: line {number} is no record of a run; {_ADVICE}")
        if not isinstance(record.get("update", 0), int):
            raise ValueError(f"{path} is damaged: line {number} is no record of a run; {_ADVICE}")
        records.append(record)
    return records


_NUMBERS = ("update", "loss", "learning_rate", "tokens_per_second", "valid_loss", "valid_bleu", "valid_chrf")


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _read_data_report(path: Path) -> Report | None:
    try:
        return Report.from_dict(json.loads(read_file(path)))
    except FileNotFoundError:
        return None
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError, OSError) as error:
        raise ValueError(
            f"{path} is damaged: it is no report on training data; remove it to go on without it"
        ) from error


def _read(path: Path) -> bytes:
    try:
        return read_file(path)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}; {_ADVICE}") from error
