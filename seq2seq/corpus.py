"""Reading sentence pairs: lines, parallel files, JSONL and TSV records; and the tokenized, cached training set.

Line reading is our own because a line ends at "\\n" only and every complaint names its line; storage is a memory-mapped
Hugging Face ``datasets.Dataset``. Holds no batches.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import itertools
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast

import numpy as np

from seq2seq.config import DataConfig, FilesConfig
from seq2seq.tokenizer import UNK, Tokenizer

if TYPE_CHECKING:
    import datasets

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_CACHE_VERSION = 1  # raise it when the same files and settings come to give other rows


class CorpusError(ValueError):
    """A file that cannot be used; the message holds its name and, where there is one, the line number."""


class Pair(NamedTuple):
    """A source text and its target text."""

    src: str
    tgt: str


# ---- lines


def read_lines(source: str | Path | BinaryIO, name: str = "") -> Iterator[str]:
    r"""Read UTF-8 lines without their ends, one at a time.

    A line ends at "\n" only; one "\r" before it goes too, and so does a byte-order mark at the start. A last line
    without "\n" counts.

    Args:
        source: a file name (read through gzip if it ends in .gz) or an open binary stream, which stays open.
        name: how messages call the source; default the file name.

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
        raise _unreadable(name, error, number) from None


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def _decode(line: bytes, name: str, number: int) -> str:
    try:
        return line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8")
    except UnicodeDecodeError as error:
        byte = f"byte 0x{line[error.start]:02x} at position {error.start + 1}"
        raise CorpusError(f"{name}, line {number}: {byte} is not valid UTF-8; convert the file to UTF-8") from None


def _unreadable(name: str, error: Exception, number: int = 0) -> CorpusError:
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
    """Read the pairs of one split, file after file, none left out.

    A line break inside a JSONL string becomes a space, because translation goes from line to line. TSV knows no quoting.

    Args:
        files: ``data.train``, ``data.valid`` or ``data.test``.
        data: gives the root of relative names and the field names of records.
        split: "train", "valid" or "test", for messages.

    Raises:
        ValueError: the settings name no files, or not in a way that fits together.
        CorpusError: a file cannot be used.
    """
    return itertools.chain.from_iterable(_read_source(source, data) for source in _sources(files, data, split))


def read_split(data: DataConfig, split: str) -> list[Pair]:
    """Read all pairs of a split into memory; of ``valid`` the first ``data.valid_lines``, unless that is 0.

    Raises:
        ValueError: as ``read_pairs``, or there is no pair.
    """
    pairs = read_pairs(getattr(data, split), data, split)
    limit = data.valid_lines if split == "valid" and data.valid_lines else None
    found = list(itertools.islice(pairs, limit))
    if not found:
        raise ValueError(f"data.{split} must hold at least one pair, but its files are empty")
    return found


def training_text(data: DataConfig, side: str) -> Iterator[str]:
    """Read the raw texts of one side ("src" or "tgt") of the training pairs, for training a tokenizer."""
    return (getattr(pair, side) for pair in read_pairs(data.train, data, "train"))


def given(files: FilesConfig) -> bool:
    """Whether a split names any file."""
    return any(_names(value) for value in _values(files))


def _values(files: FilesConfig) -> tuple[Any, Any, Any]:
    return files.src, files.tgt, files.file


def _names(value: Any) -> list[str]:
    if value is None or value == "":
        return []
    return [str(name) for name in value] if isinstance(value, (list, tuple)) else [str(value)]


