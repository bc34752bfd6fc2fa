"""Authors by DID and handle: who is meant, what is said when nobody is, and that nothing else is read for it."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw
import pytest
from typer.testing import CliRunner, Result

from skyexport import Archive, ArchiveChangedError, AuthorError, ExportOptions, OptionError, StrictError, export
from skyexport.archive.authorizer import Authorizer
from skyexport.archive.authors import Author, ChosenAuthor
from skyexport.cli.app import app
from skyexport.fleet.schedule import export_all
from skyexport.pipeline.dry_run import dry_run
from skyexport.pipeline.inspection import list_authors
from skyexport.repository import tables
from skyexport.runtime.for_tests import on_reached
from skyexport.runtime.signals import Signals
from tests.archives import Row, file_archive, post, writing
from tests.command import files_below

ALICE, BOB, CAROL = "did:plc:alice", "did:plc:bob", "did:plc:carol"

CANARY = "k4n4rie"


def run(*arguments: str | Path) -> Result:
    """Run the command in this process: in a process of its own each would take a second."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], obj=Signals())


def run_json(*arguments: str | Path, status: int = 0) -> dict[str, Any]:
    """The object that `--json` prints."""
    done = run(*arguments, "--json")
    assert done.exit_code == status, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def profile(path: Path, did: str | bytes, handle: str | bytes, time: str | int | None) -> None:
    """Add a row to the profiles; every other column has a canary."""
    with writing(path) as connection:
        connection.execute(
            "insert into profiles (did, handle, display_name, description, avatar_url, banner_url, followers_count,"
            " follows_count, posts_count, snapshot_at) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (did, handle, *(f"{CANARY}-profile-{number}" for number in range(7)), time),
        )


def session(path: Path, did: str, handle: str, time: str) -> None:
    """Add a row to the sessions; every other column has a canary."""
    with writing(path) as connection:
        connection.execute(
            "insert into sessions (id, did, handle, display_name, access_token, refresh_token, expires_at, created_at)"
            f" values ('{CANARY}-1', ?, ?, '{CANARY}-2', '{CANARY}-3', '{CANARY}-4', '{CANARY}-5', ?)",
            (did, handle, time),
        )


