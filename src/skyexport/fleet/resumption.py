"""Search for an earlier export that makes a new one unnecessary: same state, same options, verified."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import apsw

from skyexport.archive.archive import Archive
from skyexport.errors import ExportError, NoExportError, VerifyError
from skyexport.layout import author_directory
from skyexport.options.export_options import ExportOptions, resolve
from skyexport.options.values import is_did, parse_author
from skyexport.output.manifest import source_of
from skyexport.runtime.location import archive_location
from skyexport.runtime.progress import Progress
from skyexport.runtime.sqlite_files import file_state
from skyexport.verification.chains import chains, exports_in
from skyexport.verification.result import Verification
from skyexport.verification.verifier import verify

__all__ = ["export_to_skip"]

_IDENTITY = ("path", "bytes", "modified", "changes", "log", "journal")
"""Keys of the source in a manifest that must be equal."""


def export_to_skip(
    options: ExportOptions, on_progress: Callable[[Progress], None] | None = None
) -> Verification | None:
    """Find and verify the newest export that a new export with *options* would only repeat.

    With *since_last*, this is the newest export of the newest chain, and the whole chain is verified.

    Args:
        options: The options of the new export.
        on_progress: As in `verify`.

    Returns:
        The verification of the export; None if there is no such export.
    """
    resolved = resolve(options)
    if not resolved.output_dir.exists():
        return None
    try:
        location = archive_location(resolved.archive)
        source = source_of(location, file_state(location))
        did = _did(options.author, location)
    except (ExportError, OSError, apsw.Error):
        # The export that follows reports the error.
        return None
    same = resolved.of_the_output(did)
    exports = exports_in(author_directory(resolved.output_dir, did))
    if options.since_last:
        candidates = [chain.exports for chain in chains(exports, source["path"], same)[:1]]
    else:
        candidates = [[export] for export in exports if export.options == same and not export.earlier]
    for chain in candidates:
        if all(chain[-1].source.get(key) == source.get(key) for key in _IDENTITY):
            try:
                *_, newest = [verify(export.directory, on_progress, extra_files_allowed=True) for export in chain]
            except (VerifyError, NoExportError):
                continue
            if not newest.unverified:
                return newest
    return None


def _did(author: str | None, path: Path) -> str | None:
    """The DID of an author; only a handle is looked up in the archive."""
    if author is None or is_did(parse_author(author)):
        return author
    with Archive(path) as archive:
        return archive.find_author(author).did
