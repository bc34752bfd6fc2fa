"""Whole exports as pages: which post is where, links, bad input, selections, media, options, failures."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import make_archive
from skyexport import ExportOptions, VerifyError, dry_run, verify
from skyexport.errors import OptionError
from skyexport.options.export_options import resolve
from skyexport.pages.addresses import anchor_of
from tests.archives import Cell, RawText, Row, file_archive, post, run_sql, searchable
from tests.command import PROGRAM, files_below, skyexport, skyexport_json, started, wait_for_output
from tests.media_files import add_media, cid_of, images, name_of
from tests.pages.html_exports import DID, HtmlExport, at, directory_of, pages_of, reply, summary_of, uri

OTHER = "did:plc:other"


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive to be read: several authors, threads, quotes, media."""
    path = tmp_path_factory.mktemp("reading") / "reading.db"
    make_archive.make_archive(path, posts=300, reading=True, media=True)
    return path


@pytest.fixture(scope="module")
def exported(reading: Path, tmp_path_factory: pytest.TempPathFactory) -> HtmlExport:
    """Its export."""
    return pages_of(reading, tmp_path_factory.mktemp("exported"), media=True)


def test_all_links_and_anchors(exported: HtmlExport) -> None:
    """Every address leads to a file of the export, and to an id there, or to the web."""
    assert exported.check_links() > 150
    assert len(exported.posts()) == 300
    assert len(set(exported.anchors())) == 300
    assert sum("thread-" in path for path in exported.pages) > 10


def test_the_same_bytes(reading: Path, exported: HtmlExport, tmp_path: Path) -> None:
    """Neither workers, nor how the archive is held, nor its indexes change a byte."""
    expected = {name: digest for name, digest in exported.digests().items() if not name.startswith("media")}
    unindexed = tmp_path / "unindexed.db"
    shutil.copy(reading, unindexed)
    run_sql(unindexed, "drop index idx_posts_created_at")
    wal = tmp_path / "wal.db"
    shutil.copy(reading, wal)
    run_sql(wal, "pragma journal_mode = wal")
    without_key = tmp_path / "without_key.db"
    shutil.copy(reading, without_key)
    run_sql(without_key, "create table p as select * from posts", "drop table posts", "alter table p rename to posts")
    plain = pages_of(reading, tmp_path / "plain")
    ways: tuple[tuple[Path, dict[str, Any]], ...] = (
        (reading, {"workers": 1}), (reading, {"workers": 2}), (reading, {"snapshot": "copy"}),
        (unindexed, {}), (wal, {"workers": 2}), (without_key, {"workers": 1}),
    )  # fmt: skip
    for number, (archive, options) in enumerate(ways):
        assert pages_of(archive, tmp_path / str(number), **options).digests() == plain.digests(), options
    # Media change only what shows them.
    assert set(plain.digests()) == set(expected)


def test_pages_of_a_month(tmp_path: Path) -> None:
    """Months in UTC, oldest first; a page ends at 200 posts, or before texts and embeds pass 64 KB."""
    rows = [at(n, f"2024-05-{1 + n // 20:02} 10:{n % 20:02}:00") for n in range(450)]
    rows += [at(1000 + n, f"2024-06-01 10:00:{n:02}", text="x" * 19_000) for n in range(7)]
    rows.append(post(2000, created_at="2024-07-01 00:30:00 +0900 +0900"))
    found = pages_of(file_archive(tmp_path / "a.db", reversed(rows)), tmp_path / "out")
    assert {path: len(page.articles) for path, page in found.pages.items() if path[0] == "2"} == {
        "2024/05/1.html": 200, "2024/05/2.html": 200, "2024/05/3.html": 50,
        "2024/06/1.html": 3, "2024/06/2.html": 3, "2024/06/3.html": 2,
    }  # fmt: skip
    assert found.anchors()[:450] == [f"{n:08}" for n in range(450)]
    assert "30 June 2024, 15:30 UTC" in found.post("00002000").text


