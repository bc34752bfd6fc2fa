"""Disks that are full, slow to say so, broken, or not there."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import shutil
from pathlib import Path

from tests.faults.matrix import trials
from tests.faults.privileges import NOBODY, needs_nobody, small_disk
from tests.faults.shapes import SPLIT
from tests.faults.tracing import Call, after_the_fault, calls_of, needs_strace, with_fault
from tests.faults.trial import Ended, Run, Trial

WAYS = [("-f", "json", "-j", "0"), ("-f", "csv", "-j", "2"), ("-f", "csv", "-j", "0"), ("-f", "json", "-j", "2")]
SPLIT_WAYS = [(*shape, "-j", workers) for shape in SPLIT for workers in ("0", "2")]
ALL_WAYS = (
    *WAYS,
    ("-f", "json", "-j", "0", "--to", "OUT/posts"),
    ("-f", "jsonl", "--compress", "zstd", "--split-posts", "700", "-j", "2"),
    ("-f", "parquet", "--split-posts", "1100", "-j", "0"),
)
"""Each with every call that may fail."""


def fill(trial: Trial, run: Run, place: Path, left_bytes: int, once: str = "out/*/.*.partial") -> None:
    """Leave only so much of a disk, once the export has begun to write to it, and there is such a path."""
    begun = run.wait_for(lambda: list(place.glob(once)))
    stopped = trial.stop(run)
    if begun:
        free = shutil.disk_usage(place).free
        (place / "ballast").write_bytes(b"\0" * max(0, free - left_bytes))
    trial.go_on(stopped)


@trials("full-disk", quick=1, full=80)
def test_full_disk(trial: Trial) -> None:
    """On a disk that is full from the start or becomes so, an export that does not fit leaves nothing, and says why."""
    arguments = WAYS[trial.number % len(WAYS)]
    data = b"".join(trial.ground.expected_by(arguments))
    steps = 40 if trial.full else 3
    share = 0.1 + 1.1 * (trial.number % steps) / (steps - 1)
    from_the_start = (trial.number // steps if trial.full else trial.number) % 2 == 1
    room = int(len(data) * share)
    with small_disk(trial, room if from_the_start else 4 * len(data)) as place:
        trial.out = place / "out"
        run = trial.start(*arguments)
        if not from_the_start:
            fill(trial, run, place, room)
        ended = run.end()
        exports = trial.check(ended, {0, 12}, data=trial.ground.expected_by(arguments))
        # Between what the data need and what the directories and the manifest need besides, both may be.
        assert ended.status == 12 if share < 1 else share < 1.05 or ended.status == 0
        assert bool(exports) == (ended.status == 0)
        assert trial.out.exists() == (ended.status == 0)
        if ended.status:
            assert "space" in ended.errors


@trials("full-disk", quick=1, full=60)
def test_disk_fills_in_the_second_file(trial: Trial) -> None:
    """The same when the first data file of several is whole already."""
    arguments = SPLIT_WAYS[trial.number % len(SPLIT_WAYS)]
    size = sum(map(len, trial.ground.expected_by(arguments)))
    with small_disk(trial, 4 * size + 100_000) as place:
        trial.out = place / "out"
        run = trial.start(*arguments)
        room = trial.random.choice((0, 4096, 20_000))
        fill(trial, run, place, room, "out/*/.*.partial/posts-00002.*")
        ended = run.end()
        exports = trial.check(ended, {0, 12}, data=trial.ground.expected_by(arguments))
        assert bool(exports) == trial.out.exists() == (ended.status == 0)
        if ended.status:
            assert "space" in ended.errors


def space_taking_calls(arguments: tuple[str, ...]) -> tuple[Call, ...]:
    """The calls of the coordinator that may find the disk full, but for the text of the lock, which may be missing."""
    names = ("write", "mkdir", "mkdirat", "openat", "rename", "renameat2", "link", "linkat")
    return calls_of(arguments, names, r"^openat.*OUT.*O_CREAT|^(?!openat)(?!write.*lock).*OUT")


def all_space_taking_calls() -> list[Call]:
    """Those of all ways to write."""
    return [call for arguments in ALL_WAYS for call in space_taking_calls(arguments)]


def check_call_failed(trial: Trial, ended: Ended, call: Call, message: str) -> None:
    """After an error in one call: exit code 12 and the system's words, and nothing is left."""
    after = after_the_fault(trial)
    assert after is not None, f"the run had no such call as {call.text}"
    trial.check_failed(ended, {12})
    assert message in ended.errors
    assert not [line for line in after if line.startswith(("fsync", "fdatasync", "rename", "link"))]


@trials("full-disk", quick=1, full=lambda: len(all_space_taking_calls()))
def test_call_finds_the_disk_full(trial: Trial) -> None:
    """The same when any single step finds the disk full."""
    needs_strace()
    calls = all_space_taking_calls() if trial.full else space_taking_calls(WAYS[trial.number])
    call = calls[trial.number % len(calls)] if trial.full else trial.random.choice(calls)
    ended = with_fault(trial, "error=ENOSPC", call)
    if call.name in ("link", "linkat"):
        # Where there can be no second name, the first one is changed.
        assert len(trial.check(ended, {0}, data=trial.ground.expected_by(call.arguments))) == 1
        return
    check_call_failed(trial, ended, call, os.strerror(errno.ENOSPC))


def late_calls() -> list[Call]:
    """Syncing and closing of what was written, but for the last sync, after the export has its name."""
    closing = r"^close.*OUT.*/(posts|manifest|SHA)|^close.*OUT/\.posts-|^fsync.*partial"
    return [call for arguments in ALL_WAYS for call in calls_of(arguments, ("fsync", "close"), closing)]


