"""Running the command as its users do: as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests import preloaded

PROGRAM = (sys.executable, "-m", "skyexport")


def skyexport(
    *arguments: str | Path,
    cwd: Path | None = None,
    timeout: float = 60,
    env: dict[str, str] | None = None,
    fresh: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run `skyexport` to its end; *fresh*: in a process that loads the program itself, so that its memory counts."""
    given, environment = [*map(str, arguments)], {**os.environ, **(env or {})}
    if not fresh and preloaded.can_run(environment):
        return preloaded.run(given, cwd, environment, timeout)
    return subprocess.run(
        [*PROGRAM, *given], capture_output=True, text=True, cwd=cwd, timeout=timeout, check=False,
        stdin=subprocess.DEVNULL, env=environment,
    )  # fmt: skip


def skyexport_json(*arguments: str | Path, status: int = 0, timeout: float = 60, fresh: bool = False) -> dict[str, Any]:
    """Run `skyexport … --json`, check that it exits with *status*, and return the object."""
    done = skyexport(*arguments, "--json", timeout=timeout, fresh=fresh)
    assert done.returncode == status, done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def export_on_read_only_disk(place: Path, archive: Path, to: Path) -> subprocess.CompletedProcess[str]:
    """Export the archive while nobody can write to the directory *place*; skips the test where that is not possible."""
    script = f'mount --bind {place} {place} && mount -o remount,bind,ro {place} && exec "$@"'
    command = ["unshare", "--mount", "--map-root-user", "bash", "-c", script, "-"]
    try:
        tried = subprocess.run([*command, "true"], capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no unshare here")
    if tried.returncode:
        pytest.skip("mounting is not allowed here")
    export = [*PROGRAM, "export", str(archive), "--to", str(to), "--overwrite"]
    return subprocess.run([*command, *export], capture_output=True, text=True, check=False)


def started(*arguments: str | Path, cwd: Path | None = None) -> subprocess.Popen[str]:
    """Start `skyexport`, for tests that watch it while it runs."""
    return subprocess.Popen(
        [*PROGRAM, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd
    )


def wait_for_workers(process: subprocess.Popen[str], count: int) -> list[psutil.Process]:
    """Wait until a running export has *count* workers, and return them."""
    coordinator = psutil.Process(process.pid)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        workers = coordinator.children(recursive=True)
        if len(workers) == count:
            return workers
        time.sleep(0.01)
    raise AssertionError(f"no {count} workers within 20 s")


def wait_for_output(directory: Path, pattern: str) -> Path:
    """The first file below *directory* that matches and is not empty; waits for it."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for found in directory.glob(pattern):
            if found.stat().st_size:
                return found
        time.sleep(0.005)
    raise AssertionError(f"no {pattern} in {directory} within 20 s")


def assert_gone(processes: list[psutil.Process]) -> None:
    """Check that none of these processes lives two seconds from now."""
    _, alive = psutil.wait_procs(processes, timeout=2)
    assert not alive


def files_below(directory: Path) -> list[str]:
    """Everything below *directory*, as relative paths."""
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))
