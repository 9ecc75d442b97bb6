"""Batches that do not fit into memory: they are split, the gradient is the same, and the split is remembered."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from small_runs import assert_same_run, config_of, everything, state_of, weights_of

from seq2seq.data.batching import Batch
from seq2seq.model import Seq2Seq
from seq2seq.training.train import train

CPU_ERROR = RuntimeError("DefaultCPUAllocator: can't allocate memory")


def size_of(batch: Batch) -> int:
    return len(batch.src) * (batch.src.shape[1] + batch.tgt_out.shape[1])


class SmallMemory:
    """Lets batches of at most ``most`` positions pass; larger ones fail, in forward or in backward."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, most: int, error: Exception, *, in_backward: bool = False
    ) -> None:
        self.sizes: list[tuple[bool, int]] = []  # training mode and positions of every batch
        forward = Seq2Seq.forward

        def limited(model: Seq2Seq, batch: Batch, **options: Any) -> Any:
            self.sizes.append((model.training, size_of(batch)))
            if size_of(batch) <= most:
                return forward(model, batch, **options)
            if not in_backward:
                raise error

            def fail(gradient: torch.Tensor) -> None:
                raise error

            loss = forward(model, batch, **options)
            loss.total.register_hook(fail)
            return loss

        monkeypatch.setattr(Seq2Seq, "forward", limited)


@pytest.mark.parametrize("in_backward", [False, True])
@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA"), CPU_ERROR])
def test_a_batch_that_does_not_fit_is_split_and_trains_the_same_model(
    folder: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception, in_backward: bool
) -> None:
    options = {"train.accumulate": 2, "train.batch_tokens": 128, "train.clip_norm": 0.5, "train.optimizer": "sgd"}
    whole, split = (config_of(folder, run, **options) for run in ("whole", "split"))
    train(whole)
    memory = SmallMemory(monkeypatch, 90, error, in_backward=in_backward)
    with caplog.at_level(logging.WARNING):
        train(split)
    one, two = weights_of(whole), weights_of(split)
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-5, atol=1e-6)
    failed = [number for number, (training, size) in enumerate(memory.sizes) if training and size > 90]
    assert 1 <= len(failed) <= 3
    assert max(failed) < 5, "after the first batch, larger ones are split before they are tried"
    limit = state_of(split)["progress"]["most_positions"]
    assert limit is not None
    messages = [record.getMessage() for record in caplog.records if "does not fit" in record.getMessage()]
    assert len(messages) == len(failed)
    assert messages[0].endswith(
        "does not fit into memory; from now on such batches are split, with the same gradient; "
        "train.batch_tokens=128 can be lowered, with a higher train.accumulate"
    )


def test_a_failure_in_the_middle_of_an_update_leaves_no_gradient_behind(
    folder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"train.accumulate": 3, "train.batch_tokens": 128, "train.optimizer": "sgd"}
    whole, split = (config_of(folder, run, **options) for run in ("whole", "split"))
    train(whole)
    calls, forward = [], Seq2Seq.forward

    def third_fails(model: Seq2Seq, batch: Batch, **others: Any) -> Any:
        calls.append(model.training)
        if len(calls) == 3:  # the first call tries the largest batch
            raise torch.OutOfMemoryError("CUDA")
        return forward(model, batch, **others)

    monkeypatch.setattr(Seq2Seq, "forward", third_fails)
    train(split)
    one, two = weights_of(whole), weights_of(split)
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-5, atol=1e-6)


def test_a_split_is_remembered_by_the_continued_run(folder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    unbroken, broken = (everything(folder, run, train__batch_tokens=128) for run in ("unbroken", "broken"))
    memory = SmallMemory(monkeypatch, 90, CPU_ERROR)
    train(unbroken)
    broken.train.max_updates = 5
    train(broken)
    memory.sizes.clear()
    broken.train.max_updates = unbroken.train.max_updates
    train(broken)
    assert_same_run(unbroken, broken)
    assert all(size <= 90 for training, size in memory.sizes if training)


def test_one_pair_that_does_not_fit_is_named(folder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    SmallMemory(monkeypatch, 0, CPU_ERROR)
    pattern = (
        r"^one pair of \d+ source and \d+ target pieces does not fit into memory; "
        r"lower data\.max_source_length and data\.max_target_length, or the sizes of the model$"
    )
    with pytest.raises(ValueError, match=pattern):
        train(config_of(folder))
    assert not (folder / "run" / "last" / "state.pt").exists()
