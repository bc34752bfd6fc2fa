"""The names of the media files that an embed shows, for tables.

Source: docs/format.md, "posts.csv", MediaFiles.
"""

from __future__ import annotations

import io
import json
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

_Read = Callable[[bytes, Iterator[bytes]], str]
"""Reads one value, of (its first token, the tokens behind it, of which it takes those of the value)."""


def media_names(data: bytes) -> str:
    """What the last component of each media address is, up to an `@`, joined with `;`.

    Args:
        data: The embed as it is stored, not empty.

    Raises:
        ValueError: It is not exactly one JSON value.
    """
    if len(data) > _LARGE_BYTES:
        joined = _read(json_text.tokens(data))
    else:
        try:
            joined = _found(orjson.loads(data))
        except orjson.JSONDecodeError:
            # orjson refuses lone surrogates, numbers beyond a float, deep nesting and bytes that are not UTF-8, all of
            # which stored JSON may have.
            joined = _read(json_text.tokens(data))
    return joined if joined.isascii() else _LONE_SURROGATES.sub("\ufffd", joined)


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
    names = [_name(url) for url in shown if isinstance(url, str)]
    return ";".join([name for name in names if name])


def _name(url: str) -> str:
    return url.rpartition("/")[2].partition("@")[0] if "/" in url else ""


def _read(tokens: Iterator[bytes]) -> str:
    """The same from tokens, of which nothing but the names is kept. Of members with the same key the last one counts.

    Raises:
        ValueError: They are not those of one value.
    """
    images = media = external = ""
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
    return ";".join(filter(None, (images, media, external)))


def _images(first: bytes, tokens: Iterator[bytes]) -> str:
    """The names of a list of images."""
    if first != b"[":
        _pass(first, tokens)
        return ""
    names = io.StringIO()
    for token in tokens:
        if token == b"]":
            break
        name = "" if token == b"," else _member(token, tokens, "fullsize", _shown)
        if name:
            names.write(f";{name}" if names.tell() else name)
    return names.getvalue()


def _member(first: bytes, tokens: Iterator[bytes], wanted: str, read: _Read) -> str:
    """What *read* makes of the member *wanted*; nothing where this is no object, or has none."""
    found = ""
    if first != b"{":
        _pass(first, tokens)
        return found
    for key, value in _members(tokens):
        if key == wanted:
            found = read(value, tokens)
        else:
            _pass(value, tokens)
    return found


def _shown(first: bytes, tokens: Iterator[bytes]) -> str:
    """The name in an address; nothing where this is no string."""
    if not first.startswith(b'"'):
        _pass(first, tokens)
        return ""
    return _name(_string(first))


def _members(tokens: Iterator[bytes]) -> Iterator[tuple[str, bytes]]:
    """The members of an object that has begun: key and first token of the value; whoever takes it passes the others."""
    for token in tokens:
        if token == b"}":
            return
        if token != b",":
            key = _string(token) if len(token) <= _LONGEST_KEY_BYTES else ""
            next(tokens)  # the colon
            yield key, next(tokens)


def _pass(first: bytes, tokens: Iterator[bytes]) -> None:
    """Pass the tokens of a value."""
    depth = int(first in (b"{", b"["))
    while depth:
        token = next(tokens)
        depth += (token in (b"{", b"[")) - (token in (b"}", b"]"))


def _string(token: bytes) -> str:
    """What a string spells."""
    spelt: str = json.loads(json_text.decode(token))
    return spelt
