"""Signals that ask the program to stop.

The first signal raises StoppedError wherever the program is, which undoes its work on the way out. The second signal
does nothing, since the program is already stopping. The third signal ends the process at once; the next run removes the
rest. While modules are loaded, the first signal waits. Once the result is being printed, it comes too late.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING

from skyexport.errors import StoppedError

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

__all__ = ["STOPPING", "Signals", "handle_stops"]

STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""The signals that ask the program to stop."""

_PATIENCE = 2
"""Signals that do not end the process at once."""


def handle_stops(handler: Callable[[int, FrameType | None], None]) -> None:
    """Let *handler* handle the signals that ask to stop."""
    for number in STOPPING:
        # With nohup the program must go on. Shells make background jobs ignore SIGINT, but this program stops.
        if signal.getsignal(number) is not signal.SIG_IGN or number == signal.SIGINT:
            signal.signal(number, handler)


class Signals:
    """The handler of stop signals, and the signals received so far."""

    def __init__(self) -> None:
        self._received: list[int] = []
        self._raises = True

    def install(self) -> None:
        """Handle signals from now on."""
        handle_stops(self._handle)
        # A parent that ignores SIGCHLD hands this down; then the exit status of a worker would be lost.
        if hasattr(signal, "SIGCHLD") and signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        sys.unraisablehook = self._unraisable

    def ignore(self) -> None:
        """Ignore signals from now on: during the exit of Python they would change the exit status."""
        for number in STOPPING:
            signal.signal(number, signal.SIG_IGN)

    def _handle(self, number: int, _: FrameType | None) -> None:
        self._received.append(number)
        if len(self._received) > _PATIENCE:
            os._exit(128 + number)
        if len(self._received) == 1 and self._raises:
            raise StoppedError(number)

    @staticmethod
    def _unraisable(lost: UnraisableHookArgs) -> None:
        """Report an error that a finalizer raised. That of a signal needs no report, since `check` raises it again."""
        if not isinstance(lost.exc_value, StoppedError):
            sys.__unraisablehook__(lost)

    def check(self) -> None:
        """Raise the error of the first signal again; the first one may be lost, as in a finalizer.

        Raises:
            StoppedError: There was a signal.
        """
        if self._received:
            raise StoppedError(self._received[0])

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Delay the first signal to the end of the `with` statement, for loading modules.

        Modules in C or Rust run Python code while they are loaded, and some crash the process if it raises.

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
        """Let the result stand: only a third signal ends the process from now on."""
        self._raises = False
