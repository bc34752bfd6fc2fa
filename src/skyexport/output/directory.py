"""An export as a directory of data files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from skyexport.errors import OutputError
from skyexport.output.new_export import NewExport
from skyexport.output.places import close, create
from skyexport.output.writer import OutputFile, WrittenFile
from skyexport.runtime.disk import as_output_error
from skyexport.runtime.for_tests import Limit

__all__ = ["MAX_DATA_FILES", "Directory"]

MAX_DATA_FILES = Limit("MAX_DATA_FILES", 10_000)
"""The most that a manifest can list and still be read at once."""


class Directory(NewExport):
    """A new export with the data files, written one after the other."""

    def __init__(
        self, output_dir: Path, did: str | None, name: Callable[[int], str], now: datetime, *, sync: bool
    ) -> None:
        super().__init__(output_dir, did, now, sync=sync)
        self._name = name
        """Makes the name of a data file from its number."""
        self._complete: list[WrittenFile] = []
        """The data files before the open one."""
        self._adopted = False
        """Whether other processes wrote the data files."""

    @property
    def main_file(self) -> str:
        return self._name(1)

    def _begin(self) -> None:
        self.file = create(self._partial / self._name(1), sync=self._sync)

    def _finished(self) -> list[WrittenFile]:
        self._finish_file()
        return self._complete

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
