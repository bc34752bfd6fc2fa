"""Texts: which parts become links, and that reading them takes no longer for hostile ones."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyexport.pages.addresses import web_address
from skyexport.pages.post_text import clean, segments

CARD = "https://www.example.com/news/a-long-story-about-things?from=x"


def links(text: str, *cards: str) -> dict[str, str]:
    """The text of each link, and its address."""
    found = segments(text, cards)
    assert "".join(part.text for part in found) == text
    return {part.text: part.href for part in found if part.href}


@pytest.mark.parametrize(
    ("text", "link"),
    [
        ("(see https://example.org/a_(b)).", "https://example.org/a_(b)"),
        ("(https://example.org/a)", "https://example.org/a"),
        ("[https://example.org/a]: yes", "https://example.org/a"),
        ("see https://example.org/a, or not", "https://example.org/a"),
        ("https://example.org/?q=what?!", "https://example.org/?q=what"),
        ("“https://example.org/a”…", "https://example.org/a"),
        ("<https://example.org/a>", "https://example.org/a"),
        ('"https://example.org/a"', "https://example.org/a"),
        ("見て「https://example.org/a」。", "https://example.org/a"),
        ("HTTPS://EXAMPLE.ORG/A", "HTTPS://EXAMPLE.ORG/A"),
        ("https://example.org/#a/@b:c", "https://example.org/#a/@b:c"),
        ("https://example.org/a...", "https://example.org/a"),
        ("line\nhttps://example.org\nline", "https://example.org"),
    ],
)
def test_addresses(text: str, link: str) -> None:
    """An address ends before the punctuation of the sentence, and before brackets that it did not open."""
    assert links(text) == {link: web_address(link)}


@pytest.mark.parametrize(
    ("text", "link"),
    [
        ("example.com", "example.com"),
        ("go to example.com.", "go to example.com."[6:17]),
        ("(sub.example.co.uk/path_(x)?y=1)", "sub.example.co.uk/path_(x)?y=1"),
        ("my-site.example.org:8080/a", "my-site.example.org:8080/a"),
        ("blog.example/post", "blog.example/post"),
        ("münchen.de", "münchen.de"),
        ("xn--mnchen-3ya.de", "xn--mnchen-3ya.de"),
        ("EXAMPLE.COM", "EXAMPLE.COM"),
        ("example.com...", "example.com"),
    ],
)
def test_domains(text: str, link: str) -> None:
    """A domain is a link without a scheme, too."""
    assert links(text) == {link: web_address(f"https://{link}")}


@pytest.mark.parametrize(
    "text",
    [
        "Done.Next", "e.g. this", "3.5 and 1.2.3", "a.b.c", "notes.txt", "node.js", "ada@example.com",
        "ada.harbour@mail.example.com", "C:\\temp\\a.com", "/etc/example.com", "_foo.com", "-example.com", "...com",
        "https://", "https://@example.com", "javascript:alert(1)", "javascript://x", "http:/x", "ahttps://x.y",
        "@@ada", "@ada", "@.ada", "x@ada.example.com", "#", "##", "#1", "#12.5", "#!?", "#️⃣", "a#b", "#" + "a" * 65,
    ],
)  # fmt: skip
def test_what_is_no_link(text: str) -> None:
    """Ends of sentences, names of files, addresses of mail, numbers."""
    assert links(text) == {}


def test_shortened_addresses() -> None:
    """Bluesky's app shortens addresses; the card has the whole one."""
    for shortened in ("www.example.com/news/a-l...", "WWW.example.com/news/a-l…", "https://www.example.com/news/..."):
        assert links(f"read ({shortened})!", CARD) == {shortened: CARD}
    assert links("www.example.com/other/a-l...", CARD) == {}
    assert links("www.example.com/news/a-l...") == {}
    assert links("www.example.com... yes", CARD) == {"www.example.com": "https://www.example.com"}
    other = "https://www.example.com.evil.example/"
    assert links("https://www.example.com...", other) == {"https://www.example.com": "https://www.example.com"}
    assert links("https://www.example.com/...", other) == {"https://www.example.com/": "https://www.example.com/"}
    assert links("see example.org... yes", CARD) == {"example.org": "https://example.org"}


