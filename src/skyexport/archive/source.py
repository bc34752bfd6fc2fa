"""Opening an archive: check its files first, then connect so that only posts and media can be read.

Some archives, if opened in the wrong way, would get files beside them, or show a state that never existed
(docs/architecture.md has the table).
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import apsw

from skyexport.archive.authorizer import restrict
from skyexport.errors import ArchiveBusyError, ArchiveChangedError, ArchiveError, OutputError, UnrecoveredError
from skyexport.repository.tables import IMPORTED_ID
from skyexport.runtime.for_tests import Limit
from skyexport.runtime.location import files_beside, has_content
from skyexport.runtime.sqlite_files import HEADER_BYTES, MAGIC, application_id_in, header_of
from skyexport.wording import printable_path

__all__ = [
    "BUSY_MILLISECONDS",
    "CACHE_KIB",
    "PIN_BUSY_MILLISECONDS",
    "REBUILD",
    "RESTORE",
    "JournalMode",
    "Source",
    "as_number",
    "pin",
    "translate_sqlite_errors",
    "unpin",
    "wait_for_writers",
]

BUSY_MILLISECONDS = Limit("BUSY_MILLISECONDS", 2000)
"""How long to wait for a program that is writing: its transactions take milliseconds."""

PIN_BUSY_MILLISECONDS = Limit("PIN_BUSY_MILLISECONDS", 100)
"""The same while processes pin one state. It is short, because the writer may itself wait for those that have one."""

_LOOK_MILLISECONDS = (0.5, 1.5)
"""Time between checks whether the program still writes. SQLite itself soon checks only ten times a second, and a
program that keeps writing in rollback mode leaves less than a millisecond between its transactions."""

CACHE_KIB = 2000
"""Page cache of a connection. Batches lie close together in the file; more was not faster (docs/architecture.md)."""


_USUAL_VALUE_BYTES = 4_000_000
"""No value is larger, except in a large post: those are read one at a time, with a bound of their own (`render`)."""

_WAL_VERSION = 2
_READ_VERSION_AT = 19
"""Offset of the read version. SQLite uses it, even if the write version before it differs."""
RESTORE = "restore it from a backup, or try sqlite3's .recover"
"""Hint for a damaged archive."""

_RECOVER = "start and stop bskyarchive once, then export again"

REBUILD = """leave out --match, or run sqlite3's `insert into posts_fts(posts_fts) values ('rebuild')` on a copy"""
"""Hint that may repair a full-text index."""

_WRITE_ERRORS = frozenset(
    {apsw.SQLITE_IOERR_WRITE, apsw.SQLITE_IOERR_TRUNCATE, apsw.SQLITE_IOERR_FSYNC, apsw.SQLITE_IOERR_CLOSE}
)
"""Errors of temporary files and private copies: nothing is ever written to an archive."""

_UTF_16 = (2, 3)
"""The header's codes for UTF-16, little-endian and big-endian."""


JournalMode = Literal["wal", "rollback"]
"""`wal`, or `rollback` for all others."""


