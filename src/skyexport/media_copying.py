"""Copying media files into an export, several at a time; or linking them to those of an earlier one.

What is missing, can not be read, or is not what its hash says is named, and never the end of an export.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from skyexport.cleanup import uninterrupted
from skyexport.media_root import MEDIA_DIRECTORY, MediaFile, MediaRoot, UnsafePathError
from skyexport.sync import sync_file
from skyexport.writer import WrittenFile, output_error

if TYPE_CHECKING:
    from skyexport.earlier_media import EarlierMedia

__all__ = ["MediaCopy", "copied_media"]

_THREADS = 8
"""Files copied at the same time: what takes long with small ones is waiting for the disk."""

_AHEAD = 64
"""Files begun before the oldest of them is done."""

_PIECE_BYTES = 16_000_000
"""Copied at once by the system, between looks whether to stop."""

_BLOCK_BYTES = 1 << 20
"""Read at once for the checksum, and where the system can not copy by itself."""

_WAIT_SECONDS = 0.1
"""Between looks at the memory and for signals while the next file takes long."""

_NO_ROOM_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})
"""Errors of copying that are surely those of the copy."""

_CAN_NOT_COPY_ERRORS = frozenset(
    {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF, errno.ENOTTY}
)
"""How a system says that it does not copy between these two files by itself."""


@dataclass(frozen=True, slots=True)
class MediaCopy:
    """What became of a media file."""

    file_path: str
    """Its path in the archive."""
    written: WrittenFile | None = None
    """The copy, None where there is none."""
    warning: str | None = None
    """A kind of warning: `missing_media`, `unreadable_media` or `damaged_media`."""
    why: str = ""
    linked: bool = False
    """Whether it is the file of the earlier export itself, under another name."""


class _StoppedError(Exception):
    """Nobody wants the copy any more."""


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
        files: Which.
        root: What their paths are relative to.
        earlier: Where files are linked from that are there, and what their hashes say; None to copy all.
        target: The directory, made here.
        sync: Wait until they are on the disk.
        check: Called several times a second; what it raises ends this.

    Returns:
        What became of each, in the order of *files*.

    Raises:
        OutputError: A copy can not be written.
    """
    try:
        target.mkdir(mode=0o700)
    except OSError as error:
        raise output_error(error, str(target), target.parent) from error
    copier = _Copier(root, earlier, target, sync=sync)
    executor = ThreadPoolExecutor(max_workers=_THREADS)
    begun: deque[Future[MediaCopy]] = deque()
    try:
        for file in files:
            try:
                begun.append(executor.submit(copier.copy, file))
            except RuntimeError as error:
                raise MemoryError(f"the system gives no more threads: {error}") from error
            if len(begun) == _AHEAD:
                yield _waited_for(begun.popleft(), check)
        while begun:
            yield _waited_for(begun.popleft(), check)
    finally:
        copier.stopped.set()
        uninterrupted(lambda: executor.shutdown(cancel_futures=True))


def _waited_for(copy: Future[MediaCopy], check: Callable[[], None]) -> MediaCopy:
    while True:
        check()
        with contextlib.suppress(TimeoutError):
            return copy.result(timeout=_WAIT_SECONDS)


class _Copier:
    """Copies files, from any thread."""

    def __init__(self, root: MediaRoot, earlier: EarlierMedia | None, target: Path, *, sync: bool) -> None:
        self._root = root
        self._earlier = earlier
        self._target = target
        self._sync = sync
        self.stopped = threading.Event()

    def copy(self, file: MediaFile) -> MediaCopy:
        """Copy or link one.

        Raises:
            OutputError: The copy can not be written.
        """
        name = file.name
        if name is None:
            return MediaCopy(file.file_path, None, "unreadable_media", "neither hash nor suffix of a media file")
        return self._from_earlier(file, name) or self._from_root(file, name)

    def _from_earlier(self, file: MediaFile, name: str) -> MediaCopy | None:
        """Take it from the earlier export; None where that has no such file, or one that is not what its hash says."""
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
            # It has just changed.
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        finally:
            os.close(source)

    def _sync_linked(self, source: int, path: Path) -> None:
        """Have it on the disk, since nobody knows whether the earlier export waited for that."""
        # Windows lets only those ask who may write.
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
            return MediaCopy(file.file_path, None, "unreadable_media", error.strerror or "can not be opened")
        try:
            return self._copied(source, file, name)
        finally:
            os.close(source)

    def _copied(self, source: int, file: MediaFile, name: str) -> MediaCopy:
        path = self._target / name
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
        status = os.fstat(source)
        try:
            target = os.open(path, flags, 0o600)
            try:
                problem = self._transfer(source, target, status.st_size)
                sha256, size = self._checksum(target)
                damaged = not problem and sha256 != file.sha256
                # A file of another name elsewhere, which this one may only pretend to be, would leave its place so.
                if damaged and status.st_nlink > 1:
                    problem = "not what its hash says, and there are other names for it"
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
            return MediaCopy(file.file_path, written, "damaged_media", "not what its hash says")
        return MediaCopy(file.file_path, written)

    def _transfer(self, source: int, target: int, size: int) -> str:
        """Copy so many bytes, by the system where it can; returns why the source can not be read, if so.

        Raises:
            OSError: The target can not be written.
        """
        done = 0
        by_system = hasattr(os, "copy_file_range")
        while done < size:
            if self.stopped.is_set():
                raise _StoppedError
            piece = min(size - done, _PIECE_BYTES)
            try:
                if by_system:
                    copied = os.copy_file_range(source, target, piece)
                else:
                    copied = _write_all(target, os.read(source, min(piece, _BLOCK_BYTES)))
            except OSError as error:
                if by_system and error.errno in _CAN_NOT_COPY_ERRORS:
                    by_system = False
                    continue
                if error.errno in _NO_ROOM_ERRORS:
                    raise
                return error.strerror or "can not be read"
            if not copied:
                if not by_system:
                    break
                # The file became shorter; or this is a file system from which the system copies nothing, and is silent.
                by_system = False
            done += copied
        return ""

    def _checksum(self, file: int) -> tuple[str, int]:
        """Of a whole file, and its size."""
        digest = hashlib.sha256()
        size = 0
        os.lseek(file, 0, os.SEEK_SET)
        while block := os.read(file, _BLOCK_BYTES):
            if self.stopped.is_set():
                raise _StoppedError
            digest.update(block)
            size += len(block)
        return digest.hexdigest(), size


def _write_all(target: int, data: bytes) -> int:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(target, rest) :]
    return len(data)
