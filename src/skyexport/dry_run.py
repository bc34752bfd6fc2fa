"""Dry runs: find out what an export would do, and write nothing but temporary files."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from skyexport.archive import Archive
from skyexport.authors import check_author
from skyexport.compression import compressor_of
from skyexport.coordinator import SQLITE_STEPS, available_posts, check_room, check_strict, chosen_workers
from skyexport.destination import check_destination, check_place
from skyexport.disk import free_bytes, takes_bytes_as_they_are
from skyexport.earlier_posts import Disappeared, EarlierPosts, with_last_chain
from skyexport.estimate import Sample
from skyexport.formats import FORMATS
from skyexport.media import Media
from skyexport.memory import UNKNOWN_MEMORY, MemoryGuard, ProcessTree
from skyexport.options import ExportOptions, format_size, resolve
from skyexport.progress import Counters, Monitor, Progress
from skyexport.register import Registry
from skyexport.retention import old_chains
from skyexport.row_ids import RowIdFile
from skyexport.selection import Narrowing, Selection
from skyexport.summary import none_in_dates, reused_handle

__all__ = ["DryRun", "dry_run"]


@dataclass(frozen=True, slots=True)
class DryRun:
    """The result of a dry run: the figures of the export that it would be."""

    format: str
    posts: int
    """Posts to export."""
    archive_posts: int
    """Posts in the archive."""
    first_post: str | None
    """Creation time of the oldest post to export, RFC 3339; None if no time near that end is readable."""
    last_post: str | None
    """Creation time of the newest post to export, RFC 3339; None if no time near that end is readable."""
    expected_bytes: int
    """Size of the data file, estimated from a sample of its posts."""
    media_files: int
    """Media files to copy, without missing ones."""
    media_bytes: int
    """Size of these media files."""
    batches: int
    """Number of batches; approximate if posts are copied first."""
    workers: int
    memory_limit_bytes: int
    memory_known: bool
    """Whether the system reports memory; if not, the limit is not enforced."""
    place: Path | None
    """The directory of the export's author, or the file of `--to`; None for standard output."""
    free_bytes: int | None
    """Free bytes on the disk of *place*; None if unknown."""
    fits: bool | None
    """Whether data and media are expected to fit there; None if unknown."""
    copies_posts: bool
    """Whether the posts would be copied to a temporary file first."""
    author: str | None
    """DID of the author whose posts would be exported; None for all authors."""
    author_handle: str | None
    """The requested handle; None if a DID or no author was requested."""
    reused_handle: list[str]
    """DIDs of other authors who had this handle before."""
    available: tuple[str | None, str | None] | None
    """See `ExportSummary.available`."""
    disappeared: int | None
    """Posts of the earlier exports that are no longer in the archive; None without earlier exports."""
    removed: list[Path]
    """Old exports that `keep` would remove afterwards, if they contain no other files."""
    warnings: dict[str, int]
    """Kind → count, of warnings about the archive itself, as in an export."""
    warning_places: dict[str, list[str]]
    """Kind → one sentence for each of these warnings."""

    def to_dict(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        place = None if self.place is None else os.fsencode(self.place).decode(errors="replace")
        first, last = self.available or (None, None)
        removed = [os.fsencode(path).decode(errors="replace") for path in self.removed]
        values = {**asdict(self), "available_first_post": first, "available_last_post": last, "removed": removed}
        del values["available"]
        return {"status": "ok", "dry_run": True, **values, "place": place}

    def lines(self) -> list[str]:
        """The figures for people, one per line."""
        free = "unknown" if self.free_bytes is None else format_size(self.free_bytes)
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
        if self.author is not None:
            rows.insert(0, ("author", self.author + (f", {self.author_handle}" if self.author_handle else "")))
        if self.copies_posts:
            rows.append(("copy", "posts are copied to a temporary file first"))
        rows += [("would remove", str(path)) for path in self.removed]
        notes = none_in_dates(self.available)
        if self.reused_handle:
            notes.append(f"warning: {reused_handle(len(self.reused_handle))}: {', '.join(self.reused_handle[:3])}")
        notes += [f"warning: {place}" for places in self.warning_places.values() for place in places]
        if not self.memory_known:
            notes.append(f"note: {UNKNOWN_MEMORY}")
        return [*(f"{name + ':':18}{value}" for name, value in rows), *notes, "nothing was written"]


def dry_run(
    options: ExportOptions,
    on_progress: Callable[[Progress], None] | None = None,
    *,
    say: Callable[[str], None] = lambda _: None,
) -> DryRun:
    """Find out what `export` would do, without making or changing anything.

    Earlier exports, lists and an archive that must be recovered need temporary files; these are removed at the end.

    Args:
        options: The options of the export.
        on_progress: As in `export`.
        say: As in `export`.

    Raises:
        ExportError: `export` would fail with this error before it writes the first post.
    """
    counters = Counters()
    tree = ProcessTree()
    guard = MemoryGuard(options.memory_limit_bytes, tree.sample)
    resolved = resolve(options)
    format = FORMATS[resolved.format].configured(resolved.settings)
    compress = compressor_of(resolved.compression)
    check_place(resolved)
    with (
        contextlib.ExitStack() as last,
        Archive(resolved.archive, memory=guard, match=options.match) as archive,
        Monitor(counters, guard, on_progress) as monitor,
    ):
        archive.watch(monitor.check, SQLITE_STEPS)
        author = None if options.author is None else archive.find_author(options.author)
        selection = Selection(None if author is None else author.did, resolved.since, resolved.until)
        workers = chosen_workers(resolved, archive, selection, guard)
        narrowings: list[Narrowing] = [] if options.match is None else [archive.matching(options.match)]
        notices = archive.notices()
        check_strict(options, notices)
        if options.register and author is not None:
            Registry(archive, resolved, author.did)
        place, directory = check_destination(resolved, selection.did)
        old = [] if options.keep is None else old_chains(resolved, selection.did, archive.path, None)
        earlier = None
        resolved = with_last_chain(resolved, selection.did, archive.path, say)
        if resolved.since_export:
            counters.stage = "reading earlier exports"
            earlier = EarlierPosts(resolved.since_export, counters, monitor.check)
            last.callback(earlier.close)
            narrowings.append(earlier)
            counters.stage = "preparing"
        narrowed = replace(selection, narrowings=narrowings, limit=options.limit)
        # A program that keeps writing may go on: an export would copy the posts in that case.
        archive.pin()
        if author is not None:
            with archive.reading():
                check_author(archive.connection, "main", author, str(archive.path))
        archive_posts = archive.count_posts()
        disappeared: Disappeared | None = None
        if earlier is not None:
            with archive.reading():
                disappeared = earlier.disappeared(
                    archive.connection, "main", uri_index=archive.uri_index, allow_unrelated=options.allow_unrelated
                )
        plan = archive.plan(narrowed, options.batch_size, archive_posts)
        if narrowed.by_list:
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
        available = None if posts else available_posts(archive, selection, options)
        media_files = media_bytes = 0
        if options.media:
            with Media(resolved, archive.path.parent) as media:
                media.list_files(archive, narrowed)
                for size in media.sizes():
                    media_files += 1
                    media_bytes += size
        archive.unpin()
        expected = sample.expected_bytes(sampled) if posts else sum(map(len, format.new_file(compress).finish()))
        free = None if directory is None else free_bytes(directory)
        if directory is not None and free is not None and takes_bytes_as_they_are(directory):
            check_room(resolved, sample.least_bytes(sampled) + media_bytes, free)
        return DryRun(
            format=resolved.format, posts=posts, archive_posts=archive_posts, first_post=first_post,
            last_post=last_post, expected_bytes=expected, media_files=media_files, media_bytes=media_bytes,
            batches=batches, workers=workers,
            memory_limit_bytes=options.memory_limit_bytes, memory_known=tree.metric is not None, place=place,
            free_bytes=free, fits=None if free is None else expected + media_bytes <= free,
            copies_posts=options.snapshot == "copy" and not archive.source.private,
            author=selection.did, author_handle=None if author is None else author.handle,
            reused_handle=[] if author is None else list(author.others), available=available,
            disappeared=None if disappeared is None else disappeared.posts,
            removed=[directory for chain in old for directory in chain.directories],
            warnings=notices.warnings, warning_places=notices.places,
        )  # fmt: skip
