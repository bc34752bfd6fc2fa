"""Facts that the system reports about our processes, if it does.

On Linux they come from /proc. Some sandboxes do not mount it, or mount the one of another process namespace, where our
process ids belong to strangers. In both cases nothing is known.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil

if sys.platform != "win32":
    import signal


__all__ = ["available_cpus", "available_memory_bytes", "how_it_ended", "is_stopped", "process_of"]


def process_of(pid: int) -> psutil.Process | None:
    """The process *pid*; None if there is no such process, or the system does not report on ours."""
    try:
        # This link leads to the id that the reading process has in the namespace of this /proc.
        if sys.platform == "linux" and Path("/proc/self").readlink().name != str(os.getpid()):
            return None
        return psutil.Process(pid)
    except (psutil.Error, OSError):
        return None


def is_stopped(pid: int) -> bool:
    """Whether the system reports that a process was stopped (SIGSTOP), and is not merely slow."""
    process = process_of(pid)
    try:
        return process is not None and process.status() == psutil.STATUS_STOPPED
    except (psutil.Error, OSError):
        return False


def available_memory_bytes() -> int | None:
    """Bytes of memory that the machine could give to programs now; None if the system does not report it."""
    try:
        return int(psutil.virtual_memory().available)
    except (psutil.Error, OSError, KeyError, ValueError):
        return None


def how_it_ended(process: subprocess.Popen[bytes]) -> str:
    """How a child process ended unexpectedly, for messages. Waits for it up to a second."""
    try:
        status = process.wait(timeout=1)
    except subprocess.TimeoutExpired:
        return "stopped responding"
    if status < 0:
        return f"was killed by signal {-status}"
    # If SIGCHLD is ignored, or its handler asks for the status itself, Python gets no status and reports 0.
    if status == 0 and sys.platform != "win32" and signal.getsignal(signal.SIGCHLD) is not signal.SIG_DFL:
        return "ended, status unknown"
    return f"ended with status {status}"


def available_cpus() -> int:
    """The number of CPUs that this process may use, by affinity and, on Linux, the quota of its control group."""
    try:
        cpus = len(os.sched_getaffinity(0))
    except AttributeError:
        cpus = os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            cpus = min(cpus, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        pass
    return cpus
