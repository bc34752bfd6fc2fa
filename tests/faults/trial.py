"""One trial: a place of its own, an archive, a run of the command or of the API, and the check afterwards."""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import json
import os
import random
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import apsw
import psutil

import make_archive
from skyexport import ExportError, ExportOptions, export
from tests.command import PROGRAM
from tests.environment import ROOT
from tests.faults import invariants
from tests.faults.shapes import USUAL, Shape, options_of

__all__ = [
    "BATCH", "MARK", "Ended", "Ground", "Run", "Trial", "bytes_of", "files_of", "media_ground", "usual_ground",
]  # fmt: skip

BATCH = 100
"""Posts a batch: twenty batches of the usual archive, which one process exports in a twentieth of a second."""

MARK = "TRIAL_OF_SKYEXPORT"
"""The environment variable by which all processes of a trial are found."""

SABOTAGE = ROOT / "tests" / "faults" / "sabotage"
"""A directory for PYTHONPATH that puts faults into the program's processes."""

MEDIA_FILES = 200
"""Of `media_ground`: copying them takes about as long as writing the posts."""

_LONGEST_SECONDS = 60.0
"""A run that takes longer hangs."""

MEMORY_LIMIT_BYTES = 500_000_000
"""The command's own limit when none is given."""

TABLE_LIMIT_BYTES = 1_000_000_000
"""Of exports to Parquet: three workers, each with pyarrow, may be refused the usual limit."""

