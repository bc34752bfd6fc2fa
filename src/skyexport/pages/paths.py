"""Paths of the files of an export for people, relative to its directory, and the names of months."""

from __future__ import annotations

import hashlib

from skyexport.layout import directory_name
from skyexport.repository.identifiers import is_did

__all__ = ["MONTHS", "author_folder", "day_text", "month_path", "month_text", "thread_path", "time_text"]

MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)


def author_folder(did: bytes) -> str:
    """The folder of one of several authors, with a slash at its end; a hash stands for a DID that is not valid."""
    text = did.decode(errors="replace")
    valid = is_did(text)
    return f"authors/{directory_name(text, portable=True) if valid else '_' + hashlib.sha256(did).hexdigest()[:32]}/"


def month_path(month: str, number: int) -> str:
    """The page of a month, below the author's folder.

    Args:
        month: Like "2024-05"; empty for posts without a readable time.
        number: Number of the page, from 1.
    """
    return f"{_month_folder(month)}/{number}.html"


def thread_path(month: str, stem: str, number: int) -> str:
    """The page of a thread, below the author's folder.

    Args:
        month: The month of its first post.
        stem: From `addresses.file_stem_of`.
        number: Number of the page, from 1.
    """
    return f"{_month_folder(month)}/thread-{stem}{'' if number == 1 else f'.{number}'}.html"


def _month_folder(month: str) -> str:
    return month.replace("-", "/") if month else "undated"


def month_text(month: str) -> str:
    """A month for people, like "May 2024"."""
    return f"{MONTHS[int(month[5:7]) - 1]} {month[:4]}" if month else "Undated"


def day_text(time: str) -> str:
    """The day of an RFC 3339 time for people, like "22 May 2024"."""
    return f"{int(time[8:10])} {MONTHS[int(time[5:7]) - 1]} {time[:4]}"


def time_text(time: str) -> str:
    """An RFC 3339 time in UTC for people, like "22 May 2024, 18:57 UTC"."""
    return f"{day_text(time)}, {time[11:16]} UTC"
