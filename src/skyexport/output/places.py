"""Names that an export has while it grows, and the locks of places."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path

from skyexport.errors import AlreadyRunningError, OutputError
from skyexport.layout import EXPORT_NAME
from skyexport.output.writer import OutputFile, WrittenFile
from skyexport.runtime.disk import as_output_error
from skyexport.runtime.lock import MACHINE_GROUP, Lock, machine_digits, remove_leftovers
from skyexport.runtime.sync import sync_directory

__all__ = [
    "LEFTOVER",
    "LOCK",
    "ManifestMaker",
    "check_writable",
    "close",
    "create",
    "open_new",
    "partial_name",
    "place_lock",
    "remove_partial",
    "retire",
]

LOCK = ".skyexport.lock"
"""Name of the lock file in an author's directory, held while an export into it runs."""

LEFTOVER = re.compile(rf"\.{EXPORT_NAME.pattern}-[0-9a-f]{{8}}(?:-{MACHINE_GROUP})?\.(?:partial|removed)", re.ASCII)
"""Names of export directories while they grow on a machine, and while they are removed."""


ManifestMaker = Callable[[list[WrittenFile]], bytes]
"""Makes the manifest of these files: the data files, and the table of media if there is one."""


def check_writable(directory: Path) -> None:
    """Check that files can be made in *directory*.

    Raises:
        OSError: They cannot.
    """
    if not directory.is_dir():
        number = errno.ENOTDIR if directory.exists() else errno.ENOENT
        raise OSError(number, os.strerror(number), str(directory))
    if not os.access(directory, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(directory))


def remove_partial(output_dir: Path) -> None:
    """Remove a dead process's leftovers from an archive's export directory, unless another run works there.

    Args:
        output_dir: Has a directory for each author. All are searched, since the author's DID may be unknown.
    """
    with contextlib.suppress(OSError):
        for parent in list(output_dir.iterdir()):
            with contextlib.suppress(OSError, AlreadyRunningError):
                if (parent / LOCK).exists():
                    with place_lock(parent) as lock:
                        remove_leftovers(lock, parent, LEFTOVER)
                # This fails if there is an export.
                parent.rmdir()
        output_dir.rmdir()


def place_lock(place: Path) -> Lock:
    """The lock on an author's directory, which an export into it takes."""
    return Lock(place / LOCK, f"into {place}")


def retire(directory: Path, lock: Lock, *, sync: bool) -> None:
    """Remove an export directory from a place that this run holds. The next run removes what cannot be removed now.

    Args:
        directory: The export.
        lock: The lock on its place.
        sync: Wait until its hidden name is on disk: a crash must not bring back the old name with half of the files.

    Raises:
        OSError: It cannot be renamed; it stays unchanged.
    """
    hidden = directory.with_name(f".{directory.name}-{secrets.token_hex(4)}.removed")
    directory.rename(hidden)
    if sync:
        sync_directory(directory.parent)
    remove_leftovers(lock, directory.parent, re.compile(re.escape(hidden.name)))


def close(destination: object) -> None:
    """Close the file of a destination, if it was opened."""
    file = getattr(destination, "file", None)
    if file is not None:
        with contextlib.suppress(OutputError):
            file.close()


def partial_name(stamp: str) -> str:
    """The name of an export directory while it grows: different for each attempt, on this machine and on others."""
    return f".{stamp}-{secrets.token_hex(4)}-{machine_digits()}.partial"


def create(path: Path, *, sync: bool, display_path: Path | None = None) -> OutputFile:
    with as_output_error(display_path or path):
        return OutputFile(open_new(path), str(display_path or path), path.parent, durable=sync)


def open_new(path: Path, access: int = os.O_WRONLY) -> int:
    """A descriptor of a new file, which only its owner can read; what is there already is never opened.

    Raises:
        OSError: It cannot be made.
    """
    flags = access | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
    return os.open(path, flags, 0o600)