def test_a_grown_archive(tmp_path: Path) -> None:
    """Posts that come later change the last page of their month, and what lists posts, but no page before."""
    rows = [at(n, f"2024-05-{1 + n // 20:02} 10:{n % 20:02}:00") for n in range(250)]
    before = pages_of(file_archive(tmp_path / "a.db", rows), tmp_path / "before").digests()
    rows += [at(n, "2024-05-30 10:00:00") for n in range(250, 300)] + [
        at(n, "2024-06-30 10:00:00") for n in range(300, 310)
    ]
    after = pages_of(file_archive(tmp_path / "b.db", rows), tmp_path / "after").digests()
    changed = {path for path, digest in before.items() if after[path] != digest and not path.startswith("search/")}
    assert changed == {"2024/05/2.html", "index.html"}
    assert {path for path in after.keys() - before.keys() if path.endswith("html")} == {"2024/06/1.html"}


def test_threads(tmp_path: Path) -> None:
    """Posts by which an author goes on are a page of their own; circles and answers to later posts do no harm."""
    rows = [at(0, "2024-05-01 10:00:00", text="It begins")]
    rows += [reply(n, f"2024-05-01 10:{n:02}:00", uri(n - 1)) for n in range(1, 5)]
    rows += [reply(5, "2024-06-01 10:00:00", uri(1), text="A branch")]
    rows += [reply(6, "2024-05-03 10:00:00", uri(7)), reply(7, "2024-05-03 11:00:00", uri(6))]
    rows += [
        reply(8, "2024-05-04 10:00:00", uri(8)),
        reply(9, "2024-05-05 10:00:00", uri(10)),
        at(10, "2024-05-06 10:00:00"),
    ]
    rows += [reply(11, "2024-05-07 10:00:00", uri(99)), reply(12, "2024-05-08 10:00:00", "at://did:plc:b/x.y.z/1")]
    found = pages_of(file_archive(tmp_path / "a.db", rows), tmp_path / "out")
    threads = {path: [a.anchor for a in page.articles] for path, page in found.pages.items() if "thread" in path}
    assert threads == {
        "2024/05/thread-00000000.html": [f"{n:08}" for n in range(6)],
        "2024/05/thread-00000010.html": ["00000009", "00000010"],
    }
    assert "In reply to a post: It begins" in found.post("00000001").text
    assert "thread-00000000.html#00000005" in " ".join(found.post("00000005").links)
    assert "https://bsky.app/profile/did:plc:abc/post/00000099" in found.post("00000011").links
    assert "not in this export" in found.post("00000011").text


def test_a_long_thread(tmp_path: Path) -> None:
    """A thread of more posts than a page takes goes on on other pages."""
    rows = [at(0, "2024-05-01 00:00:00")]
    rows += [reply(n, f"2024-05-{1 + n // 60:02} 10:{n % 60:02}:00", uri(n - 1)) for n in range(1, 450)]
    found = pages_of(file_archive(tmp_path / "a.db", rows), tmp_path / "out")
    names = ["2024/05/thread-00000000.html", "2024/05/thread-00000000.2.html", "2024/05/thread-00000000.3.html"]
    assert [len(found.pages[name].articles) for name in names] == [200, 200, 50]
    assert "thread-00000000.2.html" in " ".join(found.pages[names[0]].links)
    assert "thread-00000000.3.html#00000449" in " ".join(found.post("00000449").links)


