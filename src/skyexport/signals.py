"""Signals that ask the program to stop.

The first one raises StoppedError wherever the program is, so that what it did is undone on the way out. The second one
does nothing, since that is under way; the third one ends the process at once, and leaves the rest to the next run.
While modules are loaded the first one waits, and once the outcome is being told it comes too late.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType

from skyexport.errors import StoppedError

__all__ = ["Signals"]

_STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

_PATIENCE = 2
"""Signals to take before the process ends at once."""


class Signals:
    """Those that this process has received."""

    def __init__(self) -> None:
        self._received: list[int] = []
        self._raises = True

    def install(self) -> None:
        """Answer them from now on."""
        for number in _STOPPING:
            # Who starts it with nohup wants it to go on. Shells let background jobs ignore SIGINT; we do not.
            if signal.getsignal(number) is not signal.SIG_IGN or number == signal.SIGINT:
                signal.signal(number, self._handle)
        # Who starts this program may ignore SIGCHLD, and that is inherited: then nobody learns how a worker ended.
        if hasattr(signal, "SIGCHLD") and signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def ignore(self) -> None:
        """Take no notice of them any more: on its way out Python would let them end the process with another status."""
        for number in _STOPPING:
            signal.signal(number, signal.SIG_IGN)

    def _handle(self, number: int, _: FrameType | None) -> None:
        self._received.append(number)
        if len(self._received) > _PATIENCE:
            os._exit(128 + number)
        if len(self._received) == 1 and self._raises:
            raise StoppedError(number)

    def check(self) -> None:
        """Raise again what the first signal raised: it may have got lost, as in a finaliser, whose errors nobody sees.

        Raises:
            StoppedError: There was a signal.
        """
        if self._received:
            raise StoppedError(self._received[0])

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Have the first one wait until the `with` statement is left: for loading modules.

        Those in C or Rust run Python code while they set themselves up, and some crash the process when it raises.

        Raises:
            StoppedError: There was a signal meanwhile.
        """
        self._raises = False
        try:
            yield
        finally:
            self._raises = True
        self.check()

    def settle(self) -> None:
        """Let the outcome stand, whatever comes now; the third signal ends the process all the same."""
        self._raises = False
