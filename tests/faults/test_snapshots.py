"""Archives that other programs write to, replace, or left behind in the middle of something."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import apsw

from tests.faults import invariants
from tests.faults.matrix import trials
from tests.faults.privileges import NOBODY, needs_nobody, workers_of_nobody
from tests.faults.shapes import USUAL, Shape, options_of
from tests.faults.trial import Ended, Trial, json_summary
from tests.faults.writer import advance, bytes_at, files_at, state_at, step_of, writing


def check_one_state(trial: Trial, ended: Ended, shape: Shape = USUAL[0]) -> int:
    """The export is what the archive held after one step of its writer, byte for byte; returns the step."""
    (first,) = trial.check(ended, {0}, untouched=False)
    files = invariants.data_files(first.parent)
    step = max(step_of(invariants.plain(path.name, path.read_bytes())) for path in files)
    assert step > 0
    assert tuple(path.read_bytes() for path in files) == files_at(step, shape)
    return step


@trials("write-at-start", quick=1, full=1000, shapes=1)
def test_writer_at_the_start(trial: Trial) -> None:
    """A program that commits 2 to 1,500 times a second does not make workers see different states."""
    pause_seconds = 1 / trial.random.choice((2, 20, 200, 500, 1500))
    with writing(trial, "wal", pause_seconds, 5000) as writer:
        time.sleep(trial.random.uniform(0, 0.05))
        ended = trial.export(workers=trial.random.choice((2, 2, 3)), **options_of(trial.shape))
        done = writer.stop()
    assert check_one_state(trial, ended, trial.shape) <= done["steps"]
    assert [path.name for path in trial.archive.parent.iterdir()] == ["archive.db"]


@trials("write-meanwhile", quick=0, full=100)
def test_writer_during_the_export(trial: Trial) -> None:
    """Nor does one that adds, changes, deletes, vacuums and checkpoints all the time; its log can start anew then."""
    with writing(trial, "wal", 0.0005, 5000, "all") as writer:
        ended = trial.export(workers=trial.random.choice((0, 1, 2, 3)), batch_size=trial.random.choice((3, 10, 100)))
        done = writer.stop()
    assert check_one_state(trial, ended) < done["steps"]
    assert done["reset"]
    assert [path.name for path in trial.archive.parent.iterdir()] == ["archive.db"]


@trials("rollback-writer", quick=0, full=100, shapes=9)
def test_rollback_writer(trial: Trial) -> None:
    """In rollback mode a writer that waits lets nobody begin to read: all get hold of one state all the same."""
    with writing(trial, "delete", trial.random.uniform(0.002, 0.03), 10_000) as writer:
        ended = trial.export(workers=trial.random.choice((0, 2, 3)), **options_of(trial.shape))
        done = writer.stop()
    assert check_one_state(trial, ended, trial.shape) <= done["steps"]
    assert done["busy"] == 0
    assert [path.name for path in trial.archive.parent.iterdir()] == ["archive.db"]


@trials("impatient-writer", quick=0, full=20)
def test_archiver_that_does_not_wait(trial: Trial) -> None:
    """One that gives up when the archive is held is kept out just as long as the export says, and not long."""
    with writing(trial, "delete", 0.002, 0) as writer:
        ended = trial.start("-j", "2", "--json", "--snapshot", "copy").end()
        done = writer.stop()
    check_one_state(trial, ended)
    held = json_summary(ended)["archive_held_seconds"]
    assert done["blocked_seconds"] <= held + 0.2
    if trial.full:
        assert held <= 0.3


@trials("replaced-archive", quick=0, full=50)
def test_archive_is_replaced(trial: Trial) -> None:
    """An archive that is replaced while it is read is exported as it was, or as it is then, or not at all."""
    other = state_at(1, trial.place / "other.db")
    arguments = ("-j", trial.random.choice(("0", "2")))
    run = trial.start_by(arguments)
    time.sleep(trial.random.uniform(0, trial.ground.seconds(arguments)))
    other.replace(trial.archive)
    ended = run.end()
    exports = trial.check(ended, {0, 11}, untouched=False)
    assert bool(exports) == (ended.status == 0)
    for path in exports:
        assert path.read_bytes() in (trial.ground.json, bytes_at(1))
    assert [path.name for path in trial.archive.parent.iterdir()] == ["archive.db"]


@contextlib.contextmanager
def opened(trial: Trial, journal_mode: str) -> Iterator[apsw.Connection]:
    """The trial's archive, open for writing."""
    with contextlib.closing(apsw.Connection(str(trial.archive))) as connection:
        connection.pragma("journal_mode", journal_mode)
        yield connection


