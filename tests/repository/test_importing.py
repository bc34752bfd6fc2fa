"""`skyexport import`: a repository becomes an archive that bskyarchive and every command of skyexport read."""

from __future__ import annotations

import contextlib
import hashlib
import json
import signal
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyexport import (
    AlreadyRunningError,
    ArchiveBusyError,
    ArchiveChangedError,
    ExportOptions,
    ImportSummary,
    OptionError,
    OutputError,
    RepositoryError,
    export,
    import_repository,
    inspect,
    verify,
)
from skyexport.repository.blocks import Blocks
from skyexport.runtime.hidden_file import HiddenFile
from tests import bskyarchive
from tests.car_files import DID, Repository, blob, raw_cid, tid
from tests.command import skyexport, skyexport_json, started, wait_for_output
from tests.conftest import posix_only
from tests.environment import ROOT

CARS = ROOT.parent / "shared" / "car"
IMAGE, VIDEO = b"an image", b"a video"
START = 1_700_000_000_000_000


def key(number: int) -> str:
    """The record key of a post, a minute after the one before."""
    return tid(START + number * 60_000_000)


def repository(posts: int = 10, **others: Any) -> Repository:
    """A repository with posts, of which every second has an image, likes, and a profile."""
    made = Repository(**{"revision": tid(START + 10**12), **others})
    made.add({"displayName": "Me", "description": "It is I", "avatar": blob(IMAGE)}, "self", "app.bsky.actor.profile")
    for number in range(posts):
        made.add(post(number), key(number))
        made.add({"subject": {"uri": "at://x", "cid": "y"}}, key(number), "app.bsky.feed.like")
        made.add({"subject": "did:plc:y"}, key(number), "app.bsky.graph.follow")
    return made


def post(number: int, text: str = "post") -> dict[str, Any]:
    """A record."""
    time = datetime.fromtimestamp(START / 1e6, UTC) + timedelta(minutes=number)
    made: dict[str, Any] = {"text": f"{text} {number}", "createdAt": time.isoformat().replace("+00:00", "Z")}
    if number % 2:
        content = f"image {number}".encode()
        image = {"alt": f"alt {number}", "image": blob(content), "aspectRatio": {"width": 4, "height": 3}}
        made["embed"] = {"$type": "app.bsky.embed.images", "images": [image]}
    return made


def dumped(archive: Path) -> list[str]:
    """All that an archive has, row ids included, but for the pages of the index of words."""
    with contextlib.closing(sqlite3.connect(archive)) as connection:
        lines = [line for line in connection.iterdump() if "posts_fts_" not in line]
        return lines + [repr(row) for row in connection.execute("select rowid, * from posts")]


def texts(archive: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(archive)) as connection:
        connection.execute("insert into posts_fts(posts_fts, rank) values ('integrity-check', 1)")
        assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
        return [text for (text,) in connection.execute("select text from posts order by uri")]


def imported(made: Repository, folder: Path, to: str = "me.db", **options: Any) -> ImportSummary:
    return import_repository(made.write(folder / "repo.car"), folder / to, **options)


def test_bskyarchive_reads_it(tmp_path: Path) -> None:
    """Posts by page, words, figures and profile."""
    archive = tmp_path / "me.db"
    imported(repository(250), tmp_path, handle="me.bsky.social")
    posts = bskyarchive.all_posts(archive, DID)
    assert [found["uri"].rpartition("/")[2] for found in posts] == sorted(map(key, range(250)), reverse=True)[
        :0
    ] or posts
    assert len({found["uri"] for found in posts}) == 250
    assert bskyarchive.search(archive, DID, '"post 7"') == [f"at://{DID}/app.bsky.feed.post/{key(7)}"]
    assert bskyarchive.status(archive, DID) == {
        "posts": 250, "oldest": "2023-11-14 22:13:20 +0000 UTC", "newest": "2023-11-15 02:22:20 +0000 UTC",
        "with_media": 125, "replies": 0, "media": 125, "version": 3,
    }  # fmt: skip
    profile = bskyarchive.latest_profile(archive, DID)
    assert (profile["handle"], profile["display_name"], profile["description"]) == ("me.bsky.social", "Me", "It is I")
    assert (profile["posts_count"], profile["follows_count"], profile["followers_count"]) == (250, 250, 0)
    assert profile["snapshot_at"] == "2023-11-26 12:00:00 +0000 UTC"


