"""Opening archives, refusing what is none, and reading posts without a trace."""

from __future__ import annotations

import contextlib
import json
import shutil
from itertools import islice
from pathlib import Path
from typing import Any, cast

import apsw
import pytest

import make_archive
from skyexport import ExportOptions, export
from skyexport.archive.media_rows import count_media
from skyexport.archive.source import Source
from skyexport.errors import ArchiveBusyError, ArchiveError, OptionError
from skyexport.pipeline.listing import Archive
from skyexport.repository import tables
from skyexport.selection import Selection
from tests import archives, oracle
from tests.archives import Cell, RawText, exported, file_archive, fill, insert, post, stored_rows, uri_of, writing
from tests.conftest import limits


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where an archive may be made."""
    return tmp_path / "archive.db"


def refused(path: Path, message: str) -> None:
    """Opening must fail with exit code 10, in one line with the path and this message, and leave no file."""
    before = folder_state(path.parent)
    with pytest.raises(ArchiveError, match=message) as caught:
        Archive(path)
    assert caught.value.exit_code == 10
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert folder_state(path.parent) == before


def folder_state(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, with its bytes."""
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


# --- Refusing ---------------------------------------------------------------------------------------------------


def test_missing(path: Path) -> None:
    """No file is an error, and none is made."""
    refused(path, "no archive at .*; check the path")


def test_a_folder(tmp_path: Path) -> None:
    """A folder is no archive."""
    folder = tmp_path / "folder.db"
    folder.mkdir()
    refused(folder, "folder.db")


def test_empty(path: Path) -> None:
    """An empty file is no archive, though SQLite would take it for a new database."""
    path.write_bytes(b"")
    refused(path, "is empty")


@pytest.mark.parametrize("content", [b"x", b"SQLite format 3\0", b"{}" * 500, b"SQLite format 2\0" + b"\0" * 200])
def test_not_a_database(path: Path, content: bytes) -> None:
    """A file that is not a SQLite database is refused by its first bytes."""
    path.write_bytes(content)
    refused(path, "is not a SQLite database")


def test_a_damaged_header(path: Path) -> None:
    """A SQLite header with nothing behind it is damaged."""
    path.write_bytes(b"SQLite format 3\0" + b"\xff" * 1000)
    refused(path, "damaged or not a database")


def test_cut_short(path: Path) -> None:
    """An archive of which the end is missing is damaged; reading its posts says so."""
    file_archive(path, [post(number, text="x" * 900) for number in range(200)])
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ArchiveError, match="damaged") as caught:
        read_all(path)
    assert caught.value.exit_code == 10


def test_cut_off_within_the_last_page(path: Path) -> None:
    """So is one that lacks a byte: SQLite would take it for zero."""
    file_archive(path, [post()])
    path.write_bytes(path.read_bytes()[:-1])
    refused(path, "is cut off within its last page; restore it")


def test_a_name_that_is_not_utf8(path: Path) -> None:
    """A name in the schema that no program can read is damage."""
    file_archive(path, [post()])
    with writing(path) as connection:
        connection.execute("create table other_name (a)")
    path.write_bytes(path.read_bytes().replace(b"other_name", b"other_nam\xff"))
    refused(path, "a name in its schema is not valid UTF-8")


def read_all(path: Path) -> None:
    """Open an archive, and read all of it."""
    with Archive(path) as archive:
        archive.count_posts()
        list(archive.list_posts())


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("create table other(a)", "no table posts"),
        ("create view posts as select 1 as uri", "posts is not a plain table"),
        ("create virtual table posts using fts5(uri, cid, did, text)", "posts is not a plain table"),
        ("create table posts(uri text primary key, cid) without rowid", "posts is a table without row ids"),
        ("create table posts(uri text primary key, cid text)", "posts has no column did, text, created_at"),
        ("create table posts(uri); create view media as select 1", "media is not a plain table"),
        ("create table posts(uri); create view schema_version as select 3 as version", "schema_version is not a plain"),
    ],
)
def test_not_an_archive(path: Path, sql: str, message: str) -> None:
    """A database without a plain table of posts is no archive."""
    with writing(path) as connection:
        connection.execute(sql)
    refused(path, f"is not a bskyarchive archive: {message}")


ENDLESS = (
    "with recursive numbers(n) as (values (1) union all select n + 1 from numbers) select n as version from numbers"
)


