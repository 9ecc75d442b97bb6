"""The export command: write a model in the format of another runtime."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from seq2seq.commands.options import Model, named_path


class ExportFormat(str, Enum):
    """Format of an exported model."""

    ONNX = "onnx"


def export(
    model: Model,
    output: Annotated[
        Path, typer.Option(parser=named_path, metavar="FOLDER", help="New folder of the exported model.")
    ],
    format: Annotated[ExportFormat, typer.Option(help="Format to write.")] = ExportFormat.ONNX,
) -> None:
    """Export a recurrent model as ONNX graphs: encoder.onnx and step.onnx, with settings and tokenizers.

    The exported model is then run with ONNX Runtime on random sources, and its translations are compared with the model's.
    """
    try:
        from seq2seq.sharing.onnx_export import export_onnx
    except ImportError as error:
        raise ValueError(
            f"export requires onnx, onnxruntime and onnxscript ({error}); "
            'run pip install ".[export]" in the checkout of seq2seq'
        ) from error
    if output.exists():
        raise ValueError(f"--output must be a new folder, but {output} exists; remove it or name another one")
    export_onnx(model, output)
