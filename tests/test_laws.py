"""The laws of copying, coverage and search, over encoders and decoders, attentions, texts, copy and coverage settings.

docs/laws.md names and explains the laws. The quick suite runs every pair of settings, the slow one all combinations. The
models are untrained and have large random weights. Their results are compared with plain loops in fp64, or with results
of the same model computed in another way.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from seq2seq.config import ModelConfig, SearchConfig, TokenizerConfig
from seq2seq.data.batching import Batch, collate
from seq2seq.data.copy_ids import SourceCopies, extended_target_ids, source_copies
from seq2seq.data.segments import sentence_numbers
from seq2seq.layers.attention import Attended, Memory
from seq2seq.layers.fast import plain_layers
from seq2seq.layers.transformer import TransformerDecoder
from seq2seq.model import Decoding, Seq2Seq
from seq2seq.model_dir import Tokenizers
from seq2seq.search.beam import Hypothesis, SearchOptions, beam_search
from seq2seq.search.next_token import LogProbs
from seq2seq.text.factory import train_tokenizer
from seq2seq.text.tokenizer import BOS, EOS, PAD, UNK
from seq2seq.translation import Translation
from seq2seq.translator import Translator

FACTORS: dict[str, tuple[str, ...]] = {
    "parts": (
        "gru",
        "lstm",
        "hierarchical+gru",
        "transformer",
        "gru+transformer",
        "transformer+gru",
    ),  # encoder+decoder
    "attention": ("additive", "general", "multi_head", "local_p"),
    "text": ("subwords", "words", "two"),  # one bpe; one vocabulary of words; a bpe for each side
    "copy": ("none", "shared", "separate", "copynet"),  # shared, separate: the pointer's attention
    "coverage": ("none", "sum", "fertility"),
}
ENGLISH = ["the man sees the old dog .", "a dog and a small cat sleep , too .", "two men run away from the cat !"]
FRENCH = ["l'homme voit le vieux chien .", "un chien et un petit chat dorment aussi .", "deux hommes fuient le chat !"]
NAMES = ("Zarniwoop", "Fnord", "Xylo", "Plugh", "Quibble", "Wombat", "Grue", "Vortex", "Jynx", "Blivet")  # unknown
LINES = [
    "Zarniwoop sees . the dog of Fnord .",
    "Xylo Plugh",
    "the cat sees a man . and Quibble sees the small dog ! Wombat and Grue , too !",
    "the old cat",
    "a Vortex and a Jynx ! and Vortex sees Blivet .",
]
ALL = range(len(LINES))
BEAM = 4
SEARCH = SearchConfig(beam_size=BEAM, max_length_ratio=0.3, max_length_extra=3, min_length=2)


class Case(NamedTuple):
    """One combination of settings."""

    parts: str
    attention: str
    text: str
    copy: str
    coverage: str


def allowed(factors: dict[str, tuple[str, ...]]) -> list[tuple[str, ...]]:
    """List the combinations that a model can have: a Transformer decoder has no coverage and its own attention."""
    chosen = []
    for case in map(Case._make, itertools.product(*factors.values())):
        plain = case.coverage == "none" and (case.attention == "additive" or case.copy == "separate")
        if plain or not case.parts.endswith("transformer"):
            chosen.append(case)
    return chosen


def all_pairs(factors: dict[str, tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Choose combinations that contain every pair of values, each time the one with the most missing pairs."""
    product = allowed(factors)
    pairs = {case: set(itertools.combinations(enumerate(case), 2)) for case in product}
    missing = set().union(*pairs.values())
    chosen = []
    while missing:
        chosen.append(max(product, key=lambda case: len(pairs[case] & missing)))
        missing -= pairs[chosen[-1]]
    return chosen


def cases(**only: tuple[str, ...]) -> pytest.MarkDecorator:
    """Parametrize over every combination of the factors; only those that cover all pairs are in the quick suite."""
    factors = FACTORS | only
    quick = all_pairs(factors)
    parameters = [
        pytest.param(Case(*case), id="-".join(case), marks=() if case in quick else pytest.mark.slow)
        for case in allowed(factors)
    ]
    return pytest.mark.parametrize("case", parameters)


COPYING = {"copy": ("shared", "separate", "copynet")}
COVERED = {"coverage": ("sum", "fertility")}


@pytest.mark.parametrize("only", [{}, COPYING, COVERED])
def test_the_quick_suite_covers_all_pairs(only):
    factors = FACTORS | only
    chosen = all_pairs(factors)
    assert chosen == all_pairs(factors)
    assert set(chosen) <= set(allowed(factors))
    assert len(chosen) <= 30 < len(allowed(factors))
    for first, second in itertools.combinations(range(len(factors)), 2):
        pairs = [{(case[first], case[second]) for case in cases} for cases in (chosen, allowed(factors))]
        assert pairs[0] == pairs[1]


@cache
def tokenizers(text: str) -> Tokenizers:
    if text == "words":
        words = train_tokenizer(ENGLISH, TokenizerConfig(type="word", vocab_size=40))
        return Tokenizers(words, words)
    bpe = TokenizerConfig(type="bpe", vocab_size=310)
    src = train_tokenizer(ENGLISH, bpe)
    return Tokenizers(src, train_tokenizer(FRENCH, bpe) if text == "two" else src)


