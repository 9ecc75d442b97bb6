"""The inspect command: everything that train does before its updates, and what they would cost."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def inspect(
    settings: Annotated[
        list[str] | None, typer.Argument(help="Settings as for train.", metavar="[KEY=VALUE]...", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check data and settings before training, without training.

    Prints the report on the data, suspicious pairs, the first pairs as the model reads them, the time and the memory of an
    update, and advice that names the setting to change.
    """
    from seq2seq.commands.compose import compose
    from seq2seq.training.inspection import inspect_run

    found = inspect_run(compose(settings or []))
    typer.echo(json.dumps(found.as_dict(), ensure_ascii=False, indent=2) if as_json else "\n".join(found.lines()))
