"""What formats and compression cost: whole exports of one archive, in turn, against JSON.

    python bench/formats.py ARCHIVE [--runs 5] [--workers 2]

Prints seconds (median, least, most), their ratio to uncompressed JSON, the size, and the peak of the memory of all
processes. `json | zstd` pipes the same JSON through the program, with as many threads as there are workers. Nothing is
synced.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from compare import SETTLE_SECONDS
from whole import run_command

WAYS = {
    "json": "-f json",
    "json zstd": "-f json --compress zstd",
    "json | zstd": "-f json --to - | zstd -q -T{workers} -3 -o posts.json.zst",
    "json gzip": "-f json --compress gzip",
    "jsonl": "-f jsonl",
    "jsonl zstd": "-f jsonl --compress zstd",
    "csv": "-f csv",
    "csv zstd": "-f csv --compress zstd",
    "parquet": "-f parquet",
}


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--ways", default=",".join(WAYS), help="which, with commas between")
    options = parser.parse_args()
    ways = [name for name in options.ways.split(",") if shutil.which("zstd") or "|" not in name]
    archive = options.archive.absolute()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    sizes = dict.fromkeys(ways, 0)
    peaks = dict.fromkeys(ways, 0)
    for number in range(options.runs + 1):
        for name in ways:
            os.sync()  # nobody waits for what others left to be written
            time.sleep(SETTLE_SECONDS)
            with tempfile.TemporaryDirectory(dir=archive.parent) as folder:
                place = Path(folder)
                arguments = WAYS[name].format(workers=options.workers)
                exporting, pipe, rest = arguments.partition(" | ")
                command = (
                    f"'{sys.executable}' -m skyexport export '{archive}' {exporting} -q --no-sync -j {options.workers}"
                )
                run = run_command(["sh", "-c", f"{command}{pipe}{rest}"], cwd=place)
                files = [path for path in place.rglob("*") if path.is_file()]
                sizes[name] = max(path.stat().st_size for path in files)
                if number:
                    seconds[name].append(run.wall_seconds)
                    peaks[name] = max(peaks[name], run.peak_bytes)
    usual = statistics.median(seconds[ways[0]])
    for name in ways:
        median = statistics.median(seconds[name])
        spread = f"{min(seconds[name]):6.2f} to {max(seconds[name]):6.2f}"
        print(
            f"{name:12} {median:6.2f} s ({spread})  {median / usual:5.2f} × {ways[0]}"
            f"  {sizes[name] / 1e6:8.1f} MB  peak {peaks[name] / 1e6:4.0f} MB"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
