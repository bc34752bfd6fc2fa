"""Views of posts: what is stored, matched with the files and the posts of an export."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyexport.notices import Notices
from skyexport.pages.post_views import CopiedFile, post_view, search_text
from skyexport.pages.views import AuthorView, Image, Link, Parent, PostView, Segment, Video
from skyexport.posts import COLUMNS, StoredPost, StoredValue
from skyexport.repository.blocks import RAW_CID, cid_text
from tests.pages.test_embed_views import AUTHOR, EMBEDS
from tests.strategies import byte_texts

DID = "did:plc:vrfckyxr7kryq6bne3gdrehq"
URI = f"at://{DID}/app.bsky.feed.post/3kabc"
TIME = "2024-05-22T18:57:38.254Z"
ADA = AuthorView("Ada", "ada.example.com", DID, f"https://bsky.app/profile/{DID}")


def post(**columns: Any) -> StoredPost:
    """A post as it is read; texts and JSON may be given as such."""
    usual: dict[str, Any] = dict.fromkeys(COLUMNS, b"")
    usual |= {"uri": URI, "did": DID, "text": "Hello", "created_at": "2024-05-22 18:57:38.254 +0000 UTC"}
    usual |= {"embed_data": None, "labels": None, "has_media": 0, "is_reply": 0}
    usual |= {"like_count": 0, "repost_count": 0, "reply_count": 0, "quote_count": 0, **columns}
    for name in ("embed_data", "labels"):
        if not isinstance(usual[name], bytes):
            usual[name] = json.dumps(usual[name])
    return {name: value.encode() if isinstance(value, str) else value for name, value in usual.items()}


class Lookup:
    """An export of a few posts and files."""

    def __init__(self, files: Sequence[CopiedFile] = (), places: Mapping[str, str] | None = None) -> None:
        self._files = files
        self._places = places or {}

    def place(self, uri: str) -> str | None:
        return self._places.get(uri)

    def files(self, uri: bytes) -> Sequence[CopiedFile]:
        return self._files if uri == URI.encode() else ()

    def author(self, did: str) -> AuthorView:
        return ADA if did == DID else AuthorView("", "", did)


def view(
    stored: StoredPost,
    lookup: Lookup | None = None,
    *,
    notices: Notices | None = None,
    counts_known: bool = True,
    parent: Parent | None = None,
    whole_text: Link | None = None,
    whole_embed: Link | None = None,
    time: str = TIME,
) -> PostView:
    return post_view(
        stored, lookup or Lookup(), anchor="3kabc", counts_known=counts_known, parent=parent, thread=None,
        whole_text=whole_text, whole_embed=whole_embed, time=time, notices=Notices() if notices is None else notices,
    )  # fmt: skip


def copied(content: bytes, suffix: str = ".jpg", *, alt: str = "", width: int = 0, height: int = 0) -> CopiedFile:
    digest = hashlib.sha256(content).hexdigest()
    kind = "image/svg+xml" if suffix == ".svg" else "image/jpeg"
    return CopiedFile(digest, f"../media/{digest}{suffix}", kind, width, height, 1234, alt)


def cid_of(content: bytes) -> str:
    return cid_text(RAW_CID + hashlib.sha256(content).digest())


def images(*contents: bytes, **members: Any) -> dict[str, Any]:
    address = f"https://cdn.bsky.app/img/feed_fullsize/plain/{DID}/"
    listed = [{"alt": "", "fullsize": f"{address}{cid_of(content)}@jpeg", **members} for content in contents]
    return {"$type": "app.bsky.embed.images#view", "images": listed}


def test_a_usual_post() -> None:
    """Its anchor, its address, its text, its time and its counts."""
    notices = Notices()
    shown = view(post(text="see example.com", like_count=1, repost_count=1234, quote_count=0), notices=notices)
    assert (shown.anchor, shown.author, shown.time) == ("3kabc", ADA, TIME)
    assert shown.time_text == "22 May 2024, 18:57 UTC"
    assert shown.href == f"https://bsky.app/profile/{DID}/post/3kabc"
    assert shown.text == [Segment("see "), Segment("example.com", "https://example.com")]
    assert shown.counts == [("like", "likes", "1"), ("repost", "reposts", "1,234")]
    assert not notices
    assert view(post(like_count=1), counts_known=False).counts == ()


def test_counts_that_are_no_numbers() -> None:
    """Each is shown as it is stored, with a notice; nothing is shown of zero and less."""
    notices = Notices()
    shown = view(post(like_count=b"many", repost_count=2.5, reply_count=-3, quote_count=float("inf")), notices=notices)
    assert shown.counts == [("like", "likes", "many"), ("repost", "reposts", "2.5"), ("quote", "quotes", "Inf")]
    assert notices.counts == {"unreadable_count": 2}
    assert notices.places["unreadable_count"] == [f"like_count of {URI}", f"quote_count of {URI}"]
    assert view(post(like_count=None, repost_count=0.0)).counts == []
    assert view(post(like_count=b""), notices=notices).counts == []
    assert notices.counts == {"unreadable_count": 3}


def test_notices() -> None:
    """Notices are those that other formats give, with the same places."""
    notices = Notices()
    odd = post(uri=b"at://x\xff", did=b"\xff", text=b"a\xff\0", reply_parent=b"\xff", embed_data=b"{", labels=b"{")
    shown = view(odd, notices=notices, time="")
    assert notices.counts == {"invalid_utf8": 4, "unreadable_json": 2, "unreadable_time": 1}
    assert notices.places["invalid_utf8"] == [
        f"{name} of at://x\ufffd" for name in ("uri", "did", "text", "reply_parent")
    ]
    assert notices.places["unreadable_json"] == ["embed_data of at://x\ufffd", "labels of at://x\ufffd"]
    assert notices.places["unreadable_time"] == ["created_at of at://x\ufffd"]
    assert shown.text == [Segment("a\ufffd\ufffd")]
    assert (shown.href, shown.time, shown.time_text) == ("", "", "2024-05-22 18:57:38.254 +0000 UTC")
    assert shown.other_embed == "Not shown: an embed that is not JSON: {"


def test_texts_that_are_cut() -> None:
    """The beginning of a text may end amid a character, and links to the whole."""
    link = Link("The whole text", "../texts/3kabc.txt")
    for text, beginning in (
        (b"ab\xe2\x82", "ab"), (b"ab\xe2\x82\xac", "ab€"), (b"\xf0\x9f\x98", ""), (b"ab\xc3", "ab"), (b"ab", "ab"),
        (b"", ""), ("ÿ€😀".encode(), "ÿ€😀"), (b"a\x80\x80\x80\x80", "a" + "\ufffd" * 4),
    ):  # fmt: skip
        notices = Notices()
        shown = view(post(text=text), whole_text=link, notices=notices)
        assert "".join(part.text for part in shown.text) == beginning
        assert shown.whole_text == link
        assert bool(notices) == ("\ufffd" in beginning)
    shown = view(post(text=None, embed_data=b"", has_media=1), whole_text=link, whole_embed=link)
    assert (shown.text, shown.notes, shown.whole_embed) == ([], [], link)


def test_images_and_their_files() -> None:
    """Images find their copies by the hash in the address; sizes are those of the copy."""
    one, two, three = (copied(name, alt=f"file {name!r}", width=20, height=10) for name in (b"1", b"2", b"3"))
    shown = view(post(embed_data=images(b"2", b"4", b"1", alt="A cat")), Lookup([one, two, three]))
    first, missing, last, added = shown.images
    assert (first.file, first.alt, first.width, first.height, first.size_bytes) == (two.href, "A cat", 20, 10, 1234)
    assert (missing.file, missing.alt, missing.href.endswith(f"{cid_of(b'4')}@jpeg")) == ("", "A cat", True)
    assert last.file == one.href
    shown = view(post(embed_data=images(b"1", b"1")), Lookup([one, two]))
    assert [image.file for image in shown.images] == [one.href, one.href, two.href]
    assert (added.file, added.alt, added.href) == (three.href, "file b'3'", "")


def test_the_only_file_is_the_only_image() -> None:
    """Bluesky's servers convert images, so their hashes may differ."""
    file = copied(b"converted", alt="from the file")
    ratio = {"aspectRatio": {"width": 16, "height": 9}}
    (image,) = view(post(embed_data=images(b"1", **ratio)), Lookup([file])).images
    assert (image.file, image.alt, image.width, image.height) == (file.href, "from the file", 1000, 562)
    assert len(view(post(embed_data=images(b"1", b"2")), Lookup([file])).images) == 3
    assert len(view(post(embed_data=images(b"1")), Lookup([file, copied(b"2")])).images) == 3


