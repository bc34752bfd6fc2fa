"""The archives of one command: read from a list, checked for duplicates, each with a directory of its own.

A list may name a million archives: each takes the memory of its path and 16 bytes.
"""

from __future__ import annotations

import codecs
import hashlib
import os
import re
import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import IO

from skyexport.errors import OptionError
from skyexport.formats.names import looks_like_data_file
from skyexport.options.types import check_path, check_paths
from skyexport.options.values import Shard
from skyexport.runtime.location import absolute, files_beside, has_content, real_path

__all__ = ["ArchiveList", "read_list"]

_STANDARD_INPUT = "-"
_COMMENT = b"#"
_ARCHIVE = b"SQLite format 3\0"
_OTHER_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
"""Byte order mark → its encoding. Longer marks come first, since one mark begins with another."""

_LOOK_BYTES = 1 << 16
"""The beginning of a file that shows whether it is a list."""

_NEVER_ALONE = frozenset({b".", b"/", b"\\", b"\r", b"\n"})
"""Paths of one byte that no archive can have."""

_NOT_PORTABLE = re.compile("[^A-Za-z0-9._-]")
_LONGEST_NAME = 100
"""Characters of a directory name: a hash may follow, and some systems limit whole paths."""

_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?", re.IGNORECASE)
"""Names of devices on Windows, with any suffix."""

_HASH_DIGITS = 8
"""Digits of the hash in a name: two archives with one stem get the same digits once in four billion times."""


