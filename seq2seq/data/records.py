"""Read records from JSONL, JSON, TSV, CSV and Parquet files and from data sets of the ``datasets`` library.

A record holds named values; a field is the name of a value that is a text. Every reader yields the records in order and
names the file and the line or row in its errors.
"""

from __future__ import annotations

import csv
import functools
import itertools
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from seq2seq.data.header_check import is_header_like
from seq2seq.data.lines import CorpusError, read_lines, unreadable

if TYPE_CHECKING:
    import datasets
    import pyarrow

log = logging.getLogger(__name__)

_ROWS = 1000  # rows of an Arrow table that are converted at once
_LONGEST_VALUE = (
    2**31 - 1
)  # characters of a CSV value; the csv module's default, 131,072, is shorter than a long document


class Field(NamedTuple):
    """A text of each record, and the setting that names it in errors."""

    name: str  # key, also nested (translation.en), or column name or number from 0
    setting: str  # for example data.src_field


class Record(NamedTuple):
    """The texts of the fields that were asked for, and everything that the record holds."""

    texts: tuple[str, ...]
    values: dict[str, Any]  # Parquet and data sets: only the columns of the fields, unless all are asked for


def record_format(path: Path) -> str:
    """Return the ending of a file of records in lower case, without .gz."""
    ending = path.suffix.lower()
    return path.with_suffix("").suffix.lower() if ending == ".gz" else ending


def read_records(path: Path, fields: Sequence[Field], *, all_values: bool = False) -> Iterator[Record]:
    """Read a file of records, whose ending is one of ``RECORD_READERS``.

    Line breaks inside a text become spaces, because models read and write lines. TSV has no quoting; CSV has that of RFC
    4180. Blank lines at the end of a file are skipped; other blank lines are errors.

    Args:
        all_values: whether records hold all columns of a Parquet file.

    Raises:
        CorpusError: the file cannot be used.
    """
    return RECORD_READERS[record_format(path)](path, str(path), fields, all_values)


def read_json_lines(
    source: Path | BinaryIO, name: str, fields: Sequence[Field], all_values: bool = True
) -> Iterator[Record]:
    """Read records from JSON objects, one a line.

    Args:
        source: a file or an open binary stream.
        name: the name of the source in errors.
        all_values: has no effect, since an object is always read as a whole.
    """
    for number, line in _numbered_lines(source, name, " \t\r"):
        where = f"{name}, line {number}"
        yield _json_record(parse_json(line, where), fields, where)


def read_dataset(
    dataset: datasets.Dataset, name: str, fields: Sequence[Field], *, all_values: bool = False
) -> Iterator[Record]:
    """Read the rows of a data set of the ``datasets`` library; see ``read_records``."""
    columns = dataset.column_names if all_values else _columns_of(fields, dataset.column_names)
    return _arrow_records(dataset.select_columns(columns).with_format("arrow").iter(_ROWS), name, fields)


def shorten(text: str) -> str:
    """Write a text on one line of about 100 characters, for a message."""
    text = " ".join(text.split())
    return text if len(text) <= 100 else text[:100] + "..."


# ---- objects


