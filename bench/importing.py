"""Importing repositories: time and memory of `skyexport import`, and of the way from a CAR file to a spreadsheet.

    python bench/importing.py [--records 100000,1000000] [--runs 5]

A repository has three posts in five records, as long as those of the demo archive; two in five are likes. `history` is
the same records with 30 earlier commits, each of which lacks a tenth of them, and all blocks in random order. In each
run an archive is made, made again from the same file (nothing is new), and the file is exported to CSV directly.
Outputs are removed, and the disk is synced, before each command.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from whole import Run, run_command

ROOT = Path(__file__).absolute().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from tests.car_files import DID, Repository, blob, tid  # noqa: E402

from make_archive import Texts  # noqa: E402

_COMMITS = 30

FIRST = 1_600_000_000_000_000
"""Microseconds since 1970 of the first record."""


def repository(records: int, *, history: bool = False) -> Repository:
    """Posts with the usual embeds, and likes, a minute apart on average."""
    rng = random.Random(5)
    texts = Texts(rng)
    made = Repository(revision=tid(FIRST + records * 200_000_000))
    made.add({"displayName": "Me", "description": "I", "avatar": blob(b"me")}, "self", "app.bsky.actor.profile")
    microseconds = FIRST
    for number in range(records - 1):
        microseconds += rng.randrange(1, 120_000_000)
        key = tid(microseconds, rng.randrange(1024))
        time = datetime.fromtimestamp(microseconds / 1e6, UTC).isoformat(timespec="milliseconds")
        reference = {"uri": f"at://{DID}/app.bsky.feed.post/{key}", "cid": f"bafyrei{'a' * 52}"}
        if number % 5 < 3:
            made.add(post(rng, texts, time.replace("+00:00", "Z"), reference), key)
        else:
            made.add({"createdAt": time, "subject": reference}, key, "app.bsky.feed.like")
    if history:
        made.earlier = [
            {key: record for key, record in made.records.items() if rng.random() < 0.9} for _ in range(_COMMITS)
        ]
        made.shuffled = 7
    return made


def post(rng: random.Random, texts: Texts, time: str, reference: dict[str, str]) -> dict[str, Any]:
    """A post of which four in ten have an embed, and four in ten answer another."""
    made: dict[str, Any] = {"text": texts.post(), "createdAt": time, "langs": ["en"]}
    chance = rng.random()
    if chance < 0.2:
        image = {"alt": texts.prose(80), "image": blob(rng.randbytes(8)), "aspectRatio": {"width": 800, "height": 600}}
        made["embed"] = {"$type": "app.bsky.embed.images", "images": [image]}
    elif chance < 0.3:
        card = {"uri": texts.link(), "title": texts.prose(60), "description": texts.prose(200)}
        made["embed"] = {"$type": "app.bsky.embed.external", "external": card | {"thumb": blob(rng.randbytes(8))}}
    elif chance < 0.4:
        made["embed"] = {"$type": "app.bsky.embed.record", "record": reference}
    if rng.random() < 0.4:
        made["reply"] = {"root": reference, "parent": reference}
    return made


def command(*arguments: str | Path, cwd: Path) -> Run:
    """Run one, with nothing left to write from the one before."""
    if hasattr(os, "sync"):
        os.sync()
    return run_command([sys.executable, "-m", "skyexport", *arguments, "-q"], cwd=cwd)


def measure(car: Path, runs: int) -> None:
    """Print what the commands take for a file."""
    found: dict[str, list[Run]] = {"import": [], "again": [], "to CSV": []}
    for _ in range(runs):
        with tempfile.TemporaryDirectory(dir=car.parent) as directory:
            place = Path(directory)
            found["import"].append(command("import", car, "--to", "me.db", cwd=place))
            found["again"].append(command("import", car, "--to", "me.db", cwd=place))
            found["to CSV"].append(command("export", car, "--to", "posts.csv", "-f", "csv", cwd=place))
    for name, all_runs in found.items():
        seconds = statistics.median(run.wall_seconds for run in all_runs)
        memory = max(run.peak_bytes for run in all_runs)
        print(f"{car.name:22} {name:8} {seconds:6.2f} s  {memory / 1e6:5.0f} MB")


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", default="100000,1000000")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--place", type=Path, default=Path("build/bench"))
    options = parser.parse_args()
    place: Path = options.place.absolute()
    place.mkdir(parents=True, exist_ok=True)
    for records in map(int, options.records.split(",")):
        car = place / f"repo-{records}.car"
        if not car.exists():
            repository(records).write(car)
        print(f"{car.name}: {car.stat().st_size / 1e6:.1f} MB, {records:,} records")
        measure(car, options.runs)
    records = int(options.records.split(",")[0])
    car = place / f"history-{records}.car"
    if not car.exists():
        repository(records, history=True).write(car)
    print(f"{car.name}: {car.stat().st_size / 1e6:.1f} MB, the same records and {_COMMITS} earlier commits")
    measure(car, options.runs)


if __name__ == "__main__":
    main()
