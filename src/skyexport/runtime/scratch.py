"""A private directory for an export's temporary data, on the disk where SQLite also puts its temporary files.

It is removed when the `with` block ends, however that ends. If a run is killed, the next run removes its directory. A
lock file of the same name, made before the directory, protects it while its run lives.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from skyexport.errors import AlreadyRunningError, OutputError
from skyexport.runtime.cleanup import uninterrupted
from skyexport.runtime.lock import Lock, is_own, remove_leftovers

__all__ = ["Scratch", "no_room", "remove_left_scratches", "temporary_folder"]

_NAME = re.compile(r"(\.skyexport-[0-9a-f]{16})\.(?:scratch|lock)")

_ATTEMPTS = 10
"""Attempts to take the lock of a new name: another run may be testing that lock at the same moment."""


class Scratch:
    """The directory: `path`, readable by its owner only. Use it in a `with` statement.

    Raises:
        OutputError: It cannot be made.
    """

    _lock: Lock | None = None
    """Held as long as the directory exists; None before and after."""

    def __init__(self) -> None:
        self._folder = temporary_folder()
        try:
            uninterrupted(self._make)
        except BaseException as error:
            self.close()
            if not isinstance(error, OSError):
                raise
            raise OutputError(
                f"cannot make a directory for temporary files in {self._folder}: {error.strerror}",
                "set TMPDIR to a place where there is room",
            ) from error

    def _make(self) -> None:
        """Take the lock of a new name, and make the directory."""
        for _ in range(_ATTEMPTS):
            stem = f".skyexport-{secrets.token_hex(8)}"
            lock = Lock(self._folder / f"{stem}.lock", f"in {self._folder}")
            with contextlib.suppress(AlreadyRunningError):
                lock.take()
                self.path = self._folder / f"{stem}.scratch"
                self._lock = lock
                self.path.mkdir(mode=0o700)
                return
        raise AlreadyRunningError(f"other exports keep looking at {self._folder}", "try again")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        # A signal may have come before the owner had it.
        self.close()

    def close(self) -> None:
        """Remove the directory. Calling this again does no harm."""
        if self._lock is not None:
            uninterrupted(self._remove)

    def _remove(self) -> None:
        if self._lock is not None:
            shutil.rmtree(self.path, ignore_errors=True)
            self._lock.release()
            self._lock = None


def remove_left_scratches() -> list[Path]:
    """Remove the directories that killed runs of this user left; those of live runs stay.

    Returns:
        The paths that were removed.
    """
    stems = set()
    with contextlib.suppress(OSError, OutputError):
        folder = temporary_folder()
        paths = (path for path in folder.iterdir() if _NAME.fullmatch(path.name) and is_own(path))
        stems = {path.name.rpartition(".")[0] for path in paths}
    removed = []
    for stem in sorted(stems):
        with (
            contextlib.suppress(AlreadyRunningError, OSError),
            Lock(folder / f"{stem}.lock", f"in {folder}") as lock,
        ):
            removed += remove_leftovers(lock, folder, re.compile(re.escape(stem) + r"\.scratch"))
    return removed


def temporary_folder() -> Path:
    """The folder where SQLite puts its own temporary files: /var/tmp before /tmp, which may be in memory.

    Raises:
        OutputError: There is no such place.
    """
    if sys.platform != "win32":
        for name in (os.environ.get("SQLITE_TMPDIR"), os.environ.get("TMPDIR"), "/var/tmp"):
            if name and os.access(name, os.W_OK | os.X_OK) and Path(name).is_dir():
                return Path(name).absolute()
    try:
        return Path(tempfile.gettempdir())
    except OSError as error:
        raise OutputError("there is no place for temporary files", "set TMPDIR to a directory with room") from error


def no_room(error: OSError) -> OutputError:
    """The error for a temporary file that cannot be written."""
    return OutputError(
        f"cannot write a temporary file in {temporary_folder()}: {error.strerror}",
        "set TMPDIR to a place with room",
    )
