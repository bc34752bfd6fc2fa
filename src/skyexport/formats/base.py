"""What a format is: how a file begins, goes on and ends, and the SQL expression of one post.

A format renders posts in three ways, which give the same bytes:

- *fast*: one SQL expression of SQLite's own functions; nearly every batch goes this way;
- *exact*: the same expression with Python functions in the places where stored text goes in; they take anything;
- *pieces*: a generator over one post that is too large to hold in memory several times.

Columns of `posts` appear in the SQL under their own names. Values that are not text go to Python functions as BLOB,
since stored text need not be valid UTF-8.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import apsw

from skyexport.notices import Notices

__all__ = [
    "COLUMNS",
    "COUNTS",
    "FLAGS",
    "TIMES",
    "Format",
    "StoredPost",
    "StoredValue",
    "add_function",
    "as_bytes",
    "exact_call_sql",
    "stored_value_sql",
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


class Format(Protocol):
    """One output format. Adding one is a module with this shape and a line in `formats.FORMATS`."""

    name: str
    """As `--format` has it."""
    file_name: str
    """Name of the data file in an export directory."""
    prologue: bytes
    """What stands before the first post."""
    separator: bytes
    """What stands between two posts."""
    epilogue: bytes
    """What stands after the last post."""
    empty: bytes
    """The whole file when there is no post."""

    def expression(self, columns: Mapping[str, str], *, exact: bool) -> str:
        """SQL for the text of one post.

        Args:
            columns: Column → SQL for it; an old schema may lack one, and has a constant in its place.
            exact: With the Python functions that `register` adds, instead of SQLite's own.
        """
        ...

    def register(self, connection: apsw.Connection, notices: Notices) -> None:
        """Add the Python functions that the expressions call; they report to *notices*."""
        ...

    def checked(self, chunk: bytes) -> bytes | None:
        """The bytes of a batch that was rendered fast, ready to write, or None when it must be rendered exactly."""
        ...

    def pieces(self, post: StoredPost, notices: Notices) -> Iterator[bytes]:
        """One post of any size, in pieces that are small beside it."""
        ...


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


def exact_call_sql(function: str, columns: Mapping[str, str], name: str) -> str:
    """SQL that calls a registered Python function with (value, uri as bytes, column name)."""
    return f"{function}({stored_value_sql(columns, name)}, cast(ifnull({columns['uri']}, '') as blob), '{name}')"


def add_function(
    connection: apsw.Connection, name: str, function: Callable[..., str | bytes | bool], arguments: int
) -> None:
    """Make a Python function callable from SQL; the same arguments give the same result."""
    connection.create_scalar_function(name, function, arguments, deterministic=True)
