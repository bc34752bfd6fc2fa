"""Whole exports through the public API: their bytes, their files, their failures."""

from __future__ import annotations

import base64
import contextlib
import csv
import gzip
import hashlib
import io
import itertools
import json
import os
import random
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import apsw
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import make_archive
from skyexport import (
    AlreadyRunningError,
    ArchiveBusyError,
    ArchiveError,
    ExportOptions,
    ExportSummary,
    MemoryLimitError,
    OutputError,
    Progress,
    StrictError,
    export,
)
from skyexport.archive.archive import Archive
from skyexport.archive.plan import Batch, RowIds
from skyexport.formats import FORMATS
from skyexport.formats.settings import DEFAULTS
from skyexport.pipeline.export import export as export_aloud
from skyexport.rendering import native
from skyexport.runtime.for_tests import on_reached
from skyexport.runtime.memory import ProcessTree
from tests.archives import RawText, file_archive, post, read_rows
from tests.command import skyexport, skyexport_json
from tests.conftest import RENDERERS, limits, rendering_with
from tests.exports import exported_bytes

CONTRACT_FORMATS = ["json", "csv"]
"""Those that the established exporter has."""

SHAPES: dict[str, dict[str, object]] = {
    **{format: {"format": format} for format in FORMATS},
    "zstd": {"compress": "zstd"},
    "jsonl-gzip": {"format": "jsonl", "compress": "gzip:1"},
    "csv-zstd": {"format": "csv", "compress": "zstd:1"},
    "columns": {"format": "jsonl", "columns": ("labels", "text", "uri")},
    "table": {"format": "csv", "columns": ("media_files", "text"), "delimiter": ";", "bom": False, "csv_safe": True},
    "originals": {"format": "parquet", "columns": ("originals", "created_at")},
    "split": {"split_posts": 700},
    "split-csv": {"format": "csv", "split_bytes": 100_000},
    "split-zstd": {"format": "jsonl", "compress": "zstd", "split_posts": 999, "split_bytes": 600_000},
    "split-gzip": {"compress": "gzip:1", "split_bytes": 300_000},
    "split-parquet": {"format": "parquet", "split_posts": 1100},
}
"""What data files can look like."""


def exported_directory(archive: Path, to: Path, **options: object) -> dict[str, bytes]:
    """The data files of one export, name → bytes, in order."""
    summary = export(ExportOptions(archive=archive, output_dir=to, **options))  # type: ignore[arg-type]
    assert summary.directory is not None
    manifest = json.loads((summary.directory / "manifest.json").read_bytes())
    assert summary.data_files == len(manifest["files"])
    return {name: (summary.directory / name).read_bytes() for name in manifest["files"]}


def expected(folder: Path, name: str) -> bytes:
    """What the established exporter wrote."""
    file = folder / name
    return file.read_bytes() if file.exists() else gzip.decompress((folder / f"{name}.gz").read_bytes())


@pytest.mark.parametrize(
    ("name", "workers", "renderer"),
    [
        pytest.param(*how, marks=pytest.mark.slow if how in {("real", 2, "python"), ("sample", 2, "python")} else [])
        for how in itertools.product(("real", "sample", "edge"), (0, 2), RENDERERS)
    ],
)
@pytest.mark.parametrize("format", CONTRACT_FORMATS)
def test_contract_archives(
    contract_dir: Path, tmp_path: Path, name: str, format: str, workers: int, renderer: str
) -> None:
    """Every post of the contract's archives comes out byte for byte as the established exporter writes it."""
    with rendering_with(renderer):
        written = exported_bytes(contract_dir / name / "archive.db", tmp_path / "out", format=format, workers=workers)
    assert written == expected(contract_dir / name, f"all.{format}")


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("format", ["json", "jsonl", "csv"])
def test_golden_posts(golden_dir: Path, tmp_path: Path, format: str, workers: int) -> None:
    """The hostile and ordinary posts that travel with the project come out as they always did."""
    path = file_archive(tmp_path / "a.db", read_rows(golden_dir / "rows.json"))
    written = exported_bytes(path, tmp_path / "out", format=format, workers=workers, batch_size=7)
    assert written == (golden_dir / f"posts.{format}").read_bytes()


SAMPLE_OWNER = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("format", CONTRACT_FORMATS)
def test_contract_author(contract_dir: Path, tmp_path: Path, format: str, workers: int) -> None:
    """One author's posts are those of the contract."""
    written = exported_bytes(
        contract_dir / "sample" / "archive.db", tmp_path / "out", format=format, workers=workers, author=SAMPLE_OWNER
    )
    assert written == expected(contract_dir / "sample", f"posts.{format}")


@pytest.mark.parametrize("since", ["2025-10-28", "2025-10-28T00:00:00Z", "2025-10-28T09:00:00+09:00"])
@pytest.mark.parametrize("until", ["2025-10-29", "2025-10-29T23:59:59Z"])
@pytest.mark.parametrize("format", CONTRACT_FORMATS)
def test_contract_range(contract_dir: Path, tmp_path: Path, format: str, since: str, until: str) -> None:
    """A date range is that of the contract, however its bounds are spelt."""
    written = exported_bytes(
        contract_dir / "sample" / "archive.db", tmp_path / "out", format=format, author=SAMPLE_OWNER, since=since,
        until=until,
    )  # fmt: skip
    assert written == expected(contract_dir / "sample", f"range.{format}")


@pytest.fixture(scope="module")
def oracle(
    small_archive: make_archive.ArchiveInfo, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, bytes]]:
    """Shape → the data files of the small archive, in one process, with batches of the usual size."""
    folder = tmp_path_factory.mktemp("oracle")
    return {
        name: exported_directory(small_archive.path, folder / name, workers=0, **shape)
        for name, shape in SHAPES.items()
    }


