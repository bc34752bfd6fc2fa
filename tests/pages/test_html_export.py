"""Whole exports as pages, compared with what the archive has: order, threads, answers, quotes, search, odd archives."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin

import apsw
import pytest

import make_archive
from skyexport import VerifyError, verify
from skyexport.pages.search_index import documents_of, table_of
from tests.archives import RawText, Row, file_archive, post, run_sql
from tests.car_files import DID as CAR_DID
from tests.car_files import Repository, tid
from tests.command import skyexport, started, wait_for_output
from tests.conftest import posix_only
from tests.exports import exported_bytes
from tests.media_files import add_media, cid_of, images, name_of
from tests.pages.html_exports import DID, HtmlExport, at, directory_of, pages_of, reply, summary_of, uri

WITHOUT_KEY = ("create table p as select * from posts", "drop table posts", "alter table p rename to posts")
"""Makes an archive whose uris have no index, and may be missing, or be there twice."""

LONG_TEXT = "x" * 30_000
"""Gets a file of its own."""


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive to be read: several authors, threads, quotes."""
    path = tmp_path_factory.mktemp("reading") / "reading.db"
    make_archive.make_archive(path, posts=500, seed=4, reading=True)
    return path


@pytest.fixture(scope="module")
def exported(reading: Path, tmp_path_factory: pytest.TempPathFactory) -> HtmlExport:
    """Its export."""
    return pages_of(reading, tmp_path_factory.mktemp("exported"))


def key_of(uri: str) -> str:
    """The record key of a post."""
    return uri.rpartition("/")[2]


def stored(archive: Path, columns: str) -> list[Any]:
    """Columns of all posts."""
    with contextlib.closing(apsw.Connection(str(archive))) as connection:
        return connection.execute(f"select {columns} from posts order by rowid").fetchall()


def in_order(found: HtmlExport) -> list[str]:
    """Paths of the pages of months, by author and number: undated ones come first."""

    def place(path: str) -> tuple[str, str, int]:
        author, month, number = re.fullmatch(r"(.*?)(\d{4}/\d\d|undated)/(\d+)\.html", path).groups()  # type: ignore[union-attr]
        return author, "" if month == "undated" else month, int(number)

    return sorted({path for path, _ in found.posts()}, key=place)


def targets(found: HtmlExport, path: str, anchor: str) -> set[str]:
    """Anchors of other posts to which a post on this page has links."""
    (article,) = [article for article in found.pages[path].articles if article.anchor == anchor]
    addresses = [urldefrag(urljoin(path, link)) for link in article.links if "://" not in link]
    return {unquote(fragment) for _, fragment in addresses} - {anchor}


def test_every_post_is_there_once_oldest_first(small_archive: make_archive.ArchiveInfo, tmp_path: Path) -> None:
    """Each author has the posts that JSON has of them, by instant and uri, on pages of their months."""
    found = pages_of(small_archive.path, tmp_path / "out")
    expected: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for row in json.loads(exported_bytes(small_archive.path, tmp_path / "posts.json", workers=0)):
        expected[row["did"]].append((row["created_at"], row["uri"]))
    instants = dict(stored(small_archive.path, "uri, created_at"))
    assert any("+0000" not in str(time) for time in instants.values())
    anchors: dict[str, list[str]] = defaultdict(list)
    for path in in_order(found):
        month = path.rpartition("authors/")[2].partition("/")[2].rpartition("/")[0].replace("/", "-")
        page = (found.directory / path).read_text()
        times = re.findall(r'<a class="time"[^>]*><time datetime="([^"]*)"', page)
        assert len(times) == len(found.pages[path].articles)
        assert all(time.startswith(month) for time in times)
        assert [time.rstrip("Z") for time in times] == sorted(time.rstrip("Z") for time in times)
        anchors[path.split("/")[1]] += [article.anchor for article in found.pages[path].articles]
    assert sorted(map(sorted, anchors.values())) == sorted(
        sorted(key_of(uri) for _, uri in posts) for posts in expected.values()
    )
    manifest = json.loads((found.directory / "manifest.json").read_bytes())
    assert manifest["post_count"] == len(found.posts()) == len(instants) == 2500


