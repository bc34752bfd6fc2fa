"""Searching in browsers, from files, against a search of every post in Python."""

from __future__ import annotations

import json
import random
import shutil
import unicodedata
from pathlib import Path
from typing import Any

import pytest

import skyexport.pages
from skyexport.pages.search_index import Document, WordIndex, documents_js, table_js
from skyexport.pages.search_words import words_of_query, words_of_text
from tests.browsers import Browser, chromium, firefox

__all__ = ["chromium", "firefox"]


@pytest.fixture(scope="module", params=["chromium", pytest.param("firefox", marks=pytest.mark.slow)])
def browser(request: pytest.FixtureRequest) -> Browser:
    """Each browser in turn; by default, Firefox searches only a whole export (`test_html_in_browser`)."""
    made: Browser = request.getfixturevalue(request.param)
    return made


PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'self'; style-src 'self'; \
img-src 'self'; media-src 'self'; base-uri 'none'; form-action 'none'"/>
<title>Search</title>
<script src="{root}search/table.js" defer="defer"></script>
<script src="{root}assets/search.js" defer="defer"></script>
</head>
<body>
<section id="search*" data-root="{root}" hidden="hidden">
<form id="search-form*" role="search">
<label for="search-words*">Words</label> <input id="search-words*" type="search" name="q"/>
<label for="search-author*">Author</label> <select id="search-author*" name="author"></select>
<label for="search-from*">From</label> <select id="search-from*" name="from"></select>
<label for="search-to*">To</label> <select id="search-to*" name="to"></select>
<button>Search</button>
</form>
<p id="search-status*" role="status"></p>
<ol id="search-results*"></ol>
<button id="search-more*" type="button" hidden="hidden">More results</button>
</section>
</body>
</html>
"""

HELPERS = """
var byId = (name) => document.getElementById(name + "*");
var pause = () => new Promise((done) => setTimeout(done, 5));
async function settled() {
  while (byId("search-results").hasAttribute("aria-busy")) await pause();
}
function submit(values) {
  for (const name of ["words", "author", "from", "to"]) byId("search-" + name).value = values[name] || "";
  byId("search-form").requestSubmit();
}
function anchors() {
  return Array.from(document.querySelectorAll("ol a"), (a) => decodeURIComponent(a.hash.slice(1)));
}
async function found(values) {
  submit(values);
  await settled();
  while (!byId("search-more").hidden) {
    byId("search-more").click();
    await settled();
  }
  return anchors();
}
"""

_WORDS = """
the a at then there forest Forests über été straße ÉCOLE кто кот котик
ёлка σας ΣΑΣ Οδός 東京 東京都 京都 天気 カメラ・レンズ ｶﾞｽ ーの 𠮷野家 비가 고양이 ภาษาไทย
สวัสดี नमस्ते हिन्दी قِطَّة كتاب שלום می\u200cخواهم 12 1999 １９ ❤️ ok👍🏽
👩\u200d👩\u200d👧 don't İstanbul ﬁnal ½ ℡ <script>alert(1)</script> &amp; x-y_z
#tag @user
"""

WORDS = _WORDS.split()

_QUERIES = """
t th the then fo forest forests uber über éc ÉTÉ e стр кот котик к ёл
σ σασ ΟΔΟΣ 東 東京 京都 京都府 都 京 天気 カメラ レ ガ ガス ー の 𠮷 𠮷野 野家 비 가 비가 고양 이 ภา
ไทย ท สวัสดี नम हिन्दी قِ كتاب שלום میخواهم می\u200cخواهم 1 12 19 １９ ❤️ ok
yes don i i\u0307 fin ﬁ 2 tel script alert amp x-y_z y #tag @user user zzz
n1 n17 日 \ue000 !?
"""

QUERIES = [
    *_QUERIES.split(),
    "the forest",
    "東京 the",
    "t f k",
    "кот 天気",
    "zzz the",
    "the the",
    "a 1",
    "  ",
    "'; --",
    "n399 the",
]

AUTHORS = [("Ann <b>", "ann.example"), ("", "bob.example"), ("日本", "")]

MONTHS = [("", 0), ("2023-11", 20), ("2024-01", 90), ("2024-02", 95), ("2025-05", 300)]

POSTS = 400


def some_posts() -> list[Document]:
    """Posts of three authors in four months and without a month, by rank; always the same."""
    choose = random.Random(5)
    posts = []
    for rank in range(POSTS):
        month = next(month for month, first in reversed(MONTHS) if rank >= first)
        text = " ".join(choose.choices([*WORDS, "\u2028"], k=choose.randrange(30))) + f" n{rank}"
        path = f"authors/日 本#%/{month.replace('-', '/') or 'undated'}/1.html"
        time = f"{month}-15T12:00:00.000Z" if month else ""
        posts.append(Document(path, f"3k:{rank}é", time, choose.randrange(3), text))
    return posts


def write_export(folder: Path, posts: list[Document], authors: list[tuple[str, str]] = AUTHORS) -> Path:
    """Write an export that is only for searching; returns the page, which is one folder down."""
    for name in ("search", "assets", "pages", "runs"):
        (folder / name).mkdir(parents=True)
    with WordIndex(folder / "runs", by_author=len(authors) > 1, block_postings=3000, shard_bytes=400) as index:
        for rank, post in enumerate(posts):
            index.add(rank, post.author, post.text)
        firsts = []
        for number, (first, content) in enumerate(index.shards(), 1):
            firsts.append(first)
            (folder / "search" / f"words-{number:05d}.js").write_bytes(content)
    post_firsts = list(range(0, len(posts), 37))
    for number, rank in enumerate(post_firsts, 1):
        content = documents_js(number, posts[rank : rank + 37])
        (folder / "search" / f"posts-{number:05d}.js").write_bytes(content)
    table = table_js(firsts, post_firsts, MONTHS, authors, len(posts))
    (folder / "search" / "table.js").write_bytes(table)
    script = Path(skyexport.pages.__file__).parent / "assets" / "search.js"
    shutil.copy(script, folder / "assets")
    page = folder / "pages" / "search.html"
    page.write_text(PAGE.replace("{root}", "../"), encoding="utf-8")
    return page


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page for searching; only to be read."""
    made = write_export(tmp_path_factory.mktemp("a folder #é") / "export", some_posts())
    assert len(list(made.parent.parent.glob("search/words-*.js"))) > 10
    return made


