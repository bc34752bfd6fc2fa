"""A signal at every step of the code that makes files and directories: nothing stays, wherever it comes."""

from __future__ import annotations

import _thread
import concurrent.futures.thread
import contextlib
import gc
import itertools
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import FrameType
from typing import Any
from unittest.mock import Mock

import psutil
import pytest

import skyexport.fleet.archive_pool
import skyexport.output.destination
import skyexport.output.media_copying
import skyexport.pipeline.export
import skyexport.rendering.pool
import skyexport.runtime.background
import skyexport.runtime.children
import skyexport.runtime.cleanup
import skyexport.runtime.digest
import skyexport.runtime.lock
import skyexport.runtime.progress
import skyexport.runtime.scratch
from skyexport import ExportOptions, StrictError, export
from skyexport.fleet.archive_pool import ArchivePool
from skyexport.output.media_copying import copied_media
from skyexport.rendering.pool import Pool
from skyexport.rendering.worker import WorkerSetup
from skyexport.runtime.media_root import MediaFile, MediaRoot
from skyexport.runtime.memory import MemoryGuard
from skyexport.runtime.progress import Counters, Monitor
from tests.archives import file_archive, post
from tests.command import files_below

OWNING = {
    module.__file__
    for module in (
        contextlib,
        skyexport.runtime.cleanup,
        skyexport.output.destination,
        skyexport.runtime.lock,
        skyexport.runtime.scratch,
    )
}
"""The files with the code that makes, owns and removes things."""


class Interruption(BaseException):
    """It is what a signal raises."""


def interrupted(step: int, action: Callable[[], object], files: Collection[str | None] = OWNING) -> bool:
    """Call *action*, and raise an Interruption before the *step*-th instruction of this thread in *files*.

    That is more often than Python itself handles signals.

    Returns:
        Whether there were so many instructions.
    """
    steps = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal steps
        if frame.f_code.co_filename not in files:
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        if event == "opcode":
            steps += 1
            if steps == step:
                sys.settrace(None)
                raise Interruption
        return trace

    before = sys.gettrace()
    try:
        # Python 3.12 looks at this, for any frame, only when tracing begins.
        sys._getframe().f_trace_opcodes = True
        sys.settrace(trace)
        action()
    except (Interruption, StrictError):
        pass
    finally:
        sys.settrace(before)
    return steps >= step


@pytest.fixture
def quiet_finalisers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a signal raises in a finaliser goes nowhere, which Python reports on standard error."""
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR" if sys.platform != "win32" else "TEMP", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.delenv("SQLITE_TMPDIR", raising=False)
    return folder


WAYS: dict[str, dict[str, Any]] = {
    "directory": {},
    "file": {"to": "out"},
    "copy": {"snapshot": "copy"},
    "failing directory": {"strict": True},
    "failing file": {"strict": True, "to": "out"},
    "failing copy": {"strict": True, "snapshot": "copy"},
}


@pytest.mark.usefixtures("quiet_finalisers", "temporary")
@pytest.mark.parametrize("every", [997, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("way", WAYS)
def test_a_signal_at_every_step(tmp_path: Path, request: pytest.FixtureRequest, way: str, every: int) -> None:
    """Either the export is whole, or nothing of it is there; no lock, partial or temporary file stays."""
    options = dict(WAYS[way])
    archive = file_archive(tmp_path / "a.db", [post(1, created_at="never")])
    place = tmp_path / "new" / "place"
    if "to" in options:
        place.mkdir(parents=True)
        options["to"] = place / "out"
    asked = ExportOptions(archive=archive, output_dir=place, workers=0, sync=False, **options)
    before = files_below(tmp_path)
    # What is there already needs no look: each collection takes a hundredth of the time then.
    gc.collect()
    gc.freeze()
    request.addfinalizer(gc.unfreeze)
    whole = ["new/place/out"] if "to" in options else ["manifest.json", "posts.json", "SHA256SUMS"]
    tried = 0
    for step in itertools.count(1, every):
        if not interrupted(step, lambda: export(asked)):
            break
        tried += 1
        # What two errors at once have kept alive goes when Python collects it, at the end of the program at the latest.
        gc.collect()
        found = [name for name in files_below(tmp_path) if name not in before]
        if found and "to" in options:
            assert found == whole, step
            (place / "out").unlink()
        elif found:
            stamp = found[3]
            assert found == ["new", "new/place", "new/place/all", stamp, *(f"{stamp}/{name}" for name in sorted(whole))]
            shutil.rmtree(tmp_path / "new")
    assert tried > 1000 / every


STARTING = {
    module.__file__
    for module in (
        threading, concurrent.futures.thread, skyexport.runtime.background, skyexport.runtime.cleanup,
        skyexport.fleet.archive_pool, skyexport.output.media_copying, skyexport.rendering.pool,
        skyexport.runtime.children, skyexport.runtime.digest, skyexport.runtime.progress,
    )
}  # fmt: skip
"""The files with the code that starts threads and ends them."""


@contextlib.contextmanager
def idle_copiers() -> Iterator[None]:
    """Threads that copy media, which refuse each file."""
    files = [MediaFile("none", "none")] * 6
    with tempfile.TemporaryDirectory() as folder, MediaRoot(Path(folder)) as root:
        assert len(list(copied_media(files, root, None, Path(folder, "new"), sync=False, check=lambda: None))) == 6
    yield


def idle_pool() -> Pool:
    """Workers that have nothing to do."""
    setup = Mock(spec=WorkerSetup)
    setup.to_json.return_value = b"{}"
    return Pool(setup, 2)


def idle_exporters() -> ArchivePool:
    """ArchivePool that have nothing to do."""
    return ArchivePool(2, lambda _: None)


def threads() -> int:
    """How many run. Python has a dummy for each of `_thread` that called `join`, and keeps it before 3.13."""
    return sum(not thread.name.startswith("Dummy-") for thread in threading.enumerate())


def threads_are_well(before: int) -> bool:
    """Whether those that were started have ended, and new ones can start and end."""
    ended = _thread.allocate_lock()
    ended.acquire()

    def another() -> None:
        threading.Thread(target=ended.release, daemon=True).start()

    _thread.start_new_thread(another, ())
    if not ended.acquire(timeout=2):
        return False
    deadline = time.monotonic() + 2
    while threads() > before and time.monotonic() < deadline:
        time.sleep(0.001)
    return threads() <= before


@pytest.mark.skipif(sys.platform == "win32", reason="cat")
@pytest.mark.usefixtures("quiet_finalisers")
@pytest.mark.parametrize("every", [499, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("idle", [idle_copiers, idle_exporters, idle_pool])
def test_a_signal_while_threads_start_and_end(
    monkeypatch: pytest.MonkeyPatch, idle: Callable[[], AbstractContextManager[object]], every: int
) -> None:
    """No thread stays, no process, and no lock that the threads of Python need."""

    popen = subprocess.Popen

    def start(*_: object, **__: object) -> subprocess.Popen[bytes]:
        return popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def monitored() -> None:
        with Monitor(Counters(), MemoryGuard(1 << 40, lambda: 1), None), idle():
            pass

    monkeypatch.setattr(subprocess, "Popen", start)
    before = threads()
    children = psutil.Process().children()
    for step in itertools.count(1, every):
        if not interrupted(step, monitored, STARTING):
            break
        gc.collect()
        assert threads_are_well(before), step
    assert step > 500
    _, alive = psutil.wait_procs([one for one in psutil.Process().children() if one not in children], timeout=2)
    assert not alive
