"""The built wheel without any extra, as `pip install skyexport` leaves it: every command, every format.

The tests run with all that development needs; the command that they run has nothing but its own dependencies.
"""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import make_archive
from skyexport import ExportOptions, export, verify
from skyexport.extras import INSTALL_CLUSTER, INSTALL_PARQUET
from tests.environment import ROOT

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

NEEDS_PYARROW = f"needs pyarrow, which is not installed; {INSTALL_PARQUET}\n"


class Base:
    """The command, run in a directory with `archive.db` in it."""

    def __init__(self, command: Path, directory: Path) -> None:
        self.command = command
        self.directory = directory

    def run(self, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        """Run it, expect *status*, and nothing that only a programmer understands."""
        done = subprocess.run(
            [self.command, *arguments], cwd=self.directory, capture_output=True, text=True, timeout=120, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        return done

    def json(self, *arguments: str, status: int = 0) -> dict[str, Any]:
        """Run it with --json; the object."""
        found = json.loads(self.run(*arguments, "--json", status=status).stdout)
        assert isinstance(found, dict)
        return found

    def exports(self, pattern: str = "exports/all/*") -> list[str]:
        """The export directories that are there, the newest last."""
        found = sorted(self.directory.glob(pattern), key=lambda path: path.stat().st_mtime_ns)
        return [path.relative_to(self.directory).as_posix() for path in found]


@pytest.fixture
def base(base_command: Path, small_archive: make_archive.ArchiveInfo, tmp_path: Path) -> Base:
    shutil.copytree(small_archive.path.parent, tmp_path, dirs_exist_ok=True)
    (tmp_path / "small.db").rename(tmp_path / "archive.db")
    return Base(base_command, tmp_path)


def test_nothing_else_is_installed(base_command: Path) -> None:
    """There is no pyarrow, no pytest; and all that the package shares with the system is there."""
    python = base_command.with_name(base_command.name.replace("skyexport", "python"))
    for name in ("pyarrow", "pytest", "numpy"):
        assert subprocess.run([python, "-I", "-c", f"import {name}"], capture_output=True, check=False).returncode == 1
    share = ROOT / "docs" / "share"
    for file in (file for file in share.rglob("*") if file.is_file()):
        installed = base_command.parents[1] / "share" / file.relative_to(share)
        assert installed.read_bytes() == file.read_bytes()


@pytest.mark.quick(2)
@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.csv", "a.json.gz", "a.csv.zst"])
def test_bytes(base: Base, name: str) -> None:
    """Two workers of the installed command write what one process of this checkout does."""
    base.run("export", "archive.db", "--to", name, "-j", "2")
    ours = base.directory / "ours"
    export(ExportOptions(archive=base.directory / "archive.db", format=name.split(".")[1], to=ours, workers=0))
    data = (base.directory / name).read_bytes()
    unpacked = {".gz": gzip.decompress, ".zst": zstd.decompress}.get(Path(name).suffix, bytes)(data)
    assert unpacked == ours.read_bytes()


def test_inspect(base: Base) -> None:
    """All figures are there but the size of a Parquet export."""
    found = base.json("inspect", "archive.db")
    assert found["posts"] == 2500
    assert found["expected_bytes"]["json"] > 1_000_000
    assert found["expected_bytes"]["parquet"] is None
    assert INSTALL_PARQUET in base.run("inspect", "archive.db").stdout


@pytest.mark.quick(1)
@pytest.mark.parametrize("format", ["json", "jsonl", "csv"])
def test_export_and_verify(base: Base, format: str) -> None:
    """An export, its verification and its increment, for people and for programs."""
    shaping = [] if format == "json" else ["--columns", "uri,cid,indexed_at,text" if format == "jsonl" else "URI,CID"]
    shaping = [] if format == "csv" else shaping
    base.run("export", "archive.db", "-f", format, "--media", "--snapshot", "copy", *shaping)
    (directory,) = base.exports()
    assert base.json("verify", directory)["posts"] == 2500
    assert directory in base.run("verify", directory).stdout
    summary = base.json("export", "archive.db", "-f", format, "--since-export", directory, "-o", "new")
    assert summary["posts"] == 0
    assert verify(base.directory / directory).posts == 2500


@pytest.mark.quick(3)
@pytest.mark.parametrize(
    "options",
    [
        ["-f", "csv", "--csv-safe", "--delimiter", ";", "--no-bom", "--columns", "created_at,text"],
        ["-f", "jsonl", "--split-posts", "1000", "--compress", "zstd", "--workers", "1"],
        ["--match", "coffee OR the", "--since", "2020-01-01", "--until", "2030-01-01", "--strict"],
        ["--to", "-", "--progress", "json"],
        ["--to", "-", "--compress", "gzip", "--quiet", "--no-sync"],
    ],
    ids=["csv", "split", "match", "events", "quiet"],
)
def test_options(base: Base, options: list[str]) -> None:
    """Whatever else an export can be asked for needs no extra either."""
    done = subprocess.run(
        [base.command, "export", "archive.db", *options], cwd=base.directory, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    assert done.stdout or base.exports()


@pytest.mark.slow  # it is a command of the README, which are run in every run
def test_dry_run(base: Base) -> None:
    """One archive, or several."""
    assert base.json("export", "archive.db", "--dry-run")["posts"] == 2500
    shutil.copyfile(base.directory / "archive.db", base.directory / "b.db")
    assert len(base.json("export", "archive.db", "b.db", "-f", "csv", "--dry-run")["archives"]) == 2
    assert "2,500" in base.run("export", "archive.db", "--dry-run").stdout


@pytest.mark.slow  # tests/fleet has many archives, and what_needs_the_extra has them here
def test_many_archives(base: Base) -> None:
    """Many archives, side by side, and again, when nothing is left to do."""
    for name in ("b.db", "c.db"):
        shutil.copyfile(base.directory / "archive.db", base.directory / name)
    (base.directory / "list.txt").write_text("b.db\nc.db\n")
    first = base.json("export", "archive.db", "--from-file", "list.txt")
    assert [one["status"] for one in first["archives"]] == ["ok"] * 3
    again = base.json("export", "archive.db", "b.db", "c.db", "--resume-batch")
    assert [one["status"] for one in again["archives"]] == ["skipped"] * 3
    assert "3 archives" in base.run("export", "archive.db", "b.db", "c.db", "-o", "plain").stderr


@pytest.mark.slow  # without --json it is a command of the README, which are run in every run
def test_bench(base: Base) -> None:
    """Measuring needs nothing else either."""
    assert base.json("bench", "archive.db", "--posts", "500", "--runs", "1")["recommendation"]["command"]


def test_help(base: Base) -> None:
    """The help of each command, and the version."""
    for command in ("inspect", "export", "verify", "bench"):
        assert command in base.run(command, "--help").stdout
    assert "skyexport" in base.run("--version").stdout


@pytest.mark.quick(3)
@pytest.mark.parametrize(
    ("arguments", "subject"),
    [
        (["archive.db", "-f", "parquet"], "Parquet"),
        (["archive.db", "--to", "posts.parquet"], "Parquet"),
        (["archive.db", "-f", "parquet", "--dry-run"], "Parquet"),
        (["archive.db", "b.db", "-f", "parquet"], "Parquet"),
        (["archive.db", "--since-export", "earlier"], "reading Parquet"),
    ],
    ids=["format", "name", "dry run", "many", "increment"],
)
def test_what_needs_the_extra(base: Base, arguments: list[str], subject: str) -> None:
    """It ends with one line, how to install the extra, and a status of its own; nothing is written."""
    shutil.copyfile(base.directory / "archive.db", base.directory / "b.db")
    if "earlier" in arguments:
        options = ExportOptions(archive=base.directory / "archive.db", format="parquet", output_dir=base.directory)
        directory = export(options).directory
        assert directory is not None
        directory.rename(base.directory / "earlier")
        directory.parent.rmdir()
    before = sorted(base.directory.rglob("*"))
    done = base.run("export", *arguments, "--json", status=5)
    assert f"{subject} {NEEDS_PYARROW}" in done.stderr
    found = json.loads(done.stdout)
    (failure,) = {(one["exit_code"], one["error"]) for one in found.get("archives", [found])}
    assert failure == (5, f"{subject} needs pyarrow, which is not installed")
    assert not [path for path in sorted(base.directory.rglob("*")) if path not in before and path.is_file()]


def test_clusters_need_distributed(base: Base) -> None:
    """One line says how to install it; nothing is written. Shards need nothing."""
    for more in ([], ["--split-posts", "1000"]):
        done = base.run("export", "archive.db", "--cluster", "local:2", *more, status=5)
        assert done.stderr == f"skyexport: --cluster needs distributed, which is not installed; {INSTALL_CLUSTER}\n"
    assert not (base.directory / "exports").exists()
    assert base.json("export", "archive.db", "--shard", "1/1", "--no-sync")["archives_exported"] == 1


def test_verify_of_parquet(base: Base) -> None:
    """The checksums of a Parquet export are compared, and that its posts were not read is said."""
    options = ExportOptions(archive=base.directory / "archive.db", format="parquet", output_dir=base.directory)
    directory = str(export(options).directory)
    found = base.json("verify", directory)
    assert (found["status"], found["posts"], found["posts_read"]) == ("ok", 2500, False)
    assert "the posts were not read" in base.run("verify", directory).stdout
