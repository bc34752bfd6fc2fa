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

from skyexport.archive.authors import Author, ChosenAuthor, each_author, find_author
from skyexport.archive.connections import Connections
from skyexport.archive.copying import MEDIA_COLUMNS, MEDIA_DETAILS, Copied, copy_posts, counted_posts
from skyexport.archive.from_car import check_car_name, is_car_file, source_of_car
from skyexport.archive.full_text import FullTextMatch, PrecomputedMatch, checked_match
from skyexport.archive.recovery import recovered
from skyexport.archive.schema import checked_schema
from skyexport.archive.source import RESTORE, Source, as_number, pin, translate_sqlite_errors, unpin
from skyexport.errors import ArchiveChangedError, ArchiveError, UnrecoveredError
from skyexport.notices import MISSED_LOG, MISSED_LOG_TEXT, Notices
from skyexport.options.types import check_path
from skyexport.posts import StoredValue, stored_time, stored_value_sql
from skyexport.runtime.cleanup import uninterrupted
from skyexport.runtime.for_tests import reached
from skyexport.runtime.location import archive_location
from skyexport.runtime.memory import MemoryGuard
from skyexport.runtime.progress import Counters
from skyexport.runtime.scratch import Scratch
from skyexport.runtime.sqlite_files import file_state
from skyexport.selection import PostFilter, Selection
from skyexport.wording import printable_path

__all__ = ["Archive"]

_TIMES_LOOKED_AT = 100
"""Posts to look at for the first readable time, before giving up."""

_COPY = "posts.db"
"""Name of a private copy."""


