"""Reading posts in JSON: their keys, and a slow parser for posts that the fast one refuses.

Both JSON formats use it. The parser reads an array of posts token by token, wherever blocks end.
"""

from __future__ import annotations

import codecs
import contextlib
import gc
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from enum import Enum

from skyexport.verification.post_keys import KEY_COLUMNS, LONGEST_VALUE, Keys, comparable

__all__ = ["KEYS", "KeyOrders", "PostsParser", "collection_paused", "key_orders", "wrong_keys"]

_MAX_DEPTH = 10_002
"""Embeds have at most 10,000 levels, inside two levels of the file."""

_LONGEST_KEY_BYTES = 64
"""A longer key is not a key of a post, and is not read."""

_SHOWN_KEYS = 20
"""Keys that an error shows of a post with wrong keys."""


KEYS = (
    *("uri", "cid", "did", "text", "created_at", "indexed_at", "has_media"),
    *("like_count", "repost_count", "reply_count", "quote_count", "is_reply"),
    *("reply_parent", "embed_type", "embed_data", "labels", "archived_at"),
)
"""The keys of a post, in their order."""

_SOMETIMES = frozenset({"reply_parent", "embed_type", "embed_data", "labels"})
"""Keys that are left out when their values are empty."""

KeyOrders = frozenset[tuple[str, ...]]
"""All possible lists of keys of one post, in order."""


def key_orders(columns: Iterable[str] = KEYS) -> KeyOrders:
    """The possible lists of keys of a post with these columns, with and without those that may be left out."""
    choices = [((name,), ()) if name in _SOMETIMES else ((name,),) for name in columns]
    return frozenset(tuple(itertools.chain(*chosen)) for chosen in itertools.product(*choices))