def test_several_authors(tmp_path: Path) -> None:
    """Each author has a folder; the first page lists them, most posts first; names are those of the latest profile."""
    rows = [at(n, "2024-05-01 10:00:00") for n in range(3)]
    rows += [at(n, "2024-05-02 10:00:00", did=OTHER, uri=uri(n, OTHER), reply_parent=uri(0)) for n in range(2)]
    archive = file_archive(tmp_path / "a.db", rows)
    run_sql(
        archive,
        "insert into profiles (did, handle, display_name, snapshot_at)"
        f" values ('{OTHER}', 'old.example', 'Old', '2020-01-01')",
        f"insert into profiles (did, handle, display_name, description, snapshot_at)"
        f" values ('{OTHER}', 'new.example', 'New <b>', 'About https://me.example', '2024-01-01')",
    )
    found = pages_of(archive, tmp_path / "out")
    assert "authors/did_3aplc_3aother/2024/05/1.html" in found.pages
    assert found.pages["index.html"].text.index("did:plc:abc") < found.pages["index.html"].text.index("New <b>")
    other = found.pages["authors/did_3aplc_3aother/index.html"]
    assert "@new.example" in other.text
    assert "before: @old.example" in other.text
    assert "https://me.example" in other.links
    assert "../../../../authors/did_3aplc_3aabc/2024/05/1.html#00000000" in " ".join(
        found.pages["authors/did_3aplc_3aother/2024/05/1.html"].links
    )


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        ({"author": DID}, [0, 1, 2]), ({"since": "2024-05-02"}, [1, 2, 3]), ({"until": "2024-05-02"}, [0, 1]),
        ({"limit": 2}, [2, 3]), ({"match": "dogs"}, [1, 3]),
        ({"snapshot": "copy", "author": DID, "since": "2024-05-02"}, [1, 2]),
    ],
)  # fmt: skip
def test_selections(options: dict[str, Any], numbers: list[int], tmp_path: Path) -> None:
    """Only selected posts are there; links to others lead to bsky.app."""
    rows = [at(0, "2024-05-01 10:00:00", text="cats")]
    rows += [
        reply(n, f"2024-05-{n + 1:02} 10:00:00", uri(n - 1), text="dogs" if n % 2 else "cats") for n in range(1, 4)
    ]
    rows[3] |= {"did": OTHER, "uri": uri(3, OTHER)}
    found = pages_of(searchable(tmp_path / "a.db", rows), tmp_path / "out", **options)
    assert sorted(map(int, found.anchors())) == numbers
    for number in numbers:
        links = " ".join(found.post(f"{number:08}").links)
        if number and number - 1 not in numbers:
            assert f"https://bsky.app/profile/{DID}/post/{number - 1:08}" in links


def test_odd_posts(tmp_path: Path) -> None:
    """Posts of any content are shown, each under its own anchor, and counted if they cannot be shown as stored."""
    odd = RawText(b"\xff\xfe<b>&")
    rows: list[Row] = [
        post(0, text=None, embed_data=None, labels=None, reply_parent=None), post(1, text=""),
        post(2, created_at="soon"),
        post(3, created_at=b"\x00"), post(4, created_at=12), post(5, text=17, like_count="many", has_media="x"),
        post(6, uri=RawText(b"at://did:plc:abc/app.bsky.feed.post/\xff")),
        post(7, uri=RawText(b"at://did:plc:abc/app.bsky.feed.post/\xfe")),
        post(8, uri="x" * 10_000), post(9, uri="x" * 10_001), post(10, uri=uri(10, "did:plc:b")), post(11, uri=uri(10)),
        post(12, text=odd, embed_data=odd, labels=odd, reply_parent=odd),
        post(13, created_at="9999-12-31 23:59:59 -2300"), post(14, created_at="0000-01-01 00:00:00 +0000 UTC"),
        post(15, embed_data=b"[" * 5000), post(16, labels=b'[{"val":"porn"}]'),
    ]  # fmt: skip
    archive = file_archive(tmp_path / "a.db", rows)
    summary = summary_of(archive, tmp_path / "out")
    found = HtmlExport.of(directory_of(summary))
    found.check_links()
    assert len(set(found.anchors())) == len(rows)
    assert anchor_of(b"at://did:plc:abc/app.bsky.feed.post/\xff", DID.encode(), 7) in found.anchors()
    assert len([path for path, _ in found.posts() if path.startswith("undated/")]) == 3
    assert {"0000/01/1.html", "1970/01/1.html"} <= set(found.pages)
    assert summary.warnings.keys() >= {"invalid_utf8", "unreadable_time", "unreadable_json"}
    assert "Labelled porn" in found.post("00000016").text
    assert verify(found.directory).posts == len(rows)


