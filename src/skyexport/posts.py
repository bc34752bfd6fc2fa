"""Posts as an archive stores them: their columns, and the values of these."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import apsw

from skyexport import json_text, timestamps

__all__ = [
    "COLUMNS",
    "COUNTS",
    "FLAGS",
    "TIMES",
    "StoredPost",
    "StoredValue",
    "add_function",
    "as_bytes",
    "count_text",
    "stored_time",
    "stored_value_sql",
    "usual_time",
    "usual_time_seconds",
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
