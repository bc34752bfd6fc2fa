"""Calls in other threads, for a main thread that a signal can interrupt at any moment.

The waiting of `concurrent.futures` and of `threading` is written in Python: an exception from a signal inside of it can
leave a lock taken, and the other threads never end. To wait for a plain lock is one step.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Generic, TypeVar

from skyexport.cleanup import uninterrupted

__all__ = ["Background", "Call"]

Result = TypeVar("Result")


class Call(Generic[Result]):
    """A call that was begun."""

    def __init__(self, action: Callable[[], Result]) -> None:
        self._action = action
        self._running = threading.Lock()
        """Held until the call has ended."""
        self._running.acquire()
        self._ended = False
        self._results: list[Result] = []
        self._error: BaseException | None = None

    def __call__(self) -> None:
        """Call the action, in its thread."""
        try:
            self._results.append(self._action())
        except BaseException as error:
            self._error = error
        finally:
            self._ended = True
            self._running.release()

    def result(self, timeout_seconds: float = -1) -> Result:
        """Wait for the result; without end if the time is negative.

        Raises:
            queue.Empty: There is none yet.
            BaseException: The error of the call.
        """
        if not self._ended:
            self._running.acquire(timeout=timeout_seconds)
        if not self._ended:
            # A TimeoutError may be the error of the call.
            raise queue.Empty
        if self._error is not None:
            raise self._error
        return self._results[0]

    def wait(self) -> None:
        """Wait until the call has ended, whatever happens meanwhile.

        Raises:
            BaseException: The error of the call; else the exception from a signal, raised once the call has ended.
        """
        interrupted: BaseException | None = None
        while not self._ended:
            try:
                self._running.acquire()
            except BaseException as error:
                interrupted = error
        if interrupted is not None and self._error is None:
            raise interrupted
        self.result()


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
        call = Call(action)
        try:
            # It may start a thread.
            uninterrupted(partial(self._executor.submit, call))
        except RuntimeError as error:
            raise MemoryError(f"the system gives no more threads: {error}") from error
        return call

    def end(self) -> None:
        """Wait for the calls that are being made; those that have not begun are left out."""
        uninterrupted(partial(self._executor.shutdown, cancel_futures=True))
