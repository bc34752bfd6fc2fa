"""The names of the media files that an embed shows, for tables.

Source: docs/format.md, "posts.csv", MediaFiles.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import orjson

from skyexport import json_text

__all__ = ["media_names"]

_LARGE_BYTES = 4_000_000
"""Beyond this an embed is not made into objects, which would take ten times its size, but for what has to be seen."""

_MEMBERS = frozenset({"images", "media", "external"})
"""Members of an embed that can show media."""

_DEPTH = 5
"""Media lie no deeper: {"media": {"images": [{"fullsize": …}]}}; json takes a thousand levels, embeds may have more."""

_LONE_SURROGATES = re.compile("[\ud800-\udfff]")


def media_names(data: bytes) -> str:
    """What the last component of each media address is, up to an `@`, joined with `;`.

    Args:
        data: The embed as it is stored, not empty.

    Raises:
        ValueError: It is not exactly one JSON value.
    """
    if len(data) > _LARGE_BYTES:
        embed = _parsed_in_part(data)
    else:
        try:
            embed = orjson.loads(data)
        except orjson.JSONDecodeError:
            # orjson refuses lone surrogates, numbers beyond a float, deep nesting and bytes that are not UTF-8, all of
            # which stored JSON may have.
            embed = _parsed_in_part(data)
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
    joined = ";".join([name for name in names if name])
    return joined if joined.isascii() else _LONE_SURROGATES.sub("\ufffd", joined)


def _parsed_in_part(data: bytes) -> Any:
    text = "".join(_relevant(json_text.indent(json_text.decode(data), 0)))
    return json.loads(text, parse_int=float)


def _relevant(tokens: Iterator[str]) -> Iterator[str]:
    """Tokens of one JSON value with `null` for what can not show media: other members, and what is nested deeper."""
    tokens = (token for token in tokens if not token.isspace())
    if next(tokens) != "{":
        for _ in tokens:
            pass  # All of it must be JSON all the same.
        yield "null"
        return
    yield "{"
    depth = 1
    at_key = wanted = True
    for token in tokens:
        if depth == 1 and at_key and token != "}":
            at_key = False
            wanted = json.loads(token) in _MEMBERS
            yield token if wanted else f"{token}: null"
            continue
        opens, closes = token in ("{", "["), token in ("}", "]")
        depth += opens
        if depth == 1 and token in (",", "}"):
            at_key = wanted = True
        if wanted and depth <= _DEPTH:
            yield token
        elif wanted and depth == _DEPTH + 1 and opens:
            yield "null"
        depth -= closes
