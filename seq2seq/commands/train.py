"""The train command: Hydra composes the configuration, dataclasses go on from there."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, flag_override
from omegaconf.errors import OmegaConfBaseException

from seq2seq.config import Config, from_container, keys, unknown_key
from seq2seq.training.stopping import Stopped
from seq2seq.training.train import train

PACKAGE = Path(__file__).resolve().parent.parent
GROUPS = ("data", "model", "experiment")


def _beside(name: str, inside: str) -> Path:
    """The folder ``inside`` of the installed package, or ``name`` at the top of a checkout."""
    installed = PACKAGE / inside
    return installed if installed.is_dir() else PACKAGE.parent / name


def register_schema() -> None:
    """Tell Hydra the schema and where the bundled data lies."""
    ConfigStore.instance().store(name="schema", node=Config)
    OmegaConf.register_new_resolver("bundled_data", lambda: str(_beside("data", "bundled")), replace=True)


def to_config(composed: DictConfig) -> Config:
    """Plain dataclasses of a composed configuration, every value checked.

    Raises:
        ValueError: a value that is out of range or can't be resolved.
    """
    try:
        values = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ValueError(_plain(error)) from error
    assert isinstance(values, dict)
    config: Config = from_container(Config, {str(key): value for key, value in values.items()})
    return config


def _quoted(override: str) -> str:
    """Quote a value that Hydra's grammar has no word for, such as a file name with an accent or brackets.

    Nor is a text a number for it: of name=2026_11_21 it would make 20261121.
    """
    key, _, value = override.partition("=")
    try:
        read = OverridesParser.create().parse_override(override).value()
        quotes = isinstance(read, (bool, int, float)) and key.lstrip("+") in keys(texts=True)
    except HydraException:
        if value[:1] in ("[", "{", "'", '"', "$"):
            raise ValueError(f"can't read {override}; write a list as KEY=['a','b'], in quotes") from None
        quotes = True
    if quotes:
        value = re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + (r"\'" if found[2] else ""), value)
        return f"{key}='{value}'"
    return override


def for_hydra(overrides: Sequence[str]) -> list[str]:
    """Overrides as Hydra can take them, with data=files where files are named and no data set or recipe is."""
    chosen = any(re.match(r"\+?(data|experiment)=", override) for override in overrides)
    named = any(re.match(r"\+*data\.(train|valid)\b", override) for override in overrides)
    return [*(["data=files"] if named and not chosen else []), *map(_quoted, overrides)]


def compose(overrides: Sequence[str]) -> DictConfig:
    """Compose the configuration of some overrides.

    Raises:
        ValueError: a mistyped key (the nearest is named), an unknown recipe, a value of the wrong type.
    """
    register_schema()
    _check_keys(overrides)
    with hydra.initialize_config_dir(str(_beside("conf", "conf")), version_base="1.3"):
        try:
            composed = hydra.compose("train", overrides=for_hydra(overrides), return_hydra_config=True)
        except (HydraException, OmegaConfBaseException) as error:
            raise ValueError(_plain(error)) from error
        except TypeError as error:  # model=[1]
            raise ValueError(f"Hydra can't read {' '.join(overrides)}") from error
    HydraConfig.instance().set_config(composed)  # the default of name asks it for the data set
    with flag_override(composed, ["struct", "readonly"], [False, False]):
        del composed["hydra"]
    return composed


def train_command(arguments: Sequence[str]) -> None:
    """Run ``seq2seq train`` with Hydra's command line.

    Raises:
        ValueError: an error of the user's; it is found before Hydra starts, but for sweeps.
    """
    overrides = [a for a in arguments if not a.startswith("-") and ("=" in a or a.startswith("~"))]
    flags = [argument for argument in arguments if argument not in overrides]  # of Hydra's, with their values
    if any(flag.startswith("-") for flag in flags):
        _check_flags(arguments)
        _check_keys(overrides)
    else:
        compose(arguments)
    register_schema()
    sys.argv = ["seq2seq train", *flags, *for_hydra(overrides)]
    hydra.main(version_base="1.3", config_path=str(_beside("conf", "conf")), config_name="train")(_run)()


def _run(composed: DictConfig) -> None:
    """What Hydra calls; errors leave from here, since Hydra would print them its own way."""
    try:
        train(to_config(composed))
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(stopped.exit_code)


def _check_flags(arguments: Sequence[str]) -> None:
    def refuse(message: str) -> NoReturn:
        raise ValueError(f"{message}; settings are given as KEY=VALUE, seq2seq train --help lists them")

    parser = get_args_parser()
    parser.error = refuse  # type: ignore[method-assign]
    parser.parse_args(arguments)


def _check_keys(overrides: Sequence[str]) -> None:
    known = [*keys(), *GROUPS]
    for override in overrides:
        key, _, value = override.partition("=")
        key = key.lstrip("+~")
        if "=" not in override and not override.startswith("~"):
            raise ValueError(f"an argument of train is KEY=VALUE, but {override} has no =")
        if key.split(".")[0] != "hydra" and "/" not in key and key not in known:
            raise ValueError(unknown_key(key, known))
        inside = next((name for name in known if name.startswith(f"{key}.")), None)
        if inside and "=" in override and key not in GROUPS and not value.endswith("}"):
            raise ValueError(
                f"{key} is a group of settings, but {override} gives it one value; set {inside} or another"
            )


def _plain(error: Exception) -> str:
    """One line of Hydra's or OmegaConf's message, without what only their authors need."""
    parts = [str(error), str(error.__cause__)] if error.__cause__ else [str(error)]
    lines = [line.strip() for part in dict.fromkeys(parts) for line in part.splitlines()]
    return " ".join(line for line in lines if line and not line.startswith(_NOISE))


_NOISE = ("full_key", "object_type", "reference_type", "Config search", "provider=", "See https", "Set the environment")
