"""Batches of padded ids, and the plan of an epoch: which rows form a batch, and in which order.

The plan depends only on (seed, epoch), so one number is enough to store a position in it.

Shapes: B sentence pairs, S source length, T target length, R target tokens of the batch (padding not counted).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor


class Batch(NamedTuple):
    """Padded sentence pairs."""

    src: Tensor  # (B, S)
    src_lengths: Tensor  # (B,), on the CPU
    tgt_in: Tensor  # (B, T), bos + y
    tgt_out: Tensor  # (B, T), y + eos
    target_positions: Tensor  # (R,), indices into the flattened tgt_out (B * T,) that are not padding
    copy_ids: Tensor  # (B, S), target ids of the source pieces, see ``seq2seq.data.copy_ids``; (B, 0) without copying
    segments: (
        Tensor  # (B, S), number of the sentence of each source piece, on the CPU; (B, 0) if collate was given none
    )

    @property
    def target_tokens(self) -> int:
        """The number R of target tokens in the batch, eos included."""
        return self.target_positions.numel()

    def to(self, device: torch.device) -> Batch:
        """Move the batch to a device. Lengths and segments stay on the CPU, where encoders read them."""
        pins = device.type == "cuda"
        moved = [(tensor.pin_memory() if pins else tensor).to(device, non_blocking=True) for tensor in self]
        return Batch(*moved)._replace(src_lengths=self.src_lengths, segments=self.segments)


def pad(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Pad rows on the right; return the ids (B, S) and the lengths (B,)."""
    lengths = np.fromiter((len(row) for row in rows), dtype=np.int64, count=len(rows))
    ids = np.full((len(rows), int(lengths.max())), pad_id, dtype=np.int64)
    for row, values in enumerate(rows):
        ids[row, : len(values)] = values
    return torch.from_numpy(ids), torch.from_numpy(lengths)


def collate(
    src: Sequence[Sequence[int]],
    tgt: Sequence[Sequence[int]],
    *,
    pad_id: int,
    bos_id: int,
    eos_id: int,
    copy_ids: Sequence[Sequence[int]] | None = None,
    segments: Sequence[Sequence[int]] | None = None,
) -> Batch:
    """Make a batch from rows of ids without bos and eos.

    The source gets an eos too, so it is never empty.

    Args:
        src, tgt: source and target ids of each pair.
        copy_ids: target ids of the source pieces, for a model that copies; then these and ``tgt`` may hold the ids of
            out-of-vocabulary source pieces.
        segments: sentence numbers of the source pieces, for an encoder with sentences; see ``seq2seq.data.segments``. The
            eos of the source belongs to the last sentence.
    """
    src_ids, src_lengths = pad([[*row, eos_id] for row in src], pad_id)
    tgt_in, _ = pad([[bos_id, *row] for row in tgt], pad_id)
    tgt_out, tgt_lengths = pad([[*row, eos_id] for row in tgt], pad_id)
    is_token = torch.arange(tgt_out.shape[1]) < tgt_lengths.unsqueeze(1)
    copied = src_ids[:, :0] if copy_ids is None else pad([[*row, eos_id] for row in copy_ids], pad_id)[0]
    numbers = src_ids[:, :0] if segments is None else pad([[*row, row[-1] if row else 0] for row in segments], 0)[0]
    return Batch(src_ids, src_lengths, tgt_in, tgt_out, is_token.flatten().nonzero().squeeze(1), copied, numbers)


def split_by_tokens(order: np.ndarray, lengths: np.ndarray, batch_tokens: int) -> list[np.ndarray]:
    """Split a sequence of rows into batches of at most ``batch_tokens`` tokens, padding included.

    The tokens of a batch are its rows times its longest row. A row that is longer than ``batch_tokens`` becomes a
    batch of one row.

    Args:
        order: row numbers; neighbours should have similar lengths.
        lengths: length of every row, by row number (the longer side of a pair).
    """
    batches = []
    first, longest = 0, 0
    for position, length in enumerate(lengths[order].tolist()):
        longest = max(longest, length)
        if position > first and longest * (position - first + 1) > batch_tokens:
            batches.append(order[first:position])
            first, longest = position, length
    batches.append(order[first:])
    return batches


T = TypeVar("T")


def group_by_size(items: Iterable[T], size: Callable[[T], int], most: int) -> Iterator[list[T]]:
    """Group neighbouring items so that the sizes of a group add up to at most ``most``; a larger item is a group itself."""
    group: list[T] = []
    total = 0
    for item in items:
        if group and total + size(item) > most:
            yield group
            group, total = [], 0
        group.append(item)
        total += size(item)
    if group:
        yield group


WINDOW_BATCHES = 300  # all rows are shuffled, then sorted by length in windows of about this many batches


def plan_epoch(
    src_lengths: np.ndarray, tgt_lengths: np.ndarray, *, batch_tokens: int, seed: int, epoch: int
) -> list[np.ndarray]:
    """Plan the batches of one epoch.

    Args:
        src_lengths, tgt_lengths: lengths of every row as the model reads it, eos included.
        batch_tokens: maximum number of rows times the longer padded side.

    Returns:
        The row numbers of each batch. Every row is in exactly one batch, and the longest source of a batch comes first,
        as cuDNN requires. The result depends only on the arguments.
    """
    random = np.random.Generator(np.random.PCG64([seed, epoch]))
    longer = np.maximum(src_lengths, tgt_lengths)
    shuffled = random.permutation(len(longer))
    window = max(1, round(WINDOW_BATCHES * batch_tokens / float(longer.mean())))
    batches = []
    for first in range(0, len(shuffled), window):
        rows = shuffled[first : first + window]
        batches += _least_padded(rows, src_lengths, tgt_lengths, longer, batch_tokens)
    order = random.permutation(len(batches))
    return [rows[np.argsort(-src_lengths[rows], kind="stable")] for rows in (batches[number] for number in order)]


def _least_padded(
    rows: np.ndarray, src_lengths: np.ndarray, tgt_lengths: np.ndarray, longer: np.ndarray, batch_tokens: int
) -> list[np.ndarray]:
    """Split the rows of a window into batches with little padding.

    Rows are sorted by their longer side and split into groups; a group is sorted by target length, ascending and
    descending in turn. The best number of groups depends on how source and target lengths are correlated. With as many
    groups as there are batches in each group, both sides have the same weight; half, two and four times as many are tried too, and
    the plan with the least padding is returned.
    """
    rows = rows[np.lexsort((src_lengths[rows], tgt_lengths[rows], longer[rows]))]
    balanced = math.sqrt(longer[rows].sum() / batch_tokens)
    plans = []
    for groups in (balanced / 2, balanced, 2 * balanced, 4 * balanced):
        parts = []
        for number, part in enumerate(np.array_split(rows, max(1, round(groups)))):
            part = part[np.lexsort((src_lengths[part], tgt_lengths[part]))]
            parts.append(part[:: -1 if number % 2 else 1])
        plans.append(split_by_tokens(np.concatenate(parts), longer, batch_tokens))
    return min(plans, key=lambda plan: sum(len(b) * (src_lengths[b].max() + tgt_lengths[b].max()) for b in plan))