def test_one_may_leaf_through(exported: HtmlExport) -> None:
    """The links to next pages lead through all pages of each author, in order; those to previous ones back."""
    pages = defaultdict(list)
    for path in in_order(exported):
        pages[path.partition("/2")[0]].append(path)
    assert sum(map(len, pages.values())) > 100
    for paths in pages.values():
        for rel, order in (("next", paths), ("prev", paths[::-1])):
            place: str | None = order[0]
            for path in order:
                assert place == path
                page = (exported.directory / path).read_text()
                links = set(re.findall(rf'rel="{rel}" href="([^"]*)"', page))
                assert len(links) == (path != order[-1])
                place = urljoin(path, links.pop()) if links else None


def test_answers_and_quotes(reading: Path, exported: HtmlExport) -> None:
    """Each post links to the post that it answers and the one that it quotes, here where it is, else on bsky.app."""
    rows = stored(reading, "uri, did, reply_parent, cast(embed_data as text)")
    here = {row[0] for row in rows}
    pages = {article.anchor: (path, article) for path, article in exported.posts()}
    counted = dict.fromkeys(("answer here", "answer elsewhere", "quote here", "quote elsewhere"), 0)
    for own, _, parent, embed in rows:
        path, article = pages[key_of(own)]
        record = (json.loads(embed) or {}).get("record") or {}
        for kind, other in (("answer", parent), ("quote", (record.get("record") or record).get("uri"))):
            if not other or "/app.bsky.feed.post/" not in other:
                continue
            if other in here:
                assert key_of(other) in targets(exported, path, article.anchor) | {article.anchor}
            else:
                did, _, key = other.removeprefix("at://").partition("/app.bsky.feed.post/")
                assert f"https://bsky.app/profile/{did}/post/{key}" in article.links
            counted[f"{kind} {'here' if other in here else 'elsewhere'}"] += 1
    assert min(counted.values()) > 5, counted


def test_threads_are_what_an_author_goes_on_with(reading: Path, exported: HtmlExport) -> None:
    """Pages of threads have exactly the posts that are joined by answers of an author to themselves, oldest first."""
    rows = {row[0]: row for row in stored(reading, "uri, did, reply_parent, created_at")}
    parents = {
        own: parent for own, did, parent, _ in rows.values() if parent in rows and rows[parent][1] == did
    }  # fmt: skip
    threads: dict[str, set[str]] = defaultdict(set)
    for own in parents:
        root = own
        while root in parents:
            root = parents[root]
        threads[key_of(root)] |= {key_of(root), key_of(own)}
    found: dict[str, list[str]] = {}
    for path, page in exported.pages.items():
        name = PurePosixPath(path).name
        if name.startswith("thread-"):
            found[page.articles[0].anchor] = [article.anchor for article in page.articles]
            assert name == f"thread-{page.articles[0].anchor}.html"
            assert all(article.again for article in page.articles)
    assert {root: set(anchors) for root, anchors in found.items()} == threads
    assert len(threads) > 20
    times = {key_of(own): row[3] for own, row in rows.items()}
    for anchors in found.values():
        assert [times[anchor] for anchor in anchors] == sorted(times[anchor] for anchor in anchors)
    for path, article in exported.posts():
        shown = [link for link in article.links if "/thread-" in link]
        (thread,) = [root for root, keys in threads.items() if article.anchor in keys] or [""]
        expected = [f"thread-{thread}.html#{article.anchor}"] if thread else []
        assert [link.rpartition("/")[2] for link in shown] == expected, path


def test_files_for_search(exported: HtmlExport) -> None:
    """Search has each post once, with its page and anchor, the oldest of the whole export first."""
    documents = [
        document
        for path in sorted((exported.directory / "search").glob("posts-*.js"))
        for document in documents_of(path.read_bytes())
    ]
    assert sorted((document.path, document.anchor) for document in documents) == sorted(
        (path, article.anchor) for path, article in exported.posts()
    )
    times = [document.time.rstrip("Z") for document in documents]
    assert times == sorted(times)
    table = table_of((exported.directory / "search" / "table.js").read_bytes())
    assert table["posts"] == len(documents)
    firsts: dict[str, int] = {}
    for rank, time in enumerate(times):
        firsts.setdefault(time[:7], rank)
    assert [tuple(month) for month in table["months"]] == list(firsts.items())
    names = [name or handle for name, handle in table["authors"]]
    labels = {document.author: document.path.split("/")[1] for document in documents}
    assert len(set(labels.values())) == len(labels) == len(names)


