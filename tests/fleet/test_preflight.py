"""Names in the wrong place, and what is wrong for every archive of many: one line, before anything starts."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import apsw
import pytest

from skyexport import ArchiveError, ExportError, ExportOptions, MissingExtraError, export, export_all, verify
from skyexport.repository import tables
from tests.archives import file_archive, post, uri_of
from tests.command import PROGRAM, files_below, skyexport, skyexport_json


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return file_archive(tmp_path / "archive.db", [post(number) for number in range(3)])


@pytest.fixture
def exported(archive: Path, tmp_path: Path) -> Path:
    """An export of it, in `old/all`."""
    directory = export(ExportOptions(archive=archive, output_dir=tmp_path / "old", workers=0, sync=False)).directory
    assert directory is not None
    return directory


def refused(folder: Path, *arguments: str | Path, status: int = 2) -> str:
    """The one line with which a command ends, before it writes anything."""
    before = files_below(folder)
    done = skyexport(*arguments, cwd=folder)
    assert done.returncode == status, (done.stdout, done.stderr)
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert files_below(folder) == before
    return done.stderr.removeprefix("skyexport: ").rstrip("\n")


@pytest.mark.quick(2)
@pytest.mark.parametrize("name", ["out.csv", "out.json", "OUT.JSONL", "out.parquet", "out.csv.gz", "out.jsonl.zst"])
def test_a_file_to_write_that_is_taken_for_an_archive(archive: Path, tmp_path: Path, name: str) -> None:
    """The name of a data file among archives, whether it is there or not, is answered with --to; so is one after -o."""
    expected = f"{name} is not an archive; did you mean --to {name}?"
    assert refused(tmp_path, "export", archive.name, name) == expected
    assert refused(tmp_path, "export", name, archive.name) == expected
    assert refused(tmp_path, "export", archive.name, name, "--dry-run") == expected
    assert refused(tmp_path, "export", archive.name, "-o", name) == (
        f"-o {name} would make a directory of that name; did you mean --to {name}?"
    )
    assert refused(tmp_path, "export", name) == f"{name} is not an archive; name the archive's .db file"
    assert refused(tmp_path, "inspect", name) == f"{name} is not an archive; name the archive's .db file"
    assert refused(tmp_path, "bench", archive.name, "-o", name).startswith(f"-o {name} would make")
    (tmp_path / name).write_text("[]\n")
    assert refused(tmp_path, "export", archive.name, name) == expected


def test_names_that_are_what_they_should_be(archive: Path, tmp_path: Path) -> None:
    """An archive may be called out.csv, and so may a directory of exports."""
    named = Path(shutil.copy(archive, tmp_path / "out.csv"))
    (tmp_path / "dir.json").mkdir()
    found = skyexport_json("export", named, archive, "-o", tmp_path / "dir.json", "--no-sync")
    assert found["archives_exported"] == 2


def test_an_archive_where_a_directory_belongs(archive: Path, tmp_path: Path) -> None:
    """An archive after -o, or in the place of a list or of an export, is named as one."""
    (tmp_path / "b.db").write_bytes(archive.read_bytes())
    line = refused(tmp_path, "export", archive.name, "-o", "b.db")
    assert line.startswith("b.db is an archive, but -o names the directory")
    line = refused(tmp_path, "export", "--from-file", "b.db")
    assert line == "the list b.db is a SQLite file, not a list; name an archive without --from-file"
    line = refused(tmp_path, "verify", "b.db", status=10)
    assert line == "b.db is not a directory; it is an archive; did you mean `skyexport inspect b.db`?"


def test_an_export_where_an_archive_belongs(archive: Path, exported: Path, tmp_path: Path) -> None:
    """An export among archives, as a pattern behind --since-export gives it, is answered with what it may be for."""
    name = exported.relative_to(tmp_path)
    line = refused(tmp_path, "export", archive.name, name)
    assert line.startswith(f"{name} is an export, not an archive; did you mean `skyexport verify {name}`")
    assert "--since-export" in line
    for command in ("export", "inspect"):
        line = refused(tmp_path, command, name / "manifest.json")
        assert line.startswith(f"{name / 'manifest.json'} is a file of an export, not an archive")
    assert refused(tmp_path, "inspect", name / "posts.json").startswith(f"{name / 'posts.json'} is not an archive")
    line = refused(tmp_path, "export", "--from-file", name / "posts.json")
    assert line == f"{name / 'posts.json'} is not a list of archives; a list has one path per line"


@pytest.mark.quick(1)
@pytest.mark.parametrize("option", ["verify", "--since-export", "--link-media"])
def test_what_is_near_an_export(archive: Path, exported: Path, tmp_path: Path, option: str) -> None:
    """A file of an export is answered with its directory, wherever an export belongs."""
    command = ["verify"] if option == "verify" else ["export", archive.name, "--media", option]
    if option == "--since-export":
        command.remove("--media")
    for name in ("manifest.json", "posts.json"):
        path = exported.relative_to(tmp_path) / name
        line = refused(tmp_path, *command, path, status=10)
        assert line == f"{path} is not a directory; did you mean its directory, {path.parent}?"


def test_a_directory_of_exports(archive: Path, exported: Path, tmp_path: Path) -> None:
    """The directory above an export is answered with one of those in it."""
    for path in (exported.parent, exported.parents[1]):
        for command in (["verify"], ["export", archive, "--since-export"]):
            line = refused(tmp_path, *command, path, status=10)
            assert f"there are exports below it, like {exported}" in line
            assert "--recursive" in line


@pytest.mark.quick(2)
@pytest.mark.parametrize("more", [["-o", "."], ["-o", "media/deep"], ["--to", "other.json"], ["--to", "posts.json"]])
def test_nothing_is_written_into_an_export(archive: Path, exported: Path, more: list[str]) -> None:
    """No option lets an export, a dry run or a benchmark write into another export, or over a file of it."""
    option, name = more
    overwrite = ["--overwrite"] if name == "posts.json" else []
    for last in ([], ["--dry-run"]):
        done = skyexport("export", archive, option, exported / name, *overwrite, *last)
        assert done.returncode == 2, done.stderr
        assert f"lies in the export {exported}" in done.stderr
    if option == "-o":
        assert skyexport("export", archive, archive.with_name("none.db"), option, exported / name).returncode == 2
        assert f"lies in the export {exported}" in skyexport("bench", archive, "-o", exported).stderr
    assert verify(exported).posts == 3


def many(folder: Path, count: int = 12) -> list[Path]:
    return [file_archive(folder / f"{number}.db", [post(number)]) for number in range(count)]


@pytest.mark.quick(5)
@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--match", '"open'], 2, "is not a full-text query"),
        (["--match", "nosuchcolumn: cats"], 2, "nosuchcolumn"),
        (["--media", "--media-root", "none"], 2, "cannot open the directory of media none"),
        (["--media", "--link-media", "none"], 10, "there is no directory none"),
        (["-o", "file"], 12, "file"),
        (["-o", "file/below"], 12, "file/below"),
        (["--memory-limit", "1MB"], 13, "MB"),
    ],
    ids=str,
)
@pytest.mark.parametrize("last", [[], ["--dry-run"]], ids=["export", "dry run"])
def test_what_is_wrong_for_all_is_said_once(
    tmp_path: Path, options: list[str], status: int, message: str, last: list[str]
) -> None:
    """One line and one status, though there are many archives."""
    many(tmp_path)
    (tmp_path / "file").write_text("mine")
    names = [f"{number}.db" for number in range(12)]
    assert message in refused(tmp_path, "export", *names, *options, *last, status=status)


def test_a_package_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pyarrow, many archives to Parquet are one error."""
    archives = many(tmp_path, 3)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    outcomes: list[Any] = []
    with pytest.raises(MissingExtraError, match="pyarrow, which is not installed"):
        export_all(
            archives,
            ExportOptions(archive=archives[0], output_dir=tmp_path / "out", format="parquet"),
            on_outcome=outcomes.append,
        )
    assert outcomes == []
    assert not (tmp_path / "out").exists()


