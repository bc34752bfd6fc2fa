"""A Dask cluster of two workers against one machine without: many small archives, and one large one in parts.

    python bench/cluster.py [--archives build/bench] [--count 1000] [--posts 1000] [--parts 10] [--runs 5]

Starts a scheduler and two workers on 127.0.0.1, and reports how long that takes. In each run, in turn: *count* archives
of *posts* posts, and one archive of count × posts posts in so many parts, each with the cluster and without it, with
--no-sync. Outputs are removed, and the disk is synced, before each command. Prints medians and ratios; the target is at
most 1.3 times the time without a cluster.

Then a model for more workers. A command has as many tasks a second as the scarcest resource allows: the workers, the
scheduler's core, the client's core, or the shared disk. What a task costs each of them is taken from the runs before.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from many import make, many
from whole import run_command

TARGET = 1.3
WORKERS = 2
MODELLED = (2, 16, 64, 256, 1024)
DISK_BYTES_PER_SECOND = 1_000_000_000
"""Of the shared disk in the model: a fast network disk."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster that runs."""

    address: str
    scheduler: psutil.Process
    start_seconds: float


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    """A scheduler and workers, each a process."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    began = time.perf_counter()
    started = [dask("scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard")]
    try:
        worker = ("worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard", "--memory-limit", "0")
        started += [dask(*worker) for _ in range(WORKERS)]
        from distributed import Client

        with Client(address, timeout=30, set_as_default=False) as client:
            client.wait_for_workers(WORKERS, timeout=30)
        yield Cluster(address, psutil.Process(started[0].pid), time.perf_counter() - began)
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait()


def dask(command: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a command of Dask."""
    # As in a cluster of --cluster local:2, and as docs/clusters.md advises.
    environment = {**os.environ, "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False"}
    program = f"from distributed.cli.dask_{command} import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
    )


def cpu_seconds(process: psutil.Process) -> float:
    """Processor time so far."""
    times = process.cpu_times()
    return float(times.user + times.system)


def seconds(*arguments: str | Path, place: Path) -> tuple[float, float]:
    """Wall and processor time of an export; its output is removed."""
    with tempfile.TemporaryDirectory(dir=place) as output:
        if hasattr(os, "sync"):
            os.sync()
        run = run_command(
            [sys.executable, "-m", "skyexport", "export", *arguments, "-o", output, "--no-sync", "-qq"], cwd=place
        )
    return run.wall_seconds, run.cpu_seconds


def main() -> int:
    """The program; its exit status is 1 when the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archives", type=Path, default=Path("build/bench"))
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--posts", type=int, default=1000)
    parser.add_argument("--parts", type=int, default=10)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    place: Path = options.archives.absolute()
    place.mkdir(parents=True, exist_ok=True)
    posts = options.count * options.posts
    small = many(place / f"many-{options.posts}", options.count, options.posts)
    large = make(place / f"bench-{posts}.db", posts, 1)
    reached = True
    with tempfile.NamedTemporaryFile(dir=place, suffix=".list", mode="w", encoding="utf-8") as paths, cluster() as made:
        paths.write("".join(f"{path}\n" for path in small))
        paths.flush()
        print(f"the cluster of {WORKERS} workers started in {made.start_seconds:.1f} s")
        works: dict[str, list[str | Path]] = {
            f"{options.count:,} archives of {options.posts:,} posts": ["--from-file", Path(paths.name)],
            f"one archive of {posts:,} posts in {options.parts} parts": [
                large, "--split-posts", str(-(-posts // options.parts)),
            ],
        }  # fmt: skip
        costs: list[tuple[float, float, float]] = []
        for name, work in works.items():
            times: list[tuple[float, float]] = []
            for _ in range(options.runs):
                alone, _ = seconds(*work, "-j", str(WORKERS), place=place)
                before = cpu_seconds(made.scheduler)
                shared, client = seconds(*work, "--cluster", made.address, place=place)
                times.append((alone, shared))
                costs.append((shared, cpu_seconds(made.scheduler) - before, client))
            alone, shared = map(statistics.median, zip(*times, strict=True))
            ratio = statistics.median(b / a for a, b in times)
            reached = reached and ratio <= TARGET
            print(f"{name}: without {alone:.2f} s, with {shared:.2f} s, ratio {ratio:.2f} (target {TARGET})")
        model(costs[: options.runs], options.count, options.posts, small)
    return 0 if reached else 1


def model(costs: list[tuple[float, float, float]], tasks: int, posts: int, archives: list[Path]) -> None:
    """Print what limits a cluster of more workers, with tasks like those of many small archives.

    Args:
        costs: Of each run: wall seconds, and the processor time of the scheduler and of the client.
        tasks: Tasks of each run.
        posts: Posts of each task.
        archives: What was read.
    """
    wall, scheduler, client = (statistics.median(values) / tasks for values in zip(*costs, strict=True))
    start = seconds_of_client()
    task = wall * WORKERS
    read = statistics.mean(path.stat().st_size for path in archives)
    written = read  # An export of JSON is as large as its archive, within a tenth.
    client = max(0.0, client - start / tasks)
    print(
        f"a task takes {task * 1000:.1f} ms of a worker, {scheduler * 1000:.2f} ms of the scheduler's core,"
        f" {client * 1000:.2f} ms of the client's core, and {(read + written) / 1e6:.1f} MB of the disk"
    )
    print("| workers | tasks/s | posts/s | limited by |\n| ---: | ---: | ---: | --- |")
    for workers in MODELLED:
        limits = {
            "workers": workers / task,
            "scheduler": 1 / scheduler,
            "client": 1 / client if client else float("inf"),
            f"disk of {DISK_BYTES_PER_SECOND / 1e9:.0f} GB/s": DISK_BYTES_PER_SECOND / (read + written),
        }
        limit = min(limits, key=lambda name: limits[name])
        print(f"| {workers:,} | {limits[limit]:,.0f} | {limits[limit] * posts:,.0f} | {limit} |")


def seconds_of_client() -> float:
    """Processor time of a command that loads what the client loads, and does nothing."""
    run = run_command([sys.executable, "-c", "import skyexport.fleet.cluster_tasks"], cwd=Path.cwd())
    return run.cpu_seconds


if __name__ == "__main__":
    sys.exit(main())
