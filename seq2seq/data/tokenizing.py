"""Tokenize the training pairs on several cores, and count for the report.

The pairs are divided into as many parts as processes, in order. Each process writes the rows of its part to a file. The rows,
and the random segmentations among them, do not depend on the number of processes.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from seq2seq.data.beginnings import characters_at_first, segment_beginnings
from seq2seq.data.copy_ids import extended_target_ids, source_copies
from seq2seq.data.report import Counts, Repeats
from seq2seq.data.segments import sentence_numbers
from seq2seq.files import write_stream
from seq2seq.text.tokenizer import UNK, Sampling, Segments, Tokenizer

if TYPE_CHECKING:
    import pyarrow as pa

BATCH = 1000  # pairs that are tokenized at once; the random segmentations of a pair depend on its place in its batch
PAIRS_PER_PROCESS = 10_000  # fewer are not worth a process


class RandomSegmentation(NamedTuple):
    """The values that determine the random segmentations of an epoch."""

    sampling: Sampling
    seed: int
    epoch: int


class PairTokenizer:
    """Convert batches of texts to rows of ids, and drop or cut pairs that are too long.

    Args:
        limits: the largest number of pieces of a source and of a target.
        too_long: "drop" or "cut" pairs above them.
        copies: whether the model copies; fills copy_ids and numbers OOV pieces.
        segments: whether the model reads sentences; fills segments.
        random: None: deterministic segmentations.
    """

    def __init__(
        self,
        src_tokenizer: Tokenizer,
        tgt_tokenizer: Tokenizer,
        *,
        limits: tuple[int, int],
        too_long: str,
        copies: bool,
        segments: bool,
        random: RandomSegmentation | None = None,
    ) -> None:
        self._tokenizers, self._limits, self._too_long = (src_tokenizer, tgt_tokenizer), limits, too_long
        self._copies, self._segments, self._random = copies, segments, random

    def __call__(self, texts: Mapping[str, list[Any]], first: int) -> tuple[pa.RecordBatch, Counts]:
        """Tokenize pairs.

        Args:
            texts: columns src, tgt and corpus.
            first: number of the first pair, from 0.
        """
        import pyarrow as pa

        sources, targets, corpora = (texts[name] for name in ("src", "tgt", "corpus"))
        found_sources, found_targets = self._all_segments(sources, targets, first)
        columns: dict[str, list[Any]] = {name: [] for name in schema().names}
        counts = Counts(read=len(sources))
        for number, (source, target) in enumerate(zip(found_sources, found_targets, strict=True)):
            if not self._keep(source.ids, target.ids, counts):
                continue
            src, copy_ids, tgt = self._ids(source, target)
            counts.src_unknown += src.count(UNK)
            counts.tgt_unknown += tgt.count(UNK)
            segments = sentence_numbers(sources[number], source.spans[: len(src)]) if self._segments else []
            values = (src, copy_ids, segments, tgt, len(src), len(tgt), first + number + 1, corpora[number])
            for column, value in zip(columns.values(), values, strict=True):
                column.append(value)
        arrays = [pa.array(values, type=field.type) for values, field in zip(columns.values(), schema(), strict=True)]
        return pa.RecordBatch.from_arrays(arrays, schema=schema()), counts

    def _all_segments(
        self, sources: list[str], targets: list[str], first: int
    ) -> tuple[Sequence[Segments], Sequence[Segments]]:
        (src_tokenizer, tgt_tokenizer), (src_limit, tgt_limit) = self._tokenizers, self._limits
        if self._random is None:
            spans = self._copies or self._segments
            return (
                _first_pieces(src_tokenizer, sources, src_limit, spans),
                _first_pieces(tgt_tokenizer, targets, tgt_limit, self._copies),
            )
        sampling, seed, epoch = self._random
        seeds = np.random.SeedSequence([seed, epoch, first]).generate_state(2).tolist()
        return (
            _sample(src_tokenizer, sources, sampling, seeds[0], max_length=src_limit),
            _sample(tgt_tokenizer, targets, sampling, seeds[1], max_length=tgt_limit),
        )

    def _keep(self, src: list[int], tgt: list[int], counts: Counts) -> bool:
        """Count a pair; return whether it is kept."""
        if not src or not tgt:
            counts.empty += 1
            return False
        long_src, long_tgt = len(src) > self._limits[0], len(tgt) > self._limits[1]
        counts.too_long_source += long_src
        counts.too_long_target += long_tgt
        return self._too_long == "cut" or not (long_src or long_tgt)

    def _ids(self, source: Segments, target: Segments) -> tuple[list[int], list[int], list[int]]:
        """Return source ids, copy ids and target ids, cut to the limits."""
        (src_tokenizer, tgt_tokenizer), (src_limit, tgt_limit) = self._tokenizers, self._limits
        if not self._copies:
            return source.ids[:src_limit], [], target.ids[:tgt_limit]
        copy_ids, oov = source_copies(source.pieces[:src_limit], tgt_tokenizer, tags=src_tokenizer.tags)
        return source.ids[:src_limit], copy_ids, extended_target_ids(target, oov, tgt_tokenizer)[:tgt_limit]


def schema() -> pa.Schema:
    """Return the columns of a row, which ``dataset.training_set`` describes."""
    import pyarrow as pa

    ids, number = pa.list_(pa.int32()), pa.int32()
    lists = [(name, ids) for name in ("src_ids", "copy_ids", "segments", "tgt_ids")]
    return pa.schema([*lists, ("src_length", number), ("tgt_length", number), ("line", pa.int64()), ("corpus", number)])


def _first_pieces(tokenizer: Tokenizer, texts: list[str], limit: int, strings: bool) -> list[Segments]:
    """Segment texts up to one piece more than ``limit``, which shows that a text is too long.

    Args:
        strings: whether the strings and the places of the pieces are needed; ids alone are found three times as fast.
    """
    if strings:
        return [beginning.segments for beginning in segment_beginnings(tokenizer, texts, limit + 1)]
    bound = characters_at_first(limit + 1)
    rows = [Segments(ids, [], []) for ids in tokenizer.encode_batch([t if len(t) <= bound else "" for t in texts])]
    long = [number for number, text in enumerate(texts) if len(text) > bound]
    for number, beginning in zip(long, segment_beginnings(tokenizer, [texts[n] for n in long], limit + 1), strict=True):
        rows[number] = beginning.segments
    return rows


def _sample(
    tokenizer: Tokenizer, texts: list[str], sampling: Sampling, seed: int, *, max_length: int
) -> list[Segments]:
    """Segment texts at random; a text with more than ``max_length`` pieces, random or usual ones, is segmented as usual.

    A text with more characters than ``segment_beginnings`` reads at first is not sampled, since it would be too long. The
    usual pieces are counted if the random ones are more than half of ``max_length``: no sample is shorter by half.
    """
    bound = characters_at_first(max_length + 1)
    sampled = tokenizer.sample([text if len(text) <= bound else "" for text in texts], sampling, seed)
    near = [row for row, found in enumerate(sampled) if max_length < 2 * len(found.ids) <= 2 * max_length]
    usual = _first_pieces(tokenizer, [texts[row] for row in near], max_length, False)
    rows = {row for row, found in zip(near, usual, strict=True) if len(found.ids) > max_length}
    rows |= {row for row, found in enumerate(sampled) if len(found.ids) > max_length or len(texts[row]) > bound}
    too_long = sorted(rows)
    for row, segments in zip(
        too_long, _first_pieces(tokenizer, [texts[r] for r in too_long], max_length, True), strict=True
    ):
        sampled[row] = segments
    return sampled


class Part(NamedTuple):
    """The results of a part of the pairs, apart from its rows."""

    counts: Counts
    repeats: Repeats | None


def tokenize_texts(
    texts: pa.Table,
    tokenize: PairTokenizer,
    path: Callable[[int, int], Path],
    *,
    processes: int,
    repeats: Repeats | None = None,
) -> tuple[list[Path], Counts]:
    """Tokenize all pairs in several processes, and add them to ``repeats`` if it is given.

    Args:
        texts: memory-mapped columns src, tgt and corpus.
        path: maps the number of a part, from 0, and the number of parts to the file of its rows.
        processes: the largest number of processes; there are fewer if the pairs are few, and one in a worker of
            ``multiprocessing.Pool``, which must not start others.

    Returns:
        The files of the rows, in order, and the counts of all pairs.

    Raises:
        OSError: a file cannot be written.
        ValueError: a process was killed.
    """
    can_fork = "fork" in multiprocessing.get_all_start_methods() and not multiprocessing.current_process().daemon
    count = max(1, min(processes, len(texts) // PAIRS_PER_PROCESS)) if can_fork else 1
    size = -(-len(texts) // (count * BATCH)) * BATCH  # so that the batches are the same for any number of parts
    ranges = [range(first, min(first + size, len(texts))) for first in range(0, len(texts), size)]
    paths = [path(number, len(ranges)) for number in range(len(ranges))]
    parent = os.getpid() if len(ranges) > 1 else None
    parts = [
        partial(_tokenize_part, texts, tokenize, numbers, path, repeats, parent)
        for numbers, path in zip(ranges, paths, strict=True)
    ]
    found = [part() for part in parts] if len(parts) == 1 else _in_processes(parts)
    for part in found:
        if repeats is not None and part.repeats is not None and part.repeats is not repeats:
            repeats.merge(part.repeats)
    return paths, sum((part.counts for part in found), Counts())


def _tokenize_part(
    texts: pa.Table, tokenize: PairTokenizer, numbers: range, path: Path, repeats: Repeats | None, parent: int | None
) -> Part:
    """Tokenize the pairs with these numbers and write their rows.

    Args:
        parent: the process that waits for the part; None if it is this one.
    """
    import pyarrow as pa

    total = Counts()
    with write_stream(path) as stream, pa.ipc.new_stream(stream, schema()) as writer:
        for batch, first in _batches(texts, numbers):
            if parent is not None and os.getppid() != parent:  # the training was killed
                raise SystemExit(1)
            rows, counts = tokenize(batch, first)
            writer.write_batch(rows)
            total += counts
            if repeats is not None:
                repeats.add(batch["src"], batch["tgt"])
    return Part(total, repeats)


def _batches(texts: pa.Table, numbers: range) -> Iterator[tuple[dict[str, list[Any]], int]]:
    """Convert the texts of each batch to columns of Python values, once for all that reads them."""
    for first in range(numbers.start, numbers.stop, BATCH):
        yield texts.slice(first, min(BATCH, numbers.stop - first)).to_pydict(), first


def _in_processes(parts: Sequence[Callable[[], Part]]) -> list[Part]:
    """Run each function in a process of its own; return their results in order.

    The processes are forked, so that nothing has to be copied to them and a script of a user is not run again.
    """
    context = multiprocessing.get_context("fork")
    with ExitStack() as stack:
        running = []
        for part in parts:
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=_send_result, args=(part, sender), daemon=True)
            process.start()
            sender.close()
            stack.callback(process.join)
            stack.callback(process.terminate)
            running.append((process, receiver))
        results = []
        for process, receiver in running:
            try:
                result = receiver.recv()
            except EOFError:
                process.join()
                raise ValueError(
                    f"a process that tokenized the training text ended with the code {process.exitcode}, probably for lack "
                    "of memory; set train.threads=1, which tokenizes in one process"
                ) from None
            if isinstance(result, Exception):
                raise result
            results.append(result)
    return results


def _send_result(part: Callable[[], Part], sender: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the training handles it, and ends this process
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # removes the temporary file
    try:
        result: Part | Exception = part()
    except Exception as error:
        result = error
    sender.send(result)