@pytest.mark.parametrize("table", ["schema_version", "media"])
@pytest.mark.parametrize("sql", [f"create view {{}} as {ENDLESS}", "create virtual table {} using fts5(version)"])
def test_other_tables_that_are_none(path: Path, table: str, sql: str) -> None:
    """The other tables that are read must be tables, too: a view may never end."""
    file_archive(path, [post()])
    with writing(path) as connection:
        connection.execute(f"drop table {table}")
        connection.execute(sql.format(table))
    refused(path, f"is not a bskyarchive archive: {table} is not a plain table")


@pytest.mark.parametrize("column", ["uri", "text", "created_at", "embed_data", "archived_at"])
def test_a_missing_column(path: Path, column: str) -> None:
    """A table of posts without one of the columns is refused by the column's name."""
    statements = tables.TABLES
    with writing(path) as connection:
        connection.execute(statements.replace(f"  {column} ", f"  other_{column} "))
    refused(path, f"posts has no column {column}$")


@pytest.mark.parametrize("column", ["URI", "text", "Created_At", "quote_count", "labels"])
@pytest.mark.parametrize("kind", ["virtual", "stored"])
def test_a_generated_column_that_is_read(path: Path, column: str, kind: str) -> None:
    """A generated column would run what somebody wrote: one in the place of a column that is read is refused."""
    statements = tables.TABLES
    posts = statements.index("create table posts")
    before, _, after = statements[posts:].partition(f"\n  {column.lower()} ")
    rest = after[after.index("\n") :]
    with writing(path) as connection:
        connection.execute(
            f"{statements[:posts]}{before}\n  {column} text generated always as ('x') {kind},{rest}".replace(
                "uri),", "cid),"
            )
        )
    refused(path, f"posts has a generated column {column.lower()}$")


def with_column(monkeypatch: pytest.MonkeyPatch, column: str) -> None:
    """Have archives made with one more column in posts, and in media where that can be."""
    statements = tables.TABLES.replace("  labels json,", f"  labels json,\n  {column},")
    if column not in ("post_uri", "hash") and "embed_data" not in column:
        statements = statements.replace("  alt_text text,", f"  alt_text text,\n  {column},")
    assert column in statements
    monkeypatch.setattr(archives, "TABLES", statements)


@pytest.mark.parametrize("name", ["rowid", "RowID", '"rowid"'])
def test_a_column_that_hides_the_row_id(path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """So is a column of the name of the row id."""
    with_column(monkeypatch, f"{name} text")
    file_archive(path, [post()])
    refused(path, "posts has a column rowid, which hides the row ids$")


EXTRA_COLUMNS = [
    "day text generated always as (substr(created_at, 1, 10)) virtual",
    "day text generated always as (substr(created_at, 1, 10))",
    "later generated always as (json_extract(embed_data, '$.no'))",
    "plain text default 'x'",
    '"a ""quoted"" name, \'too\'" text',
    "oid text",
    "_rowid_ integer",
    *("row_id", "value", "key", "size", "batch", "digest", "post_uri", "hash", "seen_uri", "to_second", "posts"),
]
"""Columns that an archive may have besides those that are read; statements use some of the names for other things."""


@pytest.mark.quick(3)
@pytest.mark.parametrize("column", EXTRA_COLUMNS)
def test_other_columns(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, column: str) -> None:
    """Columns that nobody reads change nothing: from the archive or a copy, with media, and by a selection."""
    rows = [post(number, did=f"did:plc:{number % 2}", has_media=1) for number in range(30)]
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "foo.jpg").write_bytes(b"foo")
    options: dict[str, Any] = {"archive": path, "output_dir": tmp_path / "out", "media": True, "batch_size": 7}

    def exports() -> list[tuple[bytes, int, int]]:
        path.unlink(missing_ok=True)
        file_archive(path, rows)
        with writing(path) as connection:
            connection.execute(
                "insert into media(hash, post_uri, mime_type, file_path, size_bytes)"
                " values (?, ?, '', 'media/foo.jpg', 3)",
                (FOO_SHA256, uri_of(rows[0])),
            )
        found = []
        for more in (
            {"workers": 0},
            {"workers": 0, "snapshot": "copy"},
            {"author": "did:plc:0"},
            {"since": "2024-01-01"},
        ):
            summary = export(ExportOptions(**options, **more))
            assert summary.path is not None
            assert summary.media is not None
            found.append((summary.path.read_bytes(), summary.media_files, summary.media.posts_without))
        return found

    before = exports()
    with_column(monkeypatch, column)
    assert exports() == before
    (full,) = sorted((tmp_path / "out" / "all").iterdir())[:1]
    increment = export(ExportOptions(archive=path, to=tmp_path / "increment", since_export=[full]))
    assert (increment.posts, increment.disappeared) == (0, 0)


