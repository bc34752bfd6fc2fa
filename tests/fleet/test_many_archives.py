"""Many archives by one command: layout, schedule, failures in the middle, resuming, stopping, lists."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw
import psutil
import pytest

import skyexport as package
from skyexport import ExportOptions, OptionError, export, export_all, verify
from skyexport.errors import StoppedError
from skyexport.fleet.archive_list import ArchiveList, read_list
from skyexport.fleet.archive_pool import ArchiveWorker
from skyexport.fleet.archive_worker import ExportJob
from skyexport.fleet.results import Outcome, Outcomes
from tests.archives import RawText, file_archive, insert, post
from tests.command import PROGRAM, assert_gone, files_below, skyexport, skyexport_json, started
from tests.conftest import limits, posix_only, tenfold_archive

POSTS = 35_000
"""Of an archive that is just not large."""


def small_archives(folder: Path, count: int, posts: int = 3) -> list[Path]:
    """Archives a.db, b.db … whose posts differ."""
    folder.mkdir(exist_ok=True)
    return [
        file_archive(folder / f"{chr(97 + number)}.db", [post(100 * number + n) for n in range(posts)])
        for number in range(count)
    ]


@pytest.fixture(scope="session")
def medium_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive that is just not large: its export takes half a second in one process."""
    return tenfold_archive(tmp_path_factory.mktemp("medium") / "medium.db", POSTS)


@pytest.fixture
def slow_archives(medium_archive: Path, tmp_path: Path) -> list[Path]:
    """Six of those."""
    return [Path(shutil.copy(medium_archive, tmp_path / f"slow{number}.db")) for number in range(6)]


def data_of(outcome: dict[str, Any]) -> bytes:
    return (Path(outcome["directory"]) / "posts.json").read_bytes()


def exported_alone(archive: Path, folder: Path) -> bytes:
    """What an export of this archive alone writes."""
    summary = export(ExportOptions(archive=archive, output_dir=folder, workers=0))
    assert summary.path is not None
    return summary.path.read_bytes()


@pytest.mark.quick(1)
@pytest.mark.parametrize("workers", ["0", "1", pytest.param("2", marks=pytest.mark.slow), "3", "auto"])
def test_each_has_its_export(tmp_path: Path, workers: str) -> None:
    """Every archive gets DIR/NAME/AUTHOR/TIME, with the bytes of an export of its own, and which verify accepts."""
    archives = small_archives(tmp_path / "in", 5)
    done = skyexport_json("export", *archives, "-o", tmp_path / "out", "-j", workers)
    assert (done["status"], done["exit_code"], done["archives_exported"]) == ("ok", 0, 5)
    assert [one["path"] for one in done["archives"]] == [str(path) for path in archives]
    assert done["posts"] == 15
    assert done["exporters"] == {"0": 0, "1": 0, "2": 2, "3": 3}.get(workers, done["exporters"])
    for path, one in zip(archives, done["archives"], strict=True):
        assert one["status"] == "ok"
        directory = Path(one["directory"])
        assert directory.parent == tmp_path / "out" / path.stem / "all"
        assert data_of(one) == exported_alone(path, tmp_path / "alone")
        assert verify(directory).posts == one["posts"] == 3
    assert not list((tmp_path / "out").rglob(".*"))


def test_one_archive_is_as_ever(tmp_path: Path) -> None:
    """A single archive has no directory of its name; from a list, which may have more tomorrow, it has."""
    (archive,) = small_archives(tmp_path / "in", 1)
    single = skyexport_json("export", archive, "-o", tmp_path / "out")
    assert Path(single["directory"]).parent == tmp_path / "out" / "all"
    (tmp_path / "list").write_text(str(archive))
    listed = skyexport_json("export", "--from-file", tmp_path / "list", "-o", tmp_path / "out")
    assert Path(listed["archives"][0]["directory"]).parent == tmp_path / "out" / "a" / "all"


