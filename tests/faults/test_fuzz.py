"""The whole command on archives that are damaged in every way that the file format of SQLite offers."""

from __future__ import annotations

import atexit
import contextlib
import functools
import shutil
import tempfile
from pathlib import Path

import apsw

import make_archive
from tests.faults.damage import DAMAGES, Layout, check_damaged, export_damaged
from tests.faults.matrix import trials
from tests.faults.trial import Trial


@functools.cache
def small_archive() -> Path:
    """An archive of which every part is near to every other: small pages, long records, unused pages."""
    folder = Path(tempfile.mkdtemp(prefix="skyexport-fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = make_archive.make_archive(folder / "archive.db", posts=160, seed=9, authors=5, fts=False, media=False).path
    with contextlib.closing(apsw.Connection(str(path))) as connection:
        connection.execute("pragma page_size = 512")
        connection.execute("vacuum")
        connection.execute("update posts set text = text || hex(zeroblob(800)) where rowid % 20 = 0")
        connection.execute("delete from posts where rowid % 8 = 0")
    return path


@functools.cache
def layout() -> Layout:
    """Where things lie in it."""
    return Layout(small_archive())


@trials("fuzz", quick=1, full=2000, shapes=11)
def test_damaged_archive(trial: Trial) -> None:
    """No damage makes a process crash, hang, leave files behind, or write an unreadable file."""
    data = bytearray(small_archive().read_bytes())
    # Each kind of damage in its turn, with up to three more of any kind.
    kinds = [list(DAMAGES)[trial.number % len(DAMAGES)]]
    kinds += trial.random.choices(list(DAMAGES), k=trial.random.choice((0, 0, 0, 1, 3)))
    # Damage that changes the length comes last: the offsets are those of the whole file.
    for kind in sorted(kinds, key=lambda kind: kind == "length"):
        DAMAGES[kind](data, trial.random, layout())
    more = trial.random.choice(((), (), (), ("--snapshot", "copy")))
    ended = export_damaged(trial, data, *more)
    check_damaged(trial, ended)


def test_layout_is_understood() -> None:
    """The places that damages are done to are there: the layout was read right."""
    found = layout()
    data = small_archive().read_bytes()
    assert found.page_bytes == 512
    assert found.pages * 512 == len(data)
    assert len(found.trees) > 100
    assert {data[at] for at in found.trees} == {2, 5, 10, 13}
    assert len(found.records) > 4 * 140
    assert len(found.links) > 100
    assert found.trunks
    assert len(found.schema) > 10
