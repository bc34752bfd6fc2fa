"""What an export would do, found out as an export would, with nothing written that has a name."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from skyexport.archive import Archive
from skyexport.compression import compressor_of
from skyexport.coordinator import SQLITE_STEPS, check_room, chosen_workers
from skyexport.destination import check_destination
from skyexport.disk import free_bytes, takes_bytes_as_they_are
from skyexport.earlier_posts import Disappeared, EarlierPosts, check_place
from skyexport.estimate import Sample
from skyexport.formats import FORMATS
from skyexport.media import Media
from skyexport.memory import UNKNOWN_MEMORY, MemoryGuard, ProcessTree
from skyexport.options import ExportOptions, format_size
from skyexport.progress import Counters, Monitor, Progress
from skyexport.register import Registry
from skyexport.row_ids import RowIdFile
from skyexport.selection import Narrowing, Selection

__all__ = ["DryRun", "dry_run"]


@dataclass(frozen=True, slots=True)
class DryRun:
    """An export that was not made."""

    format: str
    posts: int
    """That would be exported."""
    archive_posts: int
    """That the archive holds."""
    first_post: str | None
    """When the oldest of them was created, RFC 3339; None when no time near that end is readable."""
    last_post: str | None
    expected_bytes: int
    """Of the data file, estimated from a sample of its posts."""
    media_files: int
    """That would be copied, as far as they are there."""
    media_bytes: int
    """Of those that are there."""
    batches: int
    """About so many, where posts are copied first."""
    workers: int
    memory_limit_bytes: int
    memory_known: bool
    """Whether the system reports how much memory is used: else the limit would not be enforced."""
    place: Path | None
    """Where the export would go: its author's directory, or its file; None for standard output."""
    free_bytes: int | None
    """On the disk there; None when that is not known."""
    fits: bool | None
    """Whether data and media are expected to fit; None when that is not known."""
    copies_posts: bool
    """Whether the posts would be copied to a temporary file first."""
    disappeared: int | None
    """Posts of the earlier exports that the archive does not have any more; None without earlier exports."""

    def to_dict(self) -> dict[str, Any]:
        """As the object that `--json` prints."""
        place = None if self.place is None else os.fsencode(self.place).decode(errors="replace")
        return {"status": "ok", "dry_run": True, **asdict(self), "place": place}

    def lines(self) -> list[str]:
        """For people, a figure a line."""
        free = "not known" if self.free_bytes is None else format_size(self.free_bytes)
        fits = {None: "", True: ": it fits", False: ": it would not fit"}[self.fits]
        rows = [
            ("posts", f"{self.posts:,} of {self.archive_posts:,}"),
            ("first", self.first_post or "-"),
            ("last", self.last_post or "-"),
            (f"{self.format} file", f"about {format_size(self.expected_bytes)}"),
            ("media", f"{self.media_files:,} files, {format_size(self.media_bytes)}"),
            ("batches", f"{self.batches:,}"),
            ("workers", f"{self.workers}" if self.workers else "none: in this process"),
            ("memory limit", format_size(self.memory_limit_bytes) + ("" if self.memory_known else ", not enforced")),
            ("place", "standard output" if self.place is None else str(self.place)),
            ("free there", f"{free}{fits}"),
        ]
        if self.disappeared is not None:
            rows.insert(1, ("disappeared", f"{self.disappeared:,} of the earlier exports"))
        if self.copies_posts:
            rows.append(("copy", "posts are copied to a temporary file first"))
        notes = [] if self.memory_known else [f"note: {UNKNOWN_MEMORY}"]
        return [*(f"{name + ':':18}{value}" for name, value in rows), *notes, "nothing was written"]


def dry_run(options: ExportOptions, on_progress: Callable[[Progress], None] | None = None) -> DryRun:
    """Find out what `export` would do.

    Nothing is made or changed; what needs a temporary file (earlier exports, lists, an archive that must be recovered)
    has one that is gone when this ends.

    Args:
        options: What to export, and where to.
        on_progress: As `export` takes it.

    Raises:
        ExportError: What `export` would raise before it wrote the first post.
    """
    counters = Counters()
    tree = ProcessTree()
    guard = MemoryGuard(options.memory_limit_bytes, tree.sample)
    format = FORMATS[options.format].configured(options.settings)
    compress = compressor_of(options.compression)
    guard.check_workable(options.workers or 0, format.loaded_bytes)
    check_place(options)
    selection = Selection(options.did, options.since_nanoseconds, options.until_nanoseconds)
    with (
        contextlib.ExitStack() as last,
        Archive(options.archive, memory=guard, match=options.match) as archive,
        Monitor(counters, guard, on_progress) as monitor,
    ):
        archive.watch(monitor.check, SQLITE_STEPS)
        narrowings: list[Narrowing] = [] if options.match is None else [archive.matching(options.match)]
        if options.register:
            Registry(archive, options)
        place, directory = check_destination(options)
        earlier = None
        if options.since_export:
            counters.stage = "reading earlier exports"
            earlier = EarlierPosts(options.since_export, monitor.check)
            last.callback(earlier.close)
            narrowings.append(earlier)
            counters.stage = "preparing"
        narrowed = replace(selection, narrowings=narrowings)
        # A program that writes all the time is let do so: an export would copy the posts then.
        archive.pin()
        archive_posts = archive.count_posts()
        disappeared: Disappeared | None = None
        if earlier is not None:
            with archive.reading():
                disappeared = earlier.disappeared(archive.connection, "main", uri_index=archive.uri_index)
        plan = archive.plan(narrowed, options.batch_size, archive_posts)
        if narrowings:
            with RowIdFile.of(plan) as chosen:
                posts = chosen.posts
                batches = -(-posts // options.batch_size)
                sample = Sample.of(archive, format, selection, chosen=chosen, compress=compress)
                first_post, last_post = archive.first_readable_time(chosen.ends())
            sampled = posts
        else:
            batches = sum(1 for _ in plan.batches)
            posts = archive_posts if selection.everything else archive.count_selected(selection)
            sample = Sample.of(archive, format, selection, compress=compress)
            first_post, last_post = archive.first_and_last(selection)
            sampled = archive_posts
        media_files = media_bytes = 0
        if options.media:
            with Media(options, archive.path.parent) as media:
                media.list_files(archive, narrowed)
                for size in media.sizes():
                    media_files += 1
                    media_bytes += size
        archive.unpin()
        expected = sample.expected_bytes(sampled) if posts else sum(map(len, format.new_file(compress).finish()))
        free = None if directory is None else free_bytes(directory)
        if directory is not None and free is not None and takes_bytes_as_they_are(directory):
            check_room(options, sample.least_bytes(sampled) + media_bytes, free)
        return DryRun(
            format=options.format, posts=posts, archive_posts=archive_posts, first_post=first_post,
            last_post=last_post, expected_bytes=expected, media_files=media_files, media_bytes=media_bytes,
            batches=batches, workers=chosen_workers(options, archive, selection, guard),
            memory_limit_bytes=options.memory_limit_bytes, memory_known=tree.metric is not None, place=place,
            free_bytes=free, fits=None if free is None else expected + media_bytes <= free,
            copies_posts=options.snapshot == "copy" and not archive.source.private,
            disappeared=None if disappeared is None else disappeared.posts,
        )  # fmt: skip
