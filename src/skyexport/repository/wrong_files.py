"""Files that people take for CAR files: a download that the browser packed, or an error page that it saved."""

from __future__ import annotations

from skyexport.errors import RepositoryError

__all__ = ["is_car", "what_it_is"]

_CAR_2 = bytes.fromhex("0aa16776657273696f6e02")
"""Beginning of a CAR file of version 2."""

_VERSION_1 = b"gversion\x01"
_ROOTS = b"eroots"
"""Parts of the header of a CAR file: {"roots": [...], "version": 1} in DAG-CBOR."""

_PACKED = {b"PK\x03\x04": ("zip", "unpack it"), b"\x1f\x8b": ("gzip", "unpack it with gunzip"),
           b"\x28\xb5\x2f\xfd": ("Zstandard", "unpack it with zstd -d"), b"BZh": ("bzip2", "unpack it with bunzip2"),
           b"\xfd7zXZ": ("xz", "unpack it with unxz"), b"7z\xbc\xaf": ("7-Zip", "unpack it")}  # fmt: skip

_DOWNLOAD = "download the CAR file again: Bluesky, Settings, Account, Export my data"


def is_car(start: bytes) -> bool:
    """Whether a file that begins with *start*, at least 100 bytes of it, is a CAR file of version 1."""
    header = start[:100]
    return len(header) > 1 and header[1:2] == b"\xa2" and (_VERSION_1 in header or _ROOTS in header)


def what_it_is(shown: str, start: bytes, size: int) -> RepositoryError | None:
    """The error that a file is not a CAR file; None if it may be one.

    Args:
        shown: Its path, for people.
        start: Its first bytes, a few thousand at least, or all.
        size: Its size.
    """
    if not size:
        return RepositoryError(f"{shown} is empty", _DOWNLOAD)
    for magic, (name, hint) in _PACKED.items():
        if start.startswith(magic):
            return RepositoryError(f"{shown} is a {name} file", f"{hint}, and import the .car file in it")
    if start.startswith(_CAR_2):
        return RepositoryError(f"{shown} is a CAR file of version 2; skyexport reads version 1", _DOWNLOAD)
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text[:1] == b"<":
        what = "an HTML page" if b"<html" in text.lower() or b"<!doctype html" in text.lower() else "XML"
        return RepositoryError(f"{shown} is {what}, perhaps an error that the browser saved", _DOWNLOAD)
    if text[:1] in (b"{", b"["):
        return RepositoryError(f"{shown} is JSON, not a CAR file: {_first_words(text)}", _DOWNLOAD)
    if not is_car(start):
        return RepositoryError(f"{shown} is not a CAR file", _DOWNLOAD)
    return None


def _first_words(text: bytes) -> str:
    words = " ".join(text[:200].decode("utf-8", "replace").split())
    return words if len(words) <= 60 else f"{words[:60]}…"
