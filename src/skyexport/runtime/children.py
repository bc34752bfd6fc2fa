"""Child processes: started, listened to, watched, and stopped, whatever signals arrive.

A thread listens to each child and passes on its messages; another one kills children that have stalled. The end of a
child's output says that it has ended.
"""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar

from skyexport.errors import WorkerError
from skyexport.runtime.cleanup import start_thread, uninterrupted
from skyexport.runtime.for_tests import Limit
from skyexport.runtime.processes import is_stopped

__all__ = ["STOPPED_SECONDS", "Child", "Children", "StallWatch", "spawn"]

STOPPED_SECONDS = Limit("STOPPED_SECONDS", 3.0)
"""How long a child may be stopped (SIGSTOP): long enough for a user who stops all processes and continues them."""

_WATCH_SECONDS = 0.5
"""Time between checks whether children have stalled."""

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
        if self._stopped_seconds >= STOPPED_SECONDS.value:
            stalled = f"was stopped for more than {STOPPED_SECONDS.value:.0f} seconds"
        elif self._silent_seconds >= may_be_silent_seconds:
            stalled = f"made no progress for {may_be_silent_seconds:.0f} seconds"
        if stalled:
            process.kill()
        return stalled


@dataclass(eq=False, kw_only=True)
class Child:
    """One child process."""

    number: int
    process: subprocess.Popen[bytes]
    stalled: str = ""
    """Why it was killed; empty if it was not."""
    watch: StallWatch = field(default_factory=StallWatch)

    def kill_if_stalled(self, passed_seconds: float) -> None:
        """Kill the child if it has stalled, *passed_seconds* after the last check."""
        raise NotImplementedError

    def end_input(self) -> None:
        """Close the input of the child."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()

    def close(self) -> None:
        """Close the pipes of a child that has ended, once nobody listens to it any more."""
        self.end_input()
        assert self.process.stdout is not None
        with contextlib.suppress(OSError):
            self.process.stdout.close()


ChildT = TypeVar("ChildT", bound=Child)
MessageT = TypeVar("MessageT")


class Children(Generic[ChildT, MessageT]):
    """The children of one owner. `stop` ends them all.

    Args:
        read: Waits for the next message of a child, in a thread that no signal interrupts; None, or an exception, at
            the end of its output.
        grace_seconds: Time for a child to end by itself when its input ends, before it is killed.
    """

    _stopped = True

    def __init__(self, read: Callable[[ChildT], MessageT | None], *, grace_seconds: float = 0.0) -> None:
        self._read = read
        self._grace_seconds = grace_seconds
        self._events: queue.SimpleQueue[tuple[ChildT, MessageT | None]] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._stopping = threading.Event()
        self.present: list[ChildT] = []
        self._stopped = False

    def __del__(self) -> None:
        # A signal may have come before the owner had it. (The threads do not hold it.)
        self.stop()

    def add(self, child: ChildT) -> None:
        """Listen to a child that was just started, and watch it. Call this where no signal interrupts.

        Raises:
            WorkerError: The system gives no more threads.
        """
        self.present.append(child)
        self._begin(_listen, child, self._read, self._events)
        if len(self._threads) == 1:
            self._begin(_kill_stalled, self._stopping, partial(list, self.present))

    def remove(self, child: ChildT) -> None:
        """Remove a child that has ended."""
        child.process.wait()
        child.close()
        self.present.remove(child)

    def _begin(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        try:
            start_thread(thread, self._threads)
        except RuntimeError as error:
            raise WorkerError(f"the system gives no more threads: {error}", "use fewer, with --workers") from error

    def receive(self, timeout_seconds: float) -> tuple[ChildT, MessageT | None] | None:
        """Wait for the next message.

        Returns:
            A child and its message, or a child and None if it has ended; None if nothing came in time.
        """
        try:
            return self._events.get(timeout=timeout_seconds)
        except queue.Empty:
            return None

    def stop(self) -> None:
        """End all children, and what listens to them. It may be called more than once."""
        if not self._stopped:
            uninterrupted(self._stop)

    def _stop(self) -> None:
        self._stopping.set()
        if self._grace_seconds:
            for child in self.present:
                child.end_input()
        deadline = time.monotonic() + self._grace_seconds
        for child in self.present:
            with contextlib.suppress(subprocess.TimeoutExpired):
                if self._grace_seconds:
                    child.process.wait(timeout=max(0.0, deadline - time.monotonic()))
        for child in self.present:
            child.process.kill()
        for child in self.present:
            child.process.wait()
        for thread in self._threads:
            thread.join()
        for child in self.present:
            child.close()
        self.present.clear()
        self._threads.clear()
        self._stopped = True


def _listen(
    child: ChildT,
    read: Callable[[ChildT], MessageT | None],
    events: queue.SimpleQueue[tuple[ChildT, MessageT | None]],
) -> None:
    """Pass on the messages of a child; None once it has ended."""
    while True:
        message: MessageT | None = None
        with contextlib.suppress(Exception):
            message = read(child)
        events.put((child, message))
        if message is None:
            return


def _kill_stalled(stopping: threading.Event, watched: Callable[[], Sequence[Child]]) -> None:
    """Kill stalled processes until *stopping* is set; *watched* returns the present processes."""
    last = time.monotonic()
    while not stopping.wait(_WATCH_SECONDS):
        now = time.monotonic()
        # If this process was stopped, or the machine was asleep, the others may have been too.
        passed = min(now - last, 2 * _WATCH_SECONDS)
        last = now
        for child in watched():
            child.kill_if_stalled(passed)


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
