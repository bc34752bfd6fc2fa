"""The manifest of an export: its contents, its source, and its checksums.

Source: docs/formats.md, "manifest.json".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import orjson

from skyexport import timestamps
from skyexport.archive.archive import Archive
from skyexport.archive.authors import ChosenAuthor
from skyexport.layout import MEDIA_DIRECTORY, MEDIA_TABLE
from skyexport.notices import Notices
from skyexport.options.export_options import Resolved
from skyexport.output.media import MediaCounts
from skyexport.output.writer import WrittenFile
from skyexport.wording import path_text

__all__ = ["manifest_bytes", "source_of"]

_FORMAT_VERSION = "dev"
"""The version that the established exporter writes; programs that read its manifests find it here, too."""


def manifest_bytes(
    resolved: Resolved,
    author: ChosenAuthor | None,
    archive: Archive,
    archive_posts: int,
    posts: int,
    notices: Notices,
    data: list[WrittenFile],
    media: MediaCounts | None,
    now: datetime,
    exporter: str,
    pages: tuple[int, int] | None,
    narrowed: Mapping[str, object],
) -> bytes:
    """The manifest as JSON.

    Args:
        resolved: The options of the export.
        author: The author of the posts; None for all authors.
        archive: The archive that the posts came from.
        archive_posts: Posts in the archive.
        posts: Posts in the export.
        notices: Notices of the whole export.
        data: The data files, and the table of media if there is one.
        media: Counts of media; None if media were not asked for.
        now: When the export was made, with a time zone.
        exporter: Name and version of this program.
        pages: Number and bytes of the files of pages, of an export for people; None for data files.
        narrowed: Key → value: conditions on posts other than author and dates.
    """
    options = resolved.options
    did = None if author is None else author.did
    media_files = 0 if media is None else media.files
    content: dict[str, object] = {
        "export_format": resolved.format,
        "export_timestamp": now.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "post_count": posts,
        "media_count": media_files,
    }
    if options.since is not None or options.until is not None:
        content["date_range"] = {
            "start_date": _rfc3339(resolved.since),
            "end_date": _rfc3339(resolved.until),
        }
    media_entry = [f"{MEDIA_DIRECTORY}/ ({media_files} files)"] if media_files else []
    content |= {
        "version": _FORMAT_VERSION,
        "files": [*media_entry, *(file.name for file in data if file.name != MEDIA_TABLE)],
        "exporter": exporter,
        "author": did,
        "author_handle": None if author is None else author.handle,
        "batch_size": options.batch_size,
        "checksums": [asdict(file) for file in data],
    }
    if pages is not None:
        content["pages"] = {"files": pages[0], "bytes": pages[1]}
    if media is not None:
        content |= {
            "media_table": {"name": MEDIA_TABLE, "rows": media.rows},
            "media_linked": media.linked,
            "posts_without_known_media": media.posts_without,
        }
    content |= {
        "warnings": notices.warnings,
        "warning_places": notices.places,
        "options": resolved.of_the_output(did),
        "source": {
            **source_of(archive.path, archive.state),
            "schema_version": archive.schema.version,
            **({"counts_unknown": True} if archive.source.imported else {}),
            "posts": archive_posts,
        },
        **narrowed,
    }
    return orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def source_of(path: Path, state: Mapping[str, object]) -> dict[str, object]:
    """The value of `source`: the archive at *path* (absolute), and *state*, which comes from `file_state`."""
    return {"path": path_text(path), **state}


def _rfc3339(instant: int | None) -> str | None:
    stamp = None if instant is None else timestamps.from_instant(instant)
    return None if stamp is None else stamp.rfc3339()
