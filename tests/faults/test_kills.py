"""Processes that die or stand still at the worst time."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Sequence

import psutil
import pytest

from tests.faults.matrix import trials
from tests.faults.shapes import SPLIT, in_one_file
from tests.faults.tracing import Call, calls_of, needs_strace, with_fault
from tests.faults.trial import SABOTAGE, Ended, Trial

KILLED = -signal.SIGKILL


WAYS = [
    ("-j", "0"),
    ("-j", "2"),
    ("-j", "3"),
    ("-j", "0", "--snapshot", "copy"),
    ("-j", "2", "--snapshot", "copy"),
    ("-j", "0", "--to", "OUT/posts"),
    ("-j", "2", "--to", "OUT/posts", "--overwrite"),
    ("-j", "0", "--media", "--media-root", "ROOT"),
    ("-j", "2", "--media", "--media-root", "ROOT", "--link-media", "EARLIER"),
]


def some_way(trial: Trial) -> tuple[str, ...]:
    """One of them, with the trial's shape."""
    way = trial.random.choice(WAYS)
    return (*(in_one_file(trial.shape) if "--to" in way else trial.shape), *way)


def check_killed(trial: Trial, ended: Ended, arguments: Sequence[str]) -> None:
    """There is a whole export or none, no worker lives on, and the next run takes away what was left."""
    trial.check(ended, {0, KILLED}, data=trial.ground.expected_by(arguments), leftovers=True)
    trial.check_next_run()


@trials("kill", quick=1, full=1000, shapes=0)
def test_coordinator_is_killed(trial: Trial) -> None:
    """Whenever the coordinator is killed, there is a whole export or none, no worker lives on, the next run cleans."""
    arguments = trial.random.choice(WAYS)
    run = trial.start_by(arguments)
    time.sleep(trial.random.uniform(0, 1.2 * trial.ground.seconds(arguments)))
    run.process.kill()
    check_killed(trial, run.end(), arguments)


@trials("kill", quick=0, full=200, shapes=4)
def test_coordinator_is_killed_while_it_copies_media(trial: Trial) -> None:
    """The same while media are copied and linked; an earlier export that they are linked to stays as it was."""
    arguments = (*trial.shape, *WAYS[-1 - trial.number % 2])
    run = trial.start_by(arguments)
    if run.wait_for(lambda: any(trial.out.glob("all/.*.partial/media/*"))):
        time.sleep(trial.random.uniform(0, 0.2))
    run.process.kill()
    check_killed(trial, run.end(), arguments)


@trials("kill", quick=1, full=100, shapes=7)
def test_coordinator_is_killed_while_it_writes(trial: Trial) -> None:
    """The same within the short time in which there is something to leave."""
    arguments = trial.random.choice(WAYS)
    run = trial.start_by(arguments)
    if run.wait_for(trial.partial):
        time.sleep(trial.random.uniform(0, 0.05))
    run.process.kill()
    check_killed(trial, run.end(), arguments)


@trials("kill", quick=1, full=200)
def test_coordinator_is_killed_between_two_data_files(trial: Trial) -> None:
    """The same when one data file of several is whole, and another one is not, or not yet there."""
    arguments = (*SPLIT[trial.number % len(SPLIT)], "-j", str(trial.random.choice((0, 2))))
    run = trial.start_by(arguments)
    number = trial.random.choice((1, 2, 2, 3))
    if run.wait_for(lambda: any(trial.out.glob(f"all/.*.partial/posts-{number:05}.*"))):
        time.sleep(trial.random.uniform(0, 0.02))
    run.process.kill()
    check_killed(trial, run.end(), arguments)


WAYS_TO_END = [
    ("-f", "csv", "-j", "2"),
    ("-f", "json", "-j", "0", "--to", "OUT/posts"),
    ("-f", "json", "-j", "0"),
    ("-f", "csv", "-j", "0"),
    ("-f", "json", "-j", "2"),
    ("-f", "csv", "-j", "2", "--to", "OUT/posts", "--overwrite"),
    ("-f", "json", "-j", "0", "--media", "--media-root", "ROOT", "--link-media", "EARLIER"),
    ("-f", "jsonl", "--compress", "zstd", "--split-posts", "700", "-j", "2"),
    ("-f", "csv", "--split-posts", "700", "-j", "0"),
    ("-f", "parquet", "--split-posts", "1100", "-j", "0"),
]
CALLS = (
    *("write", "fsync", "fdatasync", "close", "openat", "link", "linkat", "symlink", "flock"),
    *("rename", "renameat", "renameat2", "mkdir", "mkdirat", "unlink", "unlinkat", "rmdir"),
)


