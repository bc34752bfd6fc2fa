"""Archives with media files, and exports of them."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
from pathlib import Path

import apsw

from skyexport import ExportOptions, ExportSummary, export
from tests.archives import post, uri_of


def path_of(content: bytes, suffix: str = ".jpg") -> str:
    """Where bskyarchive puts a file."""
    sha256 = hashlib.sha256(content).hexdigest()
    return f"media/{sha256[:2]}/{sha256[2:4]}/{sha256}{suffix}"


def name_of(content: bytes, suffix: str = ".jpg") -> str:
    """Its name in an export."""
    return hashlib.sha256(content).hexdigest() + suffix


def add_media(
    archive: Path, content: bytes, number: int = 0, *, size: float | str | None = None, there: bool = True
) -> Path:
    """A file of the post of that number: the row, and the file itself below the archive's directory."""
    with contextlib.closing(apsw.Connection(str(archive))) as connection:
        connection.execute(
            "insert into media (hash, post_uri, mime_type, file_path, size_bytes) values (?, ?, 'image/jpeg', ?, ?)",
            (
                hashlib.sha256(content).hexdigest(), uri_of(post(number)), path_of(content),
                len(content) if size is None else size,
            ),
        )  # fmt: skip
    file = archive.parent / path_of(content)
    if there:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return file


def cid_of(content: bytes, codec: int = 0x55) -> str:
    """The CID of a file, as addresses have it."""
    data = bytes([1, codec, 0x12, 0x20]) + hashlib.sha256(content).digest()
    return "b" + base64.b32encode(data).decode().lower().rstrip("=")


def images(*names: str) -> bytes:
    """An embed that shows images of these names."""
    shown = [{"alt": "", "fullsize": f"https://cdn.example/plain/did:plc:abc/{name}@jpeg"} for name in names]
    return json.dumps({"$type": "app.bsky.embed.images#view", "images": shown}).encode()


def exported(archive: Path, **options: object) -> ExportSummary:
    """Export with media, in one process, next to the archive's directory."""
    to = archive.parent.parent / "out"
    return export(
        ExportOptions(**{"archive": archive, "output_dir": to, "media": True, "workers": 0, **options})  # type: ignore[arg-type]
    )


def directory_of_export(archive: Path) -> Path:
    """The directory of an export with media."""
    directory = exported(archive).directory
    assert directory is not None
    return directory


def media_in(summary: ExportSummary) -> dict[str, bytes]:
    """Name → content of the media files of an export."""
    assert summary.directory is not None
    return {path.name: path.read_bytes() for path in summary.directory.glob("media/*")}
