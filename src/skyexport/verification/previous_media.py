"""The media of an earlier export: a new export links to the files that have not changed.

The directory is read as if it came from a stranger. No file outside of it is linked, and no file that other users may
change. Nothing in it is ever written, renamed, or removed.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from types import TracebackType
from typing import Self

from skyexport.errors import NoExportError
from skyexport.layout import MAX_CLAIMS_BYTES, MEDIA_DIRECTORY
from skyexport.runtime.export_directory import ExportDirectory, is_plain_name
from skyexport.verification.claims import read_manifest

__all__ = ["EarlierMedia"]

_MANIFEST = "manifest.json"
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class EarlierMedia:
    """The media files of the export in *path*. Use it in a `with` statement.

    Raises:
        NoExportError: *path* is not an export, or cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._closing = contextlib.ExitStack()
        with contextlib.ExitStack() as opened:
            directory = opened.enter_context(ExportDirectory(path))
            _check_is_export(directory, path)
            self._media: ExportDirectory | None = None
            try:
                self._media = opened.enter_context(directory.subdirectory(MEDIA_DIRECTORY))
            except FileNotFoundError:
                pass  # That export had none.
            except OSError as error:
                raise NoExportError(f"cannot open {MEDIA_DIRECTORY} in {path}: {error.strerror or error}") from error
            self._closing = opened.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._closing.close()

    @property
    def empty(self) -> bool:
        """Whether the export has no directory of media."""
        return self._media is None

    def has(self, name: str) -> bool:
        """Whether the file *name* can be linked or copied from here."""
        descriptor = self.open(name)
        if descriptor is not None:
            os.close(descriptor)
        return descriptor is not None

    def open(self, name: str) -> int | None:
        """A descriptor to read the plain file *name*; None if it is missing, or other users may change it."""
        if self._media is None or not is_plain_name(name):
            return None
        try:
            descriptor = self._media.open(name)
        except OSError:
            return None
        if not _is_only_ours(os.fstat(descriptor)):
            os.close(descriptor)
            return None
        return descriptor

    def link(self, name: str, descriptor: int, target: Path) -> bool:
        """Make *target* a hard link to the file *name*, open as *descriptor*; False if that fails."""
        assert self._media is not None
        try:
            self._media.link(name, target)
        except OSError:
            return False
        if os.path.samestat(target.lstat(), os.fstat(descriptor)):
            return True
        # Another file has just taken the name.
        target.unlink()
        return False


def _check_is_export(directory: ExportDirectory, path: Path) -> None:
    reason = ""
    try:
        if read_manifest(directory.read(_MANIFEST, MAX_CLAIMS_BYTES)).format is None:
            reason = f"{_MANIFEST} is not a manifest of an export"
    except ValueError as error:
        reason = f"{_MANIFEST} {error}"
    except FileNotFoundError:
        reason = f"no {_MANIFEST}"
    except OSError as error:
        reason = f"{_MANIFEST} is {error}" if error.strerror is None else f"{_MANIFEST}: {error.strerror}"
    if reason:
        raise NoExportError(
            f"there is no export in {path}: {reason}", "name the directory of an earlier export with --link-media"
        )


def _is_only_ours(status: os.stat_result) -> bool:
    """Whether only this user may change the file; on Windows always true, since it is not known."""
    if not hasattr(os, "geteuid"):
        return True
    return status.st_uid == os.geteuid() and not status.st_mode & _WRITABLE_BY_OTHERS
