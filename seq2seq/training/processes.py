"""The processes of a run: one, or several that torchrun starts and that train one model together.

Every process holds the whole model and computes the gradient of its part of every batch. The gradients are summed, so
every process makes the same update. The first process, with rank 0, reads and writes the run directory and prints.

``Processes`` is a group of one: its methods return their input. ``Group`` communicates. A method that communicates must
be called by all processes in the same order, and everything that decides what is called next must be equal on all of
them: it is computed from the same values, or comes from ``from_first`` or ``highest``.

The gradients are summed by one all-reduce of flat buckets after the backward pass, not by
``torch.nn.parallel.DistributedDataParallel``. DDP fixes the set of parameters that have a gradient when it is
constructed, but the coverage phase unfreezes parameters during the run, a process may have no row of a small batch, and a
batch may be split after its backward pass has failed. DDP also averages over processes, while the loss is normalised by
the target tokens of all of them. The price: communication does not overlap with the backward pass.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from seq2seq.training.launch import Launch, read_launch
from seq2seq.training.memory import is_out_of_memory
from seq2seq.training.stopping import Stopped

Result = TypeVar("Result")

LONGEST_WORK = timedelta(days=1)  # the others wait while a process reads and tokenizes the data, or validates
LOST_AFTER = timedelta(minutes=10)  # a process that does not answer for so long during updates is lost
_BUCKET = 2**24  # elements that are summed at once: 64 MiB
_PATIENCE = 10.0  # seconds to wait for the store after an error
_HEAD_START = 0.5  # seconds; the message of the first process is preferred if all processes have the same error
_FAILED = "failed"  # key of the store: rank, host and message of the first process that failed
_GROUPS = itertools.count()  # of this process; a sweep makes one for every job


class ProcessFailed(Exception):  # noqa: N818 (it reports the error of another process)
    """The run has ended because a process failed, or can no longer be reached.

    Args:
        is_printed: whether another process on this host prints the message, or none needs to.
    """

    def __init__(self, message: str, *, is_printed: bool) -> None:
        super().__init__(message)
        self.is_printed = is_printed


class Processes:
    """A group of one process."""

    rank = 0
    size = 1

    @property
    def is_first(self) -> bool:
        """Whether this process prints, and reads and writes the run directory."""
        return self.rank == 0

    def from_first(self, make: Callable[[], Result]) -> Result:
        """Call ``make`` on the first process, and return its result on all."""
        return make()

    def in_turn(self, make: Callable[[], Result]) -> Result:
        """Call ``make`` on all processes: the first, then the first of each host, then the others.

        The later ones find the files that the earlier ones have written.
        """
        return make()

    def gather(self, value: Result) -> list[Result]:
        """Return the values of all processes, by rank."""
        return [value]

    def highest(self, numbers: Sequence[int]) -> list[int]:
        """Return the maximum over all processes of every number."""
        return list(numbers)

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace every tensor by its sum over all processes. They have the same type and device."""

    def copy_from_first(self, parts: Mapping[str, Any]) -> None:
        """Give the tensors in the states of the parts the values that they have on the first process."""

    def start_updates(self) -> None:
        """From now on, a process that does not answer for ``LOST_AFTER`` is lost."""

    def end_updates(self) -> None:
        """Wait for other processes as long as before ``start_updates``."""

    @contextmanager
    def uneven_work(self) -> Iterator[None]:
        """Between updates: do work for which a process may need ``LOST_AFTER`` longer than another one.

        At its end, all processes wait for the last one.
        """
        yield

    def share(self, rows: np.ndarray) -> np.ndarray:
        """Return the rows of a batch that this process computes; none if there are fewer rows than processes.

        The rows of a batch are sorted by source length, and each process takes every n-th row: the processes get about
        the same number of tokens, and the longest source of each part comes first.
        """
        return rows[self.rank :: self.size]

    def map_lines(self, work: Callable[..., list[Result]], *columns: Sequence[str]) -> list[Result]:
        """Let every process do a part of the lines, and return the results of all lines.

        Args:
            work: called with neighbouring lines of each column, and the number of the first one, from 1, as
                ``first_line``; returns a result for each line.
            columns: texts of the lines; the processes get about the same number of characters of the first column.
        """
        ends = np.cumsum([len(text) + 1 for text in columns[0]])
        total = int(ends[-1]) if len(ends) else 0
        borders = [total * rank / self.size for rank in (self.rank, self.rank + 1)]
        first, end = np.searchsorted(ends, borders, side="right").tolist()
        parts = self.gather(work(*(column[first:end] for column in columns), first_line=first + 1))
        return [result for part in parts for result in part]

    def check_same(self, values: Mapping[str, object]) -> None:
        """Check that every process has the same values.

        Args:
            values: by their names for the message.

        Raises:
            ValueError: one has another value.
        """
        found = self.gather({name: hashlib.sha256(repr(value).encode()).hexdigest() for name, value in values.items()})
        hosts = self.gather(socket.gethostname())
        for rank, digests in enumerate(found):
            differing = [name for name in values if digests[name] != found[0][name]]
            if differing:
                raise ValueError(
                    f"{' and '.join(differing)} must be the same in all processes, but process {rank} on {hosts[rank]} "
                    f"differs from process 0 on {hosts[0]}; start all of them with the same command and the same files"
                )


