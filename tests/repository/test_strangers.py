"""Files, archives and names that strangers made, or that chance did: an import does no harm, and ends in words."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from libipld import encode_dag_cbor

from skyexport import import_repository
from skyexport.errors import ExportError
from skyexport.repository.blocks import cid_text
from tests.car_files import DID, Repository, blob, cid_of, header, raw_cid, section, tid

POST = {"text": "x", "createdAt": "2024-01-01T00:00:00Z"}
SKYEXPORT = [sys.executable, "-m", "skyexport"]


def made(path: Path, posts: int = 1, revision: int = 1, did: str = DID, **others: Any) -> Path:
    repository = Repository(did=did, revision=tid(1_700_000_000_000_000 + revision))
    for number in range(posts):
        repository.add(POST | {"text": f"post {number}"} | others, tid(1_600_000_000_000_000 + number * 1000))
    return repository.write(path)


def image(content: bytes | str) -> dict[str, Any]:
    reference = blob(content) if isinstance(content, bytes) else {"cid": content, "mimeType": "image/jpeg"}
    return {"$type": "app.bsky.embed.images", "images": [{"alt": "", "image": reference}]}


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def tree(keys: list[bytes], record: bytes, *blocks: bytes, below: bytes | None = None) -> bytes:
    """A CAR file: one node whose entries all name one record, and one node below."""
    entries, before = [], b""
    for key in keys:
        shared = next(
            (n for n, (a, b) in enumerate(zip(key, before, strict=False)) if a != b), min(len(key), len(before))
        )
        entries.append({"p": shared, "k": key[shared:], "v": cid_of(record), "t": below})
        before = key
    node = bytes(encode_dag_cbor({"l": None, "e": entries}))
    commit = {"did": DID, "version": 3, "data": cid_of(node), "rev": tid(10**15), "prev": None, "sig": b"s"}
    root = bytes(encode_dag_cbor(commit))
    return header([cid_of(root)]) + b"".join(map(section, (root, node, record, *blocks)))


def sound(archive: Path) -> int:
    with contextlib.closing(sqlite3.connect(archive)) as connection:
        assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
        return int(connection.execute("select count(*) from posts").fetchone()[0])


def command(*arguments: str | bytes | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*SKYEXPORT, *arguments], cwd=cwd, capture_output=True, text=True, errors="replace", timeout=60, check=False
    )


def test_archive_in_wal_mode_that_somebody_has_open(tmp_path: Path) -> None:
    """An archive with a log that another program has open is not replaced: the log would stay beside the new one."""
    archive = tmp_path / "me.db"
    import_repository(made(tmp_path / "a.car", 5), archive)
    with contextlib.closing(sqlite3.connect(archive)) as idle:
        idle.execute("pragma journal_mode = wal")
        idle.execute("update posts set like_count = 9")
        idle.commit()
        with contextlib.suppress(ExportError):
            import_repository(made(tmp_path / "b.car", 300, 2), archive)
        program = (
            "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('pragma integrity_check').fetchall())"
        )
        checked = subprocess.run([sys.executable, "-c", program, archive], capture_output=True, text=True, check=False)
    assert checked.stdout.strip() == "[('ok',)]", checked.stderr


@pytest.mark.parametrize("mode", ["wal", "journal"])
def test_log_left_beside_a_new_archive(mode: str, tmp_path: Path) -> None:
    """Nor is one made where the log or journal of another database lies."""
    archive = tmp_path / "me.db"
    import_repository(made(tmp_path / "a.car", 5), archive)
    beside = tmp_path / f"me.db-{mode}"
    with contextlib.closing(sqlite3.connect(archive, isolation_level=None)) as connection:
        if mode == "wal":
            connection.execute("pragma journal_mode = wal")
        connection.execute("pragma cache_size = 1")
        connection.execute("begin")
        connection.execute("update posts set text = text || hex(zeroblob(20000))")
        if mode == "wal":
            connection.execute("commit")
        content = beside.read_bytes()
        if mode == "journal":
            connection.execute("rollback")
    archive.unlink()
    beside.write_bytes(content)
    try:
        import_repository(made(tmp_path / "b.car", 300, 2), archive)
    except ExportError:
        return
    assert sound(archive) == 300


def test_media_path_of_a_received_archive(tmp_path: Path) -> None:
    """Paths in an archive are a stranger's: files of blobs go to their own place only."""
    content, home = b"written by a stranger", tmp_path / "home"
    folder, blobs = home / "archives", tmp_path / "blobs"
    folder.mkdir(parents=True)
    blobs.mkdir()
    (blobs / cid_text(raw_cid(content))).write_bytes(content)
    (home / ".bashrc").write_text("mine")
    car = made(tmp_path / "a.car", embed=image(content))
    import_repository(car, folder / "me.db")
    with contextlib.closing(sqlite3.connect(folder / "me.db")) as connection:
        connection.execute("update media set file_path = '../.bashrc'")
        connection.commit()
    with contextlib.suppress(ExportError):
        import_repository(car, folder / "me.db", blobs=blobs)
    assert (home / ".bashrc").read_text() == "mine"


