"""Media that are linked to those of an earlier export instead of being copied."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import apsw
import psutil
import pytest

from skyexport import ExportError, ExportOptions, NoExportError, OptionError, OutputError, StoppedError, verify
from tests.archives import file_archive, post
from tests.command import files_below, skyexport, skyexport_json
from tests.media_files import add_media, directory_of_export, exported, media_in, name_of, path_of

CONTENTS = [b"media of %d" % number for number in range(5)]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Five posts, each with a media file."""
    folder = tmp_path / "in"
    folder.mkdir()
    path = file_archive(folder / "archive.db", [post(number) for number in range(5)])
    for number, content in enumerate(CONTENTS):
        add_media(path, content, number)
    return path


@pytest.fixture
def earlier(archive: Path) -> Path:
    """An export of it."""
    return directory_of_export(archive)


def numbers_in(directory: Path) -> dict[str, int]:
    """Name → number of the file on its disk."""
    return {path.name: path.stat().st_ino for path in directory.glob("media/*")}


def contents_of(directory: Path) -> dict[str, bytes]:
    """Path → content of all that an export has."""
    return {str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize("sync", [True, False])
def test_unchanged_files_are_linked(archive: Path, earlier: Path, sync: bool) -> None:
    """They are the same files, counted, and good; what is new is copied."""
    add_media(archive, b"new")
    before = contents_of(earlier)
    summary = exported(archive, link_media=earlier, sync=sync)
    assert summary.directory is not None
    assert summary.media is not None
    assert (summary.media.files, summary.media.linked) == (6, 5)
    assert summary.media_bytes == sum(map(len, [*CONTENTS, b"new"]))
    numbers = numbers_in(summary.directory)
    assert numbers.items() > numbers_in(earlier).items()
    assert numbers.keys() - numbers_in(earlier).keys() == {name_of(b"new")}
    assert verify(summary.directory).media_files == 6
    assert contents_of(earlier) == before
    shutil.rmtree(earlier)
    assert verify(summary.directory).media_files == 6


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="no sha256sum")
def test_sha256sum_accepts(archive: Path, earlier: Path) -> None:
    """So does sha256sum."""
    directory = exported(archive, link_media=earlier).directory
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=directory, capture_output=True, check=False
    )
    assert done.returncode == 0
    assert done.stdout.count(b": OK\n") == 8


def test_damage_does_not_spread(archive: Path, earlier: Path) -> None:
    """What is no longer what its name says is copied from the media root, as usual."""
    for number in range(5):
        (earlier / "media" / name_of(CONTENTS[number])).write_bytes(b"media of %d" % (number + (number < 2)))
    summary = exported(archive, link_media=earlier)
    assert summary.media is not None
    assert (summary.media.linked, summary.warnings) == (3, {})
    assert media_in(summary) == {name_of(content): content for content in CONTENTS}


def test_good_files_replace_lost_ones(archive: Path, earlier: Path) -> None:
    """What the media root has lost, or has damaged, is linked from the earlier export, without a warning."""
    (archive.parent / path_of(CONTENTS[0])).unlink()
    (archive.parent / path_of(CONTENTS[1])).write_bytes(b"damaged")
    summary = exported(archive, link_media=earlier)
    assert summary.warnings == {}
    assert media_in(summary) == {name_of(content): content for content in CONTENTS}
    assert exported(archive).warnings == {"missing_media": 1, "damaged_media": 1}


