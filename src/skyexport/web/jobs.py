"""Jobs: commands of this program that the page starts, each in a process of its own, one after the other.

    waiting → running → done, failed or stopped
                 └→ stopping ┘

A process reports its progress as `--progress json` prints it, and its result as `--json` does. The page only listens:
if it is closed, or this server is killed, the process goes on and ends as it would have.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson
import psutil

from skyexport.errors import OptionError
from skyexport.runtime.progress import duration
from skyexport.wording import format_size

__all__ = ["Job", "Jobs", "Kind", "State", "run_to_end"]

Kind = Literal["check", "export", "import", "verify"]

State = Literal["waiting", "running", "stopping", "done", "failed", "stopped"]

_ENDED = frozenset({"done", "failed", "stopped"})

_MOST_JOBS = 200
"""Jobs that are remembered; of more, the oldest that have ended are forgotten."""

_MOST_WAITING = 50

_MOST_LINES = 200
"""Lines of messages that are kept of a job."""

_LONGEST_LINE_BYTES = 1 << 20
_LONGEST_RESULT_BYTES = 30_000_000

_CHECKS_AT_ONCE = 2
"""Dry runs do not wait for exports, only for one another."""

_LOW_PRIORITY: int = getattr(psutil, "BELOW_NORMAL_PRIORITY_CLASS", 10)

_STOPPED_FROM = 128
"""Exit statuses above this one name a signal."""

_AT_ONCE = (signal.SIGINT, signal.SIGTERM)
"""Signals that make a command that is stopping end at once: the third one in all. Two of a kind could become one."""


@dataclass(eq=False)
class Job:
    """One command that the page started."""

    number: int
    kind: Kind
    title: str
    """For people, like "Export of archive.db to CSV"."""
    arguments: Sequence[str]
    """Of the program."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """For the page to go on: the archive's number, the fields of the form, the export's number."""
    state: State = "waiting"
    progress: dict[str, Any] = field(default_factory=dict)
    """The latest event; empty before the first."""
    lines: list[str] = field(default_factory=list)
    """The lines that the command printed for people."""
    result: dict[str, Any] = field(default_factory=dict)
    """The object that it printed at its end; empty before, or if it printed none."""
    exit_code: int | None = None
    began: float | None = None
    ended: float | None = None
    process: asyncio.subprocess.Process | None = None
    unsent: list[int] = field(default_factory=list)
    """Signals that came while the process was being started."""

    @property
    def has_ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in _ENDED

    @property
    def seconds(self) -> float:
        """How long it has been running, or ran."""
        return 0.0 if self.began is None else (self.ended or time.monotonic()) - self.began

    @property
    def fraction(self) -> float | None:
        """The part that is done, 0 to 1; None if it is not known."""
        if self.state == "done":
            return 1.0
        progress = self.progress
        if progress.get("media_files_to_read") and progress.get("stage") in ("copying media", "verifying"):
            return min(1.0, float(progress["media_files"]) / float(progress["media_files_to_read"]))
        return float(progress["fraction"]) if progress.get("posts_to_read") else None

    @property
    def sentence(self) -> str:
        """Where it is, for people, in one line."""
        if self.state == "waiting":
            return "waiting for its turn"
        if self.state == "stopping":
            return "stopping: it removes what it had written"
        if self.has_ended:
            return f"{self.state}, after {duration(self.seconds)}"
        progress = self.progress
        if not progress:
            return f"starting, {duration(self.seconds)}"
        if not progress.get("posts_to_read"):
            return f"{progress['stage']}, {duration(self.seconds)}"
        left = progress.get("seconds_left")
        parts = ["finishing" if progress["stage"] == "done" else str(progress["stage"])]
        if left is not None and progress["stage"] in ("exporting", "verifying"):
            parts.append(f"{duration(left)} left")
        return ", ".join(parts)

    @property
    def figures(self) -> list[tuple[str, str]]:
        """Names and values of what can be counted, for people."""
        progress = self.progress
        if not progress:
            return []
        figures = []
        if progress.get("posts_to_read"):
            figures.append(("posts", f"{progress['posts_read']:,} of {progress['posts_to_read']:,}"))
            if not self.has_ended:
                figures.append(("rate", f"{progress['posts_per_second']:,.0f} posts/s"))
        if progress.get("bytes"):
            figures.append(("size", format_size(progress["bytes"])))
        if progress.get("media_files_to_read"):
            figures.append(("media", f"{progress['media_files']:,} of {progress['media_files_to_read']:,} files"))
        if progress.get("memory_bytes") is not None:
            figures.append(("memory", format_size(progress["memory_bytes"])))
        figures.append(("time", duration(self.seconds)))
        return figures

    def to_dict(self) -> dict[str, Any]:
        """The values that the page's script shows while it is running; of a job that has ended, only that."""
        if self.has_ended:
            return {"number": self.number, "state": self.state, "seconds": round(self.seconds, 3)}
        return {
            "number": self.number,
            "state": self.state,
            "fraction": None if self.fraction is None else round(self.fraction, 4),
            "sentence": self.sentence,
            "figures": dict(self.figures),
        }


