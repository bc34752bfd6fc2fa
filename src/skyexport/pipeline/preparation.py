"""The beginning of an export and of a dry run: open the archive, find the author, choose posts and workers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import apsw

from skyexport.archive.archive import Archive
from skyexport.archive.authors import ChosenAuthor, check_author
from skyexport.archive.export_order import plan_of
from skyexport.archive.plan import Plan
from skyexport.archive.registry import Registry
from skyexport.errors import ArchiveBusyError, ArchiveChangedError, StrictError
from skyexport.formats import FORMS
from skyexport.layout import may_be_table
from skyexport.notices import MISSED_LOG, MISSED_LOG_HINT, Notices
from skyexport.options.checks import PAGES
from skyexport.options.export_options import ExportOptions, Resolved, resolve
from skyexport.output.destination import check_place
from skyexport.pipeline.memory_need import memory_need
from skyexport.rendering import native
from skyexport.runtime.memory import MemoryGuard, ProcessTree
from skyexport.runtime.processes import available_cpus
from skyexport.runtime.progress import Counters, Monitor, Progress
from skyexport.selection import PostFilter, Selection

if TYPE_CHECKING:
    from skyexport.output.media import Media
    from skyexport.verification.increments import Disappeared, EarlierPosts

__all__ = [
    "SQLITE_STEPS",
    "WORKERS_FROM_POSTS",
    "Job",
    "available_posts",
    "check_state",
    "check_strict",
    "planned",
    "prepared",
    "with_earlier_posts",
]

SQLITE_STEPS = 100_000
"""SQLite steps between checks of memory and signals: some milliseconds."""

WORKERS_FROM_POSTS = 150_000
"""With fewer posts, one process finishes before workers have started (docs/architecture.md)."""

_WORKERS_FROM_SLOW_POSTS = 40_000
"""The same if Python renders, or if posts are compressed."""

_WORKERS_FROM_PAGED_POSTS = 10_000
"""The same for pages, which take a few times longer (docs/performance.md)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """An export that is about to run."""

    resolved: Resolved
    archive: Archive
    author: ChosenAuthor | None
    selection: Selection
    """The posts by author and date: workers know them too."""
    filters: tuple[PostFilter, ...]
    """Conditions that narrow the selection further; only this process can find those posts."""
    earlier: EarlierPosts | None
    """The posts of earlier exports; None without such exports."""
    registry: Registry | None
    """The archive's list of exports; None if this export is not to be listed."""
    workers: int
    counters: Counters
    guard: MemoryGuard
    monitor: Monitor
    tree: ProcessTree
    closing: contextlib.ExitStack
    """Closes what must outlive the connections to the archive."""

    @property
    def options(self) -> ExportOptions:
        """The options as they were asked for."""
        return self.resolved.options

    @property
    def narrowed(self) -> Selection:
        """The posts to export, with filters and limit."""
        return replace(self.selection, filters=self.filters, limit=self.options.limit)


@contextlib.contextmanager
def prepared(
    options: ExportOptions, on_progress: Callable[[Progress], None] | None, *, must_fit: bool = True
) -> Iterator[Job]:
    """Open the archive, find the author, and choose the number of workers.

    Args:
        options: The options of the export.
        on_progress: As in `export`.
        must_fit: Refuse a memory limit that may be too small.

    Raises:
        ExportError: The archive cannot be read, or *options* do not go with it.
    """
    resolved = resolve(options)
    counters = Counters()
    tree = ProcessTree()
    guard = MemoryGuard(options.memory_limit_bytes, tree.sample)
    check_place(resolved)
    with (
        contextlib.ExitStack() as closing,
        Monitor(counters, guard, on_progress) as monitor,
        Archive(resolved.archive, memory=guard, match=options.match, counters=counters, check=monitor.check) as archive,
    ):
        counters.stage = "preparing"
        author = None if options.author is None else archive.find_author(options.author)
        selection = Selection(None if author is None else author.did, resolved.since, resolved.until)
        workers = _chosen_workers(resolved, archive, selection, guard, must_fit=must_fit)
        # From here on: before, a limit that is too small is refused with one that is enough.
        archive.watch(monitor.check, SQLITE_STEPS)
        yield Job(
            resolved=resolved, archive=archive, author=author, selection=selection,
            filters=() if options.match is None else (archive.matching(options.match),), earlier=None,
            registry=Registry(archive, resolved, author.did) if options.register and author is not None else None,
            workers=workers, counters=counters, guard=guard, monitor=monitor, tree=tree, closing=closing,
        )  # fmt: skip


