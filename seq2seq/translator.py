"""Translates lines: encodes them, batches them by length, searches, decodes, and restores their order."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from seq2seq import model_dir, shortlist
from seq2seq.config import SearchConfig, changed_search, check_search
from seq2seq.data.batching import Batch, collate, group_by_size, split_by_tokens
from seq2seq.data.beginnings import segment_beginnings
from seq2seq.data.copy_ids import SourceCopies, extended_target_ids, source_copies
from seq2seq.data.limits import STANDARD_LIMIT, LengthLimit
from seq2seq.data.line_terms import LineTerms, SourceIds, TermResult, make_line_terms
from seq2seq.data.notices import Notices
from seq2seq.data.segments import sentence_numbers
from seq2seq.data.splitting import split_text
from seq2seq.data.terms import MaskedLine, SourceTerm, TermFinder, known_placeholders, mask_line
from seq2seq.data.uniforms import LinePart, uniform_numbers
from seq2seq.ensemble import load_models
from seq2seq.files import expand_home
from seq2seq.metrics.utility import mean_utilities
from seq2seq.model_dir import Tokenizers
from seq2seq.search.beam import Hypothesis, SearchOptions, beam_search
from seq2seq.search.constraints import Constraint, Forbidden, NoRepeatNgram, RepetitionPenalty
from seq2seq.search.penalties import Penalties
from seq2seq.search.required import extra_slots
from seq2seq.search.sample import Truncation, sample
from seq2seq.searchable import Provenance, Searchable, copied_positions
from seq2seq.shortlist import Shortlist
from seq2seq.text.tags import add_tag, check_tag, split_tag
from seq2seq.text.tokenizer import BOS, EOS, PAD, UNK, Segments, Tokenizer
from seq2seq.text.words import join_texts

log = logging.getLogger(__name__)

_MAX_PIECES = 2**19  # source pieces in memory at once; each takes about 250 bytes
MAX_SCORED_PIECES = 2**16  # of a target whose probability is asked for
UNCOVERED = 0.2  # a source piece with less attention, summed over all target pieces, is reported as uncovered
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
    segments: list[int]  # the sentence of each piece
    copy_ids: list[int]  # empty if the model does not copy
    oov: list[str]  # pieces outside the target vocabulary
    status: str  # ok, source_cut or source_split
    place: LinePart  # the number of the line, and of its part
    prefix: Sequence[int] = ()  # target ids that are forced
    terms: LineTerms | None = None  # that the translation must have


@dataclass
class Translation:
    """One translation of a line. Log-probabilities are natural logarithms; lists have one entry per target piece.

    ``token_log_probs`` has one more entry than ``pieces``, for the end of the sentence (of each part if the line was
    split). ``alignment`` gives for each piece the number, from 0, of the source piece with the largest attention weight;
    it is empty if the model has no attention, like ``coverage`` and ``uncovered``. ``p_gen``, ``copied_from`` and
    ``copied_share`` are empty if the model does not copy.

    A source piece without attention need not be missing in the translation: it is often a word that the target language
    does not have. In 60 German translations of Multi30k, 6 % of the source pieces are uncovered, most of them articles,
    auxiliary verbs and "of".

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
    forced_pieces: int = 0  # number of the first pieces that a target prefix forced
    utility: float | None = None  # with search.mbr: the mean chrF or BLEU against the other hypotheses
    coverage: list[float] = field(default_factory=list)  # attention to each source piece, summed over the target
    uncovered: list[list[int]] = field(default_factory=list)  # start and end in the line of pieces below ``UNCOVERED``
    limits: list[str] = field(default_factory=list)  # limits that were hit: max_source_length, max_length
    terms: list[TermResult] = field(default_factory=list)  # in the order of the source

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
        terms: finds the terms that translations must have, see ``with_terms``.

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
        terms: TermFinder = TermFinder({}),  # noqa: B008, it is never changed
    ) -> None:
        self.model = model
        self.tokenizers = tokenizers
        self.search_config = search
        self.length_limit = length_limit
        self.warns = warns
        self.tag = tag
        self.terms = terms
        self.notices = Notices()
        self._settings: model_dir.Settings | None = None  # those of the model that was loaded
        self._path: str | Path | None = None  # of the first model that was loaded
        self._shortlist: Shortlist | None = None
        check_search(search, has_attention=model.has_attention)
        if terms and search.samples:
            raise ValueError(
                "a glossary and kept spans require beam search, but search.samples is "
                f"{search.samples}; translate without sampling"
            )
        self._placeholders = known_placeholders(tokenizers.src, tokenizers.tgt) if terms.keep else []
        self._constraints = make_constraints(search, tokenizers.tgt)

    @classmethod
    def load(
        cls,
        path: str | Path | Iterable[str | Path],
        *,
        device: str | torch.device = "auto",
        weights: Sequence[float] | None = None,
        mixture: str = "log-linear",
    ) -> Translator:
        """Load a model directory, a run directory or a model of the hub, or several of them as an ensemble.

        Loading executes nothing of the model and reads nothing outside its directory.

        >>> Translator.load("hf:user/name@revision")  # doctest: +SKIP
        >>> Translator.load(["runs/one", "runs/two"], weights=[2, 1])  # doctest: +SKIP

        Args:
            path: a directory, or ``hf:user/name`` or ``hf:user/name@revision`` (a branch, tag or commit). The models of an
                ensemble must have the same tokenizers; the search settings are those of the first one.
            device: auto (a GPU if there is one), cpu, cuda, cuda:N, or a torch.device.
            weights: the weight of each model; None: equal weights.
            mixture: log-linear or linear, see ``seq2seq.ensemble``.
        """
        paths = [path] if isinstance(path, str | Path) else list(path)
        model, settings, tokenizers = load_models(paths, find_device(device), weights=weights, mixture=mixture)
        translator = cls(model, tokenizers, settings.search, length_limit=settings.length_limit)
        translator._settings = settings if len(paths) == 1 else None
        translator._read_shortlist(paths[0])
        return translator

    def save(self, folder: str | Path) -> None:
        """Save the model with its tokenizers and the present search settings as a model directory, without a tag.

        Raises:
            ValueError: the translator was not loaded from one model, or the directory can't be written.
        """
        if self._settings is None:
            raise ValueError(
                "save requires a translator that Translator.load made from one model, because it saves the settings of its "
                "model"
            )
        folder = expand_home(folder)
        try:
            model_dir.save_settings(folder, self._settings._replace(search=self.search_config), self.tokenizers)
            model_dir.save_weights(folder, self.model)
            if self._shortlist is not None:
                shortlist.save(self._shortlist, folder, self.tokenizers)
        except OSError as error:
            raise ValueError(f"{error.filename} can't be written: {error.strerror}; save to another folder") from error

    def with_search(self, **changes: Any) -> Translator:
        """Copy the translator with other search settings; model and tokenizers are the same objects.

        >>> Translator.load("runs/mine").with_search(beam_size=1, length_penalty=0.6)  # doctest: +SKIP

        Args:
            changes: settings of ``SearchConfig``; None leaves a setting unchanged. A number of ``samples`` also changes
                the other settings of beam search or sampling to their defaults.

        Raises:
            ValueError: an unknown setting, a value out of range, or settings that contradict each other.
        """
        return self._copy(search=changed_search(self.search_config, changes))

    def with_tag(self, tag: str) -> Translator:
        """Copy the translator with a tag before every source; model and tokenizers are the same objects.

        >>> Translator.load("runs/mine").with_tag("de").translate(["A man sleeps."])  # doctest: +SKIP

        Args:
            tag: one of ``tokenizers.src.tags``, the tags of the training data.

        Raises:
            ValueError: the model does not know the tag.
        """
        check_tag(tag, self.tokenizers.src.tags, setting="the tag")
        return self._copy(tag=tag)

    def with_terms(self, glossary: Mapping[str, Sequence[str]] | None = None, keep: Sequence[str] = ()) -> Translator:
        """Copy the translator with terms that translations must have; model and tokenizers are the same objects.

        Where a source term occurs in a line, its translation has one of the target terms; where a kept span occurs, the
        translation has the same characters, exactly as often. A term that a translation lacks, because it does not fit into
        the maximum length or cannot be spelled, is reported in ``Translation.terms`` and in the log.

        >>> Translator.load("runs/mine").with_terms({"dog": ["chien"]}, ["urls", "[A-Z]+-[0-9]+"])  # doctest: +SKIP

        Args:
            glossary: the target terms of each source term.
            keep: urls, emails, tags, numbers, and regular expressions.

        Raises:
            ValueError: an invalid regular expression, or the translator draws samples.
        """
        return self._copy(terms=TermFinder(glossary or {}, keep))

    def _copy(
        self, *, search: SearchConfig | None = None, tag: str | None = None, terms: TermFinder | None = None
    ) -> Translator:
        copy = Translator(
            self.model,
            self.tokenizers,
            self.search_config if search is None else search,
            length_limit=self.length_limit,
            warns=self.warns,
            tag=self.tag if tag is None else tag,
            terms=self.terms if terms is None else terms,
        )
        copy._settings, copy._shortlist = self._settings, self._shortlist
        copy._read_shortlist(self._path)
        return copy

    def _read_shortlist(self, path: str | Path | None) -> None:
        """Read the shortlist of the model at a path if the search needs it."""
        self._path = path
        if self.search_config.shortlist and self._shortlist is None:
            if path is None:
                raise ValueError(
                    f"search.shortlist={self.search_config.shortlist} requires a translator that Translator.load made; "
                    "set it to 0"
                )
            self._shortlist = shortlist.load(path, self.tokenizers)

    def translate(
        self, lines: Iterable[str], *, prefixes: Iterable[str] | None = None, first_line: int = 1
    ) -> list[str]:
        """Translate lines; a blank line gives an empty line.

        Args:
            prefixes: the beginning of the translation of each line, see ``search``.
            first_line: number of the first line, for messages and for sampling.

        Raises:
            ValueError: ``lines`` is a single text, or a line is not a text.
        """
        lines = as_texts(lines, "the lines", first_line)
        parts: list[list[str]] = [[] for _ in lines]
        translated: set[int] = set()
        cut_lines: set[int] = set()
        for sources in self._read_groups(lines, first_line, prefixes):
            texts = [""] * len(sources)
            for rows in self._batches(sources):
                batch = [sources[row] for row in rows]
                with self.model.evaluating():
                    found = self._search_batch(batch)
                for row, source, hypotheses in zip(rows, batch, found, strict=True):
                    texts[row] = self._decode(source, hypotheses[0].ids)
                    self._warn_of_terms(source, hypotheses[0].ids)
                    if hypotheses[0].cut:
                        cut_lines.add(source.row)
            translated |= {source.row for source in sources if source.ids}
            for source, text in zip(sources, texts, strict=True):
                parts[source.row].append(text)
        self._count(translated, cut_lines)
        return [join_texts(some) for some in parts]

    def search(
        self,
        lines: Iterable[str],
        *,
        n_best: int = 1,
        prefixes: Iterable[str] | None = None,
        first_line: int = 1,
    ) -> list[list[Translation]]:
        """Find the best translations of every line.

        Args:
            n_best: translations per line, at most ``search.beam_size`` or ``search.samples``. A line may get fewer, with
                a warning, if the search finds no more. The i-th translation of a split line joins the i-th of each part.
            prefixes: the beginning of the translation of each line; empty: none. The pieces of this text are forced, and
                the next piece may go on with its last word. If the line is split, it is that of the first part.
            first_line: number of the first line, for messages and for sampling, whose numbers depend on it.

        Raises:
            ValueError: ``n_best`` is out of range, ``lines`` is a single text, a line is not a text, or the number of
                prefixes differs.
        """
        self.check_n_best(n_best)
        lines = as_texts(lines, "the lines", first_line)
        found_by_line: list[list[list[Translation]]] = [[] for _ in lines]  # the best ones of each part
        for sources in self._read_groups(lines, first_line, prefixes):
            found_by_row: dict[int, list[Translation]] = {}
            for rows in self._batches(sources):
                batch = [sources[row] for row in rows]
                with self.model.evaluating():
                    found = [hypotheses[:n_best] for hypotheses in self._search_batch(batch)]
                    for source, hypotheses in zip(batch, found, strict=True):
                        self._warn_of_terms(source, hypotheses[0].ids)
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
        """Check that ``n_best`` is at most the beam size or the number of samples.

        Raises:
            ValueError: it is not.
        """
        if not 1 <= n_best <= self.num_hypotheses:
            what = "number of samples" if self.search_config.samples else "beam size"
            raise ValueError(
                f"n-best must be from 1 to the {what}, which is {self.num_hypotheses}, but is {n_best}; set the {what} higher"
            )

    @property
    def num_hypotheses(self) -> int:
        """The number of hypotheses that the search finds for a source, of which n-best are returned."""
        return self.search_config.samples or self.search_config.beam_size

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

    def rescore(self, src: Iterable[str], translations: Iterable[Sequence[str]]) -> list[list[Translation]]:
        """Score several given translations of every line as if the search had found them.

        Long sources are cut. The translations of a blank line are not scored and have the status empty.

        Args:
            src: the source lines.
            translations: the translations of each line.

        Returns:
            The translations with their scores, in the given order.

        Raises:
            ValueError: the numbers of lines differ, or see ``score``.
        """
        src, lists = as_texts(src, "the source lines"), [as_texts(some, "the translations") for some in translations]
        if len(src) != len(lists):
            raise ValueError(
                f"there are {len(src)} source lines but {len(lists)} lists of translations; they must match line by line"
            )
        sources = list(self._read(src, 1, "cut"))
        filled = [(source, texts) for source, texts in zip(sources, lists, strict=True) if source.ids]
        targets = self._read_targets([text for _, texts in filled for text in texts])
        pairs = zip((source for source, texts in filled for _ in texts), targets, strict=True)
        groups = group_by_size(pairs, lambda pair: len(pair[0].ids) + len(pair[1].ids), _MAX_PIECES)
        scored = iter([translation for group in groups for translation in self._rescore_group(group)])
        return [
            [
                replace(next(scored), translation=text) if source.ids else Translation(text, status="empty")
                for text in texts
            ]
            for source, texts in zip(sources, lists, strict=True)
        ]

    def _rescore_group(self, pairs: Sequence[tuple[_Source, Segments]]) -> list[Translation]:
        """Score targets given their sources; see ``rescore``."""
        results: dict[int, Translation] = {}
        for rows, sources, targets in self._target_batches(pairs):
            with self.model.evaluating():
                forced = self._forced(sources, targets)
            for row, source, (best, provenance) in zip(rows, sources, forced, strict=True):
                results[row] = self._translation(source, best, provenance)
        return [results[row] for row in range(len(pairs))]

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
        results: list[list[float]] = [[] for _ in pairs]
        for rows, sources, targets in self._target_batches(pairs):
            with self.model.evaluating():
                log_probs = iter(self.model.log_probs(self._collate(sources, targets)).tolist())
            for row, target in zip(rows, targets, strict=True):
                results[row] = [next(log_probs) for _ in range(len(target) + 1)]
        return results

    def _target_batches(
        self, pairs: Sequence[tuple[_Source, Segments]]
    ) -> Iterator[tuple[list[int], list[_Source], list[list[int]]]]:
        """Yield batches of pairs of similar length: their row numbers, sources and target ids."""
        targets = [extended_target_ids(target, source.oov, self.tokenizers.tgt) for source, target in pairs]
        lengths = np.array([max(len(s.ids), len(t)) + 1 for (s, _), t in zip(pairs, targets, strict=True)])
        order = np.argsort(lengths, kind="stable")
        for rows in split_by_tokens(order, lengths, self.search_config.batch_tokens):
            yield rows.tolist(), [pairs[row][0] for row in rows], [targets[row] for row in rows]

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
            if target is None:
                best = self._search_batch([source])[0][0]
                provenance = self.model.provenance(self._collate([source], [best.ids[:-1]]))
            else:
                (segments,) = self.tokenizers.tgt.segment([target])
                ids = extended_target_ids(segments, source.oov, self.tokenizers.tgt)
                ((best, provenance),) = self._forced([source], [ids])
        provenance = Provenance(*(tensor.cpu() for tensor in provenance))
        return self._translation(source, best, provenance), provenance

    def _forced(self, sources: Sequence[_Source], targets: Sequence[list[int]]) -> list[tuple[Hypothesis, Provenance]]:
        """Score targets in one batch as if the search had found them."""
        batch, sizes = self._collate(sources, targets), [len(ids) + 1 for ids in targets]
        parts = [tensor.cpu().split(sizes) for tensor in self.model.provenance(batch)]
        config = self.search_config
        penalties = Penalties(config.coverage_penalty, config.summary_penalty)
        results = []
        for source, ids, log_probs, *tensors in zip(
            sources, targets, self.model.log_probs(batch).cpu().split(sizes), *parts, strict=True
        ):
            provenance = Provenance(*tensors)
            log_prob = float(log_probs.double().sum())
            pairs = [*ids, EOS], log_probs.tolist()
            cost = sum(each.cost(*pairs) for each in self._constraints if isinstance(each, RepetitionPenalty))
            score = (log_prob - cost) / (len(ids) + 1) ** config.length_penalty
            if penalties:
                attended = provenance.weights.sum(dim=0, keepdim=True)  # (1, S)
                inside = torch.arange(attended.shape[1]) < len(source.ids)
                score -= float(penalties(attended, inside.unsqueeze(0)))
            hypothesis = Hypothesis(pairs[0], log_prob, score, pairs[1], cut=False)
            results.append((hypothesis, provenance))
        return results

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

    def _read_groups(
        self, lines: Sequence[str], first_line: int, prefixes: Iterable[str] | None
    ) -> Iterator[list[_Source]]:
        """Segment lines, and group them and their parts so that the pieces in memory are bounded."""
        sources = self._read(lines, first_line, self.search_config.too_long)
        if prefixes is not None:
            sources = self._with_prefixes(sources, as_texts(prefixes, "the prefixes", first_line), len(lines))
        return group_by_size(sources, lambda source: len(source.ids), _MAX_PIECES)

    def _with_prefixes(self, sources: Iterator[_Source], prefixes: list[str], lines: int) -> Iterator[_Source]:
        """Add the ids of a target prefix to the first part of each line."""
        if len(prefixes) != lines:
            raise ValueError(f"there are {lines} lines but {len(prefixes)} prefixes; they must match line by line")
        tgt = self.tokenizers.tgt
        segments = tgt.segment(prefixes)
        for source in sources:
            prefix = extended_target_ids(segments[source.row], source.oov, tgt) if source.place.part == 0 else ()
            yield source._replace(prefix=prefix)

    def _read(self, lines: Sequence[str], first_line: int, too_long: str) -> Iterator[_Source]:
        """Segment lines into pieces; cut or split lines that are too long, and warn about them."""
        most = self.model.max_source_length
        terms = [self.terms.find(line) for line in lines] if self.terms else [[] for _ in lines]
        masked = [mask_line(line, some, self._placeholders) for line, some in zip(lines, terms, strict=True)]
        tagged = [add_tag(self.tag, line.text) for line in masked]
        for row, (segments, length, exact) in enumerate(segment_beginnings(self.tokenizers.src, tagged, most)):
            tag, rest = split_tag(segments, self.tokenizers.src, added=self.tag)
            if rest.ids and self.tokenizers.src.tags and not tag.ids:
                self._warn_of_missing_tag(first_line + row)
            place = LinePart(first_line + row)
            if length <= most:
                yield self._source(row, masked[row], terms[row], tag, rest, "ok", place)
                continue
            number, done = str(length) if exact else f"at least {length}", "is cut to"
            if too_long == "cut":
                yield self._source(row, masked[row], terms[row], tag, rest, "source_cut", place)
            else:
                pieces = parts = 0
                for part in self._split(masked[row].text, tag, most):
                    now = place._replace(part=parts)
                    yield self._source(row, masked[row], terms[row], tag, part, "source_split", now)
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

    def _source(
        self,
        row: int,
        line: MaskedLine,
        terms: Sequence[SourceTerm],
        tag: Segments,
        rest: Segments,
        status: str,
        place: LinePart,
    ) -> _Source:
        """Convert the pieces of a line, or of a part of it, and of the tag before it."""
        ids, pieces, spans = tag.ids + rest.ids, tag.pieces + rest.pieces, tag.spans + rest.spans
        tokenizers, copied = self.tokenizers, SourceCopies([], [])
        if self.model.copies:
            copied = source_copies(pieces, tokenizers.tgt, tags=tokenizers.src.tags)
        segments = sentence_numbers(line.text, rest.spans[:1] * len(tag.ids) + rest.spans)  # a tag is in the first one
        source = _Source(row, ids, pieces, line.spans(spans), segments, *copied, status=status, place=place)
        if not terms:
            return source
        tags = len(tag.ids)
        found = SourceIds(source.spans[tags:], source.copy_ids[tags:], source.oov, self.model.never_id != UNK)
        return source._replace(terms=make_line_terms(terms, line, found, tokenizers.tgt))

    def _decode(self, source: _Source, ids: Sequence[int]) -> str:
        """Return the text of a hypothesis, with the exact text of its terms."""
        return source.terms.decode(ids) if source.terms else self.tokenizers.tgt.decode(ids, source.oov)

    def _warn_of_terms(self, source: _Source, ids: Sequence[int]) -> None:
        """Warn if a translation does not have all its terms."""
        results = source.terms.results(ids) if source.terms else []
        missing = ["|".join(result.targets) for result in results if not result.met]
        if missing:
            self.notices.warn(
                f"line {source.place.number}: the translation lacks, or has too often: {', '.join(missing)}; raise "
                "--max-length-ratio if it was cut, or choose terms of words that the target vocabulary has",
                summary="have a translation that lacks a required term or has it too often; see terms in --format jsonl",
                shown=self.warns,
            )

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
        required = [source.terms.required for source in sources if source.terms]
        extra = max((extra_slots(terms) for terms in required if terms), default=0)
        most = max(_MAX_SCORES // ((self.num_hypotheses + extra) * self.tokenizers.tgt.size), 1)
        batches = split_by_tokens(order, lengths, self.search_config.batch_tokens)
        return [batch[first : first + most].tolist() for batch in batches for first in range(0, len(batch), most)]

    def _collate(self, sources: Sequence[_Source], targets: Sequence[list[int]]) -> Batch:
        copy_ids = [source.copy_ids for source in sources] if self.model.copies else None
        src, segments = [source.ids for source in sources], [source.segments for source in sources]
        batch = collate(src, targets, pad_id=PAD, bos_id=BOS, eos_id=EOS, copy_ids=copy_ids, segments=segments)
        return batch.to(self.model.device)

    def _search_batch(self, sources: Sequence[_Source]) -> list[list[Hypothesis]]:
        config = self.search_config
        state = self.model.encode(self._collate(sources, [[] for _ in sources]), self._allowed(sources))
        options = SearchOptions(
            bos_id=BOS,
            eos_id=EOS,
            beam_size=config.beam_size,
            length_penalty=config.length_penalty,
            min_length=config.min_length,
            penalties=Penalties(config.coverage_penalty, config.summary_penalty),
            never_id=self.model.never_id,
            constraints=self._constraints,
        )
        limits = [max(self.max_length(len(source.ids)), len(source.prefix) + 1) for source in sources]
        prefixes = [source.prefix for source in sources]
        if config.samples:
            places = [source.place for source in sources]
            uniforms = torch.from_numpy(uniform_numbers(config.seed, places, config.samples, max(limits)))
            truncation = Truncation(config.temperature, config.top_k, config.top_p)
            found, draws, near_draws = sample(
                self.model.step, state, limits, uniforms, options=options, truncation=truncation, prefixes=prefixes
            )
            self.notices.draws += draws
            self.notices.near_draws += near_draws
        else:
            required = [None if source.terms is None else source.terms.required for source in sources]
            found = beam_search(self.model.step, state, limits, options, prefixes, required)
        return found if config.mbr == "none" else [self._by_utility(*pair) for pair in zip(sources, found, strict=True)]

    def _allowed(self, sources: Sequence[_Source]) -> torch.Tensor | None:
        """Return whether the search of each source may choose each target id (B, V); None without a shortlist."""
        if not self.search_config.shortlist:
            return None
        assert self._shortlist is not None
        required = [source.terms.required if source.terms else None for source in sources]
        others = [
            [*source.prefix, *source.copy_ids, *(terms.ids if terms else ())]
            for source, terms in zip(sources, required, strict=True)
        ]
        ids = [source.ids for source in sources]
        count, size = self.search_config.shortlist, self.model.vocab_size
        return self._shortlist.allowed(ids, others, count=count, size=size)

    def _by_utility(self, source: _Source, hypotheses: list[Hypothesis]) -> list[Hypothesis]:
        """Sort hypotheses by their mean utility against the others; those of equal utility stay in order."""
        texts = [self._decode(source, hypothesis.ids) for hypothesis in hypotheses]
        utilities = mean_utilities(texts, self.search_config.mbr)
        ranked = [each._replace(utility=utility) for each, utility in zip(hypotheses, utilities, strict=True)]
        ranked.sort(key=lambda hypothesis: -(hypothesis.utility or 0.0))
        return sorted(ranked, key=lambda each: source.terms.faults(each.ids) if source.terms else 0)

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
            translation=self._decode(source, ids),
            score=best.score,
            log_prob=best.log_prob,
            token_log_probs=best.token_log_probs,
            pieces=self.tokenizers.tgt.pieces(ids, source.oov),
            source_pieces=source.pieces,
            status="max_length" if best.cut else source.status,
            forced_pieces=len(source.prefix),
            utility=best.utility,
        )
        hit = {"max_source_length": source.status != "ok", "max_length": best.cut}
        translation.terms = source.terms.results(ids) if source.terms else []
        translation.limits = [name for name, is_hit in hit.items() if is_hit]
        if self.model.has_attention:
            translation.coverage = provenance.weights[:, :inside].sum(dim=0).tolist()
            translation.uncovered = _uncovered(translation.coverage, source.spans)
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
        forced_pieces=parts[0].forced_pieces,
    )
    if parts[0].utility is not None:
        merged.utility = sum(part.utility or 0.0 for part in parts) / len(parts)
    for part in parts:
        offset = len(merged.source_pieces)
        merged.alignment += [offset + place for place in part.alignment]
        merged.copied_from += [
            place and CopiedFrom(offset + place.source_piece, place.start, place.end) for place in part.copied_from
        ]
        merged.limits += [name for name in part.limits if name not in merged.limits]
        for name in ("token_log_probs", "pieces", "source_pieces", "p_gen", "coverage", "uncovered", "terms"):
            getattr(merged, name).extend(getattr(part, name))
    if parts[0].copied_share is not None:
        merged.copied_share = sum(place is not None for place in merged.copied_from) / max(len(merged.pieces), 1)
    return merged