def test_code_in_a_column_that_nobody_reads(path: Path, tmp_path: Path) -> None:
    """The expression of a generated column is not computed: here it calls a function that there is not."""
    file_archive(path, [post(number) for number in range(20)])
    usual = tmp_path / "usual"
    export(ExportOptions(archive=path, to=usual))
    with writing(path) as connection:
        connection.pragma("writable_schema", True)
        connection.execute(
            "update sqlite_schema set sql = replace(sql, 'archived_at timestamp default current_timestamp', ?)"
            " where name = 'posts'",
            ("archived_at timestamp, more as (evil(text))",),
        )
    with writing(path) as connection, pytest.raises(apsw.SQLError, match=r"no such function|unknown function"):
        connection.execute("select more from posts").fetchall()
    for number, more in enumerate(({"workers": 0}, {"workers": 2}, {"snapshot": "copy"}, {"author": "did:plc:abc"})):
        export(ExportOptions(archive=path, to=tmp_path / f"{number}", **cast(Any, more)))
        assert (tmp_path / f"{number}").read_bytes() == usual.read_bytes()


FOO_SHA256 = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"


@pytest.mark.parametrize("format_name", ["json", "csv"])
@pytest.mark.parametrize("snapshot", ["pin", "copy"])
def test_names_in_capitals(path: Path, tmp_path: Path, format_name: str, snapshot: str) -> None:
    """Names of tables, columns and indexes compare as SQLite compares them: without regard to capitals."""
    rows = [post(number, text=f"cat {number}") for number in range(20)]
    with writing(path) as connection:
        fill(connection, rows)
        names = [str(row[1]) for row in connection.execute("pragma table_info(posts)")]
        for name in names:
            connection.execute(f"alter table posts rename column {name} to {name.upper()}")
        for table in ("posts", "media", "schema_version", "exports"):
            connection.execute(f"alter table {table} rename to other; alter table other rename to {table.title()}")
        assert "URI" in str(connection.execute("select sql from sqlite_schema where name = 'Posts'").get)
    to = tmp_path / "out"
    export(ExportOptions(archive=path, to=to, format=format_name, snapshot=snapshot, workers=0))
    with Archive(path) as archive:
        assert archive.schema.version == 3
        assert archive.created_at_index == "idx_posts_created_at"
        assert archive.schema.did_index == "idx_posts_did"
        assert archive.schema.uri_index
        assert count_media(archive) == 0
        assert to.read_bytes() == oracle.FILE[format_name](stored_rows(archive.connection))
        with pytest.raises(apsw.AuthError):
            archive.connection.execute("select * from SESSIONS")
    with writing(path) as connection:
        connection.execute("create virtual table POSTS_FTS using fts5(uri, text, content=Posts, content_rowid=ROWID)")
        connection.execute("insert into POSTS_FTS(POSTS_FTS) values ('rebuild')")
    options: dict[str, Any] = {"author": "did:plc:abc", "media": True, "snapshot": snapshot, "match": "cat"}
    summary = export(ExportOptions(archive=path, output_dir=tmp_path / "exports", register=True, **options))
    assert (summary.posts, summary.registered is not None) == (20, True)


def test_letters_that_only_look_like_capitals(path: Path) -> None:
    """SQLite takes `A` to `Z` for capitals and no other letters: a name with the Kelvin sign is another name."""
    statements = tables.TABLES
    with writing(path) as connection:
        connection.execute(statements.replace("  like_count ", "  li\u212ae_count "))
    refused(path, "posts has no column like_count$")


