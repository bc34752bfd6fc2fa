"""Whole commands against each other on one archive: skyexport, other exporters of SQLite, a naive baseline, and cp.

    python bench/compare.py archive.db [--runs 5] [--warmup 1] [--only skyexport,sqlite3] [--results bench/results]

The commands run in turn (A B C … A B C …), each writes its file to the same disk. Before each run the file of the one
before is removed, the disk's queue is emptied, and a second passes: a target that is there already, and pages that are
still to be written, make times twice as long. None of this is timed. Every export by skyexport must have the bytes that
one process alone makes. A peer that is not installed, or that fails, is skipped with a line that says so.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import peers
from plots import Bar, bar_chart
from results import RESULTS, Target, environment, environment_table, summarised, table, targets_table, write_json
from whole import CommandError, Run, memory_metric, run_command, shown

__all__ = ["TOOLS", "Tool", "checked_export", "main", "sha256_of", "targets"]

ARCHIVE, OUTPUT, COPIED = "{archive}", "{output}", "{copied}"
"""Places in a command: the archive, the file to make, and a finished export for cp."""

SETTLE_SECONDS = 1.0
"""Between emptying the disk's queue and a run."""

SKYEXPORT = (sys.executable, "-m", "skyexport", "export", ARCHIVE, "--json", "--progress", "none")
PEERS = str(Path(peers.__file__).absolute())
SQL, TEXT_SQL, CSV_SQL = (
    peers.posts_sql(),
    peers.posts_sql(blobs_as_text=True),
    peers.posts_sql(peers.CSV_COLUMNS),
)


@dataclass(frozen=True, slots=True)
class Tool:
    """A command that exports all posts."""

    key: str
    label: str
    format: str
    """`json`, `jsonl`, `csv` or `parquet`: what it is compared within."""
    command: tuple[str, ...]
    """With the places above; without OUTPUT its standard output is the file."""
    needs: tuple[str, ...] = ()
    """Python modules that have to be installed, or a program as `/name`."""
    note: str = ""
    """What it does differently."""
    shape: tuple[str, ...] = ()
    """Of skyexport: options that decide the bytes, besides the format."""
    environment: tuple[tuple[str, str], ...] = ()
    """Variables that are set for it."""

    @property
    def suffix(self) -> str:
        """The end of its file's name, by which skyexport is told no other format."""
        return self.format + {"zstd": ".zst"}.get(self.shape[-1] if self.shape else "", "")

    @property
    def own(self) -> bool:
        """Whether it is skyexport."""
        return self.command[: len(SKYEXPORT)] == SKYEXPORT

    def missing(self) -> str | None:
        """What is not installed; None when everything is."""
        for need in self.needs:
            there = shutil.which(need[1:]) if need.startswith("/") else find_spec(need)
            if not there:
                return need.removeprefix("/")
        return None


def own(
    key: str, label: str, *options: str, format: str = "json", note: str = "", to: str = OUTPUT,
    shape: tuple[str, ...] = (), renderer: str = "auto",
) -> Tool:  # fmt: skip
    """An export by skyexport."""
    command = (*SKYEXPORT, "-f", format, "--to", to, *options, *shape)
    return Tool(
        key, f"skyexport {label}", format, command, note=note, shape=shape,
        environment=(("SKYEXPORT_RENDERER", renderer),),
    )  # fmt: skip


def python_peer(key: str, label: str, format: str, *needs: str, note: str) -> Tool:
    """A peer that is a function in peers.py."""
    return Tool(key, label, format, (sys.executable, PEERS, key, ARCHIVE, OUTPUT), needs, note)


DUCKDB_NOTE = f"memory_limit {peers.DUCKDB_MEMORY}, {peers.THREADS} threads; reads all as text, casts numbers"
CHDB_NOTE = f"{peers.THREADS} threads; times as text"

