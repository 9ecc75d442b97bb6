"""Batches: what one holds, how rows of ids become one, and in which order an epoch brings them.

Knows no text and no model. The order of an epoch follows from (seed, epoch) alone, so a position in it is one number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Batch(NamedTuple):
    """Padded sentence pairs."""

    src: Tensor  # (B, S)
    src_lengths: Tensor  # (B,), on the CPU
    tgt_in: Tensor  # (B, T), bos + y
    tgt_out: Tensor  # (B, T), y + eos
    real: Tensor  # (R,), the real positions of the flattened tgt_out; R = target tokens
    copy_ids: Tensor  # (B, S), the target ids of the source; (B, 0) where nothing is copied

    @property
    def target_tokens(self) -> int:
        """Real positions of tgt_out, the end of sentence included."""
        return self.real.numel()

    def to(self, device: torch.device) -> Batch:
        """The batch on a device; the lengths stay on the CPU, where packing wants them."""
        pins = device.type == "cuda"
        moved = [(tensor.pin_memory() if pins else tensor).to(device, non_blocking=True) for tensor in self]
        return Batch(*moved)._replace(src_lengths=self.src_lengths)


def pad(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Pad on the right: ids (B, S) and lengths (B,)."""
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
) -> Batch:
    """Make a batch of id rows without bos and eos; the source gets an eos too, so that it is never empty.

    Args:
        copy_ids: for copying, the target ids of ``src``; these and ``tgt`` may go beyond the vocabulary.
    """
    src_ids, src_lengths = pad([[*row, eos_id] for row in src], pad_id)
    tgt_in, _ = pad([[bos_id, *row] for row in tgt], pad_id)
    tgt_out, tgt_lengths = pad([[*row, eos_id] for row in tgt], pad_id)
    inside = torch.arange(tgt_out.shape[1]) < tgt_lengths.unsqueeze(1)
    copied = src_ids[:, :0] if copy_ids is None else pad([[*row, eos_id] for row in copy_ids], pad_id)[0]
    return Batch(src_ids, src_lengths, tgt_in, tgt_out, inside.flatten().nonzero().squeeze(1), copied)


def split_by_tokens(order: np.ndarray, lengths: np.ndarray, batch_tokens: int) -> list[np.ndarray]:
    """Cut a sequence of rows into batches of at most ``batch_tokens`` = rows times the longest; at least a row each.

    Args:
        order: row numbers; neighbours should be of like length.
        lengths: length of every row number (the longer side of a pair).
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


WINDOW_BATCHES = 300  # rows are shuffled over everything, then sorted inside windows of about so many batches


def plan_epoch(
    src_lengths: np.ndarray, tgt_lengths: np.ndarray, *, batch_tokens: int, seed: int, epoch: int
) -> list[np.ndarray]:
    """The batches of one epoch as arrays of row numbers, each row in exactly one; a function of its arguments alone.

    Inside a batch the longest source comes first, as cuDNN wants it.

    Args:
        src_lengths, tgt_lengths: of every row as the model sees it, with the end of sentence.
        batch_tokens: rows times the longer padded side, at most.
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
    """Sort rows by the longer side into groups, inside of these by the target, up and down in turn; cut into batches.

    How many groups pad least depends on how the two sides go together: with as many groups as there are batches in each,
    both count alike.
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
