"""Where exports go: names, and nothing half-written."""

from __future__ import annotations

import errno
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyexport import export
from skyexport.destination import Destination, directory_name, open_destination
from skyexport.errors import ExportError, OptionError, OutputError, StoppedError
from skyexport.options import ExportOptions
from tests.archives import file_archive, post

NOW = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
DIDS = st.from_regex(r"\Adid:[a-z]{1,8}:[A-Za-z0-9._:%-]{0,500}[A-Za-z0-9._-]\Z")


def opened(tmp_path: Path, **options: object) -> Destination:
    return open_destination(ExportOptions(archive=Path("a.db"), output_dir=tmp_path, **options), "posts.json", NOW)  # type: ignore[arg-type]


def written(destination: Destination, data: bytes = b"[]\n") -> Path:
    destination.file.write(data)
    _, path = destination.commit(lambda _: b"{}\n")
    assert path is not None
    return path


@given(DIDS, st.booleans())
def test_directory_names_stay_one_component(did: str, portable: bool) -> None:
    """An author's directory is one component of bounded length, never hidden and never the parent."""
    name = directory_name(did, portable=portable)
    assert Path(name).name == name
    assert name.startswith("did")
    assert len(name.encode()) <= 200
    if portable:
        assert not set(name) - set("abcdefghijklmnopqrstuvwxyz0123456789.-_")


@given(DIDS, DIDS, st.booleans())
def test_directory_names_differ(one: str, other: str, portable: bool) -> None:
    """Different authors have different directories, where capitals do not count as well."""
    names = {directory_name(did, portable=portable) for did in (one, other)}
    assert len(names) == len({one, other})


@pytest.mark.parametrize(
    ("one", "other"), [("did:web:a_3ab", "did:web:a:b"), ("did:web:Ab", "did:web:ab"), ("did:web:a.b", "did:web:a-b")]
)
def test_portable_names_do_not_collide(one: str, other: str) -> None:
    """Not even those that are made to."""
    assert directory_name(one, portable=True).lower() != directory_name(other, portable=True).lower()


def test_taken_names_are_never_replaced(tmp_path: Path) -> None:
    """Where the name is taken, by an empty directory, a full one, a file or a dangling link, another is chosen."""
    parent = tmp_path / "all"
    parent.mkdir()
    (parent / "2024-05-06_07-08-09").mkdir()
    (parent / "2024-05-06_07-08-09-2").write_text("mine")
    (parent / "2024-05-06_07-08-09-3").symlink_to("nowhere")
    path = written(opened(tmp_path))
    assert path == parent / "2024-05-06_07-08-09-4" / "posts.json"
    assert written(opened(tmp_path)) == parent / "2024-05-06_07-08-09-5" / "posts.json"
    assert (parent / "2024-05-06_07-08-09-2").read_text() == "mine"
    assert not list((parent / "2024-05-06_07-08-09").iterdir())


def test_abort_leaves_nothing_that_was_not_there(tmp_path: Path) -> None:
    """Aborting removes what was made, parents included, and only that."""
    (tmp_path / "mine").mkdir()
    destination = opened(tmp_path / "new" / "deep")
    destination.file.write(b"half")
    destination.abort()
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_abort_after_commit_keeps_the_export(tmp_path: Path) -> None:
    """A signal between the rename and the return must not undo an export."""
    destination = opened(tmp_path)
    path = written(destination)
    destination.abort()
    assert path.read_bytes() == b"[]\n"


def test_file_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    """A file that comes into being under the final name while the export runs is not replaced."""
    destination = opened(tmp_path, to=tmp_path / "out")
    (tmp_path / "out").write_text("mine")
    with pytest.raises(OutputError, match="meanwhile"):
        written(destination)
    destination.abort()
    assert (tmp_path / "out").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 1


def test_overwriting_through_a_link_keeps_the_link(tmp_path: Path) -> None:
    """With overwrite a symbolic link stays one, and the file behind it is replaced whole."""
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    destination = opened(tmp_path, to=tmp_path / "link", overwrite=True)
    assert (tmp_path / "real").read_text() == "old"
    written(destination, b"new")
    assert (tmp_path / "real").read_text() == "new"
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("to", [None, "out"])
@pytest.mark.parametrize("sync", [True, False])
def test_syncing_before_the_final_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str | None, sync: bool
) -> None:
    """Everything is on the disk before it has its final name, unless that is not wanted; the result is the same."""
    synced: list[bool] = []
    fsync = os.fsync

    def observed(descriptor: int) -> None:
        synced.append(bool(list(tmp_path.rglob("*.partial"))))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", observed)
    destination = opened(tmp_path, to=tmp_path / to if to else None, sync=sync)
    assert written(destination).read_bytes() == b"[]\n"
    if sys.platform != "win32":
        assert synced == ([] if not sync else [True, False] if to else [True, True, True, True, False])


@pytest.mark.parametrize("way", ["itself", "symlink", "hardlink", "a.db-wal", "a.db-shm", "a.db-journal"])
def test_the_archive_is_never_the_output(tmp_path: Path, way: str) -> None:
    """No option makes an export replace its archive, or put a file where SQLite would take it for the archive's."""
    archive = file_archive(tmp_path / "a.db", [post(1)])
    before = archive.read_bytes()
    to = archive if way == "itself" else tmp_path / way
    if way == "symlink":
        to.symlink_to(archive)
    if way == "hardlink":
        to.hardlink_to(archive)
    listed = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(OptionError, match="archive"):
        export(ExportOptions(archive=archive, to=to, overwrite=True))
    assert archive.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == listed


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), StoppedError(15)], ids=["eio", "signal"])
@pytest.mark.parametrize("to", [None, "out"])
def test_what_happens_after_the_final_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str | None, error: Exception
) -> None:
    """Once an export has its final name it stays, is whole, and the error says so instead of the contrary."""
    archive = file_archive(tmp_path / "a.db", [post(1)])
    out = tmp_path / "o"
    out.mkdir()
    fsync = os.fsync

    def failing(descriptor: int) -> None:
        if not list(out.rglob("*.partial")):
            raise error
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", failing)
    options = ExportOptions(archive=archive, output_dir=out, to=out / to if to else None)
    with pytest.raises(ExportError, match="complete") as caught:
        export(options)
    assert caught.value.exit_code == (12 if isinstance(error, OSError) else 143)
    (data,) = (path for path in out.rglob("*") if path.name in ("posts.json", "out"))
    assert str(data if to else data.parent) in str(caught.value)
    assert data.read_bytes().endswith(b"\n]\n")
    assert not list(out.rglob("*.partial"))


def test_dangling_link_is_refused_at_once(tmp_path: Path) -> None:
    """A link to nowhere is no place for a file, and that is said before the work."""
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(OutputError, match="link to a file that is not there"):
        opened(tmp_path, to=tmp_path / "link")
