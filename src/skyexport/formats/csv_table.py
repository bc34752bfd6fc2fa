"""The CSV format: fifteen columns, a byte order mark, quotes only where they are needed.

Source: docs/format.md, "posts.csv"; RFC 4180, with `\\n` as the end of a record.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import apsw

from skyexport import json_text, timestamps
from skyexport.formats.base import (
    NotUsualError,
    StoredPost,
    StoredValue,
    add_count,
    add_function,
    as_bytes,
    count_sql,
    count_text,
    stored_time,
    time_sql,
)
from skyexport.formats.media_names import media_names
from skyexport.notices import Notices

__all__ = ["CsvTable"]

_HEADER = (
    "URI,CID,DID,Text,CreatedAt,LikeCount,RepostCount,ReplyCount,QuoteCount,IsReply,ReplyParent,HasMedia,MediaFiles,"
    "EmbedType,IndexedAt"
)
_COUNTS = ("like_count", "repost_count", "reply_count", "quote_count")

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
_SPECIAL = re.compile(rb'[,"\r\n]')
_BEGINS_WITH_SPACE = re.compile(
    b"|".join(re.escape(chr(code).encode()) for start, end in _WHITE_SPACE for code in range(start, end))
)
_FIRST_OF_SPACE = frozenset(chr(code).encode()[:1] for start, end in _WHITE_SPACE for code in range(start, end))

_FORMULA_BEGINS = tuple(character.encode() for character in "=+-@\t\r＝＋－＠")
"""A spreadsheet may take a cell for a formula that begins so."""
_FIRST_OF_FORMULA = frozenset(begin[:1] for begin in _FORMULA_BEGINS)

_PLAIN = bytes(code for code in range(0x21, 0x7F) if code not in b',"\\')
"""What surely needs no quotes: ASCII without space, comma, quote and backslash."""

_COMMA = ", ',', "
"""Between arguments of SQL's concat: a comma in the record."""

_TEXT_PLACE = b"\x1e"
_MEDIA_PLACE = b"\x1f"
"""Stand for the fields that Python fills in: control characters, which plain identifiers, times and numbers lack."""

_REST = b",,," + _TEXT_PLACE + b",,,,,,,,,,,\n"
_REST_WITH_MEDIA = b",,," + _TEXT_PLACE + b",,,,,,,,," + _MEDIA_PLACE + b",,\n"
"""What is left of a record without all that is plain: any that has something else left needs quotes."""

_BETWEEN = b"\x1e"
"""Stands between texts, and between embeds. A text that has it itself is noticed by their number; no JSON has it."""


class CsvTable:
    """Posts as a table for spreadsheets and loaders."""

    name = "csv"
    file_name = "posts.csv"
    prologue = b"\xef\xbb\xbf" + _HEADER.encode() + b"\n"
    separator = b"\n"
    epilogue = b"\n"
    empty = prologue

    def aggregates(self, columns: Mapping[str, str]) -> tuple[str, ...]:
        """Records with places for the text and the media; the texts; the embeds of posts with media."""
        has_media = columns["has_media"]
        record = [
            columns["uri"],
            columns["cid"],
            columns["did"],
            f"'{_TEXT_PLACE.decode()}'",
            _time_sql(columns, "created_at"),
            *(count_sql(columns, name) for name in _COUNTS),
            f"iif({columns['is_reply']}, 'true', 'false')",
            columns["reply_parent"],
            f"iif({has_media}, 'true,{_MEDIA_PLACE.decode()}', 'false,')",
            columns["embed_type"],
            _time_sql(columns, "indexed_at"),
        ]
        embed = f"iif({has_media}, cast(ifnull({columns['embed_data']}, '') as text), null)"
        return (
            f"string_agg(concat({_COMMA.join(record)}), '\n')",
            f"string_agg(cast(ifnull({columns['text']}, '') as text), '{_BETWEEN.decode()}')",
            f"string_agg({embed}, '{_BETWEEN.decode()}')",
        )

    def register(self, connection: apsw.Connection) -> None:
        """Add sky_csv_time of (a stored value)."""
        add_count(connection)
        add_function(connection, "sky_csv_time", _time)

    def finished(self, posts: int, values: Sequence[bytes | None], notices: Notices, /) -> bytes | None:
        """The records with all of their fields; None when an identifier needs quotes or an embed is no JSON."""
        records, joined_texts, joined_embeds = values
        if records is None or joined_texts is None or not _is_plain(records, posts):
            return None
        texts = joined_texts.split(_BETWEEN)
        embeds = joined_embeds.split(_BETWEEN) if joined_embeds is not None else []
        if len(texts) != posts or len(embeds) != records.count(_MEDIA_PLACE):
            return None
        try:
            media = _media_fields(embeds, notices)
        except ValueError:
            return None
        notices.formulas += _formulas(texts)
        return _filled(_filled(records, _MEDIA_PLACE, media), _TEXT_PLACE, [_quoted(text) for text in texts])

    def pieces(self, post: StoredPost, notices: Notices) -> Iterator[bytes]:
        """One record, a field at a time."""
        values = _ExactValues(notices)
        uri = as_bytes(post["uri"])
        yield b",".join(_quoted(as_bytes(post[name])) for name in ("uri", "cid", "did")) + b","
        text = as_bytes(post["text"])
        notices.formulas += _formulas([text])
        yield from _quoted_pieces(text)
        yield b"," + values.time(post["created_at"], uri, "created_at")
        for name in _COUNTS:
            yield b"," + values.count(post[name], uri, name)
        yield b",true," if post["is_reply"] else b",false,"
        yield _quoted(as_bytes(post["reply_parent"]))
        yield b",true," + values.media(post["embed_data"], uri, "embed_data") if post["has_media"] else b",false,"
        yield b"," + _quoted(as_bytes(post["embed_type"])) + b"," + values.time(post["indexed_at"], uri, "indexed_at")