def test_videos_and_their_files() -> None:
    """A video with a copy plays here; any other is on bsky.app."""
    embed = {
        "$type": "app.bsky.embed.video#view",
        "cid": cid_of(b"v"),
        "playlist": "x.m3u8",
        "alt": "A",
    }
    place = f"https://bsky.app/profile/{DID}/post/3kabc"
    assert view(post(embed_data=embed)).video == Video("A", "", place, 0, 0)
    file = copied(b"v", ".mp4")
    assert view(post(embed_data=embed), Lookup([copied(b"x"), file])).video == Video("A", file.href, place, 0, 0)
    added = view(post(), Lookup([file, copied(b"w", ".webm")]))
    assert added.video is not None
    assert added.video.file == file.href
    assert added.notes == ["A file of this post is not shown here: image/jpeg, 1.2 kB."]
    swapped = view(post(embed_data=embed), Lookup([copied(b"v", ".jpg")]))
    assert swapped.video == Video("A", "", place, 0, 0)
    assert [image.file for image in swapped.images] == [copied(b"v").href]


def test_pictures_of_cards() -> None:
    """The picture of a card is shown if there is a copy."""
    thumb = f"https://cdn.bsky.app/img/feed_thumbnail/plain/{DID}/{cid_of(b't')}@jpeg"
    embed = {"external": {"title": "T", "uri": "https://example.com/", "thumb": thumb}}
    file = copied(b"t", width=3, height=2)
    card = view(post(embed_data=embed), Lookup([file])).card
    assert card is not None
    assert card.image == Image("", file.href, "", 3, 2, 1234)
    without = view(post(embed_data=embed)).card
    assert without is not None
    assert without.image is None


