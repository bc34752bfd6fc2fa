"""Signals at the worst moments: during clean-up, swallowed on the way, twice, and after the last step."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import make_archive
from skyexport import ExportOptions, StoppedError, StrictError, export
from skyexport.archive.archive import Archive
from skyexport.archive.export_order import row_ids_in_order
from skyexport.runtime.cleanup import uninterrupted
from skyexport.runtime.for_tests import on_reached
from skyexport.runtime.scratch import Scratch
from skyexport.runtime.signals import Signals
from skyexport.selection import Selection
from tests.archives import file_archive, post
from tests.command import PROGRAM, assert_gone, files_below, started, wait_for_output, wait_for_workers
from tests.conftest import posix_only

pytestmark = posix_only


@pytest.fixture
def raising() -> Iterator[None]:
    """A handler of SIGUSR1 that raises, as the command's handler of SIGINT does."""

    def handler(number: int, _: object) -> None:
        raise StoppedError(number)

    before = signal.signal(signal.SIGUSR1, handler)
    yield
    signal.signal(signal.SIGUSR1, before)


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGUSR1)


@pytest.mark.usefixtures("raising")
@pytest.mark.parametrize("signals", [0, 1, 3])
def test_cleaning_up_is_not_interrupted(signals: int) -> None:
    """It goes on to its end in spite of signals, is done once, and the signal is not forgotten."""
    done = []

    def clean() -> str:
        for _ in range(signals):
            interrupt()
            time.sleep(0.02)
        done.append(True)
        return "clean"

    if signals:
        with pytest.raises(StoppedError):
            uninterrupted(clean)
    else:
        assert uninterrupted(clean) == "clean"
    assert done == [True]


@pytest.mark.usefixtures("raising")
def test_signals_while_the_cleaning_thread_starts() -> None:
    """Wherever a signal comes in, cleaning is done exactly once."""
    for delay in range(60):
        done: list[int] = []
        clean = functools.partial(done.append, delay)
        timer = threading.Timer(delay * 0.000_02, interrupt)
        try:
            timer.start()
            uninterrupted(clean)
            timer.join()
        except StoppedError:
            timer.join()
        if not done:
            # The signal came before it began.
            uninterrupted(clean)
        assert done == [delay]


def test_cleaning_up_without_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no memory for another thread, this one cleans up."""
    for error in (RuntimeError("can't start new thread"), MemoryError()):

        def fail(*_: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr("_thread.start_new_thread", fail)
        assert uninterrupted(lambda: "cleaned") == "cleaned"


def test_errors_of_cleaning_up_are_raised() -> None:
    """What goes wrong in it is not hidden."""

    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        uninterrupted(fail)


@pytest.mark.usefixtures("raising")
@pytest.mark.parametrize("to", [None, "out"])
def test_a_signal_while_a_failed_export_is_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str | None
) -> None:
    """Another error has ended the export, and a signal comes while its output is removed: nothing is left."""
    archive = file_archive(tmp_path / "a.db", [post(1, created_at="never")])
    rmtree, unlink = shutil.rmtree, Path.unlink
    interrupted = []

    def observed(path: Path, ignore_errors: bool) -> None:
        interrupted.append(path)
        interrupt()
        time.sleep(0.05)
        rmtree(path, ignore_errors)

    def unlinked(path: Path, missing_ok: bool = False) -> None:
        if path.name.endswith(".partial"):
            interrupted.append(path)
            interrupt()
            time.sleep(0.05)
        unlink(path, missing_ok)

    monkeypatch.setattr(shutil, "rmtree", observed)
    monkeypatch.setattr(Path, "unlink", unlinked)
    options = ExportOptions(
        archive=archive, output_dir=tmp_path / "o", to=tmp_path / to if to else None, strict=True, workers=0
    )
    with pytest.raises((StoppedError, StrictError)):
        export(options)
    assert interrupted
    assert files_below(tmp_path) == ["a.db"]


@pytest.mark.usefixtures("raising")
def test_a_signal_while_a_copy_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A temporary directory goes all the same."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    rmtree = shutil.rmtree

    def observed(path: Path, ignore_errors: bool) -> None:
        interrupt()
        time.sleep(0.05)
        rmtree(path, ignore_errors)

    monkeypatch.setattr(shutil, "rmtree", observed)
    with pytest.raises(StoppedError), Scratch() as scratch:
        (scratch.path / "file").write_text("private")
    assert files_below(tmp_path) == []


@pytest.mark.usefixtures("raising")
def test_a_signal_when_all_is_done(tmp_path: Path) -> None:
    """A signal after the last step does not say that nothing was kept: the export is complete."""
    archive = file_archive(tmp_path / "a.db", [post(1)])
    said = r"the export was complete: .*out"
    with on_reached("complete", lambda _: interrupt()), pytest.raises(StoppedError, match=said):
        export(ExportOptions(archive=archive, to=tmp_path / "out"))
    assert (tmp_path / "out").exists()


def test_a_sort_that_is_left_early(small_archive: make_archive.ArchiveInfo) -> None:
    """Whoever takes only some of the sorted posts does not leave the large page cache behind."""
    with Archive(small_archive.path) as archive:
        usual = archive.connection.pragma("cache_size")
        ids = row_ids_in_order(archive, Selection())
        next(ids)
        assert archive.connection.pragma("cache_size") != usual
        ids.close()  # type: ignore[attr-defined]
        assert archive.connection.pragma("cache_size") == usual
        for _ in row_ids_in_order(archive, Selection()):
            pass
        assert archive.connection.pragma("cache_size") == usual


SWALLOWING = """
import os, signal, sys, time, weakref
from skyexport.runtime.for_tests import on_reached

def stop(_):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.01)

class Swallows:
    __del__ = stop

