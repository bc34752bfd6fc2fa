"""The JSON format: one array, a post an object, indented by two spaces.

Source: docs/format.md, "posts.json".
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import apsw

from skyexport import json_text, timestamps
from skyexport.formats.base import (
    COLUMNS,
    COUNTS,
    FLAGS,
    TIMES,
    StoredPost,
    StoredValue,
    add_function,
    as_bytes,
    exact_call_sql,
)
from skyexport.notices import Notices

__all__ = ["JsonArray"]

_TEXTS = frozenset({"uri", "cid", "did", "text", "reply_parent", "embed_type"})
_JSON = frozenset({"embed_data", "labels"})
_LEFT_OUT_WHEN_EMPTY = frozenset({"reply_parent", "embed_type", "embed_data", "labels"})

_INDENT = "  "
_KEY_LEVEL = 2
_PIECE_CHARACTERS = 1 << 18
"""Tokens of a large embed are gathered to pieces of about this size, and larger ones are cut."""


class JsonArray:
    """Posts as one indented JSON array."""

    name = "json"
    file_name = "posts.json"
    prologue = b"[\n"
    separator = b",\n"
    epilogue = b"\n]\n"
    empty = b"[]\n"

    def expression(self, columns: Mapping[str, str], *, exact: bool) -> str:
        """SQL for one post as an indented object."""
        value_sql = _exact_sql if exact else _fast_sql
        parts: list[str] = []
        for name in COLUMNS:
            column = columns[name]
            key = f"{_before_key(name)}: "
            value = value_sql(columns, name)
            if name in _LEFT_OUT_WHEN_EMPTY:
                parts.append(f"iif(octet_length({column}) > 0, concat('{key}', {value}), '')")
            else:
                parts += [f"'{key}'", value]
        return f"concat({', '.join(parts)}, '\n{_INDENT}}}')"

    def register(self, connection: apsw.Connection, notices: Notices) -> None:
        """Add sky_text, sky_json, sky_time and sky_count, each of (value, uri, column name)."""
        values = _ExactValues(notices)
        add_function(connection, "sky_text", values.text, 3)
        add_function(connection, "sky_json", values.json, 3)
        add_function(connection, "sky_time", values.time, 3)
        add_function(connection, "sky_count", values.count, 3)

    def checked(self, chunk: bytes) -> bytes | None:
        """Escape what `json_quote` leaves (U+2028, U+2029); None when the bytes are not UTF-8."""
        if chunk.isascii():
            return chunk
        found = json_text.find_in_utf8(chunk, "\u2028\u2029")
        if found is None:
            return None
        return json_text.escape_line_separators(chunk) if found else chunk

    def pieces(self, post: StoredPost, notices: Notices) -> Iterator[bytes]:
        """One post, a value at a time."""
        values = _ExactValues(notices)
        uri = as_bytes(post["uri"])
        for name in COLUMNS:
            value = post[name]
            if name in _LEFT_OUT_WHEN_EMPTY and not as_bytes(value):
                continue
            yield f"{_before_key(name)}: ".encode()
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
        yield f"\n{_INDENT}}}".encode()


def _cut(text: str) -> Iterator[bytes]:
    for start in range(0, len(text), _PIECE_CHARACTERS):
        yield text[start : start + _PIECE_CHARACTERS].encode()


def _before_key(name: str) -> str:
    opening = f"{_INDENT}{{" if name == COLUMNS[0] else ","
    return f'{opening}\n{_INDENT * _KEY_LEVEL}"{name}"'


def _fast_sql(columns: Mapping[str, str], name: str) -> str:
    column = columns[name]
    if name in _TEXTS:
        return f"json_quote(cast(ifnull({column}, '') as text))"
    exact = _exact_sql(columns, name)
    if name in TIMES:
        usual = timestamps.rfc3339_sql(column, quote='"')
        return f"ifnull({usual}, {exact})"
    if name in _JSON:
        # A BLOB would be taken for SQLite's binary JSON: always cast. JSON5 and a NUL with something after it pass
        # the parser, so json_valid(…, 1) and format, which stops at a NUL and is faster than looking for one, keep
        # them out. A line break in the result is never inside a string.
        stored = f"cast({column} as text)"
        indented = f"replace(json_pretty({stored}, '{_INDENT}'), '\n', '\n{_INDENT * _KEY_LEVEL}')"
        valid = f"json_valid({stored}, 1) and octet_length(format('%s', {stored})) = octet_length({column})"
        return f"iif({column} = x'6e756c6c', 'null', iif({valid}, {indented}, {exact}))"
    if name in COUNTS:
        return f"iif(typeof({column}) = 'integer', {column}, {exact})"
    return exact


def _exact_sql(columns: Mapping[str, str], name: str) -> str:
    if name in FLAGS:
        return f"iif({columns[name]}, 'true', 'false')"
    function = (
        "sky_text" if name in _TEXTS else "sky_json" if name in _JSON else "sky_time" if name in TIMES else "sky_count"
    )
    return exact_call_sql(function, columns, name)


class _ExactValues:
    """Stored values → JSON, whatever is stored. Each method takes (value, the post's uri, column name)."""

    def __init__(self, notices: Notices) -> None:
        self._notices = notices

    def text(self, value: StoredValue, uri: bytes, column: str) -> str:
        """A JSON string."""
        return b"".join(self.text_pieces(value, uri, column)).decode()

    def json(self, value: StoredValue, uri: bytes, column: str) -> str:
        """JSON, indented to its place, or the JSON string of what is no JSON."""
        return b"".join(self.json_pieces(value, uri, column)).decode()

    def time(self, value: StoredValue, uri: bytes, column: str) -> str:
        """RFC 3339 in quotes, or the JSON string of what is no time."""
        stored = value if isinstance(value, int) else json_text.decode(as_bytes(value))
        timestamp = timestamps.parse(stored)
        if timestamp is None:
            self._note("unreadable_time", uri, column)
            return json_text.quote(str(stored))
        return f'"{timestamp.rfc3339()}"'

    def count(self, value: StoredValue, uri: bytes, column: str) -> str:
        """A JSON number, 0 for NULL, or the JSON string of what is no finite number."""
        if value is None:
            return "0"
        if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
            return repr(value)
        self._note("unreadable_count", uri, column)
        return json_text.quote(json_text.decode(as_bytes(value)))

    def text_pieces(self, value: StoredValue, uri: bytes, column: str) -> Iterator[bytes]:
        data = as_bytes(value)
        if not json_text.is_utf8(data):
            self._note("invalid_utf8", uri, column)
        return json_text.quote_pieces(data)

    def json_pieces(self, value: StoredValue, uri: bytes, column: str) -> Iterator[bytes]:
        data = as_bytes(value)
        text = json_text.decode(data)
        if not json_text.is_valid(text):
            self._note("unreadable_json", uri, column)
            yield from self.text_pieces(data, uri, column)
            return
        if not json_text.is_utf8(data):
            self._note("invalid_utf8", uri, column)
        gathered: list[str] = []
        size = 0
        for token in json_text.indent(text, _KEY_LEVEL):
            gathered.append(token)
            size += len(token)
            if size >= _PIECE_CHARACTERS:
                yield from _cut("".join(gathered))
                gathered.clear()
                size = 0
        yield from _cut("".join(gathered))

    def _note(self, kind: str, uri: bytes, column: str) -> None:
        self._notices.add(kind, column, json_text.decode(uri))
