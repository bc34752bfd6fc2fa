"""Exports as pages in browsers, beyond what opens: places of links, own time, search in odd folders, no scripts."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import re
import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import apsw
import pytest

import make_archive
from skyexport.pages.post_views import search_text
from skyexport.pages.search_words import words_of_query, words_of_text
from tests.archives import Row, file_archive, post
from tests.browsers import Browser, Chromium, browser, chromium
from tests.pages.html_exports import DID, HtmlExport, at, directory_of, summary_of, uri
from tests.pages.test_html_export import hostile_archive

__all__ = ["browser", "chromium"]

ZONE = "Asia/Kathmandu"
"""Five hours and 45 minutes before UTC."""

ODD_NAME = "50% of #1 & ü?"
"""A folder's name that has to be escaped in addresses."""

SEARCH = """
(async (values) => {
  const byId = (name) => document.getElementById("search-" + name + "*");
  const settled = async () => {
    while (byId("results").hasAttribute("aria-busy")) await new Promise((done) => setTimeout(done, 5));
  };
  for (const name of ["words", "author", "from", "to"]) byId(name).value = values[name] || "";
  byId("form").requestSubmit();
  await settled();
  const status = byId("status").textContent;
  while (!byId("more").hidden) {
    byId("more").click();
    await settled();
  }
  const links = Array.from(byId("results").querySelectorAll("a"), (a) => a.getAttribute("href"));
  return { status, links };
})(%s)
"""
"""Searches, and asks for more until all is shown."""


@pytest.fixture(scope="module", autouse=True)
def _zone() -> Iterator[None]:
    """Browsers are in another time zone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", ZONE)
        yield


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive to be read: several authors, threads, images."""
    path = tmp_path_factory.mktemp("archive") / "reading.db"
    make_archive.make_archive(path, posts=300, seed=8, reading=True, media=True)
    return path


