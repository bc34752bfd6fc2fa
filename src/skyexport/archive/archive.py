"""The archive that an export reads. Only `register` ever writes to it.

An archive is a SQLite file that bskyarchive writes. Anybody can make a file of that name, so opening one checks its
tables before anything is read from them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self, cast

import apsw

from skyexport import json_text
from skyexport.archive.authors import Author, ChosenAuthor, each_author, find_author
from skyexport.archive.connections import Connections
from skyexport.archive.copying import MEDIA_COLUMNS, MEDIA_DETAILS, Copied, copy_posts, counted_posts
from skyexport.archive.created_at import CreatedAtIndex
from skyexport.archive.full_text import FullTextMatch, MatchedBefore, asking, checked_match
from skyexport.archive.plan import Batch, CreatedAtOrder, Plan, key_ranges, row_id_batches
from skyexport.archive.recovery import recovered
from skyexport.archive.shown_media import (
    ONLY_SHOWN_COLUMN,
    ONLY_SHOWN_SQL,
    files_sql,
    parameters,
    posts_with_media_sql,
    register,
    unknown_sql,
)
from skyexport.archive.source import (
    BUSY_MILLISECONDS,
    CACHE_KIB,
    Source,
    as_number,
    file_state,
    folded,
    pin,
    reading,
    unpin,
)
from skyexport.errors import ArchiveChangedError, ArchiveError, UnrecoveredError
from skyexport.notices import MISSED_LOG, MISSED_LOG_TEXT, Notices
from skyexport.options.types import check_path
from skyexport.posts import COLUMNS, StoredValue, as_bytes, quote_identifier, stored_time, stored_value_sql
from skyexport.runtime.cleanup import uninterrupted
from skyexport.runtime.location import archive_location
from skyexport.runtime.media_root import MediaFile, ShownFile
from skyexport.runtime.memory import MemoryGuard
from skyexport.runtime.scratch import Scratch
from skyexport.selection import Narrowing, Selection, Span
from skyexport.wording import printable_path

__all__ = ["Archive"]

_SORT_CACHE_KIB = 32_000
"""Page cache while sorting: the sort spills to a temporary file beyond it."""

_FEW_SHARE = 0.2
"""Posts of an author with at most this share of all posts are found through the index on did, and sorted."""

_TIMES_LOOKED_AT = 100
"""Posts to look at for the first readable time, before giving up."""

_MAX_MEDIA_PATH_BYTES = 5000
"""More than any system allows."""

_DETAILS_SQL = {
    "mime_type": "substr(cast(mime_type as blob), 1, 255)",
    "width": "iif(typeof(width) = 'integer', width, null)",
    "height": "iif(typeof(height) = 'integer', height, null)",
    "alt_text": "iif(octet_length(alt_text) <= 1000000, cast(alt_text as blob), null)",
}
"""Column of `MEDIA_DETAILS` → SQL for its value; NULL if bskyarchive would not store such a value."""

_COPY = "posts.db"
"""Name of a private copy."""

_READ_TABLES = ("posts", "media", "schema_version")
_RESTORE = "restore it from a backup, or try sqlite3's .recover"
_KNOWN_VERSIONS = (1, 2, 3)
_ROW_ID = "rowid"
"""The name of the row id in all statements here; a column of that name would hide it."""
_OPTIONAL_COLUMNS = {"quote_count": "0"}
"""Column that old schemas lack → SQL that replaces it."""


class Archive:
    """An open archive. Use it in a `with` statement.

    Args:
        path: The SQLite file.
        memory: The memory limit: copying refuses a post that surely exceeds it. None for no limit.
        match: The query that `matching` will get. If the archive must be recovered, its index is queried at once, since
            the copy has no index. None for no query.

    Raises:
        OptionError: *path* is not a path.
        ArchiveError: The archive is missing, or cannot be read.
        ArchiveBusyError: Another program keeps writing to it.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, memory: MemoryGuard | None = None, match: str | None = None
    ) -> None:
        check_path(path, "the archive")
        self._scratch: Scratch | None = None
        self._memory = memory
        self._match = match
        self.state: dict[str, object] = {}
        """State of the archive's files before anything was read, so that it includes no later write."""
        location, shown = archive_location(Path(path)), printable_path(Path(path))
        # If the files cannot be read, opening them reports the reason.
        with contextlib.suppress(OSError, apsw.Error):
            self.state = file_state(location)
        try:
            self._open(Source.of(location, shown))
        except UnrecoveredError:
            self._recover(location, shown)

    @classmethod
    def _of(cls, source: Source, memory: MemoryGuard | None, scratch: Scratch | None = None) -> Self:
        archive = cls.__new__(cls)
        archive._scratch = scratch
        archive._memory = memory
        archive._match = None
        archive.state = {}
        archive._open(source)
        return archive

    def _open(self, source: Source) -> None:
        self.source = source
        self.path = Path(source.location)
        """Absolute path of the archive, without links; for a private copy, the path of the original."""
        self.copied: Copied | None = None
        """Facts about the copying, if `copy` made this archive."""
        self.status = self._present_status()
        """Status of the archive's file when it was opened."""
        self._connections = Connections(source)
        try:
            self.connection = self._connections.open()
            # Python handles signals only between its own steps: give it some during a long sort.
            self.watch(lambda: None, 100_000)
            with self.reading(), self._reading_names():
                self._check_size()
                self.columns = self._checked_columns()
                self.schema_version = self._checked_version()
                self.created_at_index = self._index_on("created_at") if self._has_all_times() else None
                self.did_index = self._index_on("did")
        except BaseException:
            self.close()
            raise

    def _recover(self, location: Path, shown: str) -> None:
        """Let SQLite recover a full copy, take what exports need out of it, remove it, and open the smaller copy."""
        scratch = Scratch()
        try:
            folder = scratch.path / "whole"
            folder.mkdir(mode=0o700)
            copy = Source.of(recovered(location, shown, folder))
            whole = replace(copy, location=str(location), display_path=shown)
            with contextlib.closing(Archive._of(whole, self._memory)) as archive:
                matched = None
                if self._match is not None:
                    matched = checked_match(archive.connection, self._match, shown)
                archive._copy_to(
                    scratch.path / _COPY, Selection(), ("created_at", "did"), media=True, handles=True, matched=matched
                )
            shutil.rmtree(folder)
            self._open(Source.of_copy(scratch.path / _COPY, whole))
        except BaseException:
            scratch.close()
            raise
        self._scratch = scratch

    def copy(
        self,
        selection: Selection,
        *,
        media: bool = False,
        while_held: Callable[[apsw.Connection, str], None] = lambda *_: None,
    ) -> Archive:
        """Copy all that an export of *selection* needs into a private archive. Closing the copy deletes it.

        The copy has no posts that the narrowings exclude. The check that `watch` got runs during copying, and then
        while the copy is read.

        Args:
            selection: The posts to export.
            media: Whether to copy the rows of media too.
            while_held: Called with a connection to the state that is copied, and the archive's schema name there.

        Raises:
            ArchiveError, ArchiveBusyError: The archive cannot be read.
            OutputError: There is no room for a copy.
        """
        scratch = Scratch()
        try:
            columns = ("created_at", "did") if selection.did is not None else ("created_at",)
            copied = self._copy_to(scratch.path / _COPY, selection, columns, media=media, while_held=while_held)
            self.check_unchanged()
            copy = Archive._of(Source.of_copy(scratch.path / _COPY, self.source), self._memory, scratch)
        except BaseException:
            scratch.close()
            raise
        copy.copied = copied
        copy.watch(*self._watched)
        return copy

    def _copy_to(
        self,
        target: Path,
        selection: Selection,
        indexed: Iterable[str],
        *,
        media: bool,
        handles: bool = False,
        matched: Narrowing | None = None,
        while_held: Callable[[apsw.Connection, str], None] = lambda *_: None,
    ) -> Copied:
        with self.reading():
            indexes = {"created_at": self.created_at_index, "did": self.did_index, "uri": self._index_on("uri")}
            media_columns: tuple[str, ...] = ()
            if self._has_media_columns():
                present = self._columns_of("media")
                media_columns = (*MEDIA_COLUMNS, *(name for name in MEDIA_DETAILS if not present.get(name, True)))
        return copy_posts(
            self.source,
            target,
            self.columns,
            self.schema_version,
            {column: index for column, index in indexes.items() if index is not None},
            indexed=(*indexed, "uri") if media else indexed,
            selection=selection,
            media=media_columns if media and "media" in self._tables else None,
            handles=handles,
            matched=matched,
            while_held=while_held,
            check=self._watched[0],
            memory=self._memory,
        )

    def matching(self, query: str) -> FullTextMatch | MatchedBefore:
        """The posts that the archive's full-text index finds.

        Args:
            query: A query in the syntax of FTS5.

        Raises:
            ArchiveError: The index is missing, damaged, or was not copied.
            OptionError: *query* is not valid.
        """
        if not self.source.private:
            return checked_match(self.connection, query, self.display_path)
        if self._match != query:
            raise ArchiveError(f"{self.display_path} was recovered in a copy, without its full-text index")
        return MatchedBefore()

    @property
    def uri_index(self) -> bool:
        """Whether there is an index on uri."""
        with self.reading():
            return self._index_on("uri") is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections, and remove the files that SQLite made beside the archive for them."""
        uninterrupted(self._close)

    def _close(self) -> None:
        self._connections.close()
        if self._scratch is not None:
            self._scratch.close()

    def second_connection(
        self, busy_milliseconds: int = BUSY_MILLISECONDS
    ) -> contextlib.AbstractContextManager[apsw.Connection]:
        """Another connection with the same restrictions, for a `with` block. It closes with the archive at the latest.

        Args:
            busy_milliseconds: How long its statements wait for a program that is writing.

        Raises:
            ArchiveError: SQLite cannot open the archive.
        """
        return self._connections.opened(busy_milliseconds)

    @property
    def display_path(self) -> str:
        """The archive's path as it was typed, for messages."""
        return self.source.display_path

    def notices(self) -> Notices:
        """Warnings about the archive itself, whichever posts are read."""
        found = Notices()
        if self.source.missed_log:
            found.add(MISSED_LOG, f"{self.display_path} {MISSED_LOG_TEXT}")
        return found

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Translate SQLite errors into ours while this archive is read."""
        with reading(self.display_path):
            yield

    def pin(self) -> bool:
        """Hold one state of the archive. Returns False if another program keeps writing."""
        with self.reading():
            return pin(self.connection)

    def unpin(self) -> None:
        """Release the state that `pin` holds."""
        with self.reading():
            unpin(self.connection)

    def check_unchanged(self) -> None:
        """Make sure that the path still names the opened file, and that a file opened as immutable did not change.

        Raises:
            ArchiveChangedError: The file was replaced, or was changed where locks are not possible.
        """
        if self.source.private:
            return
        self.source.check_same_file()
        now, then = self._present_status(), self.status
        if self.source.immutable and (now.st_size, now.st_mtime_ns) != (then.st_size, then.st_mtime_ns):
            raise ArchiveChangedError(f"{self.display_path} changed while it was read", "export again")

    def _present_status(self) -> os.stat_result:
        try:
            return self.path.stat()
        except OSError as error:
            raise ArchiveChangedError(f"{self.display_path} disappeared while it was read: {error.strerror}") from None

    def count_posts(self) -> int:
        """The number of posts.

        Raises:
            ArchiveError: The indexes disagree about it, so stepping along one would miss posts.
        """
        with self.reading():
            indexes = (self.created_at_index, self._index_on("uri"))
            return counted_posts(self.connection, "main", filter(None, indexes), self.display_path)

    def has_posts(self, selection: Selection, posts: int) -> bool:
        """Estimate quickly whether *selection* has at least *posts* posts. The answer may be yes for fewer."""
        with self.reading():
            if selection.did is not None and self.did_index is not None:
                wrote = "select count(*) from (select 1 from posts where did = ? limit ?)"
                return as_number(self.connection.execute(wrote, (selection.did, posts)).get) >= posts
            if not selection.by_date or self.created_at_index is None:
                return as_number(self.connection.execute("select ifnull(max(rowid), 0) from posts").get) >= posts
            return any(
                self.connection.execute(
                    f"select 1 from posts where {span.where} limit 1 offset :offset",
                    {**span.parameters, "offset": posts - 1},
                ).get
                for span in selection.spans()
            )

    def stored_bytes(self) -> int:
        """Size of the archive and its log as this connection sees them now; all posts together are not larger."""
        with self.reading():
            return as_number(self.connection.pragma("page_count")) * as_number(self.connection.pragma("page_size"))

    def watch(self, check: Callable[[], None], steps: int) -> None:
        """Call *check* every *steps* steps of SQLite's virtual machine. An exception from it ends the statement."""

        def handler() -> bool:
            check()
            return False

        self._watched = (check, steps)
        self.connection.set_progress_handler(handler, steps)

    def count_by(self, did: str) -> int:
        """The number of posts by the author *did*."""
        with self.reading():
            return as_number(self.connection.execute("select count(*) from posts where did = ?", (did,)).get)

    def count_media(self) -> int:
        """The number of media rows; 0 if the archive has no media table."""
        if "media" not in self._tables:
            return 0
        with self.reading():
            return as_number(self.connection.execute("select count(*) from media").get)

    def media_of(self, selection: Selection) -> Iterator[ShownFile]:
        """Yield each media file once for each selected post that has or shows it, ordered by hash, then by uri.

        The archive records one post for each file. Other posts that show it are found by its name (`shown_media`).

        Raises:
            ArchiveError: The media table lacks hashes, posts, paths or sizes.
        """
        if "media" not in self._tables:
            return
        with self.reading():
            self._prepare_for_media(selection)
            present = self._columns_of("media")
            details = {name: "null" if present.get(name, True) else sql for name, sql in _DETAILS_SQL.items()}
            # Text sorts as file names do; a value of another type is not a hash.
            values = (
                "iif(typeof(hash) = 'text', cast(hash as blob), null)",
                f"substr(cast(file_path as blob), 1, {_MAX_MEDIA_PATH_BYTES})",
                "size_bytes",
                *details.values(),
            )
            uri_indexed = self._index_on("uri") is not None
            sql = files_sql(selection, values, self._only_shown_sql(), uri_indexed=uri_indexed)
            last: tuple[object, object] | None = None
            file: MediaFile | None = None
            for stored_hash, stored_path, size, *found, uri in self.connection.execute(sql, parameters(selection)):
                # A table without its usual key may have a row twice; the first one counts.
                if (stored_hash, uri) == last:
                    continue
                if file is None or last is None or last[0] != stored_hash:
                    file = MediaFile(json_text.decode(as_bytes(stored_hash)), os.fsdecode(as_bytes(stored_path)))
                last = stored_hash, uri
                yield ShownFile(file, size if isinstance(size, int) else 0, as_bytes(uri), *map(as_bytes, found))

    def count_posts_without_known_media(self, selection: Selection) -> int:
        """The number of selected posts with media for which `media_of` finds no file.

        Raises:
            ArchiveError: As for `media_of`.
        """
        with self.reading():
            if "media" not in self._tables:
                selection.register(self.connection)
                sql = f"select count(*) from ({posts_with_media_sql(selection)})"
            else:
                self._prepare_for_media(selection)
                sql = unknown_sql(selection, self._only_shown_sql())
            return as_number(self.connection.execute(sql, parameters(selection)).get)

    def _prepare_for_media(self, selection: Selection) -> None:
        if not self._has_media_columns():
            raise ArchiveError(
                f"{self.display_path} has a table media without {', '.join(MEDIA_COLUMNS)}", "leave out --media"
            )
        if "json_each" in self._tables:
            raise self._not_an_archive("it has a table json_each", "leave out --media")
        selection.register(self.connection)
        register(self.connection)

    def _only_shown_sql(self) -> str:
        """The argument *only_shown* for the SQL of `shown_media`."""
        if self.source.private and ONLY_SHOWN_COLUMN in self._columns_of("media"):
            return ONLY_SHOWN_COLUMN
        return "null" if self._index_on("uri") is None else ONLY_SHOWN_SQL.format(schema="")

    def find_author(self, asked: str) -> ChosenAuthor:
        """Find an author by DID or handle.

        Raises:
            OptionError: *asked* is neither.
            AuthorError: The archive has no post by this author.
        """
        with self.reading(), self._reading_names():
            return find_author(self.connection, "main", asked, str(self.path))

    def count_authors(self) -> int:
        """The number of authors."""
        with self.reading():
            return as_number(self.connection.execute("select count(distinct did) from posts").get)

    def authors(self, largest: int = -1) -> Iterator[Author]:
        """Yield the authors with the most posts first: at most *largest* of them, all if it is negative."""
        with self.reading(), self._reading_names():
            yield from each_author(self.connection, largest)

    def count_selected(self, selection: Selection) -> int:
        """The number of selected posts."""
        with self.reading():
            selection.register(self.connection)
            sql = f"select count(*) from posts where {selection.where_sql()}"
            return as_number(self.connection.execute(sql, selection.parameters()).get)

    def first_and_last(self, selection: Selection | None = None) -> tuple[str | None, str | None]:
        """Creation times of the oldest and the newest post (RFC 3339); None if no time near that end is readable.

        Args:
            selection: The posts to look at; None for all.
        """
        selection = selection or Selection()
        return self._first_time("asc", selection), self._first_time("desc", selection)

    def _first_time(self, direction: Literal["asc", "desc"], selection: Selection) -> str | None:
        with self.reading():
            selection.register(self.connection)
            rows: list[Any] = self.connection.execute(
                f"select {stored_value_sql(self.columns, 'created_at')} from posts where {selection.where_sql()}"
                f" order by created_at {direction} limit {_TIMES_LOOKED_AT}",
                selection.parameters(),
            ).fetchall()
        return _first_readable(stored for (stored,) in rows)

    def first_readable_time(self, ends: tuple[list[int], list[int]]) -> tuple[str | None, str | None]:
        """As `first_and_last`, for posts whose row ids at the oldest and the newest end are *ends*."""
        sql = f"select {stored_value_sql(self.columns, 'created_at')} from posts where rowid = ?"
        with self.reading():
            first, last = (
                _first_readable(cast(StoredValue, self.connection.execute(sql, (row_id,)).get) for row_id in row_ids)
                for row_ids in ends
            )
        return first, last

    def sample_row_ids(self, stretches: int, posts: int) -> list[list[int]]:
        """Row ids of at most *posts* posts: neighbours from at most *stretches* places across the archive."""
        found: list[list[int]] = []
        with self.reading():
            bounds = self.connection.execute("select min(rowid), max(rowid) from posts having count(*) > 0").fetchall()
            for lowest, highest in bounds:
                length = as_number(highest) - as_number(lowest) + 1
                for number in range(stretches):
                    start = as_number(lowest) + length * number // stretches
                    if found:
                        start = max(start, found[-1][-1] + 1)
                    sql = "select rowid from posts where rowid >= ? order by rowid limit ?"
                    rows = self.connection.execute(sql, (start, posts // stretches)).fetchall()
                    if rows:
                        found.append([as_number(row_id) for (row_id,) in rows])
        return found

    def count_within(self, span: Span) -> int:
        """The number of posts in *span*, by all authors."""
        with self.reading():
            return as_number(
                self.connection.execute(f"select count(*) from posts where {span.where}", span.parameters).get
            )

    def plan(self, selection: Selection, batch_size: int, posts: int) -> Plan:
        """Cut the selected posts into batches.

        Args:
            selection: The posts to export.
            batch_size: Most posts in a batch.
            posts: The result of `count_posts`.
        """
        by_author = False
        if selection.did is not None and self.did_index is not None:
            wrote = self.count_by(selection.did)
            by_author = wrote <= posts * _FEW_SHARE
        if by_author or self.created_at_index is None or selection.by_list:
            row_ids = self.sorted_row_ids(selection, by_author=by_author)
            at_most = wrote if by_author else posts
            exact = not (selection.by_date or selection.by_list) and (by_author or selection.did is None)
            return Plan(row_id_batches(row_ids, batch_size), at_most, exact)
        spans = selection.spans()
        within = posts if not selection.by_date else sum(self.count_within(span) for span in spans)
        return Plan(self._key_ranges(spans, batch_size, within), within, exact=True)

    def _key_ranges(self, spans: Iterable[Span], batch_size: int, posts: int) -> Iterator[Batch]:
        with self.reading():
            for span in spans:
                for batch in key_ranges(self.order(span), batch_size):
                    posts -= batch.posts
                    if posts < 0:
                        # A damaged index can lead in circles.
                        raise ArchiveChangedError("the index leads to more posts than it has", "export again")
                    yield batch

    def order(self, span: Span) -> CreatedAtOrder:
        """The posts of *span*, newest first; the archive must have a created_at index."""
        assert self.created_at_index is not None
        return CreatedAtIndex(self.connection, self.created_at_index, span)

    def sorted_row_ids(
        self,
        selection: Selection,
        *,
        by_author: bool = False,
        limit: int = -1,
        offset: int = 0,
        connection: apsw.Connection | None = None,
    ) -> Iterator[int]:
        """Yield row ids of the selected posts in export order. One sort finds them; a large one uses a temporary file.

        Args:
            selection: The posts.
            by_author: Whether to find the posts through the index on did.
            limit: Most row ids if *selection* has no limit; negative for all.
            offset: Row ids to skip first.
            connection: Another connection to this archive; None for its own.
        """
        connection = connection or self.connection
        index = f"indexed by {quote_identifier(self.did_index)}" if by_author and self.did_index else ""
        where = replace(selection, limit=None).where_sql()
        if selection.limit is not None:
            limit = selection.limit
        if by_author:
            where = where.replace("+did = :did", "did = :did")
        selection.register(connection)
        with self.reading(), asking(selection.narrowings, self.display_path):
            connection.pragma("cache_size", -_SORT_CACHE_KIB)
            try:
                for (row_id,) in connection.execute(
                    f"select rowid from posts {index} where {where}"
                    " order by created_at desc, uri limit :limit offset :offset",
                    {**selection.parameters(), "limit": limit, "offset": offset},
                ):
                    yield as_number(row_id)
            finally:
                # A caller that stops early may have closed the connection too.
                with contextlib.suppress(apsw.ConnectionClosedError):
                    connection.pragma("cache_size", -CACHE_KIB)

    @contextlib.contextmanager
    def _reading_names(self) -> Iterator[None]:
        try:
            yield
        except UnicodeDecodeError:
            raise ArchiveError(
                f"{self.display_path} is damaged: a name in its schema is not valid UTF-8", _RESTORE
            ) from None

    def _check_size(self) -> None:
        """Make sure that the last page is whole: SQLite would read its missing part as zeros."""
        size = Path(self.source.path).stat().st_size
        if size % as_number(self.connection.pragma("page_size")):
            raise ArchiveError(f"{self.display_path} is damaged: it is cut off within its last page", _RESTORE)

    def _checked_columns(self) -> dict[str, str]:
        """Check that `posts` is a plain table with all that an export needs. Returns column → SQL for its value."""
        tables = {folded(row[1]): row for row in self.connection.execute("pragma table_list") if row[0] == "main"}
        if "posts" not in tables:
            raise self._not_an_archive("no table posts")
        for name in filter(tables.__contains__, _READ_TABLES):
            _, _, kind, _, without_rowid, _ = tables[name]
            if kind != "table":
                raise self._not_an_archive(f"{name} is not a plain table")
            if name == "posts" and without_rowid:
                raise self._not_an_archive("posts is a table without row ids")
        present = self._columns_of("posts")
        missing = [name for name in COLUMNS if name not in present and name not in _OPTIONAL_COLUMNS]
        if missing:
            raise self._not_an_archive(f"posts has no column {', '.join(missing)}")
        # Only columns that are read are computed, so other generated columns do no harm.
        if generated := [name for name in COLUMNS if present.get(name)]:
            raise self._not_an_archive(f"posts has a generated column {', '.join(generated)}")
        if _ROW_ID in present:
            raise self._not_an_archive(f"posts has a column {_ROW_ID}, which hides the row ids")
        self._tables = frozenset(tables)
        return {name: name if name in present else _OPTIONAL_COLUMNS[name] for name in COLUMNS}

    def _not_an_archive(self, why: str, hint: str = "") -> ArchiveError:
        return ArchiveError(f"{self.display_path} is not a bskyarchive archive: {why}", hint)

    def _columns_of(self, table: str) -> dict[str, bool]:
        """Column in lower case → whether it is hidden or generated."""
        return {folded(str(row[1])): bool(row[6]) for row in self.connection.execute(f"pragma table_xinfo({table})")}

    def _has_media_columns(self) -> bool:
        present = self._columns_of("media")
        return not any(present.get(name, True) for name in MEDIA_COLUMNS)

    def _checked_version(self) -> int:
        noted: list[Any] = []
        if "schema_version" in self._tables:
            if self._columns_of("schema_version").get("version", True):
                raise self._not_an_archive("schema_version has no column version")
            noted = self.connection.execute("select max(version) from schema_version having count(*) > 0").fetchall()
        for (version,) in noted:
            if not isinstance(version, int) or version not in _KNOWN_VERSIONS:
                raise ArchiveError(
                    f"{self.display_path} has schema version {version!r:.100},"
                    f" and this skyexport knows 1 to {_KNOWN_VERSIONS[-1]}",
                    "try a newer skyexport",
                )
            return version
        return 1 if self.columns["quote_count"] == "0" else 3 if "exports" in self._tables else 2

    def _has_all_times(self) -> bool:
        """Whether every post has a time: steps along the index compare times, and NULL compares with nothing."""
        return not self.connection.execute("select 1 from posts where created_at is null limit 1").fetchall()

    def _index_on(self, column: str) -> str | None:
        """Name of a full index whose first column is *column*, compared bytewise; None if there is none."""
        for _, name, _, _, partial in self.connection.execute("pragma index_list(posts)").fetchall():
            keys = self.connection.execute(f"pragma index_xinfo({quote_identifier(str(name))})").fetchall()
            first, collation = str(keys[0][2]), str(keys[0][4])
            if not partial and folded(first) == column and folded(collation) == "binary":
                return str(name)
        return None


def _first_readable(times: Iterable[StoredValue]) -> str | None:
    """The first readable time of *times* (RFC 3339); None if none is readable."""
    stamps = filter(None, map(stored_time, times))
    return next((stamp.rfc3339() for stamp in stamps), None)
