"""A lock that lets one run at a time work in a place, and the removal of what killed runs left there.

The lock is the system's own, on a small hidden file. It ends with its process, however that ends, so a dead run never
holds it. The file lies beside what it protects, not in it: Windows cannot rename a directory with an open file, and
network file systems cannot lock directories. The text in it tells people which process holds the lock.

The run that holds a place is alone there, so everything that other runs left under hidden names can go. A run takes
the lock before it makes anything, so its own files are never taken for leftovers.

Locks of some network disks reach one machine only. So a leftover says in its name which machine made it. One of another
machine goes only once nothing has changed in it for a day.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import socket
import stat
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from skyexport.errors import AlreadyRunningError
from skyexport.runtime.cleanup import uninterrupted
from skyexport.runtime.processes import process_of

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["MACHINE_GROUP", "Lock", "check_free", "is_own", "machine_digits", "noted_holder", "remove_leftovers"]

MACHINE_GROUP = "(?P<machine>[0-9a-f]{8})"
"""The part of a pattern for names of leftovers that matches `machine_digits`."""

_ABANDONED_SECONDS = 86_400
"""How long nothing changed in a leftover of another machine: much longer than clocks differ, or a disk hangs."""

_ATTEMPTS = 100
"""Attempts to open and lock a file that another run, as it ends, may remove in between."""

_HELD_ERRORS = frozenset({errno.EACCES, errno.EAGAIN, errno.EDEADLK})
"""Errors that mean that another process has the lock; any other means that the file system has no locks."""

_LOCKED_BYTE = 1 << 30
"""A byte far behind the text, since nobody can read locked bytes on Windows."""

_TEXT_BEGINS = b"process "
"""The beginning of the text. A file with another beginning belongs to somebody else, and is not touched."""

_SAFELY = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
"""Flags to open a lock file, which a stranger may have replaced with anything."""

_TEXT_BYTES = 400
"""Longer than any such text."""


class Lock:
    """A lock that one run at a time holds, from `take` until `release` or the end of its process, however that ends.

    Use it in a `with` statement, or call both. No signal can come between making the lock file and owning it.

    Args:
        path: The lock file, made if needed; its directory must exist by then.
        what: The end of "another export …" in messages: `into DIRECTORY`.
    """

    _descriptor = -1

    def __init__(self, path: Path, what: str) -> None:
        self._path = path
        self._what = what
        self.alone = False
        """Whether this run is surely the only one; False if the file system has no locks."""

    def take(self) -> None:
        """Take the lock.

        Raises:
            AlreadyRunningError: Another run holds it.
            OSError: The file cannot be made or opened.
        """
        try:
            uninterrupted(self._take)
        except BaseException:
            self.release()
            raise

    def _take(self) -> None:
        for _ in range(_ATTEMPTS):
            descriptor, writable = _opened(self._path)
            try:
                self.alone = _took(descriptor, self._what)
                # The holder may have removed the file before this process locked it. Another run may hold a new file.
                if not _names(self._path, descriptor):
                    continue
                if writable:
                    _note_holder(descriptor)
                self._descriptor, descriptor = descriptor, -1
                return
            finally:
                if descriptor >= 0:
                    os.close(descriptor)
        raise AlreadyRunningError(f"other exports {self._what} keep starting", "try again later")

    def __enter__(self) -> Self:
        self.take()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.release()

    def __del__(self) -> None:
        # A signal may have kept the owner from releasing it.
        self.release()

    def release(self) -> None:
        """Release the lock, and remove its file. Calling this again does no harm."""
        if self._descriptor >= 0:
            uninterrupted(self._release)

    def _release(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor < 0:
            return
        if sys.platform == "win32":
            # Windows cannot remove an open file. If the next run has opened it, removing fails, as it should.
            os.close(descriptor)
            with contextlib.suppress(OSError):
                self._path.unlink()
            return
        with contextlib.suppress(OSError):
            if _names(self._path, descriptor):
                self._path.unlink()
        os.close(descriptor)


def remove_leftovers(lock: Lock, directory: Path, name: re.Pattern[str]) -> list[Path]:
    """Remove what killed runs left in a place that this run holds.

    Links are neither followed nor removed, and files of other users stay.

    Args:
        lock: The lock on the place. If it cannot guarantee that this run is alone, nothing is removed.
        directory: Where to look.
        name: Pattern of the whole name of a leftover; it may have MACHINE_GROUP.

    Returns:
        The paths that were removed.
    """
    paths = []
    if lock.alone:
        with contextlib.suppress(OSError):
            paths = sorted(path for path in directory.iterdir() if _is_leftover(path, name))
    return [path for path in paths if _removed(path)]


def machine_digits() -> str:
    """Digits that tell this machine from others by its name."""
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def _is_leftover(path: Path, name: re.Pattern[str]) -> bool:
    match = name.fullmatch(path.name)
    if match is None:
        return False
    machine = match.groupdict().get("machine")
    return machine in (None, machine_digits()) or time.time() - _last_change(path) > _ABANDONED_SECONDS


def _last_change(path: Path) -> float:
    """When something changed in a directory, in seconds since 1970; now if that cannot be found out."""
    try:
        return max(each.lstat().st_mtime for each in (path, *path.iterdir()))
    except OSError:
        return time.time()


def is_own(path: Path) -> bool:
    """Whether *path* belongs to this user; for a link, its own owner counts."""
    return sys.platform == "win32" or path.lstat().st_uid == os.geteuid()


def check_free(path: Path, what: str) -> None:
    """Check that no run holds a place now, without making anything.

    Args:
        path: The lock file, which may not exist.
        what: As in `Lock`.

    Raises:
        AlreadyRunningError: Another run holds it.
        OSError: The path is something else than a lock file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | _SAFELY)
    except FileNotFoundError:
        return
    try:
        if not (stat.S_ISREG(os.fstat(descriptor).st_mode) and _is_ours(descriptor)):
            raise _not_ours(path)
        _took(descriptor, what)
    finally:
        os.close(descriptor)


