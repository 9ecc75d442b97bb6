"""The laws that a user can check on a model of their own: padding, batching, search and scoring must agree.

The numbers are those of the project's own tests. The sources are random pieces of the model's vocabulary, so a check
needs no data; it takes seconds.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from seq2seq.data.batching import Batch, collate
from seq2seq.model import Decoding
from seq2seq.search.beam import Hypothesis, SearchOptions, beam_search
from seq2seq.text.tokenizer import BOS, EOS, PAD
from seq2seq.translator import Translator

SEED = 1
LENGTHS = (1, 2, 3, 5, 8, 13, 21)  # pieces of the sources
BEAM = 4
STEPS = 3
SCORE_TOLERANCE = 1e-4  # of sums of log-probabilities, fp32; plus 1e-5 of their size where forced scoring is compared


class Check(NamedTuple):
    """One law on one model."""

    law: str
    text: str  # what was compared, and by how much it differed
    passed: bool


class _Subject:
    """A model, and sources to try it on."""

    def __init__(self, translator: Translator) -> None:
        self.model = translator.model
        self.max_length = translator.max_length
        self.penalty = translator.search_config.length_penalty
        self.never_id = translator.model.never_id
        random = torch.Generator().manual_seed(SEED)
        size = translator.tokenizers.src.size
        lengths = [length for length in LENGTHS if length <= translator.model.max_source_length]
        self.sources = [torch.randint(EOS + 1, size, (length,), generator=random).tolist() for length in lengths]
        self.words = translator.tokenizers.tgt.size - EOS - 1
        # some target for each source: its own ids, folded into the target vocabulary
        self.targets = [[EOS + 1 + piece % self.words for piece in source] for source in self.sources]

    def batch(self, sources: Sequence[list[int]], targets: Sequence[list[int]]) -> Batch:
        """Collate; every fourth piece of a source is one that the target vocabulary lacks."""
        words, size = self.words, self.model.vocab_size
        copy_ids = [
            [size + piece % 3 if piece % 4 == 0 else EOS + 1 + piece % words for piece in source] for source in sources
        ]
        batch = collate(
            sources, targets, pad_id=PAD, bos_id=BOS, eos_id=EOS, copy_ids=copy_ids if self.model.copies else None
        )
        return batch.to(self.model.device)

    def encode(self, sources: Sequence[list[int]]) -> Decoding:
        """Read some sources in one batch."""
        batch = self.batch(sources, [[] for _ in sources])
        return self.model.encode(batch)

    def search(self, sources: Sequence[list[int]], beam_size: int) -> list[list[Hypothesis]]:
        """Search some sources in one batch."""
        decoding = self.encode(sources)
        limits = [self.max_length(len(source)) for source in sources]
        options = SearchOptions(BOS, EOS, beam_size, self.penalty, never_id=self.never_id)
        return beam_search(self.model.step, decoding, limits, options)

    def forced(self, sources: Sequence[list[int]], targets: Sequence[list[int]]) -> torch.Tensor:
        """Log-probability of every target (without eos) by teacher forcing in one batch."""
        parts = self.model.log_probs(self.batch(sources, targets)).cpu().split([len(target) + 1 for target in targets])
        return torch.stack([part.sum() for part in parts])


def run_checks(translator: Translator) -> list[Check]:
    """Run every check on a model, in evaluation mode; the sources are the same every time."""
    checks: list[Callable[[_Subject], Check]] = [
        _padding_ids,
        _more_padding,
        _sums,
        _forced_scores,
        _greedy,
        _n_best,
        _never_pad_or_bos,
        _batch_invariance,
    ]
    # TF32, which cuDNN takes unasked, keeps 10 bits of what the laws compare
    with translator.model.evaluating(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        subject = _Subject(translator)
        return [check(subject) for check in checks]


def _padding_ids(subject: _Subject) -> Check:
    """R1: other ids at padded places change nothing."""
    sources = [*subject.sources, []]
    batch = subject.batch(sources, sources)
    padding = batch.src == PAD
    outcomes = []
    for ids in (batch.src, batch.src.masked_fill(padding, EOS + 1)):
        memory, state, _ = subject.model.encode(batch._replace(src=ids))
        outcomes.append((memory.values[~padding], memory.summary, state.hidden))
    worst = max(float((a - b).abs().max()) for a, b in zip(*outcomes, strict=True))
    return Check("R1", f"other ids at padded places move the encoder by {worst:.1e} (must be 0)", worst == 0)


def _more_padding(subject: _Subject) -> Check:
    """R1: the padding that batch mates bring changes log-probabilities by at most 1e-5 of their size."""
    pairs = list(zip(subject.sources, subject.targets, strict=True))
    alone = torch.cat([subject.forced([source], [target]) for source, target in pairs])
    longest = max(subject.sources, key=len) * 2, max(subject.targets, key=len) * 2
    together = subject.forced([*subject.sources, longest[0]], [*subject.targets, longest[1]])[:-1]
    worst = float(((together - alone) / alone).abs().max())
    return Check(
        "R1", f"more padding moves log-probabilities by {worst:.1e} of their size (at most 1e-5)", worst <= 1e-5
    )


def _sums(subject: _Subject) -> Check:
    """R6: the probabilities of all tokens sum to 1 at every step, and pad has none, also when sentences have left."""
    worst, padded = 0.0, 0.0
    decoding = subject.encode(subject.sources)
    tokens = torch.full((len(subject.sources),), BOS)
    for _ in range(STEPS):
        next_token, decoding = subject.model.step(tokens, decoding)
        log_probs = next_token.log_probs()
        probabilities = log_probs.exp()
        worst = max(worst, float((probabilities.sum(dim=1) - 1).abs().max()))
        padded = max(padded, float(probabilities[:, PAD].max()))
        kept = torch.arange(0, len(tokens), 2).flip(0)  # every second sentence leaves, the others change places
        decoding = decoding.keep(kept.to(log_probs.device))
        tokens = log_probs.argmax(dim=1).cpu()[kept]
    text = f"the probabilities of a step sum to 1 but for {worst:.1e} (at most 1e-5), pad has {padded:g} (must be 0)"
    return Check("R6", text, worst <= 1e-5 and padded == 0)


def _forced_scores(subject: _Subject) -> Check:
    """R20: forced scoring of what search returns gives the same log-probability."""
    worst = 0.0
    for beam_size in (1, BEAM):
        found = subject.search(subject.sources, beam_size)
        pairs = [(source, best) for source, hyps in zip(subject.sources, found, strict=True) for best in hyps]
        log_probs = torch.tensor([best.log_prob for _, best in pairs])
        forced = subject.forced([source for source, _ in pairs], [best.ids[:-1] for _, best in pairs])
        worst = max(worst, float(((forced - log_probs).abs() / (SCORE_TOLERANCE + 1e-5 * log_probs.abs())).max()))
    return Check("R20", f"search and forced scoring differ by {worst:.2f} of the tolerance", worst <= 1)


def _greedy(subject: _Subject) -> Check:
    """R21: beam 1 takes the most probable piece at every step."""
    wrong = 0
    for source, found in zip(subject.sources, subject.search(subject.sources, 1), strict=True):
        decoding = subject.encode([source])
        last = torch.tensor([BOS])
        for number, piece in enumerate(found[0].ids, start=1):
            next_token, decoding = subject.model.step(last, decoding)
            log_probs = next_token.log_probs().clone()
            if subject.never_id is not None:
                log_probs[:, subject.never_id] = -torch.inf
            forced = number == subject.max_length(len(source))
            near = float(log_probs.max() - log_probs[0, piece]) <= SCORE_TOLERANCE
            wrong += not (near or forced)
            last = torch.tensor([piece])
    return Check("R21", f"beam 1 is greedy: {wrong} pieces differ", wrong == 0)


def _n_best(subject: _Subject) -> Check:
    """R21: as many hypotheses as asked, or as there are; all different, best first."""
    words = subject.model.vocab_size - 3 - (subject.never_id is not None)  # pad, bos and eos are none
    limits = [subject.max_length(len(source)) for source in subject.sources]
    wanted = [min(BEAM, sum(words**length for length in range(min(limit, BEAM)))) for limit in limits]
    found = subject.search(subject.sources, BEAM)
    fewer = sum(len(hypotheses) < count for hypotheses, count in zip(found, wanted, strict=True))
    unsorted = sum(a.score < b.score for hypotheses in found for a, b in itertools.pairwise(hypotheses))
    repeated = sum(len({tuple(h.ids) for h in hypotheses}) < len(hypotheses) for hypotheses in found)
    text = f"n-best lists: {fewer} too short, {unsorted} places out of order, {repeated} with a repetition"
    return Check("R21", text, not fewer + unsorted + repeated)


def _never_pad_or_bos(subject: _Subject) -> Check:
    """R23: pad and bos are never produced."""
    found = subject.search(subject.sources, BEAM)
    bad = sum(piece in (PAD, BOS) for hypotheses in found for h in hypotheses for piece in h.ids)
    return Check("R23", f"pad or bos produced {bad} times", bad == 0)


def _batch_invariance(subject: _Subject) -> Check:
    """R25: a sentence alone or in a batch gives the same scores, and the same ids unless two are as good."""
    together = subject.search(subject.sources[::-1], BEAM)[::-1]
    worst, other = 0.0, 0
    for source, batched in zip(subject.sources, together, strict=True):
        (alone,) = subject.search([source], BEAM)
        worst = max(worst, abs(alone[0].score - batched[0].score))
        tie = len(alone) > 1 and alone[0].score - alone[1].score <= SCORE_TOLERANCE
        other += alone[0].ids != batched[0].ids and not tie
    text = f"alone or in a batch: scores differ by {worst:.1e} (at most 1e-4), {other} other translations"
    return Check("R25", text, worst <= SCORE_TOLERANCE and not other)
