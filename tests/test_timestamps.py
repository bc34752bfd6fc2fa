"""Reading stored times: every spelling, what is none, and SQLite doing the same as Python."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from skyexport import json_text, timestamps
from tests import oracle, strategies
from tests.archives import RawText

SPELLINGS = [
    # stored, RFC 3339, RFC 3339 to the second
    ("2024-05-22 18:57:38.254 +0000 UTC", "2024-05-22T18:57:38.254Z", "2024-05-22T18:57:38Z"),
    ("2024-05-22 18:57:38 +0000 UTC", "2024-05-22T18:57:38Z", "2024-05-22T18:57:38Z"),
    ("2024-05-22 18:57:38 +0000 UTC m=+12.345678", "2024-05-22T18:57:38Z", "2024-05-22T18:57:38Z"),
    ("2024-05-22 18:57:38.1 +0000 UTC m=-0.000000001", "2024-05-22T18:57:38.1Z", "2024-05-22T18:57:38Z"),
    ("2024-05-22 18:57:38.000000001 +0000 UTC", "2024-05-22T18:57:38.000000001Z", "2024-05-22T18:57:38Z"),
    ("2024-05-22 18:57:38.999999999 +0000 UTC", "2024-05-22T18:57:38.999999999Z", "2024-05-22T18:57:38Z"),
    ("2024-05-22 18:57:38.100000 +0000 UTC", "2024-05-22T18:57:38.1Z", "2024-05-22T18:57:38Z"),
    ("2024-05-22 18:57:38.000 +0000 UTC", "2024-05-22T18:57:38Z", "2024-05-22T18:57:38Z"),
    ("2024-05-22 18:57:38.1234567899 +0000 UTC", "2024-05-22T18:57:38.123456789Z", "2024-05-22T18:57:38Z"),
    ("2024-05-22 18:57:38.5 +0900 +0900", "2024-05-22T18:57:38.5+09:00", "2024-05-22T18:57:38+09:00"),
    ("2024-05-22 18:57:38 -0700 PDT", "2024-05-22T18:57:38-07:00", "2024-05-22T18:57:38-07:00"),
    ("2024-05-22 18:57:38 -0300 -03", "2024-05-22T18:57:38-03:00", "2024-05-22T18:57:38-03:00"),
    ("2024-05-22 18:57:38 +0545 +0545 m=+1.5", "2024-05-22T18:57:38+05:45", "2024-05-22T18:57:38+05:45"),
    ("2024-05-22 18:57:38 +0000 +0000", "2024-05-22T18:57:38Z", "2024-05-22T18:57:38Z"),
    ("2024-05-22 18:57:38 -0000 GMT", "2024-05-22T18:57:38Z", "2024-05-22T18:57:38Z"),
    ("2024-05-22T18:57:38Z", "2024-05-22T18:57:38Z", "2024-05-22T18:57:38Z"),
    ("2024-05-22T18:57:38.120Z", "2024-05-22T18:57:38.12Z", "2024-05-22T18:57:38Z"),
    ("2024-05-22T18:57:38.254-03:30", "2024-05-22T18:57:38.254-03:30", "2024-05-22T18:57:38-03:30"),
    ("2024-05-22T18:57:38+00:00", "2024-05-22T18:57:38Z", "2024-05-22T18:57:38Z"),
    ("2024-01-01 00:00:00+05:30", "2024-01-01T00:00:00+05:30", "2024-01-01T00:00:00+05:30"),
    ("2024-05-22 18:57:38", "2024-05-22T18:57:38Z", "2024-05-22T18:57:38Z"),
    ("2024-05-22 18:57:38.25", "2024-05-22T18:57:38.25Z", "2024-05-22T18:57:38Z"),
    ("2024-05-22T18:57", "2024-05-22T18:57:00Z", "2024-05-22T18:57:00Z"),
    ("2024-05-22 18:57", "2024-05-22T18:57:00Z", "2024-05-22T18:57:00Z"),
    ("2024-05-22", "2024-05-22T00:00:00Z", "2024-05-22T00:00:00Z"),
    ("0001-01-01 00:00:00 +0000 UTC", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
    ("0000-02-29 00:00:00 +0000 UTC", "0000-02-29T00:00:00Z", "0000-02-29T00:00:00Z"),
    ("9999-12-31 23:59:59.999999999 +0000 UTC", "9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59Z"),
    (0, "1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"),
    (-1, "1969-12-31T23:59:59Z", "1969-12-31T23:59:59Z"),
    (1_716_404_258, "2024-05-22T18:57:38Z", "2024-05-22T18:57:38Z"),
    (1_716_404_258_254, "2024-05-22T18:57:38.254Z", "2024-05-22T18:57:38Z"),
    (-62_135_596_801, "0000-12-31T23:59:59Z", "0000-12-31T23:59:59Z"),
    (100_000_000_000, "5138-11-16T09:46:40Z", "5138-11-16T09:46:40Z"),
    (100_000_000_001, "1973-03-03T09:46:40.001Z", "1973-03-03T09:46:40Z"),
    (-100_000_000_001, "1966-10-31T14:13:19.999Z", "1966-10-31T14:13:19Z"),
]

INSTANTS = [
    ("1970-01-01", 0),
    ("1970-01-01 00:00:00.000000001 +0000 UTC", 1),
    ("1969-12-31 23:59:59.999999999 +0000 UTC", -1),
    ("1970-01-01 09:00:00 +0900 +0900", 0),
    ("1969-12-31 17:00:00 -0700 PDT", 0),
    ("1970-01-01T00:00:00+05:30", -19_800 * 10**9),
    ("2000-02-29 00:00:00 +0000 UTC", 951_782_400 * 10**9),
    ("2000-03-01 00:00:00 +0000 UTC", 951_868_800 * 10**9),
    ("1900-03-01 00:00:00 +0000 UTC", -2_203_891_200 * 10**9),
    ("2024-12-31 23:59:59 +0000 UTC", 1_735_689_599 * 10**9),
    ("0001-01-01 00:00:00 +0000 UTC", -62_135_596_800 * 10**9),
    ("0000-12-31 00:00:00 +0000 UTC", -62_135_683_200 * 10**9),
    ("0000-02-29 00:00:00 +0000 UTC", -62_162_121_600 * 10**9),
    ("0000-01-01 00:00:00 +0000 UTC", -62_167_219_200 * 10**9),
    ("9999-12-31 23:59:59 +0000 UTC", 253_402_300_799 * 10**9),
]


@pytest.mark.parametrize(("stored", "expected", "expected_seconds"), SPELLINGS)
def test_every_spelling(stored: str | int, expected: str, expected_seconds: str) -> None:
    """Each spelling of the contract is read; nanoseconds and offset are kept, trailing zeros are not."""
    stamp = timestamps.parse(stored)
    assert stamp is not None
    assert stamp.rfc3339() == expected
    assert stamp.rfc3339_seconds() == expected_seconds


@pytest.mark.parametrize(("stored", "expected", "expected_seconds"), SPELLINGS)
def test_short_cut_agrees_on_every_spelling(stored: str | int, expected: str, expected_seconds: str) -> None:
    """For each spelling the short cut gives the same, or nothing."""
    raw = str(stored).encode()
    assert timestamps.usual_rfc3339(raw) in (None, expected)
    assert timestamps.usual_rfc3339_seconds(raw) in (None, expected_seconds)


@pytest.mark.parametrize("stored", strategies.GARBAGE_TIMES)
def test_garbage_is_no_time(stored: str) -> None:
    """Garbage is not a time, whichever way it is read."""
    assert timestamps.parse(stored) is None
    assert timestamps.usual_rfc3339(stored.encode()) is None
    assert timestamps.usual_rfc3339_seconds(stored.encode()) is None


@pytest.mark.parametrize("stored", [2**63 - 1, -(2**63), 10**16, -(10**14), -99_999_999_999])
def test_integers_outside_the_calendar(stored: int) -> None:
    """An integer beyond the years 0 to 9999 is no time."""
    assert timestamps.parse(stored) is None


@pytest.mark.parametrize(("stored", "nanoseconds"), INSTANTS)
def test_instants(stored: str, nanoseconds: int) -> None:
    """An instant counts nanoseconds since 1970 in UTC, over leap days and back to the year 0."""
    stamp = timestamps.parse(stored)
    assert stamp is not None
    assert stamp.instant_nanoseconds() == nanoseconds


@given(st.integers(-62_167_219_200 * 10**9, 253_402_300_800 * 10**9 - 1))
def test_from_instant_is_the_inverse(nanoseconds: int) -> None:
    """An instant of the years 0 to 9999 becomes the time in UTC that has this instant."""
    stamp = timestamps.from_instant(nanoseconds)
    assert stamp is not None
    assert stamp.instant_nanoseconds() == nanoseconds
    assert timestamps.parse(stamp.rfc3339()) == stamp


@pytest.mark.parametrize("nanoseconds", [-62_167_219_200 * 10**9 - 1, 253_402_300_800 * 10**9, 10**40, -(10**40)])
def test_from_instant_outside_the_calendar(nanoseconds: int) -> None:
    """There is no time for an instant outside the years 0 to 9999."""
    assert timestamps.from_instant(nanoseconds) is None


@given(strategies.usual_times)
def test_short_cut_reads_usual_times(stored: str) -> None:
    """The short cut reads every time that the archiver writes in UTC."""
    stamp = timestamps.parse(stored)
    assert stamp is not None
    assert timestamps.usual_rfc3339(stored.encode()) == stamp.rfc3339()
    assert timestamps.usual_rfc3339_seconds(stored.encode()) == stamp.rfc3339_seconds()


@settings(max_examples=400)
@given(st.one_of(strategies.near_misses(), strategies.read_times.map(str.encode), strategies.byte_texts))
@example(b"2024-04-31 00:00:00 +0000 UTC")
@example(b"2024-05-22 24:00:00 +0000 UTC")
@example(b"2024-05-22 18:57:38 +0000 UTC\0")
@example(b"2024-05-22 18:57:38 +0000 UTC\0m=+1")
@example(b"2024-05-22 18:57:38 +0000 UTC m=\0")
@example(b"2024-05-22 18:57:38 +0000 UTCx")
@example(b"2024-05-22 18:57:38.5 \0+0000 UTC")
@example(b"2024-05-22 18:57:38.12\0 +0000 UTC")
@example(b"2024-05-22 18:57:38.50 +0000 UTC")
@example(b"2024-05-22 18:57:38.1x5 +0000 UTC")
@example(b"2024-05-22 18:57:38\xff +0000 UTC")
@example(b"2024-05-22 18:57:38 +0000 UTC m=\xff")
@example(b"2024-05-22\xc2\xa018:57:38 +0000 UTC")
def test_short_cut_never_contradicts(stored: bytes) -> None:
    """Whatever the text, the short cut gives what the slow reading gives, or nothing."""
    stamp = timestamps.parse(json_text.decode(stored))
    assert timestamps.usual_rfc3339(stored) in (None, stamp and stamp.rfc3339())
    assert timestamps.usual_rfc3339_seconds(stored) in (None, stamp and stamp.rfc3339_seconds())


@settings(max_examples=400)
@given(st.one_of(strategies.near_misses(), strategies.read_times.map(str.encode), strategies.byte_texts))
def test_parse_is_what_the_contract_says(stored: bytes) -> None:
    """Whatever the text, it is read as the slow reading of the contract has it."""
    stamp = timestamps.parse(json_text.decode(stored))
    expected = oracle.json_value("created_at", RawText(stored))
    if stamp is None:
        assert expected == json_text.quote(json_text.decode(stored))
    else:
        assert expected == f'"{stamp.rfc3339()}"'
