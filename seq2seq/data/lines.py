"""Read and write lines of text.

Lines are read from binary files, because Python's text files also end a line at other characters than "\\n" and do not
name the line of a decoding error.
"""

from __future__ import annotations

import gzip
import io
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO, cast

from seq2seq.files import special_kind

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_GZIP_START = b"\x1f\x8b\x08"  # RFC 1952; no valid UTF-8 text starts with these bytes


class CorpusError(ValueError):
    """A file that cannot be used; the message names the file and, if there is one, the line number."""


def as_line(text: str) -> bytes:
    """Encode a text as one line of a file.

    Line ends inside the text become spaces. A translation may contain them, since byte pieces can spell any character.
    """
    return text.replace("\r", " ").replace("\n", " ").encode() + b"\n"


def read_lines(
    source: str | Path | BinaryIO, name: str = "", *, on_invalid: Callable[[int], None] | None = None
) -> Iterator[str]:
    r"""Read UTF-8 lines without their ends, one at a time.

    A line ends at "\n" only. One "\r" before it is removed, and so is a byte-order mark at the start of the file. A last
    line without "\n" is read too. Input that starts like a gzip file is decompressed, whatever its name is.

    Args:
        source: a file name or an open binary stream, which is not closed.
        name: name of the source in error messages; default: the file name.
        on_invalid: called with the number of a line, from 1, that is not valid UTF-8, before the line is returned with
            U+FFFD in place of the invalid bytes. None: such a line is an error.

    Raises:
        CorpusError: the file cannot be read, or a line is not valid UTF-8.
    """
    path = Path(source) if isinstance(source, (str, os.PathLike)) else None
    name = name or str(path if path else getattr(source, "name", "input"))
    number = 0
    try:
        if path and (kind := _kind_without_lines(path)):
            raise CorpusError(f"{name} must be a file or a pipe of lines, but is {kind}; give the name of a file")
        with path.open("rb") if path else nullcontext(cast(BinaryIO, source)) as stream:
            text = cast(BinaryIO, gzip.GzipFile(fileobj=stream)) if _starts_like_gzip(stream) else stream
            while line := text.readline():
                if number == 0:
                    line = line.removeprefix(_BYTE_ORDER_MARK)
                    if not line:
                        return
                number += 1
                yield _decode(line, name, number, on_invalid)
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(name, error, number) from None


def _kind_without_lines(path: Path) -> str | None:
    """Name the kind of a path that holds no lines; None for files, pipes, terminals and /dev/null."""
    kind = special_kind(path)
    if kind == "a named pipe":
        return None
    if kind == "a device":
        with path.open("rb", buffering=0) as device:
            if device.isatty() or path.samefile(os.devnull):
                return None
    return kind


def _starts_like_gzip(stream: BinaryIO) -> bool:
    """Return whether a stream is compressed, without reading from it; False for one that cannot be looked ahead in."""
    if isinstance(stream, io.BufferedReader):
        return stream.peek(len(_GZIP_START)).startswith(_GZIP_START)
    if not stream.seekable():
        return False
    position = stream.tell()
    start = stream.read(len(_GZIP_START))
    stream.seek(position)
    return start == _GZIP_START


def _decode(line: bytes, name: str, number: int, on_invalid: Callable[[int], None] | None) -> str:
    line = line.removesuffix(b"\n").removesuffix(b"\r")
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        if on_invalid:
            on_invalid(number)
            return line.decode("utf-8", errors="replace")
        byte = f"byte 0x{line[error.start]:02x} at position {error.start + 1}"
        raise CorpusError(f"{name}, line {number}: {byte} is not valid UTF-8; convert the file to UTF-8") from None


def unreadable(name: str, error: Exception, number: int = 0) -> CorpusError:
    """Make the error for a file that cannot be read; ``number`` is the last line that was read, or 0."""
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    where = f" after line {number}" if number else ""
    return CorpusError(f"{name} cannot be read{where}: {reason}")