def noted_holder(path: Path) -> str:
    """The run that holds a place, as the lock file has it; the lock is not taken, even for a moment.

    Args:
        path: The lock file.

    Returns:
        Process, machine and time in words; empty if there is no such file, or its process is gone.
    """
    with contextlib.suppress(OSError, ValueError, IndexError):
        descriptor = os.open(path, os.O_RDONLY | _SAFELY)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return ""
            text = os.read(descriptor, _TEXT_BYTES)
        finally:
            os.close(descriptor)
        if text.startswith(_TEXT_BEGINS) and process_of(int(text.split()[1])) is not None:
            return text.decode(errors="replace").strip()
    return ""


def _took(descriptor: int, what: str) -> bool:
    """Take the lock; False if the file system has no locks, so that nobody can know who holds the place."""
    try:
        _lock(descriptor)
    except OSError as error:
        if error.errno in _HELD_ERRORS:
            raise AlreadyRunningError(
                f"another export {what} is running: {_holder(descriptor)}",
                "wait for it, or choose another place",
            ) from None
        return False
    return True


def _not_ours(path: Path) -> OSError:
    return OSError(errno.EEXIST, f"{path.name} beside it is not a lock file of an export", str(path))


def _removed(path: Path) -> bool:
    try:
        if not is_own(path):
            return False
        status = path.lstat()
        if stat.S_ISDIR(status.st_mode):
            shutil.rmtree(path, ignore_errors=True)
        elif stat.S_ISREG(status.st_mode):
            path.unlink()
        return not os.path.lexists(path)
    except OSError:
        return False


def _opened(path: Path) -> tuple[int, bool]:
    """Open the lock file. Returns its descriptor, and whether it is writable: a read-only one can be locked, too.

    Anybody may read it, since it says who holds the place.
    """
    flags = _SAFELY
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(FileExistsError):
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | flags, 0o644), True
        with contextlib.suppress(FileNotFoundError):
            try:
                descriptor, writable = os.open(path, os.O_RDWR | flags), True
            except PermissionError:
                descriptor, writable = os.open(path, os.O_RDONLY | flags), False
            if stat.S_ISREG(os.fstat(descriptor).st_mode) and _is_ours(descriptor):
                return descriptor, writable
            os.close(descriptor)
            break
    raise _not_ours(path)


def _is_ours(descriptor: int) -> bool:
    """Whether an open file is a lock file: it has the text of one, or the beginning of that text."""
    text = os.read(descriptor, _TEXT_BYTES)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return text.startswith(_TEXT_BEGINS) or _TEXT_BEGINS.startswith(text)


def _names(path: Path, descriptor: int) -> bool:
    """Whether *path* is the open file."""
    try:
        named, opened = path.lstat(), os.fstat(descriptor)
    except OSError:
        return False
    return (named.st_dev, named.st_ino) == (opened.st_dev, opened.st_ino)


def _note_holder(descriptor: int) -> None:
    since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
    text = f"{_TEXT_BEGINS.decode()}{os.getpid()} on {socket.gethostname()} since {since} UTC\n"
    # On a full disk, the export itself fails soon enough.
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.write(descriptor, text.encode())


def _holder(descriptor: int) -> str:
    """The text that the holder wrote; it writes it right after taking the lock."""
    for _ in range(10):
        os.lseek(descriptor, 0, os.SEEK_SET)
        text = os.read(descriptor, _TEXT_BYTES)
        if text.endswith(b"\n"):
            return text.decode(errors="replace").strip()
        time.sleep(0.01)
    return "it did not say which process it is"


def _lock(descriptor: int) -> None:
    """Take the lock.

    Raises:
        OSError: Another process has it, or the file system has no locks.
    """
    if sys.platform == "win32":
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
    else:
        # fcntl.lockf is no alternative: a process loses such a lock when it closes the file anywhere, and the lock does
        # not keep two threads of a process apart.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
