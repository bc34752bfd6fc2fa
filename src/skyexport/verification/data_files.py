"""The files of an export, read from beginning to end, once."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator

from skyexport.formats.compression import Decompressor
from skyexport.runtime.export_directory import ExportDirectory, NotAFileError
from skyexport.runtime.progress import Counters
from skyexport.verification.readers import Reader

__all__ = ["MISSING", "Posts", "Unread", "blocks", "lines", "why_unreadable"]

_BLOCK_BYTES = 4 << 20
"""Bytes read and hashed at once. With a megabyte, parsing waits for the hash: a tenth to a fifth longer."""

_PARSED_BYTES = 1 << 17
"""Bytes parsed at once: they stay in the processor's cache."""

_LONGEST_LINE_BYTES = 1000
"""Length of a line of SHA256SUMS. Longer lines are cut, and then not valid."""

MISSING = "missing"


def why_unreadable(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return MISSING
    return str(error) if isinstance(error, NotAFileError) else f"cannot be read: {error.strerror}"


def blocks(directory: ExportDirectory, name: str) -> Iterator[bytes]:
    """A file from beginning to end.

    Raises:
        OSError: It cannot be read, or is not a plain file.
    """
    descriptor = directory.open(name)
    try:
        left = os.fstat(descriptor).st_size
        while block := os.read(descriptor, _BLOCK_BYTES):
            left -= len(block)
            if left < 0:
                break
            yield block
        if left:
            raise OSError(errno.EAGAIN, "it is being changed")
    finally:
        os.close(descriptor)


def lines(directory: ExportDirectory, name: str) -> Iterator[bytes]:
    """The lines of a file, with their ends; a very long line is cut, so that it is not valid.

    Raises:
        OSError: As `blocks` does.
    """
    rest = b""
    for block in blocks(directory, name):
        *whole, rest = (rest + block).split(b"\n")
        yield from (line[:_LONGEST_LINE_BYTES] + b"\n" for line in whole)
        rest = rest[: _LONGEST_LINE_BYTES + 1]
    if rest:
        yield rest


class Unread:
    """Stands in for a reader whose extra is not installed: reads nothing."""

    posts = 0

    def feed(self, data: bytes) -> None:
        """Ignore *data*."""

    def finish(self) -> None:
        """Do nothing."""


class Posts:
    """The posts of a data file, counted as the file is read."""

    def __init__(self, reader: Reader, counters: Counters, decompressor: Decompressor | None) -> None:
        self._reader = reader
        self._counters = counters
        self._posts_before = counters.posts
        self._decompressor = decompressor
        self.problems: list[str] = []
        """The first problem that keeps the file from being read; empty if there is none."""

    @property
    def posts(self) -> int:
        """Whole posts read so far."""
        return self._reader.posts

    def read(self, block: bytes) -> None:
        """Read the next block."""
        self._counters.bytes += len(block)
        self._read(lambda: self._feed(block))

    def _feed(self, block: bytes) -> None:
        for plain in self._decompressor.feed(block) if self._decompressor is not None else (block,):
            for start in range(0, len(plain), _PARSED_BYTES):
                self._reader.feed(plain[start : start + _PARSED_BYTES])

    def finish(self) -> None:
        """End the file."""
        self._read(self._finish)

    def _finish(self) -> None:
        if self._decompressor is not None:
            self._decompressor.finish()
        self._reader.finish()

    def _read(self, read: Callable[[], None]) -> None:
        """Call *read*, unless there was a problem already; note the problem that it finds."""
        if not self.problems:
            try:
                read()
            except ValueError as error:
                self.problems.append(str(error))
            self._counters.posts = self._counters.posts_read = self._posts_before + self._reader.posts
