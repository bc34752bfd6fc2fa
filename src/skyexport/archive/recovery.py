"""Recovering an archive without touching it, after a program was stopped while writing to it.

Such an archive has a journal to roll back, or a log to take in, before any program can read it. SQLite would write to
the archive for that. So the files are copied, and SQLite recovers the copy. The copy holds everything that the archive
holds, access tokens included: remove it as soon as possible.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import apsw

from skyexport.archive.authorizer import restrict
from skyexport.archive.source import translate_sqlite_errors
from skyexport.errors import ArchiveBusyError, ArchiveChangedError, ArchiveError, OutputError
from skyexport.runtime.for_tests import reached
from skyexport.runtime.location import files_beside

__all__ = ["recovered"]

_BLOCK_BYTES = 1 << 20
_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")
"""The first bytes of a rollback journal, and the last bytes of one that names another journal."""


def recovered(path: Path, display_path: str, folder: Path) -> Path:
    """Copy the files of an archive into *folder*, and have SQLite recover it there.

    Args:
        path: The archive's path, as `archive_location` returns it.
        display_path: The archive's path, for messages.
        folder: A private directory.

    Returns:
        The recovered database, which no program has open.

    Raises:
        ArchiveError: It cannot be recovered.
        ArchiveBusyError, ArchiveChangedError: A program is writing to it.
        OutputError: There is no room for a copy.
    """
    copy = folder / "whole.db"
    beside = files_beside(path)
    log, journal = beside.log, beside.journal
    with translate_sqlite_errors(display_path), _held(path, display_path) as file:
        before = [_state(original) for original in (path, log, journal)]
        with _no_room(folder):
            reached("copying")
            _write(copy, _blocks(file, path.stat().st_size))
            for original in (log, journal):
                if _state(original) is not None:
                    _write(folder / original.name.replace(path.name, copy.name, 1), _blocks_of(original))
        if [_state(original) for original in (path, log, journal)] != before:
            raise ArchiveChangedError(f"{display_path} was written to while it was copied", "export again")
    _refuse_other_journals(folder / "whole.db-journal", display_path)
    with translate_sqlite_errors(display_path), contextlib.closing(apsw.Connection(str(copy))) as connection:
        restrict(connection)
        # Any read makes SQLite recover it.
        connection.pragma("data_version")
    return copy


@contextlib.contextmanager
def _held(path: Path, display_path: str) -> Iterator[apsw.VFSFile]:
    """The archive's file with a reader's lock: no program can roll back a journal during that time.

    SQLite opens it. If we closed it ourselves, that would drop the locks of other connections of this process.
    """
    file = apsw.VFSFile("", str(path), [apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_READONLY, 0])
    try:
        file.xLock(apsw.SQLITE_LOCK_SHARED)
        if file.xCheckReservedLock():
            raise ArchiveBusyError(f"{display_path} is being written to", "try again when bskyarchive is idle")
        yield file
        file.xUnlock(apsw.SQLITE_LOCK_NONE)
    finally:
        file.xClose()


def _state(path: Path) -> tuple[int, int, int] | None:
    """Facts that change when a file is written to or replaced; None if there is no file."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode):
        raise ArchiveError(f"{path} is not a file", "move it away from the archive")
    return (status.st_ino, status.st_size, status.st_mtime_ns)


def _blocks(file: apsw.VFSFile, size: int) -> Iterator[bytes]:
    for offset in range(0, size, _BLOCK_BYTES):
        yield file.xRead(min(_BLOCK_BYTES, size - offset), offset)


def _blocks_of(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            yield block


def _write(path: Path, blocks: Iterator[bytes]) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        file.writelines(blocks)


@contextlib.contextmanager
def _no_room(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"cannot copy the archive into {folder.parent} to recover it: {error.strerror}",
            "set TMPDIR to a place with room for it, or start and stop bskyarchive once",
        ) from error


def _refuse_other_journals(journal: Path, display_path: str) -> None:
    """Make sure that a journal does not name another file: SQLite would read that file, and might delete it.

    Only transactions over several databases have such journals, and bskyarchive has one database.

    Raises:
        ArchiveError: It names another file.
    """
    with contextlib.suppress(FileNotFoundError), journal.open("rb") as file:
        file.seek(max(0, journal.stat().st_size - len(_JOURNAL_MAGIC)))
        if file.read() == _JOURNAL_MAGIC:
            raise ArchiveError(f"the journal of {display_path} names another file, as bskyarchive's never do")
