"""Several processes: they make the updates of one process, share the work, and end together."""

from __future__ import annotations

import math
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
import torch.distributed as dist
from several import Ended, recorded, settings, start, train_together, wait
from small_runs import EVERYTHING, assert_same_run, config_of, metrics_of, state_of, weights_of
from torch import Tensor

from seq2seq.config import Config
from seq2seq.model_dir import settings_of
from seq2seq.training import processes
from seq2seq.training.initial import find_tokenizers, initial_model
from seq2seq.training.launch import Launch, read_launch
from seq2seq.training.precision import Precision
from seq2seq.training.processes import Group, Processes, ProcessFailed, _choose_gpu, join, separate_random_numbers
from seq2seq.training.state import Progress, load_state, save_state
from seq2seq.training.stopping import Stopped
from seq2seq.training.train import _train_together, read_rows, train
from seq2seq.training.update import Updater

T = TypeVar("T")
EQUAL: dict[str, Any] = {"train.accumulate": 2, "train.valid_every": 3, "train.clip_norm": 0.5, "model.copy": "pointer"}


class OneOf(Processes):
    """A process of several; those before it have left their values in ``gathered``."""

    def __init__(self, rank: int, size: int, gathered: list[Any] | None = None) -> None:
        self.rank, self.size, self.gathered = rank, size, gathered if gathered is not None else []

    def gather(self, value: T) -> list[T]:
        self.gathered.append(value)
        return self.gathered


def gradient_of_one_process(config: Config, weights: dict[str, Tensor], group: list[np.ndarray]) -> dict[str, Tensor]:
    """Compute the gradient of an update in this process."""
    tokenizers = find_tokenizers(config, Path(config.run_dir))
    rows, _ = read_rows(config, tokenizers)
    model = initial_model(settings_of(config, rows.length_limit), tokenizers, None)
    model.load_state_dict(weights, strict=False)
    model.train()
    updater = Updater(config, model=model, precision=Precision("fp32", torch.device("cpu")), rows=rows)
    tokens = sum(int(rows.tgt_lengths[each].sum()) for each in group)
    updater._accumulate(group, tokens=tokens, coverage_weight=0.0)
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def groups_of(config: Config, updates: int) -> list[list[np.ndarray]]:
    """Return the row numbers of the batches of each update."""
    rows, _ = read_rows(config, find_tokenizers(config, Path(config.run_dir)))
    groups: list[list[np.ndarray]] = []
    for epoch in range(100):
        plan = rows.plan(batch_tokens=config.train.batch_tokens, seed=config.train.seed, epoch=epoch)
        groups += [
            plan[first : first + config.train.accumulate] for first in range(0, len(plan), config.train.accumulate)
        ]
    return groups[:updates]


def check_gradients(folder: Path, updates: int, changes: dict[str, Any]) -> None:
    """Compare the gradients that several processes saved with those of one process, from the same weights.

    The gradient as a whole is equal within 1e-5, and that of every parameter within 1e-4; small ones are compared with 1 %
    of the whole, since they are sums of numbers that cancel each other.
    """
    config = config_of(folder, "two", **changes)
    for number, group in enumerate(groups_of(config, updates)):
        weights, gradients = torch.load(folder / f"gradients-{number}.pt")
        expected = gradient_of_one_process(config, weights, group)
        assert {name for name in gradients if gradients[name] is not None} == expected.keys()
        differences = {name: float((gradients[name] - gradient).norm()) for name, gradient in expected.items()}
        whole = math.hypot(*(float(gradient.norm()) for gradient in expected.values()))
        assert math.hypot(*differences.values()) <= 1e-5 * whole, f"update {number + 1}"
        for name, gradient in expected.items():
            scale = max(float(gradient.norm()), 0.01 * whole)
            assert differences[name] <= 1e-4 * scale, f"{name} in update {number + 1}"


# ---- two processes against one


def test_two_processes_make_the_updates_of_one_and_write_one_run(folder: Path) -> None:
    changes = EQUAL | {"train.max_updates": 5}
    first, second = train_together(folder, "two", changes, faults={0: {"gradients": True}})
    check_gradients(folder, 5, changes)
    assert second.err == "", "only the first process prints"
    assert first.err.count("validation: BLEU") == 1
    alone = config_of(folder, "one", **changes)
    train(alone)
    two, one = metrics_of(config_of(folder, "two", **changes)), metrics_of(alone)
    assert [record.keys() for record in two] == [record.keys() for record in one]
    for name in ("loss", "gradient_norm", "valid_loss", "valid_chrf", "valid_cut"):
        values = [[record[name] for record in records if name in record] for records in (two, one)]
        assert values[0] == pytest.approx(values[1], rel=1e-3), name
    by_update = [sorted(row for update, _, rows in recorded(folder) if update == n for row in rows) for n in range(5)]
    groups = groups_of(alone, 5)
    assert by_update == [sorted(np.concatenate(group).tolist()) for group in groups], "each pair is computed once"
    shares = [rows for update, _, rows in recorded(folder)]
    assert all(shares), "both processes have pairs in every update"


