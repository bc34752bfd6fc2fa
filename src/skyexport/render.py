"""Turning a batch into bytes: one SQL statement a batch where it can be, smaller steps where it cannot.

A batch is rendered fast, by SQLite's own functions. When SQLite refuses a value, or the bytes are not what the format
promises, the batch is halved until few posts are left beside the odd one; those are rendered exactly, by Python, post
by post. When the result would be larger than a slot, the batch is cut where the stored posts fill one, or halved where
they do not; a single post that is too large is read whole and passed on in pieces.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import apsw

from skyexport import json_text
from skyexport.errors import ArchiveChangedError, MemoryLimitError
from skyexport.formats.base import (
    COLUMNS,
    Compress,
    Format,
    NotUsualError,
    StoredPost,
    StoredValue,
    as_bytes,
    stored_value_sql,
)
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
"""Posts in one SQL statement at most: larger batches would mostly be rendered in vain, and halved."""

_EXACT_POSTS = 16
"""Posts to render exactly together: of more, most need not be, and it takes many times as long."""

_AROUND_POST_BYTES = 600
"""About what rendering adds to a stored post: names of columns, quotes, indentation."""

_LARGEST_VALUE_BYTES = 1_000_000_000
"""SQLite's own bound on a value, which holds while one large post is read."""

