"""The export of an archive, from beginning to end.

The flow. The archive is opened read-only and pinned to one state. Stepping along its created_at index cuts it into
batches of about 1,000 posts, numbered from zero. Each idle worker gets the next batch. It renders all posts of the
batch with one SQL statement and puts the finished bytes, a chunk, into a slot of shared memory. Chunks arrive in any
order. A sequencer hands them to the ordered writer by number, and the writer puts them into the file straight from the
slots. Then the file is synced, the manifest written, and the directory renamed into place. Without workers, the same
renderer runs in this process. The bytes are the same for any number of workers. If an index or earlier exports decide
which posts are selected, this process queries them in the state that it holds, and hands out lists of row ids instead.

The memory bound. A worker has a few slots of fixed size. It fills only free slots, and only the writer frees them. So
the slots bound all bytes that are finished and not yet written, from end to end, and bytes queue nowhere else. Besides,
a monitor samples the memory of all processes. Near the limit, fewer batches are handed out; at the limit, the export
ends.

The failure story. Every failure raises an exception in this process: a dead worker shows as the end of its stream. Any
exception, a signal included, leaves through the same `with` blocks. They kill workers, remove partial output, and
release the archive. Nothing gets its final name before everything is on disk.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import apsw

from skyexport import __version__
from skyexport.archive.archive import Archive
from skyexport.archive.plan import Plan, row_id_batches
from skyexport.archive.row_ids import RowIdFile
from skyexport.errors import NO_MEMORY, ArchiveChangedError, MemoryLimitError, OutputError, StoppedError
from skyexport.formats import FORMS, format_with
from skyexport.notices import REUSED_HANDLE, Notices
from skyexport.options.checks import PAGES
from skyexport.options.export_options import ExportOptions, Resolved
from skyexport.output.destination import DataDestination, Destination, destination_of
from skyexport.output.manifest import manifest_bytes
from skyexport.output.media import Media
from skyexport.output.writer import OrderedWriter, WrittenFile
from skyexport.pipeline.chunks import LargePosts, rendered, setup_of
from skyexport.pipeline.hold import Hold, NeverHeldError, unchanging
from skyexport.pipeline.outcome import Noted, Written
from skyexport.pipeline.preparation import (
    Job,
    available_posts,
    check_state,
    planned,
    prepared,
    with_earlier_posts,
)
from skyexport.pipeline.room import check_room_beside_media, sample_if_tight
from skyexport.pipeline.summary import ExportSummary
from skyexport.rendering import native
from skyexport.rendering.native import NotThere
from skyexport.rendering.pool import Pool
from skyexport.runtime.for_tests import reached
from skyexport.runtime.memory import UNKNOWN_MEMORY
from skyexport.runtime.progress import Progress
from skyexport.runtime.scratch import remove_left_scratches
from skyexport.selection import Selection

if TYPE_CHECKING:
    from skyexport.pipeline.parts import PartWriters
    from skyexport.verification.increments import Disappeared

__all__ = ["export"]


def export(
    options: ExportOptions,
    on_progress: Callable[[Progress], None] | None = None,
    *,
    say: Callable[[str], None] = lambda _: None,
    debug: bool = False,
    must_fit: bool = True,
    parts: PartWriters | None = None,
) -> ExportSummary:
    """Export an archive as *options* say.

        summary = export(ExportOptions(archive="archive.db", format="csv"))
        print(summary.posts, summary.path)

    Args:
        options: The posts to export, and the destination.
        on_progress: Called several times a second with a `Progress`, from another thread, one call at a time, and once
            more at the end with the stage "done". An exception from it ends the export.
        say: Called with each line for people that is not in the summary, even if the export fails.
        debug: Let workers write to this process's standard error.
        must_fit: Refuse a memory limit that may be too small before any work; else fail only when it is reached.
        parts: Write the data files of a split export, each as a part; None if this process writes them.

    Returns:
        The summary, once everything is on disk under its final name.

    Raises:
        ExportError: Nothing was exported; the class and its exit code give the reason. Any other exception, such as
            KeyboardInterrupt, leaves no output behind either. After the last step, the rename, an error says that the
            export is complete, and where.
    """
    now = datetime.now(UTC)
    path: Path | None = None
    try:
        with prepared(options, on_progress, must_fit=must_fit) as job:
            reached("prepared", options)
            if parts is not None:
                job = replace(job, workers=parts.workers)
            with _media(job) as media, _opened(job.resolved, job.selection.did, now) as destination:
                _say_before(job, media, destination, say)
                job = with_earlier_posts(job, say)
                notices = _noted(job)
                write = _way(job, parts, debug=debug)
                written = _write_held_state(job, media, destination, notices, say, write)
                available = None if job.counters.posts else available_posts(job.archive, job.selection, options)
                sums, table = _copy_media(job, media, destination, notices)
                job.counters.stage = "finishing"
                manifest = partial(_manifest, job, written, media, notices.all, now)
                files, path = destination.commit(manifest, sums, table)
                reached("complete", files)
            _read_back(job, path)
        return replace(
            _summary(job, written, media, notices.all, files, path), available=available,
            removed=_remove_old(job, path, say), registered=_register(job, media, files, path, now),
        )  # fmt: skip
    except StoppedError as error:
        # A signal may arrive after the last step too, while everything is closed.
        raise error if error.kept or path is None else StoppedError(error.signal_number, str(path)) from None
    except MemoryError as error:
        if path is not None:
            raise
        raise MemoryLimitError(NO_MEMORY, "use fewer workers or smaller batches") from error


def _write_held_state(
    job: Job,
    media: Media | None,
    destination: Destination,
    notices: Noted,
    say: Callable[[str], None],
    write: Callable[..., Written],
) -> Written:
    """Write all data files, from one state of the archive or from a copy of its posts."""
    hold = Hold(job.archive)
    if job.options.snapshot == "pin" or job.archive.source.private:
        try:
            return write(job, job.archive, job.narrowed, hold, media, destination, notices)
        except NeverHeldError as error:
            say(f"{error.message}: copying its posts first, as with --snapshot copy")
    gone: list[Disappeared | None] = []

    def check(connection: apsw.Connection, schema: str) -> None:
        gone.append(check_state(job, connection, schema))

    with job.archive.copy(job.narrowed, media=job.options.media, while_held=check) as copy:
        assert copy.copied is not None
        written = write(job, copy, job.selection, Hold(copy), media, destination, notices)
        return replace(
            written, archive_posts=copy.copied.archive_posts, disappeared=gone[-1],
            held_seconds=hold.seconds + copy.copied.held_seconds + written.held_seconds,
        )  # fmt: skip


def _write(
    job: Job,
    archive: Archive,
    narrowed: Selection,
    hold: Hold,
    media: Media | None,
    destination: DataDestination,
    notices: Noted,
    *,
    debug: bool,
) -> Written:
    """Write all data files from *archive*, which is that of the job or its copy.

    Raises:
        NeverHeldError: Nothing was written.
    """
    resolved, counters, directory = job.resolved, job.counters, destination.file.directory
    writer = _writer(job, destination)
    large = LargePosts(job.guard)
    sample = chosen = None
    batches = 0
    if not narrowed.by_list:
        with large.named():
            sample = sample_if_tight(resolved, archive, job.selection, directory, large.begin)
    setup = setup_of(resolved, archive, job.selection)
    with contextlib.ExitStack() as closing, Pool(setup, job.workers, debug=debug) as pool:
        for worker in pool.workers:
            job.tree.add(worker.process.pid)
        hold.take(pool, job.monitor.check)
        reached("held")
        posts, disappeared, plan = planned(job, archive, narrowed, media)
        if narrowed.by_list:
            chosen = closing.enter_context(RowIdFile.of(plan))
            plan = Plan(row_id_batches(chosen, job.options.batch_size), chosen.posts, exact=True)
            with large.named():
                sample = sample_if_tight(resolved, archive, job.selection, directory, large.begin, chosen)
        if sample is not None or media is not None:
            least = 0 if sample is None else sample.least_bytes(posts if chosen is None else plan.posts)
            check_room_beside_media(resolved, directory, least, media)
        counters.posts_to_read = plan.posts
        counters.stage = "exporting"
        with unchanging(archive), large.named():
            for chunk in rendered(plan.batches, archive, setup, pool, large, job.guard, job.monitor.check):
                if chunk.data:
                    writer.add(chunk.data, chunk.posts, chunk.plain_bytes, goes_on=chunk.goes_on)
                    counters.posts, counters.bytes = writer.posts, writer.bytes_written
                notices.note(chunk.notices)
                counters.posts_read += chunk.posts_read
                batches += chunk.ends_batch
            if plan.exact and counters.posts_read != plan.posts:
                raise ArchiveChangedError(f"{counters.posts_read} of {plan.posts} posts were found")
    # The workers are gone and hold nothing. After this, other programs can write.
    hold.release()
    writer.finish()
    counters.bytes = writer.bytes_written
    archive.check_unchanged()
    return Written(posts, batches, writer.files, hold.seconds, disappeared)


def _way(job: Job, parts: PartWriters | None, *, debug: bool) -> Callable[..., Written]:
    """How files are written: data files by this export or by others, or pages."""
    if parts is not None:
        from skyexport.pipeline.parts import write_in_parts

        return partial(write_in_parts, parts)
    if job.resolved.format == PAGES:
        # Only these exports need templates.
        FORMS[PAGES].require()
        from skyexport.pipeline.pages import write_pages

        return partial(write_pages, debug=debug)
    return partial(_write, debug=debug)


def _media(job: Job) -> contextlib.AbstractContextManager[Media | None]:
    return Media(job.resolved, job.archive.path.parent) if job.options.media else contextlib.nullcontext()


def _say_before(job: Job, media: Media | None, destination: Destination, say: Callable[[str], None]) -> None:
    if job.tree.metric is None:
        say(UNKNOWN_MEMORY)
    if job.archive.source.from_car:
        say(f"note: {job.archive.display_path} was imported first; skyexport import makes an archive that stays")
    if swept := [*destination.swept, *remove_left_scratches()]:
        say(f"removed leftovers of killed exports: {', '.join(map(str, swept))}")
    if media is not None and media.nothing_to_link:
        say(f"note: {job.resolved.link_media} has no media to link")


def _writer(job: Job, destination: DataDestination) -> OrderedWriter:
    resolved = job.resolved
    format = format_with(resolved.format, resolved.settings)
    return OrderedWriter(format, destination.file, resolved.compression, resolved.split, destination.next_file)


def _read_back(job: Job, path: Path | None) -> None:
    """Verify the export before older ones are removed in its favour."""
    if job.options.keep is not None and path is not None:
        from skyexport.verification.verifier import read_back

        job.counters.stage = "reading back"
        read_back(path.parent, job.counters, job.monitor.check)


def _remove_old(job: Job, path: Path | None, say: Callable[[str], None]) -> list[Path]:
    """Remove the exports that are not to be kept; returns them."""
    if job.options.keep is None or path is None:
        return []
    from skyexport.output.retention import remove_old_chains

    return remove_old_chains(job.resolved, job.selection.did, job.archive.path, path.parent, say)


def _register(job: Job, media: Media | None, files: list[WrittenFile], path: Path | None, now: datetime) -> str | None:
    """Add the export to the archive's list, if that is asked for; returns its name there."""
    if job.registry is None or path is None:
        return None
    media_files = 0 if media is None else media.counts.files
    size = sum(file.bytes for file in files) + job.counters.media_bytes
    return job.registry.add(path.parent, now, job.counters.posts, media_files, size)