TOOLS = (
    own("skyexport", "-j 2 --no-sync", "-j", "2", "--no-sync", note="indented, converted, hashed"),
    own("skyexport-sync", "-j 2", "-j", "2", note="the same, and waits until all is on the disk"),
    own("skyexport-j0", "-j 0 --no-sync", "-j", "0", "--no-sync", note="one process"),
    own("skyexport-python", "-j 2 --no-sync, nothing compiled", "-j", "2", "--no-sync", renderer="python",
        note="as where there was no compiler: Python renders"),
    own("skyexport-zstd", "-j 2 --no-sync --compress zstd", "-j", "2", "--no-sync", shape=("--compress", "zstd")),
    own("skyexport-null", "-j 2 --to /dev/null", "-j", "2", "--no-sync", to=os.devnull, note="no disk"),
    Tool("sqlite3", "sqlite3 -json", "json", ("sqlite3", "-readonly", "-json", ARCHIVE, SQL), ("/sqlite3",),
         "compact; embeds as strings"),
    python_peer("duckdb", "DuckDB COPY, JSON", "json", "duckdb", note=DUCKDB_NOTE),
    python_peer("polars", "Polars, ADBC, write_ndjson", "json", "polars", "adbc_driver_sqlite", "pyarrow",
                note="compact lines; embeds cast to text in SQL, because it does not write BLOBs"),
    Tool("sqlite-utils", "sqlite-utils --nl", "json",
         (sys.executable, "-m", "sqlite_utils", "query", ARCHIVE, TEXT_SQL, "--nl"), ("sqlite_utils",),
         "compact lines; embeds cast to text in SQL, because it writes BLOBs as base64"),
    python_peer("naive", "Python: lists, json.dump", "json", note="all in memory; json.loads of embeds; indented"),
    Tool("cp", "cp of the finished file", "json", ("cp", COPIED, OUTPUT), ("/cp",), "does not sync"),
    own("skyexport-csv", "-f csv -j 2 --no-sync", "-j", "2", "--no-sync", format="csv",
        note="15 columns, names of media files found in embeds, hashed"),
    Tool("sqlite3-csv", "sqlite3 -csv", "csv", ("sqlite3", "-readonly", "-csv", "-header", ARCHIVE, SQL),
         ("/sqlite3",), "all 17 columns, embeds as they are"),
    Tool("sqlite3-csv-14", "sqlite3 -csv, 14 columns", "csv",
         ("sqlite3", "-readonly", "-csv", "-header", ARCHIVE, CSV_SQL), ("/sqlite3",),
         "the columns of posts.csv but for the media files: embeds are not read"),
    python_peer("chdb-csv", "chDB, CSV, 14 columns", "csv", "chdb", note=CHDB_NOTE),
    own("skyexport-jsonl", "-f jsonl -j 2 --no-sync", "-j", "2", "--no-sync", format="jsonl",
        note="compact, converted, hashed"),
    own("skyexport-parquet", "-f parquet --no-sync", "--no-sync", format="parquet",
        note="Zstandard; times and counts have types, what these cannot hold is kept"),
    python_peer("duckdb-parquet", "DuckDB COPY, Parquet", "parquet", "duckdb",
                note=f"Zstandard; times as text; memory_limit {peers.DUCKDB_PARQUET_MEMORY}, {peers.THREADS} threads"),
    python_peer("polars-parquet", "Polars, ADBC, write_parquet", "parquet", "polars", "adbc_driver_sqlite", "pyarrow",
                note="Zstandard; times as text"),
    python_peer("chdb-parquet", "chDB, Parquet", "parquet", "chdb", note=f"Zstandard; {CHDB_NOTE}"),
    python_peer("duckdb-csv", "DuckDB COPY, CSV", "csv", "duckdb", note=f"all 17 columns; {DUCKDB_NOTE}"),
)  # fmt: skip