class Group(Processes):
    """Several processes, connected by gloo for values on the CPU and by NCCL for those on GPUs.

    Raises:
        ProcessFailed: a host has fewer GPUs than processes, or another process cannot be reached.
    """

    def __init__(self, launch: Launch, device: torch.device) -> None:
        self.rank, self.size = launch.rank, launch.size
        self._local_rank = launch.local_rank
        self._host = socket.gethostname()
        self._store: dist.Store | None = None
        uses_gpu = device.type == "cuda"
        if uses_gpu:
            _choose_gpu(launch)
        with self._reaching():
            self._store = dist.PrefixStore(f"seq2seq/{next(_GROUPS)}", _store())
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if uses_gpu else "gloo",
                store=dist.PrefixStore("group", self._store),
                rank=self.rank,
                world_size=self.size,
                timeout=LONGEST_WORK,
            )
            self._patient_group = self._group = dist.group.WORLD
            self._update_group = dist.new_group(timeout=LOST_AFTER)

    def from_first(self, make: Callable[[], Result]) -> Result:
        found = [make() if self.is_first else None]
        with self._reaching():
            dist.broadcast_object_list(found, src=0, group=self._group)
        result: Any = found[0]
        return result

    def in_turn(self, make: Callable[[], Result]) -> Result:
        turn = 0 if self.is_first else 1 if self._local_rank == 0 else 2
        results = []
        for each in range(3):
            if each == turn:
                results.append(make())
            self.gather(None)  # wait for all
        return results[0]

    def gather(self, value: Result) -> list[Result]:
        found: list[Any] = [None] * self.size
        with self._reaching():
            dist.all_gather_object(found, value, group=self._group)
        return found

    def highest(self, numbers: Sequence[int]) -> list[int]:
        tensor = torch.tensor(numbers, dtype=torch.int64)
        with self._reaching():
            dist.all_reduce(tensor, dist.ReduceOp.MAX, group=self._group)
        found: list[int] = tensor.tolist()
        return found

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            with self._reaching():
                dist.all_reduce(flat, group=self._group)
            for tensor, total in zip(bucket, flat.split([tensor.numel() for tensor in bucket]), strict=True):
                tensor.copy_(total.view_as(tensor))

    def copy_from_first(self, parts: Mapping[str, Any]) -> None:
        with self._reaching(), torch.no_grad():
            for part in parts.values():
                for tensor in _tensors(part.state_dict()):
                    dist.broadcast(tensor, src=0, group=self._group)

    def start_updates(self) -> None:
        self._group = self._update_group

    def end_updates(self) -> None:
        self._group = self._patient_group

    @contextmanager
    def uneven_work(self) -> Iterator[None]:
        before, self._group = self._group, self._patient_group
        try:
            yield
            self.gather(None)  # wait for all
        finally:
            self._group = before

    def failure(self, error: Exception) -> Exception:
        """Announce an error of this process to the others, unless one was announced before.

        Returns:
            The exception to raise: the same for the first process, so that its messages are those of a run with one
            process; ``ProcessFailed`` if another process reports its error, or if this one is not the first.
        """
        if isinstance(error, (ProcessFailed, Stopped)):
            return error
        is_expected = isinstance(error, (ValueError, OSError, MemoryError)) or is_out_of_memory(error)
        if not self.is_first:
            time.sleep(_HEAD_START)
        message = " ".join(str(error).split()) if is_expected else f"{type(error).__name__}, with a traceback there"
        failed = self._announce(f"process {self.rank} of {self.size} on {self._host}: {message}")
        if failed is not None:
            return failed
        if self.is_first or not is_expected:
            return error
        return ProcessFailed(f"process {self.rank} of {self.size} on {self._host}: {message}", is_printed=False)

    def close(self) -> None:
        """Leave the group."""
        if dist.is_initialized():
            dist.destroy_process_group()

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Convert the errors of communication.

        Raises:
            ProcessFailed: another process has failed, was killed or cannot be reached.
        """
        try:
            yield
        except RuntimeError as error:  # torch.distributed.DistError, and errors of gloo, which are no DistError
            if is_out_of_memory(error):
                raise
            message = "a process has ended without a message, or its host can't be reached; the same command continues the run"
            failed = self._announce(message) or ProcessFailed(message, is_printed=False)
            raise failed from error

    def _announce(self, message: str) -> ProcessFailed | None:
        """Store a message, unless there is one of a process that failed earlier; return that one as an exception."""
        store = self._store
        if store is None:
            return None
        written = f"{self.rank}\n{self._host}\n{message}"
        answers: list[str] = []

        def ask() -> None:
            with suppress(RuntimeError):
                answers.append(store.compare_set(_FAILED, "", written).decode())

        thread = threading.Thread(target=ask, daemon=True)  # the answer may never come
        thread.start()
        thread.join(_PATIENCE)
        if not answers:  # the host of the store is lost
            return ProcessFailed(message, is_printed=self._local_rank != 0)
        if answers[0] == written:
            return None
        _, host, earlier = answers[0].split("\n", 2)
        return ProcessFailed(earlier, is_printed=not self.is_first or host == self._host)


@contextmanager
def join(device: torch.device) -> Iterator[Processes]:
    """Connect the processes that torchrun has started; a process that was started alone is a group of one.

    Args:
        device: where the model is; each process of a host takes its own GPU.

    Raises:
        ValueError: the environment variables of torchrun are not complete.
        ProcessFailed: a host has fewer GPUs than processes, or another process has failed or cannot be reached.
    """
    launch = read_launch()
    if launch.size == 1:
        yield Processes()
        return
    group = Group(launch, device)
    package = logging.getLogger("seq2seq")
    level = package.level
    if not group.is_first:
        package.setLevel(logging.ERROR)
    try:
        yield group
    except Exception as error:
        failure = group.failure(error)
        if failure is error:
            raise
        raise failure from error
    finally:
        package.setLevel(level)
        group.close()


def separate_random_numbers(rank: int) -> None:
    """Seed the random numbers of a process, dropout and the like, from the present state of the generator and its rank.

    The states of all processes must be equal before. The first process keeps its state.
    """
    if rank:
        state = torch.get_rng_state().numpy().tobytes()
        torch.manual_seed(int.from_bytes(hashlib.sha256(state + rank.to_bytes(4, "little")).digest()[:8], "little"))


@functools.cache
def _store() -> dist.Store:
    """Connect to the store of torchrun, once for all groups of this process."""
    from torch.distributed.rendezvous import rendezvous  # missing if PyTorch was built without torch.distributed

    store: dist.Store = next(iter(rendezvous("env://")))[0]
    return store


def _choose_gpu(launch: Launch) -> None:
    """Let this process use the GPU with its number.

    Raises:
        ProcessFailed: there is none. The processes before it have one, so the first one without a GPU prints the message.
    """
    count = torch.cuda.device_count()
    if launch.local_rank >= count:
        raise ProcessFailed(
            f"every process needs a GPU of its own, but this host has {count} and process {launch.local_rank + 1}; "
            f"start at most {count} with torchrun --nproc-per-node, or set train.device=cpu",
            is_printed=launch.local_rank > count,
        )
    torch.cuda.set_device(launch.local_rank)


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Group neighbouring tensors up to ``_BUCKET`` elements; a larger tensor is a group itself."""
    bucket: list[Tensor] = []
    for tensor in tensors:
        if bucket and sum(each.numel() for each in bucket) + tensor.numel() > _BUCKET:
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket


def _tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested dicts and lists."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _tensors(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _tensors(each)
