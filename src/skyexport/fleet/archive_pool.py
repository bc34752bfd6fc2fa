"""ArchivePool from the outside: starting them, and handing them archives.

An exporter does whole exports, so it can fail without the others. To stop one, its input is closed; then it undoes its
unfinished export.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Self

from skyexport.errors import WorkerError
from skyexport.fleet.archive_worker import JobResult, ProgressUpdate, Request, read_message, write_message
from skyexport.rendering.pool import SILENT_LARGE_SECONDS
from skyexport.runtime.children import Child, Children, spawn
from skyexport.runtime.cleanup import uninterrupted
from skyexport.runtime.for_tests import Limit
from skyexport.runtime.processes import how_it_ended
from skyexport.runtime.signals import STOPPING

__all__ = ["ArchivePool", "ArchiveWorker"]

REQUESTS_AT_ONCE = Limit("REQUESTS_AT_ONCE", 2)
"""The archive in work and the next one, so that an exporter never waits."""

_LEAVE_SECONDS = Limit("LEAVE_SECONDS", 5.0)
"""Time for an exporter to stop: undoing an export takes milliseconds, unless the disk is slow."""

_STOPPED = tuple(128 + number for number in STOPPING)
"""Exit statuses of an exporter that a signal stopped."""

_PROGRAM = "from skyexport.fleet.archive_worker import main; main()"


@dataclass(eq=False, kw_only=True)
class ArchiveWorker(Child):
    """One exporter process."""

    requests: dict[int, Request] = field(default_factory=dict)
    """Number → request, of the requests without an answer; the one in work is the first."""
    moment: ProgressUpdate | None = None
    """The last progress of the request in work; None before the first."""
    leaves: bool = False
    """Whether the exporter is about to end by itself."""

    def give(self, request: Request) -> None:
        """Send a request. If the exporter is dead, the end of its output will show it."""
        self.requests[request.number] = request
        assert self.process.stdin is not None
        with contextlib.suppress(OSError, ValueError):
            write_message(self.process.stdin, request)

    def answered(self, number: int) -> None:
        """Note that the request with this number has its answer."""
        del self.requests[number]
        self.moment = None

    def kill_if_stalled(self, passed_seconds: float) -> None:
        """Kill the exporter if it has made no progress for too long.

        Args:
            passed_seconds: Time since the last call.
        """
        in_hand = next(iter(list(self.requests)), None)
        seen = None if in_hand is None else (in_hand, None if self.moment is None else self.moment.pulse)
        self.stalled = self.stalled or self.watch.look(self.process, seen, passed_seconds, SILENT_LARGE_SECONDS.value)


class ArchivePool:
    """The exporters of one migration. Use it in a `with` statement, which stops them at its end.

    Args:
        exporters: The number of exporters.
        on_start: Called with the process id of each new exporter.
        on_answer: Called with each answer as it comes, in a thread that no signal interrupts.
        debug: Let exporters write to this process's standard error.

    Raises:
        WorkerError: A process cannot be started.
    """

    def __init__(
        self,
        exporters: int,
        on_start: Callable[[int], None],
        on_answer: Callable[[JobResult], None] = lambda _: None,
        *,
        debug: bool = False,
    ) -> None:
        self._children: Children[ArchiveWorker, JobResult] = Children(
            partial(_next_answer, on_answer), grace_seconds=_LEAVE_SECONDS.value
        )
        self._on_start = on_start
        self._debug = debug
        self._started = 0
        self.exporters = self._children.present
        try:
            for _ in range(exporters):
                self.start()
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Start one more exporter.

        Raises:
            WorkerError: The process cannot be started.
        """
        uninterrupted(self._start)

    def _start(self) -> None:
        self._started += 1
        try:
            process = spawn(_PROGRAM, debug=self._debug)
        except OSError as error:
            raise WorkerError(
                f"cannot start exporter {self._started}: {error.strerror}", "use fewer, with --workers"
            ) from error
        self._children.add(ArchiveWorker(number=self._started, process=process))
        self._on_start(process.pid)

    def remove(self, exporter: ArchiveWorker) -> None:
        """Remove an exporter that has ended."""
        self._children.remove(exporter)

    def receive(self, timeout_seconds: float) -> tuple[ArchiveWorker, JobResult | None] | None:
        """Wait for the next answer.

        Returns:
            An exporter and its answer, or an exporter and None if it has ended; None if nothing came in time.
        """
        return self._children.receive(timeout_seconds)

    def how_it_died(self, exporter: ArchiveWorker) -> WorkerError:
        """The error for an exporter that ended by itself."""
        how = how_it_ended(exporter.process)
        hint = "the system may have run out of memory; try fewer, with --workers"
        if exporter.stalled:
            how, hint = exporter.stalled, "find out who or what stopped it"
        return WorkerError(f"the exporter of this archive {how}", hint)

    def was_stopped(self, exporter: ArchiveWorker) -> bool:
        """Whether a signal ended the exporter while it had no archive in work."""
        exporter.process.wait()
        return exporter.process.returncode in _STOPPED

    def stop(self) -> None:
        """Stop all exporters; they undo their unfinished exports. It may be called more than once."""
        self._children.stop()


def _next_answer(on_answer: Callable[[JobResult], None], exporter: ArchiveWorker) -> JobResult | None:
    """The next answer of an exporter, which *on_answer* gets first; None at the end of its output."""
    assert exporter.process.stdout is not None
    while True:
        message: JobResult | ProgressUpdate | None = read_message(exporter.process.stdout)
        if not isinstance(message, ProgressUpdate):
            if message is not None:
                on_answer(message)
            return message
        exporter.moment = message
