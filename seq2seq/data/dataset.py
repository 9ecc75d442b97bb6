"""The training set: read, tokenize, filter and cache the training pairs, and report on them.

The rows are a memory-mapped Hugging Face ``datasets.Dataset``, so memory holds a small part of them.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from seq2seq.config import DataConfig
from seq2seq.data.corpus import read_corpus_pairs, split_stamps
from seq2seq.data.limits import learn_limit
from seq2seq.data.report import Counts, Lengths, Repeats, Report
from seq2seq.data.tokenizing import PairTokenizer, RandomSegmentation, tokenize_texts
from seq2seq.files import make_folder, write_atomically, write_stream
from seq2seq.text.tokenizer import Sampling, Tokenizer

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

_CACHE_VERSION = 6  # increase it when a change of the code gives other rows or another report
_TEXTS_AT_ONCE = 10_000  # pairs of a batch in the file of texts


def training_set(
    data: DataConfig,
    src_tokenizer: Tokenizer,
    tgt_tokenizer: Tokenizer,
    *,
    copies: bool = False,
    segments: bool = False,
    processes: int = 1,
) -> tuple[datasets.Dataset, Report]:
    """Read and tokenize the training pairs, or take them from the cache.

    The cache is a folder of Arrow files in the cache of ``datasets``. It identifies a file by its path, size and modification
    time, and a tokenizer by its ``identity``.

    Args:
        copies: whether the model copies. Then copy_ids are filled, and copy_ids and tgt_ids may hold the ids of
            out-of-vocabulary source pieces, which start at the size of the target vocabulary.
        segments: whether the model reads sentences; then segments are filled.
        processes: the largest number of processes that tokenize; the result does not depend on it.

    Returns:
        The memory-mapped rows and the report on them. The columns are src_ids and tgt_ids (int32, without bos and eos),
        copy_ids (empty without copying), segments (the sentence of each source piece, or empty), src_length, tgt_length,
        line (number of the pair among all training pairs, from 1) and corpus (number of the corpus of the pair, from 0).

    Raises:
        ValueError: the settings do not fit the files, no pair is left, or a process was killed.
        CorpusError: a file cannot be used.
    """
    with _cache_errors():
        texts = _texts(data)
        key = _key(
            [_text_key(data, split) for split in ("train", "valid", "test")],
            [data.max_source_length, data.max_target_length, data.too_long],
            [src_tokenizer.identity, tgt_tokenizer.identity, copies, segments],
        )
        stored = _cache() / f"report-{key}.json"  # written last: rows are used only together with their report
        if not stored.exists():
            tokenize = _pair_tokenizer(data, src_tokenizer, tgt_tokenizer, copies=copies, segments=segments)
            repeats = Repeats(data, len(texts))
            paths, counts = tokenize_texts(
                texts,
                tokenize,
                lambda part, parts: _cache() / f"rows-{key}-{part + 1}of{parts}.arrow",
                processes=processes,
                repeats=repeats,
            )
            report = _report(data, counts, repeats, _open(paths))
            content = {"rows": [path.name for path in paths], "report": report.as_dict()}
            write_atomically(stored, json.dumps(content).encode())
        content = json.loads(stored.read_text())
        report = Report.from_dict(content["report"])
        if not report.pairs_kept:
            raise ValueError(_no_pair_left(report))
        return _open([_cache() / name for name in content["rows"]]), report


def sampled_set(
    data: DataConfig,
    src_tokenizer: Tokenizer,
    tgt_tokenizer: Tokenizer,
    *,
    copies: bool = False,
    segments: bool = False,
    sampling: Sampling,
    seed: int,
    epoch: int,
    processes: int = 1,
) -> datasets.Dataset:
    """Tokenize the training pairs with random segmentations; see ``Tokenizer.sample``.

    The result has the same pairs as ``training_set``: a text whose random or deterministic segmentation exceeds the length
    limit keeps the deterministic one. The result depends only on the arguments. It is a memory-mapped file without a name,
    whose space on the disk is free again when the result is no longer used.
    """
    random = RandomSegmentation(sampling, seed, epoch)
    tokenize = _pair_tokenizer(data, src_tokenizer, tgt_tokenizer, copies=copies, segments=segments, random=random)
    with _cache_errors():
        texts = _texts(data)
        with tempfile.TemporaryDirectory(dir=_cache(), ignore_cleanup_errors=True) as folder:
            paths, _ = tokenize_texts(
                texts, tokenize, lambda part, _: Path(folder) / f"{part}.arrow", processes=processes
            )
            return _open(paths)


def _pair_tokenizer(data: DataConfig, src: Tokenizer, tgt: Tokenizer, **options: Any) -> PairTokenizer:
    limits = data.max_source_length, data.max_target_length
    return PairTokenizer(src, tgt, limits=limits, too_long=data.too_long, **options)


@contextmanager
def _cache_errors() -> Iterator[None]:
    """Name the cache in errors of its files."""
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"the cache of tokenized text can't be written: {error}; set the environment variable HF_HOME to another folder"
        ) from error


def _cache() -> Path:
    """Return the folder of the cached files; make it if it does not exist."""
    import datasets

    folder = Path(datasets.config.HF_DATASETS_CACHE) / "seq2seq"
    make_folder(folder)
    return folder


def _open(paths: list[Path]) -> datasets.Dataset:
    """Map files of rows to memory, as one dataset."""
    import datasets  # slow to import, and only training needs it

    return datasets.concatenate_datasets([datasets.Dataset.from_file(str(path)) for path in paths])


def _report(data: DataConfig, counts: Counts, repeats: Repeats, rows: datasets.Dataset) -> Report:
    report = Report(
        pairs_read=counts.read,
        pairs_kept=len(rows),
        empty=counts.empty,
        too_long_source=counts.too_long_source,
        too_long_target=counts.too_long_target,
        valid_share=data.valid_share,
        too_long=data.too_long,
        max_source_length=data.max_source_length,
        max_target_length=data.max_target_length,
        duplicates=repeats.duplicates(),
        duplicates_sample=repeats.divisor,
        overlap=repeats.overlap(),
    )
    if len(rows):
        src, tgt = column(rows, "src_length"), column(rows, "tgt_length")
        report.src_lengths, report.tgt_lengths = Lengths.of(src), Lengths.of(tgt)
        report.length_limit = learn_limit(src, tgt)
        report.uncovered = report.length_limit.uncovered(src, tgt)
        report.src_unknown = counts.src_unknown / int(src.sum())
        report.tgt_unknown = counts.tgt_unknown / int(tgt.sum())
    return report


def column(rows: datasets.Dataset, name: str) -> np.ndarray:
    """Return a column of numbers as an array, without a Python object for each number."""
    return rows.data.column(name).to_numpy()


def _texts(data: DataConfig) -> pa.Table:
    """Read the training pairs into a memory-mapped table of texts, or take it from the cache."""
    import pyarrow as pa

    path = _cache() / f"texts-{_key(_text_key(data, 'train'))}.arrow"
    if not path.exists():
        pairs = read_corpus_pairs(data.train, data, "train")
        first = next(pairs, None)
        if first is None:
            raise ValueError("data.train must hold at least one pair, but its files are empty")
        rest = itertools.chain([first], pairs)
        fields = pa.schema([("src", pa.large_string()), ("tgt", pa.large_string()), ("corpus", pa.int32())])
        with write_stream(path) as stream, pa.ipc.new_stream(stream, fields) as writer:
            while some := list(itertools.islice(rest, _TEXTS_AT_ONCE)):
                columns = zip(*((*pair, corpus) for pair, corpus in some), strict=True)
                arrays = [pa.array(values, type=field.type) for values, field in zip(columns, fields, strict=True)]
                writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=fields))
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_stream(source).read_all()


def _text_key(data: DataConfig, split: str) -> list[Any]:
    """Return plain values that identify the texts of a split: its sources, and the settings that choose texts of them."""
    return [split_stamps(data, split), data.src_field, data.tgt_field, data.valid_share, getattr(data, split).tag]


def _key(*values: Any) -> str:
    return hashlib.sha256(json.dumps([_CACHE_VERSION, *values]).encode()).hexdigest()[:32]


def _no_pair_left(report: Report) -> str:
    dropped = report.too_long == "drop" and (report.too_long_source or report.too_long_target)
    advice = "raise these limits or set data.too_long=cut" if dropped else "give pairs with text on both sides"
    return (
        f"no training pair remains of {report.pairs_read:,}: {report.empty:,} have an empty side,"
        f" {report.too_long_source:,} a source above data.max_source_length={report.max_source_length},"
        f" {report.too_long_target:,} a target above data.max_target_length={report.max_target_length};"
        f" {advice}"
    )
