"""Find the sources of a split's pairs: parallel files, files of records, data sets of the ``datasets`` library.

A source yields the pairs that it holds, in order. Tags, weights and the share held out for validation are in ``corpus``.
"""

from __future__ import annotations

import functools
import glob
import itertools
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from seq2seq.config import DataConfig, FilesConfig
from seq2seq.data.lines import CorpusError, read_lines, unreadable
from seq2seq.data.records import RECORD_READERS, Field, Record, read_dataset, read_records, record_format
from seq2seq.files import expand_home, special_kind

if TYPE_CHECKING:
    import datasets


class Pair(NamedTuple):
    """A source text and its target text."""

    src: str
    tgt: str


class PairSource(ABC):
    """A source of pairs: two parallel files, a file of records, or a data set.

    Args:
        corpus: number, from 0, of the entry in the setting that names the source. The files of a pattern share it.
    """

    def __init__(self, corpus: int) -> None:
        self.corpus = corpus

    @abstractmethod
    def pairs(self, data: DataConfig) -> Iterator[Pair]:
        """Read the pairs in order."""

    @abstractmethod
    def stamps(self) -> list[tuple[str, int, int]]:
        """Identify the content without reading it: by path, size and modification time, or by a fingerprint."""

    def files(self) -> list[Path]:
        """List the files that are read."""
        return []


class ParallelFiles(PairSource):
    """Two files that match line by line."""

    def __init__(self, corpus: int, src: Path, tgt: Path) -> None:
        super().__init__(corpus)
        self._src, self._tgt = src, tgt

    def pairs(self, data: DataConfig) -> Iterator[Pair]:
        counts = [0, 0]
        for lines in itertools.zip_longest(read_lines(self._src), read_lines(self._tgt)):
            for side, line in enumerate(lines):
                counts[side] += line is not None
            if counts[0] == counts[1]:
                yield Pair(*lines)
        if counts[0] != counts[1]:
            raise CorpusError(
                f"{self._src} has {counts[0]} lines but {self._tgt} has {counts[1]}; parallel files must match line by line"
            )

    def stamps(self) -> list[tuple[str, int, int]]:
        return list(map(_stamp, self.files()))

    def files(self) -> list[Path]:
        return [self._src, self._tgt]


class RecordFile(PairSource):
    """A file of records."""

    def __init__(self, corpus: int, path: Path) -> None:
        super().__init__(corpus)
        self._path = path

    def pairs(self, data: DataConfig) -> Iterator[Pair]:
        return _pairs(read_records(self._path, _fields(data)))

    def stamps(self) -> list[tuple[str, int, int]]:
        return [_stamp(self._path)]

    def files(self) -> list[Path]:
        return [self._path]


class DatasetSource(PairSource):
    """A data set of the ``datasets`` library."""

    def __init__(self, corpus: int, dataset: datasets.Dataset, name: str) -> None:
        super().__init__(corpus)
        self._dataset, self._name = dataset, name

    def pairs(self, data: DataConfig) -> Iterator[Pair]:
        return _pairs(read_dataset(self._dataset, self._name, _fields(data)))

    def stamps(self) -> list[tuple[str, int, int]]:
        return [(self._dataset._fingerprint, len(self._dataset), 0)]


def _fields(data: DataConfig) -> list[Field]:
    return [Field(str(getattr(data, f"{side}_field")), f"data.{side}_field") for side in ("src", "tgt")]


def _pairs(records: Iterator[Record]) -> Iterator[Pair]:
    return (Pair(*record.texts) for record in records)


def _stamp(path: Path) -> tuple[str, int, int]:
    try:
        found = path.stat()
    except OSError as error:
        raise unreadable(str(path), error) from None
    return str(path.resolve()), found.st_size, found.st_mtime_ns


# ---- the sources of a split


def given(files: FilesConfig) -> bool:
    """Return whether a split names at least one file."""
    return any(entries(value) for value in _values(files))


def is_named(data: DataConfig, split: str) -> bool:
    """Return whether a split has sources: files, or a split of the data set that data.hub names."""
    return given(getattr(data, split)) or (data.hub is not None and _hub_split(data, split) is not None)


def _values(files: FilesConfig) -> tuple[Any, Any, Any]:
    return files.src, files.tgt, files.file


def entries(value: Any) -> list[Any]:
    """Return the file names or data sets of a setting as a list."""
    if value is None or (isinstance(value, str) and not value):
        return []
    return [_entry(each) for each in value] if isinstance(value, (list, tuple)) else [_entry(value)]


def _entry(value: Any) -> Any:
    return value if hasattr(value, "select_columns") else str(value)  # only data sets have this method


