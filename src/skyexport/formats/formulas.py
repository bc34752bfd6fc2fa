"""Cells that a spreadsheet may read as formulas: which they are, and the apostrophe that keeps them text.

This is the one place that decides it: for the count, for `--csv-safe`, and for reading such a file back.

Source: docs/formats.md, "posts.csv"; https://owasp.org/www-community/attacks/CSV_Injection; OWASP ASVS 5.0, 1.2.10.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

__all__ = ["MARK", "PLAIN_SIGNS", "as_stored", "formula_cells", "safe_cell"]

MARK = b"'"
"""Keeps what follows in a cell text."""

PLAIN_SIGNS = b"=+-@"
"""A formula begins with one of these,"""

_WIDE_SIGNS = "＝＋－＠"
"""or with its full-width form."""

_BREAKS = b"\t\r\n\0"
"""These may make a formula of whatever follows: a program may begin another cell behind them, or drop them."""

# Half-open ranges. They are fixed here, and not asked of Python: the bytes of an export must not depend on its version.
_UNSEEN = (
    (0x00, 0x21),
    (0x7F, 0xA1),
    (0xAD, 0xAE),
    (0x061C, 0x061D),
    (0x1680, 0x1681),
    (0x180E, 0x180F),
    (0x2000, 0x2010),
    (0x2028, 0x2030),
    (0x205F, 0x2070),
    (0x3000, 0x3001),
    (0xFEFF, 0xFF00),
)
"""White space, control characters, and characters without width: a program may drop them before it looks for a sign."""


def _one_of(characters: Iterable[bytes]) -> bytes:
    """A pattern for one of these characters in UTF-8, or for a run of those of one byte, which is 16 times as fast.

    It is possessive: there is one way to match, and remembering others would take memory.
    """
    last_bytes: defaultdict[bytes, bytes] = defaultdict(bytes)
    for character in characters:
        last_bytes[character[:-1]] += character[-1:]
    return b"(?:%b)" % b"|".join(
        b"%b[%b]%b" % (first, re.escape(last), b"" if first else b"++") for first, last in last_bytes.items()
    )


_SIGNS = [bytes([sign]) for sign in PLAIN_SIGNS] + [sign.encode() for sign in _WIDE_SIGNS]
_UNSEEN_CHARACTERS = [chr(code).encode() for start, end in _UNSEEN for code in range(start, end)]
_FIRST_BYTES = frozenset(character[:1] for character in (*_SIGNS, *_UNSEEN_CHARACTERS))
"""Most cells begin with none of these, and need no pattern."""

_FORMULA = b"(?:[%b]|%b*+%b)" % (
    re.escape(_BREAKS + PLAIN_SIGNS), _one_of(_UNSEEN_CHARACTERS), _one_of(_SIGNS)
)  # fmt: skip
_BEGINS_FORMULA = re.compile(_FORMULA)
_BEGINS_MARKED = re.compile(MARK + b"*+" + _FORMULA)
"""Also what only looks as if it had been made safe: so one apostrophe less is always what was stored."""


def formula_cells(cells: Sequence[bytes]) -> int:
    """How many of these cells, which have neither quotes nor apostrophe yet, a spreadsheet may read as formulas."""
    return len([cell for cell in cells if cell[:1] in _FIRST_BYTES and _BEGINS_FORMULA.match(cell)])


def safe_cell(cell: bytes) -> bytes:
    """*cell* with an apostrophe before it, if a spreadsheet may read it as a formula, or `as_stored` as marked."""
    return MARK + cell if _BEGINS_MARKED.match(cell) else cell


def as_stored(cell: bytes) -> bytes:
    """What `safe_cell` was given for *cell*."""
    return cell[1:] if cell.startswith(MARK) and _BEGINS_MARKED.match(cell) else cell
