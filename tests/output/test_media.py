"""Media files with an export: which, under what names, and what is said of those that are not as they should be."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import IO

import apsw
import psutil
import pytest

from skyexport import (
    ArchiveError,
    ExportOptions,
    OptionError,
    OutputError,
    Progress,
    StrictError,
    VerifyError,
    export,
    verify,
)
from skyexport.posts import add_function
from tests.archives import file_archive, post
from tests.command import files_below, skyexport, skyexport_json
from tests.media_files import add_media, directory_of_export, exported, media_in, name_of, path_of

OWNER = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Five posts of two authors, on five days, each with a media file of its own."""
    folder = tmp_path / "in"
    folder.mkdir()
    path = file_archive(
        folder / "archive.db",
        [post(n, did=f"did:plc:{n % 2}", created_at=f"2024-05-{n + 1:02d} 12:00:00 +0000 UTC") for n in range(5)],
    )
    for number in range(5):
        add_media(path, b"media of %d" % number, number)
    return path


@pytest.mark.quick(4)
@pytest.mark.parametrize("snapshot", ["pin", "copy"])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("format", ["json", "csv"])
def test_contract(contract_dir: Path, tmp_path: Path, format: str, workers: int, snapshot: str) -> None:
    """Names, contents, and every key of the manifest are those of the established exporter."""
    sample = contract_dir / "sample"
    summary = export(
        ExportOptions(
            archive=sample / "archive.db", output_dir=tmp_path, author=OWNER, format=format, media=True,
            workers=workers, snapshot=snapshot,
        )
    )  # fmt: skip
    found = media_in(summary)
    assert sorted(found) == (sample / "media.txt").read_text().split()
    assert all(hashlib.sha256(content).hexdigest() == name.partition(".")[0] for name, content in found.items())
    assert summary.directory is not None
    manifest = json.loads((summary.directory / "manifest.json").read_bytes())
    expected = json.loads((sample / f"manifest.{format}.json").read_bytes())
    del expected["export_timestamp"]
    assert {name: manifest[name] for name in expected} == expected
    assert summary.warnings["missing_media"] == manifest["warnings"]["missing_media"] == 2
    assert (summary.media_files, summary.media_bytes) == (52, sum(map(len, found.values())))
    assert verify(summary.directory).media_files == 52
    assert summary.path is not None
    assert summary.path.read_bytes() == (sample / f"posts.{format}").read_bytes()


@pytest.mark.quick(2)
@pytest.mark.parametrize("snapshot", ["pin", "copy"])
@pytest.mark.parametrize("index", [True, False])
def test_only_media_of_the_exported_posts(archive: Path, snapshot: str, index: bool) -> None:
    """Those of other authors and days stay where they are."""
    if not index:
        with contextlib.closing(apsw.Connection(str(archive))) as connection:
            connection.execute("drop index idx_posts_created_at; drop index idx_media_post_uri")
    chosen: dict[tuple[int, ...], dict[str, str]] = {
        (0, 1, 2, 3, 4): {},
        (1, 3): {"author": "did:plc:1"},
        (2, 3): {"since": "2024-05-03", "until": "2024-05-04"},
        (2,): {"author": "did:plc:0", "since": "2024-05-03T00:00:00Z", "until": "2024-05-04T00:00:00Z"},
        (): {"since": "2042-01-01"},
    }
    for numbers, selected in chosen.items():
        summary = exported(archive, snapshot=snapshot, **selected)
        assert media_in(summary) == {name_of(b"media of %d" % n): b"media of %d" % n for n in numbers}
        assert summary.directory is not None
        assert (summary.directory / "media").exists() == bool(numbers)
        assert verify(summary.directory).media_files == len(numbers)


@pytest.mark.quick(1)
@pytest.mark.parametrize("by_system", [True, False])
def test_large_files(archive: Path, monkeypatch: pytest.MonkeyPatch, by_system: bool) -> None:
    """Large and empty files are copied whole, whether the system can do that by itself or not."""
    if not by_system:
        monkeypatch.delattr(os, "copy_file_range", raising=False)
    contents = [os.urandom(40_000_000), b""]
    for content in contents:
        add_media(archive, content)
    found = media_in(exported(archive))
    assert all(found[name_of(content)] == content for content in contents)