@pytest.mark.quick(1)
@pytest.mark.parametrize("order", ["strict", "any", "backwards"])
def test_other_tables_of_posts(path: Path, tmp_path: Path, order: str) -> None:
    """A STRICT table, one with columns of the type ANY, and one with another order of columns are read as they are."""
    rows = [post(number, created_at=time) for number, time in enumerate(["2024-05-22 10:00:00 +0000 UTC", "9", "1e1"])]
    columns = list(rows[0])[:: -1 if order == "backwards" else 1]
    kinds = {int: "integer", str: "text", bytes: "blob"}
    declared = [
        f"{name} {'any' if order == 'any' else kinds[type(rows[0][name])]}{' primary key' if name == 'uri' else ''}"
        for name in columns
    ]
    with writing(path) as connection:
        connection.execute(f"create table posts ({', '.join(declared)}) {'' if order == 'backwards' else 'strict'}")
        connection.execute("create index idx on posts(created_at); create index dids on posts(did)")
        for row in rows:
            insert(connection, row)
    found = []
    for snapshot in ("pin", "copy"):
        for workers in (0, 2):
            to = tmp_path / f"{snapshot}{workers}"
            export(ExportOptions(archive=path, to=to, snapshot=snapshot, workers=workers, since="2000-01-01"))
            found.append(to.read_bytes())
    assert len(json.loads(found[0])) == 1
    assert set(found) == {found[0]}
    with Archive(path) as archive:
        assert exported(archive, "json")[0] == oracle.json_file(stored_rows(archive.connection))


@pytest.mark.parametrize("version", [0, 4, 99, -1, "3a", None, 2.5, 1.0])
def test_an_unknown_schema_version(path: Path, version: apsw.SQLiteValue) -> None:
    """A schema that came after this program is refused, instead of guessing what it means."""
    file_archive(path, [post()])
    with writing(path) as connection:
        connection.execute("drop table schema_version")
        connection.execute("create table schema_version(version)")
        connection.execute("insert into schema_version values (?)", (version,))
    refused(path, f"has schema version {version!r}, and this skyexport knows 1 to 3; try a newer skyexport")


def test_messages_stay_short(path: Path) -> None:
    """A huge value in the place of a version does not fill the screen."""
    file_archive(path, [post()])
    with writing(path) as connection:
        connection.execute("drop table schema_version; create table schema_version(version)")
        connection.execute("insert into schema_version values (?)", ("x" * 100_000,))
    with pytest.raises(ArchiveError) as caught:
        Archive(path)
    assert len(caught.value.message) < 300 + len(str(path))


@pytest.mark.parametrize(
    "sql",
    [
        "create table schema_version(number)",
        "create table schema_version(number, version as (number))",
        "create table schema_version(VERSIONS); insert into schema_version values (3)",
    ],
)
def test_a_schema_version_of_another_kind(path: Path, sql: str) -> None:
    """A table of that name without the column that tells it belongs to some other program."""
    file_archive(path, [post()])
    with writing(path) as connection:
        connection.execute(f"drop table schema_version; {sql}")
    refused(path, "is not a bskyarchive archive: schema_version has no column version$")


def test_locked(path: Path) -> None:
    """An archive that another program holds is busy, after a while."""
    file_archive(path, [post()])
    with writing(path) as connection:
        connection.execute("begin exclusive")
        with (
            limits(BUSY_MILLISECONDS=10),
            pytest.raises(ArchiveBusyError, match="is locked by another program") as caught,
        ):
            Archive(path)
        connection.execute("rollback")
    assert caught.value.exit_code == 11


# --- What is known about an archive -----------------------------------------------------------------------------


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("noted", [True, False])
def test_schema_versions(path: Path, version: int, noted: bool) -> None:
    """Every known schema is read, also when its version was not noted; in the first, nobody is quoted."""
    file_archive(path, [post(quote_count=4)], schema_version=version)
    if not noted:
        with writing(path) as connection:
            connection.execute("drop table schema_version")
    with Archive(path) as archive:
        assert archive.schema.version == version
        assert archive.count_posts() == 1
        assert archive.list_posts(limit=1)[0]["quote_count"] == (0 if version == 1 else 4)  # type: ignore[index]


def test_indexes(path: Path) -> None:
    """The indexes are found by what they are on, not by their names; a partial one does not count."""
    file_archive(path, [post(number) for number in range(5)], index=False)
    with writing(path) as connection:
        connection.execute("create index part on posts(created_at) where has_media = 1")
        connection.execute("create index nocase on posts(created_at collate nocase)")
        connection.execute("create index other on posts(did, created_at)")
        connection.execute("create index expression on posts(substr(created_at, 1, 10))")
    with Archive(path) as archive:
        assert archive.created_at_index is None
        assert archive.schema.did_index in ("idx_posts_did", "other")
    with writing(path) as connection:
        connection.execute('create index "an ""index" on posts(created_at, uri)')
    with Archive(path) as archive:
        assert archive.created_at_index == 'an "index'
        assert exported(archive, "json", batch_size=2)[0] == oracle.json_file(stored_rows(archive.connection))


