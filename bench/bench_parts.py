"""The parts of an export, each alone in this process: planning, rendering, slots, writing, reading times.

    make bench

Every measurement checks what came out, so that nothing is fast by doing nothing.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from conftest import POSTS
from skyexport import timestamps
from skyexport.archive.archive import Archive
from skyexport.archive.export_order import plan_of
from skyexport.archive.plan import Batch
from skyexport.formats import FORMATS, Format
from skyexport.output.writer import OrderedWriter, OutputFile
from skyexport.rendering.renderer import BatchRenderer
from skyexport.rendering.slots import Slots
from skyexport.selection import Selection

EVERYTHING = Selection()
BATCH_SIZE = 1000
CHUNK_BYTES = 1_100_000
"""A usual chunk of JSON."""

Result = TypeVar("Result")


@pytest.fixture
def archive(archive_path: Path) -> Iterator[Archive]:
    """The archive, open."""
    with Archive(archive_path) as archive:
        yield archive


def batches_of(archive: Archive, batch_size: int = BATCH_SIZE) -> list[Batch]:
    """All batches of the archive."""
    return list(plan_of(archive, EVERYTHING, batch_size, POSTS).batches)


def measured(benchmark: BenchmarkFixture, run: Callable[[], Result]) -> Result:
    """What *run* gives, measured over at least five runs after one that does not count."""
    result: Result = benchmark.pedantic(run, rounds=5, warmup_rounds=1)
    return result


@pytest.mark.parametrize("batch_size", [100, 1000, 10_000])
def bench_planning(benchmark: BenchmarkFixture, archive: Archive, batch_size: int) -> None:
    """Stepping along the index."""
    batches = measured(benchmark, lambda: batches_of(archive, batch_size))
    assert sum(batch.posts for batch in batches) == POSTS


def bench_sorting_without_index(benchmark: BenchmarkFixture, archive: Archive) -> None:
    """The sort that takes the index's place."""
    archive.created_at_index = None
    batches = measured(benchmark, lambda: batches_of(archive))
    assert sum(batch.posts for batch in batches) == POSTS


@pytest.mark.parametrize("choice", ["native", "python"])
@pytest.mark.parametrize("format", FORMATS.values(), ids=FORMATS)
def bench_rendering(benchmark: BenchmarkFixture, archive: Archive, format: Format, choice: str) -> None:
    """Rendering every post, batch by batch."""
    batches = batches_of(archive)

    def render(choice: str) -> str:
        renderer = BatchRenderer(
            archive.connection, archive.columns, archive.created_at_index, format, EVERYTHING,
            native=choice == "native",
        )  # fmt: skip
        digest = hashlib.sha256()
        for batch in batches:
            for chunk in renderer.render(batch):
                digest.update(chunk.data)
        return digest.hexdigest()

    digest = measured(benchmark, lambda: render(choice))
    assert format.name == "parquet" or digest == render("python")


def bench_slots(benchmark: BenchmarkFixture) -> None:
    """A chunk into a slot and out of it."""
    chunk = memoryview(os.urandom(CHUNK_BYTES))
    slots = Slots.create(CHUNK_BYTES)

    def through() -> memoryview:
        slots.fill(0, chunk)
        return slots.view(0, len(chunk))

    assert measured(benchmark, through) == chunk
    slots.close()


def bench_writing(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """A hundred chunks into a file, hashed."""
    chunk = os.urandom(CHUNK_BYTES)
    format = FORMATS["json"]

    def write() -> int:
        file = OutputFile(os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "out")
        writer = OrderedWriter(format, file)
        for _ in range(100):
            writer.add(chunk, BATCH_SIZE)
        writer.finish()
        file.close()
        return file.bytes_written

    around = format.bytes_around + 99 * len(format.separator)
    assert measured(benchmark, write) == 100 * CHUNK_BYTES + around


@pytest.mark.parametrize("spelling", ["2024-05-22 18:57:38.254 +0000 UTC", "2024-05-22T18:57:38+09:00"])
def bench_reading_times(benchmark: BenchmarkFixture, spelling: str) -> None:
    """A thousand stored times in Python, as the exact way reads them."""
    stamps = measured(benchmark, lambda: [timestamps.parse(spelling) for _ in range(1000)])
    assert all(stamp is not None and stamp.year == 2024 for stamp in stamps)
