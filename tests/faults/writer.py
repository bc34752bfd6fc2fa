"""A program that writes to an archive in numbered steps; the number of a step determines the state of the archive.

Step *n* is one transaction: it adds two posts, removes those of step *n* - 50, and sets a count of twenty old posts,
spread over the archive, to *n*. So an export that mixes two states shows it, and `state_at` can make any state again.

    python -m tests.faults.writer ARCHIVE JOURNAL_MODE PAUSE_SECONDS BUSY_MILLISECONDS all|posts SEED

It prints `ready` after its first step, continues until its standard input ends, and then prints statistics as JSON.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from tests.environment import ROOT
from tests.faults.trial import Trial, files_of, usual_ground

__all__ = ["Writer", "advance", "bytes_at", "files_at", "state_at", "step_of", "writing"]

_PAIRS = 50
_MARKER_EVERY = 100
_URI = re.compile(rb"at://live/(\d{8})/")


def _markers(connection: apsw.Connection) -> list[str]:
    """The uris of the old posts that every step changes."""
    rows = connection.execute("select uri from posts where uri not like 'at://live/%' order by uri").fetchall()
    return [str(uri) for (uri,) in rows][::_MARKER_EVERY]


def _add(connection: apsw.Connection, step: int, markers: Sequence[str]) -> None:
    """The two posts of a step; they lie in the instant of an old one."""
    for half in "ab":
        connection.execute(
            "insert into posts (uri, cid, did, text, created_at, indexed_at, archived_at)"
            " select ?, cid, did, ?, created_at, indexed_at, archived_at from posts where uri = ?",
            (f"at://live/{step:08d}/{half}", f"step {step}", markers[step % len(markers)]),
        )


def _mark(connection: apsw.Connection, step: int, markers: Sequence[str]) -> None:
    connection.executemany("update posts set like_count = ? where uri = ?", [(step, uri) for uri in markers])


def advance(connection: apsw.Connection, step: int, markers: Sequence[str] | None = None) -> None:
    """Do one step."""
    markers = markers or _markers(connection)
    connection.execute("begin immediate")
    try:
        _add(connection, step, markers)
        for half in "ab":
            connection.execute("delete from posts where uri = ?", (f"at://live/{step - _PAIRS:08d}/{half}",))
        _mark(connection, step, markers)
        connection.execute("commit")
    except BaseException:
        if connection.in_transaction:
            connection.execute("rollback")
        raise


def state_at(step: int, path: Path) -> Path:
    """Make the archive as it is after *step*, from the usual one, at *path*."""
    shutil.copyfile(usual_ground().archive, path)
    if step:
        with contextlib.closing(apsw.Connection(str(path))) as connection, connection:
            markers = _markers(connection)
            for number in range(max(1, step - _PAIRS + 1), step + 1):
                _add(connection, number, markers)
            _mark(connection, step, markers)
    return path


def files_at(step: int, arguments: Sequence[str] = ()) -> tuple[bytes, ...]:
    """The data files of an export, in one process, of the archive as it is after *step*."""
    with tempfile.TemporaryDirectory() as folder:
        return files_of(state_at(step, Path(folder, "archive.db")), arguments)


def bytes_at(step: int) -> bytes:
    """The JSON data file of that export."""
    (data,) = files_at(step)
    return data


def step_of(data: bytes) -> int:
    """The last step that an export has posts of."""
    return max((int(number) for number in _URI.findall(data)), default=0)


@dataclass(frozen=True, slots=True)
class Writer:
    """A writer at work."""

    process: subprocess.Popen[str]

    def stop(self) -> dict[str, Any]:
        """Make it close the archive. Returns its statistics: `steps`, `busy`, `blocked_seconds`, `reset`."""
        output, _ = self.process.communicate(timeout=60)
        assert self.process.returncode == 0
        found = json.loads(output)
        assert isinstance(found, dict)
        return found


@contextlib.contextmanager
def writing(
    trial: Trial, journal_mode: str, pause_seconds: float, busy_milliseconds: int, operations: str = "posts"
) -> Iterator[Writer]:
    """Run a writer on a trial's archive, which has done at least its first step."""
    command = [
        sys.executable, "-m", "tests.faults.writer", str(trial.archive), journal_mode, str(pause_seconds),
        str(busy_milliseconds), operations, str(trial.random.randrange(1 << 30)),
    ]  # fmt: skip
    with subprocess.Popen(
        command, cwd=ROOT, env=trial.environment(PYTHONPATH="tools"), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            yield Writer(process)
        finally:
            process.kill()


def _other_work(connection: apsw.Connection, choices: random.Random) -> None:
    kind = choices.choice(("vacuum", "passive", "full", "restart", "truncate"))
    connection.execute("vacuum" if kind == "vacuum" else f"pragma wal_checkpoint({kind})").fetchall()


def main(
    path: str, journal_mode: str, pause_seconds: float, busy_milliseconds: int, operations: str, seed: int
) -> None:
    """The program."""
    choices = random.Random(seed)
    step = busy = 0
    blocked_seconds, blocked_since = 0.0, None
    with contextlib.closing(apsw.Connection(path)) as connection:
        connection.set_busy_timeout(10_000)
        connection.pragma("journal_mode", journal_mode)
        connection.set_busy_timeout(busy_milliseconds)
        markers = _markers(connection)
        while True:
            try:
                if operations == "all" and step % 20 == 19:
                    _other_work(connection, choices)
                advance(connection, step + 1, markers)
                step += 1
                blocked_since = None
            except apsw.BusyError:
                busy += 1
                blocked_since = blocked_since or time.monotonic()
                blocked_seconds = max(blocked_seconds, time.monotonic() - blocked_since)
            if step == 1:
                sys.stdout.write("ready\n")
                sys.stdout.flush()
            if step and select.select([sys.stdin], [], [], pause_seconds)[0]:
                break
        connection.set_busy_timeout(2000)
        reset = journal_mode != "wal" or connection.execute("pragma wal_checkpoint(truncate)").fetchall()[0][0] == 0
    found = {"steps": step, "busy": busy, "blocked_seconds": blocked_seconds, "reset": reset}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4]), sys.argv[5], int(sys.argv[6]))
