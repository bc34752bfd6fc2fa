"""Reading posts.jsonl: one post per line.

Each line goes to a fast parser. If that refuses the line, the slow parser reads it as an element of an array.
"""

from __future__ import annotations

import orjson

from skyexport.formats.settings import FormatSettings
from skyexport.verification.post_keys import Keys, PostKey, key_values, post_keys
from skyexport.verification.readers.json_posts import KEYS, PostsParser, key_orders, wrong_keys

__all__ = ["JsonLinesReader"]

_LARGE_BYTES = 4_000_000
"""A longer line goes through the slow parser, which need not hold it."""


class JsonLinesReader:
    """Reads posts.jsonl; see `Reader`."""

    def __init__(self, settings: FormatSettings, _: object = None, keys: Keys | None = None) -> None:
        self._rest = b""
        """Data that was fed and not read yet: the beginning of a line."""
        self._in_line = False
        """Whether the slow parser has read the beginning of a line."""
        self._take_keys = keys
        self._keys: list[PostKey] = []
        """Keys of posts that have not been handed over."""
        self._parser = PostsParser(key_orders(settings.columns or KEYS), None if keys is None else self._keys.extend)
        self._parser.begin()

    @property
    def posts(self) -> int:
        """Whole lines seen so far."""
        return self._parser.posts

    def feed(self, data: bytes) -> None:
        """Read the next block; see `Reader`."""
        data = self._rest + data
        self._rest = b""
        position = 0
        while position < len(data):
            if self._in_line:
                end = data.find(b"\n", position)
                self._parser.read_all(data[position : None if end < 0 else end])
                position = len(data) if end < 0 else end + 1
                if end >= 0:
                    self._end_line()
                continue
            end = data.rfind(b"\n", position)
            if end >= 0:
                for line in data[position:end].split(b"\n"):
                    self._read(line)
                self._hand_over()
                position = end + 1
            elif len(data) - position <= _LARGE_BYTES:
                self._rest = data[position:]
                return
            else:
                self._begin_line()

    def finish(self) -> None:
        """End the file; see `Reader`."""
        self._hand_over()
        if self._rest or self._in_line:
            raise ValueError(f"not JSON Lines: cut off in post {self.posts + 1:,}")

    def _hand_over(self) -> None:
        if self._take_keys is not None and self._keys:
            self._take_keys(post_keys(self._keys))
            self._keys.clear()

    def _read(self, line: bytes) -> None:
        """Read a whole line."""
        try:
            post = orjson.loads(line)
        except orjson.JSONDecodeError:
            self._begin_line()
            self._parser.read_all(line)
            self._end_line()
            return
        number = self.posts + 1
        if type(post) is not dict:
            raise ValueError(f"post {number:,} is not an object")
        if tuple(post) not in self._parser.orders:
            raise wrong_keys(number, list(post))
        self._parser.skip(len(line) + 1, 1)
        if self._take_keys is not None:
            self._keys.append(key_values(post))

    def _begin_line(self) -> None:
        self._in_line = True
        if self.posts:
            self._parser.separate()

    def _end_line(self) -> None:
        if not self._parser.behind_post:
            raise ValueError(f"not JSON Lines: no post in line {self.posts + 1:,}, or not all of it")
        self._in_line = False
