"""Posts as JSON objects, of which `json_array` and `json_lines` make files: what they share is all but white space.

Source: docs/formats.md, "posts.json".
"""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import apsw

from skyexport import json_text, timestamps
from skyexport.formats.base import (
    COLUMNS,
    COUNTS,
    FLAGS,
    TIMES,
    NotUsualError,
    StoredPost,
    StoredValue,
    TextFormat,
    add_count,
    add_function,
    as_bytes,
    count_sql,
    count_text,
    stored_time,
    stored_value_sql,
    time_sql,
)
from skyexport.notices import Notices

__all__ = ["JSON", "LEFT_OUT_WHEN_EMPTY", "POST_ENDS", "JsonPosts", "Layout", "add_json", "add_time", "json_sql"]

_TEXTS = frozenset({"uri", "cid", "did", "text", "reply_parent", "embed_type"})
JSON = frozenset({"embed_data", "labels"})
LEFT_OUT_WHEN_EMPTY = frozenset({"reply_parent", "embed_type", "embed_data", "labels"})

POST_ENDS = "\x1e"
"""Stands between posts in what SQL gives: no JSON has a control character but between tokens, and there SQL makes none
but line breaks."""

_CHECKED_BYTES = 16_384
"""Larger embeds are read in Python, which notices when indentation makes them huge: SQLite makes 2 MB of 2 kB of nested
lists before anybody can stop it."""

_LARGE_BYTES = 4_000_000
"""An embed that becomes larger goes the exact way, in pieces."""

_PIECE_BYTES = 1 << 18
"""Tokens of an embed are gathered to pieces of about this size."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The white space of a format."""

    sql_before_key: str
    """The text that SQL puts before a key; `finished` may extend it."""
    before_key: bytes
    """The bytes before a key in the file."""
    colon: str
    embed_sql: str
    """SQL for JSON in the small, of which `{}` is the stored text."""
    embed_at: Callable[[bytes, int], Iterator[bytes]]
    """The same in Python, from a level on."""
    level: int
    """At which level keys stand."""


class JsonPosts(TextFormat):
    """Rendering of posts as JSON objects without their braces.

    Args:
        layout: The white space.
        columns: Which keys, in which order.
    """

    def __init__(self, layout: Layout, columns: Sequence[str] = COLUMNS) -> None:
        self._layout = layout
        self._columns = columns

    def aggregates(self, columns: Mapping[str, str]) -> tuple[str, ...]:
        """One text: the members of all posts, with POST_ENDS between posts."""
        parts: list[str] = []
        for name in self._columns:
            key = f'{self._comma(name)}{self._layout.sql_before_key}"{name}"{self._layout.colon}'
            value = self._value_sql(columns, name)
            if name not in LEFT_OUT_WHEN_EMPTY:
                parts += [f"'{key}'", value]
                continue
            member = f"iif(octet_length({columns[name]}) > 0, concat('{key}', {value}), '')"
            if name in JSON:  # Most embeds and labels are a stored null.
                member = f"iif({columns[name]} = x'6e756c6c', '{key}null', {member})"
            parts.append(member)
        members = f"concat({', '.join(parts)})"
        if self._columns[0] in LEFT_OUT_WHEN_EMPTY:
            members = f"substr({members}, 2)"
        return (f"string_agg({members}, '{POST_ENDS}')",)

    def register(self, connection: apsw.Connection) -> None:
        """Add sky_json and sky_json_time, each of (a stored value)."""
        add_count(connection)
        add_time(connection, '"')
        add_json(connection, self._layout.embed_at)

    def finished(self, _: int, values: Sequence[bytes | None], __: Notices, /) -> bytes | None:
        """With the escapes that `json_quote` leaves out (U+2028, U+2029), and put into place; None when not UTF-8."""
        text = values[0] or b""
        if not text.isascii():
            found = json_text.find_in_utf8(text, "\u2028\u2029")
            if found is None:
                return None
            if found:
                text = json_text.escape_line_separators(text)
        return self.placed(text)

    @abstractmethod
    def placed(self, text: bytes) -> bytes:
        """The output of SQL, with the white space and the braces that the format has between posts."""

    def pieces(self, post: StoredPost, notices: Notices) -> Iterator[bytes]:
        """One post, a value at a time."""
        values = _ExactValues(notices, self._layout)
        uri = as_bytes(post["uri"])
        comma = b""
        for name in self._columns:
            value = post[name]
            if name in LEFT_OUT_WHEN_EMPTY and not as_bytes(value):
                continue
            yield comma + self._layout.before_key + f'"{name}"{self._layout.colon}'.encode()
            comma = b","
            if name in _TEXTS:
                yield from values.text_pieces(value, uri, name)
            elif name in JSON:
                yield from values.json_pieces(value, uri, name)
            elif name in TIMES:
                yield values.time(value, uri, name).encode()
            elif name in FLAGS:
                yield b"true" if value else b"false"
            else:
                yield values.count(value, uri, name).encode()

    def _comma(self, name: str) -> str:
        """Before every key but the first; before that as well, where it may be left out, to be cut off afterwards."""
        first = self._columns[0]
        return "" if name == first and first not in LEFT_OUT_WHEN_EMPTY else ","

    def _value_sql(self, columns: Mapping[str, str], name: str) -> str:
        column = columns[name]
        if name in _TEXTS:
            return f"json_quote(cast(ifnull({column}, '') as text))"
        if name in TIMES:
            return time_sql(columns, name, functools.partial(timestamps.rfc3339_sql, quote='"'), "sky_json_time")
        if name in JSON:
            return json_sql(columns, name, self._layout.embed_sql)
        if name in COUNTS:
            return count_sql(columns, name)
        return f"iif({column}, 'true', 'false')"