def rows_by(*dids: str) -> list[Row]:
    return [post(number, did=did, created_at=f"2024-05-{number + 1:02d} 12:00:00 +0000 UTC") for number, did in
            enumerate(dids)]  # fmt: skip


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Three posts by Alice, two by Bob, one by Carol, who has no handle."""
    path = file_archive(tmp_path / "a.db", rows_by(ALICE, BOB, ALICE, CAROL, BOB, ALICE))
    profile(path, ALICE, "alice.bsky.social", "2025-11-01 08:00:01.5 +0000 UTC m=+1.500000000")
    session(path, BOB, "Bob.Example.com", "2025-11-01 07:59:59")
    return path


def chosen(path: Path, asked: str) -> ChosenAuthor:
    with Archive(path) as opened:
        return opened.find_author(asked)


def refused(path: Path, asked: str) -> str:
    with pytest.raises(AuthorError) as caught:
        chosen(path, asked)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    return str(caught.value)


def exported_posts(path: Path, out: Path, **options: Any) -> list[dict[str, Any]]:
    summary = export(ExportOptions(archive=path, output_dir=out, **options))
    assert summary.path is not None
    found: list[dict[str, Any]] = json.loads(summary.path.read_bytes())
    return found


# --- Who is meant -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "did", "handle"),
    [
        (ALICE, ALICE, None),
        ("alice.bsky.social", ALICE, "alice.bsky.social"),
        ("@ALICE.bsky.social", ALICE, "alice.bsky.social"),
        ("bob.example.com", BOB, "bob.example.com"),
        ("@BOB.EXAMPLE.COM", BOB, "bob.example.com"),
        (CAROL, CAROL, None),
    ],
)
def test_an_author_by_did_or_handle(archive: Path, asked: str, did: str, handle: str | None) -> None:
    """Profiles and sessions say which DID a handle means, whatever its capitals, with an @ before it or not."""
    assert chosen(archive, asked) == ChosenAuthor(did, handle)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("snapshot", ["pin", "copy"])
def test_an_export_by_handle(archive: Path, tmp_path: Path, snapshot: str, workers: int) -> None:
    """The export is that of the DID: the same posts, in the same directory; the manifest has both names."""
    options = ExportOptions(
        archive=archive, output_dir=tmp_path / "o", author="@Alice.bsky.social", snapshot=snapshot, workers=workers
    )
    summary = export(options)
    assert summary.directory is not None
    assert summary.directory.parent.name == ALICE
    assert summary.posts == 3
    manifest = json.loads((summary.directory / "manifest.json").read_bytes())
    assert (manifest["author"], manifest["author_handle"]) == (ALICE, "alice.bsky.social")
    assert manifest["options"]["author"] == ALICE
    assert (summary.author, summary.author_handle) == (ALICE, "alice.bsky.social")
    by_did = export(ExportOptions(archive=archive, output_dir=tmp_path / "d", author=ALICE))
    assert by_did.files[0].sha256 == summary.files[0].sha256
    assert (by_did.author, by_did.author_handle) == (ALICE, None)
    everyone = run_json("export", archive, "-o", tmp_path / "all")
    assert (everyone["author"], everyone["author_handle"]) == (None, None)


TIMES: list[str | int] = [
    "never",
    "2024-12-31 23:59:59",
    "2025-01-01 00:00:00 +0000 UTC",
    "2025-01-01 09:30:00 +0900 JST",
    "2025-01-01 01:00:00.000000001 +0000 UTC m=+1.5",
    1_735_700_000,
    "2025-06-01T00:00:00Z",
]
"""From the oldest to the newest; what is no time is older than all."""


@pytest.mark.parametrize("latest", range(1, len(TIMES)))
def test_the_latest_author_of_a_handle(tmp_path: Path, latest: int) -> None:
    """Of several authors with one handle the latest is taken, by instants; the others are told."""
    path = file_archive(tmp_path / "a.db", rows_by(ALICE, BOB))
    profile(path, BOB, "name.example", TIMES[latest])
    profile(path, ALICE, "name.example", TIMES[latest - 1])
    assert chosen(path, "name.example") == ChosenAuthor(BOB, "name.example", (ALICE,))


def test_a_handle_that_came_back(tmp_path: Path) -> None:
    """The last row with the handle decides, whatever else the authors were called between."""
    path = file_archive(tmp_path / "a.db", rows_by(ALICE, BOB))
    profile(path, ALICE, "name.example", "2025-01-01 00:00:00")
    profile(path, BOB, "Name.Example", "2025-02-01 00:00:00")
    profile(path, BOB, "bob.example", "2025-02-02 00:00:00")
    session(path, ALICE, "name.example", "2025-03-01 00:00:00")
    assert chosen(path, "name.example") == ChosenAuthor(ALICE, "name.example", (BOB,))
    assert chosen(path, "bob.example") == ChosenAuthor(BOB, "bob.example")


def test_authors_of_the_same_time(tmp_path: Path) -> None:
    """A tie is decided the same way each time."""
    for number, (first, second) in enumerate([(ALICE, BOB), (BOB, ALICE)]):
        path = file_archive(tmp_path / f"{number}.db", rows_by(ALICE, BOB))
        profile(path, first, "name.example", "2025-01-01 00:00:00")
        profile(path, second, "name.example", "2025-01-01 00:00:00")
        assert chosen(path, "name.example") == ChosenAuthor(BOB, "name.example", (ALICE,))


def test_a_reused_handle_is_told(archive: Path, tmp_path: Path) -> None:
    """A line, the manifest and the object say that another author had the handle, which --strict allows."""
    profile(archive, CAROL, "alice.bsky.social", "2020-01-01 00:00:00")
    said = run("export", archive, "-o", tmp_path / "o", "--author", "alice.bsky.social", "--strict")
    assert said.exit_code == 0, said.stderr
    line = "warning: 1 other author had this handle before and is left out; the first: alice.bsky.social: did:plc:carol"
    assert line in said.stderr.splitlines()
    found = run_json("export", archive, "-o", tmp_path / "o", "--author", "alice.bsky.social")
    assert found["warnings"] == {"reused_handle": 1}
    assert found["warning_places"] == {"reused_handle": [f"alice.bsky.social: {CAROL}"]}
    manifest = json.loads((Path(found["directory"]) / "manifest.json").read_bytes())
    assert manifest["warnings"] == {"reused_handle": 1}
    tried = run_json("export", archive, "-o", tmp_path / "o", "--author", "alice.bsky.social", "--dry-run")
    assert (tried["author"], tried["author_handle"], tried["reused_handle"]) == (ALICE, "alice.bsky.social", [CAROL])
    words = run("export", archive, "-o", tmp_path / "o", "--author", "alice.bsky.social", "--dry-run").stdout
    assert "author:           did:plc:alice, alice.bsky.social\n" in words
    assert "warning: 1 other author had this handle before and is left out: did:plc:carol\n" in words
    assert run_json("export", archive, "-o", tmp_path / "o", "--author", ALICE)["warnings"] == {}


# --- Nobody is meant ----------------------------------------------------------------------------------------------


def test_an_author_without_posts(archive: Path) -> None:
    """The error names a similar author, or some that are there."""
    path = str(archive)
    every = "`skyexport inspect ARCHIVE --authors` lists all"
    assert refused(archive, "alcie.bsky.social") == (
        f"no author in {path} has the handle alcie.bsky.social; did you mean alice.bsky.social? {every}"
    )
    assert refused(archive, "zzzzzzzz.org") == (
        f"no author in {path} has the handle zzzzzzzz.org; the archive has Bob.Example.com, alice.bsky.social; {every}"
    )
    assert refused(archive, "did:plc:alicf") == f"{path} has no post by did:plc:alicf; did you mean {ALICE}? {every}"
    assert refused(archive, "did:web:quite.another.one") == (
        f"{path} has no post by did:web:quite.another.one; the archive has {ALICE}, {BOB}, {CAROL}; {every}"
    )
    for number in range(5):
        profile(archive, CAROL, f"carol{number}.example", f"2024-01-0{number + 1} 00:00:00")
    assert "; the archive has Bob.Example.com, alice.bsky.social, carol0.example, …; " in refused(
        archive, "zzzzzzzz.org"
    )


def test_an_author_with_a_profile_only(archive: Path) -> None:
    """A profile is no post; an earlier author with the handle is named, and not taken in silence."""
    profile(archive, "did:plc:dave", "dave.example", "2025-01-01 00:00:00")
    assert "has no post by dave.example (did:plc:dave); " in refused(archive, "dave.example")
    assert "dave" not in refused(archive, "dave.exampl").split(";", 1)[1]
    profile(archive, CAROL, "dave.example", "2024-01-01 00:00:00")
    assert "; the handle belonged to did:plc:carol before; " in refused(archive, "dave.example")


def test_archives_without_handles(tmp_path: Path) -> None:
    """Where an archive notes no handle at all, the error says so; an empty archive has no author."""
    path = file_archive(tmp_path / "a.db", rows_by(ALICE))
    assert refused(path, "alice.bsky.social").endswith("; the archive has no handles: use a DID")
    empty = file_archive(tmp_path / "b.db", [])
    assert refused(empty, ALICE).endswith(f"b.db has no post by {ALICE}; the archive has no posts")


@pytest.mark.parametrize(
    "sql",
    [
        "drop table profiles",
        "drop table sessions; drop table profiles",
        "alter table profiles drop column handle",
        "drop table profiles;"
        " create view profiles as select access_token as handle, did, id as snapshot_at from sessions",
        "drop table profiles; create virtual table profiles using fts5(did, handle, snapshot_at)",
        "drop table profiles; create table profiles (did text, t text, handle text as (t), snapshot_at text)",
        "drop table profiles; create table profiles (did blob, handle blob, snapshot_at blob) strict;"
        " insert into profiles values (x'646964', x'ff', x'00')",
    ],
)
def test_odd_tables(archive: Path, sql: str) -> None:
    """Tables that are missing, or not as bskyarchive makes them, say nothing; authors by DID are exported as ever."""
    with writing(archive) as connection:
        connection.execute(sql)
    refused(archive, "alice.bsky.social")
    assert chosen(archive, ALICE).did == ALICE
    with Archive(archive) as opened:
        assert [author.posts for author in opened.authors()] == [3, 2, 1]
    assert run("inspect", archive).exit_code == 0


def test_old_profiles_without_a_time(archive: Path) -> None:
    """A table without times still says who had which handle; SQLite tells no capitals in names."""
    with writing(archive) as connection:
        connection.execute("drop table profiles; create table Profiles (DID text, Handle text)")
        connection.execute("insert into profiles values (?, 'alice.old'), (?, 'bob.old')", (ALICE, BOB))
    assert chosen(archive, "alice.old").did == ALICE
    with Archive(archive) as opened:
        assert [(author.did, author.handle) for author in opened.authors()] == [
            (ALICE, "alice.old"), (BOB, "Bob.Example.com"), (CAROL, None)
        ]  # fmt: skip


def test_values_of_strangers(archive: Path, tmp_path: Path) -> None:
    """Values of absurd sizes, kinds and characters in these tables are passed over, and steer no terminal."""
    profile(archive, CAROL, "h" * 5_000_000, "2030-01-01 00:00:00")
    profile(archive, "did:plc:" + "d" * 5_000_000, "long.example", "2030-01-01 00:00:00")
    profile(archive, b"did:plc:blob", "alice.bsky.social", "2030-01-01 00:00:00")
    profile(archive, BOB, "alice.bsky.social", "9" * 5_000_000)
    profile(archive, CAROL, "\x1b]0;title\x07", "2025-01-01 00:00:00")
    profile(archive, CAROL, b"\xff\xfe", "2024-01-01 00:00:00")
    profile(archive, CAROL, "late.example", 10**18)
    assert chosen(archive, "alice.bsky.social") == ChosenAuthor(ALICE, "alice.bsky.social", (BOB,))
    refused(archive, "long.example")
    words = run("inspect", archive, "--authors").stdout
    assert r"\x1b]0;title\x07" in words or "late.example" in words
    assert "\x1b" not in words
    assert "\x1b" not in run("export", archive, "-o", tmp_path / "o", "--author", "t.itle").stderr


# --- The command --------------------------------------------------------------------------------------------------


@pytest.mark.quick(5)
@pytest.mark.parametrize("author", ["alice.exampel", "did:plc:nobody"])
@pytest.mark.parametrize(
    "more",
    [
        [], ["--dry-run"], ["--resume-batch"], ["--snapshot", "copy"], ["--since", "2042-01-01"], ["--to", "x.json"],
        ["--match", "Hello"], ["-j", "2"],
    ],
)  # fmt: skip
def test_nobody_is_an_error(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, author: str, more: list[str]
) -> None:
    """An author without any post is an error in every way to export, with one line, and nothing is written."""
    with writing(archive) as connection:
        connection.execute(tables.FULL_TEXT)
    before = files_below(tmp_path)
    place: list[str] = [] if "--to" in more else ["-o", str(tmp_path / "out")]
    monkeypatch.chdir(tmp_path)
    done = run("export", archive, *place, "--author", author, *more)
    assert done.exit_code == 2, done.stderr
    assert not done.stdout
    errors = [line for line in done.stderr.splitlines() if line.startswith("skyexport: ")]
    assert len(errors) == 1
    assert author in errors[0]
    assert files_below(tmp_path) == before
    found = run_json("export", archive, *place, "--author", author, *more, status=2)
    assert found["status"] == "failed"


def test_nobody_among_posts_since_an_export(archive: Path, tmp_path: Path) -> None:
    """With --since-export, too; an author with posts, none of which is new, is no error."""
    first = export(ExportOptions(archive=archive, output_dir=tmp_path / "o")).directory
    assert first is not None
    since = ("--since-export", first, "-o", tmp_path / "p")
    assert run("export", archive, *since, "--author", "did:plc:nobody").exit_code == 2
    assert run_json("export", archive, *since, "--author", ALICE)["posts"] == 0
    assert run_json("export", archive, *since, "--author", ALICE, "--dry-run")["posts"] == 0


@pytest.mark.quick(1)
@pytest.mark.parametrize("dry", [False, True])
@pytest.mark.parametrize("snapshot", ["pin", "copy"])
def test_an_author_without_posts_in_the_dates(archive: Path, tmp_path: Path, snapshot: str, dry: bool) -> None:
    """Dates without posts are an empty export, and a line says which dates there are."""
    more = ["--snapshot", snapshot, "-o", str(tmp_path / "o"), *(["--dry-run"] if dry else [])]
    for dates in (
        ["--since", "2042-01-01"],
        ["--until", "2001-01-01"],
        ["--since", "2024-05-07", "--until", "2024-06-01"],
    ):
        done = run("export", archive, *dates, *more)
        assert done.exit_code == 0
        note = "note: no post in these dates; there are posts from 2024-05-01T12:00:00Z to 2024-05-06T12:00:00Z"
        assert note in (done.stdout if dry else done.stderr).splitlines()
        done = run("export", archive, *dates, *more, "--author", "bob.example.com")
        assert note.replace("05-01", "05-02").replace("05-06", "05-05") in (done.stdout + done.stderr).splitlines()
        found = run_json("export", archive, *dates, *more, "--author", BOB)
        assert (found["posts"], found["available_first_post"]) == (0, "2024-05-02T12:00:00Z")
        assert found["available_last_post"] == "2024-05-05T12:00:00Z"
    some = run_json("export", archive, "--since", "2024-05-06", *more)
    assert (some["posts"], some["available_first_post"], some["available_last_post"]) == (1, None, None)


def test_a_query_in_dates_without_posts(archive: Path, tmp_path: Path) -> None:
    """A query that finds nothing is no error; dates are named only where they are to blame."""
    with writing(archive) as connection:
        connection.execute(tables.FULL_TEXT)
    options = ("-o", tmp_path / "o", "--author", ALICE, "--match")
    note = "note: no post in these dates"
    for query, since, blamed in (("Hello", "2042-01-01", True), ("nothing", "2024-05-01", False)):
        done = run("export", archive, *options, query, "--since", since)
        assert done.exit_code == 0
        assert (note in done.stderr) == blamed
    assert note not in run("export", archive, *options, "nothing").stderr


def test_inspect_shows_handles(archive: Path) -> None:
    """inspect has the latest handle beside the DID."""
    profile(archive, ALICE, "alice.new", "2025-12-01 00:00:00")
    found = run_json("inspect", archive)
    assert found["largest_authors"] == [
        {"did": ALICE, "handle": "alice.new", "posts": 3},
        {"did": BOB, "handle": "Bob.Example.com", "posts": 2},
        {"did": CAROL, "handle": None, "posts": 1},
    ]
    words = run("inspect", archive).stdout.splitlines()
    assert f"             3  {ALICE}  alice.new"[1:] in [line[1:] for line in words]
    assert words[-1].split() == ["1", CAROL]


def test_inspect_lists_all_authors(tmp_path: Path) -> None:
    """--authors lists every author in a line, the largest first, in words and as an object."""
    rows = [post(number, did=f"did:plc:{number % 30:02d}") for number in range(45)]
    path = file_archive(tmp_path / "a.db", rows)
    profile(path, "did:plc:07", "seven.example", "2025-01-01 00:00:00")
    lines = run("inspect", path, "--authors").stdout.splitlines()
    assert len(lines) == 30
    assert lines[7].split() == ["2", "did:plc:07", "seven.example"]
    assert lines[29].split() == ["1", "did:plc:29"]
    found = run_json("inspect", path, "--authors")
    assert (found["schema_version"], found["status"], found["authors"]) == (1, "ok", 30)
    assert found["path"] == str(path)
    assert found["all_authors"][7] == {"did": "did:plc:07", "handle": "seven.example", "posts": 2}
    assert len(found["all_authors"]) == 30
    assert "  and 20 more: --authors lists all" in run("inspect", path).stdout.splitlines()
    assert run_json("inspect", file_archive(tmp_path / "b.db", []), "--authors")["all_authors"] == []


def test_the_list_does_not_hold_the_archive(archive: Path) -> None:
    """Who reads the list slowly keeps nobody from writing; a long one lies in a temporary file."""
    count, found = list_authors(archive)
    first = next(found)
    with writing(archive) as connection:
        connection.execute("delete from posts")
    assert (count, first.did, [author.did for author in found]) == (3, ALICE, [BOB, CAROL])


def test_authors_are_found_one_by_one(tmp_path: Path) -> None:
    """The list is never in memory as a whole: the first author is there before the last one's handle is looked up."""
    path = file_archive(tmp_path / "a.db", [post(number, did=f"did:plc:{number}") for number in range(300)])
    with writing(path) as connection:
        connection.execute("insert into profiles (did, handle) select distinct did, 'some.example' from posts")
    with Archive(path) as opened:
        steps: list[str] = []

        def note(_: object, sql: str, __: object) -> bool:
            steps.append(sql)
            return True

        opened.connection.exec_trace = note
        found = opened.authors()
        first = next(found)
        few = len(steps)
        assert first.handle is not None
        assert len(list(found)) == 299
    assert few < 10
    assert len(steps) > 300


