"""JSON as text: reading it strictly, and indenting it without changing a token.

Embeds are stored JSON whose spelling must survive (duplicate keys, `1.0`, 25-digit integers, escapes), so they are
never parsed into objects here: values of many megabytes go through in pieces, nested up to 10,000 levels.
"""

from __future__ import annotations

import codecs
import functools
import json
import re
from collections.abc import Iterator

__all__ = [
    "compact",
    "decode",
    "escape_line_separators",
    "indent",
    "is_utf8",
    "is_valid",
    "quote",
    "quote_pieces",
    "tokens",
    "unquoted_pieces",
]

_MAX_DEPTH = 10_000
"""Nesting that the established exporter's JSON reader accepts; deeper is not JSON to it, and not to us."""

_PIECE_BYTES = 1 << 18
"""Long strings are quoted in pieces of this many bytes: at six bytes out for one in, 1.5 MB at a time."""

_UTF8_WINDOW = 1 << 17
"""UTF-8 is checked in windows of this size, so that the decoded text stays in the processor's cache."""

_ONE_EACH = "skyexport-one-each"
"""Name of the decoding error handler that turns *each* byte that is not valid UTF-8 into one U+FFFD."""


def _one_each(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "\ufffd" * (error.end - error.start), error.end


codecs.register_error(_ONE_EACH, _one_each)


def decode(data: bytes) -> str:
    """Bytes as text: UTF-8, with one U+FFFD for each byte that is not valid."""
    return data.decode("utf-8", _ONE_EACH)


def is_utf8(data: bytes) -> bool:
    """Whether all of the bytes are valid UTF-8."""
    view = memoryview(data)
    start = 0
    try:
        while start < len(data):
            end = start + _UTF8_WINDOW
            start += codecs.utf_8_decode(view[start:end], "strict", end >= len(data))[1]
    except UnicodeDecodeError:
        return False
    return True


def escape_line_separators(text: str) -> str:
    """Escape U+2028 and U+2029, which JSON allows and JavaScript once did not."""
    return text.replace("\u2028", r"\u2028").replace("\u2029", r"\u2029")


def quote(text: str) -> str:
    """A JSON string, quotes included: escapes what JSON demands and U+2028, U+2029; nothing else."""
    return escape_line_separators(json.dumps(text, ensure_ascii=False))


def quote_pieces(data: bytes) -> Iterator[bytes]:
    """`quote(decode(data))` as UTF-8, in pieces of bounded size."""
    yield b'"'
    for text in _decoded(data):
        yield quote(text)[1:-1].encode()
    yield b'"'


def _decoded(data: bytes) -> Iterator[str]:
    """`decode(data)`, in pieces."""
    decoder = codecs.getincrementaldecoder("utf-8")(_ONE_EACH)
    for start in range(0, len(data), _PIECE_BYTES):
        end = start + _PIECE_BYTES
        yield decoder.decode(data[start:end], final=end >= len(data))


# Possessive: there is one way to read a string, and remembering others took a hundred bytes for each escape. What JSON
# is made of is ASCII, so bytes do: no byte of a longer character is one of these.
_TOKEN = re.compile(
    rb"[ \t\n\r]*(?:"
    rb"(?P<mark>[{}\[\],:])"
    rb'|(?P<string>"[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+")'
    rb"|(?P<scalar>-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null)"
    rb"|(?P<end>\Z))"
)

_KINDS = {"string": b"s", "scalar": b"v", "end": b"$"}

# Kinds of tokens that may come next; marks stand for themselves.
_VALUE = frozenset({b"{", b"[", b"s", b"v"})
_KEY_OR_END = frozenset({b"s", b"}"})
_ITEM_OR_END = frozenset({b"{", b"[", b"s", b"v", b"]"})
_KEY = frozenset({b"s"})
_COLON = frozenset({b":"})
_AFTER_MEMBER = frozenset({b",", b"}"})
_AFTER_ITEM = frozenset({b",", b"]"})
_END = frozenset({b"$"})


def tokens(data: bytes) -> Iterator[bytes]:
    """The tokens of one JSON value, as they are spelt: bytes that are not UTF-8 may be in strings.

    Raises:
        ValueError: This is not exactly one JSON value (RFC 8259), or is nested too deep. Tokens may have been yielded
            before.
    """
    containers: list[bytes] = []
    expected = _VALUE
    position = 0
    while True:
        match = _TOKEN.match(data, position)
        if match is None or match.lastgroup is None:
            raise ValueError(f"not JSON at byte {position}")
        position = match.end()
        token = match[match.lastgroup]
        kind = _KINDS.get(match.lastgroup, token)
        if kind not in expected:
            raise ValueError(f"not JSON at byte {position}")
        if kind == b"$":
            return
        yield token
        if kind == b":":
            expected = _VALUE
            continue
        if kind == b",":
            expected = _KEY if containers[-1] == b"{" else _VALUE
            continue
        if kind == b"s" and (expected is _KEY or expected is _KEY_OR_END):
            expected = _COLON
            continue
        if kind in (b"{", b"["):
            if len(containers) == _MAX_DEPTH:
                raise ValueError(f"nested deeper than {_MAX_DEPTH} levels")
            containers.append(token)
            expected = _KEY_OR_END if kind == b"{" else _ITEM_OR_END
            continue
        if kind in (b"}", b"]"):
            containers.pop()
        expected = (_AFTER_MEMBER if containers[-1] == b"{" else _AFTER_ITEM) if containers else _END


def indent(data: bytes, level: int) -> Iterator[bytes]:
    """Indent one JSON value by two spaces a level, every token as it is spelt, but for raw U+2028 and U+2029.

    Args:
        data: The JSON text, with any white space around it. Each byte that is not UTF-8 becomes one U+FFFD.
        level: The level at which the value stands: its closing bracket gets this many levels of indentation.

    Yields:
        The result, in pieces of bounded size.

    Raises:
        ValueError: As `tokens` does. Pieces may have been yielded before.
    """
    before = b""
    for token in tokens(data):
        if token in (b"}", b"]"):
            level -= 1
            if before not in (b"{", b"["):
                yield _line_break(level)
        elif before in (b"{", b"[", b","):
            yield _line_break(level)
        if token in (b"{", b"["):
            level += 1
        if token == b":":
            yield b": "
        else:
            yield from _spelt(token)
        before = token


def compact(data: bytes) -> Iterator[bytes]:
    """The same without any white space between tokens.

    Raises:
        ValueError: As `tokens` does. Pieces may have been yielded before.
    """
    for token in tokens(data):
        yield from _spelt(token)


@functools.lru_cache(maxsize=64)
def _line_break(level: int) -> bytes:
    return b"\n" + b"  " * level


def _spelt(token: bytes) -> Iterator[bytes]:
    """A token of any size in valid UTF-8."""
    if len(token) <= _PIECE_BYTES and token.isascii():
        yield token
        return
    for text in _decoded(token):
        yield escape_line_separators(text).encode()


_PART = re.compile(rb"(?:[^\\]|\\u[dD][89abAB]..\\u[dD][c-fC-F]..|\\u....|\\.){1,65536}+", re.DOTALL)
"""Of what stands between the quotes of a string: no escape is cut, and no pair of them that is one character."""


def unquoted_pieces(token: bytes) -> Iterator[str]:
    """The text that a string spells, in pieces of bounded size; lone surrogates are in it where it spells them.

    Args:
        token: With its quotes, as `tokens` gives it.
    """
    if len(token) <= _PIECE_BYTES:
        yield json.loads(decode(token))
        return
    decoder = codecs.getincrementaldecoder("utf-8")(_ONE_EACH)
    position, end = 1, len(token) - 1
    while position < end:
        part = _PART.match(token, position, end)
        assert part is not None
        position = part.end()
        yield json.loads(f'"{decoder.decode(part[0], final=position == end)}"')


def is_valid(data: bytes) -> bool:
    """Whether this is exactly one JSON value, nested no deeper than `indent` takes it."""
    try:
        for _ in tokens(data):
            pass
    except ValueError:
        return False
    return True