def parse_json(text: str, where: str) -> Any:
    """Parse one JSON value.

    Args:
        where: the place of the text, for the error.

    Raises:
        CorpusError: it is not valid JSON.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise CorpusError(f"{where}: not valid JSON (nested too deeply)") from None
    except ValueError as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise CorpusError(f"{where}: not valid JSON ({reason})") from None


def _json_record(record: Any, fields: Sequence[Field], where: str) -> Record:
    if not isinstance(record, dict):
        raise CorpusError(
            f"{where}: a record must be a JSON object, but is {shorten(json.dumps(record, ensure_ascii=False))}"
        )
    return Record(tuple(_text(record, field, where) for field in fields), record)


def _text(record: Mapping[str, Any], field: Field, where: str) -> str:
    """Return the text of a field.

    Raises:
        CorpusError: there is none, or it is not a string.
    """
    try:
        value = _find(record, field.name)
    except KeyError:
        keys = shorten(", ".join(_keys(record))) or "none"
        raise CorpusError(
            f"{where}: the record has no key {field.name}, only: {keys}; set {field.setting} to one of them"
        ) from None
    if not isinstance(value, str):
        shown = shorten(json.dumps(value, default=str, ensure_ascii=False))
        raise CorpusError(f"{where}: {field.name} must be a string, but is {shown}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise CorpusError(f"{where}: {field.name} must be valid text, but holds half of a surrogate pair") from None
    return _on_one_line(value)


def _find(record: Mapping[str, Any], name: str) -> Any:
    """Find a value by its key, or by nested keys joined by dots; a key that holds dots comes first."""
    if name in record:
        return record[name]
    first, dot, rest = name.partition(".")
    if not dot or not isinstance(record.get(first), dict):
        raise KeyError(name)
    return _find(record[first], rest)


def _keys(record: Mapping[str, Any]) -> Iterator[str]:
    """List the keys of a record; nested ones are joined by dots."""
    for key, value in record.items():
        if isinstance(value, dict) and value:
            yield from (f"{key}.{inner}" for inner in _keys(value))
        else:
            yield key


def _on_one_line(text: str) -> str:
    return text.replace("\r\n", " ").replace("\n", " ")


def _read_json(path: Path, name: str, fields: Sequence[Field], all_values: bool) -> Iterator[Record]:
    """Read the records of one JSON array, which is held in memory."""
    text = "\n".join(read_lines(path))
    try:
        records = json.loads(text)
    except json.JSONDecodeError as error:
        advice = "; a file with one object per line must end in .jsonl" if error.msg == "Extra data" else ""
        raise CorpusError(f"{name}, line {error.lineno}: not valid JSON ({error.msg}){advice}") from None
    except (RecursionError, ValueError):
        raise CorpusError(f"{name}: not valid JSON (nested too deeply, or a number too long)") from None
    if not isinstance(records, list):
        raise CorpusError(
            f"{name}: the file must hold an array of records, but holds {shorten(text)}; "
            "a file with one object per line must end in .jsonl"
        )
    for number, record in enumerate(records, start=1):
        yield _json_record(record, fields, f"{name}, record {number}")


# ---- lines of columns


def _numbered_lines(source: Path | BinaryIO, name: str, spaces: str) -> Iterator[tuple[int, str]]:
    """Read lines with their numbers from 1, without blank lines at the end.

    Args:
        spaces: the characters that a blank line may hold.

    Raises:
        CorpusError: a blank line is followed by another line.
    """
    numbered = enumerate(read_lines(source, name), start=1)
    return _without_blank(numbered, name, lambda line: not line.strip(spaces))


def _without_blank(
    numbered: Iterator[tuple[int, Any]], name: str, is_blank: Callable[[Any], bool]
) -> Iterator[tuple[int, Any]]:
    """Skip blank lines at the end of a file, and refuse others."""
    blank = 0
    for number, line in numbered:
        if is_blank(line):
            blank = blank or number
            continue
        if blank:
            raise CorpusError(
                f"{name}, line {blank}: a line must hold a record, but is blank; remove it (blank lines are skipped at the "
                "end of a file only)"
            )
        yield number, line


def _read_tsv(path: Path, name: str, fields: Sequence[Field], all_values: bool) -> Iterator[Record]:
    rows = ((number, line.split("\t")) for number, line in _numbered_lines(path, name, " \r"))
    cause = "a tab inside a text, which must be replaced by a space"
    return _table_records(rows, name, fields, cause)


def _read_csv(path: Path, name: str, fields: Sequence[Field], all_values: bool) -> Iterator[Record]:
    # "" in quotes is an empty value, not a blank line
    rows = _without_blank(_csv_rows(path, name), name, lambda row: not row or (len(row) == 1 and row[0].isspace()))
    return _table_records(rows, name, fields, 'a comma inside a text that is not in quotes (")')


def _csv_rows(path: Path, name: str) -> Iterator[tuple[int, list[str]]]:
    """Read the rows of a CSV file with the numbers of their first lines."""
    if csv.field_size_limit() < _LONGEST_VALUE:
        csv.field_size_limit(_LONGEST_VALUE)
    reader = csv.reader((line + "\n" for line in read_lines(path)), strict=True)
    while True:
        first = reader.line_num + 1
        try:
            columns = next(reader, None)
        except csv.Error as error:
            last = f" to {reader.line_num}" if reader.line_num > first else ""
            raise CorpusError(
                f"{name}, line {first}{last}: not valid CSV ({error}); a text that holds a comma or a line break must be in "
                'quotes ("), and a quote in it must be doubled'
            ) from None
        if columns is None:
            return
        yield first, [_on_one_line(column) for column in columns]


def _table_records(
    rows: Iterator[tuple[int, list[str]]], name: str, fields: Sequence[Field], cause: str
) -> Iterator[Record]:
    """Make records of the rows of a table, whose first row is a header unless all fields are numbers of columns.

    Args:
        cause: the usual cause of rows of different widths.
    """
    header: list[str] | None = None
    if not all(_is_number(field.name) for field in fields):
        header = next((columns for _, columns in rows), None)
        if header is None:
            names = " and ".join(field.name for field in fields)
            raise CorpusError(
                f"{name}: the first line must be a header with the column{'s' * (len(fields) > 1)} {names}, but the file "
                "is empty"
            )
    places = [_column(field, header, name) for field in fields]
    keys, width = header or [], len(header or [])
    for number, columns in rows:
        if header is None and number == 1:
            width, keys = len(columns), list(map(str, range(len(columns))))
            if len(places) == 2 and is_header_like(columns, *places):
                _warn_of_header(name, shorten(" | ".join(columns)), " and ".join(field.setting for field in fields))
        count = f"has {len(columns)} column{'s' * (len(columns) > 1)}"
        if len(columns) <= max(places):
            wanted = " and ".join(
                f"{field.setting} is column {place}" for field, place in zip(fields, places, strict=True)
            )
            raise CorpusError(f"{name}, line {number}: {count}, but {wanted}, counted from 0")
        if len(columns) != width:
            raise CorpusError(
                f"{name}, line {number}: {count}, but {'the header' if header else 'line 1'} has {width}; the usual cause "
                f"is {cause}"
            )
        yield Record(tuple(columns[place] for place in places), dict(zip(keys, columns, strict=True)))


@functools.cache  # a file is read more than once
def _warn_of_header(name: str, line: str, settings: str) -> None:
    log.warning(
        "%s, line 1, looks like a header (%s) but is read as a pair, because %s are column numbers; set them to the names "
        "of the columns, or ignore this if line 1 is a pair",
        name,
        line,
        settings,
    )


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit()


def _column(field: Field, header: list[str] | None, name: str) -> int:
    if _is_number(field.name):
        return int(field.name)
    if header is None or field.name not in header:
        raise CorpusError(
            f"{name}, line 1: the header has no column {field.name}, only: {shorten(', '.join(header or []))};"
            f" set {field.setting} to a name there or to a column number from 0"
        )
    return header.index(field.name)


# ---- Arrow tables


def _read_parquet(path: Path, name: str, fields: Sequence[Field], all_values: bool) -> Iterator[Record]:
    import pyarrow
    from pyarrow import parquet

    try:
        with path.open("rb") as stream, parquet.ParquetFile(stream) as file:
            columns = None if all_values else _columns_of(fields, file.schema_arrow.names)
            yield from _arrow_records(file.iter_batches(_ROWS, columns=columns), name, fields)
    except pyarrow.ArrowException as error:
        raise unreadable(name, ValueError(shorten(str(error)))) from None
    except OSError as error:
        raise unreadable(name, error) from None


def _columns_of(fields: Sequence[Field], names: list[str]) -> list[str]:
    """Return the columns that hold the fields, nested or not; all columns if one is missing, so that the error lists them."""
    holds = {name: [f"{field.name}.".startswith(f"{name}.") for field in fields] for name in names}
    if not all(map(any, zip(*holds.values(), strict=True))):
        return names
    return [name for name in names if any(holds[name])]


def _arrow_records(
    tables: Iterator[pyarrow.Table | pyarrow.RecordBatch], name: str, fields: Sequence[Field]
) -> Iterator[Record]:
    rows = itertools.chain.from_iterable(table.to_pylist() for table in tables)
    for number, row in enumerate(rows, start=1):
        yield _json_record(row, fields, f"{name}, row {number}")


_Reader = Callable[[Path, str, Sequence[Field], bool], Iterator[Record]]
RECORD_READERS: dict[str, _Reader] = {
    ".jsonl": read_json_lines,
    ".json": _read_json,
    ".tsv": _read_tsv,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}
