"""Ways to damage an archive's file, by somebody who knows how SQLite lays it out; and what must be true afterwards.

Source: https://sqlite.org/fileformat2.html
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from pathlib import Path

import apsw

from tests.faults.trial import Ended, Trial

__all__ = ["DAMAGES", "HANGS_SECONDS", "Layout", "check_damaged", "damage_page", "export_damaged"]

HANGS_SECONDS = 30.0
"""A run on a small archive that takes longer than this hangs."""

_HEADER_FIELDS = (
    *((16, 2), (18, 1), (19, 1), (20, 1), (21, 1), (22, 1), (23, 1), (24, 4), (28, 4), (32, 4), (36, 4), (40, 4)),
    *((44, 4), (48, 4), (52, 4), (56, 4), (60, 4), (64, 4), (68, 4), (92, 4), (96, 4)),
)
"""Offset and size of the numbers in the file's header."""

_TREE_FIELDS = ((0, 1), (1, 2), (3, 2), (5, 2), (7, 1), (8, 4))
"""The same in the header of a page of a b-tree."""

_INTERIOR_INDEX, _INTERIOR_TABLE, _LEAF_INDEX, _LEAF_TABLE = 2, 5, 10, 13

_WORDS = (
    *(b"'", b'"', b"\0", b"\xff\xfe", b"(", b")", b"--", b";", b",", b"\x1b[31m"),
    *(b"view", b"as select", b"virtual", b"without rowid", b"generated always as (1)", b"collate odd", b"unique"),
)
"""Texts that are written over the text of a schema."""


class Layout:
    """Where things lie in a file that is not damaged yet, as offsets.

    Args:
        path: The file of a database without a log or a journal.
    """

    def __init__(self, path: Path) -> None:
        self._data = path.read_bytes()
        self.page_bytes = self._number(16, 2)
        self.pages = len(self._data) // self.page_bytes
        self.trees: list[int] = []
        """Headers of the pages of b-trees."""
        self.pointers: list[int] = []
        """The numbers that say where in their page cells begin."""
        self.records: list[int] = []
        """Cells of leaves."""
        self.links: list[int] = []
        """The numbers that name the next page of a long record."""
        self.trunks: list[int] = []
        """Pages that list unused pages."""
        with contextlib.closing(apsw.Connection(str(path))) as connection:
            roots = connection.execute("select rootpage from sqlite_schema where rootpage > 0").fetchall()
        for root in (1, *(int(str(page)) for (page,) in roots)):
            self._walk(root)
        trunk = self._number(32, 4)
        while trunk:
            self.trunks.append(self._start(trunk))
            trunk = self._number(self._start(trunk), 4)
        schema = [at for at in self.records if at < self.page_bytes] or self.records
        self.schema = [found for at in schema if (found := self._data.find(b"CREATE", at, at + 100)) >= 0]
        """The texts of the schema on its first page."""

    def _number(self, at: int, size: int) -> int:
        return int.from_bytes(self._data[at : at + size])

    def _start(self, page: int) -> int:
        return (page - 1) * self.page_bytes

    def _varint(self, at: int) -> tuple[int, int]:
        """A number of variable length, and the offset behind it."""
        value = 0
        for length in range(9):
            byte = self._data[at + length]
            if length == 8:
                return value << 8 | byte, at + 9
            value = value << 7 | byte & 0x7F
            if byte < 0x80:
                return value, at + length + 1
        raise AssertionError("such numbers have at most nine bytes")

    def _walk(self, page: int) -> None:
        start = self._start(page)
        header = start + (100 if page == 1 else 0)
        kind = self._data[header]
        interior = kind in (_INTERIOR_INDEX, _INTERIOR_TABLE)
        self.trees.append(header)
        first = header + (12 if interior else 8)
        pointers = range(first, first + 2 * self._number(header + 3, 2), 2)
        self.pointers += pointers
        for pointer in pointers:
            cell = start + self._number(pointer, 2)
            if interior:
                self._walk(self._number(cell, 4))
                cell += 4
            if kind != _INTERIOR_TABLE:
                self.records.append(cell)
                self._follow(cell, kind)
        if interior:
            self._walk(self._number(header + 8, 4))

    def _follow(self, cell: int, kind: int) -> None:
        """Find the pages of a long record."""
        size, at = self._varint(cell)
        if kind == _LEAF_TABLE:
            _, at = self._varint(at)
        most = self.page_bytes - 35 if kind == _LEAF_TABLE else (self.page_bytes - 12) * 64 // 255 - 23
        if size <= most:
            return
        least = (self.page_bytes - 12) * 32 // 255 - 23
        here = least + (size - least) % (self.page_bytes - 4)
        link = at + (here if here <= most else least)
        while page := self._number(link, 4):
            self.links.append(link)
            link = self._start(page)


