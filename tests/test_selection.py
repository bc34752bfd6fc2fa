"""Which posts are taken: by author, and by instants, whatever the spelling of the stored time."""

from __future__ import annotations

from collections.abc import Iterable

import apsw
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from skyexport import json_text, timestamps
from skyexport.selection import Selection
from tests import oracle, strategies
from tests.archives import (
    Cell,
    RawText,
    Row,
    StoredRow,
    post,
    replaced_posts,
    stored_rows,
)


def selected(connection: apsw.Connection, selection: Selection) -> list[str]:
    """The cids of the selected posts, by the SQL of the selection alone."""
    selection.register(connection)
    sql = f"select cid from posts where {selection.where_sql()} order by created_at desc, uri"
    return [str(cid) for (cid,) in connection.execute(sql, selection.parameters())]


def selected_along_spans(connection: apsw.Connection, selection: Selection) -> list[str]:
    """The same, looking only at the spans."""
    selection.register(connection)
    found = []
    for span in selection.spans():
        sql = (
            f"select cid from posts indexed by idx_posts_created_at where {span.where} and ({selection.where_sql()})"
            " order by created_at desc, uri"
        )
        found += [str(cid) for (cid,) in connection.execute(sql, {**selection.parameters(), **span.parameters})]
    return found


def expected(rows: Iterable[StoredRow], selection: Selection) -> list[str]:
    """The same by looking at each post."""
    return [
        oracle.bytes_of(row["cid"]).decode()
        for row in oracle.in_export_order(rows)
        if (selection.did is None or row["did"] == RawText(selection.did.encode())) and is_within(row, selection)
    ]


def is_within(row: StoredRow, selection: Selection) -> bool:
    """Whether a post lies within the bounds."""
    if not selection.by_date:
        return True
    cell = row["created_at"]
    stamp = timestamps.parse(cell if isinstance(cell, int) else json_text.decode(oracle.bytes_of(cell)))
    if stamp is None:
        return False
    instant = stamp.instant_nanoseconds()
    return (selection.since is None or instant >= selection.since) and (
        selection.until is None or instant <= selection.until
    )


def rows_at(times: Iterable[Cell]) -> list[Row]:
    """A post at each of these times."""
    return [post(number, created_at=time, cid=f"cid{number}") for number, time in enumerate(times)]


def agreed(rows: list[Row], selection: Selection) -> list[str]:
    """The cids of the selected posts, once every way has found the same."""
    with replaced_posts(rows) as connection:
        found = expected(stored_rows(connection), selection)
        assert selected(connection, selection) == found
        assert selected_along_spans(connection, selection) == found
    return found


INSTANT = 1_716_404_258_254_000_000  # 2024-05-22 18:57:38.254 UTC


@pytest.mark.parametrize(
    "stored",
    [
        "2024-05-22 18:57:38.254 +0000 UTC",
        "2024-05-22 18:57:38.254 +0000 UTC m=+1.5",
        "2024-05-22 18:57:38.254000 +0000 UTC",
        "2024-05-23 03:57:38.254 +0900 +0900",
        "2024-05-22 11:57:38.254 -0700 PDT",
        "2024-05-22T18:57:38.254Z",
        "2024-05-23T18:56:38.254+23:59",
        "2024-05-21T18:58:38.254-23:59",
        "2024-05-22 18:57:38.254",
        " 2024-05-22 18:57:38.254 +0000 UTC",
        "\u30002024-05-22 18:57:38.254 +0000 UTC",
        b"2024-05-22 18:57:38.254 +0000 UTC",
        b"2024-05-22T18:57:38.254Z",
        1_716_404_258_254,
    ],
)
def test_a_bound_on_the_post(stored: Cell) -> None:
    """Both bounds are inclusive and count nanoseconds, however the time of the post is spelt."""
    rows = rows_at([stored])
    assert agreed(rows, Selection(since=INSTANT, until=INSTANT)) == ["cid0"]
    assert agreed(rows, Selection(since=INSTANT)) == ["cid0"]
    assert agreed(rows, Selection(until=INSTANT)) == ["cid0"]
    assert agreed(rows, Selection(since=INSTANT + 1)) == []
    assert agreed(rows, Selection(until=INSTANT - 1)) == []
    assert agreed(rows, Selection(since=INSTANT - 1, until=INSTANT + 1)) == ["cid0"]


def test_nanoseconds() -> None:
    """Posts a nanosecond apart are told apart, also over the border of a second."""
    rows = rows_at(
        [
            "1970-01-01 00:00:01 +0000 UTC",
            "1970-01-01 00:00:01.000000001 +0000 UTC",
            "1970-01-01 00:00:00.999999999 +0000 UTC",
        ]
    )
    assert agreed(rows, Selection(since=10**9, until=10**9)) == ["cid0"]
    assert agreed(rows, Selection(since=10**9 + 1)) == ["cid1"]
    assert agreed(rows, Selection(until=10**9 - 1)) == ["cid2"]
    assert agreed(rows, Selection(since=10**9 - 1, until=10**9 + 1)) == ["cid1", "cid0", "cid2"]


