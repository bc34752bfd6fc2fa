"""Surroundings that must change nothing: environment, limits, clock, workers; and memory that is not enough."""

from __future__ import annotations

import atexit
import contextlib
import functools
import itertools
import resource
import shutil
import tempfile
from pathlib import Path

from tests.faults.matrix import trials
from tests.faults.shapes import FURTHER, USUAL, options_of
from tests.faults.trial import SABOTAGE, Ground, Trial, json_summary


@functools.cache
def ground_of(posts: int, big_post_bytes: int = 0) -> Ground:
    """An archive of so many posts, made once a process."""
    folder = Path(tempfile.mkdtemp(prefix="skyexport-ground-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Ground(folder, posts=posts, big_post_bytes=big_post_bytes)


# --- Memory -------------------------------------------------------------------------------------------------------

LARGE_POST_BYTES = 20_000_000
"""Of a post that takes a process with little room beyond its limit."""

SHARED_BYTES = 15_000_000
"""Pages of the interpreter that other processes use, too: a high-water mark counts them, the limit does not."""


CAUSES = ("memory reached ", " is too small for ", " are needed, more than the limit of ")
"""Parts of the messages: at the limit, before the start, and before a large post is read."""


@trials("memory-limit", quick=0, full=30, shapes=2)
def test_memory_limit(trial: Trial) -> None:
    """At the memory limit an export ends with its own exit status, and both figures; else it stays below the limit."""
    ground = ground_of(2000, LARGE_POST_BYTES)
    trial.use(ground.archive)
    workers = trial.number % 3
    limit = trial.random.randint(40, 160 + 30 * workers) * 1_000_000
    run = trial.start(*trial.shape, "-j", str(workers), "--json", "--memory-limit", str(limit))
    peaks = trial.watch_memory(run)
    ended = run.end()
    if ended.status:
        trial.check_failed(ended, {13})
        assert any(cause in ended.errors for cause in CAUSES), ended.errors
        return
    trial.check(ended, {0}, data=ground.expected_by(trial.shape))
    assert json_summary(ended)["peak_memory_bytes"] < limit
    assert peaks
    if not workers:
        assert sum(peaks.values()) < limit + SHARED_BYTES


def limit_address_space(pid: int, room_bytes: int) -> None:
    """Let a process have only so much more than it has."""
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + room_bytes
        resource.prlimit(pid, resource.RLIMIT_AS, (limit, limit))


@trials("memory-limit", quick=0, full=20, shapes=5)
def test_system_gives_no_memory(trial: Trial) -> None:
    """A system that gives no more memory ends it as clearly, whichever process it is."""
    ground = ground_of(2000, LARGE_POST_BYTES)
    trial.use(ground.archive)
    workers = (0, 2)[trial.number % 2]
    run = trial.start(*trial.shape, "-j", str(workers))
    if run.wait_for(lambda: list(trial.out.glob("*/.*.partial")) and len(run.workers(workers)) == workers):
        room = trial.random.randint(0, 40_000_000)
        for pid in [process.pid for process in run.workers(workers)] or [run.process.pid]:
            limit_address_space(pid, room)
    ended = run.end()
    if ended.status:
        trial.check_failed(ended, {13, 14} if workers else {13})
        assert "emory" in ended.errors
    else:
        trial.check(ended, {0}, data=ground.expected_by(trial.shape))


# --- Environment --------------------------------------------------------------------------------------------------

VARIABLES = {
    "TZ": ("UTC", "Asia/Tokyo", "America/St_Johns", "Pacific/Apia", "no/such"),
    "LC_ALL": ("C", "POSIX", "C.UTF-8", "tr_TR.UTF-8", "de_DE.ISO-8859-1", "no_such"),
    "PYTHONUTF8": ("0", "1"),
    "PYTHONCOERCECLOCALE": ("0", "1"),
    "PYTHONIOENCODING": ("ascii", "utf-16", "utf-8"),
    "PYTHONOPTIMIZE": ("", "2"),
    "TERM": ("dumb", "xterm", ""),
    "COLUMNS": ("1", "80"),
    "HOME": ("/nowhere", ""),
    "PYTHONPATH": ("", str(SABOTAGE)),
}


@trials("surroundings", quick=1, full=40, shapes=10)
def test_environment(trial: Trial) -> None:
    """Time zone, locale, umask, few descriptors, hash seed, Python's own settings and a clock that jumps."""
    environment = {name: trial.random.choice(values) for name, values in VARIABLES.items()}
    environment["PYTHONHASHSEED"] = str(trial.random.randrange(1 << 32))
    if "parquet" not in trial.shape:
        # Which reads with pyarrow, whose compiled modules know how the clock of Python itself is made.
        environment["SABOTAGE_PLAN"] = "clock"
    umask, descriptors = trial.random.choice(("0000", "0077", "0027")), trial.random.choice((48, 64, 1024))
    script = f'umask {umask}; ulimit -n {descriptors}; exec "$@"'
    run = trial.start(
        *trial.shape, "-j", trial.random.choice("0123"), before=["bash", "-c", script, "-"], environment=environment
    )
    assert len(trial.check(run.end(), {0}, data=trial.ground.expected_by(trial.shape))) == 1


# --- Sizes and workers --------------------------------------------------------------------------------------------

GRID = [
    *itertools.product(
        (0, 1, 2, 3, 4, 8, 16),  # workers
        (0, 1, 999, 1000, 1001, 2000),  # posts
        USUAL,
        (1000, 250, 7),  # posts a batch
    ),
    *itertools.product((0, 3), (0, 1, 1001, 2000), FURTHER, (1000, 7)),
]


@trials("workers", quick=1, full=len(GRID))
def test_workers_and_sizes(trial: Trial) -> None:
    """However many workers, posts, and posts a batch: the same bytes."""
    workers, posts, shape, batch_size = GRID[trial.number * 101 % len(GRID)]
    ground = ground_of(posts)
    trial.use(ground.archive)
    ended = trial.export(workers=workers, batch_size=batch_size, memory_limit=4_000_000_000, **options_of(shape))
    assert len(trial.check(ended, {0}, data=ground.expected_by(shape, batch_size))) == 1