@pytest.mark.quick(1)
@pytest.mark.parametrize("workers", ["0", "2"])
def test_failures_in_the_middle(tmp_path: Path, workers: str) -> None:
    """A failure is told with its path at once and in the summary; the others go on; the first one is the exit code."""
    archives = small_archives(tmp_path / "in", 5)
    odd = file_archive(tmp_path / "in" / "odd.db", [post(1, text=RawText(b"\xff"))])
    text, missing = tmp_path / "in" / "text.db", tmp_path / "in" / "missing.db"
    text.write_text("no archive " * 20)
    given = [archives[0], odd, archives[1], text, missing, *archives[2:]]
    result = skyexport_json("export", *given, "-o", tmp_path / "out", "--strict", "-j", workers, status=3)
    assert (result["status"], result["exit_code"], result["archives_failed"]) == ("failed", 3, 3)
    assert [one["path"] for one in result["archives"]] == [str(path) for path in given]
    assert [one["status"] for one in result["archives"]] == ["ok", "failed", "ok", "failed", "failed", *["ok"] * 3]
    failed = result["archives"][4]
    assert (failed["exit_code"], failed["error"]) == (10, f"no archive at {missing}")

    done = skyexport("export", *given[2:], "-o", tmp_path / "out", "-j", workers)
    assert (done.returncode, done.stdout) == (10, "")
    lines = done.stderr.splitlines()
    assert "6 archives: 4 exported, 2 failed" in lines
    for path in (text, missing):
        assert sum(line.startswith(f"failed: {path}: ") for line in lines) == 1
    assert "failed: 1 × no archive at …" in lines
    assert lines[-1] == str(tmp_path / "out")
    quiet = skyexport("export", *given[2:], "-o", tmp_path / "out", "-j", workers, "-q")
    assert (quiet.returncode, quiet.stdout) == (10, "")
    assert [line.partition(":")[0] for line in quiet.stderr.splitlines()] == ["failed", "failed"]
    assert not list((tmp_path / "out").rglob("*.partial"))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a", "b", "c", "d", "e"]


def test_large_archives_have_workers(tmp_path: Path) -> None:
    """Large archives follow one after the other, each with a pool of workers; the bytes are the same."""
    archives = small_archives(tmp_path / "in", 4, posts=30)
    archives[1].unlink()
    file_archive(archives[1], [post(number, text="x" * 10_000) for number in range(30)])
    options = ExportOptions(archive=archives[0], output_dir=tmp_path / "out", workers=2, batch_size=7)
    with limits(LARGE_ARCHIVE_BYTES=200_000):
        done = export_all(archives, options)
    assert (done.exit_code, done.exporters, done.posts) == (0, 2, 120)
    assert [one.summary and one.summary.workers for one in done.outcomes] == [0, 2, 0, 0]
    for path, one in zip(archives, done.outcomes, strict=True):
        assert one.summary is not None
        assert one.summary.path is not None
        assert one.summary.path.read_bytes() == exported_alone(path, tmp_path / "alone")


@pytest.mark.slow
def test_a_list_for_people_is_short(tmp_path: Path) -> None:
    """Of more than twenty archives those with warnings and failures are listed, with -v all."""
    archives = small_archives(tmp_path / "in", 21)
    odd = file_archive(tmp_path / "in" / "odd.db", [post(1, created_at="never")])
    given = [*archives, odd, tmp_path / "missing.db"]
    lines = skyexport("export", *given, "-o", tmp_path / "out").stderr.splitlines()
    assert "23 archives: 22 exported, 1 failed" in lines
    assert next(line for line in lines if "1 post, " in line).startswith(f"{odd}: 1 post, ")
    assert "warnings: 1, the first: created_at of at://" in "".join(lines)
    assert not [line for line in lines if line.startswith(f"{archives[0]}: ")]
    verbose = skyexport("export", *given, "-o", tmp_path / "out", "-v").stderr.splitlines()
    for path in archives:
        assert [line for line in verbose if line.startswith(f"{path}: 3 posts, ")]


