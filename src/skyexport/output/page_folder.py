"""An export as a folder of pages: many files, written by several threads, since each waits for the disk."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from functools import partial
from pathlib import Path

from skyexport.output.new_export import NewExport
from skyexport.output.places import open_new
from skyexport.output.writer import WrittenFile, write_all
from skyexport.runtime.background import Background, waited_for
from skyexport.runtime.cleanup import Call
from skyexport.runtime.disk import as_output_error, output_error
from skyexport.runtime.sync import sync_directory, sync_file

__all__ = ["PageFolder"]

_THREADS = 8
"""Files written at the same time: small files mostly wait for the disk."""

_AHEAD_BYTES = 16_000_000
"""Bytes of files that may wait for a thread."""


class PageFolder(NewExport):
    """A new export with the files of pages, which have their checksums in SHA256SUMS alone."""

    def __init__(self, output_dir: Path, did: str | None, now: datetime, *, sync: bool) -> None:
        super().__init__(output_dir, did, now, sync=sync)
        self._background = Background(_THREADS)
        self._begun: deque[tuple[int, Call[WrittenFile]]] = deque()
        self._ahead_bytes = 0
        self._folders: set[str] = set()
        self._sums: list[tuple[str, str]] = []
        """Path and SHA-256 of each file; 200 bytes each, so that a million of them fit."""
        self.bytes_written = 0

    @property
    def main_file(self) -> str:
        return "index.html"

    @property
    def directory(self) -> Path:
        """Where the folder grows."""
        return self._partial

    @property
    def files(self) -> int:
        """Files that are complete."""
        return len(self._sums)

    def add(self, path: str, content: bytes, check: Callable[[], None]) -> None:
        """Write a file.

        Args:
            path: Relative to the export, with slashes.
            content: All of it.
            check: Called while the disk is slow; an exception from it ends this.

        Raises:
            OutputError: This file or one before cannot be written.
        """
        self._make_folder(path)
        while self._begun and self._ahead_bytes + len(content) > _AHEAD_BYTES:
            self._take(check)
        while self._begun and self._begun[0][1].ended:
            self._take(check)
        call = self._background.begin(partial(_write, self._partial / path, path, content, sync=self._sync))
        self._begun.append((len(content), call))
        self._ahead_bytes += len(content)

    def add_pieces(self, path: str, pieces: Iterable[bytes]) -> None:
        """Write a file of any size, piece by piece; *path* as for `add`."""
        self._make_folder(path)
        self._note(self._written(path, pieces))

    def wait(self, check: Callable[[], None]) -> None:
        """Wait until all files are on disk, and the folders that they are in.

        Raises:
            OutputError: One cannot be written.
        """
        while self._begun:
            self._take(check)
        self._background.end()
        for folder in sorted(self._folders) if self._sync else ():
            check()
            with as_output_error(self._partial):
                sync_directory(self._partial / folder)

    def _make_folder(self, path: str) -> None:
        folder = path.rpartition("/")[0]
        if folder and folder not in self._folders:
            self._make_folder(folder)
            with as_output_error(self._partial):
                (self._partial / folder).mkdir(mode=0o700)
            self._folders.add(folder)

    def _take(self, check: Callable[[], None]) -> None:
        """Wait for the oldest file that was begun."""
        size, call = self._begun[0]
        written = waited_for(call, check)
        self._begun.popleft()
        self._ahead_bytes -= size
        self._note(written)

    def _note(self, file: WrittenFile) -> None:
        self._sums.append((file.name, file.sha256))
        self.bytes_written += file.bytes

    def _begin(self) -> None:
        return

    def _end(self) -> None:
        self._background.end()

    def _finished(self) -> list[WrittenFile]:
        return []

    def _more_sums(self) -> Iterator[bytes]:
        self._sums.sort()
        for path, sha256 in self._sums:
            yield f"{sha256}  {path}\n".encode()


def _write(path: Path, name: str, content: bytes, *, sync: bool) -> WrittenFile:
    """Write a file at once: unlike `OutputFile`, without a further thread for its checksum."""
    try:
        file = open_new(path)
        try:
            write_all(file, content)
            if sync:
                sync_file(file)
        finally:
            os.close(file)
    except OSError as error:
        raise output_error(error, str(path), path.parent) from error
    return WrittenFile(name, len(content), hashlib.sha256(content).hexdigest())
