"""The CSV format: fifteen columns, a byte order mark, quotes only where they are needed.

Source: docs/formats.md, "posts.csv"; RFC 4180, with `\\n` as the end of a record.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Self

import apsw

from skyexport import json_text, timestamps
from skyexport.format_settings import USUAL, FormatSettings
from skyexport.formats.base import (
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
    time_sql,
)
from skyexport.formats.media_names import media_names
from skyexport.formulas import MARK, PLAIN_SIGNS, formula_cells, safe_cell
from skyexport.notices import Notices

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

_TEXT = "text"
_MEDIA = "media_files"
"""The columns that Python fills in."""

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

_PLAIN = bytes(code for code in range(0x21, 0x7F) if code not in b'"\\')
"""Characters that need no quotes, except for the delimiter: ASCII without space, quote and backslash."""

_TEXT_PLACE = b"\x1e"
_MEDIA_PLACE = b"\x1f"
"""Stand for the fields that Python fills in: control characters, which plain identifiers, times and numbers lack."""

_BETWEEN = b"\x1e"
"""Stands between texts, and between embeds. A text that has it itself is noticed by their number; no JSON has it."""


class CsvTable(TextFormat):
    """Posts as a table for spreadsheets and loaders."""

    name = "csv"
    suffix = ".csv"
    columns = tuple(_HEADINGS)
    takes = frozenset({"columns", "delimiter", "bom", "header", "csv_safe"})
    separator = b"\n"
    epilogue = b"\n"

    def __init__(self, settings: FormatSettings = USUAL) -> None:
        self._columns = settings.columns or self.columns
        self._cells = cells = _Cells(settings)
        header = cells.delimiter.join(_HEADINGS[name].encode() for name in self._columns) + b"\n"
        self.prologue = _BYTE_ORDER_MARK * settings.bom + header * settings.header
        self.empty = self.prologue
        # The rest of a record once all plain characters are removed: a record with another rest needs quotes.
        places = {_TEXT: _TEXT_PLACE}
        self._rest = cells.delimiter.join(places.get(name, b"") for name in self._columns) + b"\n"
        places[_MEDIA] = _MEDIA_PLACE
        self._rest_with_media = cells.delimiter.join(places.get(name, b"") for name in self._columns) + b"\n"

    def configured(self, settings: FormatSettings) -> Self:
        """With chosen columns, and so on."""
        return type(self)(settings)

    def aggregates(self, columns: Mapping[str, str]) -> tuple[str, ...]:
        """Records with places for the text and the media; the texts; the embeds of posts with media."""
        delimiter = f", '{self._cells.delimiter.decode()}', "
        record = delimiter.join(_field_sql(columns, name) for name in self._columns)
        embed = f"iif({columns['has_media']}, cast(ifnull({columns['embed_data']}, '') as text), null)"
        between = _BETWEEN.decode()
        return (
            f"string_agg(concat({record}), '\n')",
            f"string_agg(cast(ifnull({columns['text']}, '') as text), '{between}')"
            if _TEXT in self._columns
            else "null",
            f"string_agg({embed}, '{between}')" if _MEDIA in self._columns else "null",
        )

    def register(self, connection: apsw.Connection) -> None:
        """Add sky_csv_time of (a stored value)."""
        add_count(connection)
        add_function(connection, "sky_csv_time", _time)

    def finished(self, posts: int, values: Sequence[bytes | None], notices: Notices, /) -> bytes | None:
        """The records with all of their fields; None when an identifier is not plain or an embed is no JSON."""
        records, joined_texts, joined_embeds = values
        if records is None or not self._is_plain(records, posts):
            return None
        texts = joined_texts.split(_BETWEEN) if joined_texts is not None else []
        embeds = joined_embeds.split(_BETWEEN) if joined_embeds is not None else []
        if len(texts) != posts * (_TEXT in self._columns) or len(embeds) != records.count(_MEDIA_PLACE):
            return None
        try:
            names = [media_names(embed) if embed else b"" for embed in embeds]
        except ValueError:
            return None
        cells = self._cells
        notices.formulas += formula_cells(texts) + formula_cells(names)
        if embeds:
            records = _filled(records, _MEDIA_PLACE, cells.all_written(names))
        return _filled(records, _TEXT_PLACE, [cells.written(text) for text in texts]) if texts else records

    def _is_plain(self, records: bytes, posts: int) -> bool:
        """Whether no identifier needs quotes or begins a formula, or has in it what stands between or for fields."""
        if self._cells.may_begin_formula(records) or (self._cells.alone and b"\n\n" in b"\n" + records + b"\n"):
            return False
        rest = records.translate(None, self._cells.plain) + b"\n"
        return rest.replace(self._rest_with_media, self._rest) == self._rest * posts

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
        return [found[0] for found in _RECORD.finditer(data)]


_RECORD = re.compile(rb'(?:[^"\n]++|"[^"]*+")++')
"""A record has no end within quotes, and is never empty."""


def _field_sql(columns: Mapping[str, str], name: str) -> str:
    """SQL for a field; of those that Python fills in, for what keeps its place."""
    if name == _TEXT:
        return f"'{_TEXT_PLACE.decode()}'"
    if name == _MEDIA:
        return f"iif({columns['has_media']}, '{_MEDIA_PLACE.decode()}', '')"
    if name in TIMES:
        return time_sql(columns, name, timestamps.rfc3339_seconds_sql, "sky_csv_time")
    if name in COUNTS:
        return count_sql(columns, name)
    if name in FLAGS:
        return f"iif({columns[name]}, 'true', 'false')"
    return columns[name]


def _time(value: StoredValue) -> str:
    """A time in any spelling."""
    timestamp = stored_time(value)
    if timestamp is None:
        raise NotUsualError
    return timestamp.rfc3339_seconds()


def _filled(records: bytes, place: bytes, fields: list[bytes]) -> bytes:
    """*records* with a field in each place."""
    filled = [b""] * (2 * len(fields) + 1)
    filled[::2] = records.split(place)
    filled[1::2] = fields
    return b"".join(filled)


class _Cells:
    """How the content of a cell is written: what gets quotes, and what an apostrophe."""

    def __init__(self, settings: FormatSettings) -> None:
        self.delimiter = settings.delimiter.encode()
        self.plain = _PLAIN.replace(self.delimiter, b"")
        self._safe = settings.csv_safe
        self.alone = len(settings.columns) == 1
        """Whether there is one column only: then an empty cell gets quotes, since readers skip empty lines."""
        self._special = re.compile(rb'["\r\n%s]' % re.escape(self.delimiter))
        odd_begins = [bytes([begin]) for begin in PLAIN_SIGNS + MARK * self._safe]
        self._odd_begins = [(begin, self.delimiter + begin, b"\n" + begin) for begin in odd_begins]

    def may_begin_formula(self, records: bytes) -> bool:
        """Whether a field of these records, of which none is quoted, may begin a formula: a negative number may."""
        return any(
            begin in records and (after_delimiter in records or after_record in records or records.startswith(begin))
            for begin, after_delimiter, after_record in self._odd_begins
        )

    def written(self, data: bytes) -> bytes:
        """A cell with quotes and apostrophe, where it needs them."""
        if self._safe:
            data = safe_cell(data)
        return b'"' + data.replace(b'"', b'""') + b'"' if self._needs_quotes(data) else data

    def all_written(self, cells: list[bytes]) -> list[bytes]:
        """The same for many, which are hardly ever more than plain."""
        if not self._safe and not self.alone and len(b"\n".join(cells).translate(None, self.plain)) == len(cells) - 1:
            return cells
        return [self.written(cell) for cell in cells]

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
        return self._cells.delimiter.join(self._cells.all_written(values)) + b"\n"


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