def make_model(case: Case, sizes: tuple[int, int], *, shared: bool) -> Seq2Seq:
    """Make an untrained model whose weights and biases are all larger than at the start of training."""
    torch.manual_seed(1)
    pointer = case.copy in ("shared", "separate")
    encoder, decoder = (case.parts.split("+") * 2)[:2]
    has_transformer = "transformer" in (encoder, decoder)
    (cell,) = {encoder, decoder} - {"transformer", "hierarchical"} or {"lstm"}
    config = ModelConfig(
        encoder=encoder if encoder in ("transformer", "hierarchical") else "rnn",
        decoder="transformer" if decoder == "transformer" else "rnn",
        cell=cell,
        heads=2 if has_transformer else 4,
        attention=case.attention,
        copy="pointer" if pointer else case.copy,
        copy_attention=case.copy if pointer else None,
        coverage=case.coverage,
        embedding_size=8 if has_transformer else 6,
        hidden_size=8,
        dropout=0.0,
    )
    model = Seq2Seq(config, src_size=sizes[0], tgt_size=sizes[1], shared=shared)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(std=0.2 if "bias" in name else 0.7)
        model.readout.logits.weight *= 2
        model.readout.logits.bias[EOS] = -1.5  # otherwise most translations would end at the first step
        if pointer:
            model.pointer.gate.bias.fill_(-1.5)  # p_gen is below 0.5
        if case.copy == "copynet":
            model.readout.logits.bias -= 12.0
    return model.eval()


class World:
    """A model with its tokenizers and translator, and the lines as the model reads them.

    Args:
        double: compute in fp64, so rounding never decides between two hypotheses.
    """

    def __init__(self, case: Case, *, double: bool = False, **search: float) -> None:
        self.tokenizers = tokenizers(case.text)
        self.tgt = self.tokenizers.tgt
        self.model = make_model(case, (self.tokenizers.src.size, self.tgt.size), shared=case.text != "two")
        self.model.to(torch.float64 if double else torch.float32)
        self.size = self.model.vocab_size
        settings = SearchConfig(**(vars(SEARCH) | search))
        self.translator = Translator(self.model, self.tokenizers, settings)
        segments = self.tokenizers.src.segment(LINES)
        self.src = [line.ids for line in segments]
        self.pieces = [line.pieces for line in segments]
        self.segments = [sentence_numbers(line, found.spans) for line, found in zip(LINES, segments, strict=True)]
        self.copied = [
            source_copies(line.pieces, self.tgt) if self.model.copies else SourceCopies([], []) for line in segments
        ]

    def gold(self, row: int) -> dict[str, int]:
        """Return a target id of every kind that exists for a line, by where the word occurs."""
        copy_ids, oov = self.copied[row]
        outside = [number for number in range(EOS + 1, self.size) if number not in copy_ids]
        kinds = {"vocabulary": outside[5], "nowhere": UNK}
        if oov:
            kinds["source"] = self.size + len(oov) - 1
        if any(number < self.size for number in copy_ids):
            kinds["both"] = min(copy_ids)
        return kinds

    def kinds(self, row: int) -> list[str]:
        """List the kinds of the words in the target of a line: every kind once or twice; one target is empty."""
        return list(self.gold(row)) * (1 + row % 2) if row != ALL[-1] else []

    def targets(self) -> list[list[int]]:
        return [[self.gold(row)[kind] for kind in self.kinds(row)] for row in ALL]

    def batch(self, rows: Iterable[int], targets: Sequence[list[int]]) -> Batch:
        """Collate lines, each with a target."""
        rows = list(rows)
        copy_ids = [self.copied[row].copy_ids for row in rows] if self.model.copies else None
        src, segments = [self.src[row] for row in rows], [self.segments[row] for row in rows]
        return collate(src, targets, pad_id=PAD, bos_id=BOS, eos_id=EOS, copy_ids=copy_ids, segments=segments)

    def known(self) -> Batch:
        """Collate all lines with their targets."""
        return self.batch(ALL, self.targets())

    def encode(self, rows: Iterable[int] = ALL) -> Decoding:
        rows = list(rows)
        batch = self.batch(rows, [[] for _ in rows])
        return self.model.encode(batch)

    def search(self, rows: Iterable[int] = ALL, beam_size: int = BEAM) -> list[list[Hypothesis]]:
        rows = list(rows)
        limits = [self.translator.max_length(len(self.src[row])) for row in rows]
        return beam_search(self.model.step, self.encode(rows), limits, SearchOptions(BOS, EOS, beam_size))

    def copied_id(self, row: int, piece: str) -> int:
        """Return the id of a target piece, in the vocabulary or among the out-of-vocabulary pieces of the line."""
        oov = self.copied[row].oov
        return self.tgt.pieces(range(self.size + len(oov)), oov).index(piece)

    def forced(self, found: list[list[Hypothesis]]) -> Iterator[tuple[Hypothesis, Tensor]]:
        """Pair every hypothesis of all lines with the log-probabilities of its ids by teacher forcing."""
        pairs = [(row, best) for row, hypotheses in enumerate(found) for best in hypotheses]
        batch = self.batch([row for row, _ in pairs], [best.ids[:-1] for _, best in pairs])
        with torch.no_grad():
            log_probs = self.model.log_probs(batch).split([len(best.ids) for _, best in pairs])
        return zip((best for _, best in pairs), log_probs, strict=True)

    def record_steps(self) -> list[tuple[Tensor, Decoding]]:
        """Search all lines; return the results of every step."""
        results = []
        step = self.model.step

        def recorded(tokens: Tensor, decoding: Decoding) -> tuple[LogProbs, Decoding]:
            next_token, decoding = step(tokens, decoding)
            results.append((next_token.log_probs(), decoding))
            return next_token, decoding

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(self.model, "step", recorded)
            self.translator.search(LINES)
        return results


