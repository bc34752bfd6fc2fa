"""Cleaning up to the end, whatever signals arrive meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["uninterrupted"]

Result = TypeVar("Result")


def uninterrupted(clean: Callable[[], Result]) -> Result:
    """Call *clean*, and let nothing that a signal raises get in between.

    Python handles signals in the main thread only, wherever that is. So *clean* runs in another one, and the main
    thread waits for it.

    Returns:
        What *clean* returns.

    Raises:
        BaseException: What *clean* raises; else what a signal raised meanwhile, once *clean* is done.
    """
    if threading.current_thread() is not threading.main_thread():
        return clean()
    run = _Run(clean)
    interrupted: BaseException | None = None
    started = False
    while not run.done.is_set():
        try:
            if not started:
                threading.Thread(target=run).start()
                started = True
            run.done.wait()
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

    def __init__(self, clean: Callable[[], Result]) -> None:
        self._clean = clean
        self._begun = threading.Lock()
        self.done = threading.Event()
        self.results: list[Result] = []
        self.error: BaseException | None = None

    def __call__(self) -> None:
        if not self._begun.acquire(blocking=False):
            return
        try:
            self.results.append(self._clean())
        except BaseException as error:
            self.error = error
        finally:
            self.done.set()
