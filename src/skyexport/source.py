"""How to open an archive: look at its files first, then connect so that nothing but posts and media can be read.

The wrong way to open some archives would leave files beside them, or show a state that never was
(docs/architecture.md has the table).
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import apsw

from skyexport.errors import ArchiveBusyError, ArchiveChangedError, ArchiveError, OutputError, UnrecoveredError
from skyexport.formats.base import COLUMNS
from skyexport.location import files_beside, has_content, printable_path
from skyexport.native import load as load_native_renderer
from skyexport.shown_media import ONLY_SHOWN_COLUMN

__all__ = [
    "BUSY_MILLISECONDS",
    "CACHE_KIB",
    "PIN_BUSY_MILLISECONDS",
    "REBUILD",
    "Authorizer",
    "JournalMode",
    "Source",
    "as_number",
    "file_state",
    "folded",
    "is_sqlite",
    "pin",
    "reading",
    "restrict",
    "unpin",
    "wait_for_writers",
]

BUSY_MILLISECONDS = 2000
"""How long to wait for a program that is writing: its transactions take milliseconds."""

PIN_BUSY_MILLISECONDS = 100
"""While processes take hold of one state: who writes may be waiting for those that have it, so do not wait long."""

_LOOK_MILLISECONDS = (0.5, 1.5)
"""Between looks whether it still writes. SQLite itself soon looks ten times a second only, and a program that writes
all the time, in rollback mode, leaves less than a millisecond between its transactions."""

CACHE_KIB = 2000
"""Page cache of a connection. Batches lie close together in the file; more was not faster (docs/architecture.md)."""

_COUNTED = ""
"""SQLite's name for no column in particular: `count(*)` reads it."""
_MEDIA_COLUMNS = (
    "hash",
    "post_uri",
    "mime_type",
    "file_path",
    "size_bytes",
    "width",
    "height",
    "alt_text",
    "created_at",
)
_READABLE: Mapping[str, frozenset[str] | None] = {
    "posts": frozenset({*COLUMNS, "rowid", _COUNTED}),
    "media": frozenset({*_MEDIA_COLUMNS, ONLY_SHOWN_COLUMN, "rowid", _COUNTED}),
    "schema_version": frozenset({"version", _COUNTED}),
    "carray": None,
    "json_each": None,
}
"""Table → the columns that an export may read, None for all. carray is the list of row ids that a batch may be,
json_each what a function of ours gives."""
_ALLOWED_PRAGMAS = frozenset(
    {"cache_size", "data_version", "index_list", "index_xinfo", "page_count", "page_size", "table_list", "table_xinfo"}
)
_ALLOWED_ACTIONS = frozenset({apsw.SQLITE_SELECT, apsw.SQLITE_FUNCTION, apsw.SQLITE_TRANSACTION, apsw.SQLITE_RECURSIVE})

_USUAL_VALUE_BYTES = 4_000_000
"""No value is larger, but in a large post: those are read one at a time, with a bound of their own (`render`)."""

_MAGIC = b"SQLite format 3\x00"
_HEADER_BYTES = 100
_WAL_VERSION = 2
_READ_VERSION_AT = 19
"""What SQLite goes by, also where the number before it, for writing, is another."""
_CHANGES_AT = slice(24, 28)
"""SQLite's counter of transactions, which grows with each one that is written to the file itself."""
_RECOVER = "start and stop bskyarchive once, then export again"

REBUILD = """leave out --match, or run sqlite3's `insert into posts_fts(posts_fts) values ('rebuild')` on a copy"""
"""What may mend a full-text index."""

_WRITE_ERRORS = frozenset(
    {apsw.SQLITE_IOERR_WRITE, apsw.SQLITE_IOERR_TRUNCATE, apsw.SQLITE_IOERR_FSYNC, apsw.SQLITE_IOERR_CLOSE}
)
"""Errors that only temporary files and private copies can have: nothing is ever written to an archive."""

_UTF_16 = (2, 3)
"""How the header names the text encodings UTF-16, either end first."""


JournalMode = Literal["wal", "rollback"]
"""`wal`, or `rollback` for all others."""


