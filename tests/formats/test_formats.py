"""Every format, by one suite: two ways to the same bytes, and those are what docs/formats.md says."""

from __future__ import annotations

import contextlib
import csv
import io
import re
from typing import Any

import apsw
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skyexport.archive.plan import row_id_batches
from skyexport.formats import FORMATS
from skyexport.formats.settings import DELIMITERS, FormatSettings
from skyexport.notices import Notices
from skyexport.posts import COLUMNS, StoredValue
from skyexport.rendering.renderer import BatchRenderer
from skyexport.selection import Selection
from tests import oracle, strategies, strict_json
from tests.archives import (
    TABLE_COLUMNS,
    Cell,
    RawText,
    Row,
    StoredRow,
    exact_bytes,
    memory_archive,
    post,
    rendered_by_row_ids,
    replaced_posts,
    sorted_row_ids,
    stored_rows,
    usual_bytes,
)
from tests.conftest import each_format, limits

pytestmark = pytest.mark.usefixtures("each_renderer")


def both_ways(format_name: str, row: Row) -> tuple[bytes, StoredRow]:
    """The bytes of one post, once they are known to be the same in each way that takes it; and what is stored."""
    with replaced_posts([row]) as connection:
        stored = stored_rows(connection)[0]
        exact, notices = exact_bytes(connection, format_name)[0]
        # A post that cannot be exported as it is stored is not usual: the exact way counts it.
        assert usual_bytes(connection, format_name)[0] in (None, (exact, Notices(formulas=notices.formulas)))
        assert notices.formulas == (oracle.formulas(stored) if format_name == "csv" else 0)
        return exact, stored


@each_format
@given(row=strategies.posts())
def test_both_ways_agree(format_name: str, row: Row) -> None:
    """A post has the same bytes, those of the contract, by the short cut and in pieces."""
    rendered, stored = both_ways(format_name, row)
    assert oracle.content(format_name, rendered) == oracle.POST[format_name](stored)


BAD_VALUES: list[Row] = [
    {"uri": None, "created_at": "never", "embed_data": b"{", "like_count": "many", "has_media": 1},
    {"uri": "", "indexed_at": "never"},
    {"uri": b"\xff", "did": b"did:plc:abc", "cid": b"", "archived_at": RawText(b"\xff")},
    {"like_count": -(2.0**63), "repost_count": 2.0**63, "reply_count": 1e300, "quote_count": 1.5},
    {"like_count": float("inf"), "repost_count": float("-inf"), "reply_count": 0.1 + 0.2, "quote_count": b"\x00"},
    {"created_at": 1e300, "indexed_at": 1.5, "archived_at": float("inf")},
    {"created_at": 2.0**53, "indexed_at": -1e19, "archived_at": b"2024-05-22 18:57:38 +0000 UTC"},
    {"embed_data": 1e300, "labels": 0.1 + 0.2, "has_media": 1},
    {"embed_data": 1e19, "labels": float("-inf"), "text": "\ud83d".encode("utf-8", "surrogatepass")},
    {"embed_data": "1.0", "labels": "1e5"},
    {"embed_data": RawText(b"null\0"), "labels": b"[1]\0[2]"},
    {"embed_data": b'"\xe2\x80\xa8\xff"', "labels": RawText('["\u2029"]'.encode())},
    {"embed_data": b'{"images":[{"fullsize":"https://x/\\ud800.jpg"}]}', "has_media": 1},
    {"embed_data": b'{"images":[{"fullsize":"https://x/a"}],"n":1e999}', "has_media": 1},
    {"embed_data": b'{"images":[{"fullsize":"https://x/\xff@"}]}', "has_media": 1},
    {"has_media": "true", "is_reply": "1 yes"},
    {"has_media": b"1", "is_reply": 1e-320},
    {"text": RawText(b"\xe2\x80"), "reply_parent": RawText(b"\0"), "embed_type": r"\."},
    {"text": RawText(b"\xe2\x80\x8a\xff"), "reply_parent": RawText(b"\x85"), "embed_type": RawText(b"\xc2\x85")},
    {"text": RawText(b"\0, "), "reply_parent": RawText(b"\\.\0"), "embed_type": RawText(b" \0")},
    {"uri": 'at://"', "cid": ",", "did": "\n", "text": "\r", "reply_parent": "\x1c", "embed_type": "\t"},
    {"uri": "~", "cid": "\x7f", "did": "\ufeff", "text": "\u200b", "reply_parent": "\u3000", "embed_type": "!"},
]
"""Cells that were once rendered in two ways, or are likely to be."""


@each_format
def test_both_ways_agree_on_bad_values(format_name: str) -> None:
    """The same, for values that no archiver should have stored."""
    for cells in BAD_VALUES:
        rendered, stored = both_ways(format_name, post(**cells))
        assert oracle.content(format_name, rendered) == oracle.POST[format_name](stored), cells