def hostile_rows() -> Iterator[Row]:
    """Posts that would do harm on a page that is not careful."""
    evil = '"><script>document.title="hacked"</script><img src=x onerror=alert(1)> ]]> <!-- \x00\x0b\u2028 &amp; \'\r\n'
    for number in range(8):
        view = {"uri": evil, "title": evil, "description": evil, "thumb": evil}
        person = {"did": evil, "handle": evil, "displayName": evil}
        record = {"uri": evil, "author": person, "value": {"text": evil, "createdAt": evil}}
        embeds: list[object] = [
            {"external": view}, {"record": record}, {"$type": evil}, {"images": [{"alt": evil, "fullsize": evil}]},
            {"external": {**view, "uri": "javascript:alert(1)"}}, {"playlist": evil, "cid": evil, "alt": evil}, evil,
            {"media": {"external": view}, "record": {"record": record}},
        ]  # fmt: skip
        embed = json.dumps(embeds[number]).encode()
        yield at(
            number, f"2024-05-{number + 1:02} 10:00:00", text=evil, embed_data=embed, like_count=evil,
            labels=json.dumps([{"val": evil}] if number % 2 else None).encode(), has_media=1,
            reply_parent=uri(number - 1) if number else evil, did="did:plc:abc" if number < 6 else evil,
        )  # fmt: skip


def hostile_archive(path: Path) -> Path:
    """An archive of these posts; names are no better."""
    archive = file_archive(path, hostile_rows())
    evil = "x'\"></title><script>alert(1)</script>"
    with contextlib.closing(apsw.Connection(str(archive))) as connection:
        connection.execute(
            "insert into profiles (did, handle, display_name, description) values (?, ?, ?, ?)", (DID, evil, evil, evil)
        )
    return archive


def test_pages_are_well_formed_and_safe(tmp_path: Path) -> None:
    """Every page is XML; it has no script and no style of its own, and no address but of the web or of the export."""
    found = pages_of(hostile_archive(tmp_path / "a.db"), tmp_path / "out")
    assert verify(found.directory).posts == 8
    for path in found.pages:
        data = (found.directory / path).read_bytes()
        root = ET.fromstring(data)
        head = next(root.iter("head"))
        assert head[0].attrib == {"charset": "utf-8"}
        assert head[1].attrib["content"].startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        for element in root.iter():
            assert element.tag not in ("style", "base", "iframe", "object", "embed")
            assert not [name for name in element.attrib if name.startswith("on") or name in ("style", "srcdoc")]
            assert element.tag != "script" or not element.text
            address = element.get("href") or element.get("src") or ""
            assert ":" not in address or address.startswith(("https://", "http://")), address
            if address.startswith("http"):
                assert "noopener" in element.attrib["rel"]
                assert "noreferrer" in element.attrib["rel"]


@pytest.mark.parametrize(
    "texts", ["", LONG_TEXT], ids=["short", "with files"],
)  # fmt: skip
@pytest.mark.parametrize(
    ("change", "number"),
    [
        (("update posts set uri = null",), 4),
        (("insert into posts select * from posts",), 8),
        (("update posts set uri = cast(uri as blob), reply_parent = cast(reply_parent as blob)",), 4),
        (("update posts set uri = iif(rowid > 2, null, 'row ' || (5 - rowid)), reply_parent = 'row 4'",), 4),
    ],
    ids=["without", "twice", "as BLOB", "like others"],
)  # fmt: skip
def test_uris_that_do_not_name_one_post(texts: str, change: tuple[str, ...], number: int, tmp_path: Path) -> None:
    """Without uris, or where one stands for two posts, each post has an anchor and files of its own."""
    rows = [at(n, f"2024-05-0{n + 1} 10:00:00", text=f"{n}{texts}") for n in range(4)]
    rows[1] |= {"reply_parent": uri(0), "is_reply": 1}
    archive = file_archive(tmp_path / "a.db", rows)
    run_sql(archive, *WITHOUT_KEY, *change)
    found = pages_of(archive, tmp_path / "out")
    assert len(found.posts()) == len(set(found.anchors())) == number
    assert verify(found.directory).posts == number
    assert pages_of(archive, tmp_path / "copied", snapshot="copy").digests() == found.digests()
    for path, article in found.posts():
        wholes = [link for link in article.links if link.endswith(".txt")]
        assert len(wholes) == bool(texts)
        for link in wholes:
            content = (found.directory / path).parent.joinpath(link).read_text(encoding="utf-8-sig")
            assert content[:100] in article.text