def test_mentions_and_tags() -> None:
    """Handles lead to profiles, and tags to their pages."""
    assert links("(@ada.example.com), .@bela.bsky.social.") == {
        "@ada.example.com": "https://bsky.app/profile/ada.example.com",
        "@bela.bsky.social": "https://bsky.app/profile/bela.bsky.social",
    }
    assert links("#art, #日本 ＃x! #C++ #a-b #don't #1a\n#é.") == {
        "#art": "https://bsky.app/hashtag/art",
        "#日本": "https://bsky.app/hashtag/%E6%97%A5%E6%9C%AC",
        "＃x": "https://bsky.app/hashtag/x",
        "#C++": "https://bsky.app/hashtag/C%2B%2B",
        "#a-b": "https://bsky.app/hashtag/a-b",
        "#don't": "https://bsky.app/hashtag/don%27t",
        "#1a": "https://bsky.app/hashtag/1a",
        "#é": "https://bsky.app/hashtag/%C3%A9",
    }


PIECES = st.sampled_from(
    [
        "https://", "http://", "example.com", "@ada.example.com", "#tag", "#", "＃", "@", ".", "...", "…", "(", ")",
        "[", "]", "/", ":", "?", "-", "_", "a", "é", "日", "1", " ", "\n", "\u200d", "\ufe0f", "javascript:", '"',
        "<", "&", ".com", "!",
    ]
)  # fmt: skip


@given(st.one_of(st.text(), st.lists(PIECES, max_size=30).map("".join)))
def test_segments_make_up_the_text(text: str) -> None:
    """Nothing is lost, no segment is empty, no two plain ones are neighbours, and links are safe."""
    text = clean(text)
    found = segments(text, [CARD])
    assert "".join(part.text for part in found) == text
    assert all(part.text for part in found)
    assert not [1 for part, after in itertools.pairwise(found) if not part.href and not after.href]
    for part in found:
        assert not part.href or web_address(part.href) == part.href
        if part.text[0] not in "@#＃" and part.href not in ("", CARD):
            assert part.href in (web_address(part.text), web_address(f"https://{part.text}"))


@pytest.mark.parametrize(
    "unit",
    [
        "#a ", "(", ")", ".", "a.", "a", "@a", "@", "#", "＃", "a.b ", "-a", "_", "https://", "https://(",
        "https://a) ", "://", ":", "…", "a.com/(", "a.com...", "[](", "a.b:", "a.b@", "!", "日", "a.com:1", ".@a.b",
        "\u200d", "#1 ", "x.com ",
    ],
)  # fmt: skip
def test_hostile_texts(unit: str) -> None:
    """A pattern that reads a text again from each of its characters would take hours for these."""
    text = unit * (100_000 // len(unit))
    for whole in (text, f"https://{text}", f"a.com/{text}", f"#{text}", f"@{text}", f"a{text}.com"):
        assert sum(len(part.text) for part in segments(whole, [CARD])) == len(whole)


def test_clean() -> None:
    """Only characters that XML allows are left, and line breaks are of one kind."""
    assert clean("a\r\nb\rc\nd\te") == "a\nb\nc\nd\te"
    assert clean("\0\x08\x0b\x1f\ud800\udfff\ufffe\uffff") == "\ufffd" * 8
    assert clean("\x7f\x85\ue000\ufdd0\u2028\U0001f600\U0010ffff") == "\x7f\x85\ue000\ufdd0\u2028\U0001f600\U0010ffff"


@given(st.text())
def test_clean_text_is_xml(text: str) -> None:
    """Cleaning changes no character that XML allows."""
    cleaned = clean(text)
    assert not re.search("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", cleaned)
    assert clean(cleaned) == cleaned
