"""What tests may change: limits and moments, which nobody else changes by mistake."""

from __future__ import annotations

import contextlib
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import get_args

import apsw
import pytest

import make_archive
from skyexport import ArchiveBusyError, ExportOptions, OptionError, export
from skyexport.runtime.for_tests import (
    LIMITS,
    LIMITS_VARIABLE,
    TESTING_VARIABLE,
    Limit,
    Moment,
    changed_limits,
    on_reached,
    reached,
)
from tests.archives import file_archive, post
from tests.command import skyexport, started, wait_for_output, wait_for_workers
from tests.conftest import limits

SILENT = Limit("SILENT_SECONDS", 120.0)


def test_usual_limits() -> None:
    """Without the variable, or with an empty one, limits are the usual ones."""
    assert changed_limits({}) == changed_limits({LIMITS_VARIABLE: ""}) == {}
    assert SILENT.value == SILENT.usual == 120.0


def test_other_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has the kind of number that it had; the others stay as they are."""
    with limits(SILENT_SECONDS=2, MAX_DATA_FILES=5):
        files = Limit("MAX_DATA_FILES", 10_000).value
        assert (SILENT.value, files) == (2.0, 5)
        assert isinstance(files, int)
        assert Limit("BUSY_MILLISECONDS", 2000).value == 2000
        monkeypatch.delenv(TESTING_VARIABLE)
        with pytest.raises(OptionError, match="for tests of this program only"):
            _ = SILENT.value
    assert SILENT.value == 120.0


@pytest.mark.quick(2)
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SILENT_SECOND=2", "there is no limit 'SILENT_SECOND'; did you mean SILENT_SECONDS?"),
        ("x=2", f"there is no limit 'x'; choose from {', '.join(sorted(LIMITS))}"),
        ("MAX_DATA_FILES=5 SILENT_SECONDS=two", "'SILENT_SECONDS=two' has no number; write it like SILENT_SECONDS=10"),
        ("SILENT_SECONDS", "'SILENT_SECONDS' has no number; write it like SILENT_SECONDS=10"),
        ("SILENT_SECONDS=-1", "'SILENT_SECONDS=-1' has no number; write it like SILENT_SECONDS=10"),
        ("SILENT_SECONDS=nan", "'SILENT_SECONDS=nan' has no number; write it like SILENT_SECONDS=10"),
    ],
)
def test_wrong_limits(text: str, message: str) -> None:
    """Every command refuses them in one line, with what was probably meant."""
    for command in (["export", "a.db"], ["inspect", "a.db"], ["verify", "a"], ["bench", "a.db"]):
        done = skyexport(*command, env={LIMITS_VARIABLE: text})
        assert (done.returncode, done.stderr) == (2, f"skyexport: {LIMITS_VARIABLE}: {message}\n")


@pytest.mark.quick(1)
@pytest.mark.parametrize("testing", ["", "0", "yes"])
def test_limits_outside_of_tests(testing: str, small_archive: make_archive.ArchiveInfo) -> None:
    """They are refused, whatever they are; the other variable alone changes nothing."""
    for text in ("SILENT_SECONDS=2", "x"):
        done = skyexport("inspect", small_archive.path, env={LIMITS_VARIABLE: text, TESTING_VARIABLE: testing})
        said = f"skyexport: the variable {LIMITS_VARIABLE} is for tests of this program only; unset it\n"
        assert (done.returncode, done.stderr) == (2, said)
    assert skyexport("inspect", small_archive.path, env={TESTING_VARIABLE: testing}).returncode == 0


def test_moments(tmp_path: Path) -> None:
    """An export reaches each of them; what is asked for is done then, and not afterwards."""
    met: list[str] = []

    def note(moment: str, _: object) -> None:
        met.append(moment)

    path = file_archive(tmp_path / "a.db", [post(1), post(2)])
    first = export(ExportOptions(archive=path, output_dir=tmp_path / "o"))
    assert first.directory is not None
    with contextlib.ExitStack() as asked:
        for moment in get_args(Moment):
            asked.enter_context(on_reached(moment, partial(note, moment)))
        options = ExportOptions(
            archive=path, output_dir=tmp_path / "o", since_export=[first.directory], snapshot="copy", workers=0
        )
        export(options)
        assert met == ["prepared", "verified", "copying", "pinning", "held", "complete"]
        export(ExportOptions(archive=path, output_dir=tmp_path / "o", workers=0))
        assert met[6:] == ["prepared", "pinning", "held", "rendering", "complete"]
    for moment in get_args(Moment):
        reached(moment)
    assert len(met) == 11


def test_moments_outside_of_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be asked for, so that nothing is done."""
    monkeypatch.delenv(TESTING_VARIABLE)
    with pytest.raises(OptionError, match=f"set {TESTING_VARIABLE}=1"), on_reached("held", print):
        raise AssertionError


def test_the_same_moment_twice() -> None:
    """The inner action holds within its block, the outer one after it."""
    met: list[int] = []
    with on_reached("held", lambda _: met.append(1)):
        with on_reached("held", lambda _: met.append(2)):
            reached("held")
        reached("held")
    assert met == [2, 1]


@pytest.mark.slow
def test_the_usual_limits_of_time(slow_archive: Path, tmp_path: Path) -> None:
    """Without other limits, a locked archive is waited for and a stopped worker is given time, as documented."""
    path = file_archive(tmp_path / "a.db", [post(1)])
    began = time.monotonic()
    with contextlib.closing(apsw.Connection(str(path))) as holder:
        holder.execute("begin exclusive")
        with pytest.raises(ArchiveBusyError):
            export(ExportOptions(archive=path, output_dir=tmp_path / "o"))
    assert 2 <= time.monotonic() - began < 10
    process = started("export", slow_archive, "-o", tmp_path / "o", "-j", "2", "--progress", "none")
    workers = wait_for_workers(process, 2)
    wait_for_output(tmp_path, "o/all/.*.partial/posts.json")
    began = time.monotonic()
    workers[1].suspend()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=2)
    assert process.poll() is None
    _, said = process.communicate(timeout=20)
    assert process.returncode == 14
    assert "worker 2 was stopped for more than 3 seconds " in said
    assert time.monotonic() - began >= 2.5
