"""Fifty posts at a time: all of them, once, in the order of exports, whatever is asked for."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

import make_archive
from skyexport import ExportOptions, export
from skyexport.archive.archive import Archive
from skyexport.archive.months import posts_by_month
from skyexport.errors import ArchiveError, AuthorError, OptionError
from skyexport.web.browsing import POSTS_ON_A_PAGE, Wanted, posts_of
from tests.archives import Cell, Row, file_archive, pets, post, run_sql, searchable, uri_of, writing

ADDRESS = "/archives/1"


def walked(archive: Archive, month: str = "", author: str = "", words: str = "") -> list[int]:
    """Row ids of all pages, from the first to the last, and the same backwards."""
    pages: list[list[int]] = []
    after: int | None = None
    while True:
        listing = posts_of(archive, Wanted(month, author, words, after=after), ADDRESS)
        pages.append([int(view.anchor.removeprefix("p")) for view in listing.posts])
        assert len(pages[-1]) <= POSTS_ON_A_PAGE
        assert (listing.first is None) == (after is None or not listing.posts)
        if listing.last is None:
            break
        assert len(pages[-1]) == POSTS_ON_A_PAGE
        after = listing.last
    back: list[int] = pages[-1]
    while len(back) < sum(map(len, pages)):
        listing = posts_of(archive, Wanted(month, author, words, before=back[0]), ADDRESS)
        back = [int(view.anchor.removeprefix("p")) for view in listing.posts] + back
    everything = [row_id for page in pages for row_id in page]
    assert back == everything
    return everything


def exported(path: Path, **options: str) -> list[str]:
    """Uris of an export."""
    with tempfile.TemporaryDirectory() as place:
        to = Path(place) / "posts.jsonl"
        export(ExportOptions(archive=path, to=to, workers=0, sync=False, **options))  # type: ignore[arg-type]
        return [str(json.loads(line)["uri"]) for line in to.read_bytes().splitlines()]


def uris(path: Path, row_ids: list[int]) -> list[str]:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    known: dict[int, str] = dict(connection.execute("select rowid, uri from posts"))
    connection.close()
    return [known[row_id] for row_id in row_ids]


def test_all_posts_in_the_order_of_exports(small_archive: make_archive.ArchiveInfo) -> None:
    """Walking from page to page, forwards and backwards, shows each post once, as exports have them: ties included."""
    path = small_archive.path
    with Archive(path) as archive:
        assert uris(path, walked(archive)) == exported(path)
        author = small_archive.owner_did
        assert uris(path, walked(archive, author=author)) == exported(path, author=author)


def test_months(small_archive: make_archive.ArchiveInfo) -> None:
    """The months that are counted are those that can be shown, by instants, whatever offset a time is written with."""
    path = small_archive.path
    with Archive(path) as archive:
        months = posts_by_month(archive)
        assert sum(months.values()) == archive.count_posts()
        assert list(months) == sorted(months)
        for month, count in months.items():
            found = walked(archive, month=month)
            assert len(found) == count
            first, last = f"{month}-01", f"{month}-{'28' if month[5:] == '02' else '30'}"
            assert set(exported(path, since=first, until=last)) <= set(uris(path, found))


MONTHS: list[tuple[Cell, str]] = [
    ("2024-05-22 18:57:38.254 +0000 UTC", "2024-05"),
    ("2024-05-31 23:30:00 -0100 -0100", "2024-06"),
    ("2024-06-01T00:30:00+01:00", "2024-05"),
    ("2024-12-31T23:59:60Z", "2025-01"),
    (b"2024-05-22T18:57:38Z", "2024-05"),
    (1716404258, "2024-05"),
    ("2024-13-22 18:57:38 +0000 UTC", ""),
    ("yesterday", ""),
    ("", ""),
]


def test_months_of_odd_times(tmp_path: Path) -> None:
    """Each way to store a time counts for the month that exports have; unreadable ones for none."""
    rows = [post(number, created_at=stored) for number, (stored, _) in enumerate(MONTHS)]
    archive = file_archive(tmp_path / "archive.db", rows)
    with Archive(archive) as opened:
        months = posts_by_month(opened)
        assert sum(months.values()) == len(MONTHS)
        assert months["2024-05"] == 4
        assert months["2024-06"] == 1
        assert months[""] >= 3
        for month in filter(None, months):
            assert len(walked(opened, month=month)) == months[month]
        assert len(walked(opened)) == len(MONTHS)


@pytest.mark.parametrize("index", [True, False])
@pytest.mark.parametrize("wal", [True, False])
def test_words(tmp_path: Path, index: bool, wal: bool) -> None:
    """Words show what an export with --match has; with an author and a month, both must hold."""
    path = searchable(tmp_path / "archive.db", pets(), index=index, wal=wal)
    with Archive(path) as archive:
        for words in ("cats", "cats AND dogs", '"cats and"', "do*"):
            assert sorted(uris(path, walked(archive, words=words))) == sorted(exported(path, match=words))
            both = exported(path, match=words, author="did:plc:a", since="2024-05-01", until="2024-05-31")
            assert sorted(uris(path, walked(archive, "2024-05", "did:plc:a", words))) == sorted(both)
            assert walked(archive, "2023-05", words=words) == []
        listing = posts_of(archive, Wanted(), ADDRESS)
        assert listing.by_time == index
        for wrong in ("cats AND", "foo-bar", '"'):
            with pytest.raises(OptionError, match="is not a full-text query"):
                posts_of(archive, Wanted(words=wrong), ADDRESS)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["archive.db"]


def test_many_posts_with_a_word(tmp_path: Path) -> None:
    """Beyond thousands of matches, posts are found along the index on time: the same ones."""
    rows = [
        post(number, text="common" if number % 3 else "rare", did=f"did:plc:{number % 2}",
             created_at=f"2024-{number % 12 + 1:02}-{number % 28 + 1:02} 10:00:00 +0000 UTC")
        for number in range(9000)
    ]  # fmt: skip
    path = searchable(tmp_path / "archive.db", rows)
    with Archive(path) as archive:
        for words, author in (("common", ""), ("rare", ""), ("common", "did:plc:1"), ("", "did:plc:0")):
            options = {name: value for name, value in (("match", words), ("author", author)) if value}
            listing = posts_of(archive, Wanted("2024-07", author, words), ADDRESS)
            found = uris(path, [int(view.anchor[1:]) for view in listing.posts])
            assert found == exported(path, **options, since="2024-07-01", until="2024-07-31")[:POSTS_ON_A_PAGE]


TIMES = st.sampled_from(
    [
        "2024-05-22 18:57:38.254 +0000 UTC", "2024-05-22 18:57:38 +0000 UTC", "2024-05-22T18:57:38Z", "2024-04-01",
        "0001-01-01 00:00:00 +0000 UTC", "9999-12-31T23:59:59Z", "", "zzz", 5, 5.5, b"2024-05-22T18:57:38Z", b"\xff",
    ]
)  # fmt: skip


@given(
    st.lists(st.tuples(TIMES, st.sampled_from(["did:plc:a", "did:plc:b"])), max_size=120),
    st.booleans(),
)
def test_any_times(tmp_path_factory: pytest.TempPathFactory, cells: list[tuple[Cell, str]], index: bool) -> None:
    """Whatever times an archive has, each post is on one page, and pages do not depend on where one comes from."""
    rows: list[Row] = [post(number, created_at=time, did=did) for number, (time, did) in enumerate(cells)]
    path = file_archive(tmp_path_factory.mktemp("times") / "archive.db", rows, index=index)
    with Archive(path) as archive:
        found = walked(archive)
        assert sorted(uris(path, found)) == sorted(map(uri_of, rows))
        if index:
            assert uris(path, found) == exported(path)
        mine = [uri_of(row) for row in rows if row["did"] == "did:plc:a"]
        if mine:
            assert sorted(uris(path, walked(archive, author="did:plc:a"))) == sorted(mine)


def test_wrong_questions(tmp_path: Path) -> None:
    """A month, an author or a place that does not exist gives an error, or nothing."""
    path = file_archive(tmp_path / "archive.db", [post(number) for number in range(3)])
    with Archive(path) as archive:
        for month in ("2024", "2024-13", "2024-00", "0000-01", "2024-5", "٢٠٢٤-٠٥", "2024-05-01", "x"):
            with pytest.raises(OptionError, match="month"):
                posts_of(archive, Wanted(month=month), ADDRESS)
        with pytest.raises(OptionError):
            posts_of(archive, Wanted(author="not a name"), ADDRESS)
        with pytest.raises(AuthorError):
            posts_of(archive, Wanted(author="did:plc:nobody"), ADDRESS)
        with pytest.raises(ArchiveError, match="no full-text index"):
            posts_of(archive, Wanted(words="cats"), ADDRESS)
        assert posts_of(archive, Wanted(after=99), ADDRESS).posts == []
        assert posts_of(archive, Wanted(month="9999-12"), ADDRESS).posts == []


def test_at(small_archive: make_archive.ArchiveInfo) -> None:
    """A link to a post shows it first, with those after it."""
    with Archive(small_archive.path) as archive:
        everything = walked(archive)
        for place in (0, 7, 1300, len(everything) - 1):
            listing = posts_of(archive, Wanted(at=everything[place]), ADDRESS)
            assert [int(view.anchor[1:]) for view in listing.posts] == everything[place : place + POSTS_ON_A_PAGE]
            assert listing.first is not None


def test_what_posts_show(tmp_path: Path) -> None:
    """Answers and quotations lead to the posts that the archive has, elsewhere if it has not; names are the latest."""
    first = post(1, text="The first")
    rows = [
        first,
        post(2, is_reply=1, reply_parent=uri_of(first), created_at="2024-06-01 10:00:00 +0000 UTC"),
        post(
            3, is_reply=1, reply_parent="at://did:plc:xyz/app.bsky.feed.post/3kabc", created_at="2024-06-02T10:00:00Z"
        ),
        post(4, text="x" * 3_000_000, created_at="2024-06-03T10:00:00Z"),
    ]
    path = file_archive(tmp_path / "archive.db", rows)
    for name, day in (("Old", "01"), ("Alice", "02")):
        run_sql(
            path,
            "insert into profiles (did, handle, display_name, snapshot_at)"
            f" values ('did:plc:abc', '{name.lower()}.example', '{name}', '2024-05-{day} 00:00:00')",
        )
    with Archive(path) as archive:
        large, elsewhere, answer, start = posts_of(archive, Wanted(), ADDRESS).posts
        assert start.author.name == "Alice"
        assert answer.parent is not None
        assert answer.parent.here
        assert answer.parent.snippet == "The first"
        assert answer.parent.href == f"{ADDRESS}/posts?at=1#p1"
        assert elsewhere.parent is not None
        assert elsewhere.parent.href == "https://bsky.app/profile/did:plc:xyz/post/3kabc"
        assert len(large.text) < 100_000
        assert "too large to be shown in full" in large.notes[-1]
        assert posts_of(archive, Wanted(author="alice.example"), ADDRESS).author == start.author


def test_posts_without_a_uri_of_their_own(tmp_path: Path) -> None:
    """Row ids decide where uris are missing and times are the same: no post is lost between pages."""
    same = "2024-05-22 18:57:38 +0000 UTC"
    rows = [post(number, created_at=same) for number in range(40)]
    path = file_archive(tmp_path / "archive.db", [*rows, *(post(0, uri=None, created_at=same) for _ in range(130))])
    with Archive(path) as archive:
        assert len(set(walked(archive))) == len(walked(archive)) == 170


def test_many_files_of_a_post(tmp_path: Path) -> None:
    """However many files posts share, and however long their descriptions, a page stays small."""
    digests = [f"{number:064x}" for number in range(300)]
    images = [{"alt": "", "fullsize": f"https://cdn.example/img/{digest}@jpeg"} for digest in digests]
    embed = json.dumps({"$type": "app.bsky.embed.images#view", "images": images}).encode()
    rows = [post(number, has_media=1, embed_data=embed) for number in range(50)]
    path = file_archive(tmp_path / "archive.db", rows)
    with writing(path) as connection:
        connection.executemany(
            "insert into media (hash, post_uri, mime_type, file_path, size_bytes, alt_text)"
            " values (?, ?, 'image/jpeg', ?, 1, ?)",
            [(digest, uri_of(rows[0]), f"media/{digest}.jpg", '"' * 20_000) for digest in digests],
        )
    with Archive(path) as archive:
        listing = posts_of(archive, Wanted(), ADDRESS)
    files = [image for view in listing.posts for image in view.images if image.file]
    assert 0 < len(files) <= 50 * 20
    assert max(len(image.alt) for image in files) <= 4000


def test_odd_values_of_media(tmp_path: Path) -> None:
    """Values of media that are no text, or not UTF-8, are shown as far as they can be."""
    row = post(1, has_media=1)
    path = file_archive(tmp_path / "archive.db", [row])
    for number, (alt, size) in enumerate(
        [("cast(x'ff61' as text)", "'x'"), ("x'00ff'", "cast(x'ff' as text)"), ("5", "-3")]
    ):
        run_sql(
            path,
            "insert into media (hash, post_uri, mime_type, file_path, size_bytes, alt_text) values"
            f" ('{number:064x}', '{uri_of(row)}', cast(x'ff' as text), 'media/{number}.jpg', {size}, {alt})",
        )
    with Archive(path) as archive:
        (view,) = posts_of(archive, Wanted(), ADDRESS).posts
    assert [image.file.partition("/media/")[2] for image in view.images] == ["1.jpg", "2.jpg", "3.jpg"]
    assert "\ufffda" in view.images[0].alt


def test_the_check_ends_reading(small_archive: make_archive.ArchiveInfo) -> None:
    """A page that takes too long, or whose server ends, is given up, also while the archive is being opened."""

    def check() -> None:
        raise ArchiveError("no more")

    with pytest.raises(ArchiveError, match="no more"), Archive(small_archive.path, check=check) as archive:
        archive.connection.execute("select count(*) from posts, posts").fetchall()
