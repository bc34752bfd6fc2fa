"""Turning a batch into bytes, a chunk at a time.

A batch is rendered post by post, in export order, until its chunk is full; the next chunk continues after the last post
that fitted. The native renderer writes usual posts straight into the target. It names the post that it refuses: Python
renders that one, and the native renderer continues after it. Where there is no native renderer, Python renders all. A
post that is larger than a chunk by itself is read alone, and passed on in pieces.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import apsw

from skyexport import json_text
from skyexport.errors import ArchiveChangedError, MemoryLimitError
from skyexport.formats.base import (
    COLUMNS,
    Compress,
    Format,
    Part,
    StoredPost,
    StoredValue,
    as_bytes,
    stored_value_sql,
)
from skyexport.native import NativeRenderer, Status, native_renderer
from skyexport.notices import Notices
from skyexport.options import format_size
from skyexport.plan import Batch, KeyRange
from skyexport.selection import Selection

__all__ = [
    "MAX_CHUNK_BYTES",
    "SLOT_BYTES",
    "BatchRenderer",
    "Chunk",
    "LargePost",
    "quote_identifier",
    "stored_bytes_sql",
]

MAX_CHUNK_BYTES = 4_000_000
"""Size of a chunk at most, before compression: a batch of 1,000 posts takes about 1.1 MB as JSON."""

SLOT_BYTES = MAX_CHUNK_BYTES + 64_000
"""Size of the slot that a chunk travels in: compression makes incompressible data a little larger."""

_UNIT_POSTS = 2000
"""Posts in one statement at most: where a chunk is full before, the row ids of the rest are listed."""

_LARGEST_VALUE_BYTES = 1_000_000_000
"""SQLite's own bound on a value, which holds while one large post is read."""

_LONGEST_URI_BYTES = 1000
"""Enough for any uri of Bluesky; a post with a longer one is called by its row id."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Finished bytes of posts that follow each other in export order."""

    data: bytes | memoryview
    """A memoryview is the beginning of the target that was given last."""
    posts: int
    """How many posts begin in it."""
    goes_on: bool = False
    """Whether its one post goes on in the next chunk."""
    notices: Notices = field(default_factory=Notices)
    """Of these posts."""
    plain_bytes: int = 0
    """Size of the data before compression."""


@dataclass(frozen=True, slots=True)
class LargePost:
    """A post that is larger than a chunk, so that rendering it takes several times its size in memory."""

    URI_SQL: ClassVar[str] = f"iif(octet_length(uri) <= {_LONGEST_URI_BYTES}, cast(uri as blob), null)"
    """SQL for the uri of a post, NULL where it is too long to be named."""

    called: str
    """Its uri, or what stands for that."""
    stored_bytes: int
    """Of all columns that are read."""

    @classmethod
    def of(cls, row_id: int, uri: StoredValue, stored_bytes: int) -> LargePost:
        """The post of that row id, for which `URI_SQL` gave *uri*."""
        called = f"the post with row id {row_id}" if uri is None else json_text.decode(as_bytes(uri))
        return cls(called, stored_bytes)

    @property
    def needed_bytes(self) -> int:
        """The least memory to read it: SQLite holds it once, and Python once."""
        return 2 * self.stored_bytes

    def beyond_memory(self, why: str) -> MemoryLimitError:
        """The error that *why* ends the export, with this post."""
        return MemoryLimitError(
            f"{why}, with a post of {format_size(self.stored_bytes)}: {self.called}",
            "allow more with --memory-limit, if there is more",
        )


def stored_bytes_sql(columns: Mapping[str, str]) -> str:
    """SQL for the bytes of all columns of a post that are read."""
    return " + ".join(f"ifnull(octet_length({columns[name]}), 0)" for name in COLUMNS)


