"""Lines in, lines out: encode, batch by length, search, decode, and put back in order."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seq2seq import model_dir
from seq2seq.batching import collate, pad, split_by_tokens
from seq2seq.config import SearchConfig
from seq2seq.model import Seq2Seq
from seq2seq.model_dir import Tokenizers
from seq2seq.search.beam import Hypothesis, Search, beam_search
from seq2seq.tokenizer import BOS, EOS, PAD

log = logging.getLogger(__name__)


@dataclass
class Translation:
    """One translation of a line. Log-probabilities are natural; lists are per target piece.

    ``token_log_probs`` has one more entry than ``pieces``: the last is that of the end of the sentence.
    ``alignment`` names, for each piece, the source piece most looked at, by its number from 0; it is empty when the
    model has no attention. ``status``: ok; empty (blank line, the model was not asked); source_cut (the source was
    longer than the model's limit); max_length (the translation was ended by its maximum length).
    """

    translation: str
    score: float = 0.0
    log_prob: float = 0.0
    token_log_probs: list[float] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)
    source_pieces: list[str] = field(default_factory=list)
    alignment: list[int] = field(default_factory=list)
    status: str = "ok"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


class Translator:
    """A model with its tokenizers and its search settings.

    >>> Translator.load("runs/mine").translate(["A man sleeps."])  # doctest: +SKIP
    ['Un homme dort.']
    """

    def __init__(self, model: Seq2Seq, tokenizers: Tokenizers, search: SearchConfig, *, max_source_length: int) -> None:
        self.model = model
        self.tokenizers = tokenizers
        self.search_config = search
        self.max_source_length = max_source_length

    @classmethod
    def load(cls, path: str | Path, *, device: str = "auto") -> Translator:
        """Load a model directory or a run directory onto ``auto``, ``cpu`` or ``cuda``."""
        model, settings, tokenizers = model_dir.load(path, find_device(device))
        return cls(model, tokenizers, settings.search, max_source_length=settings.max_source_length)

    def translate(self, lines: Sequence[str]) -> list[str]:
        """Translate lines; a blank line gives an empty line."""
        return [translations[0].translation for translations in self.search(lines)]

    def search(self, lines: Sequence[str], *, n_best: int = 1, first_line: int = 1) -> list[list[Translation]]:
        """Find the best translations of every line.

        Args:
            n_best: translations a line, at most ``search.beam_size``. A line may get fewer, with a warning, where the
                search found no more.
            first_line: number of the first line, for warnings.
        """
        if not 1 <= n_best <= self.search_config.beam_size:
            raise ValueError(
                f"n-best must be from 1 to the beam size, which is {self.search_config.beam_size}, but is {n_best}; "
                "set the beam size higher"
            )
        sources, cut = self._encode(lines, first_line)
        results: list[list[Translation]] = [[Translation("", status="empty")] for _ in lines]
        for rows in self._batches(sources):
            with evaluating(self.model):
                searched = self._search_batch([sources[row] for row in rows])
            for row, hypotheses in zip(rows, searched, strict=True):
                if len(hypotheses) < n_best:
                    log.warning("line %d: %d translations instead of %d", first_line + row, len(hypotheses), n_best)
                results[row] = [self._translation(sources[row], best, cut[row]) for best in hypotheses[:n_best]]
        return results

    def score(self, src: Sequence[str], tgt: Sequence[str]) -> list[list[float]]:
        """Natural log-probability of every target piece and of the end of the sentence, a list a line.

        Sources are cut as in ``search``, targets never; a blank line counts as a sentence without pieces.
        """
        if len(src) != len(tgt):
            raise ValueError(
                f"there are {len(src)} source lines but {len(tgt)} target lines; they must match line by line"
            )
        sources, _ = self._encode(src, 1)
        targets = self.tokenizers.tgt.encode_batch(list(tgt))
        lengths = np.array([max(len(s), len(t)) + 1 for s, t in zip(sources, targets, strict=True)])
        results: list[list[float]] = [[] for _ in sources]
        order = np.argsort(lengths, kind="stable")
        for rows in split_by_tokens(order, lengths, self.search_config.batch_tokens) if len(order) else []:
            batch = collate(
                [sources[row] for row in rows], [targets[row] for row in rows], pad_id=PAD, bos_id=BOS, eos_id=EOS
            ).to(self.model.device)
            with evaluating(self.model):
                log_probs = iter(self.model.log_probs(batch).tolist())
            for row in rows:
                results[row] = [next(log_probs) for _ in range(len(targets[row]) + 1)]
        return results

    def max_length(self, source_length: int) -> int:
        """The longest translation, in pieces with the end of sentence, of so many source pieces."""
        config = self.search_config
        return max(int(config.max_length_ratio * source_length) + config.max_length_extra, 1)

    def _encode(self, lines: Sequence[str], first_line: int) -> tuple[list[list[int]], list[bool]]:
        sources = self.tokenizers.src.encode_batch(list(lines))
        cut = [len(source) > self.max_source_length for source in sources]
        for row, too_long in enumerate(cut):
            if too_long:
                log.warning(
                    "line %d has %d pieces and is cut to %d, the model's data.max_source_length",
                    first_line + row,
                    len(sources[row]),
                    self.max_source_length,
                )
                del sources[row][self.max_source_length :]
        return sources, cut

    def _batches(self, sources: list[list[int]]) -> list[list[int]]:
        """Rows with something to translate, in batches of like length."""
        lengths = np.array([len(source) + 1 for source in sources])
        order = np.argsort(-lengths, kind="stable")
        order = order[lengths[order] > 1]
        if not len(order):
            return []
        return [rows.tolist() for rows in split_by_tokens(order, lengths, self.search_config.batch_tokens)]

    def _search_batch(self, sources: list[list[int]]) -> list[list[Hypothesis]]:
        config = self.search_config
        ids, lengths = pad([[*source, EOS] for source in sources], PAD)
        search = Search(BOS, EOS, config.beam_size, config.length_penalty, config.min_length)
        max_lengths = [self.max_length(len(source)) for source in sources]
        decoding = self.model.encode(ids.to(self.model.device), lengths)
        return beam_search(self.model.step, decoding, max_lengths, search)

    def _translation(self, source: list[int], best: Hypothesis, cut: bool) -> Translation:
        pieces = best.ids[:-1]
        has_attention = self.model.has_attention
        return Translation(
            translation=self.tokenizers.tgt.decode(pieces),
            score=best.score,
            log_prob=best.log_prob,
            token_log_probs=best.token_log_probs,
            pieces=self.tokenizers.tgt.pieces(pieces),
            source_pieces=self.tokenizers.src.pieces(source),
            alignment=best.alignment[:-1] if has_attention else [],
            status="max_length" if best.cut else "source_cut" if cut else "ok",
        )


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
