"""Record batches of Arrow as blocks of bytes, in which they travel from a worker to the writer.

A block is a table of 64-bit integers and behind it the buffers of the columns as Arrow has them, each at a multiple of
64 bytes. The table has the number of rows, the number of columns, and for each column the number of its nulls and
offset and size of three buffers: validity, offsets, values; one that is not there has size 0. Blocks follow each other
at multiples of 64 bytes. `native/arrow_table.c` writes the same.

Source: https://arrow.apache.org/docs/format/Columnar.html
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ALIGNMENT", "batches", "block"]

ALIGNMENT = 64
"""Bytes: what Arrow recommends for buffers."""

_HEAD_NUMBERS = 2
_NUMBERS_A_COLUMN = 7
_NUMBER_BYTES = 8


def block(batch: pa.RecordBatch) -> bytes:
    """A record batch, which is no slice of another, as a block."""
    numbers = [batch.num_rows, batch.num_columns]
    used = _NUMBER_BYTES * (_HEAD_NUMBERS + _NUMBERS_A_COLUMN * batch.num_columns)
    pieces: list[bytes] = []
    for column in batch.columns:
        validity, *others = column.buffers()
        offsets, values = others if len(others) == 2 else (None, *others)
        numbers.append(column.null_count)
        for buffer in (validity if column.null_count else None, offsets, values):
            size = 0 if buffer is None else buffer.size
            begin = _aligned(used) if size else 0
            if buffer is not None and size:
                pieces += [bytes(begin - used), buffer.to_pybytes()]
                used = begin + size
            numbers += [begin, size]
    return b"".join([struct.pack(f"={len(numbers)}q", *numbers), *pieces, bytes(_aligned(used) - used)])


def batches(data: bytes | bytearray | memoryview, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The record batches of blocks, one behind the other; they look at *data*, and copy nothing.

    Args:
        data: Whole blocks, which begin at a multiple of 8 bytes in memory.
        schema: Names and types of the columns.
    """
    import pyarrow as pa

    view = memoryview(data)
    whole = pa.py_buffer(data)
    begin = 0
    while begin < len(view):
        rows, columns = struct.unpack_from("=2q", view, begin)
        table = struct.unpack_from(f"={_NUMBERS_A_COLUMN * columns}q", view, begin + _NUMBER_BYTES * _HEAD_NUMBERS)
        end = _NUMBER_BYTES * (_HEAD_NUMBERS + len(table))
        arrays = []
        for field, first in zip(schema, range(0, len(table), _NUMBERS_A_COLUMN), strict=True):
            nulls, *places = table[first : first + _NUMBERS_A_COLUMN]
            end = max([end, *map(sum, zip(places[::2], places[1::2], strict=True))])
            validity, offsets, values = (
                whole.slice(begin + start, size) for start, size in zip(places[::2], places[1::2], strict=True)
            )
            buffers = [validity if nulls else None, *([offsets] if pa.types.is_string(field.type) else []), values]
            arrays.append(pa.Array.from_buffers(field.type, rows, buffers, nulls))
        yield pa.record_batch(arrays, schema=schema)
        begin += _aligned(end)


def _aligned(place: int) -> int:
    return -(-place // ALIGNMENT) * ALIGNMENT
