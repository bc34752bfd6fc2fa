"""Batches to bytes: the same bytes however posts are cut, and an error when the archive changed."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import apsw
import pytest

import make_archive
from skyexport import json_text
from skyexport.archive.archive import Archive
from skyexport.archive.plan import KeyRange, RowIds, row_id_batches
from skyexport.errors import ArchiveChangedError
from skyexport.formats import FORMATS
from skyexport.notices import Notices
from skyexport.posts import MAX_CHUNK_BYTES, quote_identifier
from skyexport.rendering.renderer import BatchRenderer
from skyexport.selection import Selection
from tests import oracle
from tests.archives import (
    TABLE_COLUMNS,
    Cell,
    RawText,
    Row,
    exported,
    insert,
    joined,
    memory_archive,
    post,
    rendered,
    rendered_by_row_ids,
    replaced_posts,
    row_ids,
    sorted_row_ids,
    stored_rows,
)
from tests.conftest import each_format, limits

pytestmark = pytest.mark.usefixtures("each_renderer")


def times(count: int) -> list[str]:
    """So many instants, a second apart, oldest first."""
    return [f"2024-05-22 {n // 3600:02d}:{n // 60 % 60:02d}:{n % 60:02d} +0000 UTC" for n in range(count)]


@pytest.fixture
def posts_apart() -> Iterator[apsw.Connection]:
    """Fifty posts in instants of their own; row ids 1 to 50, oldest first."""
    rows = [post(number, created_at=time) for number, time in enumerate(times(50))]
    with contextlib.closing(memory_archive(rows)) as connection:
        yield connection


def renderer(
    connection: apsw.Connection,
    format_name: str = "json",
    *,
    index: str | None = "idx_posts_created_at",
    selection: Selection | None = None,
) -> BatchRenderer:
    """A renderer on an archive of the newest schema."""
    return BatchRenderer(connection, TABLE_COLUMNS, index, FORMATS[format_name], selection or Selection())


@each_format
def test_a_range_is_its_posts(posts_apart: apsw.Connection, format_name: str) -> None:
    """A key range and the list of its row ids give the same bytes: its posts, newest first."""
    (by_range,) = renderer(posts_apart, format_name).render(KeyRange(40, 31, 10))
    (by_list,) = renderer(posts_apart, format_name).render(RowIds(row_ids(*range(40, 30, -1))))
    assert by_range == by_list
    assert by_range.posts == 10
    assert by_range.posts > 0
    rows = sorted(stored_rows(posts_apart), key=lambda row: oracle.bytes_of(row["created_at"]))[30:40]
    records = [oracle.POST[format_name](row) for row in reversed(rows)]
    assert oracle.content(format_name, by_range.data) == FORMATS[format_name].separator.join(records)


@each_format
def test_row_ids_keep_their_order(posts_apart: apsw.Connection, format_name: str) -> None:
    """Posts given by row id come out in the order that was given."""
    ids = random.Random(3).sample(range(1, 51), 50)
    (chunk,) = renderer(posts_apart, format_name, index=None).render(RowIds(row_ids(*ids)))
    assert [int(rest[:8]) + 1 for rest in bytes(chunk.data).split(b"app.bsky.feed.post/")[1:]] == ids


@each_format
def test_ties_are_ordered_by_uri(format_name: str) -> None:
    """Posts of one instant come by uri, bytewise, whatever their row ids are."""
    uris: list[Cell] = ["at://b", "at://a", RawText(b"at://\xff"), "at://B", "at://é", b"at://a", None, "at://a\0", ""]
    rows = [post(uri=uri, text="") for uri in uris] + [post(uri="at://new", created_at="2025-01-01")]
    with contextlib.closing(memory_archive(rows)) as connection:
        ids = sorted_row_ids(connection)
        data = rendered(connection, format_name, [KeyRange(ids[0], ids[-1], len(ids))])[0]
        assert oracle.content(format_name, data) == oracle.FILE[format_name](stored_rows(connection))
        assert data == rendered_by_row_ids(connection, format_name)[0]


@pytest.fixture(scope="module")
def expected(small_archive: make_archive.ArchiveInfo) -> Callable[[str], tuple[bytes, Notices]]:
    """Format → what an export of the small archive has to be, and to say; made when it is asked for."""
    with Archive(small_archive.path) as archive:
        rows = stored_rows(archive.connection)

    @cache
    def made(name: str) -> tuple[bytes, Notices]:
        formulas = sum(map(oracle.formulas, rows)) if name == "csv" else 0
        assert formulas > 0 or name != "csv"
        return oracle.FILE[name](rows), Notices(formulas=formulas)

    return made


@pytest.mark.quick(2)
@each_format
@pytest.mark.parametrize("batch_size", [7, 1200, 5000])
def test_every_batch_size_gives_the_same(
    small_archive: make_archive.ArchiveInfo, expected: Callable[[str], tuple[bytes, Notices]], format_name: str,
    batch_size: int,
) -> None:  # fmt: skip
    """The file of an archive with 1,201 posts in one instant does not depend on the batch size."""
    with Archive(small_archive.path) as archive:
        data, notices = exported(archive, format_name, batch_size=batch_size)
        assert (oracle.content(format_name, data), notices) == expected(format_name)
        assert data == exported(archive, format_name)[0]


@pytest.mark.quick(1)
@each_format
def test_usual_posts_are_rendered_fast(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format_name: str) -> None:
    """Of an archive as bskyarchive makes it, no batch needs the exact way, whichever post is its last."""

    def refuse(*_: object) -> Iterator[bytes]:
        raise AssertionError("rendered exactly")

    info = make_archive.make_archive(tmp_path / "a.db", posts=300, seed=11)
    with Archive(info.path) as archive:
        expected = oracle.FILE[format_name](stored_rows(archive.connection))
        monkeypatch.setattr(type(FORMATS[format_name]), "pieces", refuse)
        for batch_size in (1, 2, 7, 100):
            data = exported(archive, format_name, batch_size=batch_size)[0]
            assert oracle.content(format_name, data) == expected


@each_format
@pytest.mark.parametrize("max_chunk_bytes", [5_000, 10_000, 20_000])
def test_full_chunks(posts_apart: apsw.Connection, each_renderer: str, format_name: str, max_chunk_bytes: int) -> None:
    """A batch that is larger than a chunk becomes several; the bytes are the same, the chunks in bounds."""
    expected = oracle.FILE[format_name](stored_rows(posts_apart))
    with limits(MAX_CHUNK_BYTES=max_chunk_bytes):
        chunks = list(renderer(posts_apart, format_name).render(KeyRange(50, 1, 50)))
    assert oracle.content(format_name, joined(format_name, chunks)[0]) == expected
    # A block that Python makes of rows has the gaps of Arrow's buffers besides; a slot has room for those.
    around = 4_500 if (format_name, each_renderer) == ("parquet", "python") else 0
    assert all(len(chunk.data) <= max_chunk_bytes + around for chunk in chunks)
    assert sum(chunk.posts for chunk in chunks) == 50
    assert len(chunks) > 1 or len(expected) < max_chunk_bytes or format_name == "parquet"


@each_format
def test_large_posts_between_small_ones(posts_apart: apsw.Connection, format_name: str) -> None:
    """A post larger than a chunk goes out in pieces at its place; those before and after it are not affected."""
    large = 'é"\n\u2028, '.encode() * 2_000 + b"\xff"
    for number, row_id in enumerate((10, 11, 50)):
        posts_apart.execute("update posts set text = cast(? as text) where rowid = ?", (large * (number + 1), row_id))
    expected = oracle.FILE[format_name](stored_rows(posts_apart))
    with limits(MAX_CHUNK_BYTES=4_000):
        chunks = list(renderer(posts_apart, format_name).render(KeyRange(50, 1, 50)))
    data, notices = joined(format_name, chunks)
    assert oracle.content(format_name, data) == expected
    assert sum(chunk.posts for chunk in chunks) == 50
    assert notices.counts == ({} if format_name == "csv" else {"invalid_utf8": 3})


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    ("format_name", "column"),
    [
        ("json", "text"),
        ("csv", "embed_data"),
        *(
            pytest.param(*chosen, marks=pytest.mark.slow)
            for chosen in (
                *(("csv", "text"), ("json", "embed_data"), ("json", "created_at"), ("csv", "created_at")),
                *(("jsonl", "text"), ("jsonl", "embed_data"), ("parquet", "text"), ("parquet", "embed_data")),
            )
        ),
    ],
)
def test_a_post_of_megabytes(format_name: str, column: str) -> None:
    """A post of some megabytes goes out in chunks of bounded size, whichever column it is that is large."""
    large: dict[str, Row] = {
        "text": {"text": 'A line, and "another".\né \u2028' * 250_000},
        "embed_data": {"embed_data": b'{"images":[{"fullsize":"https://x/a"}],"x":"' + b"abc\\n" * 1_000_000 + b'"}'},
        "created_at": {"created_at": "never " * 850_000},
    }
    rows = [post(1), post(2, has_media=1, **large[column]), post(3)]
    with contextlib.closing(memory_archive(rows)) as connection:
        expected = oracle.FILE[format_name](stored_rows(connection))
        ids = sorted_row_ids(connection)
        chunks = list(renderer(connection, format_name, index=None).render(RowIds(row_ids(*ids))))
    assert oracle.content(format_name, joined(format_name, chunks)[0]) == expected
    if column != "created_at":
        assert max(len(chunk.data) for chunk in chunks) < 3 * MAX_CHUNK_BYTES // 2


def test_a_batch_of_large_posts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of many megabytes is cut where chunks are full, instead of being read again with each halving."""
    reads: list[int] = []

    def counted(data: bytes, read: Callable[[bytes], Iterator[bytes]] = json_text.tokens) -> Iterator[bytes]:
        reads.append(len(data))
        return read(data)

    monkeypatch.setattr(json_text, "tokens", counted)
    embed = b'{"a":"' + b"x" * 60_000 + b'"}'
    with contextlib.closing(memory_archive([post(number, embed_data=embed) for number in range(500)])) as connection:
        ids = sorted_row_ids(connection)
        for batch in (RowIds(row_ids(*ids)), KeyRange(ids[0], ids[-1], 500)):
            reads.clear()
            chunks = list(renderer(connection).render(batch))
            assert len(chunks) == 8
            assert sum(chunk.posts for chunk in chunks) == 500
            assert len(reads) <= 2 * 500


