"""JSON as text: strict, and without a token changed."""

from __future__ import annotations

import contextlib
import itertools
import json
import tracemalloc

import apsw
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from skyexport import json_text
from tests import oracle, strategies, strict_json


def indented(text: str, level: int = 0) -> str:
    """The pieces of `indent`, joined."""
    return b"".join(json_text.indent(text.encode(), level)).decode()


@pytest.mark.parametrize(
    ("text", "level", "expected"),
    [
        ("null", 2, "null"),
        (" \t\r\n1.0 ", 2, "1.0"),
        ("{}", 2, "{}"),
        ("{ }", 2, "{}"),
        ("[\n]", 0, "[]"),
        ("[1E5,-0]", 0, "[\n  1E5,\n  -0\n]"),
        ("[1]", 2, "[\n      1\n    ]"),
        ('{"a":1,"a":1.0}', 0, '{\n  "a": 1,\n  "a": 1.0\n}'),
        ('{"b":{"a":[]},"a":[{}]}', 0, '{\n  "b": {\n    "a": []\n  },\n  "a": [\n    {}\n  ]\n}'),
        ("1234567890123456789012345", 0, "1234567890123456789012345"),
        (r'"\u0026\/\ud800"', 0, r'"\u0026\/\ud800"'),
        ('"\u2028\u2029\x7f<&"', 0, '"\\u2028\\u2029\x7f<&"'),
        ('{"\u2028":0}', 0, '{\n  "\\u2028": 0\n}'),
    ],
)
def test_indent(text: str, level: int, expected: str) -> None:
    """White space is replaced; tokens are kept as they are spelt, but for raw U+2028 and U+2029."""
    assert indented(text, level) == expected


@given(strategies.json_texts, st.integers(0, 3))
def test_indent_as_the_contract_says(text: str, level: int) -> None:
    """Indenting gives what the slow reading of the contract gives."""
    assert indented(text, level) == oracle.indented(text, level)


@given(strategies.json_texts)
def test_indent_as_sqlite_does(text: str) -> None:
    """Where SQLite takes the text too, both indent it alike."""
    assume("\u2028" not in text and "\u2029" not in text)
    assert oracle.SQLITE.execute("select json_valid(?, 1)", (text,)).get == 1
    assert indented(text) == oracle.SQLITE.execute("select json_pretty(?, '  ')", (text,)).get


@given(strategies.json_texts)
def test_indent_keeps_the_value(text: str) -> None:
    """Indented JSON is the same value as before, and indenting it again changes nothing."""
    once = indented(text)
    assert strict_json.parsed(once) == strict_json.parsed(text)
    assert indented(once) == once


@pytest.mark.parametrize("data", strategies.MALFORMED_JSON)
def test_malformed_json(data: bytes) -> None:
    """What RFC 8259 does not allow is not JSON, whatever other parsers take."""
    assert not json_text.is_valid(data)
    with pytest.raises(ValueError, match="not JSON"):
        indented(data.decode())


@pytest.mark.parametrize("text", ["", "{}{}", "[1]]", '{"a":1}}', "[[]", '{"a":[}', ",", ":", "[,]", '{"a":}', "{,}"])
def test_unbalanced_json(text: str) -> None:
    """Brackets and marks out of place are not JSON."""
    assert not json_text.is_valid(text.encode())


@given(strategies.json_bytes)
def test_validity_as_the_standard_library_has_it(data: bytes) -> None:
    """A text is JSON for us exactly when it is for the standard library's parser without its extensions."""
    try:
        strict_json.parsed(json_text.decode(data))
    except ValueError:
        assert not json_text.is_valid(data)
    else:
        assert json_text.is_valid(data)


@given(strategies.json_bytes)
def test_sqlite_takes_nothing_more(data: bytes) -> None:
    """What passes SQLite's checks in the fast rendering is JSON for us too."""
    checks = "json_valid(t, 1) and octet_length(format('%s', t)) = octet_length(t)"
    passes = oracle.SQLITE.execute(f"select {checks} from (select cast(? as text) as t)", (data,)).get
    assert not passes or json_text.is_valid(data)


