"""Cells that a spreadsheet may read as formulas, and the apostrophe that keeps them text."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from skyexport.formats.formulas import as_stored, formula_cells, safe_cell
from tests import oracle, strategies

BREAKS = "\t\r\n\0"
SIGNS = "=+-@＝＋－＠"

cells = st.one_of(
    strategies.byte_texts,
    st.builds(
        lambda marks, unseen, rest: (marks + unseen + rest).encode(),
        st.text("'", max_size=3), st.text(oracle.UNSEEN + "'", max_size=3), st.text(SIGNS + BREAKS + "a1'", max_size=3),
    ),
)  # fmt: skip


@pytest.mark.parametrize("begin", [*BREAKS, *SIGNS])
def test_published_list(begin: str) -> None:
    """Every character that OWASP and ASVS name is one, alone as well as before something."""
    for cell in (begin, f"{begin}1", f"{begin}{begin}"):
        assert formula_cells([cell.encode()]) == 1
        assert safe_cell(cell.encode()) == f"'{cell}".encode()


@pytest.mark.parametrize("sign", SIGNS)
def test_what_a_program_drops_before_a_sign(sign: str) -> None:
    """White space, control characters and characters without width before a sign hide nothing, in any number."""
    for unseen in oracle.UNSEEN:
        for cell in (f"{unseen}{sign}1", f"  {unseen}\ufeff{unseen}{sign}1"):
            assert formula_cells([cell.encode()]) == 1, ascii(cell)
    assert formula_cells([("\u200b" * 1_000_000 + sign).encode()]) == 1


def test_every_white_space_and_control_character_is_unseen() -> None:
    """None is missing of what this Python knows: separators, controls, and what Unicode says to ignore."""
    for code in range(0x3100):
        character = chr(code)
        category = unicodedata.category(character)
        if character.isspace() or category in ("Zs", "Zl", "Zp", "Cc"):
            assert formula_cells([f"{character}=1".encode()]) == 1, hex(code)


@pytest.mark.parametrize(
    "cell",
    ["", "a", " ", " a=1", "'", "'=1", "\"=1'", "1-1", "–1", "−1", "\ufeff", "\u200b'=", "＜", "㌀", "日本", "é="],
)
def test_what_is_none(cell: str) -> None:
    """A sign elsewhere, other dashes, unseen characters without a sign, and a cell that is marked already are none."""
    assert formula_cells([cell.encode()]) == 0


@pytest.mark.parametrize("cell", [b"\x85=", b"\xa0=", b"\xff=", b"\xe2\x80=", b"\xbf=", b"\xef\xbb="])
def test_bytes_that_are_not_utf8(cell: bytes) -> None:
    """They are no white space, whatever they are in other encodings, and stay as they are."""
    assert formula_cells([cell]) == 0
    assert safe_cell(cell) == cell


@given(cells)
@example(b"''")
@example(b"'= '=")
@example(" '\u200b=".encode())
def test_way_back(cell: bytes) -> None:
    """What was stored comes back exactly; what was made safe is no formula, and what was none has not changed."""
    safe = safe_cell(cell)
    assert as_stored(safe) == cell
    assert formula_cells([safe]) == 0
    assert safe == cell or formula_cells([cell.lstrip(b"'")])
    assert formula_cells([cell]) == oracle.is_formula(oracle.text_of(cell))
