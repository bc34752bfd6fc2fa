"""--match: posts that the archive's full-text index finds."""

from __future__ import annotations

import contextlib
import json
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

import make_archive
from skyexport import ArchiveError, ExportOptions, OptionError, OutputError, export
from skyexport.archive.archive import Archive
from skyexport.archive.export_order import row_ids_in_order
from skyexport.runtime.for_tests import on_reached
from skyexport.selection import Selection
from skyexport.wording import shell_word
from tests.archives import file_archive, pets, post, searchable
from tests.command import skyexport, skyexport_json
from tests.exports import exported_bytes, uris


def changed(path: Path, *statements: str) -> Path:
    """The archive after these statements."""
    with contextlib.closing(apsw.Connection(str(path))) as connection:
        connection.pragma("writable_schema", True)
        for statement in statements:
            connection.execute(statement)
    return path


@pytest.mark.quick(2)
@pytest.mark.parametrize(("snapshot", "index"), [("pin", True), ("copy", False)])
@pytest.mark.parametrize("narrower", [{}, {"author": "did:plc:a"}, {"since": "2024-05-05", "until": "2024-05-20"}])
def test_same_bytes(tmp_path: Path, snapshot: str, index: bool, narrower: dict[str, str]) -> None:
    """The posts that have the word, in export order, whatever the workers, the batches and the way of reading."""
    archive = searchable(tmp_path / "a.db", pets(), index=index)
    everything = json.loads(exported_bytes(archive, tmp_path / "all", **narrower))
    with_cats = [found["uri"] for found in everything if "cats" in found["text"]]
    assert 0 < len(with_cats) < len(everything)
    found = {
        exported_bytes(
            archive, tmp_path / "out",
            match="cats", workers=workers, batch_size=batch_size, snapshot=snapshot, **narrower,
        )
        for workers, batch_size in ((0, 1), (0, 1000), (1, 7), (2, 7))
    }  # fmt: skip
    assert len(found) == 1
    assert uris(found.pop()) == with_cats


@pytest.mark.parametrize(
    ("query", "matches"),
    [
        ("cats AND dogs", lambda text: "cats" in text and "dogs" in text),
        ('"cats and dogs"', lambda text: text == "cats and dogs"),
        ("dogs NOT cats", lambda text: text == "dogs"),
        ("text : bir*", lambda text: text == "birds"),
        ("uri : birds", lambda text: not isinstance(text, str)),
    ],
)
def test_syntax_of_fts5(tmp_path: Path, query: str, matches: Any) -> None:
    """Queries are those of FTS5, and one that finds nothing gives an empty export."""
    archive = searchable(tmp_path / "a.db", pets(50))
    everything = json.loads(exported_bytes(archive, tmp_path / "all"))
    assert uris(exported_bytes(archive, tmp_path / "out", match=query)) == [
        found["uri"] for found in everything if matches(found["text"])
    ]


@pytest.mark.parametrize("query", ['"', "a AND", "nothing : cats", "", "  ", "*reads", "(cats", "a\0b", "\udcff"])
def test_what_is_no_query(tmp_path: Path, query: str) -> None:
    """A query that FTS5 does not take is wrong usage, and nothing is written."""
    archive = searchable(tmp_path / "a.db", pets(10))
    with pytest.raises(OptionError, match="query"):
        exported_bytes(archive, tmp_path / "out", match=query)
    assert not (tmp_path / "out").exists()


@pytest.mark.quick(5)
@pytest.mark.parametrize(
    ("query", "quoted"),
    [
        ("#caturday", '"#caturday"'),
        ("@alice", '"@alice"'),
        ("it's", '"it\'s"'),
        ("foo-bar", '"foo-bar"'),
        ("did:plc:abc", '"did:plc:abc"'),
        ("cats OR #caturday", 'cats OR "#caturday"'),
        ("it's #caturday", '"it\'s" "#caturday"'),
        ('"cats and', '"cats and"'),
        ("50% off!", '"50%" "off!"'),
        ("https://example.com/a?b=c", '"https://example.com/a?b=c"'),
        ("C++", '"C++"'),
        ("$HOME's `x`!", '"$HOME\'s" "`x`!"'),
        ("(foo-bar", '"(foo-bar"'),
        ("a.b*", '"a.b*"'),
    ],
)
def test_what_works_instead(tmp_path: Path, query: str, quoted: str) -> None:
    """The error shows a query that works, as it must be typed in a shell."""
    archive = searchable(tmp_path / "a.db", [*pets(10), post(77, text=query)])
    with pytest.raises(OptionError) as error:
        exported_bytes(archive, tmp_path / "out", match=query)
    shown = error.value.hint.partition(" --match ")[2]
    assert shlex.split(shown) == [quoted]
    if shutil.which("bash"):
        typed = subprocess.run(["bash", "-c", f"printf %s {shown}"], capture_output=True, text=True, check=True)
        assert typed.stdout == quoted
    assert post(77)["uri"] in uris(exported_bytes(archive, tmp_path / "out", match=quoted))


