"""Signals that people and systems send, and readers that go away."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

from tests.faults.matrix import trials
from tests.faults.trial import Run, Trial

WAYS = {
    "INT to all": (signal.SIGINT, True, 1),
    "INT twice": (signal.SIGINT, False, 2),
    "INT": (signal.SIGINT, False, 1),
    "TERM": (signal.SIGTERM, False, 1),
    "HUP": (signal.SIGHUP, False, 1),
    "INT thrice": (signal.SIGINT, False, 3),
}


MEDIA = ("--media", "--media-root", "ROOT")
MORE = [(), (), MEDIA, (*MEDIA, "--link-media", "EARLIER")]
"""Further arguments: half of the runs have media."""


def is_listening(run: Run) -> bool:
    """Whether the program has taken signals into its own hands; before, they are Python's and the shell's matter."""
    try:
        status = Path(f"/proc/{run.process.pid}/status").read_text()
    except OSError:
        return False
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
    # SIGHUP is the last one that it takes.
    return bool(int(caught, 16) >> (signal.SIGHUP - 1) & 1)


@trials("signals", quick=1, full=600, shapes=9)
def test_signal(trial: Trial) -> None:
    """A signal ends the export within two seconds with 128 + its number, and nothing stays; or the export is whole.

    The second one changes nothing; the third ends the process at once, and leaves the rest to the next run.
    """
    number, everybody, times = list(WAYS.values())[trial.number % len(WAYS)]
    workers, snapshot = trial.random.choice(("0", "2")), trial.random.choice(("pin", "copy"))
    arguments = (*trial.shape, "-j", workers, "--snapshot", snapshot, *trial.random.choice(MORE))
    usual = trial.ground.seconds(arguments)
    started = time.monotonic()
    run = trial.start_by(arguments, start_new_session=True)
    run.wait_for(lambda: is_listening(run))
    time.sleep(max(0.0, trial.random.uniform(0, usual) - (time.monotonic() - started)))
    asked = time.monotonic()
    for _ in range(times):
        if run.process.poll() is None:
            os.killpg(run.process.pid, number) if everybody else run.process.send_signal(number)
            time.sleep(trial.random.uniform(0, 0.02) if times > 1 else 0)
    ended = run.end()
    assert time.monotonic() - asked < 2
    data = trial.ground.expected_by(arguments)
    if times > 2 and "skyexport: " not in ended.errors:
        trial.check(replace(ended, errors="", status=0), {0}, data=data, leftovers=True)
        assert ended.status in (0, 128 + number)
        trial.check_next_run()
        return
    exports = trial.check(ended, {0, 128 + number}, data=data)
    if ended.status:
        assert (
            f"the export was complete: {exports[0].parent}" if exports else "nothing of this export"
        ) in ended.errors
    assert exports or ended.status
    assert bool(exports) == trial.out.exists()


@trials("closed-streams", quick=1, full=20, shapes=5)
def test_nobody_listens(trial: Trial) -> None:
    """With standard error or output closed, or its reader gone, the export is done all the same."""
    redirections = (
        '"$@" 2>&-',
        '"$@" >&-',
        '"$@" >&- 2>&-',
        '"$@" 2> >(head -n 1 >/dev/null)',
        '"$@" 2>&1 >/dev/null | head -n 1 >/dev/null; exit ${PIPESTATUS[0]}',
    )
    command = trial.command(*trial.shape, "-j", str(trial.random.choice((0, 2))), "--progress", "json")
    script = redirections[trial.number % len(redirections)]
    ended = Run(["bash", "-c", script, "-", *command], env=trial.environment()).end()
    assert len(trial.check(ended, {0}, data=trial.ground.expected_by(trial.shape))) == 1


@trials("closed-streams", quick=1, full=20)
def test_reader_of_the_data_leaves(trial: Trial) -> None:
    """A reader of standard output that leaves ends the export as shells expect it, without a word."""
    command = trial.command("-j", str(trial.random.choice((0, 2))), "--to", "-", to_directory=False)
    lines = trial.random.randrange(1, 20_000)
    script = f'"$@" | head -n {lines} >/dev/null; exit ${{PIPESTATUS[0]}}'
    ended = Run(["bash", "-c", script, "-", *command], env=trial.environment()).end()
    trial.check(ended, {128 + signal.SIGPIPE})
    assert ended.errors == ""