def sha256_of(path: Path) -> str:
    """The digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checked_export(run: Run, output: Path | None, posts: int | None, digest: str | None) -> dict[str, Any]:
    """The summary that an export printed, once its posts and bytes have proved right.

    Args:
        run: A run of skyexport with --json.
        output: The file that it made; None for the null device, where its own digest has to do.
        posts: How many there should be; None for any number.
        digest: What the file should have; None for any.

    Raises:
        SystemExit: Something is not as it should be; measuring on would be of no use.
    """
    summary: dict[str, Any] = json.loads(run.stdout)
    found = str(summary["files"][0]["sha256"])
    if output is not None and sha256_of(output) != found:
        raise SystemExit(f"{output.name} does not have the digest that the export reports")
    if digest is not None and found != digest:
        raise SystemExit(f"an export has the digest {found}, others {digest}")
    if posts is not None and summary["posts"] != posts:
        raise SystemExit(f"an export has {summary['posts']} posts instead of {posts}")
    return summary


class Comparison:
    """The commands on one archive.

    Args:
        archive: The archive.
        scratch: An empty directory for outputs.
    """

    def __init__(self, archive: Path, scratch: Path) -> None:
        self._archive = archive
        self._scratch = scratch
        self.posts = 0
        self.digests: dict[str, str] = {}
        self.runs: dict[str, list[Run]] = {}
        self.output_bytes: dict[str, int] = {}
        self.skipped: dict[str, str] = {}

    def prepare(self, tools: Iterable[Tool]) -> None:
        """Export with one process: the bytes that all others must have, and the file for cp."""
        alone = {
            tool.suffix: own("", "", "-j", "0", "--no-sync", format=tool.format, shape=tool.shape) for tool in tools
        }
        for suffix, tool in sorted({"json": own("", "", "-j", "0", "--no-sync"), **alone}.items()):
            output = self._finished(suffix)
            summary = checked_export(run_command(self.command(tool, output), cwd=self._scratch), output, None, None)
            self.posts = summary["posts"]
            self.digests[suffix] = sha256_of(output)

    def measure(self, tools: Sequence[Tool], runs: int, warmup: int) -> None:
        """Run all in turn, so many times."""
        left = list(tools)
        for turn in range(warmup + runs):
            for tool in list(left):
                try:
                    run = self._run(tool)
                except CommandError as error:
                    if tool.own:
                        raise SystemExit(f"{tool.label}: {error}") from None
                    self.skip(tool, f"it failed: {error}")
                    left.remove(tool)
                    continue
                if turn >= warmup:
                    self.runs.setdefault(tool.key, []).append(run)
                name = "warm-up" if turn < warmup else f"run {turn - warmup + 1}"
                print(f"{name}: {tool.label}: {run.wall_seconds:.2f} s, {run.peak_bytes / 1e6:.0f} MB", flush=True)

    def skip(self, tool: Tool, reason: str) -> None:
        """Note that a tool does not take part."""
        self.runs.pop(tool.key, None)
        self.skipped[tool.key] = f"{tool.label}: {reason}"
        print(f"skipped: {self.skipped[tool.key]}", flush=True)

    def command(self, tool: Tool, output: Path) -> list[str]:
        """A tool's command with the places filled in."""
        places = {ARCHIVE: str(self._archive), OUTPUT: str(output), COPIED: str(self._finished("json"))}
        return [places.get(part, part) for part in tool.command]

    def _finished(self, format: str) -> Path:
        return self._scratch / f"posts.{format}"

    def _run(self, tool: Tool) -> Run:
        output = self._scratch / f"out.{tool.suffix}"
        to_stdout = not tool.own and OUTPUT not in tool.command
        os.sync()  # nobody waits for what others left to be written
        time.sleep(SETTLE_SECONDS)
        try:
            run = run_command(
                self.command(tool, output), cwd=self._scratch, stdout=output if to_stdout else None,
                environment=dict(tool.environment),
            )  # fmt: skip
            made = output if OUTPUT in tool.command or to_stdout else None
            if tool.own:
                checked_export(run, made, self.posts, self.digests[tool.suffix])
            self.output_bytes[tool.key] = made.stat().st_size if made else 0
            if made and not self.output_bytes[tool.key]:
                raise CommandError("it wrote nothing")
            return run
        finally:
            output.unlink(missing_ok=True)


def reference(format: str) -> str:
    """The key of the export that others are compared with."""
    return "skyexport" if format == "json" else f"skyexport-{format}"


