"""Inspect a configuration before training: its data, the pairs as the model reads them, and the cost of an update.

Everything that training does before its first update is done here too, and a few updates of a model that is thrown away.
Nothing is written except the cache of tokenized text.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from seq2seq import model_dir
from seq2seq.config import Config, checked
from seq2seq.data import corpus
from seq2seq.data.copy_ids import extended_target_ids, source_copies
from seq2seq.data.report import Report
from seq2seq.data.rows import Rows
from seq2seq.data.sources import Pair
from seq2seq.data.suspects import Suspects, find_suspects
from seq2seq.device import find_device
from seq2seq.model_dir import Tokenizers
from seq2seq.text.tags import without_tag
from seq2seq.text.tokenizer import EOS, UNK
from seq2seq.text.words import words
from seq2seq.threads import set_threads
from seq2seq.training.auto_precision import with_precision
from seq2seq.training.initial import apply_start_settings, find_tokenizers, initial_model
from seq2seq.training.older_runs import with_saved_defaults
from seq2seq.training.precision import Precision
from seq2seq.training.profile import peak_memory
from seq2seq.training.run_dir import find_run
from seq2seq.training.schedule import learning_rate
from seq2seq.training.state import has_state
from seq2seq.training.train import check_together, corpus_lines, read_rows, step_by_step_message
from seq2seq.training.update import Updater

SAMPLED = 20_000  # pairs from all over the training data whose unknown and copied words are counted
EXAMPLES = 3  # pairs that are shown as the model reads them
TIMED = 5  # updates that are timed; the first one is not
_FEW_VALID = 100  # validation pairs


@dataclass
class Example:
    """A training pair as the model reads it."""

    src_pieces: list[str]
    src_ids: list[int]
    copy_ids: list[
        int
    ]  # target id of each source piece; from the size of the vocabulary: outside it. Empty without copying
    tgt_pieces: list[str]
    tgt_ids: list[int]


@dataclass
class Copyable:
    """Words of a sample of targets that occur in their source."""

    pairs: int = 0  # pairs in the sample
    tgt_pieces: int = 0
    unknown: int = 0  # target pieces outside the vocabulary
    unknown_in_source: int = 0  # of these, pieces that occur in the source, which a model that copies can write
    tgt_words: int = 0
    words_in_source: int = 0  # target words that occur in the source


@dataclass
class UpdateCost:
    """The time and the memory of an update on this machine, now."""

    device: str
    parameters: int
    updates_per_epoch: int
    largest_sentences: int  # of the largest batch
    largest_src: int  # pieces of its longest source
    largest_tgt: int
    seconds: float  # median of the timed updates
    target_tokens_per_second: float
    peak_memory: int  # bytes, of the whole process, or of the GPU
    run_hours: float  # of train.max_updates updates, without validation


@dataclass
class Inspection:
    """The result of ``inspect_run``."""

    report: Report
    corpora: list[str]
    vocabulary: dict[str, int]  # ids of src and tgt
    start: list[str]  # lines on pretrained vectors and frozen parameters
    valid_pairs: int
    copyable: Copyable
    suspects: list[Suspects]
    examples: list[Example]
    cost: UpdateCost
    precision: list[str]  # how train.precision=auto was resolved; nothing if the precision was given
    findings: list[str]  # advice, each with the setting to change

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return dataclasses.asdict(self)

    def lines(self) -> list[str]:
        """Format the inspection as lines of text."""
        copyable, cost = self.copyable, self.cost
        sizes = f"{self.vocabulary['src']:,} source and {self.vocabulary['tgt']:,} target ids"
        lines = [*self.report.lines(), *self.corpora, f"vocabulary: {sizes}", *self.start]
        lines.append(f"copying, in a sample of {copyable.pairs:,} pairs:")
        lines.append(
            f"  {copyable.unknown:,} of {copyable.tgt_pieces:,} target pieces are unknown; "
            f"{_share(copyable.unknown_in_source, copyable.unknown)} of these occur in the source"
        )
        lines.append(
            f"  {_share(copyable.words_in_source, copyable.tgt_words)} of the target words occur in the source"
        )
        for suspects in self.suspects:
            lines.append(f"suspicious, {suspects.kind}: {suspects.count:,} pairs")
            lines += [f"  pair {number}: {_short(src)} | {_short(tgt)}" for number, src, tgt in suspects.shown]
        for number, example in enumerate(self.examples, start=1):
            lines.append(f"example {number}, pieces as the model reads them")
            lines.append(f"  source: {_numbered(example.src_pieces, example.src_ids)}")
            if example.copy_ids:
                lines.append(f"  copied as: {_numbered(example.src_pieces, example.copy_ids)}")
            lines.append(f"  target: {_numbered(example.tgt_pieces, example.tgt_ids)}")
        lines.append(
            f"update: {cost.parameters:,} parameters on {cost.device}; {cost.seconds:.3g} s, "
            f"{cost.target_tokens_per_second:,.0f} target tokens/s, {cost.updates_per_epoch:,} updates an epoch"
        )
        lines.append(
            f"  the largest batch has {cost.largest_sentences} sentences of up to {cost.largest_src} source and "
            f"{cost.largest_tgt} target pieces; peak memory {cost.peak_memory / 2**30:.1f} GiB"
        )
        lines.append(
            f"  all updates of train.max_updates take {cost.run_hours:.3g} hours, without validation, if train.patience does not end it"
        )
        lines += self.precision
        lines.append("advice:" if self.findings else "advice: none, nothing unusual was found")
        return lines + [f"  {finding}" for finding in self.findings]


def inspect_run(config: Config) -> Inspection:
    """Do everything that ``train`` does before the first update, and measure a few updates of a model that is not kept.

    Raises:
        ValueError: as in ``train``.
    """
    config = with_saved_defaults(checked(config))
    check_together(config)
    device = find_device(config.train.device)
    config, precision = with_precision(config, device)
    set_threads(config.train.threads, name="train.threads")
    run = find_run(config)
    continues = has_state(run / "last")
    valid = corpus.read_split(config.data, "valid")
    if corpus.has_split(config.data, "test"):
        corpus.read_split(config.data, "test")
    tokenizers = find_tokenizers(config, run)
    rows, report = read_rows(config, tokenizers)
    torch.manual_seed(config.train.seed)
    settings = model_dir.settings_of(config, rows.length_limit)
    model = initial_model(settings, tokenizers, None if continues else config.train.init_from)
    start = apply_start_settings(model, config.train, tokenizers, continues=continues)
    model = model.to(device)
    updater = Updater(config, model=model, precision=Precision(config.train.precision, device), rows=rows)
    copyable, examples = _read_sample(config, tokenizers, report.pairs_read)

    def pairs() -> Iterator[Pair]:
        """Read the training pairs without tags."""
        for pair in corpus.read_pairs(config.data.train, config.data, "train"):
            yield Pair(without_tag(pair.src, tokenizers.src.tags), pair.tgt)

    suspects = find_suspects(pairs)
    cost = _measure(config, updater, rows)
    findings = list(_findings(config, report, copyable, suspects, cost, len(valid)))
    if model.decoder.unrolls_by_steps:
        findings.append(step_by_step_message(config.model))
    return Inspection(
        report=report,
        corpora=corpus_lines(config, rows),
        vocabulary={"src": tokenizers.src.size, "tgt": tokenizers.tgt.size},
        start=start,
        valid_pairs=len(valid),
        copyable=copyable,
        suspects=suspects,
        examples=examples,
        cost=cost,
        precision=precision,
        findings=findings,
    )


def _read_sample(config: Config, tokenizers: Tokenizers, pairs_read: int) -> tuple[Copyable, list[Example]]:
    """Count unknown and copied words in a sample of the training pairs, and return the first pairs as examples."""
    step = math.ceil(pairs_read / SAMPLED)
    copyable = Copyable()
    examples: list[Example] = []
    pairs = corpus.read_pairs(config.data.train, config.data, "train")
    for pair in itertools.islice(pairs, 0, None, step):
        (source,), (target,) = tokenizers.src.segment([pair.src]), tokenizers.tgt.segment([pair.tgt])
        if not source.ids or not target.ids:
            continue
        copy_ids, oov = source_copies(source.pieces, tokenizers.tgt, tags=tokenizers.src.tags)
        tgt_ids = extended_target_ids(target, oov, tokenizers.tgt)
        copyable.pairs += 1
        copyable.tgt_pieces += len(target.ids)
        copyable.unknown += target.ids.count(UNK)
        copyable.unknown_in_source += sum(index >= tokenizers.tgt.size for index in tgt_ids)
        in_source, tgt_words = set(words(pair.src)), words(pair.tgt)
        copyable.tgt_words += len(tgt_words)
        copyable.words_in_source += sum(word in in_source for word in tgt_words)
        if len(examples) < EXAMPLES:
            copies = config.model.copy != "none"
            tgt_ids = [*(tgt_ids if copies else target.ids), EOS]
            examples.append(
                Example(source.pieces, source.ids, copy_ids if copies else [], [*target.pieces, "</s>"], tgt_ids)
            )
    return copyable, examples


def _measure(config: Config, updater: Updater, rows: Rows) -> UpdateCost:
    """Run the largest batch, then time a few updates."""
    train, model = config.train, updater.model
    plan = rows.plan(batch_tokens=train.batch_tokens, seed=train.seed, epoch=0)
    largest = updater.try_batch(rows.largest(plan))
    groups = [plan[first : first + train.accumulate] for first in range(0, len(plan), train.accumulate)]
    seconds, speeds = [], []
    for number, group in enumerate(itertools.islice(itertools.cycle(groups), TIMED + 1), start=1):
        started = time.perf_counter()
        rate = learning_rate(train, number, 0)
        update = updater.update(group, number=number, learning_rate=rate, coverage_weight=config.loss.coverage_weight)
        update.wait()
        seconds.append(time.perf_counter() - started)
        speeds.append(update.tokens / seconds[-1])
    return UpdateCost(
        device=str(model.device),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        updates_per_epoch=len(groups),
        largest_sentences=len(largest.src),
        largest_src=largest.src.shape[1],
        largest_tgt=largest.tgt_out.shape[1],
        seconds=statistics.median(seconds[1:]),
        target_tokens_per_second=statistics.median(speeds[1:]),
        peak_memory=peak_memory(model.device),
        run_hours=train.max_updates * statistics.median(seconds[1:]) / 3600,
    )


_AGAINST_UNKNOWN = {"word": ", or set tokenizer.type=bpe", "char": ""}  # by the type of the target vocabulary


def _findings(
    config: Config,
    report: Report,
    copyable: Copyable,
    suspects: list[Suspects],
    cost: UpdateCost,
    valid_pairs: int,
) -> Iterator[str]:
    """Yield advice on what was found, each with the setting to change."""
    yield from _data_findings(config, report, suspects, valid_pairs)
    copies = config.model.copy != "none"
    if copyable.unknown > 0.005 * copyable.tgt_pieces:
        share = _share(copyable.unknown, copyable.tgt_pieces)
        if not copies and copyable.unknown_in_source > 0.3 * copyable.unknown:
            yield f"{share} of the target pieces are unknown, and many occur in the source: set model.copy=pointer"
        elif not copies or copyable.unknown_in_source < 0.7 * copyable.unknown:
            kind = config.tokenizer.tgt_type or config.tokenizer.type
            remedy = _AGAINST_UNKNOWN.get(kind, " or tokenizer.character_coverage")
            yield f"{share} of the target pieces are unknown: raise tokenizer.vocab_size{remedy}"
    elif not copies and copyable.words_in_source > 0.4 * copyable.tgt_words:
        yield f"{_share(copyable.words_in_source, copyable.tgt_words)} of the target words occur in the source: set model.copy=pointer"
    total = config.train.max_updates
    if total < cost.updates_per_epoch:
        yield (
            f"train.max_updates={total} ends within the first epoch, which has {cost.updates_per_epoch:,} updates: raise it, "
            "or raise train.batch_tokens"
        )


def _data_findings(config: Config, report: Report, suspects: list[Suspects], valid_pairs: int) -> Iterator[str]:
    """Yield advice on the pairs."""
    for side, number in (("source", report.too_long_source), ("target", report.too_long_target)):
        if number > 0.01 * report.pairs_read:
            limit = f"data.max_{side}_length={getattr(config.data, f'max_{side}_length')}"
            dropped = "dropped: raise it, or set data.too_long=cut" if report.too_long == "drop" else "cut: raise it"
            yield f"{_share(number, report.pairs_read)} of the pairs have a {side} above {limit} and are {dropped}"
    for split in ("valid", "test"):
        same = report.overlap.get(f"{split}_pairs_in_train", 0)
        if same:
            yield (
                f"{same:,} pairs of data.{split} also occur in data.train, so their scores are too good: remove them from "
                "data.train" + (", or set data.valid_share instead of data.valid" if split == "valid" else "")
            )
    if report.duplicates > 0.05 * report.pairs_read:
        yield f"{_share(report.duplicates, report.pairs_read)} of the pairs repeat an earlier one: remove them from data.train"
    if valid_pairs < _FEW_VALID:
        advice = "raise data.valid_share" if config.data.valid_share else "give data.valid more pairs"
        if valid_pairs == config.data.valid_lines:
            advice = "raise data.valid_lines"
        yield f"{valid_pairs} validation pairs give an uncertain score: {advice}"
    for found in suspects:
        if found.count:
            yield f"{found.count:,} pairs are suspicious ({found.kind}): look at them in the files of data.train"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "none"


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:60] + "..."


def _numbered(pieces: list[str], ids: list[int]) -> str:
    return " ".join(f"{piece}:{index}" for piece, index in zip(pieces, ids, strict=True))
