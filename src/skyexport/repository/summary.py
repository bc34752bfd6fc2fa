"""The summary of an import, for programs and for people."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from skyexport.notices import COUNTS_UNKNOWN, WARNING
from skyexport.repository.identifiers import NO_HANDLE
from skyexport.runtime.memory import Metric, shown_peak
from skyexport.runtime.progress import SCHEMA_VERSION, duration
from skyexport.wording import format_size, path_text

__all__ = ["ImportSummary", "Listed"]

_MAX_LISTED = 1000
"""Posts that a summary lists by URI, of each kind."""

_SHOWN = 10
"""Posts that are shown to people by URI."""


class Listed:
    """Posts, counted; the first of them are kept by URI."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[str] = []

    def add(self, uri: str) -> None:
        """Count a post."""
        self.count += 1
        if self.count <= _MAX_LISTED:
            self.first.append(uri)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportSummary:
    """A finished import."""

    path: Path
    """The archive."""
    did: str
    """The account."""
    handle: str
    archived_at: str
    """When the repository was written, as Go prints it."""
    is_older: bool
    """Whether the archive had a newer repository of the account; then its posts stayed as they were."""
    posts: int
    """Posts in the repository."""
    new_posts: int
    """Posts that the archive did not have."""
    changed_posts: int
    """Posts that the archive had with another content."""
    gone_posts: int
    """Posts of the account that the archive had, and the repository does not have."""
    gone: list[str]
    """The first of them, by URI."""
    removed: bool
    """Whether they were removed."""
    records: dict[str, int]
    """Collection → records of it in the repository; those of posts and profile only were imported."""
    media: int
    """Images and videos that the posts show."""
    media_files: int = 0
    """Those whose files were copied, or were there."""
    media_bytes: int = 0
    blobs_given: bool = False
    """Whether there was a folder of blobs."""
    times_from_keys: int
    """Posts without a readable time, which have that of their record key."""
    unknown_embeds: int
    """Embeds that are stored as the record has them."""
    odd_posts: dict[str, list[str]] = field(default_factory=dict)
    """`time` and `embed` → the first of the posts that the two counts are about, by URI."""
    seconds: float = 0.0
    peak_memory_bytes: int | None = None
    memory_metric: Metric | None = None

    def __repr__(self) -> str:
        return f"<ImportSummary: {self.posts:,} posts, {self.path}>"

    def to_dict(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        return {
            "schema_version": SCHEMA_VERSION, "status": "ok", **asdict(self), "path": path_text(self.path),
            "seconds": round(self.seconds, 3), "counts_unknown": True,
        }  # fmt: skip

    def sentences(self) -> list[str]:
        """The summary for people: a few lines, the path last."""
        took = f"{self.seconds:.2f} s" if self.seconds < 10 else duration(self.seconds)
        lines = [
            f"{_posts(self.posts)} of {self.did} in {took}: {self.new_posts:,} new, {self.changed_posts:,} changed,"
            f" peak memory {shown_peak(self.peak_memory_bytes, self.memory_metric)}"
        ]
        others = [
            f"{count:,} {collection.removeprefix('app.bsky.')}"
            for collection, count in self.records.items()
            if collection not in ("app.bsky.feed.post", "app.bsky.actor.profile")
        ]
        if others:
            lines.append(f"not imported: {', '.join(others[:_SHOWN])}{', …' if len(others) > _SHOWN else ''}")
        lines.append(f"note: {COUNTS_UNKNOWN}")
        lines.append("note: the signature of the repository was not checked: the key for that is not in the file")
        if self.is_older:
            lines.append("note: the archive has a newer state of this account, so only missing posts were added")
        if self.times_from_keys:
            lines.append(
                f"{WARNING}{_posts(self.times_from_keys)} without a readable createdAt: the time is that of the record"
                f" key; the first: {self.odd_posts['time'][0]}"
            )
        if self.unknown_embeds:
            embeds = "1 embed" if self.unknown_embeds == 1 else f"{self.unknown_embeds:,} embeds"
            lines.append(
                f"note: {embeds} of an unknown kind, stored as the record has it; the first:"
                f" {self.odd_posts['embed'][0]}"
            )
        lines += self._media_lines()
        if self.gone_posts:
            kept = "gone from the repository, and kept; --remove-gone removes such posts"
            lines.append(f"{_posts(self.gone_posts)} {'removed' if self.removed else kept}:")
            lines += [f"  {uri}" for uri in self.gone[:_SHOWN]]
            if self.gone_posts > _SHOWN:
                lines.append(f"  and {self.gone_posts - _SHOWN:,} more")
        if self.handle == NO_HANDLE:
            lines.append("note: the handle is unknown: import again with --handle you.bsky.social")
        lines.append(str(self.path))
        return lines

    def _media_lines(self) -> list[str]:
        if not self.media:
            return []
        files = "1 image or video" if self.media == 1 else f"{self.media:,} images and videos"
        if not self.blobs_given:
            return [f"note: a repository only names {files}; with their files in a folder, import again with --blobs"]
        missing = self.media - self.media_files
        copied = f"{self.media_files:,} of {files}, {format_size(self.media_bytes)}"
        return [copied if not missing else f"{copied}; {missing:,} missing in the folder of --blobs"]


def _posts(number: int) -> str:
    return "1 post" if number == 1 else f"{number:,} posts"
