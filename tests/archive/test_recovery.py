"""Archives whose last program was stopped while writing: exported from a copy, and not touched."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from pathlib import Path

import apsw
import pytest

from skyexport import ArchiveBusyError, ArchiveError, ExportOptions, OutputError, export
from skyexport.pipeline.inspection import inspect
from skyexport.pipeline.listing import Archive
from skyexport.runtime.for_tests import on_reached
from tests.archives import file_archive, fill, post
from tests.command import export_on_read_only_disk, files_below
from tests.conftest import limits

pytestmark = pytest.mark.usefixtures("scratch_folder")

TOKEN = "canary-token"


def interrupted(tmp_path: Path, *, wal: bool) -> Path:
    """An archive as it lies there when its program was killed while writing: text `old` with a journal, `new` in a log.

    The files are copied while the program is in the middle of it.
    """
    original, archive = tmp_path / "original", tmp_path / "archive"
    original.mkdir()
    archive.mkdir()
    with contextlib.closing(apsw.Connection(str(original / "a.db"))) as writer:
        if wal:
            writer.pragma("journal_mode", "wal")
        fill(writer, [post(number, text="old" + "x" * 500) for number in range(300)])
        writer.execute(
            "insert into sessions(id, did, handle, access_token, refresh_token, expires_at)"
            " values ('1', 'did:plc:abc', 'h', ?, ?, '')",
            (TOKEN, TOKEN),
        )
        writer.pragma("cache_size", 10)
        writer.execute("begin; update posts set text = 'new' || substr(text, 4)")
        if wal:
            writer.execute("commit")
        for name in ("a.db", "a.db-journal", "a.db-wal"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copy(original / name, archive / name)
        if not wal:
            writer.execute("rollback")
    assert len(files_below(archive)) == 2
    return archive / "a.db"


def state(archive: Path) -> dict[str, tuple[bytes, int]]:
    """All files of its folder."""
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in archive.parent.iterdir()}


@pytest.mark.quick(2)
@pytest.mark.parametrize("snapshot", ["pin", "copy"])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("wal", [False, True])
def test_export_of_an_interrupted_archive(
    tmp_path: Path, scratch_folder: Path, wal: bool, workers: int, snapshot: str
) -> None:
    """What was not finished is taken back, what was is taken in; the archive is as it was, and nothing else is left."""
    archive = interrupted(tmp_path, wal=wal)
    before = state(archive)
    options = ExportOptions(
        archive=archive, output_dir=tmp_path / "o", workers=workers, batch_size=50, snapshot=snapshot
    )
    summary = export(options)
    assert summary.path is not None
    posts = json.loads(summary.path.read_bytes())
    assert {found["text"][:3] for found in posts} == {"new" if wal else "old"}
    assert len(posts) == 300
    assert summary.archive_held_seconds == 0
    assert summary.journal_mode == ("wal" if wal else "rollback")
    manifest = json.loads(summary.path.with_name("manifest.json").read_bytes())
    assert manifest["source"]["path"] == str(archive)
    assert manifest["source"]["bytes"] == len(before["a.db"][0])
    assert state(archive) == before
    assert files_below(scratch_folder) == []


@pytest.mark.parametrize("wal", [False, True])
def test_looking_into_one(tmp_path: Path, scratch_folder: Path, wal: bool) -> None:
    """`inspect` and the listing of posts do the same, and name the archive, not the copy."""
    archive = interrupted(tmp_path, wal=wal)
    before = state(archive)
    found = inspect(archive)
    assert (found.path, found.posts, found.media_rows, found.archive_schema_version) == (archive, 300, 0, 3)
    assert found.journal_mode == ("wal" if wal else "rollback")
    assert found.created_at_index
    with Archive(archive) as opened:
        assert len(list(opened.list_posts())) == 300
        assert opened.path == archive
    assert state(archive) == before
    assert files_below(scratch_folder) == []


@pytest.mark.parametrize("wal", [False, True])
def test_tokens_stay_for_a_moment_only(tmp_path: Path, scratch_folder: Path, wal: bool) -> None:
    """While the copy is in use, no file of it has what the archive's other tables hold."""
    archive = interrupted(tmp_path, wal=wal)
    assert TOKEN.encode() in b"".join(content for content, _ in state(archive).values())
    with Archive(archive) as opened:
        assert opened.count_posts() == 300
        files = [path for path in scratch_folder.rglob("*") if path.is_file()]
        assert any(path.name == "posts.db" for path in files)
        assert not any(TOKEN.encode() in path.read_bytes() for path in files)
    assert files_below(scratch_folder) == []


@pytest.mark.parametrize("left", ["a.db-wal", "a.db-shm"])
def test_empty_remains(tmp_path: Path, scratch_folder: Path, left: str) -> None:
    """A log without anything in it, or its index alone, are no obstacle; SQLite takes them away as it does always."""
    archive = file_archive(tmp_path / "a.db", [post(1)], wal=True)
    (tmp_path / left).touch()
    before = archive.read_bytes()
    assert export(ExportOptions(archive=archive, to=Path(os.devnull), workers=2)).posts == 1
    assert files_below(tmp_path) == ["a.db"]
    assert archive.read_bytes() == before
    assert files_below(scratch_folder) == []


