"""What `bench` measures and recommends. No test depends on how long anything takes."""

from __future__ import annotations

import contextlib
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import apsw
import pytest

import make_archive
from skyexport.errors import ArchiveChangedError, MemoryLimitError, OptionError, OutputError
from skyexport.options.export_options import ExportOptions
from skyexport.output.writer import WrittenFile
from skyexport.pipeline.benchmark import (
    DEFAULT_POSTS,
    DEFAULT_RUNS,
    Benchmark,
    DigestError,
    Measurement,
    benchmark,
    recommend,
)
from skyexport.runtime.for_tests import on_reached
from skyexport.runtime.processes import available_cpus
from tests.archives import RawText, file_archive, insert, post
from tests.command import files_below, skyexport, skyexport_json, started
from tests.conftest import limits, posix_only

OPTIONS = ExportOptions(archive=Path("archive.db"), output_dir=Path())


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of 3,000 posts; only to be read."""
    return make_archive.make_archive(tmp_path_factory.mktemp("bench") / "a.db", posts=3000, seed=5, fts=False).path


@pytest.fixture
def one_process() -> Iterator[None]:
    """Measure without workers only, which saves the time to start them."""
    with limits(MOST_WORKERS_MEASURED=0):
        yield


def measured(archive: Path, folder: Path, posts: int = 1000) -> Benchmark:
    """A benchmark of single runs, after which *folder* is as empty as before."""
    folder.mkdir(exist_ok=True)
    found = benchmark(ExportOptions(archive=archive, output_dir=folder), posts=posts, runs=1)
    assert files_below(folder) == []
    return found


def made_up(
    workers: int, seconds: float, format: str = "json", *, target: str = "disk", sync: bool = True, start: float = 0.0
) -> Measurement:
    """A measurement of 1,000 posts and 1,000,000 bytes."""
    return Measurement(
        format=format, workers=workers, target=target, sync=sync, posts=1000, bytes=1_000_000, seconds_median=seconds,
        seconds_min=seconds, seconds_max=seconds, start_seconds=start, peak_memory_bytes=50_000_000,
    )  # fmt: skip


def both_formats(seconds: dict[int, float]) -> list[Measurement]:
    """Workers → seconds, as measurements of both formats."""
    return [made_up(workers, taken, name) for name in ("json", "csv") for workers, taken in seconds.items()]


def test_bench_as_json(archive: Path, tmp_path: Path) -> None:
    """The object has all settings with their figures; standard error has a line for each, the directory nothing."""
    found = skyexport_json("bench", archive, "-o", tmp_path, "--runs", "1", "--posts", "1000")
    assert files_below(tmp_path) == []
    assert (found["schema_version"], found["status"], found["runs"], found["cpus"]) == (1, "ok", 1, available_cpus())
    assert (found["archive_posts"], found["archive_bytes"]) == (3000, archive.stat().st_size)
    assert found["slice_posts"] == pytest.approx(1000, abs=10)
    assert found["memory_metric"] in ("pss", "uss", "rss")
    counts = {one["workers"] for one in found["measurements"]}
    assert {0, 1, available_cpus()} <= counts
    settings = [(one["format"], one["workers"], one["target"], one["sync"]) for one in found["measurements"]]
    recommended = found["recommendation"]
    assert sorted(settings) == sorted(
        (name, *setting)
        for name in ("json", "csv")
        for setting in [
            *((workers, "null", False) for workers in counts),
            *((workers, "disk", True) for workers in counts),
            (recommended["workers"], "disk", False),
        ]
    )
    for one in found["measurements"]:
        assert one["posts"] == found["slice_posts"]
        assert one["bytes"] == found["slice_bytes"][one["format"]]
        assert 0 < one["seconds_min"] == one["seconds_median"] == one["seconds_max"]
        assert min(one["posts_per_second"], one["bytes_per_second"], one["peak_memory_bytes"]) > 0
    assert set(recommended["expected_seconds"]) == set(recommended["expected_bytes"]) == {"json", "csv"}
    assert recommended["expected_bytes"]["json"] == pytest.approx(3 * found["slice_bytes"]["json"], rel=0.02)
    assert recommended["command"] == f"skyexport export {archive} -j {recommended['workers']} -o {tmp_path}"


@pytest.mark.slow
def test_bench_in_words(archive: Path, tmp_path: Path) -> None:
    """The table is aligned, the command line is last; progress is a plain line for each measurement."""
    done = skyexport("bench", archive, "--runs", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"{archive}: 3,000 of 3,000 posts; runs: 1, CPUs: ")
    assert lines[1].startswith("note: the figures mean little")
    blank = [number for number, line in enumerate(lines) if not line]
    table = lines[blank[0] + 1 : blank[1]]
    assert table[0].split()[:3] == ["format", "workers", "target"]
    assert len({len(line) for line in table}) == 1
    assert len({line.index(target) for line in table[1:] for target in ("null", "disk") if target in line}) == 1
    assert [line.split()[0] for line in lines[blank[1] + 1 :]] == ["recommended:", "expected", "skyexport"]
    progress = done.stderr.splitlines()
    assert len(progress) == len(table)  # the warm-up stands for the heading
    assert progress[-1].startswith(f"{len(table) - 1} of {len(table) - 1}: csv to the disk, no sync")
    assert files_below(tmp_path) == []


def test_defaults_in_the_help() -> None:
    """The command and the function have the same defaults."""
    text = skyexport("bench", "--help").stdout
    assert f"[default: {DEFAULT_POSTS}]" in text
    assert f"[default: {DEFAULT_RUNS}]" in text


@pytest.mark.quick(2)
@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (["missing.db"], 10, "no archive at"),
        (["a.db", "-o", "missing"], 12, "missing: No such file or directory"),
        (["a.db", "-o", "a.db"], 2, "a.db is an archive, but -o names"),
        (["a.db", "--posts", "0"], 2, "at least one"),
        (["a.db", "--runs", "0"], 2, "at least one"),
        (["a.db", "--memory-limit", "lots"], 2, "is not a size"),
        (["a.db", "--memory-limit", "1MB"], 13, "a memory limit of 1.0 MB is too small for json"),
    ],
)
def test_failures(archive: Path, tmp_path: Path, options: list[str], status: int, said: str) -> None:
    """Whatever can not work ends with its exit code and one line, and leaves nothing."""
    (tmp_path / "a.db").symlink_to(archive)
    done = skyexport("bench", *options, cwd=tmp_path)
    assert done.returncode == status
    assert said in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert files_below(tmp_path) == ["a.db"]


@pytest.mark.slow
@posix_only
def test_interrupt(archive: Path, tmp_path: Path) -> None:
    """Ctrl-C leaves nothing behind."""
    process = started("bench", archive, "-o", tmp_path, "--runs", "40")
    assert process.stderr is not None
    while "json to the disk" not in process.stderr.readline():
        assert process.poll() is None
    (folder,) = tmp_path.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=5)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert files_below(tmp_path) == []


@pytest.mark.quick(1)
@pytest.mark.usefixtures("one_process")
@pytest.mark.parametrize("offset_share", [0.0, 0.3])
def test_slice_has_about_the_posts_asked_for(tmp_path: Path, offset_share: float) -> None:
    """The newest posts, by instant: also where they are stored with other offsets."""
    path = tmp_path / "a.db"
    make_archive.make_archive(path, posts=3000, seed=6, offset_share=offset_share, fts=False)
    found = measured(path, tmp_path / "o", posts=700)
    assert found.slice_posts == pytest.approx(700, rel=0.05)
    assert found.since is not None
    assert len(found.notes) == 1
    assert all(one.start_seconds > 0 for one in found.measurements)


@pytest.mark.usefixtures("one_process")
def test_archive_without_index(tmp_path: Path) -> None:
    """Nothing bounds the slice quickly: the whole archive is measured, and that is said."""
    path = make_archive.make_archive(tmp_path / "a.db", posts=300, index=False, fts=False).path
    found = measured(path, tmp_path / "o", posts=100)
    assert (found.slice_posts, found.since) == (300, None)
    assert "no created_at index" in found.notes[0]


@pytest.mark.quick(1)
@pytest.mark.usefixtures("one_process")
@pytest.mark.parametrize("created_at", ["when?", RawText(b"\xff"), b"never"])
def test_unreadable_time(tmp_path: Path, created_at: str | RawText | bytes) -> None:
    """No instant bounds the slice: the whole archive is measured, and that is said."""
    path = file_archive(tmp_path / "a.db", [post(number, created_at=created_at) for number in range(20)])
    found = measured(path, tmp_path / "o", posts=10)
    assert (found.slice_posts, found.since) == (20, None)
    assert "cannot be read" in found.notes[0]


@pytest.mark.usefixtures("one_process")
def test_empty_archive(tmp_path: Path) -> None:
    """An archive without posts is measured like any other; there is nothing to divide by."""
    found = measured(file_archive(tmp_path / "a.db", []), tmp_path / "o")
    assert (found.archive_posts, found.slice_posts, found.recommendation.workers) == (0, 0, 0)
    assert found.recommendation.expected_bytes == found.slice_bytes
    assert found.to_dict()["measurements"][0]["posts_per_second"] == 0
    assert "expected for all 0 posts" in found.lines()[-2]


@pytest.mark.usefixtures("one_process")
def test_full_disk(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without room for the slice nothing is written, and both sizes are said."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=12_345))
    with pytest.raises(OutputError, match=r"MB are needed .* 12\.3 kB are free"):
        measured(archive, tmp_path)
    assert files_below(tmp_path) == []


@pytest.mark.usefixtures("one_process")
def test_archive_that_is_written_to(tmp_path: Path) -> None:
    """Posts that come in meanwhile are told from bytes that must not differ."""
    path = file_archive(tmp_path / "a.db", [post(number) for number in range(20)])

    def write(line: str) -> None:
        if line.startswith("3 of"):
            with contextlib.closing(apsw.Connection(str(path))) as connection:
                insert(connection, post(99))

    with pytest.raises(ArchiveChangedError):
        benchmark(ExportOptions(archive=path, output_dir=tmp_path), runs=2, say=write)
    assert files_below(tmp_path) == ["a.db"]


@pytest.mark.usefixtures("one_process")
def test_bytes_that_differ(archive: Path, tmp_path: Path) -> None:
    """Other bytes for the same posts are an error of ours, not a measurement."""

    def change(files: list[WrittenFile]) -> None:
        if files[0].name == "slice":
            files[0] = replace(files[0], sha256="other")

    with on_reached("complete", change), pytest.raises(DigestError, match="json differ, in one process") as raised:
        measured(archive, tmp_path)
    assert raised.value.exit_code == 1
    assert files_below(tmp_path) == []


@pytest.mark.slow
def test_workers_that_do_not_fit(archive: Path, tmp_path: Path) -> None:
    """Numbers of workers beyond the memory limit are left out, and that is said."""

    def refuse(options: ExportOptions) -> None:
        if options.workers and options.format == "csv":
            raise MemoryLimitError("too small")

    with limits(MOST_WORKERS_MEASURED=1), on_reached("prepared", refuse):
        found = measured(archive, tmp_path)
    assert found.notes[1:] == ["not measured with 1 worker: too small"]
    assert found.recommendation.workers == 0
    assert {(one.format, one.workers) for one in found.measurements} == {("json", 0), ("csv", 0), ("json", 1)}


def test_recommendation_is_the_fastest() -> None:
    """The least time for both formats together, to the disk and synced, whatever other measurements say."""
    measurements = both_formats({0: 4.0, 1: 3.9, 2: 2.0, 4: 3.0})
    measurements += [made_up(4, 0.1, target="null", sync=False), made_up(4, 0.1, sync=False)]
    options = ExportOptions(archive=Path("archive.db"), output_dir=Path())
    chosen = recommend(measurements, 10_000, options)
    assert chosen.workers == 2
    assert chosen.why == "the fastest, 2.0 times as fast as one process"
    assert chosen.command == "skyexport export archive.db -j 2"
    assert chosen.expected_seconds == {"json": 20.0, "csv": 20.0}
    assert chosen.expected_bytes == {"json": 10_000_000, "csv": 10_000_000}


def test_recommendation_spares_workers_that_save_nothing() -> None:
    """A few percent are noise: fewer workers do."""
    chosen = recommend(both_formats({0: 4.0, 1: 4.0, 2: 2.0, 4: 1.95}), 10_000, OPTIONS)
    assert chosen.workers == 2
    assert chosen.why == "hardly slower than with 4 workers, 2.0 times as fast as one process"


def test_recommendation_is_for_the_whole_archive() -> None:
    """What starting takes counts once: workers that lose with a slice win with all posts."""
    measurements = [
        made_up(workers, seconds, name, start=start)
        for name in ("json", "csv")
        for workers, seconds, start in [(0, 1.0, 0.0), (2, 1.1, 0.6)]
    ]
    assert recommend(measurements, 1000, OPTIONS).workers == 0
    chosen = recommend(measurements, 1_000_000, OPTIONS)
    assert chosen.workers == 2
    assert chosen.expected_seconds["json"] == pytest.approx(0.6 + 0.5 * 1000)


def test_recommended_command_line_can_be_typed() -> None:
    """What was given and is not the default is in it, quoted."""
    options = ExportOptions(archive=Path("my archive.db"), output_dir=Path("/mnt/x"), memory_limit=10**9)
    command = recommend(both_formats({0: 1.0}), 1000, options).command
    assert command == "skyexport export 'my archive.db' -j 0 -o /mnt/x --memory-limit 1000000000"


@pytest.mark.parametrize(("posts", "runs"), [(0, 1), (1, 0)])
def test_numbers_that_can_not_be(posts: int, runs: int) -> None:
    """A number below 1 is refused before anything is opened."""
    with pytest.raises(OptionError):
        benchmark(OPTIONS, posts=posts, runs=runs)