def sources(files: FilesConfig, data: DataConfig, split: str) -> list[PairSource]:
    """List the sources of a split and check that the settings fit together; no file is opened.

    Raises:
        ValueError: the settings name no files, files that do not fit together, or a pipe, folder or device.
    """
    key = f"data.{split}"
    root = expand_home(data.root)
    src, tgt, records = (
        _files(value, root, f"{key}.{side}") for side, value in zip(("src", "tgt", "file"), _values(files), strict=True)
    )
    if records and (src or tgt):
        raise ValueError(f"{key} must have either src and tgt or file, but has both; remove {key}.file or the others")
    if records:
        return [_record_source(corpus, found, key) for corpus, found in records]
    if not src and not tgt:
        return [_hub_source(data, split)]
    if len(src) != len(tgt):
        raise ValueError(
            f"{key}.src and {key}.tgt must name equally many files, but {key}.src names {len(src)}"
            f" and {key}.tgt names {len(tgt)}"
        )
    return [ParallelFiles(corpus, one, other) for (corpus, one), (_, other) in zip(src, tgt, strict=True)]


def _files(value: Any, root: Path, key: str) -> list[tuple[int, Any]]:
    """List the files or data sets of a setting with the numbers of their corpora; ``*`` stands for any characters."""
    found: list[tuple[int, Any]] = []
    for corpus, entry in enumerate(entries(value)):
        paths = [entry]
        if isinstance(entry, str):
            path = root / expand_home(entry)
            paths = [path]
            if glob.has_magic(entry) and not os.path.lexists(path):
                paths = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]
                if not paths:
                    raise ValueError(f"{key} must name files, but no file matches {path}")
        found += [(corpus, path) for path in paths]
    for _, path in found:
        if isinstance(path, Path):
            _check_regular(path, key)
    return found


def _record_source(corpus: int, found: Any, key: str) -> PairSource:
    if isinstance(found, Path):
        if record_format(found) not in RECORD_READERS:
            *first, last = RECORD_READERS
            raise ValueError(
                f"{key}.file must end in {', '.join(first)} or {last} (text formats also with .gz), but is {found}"
            )
        return RecordFile(corpus, found)
    import datasets

    if not isinstance(found, datasets.Dataset):
        raise ValueError(
            f"{key}.file must be a datasets.Dataset, but is a {type(found).__name__}; choose a split of it, or save it"
        )
    return DatasetSource(corpus, found, f"the data set of {key}.file")


_HUB_SPLITS = {"train": ("train",), "valid": ("validation", "valid", "dev"), "test": ("test",)}


def _hub_source(data: DataConfig, split: str) -> PairSource:
    """Return the split of the data set that data.hub names."""
    key = f"data.{split}"
    if data.hub is None:
        held_out = ", to pairs that are not in data.train" if split == "valid" else ""
        raise ValueError(f"{key} names no files; set {key}.src and {key}.tgt, or {key}.file{held_out}")
    found = _hub_split(data, split)
    if found is None:
        has = ", ".join(_load_hub(*_hub_name(data)))
        advice = ", or data.valid_share to take them from data.train" if split == "valid" else ""
        raise ValueError(
            f"data.hub={data.hub} has no split {' or '.join(_HUB_SPLITS[split])}, only: {has}; set {key}.file{advice}"
        )
    return DatasetSource(0, found, f"{data.hub} ({found.split})")


def _hub_split(data: DataConfig, split: str) -> datasets.Dataset | None:
    splits = _load_hub(*_hub_name(data))
    return next((splits[name] for name in _HUB_SPLITS[split] if name in splits), None)


def _hub_name(data: DataConfig) -> tuple[str, str | None]:
    """Return the folder or the name of the data set on the hub, and its configuration."""
    folder = expand_home(data.root) / expand_home(str(data.hub))
    return (str(folder) if folder.is_dir() else str(data.hub)), data.hub_config


@functools.cache
def _load_hub(name: str, config: str | None) -> datasets.DatasetDict:
    """Load a data set of the hub, or a folder of the same layout.

    Raises:
        ValueError: it cannot be loaded.
    """
    import datasets

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    try:
        return datasets.load_dataset(name, config)
    except Exception as error:  # of many kinds: no connection, no such data set, a file that does not fit
        reason = " ".join(str(error).split())
        raise ValueError(
            f"data.hub={name} can't be loaded: {reason}; it must be a data set of the hub (user/name) or a folder with its "
            "files, and data.hub_config one of its configurations"
        ) from error


def _check_regular(path: Path, key: str) -> None:
    """Refuse a pipe, a folder or a device, before it is opened: opening a pipe waits for its writer."""
    if kind := special_kind(path):
        raise CorpusError(
            f"{key} must name regular files, because they are read more than once, but {path} is {kind}; "
            "write the text to a file first"
        )
