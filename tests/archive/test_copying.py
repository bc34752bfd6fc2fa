"""Exports from a copy of the posts: the same bytes, the archive held for less long, and nothing left."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import apsw
import pytest

import make_archive
from skyexport import ArchiveError, ExportOptions, OutputError, export
from skyexport.archive.archive import Archive
from skyexport.errors import StrictError
from skyexport.formats import FORMATS
from skyexport.runtime.for_tests import on_reached
from skyexport.selection import Selection
from tests.archives import RawText, file_archive, post, read_rows, stored_rows
from tests.command import PROGRAM, files_below, skyexport, skyexport_json, started
from tests.conftest import posix_only

pytestmark = pytest.mark.usefixtures("scratch_folder")


def both(archive: Path, tmp_path: Path, **options: Any) -> tuple[bytes, bytes]:
    """What the two ways write."""
    found = []
    for snapshot in ("pin", "copy"):
        to = tmp_path / snapshot
        export(ExportOptions(archive=archive, to=to, overwrite=True, snapshot=snapshot, **options))
        found.append(to.read_bytes())
    return found[0], found[1]


SELECTIONS: list[dict[str, str]] = [
    {},
    {"author": "did:plc:1"},
    {"since": "2024-05-05", "until": "2024-05-20"},
    {"author": "did:plc:0", "since": "2024-05-10"},
    {"until": "2000-01-01"},
]


QUICK = {*((number, True, 1, 0) for number in range(len(SELECTIONS))), (3, False, 3, 2)}
"""Number of the selection, with or without index, version of the schema, workers: what a usual run tries."""


@pytest.mark.quick(2)
@pytest.mark.parametrize(
    ("number", "index", "version", "workers"),
    [
        pytest.param(*chosen, marks=[] if chosen in QUICK else pytest.mark.slow)
        for chosen in itertools.product(range(len(SELECTIONS)), (True, False), (1, 3), (0, 2))
    ],
)
def test_same_bytes(tmp_path: Path, scratch_folder: Path, number: int, index: bool, version: int, workers: int) -> None:
    """Whatever is selected, from whatever schema, with and without an index and workers."""
    rows = [
        post(
            number, did=f"did:plc:{number % 3 % 2}", created_at=f"2024-05-{1 + number * 7 % 28:02d} 00:00:00 +0000 UTC"
        )
        for number in range(150)
    ]
    path = file_archive(tmp_path / "a.db", rows, index=index, schema_version=version, wal=version > 1)
    before = path.read_bytes()
    for format in FORMATS:
        pinned, copied = both(path, tmp_path, format=format, workers=workers, batch_size=20, **SELECTIONS[number])
        assert copied == pinned
    assert path.read_bytes() == before
    assert files_below(scratch_folder) == []


def odd_rows(golden_dir: Path) -> list[dict[str, Any]]:
    """Values of every type in every column, and times in every order."""
    rows: list[dict[str, Any]] = list(read_rows(golden_dir / "rows.json"))
    odd = [None, 0, 1, 2.5, float("inf"), "1", "1.0", b"1", RawText(b"\xff\0x"), RawText(b"a\0b"), " 2", "", b"", "é"]
    for place, column in enumerate(("text", "created_at", "like_count", "has_media", "embed_data", "labels")):
        for number, value in enumerate(odd):
            if value is not None or column != "created_at":
                rows.append(post(1000 + place * 100 + number, **{column: value}))
    return rows


@pytest.mark.slow
@pytest.mark.parametrize(
    "types", ["as usual", *(pytest.param(types, marks=pytest.mark.slow) for types in ("none", "nocase")), "text"]
)
def test_odd_values_keep_their_bytes_and_order(golden_dir: Path, tmp_path: Path, types: str) -> None:
    """Values of every type, text that is not UTF-8 and NUL bytes are copied as they lie, and compare as they did."""
    path = file_archive(tmp_path / "a.db", odd_rows(golden_dir), index=types != "nocase")
    columns = {
        "as usual": "",
        "none": "uri, created_at, like_count, text",
        "text": "uri text, created_at text, like_count text, text text",
        "nocase": "uri text collate nocase, created_at timestamp collate nocase, like_count real, text integer",
    }[types]
    if columns:
        others = "cid, did, indexed_at, has_media boolean, repost_count, reply_count, quote_count, is_reply"
        others += ", reply_parent, embed_type, embed_data json, labels json, archived_at"
        names = ", ".join(part.split()[0] for part in f"{columns}, {others}".split(", "))
        with contextlib.closing(apsw.Connection(str(path))) as connection:
            connection.execute("alter table posts rename to old; create table posts (" + columns + ", " + others + ")")
            connection.execute(f"insert into posts(rowid, {names}) select rowid * 3, {names} from old; drop table old")
            if types != "nocase":
                connection.execute("create index idx_posts_created_at on posts(created_at)")
    for selected in ({}, {"author": "did:plc:abc"}, {"since": "2024-05-22"}):
        for format in FORMATS:
            pinned, copied = both(path, tmp_path, format=format, batch_size=7, **selected)
            assert copied == pinned
    with Archive(path) as archive, contextlib.closing(archive.copy(Selection())) as copy:
        assert (copy.created_at_index is None) == (archive.created_at_index is None)
        rows = [stored_rows(one.connection) for one in (archive, copy)]
        assert sorted(map(repr, rows[0])) == sorted(map(repr, rows[1]))
        assert rows[0] == rows[1]


def test_values_that_their_columns_would_not_take(tmp_path: Path) -> None:
    """Nor does a value change that does not fit its column's type, as a schema that was edited leaves it."""
    path = file_archive(tmp_path / "a.db", [post(1), post(2)], index=False)
    with contextlib.closing(apsw.Connection(str(path))) as connection:
        connection.pragma("writable_schema", True)
        sql = connection.execute("select sql from sqlite_schema where name = 'posts'").get
        assert isinstance(sql, str)
        assert "like_count integer" in sql
        assert "created_at timestamp" in sql
        loose = sql.replace("like_count integer", "like_count      ").replace(
            "created_at timestamp", "created_at          "
        )
        connection.execute("update sqlite_schema set sql = ? where name = 'posts'", (loose,))
    with contextlib.closing(apsw.Connection(str(path))) as connection:
        connection.execute("update posts set like_count = '7', created_at = '1716375600'")
        connection.pragma("writable_schema", True)
        connection.execute("update sqlite_schema set sql = ? where name = 'posts'", (sql,))
    with Archive(path) as archive, contextlib.closing(archive.copy(Selection())) as copy:
        assert stored_rows(copy.connection) == stored_rows(archive.connection)
        assert stored_rows(copy.connection)[0]["like_count"] == RawText(b"7")