@pytest.mark.quick(2)
@each_format
@settings(max_examples=30)
@given(rows=st.lists(strategies.posts(), max_size=6), batch_size=st.integers(1, 4))
def test_whole_files(format_name: str, rows: list[Row], batch_size: int) -> None:
    """A file of any posts is the same for every batch size: what the contract says, in export order."""
    for number, row in enumerate(rows):
        row["uri"] = f"at://{number}"
    with replaced_posts(rows) as connection:
        expected = oracle.FILE[format_name](stored_rows(connection))
        data = rendered_by_row_ids(connection, format_name)[0]
        assert oracle.content(format_name, data) == expected
        assert rendered_by_row_ids(connection, format_name, batch_size=batch_size)[0] == data


@pytest.mark.quick(1)
@settings(max_examples=60)
@given(st.lists(st.builds(lambda row, text: {**row, "text": text}, strategies.posts(), strategies.texts), max_size=4))
def test_json_is_read_back(rows: list[Row]) -> None:
    """A JSON parser reads every file, and finds each text, count and time in it that was stored."""
    for number, given_row in enumerate(rows):
        given_row["uri"] = f"at://{number}"
    with replaced_posts(rows) as connection:
        data = rendered_by_row_ids(connection, "json")[0]
        stored = oracle.in_export_order(stored_rows(connection))
    read = strict_json.parsed(data.decode())
    assert [list(one) for one in read] == [
        [key for key in COLUMNS if key not in oracle.OPTIONAL_KEYS or oracle.bytes_of(row[key])] for row in stored
    ]
    for one, row in zip(read, stored, strict=True):
        assert one["text"].encode() == oracle.bytes_of(row["text"])
        assert one["is_reply"] is (oracle.json_value("is_reply", row["is_reply"]) == "true")
        for key in ("embed_data", "labels"):
            if key in one:
                text = oracle.text_of(oracle.bytes_of(row[key]))
                assert one[key] == (strict_json.parsed(text) if strict_json.is_json(text) else text)


@pytest.mark.quick(1)
@settings(max_examples=60)
@given(st.lists(st.builds(lambda row, text: {**row, "text": text}, strategies.posts(), strategies.texts), max_size=4))
def test_csv_is_read_back(rows: list[Row]) -> None:
    """A CSV reader finds fifteen fields in every record, and each stored text in its place."""
    for number, given_row in enumerate(rows):
        given_row["uri"] = f"at://{number}"
    with replaced_posts(rows) as connection:
        data = rendered_by_row_ids(connection, "csv")[0]
        stored = oracle.in_export_order(stored_rows(connection))
    assert data.startswith(b"\xef\xbb\xbfURI,")
    text = data[3:].decode("utf-8", "surrogateescape")
    header, *records = csv.reader(io.StringIO(text, newline=""), lineterminator="\n", strict=True)
    assert header == oracle.CSV_HEADER.split(",")
    assert all(len(record) == 15 for record in records)
    for record, row in zip(records, stored, strict=True):
        found = [field.encode("utf-8", "surrogateescape") for field in record]
        for place, name in ((0, "uri"), (1, "cid"), (2, "did"), (3, "text"), (10, "reply_parent"), (13, "embed_type")):
            assert found[place] == oracle.bytes_of(row[name])
        assert found[12] == (oracle.media_files(row["embed_data"]) if found[11] == b"true" else b"")


# --- Words of the contract, letter by letter --------------------------------------------------------------------


def only_post(format_name: str, **cells: Cell) -> bytes:
    """The bytes of one post, the same in each way."""
    return both_ways(format_name, post(**cells))[0]


def json_line(key: str, **cells: Cell) -> str | None:
    """What follows a key in posts.json, up to the next key; None without the key."""
    data = only_post("json", **cells).decode()
    opening = f'\n    "{key}": '
    if opening not in data:
        return None
    value = data.partition(opening)[2].removesuffix("\n  }")
    return re.split(r',\n    "', value)[0]


def csv_fields(*places: int, **cells: Cell) -> list[bytes]:
    """Fields of one record as they are written; none of them may hold a comma."""
    fields = only_post("csv", **cells).split(b",")
    assert len(fields) == 15
    return [fields[place] for place in places]


@each_format
def test_no_posts(format_name: str) -> None:
    """An export without posts is an empty array, a header, no line, or a table without rows."""
    with replaced_posts([]) as connection:
        data = rendered_by_row_ids(connection, format_name)[0]
    empty = {"json": b"[]\n", "csv": ("\ufeff" + oracle.CSV_HEADER + "\n").encode(), "jsonl": b"", "parquet": b""}
    assert oracle.content(format_name, data) == empty[format_name]


