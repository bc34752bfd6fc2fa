"""Syncing: what a system cannot do is passed over, and what a disk failed to do never is."""

from __future__ import annotations

import errno
import itertools
import os
import stat
import sys
from pathlib import Path

import pytest

from skyexport import ExportError, ExportOptions, MemoryLimitError, OutputError, export, verify
from tests.archives import file_archive, post
from tests.command import files_below
from tests.media_files import add_media

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows does not sync directories")

CANNOT = ("EINVAL", "ENOTSUP", "EOPNOTSUPP", "ENOSYS")
DIRECTORIES_ONLY = ("EBADF", "EISDIR", "EACCES", "EPERM")
FATAL = ("EIO", "ENOSPC", "EDQUOT", "EROFS", "EINTR")


def refuse(monkeypatch: pytest.MonkeyPatch, name: str, *, directories: bool, opening: bool = False) -> list[int]:
    """Have the system refuse to sync directories, or files, or to open directories; returns whom it refused."""
    number = getattr(errno, name)
    refused: list[int] = []
    fsync, open_file = os.fsync, os.open

    def syncing(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode) == directories:
            refused.append(descriptor)
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    def open_unless_directory(path: str | Path, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        # As sync does; the directory of media is opened otherwise.
        if flags == os.O_RDONLY | os.O_DIRECTORY:
            refused.append(-1)
            raise OSError(number, os.strerror(number), str(path))
        return open_file(path, flags, mode, dir_fd=dir_fd)

    if opening:
        monkeypatch.setattr(os, "open", open_unless_directory)
    else:
        monkeypatch.setattr(os, "fsync", syncing)
    return refused


def options_of(tmp_path: Path, to: str | None, *, media: bool = False) -> ExportOptions:
    archive = file_archive(tmp_path / "a.db", [post(1, has_media=media)])
    if media:
        add_media(archive, b"image", 1)
    return ExportOptions(archive=archive, output_dir=tmp_path / "o", to=tmp_path / to if to else None, media=media)


@pytest.mark.parametrize("to", [None, "out"])
@pytest.mark.parametrize("name", [*CANNOT, *DIRECTORIES_ONLY])
def test_directories_that_cannot_be_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, to: str | None
) -> None:
    """The export is complete all the same."""
    options = options_of(tmp_path, to)
    refused = refuse(monkeypatch, name, directories=True)
    summary = export(options)
    assert summary.path is not None
    assert summary.path.read_bytes().endswith(b"\n]\n")
    assert refused


@pytest.mark.parametrize("name", [*CANNOT, *DIRECTORIES_ONLY])
def test_directories_that_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """One that may be written to, and not be read, cannot be synced either."""
    options = options_of(tmp_path, None)
    refused = refuse(monkeypatch, name, directories=True, opening=True)
    assert export(options).path
    assert refused


@pytest.mark.parametrize("media", [False, True])
@pytest.mark.parametrize("name", CANNOT)
def test_files_that_cannot_be_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, media: bool) -> None:
    """A file system that does not sync files has nothing better to offer."""
    options = options_of(tmp_path, None, media=media)
    refused = refuse(monkeypatch, name, directories=False)
    assert export(options).media_files == media
    assert len(refused) >= 3 + media


@pytest.mark.quick(9)
@pytest.mark.parametrize("to", [None, "out"])
@pytest.mark.parametrize(
    ("name", "directories"),
    [*((name, True) for name in FATAL), *((name, False) for name in (*FATAL, *DIRECTORIES_ONLY))],
)
def test_disks_that_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, directories: bool, to: str | None
) -> None:
    """An error of the disk ends the export with exit code 12, and nothing under a final name is half-written."""
    options = options_of(tmp_path, to)
    refuse(monkeypatch, name, directories=directories)
    with pytest.raises(OutputError) as caught:
        export(options)
    assert caught.value.exit_code == 12
    left = [path for path in files_below(tmp_path) if path != "a.db"]
    if directories and to:
        # The name was there before its directory could be synced.
        assert left == ["out"]
        assert "out is complete, but may not be on disk yet" in str(caught.value)
    else:
        assert left == []


@pytest.mark.parametrize("to", [None, "out"])
@pytest.mark.parametrize("which", range(8))
def test_no_memory_at_a_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: int, to: str | None) -> None:
    """Without memory the export ends with exit code 13 and leaves nothing; once it has its name, it says so."""
    options = options_of(tmp_path, to)
    sync, calls = os.fsync, itertools.count()

    def failing(descriptor: int) -> None:
        if next(calls) == which:
            raise MemoryError
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", failing)
    ended: ExportError | None = None
    try:
        assert export(options).posts == 1
    except ExportError as error:
        ended = error
    left = [path for path in files_below(tmp_path) if path != "a.db"]
    if isinstance(ended, MemoryLimitError):
        assert left == []
    elif ended is not None:
        assert "is complete, but may not be on disk yet: the system gives no more memory" in ended.message
        assert left == ["out"] if to else verify(next(tmp_path.glob("o/all/*"))).posts == 1
    assert (ended is None) == (next(calls) <= which)


@pytest.mark.parametrize("device", ["/dev/null", "/dev/full"])
def test_devices(tmp_path: Path, device: str) -> None:
    """Nothing waits for a device; one that is full is an error."""
    if not Path(device).exists():
        pytest.skip(f"no {device} here")
    archive = file_archive(tmp_path / "a.db", [post(1)])
    options = ExportOptions(archive=archive, to=Path(device))
    if device == "/dev/null":
        assert export(options).posts == 1
    else:
        with pytest.raises(OutputError, match="No space left"):
            export(options)
    assert files_below(tmp_path) == ["a.db"]
