"""The archive that an import makes: a database under a hidden name, new or begun as a copy of the one it will replace.

Nothing else writes to that database, and it is synced as a whole before it gets its name, so SQLite needs no journal.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Self

import apsw

from skyexport.errors import ArchiveBusyError, OutputError, RepositoryError
from skyexport.posts import COLUMNS
from skyexport.repository.blobs import CopiedBlob, Wanted, media_path
from skyexport.repository.embeds import Blob
from skyexport.repository.posts import Post, Profile
from skyexport.repository.tables import (
    CREATED_AT_INDEX,
    EXPORTS_TABLE,
    FULL_TEXT,
    FULL_TEXT_TABLE,
    IMPORTED_ID,
    INDEXES,
    SCHEMA_VERSION,
    TABLES,
    TRIGGERS,
)
from skyexport.runtime.background import Background
from skyexport.runtime.cleanup import Call
from skyexport.runtime.sqlite_files import application_id, is_sqlite

__all__ = ["Building", "Existing"]

_BUSY_MILLISECONDS = 2000
"""How long to wait for a program that is using the archive that is to be replaced."""

_ROWS_AT_ONCE = 500
"""Posts that are inserted by one statement, in a thread, while the next ones are read: SQLite lets Python go on
meanwhile. For single rows the two would wait for each other again and again."""

_COPIED_PAGES = 2000
"""Pages of the old archive that are copied between two looks for signals: 8 MB."""

_STEPS = 100_000
"""SQLite steps between two looks for signals: some milliseconds."""

_UNCHANGED = ("uri", "did", "like_count", "repost_count", "reply_count", "quote_count", "archived_at")
"""Columns of a post that stay when a newer repository has another record under its key."""

_REPLACE = (
    f"update set {', '.join(f'{name} = excluded.{name}' for name in COLUMNS if name not in _UNCHANGED)}"
    " where posts.cid <> excluded.cid"
)
_TEMPORARY = """
create temp table seen (uri text primary key) without rowid;
create temp table shown (hash text, post_uri text, mime_type text, file_path text, size_bytes integer, width integer,
                         height integer, alt_text text, created_at text);
"""
_GONE = "select uri from posts where did = ?1 and uri not in (select uri from seen)"


class Existing:
    """An archive that an import made earlier, locked against every program that would write to it.

    Raises:
        OutputError: There is a file that no import made.
        ArchiveBusyError: A program is using it.
        RepositoryError: Its tables are not those that an import makes.
    """

    def __init__(self, path: Path) -> None:
        self.connection: apsw.Connection | None = None
        if not path.exists():
            return
        if not is_sqlite(path):
            raise OutputError(f"{path} exists, and is not an archive", "choose another name")
        if application_id(path) != IMPORTED_ID:
            raise OutputError(f"{path} was not made by skyexport import, which never changes other archives",
                              "choose another name")  # fmt: skip
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            connection.set_busy_timeout(_BUSY_MILLISECONDS)
            _distrust(connection)
            with _errors_of(path):
                connection.execute("begin immediate")
                if _schema(connection) != _expected_schema():
                    raise RepositoryError(f"the tables of {path} are not those that skyexport import makes",
                                          "import into a new archive")  # fmt: skip
        except BaseException:
            connection.close()
            raise
        self.connection = connection

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def copy_to(self, connection: apsw.Connection, check: Callable[[], None]) -> None:
        """Copy all of it into a new database; nothing if there is none.

        Args:
            connection: Open on the new database.
            check: Called for every 8 MB; an exception that it raises ends the copying.
        """
        if self.connection is None:
            return
        # SQLite copies from no connection that has begun to write, and this one has, so that nobody else can.
        flags = apsw.SQLITE_OPEN_READONLY
        with (
            contextlib.closing(apsw.Connection(self.connection.filename, flags=flags)) as reading,
            connection.backup("main", reading, "main") as copying,
        ):
            while not copying.done:
                copying.step(_COPIED_PAGES)
                check()

    def close(self) -> None:
        """Unlock it. Calling this again does no harm."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None


