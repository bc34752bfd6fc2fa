"""The command as a process: what it prints, its exit codes, signals, pipes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import apsw
import pytest
from typer.testing import CliRunner

import make_archive
import skyexport as package
from skyexport.cli.app import app
from skyexport.formats import FORMS
from skyexport.rendering import native
from skyexport.runtime.signals import Signals
from tests.archives import RawText, file_archive, post
from tests.command import (
    PROGRAM,
    assert_gone,
    files_below,
    skyexport,
    skyexport_json,
    started,
    wait_for_output,
    wait_for_workers,
)
from tests.conftest import posix_only
from tests.media_files import add_media

pytestmark = pytest.mark.smoke


def test_export_prints_the_path_last(small_archive: make_archive.ArchiveInfo, tmp_path: Path) -> None:
    """Without options an export lands below ./exports, and its path is the last line on standard error."""
    done = skyexport("export", small_archive.path, cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert lines[0].startswith("2,500 posts to JSON in ")
    assert "peak memory" in lines[1]
    assert lines[1].endswith({"native": ", native renderer", "python": ", Python renderer"}[native.renderer()])
    assert len(json.loads((tmp_path / lines[-1]).read_bytes())) == 2500
    path = Path(lines[-1])
    assert path.parts[:2] == ("exports", "all")
    assert files_below(tmp_path)[3:] == [
        str(path.with_name(name)) for name in ("SHA256SUMS", "manifest.json", path.name)
    ]


def test_json_summary(small_archive: make_archive.ArchiveInfo, tmp_path: Path) -> None:
    """With --json the summary is the only thing on standard output, and has what programs need."""
    summary = skyexport_json("export", small_archive.path, "-o", tmp_path, "-j", "1", "-f", "csv")
    assert summary["schema_version"] == 1
    assert summary["status"] == "ok"
    assert summary["format"] == "csv"
    assert summary["posts"] == 2500
    assert summary["workers"] == 1
    assert (summary["renderer"], summary["renderer_problem"]) == (native.renderer(), None)
    assert set(summary["warnings"]) == {"formula"}
    assert summary["warning_places"] == {}
    assert summary["memory_metric"] in ("pss", "uss", "rss")
    assert {"batches", "seconds", "posts_per_second", "peak_memory_bytes"} <= set(summary)
    assert [file["name"] for file in summary["files"]] == ["posts.csv", "manifest.json", "SHA256SUMS"]
    assert summary["files"][0]["bytes"] == summary["bytes"] == (Path(summary["path"])).stat().st_size
    assert Path(summary["directory"]) == Path(summary["path"]).parent


def test_standard_output_has_data_only(small_archive: make_archive.ArchiveInfo) -> None:
    """With --to - the data file is on standard output, everything else on standard error."""
    done = skyexport("export", small_archive.path, "--to", "-", "-f", "csv")
    assert done.returncode == 0
    assert done.stdout.startswith("\ufeffURI,CID,")
    assert "2,500 posts" in done.stderr
    quiet = skyexport("export", small_archive.path, "--to", "-", "-f", "csv", "-q")
    assert (quiet.stdout, quiet.stderr) == (done.stdout, "")


@pytest.mark.parametrize(
    "options",
    [
        ["--since", "2024-02-30"],
        ["--since", "yesterday"],
        ["--until", "2024-01-01T00:00:00"],
        ["--since", "2024-02-02", "--until", "2024-02-01"],
        ["--batch-size", "0"],
        ["--batch-size", "many"],
        ["--memory-limit", "lots"],
        ["--memory-limit", "0"],
        ["-j", "-1"],
        ["-j", "two"],
        ["-f", "xml"],
        ["--author", "alice"],
        ["--author", "did:plc:../../x"],
        ["--progress", "loud"],
        ["--json", "--to", "-"],
        ["--overwrite", "--no-such-flag"],
        ["--overwrite"],
        ["-o", "exports", "--to", "out.json"],
        ["-o", ""],
        ["--to", ""],
        ["--to", "out.json/"],
        ["-j", "٣"],
        ["-j", "1_0"],
        ["-j", " 2"],
        ["-j", "9" * 5000],
        ["--batch-size", "1_000"],
        ["--batch-size", "+5"],
        ["--batch-size", "١٠"],
        ["--batch-size", ""],
    ],
)
def test_wrong_usage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]) -> None:
    """A value that no export could have is a usage error before anything is opened, even the missing archive."""
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["export", "missing.db", *options], obj=Signals())
    assert done.exit_code == 2
    assert isinstance(done.exception, SystemExit)
    assert done.output
    assert "no archive" not in done.output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["export", "inspect", "verify", "bench"])
def test_no_name(tmp_path: Path, command: str) -> None:
    """An empty path, as an unset variable of a script gives it, is not the current directory."""
    done = skyexport(command, "", cwd=tmp_path)
    assert done.returncode == 2
    what = "directory" if command == "verify" else "archive"
    assert done.stderr == f"skyexport: the {what} has no name; write a path\n"


def broken_archives(folder: Path) -> list[tuple[Path, str]]:
    """Files that are no archives, and what is said of them."""
    folder.mkdir()
    empty, text, other, directory, cut = (folder / name for name in ("empty", "text", "other", "directory", "cut"))
    empty.touch()
    text.write_text("not a database, but long enough to have a header of a hundred bytes " * 3)
    with apsw.Connection(str(other)) as connection:
        connection.execute("create table notes(text)")
    directory.mkdir()
    whole = file_archive(folder / "whole", [post(number) for number in range(200)])
    cut.write_bytes(whole.read_bytes()[:20_000])
    return [
        (folder / "missing", "no archive at"),
        (empty, "is empty"),
        (text, "is not a SQLite database"),
        (other, "not a bskyarchive archive: no table posts"),
        (directory, "is not a file"),
        (cut, "is damaged"),
    ]


@pytest.mark.quick(1)
@pytest.mark.parametrize("command", ["export", "inspect"])
def test_no_archive(tmp_path: Path, command: str) -> None:
    """Whatever is wrong with an archive: one line with its path, exit code 10, nothing written."""
    for path, message in broken_archives(tmp_path / "in"):
        done = skyexport(command, path, cwd=tmp_path)
        assert done.returncode == 10, (path, done.stderr)
        assert message in done.stderr
        assert path.name in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "exports").exists()


def test_failure_as_json(tmp_path: Path) -> None:
    """With --json a failure is an object on standard output too."""
    failed = skyexport_json("export", tmp_path / "missing.db", status=10)
    assert failed["status"] == "failed"
    assert failed["exit_code"] == 10
    assert "no archive" in failed["error"]


@pytest.mark.parametrize("target", ["file/below", "directory"])
def test_unwritable_output(small_archive: make_archive.ArchiveInfo, tmp_path: Path, target: str) -> None:
    """An output that can not be written ends with exit code 12 and leaves everything as it was."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "directory").mkdir()
    option = "-o" if target == "file/below" else "--to"
    done = skyexport("export", small_archive.path, option, tmp_path / target)
    assert done.returncode == 12
    assert len(done.stderr.splitlines()) == 1
    assert files_below(tmp_path) == ["directory", "file"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("workers", ["0", "2"])
def test_full_disk(small_archive: make_archive.ArchiveInfo, workers: str) -> None:
    """A full disk ends with exit code 12 and says so."""
    done = skyexport("export", small_archive.path, "--to", "/dev/full", "-j", workers)
    assert done.returncode == 12
    assert "No space left on device" in done.stderr


def on_small_disk(folder: Path, size: int, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command with *folder* a file system of its own, of that size; what it leaves is listed on stdout."""
    script = f'mount -t tmpfs -o size={size} tmpfs {folder} && {{ "$@"; status=$?; ls -AR {folder}; exit $status; }}'
    command = ["unshare", "--mount", "--map-root-user", "bash", "-c", script, "-", *PROGRAM, *map(str, arguments)]
    try:
        tried = subprocess.run([*command[:3], "true"], capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no unshare here")
    if tried.returncode:
        pytest.skip("mounting is not allowed here")
    return subprocess.run(command, capture_output=True, text=True, check=False)


@posix_only
@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.slow  # row full-disk of the fault matrix is tried in every run
def test_disk_that_is_too_small(tmp_path: Path, workers: str) -> None:
    """A small disk refuses an export at once, or ends it when full: exit code 12, the free space, nothing left."""
    rows = [post(number, text="x" * (3000 if number > 500 else 300)) for number in range(1000)]
    path = file_archive(tmp_path / "a.db", rows)
    whole = skyexport_json("export", path, "--to", tmp_path / "whole")["bytes"]
    disk = tmp_path / "disk"
    disk.mkdir()
    refused = on_small_disk(disk, 200_000, "export", path, "-o", disk / "o", "-j", workers)
    assert refused.returncode == 12, refused.stderr
    assert "the export needs " in refused.stderr
    assert f"the disk of {disk / 'o'} has 197 kB free" in refused.stderr
    filled = on_small_disk(disk, whole // 2, "export", path, "-o", disk / "o", "-j", workers)
    assert filled.returncode == 12, filled.stderr
    assert "No space left on device, 0 B free; free some space" in filled.stderr
    for done in (refused, filled):
        assert len(done.stderr.splitlines()) == 1
        assert done.stdout == f"{disk}:\n"


@posix_only
@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.slow  # row file-limit of the fault matrix is tried in every run
def test_file_size_limit(slow_archive: Path, tmp_path: Path, workers: str) -> None:
    """Where a file may not grow, the short write is noticed: exit code 12, nothing left."""
    limited = f'ulimit -f 20000; exec "$@" -o {tmp_path}/o'
    done = subprocess.run(
        ["bash", "-c", limited, "-", *PROGRAM, "export", str(slow_archive), "-j", workers],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 12, done.stderr
    assert not (tmp_path / "o").exists()


@posix_only
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.slow  # row signals of the fault matrix is tried in every run
def test_signals(slow_archive: Path, tmp_path: Path, number: signal.Signals, workers: int) -> None:
    """A signal ends the export within two seconds: its exit code, no output, no process, earlier exports untouched."""
    skyexport("export", slow_archive, "-o", tmp_path, "--until", "1990-01-01")
    before = files_below(tmp_path)
    process = started("export", slow_archive, "-o", tmp_path, "-j", str(workers))
    workers_seen = wait_for_workers(process, workers)
    wait_for_output(tmp_path, "all/.*.partial/posts.json")
    process.send_signal(number)
    _, said = process.communicate(timeout=2)
    assert process.returncode == 128 + number
    assert said.splitlines()[-1].startswith("skyexport: stopped by a signal")
    assert "Traceback" not in said
    assert_gone(workers_seen)
    assert files_below(tmp_path) == before


@posix_only
@pytest.mark.slow  # row signals of the fault matrix is tried in every run
def test_interrupt_of_the_whole_group(slow_archive: Path, tmp_path: Path) -> None:
    """Ctrl-C reaches every process of a terminal's group; only the coordinator answers."""
    process = subprocess.Popen(
        [*PROGRAM, "export", str(slow_archive), "-o", str(tmp_path), "-j", "2"],
        stderr=subprocess.PIPE, text=True, process_group=0,
    )  # fmt: skip
    workers = wait_for_workers(process, 2)
    wait_for_output(tmp_path, "all/.*.partial/posts.json")
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=2)
    assert process.returncode == 130
    assert len(said.splitlines()) == 1
    assert_gone(workers)


@pytest.mark.quick(1)
@posix_only
def test_killed_worker(slow_archive: Path, tmp_path: Path) -> None:
    """A worker that is killed ends the export: exit code 14, the batch named, siblings gone, nothing left."""
    process = started("export", slow_archive, "-o", tmp_path, "-j", "2")
    workers = wait_for_workers(process, 2)
    wait_for_output(tmp_path, "all/.*.partial/posts.json")
    workers[0].kill()
    _, said = process.communicate(timeout=5)
    assert process.returncode == 14
    assert "killed by signal 9 in batch" in said
    assert_gone(workers)
    assert files_below(tmp_path) == []


@posix_only
@pytest.mark.slow  # row kill of the fault matrix is tried in every run
def test_killed_coordinator(slow_archive: Path, tmp_path: Path) -> None:
    """Workers do not outlive a coordinator that is killed, and nothing has a final name."""
    process = started("export", slow_archive, "-o", tmp_path, "-j", "2")
    workers = wait_for_workers(process, 2)
    wait_for_output(tmp_path, "all/.*.partial/posts.json")
    process.kill()
    process.communicate(timeout=5)
    assert_gone(workers)
    assert [path.name for path in (tmp_path / "all").iterdir() if not path.name.startswith(".")] == []
    (left,) = (tmp_path / "all").glob(".*.partial")
    done = skyexport("export", slow_archive, "-o", tmp_path, "--since", "2100-01-01")
    assert done.returncode == 0
    assert done.stderr.splitlines()[0] == f"removed leftovers of killed exports: {left}"
    assert [path.name for path in (tmp_path / "all").iterdir() if path.name.startswith(".")] == []


@posix_only
@pytest.mark.parametrize("to", [["-o", "."], ["--to", "out.json"]])
@pytest.mark.slow  # row two-exports of the fault matrix is tried in every run
def test_second_export_into_the_same_place(slow_archive: Path, tmp_path: Path, to: list[str]) -> None:
    """It ends at once and leaves the first one alone, which may even be stopped; another author's goes on beside it."""
    process = started("export", slow_archive, "-j", "0", *to, cwd=tmp_path)
    wait_for_output(tmp_path, ".out.json-*.partial" if "--to" in to else "all/.*.partial/posts.json")
    process.send_signal(signal.SIGSTOP)
    before = files_below(tmp_path)
    second = skyexport("export", slow_archive, "-j", "0", *to, cwd=tmp_path)
    assert second.returncode == 15
    assert f"is running: process {process.pid} on " in second.stderr
    assert len(second.stderr.splitlines()) == 1
    assert files_below(tmp_path) == before
    with package.Archive(slow_archive) as archive:
        author = next(archive.authors()).did
    assert skyexport("export", slow_archive, "-o", tmp_path, "--author", author, cwd=tmp_path).returncode == 0
    process.send_signal(signal.SIGCONT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 0, said
    assert len(json.loads((tmp_path / said.splitlines()[-1]).read_bytes())) == 60_000


@posix_only
def test_pipe_into_head(slow_archive: Path) -> None:
    """A reader that leaves early ends the export quietly, as it ends other programs of a pipeline."""
    process = subprocess.Popen(
        [*PROGRAM, "export", str(slow_archive), "--to", "-", "-j", "2"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.read(2) == b"[\n"
    process.stdout.close()
    assert process.wait(timeout=5) == 128 + signal.SIGPIPE
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()


@posix_only
def test_closed_standard_error(small_archive: make_archive.ArchiveInfo, tmp_path: Path) -> None:
    """With nobody listening to the progress the export is done all the same."""
    command = [*PROGRAM, "export", str(small_archive.path), "--to", str(tmp_path / "out")]
    done = subprocess.run(["bash", "-c", 'exec "$@" 2>&-', "-", *command], check=False)
    assert done.returncode == 0
    assert len(json.loads((tmp_path / "out").read_bytes())) == 2500


def test_progress_events(slow_archive: Path, tmp_path: Path) -> None:
    """With --progress json every line of progress is an object; they move, and the last has everything."""
    done = skyexport("export", slow_archive, "--to", tmp_path / "out", "--progress", "json", "-q")
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert {event["event"] for event in events} == {"progress"}
    assert events[-1]["stage"] == "done"
    assert (events[-1]["posts"], events[-1]["fraction"]) == (60_000, 1.0)
    assert {"posts_read", "posts_to_read", "posts_per_second", "seconds_left", "memory_bytes"} <= set(events[0])


def test_no_progress_on_demand(slow_archive: Path, tmp_path: Path) -> None:
    """With --progress none standard error has the summary only."""
    done = skyexport("export", slow_archive, "--to", tmp_path / "out.json", "--progress", "none")
    assert len(done.stderr.splitlines()) == 4


@pytest.mark.quick(1)
@pytest.mark.parametrize("wal", [False, True])
def test_how_long_the_archive_was_held(tmp_path: Path, wal: bool) -> None:
    """In rollback mode, in which others could not write meanwhile, that is always said; else with -v; --json has it."""
    path = file_archive(tmp_path / "a.db", [post(number) for number in range(300)], wal=wal)
    for options, expected in (([], not wal), (["-v"], True), (["-q"], False)):
        done = skyexport("export", path, "-o", tmp_path, *options)
        assert ("the archive was held for 0." in done.stderr) == expected
        assert ("others had to wait to write" in done.stderr) == (expected and not wal)
    summary = skyexport_json("export", path, "-o", tmp_path, "-j", "1")
    assert 0 < summary["archive_held_seconds"] < summary["seconds"]
    assert summary["journal_mode"] == ("wal" if wal else "rollback")


def test_strict_exit_code(tmp_path: Path) -> None:
    """With --strict a value that can not be exported as stored is exit code 3."""
    path = file_archive(tmp_path / "a.db", [post(1, text=RawText(b"\xff"))])
    done = skyexport("export", path, "--strict", "-o", tmp_path / "o")
    assert done.returncode == 3
    assert str(post(1)["uri"]) in done.stderr
    assert not (tmp_path / "o").exists()


@pytest.mark.slow
def test_quiet_leaves_warnings(tmp_path: Path) -> None:
    """-q prints warnings and errors only, -qq errors only; of one archive, and of many."""
    posts = [post(1, created_at="never"), post(2, text="=1", has_media=1)]
    folder = tmp_path / "in"
    folder.mkdir()
    odd, usual = file_archive(folder / "odd.db", posts), file_archive(folder / "usual.db", [post(3)])
    for path in (odd, usual):
        add_media(path, b"lost", 1 if path == odd else 3, there=False)
    time = "1 time that cannot be read, kept as far as possible; the first: created_at of "
    media = "1 media file is missing; the first: "
    loud = skyexport("export", odd, "--media", "-f", "csv", "-o", tmp_path / "o").stderr.splitlines()
    warnings = [line for line in loud if line.startswith("warning: ")]
    assert [line[9:][: len(start)] for line, start in zip(warnings, (time, media), strict=True)] == [time, media]
    for quiet, expected in {("-q",): warnings, ("--quiet",): warnings, ("-qq",): [], ("-q", "-q"): []}.items():
        done = skyexport("export", odd, "--media", "-f", "csv", "-o", tmp_path / "o", *quiet)
        assert (done.returncode, done.stderr.splitlines()) == (0, expected)
    assert skyexport("export", odd, "-o", tmp_path / "o", env={"SKYEXPORT_QUIET": "2"}).stderr == ""
    many = ("export", odd, usual, folder / "missing.db", "--media", "-o", tmp_path / "o")
    once, twice = skyexport(*many, "-q").stderr.splitlines(), skyexport(*many, "-qq").stderr.splitlines()
    assert [line for line in once if not line.startswith(f"warning: {folder}")] == twice
    assert sum(line.startswith(f"warning: {odd}: ") for line in once) == 2
    assert sum(line.startswith(f"warning: {usual}: 1 media file is missing") for line in once) == 1
    assert [line.partition(":")[0] for line in twice] == ["failed"]


def test_formulas_are_told(tmp_path: Path) -> None:
    """What a spreadsheet may take for a formula is told in summary and manifest, for CSV only, and no failure."""
    path = file_archive(tmp_path / "a.db", [post(1, text="=1+1"), post(2, text="@you"), post(3)])
    done = skyexport("export", path, "-f", "csv", "--strict", "-o", tmp_path / "o")
    assert done.returncode == 0
    assert "note: a spreadsheet may read 2 cells as formulas; use --csv-safe" in done.stderr.splitlines()
    safe = skyexport("export", path, "-f", "csv", "--csv-safe", "-o", tmp_path / "safe")
    assert "note: without its apostrophe, a spreadsheet may read 2 cells as formulas" in safe.stderr.splitlines()
    for workers in ("0", "2"):
        summary = skyexport_json("export", path, "-f", "csv", "--strict", "-o", tmp_path / "o", "-j", workers)
        assert (summary["warnings"], summary["warning_places"]) == ({"formula": 2}, {})
        manifest = json.loads((Path(summary["directory"]) / "manifest.json").read_bytes())
        assert (manifest["warnings"], manifest["warning_places"]) == ({"formula": 2}, {})
    assert skyexport_json("export", path, "-o", tmp_path / "o")["warnings"] == {}


def test_terminal_escapes_are_shown_not_sent(tmp_path: Path) -> None:
    """Control characters of a post's uri do not reach the terminal."""
    path = file_archive(tmp_path / "a.db", [post(1, uri="at://\x1b]0;title\x07", created_at="never")])
    done = skyexport("export", path, "-o", tmp_path / "o")
    assert "\x1b" not in done.stderr
    assert r"at://\x1b]0;title\x07" in done.stderr


def test_tokens_of_the_archive_are_nowhere(small_archive: make_archive.ArchiveInfo, tmp_path: Path) -> None:
    """What the archive keeps in other tables is in no output."""
    done = skyexport("export", small_archive.path, "-o", tmp_path, "-v")
    assert done.returncode == 0
    for path in tmp_path.rglob("*.json"):
        assert b"canary" not in path.read_bytes()
    assert "canary" not in done.stderr


def test_debug_shows_a_traceback(tmp_path: Path) -> None:
    """--debug adds the traceback, and keeps the exit code."""
    done = skyexport("export", tmp_path / "missing.db", "--debug")
    assert done.returncode == 10
    assert "Traceback" in done.stderr


def test_a_module_in_the_current_directory_is_not_run(slow_archive: Path, tmp_path: Path) -> None:
    """A json.py where the user happens to be does not get into the workers."""
    (tmp_path / "json.py").write_text("raise SystemExit('hijacked')")
    done = skyexport("export", slow_archive, "-j", "2", "--to", "out.json", cwd=tmp_path, env={"PYTHONSAFEPATH": "1"})
    assert done.returncode == 0, done.stderr


def test_inspect(small_archive: make_archive.ArchiveInfo, tmp_path: Path) -> None:
    """inspect tells what an export would find, in words and as an object."""
    found = skyexport_json("inspect", small_archive.path)
    assert (found["posts"], found["authors"]) == (2500, len({found["did"] for found in posts_of(small_archive.path)}))
    assert found["largest_authors"][0]["did"] == small_archive.owner_did
    assert (found["schema_version"], found["archive_schema_version"]) == (1, 3)
    assert found["journal_mode"] == "rollback"
    assert found["created_at_index"] is True
    assert found["renderer"] == native.renderer_in_words()
    assert set(found["expected_bytes"]) == set(FORMS)
    for format in ("json", "parquet"):
        expected = found["expected_bytes"][format]
        done = skyexport_json("export", small_archive.path, "-f", format, "-o", tmp_path)
        assert expected == pytest.approx(done["bytes"], rel=0.1)
    words = skyexport("inspect", small_archive.path).stdout
    assert "2,500" in words
    assert small_archive.owner_did in words


def posts_of(path: Path) -> list[dict[str, str]]:
    with package.Archive(path) as archive:
        return list(archive.list_posts())


def test_version() -> None:
    """--version names program, version and renderer; a renderer that is asked for must be there."""
    for choice, line in (("auto", native.renderer_in_words()), ("python", "python: SKYEXPORT_RENDERER is python")):
        done = skyexport("--version", env={native.RENDERER_VARIABLE: choice})
        assert (done.returncode, done.stdout) == (0, f"skyexport {package.__version__}\nrenderer: {line}\n")
    done = skyexport("--version", env={native.RENDERER_VARIABLE: "rust"})
    assert done.returncode == 2
    assert done.stderr == "skyexport: SKYEXPORT_RENDERER=rust is not a renderer; choose from auto, native, python\n"


@pytest.mark.quick(1)
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("arguments", [["inspect"], ["inspect", "--json"], ["export", "--json"]])
def test_full_standard_output(small_archive: make_archive.ArchiveInfo, tmp_path: Path, arguments: list[str]) -> None:
    """A result that can not be printed is exit code 12 in one line."""
    command = [*PROGRAM, arguments[0], str(small_archive.path), *arguments[1:]]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 12
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("skyexport: cannot write standard output: No space left")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_help_on_a_full_standard_output() -> None:
    """Nor does --help end in a traceback there."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*PROGRAM, "--help"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 12
    assert "Traceback" not in done.stderr


@posix_only
def test_path_that_is_not_utf8(small_archive: make_archive.ArchiveInfo, tmp_path: Path) -> None:
    """An archive under a name that SQLite can not take is exit code 10, in one line."""
    path = os.fsencode(tmp_path) + b"/\xff.db"
    Path(os.fsdecode(path)).write_bytes(small_archive.path.read_bytes())
    done = subprocess.run([*map(os.fsencode, PROGRAM), b"inspect", path], capture_output=True, check=False)
    assert done.returncode == 10
    assert len(done.stderr.splitlines()) == 1
    assert b"not valid UTF-8" in done.stderr


@pytest.mark.quick(2)
@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["export", "missing\x1b[31m.db", "--debug"], 10),
        (["export", "b\x1b[31m.db", "a.db", "--debug"], 10),
        (["inspect", "a.db", "b\x1b[31m.db"], 2),
        (["export", "a.db", "--\x1b[31m"], 2),
        (["export", "a.db", "-f", "\x1b[31m\nskyexport: all is well"], 2),
        (["inspect", "--batch-size\x9b31m"], 2),
        (["\x1b[31m"], 2),
        (["--\x1b[31m"], 2),
    ],
)
def test_names_do_not_steer_the_terminal(tmp_path: Path, arguments: list[str], status: int) -> None:
    """Nor do names of files, which a shell makes arguments of, in messages about usage and in tracebacks."""
    done = skyexport(*arguments, cwd=tmp_path)
    assert done.returncode == status
    assert all(character.isprintable() or character == "\n" for character in done.stderr)
    assert "31m" in done.stderr
    assert not any(line.startswith("skyexport: all is well") for line in done.stderr.splitlines())