@pytest.mark.slow
def test_fifty_updates_of_three_processes_have_the_gradient_of_one(folder: Path) -> None:
    """With batches of a few pairs, some processes have no pair of a batch."""
    changes = EQUAL | {"train.max_updates": 50, "train.batch_tokens": 16, "train.accumulate": 1, "train.average": 0.9}
    train_together(folder, "two", changes, size=3, faults={0: {"gradients": True}})
    check_gradients(folder, 50, changes)
    assert any(not rows for _, _, rows in recorded(folder)), "a process without pairs is part of the test"


def test_a_process_without_a_pair_makes_the_first_update_with_a_loss_scale(folder: Path) -> None:
    """As with train.precision=fp16 on GPUs."""
    config = config_of(folder)
    tokenizers = find_tokenizers(config, Path(config.run_dir))
    rows, _ = read_rows(config, tokenizers)
    model = initial_model(settings_of(config, rows.length_limit), tokenizers, None)
    precision = Precision("fp32", torch.device("cpu"))
    precision.scaler = torch.amp.GradScaler("cpu")

    class WithGradients(OneOf):
        def highest(self, numbers: Sequence[int]) -> list[int]:
            return [0] if len(numbers) == 1 else [1 for _ in numbers]

        def add_up(self, tensors: Sequence[Tensor]) -> None:
            for tensor in tensors:
                tensor += 1.0

    updater = Updater(config, model=model, precision=precision, rows=rows, processes=WithGradients(1, 2))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    update = updater.update([np.array([0])], number=1, learning_rate=0.1, coverage_weight=0.0)
    assert update.wait()[:2] == [1.0, 1.0]
    assert all(not torch.equal(p, before[name]) for name, p in model.named_parameters())


