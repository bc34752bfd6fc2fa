"""Waiting until written data are on the disk itself, as far as the system can do that.

Every sync of the program goes through here. If the system cannot sync a file or a directory, the export is complete
all the same: nothing better is possible there. If a disk fails, the export ends.
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

if sys.platform != "win32":
    import fcntl

__all__ = ["sync_directory", "sync_file"]

_CANNOT_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTTY, errno.ENODEV})
"""Errors that mean that this system, or this file system, cannot sync such a file.

Not EROFS: ext4 reports it when a disk error has made the file system read-only, and then data are lost.
"""

_CANNOT_SYNC_DIRECTORIES = _CANNOT_SYNC | {errno.EBADF, errno.EISDIR, errno.EACCES, errno.EPERM}
"""The same for a directory, its opening included.

EBADF and EISDIR: only files that are open for writing can be synced, and directories never are. EACCES and EPERM: some
network file systems refuse to sync directories; and a directory that is writable but not readable cannot be opened.
"""


def sync_file(descriptor: int) -> None:
    """Wait until a file is on the disk itself, where the system can do that; on macOS fsync alone does not wait.

    Raises:
        OSError: The disk failed (EIO), is full (ENOSPC, EDQUOT), or the like. A second sync would hide the error.
    """
    _sync(descriptor, _CANNOT_SYNC)


def sync_directory(path: Path) -> None:
    """Wait until the names in a directory are on the disk itself, where the system can do that.

    Raises:
        OSError: As for `sync_file`; also if there is no such directory.
    """
    if sys.platform == "win32":
        # Windows has no way to ask for it.
        return
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC_DIRECTORIES:
            raise
        return
    try:
        _sync(descriptor, _CANNOT_SYNC_DIRECTORIES)
    finally:
        os.close(descriptor)


def _sync(descriptor: int, cannot: frozenset[int]) -> None:
    """Sync an open file. The errors *cannot* are ignored: they mean that the system cannot do that."""
    try:
        if sys.platform != "win32" and hasattr(fcntl, "F_FULLFSYNC"):
            try:
                fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
                return
            except OSError as error:
                if error.errno not in cannot:
                    raise
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in cannot:
            raise