def test_every_command_reads_it(tmp_path: Path) -> None:
    """Inspect, export in each format, by author and words, with media, verify."""
    imported(repository(), tmp_path, handle="me.bsky.social")
    archive, out = tmp_path / "me.db", tmp_path / "out"
    assert inspect(archive).counts_unknown
    assert "likes, reposts, replies and quotes are unknown" in skyexport("inspect", archive).stdout
    for format_name in ("json", "jsonl", "csv", "parquet"):
        summary = export(
            ExportOptions(archive=archive, format=format_name, output_dir=out / format_name, author="me.bsky.social")
        )
        assert (summary.posts, summary.counts_unknown) == (10, True)
        assert summary.directory is not None
        verify(summary.directory)
        manifest = json.loads((summary.directory / "manifest.json").read_text())
        assert manifest["source"]["counts_unknown"] is True
    assert export(ExportOptions(archive=archive, to=tmp_path / "x.json", match='"post 7"')).posts == 1
    done = skyexport("export", archive, "-o", tmp_path / "media", "--media")
    assert done.returncode == 0
    assert "likes, reposts, replies and quotes are unknown, and 0" in done.stderr
    assert "5 media files are missing" in done.stderr


def test_nothing_from_the_clock(tmp_path: Path) -> None:
    """The same file gives the same rows whenever it is imported, and whatever the order of its blocks."""
    made = repository(60)
    imported(made, tmp_path, "a.db")
    imported(made, tmp_path, "b.db")
    made.shuffled = 5
    imported(made, tmp_path, "c.db")
    assert dumped(tmp_path / "a.db") == dumped(tmp_path / "b.db") == dumped(tmp_path / "c.db")
    year = str(datetime.now(UTC).year)
    assert not [line for line in dumped(tmp_path / "a.db") if f"{year}-" in line]


def test_commit_without_a_revision(tmp_path: Path) -> None:
    """Then the newest record key says when the repository was archived."""
    imported(repository(3, revision=None), tmp_path)
    newest = bskyarchive.all_posts(tmp_path / "me.db", DID)[0]
    assert newest["archived_at"] == newest["indexed_at"] == "2023-11-14 22:15:20 +0000 UTC"


@pytest.mark.parametrize(
    ("name", "posts", "others"),
    [
        ("empty", 0, {}),
        ("greenground", 0, {"app.bsky.graph.follow": 2}),
        ("fakermaker", 26, {"app.bsky.feed.like": 22, "app.bsky.feed.repost": 15, "app.bsky.graph.follow": 78}),
    ],
)
def test_public_files(name: str, posts: int, others: dict[str, int], tmp_path: Path) -> None:
    """Files of Bluesky's own tests."""
    if not CARS.exists():
        pytest.skip("the files are not here")
    found = skyexport_json("import", CARS / f"{name}.car", "--to", tmp_path / "me.db")
    assert (found["posts"], found["new_posts"], found["handle"]) == (posts, posts, "handle.invalid")
    records = {collection: count for collection, count in found["records"].items() if collection in others}
    assert records == others
    assert found["media"] == (name == "fakermaker")
    assert export(ExportOptions(archive=tmp_path / "me.db", to=tmp_path / "x.csv")).posts == posts


def test_slice_of_a_repository(tmp_path: Path) -> None:
    """A file that lacks blocks is refused."""
    if not CARS.exists():
        pytest.skip("the files are not here")
    done = skyexport("import", CARS / "repo_slice.car", "--to", tmp_path / "me.db")
    assert done.returncode == 10
    assert "is incomplete: the block at byte 751 names bafyrei" in done.stderr
    assert not list(tmp_path.iterdir())


