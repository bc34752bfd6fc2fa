"""Many small archives against one large one: posts a second of whole commands, in turn.

    python bench/many.py [--archives build/bench] [--count 1000] [--posts 1000] [--runs 3] [--workers N]

Exports *count* archives of *posts* posts each, and one archive of count × posts posts, with --no-sync and with syncs,
and prints the rates and their ratio: many archives should reach at least half the rate of one. Archives that are
missing are made by tools/make_archive.py; 16 different ones, of which the others are copies.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from whole import run_command

MAKE_ARCHIVE = Path(__file__).absolute().parents[1] / "tools" / "make_archive.py"
DIFFERENT = 16
"""Archives that are made; more would only take longer to make."""
TARGET = 0.5


def make(path: Path, posts: int, seed: int) -> Path:
    """A synthetic archive, unless it is there."""
    if not path.exists():
        new = path.with_suffix(".new")
        new.unlink(missing_ok=True)
        command = [sys.executable, str(MAKE_ARCHIVE), str(new), "--posts", str(posts), "--seed", str(seed)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        new.rename(path)
    return path


def many(directory: Path, count: int, posts: int) -> list[Path]:
    """So many archives of so many posts."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = [directory / f"{number:05d}.db" for number in range(count)]
    for number, path in enumerate(paths):
        if number < DIFFERENT:
            make(path, posts, number + 1)
        elif not path.exists():
            shutil.copy(paths[number % DIFFERENT], path)
    return paths


def rate(arguments: Sequence[str | Path], posts: int, place: Path) -> tuple[float, int]:
    """Posts a second of an export of all of them, and the peak of its memory; outputs are removed."""
    with tempfile.TemporaryDirectory(dir=place) as output:
        command = [
            sys.executable,
            "-m",
            "skyexport",
            "export",
            *arguments,
            "-o",
            output,
            "--json",
            "--progress",
            "none",
        ]
        run = run_command(command, cwd=place)
        found = json.loads(run.stdout)
        if found["posts"] != posts:
            raise SystemExit(f"{found['posts']} of {posts} posts were exported")
        return posts / run.wall_seconds, run.peak_bytes


def main() -> int:
    """The program; its exit status is 1 when the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archives", type=Path, default=Path("build/bench"))
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--posts", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--workers", default="auto")
    options = parser.parse_args()
    place: Path = options.archives.absolute()
    place.mkdir(parents=True, exist_ok=True)
    posts = options.count * options.posts
    small = many(place / f"many-{options.posts}", options.count, options.posts)
    large = make(place / f"bench-{posts}.db", posts, 1)
    with tempfile.NamedTemporaryFile(dir=place, suffix=".list", mode="w", encoding="utf-8") as paths:
        paths.write("".join(f"{path}\n" for path in small))
        paths.flush()
        reached = True
        for sync in (["--no-sync"], []):
            more = [*sync, "-j", options.workers]
            ways: dict[str, list[str | Path]] = {
                "one large": [large, *more],
                "many small": ["--from-file", Path(paths.name), *more],
            }
            rates: dict[str, list[float]] = {name: [] for name in ways}
            peaks = dict.fromkeys(ways, 0)
            for run in range(options.runs + 1):
                for name, arguments in ways.items():
                    found, peak = rate(arguments, posts, place)
                    if run:
                        rates[name].append(found)
                        peaks[name] = max(peaks[name], peak)
            ratio = statistics.median(b / a for a, b in zip(*rates.values(), strict=True))
            print(f"{posts:,} posts, {'with --no-sync' if sync else 'synced'}")
            for name, found_rates in rates.items():
                median = statistics.median(found_rates)
                spread = f"from {min(found_rates):,.0f} to {max(found_rates):,.0f}"
                print(f"  {name:12} {median:10,.0f} posts/s  ({spread}), peak {peaks[name] / 1e6:.0f} MB")
            print(f"  ratio {ratio:.2f}, target {TARGET}")
            reached = reached and ratio >= TARGET
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