# --- Many archives ------------------------------------------------------------------------------------------------


@pytest.fixture
def archives(archive: Path, tmp_path: Path) -> list[Path]:
    """Alice has posts in the first and third of them."""
    others = [file_archive(tmp_path / "b.db", rows_by(BOB)), file_archive(tmp_path / "c.db", rows_by(BOB, ALICE))]
    profile(others[1], ALICE, "alice.bsky.social", "2025-01-01 00:00:00")
    return [archive, *others]


@pytest.mark.quick(1)
@pytest.mark.parametrize(("author", "workers"), [(ALICE, "0"), ("alice.bsky.social", "2")])
def test_archives_without_the_author_are_skipped(
    archives: list[Path], tmp_path: Path, author: str, workers: str
) -> None:
    """They are no failure, a line says so, and --resume-batch finds the exports of the others."""
    command: tuple[str | Path, ...] = ("export", *archives, "-o", tmp_path / "out", "--author", author, "-j", workers)
    done = run(*command)
    assert done.exit_code == 0, done.stderr
    assert re.search(rf"(?m)^skipped: .*{archives[1]} .*{author}$", done.stderr)
    assert f"3 archives: 2 exported, 1 without a post by {author}" in done.stderr.splitlines()
    found = run_json(*command, "--resume-batch")
    assert [one["status"] for one in found["archives"]] == ["skipped"] * 3
    assert [one["posts"] for one in found["archives"]] == [3, 0, 1]
    assert "verification" in found["archives"][0]
    assert author in found["archives"][1]["reason"]
    assert (found["archives_skipped"], found["archives_without_author"], found["archives_failed"]) == (2, 1, 0)
    assert (found["status"], found["exit_code"]) == ("ok", 0)
    other = ALICE if author != ALICE else "alice.bsky.social"
    again = run_json("export", *archives, "-o", tmp_path / "out", "--author", other, "--resume-batch")
    assert again["archives_skipped"] == 2
    assert not (tmp_path / "out" / "b").exists()
    quiet = run(*command, "-q")
    assert (quiet.exit_code, quiet.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize(("author", "workers"), [("did:plc:nobody", "2"), ("nobody.example", "0")])
def test_no_archive_has_the_author(archives: list[Path], tmp_path: Path, author: str, workers: str) -> None:
    """That is an error, with a line of its own."""
    command: tuple[str | Path, ...] = ("export", *archives, "-o", tmp_path / "out", "--author", author, "-j", workers)
    done = run(*command, "-q")
    assert done.exit_code == 2
    assert done.stderr.startswith(f"skyexport: none of the 3 archives has a post by {author}; ")
    assert len(done.stderr.splitlines()) == 1
    found = run_json(*command, status=2)
    assert (found["status"], found["exit_code"], found["archives_without_author"]) == ("failed", 2, 3)
    assert run("export", *archives, tmp_path / "none.db", "--author", author).exit_code == 10
    assert not (tmp_path / "out").exists()


def test_dry_runs_of_many_archives(archives: list[Path], tmp_path: Path) -> None:
    """A dry run ends as the export does."""
    command: tuple[str | Path, ...] = ("export", *archives, "-o", tmp_path / "out", "--dry-run", "--author")
    found = run_json(*command, "alice.bsky.social")
    assert [one["status"] for one in found["archives"]] == ["ok", "skipped", "ok"]
    assert [one["posts"] for one in found["archives"]] == [3, 0, 1]
    done = run(*command, "nobody.example")
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1].startswith("skyexport: none of the 3 archives has a post by nobody.example; ")
    assert run_json(*command, "nobody.example", status=2)["status"] == "failed"