def test_json_of_a_post() -> None:
    """An ordinary file: brackets, commas, two spaces a level, every key in its place."""
    rows = [
        post(1, embed_type="images", embed_data=b'{"images":[],"n":1.0}', labels=None, reply_parent="at://x"),
        post(2, created_at="2024-05-22 18:57:38.255 +0900 +0900", embed_data=None, has_media=1, is_reply=1),
    ]
    with replaced_posts(rows) as connection:
        data = rendered_by_row_ids(connection, "json")[0]
    assert (
        data.decode()
        == """[
  {
    "uri": "at://did:plc:abc/app.bsky.feed.post/00000002",
    "cid": "bafyreia",
    "did": "did:plc:abc",
    "text": "Hello",
    "created_at": "2024-05-22T18:57:38.255+09:00",
    "indexed_at": "2024-05-23T08:00:00.000000001Z",
    "has_media": true,
    "like_count": 1,
    "repost_count": 2,
    "reply_count": 3,
    "quote_count": 4,
    "is_reply": true,
    "labels": null,
    "archived_at": "2024-05-23T08:00:00Z"
  },
  {
    "uri": "at://did:plc:abc/app.bsky.feed.post/00000001",
    "cid": "bafyreia",
    "did": "did:plc:abc",
    "text": "Hello",
    "created_at": "2024-05-22T18:57:38.254Z",
    "indexed_at": "2024-05-23T08:00:00.000000001Z",
    "has_media": false,
    "like_count": 1,
    "repost_count": 2,
    "reply_count": 3,
    "quote_count": 4,
    "is_reply": false,
    "reply_parent": "at://x",
    "embed_type": "images",
    "embed_data": {
      "images": [],
      "n": 1.0
    },
    "archived_at": "2024-05-23T08:00:00Z"
  }
]
"""
    )


def test_csv_of_a_post() -> None:
    """An ordinary file: a byte order mark, the header, a record a post."""
    embed = b'{"images":[{"fullsize":"https://cdn/img/b.jpg@jpeg"}]}'
    row = post(7, text='Hi, "you"', has_media=1, embed_type="images", embed_data=embed, reply_parent="at://x")
    with replaced_posts([row]) as connection:
        data = rendered_by_row_ids(connection, "csv")[0]
    assert data.decode() == (
        "\ufeffURI,CID,DID,Text,CreatedAt,LikeCount,RepostCount,ReplyCount,QuoteCount,IsReply,ReplyParent,HasMedia,"
        "MediaFiles,EmbedType,IndexedAt\n"
        'at://did:plc:abc/app.bsky.feed.post/00000007,bafyreia,did:plc:abc,"Hi, ""you""",2024-05-22T18:57:38Z,1,2,3,4,'
        "false,at://x,true,b.jpg,images,2024-05-23T08:00:00Z\n"
    )


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (None, '""'),
        ("", '""'),
        ('"\\/<>&', r'"\"\\/<>&"'),
        ("\b\f\n\r\t", r'"\b\f\n\r\t"'),
        ("\0\x01\x1f\x7f", '"\\u0000\\u0001\\u001f\x7f"'),
        ("\u2028\u2029", r'"\u2028\u2029"'),
        ("é東\U0001f600\ufeff", '"é東\U0001f600\ufeff"'),
        (RawText(b"a\xffb"), '"a\ufffdb"'),
        (RawText(b"\xe2\x80"), '"\ufffd\ufffd"'),
        (RawText(b"\xed\xa0\x80\xe2\x80\xa8"), '"\ufffd\ufffd\ufffd\\u2028"'),
        (b"blob", '"blob"'),
        (5, '"5"'),
    ],
)
def test_json_strings(stored: Cell, expected: str) -> None:
    """The escapes of the contract and no others; a U+FFFD for each byte that is not UTF-8."""
    assert json_line("text", text=stored) == expected


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (None, None),
        ("", None),
        (b"", None),
        (b"null", "null"),
        ("null", "null"),
        (b" null\n", "null"),
        (b"{}", "{}"),
        (b'{"a":{}}', '{\n      "a": {}\n    }'),
        (b'{"a":[1E5,1.0],"a":2}', '{\n      "a": [\n        1E5,\n        1.0\n      ],\n      "a": 2\n    }'),
        (b'"\\u0026\\u003c<&"', r'"\u0026\u003c<&"'),
        ('"\u2028"'.encode(), r'"\u2028"'),
        (b'{"a":1},{"x":2}', r'"{\"a\":1},{\"x\":2}"'),
        (b"NaN", '"NaN"'),
        (b"{a:1}", '"{a:1}"'),
        (b"null\0", r'"null\u0000"'),
        (b" ", '" "'),
        (b"[\xff", '"[\ufffd"'),
        (b'["\xff"]', '[\n      "\ufffd"\n    ]'),
        (17, "17"),
        (1e300, "1.0e+300"),
        (b"9" * 5000, "9" * 5000),
    ],
)
@pytest.mark.parametrize("key", ["embed_data", "labels"])
def test_embedded_json(key: str, stored: Cell, expected: str | None) -> None:
    """Left out when NULL or empty, else indented to its place, else kept as a string."""
    assert json_line(key, **{key: stored}) == expected


