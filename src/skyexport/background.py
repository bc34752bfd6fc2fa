"""Calls in other threads, for a main thread that a signal can interrupt at any moment.

The waiting of `concurrent.futures` and of `threading` is written in Python: an exception from a signal inside of it can
leave a lock taken, and the other threads never end. That of `queue.SimpleQueue` is one step.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Generic, TypeVar

from skyexport.cleanup import uninterrupted

__all__ = ["Background", "Call"]

Result = TypeVar("Result")


class Call(Generic[Result]):
    """A call that was begun."""

    def __init__(self) -> None:
        self._outcomes: queue.SimpleQueue[tuple[Result] | BaseException] = queue.SimpleQueue()

    def make(self, action: Callable[[], Result]) -> None:
        """Call *action*, in its thread."""
        try:
            self._outcomes.put((action(),))
        except BaseException as error:
            self._outcomes.put(error)

    def result(self, timeout_seconds: float | None = None) -> Result:
        """Wait for the result, which can be had once.

        Raises:
            queue.Empty: There is none yet.
            BaseException: The error of the call.
        """
        outcome = self._outcomes.get(timeout=timeout_seconds)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome[0]


class Background:
    """Threads that make calls, in the order in which they begin.

    Args:
        threads: How many; each starts when it is needed.
    """

    def __init__(self, threads: int) -> None:
        self._executor = ThreadPoolExecutor(threads)

    def begin(self, action: Callable[[], Result]) -> Call[Result]:
        """Let a thread call *action* as soon as one is free.

        Raises:
            MemoryError: The system gives no more threads.
        """
        call = Call[Result]()
        try:
            # It may start a thread.
            uninterrupted(partial(self._executor.submit, call.make, action))
        except RuntimeError as error:
            raise MemoryError(f"the system gives no more threads: {error}") from error
        return call

    def end(self) -> None:
        """Wait for the calls that are being made; those that have not begun are left out."""
        uninterrupted(partial(self._executor.shutdown, cancel_futures=True))