@dataclass(frozen=True, slots=True)
class Source:
    """How to open an archive: made once, sent to the workers."""

    path: str
    """Absolute path of the file to open, without links."""
    immutable: bool
    """Open it without locks and without looking for a write-ahead log: only where no file can be made beside it, or
    where neither would help. At the end the file must not have changed."""
    wal: bool
    """Whether it is in WAL journal mode."""
    device: int
    inode: int
    """Which file it is, whatever the path names later."""
    location: str
    """Absolute path of the archive, without links; another one than *path* when that is a copy."""
    display_path: str
    """How messages show the archive: as it was typed."""
    missed_log: bool = False
    """Whether newer posts may lie in a log beside another name of the file, where SQLite cannot find it."""

    @property
    def private(self) -> bool:
        """Whether it is a copy that nobody else opens."""
        return self.path != self.location

    @property
    def journal_mode(self) -> JournalMode:
        """The name that people use for it."""
        return "wal" if self.wal else "rollback"

    @classmethod
    def of(cls, location: Path, display_path: str | None = None) -> Source:
        """Look at the files of an archive, without opening them as a database.

        Args:
            location: Its path, as `archive_location` gives it.
            display_path: How messages show it; as *location* when None.

        Raises:
            ArchiveError: There is no such file, it cannot be read, or it is not a SQLite file.
            UnrecoveredError: A program was stopped while it wrote; SQLite must recover the archive first.
        """
        shown = printable_path(location) if display_path is None else display_path
        try:
            status = location.stat()
            header = _header(location)
        except (OSError, apsw.Error) as error:
            reason = error.strerror if isinstance(error, OSError) else "permission denied, most likely"
            raise ArchiveError(f"cannot read {shown}: {reason}") from None
        if not status.st_size:
            raise ArchiveError(f"{shown} is empty", "an archive that was never written holds no posts")
        if not header.startswith(_MAGIC) or len(header) < _HEADER_BYTES:
            raise ArchiveError(f"{shown} is not a SQLite database", "name the archive's .db file")
        if int.from_bytes(header[56:60]) in _UTF_16:
            raise ArchiveError(f"{shown} is not a bskyarchive archive: its text is in UTF-16")
        wal = header[_READ_VERSION_AT] == _WAL_VERSION
        immutable = missed_log = False
        if wal:
            beside = files_beside(location)
            missed_log = _may_miss_log(location)
            if missed_log:
                # Whoever has the archive open by another name keeps SQLite from removing what it would make here.
                immutable = True
            elif not has_content(beside.log) and not beside.log_index.exists():
                immutable = not (os.access(location, os.W_OK) and os.access(location.parent, os.W_OK))
            elif not beside.log_index.exists():
                raise UnrecoveredError(f"{shown} was not closed: changes in {beside.log.name} were not saved", _RECOVER)
        path = str(location)
        return cls(path, immutable, wal, status.st_dev, status.st_ino, path, shown, missed_log)

    @classmethod
    def of_copy(cls, path: Path, original: Source) -> Source:
        """A private copy of an archive, which nobody else opens."""
        status = path.stat()
        return replace(original, path=str(path), immutable=True, device=status.st_dev, inode=status.st_ino)

    def uri(self) -> str:
        """How SQLite is asked to open it."""
        return Path(self.path).as_uri() + ("?mode=ro&immutable=1" if self.immutable else "?mode=ro")

    def connect(self, busy_milliseconds: int = BUSY_MILLISECONDS) -> apsw.Connection:
        """Open a connection that can read posts and media, and nothing else.

        SQLite may make files beside the archive for it; `Connections` removes them.

        Args:
            busy_milliseconds: How long its statements wait for a program that is writing.

        Raises:
            ArchiveError: SQLite cannot open the file.
        """
        connection: apsw.Connection | None = None
        try:
            with reading(self.display_path):
                connection = apsw.Connection(self.uri(), flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
                wait_for_writers(connection, busy_milliseconds)
                connection.pragma("query_only", True)
                connection.pragma("cache_size", -CACHE_KIB)
                connection.limit(apsw.SQLITE_LIMIT_LENGTH, _USUAL_VALUE_BYTES)
                load_native_renderer(connection)
                restrict(connection)
                connection.pragma("data_version")
            return connection
        except BaseException:
            # The traceback keeps this frame alive, and with it a connection that nobody could close.
            if connection is not None:
                connection.close()
            raise

    def check_same_file(self) -> None:
        """Make sure that the path still names the file that was looked at.

        Raises:
            ArchiveChangedError: It was replaced, or went away.
        """
        try:
            now = Path(self.path).stat()
        except OSError:
            raise ArchiveChangedError(f"{self.display_path} went away while it was read", "export again") from None
        if (now.st_dev, now.st_ino) != (self.device, self.inode):
            raise ArchiveChangedError(f"{self.display_path} was replaced while it was read", "export again")


def wait_for_writers(connection: apsw.Connection, milliseconds: int) -> None:
    """Have every statement of *connection* wait so long for a program that is writing."""
    deadline = 0.0

    def go_on(looks: int) -> bool:
        nonlocal deadline
        now = time.monotonic()
        if looks == 0:
            deadline = now + milliseconds / 1000
        # At random, so as not to meet the same moment of the other program's work again and again.
        time.sleep(random.uniform(*_LOOK_MILLISECONDS) / 1000)
        return now < deadline

    connection.set_busy_handler(go_on)


def pin(connection: apsw.Connection) -> bool:
    """Hold on to one state of the archive: all that *connection* reads afterwards belongs to it.

    Returns:
        False when another program is writing and does not let go.
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
    """Let go of the state that `pin` took hold of, if any."""
    if connection.in_transaction:
        connection.execute("rollback")


@contextlib.contextmanager
def reading(path: str) -> Iterator[None]:
    """Turn what SQLite says about the archive at *path* into our errors."""
    try:
        yield
    except apsw.BusyError:
        raise ArchiveBusyError(f"{path} is locked by another program", "try again when bskyarchive is idle") from None
    except (apsw.ReadOnlyError, apsw.CantOpenError):
        raise UnrecoveredError(
            f"{path} can not be opened for reading as it is: a program may have been stopped while writing to it",
            _RECOVER,
        ) from None
    except (apsw.ConnectionClosedError, apsw.CursorClosedError):
        raise ArchiveError(f"{path} was closed before all of it was read", "read it while it is open") from None
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
            "the folder for temporary files is full: copying posts, or sorting those of an archive without an index,"
            " needs room there",
            "free some, or set TMPDIR to a larger place",
        ) from None
    except apsw.IOError as error:
        if getattr(error, "extendedresult", 0) in _WRITE_ERRORS:
            raise OutputError(
                "can not write to the folder for temporary files, where copying posts and sorting need room",
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
    return ArchiveError(
        f"{path} is damaged or not a database: {error}", "restore it from a backup, or try sqlite3's .recover"
    )


def _header(path: Path) -> bytes:
    """The beginning of the file, read by SQLite.

    Closing the file ourselves would drop the locks that a connection of this process may hold on it: POSIX has it so.
    """
    size = path.stat().st_size
    file = apsw.VFSFile("", str(path), [apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_READONLY, 0])
    try:
        return file.xRead(min(_HEADER_BYTES, size), 0)
    finally:
        file.xClose()


def is_sqlite(path: Path) -> bool:
    """Whether there is a SQLite file, or what might be one: a file that cannot be read."""
    try:
        return path.is_file() and _header(path).startswith(_MAGIC)
    except (OSError, ValueError):
        return False
    except apsw.Error:
        return True


def restrict(connection: apsw.Connection, also_insert: Collection[str] = ()) -> None:
    """Have a connection read posts and media only, believe nothing that a database says, and run nothing that it has.

    Args:
        connection: With every database that it needs attached.
        also_insert: Tables of its main database that may be added to.
    """

    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_VIEW, 0)
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
    connection.pragma("cell_size_check", True)
    connection.pragma("mmap_size", 0)
    connection.pragma("schema_version")
    connection.authorizer = Authorizer(also_insert)


class Authorizer:
    """Allows reading the columns that an export needs, and nothing else: sessions hold access tokens.

    Args:
        also_insert: Tables of the main database that may be added to.
    """

    def __init__(self, also_insert: Collection[str] = ()) -> None:
        self._also_insert = frozenset(also_insert)
        self._readable = dict(_READABLE)
        self._attaching = False

    @classmethod
    def of(cls, connection: apsw.Connection) -> Authorizer:
        """That of a connection which `restrict` was called with."""
        authorizer = connection.authorizer
        assert isinstance(authorizer, Authorizer)
        return authorizer

    def allow_reading(self, tables: Collection[str]) -> None:
        """Allow reading these tables as well, for an export that was asked for what needs them."""
        self._readable |= dict.fromkeys(tables)

    @contextlib.contextmanager
    def reading_for_a_while(self, *tables: str) -> Iterator[None]:
        """Allow reading these tables inside of a `with` block only."""
        with self._also(dict.fromkeys(tables)):
            yield

    @classmethod
    @contextlib.contextmanager
    def reading_columns(cls, connection: apsw.Connection, columns: Mapping[str, frozenset[str]]) -> Iterator[None]:
        """Allow *connection* to read only these columns of other tables, inside of a `with` block only.

        Args:
            connection: One that `restrict` was called with.
            columns: Table → columns, all in small letters.
        """
        authorizer = cls.of(connection)
        try:
            with authorizer._also(columns):
                yield
        finally:
            # SQLite asks only when it prepares a statement, and apsw keeps prepared ones: they expire by this.
            connection.authorizer = authorizer

    @contextlib.contextmanager
    def _also(self, columns: Mapping[str, frozenset[str] | None]) -> Iterator[None]:
        added = {table: names for table, names in columns.items() if table not in self._readable}
        self._readable |= added
        try:
            yield
        finally:
            for table in added:
                self._readable.pop(table, None)

    def attach(self, connection: apsw.Connection, uri: str, name: str) -> None:
        """Attach a database of our own, whatever else is not allowed."""
        self._attaching = True
        try:
            connection.execute(f"attach ? as {name}", (uri,))
        finally:
            self._attaching = False

    def _may_read(self, table: str, column: str) -> bool:
        columns = self._readable.get(table, frozenset())
        return columns is None or column in columns

    def __call__(self, action: int, first: str | None, *others: str | None) -> int:
        # The name as the archive's schema writes it; those of pragmas come in small letters.
        name = None if first is None else folded(first)
        allowed = (
            action in _ALLOWED_ACTIONS
            or (action == apsw.SQLITE_READ and self._may_read(name or "", folded(others[0] or "")))
            or (action == apsw.SQLITE_PRAGMA and first in _ALLOWED_PRAGMAS)
            or (action == apsw.SQLITE_INSERT and others[1] == "main" and name in self._also_insert)
            or (action == apsw.SQLITE_ATTACH and self._attaching)
        )
        return apsw.SQLITE_OK if allowed else apsw.SQLITE_DENY


def file_state(location: Path) -> dict[str, object]:
    """What changes whenever something is written to the archive, as a manifest notes it.

    The time of change alone would not do: a program may write twice within the grain of the clock; and to an archive
    in WAL mode it writes the log only, until that is taken in.

    Args:
        location: Its path, as `archive_location` gives it.

    Raises:
        OSError, apsw.Error: It cannot be read.
    """
    status = location.stat()
    state: dict[str, object] = {
        "bytes": status.st_size,
        "modified": _modified(status),
        "changes": int.from_bytes(_header(location)[_CHANGES_AT]),
    }
    found = files_beside(location)
    for name, beside in (("log", found.log), ("journal", found.journal)):
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


def _may_miss_log(location: Path) -> bool:
    """Whether an archive in WAL mode may have newer posts in a log that SQLite cannot find.

    SQLite finds a log by the name of the file. Where a file has several names (hard links) and no log beside this one,
    a program that opened it by another name may have its log there.

    Args:
        location: The archive's path, as `archive_location` gives it.
    """
    try:
        return not has_content(files_beside(location).log) and location.stat().st_nlink > 1
    except OSError:
        # Opening it says why.
        return False


def folded(name: str) -> str:
    """The name of a table or column as SQLite compares it: `A` to `Z` as small letters, all others as they are."""
    return name.encode("utf-8", "surrogatepass").lower().decode("utf-8", "surrogatepass")


def as_number(value: object) -> int:
    """A value that SQLite gives for an integer, a count or a row id, as one.

    Raises:
        TypeError: It is something else.
    """
    if not isinstance(value, int):
        raise TypeError(f"SQLite gave {value!r} for a number")
    return value