@contextlib.contextmanager
def collection_paused() -> Iterator[None]:
    """Leave out the search for circles of objects, which took a tenth of the time: parsed JSON has none."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def wrong_keys(number: int, keys: list[str]) -> ValueError:
    return ValueError(
        f"post {number:,} does not have the keys of a post, in their order, but {', '.join(keys[:_SHOWN_KEYS])}"
    )


class _Next(Enum):
    """The possible next tokens, in the words of errors."""

    VALUE = "a value"
    VALUE_OR_END = "a value or the end of an array"
    KEY = "a key"
    KEY_OR_END = "a key or the end of an object"
    COLON = "a colon"
    COMMA_OR_END = "a comma or the end of what is open"
    NOTHING = "nothing more"


_BEFORE_VALUE = (_Next.VALUE, _Next.VALUE_OR_END)
_BEFORE_KEY = (_Next.KEY, _Next.KEY_OR_END)

# Possessive, so that matching a string of any length does not remember other ways to match it.
_STRING_BODY = re.compile(rb'[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+')
_TOKEN = re.compile(rb'[ \t\n\r]*+(?:(?P<mark>[{}\[\],:"])|(?P<scalar>[-+.0-9A-Za-z]++)|(?P<other>[^ \t\n\r])|\Z)')
_SCALAR = re.compile(rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?|true|false|null")
_MORE_DIGITS = re.compile(rb"([0-9]{2})[0-9]++")
_ESCAPE_BEGINNING = re.compile(rb"\\(?:u[0-9a-fA-F]{0,3})?")
_LONGEST_SCALAR_BYTES = 20
"""The longest valid number or word, once runs of digits are shortened to two."""

_LONGEST_HELD_BYTES = 12 * (LONGEST_VALUE + 1)
"""Bytes of a value that are held: enough for one that is compared, even if every character is spelt as two escapes."""


class PostsParser:
    """Reads a JSON array of posts token by token, wherever blocks end.

    Args:
        orders: The possible lists of keys of a post.
        keys: Takes the keys of posts, if anyone wants them.
    """

    def __init__(self, orders: KeyOrders, keys: Keys | None = None) -> None:
        self.orders = orders
        self._take_keys = keys
        self._values: dict[str, str | None] = {}
        """Column → value, of the columns of keys that the current post has so far."""
        self._held: bytearray | None = None
        """The beginning of a value of such a column, as it is spelt."""
        self.posts = 0
        self._offset = 0
        """Bytes of the file read so far."""
        self._next = _Next.VALUE
        self._open = bytearray()
        """The open brackets, outermost first."""
        self._keys: list[str] = []
        """Keys of the current post so far."""
        self._in_string = False
        self._tail = b""
        """The beginning of an escape, a number, a word, or a key of a post that continues in the next block."""
        self._utf8 = codecs.getincrementaldecoder("utf-8")()

    @property
    def before_post(self) -> bool:
        """Whether a post comes next, or the end of the array."""
        return len(self._open) == 1 and self._next in _BEFORE_VALUE and not self._tail

    @property
    def behind_post(self) -> bool:
        """Whether a post has just ended."""
        return len(self._open) == 1 and self._next is _Next.COMMA_OR_END

    def begin(self) -> None:
        """Count the beginning of the array as read, though it is not in the file."""
        self._mark(b"[", 0)

    def separate(self) -> None:
        """Count a comma as read, where the file has another separator of one byte between two posts."""
        self._next = _Next.VALUE

    def skip(self, length: int, posts: int) -> None:
        """Skip *length* bytes that another parser has read: whole *posts*, with commas between them."""
        self._offset += length
        self.posts += posts
        self._next = _Next.COMMA_OR_END

    def read_all(self, data: bytes) -> None:
        """Read all of *data*."""
        position = 0
        while position < len(data):
            position = self.read(data, position)

    def read(self, data: bytes, position: int) -> int:
        """Read at least one token from *position*, up to where a post may begin, or to the end of *data*.

        Returns:
            The position reached.

        Raises:
            ValueError: The data is not JSON, or not an array of posts.
        """
        carried = len(self._tail)
        if carried:
            data, shift, position = self._tail + data[position:], position - carried, 0
            self._tail = b""
        else:
            shift = 0
        self._offset -= carried or position  # Until *data* is read, this is the offset of its beginning.
        end = self._read_tokens(data, position)
        try:
            self._utf8.decode(data[position + carried : end])
        except UnicodeDecodeError as error:
            at = self._offset + position + carried + error.start + 1
            raise ValueError(f"not UTF-8 at byte {at:,}, {self._where()}") from None
        self._offset += end
        return end + shift

    def finish(self) -> None:
        """End the file."""
        if self._next is not _Next.NOTHING or self._tail:
            raise ValueError(f"not JSON: cut off at byte {self._offset:,}, {self._where()}")

    def _read_tokens(self, data: bytes, position: int) -> int:
        if self._in_string:
            position = self._read_string(data, position)
        while position < len(data):
            token = _TOKEN.match(data, position)
            if token is None or token["other"]:
                raise self._unexpected(self._next.value, token.start("other") if token else position)
            position = token.end()
            if token["mark"] == b'"':
                position = self._begin_string(data, position)
            elif token["mark"]:
                self._mark(token["mark"], position - 1)
                if self.before_post:
                    return position
            elif token["scalar"]:
                self._scalar(token["scalar"], token.start("scalar"), is_whole=position < len(data))
        return position

    def _begin_string(self, data: bytes, position: int) -> int:
        """Read a string from its opening quote on, to its end or the end of *data*."""
        before = self._next
        is_key = before in _BEFORE_KEY
        if not is_key:
            self._check_value(position - 1)
            if self._take_keys is not None and len(self._open) == 2 and self._keys[-1] in KEY_COLUMNS:
                self._held = bytearray()
        self._next = _Next.COLON if is_key else _Next.COMMA_OR_END
        self._in_string = True
        end = self._read_string(data, position)
        if is_key and len(self._open) == 2:
            if len(self._keys) == _SHOWN_KEYS or end - position > _LONGEST_KEY_BYTES:
                raise wrong_keys(self.posts + 1, self._keys)
            if self._in_string:
                self._next, self._in_string, self._tail = before, False, data[position - 1 :]
            else:
                self._keys.append(data[position : end - 1].decode(errors="replace"))
        return end

    def _read_string(self, data: bytes, position: int) -> int:
        """Read on in a string; returns the position after its closing quote, or the end of *data* without one."""
        match = _STRING_BODY.match(data, position)
        end = match.end() if match else position
        if self._held is not None and len(self._held) < _LONGEST_HELD_BYTES:
            self._held += data[position : min(end, position + _LONGEST_HELD_BYTES)]
        if data[end : end + 1] == b'"':
            self._in_string = False
            if self._held is not None:
                self._values[self._keys[-1]] = _value(self._held)
                self._held = None
            return end + 1
        rest = data[end:]
        if rest and not _ESCAPE_BEGINNING.fullmatch(rest):
            raise self._unexpected("no such character in a string", end)
        self._tail = rest
        return len(data)

    def _mark(self, mark: bytes, position: int) -> None:
        if mark in b"{[":
            self._check_value(position, mark)
            if len(self._open) == _MAX_DEPTH:
                raise self._unexpected(f"no more than {_MAX_DEPTH:,} levels", position)
            self._open += mark
            self._next = _Next.KEY_OR_END if mark == b"{" else _Next.VALUE_OR_END
        elif mark in b"}]":
            opening, or_end = (b"{", _Next.KEY_OR_END) if mark == b"}" else (b"[", _Next.VALUE_OR_END)
            if not self._open.endswith(opening) or self._next not in (or_end, _Next.COMMA_OR_END):
                raise self._unexpected(self._next.value, position)
            self._open.pop()
            self._next = _Next.COMMA_OR_END if self._open else _Next.NOTHING
            if len(self._open) == 1:
                self._end_post()
        elif mark == b":" and self._next is _Next.COLON:
            self._next = _Next.VALUE
        elif mark == b"," and self._next is _Next.COMMA_OR_END:
            self._next = _Next.KEY if self._open.endswith(b"{") else _Next.VALUE
        else:
            raise self._unexpected(self._next.value, position)

    def _scalar(self, scalar: bytes, position: int, *, is_whole: bool) -> None:
        if is_whole:
            self._check_value(position)
            if not _SCALAR.fullmatch(scalar):
                raise self._unexpected("no such number or word", position)
            self._next = _Next.COMMA_OR_END
            return
        # Only the first two digits in a row matter: 01 is not a number.
        self._tail = _MORE_DIGITS.sub(rb"\1", scalar)
        if len(self._tail) > _LONGEST_SCALAR_BYTES:
            raise self._unexpected("no such number or word", position)

    def _check_value(self, position: int, mark: bytes = b"") -> None:
        """Fail where no value, or no value of this kind, may begin."""
        if self._next not in _BEFORE_VALUE:
            raise self._unexpected(self._next.value, position)
        if len(self._open) < 2 and mark != (b"{" if self._open else b"["):
            raise ValueError(f"post {self.posts + 1:,} is not an object" if self._open else "not an array")

    def _end_post(self) -> None:
        self.posts += 1
        if tuple(self._keys) not in self.orders:
            raise wrong_keys(self.posts, self._keys)
        self._keys.clear()
        if self._take_keys is not None:
            uri, cid, indexed_at = map(self._values.get, KEY_COLUMNS)
            self._take_keys([(uri, cid, indexed_at)])
            self._values.clear()

    def _unexpected(self, expected: str, position: int) -> ValueError:
        return ValueError(f"not JSON at byte {self._offset + position + 1:,}, {self._where()}: {expected} expected")

    def _where(self) -> str:
        return f"in post {self.posts + 1:,}" if len(self._open) > 1 else f"after {self.posts:,} posts"


def _value(held: bytes | bytearray) -> str | None:
    """The value for comparison of a string that is spelt so between its quotes, or begins so."""
    if len(held) >= _LONGEST_HELD_BYTES:
        return None
    return comparable(json.loads(b'"%b"' % held.decode(errors="replace").encode()))