@pytest.fixture
def opened(browser: Browser, page: Path) -> Browser:
    """A browser with the page."""
    return open_page(browser, page)


def open_page(browser: Browser, page: Path, query: str = "") -> Browser:
    """Open a page with what tests need there."""
    browser.errors()
    browser.requests()
    browser.open(page.as_uri() + query)
    define(browser)
    return browser


def define(browser: Browser) -> None:
    """Make the functions of tests known to the page; `evaluate` takes only expressions."""
    names = ["byId", "pause", "settled", "submit", "anchors", "found"]
    body = f"{HELPERS}; Object.assign(window, {{{', '.join(names)}}})"
    browser.evaluate(f"(() => {{ {body}; return true; }})()")


def expected(words: str, author: str = "", first: str = "", last: str = "") -> list[str]:
    """The anchors of the posts that match, newest first, found without an index."""
    wanted = words_of_query(words)
    anchors = []
    for post in reversed(some_posts()):
        month = post.time[:7]
        words_of_post = words_of_text(post.text)
        if (
            wanted
            and (not author or post.author == int(author))
            and (not (first or last) or (month and (first or month) <= month <= (last or month)))
            and all(any(word.startswith(one) for word in words_of_post) for one in wanted)
        ):
            anchors.append(post.anchor)
    return anchors


def call(browser: Browser, name: str, **values: str) -> Any:
    """Call a function of the page with the values of fields."""
    return browser.evaluate(f"{name}({json.dumps(values)})")


def status(browser: Browser) -> str:
    """What the page says."""
    text: str = browser.evaluate("byId('search-status').textContent")
    return text


def test_results_are_those_of_python(opened: Browser) -> None:
    """Each query finds the posts that it should, newest first; nothing but files is asked for."""
    for query in QUERIES:
        assert (query, call(opened, "found", words=query)) == (query, expected(query))
    assert opened.errors() == []
    requests = opened.requests()
    assert [address for address in requests if not address.startswith("file:")] == []
    assert len(requests) == len(set(requests))


def test_choices(opened: Browser) -> None:
    """Authors and months narrow results; months in the wrong order are put in order."""
    months = ["", "2023-11", "2024-02", "2025-05"]
    for author in ("", "0", "2"):
        for first in months:
            for last in months:
                low, high = (last, first) if first and last and first > last else (first, last)
                values = {"words": "th", "author": author, "from": first, "to": last}
                results = call(opened, "found", **values)
                assert (values, results) == (values, expected("th", author, low, high))


