"""Files that several posts share: the archive remembers one of the posts, and the names in embeds tell of others."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path

import apsw
import pytest

from skyexport import ArchiveError, verify
from skyexport.archive.shown_media import digest_of
from tests.archives import Cell, file_archive, post
from tests.command import skyexport, skyexport_json
from tests.media_files import add_media, cid_of, exported, images, media_in, name_of

THEIRS, OURS = "did:plc:theirs", "did:plc:ours"
CONTENT = b"a picture"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        (SHA256, SHA256),
        (f"{SHA256}.jpg", SHA256),
        (f"{SHA256}.", SHA256),
        (cid_of(CONTENT), SHA256),
        (cid_of(CONTENT, 0x70), SHA256),
        (f"{cid_of(CONTENT)}.webp", SHA256),
        (SHA256.upper(), None),
        (SHA256[:-1], None),
        (SHA256 + "0", None),
        (f"x{SHA256}", None),
        (cid_of(CONTENT).upper(), None),
        (cid_of(CONTENT)[:-1], None),
        (cid_of(CONTENT) + "a", None),
        ("baf_" + cid_of(CONTENT)[4:], None),
        ("b" + "a" * 58, None),
        ("b" + "7" * 58, None),
        ("", None),
        ("b", None),
        ("\n" + SHA256, None),
    ],
)
def test_digests(name: str, digest: str | None) -> None:
    """Hashes and CIDs are read, with or without suffix, and nothing else is."""
    assert digest_of(name.encode()) == digest


def made(folder: Path, *embeds: Cell, index: bool = True, of: bytes = CONTENT) -> Path:
    """Somebody's post with an embed and a file, and posts of ours with the other embeds, and none."""
    folder.mkdir()
    first, *others = embeds
    rows = [post(0, did=THEIRS, has_media=1, embed_data=first, created_at="2024-05-01 12:00:00 +0000 UTC")]
    rows += [post(n, did=OURS, has_media=1, embed_data=embed) for n, embed in enumerate(others, 1)]
    path = file_archive(folder / "archive.db", rows)
    add_media(path, of)
    if not index:
        with contextlib.closing(apsw.Connection(str(path))) as connection:
            connection.execute("drop index idx_posts_created_at; drop index idx_media_post_uri")
            connection.execute("create table plain as select * from media; drop table media")
            connection.execute("alter table plain rename to media")
    return path


external = json.dumps({"external": {"thumb": f"https://cdn.example/{cid_of(CONTENT)}@jpeg"}}).encode()
with_record = b'{"record":{},"media":%b}' % images("other", SHA256)


@pytest.mark.quick(2)
@pytest.mark.parametrize(("snapshot", "index"), [("pin", True), ("copy", False)])
@pytest.mark.parametrize(
    "selected", [{"author": OURS}, {"since": "2024-05-02"}, {"author": OURS, "since": "2024-05-02"}]
)
@pytest.mark.parametrize(
    "embed", [images(SHA256), images("x", f"{SHA256}.jpg"), images(cid_of(CONTENT)), external, with_record]
)
def test_named_by_its_hash(tmp_path: Path, snapshot: str, index: bool, selected: dict[str, str], embed: bytes) -> None:
    """A file whose hash is in a name that a selected post shows is taken, whoever is remembered for it."""
    archive = made(tmp_path / "in", b"null", embed, images("unknown"), index=index)
    summary = exported(archive, snapshot=snapshot, **selected)
    assert media_in(summary) == {name_of(CONTENT): CONTENT}
    assert summary.media is not None
    assert summary.media.posts_without == 1
    assert summary.directory is not None
    assert json.loads((summary.directory / "manifest.json").read_bytes())["posts_without_known_media"] == 1
    assert verify(summary.directory).media_files == 1


UPLOADED = cid_of(b"what was uploaded, of which the file is a smaller rendition")


@pytest.mark.quick(7)
@pytest.mark.parametrize("snapshot", ["pin", "copy"])
@pytest.mark.parametrize("index", [True, False])
@pytest.mark.parametrize(
    ("theirs", "ours", "known"),
    [
        (images(UPLOADED), images(UPLOADED), True),
        (images(UPLOADED, UPLOADED), images("other", UPLOADED), True),
        (images(UPLOADED, "other"), images(UPLOADED), False),
        (images("photo.jpg"), images("photo.jpg"), False),
        (b"null", images(UPLOADED), False),
        (b"{", images(UPLOADED), False),
    ],
)
def test_same_image(tmp_path: Path, snapshot: str, index: bool, theirs: bytes, ours: bytes, known: bool) -> None:
    """An image whose file is known from the one post that shows it alone is known in others; a mere name is not."""
    archive = made(tmp_path / "in", theirs, ours, index=index)
    summary = exported(archive, snapshot=snapshot, author=OURS)
    assert media_in(summary) == ({name_of(CONTENT): CONTENT} if known else {})
    assert summary.media is not None
    assert summary.media.posts_without == (not known)


