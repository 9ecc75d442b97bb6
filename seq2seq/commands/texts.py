"""Texts that commands read: the lines of a text file, or one field of the records of a file of records."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
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
