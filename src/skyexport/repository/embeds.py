"""Embeds of records → the views that bskyarchive stores: with addresses of images instead of blobs.

Source of the views: https://github.com/bluesky-social/atproto/tree/main/lexicons/app/bsky/embed. Keys are in the order
in which Go writes them.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import quote

import orjson

from skyexport.repository.blocks import CID_BYTES, RAW_CID, cid_digest, cid_text

__all__ = ["NO_EMBED", "Blob", "View", "as_json", "image_address", "view_of"]

_IMAGES = "https://cdn.bsky.app/img"
_VIDEOS = "https://video.bsky.app/watch"

_PREFIX = "app.bsky.embed."

_MOST_IMAGES = 100
"""Bluesky takes four, and twenty in a gallery."""

_MAX_DEPTH = 100
"""An embed that is nested deeper is not kept."""

_SHA256_BYTES = 32

_BLOB_CID = re.compile("b(?:afk|afy)rei[a-z2-7]{52}")
"""The CID of a blob as text; in old records the codec is that of records."""


class Blob(NamedTuple):
    """A file that a post shows, which is not in the repository itself."""

    cid: str
    """As text: `bafkrei…`."""
    sha256: str
    """Of its content, in hexadecimal."""
    mime_type: str
    bytes: int
    """Its size, according to the record; 0 if that does not say."""
    width: int
    height: int
    """In pixels, or a ratio; 0 if the record does not say."""
    alt_text: str

    @classmethod
    def of(cls, reference: Any, shown: Any) -> Blob:
        """The blob of a reference: `{ref, mimeType, size}`, or in old records `{cid, mimeType}`.

        Args:
            reference: It may be anything.
            shown: An object with its alt text and its aspect ratio.

        Raises:
            AttributeError, KeyError, TypeError, ValueError: It is no such reference.
        """
        ref = reference.get("ref")
        cid = reference["cid"] if ref is None else ref
        if isinstance(cid, bytes) and len(cid) == CID_BYTES and cid.startswith(RAW_CID):
            digest, cid = cid[-_SHA256_BYTES:], cid_text(cid)
        elif isinstance(cid, str) and _BLOB_CID.fullmatch(cid):
            digest = cid_digest(cid)
        else:
            raise ValueError("no CID of a blob")
        if len(digest) != _SHA256_BYTES:
            raise ValueError("no SHA-256")
        mime_type, size = reference.get("mimeType"), reference.get("size")
        ratio = _aspect_ratio(shown).get("aspectRatio", {})
        return cls(
            cid, digest.hex(), mime_type if isinstance(mime_type, str) else "application/octet-stream",
            size if type(size) is int and 0 < size < 1 << 63 else 0, ratio.get("width", 0), ratio.get("height", 0),
            _text(shown, "alt"),
        )  # fmt: skip


class View(NamedTuple):
    """The columns that an embed fills, and the files that it shows."""

    kind: str
    """`embed_type`."""
    data: bytes
    """`embed_data`, JSON."""
    has_media: bool = False
    blobs: tuple[Blob, ...] = ()
    known: bool = True
    """False if it is stored as the record has it, since archives have no view of its kind."""


NO_EMBED = View("", b"null")


def view_of(embed: Any, did: str) -> View:
    """The view of an embed.

    Args:
        embed: The value of `embed` in the record of a post, which may be anything but None.
        did: The author.
    """
    try:
        return _VIEWS[_kind(embed)](embed, did)
    except (AttributeError, KeyError, TypeError, ValueError):
        return View("other", _kept(embed), known=False)


def _kind(embed: Any) -> str:
    """The kind of an embed of Bluesky's, without the beginning that all have.

    Raises:
        KeyError, TypeError, AttributeError: It is none.
    """
    name = embed["$type"]
    return str(name).removeprefix(_PREFIX) if name.startswith(_PREFIX) else ""


def _images(embed: Any, did: str) -> View:
    images, blobs = [], []
    for image in embed["images"][:_MOST_IMAGES]:
        blob = Blob.of(image["image"], image)
        images.append({
            "alt": blob.alt_text,
            **_aspect_ratio(image),
            "fullsize": image_address("feed_fullsize", did, blob.cid),
            "thumb": image_address("feed_thumbnail", did, blob.cid),
        })  # fmt: skip
        blobs.append(blob)
    if not images:
        return NO_EMBED
    return View("images", as_json({"$type": "app.bsky.embed.images#view", "images": images}), True, tuple(blobs))


def _gallery(embed: Any, did: str) -> View:
    items, blobs = [], []
    for image in embed["items"][:_MOST_IMAGES]:
        blob = Blob.of(image["image"], image)
        items.append({
            "$type": "app.bsky.embed.gallery#viewImage",
            "alt": blob.alt_text,
            **_aspect_ratio(image),
            "fullsize": image_address("feed_fullsize", did, blob.cid),
            "thumbnail": image_address("feed_thumbnail", did, blob.cid),
        })  # fmt: skip
        blobs.append(blob)
    return View("gallery", as_json({"$type": "app.bsky.embed.gallery#view", "items": items}), bool(blobs), tuple(blobs))


def _external(embed: Any, did: str) -> View:
    external = embed["external"]
    card = {"description": _text(external, "description")}
    blobs: tuple[Blob, ...] = ()
    if external.get("thumb") is not None:
        blobs = (Blob.of(external["thumb"], {}),)
        card["thumb"] = image_address("feed_thumbnail", did, blobs[0].cid)
    card |= {"title": _text(external, "title"), "uri": _text(external, "uri")}
    return View("external", as_json({"$type": "app.bsky.embed.external#view", "external": card}), bool(blobs), blobs)


def _record(embed: Any, _: str) -> View:
    view = {"$type": "app.bsky.embed.record#view", "record": _not_found(embed["record"])}
    return View("record", as_json(view))


def _record_with_media(embed: Any, did: str) -> View:
    kind = _kind(embed["media"])
    if kind not in ("images", "gallery", "external", "video"):
        raise ValueError("no media that archives know")
    media = _VIEWS[kind](embed["media"], did)
    view = {
        "$type": "app.bsky.embed.recordWithMedia#view",
        "media": orjson.Fragment(media.data),
        "record": {"record": _not_found(embed["record"]["record"])},
    }
    return View("record_with_media", as_json(view), True, media.blobs)


def _video(embed: Any, did: str) -> View:
    blob = Blob.of(embed["video"], embed)
    place = f"{_VIDEOS}/{quote(did, safe='')}/{blob.cid}"
    view = {
        "$type": "app.bsky.embed.video#view",
        **({"alt": blob.alt_text} if blob.alt_text else {}),
        **_aspect_ratio(embed),
        "cid": blob.cid,
        "playlist": f"{place}/playlist.m3u8",
        "thumbnail": f"{place}/thumbnail.jpg",
    }
    return View("video", as_json(view), True, (blob,))


_VIEWS: dict[str, Callable[[Any, str], View]] = {
    "images": _images,
    "gallery": _gallery,
    "external": _external,
    "record": _record,
    "recordWithMedia": _record_with_media,
    "video": _video,
}


def image_address(size: str, did: str, cid: str) -> str:
    """The address of an image on Bluesky's servers; *size* is `feed_fullsize`, `feed_thumbnail`, `avatar`, `banner`."""
    return f"{_IMAGES}/{size}/plain/{did}/{cid}@jpeg"


