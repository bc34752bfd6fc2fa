"""How an export scales: by posts, workers and batch size, and for archives and selections out of the ordinary.

    python bench/scale.py [--sizes 10000,100000,1000000,5000000] [--workers 0,1,2,4] [--runs 3] [--archives build/bench]

Archives that are missing are made by tools/make_archive.py. What does not vary the size is measured with a million
posts, or with the largest size below that. Commands that are compared with each other run in turn; each export is
checked against the bytes of the others with the same posts.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compare import ARCHIVE, SETTLE_SECONDS, SKYEXPORT, checked_export, target_of
from peers import COLUMNS
from plots import Line, line_chart
from results import (
    RESULTS,
    Target,
    environment,
    environment_table,
    summarised,
    table,
    targets_table,
    thinned,
    write_json,
)  # fmt: skip
from whole import SAMPLE_SECONDS, CommandError, Run, memory_metric, run_command

__all__ = ["Archives", "Case", "Scale", "main", "targets"]

MAKE_ARCHIVE = Path(__file__).absolute().parents[1] / "tools" / "make_archive.py"
REAL = Path(__file__).absolute().parents[2] / "shared" / "contract" / "real" / "archive.db"
"""A real archive, where it lies beside this checkout."""

BASE_POSTS, LARGEST_POSTS = 1_000_000, 5_000_000
SMALL_POSTS, AUTO_POSTS = 500, 100_000
SMALL_SAMPLE_SECONDS = 0.005
"""No process that is started and does something lives shorter."""


@dataclass(frozen=True, slots=True)
class Case:
    """An export to measure."""

    key: str
    archive: Path
    options: tuple[str, ...]
    selection: tuple[str, ...] = ()
    """Options that choose posts."""
    posts: int | None = None
    """How many there should be; None for any number."""
    keep_series: bool = False
    interval_seconds: float = SAMPLE_SECONDS


class Archives:
    """Synthetic archives in a directory, made when they are first asked for."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory.absolute()
        self.bytes: dict[str, int] = {}

    def get(self, posts: int, kind: str = "", *options: str) -> Path:
        """An archive of so many posts.

        Args:
            posts: How many.
            kind: What is special about it, for its name.
            options: The same for make_archive.py.
        """
        path = self._directory / f"bench-{posts}{kind and '-'}{kind}.db"
        if not path.exists():
            print(f"making {path.name}", flush=True)
            command = [sys.executable, str(MAKE_ARCHIVE), str(path), "--posts", str(posts), "--no-fts", *options]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        self.bytes[path.name] = path.stat().st_size
        return path

    def unusual(self, posts: int) -> Path:
        """The same archive with one post in a hundred that the native renderer refuses: it has half a like."""
        return self._copied(
            self.get(posts), f"bench-{posts}-unusual.db",
            "update posts set like_count = like_count + 0.5 where rowid % 100 = 0",
        )  # fmt: skip

    def repeated(self, source: Path, posts: int) -> Path:
        """The posts of a real archive again and again, each time in other minutes, until there are so many."""
        names = ", ".join(name for name in COLUMNS if name not in ("uri", "created_at"))
        # Within the hour, so that no day that does not exist comes out, and few posts have the same instant.
        moved = "substr(created_at, 1, 14) || printf('%02d:%02d', n / 60 % 60, n % 60) || substr(created_at, 20)"
        return self._copied(
            source, f"bench-{posts}-real.db",
            f"""
            create temp table stored as select * from posts;
            create temp table numbers as with recursive counted(n) as (
                select 1 union all select n + 1 from counted where n < {posts} / (select count(*) from stored)
            ) select n from counted;
            insert into posts (uri, created_at, {names})
            select uri || '-' || n, {moved}, {names} from numbers cross join stored
             limit max(0, {posts} - (select count(*) from stored));
            """,
        )  # fmt: skip

    def _copied(self, source: Path, name: str, script: str) -> Path:
        """A copy of an archive after a change, without its full-text table's triggers."""
        path = self._directory / name
        if not path.exists():
            print(f"making {path.name}", flush=True)
            making = path.with_suffix(".making")
            shutil.copyfile(source, making)
            with closing(sqlite3.connect(making)) as connection:
                triggers = connection.execute("select name from sqlite_master where type = 'trigger'").fetchall()
                for (trigger,) in triggers:
                    connection.execute(f'drop trigger "{trigger}"')
                connection.executescript(script)
                connection.commit()
            making.replace(path)
        self.bytes[path.name] = path.stat().st_size
        return path


