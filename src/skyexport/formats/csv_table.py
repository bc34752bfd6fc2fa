"""The CSV format: fifteen columns, a byte order mark, quotes only where they are needed.

Source: docs/formats.md, "posts.csv"; RFC 4180, with `\\n` as the end of a record.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Self

from skyexport import json_text
from skyexport.embeds import media_names
from skyexport.formats.format import TextFormat
from skyexport.formats.formulas import formula_cells, safe_cell
from skyexport.formats.settings import DEFAULTS, FormatSettings
from skyexport.notices import Notices
from skyexport.posts import (
    COLUMNS,
    COUNTS,
    FLAGS,
    TIMES,
    StoredPost,
    StoredValue,
    as_bytes,
    count_text,
    stored_time,
    usual_time_seconds,
)

__all__ = ["CsvRecords", "CsvTable"]

_HEADINGS = {
    "uri": "URI",
    "cid": "CID",
    "did": "DID",
    "text": "Text",
    "created_at": "CreatedAt",
    "like_count": "LikeCount",
    "repost_count": "RepostCount",
    "reply_count": "ReplyCount",
    "quote_count": "QuoteCount",
    "is_reply": "IsReply",
    "reply_parent": "ReplyParent",
    "has_media": "HasMedia",
    "media_files": "MediaFiles",
    "embed_type": "EmbedType",
    "indexed_at": "IndexedAt",
}
"""Column → its heading, in the order of a table with all of them."""

_MEDIA = "media_files"

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

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
_BEGINS_WITH_SPACE = re.compile(
    b"|".join(re.escape(chr(code).encode()) for start, end in _WHITE_SPACE for code in range(start, end))
)
_FIRST_OF_SPACE = frozenset(chr(code).encode()[:1] for start, end in _WHITE_SPACE for code in range(start, end))

_USUAL_BYTES = 1 << 16
"""A larger value is not usual: it goes in pieces."""


class CsvTable(TextFormat):
    """Posts as a table for spreadsheets and loaders."""

    name = "csv"
    suffix = ".csv"
    columns = tuple(_HEADINGS)
    takes = frozenset({"columns", "delimiter", "bom", "header", "csv_safe"})
    separator = b"\n"
    epilogue = b"\n"

    def __init__(self, settings: FormatSettings = DEFAULTS) -> None:
        self.settings = settings
        self._columns = settings.columns or self.columns
        self._cells = cells = _Cells(settings)
        header = cells.delimiter.join(_HEADINGS[name].encode() for name in self._columns) + b"\n"
        self.prologue = _BYTE_ORDER_MARK * settings.bom + header * settings.header
        self.empty = self.prologue
        encoders: dict[str, Callable[[StoredValue], bytes | None]] = {
            **dict.fromkeys(TIMES, _usual_time), **dict.fromkeys(COUNTS, _usual_count), **dict.fromkeys(FLAGS, _flag),
        }  # fmt: skip
        self._fields = [(None if name == _MEDIA else COLUMNS.index(name), encoders.get(name)) for name in self._columns]

    def configured(self, settings: FormatSettings) -> Self:
        """With chosen columns, and so on."""
        return type(self)(settings)

    def usual(self, values: Sequence[StoredValue], notices: Notices) -> bytes | None:
        """See `Format`."""
        fields = []
        formulas = 0
        for place, encode in self._fields:
            if encode is not None and place is not None:
                field = encode(values[place])
                if field is None:
                    return None
                fields.append(field)
                continue
            cell = _usual_media(values) if place is None else values[place] or b""
            if not isinstance(cell, bytes) or len(cell) > _USUAL_BYTES:
                return None
            formulas += formula_cells([cell])
            fields.append(self._cells.written(cell))
        notices.formulas += formulas
        return self._cells.delimiter.join(fields)

    def pieces(self, post: StoredPost, notices: Notices) -> Iterator[bytes]:
        """One record, a field at a time."""
        values = _ExactValues(notices, self._cells)
        uri = as_bytes(post["uri"])
        delimiter = b""
        for name in self._columns:
            yield delimiter
            delimiter = self._cells.delimiter
            if name == _MEDIA:
                yield (
                    values.media(post["embed_data"], uri, "embed_data")
                    if post["has_media"]
                    else self._cells.written(b"")
                )
            elif name in TIMES:
                yield values.time(post[name], uri, name)
            elif name in COUNTS:
                yield values.count(post[name], uri, name)
            elif name in FLAGS:
                yield b"true" if post[name] else b"false"
            else:
                data = as_bytes(post[name])
                notices.formulas += formula_cells([data])
                yield from self._cells.written_in_pieces(data)

    def posts_of(self, data: bytes) -> list[bytes]:
        """Cut at line feeds that are not within quotes."""
        return [record[0] for record in _RECORD.finditer(data)]


_RECORD = re.compile(rb'(?:[^"\n]++|"[^"]*+")++')
"""A record has no end within quotes, and is never empty."""


_HAS_MEDIA = COLUMNS.index("has_media")
_EMBED = COLUMNS.index("embed_data")


def _usual_media(values: Sequence[StoredValue]) -> bytes | None:
    """The names of a post's media files; None when its embed is not usual."""
    embed = values[_EMBED]
    if not values[_HAS_MEDIA] or not embed:
        return b""
    try:
        return media_names(embed) if isinstance(embed, bytes) and len(embed) <= _USUAL_BYTES else None
    except ValueError:
        return None


