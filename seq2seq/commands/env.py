"""The env command: the environment, for reports of errors."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def env(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Print versions, processor, threads, memory and GPU, for a report of an error.

    The output names no paths.
    """
    from seq2seq.sharing.environment import describe_environment, environment_lines

    found = describe_environment()
    typer.echo(json.dumps(found, indent=2) if as_json else "\n".join(environment_lines(found)))
