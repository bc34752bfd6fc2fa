"""One state of the archive, held in all processes until every post is read."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator

import apsw

from skyexport.archive.archive import Archive
from skyexport.archive.copying import REINDEX
from skyexport.archive.source import PIN_BUSY_MILLISECONDS, wait_for_writers
from skyexport.errors import ArchiveBusyError, ArchiveChangedError, ArchiveError
from skyexport.rendering.pool import Pool

__all__ = ["Hold", "NeverHeldError", "unchanging"]

_ATTEMPTS = 50
"""With a program that commits 1,500 times a second, a fifth of the attempts fail; so many in a row never do."""


class NeverHeldError(ArchiveBusyError):
    """Another program wrote to the archive during every attempt to hold one state of it."""


class Hold:
    """Holds one state of an archive, the same in this process and in all workers.

    Args:
        archive: The archive.
    """

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._since: float | None = None
        self.seconds = 0.0
        """How long the archive was held, in all attempts together."""

    def take(self, pool: Pool, check: Callable[[], None]) -> None:
        """Hold the present state.

        An observer connection holds no state. If it sees no commit between two looks, all states that were pinned in
        between are the same.

        Args:
            pool: The workers.
            check: Called between attempts; an exception from it ends this.

        Raises:
            NeverHeldError: Another program keeps writing.
        """
        pool.wait_until_ready()
        with contextlib.ExitStack() as closing:
            observer = None
            if pool.workers:
                observer = closing.enter_context(self._archive.second_connection())
                wait_for_writers(observer, PIN_BUSY_MILLISECONDS)
            for _ in range(_ATTEMPTS):
                if self._taken(pool, observer):
                    return
                # A program that waits to write can continue only when all processes have released the archive.
                pool.unpin()
                self.release()
                check()
                time.sleep(random.uniform(0.005, 0.05))
        raise NeverHeldError(
            f"another program keeps writing to {self._archive.display_path}", "try again when bskyarchive is idle"
        )

    def _taken(self, pool: Pool, observer: apsw.Connection | None) -> bool:
        """One attempt. If this process alone pins a state, it needs no observer."""
        try:
            with self._archive.translating_errors():
                before = None if observer is None else observer.pragma("data_version")
                self._since = time.monotonic()
                pinned = pool.pin() and self._archive.pin()
                return pinned and (observer is None or bool(observer.pragma("data_version") == before))
        except ArchiveBusyError:
            return False

    def release(self) -> None:
        """Release the state that this process holds."""
        self._archive.unpin()
        if self._since is not None and not self._archive.source.immutable:
            self.seconds += time.monotonic() - self._since
        self._since = None


@contextlib.contextmanager
def unchanging(archive: Archive) -> Iterator[None]:
    """While all processes hold one state of the archive, nothing in it can change: missing posts are damage."""
    try:
        yield
    except ArchiveChangedError as error:
        archive.check_unchanged()
        raise ArchiveError(
            f"{archive.display_path} is damaged: its indexes do not agree with its posts", REINDEX
        ) from error
