"""A CAR file is the work of a stranger: whatever is wrong with it is one line with the offset, and leaves nothing."""

from __future__ import annotations

import gzip
import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from libipld import encode_dag_cbor

from skyexport import RepositoryError, import_repository
from skyexport.repository.blocks import Blocks
from skyexport.repository.tree import commit_of, records
from tests.car_files import DID, Repository, blob, cid_of, header, raw_cid, section, tid, varint
from tests.command import skyexport


def repository(posts: int = 30) -> Repository:
    """A small one, with posts and likes."""
    made = Repository()
    for number in range(posts):
        key = tid(1_700_000_000_000_000 + number * 1_000_000)
        made.add({"text": f"post {number}", "createdAt": "2023-11-14T22:13:20Z"}, key)
        made.add({"subject": {"uri": "at://x", "cid": "y"}}, key, "app.bsky.feed.like")
    return made


def refused(content: bytes, tmp_path: Path) -> str:
    """The message with which the content of a file is refused; nothing is left."""
    car, folder = tmp_path / "repo.car", tmp_path / "into"
    car.write_bytes(content)
    folder.mkdir(exist_ok=True)
    with pytest.raises(RepositoryError) as error:
        import_repository(car, folder / "me.db")
    assert not list(folder.iterdir())
    assert error.value.exit_code == 10
    message = str(error.value)
    assert "\n" not in message
    return message.replace(str(car), "repo.car")


def with_blocks(*blocks: bytes, roots: int = 1) -> bytes:
    """A file of these blocks, of which the first is the root."""
    return header([cid_of(blocks[0])] * roots) + b"".join(map(section, blocks))


def commit(tree: bytes, **others: object) -> bytes:
    """The block of a commit."""
    return bytes(encode_dag_cbor({"did": DID, "version": 3, "rev": tid(1), "prev": None, "data": tree, **others}))


def node(*entries: tuple[int, bytes, bytes], left: bytes | None = None, right: bytes | None = None) -> bytes:
    """The block of a node."""
    listed = [{"p": shared, "k": key, "v": cid, "t": right} for shared, key, cid in entries]
    return bytes(encode_dag_cbor({"l": left, "e": listed}))


RECORD = bytes(encode_dag_cbor({"text": "x", "createdAt": "2023-11-14T22:13:20Z"}))
KEY = b"app.bsky.feed.post/3jzfcijpj2z2a"


def test_truncated(tmp_path: Path) -> None:
    """A file that ends anywhere is incomplete, or blocks are missing."""
    content = repository(3).content()
    path = tmp_path / "repo.car"
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(RepositoryError) as error:
            listed(path)
        message = str(error.value)
        assert length % 99 or refused(content[:length], tmp_path)
        assert any(word in message for word in ("incomplete", "missing", "is empty", "not a CAR file")), (
            length,
            message,
        )


@pytest.mark.parametrize("seed", range(4))
def test_flipped_bits(seed: int, tmp_path: Path) -> None:
    """No byte of a block can change unnoticed."""
    content = repository(3).content()
    path = tmp_path / "repo.car"
    begins = len(header([cid_of(b"")]))
    for position in range(begins + seed, len(content), 4):
        changed = bytearray(content)
        changed[position] ^= 1 << (position + seed) % 8
        path.write_bytes(changed)
        with pytest.raises(RepositoryError, match=r"repo\.car"):
            listed(path)


