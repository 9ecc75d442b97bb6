"""Errors that a user can correct: one line on standard error and exit code 2."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

MEMORY_ERRORS = ("out of memory", "can't allocate memory")  # of a GPU, of a CPU; both are plain RuntimeErrors
_TIME_TO_PRINT = 3.0  # seconds


def fail(message: str, *, quiet: bool = False) -> NoReturn:
    """Print one line, and exit with code 2.

    Args:
        quiet: print nothing, because another process of this host prints the line. It gets time to do so, since torchrun
            terminates all processes of a host when the first of them has failed.
    """
    if quiet:
        time.sleep(_TIME_TO_PRINT)
    else:
        print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


@contextmanager
def one_line_errors(out_of_memory: str, *, quiet: bool = False) -> Iterator[None]:
    """Print an error that the user can correct as one line, and exit with code 2; other errors keep their traceback.

    Args:
        out_of_memory: the setting to lower when a batch does not fit into memory.
        quiet: print nothing, because another process of this host prints the same line.
    """
    try:
        yield
    except ValueError as error:
        fail(str(error), quiet=quiet)
    except RuntimeError as error:
        if not any(text in str(error) for text in MEMORY_ERRORS):
            raise
        fail(f"a batch does not fit into memory; lower {out_of_memory}", quiet=quiet)
    except MemoryError:
        fail(f"there is not enough memory; shorten very long lines, or lower {out_of_memory}", quiet=quiet)
    except BrokenPipeError:  # the reader of standard output closed it, which is no error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:  # a full disk, for example
        reason = error.strerror or error
        unusable = (
            f"{error.filename} can't be used: {reason}" if error.filename else f"reading or writing failed: {reason}"
        )
        fail(unusable, quiet=quiet)
