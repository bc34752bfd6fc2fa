"""SQLite files: looked at without SQLite, and connections that trust nothing in them."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import apsw

from skyexport.runtime.location import files_beside, has_content

__all__ = [
    "HEADER_BYTES",
    "MAGIC",
    "application_id",
    "application_id_in",
    "distrust",
    "file_state",
    "header_of",
    "is_sqlite",
]

MAGIC = b"SQLite format 3\x00"

HEADER_BYTES = 100

_APPLICATION_ID_AT = slice(68, 72)

_CHANGES_AT = slice(24, 28)
"""Where SQLite counts the transactions that were written to the file itself."""


def header_of(path: Path) -> bytes:
    """The beginning of the file, read through SQLite.

    If we closed the file ourselves, POSIX would drop the locks that a connection of this process may hold on it.
    """
    size = path.stat().st_size
    file = apsw.VFSFile("", str(path), [apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_READONLY, 0])
    try:
        return file.xRead(min(HEADER_BYTES, size), 0)
    finally:
        file.xClose()


def is_sqlite(path: Path) -> bool:
    """Whether *path* is a SQLite file, or may be one because it cannot be read."""
    try:
        return path.is_file() and header_of(path).startswith(MAGIC)
    except (OSError, ValueError):
        return False
    except apsw.Error:
        return True


def distrust(connection: apsw.Connection) -> None:
    """Let a connection run nothing that a schema contains."""
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_VIEW, 0)
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
    connection.pragma("cell_size_check", True)


def application_id(path: Path) -> int:
    """The id that the program which made a SQLite file may have left in it; 0 for none.

    Raises:
        OSError, apsw.Error: The file cannot be read.
    """
    return application_id_in(header_of(path))


def application_id_in(header: bytes) -> int:
    """The same, from the beginning of the file."""
    return int.from_bytes(header[_APPLICATION_ID_AT])


def file_state(location: Path) -> dict[str, object]:
    """The state of an archive's files, for a manifest: it changes with every write to the archive.

    The modification time alone is not enough. A program may write twice within the clock's resolution, and in WAL mode
    it writes only to the log until the next checkpoint.

    Args:
        location: The archive's path, as `archive_location` returns it.

    Raises:
        OSError, apsw.Error: The files cannot be read.
    """
    status = location.stat()
    state: dict[str, object] = {
        "bytes": status.st_size,
        "modified": _modified(status),
        "changes": int.from_bytes(header_of(location)[_CHANGES_AT]),
    }
    files = files_beside(location)
    for name, beside in (("log", files.log), ("journal", files.journal)):
        if has_content(beside):
            status = beside.stat()
            state[name] = {"bytes": status.st_size, "modified": _modified(status)}
    return state


def _modified(status: os.stat_result) -> str:
    try:
        return datetime.fromtimestamp(status.st_mtime, UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError):
        # Beyond the year 9999.
        return f"{status.st_mtime_ns} ns"
