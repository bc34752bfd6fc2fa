"""The Parquet format: a table with a type for each column, for programs that analyse posts.

A chunk is one block of columns or several (`arrow_blocks`), which workers make; the writer joins them to row groups,
and encodes one in a thread while it gathers the next. What the type of a column cannot hold stands, as in the JSON, in
the column `originals`.

Source: docs/formats.md, "posts.parquet".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import orjson

from skyexport import json_text, timestamps
from skyexport.extras import require_pyarrow
from skyexport.formats import arrow_blocks
from skyexport.formats.format import Compress, DataFile, FormatMemory
from skyexport.formats.json_posts import JSON, LEFT_OUT_WHEN_EMPTY, usual_json
from skyexport.formats.settings import DEFAULTS, FormatSettings
from skyexport.notices import Notices
from skyexport.posts import COLUMNS, COUNTS, FLAGS, TIMES, StoredPost, StoredValue, as_bytes, count_text, stored_time

if TYPE_CHECKING:
    import pyarrow as pa

from skyexport.formats.parquet_file import ROW_GROUP_BYTES, ParquetFile

__all__ = ["ParquetTable"]

_ORIGINALS = "originals"
"""The column for values that other columns cannot hold: a JSON object, column → value; NULL where they hold everything.
The nanoseconds of indexed_at and archived_at are in it, where an archive has them."""

_COLUMNS = (*COLUMNS, _ORIGINALS)


_USUAL_BYTES = 1 << 16
"""A larger value is not usual: its post is a block of its own."""

_PIECE_BYTES = 1 << 18
"""A large post is passed on in pieces of this many bytes."""


_AROUND_ROW_BYTES = 200
"""About what a post takes in a block beside its texts."""


class ParquetTable:
    """Posts as a table of typed columns."""

    name = "parquet"
    suffix = ".parquet"
    columns: tuple[str, ...] = _COLUMNS
    takes = frozenset({"columns"})
    is_text = False
    encoders = 1
    separator = b""
    bytes_around = 0
    memory = FormatMemory(
        library="pyarrow", library_bytes=20_000_000, used_library_bytes=20_000_000,
        rendering_bytes=25_000_000, rendering_most_bytes=33_000_000,
        gathered_share=3.5, gathered_most_bytes=ROW_GROUP_BYTES.usual,
    )  # fmt: skip

    def __init__(self, settings: FormatSettings = DEFAULTS) -> None:
        self.settings = settings
        self._columns = settings.columns or _COLUMNS
        self._read = tuple(name for name in COLUMNS if name in self._columns or self._may_need_original(name))
        """The columns to read of a post."""

    def _may_need_original(self, name: str) -> bool:
        return _ORIGINALS in self._columns and name in TIMES | COUNTS

    def require(self) -> None:
        """Load pyarrow, and have it give freed memory back.

        Raises:
            MissingExtraError: pyarrow is not installed.
        """
        require_pyarrow("Parquet")
        import pyarrow

        # The pool that it uses by default keeps what was freed.
        pyarrow.set_memory_pool(pyarrow.system_memory_pool())

    def configured(self, settings: FormatSettings) -> Self:
        """With chosen columns."""
        return type(self)(settings)

    def usual(self, values: Sequence[StoredValue], notices: Notices) -> Row | None:
        """See `Format`."""
        del notices
        cells: dict[str, Any] = {}
        originals: dict[str, Any] = {}
        size = 0
        for name, value in zip(COLUMNS, values, strict=True):
            if name not in self._read:
                continue
            if name in TIMES:
                time = stored_time(value)
                if time is None:
                    return None
                cells[name] = _microseconds(time, name, originals)
            elif name in COUNTS:
                if not isinstance(value, int | None):
                    return None
                cells[name] = value or 0
            elif name in FLAGS:
                cells[name] = bool(value)
            else:
                text = _usual_text(value, name)
                if text is None:
                    return None
                cells[name] = None if not text and name in LEFT_OUT_WHEN_EMPTY else text
                size += len(text)
        return self._row(cells, originals, size)

    def _row(self, cells: dict[str, Any], originals: dict[str, Any], size: int) -> Row:
        if _ORIGINALS in self._columns:
            # Times and counts come in the order in which they are read, whatever the order of the columns.
            cells[_ORIGINALS] = orjson.dumps(originals).decode() if originals else None
        return Row(tuple(cells[name] for name in self._columns), size + _AROUND_ROW_BYTES)

    def joined(self, parts: Sequence[Row | bytes]) -> bytes:
        """See `Format`: rows become one block, and bytes are blocks already."""
        blocks: list[bytes] = []
        rows: list[Row] = []
        for part in parts:
            if isinstance(part, Row):
                rows.append(part)
                continue
            if rows:
                blocks.append(self._block(rows))
                rows = []
            blocks.append(part)
        if rows:
            blocks.append(self._block(rows))
        return b"".join(blocks)

    def _block(self, rows: Sequence[Row]) -> bytes:
        return b"".join(self._block_pieces(rows))

    def _block_pieces(self, rows: Sequence[Row]) -> list[bytes | memoryview]:
        kinds = [_kind(name) for name in self._columns]
        return arrow_blocks.block_pieces(kinds, list(zip(*(row.values for row in rows), strict=True)))

    def schema(self) -> pa.Schema:
        import pyarrow as pa

        return pa.schema([pa.field(name, _type(name), nullable=_may_be_null(name)) for name in self._columns])

    def pieces(self, post: StoredPost, notices: Notices) -> Iterator[bytes]:
        """A block of one post."""
        values = _ExactValues(notices, json_text.decode(as_bytes(post["uri"])))
        cells: dict[str, Any] = {}
        originals: dict[str, Any] = {}
        # Values may be large, and what is written is as large again: each is held as long as it is needed.
        left = dict(post)
        del post
        for name in self._read:
            value = left.pop(name)
            if name in TIMES:
                cells[name] = values.time(value, name, originals)
            elif name in COUNTS:
                cells[name] = values.count(value, name, originals)
            elif name in FLAGS:
                cells[name] = bool(value)
            else:
                text = values.json(value, name) if name in JSON else values.text(value, name)
                cells[name] = None if not text and name in LEFT_OUT_WHEN_EMPTY else text
                del text
        rows = [self._row(cells, originals, 0)]
        del value, cells
        data = self._block_pieces(rows)
        del rows
        for piece in data:
            for start in range(0, len(piece), _PIECE_BYTES):
                yield bytes(piece[start : start + _PIECE_BYTES])

    def posts_of(self, data: bytes) -> list[bytes]:
        """A block for each post."""
        return [
            post for block, _ in arrow_blocks.whole_blocks(memoryview(data)) for post in arrow_blocks.single_rows(block)
        ]

    def new_file(self, compress: Compress | None = None) -> DataFile:
        """See `Format`; it is compressed in itself."""
        del compress
        return ParquetFile(self.schema())


def _kind(name: str) -> type:
    return int if name in TIMES | COUNTS else bool if name in FLAGS else str


def _type(name: str) -> pa.DataType:
    import pyarrow as pa

    if name in TIMES:
        return pa.timestamp("us", "UTC")
    return {int: pa.int64(), bool: pa.bool_(), str: pa.string()}[_kind(name)]


def _may_be_null(name: str) -> bool:
    return name in TIMES | COUNTS | LEFT_OUT_WHEN_EMPTY or name == _ORIGINALS


@dataclass(frozen=True, slots=True)
class Row:
    """The values of one post, in the order of the columns; its length is about what it takes in a block."""

    values: tuple[Any, ...]
    bytes: int

    def __len__(self) -> int:
        return self.bytes


def _usual_text(value: StoredValue, name: str) -> str | None:
    """A text, or JSON without white space; None when that is not usual."""
    if value is None or value == b"":
        return ""
    if not isinstance(value, bytes) or len(value) > _USUAL_BYTES:
        return None
    if name in JSON:
        return "null" if value == b"null" else usual_json(value, indented=False)
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def _microseconds(time: timestamps.Timestamp, name: str, originals: dict[str, Any]) -> int | None:
    """An instant in microseconds since 1970; what that loses is kept in *originals*."""
    instant = time.instant_nanoseconds()
    microseconds = instant // 1000
    in_years = timestamps.from_instant(microseconds * 1000) is not None
    if instant % 1000 or time.offset_minutes or not in_years:
        originals[name] = time.rfc3339()
    return microseconds if in_years else None


def _joined(pieces: Iterable[bytes]) -> bytes:
    """All pieces as one; `join` would hold them all first, which takes 30 times the memory where they are small."""
    gathered = bytearray()
    for piece in pieces:
        gathered += piece
    return bytes(gathered)


class _ExactValues:
    """Stored values of one post → those of the columns, whatever is stored. Each method takes (value, column name)."""

    def __init__(self, notices: Notices, uri: str) -> None:
        self._notices = notices
        self._uri = uri

    def time(self, value: StoredValue, name: str, originals: dict[str, Any]) -> int | None:
        """Microseconds; None, and what is stored in *originals*, when that is no time."""
        time = stored_time(value)
        if time is not None:
            return _microseconds(time, name, originals)
        self._note("unreadable_time", name)
        originals[name] = str(value) if isinstance(value, int) else json_text.decode(as_bytes(value))
        return None

    def count(self, value: StoredValue, name: str, originals: dict[str, Any]) -> int | None:
        """An integer, 0 for NULL; None, and what is stored in *originals*, when that is none."""
        number = count_text(value)
        if number is None:
            self._note("unreadable_count", name)
            originals[name] = json_text.decode(as_bytes(value))
        elif isinstance(value, float):
            originals[name] = value
        return value or 0 if isinstance(value, int | None) else None

    def text(self, value: StoredValue, name: str) -> str:
        """Text, with U+FFFD for each byte that is not UTF-8."""
        data = as_bytes(value)
        if not json_text.is_utf8(data):
            self._note("invalid_utf8", name)
        return json_text.decode(data)

    def json(self, value: StoredValue, name: str) -> str:
        """JSON without white space, or the JSON string of what is none; nothing for nothing."""
        data = as_bytes(value)
        if not data:
            return ""
        valid = json_text.is_valid(data)
        if not valid:
            self._note("unreadable_json", name)
        self.text(value, name)
        return _joined(json_text.compact(data) if valid else json_text.quote_pieces(data)).decode()

    def _note(self, kind: str, column: str) -> None:
        self._notices.add(kind, f"{column} of {self._uri}")
