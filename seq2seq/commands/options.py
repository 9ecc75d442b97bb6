"""Arguments that several commands take, and how they load a model."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from seq2seq.translator import Translator


class Device(str, Enum):
    """Device of the model."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class ReportFormat(str, Enum):
    """Output format of scores."""

    TEXT = "text"
    JSON = "json"


Model = Annotated[str, typer.Argument(help="A model directory or a run directory.", metavar="MODEL")]
DeviceOption = Annotated[Device, typer.Option(help="Device of the model; auto uses a GPU if there is one.")]
ThreadsOption = Annotated[int, typer.Option(min=0, help="Number of CPU threads; 0 leaves the choice to PyTorch.")]
BeamSize = Annotated[int | None, typer.Option(min=1, help="Number of hypotheses in the beam; 1 is greedy search.")]


def load_translator(model: str, device: Device, threads: int) -> Translator:
    """Load a model for a command."""
    from seq2seq.threads import set_threads
    from seq2seq.translator import Translator

    set_threads(threads, name="--threads")
    return Translator.load(model, device=device.value)