def make_constraints(config: SearchConfig, tgt: Tokenizer) -> tuple[Constraint, ...]:
    """Make the constraints of a search.

    Raises:
        ValueError: a word of ``search.may_repeat`` or ``search.forbidden`` has a piece outside the target vocabulary.
    """
    exceptions = tuple(sorted({number for ids in _word_ids(config, "may_repeat", tgt) for number in ids}))
    constraints: list[Constraint] = []
    if config.no_repeat_ngram:
        constraints.append(NoRepeatNgram(config.no_repeat_ngram, exceptions))
    if config.repetition_penalty != 1:
        constraints.append(RepetitionPenalty(config.repetition_penalty, exceptions))
    if forbidden := _word_ids(config, "forbidden", tgt):
        constraints.append(Forbidden(forbidden))
    return tuple(constraints)


def _word_ids(config: SearchConfig, name: str, tgt: Tokenizer) -> tuple[tuple[int, ...], ...]:
    """Return the ids of the pieces of each word of a setting."""
    words = getattr(config, name).split()
    found = []
    for word, segments in zip(words, tgt.segment(words), strict=True):
        if UNK in segments.ids:
            raise ValueError(
                f"search.{name} must hold words of the target vocabulary, but {word} is not one; remove it"
            )
        found.append(tuple(segments.ids))
    return tuple(found)


