"""Which media files posts show, as far as the names in their embeds tell.

The archive's media table remembers one post for each file, though others may show it. Addresses of images end in a name
that is made of their content: the CID of what was uploaded, or the SHA-256. Such a name leads to a file in two ways:
its digest is the hash of a row; or a post that shows this one image, and has one row, has the file of it, whatever its
hash: what is downloaded is a smaller rendition of what was uploaded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import apsw

from skyexport.formats.base import add_function
from skyexport.formats.media_names import media_names
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
"""More than Bluesky takes for a whole post: larger ones are not looked into, since they would take memory."""

_HASH = re.compile(b"[0-9a-f]{64}")
_CID = re.compile(b"b[a-z2-7]{58}")
_DIGITS = bytes.maketrans(b"abcdefghijklmnopqrstuvwxyz234567", b"0123456789abcdefghijklmnopqrstuv")
"""From base32 to the digits of Python's `int`, which is ten times as fast as `base64`."""
_UNUSED_BITS = 2
"""58 digits have 290 bits, and a CID has 36 bytes."""
_CID_HEX = re.compile("01..1220(.{64})")
"""Version, codec, the kind and the length of the digest, which is a SHA-256."""

_EMBED = f"iif(octet_length(embed_data) <= {_LARGEST_EMBED_BYTES}, cast(embed_data as blob), null)"

ONLY_SHOWN_COLUMN = "only_shown"
"""Column of the media table in a copy of an archive: what `ONLY_SHOWN_SQL` gives, since not all posts are copied."""

ONLY_SHOWN_SQL = f"""
iif(
  post_uri in (select post_uri from {{schema}}media group by post_uri having count(*) = 1),
  (select sky_only_shown({_EMBED}) from {{schema}}posts where uri = media.post_uri),
  null
)"""
"""SQL for the digest of the one image that a row of media must be of; NULL or empty where that can not be known.

It looks for a post, once a row, so that posts need an index on their uri. Its `{schema}` is the database with posts and
media, and a dot, or nothing.
"""


def digest_of(name: bytes) -> str | None:
    """The SHA-256 that a name is made of, in hexadecimal digits; None where it is another kind of name.

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
    """The digests in the names that an embed shows, as a JSON array; it is shorter than the embed."""
    return "[" + ",".join(f'"{digest}"' for name in _names(embed) if (digest := digest_of(name))) + "]"


def _only_shown(embed: bytes | None) -> str:
    """The digest of the one image that an embed shows; nothing where that is not what it does."""
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
    found = dict(selection.parameters())
    for span in selection.spans():
        found |= span.parameters
    return found


def files_sql(selection: Selection, values: Sequence[str], only_shown: str, *, uri_indexed: bool) -> str:
    """SQL for the rows of media with each selected post that has their file, or shows it, once.

    Args:
        selection: Which posts.
        values: Those of a row of media; the uri of the post, as bytes, follows them. By the first one, then by uri.
        only_shown: `ONLY_SHOWN_COLUMN`, or `ONLY_SHOWN_SQL`.
        uri_indexed: Whether posts are found by uri quickly; else a list of the selected ones is made first.
    """
    where = selection.where_sql()
    has_post = f"exists (select 1 from posts where uri = media.post_uri and {where})"
    if not uri_indexed:
        has_post = f"media.post_uri in (select uri from posts where {where})"
    row = ", ".join(values)
    # A cross join goes through its first table, and looks for digests in the second.
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
    """SQL for the number of selected posts with media of which no file is known: they neither have nor show one.

    Args:
        selection: Which posts.
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
