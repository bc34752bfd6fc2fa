"""What an export may be asked for, and how sizes and date bounds are read."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyexport.errors import OptionError
from skyexport.options import export_options as options_module
from skyexport.options.export_options import ExportOptions, resolve
from skyexport.options.values import Bound, parse_author, parse_bound, parse_number, parse_size
from skyexport.wording import format_size

DAY = 86_400 * 10**9
DID = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("0", 0),
        ("1B", 1),
        ("100000", 100_000),
        ("500b", 500),
        ("500MB", 500 * 10**6),
        ("500 mb", 500 * 10**6),
        ("500m", 500 * 10**6),
        ("500MiB", 500 * 2**20),
        ("1.5GB", 1_500_000_000),
        ("1.5GiB", 1_610_612_736),
        ("2k", 2000),
        ("2kB", 2000),
        ("2KiB", 2048),
        ("  1g ", 10**9),
        ("0.5B", 0),
        ("0.1kB", 100),
        ("1.1GB", 1_100_000_000),
        ("9007199254740993", 9_007_199_254_740_993),
        ("9007199254740993kB", 9_007_199_254_740_993_000),
    ],
)
def test_sizes(text: str, size_bytes: int) -> None:
    """MB is 10^6 and MiB 2^20 bytes, in any case, exactly."""
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize(
    "text", ["", " ", "MB", "-1", "+1", "1e6", "1,5GB", "1.GB", ".5GB", "1PB", "1 M B", "0x10", "1MBps", "٣MB", "1_000"]
)
def test_no_sizes(text: str) -> None:
    """What is no size is refused with the text and an example."""
    with pytest.raises(OptionError, match="is not a size; write it like 500MB") as caught:
        parse_size(text)
    assert caught.value.exit_code == 2


@given(st.integers(100_000, 10**30))
def test_a_bare_number_counts_bytes(size_bytes: int) -> None:
    """A bare number of up to 28 digits is read exactly; longer ones stay enormous."""
    read = parse_size(str(size_bytes))
    assert read == size_bytes if size_bytes < 10**28 else read > 10**27


@pytest.mark.parametrize("text", ["1", "500", "512.5", "99999"])
def test_a_size_without_a_unit(text: str) -> None:
    """A small bare number is a unit that was forgotten; zero is for others to judge, and bytes can be asked for."""
    with pytest.raises(OptionError, match=f"the size '{text}' has no unit; write {text}MB, or {text}B for bytes"):
        parse_size(text)
    assert parse_size(f"{text}B") == int(float(text))
    assert (parse_size("0"), parse_size("1TB"), parse_size("1 TiB")) == (0, 10**12, 2**40)


def test_an_absurd_size() -> None:
    """A size of any number of digits is read, without an error from the depths."""
    assert parse_size("9" * 5000 + "GB") > 10**5000


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (123_456, "123 kB"),
        (1_500_000, "1.5 MB"),
        (500_000_000, "500 MB"),
        (1_104_000_000, "1.10 GB"),
        (12_345_000_000_000, "12345.00 GB"),
    ],
)
def test_sizes_for_people(size_bytes: int, text: str) -> None:
    """Sizes are shown in powers of 1000."""
    assert format_size(size_bytes) == text


@pytest.mark.parametrize(
    ("bound", "first", "last"),
    [
        (None, None, None),
        ("1970-01-01", 0, DAY - 1),
        (date(1970, 1, 2), DAY, 2 * DAY - 1),
        ("1970-01-01T00:00:00Z", 0, 0),
        ("1970-01-01 00:00:00z", 0, 0),
        ("1970-01-01t00:00:00.000000001Z", 1, 1),
        ("1970-01-01T09:00:00+09:00", 0, 0),
        ("1969-12-31T23:30:00-00:30", 0, 0),
        (datetime(1970, 1, 1, tzinfo=UTC), 0, 0),
        (datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC), 1000, 1000),
        (datetime(1970, 1, 1, 5, 30, tzinfo=timezone(timedelta(hours=5, minutes=30))), 0, 0),
        ("0000-01-01", -62_167_219_200 * 10**9, -62_167_132_800 * 10**9 - 1),
        ("9999-12-31", 253_402_214_400 * 10**9, 253_402_300_800 * 10**9 - 1),
    ],
)
def test_bounds(bound: Bound, first: int | None, last: int | None) -> None:
    """A date is the whole day in UTC, anything else an instant."""
    assert parse_bound(bound, end_of_day=False) == first
    assert parse_bound(bound, end_of_day=True) == last


@pytest.mark.parametrize(
    "bound",
    [
        "",
        "today",
        "2024",
        "2024-1-1",
        "2024-02-30",
        "2023-02-29",
        "2024-01-01T00:00Z",
        "2024-01-01T00:00:00",
        "2024-01-01T24:00:00Z",
        "2024-01-01T00:00:60Z",
        "2024-01-01T00:00:00+24:00",
        "2024-01-01T00:00:00+0900",
        "2024-01-01T00:00:00.Z",
        "2024-01-01T00:00:00Z ",
        "2024-01-01\n",
        "２０２４-01-01",
        datetime(2024, 1, 1),  # noqa: DTZ001 - without a zone, that is the point
    ],
)
def test_no_bounds(bound: Bound) -> None:
    """What is no date, and an instant without a zone, is refused under its name."""
    with pytest.raises(OptionError, match=r"(?s)since .* (?:is not a date; write|has no time zone; add) ") as caught:
        parse_bound(bound, end_of_day=False, name="since")
    assert caught.value.exit_code == 2


def test_defaults() -> None:
    """Only the archive must be given; what is left out has the documented default."""
    options = ExportOptions(archive=Path("a.db"))
    assert (options.format, options.author, options.batch_size, options.workers) == ("", None, 1000, "auto")
    assert options_module.DEFAULT_MEMORY_LIMIT_BYTES == 500_000_000
    resolved = resolve(options)
    assert (resolved.format, resolved.since, resolved.until, resolved.compression) == ("json", None, None, None)
    assert not options.strict
    assert not options.overwrite


@pytest.mark.parametrize(
    "values",
    [
        {"batch_size": 1},
        {"batch_size": 1_000_000},
        {"workers": 0},
        {"workers": 256},
        {"memory_limit": 1},
        {"format": "csv"},
        {"since": "2024-01-01", "until": "2024-01-01"},
        {"since": "2024-01-01T00:00:00Z", "until": "2024-01-01T00:00:00Z"},
        {"since": "2024-01-01T09:00:00+09:00", "until": "2024-01-01T00:00:00Z"},
        {"author": DID},
        {"author": "did:web:example.com"},
        {"author": "did:web:localhost%3A8080"},
        {"author": "alice.bsky.social"},
        {"author": "@Alice.BSKY.social"},
        {"author": "a.b"},
        {"author": "xn--bcher-kva.example"},
        {"author": "1-2.3.example"},
        {"format": "csv", "columns": ["uri", "text"]},
        {"compress": "gzip"},
        {"archive": "b.db", "output_dir": "there", "since_export": ["a", "b"]},
        {"to": "posts.csv.gz"},
    ],
)
def test_allowed_values(values: dict[str, Any]) -> None:
    """Every value at the edge of what is allowed is taken, and kept."""
    options = ExportOptions(**{"archive": Path("a.db"), **values})
    assert all(getattr(options, name) == value for name, value in values.items())


@pytest.mark.parametrize("text", ["alice.bsky.social", "@alice.bsky.social", "ALICE.bsky.Social", "@Alice.bsky.social"])
def test_spellings_of_a_handle(text: str) -> None:
    """Capitals and an @ before it make no other handle; a DID is taken as it is."""
    assert parse_author(text) == "alice.bsky.social"
    assert parse_author("did:web:Example.com") == "did:web:Example.com"


def test_what_follows_from_other_options() -> None:
    """What was asked stays as it was asked; what follows from it is another value."""
    options = ExportOptions(archive="a.db", to="x.csv.gz", columns=["uri"], since="1970-01-01", author="@A.b")
    assert (options.format, options.compress, options.archive, options.author) == ("", "", "a.db", "@A.b")
    resolved = resolve(options)
    assert (resolved.format, str(resolved.compression), resolved.settings.columns) == ("csv", "gzip:6", ("uri",))
    assert (resolved.archive, resolved.to, resolved.since) == (Path("a.db"), Path("x.csv.gz"), 0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"format": "xml"}, "unknown format 'xml'; choose from json, jsonl, csv, parquet, html: use .json or .csv"),
        ({"columns": ("uri", "nothing"), "format": "csv"}, "csv has no column 'nothing'"),
        ({"columns": ("uri", "txet"), "format": "csv"}, "no column 'txet'; did you mean text\\? choose from uri, "),
        ({"columns": ("CreatedAt",), "format": "csv"}, "did you mean created_at"),
        ({"columns": ("URI",), "format": "csv"}, "did you mean uri"),
        ({"snapshot": "cpoy"}, "unknown snapshot 'cpoy'; did you mean copy\\? choose from pin, copy"),
        ({"compress": "gz"}, "unknown compression 'gz'; use gzip$"),
        ({"compress": ".zst"}, "unknown compression '.zst'; use zstd$"),
        ({"compress": "GZIP9"}, "unknown compression 'GZIP9'; use gzip:9$"),
        ({"compress": "zstandard"}, "unknown compression 'zstandard'; use zstd$"),
        ({"columns": ("uri", "uri"), "format": "csv"}, "a column is named twice"),
        ({"columns": ("uri",)}, "--columns is not for json"),
        ({"delimiter": ";", "format": "jsonl"}, "--delimiter is not for jsonl"),
        ({"delimiter": "x", "format": "csv"}, "'x' cannot be a delimiter"),
        ({"bom": False}, "--no-bom is not for json"),
        ({"csv_safe": True, "format": "parquet"}, "--csv-safe is not for parquet"),
        ({"compress": "lz4"}, "unknown compression 'lz4'"),
        ({"compress": "zstd:20"}, "zstd has no level 20"),
        ({"compress": "gzip", "format": "parquet"}, "parquet has its own compression and cannot use gzip"),
        ({"split_bytes": 1000, "format": "parquet"}, "--split-bytes is not for parquet"),
        ({"split_posts": 0}, "a data file cannot have 0 posts"),
        ({"split_posts": 5, "to": "x"}, "--to writes one file"),
        ({"to": "x.csv", "format": "json"}, "x.csv is named like csv, but --format is json"),
        ({"to": "x.json.gz", "compress": "zstd"}, "x.json.gz is named like gzip, but --compress is zstd"),
        ({"format": "JSON"}, "unknown format"),
        ({"author": ""}, "is neither a DID nor a handle"),
        ({"author": "alice"}, "'alice' is neither a DID nor a handle; write did:plc:… or alice.bsky.social"),
        ({"author": "did:plc:"}, "is neither a DID nor a handle"),
        ({"author": "DID:plc:abc"}, "is neither a DID nor a handle"),
        ({"author": "did:PLC:abc"}, "is neither a DID nor a handle"),
        ({"author": f"{DID}\n"}, "is neither a DID nor a handle"),
        ({"author": "did:plc:a/../../b"}, "is neither a DID nor a handle"),
        ({"author": "did:plc:a\\b"}, "is neither a DID nor a handle"),
        ({"author": "did:plc:a' or 1=1"}, "is neither a DID nor a handle"),
        ({"author": "did:plc:é"}, "is neither a DID nor a handle"),
        ({"author": "did:web:a:"}, "is neither a DID nor a handle"),
        ({"author": "did:plc:" + "a" * 2048}, "is neither a DID nor a handle"),
        ({"author": "@"}, "is neither a DID nor a handle"),
        ({"author": "@@alice.bsky.social"}, "is neither a DID nor a handle"),
        ({"author": " alice.bsky.social"}, "is neither a DID nor a handle"),
        ({"author": "alice.bsky.social\n"}, "is neither a DID nor a handle"),
        ({"author": "alice..social"}, "is neither a DID nor a handle"),
        ({"author": "alice.bsky.social."}, "is neither a DID nor a handle"),
        ({"author": ".bsky.social"}, "is neither a DID nor a handle"),
        ({"author": "-alice.bsky.social"}, "is neither a DID nor a handle"),
        ({"author": "alice-.bsky.social"}, "is neither a DID nor a handle"),
        ({"author": "alice_b.bsky.social"}, "is neither a DID nor a handle"),
        ({"author": "alice.123"}, "is neither a DID nor a handle"),
        ({"author": "älice.bsky.social"}, "is neither a DID nor a handle"),
        ({"author": "a" * 64 + ".social"}, "is neither a DID nor a handle"),
        ({"author": "a.b" * 100}, "is neither a DID nor a handle"),
        ({"author": "https://bsky.app/profile/alice.bsky.social"}, "is neither a DID nor a handle"),
        ({"batch_size": 0}, "a batch cannot have 0 posts; choose 1 to 1,000,000"),
        ({"batch_size": -1}, "a batch cannot have -1 posts"),
        ({"batch_size": 1_000_001}, "a batch cannot have 1000001 posts"),
        ({"workers": -1}, "cannot use -1 workers; choose 0"),
        ({"workers": 257}, "cannot use 257 workers"),
        ({"memory_limit": 0}, "the memory limit cannot be 0 bytes"),
        ({"output_dir": ""}, "the output directory has no name; write a path"),
        ({"to": ""}, "the output file has no name; write a path"),
        ({"to": "x.json/"}, "x.json/ can only be a directory; name a file with --to"),
        ({"since": "yesterday"}, "since 'yesterday' is not a date"),
        ({"until": "2024-02-30"}, "until '2024-02-30' is not a date"),
        ({"since": "2024-01-02", "until": "2024-01-01"}, "until 2024-01-01 is before since 2024-01-02"),
        ({"since": "2024-01-01T00:00:00.000000001Z", "until": "2024-01-01T00:00:00Z"}, "is before since"),
        ({"since": "2024-01-01T00:00:00Z", "until": "2024-01-01T08:59:59+09:00"}, "is before since"),
    ],
)
def test_wrong_values(values: dict[str, Any], message: str) -> None:
    """A value that no export could have is refused before anything is opened, with exit code 2."""
    with pytest.raises(OptionError, match=message) as caught:
        ExportOptions(archive=Path("a.db"), **values)
    assert caught.value.exit_code == 2


def test_an_archive_without_a_name() -> None:
    """Nothing at all is not the current directory."""
    with pytest.raises(OptionError, match="the archive has no name; write a path"):
        ExportOptions(archive="")


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("007", 7), ("-1", -1), ("9" * 18, 10**18 - 1)])
def test_numbers(text: str, number: int) -> None:
    """Digits are a number."""
    assert parse_number(text, "posts") == number


@pytest.mark.parametrize(
    ("text", "since", "until"),
    [
        ("31.12.2024", "2024-12-31", "2024-12-31"),
        ("1. 2. 2024", "2024-02-01", "2024-02-01"),
        ("2024/2/1", "2024-02-01", "2024-02-01"),
        ("2024-2-1", "2024-02-01", "2024-02-01"),
        ("20241231", "2024-12-31", "2024-12-31"),
        ("2024", "2024-01-01", "2024-12-31"),
        ("2024-12-31T18:30", *["2024-12-31T18:30:00Z for UTC, or with another zone like +09:00"] * 2),
        ("2024-12-31 18:30:15", *["2024-12-31T18:30:15Z for UTC, or with another zone like +09:00"] * 2),
        ("1/2/2024", *["2024-12-31 for the whole day in UTC"] * 2),
        ("2024-02-30", *["2024-12-31 for the whole day in UTC"] * 2),
        ("99.99.2024", *["2024-12-31 for the whole day in UTC"] * 2),
        ("2024101", *["2024-12-31 for the whole day in UTC"] * 2),
        ("2024-12-31T25:00", *["2024-12-31 for the whole day in UTC"] * 2),
    ],
)
def test_dates_in_other_spellings(text: str, since: str, until: str) -> None:
    """A date whose meaning is clear is shown as it must be written."""
    for hint, end_of_day in ((since, False), (until, True)):
        with pytest.raises(OptionError) as error:
            parse_bound(text, end_of_day=end_of_day)
        assert error.value.hint.startswith(f"write {hint}")
        written = hint.split()[0]
        assert parse_bound(written, end_of_day=end_of_day) is not None


def test_dates_in_words() -> None:
    """So are today and yesterday, by the clock of UTC."""
    today = datetime.now(UTC).date()
    with pytest.raises(OptionError) as error:
        parse_bound("Yesterday", end_of_day=False)
    # Midnight may have come meanwhile.
    assert error.value.hint in {f"write {today - timedelta(days=days)}" for days in (0, 1)}


@pytest.mark.parametrize("text", ["", " 1", "1\n", "+1", "1_000", "1,000", "1.0", "1e3", "0x1", "٣", "１", "9" * 19])
def test_no_numbers(text: str) -> None:
    """Whatever else Python may take for one is refused, with the text and what it should be a number of."""
    with pytest.raises(OptionError, match="is not a number of posts; write it in digits, like 1000") as caught:
        parse_number(text, "posts")
    assert caught.value.exit_code == 2
