"""Posts as blocks of columns, in which they travel from a worker to the writer, and columns that are joined from them.

A block is a table of 64-bit integers and behind it the parts of the columns, each at a multiple of 64 bytes. The table
has the number of rows, the number of columns, the most bytes that one row has in its texts, and for each column begin
and size of three parts:

- validity: a byte a row, 1 where there is a value; size 0 if there is one in all rows;
- lengths: of texts, a 32-bit integer a row; size 0 for other columns;
- values: the bytes of all texts; 64-bit integers; or a byte a row, 0 or 1.

So blocks are joined by joining their parts, and what Arrow has instead (bits, offsets) is made once of many blocks. A
block as a whole has a multiple of 64 bytes, and a chunk is one block or several. `native/arrow_table.c` writes the
same.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Block", "Rows", "block_pieces", "single_rows", "whole_blocks"]

_ALIGNMENT = 64

_HEAD = struct.Struct("=3q")
_PARTS = 3
_NUMBERS_A_COLUMN = 2 * _PARTS
_SPARE_BYTES = 1 << 20
"""Of the memory of a column that was emptied."""


Parts: TypeAlias = "tuple[bytes | memoryview, bytes | memoryview, bytes | memoryview]"
"""Validity, lengths and values of a column."""


@dataclass(frozen=True, slots=True)
class Block:
    """The columns of some rows; it looks at the memory that it was read from."""

    rows: int
    most_text_bytes: int
    """Of one row, in all of its texts."""
    columns: list[tuple[memoryview, memoryview, memoryview]]
    """Validity, lengths, values."""

    @property
    def text_bytes(self) -> int:
        """Of all rows, in all texts."""
        return sum(len(values) for _, lengths, values in self.columns if lengths)

    def row_text_bytes(self) -> list[int]:
        """Of each row, in all texts."""
        lengths = [array("i", lengths.tobytes()) for _, lengths, _ in self.columns if lengths]
        return [sum(row) for row in zip(*lengths, strict=True)] if lengths else [0] * self.rows


def block_pieces(kinds: Sequence[type], columns: Sequence[Sequence[Any]]) -> list[bytes | memoryview]:
    """Columns of one or more rows as a block in pieces: one that is large is not in memory twice.

    Args:
        kinds: What the values of each column are: `str`, `int` or `bool`.
        columns: The values of each; None for null.
    """
    parts: list[Parts] = []
    sizes: list[array[int]] = []
    for kind, values in zip(kinds, columns, strict=True):
        validity = bytes(value is not None for value in values) if None in values else b""
        if kind is int:
            parts.append((validity, b"", array("q", (value or 0 for value in values)).tobytes()))
        elif kind is bool:
            parts.append((validity, b"", bytes(values)))
        else:
            texts = [(value or "").encode() for value in values]
            sizes.append(array("i", map(len, texts)))
            parts.append((validity, sizes[-1].tobytes(), b"".join(texts)))
    most = max(map(sum, zip(*sizes, strict=True))) if sizes else 0
    return _packed(len(columns[0]), most, parts)


def single_rows(block: Block) -> Iterator[bytes]:
    """Each row as a block of its own."""
    sizes = block.row_text_bytes()
    begins = [0] * len(block.columns)
    """Where the next text of each column begins."""
    for row in range(block.rows):
        parts: list[Parts] = []
        for place, (validity, lengths, values) in enumerate(block.columns):
            begin, size = begins[place], len(values) // block.rows
            if lengths:
                size = array("i", lengths[4 * row : 4 * row + 4].tobytes())[0]
                begins[place] += size
            else:
                begin = row * size
            is_null = bool(validity) and not validity[row]
            parts.append((b"\0" if is_null else b"", lengths[4 * row : 4 * row + 4], values[begin : begin + size]))
        yield b"".join(_packed(1, sizes[row], parts))


def _packed(rows: int, most_text_bytes: int, columns: Sequence[Parts]) -> list[bytes | memoryview]:
    used = _HEAD.size + 8 * _NUMBERS_A_COLUMN * len(columns)
    numbers: list[int] = []
    pieces: list[bytes | memoryview] = []
    for part in chain.from_iterable(columns):
        begin = _aligned(used) if part else 0
        numbers += [begin, len(part)]
        if part:
            pieces += [bytes(begin - used), part]
            used = begin + len(part)
    head = _HEAD.pack(rows, len(columns), most_text_bytes) + array("q", numbers).tobytes()
    return [head, *pieces, bytes(_aligned(used) - used)]


def whole_blocks(data: memoryview) -> Iterator[tuple[Block, int]]:
    """The blocks at the beginning of *data* that are all there, each with where it ends."""
    begin = 0
    while len(data) - begin >= _HEAD.size:
        rows, columns, most = _HEAD.unpack_from(data, begin)
        table_end = begin + _HEAD.size + 8 * _NUMBERS_A_COLUMN * columns
        if table_end > len(data):
            return
        numbers = array("q", data[begin + _HEAD.size : table_end].tobytes())
        places = list(zip(numbers[::2], numbers[1::2], strict=True))
        end = begin + _aligned(max([table_end - begin, *(start + size for start, size in places)]))
        if end > len(data):
            return
        parts = [data[begin + start : begin + start + size] for start, size in places]
        yield Block(rows, most, list(zip(*[iter(parts)] * _PARTS, strict=True))), end
        begin = end


class Rows:
    """Rows that are joined from blocks, in memory that is used again.

    Args:
        schema: Names and types of the columns.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._columns = [[_Bytes() for _ in range(_PARTS)] for _ in schema]
        self.count = 0

    def add(self, block: Block, start: int = 0, stop: int | None = None) -> None:
        """Add the rows of *block* from *start* to before *stop*."""
        stop = block.rows if stop is None else stop
        for parts, (validity, lengths, values) in zip(self._columns, block.columns, strict=True):
            known, sizes, contents = parts
            known.add(validity[start:stop] if validity else b"\1" * (stop - start))
            if not lengths:
                width = len(values) // block.rows
                contents.add(values[start * width : stop * width])
                continue
            sizes.add(lengths[4 * start : 4 * stop])
            if stop - start < block.rows:
                before, these = (
                    sum(array("i", lengths[4 * a : 4 * b].tobytes())) for a, b in ((0, start), (start, stop))
                )
                values = values[before : before + these]
            contents.add(values)
        self.count += stop - start

    def record_batch(self) -> pa.RecordBatch:
        """All rows; it looks at their memory, and must be gone before more are added."""
        import pyarrow as pa

        columns = zip(self._schema, self._columns, strict=True)
        arrays = [self._array(field, *parts) for field, parts in columns]
        return pa.record_batch(arrays, schema=self._schema)

    def _array(self, field: pa.Field, validity: _Bytes, lengths: _Bytes, values: _Bytes) -> pa.Array:
        import pyarrow as pa
        import pyarrow.compute as pc

        def bits(flags: _Bytes) -> pa.Buffer:
            numbers = pa.Array.from_buffers(pa.uint8(), self.count, [None, flags.buffer()])
            return pc.cast(numbers, pa.bool_()).buffers()[1]

        nulls = validity.count(0)
        buffers = [bits(validity) if nulls else None]
        if pa.types.is_string(field.type):
            sizes = pa.Array.from_buffers(pa.int32(), self.count, [None, lengths.buffer()])
            ends = pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(sizes)])
            buffers += [ends.buffers()[1], values.buffer()]
        else:
            buffers += [bits(values) if pa.types.is_boolean(field.type) else values.buffer()]
        return pa.Array.from_buffers(field.type, self.count, buffers, nulls)

    def clear(self) -> None:
        """Have no rows any more."""
        for parts in self._columns:
            for part in parts:
                part.clear()
        self.count = 0


class _Bytes:
    """Bytes that are gathered, in memory that is kept."""

    def __init__(self) -> None:
        self._memory = bytearray()
        self._used = 0

    def add(self, data: memoryview | bytes) -> None:
        end = self._used + len(data)
        if end > len(self._memory):
            self._memory.extend(bytes(max(end, len(self._memory) * 5 // 4) - len(self._memory)))
        self._memory[self._used : end] = data
        self._used = end

    def count(self, byte: int) -> int:
        return self._memory.count(byte, 0, self._used)

    def buffer(self) -> pa.Buffer:
        import pyarrow as pa

        return pa.py_buffer(memoryview(self._memory)[: self._used])

    def clear(self) -> None:
        """Keep the memory, unless it is far more than there was use for."""
        if len(self._memory) > 2 * self._used + _SPARE_BYTES:
            self._memory = bytearray()
        self._used = 0


def _aligned(place: int) -> int:
    return -(-place // _ALIGNMENT) * _ALIGNMENT
