"""The location of an archive, whichever name the user gave, and the files that SQLite keeps beside it.

SQLite finds a write-ahead log by the name of the database file, with links resolved. So an archive's path is resolved
once, here, before anything else uses it. Then every symbolic link to an archive leads to the same posts.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import NamedTuple

from skyexport.errors import ArchiveError
from skyexport.wording import printable_path

__all__ = [
    "FilesBeside",
    "absolute",
    "archive_location",
    "files_beside",
    "has_content",
    "real_path",
    "why_missing",
]

_CHECK = "check the path"


class FilesBeside(NamedTuple):
    """The files that SQLite may keep beside an archive."""

    log: Path
    """The write-ahead log."""
    log_index: Path
    """The index of that log, in shared memory."""
    journal: Path
    """The rollback journal."""


def files_beside(location: Path) -> FilesBeside:
    """The names of the files that SQLite may keep beside an archive, whether they exist or not.

    Args:
        location: The archive's path, as `archive_location` or `real_path` returns it; nothing lies beside a link.
    """
    return FilesBeside(*(location.with_name(location.name + suffix) for suffix in ("-wal", "-shm", "-journal")))


def has_content(path: Path) -> bool:
    """Whether there is a file at *path* with at least one byte."""
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


def absolute(path: Path) -> Path:
    """*path* as an absolute path; links are not resolved.

    Raises:
        FileNotFoundError: *path* is relative, and the current directory was deleted; `strerror` says so.
    """
    try:
        return path.absolute()
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, "the current directory was deleted", str(path)) from None


def real_path(path: Path) -> Path:
    """The file or directory that *path* leads to, as an absolute path without links; it need not exist.

    A circle of links stays in the path, and opening it fails.

    Raises:
        FileNotFoundError: As for `absolute`.
        ValueError: *path* has characters that no path can have.
    """
    return Path(os.path.realpath(absolute(path)))


def why_missing(path: Path) -> str:
    """The reason why *path* is missing, for the end of a message: the current directory was deleted. Else empty."""
    try:
        absolute(path)
    except FileNotFoundError as error:
        return f": {error.strerror}"
    return ""


def archive_location(path: Path) -> Path:
    """The absolute path of the archive at *path*, without links, which SQLite can open.

    Raises:
        ArchiveError: There is no file, or SQLite cannot open its path.
    """
    shown = printable_path(path)
    try:
        status = path.stat()
        location = real_path(path)
        there = stat.S_ISREG(status.st_mode) and os.path.samestat(status, location.stat())
    except FileNotFoundError:
        raise _missing(path, shown) from None
    except OSError as error:
        reason = "its links lead in a circle" if error.errno == errno.ELOOP else error.strerror
        raise ArchiveError(f"cannot read {shown}: {reason}", _CHECK) from None
    except ValueError:
        raise ArchiveError(f"cannot read {shown!r}: a path cannot have a NUL byte", _CHECK) from None
    if not there:
        raise ArchiveError(f"{shown} is not a file", "name the archive's .db file")
    try:
        str(location).encode()
    except UnicodeEncodeError:
        raise ArchiveError(f"SQLite cannot open {shown}: its path is not valid UTF-8", "rename it") from None
    return location


def _missing(path: Path, shown: str) -> ArchiveError:
    """The error for a missing file at *path*, with the reason."""
    if why := why_missing(path):
        return ArchiveError(f"no archive at {shown}{why}", "change to another directory")
    if path.is_symlink():
        why = f"it is a link to {printable_path(real_path(path))}, which is missing"
        return ArchiveError(f"no archive at {shown}: {why}", _CHECK)
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return ArchiveError(f"no archive at {shown}", f"it is not valid UTF-8: {_CHECK}, or save the list as UTF-8")
    return ArchiveError(f"no archive at {shown}", _CHECK)
