"""What an archive holds, in figures, for people who are about to export it."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from skyexport.archive import Archive
from skyexport.estimate import Sample
from skyexport.formats import FORMATS
from skyexport.options import format_size
from skyexport.selection import Selection
from skyexport.source import JournalMode

__all__ = ["Author", "Inspection", "inspect"]

_LARGEST_AUTHORS = 10


@dataclass(frozen=True, slots=True)
class Author:
    """How much one author wrote."""

    did: str
    posts: int


@dataclass(frozen=True, slots=True)
class Inspection:
    """The figures of an archive."""

    path: Path
    bytes: int
    posts: int
    authors: int
    largest_authors: list[Author]
    """At most ten, the largest first."""
    first_post: str | None
    """When the oldest post was created, RFC 3339; None when no post has a readable time."""
    last_post: str | None
    media_rows: int
    archive_schema_version: int
    journal_mode: JournalMode
    created_at_index: bool
    """Whether the archive has the index that exports step along; without it they sort first."""
    expected_bytes: dict[str, int]
    """Format → size of an export of all posts, estimated from a sample."""
    warnings: dict[str, int]
    """Kind → count, of warnings about the archive itself, as an export has them."""
    warning_places: dict[str, list[str]]
    """Kind → a sentence for each of them."""

    def to_dict(self) -> dict[str, Any]:
        """As the object that `--json` prints."""
        path = os.fsencode(self.path).decode(errors="replace")
        return {"status": "ok", **asdict(self), "path": path}

    def lines(self) -> list[str]:
        """For people, a figure a line."""
        index = "yes" if self.created_at_index else "no: exports sort all posts first, which takes longer"
        rows = [
            ("archive", f"{self.path}, {format_size(self.bytes)}"),
            ("posts", f"{self.posts:,}"),
            ("first", self.first_post or "-"),
            ("last", self.last_post or "-"),
            ("media rows", f"{self.media_rows:,}"),
            ("schema version", str(self.archive_schema_version)),
            ("journal mode", self.journal_mode),
            ("created_at index", index),
            *((f"{name} export", f"about {format_size(size)}") for name, size in self.expected_bytes.items()),
            ("authors", f"{self.authors:,}"),
        ]
        lines = [f"{name + ':':18}{value}" for name, value in rows]
        lines += [f"  {author.posts:>12,}  {author.did}" for author in self.largest_authors]
        if self.authors > len(self.largest_authors):
            lines.append(f"  and {self.authors - len(self.largest_authors):,} more")
        lines += [f"warning: {place}" for places in self.warning_places.values() for place in places]
        return lines


def inspect(path: Path) -> Inspection:
    """Look into the archive at *path*.

    Raises:
        ArchiveError, ArchiveBusyError: It can not be read.
    """
    with Archive(path) as archive:
        posts = archive.count_posts()
        authors, largest = archive.authors(_LARGEST_AUTHORS)
        first, last = archive.first_and_last()
        return Inspection(
            path=archive.path,
            bytes=archive.status.st_size,
            posts=posts,
            authors=authors,
            largest_authors=[Author(did, count) for did, count in largest],
            first_post=first,
            last_post=last,
            media_rows=archive.count_media(),
            archive_schema_version=archive.schema_version,
            journal_mode=archive.source.journal_mode,
            created_at_index=archive.created_at_index is not None,
            expected_bytes={
                name: Sample.of(archive, format, Selection()).expected_bytes(posts) for name, format in FORMATS.items()
            },
            warnings=archive.notices().warnings,
            warning_places=archive.notices().places,
        )
