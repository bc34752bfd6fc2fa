"""Actions that no signal interrupts: cleaning up, and making what must be owned from the moment it exists."""

from __future__ import annotations

import _thread
import sys
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["uninterrupted"]

Result = TypeVar("Result")


def uninterrupted(action: Callable[[], Result]) -> Result:
    """Call *action*, and let nothing that a signal raises get in between.

    Python handles signals in the main thread only, wherever that is. So *action* runs in another one, and the main
    thread waits for it. Whatever *action* makes, it must note in an object that lives longer: its result is lost when a
    signal arrives.

    Returns:
        The result of *action*.

    Raises:
        BaseException: What *action* raises; else what a signal raised meanwhile, once *action* is done. Where a signal
            arrives before *action* has begun, it may be left out.
    """
    if threading.current_thread() is not threading.main_thread() or sys.is_finalizing():
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
            # There are no more threads to be had, or no memory for one.
            started = True
            run()
        except BaseException as error:
            interrupted = error
    if run.error is not None:
        raise run.error
    if interrupted is not None:
        raise interrupted
    return run.results[0]


class _Run(Generic[Result]):
    """One call, though several threads may try: a signal can leave unknown whether one was started."""

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
