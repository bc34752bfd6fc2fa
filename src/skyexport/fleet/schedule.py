"""Exports of many archives at once, scheduled so that all cores stay busy.

The flow. An archive is small if its export takes less time than workers need to start. A few exporters export small
archives side by side, each archive in one process; an exporter always has its next archive at hand. Then the large
archives follow one by one, each with its own pool of workers.

The memory bound. The limit holds for all processes together. Each exporter gets an equal share of the memory that this
process leaves. An archive that does not fit into a share is exported later, alone, with all of the memory.

The failure story. A failure concerns one archive, even if an exporter dies: it is reported, and the other exports go
on. If the migration itself ends, as after a signal, the exporters undo their unfinished exports. Complete exports stay,
and the next migration can skip their archives.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from os import PathLike
from pathlib import Path

from skyexport.errors import ExportError, MemoryLimitError, OptionError, StoppedError, WorkerError
from skyexport.extras import require_distributed
from skyexport.fleet.archive_list import ArchiveList
from skyexport.fleet.archive_pool import REQUESTS_AT_ONCE, ArchivePool, ArchiveWorker
from skyexport.fleet.archive_worker import ExportJob, JobResult, ProgressUpdate, unexpected
from skyexport.fleet.preflight import check_for_all
from skyexport.fleet.progress import MigrationProgress
from skyexport.fleet.record import MigrationRecord
from skyexport.fleet.results import Migration, Outcome
from skyexport.fleet.resumption import export_to_skip
from skyexport.options.export_options import ExportOptions, resolve
from skyexport.options.values import ClusterAddress, Shard, parse_cluster, parse_shard
from skyexport.output.places import remove_partial
from skyexport.pipeline.export import export
from skyexport.pipeline.preparation import WORKERS_FROM_POSTS
from skyexport.pipeline.summary import ExportSummary
from skyexport.runtime.for_tests import Limit
from skyexport.runtime.memory import UNKNOWN_MEMORY, MemoryGuard, ProcessTree
from skyexport.runtime.processes import available_cpus
from skyexport.runtime.progress import Monitor, Progress

__all__ = ["each_options", "export_all", "export_in_parts"]

_LARGE_BYTES = Limit("LARGE_ARCHIVE_BYTES", 1400 * WORKERS_FROM_POSTS)
"""Size of an archive with posts of 1,400 bytes for which workers are worth their start."""

_EXPORTER_BYTES = 60_000_000
"""The smallest share of the memory limit that an exporter can work with."""

_LIMIT_SHARE = 0.95
"""Share of the memory limit that exporters get; the rest is for growth of this process."""

_POLL_SECONDS = 0.1
"""How often to check for signals while no exporter sends anything."""


def export_all(
    archives: Iterable[str | PathLike[str]],
    options: ExportOptions,
    on_progress: Callable[[MigrationProgress], None] | None = None,
    *,
    shard: str | Shard | None = None,
    cluster: str | ClusterAddress | None = None,
    resume_batch: bool = False,
    on_outcome: Callable[[Outcome], None] = lambda _: None,
    say: Callable[[str], None] = lambda _: None,
    debug: bool = False,
) -> Migration:
    """Export many archives, each into a directory of its own below *options.output_dir*, named after its file.

        archives = ["a.db", "b.db"]
        done = export_all(archives, ExportOptions(archive=archives[0], format="csv"))
        for outcome in done.outcomes:
            print(outcome.path, outcome.status)

    Args:
        archives: Paths of the archives; a missing one is a failure of that archive only.
        options: The options for all archives; its *archive* is ignored. *workers* is the number of processes at any
            time, and the memory limit holds for all of them together.
        on_progress: Called several times a second, as in `export`; an exception that it raises ends the migration.
        shard: Export only this part of the archives, `3/8` for the third of eight, so that several machines share the
            list. The path of an archive as it is written says to which part it belongs. None for all.
        cluster: Let the workers of a Dask cluster export the archives, each by itself: the address of its scheduler,
            `HOST:8786`, or `local:4` for a cluster of this machine. Needs the extra `dask`; archives are skipped as
            with *resume_batch*. *workers* and the memory limit hold for each archive.
        resume_batch: Skip archives that already have a verified export of their current state with the same options.
        on_outcome: Called with the outcome of each archive as soon as it is known.
        say: Called with further messages for people, one line each.
        debug: Let processes write to this process's standard error.

    Returns:
        The outcome of each archive. Failures of single archives raise nothing.

    Raises:
        OptionError: An archive is named twice, *archives* is not a list, or an option such as *to* is for one archive
            only; nothing was started.
        StoppedError: A signal stopped the migration. The message says how many archives are complete.
        ExportError: No archive can be exported with these options, and nothing was started; or the migration cannot
            go on.
    """
    resolved = resolve(options)
    _check_for_many(options)
    address = None if cluster is None else parse_cluster(cluster)
    if address is not None:
        require_distributed()
    archive_list = ArchiveList(archives, None if shard is None else parse_shard(shard), together=address is not None)
    check_for_all(archive_list, resolved)
    record = MigrationRecord(archive_list, options, on_outcome, say)
    if address is not None:
        from skyexport.fleet.cluster import connected
        from skyexport.fleet.cluster_schedule import export_on_cluster

        each = partial(_options_of, archive_list, options=options)
        with connected(address, debug=debug) as client:
            return export_on_cluster(archive_list, each, options, record, client, on_progress, debug=debug)
    return _Migration(archive_list, options, record, resume=resume_batch, debug=debug).run(on_progress)


def export_in_parts(
    options: ExportOptions,
    cluster: str | ClusterAddress,
    on_progress: Callable[[Progress], None] | None = None,
    *,
    say: Callable[[str], None] = lambda _: None,
    debug: bool = False,
) -> ExportSummary:
    """Export one archive, each of its data files by whatever worker of a Dask cluster is free.

        summary = export_in_parts(ExportOptions(archive="huge.db", split_posts=1_000_000), "HOST:8786")

    The export is the same as that of `export`. All workers must see the archive and the output directory, and nobody
    may write to the archive meanwhile; *snapshot* "copy" first copies its posts into TMPDIR, which all must see then.

    Args:
        options: The options, with *split_posts*. *workers* and the memory limit hold for each data file.
        cluster: The address of the scheduler, as in `export_all`.
        on_progress, say, debug: As in `export`.

    Raises:
        ExportError: As `export` raises it; the message names the worker.
    """
    if options.split_posts is None:
        raise OptionError("a cluster exports one archive in parts", "say how many posts each has, with --split-posts")
    if options.split_bytes is not None:
        raise OptionError("--split-bytes and --cluster cannot be combined", "use --split-posts alone")
    address = parse_cluster(cluster)
    require_distributed()
    from skyexport.fleet.cluster import connected
    from skyexport.fleet.cluster_parts import ClusterParts

    with connected(address, debug=debug) as client:
        parts = ClusterParts(client, options, say, debug=debug)
        return export(options, on_progress, say=say, debug=debug, must_fit=False, parts=parts)


def each_options(
    archives: Iterable[str | PathLike[str]], options: ExportOptions, shard: Shard | None = None
) -> Iterator[ExportOptions]:
    """Yield the options of each of many archives, as `export_all` uses them.

    Raises:
        ExportError: As `export_all` raises it before it starts.
    """
    _check_for_many(options)
    archive_list = ArchiveList(archives, shard)
    check_for_all(archive_list, resolve(options))
    for number in range(len(archive_list)):
        yield _options_of(archive_list, number, options)


def _options_of(archives: ArchiveList, number: int, options: ExportOptions) -> ExportOptions:
    """The options for the archive with this number."""
    return replace(options, archive=archives[number], output_dir=Path(options.output_dir) / archives.name(number))


def _check_for_many(options: ExportOptions) -> None:
    """Refuse options that are for one archive only."""
    if options.to is not None:
        raise OptionError("--to is for one archive", "use -o for the exports of several")
    if options.since_export:
        raise OptionError("--since-export is for one archive", "run a command for each archive")
    if options.register:
        raise OptionError(
            "--register is for one archive: bskyarchive finds no exports in directories named after archives",
            "run a command for each archive",
        )


_WHERE_DISKS_WAIT = 2
"""ArchivePool per core with sync, since each waits for the disk five times per archive (docs/performance.md)."""


class _Migration:
    """Hands archives to exporters, and exports large ones in this process."""

    def __init__(
        self,
        archives: ArchiveList,
        options: ExportOptions,
        record: MigrationRecord,
        *,
        resume: bool,
        debug: bool,
    ) -> None:
        self._archives = archives
        self._record = record
        self._large_bytes = _LARGE_BYTES.value
        self._options = options
        self._resume = resume
        self._debug = debug
        self._tree = ProcessTree()
        self._alone: list[int] = []
        """Archives that this process exports, large ones with a pool of workers."""
        self._looked_for: set[int] = set()
        """Archives of `_alone` that are known to have no earlier export."""
        self._own_export: Progress | None = None
        """Progress of the export in this process."""

    def run(self, on_progress: Callable[[MigrationProgress], None] | None) -> Migration:
        """Export all archives."""
        # ArchivePool and exports enforce the limit; this guard only samples memory for the progress.
        guard = MemoryGuard(sys.maxsize, self._sample)
        if self._tree.metric is None:
            self._record.say(UNKNOWN_MEMORY)
        with self._record.monitored(guard, on_progress) as monitor:
            exporters = self._exporters()
            if exporters:
                self._by_exporters(exporters, monitor)
            else:
                self._alone = list(range(len(self._archives)))
            for number in sorted(self._alone):
                monitor.check()
                self._by_this_process(number, monitor)
        return self._record.migration(exporters, guard.peak_bytes, self._tree.metric)

    def _sample(self) -> int | None:
        own = self._own_export
        return own.memory_bytes if own is not None and own.memory_bytes else self._tree.sample()

    def _is_small(self, number: int) -> bool:
        return self._archives.sizes[number] < self._large_bytes

    def _exporters(self) -> int:
        """The number of exporters that cores, archives and memory allow; 0 if one would do."""
        wanted = self._options.workers
        if not isinstance(wanted, int):
            # While one exporter waits for the disk, another can work.
            wanted = available_cpus() * (_WHERE_DISKS_WAIT if self._options.sync else 1)
        useful = sum(self._resume or size < self._large_bytes for size in self._archives.sizes)
        affordable = self._shared_bytes() // _EXPORTER_BYTES
        exporters = min(wanted, useful, affordable)
        return exporters if exporters > 1 else 0

    def _shared_bytes(self) -> int:
        """The memory that the limit leaves for exporters."""
        return int(self._options.memory_limit_bytes * _LIMIT_SHARE) - (self._tree.sample() or 0)

    def _requests(self, memory_bytes: int) -> Iterator[ExportJob]:
        """The requests to exporters: export a small archive, or look for an earlier export of a large one."""
        for number in range(len(self._archives)):
            small = self._is_small(number)
            if small or self._resume:
                options = _options_of(self._archives, number, self._options)
                options = replace(options, workers=0, memory_limit=memory_bytes)
                yield ExportJob(number, options, self._resume, small)
            else:
                self._alone.append(number)

    def _by_exporters(self, count: int, monitor: Monitor) -> None:
        requests = self._requests(self._shared_bytes() // count)
        returned: deque[ExportJob] = deque()
        pool = ArchivePool(count, self._tree.add, self._record.answered, debug=self._debug)

        def in_hand() -> list[ProgressUpdate]:
            return [exporter.moment for exporter in list(pool.exporters) if exporter.moment is not None]

        self._record.counters.in_hand = in_hand
        with pool:
            while True:
                monitor.check()
                self._give(pool, requests, returned)
                if not any(exporter.requests for exporter in pool.exporters):
                    break
                received = pool.receive(_POLL_SECONDS)
                if received is None:
                    continue
                exporter, answer = received
                if answer is not None:
                    self._take(exporter, answer)
                else:
                    self._replace(pool, exporter, returned)

    def _give(self, pool: ArchivePool, requests: Iterator[ExportJob], returned: deque[ExportJob]) -> None:
        """Give every exporter its next requests, as long as there are any."""
        for waiting in range(REQUESTS_AT_ONCE.value):
            for exporter in pool.exporters:
                if len(exporter.requests) == waiting and not exporter.leaves:
                    request = returned.popleft() if returned else next(requests, None)
                    if request is None:
                        return
                    exporter.give(request)

    def _take(self, exporter: ArchiveWorker, answer: JobResult) -> None:
        """Handle the answer of an exporter."""
        exporter.answered(answer.number)
        exporter.leaves = isinstance(answer.error, MemoryLimitError)
        if isinstance(answer.error, StoppedError):
            # This process did not ask the exporter to stop.
            exporter.leaves = True
            kept = f"; the export was complete: {answer.error.kept}" if answer.error.kept else ""
            stopped = f"the exporter of this archive was stopped by signal {answer.error.signal_number}{kept}"
            self._record.note(JobResult(answer.number, error=WorkerError(stopped, "export it again")))
        elif exporter.leaves or (answer.summary is None and answer.earlier is None and answer.error is None):
            self._alone.append(answer.number)
            self._looked_for.add(answer.number)
        else:
            self._record.note(answer)

    def _replace(self, pool: ArchivePool, exporter: ArchiveWorker, returned: deque[ExportJob]) -> None:
        """Replace an exporter that has ended: its archive in work has failed, and its other requests are returned."""
        rest = [request for request in exporter.requests.values() if isinstance(request, ExportJob)]
        if rest and not exporter.leaves:
            remove_partial(Path(rest[0].options.output_dir))
            if not pool.was_stopped(exporter):
                lost = rest.pop(0)
                self._record.note(JobResult(lost.number, error=pool.how_it_died(exporter)))
        returned.extend(rest)
        pool.remove(exporter)
        try:
            pool.start()
        except WorkerError:
            if not pool.exporters:
                raise

    def _by_this_process(self, number: int, monitor: Monitor) -> None:
        """Export one archive in this process, with workers if it is large."""
        options = _options_of(self._archives, number, self._options)
        if self._is_small(number):
            options = replace(options, workers=0)

        def watch(moment: Progress) -> None:
            self._own_export = moment
            monitor.check()

        def in_hand() -> list[ProgressUpdate]:
            return [] if self._own_export is None else [ProgressUpdate.of(number, self._own_export)]

        answer = JobResult(number)
        self._record.counters.in_hand = in_hand
        summary = earlier = None
        try:
            if self._resume and number not in self._looked_for:
                earlier = export_to_skip(options, watch)
            if earlier is not None:
                answer = JobResult(number, earlier=earlier)
            else:
                summary = export(options, watch, say=answer.messages.append, debug=self._debug)
                answer = JobResult(number, summary, messages=answer.messages)
        except StoppedError as error:
            self._record.answered(JobResult(number, summary, earlier, error=error))
            raise
        except ExportError as error:
            answer = JobResult(number, error=error, messages=answer.messages)
        except Exception as error:
            answer = JobResult(number, error=unexpected(error), messages=answer.messages)
        finally:
            self._record.counters.in_hand = list
            self._own_export = None
        self._record.note(answer)
