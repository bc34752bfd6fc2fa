"""Whole commands as processes: their time, their processor time, and the memory of all processes that they start.

Memory is sampled from outside, twenty times a second, and is the sum over the process and its descendants of the PSS
(Linux: shared pages are divided among those who share them), else the USS, else the RSS.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import psutil

from results import without_directories

__all__ = ["CommandError", "Run", "memory_metric", "run_command", "shown"]

SAMPLE_SECONDS = 0.05
"""Often enough to see a peak of a tenth of a second; a sample takes a millisecond or two of one core."""


class CommandError(Exception):
    """A command did not end with status 0; the message is its status and the last line of what it said."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a command."""

    wall_seconds: float
    cpu_seconds: float
    """User and system time of the process and of those that it waited for."""
    peak_bytes: int
    """The largest sample of all its processes together; 0 when it ended before the first."""
    children: int
    """How many different processes below it were seen."""
    stdout: bytes
    """What it printed, unless that went to a file."""
    series: list[tuple[float, int]] = field(default_factory=list)
    """Seconds since the start and bytes, for every sample, when asked for."""


def memory_metric() -> str:
    """What a sample is here: `pss`, `uss` or `rss`."""
    try:
        full = psutil.Process().memory_full_info()
    except psutil.Error:
        return "rss"
    return "pss" if hasattr(full, "pss") else "uss"


def run_command(
    command: Sequence[str | Path],
    *,
    cwd: Path,
    stdout: Path | None = None,
    interval_seconds: float = SAMPLE_SECONDS,
    keep_series: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Run:
    """Run a command to its end.

    Args:
        command: Program and arguments.
        cwd: The directory to run it in.
        stdout: The file that its standard output becomes; None to have it in the result.
        interval_seconds: Time between two samples of memory.
        keep_series: Whether the result has all samples.
        environment: Variables besides those of this process; None for no others.

    Raises:
        CommandError: It failed.
    """
    arguments = [os.fspath(part) for part in command]
    with TemporaryFile() as errors, open_output(stdout) as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            arguments, cwd=cwd, stdin=subprocess.DEVNULL, stdout=output, stderr=errors,
            env={**os.environ, **(environment or {})},
        )  # fmt: skip
        sampler = TreeSampler(process.pid, started, interval_seconds)
        sampler.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
            wall_seconds = time.perf_counter() - started
            process.returncode = os.waitstatus_to_exitcode(status)
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            sampler.stop()
        if process.returncode:
            raise CommandError(complaint(process.returncode, errors))
        printed = b"" if stdout else read_all(output)
    return Run(
        wall_seconds=wall_seconds,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        peak_bytes=max((size for _, size in sampler.series), default=0),
        children=len(sampler.children),
        stdout=printed,
        series=sampler.series if keep_series else [],
    )


def open_output(path: Path | None) -> IO[bytes]:
    """The file that standard output goes to."""
    return TemporaryFile() if path is None else path.open("wb")


def read_all(file: IO[bytes]) -> bytes:
    """A file from its beginning."""
    file.seek(0)
    return file.read()


def complaint(status: int, errors: IO[bytes]) -> str:
    """Exit status and the last line that is not empty, without directories."""
    lines = [line for line in read_all(errors).decode(errors="replace").splitlines() if line.strip()]
    ended = f"ended by signal {-status}" if status < 0 else f"exit status {status}"
    return f"{ended}: {without_directories(lines[-1].strip())}" if lines else ended


class TreeSampler(threading.Thread):
    """Samples the memory of a process and its descendants until it is stopped.

    Args:
        pid: The process.
        started: When it was started, by `time.perf_counter`.
        interval_seconds: Time between two samples.
    """

    def __init__(self, pid: int, started: float, interval_seconds: float) -> None:
        super().__init__(name="memory", daemon=True)
        self._pid = pid
        self._origin = started
        self._interval_seconds = interval_seconds
        self._metric = memory_metric()
        self._stopping = threading.Event()
        self.series: list[tuple[float, int]] = []
        self.children: set[int] = set()

    def run(self) -> None:
        """Sample at even intervals."""
        due = 0.0
        while not self._stopping.wait(max(0.0, due - time.perf_counter())):
            due = time.perf_counter() + self._interval_seconds
            below = set(descendants(self._pid))
            self.children |= below
            size = sum(self._bytes_of(pid) for pid in (self._pid, *below))
            if size:
                self.series.append((round(time.perf_counter() - self._origin, 3), size))

    def stop(self) -> None:
        """Take no more samples."""
        self._stopping.set()
        self.join()

    def _bytes_of(self, pid: int) -> int:
        try:
            process = psutil.Process(pid)
            try:
                if self._metric != "rss":
                    return int(getattr(process.memory_full_info(), self._metric))
            except psutil.AccessDenied:
                pass
            return int(process.memory_info().rss)
        except psutil.Error:
            return 0  # it ended meanwhile


def descendants(pid: int) -> Iterator[int]:
    """The processes below *pid*, without looking at all processes of the machine where the platform lists children."""
    tasks = Path(f"/proc/{pid}/task")
    try:
        lists = [(task / "children").read_text() for task in tasks.iterdir()]
    except OSError:
        try:
            yield from (process.pid for process in psutil.Process(pid).children(recursive=True))
        except psutil.Error:
            return
        return
    for child in (int(word) for line in lists for word in line.split()):
        yield child
        yield from descendants(child)


def shown(command: Sequence[str | Path], names: dict[str, str] | None = None) -> str:
    """A command line for readers: no directories, *names* for long arguments."""
    known = {sys.executable: "python"} | (names or {})
    parts = [os.fspath(part) for part in command]
    return " ".join(
        known[part] if part in known else shlex.quote(Path(part).name if "/" in part and part != os.devnull else part)
        for part in parts
    )
