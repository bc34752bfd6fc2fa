"""--since-export: posts that are new or changed since earlier exports, and those that disappeared."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import make_archive
from skyexport import (
    ExportOptions,
    ExportSummary,
    NoExportError,
    OptionError,
    UnrelatedExportError,
    VerifyError,
    export,
    verify,
)
from skyexport.json_text import decode
from skyexport.repository import tables
from skyexport.runtime.for_tests import on_reached
from skyexport.timestamps import usual_rfc3339, usual_rfc3339_seconds
from skyexport.verification.key_columns import are_usual_times
from skyexport.verification.post_keys import LONGEST_VALUE
from skyexport.verification.seen_posts import exported_time_sql
from tests.archives import Row, change, file_archive, insert, post, run_sql
from tests.command import files_below, skyexport, skyexport_json
from tests.conftest import limits
from tests.exports import exported_since, posts_of
from tests.strategies import byte_texts, identifiers, integer_times, near_misses, read_times, usual_times


@pytest.fixture(autouse=True)
def _no_temporary_file_stays(scratch_folder: Path) -> Iterator[None]:
    yield
    assert files_below(scratch_folder) == []


def uris(summary: ExportSummary) -> list[str]:
    return [found["uri"] for found in posts_of(summary)]


def manifest_of(summary: ExportSummary) -> dict[str, Any]:
    assert summary.directory is not None
    found: dict[str, Any] = json.loads((summary.directory / "manifest.json").read_bytes())
    return found


def uri(number: int) -> str:
    found = post(number)["uri"]
    assert isinstance(found, str)
    return found


def many(count: int = 80) -> list[Row]:
    return [
        post(number * 37 % count, created_at=f"2024-05-{number % 28 + 1:02} 10:00:00 +0000 UTC")
        for number in range(count)
    ]


@pytest.mark.quick(2)
@pytest.mark.parametrize(
    ("formats", "snapshot", "index"),
    [
        (("json", "json"), "pin", True),
        (("csv", "csv"), "copy", False),
        (("json", "csv"), "pin", False),
        (("csv", "json"), "copy", True),
        (("jsonl", "parquet"), "pin", True),
        (("parquet", "csv"), "copy", False),
    ],
)
def test_what_changed(tmp_path: Path, snapshot: str, index: bool, formats: tuple[str, str]) -> None:
    """New posts and those with another cid or time are exported, in export order; those that went away are listed."""
    archive = file_archive(tmp_path / "a.db", many(), index=index)
    first = exported_since(archive, tmp_path / "out", format=formats[0])
    run_sql(
        archive,
        f"delete from posts where uri = '{uri(5)}'",
        f"update posts set cid = 'bafy-other' where uri = '{uri(6)}'",
        f"update posts set indexed_at = '2024-05-24 08:00:00.000000001 +0000 UTC m=+1.5' where uri = '{uri(7)}'",
        f"update posts set text = 'not looked at' where uri = '{uri(8)}'",
        f"update posts set indexed_at = replace(indexed_at, 'm=+12', 'm=+99') where uri = '{uri(9)}'",
        "insert into posts(uri, cid, did, text, created_at, indexed_at) values"
        " ('at://new', 'c', 'd', 't', '2024-05-14 10:00:00 +0000 UTC', '2024-05-14 10:00:00 +0000 UTC')",
    )
    summaries = [
        exported_since(
            archive, tmp_path / "out", first,
            format=formats[1], snapshot=snapshot, workers=workers, batch_size=batch_size,
        )
        for workers, batch_size in ((0, 1), (0, 1000), (2, 2))
    ]  # fmt: skip
    assert len({summary.files[0].sha256 for summary in summaries}) == 1
    whole = exported_since(archive, tmp_path / "out")
    wanted = {"at://new", uri(6), uri(7)}
    for summary in summaries:
        assert uris(summary) == [found for found in uris(whole) if found in wanted]
        assert summary.disappeared == 1
        manifest = manifest_of(summary)
        assert manifest["disappeared"] == [uri(5)]
        assert manifest["disappeared_unlisted"] == 0
        assert first.directory is not None
        of_first = hashlib.sha256((first.directory / "manifest.json").read_bytes()).hexdigest()
        assert manifest["since_export"] == [{"directory": first.directory.name, "manifest_sha256": of_first}]
        assert summary.directory is not None
        assert verify(summary.directory).posts == 3


@pytest.mark.slow
def test_nothing_changed(tmp_path: Path, contract_dir: Path) -> None:
    """An export since one of the same state has no post, and is an export; also where values are odd."""
    for name, format in itertools.product(("edge", "sample"), ("json", "jsonl", "csv", "parquet")):
        archive = contract_dir / name / "archive.db"
        first = exported_since(archive, tmp_path / "out", format=format)
        second = exported_since(archive, tmp_path / "out", first, format=format)
        assert (second.posts, second.disappeared) == (0, 0)
        assert second.directory is not None
        assert verify(second.directory).posts == 0


SHAPES: list[dict[str, Any]] = [
    {"split_posts": 7},
    {"compress": "gzip", "split_bytes": 3000},
    {"format": "jsonl", "compress": "zstd", "columns": ("indexed_at", "cid", "uri")},
    {
        "format": "csv",
        "delimiter": "\t",
        "bom": False,
        "csv_safe": True,
        "columns": ("cid", "text", "indexed_at", "uri"),
    },
    {"format": "parquet", "split_posts": 9, "columns": ("originals", "uri", "indexed_at", "cid")},
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_exports_of_any_shape(tmp_path: Path, shape: dict[str, Any]) -> None:
    """What changed is found since an export that is split, compressed, or has some columns only."""
    archive = file_archive(tmp_path / "a.db", many())
    first = exported_since(archive, tmp_path / "out", **shape)
    assert exported_since(archive, tmp_path / "out", first).posts == 0
    run_sql(archive, f"update posts set cid = 'bafy-other' where uri = '{uri(6)}'")
    assert uris(exported_since(archive, tmp_path / "out", first)) == [uri(6)]


def test_cells_that_were_made_safe(tmp_path: Path) -> None:
    """Identifiers that look like formulas, or as if they were made safe, come back from a table as they are stored."""
    values = ["=1", "'=1", "\n", "\0@", " =", "' =", "\u3000＋", "\ufeff\u200b-1", "''\t", "'", "a"]
    archive = file_archive(
        tmp_path / "a.db", [post(uri=value, cid=f"{value}c", indexed_at=f"{value}never") for value in values]
    )
    first = exported_since(archive, tmp_path / "out", format="csv", csv_safe=True)
    assert first.directory is not None
    assert verify(first.directory).posts == len(values)
    second = exported_since(archive, tmp_path / "out", first, format="csv", csv_safe=True)
    assert (second.posts, second.disappeared) == (0, 0)
    run_sql(archive, "update posts set cid = 'other' where uri = char(10)")
    third = exported_since(archive, tmp_path / "out", first, format="jsonl")
    assert uris(third) == ["\n"]


@pytest.mark.parametrize("column", ["uri", "cid", "indexed_at"])
@pytest.mark.parametrize("format", ["jsonl", "csv", "parquet"])
def test_a_column_that_is_missing(tmp_path: Path, format: str, column: str) -> None:
    """An export without one of the columns that are compared is refused, and the column is named."""
    archive = file_archive(tmp_path / "a.db", many(3))
    columns = [name for name in ("uri", "cid", "indexed_at") if name != column]
    first = exported_since(archive, tmp_path / "out", format=format, columns=columns)
    named = {"uri": "URI", "cid": "CID", "indexed_at": "IndexedAt"}[column] if format == "csv" else column
    with pytest.raises(OptionError, match=f"cannot be compared.*no (column )?{named}"):
        exported_since(archive, tmp_path / "out", first)


def test_odd_values_stay_the_same(golden_dir: Path, tmp_path: Path) -> None:
    """Values of any type and bytes compare equal to what an export has for them, in either format."""
    from tests.archives import read_rows

    rows = read_rows(golden_dir / "rows.json")
    archive = file_archive(tmp_path / "a.db", rows)
    for format in ("json", "jsonl", "csv", "parquet"):
        first = exported_since(archive, tmp_path / "out", format=format)
        second = exported_since(archive, tmp_path / "out", first, format=format)
        assert second.disappeared == 0
        assert second.posts == 0


odd_posts = st.lists(
    st.builds(
        lambda name, cid, time: post(uri=name, cid=cid, indexed_at=time),
        identifiers.filter(lambda value: value is not None),
        identifiers.filter(lambda value: value is not None),
        st.one_of(read_times, integer_times, st.sampled_from(["", "never", b"never", "9999-99-99"])),
    ),
    min_size=1, max_size=5,
)  # fmt: skip


@pytest.mark.parametrize("examples", [10, pytest.param(60, marks=pytest.mark.slow)])
def test_whatever_is_stored_is_the_same_to_itself(examples: int) -> None:
    """No post that has not changed is exported again, or listed as gone, whatever its values are."""

    @settings(max_examples=examples)
    @given(rows=odd_posts, format=st.sampled_from(["json", "jsonl", "csv", "parquet"]), csv_safe=st.booleans())
    def stays(rows: list[Row], format: str, csv_safe: bool) -> None:
        with tempfile.TemporaryDirectory() as name:
            archive = Path(name) / "a.db"
            keep_with_different_uris(archive, rows)
            shape: dict[str, Any] = {"format": format, "csv_safe": csv_safe and format == "csv"}
            first = exported_since(archive, Path(name) / "out", **shape)
            second = exported_since(archive, Path(name) / "out", first, **shape)
            assert (second.posts, second.disappeared) == (0, 0)

    stays()


def keep_with_different_uris(archive: Path, rows: list[Row]) -> None:
    """Make an archive of posts. Uris that are written the same are one post to whoever reads an export."""
    with contextlib.closing(apsw.Connection(str(file_archive(archive, [])))) as connection:
        seen = set()
        for row in rows:
            with contextlib.suppress(apsw.ConstraintError):
                insert(connection, row)
        for row_id, found in connection.execute("select rowid, cast(uri as blob) from posts").fetchall():
            assert found is None or isinstance(found, bytes)
            written = decode(found or b"")
            if written in seen:
                connection.execute("delete from posts where rowid = ?", (row_id,))
            seen.add(written)


numbers = st.integers(0, 12)
edits = st.lists(
    st.one_of(
        st.tuples(st.just("delete"), numbers),
        st.tuples(st.just("add"), numbers),
        st.tuples(st.just("return"), numbers),
        st.tuples(st.just("cid"), numbers),
        st.tuples(st.just("time"), numbers),
        st.tuples(st.just("back"), numbers),
        st.tuples(st.just("move"), numbers),
    ),
    max_size=6,
)


def of_two_days(number: int) -> Row:
    """A post; many are of the same instant."""
    return post(number, created_at=f"2024-05-{number % 2 + 1:02} 10:00:{number % 5:02} +0000 UTC")


def clock(second: int) -> str:
    return f"{second // 3600 % 24:02}:{second // 60 % 60:02}:{second % 60:02}"


def edit(archive: Path, changes: list[tuple[str, int]], stamp: int) -> None:
    with contextlib.closing(apsw.Connection(str(archive))) as connection:
        for what, number in changes:
            if what == "delete":
                connection.execute("delete from posts where uri = ?", (uri(number),))
            elif what in ("add", "return"):
                with contextlib.suppress(apsw.ConstraintError):
                    insert(connection, of_two_days(number) | ({"cid": f"new{stamp}"} if what == "add" else {}))
            elif what == "back":
                change(connection, of_two_days(number), "cid", "indexed_at")
            elif what == "move":
                time = f"2024-05-02 10:00:{stamp:02} +0000 UTC"
                connection.execute("update posts set created_at = ? where uri = ?", (time, uri(number)))
            elif what == "cid":
                connection.execute("update posts set cid = ? where uri = ?", (f"c{stamp}", uri(number)))
            else:
                time = f"2024-06-01 00:00:{stamp:02} +0000 UTC"
                connection.execute("update posts set indexed_at = ? where uri = ?", (time, uri(number)))


@pytest.mark.parametrize("examples", [6, pytest.param(300, marks=pytest.mark.slow)])
def test_increments_add_up(examples: int) -> None:
    """A full export with its increments applied in order has the posts that a new full export has, and no post twice.

    The exports are compared in small parts, with few posts ahead.
    """

    @settings(max_examples=examples)
    @given(
        rounds=st.lists(edits, min_size=1, max_size=4),
        formats=st.lists(st.sampled_from(["json", "jsonl", "csv", "parquet"]), min_size=5, max_size=5),
        snapshot=st.sampled_from(["pin", "copy"]),
        index=st.booleans(),
        at_once=st.integers(1, 4),
        ahead=st.integers(1, 9),
    )
    def add_up(
        rounds: list[list[tuple[str, int]]], formats: list[str], snapshot: str, index: bool, at_once: int, ahead: int
    ) -> None:
        with tempfile.TemporaryDirectory() as name, limits(POSTS_AT_ONCE=at_once, POSTS_AHEAD=ahead):
            archive = file_archive(Path(name) / "a.db", [of_two_days(number) for number in range(8)], index=index)
            out = Path(name) / "out"
            chain = [exported_since(archive, out, format=formats[0])]
            state = {found["uri"]: (found["cid"], found["indexed_at"][:19]) for found in posts_of(chain[0])}
            for stamp, changes in enumerate(rounds):
                edit(archive, changes, stamp)
                increment = exported_since(
                    archive, out, *chain, format=formats[stamp + 1], snapshot=snapshot, allow_unrelated=True
                )
                chain.append(increment)
                for gone in manifest_of(increment)["disappeared"]:
                    del state[gone]
                for found in posts_of(increment):
                    changed = (found["cid"], found["indexed_at"][:19])
                    assert state.get(found["uri"]) != changed
                    state[found["uri"]] = changed
                whole = exported_since(archive, out)
                assert state == {found["uri"]: (found["cid"], found["indexed_at"][:19]) for found in posts_of(whole)}

    add_up()


@pytest.mark.parametrize("index", [True, False])
def test_as_it_was_before_the_last_increment(tmp_path: Path, index: bool) -> None:
    """A post is exported if it is again as the full export has it, but changed or gone in an increment."""
    rows = [of_two_days(number) for number in range(20)]
    archive = file_archive(tmp_path / "a.db", rows, index=index)
    first = exported_since(archive, tmp_path / "out")
    run_sql(archive, f"update posts set cid = 'b' where uri = '{uri(3)}'", f"delete from posts where uri = '{uri(4)}'")
    second = exported_since(archive, tmp_path / "out", first)
    assert (uris(second), second.disappeared) == ([uri(3)], 1)
    with contextlib.closing(apsw.Connection(str(archive))) as connection:
        change(connection, rows[3], "cid")
        insert(connection, rows[4])
    third = exported_since(archive, tmp_path / "out", first, second)
    assert (sorted(uris(third)), third.disappeared) == ([uri(3), uri(4)], 0)
    assert exported_since(archive, tmp_path / "out", first, second, third).posts == 0


@pytest.mark.parametrize("same_instant", [pytest.param(1, marks=pytest.mark.slow), 40, 1500])
def test_many_posts_of_which_few_changed(tmp_path: Path, same_instant: int) -> None:
    """New posts on top, and gone, changed, and returned ones in between, with batches as they usually are."""
    rows = [
        post(number, created_at=f"2024-05-01 {clock(number // same_instant)} +0000 UTC") for number in range(12_000)
    ]
    archive = file_archive(tmp_path / "a.db", rows[:9000])
    first = exported_since(archive, tmp_path / "out")
    with contextlib.closing(apsw.Connection(str(archive))) as connection, connection:
        connection.executemany("delete from posts where uri = ?", ((uri(number),) for number in range(5000, 8500)))
        for number in range(0, 5000, 700):
            connection.execute("update posts set cid = 'other' where uri = ?", (uri(number),))
        for row in rows[9000:]:
            insert(connection, row)
    second = exported_since(archive, tmp_path / "out", first)
    changed = {uri(number) for number in (*range(0, 5000, 700), *range(9000, 12_000))}
    assert set(uris(second)) == changed
    assert second.disappeared == 3500
    with contextlib.closing(apsw.Connection(str(archive))) as connection, connection:
        for row in rows[5000:5100]:
            insert(connection, row)
        change(connection, rows[700], "cid")
    third = exported_since(archive, tmp_path / "out", first, second)
    assert set(uris(third)) == {uri(number) for number in (700, *range(5000, 5100))}
    assert third.disappeared == 0


def test_with_author_dates_and_match(tmp_path: Path) -> None:
    """What is new is narrowed further by author, dates and words; what others wrote has not disappeared."""
    rows = [
        post(number, did=f"did:plc:{'ab'[number % 2]}", text=["cats", "dogs"][number % 3 == 0]) for number in range(60)
    ]
    archive = file_archive(tmp_path / "a.db", rows)
    run_sql(archive, tables.FULL_TEXT)
    first = exported_since(archive, tmp_path / "out", until="2024-05-01")
    assert first.posts == 0
    for snapshot in ("pin", "copy"):
        some = exported_since(
            archive, tmp_path / "out", first, author="did:plc:a", since="2024-05-22", match="dogs", snapshot=snapshot
        )
        assert sorted(uris(some)) == [uri(number) for number in range(0, 60, 6)]
        rest = exported_since(archive, tmp_path / "out", first, some, snapshot=snapshot)
        assert (rest.posts, rest.disappeared) == (50, 0)


def test_a_chain_must_be_whole(tmp_path: Path) -> None:
    """An increment is no start, and an export that is missing between two is noticed."""
    archive = file_archive(tmp_path / "a.db", many(10))
    first = exported_since(archive, tmp_path / "out")
    second = exported_since(archive, tmp_path / "out", first)
    third = exported_since(archive, tmp_path / "out", first, second)
    for chain in ([second], [first, third], [second, first]):
        with pytest.raises(OptionError, match="increment to an export that is not named before it"):
            exported_since(archive, tmp_path / "out", *chain)
    with pytest.raises(OptionError, match="twice"):
        exported_since(archive, tmp_path / "out", first, first)
    assert exported_since(archive, tmp_path / "out", first, second, third).posts == 0


def test_another_archive(tmp_path: Path) -> None:
    """An earlier export of which the archive has no post is refused, and nothing is written; unless that is meant."""
    first = exported_since(file_archive(tmp_path / "a.db", many(10)), tmp_path / "out")
    other = file_archive(tmp_path / "b.db", [post(99)])
    own = exported_since(other, tmp_path / "own")
    before = files_below(tmp_path)
    for snapshot, earlier in (("pin", [first]), ("copy", [first]), ("pin", [own, first])):
        with pytest.raises(UnrelatedExportError, match="none of its 10 posts") as caught:
            exported_since(other, tmp_path / "out", *earlier, snapshot=snapshot)
        assert caught.value.exit_code == 10
        assert str(first.directory) in caught.value.message
    assert files_below(tmp_path) == before
    summary = exported_since(other, tmp_path / "out", first, allow_unrelated=True)
    assert (summary.posts, summary.disappeared) == (1, 10)
    done = skyexport("export", other, "-o", tmp_path / "out", "--since-export", first.directory or "")
    assert done.returncode == 10
    assert "--allow-unrelated" in done.stderr
    assert f"{first.directory} was exported from {tmp_path / 'a.db'}" in done.stderr
    done = skyexport("export", other, "--dry-run", "--since-export", first.directory or "")
    assert done.returncode == 10
    done = skyexport("export", other, "--allow-unrelated", "-o", tmp_path / "new")
    assert done.returncode == 2
    assert not (tmp_path / "new").exists()


def test_the_selection_does_not_make_an_archive_another(tmp_path: Path) -> None:
    """It is the archive that must have a post of the earlier export, not what is selected of it."""
    archive = file_archive(tmp_path / "a.db", [post(1, did="did:plc:a"), post(2, did="did:plc:b")])
    first = exported_since(archive, tmp_path / "out", author="did:plc:a")
    assert exported_since(archive, tmp_path / "out", first, author="did:plc:b").posts == 1
    assert exported_since(archive, tmp_path / "out", first, since="2030-01-01").posts == 0


def test_an_increment_may_lose_all_its_posts(tmp_path: Path) -> None:
    """A full export and its increments are one: all posts of an increment may be gone."""
    archive = file_archive(tmp_path / "a.db", many(10))
    chain = [exported_since(archive, tmp_path / "out")]
    with contextlib.closing(apsw.Connection(str(archive))) as connection:
        insert(connection, post(500))
    chain.append(exported_since(archive, tmp_path / "out", *chain))
    run_sql(archive, f"delete from posts where uri = '{uri(500)}'")
    assert exported_since(archive, tmp_path / "out", *chain).disappeared == 1


def test_too_many_that_disappeared(tmp_path: Path) -> None:
    """More posts than a manifest can list are refused, with how many there are."""
    archive = file_archive(tmp_path / "a.db", many(10))
    first = exported_since(archive, tmp_path / "out")
    run_sql(archive, f"delete from posts where uri <> '{uri(5)}'")
    for snapshot in ("pin", "copy"):
        with (
            limits(MOST_DISAPPEARED=5),
            pytest.raises(OptionError, match=r"9 posts of the earlier exports .* too many") as caught,
        ):
            exported_since(archive, tmp_path / "out", first, snapshot=snapshot)
        assert "full export" in caught.value.hint
    assert [name for name in files_below(tmp_path / "out") if "partial" in name] == []


@pytest.mark.quick(1)
@pytest.mark.parametrize("format", ["json", "jsonl", "csv", "parquet"])
def test_uris_too_long_for_a_list(tmp_path: Path, format: str) -> None:
    """A uri of more than 1,000 characters is counted, not listed; one that is too long to be compared is always new."""
    long, longest = "at://" + "x" * 1200, "at://" + "y" * LONGEST_VALUE
    archive = file_archive(tmp_path / "a.db", [post(1), post(uri=long), post(uri=longest), post(2)])
    first = exported_since(archive, tmp_path / "out", format=format)
    assert uris(exported_since(archive, tmp_path / "out", first)) == [longest]
    run_sql(archive, f"delete from posts where uri in ('{long}', '{uri(2)}')")
    second = exported_since(archive, tmp_path / "out", first)
    assert (manifest_of(second)["disappeared"], manifest_of(second)["disappeared_unlisted"]) == ([uri(2)], 1)
    assert second.disappeared == 2


def test_earlier_export_that_differs(tmp_path: Path) -> None:
    """The earlier export is verified first: one that is not as it was, or is none, ends it."""
    archive = file_archive(tmp_path / "a.db", many(10))
    first = exported_since(archive, tmp_path / "out")
    assert first.path is not None
    with pytest.raises(NoExportError):
        export(ExportOptions(archive=archive, output_dir=tmp_path / "out", since_export=[tmp_path / "none"]))
    data = bytearray(first.path.read_bytes())
    data[100] ^= 1
    first.path.write_bytes(data)
    with pytest.raises(VerifyError):
        exported_since(archive, tmp_path / "out", first)
    done = skyexport("export", archive, "-o", tmp_path / "out", "--since-export", first.directory or "")
    assert done.returncode == 4
    assert len(files_below(tmp_path / "out")) == 5


@pytest.mark.parametrize("name", [".DS_Store", "Thumbs.db", "._posts.json", "notes.txt"])
def test_litter_in_an_earlier_export(tmp_path: Path, name: str) -> None:
    """What file managers leave in the directory of an earlier export changes nothing: its own files are intact."""
    archive = file_archive(tmp_path / "a.db", many(10))
    first = exported_since(archive, tmp_path / "out")
    assert first.directory is not None
    (first.directory / name).write_text("litter")
    assert exported_since(archive, tmp_path / "out", first).posts == 0
    (first.directory / "SHA256SUMS").unlink()
    with pytest.raises(VerifyError, match="SHA256SUMS: missing"):
        exported_since(archive, tmp_path / "out", first)


@pytest.mark.parametrize("name", ["posts.json", "manifest.json"])
def test_a_file_that_changes_after_verifying(tmp_path: Path, name: str) -> None:
    """What is compared is what was verified, or the export ends."""
    archive = file_archive(tmp_path / "a.db", many(10))
    first = exported_since(archive, tmp_path / "out")

    def change(_: object) -> None:
        assert first.directory is not None
        path = first.directory / name
        path.write_bytes(path.read_bytes().replace(b"bafyreia", b"bafyreib").replace(b"export_", b"exports_"))

    with on_reached("verified", change):
        if name == "posts.json":
            assert exported_since(archive, tmp_path / "out", first).posts == 0
        else:
            with pytest.raises(VerifyError):
                exported_since(archive, tmp_path / "out", first)


@pytest.mark.parametrize(
    "claims",
    [
        {"disappeared": "all"}, {"disappeared": {"a": 1}}, {"since_export": 1}, {"since_export": [1]},
        {"since_export": [{"manifest_sha256": "x"}]}, {"since_export": [{"manifest_sha256": 7}]},
    ],
)  # fmt: skip
def test_hostile_manifests(tmp_path: Path, claims: dict[str, Any]) -> None:
    """Claims of any kind end in one line."""
    archive = file_archive(tmp_path / "a.db", many(10))
    first = exported_since(archive, tmp_path / "out")
    rewrite(first, claims)
    with pytest.raises((VerifyError, OptionError)):
        exported_since(archive, tmp_path / "out", first)


def rewrite(summary: ExportSummary, claims: dict[str, Any]) -> None:
    """Change a manifest, and the checksum of it."""
    assert summary.directory is not None
    path, sums = summary.directory / "manifest.json", summary.directory / "SHA256SUMS"
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **claims}))
    sums.write_text(sums.read_text().replace(before, hashlib.sha256(path.read_bytes()).hexdigest()))


def test_disappeared_of_strangers(tmp_path: Path) -> None:
    """A list of what disappeared may hold anything: what is no uri is nothing."""
    archive = file_archive(tmp_path / "a.db", many(10))
    first = exported_since(archive, tmp_path / "out")
    rewrite(first, {"disappeared": [1, None, {}, "", uri(3), "x" * 10_000]})
    assert exported_since(archive, tmp_path / "out", first).disappeared == 0


def test_exports_of_the_established_exporter(tmp_path: Path) -> None:
    """An export without checksums, as bskyarchive makes it, will do, however it is laid out."""
    archive = file_archive(tmp_path / "a.db", many(10))
    first = exported_since(archive, tmp_path / "out")
    assert first.directory is not None
    assert first.path is not None
    (first.directory / "SHA256SUMS").unlink()
    manifest = manifest_of(first)
    del manifest["checksums"]
    (first.directory / "manifest.json").write_text(json.dumps(manifest))
    assert exported_since(archive, tmp_path / "out", first).posts == 0
    first.path.write_text(json.dumps(json.loads(first.path.read_bytes())))
    assert exported_since(archive, tmp_path / "out", first).posts == 0


def test_not_into_the_earlier_export(tmp_path: Path) -> None:
    """Nothing is written into an earlier export, nor over a file of it."""
    archive = file_archive(tmp_path / "a.db", many(10))
    first = exported_since(archive, tmp_path / "out")
    assert first.directory is not None
    before = files_below(tmp_path / "out")
    for place in ({"to": first.path, "overwrite": True}, {"output_dir": first.directory}):
        with pytest.raises(OptionError, match="lies in the export"):
            export(ExportOptions(archive=archive, since_export=[first.directory], **place))
    assert files_below(tmp_path / "out") == before


def test_command(tmp_path: Path) -> None:
    """The command takes several, and tells of what disappeared; with --to as well, which has no manifest."""
    archive = file_archive(tmp_path / "a.db", many(10))
    first = skyexport_json("export", archive, "-o", tmp_path / "out")["directory"]
    run_sql(archive, f"delete from posts where uri = '{uri(5)}'")
    second = skyexport_json("export", archive, "-o", tmp_path / "out", "--since-export", first)
    assert (second["posts"], second["disappeared"]) == (0, 1)
    done = skyexport(
        "export", archive, "--to", tmp_path / "x", "--since-export", first, "--since-export", second["directory"]
    )
    assert done.returncode == 0
    assert "no post is new or changed" in done.stderr
    assert "no longer in the archive" not in done.stderr
    done = skyexport("export", archive, "--to", tmp_path / "y", "--since-export", first)
    assert "\n1 post of the earlier exports is no longer in the archive\n" in done.stderr
    assert (tmp_path / "x").read_bytes() == b"[]\n"


def same_in_sql(connection: apsw.Connection, stored: bytes, time: str | None, *, to_second: bool) -> bool:
    """Whether SQL says that an export writes a stored text, or the same bytes, as a time."""
    found = [
        connection.execute(
            f"select {exported_time_sql('stored', to_second=to_second)} = ? from (select {stored_as} as stored"
            " from (select ? as stored))",
            (time, stored),
        ).get
        for stored_as in ("cast(stored as text)", "stored")
    ]
    return are_usual_times([("", "", time)]) and any(found)


@settings(max_examples=400)
@given(st.one_of(near_misses(), read_times.map(str.encode), usual_times.map(str.encode), byte_texts))
@example(b"2024-02-30 00:00:00 +0000 UTC")
@example(b"2024-04-31 00:00:00 +0000 UTC")
@example(b"2023-02-29 00:00:00 +0000 UTC")
@example(b"2024-13-01 00:00:00 +0000 UTC")
@example(b"2024-01-00 00:00:00 +0000 UTC")
@example(b"2024-05-22 24:00:00 +0000 UTC")
@example(b"2024-05-22 18:57:38.50 +0000 UTC")
@example(b"2024-05-22 18:57:38. +0000 UTC")
@example(b"2024-05-22 18:57:38.1.2 +0000 UTC")
@example(b"2024-05-22 18:57:38.1234567891 +0000 UTC")
@example(b"2024-05-22 18:57:38 +0000 UTC m=+1\n")
@example(b"2024-05-22 18:57:38 +0000 UTCx")
@example(b"2024-05-22 18:57:38.5\0 +0000 UTC")
@example(b"2024-05-22 18:57:38 +0000 UTC\0m=+1")
@example(b"2024-05-22T18:57:38 +0000 UTC")
def test_times_in_sql_never_contradict(stored: bytes) -> None:
    """Whatever is stored, SQL says that a time is the same only if that is what an export writes for it."""
    text = decode(stored)
    with contextlib.closing(apsw.Connection(":memory:")) as connection:
        for to_second, usual in ((False, usual_rfc3339), (True, usual_rfc3339_seconds)):
            written = usual(stored)
            # What might be mistaken for it: the text itself, and the text in the spelling of an export.
            likely = text.partition(" +0000 UTC")[0].replace(" ", "T", 1)
            for time in {written, text, f"{likely}Z", f"{likely[:19]}Z"}:
                if same_in_sql(connection, stored, time, to_second=to_second):
                    assert time == written


@given(usual_times)
def test_times_in_sql_are_usual_ones(stored: str) -> None:
    """SQL finds that times are the same as the archiver writes them, but on a leap day."""
    with contextlib.closing(apsw.Connection(":memory:")) as connection:
        for to_second, usual in ((False, usual_rfc3339), (True, usual_rfc3339_seconds)):
            time = usual(stored.encode())
            assert same_in_sql(connection, stored.encode(), time, to_second=to_second) is (stored[5:10] != "02-29")


def test_an_increment_of_a_large_archive_starts_no_workers(slow_archive: Path, tmp_path: Path) -> None:
    """As many workers as are worth their start for the posts that are expected."""
    archive = Path(shutil.copy(slow_archive, tmp_path / "a.db"))
    shape: dict[str, Any] = {"compress": "gzip", "snapshot": "pin"}
    first = exported_since(archive, tmp_path / "out", **shape)
    assert first.workers > 0
    run_sql(archive, "update posts set cid = 'other' where rowid % 1000 = 0")
    second = exported_since(archive, tmp_path / "out", first, **shape)
    assert (second.posts, second.workers) == (60, 0)
    assert exported_since(archive, tmp_path / "out", first, workers=1, **shape).workers == 1


@pytest.mark.slow
def test_memory(tmp_path: Path) -> None:
    """Reading an earlier export takes little memory, whatever its posts are."""
    archive = make_archive.make_archive(tmp_path / "a.db", posts=8_000, seed=3, fts=False).path
    run_sql(archive, "update posts set text = hex(zeroblob(20000000)) where rowid = 500")
    first = skyexport_json("export", archive, "-o", tmp_path / "out", "--no-sync")["directory"]
    found = skyexport_json("export", archive, "-o", tmp_path / "out", "--no-sync", "--since-export", first, "-j", "0")
    assert found["posts"] == 0
    assert found["peak_memory_bytes"] < 100_000_000
    assert (Path(first) / "posts.json").stat().st_size > 40_000_000
