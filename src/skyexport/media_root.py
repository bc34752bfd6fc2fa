"""Opening media files by the paths that an archive gives them, which may be anything.

A path leads from the media root downwards, and to a plain file: no component of it may be a link, `..` or empty. Where
the system has it, each component is opened by a descriptor of the one before, so that a name can not be turned into a
link to elsewhere in between.
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
from skyexport.location import absolute

__all__ = ["MEDIA_DIRECTORY", "MEDIA_TABLE", "MediaFile", "MediaRoot", "ShownFile", "UnsafePathError"]

MEDIA_DIRECTORY = "media"
"""Name of the directory in an export."""

MEDIA_TABLE = "media.csv"
"""Name of the table beside it: which posts show which file."""

_BY_DESCRIPTOR = os.open in os.supports_dir_fd
"""Windows has no way to name a file by its directory's descriptor."""

_SAFELY = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_NOCTTY", "O_BINARY"))
_DIRECTORY = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)

_SHA256 = re.compile("[0-9a-f]{64}")
_SUFFIXES = frozenset(
    {
        *(".jpg", ".jpeg", ".png", ".gif", ".webp", ".avif", ".heic", ".bmp", ".svg", ".bin"),
        *(".mp4", ".m4v", ".webm", ".mov", ".mpeg", ".ts", ".m3u8", ".vtt", ".mp3", ".m4a"),
    }
)
"""Of images, videos and what belongs to them; a file of media gets no other name."""

_MAX_PATH_BYTES = 4096

_NO_LINK_ERRORS = frozenset({errno.ELOOP, errno.ENOTDIR, errno.EMLINK})
"""How systems say that a component is a link, or no directory."""


class UnsafePathError(Exception):
    """A path that leads out of the root, through a link, or to no plain file; the text says which."""


@dataclass(frozen=True, slots=True)
class MediaFile:
    """A row of the archive's media table, as far as it is needed."""

    sha256: str
    file_path: str
    """Relative to the media root, whatever it is."""

    @property
    def name(self) -> str | None:
        """Its name in an export, SHA-256 and suffix; None where it has no such name."""
        suffix = PurePosixPath(self.file_path.replace("\\", "/")).suffix.lower()
        return self.sha256 + suffix if _SHA256.fullmatch(self.sha256) and suffix in _SUFFIXES else None


@dataclass(frozen=True, slots=True)
class ShownFile:
    """A media file, and a post that has or shows it. All values are bytes as they are stored, or nothing."""

    file: MediaFile
    size_bytes: int
    """As the archive has it, which may be anything."""
    uri: bytes
    """Of the post."""
    mime_type: bytes
    width: bytes
    height: bytes
    alt_text: bytes


class MediaRoot:
    """The directory that paths of media are relative to. Use it in a `with` statement.

    Raises:
        OptionError: There is no such directory, or it can not be opened.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._path = absolute(path).resolve(strict=True)
            if not stat.S_ISDIR(self._path.stat().st_mode):
                raise OptionError(f"{path} is not a directory", "name the directory of media with --media-root")
            self._descriptor = os.open(self._path, _DIRECTORY) if _BY_DESCRIPTOR else -1
        except (OSError, ValueError, RuntimeError) as error:
            # RuntimeError is a link in a circle, before Python 3.13.
            reason = error.strerror if isinstance(error, OSError) else error
            raise OptionError(f"can not open the directory of media {path}: {reason}", "see --media-root") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def open(self, file_path: str) -> int:
        """A descriptor to read the plain file *file_path*; where there is none of that name, backslashes separate.

        Raises:
            UnsafePathError: The path does not lead to a plain file below the root.
            OSError: It is missing, or cannot be opened.
        """
        try:
            return self._open_plain(file_path)
        except OSError as error:
            # A whole path may be too long for a name.
            if "\\" not in file_path or error.errno not in (errno.ENOENT, errno.ENAMETOOLONG):
                raise
        # An archive from Windows.
        if PureWindowsPath(file_path).drive:
            raise UnsafePathError("leads out of the directory of media")
        return self._open_plain(file_path.replace("\\", "/"))

    def _open_plain(self, file_path: str) -> int:
        *directories, name = self._components(file_path)
        try:
            descriptor = self._open_beneath(directories, name) if _BY_DESCRIPTOR else self._open(directories, name)
        except OSError as error:
            if error.errno in _NO_LINK_ERRORS:
                raise UnsafePathError("a link, or what is no directory, is on the way") from None
            raise
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise UnsafePathError("not a file")
        return descriptor

    def _components(self, file_path: str) -> list[str]:
        """The path below the root; an absolute one must begin with it."""
        if len(os.fsencode(file_path)) > _MAX_PATH_BYTES or "\0" in file_path:
            raise UnsafePathError("no path")
        root = self._path.as_posix().rstrip("/") + "/"
        parts = file_path.removeprefix(root).split("/")
        # A Windows path of bskyarchive has backslashes; elsewhere these are characters like others.
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
            # A device would do something when it is opened.
            if not stat.S_ISREG(os.stat(name, dir_fd=place, follow_symlinks=False).st_mode):
                raise UnsafePathError("not a file")
            return os.open(name, os.O_RDONLY | _SAFELY, dir_fd=place)

    def _open(self, directories: list[str], name: str) -> int:
        path = self._path.joinpath(*directories, name)
        if path.resolve(strict=True) != path or not stat.S_ISREG(path.lstat().st_mode):
            raise UnsafePathError("a link, or what is no file")
        return os.open(path, os.O_RDONLY | _SAFELY)
