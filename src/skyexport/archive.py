"""The archive: everything that is known about the source. It is only ever read (`register` is the one exception).

An archive is a SQLite file that bskyarchive writes. Opening one looks at the tables before anything is read from
them, since anybody can make a file of that name.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self, cast, overload

import apsw

from skyexport import json_text
from skyexport.cleanup import uninterrupted
from skyexport.copying import MEDIA_COLUMNS, Copied, copy_posts, counted_posts
from skyexport.created_at import CreatedAtIndex
from skyexport.errors import ArchiveChangedError, ArchiveError, OptionError, UnrecoveredError
from skyexport.formats import FORMATS
from skyexport.formats.base import COLUMNS, Format, StoredValue, as_bytes, stored_time, stored_value_sql
from skyexport.full_text import FullTextMatch, MatchedBefore, asking, checked_match
from skyexport.media_root import MediaFile
from skyexport.memory import MemoryGuard
from skyexport.options import DEFAULT_BATCH_SIZE, Bound, parse_bound
from skyexport.plan import Batch, CreatedAtOrder, Plan, key_ranges, row_id_batches
from skyexport.recovery import recovered
from skyexport.render import BatchRenderer, Chunk, quote_identifier
from skyexport.scratch import Scratch
from skyexport.selection import Narrowing, Selection, Span
from skyexport.shown_media import (
    ONLY_SHOWN_COLUMN,
    ONLY_SHOWN_SQL,
    files_sql,
    parameters,
    posts_with_media_sql,
    register,
    unknown_sql,
)
from skyexport.source import CACHE_KIB, Source, as_number, file_state, files_beside, has_content, pin, reading, unpin

__all__ = ["Archive", "Post"]

Post = dict[str, Any]
"""One post: the object that the JSON export has for it."""

_SORT_CACHE_KIB = 32_000
"""Page cache while sorting: the sort spills to a temporary file beyond it."""

_FEW_SHARE = 0.2
"""Of the posts, at most: what such an author wrote is found through the index on did, and sorted."""

_TIMES_LOOKED_AT = 100
"""Posts to look at for the first readable time, before giving up."""

_MAX_MEDIA_PATH_BYTES = 5000
"""More than any system takes."""

_COPY = "posts.db"
"""Name of a private copy."""

_READ_TABLES = ("posts", "media", "schema_version")
_RESTORE = "restore it from a backup, or try sqlite3's .recover"
_KNOWN_VERSIONS = (1, 2, 3)
_OPTIONAL_COLUMNS = {"quote_count": "0"}
"""Column that old schemas lack → SQL in its place."""


class Archive:
    """An open archive: what it holds, and its posts. Use it in a `with` statement.

    Args:
        path: The SQLite file.
        memory: Where posts must be copied, no post is read that is surely beyond it; None for no bound.
        match: What `matching` will be asked for: where the archive must be recovered, its index is asked at once.

    Raises:
        ArchiveError: There is no archive that can be read there.
        ArchiveBusyError: Another program is writing and does not let go.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, memory: MemoryGuard | None = None, match: str | None = None
    ) -> None:
        self._scratch: Scratch | None = None
        self._memory = memory
        self._match = match
        self.state: dict[str, object] = {}
        """Of its files, before anything was read: what is written later does not belong to it."""
        # Where they can not be read, opening them says why.
        with contextlib.suppress(OSError, ValueError, apsw.Error):
            self.state = file_state(Path(path))
        try:
            self._open(Source.of(Path(path)))
        except UnrecoveredError:
            self._recover(Path(path))

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
        self.path = Path(source.called)
        """Where the archive lies; its copy, when this is one, lies elsewhere."""
        self.copied: Copied | None = None
        """How it was copied, when this is a copy that `copy` made."""
        self.status = self._present_status()
        """Of its file, when it was opened."""
        self.connection = source.connect()
        try:
            # Python runs signal handlers between its own steps only: give it some during a long sort.
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

    def _recover(self, path: Path) -> None:
        """Open a copy that SQLite has recovered, reduced to posts: before that, it has all that the archive has."""
        scratch = Scratch()
        try:
            folder = scratch.path / "whole"
            folder.mkdir(mode=0o700)
            whole = replace(Source.of(recovered(path, folder)), called=str(path.resolve()))
            with contextlib.closing(Archive._of(whole, self._memory)) as archive:
                matched = None
                if self._match is not None:
                    matched = checked_match(archive.connection, self._match, str(archive.path))
                archive._copy_to(scratch.path / _COPY, Selection(), ("created_at", "did"), media=True, matched=matched)
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
        """A private copy of all that an export of *selection*, and of its *media*, needs; it is gone when it is closed.

        Posts that its narrowings do not select are not in the copy. What `watch` was told is called meanwhile, and for
        the copy as well.

        Args:
            selection: Which posts.
            media: Whether to copy the rows of media as well.
            while_held: Called with a connection to the state that is copied, and the name of the archive there.

        Raises:
            ArchiveError, ArchiveBusyError: The archive can not be read.
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
        matched: Narrowing | None = None,
        while_held: Callable[[apsw.Connection, str], None] = lambda *_: None,
    ) -> Copied:
        with self.reading():
            indexes = {"created_at": self.created_at_index, "did": self.did_index, "uri": self._index_on("uri")}
            media_columns = MEDIA_COLUMNS if self._has_media_columns() else ()
        return copy_posts(
            self.source,
            target,
            self.columns,
            self.schema_version,
            {column: index for column, index in indexes.items() if index is not None},
            indexed=(*indexed, "uri") if media else indexed,
            selection=selection,
            media=media_columns if media and "media" in self._tables else None,
            matched=matched,
            while_held=while_held,
            check=self._watched[0],
            memory=self._memory,
        )

    def matching(self, query: str) -> FullTextMatch | MatchedBefore:
        """The posts that the archive's full-text index finds.

        Args:
            query: In the syntax of FTS5.

        Raises:
            ArchiveError: There is no such index, it is damaged, or it was not copied.
            OptionError: This is no query.
        """
        if not self.source.private:
            return checked_match(self.connection, query, str(self.path))
        if self._match != query:
            raise ArchiveError(f"{self.path} was recovered in a copy, without its full-text index")
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
        """Close the connection, and leave nothing beside the archive that was not there before."""
        uninterrupted(self._close)

    def _close(self) -> None:
        self.connection.close()
        if self._scratch is not None:
            self._scratch.close()
        if not self.source.wal or self.source.immutable:
            return
        log, _ = files_beside(Path(self.source.path))
        if log.exists() and not has_content(log):
            # Reading a closed WAL archive makes an empty log and its index, where they are not there. Only SQLite can
            # remove them without a race against a program that opens the archive now: it does when the last connection
            # that may write ends.
            with contextlib.suppress(apsw.Error):
                tidier = apsw.Connection(self.source.path, flags=apsw.SQLITE_OPEN_READWRITE)
                with contextlib.closing(tidier):
                    tidier.execute("select count(*) from sqlite_schema").fetchall()

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Turn what SQLite says while this archive is read into our errors."""
        with reading(self.source.called):
            yield

    def pin(self) -> bool:
        """Hold on to one state of the archive; False when another program is writing and does not let go."""
        with self.reading():
            return pin(self.connection)

    def unpin(self) -> None:
        """Let go of the state that `pin` took hold of."""
        with self.reading():
            unpin(self.connection)

    def check_unchanged(self) -> None:
        """Make sure that the path still names the file that was opened, and that an immutable one did not change.

        Raises:
            ArchiveChangedError: It was replaced, or written to without locks being possible.
        """
        if self.source.private:
            return
        self.source.check_same_file()
        now, then = self._present_status(), self.status
        if self.source.immutable and (now.st_size, now.st_mtime_ns) != (then.st_size, then.st_mtime_ns):
            raise ArchiveChangedError(f"{self.path} was written to while it was read", "export again")

    def _present_status(self) -> os.stat_result:
        try:
            return self.path.stat()
        except OSError as error:
            raise ArchiveChangedError(f"{self.path} went away while it was read: {error.strerror}") from None

    def count_posts(self) -> int:
        """How many posts there are.

        Raises:
            ArchiveError: The indexes disagree about it, so that stepping along one would miss posts.
        """
        with self.reading():
            indexes = (self.created_at_index, self._index_on("uri"))
            return counted_posts(self.connection, "main", filter(None, indexes), str(self.path))

    def has_posts(self, selection: Selection, posts: int) -> bool:
        """Whether so many posts may be selected, quickly: there are not many fewer when the answer is no."""
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

    def watch(self, check: Callable[[], None], steps: int) -> None:
        """Call *check* every so many *steps* of SQLite's machine while it works; what it raises ends the statement."""

        def handler() -> bool:
            check()
            return False

        self._watched = (check, steps)
        self.connection.set_progress_handler(handler, steps)

    def count_by(self, did: str) -> int:
        """How many posts *did* wrote."""
        with self.reading():
            return as_number(self.connection.execute("select count(*) from posts where did = ?", (did,)).get)

    def count_media(self) -> int:
        """How many media rows there are; 0 when the archive has no such table."""
        if "media" not in self._tables:
            return 0
        with self.reading():
            return as_number(self.connection.execute("select count(*) from media").get)

    def media_of(self, selection: Selection) -> Iterator[tuple[MediaFile, int]]:
        """The media files of the selected posts, by hash, and how many bytes the archive says that they have.

        The archive remembers one post for each file; that others show it is found out by name (`shown_media`).

        Raises:
            ArchiveError: Its media table has no hashes, posts and paths.
        """
        if "media" not in self._tables:
            return
        with self.reading():
            self._prepare_for_media(selection)
            # Text is in the order of names; what is stored otherwise is no hash.
            values = (
                "iif(typeof(hash) = 'text', cast(hash as blob), null),"
                f" substr(cast(file_path as blob), 1, {_MAX_MEDIA_PATH_BYTES}), size_bytes"
            )
            uri_indexed = self._index_on("uri") is not None
            sql = files_sql(selection, values, self._only_shown_sql(), uri_indexed=uri_indexed) + " order by hash"
            last = None
            for stored_hash, stored_path, stored_size in self.connection.execute(sql, parameters(selection)):
                file = MediaFile(json_text.decode(as_bytes(stored_hash)), os.fsdecode(as_bytes(stored_path)))
                if file.sha256 != last:
                    last = file.sha256
                    yield file, stored_size if isinstance(stored_size, int) else 0

    def count_posts_without_known_media(self, selection: Selection) -> int:
        """How many of the selected posts have media, and none that `media_of` could find.

        Raises:
            ArchiveError: As there.
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
            raise ArchiveError(f"{self.path} has a table media without {', '.join(MEDIA_COLUMNS)}", "leave out --media")
        if "json_each" in self._tables:
            raise ArchiveError(f"{self.path} is not a bskyarchive archive: odd table json_each", "leave out --media")
        selection.register(self.connection)
        register(self.connection)

    def _only_shown_sql(self) -> str:
        """SQL for what `shown_media` calls so."""
        if self.source.private and ONLY_SHOWN_COLUMN in self._columns_of("media"):
            return ONLY_SHOWN_COLUMN
        return "null" if self._index_on("uri") is None else ONLY_SHOWN_SQL.format(schema="")

    def authors(self, largest: int) -> tuple[int, list[tuple[str, int]]]:
        """How many authors there are, and the *largest* ones: DID and number of posts."""
        with self.reading():
            authors = as_number(self.connection.execute("select count(distinct did) from posts").get)
            rows: list[Any] = self.connection.execute(
                "select cast(did as blob), count(*) from posts group by did order by 2 desc, 1 limit ?", (largest,)
            ).fetchall()
        return authors, [(json_text.decode(as_bytes(did)), as_number(posts)) for did, posts in rows]

    def count_selected(self, selection: Selection) -> int:
        """How many posts are selected."""
        with self.reading():
            selection.register(self.connection)
            sql = f"select count(*) from posts where {selection.where_sql()}"
            return as_number(self.connection.execute(sql, selection.parameters()).get)

    def first_and_last(self, selection: Selection | None = None) -> tuple[str | None, str | None]:
        """When the oldest and the newest post were created, RFC 3339; None when no time near that end is readable.

        Args:
            selection: Of which posts; None for all.
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
        """As `first_and_last`, of posts of which these are some row ids at either end."""
        sql = f"select {stored_value_sql(self.columns, 'created_at')} from posts where rowid = ?"
        with self.reading():
            first, last = (
                _first_readable(cast(StoredValue, self.connection.execute(sql, (row_id,)).get) for row_id in row_ids)
                for row_ids in ends
            )
        return first, last

    def sample_row_ids(self, stretches: int, posts: int) -> list[list[int]]:
        """Row ids of *posts* posts at most, neighbours in at most *stretches* places spread over the archive."""
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
        """How many posts lie within *span*, whoever wrote them."""
        with self.reading():
            return as_number(
                self.connection.execute(f"select count(*) from posts where {span.where}", span.parameters).get
            )

    def plan(self, selection: Selection, batch_size: int, posts: int) -> Plan:
        """Cut the selected posts into batches.

        Args:
            selection: Which posts.
            batch_size: Posts a batch, at most.
            posts: What `count_posts` gave.
        """
        by_author = False
        if selection.did is not None and self.did_index is not None:
            wrote = self.count_by(selection.did)
            by_author = wrote <= posts * _FEW_SHARE
        if by_author or self.created_at_index is None or selection.narrowings:
            row_ids = self.sorted_row_ids(selection, by_author=by_author)
            at_most = wrote if by_author else posts
            exact = not (selection.by_date or selection.narrowings) and (by_author or selection.did is None)
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
                        # A damaged index can lead around in circles.
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
        """Row ids of the selected posts, in export order, by one sort (in a temporary file when it is large).

        Args:
            selection: Which posts.
            by_author: Find them through the index on did.
            limit: At most so many; all when negative.
            offset: Skip so many first.
            connection: Another connection to this archive, instead of its own.
        """
        connection = connection or self.connection
        index = f"indexed by {quote_identifier(self.did_index)}" if by_author and self.did_index else ""
        where = selection.where_sql()
        if by_author:
            where = where.replace("+did = :did", "did = :did")
        selection.register(connection)
        with self.reading(), asking(selection.narrowings, str(self.path)):
            connection.pragma("cache_size", -_SORT_CACHE_KIB)
            try:
                for (row_id,) in connection.execute(
                    f"select rowid from posts {index} where {where}"
                    " order by created_at desc, uri limit :limit offset :offset",
                    {**selection.parameters(), "limit": limit, "offset": offset},
                ):
                    yield as_number(row_id)
            finally:
                # Whoever leaves before the end may have closed the connection, too.
                with contextlib.suppress(apsw.ConnectionClosedError):
                    connection.pragma("cache_size", -CACHE_KIB)

    @overload
    def list_posts(
        self, did: str | None = None, since: Bound = None, until: Bound = None, limit: Literal[0] = 0, offset: int = 0
    ) -> Iterator[Post]: ...

    @overload
    def list_posts(
        self, did: str | None = None, since: Bound = None, until: Bound = None, limit: int = 0, offset: int = 0
    ) -> list[Post] | Iterator[Post]: ...

    def list_posts(
        self, did: str | None = None, since: Bound = None, until: Bound = None, limit: int = 0, offset: int = 0
    ) -> list[Post] | Iterator[Post]:
        """Posts in export order, each as the object that the JSON export has for it.

        Args:
            did: Only by this author; None for all.
            since: Not before this: a date (whole UTC day) or an instant, as in `ExportOptions`; inclusive.
            until: Not after this; inclusive.
            limit: Above 0: at most so many posts, as a list. 0: all of them, as an iterator that holds a batch at a
                time and must be used while the archive is open.
            offset: Skip so many posts first.

        Raises:
            OptionError: A bound that is no date, or a negative number.
            ArchiveError: The archive can not be read.
        """
        if limit < 0 or offset < 0:
            raise OptionError(f"limit {limit}, offset {offset}", "neither can be negative")
        selection = Selection(
            did, parse_bound(since, end_of_day=False, name="since"), parse_bound(until, end_of_day=True, name="until")
        )
        posts = self._posts(selection, limit or -1, offset)
        return list(posts) if limit else posts

    def _posts(self, selection: Selection, limit: int, offset: int) -> Iterator[Post]:
        # A sort of row ids, then rendering by row id, in a connection of its own that the caller can not disturb.
        with contextlib.closing(self.source.connect()) as connection, self.reading():
            renderer = BatchRenderer(connection, self.columns, None, FORMATS["json"], Selection())
            row_ids = self.sorted_row_ids(selection, limit=limit, offset=offset, connection=connection)
            for batch in row_id_batches(row_ids, DEFAULT_BATCH_SIZE):
                yield from _parsed(b"".join(_file(FORMATS["json"], renderer.render(batch))))

    @contextlib.contextmanager
    def _reading_names(self) -> Iterator[None]:
        try:
            yield
        except UnicodeDecodeError:
            raise ArchiveError(f"{self.path} is damaged: a name in its schema is not valid UTF-8", _RESTORE) from None

    def _check_size(self) -> None:
        """Make sure that the last page is whole: SQLite would take what is missing of it for zeros."""
        size = Path(self.source.path).stat().st_size
        if size % as_number(self.connection.pragma("page_size")):
            raise ArchiveError(f"{self.path} is damaged: it is cut off within its last page", _RESTORE)

    def _checked_columns(self) -> dict[str, str]:
        """Column → SQL for it, once `posts` is known to be a plain table with all that an export needs."""
        tables = {row[1]: row for row in self.connection.execute("pragma table_list") if row[0] == "main"}
        if "posts" not in tables:
            raise ArchiveError(f"{self.path} is not a bskyarchive archive: no table posts")
        for name in filter(tables.__contains__, _READ_TABLES):
            _, _, kind, _, without_rowid, _ = tables[name]
            if kind != "table" or (name == "posts" and without_rowid):
                raise ArchiveError(f"{self.path} is not a bskyarchive archive: {name} is not a plain table")
        present = self._columns_of("posts")
        missing = [name for name in COLUMNS if name not in present and name not in _OPTIONAL_COLUMNS]
        if missing:
            raise ArchiveError(f"{self.path} is not a bskyarchive archive: posts has no column {', '.join(missing)}")
        odd = [name for name, hidden in present.items() if hidden or name.lower() in ("rowid", "oid", "_rowid_")]
        if odd:
            raise ArchiveError(f"{self.path} is not a bskyarchive archive: odd column {odd[0]!r:.100} in posts")
        self._tables = frozenset(tables)
        return {name: name if name in present else _OPTIONAL_COLUMNS[name] for name in COLUMNS}

    def _columns_of(self, table: str) -> dict[str, bool]:
        """Column → whether it is hidden or generated."""
        return {str(row[1]): bool(row[6]) for row in self.connection.execute(f"pragma table_xinfo({table})")}

    def _has_media_columns(self) -> bool:
        present = self._columns_of("media")
        return not any(present.get(name, True) for name in MEDIA_COLUMNS)

    def _checked_version(self) -> int:
        noted: list[Any] = []
        if "schema_version" in self._tables:
            if self._columns_of("schema_version").get("version", True):
                raise ArchiveError(f"{self.path} is not a bskyarchive archive: schema_version has no column version")
            noted = self.connection.execute("select max(version) from schema_version having count(*) > 0").fetchall()
        for (version,) in noted:
            if not isinstance(version, int) or version not in _KNOWN_VERSIONS:
                raise ArchiveError(
                    f"{self.path} has schema version {version!r:.100},"
                    f" and this skyexport knows 1 to {_KNOWN_VERSIONS[-1]}",
                    "look for a newer skyexport",
                )
            return version
        return 1 if self.columns["quote_count"] == "0" else 3 if "exports" in self._tables else 2

    def _has_all_times(self) -> bool:
        """Whether no post lacks a time: steps along the index compare times, and NULL compares with nothing."""
        return not self.connection.execute("select 1 from posts where created_at is null limit 1").fetchall()

    def _index_on(self, column: str) -> str | None:
        """Name of a full index whose first column is *column*, compared bytewise."""
        for _, name, _, _, partial in self.connection.execute("pragma index_list(posts)").fetchall():
            keys = self.connection.execute(f"pragma index_xinfo({quote_identifier(str(name))})").fetchall()
            if not partial and keys[0][2] == column and keys[0][4] == "BINARY":
                return str(name)
        return None


def _first_readable(times: Iterable[StoredValue]) -> str | None:
    """The first of these stored times that can be read, RFC 3339."""
    stamps = filter(None, map(stored_time, times))
    return next((stamp.rfc3339() for stamp in stamps), None)


def _file(format: Format, chunks: Iterable[Chunk]) -> Iterator[bytes]:
    """Chunks as the file that they make."""
    file = format.new_file()
    for chunk in chunks:
        for piece in file.add(chunk.data, chunk.posts):
            yield bytes(piece)
    yield from file.finish()


_TOO_DEEP = b"\n" + b"  " * 1000
"""JSON with such a line has as many levels as SQLite refuses. Python 3.11 takes fewer, 3.13 many more."""


def _parsed(posts: bytes) -> list[Post]:
    try:
        if _TOO_DEEP in posts:
            raise RecursionError
        found: list[Post] = json.loads(posts, parse_int=_integer)
    except RecursionError:
        raise ArchiveError(
            "a post has an embed that is nested too deep for Python", "export to a file: that takes any depth"
        ) from None
    return found


def _integer(digits: str) -> int | float:
    """A JSON integer; one with thousands of digits, which Python refuses, as a float."""
    try:
        return int(digits)
    except ValueError:
        return float(digits)
