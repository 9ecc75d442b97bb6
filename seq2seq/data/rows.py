"""Access to the tokenized training pairs by row number: lengths for planning, batches for training."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from seq2seq.data.batching import Batch, collate, plan_epoch
from seq2seq.data.dataset import column
from seq2seq.data.limits import LengthLimit
from seq2seq.text.tokenizer import BOS, EOS, PAD

if TYPE_CHECKING:
    import datasets


_DRAW = 1  # separates the random numbers of ``Rows.draw`` from those of ``plan_epoch``


class Rows:
    """The training pairs as ids; the ids stay on disk, their lengths are held in memory.

    Args:
        dataset: the rows that ``training_set`` returns.
        copies: whether batches hold copy ids.
        segments: whether batches hold the sentences of the source pieces.
        sample: returns the rows of an epoch, given its number, for random segmentations.
        length_limit: the limit that was learned from the pairs, see ``learn_limit``.
        weights: how many times an epoch draws each pair of a corpus, by the number of the corpus.
    """

    def __init__(
        self,
        dataset: Any,
        *,
        copies: bool = False,
        segments: bool = False,
        sample: Callable[[int], datasets.Dataset] | None = None,
        length_limit: LengthLimit | None = None,
        weights: Sequence[float] = (1.0,),
    ) -> None:
        self.copies, self.segments = copies, segments
        self.length_limit = length_limit
        self._sample, self._epoch = sample, -1
        self._use(dataset)
        digest = hashlib.sha256()
        for name in ("src_length", "src_ids", "copy_ids", "tgt_length", "tgt_ids"):
            for chunk in dataset.data.column(name).chunks:
                digest.update((chunk.flatten() if name.endswith("ids") else chunk).to_numpy().tobytes())
        self._weights: np.ndarray | None = None  # of each row; None if all are 1
        if any(weight != 1 for weight in weights):
            self._weights = np.asarray(weights)[column(dataset, "corpus")]
            digest.update(self._weights.tobytes())
        self.fingerprint = digest.hexdigest()

    def _use(self, dataset: Any) -> None:
        self.dataset = dataset
        self.src_lengths = column(dataset, "src_length").astype(np.int64) + 1  # with eos
        self.tgt_lengths = column(dataset, "tgt_length").astype(np.int64) + 1

    def start_epoch(self, epoch: int) -> None:
        """Sample the rows of an epoch, counted from 0, if rows are sampled."""
        if self._sample and epoch != self._epoch:
            self._use(self._sample(epoch))
            self._epoch = epoch

    def draw(self, *, seed: int, epoch: int) -> np.ndarray:
        """Return the numbers of the rows of an epoch; without weights, every row once.

        A row of weight 2.3 is drawn twice, and in a random 30 % of the epochs once more. The result depends only on the
        arguments and the rows.

        Raises:
            ValueError: no row is drawn.
        """
        if self._weights is None:
            return np.arange(len(self.src_lengths))
        random = np.random.Generator(np.random.PCG64([seed, epoch, _DRAW]))
        times = np.floor(self._weights + random.random(len(self._weights))).astype(np.int64)
        if not times.any():
            raise ValueError(f"data.train.weight draws none of the {len(times)} pairs in epoch {epoch}; raise it")
        return np.repeat(np.arange(len(times)), times)

    def plan(self, *, batch_tokens: int, seed: int, epoch: int) -> list[np.ndarray]:
        """Sample and draw the rows of an epoch, and return the row numbers of each of its batches; see ``plan_epoch``."""
        self.start_epoch(epoch)
        drawn = self.draw(seed=seed, epoch=epoch)
        lengths = self.src_lengths[drawn], self.tgt_lengths[drawn]
        return [drawn[batch] for batch in plan_epoch(*lengths, batch_tokens=batch_tokens, seed=seed, epoch=epoch)]

    def largest(self, plan: Sequence[np.ndarray]) -> np.ndarray:
        """Return the batch of a plan with the most positions, padding included."""
        return max(plan, key=self.positions)

    def positions(self, rows: np.ndarray) -> int:
        """Return the source and target positions of a batch, padding included."""
        return len(rows) * int(self.src_lengths[rows].max() + self.tgt_lengths[rows].max())

    def split(self, rows: np.ndarray, most: int | None) -> list[np.ndarray]:
        """Halve a batch until its parts have at most ``most`` positions or one row; None: no limit."""
        if most is None or len(rows) == 1 or self.positions(rows) <= most:
            return [rows]
        middle = (len(rows) + 1) // 2
        return [*self.split(rows[:middle], most), *self.split(rows[middle:], most)]

    def batch(self, rows: np.ndarray) -> Batch:
        """Collate rows into a batch."""
        found = self.dataset[rows.tolist()]
        copy_ids = found["copy_ids"] if self.copies else None
        return collate(
            found["src_ids"],
            found["tgt_ids"],
            pad_id=PAD,
            bos_id=BOS,
            eos_id=EOS,
            copy_ids=copy_ids,
            segments=found["segments"] if self.segments else None,
        )

    def line_numbers(self, rows: np.ndarray) -> list[int]:
        """Return the line numbers of rows in the training files, sorted, from 1."""
        return sorted(self.dataset[rows.tolist()]["line"])
