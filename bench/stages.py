"""Where the time of an export goes: microseconds a post by stage, each measured alone in this process.

    python bench/stages.py archive.db [--format json] [--posts 200000] [--results bench/results]

The stages of a worker: *read* the posts from the file, *render* them into a slot (reading included, then taken off).
The stages of the coordinator: *walk* the index, *hash* the chunks, *write* them; hashing goes on in a thread beside
writing. From these follows what more workers can do: see docs/performance.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import psutil

from skyexport import ExportOptions, export
from skyexport.archive.archive import Archive
from skyexport.archive.export_order import plan_of
from skyexport.archive.plan import Batch, KeyRange
from skyexport.formats import FORMATS
from skyexport.rendering.renderer import SLOT_BYTES, BatchRenderer
from skyexport.rendering.slots import Slots
from skyexport.selection import Selection

RUNS = 5
EVERYTHING = Selection()
READ_SQL = (
    "select sum(octet_length(text) + octet_length(embed_data) + octet_length(archived_at)) from posts where"
    " created_at <= (select created_at from posts where rowid = ?)"
    " and created_at >= (select created_at from posts where rowid = ?)"
)


def seconds_of(work: Callable[[], object]) -> float:
    """The median of RUNS runs after one that does not count."""
    work()
    times = []
    for _ in range(RUNS):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def stages(path: Path, format_name: str, most_posts: int) -> dict[str, float]:
    """Stage → microseconds a post."""
    format = FORMATS[format_name]
    with Archive(path) as archive:
        count = archive.count_posts()
        if archive.created_at_index is None:
            raise SystemExit("an archive without the created_at index is sorted, not walked: choose another")

        def walk() -> list[Batch]:
            return list(plan_of(archive, EVERYTHING, 1000, count).batches)

        ranges = [batch for batch in walk() if isinstance(batch, KeyRange)]
        middle = max(0, (len(ranges) - most_posts // 1000) // 2)
        sample = list(islice(ranges, middle, middle + max(1, most_posts // 1000)))
        posts = sum(batch.posts for batch in sample)
        connection = archive.source.connect()
        slots = Slots.create(SLOT_BYTES)
        renderer = BatchRenderer(
            connection, archive.columns, archive.created_at_index, format, EVERYTHING,
            target=lambda: slots.view(0, SLOT_BYTES),
        )  # fmt: skip

        def read() -> None:
            for batch in sample:
                connection.execute(READ_SQL, (batch.first, batch.last)).fetchall()

        def render() -> None:
            for batch in sample:
                for _ in renderer.render(batch):
                    pass

        def hash_chunks() -> None:
            digest = hashlib.sha256()
            for chunk in chunks:
                digest.update(chunk)

        def write() -> None:
            with tempfile.TemporaryFile(buffering=0, dir=path.parent) as file:
                for chunk in chunks:
                    file.write(chunk)

        chunks = [bytes(chunk.data) for batch in sample for chunk in renderer.render(batch)]
        took = {
            "walk": seconds_of(walk) * posts / count,
            "read": seconds_of(read),
            "render": seconds_of(render),
            "hash": seconds_of(hash_chunks),
            "write": seconds_of(write),
        }
        took["render"] -= took["read"]
        connection.close()
        slots.close()
    return {stage: round(seconds / posts * 1e6, 3) for stage, seconds in took.items()}


def coordinator_microseconds(path: Path, format_name: str) -> dict[str, float]:
    """Processor time of the coordinator, and wall time, a post, in whole exports to the null device with 2 workers."""
    cpu, wall = [], []
    for _ in range(3):
        before = psutil.Process().cpu_times()
        summary = export(ExportOptions(archive=path, format=format_name, to=Path(os.devnull), workers=2))
        after = psutil.Process().cpu_times()
        cpu.append((after.user + after.system - before.user - before.system) / summary.posts * 1e6)
        wall.append(summary.seconds / summary.posts * 1e6)
    return {
        "coordinator_null": round(statistics.median(cpu), 3),
        "wall_null_2_workers": round(statistics.median(wall), 3),
    }


def predicted_rates(took: dict[str, float], cores: list[int]) -> dict[str, int]:
    """Cores → posts a second: as many workers as cores; the coordinator needs its share of them.

    A worker spends w microseconds a post and the coordinator c. On n cores the processes can not do more than
    n / (w + c), and the coordinator, which is one process, not more than 1 / c.
    """
    worker = sum(took[stage] for stage in ("read", "render"))
    coordinator = took["coordinator_null"] + took["write"]
    return {str(n): round(1e6 * min(n / (worker + coordinator), 1 / coordinator)) for n in cores}


def main() -> int:
    """Measure, print a table, keep the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("archive", type=Path)
    parser.add_argument("--format", choices=list(FORMATS), default="json")
    parser.add_argument("--posts", type=int, default=200_000, help="posts in the sample, from the middle (200000)")
    parser.add_argument("--results", type=Path, help="directory for stages-FORMAT.json")
    arguments = parser.parse_args()
    # Whole exports first: afterwards this process holds too much for their memory limit.
    whole = coordinator_microseconds(arguments.archive, arguments.format)
    took = stages(arguments.archive, arguments.format, arguments.posts) | whole
    rates = predicted_rates(took, [1, 2, 4, 8, 16, 64])
    for stage, microseconds in took.items():
        print(f"{stage:22} {microseconds:8.3f} µs a post")
    for cores, rate in rates.items():
        print(f"{cores:>4} cores: {rate:>9,} posts/s predicted")
    if arguments.results:
        arguments.results.mkdir(parents=True, exist_ok=True)
        content = {"format": arguments.format, "microseconds_a_post": took, "predicted_posts_per_second": rates}
        target = arguments.results / f"stages-{arguments.format}.json"
        target.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
