"""Settings of a run of an older version that are kept when the run continues."""

from __future__ import annotations

import dataclasses
from typing import Any

import yaml

from seq2seq.config import Config
from seq2seq.data.limits import STANDARD_LIMIT
from seq2seq.files import expand_home, read_file
from seq2seq.training.run_dir import RUN_CONFIG
from seq2seq.training.state import has_state


def with_saved_defaults(config: Config) -> Config:
    """Return a configuration with the older defaults that the run that it continues was saved with.

    Older versions saved ``search.max_length_ratio`` = 2.0, ``search.max_length_extra`` = 10 and ``model.bridge`` = linear
    with every run. They are None by default now, and such a run continues with the saved values. Another saved value is
    not taken, and ``find_run`` compares it.
    """
    run = expand_home(config.run_dir)
    if not has_state(run / "last"):
        return config
    try:
        saved: Any = yaml.safe_load(read_file(run / RUN_CONFIG).decode())
        search, model = dict(saved["search"]), dict(saved["model"])
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError):
        return config  # find_run reports a missing or damaged file
    kept = config.search
    if kept.max_length_ratio is None and search.get("max_length_ratio") == STANDARD_LIMIT.ratio:
        kept = dataclasses.replace(kept, max_length_ratio=STANDARD_LIMIT.ratio)
    if kept.max_length_extra is None and search.get("max_length_extra") == STANDARD_LIMIT.extra:
        kept = dataclasses.replace(kept, max_length_extra=STANDARD_LIMIT.extra)
    if config.model.bridge is None and config.model.encoder == "rnn" and model.get("bridge") == "linear":
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, bridge="linear"))
    return dataclasses.replace(config, search=kept)
