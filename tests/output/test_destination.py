"""Where exports go: names, and nothing half-written."""

from __future__ import annotations

import errno
import os
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyexport import export, verify
from skyexport.errors import AlreadyRunningError, ExportError, OptionError, OutputError, StoppedError, StrictError
from skyexport.fleet.resumption import export_to_skip
from skyexport.layout import directory_name
from skyexport.options.export_options import ExportOptions, resolve
from skyexport.output.destination import DataDestination, destination_of
from skyexport.pipeline.dry_run import dry_run
from tests.archives import file_archive, post
from tests.command import files_below

NOW = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
DIDS = st.from_regex(r"\Adid:[a-z]{1,8}:[A-Za-z0-9._:%-]{0,500}[A-Za-z0-9._-]\Z")


def opened(tmp_path: Path, **options: object) -> DataDestination:
    return open_destination(ExportOptions(archive=Path("a.db"), output_dir=tmp_path, **options))  # type: ignore[arg-type]


def open_destination(options: ExportOptions, did: str | None = None) -> DataDestination:
    destination = destination_of(resolve(options), did, NOW)
    destination.open()
    return cast(DataDestination, destination)


def written(destination: DataDestination, data: bytes = b"[]\n") -> Path:
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
        assert synced == ([] if not sync else [True, False] if to else [True, True, True, True, False, False])


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has another way")
@pytest.mark.parametrize(
    ("answer", "fsyncs"), [(None, False), (errno.ENOTSUP, True), (errno.EINVAL, True), (errno.EIO, False)]
)
def test_syncing_where_fsync_does_not_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: int | None, fsyncs: bool
) -> None:
    """Where a system has a call that waits for the disk itself (macOS), that is used; fsync where it is not known."""
    full: list[int] = []
    plain: list[int] = []

    def full_sync(_: int, operation: int) -> int:
        full.append(operation)
        if answer is not None:
            raise OSError(answer, os.strerror(answer))
        return 0

    monkeypatch.setattr("fcntl.F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr("fcntl.fcntl", full_sync)
    monkeypatch.setattr(os, "fsync", plain.append)
    destination = opened(tmp_path)
    if answer == errno.EIO:
        with pytest.raises(OutputError, match="Input/output error"):
            written(destination)
        destination.abort()
        assert files_below(tmp_path) == []
    else:
        written(destination)
    assert set(full) == {51}
    assert bool(plain) == fsyncs


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
    with pytest.raises(OutputError, match="link to a file that does not exist"):
        opened(tmp_path, to=tmp_path / "link")


# --- Disks that take no colon in names ----------------------------------------------------------------------------


@pytest.fixture
def no_colons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place on such a disk."""
    disk = tmp_path / "stick"
    disk.mkdir()
    mkdir, open_file = os.mkdir, os.open

    def check(path: str | Path) -> None:
        if str(path).startswith(str(disk)) and ":" in str(path):
            raise OSError(errno.EINVAL, "Invalid argument", str(path))

    def making(path: str | Path, mode: int = 0o777) -> None:
        check(path)
        mkdir(path, mode)

    def opening(path: str | Path, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if flags & os.O_CREAT:
            check(path)
        return open_file(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "mkdir", making)
    monkeypatch.setattr(os, "open", opening)
    return disk


def test_authors_on_a_disk_without_colons(tmp_path: Path, no_colons: Path) -> None:
    """The directory has the portable spelling, as on Windows, and later exports and dry runs find it."""
    archive = file_archive(tmp_path / "a.db", [post(1)])
    options = ExportOptions(archive=archive, output_dir=no_colons / "new", author="did:plc:abc")
    place = no_colons / "new" / "did_3aplc_3aabc"
    first = export(options)
    assert first.directory is not None
    assert first.directory.parent == place
    assert verify(first.directory).posts == 1
    assert dry_run(options).place == place
    found = export_to_skip(options)
    assert found is not None
    assert found.directory == first.directory
    second = export(replace(options, since_export=[first.directory]))
    assert second.directory is not None
    assert second.directory.parent == place
    assert sorted(path.name for path in place.iterdir()) == sorted([first.directory.name, second.directory.name])


def test_failing_on_a_disk_without_colons(tmp_path: Path, no_colons: Path) -> None:
    """Nothing stays of an export that fails there."""
    archive = file_archive(tmp_path / "a.db", [post(1, created_at="never")])
    with pytest.raises(StrictError):
        export(ExportOptions(archive=archive, output_dir=no_colons / "new", author="did:plc:abc", strict=True))
    assert files_below(no_colons) == []


def test_names_that_a_disk_does_not_take(tmp_path: Path, no_colons: Path) -> None:
    """A name that somebody chose is an error, which says what is wrong with it."""
    archive = file_archive(tmp_path / "a.db", [post(1)])
    with pytest.raises(OutputError, match="this disk allows no : in names: choose another name with --to"):
        export(ExportOptions(archive=archive, to=no_colons / "a:b.json"))
    with pytest.raises(OutputError, match="this disk allows no : in names"):
        export(ExportOptions(archive=archive, output_dir=no_colons / "a:b"))
    assert files_below(no_colons) == []


# --- One at a time, and what killed runs left ---------------------------------------------------------------------


@pytest.mark.parametrize("to", [None, "out"])
def test_one_export_at_a_time(tmp_path: Path, to: str | None) -> None:
    """Into the same place or to the same file the second export ends at once, and says who is there."""
    archive = file_archive(tmp_path / "a.db", [post(1)])
    options = ExportOptions(archive=archive, output_dir=tmp_path / "o", to=tmp_path / to if to else None)
    running = open_destination(options)
    grown = files_below(tmp_path)
    with pytest.raises(AlreadyRunningError, match=f"is running: process {os.getpid()} on ") as caught:
        export(options)
    assert caught.value.exit_code == 15
    assert files_below(tmp_path) == grown
    path = written(running)
    assert path.read_bytes() == b"[]\n"
    assert export(replace(options, overwrite=True)).posts == 1


def test_others_run_side_by_side(tmp_path: Path) -> None:
    """Other authors, all of them together, other directories and other files do not wait for each other."""
    archive = file_archive(tmp_path / "a.db", [post(1), post(2, did="did:plc:abd")])
    options = ExportOptions(archive=archive, output_dir=tmp_path / "o", author="did:plc:abc")
    both = (options, replace(options, to=tmp_path / "out"))
    running = [open_destination(one, "did:plc:abc") for one in both]
    for other in (
        replace(options, author=None),
        replace(options, author="did:plc:abd"),
        replace(options, output_dir=tmp_path / "p"),
        replace(options, to=tmp_path / "out2"),
        replace(options, to=tmp_path / "o" / "out"),
    ):
        assert export(other).path
    for destination in running:
        destination.abort()
    assert not [name for name in files_below(tmp_path) if name.endswith(("lock", "partial"))]


def test_the_same_file_by_another_name(tmp_path: Path) -> None:
    """A link to a target is the same target."""
    (tmp_path / "out").write_text("old")
    (tmp_path / "link").symlink_to("out")
    running = opened(tmp_path, to=tmp_path / "out", overwrite=True)
    with pytest.raises(AlreadyRunningError, match=r"to .*link is running"):
        opened(tmp_path, to=tmp_path / "link", overwrite=True)
    running.abort()
    assert files_below(tmp_path) == ["link", "out"]


@pytest.mark.parametrize("name", ["o" * 255, "é" * 127, "名" * 85])
def test_long_names(tmp_path: Path, name: str) -> None:
    """A file may have the longest name that there is, and another with nearly the same is another file."""
    running = opened(tmp_path, to=tmp_path / name)
    assert written(opened(tmp_path, to=tmp_path / name[:-1])).read_bytes() == b"[]\n"
    assert written(running).read_bytes() == b"[]\n"
    assert files_below(tmp_path) == sorted([name, name[:-1]])


def leftovers(tmp_path: Path, to: Path | None) -> tuple[list[Path], list[Path]]:
    """What a killed run leaves, and what only looks like it."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("mine")
    if to is not None:
        left = [to.with_name(f".{to.name}-0123abcd.partial")]
        left[0].write_text("half")
        to.with_name(f".{to.name}.lock").write_text("process 1 on nowhere since then\n")
        similar = [to.with_name(f".{to.name}-{rest}") for rest in ("0123abcdef.partial", "0123abc.partial", "0123abcd")]
        similar.append(to.with_name(".other-0123abcd.partial"))
    else:
        (tmp_path / "all").mkdir()
        left = [tmp_path / "all" / f".2024-05-06_07-08-{number}-0123abcd.partial" for number in ("09", "10")]
        for path in left:
            path.mkdir()
            (path / "posts.json").write_text("half")
        (tmp_path / "all" / ".skyexport.lock").write_text("process 12")
        similar = [tmp_path / "all" / name for name in (".2024-05-06-0123abcd.partial", ".partial", "x.partial")]
        similar.append(tmp_path / "other" / left[0].name)
        similar[-1].parent.mkdir()
    for path in similar:
        path.write_text("mine")
    return left, similar


@pytest.mark.parametrize("to", [None, "out"])
def test_leftovers_of_killed_runs_are_swept(tmp_path: Path, to: str | None) -> None:
    """The next export removes them, says so in a line, and removes nothing else."""
    archive = file_archive(tmp_path / "a.db", [post(1)])
    left, similar = leftovers(tmp_path, tmp_path / to if to else None)
    link = left[0].with_name(left[0].name.replace("0123abcd", "00000000"))
    link.symlink_to(tmp_path / "mine")
    said: list[str] = []
    options = ExportOptions(archive=archive, output_dir=tmp_path, to=tmp_path / to if to else None)
    path = export(options, say=said.append).path
    assert said == [f"removed leftovers of killed exports: {', '.join(map(str, left))}"]
    assert not any(os.path.lexists(one) for one in left)
    assert all(one.read_text() == "mine" for one in [*similar, tmp_path / "mine" / "file"])
    assert link.is_symlink()
    assert path is not None
    assert path.is_file()
    assert not [name for name in files_below(tmp_path) if name.endswith("lock")]


def test_leftovers_of_other_machines_stay_for_a_day(tmp_path: Path) -> None:
    """Locks of a network disk may reach one machine only: another one may be writing what looks like a leftover."""
    archive = file_archive(tmp_path / "a.db", [post(1)])
    author = tmp_path / "all"
    author.mkdir()
    fresh, old = (author / f".2024-05-06_07-08-{second}-0123abcd-{second}abcdef.partial" for second in ("09", "10"))
    for path in (fresh, old):
        path.mkdir()
        (path / "posts.json").write_text("half")
    two_days_ago = time.time() - 2 * 86_400
    for path in (old / "posts.json", old, fresh):
        os.utime(path, (two_days_ago, two_days_ago))
    said: list[str] = []
    export(ExportOptions(archive=archive, output_dir=tmp_path), say=said.append)
    assert said == [f"removed leftovers of killed exports: {old}"]
    assert (fresh / "posts.json").read_text() == "half"
    assert not old.exists()


def test_a_failing_export_sweeps_and_says_so(tmp_path: Path) -> None:
    """What was removed is said also when the export then fails."""
    archive = file_archive(tmp_path / "a.db", [post(1, created_at="never")])
    left, _ = leftovers(tmp_path, None)
    said: list[str] = []
    with pytest.raises(StrictError):
        export(ExportOptions(archive=archive, output_dir=tmp_path, strict=True), say=said.append)
    assert len(said) == 1
    assert not any(one.exists() for one in left)
