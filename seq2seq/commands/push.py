"""The push command: upload the model of a run to the hub."""

from __future__ import annotations

from typing import Annotated

import typer


def push(
    run: Annotated[str, typer.Argument(help="A run directory.", metavar="RUN")],
    name: Annotated[str, typer.Argument(help="Name of the model on the Hugging Face Hub.", metavar="USER/NAME")],
    private: Annotated[bool, typer.Option("--private", help="Make a new model private.")] = False,
) -> None:
    """Upload the model of a run to the hub, with a model card.

    The first call writes the card, RUN/README.md, from the run, and uploads nothing: it has places to fill in, among them
    the licence. Only the model files and the card are uploaded.
    """
    from seq2seq.sharing.push import push_run

    pushed = push_run(run, name, private=private)
    typer.echo(f"pushed {', '.join(pushed.files)}; load the model with hf:{name}@{pushed.commit}")
