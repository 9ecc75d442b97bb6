"""The training set: read, tokenize, filter and cache the training pairs, and report on them.

The rows are stored as a memory-mapped Hugging Face ``datasets.Dataset``.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from seq2seq.config import DataConfig
from seq2seq.data.beginnings import characters_at_first, segment_beginnings
from seq2seq.data.copy_ids import extended_target_ids, source_copies
from seq2seq.data.corpus import Pair, read_corpus_pairs, split_stamps
from seq2seq.data.limits import learn_limit
from seq2seq.data.report import Lengths, Repeats, Report
from seq2seq.data.segments import sentence_numbers
from seq2seq.files import write_atomically
from seq2seq.text.tokenizer import UNK, Sampling, Segments, Tokenizer

if TYPE_CHECKING:
    import datasets

_CACHE_VERSION = 5  # increase it when a change of the code gives other rows or another report


def training_set(
    data: DataConfig, src_tokenizer: Tokenizer, tgt_tokenizer: Tokenizer, *, copies: bool = False
) -> tuple[datasets.Dataset, Report]:
    """Read and tokenize the training pairs, or take them from the cache of ``datasets``.

    The cache identifies a file by its path, size and modification time, and a tokenizer by its ``identity``. The progress
    bars of ``datasets`` are turned off.

    Args:
        copies: whether the model copies. Then copy_ids are filled, and copy_ids and tgt_ids may hold the ids of
            out-of-vocabulary source pieces, which start at the size of the target vocabulary.

    Returns:
        The memory-mapped rows and the report on them. The columns are src_ids and tgt_ids (int32, without bos and eos),
        copy_ids (empty without copying), segments (sentence of each source piece), src_length, tgt_length, line (number of the pair among all training pairs, from 1)
        and corpus (number of the corpus of the pair, from 0).

    Raises:
        ValueError: the settings do not fit the files, or no pair is left.
        CorpusError: a file cannot be used.
    """
    import datasets  # slow to import, and only training needs it

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    with _cache_errors():
        return _find_or_make(data, src_tokenizer, tgt_tokenizer, copies)


@contextmanager
def _without_leftovers(folder: Path) -> Iterator[None]:
    """Remove the new temporary files of ``datasets`` if writing fails; it leaves one if closing the file fails too."""
    before = set(folder.glob("tmp*"))
    try:
        yield
    except OSError:
        for path in set(folder.glob("tmp*")) - before:
            path.unlink(missing_ok=True)
        raise


@contextmanager
def _cache_errors() -> Iterator[None]:
    """Name the cache in errors of its files."""
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"the cache of tokenized text can't be written: {error}; set the environment variable HF_HOME to another folder"
        ) from error


def _find_or_make(
    data: DataConfig, src_tokenizer: Tokenizer, tgt_tokenizer: Tokenizer, copies: bool
) -> tuple[datasets.Dataset, Report]:
    texts = _text_set(data)
    key = _key(
        [_text_key(data, split) for split in ("train", "valid", "test")],
        [data.max_source_length, data.max_target_length, data.too_long],
        [src_tokenizer.identity, tgt_tokenizer.identity, copies],
    )
    stored = Path(texts.cache_files[0]["filename"]).with_name(f"report-{key}.json")
    tokenize = _Tokenize(data, src_tokenizer, tgt_tokenizer, copies)
    # cached rows are used only together with their report
    rows = _map(texts, tokenize, key, load_from_cache_file=stored.exists())
    if not stored.exists():
        write_atomically(stored, json.dumps(tokenize.report(rows).as_dict()).encode())
    report = Report.from_dict(json.loads(stored.read_text()))
    if not report.pairs_kept:
        raise ValueError(_no_pair_left(report))
    return rows, report


def sampled_set(
    data: DataConfig,
    src_tokenizer: Tokenizer,
    tgt_tokenizer: Tokenizer,
    *,
    copies: bool = False,
    sampling: Sampling,
    seed: int,
    epoch: int,
) -> datasets.Dataset:
    """Tokenize the training pairs in memory with random segmentations; see ``Tokenizer.sample``.

    The result has the same pairs as ``training_set``: a text whose random segmentation exceeds the length limit keeps its
    deterministic one. The result depends only on the arguments.
    """
    tokenize = _Tokenize(data, src_tokenizer, tgt_tokenizer, copies, (sampling, seed, epoch))
    key = _key(_text_key(data, "train"), sampling, seed, epoch)
    with _cache_errors():
        return _map(_text_set(data), tokenize, key, keep_in_memory=True, load_from_cache_file=False)


def _map(texts: datasets.Dataset, tokenize: _Tokenize, key: str, **cache: bool) -> datasets.Dataset:
    import datasets

    integers = datasets.List(datasets.Value("int32"))
    number = datasets.Value("int32")
    with _without_leftovers(Path(texts.cache_files[0]["filename"]).parent):
        return texts.map(
            tokenize,
            batched=True,
            with_indices=True,
            remove_columns=texts.column_names,
            features=datasets.Features(
                src_ids=integers,
                copy_ids=integers,
                segments=integers,
                tgt_ids=integers,
                src_length=number,
                tgt_length=number,
                line=datasets.Value("int64"),
                corpus=number,
            ),
            new_fingerprint=key,
            **cache,
        )


_COLUMNS = ("src_ids", "copy_ids", "segments", "tgt_ids", "src_length", "tgt_length", "line", "corpus")


class _Tokenize:
    """Convert batches of texts to rows of ids, drop or cut pairs that are too long, and count for the report.

    Args:
        sampling: how to segment at random, seed and epoch of random segmentations; None: deterministic ones.
    """

    def __init__(
        self,
        data: DataConfig,
        src_tokenizer: Tokenizer,
        tgt_tokenizer: Tokenizer,
        copies: bool,
        sampling: tuple[Sampling, int, int] | None = None,
    ) -> None:
        self._tokenizers = (src_tokenizer, tgt_tokenizer)
        self._sampling = sampling
        self._copies = copies
        self._limits = (data.max_source_length, data.max_target_length)
        self._repeats = Repeats(data) if sampling is None else None
        self._unknown = [0, 0]
        self._report = Report(
            valid_share=data.valid_share,
            too_long=data.too_long,
            max_source_length=data.max_source_length,
            max_target_length=data.max_target_length,
        )

    def __call__(self, texts: dict[str, list[Any]], positions: list[int]) -> dict[str, list[Any]]:
        if self._repeats:
            self._repeats.add(map(Pair, texts["src"], texts["tgt"]))
        src_tokenizer, tgt_tokenizer = self._tokenizers
        columns: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
        if self._sampling is None:
            sources = _first_pieces(src_tokenizer, texts["src"], self._limits[0])
            targets = _first_pieces(tgt_tokenizer, texts["tgt"], self._limits[1])
        else:
            sampling, seed, epoch = self._sampling
            seeds = np.random.SeedSequence([seed, epoch, positions[0]]).generate_state(2).tolist()
            sources = _sample(src_tokenizer, texts["src"], sampling, seeds[0], max_length=self._limits[0])
            targets = _sample(tgt_tokenizer, texts["tgt"], sampling, seeds[1], max_length=self._limits[1])
        for source, text, target, position, corpus in zip(
            sources, texts["src"], targets, positions, texts["corpus"], strict=True
        ):
            if not self._keep(source.ids, target.ids):
                continue
            src, tgt = source.ids[: self._limits[0]], target.ids
            copy_ids: list[int] = []
            if self._copies:
                copy_ids, oov = source_copies(source.pieces[: self._limits[0]], tgt_tokenizer, tags=src_tokenizer.tags)
                tgt = extended_target_ids(target, oov, tgt_tokenizer)
            tgt = tgt[: self._limits[1]]
            self._unknown[0] += src.count(UNK)
            self._unknown[1] += tgt.count(UNK)
            segments = sentence_numbers(text, source.spans[: len(src)])
            values = (src, copy_ids, segments, tgt, len(src), len(tgt), position + 1, corpus)
            for name, value in zip(_COLUMNS, values, strict=True):
                columns[name].append(value)
        return columns

    def _keep(self, src: list[int], tgt: list[int]) -> bool:
        """Count a pair; return whether it is kept."""
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
        """Make the report, after all batches were converted to ``rows``."""
        report = self._report
        assert self._repeats is not None
        report.pairs_kept = len(rows)
        report.duplicates = self._repeats.duplicates
        report.overlap = self._repeats.overlap()
        if len(rows):
            src, tgt = (rows.data.column(name).to_numpy() for name in ("src_length", "tgt_length"))
            report.src_lengths, report.tgt_lengths = Lengths.of(src), Lengths.of(tgt)
            report.length_limit = learn_limit(src, tgt)
            report.uncovered = report.length_limit.uncovered(src, tgt)
            report.src_unknown = self._unknown[0] / int(src.sum())
            report.tgt_unknown = self._unknown[1] / int(tgt.sum())
        return report


def _first_pieces(tokenizer: Tokenizer, texts: list[str], max_length: int) -> list[Segments]:
    """Segment texts up to one piece more than ``max_length``, which shows that a text is too long."""
    return [beginning.segments for beginning in segment_beginnings(tokenizer, texts, max_length + 1)]


def _sample(
    tokenizer: Tokenizer, texts: list[str], sampling: Sampling, seed: int, *, max_length: int
) -> list[Segments]:
    """Segment texts at random; a text with more than ``max_length`` random pieces is segmented as usual.

    A text with more characters than ``segment_beginnings`` reads at first is not sampled, since it would be too long.
    """
    bound = characters_at_first(max_length + 1)
    sampled = tokenizer.sample([text if len(text) <= bound else "" for text in texts], sampling, seed)
    too_long = [row for row, found in enumerate(sampled) if len(found.ids) > max_length or len(texts[row]) > bound]
    for row, segments in zip(too_long, _first_pieces(tokenizer, [texts[r] for r in too_long], max_length), strict=True):
        sampled[row] = segments
    return sampled


def _text_set(data: DataConfig) -> datasets.Dataset:
    """Read the training pairs into a memory-mapped dataset of texts."""
    import datasets

    def rows() -> Iterator[dict[str, Any]]:
        pairs = read_corpus_pairs(data.train, data, "train")
        first = next(pairs, None)
        if first is None:
            raise ValueError("data.train must hold at least one pair, but its files are empty")
        for pair, corpus in itertools.chain([first], pairs):
            yield {"src": pair.src, "tgt": pair.tgt, "corpus": corpus}

    key = _key(_text_key(data, "train"))
    text = datasets.Value("string")
    features = datasets.Features(src=text, tgt=text, corpus=datasets.Value("int32"))
    try:
        return datasets.Dataset.from_generator(rows, features=features, fingerprint=key)
    except datasets.exceptions.DatasetGenerationError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, ValueError | OSError):
            cause = cause.__cause__ or cause.__context__
        if cause is not None:  # an error of the corpus, or a full disk
            raise cause from None
        raise


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