def test_many_archives_without_posts_in_the_dates(archives: list[Path], tmp_path: Path) -> None:
    """That is no error, and is told."""
    done = run("export", *archives, "-o", tmp_path / "out", "--since", "2042-01-01", "-j", "0")
    assert done.exit_code == 0
    assert "note: no post matched in any archive" in done.stderr.splitlines()


def test_many_archives_from_python(archives: list[Path], tmp_path: Path) -> None:
    """`export_all` raises nothing; the result has the error."""
    options = ExportOptions(archive="-", output_dir=tmp_path / "out", author="alice.bsky.social", workers=0)
    done = export_all(archives, options)
    assert [one.status for one in done.outcomes] == ["ok", "skipped", "ok"]
    assert done.author_error is None
    nobody = export_all(archives, replace(options, author="no.body"))
    assert nobody.author_error is not None
    assert (nobody.exit_code, nobody.to_dict()["status"]) == (2, "failed")


# --- The state that is exported -----------------------------------------------------------------------------------


@pytest.mark.parametrize("snapshot", ["pin", "copy"])
@pytest.mark.parametrize(
    ("sql", "error", "message"),
    [
        (
            f"insert into profiles (did, handle, snapshot_at) values ('{BOB}', 'alice.bsky.social', '2030-01-01')",
            ArchiveChangedError,
            f"the handle alice.bsky.social moved from {ALICE} to {BOB} while ",
        ),
        (
            f"delete from posts where did = '{ALICE}'",
            AuthorError,
            f"has no post by alice.bsky.social ({ALICE})",
        ),
        ("delete from profiles", AuthorError, "has the handle alice.bsky.social"),
    ],
)
def test_what_changes_before_the_state_is_held(
    archive: Path, tmp_path: Path, snapshot: str, sql: str, error: type[Exception], message: str
) -> None:
    """The author is looked for before the place is locked, and must be the same in the state that is exported."""

    def change(_: object) -> None:
        with writing(archive) as connection:
            connection.execute(sql)

    with on_reached("prepared", change), pytest.raises(error, match=re.escape(message)):
        export(ExportOptions(archive=archive, output_dir=tmp_path / "o", author="alice.bsky.social", snapshot=snapshot))
    assert not (tmp_path / "o").exists()


