"""Identifiers of atproto that say more than a name: DIDs, handles, and TIDs, which hold a time.

Source: https://atproto.com/specs/tid, /did and /handle.
"""

from __future__ import annotations

import re

__all__ = ["NO_HANDLE", "is_did", "is_handle", "tid_microseconds"]

NO_HANDLE = "handle.invalid"
"""Handle of an account whose handle is not known, as Bluesky shows it."""

_DID = re.compile(r"did:[a-z]{1,32}:[A-Za-z0-9._:%-]{1,250}(?<![:%])")
_HANDLE = re.compile(
    r"(?=.{1,253}\Z)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?", re.IGNORECASE
)
_TID = re.compile("[234567abcdefghij][234567abcdefghijklmnopqrstuvwxyz]{12}")

_DIGITS = str.maketrans("234567abcdefghijklmnopqrstuvwxyz", "0123456789abcdefghijklmnopqrstuv")
_CLOCK_BITS = 10
"""The last bits of a TID tell clocks apart."""


def is_did(text: str) -> bool:
    """Whether this is the DID of an account."""
    return _DID.fullmatch(text) is not None


def is_handle(text: str) -> bool:
    """Whether this is a handle: a domain name with at least two parts."""
    return _HANDLE.fullmatch(text) is not None


def tid_microseconds(key: str) -> int | None:
    """The time in a TID, in microseconds since 1970; None if *key* is not a TID."""
    return int(key.translate(_DIGITS), 32) >> _CLOCK_BITS if _TID.fullmatch(key) else None
