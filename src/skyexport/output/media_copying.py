"""Copying media files into an export, several at a time, or linking them to those of an earlier export.

A file that is missing, cannot be read, or does not match its hash is reported; it never ends the export.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from skyexport.layout import MEDIA_DIRECTORY
from skyexport.output.places import open_new
from skyexport.output.writer import WrittenFile, write_all
from skyexport.runtime.background import Background, waited_for
from skyexport.runtime.cleanup import Call
from skyexport.runtime.disk import output_error
from skyexport.runtime.media_root import MediaFile, MediaRoot, UnsafePathError
from skyexport.runtime.sync import sync_file

if TYPE_CHECKING:
    from skyexport.verification.previous_media import EarlierMedia

__all__ = ["MediaCopy", "copied_media"]

_THREADS = 8
"""Files copied at the same time: small files mostly wait for the disk."""

_AHEAD = 64
"""Files that may be started before the oldest of them is done."""

_PIECE_BYTES = 16_000_000
"""Bytes that the system copies at once; after each piece, the thread checks whether to stop."""

_BLOCK_BYTES = 1 << 20
"""Bytes read at once for the checksum, and to copy where the system cannot do it by itself."""

_NO_ROOM_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})
"""Errors of copying that surely concern the copy, not the source."""

_CAN_NOT_COPY_ERRORS = frozenset(
    {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF, errno.ENOTTY}
)
"""Errors that mean that the system cannot copy between these two files by itself."""


@dataclass(frozen=True, slots=True)
class MediaCopy:
    """The result for one media file."""

    file_path: str
    """Its path in the archive."""
    written: WrittenFile | None = None
    """The copy; None if there is none."""
    warning: str | None = None
    """A kind of warning: `missing_media`, `unreadable_media` or `damaged_media`; None if all is well."""
    why: str = ""
    linked: bool = False
    """Whether it is a hard link to the file of the earlier export."""


class _StoppedError(Exception):
    """The copy is no longer needed."""


def copied_media(
    files: Iterable[MediaFile],
    root: MediaRoot,
    earlier: EarlierMedia | None,
    target: Path,
    *,
    sync: bool,
    check: Callable[[], None],
) -> Generator[MediaCopy, None, None]:
    """Copy files into a new directory, several at a time.

    Args:
        files: The files to copy.
        root: The directory that their paths are relative to.
        earlier: The earlier export, to link to its files where they match their hashes; None to copy all.
        target: The directory, made here.
        sync: Wait until the files are on disk.
        check: Called several times a second; an exception from it ends the copying.

    Returns:
        The result for each file, in the order of *files*.

    Raises:
        OutputError: A copy cannot be written.
    """
    try:
        target.mkdir(mode=0o700)
    except OSError as error:
        raise output_error(error, str(target), target.parent) from error
    copier = _Copier(root, earlier, target, sync=sync)
    background = Background(_THREADS)
    begun: deque[Call[MediaCopy]] = deque()
    try:
        for file in files:
            begun.append(background.begin(partial(copier.copy, file)))
            if len(begun) == _AHEAD:
                yield waited_for(begun.popleft(), check)
        while begun:
            yield waited_for(begun.popleft(), check)
    finally:
        copier.stopped = True
        background.end()


class _Copier:
    """Copies files, from any thread."""

    def __init__(self, root: MediaRoot, earlier: EarlierMedia | None, target: Path, *, sync: bool) -> None:
        self._root = root
        self._earlier = earlier
        self._target = target
        self._sync = sync
        self.stopped = False

    def copy(self, file: MediaFile) -> MediaCopy:
        """Copy or link one file.

        Raises:
            OutputError: The copy cannot be written.
        """
        name = file.name
        if name is None:
            return MediaCopy(file.file_path, None, "unreadable_media", "its hash or its suffix is not valid")
        return self._from_earlier(file, name) or self._from_root(file, name)

    def _from_earlier(self, file: MediaFile, name: str) -> MediaCopy | None:
        """Take the file from the earlier export; None if it is not there, or does not match its hash."""
        source = None if self._earlier is None else self._earlier.open(name)
        if self._earlier is None or source is None:
            return None
        try:
            try:
                sha256, size = self._checksum(source)
            except OSError:
                return None
            if sha256 != file.sha256:
                return None
            path = self._target / name
            if self._earlier.link(name, source, path):
                self._sync_linked(source, path)
                return MediaCopy(file.file_path, WrittenFile(f"{MEDIA_DIRECTORY}/{name}", size, sha256), linked=True)
            os.lseek(source, 0, os.SEEK_SET)
            copy = self._copied(source, file, name)
            if copy.warning is None:
                return copy
            # The file has just changed.
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        finally:
            os.close(source)

    def _sync_linked(self, source: int, path: Path) -> None:
        """Wait until the file is on disk, since the earlier export may not have waited for that."""
        # Windows syncs only files that are open for writing.
        if self._sync and sys.platform != "win32":
            try:
                sync_file(source)
            except OSError as error:
                raise output_error(error, str(path), self._target) from error

    def _from_root(self, file: MediaFile, name: str) -> MediaCopy:
        try:
            source = self._root.open(file.file_path)
        except FileNotFoundError:
            return MediaCopy(file.file_path, None, "missing_media")
        except UnsafePathError as error:
            return MediaCopy(file.file_path, None, "unreadable_media", str(error))
        except OSError as error:
            return MediaCopy(file.file_path, None, "unreadable_media", error.strerror or "cannot be opened")
        try:
            return self._copied(source, file, name)
        finally:
            os.close(source)

    def _copied(self, source: int, file: MediaFile, name: str) -> MediaCopy:
        path = self._target / name
        status = os.fstat(source)
        try:
            target = open_new(path, os.O_RDWR)
            try:
                problem = self._transfer(source, target, status.st_size)
                sha256, size = self._checksum(target)
                damaged = not problem and sha256 != file.sha256
                # Through a hard link, an archive could get hold of a file that lies elsewhere under another name.
                if damaged and status.st_nlink > 1:
                    problem = "does not match its hash, and has other names"
                if not problem and self._sync:
                    sync_file(target)
            finally:
                os.close(target)
            if problem:
                path.unlink()
        except OSError as error:
            raise output_error(error, str(path), self._target) from error
        if problem:
            return MediaCopy(file.file_path, None, "unreadable_media", problem)
        written = WrittenFile(f"{MEDIA_DIRECTORY}/{name}", size, sha256)
        if damaged:
            return MediaCopy(file.file_path, written, "damaged_media", "does not match its hash")
        return MediaCopy(file.file_path, written)

    def _transfer(self, source: int, target: int, size: int) -> str:
        """Copy *size* bytes, by the system where it can.

        Returns:
            Why the source cannot be read; "" if it can.

        Raises:
            OSError: The target cannot be written.
        """
        done = 0
        by_system = hasattr(os, "copy_file_range")
        while done < size:
            if self.stopped:
                raise _StoppedError
            piece = min(size - done, _PIECE_BYTES)
            try:
                if by_system:
                    copied = os.copy_file_range(source, target, piece)
                else:
                    copied = write_all(target, os.read(source, min(piece, _BLOCK_BYTES)))
            except OSError as error:
                if by_system and error.errno in _CAN_NOT_COPY_ERRORS:
                    by_system = False
                    continue
                if error.errno in _NO_ROOM_ERRORS:
                    raise
                return error.strerror or "cannot be read"
            if not copied:
                if not by_system:
                    break
                # The file became shorter, or the system copies nothing from this file system and does not say so.
                by_system = False
            done += copied
        return ""

    def _checksum(self, file: int) -> tuple[str, int]:
        """SHA-256 (hexadecimal) of a whole file, and its size in bytes."""
        digest = hashlib.sha256()
        size = 0
        os.lseek(file, 0, os.SEEK_SET)
        while block := os.read(file, _BLOCK_BYTES):
            if self.stopped:
                raise _StoppedError
            digest.update(block)
            size += len(block)
        return digest.hexdigest(), size