def test_output(tmp_path: Path) -> None:
    """What people read."""
    made = repository(3)
    made.add({"text": "x", "createdAt": "tomorrow"}, key(50))
    made.add({"text": "x", "createdAt": "2023-11-14T22:13:20Z", "embed": {"$type": "com.example.poll"}}, key(51))
    made.write(tmp_path / "repo.car")
    done = skyexport("import", "repo.car", "--to", "me.db", cwd=tmp_path)
    first, *lines = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (0, "")
    assert first.startswith(f"5 posts of {DID} in 0.")
    assert lines == [
        "not imported: 3 feed.like, 3 graph.follow",
        "note: likes, reposts, replies and quotes are unknown, and 0: a repository does not have those of others",
        "note: the signature of the repository was not checked: the key for that is not in the file",
        "warning: 1 post without a readable createdAt: the time is that of the record key; the first:"
        f" at://{DID}/app.bsky.feed.post/{key(50)}",
        f"note: 1 embed of an unknown kind, stored as the record has it; the first: at://{DID}/app.bsky.feed.post/{key(51)}",
        "note: a repository only names 1 image or video; with their files in a folder, import again with --blobs",
        "note: the handle is unknown: import again with --handle you.bsky.social",
        "me.db",
    ]  # fmt: skip
    assert skyexport("import", "repo.car", "--to", "me.db", "-q", cwd=tmp_path).stderr.count("\n") == 1
    assert skyexport("import", "repo.car", "--to", "me.db", "-qq", cwd=tmp_path).stderr == ""


def test_newer_file(tmp_path: Path) -> None:
    """What is new is added, what changed is replaced, and what is gone is listed, and stays."""
    imported(repository(6), tmp_path, handle="me.bsky.social")
    archive = tmp_path / "me.db"
    with contextlib.closing(sqlite3.connect(archive)) as connection, connection:
        # bskyarchive has seen a like meanwhile.
        connection.execute("update posts set like_count = 5 where text = 'post 2'")
    newer = repository(8, revision=tid(START + 2 * 10**12))
    del newer.records[f"app.bsky.feed.post/{key(1)}"]
    newer.add(post(2, "changed"), key(2))
    summary = imported(newer, tmp_path)
    assert (summary.new_posts, summary.changed_posts, summary.gone_posts, summary.removed) == (2, 1, 1, False)
    assert summary.gone == [f"at://{DID}/app.bsky.feed.post/{key(1)}"]
    assert summary.handle == "me.bsky.social"
    assert texts(archive) == ["post 0", "post 1", "changed 2", *(f"post {n}" for n in range(3, 8))]
    with contextlib.closing(sqlite3.connect(archive)) as connection:
        assert connection.execute("select like_count from posts where text = 'changed 2'").fetchall() == [(5,)]
        assert connection.execute("select count(*) from profiles").fetchall() == [(2,)]
    assert bskyarchive.search(archive, DID, "changed") == [f"at://{DID}/app.bsky.feed.post/{key(2)}"]


def test_remove_gone(tmp_path: Path) -> None:
    """Posts that are gone are removed when that is asked for, with what the archive knows about their media."""
    imported(repository(6), tmp_path)
    newer = repository(6, revision=tid(START + 2 * 10**12))
    shared = newer.records[f"app.bsky.feed.post/{key(1)}"]["embed"]
    for number in (1, 3):
        del newer.records[f"app.bsky.feed.post/{key(number)}"]
    newer.add({**post(4), "embed": shared}, key(4))
    newer.write(tmp_path / "newer.car")
    done = skyexport("import", tmp_path / "newer.car", "--to", tmp_path / "me.db", "--remove-gone")
    assert [line for line in done.stderr.splitlines() if "at://" in line or "removed" in line] == [
        "2 posts removed:", *(f"  at://{DID}/app.bsky.feed.post/{key(number)}" for number in (1, 3)),
    ]  # fmt: skip
    assert texts(tmp_path / "me.db") == ["post 0", "post 2", "post 4", "post 5"]
    with contextlib.closing(sqlite3.connect(tmp_path / "me.db")) as connection:
        media = connection.execute("select post_uri, alt_text from media order by alt_text").fetchall()
    assert media == [
        (f"at://{DID}/app.bsky.feed.post/{key(number)}", alt) for number, alt in ((4, "alt 1"), (5, "alt 5"))
    ]
    again = imported(newer, tmp_path, remove_gone=True)
    assert (again.new_posts, again.changed_posts, again.gone_posts) == (0, 0, 0)


