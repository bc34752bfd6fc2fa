"""The CSV format: fifteen columns, a byte order mark, quotes only where they are needed.

Source: docs/format.md, "posts.csv"; RFC 4180, with `\\n` as the end of a record.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping

import apsw

from skyexport import json_text, timestamps
from skyexport.formats.base import StoredPost, StoredValue, add_function, as_bytes, exact_call_sql
from skyexport.formats.media_names import media_names
from skyexport.notices import Notices

__all__ = ["CsvTable"]

_HEADER = (
    "URI,CID,DID,Text,CreatedAt,LikeCount,RepostCount,ReplyCount,QuoteCount,IsReply,ReplyParent,HasMedia,MediaFiles,"
    "EmbedType,IndexedAt"
)
_PIECE_BYTES = 1 << 18
"""Large fields are quoted in pieces of this many bytes."""

# Unicode White_Space at the beginning of a field, as half-open ranges of characters; UTF-8 keeps their order.
_WHITE_SPACE = (
    (0x09, 0x0E),
    (0x20, 0x21),
    (0x85, 0x86),
    (0xA0, 0xA1),
    (0x1680, 0x1681),
    (0x2000, 0x200B),
    (0x2028, 0x202A),
    (0x202F, 0x2030),
    (0x205F, 0x2060),
    (0x3000, 0x3001),
)
_NEEDS_QUOTES = re.compile(
    rb'[,"\r\n]|\A(?:'
    + b"|".join(re.escape(chr(code).encode()) for start, end in _WHITE_SPACE for code in range(start, end))
    + rb"|\\\.\Z)"
)

_PLAIN = re.compile(rb"[!#-+\--\[\]-~]*")
"""What surely needs no quotes, found out in a tenth of the time: ASCII without space, comma, quote and backslash."""

_COMMA = ", ',', "
"""Between arguments of SQL's concat: a comma in the record."""


class CsvTable:
    """Posts as a table for spreadsheets and loaders."""

    name = "csv"
    file_name = "posts.csv"
    prologue = b"\xef\xbb\xbf" + _HEADER.encode() + b"\n"
    separator = b"\n"
    epilogue = b"\n"
    empty = prologue

    def expression(self, columns: Mapping[str, str], *, exact: bool) -> str:
        """SQL for one record, without its line end."""
        has_media = columns["has_media"]
        values = [
            _identifiers_sql([columns[name] for name in ("uri", "cid", "did")], exact=exact),
            _exact_field_sql(columns["text"]) if exact else _text_sql(columns["text"]),
            _time_sql(columns, "created_at"),
            *(_count_sql(columns, name) for name in ("like_count", "repost_count", "reply_count", "quote_count")),
            f"iif({columns['is_reply']}, 'true', 'false')",
            _identifiers_sql([columns["reply_parent"]], exact=exact),
            f"iif({has_media}, 'true', 'false')",
            f"iif({has_media}, {exact_call_sql('sky_csv_media', columns, 'embed_data')}, '')",
            _identifiers_sql([columns["embed_type"]], exact=exact),
            _time_sql(columns, "indexed_at"),
        ]
        return f"concat({_COMMA.join(values)})"

    def register(self, connection: apsw.Connection, notices: Notices) -> None:
        """Add sky_csv_field of (value), and sky_csv_time, sky_csv_count, sky_csv_media of (value, uri, column)."""
        values = _ExactValues(notices)
        add_function(connection, "sky_csv_field", _quoted, 1)
        add_function(connection, "sky_csv_time", values.time, 3)
        add_function(connection, "sky_csv_count", values.count, 3)
        add_function(connection, "sky_csv_media", values.media, 3)

    def checked(self, chunk: bytes) -> bytes | None:
        """The chunk: CSV carries the bytes of the text as they are stored."""
        return chunk

    def pieces(self, post: StoredPost, notices: Notices) -> Iterator[bytes]:
        """One record, a field at a time."""
        values = _ExactValues(notices)
        uri = as_bytes(post["uri"])
        yield b",".join(_quoted(post[name]) for name in ("uri", "cid", "did")) + b","
        yield from _quoted_pieces(as_bytes(post["text"]))
        yield b"," + values.time(post["created_at"], uri, "created_at")
        for name in ("like_count", "repost_count", "reply_count", "quote_count"):
            yield b"," + values.count(post[name], uri, name)
        yield b",true," if post["is_reply"] else b",false,"
        yield _quoted(post["reply_parent"])
        yield b",true," + values.media(post["embed_data"], uri, "embed_data") if post["has_media"] else b",false,"
        yield b"," + _quoted(post["embed_type"]) + b"," + values.time(post["indexed_at"], uri, "indexed_at")


