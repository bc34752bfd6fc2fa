"""The free space of a disk, as far as its file system can be believed."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

from skyexport.errors import OutputError, StoppedError
from skyexport.wording import format_size

__all__ = ["as_output_error", "free_bytes", "output_error", "takes_bytes_as_they_are"]

_PLAIN_FILE_SYSTEMS = frozenset(
    {"ext2", "ext3", "ext4", "xfs", "jfs", "tmpfs", "vfat", "msdos", "exfat", "fat32", "hfs", "ntfs"}
)
"""File systems that do not compress, do not grow on demand, and are not on another machine, which may do either."""

_NOT_ON_FAT = ':*?"<>|'
"""Characters that FAT and other file systems of Windows do not allow in names."""

_SIGPIPE = 13
"""The signal that ends a program whose reader has closed the pipe; Windows has no name for it."""


def free_bytes(path: Path) -> int | None:
    """Bytes that this user can write to the disk of *path*, or of its nearest existing parent; None if unknown."""
    while True:
        try:
            if sys.platform == "win32":
                usage = shutil.disk_usage(path)
                return usage.free if usage.total else None
            status = os.statvfs(path)
        except FileNotFoundError:
            if path == path.parent:
                return None
            path = path.parent
            continue
        except OSError:
            return None
        if not status.f_blocks:
            return None
        # The other free blocks are reserved for root.
        return status.f_frsize * (status.f_bfree if os.geteuid() == 0 else status.f_bavail)


def takes_bytes_as_they_are(path: Path) -> bool:
    """Whether a file in the directory *path* surely takes its full size on disk, so that the free space is a limit."""
    place = path.resolve()
    try:
        if sys.platform == "win32" and place.stat().st_file_attributes & stat.FILE_ATTRIBUTE_COMPRESSED:
            return False
        mounted = [part for part in psutil.disk_partitions(all=True) if place.is_relative_to(part.mountpoint)]
    except (OSError, psutil.Error):
        return False
    # Of two mounts at the same place, the later one hides the other.
    nearest = max(enumerate(mounted), key=lambda mount: (len(Path(mount[1].mountpoint).parts), mount[0]), default=None)
    return nearest is not None and nearest[1].fstype.lower() in _PLAIN_FILE_SYSTEMS


def output_error(error: OSError, name: str, directory: Path | None = None) -> OutputError | StoppedError:
    """Turn a system error about writing *name* into one of ours; *directory* is where it lies, None for a stream."""
    if error.errno == errno.EPIPE:
        return StoppedError(_SIGPIPE)
    hint = {
        errno.ENOSPC: "free some space, or choose another place with -o",
        errno.EDQUOT: "your quota is used up: free some space, or choose another place with -o",
        errno.EFBIG: "such a large file is not allowed there: choose another place with -o",
        errno.EACCES: "check the permissions, or choose another place with -o",
        errno.EROFS: "choose another place with -o",
    }.get(error.errno or 0, "")
    if error.errno == errno.EINVAL and (refused := [character for character in _NOT_ON_FAT if character in name]):
        hint = f"this disk allows no {' '.join(refused)} in names: choose another name with --to, or another place"
    what = f"cannot write {name}: {error.strerror or error}"
    free = free_bytes(directory) if error.errno == errno.ENOSPC and directory is not None else None
    return OutputError(what if free is None else f"{what}, {format_size(free)} free", hint)


@contextlib.contextmanager
def as_output_error(path: Path) -> Iterator[None]:
    """Turn an error of the system about the output *path* into ours."""
    try:
        yield
    except OSError as error:
        raise output_error(error, str(path), path.parent) from error
