"""Translate a large file with several workers, on one machine or on a cluster, by Ray Data (the extra ray).

python scripts/translate_corpus.py runs/mine --input in.txt --output out.txt --workers 2

Each worker loads the model once. The lines are divided into the chunks of seq2seq translate, and each chunk is translated
by one worker, so the output has the same bytes as that of seq2seq translate, in the same order. If a worker dies, its
chunk is translated again by another one, with the same result. Search settings are given as in Python:
--search beam_size=1.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from seq2seq.commands.streams import check_output, model_files, output_stream
from seq2seq.config import SearchConfig, keys
from seq2seq.data.lines import as_line, read_lines
from seq2seq.data.stream import CHUNK, chunks
from seq2seq.data.terms import read_glossary
from seq2seq.threads import set_threads
from seq2seq.translator import Translator

MAX_BLOCKS = 2000  # of the data set; a block is what is translated again if its worker dies


class ChunkWorker:
    """A model in a worker.

    Args:
        models: one model, or several as an ensemble.
        settings: changed search settings.
        tag: the tag before every source, or None.
        glossary: see ``Translator.with_terms``, like ``keep``.
        threads: CPU threads.

    Raises:
        ValueError: a model cannot be loaded, or does not fit the other arguments.
    """

    def __init__(
        self,
        models: Sequence[str],
        settings: dict[str, Any],
        *,
        tag: str | None,
        glossary: dict[str, tuple[str, ...]],
        keep: Sequence[str],
        threads: int,
    ) -> None:
        set_threads(threads, name="--threads")
        translator = Translator.load(models).with_search(**settings)
        translator = translator.with_terms(glossary, keep) if glossary or keep else translator
        self.translator = translator.with_tag(tag) if tag else translator

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Translate a chunk: its number, the number of its first line, and its lines."""
        texts = self.translator.translate(list(row["lines"]), first_line=int(row["first_line"]))
        return {"number": row["number"], "count": len(texts), "content": b"".join(map(as_line, texts))}


def read_chunks(path: Path) -> list[dict[str, Any]]:
    """Read the chunks of a file; invalid UTF-8 is replaced by U+FFFD."""
    rows: list[dict[str, Any]] = []
    first_line = 1
    for lines in chunks(read_lines(path, on_invalid=lambda number: None), full=True):
        rows.append({"number": len(rows), "first_line": first_line, "lines": lines})
        first_line += len(lines)
    return rows


def translated(rows: list[dict[str, Any]], workers: int, threads: int, arguments: dict[str, Any]) -> Iterator[Any]:
    """Yield the translated chunks in the order of the input.

    Raises:
        ValueError: Ray is not installed.
    """
    try:
        import ray
        from ray.data import ActorPoolStrategy, DataContext
    except ImportError as error:
        raise ValueError(f'{Path(__file__).name} requires Ray ({error}); run pip install ".[ray]"') from error
    context = DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    if not ray.is_initialized():
        ray.init(num_cpus=workers * threads, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    data = ray.data.from_items(rows, override_num_blocks=min(len(rows), MAX_BLOCKS))
    pool = ActorPoolStrategy(size=workers)
    worker: Any = ChunkWorker  # Ray's types know functions only
    done = data.map(worker, compute=pool, num_cpus=threads, fn_constructor_kwargs=arguments)
    yield from done.iter_rows()


def main() -> None:
    """Read the command line, translate, and report the speed on standard error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="a model, or several as an ensemble", metavar="MODEL")
    parser.add_argument("--input", type=Path, required=True, help="source lines")
    parser.add_argument("--output", type=Path, required=True, help="file to write")
    parser.add_argument("--workers", type=int, default=1, help="number of workers; each loads the model")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of each worker")
    parser.add_argument("--search", action="append", default=[], metavar="NAME=VALUE", help="a search setting")
    parser.add_argument("--tag", help="tag before every source")
    parser.add_argument("--glossary", type=Path, help="glossary, as of seq2seq translate")
    parser.add_argument("--keep", action="append", default=[], help="spans to keep, as of seq2seq translate")
    given = parser.parse_args()
    if given.workers < 1 or given.threads < 1:
        raise ValueError(f"--workers and --threads must be at least 1, but are {given.workers} and {given.threads}")
    check_output(
        given.output, [given.input, given.glossary, *(path for each in given.models for path in model_files(each))]
    )
    arguments = {
        "models": given.models,
        "settings": read_settings(given.search),
        "tag": given.tag,
        "glossary": read_glossary(given.glossary) if given.glossary else {},
        "keep": given.keep,
        "threads": given.threads,
    }
    ChunkWorker(**arguments)  # so that wrong arguments end the script before Ray starts
    rows, number, count = read_chunks(given.input), 0, 0
    with output_stream(given.output) as stream:
        started = time.perf_counter()
        for number, row in enumerate(
            translated(rows, given.workers, given.threads, arguments) if rows else (), start=1
        ):
            assert row["number"] == number - 1, "the chunks have lost their order"
            stream.write(row["content"])
            count += int(row["count"])
        seconds = time.perf_counter() - started
    print(
        f"{count:,} lines in {number} chunks of at most {CHUNK:,} lines, {seconds:.1f} s with {given.workers} workers, "
        f"{count / max(seconds, 1e-9):.1f} lines/s",
        file=sys.stderr,
    )


def read_settings(texts: Sequence[str]) -> dict[str, Any]:
    """Read NAME=VALUE texts into search settings; a value is a number if it looks like one, except in settings of words.

    Raises:
        ValueError: a text without =.
    """
    settings: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"--search must have the form NAME=VALUE, but is {text}; for example --search beam_size=1")
        settings[name] = value if name in keys(SearchConfig, texts=True) else _value(value)
    return settings


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