class BatchRenderer:
    """Renders batches of one archive in one format.

    Args:
        connection: Open on the archive; the renderer registers functions and sets its length limit.
        columns: Column of an export → SQL for it.
        index: The index on created_at that key ranges are steps of; None when there are only row ids.
        format: The output format.
        selection: Which posts of a batch to take.
        compress: How to compress each chunk; not at all when None.
        before_large_post: Called before such a post is read; what it raises ends the rendering.
        target: Gives memory of MAX_CHUNK_BYTES for the next chunk, valid until the chunk after it is asked for. None:
            each chunk is bytes of its own.
        native: Whether usual posts go to the native renderer, where there is one.
    """

    def __init__(
        self,
        connection: apsw.Connection,
        columns: Mapping[str, str],
        index: str | None,
        format: Format,
        selection: Selection,
        *,
        compress: Compress | None = None,
        before_large_post: Callable[[LargePost], None] = lambda _: None,
        target: Callable[[], memoryview] | None = None,
        native: bool = True,
    ) -> None:
        self._connection = connection
        self._native = native_renderer(connection, format.name, format.settings, columns) if native else None
        self._own_target = memoryview(bytearray(MAX_CHUNK_BYTES)) if self._native is not None else None
        self._target = target
        self._compress = compress
        self._before_large_post = before_large_post
        self._format = format
        self._selects_all = selection.everything
        self._parameters = selection.parameters()
        selection.register(connection)
        connection.limit(apsw.SQLITE_LIMIT_LENGTH, MAX_CHUNK_BYTES)

        in_range = (
            f"posts indexed by {quote_identifier(index or '')}"
            " where created_at <= (select created_at from posts where rowid = :first)"
            " and created_at >= (select created_at from posts where rowid = :last)"
        )
        self._count_sql = (
            "select ifnull(sum(posts), 0), ifnull(max(posts), 0)"
            f" from (select count(*) as posts from {in_range} group by created_at)"
        )
        # Without a limit SQLite might merge the two selects, and then forget about the order.
        self._apart_sql = f"select rowid as row_id from {in_range} order by created_at desc limit -1"
        self._tied_sql = f"select rowid as row_id from {in_range} order by created_at desc, uri limit -1"
        self._columns = [columns[name] for name in COLUMNS]
        self._stored_bytes = stored_bytes_sql(columns)
        self._values = ", ".join(stored_value_sql(columns, name) for name in COLUMNS)
        self._of_source_sql = f"cross join posts on posts.rowid = batch.row_id where {selection.where_sql()}"

    def render(self, batch: Batch) -> Iterator[Chunk]:
        """The selected posts of *batch*, as chunks of at most about MAX_CHUNK_BYTES; none when none is selected.

        Raises:
            ArchiveChangedError: The archive holds other posts in this range than when it was planned.
        """
        posts = 0
        for chunk in self._chunks(batch):
            posts += chunk.posts
            data = chunk.data
            if self._compress is not None:
                data = self._compress(data)
            elif self._target is None:
                data = bytes(data)
            yield replace(chunk, data=data, plain_bytes=len(chunk.data))
        if self._selects_all and posts != batch.posts:
            raise ArchiveChangedError("a post went away while it was exported", "export again")

    def _chunks(self, batch: Batch) -> Iterator[Chunk]:
        if isinstance(batch, KeyRange):
            source = self._source_of(batch)
            if batch.posts <= _UNIT_POSTS:
                yield from self._unit(source)
                return
            row_ids = self._row_ids(source)
        else:
            row_ids = batch.row_ids
        for start in range(0, len(row_ids), _UNIT_POSTS):
            yield from self._unit(_listed(row_ids[start : start + _UNIT_POSTS]))

    def _source_of(self, batch: KeyRange) -> _Source:
        bounds = {"first": batch.first, "last": batch.last}
        found: list[Any] = self._connection.execute(self._count_sql, bounds).fetchall()
        posts, most_of_an_instant = found[0]
        if posts != batch.posts:
            raise ArchiveChangedError(f"a range of {batch.posts} posts now holds {posts}", "export again")
        # The order of the index is that of the export but for posts of one instant; those take a sort.
        return _Source(self._apart_sql if most_of_an_instant <= 1 else self._tied_sql, bounds)

    def _unit(self, source: _Source) -> Iterator[Chunk]:
        while True:
            chunk, stop = self._fill(source) if self._native is None else self._fill_natively(source, self._native)
            if chunk.posts:
                yield chunk
            if stop is None:
                return
            row_ids = self._row_ids(source)
            row_ids = row_ids[row_ids.index(stop.row_id) :]
            if stop.at_large_post:
                yield from self._large_post(row_ids[:1])
                row_ids = row_ids[1:]
            if not row_ids:
                return
            source = _listed(row_ids)

    def _fill(self, source: _Source) -> tuple[Chunk, _Stop | None]:
        """The first posts of *source* as one chunk, and where it stopped: nowhere when it has all of them."""
        parts: list[Part] = []
        size = 0
        notices = Notices()
        stop: _Stop | None = None
        row_id: int | None = None
        try:
            for row_id, *values in self._select(self._values, source):
                post_notices = Notices()
                part = self._format.usual(values, post_notices)
                if part is None:
                    part = self._exact(values, post_notices)
                if part is None or (parts and size + len(part) > MAX_CHUNK_BYTES):
                    stop = _Stop(row_id, at_large_post=part is None)
                    break
                parts.append(part)
                size += len(part) + len(self._format.separator)
                notices.merge(post_notices)
        except apsw.TooBigError:
            stop = _Stop(self._first_too_big(source, row_id), at_large_post=True)
        return Chunk(self._format.joined(parts) if parts else b"", len(parts), notices=notices), stop

    def _fill_natively(self, source: _Source, native: NativeRenderer) -> tuple[Chunk, _Stop | None]:
        """The same by the native renderer, with the posts that it refuses from Python in between."""
        filled = _Filled(self._next_target(), self._format)
        stop: _Stop | None = None
        while stop is None:
            refused = self._run_natively(source, native, filled)
            if refused is None:
                break
            if refused.why is not Status.NOT_USUAL:
                at_large_post = refused.too_big or not filled.posts
                stop = _Stop(refused.row_id, at_large_post=at_large_post)
                break
            row_ids = self._row_ids(source)
            place = row_ids.index(refused.row_id)
            stop = self._add_refused(row_ids[place : place + 1], filled)
            rest = row_ids[place + 1 :]
            if not rest:
                break
            source = _listed(rest)
        return Chunk(filled.data(), filled.posts, notices=filled.notices), stop

    def _run_natively(self, source: _Source, native: NativeRenderer, filled: _Filled) -> _Refused | None:
        """Add the posts of *source* to *filled* up to the first that is refused, which is given."""
        native.set_target(filled.room())
        failure: apsw.Error | None = None
        try:
            self._select_one(native.aggregate_sql, source)
        except apsw.Error as error:
            failure = error
        finally:
            result = native.result()
        filled.add_written(result.posts, result.bytes)
        filled.notices.formulas += result.formulas
        if failure is None:
            return None
        if isinstance(failure, apsw.TooBigError):
            after = self._nth(source, result.posts)
            return _Refused(self._first_too_big(source, after), Status.TOO_LARGE, too_big=True)
        if result.refused_row_id is None or result.status is Status.NO_MEMORY:
            raise failure
        return _Refused(result.refused_row_id, result.status, too_big=False)

    def _add_refused(self, row_id: array[int], filled: _Filled) -> _Stop | None:
        """Add a post that the native renderer refused; where it does not fit, that is where the chunk stops."""
        found = self._select(self._values, _listed(row_id)).fetchall()
        if not found:
            return None
        values: list[Any] = list(found[0][1:])
        notices = Notices()
        part = self._format.usual(values, notices)
        if part is None:
            part = self._exact(values, notices)
        if part is None:
            return _Stop(row_id[0], at_large_post=True)
        if not filled.add(self._format.joined([part])):
            return _Stop(row_id[0], at_large_post=not filled.posts)
        filled.notices.merge(notices)
        return None

    def _next_target(self) -> memoryview:
        """Memory for a chunk that is not compressed."""
        if self._target is not None and self._compress is None:
            return self._target()[:MAX_CHUNK_BYTES]
        assert self._own_target is not None
        return self._own_target[:MAX_CHUNK_BYTES]

    def _nth(self, source: _Source, posts: int) -> int | None:
        """Row id of the last of the first *posts* selected posts of *source*; None when that is none."""
        found = [row_id for row_id, _ in self._of_any_size("null", source)]
        return found[posts - 1] if posts else None

    def _exact(self, values: list[StoredValue], notices: Notices) -> bytes | None:
        """A post of any content; None when it is larger than a chunk."""
        pieces: list[bytes] = []
        size = 0
        for piece in self._format.pieces(_stored_post(values), notices):
            pieces.append(piece)
            size += len(piece)
            # A post may become a thousand times larger: indentation of what is nested deep.
            if size > MAX_CHUNK_BYTES:
                return None
        return b"".join(pieces)

    def _first_too_big(self, source: _Source, after: int | None) -> int:
        """The first selected post of *source*, behind *after*, that has a value which SQLite refused for its size."""
        largest = "max(" + ", ".join(f"ifnull(octet_length({column}), 0)" for column in self._columns) + ")"
        passed = after is None
        row_id: int
        for row_id, size in self._of_any_size(largest, source):
            if passed and size > MAX_CHUNK_BYTES:
                return row_id
            passed = passed or row_id == after
        raise apsw.TooBigError("a value is too large, but not of a post that is exported")

    def _large_post(self, row_ids: array[int]) -> Iterator[Chunk]:
        found = self._of_any_size(f"{self._stored_bytes}, {LargePost.URI_SQL}", _listed(row_ids))
        if not found:
            return
        row_id, stored_bytes, uri = found[0]
        self._before_large_post(LargePost.of(row_id, uri, stored_bytes))
        notices = Notices()
        gathered: list[bytes] = []
        size = 0
        posts = 1
        # Nobody else holds the post, so that a format can let go of it.
        post = self._of_any_size(self._values, _listed(row_ids))
        for piece in self._format.pieces(_stored_post(post.pop()[1:]), notices):
            gathered.append(piece)
            size += len(piece)
            if size > MAX_CHUNK_BYTES // 4:
                yield Chunk(b"".join(gathered), posts, goes_on=posts > 0)
                gathered.clear()
                size = posts = 0
        yield Chunk(b"".join(gathered), posts, notices=notices)

    def _select_one(self, aggregate: str, source: _Source) -> None:
        """Run an aggregate over the selected posts, in export order."""
        self._connection.execute(
            f"select {aggregate} from ({source.sql}) as batch {self._of_source_sql}",
            {**self._parameters, **source.parameters},
        ).fetchall()

    def _select(self, columns: str, source: _Source) -> apsw.Cursor:
        """Row id and *columns* of each selected post, in export order."""
        return self._connection.execute(
            f"select batch.row_id, {columns} from ({source.sql}) as batch {self._of_source_sql}",
            {**self._parameters, **source.parameters},
        )

    def _of_any_size(self, columns: str, source: _Source) -> list[Any]:
        """The same, also of values that are larger than a chunk."""
        self._connection.limit(apsw.SQLITE_LIMIT_LENGTH, _LARGEST_VALUE_BYTES)
        try:
            return self._select(columns, source).fetchall()
        finally:
            self._connection.limit(apsw.SQLITE_LIMIT_LENGTH, MAX_CHUNK_BYTES)

    def _row_ids(self, source: _Source) -> array[int]:
        """Of all posts of *source*, selected or not."""
        if source.row_ids is not None:
            return source.row_ids
        return array("q", (row[0] for row in self._connection.execute(source.sql, source.parameters)))