def test_nulls_under_the_key(tmp_path: Path) -> None:
    """SQLite lets keys that are text be NULL, so posts without uri may be in any archive."""
    rows = [post(n, uri=None, text=LONG_TEXT if n else "short") for n in range(4)]
    found = pages_of(file_archive(tmp_path / "a.db", [*rows, post(9, uri="row 2")]), tmp_path / "out")
    assert len(set(found.anchors())) == 5


def test_odd_uris_are_answered_alike(tmp_path: Path) -> None:
    """BLOBs as uris are the uris of nobody, whether the archive has an index of uris or is copied."""
    rows = [post(0), post(1, reply_parent=uri(0).encode()), post(2, uri=uri(2).encode()), post(3, reply_parent=uri(2))]
    archive = file_archive(tmp_path / "a.db", rows)
    without = file_archive(tmp_path / "b.db", rows)
    run_sql(without, *WITHOUT_KEY)
    found = pages_of(archive, tmp_path / "out").digests()
    assert pages_of(archive, tmp_path / "copied", snapshot="copy").digests() == found
    assert pages_of(without, tmp_path / "without").digests() == found


def test_names_of_files_on_any_system(tmp_path: Path) -> None:
    """Keys that differ in case, that Windows reserves, or that are no names: paths differ even if case is ignored."""
    keys = (
        "aB",
        "Ab",
        "ab",
        "con",
        "nul",
        "a.b",
        "..",
        ".",
        "-x",
        "_x",
        "~x",
        "a:b",
        "y" * 512,
        "COM1",
        "a b",
        "*",
        "%",
    )
    rows = []
    for number, key in enumerate(keys):
        own = f"at://{DID}/app.bsky.feed.post/{key}"
        rows += [post(2 * number, uri=own, text=LONG_TEXT), post(2 * number + 1, reply_parent=own)]
    found = pages_of(file_archive(tmp_path / "a.db", rows), tmp_path / "out")
    paths = [path.relative_to(found.directory).as_posix() for path in found.directory.rglob("*")]
    assert len({path.lower() for path in paths}) == len(paths)
    assert all(re.fullmatch(r"[A-Za-z0-9_./-]+", path) and len(path) < 200 for path in paths)
    assert len([path for path in paths if "thread-" in path]) == len(keys)
    assert not [path for path in paths if path.rpartition("/")[2].partition(".")[0] in ("con", "nul", "com1")]


def test_times_at_the_ends(tmp_path: Path) -> None:
    """The first and the last year, with a zone that leads beyond them, are pages like others."""
    times = ("0001-01-01 00:00:00 +0000 UTC", "9999-12-31 23:59:59 +0000 UTC", "9999-12-31 23:59:59 -1200 -1200", "")
    rows = [post(n, created_at=time) for n, time in enumerate(times)]
    found = pages_of(file_archive(tmp_path / "a.db", rows), tmp_path / "out")
    assert {article.anchor: path for path, article in found.posts()} == {
        "00000000": "0001/01/1.html", "00000001": "9999/12/1.html",
        "00000002": "undated/1.html", "00000003": "undated/1.html",
    }  # fmt: skip
    assert "Undated" in found.pages["index.html"].text


def test_many_posts_in_a_month(tmp_path: Path) -> None:
    """3,000 posts of an instant are fifteen pages, in the order of uris."""
    rows = [post(number * 7919 % 3000, text="") for number in range(3000)]
    found = pages_of(file_archive(tmp_path / "a.db", rows), tmp_path / "out")
    paths = [f"2024/05/{number}.html" for number in range(1, 16)]
    assert [a.anchor for path in paths for a in found.pages[path].articles] == [f"{n:08}" for n in range(3000)]
    assert {len(found.pages[path].articles) for path in paths} == {200}


def test_circles(tmp_path: Path) -> None:
    """Posts that answer each other, and what hangs on them, are on their pages, with links to each other."""
    rows = [reply(n, f"2024-05-01 10:0{n}:00", uri(parent)) for n, parent in enumerate((2, 0, 1, 1, 4, 4))]
    found = pages_of(file_archive(tmp_path / "a.db", rows), tmp_path / "out")
    assert found.anchors() == [f"{n:08}" for n in range(6)]
    for number, parent in enumerate((2, 0, 1, 1, 4, 4)):
        anchors = targets(found, "2024/05/1.html", f"{number:08}") | {f"{number:08}"}
        assert f"{parent:08}" in anchors