@pytest.mark.parametrize("snapshot", ["pin", "copy"])
def test_posts_without_an_index(tmp_path: Path, snapshot: str) -> None:
    """Where posts can not be found by uri, files are those of the rows, and those that are named by their hash."""
    archive = made(tmp_path / "in", images(UPLOADED), images(UPLOADED), images(cid_of(b"named")))
    add_media(archive, b"named", 99)
    add_media(archive, b"own", 1)
    with contextlib.closing(apsw.Connection(str(archive))) as connection:
        connection.execute("create table plain as select * from posts; drop table posts")
        connection.execute("alter table plain rename to posts")
    summary = exported(archive, snapshot=snapshot, author=OURS)
    assert set(media_in(summary).values()) == {b"named", b"own"}
    assert set(media_in(exported(archive, snapshot=snapshot)).values()) == {CONTENT, b"named", b"own"}


def test_same_image_of_a_post_with_two_files(tmp_path: Path) -> None:
    """Where the remembered post has two files, nobody knows which one the image is."""
    archive = made(tmp_path / "in", images(UPLOADED), images(UPLOADED))
    add_media(archive, b"another")
    summary = exported(archive, author=OURS)
    assert media_in(summary) == {}
    assert summary.media is not None
    assert summary.media.posts_without == 1


@pytest.mark.parametrize("snapshot", ["pin", "copy"])
def test_everything(tmp_path: Path, snapshot: str) -> None:
    """Files are those of the rows; one of a row whose post is gone is taken where another post shows it."""
    archive = made(tmp_path / "in", images(UPLOADED), images(UPLOADED), images("unknown"), b"null")
    for content in (b"shown", b"not shown"):
        add_media(archive, content, 99)
    with contextlib.closing(apsw.Connection(str(archive))) as connection:
        connection.execute("update posts set embed_data = ? where rowid = 4", (images(cid_of(b"shown")),))
    summary = exported(archive, snapshot=snapshot)
    assert set(media_in(summary).values()) == {CONTENT, b"shown"}
    assert summary.media is not None
    assert summary.media.posts_without == 1


@pytest.mark.slow
@pytest.mark.parametrize("snapshot", ["pin", pytest.param("copy", marks=pytest.mark.slow)])
def test_hostile_embeds(tmp_path: Path, snapshot: str) -> None:
    """No embed costs the export or much memory; those of more than a megabyte are not looked into."""
    good = images(cid_of(CONTENT))
    embeds = [
        b"", None, 7, 1.5, "text", b"\xff\xfe", b"{", b"[" * 20_000 + b"]" * 20_000, b"[" * 9000 + b"]" * 9000,
        b'{"images":[{"fullsize":"/%b"}]}' % (b"x" * 900_000), b'{"images":' + b"[" * 900_000,
        b'{"images":[%b]}' % b",".join([b'{"fullsize":"/;"}'] * 50_000), b'{"images":[{"fullsize":"/\\ud800@"}]}',
        good + b" " * 1_000_000, good + b" " * 5_000_000, good.decode(), b'{"x":1e999,' + good[1:],
    ]  # fmt: skip
    archive = made(tmp_path / "in", b"null", *embeds)
    done = skyexport_json(
        "export", archive, "-o", tmp_path / "out", "--author", OURS, "--media", "--snapshot", snapshot,
        "--memory-limit", "150MB",
    )  # fmt: skip
    assert done["media_files"] == 1
    assert done["posts_without_known_media"] == len(embeds) - 2


def test_posts_without_files(tmp_path: Path) -> None:
    """They are counted in words, too; no media table is no file, and without --media nobody asks."""
    archive = made(tmp_path / "in", b"null", images("a"), images("b"))
    done = skyexport("export", archive, "-o", tmp_path, "--media")
    assert "note: 2 posts have media that the archive does not contain\n" in done.stderr
    assert skyexport_json("export", archive, "-o", tmp_path)["posts_without_known_media"] is None
    with contextlib.closing(apsw.Connection(str(archive))) as connection:
        connection.execute("drop table media")
    done = skyexport("export", archive, "-o", tmp_path, "--media", "--author", THEIRS)
    assert "note: 1 post has media that the archive does not contain\n" in done.stderr


@pytest.mark.parametrize("kind", ["table json_each(value)", "virtual table json_each using fts5(value)"])
def test_odd_table(tmp_path: Path, kind: str) -> None:
    """A table under the name of a function that is used is refused, not read."""
    archive = made(tmp_path / "in", b"null", images(SHA256))
    with contextlib.closing(apsw.Connection(str(archive))) as connection:
        connection.execute(f"create {kind}")
    with pytest.raises(ArchiveError, match="it has a table json_each"):
        exported(archive)
    assert exported(archive, media=False).posts == 2
