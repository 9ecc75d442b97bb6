"""The run directory: created by the first command, continued only with the same configuration."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import yaml

from seq2seq.config import Config
from seq2seq.files import write_atomically
from seq2seq.training.state import has_state

RUN_CONFIG = "config.yaml"
MAY_CHANGE = (  # keys and prefixes of keys that may differ when a run continues
    "run_dir",
    "data.root",
    "data.test",
    "train.max_updates",
    "train.max_epochs",
    "train.patience",
    "train.log_every",
    "train.profile",
    "train.resume",
    "train.device",
    "train.threads",
)


def find_run(config: Config) -> Path:
    """Return the run directory if it is free or its run can be continued.

    Writes nothing, so a command that fails early leaves no run directory. A run that stopped before it saved its state
    can be started again with other settings.

    Raises:
        ValueError: a name is empty, or the directory holds a run and train.resume=never, or a run of another
            configuration.
    """
    for key in ("name", "run_dir"):
        if not getattr(config, key).strip():
            raise ValueError(f"{key} must not be empty: it names the run directory")
    run = Path(config.run_dir).expanduser()
    path = run / RUN_CONFIG
    if path.exists():
        if config.train.resume == "never":
            raise ValueError(
                f"{run} holds a run already; set name to start a new run, or train.resume=auto to continue this one"
            )
        if has_state(run / "last"):
            _compare(run, yaml.safe_load(path.read_text(encoding="utf-8")), dataclasses.asdict(config))
    return run


def claim_run(run: Path, config: Config) -> None:
    """Create the run directory and write the configuration into it.

    Raises:
        ValueError: the directory cannot be written.
    """
    try:
        run.mkdir(parents=True, exist_ok=True)
        write_atomically(
            run / RUN_CONFIG, yaml.safe_dump(dataclasses.asdict(config), sort_keys=False, allow_unicode=True).encode()
        )
    except OSError as error:
        raise ValueError(f"run_dir {run} can't be written: {error.strerror}; set run_dir to another folder") from error


def _compare(run: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    # A run of an older version lacks newer settings; they had the effect of their defaults.
    old, new = _flat(dataclasses.asdict(Config())) | _flat(before), _flat(now)
    differing = [
        f"{key} (was {old.get(key)}, is {new.get(key)})"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and not key.startswith(MAY_CHANGE)
    ]
    if differing:
        raise ValueError(
            f"{run} holds a run of another configuration: {', '.join(differing)}; "
            "set them back to continue that run, or set name to start a new one"
        )


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
