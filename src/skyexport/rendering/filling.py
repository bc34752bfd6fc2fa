"""The memory that a chunk grows in."""

from __future__ import annotations

from skyexport.formats.format import Format
from skyexport.notices import Notices

__all__ = ["Filled"]


class Filled:
    """A target, as far as it is filled with posts.

    Args:
        target: Where the chunk grows.
        format: Of the posts.
    """

    def __init__(self, target: memoryview, format: Format) -> None:
        self._target = target
        self._length = 0
        self._separator = format.separator
        self.posts = 0
        self.notices = Notices()

    @property
    def _begin(self) -> int:
        """Where the next post begins."""
        return self._length + len(self._separator) if self.posts else 0

    def room(self) -> memoryview:
        """The rest of the target."""
        return self._target[min(self._begin, len(self._target)) :]

    def add_written(self, posts: int, size: int) -> None:
        """Take in posts that were written at the beginning of `room`."""
        if not posts:
            return
        begin = self._begin
        if self.posts:
            self._target[self._length : begin] = self._separator
        self._length = begin + size
        self.posts += posts

    def add(self, data: bytes) -> bool:
        """Add a post; False where it does not fit."""
        room = self.room()
        if len(data) > len(room):
            return False
        room[: len(data)] = data
        self.add_written(1, len(data))
        return True

    def data(self) -> memoryview:
        """All posts."""
        return self._target[: self._length]