def test_a_query_that_some_archives_take(tmp_path: Path) -> None:
    """A column of one archive's own index is no error for all."""
    archives = many(tmp_path, 2)
    for archive, columns in zip(archives, ("uri unindexed, text", "text, did"), strict=True):
        with contextlib.closing(apsw.Connection(str(archive))) as connection:
            index, _, _ = tables.FULL_TEXT.partition("create trigger")
            connection.execute(index.replace("uri unindexed, text", columns, 1))
    done = skyexport_json("export", *archives, "-o", tmp_path / "out", "--match", "did: abc", status=2)
    assert [one["status"] for one in done["archives"]] == ["failed", "ok"]


def test_a_list_from_elsewhere(tmp_path: Path) -> None:
    """Where not one of several archives is there, as with relative paths in another directory, that is one error."""
    (tmp_path / "list").write_text("".join(f"archives/{number}.db\n" for number in range(400)))
    line = refused(tmp_path, "export", "--from-file", "list", status=10)
    assert line.startswith("none of these 400 archives exists; the first is archives/0.db")
    assert str(tmp_path) in line
    with pytest.raises(ArchiveError):
        export_all([tmp_path / "x", tmp_path / "y"], ExportOptions(archive=tmp_path / "x", output_dir=tmp_path))
    assert skyexport("export", "--from-file", "/dev/null", cwd=tmp_path).returncode in (0, 2)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps a current directory")