@pytest.mark.slow
def test_progress(slow_archives: list[Path], tmp_path: Path) -> None:
    """There is one line of progress for all archives together: archives, posts, bytes, rate, memory."""
    done = skyexport("export", *slow_archives[:2], "-o", tmp_path / "out", "--progress", "json", "-q", "-j", "2")
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert {event["event"] for event in events} == {"progress"}
    assert {event["archives_to_do"] for event in events} == {2}
    assert (events[-1]["stage"], events[-1]["archives"], events[-1]["fraction"]) == ("done", 2, 1.0)
    assert events[-1]["posts"] == 2 * POSTS
    for key in ("archives", "posts", "bytes"):
        assert [event[key] for event in events] == sorted(event[key] for event in events)
    assert len({event["posts"] for event in events}) > 1
    moment = package.MigrationProgress(
        "exporting", 1000, 1000, 0, 2_000_000, 2.0, 50_000_000, archives=3, archives_to_do=12, archives_failed=1,
        source_bytes=1, source_bytes_to_read=4,
    )  # fmt: skip
    assert moment.sentence() == (
        " 25%  6 s left, 3 of 12 archives (1 failed), 1,000 posts, 2.0 MB, 500/s, memory 50.0 MB"
    )


@posix_only
def test_the_same_archive_twice(tmp_path: Path) -> None:
    """One file by two names is wrong usage, and nothing is begun; so is a file to write with several archives."""
    first, second = small_archives(tmp_path / "in", 2)
    (tmp_path / "link.db").symlink_to(first)
    (tmp_path / "hard.db").hardlink_to(first)
    again = tmp_path / "in" / ".." / "in" / "a.db"
    for other in (first, again, tmp_path / "link.db", tmp_path / "hard.db"):
        done = skyexport("export", first, second, other, "-o", tmp_path / "out")
        assert done.returncode == 2, done.stderr
        assert str(first) in done.stderr
        assert len(done.stderr.splitlines()) == 1
    missing = tmp_path / "missing.db"
    assert skyexport("export", missing, missing, "-o", tmp_path / "out").returncode == 2
    to = skyexport("export", first, second, "--to", tmp_path / "file")
    assert (to.returncode, len(to.stderr.splitlines())) == (2, 1)
    assert skyexport("export", first, "", "-o", tmp_path / "out").returncode == 2
    assert skyexport("export", "-o", tmp_path / "out").returncode == 2
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "file").exists()


def test_names_of_directories(tmp_path: Path) -> None:
    """Stems that differ in case only get a hash, whatever others are called; all are one portable component."""
    hashed = hashlib.sha256(os.fsencode(tmp_path / "1" / "me.db")).hexdigest()
    other = hashlib.sha256(os.fsencode(tmp_path / "2" / "ME.db")).hexdigest()
    paths = [tmp_path / "1" / "me.db", tmp_path / "2" / "ME.db", tmp_path / "you.db"]
    assert list(ArchiveList(paths).names()) == [f"me-{hashed[:8]}", f"ME-{other[:8]}", "you"]
    paths.append(tmp_path / f"me-{hashed[:8]}.db")
    assert list(ArchiveList(paths).names()) == [f"me-{hashed}", f"ME-{other[:8]}", "you", f"me-{hashed[:8]}"]
    odd = [
        ".db",
        "..db",
        "...",
        "-rf.db",
        "CON",
        "nul.tar.db",
        "a b.db",
        "é.db",
        "x" * 250,
        "\x1b[2J.db",
        "a:b.db",
        "z..",
    ]
    names = list(ArchiveList([tmp_path / name for name in odd]).names())
    assert len({name.casefold() for name in names}) == len(odd)
    for name in names:
        assert all(letter.isascii() and (letter.isalnum() or letter in "._-") for letter in name)
        assert name[0] not in ".-"
        assert name[-1] != "."
        assert len(name) <= 100 + 65
        assert name.split(".")[0].lower() not in ("con", "nul")