def targets(tools: Mapping[str, Mapping[str, Any]]) -> list[Target]:
    """What was asked for, with figures.

    Args:
        tools: Key → as in compare.json.
    """

    def quotient(over: str, under: str, what: str = "median_seconds") -> float | None:
        if over not in tools or under not in tools or not tools[under][what]:
            return None
        return float(tools[over][what]) / float(tools[under][what])

    texts = [float(tools[key]["peak_bytes"]) for key in TEXTS if key in tools]
    peak = max(texts) / 1e6 if texts else None
    table_peak = float(tools["skyexport-parquet"]["peak_bytes"]) / 1e6 if "skyexport-parquet" in tools else None
    python = tools.get("skyexport-python")
    return [
        Target("JSON: time of `sqlite3 -json`", ">=", 3.5, "×", quotient("sqlite3", "skyexport")),
        Target("JSON, one process: time of `sqlite3 -json`", ">=", 2, "×", quotient("sqlite3", "skyexport-j0")),
        Target("JSON: time of DuckDB", ">=", 5, "×", quotient("duckdb", "skyexport")),
        Target("JSON: time of Polars over ADBC", ">=", 3.2, "×", quotient("polars", "skyexport")),
        Target("JSON: memory of Polars", ">=", 10, "×", quotient("polars", "skyexport", "peak_bytes")),
        Target("JSON: time of `sqlite-utils --nl`", ">=", 12, "×", quotient("sqlite-utils", "skyexport")),
        Target("JSON Lines: time of Polars over ADBC", ">=", 3.5, "×", quotient("polars", "skyexport-jsonl")),
        Target("CSV: time of `sqlite3 -csv`, 14 columns", ">=", 2.5, "×", quotient("sqlite3-csv-14", "skyexport-csv")),
        Target("CSV: time of DuckDB", ">=", 5.5, "×", quotient("duckdb-csv", "skyexport-csv")),
        Target("CSV: time of chDB", ">=", 2.5, "×", quotient("chdb-csv", "skyexport-csv")),
        Target("Parquet: time of DuckDB", ">=", 1.8, "×", quotient("duckdb-parquet", "skyexport-parquet")),
        Target("Parquet: time of Polars over ADBC", ">=", 2, "×", quotient("polars-parquet", "skyexport-parquet")),
        Target("Parquet: time of chDB", ">=", 1.7, "×", quotient("chdb-parquet", "skyexport-parquet")),
        Target("JSON: against the time of `cp`", "<=", 5, "×", quotient("skyexport", "cp")),
        Target("JSON: with zstd, against without", "<=", 1.8, "×", quotient("skyexport-zstd", "skyexport")),
        Target("JSON: with syncs, against without", "<=", 1.3, "×", quotient("skyexport-sync", "skyexport")),
        Target(
            "JSON, nothing compiled", ">=", 50_000, "posts/s", float(python["posts_per_second"]) if python else None
        ),
        Target("peak memory of all processes: JSON, JSON Lines, CSV", "<=", 100, "MB", peak),
        Target("peak memory of all processes: Parquet", "<=", 250, "MB", table_peak),
    ]


TEXTS = ("skyexport", "skyexport-jsonl", "skyexport-csv")


def markdown(content: Mapping[str, Any]) -> str:
    """The results for readers."""
    archive = content["archive"]
    rows: dict[str, list[tuple[str, ...]]] = {"json": [], "jsonl": [], "csv": [], "parquet": []}
    for found in content["tools"].values():
        rows[found["format"]].append(
            (
                found["label"],
                f"{found['median_seconds']:.2f}",
                f"{found['min_seconds']:.2f}–{found['max_seconds']:.2f}",
                f"{found['posts_per_second']:,.0f}",
                f"{found['cpu_seconds']:.2f}",
                f"{found['peak_bytes'] / 1e6:.1f}",
                f"{found['output_bytes'] / 1e6:,.1f}",
                "" if found["ratio"] is None else f"{found['ratio']:.2f}",
            )
        )
    peak = f"peak MB ({content['memory_metric']})"
    headings = ("command", "median s", "min–max", "posts/s", "CPU s", peak, "file MB", "ratio")
    parts = [
        "# Whole commands\n",
        f"{archive['file']}: {archive['posts']:,} posts, {archive['bytes'] / 1e6:,.0f} MB; {content['runs']} runs in"
        f" turn after {content['warmup']} that did not count. Ratio: time over that of skyexport with 2 workers.\n",
        environment_table(content["environment"]),
        *(f"## {name.upper()}\n\n{table(headings, found)}" for name, found in rows.items() if found),
        "".join(f"- {found['label']}: {found['note']}\n" for found in content["tools"].values() if found["note"]),
        "".join(f"- skipped: {reason}\n" for reason in content["skipped"].values()),
        f"## Targets\n\n{targets_table([target_of(found) for found in content['targets']])}",
    ]
    return "\n".join(part for part in parts if part)


