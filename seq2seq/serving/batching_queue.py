"""The queue of the server: lines of concurrent requests are translated in common batches, on one thread.

A batch changes no result: a line has the same translation by itself and in any batch (docs/laws.md).
"""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from seq2seq.serving.measures import Measures
from seq2seq.translation import Translation
from seq2seq.translator import Translator

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RequestOptions:
    """The options of a request. None keeps a search setting of the model."""

    beam_size: int | None = None
    length_penalty: float | None = None
    max_length_ratio: float | None = None
    min_length: int | None = None
    too_long: str | None = None
    no_repeat_ngram: int | None = None
    repetition_penalty: float | None = None
    mbr: str | None = None
    n_best: int = 1
    attention: bool = False

    def translator(self, translator: Translator) -> Translator:
        """Return the translator with these options.

        Raises:
            ValueError: a value is out of range, or n-best exceeds the beam size.
        """
        settings = asdict(self)
        n_best = settings.pop("n_best")
        del settings["attention"]
        changed = translator.with_search(**settings)
        changed.check_n_best(n_best)
        return changed


@dataclass
class ServedTranslation(Translation):
    """A translation with its attention weights.

    ``attention`` has a row for each target piece, with a weight for each source piece and one for the end of the source.
    It is null if it was not asked for, if the model has no attention, if the line was split or is blank, and if the
    tokenizer segments the translated text into other pieces than the search did.
    """

    attention: list[list[float]] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Convert to plain values, for JSON, without copying the lists of numbers."""
        places = [place and vars(place) for place in self.copied_from]
        return vars(self) | {"copied_from": places, "terms": [vars(term) for term in self.terms]}


class ModelFailedError(Exception):
    """The model raised an error, which the log describes."""


@dataclass(eq=False)
class _Job:
    """Lines that wait for their translations. The answer is cancelled if nobody waits for it any more."""

    lines: Sequence[str]
    options: RequestOptions
    answer: asyncio.Future[list[list[ServedTranslation]]]


class BatchingQueue:
    """Translates the lines of concurrent requests in common batches.

    Its methods run in the event loop. Only the search runs on another thread, one batch after the other.

    Args:
        max_batch: the maximum number of lines in a batch, and so of lines in one call of ``translate``.
    """

    def __init__(self, translator: Translator, *, max_batch: int, measures: Measures) -> None:
        self.max_batch = max_batch
        self._translator = translator
        self._measures = measures
        self._waiting: deque[_Job] = deque()
        self._worker: asyncio.Task[None] | None = None  # exists while jobs wait
        self._model_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")

    @property
    def waiting(self) -> int:
        """The number of lines that wait for the model."""
        return sum(len(job.lines) for job in self._waiting)

    async def translate(self, lines: Sequence[str], options: RequestOptions) -> list[list[ServedTranslation]]:
        """Translate at most ``max_batch`` lines. A cancelled call leaves the queue, unless its search has begun.

        Returns:
            The translations of every line, best first.

        Raises:
            ModelFailedError: the model raised an error.
        """
        assert len(lines) <= self.max_batch, "a request must be divided into batches"
        job = _Job(lines, options, asyncio.get_running_loop().create_future())
        self._waiting.append(job)
        if self._worker is None:
            self._worker = asyncio.create_task(self._run())
        return await job.answer

    async def _run(self) -> None:
        """Translate until no job waits. The oldest job is always in the next batch, so none waits for ever."""
        try:
            while jobs := self._take():
                await self._answer(jobs)
        finally:
            self._worker = None

    def _take(self) -> list[_Job]:
        """Remove the next batch from the queue: the oldest job, and others with its options as far as they fit."""
        batch: list[_Job] = []
        remaining: deque[_Job] = deque()
        count = 0
        for job in self._waiting:
            if job.answer.done():  # cancelled
                continue
            fits = not batch or (job.options == batch[0].options and count + len(job.lines) <= self.max_batch)
            if fits:
                batch.append(job)
                count += len(job.lines)
            else:
                remaining.append(job)
        self._waiting = remaining
        return batch

    async def _answer(self, jobs: Sequence[_Job]) -> None:
        """Translate the lines of jobs as one batch. If that fails, translate each job by itself."""
        lines = [line for job in jobs for line in job.lines]
        try:
            found = iter(
                await asyncio.get_running_loop().run_in_executor(
                    self._model_thread, self._search, lines, jobs[0].options
                )
            )
        except Exception as error:
            log_failure("a batch", error)
            if len(jobs) > 1:
                for job in jobs:
                    await self._answer([job])
            elif not jobs[0].answer.done():
                jobs[0].answer.set_exception(ModelFailedError())
            return
        for job in jobs:
            results = [next(found) for _ in job.lines]
            if not job.answer.done():
                job.answer.set_result(results)

    def _search(self, lines: list[str], options: RequestOptions) -> list[list[ServedTranslation]]:
        """Search on the model thread."""
        started = time.perf_counter()
        translator = options.translator(self._translator)
        results = [
            [
                ServedTranslation(
                    **vars(each), attention=attention_of(translator, line, each) if options.attention else None
                )
                for each in best
            ]
            for line, best in zip(lines, translator.search(lines, n_best=options.n_best), strict=True)
        ]
        self._measures.count_batch(len(lines), time.perf_counter() - started)
        return results


def attention_of(translator: Translator, line: str, found: Translation) -> list[list[float]] | None:
    """Return the attention weights of a translation, or None (see ``ServedTranslation``)."""
    if not translator.model.has_attention or found.status in ("empty", "source_split"):
        return None
    traced, provenance = translator.trace(line, found.translation)
    if traced.pieces != found.pieces or traced.source_pieces != found.source_pieces:
        return None
    return [[round(weight, 4) for weight in row] for row in provenance.weights[:-1].tolist()]


def log_failure(what: str, error: BaseException) -> None:
    """Log where an error was raised, without its message, which could contain a text of a client."""
    frames: list[Any] = traceback.extract_tb(error.__traceback__)
    places = "".join(f"\n  {frame.filename}:{frame.lineno} in {frame.name}" for frame in frames)
    log.error("%s failed with %s%s", what, type(error).__name__, places)
