"""Copying the posts of one state of an archive into a small private database.

The copy has only what an export needs, so access tokens stay where they are. The archive is released as soon as its
pages are read. Row ids, stored values and the comparison of columns are the same as in the archive.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import apsw

from skyexport.archive.authorizer import folded, restrict
from skyexport.archive.authors import HANDLES, copy_handles
from skyexport.archive.full_text import MATCHED, translate_index_errors
from skyexport.archive.shown_media import ONLY_SHOWN_COLUMN, ONLY_SHOWN_SQL, register
from skyexport.archive.source import BUSY_MILLISECONDS, Source, as_number, translate_sqlite_errors, wait_for_writers
from skyexport.errors import ArchiveError
from skyexport.posts import MAX_CHUNK_BYTES, LargePost, quote_identifier, stored_bytes_sql
from skyexport.runtime.for_tests import reached
from skyexport.runtime.memory import MemoryGuard
from skyexport.selection import PostFilter, Selection

__all__ = ["MEDIA_COLUMNS", "MEDIA_DETAILS", "REINDEX", "Copied", "copy_posts", "counted_posts"]

MEDIA_COLUMNS = ("hash", "post_uri", "file_path", "size_bytes")
"""Columns of the media table that an export of media needs."""

MEDIA_DETAILS = ("mime_type", "width", "height", "alt_text")
"""Further facts about each file: columns that the table may lack."""

_INDEX_CACHE_KIB = 32_000
"""Page cache while an index is made: its sort spills to a temporary file beyond it."""

_DISAGREE = "its indexes disagree about the number of posts"
REINDEX = "run `sqlite3 archive.db reindex` on a copy"
"""Hint that may repair indexes that do not agree with the table."""

_STEPS = 100_000
"""SQLite steps between checks of memory and signals: some milliseconds."""


@dataclass(frozen=True, slots=True)
class Copied:
    """Facts about a copy."""

    archive_posts: int
    """Posts of the archive, copied or not."""
    held_seconds: float
    """How long the archive was held."""


def copy_posts(
    source: Source,
    target: Path,
    columns: Mapping[str, str],
    schema_version: int,
    indexes: Mapping[str, str],
    *,
    indexed: Iterable[str],
    selection: Selection,
    media: Sequence[str] | None,
    handles: bool,
    matched: PostFilter | None,
    while_held: Callable[[apsw.Connection, str], None],
    check: Callable[[], None],
    memory: MemoryGuard | None,
) -> Copied:
    """Copy posts into a new database.

    Args:
        source: The archive.
        target: The new file, which only its owner can read.
        columns: Column → SQL for it, or a constant where the archive has no such column.
        schema_version: The archive's schema version.
        indexes: Column → index of the archive that begins with it; all must agree about the number of posts.
        indexed: Columns on which the copy gets an index, if the archive has one.
        selection: The posts to copy; the copy may get some more.
        media: Columns of the media rows to copy, none for just their number; None to leave the table out.
        handles: Whether to copy the handles of authors too.
        matched: Posts whose row ids to list in a table; None for no such table.
        while_held: Called with a connection to the state that is copied, and the archive's schema name there.
        check: Called now and then; an exception from it ends the copying.
        memory: The memory limit: a post that surely exceeds it is not read. None for no limit.

    Raises:
        ArchiveError, ArchiveBusyError: The archive cannot be read.
        OutputError: There is no room for the copy.
        MemoryLimitError: A post cannot be read within the limit.
    """
    present = [name for name, sql in columns.items() if sql == name]
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    with translate_sqlite_errors(source.display_path), contextlib.closing(_connection(target, check)) as connection:
        connection.execute(f"create table posts ({', '.join(present)})")
        connection.execute("create table schema_version (version)")
        connection.execute("insert into schema_version values (?)", (schema_version,))
        if media is not None:
            connection.execute(f"create table media ({', '.join([*media, ONLY_SHOWN_COLUMN] if media else ['id'])})")
            register(connection)
        if matched is not None:
            connection.execute(f"create table {MATCHED} (row_id integer primary key)")
        if handles:
            connection.execute(f"create table {HANDLES} (did text, handle text, snapshot_at)")
        connection.execute("attach ? as archive", (source.uri(),))
        restrict(connection, also_insert=("posts", "media", MATCHED, HANDLES))
        selection.register(connection)
        began = time.monotonic()
        connection.execute("begin")
        connection.execute("select 1 from archive.posts limit 1").fetchall()
        archive_posts = counted_posts(connection, "archive", indexes.values(), source.display_path)
        reached("copying")
        names = f"rowid, {', '.join(present)}"
        while_held(connection, "archive")
        for where, parameters in _parts(selection):
            with translate_index_errors(selection.filters, source.display_path):
                from_sql = f"from archive.posts where {where}"
                _insert(connection, names, from_sql, parameters, stored_bytes_sql(columns), memory)
            if selection.everything and connection.changes() != archive_posts:
                raise ArchiveError(f"{source.display_path} is damaged: {_DISAGREE}", REINDEX)
        if media is not None:
            # Asked in the archive: the copy may lack the post of a row.
            only_shown = ONLY_SHOWN_SQL.format(schema="archive.") if "uri" in indexes else "null"
            values = ", ".join([*media, only_shown] if media else ["null"])
            connection.execute(f"insert into main.media select {values} from archive.media")
        if handles:
            copy_handles(connection, "archive")
        if matched is not None:
            matched.prepare(connection)
            connection.execute(
                f"insert into main.{MATCHED} select rowid from archive.posts where {matched.sql('archive')}",
                matched.parameters(),
            )
        connection.execute("commit")
        held_seconds = time.monotonic() - began
        types = _declared(connection, present)
    with translate_sqlite_errors(source.display_path), contextlib.closing(_connection(target, check)) as connection:
        # Every value was copied unconverted. Only now may the columns get their affinity and collation.
        connection.pragma("writable_schema", True)
        connection.execute("update sqlite_schema set sql = ? where name = 'posts'", (f"CREATE TABLE posts ({types})",))
        connection.pragma("writable_schema", "reset")
        connection.pragma("cache_size", -_INDEX_CACHE_KIB)
        for column in indexed:
            if column in indexes:
                connection.execute(f"create index copied_{column} on posts({column} collate BINARY)")
    return Copied(archive_posts, held_seconds)


def _parts(selection: Selection) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield conditions with their parameters, for parts of the archive; each selected post is in exactly one part."""
    if selection.limit is not None:
        yield selection.where_sql("archive"), selection.parameters()
        return
    by_author = "did = :did" if selection.did is not None else "true"
    for span in selection.spans():
        where = f"{by_author} and {span.where} and {selection.filters_sql('archive')}"
        yield where, {**selection.parameters(), **span.parameters}