class Scale:
    """Measures cases.

    Args:
        scratch: An empty directory for outputs.
        runs: Runs of each case.
        warmup: Runs before them that do not count.
    """

    def __init__(self, scratch: Path, runs: int, warmup: int) -> None:
        self._scratch = scratch
        self._runs = runs
        self._warmup = warmup
        self.digests: dict[str, str] = {}
        """Archive and selection → what all exports of these posts have."""
        self.failed: dict[str, str] = {}
        self.series: dict[str, list[tuple[float, int]]] = {}

    def measure(self, group: str, cases: Sequence[Case]) -> dict[str, dict[str, Any]]:
        """Run the cases in turn; those that fail are noted, and not in the result."""
        runs: dict[str, list[Run]] = {}
        last: dict[str, dict[str, Any]] = {}
        for turn in range(self._warmup + self._runs):
            for case in cases:
                name = f"{group} {case.key}"
                if name in self.failed:
                    continue
                try:
                    run, last[case.key] = self._run(case)
                except CommandError as error:
                    self.failed[name] = str(error)
                    runs.pop(case.key, None)
                    print(f"failed: {name}: {error}", flush=True)
                    continue
                print(f"{name}: {run.wall_seconds:.2f} s, {run.peak_bytes / 1e6:.0f} MB", flush=True)
                if turn >= self._warmup:
                    runs.setdefault(case.key, []).append(run)
                if case.keep_series:
                    self.series[case.key] = thinned(run.series)
        return {
            key: {
                "workers": last[key]["workers"],
                "most_children": max(run.children for run in found),
                "output_bytes": last[key]["bytes"],
                **summarised(found, last[key]["posts"]),
            }
            for key, found in runs.items()
        }

    def _run(self, case: Case) -> tuple[Run, dict[str, Any]]:
        output = self._scratch / "out.json"
        command = [str(case.archive) if part == ARCHIVE else part for part in SKYEXPORT]
        same = " ".join((case.archive.name, *case.selection))
        os.sync()
        time.sleep(SETTLE_SECONDS)
        try:
            run = run_command(
                [*command, "--to", str(output), *case.options, *case.selection],
                cwd=self._scratch,
                interval_seconds=case.interval_seconds,
                keep_series=case.keep_series,
            )
            summary = checked_export(run, output, case.posts, self.digests.get(same))
        finally:
            output.unlink(missing_ok=True)
        self.digests[same] = summary["files"][0]["sha256"]
        return run, summary

    def seconds_of(self, command: Sequence[str]) -> float:
        """The median time of another command."""
        runs = [run_command(command, cwd=self._scratch).wall_seconds for _ in range(self._warmup + self._runs)]
        return round(statistics.median(runs[self._warmup :]), 4)


def author_of_one_percent(archive: Path, posts: int) -> str:
    """The author whose share of the posts is nearest to 1 %."""
    command = [sys.executable, "-m", "skyexport", "inspect", str(archive), "--json"]
    authors = json.loads(run_command(command, cwd=archive.parent).stdout)["largest_authors"]
    return str(min(authors, key=lambda author: abs(author["posts"] - posts / 100))["did"])