@each_format
@pytest.mark.parametrize("levels", [999, 1000, 1001, 2001])
def test_nested_embeds(format_name: str, levels: int) -> None:
    """JSON of any depth that the contract has is rendered alike, and its media are found."""
    deep = b"[" * (levels - 1) + b"]" * (levels - 1)
    embed = b'{"images":[{"fullsize":"https://x/a.jpg@x"}],"deep":' + deep + b"}"
    with contextlib.closing(memory_archive([post(embed_data=embed, has_media=1)])) as connection:
        exact, notices = exact_bytes(connection, format_name)[0]
        # Deep nesting may not be usual.
        assert usual_bytes(connection, format_name)[0] in (None, (exact, Notices()))
    assert notices == Notices()
    if format_name == "csv":
        assert exact.split(b",")[12] == b"a.jpg"
    elif format_name == "json":
        assert exact.count(b"\n") > levels


def test_nested_too_deep() -> None:
    """Beyond ten thousand levels it is kept as a string."""
    embed = b"[" * 10_001 + b"]" * 10_001
    assert json_line("embed_data", embed_data=embed) == f'"{embed.decode()}"'


@pytest.mark.parametrize("key", ["reply_parent", "embed_type"])
def test_left_out_keys(key: str) -> None:
    """A key whose value is NULL or empty is left out; a space is a value."""
    assert json_line(key, **{key: None}) is None
    assert json_line(key, **{key: ""}) is None
    assert json_line(key, **{key: b""}) is None
    assert json_line(key, **{key: " "}) == '" "'


@pytest.mark.parametrize(
    ("stored", "in_json", "in_csv"),
    [
        (None, "0", b"0"),
        (0, "0", b"0"),
        (-3, "-3", b"-3"),
        (2**63 - 1, "9223372036854775807", b"9223372036854775807"),
        (-(2**63), "-9223372036854775808", b"-9223372036854775808"),
        (5.0, "5", b"5"),
        (0.5, "0.5", b"0.5"),
        (2.0**63, "9.223372036854776e+18", b"9.223372036854776e+18"),
        (1e300, "1e+300", b"1e+300"),
        ("12", "12", b"12"),
        ("12 likes", '"12 likes"', b"12 likes"),
        ("", '""', b""),
        (b"12", '"12"', b"12"),
        (float("inf"), '"Inf"', b"Inf"),
    ],
)
def test_counts(stored: Cell, in_json: str, in_csv: bytes) -> None:
    """A NULL count is 0, a number is one, and what is no finite number is kept as it is stored."""
    assert json_line("like_count", like_count=stored) == in_json
    assert csv_fields(5, like_count=stored) == [in_csv]


@pytest.mark.parametrize(
    ("stored", "expected"),
    [(0, False), (1, True), (-1, True), (None, False), (0.5, True), ("", False), ("true", False), ("1", True)],
)
def test_flags(stored: Cell, expected: bool) -> None:
    """A boolean is true when it is a number other than zero."""
    text = "true" if expected else "false"
    assert json_line("is_reply", is_reply=stored) == json_line("has_media", has_media=stored) == text
    assert csv_fields(9, 11, is_reply=stored, has_media=stored) == [text.encode()] * 2


def test_times() -> None:
    """JSON keeps nanoseconds, CSV cuts them off; both keep the offset, and what is no time as it is stored."""
    stored = "2024-05-22 23:59:59.999999999 -0700 PDT"
    assert json_line("created_at", created_at=stored) == '"2024-05-22T23:59:59.999999999-07:00"'
    assert csv_fields(4, created_at=stored) == [b"2024-05-22T23:59:59-07:00"]
    assert json_line("indexed_at", indexed_at="2024-02-30") == '"2024-02-30"'
    assert csv_fields(14, indexed_at="2024-02-30") == [b"2024-02-30"]
    assert json_line("indexed_at", indexed_at=RawText(b"\xff\n")) == '"\ufffd\\n"'
    assert csv_fields(14, indexed_at=RawText(b"\xff\n")) == [b'"\xff\n"']
    assert json_line("archived_at", archived_at=None) == '""'
    assert json_line("archived_at", archived_at=2**62) == '"4611686018427387904"'


