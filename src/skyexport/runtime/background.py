"""Calls in other threads, for a main thread that a signal can interrupt at any moment."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from typing import TypeVar

from skyexport.runtime.cleanup import Call, start_thread, uninterrupted

__all__ = ["Background", "waited_for"]

_WAIT_SECONDS = 0.1
"""Time between checks of memory and signals while a call takes long."""

Result = TypeVar("Result")


class Background:
    """Threads that make calls, in the order in which they begin.

    Not `concurrent.futures`: an exception from a signal inside of it can leave a lock taken (`Call`). To give a call to
    a thread that runs already is one step, too.

    Args:
        threads: At most so many; each starts with a call.
    """

    def __init__(self, threads: int) -> None:
        self._most = threads
        self._threads: list[threading.Thread] = []
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()

    def begin(self, action: Callable[[], Result]) -> Call[Result]:
        """Let a thread call *action* as soon as one is free.

        Raises:
            MemoryError: The system gives no thread.
        """
        call = Call(action)
        if len(self._threads) < self._most:
            thread = threading.Thread(target=_make_calls, args=(self._calls,), daemon=True)
            try:
                start_thread(thread, self._threads)
            except RuntimeError as error:
                if not self._threads:
                    raise MemoryError(f"the system gives no more threads: {error}") from error
        self._calls.put(call)
        return call

    def end(self) -> None:
        """Wait for the calls that are being made; those that have not begun are left out."""
        uninterrupted(self._end)

    def _end(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._calls.get_nowait()
        self._let_go()
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def _let_go(self) -> None:
        for _ in self._threads:
            self._calls.put(None)

    def __del__(self) -> None:
        # A signal may have come before the owner had it. (The threads do not hold it.)
        self._let_go()


def waited_for(call: Call[Result], check: Callable[[], None]) -> Result:
    """The result of a call that another thread makes.

    Args:
        call: The call.
        check: Called now and then; an exception from it ends the waiting.

    Raises:
        BaseException: The error of the call.
    """
    while True:
        check()
        with contextlib.suppress(queue.Empty):
            return call.result(_WAIT_SECONDS)


def _make_calls(calls: queue.SimpleQueue[Callable[[], None] | None]) -> None:
    while call := calls.get():
        call()
