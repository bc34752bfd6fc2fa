"""Reading posts.csv: a byte order mark, the header, and records of fifteen fields.

The file is cut after line feeds with an even number of quotes before them: in a valid file, records end there. Bytes
are read as Latin-1: the marks between fields and records are ASCII, and the rest need not be text.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from enum import Enum

from skyexport.formats.formulas import as_stored
from skyexport.formats.settings import FormatSettings
from skyexport.json_text import decode
from skyexport.verification.post_keys import KEY_COLUMNS, LONGEST_VALUE, Keys, PostKey, comparable, post_keys

__all__ = ["HEADINGS", "CsvTableReader"]

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

HEADINGS = {
    name: name.title().replace("_", "")
    for name in (
        *("uri", "cid", "did", "text", "created_at", "like_count", "repost_count", "reply_count", "quote_count"),
        *("is_reply", "reply_parent", "has_media", "media_files", "embed_type", "indexed_at"),
    )
} | {"uri": "URI", "cid": "CID", "did": "DID"}
"""Column → heading, in the order of a table with all of them."""

_LONGEST_HELD_BYTES = 8 * LONGEST_VALUE
"""Bytes of a value that are held: more than those of the longest one that is compared, with quotes twice."""

_LARGE_BYTES = 4_000_000
"""A record that is longer goes through the slow parser, which need not hold it."""


class CsvTableReader:
    """Reads posts.csv; see `Reader`."""

    def __init__(self, settings: FormatSettings, _: object = None, keys: Keys | None = None) -> None:
        columns = settings.columns or tuple(HEADINGS)
        header = settings.delimiter.join(HEADINGS[name] for name in columns) + "\n"
        self._beginning = _BYTE_ORDER_MARK * settings.bom + header.encode() * settings.header
        self._delimiter = settings.delimiter
        self._fields = len(columns)
        self._rest = b""
        """Data that was fed and not read yet; empty, or beginning with the header or a record."""
        self._header_read = False
        self._take_keys = keys
        self._key_places = () if keys is None else tuple(map(columns.index, KEY_COLUMNS))
        self._safe = settings.csv_safe
        self._parser = _SlowParser(settings.delimiter.encode(), len(columns), self._key_places)

    @property
    def posts(self) -> int:
        """Whole records seen so far."""
        return self._parser.posts

    def feed(self, data: bytes) -> None:
        """Read the next block; see `Reader`."""
        data = self._rest + data
        self._rest = b""
        position = 0
        if not self._header_read:
            if len(data) < len(self._beginning):
                self._rest = data
                return
            self._read_header(data)
            position = len(self._beginning)
        while position < len(data):
            if self._parser.before_record:
                end = _records_end(data, position)
                if end > position:
                    self._read(data[position:end])
                    position = end
                    continue
                if len(data) - position <= _LARGE_BYTES:
                    self._rest = data[position:]
                    return
            position = self._read_slowly(data, position)

    def finish(self) -> None:
        """End the file; see `Reader`."""
        if not self._header_read:
            self._read_header(self._rest)
        if self._rest or not self._parser.before_record:
            raise ValueError(f"not CSV: cut off in post {self.posts + 1:,}")

    def _read_header(self, data: bytes) -> None:
        if not data.startswith(self._beginning):
            what = "header" if self._beginning.endswith(b"\n") else "byte order mark"
            raise ValueError(f"not a table of posts: it does not begin with their {what}")
        self._header_read = True

    def _read(self, group: bytes) -> None:
        """Read a group that should consist of whole records."""
        posts = self.posts
        keys: list[PostKey] = []
        try:
            # csv also refuses fields beyond its size limit.
            for fields in csv.reader(
                io.StringIO(group.decode("latin-1"), newline="\n"), delimiter=self._delimiter, strict=True
            ):
                posts += 1
                if len(fields) != self._fields:
                    raise _wrong_fields(posts, len(fields), self._fields)
                if self._take_keys is not None:
                    keys.append(self._key([fields[place].encode("latin-1") for place in self._key_places]))
        except csv.Error:
            position = 0
            while position < len(group):
                position = self._read_slowly(group, position)
        else:
            self._parser.posts = posts
            if self._take_keys is not None:
                self._take_keys(post_keys(keys))

    def _read_slowly(self, data: bytes, position: int) -> int:
        position = self._parser.read(data, position)
        if self._take_keys is not None and self._parser.before_record:
            self._take_keys([self._key([bytes(value) for value in self._parser.held.values()])])
        return position

    def _key(self, values: list[bytes]) -> PostKey:
        uri, cid, indexed_at = (comparable(decode(as_stored(value) if self._safe else value)) for value in values)
        return uri, cid, indexed_at


# Possessive, here and below: there is only one way to match, and remembering others would take memory.
_RECORDS = re.compile(rb'(?:[^"\n]*+(?:"[^"]*+"[^"\n]*+)*+\n)*+')


def _records_end(data: bytes, start: int) -> int:
    """The position after the last line feed from *start* on that is not in quotes; *start* if there is none."""
    end = data.rfind(b"\n", start) + 1
    if end <= start or data.count(b'"', start, end) % 2 == 0:
        return max(start, end)
    return _end(_RECORDS, data, start)


def _wrong_fields(post: int, fields: int, expected: int) -> ValueError:
    return ValueError(f"not a table of posts: post {post:,} has {fields:,} fields instead of {expected}")


class _At(Enum):
    """A place in a record."""

    RECORD = 0
    """Before its first field."""
    FIELD = 1
    """Before another field."""
    PLAIN = 2
    """In a field without quotes."""
    QUOTED = 3
    """In a field with quotes."""
    QUOTE = 4
    """After a quote in such a field: the end of the field, or the first of two quotes."""


_QUOTED = re.compile(rb'[^"]*+(?:""[^"]*+)*+')


class _SlowParser:
    """Reads records field by field, wherever blocks end (RFC 4180, with a line feed at the end of records)."""

    def __init__(self, delimiter: bytes, fields: int, held_fields: Iterable[int] = ()) -> None:
        self._delimiter = delimiter
        self.held = {place: bytearray() for place in held_fields}
        """Place of a field whose value is wanted → its value in the last record, cut off where it is too long."""
        self._expected_fields = fields
        self._plain = re.compile(rb'[^"\r\n%s]*+' % re.escape(delimiter))
        self.posts = 0
        self._at = _At.RECORD
        self._fields = 0
        """Whole fields read of the current record."""

    @property
    def before_record(self) -> bool:
        """Whether a record comes next, or the end of the file."""
        return self._at is _At.RECORD

    def read(self, data: bytes, position: int) -> int:
        """Read from *position* to the end of the record, or of *data*; returns the position reached.

        Raises:
            ValueError: The data is not CSV, or not a record of a post.
        """
        while position < len(data):
            if self._at in (_At.RECORD, _At.FIELD):
                if self._fields in self.held:
                    self.held[self._fields].clear()
                quoted = data.startswith(b'"', position)
                self._at = _At.QUOTED if quoted else _At.PLAIN
                position += quoted
            elif self._at is _At.QUOTED:
                beginning, position = position, _end(_QUOTED, data, position)
                self._hold(data, beginning, position)
                if position < len(data):
                    self._at = _At.QUOTE
                    position += 1
            elif self._at is _At.QUOTE and data.startswith(b'"', position):
                self._at = _At.QUOTED
                self._hold(b'""', 0, 2)
                position += 1
            else:
                if self._at is _At.PLAIN:
                    beginning, position = position, _end(self._plain, data, position)
                    self._hold(data, beginning, position)
                if position < len(data):
                    self._end_field(data[position : position + 1])
                    position += 1
                    if self.before_record:
                        break
        return position

    def _hold(self, data: bytes, beginning: int, end: int) -> None:
        """Add the part of a field to its value, if that is wanted, and not too long already."""
        held = self.held.get(self._fields)
        if held is not None and len(held) < _LONGEST_HELD_BYTES:
            part = data[beginning : min(end, beginning + _LONGEST_HELD_BYTES)]
            held += part.replace(b'""', b'"') if self._at is _At.QUOTED else part

    def _end_field(self, mark: bytes) -> None:
        if mark not in (self._delimiter, b"\n"):
            raise ValueError(f"not CSV: {mark.decode('latin-1')!r} is out of place in post {self.posts + 1:,}")
        self._fields += 1
        self._at = _At.FIELD
        if mark == b"\n":
            self.posts += 1
            if self._fields != self._expected_fields:
                raise _wrong_fields(self.posts, self._fields, self._expected_fields)
            self._fields = 0
            self._at = _At.RECORD


def _end(pattern: re.Pattern[bytes], data: bytes, position: int) -> int:
    """The position after a match of *pattern* at *position*; *pattern* may match an empty text."""
    match = pattern.match(data, position)
    return position if match is None else match.end()
