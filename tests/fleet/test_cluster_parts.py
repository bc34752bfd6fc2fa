"""One archive in parts, by the workers of a Dask cluster: the export that one process makes."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyexport import ArchiveChangedError, ExportOptions, OptionError, OutputError, export, export_in_parts, verify
from skyexport.archive.plan import Batch, KeyRange
from skyexport.errors import ArchiveBusyError
from skyexport.pipeline.parts import cut_into_files
from tests.archives import RawText, file_archive, post, run_sql
from tests.clusters import local_cluster
from tests.command import files_below, skyexport, skyexport_json
from tests.conftest import limits


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The address of a cluster with two workers."""
    with local_cluster(2) as cluster:
        yield str(cluster.scheduler_address)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some thousand posts by two authors: many share an instant, some are unusual, one is large."""
    rows = []
    for number in range(3210):
        minute = number // 700 if number < 1500 else number
        rows.append(
            post(
                number, did=f"did:plc:{'ab'[number % 3 == 0]}", text="word " * (number % 7),
                created_at=f"2024-05-{1 + minute // 1440:02} {minute // 60 % 24:02}:{minute % 60:02}:00 +0000 UTC",
            )
        )  # fmt: skip
    rows[100]["text"] = RawText(b"bad \xff")
    rows[1700]["created_at"] = "never"
    rows[2000]["text"] = "large " * 700_000
    rows[3209]["text"] = RawText(b"\xff")
    return file_archive(tmp_path_factory.mktemp("archive") / "a.db", rows)


def content(folder: Path) -> dict[str, Any]:
    """The data files, and the manifest without its times."""
    (made,) = (path.parent for path in folder.glob("*/*/manifest.json"))
    verify(made)
    found: dict[str, Any] = {path.name: path.read_bytes() for path in made.iterdir() if path.name != "SHA256SUMS"}
    manifest = json.loads(found.pop("manifest.json"))
    return found | {"manifest": {key: value for key, value in manifest.items() if key != "export_timestamp"}}


@pytest.mark.quick(2)
@pytest.mark.parametrize(
    "options",
    [
        {"format": "json", "split_posts": 1000},
        {"format": "jsonl", "split_posts": 1501},
        {"format": "parquet", "split_posts": 700},
        {"format": "csv", "split_posts": 40, "csv_safe": True, "columns": "uri,text", "batch_size": 100, "limit": 700},
        {"format": "csv", "split_posts": 333, "compress": "zstd", "batch_size": 500},
        {"format": "json", "split_posts": 5000, "author": "did:plc:b", "compress": "gzip"},
        {"format": "jsonl", "split_posts": 100, "since": "2024-05-02", "until": "2024-05-02"},
        {"format": "jsonl", "split_posts": 100, "since": "2030-01-01"},
        {"format": "json", "split_posts": 900, "snapshot": "copy"},
    ],
    ids=lambda options: " ".join(f"{key}={value}" for key, value in options.items()),
)  # fmt: skip
def test_the_files_are_the_same(tmp_path: Path, archive: Path, address: str, options: dict[str, Any]) -> None:
    """Every format and way of selecting, boundaries inside of batches and instants included."""
    alone = export(ExportOptions(archive=archive, output_dir=tmp_path / "alone", workers=0, sync=False, **options))
    shared = export_in_parts(
        ExportOptions(archive=archive, output_dir=tmp_path / "out", sync=False, **options), address
    )
    assert content(tmp_path / "out") == content(tmp_path / "alone")
    for fact in ("posts", "bytes", "data_files", "batches", "warnings", "warning_places"):
        assert getattr(shared, fact) == getattr(alone, fact), fact
    assert shared.workers == 2
    assert not [name for name in files_below(tmp_path) if "partial" in name or "lock" in name]


def test_increments(tmp_path: Path, address: str) -> None:
    """Only new posts, as without a cluster."""
    mine = file_archive(tmp_path / "a.db", [post(number) for number in range(50)])
    first = export(ExportOptions(archive=mine, output_dir=tmp_path / "first", sync=False))
    assert first.directory is not None
    run_sql(mine, "update posts set cid = 'new' where rowid % 5 = 0", "delete from posts where rowid = 7")
    options: dict[str, Any] = {"archive": mine, "since_export": first.directory, "split_posts": 3, "sync": False}
    alone = export(ExportOptions(output_dir=tmp_path / "alone", workers=0, **options))
    shared = export_in_parts(ExportOptions(output_dir=tmp_path / "out", **options), address)
    assert content(tmp_path / "out") == content(tmp_path / "alone")
    assert (shared.posts, shared.disappeared) == (alone.posts, alone.disappeared) == (10, 1)


@given(st.lists(st.integers(1, 9)), st.integers(1, 12))
def test_each_post_is_in_one_file(sizes: list[int], posts: int) -> None:
    """All files but the last are full, and they have all posts in order."""
    batches: list[Batch] = [KeyRange(number, number, size) for number, size in enumerate(sizes)]
    everything = [(number, place) for number, size in enumerate(sizes) for place in range(size)]
    files = []
    for own, skip in cut_into_files(batches, posts):
        there = [(batch.first, place) for batch in own if isinstance(batch, KeyRange) for place in range(batch.posts)]
        assert 0 <= skip < max(1, own[0].posts if own else 1)
        files.append(there[skip : skip + posts])
    assert [place for file in files for place in file] == everything
    assert all(len(file) == posts for file in files[:-1])
    assert len(files) == max(1, -(-len(everything) // posts))


def test_somebody_writes_meanwhile(tmp_path: Path, address: str) -> None:
    """The parts would be of two states: exit status 11, and nothing stays."""
    mine = file_archive(tmp_path / "a.db", [post(number) for number in range(3000)])
    written: list[bool] = []

    def write(progress: object) -> None:
        if not written and getattr(progress, "stage", "") == "exporting":
            written.append(True)
            # As a program without locks does, or one on another machine whose locks do not reach this one.
            data = bytearray(mine.read_bytes())
            data[24:28] = (int.from_bytes(data[24:28]) + 1).to_bytes(4)
            mine.write_bytes(data)

    options = ExportOptions(archive=mine, output_dir=tmp_path / "out", split_posts=5, sync=False)
    with pytest.raises((ArchiveChangedError, ArchiveBusyError)) as caught:
        export_in_parts(options, address, write)
    assert written
    assert caught.value.exit_code == 11
    assert not (tmp_path / "out").exists()


def test_a_log(tmp_path: Path, address: str) -> None:
    """Another program has the archive open, and its log is not in the file: a copy is exported, or nothing."""
    mine = file_archive(tmp_path / "a.db", [post(number) for number in range(30)])
    run_sql(mine, "pragma journal_mode = wal")
    import apsw

    with contextlib.closing(apsw.Connection(str(mine))) as writer:
        writer.execute("update posts set cid = 'new'")
        options: dict[str, Any] = {"archive": mine, "split_posts": 7, "sync": False}
        with pytest.raises(ArchiveBusyError, match=r"another program may be writing to it; end it, or use --snapshot"):
            export_in_parts(ExportOptions(output_dir=tmp_path / "out", **options), address)
        assert not (tmp_path / "out").exists()
        done = export_in_parts(ExportOptions(output_dir=tmp_path / "out", snapshot="copy", **options), address)
    assert (done.posts, done.data_files) == (30, 5)


def test_too_many_files(tmp_path: Path, archive: Path, address: str) -> None:
    """Refused as without a cluster; nothing stays."""
    options = ExportOptions(archive=archive, output_dir=tmp_path / "out", split_posts=10, sync=False)
    with limits(MAX_DATA_FILES=100), pytest.raises(OutputError, match="more than 100 data files; split less often"):
        export_in_parts(options, address)
    assert not (tmp_path / "out").exists()


def test_strict(tmp_path: Path, archive: Path, address: str) -> None:
    """The first value that cannot be exported as stored ends the export."""
    options = ["--split-posts", "500", "--strict", "--no-sync", "-o", str(tmp_path / "out")]
    alone = skyexport("export", archive, *options)
    shared = skyexport("export", archive, *options, "--cluster", address)
    assert (shared.returncode, shared.stderr) == (alone.returncode, alone.stderr)
    assert shared.returncode == 3
    assert not (tmp_path / "out").exists()


def test_by_command(tmp_path: Path, archive: Path, address: str) -> None:
    """One archive with --split-posts is exported in parts, into the directory that it has without a cluster."""
    found = skyexport_json(
        "export", archive, "--cluster", address, "--split-posts", "1000", "-o", tmp_path / "out", "--no-sync"
    )
    assert (found["posts"], found["workers"], len(found["files"])) == (3210, 2, 6)
    assert re.fullmatch(r".*/out/all/[-_0-9]+", found["directory"])


def test_what_parts_cannot_do(tmp_path: Path, archive: Path) -> None:
    """Refused by name, before anything begins."""
    with pytest.raises(OptionError, match="--split-posts"):
        export_in_parts(ExportOptions(archive=archive), "local:2")
    both = ExportOptions(archive=archive, output_dir=tmp_path / "out", split_posts=9, split_bytes="1MB")
    with pytest.raises(OptionError, match="--split-bytes and --cluster cannot be combined"):
        export_in_parts(both, "local:2")
    assert not (tmp_path / "out").exists()