def _time_sql(columns: Mapping[str, str], name: str) -> str:
    return time_sql(columns, name, timestamps.rfc3339_seconds_sql, "sky_csv_time")


def _time(value: StoredValue) -> str:
    """A time in any spelling."""
    timestamp = stored_time(value)
    if timestamp is None:
        raise NotUsualError
    return timestamp.rfc3339_seconds()


def _is_plain(records: bytes, posts: int) -> bool:
    """Whether no identifier needs quotes, or has in it what stands between fields and records, or for a field."""
    rest = records.translate(None, _PLAIN)
    return (rest + b"\n").replace(_REST_WITH_MEDIA, _REST) == _REST * posts


def _media_fields(embeds: list[bytes], notices: Notices) -> list[bytes]:
    """The fields of these embeds, each of which may be empty; *notices* get how many look like formulas.

    Raises:
        ValueError: One of them is no JSON.
    """
    names = [media_names(embed) if embed else b"" for embed in embeds]
    notices.formulas += _formulas(names)
    if len(b"\n".join(names).translate(None, _PLAIN)) == len(names) - 1:
        return names
    return [_quoted(name) for name in names]


def _formulas(cells: list[bytes]) -> int:
    """How many of these cells, not yet quoted, a spreadsheet may take for a formula."""
    return len([cell for cell in cells if cell[:1] in _FIRST_OF_FORMULA and cell.startswith(_FORMULA_BEGINS)])


def _filled(records: bytes, place: bytes, fields: list[bytes]) -> bytes:
    """*records* with a field in each place."""
    filled = [b""] * (2 * len(fields) + 1)
    filled[::2] = records.split(place)
    filled[1::2] = fields
    return b"".join(filled)


class _ExactValues:
    """Stored values → fields, whatever is stored. Each method takes (value, the post's uri, column name)."""

    def __init__(self, notices: Notices) -> None:
        self._notices = notices

    def time(self, value: StoredValue, uri: bytes, column: str) -> bytes:
        """RFC 3339 to the second, or what is stored when that is no time."""
        timestamp = stored_time(value)
        if timestamp is None:
            return self._as_stored("unreadable_time", value, uri, column)
        return timestamp.rfc3339_seconds().encode()

    def count(self, value: StoredValue, uri: bytes, column: str) -> bytes:
        """A number, 0 for NULL, or what is stored when that is no finite number."""
        number = count_text(value)
        if number is None:
            return self._as_stored("unreadable_count", value, uri, column)
        return number.encode()

    def _as_stored(self, kind: str, value: StoredValue, uri: bytes, column: str) -> bytes:
        data = as_bytes(value)
        self._notices.add(kind, f"{column} of {json_text.decode(uri)}")
        self._notices.formulas += _formulas([data])
        return _quoted(data)

    def media(self, value: StoredValue, uri: bytes, column: str) -> bytes:
        """The names of the media files that an embed shows, joined with `;`."""
        try:
            return _media_fields([as_bytes(value)], self._notices)[0]
        except ValueError:
            self._notices.add("unreadable_json", f"{column} of {json_text.decode(uri)}")
            return b""


def _quoted(data: bytes) -> bytes:
    return b'"' + data.replace(b'"', b'""') + b'"' if _needs_quotes(data) else data


def _quoted_pieces(data: bytes) -> Iterator[bytes]:
    if not _needs_quotes(data):
        yield data
        return
    yield b'"'
    for start in range(0, len(data), _PIECE_BYTES):
        yield data[start : start + _PIECE_BYTES].replace(b'"', b'""')
    yield b'"'


def _needs_quotes(data: bytes) -> bool:
    return (
        _SPECIAL.search(data) is not None
        or (data[:1] in _FIRST_OF_SPACE and _BEGINS_WITH_SPACE.match(data) is not None)
        or data == rb"\."
    )
