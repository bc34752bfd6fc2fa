"""The memory that an export needs, from its format, its compression, and the size of its archive.

This is the one place that decides how many workers a limit has room for, whether a limit is refused, and which limit
the refusal names. Source: measured, see docs/architecture.md, "Memory".
"""

from __future__ import annotations

import sys

from skyexport.formats.compression import Compression
from skyexport.formats.format import Form
from skyexport.runtime.memory import MemoryNeed

__all__ = ["memory_need"]

_WORKER_BYTES = 36_000_000
"""Memory of a worker before it renders: interpreter, SQLite's cache, and its slots, once all of them are filled."""

_HERE_BYTES = 4_000_000
"""Least memory of the exporting process for the archive and the output."""

_HERE_MOST_BYTES = 14_000_000
"""Most memory for the same: SQLite's cache, and the slots that it writes from."""

_HERE_SHARE = 2.0
"""The same per byte of a small archive."""

_RENDERING_SHARE = 7.0
"""Memory for rendering per byte of a small archive, until chunks have their full size."""

_LISTING_BYTES = 35_000_000
"""Memory for sorting lists of posts and media; larger sorts use temporary files."""

_TABLE_BYTES = 45_000_000
"""Least memory for reading an earlier export in Parquet."""

_TABLE_MOST_BYTES = 125_000_000
"""Most memory for the same: the texts of a row group grow with the archive."""

_ROW_ID_BYTES = 40
"""Memory per post of a batch: a list of row ids, and its message or the memory in which a worker sorts it."""


def memory_need(
    format: Form,
    compression: Compression | None,
    archive_bytes: int,
    *,
    batch_size: int = 1000,
    lists: bool = False,
    reads_table: bool = False,
) -> MemoryNeed:
    """The most memory that an export takes.

    Args:
        format: The export's format.
        compression: How workers compress; None for no compression.
        archive_bytes: Size of the archive: a small one fills neither chunks nor row groups.
        batch_size: Posts in a batch.
        lists: Whether posts or media are listed before they are exported.
        reads_table: Whether posts are compared with the posts of a Parquet file.
    """
    memory = format.memory
    compressing = 0 if compression is None else compression.memory_bytes
    row_ids = _ROW_ID_BYTES * batch_size
    rendering = min(memory.rendering_most_bytes, memory.rendering_bytes + int(_RENDERING_SHARE * archive_bytes))
    here = min(_HERE_MOST_BYTES, _HERE_BYTES + int(_HERE_SHARE * archive_bytes)) + row_ids
    here += int(memory.gathered_share * min(archive_bytes, memory.gathered_most_bytes))
    if lists:
        here += _LISTING_BYTES
    if reads_table:
        here += min(_TABLE_MOST_BYTES, _TABLE_BYTES + int(_HERE_SHARE * archive_bytes))
    here += memory.used_library_bytes + (0 if memory.library in sys.modules else memory.library_bytes)
    return MemoryNeed(
        here_bytes=here,
        rendering_bytes=rendering + compressing,
        worker_bytes=_WORKER_BYTES + rendering + compressing + row_ids,
    )