def record_calls(module: nn.Module) -> list:
    """Record the arguments and results of the following calls of a module."""
    calls: list = []
    module.register_forward_hook(lambda module, arguments, result: calls.append((arguments, result)))
    return calls


class AttentionCall(NamedTuple):
    """One call of the decoder's attention: (B, Q, H), (B, Q, S) or (B, Q, 0), (B, Q, S)."""

    query: Tensor
    coverage: Tensor
    log_weights: Tensor


def record_attention(model: Seq2Seq) -> list[AttentionCall]:
    """Record the following calls of the attention of the decoder."""
    calls: list[AttentionCall] = []
    if isinstance(model.decoder, TransformerDecoder):
        source = model.decoder.layers[-1].source
        with_weights = source.with_weights

        def recorded_layer(inputs: Tensor, known: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
            attended, log_weights = with_weights(inputs, known, mask)
            calls.append(AttentionCall(inputs, log_weights[:, :, :0], log_weights))
            return attended, log_weights

        source.with_weights = recorded_layer
        return calls
    original = model.decoder.attention.attend

    def recorded(query: Tensor, memory: Memory, coverage: Tensor) -> Attended:
        found = original(query, memory, coverage)
        calls.append(AttentionCall(query, coverage, found.log_weights))
        return found

    model.decoder.attention.attend = recorded
    return calls


def tensors_of(memory: Memory) -> list[Tensor]:
    """Return the tensors of a memory, those of its sentences included."""
    return [leaf for leaf in tree_leaves(memory) if isinstance(leaf, Tensor)]


def bos(count: int) -> Tensor:
    return torch.full((count,), BOS)


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


# ---- copying


def check_sums(size: int, log_probs: Tensor, decoding: Decoding) -> None:
    """Check the law "probabilities sum to one" after one step."""
    probabilities = log_probs.exp()
    assert not log_probs.isnan().any()
    assert (probabilities.sum(dim=1) - 1).abs().max() <= 1e-5
    assert (probabilities[:, [PAD, BOS]] == 0).all()
    assert probabilities.max(dim=1).values.min() > 1.5 / size  # far from uniform
    memory, state = decoding.memory, decoding.state
    memory = memory.select(torch.arange(len(memory.mask)).repeat_interleave(len(log_probs) // len(memory.mask)))
    assert (state.log_weights.exp()[~memory.mask] == 0).all()
    columns = torch.arange(size, log_probs.shape[1])
    in_source = (memory.copy_ids.unsqueeze(2) == columns).any(dim=1)  # (N, out-of-vocabulary pieces of all sentences)
    assert (probabilities[:, size:][~in_source] == 0).all()
    assert (probabilities[:, size:][in_source] > 0).all()


@cases()
def test_probabilities_sum_to_one_and_padding_has_none(case):
    """They do so also after sentences have left the search, and after any selection of rows."""
    world = World(case)
    steps = world.record_steps()
    for log_probs, decoding in steps:
        check_sums(world.size, log_probs, decoding)
    rows = [len(log_probs) for log_probs, _ in steps[1:]]
    assert rows == sorted(rows, reverse=True)
    assert len(set(rows)) > 1  # sentences left the search, but not all at once

    log_probs, decoding = steps[0]
    for chosen in ([4, 0, 0, 2], [1], [3, 3]):
        next_token, selected = world.model.step(log_probs.argmax(dim=1)[chosen], decoding.keep(torch.tensor(chosen)))
        check_sums(world.size, next_token.log_probs(), selected)


@cases(**COPYING)
def test_ids_at_padded_positions_are_never_copied(case):
    """The id of a word at padded positions adds nothing to its probability."""
    world = World(case)
    decoding = world.encode()
    memory = decoding.memory
    assert not memory.mask.all()
    noisy = memory._replace(copy_ids=memory.copy_ids.where(memory.mask, EOS + 1))
    expected, _ = world.model.step(bos(len(LINES)), decoding)
    found, _ = world.model.step(bos(len(LINES)), decoding._replace(memory=noisy))
    assert torch.equal(found.log_probs(), expected.log_probs())


@cases()
def test_loss_and_gradients_are_finite(case):
    """Targets of every kind are tested, also with a saturated gate."""
    for bias in (0.0,) if case.copy == "none" else (0.0, 1e4, -1e4):
        world = World(case)
        model, batch = world.model, world.known()
        with torch.no_grad():
            if case.copy == "copynet":  # CopyNet has no gate: copying competes with the sum of the exponentiated logits
                model.readout.logits.bias += bias
            elif model.copies:
                model.pointer.gate.bias.fill_(bias)
        loss = model(batch, smoothing=0.1, coverage_weight=0.5).total
        loss.backward()
        assert loss.isfinite()
        assert model.log_probs(batch).isfinite().all()
        assert len(gradients(model)) == len(list(model.parameters()))
        for name, gradient in gradients(model).items():
            assert gradient.isfinite().all(), name


@cases(copy=("separate",))
def test_a_target_outside_the_source_gives_copying_zero_gradient(case):
    """The gradient of the copy attention is exactly zero, not NaN, for a word that cannot be copied."""
    world = World(case)
    rows = list(ALL)
    for kind in ("vocabulary", "nowhere"):
        batch = world.batch(rows, [[world.gold(row)[kind]] for row in rows])
        world.model.zero_grad()
        first = world.model.log_probs(batch).view(-1, 2)[:, 0]  # the end of the sentence can be copied
        first.sum().backward()
        of_attention = gradients(world.model.pointer.attention)
        assert all((gradient == 0).all() for gradient in of_attention.values())
        assert (gradients(world.model)["pointer.gate.bias"] != 0).all()


def naive(world: World, batch: Batch) -> list[tuple[float, float]]:
    """Compute the probability of every target token by generating and by copying, with loops in fp64."""
    readout = record_calls(world.model.readout)
    pointer = record_calls(world.model.pointer) if world.model.copies else None
    with torch.no_grad():
        world.model.log_probs(batch)
    logits = readout[0][1].double()
    result = []
    for number, position in enumerate(batch.target_positions.tolist()):
        row, t = divmod(position, batch.tgt_out.shape[1])
        target = int(batch.tgt_out[row, t])
        scores = [0.0 if i in (PAD, BOS) else math.exp(x) for i, x in enumerate(logits[number].tolist())]
        generated = scores[target] if target < len(scores) else 0.0
        if pointer is None:
            result.append((generated / sum(scores), 0.0))
            continue
        gates, energies = pointer[0][1]
        places = [math.exp(x) for x in energies[row, t, : batch.src_lengths[row]].double().tolist()]
        copied = sum(x for x, i in zip(places, batch.copy_ids[row].tolist(), strict=False) if i == target)
        if gates is None:  # one softmax over both
            total = sum(scores) + sum(places)
            result.append((generated / total, copied / total))
        else:
            p_gen = 1 / (1 + math.exp(-float(gates[row, t])))
            result.append((p_gen * generated / sum(scores), (1 - p_gen) * copied / sum(places)))
    return result


@cases()
def test_a_target_is_credited_by_both_routes(case):
    """The probability of a target token is the sum of generating and copying it."""
    world = World(case)
    batch = world.known()
    log_probs, routes = world.model.log_probs(batch).detach(), naive(world, batch)
    assert log_probs.isfinite().all()
    expected = torch.tensor([math.log(generated + copied) for generated, copied in routes])
    torch.testing.assert_close(log_probs, expected, rtol=1e-5, atol=1e-5)

    kinds = [kind for row in ALL for kind in [*world.kinds(row), "end"]]
    by_kind = {kind: [route for k, route in zip(kinds, routes, strict=True) if k == kind] for kind in set(kinds)}
    assert ("source" in by_kind) == (world.model.copies and case.text != "subwords")
    for kind, found in by_kind.items():
        can_copy = world.model.copies and kind in ("both", "source", "end")
        assert all((generated > 0) == (kind != "source") for generated, _ in found)
        assert all((copied > 0) == can_copy for _, copied in found)


@pytest.mark.parametrize("case", [Case("gru", "additive", "words", "shared", "none")])
def test_target_words_outside_the_vocabulary_are_found_in_their_source(case):
    """A word that only the source has is copied, and a word that neither has is unknown, also in ``score``."""
    world = World(case)
    target = "the Vortex Nowhere Jynx Xylo"
    ids = extended_target_ids(world.tgt.segment([target])[0], world.copied[4].oov, world.tgt)
    assert ids == [world.tgt.id("the"), world.size, UNK, world.size + 1, UNK]
    (scores,) = world.translator.score([LINES[4]], [target])
    batch = world.batch([4], [ids])
    assert scores == pytest.approx([math.log(sum(route)) for route in naive(world, batch)], abs=1e-5)


@cases(**COPYING)
def test_a_word_is_one_hypothesis_by_both_routes(case):
    """Every string has one id, with the probability of both routes, and occurs once in an n-best list."""
    world = World(case)
    readout, pointer = record_calls(world.model.readout), record_calls(world.model.pointer)
    with torch.no_grad():
        next_token, _ = world.model.step(bos(len(LINES)), world.encode())
        log_probs = next_token.log_probs()
        pointer.clear()
        with plain_layers():  # the fast twin does not call the readout
            world.model.step(bos(len(LINES)), world.encode())
    (gates, energies), logits = pointer[0][1], readout[0][1].double()
    for row in ALL:
        oov = world.copied[row].oov
        strings = world.tgt.pieces(range(world.size + len(oov)), oov)
        assert len(set(strings)) == len(strings)
        expected = dict.fromkeys(strings, 0.0)
        vocabulary = torch.softmax(logits[row], dim=0).tolist()
        places = torch.softmax(energies[row, 0, : len(world.src[row]) + 1].double(), dim=0).tolist()
        if gates is None:
            generates, copies = logits[row].exp().sum(), energies[row, 0].double().exp().sum()
            p_gen = float(generates / (generates + copies))
        else:
            p_gen = float(torch.sigmoid(gates[row, 0].double()))
        for string, probability in zip(strings, vocabulary, strict=False):
            expected[string] += p_gen * probability
        for string, probability in zip([*world.pieces[row], strings[EOS]], places, strict=True):
            expected[string] += (1 - p_gen) * probability
        found = log_probs[row].exp().tolist()
        assert found[: len(strings)] == pytest.approx(list(expected.values()), abs=1e-6)
    for hypotheses in world.translator.search(LINES, n_best=BEAM):
        assert len(hypotheses) == BEAM
        assert len({tuple(found.pieces) for found in hypotheses}) == BEAM


def check_own_words(world: World) -> None:
    """Check the law "own words travel with their sentence" for every line and hypothesis."""
    lines_with_copies = 0
    for row, (found, line) in enumerate(zip(world.translator.search(LINES, n_best=BEAM), LINES, strict=True)):
        (alone,) = world.translator.search([line], n_best=BEAM)
        assert [one.pieces for one in found] == [one.pieces for one in alone]
        copied = {piece for one in found for piece in one.pieces if world.tgt.id(piece) == UNK and piece != "<unk>"}
        assert copied <= set(world.pieces[row])
        if world.tgt is world.tokenizers.src:  # words
            others = [name for name in NAMES if name not in line]
            assert not any(name in one.translation for name in others for one in found)
        lines_with_copies += bool(copied)
    assert lines_with_copies  # otherwise the test could not fail


@cases(**COPYING, text=("words", "two"))
def test_own_words_travel_with_their_sentence(case):
    """A translation copies only from its source, also after other sentences have left the search."""
    check_own_words(World(case, double=True))


@pytest.mark.parametrize("text", ["words", "two"])
def test_the_check_finds_own_words_that_do_not_travel(text, monkeypatch):
    """The check above fails if the copy ids of other rows are saved when sentences leave."""
    select = Memory.select

    def forgetful(memory: Memory, rows: Tensor) -> Memory:
        stale = memory.copy_ids.flip(0)[: len(rows)]
        return select(memory, rows)._replace(copy_ids=stale)

    world = World(Case("gru", "additive", text, "shared", "none"), double=True)
    check_own_words(world)
    monkeypatch.setattr(Memory, "select", forgetful)
    with pytest.raises((AssertionError, IndexError)):
        check_own_words(world)


class Sizes(TorchDispatchMode):
    """Record the number of elements of the largest tensor that an operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        tensors = (leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor))
        self.largest = max(self.largest, *(tensor.numel() for tensor in tensors), 0)
        return result


B, S, V = 3, 9, 5000  # V is large, so B*S*V exceeds every other product of sizes, and the working memory of oneDNN


def large_batch(*, copies: bool = True) -> Batch:
    src = torch.arange(4, 4 + B * (S - 1)).view(B, S - 1)
    copy_ids = src.masked_fill(src % 5 == 0, V + 1).tolist() if copies else None
    targets = [[4, V + 1 if copies else 5], [UNK], [30]]
    segments = [[place // 3 for place in range(S - 1)]] * B
    return collate(src.tolist(), targets, pad_id=PAD, bos_id=BOS, eos_id=EOS, copy_ids=copy_ids, segments=segments)


@cases(text=("two",))
def test_no_tensor_is_as_large_as_source_times_vocabulary(case):
    """The forward pass, the backward pass and search are tested."""
    model = make_model(case, (V, V), shared=False)
    batch = large_batch(copies=model.copies)
    with Sizes() as sizes:
        model(batch, smoothing=0.1, coverage_weight=0.5).total.backward()
    assert V * 6 <= sizes.largest < B * S * V
    with Sizes() as sizes:
        beam_search(model.step, model.encode(batch), [5, 4, 3], SearchOptions(BOS, EOS, beam_size=2))
    assert B * V <= sizes.largest < B * S * V


def test_the_check_finds_a_tensor_of_source_times_vocabulary():
    """The usual implementation of copying, a product with one-hot rows, is found in the forward and backward pass."""
    weights = torch.rand(B, 2, S, requires_grad=True)
    ids = large_batch().copy_ids.clamp(max=V - 1)
    with Sizes() as sizes:
        one_hot = F.one_hot(ids, V).float()  # (B, S, V)
        copied = torch.bmm(weights, one_hot)  # (B, T, S) @ (B, S, V)
    assert sizes.largest == B * S * V > copied.numel()
    with Sizes() as sizes:
        copied.sum().backward()
    assert sizes.largest == B * S * V


@cases()
def test_label_smoothing_with_copying(case):
    """(1-e) NLL of the mixture + e mean_v(-log P_vocab(v)), v without pad and bos; the reported NLL is unsmoothed."""
    world = World(case)
    batch, e = world.known(), 0.2
    readout = record_calls(world.model.readout)
    world.model.log_probs(batch)  # computes all logits; the fused loss does not
    plain, smoothed = world.model(batch), world.model(batch, smoothing=e)
    without, total = plain.total.item(), smoothed.total.item()
    expected = 0.0
    for logits in readout[0][1].double().tolist():
        words = [x for i, x in enumerate(logits) if i not in (PAD, BOS)]
        log_sum = math.log(sum(map(math.exp, words)))
        expected += sum(log_sum - x for x in words) / len(words)
    assert total == pytest.approx((1 - e) * without + e * expected, rel=1e-5)
    assert abs(total - without) > 0.01
    assert smoothed.nll == plain.nll == pytest.approx(without)
    assert without == pytest.approx(-world.model.log_probs(batch).sum().item(), rel=1e-6)
    if world.model.copies:  # the smoothing term has no gradient in the parameters of copying
        parameter = {"shared": "gate.bias", "separate": "attention.key.weight", "copynet": "key.weight"}[case.copy]
        parameter = world.model.pointer.get_parameter(parameter)
        ((a,), (b,)) = (torch.autograd.grad(loss.total, parameter) for loss in (plain, smoothed))
        torch.testing.assert_close(b, (1 - e) * a, rtol=1e-4, atol=1e-6)


# ---- coverage


@pytest.fixture
def by_steps() -> Iterator[None]:
    """Unroll step by step, so the calls of the attention can be recorded."""
    with plain_layers():
        yield


@cases(**COVERED)
def test_coverage_excludes_the_present(case, by_steps):
    """At step t, the attention receives the sum of a^1 .. a^(t-1), divided by the fertility."""
    world = World(case)
    calls = record_attention(world.model)
    with torch.no_grad():
        world.model.log_probs(world.known())
        memory = world.encode().memory
    expected = torch.zeros_like(calls[0].coverage, dtype=torch.float64)
    for call in calls:
        torch.testing.assert_close(call.coverage.double(), expected, rtol=1e-5, atol=1e-6)
        expected = expected + call.log_weights.double().exp() / memory.fertility.double().unsqueeze(1)
    assert (calls[0].coverage == 0).all()
    assert expected.max() > 1
    if case.coverage == "sum":
        assert (memory.fertility == 1).all()
    else:  # N = 2 of Tu et al. 2016
        fertility = 2 * torch.sigmoid(memory.values @ world.model.decoder.attention.fertility_energy.weight[0])
        torch.testing.assert_close(memory.fertility, fertility.detach())
        assert fertility.max() - fertility.min() > 0.1


@cases(**COVERED)
def test_coverage_loss_is_linear(case, by_steps):
    """It is sum_i min(a_i, c_i) over steps and positions without padding, and grows linearly with its weight."""
    world = World(case)
    batch = world.known()
    calls = record_attention(world.model)
    memory = world.encode().memory
    losses = {weight: world.model(batch, coverage_weight=weight) for weight in (0.0, 0.1, 1.0, 10.0)}
    expected = [0.0 for _ in ALL]
    for row in ALL:
        steps, places = len(world.kinds(row)) + 1, int(batch.src_lengths[row])
        covered = [0.0] * places
        for call in calls[:steps]:
            weights = call.log_weights[row, 0].double().exp().tolist()[:places]
            expected[row] += sum(map(min, weights, covered))
            fertility = memory.fertility[row].tolist()[:places]
            covered = [c + a / phi for c, a, phi in zip(covered, weights, fertility, strict=True)]
    assert sum(expected) > 0.5
    for weight, loss in losses.items():
        assert loss.coverage.item() == pytest.approx(sum(expected), rel=1e-5)
        assert (loss.total - loss.nll).item() == pytest.approx(weight * sum(expected), rel=1e-4, abs=1e-4)
    for row in ALL:
        alone = world.model(world.batch([row], [world.targets()[row]]))
        assert alone.coverage.item() == pytest.approx(expected[row], rel=1e-4, abs=1e-6)


@cases(**COVERED)
def test_coverage_parameters_have_a_gradient(case):
    """They have one with and without the coverage loss, and they change the output."""
    world = World(case)
    parameters = dict(world.model.decoder.attention.named_parameters())
    parameters = {name: p for name, p in parameters.items() if name.startswith(("coverage", "fertility"))}
    assert len(parameters) == (1 if case.coverage == "sum" else 2)
    for weight in (0.0, 1.0):
        world.model.zero_grad()
        world.model(world.known(), coverage_weight=weight).total.backward()
        for name, parameter in parameters.items():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 1e-4, name
    with torch.no_grad():
        before = world.model.log_probs(world.known())
        parameters["coverage_weight"].zero_()
        assert (world.model.log_probs(world.known()) - before).abs().max() > 1e-3


@cases(**COVERED)
def test_coverage_sums_to_t_after_t_steps(case):
    """The sum of the weights, without fertility, is tested in every row that is still in the search."""
    world = World(case)
    for t, (_, decoding) in enumerate(world.record_steps(), start=1):
        coverage = decoding.state.coverage.unflatten(0, (len(decoding.memory.mask), -1))  # (R, K, S)
        total = (coverage * decoding.memory.fertility.unsqueeze(1)).sum(dim=2)
        torch.testing.assert_close(total, torch.full_like(total, t))
        assert (coverage.transpose(1, 2)[~decoding.memory.mask] == 0).all()


@cases(**COVERED)
def test_coverage_follows_the_beam(case):
    """Teacher-forced scoring of the returned ids gives the log-probabilities of the search."""
    world = World(case)
    found = world.search()
    assert [len(hypotheses) for hypotheses in found] == [BEAM] * len(LINES)
    for best, log_probs in world.forced(found):
        assert best.token_log_probs == pytest.approx(log_probs.tolist(), abs=1e-4)


@pytest.mark.parametrize("coverage", COVERED["coverage"])
def test_the_check_finds_coverage_that_does_not_follow_the_beam(coverage, monkeypatch):
    """The check above fails if the search does not reorder the coverage."""

    def reorder(decoding: Decoding, rows: Tensor) -> Decoding:
        state, coverage = decoding.state.select(rows), decoding.state.coverage
        first = torch.arange(len(decoding.memory.mask)).repeat_interleave(len(rows) // len(decoding.memory.mask))
        stale = (
            coverage if len(coverage) == len(rows) else coverage[first * (len(coverage) // len(decoding.memory.mask))]
        )
        return decoding._replace(state=state._replace(coverage=stale))

    world = World(Case("gru", "additive", "words", "none", coverage))
    monkeypatch.setattr(Decoding, "reorder", reorder)
    assert max(abs(best.log_prob - float(log_probs.sum())) for best, log_probs in world.forced(world.search())) > 1e-3


# ---- one step for training and search


@cases()
def test_first_step_is_the_same_in_training_and_search(case, by_steps):
    """The attention has the same input and result at the first step; all later probabilities agree within rounding."""
    world = World(case)
    batch = world.known()
    calls = record_attention(world.model)
    with torch.no_grad():
        forced = torch.full(batch.tgt_out.shape, math.nan).flatten()
        forced = forced.index_copy(0, batch.target_positions, world.model.log_probs(batch)).view_as(batch.tgt_out)
        trained = calls[0]
        calls.clear()
        decoding = world.encode()
        for t in range(batch.tgt_in.shape[1]):
            next_token, decoding = world.model.step(batch.tgt_in[:, t], decoding)
            log_probs = next_token.log_probs()
            is_token = ~forced[:, t].isnan()
            stepped = log_probs.gather(1, batch.tgt_out[:, t : t + 1]).squeeze(1)
            torch.testing.assert_close(stepped[is_token], forced[:, t][is_token], rtol=1e-5, atol=1e-5)
    trained = AttentionCall(*(tensor[:, :1] for tensor in trained))  # a Transformer computes all steps in one call
    assert torch.equal(trained.coverage, calls[0].coverage)
    assert not trained.coverage.any()
    for a, b in ((trained.query, calls[0].query), (trained.log_weights, calls[0].log_weights)):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


@cases()
def test_memory_is_never_changed(case):
    """Unrolling, the backward pass, steps and a search leave every tensor of the memory unchanged, bit for bit."""
    world = World(case)
    saved = []

    def save(memory: Memory) -> None:
        saved.append([(tensor, tensor.clone(), tensor._version) for tensor in tensors_of(memory)])

    start = world.model.decoder.start
    world.model.decoder.start = lambda encoded, memory: (save(memory), start(encoded, memory))[1]
    world.model(world.known(), smoothing=0.1, coverage_weight=0.5).total.backward()
    decoding = world.encode()
    beam_search(world.model.step, decoding, [5, 2, 9, 3, 7], SearchOptions(BOS, EOS, BEAM))
    assert len(saved) == 2
    fields = len(Memory._fields) - 1
    assert {len(tensors) for tensors in saved} == {fields + (4 if case.parts.startswith("hierarchical") else 0)}
    for tensor, copy, version in itertools.chain(*saved):
        assert torch.equal(tensor, copy)
        assert tensor._version == version  # it was not even written and restored


# ---- search


@cases()
def test_penalties_ignore_padding(case):
    """A score is log P / |Y| minus penalties on the weights of the source pieces, by itself and next to a longer line."""
    coverage, summary = 0.4, 0.3
    world = World(case, double=True, coverage_penalty=coverage, summary_penalty=summary)
    together = world.translator.search(LINES, n_best=BEAM)
    penalised = 0.0
    for row, found in enumerate(together):
        if row in (1, 3):  # the shortest
            same_results(found, world.translator.search([LINES[row]], n_best=BEAM)[0])
        ids = [[world.copied_id(row, piece) for piece in one.pieces] for one in found]
        with torch.no_grad():
            weights = world.model.provenance(world.batch([row] * len(ids), ids)).weights
        for one, weights_of_one in zip(found, weights.split([len(target) + 1 for target in ids]), strict=True):
            attended = weights_of_one.sum(dim=0)[: len(world.src[row])].tolist()
            penalty = sum(coverage * -math.log(min(a, 1)) + summary * (max(a, 1) - 1) for a in attended)
            penalised = max(penalised, penalty)
            assert one.score == pytest.approx(one.log_prob / (len(one.pieces) + 1) - penalty, abs=1e-6)
    assert penalised > 1


@cases()
def test_search_and_scoring_agree(case):
    """Greedy search, beam search and the whole n-best list are tested."""
    world = World(case)
    for beam_size in (1, BEAM):
        for best, log_probs in world.forced(world.search(beam_size=beam_size)):
            expected = float(log_probs.double().sum())
            assert best.log_prob == pytest.approx(expected, abs=1e-4 + 1e-5 * abs(expected))
            assert best.log_prob == pytest.approx(sum(best.token_log_probs), abs=1e-4)


@cases()
def test_beam_1_is_greedy(case):
    """It takes the most probable piece at every step, until eos or the maximum length."""
    world = World(case, double=True)
    for row, (best,) in enumerate(world.search(beam_size=1)):
        decoding, last, ids = world.encode([row]), BOS, []
        with torch.no_grad():
            while last != EOS and len(ids) < world.translator.max_length(len(world.src[row])) - 1:
                next_token, decoding = world.model.step(torch.tensor([last]), decoding)
                last = int(next_token.log_probs().argmax())
                ids.append(last)
        assert best.ids == (ids if last == EOS else [*ids, EOS])


@cases()
def test_a_shorter_n_best_list_is_the_beginning_of_a_longer_one(case):
    """n-best k is the first k of n-best b, sorted by score, without duplicates and has k hypotheses."""
    world = World(case)
    lists = [world.translator.search(LINES, n_best=n) for n in (1, 2, BEAM)]
    for row in ALL:
        longest = lists[-1][row]
        assert [one.score for one in longest] == sorted((one.score for one in longest), reverse=True)
        assert len({tuple(one.pieces) for one in longest}) == BEAM
        for found in lists:
            assert [one.pieces for one in found[row]] == [one.pieces for one in longest[: len(found[row])]]
        assert [len(found[row]) for found in lists] == [1, 2, BEAM]
    assert world.translator.translate(LINES) == [found[0].translation for found in lists[0]]


def same_results(some: Sequence[Translation], others: Sequence[Translation]) -> None:
    """Check that pieces and scores are equal, in fp64."""
    assert [one.pieces for one in some] == [other.pieces for other in others]
    assert [one.score for one in some] == pytest.approx([other.score for other in others], abs=1e-9)


@cases()
def test_a_translation_does_not_depend_on_the_batch(case):
    """Each line is translated by itself, in another order and in batches of other sizes."""
    world = World(case, double=True)
    alone = [world.translator.search([line], n_best=BEAM)[0] for line in LINES]
    assert len({found[0].translation for found in alone}) > 1  # the lines have different translations
    for order, batch_tokens in (([0, 1, 2, 3, 4], 1000), ([4, 2, 0, 3, 1], 30)):
        world.translator.search_config.batch_tokens = batch_tokens
        found = world.translator.search([LINES[row] for row in order], n_best=BEAM)
        for row, translations in zip(order, found, strict=True):
            same_results(alone[row], translations)


@cases()
def test_a_forced_score_does_not_depend_on_the_batch(case):
    """In fp32, the sums of log-probabilities of a line by itself and in a batch differ by at most 1e-4."""
    world = World(case)
    targets = world.targets()
    with torch.no_grad():
        together = world.model.log_probs(world.known()).split([len(target) + 1 for target in targets])
        for row, log_probs in enumerate(together):
            alone = world.model.log_probs(world.batch([row], [targets[row]]))
            torch.testing.assert_close(log_probs, alone, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(log_probs.sum(), alone.sum(), rtol=0, atol=1e-4)


# ---- the laws of search with every option


OPTIONS: dict[str, dict[str, float | str]] = {  # beside the prefixes, which half of the lines have
    "samples": {"beam_size": 5, "samples": 3, "seed": 7},
    "truncated": {
        "beam_size": 5,
        "samples": 2,
        "temperature": 1.3,
        "top_k": 30,
        "top_p": 0.9,
        "repetition_penalty": 1.2,
    },
    "blocking": {"no_repeat_ngram": 1, "may_repeat": "a"},
    "penalty": {"no_repeat_ngram": 2, "repetition_penalty": 1.5, "coverage_penalty": 0.2},
    "mbr": {"mbr": "chrf", "beam_size": 3},
}
PREFIXES = ["the man", "", "Wombat , the", "", "a"]
SOME = {"parts": ("gru", "transformer"), "attention": ("additive",), "text": ("subwords", "words")}


def options_of(case: Case) -> dict[str, float | str]:
    """Choose the options for a case, so that each of them is tested with several cases."""
    return OPTIONS[list(OPTIONS)[sum(map(ord, "".join(case))) % len(OPTIONS)]]


def test_every_option_is_tested():
    quick = all_pairs(FACTORS | SOME)
    assert {tuple(options_of(Case(*case))) for case in quick} == {tuple(options) for options in OPTIONS.values()}


def found_with_prefixes(world: World) -> list[list[Hypothesis]]:
    """Search all lines with their prefixes; return the hypotheses."""
    (sources,) = world.translator._read_groups(LINES, 1, PREFIXES)
    assert [source.row for source in sources] == list(ALL)
    with world.model.evaluating():
        return world.translator._search_batch(sources)


@cases(**SOME)
def test_search_and_scoring_agree_with_every_option(case):
    """Log-probabilities are those of the model; the prefix is forced; padding and start are not produced."""
    options = options_of(case)
    world = World(case, **options)
    found = found_with_prefixes(world)
    for row, hypotheses in enumerate(found):
        prefix = extended_target_ids(world.tgt.segment([PREFIXES[row]])[0], world.copied[row].oov, world.tgt)
        assert len(hypotheses) == world.translator.num_hypotheses
        for hypothesis in hypotheses:
            assert hypothesis.ids[: len(prefix)] == prefix
            assert not {PAD, BOS} & set(hypothesis.ids)
            assert hypothesis.ids.index(EOS) == len(hypothesis.ids) - 1
            if world.model.copies:
                assert UNK not in hypothesis.ids[len(prefix) :]
            if options.get("no_repeat_ngram") == 1:
                free, allowed = hypothesis.ids[len(prefix) :], set(world.tgt.encode("a"))
                repeated = [number for t, number in enumerate(free) if number in [*prefix, *free[:t]]]
                assert set(repeated) <= allowed
    for hypothesis, log_probs in world.forced(found):
        expected = float(log_probs.double().sum())
        assert hypothesis.log_prob == pytest.approx(expected, abs=1e-4 + 1e-5 * abs(expected))
        assert hypothesis.log_prob == pytest.approx(sum(hypothesis.token_log_probs), abs=1e-4)


@cases(**SOME)
def test_a_translation_with_every_option_does_not_depend_on_the_batch(case):
    """Each line is translated by itself, with its number, and in batches of other sizes."""
    world = World(case, double=True, **options_of(case))
    most = world.translator.num_hypotheses
    alone = [
        world.translator.search([LINES[row]], n_best=most, prefixes=[PREFIXES[row]], first_line=row + 1)[0]
        for row in ALL
    ]
    for batch_tokens in (1000, 30):
        world.translator.search_config.batch_tokens = batch_tokens
        for one, other in zip(alone, world.translator.search(LINES, n_best=most, prefixes=PREFIXES), strict=True):
            same_results(one, other)
    assert world.translator.translate(LINES, prefixes=PREFIXES) == [found[0].translation for found in alone]
