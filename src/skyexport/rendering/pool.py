"""Worker processes from the outside: starting them, talking to them, noticing when one dies, stopping them.

A worker is a fresh interpreter that talks over its standard input and output. For each worker, a thread reads its
messages into one common queue. When the coordinator ends, for any reason, the workers' input closes, and that ends
them.

Another thread watches the beats of all workers and kills a stalled worker, which is then dead like any other. So the
coordinator never waits for ever, neither for a worker that hangs nor for one that does not read its input.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Protocol, Self

from skyexport import errors
from skyexport.archive.plan import Batch, KeyRange
from skyexport.errors import ExportError, WorkerError
from skyexport.posts import LargePost
from skyexport.rendering.messages import Frame, Kind, encode_batch, read_frame, write_frame
from skyexport.rendering.renderer import SLOT_BYTES
from skyexport.rendering.slots import Slots
from skyexport.rendering.worker import WorkerSetup
from skyexport.runtime.cleanup import start_thread, uninterrupted
from skyexport.runtime.processes import how_it_ended, is_stopped

__all__ = ["BATCHES_A_WORKER", "SILENT_LARGE_SECONDS", "Pool", "StallWatch", "Worker", "kill_stalled", "spawn"]

BATCHES_A_WORKER = 4
"""The one being rendered, and some ahead: a worker goes on while another one, or the writer, is late."""

_START_SECONDS = 60
"""No machine takes longer to start an interpreter; a worker that is silent for so long stays silent."""

STOPPED_SECONDS = 3.0
"""How long a worker may be stopped (SIGSTOP): long enough for a user who stops all processes and continues them."""

SILENT_SECONDS = 120.0
"""How long a worker may be silent: a thousand times the usual time between beats, for slow disks."""

SILENT_LARGE_SECONDS = 1200.0
"""The same with a large post, which SQLite reads in one go: 1 GB at 1 MB/s."""

_WATCH_SECONDS = 0.5
"""Time between checks of the beats."""

_NO_MEMORY_HINT = "the system may have run out of memory; try fewer workers, or --workers 0"

_PROGRAM = "from skyexport.rendering.worker import main; main()"


_KEEP_FREED_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "8388608", "MALLOC_TRIM_THRESHOLD_": "16777216"}
"""For glibc: returning the megabytes of each batch to the system and getting them again took an eighth of the time.
Larger pieces, those of a large post, go back at once; otherwise each worker would keep the memory of its last one."""


class StallWatch:
    """Notices when a living process has stalled."""

    def __init__(self) -> None:
        self._seen: object = None
        self._silent_seconds = 0.0
        self._stopped_seconds = 0.0

    def look(
        self, process: subprocess.Popen[bytes], seen: object, passed_seconds: float, may_be_silent_seconds: float
    ) -> str:
        """Check a process, and kill it if it has stalled.

        Args:
            process: The process, the same in every call.
            seen: A value that changes with any progress; None if the process has nothing to do.
            passed_seconds: Time since the last check.
            may_be_silent_seconds: How long *seen* may stay the same.

        Returns:
            The reason why the process was killed; empty if it was not.
        """
        if seen is None or seen != self._seen:
            self._seen = seen
            self._silent_seconds = self._stopped_seconds = 0.0
            return ""
        self._silent_seconds += passed_seconds
        self._stopped_seconds = self._stopped_seconds + passed_seconds if is_stopped(process.pid) else 0.0
        stalled = ""
        if self._stopped_seconds >= STOPPED_SECONDS:
            stalled = f"was stopped for more than {STOPPED_SECONDS:.0f} seconds"
        elif self._silent_seconds >= may_be_silent_seconds:
            stalled = f"made no progress for {may_be_silent_seconds:.0f} seconds"
        if stalled:
            process.kill()
        return stalled


@dataclass(eq=False)
class Worker:
    """One worker process."""

    number: int
    process: subprocess.Popen[bytes]
    slots: Slots
    batches: dict[int, Batch] = field(default_factory=dict)
    """Batches handed out and not yet finished, by sequence number, the one being rendered first."""
    large: LargePost | None = None
    """The large post that it is rendering, or waits to render."""
    stalled: str = ""
    """The reason why it was killed; empty if it was not."""
    _watch: StallWatch = field(default_factory=StallWatch)

    def send(self, kind: Kind, sequence: int = 0, payload: bytes = b"") -> None:
        """Send a message. If the worker is dead, this does nothing: the end of its stream reports that."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            write_frame(self.process.stdin, kind, sequence, payload)

    def give(self, sequence: int, batch: Batch) -> None:
        """Hand out a batch."""
        self.batches[sequence] = batch
        kind, payload = encode_batch(batch)
        self.send(kind, sequence, payload)

    def finished(self, sequence: int) -> None:
        """Note that a batch is complete."""
        del self.batches[sequence]
        self.large = None

    def kill_if_stalled(self, passed_seconds: float) -> None:
        """Kill the worker if it has stalled, *passed_seconds* after the last check."""
        may_be_silent = SILENT_LARGE_SECONDS if self.large is not None else SILENT_SECONDS
        self.stalled = self.stalled or self._watch.look(self.process, self.slots.beats, passed_seconds, may_be_silent)


