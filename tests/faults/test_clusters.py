"""Many archives, and parts of one, on a Dask cluster of which something dies at a random time."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass

import psutil

from tests.clusters import dask, unused_port
from tests.faults import invariants
from tests.faults.matrix import trials
from tests.faults.test_many import ARCHIVES, exports_of
from tests.faults.trial import Run, Trial

WAYS = (
    *("worker killed", "INT", "worker killed", "exporter killed", "worker killed", "client killed", "scheduler killed"),
    *("worker killed", "INT", "worker stopped", "client killed", "worker killed", "scheduler killed", "TERM"),
)
USUAL_SECONDS = 2.5
"""In which a client loads Dask, and two workers export the archives."""

SPLIT = ("-f", "json", "--split-posts", "150")


@dataclass(frozen=True, slots=True)
class Cluster:
    """A scheduler, and two workers."""

    address: str
    scheduler: subprocess.Popen[bytes]
    workers: list[subprocess.Popen[bytes]]


@contextlib.contextmanager
def cluster(trial: Trial) -> Iterator[Cluster]:
    """Started for one trial."""
    port = unused_port()
    address = f"tcp://127.0.0.1:{port}"
    local = ("--host", "127.0.0.1", "--port", str(port), "--no-dashboard")
    # What Dask leaves when it is killed is not ours.
    environment = trial.environment(DASK_TEMPORARY_DIRECTORY=str(trial.place / "dask"))
    scheduler = dask("scheduler", *local, environment=environment)
    arguments = (address, "--nthreads", "1", "--no-nanny", "--no-dashboard", "--memory-limit", "0")
    workers = [dask("worker", *arguments, environment=environment) for _ in range(2)]
    try:
        yield Cluster(address, scheduler, workers)
    finally:
        for process in (*workers, scheduler):
            process.kill()
            process.wait()


def exporters(made: Cluster) -> list[psutil.Process]:
    """The exporter processes of all workers."""
    found = []
    for worker in made.workers:
        with contextlib.suppress(psutil.Error):
            found += psutil.Process(worker.pid).children()
    return found


def disturb(trial: Trial, made: Cluster, run: Run, way: str) -> set[int]:
    """Do it; returns the exit statuses that are right."""
    if way in ("INT", "TERM"):
        number = getattr(signal, f"SIG{way}")
        run.process.send_signal(number)
        return {0, 128 + number}
    if way == "client killed":
        run.process.kill()
        return {0, -signal.SIGKILL}
    if way == "exporter killed":
        for exporter in exporters(made)[:1]:
            exporter.kill()
        return {0, 14}
    process = made.scheduler if way == "scheduler killed" else trial.random.choice(made.workers)
    process.send_signal(signal.SIGTERM if way == "worker stopped" else signal.SIGKILL)
    return {0, 14} if way == "scheduler killed" else {0}


def check_cluster_settles(trial: Trial, made: Cluster) -> None:
    """No exporter stays, and nothing partial."""
    deadline = time.monotonic() + 20
    while (exporters(made) or any(trial.out.glob("**/.*.partial"))) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not exporters(made)
    assert not list(trial.out.glob("**/.*.partial"))


def copies(trial: Trial) -> list[str]:
    """More archives beside that of the trial."""
    others = [trial.archive.with_name(f"other{number}.db") for number in range(ARCHIVES - 1)]
    for other in others:
        shutil.copyfile(trial.archive, other)
    trial.remember()
    return [str(other) for other in others]


@trials("cluster", quick=0, full=140, shapes=2)
def test_a_cluster_is_disturbed(trial: Trial) -> None:
    """Each final name is a whole export, no exporter or partial file stays, and the next run does only the rest."""
    others = copies(trial)
    way = WAYS[trial.number % len(WAYS)]
    with cluster(trial) as made:
        run = trial.start(*others, *trial.shape, "--cluster", made.address, "-q", "--no-sync")
        time.sleep(trial.random.uniform(0.3, USUAL_SECONDS))
        expected = disturb(trial, made, run, way)
        ended = run.end()
        assert ended.status in expected, (way, ended)
        check_cluster_settles(trial, made)
    invariants.assert_processes_gone(trial.mark)
    complete = exports_of(trial)
    if ended.status == 0:
        assert len(complete) == ARCHIVES
    elif ended.status > 128 and complete:
        (line,) = ended.errors.splitlines()
        assert f" of {ARCHIVES} archives " in line, (line, complete)
    trial.check_untouched()
    again = trial.start(*others, *trial.shape, "-j", "2", "--resume-batch").end()
    assert again.status == 0, again.errors
    assert exports_of(trial) >= complete
    assert len(exports_of(trial)) == ARCHIVES


@trials("cluster", quick=0, full=20, shapes=6)
def test_two_clients_at_once(trial: Trial) -> None:
    """As when a task runs twice: both wait for each other, find what is complete, and end with all archives."""
    others = copies(trial)
    with cluster(trial) as made:
        runs = []
        for _ in range(2):
            runs.append(trial.start(*others, *trial.shape, "--cluster", made.address, "-q", "--no-sync"))
            time.sleep(trial.random.uniform(0, 0.5))
        for run in runs:
            ended = run.end()
            assert ended.status == 0, ended
        check_cluster_settles(trial, made)
    invariants.assert_processes_gone(trial.mark)
    assert len({path.split("/")[-4] for path in exports_of(trial)}) == ARCHIVES
    trial.check_untouched()


@trials("cluster", quick=0, full=42)
def test_parts_are_disturbed(trial: Trial) -> None:
    """There is a whole export or none, and nothing partial stays."""
    way = WAYS[trial.number % len(WAYS)]
    with cluster(trial) as made:
        run = trial.start(*SPLIT, "--cluster", made.address, "-q", "--no-sync")
        time.sleep(trial.random.uniform(0.3, USUAL_SECONDS))
        expected = disturb(trial, made, run, way)
        ended = run.end()
        deadline = time.monotonic() + 20
        while exporters(made) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not exporters(made)
    leftovers = way == "client killed"
    assert ended.status in expected, (way, ended)
    exports = trial.check(ended, expected, data=trial.ground.expected_by(SPLIT), leftovers=leftovers)
    assert bool(exports) == (ended.status == 0) or way == "client killed"