def test_files_that_may_be_pages_are_only_mentioned() -> None:
    """Nothing leads to a file that a browser may run."""
    for suffix in (".svg", ".html", ".bin", "", ".jpg.xhtml"):
        shown = view(post(embed_data=images(b"1")), Lookup([copied(b"1", suffix)]))
        assert [image.file for image in shown.images] == [""]
        assert len(shown.notes) == 1
        assert "media/" not in repr(shown)


def test_media_that_nothing_describes() -> None:
    """A post with media that are unknown says so."""
    note = "This post has media that this export does not have."
    assert view(post(has_media=1)).notes == [note]
    assert view(post(has_media=0)).notes == []
    assert view(post(has_media=1, embed_data=images(b"1"))).notes == []
    assert view(post(has_media=1)).notes == [note]


def test_quotes_in_this_export_and_elsewhere() -> None:
    """A quoted post leads to where it is in the export, or to bsky.app, or nowhere."""
    value = {"text": "Hi @ada.example.com", "createdAt": "2024-05-22T20:57:38+02:00"}
    record = {"$type": "app.bsky.embed.record#viewRecord", "uri": URI, "author": AUTHOR, "value": value}
    here = Lookup(places={URI: "../05/1.html#3kabc"})
    quote = view(post(embed_data={"record": record}), here).quote
    assert quote is not None
    assert (quote.author, quote.time, quote.note) == (ADA, "2024-05-22T18:57:38Z", "")
    assert quote.link == Link("Quoted post", "../05/1.html#3kabc")
    assert quote.text[1] == Segment("@ada.example.com", "https://bsky.app/profile/ada.example.com")
    bare = view(post(embed_data={"record": {"uri": URI, "cid": "x"}}), here).quote
    assert bare is not None
    assert (bare.author, bare.text, bare.note) == (ADA, [], "")
    away = view(post(embed_data={"record": {"uri": URI, "cid": "x"}})).quote
    assert away is not None
    assert away.link == Link("Quoted post on bsky.app", f"https://bsky.app/profile/{DID}/post/3kabc")
    assert away.note == "The archive does not have the text of the quoted post."
    nowhere = view(post(embed_data={"record": {"uri": "javascript:x", "author": 7}})).quote
    assert nowhere is not None
    assert (nowhere.link, nowhere.author) == (None, None)
    feed = {"uri": f"at://{DID}/app.bsky.feed.generator/a", "displayName": "Cats"}
    listed = view(post(embed_data={"record": feed})).quote
    assert listed is not None
    assert (listed.link, listed.note) == (Link("Cats", f"https://bsky.app/profile/{DID}/feed/a"), "Feed")