@pytest.mark.slow
def test_coverage_and_frozen_parts_are_trained_alike(folder: Path) -> None:
    """Parameters that get a gradient in the middle of the run, and parameters that never get one."""
    changes = {
        "model.coverage": "sum",
        "loss.coverage_start": 3,
        "loss.coverage_weight": 1.0,
        "train.max_updates": 6,
        "train.optimizer": "adamw",
        "train.batch_tokens": 128,
    }
    train_together(folder, "two", changes | {"train.freeze": "[src_embedding]"})
    alone = config_of(folder, "one", **changes, **{"train.freeze": ["src_embedding"]})
    train(alone)
    two, one = weights_of(config_of(folder, "two")), weights_of(alone)
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_torchrun_trains_one_model(folder: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "seq2seq"]
    environment = os.environ | {"HF_DATASETS_CACHE": str(folder / "cache"), "GLOO_SOCKET_IFNAME": "lo"}
    environment |= {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    arguments = settings(folder, "run", {"train.max_updates": 4, "train.valid_every": 2})
    done = subprocess.run(
        [*command, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith(("update", "trained"))]
    assert [line.split()[1] for line in lines if "epoch" in line] == ["1", "2", "3", "4"], "each update is printed once"
    assert lines[-1].startswith("trained for 4 updates; ")
    assert len(metrics_of(config_of(folder, "run"))) == 6, "four updates and two validations"


# ---- exact resume


@pytest.mark.slow
def test_a_stop_signal_to_one_process_stops_all_and_the_run_continues_bit_for_bit(folder: Path) -> None:
    """With dropout, whose random numbers every process has of its own."""
    train_together(folder, "unbroken", EVERYTHING)
    first, second = wait(folder, start(folder, "broken", EVERYTHING, size=2, faults={1: {"stop_at": 4}}))
    assert [first.code, second.code] == [128 + signal.SIGTERM] * 2
    assert first.err.splitlines()[-1] == (
        f"SIGTERM: stopped after update 5, everything is saved in {folder / 'broken'}; the same command continues the run"
    )
    assert second.err == ""
    saved = state_of(config_of(folder, "broken"))
    assert not torch.equal(saved["cpu_rng"], saved["other_rng"][0]["cpu_rng"]), "the processes draw different numbers"
    train_together(folder, "broken", EVERYTHING)
    assert_same_run(config_of(folder, "unbroken"), config_of(folder, "broken"))


@pytest.mark.slow
@pytest.mark.parametrize("killed", [{1}, {0, 1}])
def test_a_killed_run_continues_in_one_process_without_losing_or_repeating_a_pair(
    folder: Path, killed: set[int]
) -> None:
    changes = {"train.max_updates": 20, "train.valid_every": 4, "train.accumulate": 2, "model.dropout": 0.2}
    faults = {rank: {"kill_at": 10} for rank in killed}
    ended = wait(folder, start(folder, "run", changes, size=2, faults=faults))
    assert all(ended[rank].code == -signal.SIGKILL for rank in killed)
    if killed == {1}:
        assert ended[0].code == 2
        assert ended[0].err.splitlines()[-1] == (
            "error: a process has ended without a message, or its host can't be reached; "
            "the same command continues the run"
        )
    kept = [record for record in recorded(folder) if record[0] < 8]  # the state of update 8 is saved
    assert state_of(config_of(folder, "run"))["progress"]["update"] == 8
    for path in folder.glob("pairs-*.jsonl"):
        path.unlink()
    train_together(folder, "run", changes, size=1)
    records = kept + recorded(folder)
    config = config_of(folder, "run", **changes)
    for number, group in enumerate(groups_of(config, 20)):
        rows = sorted(row for update, _, rows in records if update == number for row in rows)
        assert rows == sorted(np.concatenate(group).tolist()), f"update {number + 1}"
    first_epoch = sorted(row for _, epoch, rows in records if epoch == 0 for row in rows)
    assert max(epoch for _, epoch, _ in records) > 0, "the first epoch is complete"
    assert first_epoch == list(range(len(first_epoch)))


# ---- decisions and errors


@pytest.mark.slow
def test_a_batch_that_does_not_fit_into_the_memory_of_one_process_is_split_in_all(folder: Path) -> None:
    changes = {"train.batch_tokens": 256, "train.optimizer": "sgd", "train.max_updates": 4}
    train_together(folder, "whole", changes)
    first, second = train_together(folder, "split", changes, faults={1: {"most": 90}})
    assert "does not fit into memory; from now on such batches are split" in first.err
    assert second.err == ""
    assert state_of(config_of(folder, "split"))["progress"]["most_positions"] is not None
    whole, split = weights_of(config_of(folder, "whole")), weights_of(config_of(folder, "split"))
    for name in whole:
        torch.testing.assert_close(whole[name], split[name], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_the_processes_wait_longer_for_each_other_while_they_plan_an_epoch_and_validate(folder: Path) -> None:
    changes = {"train.max_updates": 2, "train.valid_every": 1}
    faults: dict[int, dict[str, Any]] = {0: {"lost_after": 3, "delay": 5}, 1: {"lost_after": 3}}
    train_together(folder, "run", changes, faults=faults)
    assert sum("valid_loss" in record for record in metrics_of(config_of(folder))) == 2


def errors(ended: Sequence[Ended]) -> list[str]:
    """Return the error lines of all processes."""
    return [line for each in ended for line in each.err.splitlines() if line.startswith("error: ")]


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_an_error_in_one_process_ends_all_with_one_line(folder: Path, rank: int) -> None:
    ended = wait(folder, start(folder, "run", {}, size=2, faults={rank: {"fail_at": 2}}))
    assert [each.code for each in ended] == [2, 2]
    (line,) = errors(ended)
    prefix = "error: " if rank == 0 else r"error: process 1 of 2 on "
    assert line.startswith(prefix)
    assert line.endswith("a wrong value")
    assert "Traceback" not in "".join(each.err for each in ended)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train.max_updates": -1}, "train.max_updates must be a whole number of at least 1, but is -1"),
        ({"data.train.src": "absent.src"}, "absent.src"),
        ({"data.max_source_length": 1}, "no training pair remains"),
        ({"train.learning_rate": 1e30}, "the loss and the gradient norm of update 2 must be finite"),
    ],
)
def test_an_error_that_all_processes_find_is_printed_once(folder: Path, changes: dict[str, Any], message: str) -> None:
    ended = wait(folder, start(folder, "run", changes, size=2))
    assert [each.code for each in ended] == [2, 2]
    (line,) = errors(ended)
    assert message in line
    assert "process 1 of 2" not in line, "the message is that of a run with one process"


class Fixed(Processes):
    """Processes that gather given values, call by call."""

    def __init__(self, *calls: list[Any]) -> None:
        self.calls = list(calls)

    def gather(self, value: Any) -> list[Any]:
        return self.calls.pop(0)


def test_processes_on_different_types_of_devices_are_refused(folder: Path) -> None:
    message = (
        "all processes must compute on the same type of device, but process 2 uses cpu and process 0 cuda; set "
        "train.device=cpu, or start processes only on machines with a GPU"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        _train_together(config_of(folder), torch.device("cpu"), Fixed(["cuda", "cuda", "cpu"]))


def test_other_data_in_one_process_are_refused() -> None:
    data = {"the training data": 1, "the validation data": 1}
    same = {"the training data": "digest", "the validation data": "digest"}
    Fixed([same] * 3, ["a", "a", "b"]).check_same(data)
    with pytest.raises(
        ValueError,
        match=r"^the training data must be the same in all processes, but process 2 on b differs from process 0 on a; "
        "start all of them with the same command and the same files$",
    ):
        Fixed([same, same, same | {"the training data": "other"}], ["a", "a", "b"]).check_same(data)


# ---- shares of the work


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_every_row_of_a_batch_belongs_to_one_process_and_the_longest_come_first(size: int) -> None:
    rows = np.array([5, 3, 8, 1, 9])
    shares = [OneOf(rank, size).share(rows) for rank in range(size)]
    assert sorted(np.concatenate(shares).tolist()) == sorted(rows.tolist())
    for share in shares:
        places = [rows.tolist().index(row) for row in share]
        assert places == sorted(places)
    lengths = [len(share) for share in shares]
    assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize("size", [1, 2, 3, 9])
@pytest.mark.parametrize("lines", [[], ["a"], ["a" * n for n in range(1, 20)], ["", "", "long line", ""]])
def test_every_line_is_done_once_and_the_results_are_in_order(size: int, lines: list[str]) -> None:
    gathered: list[Any] = []
    parts = []

    def number(texts: Sequence[str], others: Sequence[str], *, first_line: int) -> list[tuple[int, str, str]]:
        parts.append(sum(map(len, texts)))
        return [(first_line + n, *pair) for n, pair in enumerate(zip(texts, others, strict=True))]

    for rank in range(size):
        results = OneOf(rank, size, gathered).map_lines(number, lines, [line.upper() for line in lines])
    assert results == [(n, line, line.upper()) for n, line in enumerate(lines, start=1)]
    longest = max(map(len, lines), default=0)
    assert max(parts) <= sum(len(line) + 1 for line in lines) / size + longest + 1, "parts of about the same length"


def test_random_numbers_differ_between_processes_and_the_first_keeps_its_own() -> None:
    drawn = []
    for rank in (None, 0, 1, 2, 1):
        torch.manual_seed(7)
        if rank is not None:
            separate_random_numbers(rank)
        drawn.append(torch.rand(4).tolist())
    assert drawn[0] == drawn[1]
    assert drawn[2] == drawn[4], "they depend on the seed and the rank alone"
    assert len({tuple(numbers) for numbers in drawn}) == 3


def test_each_process_continues_with_its_random_numbers_and_new_ones_get_others(tmp_path: Path) -> None:
    states: list[Any] = []
    for seed in (5, 6):
        torch.manual_seed(seed)
        states.append({"cpu_rng": torch.get_rng_state(), "cuda_rng": None})
    data = {"train": "", "valid": ""}
    save_state(tmp_path, Progress(update=3), parts={}, data=data, processes=Fixed(states))
    drawn = []
    for rank in range(4):
        assert load_state(tmp_path, parts={}, data=data, processes=OneOf(rank, 4)).update == 3
        drawn.append(torch.rand(4).tolist())
    for seed in (5, 6):
        torch.manual_seed(seed)
        assert torch.rand(4).tolist() == drawn[seed - 5]
    assert len({tuple(numbers) for numbers in drawn}) == 4


# ---- how processes were started


def test_a_process_that_was_started_alone_is_a_group_of_one() -> None:
    assert read_launch({}) == read_launch({"WORLD_SIZE": "4"}) == Launch(rank=0, size=1, local_rank=0)
    assert read_launch({"RANK": "0", "WORLD_SIZE": "1"}) == Launch()
    with join(torch.device("cpu")) as alone:
        assert type(alone) is Processes
        assert not dist.is_initialized()


def test_the_variables_of_torchrun_are_read_and_checked() -> None:
    variables = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "host", "MASTER_PORT": "1"}
    assert read_launch(variables) == Launch(rank=3, size=4, local_rank=1)
    with pytest.raises(
        ValueError,
        match=r"^WORLD_SIZE=4 starts several processes, which requires LOCAL_RANK, MASTER_PORT too; start them with "
        r"torchrun, or unset WORLD_SIZE to train with one$",
    ):
        read_launch({"RANK": "3", "WORLD_SIZE": "4", "MASTER_ADDR": "host", "LOCAL_RANK": ""})
    for changed in ({"RANK": "4"}, {"RANK": "x"}, {"LOCAL_RANK": "-1"}, {"WORLD_SIZE": "0"}):
        found = variables | changed
        with pytest.raises(
            ValueError,
            match=r"^0 <= LOCAL_RANK <= RANK < WORLD_SIZE must hold, but the environment has RANK={RANK}, "
            r"WORLD_SIZE={WORLD_SIZE}, LOCAL_RANK={LOCAL_RANK}$".format_map(found),
        ):
            read_launch(found)


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    _choose_gpu(Launch(rank=5, size=8, local_rank=1))
    assert chosen == [1]
    for local_rank, is_printed in ((2, False), (3, True)):  # the first process that has none prints the message
        message = (
            f"every process needs a GPU of its own, but this host has 2 and process {local_rank + 1}; "
            "start at most 2 with torchrun --nproc-per-node, or set train.device=cpu"
        )
        with pytest.raises(ProcessFailed, match=f"^{re.escape(message)}$") as refused:
            _choose_gpu(Launch(rank=local_rank, size=4, local_rank=local_rank))
        assert refused.value.is_printed is is_printed


# ---- who prints an error


def group(store: dist.Store, rank: int, host: str = "host", local_rank: int | None = None) -> Group:
    """Make a process that has a store but no connections."""
    made = Group.__new__(Group)
    made.rank, made.size, made._host, made._store = rank, 4, host, store
    made._local_rank = rank if local_rank is None else local_rank
    return made


@pytest.fixture
def _no_head_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_HEAD_START", 0.0)


@pytest.mark.usefixtures("_no_head_start")
def test_the_first_error_is_printed_and_no_other_on_the_same_host() -> None:
    store = dist.HashStore()
    failed = group(store, 1).failure(ValueError("too\nhigh"))
    assert isinstance(failed, ProcessFailed)
    assert (str(failed), failed.is_printed) == ("process 1 of 4 on host: too high", False)
    for rank in (0, 2):
        other = group(store, rank).failure(ValueError("another"))
        assert isinstance(other, ProcessFailed)
        assert (str(other), other.is_printed) == (str(failed), True)


@pytest.mark.usefixtures("_no_head_start")
def test_the_first_process_prints_the_error_of_another_host() -> None:
    store = dist.HashStore()
    group(store, 3, "far", 1).failure(OSError("full"))
    printed = {}
    for rank, host in ((0, "host"), (1, "host"), (2, "far")):
        with pytest.raises(ProcessFailed) as failed, group(store, rank, host, 0)._reaching():
            raise RuntimeError("connection closed")
        assert str(failed.value) == "process 3 of 4 on far: full"
        printed[rank] = not failed.value.is_printed
    assert printed == {0: True, 1: False, 2: False}


@pytest.mark.usefixtures("_no_head_start")
def test_errors_of_the_first_process_are_those_of_a_run_with_one() -> None:
    for error in (ValueError("x"), OSError("x"), RuntimeError("a bug")):
        assert group(dist.HashStore(), 0).failure(error) is error
    bug = RuntimeError("a bug")
    store = dist.HashStore()
    assert group(store, 1).failure(bug) is bug, "its traceback is printed"
    assert str(group(store, 0).failure(bug)) == "process 1 of 4 on host: RuntimeError, with a traceback there"
    stopped = Stopped(15, "stopped")
    assert group(dist.HashStore(), 1).failure(stopped) is stopped


def test_a_process_that_ends_without_a_message_is_reported_once() -> None:
    store, printed = dist.HashStore(), []
    for rank in (2, 0, 1):
        with (
            pytest.raises(
                ProcessFailed,
                match=r"^a process has ended without a message, or its host can't be reached; the same command continues the run$",
            ) as failed,
            group(store, rank)._reaching(),
        ):
            raise RuntimeError("connection closed")
        printed.append(not failed.value.is_printed)
    assert printed == [True, False, False]
