"""Reading an export directory that may come from a stranger: nothing outside of it is read, and no call blocks.

Where the system can do it, everything is opened relative to a descriptor of the directory, so that nobody can turn a
name into a link to elsewhere in between. Links are never followed, and only plain files are read: opening a pipe would
wait for a writer, maybe forever.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from pathlib import Path
from types import TracebackType
from typing import Self

from skyexport.errors import NoExportError
from skyexport.runtime.location import why_missing

__all__ = ["ExportDirectory", "NotAFileError", "is_litter", "is_plain_name"]

_BY_DESCRIPTOR = {os.open, os.stat} <= os.supports_dir_fd and os.scandir in os.supports_fd
"""Windows cannot name a file relative to its directory's descriptor."""

_LINKS_BY_DESCRIPTOR = _BY_DESCRIPTOR and os.link in os.supports_dir_fd

_SAFELY = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_NOCTTY", "O_BINARY"))
"""Flags to open files that may come from a stranger."""

_PLAIN_NAME = re.compile("[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}


_LITTER = frozenset({"thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r"})
"""Names, in lower case, of files that Windows and macOS leave and that do not begin with a dot."""


class NotAFileError(OSError):
    """This name is not a plain file; the text says what it is."""


def _what_is_meant(path: Path) -> str:
    """The hint for a user who named a file instead of a directory."""
    if (path.parent / "manifest.json").exists():
        return f"did you mean its directory, {path.parent}?"
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | _SAFELY)
        with os.fdopen(descriptor, "rb") as file:
            if file.read(15) == b"SQLite format 3":
                return f"it is an archive; did you mean `skyexport inspect {path}`?"
    return "name the directory that manifest.json is in; an export with --to has none, so it cannot be verified"


def is_plain_name(name: str) -> bool:
    """Whether *name* is just a file name on every system: no path, no drive, no stream."""
    return _PLAIN_NAME.fullmatch(name) is not None


def is_litter(name: str) -> bool:
    """Whether *name* is a file that file managers and similar programs leave in directories."""
    return name.startswith(".") or name.lower() in _LITTER


class ExportDirectory:
    """An export directory, open for reading. Use it in a `with` statement.

    Raises:
        NoExportError: There is no such directory, or it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        try:
            if not stat.S_ISDIR(path.stat().st_mode):
                raise NoExportError(f"{path} is not a directory", _what_is_meant(path))
            if _BY_DESCRIPTOR:
                self._descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            raise NoExportError(
                f"there is no directory {path}{why_missing(path)}", "`skyexport export` prints where exports are"
            ) from None
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise NoExportError(f"cannot read the directory {path}: {reason}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the directory. Calling this again does no harm."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def names(self) -> list[str]:
        """All names in the directory, sorted.

        Raises:
            NoExportError: It cannot be read.
        """
        try:
            return sorted(self.all_names())
        except OSError as error:
            raise NoExportError(f"cannot read the directory {self._path}: {error.strerror}") from error

    def all_names(self) -> set[str]:
        """All names in the directory.

        Raises:
            OSError: It cannot be read.
        """
        with os.scandir(self._path if self._descriptor is None else self._descriptor) as entries:
            return {entry.name for entry in entries}

    def has_file(self, name: str) -> bool:
        """Whether there is a plain file *name*."""
        with contextlib.suppress(OSError):
            place = self._place_of(name)
            return stat.S_ISREG(os.stat(place, dir_fd=self._descriptor, follow_symlinks=False).st_mode)
        return False

    def open(self, name: str) -> int:
        """A descriptor to read the plain file *name*, which `is_plain_name`.

        Raises:
            NotAFileError: It is something else.
            OSError: It is missing, or cannot be opened.
        """
        path = self._place_of(name)
        _check_kind(os.stat(path, dir_fd=self._descriptor, follow_symlinks=False).st_mode, stat.S_IFREG)
        descriptor = os.open(path, os.O_RDONLY | _SAFELY, dir_fd=self._descriptor)
        try:
            _check_kind(os.fstat(descriptor).st_mode, stat.S_IFREG)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def read(self, name: str, at_most: int) -> bytes:
        """The content of the plain file *name*.

        Raises:
            ValueError: It has more than *at_most* bytes.
            NotAFileError, OSError: As `open` does.
        """
        with os.fdopen(self.open(name), "rb") as file:
            content = file.read(at_most + 1)
        if len(content) > at_most:
            raise ValueError(f"has more than {at_most:,} bytes")
        return content

    def link(self, name: str, target: Path) -> None:
        """Make *target* a hard link to *name*, whatever that is; a symbolic link is not followed.

        Raises:
            OSError: The system cannot do that.
        """
        if self._descriptor is not None and _LINKS_BY_DESCRIPTOR:
            os.link(name, target, src_dir_fd=self._descriptor, follow_symlinks=False)
        else:
            os.link(self._path / name, target)

    def subdirectory(self, name: str) -> ExportDirectory:
        """Open the directory *name* below this one.

        Raises:
            NotAFileError: It is not a directory.
            OSError: It cannot be opened.
        """
        path = self._place_of(name)
        _check_kind(os.stat(path, dir_fd=self._descriptor, follow_symlinks=False).st_mode, stat.S_IFDIR)
        inner = ExportDirectory.__new__(ExportDirectory)
        inner._path = self._path / name
        inner._descriptor = None
        if _BY_DESCRIPTOR:
            inner._descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | _SAFELY, dir_fd=self._descriptor)
        return inner

    def count_files(self) -> tuple[int, list[str]]:
        """The number of plain files, and the sorted names of everything else, litter of file managers included.

        Raises:
            OSError: The directory cannot be read.
        """
        files = 0
        others = []
        with os.scandir(self._path if self._descriptor is None else self._descriptor) as entries:
            for entry in entries:
                if entry.is_file(follow_symlinks=False) and not is_litter(entry.name):
                    files += 1
                else:
                    others.append(entry.name)
        return files, sorted(others)

    def _place_of(self, name: str) -> str:
        if not is_plain_name(name):
            raise ValueError(f"{name!r} is not a file name")
        return name if self._descriptor is not None else str(self._path / name)


def _check_kind(mode: int, wanted: int) -> None:
    kind = stat.S_IFMT(mode)
    if kind != wanted:
        raise NotAFileError(f"{_KINDS.get(kind, 'a file')}, not {_KINDS.get(wanted, 'a file')}")