def test_an_archive_that_must_be_recovered(archive: Path, tmp_path: Path) -> None:
    """Handles are found there, too; the copy that is made of it has nothing else of these tables."""
    profile(archive, CAROL, "carol.example", "2025-01-01 00:00:00")
    with contextlib.closing(sqlite3.connect(archive)) as connection:
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma wal_autocheckpoint = 0")
        connection.execute("update posts set text = 'new'")
        connection.commit()
        stopped = tmp_path / "stopped" / "a.db"
        stopped.parent.mkdir()
        for suffix in ("", "-wal"):
            stopped.with_name(f"a.db{suffix}").write_bytes(archive.with_name(f"a.db{suffix}").read_bytes())
    with Archive(stopped) as recovered:
        assert recovered.source.private
        assert recovered.find_author("bob.example.com").did == BOB
        assert recovered.find_author("carol.example").did == CAROL
        assert next(recovered.authors()) == Author(ALICE, "alice.bsky.social", 3)
        assert CANARY.encode() not in Path(recovered.source.path).read_bytes()
    found = exported_posts(stopped, tmp_path / "o", author="alice.bsky.social", snapshot="copy")
    assert [one["text"] for one in found] == ["new"] * 3


# --- Nothing else is read -----------------------------------------------------------------------------------------


