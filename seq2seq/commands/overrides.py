"""Check the settings of a command line and write them as Hydra reads them.

Hydra calls them overrides: ``KEY=VALUE`` changes a setting, ``GROUP=NAME`` chooses a file of ``conf/GROUP``, and
``~GROUP`` removes a group.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from seq2seq.config import Config, from_container, keys
from seq2seq.config_keys import unknown_key

GROUPS = ("data", "model", "experiment")
FILE_KEYS = tuple(f"data.{split}.{side}" for split in ("train", "valid", "test") for side in ("src", "tgt", "file"))
NO_TEST_FILES = ("data.test.src=null", "data.test.tgt=null", "data.test.file=null")


def for_hydra(settings: Sequence[str], *, own_config: bool = False, sweeps: bool = False) -> list[str]:
    """Check settings and write them as Hydra reads them.

    Args:
        own_config: whether --config-path or --config-name replaces ``conf/train.yaml``.
        sweeps: whether --multirun is given, so that a comma separates the values of a sweep.

    Raises:
        ValueError: a mistyped key (the message names the nearest one), an argument that is not KEY=VALUE, or a comma in a file name
            if there is no such file.
    """
    expanded = [part for setting in settings for part in _expanded(setting)]
    check_keys(expanded)
    chosen = {group for group in GROUPS if any(re.match(rf"{group}=(?!null$)", setting) for setting in expanded)}
    names_files = any(re.match(r"\+*data\.(train|valid|hub)\b", setting) for setting in expanded)
    choices = []
    if names_files and not chosen & {"data", "experiment"}:
        choices.append("data=files")
    if {"model", "experiment"} <= chosen and not own_config:
        choices.append("order=model_last")
    return [*choices, *(_quoted(setting) for setting in _with_commas_quoted(expanded, sweeps))]


def check_keys(settings: Sequence[str]) -> None:
    """Check that all settings exist.

    Raises:
        ValueError: a setting does not exist; the message names the nearest one.
    """
    known = [*keys(), *GROUPS]
    for setting in settings:
        key, equals, value = setting.partition("=")
        removes, key = key.startswith("~"), key.lstrip("+~")
        if not equals and not removes:
            raise ValueError(f"an argument of train is KEY=VALUE, but {setting} has no =")
        if key in ("data", "model") and value == "null":
            raise ValueError(f"{key} must be one of the choices that seq2seq train --help lists, but is null")
        if key.split(".")[0] == "hydra" or "/" in key or key in GROUPS:
            continue
        if key not in known:
            raise ValueError(unknown_key(key, known))
        if removes:
            raise ValueError(f"{key} can't be removed, because every setting has a value; set {key} to another value")
        inside = next((name for name in known if name.startswith(f"{key}.")), None)
        if inside and not value.endswith("}"):
            raise ValueError(f"{key} is a group of settings, but {setting} gives it one value; set {inside} or another")
        if value == "null":
            _check_null(key)


def _check_null(key: str) -> None:
    """Check that a setting may have no value.

    Raises:
        ValueError: it must have one; the message names the possible values.
    """
    values: Any = None
    for part in reversed(key.split(".")):
        values = {part: values}
    try:
        from_container(Config, values)
    except ValueError as error:
        raise ValueError(str(error).replace("but is None", "but is null")) from None


def _expanded(setting: str) -> tuple[str, ...]:
    """Replace a short form by the settings that it stands for."""
    if setting in ("~data.test", "data.test=null"):
        return NO_TEST_FILES
    return (re.sub(rf"^\+({'|'.join(GROUPS)})=", r"\1=", setting),)  # + would choose from the group a second time


def _with_commas_quoted(settings: Sequence[str], sweeps: bool) -> list[str]:
    """Quote names of files that have a comma, which Hydra would read as several values of a sweep."""
    roots = [setting.partition("=")[2] for setting in settings if setting.lstrip("+").startswith("data.root=")]
    written = []
    for setting in settings:
        key, _, value = setting.partition("=")
        if key.lstrip("+") in FILE_KEYS and "," in value and value[0] not in "[{'\"$":
            if any(Path(*map(os.path.expanduser, (root, value))).is_file() for root in ("", *roots)):
                setting = f"{key}={_in_quotes(value)}"
            elif not sweeps and "(" not in value:
                raise ValueError(
                    f"{key.lstrip('+')} must name a file, but there is no file {value}; write several files as "
                    f"{key.lstrip('+')}=[{value}], or add --multirun to train once per value"
                )
        written.append(setting)
    return written


def _in_quotes(value: str) -> str:
    """Write a value as a string of Hydra's grammar."""
    return "'" + re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + (r"\'" if found[2] else ""), value) + "'"


def _quoted(setting: str) -> str:
    """Quote a value that Hydra's grammar cannot read, such as a file name with an accent or parentheses.

    A setting that holds text is quoted too if its value looks like a number or a truth value: Hydra would change
    name=2026_11_21 to 20261121.
    """
    key, _, value = setting.partition("=")
    try:
        read = OverridesParser.create().parse_override(setting).value()
        quotes = isinstance(read, (bool, int, float)) and key.lstrip("+") in keys(texts=True)
    except HydraException:
        if value[:1] in ("[", "{", "'", '"', "$"):
            raise ValueError(f"can't read {setting}; write a list as KEY=['a','b'], in quotes") from None
        quotes = True
    return f"{key}={_in_quotes(value)}" if quotes else setting
