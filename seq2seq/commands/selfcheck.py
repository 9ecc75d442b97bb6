"""The selfcheck command: check on one model the laws that hold for every model."""

from __future__ import annotations

import typer

from seq2seq.commands.options import (
    Device,
    DeviceOption,
    Mixture,
    MixtureOption,
    Models,
    ThreadsOption,
    Weight,
    load_translator,
)


def selfcheck(
    model: Models,
    weight: Weight = None,
    mixture: MixtureOption = Mixture.LOG_LINEAR,
    device: DeviceOption = Device.AUTO,
    threads: ThreadsOption = 0,
) -> None:
    """Check that a model, or an ensemble, computes correctly.

    Checks that padding and batching change nothing, that probabilities sum to one, and that search and scoring agree.
    Exits with code 1 if a check fails.
    """
    from seq2seq.selfcheck import run_checks

    checks = run_checks(load_translator(model, device, threads, weights=weight, mixture=mixture))
    for check in checks:
        typer.echo(f"{'ok    ' if check.ok else 'FAILED'}  {check.law}: {check.text}")
    if not all(check.ok for check in checks):
        raise typer.Exit(1)