def test_older_file(tmp_path: Path) -> None:
    """An older file adds what is missing, and changes and removes nothing."""
    newer = repository(4, revision=tid(START + 2 * 10**12))
    newer.add(post(0, "newer"), key(0))
    imported(newer, tmp_path)
    older = repository(3)
    older.add(post(30), key(30))
    summary = imported(older, tmp_path)
    assert (summary.is_older, summary.new_posts, summary.changed_posts, summary.gone_posts) == (True, 1, 0, 0)
    assert texts(tmp_path / "me.db") == ["newer 0", "post 1", "post 2", "post 3", "post 30"]
    with pytest.raises(OptionError, match="the archive has a newer state of this account"):
        imported(older, tmp_path, remove_gone=True)


def test_two_accounts(tmp_path: Path) -> None:
    """Two accounts share one archive; neither changes the other."""
    imported(repository(3), tmp_path, handle="me.bsky.social")
    other = "did:web:example.com"
    summary = imported(repository(2, did=other), tmp_path, handle="example.com", remove_gone=True)
    assert (summary.new_posts, summary.gone_posts) == (2, 0)
    assert [author.handle for author in inspect(tmp_path / "me.db").largest_authors] == [
        "me.bsky.social",
        "example.com",
    ]
    assert bskyarchive.status(tmp_path / "me.db", other)["media"] == 0


def blobs_of(folder: Path, *contents: bytes) -> Path:
    """A folder of blobs, named by CID."""
    import libipld

    folder.mkdir(exist_ok=True)
    for content in contents:
        (folder / libipld.encode_cid(raw_cid(content))).write_bytes(content)
    return folder


def test_blobs(tmp_path: Path) -> None:
    """Files of images are checked, and copied to where bskyarchive would have them; exports find them there."""
    contents = [f"image {number}".encode() for number in range(10)]
    blobs = blobs_of(tmp_path / "blobs", *contents[:6])
    summary = imported(repository(10), tmp_path, blobs=blobs)
    assert (summary.media, summary.media_files, summary.media_bytes) == (5, 3, 21)
    for content in (contents[1], contents[3], contents[5]):
        sha256 = hashlib.sha256(content).hexdigest()
        assert (tmp_path / "media" / sha256[:2] / sha256[2:4] / f"{sha256}.jpg").read_bytes() == content
    assert len([path for path in (tmp_path / "media").rglob("*") if path.is_file()]) == 3
    blobs_of(blobs, *contents)
    assert imported(repository(10), tmp_path, blobs=blobs).media_files == 5
    exported = export(ExportOptions(archive=tmp_path / "me.db", output_dir=tmp_path / "out", media=True))
    assert (exported.media_files, exported.warnings) == (5, {})


def test_damaged_blob(tmp_path: Path) -> None:
    """A file that is not what its name says ends the import, which leaves nothing."""
    blobs = blobs_of(tmp_path / "blobs", *(f"image {number}".encode() for number in range(10)))
    shown = (path for path in blobs.iterdir() if int(path.read_bytes()[-1:]) % 2)
    last = max(shown, key=lambda path: hashlib.sha256(path.read_bytes()).digest())
    last.write_bytes(last.read_bytes()[:-1])
    repository(10).write(tmp_path / "repo.car")
    done = skyexport("import", tmp_path / "repo.car", "--to", tmp_path / "me.db", "--blobs", blobs)
    assert done.returncode == 10
    assert "is damaged: its SHA-256 is not that of its name; download it again, or remove it" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["blobs", "repo.car"]


def test_other_archives_are_refused(tmp_path: Path) -> None:
    """What no import made stays as it is: archives of bskyarchive, other databases, other files."""
    car = repository(2).write(tmp_path / "repo.car")
    archive = tmp_path / "archive.db"
    imported(repository(2), tmp_path, "archive.db")
    with contextlib.closing(sqlite3.connect(archive)) as connection:
        connection.execute("pragma application_id = 0")
    (tmp_path / "posts.json").write_text("[]")
    before = archive.read_bytes()
    with pytest.raises(OutputError, match=r"archive.db was not made by skyexport import"):
        import_repository(car, archive)
    with pytest.raises(OutputError, match=r"posts.json exists, and is not an archive"):
        import_repository(car, tmp_path / "posts.json")
    with pytest.raises(OptionError, match="are the same file"):
        import_repository(car, car)
    assert archive.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive.db", "posts.json", "repo.car"]