def _identifiers_sql(columns: list[str], *, exact: bool) -> str:
    """SQL for fields that are plain in nearly every post: one test for all of them, and Python where it fails."""
    quoted = f"concat({_COMMA.join(_exact_field_sql(column) for column in columns)})"
    if exact:
        return quoted
    # JSON would quote them as they are, none has a comma, none begins with white space. GLOB, with the characters as a
    # set, took four times as long.
    joined = f"concat({', '.join(columns)})"
    plain = [f"octet_length(json_quote({joined})) = octet_length({joined}) + 2", f"not instr({joined}, ',')"]
    plain += [f"({column} >= '!' and {column} < '~' or {column} = '')" for column in columns]
    return f"iif({' and '.join(plain)}, concat({_COMMA.join(columns)}), {quoted})"


def _text_sql(column: str) -> str:
    """SQL for a field of any text: comparing with the characters themselves tests the first bytes, NUL or not."""
    text = f"cast(ifnull({column}, '') as text)"

    def begins_with(ranges: list[tuple[int, int]]) -> str:
        return " or ".join(f"{text} >= char({start}) and {text} < char({end})" for start, end in ranges)

    ascii_spaces = [(start, end) for start, end in _WHITE_SPACE if end <= 0x80]
    other_spaces = [(start, end) for start, end in _WHITE_SPACE if end > 0x80]
    needs_quotes = (
        f"instr({text}, ',') or instr({text}, '\"') or instr({text}, '\n') or instr({text}, '\r')"
        f" or {text} < '!' and ({begins_with(ascii_spaces)})"
        f" or {text} >= char({other_spaces[0][0]}) and {text} < char({other_spaces[-1][1]})"
        f" and ({begins_with(other_spaces)})"
        f" or {text} = '\\.'"
    )
    return f"iif({needs_quotes}, concat('\"', replace({text}, '\"', '\"\"'), '\"'), {text})"


def _exact_field_sql(column: str) -> str:
    return f"sky_csv_field(cast({column} as blob))"


def _time_sql(columns: Mapping[str, str], name: str) -> str:
    usual = timestamps.rfc3339_seconds_sql(columns[name])
    return f"ifnull({usual}, {exact_call_sql('sky_csv_time', columns, name)})"


def _count_sql(columns: Mapping[str, str], name: str) -> str:
    column = columns[name]
    exact = exact_call_sql("sky_csv_count", columns, name)
    return f"iif(typeof({column}) = 'integer', {column}, {exact})"


class _ExactValues:
    """Stored values → fields, whatever is stored. Each method takes (value, the post's uri, column name)."""

    def __init__(self, notices: Notices) -> None:
        self._notices = notices

    def time(self, value: StoredValue, uri: bytes, column: str) -> bytes:
        """RFC 3339 to the second, or what is stored when that is no time."""
        timestamp = timestamps.parse(value if isinstance(value, int) else json_text.decode(as_bytes(value)))
        if timestamp is None:
            self._notices.add("unreadable_time", column, json_text.decode(uri))
            return _quoted(value)
        return timestamp.rfc3339_seconds().encode()

    def count(self, value: StoredValue, uri: bytes, column: str) -> bytes:
        """A number, 0 for NULL, or what is stored when that is no finite number."""
        if value is None:
            return b"0"
        if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
            return repr(value).encode()
        self._notices.add("unreadable_count", column, json_text.decode(uri))
        return _quoted(value)

    def media(self, value: StoredValue, uri: bytes, column: str) -> bytes:
        """The names of the media files that an embed shows, joined with `;`."""
        data = as_bytes(value)
        if not data:
            return b""
        try:
            return _quoted(media_names(data).encode())
        except ValueError:
            self._notices.add("unreadable_json", column, json_text.decode(uri))
            return b""


def _quoted(value: StoredValue) -> bytes:
    data = as_bytes(value)
    return data if _PLAIN.fullmatch(data) else b"".join(_quoted_pieces(data))


def _quoted_pieces(data: bytes) -> Iterator[bytes]:
    if _NEEDS_QUOTES.search(data) is None:
        yield data
        return
    yield b'"'
    for start in range(0, len(data), _PIECE_BYTES):
        yield data[start : start + _PIECE_BYTES].replace(b'"', b'""')
    yield b'"'
