"""Compose a checked configuration from the YAML files under conf/ and settings of the command line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, flag_override
from omegaconf.errors import OmegaConfBaseException

from seq2seq.commands.overrides import for_hydra
from seq2seq.config import Config, from_container

PACKAGE = Path(__file__).resolve().parent.parent
PRIMARY = "train"  # conf/train.yaml
VERSION = "1.3"  # of Hydra's behaviour
_NOISE = ("full_key", "object_type", "reference_type", "Config search", "provider=", "See https", "Set the environment")


def compose(settings: Sequence[str]) -> Config:
    """Compose the configuration that ``seq2seq train`` would use.

    >>> compose(["experiment=multi30k", "train.seed=2"]).train.seed
    2

    Raises:
        ValueError: a mistyped key (the message names the nearest one), an unknown recipe, or an impossible value.
    """
    register_schema()
    overrides = for_hydra(settings)
    with hydra.initialize_config_dir(conf_folder(), version_base=VERSION):
        try:
            composed = hydra.compose(PRIMARY, overrides=overrides, return_hydra_config=True)
        except (HydraException, OmegaConfBaseException) as error:
            raise ValueError(one_line(error)) from error
        except TypeError as error:  # model=[1]
            raise ValueError(f"Hydra can't read {' '.join(settings)}") from error
    HydraConfig.instance().set_config(composed)  # name: ${hydra:runtime.choices.data} is read from it
    with flag_override(composed, ["struct", "readonly"], [False, False]):
        del composed["hydra"]
    return to_config(composed)


def register_schema() -> None:
    """Register the schema and the folder of the bundled data with Hydra."""
    ConfigStore.instance().store(name="schema", node=Config)
    OmegaConf.register_new_resolver("bundled_data", lambda: str(_bundled("data", "bundled")), replace=True)


def conf_folder() -> str:
    """Return the folder of the YAML files."""
    return str(_bundled("conf", "conf"))


def to_config(composed: DictConfig) -> Config:
    """Convert a composed configuration to data classes and check every value.

    Raises:
        ValueError: a value that is out of range or can't be resolved.
    """
    try:
        values = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ValueError(one_line(error)) from error
    assert isinstance(values, dict)
    config: Config = from_container(Config, {str(key): value for key, value in values.items()})
    return config


def one_line(error: Exception) -> str:
    """Join the message of an error of Hydra or OmegaConf into one line, without details for their developers."""
    parts = [str(error), str(error.__cause__)] if error.__cause__ else [str(error)]
    lines = [line.strip() for part in dict.fromkeys(parts) for line in part.splitlines()]
    lines = [re.sub("^In '.*?': ", "", line) for line in lines]  # the file of conf/ that names the group
    return " ".join(line for line in lines if line and not line.startswith(_NOISE))


def _bundled(checkout_name: str, installed_name: str) -> Path:
    """Return a folder inside the installed package, or else at the top of a checkout."""
    installed = PACKAGE / installed_name
    return installed if installed.is_dir() else PACKAGE.parent / checkout_name