def test_changed_tables_are_refused(tmp_path: Path) -> None:
    """An archive whose tables somebody has changed is not touched: its schema could do anything."""
    imported(repository(2), tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / "me.db")) as connection:
        connection.execute("create trigger t after insert on profiles begin delete from posts; end")
    with pytest.raises(RepositoryError, match="are not those that skyexport import makes"):
        imported(repository(3), tmp_path)
    assert texts(tmp_path / "me.db") == ["post 0", "post 1"]


def test_archive_in_use(tmp_path: Path) -> None:
    """While a program writes to the archive it is not replaced, and while another import runs there."""
    imported(repository(2), tmp_path)
    with contextlib.closing(apsw.Connection(str(tmp_path / "me.db"))) as connection:
        connection.execute("begin immediate")
        with pytest.raises(ArchiveBusyError, match="is used by another program"):
            imported(repository(3), tmp_path)
    place = HiddenFile(tmp_path / "me.db", overwrite=True, sync=False)
    place.open()
    with pytest.raises(AlreadyRunningError):
        imported(repository(3), tmp_path)
    place.abort()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["me.db", "repo.car"]


@pytest.mark.parametrize("handle", ["me", "http://x.y", "a b.c", ""])
def test_handles(handle: str, tmp_path: Path) -> None:
    """What is no handle is refused before anything is read."""
    with pytest.raises(OptionError, match="is not a handle"):
        import_repository(tmp_path / "missing.car", tmp_path / "me.db", handle=handle)