def test_directories_of_the_same_stem(tmp_path: Path) -> None:
    """Archives of one name in several folders have exports side by side."""
    first, second = small_archives(tmp_path / "1", 1)[0], small_archives(tmp_path / "2", 1)[0]
    done = skyexport_json("export", first, second, "-o", tmp_path / "out")
    places = [Path(one["directory"]).parents[1].name for one in done["archives"]]
    digits = [hashlib.sha256(os.fsencode(path)).hexdigest()[:8] for path in (first, second)]
    assert places == [f"a-{digits[0]}", f"a-{digits[1]}"]


@posix_only
def test_lists(tmp_path: Path) -> None:
    """Lists may have comments, empty lines, other line ends, NUL bytes, any names, and be standard input."""
    folder = tmp_path / "in"
    archives = small_archives(folder, 3)
    strange = Path(os.fsdecode(os.fsencode(folder) + b"/new\nline # \xff.db"))
    lines = f"# all of them\n\n  \n{archives[0]}\r\n{archives[1]}"
    (tmp_path / "list").write_bytes(b"\xef\xbb\xbf" + lines.encode())
    assert list(read_list(str(tmp_path / "list"))) == [str(path) for path in archives[:2]]
    (tmp_path / "nul").write_bytes(b"".join(os.fsencode(path) + b"\0" for path in (archives[0], strange)))
    assert list(read_list(str(tmp_path / "nul"))) == [str(archives[0]), str(strange)]
    done = skyexport_json("export", archives[2], "--from-file", tmp_path / "list", "-o", tmp_path / "out")
    assert [one["path"] for one in done["archives"]] == [str(archives[number]) for number in (2, 0, 1)]
    command = [*PROGRAM, "export", "--from-file", "-", "--json", "-o", str(tmp_path / "out")]
    for given in (b"in/a.db\nin/missing.db\n", b"in/a.db\0in/missing.db\0"):
        run = subprocess.run(command, input=given, capture_output=True, check=False, cwd=tmp_path)
        assert run.returncode == 10
        assert [one["status"] for one in json.loads(run.stdout)["archives"]] == ["ok", "failed"]
    nothing = subprocess.run(command, input=b"# none today\n", capture_output=True, check=False)
    assert (nothing.returncode, json.loads(nothing.stdout)["archives"]) == (0, [])
    for unreadable in (tmp_path / "no-list", tmp_path):
        failed = skyexport("export", "--from-file", unreadable, "-o", tmp_path / "new")
        assert (failed.returncode, len(failed.stderr.splitlines())) == (2, 1)
        assert str(unreadable) in failed.stderr
    strange.write_text("not one")
    failed = skyexport("export", "--from-file", tmp_path / "nul", "-o", tmp_path / "out", "-q")
    assert failed.returncode == 10
    assert len(failed.stderr.splitlines()) == 1


