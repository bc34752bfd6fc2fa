"""An export as a directory: data files, media, manifest and checksums."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from itertools import chain
from pathlib import Path

from skyexport.errors import OutputError
from skyexport.layout import (
    MEDIA_DIRECTORY,
    MEDIA_TABLE,
    author_directory,
    directory_name,
)
from skyexport.output.places import (
    LEFTOVER,
    LOCK,
    ManifestMaker,
    close,
    create,
    partial_name,
)
from skyexport.output.writer import OutputFile, WrittenFile
from skyexport.runtime.cleanup import uninterrupted
from skyexport.runtime.disk import as_output_error
from skyexport.runtime.for_tests import Limit
from skyexport.runtime.lock import Lock, remove_leftovers
from skyexport.runtime.sync import sync_directory

__all__ = ["MAX_DATA_FILES", "Directory"]

_MANIFEST = "manifest.json"

_SUMS = "SHA256SUMS"

MAX_DATA_FILES = Limit("MAX_DATA_FILES", 10_000)
"""The most that a manifest can list and still be read at once."""

_ATTEMPTS = 100
"""Attempts to make an author's directory, which a failing run may remove; and attempts to remove an export."""

_REMOVE_SECONDS = 0.01
"""Between attempts to remove an export."""


class Directory:
    """`<author or all>/<time>/` with the data files, the manifest, and the checksums of all files."""

    _settled = True
    """Whether nothing is left to undo."""

    def __init__(
        self, output_dir: Path, did: str | None, name: Callable[[int], str], now: datetime, *, sync: bool
    ) -> None:
        self._sync = sync
        self._stamp = now.strftime("%Y-%m-%d_%H-%M-%S")
        self._name = name
        """Makes the name of a data file from its number."""
        self._complete: list[WrittenFile] = []
        """The data files before the open one."""
        self._adopted = False
        """Whether other processes wrote the data files."""
        self._final: Path | None = None
        self._partial_name = partial_name(self._stamp)
        self._portable_name = directory_name(did, portable=True)
        self._new_parents: list[Path] = []
        """Directories that did not exist before."""
        self.kept: Path | None = None
        self._go_to(author_directory(output_dir, did))

    def _go_to(self, parent: Path) -> None:
        """Use *parent* as the author's directory."""
        self._parent = parent
        self._lock = Lock(parent / LOCK, f"into {parent}")
        self._partial = parent / self._partial_name
        self.media_directory = self._partial / MEDIA_DIRECTORY

    def __del__(self) -> None:
        # A signal may have kept the owner from calling `abort`.
        if not self._settled:
            self.abort()

    def open(self) -> None:
        self._settled = False
        with as_output_error(self._parent):
            try:
                self._take_parent()
            except OSError as error:
                if error.errno != errno.EINVAL or self._parent.name == self._portable_name:
                    raise
                # The disk allows no colon in names, like a memory stick with FAT.
                self._go_to(self._parent.with_name(self._portable_name))
                self._take_parent()
            self.swept = remove_leftovers(self._lock, self._parent, LEFTOVER)
            self._partial.mkdir(mode=0o700)
        self.file = create(self._partial / self._name(1), sync=self._sync)

    def _take_parent(self) -> None:
        """Make the author's directory, and lock it."""
        for _ in range(_ATTEMPTS):
            missing = [path for path in (self._parent, *self._parent.parents) if not path.exists()]
            self._new_parents += [path for path in missing if path not in self._new_parents]
            # Another run may have made some of them too. When that run fails, it removes those that are empty.
            with contextlib.suppress(FileNotFoundError):
                for path in reversed(missing):
                    path.mkdir(mode=0o700, exist_ok=True)
                self._lock.take()
                return
        raise OutputError(f"{self._parent} keeps disappearing", "choose another place with -o")

    def commit(
        self, manifest: ManifestMaker, media_sums: Iterable[bytes] = (), media_table: Iterable[bytes] | None = None
    ) -> tuple[list[WrittenFile], Path | None]:
        self._finish_file()
        files = self._complete
        if media_table is not None:
            files.append(self._written(MEDIA_TABLE, media_table))
        files.append(self._written(_MANIFEST, [manifest(list(files))]))
        sums = (file.sum_line().encode() for file in list(files))
        files.append(self._written(_SUMS, chain(sums, media_sums)))
        with as_output_error(self._partial):
            if self._sync and self.media_directory.exists():
                sync_directory(self.media_directory)
            if self._sync:
                sync_directory(self._partial)
            final = self._rename()
        with as_output_error(final):
            for path in (final, *self._new_parents) if self._sync else ():
                sync_directory(path.parent)
        self._lock.release()
        self.kept = final
        self._settled = True
        return files, final / self._name(1)

    def next_file(self) -> OutputFile:
        self._finish_file()
        self.file = create(self.path_of(len(self._complete) + 1), sync=self._sync)
        return self.file

    def path_of(self, number: int) -> Path:
        """Where the data file with this number grows, for another process that writes it.

        Raises:
            OutputError: There are too many.
        """
        if number > (most := MAX_DATA_FILES.value):
            raise OutputError(f"more than {most:,} data files", "split less often")
        return self._partial / self._name(number)

    def leave_to_others(self) -> None:
        """Leave the data files to other processes, and remove the open one."""
        close(self)
        self._adopted = True
        with as_output_error(self._partial):
            (self._partial / self._name(1)).unlink()

    def adopt(self, files: Sequence[WrittenFile]) -> None:
        """Take the data files that other processes have written, all of them."""
        self._complete = list(files)

    def _finish_file(self) -> None:
        if self._adopted:
            return
        self.file.sync()
        self.file.close()
        self._complete.append(self.file.written(self._name(len(self._complete) + 1)))

    def _written(self, name: str, content: Iterable[bytes]) -> WrittenFile:
        """Write a file beside the data files, and wait until it is on disk."""
        file = create(self._partial / name, sync=self._sync)
        try:
            for piece in content:
                file.write(piece)
            file.sync()
        finally:
            file.close()
        return file.written(name)

    def _rename(self) -> Path:
        """Take the first free name; a directory with content is never replaced."""
        attempt = 1
        while True:
            final = self._parent / (self._stamp if attempt == 1 else f"{self._stamp}-{attempt}")
            attempt += 1
            if os.path.lexists(final):
                continue
            self._final = final
            try:
                return self._partial.rename(final)
            except OSError:
                if not os.path.lexists(final):
                    raise

    def abort(self) -> None:
        uninterrupted(self._abort)

    def _abort(self) -> None:
        if self._settled:
            return
        close(self)
        # Nobody else knows the partial name: if it is gone after an attempt to rename it, the attempt succeeded.
        self.kept = self._final if not self._partial.exists() else None
        for _ in range(_ATTEMPTS):
            shutil.rmtree(self._partial, ignore_errors=True)
            if not self._partial.exists():
                break
            # A thread that copies media may just be ending there.
            time.sleep(_REMOVE_SECONDS)
        self._lock.release()
        for path in sorted(self._new_parents, key=lambda path: len(path.parts), reverse=True):
            # This fails if another export has been made there meanwhile.
            with contextlib.suppress(OSError):
                path.rmdir()
        self._settled = True
