"""Dry runs: find out what an export would do, and write nothing but temporary files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from skyexport.archive.export_order import plan_of
from skyexport.archive.row_ids import RowIdFile
from skyexport.formats import form_with
from skyexport.formats.compression import compressor_of
from skyexport.options.checks import PAGES
from skyexport.options.export_options import ExportOptions
from skyexport.output.destination import check_destination
from skyexport.output.media import Media
from skyexport.output.retention import old_chains
from skyexport.pipeline.estimate import Sample
from skyexport.pipeline.preparation import available_posts, check_state, check_strict, prepared, with_earlier_posts
from skyexport.pipeline.room import check_room
from skyexport.pipeline.summary import none_in_dates, reused_handle
from skyexport.runtime.disk import free_bytes, takes_bytes_as_they_are
from skyexport.runtime.memory import UNKNOWN_MEMORY
from skyexport.runtime.progress import Progress
from skyexport.wording import format_size, path_text

__all__ = ["DryRun", "dry_run"]


@dataclass(frozen=True, slots=True)
class DryRun:
    """The result of a dry run: what an export would do.

    Attributes:
        format: The format of the data file.
        posts: Posts that would be exported.
        archive_posts: Posts that the archive holds.
        first_post: When the oldest of the posts was created, RFC 3339; None if no time near that end is readable.
        last_post: When the newest was created, likewise.
        expected_bytes: Size of the data files, estimated from a sample of the posts.
        media_files: Media files that would be copied, as far as they are there.
        media_bytes: Bytes of those that are there.
        batches: Batches of posts; an estimate if posts are copied first.
        workers: Worker processes; 0 if one process would do all the work.
        memory_limit_bytes: The memory limit.
        memory_known: Whether the system tells how much memory is used: without, the limit is not enforced.
        place: Where the export would go: the directory of its author, or its file; None for standard output.
        free_bytes: Free bytes on the disk there; None if that is not known.
        fits: Whether data and media are expected to fit; None if that is not known.
        copies_posts: Whether the posts would be copied to a temporary file first.
        author: DID of the author whose posts would be exported; None for all authors.
        author_handle: The handle that was asked for; None if none was.
        reused_handle: DIDs of other authors who had this handle before.
        available: If the dates select no post, when the oldest and the newest post were created; otherwise None.
        disappeared: Posts of the earlier exports that the archive no longer has; None without earlier exports.
        removed: Old exports that *keep* would remove afterwards, if they have no other files.
        warnings: Kind → count of warnings about the archive itself.
        warning_places: Kind → a sentence for each of them.
    """

    format: str
    posts: int
    archive_posts: int
    first_post: str | None
    last_post: str | None
    expected_bytes: int
    media_files: int
    media_bytes: int
    batches: int
    workers: int
    memory_limit_bytes: int
    memory_known: bool
    place: Path | None
    free_bytes: int | None
    fits: bool | None
    copies_posts: bool
    author: str | None
    author_handle: str | None
    reused_handle: list[str]
    available: tuple[str | None, str | None] | None
    disappeared: int | None
    removed: list[Path]
    warnings: dict[str, int]
    warning_places: dict[str, list[str]]

    def __repr__(self) -> str:
        return f"<DryRun: {self.posts:,} posts to {self.format.upper()}, about {format_size(self.expected_bytes)}>"

    def to_dict(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        place = None if self.place is None else path_text(self.place)
        first, last = self.available or (None, None)
        removed = [path_text(path) for path in self.removed]
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
            ("pages" if self.format == PAGES else f"{self.format} file", f"about {format_size(self.expected_bytes)}"),
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

        found = dry_run(ExportOptions(archive="archive.db", format="csv"))
        print(found.posts, found.expected_bytes, found.fits)

    Nothing is made or changed; what needs a temporary file (earlier exports, lists, an archive that must be recovered)
    has one that is gone when this ends.

    Args:
        options: The options of the export.
        on_progress: As in `export`.
        say: As in `export`.

    Raises:
        ExportError: `export` would fail with this error before it writes the first post.
    """
    with prepared(options, on_progress) as job:
        archive, author, selection = job.archive, job.author, job.selection
        notices = archive.notices()
        check_strict(options, notices)
        place, directory = check_destination(job.resolved, selection.did)
        old = [] if options.keep is None else old_chains(job.resolved, selection.did, archive.path, None)
        job = with_earlier_posts(job, say)
        resolved, narrowed = job.resolved, job.narrowed
        form = form_with(resolved.format, resolved.settings)
        compress = compressor_of(resolved.compression)
        # A program that keeps writing may go on: an export would copy the posts in that case.
        archive.pin()
        disappeared = check_state(job, archive.connection, "main")
        archive_posts = archive.count_posts()
        plan = plan_of(archive, narrowed, options.batch_size, archive_posts)
        if narrowed.by_list:
            with RowIdFile.of(plan) as chosen:
                posts = chosen.posts
                batches = -(-posts // options.batch_size)
                sample = Sample.of(archive, form, selection, chosen=chosen, compress=compress)
                first_post, last_post = archive.first_readable_time(chosen.ends())
            sampled = posts
        else:
            batches = sum(1 for _ in plan.batches)
            posts = archive_posts if selection.everything else archive.count_selected(selection)
            sample = Sample.of(archive, form, selection, compress=compress)
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
        expected = sample.expected_bytes(sampled) if posts else sample.around
        free = None if directory is None else free_bytes(directory)
        if directory is not None and free is not None and takes_bytes_as_they_are(directory):
            check_room(resolved, sample.least_bytes(sampled) + media_bytes, free)
        return DryRun(
            format=resolved.format, posts=posts, archive_posts=archive_posts, first_post=first_post,
            last_post=last_post, expected_bytes=expected, media_files=media_files, media_bytes=media_bytes,
            batches=batches, workers=job.workers,
            memory_limit_bytes=options.memory_limit_bytes, memory_known=job.tree.metric is not None, place=place,
            free_bytes=free, fits=None if free is None else expected + media_bytes <= free,
            copies_posts=options.snapshot == "copy" and not archive.source.private,
            author=selection.did, author_handle=None if author is None else author.handle,
            reused_handle=[] if author is None else list(author.others), available=available,
            disappeared=None if disappeared is None else disappeared.posts,
            removed=[directory for chain in old for directory in chain.directories],
            warnings=notices.warnings, warning_places=notices.places,
        )  # fmt: skip
