"""Formats: how a file begins, continues and ends, and how a post becomes its bytes.

A format renders a post in two ways, which give the same bytes:

- *usual*: at once, for a post whose values are as nearly all are; it refuses every other post.
- *pieces*: a value at a time, for a post of any content and size; it counts what it had to change.

Values come from SQLite as BLOB where they are not numbers, since stored text need not be valid UTF-8.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Iterator, Sequence, Sized
from dataclasses import dataclass
from typing import Any, Protocol, Self

from skyexport.formats.settings import DEFAULTS, FormatSettings
from skyexport.notices import Notices
from skyexport.posts import StoredPost, StoredValue

__all__ = [
    "Compress",
    "DataFile",
    "Form",
    "Format",
    "FormatMemory",
    "Part",
    "TextFormat",
]


Compress = Callable[[bytes | memoryview], bytes]
"""Makes of data what can be decompressed by itself."""


Part = Sized
"""One post of a chunk, as its format keeps it until the chunk is full; its length is about its size in bytes."""


class DataFile(Protocol):
    """Puts chunks together to one data file: what to write, in pieces."""

    def add(self, data: bytes | memoryview, posts: int) -> Iterator[bytes | memoryview]:
        """Go on with a chunk, in which *posts* begin; with none it continues the post before. *data* is not kept."""
        ...

    def finish(self) -> Iterator[bytes]:
        """End the file."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatMemory:
    """Memory that a format takes at most, in bytes, measured as docs/architecture.md says."""

    library: str = ""
    """The module that it needs; empty for none."""
    library_bytes: int = 0
    """It takes so much in each process once it is imported,"""
    used_library_bytes: int = 0
    """and so much more once it is used."""
    rendering_bytes: int = 0
    """Rendering takes so much at least,"""
    rendering_most_bytes: int = 18_000_000
    """and at most: then the chunk is as large as chunks get."""
    gathered_share: float = 0.0
    """The writer takes so much for each byte of posts that it gathers before it writes them."""
    gathered_most_bytes: int = 0
    """Bytes of posts that it gathers at most."""


class Form(Protocol):
    """What `--format` can name: a format of data files, or pages for people."""

    name: str
    """As `--format` has it."""
    settings: FormatSettings
    suffix: str
    """At the end of a data file's name."""
    columns: tuple[str, ...]
    """Those that `FormatSettings.columns` can choose from; empty if it has no choice."""
    takes: frozenset[str]
    """Names of the `FormatSettings` that mean something to it."""
    is_text: bool
    """Whether a file is text: chunks one behind the other, which can be compressed, and of which the size is known."""
    encoders: int
    """Threads of the process that writes, each as busy as a worker."""
    memory: FormatMemory
    """The memory that it takes."""

    def require(self) -> None:
        """Load the packages that writing needs.

        Raises:
            MissingExtraError: One is missing.
        """
        ...


class Format(Form, Protocol):
    """One format of data files. Adding one is a module with this shape and a line in `formats.FORMATS`."""

    separator: bytes
    """The bytes between two posts of a chunk."""

    @property
    def bytes_around(self) -> int:
        """Size of what a file has before its first post and behind its last one."""
        ...

    def configured(self, settings: FormatSettings) -> Format:
        """The same format with other settings, of which it takes all that differ from the defaults."""
        ...

    def usual(self, values: Sequence[StoredValue], notices: Notices) -> Part | None:
        """One post of a chunk, ready for `joined`; None when a value is not usual, so that it takes `pieces`.

        Args:
            values: Of `COLUMNS`, in that order.
            notices: Counts what is worth knowing of a post in which nothing had to be changed.
        """
        ...

    def joined(self, parts: Sequence[Any]) -> bytes:
        """The bytes of a chunk with these posts: each from `usual`, or from `pieces` as bytes."""
        ...

    def pieces(self, post: StoredPost, notices: Notices) -> Iterator[bytes]:
        """One post of any size, exactly, in pieces that are small beside it; *notices* get what had to be changed."""
        ...

    def posts_of(self, data: bytes) -> list[bytes]:
        """The posts of a chunk, one by one, without the separators."""
        ...

    def new_file(self, compress: Compress | None = None) -> DataFile:
        """A data file with nothing in it.

        Args:
            compress: How the chunks are compressed that will be added.
        """
        ...


class TextFormat(ABC):
    """The common part of text formats: a beginning, posts with separators, an end."""

    name: str
    suffix: str
    columns: tuple[str, ...] = ()
    takes: frozenset[str] = frozenset()
    is_text = True
    encoders = 0
    memory = FormatMemory()
    prologue: bytes
    """The bytes before the first post."""
    separator: bytes
    """The bytes between two posts."""
    epilogue: bytes
    """The bytes after the last post."""
    empty: bytes
    """The whole file when there is no post."""

    @property
    def bytes_around(self) -> int:
        """See `Format`."""
        return len(self.prologue) + len(self.epilogue)

    settings: FormatSettings = DEFAULTS

    def require(self) -> None:
        """Load nothing: no other package is needed."""
        return

    def configured(self, settings: FormatSettings) -> Self:
        """As it is: there is nothing to choose."""
        del settings
        return self

    def joined(self, parts: Sequence[Any]) -> bytes:
        """See `Format`."""
        return self.separator.join(parts)

    def new_file(self, compress: Compress | None = None) -> DataFile:
        """See `Format`."""
        return _TextFile(self, compress or bytes)


class _TextFile:
    """Puts what stands around and between posts where it belongs."""

    def __init__(self, format: TextFormat, compress: Compress) -> None:
        self._format = format
        self._compress = compress
        self._separator = compress(format.separator)
        self._begun = False

    def add(self, data: bytes | memoryview, posts: int) -> Iterator[bytes | memoryview]:
        if posts:
            yield self._separator if self._begun else self._compress(self._format.prologue)
            self._begun = True
        yield data

    def finish(self) -> Iterator[bytes]:
        yield self._compress(self._format.epilogue if self._begun else self._format.empty)
