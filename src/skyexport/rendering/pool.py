"""Worker processes from the outside: starting them, and talking to them.

A worker is a fresh interpreter that talks over its standard input and output. When the coordinator ends, for any
reason, the workers' input closes, and that ends them. A worker that stalls is killed, and is then dead like any other:
the coordinator never waits for ever, neither for a worker that hangs nor for one that does not read its input.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Self

from skyexport import errors
from skyexport.archive.plan import KeyRange, PageNumber, Unit
from skyexport.errors import ExportError, WorkerError
from skyexport.posts import LargePost
from skyexport.rendering.messages import Frame, Kind, encode_unit, read_frame, write_frame
from skyexport.rendering.renderer import SLOT_BYTES
from skyexport.rendering.slots import Slots
from skyexport.rendering.worker import WorkerSetup
from skyexport.runtime.children import Child, Children, spawn
from skyexport.runtime.cleanup import uninterrupted
from skyexport.runtime.for_tests import Limit
from skyexport.runtime.processes import how_it_ended

__all__ = ["BATCHES_A_WORKER", "SILENT_LARGE_SECONDS", "Pool", "Worker"]

BATCHES_A_WORKER = 4
"""The one being rendered, and some ahead: a worker goes on while another one, or the writer, is late."""

_START_SECONDS = 60
"""No machine takes longer to start an interpreter; a worker that is silent for so long stays silent."""

SILENT_SECONDS = Limit("SILENT_SECONDS", 120.0)
"""How long a worker may be silent: a thousand times the usual time between beats, for slow disks."""

SILENT_LARGE_SECONDS = Limit("SILENT_LARGE_SECONDS", 1200.0)
"""The same with a large post, which SQLite reads in one go: 1 GB at 1 MB/s."""

_NO_MEMORY_HINT = "the system may have run out of memory; try fewer workers, or --workers 0"

_PROGRAM = "from skyexport.rendering.worker import main; main()"


@dataclass(eq=False, kw_only=True)
class Worker(Child):
    """One worker process."""

    slots: Slots
    batches: dict[int, Unit] = field(default_factory=dict)
    """Units handed out and not yet finished, by sequence number, the one being rendered first."""
    large: LargePost | None = None
    """The large post that it is rendering, or waits to render."""

    def send(self, kind: Kind, sequence: int = 0, payload: bytes = b"") -> None:
        """Send a message. If the worker is dead, this does nothing: the end of its stream reports that."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            write_frame(self.process.stdin, kind, sequence, payload)

    def give(self, sequence: int, unit: Unit) -> None:
        """Hand out a unit of work."""
        self.batches[sequence] = unit
        kind, payload = encode_unit(unit)
        self.send(kind, sequence, payload)

    def finished(self, sequence: int) -> None:
        """Note that a unit is complete."""
        del self.batches[sequence]
        self.large = None

    def kill_if_stalled(self, passed_seconds: float) -> None:
        """Kill the worker if it has stalled, *passed_seconds* after the last check."""
        may_be_silent = SILENT_LARGE_SECONDS if self.large is not None else SILENT_SECONDS
        self.stalled = self.stalled or self.watch.look(
            self.process, self.slots.beats, passed_seconds, may_be_silent.value
        )

    def close(self) -> None:
        """Close the pipes, and free the slots."""
        super().close()
        self.slots.close()


class Pool:
    """The workers of one export. Use it in a `with` statement: leaving it ends them.

    Args:
        setup: The facts that every worker needs.
        workers: Number of workers.
        debug: Let them write to this process's standard error.

    Raises:
        WorkerError: A process cannot be started.
    """

    def __init__(self, setup: WorkerSetup, workers: int, *, debug: bool = False) -> None:
        self._children: Children[Worker, Frame] = Children(_next_frame)
        self.workers = self._children.present
        try:
            for number in range(1, workers + 1):
                uninterrupted(partial(self._start, number, setup, debug=debug))
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        self.stop()

    def _start(self, number: int, setup: WorkerSetup, *, debug: bool) -> None:
        slots = None
        try:
            slots = Slots.create(SLOT_BYTES)
            process = spawn(_PROGRAM, (slots.handle.descriptor,), debug=debug)
        except OSError as error:
            if slots is not None:
                slots.close()
            raise WorkerError(
                f"worker {number} could not be started: {error.strerror}", "use fewer workers, or --workers 0"
            ) from error
        worker = Worker(number=number, process=process, slots=slots)
        self._children.add(worker)
        worker.send(Kind.SETUP, payload=setup.to_json(slots.handle))

    def wait_until_ready(self) -> None:
        """Wait until every worker has loaded everything, so that all of them answer at once from now on.

        Raises:
            WorkerError: One died, or did not start in time.
        """
        self._answers()

    def pin(self) -> bool:
        """Let every worker hold the present state of the archive.

        Returns:
            False if another program's writing prevented that in one of them.

        Raises:
            WorkerError, ExportError: A worker died, or could not open the archive.
        """
        for worker in self.workers:
            worker.send(Kind.PIN)
        return not any(frame.payload for frame in self._answers())

    def unpin(self) -> None:
        """Let every worker release the state that it holds, if any."""
        for worker in self.workers:
            worker.send(Kind.UNPIN)

    def _answers(self) -> list[Frame]:
        """One message from each worker."""
        answers = [self.receive(_START_SECONDS) for _ in self.workers]
        frames = [answer[1] for answer in answers if answer is not None]
        if len(frames) < len(answers):
            raise WorkerError(f"a worker did not respond for {_START_SECONDS} seconds", "try --workers 0")
        return frames

    def receive(self, timeout_seconds: float) -> tuple[Worker, Frame] | None:
        """The next message of any worker; None if none arrives in time.

        Raises:
            WorkerError, ExportError: A worker died or failed.
        """
        received = self._children.receive(timeout_seconds)
        if received is None:
            return None
        worker, frame = received
        if frame is None:
            raise self._death(worker)
        if frame.kind is Kind.FAILED:
            raise _failure(worker, json.loads(frame.payload))
        return worker, frame

    def _death(self, worker: Worker) -> WorkerError:
        how, hint = how_it_ended(worker.process), _NO_MEMORY_HINT
        if worker.stalled:
            how, hint = worker.stalled, "find out what stopped it, or try --workers 0"
        return WorkerError(f"worker {worker.number} {how} {_during(worker)}", hint)

    def stop(self) -> None:
        """Kill all workers, whatever they are doing, and free their slots. May be called more than once."""
        self._children.stop()


def _next_frame(worker: Worker) -> Frame | None:
    assert worker.process.stdout is not None
    return read_frame(worker.process.stdout)


def _failure(worker: Worker, fields: dict[str, str]) -> ExportError:
    kind = getattr(errors, fields["kind"], None)
    if isinstance(kind, type) and issubclass(kind, ExportError):
        return kind(fields["message"], fields["hint"])
    hint = _NO_MEMORY_HINT if fields["kind"] == MemoryError.__name__ else "please report it"
    error = WorkerError(f"worker {worker.number} failed {_during(worker)}: {fields['message']}", hint)
    error.add_note(fields["traceback"])
    return error


def _during(worker: Worker) -> str:
    """The unit that the worker was rendering, for messages."""
    for sequence, batch in worker.batches.items():
        if isinstance(batch, PageNumber):
            return f"in page {batch.number}"
        ends = (batch.first, batch.last) if isinstance(batch, KeyRange) else (batch.row_ids[0], batch.row_ids[-1])
        return f"in batch {sequence} ({batch.posts:,} posts, from row id {ends[0]} to {ends[1]})"
    return "before its first batch"
