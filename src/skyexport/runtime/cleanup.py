"""Actions that no signal interrupts: cleaning up, and creating things that need an owner at once."""

from __future__ import annotations

import _thread
import queue
import sys
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Call", "start_thread", "uninterrupted"]

Result = TypeVar("Result")


def uninterrupted(action: Callable[[], Result]) -> Result:
    """Call *action* so that no exception from a signal can interrupt it.

    Python handles signals only in the main thread, whatever that is doing. So *action* runs in another thread, and the
    main thread waits for it. *action* must store all that it creates in an object that lives longer: its result is lost
    if a signal arrives.

    Returns:
        The result of *action*.

    Raises:
        BaseException: The exception from *action*; else the exception from a signal, raised once *action* is done. If a
            signal arrives before *action* begins, *action* may be left out.
    """
    if threading.get_ident() != threading.main_thread().ident or sys.is_finalizing():
        return action()
    call = Call(action)
    interrupted: BaseException | None = None
    started = False
    while not call.ended:
        try:
            if not started:
                # Neither threading.Thread nor its Event: an exception inside of those can leave a lock taken for ever.
                _thread.start_new_thread(call, ())
                started = True
            call.running.acquire()
        except (RuntimeError, MemoryError):
            # The system gives no more threads, or there is no memory for one.
            started = True
            call()
        except BaseException as error:
            interrupted = error
    if interrupted is not None and call.error is None:
        raise interrupted
    return call.result()


def start_thread(thread: threading.Thread, started: list[threading.Thread] | None = None) -> None:
    """Start a thread, and add it to those that are *started*, so that no exception from a signal can interrupt it.

    Such an exception inside of `threading` can leave a lock taken for ever, which all threads need at their end.

    Raises:
        RuntimeError: The system gives no more threads.
    """

    def start() -> None:
        thread.start()
        if started is not None:
            started.append(thread)

    uninterrupted(start)


class Call(Generic[Result]):
    """A call that another thread makes, once, though several may try: a signal can hide whether one was started.

    The waiting of `concurrent.futures` and of `threading` is written in Python: an exception from a signal inside of it
    can leave a lock taken, and the other threads never end. To wait for a plain lock is one step.
    """

    def __init__(self, action: Callable[[], Result]) -> None:
        self._action = action
        self._begun = threading.Lock()
        self.running = threading.Lock()
        """Held until the call has ended."""
        self.running.acquire()
        self.ended = False
        self._results: list[Result] = []
        self.error: BaseException | None = None

    def __call__(self) -> None:
        """Make the call, unless another thread does."""
        if not self._begun.acquire(blocking=False):
            return
        try:
            self._results.append(self._action())
        except BaseException as error:
            self.error = error
        finally:
            self.ended = True
            self.running.release()

    def result(self, timeout_seconds: float = -1) -> Result:
        """Wait for the result; without end if the time is negative.

        Raises:
            queue.Empty: There is none yet.
            BaseException: The error of the call.
        """
        if not self.ended:
            self.running.acquire(timeout=timeout_seconds)
        if not self.ended:
            # A TimeoutError may be the error of the call.
            raise queue.Empty
        if self.error is not None:
            raise self.error
        return self._results[0]

    def wait(self) -> None:
        """Wait until the call has ended, whatever happens meanwhile.

        Raises:
            BaseException: The error of the call; else the exception from a signal, raised once the call has ended.
        """
        interrupted: BaseException | None = None
        while not self.ended:
            try:
                self.running.acquire()
            except BaseException as error:
                interrupted = error
        if interrupted is not None and self.error is None:
            raise interrupted
        self.result()
