"""Memory limits of the command: one that will not do is refused before any work, and the one named then will do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import make_archive
from tests.archives import file_archive, post
from tests.command import skyexport, skyexport_json

TOO_SMALL_MB = 20
STEP_MB = 5


def named_limit_mb(archive: Path, *options: str) -> int:
    """The limit that the command names when it gets one that will not do; a dry run says about the same.

    Samples of memory differ a little from run to run, and limits are named in steps.
    """
    named = []
    for arguments in (options, (*options, "--dry-run")):
        done = skyexport(
            "export", archive, "--to", "-", *arguments, "--memory-limit", f"{TOO_SMALL_MB}MB", timeout=300, fresh=True
        )
        assert (done.returncode, done.stdout) == (13, "")
        (said,) = done.stderr.splitlines()
        found = re.fullmatch(
            r"skyexport: a memory limit of 20\.0 MB is too small for \w+(?: with \d+ workers?)?;"
            r" use --memory-limit (\d+)MB or more(?:, or --workers auto)?",
            said,
        )
        assert found is not None, said
        named.append(int(found[1]))
    assert abs(named[0] - named[1]) <= 2 * STEP_MB
    return max(named)


def accepted(archive: Path, limit_mb: int, *options: str) -> bool:
    """Whether a dry run takes the limit."""
    limit = ("--memory-limit", f"{limit_mb}MB")
    return (
        skyexport("export", archive, "--to", "-", "--dry-run", *options, *limit, timeout=300, fresh=True).returncode
        == 0
    )


def smallest_accepted_mb(archive: Path, *options: str) -> int:
    """The smallest limit that a dry run takes, in steps."""
    low, high = TOO_SMALL_MB, 2000
    while high - low > STEP_MB:
        middle = (low + high) // 2
        if accepted(archive, middle, *options):
            high = middle
        else:
            low = middle
    return high


def check_export_at(limit_mb: int, archive: Path, to: Path, *options: str) -> None:
    """An export with that limit succeeds."""
    limit = ("--memory-limit", f"{limit_mb}MB")
    summary = skyexport_json("export", archive, "--to", to, "--overwrite", *options, *limit, timeout=600, fresh=True)
    assert summary["peak_memory_bytes"] < limit_mb * 1_000_000


def check_promise(archive: Path, to: Path, *options: str) -> None:
    """The smallest limit that a dry run takes is about the one that is named, and exports at that one succeed."""
    named = named_limit_mb(archive, *options)
    assert named - 5 * STEP_MB <= smallest_accepted_mb(archive, *options) <= named
    for _ in range(3):
        check_export_at(named, archive, to, *options)


@pytest.fixture(scope="module")
def heavy_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """5,000 posts of 3 kB: every chunk is as large as chunks get."""
    words = " ".join(f"w{number * 7919 % 10_007:x}" for number in range(620))
    rows = (post(number, text=f"{number} {words}") for number in range(5000))
    return file_archive(tmp_path_factory.mktemp("heavy") / "heavy.db", rows)


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    "shape",
    [
        ("-f", "parquet", "-j", "0"),
        ("-f", "parquet", "-j", "2"),
        ("-f", "json", "-j", "2"),
        ("-f", "jsonl", "-j", "0", "--compress", "zstd:10"),
    ],
    ids=" ".join,
)
def test_named_limit_is_enough(heavy_archive: Path, tmp_path: Path, shape: tuple[str, ...]) -> None:
    """An export at exactly the limit that is named succeeds, and a limit somewhat below is refused."""
    named = named_limit_mb(heavy_archive, *shape)
    check_export_at(named, heavy_archive, tmp_path / "out", *shape)
    assert accepted(heavy_archive, named, *shape)
    assert not accepted(heavy_archive, named - 5 * STEP_MB, *shape)


@pytest.mark.slow
@pytest.mark.parametrize("format", ["json", "parquet"])
def test_small_archives_need_little(small_archive: make_archive.ArchiveInfo, tmp_path: Path, format: str) -> None:
    """A limit that a large archive needs is not asked of a small one."""
    named = named_limit_mb(small_archive.path, "-f", format, "-j", "0")
    assert named <= {"json": 70, "parquet": 170}[format]
    to = ("--to", tmp_path / "out", "-f", format, "-j", "0", "--memory-limit", f"{named}MB")
    assert skyexport_json("export", small_archive.path, *to, fresh=True)["posts"] == small_archive.posts


@pytest.mark.slow
def test_auto_takes_fewer_workers(slow_archive: Path, tmp_path: Path) -> None:
    """A limit that leaves no room for workers is refused only when it leaves none for this process either."""
    named = named_limit_mb(slow_archive)
    for limit in (named, 500):
        found = skyexport_json(
            "export",
            slow_archive,
            "--to",
            tmp_path / str(limit),
            "--dry-run",
            "--memory-limit",
            f"{limit}MB",
            fresh=True,
        )
        if limit == named:
            assert found["workers"] == 0
    summary = skyexport_json(
        "export", slow_archive, "--to", tmp_path / "out", "--memory-limit", f"{named}MB", fresh=True
    )
    assert summary["workers"] == 0
    asked = skyexport(
        "export", slow_archive, "--to", tmp_path / "x", "-j", "2", "--memory-limit", f"{named}MB", fresh=True
    )
    assert asked.returncode == 13
    assert asked.stderr.rstrip().endswith(", or --workers auto")
    assert not (tmp_path / "x").exists()


@pytest.fixture(scope="module")
def large_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200,000 usual posts: row groups are as large as they get."""
    return make_archive.make_archive(tmp_path_factory.mktemp("large") / "large.db", posts=200_000, seed=5).path


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["0", "1", "2"])
@pytest.mark.parametrize(
    "shape",
    [
        ("json",),
        ("csv", "--csv-safe"),
        ("jsonl", "--compress", "zstd:12"),
        ("parquet",),
        ("json", "--snapshot", "copy"),
    ],
    ids=" ".join,
)
def test_named_limit_is_enough_for_many_posts(
    large_archive: Path, tmp_path: Path, shape: tuple[str, ...], workers: str
) -> None:
    """The same with row groups as large as they get, and with a copy of the posts."""
    check_promise(large_archive, tmp_path / "out", "--no-sync", "-f", *shape, "-j", workers)


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["0", "1", "3"])
@pytest.mark.parametrize("shape", [("json",), ("csv",), ("jsonl", "--compress", "zstd:10"), ("parquet",)], ids=" ".join)
def test_named_limit_is_enough_for_heavy_posts(
    heavy_archive: Path, tmp_path: Path, shape: tuple[str, ...], workers: str
) -> None:
    """The same with chunks as large as they get."""
    check_promise(heavy_archive, tmp_path / "out", "-f", *shape, "-j", workers)


@pytest.mark.slow
@pytest.mark.parametrize("format", ["json", "parquet"])
def test_named_limit_is_enough_for_increments(large_archive: Path, tmp_path: Path, format: str) -> None:
    """Reading an earlier export is part of what is needed."""
    first = skyexport_json("export", large_archive, "-o", tmp_path / "first", "-f", format, timeout=300, fresh=True)
    check_promise(large_archive, tmp_path / "out", "-j", "0", "--since-export", str(first["directory"]))
