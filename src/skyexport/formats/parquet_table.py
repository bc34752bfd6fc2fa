"""The Parquet format: a table with a type for each column, for programs that analyse posts.

A chunk is a stream of Arrow record batches, which a worker makes; the writer gathers them to row groups. What the type
of a column cannot hold stands, as in the JSON, in the column `originals`.

Source: docs/formats.md, "posts.parquet"; https://arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import apsw
import orjson

from skyexport import json_text, timestamps
from skyexport.extras import require_pyarrow
from skyexport.format_settings import USUAL, FormatSettings
from skyexport.formats.base import (
    COLUMNS,
    COUNTS,
    FLAGS,
    TIMES,
    Compress,
    DataFile,
    FormatMemory,
    StoredPost,
    StoredValue,
    add_count,
    as_bytes,
    count_sql,
    count_text,
    stored_time,
    time_sql,
)
from skyexport.formats.json_posts import JSON, LEFT_OUT_WHEN_EMPTY, add_json, add_time, json_sql
from skyexport.notices import Notices

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ParquetTable"]

_ORIGINALS = "originals"
"""The column for values that other columns cannot hold: a JSON object, column → value; NULL where they hold everything.
The nanoseconds of indexed_at and archived_at are in it, where an archive has them."""

_COLUMNS = (*COLUMNS, _ORIGINALS)

_BETWEEN = b"\x1e"
"""Stands between the values of a column. A text that has it itself is noticed by their number."""

_ROW_GROUP_POSTS = 1 << 16
"""As many as programs like to read at once; about 50 MB while they are gathered."""

_ROW_GROUP_BYTES = 56_000_000
"""Of texts and embeds: where posts are larger than usual, a row group has fewer of them."""

_LARGE_POST_BYTES = 8192
"""A post from this size on counts three times: pages and row groups of such take several times as much memory."""

_PIECE_BYTES = 1 << 18
"""A large post is passed on in pieces of this many bytes."""

_USUAL_TIME_BYTES = len("2024-05-22T18:57:38.254123Z")
"""A time in UTC that is longer has parts of a microsecond."""

_FEW_VALUES = ("did", "embed_type", "labels")
"""Columns that often have the same value again: they get a dictionary."""

_RANGED = ("uri", "did", "created_at", "indexed_at", "like_count", "repost_count", "reply_count", "quote_count")
"""Columns of which the least and the greatest value of a row group are worth knowing."""

_PAGE_POSTS = 64
"""Between looks whether a page is full: with the usual 1,024 a page of large embeds has a hundred megabytes."""

_LEVEL = 3
"""Of Zstandard: its own default."""


class ParquetTable:
    """Posts as a table of typed columns."""

    name = "parquet"
    suffix = ".parquet"
    columns: tuple[str, ...] = _COLUMNS
    takes = frozenset({"columns"})
    is_text = False
    separator = b""
    bytes_around = 0
    memory = FormatMemory(
        library="pyarrow", library_bytes=20_000_000, used_library_bytes=20_000_000,
        rendering_bytes=25_000_000, rendering_most_bytes=33_000_000,
        gathered_share=3.5, gathered_most_bytes=_ROW_GROUP_BYTES,
    )  # fmt: skip

    def __init__(self, settings: FormatSettings = USUAL) -> None:
        self._columns = settings.columns or _COLUMNS
        self._read = [name for name in COLUMNS if name in self._columns or self._may_need_original(name)]
        """The columns to read of a post."""

    def _may_need_original(self, name: str) -> bool:
        return _ORIGINALS in self._columns and name in TIMES | COUNTS

    def configured(self, settings: FormatSettings) -> Self:
        """With chosen columns.

        Raises:
            MissingExtraError: pyarrow is not installed.
        """
        require_pyarrow("Parquet")
        import pyarrow

        # The pool that it usually takes keeps what was freed.
        pyarrow.set_memory_pool(pyarrow.system_memory_pool())
        return type(self)(settings)

    def aggregates(self, columns: Mapping[str, str]) -> tuple[str, ...]:
        """The values of a column, one behind the other, for each that must be read."""
        return tuple(f"string_agg({_value_sql(columns, name)}, '{_BETWEEN.decode()}')" for name in self._read)

    def register(self, connection: apsw.Connection) -> None:
        """Add the functions for counts, times and JSON."""
        add_count(connection)
        add_time(connection, "")
        add_json(connection, lambda data, _: json_text.compact(data))

    def finished(self, posts: int, values: Sequence[bytes | None], _: Notices, /) -> bytes | None:
        """A record batch as a stream of its own; None when a text is not UTF-8, or has in it what stands between."""
        import pyarrow as pa

        read: dict[str, Sequence[bytes | None]] = {}
        for name, joined in zip(self._read, values, strict=True):
            if joined is None:
                return None
            if name in JSON and not joined.isascii():
                joined = json_text.escape_line_separators(joined)
            values_of_posts = joined.split(_BETWEEN)
            if len(values_of_posts) != posts:
                return None
            read[name] = values_of_posts
        try:
            return bytes(self._stream(read, [{} for _ in range(posts)]))
        except pa.ArrowInvalid:
            return None

    def _stream(self, read: dict[str, Sequence[bytes | None]], originals: list[dict[str, Any]]) -> pa.Buffer:
        """A record batch of these values, as the JSON has them, but for quotes; None for values that cannot be read.

        It takes them out of *read*, since they may be large.

        Raises:
            pyarrow.ArrowInvalid: A value is not what it must be.
        """
        import pyarrow as pa

        arrays: dict[str, pa.Array] = {}
        for name in self._read:
            values = read.pop(name)
            if name in TIMES:
                arrays[name] = _times(name, values, originals)
            elif name in COUNTS:
                arrays[name] = _counts(name, values, originals)
            elif name in FLAGS:
                arrays[name] = pa.array([value == b"true" for value in values], pa.bool_())
            elif name in LEFT_OUT_WHEN_EMPTY:
                arrays[name] = pa.array([value or None for value in values], pa.string())
            else:
                arrays[name] = pa.array(values, pa.string())
        if _ORIGINALS in self._columns:
            # Times and counts come in the order in which they are read, whatever the order of the columns.
            kept = [orjson.dumps(one) if one else None for one in originals]
            arrays[_ORIGINALS] = pa.array(kept, pa.string())
        return _written(pa.record_batch([arrays[name] for name in self._columns], schema=self._schema()))

    def _schema(self) -> pa.Schema:
        import pyarrow as pa

        return pa.schema([pa.field(name, _type(name), nullable=_may_be_null(name)) for name in self._columns])

    def pieces(self, post: StoredPost, notices: Notices) -> Iterator[bytes]:
        """A record batch of one post."""
        values = _ExactValues(notices, json_text.decode(as_bytes(post["uri"])))
        read: dict[str, Sequence[bytes | None]] = {}
        originals: dict[str, Any] = {}
        for name in self._read:
            value = post[name]
            if name in TIMES:
                read[name] = [values.time(value, name, originals)]
            elif name in COUNTS:
                read[name] = [values.count(value, name, originals)]
            elif name in FLAGS:
                read[name] = [b"true" if value else b"false"]
            elif name in JSON:
                read[name] = [values.json(value, name)]
            else:
                read[name] = [values.text(value, name)]
        del post, value  # They may be large, and what is written is as large again.
        data = memoryview(self._stream(read, [originals]))
        for start in range(0, len(data), _PIECE_BYTES):
            yield bytes(data[start : start + _PIECE_BYTES])

    def posts_of(self, data: bytes) -> list[bytes]:
        """A record batch for each post."""
        return [bytes(_written(batch.slice(row, 1))) for batch in _batches(data) for row in range(batch.num_rows)]

    def new_file(self, compress: Compress | None = None) -> DataFile:
        """See `Format`; it is compressed in itself."""
        del compress
        return _ParquetFile(self._schema())


def _type(name: str) -> pa.DataType:
    import pyarrow as pa

    if name in TIMES:
        return pa.timestamp("us", "UTC")
    return pa.int64() if name in COUNTS else pa.bool_() if name in FLAGS else pa.string()


def _may_be_null(name: str) -> bool:
    return name in TIMES | COUNTS | LEFT_OUT_WHEN_EMPTY or name == _ORIGINALS


def _value_sql(columns: Mapping[str, str], name: str) -> str:
    column = columns[name]
    if name in TIMES:
        return time_sql(columns, name, timestamps.rfc3339_sql, "sky_json_time")
    if name in COUNTS:
        return count_sql(columns, name)
    if name in FLAGS:
        return f"iif({column}, 'true', 'false')"
    if name in JSON:
        return f"iif(octet_length({column}) > 0, {json_sql(columns, name, 'json({})')}, '')"
    return f"cast(ifnull({column}, '') as text)"


def _times(name: str, values: Sequence[bytes | None], originals: list[dict[str, Any]]) -> pa.Array:
    """Times in RFC 3339 as instants; what that loses is kept in *originals*."""
    import pyarrow as pa

    texts = list(values)
    for row, text in enumerate(texts):
        if text is not None and (len(text) > _USUAL_TIME_BYTES or not text.endswith(b"Z")):
            originals[row][name] = text.decode()
            in_utc = text.endswith(b"Z")
            texts[row] = text[: _USUAL_TIME_BYTES - 1] + b"Z" if in_utc else _to_the_microsecond(text.decode())
    return pa.array(texts, pa.string()).cast(pa.timestamp("us", "UTC"))


def _to_the_microsecond(text: str) -> bytes | None:
    """The same instant in UTC, cut to the microsecond; None where no year has four digits for it."""
    stamp = timestamps.parse(text)
    instant = None if stamp is None else stamp.instant_nanoseconds()
    cut = None if instant is None else timestamps.from_instant(instant - instant % 1000)
    return None if cut is None else cut.rfc3339().encode()


def _counts(name: str, values: Sequence[bytes | None], originals: list[dict[str, Any]]) -> pa.Array:
    """Numbers as integers; others are kept in *originals*."""
    import pyarrow as pa

    with contextlib.suppress(pa.ArrowInvalid):
        return pa.array(values, pa.string()).cast(pa.int64())
    integers = list(values)
    for row, text in enumerate(integers):
        if text is not None and not text.removeprefix(b"-").isdigit():
            originals[row][name] = float(text)
            integers[row] = None
    return pa.array(integers, pa.string()).cast(pa.int64())


def _written(batch: pa.RecordBatch) -> pa.Buffer:
    """A record batch as a stream."""
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return sink.getvalue()


def _batches(data: bytes | bytearray) -> Iterator[pa.RecordBatch]:
    """The record batches of a chunk."""
    import pyarrow as pa

    source = pa.BufferReader(data)
    while source.tell() < source.size():
        with pa.ipc.open_stream(source) as stream:
            yield from stream


def _joined(pieces: Iterable[bytes]) -> bytes:
    """All pieces as one; `join` would hold them all first, which takes 30 times the memory where they are small."""
    gathered = bytearray()
    for piece in pieces:
        gathered += piece
    return bytes(gathered)


class _ExactValues:
    """Stored values of one post → what `_stream` takes, whatever is stored. Each method takes (value, column name)."""

    def __init__(self, notices: Notices, uri: str) -> None:
        self._notices = notices
        self._uri = uri

    def time(self, value: StoredValue, name: str, originals: dict[str, Any]) -> bytes | None:
        """RFC 3339; None, and what is stored in *originals*, when that is no time."""
        timestamp = stored_time(value)
        if timestamp is None:
            self._note("unreadable_time", name)
            originals[name] = str(value) if isinstance(value, int) else json_text.decode(as_bytes(value))
            return None
        return timestamp.rfc3339().encode()

    def count(self, value: StoredValue, name: str, originals: dict[str, Any]) -> bytes | None:
        """A number, 0 for NULL; None, and what is stored in *originals*, when that is no finite number."""
        number = count_text(value)
        if number is None:
            self._note("unreadable_count", name)
            originals[name] = json_text.decode(as_bytes(value))
            return None
        return number.encode()

    def text(self, value: StoredValue, name: str) -> bytes:
        """Valid UTF-8."""
        data = as_bytes(value)
        if json_text.is_utf8(data):
            return data
        self._note("invalid_utf8", name)
        return json_text.decode(data).encode()

    def json(self, value: StoredValue, name: str) -> bytes:
        """JSON without white space, or the JSON string of what is none; nothing for nothing."""
        data = as_bytes(value)
        if not data:
            return b""
        if not json_text.is_valid(data):
            self._note("unreadable_json", name)
            self.text(value, name)
            return _joined(json_text.quote_pieces(data))
        self.text(value, name)
        return _joined(json_text.compact(data))

    def _note(self, kind: str, column: str) -> None:
        self._notices.add(kind, f"{column} of {self._uri}")


class _ParquetFile:
    """Gathers record batches to row groups, whose boundaries depend on the posts only."""

    def __init__(self, schema: pa.Schema) -> None:
        import pyarrow.parquet as pq

        self._sink = _Sink()
        self._schema = schema
        names = frozenset(schema.names)
        self._writer = pq.ParquetWriter(
            self._sink, schema, compression="zstd", compression_level=_LEVEL, write_batch_size=_PAGE_POSTS,
            use_dictionary=[name for name in _FEW_VALUES if name in names],
            write_statistics=[name for name in _RANGED if name in names],
        )  # fmt: skip
        self._chunk = bytearray()
        """The last one, of which more may come."""
        self._gathered: list[pa.RecordBatch] = []
        self._posts = 0
        """Of a row group, so far."""
        self._bytes = 0

    def add(self, data: bytes | memoryview, posts: int) -> Iterator[bytes]:
        """See `DataFile`."""
        if posts:
            yield from self._take_chunk()
        self._chunk += data

    def finish(self) -> Iterator[bytes]:
        """See `DataFile`."""
        yield from self._take_chunk()
        self._write_row_group()
        self._writer.close()
        yield from self._sink.drained()

    def _take_chunk(self) -> Iterator[bytes]:
        """Add the posts of the chunk that is complete now."""
        for batch in _batches(self._chunk):
            start = 0
            sizes = _text_bytes(batch)
            for row, size in enumerate(sizes):
                full = self._posts == _ROW_GROUP_POSTS or (self._posts and self._bytes + size > _ROW_GROUP_BYTES)
                if full:
                    self._gathered.append(batch.slice(start, row - start))
                    start = row
                    self._write_row_group()
                    yield from self._sink.drained()
                self._posts += 1
                self._bytes += size
            self._gathered.append(batch.slice(start))
        # Record batches still look at it: a new one, instead of none in it.
        self._chunk = bytearray()

    def _write_row_group(self) -> None:
        import pyarrow as pa

        if self._posts:
            # Where pages end depends on the pieces that a column comes in: let it be one.
            table = pa.Table.from_batches(self._gathered, self._schema).combine_chunks()
            self._gathered.clear()
            self._writer.write_table(table, row_group_size=_ROW_GROUP_POSTS)
            self._posts = self._bytes = 0


def _text_bytes(batch: pa.RecordBatch) -> list[int]:
    """How many bytes each post has in its texts, as they count for a row group."""
    import pyarrow as pa
    import pyarrow.compute as pc

    sizes = pa.array([0] * batch.num_rows, pa.int32())
    for column in batch.columns:
        if column.type == pa.string():
            sizes = pc.add(sizes, pc.fill_null(pc.binary_length(column), 0))
    return [size if size < _LARGE_POST_BYTES else 3 * size for size in sizes.to_pylist()]


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
