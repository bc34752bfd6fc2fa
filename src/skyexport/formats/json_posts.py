"""Posts as JSON objects, of which `json_array` and `json_lines` make files: they differ in white space only.

Source: docs/formats.md, "posts.json".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from skyexport import json_text
from skyexport.formats.format import TextFormat
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
    usual_time,
)

__all__ = ["JSON", "LEFT_OUT_WHEN_EMPTY", "JsonPosts", "Layout", "usual_json"]

_TEXTS = frozenset({"uri", "cid", "did", "text", "reply_parent", "embed_type"})
JSON = frozenset({"embed_data", "labels"})
LEFT_OUT_WHEN_EMPTY = frozenset({"reply_parent", "embed_type", "embed_data", "labels"})

_PIECE_BYTES = 1 << 18
"""Tokens of an embed are gathered to pieces of about this size."""

_USUAL_BYTES = 1 << 16
"""A larger value is not usual: it goes in pieces."""

_quoted: Callable[[str], str] = json.encoder.encode_basestring


@dataclass(frozen=True, slots=True)
class Layout:
    """The white space of a format."""

    before_key: str
    """The text before a key."""
    colon: str
    indented: bool
    """Whether embeds get a line for each of their values."""
    level: int
    """The level of indentation at which keys stand."""

    def embed_pieces(self, data: bytes) -> Iterator[bytes]:
        """An embed in its place, in pieces.

        Raises:
            ValueError: It is not exactly one JSON value, or is nested too deep.
        """
        return json_text.indent(data, self.level) if self.indented else json_text.compact(data)


class JsonPosts(TextFormat):
    """Rendering of posts as JSON objects without their braces.

    Args:
        layout: The white space.
        columns: Which keys, in which order.
    """

    def __init__(self, layout: Layout, columns: Sequence[str] = COLUMNS) -> None:
        self._layout = layout
        self._columns = columns
        self._line_break = "\n" + "  " * layout.level
        encoders: dict[str, Callable[[StoredValue], str | None]] = {
            **dict.fromkeys(_TEXTS, _usual_text), **dict.fromkeys(JSON, self._usual_embed),
            **dict.fromkeys(TIMES, _usual_time), **dict.fromkeys(COUNTS, count_text), **dict.fromkeys(FLAGS, _flag),
        }  # fmt: skip
        self._members = [
            (COLUMNS.index(name), f'{layout.before_key}"{name}"{layout.colon}', encoders[name],
             name in LEFT_OUT_WHEN_EMPTY)
            for name in columns
        ]  # fmt: skip

    def usual(self, values: Sequence[StoredValue], notices: Notices) -> bytes | None:
        """See `Format`."""
        del notices
        members = []
        for place, key, encode, left_out_when_empty in self._members:
            value = values[place]
            if left_out_when_empty and not value:
                continue
            encoded = encode(value)
            if encoded is None:
                return None
            members.append(key + encoded)
        text = ",".join(members)
        return text.encode() if text.isascii() else json_text.escape_line_separators(text).encode()

    def _usual_embed(self, value: StoredValue) -> str | None:
        if value == b"null":
            return "null"
        text = usual_json(value, indented=self._layout.indented)
        return text.replace("\n", self._line_break) if text is not None and self._layout.indented else text

    def pieces(self, post: StoredPost, notices: Notices) -> Iterator[bytes]:
        """One post, a value at a time."""
        values = _ExactValues(notices, self._layout)
        uri = as_bytes(post["uri"])
        comma = b""
        for name in self._columns:
            value = post[name]
            if name in LEFT_OUT_WHEN_EMPTY and not as_bytes(value):
                continue
            yield comma + f'{self._layout.before_key}"{name}"{self._layout.colon}'.encode()
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


def usual_json(value: StoredValue, *, indented: bool) -> str | None:
    """JSON as nearly every embed is stored, laid out anew with its spelling kept; None for any other.

    Go writes JSON without white space, and `&`, `<` and `>` as escapes. Where orjson spells the parsed value just so,
    it spells it with line breaks as well; where it does not, the stored spelling could not be kept.

    Args:
        value: The stored value, not empty.
        indented: Indent by two spaces a level from the margin, instead of no white space at all.
    """
    import orjson

    if not isinstance(value, bytes) or len(value) > _USUAL_BYTES:
        return None
    try:
        parsed = orjson.loads(value)
        spelt = orjson.dumps(parsed)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return None
    as_it_is = spelt == value
    if not as_it_is and _escaped_as_go_does(spelt.decode()).encode() != value:
        return None
    text = (orjson.dumps(parsed, option=orjson.OPT_INDENT_2) if indented else spelt).decode()
    return json_text.escape_line_separators(text) if as_it_is else _escaped_as_go_does(text)


def _escaped_as_go_does(text: str) -> str:
    """Spell what HTML and JavaScript may stumble over as Go's JSON does. No replacement makes work for a later one."""
    text = text.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")
    return text if text.isascii() else json_text.escape_line_separators(text)


def _usual_text(value: StoredValue) -> str | None:
    if value is None:
        return '""'
    if not isinstance(value, bytes) or len(value) > _USUAL_BYTES:
        return None
    try:
        return _quoted(value.decode())
    except UnicodeDecodeError:
        return None


def _usual_time(value: StoredValue) -> str | None:
    text = usual_time(value)
    return None if text is None else f'"{text}"'


def _flag(value: StoredValue) -> str:
    return "true" if value else "false"


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
        for piece in self._layout.embed_pieces(data):
            gathered.append(piece)
            size += len(piece)
            if size >= _PIECE_BYTES:
                yield b"".join(gathered)
                gathered.clear()
                size = 0
        yield b"".join(gathered)

    def _note(self, kind: str, uri: bytes, column: str) -> None:
        self._notices.add(kind, f"{column} of {json_text.decode(uri)}")
