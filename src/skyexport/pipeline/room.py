"""Room on the disk: an export that surely does not fit fails before it writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from skyexport.archive.archive import Archive
from skyexport.archive.row_ids import RowIdFile
from skyexport.errors import ArchiveBusyError, ArchiveChangedError, OutputError
from skyexport.formats import form_with
from skyexport.formats.compression import compressor_of
from skyexport.options.export_options import Resolved
from skyexport.output.media import Media
from skyexport.pipeline.estimate import Sample
from skyexport.posts import LargePost
from skyexport.runtime.disk import free_bytes, takes_bytes_as_they_are
from skyexport.selection import Selection
from skyexport.wording import format_size

__all__ = ["check_room", "check_room_beside_media", "sample_if_tight"]

_ROOM_ENOUGH = 4
"""With so many times the size of the archive free, nothing is estimated: hardly any export is as large."""


def sample_if_tight(
    resolved: Resolved,
    archive: Archive,
    selection: Selection,
    directory: Path | None,
    before_large_post: Callable[[LargePost], None],
    chosen: RowIdFile | None = None,
) -> Sample | None:
    """Some posts, to estimate the size of the export; None if there is room enough, or the room is unknown.

    Args:
        resolved: The options of the export.
        archive: The archive, or a copy of its posts.
        selection: The posts by author and date.
        directory: The directory of the data files; None for a stream.
        before_large_post: Called before a large post is read; what it raises ends this.
        chosen: The posts to export; None for those of *selection*.
    """
    free = None if directory is None else free_bytes(directory)
    if free is None or free > _ROOM_ENOUGH * archive.status.st_size:
        return None
    try:
        return Sample.of(
            archive, form_with(resolved.format, resolved.settings), selection, before_large_post,
            compress=compressor_of(resolved.compression), chosen=chosen,
        )  # fmt: skip
    except (ArchiveBusyError, ArchiveChangedError):
        # Nothing is pinned yet, and another program is writing.
        return None


def check_room_beside_media(resolved: Resolved, directory: Path | None, least_bytes: int, media: Media | None) -> None:
    """Fail if an export with *least_bytes* of data or more, and *media*, cannot fit on the disk of *directory*.

    Raises:
        OutputError: It cannot fit.
    """
    free = None if directory is None else free_bytes(directory)
    if directory is None or free is None or not takes_bytes_as_they_are(directory):
        return
    if media is not None:
        least_bytes += media.least_bytes(free - least_bytes)
    check_room(resolved, least_bytes, free)


def check_room(resolved: Resolved, least_bytes: int, free: int) -> None:
    """Fail if an export of *least_bytes* or more cannot fit on its disk, which has *free* bytes free.

    Raises:
        OutputError: It cannot fit.
    """
    if free < least_bytes:
        raise OutputError(
            f"the export needs {format_size(least_bytes)} or more,"
            f" and the disk of {resolved.to or resolved.output_dir} has {format_size(free)} free",
            "free some space, or choose another place with -o",
        )
