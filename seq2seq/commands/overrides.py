"""The settings of a command line, checked and written as Hydra reads them.

Hydra calls them overrides: ``KEY=VALUE`` changes a setting, ``GROUP=NAME`` chooses a file of ``conf/GROUP``, and
``~GROUP`` removes a group.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from seq2seq.config import keys, unknown_key

GROUPS = ("data", "model", "experiment")
NO_TEST_FILES = ("data.test.src=null", "data.test.tgt=null", "data.test.file=null")


def for_hydra(settings: Sequence[str], *, own_config: bool = False) -> list[str]:
    """Check settings and write them as Hydra reads them.

    Args:
        own_config: whether --config-path or --config-name replaces ``conf/train.yaml``.

    Raises:
        ValueError: a mistyped key (the nearest one is named), or an argument that is not KEY=VALUE.
    """
    expanded = [part for setting in settings for part in _expanded(setting)]
    check_keys(expanded)
    chosen = {group for group in GROUPS if any(re.match(rf"{group}=(?!null$)", setting) for setting in expanded)}
    names_files = any(re.match(r"\+*data\.(train|valid)\b", setting) for setting in expanded)
    choices = []
    if names_files and not chosen & {"data", "experiment"}:
        choices.append("data=files")
    if {"model", "experiment"} <= chosen and not own_config:
        choices.append("order=model_last")
    return [*choices, *map(_quoted, expanded)]


def check_keys(settings: Sequence[str]) -> None:
    """Refuse settings that do not exist.

    Raises:
        ValueError: with the nearest setting.
    """
    known = [*keys(), *GROUPS]
    for setting in settings:
        key, equals, value = setting.partition("=")
        removes, key = key.startswith("~"), key.lstrip("+~")
        if not equals and not removes:
            raise ValueError(f"an argument of train is KEY=VALUE, but {setting} has no =")
        if key.split(".")[0] == "hydra" or "/" in key or key in GROUPS:
            continue
        if key not in known:
            raise ValueError(unknown_key(key, known))
        if removes:
            raise ValueError(f"{key} can't be removed, because every setting has a value; set {key} to another value")
        inside = next((name for name in known if name.startswith(f"{key}.")), None)
        if inside and not value.endswith("}"):
            raise ValueError(f"{key} is a group of settings, but {setting} gives it one value; set {inside} or another")


def _expanded(setting: str) -> tuple[str, ...]:
    """The settings that a shorter one stands for."""
    if setting in ("~data.test", "data.test=null"):
        return NO_TEST_FILES
    return (re.sub(rf"^\+({'|'.join(GROUPS)})=", r"\1=", setting),)  # + would choose from the group a second time


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
    if quotes:
        value = re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + (r"\'" if found[2] else ""), value)
        return f"{key}='{value}'"
    return setting