class Building:
    """The growing archive. Use it in a `with` statement.

    Args:
        path: A new, empty file.
        existing: The archive to begin with.
        check: Called again and again, a few milliseconds apart; an exception that it raises ends the import.

    Raises:
        OutputError: There is no room.
    """

    def __init__(self, path: Path, existing: Existing, check: Callable[[], None]) -> None:

        def look() -> bool:
            check()
            return False

        self._path = path
        self._connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        self.is_new = existing.connection is None
        self._posts: list[Post] = []
        self._on_conflict = _REPLACE
        self._thread = Background(1)
        self._inserting: Call[None] | None = None
        self.written = 0
        """Posts that were inserted or changed."""
        try:
            with _errors_of(path):
                for name, value in (("journal_mode", "off"), ("synchronous", "off"), ("cache_size", -16_000)):
                    self._connection.pragma(name, value)
                existing.copy_to(self._connection, check)
                _distrust(self._connection)
                self._connection.set_progress_handler(look, _STEPS)
                self._connection.execute("begin")
                if self.is_new:
                    self._connection.pragma("application_id", IMPORTED_ID)
                    self._connection.execute(TABLES + EXPORTS_TABLE + FULL_TEXT_TABLE)
                else:
                    for name in ("posts_ai", "posts_ad", "posts_au"):
                        self._connection.execute(f"drop trigger {name}")
                self._connection.execute(_TEMPORARY)
        except BaseException:
            self._connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.end()
        self._connection.close()

    def latest(self, did: str) -> tuple[str, str] | None:
        """Handle and time of the latest profile of an account; None if the archive has none."""
        row = self._connection.execute(
            "select handle, snapshot_at from profiles where did = ? order by snapshot_at desc limit 1", (did,)
        ).fetchone()
        return None if row is None else (str(row[0]), str(row[1]))

    def begin(self, *, replaces: bool) -> None:
        """Begin with the posts of an account.

        Args:
            replaces: Whether a post replaces the one that the archive has under its URI, if it is another.
        """
        self._on_conflict = _REPLACE if replaces else "nothing"

    def add(self, post: Post) -> None:
        """Add a post; its URI must be greater than that of the one before."""
        self._posts.append(post)
        if len(self._posts) == _ROWS_AT_ONCE:
            self._wait()
            posts, self._posts = self._posts, []
            self._inserting = self._thread.begin(partial(self._insert, posts))

    def _wait(self) -> None:
        """Wait until the thread does not use the connection."""
        if self._inserting is not None:
            self._inserting.wait()
            self._inserting = None

    def _insert(self, posts: list[Post]) -> None:
        with _errors_of(self._path):
            before = self._connection.total_changes()
            self._insert_rows(f"posts ({', '.join(COLUMNS)})", [post.row for post in posts], self._on_conflict)
            self.written += self._connection.total_changes() - before
            if self.is_new:
                # Row ids count from 1: the newest posts are those that the index of words does not have.
                self._connection.execute(
                    "insert into posts_fts (rowid, uri, text) select rowid, uri, text from posts where rowid > ?",
                    (self.written - len(posts),),
                )
            else:
                self._insert_rows("seen (uri)", [(post.row[0],) for post in posts])
            self._insert_rows("shown", [_media_row(blob, post) for post in posts for blob in post.blobs])

    def _insert_rows(self, table: str, rows: Sequence[tuple[object, ...]], on_conflict: str = "") -> None:
        """Insert rows by few statements."""
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            some = rows[start : start + _ROWS_AT_ONCE]
            places = ", ".join([f"({', '.join('?' * len(some[0]))})"] * len(some))
            then = f" on conflict (uri) do {on_conflict}" if on_conflict else ""
            self._connection.execute(f"insert into {table} values {places}{then}", [*chain.from_iterable(some)])

    def count_posts(self, did: str) -> int:
        """The posts of an account."""
        self._wait()
        posts, self._posts = self._posts, []
        if posts:
            self._insert(posts)
        return self._number("select count(*) from posts where did = ?", did)

    def gone(self, did: str) -> Iterator[str]:
        """The posts of an account that were not added, by URI."""
        if not self.is_new:
            for (uri,) in self._connection.execute(f"{_GONE} order by uri", (did,)):
                yield str(uri)

    def remove_gone(self, did: str) -> None:
        """Remove the posts of an account that were not added, and what the archive knows about their media."""
        with _errors_of(self._path):
            self._connection.execute(f"delete from media where post_uri in ({_GONE})", (did,))
            self._connection.execute(f"delete from posts where uri in ({_GONE})", (did,))

    def finish(self, did: str, handle: str, profile: Profile, follows: int, archived_at: str) -> None:
        """Add the profile and the media, and make the indexes."""
        posts = self.count_posts(did)
        with _errors_of(self._path):
            connection = self._connection
            connection.execute(
                "insert into media select * from shown where post_uri in (select uri from posts)"
                " order by rowid on conflict (hash) do nothing"
            )
            connection.execute(
                "insert or replace into profiles values (?, ?, ?, ?, ?, ?, 0, ?, ?, ?)",
                (did, handle, profile.display_name, profile.description, profile.avatar, profile.banner, follows, posts,
                 archived_at),
            )  # fmt: skip
            if self.is_new:
                connection.executemany(
                    "insert into schema_version values (?, ?)",
                    [(version, archived_at) for version in range(1, SCHEMA_VERSION + 1)],
                )
                connection.execute(INDEXES + CREATED_AT_INDEX)
            else:
                connection.execute("insert into posts_fts(posts_fts) values ('rebuild')")
            connection.execute(TRIGGERS)
            connection.execute("commit")

    def wanted(self) -> Iterator[Wanted]:
        """The media of the posts that were added: each once, and where its file belongs."""
        for sha256, file_path in self._connection.execute(
            "select hash, file_path from media where hash in (select hash from shown) order by hash"
        ):
            yield Wanted(str(sha256), str(file_path))

    def note_sizes(self, copied: Iterable[CopiedBlob]) -> None:
        """Note the sizes of the media files that are there: a record may say another size, or none."""
        with _errors_of(self._path):
            self._connection.execute("begin")
            for sha256, size in copied:
                self._connection.execute("update media set size_bytes = ? where hash = ?", (size, sha256))
            self._connection.execute("commit")

    def count_media(self) -> int:
        """The media that the added posts show."""
        return self._number("select count(distinct hash) from shown")

    def _number(self, statement: str, *parameters: str) -> int:
        number = self._connection.execute(statement, parameters).get
        assert isinstance(number, int)
        return number


