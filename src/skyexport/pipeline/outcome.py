"""Findings of an export so far: notices about its posts, and facts about its data files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from skyexport.notices import Notices
from skyexport.options.export_options import ExportOptions
from skyexport.pipeline.preparation import check_strict

if TYPE_CHECKING:
    from skyexport.verification.increments import Disappeared

__all__ = ["Noted", "Written"]


class Noted:
    """All notices of an export.

    Args:
        options: With *strict*, the first notice ends the export.
    """

    def __init__(self, options: ExportOptions) -> None:
        self._options = options
        self.all = Notices()

    def note(self, notices: Notices) -> None:
        """Add *notices*.

        Raises:
            StrictError: The options are strict, and something cannot be exported as stored.
        """
        self.all.merge(notices)
        check_strict(self._options, notices)


@dataclass(frozen=True, slots=True)
class Written:
    """Data files that are complete but for their names."""

    archive_posts: int
    batches: int
    files: int
    held_seconds: float
    disappeared: Disappeared | None
    """Posts of earlier exports that the archive no longer has; None if there are no such exports."""
    page_bytes: int | None = None
    """Bytes of all files of pages, of an export for people; None for data files."""
