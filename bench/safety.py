"""What it costs to be safe: syncing, copying first, holding one state, and hashing; each as a ratio, all in one run.

    python bench/safety.py archive.db [--runs 5] [--against OTHER/.venv/bin/python]

Whole commands with two workers, in turn, to a file beside the archive; and the time in which all processes take hold of
one state of the archive, and in which all bytes are hashed, beside that of the whole export. With --against, the
processor time of another checkout's export as well, in turn with this one's.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from skyexport import ExportOptions
from skyexport.pipeline.export import export
from skyexport.pipeline.hold import Hold
from skyexport.rendering.pool import Pool

OUTPUT = "safety-output.json"
WAYS: Mapping[str, Sequence[str]] = {
    "--no-sync": ["--no-sync"],
    "synced": [],
    "--snapshot copy": ["--no-sync", "--snapshot", "copy"],
}


def wall_seconds(archive: Path, options: Sequence[str]) -> float:
    """Of the whole command."""
    output = archive.with_name(OUTPUT)
    command = [sys.executable, "-m", "skyexport", "export", str(archive), "--to", str(output), "--overwrite", "-q"]
    started = time.perf_counter()
    subprocess.run([*command, "-j", "2", *options], check=True)
    return time.perf_counter() - started


def cpu_seconds(python: str, archive: Path, format: str) -> float:
    """Processor time of an export in one process to the null device."""
    command = [python, "-m", "skyexport", "export", str(archive), "--to", os.devnull, "-q", "-j", "0", "-f", format]
    before = os.times()
    subprocess.run(command, check=True, cwd="/")
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def in_turn(what: Mapping[str, Callable[[], float]], runs: int) -> dict[str, list[float]]:
    """Run each *runs* times, in turn, after once for nothing."""
    times: dict[str, list[float]] = {name: [] for name in what}
    for run in range(runs + 1):
        for name, seconds in what.items():
            found = seconds()
            if run:
                times[name].append(found)
    return times


def show(title: str, times: Mapping[str, Sequence[float]]) -> None:
    """A line each: median, and the median of the ratios to the first of them."""
    print(title)
    first = next(iter(times.values()))
    for name, found in times.items():
        ratio = statistics.median(one / other for one, other in zip(found, first, strict=True))
        print(
            f"  {name:18} {statistics.median(found):8.3f} s  {ratio:6.3f}  (from {min(found):.3f} to {max(found):.3f})"
        )


def held_and_hashed(archive: Path) -> dict[str, float]:
    """Seconds of one export in which processes take hold of one state, in which bytes are hashed, and of all."""
    found = {"whole export": 0.0, "taking hold": 0.0, "hashing": 0.0}
    take = Hold.take

    def timed_take(self: Hold, pool: Pool, check: Callable[[], None]) -> None:
        # Starting workers is not what is asked for.
        pool.wait_until_ready()
        wait, pool.wait_until_ready = pool.wait_until_ready, lambda: None  # type: ignore[method-assign]
        started = time.perf_counter()
        take(self, pool, check)
        found["taking hold"] = time.perf_counter() - started
        pool.wait_until_ready = wait  # type: ignore[method-assign]

    output = archive.with_name(OUTPUT)
    Hold.take = timed_take  # type: ignore[method-assign]
    try:
        started = time.perf_counter()
        export(ExportOptions(archive=archive, to=output, overwrite=True, workers=2, sync=False))
        found["whole export"] = time.perf_counter() - started
    finally:
        Hold.take = take  # type: ignore[method-assign]
    digest = hashlib.sha256()
    with output.open("rb") as file:
        while block := file.read(1_000_000):
            started = time.perf_counter()
            digest.update(block)
            found["hashing"] += time.perf_counter() - started
    return found


def main() -> int:
    """The program; its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--against", help="the Python of another checkout")
    options = parser.parse_args()
    archive: Path = options.archive.resolve()
    try:
        ways = {name: partial(wall_seconds, archive, way) for name, way in WAYS.items()}
        show("whole commands", in_turn(ways, options.runs))
        parts = [held_and_hashed(archive) for _ in range(options.runs)]
        show("in one export", {name: [part[name] for part in parts] for name in parts[0]})
        if options.against:
            for format in ("json", "csv"):
                pythons = {"the other checkout": options.against, "this one": sys.executable}
                times = {name: partial(cpu_seconds, python, archive, format) for name, python in pythons.items()}
                show(f"processor time, {format}, one process", in_turn(times, options.runs))
    finally:
        archive.with_name(OUTPUT).unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
