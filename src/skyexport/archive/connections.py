"""All connections of this process to one archive, and the files that SQLite makes beside the archive for them.

To read an archive in WAL mode, SQLite creates a missing log and its index, and a read-only connection leaves them
there. So one object opens all connections. At the end it closes them, forgotten ones included, and then removes those
files.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import apsw

from skyexport.archive.source import Source
from skyexport.runtime.cleanup import uninterrupted
from skyexport.runtime.location import files_beside, has_content

__all__ = ["Connections"]


class Connections:
    """The connections to an archive. Whatever happened before, `close` leaves nothing new beside the archive.

    Args:
        source: How to open the archive.
    """

    _closed = True

    def __init__(self, source: Source) -> None:
        self._source = source
        self._opened: list[apsw.Connection] = []
        self._closed = False

    def __del__(self) -> None:
        # A signal may arrive before the owner has stored this object.
        self.close()

    def open(self) -> apsw.Connection:
        """Open a connection, which stays open until `close`.

        Raises:
            ArchiveError: SQLite cannot open the archive.
        """
        # One statement: no signal can arrive between the two calls and lose the connection.
        self._opened.append(self._source.connect())
        return self._opened[-1]

    @contextlib.contextmanager
    def opened(self) -> Iterator[apsw.Connection]:
        """Open a connection for a `with` block.

        Raises:
            ArchiveError: SQLite cannot open the archive.
        """
        connection = self.open()
        try:
            yield connection
        finally:
            connection.close()
            # `close` may have removed it already.
            with contextlib.suppress(ValueError):
                self._opened.remove(connection)

    def close(self) -> None:
        """Close all connections, and remove the files that SQLite made for them. May be called twice."""
        if not self._closed:
            uninterrupted(self._close)

    def _close(self) -> None:
        for connection in self._opened:
            # Force it: the error of an unfinished statement must not keep the connection open.
            connection.close(True)
        self._opened.clear()
        self._tidy()
        self._closed = True

    def _tidy(self) -> None:
        """Remove an empty log and its index.

        Only SQLite can do that without a race against a program that opens the archive now. It does so when the last
        connection closes, if that connection may write. It need not read the schema, which may be damaged.
        """
        log = files_beside(Path(self._source.path)).log
        if not self._source.wal or self._source.immutable or not log.exists() or has_content(log):
            return
        with contextlib.suppress(apsw.Error, MemoryError):
            tidier = apsw.Connection(self._source.path, flags=apsw.SQLITE_OPEN_READWRITE)
            with contextlib.closing(tidier):
                # SQLite opens the log to read the header.
                tidier.pragma("schema_version")