QUOTED: list[tuple[Cell, bytes]] = [
    ("", b""),
    (r"\.", rb'"\."'),
    (r"\..", rb"\.."),
    (r"a\.", rb"a\."),
    ('"', b'""""'),
    ('a"b', b'"a""b"'),
    ("a\nb", b'"a\nb"'),
    ("a\rb", b'"a\rb"'),
    ("a b ", b"a b "),
    ("'", b"'"),
    (";", b";"),
    ("#", b"#"),
    ("null", b"null"),
    ("a\0b", b"a\0b"),
    ("\0", b"\0"),
    (RawText(b"\xff"), b"\xff"),
    (RawText(b"\xe2\x80"), b"\xe2\x80"),
    (RawText(b"\x85"), b"\x85"),
    *((c, f'"{c}"'.encode()) for c in strategies.WHITE_SPACE),
    *((f"{c}x", f'"{c}x"'.encode()) for c in strategies.WHITE_SPACE),
    *((f"x{c}", f"x{c}".encode()) for c in strategies.WHITE_SPACE if c not in "\r\n"),
    *((c, c.encode()) for c in strategies.NEARLY_WHITE_SPACE),
]
"""What is stored, and the field."""


@pytest.mark.parametrize("name", ["uri", "cid", "did", "text", "reply_parent", "embed_type"])
def test_csv_quoting(name: str) -> None:
    """Quotes for `,` `"` CR LF, white space in front, and a lone `\\.`; bytes as they are stored."""
    place = ("uri", "cid", "did", "text", "", "", "", "", "", "", "reply_parent", "", "", "embed_type").index(name)
    for stored, expected in QUOTED:
        assert csv_fields(place, **{name: stored}) == [expected], stored


def test_csv_commas() -> None:
    """A comma puts a field in quotes, whichever it is."""
    names = ("uri", "cid", "did", "text", "reply_parent", "embed_type")
    record = only_post("csv", **dict.fromkeys(names, ","))
    assert record == b'",",",",",",",",2024-05-22T18:57:38Z,1,2,3,4,false,",",false,,",",2024-05-23T08:00:00Z'


@pytest.mark.parametrize(
    ("embed", "expected"),
    [
        (b"", b""),
        (b"null", b""),
        (b"[]", b""),
        (b'"https://x/a"', b""),
        (b"{}", b""),
        (b"{", b""),
        (b'{"images":[{"fullsize":"https://x/a.jpg"}]}', b"a.jpg"),
        (b'{"images":[{"fullsize":"https://x/a@jpeg"},{"fullsize":"https://x/b@c@d"}]}', b"a;b"),
        (b'{"images":[{"fullsize":"https://x@y/a"}]}', b"a"),
        (b'{"images":[{"fullsize":"noslash"},{"fullsize":"https://x/"},{"fullsize":"/@a"},{"fullsize":"/b"}]}', b"b"),
        (b'{"images":[{"fullsize":1},{"fullsize":null},{"thumb":"/t"},[],"/s",null,{"fullsize":"/b"}]}', b"b"),
        (b'{"images":{"fullsize":"/a"}}', b""),
        (
            b'{"media":{"images":[{"fullsize":"/m"}]},"images":[{"fullsize":"/i"}],"external":{"thumb":"/e@x"}}',
            b"i;m;e",
        ),
        (b'{"external":{"uri":"/u","thumb":"/e"}}', b"e"),
        (b'{"external":{"thumb":{"ref":"/e"}}}', b""),
        (b'{"external":["/e"],"media":[{"images":[]}]}', b""),
        (b'{"images":[{"fullsize":"/a"}],"images":[{"fullsize":"/b"}]}', b"b"),
        (b'{"images":[{"fullsize":"/a","fullsize":"/b"}]}', b"b"),
        (b'{"images":[{"fullsize":"/a"}],"images":null}', b""),
        (b'{"media":{"images":[{"fullsize":"/a"}]},"media":{}}', b""),
        (b'{"images":[{"fullsize":"/a\\"b"}]}', b'"a""b"'),
        (b'{"images":[{"fullsize":"/ a"},{"fullsize":"/b"}]}', b'" a;b"'),
        (b'{"images":[{"fullsize":"/\\\\."}]}', rb'"\."'),
        (b'{"images":[{"fullsize":"\\/\\u00e9"}]}', "é".encode()),
        (b'{"images":[{"fullsize":"/\\ud83d\\ude00"}]}', "\U0001f600".encode()),
        (b'{"images":[{"fullsize":"/\\ud800"}]}', "\ufffd".encode()),
        (b'{"images":[{"fullsize":"/\xff"}]}', "\ufffd".encode()),
        (b'{"images":[{"fullsize":"/a"}],"n":' + b"9" * 5000 + b"}", b"a"),
        (b'{"images":[{"fullsize":"/a"}],"n":1e999}', b"a"),
        (b'{"images":[{"fullsize":"/a"}],"n":NaN}', b""),
        (b'{"images":[{"fullsize":"/a"}]}\0', b""),
    ],
)
def test_media_files(embed: bytes, expected: bytes) -> None:
    """Names from images, media.images and external.thumb, in this order, of strings with a slash."""
    assert csv_fields(12, has_media=1, embed_data=embed) == [expected]
    assert csv_fields(12, has_media=0, embed_data=embed) == [b""]
    assert oracle.csv_field(oracle.media_files(embed)) == expected


