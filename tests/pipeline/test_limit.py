"""--limit: the newest posts of a selection; --no-header: tables that begin with the first post."""

from __future__ import annotations

import csv
import io
import itertools
import json
from pathlib import Path
from typing import Any

import pytest

import make_archive
from skyexport import ExportOptions, ExportSummary, OptionError, export, verify
from skyexport.pipeline.dry_run import dry_run
from tests.archives import file_archive, pets, post, searchable
from tests.command import skyexport, skyexport_json
from tests.exports import exported_bytes, exported_since, posts_of, uris
from tests.media_files import add_media

SELECTIONS: list[dict[str, str]] = [
    {},
    {"since": "2024-05-05", "until": "2024-05-20"},
    {"match": "cats"},
    {"match": "cats", "since": "2024-05-05"},
]


@pytest.mark.quick(3)
@pytest.mark.parametrize(("snapshot", "index"), [("pin", True), ("pin", False), ("copy", True), ("copy", False)])
@pytest.mark.parametrize("selection", SELECTIONS, ids=str)
def test_newest_of_a_selection(tmp_path: Path, selection: dict[str, str], snapshot: str, index: bool) -> None:
    """The first N posts of the export without a limit, whatever the workers, the batches and the way of reading."""
    archive = searchable(tmp_path / "a.db", pets(), index=index)
    everything = uris(exported_bytes(archive, tmp_path / "all.json", **selection))
    for limit in (1, 13, len(everything), 1000):
        found = {
            exported_bytes(
                archive, tmp_path / "out.json",
                limit=limit, workers=workers, batch_size=batch_size, snapshot=snapshot, **selection,
            )
            for workers, batch_size in [(0, 7), (0, 1000), *[(2, 7)] * (limit == 13)]
        }  # fmt: skip
        assert len(found) == 1
        assert uris(found.pop()) == everything[:limit]
        if snapshot == "pin":
            would = dry_run(ExportOptions(archive=archive, limit=limit, **selection))  # type: ignore[arg-type]
            assert would.posts == min(limit, len(everything))


@pytest.mark.quick(2)
@pytest.mark.parametrize("format", ["json", "jsonl", "csv", "parquet"])
def test_formats_and_split_files(small_archive: make_archive.ArchiveInfo, tmp_path: Path, format: str) -> None:
    """Every format has the same posts, also in several files; the manifest has the limit, and verify is content."""
    whole = uris(exported_bytes(small_archive.path, tmp_path / "all.json"))
    for split in (None, 400):
        options = ExportOptions(
            archive=small_archive.path,
            output_dir=tmp_path / "out",
            format=format,
            limit=1300,
            sync=False,
            split_posts=split,
        )
        summary = export(options)
        assert summary.directory is not None
        assert (summary.posts, summary.data_files) == (1300, 4 if split else 1)
        assert verify(summary.directory).posts == 1300
        manifest = json.loads((summary.directory / "manifest.json").read_bytes())
        assert manifest["options"]["limit"] == manifest["post_count"] == 1300
        if not split:
            assert [found["uri"] for found in posts_of(summary)] == whole[:1300]


def test_progress_and_estimate(small_archive: make_archive.ArchiveInfo, tmp_path: Path) -> None:
    """Progress counts up to the limit, and the estimate is of the posts within it."""
    seen: list[int] = []
    options = ExportOptions(archive=small_archive.path, output_dir=tmp_path, limit=200, workers=0)
    summary = export(options, lambda moment: seen.append(moment.posts_to_read))
    assert seen[-1] == 200
    assert dry_run(options).expected_bytes == pytest.approx(summary.bytes, rel=0.1)


def test_media_of_the_newest(tmp_path: Path) -> None:
    """Only the media of the posts within the limit are copied."""
    folder = tmp_path / "in"
    folder.mkdir()
    archive = file_archive(folder / "a.db", [post(number, has_media=1) for number in range(4)])
    newest = uris(exported_bytes(archive, tmp_path / "all.json"))[:2]
    for number in range(4):
        add_media(archive, f"file {number}".encode(), number)
    for snapshot in ("pin", "copy"):
        options = ExportOptions(
            archive=archive, output_dir=tmp_path / "out", limit=2, media=True, snapshot=snapshot, sync=False
        )
        summary = export(options)
        assert [found["uri"] for found in posts_of(summary)] == newest
        assert summary.media_files == 2


def test_limits_that_no_export_has(tmp_path: Path) -> None:
    """A limit below 1 is refused, and so is one beside --since-export."""
    for limit in (0, -1, 10**18):
        with pytest.raises(OptionError, match=f"the limit cannot be {limit} posts"):
            ExportOptions(archive=tmp_path / "a.db", limit=limit)
    with pytest.raises(OptionError, match="--limit cannot be used with --since-export"):
        ExportOptions(archive=tmp_path / "a.db", limit=3, since_export=[tmp_path])


