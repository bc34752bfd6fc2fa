"""Holding a place: one at a time, and never by the dead."""

from __future__ import annotations

import errno
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from skyexport import ExportOptions, OutputError, export
from skyexport.errors import AlreadyRunningError
from skyexport.runtime.lock import Lock, remove_leftovers
from tests.archives import file_archive, post
from tests.command import files_below
from tests.conftest import posix_only

HOLD = """
import sys
from pathlib import Path
from skyexport.runtime.lock import Lock
lock = Lock(Path(sys.argv[1]), "into here")
lock.take()
print("held", flush=True)
sys.stdin.read()
"""

CONTEND = """
import os, sys
from pathlib import Path
from skyexport.errors import AlreadyRunningError
from skyexport.runtime.lock import Lock
held = 0
while held < 200:
    lock = Lock(Path(sys.argv[1]), "into here")
    try:
        lock.take()
    except AlreadyRunningError:
        continue
    os.close(os.open(sys.argv[2], os.O_CREAT | os.O_EXCL))
    os.unlink(sys.argv[2])
    lock.release()
    held += 1
"""


def taken(path: Path) -> Lock:
    lock = Lock(path, "into here")
    lock.take()
    return lock


def test_held_by_one(tmp_path: Path) -> None:
    """Nobody else gets it, in this process or thread either, and the error says who has it; released, it is free."""
    lock = taken(tmp_path / "lock")
    assert lock.alone
    with pytest.raises(AlreadyRunningError, match="another export into here is running") as caught:
        taken(tmp_path / "lock")
    assert f"process {os.getpid()} on {socket.gethostname()} since 20" in str(caught.value)
    assert caught.value.exit_code == 15
    lock.release()
    assert files_below(tmp_path) == []
    again = taken(tmp_path / "lock")
    lock.release()
    with pytest.raises(AlreadyRunningError):
        taken(tmp_path / "lock")
    again.release()


def test_the_dead_hold_nothing(tmp_path: Path) -> None:
    """The lock goes with a process that is killed, though its file stays."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(AlreadyRunningError, match=f"process {holder.pid} on"):
            taken(tmp_path / "lock")
        holder.kill()
    assert files_below(tmp_path) == ["lock"]
    lock = taken(tmp_path / "lock")
    assert lock.alone
    assert f"process {os.getpid()} " in (tmp_path / "lock").read_text()
    lock.release()
    assert files_below(tmp_path) == []


def test_never_two_at_once(tmp_path: Path) -> None:
    """Processes that take it and let go all the time, so that its file comes and goes, never have it together."""
    command = [sys.executable, "-c", CONTEND, str(tmp_path / "lock"), str(tmp_path / "inside")]
    contenders = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(3)]
    for contender in contenders:
        _, said = contender.communicate(timeout=60)
        assert contender.returncode == 0, said
    assert files_below(tmp_path) == []


def test_what_is_no_lock_file(tmp_path: Path) -> None:
    """A directory under its name is an error, and stays."""
    (tmp_path / "lock").mkdir()
    with pytest.raises(OSError, match="lock"):
        taken(tmp_path / "lock")
    assert files_below(tmp_path) == ["lock"]


@posix_only
@pytest.mark.parametrize("kind", ["link", "dangling link", "fifo"])
def test_what_was_planted(tmp_path: Path, kind: str) -> None:
    """A link or a FIFO that somebody put there is neither followed nor waited for."""
    (tmp_path / "mine").write_text("mine")
    if kind == "fifo":
        os.mkfifo(tmp_path / "lock")
    else:
        (tmp_path / "lock").symlink_to("mine" if kind == "link" else "nowhere")
    with pytest.raises(OSError, match="lock"):
        taken(tmp_path / "lock")
    assert (tmp_path / "mine").read_text() == "mine"
    assert files_below(tmp_path) == ["lock", "mine"]


@posix_only
def test_no_locks_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a file system has no locks the export goes on, and removes nothing that might be another's."""

    def none(_: int, __: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", none)
    (tmp_path / "left").mkdir()
    lock = taken(tmp_path / "lock")
    assert not lock.alone
    assert remove_leftovers(lock, tmp_path, re.compile("left")) == []
    lock.release()
    assert files_below(tmp_path) == ["left"]


@posix_only
def test_only_leftovers_are_removed(tmp_path: Path) -> None:
    """Files and directories of the very name go; links stay, and so does what they point to, and what others own."""
    place = tmp_path / "place"
    (place / "left1" / "deep").mkdir(parents=True)
    (place / "left2").write_text("half")
    (tmp_path / "mine").mkdir()
    (place / "left3").symlink_to(tmp_path / "mine")
    (place / "left1" / "out").symlink_to(tmp_path / "mine")
    os.mkfifo(place / "left4")
    (place / "left55").write_text("mine")
    (place / "bleft1").write_text("mine")
    kept = ["bleft1", "left3", "left4", "left55"]
    if os.geteuid() == 0:
        (place / "left6").mkdir()
        os.chown(place / "left6", 12345, -1)
        kept.append("left6")
    lock = taken(tmp_path / "lock")
    assert remove_leftovers(lock, place, re.compile("left[0-9]")) == [place / "left1", place / "left2"]
    assert files_below(place) == kept
    assert (tmp_path / "mine").is_dir()
    lock.release()


def test_threads_of_one_process(tmp_path: Path) -> None:
    """Threads exclude each other like processes."""
    got: list[Lock] = []
    refused: list[AlreadyRunningError] = []

    def take() -> None:
        try:
            got.append(taken(tmp_path / "lock"))
        except AlreadyRunningError as error:
            refused.append(error)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(got), len(refused)) == (1, 7)
    got[0].release()


@posix_only
def test_a_lock_file_of_another_user() -> None:
    """What another user's dead run left can be locked without writing to it, and stays where it may not be removed."""
    if os.geteuid() != 0:
        pytest.skip("only the superuser can act for another user")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = Path(folder) / "lock"
        path.write_text("process 1 on old since then\n")
        program = HOLD.replace("lock.take", "import os; os.setuid(12345); lock.take")
        done = subprocess.run(
            [sys.executable, "-c", program, str(path)], stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
        assert done.stdout == b"held\n", done.stderr
        assert path.read_text() == "process 1 on old since then\n"


def test_a_file_of_somebody_else(tmp_path: Path) -> None:
    """A file of that name with anything else in it is somebody's own: it stays as it is, and the export is refused."""
    notes = tmp_path / ".out.json.lock"
    notes.write_text("my notes")
    archive = file_archive(tmp_path / "a.db", [post(1)])
    with pytest.raises(OutputError, match="is not a lock file of an export") as caught:
        export(ExportOptions(archive=archive, to=tmp_path / "out.json"))
    assert caught.value.exit_code == 12
    assert notes.read_text() == "my notes"
    assert not (tmp_path / "out.json").exists()