def test_odd_authors(tmp_path: Path) -> None:
    """DIDs that are not valid, or differ only in bytes that are not UTF-8, get folders of their own."""
    dids: tuple[Cell, ...] = (
        "",
        "..",
        "did:plc:A",
        "did:plc:a",
        "a/b",
        RawText(b"\xff"),
        RawText(b"\xfe"),
        "x" * 3000,
        "did:plc:" + "y" * 240,
    )
    rows = [post(number, did=did, uri=f"at://x/app.bsky.feed.post/{number}") for number, did in enumerate(dids)]
    found = pages_of(file_archive(tmp_path / "a.db", rows), tmp_path / "out")
    assert len({path for path, _ in found.posts()}) == len(dids)
    assert verify(found.directory).posts == len(dids)


def test_many_authors(tmp_path: Path) -> None:
    """Hundreds of authors are listed, and each has pages."""
    rows = [post(n, did=f"did:plc:a{n}", uri=uri(n, f"did:plc:a{n}")) for n in range(120)]
    found = pages_of(file_archive(tmp_path / "a.db", rows), tmp_path / "out")
    assert "120 authors" in found.pages["index.html"].text
    assert len(found.pages) == 242


def test_large_values(tmp_path: Path) -> None:
    """A text that is too large is cut, and a file has all of it; so is an embed."""
    text = "Wörter " * 700_000
    embed = b'{"a":"' + b"x" * 3_000_000 + b'"}'
    rows = [post(0, text=text, embed_data=embed), post(1, did="did:plc:abc", text="é" * 10_001, reply_parent=uri(0))]
    found = pages_of(file_archive(tmp_path / "a.db", rows), tmp_path / "out")
    assert "This text is cut" in found.post("00000000").text
    assert len(found.post("00000000").text) < 25_000
    for name, content in (
        ("00000000.txt", text.encode()),
        ("00000000-embed.txt", embed),
        ("00000001.txt", ("é" * 10_001).encode()),
    ):
        assert (found.directory / "texts" / name).read_bytes() == b"\xef\xbb\xbf" + content
    assert "\ufffd" not in found.post("00000001").text
    assert verify(found.directory).posts == 2


def test_an_empty_archive(tmp_path: Path) -> None:
    """An export without posts has a first page that says so."""
    found = pages_of(file_archive(tmp_path / "a.db", []), tmp_path / "out")
    assert set(found.pages) == {"index.html", "search.html"}
    assert "No posts" in found.pages["index.html"].text
    assert verify(found.directory).posts == 0


def test_tables_that_are_missing(tmp_path: Path) -> None:
    """Without profiles and sessions, or with other columns, authors have no names."""
    archive = file_archive(tmp_path / "a.db", [post(0)])
    run_sql(archive, "drop table profiles", "create table profiles (did text, display_name blob)")
    run_sql(archive, f"insert into profiles values ('{DID}', x'ff00')", "drop table if exists sessions")
    assert pages_of(archive, tmp_path / "out").anchors() == ["00000000"]
    run_sql(archive, "drop table profiles", f"create view profiles as select '{DID}' as did, 'evil.example' as handle")
    assert "evil" not in pages_of(archive, tmp_path / "view").pages["index.html"].text


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"to": "posts"}, "--to writes one file, and html is a folder of pages: posts"),
        ({"split_posts": 5}, "html splits its pages by itself"),
        ({"split_bytes": 500}, "html splits its pages by itself"),
        ({"columns": ["text"]}, "--columns is not for html: pages show all that a post has"),
        ({"compress": "gzip"}, "--compress is not for html: browsers open pages as they are"),
        ({"since_export": ["x"]}, "--since-export is not for html: pages of new posts alone would lack their context"),
        ({"since_last": True}, "--since-last is not for html: pages of new posts alone would lack their context"),
        ({"register": True, "author": DID}, "bskyarchive cannot list exports in the format html"),
        ({"csv_safe": True}, "--csv-safe is not for html"),
    ],
)
def test_options_for_data_files(options: dict[str, Any], problem: str) -> None:
    """Options that pages cannot have are one line each."""
    with pytest.raises(OptionError) as caught:
        resolve(ExportOptions(archive="a.db", format="html", **options))
    assert caught.value.message == problem
    assert caught.value.hint