def columns_of(path: Path) -> list[tuple[str, str]]:
    """Every column of every table of an archive."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        tables = [name for (name,) in connection.execute("select name from sqlite_schema where type = 'table'")]
        return [(table, str(row[1])) for table in tables for row in connection.execute(f"pragma table_xinfo({table})")]


ALLOWED = {"profiles": {"did", "handle", "snapshot_at"}, "sessions": {"did", "handle", "created_at"}}


def is_refused(connection: apsw.Connection, sql: str) -> bool:
    try:
        connection.execute(sql).fetchall()
    except (apsw.AuthError, apsw.SQLError):
        return True
    return False


def test_every_other_column_is_refused(archive: Path) -> None:
    """Of these tables only the columns that say who has a handle can be read, and only while it is looked for."""
    with writing(archive) as connection:
        connection.execute("alter table posts add column secret text default 'k4n4rie'")
        connection.execute("alter table media add column secret text; create table other (a)")
    columns = columns_of(archive)
    assert ("sessions", "access_token") in columns
    looked: list[list[bool]] = []

    with Archive(archive) as opened:
        connection = opened.connection

        def look() -> list[bool]:
            return [is_refused(connection, f"select {column} from {table}") for table, column in columns]

        def look_meanwhile(_: object, sql: str, __: object) -> bool:
            # It comes before each statement, also those of `look`.
            if "from main.sessions" in sql and not looked:
                connection.exec_trace = None
                looked.append(look())
                for refused in (
                    "select count(*) from sessions",
                    "select rowid from sessions",
                    "select * from profiles",
                ):
                    assert is_refused(connection, refused)
            return True

        before = look()
        connection.exec_trace = look_meanwhile
        opened.find_author("alice.bsky.social")
        after = look()
        first = opened.authors()
        next(first)
        first.close()  # type: ignore[attr-defined]
        assert look() == before == after
    readable = {name for name, refused_now in zip(columns, before, strict=True) if not refused_now}
    assert {table for table, _ in readable} == {"posts", "media", "schema_version"}
    assert not {name for name in readable if name[1] in ("secret", "applied_at")}
    meanwhile = {name for name, refused_now in zip(columns, looked[0], strict=True) if not refused_now}
    assert meanwhile - readable == {(table, column) for table in ALLOWED for column in ALLOWED[table]}


def test_a_statement_is_not_allowed_for_longer(archive: Path) -> None:
    """What was read with permission can not be read by the same statement afterwards."""
    sql = "select handle from sessions"
    with Archive(archive) as opened:
        with Authorizer.reading_columns(opened.connection, {"sessions": frozenset({"handle"})}):
            assert opened.connection.execute(sql).fetchall() == [("Bob.Example.com",)]
            assert is_refused(opened.connection, "select access_token from sessions where handle = 'x'")
            assert is_refused(opened.connection, "select handle from sessions where access_token = 'x'")
            assert is_refused(opened.connection, "select handle from sessions order by refresh_token")
        assert is_refused(opened.connection, sql)


def test_no_canary_anywhere(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the other columns is in any output, message, or temporary file, whatever is asked for."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    profile(archive, CAROL, "alice.bsky.social", "2020-01-01 00:00:00")
    seen: list[bytes] = []

    def look(_: object) -> None:
        seen.extend(path.read_bytes() for path in temporary.rglob("*") if path.is_file())

    said: list[str] = []
    for snapshot in ("pin", "copy"):
        options = ExportOptions(
            archive=archive, output_dir=tmp_path / "o", author="alice.bsky.social", snapshot=snapshot
        )
        with on_reached("copying", look), on_reached("rendering", look):
            said.append(str(export(options, say=said.append).to_dict()))
            said.append(str(dry_run(options).to_dict()))
    assert seen
    for asked in ("alice.bsky.socail", "did:plc:nobody", "k4n4rie-1", "k4n4rie.example", "x"):
        for more in ([], ["--debug"], ["--json"], ["--dry-run"], ["--snapshot", "copy"]):
            done = run("export", archive, "-o", tmp_path / "p", "--author", asked, *more)
            assert done.exit_code == 2
            said.append((done.stdout + done.stderr).replace(asked, ""))
    for arguments in (["inspect"], ["inspect", "--json"], ["inspect", "--authors"], ["inspect", "--authors", "--json"]):
        done = run(arguments[0], archive, *arguments[1:])
        said.append(done.stdout + done.stderr)
    said.append(run("export", archive, "-o", tmp_path / "o", "--author", BOB, "-v").stderr)
    assert not [line for line in said if CANARY in line]
    written = [path.read_bytes() for path in (tmp_path / "o").rglob("*") if path.is_file()]
    assert len(written) >= 6
    assert not [content for content in [*written, *seen] if CANARY.encode() in content]
    assert not list(temporary.iterdir())


def test_a_handle_for_a_did(archive: Path) -> None:
    """Listing posts takes a DID; a handle in its place is an error, not an empty list."""
    with Archive(archive) as opened:
        assert len(list(opened.list_posts(did=opened.find_author("alice.bsky.social").did))) == 3
        with pytest.raises(OptionError, match=r"bob\.example\.com is a handle; use the DID"):
            opened.list_posts(did="bob.example.com")


def test_strict_is_about_values(archive: Path, tmp_path: Path) -> None:
    """--strict fails for values that cannot be exported as they are stored, of the author's posts only."""
    with writing(archive) as connection:
        connection.execute("update posts set created_at = 'never' where did = ?", (CAROL,))
    assert export(ExportOptions(archive=archive, output_dir=tmp_path, author="alice.bsky.social", strict=True)).posts
    with pytest.raises(StrictError):
        export(ExportOptions(archive=archive, output_dir=tmp_path, author=CAROL, strict=True))
