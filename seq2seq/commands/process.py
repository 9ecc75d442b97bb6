"""Settings of the process that must be made before the commands and torch are imported."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

INTERRUPTED = 130  # exit code after Ctrl-C: 128 + the number of SIGINT


def prepare_process() -> None:
    """Set the environment for torch, and let Ctrl-C end the process without a traceback.

    The threads of OpenMP wait for each other at the end of every parallel operation, by default in a busy loop. On a
    machine with other work this takes the cores from the threads that they wait for: 150 lines on two cores, beside two
    other busy processes, were translated in 27.0 s by default and in 9.4 s with OMP_WAIT_POLICY=passive. OpenMP reads
    the variable when torch is imported. A value that the user has set is kept.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    signal.signal(signal.SIGINT, _interrupt)


def ignore_interrupts() -> None:
    """Ignore Ctrl-C, so that a second one does not print a traceback while the process ends.

    Does nothing in a process that ``prepare_process`` has not prepared.
    """
    if signal.getsignal(signal.SIGINT) is _interrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """End the process at once during an import, otherwise raise KeyboardInterrupt.

    Inside an import, packages turn KeyboardInterrupt into other errors or print it. Nothing that must be removed or
    completed is open then.
    """
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            sys.stderr.flush()
            os._exit(INTERRUPTED)
        frame = frame.f_back
    raise KeyboardInterrupt