@pytest.mark.parametrize("arguments", [("--to",), (), ("--to", "x.db", "--blobs", "nowhere")])
def test_usage(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """One line each."""
    repository(1).write(tmp_path / "repo.car")
    done = skyexport("import", "repo.car", *arguments, cwd=tmp_path)
    assert done.returncode in (2, 10)
    assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["repo.car"]


@posix_only
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_signals(number: signal.Signals, tmp_path: Path) -> None:
    """Stopped in the middle, an import leaves the archive as it was; after SIGKILL the next one removes the rest."""
    imported(repository(2), tmp_path)
    before = (tmp_path / "me.db").read_bytes()
    repository(8_000).write(tmp_path / "large.car")
    with started("import", "large.car", "--to", "me.db", cwd=tmp_path) as process:
        wait_for_output(tmp_path, ".me.db-*.partial")
        process.send_signal(number)
        assert process.stderr is not None
        *_, last = ["", *process.stderr.read().splitlines()]
    assert process.returncode == (-9 if number == signal.SIGKILL else 128 + number)
    assert (tmp_path / "me.db").read_bytes() == before
    if number == signal.SIGKILL:
        assert len(list(tmp_path.glob(".me.db*"))) >= 1
        imported(repository(2), tmp_path)
    else:
        assert last == "skyexport: stopped by a signal; nothing was imported"
    assert sorted(path.name for path in tmp_path.iterdir() if path.name[0] == ".") == []


def test_memory_limit(tmp_path: Path) -> None:
    """The memory limit holds here too."""
    with pytest.raises(Exception, match="memory reached") as error:
        imported(repository(3000), tmp_path, memory_limit_bytes=1_000_000)
    assert getattr(error.value, "exit_code", None) == 13
    assert [path.name for path in tmp_path.iterdir()] == ["repo.car"]


@pytest.mark.parametrize("format_name", ["json", "csv", "parquet"])
def test_export_of_a_car_file(format_name: str, tmp_path: Path) -> None:
    """The same bytes as those of the archive that an import makes."""
    car = repository(20).write(tmp_path / "repo.car")
    imported(repository(20), tmp_path)
    for source in (car, tmp_path / "me.db"):
        options = ExportOptions(
            archive=source, to=tmp_path / f"{source.stem}.{format_name}", format=format_name, workers=2
        )
        assert export(options).posts == 20
    assert (tmp_path / f"repo.{format_name}").read_bytes() == (tmp_path / f"me.{format_name}").read_bytes()


def test_command_with_a_car_file(tmp_path: Path) -> None:
    """It says so; words, authors and increments work; a place in the archive's list does not exist."""
    car = repository(20).write(tmp_path / "repo.car")
    done = skyexport("export", car, "-o", tmp_path / "out", "--author", "handle.invalid", "--match", "post")
    assert done.returncode == 0
    assert f"note: {car} was imported first; skyexport import makes an archive that stays" in done.stderr
    manifest = json.loads(next((tmp_path / "out").glob("*/*/manifest.json")).read_text())
    assert (manifest["source"]["path"], manifest["source"]["counts_unknown"]) == (str(car), True)
    first = export(ExportOptions(archive=car, output_dir=tmp_path / "whole"))
    assert first.directory is not None
    more = repository(22).write(car)
    assert export(ExportOptions(archive=more, output_dir=tmp_path / "whole", since_export=[first.directory])).posts == 2
    assert skyexport("export", car, "--dry-run").stdout.startswith("posts:            22 of 22")
    done = skyexport("export", car, "-o", tmp_path / "exports", "--author", DID, "--register")
    assert done.returncode == 2
    damaged = tmp_path / "damaged.car"
    damaged.write_bytes(car.read_bytes()[:-1])
    done = skyexport("export", damaged, "--to", tmp_path / "x.json")
    assert (done.returncode, len(done.stderr.splitlines())) == (10, 1)
    assert not (tmp_path / "x.json").exists()


def test_without_the_extra(tmp_path: Path) -> None:
    """One line says how to get it."""
    package = tmp_path / "elsewhere" / "libipld"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ModuleNotFoundError(\"No module named 'libipld'\", name='libipld')")
    car = repository(1).write(tmp_path / "repo.car")
    for command in (("import", car, "--to", tmp_path / "me.db"), ("export", car), ("inspect", car)):
        done = skyexport(*command, env={"PYTHONPATH": str(package.parent)})
        assert done.returncode == 5
        assert done.stderr == (
            "skyexport: a CAR file needs libipld, which is not installed; pip install 'skyexport[car]', or pipx inject"
            " skyexport libipld\n"
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "repo.car"]


def test_file_that_grows(tmp_path: Path) -> None:
    """A file that is written to while it is read is refused."""
    car = repository(3).write(tmp_path / "repo.car")
    with Blocks(car) as blocks:
        blocks.scan()
        blocks.check_unchanged()
        with car.open("ab") as file:
            file.write(b"x")
        with pytest.raises(ArchiveChangedError, match="was written to while it was read"):
            blocks.check_unchanged()


RECORDS = st.dictionaries(
    st.integers(0, 2**40).map(lambda number: tid(START + number)),
    st.fixed_dictionaries(
        {"text": st.text(max_size=80)},
        optional={
            "createdAt": st.datetimes(),
            "reply": st.text(min_size=1, max_size=30).map(lambda uri: {"parent": {"uri": uri, "cid": "x"}}),
            "embed": st.text(max_size=30).map(
                lambda text: {
                    "$type": "app.bsky.embed.external",
                    "external": {"uri": "https://example.org", "title": text, "description": "<&>"},
                }
            ),
        },
    ),
    max_size=25,
)


@given(RECORDS, st.integers(0, 99))
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, records: dict[str, Any], seed: int) -> None:
    """Any repository gives, by way of a file, an archive and an export, its own posts."""
    folder = tmp_path_factory.mktemp("trip")
    made = Repository(shuffled=seed, revision=tid(START + 2**42))
    expected = {}
    for record_key, record in records.items():
        stated: datetime | None = record.get("createdAt")
        written = {**record, **({} if stated is None else {"createdAt": stated.isoformat() + "Z"})}
        uri = made.add(written, record_key)
        time = stated or datetime.fromtimestamp(0, UTC).replace(tzinfo=None) + timedelta(
            microseconds=int_of(record_key)
        )
        embed = record.get("embed")
        expected[uri] = (
            record["text"], time, record.get("reply", {"parent": {"uri": ""}})["parent"]["uri"],
            None if embed is None else embed["external"]["title"],
        )  # fmt: skip
    imported(made, folder)
    export(ExportOptions(archive=folder / "me.db", to=folder / "x.json", sync=False))
    found = {}
    for row in json.loads((folder / "x.json").read_bytes()):
        embed = row["embed_data"]
        found[row["uri"]] = (
            row["text"], datetime.fromisoformat(row["created_at"].removesuffix("Z")), row.get("reply_parent", ""),
            None if embed is None else embed["external"]["title"],
        )  # fmt: skip
    assert found == expected


def int_of(record_key: str) -> int:
    """The microseconds in a TID, found by counting."""
    digits = "234567abcdefghijklmnopqrstuvwxyz"
    number = 0
    for character in record_key:
        number = number * 32 + digits.index(character)
    return number >> 10
