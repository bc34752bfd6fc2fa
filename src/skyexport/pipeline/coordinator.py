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
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import apsw

from skyexport import __version__
from skyexport.archive.archive import Archive
from skyexport.archive.authors import ChosenAuthor, check_author
from skyexport.archive.copying import REINDEX
from skyexport.archive.export_order import plan_of
from skyexport.archive.plan import Plan, row_id_batches
from skyexport.archive.registry import Registry
from skyexport.archive.row_ids import RowIdFile
from skyexport.archive.source import PIN_BUSY_MILLISECONDS, wait_for_writers
from skyexport.errors import (
    NO_MEMORY,
    ArchiveBusyError,
    ArchiveChangedError,
    ArchiveError,
    MemoryLimitError,
    OutputError,
    StoppedError,
    StrictError,
)
from skyexport.formats import FORMATS, format_with
from skyexport.formats.compression import compressor_of
from skyexport.notices import MISSED_LOG, MISSED_LOG_HINT, REUSED_HANDLE, Notices
from skyexport.options.export_options import ExportOptions, Resolved, resolve
from skyexport.output.destination import Destination, check_place, destination_of
from skyexport.output.manifest import manifest_bytes
from skyexport.output.media import Media
from skyexport.output.retention import remove_old_chains
from skyexport.output.writer import OrderedWriter
from skyexport.pipeline.estimate import Sample
from skyexport.pipeline.memory_need import memory_need
from skyexport.pipeline.summary import ExportSummary
from skyexport.posts import MAX_CHUNK_BYTES, LargePost
from skyexport.rendering import native
from skyexport.rendering.messages import ChunkReady, Kind
from skyexport.rendering.native import NotThere
from skyexport.rendering.pool import BATCHES_A_WORKER, Pool, Worker
from skyexport.rendering.renderer import Chunk
from skyexport.rendering.sequence import Sequencer
from skyexport.rendering.worker import WorkerSetup
from skyexport.runtime.disk import free_bytes, takes_bytes_as_they_are
from skyexport.runtime.memory import UNKNOWN_MEMORY, MemoryGuard, ProcessTree
from skyexport.runtime.processes import available_cpus
from skyexport.runtime.progress import Counters, Monitor, Progress
from skyexport.runtime.scratch import remove_left_scratches
from skyexport.selection import Narrowing, Selection
from skyexport.verification.increments import Disappeared, EarlierPosts, may_be_table, with_last_chain
from skyexport.verification.verifier import read_back
from skyexport.wording import format_size

__all__ = [
    "SQLITE_STEPS",
    "WORKERS_FROM_POSTS",
    "available_posts",
    "check_room",
    "check_strict",
    "chosen_workers",
    "export",
]

WORKERS_FROM_POSTS = 150_000
"""With fewer posts, one process finishes before workers have started (docs/architecture.md)."""

_WORKERS_FROM_SLOW_POSTS = 40_000
"""The same if Python renders, or if posts are compressed."""

_PIN_ATTEMPTS = 50
"""With a program that commits 1,500 times a second, a fifth of the attempts fail; so many in a row never do."""

_ROOM_ENOUGH = 4
"""With so many times the size of the archive free, nothing is estimated: hardly any export is as large."""

_POLL_SECONDS = 0.1
"""Time between checks of memory and signals while no worker sends anything."""

SQLITE_STEPS = 100_000
"""SQLite steps between checks of memory and signals: some milliseconds."""