QUICK = {(0, 1), (0, 7), (1, 1000), (2, 7), (2, 1000)}
"""Workers and batch sizes that a usual run tries with each format."""

SECONDS = {("parquet", 0, 1)}
"""A table for each post takes some."""


@pytest.mark.quick(4)
@pytest.mark.parametrize(
    ("shape", "workers", "batch_size"),
    [
        *(
            pytest.param(*how, marks=[] if how[1:] in QUICK and how not in SECONDS else pytest.mark.slow)
            for how in itertools.product(FORMATS, (0, 1, 2, 4), (1, 7, 1000))
        ),
        *((name, *how) for name in SHAPES if name not in FORMATS for how in ((0, 7), (2, 1000))),
    ],
)
def test_determinism(
    small_archive: make_archive.ArchiveInfo, oracle: dict[str, dict[str, bytes]], tmp_path: Path, shape: str,
    workers: int, batch_size: int,
) -> None:  # fmt: skip
    """Neither workers nor batch size change a byte; batches change those of compressed files, but not what they say."""
    files = exported_directory(
        small_archive.path, tmp_path, workers=workers, batch_size=batch_size, memory_limit=1 << 30,
        **SHAPES[shape],
    )  # fmt: skip
    if "compress" in SHAPES[shape] and batch_size != 1000:
        assert plain(files) == plain(oracle[shape])
    else:
        assert files == oracle[shape]


@pytest.mark.parametrize("workers", [0, *(pytest.param(count, marks=pytest.mark.slow) for count in (1, 2, 3, 4))])
@pytest.mark.parametrize("shape", SHAPES)
def test_renderers_make_the_same_files(
    small_archive: make_archive.ArchiveInfo, oracle: dict[str, dict[str, bytes]], tmp_path: Path, shape: str,
    workers: int,
) -> None:  # fmt: skip
    """Python alone makes the files that the native renderer makes, compressed ones included."""
    if native.renderer() == "python":
        pytest.skip("there is no native renderer")
    with rendering_with("python"):
        files = exported_directory(
            small_archive.path, tmp_path, workers=workers, memory_limit=1 << 30, **SHAPES[shape]
        )  # fmt: skip
    assert files == oracle[shape]


def plain(files: dict[str, bytes]) -> dict[str, bytes]:
    """The same files as other programs decompress them."""
    programs = {".gz": gzip.decompress, ".zst": decompressed_zstd}
    return {name: programs.get(Path(name).suffix, bytes)(data) for name, data in files.items()}


def decompressed_zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-dc"], input=data, capture_output=True, check=True).stdout


@pytest.mark.parametrize("shape", [name for name in SHAPES if name.startswith("split") or "zip" in name])
def test_files_together_are_the_whole(
    small_archive: make_archive.ArchiveInfo, oracle: dict[str, dict[str, bytes]], shape: str
) -> None:
    """Split and compressed files have the posts of the one plain file, each once, in order, and keep their bounds."""
    options = SHAPES[shape]
    format = str(options.get("format", "json"))
    whole = posts_in(format, oracle[format][f"posts.{format}"])
    assert len(whole) == small_archive.posts
    files = plain(oracle[shape])
    found = [posts_in(format, data) for data in files.values()]
    assert [one for posts in found for one in posts] == whole
    most_posts, most_bytes = options.get("split_posts"), options.get("split_bytes")
    for number, ((name, data), posts) in enumerate(zip(files.items(), found, strict=True), 1):
        assert name.startswith("posts." if most_posts is most_bytes else f"posts-{number:05}.")
        assert isinstance(most_posts, int | None)
        assert isinstance(most_bytes, int | None)
        assert most_posts is None or len(posts) <= most_posts
        assert most_bytes is None or len(data) <= most_bytes
        is_full = len(posts) == most_posts or (most_bytes is not None and len(data) > most_bytes - 5_000)
        assert number == len(files) or is_full


def posts_in(format: str, data: bytes) -> list[Any]:
    """The posts of one plain data file, as other programs read them."""
    if format == "parquet":
        return list(pq.read_table(pa.BufferReader(data)).to_pylist())
    if format == "csv":
        header, *records = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""))
        return [dict(zip(header, record, strict=True)) for record in records]
    return [json.loads(line) for line in data.splitlines()] if format == "jsonl" else list(json.loads(data))


def test_all_formats_say_the_same(oracle: dict[str, dict[str, bytes]]) -> None:
    """JSON Lines and Parquet have what the JSON has, value by value."""
    in_json: list[dict[str, Any]] = json.loads(oracle["json"]["posts.json"])
    assert posts_in("jsonl", oracle["jsonl"]["posts.jsonl"]) == in_json
    table = pq.read_table(pa.BufferReader(oracle["parquet"]["posts.parquet"]))
    assert table.num_rows == len(in_json)
    for row, one in zip(table.to_pylist(), in_json, strict=True):
        originals = json.loads(row.pop("originals") or "{}")
        found: dict[str, Any] = {}
        for name, value in row.items():
            if name in originals:
                found[name] = originals[name]
            elif isinstance(value, datetime):
                assert value.utcoffset() == timedelta(0)
                found[name] = value.isoformat().replace("+00:00", "Z")
            elif name in ("embed_data", "labels") and value is not None:
                found[name] = json.loads(value)
            elif value is not None:
                found[name] = value
            elif name in one:
                found[name] = "no value"
        for name in ("created_at", "indexed_at", "archived_at"):
            if name not in originals:
                one[name] = datetime.fromisoformat(one[name]).astimezone(UTC).isoformat().replace("+00:00", "Z")
        assert found == one


