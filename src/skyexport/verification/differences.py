"""The differences between an export and its manifest, noted one after the other."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from skyexport.errors import Difference
from skyexport.verification.data_files import why_unreadable
from skyexport.wording import path_text

__all__ = ["EXTRA", "Differences", "ManyDifferences"]

EXTRA = "not part of the export"

_MOST_NAMED = 1000
"""Differing files of one kind that are named; more are only counted."""


class Differences:
    """All differences so far."""

    def __init__(self) -> None:
        self.found: list[Difference] = []

    def note(self, name: str, *whats: str, extra: bool = False) -> None:
        """Note how the file *name* differs.

        Args:
            name: Name of the file, or its path below the export directory.
            whats: A text for each difference.
            extra: Whether the file does not belong to the export.
        """
        self.found += [Difference(path_text(name), what, extra) for what in whats]

    @contextlib.contextmanager
    def noting(self, name: str) -> Iterator[None]:
        """Note the error that keeps the file *name* from being read."""
        try:
            yield
        except OSError as error:
            self.note(name, why_unreadable(error))


class ManyDifferences:
    """Differences of files of one kind, of which there may be very many. Its owner calls `finish`.

    Args:
        differences: Gets those that are named.
        kind: Stands for the files that are not named, like `media`.
    """

    def __init__(self, differences: Differences, kind: str) -> None:
        self._differences = differences
        self._kind = kind
        self._noted = 0
        """Differing files, named or not."""
        self._only_extra = True

    def note(self, name: str, what: str, *, extra: bool = False) -> None:
        """Note how the file *name* differs, as `Differences` does."""
        self._noted += 1
        self._only_extra = self._only_extra and extra
        if self._noted <= _MOST_NAMED:
            self._differences.note(name, what, extra=extra)

    def finish(self) -> None:
        """Note how many more there are."""
        if self._noted > _MOST_NAMED:
            more = f"{self._noted - _MOST_NAMED:,} more files differ"
            self._differences.note(self._kind, more, extra=self._only_extra)
