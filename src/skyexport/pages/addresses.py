"""Addresses for links: this module makes every link that leads out of an export.

Escaping does not stop `javascript:`, so whatever strangers wrote becomes a link only if `web_address` accepts it.
"""

from __future__ import annotations

import functools
import hashlib
import re
import unicodedata
from urllib.parse import quote

from skyexport.repository.identifiers import is_did, is_handle

__all__ = [
    "anchor_of",
    "did_of",
    "file_stem_of",
    "host_of",
    "post_address",
    "profile_address",
    "record_address",
    "tag_address",
    "web_address",
]

_BLUESKY = "https://bsky.app"

_LONGEST_ADDRESS = 8000
"""Characters; browsers and servers take few longer addresses."""
_LONGEST_AUTHOR = 300
"""Characters; no DID and no handle has more."""
_KEPT_IN_MEMORY = 1000
"""Authors and tags that posts name again and again."""

_USUAL = re.compile(
    r"https?://[A-Za-z0-9](?:[A-Za-z0-9-]|\.(?!\.)){0,252}+(?::[1-9][0-9]{0,3})?"
    r"(?:[/?#](?:[A-Za-z0-9/?#._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})*+)?"
)
"""An address that needs no change."""
_PARTS = re.compile(
    r"(https?)://([^\s/?#\\:@\[\]<>\"]+)(?::([0-9]{1,5}))?([/?#].*)?", re.IGNORECASE | re.DOTALL | re.ASCII
)
_HOST_CATEGORIES = frozenset({"Ll", "Lu", "Lo", "Lm", "Mn", "Mc", "Nd"})
"""Unicode categories of what names of hosts are made of, besides hyphens and full stops."""
_AUTHORITY = re.compile("https?://([^/?#]+)")
_HIGHEST_PORT = 65_535
_STRAY_PERCENT = re.compile("%(?![0-9A-Fa-f]{2})")
_KEPT = "/?#._~!$&'()*+,;=:@-%[]"
"""Characters behind a host that need no percent-encoding."""

_RECORD = re.compile(r"at://(did:[^/]{1,300})/([A-Za-z0-9.-]{1,317})/([A-Za-z0-9._:~-]{1,512})")
_ANCHOR = re.compile(r"[A-Za-z0-9._-]{1,512}")
_FILE_STEM = re.compile(r"(?!(?:con|prn|aux|nul|com[0-9]|lpt[0-9])\Z)[a-z0-9]{1,64}")
"""Windows reserves the excluded names."""
_POSTS = "app.bsky.feed.post"
_PLACES = {
    _POSTS: ("/profile/", "/post/{}"),
    "app.bsky.feed.generator": ("/profile/", "/feed/{}"),
    "app.bsky.graph.list": ("/profile/", "/lists/{}"),
    "app.bsky.graph.starterpack": ("/starter-pack/", "/{}"),
    "app.bsky.labeler.service": ("/profile/", ""),
}
"""Collection → what stands before and behind the DID in the address of its records, on bsky.app."""
_HASH_DIGITS = 32


def web_address(url: str) -> str:
    """An address from a stranger as one that a page may link to; empty if there is none.

    It must be http or https with the name of a host. Whatever may mislead is refused: white space, control characters,
    backslashes, a user before the host. Names of hosts in other scripts stay as they are; everything behind the host
    is percent-encoded where it must be.
    """
    if len(url) > _LONGEST_ADDRESS:
        return ""
    if _USUAL.fullmatch(url):
        return url
    match = _PARTS.fullmatch(url)
    if match is None or "\\" in url or any(unicodedata.category(c) in ("Cc", "Cs", "Zs", "Zl", "Zp") for c in url):
        return ""
    scheme, host, port, rest = match[1].lower(), match[2], match[3], match[4] or ""
    if not _is_host(host) or (port and int(port) > _HIGHEST_PORT):
        return ""
    rest = quote(_STRAY_PERCENT.sub("%25", rest), safe=_KEPT)
    return f"{scheme}://{host}{':' + port if port else ''}{rest}"


def host_of(address: str) -> str:
    """The host of a result of `web_address`, without `www.`."""
    return _authority(address).removeprefix("www.")


def _authority(address: str) -> str:
    match = _AUTHORITY.match(address)
    return match[1] if match else ""


def _is_host(host: str) -> bool:
    """Whether a browser reads this as the name of a host and nothing else, also once it is normalized."""
    if host.startswith((".", "-")) or ".." in host:
        return False
    if host.isascii():
        return all(c.isalnum() or c in "-._" for c in host)
    return all(c in "-." or unicodedata.category(c) in _HOST_CATEGORIES for c in unicodedata.normalize("NFKC", host))


def record_address(uri: str) -> str:
    """Where bsky.app shows a post, a list, a feed, a starter pack or a labeler; empty for anything else."""
    match = _RECORD.fullmatch(uri)
    if match is None:
        return ""
    did, collection, key = match.groups()
    before, behind = _PLACES.get(collection, ("", ""))
    author = _author_in_address(did)
    if not before or not author or key in (".", ".."):
        return ""
    return f"{_BLUESKY}{before}{author}{behind.format(key)}" if behind else f"{_BLUESKY}{before}{author}"


@functools.lru_cache(_KEPT_IN_MEMORY)
def _author_in_address(author: str) -> str:
    """A DID or a handle as a part of an address; empty if it is neither."""
    is_author = is_did(author) or (author.isascii() and is_handle(author))
    return author.replace("%", "%25") if is_author else ""


def post_address(uri: str) -> str:
    """Where bsky.app shows a post; empty if the uri is not that of a post."""
    return record_address(uri) if f"/{_POSTS}/" in uri else ""


def profile_address(author: str) -> str:
    """The profile of a DID or a handle; empty if it is neither."""
    part = _author_in_address(author) if len(author) <= _LONGEST_AUTHOR else ""
    return f"{_BLUESKY}/profile/{part}" if part else ""


@functools.lru_cache(_KEPT_IN_MEMORY)
def tag_address(tag: str) -> str:
    """Where bsky.app shows the posts with a tag, given without `#`, and not longer than tags are."""
    return f"{_BLUESKY}/hashtag/{quote(tag, safe='', errors='replace')}"


def did_of(uri: str) -> str:
    """The DID in the uri of a record; empty if there is none."""
    did = uri.removeprefix("at://").partition("/")[0] if uri.startswith("at://") else ""
    return did if is_did(did) else ""


def anchor_of(uri: bytes | None, did: bytes, row_id: int) -> str:
    """The `id` of a post on pages of its author: its record key, or `*` and a hash, or its row id without a uri.

    Args:
        uri: Of the post, as stored: bytes that are not UTF-8 may look the same as others; None if there is none.
        did: Of its author, as stored.
        row_id: Of the post.
    """
    if uri is None:
        return f"*r{row_id}"
    before = b"at://%b/%b/" % (did, _POSTS.encode())
    key = uri[len(before) :].decode("latin-1") if uri.startswith(before) else ""
    return key if _ANCHOR.fullmatch(key) and key not in (".", "..") else "*" + _hash(uri)


def file_stem_of(anchor: str) -> str:
    """The stem of the names of a post's files: its anchor if that can name a file on any system, or `_` and a hash."""
    return anchor if _FILE_STEM.fullmatch(anchor) else "_" + _hash(anchor.encode())


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:_HASH_DIGITS]
