"""An export as pages in real browsers, from the disk: nothing comes from elsewhere, nothing fails, search finds all."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

import make_archive
from skyexport.pages.post_views import search_text
from skyexport.pages.search_words import words_of_query, words_of_text
from tests.browsers import Browser, browser  # noqa: F401 (a fixture)
from tests.pages.html_exports import HtmlExport, directory_of, summary_of

QUERIES = ("library", "mus", "Größe", "日", "고양이", "мир", "quiet river", "#caturday", "ch", "nothing like this")


FIELD, FORM, STATUS, RESULTS = (
    f"document.getElementById('search-{name}*')" for name in ("words", "form", "status", "results")
)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("archive") / "reading.db"
    make_archive.make_archive(path, posts=500, reading=True, media=True)
    return path


@pytest.fixture(scope="module")
def exported(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> HtmlExport:
    return HtmlExport.of(directory_of(summary_of(archive, tmp_path_factory.mktemp("pages"), media=True)))


def test_pages_from_the_disk(browser: Browser, exported: HtmlExport) -> None:  # noqa: F811
    """Pages of every kind open without an error, with their style and images, and load nothing from elsewhere."""
    kinds = ["index.html", "search.html"]
    kinds += [next(path for path in exported.pages if path.startswith("authors/") and name in path)
              for name in ("/index.html", "/1.html", "thread-")]  # fmt: skip
    with_image = next(path for path, page in exported.pages.items() if any("media/" in load for load in page.loads))
    for path in [*kinds, with_image]:
        browser.open(exported.directory / path)
        assert browser.evaluate("document.querySelector('main').innerText.length > 10") is True
        assert browser.evaluate("getComputedStyle(document.querySelector('main')).maxWidth") != "none"
    browser.evaluate("[...document.images].forEach(image => image.loading = 'eager')")
    browser.wait_for("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert browser.errors() == []
    assert [address for address in browser.requests() if not address.startswith("file:")] == []


def test_search_finds_what_is_there(browser: Browser, archive: Path, exported: HtmlExport) -> None:  # noqa: F811
    """The number of posts equals that of a search by hand, and each result leads to a post that has the words."""
    with sqlite3.connect(archive) as connection:
        rows = connection.execute("select cast(text as blob), cast(embed_data as blob), uri from posts").fetchall()
    texts = {uri.rpartition("/")[2]: words_of_text(search_text(text or b"", embed or b"")) for text, embed, uri in rows}
    browser.open(exported.directory / "index.html")
    for query in QUERIES:
        words = words_of_query(query)
        found = {key for key, text in texts.items() if all(any(w.startswith(word) for w in text) for word in words)}
        browser.evaluate(f"{STATUS}.textContent = '', {FIELD}.value = {query!r}, {FORM}.requestSubmit()")
        said = browser.wait_for(f"/ found/.test({STATUS}.textContent) && {STATUS}.textContent")
        assert (int(said.partition(" ")[0]) if found else said) == (len(found) or "Nothing was found."), query
        links = browser.evaluate(f"[...{RESULTS}.querySelectorAll('a')].map(a => a.getAttribute('href'))")
        assert len(links) == min(len(found), 20), query
        assert {link.partition("#")[2] for link in links} <= found
    assert browser.errors() == []