@dataclass(frozen=True, slots=True)
class _Source:
    """SQL for row ids in export order, and its parameters."""

    sql: str
    parameters: Mapping[str, Any]
    row_ids: array[int] | None = None
    """The row ids that it gives, where they are known."""


def _listed(row_ids: array[int]) -> _Source:
    return _Source("select value as row_id from carray(:row_ids)", {"row_ids": apsw.carray(row_ids)}, row_ids)


@dataclass(frozen=True, slots=True)
class _Refused:
    """A post that the native renderer does not take."""

    row_id: int
    why: Status
    too_big: bool
    """Whether one of its values is larger than a chunk."""


class _Filled:
    """A target, as far as it is filled with posts.

    Args:
        target: Where the chunk grows.
        format: Of the posts.
    """

    def __init__(self, target: memoryview, format: Format) -> None:
        self._target = target
        self._length = 0
        self._separator = format.separator
        self._alignment = format.alignment
        self.posts = 0
        self.notices = Notices()

    @property
    def _begin(self) -> int:
        """Where the next post begins."""
        if not self.posts:
            return 0
        return -(-(self._length + len(self._separator)) // self._alignment) * self._alignment

    def room(self) -> memoryview:
        """The rest of the target."""
        return self._target[min(self._begin, len(self._target)) :]

    def add_written(self, posts: int, size: int) -> None:
        """Take in posts that were written at the beginning of `room`."""
        if not posts:
            return
        begin = self._begin
        if self.posts:
            self._target[self._length : begin] = self._separator + bytes(begin - self._length - len(self._separator))
        self._length = begin + size
        self.posts += posts

    def add(self, data: bytes) -> bool:
        """Add a post; False where it does not fit."""
        room = self.room()
        if len(data) > len(room):
            return False
        room[: len(data)] = data
        self.add_written(1, len(data))
        return True

    def data(self) -> memoryview:
        """All posts."""
        return self._target[: self._length]


@dataclass(frozen=True, slots=True)
class _Stop:
    """The first post that a chunk has no room for."""

    row_id: int
    at_large_post: bool
    """Whether no chunk has."""


def _stored_post(values: Sequence[StoredValue]) -> StoredPost:
    return dict(zip(COLUMNS, values, strict=True))


def quote_identifier(name: str) -> str:
    """The name of a table or index, as SQL takes any name."""
    return '"' + name.replace('"', '""') + '"'