def test_wrong_hash(tmp_path: Path) -> None:
    """The line says where the block is."""
    content = with_blocks(commit(cid_of(node())), node())
    bad = section(b"other", cid_of(b"one"))
    assert refused(content + bad, tmp_path) == (
        f"repo.car is damaged or not a repository: a block whose hash is not that of its CID, at byte {len(content):,};"
        " download it again"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: with_blocks(commit(cid_of(b"gone"))), "is incomplete: the block at byte 59 names bafyrei"),
        (lambda: header([cid_of(b"x")]), "is incomplete: the block at byte 0 names bafyrei"),
        (lambda: with_blocks(commit(cid_of(node())), node(), roots=2), "2 roots, and a repository has one"),
        (lambda: with_blocks(commit(cid_of(node())), node(), roots=0), "0 roots, and a repository has one"),
        (lambda: with_blocks(RECORD), "a root that is not the commit of a repository"),
        (lambda: with_blocks(commit(cid_of(node()), version=1), node()), "a root that is not the commit"),
        (lambda: with_blocks(commit(cid_of(node()), did="me"), node()), "a commit without the DID of an account"),
        (lambda: with_blocks(commit(cid_of(node()), rev=5), node()), "a commit whose revision is not text"),
        (lambda: with_blocks(commit(raw_cid(b"")), node()), "something else where a CID of DAG-CBOR"),
        (lambda: with_blocks(commit(cid_of(RECORD)), RECORD), "a node of the tree without entries"),
        (lambda: with_blocks(commit(cid_of(b"\xff")), b"\xff"), "a block that is not DAG-CBOR"),
        (lambda: tree((0, b"no slash", cid_of(RECORD))), "a key that is not a collection and a record key: 'no slash'"),
        (lambda: tree((0, KEY, cid_of(RECORD)), (0, KEY, cid_of(RECORD))), "a key that shares more or less with"),
        (lambda: tree((0, KEY, cid_of(RECORD)), (31, b"2", cid_of(RECORD))), "a key that is not greater than the one"),
        (lambda: tree((5, KEY, cid_of(RECORD))), "a key that shares more or less with"),
        (lambda: tree((0, KEY, raw_cid(RECORD))), "something else where a CID of DAG-CBOR"),
        (lambda: tree((0, KEY, cid_of(b"gone"))), "is incomplete: the block at byte"),
        (lambda: good() + section(b"x", b"\x01\x71\x13\x20" + bytes(32)), "a CID that is not of version 1"),
        (lambda: good() + section(b"x" * 50, b"\x12\x20" + hashlib.sha256(b"x" * 50).digest()), "a CID that is not"),
        (lambda: good() + varint(20) + bytes(20), "a CID that is not of version 1"),
        (lambda: good() + varint(0) + bytes(20), "a CID that is not of version 1"),
        (lambda: good() + varint(1 << 62) + bytes(20), "a block of 4611686018.43 GB, and none may"),
        (lambda: good() + b"\xff" * 20, "a length of more than 9 bytes"),
        (lambda: good() + b"\x80\x00" + bytes(20), "a length that is not in its shortest form"),
        (lambda: good() + b"\xa5\x80\x00" + bytes(20), "a length that is not in its shortest form"),
        (lambda: good() + section(b"x" * 50_000_000), "a block of 50.0 MB, and none may have more than 4.2 MB"),
        (lambda: header([]).replace(b"version", b"versiom") + bytes(99), "no header of a CAR file of version 1"),
        (lambda: varint(100_000) + b"\xa2eroots\x80gversion\x01" + bytes(200_000), "not a CAR file"),
    ],
)  # fmt: skip
def test_damage(content: Callable[[], bytes], message: str, tmp_path: Path) -> None:
    """One line each, with the offset in the file."""
    found = refused(content(), tmp_path)
    assert message in found
    assert "at byte" in found or "not a CAR file" in found


def good() -> bytes:
    """A file without any record."""
    return with_blocks(commit(cid_of(node())), node())


def tree(*entries: tuple[int, bytes, bytes]) -> bytes:
    """A file with one node."""
    found = node(*entries)
    return with_blocks(commit(cid_of(found)), found, RECORD)


def test_shared_node(tmp_path: Path) -> None:
    """A tree that leads to a node twice, as a circle would, has keys that do not rise."""
    below = node((0, KEY, cid_of(RECORD)))
    above = node((0, b"b.c/1", cid_of(RECORD)), left=cid_of(below), right=cid_of(below))
    content = with_blocks(commit(cid_of(above)), above, below, RECORD)
    assert "a key that is not greater than the one before" in refused(content, tmp_path)


def test_depth(tmp_path: Path) -> None:
    """The depth of a tree has a bound."""
    blocks = [node()]
    for _ in range(200):
        blocks.append(node(left=cid_of(blocks[-1])))
    assert "a tree of more than 40 levels" in refused(with_blocks(commit(cid_of(blocks[-1])), *blocks), tmp_path)