def _usual_time(value: StoredValue) -> bytes | None:
    time = usual_time_seconds(value)
    return None if time is None else time.encode()


def _usual_count(value: StoredValue) -> bytes | None:
    number = count_text(value)
    return None if number is None else number.encode()


def _flag(value: StoredValue) -> bytes:
    return b"true" if value else b"false"


class _Cells:
    """How the content of a cell is written: what gets quotes, and what an apostrophe."""

    def __init__(self, settings: FormatSettings) -> None:
        self.delimiter = settings.delimiter.encode()
        self._safe = settings.csv_safe
        self.alone = len(settings.columns) == 1
        """Whether there is one column only: then an empty cell gets quotes, since readers skip empty lines."""
        self._special = re.compile(rb'["\r\n%s]' % re.escape(self.delimiter))

    def written(self, data: bytes) -> bytes:
        """A cell with quotes and apostrophe, where it needs them."""
        if self._safe:
            data = safe_cell(data)
        return b'"' + data.replace(b'"', b'""') + b'"' if self._needs_quotes(data) else data

    def written_in_pieces(self, data: bytes) -> Iterator[bytes]:
        """The same for a large one."""
        if self._safe:
            data = safe_cell(data)
        if not self._needs_quotes(data):
            yield data
            return
        yield b'"'
        for start in range(0, len(data), _PIECE_BYTES):
            yield data[start : start + _PIECE_BYTES].replace(b'"', b'""')
        yield b'"'

    def _needs_quotes(self, data: bytes) -> bool:
        return (
            self._special.search(data) is not None
            or (data[:1] in _FIRST_OF_SPACE and _BEGINS_WITH_SPACE.match(data) is not None)
            or data == rb"\."
            or (self.alone and not data)
        )


class CsvRecords:
    """Records of another table than that of posts, written in the same way.

    Args:
        headings: Of its columns, two or more.
        settings: How it is to look; its columns are those of posts, and not looked at.
    """

    def __init__(self, headings: Sequence[str], settings: FormatSettings) -> None:
        self._cells = _Cells(replace(settings, columns=()))
        self._bom = settings.bom
        self._headings = headings
        self.formulas = 0
        """Cells, so far, that a spreadsheet may take for a formula."""

    def header(self) -> bytes:
        """The beginning of the table."""
        names = self._cells.delimiter.join(heading.encode() for heading in self._headings)
        return (_BYTE_ORDER_MARK if self._bom else b"") + names + b"\n"

    def record(self, values: list[bytes]) -> bytes:
        """A record of these values, one a column."""
        self.formulas += formula_cells(values)
        return self._cells.delimiter.join([self._cells.written(value) for value in values]) + b"\n"


class _ExactValues:
    """Stored values → fields, whatever is stored. Each method takes (value, the post's uri, column name)."""

    def __init__(self, notices: Notices, cells: _Cells) -> None:
        self._notices = notices
        self._cells = cells

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
        self._notices.formulas += formula_cells([data])
        return self._cells.written(data)

    def media(self, value: StoredValue, uri: bytes, column: str) -> bytes:
        """The names of the media files that an embed shows, joined with `;`."""
        try:
            embed = as_bytes(value)
            names = media_names(embed) if embed else b""
        except ValueError:
            self._notices.add("unreadable_json", f"{column} of {json_text.decode(uri)}")
            names = b""
        self._notices.formulas += formula_cells([names])
        return self._cells.written(names)
