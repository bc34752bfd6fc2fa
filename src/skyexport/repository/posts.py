"""Records of posts and profiles → rows as bskyarchive would have stored them.

Differences, all of them since a repository does not have it: counts are 0, a quoted post is only named, and the times
of indexing and archiving come from the repository (docs/import.md). Nothing comes from the clock.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

from skyexport import timestamps
from skyexport.repository.blocks import cid_text
from skyexport.repository.embeds import NO_EMBED, Blob, as_json, image_address, view_of
from skyexport.repository.identifiers import tid_microseconds

__all__ = ["POSTS", "PROFILE", "ZERO_TIME", "Post", "Profile", "go_time", "post_of", "profile_of"]

POSTS = b"app.bsky.feed.post/"
"""Beginning of the keys of posts."""

PROFILE = b"app.bsky.actor.profile/self"
"""Key of the record with the name and the description of the account."""

ZERO_TIME = "0001-01-01 00:00:00 +0000 UTC"
"""Go's time that is not set: bskyarchive stores it for a post whose time it cannot read."""

_USUAL_TIME = re.compile(r"(\d{4}-\d\d-\d\d)T((?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d)(?:\.(\d{1,9}))?Z", re.ASCII)

_LONGEST_TIME = 64

_MOST_LABELS = 100
"""Bluesky takes ten."""

_MICROSECONDS = 1_000_000
_DAY_SECONDS = 86_400

Row = tuple[str, str, str, str, str, str, int, int, int, int, int, int, str, str, bytes, bytes, str]
"""A post in the order of the columns of `posts`."""


class Post(NamedTuple):
    """A post as it is stored, and what was odd about it."""

    row: Row
    blobs: tuple[Blob, ...]
    time_from_key: bool
    """Whether `createdAt` is no time, so that `created_at` is that of the record key, or not set."""
    unknown_embed: bool
    """Whether the embed is stored as the record has it."""


@dataclass(frozen=True, slots=True)
class Profile:
    """The profile of an account, of which a repository knows neither the handle nor the followers."""

    display_name: str = ""
    description: str = ""
    avatar: str = ""
    """Address of the image; "" for none."""
    banner: str = ""


def post_of(record: Any, did: str, key: str, cid: bytes, archived_at: str) -> Post:
    """The row of a post.

    Args:
        record: The record, which may be anything.
        did: The author.
        key: Its record key.
        cid: Its CID.
        archived_at: Time for the column of that name.
    """
    if not isinstance(record, dict):
        record = {}
    uri = f"at://{did}/app.bsky.feed.post/{key}"
    shown_cid = cid_text(cid)
    microseconds = tid_microseconds(key)
    from_key = None if microseconds is None else go_time(microseconds)
    stated = record.get("createdAt")
    created_at = _created_at(stated)
    embed, text, reply = record.get("embed"), record.get("text"), record.get("reply")
    view = NO_EMBED if embed is None else view_of(embed, did)
    labels = b"null" if record.get("labels") is None else _labels(record, did, uri, shown_cid, stated)
    row = (
        uri, shown_cid, did, text if isinstance(text, str) else "", created_at or from_key or ZERO_TIME,
        from_key or created_at or ZERO_TIME, int(view.has_media), 0, 0, 0, 0, int(isinstance(reply, dict)),
        "" if reply is None else _parent(reply), view.kind, view.data, labels, archived_at,
    )  # fmt: skip
    return Post(row, view.blobs, created_at is None, not view.known)


def profile_of(record: Any, did: str) -> Profile:
    """The profile in a record, which may be anything."""
    if not isinstance(record, dict):
        return Profile()

    def text(key: str) -> str:
        value = record.get(key)
        return value if isinstance(value, str) else ""

    def image(key: str) -> str:
        try:
            return image_address(key, did, Blob.of(record[key], {}).cid)
        except (KeyError, TypeError, ValueError, AttributeError):
            return ""

    return Profile(text("displayName"), text("description"), image("avatar"), image("banner"))


def go_time(microseconds: int) -> str:
    """A time as Go prints it, in UTC, without a reading of the monotonic clock.

    Args:
        microseconds: Since 1970; not negative, and not beyond the year 2540, as in TIDs.
    """
    seconds, fraction = divmod(microseconds, _MICROSECONDS)
    days, second = divmod(seconds, _DAY_SECONDS)
    digits = f".{fraction:06d}".rstrip("0") if fraction else ""
    return f"{_day(days)} {second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}{digits} +0000 UTC"


@functools.lru_cache(maxsize=512)
def _day(days: int) -> str:
    day = timestamps.from_instant(days * _DAY_SECONDS * timestamps.NANOSECONDS)
    assert day is not None
    return f"{day.year:04d}-{day.month:02d}-{day.day:02d}"


def _created_at(stated: Any) -> str | None:
    """A stated time in UTC as Go prints it; None if it is none, or beyond the years 0 to 9999.

    In UTC since bskyarchive cannot read back a time with an offset that has no name, such as `+0900 +0900`.
    """
    if not isinstance(stated, str):
        return None
    match = _USUAL_TIME.fullmatch(stated)
    if match is not None and _is_day(match[1]):
        fraction = (match[3] or "").rstrip("0")
        return f"{match[1]} {match[2]}{'.' if fraction else ''}{fraction} +0000 UTC"
    timestamp = timestamps.parse(stated)
    instant = None if timestamp is None else timestamps.from_instant(timestamp.instant_nanoseconds())
    if instant is None:
        return None
    fraction = f".{instant.nanosecond:09d}".rstrip("0") if instant.nanosecond else ""
    day = f"{instant.year:04d}-{instant.month:02d}-{instant.day:02d}"
    return f"{day} {instant.hour:02d}:{instant.minute:02d}:{instant.second:02d}{fraction} +0000 UTC"


@functools.lru_cache(maxsize=512)
def _is_day(text: str) -> bool:
    return timestamps.parse(text) is not None


def _parent(reply: Any) -> str:
    """The URI that a post answers; "" if it answers none."""
    parent = reply.get("parent") if isinstance(reply, dict) else None
    uri = parent.get("uri") if isinstance(parent, dict) else None
    return uri if isinstance(uri, str) else ""


def _labels(record: dict[str, Any], did: str, uri: str, cid: str, stated: Any) -> bytes:
    """The labels that the author gave the post, as Bluesky's servers show them."""
    own = record.get("labels")
    values = own.get("values") if isinstance(own, dict) else None
    given = [value.get("val") for value in values if isinstance(value, dict)] if isinstance(values, list) else []
    cts = stated if isinstance(stated, str) and len(stated) <= _LONGEST_TIME else ""
    texts = [val for val in given[:_MOST_LABELS] if isinstance(val, str)]
    labels = [{"cid": cid, "cts": cts, "src": did, "uri": uri, "val": val} for val in texts]
    return as_json(labels) if labels else b"null"