@pytest.mark.parametrize("format_name", ["json", "csv"])
def test_without_the_index(path: Path, format_name: str) -> None:
    """Without an index on created_at the posts are sorted; the bytes are the same."""
    rows = [post(number, created_at=f"2024-05-2{number % 3} 00:00:00 +0000 UTC") for number in range(20)]
    file_archive(path, rows, index=False)
    with Archive(path) as archive:
        assert archive.created_at_index is None
        assert exported(archive, format_name, batch_size=3)[0] == oracle.FILE[format_name](
            stored_rows(archive.connection)
        )


@pytest.mark.parametrize("format_name", ["json", "csv"])
@pytest.mark.parametrize("index", [True, False])
def test_times_of_every_type(path: Path, format_name: str, index: bool) -> None:
    """Times stored as BLOB, text and numbers are exported in SQLite's order, and found by date."""
    times: list[Cell] = [
        *("2024-05-22 10:00:00 +0000 UTC", b"2024-05-22 11:00:00 +0000 UTC", 1_716_375_600, 1_716_375_600_500, 1.5),
        *("never", b"never", RawText(b"\xff"), "", " 2024-05-22 12:00:00 +0000 UTC", "\u20282024-05-22"),
        *("2024-05-22T10:00:00+09:00", "2024-05-23 01:00:00 +0900 +0900", "2024-05-21 23:00:00 -0700 PDT"),
    ]
    file_archive(path, [post(number, created_at=time) for number, time in enumerate(times)], index=index)
    since, until = 1_716_336_000 * 10**9, 1_716_422_400 * 10**9 - 1
    with Archive(path) as archive:
        rows = stored_rows(archive.connection)
        for batch_size in (1, 2, 5, 100):
            assert exported(archive, format_name, batch_size=batch_size)[0] == oracle.FILE[format_name](rows)
            by_date = exported(
                archive, format_name, batch_size=batch_size, selection=Selection(since=since, until=until)
            )[0]
            assert by_date == oracle.FILE[format_name]([rows[n] for n in (0, 1, 2, 3, 9, 10, 11, 12, 13)])


@pytest.mark.parametrize(
    "sql",
    [
        "select access_token from sessions",
        "select refresh_token from main.sessions",
        "select count(*) from sessions",
        "select did from profiles",
        "select * from operations",
        "select * from exports",
        "select * from sqlite_schema",
        "select * from main.sqlite_master",
        "select * from pragma_table_info('sessions')",
        "select * from posts_fts",
        "attach ':memory:' as other",
        "create temp table t(a)",
        "create table t(a)",
        "delete from posts",
        "update posts set text = ''",
        "drop table posts",
        "pragma writable_schema = on",
        "pragma query_only = off",
        "pragma journal_mode = delete",
        "pragma wal_checkpoint",
        "vacuum into 'copy.db'",
        "reindex",
        "analyze",
        "select load_extension('x')",
    ],
)
def test_only_posts_and_media_can_be_read(small_archive: make_archive.ArchiveInfo, sql: str) -> None:
    """Through the connection of an archive nobody reads the sessions or writes anything, by whatever statement."""
    with Archive(small_archive.path) as archive, pytest.raises((apsw.AuthError, apsw.ReadOnlyError, apsw.SQLError)):
        archive.connection.execute(sql).fetchall()


def test_a_connection_believes_nothing(small_archive: make_archive.ArchiveInfo) -> None:
    """Every connection to an archive, those of workers too, is read-only and runs nothing that a file may bring."""
    with contextlib.closing(Source.of(small_archive.path).connect()) as connection:
        assert connection.readonly("main")
        for option, value in (
            (apsw.SQLITE_DBCONFIG_DEFENSIVE, 1),
            (apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0),
            (apsw.SQLITE_DBCONFIG_ENABLE_VIEW, 0),
            (apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0),
        ):
            assert connection.config(option, -1) == value
        assert connection.limit(apsw.SQLITE_LIMIT_LENGTH) == 4_000_000
        connection.authorizer = None
        pragmas = ("query_only", "cell_size_check", "mmap_size")
        assert [connection.pragma(name) for name in pragmas] == [1, 1, 0]


