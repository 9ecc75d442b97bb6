"""Texts that commands read: the lines of a text file, or one field of the records of a file of records."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from seq2seq.data.lines import read_lines
from seq2seq.data.records import RECORD_READERS, Field, read_json_lines, read_records, record_format


def has_records(path: Path | None) -> bool:
    """Return whether a file holds records, by its ending."""
    return path is not None and record_format(path) in RECORD_READERS


def read_texts(path: Path, field: str | None, option: str, default: str) -> Iterator[str]:
    """Read the lines of a text file, or a field of every record.

    Args:
        field: the value of the option that names the field; None: ``default``.
        option: the name of this option.

    Raises:
        ValueError: a field is given for a text file, or the file cannot be used.
    """
    if has_records(path):
        return (record.texts[0] for record in read_records(path, [Field(field or default, option)]))
    check_no_field(path, field, option)
    return read_lines(path)


def check_no_field(path: Path, field: str | None, option: str) -> None:
    """Refuse the name of a field for a file of lines.

    Raises:
        ValueError: a field is given.
    """
    if field is not None:
        raise ValueError(
            f"{option} applies to files of records ({', '.join(RECORD_READERS)}), but {path} is read line by line; remove it"
        )


class InputRecords:
    """The values of the records of an input, in order, until they are written to the output.

    Args:
        source: a file of records, or a stream of JSON lines.
        name: the name of the source in errors.
        field: the field to translate.
    """

    def __init__(self, source: Path | BinaryIO, name: str, field: Field) -> None:
        self._source, self._name, self._field = source, name, field
        self._values: deque[dict[str, Any]] = deque()

    def texts(self) -> Iterator[str]:
        """Read the texts to translate; the thread that reads keeps the values of a record before its text is available."""
        if isinstance(self._source, Path):
            records = read_records(self._source, [self._field], all_values=True)
        else:
            records = read_json_lines(self._source, self._name, [self._field])
        for record in records:
            self._values.append(record.values)
            yield record.texts[0]

    def pop(self, names: Callable[[str], bool]) -> dict[str, Any]:
        """Return the values of the next record, and forget them.

        Args:
            names: whether the output uses a name too; the value of the record is then named ``input_`` and the name.
        """
        values = self._values.popleft()
        return {f"input_{name}" if names(name) else name: value for name, value in values.items()}


class Prefixes:
    """The lines of a file of target prefixes, taken along with the lines of the input.

    Args:
        source_name: the name of the input in errors.
    """

    def __init__(self, path: Path, source_name: str) -> None:
        self._path, self._source_name = path, source_name
        self._lines = read_lines(path)
        self._count = 0

    def take(self, count: int) -> list[str]:
        """Return the prefixes of the next lines.

        Raises:
            ValueError: there are fewer.
        """
        some = list(islice(self._lines, count))
        self._count += len(some)
        if len(some) < count:
            raise ValueError(
                f"{self._path} must have a line for every line of {self._source_name}, but has only {self._count}; add the "
                "missing lines, empty ones where nothing is forced"
            )
        return some

    def check_end(self) -> None:
        """Check that no line is left.

        Raises:
            ValueError: there are more lines than the input has.
        """
        if next(self._lines, None) is not None:
            raise ValueError(
                f"{self._path} must have a line for every line of {self._source_name}, which has {self._count} lines, but "
                "has more; remove the others"
            )
