"""One archive by many names: links, hard links, missing files, and a current directory that was deleted."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest

from skyexport import ArchiveError, ExportOptions, OptionError, export
from skyexport.archive.archive import Archive
from skyexport.errors import ArchiveChangedError, StrictError
from skyexport.fleet.archive_list import ArchiveList
from skyexport.options.export_options import resolve
from skyexport.output.destination import check_destination
from skyexport.pipeline.dry_run import dry_run
from skyexport.pipeline.inspection import inspect
from skyexport.runtime.location import archive_location, files_beside
from tests.archives import file_archive, post, uri_of
from tests.command import PROGRAM, export_on_read_only_disk, files_below, skyexport, skyexport_json
from tests.conftest import posix_only

pytestmark = posix_only

LinkMaker = Callable[[Path, Path], Path]


def plain(folder: Path, archive: Path) -> Path:
    """A link to the archive."""
    (folder / "link.db").symlink_to(archive)
    return folder / "link.db"


def relative(folder: Path, archive: Path) -> Path:
    """A link with a relative target."""
    (folder / "link.db").symlink_to(os.path.relpath(archive, folder))
    return folder / "link.db"


def linked_link(folder: Path, archive: Path) -> Path:
    """A link to a link."""
    (folder / "more").mkdir()
    (folder / "more" / "link.db").symlink_to(plain(folder, archive))
    return folder / "more" / "link.db"


def in_linked_directory(folder: Path, archive: Path) -> Path:
    """A link in a directory that is a link itself."""
    (folder / "real").mkdir()
    (folder / "linked").symlink_to(folder / "real")
    plain(folder / "real", archive)
    return folder / "linked" / "link.db"


def of_directory(folder: Path, archive: Path) -> Path:
    """The archive's own name, in a linked directory."""
    (folder / "linked").symlink_to(archive.parent)
    return folder / "linked" / archive.name


LINKS = [plain, relative, linked_link, in_linked_directory, of_directory]


