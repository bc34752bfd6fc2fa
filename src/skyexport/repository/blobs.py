"""Files of images and videos, which a repository only names: copied from a folder into that of an archive's media.

A blob's CID has its SHA-256, so each file is checked while it is copied. Files get the names that bskyarchive would
give them: `media/09/3d/093dad….jpg`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from skyexport.errors import OutputError, RepositoryError
from skyexport.repository.blocks import RAW_CID, cid_text
from skyexport.runtime.cleanup import uninterrupted
from skyexport.runtime.disk import as_output_error
from skyexport.runtime.sync import sync_directory, sync_file
from skyexport.wording import printable_path

__all__ = ["BlobCopier", "CopiedBlob", "Wanted", "check_blob_directory", "media_path"]

_SUFFIXES = {
    "image/jpeg": ".jpg",
    "image/jpg": ".jpg",
    "image/png": ".png",
    "image/gif": ".gif",
    "image/webp": ".webp",
    "image/avif": ".avif",
    "image/heic": ".heic",
    "video/mp4": ".mp4",
    "video/webm": ".webm",
    "video/quicktime": ".mov",
}

_PIECE_BYTES = 1 << 20


class Wanted(NamedTuple):
    """A media file of the archive."""

    sha256: str
    """In hexadecimal."""
    file_path: str
    """Relative to the archive's folder."""


class CopiedBlob(NamedTuple):
    """A media file that is in its place now."""

    sha256: str
    file_path: str
    bytes: int


def media_path(sha256: str, mime_type: str) -> str:
    """Where an archive has the file of that hash, relative to its own folder."""
    return (
        f"media/{sha256[:2]}/{sha256[2:4]}/{sha256}{_SUFFIXES.get(mime_type.partition(';')[0].strip().lower(), '.bin')}"
    )


def check_blob_directory(directory: Path) -> None:
    """Check that there is a folder of blobs.

    Raises:
        RepositoryError: There is none.
    """
    if not directory.is_dir():
        what = "is not a folder" if directory.exists() else "does not exist"
        raise RepositoryError(f"{printable_path(directory)} {what}", "name the folder with the blobs with --blobs")


class BlobCopier:
    """Copies blobs from a folder of files that are named by CID. `undo` removes what it copied.

    Args:
        source: The folder.
        target: The archive's folder.
        hidden: Where a file grows until it is complete, on the same disk.
        check: Called for each piece of a file; an exception that it raises ends the import.
    """

    def __init__(self, source: Path, target: Path, hidden: Path, check: Callable[[], None]) -> None:
        self._source = source
        self._target = target
        self._hidden = hidden
        self._check = check
        self._made: list[Path] = []
        self._folders: list[Path] = []
        self._synced: set[Path] = set()
        self.files = 0
        """Files that are in their place, copied now or before."""
        self.bytes = 0

    def copy(self, wanted: Iterable[Wanted]) -> Iterable[CopiedBlob]:
        """Copy those that the folder has; yields them.

        Raises:
            RepositoryError: A file does not have the hash that its name says.
            OutputError: One cannot be written.
        """
        for blob in wanted:
            source = self._file_of(blob)
            if source is None:
                continue
            target = self._target / blob.file_path
            size = self._copied(source, target, blob.sha256)
            self._synced.add(target.parent)
            self.files += 1
            self.bytes += size
            yield CopiedBlob(blob.sha256, blob.file_path, size)
        for folder in self._synced:
            sync_directory(folder)

    def _file_of(self, blob: Wanted) -> Path | None:
        """The file of a blob, with or without a suffix; None if the folder does not have it."""
        cid = cid_text(RAW_CID + bytes.fromhex(blob.sha256))
        for name in (cid, cid + Path(blob.file_path).suffix):
            path = self._source / name
            with contextlib.suppress(OSError):
                if stat.S_ISREG(path.stat().st_mode):
                    return path
        return None

    def _copied(self, source: Path, target: Path, sha256: str) -> int:
        """Copy a file, unless it is there; returns its size."""
        if target.exists() and _hash_of(target, self._check)[0] == sha256:
            return target.stat().st_size
        for folder in (target.parents[2], target.parents[1], target.parent):
            # media, media/09, media/09/3d
            with as_output_error(target):
                if not folder.exists():
                    self._folders.append(folder)
                    folder.mkdir()
        if target.parent.resolve() != target.parent:
            raise OutputError(f"{printable_path(target.parent)} leads through a link", "make a folder of it")
        try:
            digest, size = _hash_of(source, self._check, self._hidden)
            if digest != sha256:
                raise RepositoryError(
                    f"{printable_path(source)} is damaged: its SHA-256 is not that of its name",
                    "download it again, or remove it",
                )

            def place() -> None:
                is_new = not os.path.lexists(target)
                with as_output_error(target):
                    self._hidden.replace(target)
                if is_new:
                    self._made.append(target)

            uninterrupted(place)
            return size
        except BaseException:
            self._hidden.unlink(missing_ok=True)
            raise

    def undo(self) -> None:
        """Remove the files that were copied, and folders that are empty now."""
        for path in self._made:
            with contextlib.suppress(OSError):
                path.unlink()
        for folder in reversed(self._folders):
            with contextlib.suppress(OSError):
                folder.rmdir()
        self._made.clear()
        self._folders.clear()


def _hash_of(source: Path, check: Callable[[], None], target: Path | None = None) -> tuple[str, int]:
    """SHA-256 and size of a file, which is copied to *target* meanwhile."""
    hashed, size = hashlib.sha256(), 0
    with contextlib.ExitStack() as opened:
        try:
            file = opened.enter_context(source.open("rb"))
        except OSError as error:
            raise RepositoryError(f"cannot read {printable_path(source)}: {error.strerror}") from None
        copy = None
        if target is not None:
            with as_output_error(target):
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
                # Without a buffer: on a full disk, closing would fail once more.
                copy = opened.enter_context(os.fdopen(os.open(target, flags, 0o600), "wb", buffering=0))
        while piece := file.read(_PIECE_BYTES):
            check()
            hashed.update(piece)
            size += len(piece)
            if copy is not None and target is not None:
                left = memoryview(piece)
                with as_output_error(target):
                    while left:
                        left = left[copy.write(left) :]
        if copy is not None and target is not None:
            with as_output_error(target):
                sync_file(copy.fileno())
    return hashed.hexdigest(), size
