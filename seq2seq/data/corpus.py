"""Read sentence pairs from parallel files, JSONL records and TSV records.

Lines are read from binary files, because Python's text files also end a line at other characters than "\\n" and do not
name the line of a decoding error.
"""

from __future__ import annotations

import gzip
import io
import itertools
import json
import logging
import os
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from seq2seq.config import DataConfig, FilesConfig
from seq2seq.files import expand_home, special_kind

log = logging.getLogger(__name__)

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_GZIP_START = b"\x1f\x8b\x08"  # RFC 1952; no valid UTF-8 text starts with these bytes


class CorpusError(ValueError):
    """A file that cannot be used; the message names the file and, if there is one, the line number."""


class Pair(NamedTuple):
    """A source text and its target text."""

    src: str
    tgt: str


# ---- lines


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


# ---- pairs


class _Parallel(NamedTuple):
    src: Path
    tgt: Path


class _Records(NamedTuple):
    file: Path


def read_pairs(files: FilesConfig, data: DataConfig, split: str) -> Iterator[Pair]:
    """Read all pairs of one split, file after file.

    A line break inside a JSONL string becomes a space, because the model translates line by line. TSV has no quoting.
    Blank lines at the end of a JSONL or TSV file are skipped; other blank lines in it are errors.

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
    """Return whether a split names at least one file."""
    return any(_names(value) for value in _values(files))


def check_fields(data: DataConfig) -> None:
    """Check that field names are set only if a split has files of records.

    Raises:
        ValueError: a field name is set, but all splits are parallel files.
    """
    if any(_names(files.file) for files in (data.train, data.valid, data.test)):
        return
    for side in ("src", "tgt"):
        name = getattr(data, f"{side}_field")
        if name != side:
            raise ValueError(
                f"data.{side}_field={name} applies to .jsonl and .tsv files only, but data names none; remove it, or set "
                "data.train.file instead of data.train.src and data.train.tgt"
            )


def _values(files: FilesConfig) -> tuple[Any, Any, Any]:
    return files.src, files.tgt, files.file


def _names(value: Any) -> list[str]:
    if value is None or value == "":
        return []
    return [str(name) for name in value] if isinstance(value, (list, tuple)) else [str(value)]


def sources(files: FilesConfig, data: DataConfig, split: str) -> list[_Parallel | _Records]:
    """List the files of a split and check that the settings fit together; no file is opened.

    Raises:
        ValueError: the settings name no files, files that do not fit together, or a pipe, folder or device.
    """
    key = f"data.{split}"
    root = expand_home(data.root)
    src, tgt, records = ([root / expand_home(name) for name in _names(value)] for value in _values(files))
    if records and (src or tgt):
        raise ValueError(f"{key} must have either src and tgt or file, but has both; remove {key}.file or the others")
    for path in records:
        if _format(path) not in _RECORD_READERS:
            raise ValueError(f"{key}.file must end in .jsonl or .tsv (or these with .gz), but is {path}")
    for side, paths in (("src", src), ("tgt", tgt), ("file", records)):
        for path in paths:
            _check_regular(path, f"{key}.{side}")
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


def _check_regular(path: Path, key: str) -> None:
    """Refuse a pipe, a folder or a device, before it is opened: opening a pipe waits for its writer."""
    if kind := special_kind(path):
        raise CorpusError(
            f"{key} must name regular files, because they are read more than once, but {path} is {kind}; "
            "write the text to a file first"
        )


def _format(path: Path) -> str:
    """Return the ending of a file of records in lower case, without .gz."""
    ending = path.suffix.lower()
    return path.with_suffix("").suffix.lower() if ending == ".gz" else ending


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


def _numbered_lines(path: Path, spaces: str) -> Iterator[tuple[int, str]]:
    """Read the lines of a file of records with their numbers from 1, without blank lines at the end.

    Args:
        spaces: the characters that a blank line may hold.

    Raises:
        CorpusError: a blank line is followed by another line.
    """
    blank = 0
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip(spaces):
            blank = blank or number
            continue
        if blank:
            raise CorpusError(
                f"{path}, line {blank}: a line must hold a record, but is blank; remove it (blank lines are skipped at the "
                "end of a file only)"
            )
        yield number, line


def _read_jsonl(path: Path, src_field: str, tgt_field: str) -> Iterator[Pair]:
    for number, line in _numbered_lines(path, " \t\r"):
        where = f"{path}, line {number}"
        try:
            record = json.loads(line)
        except RecursionError:
            raise CorpusError(f"{where}: not valid JSON (nested too deeply)") from None
        except ValueError as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            raise CorpusError(f"{where}: not valid JSON ({reason})") from None
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
    lines = _numbered_lines(path, " \r")
    header: list[str] | None = None
    if not (_is_number(src_field) and _is_number(tgt_field)):
        _, first = next(lines, (0, None))
        if first is None:
            raise CorpusError(
                f"{path}: the first line must be a header with the columns {src_field} and {tgt_field}, but the file is "
                "empty"
            )
        header = first.split("\t")
    src, tgt = _column(src_field, "src", header, path), _column(tgt_field, "tgt", header, path)
    width = len(header) if header else 0
    for number, line in lines:
        columns = line.split("\t")
        if not header and number == 1:
            width = len(columns)
            if _is_header_like(columns, src, tgt):
                _warn_of_header(str(path), _shorten(line.replace("\t", " | ")))
        if len(columns) <= max(src, tgt):
            raise CorpusError(
                f"{path}, line {number}: has {len(columns)} column{'s' * (len(columns) > 1)}, but data.src_field is"
                f" column {src} and data.tgt_field is column {tgt}, counted from 0"
            )
        if len(columns) != width:
            raise CorpusError(
                f"{path}, line {number}: has {len(columns)} column{'s' * (len(columns) > 1)}, but "
                f"{'the header' if header else 'line 1'} has {width}; the usual cause is a tab inside a text, which must be "
                "replaced by a space"
            )
        yield Pair(columns[src], columns[tgt])


_HEADER_WORDS = frozenset(
    [
        "src",
        "tgt",
        "trg",
        "source",
        "target",
        "sources",
        "targets",
        "input",
        "output",
        "inputs",
        "outputs",
        "prompt",
        "completion",
        "response",
        "text",
        "texts",
        "document",
        "article",
        "summary",
        "abstract",
        "title",
        "headline",
        "subject",
        "body",
        "question",
        "answer",
        "query",
        "reply",
        "sentence",
        "reference",
        "hypothesis",
        "translation",
        "original",
        "simple",
        "complex",
        "formal",
        "informal",
        "word",
        "words",
        "phonemes",
        "graphemes",
        "pronunciation",
        "lemma",
        "form",
        "command",
        "actions",
        "label",
        "language",
        "lang",
        "arabic",
        "bulgarian",
        "catalan",
        "chinese",
        "croatian",
        "czech",
        "danish",
        "dutch",
        "english",
        "estonian",
        "finnish",
        "french",
        "german",
        "greek",
        "hebrew",
        "hindi",
        "hungarian",
        "icelandic",
        "indonesian",
        "irish",
        "italian",
        "japanese",
        "korean",
        "latin",
        "latvian",
        "lithuanian",
        "norwegian",
        "persian",
        "polish",
        "portuguese",
        "romanian",
        "russian",
        "serbian",
        "slovak",
        "slovenian",
        "spanish",
        "swedish",
        "thai",
        "turkish",
        "ukrainian",
        "vietnamese",
        "ar",
        "bg",
        "bn",
        "ca",
        "cs",
        "cy",
        "da",
        "de",
        "el",
        "en",
        "es",
        "et",
        "eu",
        "fa",
        "fi",
        "fr",
        "ga",
        "gl",
        "he",
        "hi",
        "hr",
        "hu",
        "id",
        "is",
        "it",
        "ja",
        "ka",
        "ko",
        "lt",
        "lv",
        "mk",
        "ms",
        "mt",
        "nl",
        "no",
        "pl",
        "pt",
        "ro",
        "ru",
        "sk",
        "sl",
        "sq",
        "sr",
        "sv",
        "sw",
        "ta",
        "te",
        "th",
        "tr",
        "uk",
        "ur",
        "vi",
        "zh",
    ]
)
_LONGEST_HEADER = 3  # words in the name of a column


def _is_header_like(columns: list[str], src: int, tgt: int) -> bool:
    """Return whether the cells of both texts look like names of columns, such as ``en``, ``tgt_text`` or ``German``."""
    if len(columns) <= max(src, tgt) or columns[src] == columns[tgt]:
        return False
    names = [re.findall(r"[^\W\d_]+", columns[place].casefold()) for place in (src, tgt)]
    return all(len(words) <= _LONGEST_HEADER and not _HEADER_WORDS.isdisjoint(words) for words in names)


@cache  # a file is read more than once
def _warn_of_header(path: str, line: str) -> None:
    log.warning(
        "%s, line 1, looks like a header (%s) but is read as a pair, because data.src_field and data.tgt_field are column "
        "numbers; set them to the names of the columns, or ignore this if line 1 is a pair",
        path,
        line,
    )


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