def test_a_batch_of_more_posts_than_a_statement(small_archive: make_archive.ArchiveInfo) -> None:
    """A range of more posts than one statement renders is cut, with ties across the cuts."""
    with Archive(small_archive.path) as archive:
        ids = sorted_row_ids(archive.connection)
        with contextlib.closing(archive.source.connect()) as connection:
            chunks = list(renderer(connection).render(KeyRange(ids[0], ids[-1], 2500)))
        assert joined("json", chunks)[0] == oracle.json_file(stored_rows(archive.connection))
    assert len(chunks) == 2


@each_format
def test_nothing_selected(posts_apart: apsw.Connection, format_name: str) -> None:
    """A batch without a selected post gives no chunk."""
    nobody = Selection(did="did:plc:nobody")
    assert list(renderer(posts_apart, format_name, selection=nobody).render(KeyRange(50, 1, 50))) == []
    assert list(renderer(posts_apart, format_name, selection=nobody).render(RowIds(row_ids(1, 2)))) == []


@each_format
def test_a_selection_of_a_range(posts_apart: apsw.Connection, format_name: str) -> None:
    """Of a range only the selected posts are rendered, though all of them are counted."""
    posts_apart.execute("update posts set did = 'did:plc:b' where rowid % 3 = 0")
    chunks = list(renderer(posts_apart, format_name, selection=Selection(did="did:plc:b")).render(KeyRange(50, 1, 50)))
    rows = [row for row in stored_rows(posts_apart) if row["did"] == RawText(b"did:plc:b")]
    assert oracle.content(format_name, joined(format_name, chunks)[0]) == oracle.FILE[format_name](rows)
    assert len(rows) == 16


