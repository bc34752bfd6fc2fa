"""A file that grows under a hidden name beside its final one, and gets that by one rename, or is removed.

One run at a time writes to a place. It removes what killed runs left there under hidden names.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
from pathlib import Path

from skyexport.errors import OutputError
from skyexport.layout import LONGEST_NAME_BYTES
from skyexport.runtime.cleanup import uninterrupted
from skyexport.runtime.disk import as_output_error
from skyexport.runtime.lock import Lock, remove_leftovers
from skyexport.runtime.sync import sync_directory

__all__ = ["HiddenFile", "lock_beside"]


class HiddenFile:
    """The names of the file. The owner makes it under `hidden`, between `open` and `commit`.

    Args:
        path: Its final path.
        overwrite: Whether it may replace a file there.
        sync: Whether `commit` waits until the name is on disk.
    """

    _settled = True
    """Whether nothing is left to undo."""

    def __init__(self, path: Path, *, overwrite: bool, sync: bool) -> None:
        self._path = path
        self._sync = sync
        self._overwrite = overwrite
        self._naming = False
        # The target of a link is replaced, not the link.
        self._final = path.resolve() if overwrite else path
        self._stem = _hidden_stem(self._final.name)
        self.hidden = self.another_name()
        """Where it grows."""
        self._lock = Lock(lock_beside(self._final), f"to {path}")
        self.swept: list[Path] = []
        """Leftovers of killed runs that `open` removed."""
        self.kept: Path | None = None
        """The final path, if the file has it once `commit` or `abort` ended."""

    def __del__(self) -> None:
        # A signal may have kept the owner from calling `abort`.
        if not self._settled:
            self.abort()

    def another_name(self) -> Path:
        """A hidden name for a file that is made meanwhile: if this run is killed, the next one removes it."""
        return self._final.with_name(f"{self._stem}-{secrets.token_hex(4)}.partial")

    def open(self) -> None:
        """Take the place. The owner must call `abort` after any exception.

        Raises:
            OutputError: Nothing can be written there.
            AlreadyRunningError: Another run is writing there.
        """
        self._settled = False
        with as_output_error(self._path):
            self._lock.take()
        leftover = re.compile(re.escape(self._stem) + r"-[0-9a-f]{8}\.partial")
        self.swept = remove_leftovers(self._lock, self._final.parent, leftover)

    def commit(self) -> None:
        """Give the file, which is complete and on disk, its final name.

        Raises:
            OutputError: It failed. After `abort`, `kept` says whether the file has its final name all the same.
        """
        self._naming = True
        with as_output_error(self._path):
            if self._overwrite:
                self.hidden.replace(self._final)
            else:
                self._rename_to_free_name()
            if self._sync:
                sync_directory(self._final.parent)
        self._lock.release()
        self.kept = self._path
        self._settled = True

    def _rename_to_free_name(self) -> None:
        try:
            self._path.hardlink_to(self.hidden)
        except FileExistsError:
            raise OutputError(f"another program has made {self._path} meanwhile", "choose another name") from None
        except OSError:
            # The file system has no hard links. Windows refuses to replace a file here; elsewhere the check must do.
            if os.path.lexists(self._path):
                raise
            self.hidden.rename(self._path)
        else:
            self.hidden.unlink()

    def abort(self) -> None:
        """Remove the file, whatever signals arrive, unless it has its final name. More than once does no harm."""
        uninterrupted(self._abort)

    def _abort(self) -> None:
        if self._settled:
            return
        with contextlib.suppress(OSError):
            if self._naming and (not self.hidden.exists() or self._final.samefile(self.hidden)):
                self.kept = self._path
        with contextlib.suppress(OSError):
            self.hidden.unlink()
        self._lock.release()
        self._settled = True


def lock_beside(path: Path) -> Path:
    """The lock file of a place for one file."""
    return path.with_name(f"{_hidden_stem(path.name)}.lock")


def _hidden_stem(name: str) -> str:
    """The beginning of the names of hidden files beside *name*: different for each file, and never too long."""
    if len(os.fsencode(name)) <= LONGEST_NAME_BYTES:
        return f".{name}"
    return f".{name[:20]}-{hashlib.sha256(os.fsencode(name)).hexdigest()}"