@pytest.mark.parametrize("query", ["!!!", "(", '"', "#", "- -", "cats AND", "AND"])
def test_what_no_quotes_help(tmp_path: Path, query: str) -> None:
    """Quotes find nothing without a letter or digit, and do not complete what is cut off."""
    archive = searchable(tmp_path / "a.db", pets(10))
    with pytest.raises(OptionError) as error:
        exported_bytes(archive, tmp_path / "out", match=query)
    assert "--match" not in error.value.hint


def test_shell_words() -> None:
    """Words of a command line, for POSIX shells and for Windows."""
    assert shell_word('"#caturday"', "linux") == "'\"#caturday\"'"
    assert shell_word('"it\'s"', "linux") == '"\\"it\'s\\""'
    assert shell_word('"#caturday"', "win32") == '"\\"#caturday\\""'
    assert shell_word("archive.db", "linux") == shell_word("archive.db", "win32") == "archive.db"
    assert shell_word("my archive.db", "win32") == '"my archive.db"'
    assert shlex.split(shell_word("it's $HOME!", "linux")) == ["it's $HOME!"]


def test_what_fts5_says(tmp_path: Path) -> None:
    """The command tells what FTS5 says of a wrong query, and that an archive has no index."""
    archive = searchable(tmp_path / "a.db", pets(10))
    wrong = skyexport("export", archive, "--match", "cats AND", "-o", tmp_path / "out")
    assert wrong.returncode == 2
    assert 'fts5: syntax error near ""' in wrong.stderr
    without = skyexport("export", file_archive(tmp_path / "b.db", pets(10)), "--match", "cats", "-o", tmp_path / "out")
    assert without.returncode == 10
    assert "has no full-text index" in without.stderr
    assert len(without.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "statement",
    [
        "create table posts_fts (uri, text)",
        "create view posts_fts as select rowid, text from posts",
        "create virtual table posts_fts using fts5(uri, text)",
        "create virtual table posts_fts using fts5(uri, text, content='')",
        "create virtual table posts_fts using fts5(handle, access_token, content='sessions')",
        "create virtual table posts_fts using fts5(uri, text, content='posts', content_rowid='like_count')",
        "create virtual table posts_fts using fts4(uri, text)",
        "create virtual table posts_fts using rtree(id, a, b)",
        """create virtual table posts_fts using fts5(uri, text, tokenize="unicode61 separators ', content=posts,'")""",
    ],
)
def test_odd_index(tmp_path: Path, statement: str) -> None:
    """What is no index of FTS5 over the posts is refused, and not asked."""
    archive = changed(file_archive(tmp_path / "a.db", pets(10)), statement)
    with pytest.raises(ArchiveError, match="is not a full-text index of its posts"):
        exported_bytes(archive, tmp_path / "out", match="cats")


@pytest.mark.quick(2)
@pytest.mark.parametrize(
    "statement",
    [
        "update posts_fts_data set block = x'ff' where id > 10",
        "update posts_fts_data set block = x'000000000102030405' where id = 10",
        "delete from posts_fts_data",
        "delete from posts_fts_config",
        "update posts_fts_config set v = 99 where k = 'version'",
        "drop table posts_fts_idx",
        "drop table posts_fts_config",
    ],
)
def test_damaged_index(tmp_path: Path, statement: str) -> None:
    """A damaged index is named as what is damaged, with what to do; the archive can be exported without it."""
    archive = changed(searchable(tmp_path / "a.db", pets(2000)), statement)
    for snapshot in ("pin", "copy"):
        with pytest.raises(ArchiveError) as caught:
            exported_bytes(archive, tmp_path / "out", match="cats", snapshot=snapshot)
        assert "full-text index" in caught.value.message
        assert caught.value.exit_code == 10
    assert len(uris(exported_bytes(archive, tmp_path / "out"))) == 2000


@pytest.mark.parametrize("snapshot", ["pin", "copy"])
def test_index_that_is_damaged_further_on(tmp_path: Path, snapshot: str) -> None:
    """Damage that shows only when many posts are found already ends the export as well."""
    archive = searchable(tmp_path / "a.db", [post(number, text="cats") for number in range(5000)])
    last = "select id from posts_fts_data where id > 10 order by id desc limit 1 offset 1"
    changed(archive, f"update posts_fts_data set block = x'ff' where id = ({last})")
    with pytest.raises(ArchiveError, match="full-text index"):
        exported_bytes(archive, tmp_path / "out", match="cats", snapshot=snapshot)
    assert not (tmp_path / "out").exists()


def test_index_that_is_out_of_date(tmp_path: Path) -> None:
    """Row ids that are no posts any more are left out, and what the index does not know is not found."""
    archive = searchable(tmp_path / "a.db", pets(50))
    before = uris(exported_bytes(archive, tmp_path / "out", match="cats"))
    changed(
        archive, "drop trigger posts_ad", "drop trigger posts_ai", f"delete from posts where uri = '{before[0]}'",
        "insert into posts(uri, cid, did, text, created_at, indexed_at) values ('at://x', '', '', 'cats', '', '')",
    )  # fmt: skip
    for snapshot in ("pin", "copy"):
        assert uris(exported_bytes(archive, tmp_path / "out", match="cats", snapshot=snapshot)) == before[1:]