class Referenced:
    pass

batches = []

def act(batch):
    batches.append(batch)
    if len(batches) == 2:
        ACTION
        sys.stderr.write("went on\\n")
    time.sleep(0.02)

sys.argv[0] = "skyexport"
from skyexport.__main__ import main
with on_reached("rendering", act):
    main()
"""


@pytest.mark.parametrize("action", ["Swallows()", "one = Referenced(); reference = weakref.ref(one, stop); del one"])
def test_a_signal_that_gets_lost(slow_archive: Path, tmp_path: Path, action: str) -> None:
    """What a signal raises in a finaliser or a weak reference's callback goes nowhere; the export ends all the same."""
    program = SWALLOWING.replace("ACTION", action)
    done = subprocess.run(
        [sys.executable, "-c", program, "export", str(slow_archive), "-o", str(tmp_path / "o"), "-j", "0"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "went on\n" in done.stderr
    assert done.returncode == 128 + signal.SIGTERM
    assert done.stderr.splitlines()[-1] == "skyexport: stopped by a signal; nothing of this export was kept"
    assert "ignored" not in done.stderr
    assert files_below(tmp_path) == []


@pytest.mark.quick(2)
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("pause", [0.0, 0.001, 0.01])
def test_two_signals(slow_archive: Path, tmp_path: Path, workers: int, pause: float) -> None:
    """An impatient second Ctrl-C does not keep the first one from being answered cleanly."""
    process = started("export", slow_archive, "-o", tmp_path / "o", "-j", str(workers), "--progress", "none")
    seen = wait_for_workers(process, workers)
    wait_for_output(tmp_path, "o/all/.*.partial/posts.json")
    process.send_signal(signal.SIGINT)
    time.sleep(pause)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=5)
    assert process.returncode == 130
    assert said == "skyexport: stopped by a signal; nothing of this export was kept\n"
    assert_gone(seen)
    assert files_below(tmp_path) == []


def test_three_signals(slow_archive: Path, tmp_path: Path) -> None:
    """The third one ends the process at once, whatever it is doing; the next export removes what is left."""
    program = SWALLOWING.replace("ACTION", "import threading; threading.Thread(target=hurry).start(); hang()")
    program = program.replace("batches = []", HANGING + "\nbatches = []")
    done = subprocess.run(
        [sys.executable, "-c", program, "export", str(slow_archive), "-o", str(tmp_path / "o"), "-j", "0"],
        capture_output=True, text=True, check=False, timeout=20,
    )  # fmt: skip
    assert done.returncode == 130
    assert list(tmp_path.glob("o/all/.*.partial"))
    again = subprocess.run(
        [*PROGRAM, "export", str(slow_archive), "-o", str(tmp_path / "o"), "--since", "2100-01-01"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "removed leftovers of killed exports" in again.stderr
    assert not list(tmp_path.glob("o/all/.*"))


HANGING = """
def hurry():
    for _ in range(3):
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)

def hang():
    try:
        time.sleep(60)
    finally:
        time.sleep(60)
"""


# --- While modules are loaded, and when all is told ---------------------------------------------------------------


@pytest.fixture
def answering() -> Iterator[Signals]:
    """Signals of this process, answered as the command does."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    hook = sys.unraisablehook
    signals = Signals()
    signals.install()
    yield signals
    sys.unraisablehook = hook
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_signal_waits_while_modules_are_loaded(answering: Signals) -> None:
    """It comes when the block ends, and the next one is the second."""
    done = []

    def load() -> None:
        with answering.waiting():
            os.kill(os.getpid(), signal.SIGTERM)
            done.append(True)

    with pytest.raises(StoppedError) as caught:
        load()
    assert done
    assert caught.value.signal_number == signal.SIGTERM
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(StoppedError):
        answering.check()


def test_signals_raise_again_after_a_block(answering: Signals) -> None:
    """A block in which nothing came changes nothing for what comes later."""
    with answering.waiting():
        pass
    with pytest.raises(StoppedError):
        os.kill(os.getpid(), signal.SIGINT)


def test_a_settled_outcome_stands(answering: Signals) -> None:
    """Once it is told, the first two signals come too late."""
    answering.settle()
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGINT)


LOADING = """
import os, signal, sys

class Sending:
    def find_spec(self, name, path=None, target=None):
        if name == "MODULE":
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)

from skyexport.__main__ import main
sys.meta_path.insert(0, Sending())
main()
"""


@pytest.mark.quick(2)
@pytest.mark.parametrize("module", ["typer", "skyexport.pipeline.export", "orjson", "json.decoder", "apsw"])
def test_a_signal_while_modules_are_loaded(slow_archive: Path, tmp_path: Path, module: str) -> None:
    """It is answered like any other, also while a module in Rust loads one in Python and expects no error."""
    program = LOADING.replace("MODULE", module)
    done = subprocess.run(
        [sys.executable, "-c", program, "export", str(slow_archive), "-o", str(tmp_path / "o"), "-j", "0"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 130
    assert done.stderr == "skyexport: stopped by a signal; nothing of this export was kept\n"
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("module", ["skyexport.errors", "dataclasses", "skyexport.runtime.signals"])
def test_a_signal_before_signals_are_handled(tmp_path: Path, module: str) -> None:
    """Ctrl-C in the first moments ends the program without a word, as it ends any program."""
    program = LOADING.replace("MODULE", module).replace(
        "from skyexport.__main__ import main\nsys.meta_path.insert(0, Sending())",
        "sys.meta_path.insert(0, Sending())\nfrom skyexport.__main__ import main",
    )
    # A job in the background of a shell ignores SIGINT, and so would its children.
    program = f"import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n{program}"
    done = subprocess.run(
        [sys.executable, "-c", program, "export", "a.db"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")