def _put(data: bytearray, at: int, size: int, value: int) -> None:
    data[at : at + size] = (value % (1 << 8 * size)).to_bytes(size)


def _odd_number(choices: random.Random, layout: Layout, was: int) -> int:
    """A number that means something, near to what it was, or far from anything."""
    odd = (0, 1, 2, 3, -1, 0x7F, 0x80, 0x7FFF, 0x8000, 1 << 31, (1 << 31) - 1, layout.pages, layout.pages + 1)
    return choices.choice((*odd, was + 1, was - 1, was * 2, was // 2, choices.getrandbits(32)))


def _change_number(data: bytearray, choices: random.Random, layout: Layout, at: int, size: int) -> None:
    _put(data, at, size, _odd_number(choices, layout, int.from_bytes(data[at : at + size])))


def _bytes(data: bytearray, choices: random.Random, layout: Layout) -> None:
    del layout
    for _ in range(choices.randint(1, 16)):
        data[choices.randrange(len(data))] = choices.randrange(256)


def damage_page(data: bytearray, choices: random.Random, layout: Layout) -> None:
    """A page that is zeroed, random, or another one."""
    start = choices.randrange(layout.pages) * layout.page_bytes
    other = choices.randrange(layout.pages) * layout.page_bytes
    contents = (bytes(layout.page_bytes), choices.randbytes(layout.page_bytes), data[other : other + layout.page_bytes])
    data[start : start + layout.page_bytes] = choices.choice(contents)


def header(data: bytearray, choices: random.Random, layout: Layout) -> None:
    _change_number(data, choices, layout, *choices.choice(_HEADER_FIELDS))


def _tree(data: bytearray, choices: random.Random, layout: Layout) -> None:
    offset, size = choices.choice(_TREE_FIELDS)
    _change_number(data, choices, layout, choices.choice(layout.trees) + offset, size)


def _pointer(data: bytearray, choices: random.Random, layout: Layout) -> None:
    at, other = choices.choice(layout.pointers), choices.choice(layout.pointers)
    if choices.random() < 0.3:
        data[at : at + 2] = data[other : other + 2]
    else:
        _change_number(data, choices, layout, at, 2)


def _record(data: bytearray, choices: random.Random, layout: Layout) -> None:
    at = choices.choice(layout.records) + choices.randrange(24)
    odd = (b"\0", b"\x01", b"\x0d", b"\x7f", b"\x80", b"\xff", b"\xff" * 9, b"\x80" * 8, choices.randbytes(2))
    chosen = choices.choice(odd)
    data[at : at + len(chosen)] = chosen


def _schema(data: bytearray, choices: random.Random, layout: Layout) -> None:
    at = choices.choice(layout.schema) + choices.randrange(300)
    word = choices.choice(_WORDS)
    data[at : at + len(word)] = word


def _freelist(data: bytearray, choices: random.Random, layout: Layout) -> None:
    trunk = choices.choice(layout.trunks)
    _change_number(data, choices, layout, choices.choice((32, 36, trunk, trunk + 4, trunk + 8)), 4)


def _link(data: bytearray, choices: random.Random, layout: Layout) -> None:
    at = choices.choice(layout.links)
    itself = at // layout.page_bytes + 1
    _put(data, at, 4, choices.choice((itself, _odd_number(choices, layout, itself))))


def _length(data: bytearray, choices: random.Random, layout: Layout) -> None:
    if choices.random() < 0.5:
        del data[choices.randrange(len(data)) :]
    else:
        data += choices.randbytes(choices.choice((1, layout.page_bytes, 3 * layout.page_bytes + 7)))


DAMAGES: dict[str, Callable[[bytearray, random.Random, Layout], None]] = {
    "bytes": _bytes,
    "page": damage_page,
    "header": header,
    "tree": _tree,
    "pointer": _pointer,
    "record": _record,
    "schema": _schema,
    "freelist": _freelist,
    "link": _link,
    "length": _length,
}
"""Name → change of a file's bytes."""


def export_damaged(trial: Trial, data: bytes | bytearray, *arguments: str) -> Ended:
    """Run the command, for the trial's shape, on an archive of these bytes."""
    trial.archive.write_bytes(data)
    trial.remember()
    run = trial.start(*trial.shape, "-j", trial.random.choice(("0", "0", "0", "2")), *arguments)
    return run.end(HANGS_SECONDS)


def check_damaged(trial: Trial, ended: Ended) -> list[Path]:
    """After an export of a damaged archive: it was refused as such, or what was written can be read.

    Returns:
        The data file, if any.
    """
    exports = trial.check(ended, {0, 10})
    assert len(exports) == (ended.status == 0)
    if ended.status:
        trial.check_failed(ended, {10})
        assert str(trial.archive) in ended.errors
    return exports
