"""Finding the export that an archive already has: of the same state, with the same options, and still whole."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import orjson

from skyexport.claims import MAX_CLAIMS_BYTES
from skyexport.destination import author_directory
from skyexport.errors import NoExportError, VerifyError
from skyexport.export_directory import ExportDirectory
from skyexport.manifest import source_of
from skyexport.options import ExportOptions
from skyexport.progress import Progress
from skyexport.source import file_state
from skyexport.verification import Verification, verify

__all__ = ["export_to_skip"]

_NAME = re.compile(r"(\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d)(?:-(\d{1,9}))?", re.ASCII)
"""What export directories are called."""

_IDENTITY = ("path", "bytes", "modified", "changes", "log", "journal")
"""What a manifest says of its source that must be the same."""


def export_to_skip(
    options: ExportOptions, on_progress: Callable[[Progress], None] | None = None
) -> Verification | None:
    """The newest export in the place of *options* that an export with them would only repeat, verified.

    Returns:
        It, None when there is no such export.
    """
    try:
        path = options.archive.resolve()
        source = source_of(path, file_state(path))
    except (OSError, ValueError, RuntimeError, apsw.Error):
        # The export that follows says what is wrong with the archive.
        return None
    place = author_directory(options.output_dir, options.did)
    for name in _newest_first(place):
        manifest = _manifest(place / name)
        said = manifest.get("source")
        if (
            isinstance(said, dict)
            and all(said.get(key) == source.get(key) for key in _IDENTITY)
            and manifest.get("options") == options.of_the_output()
        ):
            try:
                found = verify(place / name, on_progress, extra_files_allowed=True)
            except (VerifyError, NoExportError):
                continue
            if not found.unverified:
                return found
    return None


def _newest_first(place: Path) -> list[str]:
    try:
        found = [match for match in (_NAME.fullmatch(path.name) for path in place.iterdir()) if match is not None]
    except OSError:
        return []
    return [match[0] for match in sorted(found, key=lambda match: (match[1], int(match[2] or 1)), reverse=True)]


def _manifest(directory: Path) -> dict[str, Any]:
    """The manifest of a directory, which may be anybody's work; empty where there is none that can be read."""
    try:
        with ExportDirectory(directory) as opened, os.fdopen(opened.open("manifest.json"), "rb") as file:
            content = file.read(MAX_CLAIMS_BYTES + 1)
        manifest = orjson.loads(content) if len(content) <= MAX_CLAIMS_BYTES else None
    except (OSError, ValueError, NoExportError):
        return {}
    return manifest if isinstance(manifest, dict) else {}
