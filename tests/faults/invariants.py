"""Invariants that must be true after every trial, computed without any code of the exporter.

I1  Under a final name there is a whole export whose manifest verifies, or nothing.
I2  The exit code is one of the documented ones for this fault; a failure prints one line, without a traceback.
I3  No process of the export lives two seconds later; nothing is new in shared memory or the temporary directory.
I4  The archive has the same bytes, and nothing is new beside it.
I5  The data are byte for byte what one process exports from the same state of the archive.
I6  The processes together stayed below the memory limit, by their own high-water marks.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import re
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from tests import strict_json
from tests.oracle import OPTIONAL_KEYS

__all__ = [
    "assert_clear_end",
    "assert_nothing_in",
    "assert_processes_gone",
    "assert_untouched",
    "assert_within_memory",
    "data_files",
    "fingerprint",
    "memory_peaks",
    "parsed",
    "plain",
    "processes_with",
    "shared_memory",
    "verified_exports",
    "verified_file",
]

_LEFT_IN_AUTHOR = re.compile(r"\.skyexport\.lock|\.\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d-[0-9a-f]{8}-[0-9a-f]{8}\.partial")
_LEFT_IN_TEMPORARY = re.compile(r"\.skyexport-[0-9a-f]{16}\.(lock|scratch)")
"""Names that a killed run may leave."""

_SUFFIXES = {"": "", "gzip": ".gz", "zstd": ".zst"}
"""Compression → what it adds to a name."""

_RISKY = re.compile("[\t\r\n\0]|[\\s\0\u200b\ufeff]*[=+\\-@＝＋－＠]")
"""Beginnings of cells that spreadsheets may read as formulas."""

_GONE_SECONDS = 2.0
_LARGEST_FIELD = 2**31 - 1
_SHARED_MEMORY = Path("/dev/shm")  # Linux's place for shared memory with names


def plain(name: str, data: bytes) -> bytes:
    """The content of a data file, decompressed by a library that is not ours; of a table, its uris."""
    if name.endswith(".gz"):
        return gzip.decompress(data)
    if name.endswith(".zst"):
        with pa.CompressedInputStream(pa.BufferReader(data), "zstd") as stream:
            return bytes(stream.read())
    if name.endswith(".parquet"):
        return "\n".join(_table(data).column("uri").to_pylist()).encode()
    return data


def parsed(name: str, data: bytes, options: Mapping[str, Any] | None = None) -> int:
    """Read a data file with a reader that is not ours.

    Args:
        name: Its name.
        data: Its bytes.
        options: What the manifest says that it was asked to look like.

    Returns:
        The number of posts in it.
    """
    asked = options or {}
    if name.endswith(".parquet"):
        table = _table(data)
        assert table.column_names == (asked.get("columns") or table.column_names)
        return int(table.num_rows)
    name, data = re.sub(r"\.(gz|zst)$", "", name), plain(name, data)
    if name.endswith(".csv"):
        return _parsed_csv(data, asked)
    text = data.decode("utf-8", errors="strict")
    if name.endswith(".jsonl"):
        assert not text or text.endswith("\n")
        posts: Any = [strict_json.parsed(line) for line in text.split("\n")[:-1]]
        if "columns" in asked:
            assert all(list(post) == [key for key in asked["columns"] if key in post] for post in posts)
            assert all(set(asked["columns"]) - OPTIONAL_KEYS <= set(post) for post in posts)
    else:
        posts = strict_json.parsed(text)
    assert isinstance(posts, list)
    assert all(isinstance(post, dict) for post in posts)
    return len(posts)


def _table(data: bytes) -> Any:
    table = pq.read_table(pa.BufferReader(data))
    table.validate(full=True)
    return table


def _parsed_csv(data: bytes, asked: Mapping[str, Any]) -> int:
    bom = b"\xef\xbb\xbf" * asked.get("bom", True)
    assert data.startswith(bom or b"URI") or "columns" in asked
    assert data.startswith(b"\xef\xbb\xbf") == bool(bom)
    csv.field_size_limit(_LARGEST_FIELD)
    text = io.StringIO(data[len(bom) :].decode("utf-8", errors="surrogateescape"), newline="")
    header, *records = csv.reader(text, delimiter=asked.get("delimiter", ","))
    assert len(header) == len(asked.get("columns", header))
    assert {len(record) for record in records} <= {len(header)}
    if asked.get("csv_safe"):
        assert not any(_RISKY.match(field) for record in records for field in record)
    return len(records)


def data_files(directory: Path) -> list[Path]:
    """The data files of an export, in order, as its manifest names them."""
    manifest = json.loads((directory / "manifest.json").read_bytes())
    return [directory / name for name in manifest["files"] if not name.startswith("media/")]


def _data_names(manifest: Mapping[str, Any], count: int) -> list[str]:
    """The names that an export with this number of data files must give them."""
    asked = manifest["options"]
    suffix = f".{manifest['export_format']}{_SUFFIXES[asked.get('compress', '').partition(':')[0]]}"
    if not asked.keys() & {"split_posts", "split_bytes"}:
        return [f"posts{suffix}"]
    return [f"posts-{number:05}{suffix}" for number in range(1, count + 1)]


def verified_exports(output_directory: Path, *, leftovers: bool = False) -> list[list[Path]]:
    """I1: check all that lies under final names.

    Args:
        output_directory: What the export had as its output directory; may be missing.
        leftovers: Whether hidden leftovers of a killed run may lie there.

    Returns:
        The data files of each export.
    """
    exports = []
    for author in _entries(output_directory):
        assert author.is_dir(), f"{author} is no author's directory"
        for directory in _entries(author):
            if directory.name.startswith("."):
                assert leftovers, f"{directory} was left"
                assert _LEFT_IN_AUTHOR.fullmatch(directory.name), directory
                continue
            exports.append(_verified_export(directory))
    return exports


def verified_file(path: Path, *, leftovers: bool = False) -> list[Path]:
    """The same for an export to one file, in a directory of its own: that file, if it is there."""
    left = re.compile(rf"\.{re.escape(path.name)}(\.lock|-[0-9a-f]{{8}}\.partial)")
    for found in _entries(path.parent):
        if found != path:
            assert leftovers, f"{found} was left"
            assert left.fullmatch(found.name), found
    return [path] if path.exists() else []


def _entries(directory: Path) -> list[Path]:
    return sorted(directory.iterdir()) if directory.is_dir() else []


def _verified_export(directory: Path) -> list[Path]:
    manifest = json.loads((directory / "manifest.json").read_bytes())
    table = [manifest["media_table"]["name"]] if "media_table" in manifest else []
    noted = [one for one in manifest["checksums"] if one["name"] not in table]
    names = [one["name"] for one in noted]
    assert [one["name"] for one in manifest["checksums"]] == [*names, *table]
    assert names == _data_names(manifest, len(noted))
    media = sorted(f"media/{path.name}" for path in directory.glob("media/*"))
    assert manifest["files"] == [*[f"media/ ({len(media)} files)"] * bool(media), *names]
    assert manifest["media_count"] == len(media)
    posts = []
    for one in noted:
        data = (directory / one["name"]).read_bytes()
        assert one["bytes"] == len(data)
        assert one["sha256"] == hashlib.sha256(data).hexdigest()
        posts.append(parsed(one["name"], data, manifest["options"]))
    assert manifest["post_count"] == sum(posts)
    most = manifest["options"].get("split_posts", sum(posts))
    assert max(posts) <= most
    assert all(posts) or len(posts) == 1
    sums = dict(line.split("  ")[::-1] for line in (directory / "SHA256SUMS").read_text().splitlines())
    assert list(sums) == [*names, *table, "manifest.json", *media]
    for name, found in sums.items():
        assert hashlib.sha256((directory / name).read_bytes()).hexdigest() == found, name
    assert {path.name for path in directory.iterdir()} == {
        "SHA256SUMS", "manifest.json", *names, *table, *["media"] * bool(media)
    }  # fmt: skip
    return [directory / name for name in names]


def assert_clear_end(status: int, errors: str, expected: Collection[int]) -> None:
    """I2: the exit status is an expected one, and a failure has one line that tells the cause."""
    assert status in expected, (status, errors)
    assert "Traceback" not in errors, errors
    assert "Exception ignored" not in errors, errors
    causes = [line for line in errors.splitlines() if line.startswith("skyexport: ")]
    if status > 0 and status not in (2, 141):  # usage has a page, a reader that left is not told
        assert len(causes) == 1, errors
        assert errors.splitlines()[-1] == causes[0], errors
    if status == 0:
        assert not causes, errors


def processes_with(mark: str) -> list[psutil.Process]:
    """The living processes that have *mark* in their environment, which all processes of a trial inherit."""
    found = []
    for process in psutil.process_iter():
        try:
            if mark.encode() in Path(f"/proc/{process.pid}/environ").read_bytes():
                found.append(process)
        except OSError:
            continue
    return found


def assert_processes_gone(mark: str) -> None:
    """I3: no process of the trial lives two seconds from now."""
    assert _soon(lambda: not processes_with(mark)), [process.cmdline() for process in processes_with(mark)]


def shared_memory() -> frozenset[str]:
    """Names in shared memory."""
    return frozenset(path.name for path in _SHARED_MEMORY.iterdir()) if _SHARED_MEMORY.is_dir() else frozenset()


def assert_nothing_in(temporary: Path, shared_before: frozenset[str], *, leftovers: bool = False) -> None:
    """I3: the temporary directory is empty, and no name came into shared memory and stayed.

    Args:
        temporary: The temporary directory.
        shared_before: The names in shared memory before.
        leftovers: Whether a killed run may have left its private directory and the lock of it.
    """
    left = [path.name for path in temporary.iterdir()]
    assert not left or (leftovers and all(_LEFT_IN_TEMPORARY.fullmatch(name) for name in left)), left
    assert _soon(lambda: not shared_memory() - shared_before), shared_memory() - shared_before


def _soon(true: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + _GONE_SECONDS
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def fingerprint(folder: Path) -> dict[str, str]:
    """Name → SHA-256 of each file in *folder*."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if path.is_file()}


def assert_untouched(folder: Path, before: dict[str, str]) -> None:
    """I4: the files in *folder* are the same, and hold the same."""
    now = fingerprint(folder)
    assert sorted(now) == sorted(before)
    assert now == before


def memory_peaks(mark: str) -> dict[int, int]:
    """Process id → bytes at its high-water mark, of the living processes of a trial."""
    peaks = {}
    for process in processes_with(mark):
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
        except OSError:
            continue
        for line in status.splitlines():
            if line.startswith("VmHWM:"):
                peaks[process.pid] = int(line.split()[1]) * 1024
    return peaks


def assert_within_memory(peaks: dict[int, int], limit_bytes: int) -> None:
    """I6: even if every process was at its peak at the same time, together they were below the limit."""
    assert sum(peaks.values()) < limit_bytes, peaks