@pytest.mark.skipif(not hasattr(os, "copy_file_range"), reason="the system can not copy by itself")
@pytest.mark.parametrize("number", [errno.EXDEV, errno.ENOSYS, 0])
def test_a_system_that_does_not_copy(archive: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Where it says so, or copies nothing and says nothing, the file is copied all the same."""

    def refuse(*_: object) -> int:
        if number:
            raise OSError(number, os.strerror(number))
        return 0

    monkeypatch.setattr(os, "copy_file_range", refuse)
    summary = exported(archive)
    assert media_in(summary)[name_of(b"media of 1")] == b"media of 1"
    assert summary.warnings == {}


@pytest.mark.skipif(not hasattr(os, "copy_file_range"), reason="the system can not copy by itself")
def test_errors_while_copying(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that can not be read is left out and named; a disk that is full ends the export."""
    number = errno.EIO

    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "copy_file_range", fail)
    summary = exported(archive)
    assert summary.warnings == {"unreadable_media": 5}
    assert summary.warning_places["unreadable_media"][0].endswith(f".jpg: {os.strerror(errno.EIO)}")
    before = files_below(archive.parent.parent)
    number = errno.ENOSPC
    with pytest.raises(OutputError, match="No space left") as caught:
        exported(archive)
    assert caught.value.exit_code == 12
    assert files_below(archive.parent.parent) == before


def test_media_root(archive: Path, tmp_path: Path) -> None:
    """Paths may be relative to something else; absolute ones must lie below it."""
    moved = tmp_path / "moved"
    moved.mkdir()
    (archive.parent / "media").rename(moved / "media")
    assert exported(archive).warnings == {"missing_media": 5}
    with contextlib.closing(apsw.Connection(str(archive))) as connection:
        connection.execute("update media set file_path = ? || file_path where rowid < 3", (f"{moved}/",))
    assert len(media_in(exported(archive, media_root=moved))) == 5
    with pytest.raises(OptionError, match="directory of media") as caught:
        exported(archive, media_root=tmp_path / "nowhere")
    assert caught.value.exit_code == 2


@pytest.mark.skipif(os.sep == "\\", reason="there it separates anyway")
def test_an_archive_from_windows(archive: Path) -> None:
    """Where there is no file of the very name, backslashes separate; a file of that name comes first."""
    expected = media_in(exported(archive))
    with contextlib.closing(apsw.Connection(str(archive))) as connection:
        connection.execute("update media set file_path = replace(file_path, '/', '\\')")
    summary = exported(archive)
    assert (media_in(summary), summary.warnings) == (expected, {})
    # Also where the paths of folders are longer than a name may be.
    with contextlib.closing(apsw.Connection(str(archive))) as connection:
        long = "/".join(["folder"] * 50)
        (archive.parent / long).mkdir(parents=True)
        shutil.move(archive.parent / "media", archive.parent / long / "media")
        connection.execute("update media set file_path = ? || '\\' || file_path", (long.replace("/", "\\"),))
    summary = exported(archive)
    assert (media_in(summary), summary.warnings) == (expected, {})


@pytest.mark.skipif(os.sep == "\\", reason="there it separates anyway")
def test_a_name_with_backslashes_comes_first(archive: Path) -> None:
    """A file may have that very name, since they are characters like others."""
    with contextlib.closing(apsw.Connection(str(archive))) as connection:
        connection.execute("update media set file_path = replace(file_path, '/', '\\')")
        (path,) = connection.execute("select file_path from media where hash = ?", (name_of(b"media of 1")[:64],))
    (archive.parent / path[0]).write_bytes(b"other media of 1")
    summary = exported(archive)
    assert summary.warnings == {"damaged_media": 1}


