"""Hand-written step functions for tests of the search: Markov chains, with all their sequences."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import torch

from seq2seq.search.beam import Hypothesis, SearchOptions, beam_search
from seq2seq.search.next_token import LogProbs

PAD, BOS, EOS = 0, 2, 3
V, HISTORIES = 6, 7  # ids 1, 4 and 5 are words
NEVER = -float("inf")
S = 4


class Toy(NamedTuple):
    """The state of a chain: each sentence has its Markov chain, whose probabilities also depend on a hash of the path."""

    sentence: torch.Tensor  # (N,)
    path: torch.Tensor  # (N,), a number below HISTORIES
    weights: torch.Tensor  # (N, S), largest at position ``path % S``
    mask: torch.Tensor  # (R, S)

    def reorder(self, rows: torch.Tensor) -> Toy:
        beam = len(rows) // len(self.mask)
        sentences = self.sentence.view(len(self.mask), -1)[:, 0]
        # hypotheses stay with their sentence
        assert torch.equal(self.sentence[rows], sentences.repeat_interleave(beam))
        return Toy(self.sentence[rows], self.path[rows], self.weights[rows], self.mask)

    def keep(self, sentences: torch.Tensor) -> Toy:
        rows = torch.arange(len(self.sentence)).view(len(self.mask), -1)[sentences].flatten()
        return Toy(self.sentence[rows], self.path[rows], self.weights[rows], self.mask[sentences])


class Chain:
    """The tables of the chains, the step function, and a record of its calls."""

    def __init__(self, sentences: int = 4, seed: int = 1, sharpness: float = 1.5, dtype=torch.float64) -> None:
        random = torch.Generator().manual_seed(seed)
        logits = sharpness * torch.randn(sentences, HISTORIES, V, V, generator=random, dtype=dtype)
        logits[..., [PAD, BOS]] = NEVER  # as in a model
        self.table = torch.log_softmax(logits, dim=-1)  # (sentence, path, previous id, next id)
        self.rows: list[int] = []  # number of rows of each step

    def step(self, tokens: torch.Tensor, state: Toy) -> tuple[LogProbs, Toy]:
        self.rows.append(len(tokens))
        path = (3 * state.path + tokens) % HISTORIES
        table = self.table[state.sentence, path, tokens]
        return LogProbs(table), state._replace(path=path, weights=self.looks(path))

    def looks(self, path: torch.Tensor) -> torch.Tensor:
        """Return the weights of all positions: 0.7 at ``path % S``, 0.1 at the others."""
        return 0.1 + 0.6 * torch.nn.functional.one_hot(path % S, S).double()

    def start(self, sentences: list[int], lengths: list[int] | None = None) -> Toy:
        """Return the initial state; ``lengths`` are the numbers of real positions of the sentences."""
        real = torch.arange(S) < torch.tensor(lengths or [S] * len(sentences)).unsqueeze(1)
        return Toy(torch.tensor(sentences), torch.zeros(len(sentences)).long(), torch.zeros(len(sentences), S), real)

    def search(
        self, sentences: list[int], limits: list[int], lengths: list[int] | None = None, **options
    ) -> list[list[Hypothesis]]:
        prefixes = options.pop("prefixes", ())
        options = {"beam_size": 3, "length_penalty": 0.0} | options
        search = SearchOptions(BOS, EOS, **options)
        return beam_search(self.step, self.start(sentences, lengths), limits, search, prefixes)

    def follow(self, sentence: int, ids: list[int]) -> tuple[list[float], list[int]]:
        """Return the log-probability and the path of every id."""
        path, last, log_probs, paths = 0, BOS, [], []
        for token in ids:
            path = (3 * path + last) % HISTORIES
            log_probs.append(float(self.table[sentence, path, last, token]))
            paths.append(path)
            last = token
        return log_probs, paths

    def everything(self, sentence: int, limit: int, penalty: float = 0.0) -> list[tuple[float, list[int]]]:
        """Return all sequences of at most ``limit`` ids, best score first."""
        words = (1, 4, 5)
        found = []
        for length in range(limit):
            for body in itertools.product(words, repeat=length):
                ids = [*body, EOS]
                found.append((sum(self.follow(sentence, ids)[0]) / len(ids) ** penalty, ids))
        return sorted(found, reverse=True)

    def plain(self, sentence: int, limit: int, beam_size: int, penalty: float, least: int) -> list[list[int]]:
        """Search one sentence with plain loops."""
        live: list[tuple[float, list[int]]] = [(0.0, [])]
        finished: list[tuple[float, list[int]]] = []
        for length in range(1, limit + 1):
            candidates = []
            for score, ids in live:
                for token in range(V):
                    if (token == EOS and length <= least and length < limit) or (token != EOS and length == limit):
                        continue
                    log_prob = self.follow(sentence, [*ids, token])[0][-1]
                    if log_prob > NEVER:
                        candidates.append((score + log_prob, [*ids, token]))
            best = sorted(candidates, reverse=True)[: beam_size - len(finished)]
            finished += [entry for entry in best if entry[1][-1] == EOS]
            live = [entry for entry in best if entry[1][-1] != EOS]
        return [ids for _, ids in sorted(finished, key=lambda entry: -entry[0] / len(entry[1]) ** penalty)]


def ids_of(found: list[Hypothesis]) -> list[list[int]]:
    return [hypothesis.ids for hypothesis in found]