def change_post(archive: Path, text: str) -> None:
    """Write to an archive such that neither its size nor its time of change tells."""
    status = archive.stat()
    with contextlib.closing(apsw.Connection(str(archive))) as connection:
        connection.execute("update posts set text = ?", (text,))
    os.utime(archive, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert archive.stat().st_size == status.st_size


@pytest.mark.parametrize("workers", [pytest.param("0", marks=pytest.mark.slow), "2"])
def test_resume(tmp_path: Path, workers: str) -> None:
    """Only archives without a whole export of their present state are exported again."""
    archives = small_archives(tmp_path / "in", 6)
    arguments: tuple[str | Path, ...] = ("export", *archives, "-o", tmp_path / "out", "--resume-batch", "-j", workers)
    first = skyexport_json(*arguments)
    assert first["archives_exported"] == 6
    directories = [Path(one["directory"]) for one in first["archives"]]
    before = files_below(tmp_path / "out")
    again = skyexport_json(*arguments)
    assert (again["archives_exported"], again["archives_skipped"], again["exit_code"]) == (0, 6, 0)
    assert [one["directory"] for one in again["archives"]] == [str(path) for path in directories]
    assert files_below(tmp_path / "out") == before
    # What file managers leave changes nothing.
    (directories[0] / ".DS_Store").touch()
    words = skyexport(*arguments).stderr.splitlines()
    assert words[0] == "6 archives: 0 exported, 6 skipped, since they have verified exports"
    assert words[1] == f"skipped: {archives[0]}: 3 posts, {words[1].split(', ')[1]}, {directories[0]}"

    change_post(archives[0], "Other")
    data = directories[1] / "posts.json"
    data.write_bytes(data.read_bytes().replace(b"Hello", b"Hallo", 1))
    (directories[2] / "manifest.json").unlink()
    shutil.rmtree(directories[3])
    other = skyexport_json(*arguments)
    assert [one["status"] for one in other["archives"]] == ["ok"] * 4 + ["skipped"] * 2
    assert b"Other" in data_of(other["archives"][0])
    assert skyexport_json(*arguments)["archives_skipped"] == 6


@pytest.mark.slow
def test_resume_with_other_options(tmp_path: Path) -> None:
    """Options that change the export make it another one; those of the way to it do not."""
    archives = small_archives(tmp_path / "in", 2)
    usual = ExportOptions(archive=archives[0], output_dir=tmp_path / "out", workers=0)
    chosen: list[dict[str, Any]] = [{}, {"format": "csv"}, {"since": "2024-01-01"}, {"strict": True}, {"media": True}]
    for more in [*chosen, {"author": "did:plc:abc"}]:
        options = replace(usual, **more)
        assert [one.status for one in export_all(archives, options, resume_batch=True).outcomes] == ["ok", "ok"]
        way = replace(options, sync=False, batch_size=2, memory_limit=400_000_000, snapshot="copy", workers=2)
        again = export_all(archives, way, resume_batch=True).outcomes
        assert [one.status for one in again] == ["skipped", "skipped"]
        assert again[0].earlier is not None
        assert json.loads((again[0].earlier.directory / "manifest.json").read_bytes())["options"] == more
    moved = [shutil.copy(path, tmp_path / path.name) for path in archives]
    assert [one.status for one in export_all(moved, usual, resume_batch=True).outcomes] == ["ok", "ok"]


def test_resume_beside_a_program_that_writes(tmp_path: Path) -> None:
    """What lies in a write-ahead log counts: the file of the archive does not change with it."""
    path = file_archive(tmp_path / "a.db", [post(1)], wal=True)
    options = ExportOptions(archive=path, output_dir=tmp_path / "out", workers=0)
    with contextlib.closing(apsw.Connection(str(path))) as program:
        for number in range(2, 5):
            insert(program, post(number))
            done = export_all([path], options, resume_batch=True)
            assert (done.outcomes[0].status, done.posts) == ("ok", number)
            assert export_all([path], options, resume_batch=True).outcomes[0].status == "skipped"


@pytest.mark.slow
def test_resume_of_large_archives(tmp_path: Path) -> None:
    """Exports of large archives are verified by exporters, too; what is not there is exported with workers."""
    archives = small_archives(tmp_path / "in", 4)
    options = ExportOptions(archive=archives[0], output_dir=tmp_path / "out", workers=2)
    with limits(LARGE_ARCHIVE_BYTES=0):
        first = export_all(archives, options, resume_batch=True)
        assert [one.summary and one.summary.workers for one in first.outcomes] == [2, 2, 2, 2]
        shutil.rmtree(tmp_path / "out" / "c")
        second = export_all(archives, options, resume_batch=True)
    assert [one.status for one in second.outcomes] == ["skipped", "skipped", "ok", "skipped"]
    assert second.exporters == 2


def test_hostile_earlier_exports(tmp_path: Path) -> None:
    """Whatever lies where earlier exports do is at most no export."""
    archives = small_archives(tmp_path / "in", 2)
    place = tmp_path / "out" / "a" / "all"
    for number, manifest in enumerate([b"[]", b"{", b'{"source": 1}', b"x" * 6_000_000, b""]):
        directory = place / f"2024-01-01_00-00-0{number}"
        directory.mkdir(parents=True)
        (directory / "manifest.json").write_bytes(manifest)
    (place / "2024-01-01_00-00-07").write_text("a file")
    (place / "2024-01-01_00-00-08-99999999999").mkdir()
    done = skyexport_json("export", *archives, "-o", tmp_path / "out", "--resume-batch")
    assert done["archives_exported"] == 2


def exporters_of(process: subprocess.Popen[str], count: int) -> list[psutil.Process]:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        children = psutil.Process(process.pid).children()
        if len(children) == count:
            return children
        time.sleep(0.01)
    raise AssertionError(f"no {count} exporters within 20 s")


def partials(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".*.partial") if (path / "posts.json").exists()]


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "not within 20 s"
        time.sleep(0.005)


