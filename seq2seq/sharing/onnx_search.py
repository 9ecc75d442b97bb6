"""Translate with an exported model: ONNX Runtime and NumPy instead of torch, one sentence after the other.

The search is that of ``seq2seq.search.beam``: a beam has K slots, a finished hypothesis keeps its slot and is never
extended, and at the maximum length only the end of sentence is allowed. Letters as there; V' is the extended vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime

from seq2seq import model_dir
from seq2seq.data.copy_ids import source_copies
from seq2seq.data.limits import STANDARD_LIMIT, LengthLimit
from seq2seq.text.tokenizer import BOS, EOS, UNK

ENCODER_GRAPH, STEP_GRAPH = "encoder.onnx", "step.onnx"
Arrays = dict[str, np.ndarray]


class ScoredText(NamedTuple):
    """A translation and its score, log P / |Y|^a."""

    text: str
    score: float


class OnnxTranslator:
    """Translates lines with the graphs and the tokenizers of a folder. Sources that are too long are cut.

    >>> OnnxTranslator("exported").translate(["A man sleeps."])  # doctest: +SKIP
    ['Un homme dort.']

    Args:
        threads: CPU threads of ONNX Runtime; 0 leaves the choice to it.
    """

    def __init__(self, folder: str | Path, *, threads: int = 0) -> None:
        self.settings, self.tokenizers = model_dir.load_settings(Path(folder))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._encoder, self._step = (
            onnxruntime.InferenceSession(Path(folder, name), options, providers=["CPUExecutionProvider"])
            for name in (ENCODER_GRAPH, STEP_GRAPH)
        )
        self._inputs = [each.name for each in self._step.get_inputs()]
        self._outputs = [each.name for each in self._step.get_outputs()]

    def translate(self, lines: Iterable[str]) -> list[str]:
        """Translate lines; a blank line gives an empty line."""
        return [found.text for found in self.search(lines)]

    def search(self, lines: Iterable[str]) -> list[ScoredText]:
        """Find the best translation of every line, with its score; a blank line has the score 0."""
        return [self._search_line(line) for line in lines]

    def _search_line(self, line: str) -> ScoredText:
        src, tgt = self.tokenizers
        (segments,) = src.segment([line])
        most = self.settings.max_source_length
        ids, pieces = list(segments.ids)[:most], list(segments.pieces)[:most]
        if not ids:
            return ScoredText("", 0.0)
        copies = source_copies(pieces, tgt, tags=src.tags)
        copy_ids = np.array([*copies.copy_ids, EOS])
        source = {"src": np.array([[*ids, EOS]]), "lengths": np.array([len(ids) + 1])}
        names = [each.name for each in self._encoder.get_outputs()]
        memory: Arrays = dict(zip(names, self._encoder.run(None, source), strict=True))
        if "coverage" in self._inputs:
            memory["coverage"] = np.zeros_like(memory["fertility"])
        best, score = self._beam_search(memory, copy_ids, self._max_length(len(ids)))
        return ScoredText(tgt.decode(best[:-1], copies.oov), score)

    def _beam_search(self, memory: Arrays, copy_ids: np.ndarray, max_length: int) -> tuple[list[int], float]:
        """Return the ids of the best hypothesis, the end included, and its score."""
        search = self.settings.search
        found: list[tuple[list[int], float]] = []
        alive, sums = [[BOS]], np.zeros(1)  # the unfinished hypotheses, best first, and their log-probabilities
        state = memory
        for length in range(1, max_length + 1):
            table, state = self._advance(np.array([ids[-1] for ids in alive]), state, copy_ids)
            if length == max_length:
                table[:, np.arange(table.shape[1]) != EOS] = -np.inf
            elif length <= search.min_length:
                table[np.isfinite(np.delete(table, EOS, axis=1)).any(axis=1), EOS] = -np.inf
            totals = (sums[:, None] + table).ravel()
            best = np.argsort(-totals, kind="stable")[: search.beam_size - len(found)]
            parents, tokens = np.divmod(best[totals[best] > -np.inf], table.shape[1])
            longer = [[*alive[parent], int(token)] for parent, token in zip(parents, tokens, strict=True)]
            scores = totals[best][: len(longer)]
            found += [
                (ids[1:], score / length**search.length_penalty)
                for ids, score in zip(longer, scores, strict=True)
                if ids[-1] == EOS
            ]
            kept = [row for row, ids in enumerate(longer) if ids[-1] != EOS]
            if not kept:
                break
            alive, sums = [longer[row] for row in kept], scores[kept]
            state = {name: value[parents[kept]] for name, value in state.items()}
        ids, score = max(found, key=lambda each: each[1])
        return ids, float(score)

    def _advance(self, tokens: np.ndarray, state: Arrays, copy_ids: np.ndarray) -> tuple[np.ndarray, Arrays]:
        """Return the log-probabilities of the next token (N, V') and the next state."""
        size = self.tokenizers.tgt.size
        inputs = state | {"tokens": np.where(tokens < size, tokens, UNK)}
        values: list[Any] = self._step.run(None, {name: inputs[name] for name in self._inputs})
        found = dict(zip(self._outputs, values, strict=True))
        state = state | {name.removeprefix("next_"): found[name] for name in found if name.startswith("next_")}
        table = found["log_probs"].astype(np.float64)
        if "copy_log_probs" in found:
            table = np.pad(table, ((0, 0), (0, max(copy_ids.max() + 1 - size, 0))), constant_values=-np.inf)
            for position, number in enumerate(copy_ids):
                table[:, number] = np.logaddexp(table[:, number], found["copy_log_probs"][:, position])
            table[:, UNK] = -np.inf
        return table, state

    def _max_length(self, source_length: int) -> int:
        """Return the maximum length of a translation, as ``Translator.max_length`` does."""
        search, limit = self.settings.search, self.settings.length_limit or STANDARD_LIMIT
        if search.max_length_ratio is not None or search.max_length_extra is not None:
            ratio, extra = search.max_length_ratio, search.max_length_extra
            limit = LengthLimit(
                STANDARD_LIMIT.ratio if ratio is None else ratio, STANDARD_LIMIT.extra if extra is None else extra
            )
        return limit.max_length(source_length)