@pytest.mark.parametrize(
    "change",
    [
        "delete from posts where rowid = 35",
        "delete from posts where rowid = 40",
        "delete from posts where rowid = 31",
        "update posts set created_at = '2025-01-01' where rowid = 35",
        "update posts set created_at = (select created_at from posts where rowid = 35) where rowid = 7",
        "update posts set created_at = '2025-01-01' where rowid = 40",
    ],
)
def test_a_range_that_changed(posts_apart: apsw.Connection, change: str) -> None:
    """A range that holds more or fewer posts than when it was planned is an error, not an export."""
    posts_apart.execute(change)
    with pytest.raises(ArchiveChangedError, match="a range of 10 posts now holds") as caught:
        list(renderer(posts_apart).render(KeyRange(40, 31, 10)))
    assert caught.value.exit_code == 11


def test_a_listed_post_that_went_away(posts_apart: apsw.Connection) -> None:
    """A listed post that is no longer there is an error when every post is wanted."""
    posts_apart.execute("delete from posts where rowid = 3")
    with pytest.raises(ArchiveChangedError, match="a post went away"):
        list(renderer(posts_apart).render(RowIds(row_ids(2, 3, 4))))


@pytest.mark.parametrize("posts", [1, 10, 50])
def test_notices_name_their_posts(posts_apart: apsw.Connection, posts: int) -> None:
    """What could not be exported is counted once and named with its post, in export order, fast or exact."""
    posts_apart.execute("update posts set indexed_at = 'never' where rowid in (10, 45)")
    posts_apart.execute("update posts set text = cast(x'ff' as text) where rowid = 20")
    posts_apart.execute("update posts set labels = cast('{' as blob) where rowid = 50")
    batches = [KeyRange(newest, newest - posts + 1, posts) for newest in range(50, 0, -posts)]
    notices = rendered(posts_apart, "json", batches)[1]
    assert notices.counts == {"unreadable_time": 2, "invalid_utf8": 1, "unreadable_json": 1}
    uri = "at://did:plc:abc/app.bsky.feed.post/000000"
    assert notices.places["unreadable_time"] == [f"indexed_at of {uri}44", f"indexed_at of {uri}09"]
    assert notices.places["invalid_utf8"] == [f"text of {uri}19"]
    assert notices.places["unreadable_json"] == [f"labels of {uri}49"]