@pytest.mark.parametrize("stored", strategies.GARBAGE_TIMES)
def test_garbage_is_within_no_bounds(stored: str) -> None:
    """A post without a readable time is never selected by date, and always without."""
    rows = rows_at([stored, RawText(stored.encode() + b"\xff"), b"never", 2**63 - 1, 1.5])
    assert agreed(rows, Selection(since=-(10**30), until=10**30)) == []
    assert len(agreed(rows, Selection())) == 5


@pytest.mark.parametrize(
    ("selection", "found"),
    [
        (Selection(until=253_402_333_199 * 10**9), 3),  # 9999-12-31T23:59:59-09:00, in the year 10000
        (Selection(since=253_402_333_199 * 10**9), 0),
        (Selection(until=-62_167_251_600 * 10**9), 0),  # 0000-01-01T00:00:00+09:00, in the year -1
        (Selection(since=-62_167_251_600 * 10**9), 3),
        (Selection(since=-62_150_000_000 * 10**9), 2),  # in the middle of the year 0
        (Selection(until=-62_150_000_000 * 10**9), 1),
    ],
)
def test_bounds_at_the_ends_of_the_calendar(selection: Selection, found: int) -> None:
    """Bounds in the year 0, and beyond the years that four digits name, select what lies within."""
    rows = rows_at(["0000-02-29 00:00:00 +0000 UTC", "2024-05-22 18:57:38 +0000 UTC", "9999-12-31 23:59:59 +0000 UTC"])
    assert len(agreed(rows, selection)) == found


_instants = st.one_of(
    st.none(),
    st.integers(INSTANT - 2 * 86_400 * 10**9, INSTANT + 2 * 86_400 * 10**9),
    st.integers(-62_170_000_000, 253_403_000_000).map(lambda seconds: seconds * 10**9),
)
_near_instant = st.builds(
    "2024-05-{:02d} {:02d}:57:38{} {}".format,
    st.integers(20, 24),
    st.integers(0, 23),
    st.sampled_from(["", ".254", ".253999999"]),
    st.sampled_from(["+0000 UTC", "+0900 +0900", "-0700 PDT", "+0000 UTC m=+1.5"]),
)
_white_space = st.builds("{}{}".format, st.sampled_from(strategies.WHITE_SPACE), strategies.read_times)


@settings(max_examples=150)
@given(
    st.lists(st.one_of(_near_instant, strategies.stored_times, _white_space), min_size=1, max_size=8),
    st.one_of(_instants, st.just(INSTANT)),
    st.one_of(_instants, st.just(INSTANT)),
    st.booleans(),
)
@example(["2024-05-22 18:57:38.254 +0000 UTC"], INSTANT, INSTANT, False)
def test_selection_is_what_looking_at_each_post_gives(
    times: list[Cell], since: int | None, until: int | None, on_posts: bool
) -> None:
    """Any times, any bounds: the SQL, with spans or without, selects what looking at each post selects."""
    rows = rows_at(times)
    if on_posts and isinstance(times[0], str):
        stamp = timestamps.parse(times[0])
        since = until = stamp.instant_nanoseconds() if stamp else since
    agreed(rows, Selection(since=since, until=until))


@pytest.mark.parametrize("did", ["did:plc:a", "did:plc:b", "did:plc:c", "7"])
def test_author(did: str) -> None:
    """Only posts whose author is stored as this text, compared bytewise."""
    dids: list[Cell] = ["did:plc:a", "did:plc:b", "DID:PLC:A", "did:plc:a ", b"did:plc:a", RawText(b"did:plc:b\0"), 7]
    rows = [post(number, did=stored, cid=f"cid{number}") for number, stored in enumerate(dids)]
    found = {"did:plc:a": ["cid0"], "did:plc:b": ["cid1"], "did:plc:c": [], "7": ["cid6"]}
    assert agreed(rows, Selection(did=did)) == found[did]
    assert agreed(rows, Selection(did=did, since=INSTANT)) == found[did]
    assert agreed(rows, Selection(did=did, since=INSTANT + 1)) == []


def test_properties() -> None:
    """A selection knows whether it takes everything."""
    assert Selection().everything
    assert not Selection(did="did:plc:a").everything
    assert not Selection(since=0).everything
    assert not Selection(did="did:plc:a").by_date
    assert Selection(until=0).by_date


@given(st.lists(strategies.stored_times, max_size=12), _instants, _instants)
def test_spans_are_disjoint_and_in_order(times: list[Cell], since: int | None, until: int | None) -> None:
    """The spans follow each other in export order and share no post."""
    with replaced_posts(rows_at(times)) as connection:
        in_order = [row[0] for row in connection.execute("select cid from posts order by created_at desc, uri")]
        along_spans = [
            row[0]
            for span in Selection(since=since, until=until).spans()
            for row in connection.execute(
                f"select cid from posts where {span.where} order by created_at desc, uri", span.parameters
            )
        ]
    assert along_spans == [cid for cid in in_order if cid in set(along_spans)]
    assert len(along_spans) == len(set(along_spans))