@dataclass(frozen=True, slots=True)
class Source:
    """How to open an archive: made once, sent to the workers."""

    path: str
    """Absolute path of the file to open, without links."""
    immutable: bool
    """Whether to open it without locks and without its write-ahead log: only if no file can be made beside it, or if
    neither would help. The file must not change until the end."""
    wal: bool
    """Whether it is in WAL journal mode."""
    device: int
    inode: int
    """Identify the file, whatever the path names later."""
    location: str
    """Absolute path of the archive, without links; not the same as *path* if that is a private copy."""
    display_path: str
    """The archive's path as it was typed, for messages."""
    missed_log: bool = False
    """Whether newer posts may lie in a log beside another name of the file, where SQLite cannot find it."""
    imported: bool = False
    """Whether it was made of a repository, which does not have the likes, reposts, replies and quotes of others."""
    from_car: bool = False
    """Whether *location* is a CAR file, and *path* an archive that was made of it."""

    @property
    def private(self) -> bool:
        """Whether it is a copy that no other program opens."""
        return self.path != self.location

    @property
    def journal_mode(self) -> JournalMode:
        """The journal mode, by the name that people use."""
        return "wal" if self.wal else "rollback"

    @classmethod
    def of(cls, location: Path, display_path: str | None = None) -> Source:
        """Look at the files of an archive, without opening them as a database.

        Args:
            location: The archive's path, as `archive_location` returns it.
            display_path: The archive's path for messages; None for *location*.

        Raises:
            ArchiveError: The file is missing, unreadable, or not a SQLite file.
            UnrecoveredError: A program was stopped while it wrote; SQLite must recover the archive first.
        """
        shown = printable_path(location) if display_path is None else display_path
        try:
            status = location.stat()
            header = header_of(location)
        except (OSError, apsw.Error) as error:
            reason = error.strerror if isinstance(error, OSError) else "permission denied, most likely"
            raise ArchiveError(f"cannot read {shown}: {reason}") from None
        if not status.st_size:
            raise ArchiveError(f"{shown} is empty", "name an archive that bskyarchive has written to")
        if not header.startswith(MAGIC) or len(header) < HEADER_BYTES:
            raise ArchiveError(f"{shown} is not a SQLite database", "name the archive's .db file")
        if int.from_bytes(header[56:60]) in _UTF_16:
            raise ArchiveError(f"{shown} is not a bskyarchive archive: its text is in UTF-16")
        wal = header[_READ_VERSION_AT] == _WAL_VERSION
        immutable = missed_log = False
        if wal:
            beside = files_beside(location)
            missed_log = _may_miss_log(location)
            if missed_log:
                # A program that has it open by another name would keep SQLite from removing the files it makes here.
                immutable = True
            elif not has_content(beside.log) and not beside.log_index.exists():
                immutable = not (os.access(location, os.W_OK) and os.access(location.parent, os.W_OK))
            elif not beside.log_index.exists():
                raise UnrecoveredError(f"{shown} was not closed: changes in {beside.log.name} were not saved", _RECOVER)
        path = str(location)
        imported = application_id_in(header) == IMPORTED_ID
        return cls(path, immutable, wal, status.st_dev, status.st_ino, path, shown, missed_log, imported)

    @classmethod
    def of_copy(cls, path: Path, original: Source) -> Source:
        """The source for a private copy of an archive, which no other program opens."""
        status = path.stat()
        return replace(original, path=str(path), immutable=True, device=status.st_dev, inode=status.st_ino)

    def uri(self) -> str:
        """The URI that SQLite opens."""
        return Path(self.path).as_uri() + ("?mode=ro&immutable=1" if self.immutable else "?mode=ro")

    def connect(self, busy_milliseconds: Limit[int] = BUSY_MILLISECONDS) -> apsw.Connection:
        """Open a connection that can read posts and media, and nothing else.

        SQLite may make files beside the archive for it; `Connections` removes them.

        Args:
            busy_milliseconds: How long its statements wait for a program that is writing.

        Raises:
            ArchiveError: SQLite cannot open the file.
        """
        connection: apsw.Connection | None = None
        try:
            with translate_sqlite_errors(self.display_path):
                connection = apsw.Connection(self.uri(), flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
                wait_for_writers(connection, busy_milliseconds)
                connection.pragma("query_only", True)
                connection.pragma("cache_size", -CACHE_KIB)
                connection.limit(apsw.SQLITE_LIMIT_LENGTH, _USUAL_VALUE_BYTES)
                restrict(connection)
                connection.pragma("data_version")
            return connection
        except BaseException:
            # The traceback keeps this frame alive, and with it a connection that nobody else could close.
            if connection is not None:
                connection.close()
            raise

    def check_whole(self, connection: apsw.Connection) -> None:
        """Make sure that the last page is whole: SQLite would read its missing part as zeros.

        Raises:
            ArchiveError: It is not.
        """
        if Path(self.path).stat().st_size % as_number(connection.pragma("page_size")):
            raise ArchiveError(f"{self.display_path} is damaged: it is cut off within its last page", RESTORE)

    def check_same_file(self) -> None:
        """Make sure that the path still names the same file.

        Raises:
            ArchiveChangedError: The file was replaced or removed.
        """
        try:
            now = Path(self.path).stat()
        except OSError:
            raise ArchiveChangedError(f"{self.display_path} disappeared while it was read", "export again") from None
        if (now.st_dev, now.st_ino) != (self.device, self.inode):
            raise ArchiveChangedError(f"{self.display_path} was replaced while it was read", "export again")


def wait_for_writers(connection: apsw.Connection, busy_milliseconds: Limit[int]) -> None:
    """Let every statement of *connection* wait so many milliseconds for a program that is writing."""
    milliseconds = busy_milliseconds.value
    deadline = 0.0

    def go_on(looks: int) -> bool:
        nonlocal deadline
        now = time.monotonic()
        if looks == 0:
            deadline = now + milliseconds / 1000
        # A random pause does not always meet the same moment of the other program's work.
        time.sleep(random.uniform(*_LOOK_MILLISECONDS) / 1000)
        return now < deadline

    connection.set_busy_handler(go_on)


def pin(connection: apsw.Connection) -> bool:
    """Hold one state of the archive: all that *connection* reads afterwards belongs to it.

    Returns:
        False if another program keeps writing.
    """
    unpin(connection)
    wait_for_writers(connection, PIN_BUSY_MILLISECONDS)
    connection.execute("begin")
    try:
        # A transaction holds nothing until the first read.
        connection.execute("select 1 from posts limit 1").fetchall()
    except apsw.BusyError:
        unpin(connection)
        return False
    finally:
        wait_for_writers(connection, BUSY_MILLISECONDS)
    return True


def unpin(connection: apsw.Connection) -> None:
    """Release the state that `pin` holds, if any."""
    if connection.in_transaction:
        connection.execute("rollback")


@contextlib.contextmanager
def translate_sqlite_errors(path: str) -> Iterator[None]:
    """Translate SQLite errors about the archive at *path* into ours."""
    try:
        yield
    except apsw.BusyError:
        raise ArchiveBusyError(f"{path} is locked by another program", "try again when bskyarchive is idle") from None
    except (apsw.ReadOnlyError, apsw.CantOpenError):
        raise UnrecoveredError(
            f"cannot open {path} for reading: a program may have been stopped while writing to it",
            _RECOVER,
        ) from None
    except (apsw.ConnectionClosedError, apsw.CursorClosedError):
        raise ArchiveError(f"{path} was closed before all posts were read", "read them while it is open") from None
    except apsw.NoMemError:
        raise MemoryError("SQLite got no memory from the system") from None
    except apsw.AuthError as error:
        raise ArchiveError(f"{path} is not a bskyarchive archive: {error}") from None
    except apsw.TooBigError:
        raise ArchiveError(
            f"{path} is damaged, or has a time, author or uri of more than {_USUAL_VALUE_BYTES:,} bytes",
            "restore it from a backup",
        ) from None
    except apsw.FullError:
        raise OutputError(
            "the folder for temporary files is full: copying posts, or sorting without an index, needs room there",
            "free some space, or set TMPDIR to a larger place",
        ) from None
    except apsw.IOError as error:
        if getattr(error, "extendedresult", 0) in _WRITE_ERRORS:
            raise OutputError(
                "cannot write to the folder for temporary files: copying and sorting posts need room there",
                "set TMPDIR to another place",
            ) from None
        raise _damaged(path, error) from None
    except apsw.CorruptError as error:
        if getattr(error, "extendedresult", 0) == apsw.SQLITE_CORRUPT_VTAB:
            raise ArchiveError(f"the full-text index of {path} is damaged", REBUILD) from None
        raise _damaged(path, error) from None
    except apsw.Error as error:
        raise _damaged(path, error) from None


def _damaged(path: str, error: apsw.Error) -> ArchiveError:
    return ArchiveError(f"{path} is damaged or not a database: {error}", RESTORE)


def _may_miss_log(location: Path) -> bool:
    """Whether an archive in WAL mode may have newer posts in a log that SQLite cannot find.

    SQLite finds a log by the name of the file. If a file has several names (hard links) and no log beside this one, a
    program that opened it by another name may have its log there.

    Args:
        location: The archive's path, as `archive_location` returns it.
    """
    try:
        return not has_content(files_beside(location).log) and location.stat().st_nlink > 1
    except OSError:
        # Opening it reports the reason.
        return False


def as_number(value: object) -> int:
    """A count, row id or other integer from SQLite, with its type checked.

    Raises:
        TypeError: It is not an integer.
    """
    if not isinstance(value, int):
        raise TypeError(f"SQLite returned {value!r} instead of an integer")
    return value
