"""Finding the export that an archive already has: of the same state, with the same options, and still whole."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import orjson

from skyexport.archive import Archive
from skyexport.claims import MAX_CLAIMS_BYTES
from skyexport.destination import directory_name
from skyexport.errors import ExportError, NoExportError, VerifyError
from skyexport.export_directory import ExportDirectory
from skyexport.manifest import source_of
from skyexport.options import ExportOptions, is_did, parse_author, resolve
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
    resolved = resolve(options)
    try:
        path = resolved.archive.resolve()
        source = source_of(path, file_state(path))
        did = _did(options.author, path)
    except (ExportError, OSError, ValueError, RuntimeError, apsw.Error):
        # The export that follows says what is wrong with the archive, or the author.
        return None
    place = resolved.output_dir / directory_name(did)
    for name in _newest_first(place):
        manifest = _manifest(place / name)
        said = manifest.get("source")
        if (
            isinstance(said, dict)
            and all(said.get(key) == source.get(key) for key in _IDENTITY)
            and manifest.get("options") == resolved.of_the_output(did)
        ):
            try:
                found = verify(place / name, on_progress)
            except (VerifyError, NoExportError):
                continue
            if not found.unverified:
                return found
    return None


def _did(author: str | None, path: Path) -> str | None:
    """The DID of the author that was asked for; only a handle needs a look into the archive."""
    if author is None or is_did(parse_author(author)):
        return author
    with Archive(path) as archive:
        return archive.find_author(author).did


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
