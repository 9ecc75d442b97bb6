"""The profile of an update: each part gets the time of its forward and backward pass, and nothing else is counted."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor

import seq2seq.model
from seq2seq.config import ModelConfig
from seq2seq.data.batching import Batch, collate
from seq2seq.model import Seq2Seq
from seq2seq.training.profile import PARTS, Profile, peak_memory

PAUSE = 0.5  # seconds; a power of two, so that sums are exact


def make_batch(model: Seq2Seq) -> Batch:
    copy_ids = [[4, 5, 6]] if model.copies else None
    return collate([[4, 5, 6]], [[7, 8]], pad_id=0, bos_id=2, eos_id=3, copy_ids=copy_ids)


def update(model: Seq2Seq, profile: Profile) -> dict[str, float]:
    """Make an update as the trainer does; return the seconds of each part."""
    before = dict(profile.seconds)
    profile.start()
    batch = make_batch(model)
    profile.end("data")
    loss = model(batch)
    profile.end("output layer")
    loss.total.backward()
    profile.end("encoder")
    profile.end("optimizer")
    return {name: profile.seconds[name] - before[name] for name in PARTS}


class Clock:
    """A clock that moves by ``PAUSE`` alone, so that the load of the machine has no effect."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class Pause(torch.autograd.Function):
    """The identity, with a pause in the forward or the backward pass."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, clock: Clock, back: bool) -> Tensor:
        ctx.clock, ctx.back = clock, back
        clock.seconds += 0 if back else PAUSE
        return tensor.clone()

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> tuple[Tensor, None, None]:
        ctx.clock.seconds += PAUSE if ctx.back else 0
        return gradient[0], None, None


@pytest.mark.parametrize("settings", [{}, {"decoder_layers": 2}, {"copy": "pointer", "coverage": "sum"}])
@pytest.mark.parametrize("back", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("part", ["encoder", "recurrence", "output layer"])
def test_time_goes_to_the_part_that_took_it(
    monkeypatch: pytest.MonkeyPatch, part: str, back: bool, settings: dict[str, Any]
) -> None:
    config = ModelConfig(embedding_size=8, hidden_size=8, **settings)
    model, profile = Seq2Seq(config, src_size=12, tgt_size=12, shared=True), Profile(torch.device("cpu"))
    model.part_ended = profile.part_ended
    clock = Clock()
    monkeypatch.setattr(profile, "_now", clock)
    if part == "encoder":
        model.src_embedding.register_forward_hook(lambda module, given, output: Pause.apply(output, clock, back))
    elif part == "recurrence":
        unroll = model.decoder.unroll
        monkeypatch.setattr(
            model.decoder, "unroll", lambda first, *rest: unroll(Pause.apply(first, clock, back), *rest)
        )
    else:
        loss = seq2seq.model.output_loss

        def output_loss(layer: Any, features: Tensor, *rest: Any, **named: Any) -> Any:
            return loss(layer, Pause.apply(features, clock, back), *rest, **named)

        monkeypatch.setattr(seq2seq.model, "output_loss", output_loss)
    assert update(model, profile) == {name: PAUSE if name == part else 0 for name in PARTS}


def test_every_part_takes_time() -> None:
    model = Seq2Seq(ModelConfig(embedding_size=8, hidden_size=8), src_size=12, tgt_size=12, shared=True)
    profile = Profile(torch.device("cpu"))
    model.part_ended = profile.part_ended
    assert min(update(model, profile).values()) > 0
    assert profile.updates == 1


def test_validation_is_not_counted() -> None:
    model = Seq2Seq(ModelConfig(embedding_size=8, hidden_size=8), src_size=12, tgt_size=12, shared=True)
    profile = Profile(torch.device("cpu"))
    model.part_ended = profile.part_ended
    before = update(model, profile) and dict(profile.seconds)
    with torch.no_grad():
        model.log_probs(make_batch(model))
    assert profile.seconds == before


def test_the_table_adds_up() -> None:
    profile = Profile(torch.device("cpu"))
    profile.updates = 4
    profile.seconds = dict(zip(PARTS, (0.004, 0.02, 0.1, 0.2, 0.076), strict=True))
    first, *rows = profile.lines()
    assert first == "an update took 100.0 ms, mean of 4:"
    assert [re.sub(" +", " ", row.strip()) for row in rows] == [
        "data 1.0 ms 1.0%",
        "encoder 5.0 ms 5.0%",
        "recurrence 25.0 ms 25.0%",
        "output layer 50.0 ms 50.0%",
        "optimizer 19.0 ms 19.0%",
    ]


def test_peak_memory_grows_with_what_is_allocated() -> None:
    before = peak_memory(torch.device("cpu"))
    if not before:
        pytest.skip("this system does not report the peak memory")
    block = torch.ones(before // 4 + 2**26)  # larger than the process has been
    assert before + 2**26 < peak_memory(torch.device("cpu")) < before + 3 * 4 * block.numel()
