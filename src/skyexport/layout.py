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
    "PAGE_PATH",
    "POSTS_PAGE_PATH",
    "author_directory",
    "directory_name",
    "is_page_path",
    "is_posts_page",
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

_AUTHOR = r"(?:authors/[a-z0-9_][a-z0-9._-]{0,199}/)?"
"""The folder of an author, named by `directory_name`, in an HTML export of several."""

_MONTH = r"(?:[0-9]{4}/[0-9]{2}|undated)"

_NUMBER = r"[1-9][0-9]{0,8}"

_STEM = r"(?:[a-z0-9]{1,64}|_[0-9a-f]{32})"
"""Stands for one post in a file name: its record key, or a part of the record key's hash."""

POSTS_PAGE_PATH = re.compile(rf"{_AUTHOR}{_MONTH}/{_NUMBER}\.html")
"""Paths of pages, in an HTML export, that together have each post once: those of months, and of undated posts."""

PAGE_PATH = re.compile(
    rf"{POSTS_PAGE_PATH.pattern}"
    rf"|{_AUTHOR}{_MONTH}/thread-{_STEM}(?:\.{_NUMBER})?\.html"
    rf"|{_AUTHOR}index\.html"
    rf"|{_AUTHOR}texts/{_STEM}(?:-embed)?\.txt"
    r"|search\.html"
    r"|assets/[A-Za-z0-9_][A-Za-z0-9._-]{0,199}"
    r"|search/[A-Za-z0-9_][A-Za-z0-9._-]{0,196}\.js"
)
"""Paths of all files of an HTML export but the manifest, the checksums, and media. They have at most five parts, each
of which is a plain name. `/` separates them on every system."""


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


def is_page_path(path: str) -> bool:
    """Whether an HTML export can have a file with this path: a page, or a file that belongs to the pages."""
    return PAGE_PATH.fullmatch(path) is not None


def is_posts_page(path: str) -> bool:
    """Whether this is the path of a page whose posts count: pages of threads repeat posts."""
    return POSTS_PAGE_PATH.fullmatch(path) is not None


def may_be_table(directory: Path) -> bool:
    """Whether the export in *directory* seems to be Parquet, which takes more memory to read."""
    return any((directory / name).exists() for name in ("posts.parquet", "posts-00001.parquet"))