@pytest.fixture(scope="module")
def exported(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> HtmlExport:
    """Its export, in a folder with an odd name."""
    place = tmp_path_factory.mktemp("pages") / ODD_NAME
    return HtmlExport.of(directory_of(summary_of(archive, place, media=True)))


def assert_quiet(browser: Browser) -> None:
    """Check that pages said nothing of errors, and asked for nothing but files."""
    assert browser.errors() == []
    assert [address for address in browser.requests() if not address.startswith("file:")] == []


def searched(browser: Browser, **values: str) -> tuple[int, list[str]]:
    """How many posts a search says that it found, and the addresses of all results."""
    found: dict[str, Any] = browser.evaluate(SEARCH % json.dumps(values))
    said = re.fullmatch(r"([0-9,]+) posts? (?:was|were) found(?:; the newest \d+ are shown)?\.", found["status"])
    assert said or found["status"] == "Nothing was found."
    return int(said[1].replace(",", "")) if said else 0, found["links"]


def test_search(browser: Browser, archive: Path, exported: HtmlExport) -> None:
    """Words, authors and months find exactly what the archive has; each result leads to an article with that id."""
    with contextlib.closing(apsw.Connection(str(archive))) as connection:
        rows: list[Any] = connection.execute(
            "select uri, did, substr(created_at, 1, 7), cast(text as blob), cast(embed_data as blob) from posts"
        ).fetchall()
    posts = [
        (address.rpartition("/")[2], did, month, words_of_text(search_text(text or b"", embed or b"")))
        for address, did, month, text, embed in rows
    ]
    choose = random.Random(1)
    words = sorted(set[str]().union(*(found for *_, found in posts)))
    queries = [choose.choice(words)[: choose.randint(1, 6)] for _ in range(12)]
    queries += [f"{one} {other}" for one, other in itertools.pairwise(queries)] + ["zzzzzz"]
    browser.open(exported.directory / "search.html")
    labels = browser.evaluate("Array.from(document.getElementById('search-author*').options, (o) => o.textContent)")
    assert labels[0] == "All authors"
    assert len(labels) == 1 + len({did for _, did, _, _ in posts})
    months = sorted({month for _, _, month, _ in posts})
    ids = {path: set(page.ids) for path, page in exported.pages.items()}
    authors: dict[str, str] = {}
    for query in queries:
        wanted = words_of_query(query)
        values = {"words": query}
        if choose.random() < 0.5:
            first, last = sorted(choose.sample(months, 2))
            values |= {"from": first, "to": last}
        number, links = searched(browser, **values)
        expected = [
            key
            for key, _, month, found in posts
            if all(any(word.startswith(start) for word in found) for start in wanted)
            and values.get("from", "") <= month <= values.get("to", "9")
        ]
        assert (number, sorted(link.partition("#")[2] for link in links)) == (len(expected), sorted(expected)), values
        for link in links:
            path, _, anchor = link.partition("#")
            assert anchor in ids[path], link
            authors[anchor] = path.split("/")[1]
    of_one = [searched(browser, words="a", author=str(place))[1] for place in range(len(labels) - 1)]
    assert sum(map(len, of_one)) == searched(browser, words="a")[0] > 20
    assert all(len({link.split("/")[1] for link in links}) == 1 for links in of_one if links)
    assert_quiet(browser)


def test_results_lead_to_posts(browser: Browser, archive: Path, exported: HtmlExport) -> None:
    """A click on a result shows the post; its thread shows it, too."""
    browser.open(exported.directory / "index.html")
    thread = next(path for path in exported.pages if "/thread-" in path)
    anchor = exported.pages[thread].articles[1].anchor
    (month,) = [path for path, article in exported.posts() if article.anchor == anchor]
    with contextlib.closing(apsw.Connection(str(archive))) as connection:
        text = connection.execute("select text from posts where uri like '%/' || ?", (anchor,)).get
    words = max(words_of_text(str(text)), key=len)
    _, links = searched(browser, words=words)
    assert f"{month}#{anchor}" in links
    browser.evaluate(f"Array.from(document.querySelectorAll('.results a')).find((a) => a.hash === '#{anchor}').click()")
    shown = "document.querySelector('article:target')"
    browser.wait_for(f"document.readyState === 'complete' && {shown} && {shown}.id === {json.dumps(anchor)}")
    assert_in_view(browser)
    browser.evaluate(f"{shown}.querySelector('a[href*=thread-]').click()")
    browser.wait_for(f"location.pathname.includes('thread-') && document.readyState === 'complete' && {shown} !== null")
    assert browser.evaluate(f"{shown}.className") == "post again"
    assert_in_view(browser)
    assert_quiet(browser)


def assert_in_view(browser: Browser) -> None:
    """Check that the beginning of the post that an address names can be seen."""
    place = "document.querySelector('article:target').getBoundingClientRect()"
    assert browser.wait_for(f"{place}.top >= -1 && {place}.top < innerHeight")


def test_own_time(browser: Browser, exported: HtmlExport) -> None:
    """Each time is followed by the reader's own, and only once."""
    path = next(path for path, page in exported.pages.items() if path.endswith("/1.html") and len(page.articles) > 2)
    browser.open(exported.directory / path)
    times = browser.wait_for(
        "document.querySelector('.own-time')"
        " && Array.from(document.querySelectorAll('article > footer time'), (t) => [t.dateTime, t.textContent])"
    )
    assert len(times) == len(exported.pages[path].articles)
    for instant, text in times:
        here = datetime.fromisoformat(instant).astimezone(ZoneInfo(ZONE))
        assert text.count(" UTC") == 1
        own = text.partition(" UTC")[2]
        assert f"{here:%Y}" in own
        assert re.search(rf"\b{here.hour % 12 or 12}:{here.minute:02}|{here:%H:%M}", own), (instant, text)
    assert_quiet(browser)


def test_images(browser: Browser, exported: HtmlExport) -> None:
    """All images of all pages are files that browsers show."""
    pages = [path for path, page in exported.pages.items() if any("media/" in load for load in page.loads)]
    assert len(pages) > 5
    for path in pages[:8]:
        browser.open(exported.directory / path)
        browser.evaluate("document.images.length > 0 && [...document.images].forEach((i) => { i.loading = 'eager' })")
        browser.wait_for("[...document.images].every((i) => i.complete)")
        assert browser.evaluate("[...document.images].every((i) => i.naturalWidth > 0)") is True, path
    assert_quiet(browser)


def test_hostile_posts(browser: Browser, tmp_path: Path) -> None:
    """Texts that would be scripts elsewhere are texts, on pages and in results, and break out of no box."""
    found = HtmlExport.of(directory_of(summary_of(hostile_archive(tmp_path / "a.db"), tmp_path / "out")))
    browser.set_viewport(600, 800)
    for path in found.pages:
        browser.open(found.directory / path)
        assert browser.evaluate("document.scripts.length") in (1, 3)
        assert browser.evaluate("document.title") != "hacked"
        assert browser.evaluate("document.querySelectorAll('img[onerror], [onload], style, iframe').length") == 0
    browser.open(found.directory / "index.html")
    number, links = searched(browser, words="script document hacked")
    assert (number, len(links)) == (8, 8)
    assert browser.evaluate("document.querySelectorAll('.results script, .results img').length") == 0
    assert browser.evaluate("document.querySelectorAll('.results mark').length") >= 8
    assert_quiet(browser)


def test_narrow_screens(browser: Browser, tmp_path: Path) -> None:
    """Nothing is wider than a small screen: neither words without end, nor long names and addresses."""
    long = "w" * 500
    embed = {"external": {"uri": f"https://{'a' * 60}.example/{long}", "title": long, "description": long}}
    quote = {"record": {"uri": uri(0), "value": {"text": long}}}
    rows: list[Row] = [
        at(0, "2024-05-01 10:00:00", text=long, embed_data=json.dumps(embed).encode()),
        at(1, "2024-05-02 10:00:00", text=f"https://example.com/{long}", reply_parent=uri(0)),
        post(2, labels=json.dumps([{"val": long}]).encode(), created_at=long),
        at(3, "2024-05-03 10:00:00", embed_data=json.dumps(quote).encode()),
        at(4, "2024-05-03 10:00:00", embed_data=json.dumps({"images": [{"alt": long}]}).encode()),
        *(at(n, f"2024-{1 + n % 12:02}-04 10:00:00") for n in range(5, 60)),
        *(at(n, "2024-07-04 10:00:00", text="") for n in range(100, 3100)),
    ]  # fmt: skip
    archive = file_archive(tmp_path / "a.db", rows)
    with contextlib.closing(apsw.Connection(str(archive))) as connection:
        connection.execute(
            "insert into profiles (did, handle, display_name, description) values (?, ?, ?, ?)",
            (DID, f"{'h' * 60}.{'i' * 60}.{'j' * 60}.example", long, long),
        )
    found = HtmlExport.of(directory_of(summary_of(archive, tmp_path / "out")))
    browser.set_viewport(520, 800)  # Firefox has no narrower window
    for path in ("index.html", "search.html", "2024/05/1.html", "undated/1.html", "2024/05/thread-00000000.html",
                 "2024/07/3.html"):  # fmt: skip
        browser.open(found.directory / path)
        assert browser.evaluate("document.scrollingElement.scrollWidth - innerWidth") <= 0, path
    browser.open(found.directory / "index.html")
    searched(browser, words="www")
    assert browser.evaluate("document.scrollingElement.scrollWidth - innerWidth") <= 0
    assert_quiet(browser)


def test_files_that_are_gone(browser: Browser, exported: HtmlExport, tmp_path: Path) -> None:
    """Search says which file is missing; everything else stays as it is."""
    copy = tmp_path / "copy"
    shutil.copytree(exported.directory, copy)
    for path in (copy / "search").glob("words-*.js"):
        path.unlink()
    browser.open(copy / "index.html")
    found = browser.evaluate(SEARCH % json.dumps({"words": "a"}))
    assert found == {
        "status": "A file of the search index is missing or damaged: search/words-00001.js", "links": [],
    }  # fmt: skip
    (copy / "search" / "table.js").unlink()
    browser.open(copy / "index.html")
    status = "document.getElementById('search-status*').textContent"
    assert "search/table.js" in browser.wait_for(status)
    browser.errors()


def test_without_scripts(chromium: Chromium, exported: HtmlExport) -> None:
    """Pages are complete: texts, times, links; one sentence says what search needs."""
    chromium._call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        chromium.open(exported.directory / "index.html")
        text = chromium.evaluate("document.body.innerText")
        assert "Search needs scripts; everything else works without." in text
        assert chromium.evaluate("document.getElementById('search*').checkVisibility()") is False
        path = next(path for path, page in exported.pages.items() if len(page.articles) > 3 and "/1.html" in path)
        chromium.open(exported.directory / path)
        assert chromium.evaluate("document.querySelectorAll('.own-time').length") == 0
        shown = "Array.from(document.querySelectorAll('article'), (a) => [a.checkVisibility(), a.innerText])"
        articles = chromium.evaluate(shown)
        assert len(articles) == len(exported.pages[path].articles)
        assert all(visible and " UTC" in text for visible, text in articles)
    finally:
        chromium._call("Emulation.setScriptExecutionDisabled", value=False)
    assert_quiet(chromium)