def dates_of_one_percent(archive: Path, posts: int) -> tuple[str, str]:
    """Since when and until when about 1 % of the posts were created, in the middle of the archive."""
    half_a_percent = max(1, posts // 200)
    sql = "select created_at from posts order by created_at desc limit 1 offset ?"
    with closing(sqlite3.connect(f"{archive.as_uri()}?mode=ro", uri=True)) as connection:
        since, until = (
            connection.execute(sql, (rank,)).fetchone()[0]
            for rank in (min(posts - 1, posts // 2 + half_a_percent), posts // 2 - half_a_percent)
        )
    return f"{since[:10]}T{since[11:19]}Z", f"{until[:10]}T{until[11:19]}Z"


def measured(
    scale: Scale, archives: Archives, sizes: Sequence[int], workers: Sequence[int], batch_sizes: Sequence[int]
) -> dict[str, Any]:
    """All groups of cases, one after another: group → case → figures."""
    base = max((size for size in sizes if size <= BASE_POSTS), default=min(sizes))
    base_archive, two = archives.get(base), ("-j", "2", "--no-sync")
    small, auto = min(SMALL_POSTS, base), min(AUTO_POSTS, base)
    ties = str(min(AUTO_POSTS, base // 10))
    author = ("--author", author_of_one_percent(base_archive, base))
    since, until = dates_of_one_percent(base_archive, base)
    dates = ("--since", since, "--until", until)
    by_size = [
        Case(str(size), archives.get(size), two, posts=size, keep_series=size in (base, max(sizes))) for size in sizes
    ]
    by_workers = [Case(str(n), base_archive, ("-j", str(n), "--no-sync"), posts=base) for n in workers]
    by_batch = [Case(str(n), base_archive, (*two, "--batch-size", str(n)), posts=base) for n in batch_sizes]
    special = [
        Case("full", base_archive, two, posts=base),
        Case("author", base_archive, ("--no-sync",), author),
        Case("dates", base_archive, ("--no-sync",), dates),
        Case("no_index", archives.get(base, "no-index", "--no-index"), two, posts=base),
        Case("ties", archives.get(base, "ties", "--ties", ties), two, posts=base),
        Case("unusual", archives.unusual(base), two, posts=base),
    ]
    if REAL.exists():
        special.append(Case("real", archives.repeated(REAL, base), two))
    found: dict[str, Any] = {
        "sizes": scale.measure("posts", by_size),
        "workers": scale.measure("workers", by_workers),
        "batch_sizes": scale.measure("batch size", by_batch),
        "special": scale.measure("special", special),
        "auto": scale.measure(
            f"{auto} posts, workers",
            [
                Case(n, archives.get(auto), ("-j", n, "--no-sync"), posts=auto)
                for n in ("auto", "0", "2")
            ],
        ),
        "small": scale.measure(
            "whole command, posts",
            [Case(str(small), archives.get(small), (), posts=small, interval_seconds=SMALL_SAMPLE_SECONDS)],
        ),
        "typer_seconds": scale.seconds_of([sys.executable, "-c", "import typer"]),
    }  # fmt: skip
    if full := found["special"].get("full"):
        for one in found["special"].values():
            one["share_of_full"] = round(one["median_seconds"] / full["median_seconds"], 4)
    return {"base_posts": base, "largest_posts": max(sizes), "tied_posts": int(ties), **found}


def targets(found: Mapping[str, Any]) -> list[Target]:
    """What was asked for, with figures.

    Args:
        found: As in scale.json.
    """
    base, most = found["base_posts"], found["largest_posts"]
    full = found["sizes"].get(str(base))
    largest = found["sizes"].get(str(most)) if most > base else None
    most = most if largest else LARGEST_POSTS
    rate = peaks = None
    if full and largest:
        rate = largest["posts_per_second"] / full["posts_per_second"]
        low, high = sorted((full["peak_bytes"], largest["peak_bytes"]))
        peaks = high / low if low else None
    special, auto = found["special"], found["auto"]
    small = next(iter(found["small"].values()), None)
    auto_posts = next((one["posts"] for one in auto.values()), AUTO_POSTS)
    best = min((auto[n]["median_seconds"] for n in ("0", "2") if n in auto), default=None)
    share = {key: special[key].get("share_of_full") for key in special}

    def a_byte(one: Mapping[str, Any]) -> float:
        return float(one["median_seconds"]) / float(one["output_bytes"])

    def megabytes(one: Mapping[str, Any] | None) -> float | None:
        return one["peak_bytes"] / 1e6 if one else None

    ten_percent = 1.1
    return [
        Target(f"rate at {most:,} posts against {base:,}", ">=", 0.9, "×", rate),
        Target(f"peak memory at {base:,} posts", "<=", 150, "MB", megabytes(full)),
        Target(f"peak memory at {most:,} posts", "<=", 150, "MB", megabytes(largest)),
        Target("the larger of these two against the smaller", "<=", ten_percent, "×", peaks),
        Target(f"{small['posts'] if small else SMALL_POSTS} posts, whole command, synced", "<=", 0.25, "s",
               small["median_seconds"] if small else None),
        Target(f"{small['posts'] if small else SMALL_POSTS} posts, against `import typer`", "<=", 1.7, "×",
               small["median_seconds"] / found["typer_seconds"] if small else None),
        Target("processes that it started", "<=", 0, "",
               max(small["most_children"], small["workers"]) if small else None),
        Target(f"{auto_posts:,} posts, -j auto against the better of -j 0 and -j 2", "<=", ten_percent, "×",
               auto["auto"]["median_seconds"] / best if best and "auto" in auto else None),
        Target(_selected("an author", special.get("author"), base), "<=", 0.1, "%", share.get("author")),
        Target(_selected("a range of dates", special.get("dates"), base), "<=", 0.1, "%", share.get("dates")),
        Target("no created_at index, against the usual time", "<=", 2.5, "×", share.get("no_index")),
        Target("no created_at index, peak memory", "<=", 150, "MB", megabytes(special.get("no_index"))),
        Target(f"{found['tied_posts']:,} posts in one instant, against the usual time", "<=", 1.2, "×",
               share.get("ties")),
        Target("one post in a hundred unusual, against none", "<=", 1.5, "×", share.get("unusual")),
        Target("a real archive repeated, against the synthetic one, a byte", "<=", 1.3, "×",
               a_byte(special["real"]) / a_byte(special["full"]) if {"real", "full"} <= special.keys() else None),
    ]  # fmt: skip


def _selected(what: str, one: Mapping[str, Any] | None, posts: int) -> str:
    share = f" with {one['posts'] / posts:.1%} of {posts:,} posts" if one else ""
    return f"{what}{share}, of the full export's time"


GROUPS = {
    "sizes": "Posts (-j 2 --no-sync)",
    "workers": "Workers",
    "batch_sizes": "Batch size (-j 2 --no-sync)",
    "special": "Out of the ordinary (author and dates: -j auto; --no-sync)",
    "auto": "Choosing the number of workers (-j)",
    "small": "A small archive (posts; no option but --to)",
}


def markdown(content: Mapping[str, Any]) -> str:
    """The results for readers."""
    headings = (
        "", "posts", "workers", "median s", "min–max", "posts/s", "CPU s", f"peak MB ({content['memory_metric']})",
    )  # fmt: skip
    parts = [
        "# Scale\n",
        f"{content['runs']} runs in turn after {content['warmup']} that did not count, JSON to the disk. Groups without"
        f" another number of posts: {content['base_posts']:,} posts.\n",
        environment_table(content["environment"]),
    ]
    for group, title in GROUPS.items():
        rows = [
            (
                key.replace("_", " "), f"{one['posts']:,}", str(one["workers"]), f"{one['median_seconds']:.2f}",
                f"{one['min_seconds']:.2f}–{one['max_seconds']:.2f}", f"{one['posts_per_second']:,.0f}",
                f"{one['cpu_seconds']:.2f}", f"{one['peak_bytes'] / 1e6:.1f}",
            )
            for key, one in content[group].items()
        ]  # fmt: skip
        parts.append(f"## {title}\n\n{table(headings, rows)}")
    parts.append("".join(f"- failed: {name}: {why}\n" for name, why in content["failed"].items()))
    parts.append(f"## Targets\n\n{targets_table([target_of(one) for one in content['targets']])}")
    return "\n".join(part for part in parts if part)


def plots(content: Mapping[str, Any]) -> dict[str, str]:
    """File name → plot."""
    found = {}
    for name, group, axis in (("sizes", "sizes", "posts"), ("workers", "workers", "worker processes")):
        points = sorted((float(key), one["posts_per_second"]) for key, one in content[group].items())
        if points:
            found[f"scale-{name}.svg"] = line_chart(
                f"Rate by {axis}", axis, "posts a second", [Line("skyexport", points)], logarithmic=name == "sizes"
            )
    lines = [
        Line(f"{int(key):,} posts", [(seconds, size / 1e6) for seconds, size in series], marked=False)
        for key, series in content["series"].items()
        if series
    ]
    if lines:
        found["scale-memory.svg"] = line_chart(
            "Memory of all processes over time, -j 2", "seconds", f"MB ({content['memory_metric'].upper()})", lines
        )
    return found


def numbers(words: str) -> list[int]:
    """Numbers above or at 0, with commas in between; each once, the smallest first."""
    found = sorted({int(word) for word in words.split(",")})
    if found[0] < 0:
        raise ValueError(words)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, keep the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=numbers, default=[10_000, 100_000, 1_000_000, 5_000_000], help="posts")
    parser.add_argument("--workers", type=numbers, default=[0, 1, 2, 4])
    parser.add_argument("--batch-sizes", type=numbers, default=[100, 1_000, 10_000, 50_000])
    parser.add_argument("--runs", type=int, default=3, help="runs of each export (3)")
    parser.add_argument("--warmup", type=int, default=1, help="runs before them that do not count (1)")
    parser.add_argument("--archives", type=Path, default=Path("build/bench"), help="where archives are kept, and made")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where scale.json, .md and .svg go")
    options = parser.parse_args(arguments)
    if options.runs < 1 or min(options.sizes) < 100:
        parser.error("at least one run, and a hundred posts, are needed")
    options.archives.mkdir(parents=True, exist_ok=True)
    archives = Archives(options.archives)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.archives.absolute()) as scratch:
        scale = Scale(Path(scratch), options.runs, options.warmup)
        found = measured(scale, archives, options.sizes, options.workers, options.batch_sizes)
    content = {
        "environment": environment(options.archives.absolute()), "runs": options.runs, "warmup": options.warmup,
        "memory_metric": memory_metric(), "archives": archives.bytes, "digests": scale.digests,
        **found, "failed": scale.failed, "series": scale.series,
        "targets": [target.to_dict() for target in targets(found)],
    }  # fmt: skip
    write_json(options.results / "scale.json", content)
    (options.results / "scale.md").write_text(markdown(content), encoding="utf-8")
    for name, picture in plots(content).items():
        (options.results / name).write_text(picture, encoding="utf-8")
    print(markdown(content))
    return 0


if __name__ == "__main__":
    sys.exit(main())