def test_media_files_with_a_comma() -> None:
    """A name with a comma puts the field in quotes."""
    record = only_post("csv", has_media=1, embed_data=b'{"images":[{"fullsize":"/a,b"},{"fullsize":"/c"}]}')
    assert b',true,"a,b;c",' in record


# --- Notices ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "counts"),
    [
        ({}, {}),
        ({"text": RawText(b"\xff\xff"), "cid": RawText(b"\xff")}, {"invalid_utf8": 2}),
        ({"created_at": "never", "indexed_at": 2**62}, {"unreadable_time": 2}),
        ({"embed_data": b"{", "labels": b"NaN"}, {"unreadable_json": 2}),
        ({"embed_data": b'"\xff"'}, {"invalid_utf8": 1}),
        ({"embed_data": b"\xff"}, {"unreadable_json": 1, "invalid_utf8": 1}),
        ({"like_count": "many", "reply_count": b""}, {"unreadable_count": 2}),
    ],
)
def test_json_notices(cells: Row, counts: dict[str, int]) -> None:
    """What could not be exported as stored is counted once for each value."""
    with replaced_posts([post(**cells)]) as connection:
        assert rendered_by_row_ids(connection, "json")[1].counts == counts


@pytest.mark.parametrize(
    ("cells", "counts"),
    [
        ({"text": RawText(b"\xff\xff"), "labels": b"{", "archived_at": "never"}, {}),
        ({"created_at": "never", "indexed_at": 2**62}, {"unreadable_time": 2}),
        ({"embed_data": b"{"}, {}),
        ({"embed_data": b"{", "has_media": 1}, {"unreadable_json": 1}),
        ({"like_count": "many", "reply_count": b""}, {"unreadable_count": 2}),
    ],
)
def test_csv_notices(cells: Row, counts: dict[str, int]) -> None:
    """Only what a record shows is counted."""
    with replaced_posts([post(**cells)]) as connection:
        assert rendered_by_row_ids(connection, "csv")[1].counts == counts


@each_format
@pytest.mark.parametrize("uri", ["at://a", None, "", RawText(b"at://\xff")])
def test_notices_name_the_post(format_name: str, uri: Cell) -> None:
    """A notice says which column of which post, whatever its uri is."""
    with replaced_posts([post(uri=uri, created_at="never")]) as connection:
        notices = rendered_by_row_ids(connection, format_name)[1]
    shown = "at://\ufffd" if isinstance(uri, RawText) else str(uri or "")
    assert notices.places["unreadable_time"] == [f"created_at of {shown}"]


# --- Large posts ------------------------------------------------------------------------------------------------


@pytest.mark.quick(1)
@each_format
@pytest.mark.parametrize("column", ["text", "embed_data"])
def test_pieces_are_small(format_name: str, column: str) -> None:
    """Of a post of millions of bytes, no piece is much larger than what it is cut into."""
    large: dict[str, StoredValue] = {
        "text": 'é"\n東 '.encode() * 150_000,
        "embed_data": b"[" + b",".join([b'"abcdefgh"'] * 90_000) + b"]",
    }
    stored: dict[str, StoredValue] = dict.fromkeys(COLUMNS, b"")
    stored |= {"has_media": 1, "like_count": 0, "created_at": 0, column: large[column]}
    pieces = list(FORMATS[format_name].pieces(stored, Notices()))
    assert max(map(len, pieces)) < 1_600_000
    row: StoredRow = {name: RawText(cell) if isinstance(cell, bytes) else cell for name, cell in stored.items()}
    assert oracle.content(format_name, b"".join(pieces)) == oracle.POST[format_name](row)


# --- Formulas ---------------------------------------------------------------------------------------------------

EMBED_OF = '{{"images":[{{"fullsize":"/{}"}}]}}'