@posix_only
@pytest.mark.slow  # row many-archives of the fault matrix is tried in every run
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals(slow_archives: list[Path], tmp_path: Path, number: signal.Signals) -> None:
    """A signal has exporters undo what they have begun; what is complete stays, is told, and skipped next time."""
    out = tmp_path / "out"
    process = started("export", *slow_archives, "-o", out, "-j", "2", "--progress", "none")
    exporters = exporters_of(process, 2)
    wait_until(lambda: list(out.glob("*/all/2*")) and len(partials(out)) == 2)
    process.send_signal(number)
    _, said = process.communicate(timeout=6)
    complete = list(out.glob("*/all/2*"))
    assert process.returncode == 128 + number
    are = "is" if len(complete) == 1 else "are"
    assert said.splitlines() == [f"skyexport: stopped by a signal; {len(complete)} of 6 archives {are} complete"]
    assert_gone(exporters)
    assert not list(out.rglob(".*"))
    assert {path.name for path in out.iterdir()} == {path.parents[1].name for path in complete}
    for directory in complete:
        assert verify(directory).posts == POSTS
    again = skyexport_json("export", *slow_archives, "-o", out, "--resume-batch", "-j", "2")
    assert (again["archives_skipped"], again["archives_exported"]) == (len(complete), 6 - len(complete))


