"""The ordered writer: takes chunks in order, adds prologue, separators, and epilogue, writes, and hashes.

There is no buffer in between: a chunk is written straight from its slot, and every written byte is hashed.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from skyexport.formats import Format
from skyexport.formats.compression import Compression, compressor_of
from skyexport.options.export_options import Split
from skyexport.runtime.digest import Digest
from skyexport.runtime.disk import output_error
from skyexport.runtime.sync import sync_file

__all__ = [
    "OrderedWriter",
    "OutputFile",
    "WrittenFile",
    "write_all",
]

_WRITE_BACK_BYTES = 8_000_000
"""Large enough for one efficient write, small enough to keep the disk busy from the start."""


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A finished file of an export."""

    name: str
    bytes: int
    sha256: str

    def sum_line(self) -> str:
        """The file's line of SHA256SUMS; our names have no character that `sha256sum` would escape."""
        return f"{self.sha256}  {self.name}\n"


def write_all(descriptor: int, data: bytes) -> int:
    """Write all of *data*; returns its size.

    Raises:
        OSError: It cannot be written.
    """
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
    return len(data)


class OutputFile:
    """A file that is written from beginning to end, without a buffer.

    Args:
        descriptor: Open for writing; `close` closes it.
        name: The name for errors.
        directory: The directory of the file; None for a stream or a device.
        durable: Whether `sync` waits for the disk; if not, it does nothing.
    """

    def __init__(self, descriptor: int, name: str, directory: Path | None = None, *, durable: bool = True) -> None:
        self._descriptor = descriptor
        self.name = name
        self.directory = directory
        self._durable = durable
        self._digest = Digest()
        self._flushed_to = 0
        self.bytes_written = 0

    def write(self, data: bytes | memoryview) -> None:
        """Write all of *data*.

        Raises:
            OutputError: It cannot be written.
            StoppedError: The reader of a pipe has closed it.
        """
        self._digest.begin(data)
        rest = memoryview(data)
        try:
            while rest:
                written = os.write(self._descriptor, rest)
                self.bytes_written += written
                rest = rest[written:]
            self._start_write_back()
        except OSError as error:
            raise output_error(error, self.name, self.directory) from error
        finally:
            # The memory of *data* may have other bytes after this.
            self._digest.wait()

    def _start_write_back(self) -> None:
        """Make the disk start writing now and then, so that `sync` has little left to wait for."""
        written = self.bytes_written - self._flushed_to
        if self._durable and written >= _WRITE_BACK_BYTES and hasattr(os, "posix_fadvise"):
            with contextlib.suppress(OSError):
                # Linux takes "not needed in memory" as a reason to start writing, and does not wait for it.
                os.posix_fadvise(self._descriptor, self._flushed_to, written, os.POSIX_FADV_DONTNEED)
            self._flushed_to = self.bytes_written

    def sync(self) -> None:
        """Wait until the bytes are on disk. A failure is final: a second call would not report it.

        Raises:
            OutputError: They are not.
        """
        if not self._durable:
            return
        try:
            sync_file(self._descriptor)
        except OSError as error:
            raise output_error(error, self.name, self.directory) from error

    def close(self) -> None:
        """Close the descriptor, once.

        Raises:
            OutputError: The system reports only now that something was not written.
        """
        self._digest.end()
        if self._descriptor < 0:
            return
        descriptor, self._descriptor = self._descriptor, -1
        try:
            os.close(descriptor)
        except OSError as error:
            raise output_error(error, self.name, self.directory) from error

    def written(self, name: str) -> WrittenFile:
        """The finished file, under its name in the export."""
        return WrittenFile(name, self.bytes_written, self._digest.hexdigest())


_NO_SPLIT = Split()


class OrderedWriter:
    """Writes the chunks of an export, given in export order, into one or several files.

    Args:
        format: The format of the chunks.
        file: The first data file.
        compression: The compression of the chunks; None for none.
        split: When a file is full.
        next_file: Closes the open data file, and opens the next.
        posts_in_file: Posts that the first data file has already.
    """

    def __init__(
        self,
        format: Format,
        file: OutputFile,
        compression: Compression | None = None,
        split: Split = _NO_SPLIT,
        next_file: Callable[[], OutputFile] | None = None,
        *,
        posts_in_file: int = 0,
    ) -> None:
        self._format = format
        self._compression = compression
        self._compress = compressor_of(compression)
        self._split = split
        self._next_file = next_file
        self._bytes_before = 0
        """Bytes of the files before the open one."""
        self.posts = 0
        self.files = 0
        """Files begun so far."""
        self._begin(file)
        self._posts_in_file = posts_in_file

    def _begin(self, file: OutputFile) -> None:
        self._file = file
        self.files += 1
        self._data_file = self._format.new_file(self._compress)
        self._posts_in_file = 0
        self._plain_bytes_in_file = self._format.bytes_around

    @property
    def bytes_written(self) -> int:
        """Bytes of all data files so far."""
        return self._bytes_before + self._file.bytes_written

    def add(self, data: bytes | memoryview, posts: int, plain_bytes: int = 0, *, goes_on: bool = False) -> None:
        """Write one chunk.

        Args:
            data: The chunk, compressed if *compression* is set. A chunk of several posts is whole.
            posts: How many posts begin in it; 0 if it continues the post before.
            plain_bytes: Uncompressed size of the whole chunk, given with its first part; otherwise 0.
            goes_on: Whether its post continues in later chunks.
        """
        if posts and not self._has_room(posts, plain_bytes, goes_on=goes_on):
            if posts > 1:
                self._add_one_by_one(bytes(data))
                return
            self._begin_next_file()
        self._count(posts, plain_bytes)
        self._write(data, posts)

    def _has_room(self, posts: int, plain_bytes: int, *, goes_on: bool = False) -> bool:
        """Whether the open file has room for that much more."""
        if not self._split or (posts == 1 and not self._posts_in_file):
            return True
        if self._split.posts is not None and self._posts_in_file + posts > self._split.posts:
            return False
        separator = len(self._format.separator) if self._posts_in_file else 0
        size = self._plain_bytes_in_file + separator + plain_bytes
        return self._split.bytes is None or (size <= self._split.bytes and not goes_on)

    def _count(self, posts: int, plain_bytes: int) -> None:
        if posts and self._posts_in_file:
            self._plain_bytes_in_file += len(self._format.separator)
        self._plain_bytes_in_file += plain_bytes
        self._posts_in_file += posts
        self.posts += posts

    def _add_one_by_one(self, data: bytes) -> None:
        """Write a chunk whose posts do not all fit into the open file."""
        if self._compression is not None:
            data = b"".join(self._compression.decompressor().feed(data))
        group: list[bytes] = []
        for post in self._format.posts_of(data):
            if not self._has_room(1, len(post)):
                self._write_group(group)
                self._begin_next_file()
            group.append(post)
            self._count(1, len(post))
        self._write_group(group)

    def _write_group(self, group: list[bytes]) -> None:
        if group:
            data = self._format.separator.join(group)
            self._write(data if self._compress is None else self._compress(data), len(group))
            group.clear()

    def _write(self, data: bytes | memoryview, posts: int) -> None:
        for piece in self._data_file.add(data, posts):
            self._file.write(piece)

    def _begin_next_file(self) -> None:
        assert self._next_file is not None
        self.finish()
        self._bytes_before += self._file.bytes_written
        self._begin(self._next_file())

    def finish(self) -> None:
        """Write the epilogue of the open file."""
        for piece in self._data_file.finish():
            self._file.write(piece)
