"""The rows of the fault matrix, and how tests say which row they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import pytest

from tests.faults.shapes import USUAL, Shape, shape_of

__all__ = ["MATRIX", "Trials", "trials"]

MATRIX = {
    "kill": "SIGKILL of the coordinator at a random time",
    "kill-at-call": "SIGKILL of the coordinator at each write, sync, rename, mkdir, create, unlink",
    "kill-worker": "SIGKILL of a worker: at a random time, before its first batch, in a batch, in a message",
    "worker-crash": "a worker crashes, exits, runs out of memory, raises an error that cannot be sent",
    "stop-worker": "SIGSTOP of a worker",
    "signals": "SIGINT to the group or twice; SIGINT, SIGTERM, SIGHUP to the coordinator",
    "closed-streams": "standard error or standard output closed, or its reader gone",
    "full-disk": "disk full: sizes from 0.1 to 1.2 of the export, and each call that takes space",
    "late-full-disk": "disk full that shows only at sync, close, or in a device",
    "file-limit": "limit on the size of a file: short writes, then an error",
    "sync-error": "input/output error at each sync",
    "read-error": "input/output error when the archive is read",
    "bad-directory": "output directory not writable, read-only, a file, gone while the export runs",
    "two-exports": "two exports of the same author at the same time",
    "leftovers": "leftovers of a dead run, and of a live one",
    "taken-name": "the name of the export directory is taken",
    "write-at-start": "WAL writer that commits while the export starts",
    "write-meanwhile": "WAL writer that inserts, updates, deletes, vacuums, checkpoints during the export",
    "rollback-writer": "rollback-journal writer that waits for the export, and makes it wait",
    "impatient-writer": "an archiver that does not wait, beside the export",
    "replaced-archive": "the archive is replaced while it is read",
    "read-only-archive": "cleanly closed WAL archive in a read-only directory",
    "interrupted-archive": "log without its index, hot journal, lost log",
    "cut-off": "archive cut off at a random length",
    "cut-off-meanwhile": "archive cut off while it is read",
    "damaged-page": "a page of the archive zeroed or filled at random",
    "flipped-bit": "one bit of the archive flipped",
    "no-archive": "not an archive: empty, text, other tables, missing columns, views",
    "odd-text": "text that is not UTF-8, NUL, line separators, byte order marks: 100 posts a trial",
    "odd-json": "embeds and labels that are not one JSON value, or an absurd one: 100 posts a trial",
    "odd-times": "posts in one instant, times that are not times",
    "large-post": "a post of 50 MB",
    "memory-limit": "the memory limit is reached",
    "media-files": "media files that are missing, unreadable, cut off, changing, or not files",
    "verify-damage": "`verify` on an export with a changed byte, a missing file, an extra file",
    "surroundings": "time zone, locale, umask, few descriptors, hash seed",
    "workers": "0 to 16 workers, archives around the size of a batch",
    "many-archives": "many archives: signals; SIGKILL of an exporter or of the command, at random times",
    "cluster": "a Dask cluster: SIGKILL of worker, exporter, scheduler, client; signals; tasks that run twice",
    "import": "an import into an archive that exists: SIGKILL and signals at random times; a full disk",
    "fuzz": "the whole command on mutated archives",
    "tokens": "access tokens in the archive's other tables",
    "schemas": "archives whose schema tries to read or run something, or never to end",
    "escapes": "terminal escapes in posts, authors and file names",
    "modes": "permissions of written files",
    "links": "symbolic links planted at every name that an export uses",
    "names": "authors' names as names of directories",
    "paths": "paths and hashes of media that lead elsewhere, or nowhere",
    "race": "paths of media that become links to elsewhere, and files again, repeatedly",
}
"""Row → what is done to the export."""


@dataclass(frozen=True, slots=True)
class Trials:
    """A test function's part of a row."""

    row: str
    quick: int
    full: int | Callable[[], int]
    shapes: int | None = None
    """Where in `shapes.FURTHER` its trials begin; None where all of them are JSON unless the test says otherwise."""

    def shape(self, number: int) -> Shape:
        """The shape of a trial's data files."""
        return USUAL[0] if self.shapes is None else shape_of(self.shapes, number)

    def numbers(self, *, full: bool) -> range:
        """The numbers of the trials to run."""
        if not full:
            return range(self.quick)
        return range(self.full if isinstance(self.full, int) else self.full())


_Test = TypeVar("_Test", bound=Callable[..., None])


def trials(
    row: str, *, quick: int, full: int | Callable[[], int], shapes: int | None = None
) -> Callable[[_Test], _Test]:
    """Make a test function the trials of *row*; it takes a `trial`.

    Args:
        row: A row of `MATRIX`.
        quick: How many trials the quick tier runs.
        full: How many the full tier runs; a function where that must be found out first.
        shapes: Where in `shapes.FURTHER` the trials begin that have a `shape`.
    """
    assert row in MATRIX
    mark = pytest.mark.trials(Trials(row, quick, full, shapes))

    def marked(test: _Test) -> _Test:
        return mark(test)  # type: ignore[no-any-return]

    return marked