class Jobs:
    """All jobs of this server. Everything here is called from its event loop.

    Args:
        on_end: Called with each job that has ended.
    """

    def __init__(self, on_end: Callable[[Job], None] = lambda _: None) -> None:
        self.all: list[Job] = []
        """The oldest first."""
        self.version = 0
        """Grows with every change."""
        self._on_end = on_end
        self._last_number = 0
        self._changed = asyncio.Event()
        self._turn = asyncio.Lock()
        self._checks = asyncio.Semaphore(_CHECKS_AT_ONCE)
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def add(self, kind: Kind, title: str, arguments: Sequence[str], **about: Any) -> Job:
        """Add a job, which starts as soon as the ones before it have ended; a check starts at once.

        Raises:
            OptionError: Too many are waiting.
        """
        if sum(job.state == "waiting" for job in self.all) >= _MOST_WAITING:
            raise OptionError(f"{_MOST_WAITING} jobs are waiting", "wait until some have ended")
        self._last_number += 1
        job = Job(self._last_number, kind, title, tuple(arguments), about)
        self.all.append(job)
        for old in [old for old in self.all if old.has_ended][: max(0, len(self.all) - _MOST_JOBS)]:
            self.all.remove(old)
        task = asyncio.create_task(self._run(job))
        self._tasks[job.number] = task
        task.add_done_callback(lambda _: self._tasks.pop(job.number, None))
        self._note_change()
        return job

    def find(self, number: int) -> Job | None:
        """The job with this number; None if there is none."""
        return next((job for job in self.all if job.number == number), None)

    @property
    def active(self) -> list[Job]:
        """Those that have not ended."""
        return [job for job in self.all if not job.has_ended]

    def stop(self, job: Job) -> None:
        """Ask a job to stop; a job that is stopping already ends at once, and leaves the rest to the next one."""
        if job.state == "waiting":
            self._drop(job)
        elif not job.has_ended:
            for number in _AT_ONCE if job.state == "stopping" else (signal.SIGTERM,):
                _send(job, number)
            job.state = "stopping"
        self._note_change()

    def pass_on(self, number: int) -> None:
        """Pass a signal that this server got to every process, once; jobs that have not begun are dropped."""
        for job in self.active:
            if job.state == "waiting":
                self._drop(job)
            else:
                _send(job, number)
                job.state = "stopping"
        self._note_change()

    def send(self, number: int) -> None:
        """Send a signal to every process, and change nothing else."""
        for job in self.active:
            _send(job, number)

    def _drop(self, job: Job) -> None:
        """End a job that has not begun."""
        if (task := self._tasks.get(job.number)) is not None:
            task.cancel()
        self._end(job, "stopped")

    async def wait(self) -> None:
        """Wait until all jobs have ended."""
        while self._tasks:
            await asyncio.wait(self._tasks.values())

    async def changed_since(self, version: int, seconds: float) -> None:
        """Wait for a change after *version*, but not longer than *seconds*."""
        if self.version == version:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), seconds)

    def wake(self) -> None:
        """Let everybody who waits for a change look again."""
        self._note_change()

    def _note_change(self) -> None:
        self.version += 1
        self._changed.set()
        self._changed = asyncio.Event()

    def _end(self, job: Job, state: State) -> None:
        job.state = state
        job.ended = time.monotonic()
        job.process = None
        self._on_end(job)
        self._note_change()

    async def _run(self, job: Job) -> None:
        async with self._checks if job.kind == "check" else self._turn:
            try:
                if not job.has_ended:
                    await self._run_now(job)
            except Exception as error:
                job.lines.append(f"unexpected {type(error).__name__}: {error}")
                self._end(job, "failed")

    async def _run_now(self, job: Job) -> None:
        job.began = time.monotonic()
        job.state = "running"
        self._note_change()
        try:
            job.process = await _start([*job.arguments, "--progress", "json", "--json"])
        except OSError as error:
            job.lines.append(f"the process cannot be started: {error.strerror}")
            self._end(job, "failed")
            return
        for number in job.unsent:
            _send(job, number)
        reading = asyncio.create_task(_result_of(job.process))
        await self._listen(job)
        job.result = await reading
        job.exit_code = await job.process.wait()
        stopped = job.exit_code < 0 or job.exit_code > _STOPPED_FROM
        self._end(job, "done" if job.exit_code == 0 else "stopped" if stopped else "failed")

    async def _listen(self, job: Job) -> None:
        """Follow what the command prints until it ends."""
        assert job.process is not None
        assert job.process.stderr is not None
        while True:
            try:
                line = (await job.process.stderr.readline()).decode(errors="replace")
            except ValueError:
                continue  # a line longer than any that this program prints
            if not line:
                return
            event = _event_in(line)
            if event is not None:
                job.progress = event
            elif len(job.lines) < _MOST_LINES:
                job.lines.append(line.rstrip("\n"))
            self._note_change()