def target_of(found: Mapping[str, Any]) -> Target:
    """A target out of the results."""
    return Target(found["what"], found["bound"], found["limit"], found["unit"], found["measured"])


def plot(content: Mapping[str, Any]) -> str:
    """Time by tool."""
    bars = [
        Bar(found["label"], found["median_seconds"], found["min_seconds"], found["max_seconds"], found["own"])
        for found in content["tools"].values()
    ]
    cut = 5 * max((bar.value for bar in bars if bar.own), default=float("inf"))
    posts = f"{content['archive']['posts']:,}"
    return bar_chart(f"{posts} posts to a file: whole commands", "seconds, median; less is better", bars, cut=cut)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, keep the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("archive", type=Path)
    parser.add_argument("--runs", type=int, default=5, help="runs of each command (5)")
    parser.add_argument("--warmup", type=int, default=1, help="runs before them that do not count (1)")
    parser.add_argument("--only", metavar="NAME,…", help=f"only these: {', '.join(tool.key for tool in TOOLS)}")
    parser.add_argument("--scratch", type=Path, help="where outputs go for a while (beside the archive)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where compare.json, .md and .svg go")
    options = parser.parse_args(arguments)
    wanted = options.only.split(",") if options.only else [tool.key for tool in TOOLS]
    if unknown := set(wanted) - {tool.key for tool in TOOLS}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(tool.key for tool in TOOLS)}")
    if options.runs < 1:
        parser.error("at least one run is needed")
    archive = options.archive.absolute()
    chosen = [tool for tool in TOOLS if tool.key in wanted]
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.scratch or archive.parent) as scratch:
        comparison = Comparison(archive, Path(scratch))
        for tool in chosen:
            if missing := tool.missing():
                comparison.skip(tool, f"{missing} is not installed")
        there = [tool for tool in chosen if tool.key not in comparison.skipped]
        comparison.prepare(tool for tool in there if tool.own)
        comparison.measure(there, options.runs, options.warmup)
        content = gathered(comparison, there, archive, options.runs, options.warmup)
    write_json(options.results / "compare.json", content)
    (options.results / "compare.md").write_text(markdown(content), encoding="utf-8")
    if content["tools"]:
        (options.results / "compare.svg").write_text(plot(content), encoding="utf-8")
    print(markdown(content))
    return 0


def gathered(comparison: Comparison, tools: Sequence[Tool], archive: Path, runs: int, warmup: int) -> dict[str, Any]:
    """All results, as they are kept."""
    found: dict[str, dict[str, Any]] = {}
    for tool in tools:
        if tool.key in comparison.runs:
            command = comparison.command(tool, Path("/", f"out.{tool.format}"))
            found[tool.key] = {
                "label": tool.label, "format": tool.format, "own": tool.own, "note": tool.note,
                "command": shown(command, {SQL: "SQL", TEXT_SQL: "TEXT_SQL", CSV_SQL: "CSV_SQL"}),
                "output_bytes": comparison.output_bytes[tool.key],
                **summarised(comparison.runs[tool.key], comparison.posts),
            }  # fmt: skip
    for one in found.values():
        base = found.get(reference(one["format"]))
        one["ratio"] = round(one["median_seconds"] / base["median_seconds"], 4) if base else None
    return {
        "environment": environment(archive.parent),
        "archive": {"file": archive.name, "bytes": archive.stat().st_size, "posts": comparison.posts},
        "runs": runs, "warmup": warmup, "memory_metric": memory_metric(), "digests": comparison.digests,
        "sql": {"SQL": SQL, "TEXT_SQL": TEXT_SQL, "CSV_SQL": CSV_SQL},
        "tools": found, "skipped": comparison.skipped, "targets": [target.to_dict() for target in targets(found)],
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
