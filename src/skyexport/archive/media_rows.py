"""The media that an archive knows: which files its posts have or show."""

from __future__ import annotations

import os
from collections.abc import Iterator

from skyexport import json_text
from skyexport.archive.archive import Archive
from skyexport.archive.copying import MEDIA_COLUMNS
from skyexport.archive.schema import not_an_archive
from skyexport.archive.shown_media import (
    ONLY_SHOWN_COLUMN,
    ONLY_SHOWN_SQL,
    files_sql,
    parameters,
    posts_with_media_sql,
    register,
    unknown_sql,
)
from skyexport.archive.source import (
    as_number,
)
from skyexport.errors import ArchiveError
from skyexport.posts import as_bytes
from skyexport.runtime.media_root import MediaFile, ShownFile
from skyexport.selection import Selection

__all__ = ["count_media", "count_posts_without_known_media", "media_of"]

_MAX_MEDIA_PATH_BYTES = 5000
"""More than any system allows."""

_DETAILS_SQL = {
    "mime_type": "substr(cast(mime_type as blob), 1, 255)",
    "width": "iif(typeof(width) = 'integer', width, null)",
    "height": "iif(typeof(height) = 'integer', height, null)",
    "alt_text": "iif(octet_length(alt_text) <= 1000000, cast(alt_text as blob), null)",
}
"""Column of `MEDIA_DETAILS` → SQL for its value; NULL if bskyarchive would not store such a value."""


def count_media(archive: Archive) -> int:
    """The number of media rows; 0 if the archive has no media table."""
    if "media" not in archive.schema.tables:
        return 0
    with archive.translating_errors():
        return as_number(archive.connection.execute("select count(*) from media").get)


def media_of(archive: Archive, selection: Selection) -> Iterator[ShownFile]:
    """Yield each media file once for each selected post that has or shows it, ordered by hash, then by uri.

    The archive records one post for each file. Other posts that show it are found by its name (`shown_media`).

    Raises:
        ArchiveError: The media table lacks hashes, posts, paths or sizes.
    """
    if "media" not in archive.schema.tables:
        return
    with archive.translating_errors():
        _prepare(archive, selection)
        present = archive.schema.media_columns
        details = {name: "null" if present.get(name, True) else sql for name, sql in _DETAILS_SQL.items()}
        # Text sorts as file names do; a value of another type is not a hash.
        values = (
            "iif(typeof(hash) = 'text', cast(hash as blob), null)",
            f"substr(cast(file_path as blob), 1, {_MAX_MEDIA_PATH_BYTES})",
            "size_bytes",
            *details.values(),
        )
        uri_indexed = archive.schema.uri_index is not None
        sql = files_sql(selection, values, _only_shown_sql(archive), uri_indexed=uri_indexed)
        last: tuple[object, object] | None = None
        file: MediaFile | None = None
        for stored_hash, stored_path, size, *cells, uri in archive.connection.execute(sql, parameters(selection)):
            # A table without its usual key may have a row twice; the first one counts.
            if (stored_hash, uri) == last:
                continue
            if file is None or last is None or last[0] != stored_hash:
                file = MediaFile(json_text.decode(as_bytes(stored_hash)), os.fsdecode(as_bytes(stored_path)))
            last = stored_hash, uri
            yield ShownFile(file, size if isinstance(size, int) else 0, as_bytes(uri), *map(as_bytes, cells))


def count_posts_without_known_media(archive: Archive, selection: Selection) -> int:
    """The number of selected posts with media for which `media_of` finds no file.

    Raises:
        ArchiveError: As for `media_of`.
    """
    with archive.translating_errors():
        if "media" not in archive.schema.tables:
            selection.register(archive.connection)
            sql = f"select count(*) from ({posts_with_media_sql(selection)})"
        else:
            _prepare(archive, selection)
            sql = unknown_sql(selection, _only_shown_sql(archive))
        return as_number(archive.connection.execute(sql, parameters(selection)).get)


def _prepare(archive: Archive, selection: Selection) -> None:
    if not archive.schema.has_media_columns:
        raise ArchiveError(
            f"{archive.display_path} has a table media without {', '.join(MEDIA_COLUMNS)}", "leave out --media"
        )
    if "json_each" in archive.schema.tables:
        raise not_an_archive(archive.display_path, "it has a table json_each", "leave out --media")
    selection.register(archive.connection)
    register(archive.connection)


def _only_shown_sql(archive: Archive) -> str:
    """The argument *only_shown* for the SQL of `shown_media`."""
    if archive.source.private and ONLY_SHOWN_COLUMN in archive.schema.media_columns:
        return ONLY_SHOWN_COLUMN
    return "null" if archive.schema.uri_index is None else ONLY_SHOWN_SQL.format(schema="")
