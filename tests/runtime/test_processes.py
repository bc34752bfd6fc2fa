"""Systems that report nothing of processes, or of strangers' only; and how a worker ended."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from skyexport import ExportOptions, export
from skyexport.errors import WorkerError
from skyexport.runtime.processes import is_stopped, process_of
from tests.command import PROGRAM, wait_for_output, wait_for_workers
from tests.conftest import posix_only

pytestmark = posix_only

NOTE = "the system does not report how much memory is used: the memory limit is not enforced"

SURROUNDINGS = {
    "no /proc": ("--mount", "mount -t tmpfs none /proc"),
    "a /proc of other processes": ("--pid --fork", ":"),
}


def inside(surroundings: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command where processes are not to be seen."""
    namespaces, prepare = SURROUNDINGS[surroundings]
    return subprocess.run(
        ["unshare", *namespaces.split(), "sh", "-c", f'{prepare}; exec "$@"', "-", *PROGRAM, *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


@functools.cache
def can_unshare() -> bool:
    """Whether this user may make such surroundings."""
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return False
    tries = [["unshare", *namespaces.split(), "sh", "-c", prepare] for namespaces, prepare in SURROUNDINGS.values()]
    return all(subprocess.run(one, capture_output=True, check=False).returncode == 0 for one in tries)


@pytest.fixture(params=SURROUNDINGS)
def surroundings(request: pytest.FixtureRequest) -> str:
    if not can_unshare():
        pytest.skip("only who may unshare namespaces can try")
    return str(request.param)


@pytest.mark.quick(1)
@pytest.mark.parametrize("workers", ["0", "2"])
def test_export_without_figures(surroundings: str, small_archive_path: Path, tmp_path: Path, workers: str) -> None:
    """An export goes on, notes once that the limit is not enforced, and gives no figures that mean nothing."""
    done = inside(surroundings, "export", small_archive_path, "-j", workers, "-o", tmp_path / "o", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["peak_memory_bytes"], found["memory_metric"]) == (None, None)
    assert done.stderr.count(NOTE) == 1
    told = inside(surroundings, "export", small_archive_path, "-j", workers, "-o", tmp_path / "o")
    assert "peak memory unknown" in told.stderr
    assert "0 B" not in told.stderr
    verified = inside(surroundings, "verify", found["directory"])
    assert verified.returncode == 0, verified.stderr
    assert NOTE not in verified.stderr


@pytest.mark.quick(1)
def test_events_without_figures(surroundings: str, small_archive_path: Path, tmp_path: Path) -> None:
    """Events have null."""
    done = inside(surroundings, "export", small_archive_path, "-o", tmp_path, "--progress", "json", "-q")
    events = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert events
    assert all(event["memory_bytes"] is None for event in events)


@pytest.mark.quick(1)
def test_dry_run_without_figures(surroundings: str, small_archive_path: Path) -> None:
    """A dry run says that the limit would not be enforced."""
    done = inside(surroundings, "export", small_archive_path, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "500 MB, not enforced" in done.stdout
    assert f"note: {NOTE}" in done.stdout
    assert (
        json.loads(inside(surroundings, "export", small_archive_path, "--dry-run", "--json").stdout)["memory_known"]
        is False
    )


@pytest.mark.quick(1)
def test_many_archives_without_figures(surroundings: str, small_archive_path: Path, tmp_path: Path) -> None:
    """It is noted once for all of them."""
    for name in ("a.db", "b.db", "c.db"):
        shutil.copy(small_archive_path, tmp_path / name)
    done = inside(surroundings, "export", *sorted(tmp_path.glob("*.db")), "-o", tmp_path / "o")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(NOTE) == 1
    assert "peak memory unknown" in done.stderr


@pytest.mark.slow
def test_bench_without_figures(surroundings: str, small_archive_path: Path, tmp_path: Path) -> None:
    """The table has no figures for memory, and a note."""
    done = inside(surroundings, "bench", small_archive_path, "-o", tmp_path, "--posts", "100", "--runs", "1")
    assert done.returncode == 0, done.stderr
    assert f"note: {NOTE}" in done.stdout
    assert "unknown" in done.stdout


@pytest.fixture
def small_archive_path(small_archive: object) -> Path:
    path = getattr(small_archive, "path", None)
    assert isinstance(path, Path)
    return path


def test_processes_of_strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Process ids that mean other processes are not looked up: none of ours is taken for stopped."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        os.kill(child.pid, signal.SIGSTOP)
        deadline = time.monotonic() + 10
        while not is_stopped(child.pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert is_stopped(child.pid)
        if sys.platform == "linux":
            monkeypatch.setattr(Path, "readlink", lambda _: Path("1"))
            assert not is_stopped(child.pid)
            assert process_of(child.pid) is None
        child.kill()
    assert not is_stopped(child.pid)


# --- How a worker ended --------------------------------------------------------------------------------------------


def test_the_command_learns_how_a_worker_ended(slow_archive: Path, tmp_path: Path) -> None:
    """Also when who starts it ignores SIGCHLD, so that the system would forget the status."""
    program = ["sh", "-c", 'trap "" CHLD; exec "$@"', "-", *PROGRAM]
    process = subprocess.Popen(
        [*program, "export", str(slow_archive), "-j", "2", "-o", str(tmp_path)], stderr=subprocess.PIPE, text=True
    )
    workers = wait_for_workers(process, 2)
    wait_for_output(tmp_path, "all/.*.partial/posts.json")
    workers[0].kill()
    _, said = process.communicate(timeout=30)
    assert process.returncode == 14
    assert "was killed by signal 9" in said


@pytest.mark.quick(1)
@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda *_: None], ids=["ignored", "handled"])
def test_a_program_that_takes_the_status(slow_archive: Path, tmp_path: Path, handler: object) -> None:
    """Where the status of a killed worker may be lost, nothing is made up, and the program's handler stays."""
    others = psutil.Process().children()
    before = signal.signal(signal.SIGCHLD, handler)  # type: ignore[arg-type]

    def kill() -> None:
        wait_for_output(tmp_path, "all/.*.partial/posts.json")
        worker = next(child for child in psutil.Process().children() if child not in others)
        worker.kill()

    killer = threading.Thread(target=kill)
    try:
        killer.start()
        with pytest.raises(WorkerError) as caught:
            export(ExportOptions(archive=slow_archive, output_dir=tmp_path, workers=2))
        assert signal.getsignal(signal.SIGCHLD) is handler
    finally:
        killer.join()
        signal.signal(signal.SIGCHLD, before)
    expected = "ended, status unknown in batch" if handler is signal.SIG_IGN else "was killed by signal 9 in batch"
    assert expected in str(caught.value)
