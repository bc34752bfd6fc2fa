"""Stored embeds as what a page shows of them, whatever is stored.

Archives hold the views that Bluesky's servers send, as JSON that Go wrote; an imported one holds embeds of unknown
kinds as their records have them. Nothing here relies on a type or a key.

Source of the shapes: https://github.com/bluesky-social/atproto/tree/main/lexicons/app/bsky/embed
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from skyexport import json_text
from skyexport.pages.addresses import host_of, profile_address, record_address, web_address
from skyexport.pages.post_text import clean
from skyexport.pages.views import AuthorView, Card
from skyexport.repository.identifiers import NO_HANDLE

__all__ = [
    "NO_EMBED",
    "ShownEmbed",
    "ShownImage",
    "ShownRecord",
    "ShownVideo",
    "author_view",
    "embed_view",
    "labels_of",
]

_LARGEST_BYTES = 1_000_000
"""A larger embed is not made into objects, which would take up to thirty times its size."""
_LARGEST_SIDE = 100_000
"""Pixels; more is no size of an image."""
_LONGEST_EXCERPT = 200
_POSTS = "app.bsky.feed.post"

_NOTES = {
    "viewBlocked": "The quoted post is not shown: one of the two authors blocks the other.",
    "viewDetached": "The author of the quoted post detached it from this post.",
}
_NOT_THERE = "The archive does not have the text of the quoted post."
_KINDS = {
    "app.bsky.feed.generator": "Feed",
    "app.bsky.graph.list": "List",
    "app.bsky.graph.starterpack": "Starter pack",
    "app.bsky.labeler.service": "Labeler",
}


@dataclass(slots=True)
class ShownImage:
    """An image of an embed."""

    alt: str
    href: str
    """Its safe address elsewhere; empty if there is none."""
    name: str
    """From which the digest of its file can be had; empty if unknown."""
    width: int
    """In pixels, or a ratio; 0 if unknown."""
    height: int


@dataclass(slots=True)
class ShownVideo:
    """A video of an embed; the fields are those of `ShownImage`."""

    alt: str
    name: str
    width: int
    height: int


@dataclass(slots=True)
class ShownRecord:
    """A quotation: mostly of another post."""

    uri: str
    href: str
    """Where bsky.app shows it; empty if nowhere."""
    author: AuthorView | None
    title: str
    """Of a list, a feed, …; empty for a post."""
    text: str
    created_at: str
    """As the record has it."""
    note: str


@dataclass(slots=True)
class ShownEmbed:
    """Everything that can be shown of an embed."""

    images: tuple[ShownImage, ...] = ()
    video: ShownVideo | None = None
    card: Card | None = None
    card_image: str = ""
    """The name of the picture of the card, like `ShownImage.name`."""
    quote: ShownRecord | None = None
    other_embed: str = ""
    """A sentence about it if none of it is shown; else empty."""
    problem: str = ""
    """The kind of notice about it: `unreadable_json`, `invalid_utf8`, or empty."""


NO_EMBED = ShownEmbed()


def embed_view(data: bytes) -> ShownEmbed:
    """The parts of a stored embed that can be shown. It never raises."""
    if not data or data == b"null":
        return NO_EMBED
    if len(data) > _LARGEST_BYTES:
        return ShownEmbed(other_embed="Not shown: an embed that is too large")
    try:
        value, problem = _loads(data)
    except _NotJsonError:
        excerpt = clean(json_text.decode(data[:_LONGEST_EXCERPT]))
        return ShownEmbed(other_embed=f"Not shown: an embed that is not JSON: {excerpt}", problem="unreadable_json")
    except (ValueError, RecursionError):
        return ShownEmbed(other_embed="Not shown: an embed that is nested too deep")
    if value is None:
        return NO_EMBED
    return _shown(value if isinstance(value, dict) else {}, problem)


def labels_of(data: bytes) -> tuple[list[str], str]:
    """The labels of a post, and the kind of notice about them, which may be empty.

    Args:
        data: JSON: a list of labels, an object with such a list, or a text with semicolons.
    """
    if not data or data == b"null":
        return [], ""
    try:
        value, problem = _loads(data)
    except _NotJsonError:
        return [], "unreadable_json"
    except (ValueError, RecursionError):
        return [], ""
    if isinstance(value, str):
        value = value.split(";")
    elif isinstance(value, dict):
        value = value.get("values")
    labels: dict[str, None] = {}
    for label in value if isinstance(value, list) else ():
        name = label.get("val") if isinstance(label, dict) else label
        text = _text(name).strip()
        if isinstance(label, dict) and label.get("neg") is True:
            labels.pop(text, None)
        elif text:
            labels[text] = None
    return list(labels), problem


class _NotJsonError(Exception):
    """Stored bytes that are not exactly one JSON value."""


def _loads(data: bytes) -> tuple[Any, str]:
    """A JSON value, and the kind of notice about it.

    Raises:
        _NotJsonError: It is not JSON.
        ValueError, RecursionError: It is JSON that cannot be made into objects.
    """
    try:
        return orjson.loads(data), ""
    except orjson.JSONDecodeError:
        # It refuses lone surrogates, deep nesting, and bytes that are not UTF-8; stored JSON may have all of them.
        if len(data) > _LARGEST_BYTES or not json_text.is_valid(data):
            raise _NotJsonError from None
    problem = "" if json_text.is_utf8(data) else "invalid_utf8"
    return json.loads(json_text.decode(data), parse_int=float), problem


def _shown(embed: dict[str, Any], problem: str) -> ShownEmbed:
    media = embed.get("media")
    holder = media if isinstance(media, dict) else embed
    images = tuple(_images(holder))
    video = _video(holder)
    external = holder.get("external")
    card, card_image = _card(external) if isinstance(external, dict) else (None, "")
    record = embed.get("record")
    quote = _record(record) if isinstance(record, dict) else None
    other = ""
    if not (images or video or card or quote):
        kind = _text(embed.get("$type"))[:_LONGEST_EXCERPT]
        other = f"Not shown: an embed of the kind {kind}" if kind else "Not shown: an embed of an unknown kind"
    return ShownEmbed(images, video, card, card_image, quote, other, problem)


def _images(holder: dict[str, Any]) -> Iterator[ShownImage]:
    for images in (holder.get("images"), holder.get("items")):
        for image in images if isinstance(images, list) else ():
            if isinstance(image, dict):
                href = web_address(_raw(image.get("fullsize"))) or web_address(_raw(image.get("thumb")))
                name = href.rpartition("/")[2].partition("@")[0] or _blob(image.get("image"))
                width, height = _size(image)
                yield ShownImage(_text(image.get("alt")), href, name, width, height)


def _video(holder: dict[str, Any]) -> ShownVideo | None:
    name = _raw(holder.get("cid")) or _blob(holder.get("video"))
    if not name and not isinstance(holder.get("playlist"), str):
        return None
    return ShownVideo(_text(holder.get("alt")), name, *_size(holder))


def _card(external: dict[str, Any]) -> tuple[Card, str]:
    uri = _raw(external.get("uri"))
    href = web_address(uri)
    host = host_of(href) if href else clean(uri)
    thumb = external.get("thumb")
    name = thumb.rpartition("/")[2].partition("@")[0] if isinstance(thumb, str) else _blob(thumb)
    return Card(_text(external.get("title")), _text(external.get("description")), href, host), name


def _record(record: dict[str, Any]) -> ShownRecord | None:
    inner = record.get("record")
    if isinstance(inner, dict) and "uri" not in record:
        record = inner
    uri = _text(record.get("uri"))
    kind = _text(record.get("$type")).rpartition("#")[2]
    value = record.get("value")
    if not isinstance(value, dict):
        value = record.get("record")
    if not isinstance(value, dict):
        value = {}
    author = author_view(record.get("author")) or author_view(record.get("creator"))
    if not uri and not author and not value and not kind:
        return None
    href = record_address(uri)
    what = _KINDS.get(uri.removeprefix("at://").partition("/")[2].partition("/")[0])
    if what:
        title = _text(record.get("displayName")) or _text(record.get("name")) or _text(value.get("name"))
        return ShownRecord(uri, href, author, title or what, _text(record.get("description")), "", what)
    text = _text(value.get("text"))
    note = _NOTES.get(kind, "") or _and_more(record, value)
    if not text and not note:
        note = _NOT_THERE
    return ShownRecord(
        uri, href, author, "", text, _text(value.get("createdAt")) or _text(record.get("indexedAt")), note
    )


def _and_more(record: dict[str, Any], value: dict[str, Any]) -> str:
    """Other things that a quoted post shows, like "2 images"."""
    embeds = record.get("embeds")
    embed = embeds[0] if isinstance(embeds, list) and embeds else value.get("embed")
    if not isinstance(embed, dict):
        return ""
    shown = _shown({**embed, "record": None} if isinstance(embed.get("record"), dict) else embed, "")
    said = []
    if shown.images:
        said.append("1 image" if len(shown.images) == 1 else f"{len(shown.images)} images")
    if shown.video:
        said.append("a video")
    if shown.card:
        said.append(f"a link: {shown.card.title or shown.card.host}")
    if isinstance(embed.get("record"), dict):
        said.append("a quote")
    return ", ".join(said)


def author_view(author: Any) -> AuthorView | None:
    """The author in a record that a server sent; None if there is none."""
    if not isinstance(author, dict):
        return None
    did, handle = _text(author.get("did")), _text(author.get("handle")).removeprefix("@")
    handle = "" if handle == NO_HANDLE else handle
    name = _text(author.get("displayName")).strip()
    if not (did or handle or name):
        return None
    return AuthorView(name, handle, did, profile_address(did) or profile_address(handle))


def _text(value: Any) -> str:
    return clean(value) if isinstance(value, str) else ""


def _raw(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _blob(blob: Any) -> str:
    """The CID of a blob in a record, as text; empty if there is none."""
    if not isinstance(blob, dict):
        return ""
    ref = blob.get("ref")
    return _raw(ref.get("$link")) if isinstance(ref, dict) else _raw(blob.get("cid"))


def _size(shown: dict[str, Any]) -> tuple[int, int]:
    ratio = shown.get("aspectRatio")
    if not isinstance(ratio, dict):
        return 0, 0
    width, height = _side(ratio.get("width")), _side(ratio.get("height"))
    return (width, height) if width and height else (0, 0)


def _side(value: Any) -> int:
    if isinstance(value, str) and len(value) <= len(str(_LARGEST_SIDE)) and value.isascii() and value.isdigit():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return 0
    return int(value) if 1 <= value <= _LARGEST_SIDE else 0
