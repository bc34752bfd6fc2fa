"""Actions that need root: small disks, and commands of a user who owns nothing. Other users skip their tests."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.trial import Trial

__all__ = ["NOBODY", "needs_nobody", "small_disk", "workers_of_nobody"]

NOBODY = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--"]
"""Runs a command as a user who owns nothing."""


@functools.cache
def nobody_can_run() -> bool:
    """Whether this user may become another user, who can read the program's files."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        return False
    command = [*NOBODY, sys.executable, "-c", "import skyexport.rendering.worker"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def needs_nobody() -> None:
    """Skip the test if it cannot become another user."""
    if not nobody_can_run():
        pytest.skip("only root can become another user, who must be able to read the program")


@functools.cache
def _nobody_starts_python() -> bool:
    """Whether that user can start it too: `setpriv` may do so where the user may not go."""
    program = "import subprocess, sys; subprocess.run([sys.executable, '-c', ''], check=True)"
    return subprocess.run([*NOBODY, sys.executable, "-c", program], capture_output=True, check=False).returncode == 0


def workers_of_nobody(wanted: int) -> str:
    """The number of workers, for an option; 0 if Python lies in a place that only this user may enter."""
    return str(wanted if _nobody_starts_python() else 0)


@functools.cache
def _mounts() -> bool:
    """Whether this user may mount file systems here."""
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("mount") is None:
        return False
    command = ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@contextlib.contextmanager
def small_disk(trial: Trial, size_bytes: int, *options: str) -> Iterator[Path]:
    """A file system of its own with this size; skips the test where that is not possible."""
    if not _mounts():
        pytest.skip("only root can mount a small file system")
    place = trial.place / "disk"
    place.mkdir()
    # Pages of 4 KiB, and inodes beyond count.
    setting = ",".join((f"size={size_bytes // 4096 * 4096}", *options))
    subprocess.run(["mount", "-t", "tmpfs", "-o", setting, "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)
