"""Posts as an archive stores them: their columns, and the values of these."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import apsw

from skyexport import json_text, timestamps
from skyexport.errors import MemoryLimitError
from skyexport.wording import format_size

__all__ = [
    "COLUMNS",
    "COUNTS",
    "FLAGS",
    "MAX_CHUNK_BYTES",
    "TIMES",
    "LargePost",
    "StoredPost",
    "StoredValue",
    "add_function",
    "as_bytes",
    "count_text",
    "quote_identifier",
    "stored_bytes_sql",
    "stored_time",
    "stored_value_sql",
    "usual_time",
    "usual_time_seconds",
    "utc_time",
]

COLUMNS = (
    "uri",
    "cid",
    "did",
    "text",
    "created_at",
    "indexed_at",
    "has_media",
    "like_count",
    "repost_count",
    "reply_count",
    "quote_count",
    "is_reply",
    "reply_parent",
    "embed_type",
    "embed_data",
    "labels",
    "archived_at",
)
"""The columns of `posts`, in the order in which the JSON has them."""

FLAGS = frozenset({"has_media", "is_reply"})
"""The columns that hold booleans."""

COUNTS = frozenset({"like_count", "repost_count", "reply_count", "quote_count"})
"""The columns that hold numbers."""

TIMES = frozenset({"created_at", "indexed_at", "archived_at"})
"""The columns that hold times."""


StoredValue = bytes | int | float | None
"""A value as `stored_value_sql` reads it: text as its stored bytes, counts and integer times as numbers."""


StoredPost = Mapping[str, StoredValue]
"""One post, column → value; a flag is 0 or 1."""

MAX_CHUNK_BYTES = 4_000_000
"""Size of a chunk at most, before compression: a batch of 1,000 posts takes about 1.1 MB as JSON."""

_LONGEST_URI_BYTES = 1000
"""Enough for any uri of Bluesky; a post with a longer one is called by its row id."""


def as_bytes(value: StoredValue) -> bytes:
    """A stored value as the bytes that SQLite's `cast(… as blob)` gives (infinity is `Inf`); NULL as none."""
    if value is None:
        return b""
    if isinstance(value, float) and math.isinf(value):
        return b"Inf" if value > 0 else b"-Inf"
    return value if isinstance(value, bytes) else str(value).encode()


def stored_value_sql(columns: Mapping[str, str], name: str) -> str:
    """SQL for a `StoredValue`: numbers as such where a format reads them, and else the bytes that SQLite shows."""
    column = columns[name]
    if name in FLAGS:
        return f"iif({column}, 1, 0)"
    if name in COUNTS:
        return f"iif(typeof({column}) in ('integer', 'real'), {column}, cast({column} as blob))"
    if name in TIMES:
        return f"iif(typeof({column}) = 'integer', {column}, cast({column} as blob))"
    return f"cast({column} as blob)"


def count_text(value: StoredValue) -> str | None:
    """A stored number as text, 0 for NULL; None for what is no finite number."""
    if value is None:
        return "0"
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return repr(value)
    return None


def stored_time(value: StoredValue) -> timestamps.Timestamp | None:
    """The time that a stored value is, None if it is not a time."""
    return timestamps.parse(value if isinstance(value, int) else json_text.decode(as_bytes(value)))


def usual_time(value: StoredValue) -> str | None:
    """RFC 3339 for a time in a readable spelling, and None for any other."""
    if isinstance(value, bytes):
        usual = timestamps.usual_rfc3339(value)
        if usual is not None:
            return usual
    timestamp = stored_time(value)
    return None if timestamp is None else timestamp.rfc3339()


def utc_time(stored: StoredValue) -> str | None:
    """A stored time in UTC, as RFC 3339 without the `Z`, which sorts by time; None if it is not readable."""
    if isinstance(stored, bytes):
        usual = timestamps.usual_rfc3339(stored)
        if usual is not None:
            return usual[:-1]
    stamp = stored_time(stored)
    if stamp is not None and stamp.offset_minutes:
        stamp = timestamps.from_instant(stamp.instant_nanoseconds())
    return None if stamp is None else stamp.rfc3339()[:-1]


def usual_time_seconds(value: StoredValue) -> str | None:
    """The same to the second, the fraction cut off."""
    if isinstance(value, bytes):
        usual = timestamps.usual_rfc3339_seconds(value)
        if usual is not None:
            return usual
    timestamp = stored_time(value)
    return None if timestamp is None else timestamp.rfc3339_seconds()


def add_function(connection: apsw.Connection, name: str, function: Callable[..., str | bool]) -> None:
    """Make a Python function of one value callable from SQL; the same value gives the same result."""
    connection.create_scalar_function(name, function, 1, deterministic=True)


@dataclass(frozen=True, slots=True)
class LargePost:
    """A post that is larger than a chunk, so that rendering it takes several times its size in memory."""

    URI_SQL: ClassVar[str] = f"iif(octet_length(uri) <= {_LONGEST_URI_BYTES}, cast(uri as blob), null)"
    """SQL for the uri of a post, NULL where it is too long to be named."""

    label: str
    """Its uri, or what stands for that."""
    stored_bytes: int
    """Of all columns that are read."""

    @classmethod
    def of(cls, row_id: int, uri: StoredValue, stored_bytes: int) -> LargePost:
        """The post of that row id, for which `URI_SQL` gave *uri*."""
        label = f"the post with row id {row_id}" if uri is None else json_text.decode(as_bytes(uri))
        return cls(label, stored_bytes)

    @property
    def needed_bytes(self) -> int:
        """The least memory to read it: SQLite holds it once, and Python once."""
        return 2 * self.stored_bytes

    def beyond_memory(self, why: str) -> MemoryLimitError:
        """The error that *why* ends the export, with this post."""
        return MemoryLimitError(
            f"{why}, with a post of {format_size(self.stored_bytes)}: {self.label}",
            "allow more with --memory-limit, if there is more",
        )


def stored_bytes_sql(columns: Mapping[str, str]) -> str:
    """SQL for the bytes of all columns of a post that are read."""
    return " + ".join(f"ifnull(octet_length({columns[name]}), 0)" for name in COLUMNS)


def quote_identifier(name: str) -> str:
    """The name of a table or index, as SQL takes any name."""
    return '"' + name.replace('"', '""') + '"'