def test_a_view_can_not_reach_the_sessions(path: Path) -> None:
    """Nor by a view that was put into the archive."""
    file_archive(path, [post()])
    with writing(path) as connection:
        connection.execute("create view tokens as select access_token from sessions")
    with Archive(path) as archive, pytest.raises((apsw.AuthError, apsw.SQLError)):
        archive.connection.execute("select * from tokens").fetchall()


@pytest.mark.parametrize("format_name", ["json", "csv"])
def test_no_canary_in_an_export(small_archive: make_archive.ArchiveInfo, format_name: str) -> None:
    """The access tokens, which lie in the archive, are not in an export of it."""
    canaries = (make_archive.ACCESS_TOKEN.encode(), make_archive.REFRESH_TOKEN.encode())
    assert all(canary in small_archive.path.read_bytes() for canary in canaries)
    with Archive(small_archive.path) as archive:
        data = exported(archive, format_name)[0]
    assert not any(canary in data for canary in canaries)


# --- Posts ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def all_posts(small_archive: make_archive.ArchiveInfo) -> list[dict[str, Any]]:
    """Every post of the small archive, as a JSON parser reads the export that the contract has for it."""
    with Archive(small_archive.path) as archive:
        posts: list[dict[str, Any]] = json.loads(oracle.json_file(stored_rows(archive.connection)))
    return posts


def test_list_all_posts(small_archive: make_archive.ArchiveInfo, all_posts: list[dict[str, Any]]) -> None:
    """Without a limit the posts come as an iterator: all of them, in export order."""
    with Archive(small_archive.path) as archive:
        posts = archive.list_posts()
        assert iter(posts) is posts
        assert list(posts) == all_posts


@pytest.mark.parametrize(("limit", "offset"), [(1, 0), (10, 0), (10, 5), (999, 1), (1001, 0), (50, 2490), (5, 2500)])
def test_list_a_page(
    small_archive: make_archive.ArchiveInfo, all_posts: list[dict[str, Any]], limit: int, offset: int
) -> None:
    """With a limit the posts come as a list: that part of all."""
    with Archive(small_archive.path) as archive:
        assert archive.list_posts(limit=limit, offset=offset) == all_posts[offset : offset + limit]


def test_list_from_an_offset(small_archive: make_archive.ArchiveInfo, all_posts: list[dict[str, Any]]) -> None:
    """An offset goes with the iterator too."""
    with Archive(small_archive.path) as archive:
        assert list(archive.list_posts(offset=2400)) == all_posts[2400:]


def test_list_by_author(small_archive: make_archive.ArchiveInfo, all_posts: list[dict[str, Any]]) -> None:
    """Only the posts of one author; none of a stranger's."""
    with Archive(small_archive.path) as archive:
        found = list(archive.list_posts(did=small_archive.owner_did))
        assert found == [one for one in all_posts if one["did"] == small_archive.owner_did]
        assert list(archive.list_posts(did="did:plc:nobody")) == []
        assert archive.list_posts(did="did:plc:nobody", limit=5) == []


def test_list_by_date(path: Path) -> None:
    """A date covers its day in UTC, an instant is inclusive, and the author counts too."""
    times = [
        "2024-05-22 00:00:00 +0000 UTC",
        "2024-05-22 23:59:59.999999999 +0000 UTC",
        "2024-05-23 08:59:59 +0900 +0900",
        "2024-05-21 23:59:59.999999999 +0000 UTC",
        "2024-05-23 00:00:00 +0000 UTC",
        "never",
    ]
    rows = [post(n, created_at=time, cid=str(n), did=f"did:plc:{n % 2}") for n, time in enumerate(times)]
    file_archive(path, rows)
    with Archive(path) as archive:

        def cids(**bounds: Any) -> list[str]:
            return [one["cid"] for one in archive.list_posts(**bounds)]

        assert cids(since="2024-05-22", until="2024-05-22") == ["2", "1", "0"]
        assert cids(since="2024-05-23") == ["4"]
        assert cids(until="2024-05-21") == ["3"]
        assert cids(since="2024-05-22T23:59:59.999999999Z") == ["4", "1"]
        assert cids(until="2024-05-22T00:00:00Z", did="did:plc:0") == ["0"]
        assert cids(since="2024-05-22", until="2024-05-22", limit=1, offset=1) == ["1"]


