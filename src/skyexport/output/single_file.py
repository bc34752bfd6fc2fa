"""An export as one data file, or as a stream."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from skyexport.output.places import ManifestMaker, close, create
from skyexport.output.writer import OutputFile, WrittenFile
from skyexport.runtime.cleanup import uninterrupted
from skyexport.runtime.disk import as_output_error
from skyexport.runtime.hidden_file import HiddenFile

__all__ = ["File", "Stream"]


class File:
    """A single data file."""

    media_directory: Path | None = None

    def __init__(self, path: Path, *, overwrite: bool, sync: bool) -> None:
        self._path = path
        self._sync = sync
        self._place = HiddenFile(path, overwrite=overwrite, sync=sync)

    @property
    def swept(self) -> list[Path]:
        return self._place.swept

    @property
    def kept(self) -> Path | None:
        return self._place.kept

    def open(self) -> None:
        self._place.open()
        self.file = create(self._place.hidden, display_path=self._path, sync=self._sync)

    def next_file(self) -> OutputFile:
        raise AssertionError("there is one file only")

    def commit(
        self, manifest: ManifestMaker, media_sums: Iterable[bytes] = (), media_table: Iterable[bytes] | None = None
    ) -> tuple[list[WrittenFile], Path | None]:
        del manifest, media_sums, media_table
        self.file.sync()
        self.file.close()
        self._place.commit()
        return [self.file.written(self._path.name)], self._path

    def abort(self) -> None:
        uninterrupted(self._abort)

    def _abort(self) -> None:
        close(self)
        self._place.abort()


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
