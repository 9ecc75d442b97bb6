"""The fast next token equals the plain one: the best ids, single values and the whole table."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn

from seq2seq.layers.distribution import NEVER, Copying, Distribution
from seq2seq.layers.fast import output
from seq2seq.layers.fast.next_token import FastNextToken, OutputWeights, _largest, _log_sum, half_weights
from seq2seq.layers.fast.output import BANNED_LOGIT
from seq2seq.layers.pointer import first_positions
from seq2seq.search.next_token import LogProbs

E, S = 6, 7
BANNED = torch.tensor([0, 2])
SIZES = [503, 16 * 20, 17]  # 503 leaves a rest of 7 outside of the blocks; 17 is too small for blocks


def make(
    copy: str,
    *,
    size: int,
    rows: int = 5,
    dtype: torch.dtype = torch.float64,
    scale: float = 1.0,
    device: str = "cpu",
    half: bool = False,
    few_rows: bool = False,
) -> tuple[FastNextToken, LogProbs]:
    """Return the fast and the plain distribution of the same rows; the source holds repeated, OOV and padding ids."""
    torch.manual_seed(size)
    layer = nn.Linear(E, size, dtype=dtype)
    features = scale * torch.randn(rows, E, dtype=dtype)
    copying, first, extended = None, None, size
    if copy != "none":
        ids = torch.randint(3, size, (rows, S))
        ids[:, 1] = ids[:, 0]  # a repeated piece
        ids[:, 2], ids[:, 3], ids[:, 4] = size, size + 1, size  # OOV pieces, one of them twice
        ids[:, -1] = 0  # padding
        energies = torch.randn(rows, S, dtype=dtype)
        energies[:, -1] = torch.finfo(torch.float32).min
        gate = torch.randn(rows, dtype=dtype) if copy == "pointer" else None
        if gate is not None:
            gate[0] = math.inf  # the source is empty
            energies[0] = torch.finfo(torch.float32).min
        copying, first, extended = Copying(gate, energies, ids), first_positions(ids), size + 2
    layer, features, banned = layer.to(device), features.to(device), BANNED.to(device)
    if copying is not None and first is not None:
        gate = None if copying.gate is None else copying.gate.to(device)
        copying = Copying(gate, copying.energies.to(device), copying.ids.to(device))
        first = first.to(device)
    bias = layer.bias.index_fill(0, banned, BANNED_LOGIT)
    weights = OutputWeights(
        layer.weight,
        bias,
        layer.weight.t().contiguous() if few_rows else None,
        half_weights(layer.weight, bias) if half else None,
    )
    fast = FastNextToken(weights, features, banned=banned, copying=copying, first=first, size=extended)
    logits = layer(features).index_fill(1, banned, BANNED_LOGIT)
    return fast, LogProbs(Distribution(logits, banned, copying).log_probs(extended))


@pytest.mark.parametrize("copy", ["none", "pointer", "copynet"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("banned", [(), (1,), (1, 3)])
@torch.no_grad()
def test_the_best_ids_are_those_of_the_plain_table(copy: str, size: int, banned: tuple[int, ...]) -> None:
    for k, dtype, few_rows in itertools.product((1, 5, 12), (torch.float32, torch.float64), (False, True)):
        fast, plain = make(copy, size=size, dtype=dtype, few_rows=few_rows)
        (log_probs, ids), (expected, expected_ids) = fast.best(k, banned), plain.best(k, banned)
        torch.testing.assert_close(log_probs, expected, rtol=1e-5, atol=1e-5)
        possible = expected > NEVER
        assert torch.equal(ids[possible], expected_ids[possible])


@pytest.mark.parametrize("copy", ["none", "pointer", "copynet"])
@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_in_bf16_the_best_ids_have_nearly_the_same_log_probabilities(copy: str, size: int) -> None:
    for k, dtype in itertools.product((1, 5, 12), (torch.float32, torch.float64)):
        fast, plain = make(copy, size=size, dtype=dtype, scale=4.0, half=True)
        (log_probs, ids), (expected, _) = fast.best(k, (1,)), plain.best(k, (1,))
        assert log_probs.dtype == dtype
        torch.testing.assert_close(log_probs, expected, rtol=0, atol=0.01)
        torch.testing.assert_close(log_probs[log_probs > NEVER], plain.at(ids)[log_probs > NEVER], rtol=0, atol=0.01)
        everything = torch.arange(plain.table.shape[1]).expand(len(plain.table), -1)
        torch.testing.assert_close(fast.at(everything), plain.table, rtol=0, atol=0.01)
        table = fast.log_probs()
        torch.testing.assert_close(table.exp(), plain.table.exp(), rtol=0, atol=0.01)
        torch.testing.assert_close(table.exp().sum(dim=1), torch.ones(len(table), dtype=dtype))
        assert torch.equal(table == NEVER, plain.table == NEVER)


@torch.no_grad()
def test_in_bf16_only_improbable_logits_are_rounded() -> None:
    fast, plain = make("none", size=503, dtype=torch.float32, scale=4.0, half=True)
    found, expected = fast.best(5)[0], plain.best(5)[0]
    assert not torch.equal(found, expected), "the product is in bf16"
    torch.testing.assert_close(found - found[:, :1], expected - expected[:, :1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("k", [1, 3, 5, 8, 9, 30])
@torch.no_grad()
def test_the_largest_logits_do_not_depend_on_the_number_of_blocks(k: int) -> None:
    logits = torch.randn(16 * 600 + 5, 3)
    largest, ids = _largest(logits, k)
    expected, expected_ids = logits.t().topk(k, dim=1)
    assert torch.equal(largest, expected)
    assert torch.equal(ids, expected_ids)


@pytest.mark.parametrize("shift", [0.0, 39.0, -39.0, 41.0, -41.0, 1e4, -1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("has_refused", [False, True])
@torch.no_grad()
def test_the_normaliser_neither_overflows_nor_underflows(shift: float, dtype: torch.dtype, has_refused: bool) -> None:
    torch.manual_seed(1)
    logits = 5 * torch.randn(400, 3, dtype=dtype) + torch.tensor([shift, 0.0, -shift], dtype=dtype)
    if has_refused:
        logits[7] = BANNED_LOGIT
    expected = logits.logsumexp(dim=0)
    found = _log_sum(logits.clone(), logits.amax(dim=0), has_refused=has_refused)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    alone = torch.full((400, 1), BANNED_LOGIT, dtype=dtype)
    alone[3] = -30.0
    found = _log_sum(alone, alone.amax(dim=0), has_refused=True)
    torch.testing.assert_close(found, alone.new_tensor([-30.0]), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("copy", ["none", "pointer", "copynet"])
@torch.no_grad()
def test_single_values_and_the_table_are_those_of_the_plain_table(copy: str) -> None:
    for scanned, size, few_rows in itertools.product((False, True), (503, 9), (False, True)):
        fast, plain = make(copy, size=size, few_rows=few_rows)
        if scanned:
            fast.best(3)
        everything = torch.arange(plain.table.shape[1]).expand(len(plain.table), -1)
        torch.testing.assert_close(fast.at(everything), plain.table, rtol=1e-9, atol=1e-9)
        assert torch.equal(fast.at(everything) == NEVER, plain.table == NEVER)
        torch.testing.assert_close(fast.log_probs(), plain.table, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("copy", ["none", "pointer", "copynet"])
@torch.no_grad()
def test_a_part_is_the_distribution_of_its_rows(copy: str) -> None:
    for size, few_rows in itertools.product((503, 9), (False, True)):
        fast, plain = make(copy, size=size, few_rows=few_rows)
        for rows in (slice(0, 5), slice(1, 3), slice(4, 5)):
            for whole in (fast, plain):
                part = whole.part(rows)
                torch.testing.assert_close(part.log_probs(), plain.table[rows], rtol=1e-9, atol=1e-9)
                torch.testing.assert_close(part.best(3)[0], plain.best(3)[0][rows], rtol=1e-9, atol=1e-9)
                torch.testing.assert_close(
                    part.at(torch.ones(len(plain.table[rows]), 1, dtype=torch.long)),
                    plain.table[rows, 1:2],
                    rtol=1e-9,
                    atol=1e-9,
                )


@pytest.mark.parametrize("k", [10**4, 3])
@torch.no_grad()
def test_there_are_no_more_columns_than_ids(k: int) -> None:
    fast, plain = make("pointer", size=17)
    log_probs, ids = fast.best(k, (3,))
    assert log_probs.shape == ids.shape == (5, min(k, 19))
    assert torch.equal(log_probs > NEVER, plain.best(k, (3,))[0] > NEVER)


@pytest.mark.parametrize("copy", ["none", "copynet"])
@torch.no_grad()
def test_slices_change_nothing(copy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = make(copy, size=503)[0].best(4)
    monkeypatch.setattr(output, "SLICE_ROWS", 2)
    found = make(copy, size=503)[0].best(4)
    torch.testing.assert_close(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


@torch.no_grad()
def test_large_logits_do_not_overflow() -> None:
    fast, plain = make("none", size=503, dtype=torch.float32, scale=1e4)
    torch.testing.assert_close(fast.best(5)[0], plain.best(5)[0], rtol=1e-4, atol=1e-2)
    assert (fast.best(1)[0] > -1e4).all()


def test_equal_logits_give_distinct_ids() -> None:
    weights = OutputWeights(torch.zeros(503, E), torch.zeros(503).index_fill(0, BANNED, BANNED_LOGIT))
    with torch.no_grad():
        fast = FastNextToken(weights, torch.randn(3, E), banned=BANNED, copying=None, first=None, size=503)
        log_probs, ids = fast.best(20)
    assert all(len(set(row)) == 20 and not {0, 2} & set(row) for row in ids.tolist())
    torch.testing.assert_close(log_probs, torch.full((3, 20), -math.log(501)))


def test_first_positions() -> None:
    ids = torch.tensor([[5, 4, 5, 5, 0, 0], [1, 2, 3, 4, 5, 6]])
    assert first_positions(ids).tolist() == [[0, 1, 0, 0, 4, 4], [0, 1, 2, 3, 4, 5]]


@pytest.mark.gpu
@pytest.mark.parametrize("copy", ["none", "pointer", "copynet"])
@torch.no_grad()
def test_a_gpu_finds_the_best_ids_of_a_cpu(copy: str) -> None:
    fast, plain = make(copy, size=503, device="cuda")
    log_probs, ids = fast.best(5, (1,))
    expected, expected_ids = plain.best(5, (1,))
    torch.testing.assert_close(log_probs, expected)
    assert torch.equal(ids, expected_ids)


@pytest.mark.parametrize("copy", ["none", "pointer", "copynet"])
@torch.no_grad()
def test_a_single_row_has_the_values_of_the_plain_table(copy: str) -> None:
    """The output layer of a single row is computed twice, which is faster."""
    fast, plain = make(copy, size=503, rows=1)
    for found, expected in zip(fast.best(5, (1,)), plain.best(5, (1,)), strict=True):
        torch.testing.assert_close(found, expected)
