"""Actions that no signal interrupts: cleaning up, and creating things that need an owner at once."""

from __future__ import annotations

import _thread
import sys
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["start_thread", "uninterrupted"]

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
    run = _Run(action)
    interrupted: BaseException | None = None
    started = False
    while not run.ended:
        try:
            if not started:
                # Neither threading.Thread nor its Event: an exception inside of those can leave a lock taken for ever.
                _thread.start_new_thread(run, ())
                started = True
            run.running.acquire()
        except (RuntimeError, MemoryError):
            # The system gives no more threads, or there is no memory for one.
            started = True
            run()
        except BaseException as error:
            interrupted = error
    if run.error is not None:
        raise run.error
    if interrupted is not None:
        raise interrupted
    return run.results[0]


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


class _Run(Generic[Result]):
    """A call that runs once, though several threads may try: after a signal it can be unknown if one was started."""

    def __init__(self, action: Callable[[], Result]) -> None:
        self._action = action
        self._begun = threading.Lock()
        self.running = threading.Lock()
        """Held until the call has ended."""
        self.running.acquire()
        self.ended = False
        self.results: list[Result] = []
        self.error: BaseException | None = None

    def __call__(self) -> None:
        if not self._begun.acquire(blocking=False):
            return
        try:
            self.results.append(self._action())
        except BaseException as error:
            self.error = error
        finally:
            self.ended = True
            self.running.release()