def test_a_file_named_like_a_page(tmp_path: Path) -> None:
    """--to with the name of a page says what to do instead."""
    done = skyexport("export", file_archive(tmp_path / "a.db", [post(0)]), "--to", tmp_path / "posts.html")
    assert done.returncode == 2
    assert done.stderr == (
        f"skyexport: --to writes one file, and html is a folder of pages: {tmp_path / 'posts.html'};"
        " use -f html, and -o for its place\n"
    )


def test_media(tmp_path: Path) -> None:
    """Images that the export has are shown; those that are missing are links; SVG is neither."""
    archive_dir = tmp_path / "in"
    archive_dir.mkdir()
    there, missing, drawing = b"\x89PNG there", b"\x89PNG missing", b"<svg onload='x'/>"
    rows = [post(n, has_media=1, embed_data=images(cid_of(c))) for n, c in enumerate((there, missing, drawing))]
    archive = file_archive(archive_dir / "a.db", rows)
    add_media(archive, there, 0)
    add_media(archive, missing, 1, there=False)
    file = add_media(archive, drawing, 2)
    file.rename(file.with_suffix(".svg"))
    run_sql(archive, "update media set file_path = replace(file_path, '.jpg', '.svg') where post_uri like '%2'")
    summary = summary_of(archive, tmp_path / "out", media=True)
    found = HtmlExport.of(directory_of(summary))
    found.check_links()
    page = found.pages["2024/05/1.html"]
    assert [name for name in page.loads if "media" in name] == [f"../../media/{name_of(there)}"]
    assert "Image on the web" in found.post("00000001").text
    assert ".svg" not in " ".join(page.links + page.loads)
    assert summary.media_files == 2
    assert verify(found.directory).media_files == 2
    done = subprocess.run(
        ["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=found.directory, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, b"")
    linked = summary_of(archive, tmp_path / "again", media=True, link_media=found.directory)
    assert linked.media is not None
    assert linked.media.linked == 2


def test_claims(tmp_path: Path) -> None:
    """The manifest has number and bytes of the files of pages, SHA256SUMS a line for each."""
    archive = file_archive(tmp_path / "a.db", [post(0), post(1)])
    result = skyexport_json("export", archive, "-f", "html", "-o", tmp_path / "out")
    directory = Path(result["directory"])
    manifest = json.loads((directory / "manifest.json").read_bytes())
    files = [
        path for path in directory.rglob("*") if path.is_file() and path.name not in ("manifest.json", "SHA256SUMS")
    ]
    assert manifest["pages"] == {"files": len(files), "bytes": sum(path.stat().st_size for path in files)}
    assert (manifest["export_format"], manifest["post_count"], manifest["checksums"]) == ("html", 2, [])
    sums = (directory / "SHA256SUMS").read_text().splitlines()
    listed = [line[66:] for line in sums]
    assert listed == ["manifest.json", *sorted(path.relative_to(directory).as_posix() for path in files)]
    assert (result["posts"], result["data_files"], result["bytes"]) == (2, len(files), manifest["pages"]["bytes"])
    assert result["path"] == str(directory / "index.html")


def test_changes_are_found(tmp_path: Path) -> None:
    """verify finds a changed page, and one that is gone."""
    found = pages_of(file_archive(tmp_path / "a.db", [post(0)]), tmp_path / "out")
    page = found.directory / "2024/05/1.html"
    page.write_bytes(page.read_bytes().replace(b"Hello", b"Hallo"))
    (found.directory / "search.html").unlink()
    with pytest.raises(VerifyError) as caught:
        verify(found.directory)
    assert {difference.file for difference in caught.value.differences} == {"2024/05/1.html", "search.html"}


def test_keep(tmp_path: Path) -> None:
    """--keep removes older exports as pages, but not one with a file too many."""
    archive = file_archive(tmp_path / "a.db", [post(0)])
    first, second = (directory_of(summary_of(archive, tmp_path / "out")) for _ in range(2))
    (first / "2024" / "mine.txt").write_text("keep me")
    summary = summary_of(archive, tmp_path / "out", keep=1)
    assert summary.removed == [second]
    assert first.exists()


def test_dry_run_and_estimates(reading: Path, exported: HtmlExport, tmp_path: Path) -> None:
    """A dry run writes nothing, and expects about the bytes that an export has; inspect says so too."""
    bytes_there = sum(
        path.stat().st_size for path in exported.directory.rglob("*") if path.suffix in (".html", ".js", ".css")
    )
    found = dry_run(ExportOptions(archive=reading, format="html", output_dir=tmp_path / "out", workers=0))
    assert 0.5 < found.expected_bytes / bytes_there < 1.5
    assert not (tmp_path / "out").exists()
    assert skyexport_json("inspect", reading)["expected_bytes"]["html"] == found.expected_bytes


def test_a_signal_while_pages_are_written(tmp_path: Path) -> None:
    """Ctrl-C leaves nothing behind."""
    archive = tmp_path / "a.db"
    make_archive.make_archive(archive, posts=6000, reading=True)
    with started("export", archive, "-f", "html", "-o", tmp_path / "out", "-j", "1") as process:
        wait_for_output(tmp_path / "out", "all/.*/**/*.html")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 130, errors
    assert not (tmp_path / "out").exists()


def test_a_full_disk(tmp_path: Path) -> None:
    """A file that cannot be written ends the export with one line, and nothing stays."""
    archive = file_archive(
        tmp_path / "a.db", [post(n, created_at=f"20{n % 90:02}-01-01 00:00:00 +0000 UTC") for n in range(300)]
    )
    done = subprocess.run(
        ["bash", "-c", 'ulimit -f 2; trap "" XFSZ; exec "$@"', "-", *PROGRAM, "export", str(archive), "-f", "html",
         "-o", str(tmp_path / "out"), "-j", "0"], capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 12, done.stderr
    assert "Traceback" not in done.stderr
    assert files_below(tmp_path / "out") == [] if (tmp_path / "out").exists() else True


HOSTILE = st.text() | st.sampled_from(
    ["<script>alert(1)</script>", "]]>", "-->", "javascript:alert(1)", "&lt;", '"', "'", "https://a.example/\u202e<"]
)


@st.composite
def hostile_posts(draw: st.DrawFn) -> Row:
    """The cells of a post by somebody who means harm."""
    text, uri, title, label, did, parent = (
        draw(HOSTILE).encode("utf-8", "replace").decode().replace("\0", "") for _ in range(6)
    )
    card = {"title": title, "uri": uri, "description": text, "thumb": uri}
    return {
        "text": text, "reply_parent": parent, "did": did, "labels": json.dumps([{"val": label}]),
        "created_at": draw(st.sampled_from(["2024-05-22 18:57:38 +0000 UTC", text])),
        "embed_data": json.dumps({"external": card, "record": {"uri": uri, "value": {"text": title}}}),
    }  # fmt: skip


@settings(max_examples=15, deadline=None)
@given(cells=st.lists(hostile_posts(), min_size=1, max_size=4))
def test_any_posts(cells: list[Row], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever posts contain, all of them are shown, all links resolve, and verify reads the pages."""
    place = tmp_path_factory.mktemp("any")
    rows = [post(number, **row) for number, row in enumerate(cells)]
    found = pages_of(file_archive(place / "a.db", rows), place / "out")
    assert len(found.posts()) == len(rows)
    assert verify(found.directory).posts == len(rows)
    for page in found.pages.values():
        assert not [link for link in page.links if link.lower().startswith(("javascript", "data", "vbscript"))]


def test_without_jinja2(tmp_path: Path) -> None:
    """Without the extra, one line says how to get it."""
    package = tmp_path / "elsewhere" / "jinja2"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ModuleNotFoundError(\"No module named 'jinja2'\", name='jinja2')\n")
    archive = file_archive(tmp_path / "a.db", [post(0)])
    for options in ((), ("--dry-run",)):
        done = skyexport(
            "export", archive, "-f", "html", "-o", tmp_path / "out", *options, env={"PYTHONPATH": str(package.parent)}
        )
        assert done.returncode == 5
        assert done.stderr == (
            "skyexport: html needs Jinja2, which is not installed;"
            " pip install 'skyexport[html]', or pipx inject skyexport jinja2\n"
        )
    assert not (tmp_path / "out").exists()