def test_search_text() -> None:
    """Search finds texts, descriptions, cards and quotes."""
    embed = {
        "media": images(b"1", b"2", alt="A cat") | {"external": {"title": "Title", "description": "About"}},
        "record": {"record": {"uri": URI, "value": {"text": "Quoted"}}},
    }
    assert search_text(b"Text\0", json.dumps(embed).encode()) == "Text\ufffd\nA cat\nA cat\nTitle\nAbout\nQuoted"
    assert search_text(b"", b'{"playlist":"","alt":"A dog"}') == "A dog"
    assert search_text(b"Text", b"null") == search_text(b"Text", b"") == search_text(b"Text", b"{") == "Text"


@pytest.mark.parametrize(
    ("written", "time"),
    [
        ("2024-05-22T18:57:38.254Z", "2024-05-22T18:57:38.254Z"),
        ("2024-01-01T00:30:00+01:00", "2023-12-31T23:30:00Z"),
        ("0000-01-01T00:00:00+01:00", ""),
        ("yesterday", ""),
        ("", ""),
    ],
)
def test_times(written: str, time: str) -> None:
    """Times of quoted posts are in UTC, and empty if they are not readable."""
    record = {"uri": URI, "author": AUTHOR, "value": {"text": "Hi", "createdAt": written}}
    quote = view(post(embed_data={"record": record})).quote
    assert quote is not None
    assert quote.time == time


def test_times_for_people() -> None:
    """A day, a month's name, and the time of day."""
    assert view(post(), time="0001-12-03T04:05:06Z").time_text == "3 December 0001, 04:05 UTC"


STORED: st.SearchStrategy[StoredValue] = st.one_of(byte_texts, st.integers(), st.floats(), st.none())


@given(
    st.fixed_dictionaries(dict.fromkeys(COLUMNS, STORED)),
    st.one_of(EMBEDS.map(lambda value: json.dumps(value).encode()), byte_texts),
    st.booleans(),
)
def test_nothing_raises(stored: dict[str, StoredValue], embed: bytes, is_known: bool) -> None:
    """Any values have a view, and search finds something or nothing in them."""
    if is_known:
        stored |= {"uri": URI.encode(), "embed_data": embed}
    lookup = Lookup([copied(b"1"), copied(b"2", ".mp4"), copied(b"3", ".svg")])
    shown = view({**stored, "has_media": 1}, lookup, time="")
    assert len(shown.anchor) > 0
    search_text(b"x", embed)
