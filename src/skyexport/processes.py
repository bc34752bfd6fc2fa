"""What the system reports of processes, where it does, and where that is about ours.

On Linux it comes from /proc, which may not be mounted, as in some sandboxes; or may be that of another process
namespace, in which our process ids belong to strangers. Either way there is nothing to be known here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil

if sys.platform != "win32":
    import signal

__all__ = ["available_memory_bytes", "how_it_ended", "is_stopped", "process_of"]


def process_of(pid: int) -> psutil.Process | None:
    """The process of that id, None where there is no such process, or the system does not report any of ours."""
    try:
        # The kernel puts there how the process that looks is called in the namespace of this /proc.
        if sys.platform == "linux" and Path("/proc/self").readlink().name != str(os.getpid()):
            return None
        return psutil.Process(pid)
    except (psutil.Error, OSError):
        return None


def is_stopped(pid: int) -> bool:
    """Whether somebody has stopped a process, as the system reports: it is not merely slow."""
    process = process_of(pid)
    try:
        return process is not None and process.status() == psutil.STATUS_STOPPED
    except (psutil.Error, OSError):
        return False


def available_memory_bytes() -> int | None:
    """Memory that the machine could give to programs now; None where the system does not report it."""
    try:
        return int(psutil.virtual_memory().available)
    except (psutil.Error, OSError, KeyError, ValueError):
        return None


def how_it_ended(process: subprocess.Popen[bytes]) -> str:
    """How a child process ended that was not asked to, for people; waits for it up to a second."""
    try:
        status = process.wait(timeout=1)
    except subprocess.TimeoutExpired:
        return "stopped talking"
    if status < 0:
        return f"was killed by signal {-status}"
    # Where SIGCHLD is ignored, or has a handler that asks for the status itself, Python gets none and takes it for 0.
    if status == 0 and sys.platform != "win32" and signal.getsignal(signal.SIGCHLD) is not signal.SIG_DFL:
        return "ended, status unknown"
    return f"ended with status {status}"
