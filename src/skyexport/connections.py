"""All connections of this process to one archive, and the files that SQLite makes beside the archive for them.

To read an archive in WAL mode, SQLite makes a log and its index where they are missing, and a connection that may only
read leaves them there. So one object opens all connections. At the end it closes them, also those that somebody has
forgotten, and only then removes those files.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import apsw

from skyexport.cleanup import uninterrupted
from skyexport.location import files_beside, has_content
from skyexport.source import BUSY_MILLISECONDS, Source

__all__ = ["Connections"]


class Connections:
    """The connections to an archive. Whatever happens after it was made, `close` leaves nothing new beside the archive.

    Args:
        source: How to open the archive.
    """

    _closed = True

    def __init__(self, source: Source) -> None:
        self._source = source
        self._opened: list[apsw.Connection] = []
        self._closed = False

    def __del__(self) -> None:
        # A signal may come before the owner knows that it has one.
        self.close()

    def open(self, busy_milliseconds: int = BUSY_MILLISECONDS) -> apsw.Connection:
        """Open a connection, which stays open until `close`.

        Args:
            busy_milliseconds: How long its statements wait for a program that is writing.

        Raises:
            ArchiveError: SQLite cannot open the archive.
        """
        # One statement: no signal can come between the two calls and lose the connection.
        self._opened.append(self._source.connect(busy_milliseconds))
        return self._opened[-1]

    @contextlib.contextmanager
    def opened(self, busy_milliseconds: int = BUSY_MILLISECONDS) -> Iterator[apsw.Connection]:
        """Open a connection for the time of a `with` block.

        Args:
            busy_milliseconds: As for `open`.

        Raises:
            ArchiveError: SQLite cannot open the archive.
        """
        connection = self.open(busy_milliseconds)
        try:
            yield connection
        finally:
            connection.close()
            # `close` may have been quicker.
            with contextlib.suppress(ValueError):
                self._opened.remove(connection)

    def close(self) -> None:
        """Close all connections, and remove what SQLite made beside the archive for them. Twice does no harm."""
        if not self._closed:
            uninterrupted(self._close)

    def _close(self) -> None:
        for connection in self._opened:
            # With force: an error of a statement that nobody finished must not keep it open.
            connection.close(True)
        self._opened.clear()
        self._tidy()
        self._closed = True

    def _tidy(self) -> None:
        """Remove an empty log and its index.

        Only SQLite can do that without a race against a program that opens the archive now: it does when the last
        connection ends, if that may write. It need not understand the schema, which may be damaged.
        """
        log = files_beside(Path(self._source.path)).log
        if not self._source.wal or self._source.immutable or not log.exists() or has_content(log):
            return
        with contextlib.suppress(apsw.Error, MemoryError):
            tidier = apsw.Connection(self._source.path, flags=apsw.SQLITE_OPEN_READWRITE)
            with contextlib.closing(tidier):
                # Reads the header, for which SQLite opens the log.
                tidier.pragma("schema_version")
