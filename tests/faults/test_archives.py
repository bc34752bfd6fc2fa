"""Archives that are damaged, and files that are no archives at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import apsw

from skyexport.posts import COLUMNS
from skyexport.repository import tables
from tests.archives import file_archive, post
from tests.faults.damage import HANGS_SECONDS, Layout, check_damaged, damage_page, export_damaged
from tests.faults.matrix import trials
from tests.faults.trial import Trial


@trials("cut-off", quick=3, full=200, shapes=8)
def test_archive_is_cut_off(trial: Trial) -> None:
    """An archive of which the end is missing is refused, wherever it ends."""
    data = trial.archive.read_bytes()
    # Nine times anywhere, once within the last page.
    start = 0 if trial.number % 10 else len(data) - 4096
    ended = export_damaged(trial, data[: trial.random.randrange(start, len(data))])
    trial.check_failed(ended, {10})
    assert str(trial.archive) in ended.errors


@trials("cut-off-meanwhile", quick=1, full=20)
def test_archive_is_cut_off_while_it_is_read(trial: Trial) -> None:
    """When that happens while it is read, no signal ends a process: the error reports a damaged archive."""
    data = trial.ground.json
    run = trial.start("-j", ("0", "2")[trial.number % 2])
    assert run.wait_for(trial.partial)
    stopped = trial.stop(run)
    partial = trial.partial()
    written = partial.stat().st_size if partial else len(data)
    os.truncate(trial.archive, trial.random.randrange(trial.archive.stat().st_size // 4))
    trial.go_on(stopped)
    ended = run.end(HANGS_SECONDS)
    # With less than half written, not all of the rest can have been read before.
    assert ended.status == 10 or written >= len(data) // 2
    exports = trial.check(ended, {0, 10}, data=data, untouched=False)
    assert bool(exports) == (ended.status == 0)


@trials("damaged-page", quick=1, full=300, shapes=5)
def test_page_is_damaged(trial: Trial) -> None:
    """A page that is zeroed, random or in the wrong place is noticed, or the export can be read all the same."""
    data = bytearray(trial.archive.read_bytes())
    damage_page(data, trial.random, Layout(trial.archive))
    ended = export_damaged(trial, data)
    check_damaged(trial, ended)


@trials("flipped-bit", quick=1, full=500, shapes=0)
def test_bit_is_flipped(trial: Trial) -> None:
    """A flipped bit may change a post, SQLite has no checksums; it never crashes, hangs, or gives a broken file."""
    data = bytearray(trial.archive.read_bytes())
    # Every other one in the pages of the schema and of the trees near their roots.
    end = len(data) if trial.number % 2 else 32_768
    data[trial.random.randrange(end)] ^= 1 << trial.random.randrange(8)
    ended = export_damaged(trial, data)
    check_damaged(trial, ended)


def _database(*statements: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with contextlib.closing(apsw.Connection(str(path))) as connection:
            for statement in statements:
                connection.execute(statement)

    return make


def _changed(was: str, becomes: str) -> Callable[[Path], None]:
    """The tables of an archive with something else in their text."""
    statements = tables.TABLES
    assert was in statements
    return _database(statements.replace(was, becomes))


def _newer(path: Path) -> None:
    file_archive(path, [post()])
    _database("insert into schema_version values (4, '')")(path)


_ALL_COLUMNS = ", ".join(f"'' as {name}" for name in COLUMNS)

NO_ARCHIVES: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing": (lambda _: None, "no archive at"),
    "empty": (lambda path: path.touch(), "is empty"),
    "directory": (lambda path: path.mkdir(), "is not a file"),
    "pipe": (os.mkfifo, "is not a file"),
    "text": (lambda path: path.write_text("SQLite, perhaps\n" * 100), "is not a SQLite database"),
    "header only": (lambda path: path.write_bytes(b"SQLite format 3\0".ljust(100, b"\0")), "is damaged"),
    "other tables": (_database("create table notes (text)"), "no table posts"),
    "missing column": (_changed("  embed_data json,\n", ""), "no column embed_data"),
    "view": (_database(f"create view posts as select {_ALL_COLUMNS}"), "posts is not a plain table"),
    "virtual table": (_database("create virtual table posts using fts5 (uri, text)"), "posts is not a plain table"),
    "generated column": (_changed("labels json,", "labels json as (upper(text)),"), "generated column labels"),
    "newer": (_newer, "schema version 4"),
    "UTF-16": (_database("pragma encoding = 'UTF-16'", "create table posts (uri)"), "UTF-16"),
    "no row ids": (_database("create table posts (uri primary key) without rowid"), "posts is a table without row ids"),
}
"""Something that is not an archive → how to make it, and the message about it."""


@trials("no-archive", quick=1, full=len(NO_ARCHIVES))
def test_no_archive(trial: Trial) -> None:
    """Anything that is not an archive is refused, and the message names the cause."""
    make, message = list(NO_ARCHIVES.values())[trial.number]
    trial.archive.unlink()
    make(trial.archive)
    trial.remember()
    ended = trial.export(workers=trial.random.choice((0, 2)))
    trial.check_failed(ended, {10})
    assert str(trial.archive) in ended.errors
    assert message in ended.errors