def _event_in(line: str) -> dict[str, Any] | None:
    """The event that a line is; None for a line for people."""
    if line.startswith("{"):
        with contextlib.suppress(ValueError):
            event = orjson.loads(line)
            if isinstance(event, dict) and event.get("event") == "progress":
                return event
    return None


async def _result_of(process: asyncio.subprocess.Process) -> dict[str, Any]:
    """The object that a command prints at its end; empty if it printed none."""
    assert process.stdout is not None
    content = bytearray()
    while data := await process.stdout.read(1 << 16):
        if len(content) <= _LONGEST_RESULT_BYTES:
            content += data
    with contextlib.suppress(ValueError):
        result = orjson.loads(content)
        if isinstance(result, dict):
            return result
    return {}


def _command_line(arguments: Sequence[str]) -> list[str]:
    """The command that runs this program with *arguments*."""
    # -P: a json.py in the user's directory must not replace Python's own.
    return [sys.executable, "-P", "-m", "skyexport", *arguments]


async def _start(arguments: Sequence[str]) -> asyncio.subprocess.Process:
    """Start this program, away from the terminal: signals come from this server alone, each of them once."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "PYTHONIOENCODING": "utf-8:backslashreplace",
    }
    apart: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        apart = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return await asyncio.create_subprocess_exec(
        *_command_line(arguments), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=environment, limit=_LONGEST_LINE_BYTES, **apart,
    )  # fmt: skip


def _send(job: Job, number: int) -> None:
    """Send a signal to the process of a job, if it has not ended; as soon as it has begun."""
    if job.process is None:
        job.unsent.append(number)
        return
    if sys.platform == "win32":
        number = signal.CTRL_BREAK_EVENT
    with contextlib.suppress(ProcessLookupError):
        job.process.send_signal(number)


async def run_to_end(arguments: Sequence[str]) -> dict[str, Any]:
    """Run a short command with low priority; returns what it printed as JSON, empty for nothing.

    If this is cancelled, the command is killed.
    """
    try:
        process = await _start([*arguments, "--json"])
    except OSError:
        return {}
    with contextlib.suppress(psutil.Error, OSError):
        # Somebody is waiting for a page, and an export may be running.
        psutil.Process(process.pid).nice(_LOW_PRIORITY)
    assert process.stderr is not None
    ignoring = asyncio.create_task(process.stderr.read())
    try:
        result = await _result_of(process)
        await process.wait()
        return result
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await ignoring