_STANDING = (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
"""A signal that stops a process takes a moment."""


_ONE_BATCH = 1_000_000
"""More posts than there are."""


def bytes_of(archive: Path, format: str = "json", **options: Any) -> bytes:
    """The output of one process, in one batch, for *archive*: the reference for every other way."""
    with tempfile.TemporaryDirectory() as folder:
        to = Path(folder, "out")
        export(ExportOptions(archive=archive, to=to, format=format, workers=0, batch_size=_ONE_BATCH, **options))
        return to.read_bytes()


def files_of(archive: Path, arguments: Sequence[str] = (), batch_size: int = BATCH) -> tuple[bytes, ...]:
    """The same for all data files, in order, of the shape that the command's arguments ask for.

    Args:
        archive: The archive to export.
        arguments: Arguments for the shape of data files; others are ignored.
        batch_size: Batch size of the export to compare with, since batches are compressed one by one. Without
            compression, all posts are one batch here.
    """
    options = options_of(arguments)
    with tempfile.TemporaryDirectory() as folder:
        made = export(
            ExportOptions(
                archive=archive, output_dir=Path(folder), workers=0, memory_limit=1 << 40,
                batch_size=batch_size if "compress" in options else _ONE_BATCH, **options,
            )
        )  # fmt: skip
        assert made.directory is not None
        return tuple(path.read_bytes() for path in invariants.data_files(made.directory))


class Ground:
    """An archive that no trial changes, and the exports of it."""

    def __init__(self, folder: Path, *, posts: int = 2000, wal: bool = False, **more: Any) -> None:
        self.archive = folder / "archive.db"
        self.posts = posts
        made = make_archive.make_archive(self.archive, posts=posts, seed=4, authors=20, fts=False, wal=wal, **more)
        self.did = made.owner_did
        self._expected: dict[object, tuple[bytes, ...]] = {}
        self._seconds: dict[tuple[str, ...], float] = {}

    @property
    def json(self) -> bytes:
        """The output of one process, as JSON."""
        (data,) = self.expected_by(USUAL[0])
        return data

    def expected_by(self, arguments: Sequence[str], batch_size: int = BATCH) -> tuple[bytes, ...]:
        """The data files that an export with these arguments must have, in order; see `files_of`."""
        key = (*sorted(options_of(arguments).items()), batch_size)
        if key not in self._expected:
            self._expected[key] = files_of(self.archive, arguments, batch_size)
        return self._expected[key]

    def seconds(self, arguments: tuple[str, ...]) -> float:
        """How long the command takes with these arguments when nothing disturbs it."""
        if arguments not in self._seconds:
            with Trial(self, random.Random(0), 0, full=False) as trial:
                started = time.monotonic()
                trial.start_by(arguments).end()
                self._seconds[arguments] = time.monotonic() - started
        return self._seconds[arguments]


class MediaGround:
    """An archive with media, the directory of their files, and an earlier export of half of them.

    Args:
        folder: Where to put all that.
        ground: Its posts.
    """

    def __init__(self, folder: Path, ground: Ground) -> None:
        self.archive = folder / "archive.db"
        self.root = folder / "root"
        self.root.mkdir()
        shutil.copyfile(ground.archive, self.archive)
        self._add(0)
        made = export(
            ExportOptions(archive=self.archive, output_dir=folder / "out", media=True, media_root=self.root, workers=0)
        )
        assert made.directory is not None
        self.earlier = made.directory
        self._add(MEDIA_FILES // 2)
        self._before = self._fingerprints()

    def _add(self, first: int) -> None:
        """Half of the files, and their rows."""
        with contextlib.closing(apsw.Connection(str(self.archive))) as connection:
            for number in range(first, first + MEDIA_FILES // 2):
                content = b"%d " % number * (number * 10)
                name = hashlib.sha256(content).hexdigest() + ".jpg"
                (self.root / name).write_bytes(content)
                connection.execute(
                    "insert into media (hash, post_uri, mime_type, file_path, size_bytes)"
                    " select ?, uri, 'image/jpeg', ?, ? from posts where rowid = ?",
                    (name[:64], name, len(content), number + 1),
                )

    def _fingerprints(self) -> list[dict[str, str]]:
        return [invariants.fingerprint(folder) for folder in (self.root, self.earlier, self.earlier / "media")]

    def assert_untouched(self) -> None:
        """All is as it was made."""
        assert self._fingerprints() == self._before


@functools.cache
def media_ground() -> MediaGround:
    """The usual archive with media, made once a process."""
    folder = Path(tempfile.mkdtemp(prefix="skyexport-media-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return MediaGround(folder, usual_ground())


@functools.cache
def usual_ground() -> Ground:
    """An archive of 2,000 posts, made once a process."""
    folder = Path(tempfile.mkdtemp(prefix="skyexport-ground-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Ground(folder)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended."""

    status: int
    """Exit status; minus the signal that ended the process."""
    output: bytes
    errors: str


class Run:
    """The command as a process, going on."""

    def __init__(self, command: Sequence[str], **options: Any) -> None:
        self._files = (tempfile.TemporaryFile(), tempfile.TemporaryFile())  # noqa: SIM115
        outputs = {"stdout": self._files[0], "stderr": self._files[1]} | options
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, **outputs)

    def workers(self, count: int) -> list[psutil.Process]:
        """The workers, once there are *count*; none where the command has ended before."""
        coordinator = psutil.Process(self.process.pid)
        while self.process.poll() is None:
            with contextlib.suppress(psutil.Error):
                found = coordinator.children(recursive=True)
                if len(found) == count:
                    return found
            time.sleep(0.005)
        return []

    def wait_for(self, true: Callable[[], object]) -> bool:
        """Wait until *true* is; False when the command ended first."""
        deadline = time.monotonic() + _LONGEST_SECONDS
        while self.process.poll() is None:
            # A folder that has just been found may get another name before pathlib looks into it.
            with contextlib.suppress(FileNotFoundError):
                if true():
                    return True
            assert time.monotonic() < deadline
            time.sleep(0.001)
        with contextlib.suppress(FileNotFoundError):
            return bool(true())
        return False

    def errors_so_far(self) -> str:
        """The text that it has written to standard error."""
        return os.pread(self._files[1].fileno(), 1_000_000, 0).decode(errors="replace")

    def end(self, timeout: float = _LONGEST_SECONDS) -> Ended:
        """Wait for its end.

        Raises:
            AssertionError: It hangs.
        """
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"still running after {timeout} s: {self.errors_so_far()}") from None
        output, errors = (os.pread(file.fileno(), 1 << 30, 0) for file in self._files)
        self.close()
        return Ended(status, output, errors.decode(errors="replace"))

    def close(self) -> None:
        """Close its files, and end it if it still runs. Calling this again does no harm."""
        self.process.kill()
        self.process.wait()
        for file in self._files:
            file.close()


class Trial:
    """A trial; use it in a `with` statement.

    Args:
        ground: Its archive is copied; `archive` is the copy.
        random: All choices of the trial come from here.
        number: Which of the row's trials this is.
        full: Whether the full tier runs, in which trials may take seconds.
        shape: What the data files of its export look like, as arguments.
    """

    def __init__(
        self, ground: Ground, random: random.Random, number: int, *, full: bool, shape: Shape = USUAL[0]
    ) -> None:
        self.ground = ground
        self.random = random
        self.number = number
        self.full = full
        self.shape = shape
        self.place = Path(tempfile.mkdtemp(prefix="skyexport-fault-"))
        self.place.chmod(0o755)
        self.temporary = self.place / "tmp"
        self.temporary.mkdir()
        self.temporary.chmod(0o1777)
        self.out = self.place / "out"
        self.to: Path | None = None
        """The one file to export to, in `out`, instead of an export directory."""
        self.mark = f"{MARK}={secrets.token_hex(8)}"
        self.archive = self.place / "in" / "archive.db"
        self.archive.parent.mkdir()
        shutil.copyfile(ground.archive, self.archive)
        self._before = invariants.fingerprint(self.archive.parent)
        self._shared = invariants.shared_memory()
        self._runs: list[Run] = []
        self._media: MediaGround | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for process in invariants.processes_with(self.mark):
            with contextlib.suppress(psutil.Error):
                process.kill()
        for run in self._runs:
            run.close()
        shutil.rmtree(self.place, ignore_errors=True)

    def use(self, archive: Path) -> None:
        """Take another archive instead."""
        shutil.copyfile(archive, self.archive)
        self.remember()

    def remember(self) -> None:
        """Count the present state of the archive as untouched."""
        self._before = invariants.fingerprint(self.archive.parent)

    def check_untouched(self) -> None:
        """Check that nobody wrote to the archive, or left anything beside it."""
        invariants.assert_untouched(self.archive.parent, self._before)

    def environment(self, **more: str) -> dict[str, str]:
        """The environment of this trial's processes."""
        name, _, value = self.mark.partition("=")
        return {**os.environ, "TMPDIR": str(self.temporary), "PYTHONDONTWRITEBYTECODE": "1", name: value, **more}

    def command(self, *arguments: str | Path, to_directory: bool = True) -> list[str]:
        """The command that exports the archive in small batches, by default into the output directory."""
        target = ["-o", str(self.out)] if to_directory else []
        room = ["--memory-limit", str(TABLE_LIMIT_BYTES)] if "parquet" in arguments else []
        return [
            *PROGRAM, "export", str(self.archive), "--batch-size", str(BATCH), *target, *room, *map(str, arguments),
        ]  # fmt: skip

    def start(
        self,
        *arguments: str | Path,
        before: Sequence[str] = (),
        to_directory: bool = True,
        environment: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Run:
        """Start the command.

        Args:
            arguments: Besides archive, batch size and output directory.
            before: What stands before the command, like strace.
            to_directory: Whether it exports into the output directory.
            environment: Variables that it has besides.
            options: For `subprocess.Popen`.
        """
        command = [*before, *self.command(*arguments, to_directory=to_directory)]
        run = Run(command, env=self.environment(**(environment or {})), **options)
        self._runs.append(run)
        return run

    def start_by(self, arguments: Sequence[str], before: Sequence[str] = (), **options: Any) -> Run:
        """Start the command with arguments in which `OUT` is the output directory, `--to OUT/posts` a file in it.

        With `--media` the archive is that of `media_ground`; `ROOT` and `EARLIER` are its directories.
        """
        names = {"OUT": self.out}
        if "--media" in arguments:
            self._media = media_ground()
            self.use(self._media.archive)
            names |= {"ROOT": self._media.root, "EARLIER": self._media.earlier}
        if "--to" in arguments:
            self.to = self.out / "posts"
            self.out.mkdir(exist_ok=True)
        given = list(arguments)
        for name, path in names.items():
            given = [argument.replace(name, str(path)) for argument in given]
        return self.start(*given, before=before, to_directory=self.to is None, **options)

    def export(self, **options: Any) -> Ended:
        """Export with the API in this process, and say how it ended as the command does."""
        with self.inherited():
            try:
                given = {"output_dir": self.out, "batch_size": BATCH, **options}
                if options.get("format") == "parquet":
                    given.setdefault("memory_limit", TABLE_LIMIT_BYTES)
                export(ExportOptions(archive=self.archive, **given))
            except ExportError as error:
                told = "".join(one if one.isprintable() else repr(one)[1:-1] for one in str(error))
                return Ended(error.exit_code, b"", f"skyexport: {told}\n")
        return Ended(0, b"", "")

    @contextlib.contextmanager
    def inherited(self) -> Iterator[None]:
        """Make this process's children, and its own SQLite, use the environment of the trial."""
        ours = {"TMPDIR": str(self.temporary), MARK: self.mark.partition("=")[2]}
        before = {name: os.environ.get(name) for name in ours}
        os.environ.update(ours)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value

    def stop(self, run: Run) -> list[psutil.Process]:
        """Stop all processes of the trial, the command first; `go_on` continues them."""
        stopped = []
        for process in [psutil.Process(run.process.pid), *invariants.processes_with(self.mark)]:
            with contextlib.suppress(psutil.Error):
                process.suspend()
                while process.is_running() and process.status() not in _STANDING:
                    time.sleep(0.001)
                stopped.append(process)
        return stopped

    def go_on(self, stopped: Sequence[psutil.Process]) -> None:
        """Continue all processes."""
        for process in stopped:
            with contextlib.suppress(psutil.Error):
                process.resume()

    def watch_memory(self, run: Run) -> dict[int, int]:
        """The high-water marks of all its processes, by process id, as they were last seen before its end."""
        peaks: dict[int, int] = {}
        while run.process.poll() is None:
            peaks |= invariants.memory_peaks(self.mark)
            time.sleep(0.01)
        return peaks

    def partial(self, author: str = "*") -> Path | None:
        """A data file while it grows, once something is in it."""
        pattern = f"{author}/.*.partial/posts[.-]*" if self.to is None else ".posts-*.partial"
        for found in self.out.glob(pattern):
            with contextlib.suppress(OSError):
                if found.stat().st_size:
                    return found
        return None

    def check(
        self,
        ended: Ended,
        expected: Collection[int],
        *,
        data: bytes | tuple[bytes, ...] | None = None,
        leftovers: bool = False,
        untouched: bool = True,
    ) -> list[Path]:
        """All invariants, after a run.

        Args:
            ended: How it ended.
            expected: The exit statuses that are right.
            data: The bytes of the data files, in order, of every export below the output directory; None to leave out
                that comparison.
            leftovers: Whether the run was killed, so that hidden leftovers may lie below the output directory.
            untouched: Whether nobody else wrote to the archive.

        Returns:
            The first data file of each export below the output directory.
        """
        invariants.assert_processes_gone(self.mark)
        invariants.assert_clear_end(ended.status, ended.errors, expected)
        invariants.assert_nothing_in(self.temporary, self._shared, leftovers=leftovers)
        if untouched:
            invariants.assert_untouched(self.archive.parent, self._before)
        if self._media is not None:
            self._media.assert_untouched()
        exports = self._exports(leftovers=leftovers)
        for files in exports:
            same = (data,) if isinstance(data, bytes) else data
            assert same is None or tuple(path.read_bytes() for path in files) == same
        if ended.status == 0 and ended.errors.strip():
            assert not self.out.exists() or exports
        return [files[0] for files in exports]

    def _exports(self, *, leftovers: bool) -> list[list[Path]]:
        """The data files of each export."""
        if self.to is not None:
            return [[path] for path in invariants.verified_file(self.to, leftovers=leftovers)]
        return invariants.verified_exports(self.out, leftovers=leftovers)

    def check_failed(self, ended: Ended, expected: Collection[int]) -> None:
        """All invariants, after a run that must have failed: nothing at all was left."""
        assert ended.status != 0, "it cannot have been successful"
        assert not self.check(ended, expected)
        assert self.to is not None or not self.out.exists()

    def check_next_run(self) -> None:
        """The next run into the same place succeeds, is complete, and removes what a killed run left."""
        before = {files[0] for files in self._exports(leftovers=True)}
        ended = self.export(workers=0, to=self.to, overwrite=True)
        exports = set(self.check(ended, {0}))
        assert exports >= before
        assert len(exports) == len(before) + (self.to is None or not before)
        for path in exports - before if self.to is None else exports:
            assert path.read_bytes() == self.ground.json


def json_summary(ended: Ended) -> dict[str, Any]:
    """The object that the command printed with --json."""
    found = json.loads(ended.output)
    assert isinstance(found, dict)
    return found


def linux_only() -> bool:
    """Whether this is a system on which trials work: they find processes through /proc."""
    return sys.platform == "linux"
