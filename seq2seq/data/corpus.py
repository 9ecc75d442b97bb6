"""Read sentence pairs from parallel files, JSONL records and TSV records.

Python's text files are not used for reading lines: here, a line ends at "\\n" only, and every error names its line.
"""

from __future__ import annotations

import gzip
import itertools
import json
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from seq2seq.config import DataConfig, FilesConfig

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class CorpusError(ValueError):
    """A file that cannot be used; the message holds its name and, where there is one, the line number."""


class Pair(NamedTuple):
    """A source text and its target text."""

    src: str
    tgt: str


# ---- lines


def as_line(text: str) -> bytes:
    """Encode a text as one line of a file.

    Line ends become spaces; a translation may contain them, since byte pieces can spell any character.
    """
    return text.replace("\r", " ").replace("\n", " ").encode() + b"\n"


def read_lines(source: str | Path | BinaryIO, name: str = "") -> Iterator[str]:
    r"""Read UTF-8 lines without their ends, one at a time.

    A line ends at "\n" only. One "\r" before it is removed, and so is a byte-order mark at the start of the file. A last
    line without "\n" is read too.

    Args:
        source: a file name (decompressed if it ends in .gz) or an open binary stream, which is not closed.
        name: name of the source in error messages; default: the file name.

    Raises:
        CorpusError: the file cannot be read, or a line is not valid UTF-8.
    """
    path = Path(source) if isinstance(source, (str, os.PathLike)) else None
    name = name or str(path if path else getattr(source, "name", "input"))
    number = 0
    try:
        with _open(path) if path else nullcontext(cast(BinaryIO, source)) as stream:
            while line := stream.readline():
                if number == 0:
                    line = line.removeprefix(_BYTE_ORDER_MARK)
                    if not line:
                        return
                number += 1
                yield _decode(line, name, number)
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(name, error, number) from None


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def _decode(line: bytes, name: str, number: int) -> str:
    try:
        return line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8")
    except UnicodeDecodeError as error:
        byte = f"byte 0x{line[error.start]:02x} at position {error.start + 1}"
        raise CorpusError(f"{name}, line {number}: {byte} is not valid UTF-8; convert the file to UTF-8") from None


def unreadable(name: str, error: Exception, number: int = 0) -> CorpusError:
    """Make the error for a file that cannot be read; ``number`` is the last line that was read, or 0."""
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    where = f" after line {number}" if number else ""
    return CorpusError(f"{name} cannot be read{where}: {reason}")


# ---- pairs


class _Parallel(NamedTuple):
    src: Path
    tgt: Path


class _Records(NamedTuple):
    file: Path


def read_pairs(files: FilesConfig, data: DataConfig, split: str) -> Iterator[Pair]:
    """Read all pairs of one split, file after file.

    A line break inside a JSONL string becomes a space, because the model translates line by line. TSV has no quoting.

    Args:
        files: ``data.train``, ``data.valid`` or ``data.test``.
        data: holds the folder of relative file names and the field names of records.
        split: "train", "valid" or "test", for error messages.

    Raises:
        ValueError: the settings name no files, or files that do not fit together.
        CorpusError: a file cannot be used.
    """
    return itertools.chain.from_iterable(_read_source(source, data) for source in sources(files, data, split))


def read_split(data: DataConfig, split: str) -> list[Pair]:
    """Read all pairs of a split into memory; of ``valid``, only the first ``data.valid_lines`` unless that is 0.

    Raises:
        ValueError: as in ``read_pairs``, or the split holds no pair.
    """
    pairs = read_pairs(getattr(data, split), data, split)
    limit = data.valid_lines if split == "valid" and data.valid_lines else None
    found = list(itertools.islice(pairs, limit))
    if not found:
        raise ValueError(f"data.{split} must hold at least one pair, but its files are empty")
    return found


def training_text(data: DataConfig, side: str) -> Iterator[str]:
    """Read the raw texts of one side ("src" or "tgt") of the training pairs, to train a tokenizer on."""
    return (getattr(pair, side) for pair in read_pairs(data.train, data, "train"))


def given(files: FilesConfig) -> bool:
    """Whether a split names at least one file."""
    return any(_names(value) for value in _values(files))


def check_fields(data: DataConfig) -> None:
    """Check that field names are set only if some split has records.

    Raises:
        ValueError: a field name is set, but all splits are parallel files.
    """
    if any(_names(files.file) for files in (data.train, data.valid, data.test)):
        return
    for side in ("src", "tgt"):
        name = getattr(data, f"{side}_field")
        if name != side:
            raise ValueError(
                f"data.{side}_field={name} applies to .jsonl and .tsv files only, but data names none; leave it out, or set "
                "data.train.file instead of data.train.src and data.train.tgt"
            )


def _values(files: FilesConfig) -> tuple[Any, Any, Any]:
    return files.src, files.tgt, files.file


