"""An export as one data file, or as a stream."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Iterable
from pathlib import Path

from skyexport.errors import OutputError
from skyexport.output.places import (
    ManifestMaker,
    as_output_error,
    close,
    create,
    hidden_stem,
)
from skyexport.output.writer import OutputFile, WrittenFile
from skyexport.runtime.cleanup import uninterrupted
from skyexport.runtime.lock import Lock, remove_leftovers
from skyexport.runtime.sync import sync_directory

__all__ = ["File", "Stream"]


class File:
    """A single data file."""

    media_directory: Path | None = None

    _settled = True
    """Whether nothing is left to undo."""

    def __init__(self, path: Path, *, overwrite: bool, sync: bool) -> None:
        self._path = path
        self._sync = sync
        self._overwrite = overwrite
        self._naming = False
        # The target of a link is replaced, not the link.
        self._final = path.resolve() if overwrite else path
        self._stem = hidden_stem(self._final.name)
        self._partial = self._final.with_name(f"{self._stem}-{secrets.token_hex(4)}.partial")
        self._lock = Lock(self._final.with_name(f"{self._stem}.lock"), f"to {path}")
        self.kept: Path | None = None

    def __del__(self) -> None:
        # A signal may have kept the owner from calling `abort`.
        if not self._settled:
            self.abort()

    def open(self) -> None:
        self._settled = False
        with as_output_error(self._path):
            self._lock.take()
        leftover = re.compile(re.escape(self._stem) + r"-[0-9a-f]{8}\.partial")
        self.swept = remove_leftovers(self._lock, self._final.parent, leftover)
        self.file = create(self._partial, display_path=self._path, sync=self._sync)

    def next_file(self) -> OutputFile:
        raise AssertionError("there is one file only")

    def commit(
        self, manifest: ManifestMaker, media_sums: Iterable[bytes] = (), media_table: Iterable[bytes] | None = None
    ) -> tuple[list[WrittenFile], Path | None]:
        del manifest, media_sums, media_table
        self.file.sync()
        self.file.close()
        self._naming = True
        with as_output_error(self._path):
            if self._overwrite:
                self._partial.replace(self._final)
            else:
                self._rename_to_free_name()
            if self._sync:
                sync_directory(self._final.parent)
        self._lock.release()
        self.kept = self._path
        self._settled = True
        return [self.file.written(self._path.name)], self._path

    def _rename_to_free_name(self) -> None:
        try:
            self._path.hardlink_to(self._partial)
        except FileExistsError:
            raise OutputError(f"another program has made {self._path} meanwhile", "choose another name") from None
        except OSError:
            # The file system has no hard links. Windows refuses to replace a file here; elsewhere the check must do.
            if os.path.lexists(self._path):
                raise
            self._partial.rename(self._path)
        else:
            self._partial.unlink()

    def abort(self) -> None:
        uninterrupted(self._abort)

    def _abort(self) -> None:
        if self._settled:
            return
        close(self)
        with contextlib.suppress(OSError):
            if self._naming and (not self._partial.exists() or self._final.samefile(self._partial)):
                self.kept = self._path
        with contextlib.suppress(OSError):
            self._partial.unlink()
        self._lock.release()
        self._settled = True


class Stream:
    """A pipe, a device, or standard output, written directly.

    Args:
        path: Path of the device or pipe; None for standard output.
    """

    media_directory: Path | None = None

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._name = "standard output" if path is None else str(path)
        self.swept: list[Path] = []
        self.kept: Path | None = None

    def open(self) -> None:
        with as_output_error(self._path or Path(self._name)):
            descriptor = os.dup(1) if self._path is None else os.open(self._path, os.O_WRONLY)
        self.file = OutputFile(descriptor, self._name)

    def next_file(self) -> OutputFile:
        raise AssertionError("there is one file only")

    def commit(
        self, manifest: ManifestMaker, media_sums: Iterable[bytes] = (), media_table: Iterable[bytes] | None = None
    ) -> tuple[list[WrittenFile], Path | None]:
        del manifest, media_sums, media_table
        self.file.close()
        return [self.file.written(self._name)], None

    def abort(self) -> None:
        close(self)