@pytest.mark.quick(3)
@pytest.mark.parametrize("lost", [True, False])
@pytest.mark.parametrize("number", [errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOSYS])
def test_links_that_are_not_possible(
    archive: Path, earlier: Path, monkeypatch: pytest.MonkeyPatch, number: int, lost: bool
) -> None:
    """Another file system, one without links, or with too many of them: files are copied, without a word."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    if lost:
        shutil.rmtree(archive.parent / "media")
    summary = exported(archive, link_media=earlier)
    assert summary.media is not None
    assert (summary.media.files, summary.media.linked, summary.warnings) == (5, 0, {})
    assert summary.directory is not None
    assert not set(numbers_in(summary.directory).values()) & set(numbers_in(earlier).values())
    assert verify(summary.directory).media_files == 5


def _link_elsewhere(media: Path) -> None:
    kept = media.rename(media.with_name("kept"))
    media.symlink_to(kept)


def _writable(media: Path) -> None:
    media.chmod(0o666)


def _pipe(media: Path) -> None:
    media.unlink()
    os.mkfifo(media)


def _directory(media: Path) -> None:
    media.unlink()
    media.mkdir()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
@pytest.mark.parametrize("make", [_link_elsewhere, _writable, _pipe, _directory, Path.unlink])
def test_odd_files_are_not_linked(archive: Path, earlier: Path, make: Callable[[Path], None]) -> None:
    """A link, what others may change, what is no file or not there: it is copied from the media root."""
    make(earlier / "media" / name_of(CONTENTS[2]))
    summary = exported(archive, link_media=earlier)
    assert summary.media is not None
    assert (summary.media.linked, summary.warnings) == (4, {})
    assert media_in(summary) == {name_of(content): content for content in CONTENTS}
    assert summary.directory is not None
    assert not (summary.directory / "media" / name_of(CONTENTS[2])).is_symlink()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows lets nobody rename what is open")
@pytest.mark.parametrize("to_link", [True, False])
def test_a_name_that_is_swapped(archive: Path, earlier: Path, monkeypatch: pytest.MonkeyPatch, to_link: bool) -> None:
    """What is linked is the file that was verified, not what has its name a moment later."""
    secret = archive.parent / "secret.jpg"
    secret.write_bytes(b"secret")
    link = os.link

    def swapped(source: str, target: Path, **options: object) -> None:
        file = earlier / "media" / source
        if source == name_of(CONTENTS[1]):
            file.unlink()
            file.symlink_to(secret) if to_link else link(secret, file)
        link(source, target, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "link", swapped)
    summary = exported(archive, link_media=earlier)
    assert summary.media is not None
    assert (summary.media.linked, summary.warnings) == (4, {})
    assert media_in(summary) == {name_of(content): content for content in CONTENTS}


def test_litter_in_an_earlier_export(archive: Path, earlier: Path) -> None:
    """What file managers leave there is not linked, and does no harm."""
    (earlier / ".DS_Store").touch()
    (earlier / "media" / "Thumbs.db").touch()
    summary = exported(archive, link_media=earlier)
    assert summary.media is not None
    assert (summary.media.files, summary.media.linked, summary.warnings) == (5, 5, {})


def test_other_exports(archive: Path, earlier: Path) -> None:
    """One without media has nothing to link; one that was linked itself can be linked again."""
    without = exported(archive, media=False)
    assert without.directory is not None
    summary = exported(archive, link_media=without.directory)
    assert summary.media is not None
    assert (summary.media.files, summary.media.linked) == (5, 0)
    second = exported(archive, link_media=earlier)
    assert second.directory is not None
    third = exported(archive, link_media=second.directory)
    assert third.directory is not None
    assert numbers_in(third.directory) == numbers_in(earlier)


def test_no_earlier_export(archive: Path, earlier: Path, tmp_path: Path) -> None:
    """What is no export is an error before anything is written."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "manifest.json").write_text("{}")
    (tmp_path / "file").touch()
    without_media = Path(shutil.copytree(earlier, tmp_path / "copy"))
    shutil.rmtree(without_media / "media")
    (without_media / "media").touch()
    before = files_below(tmp_path)
    for name, why in {
        "nowhere": "no directory", "empty": "no manifest.json", "odd": "not a manifest of an export",
        "file": "not a directory", "copy": "cannot open media",
    }.items():  # fmt: skip
        with pytest.raises(NoExportError, match=why) as caught:
            exported(archive, link_media=tmp_path / name)
        assert caught.value.exit_code == 10
    assert files_below(tmp_path) == before
    with pytest.raises(OptionError, match="--link-media needs --media"):
        ExportOptions(archive=archive, link_media=earlier)


@pytest.mark.skipif(not hasattr(os, "copy_file_range"), reason="the system can not copy by itself")
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), StoppedError(15), MemoryError()])
def test_an_aborted_export_leaves_the_earlier_one(
    archive: Path, earlier: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """Links go, what they were links to stays as it was."""
    (earlier / "media" / name_of(CONTENTS[4])).unlink()
    before, numbers = contents_of(earlier), numbers_in(earlier)
    linked = threading.Event()

    def fail(*_: object) -> int:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and not linked.is_set():
            if any(path.stat().st_nlink > 1 for path in earlier.glob("media/*")):
                linked.set()
        raise error

    monkeypatch.setattr(os, "copy_file_range", fail)
    with pytest.raises(ExportError):
        exported(archive, link_media=earlier)
    assert linked.is_set()
    assert contents_of(earlier) == before
    assert numbers_in(earlier) == numbers
    assert [path for path in earlier.parent.iterdir() if path.is_dir()] == [earlier]
    assert all(path.stat().st_nlink == 1 for path in earlier.glob("media/*"))


def test_command(archive: Path, earlier: Path) -> None:
    """People and programs are told how many."""
    arguments = ("export", archive, "-o", archive.parent / "o", "--media", "--link-media", earlier)
    done = skyexport(*arguments)
    assert done.returncode == 0
    assert "5 media files, 50 B, 5 of them linked\n" in done.stderr
    summary = skyexport_json(*arguments)
    assert (summary["media_files"], summary["media_linked"]) == (5, 5)
    assert skyexport("verify", summary["directory"]).returncode == 0
    assert skyexport("export", archive, "--link-media", earlier).returncode == 2
    failed = skyexport("export", archive, "-o", archive.parent / "p", "--media", "--link-media", archive.parent)
    assert failed.returncode == 10
    assert "there is no export in" in failed.stderr
    assert not (archive.parent / "p").exists()


@pytest.mark.skipif(not hasattr(os, "statvfs"), reason="the system is asked in another way")
def test_linked_files_need_no_room(archive: Path, earlier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An export that fits since its media are linked is not refused."""
    content = os.urandom(100_000)
    add_media(archive, content)
    whole = exported(archive, link_media=earlier).directory

    status = SimpleNamespace(f_blocks=10**6, f_frsize=1, f_bfree=50_000, f_bavail=50_000)
    monkeypatch.setattr(os, "statvfs", lambda _: status)
    monkeypatch.setattr(psutil, "disk_partitions", lambda **_: [SimpleNamespace(mountpoint="/", fstype="ext4")])
    assert exported(archive, link_media=whole).media_files == 6
    with pytest.raises(OutputError, match="free"):
        exported(archive)


def test_rows_of_one_hash(archive: Path, earlier: Path) -> None:
    """Names are made of the hash and the path's suffix: the same content under another suffix is not linked."""
    with contextlib.closing(apsw.Connection(str(archive))) as connection:
        connection.execute("update media set file_path = replace(file_path, '.jpg', '.JPG') where rowid = 1")
        connection.execute("update media set file_path = replace(file_path, '.jpg', '.png') where rowid = 2")
    summary = exported(archive, link_media=earlier)
    assert summary.media is not None
    assert (summary.media.linked, summary.warnings) == (4, {"missing_media": 1})