_LONGEST_URI_BYTES = 1000
"""Enough for any uri of Bluesky; a post with a longer one is called by its row id."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Finished bytes of posts that follow each other in export order."""

    data: bytes
    posts: int
    """How many posts begin in it."""
    goes_on: bool = False
    """Whether its one post goes on in the next chunk."""
    posts_read: int = 0
    """How many posts of the batch were gone through for it, selected or not."""
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
        always_exact: Do not try the fast way first; the bytes are the same, it only takes longer.
        before_large_post: Called before such a post is read; what it raises ends the rendering.
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
        always_exact: bool = False,
        before_large_post: Callable[[LargePost], None] = lambda _: None,
    ) -> None:
        self._connection = connection
        self._compress = compress
        self._always_exact = always_exact
        self._before_large_post = before_large_post
        self._format = format
        self._selects_all = selection.everything
        self._parameters = selection.parameters()
        format.register(connection)
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
        self._row_ids_sql = "select value as row_id from carray(:row_ids)"
        aggregates = ", ".join(f"cast({aggregate} as blob)" for aggregate in format.aggregates(columns))
        self._fast_sql = f"select count(*), {aggregates}"
        self._stored_bytes = stored_bytes_sql(columns)
        self._exact_sql = "select " + ", ".join(stored_value_sql(columns, name) for name in COLUMNS)
        self._of_source_sql = f"cross join posts on posts.rowid = batch.row_id where {selection.where_sql()}"

    def render(self, batch: Batch) -> Iterator[Chunk]:
        """The selected posts of *batch*, as chunks of at most about MAX_CHUNK_BYTES; none when none is selected.

        Raises:
            ArchiveChangedError: The archive holds other posts in this range than when it was planned.
        """
        for chunk in self._chunks(batch):
            data = chunk.data if self._compress is None else self._compress(chunk.data)
            yield replace(chunk, data=data, plain_bytes=len(chunk.data))

    def _chunks(self, batch: Batch) -> Iterator[Chunk]:
        if isinstance(batch, KeyRange):
            bounds = {"first": batch.first, "last": batch.last}
            found: list[Any] = self._connection.execute(self._count_sql, bounds).fetchall()
            posts, most_of_an_instant = found[0]
            if posts != batch.posts:
                raise ArchiveChangedError(f"a range of {batch.posts} posts now holds {posts}", "export again")
            # The order of the index is that of the export but for posts of one instant; those take a sort.
            range_sql = self._apart_sql if most_of_an_instant <= 1 else self._tied_sql
            if batch.posts <= _UNIT_POSTS:
                chunk = self._rendered(range_sql, bounds, batch.posts)
                if chunk is not None:
                    if chunk.posts:
                        yield chunk
                    return
            row_ids = array("q", (row[0] for row in self._connection.execute(range_sql, bounds)))
            if batch.posts <= _UNIT_POSTS:
                yield from self._in_parts(row_ids)
                return
        else:
            row_ids = batch.row_ids
        for start in range(0, len(row_ids), _UNIT_POSTS):
            yield from self._unit(row_ids[start : start + _UNIT_POSTS])

    def _unit(self, row_ids: array[int]) -> Iterator[Chunk]:
        chunk = self._rendered(self._row_ids_sql, {"row_ids": apsw.carray(row_ids)}, len(row_ids))
        if chunk is not None:
            if self._selects_all and chunk.posts != len(row_ids):
                raise ArchiveChangedError("a post went away while it was exported", "export again")
            if chunk.posts:
                yield chunk
        else:
            yield from self._in_parts(row_ids)

    def _in_parts(self, row_ids: array[int]) -> Iterator[Chunk]:
        """Posts that could not be rendered as one chunk."""
        if len(row_ids) == 1:
            yield from self._large_post(row_ids)
            return
        cuts = self._cuts(row_ids) or [len(row_ids) // 2]
        for first, last in itertools.pairwise([0, *cuts, len(row_ids)]):
            yield from self._unit(row_ids[first:last])

    def _cuts(self, row_ids: array[int]) -> list[int]:
        """Where to cut a list so that the stored posts of each part fit into a chunk; nowhere when all of them do.

        SQLite looks into all posts of a batch before it says that the result is too large: halving alone would read
        posts of 300 kB nine times.
        """
        sizes: dict[int, int] = dict(self._of_any_size(f"select batch.row_id, {self._stored_bytes}", row_ids))
        cuts: list[int] = []
        filled = 0
        for place, row_id in enumerate(row_ids):
            size = sizes.get(row_id, 0) + _AROUND_POST_BYTES
            if filled and filled + size > MAX_CHUNK_BYTES:
                cuts.append(place)
                filled = 0
            filled += size
        return cuts

    def _rendered(self, source: str, bindings: Mapping[str, apsw.Binding], posts: int) -> Chunk | None:
        """The posts of *source* as one chunk; None when they must be halved, too large or too many to be exact with."""
        parameters = {**self._parameters, **bindings}
        try:
            chunk = None if self._always_exact else self._fast(source, parameters, posts)
            if chunk is None and posts <= _EXACT_POSTS:
                chunk = self._exact(source, parameters, posts)
        except apsw.TooBigError:
            return None
        return chunk

    def _fast(self, source: str, parameters: Mapping[str, apsw.Binding], posts: int) -> Chunk | None:
        try:
            rows: list[Any] = self._connection.execute(
                f"{self._fast_sql} from ({source}) as batch {self._of_source_sql}", parameters
            ).fetchall()
        except (apsw.SQLError, NotUsualError):
            return None
        selected, *values = rows[0]
        notices = Notices()
        data = self._format.finished(selected, values, notices) if selected else b""
        if data is None or (len(data) > MAX_CHUNK_BYTES and posts > 1):
            return None
        return Chunk(data, selected, posts_read=posts, notices=notices)

    def _exact(self, source: str, parameters: Mapping[str, apsw.Binding], posts: int) -> Chunk | None:
        rendered: list[bytes] = []
        size = 0
        notices = Notices()
        for values in self._connection.execute(
            f"{self._exact_sql} from ({source}) as batch {self._of_source_sql}", parameters
        ):
            pieces: list[bytes] = []
            for piece in self._format.pieces(_stored_post(values), notices):
                pieces.append(piece)
                size += len(piece)
                # A post may become a thousand times larger: indentation of what is nested deep.
                if size > MAX_CHUNK_BYTES:
                    return None
            rendered.append(b"".join(pieces))
        return Chunk(self._format.separator.join(rendered), len(rendered), posts_read=posts, notices=notices)

    def _large_post(self, row_ids: array[int]) -> Iterator[Chunk]:
        found = self._of_any_size(f"select {self._stored_bytes}, {LargePost.URI_SQL}", row_ids)
        if not found:
            if self._selects_all:
                raise ArchiveChangedError("a post went away while it was exported", "export again")
            return
        stored_bytes, uri = found[0]
        self._before_large_post(LargePost.of(row_ids[0], uri, stored_bytes))
        notices = Notices()
        gathered: list[bytes] = []
        size = 0
        posts = 1
        # Nobody else holds the post, so that a format can let go of it.
        for piece in self._format.pieces(_stored_post(self._of_any_size(self._exact_sql, row_ids)[0]), notices):
            gathered.append(piece)
            size += len(piece)
            if size > MAX_CHUNK_BYTES // 4:
                yield Chunk(b"".join(gathered), posts, goes_on=posts > 0, posts_read=posts)
                gathered.clear()
                size = posts = 0
        yield Chunk(b"".join(gathered), posts, posts_read=posts, notices=notices)

    def _of_any_size(self, select: str, row_ids: array[int]) -> list[Any]:
        """What *select* gives for each selected post of this list."""
        self._connection.limit(apsw.SQLITE_LIMIT_LENGTH, _LARGEST_VALUE_BYTES)
        try:
            return self._connection.execute(
                f"{select} from ({self._row_ids_sql}) as batch {self._of_source_sql}",
                {**self._parameters, "row_ids": apsw.carray(row_ids)},
            ).fetchall()
        finally:
            self._connection.limit(apsw.SQLITE_LIMIT_LENGTH, MAX_CHUNK_BYTES)


def _stored_post(values: tuple[Any, ...]) -> StoredPost:
    return dict(zip(COLUMNS, values, strict=True))


def quote_identifier(name: str) -> str:
    """The name of a table or index, as SQL takes any name."""
    return '"' + name.replace('"', '""') + '"'
