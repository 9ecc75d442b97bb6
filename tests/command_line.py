"""Commands run in the process of the test, and files for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from seq2seq.commands.app import app


def run(*arguments: Any, text: str | bytes = b"") -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(app, [str(a) for a in arguments], input=text)


def refused(*arguments: Any, text: bytes = b"") -> str:
    """The one line with which a command is refused."""
    result = run(*arguments, text=text)
    assert result.exit_code == 2, (result.output, result.exception)
    assert isinstance(result.exception, SystemExit), "no traceback"
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    return lines[0].removeprefix("error: ")


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path
