"""Verifying HTML exports: whole ones pass, each kind of damage is named, and nothing of a stranger's does harm."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import tracemalloc
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skyexport import OptionError, Progress, VerifyError, verify, verify_all
from skyexport.layout import is_page_path, is_posts_page
from skyexport.runtime.export_directory import is_plain_name
from skyexport.runtime.progress import Counters
from skyexport.verification.previous_media import EarlierMedia
from skyexport.verification.readers.html_page import HtmlPageReader
from skyexport.verification.verifier import read_back
from tests.command import skyexport, skyexport_json
from tests.conftest import posix_only

STEM = "_0123456789abcdef0123456789abcdef"
AUTHOR = "authors/did_3aplc_3aabc"


def page(*ids: str, again: bool = False, body: str = "") -> bytes:
    """A page with these posts."""
    kind = "post again" if again else "post"
    posts = "".join(f'<article class="{kind}" id="{name}"><p>あ &amp; b<br/></p></article>\n' for name in ids)
    head = '<head><meta charset="utf-8"/><title>x</title></head>'
    return f'<!doctype html>\n<html lang="en">{head}<body id="content*">{posts}{body}</body></html>\n'.encode()


PAGES = {
    "index.html": page(),
    "search.html": page(),
    "2024/05/1.html": page("a", "b"),
    "2024/05/2.html": page("c"),
    "2024/05/thread-a.html": page("a", "c", again=True),
    "2024/06/1.html": page("d", "e"),
    f"2024/06/thread-{STEM}.2.html": b"<p>not an xml",
    "undated/1.html": page("f"),
    f"texts/{STEM}-embed.txt": b"{}",
    "texts/a.txt": b"a",
    "assets/style.css": b"p{}",
    "search/words-00001.js": b"x()",
}
POSTS = 6


def sum_line(path: str, content: bytes) -> bytes:
    return f"{hashlib.sha256(content).hexdigest()}  {path}\n".encode()


def build(
    directory: Path, pages: Mapping[str, bytes] = PAGES, posts: int = POSTS, media: Mapping[str, bytes] = {},
    **changes: Any,
) -> Path:  # fmt: skip
    """Make an HTML export, with *changes* in the manifest."""
    files = {**pages, **{f"media/{name}": content for name, content in media.items()}}
    if media:
        files["media.csv"] = b"file,uri\n"
    for path, content in files.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_bytes(content)
    tables = [
        {"name": name, "bytes": len(files[name]), "sha256": hashlib.sha256(files[name]).hexdigest()}
        for name in files
        if name == "media.csv"
    ]
    manifest: dict[str, Any] = {
        "export_format": "html",
        "post_count": posts,
        "media_count": len(media),
        "files": [f"media/ ({len(media)} files)"] if media else [],
        "pages": {"files": len(pages), "bytes": sum(map(len, pages.values()))},
        "checksums": tables,
        "options": {},
    }
    if media:
        manifest["media_table"] = {"name": "media.csv", "rows": 1}
    files["manifest.json"] = json.dumps(manifest | changes).encode()
    (directory / "manifest.json").write_bytes(files["manifest.json"])
    order = [
        *(name for name in ("media.csv", "manifest.json") if name in files),
        *sorted(pages),
        *sorted(f"media/{name}" for name in media),
    ]
    write_sums(directory, (sum_line(path, files[path]) for path in order))
    return directory


def write_sums(directory: Path, lines: Iterable[bytes]) -> None:
    (directory / "SHA256SUMS").write_bytes(b"".join(lines))


def sums(directory: Path) -> list[bytes]:
    return (directory / "SHA256SUMS").read_bytes().splitlines(keepends=True)


def with_page(directory: Path, content: bytes, posts: int = POSTS) -> Path:
    """An export with other content, under right checksums, in 2024/05/1.html."""
    return build(directory, PAGES | {"2024/05/1.html": content}, posts)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return build(tmp_path / "export")


def differences(directory: Path) -> list[str]:
    with pytest.raises(VerifyError) as caught:
        verify(directory)
    return [str(difference) for difference in caught.value.differences]


def test_whole(directory: Path) -> None:
    """The result has figures; progress moves and ends with all posts."""
    moments: list[Progress] = []
    found = verify(directory, moments.append)
    assert (found.format, found.posts, found.pages, found.data_files) == ("html", POSTS, 8, [])
    assert found.bytes == sum(map(len, PAGES.values()))
    assert [checksum.name for checksum in found.checksums] == ["manifest.json"]
    assert found.unverified == []
    assert found.sentence() == f"{directory}: OK: 6 posts in 8 pages, all checksums match"
    assert (moments[-1].posts, moments[-1].fraction, moments[-1].bytes) == (POSTS, 1.0, found.bytes)


def test_several_authors(tmp_path: Path) -> None:
    """Authors have folders of their own. One name may begin like another, and sort before or after its slash."""
    pages = {"index.html": page()}
    for author in ("authors/did_3aweb_3aa.b", "authors/did_3aweb_3aa.b.c", "authors/did_3aweb_3aa.b-c", AUTHOR):
        pages |= {f"{author}/index.html": page(), f"{author}/2024/05/1.html": page("a"), f"{author}/texts/a.txt": b""}
    assert verify(build(tmp_path, pages, 4)).posts == 4


def test_no_posts(tmp_path: Path) -> None:
    """An export without posts has pages all the same."""
    found = verify(build(tmp_path, {"index.html": page()}, 0))
    assert found.sentence().endswith("OK: 0 posts in 1 page, all checksums match")


def test_media(tmp_path: Path) -> None:
    """Media are compared, too, and a later export can link to them."""
    build(tmp_path, media={"a.jpg": b"a", "b.jpg": b"b"})
    found = verify(tmp_path)
    assert found.sentence().endswith("OK: 6 posts in 8 pages, 2 media files, all checksums match")
    assert {checksum.name for checksum in found.checksums} == {"media.csv", "manifest.json"}
    with EarlierMedia(tmp_path) as media:
        assert media.has("a.jpg")
    (tmp_path / "media" / "a.jpg").write_bytes(b"x")
    (tmp_path / "media.csv").unlink()
    (tmp_path / "media" / ".DS_Store").touch()
    (first, second, third) = differences(tmp_path)
    assert (first, third) == ("media.csv: missing", "media/.DS_Store: not part of the export")
    assert second.startswith("media/a.jpg: has the SHA-256 ")


@pytest.mark.parametrize("path", [path for path in PAGES if path != "index.html"])
def test_changed_byte(directory: Path, path: str) -> None:
    """A changed byte is noticed in every file, and the size as well if it changes."""
    content = PAGES[path]
    (directory / path).write_bytes(content.replace(b"x", b"y").replace(b"a", b"z").replace(b"{}", b"[]"))
    found = differences(directory)
    assert found[0].startswith(f"{path}: has the SHA-256 ")
    assert f"it is {hashlib.sha256(content).hexdigest()}" in found[0]
    (directory / path).write_bytes(content + b"\n")
    assert len(differences(directory)) == 2
    assert differences(directory)[1].startswith("pages: the size of all files is ")


def test_missing(directory: Path) -> None:
    """Missing files are named, and missing directories once."""
    (directory / "2024" / "05" / "1.html").unlink()
    for name in ("1.html", f"thread-{STEM}.2.html"):
        (directory / "2024" / "06" / name).unlink()
    (directory / "2024" / "06").rmdir()
    (directory / "search.html").unlink()
    assert differences(directory) == ["2024/05/1.html: missing", "2024/06: missing", "search.html: missing"]


@pytest.mark.parametrize("path", ["x", "2024/x.html", "2024/05/3.html", "assets/.DS_Store", "2024/05/Thumbs.db"])
def test_extra_file(directory: Path, path: str) -> None:
    """Extra files are named, those of file managers too; the export itself is intact."""
    (directory / path).touch()
    assert differences(directory) == [f"{path}: not part of the export"]
    assert verify(directory, extra_files_allowed=True).posts == POSTS


@pytest.mark.parametrize("path", ["2023", "2024/07", "2024/05/texts", "media", "assets/a"])
def test_extra_directory(directory: Path, path: str) -> None:
    """Extra directories are named once, with whatever is in them."""
    (directory / path / "a" / "b").mkdir(parents=True)
    (directory / path / "c").touch()
    if path == "media":
        path += "/a"  # An empty one is fine.
        (directory / "media" / "c").unlink()
    assert differences(directory) == [f"{path}: not part of the export"]


def test_manifest_counts(tmp_path: Path) -> None:
    """Posts, files and bytes must be as many as the manifest says."""
    assert differences(build(tmp_path, posts=7)) == ["pages: the number of posts is 6; manifest.json says 7"]
    size = sum(map(len, PAGES.values()))
    assert differences(build(tmp_path, media_count=1)) == [
        "manifest.json: has 1 for media_count, but 0 media files in files"
    ]
    build(tmp_path)
    assert differences(rebuilt(tmp_path, pages={"files": 13, "bytes": size + 1})) == [
        "SHA256SUMS: has lines for 12 files of pages; manifest.json says 13",
        f"pages: the size of all files is {size:,} bytes; manifest.json says {size + 1:,}",
    ]


@pytest.mark.parametrize(
    "counts", [None, 5, [], {}, {"files": 12}, {"files": "12", "bytes": 1}, {"files": 12, "bytes": 1.5},
               {"files": -1, "bytes": 1}, {"files": True, "bytes": 1}],
)  # fmt: skip
def test_wrong_counts_of_pages(tmp_path: Path, counts: object) -> None:
    """The counts of pages must be two numbers."""
    (found,) = differences(rebuilt(build(tmp_path), pages=counts))
    assert found.startswith("manifest.json: has ")
    assert found.endswith(" for pages, not the number and bytes of their files")


def rebuilt(directory: Path, **changes: Any) -> Path:
    """The export with *changes* in its manifest, under right checksums."""
    content = json.dumps({**json.loads((directory / "manifest.json").read_bytes()), **changes}).encode()
    (directory / "manifest.json").write_bytes(content)
    write_sums(directory, [sum_line("manifest.json", content), *sums(directory)[1:]])
    return directory


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"checksums": None}, "manifest.json: has nothing for checksums, not a list"),
        ({"files": None}, "manifest.json: has nothing for files, not a list of names"),
        ({"files": ["posts.json"]}, "manifest.json: has no checksum of posts.json"),
        ({"post_count": "6"}, "manifest.json: has '6' for post_count, not a number of posts"),
        ({"options": {"columns": ["uri"]}}, "manifest.json: has a list for columns, not a list of columns"),
    ],
)
def test_hostile_manifests(directory: Path, changes: dict[str, Any], message: str) -> None:
    """Wrong values are named."""
    assert any(line.startswith(message) for line in differences(rebuilt(directory, **changes)))


@pytest.mark.parametrize("claim", ["manifest.json", "SHA256SUMS"])
def test_without_claims(directory: Path, claim: str) -> None:
    """Without its manifest, or its checksums, an export differs by no more than that."""
    (directory / claim).unlink()
    assert differences(directory) == [f"{claim}: missing"]
    (directory / claim).write_bytes(b"{}" if claim == "manifest.json" else b"")
    found = differences(directory)
    assert 1 < len(found) < 15


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (page("a", "b")[:-9], "not well-formed XML: unclosed token in line "),
        (page("a", "b") + b"<p>", "not well-formed XML: junk after document element in line "),
        (page("a", "b", body="<br>"), "not well-formed XML: mismatched tag in line "),
        (page("a", "b", body="&nbsp;"), "not well-formed XML: undefined entity in line "),
        (page("a", "b", body="\x00"), "not well-formed XML: "),
        (page("a", "b").replace(b"\xe3", b"\xff"), "not well-formed XML: "),
        (page("a", "a"), "has the id 'a' twice"),
        (page("a", "content*"), "has the id 'content*' twice"),
        (page("a", body='<article class="x post"/>'), "post 2 has no id"),
        (page("a", ""), "post 2 has no id"),
        (page("a", "b" * 1001), "has an id of more than 1,000 characters"),
        (page(body="<i>" * 199 + "</i>" * 199), "has more than 200 elements in each other"),
        (page(body="".join(f"<a{n}/>" for n in range(600))), "has more than 500 different names"),
        (page(body=f"<a b='{'x' * 5_000_000}'/>"), "has a tag or comment of more than 4,194,304 bytes"),
        (page(body=f"<!--{'x' * 5_000_000}-->"), "has a tag or comment of more than 4,194,304 bytes"),
        (page(body="".join(f'<p id="{n}"/>' for n in range(20_000))), "has more than 20,000 elements with an id"),
        (b"", "not well-formed XML: no element found in line 1"),
        (b"<!DOCTYPE html [\n" + b"]><html/>", "has a document type other than <!doctype html>"),
        (b"<!DOCTYPE html SYSTEM 'file:///etc/passwd'><html/>", "has a document type other than <!doctype html>"),
        (b"<!DOCTYPE html PUBLIC '-//x' 'http://x/'><html/>", "has a document type other than <!doctype html>"),
        (b"<!doctype svg><html/>", "has a document type other than <!doctype html>"),
        (b"<!DOCTYPE html [<!ENTITY a 'b'>]><html>&a;</html>", "has a document type other than <!doctype html>"),
        (b"<!DOCTYPE html [<!ENTITY % a SYSTEM '/dev/zero'> %a;]><html/>", "has a document type other than"),
    ],
)  # fmt: skip
def test_pages_that_are_not_valid(tmp_path: Path, content: bytes, problem: str) -> None:
    """A page under right checksums must be well-formed, declare nothing, and have an id for each post."""
    (found,) = differences(with_page(tmp_path, content))
    assert found.startswith(f"2024/05/1.html: {problem}")


def test_billion_laughs(tmp_path: Path) -> None:
    """Entities are refused before anything grows."""
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    content = f'<!DOCTYPE html [<!ENTITY l0 "ha">{laughs}]><html>&l9;</html>'.encode()
    tracemalloc.start()
    (found,) = differences(with_page(tmp_path, content))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == "2024/05/1.html: has a document type other than <!doctype html>"
    assert most < 10_000_000


def test_spellings_of_the_document_type(tmp_path: Path) -> None:
    """HTML has it in any case. A page may also have none."""
    content = page("a", "b")
    for other in (b"<!DOCTYPE html>", b"<!DocType HTML>", b""):
        assert verify(with_page(tmp_path, content.replace(b"<!doctype html>", other))).posts == POSTS


def test_long_description(tmp_path: Path) -> None:
    """The longest description that a page can have is no problem."""
    content = page("a", "b", body=f'<img alt="{"&quot;" * 256_000}"/>')
    assert verify(with_page(tmp_path, content)).posts == POSTS


def test_other_elements_are_no_posts(tmp_path: Path) -> None:
    """Articles of other classes, posts shown again, and comments do not count."""
    others = (
        '<article/><article class="again post"/><article class="posted"/><p class="post"/>'
        '<!--<article class="post" id="x"/>--><article class="big post" id="b"><br/></article>'
    )
    assert verify(with_page(tmp_path, page("a", body=others))).posts == POSTS


@given(st.lists(st.integers(0, 1 << 20), max_size=6))
def test_blocks_of_any_size(cuts: list[int]) -> None:
    """However a page is cut into blocks, its posts are the same."""
    content = page(*"abcdef")
    reader = HtmlPageReader()
    places = sorted({0, len(content), *(max(9, cut % len(content)) for cut in cuts)})
    for start, end in itertools.pairwise(places):
        reader.feed(content[start:end])
    reader.finish()
    assert reader.posts == 6


@posix_only
def test_links(directory: Path, tmp_path: Path) -> None:
    """Links are not followed, whether they stand for a file or a directory; nor are pipes opened."""
    (directory / "2024").rename(tmp_path / "2024")
    (directory / "2024").symlink_to(tmp_path / "2024")
    (directory / "texts" / "a.txt").unlink()
    (directory / "texts" / "a.txt").symlink_to("/etc/passwd")
    (directory / "undated" / "1.html").unlink()
    os.mkfifo(directory / "undated" / "1.html")
    (directory / "search").rename(tmp_path / "search")
    (directory / "search").touch()
    (directory / "assets" / "x").symlink_to(tmp_path)
    assert differences(directory) == [
        "2024: a symbolic link, not a directory",
        "assets/x: not part of the export",
        "search: a file, not a directory",
        "texts/a.txt: a symbolic link, not a file",
        "undated/1.html: a named pipe, not a file",
    ]


@pytest.mark.parametrize(
    "path",
    ["../x.html", "/etc/passwd", "2024\\05\\1.html", "2024/../../x.html", "2024/05//1.html", "./index.html", "2024/05/",
     "C:/x.html", "texts/.a.txt", "a/b/c/d/e/f.html", "2024/05/1.html\0", "manifest.json/x", "texts/../index.html"],
)  # fmt: skip
def test_hostile_paths(directory: Path, path: str) -> None:
    """Paths that no export has are refused, without a look at what they lead to."""
    first, *pages = sums(directory)
    write_sums(directory, [first, sum_line(path, b""), *pages])
    (found,) = differences(directory)
    assert found.startswith("SHA256SUMS: has '")
    assert found.endswith(" in line 2, not the SHA-256 and the name of a file")


def test_order_of_lines(directory: Path) -> None:
    """Paths ascend, so none occurs twice; a line that is out of order does not make its file an extra one."""
    first, *pages = sums(directory)
    write_sums(directory, [first, *pages, pages[-1]])
    assert differences(directory) == [
        "SHA256SUMS: has undated/1.html out of order in line 14",
        "SHA256SUMS: has lines for 13 files of pages; manifest.json says 12",
    ]
    write_sums(directory, [first, pages[1], pages[0], *pages[2:]])
    assert differences(directory) == ["SHA256SUMS: has 2024/05/1.html out of order in line 3"]
    write_sums(directory, [first, *pages[1:]])
    assert differences(directory) == [
        "SHA256SUMS: has lines for 11 files of pages; manifest.json says 12",
        "2024/05/1.html: not part of the export",
        f"pages: the size of all files is {sum(map(len, PAGES.values())) - len(PAGES['2024/05/1.html']):,} bytes;"
        f" manifest.json says {sum(map(len, PAGES.values())):,}",
        "pages: the number of posts is 4; manifest.json says 6",
    ]


def test_lines_of_pages_in_other_exports(directory: Path) -> None:
    """Only HTML exports have pages."""
    assert any(
        " in line 2, not the SHA-256 and" in line for line in differences(rebuilt(directory, export_format="json"))
    )


def test_many_differences(directory: Path) -> None:
    """A thousand differing files are named, and the rest is counted."""
    for number in range(1500):
        (directory / "assets" / f"extra{number}").touch()
    found = differences(directory)
    assert (len(found), found[-1]) == (1001, "pages: 500 more files differ")
    with pytest.raises(VerifyError) as caught:
        verify(directory)
    assert all(difference.extra for difference in caught.value.differences)
    first, *pages = sums(directory)
    missing = [sum_line(f"search/{number:05}.js", b"") for number in range(1500)]
    write_sums(directory, [first, *sorted([*pages, *missing], key=lambda line: line.split()[1])])
    found = differences(directory)
    assert len(found) == 1002
    assert found[-1] == "pages: 2,000 more files differ"


@pytest.mark.parametrize("line", [sum_line("2024/05/1.html", b""), b"x\n", b"\n", sum_line("2024/05/../x", b"")])
def test_endless_checksums(directory: Path, line: bytes) -> None:
    """Many wrong lines take little memory."""
    write_sums(directory, [*sums(directory), *[line] * 30_000])
    tracemalloc.start()
    found = differences(directory)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found) < 1010
    assert any(entry.endswith(" more problems") for entry in found)
    assert most < 40_000_000


def test_memory_for_many_missing_files(directory: Path) -> None:
    """Memory does not grow with the lines of SHA256SUMS."""
    first, *pages = sums(directory)
    missing = (sum_line(f"2025/{month:02}/{number}.html", b"") for month in range(9) for number in range(10000, 15000))
    write_sums(directory, sorted([first, *pages, *missing], key=lambda line: line.split()[1].replace(b"manif", b"!")))
    tracemalloc.start()
    found = differences(directory)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "2025: missing" in found
    assert most < 40_000_000


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(file=st.integers(0, 1000), place=st.integers(0, 1 << 20), change=st.integers(1, 255))
def test_any_changed_byte(tmp_path_factory: pytest.TempPathFactory, file: int, place: int, change: int) -> None:
    """Whichever byte changes, in whichever file, it is noticed."""
    directory = Path(tmp_path_factory.getbasetemp()) / "flipped"
    if not directory.exists():
        build(directory, media={"a.jpg": b"a"})
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    path = files[file % len(files)]
    content = path.read_bytes()
    if not content:
        return
    damaged = bytearray(content)
    damaged[place % len(content)] ^= change
    path.write_bytes(damaged)
    try:
        differences(directory)
    finally:
        path.write_bytes(content)


def test_comparison_with_an_archive(directory: Path) -> None:
    """An HTML export does not have what increments need."""
    with pytest.raises(OptionError, match="an HTML export cannot be compared with an archive"):
        read_back(directory, Counters(), lambda: None, keys=lambda _: None)
    assert read_back(directory, Counters(), lambda: None).posts == POSTS


def test_interrupt(directory: Path) -> None:
    """What is called now and then can end the verification, at any place; nothing stays open."""
    calls = 0

    def check(last: int) -> None:
        nonlocal calls
        calls += 1
        if calls == last:
            raise KeyboardInterrupt

    read_back(directory, Counters(), partial(check, 0))
    for last in range(1, calls):
        calls = 0
        with pytest.raises(KeyboardInterrupt):
            read_back(directory, Counters(), partial(check, last))


def test_command(directory: Path, tmp_path: Path) -> None:
    """The command says how many posts and pages there are, for one export and for many."""
    done = skyexport("verify", directory)
    assert (done.returncode, done.stdout) == (0, f"{directory}: OK: 6 posts in 8 pages, all checksums match\n")
    result = skyexport_json("verify", directory, "--json")
    assert (result["status"], result["format"], result["posts"], result["pages"]) == ("ok", "html", 6, 8)
    build(tmp_path / "other")
    (tmp_path / "other" / "2024" / "05" / "1.html").unlink()
    done = skyexport("verify", "--recursive", tmp_path)
    assert done.stdout.splitlines() == [
        f"{directory}: OK: 6 posts in 8 pages, all checksums match",
        f"{tmp_path / 'other'}: 2024/05/1.html: missing",
        "2 exports: 1 OK, 1 differs",
    ]
    assert verify_all([directory]).exit_code == 0


PATHS: list[tuple[str, Callable[[str], bool]]] = [
    *((path, is_page_path) for path in (*PAGES, f"{AUTHOR}/index.html", f"{AUTHOR}/undated/thread-a.html")),
    *((f"{author}{path}", is_posts_page)
      for author in ("", f"{AUTHOR}/") for path in ("2024/05/1.html", "undated/12.html", "0000/00/1.html")),
]  # fmt: skip


@pytest.mark.parametrize(("path", "test"), PATHS)
def test_paths(path: str, test: Callable[[str], bool]) -> None:
    """All kinds of paths are known, with parts that are names on every system."""
    assert test(path)
    assert is_page_path(path)
    assert all(map(is_plain_name, path.split("/")))
    assert not test(f"{path}\n")
    assert not is_page_path(f"/{path}")
    assert not is_page_path(f"{path}/")


@pytest.mark.parametrize(
    "path",
    ["", "manifest.json", "SHA256SUMS", "media.csv", "media/a.html", "2024/05/thread-a.html", "2024/05/0.html",
     "index.html", f"{AUTHOR}/a/2024/05/1.html", "authors/2024/05/1.html", "2024/5/1.html", "texts/1.html"],
)  # fmt: skip
def test_paths_without_own_posts(path: str) -> None:
    """The pages of threads, and whatever is no page of posts, do not count."""
    assert not is_posts_page(path)


@given(st.from_regex(r"\A[a-z0-9_/.-]{1,40}\Z", fullmatch=True))
def test_pages_have_plain_names(path: str) -> None:
    """No path of a page leads anywhere else."""
    assert not is_page_path(path) or (all(map(is_plain_name, path.split("/"))) and path.count("/") <= 4)