def with_earlier_posts(job: Job, say: Callable[[str], None]) -> Job:
    """The same job for the posts that are new since the earlier exports, which are verified; unchanged without any.

    Args:
        job: The job, of which the place is locked: no other run adds to the chain of exports there, or removes it.
        say: Called with lines for people.
    """
    if not (job.resolved.since_export or job.options.since_last):
        return job
    # Most exports need none of this, and loading it takes a tenth of a small one.
    from skyexport.verification.increments import EarlierPosts, with_last_chain

    resolved = with_last_chain(job.resolved, job.selection.did, job.archive.path, say)
    if not resolved.since_export:
        return replace(job, resolved=resolved)
    job.counters.stage = "reading earlier exports"
    earlier = EarlierPosts(resolved.since_export, job.counters, job.monitor.check)
    job.closing.callback(earlier.close)
    for line in earlier.foreign(job.archive.path):
        say(line)
    job.counters.stage = "preparing"
    workers = job.workers
    if not isinstance(resolved.options.workers, int):
        least = earlier.posts + _worth_workers(resolved)
        workers = workers if job.archive.has_posts(job.selection, least) else 0
    return replace(job, resolved=resolved, earlier=earlier, filters=(*job.filters, earlier), workers=workers)


def check_state(job: Job, connection: apsw.Connection, schema: str) -> Disappeared | None:
    """Check in the exported state that the author is still the same, and find the earlier posts that are gone.

    Args:
        job: The job.
        connection: A connection that holds that state.
        schema: Name of the archive's schema there.

    Returns:
        The posts that are gone; None without earlier exports.
    """
    with job.archive.translating_errors():
        if job.author is not None:
            check_author(connection, schema, job.author, str(job.archive.path))
        if job.earlier is None:
            return None
        return job.earlier.disappeared(
            connection, schema, job.archive.schema, allow_unrelated=job.options.allow_unrelated
        )


def planned(
    job: Job, archive: Archive, narrowed: Selection, media: Media | None
) -> tuple[int, Disappeared | None, Plan]:
    """Look at the held state: how many posts it has, which earlier ones are gone, and how it is cut into batches.

    Args:
        job: The job.
        archive: The archive of the job or its copy, held in one state.
        narrowed: The posts to export.
        media: Lists the files of these posts; None without media.
    """
    posts = archive.count_posts()
    disappeared = check_state(job, archive.connection, "main") if archive.copied is None else None
    if media is not None:
        media.list_files(archive, narrowed)
    return posts, disappeared, plan_of(archive, narrowed, job.options.batch_size, posts)


def available_posts(
    archive: Archive, selection: Selection, options: ExportOptions
) -> tuple[str | None, str | None] | None:
    """Creation times of the oldest and the newest post, by the author or by all (RFC 3339).

    They help people whose dates select nothing; None if the dates are not the reason.
    """
    narrowed = options.match is not None or options.since_export
    # A hint is not worth an error.
    with contextlib.suppress(ArchiveBusyError, ArchiveChangedError):
        if selection.by_date and not (narrowed and archive.has_posts(replace(selection, did=None), 1)):
            return archive.first_and_last(Selection(selection.did))
    return None


def _chosen_workers(
    resolved: Resolved, archive: Archive, selection: Selection, guard: MemoryGuard, *, must_fit: bool = True
) -> int:
    """The number of workers for an export.

    Raises:
        MemoryLimitError: With *must_fit*: the memory limit may be too small for them, or even for no workers.
    """
    options = resolved.options
    reads_earlier = bool(resolved.since_export) or options.since_last
    need = memory_need(
        FORMS[resolved.format], resolved.compression, archive.stored_bytes(), batch_size=options.batch_size,
        lists=options.media or options.match is not None or options.limit is not None or reads_earlier
        or options.snapshot == "copy" or resolved.format == PAGES,
        reads_table=any(map(may_be_table, resolved.since_export))
        or (options.since_last and resolved.format == "parquet"),
    )  # fmt: skip
    workers = options.workers
    if not isinstance(workers, int):
        affordable = 0
        least = _worth_workers(resolved)
        few = options.limit is not None and options.limit < least
        encoders = FORMS[resolved.format].encoders
        if not few and archive.has_posts(selection, least):
            affordable = guard.affordable_workers(need, available_cpus() - encoders)
        # One worker alone helps where this process has other work beside rendering.
        workers = affordable if affordable + encoders > 1 else 0
    if must_fit:
        guard.check_workable(need, workers, resolved.format)
    return workers


def _worth_workers(resolved: Resolved) -> int:
    """The number of posts from which workers are worth their start."""
    if resolved.format == PAGES:
        return _WORKERS_FROM_PAGED_POSTS
    slow = resolved.compression is not None or native.renderer() == "python"
    return _WORKERS_FROM_SLOW_POSTS if slow else WORKERS_FROM_POSTS


def check_strict(options: ExportOptions, notices: Notices) -> None:
    """Fail if *options* are strict and *notices* have something that cannot be exported as stored.

    Raises:
        StrictError: Names the first such value or file.
    """
    if not (options.strict and notices.counts):
        return
    kind, places = next(iter(notices.places.items()))
    if kind == MISSED_LOG:
        raise StrictError(places[0], MISSED_LOG_HINT)
    raise StrictError(
        f"{kind.replace('_', ' ')}: {places[0]} cannot be exported as stored",
        "leave out --strict to count such values as warnings",
    )