def read_list(path: str) -> Iterator[str]:
    """Yield the paths in a list, as they are written there.

    A list has one path per line; empty lines and lines that begin with `#` are skipped. In a list with NUL bytes, like
    the output of `find -print0`, each path ends with a NUL byte instead and may contain anything else.

    Args:
        path: The list; `-` is standard input.

    Raises:
        OptionError: The list cannot be read, or it is not a list of paths in UTF-8.
    """
    try:
        if path == _STANDARD_INPUT:
            if sys.stdin is None:
                raise OptionError("cannot read the list of archives: standard input is closed", "name a file")
            content = _list_from(sys.stdin.buffer, "on standard input")
        else:
            with absolute(Path(path)).open("rb") as file:
                content = _list_from(file, path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise OptionError(f"cannot read the list of archives {path}: {reason}", "check the path") from None
    _check_is_list(path, content)
    if b"\0" in content:
        return (_name(name) for name in _pieces(content, b"\0") if name)
    lines = (line.removesuffix(b"\r") for line in _pieces(content.removeprefix(codecs.BOM_UTF8), b"\n"))
    return (_name(line) for line in lines if line.strip() and not line.startswith(_COMMENT))


def _list_from(file: IO[bytes], name: str) -> bytes:
    """The content of a file whose beginning looks like a list.

    Raises:
        OptionError: It does not look like a list.
    """
    begins = file.read(_LOOK_BYTES)
    if begins.startswith(_ARCHIVE):
        raise OptionError(f"the list {name} is a SQLite file, not a list", "name an archive without --from-file")
    encoding = next((encoding for mark, encoding in _OTHER_MARKS.items() if begins.startswith(mark)), "")
    if not encoding and _has_halves(begins):
        encoding = "UTF-16"
    if encoding:
        raise OptionError(f"the list {name} is {encoding}", "save it as UTF-8")
    if b"\0\0" in begins:
        raise OptionError(
            f"the list {name} is not text: it has empty paths",
            "write one path per line in UTF-8, or end each with one NUL byte as find -print0 does",
        )
    return begins + file.read()


def _has_halves(begins: bytes) -> bool:
    """Whether the NUL bytes are halves of characters in UTF-16, not ends of paths.

    If they are, most paths would have one byte, and some of these would be a dot, a slash or the end of a line.
    """
    names = [name for name in begins.split(b"\0") if name]
    short = [name for name in names if len(name) == 1]
    return 2 * len(short) > len(names) > 2 and not _NEVER_ALONE.isdisjoint(short)


def _name(path: bytes) -> str:
    """Decode a path of a list; Windows accepts only UTF-8.

    Raises:
        OptionError: The path is not valid UTF-8.
    """
    try:
        return os.fsdecode(path)
    except UnicodeDecodeError:
        shown = path.decode(errors="backslashreplace")
        raise OptionError(f"the list has a path that is not valid UTF-8: {shown}", "save it as UTF-8") from None


def _check_is_list(path: str, content: bytes) -> None:
    """Refuse a data file in the place of a list.

    Raises:
        OptionError: The file is a data file.
    """
    begins = content[:100].removeprefix(codecs.BOM_UTF8).lstrip()
    data = (b"[", b"{", b"URI,", b"PAR1")
    if begins.startswith(data) and looks_like_data_file(Path(path)):
        raise OptionError(f"{path} is not a list of archives", "a list has one path per line")


def _pieces(content: bytes, end: bytes) -> Iterator[bytes]:
    """Yield the pieces before each *end* one by one, since all at once would take several times the memory."""
    start = 0
    while start < len(content):
        stop = content.find(end, start)
        stop = len(content) if stop < 0 else stop
        yield content[start:stop]
        start = stop + len(end)


class ArchiveList(Sequence[Path]):
    """Archives in the order in which they were given; no two are the same file.

    With a shard, it is a part of a longer list that several machines share. A machine looks only at the files of its
    own part. All that it decides comes from the paths as they are written, so that all machines decide the same.

    Args:
        paths: Their paths, including those of missing files.
        shard: The part of *paths* that the list has; None for all of them.
        together: Whether other machines may export the same list, without a shard too.

    Raises:
        OptionError: A path is empty or not a path, or two paths name the same file.
    """

    def __init__(
        self, paths: Iterable[str | os.PathLike[str]], shard: Shard | None = None, *, together: bool = False
    ) -> None:
        check_paths(paths, "the list of archives")
        self._paths = []
        """The whole list."""
        for path in paths:
            check_path(path, "an archive")
            self._paths.append(os.fspath(path))
        if "" in self._paths:
            raise OptionError("an archive has no name", "write a path")
        self.shard = shard
        self._together = together or shard is not None
        self.places: Sequence[int] = range(len(self._paths))
        """The places of the archives in the whole list."""
        if shard is not None:
            self._check_different(self.places, array("Q", map(_short_hash, self._paths)))
            self.places = array("q", (place for place in self.places if shard.has(self._paths[place])))
        self.sizes = array("q")
        """Bytes of each archive with its write-ahead log; 0 if they are unknown."""
        files = array("Q")
        for place in self.places:
            file, size = _looked_at(self._paths[place])
            files.append(file)
            self.sizes.append(size)
        self._check_different(self.places, files)
        self._repeated_stems = _repeated(_short_hash(_stem(path).casefold()) for path in self._paths)
        self._repeated_names: frozenset[int] = frozenset()
        if self._repeated_stems:
            self._repeated_names = _repeated(_short_hash(self._name(path).casefold()) for path in self._paths)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, number: int) -> Path:  # type: ignore[override]
        return Path(self._paths[self.places[number]])

    @property
    def in_all_shards(self) -> int:
        """The length of the whole list."""
        return len(self._paths)

    def names(self) -> Iterator[str]:
        """The names of all directories, as `name` returns them."""
        return map(self.name, range(len(self)))

    def name(self, number: int) -> str:
        """The name of the directory for exports of one archive, unique in the whole list.

        It is the stem of the file in portable characters. If several archives have the same stem, ignoring case, eight
        digits of the SHA-256 of the absolute path follow. If several machines may share the list, it is the path as it
        is written.
        """
        return self._name(self._paths[self.places[number]])

    def _name(self, path: str) -> str:
        stem = _stem(path)
        if _short_hash(stem.casefold()) not in self._repeated_stems:
            return stem
        digits = hashlib.sha256(os.fsencode(path if self._together else _absolute(path))).hexdigest()
        name = f"{stem}-{digits[:_HASH_DIGITS]}"
        # Another archive may have this name as its stem.
        return f"{stem}-{digits}" if _short_hash(name.casefold()) in self._repeated_names else name

    def _check_different(self, places: Sequence[int], files: Sequence[int]) -> None:
        repeated = _repeated(files)
        seen: dict[int, str] = {}
        for place, file in zip(places, files, strict=True) if repeated else ():
            if file not in repeated:
                continue
            path = self._paths[place]
            if file in seen:
                raise OptionError(
                    f"{path} is named twice" if path == seen[file] else f"{path} and {seen[file]} are the same archive",
                    "name each archive once",
                )
            seen[file] = path


def _looked_at(path: str) -> tuple[int, int]:
    """A hash that identifies the file, and the bytes of the file and its log."""
    try:
        status = Path(path).stat()
        log = files_beside(real_path(Path(path))).log
        size = status.st_size + (log.stat().st_size if has_content(log) else 0)
    except (OSError, ValueError):
        return _short_hash(str(_absolute(path))), 0
    return _short_hash(f"{status.st_dev} {status.st_ino}"), size


def _absolute(path: str) -> Path:
    """*path* as an absolute path; unchanged if the current directory was deleted: opening it reports that."""
    try:
        return absolute(Path(path))
    except FileNotFoundError:
        return Path(path)


def _stem(path: str) -> str:
    """The stem of a file's name as a name for a directory on every system: not empty, not hidden, not too long."""
    stem = _NOT_PORTABLE.sub("_", Path(path).stem)[:_LONGEST_NAME].rstrip(".")
    odd = not stem or stem.startswith((".", "-")) or _RESERVED.fullmatch(stem)
    return f"_{stem}" if odd else stem


def _short_hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(os.fsencode(text), digest_size=8).digest())


def _repeated(hashes: Iterable[int]) -> frozenset[int]:
    """The hashes that occur more than once."""
    ordered = sorted(hashes)
    return frozenset(short_hash for short_hash, following in pairwise(ordered) if short_hash == following)
