"""The memory limit: psutil samples this process and its workers; near the limit less work is handed out, at it none.

The window of the coordinator bounds memory by design; this is the second line, which also holds for what nobody
foresaw.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Literal

import psutil

from skyexport.errors import MemoryLimitError
from skyexport.options import format_size
from skyexport.processes import process_of

__all__ = ["UNKNOWN_MEMORY", "MemoryGuard", "Metric", "ProcessTree", "shown_peak"]

UNKNOWN_MEMORY = "the system does not report how much memory is used: the memory limit is not enforced"
"""A note for people."""

_UNKNOWN = (psutil.Error, OSError)
"""What psutil raises where the system does not tell."""

Metric = Literal["pss", "uss", "rss"]

_SOFT_SHARE = 0.8
"""From this share of the limit on, the window narrows."""

_ALLOW_MORE = "allow more with --memory-limit, or use fewer workers or smaller batches"

_MAX_PRESSURE = 10
"""Halving any window so often leaves one batch."""

_WORKER_BYTES = 22_000_000
"""What a worker adds while it renders usual batches: interpreter, SQLite with its cache, a chunk, its filled slots."""

_RENDERING_BYTES = 12_000_000
"""What rendering adds to a process that has everything loaded: SQLite's cache, a batch in its making, the chunk."""


class ProcessTree:
    """Memory of this process and the processes that it started.

    Counted is the PSS where the platform has it (Linux): shared pages are divided among those who share them. Else the
    USS, the pages that a process has alone; else, where that is not allowed, the RSS, which counts shared pages once a
    process. `metric` says which; None where the system reports no memory at all.
    """

    def __init__(self) -> None:
        own = process_of(os.getpid())
        self._processes: list[psutil.Process] = []
        self.metric: Metric | None = None
        self._fresh: int | None = None
        """What the first look at this process gave: a sample as well, and one takes as long as a hundred posts."""
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
        """Count the process *pid* as well, as long as it lives."""
        process = process_of(pid)
        if process is not None:
            self._processes.append(process)

    def sample(self) -> int | None:
        """Bytes that the processes use together now; None where the system does not report that."""
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


class MemoryGuard:
    """Compares samples with the limit.

    Args:
        limit_bytes: The limit on all processes together.
        sampler: Gives their memory in bytes; None where it is not known. Then only what is needed at once is compared
            with the limit.
    """

    def __init__(self, limit_bytes: int, sampler: Callable[[], int | None]) -> None:
        self._limit_bytes = limit_bytes
        self._sampler = sampler
        self._pressure = 0
        self.latest_bytes: int | None = None
        """The last sample; None where memory is not known."""
        self.peak_bytes: int | None = None
        """The largest sample, likewise."""

    def sample(self) -> None:
        """Take a sample and adapt the window to it. May be called from another thread than the rest."""
        self.latest_bytes = self._sampler()
        if self.latest_bytes is None:
            return
        self.peak_bytes = max(self.peak_bytes or 0, self.latest_bytes)
        tight = self.latest_bytes >= self._limit_bytes * _SOFT_SHARE
        self._pressure = min(self._pressure + 1, _MAX_PRESSURE) if tight else max(self._pressure - 1, 0)

    def check(self) -> None:
        """Fail when the limit was reached.

        Raises:
            MemoryLimitError: The peak so far is at the limit, or beyond.
        """
        if self.peak_bytes is not None and self.peak_bytes >= self._limit_bytes:
            raise MemoryLimitError(
                f"memory reached {format_size(self.peak_bytes)}, and the limit is {format_size(self._limit_bytes)}",
                _ALLOW_MORE,
            )

    def affordable_bytes(self) -> int:
        """How much more memory stays below the limit."""
        return self._limit_bytes - (self._sampler() or 0)

    def check_affordable(self, needed_bytes: int) -> None:
        """Fail when so much more memory would reach the limit, before it is taken.

        Raises:
            MemoryLimitError: It would.
        """
        if needed_bytes >= self.affordable_bytes():
            raise self.beyond(needed_bytes)

    def beyond(self, needed_bytes: int) -> MemoryLimitError:
        """The error that so much more memory would reach the limit."""
        needed, limit = format_size(needed_bytes), format_size(self._limit_bytes)
        return MemoryLimitError(f"{needed} are needed, more than the limit of {limit} leaves", _ALLOW_MORE)

    def window(self, batches: int) -> int:
        """How many batches may be in flight, out of *batches* when there is memory enough: at least one."""
        return max(1, batches >> self._pressure)

    def affordable_workers(self, workers: int, loaded_bytes: int = 0, gathered_bytes: int = 0) -> int:
        """How many of *workers* fit below the soft mark; 0 when none does.

        Args:
            workers: So many at most.
            loaded_bytes: What each needs besides, see `Format`.
            gathered_bytes: What this process will need, likewise.
        """
        available = int(self._limit_bytes * _SOFT_SHARE) - (self._sampler() or 0) - gathered_bytes
        return max(0, min(workers, available // (_WORKER_BYTES + loaded_bytes)))

    def check_workable(self, workers: int, loaded_bytes: int = 0) -> None:
        """Fail when the limit leaves no room to work with *workers*, before they are started.

        Args:
            workers: How many.
            loaded_bytes: What each, or this process, needs besides, see `Format`.

        Raises:
            MemoryLimitError: Says which limit would do.
        """
        self.sample()
        needed = (
            (self.latest_bytes or 0) + (workers * (_WORKER_BYTES + loaded_bytes) or _RENDERING_BYTES) + loaded_bytes
        )
        if needed > self._limit_bytes * _SOFT_SHARE:
            # Samples differ from run to run: what is named here must do the next time as well.
            enough = -int(-needed / _SOFT_SHARE // 5_000_000) * 5 + 10
            who = "1 worker" if workers == 1 else f"{workers} workers" if workers else "rendering in this process"
            raise MemoryLimitError(
                f"a memory limit of {format_size(self._limit_bytes)} does not leave room for {who}",
                f"use --memory-limit {enough}MB or more" + (", or fewer workers" if workers else ""),
            )