def json_sql(columns: Mapping[str, str], name: str, embed_sql: str) -> str:
    """SQL for stored JSON, which is not empty; `add_json` adds the function that it calls.

    Args:
        columns: Column → SQL for it.
        name: The column.
        embed_sql: SQL for the JSON that *{}* is.
    """
    column = columns[name]
    # A BLOB would be taken for SQLite's binary JSON: always cast. JSON5 and a NUL with something after it pass the
    # parser, so json_valid(…, 1) and format, which stops at a NUL and is faster than looking for one, keep them out. A
    # line break in the result is never inside a string.
    stored = f"cast({column} as text)"
    small = f"octet_length({column}) <= {_CHECKED_BYTES}"
    valid = f"{small} and json_valid({stored}, 1) and octet_length(format('%s', {stored})) = octet_length({column})"
    return f"iif({valid}, {embed_sql.format(stored)}, sky_json({stored_value_sql(columns, name)}))"


def add_json(connection: apsw.Connection, embed_at: Callable[[bytes, int], Iterator[bytes]]) -> None:
    """Add sky_json of (a stored value): JSON that SQLite did not take, for it is nested too deep or large."""

    def read(value: StoredValue) -> str:
        data = as_bytes(value)
        pieces: list[bytes] = []
        size = 0
        try:
            for piece in embed_at(data, 0):
                pieces.append(piece)
                size += len(piece)
                if size > _LARGE_BYTES:
                    raise NotUsualError
        except ValueError:
            raise NotUsualError from None
        if not json_text.is_utf8(data):
            raise NotUsualError
        return b"".join(pieces).decode()

    add_function(connection, "sky_json", read)


def add_time(connection: apsw.Connection, quote: str) -> None:
    """Add sky_json_time of (a stored value): a time in any spelling, in quotes."""

    def read(value: StoredValue) -> str:
        timestamp = stored_time(value)
        if timestamp is None:
            raise NotUsualError
        return f"{quote}{timestamp.rfc3339()}{quote}"

    add_function(connection, "sky_json_time", read)


class _ExactValues:
    """Stored values → JSON, whatever is stored. Each method takes (value, the post's uri, column name)."""

    def __init__(self, notices: Notices, layout: Layout) -> None:
        self._notices = notices
        self._layout = layout

    def time(self, value: StoredValue, uri: bytes, column: str) -> str:
        """RFC 3339 in quotes, or the JSON string of what is no time."""
        timestamp = stored_time(value)
        if timestamp is None:
            self._note("unreadable_time", uri, column)
            return json_text.quote(str(value) if isinstance(value, int) else json_text.decode(as_bytes(value)))
        return f'"{timestamp.rfc3339()}"'

    def count(self, value: StoredValue, uri: bytes, column: str) -> str:
        """A JSON number, 0 for NULL, or the JSON string of what is no finite number."""
        number = count_text(value)
        if number is None:
            self._note("unreadable_count", uri, column)
            return json_text.quote(json_text.decode(as_bytes(value)))
        return number

    def text_pieces(self, value: StoredValue, uri: bytes, column: str) -> Iterator[bytes]:
        data = as_bytes(value)
        if not json_text.is_utf8(data):
            self._note("invalid_utf8", uri, column)
        return json_text.quote_pieces(data)

    def json_pieces(self, value: StoredValue, uri: bytes, column: str) -> Iterator[bytes]:
        data = as_bytes(value)
        if not json_text.is_valid(data):
            self._note("unreadable_json", uri, column)
            yield from self.text_pieces(data, uri, column)
            return
        if not json_text.is_utf8(data):
            self._note("invalid_utf8", uri, column)
        gathered: list[bytes] = []
        size = 0
        for piece in self._layout.embed_at(data, self._layout.level):
            gathered.append(piece)
            size += len(piece)
            if size >= _PIECE_BYTES:
                yield b"".join(gathered)
                gathered.clear()
                size = 0
        yield b"".join(gathered)

    def _note(self, kind: str, uri: bytes, column: str) -> None:
        self._notices.add(kind, f"{column} of {json_text.decode(uri)}")
