"""The command line: seq2seq train | inspect | translate | evaluate | score | serve | report | push | ...; see ``app``.

Commands import torch and other large packages when they run, so that ``--help`` answers at once.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
import typer.core

from seq2seq.commands.env import env
from seq2seq.commands.errors import fail, one_line_errors
from seq2seq.commands.evaluate import evaluate
from seq2seq.commands.export import export
from seq2seq.commands.extend import extend
from seq2seq.commands.gradients import gradients
from seq2seq.commands.inspect import inspect
from seq2seq.commands.plot import plot
from seq2seq.commands.process import INTERRUPTED, ignore_interrupts, prepare_process
from seq2seq.commands.push import push
from seq2seq.commands.report import report
from seq2seq.commands.score import score
from seq2seq.commands.selfcheck import selfcheck
from seq2seq.commands.serve import serve
from seq2seq.commands.shortlist import shortlist
from seq2seq.commands.train import train
from seq2seq.commands.translate import translate
from seq2seq.version import __version__


class _Commands(typer.core.TyperGroup):
    """The commands; wrong usage is printed as one line, like every other error that the user can correct."""

    def main(self, args: Sequence[str] | None = None, **options: Any) -> Any:  # type: ignore[override]
        try:
            result = super().main(_with_train(args), **options | {"prog_name": "seq2seq", "standalone_mode": False})
        except (typer.Abort, KeyboardInterrupt):
            ignore_interrupts()
            sys.exit(INTERRUPTED)
        except Exception as error:
            if not hasattr(error, "format_message"):  # click's errors of usage have it
                raise
            message = error.format_message()
            if "\n" in message:  # the help of a command that was given no arguments
                print(message, file=sys.stderr)
                sys.exit(2)
            command = getattr(getattr(error, "ctx", None), "command_path", "seq2seq")
            fail(f"{message.rstrip('.')}; see {command} --help")
        sys.exit(result if isinstance(result, int) else 0)

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        with one_line_errors("--batch-tokens, or search.batch_tokens of the configuration"):
            return super().invoke(ctx)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain lines instead of boxes
    help="Train recurrent sequence-to-sequence models, translate with them and score translations.",
)
app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    help="Train a model; seq2seq train --help lists the settings.",
)(train)
app.command()(inspect)
app.command()(translate)
app.command()(evaluate)
app.command()(score)
app.command()(selfcheck)
app.command()(plot)
app.command()(gradients)
app.command()(serve)
app.command()(extend)
app.command()(shortlist)
app.command()(report)
app.command()(push)
app.command()(export)
app.command()(env)


def _with_train(args: Sequence[str] | None) -> list[str]:
    """Return the arguments, with the command train before -sc: Hydra's completion script calls ``seq2seq -sc``."""
    arguments = list(sys.argv[1:] if args is None else args)
    return ["train", *arguments] if arguments[:1] == ["-sc"] else arguments


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"seq2seq {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(logging.WARNING)  # Hydra's --info lowers the level of the root and adds its own handler
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING, handlers=[handler])


def main() -> None:
    """Run a command."""
    prepare_process()
    run: Callable[[], None] = app
    try:
        run()
    except KeyboardInterrupt:  # outside of _Commands.main
        sys.exit(INTERRUPTED)
    finally:
        ignore_interrupts()
