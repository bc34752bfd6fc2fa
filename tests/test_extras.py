"""What happens where pyarrow, which an extra brings, is missing, broken or too old."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import make_archive
from skyexport import ExportOptions, export
from skyexport.extras import INSTALL_PARQUET, require_pyarrow
from tests.command import skyexport, skyexport_json

MISSING = "raise ModuleNotFoundError(\"No module named 'pyarrow'\", name='pyarrow')"

Environment = Callable[[str], dict[str, str]]


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    """Code → the environment of a process that finds a pyarrow of this code before the real one."""

    def made(code: str) -> dict[str, str]:
        package = tmp_path / "elsewhere" / "pyarrow"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(code)
        (package / "parquet.py").touch()
        return {"PYTHONPATH": str(package.parent)}

    return made


def test_it_is_here() -> None:
    """Where pyarrow is installed nothing happens."""
    require_pyarrow("Parquet")


@pytest.mark.quick(2)
@pytest.mark.parametrize(
    ("code", "problem"),
    [
        (MISSING, "is not installed"),
        ("import no_such_module_of_numpy", "lacks no_such_module_of_numpy"),
        ("raise ImportError('libstdc++.so.6:\\n  cannot open')", "cannot be loaded (libstdc++.so.6: cannot open)"),
        ("int.no_such_name", "cannot be loaded (type object 'int' has no attribute 'no_such_name')"),
        ("raise ImportError('a.so: failed to map segment')", "cannot be loaded (a.so: failed to map segment)"),
        ("__version__ = '15.0.2'", "16 or newer is not installed, but 15.0.2"),
    ],
    ids=["missing", "lacks another", "broken library", "broken code", "not to be run", "too old"],
)
def test_the_line(
    small_archive: make_archive.ArchiveInfo, tmp_path: Path, environment: Environment, code: str, problem: str
) -> None:
    """One line says what is wrong and how to install it, with a status of its own; nothing is written."""
    done = skyexport("export", small_archive.path, "-f", "parquet", "-o", tmp_path / "out", env=environment(code))
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr == f"skyexport: Parquet needs pyarrow, which {problem}; {INSTALL_PARQUET}\n"
    assert not (tmp_path / "out").exists()


NO_ROOM = """
import resource
limit, _ = resource.getrlimit(resource.RLIMIT_AS)
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 20_000_000, limit))
"""
"""Has the system give no more than 20 MB from now on."""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a system that limits the address space")
@pytest.mark.quick(2)
@pytest.mark.parametrize("arguments", [("export", "-f", "parquet", "-o", "out"), ("inspect",)])
@pytest.mark.parametrize(
    "failure", ["raise ImportError('a.so: failed to map segment')", "raise MemoryError"], ids=["loader", "Python"]
)
def test_a_system_without_memory(
    small_archive: make_archive.ArchiveInfo,
    tmp_path: Path,
    environment: Environment,
    arguments: tuple[str, ...],
    failure: str,
) -> None:
    """Where the system gives no memory to load pyarrow, that is what the line says; nothing asks to install it."""
    command, *options = arguments
    done = skyexport(command, small_archive.path, *options, env=environment(NO_ROOM + failure), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (13, "")
    assert done.stderr.startswith("skyexport: the system gives no more memory; ")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.glob("out*"))


def test_inspect_leaves_parquet_out(small_archive: make_archive.ArchiveInfo, environment: Environment) -> None:
    """All other figures are as usual; the one of Parquet is missing, and people read what would bring it."""
    missing = environment(MISSING)
    usual = skyexport_json("inspect", small_archive.path)
    done = skyexport("inspect", small_archive.path, "--json", env=missing)
    assert (done.returncode, done.stderr) == (0, "")
    assert usual["expected_bytes"]["parquet"] > 0
    assert json.loads(done.stdout) == usual | {"expected_bytes": usual["expected_bytes"] | {"parquet": None}}
    lines = skyexport("inspect", small_archive.path, env=missing).stdout.splitlines()
    assert [line for line in lines if "pyarrow" in line] == [f"parquet export:   needs pyarrow: {INSTALL_PARQUET}"]


def test_verify_compares_checksums(
    small_archive: make_archive.ArchiveInfo, tmp_path: Path, environment: Environment
) -> None:
    """Without pyarrow every byte of a Parquet export is compared, and verify says that the posts were not read."""
    missing = environment(MISSING)
    summary = export(ExportOptions(archive=small_archive.path, format="parquet", output_dir=tmp_path, workers=0))
    directory = summary.directory
    assert directory is not None
    usual = skyexport_json("verify", directory)
    assert usual["posts_read"]
    done = skyexport("verify", directory, "--json", env=missing)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    (sentence,) = found.pop("sentences")
    assert sentence.startswith(usual.pop("sentences")[0])
    assert found | {"seconds": 0} == usual | {"seconds": 0, "posts_read": False}
    done = skyexport("verify", directory, env=missing)
    assert done.returncode == 0
    assert done.stdout.endswith(f"; the posts were not read, which needs pyarrow: {INSTALL_PARQUET}\n")
    file = directory / "posts.parquet"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    done = skyexport("verify", directory, env=missing)
    assert done.returncode == 4
    assert done.stdout.startswith("posts.parquet: has the SHA-256 ")


def test_verify_without_checksums(
    small_archive: make_archive.ArchiveInfo, tmp_path: Path, environment: Environment
) -> None:
    """Where there is nothing to compare, and the posts cannot be read, nothing was verified: that is an error."""
    summary = export(ExportOptions(archive=small_archive.path, format="parquet", output_dir=tmp_path, workers=0))
    directory = summary.directory
    assert directory is not None
    manifest = json.loads((directory / "manifest.json").read_bytes())
    del manifest["checksums"]
    (directory / "manifest.json").write_text(json.dumps(manifest))
    (directory / "SHA256SUMS").unlink()
    assert skyexport_json("verify", directory)["unverified"] == ["manifest.json", "posts.parquet"]
    done = skyexport("verify", directory, env=environment(MISSING))
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr == f"skyexport: reading Parquet needs pyarrow, which is not installed; {INSTALL_PARQUET}\n"


def test_increments_to_parquet(
    small_archive: make_archive.ArchiveInfo, tmp_path: Path, environment: Environment
) -> None:
    """An increment to a Parquet export reads its posts, whatever format it has itself."""
    summary = export(ExportOptions(archive=small_archive.path, format="parquet", output_dir=tmp_path, workers=0))
    done = skyexport(
        "export", small_archive.path, "-o", tmp_path / "out", "--since-export", str(summary.directory),
        env=environment(MISSING),
    )  # fmt: skip
    assert done.returncode == 5
    assert done.stderr == f"skyexport: reading Parquet needs pyarrow, which is not installed; {INSTALL_PARQUET}\n"
    assert not list(tmp_path.glob("out/*"))