def _sources(files: FilesConfig, data: DataConfig, split: str) -> list[_Parallel | _Records]:
    """The files of a split, checked for fitting together; nothing is opened."""
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
        raise ValueError(f"{key} names no files; set {key}.src and {key}.tgt, or {key}.file")
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
        there = _shorten(", ".join(record)) or "none"
        raise CorpusError(f"{where}: there is no key {key}; the keys are: {there}; set data.{side}_field")
    value = record[key]
    if not isinstance(value, str):
        raise CorpusError(f"{where}: {key} must be a string, but is {_shorten(json.dumps(value))}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise CorpusError(f"{where}: {key} holds half of a surrogate pair, which is not text") from None
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


# ---- the training set


@dataclass
class Lengths:
    """Lengths in pieces of one side of the kept pairs."""

    mean: float = 0.0
    median: int = 0
    p95: int = 0  # 95 in 100 are at most so long
    max: int = 0

    @classmethod
    def of(cls, lengths: np.ndarray) -> Lengths:
        """Sum up an array of lengths."""
        median, p95 = np.percentile(lengths, [50, 95], method="inverted_cdf")
        return cls(float(lengths.mean()), int(median), int(p95), int(lengths.max()))


@dataclass
class Report:
    """What was read for training, what became of it, and how it meets the other splits."""

    pairs_read: int = 0
    pairs_kept: int = 0
    empty: int = 0  # dropped: a side is blank
    too_long: str = "drop"  # data.too_long: what happened to the next two, which a pair may both be
    too_long_source: int = 0
    too_long_target: int = 0
    max_source_length: int = 0  # the limits they exceeded
    max_target_length: int = 0
    duplicates: int = 0  # identical pairs beyond the first; kept
    src_lengths: Lengths = field(default_factory=Lengths)
    tgt_lengths: Lengths = field(default_factory=Lengths)
    src_unknown: float = 0.0  # share of the kept pieces
    tgt_unknown: float = 0.0
    overlap: dict[str, int] = field(default_factory=dict)  # see ``overlap``

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Report:
        """The report that ``as_dict`` gave."""
        lengths = {side: Lengths(**values[side]) for side in ("src_lengths", "tgt_lengths")}
        return cls(**{**values, **lengths})

    def lines(self) -> list[str]:
        """The report for people."""
        done = {"drop": "dropped", "cut": "cut"}[self.too_long]
        lines = [
            f"train: {self.pairs_read:,} pairs read, {self.pairs_kept:,} kept",
            f"  {self.empty:,} dropped for an empty side",
            f"  {self.too_long_source:,} {done} for a source above {self.max_source_length:,} pieces,"
            f" {self.too_long_target:,} for a target above {self.max_target_length:,}",
            f"  {self.duplicates:,} repeat an earlier pair",
        ]
        sides = (("source", self.src_lengths, self.src_unknown), ("target", self.tgt_lengths, self.tgt_unknown))
        for side, lengths, unknown in sides:
            lines.append(
                f"  {side} pieces: mean {lengths.mean:.1f}, median {lengths.median}, 95% up to {lengths.p95},"
                f" longest {lengths.max}, unknown {unknown:.2%}"
            )
        for split in ("valid", "test"):
            if f"{split}_pairs" in self.overlap:
                pairs, same, sources = (self.overlap[f"{split}_{what}"] for what in _OVERLAPS)
                lines.append(f"{split}: {pairs:,} pairs, {same:,} of them and {sources:,} sources occur in train")
        return lines


_OVERLAPS = ("pairs", "pairs_in_train", "sources_in_train")


def overlap(data: DataConfig) -> dict[str, int]:
    """Count what of the valid and test splits occurs in train.

    Returns:
        For every split given: ``valid_pairs`` (how many there are), ``valid_pairs_in_train`` and
        ``valid_sources_in_train``; the same for test. Pairs with a blank side count as not occurring.
    """
    repeats = _Repeats(data)
    repeats.add(read_pairs(data.train, data, "train"))
    return repeats.overlap()


class _Repeats:
    """Counts repetitions inside train and across the splits by 64-bit hashes; memory grows with the lines."""

    def __init__(self, data: DataConfig) -> None:
        self._others: dict[str, list[tuple[int, int]]] = {}
        for split in ("valid", "test"):
            if given(getattr(data, split)):
                pairs = read_pairs(getattr(data, split), data, split)
                self._others[split] = [(hash(pair), hash(pair.src)) for pair in pairs]
        self._asked_sources = {source for hashes in self._others.values() for _, source in hashes}
        self._met_sources: set[int] = set()
        self._pairs: set[int] = set()
        self.duplicates = 0

    def add(self, pairs: Iterable[Pair]) -> None:
        """Take in pairs of train."""
        for pair in pairs:
            if not pair.src.strip() or not pair.tgt.strip():
                continue
            key = hash(pair)
            self.duplicates += key in self._pairs
            self._pairs.add(key)
            source = hash(pair.src)
            if source in self._asked_sources:
                self._met_sources.add(source)

    def overlap(self) -> dict[str, int]:
        """The result of ``overlap``."""
        counts: dict[str, int] = {}
        for split, hashes in self._others.items():
            same = sum(pair in self._pairs for pair, _ in hashes)
            sources = sum(source in self._met_sources for _, source in hashes)
            counts |= {f"{split}_{what}": n for what, n in zip(_OVERLAPS, (len(hashes), same, sources), strict=True)}
        return counts


def training_set(
    data: DataConfig, src_tokenizer: Tokenizer, tgt_tokenizer: Tokenizer
) -> tuple[datasets.Dataset, Report]:
    """Read and tokenize the training pairs, or find them in the cache of ``datasets``.

    The cache knows a file by its path, size and time of change, a tokenizer by its identity. Silences the progress bars
    of ``datasets``.

    Returns:
        The memory-mapped rows, with columns src_ids and tgt_ids (int32, no bos and eos), src_length, tgt_length and line
        (number of the pair among all that were read, from 1); and the report on them.

    Raises:
        ValueError: the settings do not fit the files, or no pair remains.
        CorpusError: a file cannot be used.
    """
    import datasets  # slow, and only training needs it

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    texts = _text_set(data)
    key = _key(
        [_stamps(data, split) for split in ("train", "valid", "test")],
        [data.src_field, data.tgt_field, data.max_source_length, data.max_target_length, data.too_long],
        [src_tokenizer.identity, tgt_tokenizer.identity],
    )
    stored = Path(texts.cache_files[0]["filename"]).with_name(f"report-{key}.json")
    tokenize = _Tokenize(data, src_tokenizer, tgt_tokenizer)
    integers = datasets.List(datasets.Value("int32"))
    number = datasets.Value("int32")
    rows = texts.map(
        tokenize,
        batched=True,
        with_indices=True,
        remove_columns=texts.column_names,
        features=datasets.Features(
            src_ids=integers, tgt_ids=integers, src_length=number, tgt_length=number, line=datasets.Value("int64")
        ),
        load_from_cache_file=stored.exists(),  # the rows are only found together with their report
        new_fingerprint=key,
    )
    if not stored.exists():
        _write(stored, json.dumps(tokenize.report(rows).as_dict()))
    report = Report.from_dict(json.loads(stored.read_text()))
    if not report.pairs_kept:
        raise ValueError(_nothing_left(report))
    return rows, report


class _Tokenize:
    """Turns batches of texts into rows of ids, drops or cuts, and counts on the way."""

    def __init__(self, data: DataConfig, src_tokenizer: Tokenizer, tgt_tokenizer: Tokenizer) -> None:
        self._tokenizers = (src_tokenizer, tgt_tokenizer)
        self._limits = (data.max_source_length, data.max_target_length)
        self._repeats = _Repeats(data)
        self._unknown = [0, 0]
        self._report = Report(
            too_long=data.too_long, max_source_length=data.max_source_length, max_target_length=data.max_target_length
        )

    def __call__(self, texts: dict[str, list[str]], positions: list[int]) -> dict[str, list[Any]]:
        self._repeats.add(map(Pair, texts["src"], texts["tgt"]))
        encode_src, encode_tgt = (tokenizer.encode_batch for tokenizer in self._tokenizers)
        columns: dict[str, list[Any]] = {n: [] for n in ("src_ids", "tgt_ids", "src_length", "tgt_length", "line")}
        for src, tgt, position in zip(encode_src(texts["src"]), encode_tgt(texts["tgt"]), positions, strict=True):
            if not self._keep(src, tgt):
                continue
            src, tgt = src[: self._limits[0]], tgt[: self._limits[1]]
            self._unknown[0] += src.count(UNK)
            self._unknown[1] += tgt.count(UNK)
            for name, value in zip(columns, (src, tgt, len(src), len(tgt), position + 1), strict=True):
                columns[name].append(value)
        return columns

    def _keep(self, src: list[int], tgt: list[int]) -> bool:
        report = self._report
        report.pairs_read += 1
        if not src or not tgt:
            report.empty += 1
            return False
        long_src, long_tgt = len(src) > self._limits[0], len(tgt) > self._limits[1]
        report.too_long_source += long_src
        report.too_long_target += long_tgt
        return report.too_long == "cut" or not (long_src or long_tgt)

    def report(self, rows: datasets.Dataset) -> Report:
        """What happened, once all batches went through and became ``rows``."""
        report = self._report
        report.pairs_kept = len(rows)
        report.duplicates = self._repeats.duplicates
        report.overlap = self._repeats.overlap()
        if len(rows):
            src, tgt = (rows.data.column(name).to_numpy() for name in ("src_length", "tgt_length"))
            report.src_lengths, report.tgt_lengths = Lengths.of(src), Lengths.of(tgt)
            report.src_unknown = self._unknown[0] / int(src.sum())
            report.tgt_unknown = self._unknown[1] / int(tgt.sum())
        return report


def _text_set(data: DataConfig) -> datasets.Dataset:
    """The raw training pairs, memory-mapped."""
    import datasets

    def rows() -> Iterator[dict[str, str]]:
        pairs = read_pairs(data.train, data, "train")
        first = next(pairs, None)
        if first is None:
            raise ValueError("data.train must hold at least one pair, but its files are empty")
        yield first._asdict()
        for pair in pairs:
            yield pair._asdict()

    key = _key(_stamps(data, "train"), [data.src_field, data.tgt_field])
    text = datasets.Value("string")
    try:
        return datasets.Dataset.from_generator(rows, features=datasets.Features(src=text, tgt=text), fingerprint=key)
    except datasets.exceptions.DatasetGenerationError as error:
        if isinstance(error.__cause__, ValueError):
            raise error.__cause__ from None
        raise


def _stamps(data: DataConfig, split: str) -> list[tuple[str, int, int]]:
    """Path, size and time of change of every file of a split."""
    files = getattr(data, split)
    if split != "train" and not given(files):
        return []
    stamps = []
    for path in itertools.chain.from_iterable(_sources(files, data, split)):
        try:
            stat = path.stat()
        except OSError as error:
            raise _unreadable(str(path), error) from None
        stamps.append((str(path.resolve()), stat.st_size, stat.st_mtime_ns))
    return stamps


def _key(*values: Any) -> str:
    return hashlib.sha256(json.dumps([_CACHE_VERSION, *values]).encode()).hexdigest()[:32]


def _write(path: Path, text: str) -> None:
    """Write a file as a whole or not at all."""
    part = path.with_name(f"{path.name}.{os.getpid()}")
    part.write_text(text)
    part.replace(path)


def _nothing_left(report: Report) -> str:
    return (
        f"no training pair remains of {report.pairs_read:,}: {report.empty:,} have an empty side,"
        f" {report.too_long_source:,} a source above data.max_source_length={report.max_source_length},"
        f" {report.too_long_target:,} a target above data.max_target_length={report.max_target_length};"
        f" raise these or set data.too_long=cut"
    )
