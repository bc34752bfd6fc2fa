"""Where the project lies, and in what circumstances tests are run: what a page of results says of its figures."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import apsw

__all__ = ["ROOT", "SOURCE", "cpus", "state_of", "system", "versions"]

ROOT = Path(__file__).resolve().parents[1]

SOURCE = ROOT / "src" / "skyexport"


def state_of(*paths: str) -> str:
    """The last commit that changed these paths, and whether they were changed since."""
    commit = _git("log", "-1", "--format=%h", "--", *paths)
    return f"{commit} and changes" if _git("status", "--porcelain", "--", *paths) else commit


def versions() -> str:
    """Those of skyexport, Python and SQLite."""
    return ", ".join(
        [
            f"skyexport {version('skyexport')}",
            f"{platform.python_implementation()} {platform.python_version()}",
            f"apsw {version('apsw')}",
            f"SQLite {apsw.sqlite_lib_version()}",
        ]
    )


def system() -> str:
    """The operating system."""
    return f"{platform.system()} {platform.release()} {platform.machine()}"


def cpus() -> int:
    """The CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()
