"""Nothing new lies beside an archive in WAL mode, however opening or reading it ends."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import apsw
import pytest

import make_archive
from skyexport import ExportOptions, export
from skyexport.archive.connections import Connections
from skyexport.archive.source import Source
from skyexport.errors import ArchiveError, StoppedError
from skyexport.pipeline.dry_run import dry_run
from skyexport.pipeline.inspection import inspect
from skyexport.pipeline.listing import Archive
from tests.archives import file_archive, post
from tests.command import files_below, skyexport, skyexport_json


def with_bad_schema(path: Path) -> Path:
    """A closed WAL archive whose schema SQLite cannot parse."""
    make_archive.make_archive(path, posts=20, wal=True)
    with contextlib.closing(apsw.Connection(str(path))) as connection:
        connection.pragma("writable_schema", True)
        broken = "create index x on posts(did desc"
        connection.execute("update sqlite_schema set sql = ? where name = 'idx_posts_did'", (broken,))
    return path


def with_bad_header(path: Path) -> Path:
    """A closed WAL archive with a page size that there is not, behind the mark of WAL."""
    file_archive(path, [post(1)], wal=True)
    content = bytearray(path.read_bytes())
    content[16:18] = b"\0\3"
    path.write_bytes(content)
    return path


def of_another_kind(path: Path) -> Path:
    """A closed WAL database without posts."""
    with contextlib.closing(apsw.Connection(str(path))) as connection:
        connection.pragma("journal_mode", "wal")
        connection.execute("create table other(a)")
    return path


@pytest.mark.quick(1)
@pytest.mark.parametrize("make", [with_bad_schema, with_bad_header, of_another_kind])
def test_archives_that_are_refused(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    """An archive that is refused when it was opened already has nothing beside it, whoever opened it."""
    path = make(tmp_path / "a.db")
    before = path.read_bytes()
    for read in (
        Archive,
        inspect,
        lambda path: dry_run(ExportOptions(archive=path, output_dir=tmp_path / "o")),
        lambda path: export(ExportOptions(archive=path, output_dir=tmp_path / "o", workers=2)),
        lambda path: export(ExportOptions(archive=path, output_dir=tmp_path / "o", snapshot="copy")),
    ):
        with pytest.raises(ArchiveError) as caught:
            read(path)
        # Not only once the error and what its traceback holds are forgotten.
        assert files_below(tmp_path) == ["a.db"]
        assert caught.value.exit_code == 10
    done = skyexport("export", path, cwd=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (10, 1)
    many = skyexport_json("export", path, tmp_path / "b.db", "-o", tmp_path / "o", status=10)
    assert [one["exit_code"] for one in many["archives"]] == [10, 10]
    assert files_below(tmp_path) == ["a.db"]
    assert path.read_bytes() == before


class Interruption:
    """Raises an error at the *number*-th step of this package's own code, as a signal does between any two of them."""

    def __init__(self, number: int, error: BaseException) -> None:
        self.left = number
        self._error = error

    def __call__(self, frame: FrameType, event: str, _: Any) -> Any:
        if "skyexport" not in Path(frame.f_code.co_filename).parts:
            return None
        if event in ("call", "line"):
            self.left -= 1
            if self.left == 0:
                raise self._error
        return self


@contextlib.contextmanager
def interrupted(number: int, error: BaseException) -> Iterator[Interruption]:
    """Raise *error* at that step of the `with` block, and swallow it."""
    interruption = Interruption(number, error)
    before = sys.gettrace()
    sys.settrace(interruption)
    try:
        yield interruption
    except BaseException as raised:
        if raised is not error and raised.__context__ is not error and raised.__cause__ is not error:
            raise
    finally:
        sys.settrace(before)
        # Whoever handles an error forgets it at last, and with it what its traceback holds.
        error.__traceback__ = error.__context__ = None


def read(path: Path) -> None:
    """Open an archive, read some of it by a second connection, and close it."""
    with Archive(path) as archive, archive.second_connection() as connection:
        connection.execute("select uri from posts").fetchall()


# Python tells of what is raised in a finaliser, and goes on.
in_finalisers = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.mark.quick(1)
@in_finalisers
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, lambda: StoppedError(15)])
def test_interrupted_at_any_step(tmp_path: Path, error: Callable[[], BaseException]) -> None:
    """Whatever is raised, wherever that is between opening and closing: nothing is left."""
    path = file_archive(tmp_path / "a.db", [post(1)], wal=True)
    before = path.read_bytes()
    read(path)
    number = finished = 0
    while not finished:
        number += 1 + number // 50
        with interrupted(number, error()) as interruption:
            read(path)
            finished = interruption.left > 0
        assert files_below(tmp_path) == ["a.db"], number
    assert number > 100
    assert path.read_bytes() == before


@pytest.mark.slow
@in_finalisers
def test_exports_interrupted_at_some_steps(tmp_path: Path) -> None:
    """The same of whole exports, which open several connections."""
    (tmp_path / "in").mkdir()
    path = file_archive(tmp_path / "in" / "a.db", [post(1)], wal=True)
    number = finished = 0
    while not finished:
        number = int(number * 1.3) + 37
        with interrupted(number, StoppedError(15)) as interruption:
            export(ExportOptions(archive=path, to=tmp_path / "out", overwrite=True, workers=0, snapshot="copy"))
            finished = interruption.left > 0
        assert files_below(path.parent) == ["a.db"], number
    assert number > 2000


def test_connections_that_nobody_closed(tmp_path: Path) -> None:
    """An archive closes all of its connections with itself; those who still read say so."""
    path = file_archive(tmp_path / "a.db", [post(number) for number in range(1500)], wal=True)
    with Archive(path) as archive:
        posts = iter(archive.list_posts())
        next(posts)
        second = archive.second_connection()
        second.__enter__().execute("select uri from posts")
    assert files_below(tmp_path) == ["a.db"]
    with pytest.raises(ArchiveError, match="was closed before all posts were read; read them while it is open"):
        list(posts)
    second.__exit__(None, None, None)


def test_an_archive_that_nobody_closed(tmp_path: Path) -> None:
    """An archive that is forgotten closes itself."""
    path = file_archive(tmp_path / "a.db", [post(1)], wal=True)
    assert Archive(path).count_posts() == 1
    assert files_below(tmp_path) == ["a.db"]


def test_closing_twice(tmp_path: Path) -> None:
    """To close connections once more does no harm, and takes nothing away from those who read meanwhile."""
    path = file_archive(tmp_path / "a.db", [post(1)], wal=True)
    connections = Connections(Source.of(path))
    connections.open()
    connections.close()
    with Archive(path) as archive:
        connections.close()
        assert sorted(files_below(tmp_path)) == ["a.db", "a.db-shm", "a.db-wal"]
        assert archive.count_posts() == 1
    assert files_below(tmp_path) == ["a.db"]
