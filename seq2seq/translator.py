"""Translates lines: encodes them, batches them by length, searches, decodes, and restores their order."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seq2seq import model_dir, shortlist
from seq2seq.config import SearchConfig
from seq2seq.config_checks import changed_search, check_search
from seq2seq.data.batching import Batch, collate, group_by_size, split_by_tokens
from seq2seq.data.beginnings import segment_targets
from seq2seq.data.copy_ids import extended_target_ids
from seq2seq.data.limits import STANDARD_LIMIT, LengthLimit
from seq2seq.data.notices import Notices
from seq2seq.data.source_lines import SourceLine, SourceReader, as_texts
from seq2seq.data.terms import TermFinder
from seq2seq.data.uniforms import uniform_numbers
from seq2seq.device import PrecisionChoice, choose_search_precision, find_device
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
from seq2seq.text.tags import check_tag
from seq2seq.text.tokenizer import BOS, EOS, PAD, UNK, Segments, Tokenizer
from seq2seq.text.words import join_texts
from seq2seq.translation import CopiedFrom, Translation, join_parts, uncovered_spans

log = logging.getLogger(__name__)

_MAX_PIECES = 2**19  # source pieces in memory at once; each takes about 250 bytes
_MAX_SCORES = 2**25  # sentences * beams * vocabulary searched at once: each copy of the scores takes 128 MiB


class Translator:
    """Translates lines with a model, its tokenizers and its search settings.

    >>> Translator.load("runs/mine").translate(["A man sleeps."])  # doctest: +SKIP
    ['Un homme dort.']

    Args:
        length_limit: the limit of the length of a translation that was learned in training; None: 2 * source + 10.
        tag: the tag before every source, see ``with_tag``; empty: none is added.
        terms: finds the terms that translations must have, see ``with_terms``.

    Attributes:
        precision: the precision of the products of the output layer in search, and the reason for it.
        notices: counts of the lines translated so far, and of those that were cut.
    """

    def __init__(
        self,
        model: Searchable[Any],
        tokenizers: Tokenizers,
        search: SearchConfig,
        *,
        length_limit: LengthLimit | None = None,
        tag: str = "",
        terms: TermFinder = TermFinder({}),  # noqa: B008, it is never changed
    ) -> None:
        self.model = model
        self.tokenizers = tokenizers
        self.search_config = search
        self.length_limit = length_limit
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
        self._reader = SourceReader(
            *tokenizers,
            most=model.max_source_length,
            copies=model.copies,
            with_unknown=model.never_id != UNK,
            tag=tag,
            terms=terms,
        )
        self._constraints = make_constraints(search, tokenizers.tgt)
        self.precision = PrecisionChoice(search.precision, "it is set")
        if search.precision == "auto":
            self.precision = choose_search_precision(model.device)

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
            ValueError: an invalid regular expression, a term without text or of another type, or the translator draws
                samples.
        """
        sources = as_texts(glossary or {}, "the source terms")
        given = {source: as_texts((glossary or {})[source], f"the target terms of {source!r}") for source in sources}
        return self._copy(terms=TermFinder(given, as_texts(keep, "what is kept")))

    def _copy(
        self, *, search: SearchConfig | None = None, tag: str | None = None, terms: TermFinder | None = None
    ) -> Translator:
        copy = Translator(
            self.model,
            self.tokenizers,
            self.search_config if search is None else search,
            length_limit=self.length_limit,
            tag=self.tag if tag is None else tag,
            terms=self.terms if terms is None else terms,
        )
        copy.notices.shown = self.notices.shown
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
            results[row] = [
                join_parts(ranked, self.search_config.length_penalty) for ranked in zip(*parts, strict=False)
            ]
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

    def score(self, src: Iterable[str], tgt: Iterable[str], *, first_line: int = 1) -> list[list[float]]:
        """Return the natural log-probability of every target piece and of the end of the sentence, one list per line.

        Long sources are cut, targets never; a blank line is a sentence without pieces.

        Args:
            first_line: number of the first line, for messages.

        Raises:
            ValueError: the numbers of lines differ, a line is not a text, or a target has more than 65,536 pieces.
        """
        src = as_texts(src, "the source lines", first_line)
        tgt = as_texts(tgt, "the target lines", first_line)
        if len(src) != len(tgt):
            raise ValueError(
                f"there are {len(src)} source lines but {len(tgt)} target lines; they must match line by line"
            )
        targets = segment_targets(self.tokenizers.tgt, tgt, range(first_line, first_line + len(tgt)))
        pairs = zip(self._read(src, first_line), targets, strict=True)
        groups = group_by_size(pairs, lambda pair: len(pair[0].ids) + len(pair[1].ids), _MAX_PIECES)
        return [log_probs for group in groups for log_probs in self._score_group(group)]

    def rescore(
        self, src: Iterable[str], translations: Iterable[Sequence[str]], *, first_line: int = 1
    ) -> list[list[Translation]]:
        """Score several given translations of every line as if the search had found them.

        Long sources are cut. The translations of a blank line are not scored and have the status empty.

        Args:
            src: the source lines.
            translations: the translations of each line.
            first_line: number of the first line, for messages.

        Returns:
            The translations with their scores, in the given order.

        Raises:
            ValueError: the numbers of lines differ, or see ``score``.
        """
        src = as_texts(src, "the source lines", first_line)
        lists = [as_texts(some, "the translations") for some in translations]
        if len(src) != len(lists):
            raise ValueError(
                f"there are {len(src)} source lines but {len(lists)} lists of translations; they must match line by line"
            )
        sources = list(self._read(src, first_line))
        filled = [(source, text) for source, texts in zip(sources, lists, strict=True) if source.ids for text in texts]
        numbers = [first_line + source.row for source, _ in filled]
        targets = segment_targets(self.tokenizers.tgt, [text for _, text in filled], numbers)
        pairs = zip((source for source, _ in filled), targets, strict=True)
        groups = group_by_size(pairs, lambda pair: len(pair[0].ids) + len(pair[1].ids), _MAX_PIECES)
        scored = iter([translation for group in groups for translation in self._rescore_group(group)])
        return [
            [
                replace(next(scored), translation=text) if source.ids else Translation(text, status="empty")
                for text in texts
            ]
            for source, texts in zip(sources, lists, strict=True)
        ]

    def _rescore_group(self, pairs: Sequence[tuple[SourceLine, Segments]]) -> list[Translation]:
        """Score targets given their sources; see ``rescore``."""
        results: dict[int, Translation] = {}
        for rows, sources, targets in self._target_batches(pairs):
            with self.model.evaluating():
                forced = self._forced(sources, targets)
            for row, source, (best, provenance) in zip(rows, sources, forced, strict=True):
                results[row] = self._translation(source, best, provenance)
        return [results[row] for row in range(len(pairs))]

    def _score_group(self, pairs: Sequence[tuple[SourceLine, Segments]]) -> list[list[float]]:
        """Score targets given their sources; see ``score``."""
        results: list[list[float]] = [[] for _ in pairs]
        for rows, sources, targets in self._target_batches(pairs):
            with self.model.evaluating():
                log_probs = iter(self.model.log_probs(self._collate(sources, targets)).tolist())
            for row, target in zip(rows, targets, strict=True):
                results[row] = [next(log_probs) for _ in range(len(target) + 1)]
        return results

    def _target_batches(
        self, pairs: Sequence[tuple[SourceLine, Segments]]
    ) -> Iterator[tuple[list[int], list[SourceLine], list[list[int]]]]:
        """Yield batches of pairs of similar length: their row numbers, sources and target ids."""
        targets = [extended_target_ids(target, source.oov, self.tokenizers.tgt) for source, target in pairs]
        lengths = np.array([max(len(s.ids), len(t)) + 1 for (s, _), t in zip(pairs, targets, strict=True)])
        order = np.argsort(lengths, kind="stable")
        for rows in split_by_tokens(order, lengths, self.search_config.batch_tokens):
            yield rows.tolist(), [pairs[row][0] for row in rows], [targets[row] for row in rows]

    def pair_batch(self, src: str, tgt: str) -> Batch:
        """Make a batch of one source and its target; a source longer than the model's limit is cut."""
        (source,) = self._read(as_texts([src], "the source text"))
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
        (source,) = self._read(as_texts([line], "the source text"))
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

    def _forced(
        self, sources: Sequence[SourceLine], targets: Sequence[list[int]]
    ) -> list[tuple[Hypothesis, Provenance]]:
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
    ) -> Iterator[list[SourceLine]]:
        """Segment lines, and group them and their parts so that the pieces in memory are bounded."""
        sources = self._read(lines, first_line, self.search_config.too_long)
        if prefixes is not None:
            begun = as_texts(prefixes, "the prefixes", first_line)
            if len(begun) != len(lines):
                raise ValueError(
                    f"there are {len(lines)} lines but {len(begun)} prefixes; they must match line by line"
                )
            sources = self._reader.with_prefixes(sources, begun)
        return group_by_size(sources, lambda source: len(source.ids), _MAX_PIECES)

    def _read(self, lines: Sequence[str], first_line: int = 1, too_long: str = "cut") -> Iterator[SourceLine]:
        return self._reader.read(lines, first_line, too_long=too_long, notices=self.notices)

    def _decode(self, source: SourceLine, ids: Sequence[int]) -> str:
        """Return the text of a hypothesis, with the exact text of its terms."""
        return source.terms.decode(ids) if source.terms else self.tokenizers.tgt.decode(ids, source.oov)

    def _warn_of_terms(self, source: SourceLine, ids: Sequence[int]) -> None:
        """Warn if a translation does not have all its terms."""
        results = source.terms.results(ids) if source.terms else []
        missing = ["|".join(result.targets) for result in results if not result.met]
        if missing:
            self.notices.warn(
                f"line {source.place.number}: the translation lacks, or has too often: {', '.join(missing)}; raise "
                "--max-length-ratio if it was cut, or choose terms of words that the target vocabulary has",
                summary="have a translation that lacks a required term or has it too often; see terms in --format jsonl",
            )

    def _batches(self, sources: list[SourceLine]) -> list[list[int]]:
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

    def _collate(self, sources: Sequence[SourceLine], targets: Sequence[list[int]]) -> Batch:
        copy_ids = [source.copy_ids for source in sources] if self.model.copies else None
        src, segments = [source.ids for source in sources], [source.segments for source in sources]
        batch = collate(src, targets, pad_id=PAD, bos_id=BOS, eos_id=EOS, copy_ids=copy_ids, segments=segments)
        return batch.to(self.model.device)

    def _search_batch(self, sources: Sequence[SourceLine]) -> list[list[Hypothesis]]:
        config = self.search_config
        batch = self._collate(sources, [[] for _ in sources])
        state = self.model.encode(batch, self._allowed(sources), self.precision.name)
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

    def _allowed(self, sources: Sequence[SourceLine]) -> torch.Tensor | None:
        """Return whether the search of each source may choose each target id (B, V); None without a shortlist."""
        if not self.search_config.shortlist:
            return None
        self._read_shortlist(self._path)
        assert self._shortlist is not None
        required = [source.terms.required if source.terms else None for source in sources]
        others = [
            [*source.prefix, *source.copy_ids, *(terms.ids if terms else ())]
            for source, terms in zip(sources, required, strict=True)
        ]
        ids = [source.ids for source in sources]
        count, size = self.search_config.shortlist, self.model.vocab_size
        return self._shortlist.allowed(ids, others, count=count, size=size)

    def _by_utility(self, source: SourceLine, hypotheses: list[Hypothesis]) -> list[Hypothesis]:
        """Sort hypotheses by their mean utility against the others; those of equal utility stay in order."""
        texts = [self._decode(source, hypothesis.ids) for hypothesis in hypotheses]
        utilities = mean_utilities(texts, self.search_config.mbr)
        ranked = [each._replace(utility=utility) for each, utility in zip(hypotheses, utilities, strict=True)]
        ranked.sort(key=lambda hypothesis: -(hypothesis.utility or 0.0))
        return sorted(ranked, key=lambda each: source.terms.faults(each.ids) if source.terms else 0)

    def _explain(self, sources: Sequence[SourceLine], found: Sequence[list[Hypothesis]]) -> list[list[Translation]]:
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

    def _translation(self, source: SourceLine, best: Hypothesis, provenance: Provenance) -> Translation:
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
            translation.uncovered = uncovered_spans(translation.coverage, source.spans)
            translation.alignment = provenance.weights[:-1, :inside].argmax(dim=1).tolist()
        if self.model.copies:
            translation.p_gen = provenance.p_gen[:-1].tolist()
            translation.copied_from = [
                None if place is None else CopiedFrom(place, *source.spans[place])
                for place in copied_positions(provenance.copied[:-1, :inside])
            ]
            translation.copied_share = sum(place is not None for place in translation.copied_from) / max(len(ids), 1)
        return translation


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
