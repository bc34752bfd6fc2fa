"""A CAR file in the place of an archive: its posts are imported into a private archive, which is read instead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import apsw

from skyexport.archive.source import Source
from skyexport.repository.wrong_files import is_car, what_it_is
from skyexport.runtime.progress import Counters
from skyexport.runtime.sqlite_files import header_of, is_sqlite

__all__ = ["check_car_name", "is_car_file", "source_of_car"]

_START_BYTES = 4096
"""Enough to tell what a file is."""


def is_car_file(path: Path) -> bool:
    """Whether there is a CAR file at *path*."""
    try:
        return is_car(header_of(path))
    except (OSError, ValueError, apsw.Error):
        # Opening it as an archive reports the reason.
        return False


def check_car_name(path: Path, display_path: str) -> None:
    """Make sure that a file is not called a CAR file, and is something else.

    Raises:
        RepositoryError: It is; the message says what it is.
    """
    if path.suffix.lower() == ".car" and path.is_file() and not is_sqlite(path):
        with path.open("rb") as file:
            problem = what_it_is(display_path, file.read(_START_BYTES), path.stat().st_size)
        if problem is not None:
            raise problem


def source_of_car(
    location: Path, display_path: str, folder: Path, counters: Counters | None, check: Callable[[], None]
) -> Source:
    """Import a repository into an archive in *folder*, which is private; returns how to open that.

    Args:
        location: The CAR file, an absolute path without links.
        display_path: Its path for messages.
        counters: Counts what is done; None if nobody shows that.
        check: Called again and again; an exception that it raises ends the import.

    Raises:
        RepositoryError: It is damaged.
        MissingExtraError: libipld is not installed.
        OutputError: There is no room.
    """
    # Loading it takes as long as a small export, and few exports need it.
    from skyexport.repository.blocks import Blocks
    from skyexport.repository.importing import imported_into

    path = folder / "imported.db"
    counters = counters or Counters()
    with Blocks(location, display_path) as blocks:
        imported_into(path, blocks, counters, check)
    # The export counts anew.
    counters.posts_read = counters.read_back_bytes = 0
    imported = Source.of(path)
    return replace(imported, immutable=True, location=str(location), display_path=display_path, from_car=True)
