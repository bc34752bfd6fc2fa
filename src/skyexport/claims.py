"""What an export says of itself: manifest.json and SHA256SUMS, read as the words of a stranger.

Source: docs/format.md. Manifests of the established exporter have no checksums; what they have is read the same way.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from skyexport.export_directory import is_plain_name
from skyexport.media_root import MEDIA_DIRECTORY
from skyexport.readers import READERS

__all__ = ["MAX_CLAIMS_BYTES", "Checksum", "Manifest", "Sums", "media_sum", "read_manifest", "read_sums"]

MAX_CLAIMS_BYTES = 20_000_000
"""Larger files of this kind are not read: notices, and the list of posts that disappeared, are bounded below it."""

_SHA256 = re.compile("[0-9a-f]{64}")
_SUM_LINE = re.compile("([0-9a-f]{64})  (.+)")
_MEDIA_LINE = re.compile(rb"([0-9a-f]{64})  media/([A-Za-z0-9._-]{1,200})\n")
_MEDIA = re.compile(r"media/ \(([0-9]{1,12}) files?\)")
"""How the established exporter lists media in `files`."""

_SHOWN_CHARACTERS = 60
"""Of a value that should not be there."""


@dataclass(frozen=True, slots=True)
class Checksum:
    """What a file should be."""

    name: str
    bytes: int
    sha256: str


@dataclass(slots=True)
class Manifest:
    """As much of a manifest as can be read; what can not is None, or left out."""

    format: str | None = None
    """A name from `READERS`."""
    posts: int | None = None
    files: list[str] = field(default_factory=list)
    """Plain names."""
    media_files: int = 0
    checksums: list[Checksum] | None = None
    """None when there are none at all, as in manifests of the established exporter."""
    problems: list[str] = field(default_factory=list)
    """What is wrong with it."""

    @property
    def data_file(self) -> str | None:
        """Name of the data file."""
        return None if self.format is None else READERS[self.format][0]


def read_manifest(content: bytes) -> Manifest:
    """The manifest in these bytes, whatever they are."""
    manifest = Manifest()
    wrong = manifest.problems.append
    try:
        values = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        wrong(f"not JSON: {error}")
        return manifest
    if not isinstance(values, dict):
        wrong(f"{_shown(values)}, not an object")
        return manifest
    format, posts = values.get("export_format"), values.get("post_count")
    if isinstance(format, str) and format in READERS:
        manifest.format = format
    else:
        wrong(f"has {_shown(format)} for export_format, not {' or '.join(READERS)}")
    if _is_count(posts):
        manifest.posts = posts
    else:
        wrong(f"has {_shown(posts)} for post_count, not a number of posts")
    _read_files(manifest, values.get("files"))
    media = values.get("media_count", 0)
    if media != manifest.media_files or not _is_count(media):
        wrong(f"has {_shown(media)} for media_count, but {manifest.media_files:,} media files in files")
    if "checksums" in values:
        _read_checksums(manifest, values["checksums"])
    return manifest


def _read_files(manifest: Manifest, names: Any) -> None:
    if not isinstance(names, list):
        manifest.problems.append(f"has {_shown(names)} for files, not a list of names")
        return
    for name in names:
        media = _MEDIA.fullmatch(name) if isinstance(name, str) else None
        if media is not None:
            manifest.media_files = int(media[1])
        elif isinstance(name, str) and is_plain_name(name):
            manifest.files.append(name)
        else:
            manifest.problems.append(f"names {_shown(name)} in files, which is no file of an export")
    if manifest.data_file is not None and manifest.data_file not in manifest.files:
        manifest.problems.append(f"does not name {manifest.data_file} in files")


def _read_checksums(manifest: Manifest, values: Any) -> None:
    manifest.checksums = []
    if not isinstance(values, list):
        manifest.problems.append(f"has {_shown(values)} for checksums, not a list")
        return
    for value in values:
        checksum = _checksum(value)
        if checksum is None:
            manifest.problems.append(f"has {_shown(value)} in checksums that is none: name, bytes and sha256 of a file")
        else:
            manifest.checksums.append(checksum)
    summed = {checksum.name for checksum in manifest.checksums}
    manifest.problems += [f"has no checksum of {name}" for name in manifest.files if name not in summed]


def _checksum(value: Any) -> Checksum | None:
    match value:
        case {"name": str(name), "bytes": int(size), "sha256": str(sha256)}:
            if is_plain_name(name) and _is_count(size) and _SHA256.fullmatch(sha256):
                return Checksum(name, size, sha256)
    return None


@dataclass(slots=True)
class Sums:
    """As much of SHA256SUMS as can be read."""

    files: dict[str, str] = field(default_factory=dict)
    """Name → sha-256, of the files beside it."""
    media_files: int = 0
    """How many media files have a line; their names ascend, so that no name is there twice."""
    problems: list[str] = field(default_factory=list)
    """What is wrong with it."""


def read_sums(lines: Iterable[bytes]) -> Sums:
    """SHA256SUMS, of which these are the lines; each ends with a line feed, or is the last one."""
    sums = Sums()
    read_bytes = 0
    last_media = ""
    for number, line in enumerate(lines, 1):
        media = media_sum(line)
        if media is not None:
            if media[0] <= last_media:
                sums.problems.append(f"has {MEDIA_DIRECTORY}/{media[0]} out of order in line {number:,}")
            last_media = media[0]
            sums.media_files += 1
            continue
        read_bytes += len(line)
        if read_bytes > MAX_CLAIMS_BYTES:
            sums.problems.append(f"has more than {MAX_CLAIMS_BYTES:,} bytes beside those of media")
            break
        text = line.decode("latin-1")
        match = _SUM_LINE.fullmatch(text.removesuffix("\n"))
        if not text.endswith("\n"):
            sums.problems.append("does not end with a line feed")
        if match is None or not is_plain_name(match[2]):
            shown = _shown(text.removesuffix("\n"))
            sums.problems.append(f"has {shown} in line {number:,}, not the SHA-256 and the name of a file")
        elif match[2] in sums.files:
            sums.problems.append(f"has {match[2]} again in line {number:,}")
        else:
            sums.files[match[2]] = match[1]
    return sums


def media_sum(line: bytes) -> tuple[str, str] | None:
    """Name and sha-256 of the media file that a line of SHA256SUMS tells of; None when it is another line."""
    match = _MEDIA_LINE.fullmatch(line)
    if match is None or not is_plain_name(match[2].decode()):
        return None
    return match[2].decode(), match[1].decode()


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _shown(value: Any) -> str:
    """A value that should not be there, for people, in a few words."""
    if value is None:
        return "nothing"
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
