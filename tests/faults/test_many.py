"""Many archives by one command, disturbed at random times."""

from __future__ import annotations

import shutil
import signal
import time

import psutil

from tests.faults import invariants
from tests.faults.matrix import trials
from tests.faults.trial import Run, Trial

ARCHIVES = 12
USUAL_SECONDS = 1.2
"""In which two exporters start, and export them."""

WAYS = ("INT", "exporter killed", "command killed", "TERM", "exporter stopped", "INT to all")


def exporters(run: Run) -> list[psutil.Process]:
    """Those that run now."""
    try:
        return psutil.Process(run.process.pid).children()
    except psutil.Error:
        return []


def disturb(run: Run, way: str) -> set[int]:
    """Do it; returns the exit statuses that are right."""
    if way == "command killed":
        run.process.kill()
        return {0, -signal.SIGKILL}
    if way.startswith("exporter"):
        for exporter in exporters(run)[:1]:
            exporter.send_signal(signal.SIGKILL if way.endswith("killed") else signal.SIGTERM)
        return {0, 14}
    number = signal.SIGTERM if way == "TERM" else signal.SIGINT
    # ArchivePool are no part of the group.
    run.process.send_signal(number)
    return {0, 128 + number}


@trials("many-archives", quick=1, full=240, shapes=10)
def test_many_archives_are_disturbed(trial: Trial) -> None:
    """Each final name is a whole export, no process or partial file stays, and the next run does only the rest."""
    others = [trial.archive.with_name(f"other{number}.db") for number in range(ARCHIVES - 1)]
    for other in others:
        shutil.copyfile(trial.archive, other)
    trial.remember()
    way = WAYS[trial.number % len(WAYS)]
    run = trial.start(*others, *trial.shape, "-j", "2", "-q")
    run.wait_for(lambda: exporters(run))
    time.sleep(trial.random.uniform(0, USUAL_SECONDS))
    expected = disturb(run, way)
    ended = run.end()
    assert ended.status in expected, (way, ended)
    invariants.assert_processes_gone(trial.mark)
    complete = exports_of(trial)
    if ended.status == 0:
        assert len(complete) == ARCHIVES
    elif ended.status > 128:
        (line,) = ended.errors.splitlines()
        are = "is" if len(complete) == 1 else "are"
        assert line.endswith(f"; {len(complete)} of {ARCHIVES} archives {are} complete"), (line, complete)
    elif ended.status == 14:
        (line,) = ended.errors.splitlines()
        assert "the exporter of this archive was" in line
    trial.check_untouched()
    again = trial.start(*others, *trial.shape, "-j", "2", "--resume-batch").end()
    assert again.status == 0, again.errors
    assert f"{ARCHIVES} archives: {ARCHIVES - len(complete)} exported" in again.errors
    assert exports_of(trial) >= complete
    assert len(exports_of(trial)) == ARCHIVES


def exports_of(trial: Trial) -> set[str]:
    """The first data files of all exports that are there, which are whole."""
    found = []
    for place in sorted(trial.out.iterdir()) if trial.out.exists() else ():
        found += invariants.verified_exports(place)
    for files in found:
        assert tuple(path.read_bytes() for path in files) == trial.ground.expected_by(trial.shape)
    return {str(files[0]) for files in found}
