"""The JSON format: one array, a post an object, indented by two spaces.

Source: docs/format.md, "posts.json".
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence

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

__all__ = ["JsonArray"]

_TEXTS = frozenset({"uri", "cid", "did", "text", "reply_parent", "embed_type"})
_JSON = frozenset({"embed_data", "labels"})
_LEFT_OUT_WHEN_EMPTY = frozenset({"reply_parent", "embed_type", "embed_data", "labels"})

_INDENT = "  "
_KEY_LEVEL = 2
_MEMBER_LINE = f"\n{_INDENT * _KEY_LEVEL}"

_POST_ENDS = "\x1e"
"""Stands between posts in what SQL gives: no JSON has a control character but between tokens, and there SQL makes none
but line breaks."""

_PRETTY_BYTES = 16_384
"""Larger embeds are indented in Python, which notices when that makes them huge: SQLite makes 2 MB of 2 kB of nested
lists before anybody can stop it."""

_LARGE_BYTES = 4_000_000
"""An indented embed of more goes the exact way, in pieces."""

_PIECE_BYTES = 1 << 18
"""Tokens of an embed are gathered to pieces of about this size."""


class JsonArray:
    """Posts as one indented JSON array. The braces around posts are in the prologue, the separator and the epilogue."""

    name = "json"
    file_name = "posts.json"
    prologue = b"[\n  {"
    separator = b"\n  },\n  {"
    epilogue = b"\n  }\n]\n"
    empty = b"[]\n"

    def aggregates(self, columns: Mapping[str, str]) -> tuple[str, ...]:
        """One text: members on lines of their own without indentation, which `finished` adds everywhere at once."""
        parts: list[str] = []
        for name in COLUMNS:
            key = f'{_comma(name)}\n"{name}": '
            value = _value_sql(columns, name)
            if name not in _LEFT_OUT_WHEN_EMPTY:
                parts += [f"'{key}'", value]
                continue
            member = f"iif(octet_length({columns[name]}) > 0, concat('{key}', {value}), '')"
            if name in _JSON:  # Most embeds and labels are a stored null.
                member = f"iif({columns[name]} = x'6e756c6c', '{key}null', {member})"
            parts.append(member)
        return (f"string_agg(concat({', '.join(parts)}), '{_POST_ENDS}')",)

    def register(self, connection: apsw.Connection) -> None:
        """Add sky_json and sky_json_time, each of (a stored value)."""
        add_count(connection)
        add_function(connection, "sky_json", _json)
        add_function(connection, "sky_json_time", _time)

    def finished(self, _: int, values: Sequence[bytes | None], __: Notices, /) -> bytes | None:
        """Indented, and with the escapes that `json_quote` leaves out (U+2028, U+2029); None when this is not UTF-8."""
        text = values[0] or b""
        if not text.isascii():
            found = json_text.find_in_utf8(text, "\u2028\u2029")
            if found is None:
                return None
            if found:
                text = json_text.escape_line_separators(text)
        return text.replace(b"\n", _MEMBER_LINE.encode()).replace(_POST_ENDS.encode(), self.separator)

    def pieces(self, post: StoredPost, notices: Notices) -> Iterator[bytes]:
        """One post, a value at a time."""
        values = _ExactValues(notices)
        uri = as_bytes(post["uri"])
        for name in COLUMNS:
            value = post[name]
            if name in _LEFT_OUT_WHEN_EMPTY and not as_bytes(value):
                continue
            yield f'{_comma(name)}{_MEMBER_LINE}"{name}": '.encode()
            if name in _TEXTS:
                yield from values.text_pieces(value, uri, name)
            elif name in _JSON:
                yield from values.json_pieces(value, uri, name)
            elif name in TIMES:
                yield values.time(value, uri, name).encode()
            elif name in FLAGS:
                yield b"true" if value else b"false"
            else:
                yield values.count(value, uri, name).encode()


def _comma(name: str) -> str:
    return "" if name == COLUMNS[0] else ","


def _value_sql(columns: Mapping[str, str], name: str) -> str:
    column = columns[name]
    if name in _TEXTS:
        return f"json_quote(cast(ifnull({column}, '') as text))"
    if name in TIMES:
        return time_sql(columns, name, functools.partial(timestamps.rfc3339_sql, quote='"'), "sky_json_time")
    if name in _JSON:
        # A BLOB would be taken for SQLite's binary JSON: always cast. JSON5 and a NUL with something after it pass
        # the parser, so json_valid(…, 1) and format, which stops at a NUL and is faster than looking for one, keep
        # them out. A line break in the result is never inside a string.
        stored = f"cast({column} as text)"
        small = f"octet_length({column}) <= {_PRETTY_BYTES}"
        valid = f"{small} and json_valid({stored}, 1) and octet_length(format('%s', {stored})) = octet_length({column})"
        return f"iif({valid}, json_pretty({stored}, '{_INDENT}'), sky_json({stored_value_sql(columns, name)}))"
    if name in COUNTS:
        return count_sql(columns, name)
    return f"iif({column}, 'true', 'false')"


def _json(value: StoredValue) -> str:
    """JSON that SQLite did not take, for it is nested too deep or large, from the first level on."""
    data = as_bytes(value)
    pieces: list[bytes] = []
    size = 0
    try:
        for piece in json_text.indent(data, 0):
            pieces.append(piece)
            size += len(piece)
            if size > _LARGE_BYTES:
                raise NotUsualError
    except ValueError:
        raise NotUsualError from None
    if not json_text.is_utf8(data):
        raise NotUsualError
    return b"".join(pieces).decode()


def _time(value: StoredValue) -> str:
    """A time in any spelling."""
    timestamp = stored_time(value)
    if timestamp is None:
        raise NotUsualError
    return f'"{timestamp.rfc3339()}"'


class _ExactValues:
    """Stored values → JSON, whatever is stored. Each method takes (value, the post's uri, column name)."""

    def __init__(self, notices: Notices) -> None:
        self._notices = notices

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
        for piece in json_text.indent(data, _KEY_LEVEL):
            gathered.append(piece)
            size += len(piece)
            if size >= _PIECE_BYTES:
                yield b"".join(gathered)
                gathered.clear()
                size = 0
        yield b"".join(gathered)

    def _note(self, kind: str, uri: bytes, column: str) -> None:
        self._notices.add(kind, f"{column} of {json_text.decode(uri)}")
