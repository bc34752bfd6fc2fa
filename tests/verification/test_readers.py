"""Reading data files back: what is accepted, what is not, in blocks of any size, in bounded memory."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
import tracemalloc
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from skyexport.formats import FORMATS
from skyexport.formats.settings import DEFAULTS, FormatSettings
from skyexport.json_text import decode
from skyexport.verification.post_keys import LONGEST_VALUE, Keys, PostKey, comparable, post_keys
from skyexport.verification.readers import READERS
from tests.archives import Row, memory_archive, post, read_rows, rendered_by_row_ids
from tests.environment import ROOT
from tests.oracle import CSV_HEADER, JSON_KEYS, OPTIONAL_KEYS

GOLDEN = ROOT / "tests" / "golden"


def posts_read(
    format: str,
    data: bytes,
    block_bytes: int = 1 << 20,
    *,
    laid_out: FormatSettings = DEFAULTS,
    keys: Keys | None = None,
) -> int:
    """How many posts the reader finds, in blocks of this size; *keys* gets their keys."""
    reader = READERS[format].reader(laid_out, lambda: io.BytesIO(data), keys)
    for start in range(0, len(data), block_bytes):
        reader.feed(data[start : start + block_bytes])
    reader.finish()
    return reader.posts


def golden(format: str) -> bytes:
    """The golden posts in a format."""
    if format != "parquet":
        return (GOLDEN / f"posts.{format}").read_bytes()
    with contextlib.closing(memory_archive(read_rows(GOLDEN / "rows.json"))) as connection:
        return rendered_by_row_ids(connection, format)[0]


def golden_keys(format: str) -> list[PostKey]:
    """The keys of the golden posts, as Python's own readers find them."""
    if format == "csv":
        table = csv.DictReader(io.StringIO(decode(golden("csv")).removeprefix("\ufeff"), newline="\n"))
        return post_keys((one["URI"], one["CID"], one["IndexedAt"]) for one in table)
    return post_keys((one["uri"], one["cid"], one["indexed_at"]) for one in json.loads(golden("json")))


GOLDEN_KEYS = {format: golden_keys(format) for format in FORMATS}


def refused_json(_: bytes) -> None:
    raise orjson.JSONDecodeError("refused", "", 0)


def refused_csv(*_: object, **__: object) -> None:
    raise csv.Error