def test_deep_record(tmp_path: Path) -> None:
    """So has the depth of a record."""
    record = bytes(encode_dag_cbor("x"))
    for _ in range(100_000):
        record = b"\x81" + record
    found = node((0, KEY, cid_of(record)))
    assert "not DAG-CBOR" in refused(with_blocks(commit(cid_of(found)), found, record), tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.car", b"", "is empty"),
        ("x.json", b' {"error":"InvalidToken"}', 'is JSON, not a CAR file: {"error":"InvalidToken"}'),
        ("x.car", b"<!DOCTYPE html><html><body>Sign in", "is an HTML page, perhaps an error that the browser saved"),
        ("x.car", b"\xef\xbb\xbf<?xml version='1.0'?><a/>", "is XML"),
        ("x.gz", gzip.compress(b"x", mtime=0), "is a gzip file; unpack it with gunzip"),
        ("x.car", bytes.fromhex("0aa16776657273696f6e02") + bytes(40), "is a CAR file of version 2"),
        ("x.car", b"SQLite format 3\0" + bytes(200), "is a SQLite file"),
        ("x.car", b"uri,text\n", "is not a CAR file"),
    ],
)  # fmt: skip
def test_other_files(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    """A file of another kind: the line says which."""
    (tmp_path / name).write_bytes(content)
    done = skyexport("import", tmp_path / name, "--to", tmp_path / "me.db")
    assert done.returncode == 10
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_zip(tmp_path: Path) -> None:
    """Some browsers save a packed file."""
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        file.writestr("repo.car", repository(1).content())
    assert "is a zip file; unpack it" in refused((tmp_path / "x.zip").read_bytes(), tmp_path)


@pytest.mark.parametrize("missing", ["x.car", "folder"])
def test_no_file(missing: str, tmp_path: Path) -> None:
    """A missing file, and a directory."""
    (tmp_path / "folder").mkdir()
    with pytest.raises(RepositoryError, match=r"cannot read|is not a plain file"):
        import_repository(tmp_path / missing, tmp_path / "me.db")


def listed(path: Path) -> list[bytes]:
    """The keys of all records."""
    with Blocks(path) as blocks:
        blocks.scan()
        found = []
        for record in records(blocks, commit_of(blocks), lambda: None):
            blocks.check_has(record.cid, record.node_offset)
            found.append(record.key)
        return found


def test_small_blocks_and_repetitions(tmp_path: Path) -> None:
    """The table of blocks grows, and blocks that are there twice count once."""
    content = repository(40).content()
    tiny = [section(bytes(encode_dag_cbor(number))) for number in range(5000)]
    path = tmp_path / "repo.car"
    path.write_bytes(content + b"".join(tiny) + tiny[7] * 3000)
    assert listed(path) == sorted(key.encode() for key in repository(40).records)
    with Blocks(path) as blocks:
        blocks.scan()
        assert blocks.count == len(repository(40).blocks()) + 5000


def test_history(tmp_path: Path) -> None:
    """Old files have all earlier commits; what they alone have does not count."""
    made = repository(5)
    made.earlier = [{"app.bsky.feed.post/old": {"text": "gone"}}, dict(list(made.records.items())[:3])]
    made.revision = None
    assert listed(made.write(tmp_path / "repo.car")) == sorted(key.encode() for key in made.records)


@given(st.binary(max_size=300), st.integers(0, 2000))
def test_anything_spliced_in(tmp_path_factory: pytest.TempPathFactory, junk: bytes, position: int) -> None:
    """Whatever bytes are in the file, it is read, or refused by our own error."""
    content = repository(4).content()
    path = tmp_path_factory.mktemp("car") / "repo.car"
    path.write_bytes(content[:position] + junk + content[position:])
    try:
        found = listed(path)
    except RepositoryError:
        return
    assert found == sorted(key.encode() for key in repository(4).records)


def test_large_blob_blocks(tmp_path: Path) -> None:
    """Blocks of raw bytes are allowed, and not read."""
    path = tmp_path / "repo.car"
    made = repository(2)
    made.add(
        {"text": "x", "embed": {"$type": "app.bsky.embed.images", "images": [{"alt": "", "image": blob(b"i")}]}}, "k"
    )
    path.write_bytes(made.content() + section(b"i" * 3_000_000, raw_cid(b"i" * 3_000_000)))
    assert len(listed(path)) == 5
