"""Which settings are fastest on this machine: exports of a slice of the archive, timed one after the other.

The slice is the newest posts, about as many as asked for: all from one instant on. A warm-up brings it into the page
cache. Then it is exported in each format, to the null device and to the disk, with several numbers of workers, some
runs each. All runs of a format must give the same bytes. What is written to the disk lies in a directory of its own,
which goes away whatever happens.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from skyexport.archive import Archive
from skyexport.coordinator import export
from skyexport.destination import check_place
from skyexport.errors import ArchiveChangedError, ExportError, MemoryLimitError, OptionError, OutputError
from skyexport.location import absolute
from skyexport.memory import UNKNOWN_MEMORY, Metric
from skyexport.options import MAX_WORKERS, ExportOptions, available_cpus, format_size, parse_bound, resolve
from skyexport.processes import available_memory_bytes
from skyexport.progress import SCHEMA_VERSION, duration
from skyexport.summary import ExportSummary
from skyexport.writer import output_error

__all__ = ["Benchmark", "DigestError", "Measurement", "Recommendation", "benchmark", "recommend"]

DEFAULT_POSTS = 200_000
"""About two seconds of work for one process: the start of workers, a tenth of a second, hardly shows."""

DEFAULT_RUNS = 3
"""The fewest whose median a single disturbed run does not move."""

_MEANINGFUL_POSTS = 20_000
"""A slice of fewer posts is exported before workers have got going."""

_NO_GAIN = 0.05
"""More workers must save such a share of the time: medians of a few runs differ by as much on their own."""

_NEVER = "9999-12-31"
"""Nothing is created from then on: an export of it shows what starting and counting take."""

_FORMATS = ("json", "csv")
"""Those that the established exporter has; which workers are best for them is best for the others, too."""
_TARGETS = ("null", "disk")
_HEADINGS = ("format", "workers", "target", "seconds", "min to max", "posts/s", "bytes/s", "peak memory")


class DigestError(ExportError):
    """Two exports of the same posts in the same format had different bytes, though the archive had not changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Some runs of one export of the slice."""

    format: str
    workers: int
    """Worker processes; 0 when one process did the work."""
    target: str
    """`null` or `disk`."""
    sync: bool
    """Whether it waited until everything was on the disk; never for the null device."""
    posts: int
    bytes: int
    seconds_median: float
    seconds_min: float
    seconds_max: float
    start_seconds: float
    """Median for an export without posts; 0 where the slice is the whole archive, and nothing is to be projected."""
    peak_memory_bytes: int | None
    """The largest sample of all processes together, in any run; None where the system does not report memory."""

    def rate(self, amount: int) -> float:
        """Posts or bytes a second over the median run, its start included."""
        return amount / self.seconds_median if self.seconds_median > 0 else 0.0

    def seconds_for(self, posts: int) -> float:
        """How long an export of so many posts would take: the start once, the rest by their number."""
        start = min(self.start_seconds, self.seconds_median)
        return start + (self.seconds_median - start) * (posts / self.posts if self.posts else 1)

    def to_dict(self) -> dict[str, Any]:
        """As an object of `--json`."""
        figures = {name: round(value, 4) if "seconds" in name else value for name, value in asdict(self).items()}
        rates = {"posts_per_second": self.rate(self.posts), "bytes_per_second": self.rate(self.bytes)}
        return figures | {name: round(rate, 1) for name, rate in rates.items()}

    def cells(self) -> tuple[str, ...]:
        """As a row of the table."""
        memory = "unknown" if self.peak_memory_bytes is None else format_size(self.peak_memory_bytes)
        return (
            self.format, str(self.workers), _target(self.target, self.sync), f"{self.seconds_median:.2f}",
            f"{self.seconds_min:.2f} to {self.seconds_max:.2f}", f"{self.rate(self.posts):,.0f}",
            f"{format_size(self.rate(self.bytes))}/s", memory,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """What to use for the whole archive, and what to expect if its older posts are like those of the slice."""

    workers: int
    why: str
    command: str
    """The command line, as it is typed."""
    expected_seconds: dict[str, float]
    """Format → time of an export to the disk, synced."""
    expected_bytes: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """All that was measured."""

    path: Path
    archive_bytes: int
    archive_posts: int
    slice_posts: int
    slice_bytes: dict[str, int]
    """Format → size of the data file."""
    since: str | None
    """From when on posts belong to the slice, RFC 3339; None when it is the whole archive."""
    cpus: int
    """CPUs that this process may use."""
    runs: int
    memory_metric: Metric | None
    """What was sampled: `pss`, `uss` or `rss`; None where the system does not report memory."""
    notes: list[str]
    """What to know before believing the figures."""
    measurements: list[Measurement]
    recommendation: Recommendation

    def to_dict(self) -> dict[str, Any]:
        """As the object that `--json` prints."""
        measurements = [measurement.to_dict() for measurement in self.measurements]
        own = {"path": _text(self.path), "measurements": measurements}
        return {"schema_version": SCHEMA_VERSION, "status": "ok", **asdict(self), **own}

    def lines(self) -> list[str]:
        """For people: what was measured, the table, the recommendation."""
        chosen = self.recommendation
        whole = [
            f"{name.upper()} {format_size(chosen.expected_bytes[name])} in "
            + (f"{seconds:.2f} s" if seconds < 10 else duration(seconds))
            for name, seconds in chosen.expected_seconds.items()
        ]
        rows = [_HEADINGS, *(measurement.cells() for measurement in self.measurements)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        # Words begin at the left, figures end at the right.
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
        measurements: What was measured. Synced exports to the disk count, of those numbers of workers that have one
            in each format; at least one number has.
        archive_posts: Posts of the whole archive.
        options: Archive, directory and memory limit for the command line.

    Returns:
        The fastest number of workers, or a smaller one that is nearly as fast.
    """
    found: dict[int, dict[str, Measurement]] = {}
    for one in measurements:
        if one.target == "disk" and one.sync:
            found.setdefault(one.workers, {})[one.format] = one
    total = {
        workers: sum(one.seconds_for(archive_posts) for one in by_format.values())
        for workers, by_format in found.items()
        if len(by_format) == len(_FORMATS)
    }
    fastest = min(total, key=lambda workers: (total[workers], workers))
    workers = min(number for number in total if total[number] * (1 - _NO_GAIN) <= total[fastest])
    why = "the fastest" if workers == fastest else f"hardly slower than {_in_words(fastest)}"
    if workers and 0 in total:
        why += f", {total[0] / total[workers]:.1f} times as fast as one process"
    command = ["skyexport", "export", _text(Path(options.archive)), "-j", str(workers)]
    if Path(options.output_dir) != Path():
        command += ["-o", _text(Path(options.output_dir))]
    if options.memory_limit_bytes != ExportOptions(archive=options.archive).memory_limit_bytes:
        command += ["--memory-limit", str(options.memory_limit_bytes)]
    chosen = found[workers].values()
    return Recommendation(
        workers=workers, why=why, command=shlex.join(command),
        expected_seconds={one.format: round(one.seconds_for(archive_posts), 3) for one in chosen},
        expected_bytes={one.format: round(one.bytes * archive_posts / one.posts) if one.posts else one.bytes
                        for one in chosen},
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
        options: Archive and memory limit; the output directory is an existing one, in which nothing stays.
        posts: About how many of the newest posts to measure with.
        runs: Runs of each measurement.
        say: Is told what is measured next, a line each.
        debug: As in `export`.

    Raises:
        OptionError: A number below 1.
        OutputError: The directory cannot be written to, or has no room for the slice.
        ArchiveChangedError: The archive was written to meanwhile.
        ExportError: Whatever else ends an export.
    """
    if posts < 1 or runs < 1:
        raise OptionError(f"{posts} posts, {runs} runs", "choose at least one of each")
    check_place(resolve(options))
    with Archive(options.archive) as archive, _folder(Path(options.output_dir)) as folder:
        archive_posts, cpus = archive.count_posts(), min(available_cpus(), MAX_WORKERS)
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
    """The posts that *options* select, to be exported again and again."""

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
        """Export it several times."""
        if workers not in self._start_seconds:
            wanted = self._runs if self._options.since else 0
            empty = [self.export("json", workers, since=_NEVER).seconds for _ in range(wanted)]
            self._start_seconds[workers] = statistics.median(empty or [0.0])
        done = [self.export(format, workers, target, sync=sync) for _ in range(self._runs)]
        seconds = [one.seconds for one in done]
        peaks = [one.peak_memory_bytes for one in done if one.peak_memory_bytes is not None]
        return Measurement(
            format=format, workers=workers, target=target, sync=sync, posts=done[0].posts, bytes=done[0].bytes,
            seconds_median=statistics.median(seconds), seconds_min=min(seconds), seconds_max=max(seconds),
            start_seconds=self._start_seconds[workers], peak_memory_bytes=max(peaks) if peaks else None,
        )  # fmt: skip

    def export(
        self, format: str, workers: int, target: str = "null", *, sync: bool = False, since: str | None = None
    ) -> ExportSummary:
        """Export it once; with *since*, other posts."""
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
                    f"{self._archive.display_path} was written to meanwhile", "try again when it is idle"
                )
            self._archive.check_unchanged()
            raise DigestError(f"two exports of the same posts to {format} differ, {_in_words(workers)}", "report it")
        if since is None:
            self.bytes[format] = summary.bytes
        self.memory_metric = summary.memory_metric
        return summary

    def check_room(self, format: str) -> None:
        """Fail with an OutputError when the disk has no room for a data file of this format."""
        free, needed = shutil.disk_usage(self._folder).free, self.bytes[format]
        if free < needed:
            raise OutputError(
                f"{format_size(needed)} are needed in {self._options.output_dir}, {format_size(free)} are free",
                "free some, choose another place with -o, or measure fewer posts with --posts",
            )


def _since(archive: Archive, posts: int, archive_posts: int) -> tuple[str | None, list[str]]:
    """From when on there are about *posts* posts, None to take all; a note where more are taken than were asked for."""
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
    """A new directory in *output_dir*, for this user only, as long as the `with` lasts."""
    try:
        absolute(output_dir)
        made = tempfile.TemporaryDirectory(prefix=".skyexport-bench-", dir=output_dir)
    except OSError as error:
        raise output_error(error, str(output_dir)) from error
    with made as name:
        yield Path(name)


def _place(one: Measurement) -> tuple[int, int]:
    return _FORMATS.index(one.format), _TARGETS.index(one.target)


def _target(target: str, sync: bool) -> str:
    return "null device" if target == "null" else "disk" if sync else "disk, no sync"


def _in_words(workers: int) -> str:
    return {0: "in one process", 1: "with 1 worker"}.get(workers, f"with {workers} workers")


def _text(path: Path) -> str:
    return os.fsencode(path).decode(errors="replace")
