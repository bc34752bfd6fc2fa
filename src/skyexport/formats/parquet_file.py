"""A Parquet file as it is written: row groups from blocks of columns."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from skyexport.formats import arrow_blocks
from skyexport.runtime.background import Background
from skyexport.runtime.cleanup import Call
from skyexport.runtime.for_tests import Limit

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ROW_GROUP_BYTES", "ParquetFile"]

_ROW_GROUP_POSTS = Limit("ROW_GROUP_POSTS", 1 << 14)
"""About 14 MB while they are gathered. Twice as many took more time, too: docs/performance.md, "Parquet"."""

ROW_GROUP_BYTES = Limit("ROW_GROUP_BYTES", 14_000_000)
"""Of texts and embeds: where posts are larger than usual, a row group has fewer of them."""

_LARGE_POST_BYTES = 8192
"""A post from this size on counts three times: pages and row groups of such take several times as much memory."""

_FEW_VALUES = ("did", "embed_type", "labels")
"""Columns that often have the same value again: they get a dictionary."""

_RANGED = ("uri", "did", "created_at", "indexed_at", "like_count", "repost_count", "reply_count", "quote_count")
"""Columns of which the least and the greatest value of a row group are worth knowing."""

_PAGE_POSTS = 64
"""Between looks whether a page is full: with the usual 1,024 a page of large embeds has a hundred megabytes."""

_LEVELS = {"text": 3, "embed_data": 3, "created_at": 3}
"""Levels of Zstandard, its own default; other columns have level 1, which makes them no larger, or hardly, in less than
half the time: identifiers have nothing to find. docs/performance.md, "Parquet"."""


class ParquetFile:
    """Gathers blocks to row groups, whose boundaries depend on the posts only."""

    def __init__(self, schema: pa.Schema) -> None:
        import pyarrow.parquet as pq

        self._sink = _Sink()
        self._schema = schema
        names = frozenset(schema.names)
        self._writer = pq.ParquetWriter(
            self._sink, schema, compression="zstd", write_batch_size=_PAGE_POSTS,
            compression_level={name: _LEVELS.get(name, 1) for name in schema.names},
            use_dictionary=[name for name in _FEW_VALUES if name in names],
            write_statistics=[name for name in _RANGED if name in names],
        )  # fmt: skip
        self._most_posts, self._most_bytes = _ROW_GROUP_POSTS.value, ROW_GROUP_BYTES.value
        self._encoder = Background(1)
        self._encoding: Call[None] | None = None
        """The row group before the one that is gathered."""
        self._gathered, self._other = arrow_blocks.Rows(schema), arrow_blocks.Rows(schema)
        """The row group that grows, and the one that is encoded, or empty."""
        self._row_group_bytes = 0
        """Of the texts that were gathered, as they count."""
        self._unfinished = bytearray()
        """A block of which more will come."""

    def add(self, data: bytes | memoryview, posts: int) -> Iterator[bytes]:
        """See `DataFile`."""
        del posts
        if self._unfinished:
            self._unfinished += data
        with memoryview(self._unfinished or data) as view:
            done = 0
            for block, end in arrow_blocks.whole_blocks(view):
                yield from self._add(block)
                done = end
            if done or not self._unfinished:
                self._unfinished = bytearray(view[done:])

    def finish(self) -> Iterator[bytes]:
        """See `DataFile`."""
        assert not self._unfinished
        yield from self._encode_row_group()
        yield from self._encoded()
        self._encoder.end()
        self._writer.close()
        yield from self._sink.drained()

    def _add(self, block: arrow_blocks.Block) -> Iterator[bytes]:
        gathered = self._gathered
        if (
            block.most_text_bytes < _LARGE_POST_BYTES
            and gathered.count + block.rows <= self._most_posts
            and self._row_group_bytes + block.text_bytes <= self._most_bytes
        ):
            gathered.add(block)
            self._row_group_bytes += block.text_bytes
            return
        start = 0
        for row, size in enumerate(block.row_text_bytes()):
            counted = size if size < _LARGE_POST_BYTES else 3 * size
            posts = self._gathered.count + row - start
            if posts == self._most_posts or (posts and self._row_group_bytes + counted > self._most_bytes):
                self._gathered.add(block, start, row)
                start = row
                yield from self._encode_row_group()
            self._row_group_bytes += counted
        self._gathered.add(block, start)

    def _encode_row_group(self) -> Iterator[bytes]:
        """Begin to encode what was gathered, once the row group before is encoded, which is given."""
        yield from self._encoded()
        if self._gathered.count:
            self._encoding = self._encoder.begin(partial(self._write, self._gathered))
            self._gathered, self._other = self._other, self._gathered
            self._row_group_bytes = 0

    def _encoded(self) -> Iterator[bytes]:
        """Wait for the row group that is being encoded."""
        if self._encoding is not None:
            self._encoding.result()
            self._encoding = None
            yield from self._sink.drained()

    def _write(self, rows: arrow_blocks.Rows) -> None:
        self._writer.write_batch(rows.record_batch(), row_group_size=self._most_posts)
        rows.clear()


class _Sink(io.RawIOBase):
    """Takes what is written to a file, until it is asked for it."""

    def __init__(self) -> None:
        self._written: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._size

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self._written.append(piece)
        self._size += len(piece)
        return len(piece)

    def drained(self) -> Iterator[bytes]:
        """All that was written since the last time."""
        written, self._written = self._written, []
        yield from written
