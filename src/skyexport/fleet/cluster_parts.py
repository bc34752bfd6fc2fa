"""One large archive on a Dask cluster: each data file of a split export is a task."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from distributed import Client

from skyexport.fleet.archive_worker import PartJob
from skyexport.fleet.cluster_tasks import ClusterTasks, everywhere
from skyexport.options.export_options import ExportOptions
from skyexport.pipeline.parts import Part, WrittenPart

__all__ = ["ClusterParts"]


class ClusterParts:
    """The workers of a cluster as writers of parts.

    Args:
        client: The client of the cluster.
        options: The options of the export.
        say: Called with lines for people.
        debug: Let exporters write to the standard error of their workers.

    Raises:
        WorkerError, MissingExtraError: A worker cannot export.
    """

    def __init__(self, client: Client, options: ExportOptions, say: Callable[[str], None], *, debug: bool) -> None:
        self._options = everywhere(options)
        self._tasks = ClusterTasks(client, options, say, debug=debug)
        self.workers = self._tasks.threads

    def written(self, parts: Iterator[Part], check: Callable[[], None]) -> Iterator[WrittenPart]:
        """As `PartWriters` says."""
        requests = (PartJob(part.number, replace(part, options=self._options)) for part in parts)
        with self._tasks:
            try:
                for answer in self._tasks.answers(requests, check):
                    if answer.error is not None:
                        raise answer.error
                    assert answer.part is not None
                    yield answer.part
            except BaseException:
                self._tasks.stop()
                raise

    def in_hand(self) -> tuple[int, int]:
        """As `PartWriters` says."""
        moments = self._tasks.in_hand()
        return sum(moment.posts for moment in moments), sum(moment.bytes for moment in moments)
