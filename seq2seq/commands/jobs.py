"""Run training jobs with Hydra: one for a plain command line, several for a sweep (--multirun)."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import hydra
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from seq2seq.commands.compose import PRIMARY, VERSION, conf_folder, one_line, register_schema, to_config
from seq2seq.commands.errors import one_line_errors
from seq2seq.commands.overrides import for_hydra
from seq2seq.config import Config


def run_jobs(flags: Mapping[str, str], settings: Sequence[str]) -> None:
    """Run Hydra, which handles flags such as --help itself and trains otherwise.

    Args:
        flags: the values of flags by their long names; an empty value for a flag without one.
        settings: arguments of the form KEY=VALUE.

    Raises:
        ValueError: a mistake in the settings.
    """
    flags = dict(flags)
    if "--config-path" in flags:  # Hydra would start at the folder of this file
        flags["--config-path"] = str(Path(flags["--config-path"]).resolve())
    if "--shell-completion" in flags:
        overrides = list(settings)  # install=bash and the like
        if not _completes_train():
            return
    else:
        overrides = for_hydra(
            settings,
            own_config=not flags.keys().isdisjoint({"--config-path", "--config-name"}),
            sweeps="--multirun" in flags,
        )
    register_schema()
    written = [f"{name}={value}" if value else name for name, value in flags.items()]
    started = False

    def job(composed: DictConfig) -> None:
        nonlocal started
        started = True
        _train(composed, overrides)

    with _hydra_process([*written, *overrides]):
        try:
            hydra.main(version_base=VERSION, config_path=conf_folder(), config_name=PRIMARY)(job)()
        except (HydraException, OmegaConfBaseException) as error:
            raise ValueError(one_line(error)) from error
        except yaml.YAMLError as error:
            raise ValueError(f"a file of the configuration is not YAML: {one_line(error)}") from error
        except UnicodeDecodeError as error:
            raise ValueError(f"a file of --config-path or --config-dir must be UTF-8, but is not: {error}") from error
        except (TypeError, AssertionError) as error:  # model=[1]
            if started:
                raise
            raise ValueError(f"Hydra can't read {' '.join(settings)}") from error


def _completes_train() -> bool:
    """Return whether a shell completes a command line of train; remove the word train from it for Hydra."""
    line = os.environ.get("COMP_LINE")
    if line is None:  # the shell loads the completion script
        return True
    program, _, rest = line.partition(" ")
    command, space, rest = rest.lstrip().partition(" ")
    os.environ["COMP_LINE"] = f"{program} {rest}"
    return command == "train" and bool(space)


def _train(composed: DictConfig, overrides: Sequence[str]) -> None:
    """Train one job. Errors end the process here, because Hydra would print more than one line."""
    from seq2seq.training.stopping import Stopped
    from seq2seq.training.train import train

    with one_line_errors("train.batch_tokens"):
        try:
            train(in_sweep(to_config(composed), overrides))
        except Stopped as stopped:
            print(stopped, file=sys.stderr)
            sys.exit(stopped.exit_code)


def in_sweep(config: Config, overrides: Sequence[str]) -> Config:
    """Give a job of a sweep a separate run directory, named by the settings that differ between the jobs.

    Args:
        overrides: settings of the command line, which hold the values of all jobs.
    """
    job = HydraConfig.get()
    if job.mode is not RunMode.MULTIRUN:
        return config
    swept = [setting for setting in job.overrides.task if setting not in overrides]
    name = ",".join(setting.lstrip("+") for setting in swept if not setting.startswith(("name=", "run_dir=")))
    return dataclasses.replace(config, run_dir=str(Path(config.run_dir, name.replace("/", "_"))))


@contextmanager
def _hydra_process(arguments: Sequence[str]) -> Iterator[None]:
    """Set the arguments and the environment variable that ``hydra.main`` reads.

    With HYDRA_FULL_ERROR=1, Hydra raises its errors instead of printing several lines.
    """
    argv, full_error = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv = ["seq2seq", *arguments]
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        sys.argv = argv
        if full_error is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = full_error