def _noted(job: Job) -> Noted:
    """The notices that are known before anything is written."""
    notices = Noted(job.options)
    notices.all.merge(_reused_handle(job))
    notices.note(job.archive.notices())
    return notices


def _reused_handle(job: Job) -> Notices:
    """The other authors that had the handle, which are no reason for a strict export to fail."""
    notices = Notices()
    if job.author is not None:
        for other in job.author.others:
            notices.add(REUSED_HANDLE, f"{job.author.handle}: {other}")
    return notices


def _copy_media(
    job: Job, media: Media | None, destination: Destination, notices: Noted
) -> tuple[Iterator[bytes], Iterator[bytes] | None]:
    """Copy the media files; returns lines of SHA256SUMS, and the media table in pieces."""
    target = destination.media_directory
    if media is None or target is None:
        return iter(()), None
    return media.copy(target, job.counters, check=job.monitor.check, note=notices.note)


def _manifest(
    job: Job, written: Written, media: Media | None, notices: Notices, now: datetime, data: list[WrittenFile]
) -> bytes:
    narrowed: dict[str, object] = {}
    if job.options.match is not None:
        narrowed["match"] = job.options.match
    if job.earlier is not None and written.disappeared is not None:
        narrowed["since_export"] = [asdict(export) for export in job.earlier.exports]
        narrowed["disappeared"] = written.disappeared.uris
        narrowed["disappeared_unlisted"] = written.disappeared.unlisted
    return manifest_bytes(
        job.resolved, job.author, job.archive, written.archive_posts, job.counters.posts, notices, data,
        None if media is None else media.counts, now, exporter=f"skyexport {__version__}",
        pages=None if written.page_bytes is None else (written.files, written.page_bytes), narrowed=narrowed,
    )  # fmt: skip


