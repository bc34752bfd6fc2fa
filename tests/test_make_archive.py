"""The maker of archives: what it promises about its output."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import apsw
import pytest

import make_archive
from skyexport.archive.source import Source
from tests.environment import ROOT


def dump(path: Path) -> list[tuple[object, ...]]:
    """Every post as it is stored, in the order in which it was saved."""
    with closing(apsw.Connection(str(path))) as connection:
        return list(connection.execute("select * from posts order by rowid"))


def test_same_seed_gives_the_same_posts(tmp_path: Path) -> None:
    """Two runs with a seed agree in every value, two seeds do not."""
    one, same, other = (tmp_path / name for name in ("one", "same", "other"))
    for path, seed in ((one, 1), (same, 1), (other, 2)):
        make_archive.make_archive(path, posts=500, seed=seed, offset_share=0.1)
    assert dump(one) == dump(same)
    assert dump(one) != dump(other)


def test_stored_as_archives_are(tmp_path: Path) -> None:
    """Times look as Go prints them, embeds and labels are BLOBs of JSON, the tables are those of the newest schema."""
    info = make_archive.make_archive(tmp_path / "a.db", posts=2000, seed=3)
    with closing(apsw.Connection(str(info.path))) as connection:
        created = [row[0] for row in connection.execute("select created_at from posts")]
        assert all(
            re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d*[1-9])? \+0000 UTC", str(text)) for text in created
        )
        indexed = [row[0] for row in connection.execute("select indexed_at from posts")]
        assert all(re.search(r" \+0000 UTC m=\+\d+\.\d+$", str(text)) for text in indexed)
        kinds = {row[0] for row in connection.execute("select distinct embed_type from posts")}
        assert kinds == {"", "images", "external", "record", "record_with_media"}
        assert connection.execute("select distinct typeof(embed_data), typeof(labels) from posts").get == (
            "blob",
            "blob",
        )
        assert connection.execute("select count(*) from posts where not json_valid(cast(embed_data as text))").get == 0
        assert connection.execute("select max(version) from schema_version").get == 3


def test_for_reading(tmp_path: Path) -> None:
    """Ten years with threads, answers, quotes, links, mentions, tags, images that can be seen, and several profiles."""
    info = make_archive.make_archive(tmp_path / "a.db", posts=2000, seed=3, reading=True, media=True)
    make_archive.make_archive(tmp_path / "b.db", posts=2000, seed=3, reading=True)
    assert dump(tmp_path / "a.db") == dump(tmp_path / "b.db")
    with closing(apsw.Connection(str(info.path))) as connection:

        def count(condition: str) -> int:
            found = connection.execute(f"select count(*) from posts where {condition}").get
            assert isinstance(found, int)
            return found

        assert connection.execute("select min(created_at) < '2016', max(created_at) > '2025' from posts").get == (1, 1)
        assert count("reply_parent in (select uri from posts)") > 100
        assert count("reply_parent <> '' and reply_parent not in (select uri from posts)") > 100
        parents = "select 1 from posts p where p.uri = posts.reply_parent"
        assert count(f"exists ({parents} and p.did = posts.did and p.reply_parent <> '')") > 50
        assert count(f"exists ({parents} and p.created_at >= posts.created_at)") == 0
        for kind in ("images", "external", "record", "record_with_media", "video"):
            assert count(f"embed_type = '{kind}' and json_valid(embed_data)") > 20
        for part in ("https://", "@ada.example.com", "#日記", "blog.example.com/"):
            assert count(f"text like '%{part}%'") > 20
        handles = connection.execute("select did, count(distinct handle) from profiles group by did").fetchall()
        assert (len(handles), max(int(str(number)) for _, number in handles)) == (5, 2)
        media = connection.execute("select file_path, hash from media").fetchall()
    missing = [path for path, _ in media if not (tmp_path / str(path)).exists()]
    assert len(missing) == 2
    picture = next(tmp_path.glob("media/*/*/*.png")).read_bytes()
    assert hashlib.sha256(picture).hexdigest() in {sha256 for _, sha256 in media}
    assert picture.startswith(b"\x89PNG")


def test_options(tmp_path: Path) -> None:
    """Each option does what its help says."""
    path = tmp_path / "a.db"
    info = make_archive.make_archive(
        path, posts=1000, seed=1, authors=5, wal=True, offset_share=0.5, index=False, big_post_bytes=100_001,
        media=True, ties=300, schema_version=2,
    )  # fmt: skip
    assert Source.of(path).wal
    assert info.posts == 1001
    assert info.media_files == len(list((tmp_path / "media").rglob("*.jpg"))) > 0
    with closing(apsw.Connection(str(path))) as connection:
        assert connection.execute("select count(distinct did) from posts").get == 5
        assert connection.execute("select max(octet_length(text)) from posts").get == 100_001
        assert connection.execute("select count(*) from posts group by created_at order by 1 desc limit 1").get == 300
        offsets = connection.execute("select count(*) from posts where created_at not like '%+0000 UTC'").get
        assert 200 < int(str(offsets)) < 500
        assert connection.execute("select count(*) from sqlite_schema where name = 'idx_posts_created_at'").get == 0
        assert connection.execute("select count(*) from sqlite_schema where name = 'exports'").get == 0
        for file_path, size, digest in connection.execute("select file_path, size_bytes, hash from media").fetchall():
            file = tmp_path / str(file_path)
            if file.exists():
                assert (file.stat().st_size, hashlib.sha256(file.read_bytes()).hexdigest()) == (size, digest)


@pytest.mark.parametrize("options", [["--posts", "-1"], ["--posts", "1", "--offset-share", "2"], ["--nonsense"], []])
def test_wrong_usage(tmp_path: Path, options: list[str]) -> None:
    """Wrong values are usage errors, and leave nothing."""
    program = [sys.executable, str(ROOT / "tools" / "make_archive.py"), str(tmp_path / "a.db")]
    done = subprocess.run([*program, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert not list(tmp_path.iterdir())


def test_an_archive_that_exists_is_kept(tmp_path: Path) -> None:
    """Only --force replaces a file."""
    path = tmp_path / "a.db"
    path.write_text("mine")
    with pytest.raises(FileExistsError):
        make_archive.make_archive(path, posts=1)
    assert path.read_text() == "mine"
    assert make_archive.make_archive(path, posts=1, force=True).posts == 1
