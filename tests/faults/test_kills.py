"""Processes that die or stand still at the worst time."""

from __future__ import annotations

import contextlib
import shutil
import signal
import time

import psutil
import pytest

from tests.faults.matrix import trials
from tests.faults.tracing import Call, calls_of, needs_strace, with_fault
from tests.faults.trial import SABOTAGE, Ended, Trial

KILLED = -signal.SIGKILL
FORMATS = ("json", "csv")


@trials("1", quick=4, full=1000)
def test_coordinator_is_killed(trial: Trial) -> None:
    """Whenever the coordinator is killed, there is a whole export or none, no worker lives on, the next run works."""
    format, workers = trial.random.choice(FORMATS), trial.random.choice((0, 2, 2, 3))
    run = trial.start("-f", format, "-j", str(workers))
    time.sleep(trial.random.uniform(0, 1.2 * trial.ground.seconds(workers)))
    run.process.kill()
    ended = run.end()
    trial.check(ended, {0, KILLED}, data=trial.ground.expected[format], leftovers=True)
    trial.check_next_run()


@trials("1", quick=1, full=50, awaits="sweeping")
def test_leftovers_of_a_kill_are_removed(trial: Trial) -> None:
    """What a killed export left, the next one into the same place takes away."""
    run = trial.start("-j", str(trial.random.choice((0, 2))))
    if run.wait_for(trial.partial):
        time.sleep(trial.random.uniform(0, 0.05))
    run.process.kill()
    trial.check(run.end(), {0, KILLED}, data=trial.ground.expected["json"], leftovers=True)
    trial.check_next_run()
    assert not list(trial.out.glob("*/.*.partial"))


WAYS_TO_END = [
    ("-f", "csv", "-j", "2"),
    ("-f", "json", "-j", "0", "--to", "OUT/posts"),
    ("-f", "json", "-j", "0"),
    ("-f", "csv", "-j", "0"),
    ("-f", "json", "-j", "2"),
    ("-f", "csv", "-j", "2", "--to", "OUT/posts", "--overwrite"),
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


@trials("2", quick=2, full=lambda: len(all_killable_calls()))
def test_coordinator_is_killed_at_a_call(trial: Trial) -> None:
    """The same at every single step of writing, syncing, naming, and talking to workers."""
    needs_strace()
    if trial.full:
        call = all_killable_calls()[trial.number]
    else:
        call = trial.random.choice(killable_calls(WAYS_TO_END[trial.number]))
    format = call.arguments[1]
    ended = with_fault(trial, "signal=KILL", call)
    if "--to" not in call.arguments:
        trial.check(ended, {0, KILLED}, data=trial.ground.expected[format], leftovers=True)
        trial.check_next_run()
        return
    target = trial.out / "posts"
    if target.exists():
        assert target.read_bytes() == trial.ground.expected[format]
    assert all(path.name.startswith(".") for path in trial.out.iterdir() if path != target)
    shutil.rmtree(trial.out)
    trial.check(ended, {0, KILLED})


def sabotaged(trial: Trial, where: str, what: str, *, workers: int = 2) -> Ended:
    """Run the command with a fault in one of its workers."""
    token = trial.place / "token"
    token.touch()
    plan = f"{where}/{what}/{1 if where == 'idle' else trial.random.randint(1, 8)}"
    environment = {"PYTHONPATH": str(SABOTAGE), "SKYEXPORT_SABOTAGE": plan, "SKYEXPORT_TOKEN": str(token)}
    return trial.start("-j", str(workers), environment=environment).end()


def check_death(trial: Trial, ended: Ended, cause: str) -> None:
    """A worker's death is exit code 14, named with its batch; nothing is left."""
    trial.check_failed(ended, {14})
    assert cause in ended.errors
    assert "in batch " in ended.errors or "before its first batch" in ended.errors


@trials("3", quick=6, full=300)
def test_worker_is_killed(trial: Trial) -> None:
    """A worker that is killed, whatever it is doing, ends the export with its name, and takes its siblings along."""
    where = ("any", "idle", "batch", "message")[trial.number % 4]
    if where != "any":
        check_death(trial, sabotaged(trial, where, "KILL"), "was killed by signal 9")
        return
    run = trial.start("-j", "2")
    workers = run.workers(2)
    time.sleep(trial.random.uniform(0, 0.8 * trial.ground.seconds(2)))
    with contextlib.suppress(IndexError, psutil.NoSuchProcess):
        trial.random.choice(workers).kill()
    started = time.monotonic()
    ended = run.end()
    assert time.monotonic() - started < 2
    # It may have come when all was read: workers are killed then anyway.
    exports = trial.check(ended, {0, 14}, data=trial.ground.expected["json"])
    assert bool(exports) == (ended.status == 0)
    if ended.status:
        check_death(trial, ended, "was killed by signal 9")


DEATHS = {
    "crash": "was killed by signal 11",
    "exit": "ended with status 7",
    "memory": "MemoryError",
    "odd": "OddError",
}


@trials("4", quick=4, full=200)
def test_worker_fails(trial: Trial) -> None:
    """So does one that crashes, exits, has no memory, or raises something strange."""
    what = list(DEATHS)[trial.number % len(DEATHS)]
    check_death(trial, sabotaged(trial, trial.random.choice(("idle", "batch", "message")), what), DEATHS[what])


@trials("5", quick=1, full=50, awaits="stalls")
def test_worker_stands_still(trial: Trial) -> None:
    """A worker that stands still ends the export within seconds instead of stopping it for ever."""
    ended = sabotaged(trial, trial.random.choice(("idle", "batch", "message")), "STOP")
    check_death(trial, ended, "worker ")


@pytest.mark.parametrize("workers", ["0", "2"])
def test_faults_reach_their_call(workers: str) -> None:
    """The means that these tests use work: a call that is found is the one that gets the fault."""
    needs_strace()
    calls = calls_of(("-f", "json", "-j", workers), ("fsync",), "OUT")
    assert len(calls) == 5