def test_words_of_queries_are_those_of_python(opened: Browser) -> None:
    """The rule for words is the same."""
    texts = [
        *WORDS,
        *QUERIES,
        "x" * 70 + "é" * 3,
        "𠮷" * 3,
        "a\u0301 ㍿ ﷺ ǅ ΣΑΣ",
        "e\u0301\u200d\ufe0fb \U0003f000a \u1100\u1161",
    ]
    found = opened.evaluate(f"{json.dumps(texts)}.map((text) => skyexportSearch.wordsOfQuery(text))")
    assert found == [words_of_query(text) for text in texts]


def test_every_letter_is_the_same(opened: Browser) -> None:
    """Characters are words, or not, as in Python; a browser may only know more of them."""
    script = """Array.from({length: 0x30000}, (_, code) => code)
      .filter((code) => code < 0xd800 || code > 0xdfff)
      .map((code) => skyexportSearch.wordsOfQuery("z" + String.fromCodePoint(code) + "z").join(" "))"""
    codes = [code for code in range(0x30000) if not 0xD800 <= code <= 0xDFFF]
    different = [
        chr(code)
        for code, words in zip(codes, opened.evaluate(script), strict=True)
        if words != " ".join(words_of_query(f"z{chr(code)}z"))
    ]
    old = [character for character in different if not is_newer(character)]
    assert old == []


def is_newer(character: str) -> bool:
    """Whether the Unicode version of this Python does not have the character."""
    return unicodedata.category(character) == "Cn"


def test_result_of_a_search(opened: Browser) -> None:
    """A result links to its post, and says when and by whom; markup in texts is text."""
    rank = next(
        rank
        for rank, post in enumerate(some_posts())
        if rank >= 100 and "alert(1)" in post.text[:100] and not post.author
    )
    call(opened, "found", words=f"n{rank} alert")
    assert opened.evaluate("document.querySelectorAll('ol li').length") == 1
    assert opened.evaluate("document.querySelectorAll('ol script').length") == 0
    href = opened.evaluate("document.querySelector('ol a').getAttribute('href')")
    assert href.startswith("../authors/%E6%97%A5%20%E6%9C%AC%23%25/")
    assert href.endswith(f"/1.html#3k%3A{rank}%C3%A9")
    assert opened.evaluate("document.querySelector('ol .author').textContent") == "Ann <b> (@ann.example)"
    assert opened.evaluate("document.querySelector('ol .snippet').dir") == "auto"
    marked = opened.evaluate("Array.from(document.querySelectorAll('ol mark'), (mark) => mark.textContent)")
    assert marked
    assert set(marked) <= {"alert", f"n{rank}"}


@pytest.mark.parametrize(
    ("query", "text", "marked"),
    [
        ("for", "a FOREST; fore", ["FOREST", "fore"]),
        ("ete", "e\u0301te\u0301 ete", ["ete"]),
        ("été", "E\u0301te\u0301!", ["E\u0301te\u0301"]),
        ("京都", "東京都 京都", ["京都", "京都"]),
        ("都", "東京都に", ["都"]),
        ("東京都", "東京都に", ["東京都"]),
        ("ガス", "a ｶﾞｽ.", ["ｶﾞｽ"]),
        ("tel", "the ℡ ½", ["℡"]),
        ("가", "\u1100\u1161.", ["\u1100\u1161"]),
        ("ok", "❤️ok👍🏽", ["ok"]),
        ("softhyphen", "a soft\u00adhyphen", ["soft\u00adhyphen"]),
        ("𠮷野", "𠮷野家", ["𠮷野"]),
        ("straße", "STRASSE Straße", ["Straße"]),
        ("σας", "ΣΑΣ", ["ΣΑΣ"]),
        ("<b>", "a <b>c", ["b"]),
    ],
)
def test_marks(browser: Browser, tmp_path: Path, query: str, text: str, marked: list[str]) -> None:
    """Snippets are the text as it was written, with what matches marked."""
    filler = [Document("1.html", str(rank), "", 0, f"w{rank} x{rank} y{rank} " * 9) for rank in range(20)]
    opened = open_page(browser, write_export(tmp_path / "export", [Document("1.html", "x", "", 0, text), *filler]))
    assert call(opened, "found", words=query) == ["x"]
    assert opened.evaluate("document.querySelector('ol .snippet').textContent") == text
    assert opened.evaluate("Array.from(document.querySelectorAll('mark'), (mark) => mark.textContent)") == marked


