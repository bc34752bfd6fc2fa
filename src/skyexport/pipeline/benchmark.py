"""The fastest settings on this machine, found by timing exports of a slice of the archive.

The slice is about the requested number of newest posts: all posts from one instant on. A warm-up brings it into the
page cache. Then it is exported in each format, to the null device and to the disk, with different numbers of workers,
in several runs. All runs of a format must give the same bytes. Files on the disk are in a directory of their own, which
is always removed.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import shutil
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from skyexport.errors import ArchiveChangedError, ExportError, MemoryLimitError, OptionError, OutputError
from skyexport.options.export_options import MAX_WORKERS, ExportOptions, resolve
from skyexport.options.values import parse_bound
from skyexport.output.destination import check_place
from skyexport.pipeline.export import export
from skyexport.pipeline.listing import Archive
from skyexport.pipeline.summary import ExportSummary
from skyexport.runtime.cleanup import uninterrupted
from skyexport.runtime.disk import output_error
from skyexport.runtime.for_tests import Limit
from skyexport.runtime.location import absolute
from skyexport.runtime.memory import UNKNOWN_MEMORY, Metric
from skyexport.runtime.processes import available_cpus, available_memory_bytes
from skyexport.runtime.progress import SCHEMA_VERSION, duration
from skyexport.wording import format_size, path_text

__all__ = ["Benchmark", "DigestError", "Measurement", "Recommendation", "benchmark", "recommend"]

DEFAULT_POSTS = 200_000
"""About two seconds of work for one process, compared to a tenth of a second for the start of workers."""

DEFAULT_RUNS = 3
"""The smallest number whose median is not moved by one disturbed run."""

_MEANINGFUL_POSTS = 20_000
"""An export of fewer posts ends before workers are up to speed."""

_MOST_WORKERS = Limit("MOST_WORKERS_MEASURED", MAX_WORKERS)
"""Most workers to measure; an export cannot have more."""

_NO_GAIN = 0.05
"""More workers must save at least this share of the time: medians of a few runs differ as much by chance."""

_NEVER = "9999-12-31"
"""No post is created after this date: its export shows the time for starting and counting."""

_FORMATS = ("json", "csv")
"""The formats of the established exporter; the best number of workers for them is best for the others too."""
_TARGETS = ("null", "disk")
_HEADINGS = ("format", "workers", "target", "seconds", "min to max", "posts/s", "bytes/s", "peak memory")


class DigestError(ExportError):
    """Two exports of the same posts in the same format differ, though the archive did not change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """The result of several runs of one export of the slice."""

    format: str
    workers: int
    """Worker processes; 0 if one process did the work."""
    target: str
    """`null` or `disk`."""
    sync: bool
    """Whether the export waited until everything was on disk; always False for the null device."""
    posts: int
    bytes: int
    seconds_median: float
    seconds_min: float
    seconds_max: float
    start_seconds: float
    """Median for an export without posts; 0 if the slice is the whole archive, which needs no projection."""
    peak_memory_bytes: int | None
    """The largest sample of all processes together, in any run; None if the system does not report memory."""

    def rate(self, amount: int) -> float:
        """Posts or bytes per second of the median run, including its start."""
        return amount / self.seconds_median if self.seconds_median > 0 else 0.0

    def seconds_for(self, posts: int) -> float:
        """Expected seconds for an export of this many posts: the start, and a time per post."""
        start = min(self.start_seconds, self.seconds_median)
        return start + (self.seconds_median - start) * (posts / self.posts if self.posts else 1)

    def to_dict(self) -> dict[str, Any]:
        """The object in the list `measurements` of `--json`."""
        figures = {name: round(value, 4) if "seconds" in name else value for name, value in asdict(self).items()}
        rates = {"posts_per_second": self.rate(self.posts), "bytes_per_second": self.rate(self.bytes)}
        return figures | {name: round(rate, 1) for name, rate in rates.items()}

    def cells(self) -> tuple[str, ...]:
        """The row of the table."""
        memory = "unknown" if self.peak_memory_bytes is None else format_size(self.peak_memory_bytes)
        return (
            self.format, str(self.workers), _target(self.target, self.sync), f"{self.seconds_median:.2f}",
            f"{self.seconds_min:.2f} to {self.seconds_max:.2f}", f"{self.rate(self.posts):,.0f}",
            f"{format_size(self.rate(self.bytes))}/s", memory,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """The best settings for the whole archive, and the expected figures if its older posts are like the slice."""

    workers: int
    why: str
    """The reason, for people."""
    command: str
    """The command line to type."""
    expected_seconds: dict[str, float]
    """Format → time of an export to the disk, with sync."""
    expected_bytes: dict[str, int]
    """Format → size of the data file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """The result of a benchmark."""

    path: Path
    archive_bytes: int
    archive_posts: int
    slice_posts: int
    slice_bytes: dict[str, int]
    """Format → size of the data file."""
    since: str | None
    """The slice has the posts from this instant on, RFC 3339; None if it is the whole archive."""
    cpus: int
    """CPUs that this process may use."""
    runs: int
    """Runs per measurement."""
    memory_metric: Metric | None
    """The sampled metric: `pss`, `uss` or `rss`; None if the system does not report memory."""
    notes: list[str]
    """Reasons to doubt the figures, for people."""
    measurements: list[Measurement]
    recommendation: Recommendation

    def to_dict(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        measurements = [measurement.to_dict() for measurement in self.measurements]
        own = {"path": path_text(self.path), "measurements": measurements}
        return {"schema_version": SCHEMA_VERSION, "status": "ok", **asdict(self), **own}

    def lines(self) -> list[str]:
        """The result for people: the slice, the notes, the table, the recommendation."""
        chosen = self.recommendation
        whole = [
            f"{name.upper()} {format_size(chosen.expected_bytes[name])} in "
            + (f"{seconds:.2f} s" if seconds < 10 else duration(seconds))
            for name, seconds in chosen.expected_seconds.items()
        ]
        rows = [_HEADINGS, *(measurement.cells() for measurement in self.measurements)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        # Words are aligned to the left, figures to the right.
        sides = ["<" if heading in ("format", "target") else ">" for heading in _HEADINGS]
        columns = [f"{{:{side}{width}}}" for side, width in zip(sides, widths, strict=True)]
        since = f" (since {self.since})" if self.since else ""
        return [
            f"{self.path}: {self.slice_posts:,} of {self.archive_posts:,} posts{since};"
            f" runs: {self.runs}, CPUs: {self.cpus}",
            *(f"note: {note}" for note in self.notes),
            *("", *("  ".join(columns).format(*row) for row in rows), ""),
            f"recommended: {_in_words(chosen.workers)}, {chosen.why}",
            f"expected for all {self.archive_posts:,} posts, on the disk: {', '.join(whole)}",
            f"  {chosen.command}",
        ]


def recommend(measurements: Sequence[Measurement], archive_posts: int, options: ExportOptions) -> Recommendation:
    """Choose the number of workers that exports the whole archive fastest, in all formats together.

    Args:
        measurements: Only exports to the disk with sync count. At least one number of workers must have such an
            export in each format; other numbers are ignored.
        archive_posts: Posts of the whole archive.
        options: Archive, directory and memory limit for the command line.

    Returns:
        The fastest number of workers, or a smaller one that is nearly as fast.
    """
    by_workers: dict[int, dict[str, Measurement]] = {}
    for measurement in measurements:
        if measurement.target == "disk" and measurement.sync:
            by_workers.setdefault(measurement.workers, {})[measurement.format] = measurement
    total = {
        workers: sum(measurement.seconds_for(archive_posts) for measurement in by_format.values())
        for workers, by_format in by_workers.items()
        if len(by_format) == len(_FORMATS)
    }
    fastest = min(total, key=lambda workers: (total[workers], workers))
    workers = min(number for number in total if total[number] * (1 - _NO_GAIN) <= total[fastest])
    why = "the fastest" if workers == fastest else f"hardly slower than {_in_words(fastest)}"
    if workers and 0 in total:
        why += f", {total[0] / total[workers]:.1f} times as fast as one process"
    command = ["skyexport", "export", path_text(Path(options.archive)), "-j", str(workers)]
    if Path(options.output_dir) != Path():
        command += ["-o", path_text(Path(options.output_dir))]
    if options.memory_limit_bytes != ExportOptions(archive=options.archive).memory_limit_bytes:
        command += ["--memory-limit", str(options.memory_limit_bytes)]
    chosen = by_workers[workers].values()
    return Recommendation(
        workers=workers, why=why, command=shlex.join(command),
        expected_seconds={measurement.format: round(measurement.seconds_for(archive_posts), 3)
                          for measurement in chosen},
        expected_bytes={measurement.format: round(measurement.bytes * archive_posts / measurement.posts)
                        if measurement.posts else measurement.bytes for measurement in chosen},
    )  # fmt: skip


def benchmark(
    options: ExportOptions,
    *,
    posts: int = DEFAULT_POSTS,
    runs: int = DEFAULT_RUNS,
    say: Callable[[str], None] = lambda _: None,
    debug: bool = False,
) -> Benchmark:
    """Measure exports of an archive.

    Args:
        options: Archive, memory limit and output directory, which must exist; no file stays there.
        posts: About how many of the newest posts to measure with.
        runs: Runs per measurement.
        say: Called with a line for people before each measurement.
        debug: As in `export`.

    Raises:
        OptionError: *posts* or *runs* is below 1.
        OutputError: The directory cannot be written to, or has no room for the slice.
        ArchiveChangedError: Another program wrote to the archive during the benchmark.
        ExportError: An export failed for another reason.
    """
    if posts < 1 or runs < 1:
        raise OptionError(f"cannot measure {posts} posts in {runs} runs", "choose at least one of each")
    check_place(resolve(options))
    with Archive(options.archive) as archive, _folder(Path(options.output_dir)) as folder:
        archive_posts, cpus = archive.count_posts(), min(available_cpus(), _MOST_WORKERS.value)
        since, notes = _since(archive, posts, archive_posts)
        sliced = _Slice(archive, replace(options, since=since), folder, runs, debug=debug)
        say("reading the slice once, to warm up")
        slice_posts = sliced.export("json", 0).posts
        sliced.check_room("json")
        if sliced.memory_metric is None:
            notes.append(UNKNOWN_MEMORY)
        if slice_posts < _MEANINGFUL_POSTS:
            notes.append(f"the figures mean little: fewer than {_MEANINGFUL_POSTS:,} posts were measured")
        available = available_memory_bytes()
        if available is not None and archive.path.stat().st_size > available:
            notes.append("the archive is larger than the free memory: reading all of it may take longer than expected")
        counts = sorted({0, cpus, *(1 << power for power in range(cpus.bit_length()))})
        measurements: list[Measurement] = []

        def measure(format: str, target: str, workers: int, *, sync: bool) -> None:
            steps = len(_FORMATS) * (len(_TARGETS) * len(counts) + 1)
            say(f"{len(measurements) + 1} of {steps}: {format} to the {_target(target, sync)}, {_in_words(workers)}")
            measurements.append(sliced.measure(format, target, workers, sync=sync))

        for workers in counts:
            try:
                for format, target in product(_FORMATS, _TARGETS):
                    measure(format, target, workers, sync=target == "disk")
            except MemoryLimitError as error:
                if not workers:
                    raise
                notes.append(f"not measured {_in_words(workers)}: {error.message}")
        for format in _FORMATS:
            measure(format, "disk", recommend(measurements, archive_posts, options).workers, sync=False)
        return Benchmark(
            path=archive.path, archive_bytes=archive.path.stat().st_size, archive_posts=archive_posts,
            slice_posts=slice_posts, slice_bytes=sliced.bytes, since=since, cpus=cpus, runs=runs,
            memory_metric=sliced.memory_metric, notes=notes,
            measurements=sorted(measurements, key=_place),
            recommendation=recommend(measurements, archive_posts, options),
        )  # fmt: skip


class _Slice:
    """The posts that *options* select; each measurement exports them again."""

    def __init__(self, archive: Archive, options: ExportOptions, folder: Path, runs: int, *, debug: bool) -> None:
        self._archive = archive
        self._options = options
        self._folder = folder
        self._runs = runs
        self._debug = debug
        self._state = archive.connection.pragma("data_version")
        self._digests: dict[object, str] = {}
        self._start_seconds: dict[int, float] = {}
        self.bytes: dict[str, int] = {}
        self.memory_metric: Metric | None = None

    def measure(self, format: str, target: str, workers: int, *, sync: bool) -> Measurement:
        """Export the slice several times."""
        if workers not in self._start_seconds:
            wanted = self._runs if self._options.since else 0
            empty = [self.export("json", workers, since=_NEVER).seconds for _ in range(wanted)]
            self._start_seconds[workers] = statistics.median(empty or [0.0])
        done = [self.export(format, workers, target, sync=sync) for _ in range(self._runs)]
        seconds = [summary.seconds for summary in done]
        peaks = [summary.peak_memory_bytes for summary in done if summary.peak_memory_bytes is not None]
        return Measurement(
            format=format, workers=workers, target=target, sync=sync, posts=done[0].posts, bytes=done[0].bytes,
            seconds_median=statistics.median(seconds), seconds_min=min(seconds), seconds_max=max(seconds),
            start_seconds=self._start_seconds[workers], peak_memory_bytes=max(peaks) if peaks else None,
        )  # fmt: skip

    def export(
        self, format: str, workers: int, target: str = "null", *, sync: bool = False, since: str | None = None
    ) -> ExportSummary:
        """Export the slice once; or, with *since*, the posts from then on."""
        options = replace(self._options, format=format, workers=workers, to=Path(os.devnull), sync=sync)
        if since is not None:
            options = replace(options, since=since)
        if target == "disk":
            self.check_room(format)
            options = replace(options, to=self._folder / "slice")
        summary = export(options, debug=self._debug)
        (self._folder / "slice").unlink(missing_ok=True)
        digest = summary.files[0].sha256
        if self._digests.setdefault((format, since), digest) != digest:
            if self._archive.connection.pragma("data_version") != self._state:
                raise ArchiveChangedError(
                    f"{self._archive.display_path} changed during the benchmark", "try again when it is idle"
                )
            self._archive.check_unchanged()
            raise DigestError(
                f"two exports of the same posts to {format} differ, {_in_words(workers)}", "please report it"
            )
        if since is None:
            self.bytes[format] = summary.bytes
        self.memory_metric = summary.memory_metric
        return summary

    def check_room(self, format: str) -> None:
        """Check that the disk has room for a data file of this format.

        Raises:
            OutputError: It has not.
        """
        free, needed = shutil.disk_usage(self._folder).free, self.bytes[format]
        if free < needed:
            raise OutputError(
                f"{format_size(needed)} are needed in {self._options.output_dir}, but {format_size(free)} are free",
                "free some space, choose another directory with -o, or measure fewer posts with --posts",
            )


def _since(archive: Archive, posts: int, archive_posts: int) -> tuple[str | None, list[str]]:
    """The instant from which on there are about *posts* posts, and notes.

    Returns:
        The instant, RFC 3339, or None for all posts; and a note if the slice has more posts than requested.
    """
    if posts >= archive_posts:
        return None, []
    if archive.created_at_index is None:
        return None, ["the archive has no created_at index: all posts were measured"]
    with contextlib.suppress(OptionError):
        for post in archive.list_posts(limit=1, offset=posts - 1):
            parse_bound(post["created_at"], end_of_day=False)
            return post["created_at"], []
    return None, [f"the time of post number {posts:,} cannot be read: all posts were measured"]


@contextlib.contextmanager
def _folder(output_dir: Path) -> Iterator[Path]:
    """A new directory in *output_dir*, for this user only; it is removed at the end of the `with` statement."""
    # It has its name before it is made, so that a signal in between leaves nothing.
    folder = output_dir / f".skyexport-bench-{secrets.token_hex(8)}"
    try:
        try:
            absolute(output_dir)
            folder.mkdir(mode=0o700)
        except OSError as error:
            raise output_error(error, str(output_dir)) from error
        yield folder
    finally:
        uninterrupted(lambda: shutil.rmtree(folder, ignore_errors=True))


def _place(measurement: Measurement) -> tuple[int, int]:
    return _FORMATS.index(measurement.format), _TARGETS.index(measurement.target)


def _target(target: str, sync: bool) -> str:
    return "null device" if target == "null" else "disk" if sync else "disk, no sync"


def _in_words(workers: int) -> str:
    return {0: "in one process", 1: "with 1 worker"}.get(workers, f"with {workers} workers")