def _summary(
    job: Job, written: Written, media: Media | None, notices: Notices, files: list[WrittenFile], path: Path | None
) -> ExportSummary:
    library = native.library()
    author, counters = job.author, job.counters
    return ExportSummary(
        format=job.resolved.format, posts=counters.posts, batches=written.batches, workers=job.workers,
        renderer=native.renderer(),
        renderer_problem=library.reason if isinstance(library, NotThere) and library.is_installed else None,
        counts_unknown=job.archive.source.imported,
        seconds=counters.seconds, data_files=written.files, bytes=counters.bytes, csv_safe=job.options.csv_safe,
        peak_memory_bytes=job.guard.peak_bytes, memory_metric=job.tree.metric,
        archive_held_seconds=written.held_seconds, journal_mode=job.archive.source.journal_mode,
        path=path, directory=path.parent if path and job.resolved.to is None else None, files=files,
        media=None if media is None else media.counts, media_bytes=counters.media_bytes,
        author=job.selection.did, author_handle=None if author is None else author.handle,
        warnings=notices.warnings, warning_places=notices.places,
        disappeared=None if written.disappeared is None else written.disappeared.posts,
        since_export=list(job.resolved.since_export),
    )  # fmt: skip


@contextlib.contextmanager
def _opened(resolved: Resolved, did: str | None, now: datetime) -> Iterator[Destination]:
    destination = destination_of(resolved, did, now)
    try:
        try:
            destination.open()
            yield destination
        except BaseException:
            try:
                destination.abort()
            except BaseException:
                # A signal may have come before it had begun. More than once does no harm.
                destination.abort()
                raise
            raise
    # An export under its final name is complete: a later error must not say otherwise.
    except StoppedError as error:
        if destination.kept is None:
            raise
        raise StoppedError(error.signal_number, str(destination.kept)) from None
    except (OutputError, MemoryError) as error:
        if destination.kept is None:
            raise
        why = error.message if isinstance(error, OutputError) else NO_MEMORY
        raise OutputError(f"{destination.kept} is complete, but may not be on disk yet: {why}") from error