def test_snippets_of_long_texts(browser: Browser, tmp_path: Path) -> None:
    """Long texts are cut around the match, between graphemes."""
    family = "👩‍👩‍👧"
    texts = [family * 80 + " needle " + family * 80, "needle " + "é" * 500, "漢" * 500 + "needle", "e" + "\u0301" * 900]
    texts += [f"filler{number} " * 30 for number in range(20)]
    posts = [Document("1.html", str(rank), "", 0, text) for rank, text in enumerate(texts)]
    opened = open_page(browser, write_export(tmp_path / "export", posts))
    assert call(opened, "found", words="needle") == ["2", "1", "0"]
    snippets = opened.evaluate("Array.from(document.querySelectorAll('ol .snippet'), (p) => p.textContent)")
    assert snippets[0] == "…" + "漢" * 60 + "needle"
    assert snippets[1] == "needle " + "é" * 193 + "…"
    assert snippets[2].strip("…").replace(family, "") == " needle "
    assert len(snippets[2]) < 300
    assert call(opened, "found", words="é") == ["3", "1"]
    assert opened.errors() == []


def test_more_results(opened: Browser) -> None:
    """Twenty results are shown at a time; the first new one is focused."""
    every = expected("n")
    assert len(every) == POSTS
    opened.evaluate("(submit({words: 'n'}), settled())")
    assert opened.evaluate("anchors()") == every[:20]
    assert status(opened) == "400 posts were found; the newest 20 are shown."
    opened.evaluate("(byId('search-more').click(), settled())")
    assert opened.evaluate("anchors()") == every[:40]
    assert opened.evaluate("decodeURIComponent(document.activeElement.hash)") == "#" + every[20]
    opened.evaluate("(submit({words: 'n17'}), settled())")
    assert opened.evaluate("byId('search-more').hidden") is True
    assert status(opened) == f"{len(expected('n17'))} posts were found."
    opened.evaluate("(submit({words: 'n170'}), settled())")
    assert status(opened) == "1 post was found."
    opened.evaluate("(submit({words: 'zzz'}), settled())")
    assert status(opened) == "Nothing was found."
    opened.evaluate("(submit({words: '?!'}), settled())")
    assert status(opened) == "Only words are searched for: letters and digits."
    opened.evaluate("(submit({}), settled())")
    assert status(opened) == ""


def test_searches_while_typing(opened: Browser) -> None:
    """Typing searches without a submit, after a moment."""
    opened.evaluate("""(() => {
      for (const text of ["f", "fo", "forest"]) {
        byId("search-words").value = text;
        byId("search-words").dispatchEvent(new Event("input"));
      }
    })()""")
    opened.wait_for("byId('search-results').children.length && !byId('search-results').hasAttribute('aria-busy')")
    assert opened.evaluate("anchors()") == expected("forest")[:20]


def test_late_answers_are_dropped(opened: Browser) -> None:
    """A search whose files come late does not take the place of a later one."""
    shown = opened.evaluate("""(async () => {
      const append = document.head.append;
      let late;
      const released = new Promise((done) => { late = done; });
      document.head.append = (script) => { released.then(() => append.call(document.head, script)); };
      submit({words: "кот"});
      document.head.append = append;
      submit({words: "天気"});
      await settled();
      const before = anchors();
      late();
      await new Promise((done) => setTimeout(done, 300));
      await settled();
      return [before, anchors()];
    })()""")
    assert shown == [expected("天気")[:20]] * 2
    assert call(opened, "found", words="кот") == expected("кот")


def test_many_searches_at_once(opened: Browser) -> None:
    """Only the last of many searches is shown."""
    queries = json.dumps(["the", "к", "東京", "a", "12", "ภา", "кто"])
    opened.evaluate(f"(async () => {{ for (const words of {queries}) submit({{words}}); await settled(); }})()")
    assert opened.evaluate("anchors()") == expected("кто")[:20]


