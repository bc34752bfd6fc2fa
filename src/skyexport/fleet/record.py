"""The record of a migration while it runs: what came of each archive, for the progress and for the result."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from skyexport.errors import ExportError, StoppedError
from skyexport.fleet.archive_list import ArchiveList
from skyexport.fleet.archive_worker import JobResult
from skyexport.fleet.progress import MigrationCounters, MigrationProgress
from skyexport.fleet.results import Migration, Outcome, Outcomes
from skyexport.notices import about
from skyexport.options.export_options import ExportOptions, resolve
from skyexport.runtime.memory import UNKNOWN_MEMORY, MemoryGuard, Metric
from skyexport.runtime.progress import Monitor, Progress

__all__ = ["MigrationRecord"]


class MigrationRecord:
    """The outcomes and counters of all archives, whoever exports them.

    Args:
        archives: The archives.
        options: The options for all of them.
        on_outcome: Called with the outcome of each archive as soon as it is known.
        say: Called with further messages for people, one line each.
    """

    def __init__(
        self,
        archives: ArchiveList,
        options: ExportOptions,
        on_outcome: Callable[[Outcome], None],
        say: Callable[[str], None],
    ) -> None:
        self._archives = archives
        self._options = options
        self._on_outcome = on_outcome
        self.say = say
        self._outcomes = Outcomes(len(archives))
        self.counters = MigrationCounters(archives)
        self._has_export = bytearray(len(archives))
        """1 for each archive that has an export now, even if the migration stopped before its outcome."""

    @contextlib.contextmanager
    def monitored(
        self, guard: MemoryGuard, on_progress: Callable[[MigrationProgress], None] | None
    ) -> Iterator[Monitor]:
        """Report the progress meanwhile; an error that ends the migration says how many archives are complete."""

        def report(moment: Progress) -> None:
            if on_progress is not None and isinstance(moment, MigrationProgress):
                on_progress(moment)

        try:
            with Monitor(self.counters, guard, report) as monitor:
                self.counters.stage = "exporting"
                yield monitor
        except StoppedError as error:
            error.message = f"stopped by a signal; {self._complete()}"
            raise
        except ExportError as error:
            error.message = f"{error.message}; {self._complete()}"
            raise

    def _complete(self) -> str:
        complete = self._has_export.count(1)
        are = "is" if complete == 1 else "are"
        return f"{complete:,} of {len(self._archives):,} archives {are} complete"

    def answered(self, answer: JobResult) -> None:
        """Remember an export, also one that becomes complete while the migration stops."""
        if answer.has_export:
            self._has_export[answer.number] = 1

    def note(self, answer: JobResult) -> None:
        """Record the outcome of an archive."""
        self.answered(answer)
        counters = self.counters
        path = self._archives[answer.number]
        for line in answer.messages:
            # The migration has printed this line once for all archives.
            if line != UNKNOWN_MEMORY:
                self.say(about(path, line))
        outcome = Outcome(path, answer.summary, answer.earlier, answer.error)
        self._outcomes.put(answer.number, outcome)
        counters.archives += 1
        counters.archives_failed += outcome.status == "failed"
        counters.source_bytes += self._archives.sizes[answer.number]
        if answer.summary is not None:
            counters.posts += answer.summary.posts
            counters.bytes += answer.summary.bytes
        self._on_outcome(outcome)

    def migration(self, exporters: int, peak_memory_bytes: int | None, memory_metric: Metric | None) -> Migration:
        """The result, once every archive has its outcome.

        Args:
            exporters: As in `Migration`, and so are the others.
        """
        archives = self._archives
        return Migration(
            outcomes=self._outcomes, format=resolve(self._options).format, output_dir=Path(self._options.output_dir),
            author=self._options.author, exporters=exporters, posts=self.counters.posts, bytes=self.counters.bytes,
            seconds=self.counters.seconds, shard=archives.shard, places=archives.places,
            archives_in_all_shards=archives.in_all_shards, peak_memory_bytes=peak_memory_bytes,
            memory_metric=memory_metric,
        )  # fmt: skip
