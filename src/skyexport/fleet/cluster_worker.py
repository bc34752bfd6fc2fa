"""The work of a Dask worker: it keeps an exporter process, and hands it one archive after the other.

A task runs in a thread of the worker, where neither signal handlers nor `multiprocessing` work. So the export runs in a
process of its own, as with many archives on one machine. If the worker dies, the input of that process ends, and it
undoes its unfinished export. If nobody wants the result of a task any more, the task stops the process in the same way:
after Ctrl-C, and if the client dies.

A task may run twice: its worker dies, or can no longer reach the scheduler and goes on. So each attempt first looks for
a complete export of the archive, and writes under a hidden name of its own. It returns facts, and never bytes.
"""

from __future__ import annotations

import contextlib
import pickle
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dask.typing import Key
from distributed import Worker, get_worker
from distributed.diagnostics.plugin import WorkerPlugin

from skyexport import __version__
from skyexport.errors import AlreadyRunningError, ExportError, MemoryLimitError, StoppedError, WorkerError
from skyexport.fleet.archive_pool import ArchivePool, ArchiveWorker
from skyexport.fleet.archive_worker import ExportJob, JobResult, ProgressUpdate, Request
from skyexport.fleet.cluster import at_worker, version_problem
from skyexport.output.places import remove_partial
from skyexport.runtime.for_tests import Limit

__all__ = ["ExporterPlugin", "run_request", "stop_exporters"]

_POLL_SECONDS = 0.1
"""How often to look whether a task should stop."""

_TELL_SECONDS = 1.0
"""Between two reports of progress to the client: hundreds of workers report to one scheduler."""

_OTHER_ATTEMPT_SECONDS = Limit("OTHER_ATTEMPT_SECONDS", 60.0)
"""How long to wait for another attempt at the same archive, which may be undoing its work."""

_STOP_SECONDS = 10.0
"""How long the tasks of a worker may take to stop."""

_IDLE_SECONDS = Limit("IDLE_SECONDS", 10.0)
"""How long an exporter waits for the next task. A client that was killed ends none of them."""


def run_request(request: Request, migration: str) -> JobResult:
    """The task: do what the exporter process is asked.

    Args:
        request: What to export; all its paths are absolute.
        migration: Name of the migration, and of its plugin.
    """
    worker = get_worker()
    plugin = worker.plugins[migration]
    assert isinstance(plugin, ExporterPlugin)
    return plugin.export(request, worker.get_current_task())


def stop_exporters(migration: str, dask_worker: Worker) -> list[int]:
    """Runs on each worker when a migration is stopped: stop its exports, and wait until they are undone.

    Returns:
        The numbers of the archives that have an export, also those whose outcome nobody waits for.
    """
    plugin = dask_worker.plugins.get(migration)
    return plugin.stop() if isinstance(plugin, ExporterPlugin) else []


