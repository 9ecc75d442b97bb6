"""Continue an interrupted translation: a record beside the incomplete output says how far it is and how it was made.

The record of FILE is FILE.partial.json. It is written after each chunk of lines and removed with the incomplete output.
Translating goes on at the end of a chunk, since the last digits of scores may depend on the lines of a batch.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from seq2seq.commands.streams import partial_file
from seq2seq.files import read_file, write_atomically

_AGAIN = "or leave out --resume to start again"


class ResumeRecord:
    """The record of an output: how many lines of which input are translated, with which options.

    Args:
        output: the file to write; None is standard output, which has no record, like pipes and compressed files.
        options: every option that the output depends on, by its name for messages.
        resume: whether to continue an incomplete output; if there is none, the output starts with the first line.

    Attributes:
        lines: input lines whose translations are in the incomplete output and are kept.
        size: size of these translations in bytes.

    Raises:
        ValueError: the output cannot be continued, or was begun with other options.
    """

    def __init__(self, output: Path | None, options: dict[str, str], *, resume: bool) -> None:
        self.lines = self.size = 0
        self._options, self._digest, self._expected = options, hashlib.sha256(), hashlib.sha256().hexdigest()
        self.path = record_file(output) if output else None
        if not resume:
            return
        if output is None:
            raise ValueError("--resume continues an incomplete output and requires --output FILE")
        self._partial = partial_file(output)
        if self.path is None or self._partial is None:
            raise ValueError(
                f"--resume requires an output that is an uncompressed regular file, but is {output}; "
                "write to a file whose name does not end in .gz"
            )
        if self._partial.exists() and (self._partial.stat().st_size or self.path.exists()):
            self._read(self._partial, self.path)

    def skip(self, texts: Iterator[str], forget: Callable[[int], Any]) -> None:
        """Read the lines whose translations are kept.

        Args:
            texts: the lines of the input.
            forget: called with the number of each of them, from 1.

        Raises:
            ValueError: they are not the lines that were translated.
        """
        for number, text in enumerate(itertools.islice(texts, self.lines), start=1):
            self._add(text)
            forget(number)
        if self._digest.hexdigest() != self._expected:
            raise ValueError(
                f"{self._partial} holds translations of {self.lines} lines that the input does not begin with; "
                f"give the same input, {_AGAIN}"
            )

    def write(self, texts: Sequence[str] = (), size: int = 0) -> None:
        """Record that more lines are translated.

        Args:
            texts: the lines.
            size: size of the output with their translations, in bytes.
        """
        if self.path is None:
            return
        for text in texts:
            self._add(text)
        self.lines, self.size = self.lines + len(texts), size
        content = {"lines": self.lines, "size": size, "input": self._digest.hexdigest(), "options": self._options}
        write_atomically(self.path, (json.dumps(content, indent=2) + "\n").encode())

    def __enter__(self) -> ResumeRecord:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Remove the record after a failure before the first line, like the incomplete output."""
        if kind is not None and not self.size:
            self.remove()

    def remove(self) -> None:
        """Remove the record of an output that is complete."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def _add(self, text: str) -> None:
        self._digest.update(text.encode(errors="surrogatepass") + b"\n")

    def _read(self, partial: Path, path: Path) -> None:
        if not path.exists():
            raise ValueError(f"{partial} cannot be continued, because its record {path} is missing; leave out --resume")
        try:
            content = json.loads(read_file(path))
            lines, size, expected, options = (content[key] for key in ("lines", "size", "input", "options"))
            fits = 0 <= size <= partial.stat().st_size and lines >= 0 and isinstance(options, dict)
        except (ValueError, KeyError, TypeError):
            fits = False
        if not fits:
            raise ValueError(
                f"{partial} cannot be continued, because its record {path} does not fit; leave out --resume"
            )
        for name in [*self._options, *options]:
            before, now = options.get(name, "not known"), self._options.get(name, "not known")
            if before != now:
                raise ValueError(
                    f"{partial} was written with another {name}: it was {before}, but is {now} now; "
                    f"give the same {name}, {_AGAIN}"
                )
        self.lines, self.size, self._expected = lines, size, expected


def record_file(output: Path) -> Path | None:
    """Return the name of the record of an output; None if the output is compressed or no regular file."""
    partial = partial_file(output)
    if partial is None or output.suffix.lower() == ".gz":
        return None
    return partial.with_name(f"{partial.name}.json")
