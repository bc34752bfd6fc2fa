"""The media files that posts show, found by the names in their embeds.

The archive's media table records one post for each file, though other posts may show it. The address of an image ends
in a name that is made from its content: the CID of the upload, or the SHA-256. Such a name leads to a file in two ways.
Either its digest is the hash of a row. Or a post shows only this image and has only one row: then the row has its file,
whatever the hash, because the download is a smaller rendition of the upload.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import apsw

from skyexport.embeds import media_names
from skyexport.posts import add_function
from skyexport.selection import Selection

__all__ = [
    "ONLY_SHOWN_COLUMN",
    "ONLY_SHOWN_SQL",
    "digest_of",
    "files_sql",
    "parameters",
    "posts_with_media_sql",
    "register",
    "unknown_sql",
]

_LARGEST_EMBED_BYTES = 1_000_000
"""More than Bluesky accepts for a whole post. Larger embeds are not searched, to save memory."""

_HASH = re.compile(b"[0-9a-f]{64}")
_CID = re.compile(b"b[a-z2-7]{58}")
_DIGITS = bytes.maketrans(b"abcdefghijklmnopqrstuvwxyz234567", b"0123456789abcdefghijklmnopqrstuv")
"""Base32 digits → digits for Python's `int`, which is ten times as fast as `base64`."""
_UNUSED_BITS = 2
"""58 digits have 290 bits, and a CID has 36 bytes."""
_CID_HEX = re.compile("01..1220(.{64})")
"""Version, codec, kind and length of the digest, then the digest, a SHA-256."""

_EMBED = f"iif(octet_length(embed_data) <= {_LARGEST_EMBED_BYTES}, cast(embed_data as blob), null)"

ONLY_SHOWN_COLUMN = "only_shown"
"""Column of the media table in a private copy: the result of `ONLY_SHOWN_SQL`, since the copy may lack posts."""

ONLY_SHOWN_SQL = f"""
iif(
  post_uri in (select post_uri from {{schema}}media group by post_uri having count(*) = 1),
  (select sky_only_shown({_EMBED}) from {{schema}}posts where uri = media.post_uri),
  null
)"""
"""SQL for the digest of the only image that a row of media can have; NULL or empty if that cannot be known.

It looks for one post per row, so posts need an index on their uri. `{schema}` is the database with posts and media, and
a dot, or nothing.
"""


def digest_of(name: bytes) -> str | None:
    """The SHA-256 from which a name is made, in hexadecimal digits; None for another kind of name.

    Args:
        name: 64 lower-case hexadecimal digits, or a CID of version 1 in base32; a suffix may follow.
    """
    stem = name.partition(b".")[0]
    if _HASH.fullmatch(stem):
        return stem.decode()
    if not _CID.fullmatch(stem):
        return None
    cid = _CID_HEX.fullmatch(f"{int(stem[1:].translate(_DIGITS), 32) >> _UNUSED_BITS:072x}")
    return None if cid is None else cid[1]


def register(connection: apsw.Connection) -> None:
    """Add the functions that the SQL of this module calls."""
    add_function(connection, "sky_shown", _shown)
    add_function(connection, "sky_only_shown", _only_shown)


def _shown(embed: bytes | None) -> str:
    """The digests in the names that an embed shows, as a JSON array, which is shorter than the embed."""
    return "[" + ",".join(f'"{digest}"' for name in _names(embed) if (digest := digest_of(name))) + "]"


def _only_shown(embed: bytes | None) -> str:
    """The digest of the only image that an embed shows; empty if it does not show exactly one."""
    names = _names(embed)
    return (digest_of(names.pop()) or "") if len(names) == 1 else ""


def _names(embed: bytes | None) -> set[bytes]:
    try:
        return set(media_names(embed).split(b";")) if embed else set()
    except ValueError:
        return set()


def posts_with_media_sql(selection: Selection) -> str:
    """SQL for the selected posts that have media; its parameters are `parameters`."""
    where = f"has_media and {selection.where_sql()}"
    return " union all ".join(
        f"select uri, embed_data from posts where {span.where} and {where}" for span in selection.spans()
    )


def parameters(selection: Selection) -> dict[str, str]:
    """The parameters of the SQL below."""
    values = dict(selection.parameters())
    for span in selection.spans():
        values |= span.parameters
    return values


def files_sql(selection: Selection, values: Sequence[str], only_shown: str, *, uri_indexed: bool) -> str:
    """SQL for each row of media with each selected post that has or shows its file, once.

    Args:
        selection: The posts.
        values: SQL for the values of a row of media. The post's uri, as bytes, follows them in the result, which is
            ordered by the first value, then by uri.
        only_shown: `ONLY_SHOWN_COLUMN`, or `ONLY_SHOWN_SQL`.
        uri_indexed: Whether posts have an index on uri; else the selected posts are listed first.
    """
    where = selection.where_sql()
    has_post = f"exists (select 1 from posts where uri = media.post_uri and {where})"
    if not uri_indexed:
        has_post = f"media.post_uri in (select uri from posts where {where})"
    row = ", ".join(values)
    # A cross join goes through its first table, and looks up digests in the second.
    return f"""
with shown(shown_uri, digest) as materialized (
  select uri, value
  from ({posts_with_media_sql(selection)}), json_each(sky_shown({_EMBED}))
)
select {row}, cast(media.post_uri as blob)
from media
where {has_post}
union
select {row}, cast(shown.shown_uri as blob)
from shown cross join media on media.hash = shown.digest
union
select {row}, cast(shown.shown_uri as blob)
from media cross join shown on shown.digest = {only_shown}
order by 1, {len(values) + 1}"""


def unknown_sql(selection: Selection, only_shown: str) -> str:
    """SQL for the number of selected posts with media that neither have nor show a known file.

    Args:
        selection: The posts.
        only_shown: `ONLY_SHOWN_COLUMN`, or `ONLY_SHOWN_SQL`.
    """
    return f"""
select count(*)
from ({posts_with_media_sql(selection)})
where uri not in (select post_uri from media where post_uri is not null)
and not exists (
  select 1
  from json_each(sky_shown({_EMBED}))
  where value in (select hash from media)
  or value in (select {only_shown} from media)
)"""