def _media_row(blob: Blob, post: Post) -> tuple[str, str, str, str, int, int, int, str, str]:
    sha256 = blob.sha256
    return (
        sha256, post.row[0], blob.mime_type, media_path(sha256, blob.mime_type), blob.bytes, blob.width, blob.height,
        blob.alt_text, post.row[-1],
    )  # fmt: skip


def _distrust(connection: apsw.Connection) -> None:
    """Let a connection run nothing that a schema contains."""
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_VIEW, 0)
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
    connection.pragma("cell_size_check", True)


def _schema(connection: apsw.Connection) -> set[str]:
    """The statements that made tables, indexes and triggers, without differences of spelling."""
    statements = connection.execute(
        "select sql from sqlite_schema where sql is not null and name not like 'sqlite\\_stat%' escape '\\'"
    )
    return {re.sub(r"\s+", " ", str(sql)).lower() for (sql,) in statements}


def _expected_schema() -> set[str]:
    with contextlib.closing(apsw.Connection(":memory:")) as connection:
        connection.execute(TABLES + EXPORTS_TABLE + INDEXES + CREATED_AT_INDEX + FULL_TEXT)
        return _schema(connection)


@contextlib.contextmanager
def _errors_of(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours."""
    try:
        yield
    except apsw.BusyError:
        raise ArchiveBusyError(f"{path} is used by another program", "try again once that has ended") from None
    except apsw.NoMemError:
        raise MemoryError("SQLite got no memory from the system") from None
    except (apsw.FullError, apsw.IOError, apsw.CantOpenError, apsw.ReadOnlyError) as error:
        raise OutputError(f"cannot write {path.parent}: {error}", "make room, or choose another place") from None
    except (apsw.CorruptError, apsw.NotADBError) as error:
        raise RepositoryError(f"{path} is damaged: {error}", "import into a new archive") from None