def test_ctrl_c_is_not_damage(tmp_path: Path) -> None:
    """A signal in the middle of decoding is no damage."""
    repository, junk = Repository(), [[number, {"a": "b"}] for number in range(3000)]
    for number in range(1000):
        repository.add(POST | {"junk": junk, "n": number}, tid(1_600_000_000_000_000 + number * 1000))
    car = repository.write(tmp_path / "a.car")
    for _ in range(4):
        running = subprocess.Popen([*SKYEXPORT, "import", car, "--to", tmp_path / "me.db", "--progress", "json"],
                                   stderr=subprocess.PIPE, text=True)  # fmt: skip
        assert running.stderr is not None
        for line in running.stderr:
            if '"importing posts"' in line:
                break
        time.sleep(0.1)
        running.send_signal(signal.SIGINT)
        _, printed = running.communicate(timeout=60)
        assert running.returncode == 130, printed


@pytest.mark.parametrize(
    "embed",
    [
        pytest.param({"$type": "x", "n": -(2**63) - 1}, id="integer below 64 bits"),
        pytest.param({"$type": "x", "n": nested(260)}, id="deep for orjson"),
        pytest.param({"$type": "x", "n": nested(500)}, id="deep for Python"),
        pytest.param(image("bafkrei" + "z" + "a" * 51), id="text CID with another length of the hash"),
        pytest.param(image("bafkrei" + "a" * 51 + "b"), id="text CID with bits left over"),
    ],
)
def test_odd_embeds(embed: Any, tmp_path: Path) -> None:
    """What no JSON can have is kept as far as possible."""
    with contextlib.suppress(ExportError):
        import_repository(made(tmp_path / "a.car", embed=embed), tmp_path / "me.db")


def test_many_labels_with_a_long_time(tmp_path: Path) -> None:
    """Labels do not repeat a time of a megabyte."""
    # 1 MB of file: 1.1 GB of labels, since each repeats createdAt. 4 MB of file can make it a terabyte.
    labels = {"values": [{"val": "a"}] * 1100}
    with contextlib.suppress(ExportError):
        import_repository(made(tmp_path / "a.car", createdAt="x" * 1_000_000, labels=labels), tmp_path / "me.db")