@pytest.fixture(params=LINKS, ids=lambda make: make.__name__)
def link(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Another name of `archives/a.db`, which need not be there yet."""
    (tmp_path / "links").mkdir()
    (tmp_path / "archives").mkdir()
    make: LinkMaker = request.param
    return make(tmp_path / "links", tmp_path / "archives" / "a.db")


@contextlib.contextmanager
def live(path: Path) -> Iterator[Path]:
    """A WAL archive that a program has open: its newest post, "in the log", is in the log only."""
    file_archive(path, [post(1)], wal=True)
    with contextlib.closing(apsw.Connection(str(path))) as connection:
        connection.execute("update posts set text = 'in the log'")
        yield path


WRITER = """
import sys, apsw
connection = apsw.Connection(sys.argv[1])
connection.execute("update posts set text = 'in the log'")
print("written", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def live_elsewhere(path: Path) -> Iterator[Path]:
    """As `live`, with the archive open in another process: within one, SQLite takes all names of a file for one."""
    file_archive(path, [post(1)], wal=True)
    command = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"written\n"
        yield path
        writer.communicate()


def killed(path: Path, folder: Path) -> None:
    """As `live` leaves it when the program is killed, and the index of the log is lost."""
    folder.mkdir()
    with live(folder / "original.db") as original:
        shutil.copy(original, path)
        shutil.copy(f"{original}-wal", f"{path}-wal")


def texts(path: Path) -> list[str]:
    """The texts of the posts of an exported JSON file."""
    return [found["text"] for found in json.loads(path.read_bytes())]


@pytest.mark.quick(2)
@pytest.mark.parametrize("snapshot", ["pin", "copy"])
def test_a_live_archive_by_a_link(tmp_path: Path, link: Path, snapshot: str) -> None:
    """The posts of the log are exported by every name, and nothing lies beside the link or the file afterwards."""
    with live(tmp_path / "archives" / "a.db"):
        before = files_below(tmp_path)
        summary = export(ExportOptions(archive=link, to=tmp_path / "out", workers=0, snapshot=snapshot))
        assert summary.warnings == {}
        assert texts(tmp_path / "out") == ["in the log"]
        (tmp_path / "out").unlink()
        assert inspect(link).path == tmp_path / "archives" / "a.db"
        assert dry_run(ExportOptions(archive=link, output_dir=tmp_path / "o")).posts == 1
        assert files_below(tmp_path) == before


def test_a_closed_archive_by_a_link(tmp_path: Path, link: Path) -> None:
    """A WAL archive that was closed is read by every name, and nothing lies beside the link or the file afterwards."""
    file_archive(tmp_path / "archives" / "a.db", [post(1)], wal=True)
    before = files_below(tmp_path)
    with Archive(link) as archive:
        assert archive.count_posts() == 1
        assert archive.path == tmp_path / "archives" / "a.db"
        assert archive.display_path == str(link)
    assert files_below(tmp_path) == before


def test_recovery_by_a_link(tmp_path: Path, link: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log without its index is recovered in a copy by every name, and the files stay as they are."""
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    killed(tmp_path / "archives" / "a.db", tmp_path / "elsewhere")
    before = files_below(tmp_path)
    export(ExportOptions(archive=link, to=tmp_path / "out", workers=0))
    assert texts(tmp_path / "out") == ["in the log"]
    (tmp_path / "out").unlink()
    assert files_below(tmp_path) == before


@pytest.mark.quick(1)
def test_a_live_archive_by_a_link_on_a_read_only_disk(tmp_path: Path, link: Path) -> None:
    """Where nothing can be made beside the archive, its log is read all the same."""
    with live(tmp_path / "archives" / "a.db"):
        done = export_on_read_only_disk(tmp_path / "archives", link, tmp_path / "out")
        assert done.returncode == 0, done.stderr
        assert texts(tmp_path / "out") == ["in the log"]


def test_size_of_an_archive_in_a_list(tmp_path: Path, link: Path) -> None:
    """A list knows the size of the log, too, and that a link is no other archive."""
    with live(tmp_path / "archives" / "a.db") as path:
        assert list(ArchiveList([link]).sizes) == list(ArchiveList([path]).sizes)
        assert ArchiveList([link]).sizes[0] > path.stat().st_size
        with pytest.raises(OptionError, match="are the same archive"):
            ArchiveList([link, path])


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
def test_the_archive_is_not_an_output(tmp_path: Path, suffix: str) -> None:
    """Nothing is written over the archive or a file beside it, by whatever name either was given."""
    (tmp_path / "archives").mkdir()
    path = file_archive(tmp_path / "archives" / "a.json", [post(1)])
    link = tmp_path / "link.json"
    link.symlink_to(path)
    for archive in (path, link):
        options = ExportOptions(archive=archive, to=path.with_name(f"a.json{suffix}"), overwrite=True, format="json")
        with pytest.raises(OptionError, match="is the archive itself"):
            check_destination(resolve(options), None)
        with pytest.raises(OptionError, match="is the archive itself"):
            export(options)
    assert files_below(tmp_path / "archives") == ["a.json"]


def test_standard_output_is_the_archive(tmp_path: Path) -> None:
    """Nor when a shell has opened the archive to append to it."""
    path = file_archive(tmp_path / "a.db", [post(1)])
    before = path.read_bytes()
    with path.open("ab") as opened:
        done = subprocess.run(
            [*PROGRAM, "export", str(path), "--to", "-"], stdout=opened, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, "is the archive itself" in done.stderr) == (2, True)
    assert path.read_bytes() == before


def test_media_by_a_link(tmp_path: Path, link: Path) -> None:
    """Paths of media are relative to the directory of the file, not to that of a link."""
    path = file_archive(tmp_path / "archives" / "a.db", [post(1, has_media=1)])
    digest = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
    with contextlib.closing(apsw.Connection(str(path))) as connection:
        connection.execute(
            "insert into media(hash, post_uri, mime_type, file_path, size_bytes) values (?, ?, '', 'media/foo.jpg', 3)",
            (digest, uri_of(post(1))),
        )
    (tmp_path / "archives" / "media").mkdir()
    (tmp_path / "archives" / "media" / "foo.jpg").write_bytes(b"foo")
    summary = export(ExportOptions(archive=link, output_dir=tmp_path / "o", media=True))
    assert (summary.media_files, summary.warnings) == (1, {})


def test_registering_by_a_link(tmp_path: Path) -> None:
    """An archive that is a link in the directory of bskyarchive is registered in by that name, not by one elsewhere."""
    (tmp_path / "data").mkdir()
    path = file_archive(tmp_path / "data" / "a.db", [post(1)])
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "a.db").symlink_to(path)
    options = ExportOptions(
        archive=tmp_path / "home" / "a.db",
        output_dir=tmp_path / "home" / "exports",
        author="did:plc:abc",
        register=True,
    )
    assert export(options).registered is not None
    with contextlib.closing(apsw.Connection(str(path))) as connection:
        assert connection.execute("select count(*) from exports").get == 1
    assert files_below(tmp_path / "data") == ["a.db"]
    with pytest.raises(OptionError, match="bskyarchive would not accept exports"):
        export(
            ExportOptions(archive=path, output_dir=tmp_path / "home" / "exports", author="did:plc:abc", register=True)
        )


# --- No archive -------------------------------------------------------------------------------------------------


def test_links_that_lead_nowhere(tmp_path: Path) -> None:
    """A link to nothing, and links in a circle, are one clear line with the path as it was typed."""
    (tmp_path / "dangling.db").symlink_to(tmp_path / "gone.db")
    (tmp_path / "one.db").symlink_to("two.db")
    (tmp_path / "two.db").symlink_to("one.db")
    (tmp_path / "folder").symlink_to(tmp_path / "gone")
    for name, line in (
        (
            "dangling.db",
            f"no archive at dangling.db: it is a link to {tmp_path}/gone.db, which is missing; check the path",
        ),
        ("one.db", "cannot read one.db: its links lead in a circle; check the path"),
        ("folder/a.db", "no archive at folder/a.db; check the path"),
        ("a.db", "no archive at a.db; check the path"),
        (".", ". is not a file; name the archive's .db file"),
    ):
        for command in (["inspect", name], ["export", name], ["export", name, "--dry-run"]):
            done = skyexport(*command, cwd=tmp_path)
            assert (done.returncode, done.stderr) == (10, f"skyexport: {line}\n")
    assert files_below(tmp_path) == ["dangling.db", "folder", "one.db", "two.db"]


def test_odd_paths(tmp_path: Path) -> None:
    """A path that no system takes is an error of the archive; a link to a name that SQLite cannot open as well."""
    with pytest.raises(ArchiveError, match=r"cannot read 'a.x00b': a path cannot have a NUL byte"):
        archive_location(Path("a\0b"))
    strange = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.db"))
    try:
        file_archive(tmp_path / "a.db", [post(1)]).rename(strange)
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    (tmp_path / "link.db").symlink_to(strange)
    with pytest.raises(ArchiveError, match=r"cannot open .*link\.db: its path is not valid UTF-8; rename it"):
        Archive(tmp_path / "link.db")


def test_messages_show_the_path_as_typed(tmp_path: Path) -> None:
    """An error of what is in an archive has the path as it was typed, too."""
    path = file_archive(tmp_path / "a.db", [post(1)], wal=True)
    with contextlib.closing(apsw.Connection(str(path))) as connection:
        connection.execute("insert into schema_version values (77, '')")
    (tmp_path / "link.db").symlink_to("a.db")
    done = skyexport("export", "./link.db", cwd=tmp_path)
    assert done.returncode == 10
    assert done.stderr.startswith("skyexport: link.db has schema version 77,")


# --- Hard links -------------------------------------------------------------------------------------------------

WARNING = "has several names (hard links) and no log here: a log beside another name is not read"


def hard_linked(tmp_path: Path, path: Path) -> Path:
    """Another name of the file at *path*."""
    other = tmp_path / "other.db"
    other.hardlink_to(path)
    return other


def test_a_live_archive_by_a_hard_link(tmp_path: Path) -> None:
    """SQLite cannot find the log there: summary, manifest, dry run, inspect and many archives warn; strict fails."""
    with live_elsewhere(tmp_path / "a.db") as path:
        other = hard_linked(tmp_path, path)
        before = files_below(tmp_path)
        warned = f"{other} {WARNING}"
        for snapshot in ("pin", "copy"):
            summary = export(ExportOptions(archive=other, output_dir=tmp_path / "o", workers=0, snapshot=snapshot))
            assert summary.warnings == {"missed_log": 1}
            assert summary.warning_places == {"missed_log": [warned]}
            assert f"warning: {warned}; use the name that bskyarchive opens" in summary.sentences()
            assert summary.directory is not None
            manifest = json.loads((summary.directory / "manifest.json").read_bytes())
            assert (manifest["warnings"], manifest["warning_places"]) == ({"missed_log": 1}, {"missed_log": [warned]})
        found = inspect(other)
        assert found.warnings == {"missed_log": 1}
        assert found.lines()[-1] == f"warning: {warned}"
        dry = dry_run(ExportOptions(archive=other, output_dir=tmp_path / "o"))
        assert f"warning: {warned}" in dry.lines()
        assert dry.to_dict()["warnings"] == {"missed_log": 1}
        for find_out in (export, dry_run):
            with pytest.raises(StrictError, match=r"and no log here: .*; use the name") as caught:
                find_out(ExportOptions(archive=other, output_dir=tmp_path / "strict", strict=True))
            assert caught.value.message == warned
        many = skyexport_json("export", other, "-o", tmp_path / "o", "--resume-batch")
        assert many["archives"][0]["summary"]["warnings"] == {"missed_log": 1}
        shutil.rmtree(tmp_path / "o")
        assert files_below(tmp_path) == before


def test_hard_links_that_miss_nothing(tmp_path: Path) -> None:
    """By the name that has the log, without WAL, and with one name only, there is nothing to warn of."""
    with live_elsewhere(tmp_path / "a.db") as path:
        other = hard_linked(tmp_path, path)
        (tmp_path / "link.db").symlink_to(path)
        assert (inspect(path).warnings, inspect(tmp_path / "link.db").warnings) == ({}, {})
    assert inspect(path).warnings == {"missed_log": 1}
    other.unlink()
    assert inspect(path).warnings == {}
    rollback = file_archive(tmp_path / "rollback.db", [post(1)])
    hard_linked(tmp_path, rollback)
    assert inspect(rollback).warnings == {}


def test_an_empty_log_beside_a_hard_link(tmp_path: Path) -> None:
    """The empty log of another reader is no log."""
    with live_elsewhere(tmp_path / "a.db") as path:
        other = hard_linked(tmp_path, path)
        files_beside(other).log.touch()
        assert inspect(other).warnings == {"missed_log": 1}


def test_an_archive_that_changes_under_a_hard_link(tmp_path: Path) -> None:
    """What a program writes into the file by another name does not get half into an export."""
    path = file_archive(tmp_path / "a.db", [post(number) for number in range(50)], wal=True)
    other = hard_linked(tmp_path, path)
    with Archive(other) as archive:
        program = "import sys, apsw; apsw.Connection(sys.argv[1]).execute('update posts set text = 1')"
        subprocess.run([sys.executable, "-c", program, str(path)], check=True)
        with pytest.raises(ArchiveChangedError, match=r"\.db changed while it was read; export again"):
            archive.check_unchanged()
    assert files_below(tmp_path) == ["a.db", "other.db"]


def test_no_registering_by_a_hard_link(tmp_path: Path) -> None:
    """Writing by a name that has another log could damage the archive, so it is refused before the export."""
    path = file_archive(tmp_path / "a.db", [post(1)], wal=True)
    other = hard_linked(tmp_path, path)
    options = ExportOptions(archive=other, output_dir=tmp_path / "exports", author="did:plc:abc", register=True)
    with pytest.raises(ArchiveError, match="writing to it could damage it; use the name that bskyarchive opens, or"):
        export(options)
    assert files_below(tmp_path) == ["a.db", "other.db"]


# --- The current directory was deleted --------------------------------------------------------------------------

GONE = "the current directory was deleted"


def in_a_deleted_directory(tmp_path: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command where the current directory was deleted."""
    place = tmp_path / "gone"
    place.mkdir()
    script = f'cd "{place}" && rmdir "{place}" && exec "$@"'
    return subprocess.run(
        ["sh", "-c", script, "-", *PROGRAM, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.quick(3)
@pytest.mark.parametrize(
    ("arguments", "status", "line"),
    [
        (["export", "a.db"], 10, f"no archive at a.db: {GONE}; change to another directory"),
        (["export", "a.db", "--dry-run"], 10, f"no archive at a.db: {GONE}; change to another directory"),
        (["inspect", "a.db"], 10, f"no archive at a.db: {GONE}; change to another directory"),
        (["bench", "a.db"], 10, f"no archive at a.db: {GONE}; change to another directory"),
        (["bench", "ARCHIVE"], 12, f"cannot write .: {GONE}"),
        (["export", "ARCHIVE"], 12, f"cannot write exports: {GONE}"),
        (["export", "ARCHIVE", "--dry-run"], 12, f"cannot write exports: {GONE}"),
        (["export", "ARCHIVE", "--to", "out.json"], 12, f"cannot write out.json: {GONE}"),
        (["export", "ARCHIVE", "--since-export", "OUT"], 12, f"cannot write exports: {GONE}"),
        (["export", "ARCHIVE", "--register", "--author", "did:plc:abc"], 12, f"cannot write exports: {GONE}"),
        (["export", "ARCHIVE", "-o", "OUT", "--since-export", "x"], 10, "there is no directory x"),
        (["verify", "x"], 10, f"there is no directory x: {GONE}"),
        (["verify", "."], 10, "there is no export in .: no manifest.json"),
        (["export", "--from-file", "list"], 2, f"cannot read the list of archives list: {GONE}"),
    ],
)
def test_deleted_current_directory(tmp_path: Path, arguments: list[str], status: int, line: str) -> None:
    """A relative path is one line that says so, with the exit status of the archive or of the output."""
    archive = file_archive(tmp_path / "a.db", [post(1)])
    named = {"ARCHIVE": str(archive), "OUT": str(tmp_path / "out")}
    done = in_a_deleted_directory(tmp_path, *(named.get(argument, argument) for argument in arguments))
    assert done.returncode == status, done.stderr
    assert done.stderr.startswith(f"skyexport: {line}")
    assert len(done.stderr.splitlines()) == 1
    assert files_below(tmp_path) == ["a.db"]


@pytest.mark.slow
def test_deleted_current_directory_and_absolute_paths(tmp_path: Path) -> None:
    """With absolute paths, or without any, everything works there."""
    archive = file_archive(tmp_path / "a.db", [post(1)])
    out = tmp_path / "out"
    for arguments in (
        ["export", archive, "-o", out],
        ["export", archive, "--to", "-"],
        ["export", archive, "-o", out, "--dry-run"],
        ["export", archive, "-o", out, "--resume-batch"],
        ["export", archive, "--to", tmp_path / "file.json", "--since-export"],
        ["inspect", archive],
        ["verify"],
    ):
        if arguments[-1] in ("verify", "--since-export"):
            arguments = [*arguments, next((out / "all").iterdir())]
        done = in_a_deleted_directory(tmp_path, *arguments)
        assert done.returncode == 0, (arguments, done.stderr)


@pytest.mark.slow
def test_many_archives_in_a_deleted_directory(tmp_path: Path) -> None:
    """Of many archives, those with relative paths fail, and the others go on."""
    archive = file_archive(tmp_path / "a.db", [post(1)])
    done = in_a_deleted_directory(tmp_path, "export", archive, "b.db", "c/b.db", "-o", tmp_path / "out", "--json")
    assert done.returncode == 10
    found = json.loads(done.stdout)["archives"]
    assert [one["status"] for one in found] == ["ok", "failed", "failed"]
    assert found[1]["error"] == f"no archive at b.db: {GONE}"