def _insert(
    connection: apsw.Connection, names: str, from_sql: str, parameters: Mapping[str, str], sizes: str,
    memory: MemoryGuard | None,
) -> None:  # fmt: skip
    """Copy the posts that `select … {from_sql}` finds. SQLite refuses values beyond the memory before it reads them."""
    before = connection.limit(apsw.SQLITE_LIMIT_LENGTH)
    if memory is not None:
        # SQLite holds the value twice: alone, and in the row that it makes of it.
        largest = max(memory.affordable_bytes() // 2, MAX_CHUNK_BYTES)
        connection.limit(apsw.SQLITE_LIMIT_LENGTH, min(largest, before))
    try:
        connection.execute(f"insert into main.posts ({names}) select {names} {from_sql}", parameters)
    except apsw.TooBigError:
        if memory is None:
            raise
        sql = f"select rowid, {LargePost.URI_SQL}, {sizes} as size {from_sql} order by size desc limit 1"
        ((row_id, uri, size),) = cast(Any, connection.execute(sql, parameters).fetchall())
        post = LargePost.of(row_id, uri, size)
        raise post.beyond_memory(memory.beyond(post.needed_bytes).message) from None
    finally:
        connection.limit(apsw.SQLITE_LIMIT_LENGTH, before)


def counted_posts(connection: apsw.Connection, schema: str, indexes: Iterable[str], path: str) -> int:
    """The number of posts.

    Raises:
        ArchiveError: The indexes disagree about it, so stepping along one would miss posts.
    """
    posts = as_number(connection.execute(f"select count(*) from {schema}.posts").get)
    for index in indexes:
        sql = f"select count(*) from {schema}.posts indexed by {quote_identifier(index)}"
        if as_number(connection.execute(sql).get) != posts:
            raise ArchiveError(f"{path} is damaged: {_DISAGREE}", REINDEX)
    return posts


def _connection(target: Path, check: Callable[[], None]) -> apsw.Connection:
    """A connection to the copy, which need not survive a crash."""

    def handler() -> bool:
        check()
        return False

    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_URI
    connection = apsw.Connection(target.as_uri(), flags=flags)
    connection.pragma("journal_mode", "off")
    connection.pragma("synchronous", 0)
    wait_for_writers(connection, BUSY_MILLISECONDS)
    connection.set_progress_handler(handler, _STEPS)
    return connection


def _declared(connection: apsw.Connection, columns: Iterable[str]) -> str:
    """Definitions of the columns, with the affinity and collation of the archive's columns."""
    declared = []
    # In a STRICT table, a column of the type ANY converts nothing; in any other table, ANY means numbers.
    strict = any(row[5] for row in connection.execute("pragma archive.table_list(posts)") if row[0] == "archive")
    for name in columns:
        datatype, collation, *_ = connection.column_metadata("archive", "posts", name)
        affinity = "blob" if strict and folded(datatype or "") == "any" else _affinity(datatype or "")
        declared.append(f"{name} {affinity} collate {quote_identifier(collation)}")
    return ", ".join(declared)


def _affinity(datatype: str) -> str:
    """The affinity that SQLite derives from a declared type.

    Source: https://sqlite.org/datatype3.html, 3.1.
    """
    datatype = datatype.upper()
    if "INT" in datatype:
        return "integer"
    if any(part in datatype for part in ("CHAR", "CLOB", "TEXT")):
        return "text"
    if "BLOB" in datatype or not datatype:
        return "blob"
    return "real" if any(part in datatype for part in ("REAL", "FLOA", "DOUB")) else "numeric"