def test_increment_to_a_limited_export(tmp_path: Path) -> None:
    """An export since one with a limit has the rest."""
    archive = file_archive(tmp_path / "a.db", [post(number) for number in range(10)])
    first = exported_since(archive, tmp_path / "out", limit=4)
    rest = exported_since(archive, tmp_path / "out", first)
    assert (first.posts, rest.posts, rest.disappeared) == (4, 6, 0)


def test_command(small_archive: make_archive.ArchiveInfo, tmp_path: Path) -> None:
    """--limit of the command, for several archives as well, where it holds for each."""
    assert skyexport_json("export", small_archive.path, "--limit", "3", "-o", tmp_path / "o")["posts"] == 3
    other = file_archive(tmp_path / "b.db", [post(1), post(2)])
    many = skyexport_json("export", small_archive.path, other, "--limit", "3", "-o", tmp_path / "many")
    assert [one["posts"] for one in many["archives"]] == [3, 2]
    for wrong in ("0", "-1", "ten", "1e3", ""):
        done = skyexport("export", small_archive.path, "--limit", wrong, cwd=tmp_path)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), wrong


SHAPES: list[dict[str, Any]] = [
    {},
    {"bom": False},
    {"delimiter": "\t", "columns": ("text", "indexed_at", "cid", "uri")},
    {"compress": "gzip", "split_posts": 7},
    {"csv_safe": True, "bom": False, "split_bytes": 3000},
]


@pytest.mark.quick(2)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_tables_without_a_header(tmp_path: Path, shape: dict[str, Any]) -> None:
    """They are the others without the first record; verify reads them, and increments compare with them."""
    # A text that begins with a quote is the first field where columns are chosen.
    archive = file_archive(tmp_path / "a.db", [post(number, text=f'"a, {number}"') for number in range(25)])
    found: dict[bool, list[list[str]]] = {}
    for header in (True, False):
        summary = exported_since(archive, tmp_path / f"{header}", format="csv", header=header, **shape)
        assert summary.directory is not None
        assert verify(summary.directory).posts == 25
        assert exported_since(archive, tmp_path / "since", summary).posts == 0
        found[header] = [record for data in plain_files(summary) for record in records_of(data, shape, header)]
    assert found[True] == found[False]
    assert summary.directory is not None
    manifest = json.loads((summary.directory / "manifest.json").read_bytes())
    assert manifest["options"]["header"] is False


def plain_files(summary: ExportSummary) -> list[bytes]:
    import gzip

    assert summary.directory is not None
    files = sorted(summary.directory.glob("posts*"))
    return [gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes() for file in files]


def records_of(data: bytes, shape: dict[str, Any], header: bool) -> list[list[str]]:
    assert data.startswith(b"\xef\xbb\xbf") == shape.get("bom", True)
    text = io.StringIO(data.decode("utf-8-sig"), newline="")
    records = list(csv.reader(text, delimiter=shape.get("delimiter", ","), strict=True))
    return records[1:] if header else records


def test_damage_in_a_table_without_a_header(tmp_path: Path) -> None:
    """verify still sees a record with too few fields, and a byte order mark that is gone."""
    archive = file_archive(tmp_path / "a.db", [post(1), post(2)])
    for bom, (old, new) in itertools.product((True, False), ((b",true,", b",true"), (b"\xef\xbb\xbf", b""))):
        if not bom and not new:
            continue
        summary = exported_since(archive, tmp_path / "o", format="csv", header=False, bom=bom)
        assert summary.path is not None
        data = summary.path.read_bytes()
        damaged = data.replace(old, new, 1)
        if damaged == data:
            damaged = data.replace(b",", b"", 1)
        summary.path.write_bytes(damaged)
        done = skyexport("verify", summary.path.parent)
        assert done.returncode == 4
        assert "not a table of posts" in done.stdout


def test_an_empty_table_without_a_header(tmp_path: Path) -> None:
    """It has no byte but the byte order mark, and is an export."""
    archive = file_archive(tmp_path / "a.db", [post(1)])
    for bom, content in ((True, b"\xef\xbb\xbf"), (False, b"")):
        summary = exported_since(archive, tmp_path / "o", format="csv", header=False, bom=bom, until="1999-01-01")
        assert summary.path is not None
        assert summary.directory is not None
        assert summary.path.read_bytes() == content
        assert verify(summary.directory).posts == 0
        assert exported_since(archive, tmp_path / "o", summary).posts == 1


def test_header_is_for_csv(tmp_path: Path) -> None:
    """Other formats have none."""
    with pytest.raises(OptionError, match="--no-header is not for jsonl"):
        ExportOptions(archive=tmp_path / "a.db", format="jsonl", header=False)
