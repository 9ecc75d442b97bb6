"""Checks of the laws on a trained model: padding and batching change nothing, and search and scoring agree.

The tolerances are those of the tests of this project. The sources are random pieces of the vocabulary of the model, so
a check requires no data; it takes seconds. docs/laws.md explains the laws.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from seq2seq.data.batching import Batch, collate
from seq2seq.ensemble import EnsembleDecoding
from seq2seq.model import Decoding
from seq2seq.search.beam import Hypothesis, SearchOptions, beam_search
from seq2seq.text.tokenizer import BOS, EOS, PAD
from seq2seq.translator import Translator

SOURCE_SEED = 1
SOURCE_LENGTHS = (1, 2, 3, 5, 8, 13, 21)  # in pieces
SENTENCE_LENGTH = 4  # pieces of each sentence, for an encoder with sentences
CHECK_BEAM = 4
CHECK_STEPS = 3
HALF_TOLERANCE = 0.01  # of the log-probability of a piece in a search in bf16
SCORE_TOLERANCE = 1e-4  # of sums of log-probabilities in fp32; plus 1e-5 of their size where forced scores are compared


class Check(NamedTuple):
    """The result of checking one law on one model."""

    law: str  # its name in docs/laws.md
    text: str  # one sentence: what was compared, the largest difference, and the allowed one
    ok: bool


class _NothingFoundError(Exception):
    """The search found no translation of a source, because its log-probabilities are NaN."""


class _Subject:
    """A model with random sources and targets to check it on."""

    def __init__(self, translator: Translator) -> None:
        self.model = translator.model
        self.max_length = translator.max_length
        self.penalty = translator.search_config.length_penalty
        self.never_id = translator.model.never_id
        generator = torch.Generator().manual_seed(SOURCE_SEED)
        size = translator.tokenizers.src.size
        lengths = [length for length in SOURCE_LENGTHS if length <= translator.model.max_source_length]
        self.sources = [torch.randint(EOS + 1, size, (length,), generator=generator).tolist() for length in lengths]
        self.num_words = (
            translator.tokenizers.tgt.size - EOS - 1 - len(translator.tokenizers.tgt.tags)
        )  # without special tokens and tags
        # a target for each source: the ids of the source, wrapped around at the size of the target vocabulary
        self.targets = [[EOS + 1 + piece % self.num_words for piece in source] for source in self.sources]

    def batch(self, sources: Sequence[list[int]], targets: Sequence[list[int]]) -> Batch:
        """Collate sources and targets; about every fourth source piece is out of the target vocabulary."""
        num_words, size = self.num_words, self.model.vocab_size
        copy_ids = [
            [size + piece % 3 if piece % 4 == 0 else EOS + 1 + piece % num_words for piece in source]
            for source in sources
        ]
        batch = collate(
            sources,
            targets,
            pad_id=PAD,
            bos_id=BOS,
            eos_id=EOS,
            copy_ids=copy_ids if self.model.copies else None,
            segments=[[place // SENTENCE_LENGTH for place in range(len(source))] for source in sources],
        )
        return batch.to(self.model.device)

    def encode(self, sources: Sequence[list[int]], precision: str = "fp32") -> Decoding | EnsembleDecoding:
        """Encode sources in one batch."""
        return self.encode_batch(self.batch(sources, [[] for _ in sources]), precision)

    def encode_batch(self, batch: Batch, precision: str = "fp32") -> Decoding | EnsembleDecoding:
        """Encode the sources of a batch."""
        return self.model.encode(batch, None, precision)

    def search(self, sources: Sequence[list[int]], beam_size: int, precision: str = "fp32") -> list[list[Hypothesis]]:
        """Search the translations of sources in one batch.

        Raises:
            _NothingFoundError: a source has no translation.
        """
        decoding = self.encode(sources, precision)
        limits = [self.max_length(len(source)) for source in sources]
        options = SearchOptions(BOS, EOS, beam_size, self.penalty, never_id=self.never_id)
        found = beam_search(self.model.step, decoding, limits, options)
        if not all(found):
            raise _NothingFoundError
        return found

    def forced(self, sources: Sequence[list[int]], targets: Sequence[list[int]]) -> Tensor:
        """Compute the log-probability of every target (given without eos) by teacher forcing in one batch: (B,)."""
        parts = self.model.log_probs(self.batch(sources, targets)).cpu().split([len(target) + 1 for target in targets])
        return torch.stack([part.double().sum() for part in parts])


def _largest(values: Sequence[Tensor | float]) -> float:
    """Return the largest of all numbers, NaN if one of them is NaN (``max`` of Python would ignore it)."""
    return float(torch.cat([torch.as_tensor(value).detach().double().cpu().flatten() for value in values]).max())


def _finite_weights(subject: _Subject) -> tuple[str, bool]:
    bad = [name for name, weight in subject.model.named_parameters() if not weight.isfinite().all()]
    named = f", the first in {bad[0]}" if bad else ""
    text = f"{len(bad)} weight tensors hold NaN or infinity{named} (allowed: 0)"
    return text, not bad


def _padding_ids(subject: _Subject) -> tuple[str, bool]:
    """Compare the encoder and the first step on pad ids and on other ids at the padded positions."""
    batch = subject.batch([*subject.sources, []], [[] for _ in (*subject.sources, [])])
    is_piece = (torch.arange(batch.src.shape[1]) < batch.src_lengths.unsqueeze(1)).to(batch.src.device)  # (B, S)
    outputs = []
    for fill in (PAD, EOS + 1):
        ids = batch.src.masked_fill(~is_piece, fill)
        copy_ids = batch.copy_ids.masked_fill(~is_piece, fill) if subject.model.copies else batch.copy_ids
        decoding = subject.encode_batch(batch._replace(src=ids, copy_ids=copy_ids))
        members = decoding.members if isinstance(decoding, EnsembleDecoding) else (decoding,)
        next_token, _ = subject.model.step(torch.full((len(ids),), BOS), decoding)
        first = next_token.log_probs().exp()  # reads the initial state of the decoder
        memories = [member.memory for member in members]
        outputs.append(
            [first, *(m.values[is_piece.to(m.values.device)] for m in memories), *(m.summary for m in memories)]
        )
    worst = _largest([(a - b).abs() for a, b in zip(*outputs, strict=True)])
    text = f"other ids at padded positions change the encoder output or the first piece by {worst:.1e} (allowed: 0)"
    return text, worst == 0


def _more_padding(subject: _Subject) -> tuple[str, bool]:
    """Compare log-probabilities of a sentence alone and in a batch with longer sentences."""
    pairs = list(zip(subject.sources, subject.targets, strict=True))
    alone = torch.cat([subject.forced([source], [target]) for source, target in pairs])
    longest = max(subject.sources, key=len) * 2, max(subject.targets, key=len) * 2
    together = subject.forced([*subject.sources, longest[0]], [*subject.targets, longest[1]])[:-1]
    worst = _largest([((together - alone) / alone).abs()])
    text = f"more padding changes log-probabilities by {worst:.1e} of their size (allowed: 1e-5)"
    return text, worst <= 1e-5


def _sums(subject: _Subject) -> tuple[str, bool]:
    """Sum the probabilities of several steps, with sentences leaving the batch and changing places in between."""
    errors, padded = [], []
    decoding = subject.encode(subject.sources)
    tokens = torch.full((len(subject.sources),), BOS)
    for _ in range(CHECK_STEPS):
        next_token, decoding = subject.model.step(tokens, decoding)
        log_probs = next_token.log_probs()
        probabilities = log_probs.exp()
        errors.append((probabilities.sum(dim=1) - 1).abs())
        padded.append(probabilities[:, PAD])
        kept = torch.arange(0, len(tokens), 2).flip(
            0
        )  # every second sentence leaves, the order of the others is reversed
        decoding = decoding.keep(kept.to(log_probs.device))
        tokens = log_probs.argmax(dim=1).cpu()[kept]
    worst, worst_pad = _largest(errors), _largest(padded)
    text = (
        f"the probabilities of the next token sum to 1 with an error of {worst:.1e} (allowed: 1e-5), and padding has"
        f" probability {worst_pad:g} (allowed: 0)"
    )
    return text, worst <= 1e-5 and worst_pad == 0


def _forced_scores(subject: _Subject) -> tuple[str, bool]:
    """Compare the log-probabilities of the search with those of teacher forcing on the same ids."""
    errors = []
    for beam_size in (1, CHECK_BEAM):
        found = subject.search(subject.sources, beam_size)
        pairs = [(source, best) for source, hyps in zip(subject.sources, found, strict=True) for best in hyps]
        log_probs = torch.tensor([best.log_prob for _, best in pairs], dtype=torch.float64)
        forced = subject.forced([source for source, _ in pairs], [best.ids[:-1] for _, best in pairs])
        errors.append((forced - log_probs).abs() / (SCORE_TOLERANCE + 1e-5 * log_probs.abs()))
    worst = _largest(errors)
    text = (
        f"log-probabilities of the search and of forced scoring differ by {worst:.2f} of the tolerance"
        " 1e-4 + 1e-5 |log P| (allowed: 1)"
    )
    return text, worst <= 1


def _half_scores(subject: _Subject) -> tuple[str, bool]:
    """Compare the log-probabilities of a search in bf16 with those of teacher forcing in fp32 on the same ids."""
    found = [best[0] for best in subject.search(subject.sources, CHECK_BEAM, "bf16")]
    forced = subject.forced(subject.sources, [best.ids[:-1] for best in found])
    errors = [abs(score - best.log_prob) / len(best.ids) for score, best in zip(forced.tolist(), found, strict=True)]
    worst = _largest(errors)
    text = f"log-probabilities of the search in bf16 differ from those in fp32 by {worst:.1e} per piece (allowed: 1e-2)"
    return text, worst <= HALF_TOLERANCE


def _greedy(subject: _Subject) -> tuple[str, bool]:
    """Check that beam 1 takes the most probable piece at every step."""
    wrong = 0
    for source, found in zip(subject.sources, subject.search(subject.sources, 1), strict=True):
        decoding = subject.encode([source])
        last = torch.tensor([BOS])
        for length, piece in enumerate(found[0].ids, start=1):
            next_token, decoding = subject.model.step(last, decoding)
            log_probs = next_token.log_probs().clone()
            if subject.never_id is not None:
                log_probs[:, subject.never_id] = -torch.inf
            forced = length == subject.max_length(len(source))
            most_probable = float(log_probs.max() - log_probs[0, piece]) <= SCORE_TOLERANCE
            wrong += not (most_probable or forced)
            last = torch.tensor([piece])
    text = f"a search with beam size 1 takes a piece that is not the most probable {wrong} times (allowed: 0)"
    return text, wrong == 0


def _n_best(subject: _Subject) -> tuple[str, bool]:
    """Check that n-best lists have the requested size (or hold all hypotheses), are sorted, and hold no duplicates."""
    num_words = subject.num_words + (subject.never_id is None)  # with unk, but without pad, bos, eos and tags
    limits = [subject.max_length(len(source)) for source in subject.sources]
    wanted = [min(CHECK_BEAM, sum(num_words**length for length in range(min(limit, CHECK_BEAM)))) for limit in limits]
    found = subject.search(subject.sources, CHECK_BEAM)
    short = sum(len(hypotheses) < count for hypotheses, count in zip(found, wanted, strict=True))
    # "not >=" so that a NaN counts as wrong
    unsorted = sum(not a.score >= b.score for hypotheses in found for a, b in itertools.pairwise(hypotheses))
    repeated = sum(len({tuple(h.ids) for h in hypotheses}) < len(hypotheses) for hypotheses in found)
    text = (
        f"of the n-best lists, {short} are too short and {repeated} hold a hypothesis twice,"
        f" {unsorted} hypotheses are out of order (allowed: 0)"
    )
    return text, not short + unsorted + repeated


def _never_pad_or_bos(subject: _Subject) -> tuple[str, bool]:
    found = subject.search(subject.sources, CHECK_BEAM)
    produced = sum(piece in (PAD, BOS) for hypotheses in found for h in hypotheses for piece in h.ids)
    text = f"the search produces padding or the start symbol {produced} times (allowed: 0)"
    return text, produced == 0


def _batch_invariance(subject: _Subject) -> tuple[str, bool]:
    """Compare the search of a sentence alone and in a batch; the ids may differ only if two hypotheses tie."""
    together = subject.search(subject.sources[::-1], CHECK_BEAM)[::-1]
    errors, changed = [], 0
    for source, batched in zip(subject.sources, together, strict=True):
        (alone,) = subject.search([source], CHECK_BEAM)
        errors.append(abs(alone[0].score - batched[0].score))
        tie = len(alone) > 1 and alone[0].score - alone[1].score <= SCORE_TOLERANCE
        changed += alone[0].ids != batched[0].ids and not tie
    worst = _largest(errors)
    text = (
        f"scores of a sentence alone and in a batch differ by {worst:.1e} (allowed: 1e-4), and {changed} translations"
        " differ (allowed: 0)"
    )
    return text, worst <= SCORE_TOLERANCE and not changed


# The checks by law: each returns what it compared and whether the law holds.
CHECKS: tuple[tuple[str, Callable[[_Subject], tuple[str, bool]]], ...] = (
    ("a model that is not finite is refused", _finite_weights),
    ("padding changes nothing", _padding_ids),
    ("padding changes nothing", _more_padding),
    ("probabilities sum to one", _sums),
    ("search and scoring agree", _forced_scores),
    ("half precision stays close", _half_scores),
    ("beam 1 is greedy", _greedy),
    ("beam 1 is greedy", _n_best),
    ("padding and start are never produced", _never_pad_or_bos),
    ("batches change nothing", _batch_invariance),
)


def run_checks(translator: Translator) -> list[Check]:
    """Run every check on a model, in evaluation mode. The sources are the same in every call."""
    # cuDNN uses TF32 by default, which has only 10 bits of mantissa: too few for these tolerances
    with translator.model.evaluating(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        subject = _Subject(translator)
        return [_run(law, check, subject) for law, check in CHECKS]


def _run(law: str, check: Callable[[_Subject], tuple[str, bool]], subject: _Subject) -> Check:
    try:
        return Check(law, *check(subject))
    except _NothingFoundError:
        return Check(law, "the search finds no translation of a source (the model computes NaN)", ok=False)