@pytest.mark.parametrize(
    "cells",
    [
        {"text": "{}cmd|' /C calc'!A0"},
        {"text": '{}SUM(1,"2")\n'},
        {"text": "{}"},
        {"created_at": "{}never"},
        {"indexed_at": "{}never"},
        {"like_count": "{}1+1"},
    ],
)
def test_formulas_are_counted(cells: dict[str, str | int]) -> None:
    """A cell that a spreadsheet may take for a formula is written as it is stored, and counted, whichever it is."""
    begins = [*"=+-@\t\r\n\0＝＋－＠", " =", "\u3000＝", "\ufeff\u200b-", "\x1e@"]
    for begin in begins:
        row = post(**{name: cell.format(begin) if isinstance(cell, str) else cell for name, cell in cells.items()})
        with replaced_posts([row, post(2)]) as connection:
            data, notices = rendered_by_row_ids(connection, "csv")
            assert data == oracle.csv_file(stored_rows(connection)), begin
            assert notices.formulas == 1, begin
            assert notices.warnings["formula"] == 1, begin
            assert "formula" not in notices.places, begin
            assert rendered_by_row_ids(connection, "json")[1].formulas == 0, begin


@pytest.mark.parametrize("begin", ["=", "+", "-", "＝", "＋", "－", "＠", "\\t", "\\r", "\\u003d"])
def test_names_of_media_like_formulas_are_counted(begin: str) -> None:
    """So is one made of the names of media; an @ ends a name, so that none begins with it."""
    rows = [post(n, has_media=1, embed_data=EMBED_OF.format(name)) for n, name in enumerate((f"{begin}a", "@a", "a"))]
    with replaced_posts(rows) as connection:
        data, notices = rendered_by_row_ids(connection, "csv")
        assert data == oracle.csv_file(stored_rows(connection))
        assert notices == Notices(formulas=1)


@pytest.mark.parametrize("text", ["", " ", " a=1", "'=1", '"=1"', "a=1", "1-1", "–1", "\ufeff", "＜", "㌀", "\xef"])
def test_what_is_no_formula(text: str) -> None:
    """Only the first character that shows counts, and negative numbers are no formulas."""
    with replaced_posts([post(text=text, like_count=-3, repost_count=-2.5)]) as connection:
        assert rendered_by_row_ids(connection, "csv")[1] == Notices()


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_formulas_do_not_depend_on_batches(batch_size: int) -> None:
    """Nor on whether the posts beside them are rendered exactly."""
    rows = [post(number, text="@you" if number % 3 else "you") for number in range(60)]
    rows[30]["created_at"] = "never"
    with replaced_posts(rows) as connection:
        assert rendered_by_row_ids(connection, "csv", batch_size=batch_size)[1].formulas == 40


# --- Settings ---------------------------------------------------------------------------------------------------


def rendered_with(connection: apsw.Connection, format_name: str, **settings: Any) -> bytes:
    """A whole file of all posts, with these settings."""
    format = FORMATS[format_name].configured(FormatSettings(**settings))
    renderer = BatchRenderer(connection, TABLE_COLUMNS, None, format, Selection())
    file = format.new_file()
    pieces: list[bytes | memoryview] = []
    for batch in row_id_batches(sorted_row_ids(connection), 1000):
        for chunk in renderer.render(batch):
            pieces += file.add(chunk.data, chunk.posts)
    return b"".join([*pieces, *file.finish()])


def table_of(data: bytes, delimiter: str = ",") -> list[list[str]]:
    """The records of a CSV file without its byte order mark, as Python's csv reads them."""
    text = data.decode("utf-8", "surrogateescape")
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))


chosen_columns = st.lists(st.sampled_from(FORMATS["csv"].columns), min_size=1, unique=True)


@pytest.mark.quick(1)
@settings(max_examples=60)
@given(
    rows=st.lists(strategies.posts(), max_size=4),
    columns=chosen_columns,
    delimiter=st.sampled_from(DELIMITERS),
    csv_safe=st.booleans(),
)
def test_tables_of_some_columns(rows: list[Row], columns: list[str], delimiter: str, csv_safe: bool) -> None:
    """Any columns, in any order, with any delimiter, have the cells of the whole table, made safe or not."""
    for number, row in enumerate(rows):
        row["uri"] = f"at://{number}"
    with replaced_posts(rows) as connection:
        whole = table_of(rendered_by_row_ids(connection, "csv")[0][3:])
        data = rendered_with(
            connection, "csv", columns=tuple(columns), delimiter=delimiter, bom=False, csv_safe=csv_safe
        )
    table = table_of(data, delimiter)
    places = [list(FORMATS["csv"].columns).index(name) for name in columns]
    if csv_safe:
        assert not any(oracle.is_formula(cell) and not NUMBER.fullmatch(cell) for row in table for cell in row)
        table = [[as_stored(cell) for cell in row] for row in table]
    assert table == [[row[place] for place in places] for row in whole]


NUMBER = re.compile(r"-[0-9.e+-]+")


def as_stored(cell: str) -> str:
    """What a cell of a table that was made safe stands for."""
    return cell[1:] if cell.startswith("'") and oracle.is_formula(cell.lstrip("'")) else cell


