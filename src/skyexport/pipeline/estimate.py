"""Estimates of the size of an export, from a sample of its posts."""

from __future__ import annotations

import contextlib
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import apsw

from skyexport.archive.archive import Archive
from skyexport.archive.export_order import sample_row_ids
from skyexport.archive.plan import row_id_batches
from skyexport.archive.row_ids import RowIdFile
from skyexport.archive.source import as_number
from skyexport.formats import FORMATS
from skyexport.formats.format import Compress, Form, Format
from skyexport.options.export_options import DEFAULT_BATCH_SIZE
from skyexport.posts import LargePost
from skyexport.rendering.renderer import BatchRenderer
from skyexport.selection import Selection

__all__ = ["Sample", "empty_bytes"]

_SAMPLE_POSTS = 4000
"""Posts in a sample: rendering takes about 40 ms per format, and the estimate is off by a few percent."""

_STRETCHES = 16
"""The sample comes from this many parts of the archive, since habits change over the years."""

_COMPRESSED_SHARE = 0.5
"""A whole export compresses better than a sample, but hardly to this share of it."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The size of sampled posts in an export."""

    expected: float
    """Bytes of the export per post of the archive, selected or not."""
    least: float
    """The same for the part of the archive where it is smallest; the average of an export is hardly ever smaller."""
    around: int
    """Bytes of an export without posts."""

    @classmethod
    def of(
        cls,
        archive: Archive,
        form: Form,
        selection: Selection,
        before_large_post: Callable[[LargePost], None] = lambda _: None,
        *,
        compress: Compress | None = None,
        chosen: RowIdFile | None = None,
    ) -> Sample:
        """Render a sample of posts from every part of the archive, or of a list.

        Args:
            archive: The open archive.
            form: The format with its settings, or the form of pages.
            selection: The posts to export.
            before_large_post: As in `BatchRenderer`.
            compress: As in `BatchRenderer`; None for no compression.
            chosen: Sample only posts of this list, through the archive's own connection; sizes are then per post of
                the list. None for the whole archive.

        Raises:
            ArchiveError, ArchiveBusyError: The archive cannot be read.
        """
        with archive.translating_errors(), contextlib.ExitStack() as closing:
            if chosen is None:
                connection = closing.enter_context(archive.second_connection())
                stretches: Sequence[Sequence[int]] = sample_row_ids(archive, _STRETCHES, _SAMPLE_POSTS)
            else:
                connection = archive.connection
                stretches = chosen.stretches(_STRETCHES, _SAMPLE_POSTS)
            format = FORMATS.get(form.name)
            if format is None:
                return cls._of_pages(archive, connection, selection, stretches)
            format = format.configured(form.settings)
            renderer = BatchRenderer(
                connection, archive.columns, archive.created_at_index, format, selection,
                compress=compress, before_large_post=before_large_post,
            )  # fmt: skip
            return cls._of_data(renderer, format, stretches, compress)

    @classmethod
    def _of_data(
        cls, renderer: BatchRenderer, format: Format, stretches: Iterable[Sequence[int]], compress: Compress | None
    ) -> Sample:
        sampled = rendered = 0
        least = float("inf")
        around = empty_bytes(format, compress)
        file = format.new_file(compress)
        for stretch in stretches:
            size = 0
            for batch in row_id_batches(stretch, DEFAULT_BATCH_SIZE):
                for chunk in renderer.render(batch):
                    size += sum(map(len, file.add(chunk.data, chunk.posts)))
            least = min(least, size / len(stretch))
            sampled += len(stretch)
            rendered += size
        rendered += sum(map(len, file.finish()))
        if not sampled:
            return cls(0.0, 0.0, around)
        expected = max(0, rendered - around) / sampled
        if not format.is_text:
            least = expected
        if compress is not None or not format.is_text:
            least *= _COMPRESSED_SHARE
        return cls(expected, least, around)

    @classmethod
    def _of_pages(
        cls, archive: Archive, connection: apsw.Connection, selection: Selection, stretches: Iterable[Sequence[int]]
    ) -> Sample:
        # Only exports as pages need templates.
        from skyexport.pages.sampling import bytes_around, page_bytes

        selection.register(connection)
        sampled = size = 0
        sql = (
            "select batch.value from temp.carray(:row_ids) as batch cross join posts on posts.rowid = batch.value"
            f" where {replace(selection, limit=None, filters=()).where_sql()}"
        )
        for stretch in stretches:
            row_ids = apsw.carray(array("q", stretch))
            rows = connection.execute(sql, {**selection.parameters(), "row_ids": row_ids})
            size += page_bytes(connection, archive.columns, array("q", (as_number(row[0]) for row in rows)))
            sampled += len(stretch)
        expected = size / max(1, sampled)
        return cls(expected, expected * _COMPRESSED_SHARE, bytes_around())

    def expected_bytes(self, posts: int) -> int:
        """The expected bytes of an export of an archive with this many posts."""
        return round(self.expected * posts) + self.around

    def least_bytes(self, posts: int) -> int:
        """Bytes that an export of an archive with this many posts hardly ever stays below."""
        return round(self.least * posts)


def empty_bytes(format: Format, compress: Compress | None) -> int:
    """Bytes of a data file without posts."""
    return sum(map(len, format.new_file(compress).finish()))
