"""Turning a batch into bytes, a chunk at a time.

A batch is rendered post by post, in export order, until its chunk is full; the next chunk continues after the last post
that fitted. The native renderer writes usual posts straight into the target. It names the post that it refuses: Python
renders that one, and the native renderer continues after it. Where there is no native renderer, Python renders all. A
post that is larger than a chunk by itself is read alone, and passed on in pieces.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import apsw

from skyexport.archive.plan import Batch, KeyRange
from skyexport.errors import ArchiveChangedError
from skyexport.formats.chunk import Chunk
from skyexport.formats.format import Compress, Format, Part
from skyexport.notices import Notices
from skyexport.posts import (
    COLUMNS,
    MAX_CHUNK_BYTES,
    LargePost,
    StoredPost,
    StoredValue,
    quote_identifier,
    stored_bytes_sql,
    stored_value_sql,
)
from skyexport.rendering.filling import Filled
from skyexport.rendering.native import NativeLibrary, NativeOrder, NativeRenderer, Status
from skyexport.rendering.native import library as native_library
from skyexport.runtime.for_tests import Limit, reached
from skyexport.selection import Selection

__all__ = [
    "SLOT_BYTES",
    "BatchRenderer",
    "Renderer",
]


SLOT_BYTES = MAX_CHUNK_BYTES + 64_000
"""Size of the slot that a chunk travels in: compression makes incompressible data a little larger."""

_CHUNK_BYTES = Limit("MAX_CHUNK_BYTES", MAX_CHUNK_BYTES)
"""Only tests have other chunks, which must be smaller."""

_UNIT_POSTS = 2000
"""Posts in one statement at most: where a chunk is full before, the row ids of the rest are listed."""

_LARGEST_VALUE_BYTES = 1_000_000_000
"""SQLite's own bound on a value, which holds while one large post is read."""