@pytest.mark.parametrize(("opening", "inner", "closing"), [("[", "", "]"), ('{"a":', "1", "}"), ('[{"a":', "[]", "}]")])
def test_depth(opening: str, inner: str, closing: str) -> None:
    """Ten thousand levels are JSON, one more is not; nothing recurses."""
    levels = 10_000 // opening.count("[") if "{" not in opening else 10_000
    if opening.startswith("[{"):
        levels = 4_999  # two levels each, and the inner list
    assert json_text.is_valid((opening * levels + inner + closing * levels).encode())
    too_deep = opening * (levels + 1) + inner + closing * (levels + 1)
    assert not json_text.is_valid(too_deep.encode())


def test_a_number_of_many_digits() -> None:
    """A number of 5,000 digits is a token like any other."""
    digits = "9" * 5000
    assert indented(f"[{digits}]") == f"[\n  {digits}\n]"


@given(strategies.texts)
def test_quote(text: str) -> None:
    """A quoted text has the escapes of the contract, and JSON parsers read the text from it."""
    quoted = json_text.quote(text)
    assert quoted == oracle.json_string(text)
    assert json.loads(quoted) == text


def test_quote_escapes() -> None:
    """Every escape of the contract, letter by letter."""
    control = "".join(map(chr, range(0x20)))
    assert json_text.quote(control) == (
        r'"\u0000\u0001\u0002\u0003\u0004\u0005\u0006\u0007\b\t\n\u000b\f\r\u000e\u000f'
        r'\u0010\u0011\u0012\u0013\u0014\u0015\u0016\u0017\u0018\u0019\u001a\u001b\u001c\u001d\u001e\u001f"'
    )
    assert json_text.quote('"\\/<>&\x7f\u2028\u2029é\U0001f600') == '"\\"\\\\/<>&\x7f\\u2028\\u2029é\U0001f600"'


@given(strategies.byte_texts)
def test_decode(data: bytes) -> None:
    """Each byte that is not valid UTF-8 becomes one U+FFFD; valid text stays."""
    assert json_text.decode(data) == oracle.text_of(data)
    assert json_text.is_utf8(data) == (oracle.text_of(data).encode() == data)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\xe2\x80", "\ufffd\ufffd"),
        (b"\xf0\x9f\x98x", "\ufffd\ufffd\ufffdx"),
        (b"\xed\xa0\x80", "\ufffd\ufffd\ufffd"),
        (b"\xc0\x80", "\ufffd\ufffd"),
        (b"\xf4\x90\x80\x80", "\ufffd" * 4),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"\xef\xbf\xbd", "\ufffd"),
        (b"\xef\xbb\xbfa", "\ufeffa"),
    ],
)
def test_decode_replaces_byte_by_byte(data: bytes, expected: str) -> None:
    """Sequences cut short, surrogates, overlong ones: one U+FFFD for each of their bytes."""
    assert json_text.decode(data) == expected


@pytest.mark.parametrize("odd", [b"", *strategies.ODD_BYTES, '\u2028é\U0001f600\0"'.encode()])
def test_quote_pieces_across_a_border(odd: bytes) -> None:
    """A large text is quoted alike wherever its pieces meet, and no piece is much larger than the others."""
    for border, before in itertools.product((1 << 18, 2 << 18), range(-5, 3)):
        data = b"a" * (border + before) + odd + b"z"
        pieces = list(json_text.quote_pieces(data))
        quoted_end = oracle.json_string(oracle.text_of(odd + b"z"))[1:]
        assert b"".join(pieces) == b'"' + b"a" * (border + before) + quoted_end.encode()
        assert max(map(len, pieces)) < (1 << 18) + 100


@given(strategies.byte_texts)
def test_quote_pieces_of_small_texts(data: bytes) -> None:
    """A small text is quoted in pieces as it is in whole."""
    assert b"".join(json_text.quote_pieces(data)) == json_text.quote(json_text.decode(data)).encode()