def test_a_grown_archive_of_several_authors(tmp_path: Path) -> None:
    """A new post in a thread changes its month's last page and the thread, and nothing of another author."""
    rows = [at(n, f"2024-0{1 + n // 40}-0{1 + n % 40 // 10} 10:00:0{n % 10}") for n in range(120)]
    rows += [at(n, "2024-03-05 10:00:00", did="did:plc:b", uri=uri(n, "did:plc:b")) for n in range(3)]
    rows += [reply(200, "2024-03-06 10:00:00", uri(5)), reply(201, "2024-03-07 10:00:00", uri(200))]
    before = pages_of(file_archive(tmp_path / "a.db", rows), tmp_path / "before").digests()
    rows += [reply(202, "2024-04-06 10:00:00", uri(201))]
    after = pages_of(file_archive(tmp_path / "b.db", rows), tmp_path / "after").digests()
    folder = "authors/did_3aplc_3aabc"
    changed = {path for path, digest in before.items() if after.get(path) != digest and not path.startswith("search/")}
    assert changed <= {
        "index.html", f"{folder}/index.html", f"{folder}/2024/01/thread-00000005.html", f"{folder}/2024/03/1.html",
    }  # fmt: skip
    assert set(after) - set(before) == {f"{folder}/2024/04/1.html"}


def test_an_imported_archive(tmp_path: Path) -> None:
    """Nothing is said of numbers that an import cannot know; the profile's name is there."""
    repository = Repository()
    keys = [repository.add(
        {"text": f"Post {n}", "createdAt": f"2024-05-0{n + 1}T10:00:00.000Z"}
        | ({"reply": {"parent": {"uri": f"at://{CAR_DID}/app.bsky.feed.post/{tid(n - 1)}", "cid": "x"}}} if n else {}),
        tid(n),
    ) for n in range(4)]  # fmt: skip
    repository.add({"displayName": "Ann Example", "description": "About me"}, "self", "app.bsky.actor.profile")
    archive = tmp_path / "a.db"
    car = repository.write(tmp_path / "a.car")
    done = skyexport("import", car, "--to", archive, "--handle", "ann.example.com")
    assert done.returncode == 0, done.stderr
    found = pages_of(archive, tmp_path / "out")
    assert found.anchors() == [key_of(key) for key in keys]
    first = found.pages["index.html"].text
    assert "Ann Example" in first
    assert "About me" in first
    assert "Most liked" not in first
    assert not [path for path, page in found.pages.items() if re.search(r"\blikes?\b|\bquotes\b", page.text)]
    assert len([path for path in found.pages if "thread-" in path]) == 1


def test_an_image_twice(tmp_path: Path) -> None:
    """A post that shows an image twice shows its file twice; files that could run are not even copied."""
    place = tmp_path / "in"
    place.mkdir()
    content = b"\x89PNG twice"
    names = [cid_of(content)] * 2
    archive = file_archive(place / "a.db", [post(0, has_media=1, embed_data=images(*names)), post(1, has_media=1)])
    add_media(archive, content, 0)
    page = add_media(archive, b"<script>alert(1)</script>", 1)
    page.rename(page.with_suffix(".html"))
    run_sql(archive, "update media set file_path = replace(file_path, '.jpg', '.html') where post_uri like '%1'")
    found = HtmlExport.of(directory_of(summary_of(archive, tmp_path / "out", media=True)))
    assert [path.name for path in (found.directory / "media").iterdir()] == [name_of(content)]
    assert found.pages["2024/05/1.html"].loads.count(f"../../media/{name_of(content)}") == 2


def test_what_the_command_says(tmp_path: Path) -> None:
    """Numbers of posts and files, and the first page; without posts, too."""
    archive = file_archive(tmp_path / "a.db", [post(n) for n in range(3)])
    done = skyexport("export", archive, "-f", "html", "-o", tmp_path / "out", "-v")
    assert done.returncode == 0
    assert "3 posts to HTML in " in done.stderr + done.stdout
    assert done.stdout.strip().endswith("/index.html") or done.stderr.strip().endswith("/index.html")
    done = skyexport("export", archive, "-f", "html", "-o", tmp_path / "none", "--until", "2020-01-01")
    assert done.returncode == 0
    assert "no post matched" in done.stderr
    assert "HTML file," not in done.stderr  # it is a folder


