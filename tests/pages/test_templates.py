"""Pages: the same elements to a reader of XML and a reader of HTML, whatever strangers wrote."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from typing import Any
from xml.parsers import expat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyexport.pages import templating
from skyexport.pages.addresses import profile_address, web_address
from skyexport.pages.post_text import clean, segments
from skyexport.pages.views import (
    AuthorLine,
    AuthorPage,
    AuthorsPage,
    AuthorView,
    Bar,
    Card,
    Image,
    Link,
    Month,
    Parent,
    PostsPage,
    PostView,
    Quote,
    SearchPage,
    Segment,
    Site,
    Video,
)
from tests.pages.test_embed_views import AUTHOR, EMBEDS, POST
from tests.pages.test_post_views import ADA, DID, URI, Lookup, copied, post, view

COMMON = {"class", "id", "dir", "aria-label", "aria-labelledby", "aria-hidden"}
_OWN = """
html lang; meta charset http-equiv content name; link rel href; script src defer; a href rel tabindex
img src alt width height loading; video src controls preload width height; time datetime; p role; div role tabindex
span aria-current; section data-root hidden; form role; label for; input type name autocomplete placeholder
button type hidden; svg viewbox width height role; line x1 y1 x2 y2; rect x y width height; text x y
head; title; body; header; main; footer; article; aside; blockquote; h1; h2; h3; ul; ol; li; small; br; figure
figcaption; details; summary; noscript; nav; select
"""
ELEMENTS = {names[0]: {*names[1:]} for line in _OWN.replace("\n", ";").split(";") if (names := line.split())}
"""Element → attributes that templates give it, besides the common ones."""

OUTSIDE = re.compile(r"https?://[^\s\"<>]+")
INSIDE = re.compile(r"(?:\.\./)*(?:[A-Za-z0-9_-][A-Za-z0-9._-]*/)*(?:[A-Za-z0-9_-][A-Za-z0-9._-]*)?(?:#[\w%.*-]+)?")

Element = tuple[str, tuple[tuple[str, str], ...]]


def spaces(value: str) -> str:
    """XML turns line breaks in attributes into spaces, and HTML does not."""
    return value.replace("\n", " ").replace("\t", " ")


def as_xml(page: bytes) -> tuple[list[Element], str]:
    """The elements of a page, and its text, as XML has them."""
    elements: list[Element] = []
    text: list[str] = []
    parser = expat.ParserCreate()

    def start(name: str, attributes: dict[str, str]) -> None:
        elements.append((name.lower(), tuple((key.lower(), value) for key, value in attributes.items())))

    parser.StartElementHandler = start
    parser.CharacterDataHandler = text.append
    parser.Parse(page, True)
    return elements, "".join(text)


class _HtmlReader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple((name, spaces(value or "")) for name, value in attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    def handle_pi(self, data: str) -> None:
        raise AssertionError(f"an instruction: {data}")


def as_html(page: bytes) -> tuple[list[Element], str]:
    """The same as HTML has them."""
    reader = _HtmlReader()
    reader.feed(page.decode())
    reader.close()
    return reader.elements, "".join(reader.text)


def check(page: templating.Page) -> tuple[list[Element], str]:
    """The elements and the text of a page, which both readers see, and which are safe."""
    rendered = templating.render(page)
    assert rendered == templating.render(page)
    assert rendered.startswith(b"<!DOCTYPE html>\n")
    assert "\r" not in rendered.decode()
    elements, text = as_xml(rendered)
    html_elements, html_text = as_html(rendered)
    assert elements == html_elements
    assert text.strip() == html_text.strip()
    ids = [value for _, attributes in elements for name, value in attributes if name == "id"]
    assert len(ids) == len(set(ids))
    for element, attributes in elements:
        names = {name for name, _ in attributes}
        assert names <= ELEMENTS[element] | COMMON, (element, names)
        for name, value in attributes:
            if name in ("href", "src"):
                check_address(element, name, value, dict(attributes))
            if name in ("aria-labelledby", "for"):
                assert value in ids
    assert [name for name, _ in elements].count("h1") == 1
    assert [name for name, _ in elements].count("main") == 1
    csp = dict(elements[3][1])
    assert (elements[2], csp["http-equiv"]) == (("meta", (("charset", "utf-8"),)), "Content-Security-Policy")
    assert csp["content"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self'; "
        "base-uri 'none'; form-action 'none'"
    )
    assert not [1 for element, attributes in elements if element == "img" and "alt" not in dict(attributes)]
    return elements, text


def check_address(element: str, name: str, value: str, attributes: dict[str, str]) -> None:
    """Only links lead outside, and only to the web; whatever a page loads is in the export."""
    if OUTSIDE.fullmatch(value):
        assert (element, name) == ("a", "href")
        assert web_address(value) == value
        assert attributes["rel"] == "noopener noreferrer nofollow"
    else:
        assert INSIDE.fullmatch(value), value
        assert element != "a" or ".svg" not in value


SITE = Site(title="Ada", root="../../", exporter="skyexport 1.0")
ROOT = Site(title="Ada", root="", exporter="skyexport 1.0")


def month(*posts: PostView, kind: str = "month", author: AuthorView = ADA, site: Site = SITE) -> PostsPage:
    return PostsPage(
        site=site, kind=kind, author=author, home="../../index.html", heading="May 2024", number=1, of=1, others=(),
        previous=None, next=None, posts=posts,
    )  # fmt: skip


def author_page(site: Site = ROOT, **values: Any) -> AuthorPage:
    usual: dict[str, Any] = {"about": (), "earlier_handles": (), "posts": 0, "first": "", "last": "", "chart": ()}
    usual |= {"years": (), "undated": None, "liked": ()}
    return AuthorPage(site=site, **{"author": ADA, **usual, **values})


def full_post(**values: Any) -> PostView:
    """A post with one of everything."""
    usual: dict[str, Any] = {
        "anchor": "3kabc",
        "author": ADA,
        "time": "2024-05-22T18:57:38.254Z",
        "time_text": "22 May 2024, 18:57 UTC",
        "href": "https://bsky.app/profile/did:plc:a/post/3kabc",
        "text": segments("Hello https://example.com/?a=1&b=2"),
        "whole_text": Link("The whole text", "../../texts/3kabc.txt"),
        "whole_embed": Link("The attachment", "../../texts/3kabc-embed.txt"),
        "parent": Parent(ADA, "A question", "1.html#3kaaa", here=True),
        "thread": Link("Thread", "thread-3kabc.html#3kabc"),
        "images": [
            Image("A cat", "../../media/a.jpg", "https://example.com/a", 30, 20, 1234),
            Image("", "../../media/b.jpg", "", 0, 0, 5),
            Image("A dog", "", "https://example.com/b", 0, 0),
            Image("", "", "", 0, 0),
        ],
        "video": Video("A film", "../../media/c.mp4", "https://example.com/c", 16, 9),
        "card": Card(
            "Title", "About", "https://example.com/d", "example.com", Image("", "../../media/d.jpg", "", 1, 1)
        ),
        "quote": Quote(
            ADA, [Segment("Quoted")], "2024-05-21T10:00:00Z", Link("Quoted post", "1.html#3kaab"), "1 image"
        ),
        "other_embed": "Not shown: an embed of the kind x",
        "notes": ["A file of this post is not shown here"],
        "counts": [("like", "likes", "1"), ("reply", "replies", "1,234")],
    }
    return PostView(**{**usual, **values})


def only(elements: Sequence[Element], name: str) -> list[dict[str, str]]:
    return [dict(attributes) for element, attributes in elements if element == name]


def test_a_post_with_everything() -> None:
    """Each part of a view is on the page."""
    elements, text = check(month(full_post()))
    for said in (
        "Hello ", "https://example.com/?a=1&b=2", "The whole text", "The attachment", "A question", "Thread", "A cat",
        "A dog", "A film", "Title", "About", "example.com", "Quoted", "1 image", "Not shown: an embed of the kind x",
        "A file of this post is not shown here", "1 like", "1,234 replies", "22 May 2024, 18:57 UTC", "on bsky.app",
    ):  # fmt: skip
        assert said in text, said
    (article,) = only(elements, "article")
    assert (article["class"], article["id"]) == ("post", "3kabc")
    assert article["aria-label"] == "Ada, 22 May 2024, 18:57 UTC"
    images = only(elements, "img")
    assert [(image["src"], image["alt"]) for image in images] == [
        ("../../media/a.jpg", "A cat"), ("../../media/b.jpg", ""), ("../../media/d.jpg", ""),
    ]  # fmt: skip
    assert (images[0]["width"], images[0]["height"], images[0]["loading"]) == ("30", "20", "lazy")
    assert only(elements, "video")[0]["preload"] == "none"
    assert {link["href"] for link in only(elements, "a")} >= {"#3kabc", "#content*", "1.html#3kaaa", "../../index.html"}
    assert not [details for details in only(elements, "details") if details.get("class") == "labelled"]


def test_posts_of_threads_are_repeated() -> None:
    """Pages of threads have posts that pages of months have, too."""
    elements, _ = check(month(full_post(thread=None), kind="thread"))
    assert only(elements, "article")[0]["class"] == "post again"


def test_posts_with_labels_are_shown_after_a_click() -> None:
    """Text and media of a labelled post are inside of an element that is closed."""
    rendered = templating.render(month(full_post(labels=["porn", "<b>"]))).decode()
    before, inside = rendered.split('<details class="labelled">')
    assert "Hello" not in before
    assert "media/" not in before
    assert "porn, &lt;b&gt;" in inside.partition("</summary>")[0]


def test_anchors_that_are_hashes() -> None:
    """A star in an anchor is written as browsers find it."""
    elements, _ = check(month(full_post(anchor="*" + "0" * 32)))
    assert only(elements, "article")[0]["id"] == "*" + "0" * 32
    assert "#%2A" + "0" * 32 in {link["href"] for link in only(elements, "a")}


def test_answers() -> None:
    """A reply names whom it answers, here, elsewhere, or nowhere."""
    elsewhere = "https://bsky.app/profile/did:plc:a/post/b"
    for parent, said in (
        (Parent(ADA, "Hi", "1.html#a", here=True), "In reply to Ada: Hi"),
        (
            Parent(None, "", elsewhere, here=False),
            "In reply to a post (not in this export)",
        ),
        (Parent(None, "", "", here=False), "In reply to a post (not in this export)"),
        (Parent(AuthorView("", "", "did:plc:a"), "Hi", "", here=False), "In reply to a post: Hi"),
    ):
        _, text = check(month(full_post(parent=parent)))
        assert said in text


def test_pages_of_authors() -> None:
    """The list of months, the chart, the most liked posts, and search on the first page."""
    bars = [
        Bar(month=f"{n}", posts=n % 7, href="2024/05/1.html" if n % 7 else "", year="" if n else "2024")
        for n in range(150)
    ]
    months = [Month(name="April", href="2024/04/1.html", posts=1), Month(name="May", href="a.html", posts=2)]
    full = author_page(
        about=segments("I write at example.com"), earlier_handles=["old.example.com", "older.example.com"],
        posts=12_345, first="1 May 2024", last="3 May 2024", chart=bars, years=[("2024", months)],
        undated=Month(name="Undated", href="undated/1.html", posts=3),
        liked=[("1", Link("Hello", "a.html#a"), "2 May 2024"), ("1,234", Link("Yes", "a.html#b"), "3 May 2024")],
    )  # fmt: skip
    elements, text = check(full)
    for said in (
        "12,345 posts",
        "from 1 May 2024 to 3 May 2024",
        "older.example.com",
        "April",
        "1,234 likes",
        "1 like",
    ):
        assert said in text, said
    assert len([rect for rect in only(elements, "rect") if rect["class"] == "bar"]) == 150 - 22
    assert all(float(rect["height"]) > 0 for rect in only(elements, "rect"))
    ids = {attributes.get("id") for attributes in map(dict, (attributes for _, attributes in elements))}
    search = {"search*", "search-form*", "search-words*", "search-author*", "search-from*", "search-to*"}
    search |= {"search-status*", "search-results*", "search-more*"}
    assert search <= ids
    assert [script["src"] for script in only(elements, "script")] == [
        "assets/time.js", "search/table.js", "assets/search.js",
    ]  # fmt: skip
    below = author_page(SITE, home="../../index.html", posts=1, first="1 May 2024", last="1 May 2024")
    elements, text = check(below)
    assert "1 post, all from 1 May 2024" in text
    assert [script["src"] for script in only(elements, "script")] == ["../../assets/time.js"]
    assert "No posts." in check(author_page())[1]


def test_pages_for_finding_authors_and_posts() -> None:
    """The list of authors, and the page for search."""
    line = AuthorLine(author=ADA, href="authors/ada/index.html", posts=1, first="1 May 2024", last="2 May 2024")
    elements, text = check(AuthorsPage(site=ROOT, posts=1, authors=[line]))
    assert "1 post" in text
    assert "authors/ada/index.html" in {link["href"] for link in only(elements, "a")}
    elements, _ = check(SearchPage(site=ROOT))
    section = next(each for each in only(elements, "section") if each["id"] == "search*")
    assert (section["data-root"], section["hidden"]) == ("", "hidden")


HOSTILE = st.one_of(
    st.sampled_from(
        [
            "<script>alert(1)</script>", "</script>", '"><img src=x onerror=alert(1)>', "' onmouseover='alert(1)",
            "]]>", "-->", "<!--", "<![CDATA[", "<?xml?>", "&lt;&amp;&#0;&nbsp;&", "javascript:alert(1)",
            "data:text/html,x", "\u202e\u2066x", "</title>", "</details>", "</article>", "</style>", "{{ 7*7 }}",
            "{% raw %}", "\0\x08\x1b", "\ud800", "\ufffe", "\r\n\t", "https://example.com/\"'<>",
            "https://user@example.com", "<svg onload=alert(1)>", "&#x6a;avascript:", "example.com/?<b>&c", "#<b>",
            "@a.example.com<", "``${x}", "\u2028", "e\u0301" * 40, "a" * 500,
        ]
    ),
    st.text(max_size=20),
)  # fmt: skip
TEXTS = st.lists(HOSTILE, max_size=4).map("".join)


def image_embed(alt: str, url: str) -> Any:
    return {"images": [{"alt": alt, "fullsize": url}]}


def card_embed(title: str, url: str) -> Any:
    return {"external": {"title": title, "description": title, "uri": url}}


def quote_embed(text: str, name: str) -> Any:
    author = {**AUTHOR, "displayName": name, "handle": name}
    return {"record": {"uri": POST, "value": {"text": text}, "author": author}}


HOSTILE_EMBEDS = st.one_of(
    EMBEDS,
    *(st.builds(make, TEXTS, TEXTS) for make in (image_embed, card_embed, quote_embed)),
    TEXTS.map(lambda kind: {"$type": kind}),
)
BYTES = TEXTS.map(lambda text: text.encode(errors="surrogatepass"))


@st.composite
def hostile_posts(draw: st.DrawFn) -> PostView:
    """A post by people who mean harm, from its stored values."""
    files = [copied(b"1", alt=draw(TEXTS)), copied(b"2", ".svg"), copied(b"3", ".mp4", alt=draw(TEXTS))]
    before = f"at://{DID}/app.bsky.feed.post/".encode()
    stored = post(
        uri=draw(st.one_of(st.just(URI), BYTES, BYTES.map(before.__add__))), did=draw(st.one_of(st.just(DID), BYTES)),
        reply_parent=draw(BYTES), text=draw(BYTES), labels=draw(st.lists(TEXTS, max_size=2)),
        embed_data=json.dumps(draw(HOSTILE_EMBEDS)).encode(), created_at=draw(BYTES), like_count=draw(BYTES),
    )  # fmt: skip
    name = clean(draw(TEXTS))
    parent = Parent(
        AuthorView(name, name, name, profile_address(name)), clean(draw(TEXTS)), web_address(draw(TEXTS)), here=False
    )
    return view(stored, Lookup(files), parent=draw(st.sampled_from([None, parent])), time="")


@given(st.lists(hostile_posts(), max_size=2, unique_by=lambda hostile: hostile.anchor), TEXTS.map(clean))
def test_hostile_posts(hostile: list[PostView], name: str) -> None:
    """Nothing that anyone wrote becomes an element, an attribute, or a link to anything but the web."""
    author = AuthorView(name, name, name)
    check(month(*hostile, author=author, site=Site(title=name, root="../../", exporter="skyexport 1.0")))


@given(TEXTS.map(clean))
def test_hostile_authors(text: str) -> None:
    """The same on the pages of authors."""
    author = AuthorView(text, text, text)
    site = Site(title=text, root="", exporter="skyexport 1.0")
    liked = [("3", Link(text, "2024/05/1.html#a"), "1 May 2024")]
    check(author_page(site, author=author, about=segments(text), earlier_handles=[text], liked=liked))
    line = AuthorLine(author=author, href="authors/a/index.html", posts=1, first="", last="")
    check(AuthorsPage(site=site, posts=1, authors=[line]))
    check(SearchPage(site=site))


def test_assets() -> None:
    """The shared files are those that pages name, and load nothing from elsewhere."""
    assets = templating.assets()
    assert {*assets} == {"search.js", "style.css", "time.js"}
    assert assets == templating.assets()
    for content in assets.values():
        assert not re.search(rb"@import|url\(|innerHTML|eval\(|document\.write|//[a-z]+\.", content)


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def palettes() -> list[dict[str, str]]:
    """The colours of each scheme; those that a scheme does not set are those of the first."""
    style = templating.assets()["style.css"].decode()
    blocks = re.findall(r":root \{([^}]*)\}", style)
    found = [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block)) for block in blocks]
    assert len(found) == 3
    assert [*found[0]] == [*found[1]]
    assert {*re.findall(r"var\(--([\w-]+)\)", style)} == {*found[0]}
    return [{**found[0], **palette} for palette in found]


@pytest.mark.parametrize("palette", palettes(), ids=["light", "dark", "print"])
def test_contrast(palette: dict[str, str]) -> None:
    """Text has the contrast that WCAG 2 asks for at level AA, 4.5, and bars and the mark of the focus have 3."""
    texts = [(ink, paper) for ink in ("ink", "soft", "link", "visited") for paper in ("page", "paper")]
    texts += [("mark-ink", "mark"), ("badge-ink", "badge")]
    pairs = [(*pair, 4.5) for pair in texts] + [("bar", "page", 3.0)]
    for ink, paper, least in pairs:
        dark, light = sorted((luminance(palette[ink]), luminance(palette[paper])))
        assert (light + 0.05) / (dark + 0.05) >= least, (ink, paper)
