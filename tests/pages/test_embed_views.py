"""Embeds: every kind that archives hold, and bytes that are none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyexport.pages.embed_views import NO_EMBED, ShownEmbed, embed_view, labels_of
from skyexport.pages.views import AuthorView, Card
from skyexport.repository.embeds import view_of
from tests.strategies import byte_texts

DID = "did:plc:vrfckyxr7kryq6bne3gdrehq"
POST = f"at://{DID}/app.bsky.feed.post/3kabc"
CID = "bafkreij2qsat47rog4hbjin3jp44ne7vl2ns6xp2tlduioyvodwgqlm7xa"
FULL = f"https://cdn.bsky.app/img/feed_fullsize/plain/{DID}/{CID}@jpeg"
IMAGE = {"alt": "A cat", "aspectRatio": {"height": 30, "width": 40}, "fullsize": FULL, "thumb": "https://x.example/t"}
IMAGES = {"$type": "app.bsky.embed.images#view", "images": [IMAGE]}
AUTHOR = {"did": DID, "handle": "ada.example.com", "displayName": "Ada"}
ADA = AuthorView("Ada", "ada.example.com", DID, f"https://bsky.app/profile/{DID}")


def shown(embed: Any) -> ShownEmbed:
    return embed_view(json.dumps(embed).encode())


def quoted(record: Any) -> ShownEmbed:
    return shown({"$type": "app.bsky.embed.record#view", "record": record})


def test_no_embed() -> None:
    """Most posts have none."""
    assert embed_view(b"") is embed_view(b"null") is NO_EMBED
    assert shown(None) == embed_view(b" null ") == NO_EMBED


def test_images_and_galleries() -> None:
    """Images have a description, a size, an address, and the name of their file."""
    (image,) = shown(IMAGES).images
    assert (image.alt, image.href, image.name, image.width, image.height) == ("A cat", FULL, CID, 40, 30)
    item = {"$type": "app.bsky.embed.gallery#viewImage", **IMAGE}
    assert shown({"$type": "app.bsky.embed.gallery#view", "items": [item, item]}).images == (image, image)


def test_videos() -> None:
    """A video is known by its playlist, to which nothing links."""
    video = {"$type": "app.bsky.embed.video#view", "cid": CID, "playlist": "https://video.bsky.app/x.m3u8"}
    assert shown(video).video
    found = shown({**video, "alt": "A dog", "aspectRatio": {"width": 16, "height": 9}}).video
    assert found is not None
    assert (found.alt, found.name, found.width, found.height) == ("A dog", CID, 16, 9)


def test_cards() -> None:
    """Cards have a title, a description and a host; without an address of the web they are no links."""
    external = {"title": "T", "description": "D", "uri": "https://www.example.com/a?b=1&c", "thumb": FULL}
    found = shown({"$type": "app.bsky.embed.external#view", "external": external})
    assert found.card == Card("T", "D", "https://www.example.com/a?b=1&c", "example.com")
    assert found.card_image == CID
    assert shown({"external": {"uri": "javascript:alert(1)"}}).card == Card("", "", "", "javascript:alert(1)")
    assert shown({"external": {"uri": 7}}).card == Card("", "", "", "")


def test_quoted_posts() -> None:
    """A quoted post has an author, a text and a time, or a reason why not."""
    value = {"$type": "app.bsky.feed.post", "text": "Hello", "createdAt": "2024-05-22T18:57:38.254Z"}
    record = {"$type": "app.bsky.embed.record#viewRecord", "author": AUTHOR, "uri": POST, "value": value, "embeds": []}
    quote = quoted(record).quote
    assert quote is not None
    assert (quote.uri, quote.author, quote.text, quote.note) == (POST, ADA, "Hello", "")
    assert quote.created_at == "2024-05-22T18:57:38.254Z"
    for embeds, note in (
        ([IMAGES], "1 image"),
        ([{**IMAGES, "images": [IMAGE, IMAGE]}], "2 images"),
        ([{"external": {"title": "T"}}], "a link: T"),
        ([{"playlist": "x"}], "a video"),
        ([{"record": {"uri": POST}}], "a quote"),
        ([{"media": IMAGES, "record": {"record": {"uri": POST}}}], "1 image, a quote"),
        ([7], ""),
    ):
        found = quoted({**record, "embeds": embeds}).quote
        assert found is not None
        assert found.note == note
    for kind, note in (
        ("viewNotFound", "The archive does not have the text of the quoted post."),
        ("viewBlocked", "The quoted post is not shown: one of the two authors blocks the other."),
        ("viewDetached", "The author of the quoted post detached it from this post."),
        ("viewSomethingNew", "The archive does not have the text of the quoted post."),
    ):
        found = quoted({"$type": f"app.bsky.embed.record#{kind}", "uri": POST}).quote
        assert found is not None
        assert (found.note, found.href) == (note, f"https://bsky.app/profile/{DID}/post/3kabc")
    assert quoted({"cid": "bafy", "uri": POST}).quote is not None
    hidden = quoted({**record, "author": {"did": DID, "handle": "handle.invalid"}}).quote
    assert hidden is not None
    assert hidden.author == AuthorView("", "", DID, f"https://bsky.app/profile/{DID}")


@pytest.mark.parametrize(
    ("kind", "uri", "names", "title", "place"),
    [
        ("app.bsky.feed.defs#generatorView", "app.bsky.feed.generator/a", {"displayName": "Cats"}, "Cats", "feed/a"),
        ("app.bsky.graph.defs#listView", "app.bsky.graph.list/a", {"name": "Friends"}, "Friends", "lists/a"),
        ("app.bsky.labeler.defs#labelerView", "app.bsky.labeler.service/self", {}, "Labeler", ""),
        ("app.bsky.graph.defs#starterPackViewBasic", "app.bsky.graph.starterpack/a", {"record": {"name": "Go"}}, "Go",
         "starter-pack"),
    ],
)  # fmt: skip
def test_other_records(kind: str, uri: str, names: dict[str, Any], title: str, place: str) -> None:
    """Lists, feeds, labelers and starter packs have a title and an address."""
    record = {"$type": kind, "creator": AUTHOR, "uri": f"at://{DID}/{uri}", "description": "About", **names}
    quote = quoted(record).quote
    assert quote is not None
    assert (quote.title, quote.author, quote.text) == (title, ADA, "About")
    assert quote.href.startswith("https://bsky.app/")
    assert place in quote.href


def test_quotes_with_media() -> None:
    """A quote may come with images, a card or a video."""
    both = {"$type": "app.bsky.embed.recordWithMedia#view", "media": IMAGES, "record": {"record": {"uri": POST}}}
    found = shown(both)
    assert found.quote is not None
    assert (len(found.images), found.quote.uri) == (1, POST)
    assert shown({**both, "media": {"external": {"title": "T"}}}).card is not None


def test_embeds_of_records() -> None:
    """An imported archive has the views of known kinds, and other embeds as their records have them."""
    blob = {"ref": {"$link": CID}, "mimeType": "image/png", "size": 5}
    raw = shown({"$type": "app.bsky.embed.images", "images": [{"alt": "A", "image": blob}]})
    assert (raw.images[0].name, raw.images[0].alt, raw.images[0].href) == (CID, "A", "")
    reference = {"cid": CID, "mimeType": "image/png"}
    made = view_of({"$type": "app.bsky.embed.images", "images": [{"image": reference, "alt": "<A>"}]}, DID)
    (image,) = embed_view(made.data).images
    assert (image.alt, image.name) == ("<A>", CID)
    new = view_of({"$type": "com.example.poll", "answers": []}, DID)
    assert embed_view(new.data).other_embed == "Not shown: an embed of the kind com.example.poll"


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"{", "unreadable_json"),
        (b"not JSON", "unreadable_json"),
        (b"{}{}", "unreadable_json"),
        (b"NaN", "unreadable_json"),
        (b'{"a":"\xff"}', "invalid_utf8"),
        (b'{"a":"\\ud800"}', ""),
        (b"[" * 5000 + b"]" * 5000, ""),
        (b"[" * 20_000 + b"]" * 20_000, "unreadable_json"),
        (b"9" * 10_000, ""),
        (b'{"a":1e999}', ""),
        (b"{}", ""),
        (b"[]", ""),
        (b'"text"', ""),
        (b"7", ""),
        (b'{"images":[]}', ""),
        (b'{"' + b"a" * 1_000_001 + b'":1}', ""),
    ],
)  # fmt: skip
def test_what_is_no_embed(data: bytes, problem: str) -> None:
    """A sentence stands for an embed that cannot be shown, and the reader of notices learns about it."""
    found = embed_view(data)
    assert found.other_embed.startswith("Not shown: an embed")
    assert found.problem == problem


def test_odd_values() -> None:
    """Lone surrogates, numbers as text, duplicates, values of the wrong type."""
    (image,) = embed_view(
        rb'{"images":[7,null,{"alt":"a\ud800b\u0000","aspectRatio":{"width":"40","height":3e1}}]}'
    ).images
    assert (image.alt, image.width, image.height, image.href) == ("a\ufffdb\ufffd", 40, 30, "")
    (image,) = embed_view(b'{"images":[{"alt":"first","alt":"last","aspectRatio":{"width":40}}]}').images
    assert (image.alt, image.width, image.height) == ("last", 0, 0)
    sides: tuple[Any, ...] = (0, -1, True, None, 1e300, "9" * 30, "²", [], 100_001)
    for side in sides:
        (image,) = shown({"images": [{"aspectRatio": {"width": side, "height": 10}}]}).images
        assert (image.width, image.height) == (0, 0), side


NAMES = (
    "$type images items media record external video playlist cid alt aspectRatio width height fullsize thumb title "
    "description uri author creator value text embeds embed did handle displayName name ref $link createdAt"
)
KEYS = NAMES.split()
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5),
    st.sampled_from(["javascript:x", FULL, POST, "app.bsky.embed.record#viewRecord", "\ud800"]),
)  # fmt: skip
EMBEDS = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(KEYS), inner, max_size=6)),
    max_leaves=30,
)
"""Values with the keys that embeds have, in places where they do not belong."""


@given(st.one_of(EMBEDS.map(lambda value: json.dumps(value).encode()), byte_texts, st.binary()))
def test_nothing_raises(data: bytes) -> None:
    """Whatever is stored, something is shown, or said, or there is no embed."""
    found = embed_view(data)
    seen = found.images or found.video or found.card or found.quote or found.other_embed
    assert seen or found == NO_EMBED
    labels_of(data)


@pytest.mark.parametrize(
    ("stored", "labels", "problem"),
    [
        (b"null", [], ""),
        (b"", [], ""),
        (b"[]", [], ""),
        (b'[{"val":"porn","src":"x"},{"val":"nudity"},{"val":"porn"}]', ["porn", "nudity"], ""),
        (b'{"$type":"com.atproto.label.defs#selfLabels","values":[{"val":"porn"}]}', ["porn"], ""),
        (b'"sexual"', ["sexual"], ""),
        (b'"sexual;nudity; porn;"', ["sexual", "nudity", "porn"], ""),
        (b'[{"val":"porn"},{"val":"porn","neg":true}]', [], ""),
        (b'["a",{"val":7},8,null,{"val":"<b>\\u0000"}]', ["a", "<b>\ufffd"], ""),
        (b"porn", [], "unreadable_json"),
        (b'["\xff"]', ["\ufffd"], "invalid_utf8"),
        (b"[" * 5000 + b"]" * 5000, [], ""),
    ],
)
def test_labels(stored: bytes, labels: list[str], problem: str) -> None:
    """Labels in each form that archives have."""
    assert labels_of(stored) == (labels, problem)
