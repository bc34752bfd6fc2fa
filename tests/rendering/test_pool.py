"""Workers that die, fail or stand still: the export ends, and says which batch it was."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from skyexport.errors import MemoryLimitError, WorkerError
from skyexport.options.export_options import ExportOptions
from skyexport.pipeline.export import export
from skyexport.runtime.children import STOPPED_SECONDS
from skyexport.runtime.for_tests import on_reached
from tests.archives import file_archive, post
from tests.command import assert_gone, files_below, started, wait_for_output, wait_for_workers
from tests.conftest import limits, posix_only

IN_WORKERS = """
import sys
if sys.argv[0] == "-c":
    import os, time
    from contextlib import ExitStack
    from skyexport.runtime.for_tests import on_reached

    class Nasty(Exception):
        def __init__(self):
            self.lock = open(os.devnull)
        def __str__(self):
            raise RuntimeError("no text")

    def disturb(batch):
        if batch.posts == 7:
            {disturbance}

    for_ever = ExitStack()
    for_ever.enter_context(on_reached("rendering", disturb))
"""

Disturb = Callable[[str], None]


@pytest.fixture
def disturb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disturb:
    """Has workers do something before they render the last batch of `options`, which has seven posts."""

    def write(disturbance: str) -> None:
        folder = tmp_path / "site"
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(IN_WORKERS.format(disturbance=disturbance))
        monkeypatch.syspath_prepend(str(folder))

    return write


@pytest.fixture
def options(tmp_path: Path) -> ExportOptions:
    """An export in batches of ten posts, the last one of seven, by two workers."""
    rows = [post(number, created_at=f"2024-05-22 18:57:{number:02d} +0000 UTC") for number in range(57)]
    path = file_archive(tmp_path / "a.db", rows)
    return ExportOptions(archive=path, output_dir=tmp_path / "o", workers=2, batch_size=10)


@pytest.mark.quick(3)
@pytest.mark.parametrize(
    ("disturbance", "message"),
    [
        ("os._exit(3)", "ended with status 3"),
        ("os._exit(0)", "ended with status 0"),
        ("raise Nasty", "failed"),
        ("raise MemoryError('no more')", "failed"),
        ("raise SystemExit(5)", "failed"),
        pytest.param("os.kill(os.getpid(), 11)", "was killed by signal 11", marks=posix_only),
        pytest.param("os.kill(os.getpid(), 9)", "was killed by signal 9", marks=posix_only),
    ],
)
def test_workers_that_die_or_fail(options: ExportOptions, disturb: Disturb, disturbance: str, message: str) -> None:
    """However a worker ends, the error names its batch and the posts in it, and nothing is left."""
    disturb(disturbance)
    with pytest.raises(WorkerError, match=rf"worker \d {message} in batch 5 \(7 posts, from row id 7 to 1\)") as caught:
        export(options)
    assert caught.value.exit_code == 14
    assert not Path(options.output_dir).exists()


HALF_A_MESSAGE = """
def half(stream, kind, *content, **more):
    from skyexport.rendering import messages, worker
    worker.write_frame = messages.write_frame
    stream.write(messages._HEADER.pack(kind.value, 5, 400) + bytes(300))
    stream.flush()
    raise MemoryError

