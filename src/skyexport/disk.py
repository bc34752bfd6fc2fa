"""The free space of a disk, as far as its file system can be believed."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from pathlib import Path

import psutil

__all__ = ["free_bytes", "takes_bytes_as_they_are"]

_PLAIN_FILE_SYSTEMS = frozenset(
    {"ext2", "ext3", "ext4", "xfs", "jfs", "tmpfs", "vfat", "msdos", "exfat", "fat32", "hfs", "ntfs"}
)
"""File systems that do not compress, do not grow on demand, and are not on another machine, which may do either."""


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
    nearest = max(enumerate(mounted), key=lambda found: (len(Path(found[1].mountpoint).parts), found[0]), default=None)
    return nearest is not None and nearest[1].fstype.lower() in _PLAIN_FILE_SYSTEMS