def test_list_hostile_posts(path: Path) -> None:
    """Posts that can not be exported as they are stored can be listed, as JSON has them."""
    file_archive(
        path,
        [
            post(1, text=RawText(b"\xff\0\xe2\x80\xa8"), embed_data=b"{", labels=b'{"a":1.0,"a":2}'),
            post(2, created_at="never", uri=None, did=b"blob", like_count="many"),
        ],
    )
    with Archive(path) as archive:
        expected = json.loads(oracle.json_file(stored_rows(archive.connection)))
        assert list(archive.list_posts()) == expected


def test_list_while_reading(small_archive: make_archive.ArchiveInfo, all_posts: list[dict[str, Any]]) -> None:
    """Two iterators over one archive, taken in turn, do not disturb each other."""
    with Archive(small_archive.path) as archive:
        one, other = archive.list_posts(), archive.list_posts(offset=1)
        taken = [(next(one), next(other)) for _ in range(1500)]
    assert [pair[0] for pair in taken] == all_posts[:1500]
    assert [pair[1] for pair in taken] == all_posts[1:1501]


def test_list_lazily(small_archive: make_archive.ArchiveInfo, all_posts: list[dict[str, Any]]) -> None:
    """An iterator may be left before its end; the archive closes all the same."""
    with Archive(small_archive.path) as archive:
        assert list(islice(archive.list_posts(), 3)) == all_posts[:3]


@pytest.mark.parametrize("values", [{"limit": -1}, {"offset": -1}, {"since": "yesterday"}, {"until": "2024-02-30"}])
def test_list_wrong_values(small_archive: make_archive.ArchiveInfo, values: dict[str, Any]) -> None:
    """A negative number and what is no date are wrong usage, said at once."""
    with Archive(small_archive.path) as archive, pytest.raises(OptionError) as caught:
        archive.list_posts(**values)
    assert caught.value.exit_code == 2


def test_counts(small_archive: make_archive.ArchiveInfo, all_posts: list[dict[str, Any]]) -> None:
    """Posts are counted as they are listed."""
    with Archive(small_archive.path) as archive:
        assert archive.count_posts() == len(all_posts) == small_archive.posts
        by_owner = sum(1 for one in all_posts if one["did"] == small_archive.owner_did)
        assert archive.count_by(small_archive.owner_did) == by_owner


# --- No trace ---------------------------------------------------------------------------------------------------


@pytest.mark.quick(2)
@pytest.mark.parametrize("wal", [False, True])
@pytest.mark.parametrize("how", ["closed", "abandoned", "opened twice"])
def test_no_trace(tmp_path: Path, wal: bool, how: str) -> None:
    """After use the archive has the bytes it had, and nothing lies beside it that did not."""
    path = file_archive(tmp_path / "archive.db", [post(number) for number in range(1200)], wal=wal)
    before = folder_state(tmp_path)
    assert list(before) == ["archive.db"]
    with Archive(path) as archive:
        archive.count_posts()
        if how == "abandoned":
            next(iter(archive.list_posts()))
        elif how == "opened twice":
            with Archive(path) as second:
                assert len(list(second.list_posts())) == 1200
        assert exported(archive, "json")[0] == oracle.json_file(stored_rows(archive.connection))
    assert folder_state(tmp_path) == before


def test_no_trace_when_read_as_wal(tmp_path: Path) -> None:
    """Nor beside one that is to be read with a log, and written without."""
    path = file_archive(tmp_path / "archive.db", [post()])
    data = bytearray(path.read_bytes())
    assert data[18:20] == b"\1\1"
    data[19] = 2
    path.write_bytes(data)
    with Archive(path) as archive:
        assert archive.count_posts() == 1
        assert archive.source.journal_mode == "wal"
    assert folder_state(tmp_path) == {"archive.db": bytes(data)}


def test_no_trace_after_an_error(tmp_path: Path) -> None:
    """Nor after an archive in WAL mode was refused."""
    path = file_archive(tmp_path / "archive.db", [post()], wal=True)
    with writing(path) as connection:
        connection.execute("insert into schema_version values (77, '')")
    refused(path, "has schema version 77")


