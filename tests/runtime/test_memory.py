"""The memory guard, with samples made up."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

import psutil
import pytest

from skyexport.errors import MemoryLimitError
from skyexport.formats import FORMATS
from skyexport.formats.compression import parse_compression
from skyexport.pipeline.memory_need import memory_need
from skyexport.runtime.memory import MemoryGuard, MemoryNeed, ProcessTree

LIMIT = 500_000_000


def guard_with(samples: Iterable[int]) -> MemoryGuard:
    return MemoryGuard(LIMIT, iter(samples).__next__)


def test_window_narrows_from_80_percent_on_and_widens_again() -> None:
    """Each sample at the soft mark halves the window down to one batch, each below doubles it up to the whole."""
    guard = guard_with([100_000_000, 400_000_000, 450_000_000, 450_000_000, 450_000_000, 300_000_000, 1, 1, 1, 1])
    windows = []
    for _ in range(10):
        guard.sample()
        windows.append(guard.window(8))
    assert windows == [8, 4, 2, 1, 1, 1, 2, 4, 8, 8]


def test_limit_is_an_error_with_both_figures() -> None:
    """A sample at the limit is an error, even when memory went down afterwards."""
    guard = guard_with([499_999_999, 500_000_000, 1])
    guard.sample()
    guard.check()
    guard.sample()
    guard.sample()
    with pytest.raises(MemoryLimitError, match="reached 500 MB, and the limit is 500 MB") as caught:
        guard.check()
    assert caught.value.exit_code == 13
    assert guard.peak_bytes == 500_000_000
    assert guard.latest_bytes == 1


NEED = MemoryNeed(here_bytes=20_000_000, rendering_bytes=10_000_000, worker_bytes=30_000_000)


def named_limit(error: MemoryLimitError) -> int:
    """The limit that a hint names, in bytes."""
    found = re.match(r"use --memory-limit (\d+)MB or more", error.hint)
    assert found is not None
    return int(found[1]) * 1_000_000


@pytest.mark.parametrize("workers", [0, 1, 2, 7])
def test_unworkable_limit_names_one_that_works(workers: int) -> None:
    """The limit that is named passes the same check, with room for samples to differ, and not with much more."""
    small = MemoryGuard(45_000_000, lambda: 40_000_000)
    with pytest.raises(MemoryLimitError, match="too small for csv") as caught:
        small.check_workable(NEED, workers, "csv")
    enough = named_limit(caught.value)
    MemoryGuard(enough, lambda: 49_000_000).check_workable(NEED, workers, "csv")
    with pytest.raises(MemoryLimitError):
        MemoryGuard(enough - 16_000_000, lambda: 40_000_000).check_workable(NEED, workers, "csv")


def test_memory_that_is_not_known() -> None:
    """Nothing can be said of what was used; what is needed at once is compared with the limit all the same."""
    guard = MemoryGuard(LIMIT, lambda: None)
    guard.check_workable(NEED, 2, "csv")
    guard.check()
    assert (guard.latest_bytes, guard.peak_bytes) == (None, None)
    assert (guard.window(8), guard.affordable_workers(NEED, 4)) == (8, 4)
    with pytest.raises(MemoryLimitError, match="600 MB are needed"):
        guard.check_affordable(600_000_000)


def test_hint_of_fewer_workers() -> None:
    """Fewer workers are named only where they would help, also once the limit is reached."""
    guard = MemoryGuard(75_000_000, lambda: 40_000_000)
    with pytest.raises(MemoryLimitError, match=r"with 1 worker; use .* 105MB or more, or --workers auto$"):
        guard.check_workable(NEED, 1, "csv")
    guard.check_workable(NEED, 0, "csv")
    with pytest.raises(MemoryLimitError, match=r"use --memory-limit 85MB or more$"):
        MemoryGuard(65_000_000, lambda: 40_000_000).check_workable(NEED, 0, "csv")
    for workers, hint in ((0, "use a larger --memory-limit"), (2, "use a larger --memory-limit, or fewer workers")):
        full = MemoryGuard(500_000_000, iter([100_000_000, 500_000_000]).__next__)
        full.check_workable(NEED, workers, "csv")
        full.sample()
        with pytest.raises(MemoryLimitError) as caught:
            full.check()
        assert caught.value.hint == hint


@pytest.mark.parametrize(
    ("used", "affordable"), [(30_000_000, 8), (390_000_000, 3), (470_000_000, 0), (500_000_000, 0)]
)
def test_workers_that_fit(used: int, affordable: int) -> None:
    """Only so many workers are started as the limit has room for, and these pass the check."""
    guard = MemoryGuard(LIMIT, lambda: used)
    assert guard.affordable_workers(NEED, 8) == affordable
    if affordable:
        guard.check_workable(NEED, affordable, "csv")


@pytest.mark.parametrize("format", FORMATS)
def test_need_grows(format: str) -> None:
    """More workers, larger archives, batches and levels, lists and tables to read never need less."""
    sizes = [0, 500_000, 5_000_000, 30_000_000, 60_000_000, 10**12]
    levels = [None, *map(parse_compression, ("zstd:1", "zstd:3", "zstd:9", "zstd:12", "zstd:19"))]
    for workers in (0, 1, 2, 5):
        needs = [memory_need(FORMATS[format], None, size).bytes(workers) for size in sizes]
        assert needs == sorted(needs)
        assert needs[-1] == needs[-2]
        compressed = [memory_need(FORMATS[format], level, 10**8).bytes(workers) for level in levels]
        assert compressed == sorted(compressed)
        plain = memory_need(FORMATS[format], None, 10**8).bytes(workers)
        further: list[dict[str, Any]] = [{"batch_size": 1_000_000}, {"lists": True}, {"reads_table": True}]
        for more in further:
            assert memory_need(FORMATS[format], None, 10**8, **more).bytes(workers) > plain
        assert memory_need(FORMATS[format], None, 10**8).bytes(workers + 1) > plain


def test_tree_counts_children() -> None:
    """A child counts while it lives, and no longer."""
    tree = ProcessTree()
    alone = tree.sample()
    assert alone is not None
    program = "x = bytearray(50_000_000); print('ready', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        tree.add(child.pid)
        assert (tree.sample() or 0) > alone + 50_000_000
        child.kill()
    assert 0 < (tree.sample() or 0) < alone + 20_000_000


def test_metric_is_the_best_that_the_platform_has() -> None:
    """Linux has PSS; others have USS or RSS."""
    tree = ProcessTree()
    assert tree.metric == "pss" if sys.platform == "linux" else tree.metric in ("uss", "rss")
    assert 0 < (tree.sample() or 0) <= psutil.Process(os.getpid()).memory_info().rss * 1.1