def test_a_chunk_has_the_notices_of_its_posts(posts_apart: apsw.Connection) -> None:
    """Notices belong to the chunk that holds the post, and not to the next batch."""
    posts_apart.execute("update posts set indexed_at = 'never' where rowid = 45")
    render_posts = renderer(posts_apart)
    (first,) = render_posts.render(KeyRange(50, 41, 10))
    (second,) = render_posts.render(KeyRange(40, 31, 10))
    assert first.notices.counts == {"unreadable_time": 1}
    assert second.notices == Notices()


def test_an_abandoned_batch_leaves_nothing_behind(posts_apart: apsw.Connection) -> None:
    """A batch whose chunks were not all taken does not disturb the next one."""
    posts_apart.execute("update posts set text = ?, indexed_at = 'never' where rowid = 50", ("x" * 50_000,))
    with limits(MAX_CHUNK_BYTES=3_000):
        render_posts = renderer(posts_apart)
    assert not next(render_posts.render(KeyRange(50, 50, 1))).notices.counts
    chunks = list(render_posts.render(KeyRange(49, 40, 10)))
    assert joined("json", chunks)[1] == Notices()
    assert sum(chunk.posts for chunk in chunks) == 10


def test_old_schema() -> None:
    """Without the column quote_count it is 0 in every post."""
    with contextlib.closing(memory_archive([post(quote_count=9)], schema_version=1)) as connection:
        columns = {**TABLE_COLUMNS, "quote_count": "0"}
        in_json = rendered(connection, "json", [KeyRange(1, 1, 1)], columns=columns)[0]
        in_csv = rendered(connection, "csv", [KeyRange(1, 1, 1)], columns=columns)[0]
    assert b'"quote_count": 0,' in in_json
    assert b",1,2,3,0,false," in in_csv


def test_the_index_may_have_any_name() -> None:
    """A key range uses the index under its own name, with quotes in it or not."""
    with contextlib.closing(memory_archive([post(1), post(2)], index=False)) as connection:
        connection.execute('create index "odd "" name" on posts(created_at)')
        data = rendered(connection, "json", [KeyRange(1, 2, 2)], index='odd " name')[0]
        assert data == oracle.json_file(stored_rows(connection))


@pytest.mark.parametrize(("name", "quoted"), [("a", '"a"'), ('a"b', '"a""b"'), ("", '""'), ("a b;--", '"a b;--"')])
def test_quote_identifier(name: str, quoted: str) -> None:
    """Any name is quoted so that SQL takes it as one."""
    assert quote_identifier(name) == quoted


def test_a_post_that_came_is_noticed(posts_apart: apsw.Connection) -> None:
    """A post saved into a planned range is an error too."""
    insert(posts_apart, post(99, created_at=times(50)[34]))
    with pytest.raises(ArchiveChangedError, match="now holds 11"):
        list(renderer(posts_apart).render(KeyRange(40, 31, 10)))


@pytest.mark.parametrize("format_name", FORMATS)
def test_statements_are_small_enough_to_be_prepared_once(format_name: str) -> None:
    """apsw prepares longer statements anew each time, which once took as long as a third of the rendering."""
    selection = Selection("did:plc:abc", 0, 2**60)
    with replaced_posts([post(number) for number in range(10)]) as connection:
        renderer = BatchRenderer(connection, TABLE_COLUMNS, "idx_posts_created_at", FORMATS[format_name], selection)
        batches = list(row_id_batches(sorted_row_ids(connection), 1))
        before = connection.cache_stats()["too_big"]
        for batch in batches:
            list(renderer.render(batch))
        assert connection.cache_stats()["too_big"] == before
