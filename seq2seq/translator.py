"""Lines in, lines out: encode, batch by length, search, decode, and put back in order."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from seq2seq import model_dir
from seq2seq.config import SearchConfig, check_search
from seq2seq.data.batching import Batch, collate, split_by_tokens
from seq2seq.data.copy_ids import SourceCopies, extended_target_ids, source_copies
from seq2seq.model import Provenance, Seq2Seq, copied_places
from seq2seq.model_dir import Tokenizers
from seq2seq.search.beam import Hypothesis, Search, beam_search
from seq2seq.search.penalties import Penalties
from seq2seq.text.tokenizer import BOS, EOS, PAD, UNK, Segments
from seq2seq.text.word import JOINER
from seq2seq.text.words import join_texts

log = logging.getLogger(__name__)

_MOST_SCORES = 2**25  # sentences * beams * words searched at once: each copy of their scores takes 128 MiB


@dataclass
class CopiedFrom:
    """The source piece that a target piece was copied from."""

    source_piece: int  # its number, from 0
    start: int  # its first character in the line, from 0
    end: int  # behind its last


class _Source(NamedTuple):
    """A line, or a part of one, as the model reads it."""

    row: int  # of the line, from 0
    ids: list[int]
    pieces: list[str]
    spans: list[tuple[int, int]]
    copy_ids: list[int]  # of a model that copies
    own: list[str]
    status: str  # ok, source_cut or source_split


@dataclass
class Translation:
    """One translation of a line. Log-probabilities are natural; lists are per target piece.

    ``token_log_probs`` has one more entry than ``pieces``, the end of the sentence (for a line that was split, of every
    part). ``alignment`` names, for each piece, the source piece most looked at, by its number from 0; it is empty when
    the model has no attention. The last three are for models that copy and empty for others.

    ``status``: ok; empty (blank line, the model was not asked); source_cut or source_split (the source was longer than
    the model's limit, and the rest was left out or translated by itself); max_length (the translation was ended by its
    maximum length, and would have gone on).
    """

    translation: str
    score: float = 0.0
    log_prob: float = 0.0
    token_log_probs: list[float] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)
    source_pieces: list[str] = field(default_factory=list)
    alignment: list[int] = field(default_factory=list)
    status: str = "ok"
    p_gen: list[float] = field(default_factory=list)  # probability of generating rather than copying
    copied_from: list[CopiedFrom | None] = field(default_factory=list)  # where copying brought most of the probability
    copied_share: float | None = None  # how many of the pieces that are, 0 to 1

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


class Translator:
    """A model with its tokenizers and its search settings.

    >>> Translator.load("runs/mine").translate(["A man sleeps."])  # doctest: +SKIP
    ['Un homme dort.']
    """

    def __init__(
        self,
        model: Seq2Seq,
        tokenizers: Tokenizers,
        search: SearchConfig,
        *,
        max_source_length: int,
        warns: bool = True,
    ) -> None:
        self.model = model
        self.tokenizers = tokenizers
        self.search_config = search
        self.max_source_length = max_source_length
        self.warns = warns  # of every source that is too long
        self.never_id = UNK if model.copies else None  # a model that copies has a word for everything it has seen
        check_search(search, has_attention=model.has_attention)

    @classmethod
    def load(cls, path: str | Path, *, device: str = "auto") -> Translator:
        """Load a model directory or a run directory onto ``auto``, ``cpu`` or ``cuda``."""
        model, settings, tokenizers = model_dir.load(path, find_device(device))
        return cls(model, tokenizers, settings.search, max_source_length=settings.max_source_length)

    def translate(self, lines: Sequence[str], *, first_line: int = 1) -> list[str]:
        """Translate lines; a blank line gives an empty line."""
        sources = self._read(lines, first_line, self.search_config.too_long)
        texts = [""] * len(sources)
        for rows in self._batches(sources):
            batch = [sources[row] for row in rows]
            with evaluating(self.model):
                found = self._search_batch(batch)
            for row, source, hypotheses in zip(rows, batch, found, strict=True):
                texts[row] = self.tokenizers.tgt.decode(hypotheses[0].ids, source.own)
        parts: list[list[str]] = [[] for _ in lines]
        for source, text in zip(sources, texts, strict=True):
            parts[source.row].append(text)
        return [join_texts(some) for some in parts]

    def search(self, lines: Sequence[str], *, n_best: int = 1, first_line: int = 1) -> list[list[Translation]]:
        """Find the best translations of every line.

        Args:
            n_best: translations a line, at most ``search.beam_size``. A line may get fewer, with a warning, where the
                search found no more. Of a line that was split, the i-th is made of the i-th of every part.
            first_line: number of the first line, for warnings.
        """
        self.check_n_best(n_best)
        sources = self._read(lines, first_line, self.search_config.too_long)
        told: dict[int, list[Translation]] = {}
        for rows in self._batches(sources):
            batch = [sources[row] for row in rows]
            with evaluating(self.model):
                found = [hypotheses[:n_best] for hypotheses in self._search_batch(batch)]
                told |= zip(rows, self._explain(batch, found), strict=True)
        results: list[list[Translation]] = [[Translation("", status="empty")] for _ in lines]
        for row, parts in itertools.groupby(sorted(told), key=lambda number: sources[number].row):
            ranks = zip(*(told[number] for number in parts), strict=False)
            results[row] = [_merge(ranked, self.search_config.length_penalty) for ranked in ranks]
            if len(results[row]) < n_best:
                log.warning("line %d: %d translations instead of %d", first_line + row, len(results[row]), n_best)
        return results

    def check_n_best(self, n_best: int) -> None:
        """Refuse to tell more translations of a line than the beam holds.

        Raises:
            ValueError: with what to change.
        """
        if not 1 <= n_best <= self.search_config.beam_size:
            raise ValueError(
                f"n-best must be from 1 to the beam size, which is {self.search_config.beam_size}, but is {n_best}; "
                "set the beam size higher"
            )

    def score(self, src: Sequence[str], tgt: Sequence[str]) -> list[list[float]]:
        """Natural log-probability of every target piece and of the end of the sentence, a list a line.

        Sources are cut as in ``search``, targets never; a blank line counts as a sentence without pieces.
        """
        if len(src) != len(tgt):
            raise ValueError(
                f"there are {len(src)} source lines but {len(tgt)} target lines; they must match line by line"
            )
        sources = self._read(src, 1, "cut")
        tokenizer = self.tokenizers.tgt
        targets = [
            extended_target_ids(target, source.own, tokenizer)
            for source, target in zip(sources, tokenizer.segment(tgt), strict=True)
        ]
        lengths = np.array([max(len(s.ids), len(t)) + 1 for s, t in zip(sources, targets, strict=True)])
        results: list[list[float]] = [[] for _ in sources]
        order = np.argsort(lengths, kind="stable")
        for rows in split_by_tokens(order, lengths, self.search_config.batch_tokens) if len(order) else []:
            batch = self._collate([sources[row] for row in rows], [targets[row] for row in rows])
            with evaluating(self.model):
                log_probs = iter(self.model.log_probs(batch).tolist())
            for row in rows:
                results[row] = [next(log_probs) for _ in range(len(targets[row]) + 1)]
        return results

    def trace(self, line: str, target: str | None = None) -> tuple[Translation, Provenance]:
        """Tell of one line where its translation, or a given target, comes from.

        A source above the model's limit is cut. A given target gets the score that the search would give it.

        Returns:
            The translation; and the provenance of its pieces and, last, of the end of the sentence (T), over the source
            pieces and their end (S), on the CPU.

        Raises:
            ValueError: the line is blank, or the model has no attention.
        """
        if not self.model.has_attention:
            raise ValueError(
                "the model has no attention (model.attention is none), so nothing tells where it looked; "
                "choose a model trained with model.attention=additive, dot, general or scaled_dot"
            )
        (source,) = self._read([line], 1, "cut")
        if not source.ids:
            raise ValueError("the source text is blank; give it at least one word")
        with evaluating(self.model):
            best = self._search_batch([source])[0][0] if target is None else self._forced(source, target)
            provenance = self.model.provenance(self._collate([source], [best.ids[:-1]]))
        provenance = Provenance(*(tensor.cpu() for tensor in provenance))
        return self._translation(source, best, provenance), provenance

    def _forced(self, source: _Source, target: str) -> Hypothesis:
        """A target as if the search had found it."""
        (segments,) = self.tokenizers.tgt.segment([target])
        ids = extended_target_ids(segments, source.own, self.tokenizers.tgt)
        batch = self._collate([source], [ids])
        log_probs = self.model.log_probs(batch)
        log_prob, config = float(log_probs.sum()), self.search_config
        score = log_prob / (len(ids) + 1) ** config.length_penalty
        if penalties := Penalties(config.coverage_penalty, config.summary_penalty):
            attended = self.model.provenance(batch).weights.sum(dim=0, keepdim=True)  # (1, S)
            inside = torch.arange(attended.shape[1], device=attended.device) < len(source.ids)
            score -= float(penalties(attended, inside.unsqueeze(0)))
        return Hypothesis([*ids, EOS], log_prob, score, log_probs.tolist(), cut=False)

    def max_length(self, source_length: int) -> int:
        """The longest translation, in pieces with the end of sentence, of so many source pieces."""
        config = self.search_config
        return max(int(config.max_length_ratio * source_length) + config.max_length_extra, 1)

    def _read(self, lines: Sequence[str], first_line: int, too_long: str) -> list[_Source]:
        """Cut lines into pieces; cut or split those that are too long, and warn of them."""
        if isinstance(lines, str):
            raise ValueError("the lines must be a list of texts, but are one text; put it into a list")
        most = self.max_source_length
        sources = []
        for row, segments in enumerate(self.tokenizers.src.segment(lines)):
            length = len(segments.ids)
            places, status = [0, min(length, most)], "ok"
            if length > most:
                places = split_places(segments, most) if too_long == "split" else places
                status = f"source_{too_long}"
                done = "is cut to" if too_long == "cut" else f"is split into {len(places) - 1} parts of at most"
                message = "line %d has %d pieces and %s %d, the model's data.max_source_length"
                log.log(logging.WARNING if self.warns else logging.DEBUG, message, first_line + row, length, done, most)
            for start, end in itertools.pairwise(places):
                ids, pieces = segments.ids[start:end], segments.pieces[start:end]
                copied = source_copies(pieces, self.tokenizers.tgt) if self.model.copies else SourceCopies([], [])
                sources.append(_Source(row, ids, pieces, segments.spans[start:end], *copied, status=status))
        return sources

    def _batches(self, sources: list[_Source]) -> list[list[int]]:
        """Rows with something to translate, in batches of like length."""
        lengths = np.array([len(source.ids) + 1 for source in sources])
        order = np.argsort(-lengths, kind="stable")
        order = order[lengths[order] > 1]
        if not len(order):
            return []
        most = max(_MOST_SCORES // (self.search_config.beam_size * self.tokenizers.tgt.size), 1)
        batches = split_by_tokens(order, lengths, self.search_config.batch_tokens)
        return [batch[first : first + most].tolist() for batch in batches for first in range(0, len(batch), most)]

    def _collate(self, sources: Sequence[_Source], targets: Sequence[list[int]]) -> Batch:
        copy_ids = [source.copy_ids for source in sources] if self.model.copies else None
        src = [source.ids for source in sources]
        batch = collate(src, targets, pad_id=PAD, bos_id=BOS, eos_id=EOS, copy_ids=copy_ids)
        return batch.to(self.model.device)

    def _search_batch(self, sources: Sequence[_Source]) -> list[list[Hypothesis]]:
        config = self.search_config
        penalties = Penalties(config.coverage_penalty, config.summary_penalty)
        batch = self._collate(sources, [[] for _ in sources])
        search = Search(BOS, EOS, config.beam_size, config.length_penalty, config.min_length, penalties, self.never_id)
        max_lengths = [self.max_length(len(source.ids)) for source in sources]
        decoding = self.model.encode(batch.src, batch.src_lengths, batch.copy_ids if self.model.copies else None)
        return beam_search(self.model.step, decoding, max_lengths, search)

    def _explain(self, sources: Sequence[_Source], found: Sequence[list[Hypothesis]]) -> list[list[Translation]]:
        """Tell of hypotheses, by unrolling the model over them once more, where their pieces came from."""
        pairs = [(source, best) for source, hypotheses in zip(sources, found, strict=True) for best in hypotheses]
        told = []
        for first in range(0, len(pairs), len(sources)):  # in no larger batches than search had
            some = pairs[first : first + len(sources)]
            batch = self._collate([source for source, _ in some], [best.ids[:-1] for _, best in some])
            provenance = self.model.provenance(batch)
            parts = [tensor.cpu().split([len(best.ids) for _, best in some]) for tensor in provenance]
            for (source, best), *own in zip(some, *parts, strict=True):
                told.append(self._translation(source, best, Provenance(*own)))
        ranked = iter(told)
        return [[next(ranked) for _ in hypotheses] for hypotheses in found]

    def _translation(self, source: _Source, best: Hypothesis, provenance: Provenance) -> Translation:
        ids = best.ids[:-1]
        inside = len(source.ids)  # what the model sees behind them is its end of sentence
        translation = Translation(
            translation=self.tokenizers.tgt.decode(ids, source.own),
            score=best.score,
            log_prob=best.log_prob,
            token_log_probs=best.token_log_probs,
            pieces=self.tokenizers.tgt.pieces(ids, source.own),
            source_pieces=source.pieces,
            status="max_length" if best.cut else source.status,
        )
        if self.model.has_attention:
            translation.alignment = provenance.weights[:-1, :inside].argmax(dim=1).tolist()
        if self.model.copies:
            translation.p_gen = provenance.p_gen[:-1].tolist()
            translation.copied_from = [
                None if place is None else CopiedFrom(place, *source.spans[place])
                for place in copied_places(provenance.copied[:-1, :inside])
            ]
            translation.copied_share = sum(place is not None for place in translation.copied_from) / max(len(ids), 1)
        return translation


def split_places(source: Segments, most: int) -> list[int]:
    """Where to split a long source into parts of at most ``most`` pieces: at the last end of a sentence that fits.

    Without one in the second half of the part at the last comma or its like there, else at the last white space, else
    just where the part is full. A mark counts before white space alone (not that of 3.50), unless its script writes
    none. Returns the borders, from 0 to the number of pieces.
    """
    pieces, spans, places = source.pieces, source.spans, [0]

    def is_spaced(end: int) -> bool:
        return spans[end][0] > spans[end - 1][1]

    def is_border(end: int, marks: str) -> bool:
        last = pieces[end - 1].strip(JOINER)[-1:]
        return last != "" and last in marks and (last > "\u3000" or is_spaced(end))

    while len(pieces) - places[-1] > most:
        start, limit = places[-1], places[-1] + most
        second_half = range(limit, start + (most - 1) // 2, -1)
        marked = (end for marks in (".!?…。！？।؟", ",;:、，；：") for end in second_half if is_border(end, marks))
        places.append(next(itertools.chain(marked, filter(is_spaced, second_half)), limit))
    return [*places, len(pieces)]


def _merge(parts: Sequence[Translation], length_penalty: float) -> Translation:
    """One translation of the translations of a line's parts."""
    if len(parts) == 1:
        return parts[0]

    def normalized(log_prob: float, length: int) -> float:
        return log_prob / length**length_penalty

    lengths = [len(part.token_log_probs) for part in parts]
    log_prob = sum(part.log_prob for part in parts)
    penalties = sum(normalized(part.log_prob, n) - part.score for part, n in zip(parts, lengths, strict=True))
    merged = Translation(
        join_texts([part.translation for part in parts]),
        score=normalized(log_prob, sum(lengths)) - penalties,
        log_prob=log_prob,
        status="max_length" if any(part.status == "max_length" for part in parts) else parts[0].status,
    )
    for part in parts:
        behind = len(merged.source_pieces)
        merged.alignment += [behind + place for place in part.alignment]
        merged.copied_from += [
            place and CopiedFrom(behind + place.source_piece, place.start, place.end) for place in part.copied_from
        ]
        for name in ("token_log_probs", "pieces", "source_pieces", "p_gen"):
            getattr(merged, name).extend(getattr(part, name))
    if parts[0].copied_share is not None:
        merged.copied_share = sum(place is not None for place in merged.copied_from) / max(len(merged.pieces), 1)
    return merged


@contextmanager
def evaluating(model: Seq2Seq) -> Iterator[None]:
    """Without dropout and gradients, whatever mode the model is in before and after."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def find_device(name: str) -> torch.device:
    """The device of that name; ``auto`` takes the GPU if there is one.

    Raises:
        ValueError: cuda is asked for and there is none.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise ValueError(f"the device must be one of auto, cpu, cuda, but is {name}")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("the device is to be cuda, but torch finds no GPU here; choose cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
