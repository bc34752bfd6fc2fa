"""The private directory for temporary files."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from skyexport import ExportOptions, OutputError, export
from skyexport.runtime.scratch import Scratch, remove_left_scratches, temporary_folder
from tests.archives import file_archive, post
from tests.command import files_below
from tests.conftest import posix_only

HOLD = """
import sys
from skyexport.runtime.scratch import Scratch
scratch = Scratch()
(scratch.path / "file").write_text("private")
print(scratch.path, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files."""
    monkeypatch.setenv("TMPDIR" if sys.platform != "win32" else "TEMP", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.delenv("SQLITE_TMPDIR", raising=False)
    assert temporary_folder() == tmp_path
    return tmp_path


def test_private_and_gone(folder: Path) -> None:
    """Its owner alone can look into it, and it is gone with all that is in it."""
    with Scratch() as scratch:
        assert scratch.path.parent == folder
        (scratch.path / "file").write_text("private")
        if sys.platform != "win32":
            assert stat.S_IMODE(scratch.path.stat().st_mode) == 0o700
    scratch.close()
    assert files_below(folder) == []


def test_live_ones_stay_and_dead_ones_go(folder: Path) -> None:
    """Those of live runs are left alone; a killed run's is removed, with its lock."""
    with subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        path = Path(holder.stdout.readline().decode().strip())
        with Scratch() as own:
            assert remove_left_scratches() == []
            assert own.path.is_dir()
        assert (path / "file").read_text() == "private"
        holder.kill()
    assert remove_left_scratches() == [path]
    assert files_below(folder) == []


@posix_only
def test_what_only_looks_like_one(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Names that are not quite ours stay, and links are not followed; a lock without a directory goes."""
    mine = tmp_path_factory.mktemp("mine")
    (mine / "file").write_text("mine")
    (folder / ".skyexport-0123456789abcdef.scratch").symlink_to(mine)
    (folder / ".skyexport-0123456789.scratch").mkdir()
    (folder / "x.skyexport-0123456789abcdef.scratch").mkdir()
    kept = files_below(folder)
    (folder / ".skyexport-fedcba9876543210.lock").touch()
    assert remove_left_scratches() == []
    assert files_below(folder) == kept
    assert (mine / "file").read_text() == "mine"


@posix_only
def test_no_room(folder: Path) -> None:
    """Where no directory can be made, that is said, with what to do."""
    (folder / "gone").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder / "gone"))
        patch.setattr(Path, "mkdir", _failing)
        with pytest.raises(OutputError, match="set TMPDIR") as caught:
            Scratch()
    assert caught.value.exit_code == 12
    assert files_below(folder) == ["gone"]


def _failing(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


def test_no_place_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system without any place for temporary files: an export that needs none works, one that does says so."""

    def nowhere() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    archive = file_archive(tmp_path / "a.db", [post(1)])
    assert export(ExportOptions(archive=archive, to=tmp_path / "out")).posts == 1
    with pytest.raises(OutputError, match="no place for temporary files"):
        export(ExportOptions(archive=archive, to=tmp_path / "copied", snapshot="copy"))
