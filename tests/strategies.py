"""Values that an archive may hold, as hypothesis strategies: ordinary, unusual, and invalid ones."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.archives import Cell, RawText, Row, post

WHITE_SPACE = "\t\n\x0b\x0c\r \x85\xa0\u1680\u2000\u200a\u2028\u2029\u202f\u205f\u3000"
"""Of the characters with the property White_Space, the edges of every range."""

NEARLY_WHITE_SPACE = (
    "\x08\x0e\x1c\x1f!~\x7f\x84\x86\x9f\xa1\u167f\u1681\u180e\u1fff\u200b\u2027\u202a\u202e\u2060\ufeff"
)
"""Their neighbours, and what some libraries take for white space."""

ODD_CHARACTERS = (
    WHITE_SPACE + NEARLY_WHITE_SPACE + "\0\x01\b\x1f\"'\\/,;@.{}[]:<&=+-＝＋－＠é東\U0001f600\ufffd\ufffe\U0010ffff"
)

ODD_BYTES = [
    b"\x80",
    b"\xbf",
    b"\xc0\x80",  # NUL, overlong
    b"\xc2",
    b"\xe2\x80",  # U+2028, cut short
    b"\xe2\x80\xa8",
    b"\xed\xa0\x80",  # a lone surrogate
    b"\xed\xb2\x80",
    b"\xed\xa0\xbd\xed\xb8\x80",  # a pair of them
    b"\xf0\x9f\x98",
    b"\xf4\x90\x80\x80",  # beyond U+10FFFF
    b"\xf8\x88\x80\x80\x80",
    b"\xff",
    b"\xef\xbb\xbf",  # a byte order mark
]

characters = st.one_of(st.sampled_from(ODD_CHARACTERS), st.characters(codec="utf-8"))

texts = st.text(characters, max_size=12)
"""Text of any characters, odd ones in the majority."""

byte_texts = st.lists(
    st.one_of(texts.map(str.encode), st.sampled_from(ODD_BYTES), st.binary(max_size=3)), max_size=5
).map(b"".join)
"""Text as bytes, often not valid UTF-8."""

stored_texts: st.SearchStrategy[Cell] = st.one_of(
    st.sampled_from(
        ["", "Hello", r"\.", r"\..", "\\", "\0", "a\0b", '"', ",", "null", " =1", "\ufeff\u200b@", "''\0=", "'\n"]
    ),
    texts,
    byte_texts.map(RawText),
    byte_texts,
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.none(),
)
"""Possible values in a column of text."""

identifiers: st.SearchStrategy[Cell] = st.one_of(st.text("abc:/.", min_size=1, max_size=12), stored_texts)
"""Possible values where an identifier is expected."""

# --- Times ------------------------------------------------------------------------------------------------------

_years = st.one_of(st.sampled_from([0, 1, 4, 100, 400, 1900, 1970, 2000, 2023, 2024, 9999]), st.integers(0, 9999))
_dates = st.builds(
    "{:04d}-{:02d}-{:02d}".format,
    _years,
    st.integers(1, 12),
    st.one_of(st.integers(1, 28), st.sampled_from([28, 29, 30, 31])),
)
_clocks = st.builds("{:02d}:{:02d}:{:02d}".format, st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
_fractions = st.one_of(st.just(""), st.text("0123456789", min_size=1, max_size=12).map(".{}".format))
_zones = st.sampled_from(
    [
        " +0000 UTC",
        " +0000 UTC m=+12.345678",
        " +0000 UTC m=-0.000000001",
        " +0900 +0900",
        " -0700 PDT",
        " -0300 -03",
        " +0530 IST",
        " +0000 +0000",
        " -0000 GMT",
        " +0000",
        "Z",
        "+05:30",
        "-00:00",
        "-03:30",
        " +05:45",
        " UTC",
        "UTC",
        "",
    ]
)

read_times = st.one_of(
    st.builds("{}{}{}{}{}".format, _dates, st.sampled_from(" T"), _clocks, _fractions, _zones),
    st.builds("{} {}{}".format, _dates, _clocks.map(lambda clock: clock[:5]), _zones),
    _dates,
)
"""Text that is a time in one of the known spellings, unless its day is one that the month lacks."""

usual_times = st.builds(
    "{}-{:02d} {}{} +0000 UTC{}".format,
    st.builds("{:04d}-{:02d}".format, _years, st.integers(1, 12)),
    st.integers(1, 28),
    _clocks,
    st.one_of(st.just(""), st.text("0123456789", max_size=8).map("{}5".format).map(".{}".format)),
    st.sampled_from(["", " m=+12.345678", " m=+0.000000001"]),
)
"""Times as the archiver writes them: SQLite alone should read each."""


@st.composite
def near_misses(draw: st.DrawFn) -> bytes:
    """A time with one thing changed: a character replaced, left out, put in or put behind."""
    text = draw(st.one_of(usual_times, read_times)).encode()
    at = draw(st.one_of(st.integers(0, len(text)), st.sampled_from([len(text), 19, 20, max(0, len(text) - 1)])))
    change = draw(st.one_of(st.sampled_from([b"", b"\0", b" ", b"0", b"9", b"m=", b" m=", b"Z", b"."]), byte_texts))
    return text[:at] + change + text[at + draw(st.integers(0, 2)) :]


GARBAGE_TIMES = [
    "",
    " ",
    "\0",
    "never",
    "null",
    "0000-00-00 00:00:00 +0000 UTC",
    "2024-02-30 00:00:00 +0000 UTC",
    "2023-02-29 00:00:00 +0000 UTC",
    "2024-04-31 12:00:00.5 +0000 UTC",
    "2024-05-22 24:00:00 +0000 UTC",
    "2024-05-22 18:60:00 +0000 UTC",
    "2024-05-22 18:57:60 +0000 UTC",
    "2024-05-22 18:57:38. +0000 UTC",
    "2024-05-22 18:57:38,5 +0000 UTC",
    "2024-05-22 18:57:38 +0000 UTC\0",
    "2024-05-22 18:57:38\0 +0000 UTC",
    "2024-05-22 18:57:3\0 +0000 UTC",
    "2024-05-22 18:57:38.\0 +0000 UTC",
    "2024-05-22 18:57:38 +0000 UTC +0000 UTC",
    "2024-05-22 18:57:38 +2400 +2400",
    "2024-05-22 18:57:38 +0060 +0060",
    "2024-05-22 18:57:38 +00:00:00",
    "2024-05-22 18:57:38 GMT",
    "2024-05-22 18:57:38z",
    "2024-05-22t18:57:38Z",
    "2024-05-22  18:57:38 +0000 UTC",
    "2024-05-22 18",
    "2024-05-22Z",
    "2024-05",
    "24-05-22 18:57:38 +0000 UTC",
    "12024-05-22 18:57:38 +0000 UTC",
    "-024-05-22 18:57:38 +0000 UTC",
    "２０２４-05-22 18:57:38 +0000 UTC",
    "2024-05-22 18:57:38 +0000 UTC extra",
    "22 May 2024 18:57:38",
    "m=+1.5",
]
"""Text that is no time."""

integer_times = st.one_of(
    st.sampled_from([0, 1, -1, 10**11, 10**11 + 1, -(10**11), -(10**11) - 1, 2**63 - 1, -(2**63), 253402300799]),
    st.integers(-(10**12), 10**13),
    st.integers(-(2**63), 2**63 - 1),
)

stored_times: st.SearchStrategy[Cell] = st.one_of(
    usual_times,
    read_times,
    near_misses().map(RawText),
    near_misses(),
    st.sampled_from(GARBAGE_TIMES),
    integer_times,
    st.floats(allow_nan=False),
    byte_texts.map(RawText),
    byte_texts,
)
"""Possible values in a column of times."""

# --- JSON -------------------------------------------------------------------------------------------------------

_json_space = st.text(" \t\n\r", max_size=2)
_json_characters = st.one_of(
    st.sampled_from(
        [r"\"", r"\\", r"\/", r"\b", r"\u0026", r"\u003c", r"\ud800", r"\uDC00", r"\ud83d\ude00", r"\u0000", r"\u2028"]
    ),
    characters.filter(lambda c: c >= " " and c not in '"\\'),
)
json_strings = st.lists(_json_characters, max_size=6).map(lambda parts: '"' + "".join(parts) + '"')
json_scalars = st.one_of(
    st.sampled_from(
        ["null", "true", "false", "0", "-0", "1.0", "1E5", "1e+5", "-1.50e-07", "1234567890123456789012345", "1e999"]
    ),
    json_strings,
)
_keys = st.one_of(st.sampled_from(['"a"', '"images"', '"media"', '"external"', '"fullsize"', '"thumb"']), json_strings)


def _containers(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    spaced = st.builds("{}{}{}".format, _json_space, values, _json_space)
    members = st.builds("{}{}{}:{}".format, _json_space, _keys, _json_space, spaced)
    return st.one_of(
        st.lists(spaced, max_size=3).map(lambda items: f"[{','.join(items)}]"),
        st.lists(members, max_size=3).map(lambda items: f"{{{','.join(items)}}}"),
        st.sampled_from(["{}", "[]", "{ }", "[\n]"]),
    )


json_texts = st.builds("{}{}{}".format, _json_space, st.recursive(json_scalars, _containers, max_leaves=8), _json_space)
"""One JSON value each, in odd spellings and with white space around it."""

_urls = st.one_of(
    st.builds(
        '"https://cdn.example/img/{}{}"'.format, st.text("abc/@;,é ", max_size=8), st.sampled_from(["", "@jpeg", "@"])
    ),
    json_strings,
    json_scalars,
)
_images = st.one_of(
    st.lists(
        st.one_of(
            _urls.map('{{"fullsize":{}}}'.format),
            st.builds('{{"fullsize":{},"alt":"","fullsize":{}}}'.format, _urls, _urls),
            json_texts,
        ),
        max_size=3,
    ).map(lambda items: f"[{','.join(items)}]"),
    json_texts,
)
embeds = st.one_of(
    _images.map('{{"images":{}}}'.format),
    st.builds('{{"images":{},"images":{}}}'.format, _images, _images),
    st.builds('{{"external":{{"uri":"u","thumb":{}}},"images":{}}}'.format, _urls, _images),
    st.builds('{{"media":{{"images":{}}},"external":{{"thumb":{}}}}}'.format, _images, _urls),
    st.builds('{{"media":{{"images":{}}},"media":{}}}'.format, _images, json_texts),
)
"""Embeds that show images, more or less."""

MALFORMED_JSON = [
    b'{"a":',
    b'{"a":1},{"x":2}',
    b"1 2",
    b"[1,]",
    b'{"a":1,}',
    b"{a:1}",
    b"{'a':1}",
    b"NaN",
    b"-Infinity",
    b"[Infinity]",
    b"0x1F",
    b"01",
    b"1.",
    b".5",
    b"+1",
    b"-",
    b"1e",
    b"// note\n1",
    b"/**/1",
    b"null\0",
    b"null\0null",
    b'{"a":1}\0',
    b"\0",
    b'"\0"',
    b'"\x1f"',
    b'"a\nb"',
    b'"\\x41"',
    b'"\\u12"',
    b"'a'",
    b'"a\\\nb"',
    b"\xef\xbb\xbf{}",
    b"\xc2\xa0{}",
    b"\x0b1",
    b"1\x0c",
    b"nul",
    b"nullx",
    b"True",
    b" ",
    b"\n",
    b"[",
    b"]",
    b"[}",
    b'{"a" 1}',
    b"{1:2}",
    b"[1 2]",
    b'"',
    b'"\\"',
]
"""Text that is not JSON, though some parsers accept it."""

json_bytes = st.one_of(
    embeds.map(str.encode),
    json_texts.map(str.encode),
    st.builds(lambda text, odd: text.replace(b'"', b'"' + odd, 1), json_texts.map(str.encode), byte_texts),
    st.sampled_from(MALFORMED_JSON),
    st.builds(lambda text, cut: text[:cut], embeds.map(str.encode), st.integers(0, 60)),
    st.builds(b"".join, st.tuples(json_texts.map(str.encode), json_texts.map(str.encode))),
)

stored_json: st.SearchStrategy[Cell] = st.one_of(
    st.just(b"null"),
    json_bytes,
    json_bytes.map(RawText),
    byte_texts,
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.none(),
)
"""Possible values in a column of JSON."""

# --- Numbers, flags and whole posts -----------------------------------------------------------------------------

stored_counts: st.SearchStrategy[Cell] = st.one_of(
    st.integers(0, 100),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.sampled_from(
        [0.5, -0.0, 2.0**53, 2.0**63, -(2.0**63), 1e19, 1e300, 5e-324, "", "12", "12 likes", " 7", "1e3", "0x10", b"12"]
    ),
    byte_texts.map(RawText),
    byte_texts,
    st.none(),
)
"""Possible values in a column of counts."""

stored_flags: st.SearchStrategy[Cell] = st.one_of(
    st.sampled_from([0, 1]),
    st.sampled_from([2, -1, 0.5, 0.0, 1e-320, "", "0", "1", "true", "false", "1 yes", "0.5x", b"1", b"0", b"", None]),
)
"""Possible values in a column of booleans."""


def posts(number: int = 0) -> st.SearchStrategy[Row]:
    """Posts of which any cell may be odd; most are ordinary in most of their cells."""

    def usually(name: str, cells: st.SearchStrategy[Cell]) -> st.SearchStrategy[Cell]:
        return st.one_of(st.just(post(number)[name]), cells)

    not_null = identifiers.filter(lambda cell: cell is not None and cell == cell)
    return st.fixed_dictionaries(
        {
            "uri": usually("uri", identifiers),
            "cid": usually("cid", not_null),
            "did": usually("did", not_null),
            "text": stored_texts,
            "created_at": usually("created_at", stored_times),
            "indexed_at": usually("indexed_at", stored_times),
            "has_media": stored_flags,
            "like_count": usually("like_count", stored_counts),
            "repost_count": usually("repost_count", stored_counts),
            "reply_count": usually("reply_count", stored_counts),
            "quote_count": usually("quote_count", stored_counts),
            "is_reply": stored_flags,
            "reply_parent": usually("reply_parent", identifiers),
            "embed_type": usually("embed_type", identifiers),
            "embed_data": stored_json,
            "labels": usually("labels", stored_json),
            "archived_at": usually("archived_at", st.one_of(stored_times, st.none())),
        }
    )
