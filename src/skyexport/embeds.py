"""The names of the media files that an embed shows, for tables.

Source: docs/formats.md, "posts.csv", MediaFiles.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import orjson

from skyexport import json_text

__all__ = ["media_names"]

_LARGE_BYTES = 1_000_000
"""Beyond this an embed is not made into objects, which would take up to thirty times its size."""

_LONGEST_KEY_BYTES = 50
"""As many as a key takes that is looked for, when each of its letters is an escape."""

_LONE_SURROGATES = re.compile("[\ud800-\udfff]")

_Read = Callable[[bytes, Iterator[bytes]], bytes]
"""Reads one value, of (its first token, the tokens behind it, of which it takes those of the value)."""


def media_names(data: bytes) -> bytes:
    """The last component of each media address, up to an `@`, joined with `;`, in valid UTF-8.

    Args:
        data: The embed as it is stored, not empty.

    Raises:
        ValueError: It is not exactly one JSON value.
    """
    if len(data) > _LARGE_BYTES:
        return _read(json_text.tokens(data))
    try:
        return _found(orjson.loads(data)).encode()
    except orjson.JSONDecodeError:
        # orjson refuses lone surrogates, numbers beyond a float, deep nesting and bytes that are not UTF-8; stored JSON
        # may have all of them.
        return _read(json_text.tokens(data))


def _found(embed: object) -> str:
    """The names that an embed shows."""
    if not isinstance(embed, dict):
        return ""
    media = embed.get("media")
    lists = (embed.get("images"), media.get("images") if isinstance(media, dict) else None)
    shown = [image.get("fullsize") for images in lists if isinstance(images, list) for image in images
             if isinstance(image, dict)]  # fmt: skip
    external = embed.get("external")
    if isinstance(external, dict):
        shown.append(external.get("thumb"))
    names = [url.rpartition("/")[2].partition("@")[0] for url in shown if isinstance(url, str) and "/" in url]
    return ";".join([name for name in names if name])


def _read(tokens: Iterator[bytes]) -> bytes:
    """The same from tokens, of which nothing but the names is kept. Of members with the same key the last one counts.

    Raises:
        ValueError: They are not those of one value.
    """
    images = media = external = b""
    if next(tokens) == b"{":
        for key, first in _members(tokens):
            if key == "images":
                images = _images(first, tokens)
            elif key == "media":
                media = _member(first, tokens, "images", _images)
            elif key == "external":
                external = _member(first, tokens, "thumb", _shown)
            else:
                _pass(first, tokens)
    for _ in tokens:
        pass  # All of it must be JSON.
    return b";".join(filter(None, (images, media, external)))


def _images(first: bytes, tokens: Iterator[bytes]) -> bytes:
    """The names of a list of images."""
    joined = bytearray()
    if first != b"[":
        _pass(first, tokens)
        return b""
    for token in tokens:
        if token == b"]":
            break
        name = b"" if token == b"," else _member(token, tokens, "fullsize", _shown)
        if name:
            joined += b";" + name if joined else name
    return bytes(joined)


def _member(first: bytes, tokens: Iterator[bytes], wanted: str, read: _Read) -> bytes:
    """What *read* makes of the member *wanted*; nothing where this is no object, or has none."""
    member = b""
    if first != b"{":
        _pass(first, tokens)
        return member
    for key, value in _members(tokens):
        if key == wanted:
            member = read(value, tokens)
        else:
            _pass(value, tokens)
    return member


def _shown(first: bytes, tokens: Iterator[bytes]) -> bytes:
    """The name in an address; nothing where this is no string."""
    if not first.startswith(b'"'):
        _pass(first, tokens)
        return b""
    name = bytearray()
    after_slash = after_at = False
    for text in json_text.unquoted_pieces(first):
        _, slash, last = text.rpartition("/")
        if slash:
            name.clear()
            after_slash, after_at = True, False
        if after_slash and not after_at:
            part, at, _ = last.partition("@")
            name += _LONE_SURROGATES.sub("\ufffd", part).encode()
            after_at = bool(at)
    return bytes(name)


def _members(tokens: Iterator[bytes]) -> Iterator[tuple[str, bytes]]:
    """The members of an object that has begun: key and first token of the value; whoever takes it passes the others."""
    for token in tokens:
        if token == b"}":
            return
        if token != b",":
            key = "".join(json_text.unquoted_pieces(token)) if len(token) <= _LONGEST_KEY_BYTES else ""
            next(tokens)  # the colon
            yield key, next(tokens)


def _pass(first: bytes, tokens: Iterator[bytes]) -> None:
    """Pass the tokens of a value."""
    depth = int(first in (b"{", b"["))
    while depth:
        token = next(tokens)
        depth += (token in (b"{", b"[")) - (token in (b"}", b"]"))