def test_environment_changes_no_byte(
    small_archive: make_archive.ArchiveInfo, oracle: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    """Time zone, locale and hash seed change nothing."""
    for number, environment in enumerate(({"TZ": "Asia/Tokyo", "LANG": "C", "PYTHONHASHSEED": "1"}, {"LC_ALL": "C"})):
        to = tmp_path / str(number)
        program = (
            "import sys; from skyexport import export, ExportOptions;"
            "export(ExportOptions(archive=sys.argv[1], to=sys.argv[2], workers=2))"
        )
        subprocess.run(
            [sys.executable, "-c", program, str(small_archive.path), str(to)],
            env={**os.environ, **environment}, check=True,
        )  # fmt: skip
        assert to.read_bytes() == oracle["json"]["posts.json"]


@pytest.mark.quick(3)
@pytest.mark.parametrize("posts", [0, 1, 999, 1000, 1001, 2500])
@pytest.mark.parametrize("index", [True, False])
def test_archive_sizes(tmp_path: Path, posts: int, index: bool) -> None:
    """Around the borders of batches, with and without the index, every post is there once and in order."""
    info = make_archive.make_archive(tmp_path / "a.db", posts=posts, seed=posts, index=index, ties=min(posts, 5))
    with apsw.Connection(str(info.path)) as connection:
        uris = [uri for (uri,) in connection.execute("select uri from posts order by created_at desc, uri")]
    in_one = exported_bytes(info.path, tmp_path / "one", workers=0)
    assert [found["uri"] for found in json.loads(in_one)] == uris
    assert exported_bytes(info.path, tmp_path / "two", workers=2) == in_one
    assert len(uris) == posts


@pytest.mark.parametrize("format", FORMATS)
def test_no_posts(tmp_path: Path, format: str) -> None:
    """An export without posts is a valid empty file, a success, and says so."""
    path = file_archive(tmp_path / "a.db", [post(1)])
    summary = export(ExportOptions(archive=path, to=tmp_path / "out", format=format, since="2030-01-01"))
    assert (tmp_path / "out").read_bytes() == b"".join(FORMATS[format].configured(DEFAULTS).new_file().finish())
    assert summary.posts == 0
    assert "no post matched" in summary.sentences()[0]


@pytest.mark.parametrize("workers", [0, 2])
def test_ties_beyond_a_batch(tmp_path: Path, workers: int) -> None:
    """Thousands of posts in one instant, saved in any order, come out once each, by uri."""
    numbers = [number * 7919 % 3001 for number in range(3001)]
    path = file_archive(tmp_path / "a.db", [post(number) for number in numbers])
    posts = json.loads(exported_bytes(path, tmp_path / "out", workers=workers, batch_size=100))
    assert [found["uri"] for found in posts] == [str(post(number)["uri"]) for number in range(3001)]


def by_three_authors() -> Iterator[dict[str, object]]:
    for number in range(3000):
        did = "did:plc:rare" if number % 100 == 0 else f"did:plc:half{number % 2}"
        yield dict(post(number, did=did, created_at=f"2024-05-{1 + number % 28:02d} 00:00:00 +0000 UTC"))


@pytest.mark.quick(1)
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("index", [True, False])
def test_authors_are_disjoint_and_complete(tmp_path: Path, index: bool, workers: int) -> None:
    """Frequent and rare authors alike: each export has that author's posts, all of them, in order."""
    path = file_archive(tmp_path / "a.db", by_three_authors(), index=index)  # type: ignore[arg-type]
    everything = json.loads(exported_bytes(path, tmp_path / "all", workers=0))
    for did in ("did:plc:rare", "did:plc:half0", "did:plc:half1"):
        own = json.loads(exported_bytes(path, tmp_path / "own", workers=workers, author=did))
        assert own == [found for found in everything if found["did"] == did]


def test_layout_and_manifest(small_archive: make_archive.ArchiveInfo, tmp_path: Path) -> None:
    """An export directory holds data and manifest, private, under author and time; the manifest tells what they are."""
    did = small_archive.owner_did
    summary = export(
        ExportOptions(archive=small_archive.path, output_dir=tmp_path, author=did, since="2001-02-03", format="csv")
    )
    assert summary.directory is not None
    assert summary.directory.parent == tmp_path / did
    assert sorted(path.name for path in summary.directory.iterdir()) == ["SHA256SUMS", "manifest.json", "posts.csv"]
    data = (summary.directory / "posts.csv").read_bytes()
    manifest = json.loads((summary.directory / "manifest.json").read_bytes())
    assert list(manifest)[:7] == [
        "export_format", "export_timestamp", "post_count", "media_count", "date_range", "version", "files",
    ]  # fmt: skip
    assert manifest["export_format"] == "csv"
    assert manifest["post_count"] == summary.posts > 2000
    assert manifest["date_range"] == {"start_date": "2001-02-03T00:00:00Z", "end_date": None}
    assert manifest["files"] == ["posts.csv"]
    assert manifest["author"] == did
    assert manifest["checksums"] == [
        {"name": "posts.csv", "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    ]
    assert manifest["source"]["posts"] == small_archive.posts
    sums = [
        (hashlib.sha256((summary.directory / name).read_bytes()).hexdigest(), name)
        for name in ("posts.csv", "manifest.json")
    ]
    assert (summary.directory / "SHA256SUMS").read_text() == "".join(f"{sha256}  {name}\n" for sha256, name in sums)
    if sys.platform != "win32":
        assert stat.S_IMODE(summary.directory.stat().st_mode) == 0o700
        assert stat.S_IMODE((summary.directory / "posts.csv").stat().st_mode) == 0o600


def test_summary(small_archive: make_archive.ArchiveInfo, tmp_path: Path) -> None:
    """The summary agrees with the file."""
    summary = export(ExportOptions(archive=small_archive.path, to=tmp_path / "out", workers=2))
    data = (tmp_path / "out").read_bytes()
    assert isinstance(summary, ExportSummary)
    assert (summary.posts, summary.bytes, summary.workers) == (small_archive.posts, len(data), 2)
    assert summary.files[0].sha256 == hashlib.sha256(data).hexdigest()
    assert summary.path == tmp_path / "out"
    assert summary.directory is None
    assert summary.batches >= 3
    assert 10_000_000 < (summary.peak_memory_bytes or 0) < 500_000_000


def test_exports_at_the_same_time(small_archive: make_archive.ArchiveInfo, tmp_path: Path) -> None:
    """Of exports into the same place some are refused; those that are not take different names and are complete."""
    options = ExportOptions(archive=small_archive.path, output_dir=tmp_path, workers=0)
    summaries: list[ExportSummary] = []
    refused: list[AlreadyRunningError] = []

    def run() -> None:
        try:
            summaries.append(export(options))
        except AlreadyRunningError as error:
            refused.append(error)

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(summaries) + len(refused) == 6
    assert len({summary.directory for summary in summaries}) == len(summaries) > 0
    assert len({summary.path.read_bytes() for summary in summaries if summary.path}) == 1
    assert set((tmp_path / "all").iterdir()) == {summary.directory for summary in summaries}


def hostile_rows() -> list[dict[str, object]]:
    return [
        dict(post(1, text=RawText(b"bad \xff"))),
        dict(post(2, created_at="whenever")),
        dict(post(3, embed_data=b"{")),
    ]


@pytest.mark.parametrize("workers", [0, 2])
def test_warnings_name_kind_and_post(tmp_path: Path, workers: int) -> None:
    """What can not be exported as stored is counted, with its place, in summary and manifest."""
    path = file_archive(tmp_path / "a.db", hostile_rows())  # type: ignore[arg-type]
    summary = export(ExportOptions(archive=path, output_dir=tmp_path / "o", workers=workers))
    assert summary.warnings == {"unreadable_time": 1, "invalid_utf8": 1, "unreadable_json": 1}
    assert summary.warning_places["unreadable_time"] == [f"created_at of {post(2)['uri']!s}"]
    assert summary.directory is not None
    manifest = json.loads((summary.directory / "manifest.json").read_bytes())
    assert manifest["warnings"] == summary.warnings
    assert manifest["warning_places"] == summary.warning_places


@pytest.mark.parametrize("workers", [0, 2])
def test_strict(tmp_path: Path, workers: int) -> None:
    """With strict the first of them ends the export, names the post, and leaves nothing."""
    path = file_archive(tmp_path / "a.db", hostile_rows())  # type: ignore[arg-type]
    with pytest.raises(StrictError, match="00000002") as caught:
        export(ExportOptions(archive=path, output_dir=tmp_path / "o", workers=workers, strict=True))
    assert caught.value.exit_code == 3
    assert not (tmp_path / "o").exists()


def test_existing_file_is_refused_and_overwritten_on_demand(
    small_archive: make_archive.ArchiveInfo, tmp_path: Path
) -> None:
    """A file that is there stays as it is, unless told otherwise."""
    to = tmp_path / "out"
    to.write_text("mine")
    with pytest.raises(OutputError, match="exists"):
        export(ExportOptions(archive=small_archive.path, to=to))
    assert to.read_text() == "mine"
    export(ExportOptions(archive=small_archive.path, to=to, overwrite=True))
    assert len(json.loads(to.read_bytes())) == small_archive.posts
    assert list(tmp_path.iterdir()) == [to]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("wal", [True, False])
def test_archive_is_let_go_before_the_disk_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int, wal: bool
) -> None:
    """While an export waits for the disk, others can write to the archive already."""
    path = file_archive(tmp_path / "a.db", [post(number) for number in range(50)], wal=wal)
    fsync, written = os.fsync, []

    def observed(descriptor: int) -> None:
        with contextlib.closing(apsw.Connection(str(path))) as other:
            other.execute("update posts set like_count = like_count + 1; select 1")
            if wal:
                # Nobody reads an old state any more: the log can be emptied.
                assert other.execute("pragma wal_checkpoint(truncate)").fetchall() == [(0, 0, 0)]
        written.append(True)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", observed)
    summary = export(ExportOptions(archive=path, output_dir=tmp_path / "o", workers=workers, batch_size=10))
    assert len(written) >= 3
    assert 0 < summary.archive_held_seconds < summary.seconds


@pytest.mark.quick(1)
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("to", [None, "out"])
def test_no_room_for_the_export(
    small_archive: make_archive.ArchiveInfo, tmp_path: Path, small_disk: Callable[[int, str], None], workers: int,
    to: str | None,
) -> None:  # fmt: skip
    """An export that can not fit is refused with what it needs and what there is; nothing is written."""
    options = ExportOptions(
        archive=small_archive.path, output_dir=tmp_path / "o", to=tmp_path / to if to else None, workers=workers
    )
    small_disk(1_000_000, "ext4")
    with pytest.raises(OutputError, match=r"needs (\S+) MB or more, and the disk of .* has 1\.0 MB free") as caught:
        export(options)
    assert caught.value.exit_code == 12
    assert list(tmp_path.iterdir()) == []
    needed = float(str(caught.value).split("needs ")[1].split(" MB")[0]) * 1e6
    small_disk(int(needed + 100_000), "ext4")
    assert needed * 0.8 < export(options).bytes < needed * 1.5


def test_room_that_is_not_known(
    small_archive: make_archive.ArchiveInfo, tmp_path: Path, small_disk: Callable[[int, str], None]
) -> None:
    """Where files may take less than their size, and for streams, nothing is refused."""
    small_disk(1000, "zfs")
    assert export(ExportOptions(archive=small_archive.path, to=tmp_path / "out")).posts == 2500
    small_disk(1000, "ext4")
    assert export(ExportOptions(archive=small_archive.path, to=Path(os.devnull))).posts == 2500
    assert export(ExportOptions(archive=small_archive.path, output_dir=tmp_path, since="2100-01-01")).posts == 0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
def test_fifo_is_written_directly(small_archive: make_archive.ArchiveInfo, tmp_path: Path) -> None:
    """A FIFO gets the bytes, and stays a FIFO."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(fifo.read_bytes()))
    reader.start()
    summary = export(ExportOptions(archive=small_archive.path, to=fifo, workers=2))
    reader.join()
    assert len(received[0]) == summary.bytes
    assert stat.S_ISFIFO(fifo.stat().st_mode)
    assert os.listdir(tmp_path) == ["fifo"]  # noqa: PTH208  (a FIFO is not to be opened by looking)


def test_progress_moves(small_archive: make_archive.ArchiveInfo, tmp_path: Path) -> None:
    """A callback sees the export begin and end, and never go back."""
    seen: list[Progress] = []
    export(ExportOptions(archive=small_archive.path, to=tmp_path / "out", workers=2, batch_size=1), seen.append)
    assert seen[-1].stage == "done"
    assert (seen[-1].posts, seen[-1].fraction) == (small_archive.posts, 1.0)
    assert seen[-1].bytes == (tmp_path / "out").stat().st_size
    assert [progress.posts for progress in seen] == sorted(progress.posts for progress in seen)
    assert all((progress.memory_bytes or 0) > 0 for progress in seen)


def test_failing_callback_ends_the_export(small_archive: make_archive.ArchiveInfo, tmp_path: Path) -> None:
    """What the callback raises is raised, and nothing is left."""

    def fail(_: Progress) -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        export(ExportOptions(archive=small_archive.path, output_dir=tmp_path / "o", workers=1, batch_size=1), fail)


def test_impossible_memory_limit(small_archive: make_archive.ArchiveInfo, tmp_path: Path) -> None:
    """A limit that can not work is refused with one that does."""
    options = {"archive": small_archive.path, "to": tmp_path / "out", "workers": 2}
    with pytest.raises(MemoryLimitError, match=r"--memory-limit (\d+)MB") as caught:
        export(ExportOptions(**options, memory_limit=10_000_000))  # type: ignore[arg-type]
    enough = int(caught.value.hint.split("--memory-limit ")[1].split("MB")[0])
    assert not (tmp_path / "out").exists()
    summary = export(ExportOptions(**options, memory_limit=enough * 1_000_000))  # type: ignore[arg-type]
    assert 0 < (summary.peak_memory_bytes or 0) < enough * 1_000_000


@pytest.mark.quick(2)
@pytest.mark.parametrize(
    ("text", "workers"),
    [(b"x" * 10_000_000, 0), (b"\x01" * 10_000_000, 1), pytest.param(b"\x01" * 10_000_000, 0, marks=pytest.mark.slow)],
    ids=["plain", "escaped-in-worker", "escaped"],
)
@pytest.mark.parametrize("format", FORMATS)
def test_large_post(tmp_path: Path, format: str, workers: int, text: bytes) -> None:
    """A post of 10 MB among others comes out whole, and memory stays far below what a copy or two would take."""
    path = file_archive(tmp_path / "a.db", [post(1), post(2, text=text.decode()), post(3)])
    summary = skyexport_json("export", path, "--to", tmp_path / "out", "-f", format, "-j", str(workers))
    written = (tmp_path / "out").read_bytes()
    if format == "parquet":
        assert [one["text"] for one in posts_in(format, written)] == ["Hello", text.decode(), "Hello"]
    else:
        body = text.replace(b"\x01", b"\\u0001") if format.startswith("json") else text
        assert written.count(body) == 1
    assert summary["posts"] == 3
    assert summary["peak_memory_bytes"] < (300_000_000 if format == "parquet" else 150_000_000)


@pytest.mark.parametrize("workers", [0, 2])
def test_archive_is_untouched(tmp_path: Path, workers: int) -> None:
    """The archive has the same bytes afterwards and nothing new beside it, in WAL mode as well."""
    for wal in (False, True):
        folder = tmp_path / str(wal)
        folder.mkdir()
        path = file_archive(folder / "a.db", [post(number) for number in range(50)], wal=wal)
        before = path.read_bytes()
        export(ExportOptions(archive=path, to=tmp_path / "out", workers=workers, overwrite=True))
        assert path.read_bytes() == before
        assert list(folder.iterdir()) == [path]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_index_that_does_not_agree(tmp_path: Path, workers: int) -> None:
    """An index that was not kept up to date is damage, which no second export makes good."""
    path = file_archive(
        tmp_path / "a.db", [post(number, created_at=f"2024-05-22 18:57:{number:02d} +0000 UTC") for number in range(50)]
    )
    with contextlib.closing(apsw.Connection(str(path))) as connection:
        connection.pragma("writable_schema", True)
        row = connection.execute("select * from sqlite_schema where name = 'idx_posts_created_at'").fetchall()
        connection.execute("delete from sqlite_schema where name = 'idx_posts_created_at'")
        connection.pragma("writable_schema", "reset")
        connection.execute("update posts set created_at = '2030-01-01 00:00:00 +0000 UTC' where rowid between 5 and 11")
        connection.pragma("writable_schema", True)
        connection.executemany("insert into sqlite_schema values (?, ?, ?, ?, ?)", row)
    with pytest.raises(ArchiveError, match="is damaged: its indexes do not agree with its posts") as caught:
        export(ExportOptions(archive=path, to=tmp_path / "out", workers=workers, batch_size=7))
    assert caught.value.exit_code == 10
    assert not (tmp_path / "out").exists()


WRITE_PAIRS = """
import sys, time, apsw
connection = apsw.Connection(sys.argv[1])
connection.set_busy_timeout(5000)
number = 0
while True:
    with connection:
        for _ in range(2):
            number += 1
            connection.execute(
                "insert into posts(uri, cid, did, created_at, indexed_at) values (?, 'c', 'did:plc:a', ?, ?)",
                (f"at://new/{number}", "2024-05-22 18:57:38.254 +0000 UTC", "2024-05-22 18:57:38.254 +0000 UTC"),
            )
    print(number, flush=True)
    time.sleep(0.0005)
"""


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    ("workers", "snapshot", "wal"),
    [
        (3, "pin", True),
        (0, "copy", False),
        *(
            pytest.param(*chosen, marks=pytest.mark.slow)
            for chosen in ((0, "pin", True), (0, "pin", False), (3, "pin", False), (0, "copy", True))
        ),
    ],
)
def test_one_state_of_a_live_archive(tmp_path: Path, workers: int, snapshot: str, wal: bool) -> None:
    """While another program adds posts in pairs, an export has whole pairs: what the archive held at one instant."""
    path = file_archive(tmp_path / "a.db", [post(number) for number in range(2000)], wal=wal)
    # With a rollback journal each export in the making keeps the writer waiting, and the other way round.
    with subprocess.Popen([sys.executable, "-c", WRITE_PAIRS, str(path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        counts = []
        try:
            for number in range(2):
                posts = json.loads(
                    exported_bytes(path, tmp_path / str(number), workers=workers, snapshot=snapshot, batch_size=100)
                )
                counts.append(len(posts))
                assert len({found["uri"] for found in posts}) == len(posts)
        finally:
            writer.kill()
    assert counts[0] > 2000
    assert counts == sorted(set(counts))
    assert all(count % 2 == 0 for count in counts)


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    ("workers", "wal"), [*(pytest.param(1, wal, marks=pytest.mark.slow) for wal in (False, True)), (2, True)]
)
def test_an_archive_that_is_written_to_all_the_time(tmp_path: Path, workers: int, wal: bool) -> None:
    """Where no attempt to hold one state is successful, the posts are copied first, which takes one process only."""
    path = file_archive(tmp_path / "a.db", [post(number) for number in range(300)], wal=wal)
    attempts = []

    def disturb(archive: Archive) -> None:
        if not archive.source.private:
            attempts.append(True)
            with contextlib.closing(apsw.Connection(str(path))) as other:
                other.execute("update posts set like_count = like_count + 1")

    said: list[str] = []
    options = ExportOptions(archive=path, to=tmp_path / "out", workers=workers, batch_size=50)
    with on_reached("pinning", disturb):
        summary = export_aloud(options, say=said.append)
    assert said == [f"another program keeps writing to {path}: copying its posts first, as with --snapshot copy"]
    assert len(attempts) == 50
    # Without a log nobody can write while a worker holds the archive: the other program was refused each time.
    assert {found["like_count"] for found in json.loads((tmp_path / "out").read_bytes())} == {51 if wal else 1}
    assert summary.posts == 300
    assert 0 < summary.archive_held_seconds < summary.seconds
    assert {path.name for path in tmp_path.iterdir()} - {"a.db-wal", "a.db-shm"} == {"a.db", "out"}


def test_locked_archive(tmp_path: Path) -> None:
    """An archive that another program holds is reported as busy."""
    path = file_archive(tmp_path / "a.db", [post(1)])
    holder = apsw.Connection(str(path))
    holder.execute("begin exclusive")
    with limits(BUSY_MILLISECONDS=10), pytest.raises(ArchiveBusyError) as caught:
        export(ExportOptions(archive=path, output_dir=tmp_path / "o"))
    assert caught.value.exit_code == 11
    holder.close()
    assert not (tmp_path / "o").exists()


def test_damaged_archive(tmp_path: Path) -> None:
    """A page of garbage ends the export with an error of the archive, or is not noticed; never with anything else."""
    info = make_archive.make_archive(tmp_path / "a.db", posts=300, seed=5)
    whole = info.path.read_bytes()
    outcomes = set()
    for page in range(1, len(whole) // 4096, 7):
        info.path.write_bytes(whole[: page * 4096] + b"\xa5" * 4096 + whole[(page + 1) * 4096 :])
        try:
            exported_bytes(info.path, tmp_path / "out", workers=0)
            outcomes.add("done")
        except ArchiveError:
            outcomes.add("refused")
    assert outcomes == {"done", "refused"}


@pytest.mark.quick(2)
@pytest.mark.parametrize(
    "change",
    [
        "alter table posts add column row_id",
        "alter table posts add column batch",
        "alter table posts add column value",
        "delete from schema_version",
        "drop table media",
        "create table carray(x)",
        "update posts set rowid = -rowid * 1000",
        "drop index idx_posts_created_at; create index other on posts(created_at, did)",
        "drop index idx_posts_created_at; create index other on posts(created_at) where has_media",
        "drop index idx_posts_created_at; create index other on posts(created_at collate nocase)",
        """drop index idx_posts_created_at; create index "a""b;--" on posts(created_at desc)""",
    ],
)
def test_archives_that_differ_in_what_does_not_matter(tmp_path: Path, change: str) -> None:
    """Other columns, tables and indexes than usual change nothing."""
    rows = [post(number, created_at=f"2024-05-{1 + number % 28:02d} 00:00:00 +0000 UTC") for number in range(60)]
    usual = file_archive(tmp_path / "usual.db", rows)
    changed = file_archive(tmp_path / "changed.db", rows)
    with contextlib.closing(apsw.Connection(str(changed))) as connection:
        connection.execute(change)
    expected = exported_bytes(usual, tmp_path / "usual.json", workers=0)
    for workers in (0, 2) if "column" in change else (0,):
        assert exported_bytes(changed, tmp_path / "out", workers=workers, batch_size=7) == expected
    selected = {"author": "did:plc:abc", "since": "2024-05-03"}
    expected = exported_bytes(usual, tmp_path / "usual.json", workers=0, **selected)
    assert exported_bytes(changed, tmp_path / "out", workers=0, batch_size=7, **selected) == expected


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("column", ["uri", "created_at"])
def test_values_that_are_missing(tmp_path: Path, column: str, workers: int) -> None:
    """NULL where the archiver puts none is a value like another: every post is exported, index or not."""
    rows = [post(number, created_at=f"2024-05-{1 + number % 28:02d} 00:00:00 +0000 UTC") for number in range(60)]
    path = file_archive(tmp_path / "a.db", rows)
    with contextlib.closing(apsw.Connection(str(path))) as connection:
        connection.execute("create table loose as select * from posts; drop table posts;")
        connection.execute("alter table loose rename to posts; create unique index by_uri on posts(uri)")
        connection.execute("create index idx_posts_created_at on posts(created_at desc)")
        connection.execute(f"update posts set {column} = null where rowid in (3, 40)")
    posts = json.loads(exported_bytes(path, tmp_path / "out", workers=workers, batch_size=7))
    assert len(posts) == 60
    assert sum(found[column] == "" for found in posts) == 2


@pytest.mark.slow
@pytest.mark.parametrize("format", ["csv", pytest.param("json", marks=pytest.mark.slow)])
def test_many_large_posts(tmp_path: Path, format: str) -> None:
    """Large posts in many batches take turns, so that the memory of one is needed however many workers there are."""
    embed = b'{"a":"' + b"x" * 25_000_000 + b'"}'
    rows = [post(number, embed_data=embed if number % 2 else b"null", has_media=1) for number in range(7)]
    path = file_archive(tmp_path / "a.db", rows)
    peaks = {
        workers: skyexport_json(
            "export", path, "--to", tmp_path / workers, "-f", format, "-j", workers, "--batch-size", "1"
        )["peak_memory_bytes"]
        for workers in ("0", "3")
    }
    assert (tmp_path / "3").read_bytes() == (tmp_path / "0").read_bytes()
    # Three of them at once would need three times what one needs, beside three idle workers.
    assert peaks["3"] < peaks["0"] + 100_000_000


@pytest.mark.slow
def test_row_groups_of_large_posts(tmp_path: Path) -> None:
    """A table of large posts takes no more memory than one of usual posts, and has all of them."""
    source = random.Random(5)
    embeds = [f'"{base64.b64encode(source.randbytes(225_000)).decode()}"' for _ in range(200)]
    rows = [post(number, embed_data=embed) for number, embed in enumerate(embeds)]
    path = file_archive(tmp_path / "a.db", rows)
    summary = skyexport_json("export", path, "--to", tmp_path / "out", "-f", "parquet", "-j", "0")
    table = pq.ParquetFile(tmp_path / "out")
    assert table.metadata.num_rows == 200
    # Making one takes several times its size.
    assert max(table.metadata.row_group(number).total_byte_size for number in range(table.num_row_groups)) < 20_000_000
    assert summary["peak_memory_bytes"] < 300_000_000
    found = (one for batch in table.iter_batches(20, columns=["embed_data"]) for one in batch.column(0).to_pylist())
    assert sorted(found) == sorted(embeds)


@pytest.mark.quick(1)
@pytest.mark.parametrize(("format", "workers"), [("json", "2"), ("csv", "0")])
def test_post_beyond_the_memory_limit(tmp_path: Path, format: str, workers: str) -> None:
    """A post that can not be read within the limit ends the export before it is read, and is named."""
    path = file_archive(tmp_path / "a.db", [post(1), post(2, text="x" * 100_000_000), post(3)])
    done = skyexport(
        "export", path, "-o", tmp_path / "o", "-f", format, "-j", workers, "--memory-limit", "210MB",
        "--progress", "json",
    )  # fmt: skip
    assert done.returncode == 13
    *events, said = done.stderr.splitlines()
    assert said == (
        "skyexport: 200 MB are needed, more than the limit of 210 MB leaves,"
        f" with a post of 100 MB: {post(2)['uri']!s}; allow more with --memory-limit, if there is more"
    )
    assert max((json.loads(event)["memory_bytes"] for event in events), default=0) < 120_000_000
    assert not (tmp_path / "o").exists()


@pytest.mark.slow
@pytest.mark.parametrize("uri", [pytest.param("at://x", marks=pytest.mark.slow), "at://" + "x" * 1001])
def test_post_that_reaches_the_memory_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    """So does one that takes more than was foreseen; one with an absurd uri is called by its row id."""
    path = file_archive(tmp_path / "a.db", [post(1), post(2, uri=uri, text="\x01" * 150_000_000)])
    monkeypatch.setattr("skyexport.runtime.memory.MemoryGuard.check_affordable", lambda *_: None)
    limit = int(((ProcessTree().sample() or 0) + 20_000_000) / 0.8) + 20_000_000
    options = ExportOptions(archive=path, output_dir=tmp_path / "o", workers=0, memory_limit=limit)
    called = uri if uri == "at://x" else "the post with row id 2"
    with pytest.raises(MemoryLimitError, match=f"memory reached .*, with a post of 150 MB: {called}; "):
        export(options)
    assert not (tmp_path / "o").exists()


def test_large_post_in_a_sample(tmp_path: Path, small_disk: Callable[[int, str], None]) -> None:
    """Nor is such a post read to find out whether there is room on the disk."""
    path = file_archive(tmp_path / "a.db", [post(1), post(2, text="x" * 150_000_000)])
    small_disk(200_000_000, "ext4")
    limit = int(((ProcessTree().sample() or 0) + 20_000_000) / 0.8) + 20_000_000
    options = ExportOptions(archive=path, output_dir=tmp_path / "o", workers=0, memory_limit=limit)
    with pytest.raises(MemoryLimitError, match=f"300 MB are needed, .*, with a post of 150 MB: {post(2)['uri']!s}; "):
        export(options)
    assert [file.name for file in tmp_path.iterdir()] == ["a.db"]


HOSTILE_EMBEDS = {
    "objects": (b'{"images":[', b'{"fullsize":"/a@b"},', b'{"a":1}]}'),
    "emoji": ('{"images":[{"fullsize":"/\U0001f600'.encode(), b"x", b'"}]}'),
    "escapes": ('{"images":[{"fullsize":"/\U0001f600'.encode(), b"\\n", b'"}]}'),
    "keys": (b'{"images":{"', b"k", b'":0}}'),
}
"""Embeds that could take many times their size: beginning, what is repeated, end."""


_ESCAPED = bytes(1 + number % 7 for number in range(256))
"""Byte → a control character that JSON writes as six."""


def hostile_post(path: Path, kind: str, size: int) -> Path:
    """An archive with a post of so many escapes, which are hard to compress, and an embed of that size."""
    text = random.Random(1).randbytes(size).translate(_ESCAPED).decode()
    begin, middle, end = HOSTILE_EMBEDS[kind]
    embed = begin + middle * (size // len(middle)) + end
    return file_archive(path, [post(1), post(2, text=text, embed_data=embed, has_media=1), post(3)])


@pytest.mark.quick(1)
@pytest.mark.parametrize(("kind", "format"), [("emoji", "csv"), ("escapes", "json"), ("keys", "json")])
def test_hostile_post(tmp_path: Path, kind: str, format: str) -> None:
    """Rendering a post takes what it is stored in and that once more, whatever it is made of."""
    path = hostile_post(tmp_path / "a.db", kind, 10_000_000)
    summary = skyexport_json("export", path, "--to", os.devnull, "-f", format, "-j", "0")
    assert summary["posts"] == 3
    assert summary["peak_memory_bytes"] < 50_000_000 + 4 * 20_000_000


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("kind", HOSTILE_EMBEDS)
def test_hostile_post_at_the_default_limit(tmp_path: Path, kind: str, format: str, workers: str) -> None:
    """One of 50 MB of escapes, with an embed of 50 MB, is exported within the default limit."""
    path = hostile_post(tmp_path / "a.db", kind, 50_000_000)
    summary = skyexport_json("export", path, "--to", os.devnull, "-f", format, "-j", workers, timeout=300)
    assert summary["posts"] == 3
    # One of seven characters takes 2.8 bits, however well it is compressed.
    assert summary["bytes"] > {"json": 300_000_000, "parquet": 17_000_000}.get(format, 50_000_000)
    assert summary["peak_memory_bytes"] < 500_000_000


@pytest.mark.quick(1)
@pytest.mark.parametrize(("levels", "posts"), [(900, 20), (9990, 3)])
def test_posts_that_indentation_makes_huge(tmp_path: Path, levels: int, posts: int) -> None:
    """Posts of some kilobytes that take megabytes in the file are written in pieces, and never held in whole."""
    embed = b"[" + b"[" * levels + b"]" * levels + b"]"
    path = file_archive(tmp_path / "a.db", [post(number, embed_data=embed) for number in range(posts)])
    summary = skyexport_json("export", path, "--to", os.devnull, "-j", "0")
    assert summary["bytes"] > posts * 2 * levels**2
    assert summary["peak_memory_bytes"] < 80_000_000


def test_a_post_that_goes_away_from_a_sample(
    small_archive: make_archive.ArchiveInfo, tmp_path: Path, small_disk: Callable[[int, str], None]
) -> None:
    """To find out whether there is room nothing is held: who deletes a post meanwhile does not end the export."""
    path = tmp_path / "a.db"
    path.write_bytes(small_archive.path.read_bytes())

    deleted: list[int] = []

    def delete(batch: Batch) -> None:
        if not deleted:
            # The first batch is of the sample.
            assert isinstance(batch, RowIds)
            deleted.append(batch.row_ids[0])
            with contextlib.closing(apsw.Connection(str(path))) as other:
                other.execute("delete from posts where rowid = ?", deleted)

    small_disk(path.stat().st_size * 3, "ext4")
    with on_reached("rendering", delete):
        summary = export(ExportOptions(archive=path, to=tmp_path / "out", workers=0))
    assert summary.posts == small_archive.posts - 1
