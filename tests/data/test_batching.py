"""Batches of padded ids, and the plan of an epoch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from seq2seq.data import batching
from seq2seq.data.batching import collate, pad, plan_epoch, split_by_tokens

PAD, BOS, EOS = 0, 2, 3


def lengths(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Source and target lengths like those of a parallel corpus: log-normal and correlated."""
    random = np.random.default_rng(seed)
    src = np.clip(random.lognormal(2.6, 0.5, rows), 2, 100)
    tgt = np.clip(src * random.lognormal(0.05, 0.2, rows), 2, 120)
    return src.astype(np.int64), tgt.astype(np.int64)


def plan(src: np.ndarray, tgt: np.ndarray, **options) -> list[list[int]]:
    options = {"batch_tokens": 300, "seed": 1, "epoch": 0} | options
    return [rows.tolist() for rows in plan_epoch(src, tgt, **options)]


def test_pad_fills_on_the_right():
    ids, sizes = pad([[5, 6, 7], [], [8]], PAD)
    assert ids.tolist() == [[5, 6, 7], [0, 0, 0], [8, 0, 0]]
    assert sizes.tolist() == [3, 0, 1]
    assert ids.dtype == sizes.dtype == torch.int64


def test_collate_adds_bos_and_eos():
    batch = collate([[5, 6], []], [[7], [8, 9, 10]], pad_id=PAD, bos_id=BOS, eos_id=EOS)
    assert batch.src.tolist() == [[5, 6, EOS], [EOS, 0, 0]]
    assert batch.src_lengths.tolist() == [3, 1]
    assert batch.tgt_in.tolist() == [[BOS, 7, 0, 0], [BOS, 8, 9, 10]]
    assert batch.tgt_out.tolist() == [[7, EOS, 0, 0], [8, 9, 10, EOS]]
    assert batch.target_positions.tolist() == [0, 1, 4, 5, 6, 7]
    assert batch.target_tokens == 6
    assert batch.tgt_out.flatten()[batch.target_positions].tolist() == [7, EOS, 8, 9, 10, EOS]


def test_collate_pads_copy_ids_like_the_source():
    batch = collate([[5, 6], []], [[20], [8, 9]], pad_id=PAD, bos_id=BOS, eos_id=EOS, copy_ids=[[21, 20], []])
    assert batch.copy_ids.tolist() == [[21, 20, EOS], [EOS, 0, 0]]
    assert batch.copy_ids.shape == batch.src.shape
    assert batch.tgt_out.tolist() == [[20, EOS, 0], [8, 9, EOS]]  # ids of out-of-vocabulary pieces are kept


def test_copy_ids_are_empty_without_copying():
    batch = collate([[5, 6], []], [[7], [8]], pad_id=PAD, bos_id=BOS, eos_id=EOS)
    assert batch.copy_ids.shape == (2, 0)
    assert batch.copy_ids.dtype == torch.int64


def test_moving_a_batch_leaves_the_lengths_on_the_cpu():
    batch = collate([[5, 6], [4]], [[7], [8]], pad_id=PAD, bos_id=BOS, eos_id=EOS).to(torch.device("meta"))
    assert {
        tensor.device.type
        for tensor in (batch.src, batch.tgt_in, batch.tgt_out, batch.target_positions, batch.copy_ids)
    } == {"meta"}
    assert batch.src_lengths.tolist() == [3, 2]
    assert batch.target_tokens == 4


def test_split_limits_rows_times_the_longest():
    sizes = np.array([2, 2, 3, 3, 10, 1, 1])
    batches = split_by_tokens(np.arange(7), sizes, 6)
    assert [rows.tolist() for rows in batches] == [
        [0, 1],
        [2, 3],
        [4],
        [5, 6],
    ]  # 4 and 6 tokens; 10, too long for any other row; 2


def test_split_keeps_the_order_it_is_given():
    batches = split_by_tokens(np.array([3, 1, 0, 2]), np.array([1, 1, 1, 1]), 2)
    assert [rows.tolist() for rows in batches] == [[3, 1], [0, 2]]


