"""The signals that end an export, and how they wait while modules are loaded."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

__all__ = ["ENDING", "waiting"]

ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Those that the command answers by undoing what it did."""


@contextlib.contextmanager
def waiting() -> Iterator[None]:
    """Have these signals come when the `with` statement ends, not before.

    A handler that raises while a module in C or Rust sets itself up can crash the process instead of ending it.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