def _uncovered(coverage: Sequence[float], spans: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Return start and end of every run of neighbouring uncovered pieces in the line."""
    found: list[list[int]] = []
    joins = False  # whether the piece before is uncovered
    for attention, (start, end) in zip(coverage, spans, strict=True):
        is_uncovered = attention < UNCOVERED and end > start  # a tag that was added has no characters
        if is_uncovered and joins:
            found[-1][1] = end
        elif is_uncovered:
            found.append([start, end])
        joins = is_uncovered
    return found


def explain_order(found: Sequence[Translation], length_penalty: float) -> list[dict[str, Any]]:
    """Explain the order of the translations of a line, best first.

    Args:
        length_penalty: a in score = log P / |Y|^a - penalty; |Y| counts the end of the sentence.

    Returns:
        For each translation: log_prob, length |Y|, normalised (log P / |Y|^a), penalty, score, and margin, the score of the
        first translation minus its score.
    """
    explained = []
    for each in found:
        length = len(each.token_log_probs)
        normalised = each.log_prob / max(length, 1) ** length_penalty
        explained.append(
            {
                "translation": each.translation,
                "log_prob": each.log_prob,
                "length": length,
                "normalised": normalised,
                "penalty": normalised - each.score,
                "score": each.score,
                "margin": found[0].score - each.score,
            }
        )
    return explained


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