@pytest.mark.parametrize("character", ["\u2028", "é", "\U0001f600"])
def test_utf8_across_a_window(character: str) -> None:
    """A character is whole wherever the windows of the search meet; a cut one is not UTF-8."""
    for border, before in itertools.product((1 << 17, 2 << 17), range(-5, 3)):
        data = b"a" * (border + before) + character.encode()
        assert json_text.is_utf8(data)
        assert json_text.is_utf8(data + b"z" * 200_000)
        assert not json_text.is_utf8(data[:-1])
        assert not json_text.is_utf8(data[:-1] + b"z" * 200_000)
        assert not json_text.is_utf8(data + b"z" * 200_000 + b"\xff")


def test_nothing_is_utf8() -> None:
    """No bytes at all are valid."""
    assert json_text.is_utf8(b"")


@given(strategies.texts)
def test_escape_line_separators(text: str) -> None:
    """U+2028 and U+2029 become their escapes, and nothing else changes."""
    expected = text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    assert json_text.escape_line_separators(text) == expected


def test_json_quote_of_sqlite_is_ours() -> None:
    """SQLite's json_quote escapes every ASCII character as we do, NUL among them."""
    connection = apsw.Connection(":memory:")
    text = "".join(map(chr, range(0x80))) + "é\U0001f600"
    assert connection.execute("select json_quote(?)", (text,)).get == json_text.quote(text)
    connection.close()


def test_escapes_take_no_memory_each() -> None:
    """A string of a million escapes is recognised without remembering each of them."""
    data = b'"' + b"x\\n" * 1_000_000 + b'"'
    tracemalloc.start()
    try:
        assert json_text.is_valid(data)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 4 * len(data)


@pytest.mark.parametrize(
    "unit",
    [
        b"x",
        "é".encode(),
        b"\\n",
        pytest.param("\U0001f600\u2028".encode(), marks=pytest.mark.slow),
        pytest.param(b"\xff", marks=pytest.mark.slow),
    ],
)
def test_large_tokens_go_in_pieces(unit: bytes) -> None:
    """A string of megabytes is held once, whatever characters or bytes it has, and otherwise pieces of it."""
    # Each byte that is not UTF-8 takes a call into Python.
    size, pieces = (2_000_000, 2_500_000) if unit == b"\xff" else (12_000_000, 10_000_000)
    data = b'["' + unit * (size // len(unit)) + b'"]'
    tracemalloc.start()
    try:
        largest = max(map(len, json_text.indent(data, 2)))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert largest < 1_600_000
    assert peak_bytes < len(data) + pieces


@given(strategies.json_bytes)
def test_indent_of_what_is_not_utf8(data: bytes) -> None:
    """Indenting bytes is indenting their text, in which each byte that is not UTF-8 is one U+FFFD."""
    assume(json_text.is_valid(data))
    assert b"".join(json_text.indent(data, 1)) == indented(json_text.decode(data), 1).encode()


@given(strategies.json_bytes)
def test_unquoted(data: bytes) -> None:
    """What a string spells is what a parser reads from it, whether it is small or follows on a large one."""
    strings = []
    with contextlib.suppress(ValueError):
        strings = [token for token in json_text.tokens(data) if token.startswith(b'"')]
    for token in strings:
        expected = json.loads(json_text.decode(token))
        assert "".join(json_text.unquoted_pieces(token)) == expected
        large = b'"' + b"x" * 300_000 + token[1:]
        assert "".join(json_text.unquoted_pieces(large)) == "x" * 300_000 + expected


@pytest.mark.parametrize(
    "odd",
    ["é", "\\ud83d\\ude00", "\\ud83d\\ud83d\\ude00", "\\ud83d", "\\ude00", "\\u00e9", "\\\\u0041", "\\/", "\U0001f600"],
)
def test_unquoted_across_a_border(odd: str) -> None:
    """The same wherever pieces meet."""
    for border, before in itertools.product((1 << 16, 4 << 16), range(-13, 2)):
        token = f'"{"a" * (border + before)}{odd}{odd}z{"b" * 200_000}"'
        assert "".join(json_text.unquoted_pieces(token.encode())) == json.loads(token)