@pytest.mark.skipif(os.sep == "\\", reason="there it separates anyway")
@pytest.mark.parametrize(
    "path", ["..\\secret.jpg", "media\\..\\..\\secret.jpg", "\\secret.jpg", "C:\\secret.jpg", "C:secret.jpg\\x.jpg",
             "\\\\host\\share\\secret.jpg", "link\\secret.jpg", "media\\\\x.jpg", "\\\\?\\C:\\secret.jpg"],
)  # fmt: skip
def test_no_way_out_by_backslashes(archive: Path, path: str) -> None:
    """They are checked as all paths are: no drive, no parent, no link, no empty name."""
    (archive.parent.parent / "secret.jpg").write_bytes(b"secret")
    (archive.parent / "link").symlink_to(archive.parent.parent)
    with contextlib.closing(apsw.Connection(str(archive))) as connection:
        connection.execute("delete from media where hash <> ?", (name_of(b"media of 1")[:64],))
        connection.execute("update media set file_path = ?", (path,))
    summary = exported(archive)
    assert (summary.media_files, summary.warnings) == (0, {"unreadable_media": 1})


def test_media_root_comes_first(archive: Path, tmp_path: Path) -> None:
    """A directory of media that is not there, or can not be opened, is told before anything else is done."""
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    for name in ("nowhere", "file", "loop", "x" * 300, "nul\0"):
        # Whoever came to open the output would stumble over that.
        with pytest.raises(OptionError, match=r"directory(?s:.*)--media-root"):
            exported(archive, media_root=tmp_path / name, output_dir=tmp_path / "file", snapshot="copy")


@pytest.mark.slow
def test_memory_for_many_files(tmp_path: Path) -> None:
    """Ten times as many files take no more memory, whether they are there, are linked, or are missing."""
    few, many = (peaks_with(tmp_path / str(files), files) for files in (20_000, 200_000))
    assert many[0] < few[0] + 10_000_000
    assert many[1] < few[1] + 10_000_000


