"""The result of verifying an export."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from skyexport.extras import INSTALL_PARQUET
from skyexport.formats.compression import Compression
from skyexport.formats.settings import FormatSettings
from skyexport.verification.claims import Checksum
from skyexport.wording import path_text

__all__ = ["Verification"]


@dataclass(frozen=True, slots=True)
class Verification:
    """An export whose files match its manifest."""

    directory: Path
    format: str
    settings: FormatSettings
    compression: Compression | None
    data_files: list[str]
    """Names of the data files, in order; empty for an HTML export."""
    pages: int
    """Number of HTML pages; 0 if there are data files instead."""
    posts: int
    """Posts in the data files or pages: counted, or the manifest's number if `posts_read` is false."""
    posts_read: bool
    """Whether the data files were read back; false if that needs an extra that is not installed."""
    bytes: int
    """Size of the data files, or of the pages with all files that belong to them."""
    media_files: int
    """Number of media files."""
    checksums: list[Checksum]
    """The files whose bytes match the checksums in the manifest or in SHA256SUMS, but for media and pages, which match
    if this object exists."""
    unverified: list[str]
    """Files without a checksum, as in exports of the established exporter; empty for exports of this program."""
    seconds: float

    def __repr__(self) -> str:
        return f"<Verification: {self.sentence()}>"

    def to_dict(self) -> dict[str, object]:
        """The object that `--json` prints."""
        return {
            "status": "ok",
            **asdict(self),
            "settings": self.settings.changed(),
            "compression": None if self.compression is None else str(self.compression),
            "directory": path_text(self.directory),
            "seconds": round(self.seconds, 3),
        }

    def sentence(self) -> str:
        """The result in one line, for people."""
        posts = "1 post" if self.posts == 1 else f"{self.posts:,} posts"
        pages = "1 page" if self.pages == 1 else f"{self.pages:,} pages"
        parts = [f"{posts} in {pages}" if self.pages else posts]
        if self.media_files:
            parts.append("1 media file" if self.media_files == 1 else f"{self.media_files:,} media files")
        if self.checksums:
            parts.append("all checksums match")
        if self.unverified:
            parts.append(f"no checksums for {', '.join(self.unverified)}")
        unread = "" if self.posts_read else f"; the posts were not read, which needs pyarrow: {INSTALL_PARQUET}"
        return f"{self.directory}: OK: {', '.join(parts)}{unread}"
