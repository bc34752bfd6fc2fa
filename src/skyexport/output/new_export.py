"""A new export directory: it grows under a hidden name, and gets its final name by one rename, or is removed."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import chain
from pathlib import Path

from skyexport.errors import OutputError
from skyexport.layout import MEDIA_DIRECTORY, MEDIA_TABLE, author_directory, directory_name
from skyexport.output.places import LEFTOVER, LOCK, ManifestMaker, close, create, partial_name
from skyexport.output.writer import WrittenFile
from skyexport.runtime.cleanup import uninterrupted
from skyexport.runtime.disk import as_output_error
from skyexport.runtime.lock import Lock, remove_leftovers
from skyexport.runtime.sync import sync_directory

__all__ = ["NewExport"]

_MANIFEST = "manifest.json"

_SUMS = "SHA256SUMS"

_ATTEMPTS = 100
"""Attempts to make an author's directory, which a failing run may remove; and attempts to remove an export."""

_REMOVE_SECONDS = 0.01
"""Between attempts to remove an export."""


class NewExport(ABC):
    """`<author or all>/<time>/` with a manifest, the checksums of all files, and what a subclass adds.

    Args:
        output_dir: Has a directory for each author.
        did: DID of the author; None for all authors.
        now: The time that becomes the name.
        sync: Whether to wait until everything is on disk.
    """

    _settled = True
    """Whether nothing is left to undo."""

    def __init__(self, output_dir: Path, did: str | None, now: datetime, *, sync: bool) -> None:
        self._sync = sync
        self._stamp = now.strftime("%Y-%m-%d_%H-%M-%S")
        self._final: Path | None = None
        self._partial_name = partial_name(self._stamp)
        self._portable_name = directory_name(did, portable=True)
        self._new_parents: list[Path] = []
        """Directories that did not exist before."""
        self.kept: Path | None = None
        self._go_to(author_directory(output_dir, did))

    @property
    @abstractmethod
    def main_file(self) -> str:
        """Name of the file to open first."""

    @abstractmethod
    def _begin(self) -> None:
        """Begin to fill the directory, which exists."""

    @abstractmethod
    def _finished(self) -> list[WrittenFile]:
        """Complete the files of posts; returns those that the manifest lists."""

    def _more_sums(self) -> Iterator[bytes]:
        """Lines of SHA256SUMS for files of posts that the manifest does not list, in pieces."""
        return iter(())

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
        self._begin()

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
        files = self._finished()
        if media_table is not None:
            files.append(self._written(MEDIA_TABLE, media_table))
        files.append(self._written(_MANIFEST, [manifest(list(files))]))
        sums = (file.sum_line().encode() for file in list(files))
        files.append(self._written(_SUMS, chain(sums, self._more_sums(), media_sums)))
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
        return files, final / self.main_file

    def _written(self, name: str, content: Iterable[bytes]) -> WrittenFile:
        """Write a file of the export, and wait until it is on disk."""
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

    def _end(self) -> None:
        """Stop whatever still fills the directory."""
        close(self)

    def _abort(self) -> None:
        if self._settled:
            return
        self._end()
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
