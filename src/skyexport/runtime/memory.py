"""The memory limit: psutil samples this process and its workers. Near the limit, less work is handed out; at it, none.

The coordinator's window bounds memory by design. This is the second line, which holds for the unforeseen too.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import psutil

from skyexport.errors import MemoryLimitError
from skyexport.runtime.processes import process_of
from skyexport.wording import format_size

__all__ = ["UNKNOWN_MEMORY", "MemoryGuard", "MemoryNeed", "Metric", "ProcessTree", "shown_peak"]

UNKNOWN_MEMORY = "the system does not report how much memory is used: the memory limit is not enforced"
"""A note for people."""

_UNKNOWN = (psutil.Error, OSError)
"""Exceptions of psutil if the system does not report a value."""

Metric = Literal["pss", "uss", "rss"]

_SOFT_SHARE = 0.8
"""From this share of the limit on, the window narrows."""

_MAX_PRESSURE = 10
"""Halving any window so many times leaves one batch."""


_STEP_BYTES = 5_000_000
"""A suggested limit is a multiple of this, with two steps to spare: samples differ from run to run, since
libraries count in part while other programs use them too."""


class ProcessTree:
    """Memory of this process and the processes that it started.

    If the platform has the PSS (Linux), it is counted: it divides shared pages among the processes that share them.
    Otherwise the USS is counted, the pages that a process has alone. If that is not allowed, the RSS is counted, which
    has shared pages once per process. `metric` says which; None if the system reports no memory at all.
    """

    def __init__(self) -> None:
        own = process_of(os.getpid())
        self._processes: list[psutil.Process] = []
        self.metric: Metric | None = None
        self._fresh: int | None = None
        """The first measurement, used as the first sample too: a measurement takes as long as a hundred posts."""
        if own is None:
            return
        with contextlib.suppress(*_UNKNOWN):
            self._fresh = int(own.memory_info().rss)
            self.metric = "rss"
            full = own.memory_full_info()
            self.metric = "pss" if hasattr(full, "pss") else "uss"
            self._fresh = int(getattr(full, self.metric))
        self._processes.append(own)

    def add(self, pid: int) -> None:
        """Count the process *pid* too, as long as it lives."""
        process = process_of(pid)
        if process is not None:
            self._processes.append(process)

    def sample(self) -> int | None:
        """Bytes that the processes use together now; None if the system does not report that."""
        fresh, self._fresh = self._fresh, None
        if self.metric is None:
            return None
        if fresh is not None and len(self._processes) == 1:
            return fresh
        return sum(self._bytes_of(process) for process in self._processes)

    def _bytes_of(self, process: psutil.Process) -> int:
        if self.metric != "rss":
            try:
                return int(getattr(process.memory_full_info(), self.metric or ""))
            except psutil.NoSuchProcess:
                return 0
            except _UNKNOWN:
                self.metric = "rss"
        try:
            return int(process.memory_info().rss)
        except _UNKNOWN:
            return 0


def shown_peak(peak_bytes: int | None, metric: Metric | None) -> str:
    """The largest sample, for people."""
    return "unknown" if peak_bytes is None or metric is None else f"{format_size(peak_bytes)} ({metric.upper()})"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryNeed:
    """Most memory that an export takes beyond the memory of its process at the start, without any large post.

    This is the one place that decides how many workers a limit has room for, whether a limit is refused, and which
    limit the refusal names. Source: measured, see docs/architecture.md, "Memory".
    """

    here_bytes: int
    """For the process that writes."""
    rendering_bytes: int
    """For the same process, if it renders too."""
    worker_bytes: int
    """For each worker."""

    def bytes(self, workers: int) -> int:
        """Bytes for all processes together, with so many workers."""
        return self.here_bytes + (workers * self.worker_bytes or self.rendering_bytes)


class MemoryGuard:
    """Compares samples with the limit.

    Args:
        limit_bytes: The limit on all processes together.
        sampler: Returns their memory in bytes; None if it is not known. Then only single needs, such as a large post,
            are compared with the limit.
    """

    def __init__(self, limit_bytes: int, sampler: Callable[[], int | None]) -> None:
        self._limit_bytes = limit_bytes
        self._sampler = sampler
        self._pressure = 0
        self._workers = 0
        """The number of workers in the last `check_workable`."""
        self.latest_bytes: int | None = None
        """The last sample; None if memory is not known."""
        self.peak_bytes: int | None = None
        """The largest sample; None if memory is not known."""

    def sample(self) -> None:
        """Take a sample and adapt the window to it. May be called from another thread than the other methods."""
        self.latest_bytes = self._sampler()
        if self.latest_bytes is None:
            return
        self.peak_bytes = max(self.peak_bytes or 0, self.latest_bytes)
        tight = self.latest_bytes >= self._limit_bytes * _SOFT_SHARE
        self._pressure = min(self._pressure + 1, _MAX_PRESSURE) if tight else max(self._pressure - 1, 0)

    def check(self) -> None:
        """Fail if the limit was reached.

        Raises:
            MemoryLimitError: The peak so far is at the limit, or beyond.
        """
        if self.peak_bytes is not None and self.peak_bytes >= self._limit_bytes:
            raise MemoryLimitError(
                f"memory reached {format_size(self.peak_bytes)}, and the limit is {format_size(self._limit_bytes)}",
                self._hint(),
            )

    def affordable_bytes(self) -> int:
        """Bytes of memory that are left below the limit."""
        return self._limit_bytes - (self._sampler() or 0)

    def check_affordable(self, needed_bytes: int) -> None:
        """Fail if *needed_bytes* more would reach the limit, before they are allocated.

        Raises:
            MemoryLimitError: They would reach the limit.
        """
        if needed_bytes >= self.affordable_bytes():
            raise self.beyond(needed_bytes)

    def beyond(self, needed_bytes: int) -> MemoryLimitError:
        """The error that *needed_bytes* more would reach the limit."""
        needed, limit = format_size(needed_bytes), format_size(self._limit_bytes)
        return MemoryLimitError(f"{needed} are needed, more than the limit of {limit} leaves", self._hint())

    def _hint(self) -> str:
        return "use a larger --memory-limit" + (", or fewer workers" if self._workers else "")

    def window(self, batches: int) -> int:
        """The number of batches that may be in flight: *batches* if there is memory enough, and at least one."""
        return max(1, batches >> self._pressure)

    def affordable_workers(self, need: MemoryNeed, workers: int) -> int:
        """How many of *workers* the limit has room for. Even 0 may be too many: `check_workable` finds out."""
        room = self._limit_bytes - (self._sampler() or 0) - need.here_bytes
        return max(0, min(workers, room // need.worker_bytes))

    def check_workable(self, need: MemoryNeed, workers: int, format: str) -> None:
        """Fail before any work if the limit may be too small for *workers*.

        Args:
            need: The memory that the export needs.
            workers: Number of workers.
            format: Name of the format, for messages.

        Raises:
            MemoryLimitError: The limit may be too small; the hint suggests one that is large enough.
        """
        self._workers = workers
        self.sample()
        used = self.latest_bytes or 0
        if used + need.bytes(workers) <= self._limit_bytes:
            return
        enough = (used + need.bytes(workers)) // _STEP_BYTES * _STEP_BYTES + 3 * _STEP_BYTES
        how = " with 1 worker" if workers == 1 else f" with {workers} workers" if workers else ""
        fewer = workers and used + need.bytes(0) <= self._limit_bytes
        raise MemoryLimitError(
            f"a memory limit of {format_size(self._limit_bytes)} is too small for {format}{how}",
            f"use --memory-limit {enough // 1_000_000}MB or more{', or --workers auto' if fewer else ''}",
        )
