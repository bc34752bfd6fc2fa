"""Reading posts.json: one array of objects with the keys of a post.

The file is cut at lines that look like the end of a post. If a cut is wrong, the parts are not JSON, and the slow
parser reads them as they are. If all parts are JSON, so is the whole file, wherever it was cut.
"""

from __future__ import annotations

from typing import Any, NoReturn

import orjson

from skyexport.formats.settings import FormatSettings
from skyexport.verification.post_keys import Keys, key_values, post_keys
from skyexport.verification.readers.json_posts import PostsParser, collection_paused, key_orders, wrong_keys

__all__ = ["JsonArrayReader"]

_POST_END = b"\n  },\n"
_LAST_POST_END = b"\n  }\n"

_LARGE_BYTES = 4_000_000
"""A post that is longer goes through the slow parser, which need not hold it."""


class JsonArrayReader:
    """Reads posts.json; see `Reader`."""

    def __init__(self, _: FormatSettings, __: object = None, keys: Keys | None = None) -> None:
        self._rest = b""
        """Data that was fed and not read yet; empty, or beginning between two posts."""
        self._keys = keys
        self._parser = PostsParser(key_orders(), keys)

    @property
    def posts(self) -> int:
        """Whole posts seen so far."""
        return self._parser.posts

    def feed(self, data: bytes) -> None:
        """Read the next block; see `Reader`."""
        data = self._rest + data
        self._rest = b""
        position = 0
        while position < len(data):
            if self._parser.before_post:
                end = data.rfind(_POST_END, position)
                if end >= 0:
                    end += len(_POST_END) - len(b",\n")
                    self._read(data[position:end])
                    position = end
                    continue
                if len(data) - position <= _LARGE_BYTES:
                    self._rest = data[position:]
                    return
            position = self._parser.read(data, position)

    def finish(self) -> None:
        """End the file; see `Reader`."""
        rest = self._rest
        end = rest.rfind(_LAST_POST_END)
        if end >= 0:
            end += len(_LAST_POST_END) - len(b"\n")
            self._read(rest[:end])
            rest = rest[end:]
        self._parser.read_all(rest)
        self._parser.finish()

    def _read(self, group: bytes) -> None:
        """Read a group that should consist of whole posts."""
        if self._read_fast(group):
            return
        *posts, last = group.split(_POST_END)
        for post in posts:
            self._read_one(post + _POST_END[: -len(b",\n")])
            self._parser.read_all(b",\n")
        self._read_one(last)

    def _read_one(self, post: bytes) -> None:
        if not (self._parser.before_post and self._read_fast(post)):
            self._parser.read_all(post)

    def _read_fast(self, group: bytes) -> bool:
        """Read whole posts with the fast parser. Returns False, and reads nothing, if it refuses them."""
        with collection_paused():
            try:
                posts = orjson.loads(b"[" + group + b"]")
            except orjson.JSONDecodeError:
                return False
            if not posts:
                return False
            if set(map(type, posts)) != {dict} or not self._parser.orders.issuperset(map(tuple, posts)):
                self._refuse(posts)
            if self._keys is not None:
                self._keys(post_keys(map(key_values, posts)))
            count = len(posts)
            del posts
        self._parser.skip(len(group), count)
        return True

    def _refuse(self, posts: list[Any]) -> NoReturn:
        """Name the first of these that is no post."""
        for number, post in enumerate(posts, self.posts + 1):
            if type(post) is not dict:
                raise ValueError(f"post {number:,} is not an object")
            if tuple(post) not in self._parser.orders:
                raise wrong_keys(number, list(post))
        raise AssertionError