@pytest.mark.quick(1)
@pytest.mark.parametrize("wal", [False, True])
def test_recovered_archive(tmp_path: Path, wal: bool) -> None:
    """An archive that must be recovered is searched while its copy is made."""
    (tmp_path / "left").mkdir()
    path = tmp_path / "a.db"
    with contextlib.closing(apsw.Connection(str(searchable(path, pets(100), wal=wal)))) as writer:
        writer.pragma("wal_autocheckpoint", 0)
        writer.pragma("cache_size", 2)
        writer.execute("begin; update posts set text = 'whales' || substr(text, 1, 0) || hex(zeroblob(300))")
        if wal:
            writer.execute("commit; begin; update posts set text = 'whales'; commit")
        else:
            writer.cache_flush()
        for name in ("a.db", "a.db-journal", "a.db-wal"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copy(tmp_path / name, tmp_path / "left" / name)
        if not wal:
            writer.execute("rollback")
    left = tmp_path / "left" / "a.db"
    found = {
        tuple(uris(exported_bytes(left, tmp_path / "out", match="whales" if wal else "cats", workers=workers)))
        for workers in (0, 2)
    }
    assert len(found) == 1
    assert len(found.pop()) == (100 if wal else 40)
    with Archive(left, match="cats") as archive, pytest.raises(ArchiveError, match="without its full-text index"):
        archive.matching("dogs")


def test_only_what_was_asked_for_can_be_read(tmp_path: Path) -> None:
    """The index can be read when it was asked for, and sessions still can not."""
    archive = searchable(tmp_path / "a.db", pets(10))
    with Archive(archive) as opened:
        for sql in ("select * from posts_fts", "select * from posts_fts_config", "select * from sqlite_schema"):
            with pytest.raises(apsw.AuthError):
                opened.connection.execute(sql)
        match = opened.matching("cats")
        with pytest.raises(apsw.AuthError):
            opened.connection.execute("select * from sqlite_schema")
        assert len(list(row_ids_in_order(opened, Selection(filters=[match])))) == 4
        for sql in (
            "select * from sessions",
            "attach 'x.db' as x",
            "insert into posts_fts(posts_fts) values ('rebuild')",
        ):
            with pytest.raises(apsw.Error):
                opened.connection.execute(sql)


def test_media_and_manifest(tmp_path: Path) -> None:
    """Only media of posts that are found are copied, and the manifest says what was asked for."""
    archive = make_archive.make_archive(tmp_path / "a.db", posts=400, seed=5, media=True).path
    whole = skyexport_json("export", archive, "--media", "-o", tmp_path / "out", "--progress", "none")
    some = skyexport_json("export", archive, "--media", "--match", "a*", "-o", tmp_path / "out", "--progress", "none")
    assert 0 < some["posts"] < whole["posts"]
    assert some["media_files"] <= whole["media_files"]
    manifest = json.loads((Path(some["directory"]) / "manifest.json").read_bytes())
    assert manifest["match"] == "a*"
    assert manifest["post_count"] == some["posts"]
    assert skyexport("verify", some["directory"]).returncode == 0


@pytest.mark.quick(1)
@pytest.mark.parametrize("snapshot", ["pin", "copy"])
@pytest.mark.parametrize("workers", [0, 2])
def test_one_state_is_searched(tmp_path: Path, snapshot: str, workers: int) -> None:
    """What is committed while the archive is held is neither found nor missed, nor has it disappeared."""
    archive = searchable(tmp_path / "a.db", pets(50), wal=True)
    first = export(ExportOptions(archive=archive, output_dir=tmp_path / "out", until="2020-01-01"))
    before = uris(exported_bytes(archive, tmp_path / "out.json", match="cats"))
    assert first.directory is not None
    with contextlib.closing(apsw.Connection(str(archive))) as writer:

        def write(_: object) -> None:
            writer.execute("delete from posts where uri = ?", (before[0],))
            writer.execute(
                "insert or ignore into posts(uri, cid, did, text, created_at, indexed_at)"
                " values ('at://x', '', '', 'cats', '', '')"
            )

        options: dict[str, Any] = {"match": "cats", "since_export": [first.directory], "snapshot": snapshot}
        with on_reached("held" if snapshot == "pin" else "copying", write):
            assert uris(exported_bytes(archive, tmp_path / "out.json", workers=workers, **options)) == before
    assert uris(exported_bytes(archive, tmp_path / "out.json", match="cats")) == [*before[1:], "at://x"]


def test_room_for_what_is_found(tmp_path: Path, small_disk: Callable[[int, str], None]) -> None:
    """Room is needed for the posts that are found, not for all."""
    rows = [post(number, text="cats" if number < 10 else "dogs") for number in range(2000)]
    archive = searchable(tmp_path / "a.db", rows)
    small_disk(50_000, "ext4")
    assert len(uris(exported_bytes(archive, tmp_path / "out", match="cats"))) == 10
    for match in ("dogs", None):
        with pytest.raises(OutputError, match="needs"):
            exported_bytes(archive, tmp_path / "out", match=match)
