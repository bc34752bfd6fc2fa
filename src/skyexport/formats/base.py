"""Formats: how a file begins, continues and ends, and how posts become its bytes.

A format renders posts in two ways, which give the same bytes:

- *fast*: SQL aggregates over the posts of a batch, whose values Python finishes with operations on the whole batch;
  nearly every batch goes this way. It refuses everything that cannot be exported as stored.
- *exact*: a generator over the stored values of one post, which takes anything, of any size, and counts what it had to
  change.

Columns of `posts` appear in the SQL under their own names. Values go to Python functions as BLOB where they are no
numbers, since stored text need not be valid UTF-8.
"""

from __future__ import annotations

import math
from abc import ABC
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import apsw

from skyexport import json_text, timestamps
from skyexport.format_settings import FormatSettings
from skyexport.notices import Notices

__all__ = [
    "COLUMNS",
    "COUNTS",
    "FLAGS",
    "TIMES",
    "Compress",
    "DataFile",
    "Format",
    "FormatMemory",
    "NotUsualError",
    "StoredPost",
    "StoredValue",
    "TextFormat",
    "add_count",
    "add_function",
    "as_bytes",
    "count_sql",
    "count_text",
    "stored_time",
    "stored_value_sql",
    "time_sql",
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


Compress = Callable[[bytes], bytes]
"""Makes of data what can be decompressed by itself."""


class TimeSql(Protocol):
    """SQL for a time as nearly every one is stored, as functions of `timestamps` give it; NULL for any other."""

    def __call__(self, column: str, *, by_server: bool) -> str: ...


class DataFile(Protocol):
    """Puts chunks together to one data file: what to write, in pieces."""

    def add(self, data: bytes | memoryview, posts: int) -> Iterator[bytes | memoryview]:
        """Go on with a chunk, in which *posts* begin; with none it continues the post before. *data* is not kept."""
        ...

    def finish(self) -> Iterator[bytes]:
        """End the file."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatMemory:
    """Memory that a format takes at most, in bytes, measured as docs/architecture.md says."""

    library: str = ""
    """The module that it needs; empty for none."""
    library_bytes: int = 0
    """It takes so much in each process once it is imported,"""
    used_library_bytes: int = 0
    """and so much more once it is used."""
    rendering_bytes: int = 0
    """Rendering takes so much at least,"""
    rendering_most_bytes: int = 18_000_000
    """and at most: then the chunk is as large as chunks get."""
    gathered_share: float = 0.0
    """The writer takes so much for each byte of posts that it gathers before it writes them."""
    gathered_most_bytes: int = 0
    """Bytes of posts that it gathers at most."""


class Format(Protocol):
    """One output format. Adding one is a module with this shape and a line in `formats.FORMATS`."""

    name: str
    """As `--format` has it."""
    suffix: str
    """At the end of a data file's name."""
    columns: tuple[str, ...]
    """Those that `FormatSettings.columns` can choose from; empty if it has no choice."""
    takes: frozenset[str]
    """Names of the `FormatSettings` that mean something to it."""
    is_text: bool
    """Whether a file is text: chunks one behind the other, which can be compressed, and of which the size is known."""
    separator: bytes
    """The bytes between two posts of a chunk."""
    memory: FormatMemory
    """The memory that it takes."""

    @property
    def bytes_around(self) -> int:
        """Size of what a file has before its first post and behind its last one."""
        ...

    def configured(self, settings: FormatSettings) -> Format:
        """The same with other settings, of which it takes all that are not as usual.

        Raises:
            MissingExtraError: The format needs an extra that is not installed.
        """
        ...

    def aggregates(self, columns: Mapping[str, str]) -> tuple[str, ...]:
        """SQL aggregates over the posts of a batch, in export order, from whose values `finished` makes the bytes.

        SQLite raises an error, or a function of `register` raises NotUsualError, for a batch that must be rendered
        exactly.

        Args:
            columns: Column → SQL for it; an old schema may lack one, and has a constant in its place.
        """
        ...

    def register(self, connection: apsw.Connection) -> None:
        """Add the Python functions that the aggregates call."""
        ...

    def finished(self, posts: int, values: Sequence[bytes | None], notices: Notices, /) -> bytes | None:
        """The bytes of a batch: its posts with separators between them; None when it must be rendered exactly.

        Args:
            posts: How many there are.
            values: Of the aggregates, as bytes; None for one of no value at all.
            notices: Get what is worth knowing of a batch in which nothing had to be changed.
        """
        ...

    def pieces(self, post: StoredPost, notices: Notices) -> Iterator[bytes]:
        """One post of any size, exactly, in pieces that are small beside it; *notices* get what had to be changed."""
        ...

    def posts_of(self, data: bytes) -> list[bytes]:
        """The posts of a chunk, one by one, without the separators."""
        ...

    def new_file(self, compress: Compress | None = None) -> DataFile:
        """A data file with nothing in it.

        Args:
            compress: How the chunks are compressed that will be added.
        """
        ...


class TextFormat(ABC):
    """The common part of text formats: a beginning, posts with separators, an end."""

    name: str
    suffix: str
    columns: tuple[str, ...] = ()
    takes: frozenset[str] = frozenset()
    is_text = True
    memory = FormatMemory()
    prologue: bytes
    """The bytes before the first post."""
    separator: bytes
    """The bytes between two posts."""
    epilogue: bytes
    """The bytes after the last post."""
    empty: bytes
    """The whole file when there is no post."""

    @property
    def bytes_around(self) -> int:
        """See `Format`."""
        return len(self.prologue) + len(self.epilogue)

    def configured(self, settings: FormatSettings) -> Self:
        """As it is: there is nothing to choose."""
        del settings
        return self

    def new_file(self, compress: Compress | None = None) -> DataFile:
        """See `Format`."""
        return _TextFile(self, compress or bytes)


class _TextFile:
    """Puts what stands around and between posts where it belongs."""

    def __init__(self, format: TextFormat, compress: Compress) -> None:
        self._format = format
        self._compress = compress
        self._separator = compress(format.separator)
        self._begun = False

    def add(self, data: bytes | memoryview, posts: int) -> Iterator[bytes | memoryview]:
        if posts:
            yield self._separator if self._begun else self._compress(self._format.prologue)
            self._begun = True
        yield data

    def finish(self) -> Iterator[bytes]:
        yield self._compress(self._format.epilogue if self._begun else self._format.empty)


class NotUsualError(Exception):
    """A stored value that only the exact rendering can take."""


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


def count_sql(columns: Mapping[str, str], name: str) -> str:
    """SQL for a number; `add_count` adds the function that it calls."""
    column = columns[name]
    return f"iif(typeof({column}) = 'integer', {column}, sky_count({stored_value_sql(columns, name)}))"


def add_count(connection: apsw.Connection) -> None:
    """Add sky_count of (a stored value): a number that is no integer as text."""

    def number(value: StoredValue) -> str:
        found = count_text(value)
        if found is None:
            raise NotUsualError
        return found

    add_function(connection, "sky_count", number)


def count_text(value: StoredValue) -> str | None:
    """A stored number as text, 0 for NULL; None for what is no finite number."""
    if value is None:
        return "0"
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return repr(value)
    return None


def time_sql(columns: Mapping[str, str], name: str, usual: TimeSql, function: str) -> str:
    """SQL for a time.

    Args:
        columns: Column → SQL for it.
        name: The column.
        usual: Gives SQL for a time as nearly every one is stored, and NULL for any other.
        function: Name of the Python function, of (a stored value), that reads any.
    """
    found = usual(columns[name], by_server=name == "created_at")
    return f"ifnull({found}, {function}({stored_value_sql(columns, name)}))"


def stored_time(value: StoredValue) -> timestamps.Timestamp | None:
    """The time that a stored value is, None if it is not a time."""
    return timestamps.parse(value if isinstance(value, int) else json_text.decode(as_bytes(value)))


def add_function(connection: apsw.Connection, name: str, function: Callable[..., str | bool]) -> None:
    """Make a Python function of one value callable from SQL; the same value gives the same result."""
    connection.create_scalar_function(name, function, 1, deterministic=True)
