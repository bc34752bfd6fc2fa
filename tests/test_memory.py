"""The memory guard, with samples made up."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable

import psutil
import pytest

from skyexport.errors import MemoryLimitError
from skyexport.memory import MemoryGuard, ProcessTree

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


def test_unworkable_limit_names_one_that_works() -> None:
    """The limit that is suggested passes the same check, with room for samples to differ, and not with much more."""
    small = MemoryGuard(50_000_000, lambda: 40_000_000)
    with pytest.raises(MemoryLimitError) as caught:
        small.check_workable(2)
    suggested = int(caught.value.hint.split("--memory-limit ")[1].split("MB")[0]) * 1_000_000
    MemoryGuard(suggested, lambda: 43_000_000).check_workable(2)
    with pytest.raises(MemoryLimitError):
        MemoryGuard(suggested - 11_000_000, lambda: 40_000_000).check_workable(2)


def test_memory_that_is_not_known() -> None:
    """Nothing can be said of what was used; what is needed at once is compared with the limit all the same."""
    guard = MemoryGuard(LIMIT, lambda: None)
    guard.check_workable(2)
    guard.check()
    assert (guard.latest_bytes, guard.peak_bytes) == (None, None)
    assert (guard.window(8), guard.affordable_workers(4)) == (8, 4)
    with pytest.raises(MemoryLimitError, match="600 MB are needed"):
        guard.check_affordable(600_000_000)


@pytest.mark.parametrize(("used", "affordable"), [(30_000_000, 8), (390_000_000, 0), (500_000_000, 0)])
def test_workers_that_fit(used: int, affordable: int) -> None:
    """Only so many workers are started as the limit has room for."""
    assert MemoryGuard(LIMIT, lambda: used).affordable_workers(8) == affordable


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
