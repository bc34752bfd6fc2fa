"""Exports of many archives on a Dask cluster: this process is the client, and each archive is a task.

The largest archives come first. The scheduler hands each task to a worker that is free. A task exports one archive, and
returns what an exporter process answers on one machine. A failure concerns one archive. Complete exports stay, whatever
dies, and the next migration skips their archives.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from distributed import Client

from skyexport.errors import StoppedError
from skyexport.fleet.archive_list import ArchiveList
from skyexport.fleet.archive_worker import ExportJob, JobResult
from skyexport.fleet.cluster_tasks import ClusterTasks, everywhere
from skyexport.fleet.progress import MigrationProgress
from skyexport.fleet.record import MigrationRecord
from skyexport.fleet.results import Migration
from skyexport.options.export_options import ExportOptions
from skyexport.runtime.location import absolute
from skyexport.runtime.memory import MemoryGuard, ProcessTree

__all__ = ["export_on_cluster"]


def export_on_cluster(
    archives: ArchiveList,
    options_of: Callable[[int], ExportOptions],
    options: ExportOptions,
    record: MigrationRecord,
    client: Client,
    on_progress: Callable[[MigrationProgress], None] | None,
    *,
    debug: bool,
) -> Migration:
    """Let the workers of a cluster export all archives.

    Args:
        archives: The archives.
        options_of: The options for the archive with this number.
        options: The options for all of them.
        record: Takes the outcomes.
        client: The client of the cluster.
        on_progress: As in `export_all`.
        debug: Let exporters write to the standard error of their workers.
    """
    tree = ProcessTree()
    # The limit holds for each export, which its exporter enforces; this guard samples this machine for the progress.
    guard = MemoryGuard(sys.maxsize, tree.sample)
    place = Path(options.output_dir)
    absolute_place = absolute(place)
    largest_first = sorted(range(len(archives)), key=lambda number: -archives.sizes[number])
    requests = (ExportJob(number, everywhere(options_of(number)), resume=True) for number in largest_first)
    peak_bytes = None
    tasks = ClusterTasks(client, options, record.say, debug=debug)
    with record.monitored(guard, on_progress) as monitor, tasks:
        record.counters.in_hand = tasks.in_hand
        try:
            for answer in tasks.answers(requests, monitor.check):
                if answer.summary is not None and answer.summary.peak_memory_bytes is not None:
                    peak_bytes = max(peak_bytes or 0, answer.summary.peak_memory_bytes)
                record.note(_as_named(answer, place, absolute_place))
        except BaseException:
            for number in tasks.stop():
                record.answered(JobResult(number, error=StoppedError(signal.SIGTERM, kept="complete")))
            raise
    return record.migration(tasks.threads, peak_bytes, tree.metric)


def _as_named(answer: JobResult, place: Path, absolute_place: Path) -> JobResult:
    """The answer, with paths that begin as the option does: workers know the absolute ones only."""
    if place == absolute_place:
        return answer

    def named(path: Path) -> Path:
        return place / path.relative_to(absolute_place)

    summary, earlier = answer.summary, answer.earlier
    if summary is not None and summary.path is not None and summary.directory is not None:
        summary = replace(summary, path=named(summary.path), directory=named(summary.directory))
    if earlier is not None:
        earlier = replace(earlier, directory=named(earlier.directory))
    return replace(answer, summary=summary, earlier=earlier)