@pytest.fixture(params=["fast", "slow"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to read: with the parsers in C, and as if they refused everything."""
    if request.param == "slow":
        monkeypatch.setattr(orjson, "loads", refused_json)
        monkeypatch.setattr(csv, "reader", refused_csv)
    return str(request.param)


@pytest.mark.parametrize("block_bytes", [1, 2, 3, 7, 64, 1000, 1 << 20])
@pytest.mark.parametrize("format", FORMATS)
def test_golden_files(way: str, format: str, block_bytes: int) -> None:
    """Every hostile and ordinary post is counted, wherever blocks end, whichever parser reads it."""
    del way
    posts = len(read_rows(GOLDEN / "rows.json"))
    assert posts_read(format, golden(format), block_bytes) == posts


@pytest.mark.parametrize("block_bytes", [1, 3, 1000, 1 << 20])
@pytest.mark.parametrize("format", FORMATS)
def test_keys(way: str, format: str, block_bytes: int) -> None:
    """The keys of all posts are found, wherever blocks end, whichever parser reads them."""
    del way
    keys: list[PostKey] = []
    posts_read(format, golden(format), block_bytes, keys=keys.extend)
    assert keys == GOLDEN_KEYS[format]


# Whatever texts posts have, and however they are spelt: escaped or not, half characters, quotes, breaks, formulas.
key_texts = st.one_of(
    st.text(max_size=20),
    st.text(st.sampled_from("\"\\\n\r,='a\u2028\ud83d\ude00"), max_size=12),
    st.integers(LONGEST_VALUE - 1, LONGEST_VALUE + 1).map(lambda length: "x" * length),
    st.integers(LONGEST_VALUE - 1, LONGEST_VALUE + 1).map(lambda length: "\u3042" * length),
    st.just("y" * 50_000),
)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(key_texts, key_texts, key_texts), max_size=4), st.sampled_from(["json", "jsonl", "csv"]),
    st.booleans(), st.sampled_from([2, 5, 1000, 1 << 20]),
)  # fmt: skip
def test_keys_of_any_posts(values: list[tuple[str, str, str]], format: str, plain: bool, block_bytes: int) -> None:
    """Both ways to read agree with what was written; too long texts, and those with half characters, are None."""
    names = ("uri", "cid", "indexed_at")
    posts = [dict.fromkeys(JSON_KEYS, "") | dict(zip(names, one, strict=True)) for one in values]
    if format == "csv":
        values = [one for one in values if "\r" not in "".join(one)]
        text = "".join(
            "\t".join(f'"{quoted}"' for quoted in (value.replace('"', '""') for value in one)) + "\n" for one in values
        )
    elif format == "json":
        text = json.dumps(posts, indent=2, ensure_ascii=not plain) + "\n"
    else:
        text = "".join(json.dumps(one, ensure_ascii=not plain) + "\n" for one in posts)
    if format == "csv" or plain:
        assume(not re.search("[\ud800-\udfff]", text))
    laid_out = FormatSettings(columns=names, delimiter="\t", header=False, bom=False) if format == "csv" else DEFAULTS
    expected = [tuple(map(comparable, one)) for one in values]
    assert all(value is None or len(value) <= LONGEST_VALUE for one in expected for value in one)
    for way in ("fast", "slow"):
        keys: list[PostKey] = []
        with pytest.MonkeyPatch.context() as monkeypatch:
            if way == "slow":
                monkeypatch.setattr(orjson, "loads", refused_json)
                monkeypatch.setattr(csv, "reader", refused_csv)
            # Not too many blocks.
            posts_read(format, text.encode(), max(block_bytes, len(text) // 2000), laid_out=laid_out, keys=keys.extend)
        assert keys == expected


def test_keys_in_any_columns() -> None:
    """Keys are found in any order of columns; what `--csv-safe` added is taken away."""
    keys: list[PostKey] = []
    laid_out = FormatSettings(columns=("text", "indexed_at", "uri", "cid"), csv_safe=True)
    data = b'\xef\xbb\xbfText,IndexedAt,URI,CID\n"a,\n""b",t,\'=u,c\n'
    assert posts_read("csv", data, laid_out=laid_out, keys=keys.extend) == 1
    assert keys == [("=u", "c", "t")]


@pytest.mark.parametrize("format", FORMATS)
def test_no_posts(way: str, format: str) -> None:
    """A file without posts is one."""
    del way
    empty = b"".join(FORMATS[format].configured(DEFAULTS).new_file().finish())
    assert posts_read(format, empty) == posts_read(format, empty, 1) == 0


def test_names_are_those_of_the_formats() -> None:
    """There is a reader for each format, of the file that it writes."""
    assert {name: kind.suffix for name, kind in READERS.items()} == {
        name: format.suffix for name, format in FORMATS.items()
    }


def small_file(format: str) -> bytes:
    """A file of few posts that has all kinds of tokens in it."""
    rows: list[Row] = [
        post(
            1,
            text='a "quoted" \\ text, A line\n\t\x01\U0001f600',
            embed_data=b'{"a": [1.5e3, -0, {}, [], "\\ud800"]}',
        ),
        post(2, text="", embed_data=b"", labels=b"", reply_parent="at://x"),
        post(3, labels=b'[{"val": "x", "neg": false, "n": null}]', embed_type="images"),
    ]
    connection = memory_archive(rows)
    data, _ = rendered_by_row_ids(connection, format)
    connection.close()
    return data


SMALL = {format: small_file(format) for format in FORMATS}


EMBEDS = {
    "deep": (b"[" * 3000, b"]", 3000, b""),
    "numbers": (b"[", b"7", 1_500_000, b", 1e999, -0.0e-0]"),
    "surrogates": (b'{"\\ud800": ["\\udfff\\ud800", "', b"\\u0000", 500_000, b'"]}'),
    "many": (b"[", b"0,", 200_000, b"{}]"),
    "name": (b'{"images": [{"fullsize": "/', b"n", 2_500_000, b'@"}]}'),
}
"""What embeds may be, and the fast parsers refuse: beginning, what is repeated, how often, end."""


@pytest.mark.quick(2)
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("kind", EMBEDS)
def test_embeds_beyond_the_usual(format: str, kind: str) -> None:
    """They are read all the same, between usual posts."""
    before, unit, count, after = EMBEDS[kind]
    embed = before + unit * count + after
    connection = memory_archive([post(1), post(2, embed_data=embed, has_media=1), post(3), post(4)])
    data, notices = rendered_by_row_ids(connection, format)
    connection.close()
    assert not notices.counts
    for block_bytes in (100_000, 1 << 20):
        assert posts_read(format, data, block_bytes) == 4


def is_json_of_posts(data: bytes) -> bool:
    """What a reader should say, found out with Python's own json."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    def is_post(pairs: Any) -> bool:
        keys = [key for key, _ in pairs] if isinstance(pairs, tuple) else None
        return keys is not None and keys == [key for key in JSON_KEYS if key in keys or key not in OPTIONAL_KEYS]

    try:
        found = json.loads(data.decode(), object_pairs_hook=tuple, parse_constant=refuse, parse_int=float)
    except ValueError:
        return False
    return isinstance(found, list) and all(map(is_post, found))


@given(st.integers(0, len(SMALL["json"]) - 1), st.binary(max_size=2), st.integers(0, 2), st.sampled_from([7, 5000]))
def test_damaged_json(position: int, put: bytes, removed: int, block_bytes: int) -> None:
    """A reader accepts a damaged file exactly when Python's json does, and finds posts in it."""
    data = SMALL["json"][:position] + put + SMALL["json"][position + removed :]
    expected = is_json_of_posts(data)
    try:
        posts_read("json", data, block_bytes)
        accepted = True
    except ValueError:
        accepted = False
    assert accepted == expected, data


@given(st.integers(0, len(SMALL["csv"]) - 1), st.binary(max_size=2), st.integers(0, 2), st.sampled_from([7, 5000]))
def test_damaged_csv(position: int, put: bytes, removed: int, block_bytes: int) -> None:
    """What the reader accepts of a damaged file, Python's csv reads as so many records of fifteen fields."""
    data = SMALL["csv"][:position] + put + SMALL["csv"][position + removed :]
    try:
        posts = posts_read("csv", data, block_bytes)
    except ValueError:
        return
    header, *records = csv.reader(io.StringIO(data.decode("utf-8-sig", "replace"), newline="\n"))
    assert header == CSV_HEADER.split(",")
    assert len(records) == posts
    assert {len(record) for record in records} <= {15}


@pytest.mark.quick(2)
@pytest.mark.parametrize("format", FORMATS)
def test_every_cut_is_noticed(way: str, format: str) -> None:
    """A file that ends early is refused, unless only JSON's last line feed is gone, or whole records or lines."""
    del way
    data = SMALL[format]
    accepted = []
    for length in range(len(data)):
        with contextlib.suppress(ValueError):
            accepted.append(posts_read(format, data[:length]))
    assert accepted == {"json": [3], "csv": [0, 1, 2], "jsonl": [0, 1, 2], "parquet": []}[format]


ODD_JSON = [
    (b"", "cut off at byte 0"),
    (b"{}", "not an array"),
    (b"[1]", "post 1 is not an object"),
    (b'["a"]', "post 1 is not an object"),
    (b"[{}]", "post 1 does not have the keys"),
    (b'[{"uri": 1, "cid": 2}]', "post 1 does not have the keys .*uri, cid"),
    (b"[" + b'{"a":1' + b',"a":1' * 100 + b"}]", "post 1 does not have the keys"),
    (b"[]]", "not JSON at byte 3"),
    (b"[],", "not JSON at byte 3"),
    (b"[,]", "not JSON at byte 2"),
    (b"\xef\xbb\xbf[]", "not JSON at byte 1"),
    (b"[" * 20_000, "post 1 is not an object"),
    (b'[{"uri":' + b"[" * 20_000, "no more than 10,002 levels"),
    (b'[{"uri":01}]', "no such number"),
    (b'[{"uri":NaN}]', "no such number or word"),
    (b'[{"uri":"\n"}]', "no such character in a string"),
    (b'[{"uri":"\\x"}]', "no such character in a string"),
    (b'[{"uri":"\xff"', "not UTF-8 at byte 10, in post 1"),
    (b"[\x00]", "not JSON at byte 2"),
]


@pytest.mark.quick(27)
@pytest.mark.parametrize("block_bytes", [3, 1 << 20])
@pytest.mark.parametrize(("data", "message"), ODD_JSON, ids=[message for _, message in ODD_JSON])
def test_what_is_no_json_of_posts(way: str, data: bytes, message: str, block_bytes: int) -> None:
    """Each is refused with its place."""
    del way
    with pytest.raises(ValueError, match=message):
        posts_read("json", data, block_bytes)


HEADER = SMALL["csv"][: SMALL["csv"].index(b"\n") + 1]
RECORD = b",".join([b"x"] * 15) + b"\n"
ODD_CSV = [
    (b"", "does not begin with their header"),
    (HEADER[3:], "does not begin with their header"),
    (HEADER[:-1] + b"\r\n", "does not begin with their header"),
    (HEADER + b"\n", "post 1 has . fields"),
    (HEADER + RECORD + b"x" + RECORD[1:-3] + b"\n", "post 2 has 14 fields"),
    (HEADER + RECORD[:-1] + b",\n", "post 1 has 16 fields"),
    (HEADER + RECORD + RECORD[:-1], "cut off in post 2"),
    (HEADER + b'"x"x' + RECORD[1:], "not CSV"),
]


@pytest.mark.parametrize(("data", "message"), ODD_CSV, ids=[message for _, message in ODD_CSV])
def test_what_is_no_table_of_posts(way: str, data: bytes, message: str) -> None:
    """Each is refused with its post."""
    del way
    with pytest.raises(ValueError, match=message):
        posts_read("csv", data)


LARGE = [
    ("json", b'[{"', b"k", 5_000_000, b'": 1}]', "post 1 does not have the keys"),
    ("json", b'[{"uri":', b"9", 5_000_000, b"." * 30, "no such number"),
    ("json", b"[", b" ", 5_000_000, b"!", "not JSON at byte 5,000,002"),
    ("csv", HEADER + b'"', b"x", 5_000_000, b"", "cut off in post 1"),
    ("csv", HEADER, b"x", 5_000_000, b"\n", "post 1 has 1 fields"),
    ("csv", HEADER, b"x", 5_000_000, b'"\n', "not CSV: '\"' is out of place in post 1"),
]


@pytest.mark.parametrize("block_bytes", [50_000, 1 << 20])
@pytest.mark.parametrize(("format", "before", "unit", "count", "after", "message"), LARGE)
def test_what_is_wrong_and_large(
    format: str, before: bytes, unit: bytes, count: int, after: bytes, message: str, block_bytes: int
) -> None:
    """What is too large for the fast parsers is refused as well, with its place."""
    with pytest.raises(ValueError, match=message):
        posts_read(format, before + unit * count + after, block_bytes)


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    ("format", "unit"),
    [
        ("json", b"x"),
        ("json", rb"\u0001\n\""),
        ("json", "\U0001f600\u3042\u00e9".encode()),
        ("jsonl", rb"\u0001\n\""),
        ("csv", b"x"),
        ("csv", b'\n"",""'),
        ("csv", "\U0001f600\n,".encode()),
    ],
)
def test_memory_for_a_large_post(tmp_path: Path, format: str, unit: bytes) -> None:
    """A post of 60 MB, between others, is read in a fraction of its size."""
    before, after = SMALL[format].split(b"A line\n" if format == "csv" else rb"A line\n", 1)
    with (tmp_path / "out").open("wb") as file:
        file.write(before)
        for _ in range(600):
            file.write(unit * (100_000 // len(unit)))
        file.write(after)
    taken: list[PostKey] = []
    reader = READERS[format].reader(DEFAULTS, lambda: (tmp_path / "out").open("rb"), taken.extend)
    tracemalloc.start()
    try:
        with (tmp_path / "out").open("rb", buffering=0) as file:
            while block := file.read(1 << 20):
                reader.feed(block)
        reader.finish()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert reader.posts == len(set(taken)) == 3
    assert peak < 40_000_000
