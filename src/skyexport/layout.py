"""Names of the directories and files that exports have."""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path

__all__ = [
    "CLAIMS",
    "EXPORT_NAME",
    "LONGEST_NAME_BYTES",
    "MAX_CLAIMS_BYTES",
    "MEDIA_DIRECTORY",
    "MEDIA_TABLE",
    "author_directory",
    "directory_name",
    "may_be_table",
]

MEDIA_DIRECTORY = "media"
"""Name of the directory in an export."""

MEDIA_TABLE = "media.csv"
"""Name of the table beside it: which posts show which file."""

EXPORT_NAME = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d(?:-\d{1,9})?", re.ASCII)
"""Names of export directories."""

CLAIMS = ("manifest.json", "SHA256SUMS")
"""The files that mark an export directory."""

MAX_CLAIMS_BYTES = 20_000_000
"""The largest manifest or SHA256SUMS that is read. Notices, the number of data files, and the list of disappeared posts
are limited to stay below it."""

LONGEST_NAME_BYTES = 200
"""File names may have 255 bytes; the rest is room for suffixes."""


def author_directory(output_dir: Path, did: str | None) -> Path:
    """The directory of an author's exports, or the first one to try if there are none.

    The portable spelling is used where a directory with that name exists, as on a disk that allows no colon in names.
    """
    place = output_dir / directory_name(did)
    portable = output_dir / directory_name(did, portable=True)
    return portable if not place.exists() and portable.is_dir() else place


def directory_name(did: str | None, *, portable: bool = sys.platform == "win32") -> str:
    """The name of an author's directory: one path component, different for each author.

    Args:
        did: A valid DID; None for all authors.
        portable: Write everything but `a-z 0-9 . -` as `_` and two hexadecimal digits, for file systems that allow no
            colon or ignore case.
    """
    if did is None:
        return "all"
    name = did
    if portable:
        name = "".join(
            character if character.isascii() and (character.islower() or character.isdigit() or character in ".-")
            else f"_{ord(character):02x}"
            for character in did
        )  # fmt: skip
    if len(name) > LONGEST_NAME_BYTES:
        name = f"{name[: LONGEST_NAME_BYTES - 65]}-{hashlib.sha256(did.encode()).hexdigest()}"
    return name


def may_be_table(directory: Path) -> bool:
    """Whether the export in *directory* seems to be Parquet, which takes more memory to read."""
    return any((directory / name).exists() for name in ("posts.parquet", "posts-00001.parquet"))
