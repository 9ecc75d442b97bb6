"""Run training jobs with Hydra: one for a plain command line, several for a sweep (--multirun)."""

from __future__ import annotations

import dataclasses
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import hydra
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seq2seq.commands.compose import PRIMARY, VERSION, conf_folder, one_line, register_schema, to_config
from seq2seq.commands.errors import fail, one_line_errors
from seq2seq.commands.overrides import for_hydra
from seq2seq.config import Config
from seq2seq.training.launch import read_launch


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
    sweeps = "--multirun" in flags
    if sweeps and not any(re.match(r"\+*hydra/sweeper=", setting) for setting in overrides):
        place = _check_jobs(written, overrides, settings)
        if not any(setting.startswith("hydra.sweep.dir=") for setting in overrides):
            written += for_hydra([f"hydra.sweep.dir={place}"])  # conf/ cannot name it: Hydra reads it before the jobs
    results: list[JobResult] = []
    try:
        _run_hydra(partial(_train, overrides=overrides, results=results), [*written, *overrides], settings)
    finally:
        if sweeps and read_launch().rank == 0:
            for line in ranking(results):
                print(line, file=sys.stderr)
    if sweeps and any(result.best is None for result in results):
        sys.exit(2)


def _check_jobs(flags: Sequence[str], overrides: Sequence[str], settings: Sequence[str]) -> str:
    """Compose all jobs of a sweep without training, so that a wrong value of the last one ends the sweep at its start.

    Returns:
        The folder for Hydra's record of the sweep, beside the run directory of the first job.
    """
    folders: list[str] = []

    def check(composed: DictConfig) -> None:
        from seq2seq.training.train import check_together

        with one_line_errors("train.batch_tokens", quiet=read_launch().local_rank > 0):
            config = in_sweep(composed, overrides)
            check_together(config)
            if config.run_dir in folders:
                raise ValueError(f"every job of a sweep must have its own run directory, but two have {config.run_dir}")
            folders.append(config.run_dir)

    with tempfile.TemporaryDirectory() as folder:  # Hydra records the sweep there
        _run_hydra(check, [*flags, *overrides, f"hydra.sweep.dir={folder}"], settings)
    return str(Path(folders[0]).parent)


def _run_hydra(job: Callable[[DictConfig], float | None], arguments: Sequence[str], settings: Sequence[str]) -> None:
    """Run Hydra with a job.

    Raises:
        ValueError: Hydra cannot compose the configuration.
    """
    started = False

    def run(composed: DictConfig) -> float | None:
        nonlocal started
        started = True
        return job(composed)

    with _hydra_process(arguments):
        try:
            hydra.main(version_base=VERSION, config_path=conf_folder(), config_name=PRIMARY)(run)()
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


class JobResult(NamedTuple):
    """The result of one job of a sweep."""

    run_dir: str
    metric: str
    best: float | None  # best validation score; None: the job failed


def _train(composed: DictConfig, *, overrides: Sequence[str], results: list[JobResult]) -> float | None:
    """Train one job; return its best validation score, the objective of a sweep, or None if a job of a sweep failed.

    Errors are printed here, because Hydra would print more than one line. They end the process, except in a sweep. Of
    several processes that train together, one prints each message.
    """
    from seq2seq.training.processes import ProcessFailed
    from seq2seq.training.stopping import Stopped
    from seq2seq.training.train import train

    config, launch = None, read_launch()
    try:
        with one_line_errors("train.batch_tokens", quiet=launch.local_rank > 0):
            config = in_sweep(composed, overrides)
            try:
                best: float | None = train(config)
            except ProcessFailed as failed:
                fail(str(failed), quiet=failed.is_printed)
    except Stopped as stopped:
        if launch.rank == 0:
            print(stopped, file=sys.stderr)
        sys.exit(stopped.exit_code)
    except SystemExit:
        if config is None or HydraConfig.get().mode is not RunMode.MULTIRUN:
            raise
        best = None
    results.append(JobResult(config.run_dir, config.train.metric, best))
    return best


def ranking(results: Sequence[JobResult]) -> list[str]:
    """Return a table of the jobs of a sweep: for each train.metric the best first, then the jobs that failed."""
    from seq2seq.metrics.scores import METRICS

    def key(result: JobResult) -> tuple[bool, str, float]:
        if result.best is None:
            return True, result.metric, 0.0
        higher = result.metric != "loss" and METRICS[result.metric].higher_is_better
        return False, result.metric, -result.best if higher else result.best

    lines = [f"{'rank':>4}  {'score':>12}  run directory"] if results else []
    for rank, result in enumerate(sorted(results, key=key), start=1):
        score = "failed" if result.best is None else f"{result.metric} {result.best:.3f}"
        lines.append(f"{'-' if result.best is None else rank:>4}  {score:>12}  {result.run_dir}")
    return lines


def in_sweep(composed: DictConfig, overrides: Sequence[str]) -> Config:
    """Convert the configuration of a job; in a sweep, its run directory is named by the settings that the jobs change.

    ``run_dir`` is not part of that name, and neither is ``name`` if ``run_dir`` has it already.

    Args:
        overrides: settings of the command line, which hold the values of all jobs.
    """
    config, job = to_config(composed), HydraConfig.get()
    if job.mode is not RunMode.MULTIRUN:
        return config
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    fixed = {override.key_or_group for override in parsed if not override.is_sweep_override()}
    swept = {override.key_or_group for override in parsed if override.is_sweep_override()}
    unnamed = {"run_dir"}
    if "${name}" in str(OmegaConf.to_container(composed, resolve=False)["run_dir"]):  # type: ignore[call-overload, index]
        unnamed.add("name")
    parts = []
    for setting in job.overrides.task:
        key = setting.partition("=")[0].lstrip("+~").partition("@")[0]
        if key not in unnamed and (key in swept or key not in fixed):  # a sweeper may choose keys of its own
            parts.append(setting.lstrip("+"))
    return dataclasses.replace(config, run_dir=str(Path(config.run_dir, ",".join(parts).replace("/", "_"))))


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