def test_several_archives(tmp_path: Path) -> None:
    """A list of archives gives a folder of pages each."""
    archives = [file_archive(tmp_path / f"{name}.db", [post(0)]) for name in "ab"]
    done = skyexport("export", *archives, "-f", "html", "-o", tmp_path / "out", timeout=120)
    assert done.returncode == 0, done.stderr
    found = sorted((tmp_path / "out").glob("*/all/*/index.html"))
    assert [path.relative_to(tmp_path / "out").parts[0] for path in found] == ["a", "b"]
    for path in found:
        assert verify(path.parent).posts == 1


def test_strict(tmp_path: Path) -> None:
    """With --strict, a post that cannot be shown as it is stored ends the export, and nothing stays."""
    archive = file_archive(tmp_path / "a.db", [post(0), post(1, text=RawText(b"\xff"))])
    done = skyexport("export", archive, "-f", "html", "-o", tmp_path / "out", "--strict")
    assert done.returncode == 3, done.stderr
    assert not (tmp_path / "out").exists()


def test_too_little_memory(tmp_path: Path) -> None:
    """One line says how much is needed, and that much is enough."""
    archive = file_archive(tmp_path / "a.db", [post(n, text="x" * 2000) for n in range(1000)])
    done = skyexport("export", archive, "-f", "html", "-o", tmp_path / "out", "--memory-limit", "40MB", fresh=True)
    assert (done.returncode, done.stderr.count("\n")) == (13, 1)
    needed = re.search(r"--memory-limit (\S+)", done.stderr)
    assert needed is not None
    done = skyexport("export", archive, "-f", "html", "-o", tmp_path / "out", "--memory-limit", needed[1], fresh=True)
    assert done.returncode == 0, done.stderr


def test_other_files_in_the_folder(tmp_path: Path) -> None:
    """verify names a file that does not belong to an export, and one that stands in for a page."""
    found = pages_of(
        file_archive(tmp_path / "a.db", [post(0), reply(1, "2024-05-23 10:00:00", uri(0))]), tmp_path / "out"
    )
    (found.directory / "2024" / "05" / "2.html").write_text("<html/>")
    thread = found.directory / "2024" / "05" / "thread-00000000.html"
    thread.unlink()
    thread.symlink_to("1.html")
    with pytest.raises(VerifyError) as caught:
        verify(found.directory)
    assert {d.file for d in caught.value.differences} == {"2024/05/2.html", "2024/05/thread-00000000.html"}


@posix_only
@pytest.mark.slow
@pytest.mark.parametrize("pattern", ["all/.*/**/*.html", "all/.*/**/posts-*.js", "all/.*/assets/*"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals(pattern: str, number: signal.Signals, code: int, tmp_path: Path, scratch_folder: Path) -> None:
    """A signal at any stage ends the export within seconds, with workers, and leaves nothing behind."""
    archive = tmp_path / "a.db"
    make_archive.make_archive(archive, posts=8000, reading=True)
    with started("export", archive, "-f", "html", "-o", tmp_path / "out", "-j", "2") as process:
        wait_for_output(tmp_path / "out", pattern)
        process.send_signal(number)
        _, errors = process.communicate(timeout=20)
    if process.returncode == 0:
        pytest.skip("it was done already")
    assert process.returncode == code, errors
    assert not (tmp_path / "out").exists()
    assert list(scratch_folder.iterdir()) == []


def test_the_order_of_rows(reading: Path, exported: HtmlExport, tmp_path: Path) -> None:
    """Times of files, and the order in which rows were stored, do not matter."""
    shuffled = tmp_path / "shuffled.db"
    shutil.copy(reading, shuffled)
    run_sql(
        shuffled, "create table p as select * from posts order by cid", "delete from posts",
        "insert into posts select * from p", "drop table p", "vacuum",
    )  # fmt: skip
    assert stored(shuffled, "uri") != stored(reading, "uri")
    assert pages_of(shuffled, tmp_path / "out", workers=2).digests() == exported.digests()