class Pool:
    """The workers of one export. Use it in a `with` statement: leaving it ends them.

    Args:
        setup: The facts that every worker needs.
        workers: Number of workers.
        debug: Let them write to this process's standard error.

    Raises:
        WorkerError: A process cannot be started.
    """

    _stopped = True

    def __init__(self, setup: WorkerSetup, workers: int, *, debug: bool = False) -> None:
        self._events: queue.SimpleQueue[tuple[Worker, Frame | None]] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._stopping = threading.Event()
        self.workers: list[Worker] = []
        self._stopped = False
        try:
            for number in range(1, workers + 1):
                uninterrupted(partial(self._start, number, setup, debug=debug))
            if workers:
                self._begin(kill_stalled, self._stopping, partial(list, self.workers))
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        self.stop()

    def __del__(self) -> None:
        # A signal may have come before the owner had it. (The threads do not hold it.)
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
        worker = Worker(number, process, slots)
        self.workers.append(worker)
        self._begin(_listen, worker, self._events)
        worker.send(Kind.SETUP, payload=setup.to_json(slots.handle))

    def _begin(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        try:
            start_thread(thread, self._threads)
        except RuntimeError as error:
            raise WorkerError(f"the system gives no more threads: {error}", "use fewer workers") from error

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
        try:
            worker, frame = self._events.get(timeout=timeout_seconds)
        except queue.Empty:
            return None
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
        if not self._stopped:
            uninterrupted(self._stop)

    def _stop(self) -> None:
        self._stopping.set()
        for worker in self.workers:
            worker.process.kill()
        for worker in self.workers:
            worker.process.wait()
        for thread in self._threads:
            thread.join()
        for worker in self.workers:
            for stream in (worker.process.stdin, worker.process.stdout):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()
            worker.slots.close()
        self.workers.clear()
        self._threads.clear()
        self._stopped = True


def _listen(worker: Worker, events: queue.SimpleQueue[tuple[Worker, Frame | None]]) -> None:
    """Pass on the messages of a worker; None once it has ended."""
    stream = worker.process.stdout
    assert stream is not None
    frame: Frame | None = None
    while True:
        with contextlib.suppress(Exception):
            frame = read_frame(stream)
        events.put((worker, frame))
        if frame is None:
            return
        frame = None


class _Watched(Protocol):
    def kill_if_stalled(self, passed_seconds: float) -> None: ...


def kill_stalled(stopping: threading.Event, watched: Callable[[], Iterable[_Watched]]) -> None:
    """Kill stalled processes until *stopping* is set; *watched* returns the present processes."""
    last = time.monotonic()
    while not stopping.wait(_WATCH_SECONDS):
        now = time.monotonic()
        # If this process was stopped, or the machine was asleep, the others may have been too.
        passed = min(now - last, 2 * _WATCH_SECONDS)
        last = now
        for one in watched():
            one.kill_if_stalled(passed)


def spawn(program: str, descriptors: Sequence[int] = (), *, debug: bool) -> subprocess.Popen[bytes]:
    """Start a fresh interpreter, to talk to over its standard input and output.

    Args:
        program: Python source code.
        descriptors: File descriptors of this process to pass on, if the system can do that.
        debug: Let it write to this process's standard error.

    Raises:
        OSError: It cannot be started.
    """
    # -P: a json.py in the user's directory must not replace Python's own.
    command = [sys.executable, "-P", "-c", program]
    environment = {**_KEEP_FREED_MEMORY, **os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    errors_to = None if debug else subprocess.DEVNULL
    if sys.platform == "win32":
        # A process group of their own: Ctrl-C is for the coordinator, which then ends its workers.
        group = subprocess.CREATE_NEW_PROCESS_GROUP
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors_to, env=environment,
            creationflags=group,
        )  # fmt: skip
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors_to, env=environment,
        process_group=0, pass_fds=descriptors,
    )  # fmt: skip


def _failure(worker: Worker, said: dict[str, str]) -> ExportError:
    kind = getattr(errors, said["kind"], None)
    if isinstance(kind, type) and issubclass(kind, ExportError):
        return kind(said["message"], said["hint"])
    hint = _NO_MEMORY_HINT if said["kind"] == MemoryError.__name__ else "please report it"
    error = WorkerError(f"worker {worker.number} failed {_during(worker)}: {said['message']}", hint)
    error.add_note(said["traceback"])
    return error


def _during(worker: Worker) -> str:
    """The batch that the worker was rendering, for messages."""
    for sequence, batch in worker.batches.items():
        ends = (batch.first, batch.last) if isinstance(batch, KeyRange) else (batch.row_ids[0], batch.row_ids[-1])
        return f"in batch {sequence} ({batch.posts:,} posts, from row id {ends[0]} to {ends[1]})"
    return "before its first batch"
