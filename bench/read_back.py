"""Reading exports back: `verify`, and `--since-export` where no post is new, against the export itself.

    python bench/read_back.py [--archive build/bench/bench-1000000.db] [--formats json,jsonl,csv,parquet] [--runs 5]

In each run, one after the other: an export with --no-sync, its verification, and an increment to it in which no post is
new. Outputs are removed, and the disk is synced, before each command. Prints medians of the runs, and of their ratios.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from whole import run_command


def seconds(*arguments: str | Path, cwd: Path) -> float:
    """The time of a whole command, with nothing left to write from the one before."""
    if hasattr(os, "sync"):
        os.sync()
    return run_command([sys.executable, "-m", "skyexport", *arguments], cwd=cwd).wall_seconds


def measure(archive: Path, format: str, place: Path) -> tuple[float, float, float]:
    """Seconds of an export, of its verification, and of an increment without new posts."""
    with tempfile.TemporaryDirectory(dir=place) as directory:
        full, increment = Path(directory, "full"), Path(directory, "increment")
        quiet = ("--no-sync", "-q", "-f", format)
        exported = seconds("export", archive, "-o", full, *quiet, cwd=place)
        export = next(full.glob("*/*"))
        verified = seconds("verify", export, "-q", cwd=place)
        compared = seconds("export", archive, "-o", increment, "--since-export", export, *quiet, cwd=place)
        shutil.rmtree(increment)
    return exported, verified, compared


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", type=Path, default=Path("build/bench/bench-1000000.db"))
    parser.add_argument("--formats", default="json,jsonl,csv,parquet")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    archive: Path = options.archive.absolute()
    for format in options.formats.split(","):
        runs = [measure(archive, format, archive.parent) for _ in range(options.runs)]
        exported, verified, compared = map(statistics.median, zip(*runs, strict=True))
        of_export = statistics.median(run[1] / run[0] for run in runs)
        of_verify = statistics.median(run[2] / run[1] for run in runs)
        print(
            f"{format:8} export {exported:.2f} s, verify {verified:.2f} s ({of_export:.2f} of the export),"
            f" --since-export, nothing new {compared:.2f} s ({of_verify:.2f} of verify)"
        )


if __name__ == "__main__":
    main()