@pytest.mark.parametrize("rows", [1, 7, 5000])
def test_every_row_is_in_exactly_one_batch_of_an_epoch(rows):
    src, tgt = lengths(rows)
    for epoch in range(3):
        batches = plan(src, tgt, epoch=epoch)
        assert all(batches)
        assert sorted(row for batch in batches for row in batch) == list(range(rows))


@pytest.mark.parametrize("batch_tokens", [50, 300, 4096])
def test_a_batch_with_padding_fits_unless_a_single_row_exceeds_the_limit(batch_tokens):
    src, tgt = lengths(3000)
    found_long = False
    for rows in plan(src, tgt, batch_tokens=batch_tokens):
        tokens = len(rows) * max(src[rows].max(), tgt[rows].max())
        assert tokens <= batch_tokens or len(rows) == 1
        found_long |= tokens > batch_tokens
    assert found_long == (batch_tokens == 50)


def test_the_plan_depends_on_seed_and_epoch_alone():
    src, tgt = lengths(2000)
    first = plan(src, tgt, seed=3, epoch=2)
    np.random.seed(99)
    torch.manual_seed(99)
    assert plan(src, tgt, seed=3, epoch=2) == first


@pytest.mark.parametrize("other", [{"epoch": 1}, {"seed": 2}])
def test_other_epochs_and_seeds_give_other_batches_in_another_order(other):
    src, tgt = lengths(2000)
    first, second = plan(src, tgt), plan(src, tgt, **other)
    assert first != second
    assert {frozenset(rows) for rows in first} != {frozenset(rows) for rows in second}


def test_batches_are_not_sorted_by_length():
    src, tgt = lengths(5000)
    longest = [int(np.maximum(src, tgt)[rows].max()) for rows in plan(src, tgt)]
    assert abs(np.corrcoef(longest, range(len(longest)))[0, 1]) < 0.2


@pytest.mark.parametrize(("noise", "most"), [(2.5, 0.05), (9.0, 0.12)], ids=["translation", "loosely_related"])
@pytest.mark.parametrize("batch_tokens", [1024, 2048])
def test_little_is_padding(batch_tokens, noise, most):
    """Lengths as in Multi30k, and lengths of source and target that are loosely related."""
    numbers = np.random.default_rng(1)
    src = np.clip(numbers.normal(15.3, 4.5, 29000).round(), 2, 50).astype(int)
    tgt = np.clip((src + numbers.normal(0.7, noise, 29000)).round(), 2, 55).astype(int)
    padded = tokens = 0
    for rows in plan(src, tgt, batch_tokens=batch_tokens):
        padded += len(rows) * (src[rows].max() + tgt[rows].max())
        tokens += src[rows].sum() + tgt[rows].sum()
    share = 1 - tokens / padded
    assert share < most, share


def test_rows_are_shuffled_beyond_a_window(monkeypatch):
    monkeypatch.setattr(batching, "WINDOW_BATCHES", 2)
    src = tgt = np.full(400, 10)
    batches = plan(src, tgt, batch_tokens=100)
    # rows that are close in the corpus are rarely in the same batch: a batch holds rows from everywhere
    spread = [max(rows) - min(rows) for rows in batches]
    assert np.mean(spread) > 200


def test_collate_pads_segments_and_puts_the_end_into_the_last_sentence():
    batch = collate([[5, 6, 7], []], [[7], [8]], pad_id=PAD, bos_id=BOS, eos_id=EOS, segments=[[0, 0, 1], []])
    assert batch.segments.tolist() == [[0, 0, 1, 1], [0, 0, 0, 0]]
    assert batch.segments.dtype == torch.int64
    without = collate([[5, 6, 7], []], [[7], [8]], pad_id=PAD, bos_id=BOS, eos_id=EOS)
    assert without.segments.shape == (2, 0)
    moved = batch.to(torch.device("meta"))
    assert torch.equal(moved.segments, batch.segments)  # it stays on the CPU