def test_a_journal_that_names_another_file(tmp_path: Path, scratch_folder: Path) -> None:
    """A journal can name a file that SQLite would read and delete: such an archive is refused, and the file stays."""
    archive = interrupted(tmp_path, wal=False)
    target = tmp_path / "precious"
    target.write_bytes(b"")
    name = os.fsencode(target)
    with (tmp_path / "archive" / "a.db-journal").open("ab") as journal:
        sums = sum(byte - 256 if byte > 127 else byte for byte in name) % (1 << 32)
        journal.write(b"\xff\xff\xff\xff" + name + len(name).to_bytes(4, "big") + sums.to_bytes(4, "big"))
        journal.write(bytes.fromhex("d9d505f920a163d7"))
    before = state(archive)
    with pytest.raises(ArchiveError, match="names another file"):
        Archive(archive)
    assert target.exists()
    assert state(archive) == before
    assert files_below(scratch_folder) == []


@pytest.mark.parametrize("cut", [1, 100, 1000, 5000])
@pytest.mark.parametrize("wal", [False, True])
def test_damaged_remains(tmp_path: Path, scratch_folder: Path, wal: bool, cut: int) -> None:
    """A journal or log that was cut short is taken as far as it goes, or the archive is called damaged."""
    archive = interrupted(tmp_path, wal=wal)
    beside = archive.with_name("a.db-wal" if wal else "a.db-journal")
    beside.write_bytes(beside.read_bytes()[:-cut])
    before = state(archive)
    with contextlib.suppress(ArchiveError):
        assert export(ExportOptions(archive=archive, to=Path(os.devnull))).posts == 300
    assert state(archive) == before
    assert files_below(scratch_folder) == []


@pytest.mark.parametrize("kind", ["directory", "link", "fifo"])
def test_what_is_no_log(tmp_path: Path, scratch_folder: Path, kind: str) -> None:
    """Something else in the place of the log is not followed and not waited for."""
    archive = file_archive(tmp_path / "a.db", [post(1)], wal=True)
    log = tmp_path / "a.db-wal"
    if kind == "directory":
        log.mkdir()
        (log / "file").write_text("x")
    elif sys.platform == "win32":
        pytest.skip("POSIX links and FIFOs")
    elif kind == "link":
        (tmp_path / "other").write_text("secret")
        log.symlink_to(tmp_path / "other")
    else:
        os.mkfifo(log)
    with contextlib.suppress(ArchiveError):
        export(ExportOptions(archive=archive, to=tmp_path / "out"))
        assert b"secret" not in (tmp_path / "out").read_bytes()
    assert files_below(scratch_folder) == []


def test_a_program_at_work(tmp_path: Path, scratch_folder: Path) -> None:
    """A journal of a program that lives is not taken back: the export sees what was there before, or waits in vain."""
    archive = file_archive(tmp_path / "a.db", [post(number, text="old" + "x" * 500) for number in range(300)])
    with contextlib.closing(apsw.Connection(str(archive))) as writer:
        writer.execute("begin immediate; update posts set text = 'new' where rowid = 1")
        assert (tmp_path / "a.db-journal").exists()
        export(ExportOptions(archive=archive, to=tmp_path / "out"))
        assert b"new" not in (tmp_path / "out").read_bytes()
        writer.pragma("cache_size", 1)
        writer.execute("update posts set text = 'new' || substr(text, 4)")
        with limits(BUSY_MILLISECONDS=10), pytest.raises(ArchiveBusyError):
            export(ExportOptions(archive=archive, to=tmp_path / "out", overwrite=True))
    assert files_below(scratch_folder) == []


def test_no_room_for_the_copy(tmp_path: Path, scratch_folder: Path) -> None:
    """A full folder for temporary files is exit code 12, and says what to do."""
    archive = interrupted(tmp_path, wal=True)

    def full(_: object) -> None:
        raise OSError(28, "No space left on device")

    said = r"to recover it: No space left on device; set TMPDIR"
    with on_reached("copying", full), pytest.raises(OutputError, match=said) as caught:
        Archive(archive)
    assert caught.value.exit_code == 12
    assert files_below(scratch_folder) == []


@pytest.mark.quick(2)
@pytest.mark.parametrize("how", ["log alone", "index alone", "log and index", "journal", "wal", "rollback"])
def test_read_only_media(tmp_path: Path, scratch_folder: Path, how: str) -> None:
    """Whatever lies beside an archive on read-only media: it is exported as it was when its program stopped."""
    if how in ("wal", "rollback"):
        (tmp_path / "archive").mkdir()
        archive = file_archive(tmp_path / "archive" / "a.db", [post(1, text="old")], wal=how == "wal")
    elif how == "index alone":
        (tmp_path / "archive").mkdir()
        archive = file_archive(tmp_path / "archive" / "a.db", [post(1, text="old")], wal=True)
        (tmp_path / "archive" / "a.db-shm").write_bytes(bytes(32768))
    else:
        archive = interrupted(tmp_path, wal=how != "journal")
        if how == "log and index":
            (archive.parent / "a.db-shm").write_bytes(bytes(32768))
    before = state(archive)
    done = export_on_read_only_disk(archive.parent, archive, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    posts = json.loads((tmp_path / "out").read_bytes())
    assert {found["text"][:3] for found in posts} == {"new" if how.startswith("log") else "old"}
    assert state(archive) == before
    assert files_below(scratch_folder) == []