class Renderer(Protocol):
    """Renders the units of one export."""

    def render(self, unit: Any) -> Iterator[Chunk]:
        """The chunks of a unit, of the kind that this renderer takes."""
        ...


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
        self._chunk_bytes = _CHUNK_BYTES.value
        library = native_library() if native else None
        self._native: NativeRenderer | None = None
        self._native_order: NativeOrder | None = None
        if isinstance(library, NativeLibrary):
            self._native = NativeRenderer(connection, library, format.name, format.settings, columns)
            self._native_order = NativeOrder(connection, library)
        self._own_target = memoryview(bytearray(self._chunk_bytes)) if self._native is not None else None
        self._target = target
        self._compress = compress
        self._before_large_post = before_large_post
        self._format = format
        self._selects_all = selection.everything
        self._parameters = selection.parameters()
        selection.register(connection)
        connection.limit(apsw.SQLITE_LIMIT_LENGTH, self._chunk_bytes)

        # Without a limit SQLite might merge the two selects, and then forget about the order.
        self._range_sql = (
            "(select rowid as row_id, created_at"
            f" from posts indexed by {quote_identifier(index or '')}"
            " where created_at <= (select created_at from posts where rowid = :first)"
            " and created_at >= (select created_at from posts where rowid = :last)"
            " order by created_at desc{then_by} limit -1)"
        )
        self._columns = [columns[name] for name in COLUMNS]
        self._stored_bytes = stored_bytes_sql(columns)
        self._values = ", ".join(stored_value_sql(columns, name) for name in COLUMNS)
        self._listed_sql = (
            "(select value as row_id from temp.carray(:row_ids)) as batch"
            f" cross join posts on posts.rowid = batch.row_id where {selection.where_sql()}"
        )

    def render(self, batch: Batch) -> Iterator[Chunk]:
        """The selected posts of *batch*, as chunks of at most about MAX_CHUNK_BYTES; none when none is selected.

        Raises:
            ArchiveChangedError: The archive holds other posts in this range than when it was planned.
        """
        reached("rendering", batch)
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
        row_ids = self._in_order(batch) if isinstance(batch, KeyRange) else batch.row_ids
        for start in range(0, len(row_ids), _UNIT_POSTS):
            yield from self._unit(row_ids[start : start + _UNIT_POSTS])

    def _in_order(self, batch: KeyRange) -> array[int]:
        """The row ids of all posts of *batch*, selected or not, in export order."""
        row_ids = None
        if self._native_order is not None:
            row_ids = self._in_order_natively(batch, self._native_order)
        if row_ids is None:
            sql = self._range_sql.format(then_by=", uri")
            row_ids = array(
                "q", (row[0] for row in self._connection.execute(f"select row_id from {sql}", _bounds(batch)))
            )
        if len(row_ids) != batch.posts:
            raise ArchiveChangedError(f"a range of {batch.posts} posts now holds {len(row_ids)}", "export again")
        return row_ids

    def _in_order_natively(self, batch: KeyRange, native: NativeOrder) -> array[int] | None:
        """The same; None where the times are not usual, or of more posts than *batch* has.

        The order of the index is that of the export but for the posts of one instant: only those are read and sorted.
        """
        target = bytearray(native.POST_BYTES * batch.posts)
        native.set_target(target)
        try:
            self._connection.execute(
                f"select {native.aggregate_sql} from {self._range_sql.format(then_by='')}", _bounds(batch)
            ).fetchall()
        except apsw.Error:
            if native.result().status not in (Status.NOT_USUAL, Status.TOO_LARGE):
                raise
            return None
        row_ids, tied = native.listed(target, native.result())
        if not tied:
            return row_ids
        places = sorted({*tied, *(place - 1 for place in tied)})
        chosen = apsw.carray(array("q", (row_ids[place] for place in places)))
        sql = (
            "select posts.rowid from temp.carray(:row_ids) as batch cross join posts on posts.rowid = batch.value"
            " order by created_at desc, uri"
        )
        in_order: list[Any] = self._connection.execute(sql, {"row_ids": chosen}).fetchall()
        if len(in_order) < len(places):
            return None
        for place, (row_id,) in zip(places, in_order, strict=True):
            row_ids[place] = row_id
        return row_ids

    def _unit(self, row_ids: array[int]) -> Iterator[Chunk]:
        while row_ids:
            chunk, stop = self._fill(row_ids) if self._native is None else self._fill_natively(row_ids, self._native)
            if chunk.posts:
                yield chunk
            if stop is None:
                return
            row_ids = row_ids[row_ids.index(stop.row_id) :]
            if stop.at_large_post:
                yield from self._large_post(row_ids[:1])
                row_ids = row_ids[1:]

    def _fill(self, row_ids: array[int]) -> tuple[Chunk, _Stop | None]:
        """The first posts of *row_ids* as one chunk, and where it stopped: nowhere when it has all of them."""
        parts: list[Part] = []
        size = 0
        notices, post_notices = Notices(), Notices()
        separator_bytes, chunk_bytes = len(self._format.separator), self._chunk_bytes
        stop: _Stop | None = None
        row_id: int | None = None
        try:
            for row_id, *values in self._select(self._values, row_ids):
                part = self._format.usual(values, post_notices)
                if part is None:
                    part = self._exact(values, post_notices)
                if part is None or (parts and size + len(part) > chunk_bytes):
                    stop = _Stop(row_id, at_large_post=part is None)
                    break
                parts.append(part)
                size += len(part) + separator_bytes
                if post_notices:
                    notices.merge(post_notices)
                    post_notices = Notices()
        except apsw.TooBigError:
            stop = _Stop(self._first_too_big(row_ids, row_id), at_large_post=True)
        return Chunk(self._format.joined(parts) if parts else b"", len(parts), notices=notices), stop

    def _fill_natively(self, row_ids: array[int], native: NativeRenderer) -> tuple[Chunk, _Stop | None]:
        """The same by the native renderer, with the posts that it refuses from Python in between."""
        filled = Filled(self._next_target(), self._format)
        stop: _Stop | None = None
        while stop is None and row_ids:
            refused = self._run_natively(row_ids, native, filled)
            if refused is None:
                break
            if refused.why is not Status.NOT_USUAL:
                at_large_post = refused.too_big or not filled.posts
                stop = _Stop(refused.row_id, at_large_post=at_large_post)
                break
            place = row_ids.index(refused.row_id)
            stop = self._add_refused(row_ids[place : place + 1], filled)
            row_ids = row_ids[place + 1 :]
        return Chunk(filled.data(), filled.posts, notices=filled.notices), stop

    def _run_natively(self, row_ids: array[int], native: NativeRenderer, filled: Filled) -> _Refused | None:
        """Add the posts of *row_ids* to *filled* up to the first that is refused, which is given."""
        native.set_target(filled.room())
        failure: apsw.Error | None = None
        try:
            self._select_one(native.aggregate_sql, row_ids)
        except apsw.Error as error:
            failure = error
        finally:
            result = native.result()
        filled.add_written(result.posts, result.bytes)
        filled.notices.formulas += result.formulas
        if failure is None:
            return None
        if isinstance(failure, apsw.TooBigError):
            after = self._nth(row_ids, result.posts)
            return _Refused(self._first_too_big(row_ids, after), Status.TOO_LARGE, too_big=True)
        if result.refused_row_id is None or result.status is Status.NO_MEMORY:
            raise failure
        return _Refused(result.refused_row_id, result.status, too_big=False)

    def _add_refused(self, row_id: array[int], filled: Filled) -> _Stop | None:
        """Add a post that the native renderer refused; where it does not fit, that is where the chunk stops."""
        rows = self._select(self._values, row_id).fetchall()
        if not rows:
            return None
        values: list[Any] = list(rows[0][1:])
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
            return self._target()[: self._chunk_bytes]
        assert self._own_target is not None
        return self._own_target

    def _nth(self, row_ids: array[int], posts: int) -> int | None:
        """Row id of the last of the first *posts* selected posts of *row_ids*; None when that is none."""
        selected = [row_id for row_id, _ in self._of_any_size("null", row_ids)]
        return selected[posts - 1] if posts else None

    def _exact(self, values: list[StoredValue], notices: Notices) -> bytes | None:
        """A post of any content; None when it is larger than a chunk."""
        pieces: list[bytes] = []
        size = 0
        for piece in self._format.pieces(_stored_post(values), notices):
            pieces.append(piece)
            size += len(piece)
            # A post may become a thousand times larger: indentation of what is nested deep.
            if size > self._chunk_bytes:
                return None
        return b"".join(pieces)

    def _first_too_big(self, row_ids: array[int], after: int | None) -> int:
        """The first selected post of *row_ids*, behind *after*, that has a value which SQLite refused for its size."""
        largest = "max(" + ", ".join(f"ifnull(octet_length({column}), 0)" for column in self._columns) + ")"
        passed = after is None
        row_id: int
        for row_id, size in self._of_any_size(largest, row_ids):
            if passed and size > self._chunk_bytes:
                return row_id
            passed = passed or row_id == after
        raise apsw.TooBigError("a value is too large, but not of a post that is exported")

    def _large_post(self, row_ids: array[int]) -> Iterator[Chunk]:
        rows = self._of_any_size(f"{self._stored_bytes}, {LargePost.URI_SQL}", row_ids)
        if not rows:
            return
        row_id, stored_bytes, uri = rows[0]
        self._before_large_post(LargePost.of(row_id, uri, stored_bytes))
        notices = Notices()
        gathered: list[bytes] = []
        size = 0
        posts = 1
        # Nobody else holds the post, so that a format can let go of it.
        post = self._of_any_size(self._values, row_ids)
        for piece in self._format.pieces(_stored_post(post.pop()[1:]), notices):
            gathered.append(piece)
            size += len(piece)
            if size > self._chunk_bytes // 4:
                yield Chunk(b"".join(gathered), posts, goes_on=posts > 0)
                gathered.clear()
                size = posts = 0
        yield Chunk(b"".join(gathered), posts, notices=notices)

    def _select_one(self, aggregate: str, row_ids: array[int]) -> None:
        """Run an aggregate over the selected posts of *row_ids*, in their order."""
        self._connection.execute(f"select {aggregate} from {self._listed_sql}", self._bound(row_ids)).fetchall()

    def _select(self, columns: str, row_ids: array[int]) -> apsw.Cursor:
        """Row id and *columns* of each selected post of *row_ids*, in their order."""
        return self._connection.execute(f"select batch.row_id, {columns} from {self._listed_sql}", self._bound(row_ids))

    def _of_any_size(self, columns: str, row_ids: array[int]) -> list[Any]:
        """The same, also of values that are larger than a chunk."""
        self._connection.limit(apsw.SQLITE_LIMIT_LENGTH, _LARGEST_VALUE_BYTES)
        try:
            return self._select(columns, row_ids).fetchall()
        finally:
            self._connection.limit(apsw.SQLITE_LIMIT_LENGTH, self._chunk_bytes)

    def _bound(self, row_ids: array[int]) -> Mapping[str, Any]:
        """All parameters of a statement about *row_ids*."""
        return {**self._parameters, "row_ids": apsw.carray(row_ids)}


def _bounds(batch: KeyRange) -> Mapping[str, int]:
    return {"first": batch.first, "last": batch.last}


@dataclass(frozen=True, slots=True)
class _Refused:
    """A post that the native renderer does not take."""

    row_id: int
    why: Status
    too_big: bool
    """Whether one of its values is larger than a chunk."""


@dataclass(frozen=True, slots=True)
class _Stop:
    """The first post that a chunk has no room for."""

    row_id: int
    at_large_post: bool
    """Whether no chunk has."""


def _stored_post(values: Sequence[StoredValue]) -> StoredPost:
    return dict(zip(COLUMNS, values, strict=True))