class Archive:
    """An open archive. Use it in a `with` statement.

    Args:
        path: The SQLite file.
        memory: The memory limit: copying refuses a post that surely exceeds it. None for no limit.
        match: The query that `matching` will get. If the archive must be recovered, its index is queried at once, since
            the copy has no index. None for no query.
        counters: Count what is done, if *path* is a CAR file, which is imported first; None if nobody shows that.
        check: Called again and again while it is opened, and then until `watch` is called; an exception that it raises
            ends that.

    Raises:
        OptionError: *path* is not a path.
        ArchiveError: The archive is missing, or cannot be read.
        ArchiveBusyError: Another program keeps writing to it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        memory: MemoryGuard | None = None,
        match: str | None = None,
        counters: Counters | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        check_path(path, "the archive")
        self._scratch: Scratch | None = None
        self._memory, self._match, self._check = memory, match, check
        self.state: dict[str, object] = {}
        """State of the archive's files before anything was read, so that it includes no later write."""
        location, shown = archive_location(Path(path)), printable_path(Path(path))
        # If the files cannot be read, opening them reports the reason.
        with contextlib.suppress(OSError, apsw.Error):
            self.state = file_state(location)
        if is_car_file(location):
            self._open_beside(lambda folder: source_of_car(location, shown, folder, counters, check))
            return
        check_car_name(location, shown)
        try:
            self._open(Source.of(location, shown))
        except UnrecoveredError:
            self._open_beside(lambda folder: self._recovered(location, shown, folder))

    @classmethod
    def _of(cls, source: Source, memory: MemoryGuard | None, scratch: Scratch | None = None) -> Self:
        archive = cls.__new__(cls)
        archive._scratch = scratch
        archive._memory, archive._match, archive._check = memory, None, lambda: None
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
            self.watch(self._check, 100_000)
            with self.translating_errors(), self.reading_names():
                self.source.check_whole(self.connection)
                self.schema = checked_schema(self.connection, self.display_path)
            self.columns = self.schema.columns
            self.created_at_index = self.schema.created_at_index
        except BaseException:
            self.close()
            raise

    def _open_beside(self, make: Callable[[Path], Source]) -> None:
        """Open an archive that *make* makes in a private directory, which exists until this one is closed."""
        scratch = Scratch()
        try:
            self._open(make(scratch.path))
        except BaseException:
            scratch.close()
            raise
        self._scratch = scratch

    def _recovered(self, location: Path, shown: str, place: Path) -> Source:
        """Let SQLite recover a full copy, take what exports need out of it, and remove it."""
        folder = place / "whole"
        folder.mkdir(mode=0o700)
        copy = Source.of(recovered(location, shown, folder))
        whole = replace(copy, location=str(location), display_path=shown)
        with contextlib.closing(Archive._of(whole, self._memory)) as archive:
            matched = None if self._match is None else checked_match(archive.connection, self._match, shown)
            archive._copy_to(
                place / _COPY, Selection(), ("created_at", "did"), media=True, handles=True, matched=matched
            )
        shutil.rmtree(folder)
        return Source.of_copy(place / _COPY, whole)

    def copy(
        self,
        selection: Selection,
        *,
        media: bool = False,
        while_held: Callable[[apsw.Connection, str], None] = lambda *_: None,
    ) -> Archive:
        """Copy all that an export of *selection* needs into a private archive. Closing the copy deletes it.

        The copy has no posts that the filters exclude. The check that `watch` got runs during copying, and then
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
        matched: PostFilter | None = None,
        while_held: Callable[[apsw.Connection, str], None] = lambda *_: None,
    ) -> Copied:
        with self.translating_errors():
            indexes = {"created_at": self.created_at_index, "did": self.schema.did_index, "uri": self.schema.uri_index}
            media_columns: tuple[str, ...] = ()
            if self.schema.has_media_columns:
                present = self.schema.media_columns
                media_columns = (*MEDIA_COLUMNS, *(name for name in MEDIA_DETAILS if not present.get(name, True)))
        return copy_posts(
            self.source,
            target,
            self.columns,
            self.schema.version,
            {column: index for column, index in indexes.items() if index is not None},
            indexed=(*indexed, "uri") if media else indexed,
            selection=selection,
            media=media_columns if media and "media" in self.schema.tables else None,
            handles=handles,
            matched=matched,
            while_held=while_held,
            check=self._watched[0],
            memory=self._memory,
        )

    def matching(self, query: str) -> FullTextMatch | PrecomputedMatch:
        """The posts that the archive's full-text index finds.

        Args:
            query: A query in the syntax of FTS5.

        Raises:
            ArchiveError: The index is missing, damaged, or was not copied.
            OptionError: *query* is not valid.
        """
        if not self.source.private or self.source.from_car:
            return checked_match(self.connection, query, self.display_path)
        if self._match != query:
            raise ArchiveError(f"{self.display_path} was recovered in a copy, without its full-text index")
        return PrecomputedMatch()

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

    def second_connection(self) -> contextlib.AbstractContextManager[apsw.Connection]:
        """Another connection with the same restrictions, for a `with` block. It closes with the archive at the latest.

        Raises:
            ArchiveError: SQLite cannot open the archive.
        """
        return self._connections.opened()

    @property
    def display_path(self) -> str:
        """The archive's path as it was typed, for messages."""
        return self.source.display_path

    def notices(self) -> Notices:
        """Warnings about the archive itself, whichever posts are read."""
        notices = Notices()
        if self.source.missed_log:
            notices.add(MISSED_LOG, f"{self.display_path} {MISSED_LOG_TEXT}")
        return notices

    @contextlib.contextmanager
    def translating_errors(self) -> Iterator[None]:
        """Translate SQLite errors into ours while this archive is read."""
        with translate_sqlite_errors(self.display_path):
            yield

    def pin(self) -> bool:
        """Hold one state of the archive. Returns False if another program keeps writing."""
        reached("pinning", self)
        with self.translating_errors():
            return pin(self.connection)

    def unpin(self) -> None:
        """Release the state that `pin` holds."""
        with self.translating_errors():
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
        with self.translating_errors():
            indexes = (self.created_at_index, self.schema.uri_index)
            return counted_posts(self.connection, "main", filter(None, indexes), self.display_path)

    def has_posts(self, selection: Selection, posts: int) -> bool:
        """Estimate quickly whether *selection* has at least *posts* posts. The answer may be yes for fewer."""
        with self.translating_errors():
            if selection.did is not None and self.schema.did_index is not None:
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
        with self.translating_errors():
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
        with self.translating_errors():
            return as_number(self.connection.execute("select count(*) from posts where did = ?", (did,)).get)

    def find_author(self, asked: str) -> ChosenAuthor:
        """Find an author by DID or handle.

        Raises:
            OptionError: *asked* is neither.
            AuthorError: The archive has no post by this author.
        """
        with self.translating_errors(), self.reading_names():
            return find_author(self.connection, "main", asked, str(self.path))

    def count_authors(self) -> int:
        """The number of authors."""
        with self.translating_errors():
            return as_number(self.connection.execute("select count(distinct did) from posts").get)

    def authors(self, largest: int = -1, offset: int = 0) -> Iterator[Author]:
        """Yield the authors with the most posts first: *largest* of them after *offset*, all if it is negative."""
        with self.translating_errors(), self.reading_names():
            yield from each_author(self.connection, largest, offset)

    def count_selected(self, selection: Selection) -> int:
        """The number of selected posts."""
        with self.translating_errors():
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
        with self.translating_errors():
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
        with self.translating_errors():
            first, last = (
                _first_readable(cast(StoredValue, self.connection.execute(sql, (row_id,)).get) for row_id in row_ids)
                for row_ids in ends
            )
        return first, last

    @contextlib.contextmanager
    def reading_names(self) -> Iterator[None]:
        """Translate the error of a name in the schema that is not UTF-8."""
        try:
            yield
        except UnicodeDecodeError:
            what = "is damaged: a name in its schema is not valid UTF-8"
            raise ArchiveError(f"{self.display_path} {what}", RESTORE) from None


def _first_readable(times: Iterable[StoredValue]) -> str | None:
    """The first readable time of *times* (RFC 3339); None if none is readable."""
    stamps = filter(None, map(stored_time, times))
    return next((stamp.rfc3339() for stamp in stamps), None)