def killable_calls(arguments: tuple[str, ...]) -> tuple[Call, ...]:
    """Every call of the coordinator that could leave something behind, and every message to a worker."""
    return calls_of(arguments, CALLS, r"^openat.*OUT.*O_CREAT|^(?!openat).*(OUT|^write.*pipe:)")


def all_killable_calls() -> list[Call]:
    """Those of every way to end."""
    return [call for arguments in WAYS_TO_END for call in killable_calls(arguments)]


@trials("kill-at-call", quick=0, full=lambda: len(all_killable_calls()))
def test_coordinator_is_killed_at_a_call(trial: Trial) -> None:
    """The same at every single step of writing, syncing, naming, and talking to workers."""
    needs_strace()
    if trial.full:
        calls = all_killable_calls()
        call = calls[trial.number % len(calls)]
    else:
        call = trial.random.choice(killable_calls(WAYS_TO_END[trial.number]))
    check_killed(trial, with_fault(trial, "signal=KILL", call), call.arguments)


def sabotaged(trial: Trial, where: str, what: str, *, workers: int = 2) -> Ended:
    """Run the command, for the trial's shape, with a fault in one of its workers."""
    token = trial.place / "token"
    token.touch()
    plan = f"{where}/{what}/{1 if where == 'idle' else trial.random.randint(1, 8)}"
    environment = {"PYTHONPATH": str(SABOTAGE), "SABOTAGE_PLAN": plan, "SABOTAGE_TOKEN": str(token)}
    return trial.start(*trial.shape, "-j", str(workers), environment=environment).end()


def check_death(trial: Trial, ended: Ended, cause: str) -> None:
    """A worker's death is exit code 14, named with its batch; nothing is left."""
    trial.check_failed(ended, {14})
    assert cause in ended.errors
    assert "in batch " in ended.errors or "before its first batch" in ended.errors


@trials("kill-worker", quick=1, full=300, shapes=2)
def test_worker_is_killed(trial: Trial) -> None:
    """A worker that is killed, whatever it is doing, ends the export with its name, and takes its siblings along."""
    where = ("message", "any", "idle", "batch")[trial.number % 4]
    if where != "any":
        check_death(trial, sabotaged(trial, where, "KILL"), "was killed by signal 9")
        return
    arguments = (*trial.shape, "-j", "2")
    usual = trial.ground.seconds(arguments)
    run = trial.start(*arguments)
    workers = run.workers(2)
    time.sleep(trial.random.uniform(0, 0.8 * usual))
    with contextlib.suppress(IndexError, psutil.NoSuchProcess):
        trial.random.choice(workers).kill()
    started = time.monotonic()
    ended = run.end()
    assert time.monotonic() - started < 2
    # It may have come when all was read: workers are killed then anyway.
    exports = trial.check(ended, {0, 14}, data=trial.ground.expected_by(arguments))
    assert bool(exports) == (ended.status == 0)
    if ended.status:
        check_death(trial, ended, "was killed by signal 9")


DEATHS = {
    "crash": "was killed by signal 11",
    "exit": "ended with status 7",
    "memory": "MemoryError",
    "odd": "OddError",
}


@trials("worker-crash", quick=1, full=200, shapes=9)
def test_worker_fails(trial: Trial) -> None:
    """So does one that crashes, exits, has no memory, or raises something strange."""
    what = list(DEATHS)[trial.number % len(DEATHS)]
    where = trial.random.choice(("idle", "batch", "message"))
    # After half a message nothing more can be told.
    mute = where == "message" and what in ("memory", "odd")
    check_death(trial, sabotaged(trial, where, what), "ended with status 1" if mute else DEATHS[what])


@trials("stop-worker", quick=0, full=50, shapes=3)
def test_worker_stands_still(trial: Trial) -> None:
    """A worker that stands still ends the export within seconds instead of stopping it for ever."""
    ended = sabotaged(trial, trial.random.choice(("idle", "batch", "message")), "STOP")
    check_death(trial, ended, "was stopped for more than 3 seconds")


@pytest.mark.parametrize("workers", ["0", "2"])
def test_faults_reach_their_call(workers: str) -> None:
    """The means that these tests use work: a call that is found is the one that gets the fault."""
    needs_strace()
    calls = calls_of(("-f", "json", "-j", workers), ("fsync",), "OUT")
    assert len(calls) == 6