def test_a_list_in_a_deleted_directory(tmp_path: Path) -> None:
    """Where the current directory was deleted, that is the reason."""
    (tmp_path / "gone").mkdir()
    script = f'cd "{tmp_path}/gone" && rmdir "{tmp_path}/gone" && exec "$@"'
    command = ["sh", "-c", script, "-", *PROGRAM, "export", "a.db", "b.db", "-o", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 10
    line = "skyexport: none of these 2 archives exists; the first is a.db; change to another directory: the current one"
    assert done.stderr == f"{line} was deleted\n"


def test_kinds_of_failures(tmp_path: Path) -> None:
    """Each failure is one line when it happens; at the end a line for each kind, with how many there are."""
    archives = many(tmp_path, 2)
    missing = [tmp_path / f"missing{number}.db" for number in range(30)]
    text = tmp_path / "text.db"
    text.write_text("no archive " * 20)
    given = [*missing, *archives, text]
    done = skyexport("export", *given, "-o", tmp_path / "out", "--no-sync")
    assert done.returncode == 10
    lines = done.stderr.splitlines()
    for path in (*missing, text):
        assert sum(str(path) in line for line in lines) == 1
    kinds = [line for line in lines if line.startswith("failed: ") and " × " in line]
    assert kinds == ["failed: 30 × no archive at …", "failed: 1 × … is not a SQLite database"]
    found = skyexport_json("export", *given, "-o", tmp_path / "out", "--no-sync", status=10)
    assert found["failures"] == [
        {"error": "no archive at …", "exit_code": 10, "archives": 30},
        {"error": "… is not a SQLite database", "exit_code": 10, "archives": 1},
    ]


def with_media(archive: Path) -> None:
    with contextlib.closing(apsw.Connection(str(archive))) as connection:
        connection.execute(
            "insert into media (hash, post_uri, mime_type, file_path, size_bytes)"
            " values (?, ?, 'image/jpeg', 'x.jpg', 1)",
            ("a" * 64, uri_of(post(1))),
        )


def test_a_wrong_directory_of_media(archive: Path, tmp_path: Path) -> None:
    """A directory that was named for media, and has not one of them, is an error; without a name it is a warning."""
    with_media(archive)
    (tmp_path / "elsewhere").mkdir()
    line = refused(tmp_path, "export", archive.name, "--media", "--media-root", "elsewhere")
    assert line.startswith("none of 1 media files is in elsewhere; check --media-root")
    done = skyexport("export", archive, "--media", "-o", tmp_path / "out", "--no-sync")
    assert done.returncode == 0
    assert "1 media file is missing" in done.stderr


def test_nothing_to_link(archive: Path, exported: Path, tmp_path: Path) -> None:
    """An earlier export without media is told, where media were to be linked."""
    with_media(archive)
    (tmp_path / "x.jpg").write_text("x")
    done = skyexport("export", archive, "--media", "--link-media", exported, "-o", tmp_path / "out", "--no-sync")
    assert done.returncode == 0
    assert f"note: {exported} has no media to link" in done.stderr


def test_errors_are_ours() -> None:
    """What is raised before anything starts is an ExportError like any other."""
    with pytest.raises(ExportError):
        export_all(["a.db", "b.db"], ExportOptions(archive=Path("a.db"), output_dir=Path("/dev/null/x")))
