"""Fixtures and settings for all tests."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import apsw
import psutil
import pytest
from hypothesis import HealthCheck, settings

import make_archive
from skyexport import ExportOptions
from skyexport.formats import FORMATS
from skyexport.rendering import native
from skyexport.rendering.native import NotThere
from skyexport.runtime.for_tests import LIMITS_VARIABLE, TESTING_VARIABLE
from tests.environment import ROOT, SOURCE

settings.register_profile(
    "skyexport",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=15,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("skyexport")

sys.dont_write_bytecode = False
"""Each process of a run would rewrite and compile all tests again, which takes ten seconds."""

_LARGE_PROCESS_BYTES = 270_000_000
"""Size of a process that gives memory back; the modules that tests load need less."""

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="POSIX files, processes and signals")
needs_bash = pytest.mark.skipif(shutil.which("bash") is None or sys.platform == "win32", reason="bash is not here")
each_format = pytest.mark.parametrize("format_name", list(FORMATS))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`quick(n)`: of the cases of a test, n that lie evenly spread run in every run; the others are slow tests."""
    cases: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if item.get_closest_marker("quick") is not None and item.get_closest_marker("slow") is None:
            cases[item.nodeid.partition("[")[0]].append(item)
    for found in cases.values():
        (wanted,) = found[0].get_closest_marker("quick").args  # type: ignore[union-attr]
        kept = {place * len(found) // wanted for place in range(wanted)}
        for place, item in enumerate(found):
            if place not in kept:
                item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", autouse=True)
def _without_own_options() -> Iterator[None]:
    """Ignore the environment variables of the person who runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith("SKYEXPORT_") or name in ("PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"):
                patch.delenv(name)
        patch.setenv(TESTING_VARIABLE, "1")
        yield


@contextlib.contextmanager
def limits(**values: float) -> Iterator[None]:
    """Set other limits, in this process and in those that it starts; `skyexport.runtime.for_tests` has the names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(LIMITS_VARIABLE, " ".join(f"{name}={value}" for name, value in values.items()))
        yield


@pytest.fixture
def small_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, str], None]:
    """Makes every disk have so many bytes free, and a file system of that kind."""
    if sys.platform == "win32":
        pytest.skip("Windows is asked in another way")

    def shrink(free: int, kind: str) -> None:
        status = SimpleNamespace(f_blocks=10**6, f_frsize=1, f_bfree=free, f_bavail=free)
        monkeypatch.setattr(os, "statvfs", lambda _: status)
        monkeypatch.setattr(psutil, "disk_partitions", lambda **_: [SimpleNamespace(mountpoint="/", fstype=kind)])

    return shrink


@pytest.fixture(scope="session", autouse=True)
def _hangups() -> None:
    """Under nohup, the programs that tests start would ignore SIGHUP as well; what handles it here stays here."""
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: None)


@pytest.fixture(scope="session", autouse=True)
def _limit_of_tests() -> Iterator[None]:
    """Raise the default memory limit: exports in the tests' own process count its memory, too."""
    defaults = ExportOptions.__init__.__kwdefaults__
    assert defaults is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(defaults, "memory_limit", 1_500_000_000)
        yield


@pytest.fixture(autouse=True)
def _small_process() -> Iterator[None]:
    """Give memory back to the system after each test: exports in the tests' own process count it."""
    yield
    if psutil.Process().memory_info().rss > _LARGE_PROCESS_BYTES and sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


@pytest.fixture(scope="session")
def base_command() -> Path:
    """The command `skyexport`, installed from the built wheel without any extra; `make base` installs it."""
    scripts, suffix = ("Scripts", ".exe") if os.name == "nt" else ("bin", "")
    base = Path(sys.prefix, "base")
    if not base.is_dir():
        pytest.skip("there is no environment with the built wheel alone: make base")
    python = base / scripts / f"python{suffix}"
    code = "import os, skyexport; print(os.path.dirname(skyexport.__file__))"
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True)
    installed = Path(done.stdout.strip())
    for path in SOURCE.rglob("*.py"):
        copy = installed / path.relative_to(SOURCE)
        if not copy.exists() or copy.read_bytes() != path.read_bytes():
            pytest.fail(f"{base} has another {path.name} than src: make base")
    return base / scripts / f"skyexport{suffix}"


@pytest.fixture(scope="session")
def contract_dir() -> Path:
    """The folder with archives and the established exporter's output for them."""
    folder = ROOT.parent / "shared" / "contract"
    if not folder.is_dir():
        pytest.skip("the archives of the byte contract do not lie beside this checkout")
    return folder


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """The folder with the golden posts and their expected exports."""
    return ROOT / "tests" / "golden"


@pytest.fixture
def scratch_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, in which nothing may stay."""
    folder = tmp_path_factory.mktemp("scratch")
    monkeypatch.setenv("TMPDIR" if sys.platform != "win32" else "TEMP", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    return folder


@pytest.fixture(scope="session")
def small_archive(tmp_path_factory: pytest.TempPathFactory) -> make_archive.ArchiveInfo:
    """A synthetic archive of 2,500 posts, 1,201 of them in one instant, a tenth with offsets; only to be read."""
    path = tmp_path_factory.mktemp("small") / "small.db"
    return make_archive.make_archive(path, posts=2500, seed=11, authors=20, ties=1201, offset_share=0.1, media=True)


def tenfold_archive(path: Path, posts: int) -> Path:
    """An archive of so many posts, of which each tenth was made by itself: that takes a tenth of the time."""
    made = make_archive.make_archive(path, posts=posts // 10, seed=3, fts=False).path
    with contextlib.closing(apsw.Connection(str(made))) as connection:
        names = [row[1] for row in connection.execute("PRAGMA table_info(posts)")]
        values = ", ".join("uri || '-' || value" if name == "uri" else f"posts.{name}" for name in names)
        connection.execute(f"INSERT INTO posts SELECT {values} FROM posts, json_each('[1, 2, 3, 4, 5, 6, 7, 8, 9]')")
    return made


@pytest.fixture(scope="session")
def slow_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive whose export takes about a second: time enough to disturb it. Made once for all test processes."""
    place = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        place = place.parent
    path = place / "slow" / "slow.db"
    try:
        path.parent.mkdir()
    except FileExistsError:
        deadline = time.monotonic() + 120
        while not path.exists():
            assert time.monotonic() < deadline, "the process that makes it has failed"
            time.sleep(0.05)
        return path
    return tenfold_archive(path.with_suffix(".part"), 60_000).rename(path)


RENDERERS = ["native", "python"]


@contextlib.contextmanager
def rendering_with(renderer: str) -> Iterator[None]:
    """Render with this renderer, in this process and in those that it starts; skips the test if it was not built."""
    found = native.find()
    if renderer == "native" and isinstance(found, NotThere):
        pytest.skip(found.reason)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(native.RENDERER_VARIABLE, renderer)
            native.library.cache_clear()
            yield
    finally:
        native.library.cache_clear()


@pytest.fixture(scope="module", params=RENDERERS)
def each_renderer(request: pytest.FixtureRequest) -> Iterator[str]:
    """Render with each renderer in turn, for modules of which every test does."""
    renderer: str = request.param
    with rendering_with(renderer):
        yield renderer


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the renderers of this run at its end."""
    found = native.find()
    used = f"python only: {found.reason}" if isinstance(found, NotThere) else "native and python"
    terminalreporter.write_line(f"renderers: {used}")
