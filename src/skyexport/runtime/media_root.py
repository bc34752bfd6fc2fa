"""Opening media files by their paths in an archive, which may be anything.

A path leads from the media root down to a plain file: no component of it may be a link, `..`, or empty. Where the
system can do it, each component is opened relative to the descriptor of the one before, so that nobody can turn a name
into a link to elsewhere in between.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import TracebackType
from typing import Self

from skyexport.errors import OptionError
from skyexport.runtime.location import absolute

__all__ = ["MediaFile", "MediaRoot", "PresentFile", "ShownFile", "UnsafePathError"]


_BY_DESCRIPTOR = os.open in os.supports_dir_fd
"""Windows cannot name a file relative to its directory's descriptor."""

_SAFELY = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_NOCTTY", "O_BINARY"))
_DIRECTORY = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)

_SHA256 = re.compile("[0-9a-f]{64}")
_SUFFIXES = frozenset(
    {
        *(".jpg", ".jpeg", ".png", ".gif", ".webp", ".avif", ".heic", ".bmp", ".svg", ".bin"),
        *(".mp4", ".m4v", ".webm", ".mov", ".mpeg", ".ts", ".m3u8", ".vtt", ".mp3", ".m4a"),
    }
)
"""Suffixes of images, videos, and their parts. Media files get no other suffix."""

_MAX_PATH_BYTES = 4096

_NO_LINK_ERRORS = frozenset({errno.ELOOP, errno.ENOTDIR, errno.EMLINK})
"""Errors that mean that a component is a link, or not a directory."""


class UnsafePathError(Exception):
    """A path that leads out of the root, through a link, or not to a plain file; the text says which."""


@dataclass(frozen=True, slots=True)
class MediaFile:
    """A row of the archive's media table, as far as needed."""

    sha256: str
    file_path: str
    """Relative to the media root; may be anything."""

    @property
    def name(self) -> str | None:
        """Its name in an export, SHA-256 and suffix; None if one of them is not valid."""
        suffix = PurePosixPath(self.file_path.replace("\\", "/")).suffix.lower()
        return self.sha256 + suffix if _SHA256.fullmatch(self.sha256) and suffix in _SUFFIXES else None


@dataclass(frozen=True, slots=True)
class ShownFile:
    """A media file, and a post that has or shows it. The bytes are as stored in the archive, or empty."""

    file: MediaFile
    size_bytes: int
    """According to the archive, which may be wrong."""
    uri: bytes
    """URI of the post."""
    mime_type: bytes
    width: bytes
    height: bytes
    alt_text: bytes


@dataclass(frozen=True, slots=True)
class PresentFile:
    """A media file that is there when the export begins, and a post that shows it."""

    uri: bytes
    """Of the post."""
    sha256: str
    name: str
    """In the export's folder of media."""
    mime_type: bytes
    width: int
    """0 if unknown."""
    height: int
    alt_text: bytes
    size_bytes: int
    """0 if unknown."""


class MediaRoot:
    """The directory that paths of media are relative to. Use it in a `with` statement.

    Raises:
        OptionError: There is no such directory, or it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._path = absolute(path).resolve(strict=True)
            if not stat.S_ISDIR(self._path.stat().st_mode):
                raise OptionError(f"{path} is not a directory", "name the directory of media with --media-root")
            self._descriptor = os.open(self._path, _DIRECTORY) if _BY_DESCRIPTOR else -1
        except (OSError, ValueError, RuntimeError) as error:
            # Before Python 3.13, a circle of links raises RuntimeError.
            reason = error.strerror if isinstance(error, OSError) else error
            raise OptionError(f"cannot open the directory of media {path}: {reason}", "see --media-root") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def open(self, file_path: str) -> int:
        """A descriptor to read the plain file *file_path*. If it is missing, backslashes count as separators.

        Raises:
            UnsafePathError: The path does not lead to a plain file below the root.
            OSError: It is missing, or cannot be opened.
        """
        try:
            return self._open_plain(file_path)
        except OSError as error:
            # A whole path with backslashes may be too long for one name.
            if "\\" not in file_path or error.errno not in (errno.ENOENT, errno.ENAMETOOLONG):
                raise
        # The archive may come from Windows.
        if PureWindowsPath(file_path).drive:
            raise UnsafePathError("leads out of the directory of media")
        return self._open_plain(file_path.replace("\\", "/"))

    def _open_plain(self, file_path: str) -> int:
        *directories, name = self._components(file_path)
        try:
            descriptor = self._open_beneath(directories, name) if _BY_DESCRIPTOR else self._open(directories, name)
        except OSError as error:
            if error.errno in _NO_LINK_ERRORS:
                raise UnsafePathError("leads through a link, or through something that is not a directory") from None
            raise
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise UnsafePathError("not a file")
        return descriptor

    def _components(self, file_path: str) -> list[str]:
        """The components below the root; an absolute path must begin with the root."""
        if len(os.fsencode(file_path)) > _MAX_PATH_BYTES or "\0" in file_path:
            raise UnsafePathError("not a valid path")
        root = self._path.as_posix().rstrip("/") + "/"
        parts = file_path.removeprefix(root).split("/")
        # On Windows, bskyarchive writes paths with backslashes; elsewhere a backslash is an ordinary character.
        if os.sep == "\\":
            parts = file_path.removeprefix(f"{self._path}\\").replace("\\", "/").split("/")
        if any(part in ("", ".", "..") or (os.sep == "\\" and ":" in part) for part in parts):
            raise UnsafePathError("leads out of the directory of media")
        return parts

    def _open_beneath(self, directories: list[str], name: str) -> int:
        with contextlib.ExitStack() as opened:
            place = self._descriptor
            for directory in directories:
                place = os.open(directory, _DIRECTORY, dir_fd=place)
                opened.callback(os.close, place)
            # Opening a device may do something.
            if not stat.S_ISREG(os.stat(name, dir_fd=place, follow_symlinks=False).st_mode):
                raise UnsafePathError("not a file")
            return os.open(name, os.O_RDONLY | _SAFELY, dir_fd=place)

    def _open(self, directories: list[str], name: str) -> int:
        path = self._path.joinpath(*directories, name)
        if path.resolve(strict=True) != path or not stat.S_ISREG(path.lstat().st_mode):
            raise UnsafePathError("a link, or not a file")
        return os.open(path, os.O_RDONLY | _SAFELY)