def export(
    options: ExportOptions,
    on_progress: Callable[[Progress], None] | None = None,
    *,
    say: Callable[[str], None] = lambda _: None,
    debug: bool = False,
    must_fit: bool = True,
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

    Returns:
        The summary, once everything is on disk under its final name.

    Raises:
        ExportError: Nothing was exported; the class and its exit code give the reason. Any other exception, such as
            KeyboardInterrupt, leaves no output behind either. After the last step, the rename, an error says that the
            export is complete, and where.
    """
    resolved = resolve(options)
    counters = Counters()
    tree = ProcessTree()
    guard = MemoryGuard(options.memory_limit_bytes, tree.sample)
    if tree.metric is None:
        say(UNKNOWN_MEMORY)
    now = datetime.now(UTC)
    path: Path | None = None
    registered: str | None = None
    removed: list[Path] = []
    check_place(resolved)
    try:
        with (
            contextlib.ExitStack() as last,
            Archive(resolved.archive, memory=guard, match=options.match) as archive,
            Monitor(counters, guard, on_progress) as monitor,
        ):
            author = None if options.author is None else archive.find_author(options.author)
            selection = Selection(None if author is None else author.did, resolved.since, resolved.until)
            workers = chosen_workers(resolved, archive, selection, guard, must_fit=must_fit)
            # From here on: before, a limit that is too small is refused with one that is enough.
            archive.watch(monitor.check, SQLITE_STEPS)
            match = [] if options.match is None else [archive.matching(options.match)]
            registry = Registry(archive, resolved, author.did) if options.register and author is not None else None
            with _media(resolved, archive) as media, _opened(resolved, selection.did, now) as destination:
                if swept := [*destination.swept, *remove_left_scratches()]:
                    say(f"removed leftovers of killed exports: {', '.join(map(str, swept))}")
                if media is not None and media.nothing_to_link:
                    say(f"note: {resolved.link_media} has no media to link")
                # The place is locked now: no other run adds to the chain, or removes it.
                resolved = with_last_chain(resolved, selection.did, archive.path, say)
                coordinator = _Coordinator(
                    resolved, author, selection, archive, media, destination, counters, guard, monitor, workers, match
                )
                with contextlib.closing(coordinator):
                    coordinator.read_earlier_exports(last, say)
                    archive_posts = coordinator.run(tree, say, debug=debug)
                    available = None if counters.posts else available_posts(archive, selection, options)
                    media_sums, media_table = coordinator.copy_media(destination.media_directory)
                    counters.stage = "finishing"
                    files, path = destination.commit(
                        lambda data: manifest_bytes(
                            resolved, author, archive, archive_posts, counters.posts, coordinator.notices, data,
                            None if media is None else media.counts, now, exporter=f"skyexport {__version__}",
                            narrowed=coordinator.narrowed_by(),
                        ),
                        media_sums, media_table,
                    )  # fmt: skip
            if options.keep is not None and path is not None:
                counters.stage = "reading back"
                read_back(path.parent, counters, monitor.check)
        if options.keep is not None and path is not None:
            removed = remove_old_chains(resolved, selection.did, archive.path, path.parent, say)
        if registry is not None and path is not None:
            registered = registry.add(
                path.parent, now, counters.posts, 0 if media is None else media.counts.files,
                sum(file.bytes for file in files) + counters.media_bytes,
            )  # fmt: skip
        library = native.library()
        return ExportSummary(
            format=resolved.format, posts=counters.posts, batches=coordinator.batches, workers=workers,
            renderer=native.renderer(),
            renderer_problem=library.reason if isinstance(library, NotThere) and library.is_installed else None,
            seconds=counters.seconds, data_files=coordinator.data_files, bytes=counters.bytes,
            csv_safe=options.csv_safe, peak_memory_bytes=guard.peak_bytes,
            memory_metric=tree.metric,
            archive_held_seconds=coordinator.held_seconds,
            journal_mode=archive.source.journal_mode,
            path=path, directory=path.parent if path and resolved.to is None else None, files=files,
            media=None if media is None else media.counts, media_bytes=counters.media_bytes,
            author=selection.did, author_handle=None if author is None else author.handle, available=available,
            warnings=coordinator.notices.warnings, warning_places=coordinator.notices.places,
            disappeared=None if coordinator.disappeared is None else coordinator.disappeared.posts,
            registered=registered, since_export=list(resolved.since_export), removed=removed,
        )  # fmt: skip
    except StoppedError as error:
        # A signal may arrive after the last step too, while everything is closed.
        raise error if error.kept or path is None else StoppedError(error.signal_number, str(path)) from None
    except MemoryError as error:
        if path is not None:
            raise
        raise MemoryLimitError(NO_MEMORY, "use fewer workers or smaller batches") from error


def _media(resolved: Resolved, archive: Archive) -> contextlib.AbstractContextManager[Media | None]:
    return Media(resolved, archive.path.parent) if resolved.options.media else contextlib.nullcontext()


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
    except OutputError as error:
        if destination.kept is None:
            raise
        raise OutputError(f"{destination.kept} is complete, but may not be on disk yet: {error.message}") from error
    except MemoryError as error:
        if destination.kept is not None:
            raise
        raise MemoryLimitError(NO_MEMORY, "use fewer workers or smaller batches") from error


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


def chosen_workers(
    resolved: Resolved, archive: Archive, selection: Selection, guard: MemoryGuard, *, must_fit: bool = True
) -> int:
    """The number of workers for an export.

    Raises:
        MemoryLimitError: With *must_fit*: the memory limit may be too small for them, or even for no workers.
    """
    options = resolved.options
    reads_earlier = bool(resolved.since_export) or options.since_last
    need = memory_need(
        FORMATS[resolved.format], resolved.compression, archive.stored_bytes(), batch_size=options.batch_size,
        lists=options.media or options.match is not None or options.limit is not None or reads_earlier
        or options.snapshot == "copy",
        reads_table=any(may_be_table(directory) for directory in resolved.since_export)
        or (options.since_last and resolved.format == "parquet"),
    )  # fmt: skip
    workers = options.workers
    if not isinstance(workers, int):
        affordable = 0
        slow = resolved.compression is not None or native.renderer() == "python"
        least = _WORKERS_FROM_SLOW_POSTS if slow else WORKERS_FROM_POSTS
        few = options.limit is not None and options.limit < least
        encoders = FORMATS[resolved.format].encoders
        if not few and archive.has_posts(selection, least):
            affordable = guard.affordable_workers(need, available_cpus() - encoders)
        # One worker alone helps where this process has other work beside rendering.
        workers = affordable if affordable + encoders > 1 else 0
    if must_fit:
        guard.check_workable(need, workers, resolved.format)
    return workers


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


class _NeverHeldError(ArchiveBusyError):
    """Another program wrote to the archive during every attempt to pin one state of it."""


class _Coordinator:
    """Hands out batches, and gives their chunks to the writer in order."""

    def __init__(
        self,
        resolved: Resolved,
        author: ChosenAuthor | None,
        selection: Selection,
        archive: Archive,
        media: Media | None,
        destination: Destination,
        counters: Counters,
        guard: MemoryGuard,
        monitor: Monitor,
        workers: int,
        narrowings: Sequence[Narrowing] = (),
    ) -> None:
        self._resolved = resolved
        self._options = resolved.options
        self._author = author
        self._archive = archive
        self._media = media
        self._directory = destination.file.directory
        """Directory of the data files; None for a stream."""
        self._counters = counters
        self._guard = guard
        self._monitor = monitor
        self._workers = workers
        self._selection = selection
        self._format = format_with(resolved.format, resolved.settings)
        self._writer = OrderedWriter(
            self._format, destination.file, resolved.compression, resolved.split, destination.next_file
        )
        self._narrowed = replace(self._selection, narrowings=narrowings, limit=resolved.options.limit)
        """The selection, with the narrowings and limit that this process must still apply; workers do not know them."""
        self._earlier: EarlierPosts | None = None
        self.disappeared: Disappeared | None = None
        """Posts of earlier exports that the archive no longer has; None if there are no such exports."""
        self._chosen: RowIdFile | None = None
        """The posts that narrowings and limit select; None if there are neither."""
        self.notices = Notices()
        if author is not None:
            for other in author.others:
                self.notices.add(REUSED_HANDLE, f"{author.handle}: {other}")
        self.batches = 0
        self.held_seconds = 0.0
        """How long this export held the archive, in all attempts to pin it together."""
        self._held_since: float | None = None
        self._large: LargePost | None = None
        """The large post that is being rendered."""

    def read_earlier_exports(self, last: contextlib.ExitStack, say: Callable[[str], None]) -> None:
        """Verify the earlier exports and read which posts they have.

        Args:
            last: Closes the list of their posts, after all connections that have it open.
            say: Called with a line for each export that was made from another file.
        """
        if not self._resolved.since_export:
            return
        self._counters.stage = "reading earlier exports"
        self._earlier = EarlierPosts(self._resolved.since_export, self._counters, self._monitor.check)
        last.callback(self._earlier.close)
        for line in self._earlier.foreign(self._archive.path):
            say(line)
        self._narrowed = replace(self._narrowed, narrowings=[*self._narrowed.narrowings, self._earlier])
        self._counters.stage = "preparing"

    def narrowed_by(self) -> dict[str, object]:
        """The manifest's fields about match and earlier exports."""
        said: dict[str, object] = {}
        if self._options.match is not None:
            said["match"] = self._options.match
        if self._earlier is not None and self.disappeared is not None:
            said["since_export"] = [asdict(export) for export in self._earlier.exports]
            said["disappeared"] = self.disappeared.uris
            said["disappeared_unlisted"] = self.disappeared.unlisted
        return said

    def run(self, tree: ProcessTree, say: Callable[[str], None], *, debug: bool) -> int:
        """Write the whole data file, from the archive itself or from a copy of its posts.

        Returns:
            The number of posts in the archive.
        """
        self._note(self._archive.notices())
        if self._options.snapshot == "pin" or self._archive.source.private:
            try:
                return self._export(tree, debug=debug)
            except _NeverHeldError as error:
                say(f"{error.message}: copying its posts first, as with --snapshot copy")
        with self._archive.copy(self._narrowed, media=self._options.media, while_held=self._ask_state) as copy:
            assert copy.copied is not None
            self._archive = copy
            self._narrowed = self._selection
            self.held_seconds += copy.copied.held_seconds
            self._export(tree, debug=debug)
            return copy.copied.archive_posts

    def _export(self, tree: ProcessTree, *, debug: bool) -> int:
        """Write the whole data file from the archive or its copy; returns the number of posts there.

        Raises:
            _NeverHeldError: Nothing was written.
        """
        with self._naming_the_large_post():
            sample = None if self._narrowed.by_list else self._sample()
        setup = WorkerSetup(
            self._archive.source,
            self._archive.columns,
            self._archive.created_at_index,
            self._resolved.format,
            self._resolved.settings,
            self._resolved.compression,
            self._selection,
        )
        with Pool(setup, self._workers, debug=debug) as pool:
            for worker in pool.workers:
                tree.add(worker.process.pid)
            self._pin(pool)
            posts = self._archive.count_posts()
            if self._archive.copied is None:
                self._ask_state(self._archive.connection, "main")
            if self._media is not None:
                self._media.list_files(self._archive, self._narrowed)
            plan = self._plan(posts)
            if self._chosen is not None:
                with self._naming_the_large_post():
                    sample = self._sample()
            if sample is not None or self._media is not None:
                self._check_room(0 if sample is None else sample.least_bytes(plan.posts if self._chosen else posts))
            self._counters.posts_to_read = plan.posts
            self._counters.stage = "exporting"
            with self._one_state(), self._naming_the_large_post():
                if self._workers:
                    self._in_workers(plan, pool)
                else:
                    self._in_this_process(plan, setup)
                if plan.exact and self._counters.posts_read != plan.posts:
                    raise ArchiveChangedError(f"{self._counters.posts_read} of {plan.posts} posts were found")
        # The workers are gone and hold nothing. After this, other programs can write.
        self._let_go()
        self._writer.finish()
        self._counters.bytes = self._writer.bytes_written
        self._archive.check_unchanged()
        return posts

    @property
    def data_files(self) -> int:
        """The number of data files."""
        return self._writer.files

    def _plan(self, posts: int) -> Plan:
        """The batches of the archive, which has *posts* posts, or of the posts that narrowings and limit select."""
        plan = plan_of(self._archive, self._narrowed, self._options.batch_size, posts)
        if not self._narrowed.by_list:
            return plan
        self._chosen = RowIdFile.of(plan)
        return Plan(row_id_batches(self._chosen, self._options.batch_size), self._chosen.posts, exact=True)

    def _ask_state(self, connection: apsw.Connection, schema: str) -> None:
        """Check in the exported state that the author is still the same, and find the earlier posts that are gone."""
        with self._archive.reading():
            if self._author is not None:
                check_author(connection, schema, self._author, str(self._archive.path))
            if self._earlier is not None:
                self.disappeared = self._earlier.disappeared(
                    connection,
                    schema,
                    uri_index=self._archive.schema.uri_index is not None,
                    allow_unrelated=self._options.allow_unrelated,
                )

    def _sample(self) -> Sample | None:
        """Some posts, to estimate the size of the export; None if there is room enough, or the room is unknown."""
        free = None if self._directory is None else free_bytes(self._directory)
        if free is None or free > _ROOM_ENOUGH * self._archive.status.st_size:
            return None
        try:
            return Sample.of(
                self._archive, self._format, self._selection, self._begin_large_post,
                compress=compressor_of(self._resolved.compression), chosen=self._chosen,
            )  # fmt: skip
        except (ArchiveBusyError, ArchiveChangedError):
            # Nothing is pinned yet, and another program is writing.
            return None

    def _check_room(self, least_bytes: int) -> None:
        """Fail if an export of *least_bytes* or more cannot fit on its disk.

        Raises:
            OutputError: It cannot fit.
        """
        directory = self._directory
        free = None if directory is None else free_bytes(directory)
        if directory is None or free is None or not takes_bytes_as_they_are(directory):
            return
        if self._media is not None:
            least_bytes += self._media.least_bytes(free - least_bytes)
        check_room(self._resolved, least_bytes, free)

    def copy_media(self, target: Path | None) -> tuple[Iterator[bytes], Iterator[bytes] | None]:
        """Copy the media files into *target*; returns lines of SHA256SUMS, and the media table in pieces."""
        if self._media is None or target is None:
            return iter(()), None
        return self._media.copy(target, self._counters, check=self._monitor.check, note=self._note)

    def close(self) -> None:
        """Delete the list of posts."""
        if self._chosen is not None:
            self._chosen.close()

    def _pin(self, pool: Pool) -> None:
        """Hold one state of the archive, the same in this process and in all workers.

        An observer connection holds no state. If it sees no commit between two looks, all states that were pinned in
        between are the same.
        """
        pool.wait_until_ready()
        with contextlib.ExitStack() as closing:
            observer = None
            if pool.workers:
                observer = closing.enter_context(self._archive.second_connection())
                wait_for_writers(observer, PIN_BUSY_MILLISECONDS)
            for _ in range(_PIN_ATTEMPTS):
                if self._pinned(pool, observer):
                    return
                # A program that waits to write can continue only when all processes have released the archive.
                pool.unpin()
                self._let_go()
                self._monitor.check()
                time.sleep(random.uniform(0.005, 0.05))
        raise _NeverHeldError(
            f"another program keeps writing to {self._archive.display_path}", "try again when bskyarchive is idle"
        )

    def _pinned(self, pool: Pool, observer: apsw.Connection | None) -> bool:
        """One attempt. If this process alone pins a state, it needs no observer."""
        try:
            with self._archive.reading():
                before = None if observer is None else observer.pragma("data_version")
                self._held_since = time.monotonic()
                pinned = pool.pin() and self._archive.pin()
                return pinned and (observer is None or bool(observer.pragma("data_version") == before))
        except ArchiveBusyError:
            return False

    @contextlib.contextmanager
    def _one_state(self) -> Iterator[None]:
        """While all processes hold one state of the archive, nothing in it can change: missing posts are damage."""
        try:
            yield
        except ArchiveChangedError as error:
            self._archive.check_unchanged()
            raise ArchiveError(
                f"{self._archive.display_path} is damaged: its indexes do not agree with its posts", REINDEX
            ) from error

    def _let_go(self) -> None:
        """Release the state of the archive that this process holds, and add the time to `held_seconds`."""
        self._archive.unpin()
        if self._held_since is not None and not self._archive.source.immutable:
            self.held_seconds += time.monotonic() - self._held_since
        self._held_since = None

    @contextlib.contextmanager
    def _naming_the_large_post(self) -> Iterator[None]:
        """Name the large post in an error about too little memory."""
        self._large = None
        try:
            yield
        except (MemoryLimitError, MemoryError) as error:
            if self._large is None:
                raise
            why = error.message if isinstance(error, MemoryLimitError) else NO_MEMORY
            raise self._large.beyond_memory(why) from error

    def _begin_large_post(self, post: LargePost) -> None:
        """Note that *post* is rendered from now on.

        Raises:
            MemoryLimitError: It surely needs more memory than there is.
        """
        self._large = post
        self._guard.check_affordable(post.needed_bytes)

    def _in_this_process(self, plan: Plan, setup: WorkerSetup) -> None:
        target = memoryview(bytearray(MAX_CHUNK_BYTES))
        renderer = setup.renderer(self._archive.connection, self._begin_large_post, lambda: target)
        for batch in plan.batches:
            self._large = None
            unread = batch.posts
            with self._archive.reading():
                for chunk in renderer.render(batch):
                    self._monitor.check()
                    self._write(chunk.data, chunk)
                    self._note(chunk.notices)
                    self._counters.posts_read += chunk.posts
                    unread -= chunk.posts
            self._counters.posts_read += unread
            self.batches += 1

    def _in_workers(self, plan: Plan, pool: Pool) -> None:
        batches = enumerate(plan.batches)
        sequencer: Sequencer[tuple[Worker, ChunkReady]] = Sequencer()
        upcoming = next(batches, None)
        waiting_for_turn: dict[int, Worker] = {}
        handed_out = 0
        while upcoming is not None or sequencer.next_sequence < handed_out:
            self._monitor.check()
            window = self._guard.window(len(pool.workers) * BATCHES_A_WORKER)
            while upcoming is not None and handed_out - sequencer.next_sequence < window:
                worker = min(pool.workers, key=lambda worker: len(worker.batches))
                worker.give(*upcoming)
                handed_out += 1
                upcoming = next(batches, None)
            received = pool.receive(_POLL_SECONDS)
            if received is None:
                continue
            worker, frame = received
            if frame.kind is Kind.LARGE:
                worker.large = LargePost(**json.loads(frame.payload))
                waiting_for_turn[frame.sequence] = worker
                self._give_turn(waiting_for_turn, sequencer.next_sequence)
                continue
            ready = ChunkReady.decode(frame.payload)
            if ready.is_last:
                worker.finished(frame.sequence)
            for sender, chunk in sequencer.add(frame.sequence, (worker, ready), is_last=ready.is_last):
                self._write(sender.slots.view(chunk.slot, chunk.length), chunk)
                sender.send(Kind.SLOT_FREE, chunk.slot)
                self._note(chunk.notices)
                self._counters.posts_read += chunk.posts_read
                if chunk.is_last:
                    self.batches += 1
                    self._large = None
            self._give_turn(waiting_for_turn, sequencer.next_sequence)

    def _give_turn(self, waiting: dict[int, Worker], sequence: int) -> None:
        """Let the worker whose batch is being written continue, if it waits with a large post."""
        worker = waiting.pop(sequence, None)
        if worker is not None and worker.large is not None:
            self._begin_large_post(worker.large)
            worker.send(Kind.TURN, sequence)

    def _write(self, data: bytes | memoryview, chunk: Chunk | ChunkReady) -> None:
        if data:
            self._writer.add(data, chunk.posts, chunk.plain_bytes, goes_on=chunk.goes_on)
            self._counters.posts = self._writer.posts
            self._counters.bytes = self._writer.bytes_written

    def _note(self, notices: Notices) -> None:
        self.notices.merge(notices)
        check_strict(self._options, notices)