def test_a_writer_at_work(tmp_path: Path) -> None:
    """In WAL mode posts that are saved meanwhile do not disturb, and the writer's files stay its own."""
    path = file_archive(tmp_path / "archive.db", [post(1)], wal=True)
    with writing(path) as connection:
        connection.execute("update posts set text = 'new'")
        with Archive(path) as archive:
            archive.pin()
            connection.execute("update posts set text = 'newer'")
            assert archive.connection.execute("select text from posts").get == "new"
            archive.unpin()
        assert (tmp_path / "archive.db-wal").stat().st_size > 0
        assert connection.execute("select text from posts").get == "newer"


def test_a_log_that_was_left(tmp_path: Path) -> None:
    """An archive whose log was never taken in is read with what is in the log, and not touched."""
    original = file_archive(tmp_path / "original.db", [post(1)], wal=True)
    with writing(original) as connection:
        connection.execute("update posts set text = 'only in the log'")
        copy = tmp_path / "copy"
        copy.mkdir()
        shutil.copy(original, copy / "archive.db")
        shutil.copy(f"{original}-wal", copy / "archive.db-wal")
    before = folder_state(copy)
    with Archive(copy / "archive.db") as archive:
        assert [found["text"] for found in archive.list_posts()] == ["only in the log"]
    assert folder_state(copy) == before


def test_a_path_with_odd_characters(tmp_path: Path) -> None:
    """A name with characters that mean something in a URI is opened as it is."""
    path = file_archive(tmp_path / "a b?mode=rwc#%41&é.db", [post()])
    with Archive(str(path)) as archive:
        assert archive.count_posts() == 1
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_two_dated_listings_at_once(tmp_path: Path) -> None:
    """Iterators over different ranges of one archive do not get in each other's way."""
    path = file_archive(tmp_path / "a.db", [post(number) for number in range(1500)])
    with Archive(path) as archive:
        one, two = archive.list_posts(since="2024-01-01"), archive.list_posts(since="2024-05-01")
        assert next(iter(one)) == next(iter(two))
        assert len(list(two)) == len(list(one)) == 1499


def test_listing_of_what_python_can_not_hold(tmp_path: Path) -> None:
    """An integer of thousands of digits becomes a float; nesting beyond Python's depth is an error of the archive."""
    path = file_archive(tmp_path / "a.db", [post(1, embed_data=b'{"n":' + b"9" * 5000 + b"}")])
    with Archive(path) as archive:
        assert archive.list_posts(limit=1) == [{**next(iter(archive.list_posts())), "embed_data": {"n": float("inf")}}]
    deep = file_archive(tmp_path / "deep.db", [post(1, embed_data=b"[" * 3000 + b"]" * 3000)])
    with Archive(deep) as archive, pytest.raises(ArchiveError, match="nested too deeply for Python; export to a file"):
        archive.list_posts(limit=1)


def test_utf16_is_refused(tmp_path: Path) -> None:
    """An archive whose text is not UTF-8 was not made by bskyarchive, and would come out garbled."""
    path = tmp_path / "a.db"
    with contextlib.closing(apsw.Connection(str(path))) as connection:
        connection.pragma("encoding", "UTF-16le")
        fill(connection, [post(1)])
    with pytest.raises(ArchiveError, match="UTF-16"):
        Archive(path)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_time_of_megabytes(tmp_path: Path, workers: int) -> None:
    """A value that is absurdly large where posts are compared by it is told as such, not met as an error of SQLite."""
    path = file_archive(tmp_path / "a.db", [post(1, created_at="never " * 700_000), post(2)])
    with pytest.raises(ArchiveError, match="has a time, author or uri of more than 4,000,000 bytes") as caught:
        export(ExportOptions(archive=path, to=tmp_path / "out", workers=workers))
    assert caught.value.exit_code == 10
    assert [file.name for file in tmp_path.iterdir()] == ["a.db"]


@pytest.mark.parametrize("first", [0, 1])
def test_no_trace_of_two_at_once(tmp_path: Path, first: int) -> None:
    """Nor do two that read a closed WAL archive at the same time, whichever ends first."""
    path = file_archive(tmp_path / "a.db", [post(1)], wal=True)
    opened = [Archive(path), Archive(path)]
    for archive in (opened[first], opened[1 - first]):
        archive.count_posts()
        archive.close()
    assert list(tmp_path.iterdir()) == [path]