def start_in_read_only_directory(trial: Trial, *arguments: str) -> Ended:
    """Run the command as a user who may only read the archive and its directory."""
    needs_nobody()
    theirs = trial.place / "theirs"
    theirs.mkdir()
    theirs.chmod(0o777)
    trial.out = theirs / "out"
    trial.archive.parent.chmod(0o555)
    return trial.start(*arguments, before=NOBODY).end()


@trials("read-only-archive", quick=1, full=10, shapes=3)
def test_closed_wal_archive_that_is_read_only(trial: Trial) -> None:
    """A closed WAL archive on read-only media is exported without a file being made beside it."""
    with opened(trial, "wal"):
        pass
    trial.remember()
    ended = start_in_read_only_directory(trial, *trial.shape, "-j", workers_of_nobody(trial.number % 3))
    assert len(trial.check(ended, {0}, data=trial.ground.expected_by(trial.shape))) == 1


def leave_log_without_index(trial: Trial) -> int:
    """Files as they are when only the log was copied along; returns the step that they hold."""
    step = trial.random.randint(1, 20)
    kept = trial.place / "kept"
    kept.mkdir()
    with opened(trial, "wal") as connection:
        connection.pragma("wal_autocheckpoint", 0)
        for number in range(1, step + 1):
            advance(connection, number)
        for path in trial.archive.parent.glob("archive.db*"):
            shutil.copyfile(path, kept / path.name)
    for path in kept.iterdir():
        if not path.name.endswith("-shm"):
            path.replace(trial.archive.parent / path.name)
    return step


def leave_hot_journal(trial: Trial) -> int:
    """Files as a program that is killed in the middle of a transaction leaves them."""
    kept = trial.place / "kept"
    kept.mkdir()
    with opened(trial, "delete") as connection:
        connection.pragma("cache_size", 5)
        connection.execute("begin immediate; update posts set text = 'never happened'")
        for path in trial.archive.parent.glob("archive.db*"):
            shutil.copyfile(path, kept / path.name)
        connection.execute("rollback")
    for path in kept.iterdir():
        path.replace(trial.archive.parent / path.name)
    assert Path(f"{trial.archive}-journal").stat().st_size
    return 0


def lose_log(trial: Trial) -> int:
    """A WAL archive whose log was not copied along: it holds what its last checkpoint left."""
    leave_log_without_index(trial)
    Path(f"{trial.archive}-wal").unlink()
    return 0


@trials("interrupted-archive", quick=1, full=60, shapes=6)
def test_archive_left_in_the_middle(trial: Trial) -> None:
    """Work that another program left unfinished is completed on a copy; it is never ignored, or written to."""
    leave = (leave_log_without_index, leave_hot_journal, lose_log)[trial.number % 3]
    step = leave(trial)
    trial.remember()
    workers = trial.random.choice((0, 2))
    if trial.number // 3 % 2 == 1:
        ended = start_in_read_only_directory(trial, *trial.shape, "-j", workers_of_nobody(workers))
    else:
        ended = trial.start(*trial.shape, "-j", str(workers)).end()
    assert len(trial.check(ended, {0}, data=files_at(step, trial.shape))) == 1