def _not_found(reference: Any) -> dict[str, Any]:
    """The view of a quoted record. A repository has the quotation, and not what is quoted."""
    uri = reference["uri"]
    if not isinstance(uri, str):
        raise TypeError("a URI that is not text")
    return {"$type": "app.bsky.embed.record#viewNotFound", "notFound": True, "uri": uri}


def _aspect_ratio(shown: Any) -> dict[str, dict[str, int]]:
    ratio = shown.get("aspectRatio")
    if not isinstance(ratio, dict):
        return {}
    width, height = ratio.get("width"), ratio.get("height")
    if type(width) is not int or type(height) is not int or not (0 < width < 1 << 31 and 0 < height < 1 << 31):
        return {}
    return {"aspectRatio": {"height": height, "width": width}}


def _text(holder: Any, key: str) -> str:
    value = holder.get(key)
    return value if isinstance(value, str) else ""


def _kept(embed: Any) -> bytes:
    """An embed as the record has it, JSON; an empty object for one that is nested too deep for that."""
    try:
        return as_json(_plain(embed, 0))
    except (TypeError, ValueError):
        return b"{}"


def _plain(value: Any, depth: int) -> Any:
    """A value of DAG-CBOR as JSON has it: CIDs as `{"$link"}`, bytes as `{"$bytes"}`, integers beyond 64 bits as text.

    Raises:
        ValueError: It is nested too deep.
    """
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deep")
    if isinstance(value, dict):
        return {key: _plain(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner, depth + 1) for inner in value]
    if isinstance(value, bytes):
        if len(value) == CID_BYTES and value[:2] in (b"\x01\x55", b"\x01\x71"):
            return {"$link": cid_text(value)}
        return {"$bytes": b64encode(value).decode().rstrip("=")}
    return str(value) if isinstance(value, int) and not -(1 << 63) <= value < 1 << 64 else value


def as_json(value: Any) -> bytes:
    """JSON as Go writes it: compact, and safe inside of HTML. What is escaped already stays as it is."""
    data = orjson.dumps(value)
    for character, escape in _ESCAPES:
        if character in data:
            data = data.replace(character, escape)
    return data


_ESCAPES = tuple((character.encode(), f"\\u{ord(character):04x}".encode()) for character in "&<>\u2028\u2029")