_MEASURED = """
import re, sys
from pathlib import Path
from skyexport import import_repository
from skyexport.errors import ExportError
try:
    import_repository(sys.argv[1], sys.argv[2])
except ExportError as error:
    print(error, file=sys.stderr)
# Not getrusage: that counts what the process that started this one had.
print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) >> 10)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@pytest.mark.parametrize("kind", ["one record under many keys", "nodes above each other"])
def test_memory(kind: str, tmp_path: Path) -> None:
    """Blocks that have many names, and nodes full of nothing, end before memory does."""
    car = tmp_path / "a.car"
    if kind == "nodes above each other":
        nodes = [bytes(encode_dag_cbor({"l": None, "e": []}))]
        for _ in range(5):
            rest = b"\x61x\x9a" + (4_000_000).to_bytes(4, "big") + b"\x80" * 4_000_000
            nodes.append(b"\xa3\x61e\x80\x61l\xd8\x2a\x58\x25\x00" + cid_of(nodes[-1]) + rest)
        root = bytes(encode_dag_cbor({"did": DID, "version": 2, "data": cid_of(nodes[-1]), "prev": None, "sig": b"s"}))
        car.write_bytes(header([cid_of(root)]) + b"".join(map(section, (root, *nodes))))
    else:
        record = bytes(encode_dag_cbor(POST | {"text": "a" * 3_900_000}))
        car.write_bytes(tree([b"app.bsky.feed.post/%04d" % number for number in range(255)], record))
    ran = subprocess.run([sys.executable, "-c", _MEASURED, car, tmp_path / "me.db"], capture_output=True, text=True,
                         timeout=120, check=True)  # fmt: skip
    assert int(ran.stdout) < 600, ran.stderr


def test_empty_subtree_that_is_shared(tmp_path: Path) -> None:
    """A node without keys is not read again and again."""
    # 20 entries take 20 s here. A node of 4 MB has 90,000 of them: a day, from a file of 8 MB.
    empty = b"\xa2\x61e\x80\x61x\x9a" + (4_000_000).to_bytes(4, "big") + b"\x80" * 4_000_000
    car = tmp_path / "a.car"
    car.write_bytes(tree([b"a.b/%03d" % number for number in range(20)], b"\xa0", empty, below=cid_of(empty)))
    begun = time.process_time()
    with contextlib.suppress(ExportError):
        import_repository(car, tmp_path / "me.db")
    assert time.process_time() - begun < 5


def test_links(tmp_path: Path) -> None:
    """Links lead to the CAR file, and to the archive."""
    car = made(tmp_path / "a.car")
    (tmp_path / "link.car").symlink_to(car)
    (tmp_path / "real.db").write_bytes(b"")
    (tmp_path / "real.db").unlink()
    import_repository(car, tmp_path / "real.db")
    (tmp_path / "link.db").symlink_to("real.db")
    ran = command("import", "link.car", "--to", "new.db", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    ran = command("import", "a.car", "--to", "link.db", cwd=tmp_path)
    assert "please report" not in ran.stderr


@pytest.mark.parametrize("to", [b"loop", b"a" * 300 + b".db", b"caf\xe9.db"])
def test_odd_names(to: bytes, tmp_path: Path) -> None:
    """Names that no archive can have are refused in a line."""
    made(tmp_path / "a.car")
    (tmp_path / "loop").symlink_to("loop")
    ran = command("import", "a.car", "--to", to, cwd=tmp_path)
    assert "please report" not in ran.stderr


def test_error_about_a_name_that_is_not_utf_8_as_json(tmp_path: Path) -> None:
    """Such a name can be part of an error as JSON."""
    made(tmp_path / "a.car")
    ran = command("import", "a.car", "--to", "me.db", "--blobs", b"caf\xe9", "--json", cwd=tmp_path)
    assert ran.returncode == 10
    assert '"failed"' in ran.stdout


def test_damaged_archive(tmp_path: Path) -> None:
    """An archive that is damaged is said to be so."""
    archive = tmp_path / "me.db"
    import_repository(made(tmp_path / "a.car", 5), archive)
    uri = f"at://{DID}/app.bsky.feed.post/bad".encode()
    with contextlib.closing(sqlite3.connect(archive)) as connection:
        connection.execute("update posts set uri = cast(? as text) where rowid = 2", (uri + b"\xc7",))
        connection.commit()
    with contextlib.suppress(ExportError):
        import_repository(made(tmp_path / "b.car", 9, 2), archive)


def test_post_with_another_image(tmp_path: Path) -> None:
    """A post that shows another image now has no row for the one before."""
    archive = tmp_path / "me.db"
    import_repository(made(tmp_path / "a.car", embed=image(b"first")), archive)
    import_repository(made(tmp_path / "b.car", revision=2, embed=image(b"second")), archive)
    with contextlib.closing(sqlite3.connect(archive)) as connection:
        assert connection.execute("select hash from media").fetchall() == [(raw_cid(b"second")[4:].hex(),)]


def test_image_that_two_accounts_show(tmp_path: Path) -> None:
    """An image of a removed post stays with the other account that shows it."""
    archive, other = tmp_path / "me.db", "did:plc:" + "b" * 24
    import_repository(made(tmp_path / "a.car", embed=image(b"shared")), archive)
    import_repository(made(tmp_path / "b.car", did=other, embed=image(b"shared")), archive)
    import_repository(made(tmp_path / "c.car", 0, 2), archive, remove_gone=True)
    with contextlib.closing(sqlite3.connect(archive)) as connection:
        assert connection.execute("select count(*) from media").fetchone() == (1,)


@pytest.mark.parametrize("name", ["j.car", "h.car", "z.car"])
def test_export_says_what_it_is(name: str, tmp_path: Path) -> None:
    """A file that is called CAR and is none gets the line that an import would print."""
    content = {"j.car": b'{"error": "x"}', "h.car": b"<html>no</html>", "z.car": b"\x1f\x8b\x08" + b"\0" * 200}
    (tmp_path / name).write_bytes(content[name])
    ran = command("export", name, "--to", "out.jsonl", cwd=tmp_path)
    assert "not a SQLite database; name the archive's .db file" not in ran.stderr
