"""A place that one run at a time may hold, and the removal of what killed runs left there.

The lock is the system's own, on a small hidden file: it goes with its process, however that ends, so that the lock of
a dead run never counts. It lies beside what it protects, not in it, since Windows renames no directory in which a file
is open, and network file systems lock no directories. Its text says who holds it, for people.

Whoever holds a place is alone there: all that other runs have left under hidden names belongs to nobody any more. A
run takes the lock before it makes anything, so there is no moment in which its own could be taken for a leftover.
"""

from __future__ import annotations

import contextlib
import errno
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

from skyexport.cleanup import uninterrupted
from skyexport.errors import AlreadyRunningError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["Lock", "check_free", "is_own", "remove_leftovers"]

_ATTEMPTS = 100
"""A lock file that was removed between opening and locking it is opened anew; so often no other run ends meanwhile."""

_HELD_ERRORS = frozenset({errno.EACCES, errno.EAGAIN, errno.EDEADLK})
"""How systems say that another process has the lock; what else they say means that they have no locks there."""

_LOCKED_BYTE = 1 << 30
"""Windows lets nobody read what is locked: lock a byte far behind the text."""

_TEXT_BEGINS = b"process "
"""How the text begins: a file with another one is somebody's own, and not touched."""

_SAFELY = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
"""Flags to open a lock file, in whose place a stranger may have put anything."""

_TEXT_BYTES = 400
"""More than any such text has."""


class Lock:
    """A lock that one run at a time holds, from `take` until `release`, or until this process ends, however it ends.

    Use it in a `with` statement, or call both. No signal comes between making the lock file and owning it.

    Args:
        path: The lock file, made if need be; its directory must exist by then.
        what: What only one export may do at a time, for the message: `into DIRECTORY`.
    """

    _descriptor = -1

    def __init__(self, path: Path, what: str) -> None:
        self._path = path
        self._what = what
        self.alone = False
        """Whether this run is surely the only one; False where the file system has no locks."""

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
                # Its holder may have removed it before this process had locked it: then another run may hold a new one.
                if not _names(self._path, descriptor):
                    continue
                if writable:
                    _note_holder(descriptor)
                self._descriptor, descriptor = descriptor, -1
                return
            finally:
                if descriptor >= 0:
                    os.close(descriptor)
        raise AlreadyRunningError(f"other exports {self._what} are running all the time", "try again later")

    def __enter__(self) -> Self:
        self.take()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.release()

    def __del__(self) -> None:
        # A signal may have kept its owner from releasing it.
        self.release()

    def release(self) -> None:
        """Let the next one in; the lock file goes as well. More than once does no harm."""
        if self._descriptor >= 0:
            uninterrupted(self._release)

    def _release(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor < 0:
            return
        if sys.platform == "win32":
            # Windows removes no file that is open; and fails where the next run has opened it, as it should.
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

    Links are not followed and not removed, nor is what another user owns.

    Args:
        lock: On the place; nothing is removed where it does not make sure that this run is alone.
        directory: Where to look.
        name: What the whole name of a leftover looks like.

    Returns:
        What is gone now.
    """
    found = []
    if lock.alone:
        with contextlib.suppress(OSError):
            found = sorted(path for path in directory.iterdir() if name.fullmatch(path.name))
    return [path for path in found if _removed(path)]


def is_own(path: Path) -> bool:
    """Whether *path* belongs to this user; a link by itself."""
    return sys.platform == "win32" or path.lstat().st_uid == os.geteuid()


def check_free(path: Path, what: str) -> None:
    """Make sure that nobody holds a place at this moment, without making anything.

    Args:
        path: Where the lock file is, when there is one.
        what: As `Lock` takes it.

    Raises:
        AlreadyRunningError: Another run holds it.
        OSError: There is something else of that name.
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


def _took(descriptor: int, what: str) -> bool:
    """Whether the lock is this run's; False where the file system has no locks, so that nobody can tell."""
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
    return OSError(errno.EEXIST, f"{path.name} beside it is no lock file of an export", str(path))


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
    """The lock file, and whether it can be written to: that of another user may not be, and can be locked all the same.

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
    """Whether a file is a lock file: with the text of one, or the beginning of that."""
    text = os.read(descriptor, _TEXT_BYTES)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return text.startswith(_TEXT_BEGINS) or _TEXT_BEGINS.startswith(text)


def _names(path: Path, descriptor: int) -> bool:
    """Whether *path* is the file that is open."""
    try:
        found, opened = path.lstat(), os.fstat(descriptor)
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == (opened.st_dev, opened.st_ino)


def _note_holder(descriptor: int) -> None:
    since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
    text = f"{_TEXT_BEGINS.decode()}{os.getpid()} on {socket.gethostname()} since {since} UTC\n"
    # A full disk is found out soon enough, by what matters.
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.write(descriptor, text.encode())


def _holder(descriptor: int) -> str:
    """What the holder noted; it does so right after taking the lock."""
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
        OSError: Another one has it, or there are no locks.
    """
    if sys.platform == "win32":
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
    else:
        # Not fcntl's other kind of lock, which a process loses when it closes the file anywhere, and which does not
        # keep two threads of a process apart.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