BEGINNINGS = [
    *("=1", "'=1", "''@x", "'", "'x", "-", "x=1", "＝", " =1", "'\t", "\n", "'\n1", "\0=", "\u200b＠", "' =", " '="),
    *("\ufeff+1", "\x1e-1", "\x1f@", '"=1', '="1"', "\r\n=1", "=1,;|\t2", "a,=1", "a;'=1", "a\t=1", "a\n=1"),
]


@pytest.mark.parametrize("delimiter", DELIMITERS)
@pytest.mark.parametrize(
    "name", ["uri", "cid", "did", "text", "reply_parent", "embed_type", "indexed_at", "like_count"]
)
def test_safe_cells(name: str, delimiter: str) -> None:
    """An apostrophe comes before what a spreadsheet may read as a formula, and before what looks made safe already."""
    rows = [post(number) | {name: stored} for number, stored in enumerate(BEGINNINGS)]
    with replaced_posts(rows) as connection:
        data = rendered_with(connection, "csv", columns=(name,), delimiter=delimiter, bom=False, csv_safe=True)
        safe = [cell for (cell,) in table_of(data, delimiter)[1:]]
        assert rendered_by_row_ids(connection, "csv")[1].formulas == sum(map(oracle.is_formula, BEGINNINGS))
    marked = ["'" + stored if oracle.is_formula(stored.lstrip("'")) else stored for stored in BEGINNINGS]
    assert sorted(safe) == sorted(marked)
    assert sorted(map(as_stored, safe)) == sorted(BEGINNINGS)


@pytest.mark.quick(1)
@settings(max_examples=40)
@given(
    rows=st.lists(strategies.posts(), max_size=4),
    columns=st.lists(st.sampled_from(COLUMNS), min_size=1, unique=True),
)
def test_lines_of_some_columns(rows: list[Row], columns: list[str]) -> None:
    """Any keys, in any order, have the values that a whole line has."""
    for number, row in enumerate(rows):
        row["uri"] = f"at://{number}"
    with replaced_posts(rows) as connection:
        whole = [
            strict_json.parsed(line.decode()) for line in rendered_by_row_ids(connection, "jsonl")[0].split(b"\n")[:-1]
        ]
        lines = rendered_with(connection, "jsonl", columns=tuple(columns)).split(b"\n")[:-1]
    found = [strict_json.parsed(line.decode()) for line in lines]
    assert found == [{name: one[name] for name in columns if name in one} for one in whole]
    assert [list(one) for one in found] == [[name for name in columns if name in one] for one in whole]


@pytest.mark.quick(1)
@settings(max_examples=40)
@given(
    rows=st.lists(strategies.posts(), max_size=4),
    columns=st.lists(st.sampled_from(FORMATS["parquet"].columns), min_size=1, unique=True),
)
def test_parquet_of_some_columns(rows: list[Row], columns: list[str]) -> None:
    """Any columns, in any order, are those of the whole table; `originals` does not depend on the others."""
    for number, row in enumerate(rows):
        row["uri"] = f"at://{number}"
    with replaced_posts(rows) as connection:
        whole = pq.read_table(pa.BufferReader(rendered_by_row_ids(connection, "parquet")[0]))
        some = pq.read_table(pa.BufferReader(rendered_with(connection, "parquet", columns=tuple(columns))))
    assert some == whole.select(columns)


def test_row_groups() -> None:
    """Row groups are cut by posts and by bytes, at the same posts whatever the batches are; none is empty."""
    rows = [post(number, text="x" * (2_000 if number in (30, 31) else 10)) for number in range(50)]
    with limits(ROW_GROUP_POSTS=20, ROW_GROUP_BYTES=4_000), replaced_posts(rows) as connection:
        files = [rendered_by_row_ids(connection, "parquet", batch_size=size)[0] for size in (1, 7, 1000)]
    assert files[0] == files[1] == files[2]
    with pq.ParquetFile(pa.BufferReader(files[0])) as file:
        sizes = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
        assert sum(sizes) == 50
        assert max(sizes) <= 20
        assert sizes[0] == 20 or sizes[0] > 5
        assert min(sizes) >= 1
        assert [row["uri"] for row in file.read().to_pylist()] == sorted(str(row["uri"]) for row in rows)
        compressions = {
            file.metadata.row_group(0).column(place).compression for place in range(file.metadata.num_columns)
        }
    assert compressions == {"ZSTD"}
    assert rendered_parquet_sizes(rows) == [50]


def rendered_parquet_sizes(rows: list[Row]) -> list[int]:
    """The posts of each row group with the usual bounds."""
    with replaced_posts(rows) as connection:
        data = rendered_by_row_ids(connection, "parquet")[0]
    with pq.ParquetFile(pa.BufferReader(data)) as file:
        return [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
