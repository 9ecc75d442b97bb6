"""Translates lines: encodes them, batches them by length, searches, decodes, and restores their order."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from seq2seq import model_dir
from seq2seq.config import SearchConfig, check_search, from_container
from seq2seq.data.batching import Batch, collate, group_by_size, split_by_tokens
from seq2seq.data.beginnings import segment_beginnings
from seq2seq.data.copy_ids import SourceCopies, extended_target_ids, source_copies
from seq2seq.data.limits import STANDARD_LIMIT, LengthLimit
from seq2seq.data.notices import Notices
from seq2seq.data.splitting import split_text
from seq2seq.files import expand_home
from seq2seq.model_dir import Tokenizers
from seq2seq.search.beam import Hypothesis, SearchOptions, beam_search
from seq2seq.search.penalties import Penalties
from seq2seq.searchable import Provenance, Searchable, copied_positions
from seq2seq.text.tags import add_tag, check_tag, split_tag
from seq2seq.text.tokenizer import BOS, EOS, PAD, Segments
from seq2seq.text.words import join_texts

log = logging.getLogger(__name__)

_MAX_PIECES = 2**19  # source pieces in memory at once; each takes about 250 bytes
MAX_SCORED_PIECES = 2**16  # of a target whose probability is asked for
_MAX_SCORES = 2**25  # sentences * beams * vocabulary searched at once: each copy of the scores takes 128 MiB


@dataclass
class CopiedFrom:
    """The source piece that a target piece was copied from."""

    source_piece: int  # its number, from 0
    start: int  # index of its first character in the line, from 0
    end: int  # index after its last character


class _Source(NamedTuple):
    """A line, or a part of a line, converted to ids."""

    row: int  # of the line, from 0
    ids: list[int]
    pieces: list[str]
    spans: list[tuple[int, int]]
    copy_ids: list[int]  # empty if the model does not copy
    oov: list[str]  # pieces outside the target vocabulary
    status: str  # ok, source_cut or source_split


@dataclass
class Translation:
    """One translation of a line. Log-probabilities are natural logarithms; lists have one entry per target piece.

    ``token_log_probs`` has one more entry than ``pieces``, for the end of the sentence (of each part if the line was
    split). ``alignment`` gives for each piece the number, from 0, of the source piece with the largest attention weight;
    it is empty if the model has no attention. The last three are empty if the model does not copy.

    ``status``: ok; empty (blank line, not translated); source_cut or source_split (the source was longer than the model's
    limit, so the rest was dropped, or the parts were translated one by one); max_length (the maximum length ended the
    translation).
    """

    translation: str
    score: float = 0.0
    log_prob: float = 0.0
    token_log_probs: list[float] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)
    source_pieces: list[str] = field(default_factory=list)
    alignment: list[int] = field(default_factory=list)
    status: str = "ok"
    p_gen: list[float] = field(default_factory=list)  # probability of generating instead of copying
    copied_from: list[CopiedFrom | None] = field(default_factory=list)  # None: mostly generated
    copied_share: float | None = None  # share of copied pieces, 0 to 1

    def as_dict(self) -> dict[str, Any]:
        """Convert to plain values, for JSON."""
        return asdict(self)


class Translator:
    """Translates lines with a model, its tokenizers and its search settings.

    >>> Translator.load("runs/mine").translate(["A man sleeps."])  # doctest: +SKIP
    ['Un homme dort.']

    Args:
        length_limit: the limit of the length of a translation that was learned in training; None: 2 * source + 10.
        warns: whether the first three lines that are too long are named in the log.
        tag: the tag before every source, see ``with_tag``; empty: none is added.

    Attributes:
        notices: counts of the lines translated so far, and of those that were cut.
    """

    def __init__(
        self,
        model: Searchable[Any],
        tokenizers: Tokenizers,
        search: SearchConfig,
        *,
        length_limit: LengthLimit | None = None,
        warns: bool = True,
        tag: str = "",
    ) -> None:
        self.model = model
        self.tokenizers = tokenizers
        self.search_config = search
        self.length_limit = length_limit
        self.warns = warns
        self.tag = tag
        self.notices = Notices()
        self._settings: model_dir.Settings | None = None  # those of the model that was loaded
        check_search(search, has_attention=model.has_attention)

    @classmethod
    def load(cls, path: str | Path, *, device: str | torch.device = "auto") -> Translator:
        """Load a model directory, a run directory, or a model of the hub.

        Loading executes nothing of the model and reads nothing outside its directory.

        >>> Translator.load("hf:user/name@revision")  # doctest: +SKIP

        Args:
            path: a directory; or ``hf:user/name`` or ``hf:user/name@revision`` (a branch, tag or commit).
            device: auto (a GPU if there is one), cpu, cuda, cuda:N, or a torch.device.
        """
        model, settings, tokenizers = model_dir.load(path, find_device(device))
        translator = cls(model, tokenizers, settings.search, length_limit=settings.length_limit)
        translator._settings = settings
        return translator

    def save(self, folder: str | Path) -> None:
        """Save the model with its tokenizers and the present search settings as a model directory, without a tag.

        Raises:
            ValueError: the translator was not loaded from one model, or the directory can't be written.
        """
        if self._settings is None:
            raise ValueError(
                "save requires a translator that Translator.load made, because it saves the settings of its model"
            )
        folder = expand_home(folder)
        try:
            model_dir.save_settings(folder, self._settings._replace(search=self.search_config), self.tokenizers)
            model_dir.save_weights(folder, self.model)
        except OSError as error:
            raise ValueError(f"{error.filename} can't be written: {error.strerror}; save to another folder") from error

    def with_search(self, **changes: Any) -> Translator:
        """Copy the translator with other search settings; model and tokenizers are the same objects.

        >>> Translator.load("runs/mine").with_search(beam_size=1, length_penalty=0.6)  # doctest: +SKIP

        Args:
            changes: settings of ``SearchConfig``; None leaves a setting unchanged.

        Raises:
            ValueError: an unknown setting or a value out of range.
        """
        changed = asdict(self.search_config) | {name: value for name, value in changes.items() if value is not None}
        search = from_container(SearchConfig, changed, "search.")
        return self._copy(search, self.tag)

    def with_tag(self, tag: str) -> Translator:
        """Copy the translator with a tag before every source; model and tokenizers are the same objects.

        >>> Translator.load("runs/mine").with_tag("de").translate(["A man sleeps."])  # doctest: +SKIP

        Args:
            tag: one of ``tokenizers.src.tags``, the tags of the training data.

        Raises:
            ValueError: the model does not know the tag.
        """
        check_tag(tag, self.tokenizers.src.tags, setting="the tag")
        return self._copy(self.search_config, tag)

    def _copy(self, search: SearchConfig, tag: str) -> Translator:
        limit, warns = self.length_limit, self.warns
        copy = Translator(self.model, self.tokenizers, search, length_limit=limit, warns=warns, tag=tag)
        copy._settings = self._settings
        return copy

    def translate(self, lines: Iterable[str], *, first_line: int = 1) -> list[str]:
        """Translate lines; a blank line gives an empty line.

        Args:
            first_line: number of the first line, for messages.

        Raises:
            ValueError: ``lines`` is a single text, or a line is not a text.
        """
        lines = as_texts(lines, "the lines", first_line)
        parts: list[list[str]] = [[] for _ in lines]
        translated: set[int] = set()
        cut_lines: set[int] = set()
        for sources in self._read_groups(lines, first_line):
            texts = [""] * len(sources)
            for rows in self._batches(sources):
                batch = [sources[row] for row in rows]
                with self.model.evaluating():
                    found = self._search_batch(batch)
                for row, source, hypotheses in zip(rows, batch, found, strict=True):
                    texts[row] = self.tokenizers.tgt.decode(hypotheses[0].ids, source.oov)
                    if hypotheses[0].cut:
                        cut_lines.add(source.row)
            translated |= {source.row for source in sources if source.ids}
            for source, text in zip(sources, texts, strict=True):
                parts[source.row].append(text)
        self._count(translated, cut_lines)
        return [join_texts(some) for some in parts]

    def search(self, lines: Iterable[str], *, n_best: int = 1, first_line: int = 1) -> list[list[Translation]]:
        """Find the best translations of every line.

        Args:
            n_best: translations per line, at most ``search.beam_size``. A line may get fewer, with a warning, if the
                search finds no more. The i-th translation of a split line joins the i-th of each part.
            first_line: number of the first line, for messages.

        Raises:
            ValueError: ``n_best`` is out of range, ``lines`` is a single text, or a line is not a text.
        """
        self.check_n_best(n_best)
        lines = as_texts(lines, "the lines", first_line)
        found_by_line: list[list[list[Translation]]] = [[] for _ in lines]  # the best ones of each part
        for sources in self._read_groups(lines, first_line):
            found_by_row: dict[int, list[Translation]] = {}
            for rows in self._batches(sources):
                batch = [sources[row] for row in rows]
                with self.model.evaluating():
                    found = [hypotheses[:n_best] for hypotheses in self._search_batch(batch)]
                    found_by_row |= zip(rows, self._explain(batch, found), strict=True)
            for row in sorted(found_by_row):
                found_by_line[sources[row].row].append(found_by_row[row])
        results: list[list[Translation]] = [[Translation("", status="empty")] for _ in lines]
        for row, parts in enumerate(found_by_line):
            if not parts:
                continue
            results[row] = [_merge(ranked, self.search_config.length_penalty) for ranked in zip(*parts, strict=False)]
            if len(results[row]) < n_best:
                self.notices.warn(
                    f"line {first_line + row}: {len(results[row])} translations instead of {n_best}",
                    summary=f"have fewer than {n_best} translations",
                )
        translated = {row for row, best in enumerate(results) if best[0].status != "empty"}
        self._count(translated, {row for row in translated if results[row][0].status == "max_length"})
        return results

    def _count(self, translated: set[int], cut: set[int]) -> None:
        """Count lines that were translated, and those whose translation was cut at the maximum length."""
        self.notices.translated += len(translated)
        self.notices.cut += len(cut)

    def log_notices(self, *, advice: str = "raise it with --max-length-ratio") -> None:
        """Log, after the last line, how many lines and translations were cut.

        Args:
            advice: how to raise the maximum length.
        """
        for line in self.notices.lines(advice=advice):
            log.warning("%s", line)

    def check_n_best(self, n_best: int) -> None:
        """Check that ``n_best`` is at most the beam size.

        Raises:
            ValueError: it is not.
        """
        if not 1 <= n_best <= self.search_config.beam_size:
            raise ValueError(
                f"n-best must be from 1 to the beam size, which is {self.search_config.beam_size}, but is {n_best}; "
                "set the beam size higher"
            )

    def score(self, src: Iterable[str], tgt: Iterable[str]) -> list[list[float]]:
        """Return the natural log-probability of every target piece and of the end of the sentence, one list per line.

        Long sources are cut, targets never; a blank line is a sentence without pieces.

        Raises:
            ValueError: the numbers of lines differ, a line is not a text, or a target has more than 65,536 pieces.
        """
        src, tgt = as_texts(src, "the source lines"), as_texts(tgt, "the target lines")
        if len(src) != len(tgt):
            raise ValueError(
                f"there are {len(src)} source lines but {len(tgt)} target lines; they must match line by line"
            )
        pairs = zip(self._read(src, 1, "cut"), self._read_targets(tgt), strict=True)
        groups = group_by_size(pairs, lambda pair: len(pair[0].ids) + len(pair[1].ids), _MAX_PIECES)
        return [log_probs for group in groups for log_probs in self._score_group(group)]

    def _read_targets(self, lines: Sequence[str]) -> Iterator[Segments]:
        """Segment target lines into pieces."""
        for number, (segments, length, exact) in enumerate(
            segment_beginnings(self.tokenizers.tgt, lines, MAX_SCORED_PIECES), start=1
        ):
            if length > MAX_SCORED_PIECES:
                raise ValueError(
                    f"a target line must have at most {MAX_SCORED_PIECES:,} pieces, but line {number} has "
                    f"{'' if exact else 'at least '}{length:,}; split it into several lines"
                )
            yield segments

    def _score_group(self, pairs: Sequence[tuple[_Source, Segments]]) -> list[list[float]]:
        """Score targets given their sources; see ``score``."""
        sources = [source for source, _ in pairs]
        targets = [extended_target_ids(target, source.oov, self.tokenizers.tgt) for source, target in pairs]
        lengths = np.array([max(len(s.ids), len(t)) + 1 for s, t in zip(sources, targets, strict=True)])
        results: list[list[float]] = [[] for _ in sources]
        order = np.argsort(lengths, kind="stable")
        for rows in split_by_tokens(order, lengths, self.search_config.batch_tokens):
            batch = self._collate([sources[row] for row in rows], [targets[row] for row in rows])
            with self.model.evaluating():
                log_probs = iter(self.model.log_probs(batch).tolist())
            for row in rows:
                results[row] = [next(log_probs) for _ in range(len(targets[row]) + 1)]
        return results

    def pair_batch(self, src: str, tgt: str) -> Batch:
        """Make a batch of one source and its target; a source longer than the model's limit is cut."""
        (source,) = self._read(as_texts([src], "the source text"), 1, "cut")
        (segments,) = self.tokenizers.tgt.segment([tgt])
        return self._collate([source], [extended_target_ids(segments, source.oov, self.tokenizers.tgt)])

    def trace(self, line: str, target: str | None = None) -> tuple[Translation, Provenance]:
        """Find the origin of each piece of a line's translation, or of a given target.

        A source longer than the model's limit is cut. A given target gets the score that the search would give it.

        Returns:
            The translation; and the provenance of its pieces and of the end of the sentence (T) over the source pieces
            and their end of sentence (S), on the CPU.

        Raises:
            ValueError: the line is blank, or the model has no attention.
        """
        if not self.model.has_attention:
            raise ValueError(
                "the model has no attention (model.attention is none), so there are no attention weights to show; "
                "choose a model trained with another model.attention, for example additive"
            )
        (source,) = self._read(as_texts([line], "the source text"), 1, "cut")
        if not source.ids:
            raise ValueError("the source text is blank; give it at least one word")
        with self.model.evaluating():
            best = self._search_batch([source])[0][0] if target is None else self._forced(source, target)
            provenance = self.model.provenance(self._collate([source], [best.ids[:-1]]))
        provenance = Provenance(*(tensor.cpu() for tensor in provenance))
        return self._translation(source, best, provenance), provenance

    def _forced(self, source: _Source, target: str) -> Hypothesis:
        """Score a target as if the search had found it."""
        (segments,) = self.tokenizers.tgt.segment([target])
        ids = extended_target_ids(segments, source.oov, self.tokenizers.tgt)
        batch = self._collate([source], [ids])
        log_probs = self.model.log_probs(batch)
        log_prob, config = float(log_probs.double().sum()), self.search_config
        score = log_prob / (len(ids) + 1) ** config.length_penalty
        if penalties := Penalties(config.coverage_penalty, config.summary_penalty):
            attended = self.model.provenance(batch).weights.sum(dim=0, keepdim=True)  # (1, S)
            inside = torch.arange(attended.shape[1], device=attended.device) < len(source.ids)
            score -= float(penalties(attended, inside.unsqueeze(0)))
        return Hypothesis([*ids, EOS], log_prob, score, log_probs.tolist(), cut=False)

    def max_length(self, source_length: int) -> int:
        """Return the maximum length of a translation, in pieces with the end of sentence.

        It is ``max_length_ratio * source_length + max_length_extra`` if one of these search settings is given, and
        otherwise the limit that was learned in training. Models of older versions have the limit 2 * source_length + 10.
        """
        ratio, extra = self.search_config.max_length_ratio, self.search_config.max_length_extra
        limit = self.length_limit or STANDARD_LIMIT
        if ratio is not None or extra is not None:
            limit = LengthLimit(
                STANDARD_LIMIT.ratio if ratio is None else ratio, STANDARD_LIMIT.extra if extra is None else extra
            )
        return limit.max_length(source_length)

    def _read_groups(self, lines: Sequence[str], first_line: int) -> Iterator[list[_Source]]:
        """Segment lines, and group them and their parts so that the pieces in memory are bounded."""
        sources = self._read(lines, first_line, self.search_config.too_long)
        return group_by_size(sources, lambda source: len(source.ids), _MAX_PIECES)

    def _read(self, lines: Sequence[str], first_line: int, too_long: str) -> Iterator[_Source]:
        """Segment lines into pieces; cut or split lines that are too long, and warn about them."""
        most = self.model.max_source_length
        tagged = [add_tag(self.tag, line) for line in lines]
        for row, (segments, length, exact) in enumerate(segment_beginnings(self.tokenizers.src, tagged, most)):
            tag, rest = split_tag(segments, self.tokenizers.src, added=self.tag)
            if rest.ids and self.tokenizers.src.tags and not tag.ids:
                self._warn_of_missing_tag(first_line + row)
            if length <= most:
                yield self._source(row, tag, rest, "ok")
                continue
            number, done = str(length) if exact else f"at least {length}", "is cut to"
            if too_long == "cut":
                yield self._source(row, tag, rest, "source_cut")
            else:
                pieces = parts = 0
                for part in self._split(lines[row], tag, most):
                    yield self._source(row, tag, part, "source_split")
                    pieces, parts = pieces + len(part.ids), parts + 1
                number, done = str(pieces + len(tag.ids)), f"is split into {parts} parts of at most"
            limit = f"{most}, the model's data.max_source_length"
            self.notices.warn(
                f"line {first_line + row} has {number} pieces and {done} {limit}",
                summary=f"are too long; each is {'cut to' if too_long == 'cut' else 'split into parts of at most'} {limit}",
                shown=self.warns,
            )

    def _split(self, line: str, tag: Segments, most: int) -> Iterator[Segments]:
        """Split a long line into parts that fit after its tag; the spans are those of the line."""
        written = 0 if self.tag or not tag.ids else len(tag.pieces[0]) + 1  # characters of a tag that the line holds
        for ids, pieces, spans in split_text(self.tokenizers.src, line[written:], max(most - len(tag.ids), 1)):
            yield Segments(ids, pieces, [(start + written, end + written) for start, end in spans])

    def _source(self, row: int, tag: Segments, rest: Segments, status: str) -> _Source:
        """Convert the pieces of a line, or of a part of it, and of the tag before it."""
        ids, pieces, spans = tag.ids + rest.ids, tag.pieces + rest.pieces, tag.spans + rest.spans
        copied = source_copies(pieces, self.tokenizers.tgt) if self.model.copies else SourceCopies([], [])
        return _Source(row, ids, pieces, spans, *copied, status=status)

    def _warn_of_missing_tag(self, number: int) -> None:
        tags = ", ".join(self.tokenizers.src.tags)
        self.notices.warn(
            f"line {number} has no tag, but the model was trained with the tags {tags}; give one of them with --tag",
            summary=f"have no tag, but the model was trained with the tags {tags}",
            shown=self.warns,
        )

    def _batches(self, sources: list[_Source]) -> list[list[int]]:
        """Group the rows that are not blank into batches of similar length."""
        lengths = np.array([len(source.ids) + 1 for source in sources])
        order = np.argsort(-lengths, kind="stable")
        order = order[lengths[order] > 1]
        if not len(order):
            return []
        most = max(_MAX_SCORES // (self.search_config.beam_size * self.tokenizers.tgt.size), 1)
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
        options = SearchOptions(
            bos_id=BOS,
            eos_id=EOS,
            beam_size=config.beam_size,
            length_penalty=config.length_penalty,
            min_length=config.min_length,
            penalties=penalties,
            never_id=self.model.never_id,
        )
        max_lengths = [self.max_length(len(source.ids)) for source in sources]
        return beam_search(self.model.step, self.model.encode(batch), max_lengths, options)

    def _explain(self, sources: Sequence[_Source], found: Sequence[list[Hypothesis]]) -> list[list[Translation]]:
        """Make translations of hypotheses; the model is unrolled over them once more for attention and copying."""
        pairs = [(source, best) for source, hypotheses in zip(sources, found, strict=True) for best in hypotheses]
        translations = []
        for first in range(0, len(pairs), len(sources)):  # batches no larger than those of the search
            some = pairs[first : first + len(sources)]
            batch = self._collate([source for source, _ in some], [best.ids[:-1] for _, best in some])
            provenance = self.model.provenance(batch)
            parts = [tensor.cpu().split([len(best.ids) for _, best in some]) for tensor in provenance]
            for (source, best), *tensors in zip(some, *parts, strict=True):
                translations.append(self._translation(source, best, Provenance(*tensors)))
        ranked = iter(translations)
        return [[next(ranked) for _ in hypotheses] for hypotheses in found]

    def _translation(self, source: _Source, best: Hypothesis, provenance: Provenance) -> Translation:
        ids = best.ids[:-1]
        inside = len(source.ids)  # followed by the end of sentence
        translation = Translation(
            translation=self.tokenizers.tgt.decode(ids, source.oov),
            score=best.score,
            log_prob=best.log_prob,
            token_log_probs=best.token_log_probs,
            pieces=self.tokenizers.tgt.pieces(ids, source.oov),
            source_pieces=source.pieces,
            status="max_length" if best.cut else source.status,
        )
        if self.model.has_attention:
            translation.alignment = provenance.weights[:-1, :inside].argmax(dim=1).tolist()
        if self.model.copies:
            translation.p_gen = provenance.p_gen[:-1].tolist()
            translation.copied_from = [
                None if place is None else CopiedFrom(place, *source.spans[place])
                for place in copied_positions(provenance.copied[:-1, :inside])
            ]
            translation.copied_share = sum(place is not None for place in translation.copied_from) / max(len(ids), 1)
        return translation


def _merge(parts: Sequence[Translation], length_penalty: float) -> Translation:
    """Join the translations of a line's parts."""
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
        offset = len(merged.source_pieces)
        merged.alignment += [offset + place for place in part.alignment]
        merged.copied_from += [
            place and CopiedFrom(offset + place.source_piece, place.start, place.end) for place in part.copied_from
        ]
        for name in ("token_log_probs", "pieces", "source_pieces", "p_gen"):
            getattr(merged, name).extend(getattr(part, name))
    if parts[0].copied_share is not None:
        merged.copied_share = sum(place is not None for place in merged.copied_from) / max(len(merged.pieces), 1)
    return merged


def as_texts(texts: Iterable[str], name: str, first: int = 1) -> list[str]:
    """Return texts as a list.

    Args:
        name: what the texts are, for messages.
        first: number of the first one, for messages.

    Raises:
        ValueError: ``texts`` is a single text or not iterable, or one of them is not a string.
    """
    if isinstance(texts, str | bytes):
        raise ValueError(f"{name} must be a list of texts, but are one text; put the text into a list")
    if not isinstance(texts, Iterable):
        raise ValueError(f"{name} must be a list of texts, but are of type {type(texts).__name__}")
    found = list(texts)
    for number, text in enumerate(found, start=first):
        if not isinstance(text, str):
            raise ValueError(f"{name} must be of type str, but number {number} is of type {type(text).__name__}")
    return found


def find_device(name: str | torch.device) -> torch.device:
    """Return the device of that name; ``auto`` is the GPU if there is one.

    Args:
        name: auto, cpu, cuda, cuda:N, or a torch.device of one of these types.

    Raises:
        ValueError: an unknown name, or a GPU that does not exist.
    """
    if isinstance(name, str) and name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name) if isinstance(name, str | torch.device) else None
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise ValueError(f"the device must be one of auto, cpu, cuda and cuda:N, but is {name}")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"the device is {name}, but torch finds no GPU here; choose cpu or auto")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"the device is {name}, but the last GPU is cuda:{torch.cuda.device_count() - 1}")
    return device