@trials("late-full-disk", quick=0, full=lambda: len(late_calls()))
def test_disk_is_full_at_the_end(trial: Trial) -> None:
    """So does an error that the system tells only when a file is synced or closed."""
    needs_strace()
    calls = late_calls() if trial.full else calls_of(WAYS[0], ("fsync", "close"), r"OUT.*partial.*(json|SUMS)")
    call = calls[trial.number % len(calls)] if trial.full else trial.random.choice(calls)
    check_call_failed(trial, with_fault(trial, "error=ENOSPC", call), call, os.strerror(errno.ENOSPC))


@trials("late-full-disk", quick=1, full=20)
def test_full_device(trial: Trial) -> None:
    """And a device that is full."""
    ended = trial.start("-j", str(trial.number % 4), "--to", "/dev/full", to_directory=False).end()
    trial.check_failed(ended, {12})
    assert os.strerror(errno.ENOSPC) in ended.errors


@trials("file-limit", quick=1, full=40, shapes=8)
def test_limit_on_the_size_of_a_file(trial: Trial) -> None:
    """A file that may not grow any more: the short write is noticed, and the error after it told."""
    workers = (0, 2)[trial.number % 2]
    data = trial.ground.expected_by(trial.shape)
    run = trial.start(*trial.shape, "-j", str(workers))
    limit = int(max(map(len, data)) * trial.random.uniform(0, 1.1))
    # The shared memory of the workers is a file too, and larger: it is there before the limit.
    if run.wait_for(lambda: list(trial.out.glob("*/.*.partial/posts*")) and len(run.workers(workers)) == workers):
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(run.process.pid, resource.RLIMIT_FSIZE, (limit, limit))
    ended = run.end()
    exports = trial.check(ended, {0, 12}, data=data)
    assert bool(exports) == (ended.status == 0)
    if ended.status:
        trial.check_failed(ended, {12})
        assert os.strerror(errno.EFBIG) in ended.errors


def syncs() -> list[Call]:
    """Every sync of every way to write."""
    return [call for arguments in ALL_WAYS for call in calls_of(arguments, ("fsync",), "OUT")]


@trials("sync-error", quick=0, full=lambda: len(syncs()))
def test_sync_fails(trial: Trial) -> None:
    """A failed sync is final: no second sync, no name. After the last rename, the export is reported as whole."""
    needs_strace()
    calls = syncs() if trial.full else calls_of(WAYS[0], ("fsync",), "OUT")
    call = calls[trial.number % len(calls)] if trial.full else calls[-trial.number * 2 - 1]
    ended = with_fault(trial, "error=EIO", call)
    if "partial" in call.text:
        check_call_failed(trial, ended, call, os.strerror(errno.EIO))
        return
    assert after_the_fault(trial) == []
    assert "is complete, but may not be on disk yet" in ended.errors
    assert len(trial.check(ended, {12}, data=trial.ground.expected_by(call.arguments))) == 1


@trials("read-error", quick=1, full=100)
def test_archive_can_not_be_read(trial: Trial) -> None:
    """A disk error while reading the archive is reported as the archive's, whichever process meets it."""
    needs_strace()
    workers = (0, 2)[trial.number % 2]
    when = trial.random.randint(1, 30 if workers else 600)
    inject = f"inject=pread64:error=EIO:when={when}"
    before = ["strace", "-f", "-o", str(trial.place / "log"), "-P", str(trial.archive), "-e", "trace=pread64"]
    ended = trial.start("-j", str(workers), before=[*before, "-e", inject, "--"]).end()
    if "(INJECTED)" in (trial.place / "log").read_text(errors="replace"):
        trial.check_failed(ended, {10})
        assert str(trial.archive) in ended.errors
    else:
        assert len(trial.check(ended, {0}, data=trial.ground.json)) == 1


@trials("bad-directory", quick=1, full=20)
def test_no_permission(trial: Trial) -> None:
    """A directory that one may not write to."""
    needs_nobody()
    (trial.place / "locked").mkdir(mode=0o555)
    trial.out = trial.place / "locked" / "out"
    ended = trial.start("-j", str(trial.number % 3), before=NOBODY).end()
    trial.check_failed(ended, {12})
    assert os.strerror(errno.EACCES) in ended.errors


@trials("bad-directory", quick=1, full=20)
def test_read_only_disk(trial: Trial) -> None:
    """A disk that is read-only."""
    with small_disk(trial, 1_000_000, "ro") as place:
        trial.out = place / "out"
        ended = trial.start("-j", str(trial.number % 3)).end()
        trial.check_failed(ended, {12})
        assert os.strerror(errno.EROFS) in ended.errors


@trials("bad-directory", quick=1, full=20)
def test_a_file_is_in_the_way(trial: Trial) -> None:
    """A file where a directory should be, anywhere on the way."""
    file = trial.place / "file"
    file.write_text("mine")
    trial.out = file / Path(*["deeper"] * trial.random.randrange(3))
    ended = trial.start("-j", str(trial.number % 3)).end()
    trial.check(ended, {12})
    assert file.read_text() == "mine"


@trials("bad-directory", quick=1, full=20)
def test_directory_vanishes(trial: Trial) -> None:
    """The output directory is removed while the export runs."""
    run = trial.start("-j", str(trial.random.choice((0, 2))))
    if run.wait_for(trial.partial):
        # The export may be removing its directory at the same time.
        shutil.rmtree(trial.out, ignore_errors=True)
    trial.check_failed(run.end(), {12})