def peaks_with(folder: Path, files: int) -> tuple[int, int]:
    """The memory that an export with so many rows of media takes, of which a tenth are there; and one that links."""
    folder.mkdir()
    path = file_archive(folder / "archive.db", [post(number, has_media=1) for number in range(1000)])
    contents = [b"%d" % number for number in range(files // 10)]
    with contextlib.closing(apsw.Connection(str(path))) as connection:
        add_function(connection, "sha256", lambda number: hashlib.sha256(b"%d" % number).hexdigest())
        connection.execute(
            "with recursive numbers(n) as (select 0 union all select n + 1 from numbers where n + 1 < ?)"
            " insert into media (hash, post_uri, mime_type, file_path, size_bytes)"
            " select sha256(n), (select uri from posts where rowid = 1 + n % 1000), 'image/jpeg',"
            " 'media/' || sha256(n) || '.jpg', 5 from numbers",
            (files,),
        )
    (folder / "media").mkdir()
    for content in contents:
        (folder / "media" / name_of(content)).write_bytes(content)
    arguments = ("export", path, "-o", folder / "out", "--media", "--no-sync")
    first = skyexport_json(*arguments, timeout=300)
    second = skyexport_json(*arguments, "--link-media", first["directory"], timeout=300)
    assert first["media_files"] == second["media_files"] == second["media_linked"] == len(contents)
    assert first["warnings"] == second["warnings"] == {"missing_media": files - len(contents)}
    return first["peak_memory_bytes"], second["peak_memory_bytes"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("full", [1, 2])
def test_no_room_for_the_list(archive: Path, monkeypatch: pytest.MonkeyPatch, full: int) -> None:
    """A full folder for temporary files ends the export with a line, be it before or after media are copied."""
    made, opened = tempfile.TemporaryFile, []

    def temporary_file(*, dir: Path) -> IO[bytes]:
        opened.append(True)
        return Path("/dev/full").open("w+b") if len(opened) == full else made(dir=dir)

    monkeypatch.setattr(tempfile, "TemporaryFile", temporary_file)
    with pytest.raises(OutputError, match=r"temporary file in .*TMPDIR"):
        exported(archive)
    assert not (archive.parent.parent / "out").exists()


def test_options_that_contradict(archive: Path, tmp_path: Path) -> None:
    """Media need a directory, and a root needs media."""
    with pytest.raises(OptionError, match="without media"):
        ExportOptions(archive=archive, to=tmp_path / "out.json", media=True)
    with pytest.raises(OptionError, match="--media-root needs --media"):
        ExportOptions(archive=archive, media_root=tmp_path)


def test_strict(archive: Path) -> None:
    """A file that is missing is something that can not be exported as it is stored."""
    (archive.parent / path_of(b"media of 3")).unlink()
    with pytest.raises(StrictError, match=f"missing media: {path_of(b'media of 3')}"):
        exported(archive, strict=True)
    assert not (archive.parent.parent / "out").exists()


def test_archives_without_media(tmp_path: Path) -> None:
    """An archive may have no such table; one that has another table of the name is refused, if media are wanted."""
    path = file_archive(tmp_path / "a.db", [post(1)])
    with contextlib.closing(apsw.Connection(str(path))) as connection:
        connection.execute("drop table media")
        assert media_in(exported(path, output_dir=tmp_path / "o")) == {}
        connection.execute("create table media (hash, post_uri)")
    with pytest.raises(ArchiveError, match="media without hash"):
        exported(path, output_dir=tmp_path / "o")
    assert exported(path, output_dir=tmp_path / "o", media=False).posts == 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows lets nobody write to an archive that is read")
def test_the_archive_is_let_go_first(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While media are copied, others can write to the archive."""
    copy, written = os.copy_file_range, []

    def observed(*arguments: int) -> int:
        with contextlib.closing(apsw.Connection(str(archive))) as other:
            other.set_busy_timeout(5000)
            other.execute("update posts set like_count = like_count + 1")
        written.append(True)
        return copy(*arguments)

    monkeypatch.setattr(os, "copy_file_range", observed)
    assert exported(archive, workers=2, batch_size=1).media_files == len(written) == 5


@pytest.mark.skipif(sys.platform == "win32", reason="Windows is asked in another way")
@pytest.mark.parametrize(
    ("size", "there", "fits"), [(10**15, False, True), (100_000, True, False), (1, True, True), (-5, False, True)]
)
def test_room_for_media(archive: Path, monkeypatch: pytest.MonkeyPatch, size: int, there: bool, fits: bool) -> None:
    """Media that do not fit are refused before the first byte, by what they take and not by what the archive says."""
    add_media(archive, b"x" * max(0, min(size, 100_000)), size=size, there=there)
    status = SimpleNamespace(f_blocks=10**6, f_frsize=1, f_bfree=50_000, f_bavail=50_000)
    monkeypatch.setattr(os, "statvfs", lambda _: status)
    monkeypatch.setattr(psutil, "disk_partitions", lambda **_: [SimpleNamespace(mountpoint="/", fstype="ext4")])
    if fits:
        assert exported(archive).media_files == 5 + there
    else:
        with pytest.raises(OutputError, match=r"needs 10.* kB or more, and the disk of .* has 50\.0 kB free"):
            exported(archive)
        assert not (archive.parent.parent / "out").exists()


def test_progress(archive: Path) -> None:
    """Files and bytes are told, and the stage."""
    seen: list[Progress] = []
    add_media(archive, b"x" * 1000, there=False)
    export(ExportOptions(archive=archive, output_dir=archive.parent.parent, media=True), seen.append)
    last = seen[-1]
    assert (last.media_files, last.media_files_to_read, last.media_bytes) == (6, 6, 50)
    moment = Progress("copying media", 5, 5, 5, 100, 3.0, 1, 1234, 5000, 7_000_000)
    assert moment.sentence() == "copying media, 1,234 of 5,000 files, 7.0 MB, 3 s"


def test_command(archive: Path) -> None:
    """What people and programs are told."""
    add_media(archive, b"gone", there=False)
    done = skyexport("export", archive, "-o", archive.parent / "o", "--media")
    assert done.returncode == 0
    assert "5 media files, 50 B\n" in done.stderr
    assert f"warning: 1 media file is missing; the first: {path_of(b'gone')}\n" in done.stderr
    summary = skyexport_json("export", archive, "-o", archive.parent / "o", "--media", "--media-root", archive.parent)
    assert (summary["media_files"], summary["media_bytes"]) == (5, 50)
    verified = skyexport("verify", summary["directory"])
    assert verified.stdout == f"{summary['directory']}: OK: 5 posts, 5 media files, all checksums match\n"


@pytest.fixture
def whole(archive: Path) -> Path:
    """An export with media."""
    return directory_of_export(archive)


def differences(directory: Path) -> list[str]:
    """What `verify` finds."""
    with pytest.raises(VerifyError) as caught:
        verify(directory)
    return [str(difference) for difference in caught.value.differences]


def test_verify_names_every_file_that_differs(whole: Path) -> None:
    """One changed, one missing, one too many, and what is no file."""
    name, other = name_of(b"media of 1"), name_of(b"media of 2")
    (whole / "media" / name).write_bytes(b"media of 7")
    (whole / "media" / other).unlink()
    (whole / "media" / "extra.jpg").touch()
    (whole / "media" / "folder").mkdir()
    digest = hashlib.sha256(b"media of 7").hexdigest()
    assert sorted(differences(whole)) == sorted(
        [
            f"media/{name}: has the SHA-256 {digest}; according to SHA256SUMS it is {name[:64]}",
            f"media/{other}: missing",
            "media/extra.jpg: not part of the export",
            "media/folder: not part of the export",
        ]
    )


@pytest.mark.parametrize("sums", [True, False])
@pytest.mark.parametrize("name", [".DS_Store", "Thumbs.db", "._x.jpg", "@eaDir"])
def test_litter_among_media(whole: Path, name: str, sums: bool) -> None:
    """What file managers leave there is named and nothing else, also where no checksums tell the names of media."""
    if not sums:
        manifest = json.loads((whole / "manifest.json").read_bytes())
        del manifest["checksums"]
        (whole / "manifest.json").write_text(json.dumps(manifest))
        (whole / "SHA256SUMS").unlink()
    if name == "@eaDir":
        (whole / "media" / name).mkdir()
    else:
        (whole / "media" / name).write_text("litter")
    with pytest.raises(VerifyError) as caught:
        verify(whole)
    assert [str(difference) for difference in caught.value.differences] == [f"media/{name}: not part of the export"]
    assert caught.value.hint == "remove it: the export's own files are intact"


def test_verify_many_differences(whole: Path) -> None:
    """A thousand are named, and how many more there are."""
    for number in range(1200):
        (whole / "media" / f"{number}.jpg").touch()
    found = differences(whole)
    assert len(found) == 1001
    assert "media: 200 more files differ" in found


def test_verify_sums_of_media(whole: Path) -> None:
    """SHA256SUMS must name each media file once, in order, and as many as the manifest says."""
    sums = whole / "SHA256SUMS"
    lines = sums.read_text().splitlines(keepends=True)
    sums.write_text("".join(lines[:-1]))
    assert "SHA256SUMS: has lines for 4 media files; manifest.json says 5" in differences(whole)
    sums.write_text("".join([*lines[:-2], lines[-3], lines[-1]]))
    assert any("out of order in line 7" in line for line in differences(whole))
    sums.write_text("".join(lines).replace("media/", "media/../media/"))
    assert any("not the SHA-256 and the name of a file" in line for line in differences(whole))
    sums.write_text("".join(lines))
    assert verify(whole).media_files == 5


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_verify_reads_no_strangers(whole: Path, make: Callable[[Path], object]) -> None:
    """What is no plain file is not opened; nor is a directory elsewhere."""
    media = whole / "media" / name_of(b"media of 1")
    media.unlink()
    make(media)
    assert any(line.startswith(f"media/{media.name}: ") for line in differences(whole))
    elsewhere = Path(shutil.move(whole / "media", whole.parent))
    (whole / "media").symlink_to(elsewhere, target_is_directory=True)
    assert "media: a symbolic link, not a directory" in differences(whole)


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="no sha256sum")
def test_sha256sum_accepts(whole: Path) -> None:
    """So does sha256sum."""
    command = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    done = subprocess.run(command, cwd=whole, capture_output=True, check=False)
    assert done.returncode == 0
    assert done.stdout.count(b": OK\n") == 8


def test_one_name_for_each_file(archive: Path) -> None:
    """Rows that agree in their hash are one file; nothing is ever written twice under a name."""
    with contextlib.closing(apsw.Connection(str(archive))) as connection:
        connection.execute("create table copy as select * from media; drop table media")
        connection.execute("alter table copy rename to media")
        connection.execute("insert into media select * from media")
    summary = exported(archive)
    assert summary.media_files == 5
    assert summary.warnings == {}