def test_address(browser: Browser, page: Path) -> None:
    """A query in the address is asked at once, and the address follows the query where that is allowed."""
    opened = open_page(browser, page, "?q=%E6%9D%B1%E4%BA%AC+the&author=2&from=2024-01&to=nonsense#there")
    opened.wait_for("byId('search-results').children.length && !byId('search-results').hasAttribute('aria-busy')")
    assert opened.evaluate("anchors()") == expected("東京 the", "2", "2024-01")[:20]
    assert opened.evaluate("location.hash") == "#there"
    call(opened, "found", words="a&b", author="1")
    assert opened.evaluate("location.search") == "?q=a%26b&author=1"
    opened.evaluate("(submit({}), settled())")
    assert opened.evaluate("location.search") == ""
    assert opened.errors() == []


def test_fields(opened: Browser) -> None:
    """Authors and months can be chosen: newest first, by year, without the undated ones."""
    assert opened.evaluate("byId('search').hidden") is False
    options = "Array.from(byId('search-%s').options, (option) => [option.value, option.textContent])"
    assert opened.evaluate(options % "author") == [
        ["", "All authors"],
        ["0", "Ann <b> (@ann.example)"],
        ["1", "@bob.example"],
        ["2", "日本"],
    ]
    months = [["2025-05", "May 2025"], ["2024-02", "February 2024"], ["2024-01", "January 2024"]]
    months.append(["2023-11", "November 2023"])
    assert opened.evaluate(options % "from") == [["", "The first month"], *months]
    assert opened.evaluate(options % "to") == [["", "The last month"], *months]
    assert (
        opened.evaluate("Array.from(document.querySelectorAll('optgroup'), (group) => group.label)")
        == ["2025", "2024", "2023"] * 2
    )


def test_one_author(browser: Browser, tmp_path: Path) -> None:
    """With one author there is nothing to choose, and results do not say who."""
    posts = [post._replace(author=0) for post in some_posts()]
    opened = open_page(browser, write_export(tmp_path / "export", posts, AUTHORS[:1]))
    assert (
        opened.evaluate("[byId('search-author'), byId('search-author').labels[0]].map((e) => e.hidden)") == [True] * 2
    )
    assert call(opened, "found", words="the") == expected("the")
    assert opened.evaluate("document.querySelectorAll('.author').length") == 0


def test_missing_files(browser: Browser, tmp_path: Path) -> None:
    """A file of the index that is missing or damaged is named, and asked for again by the next search."""
    page = write_export(tmp_path / "export", some_posts())
    search = tmp_path / "export" / "search"
    opened = open_page(browser, page)
    aside = tmp_path / "aside"
    (search / "posts-00011.js").rename(aside)
    opened.evaluate("(submit({words: 'the'}), settled())")
    assert status(opened) == "A file of the search index is missing or damaged: search/posts-00011.js"
    assert opened.evaluate("anchors()") == []
    aside.rename(search / "posts-00011.js")
    assert call(opened, "found", words="the") == expected("the")
    opened = open_page(browser, page)
    (search / "posts-00011.js").write_text("nothing();")
    opened.evaluate("(submit({words: 'the'}), settled())")
    assert status(opened) == "A file of the search index is missing or damaged: search/posts-00011.js"
    for path in search.glob("words-*.js"):
        path.unlink()
    opened.evaluate("(submit({words: 'forest'}), settled())")
    assert status(opened).startswith("A file of the search index is missing or damaged: search/words-000")
    (search / "table.js").unlink()
    opened = open_page(browser, page)
    assert status(opened) == "A file of the search index is missing or damaged: search/table.js"
    opened.errors()


def test_browsers_notice(browser: Browser, tmp_path: Path) -> None:
    """Errors and requests of a page are noticed: a test that finds none means something."""
    (tmp_path / "page.js").write_text("setTimeout(() => { throw new Error('thrown'); }); console.error('said', 3);")
    image = '<img src="http://host.invalid/image.png"/>'
    (tmp_path / "page.html").write_text(f'<!doctype html><title>T</title>{image}<script src="page.js"></script>')
    open_page(browser, tmp_path / "page.html")
    errors: list[str] = []
    for _ in range(100):
        errors += browser.errors()
        if any("thrown" in error for error in errors):
            break
        browser.evaluate("pause()")
    assert [error for error in errors if "thrown" in error]
    assert [error for error in errors if "said 3" in error]
    assert "http://host.invalid/image.png" in browser.requests()