@pytest.mark.parametrize("wal", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
def test_the_archive_is_free_while_posts_are_rendered(tmp_path: Path, wal: bool, workers: int) -> None:
    """Others write while posts are rendered, also in rollback mode; the export has what was there before."""
    path = file_archive(tmp_path / "a.db", [post(number) for number in range(200)], wal=wal)
    export(ExportOptions(archive=path, to=tmp_path / "before", workers=0))
    written = []

    def write(_: object) -> None:
        with contextlib.closing(apsw.Connection(str(path))) as other:
            other.execute("update posts set text = 'changed'; delete from posts where rowid > 100")
        written.append(True)

    options = ExportOptions(archive=path, output_dir=tmp_path / "o", workers=workers, batch_size=50, snapshot="copy")
    with on_reached("held", write):
        summary = export(options)
    assert written
    assert summary.path is not None
    assert summary.path.read_bytes() == (tmp_path / "before").read_bytes()
    assert 0 < summary.archive_held_seconds < summary.seconds


def test_only_posts_are_copied_and_privately(
    small_archive: make_archive.ArchiveInfo, tmp_path: Path, scratch_folder: Path
) -> None:
    """The copy has no token, and nobody else can read it."""
    seen: list[Path] = []

    def look(_: object) -> None:
        if not seen:
            seen.extend(path for path in scratch_folder.rglob("*") if path.is_file() and path.suffix != ".lock")
            for path in seen:
                assert b"canary" not in path.read_bytes()
                if sys.platform != "win32":
                    assert stat.S_IMODE(path.stat().st_mode) == 0o600
                    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700

    with on_reached("rendering", look):
        summary = export(ExportOptions(archive=small_archive.path, to=tmp_path / "out", workers=0, snapshot="copy"))
    assert summary.posts == 2500
    assert [path.name for path in seen] == ["posts.db"]
    assert files_below(scratch_folder) == []


def test_manifest_tells_of_the_archive(tmp_path: Path) -> None:
    """Path, size and number of posts in the manifest are the archive's, whatever part of it was copied."""
    rows = [post(number, did=f"did:plc:{number % 3}") for number in range(90)]
    path = file_archive(tmp_path / "a.db", rows)
    manifests = []
    for snapshot in ("pin", "copy"):
        options = ExportOptions(archive=path, output_dir=tmp_path / snapshot, author="did:plc:1", snapshot=snapshot)
        directory = export(options).directory
        assert directory is not None
        text = (directory / "manifest.json").read_text()
        manifests.append([line for line in text.splitlines() if "timestamp" not in line])
    assert manifests[0] == manifests[1]
    assert any('"posts": 90' in line for line in manifests[0])


def test_nothing_is_left_after_an_error(tmp_path: Path, scratch_folder: Path) -> None:
    """A copy goes also when the export fails."""
    path = file_archive(tmp_path / "a.db", [post(1, created_at="never")])
    with pytest.raises(StrictError):
        export(ExportOptions(archive=path, output_dir=tmp_path / "o", snapshot="copy", strict=True))
    assert files_below(scratch_folder) == []
    assert not (tmp_path / "o").exists()


@pytest.mark.slow
def test_damaged_archive(tmp_path: Path, scratch_folder: Path) -> None:
    """Where pages are missing from the table but not from its indexes, no part of the posts is taken for all."""
    info = make_archive.make_archive(tmp_path / "a.db", posts=300, seed=5)
    whole = info.path.read_bytes()
    outcomes = set()
    for page in range(1, len(whole) // 4096, 5):
        info.path.write_bytes(whole[: page * 4096] + b"\0" * 4096 + whole[(page + 1) * 4096 :])
        try:
            done = export(ExportOptions(archive=info.path, to=tmp_path / "out", overwrite=True, snapshot="copy"))
            assert done.posts == 300
            outcomes.add("done")
        except ArchiveError:
            outcomes.add("refused")
    assert outcomes == {"done", "refused"}
    assert files_below(scratch_folder) == []


@pytest.mark.slow
@posix_only
def test_killed_run(tmp_path: Path, scratch_folder: Path) -> None:
    """What a killed run has left is removed by the next one, which says so."""
    path = make_archive.make_archive(tmp_path / "a.db", posts=30_000, seed=3, fts=False).path
    process = started("export", path, "-j", "0", "--snapshot", "copy", "--to", os.devnull)
    while not list(scratch_folder.glob("*.scratch/posts.db")):
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (left,) = scratch_folder.glob("*.scratch")
    done = skyexport("export", path, "--to", os.devnull, "--since", "2100-01-01")
    assert done.returncode == 0
    assert f"removed leftovers of killed exports: {left}" in done.stderr
    assert files_below(scratch_folder) == []


def test_wrong_value_and_summary(small_archive: make_archive.ArchiveInfo, tmp_path: Path) -> None:
    """The command takes pin and copy, and nothing else."""
    assert skyexport("export", small_archive.path, "--snapshot", "fork").returncode == 2
    summary = skyexport_json("export", small_archive.path, "--to", tmp_path / "out", "--snapshot", "copy", "-j", "2")
    assert 0 < summary["archive_held_seconds"] < summary["seconds"]
    assert summary["posts"] == 2500


def test_no_room_for_the_copy(tmp_path: Path, scratch_folder: Path) -> None:
    """A full folder for temporary files is exit code 12, and says what to do."""
    path = file_archive(tmp_path / "a.db", [post(1)])

    def full(*_: object) -> None:
        raise apsw.FullError("database or disk is full")

    with on_reached("copying", full), pytest.raises(OutputError, match="set TMPDIR to a larger place"):
        export(ExportOptions(archive=path, output_dir=tmp_path / "o", snapshot="copy"))
    assert files_below(scratch_folder) == []


@pytest.mark.parametrize("broken", [pytest.param(True, marks=pytest.mark.slow), False])
def test_post_beyond_the_memory_limit(tmp_path: Path, broken: bool) -> None:
    """A post that can not be read within the limit is not copied either, nor recovered, and is named."""
    path = file_archive(tmp_path / "a.db", [post(1), post(2, text="x" * 150_000_000)], wal=broken)
    if broken:
        # As a program leaves it that was stopped: a log without its index.
        with contextlib.closing(apsw.Connection(str(path))) as connection:
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            connection.execute("update posts set like_count = 7")
        path.with_name("a.db-shm").unlink()
    options = ["-j", "0", "--memory-limit", "200MB", *["--snapshot", "copy"] * (not broken)]
    done = skyexport("export", path, "--to", tmp_path / "out", *options)
    assert done.returncode == 13
    assert done.stderr == (
        "skyexport: 300 MB are needed, more than the limit of 200 MB leaves,"
        f" with a post of 150 MB: {post(2)['uri']!s}; allow more with --memory-limit, if there is more\n"
    )
    assert not (tmp_path / "out").exists()


@posix_only
def test_a_copy_that_may_not_grow(small_archive: make_archive.ArchiveInfo, tmp_path: Path) -> None:
    """A private copy that can not be written is no damage of the archive."""
    limited = 'ulimit -f 100; exec "$@"'
    command = ["bash", "-c", limited, "-", *PROGRAM, "export", str(small_archive.path), "--to", os.devnull]
    done = subprocess.run([*command, "--snapshot", "copy"], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 12, done.stderr
    assert "cannot write to the folder for temporary files" in done.stderr