@posix_only
def test_an_exporter_is_stopped_between_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Archives that it was given and had not begun go to another one; none fails."""
    give = ArchiveWorker.give
    given = []

    def give_and_stop(exporter: ArchiveWorker, request: ExportJob) -> None:
        given.append(request.number)
        if request.number != 4 or given.count(4) > 1:
            give(exporter, request)
            return
        wait_until(lambda: psutil.Process(exporter.process.pid).status() == psutil.STATUS_SLEEPING)
        exporter.process.send_signal(signal.SIGSTOP)
        wait_until(lambda: psutil.Process(exporter.process.pid).status() == psutil.STATUS_STOPPED)
        give(exporter, request)
        exporter.process.send_signal(signal.SIGTERM)
        exporter.process.send_signal(signal.SIGCONT)

    archives = small_archives(tmp_path / "in", 6)
    monkeypatch.setattr(ArchiveWorker, "give", give_and_stop)
    with limits(REQUESTS_AT_ONCE=1):
        done = export_all(archives, ExportOptions(archive=archives[0], output_dir=tmp_path / "out", workers=2))
    assert 4 in given
    failures = [str(outcome.error) for outcome in done.outcomes if outcome.error is not None]
    assert all("was stopped by signal 15" in failure for failure in failures), failures
    assert len(failures) < 2


@pytest.mark.quick(1)
@posix_only
def test_signal_to_the_whole_group(slow_archives: list[Path], tmp_path: Path) -> None:
    """Ctrl-C in a terminal reaches the first process only, which has the others stop."""
    out = tmp_path / "out"
    process = subprocess.Popen(
        [*PROGRAM, "export", *map(str, slow_archives), "-o", str(out), "-j", "2"],
        stderr=subprocess.PIPE, text=True, process_group=0,
    )  # fmt: skip
    exporters = exporters_of(process, 2)
    wait_until(lambda: len(partials(out)) == 2)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=6)
    assert process.returncode == 130
    # On a busy machine an archive may be complete before the signal.
    complete = len(list(out.glob("*/*/*/manifest.json")))
    are = "is" if complete == 1 else "are"
    assert said.splitlines()[-1] == f"skyexport: stopped by a signal; {complete} of 6 archives {are} complete"
    assert complete < 6
    assert_gone(exporters)
    assert not list(out.rglob(".*.partial"))


@posix_only
@pytest.mark.slow  # row many-archives of the fault matrix is tried in every run
def test_killed_migration(slow_archives: list[Path], tmp_path: Path) -> None:
    """ArchivePool of a process that is killed undo what they have begun, and leave."""
    out = tmp_path / "out"
    process = started("export", *slow_archives, "-o", out, "-j", "2")
    exporters = exporters_of(process, 2)
    wait_until(lambda: len(partials(out)) == 2)
    process.kill()
    process.communicate(timeout=5)
    assert_gone(exporters)
    assert not list(out.rglob(".*"))


@posix_only
@pytest.mark.slow  # row many-archives of the fault matrix is tried in every run
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_exporter(slow_archives: list[Path], tmp_path: Path, number: signal.Signals) -> None:
    """An exporter that dies is the failure of its archive; a new one goes on, and nothing partial stays."""
    out = tmp_path / "out"
    process = started("export", *slow_archives, "-o", out, "-j", "2", "--json", "--progress", "none")
    exporters = exporters_of(process, 2)
    wait_until(lambda: len(partials(out)) == 2)
    exporters[0].send_signal(number)
    printed, said = process.communicate(timeout=30)
    assert process.returncode == 14, said
    result = json.loads(printed)
    (failed,) = (one for one in result["archives"] if one["status"] == "failed")
    word = "killed" if number == signal.SIGKILL else "stopped"
    assert f"the exporter of this archive was {word} by signal {int(number)}" in failed["error"]
    assert said.startswith(f"failed: {failed['path']}: ")
    assert result["archives_exported"] == 5
    assert not list(out.rglob(".*"))
    assert not (out / Path(failed["path"]).stem).exists()


@posix_only
@pytest.mark.slow
def test_stopped_exporter(slow_archives: list[Path], tmp_path: Path) -> None:
    """An exporter that somebody stopped is killed after some seconds, and the others go on."""
    with limits(STOPPED_SECONDS=1):
        process = started("export", *slow_archives, "-o", tmp_path / "out", "-j", "2", "--json")
    exporters = exporters_of(process, 2)
    wait_until(lambda: len(partials(tmp_path / "out")) == 2)
    exporters[0].send_signal(signal.SIGSTOP)
    printed, _ = process.communicate(timeout=30)
    assert process.returncode == 14
    (failed,) = (one for one in json.loads(printed)["archives"] if one["status"] == "failed")
    assert "was stopped for more than 1 seconds" in failed["error"]


@pytest.mark.slow
def test_an_archive_that_needs_all_memory(tmp_path: Path) -> None:
    """What does not fit into the share of an exporter is exported alone; what does not fit at all is a failure."""
    archives = small_archives(tmp_path / "in", 3)
    large = file_archive(tmp_path / "in" / "large.db", [post(1, text="x" * 30_000_000), post(2)])
    huge = file_archive(tmp_path / "in" / "huge.db", [post(1, text="x" * 72_000_000)])
    given = [archives[0], large, archives[1], huge, archives[2]]
    done = skyexport_json("export", *given, "-o", tmp_path / "out", "-j", "2", "--memory-limit", "170MB", status=13)
    assert done["exporters"] == 2
    assert [one["status"] for one in done["archives"]] == ["ok", "ok", "ok", "failed", "ok"]
    assert str(post(1)["uri"]) in done["archives"][3]["error"]
    assert done["peak_memory_bytes"] < 170_000_000


def test_little_memory_means_fewer_exporters(tmp_path: Path) -> None:
    """A limit that leaves no room for two exporters means that one process does all."""
    archives = small_archives(tmp_path / "in", 3)
    done = skyexport_json("export", *archives, "-o", tmp_path / "out", "-j", "2", "--memory-limit", "100MB")
    assert (done["exporters"], done["archives_exported"]) == (0, 3)


def test_from_python(tmp_path: Path) -> None:
    """export_all gives an outcome for each, tells each one at once, and ends with what its listener raises."""
    archives = small_archives(tmp_path / "in", 3)
    options = ExportOptions(archive=archives[0], output_dir=tmp_path / "out", workers=2, format="csv")
    told: list[Outcome] = []
    done = export_all([*archives, tmp_path / "missing.db"], options, on_outcome=told.append)
    assert [one.status for one in done.outcomes] == ["ok", "ok", "ok", "failed"]
    assert done.exit_code == 10
    assert {one.path for one in told} == {one.path for one in done.outcomes}
    assert isinstance(done.outcomes[3].error, package.ArchiveError)
    assert json.loads(json.dumps(done.to_dict()))["archives"][0]["posts"] == 3
    with pytest.raises(OptionError):
        export_all(archives, replace(options, to=tmp_path / "file"))

    def stop(_: object) -> None:
        raise StoppedError(15)

    many = small_archives(tmp_path / "many", 26, posts=500)
    with pytest.raises(StoppedError, match=r"^stopped by a signal; \d+ of 26 archives"):
        export_all(many, replace(options, output_dir=tmp_path / "stopped"), stop)
    assert not list((tmp_path / "stopped").rglob(".*"))


def test_many_outcomes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outcomes beyond some megabytes lie in a temporary file without a name, and are read back in order."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with limits(OUTCOMES_IN_MEMORY_BYTES=10_000):
        outcomes = Outcomes(300)
    for number in reversed(range(300)):
        outcomes.put(number, Outcome(Path(f"{number}.db"), error=package.ArchiveError(f"no {number}")))
    assert [one.path.stem for one in outcomes] == [str(number) for number in range(300)]
    failure = outcomes.first_failure()
    assert failure is not None
    assert str(failure.error) == "no 0"
    assert outcomes.failed == 300
    if sys.platform != "win32":
        assert not list(tmp_path.iterdir())
    del outcomes


@pytest.mark.slow
def test_paths_of_a_million_archives() -> None:
    """A list of archives takes its paths and little more, and no path of it is looked at more than needed."""
    import tracemalloc

    paths = [f"/nowhere/{number:020d}.db" for number in range(20_000)]
    tracemalloc.start()
    listed = ArchiveList(paths)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(listed) == 20_000
    assert peak < 20_000 * 400


def test_help_of_the_list(tmp_path: Path) -> None:
    """Nothing to export is wrong usage, and says what to do."""
    done = skyexport("export", cwd=tmp_path)
    assert done.returncode == 2
    assert "--from-file" in done.stderr


def test_dry_run_of_many(tmp_path: Path) -> None:
    """What an export of each would do is told, in words and as an object; one may fail."""
    archives = [file_archive(tmp_path / f"{name}.db", [post(number) for number in range(5)]) for name in "ab"]
    arguments: list[str | Path] = [archives[0], tmp_path / "none.db", archives[1], "--dry-run", "-o", tmp_path / "out"]
    done = skyexport("export", *arguments)
    assert done.returncode == 10
    assert done.stdout.count("posts:            5 of 5") == 2
    assert done.stderr.count("no archive at") == 1
    found = skyexport_json("export", *arguments, status=10)
    assert found["status"] == "failed"
    assert [one["status"] for one in found["archives"]] == ["ok", "failed", "ok"]
    assert [one.get("place") for one in found["archives"]] == [
        str(tmp_path / "out" / "a" / "all"), None, str(tmp_path / "out" / "b" / "all")
    ]  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.db", "b.db"]


@pytest.mark.parametrize(("option", "value"), [("to", Path("x")), ("since_export", (Path("x"),)), ("register", True)])
def test_options_for_one_archive(tmp_path: Path, option: str, value: object) -> None:
    """Options that make sense for one archive only are refused before anything begins."""
    more = {"author": "did:plc:abc"} if option == "register" else {}
    options = ExportOptions(archive=tmp_path / "a.db", **{option: value}, **more)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match=f"--{option.replace('_', '-')} is for one archive"):
        export_all([tmp_path / "a.db", tmp_path / "b.db"], options)