def _names(value: Any) -> list[str]:
    if value is None or value == "":
        return []
    return [str(name) for name in value] if isinstance(value, (list, tuple)) else [str(value)]


def sources(files: FilesConfig, data: DataConfig, split: str) -> list[_Parallel | _Records]:
    """List the files of a split and check that the settings fit together; no file is opened."""
    key = f"data.{split}"
    root = Path(data.root).expanduser()
    src, tgt, records = ([root / Path(name).expanduser() for name in _names(value)] for value in _values(files))
    if records and (src or tgt):
        raise ValueError(f"{key} must have either src and tgt or file, but has both; remove {key}.file or the others")
    for path in records:
        if _format(path) not in _RECORD_READERS:
            raise ValueError(f"{key}.file must end in .jsonl or .tsv (or these with .gz), but is {path}")
    if records:
        return [_Records(path) for path in records]
    if not src and not tgt:
        held_out = ", to pairs that are not in data.train" if key == "data.valid" else ""
        raise ValueError(f"{key} names no files; set {key}.src and {key}.tgt, or {key}.file{held_out}")
    if len(src) != len(tgt):
        raise ValueError(
            f"{key}.src and {key}.tgt must name equally many files, but {key}.src names {len(src)}"
            f" and {key}.tgt names {len(tgt)}"
        )
    return [_Parallel(*paths) for paths in zip(src, tgt, strict=True)]


def _format(path: Path) -> str:
    return path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix


def _read_source(source: _Parallel | _Records, data: DataConfig) -> Iterator[Pair]:
    if isinstance(source, _Parallel):
        return _read_parallel(source)
    return _RECORD_READERS[_format(source.file)](source.file, str(data.src_field), str(data.tgt_field))


def _read_parallel(files: _Parallel) -> Iterator[Pair]:
    counts = [0, 0]
    for lines in itertools.zip_longest(read_lines(files.src), read_lines(files.tgt)):
        for side, line in enumerate(lines):
            counts[side] += line is not None
        if counts[0] == counts[1]:
            yield Pair(*lines)
    if counts[0] != counts[1]:
        raise CorpusError(
            f"{files.src} has {counts[0]} lines but {files.tgt} has {counts[1]}; parallel files must match line by line"
        )


def _read_jsonl(path: Path, src_field: str, tgt_field: str) -> Iterator[Pair]:
    for number, line in enumerate(read_lines(path), start=1):
        where = f"{path}, line {number}"
        try:
            record = json.loads(line)
        except RecursionError:
            raise CorpusError(f"{where}: not valid JSON (nested too deeply)") from None
        except ValueError as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            raise CorpusError(f"{where}: not valid JSON ({reason if line else 'the line is empty'})") from None
        if not isinstance(record, dict):
            raise CorpusError(f"{where}: a record must be a JSON object, but is {_shorten(line)}")
        yield Pair(_json_text(record, src_field, "src", where), _json_text(record, tgt_field, "tgt", where))


def _json_text(record: dict[str, Any], key: str, side: str, where: str) -> str:
    if key not in record:
        keys = _shorten(", ".join(record)) or "none"
        raise CorpusError(f"{where}: the record has no key {key}, only: {keys}; set data.{side}_field to one of them")
    value = record[key]
    if not isinstance(value, str):
        raise CorpusError(f"{where}: {key} must be a string, but is {_shorten(json.dumps(value))}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise CorpusError(f"{where}: {key} must be valid text, but holds half of a surrogate pair") from None
    return value.replace("\r\n", " ").replace("\n", " ")


def _read_tsv(path: Path, src_field: str, tgt_field: str) -> Iterator[Pair]:
    lines = enumerate(read_lines(path), start=1)
    header: list[str] | None = None
    if not (_is_number(src_field) and _is_number(tgt_field)):
        _, first = next(lines, (0, ""))
        header = first.split("\t")
    src, tgt = _column(src_field, "src", header, path), _column(tgt_field, "tgt", header, path)
    for number, line in lines:
        columns = line.split("\t")
        if len(columns) <= max(src, tgt):
            raise CorpusError(
                f"{path}, line {number}: has {len(columns)} column{'s' * (len(columns) > 1)}, but data.src_field is"
                f" column {src} and data.tgt_field is column {tgt}, counted from 0"
            )
        yield Pair(columns[src], columns[tgt])


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit()


def _column(name: str, side: str, header: list[str] | None, path: Path) -> int:
    if _is_number(name):
        return int(name)
    if header is None or name not in header:
        raise CorpusError(
            f"{path}, line 1: the header has no column {name}, only: {_shorten(', '.join(header or []))};"
            f" set data.{side}_field to a name there or to a column number from 0"
        )
    return header.index(name)


def _shorten(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 100 else text[:100] + "..."


_RECORD_READERS: dict[str, Callable[[Path, str, str], Iterator[Pair]]] = {".jsonl": _read_jsonl, ".tsv": _read_tsv}