class ExporterPlugin(WorkerPlugin):
    """The exporters of one migration on one worker: one for each of its threads.

    Args:
        name: Name of the migration.
        debug: Let exporters write to the worker's standard error.
    """

    def __init__(self, name: str, *, debug: bool) -> None:
        self.name = name
        self._debug = debug
        self._version = __version__

    def setup(self, worker: Worker) -> None:
        """Called by Dask on each worker, also on those that come later."""
        self._worker = worker
        self._changed = threading.Condition()
        self._idle: list[tuple[_Exporter, float]] = []
        """Exporters without a task, each since when."""
        self._ender: threading.Thread | None = None
        self._wanted: dict[Key, bool] = {}
        """Key of each running task → whether somebody wants its result."""
        self._complete: list[int] = []
        """Archives that have an export, whether the client has heard of it or not."""
        self._ended = False

    def teardown(self, worker: Worker) -> None:
        """Called by Dask when the migration has ended, or the worker ends."""
        del worker
        self.stop()

    def transition(self, key: Key, start: str, finish: str, **_: Any) -> None:
        """Called by Dask for each task whose state changes."""
        del start
        if finish in ("released", "cancelled"):
            with self._changed:
                if key in self._wanted:
                    self._wanted[key] = False

    def stop(self) -> list[int]:
        """Stop all exporters, and wait until their exports are undone.

        Returns:
            The archives that have an export, also those whose outcome nobody waits for.
        """
        with self._changed:
            self._ended = True
            self._changed.wait_for(lambda: not self._wanted, _STOP_SECONDS)
            idle, self._idle = self._idle, []
        for exporter, _ in idle:
            exporter.stop()
        return self._complete

    def export(self, request: Request, key: Key) -> JobResult:
        """Export an archive, in the thread of a task."""
        problem = version_problem(self._version, self._worker)
        if problem is not None:
            return JobResult(request.number, error=problem)
        with self._running(key):
            try:
                answer = self._attempts(request, key)
            except WorkerError as error:
                answer = JobResult(request.number, error=error)
            if answer.has_export:
                self._complete.append(request.number)
        if answer.error is not None:
            at_worker(answer.error, self._worker)
        self._tell(pickle.dumps(answer))
        return answer

    @contextlib.contextmanager
    def _running(self, key: Key) -> Iterator[None]:
        with self._changed:
            self._wanted[key] = True
        try:
            yield
        finally:
            with self._changed:
                del self._wanted[key]
                self._changed.notify_all()

    def _is_wanted(self, key: Key) -> bool:
        with self._changed:
            return self._wanted[key] and not self._ended

    def _attempts(self, request: Request, key: Key) -> JobResult:
        """Export an archive; if another attempt at it holds the place, wait for that."""
        until = time.monotonic() + _OTHER_ATTEMPT_SECONDS.value
        while True:
            answer = self._attempt(request, key)
            held = isinstance(answer.error, AlreadyRunningError)
            if not held or time.monotonic() > until or not self._is_wanted(key):
                return answer
            time.sleep(_POLL_SECONDS)

    def _attempt(self, request: Request, key: Key) -> JobResult:
        exporter = self._take()
        answer: JobResult | None = None
        try:
            exporter.give(request)
            told = time.monotonic()
            while not exporter.has_answered():
                if not self._is_wanted(key):
                    return exporter.stop() or JobResult(request.number, error=StoppedError(signal.SIGTERM))
                if time.monotonic() >= told + _TELL_SECONDS:
                    told = time.monotonic()
                    if exporter.moment is not None:
                        self._tell(_facts_of(exporter.moment))
            answer = exporter.answer(request)
            return answer
        finally:
            if answer is None or not self._keeps(exporter, answer.error):
                exporter.stop()

    def _take(self) -> _Exporter:
        with self._changed:
            if self._idle:
                return self._idle.pop()[0]
        return _Exporter(debug=self._debug)

    def _keeps(self, exporter: _Exporter, error: ExportError | None) -> bool:
        """Keep an exporter for the next task, unless it ends by itself or the migration has ended."""
        with self._changed:
            if self._ended or isinstance(error, WorkerError | MemoryLimitError | StoppedError):
                return False
            self._idle.append((exporter, time.monotonic()))
            if self._ender is None:
                self._ender = threading.Thread(target=self._end_idle, name="skyexport-idle", daemon=True)
                self._ender.start()
            return True

    def _end_idle(self) -> None:
        """End exporters that nobody needs any more, until there is none without a task."""
        while self._ender is not None:
            time.sleep(_IDLE_SECONDS.value / 10)
            with self._changed:
                before = time.monotonic() - _IDLE_SECONDS.value
                ended = [exporter for exporter, since in self._idle if since < before]
                self._idle = [(exporter, since) for exporter, since in self._idle if since >= before]
                if not self._idle:
                    self._ender = None
            for exporter in ended:
                exporter.stop()

    def _tell(self, message: object) -> None:
        """Send the client progress, or an answer before it is fetched."""
        # It cannot be sent, for example, when the scheduler is gone.
        with contextlib.suppress(Exception):
            self._worker.log_event(self.name, message)


def _facts_of(moment: ProgressUpdate) -> dict[str, object]:
    return {key: getattr(moment, key) for key in ("number", "posts", "bytes", "fraction")}


class _Exporter:
    """One exporter process, which lives longer than a task."""

    def __init__(self, *, debug: bool) -> None:
        self._answers: list[JobResult] = []
        self._pool = ArchivePool(1, lambda _: None, self._answers.append, debug=debug)
        self._process: ArchiveWorker = self._pool.exporters[0]
        self._ended = False

    @property
    def moment(self) -> ProgressUpdate | None:
        """The last progress of the export in work."""
        return self._process.moment

    def give(self, request: Request) -> None:
        """Begin an export."""
        self._answers.clear()
        self._process.give(request)

    def has_answered(self) -> bool:
        """Wait a moment; whether the export has ended, or the process."""
        received = self._pool.receive(_POLL_SECONDS)
        self._ended = received is not None and received[1] is None
        return received is not None

    def answer(self, request: Request) -> JobResult:
        """The outcome of the export that has ended."""
        if not self._ended:
            self._process.answered(request.number)
            return self._answers[0]
        if isinstance(request, ExportJob):
            remove_partial(Path(request.options.output_dir))
        return JobResult(request.number, error=self._pool.how_it_died(self._process))

    def stop(self) -> JobResult | None:
        """End the process; it undoes an unfinished export.

        Returns:
            Its answer, if the export has ended all the same.
        """
        self._pool.stop()
        return self._answers[0] if self._answers else None