import skyexport.rendering.worker
skyexport.rendering.worker.write_frame = half
"""


def test_a_worker_that_fails_in_a_message(options: ExportOptions, disturb: Disturb) -> None:
    """What it would say of its failure is not taken for the rest of the message."""
    disturb(f"exec({HALF_A_MESSAGE!r})")
    with pytest.raises(WorkerError, match=r"worker \d ended with status 1 in batch 5 \(7 posts"):
        export(options)
    assert not Path(options.output_dir).exists()


def test_lists_of_row_ids_are_named_too(options: ExportOptions, disturb: Disturb) -> None:
    """Where a batch is a list of posts, its first and last one are named."""
    disturb("os._exit(1)")
    instant = file_archive(Path(options.archive).with_name("b.db"), [post(number) for number in range(57)])
    with pytest.raises(WorkerError, match=r"in batch 5 \(7 posts, from row id 51 to 57\)"):
        export(ExportOptions(archive=instant, output_dir=options.output_dir, workers=2, batch_size=10))


def test_no_memory_in_this_process(options: ExportOptions) -> None:
    """Without workers, a system that gives no more memory is the end by the memory limit."""

    def fail(_: object) -> None:
        raise MemoryError

    with on_reached("rendering", fail), pytest.raises(MemoryLimitError, match="gives no more memory"):
        export(ExportOptions(archive=options.archive, output_dir=options.output_dir, workers=0))
    assert not Path(options.output_dir).exists()


def test_a_renderer_that_hangs(options: ExportOptions, disturb: Disturb) -> None:
    """A renderer that hangs is found out though its receiver is well, and not before its time."""
    disturb("time.sleep(1000)")
    began = time.monotonic()
    said = r"made no progress for 2 seconds in batch 5 \(7 posts"
    with limits(SILENT_SECONDS=2), pytest.raises(WorkerError, match=said):
        export(options)
    assert time.monotonic() - began > 2
    assert not Path(options.output_dir).exists()


def test_a_worker_that_is_slow(options: ExportOptions, disturb: Disturb) -> None:
    """One that goes on, however slowly, or waits for the coordinator, is left alone."""
    disturb("time.sleep(1.2)")

    def slowly(_: object) -> None:
        time.sleep(0.1)

    with limits(SILENT_SECONDS=2.5):
        assert export(options, slowly).posts == 57


@posix_only
@pytest.mark.slow
@pytest.mark.parametrize("when", ["starting", "exporting"])
def test_stopped_worker(slow_archive: Path, tmp_path: Path, when: str) -> None:
    """A worker that somebody stops ends the export within some seconds: exit code 14, the batch named, nothing left."""
    with limits(STOPPED_SECONDS=1):
        process = started("export", slow_archive, "-o", tmp_path, "-j", "2", "--progress", "none")
    workers = wait_for_workers(process, 2)
    if when == "exporting":
        wait_for_output(tmp_path, "all/.*.partial/posts.json")
    workers[1].suspend()
    _, said = process.communicate(timeout=10)
    assert process.returncode == 14
    assert "worker 2 was stopped for more than 1 seconds " in said
    assert ("in batch " if when == "exporting" else "before its first batch") in said
    assert len(said.splitlines()) == 1
    assert_gone(workers)
    assert files_below(tmp_path) == []


@posix_only
@pytest.mark.slow
def test_stopped_for_a_while(slow_archive: Path, tmp_path: Path) -> None:
    """Stopping all processes, or the coordinator alone as Ctrl-Z does, and letting them go on harms nothing."""
    process = started("export", slow_archive, "-o", tmp_path, "-j", "2")
    workers = wait_for_workers(process, 2)
    wait_for_output(tmp_path, "all/.*.partial/posts.json")
    process.send_signal(signal.SIGSTOP)
    time.sleep(STOPPED_SECONDS.usual + 0.5)
    for worker in workers:
        worker.suspend()
    time.sleep(STOPPED_SECONDS.usual + 0.5)
    process.send_signal(signal.SIGCONT)
    time.sleep(1)
    for worker in workers:
        worker.resume()
    _, said = process.communicate(timeout=20)
    assert process.returncode == 0, said


@posix_only
@pytest.mark.slow
def test_a_worker_that_does_not_read(tmp_path: Path) -> None:
    """A stopped worker that is sent more than its pipe holds does not stop the coordinator for ever."""
    rows = [post(number) for number in range(60_000)]
    path = file_archive(tmp_path / "a.db", rows)
    with limits(STOPPED_SECONDS=1):
        process = started("export", path, "-o", tmp_path / "o", "-j", "1", "--batch-size", "20000")
    workers = wait_for_workers(process, 1)
    wait_for_output(tmp_path, "o/all/.*.partial/posts.json")
    workers[0].suspend()
    _, said = process.communicate(timeout=15)
    assert process.returncode == 14, said
    assert "was stopped" in said
    assert_gone(workers)


@pytest.mark.quick(1)
@pytest.mark.skipif(not hasattr(psutil.Process, "rlimit"), reason="needs limits on other processes")
def test_a_worker_without_memory(slow_archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that gets no more memory from the system ends the export with exit code 14, and its batch."""
    # The native renderer uses the memory that it has again, and may be done before it needs more.
    monkeypatch.setenv("SKYEXPORT_RENDERER", "python")
    process = started("export", slow_archive, "-o", tmp_path, "-j", "2")
    workers = wait_for_workers(process, 2)
    wait_for_output(tmp_path, "all/.*.partial/posts.json")
    with contextlib.suppress(psutil.NoSuchProcess):
        workers[0].rlimit(psutil.RLIMIT_AS, (1 << 20, 1 << 20))
    _, said = process.communicate(timeout=10)
    assert process.returncode == 14, said
    assert "worker 1 " in said
    assert " in batch " in said
    assert_gone(workers)
    assert files_below(tmp_path) == []


def test_a_worker_without_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that can not start its second thread has found no memory either; that is nothing to be reported."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(NO_THREADS)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    archive = file_archive(tmp_path / "a.db", [post(1)])
    with pytest.raises(
        WorkerError, match=r"before its first batch: MemoryError: .* no more threads; the system may have"
    ):
        export(ExportOptions(archive=archive, output_dir=tmp_path / "o", workers=1))
    assert not (tmp_path / "o").exists()


NO_THREADS = """
import sys, threading

def start(self):
    raise RuntimeError("can't start new thread")

if sys.argv[0] == "-c":
    threading.Thread.start = start
"""


def test_no_thread_for_the_monitor(options: ExportOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor may there be a thread, or memory, for this process."""

    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    with pytest.raises(MemoryLimitError, match="no more memory") as caught:
        export(options)
    assert caught.value.exit_code == 13
