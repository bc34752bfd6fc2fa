"""Figures of an archive, for people who want to export it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import orjson

from skyexport.archive.archive import Archive
from skyexport.archive.authors import Author
from skyexport.archive.media_rows import count_media
from skyexport.archive.months import posts_by_month
from skyexport.archive.source import JournalMode
from skyexport.errors import MissingExtraError, OutputError
from skyexport.extras import INSTALL_HTML, INSTALL_PARQUET
from skyexport.formats import FORMS, Form
from skyexport.notices import COUNTS_UNKNOWN
from skyexport.options.values import parse_path
from skyexport.pipeline.estimate import Sample
from skyexport.rendering.native import renderer_in_words
from skyexport.runtime.scratch import temporary_folder
from skyexport.selection import Selection
from skyexport.wording import format_size, path_text

__all__ = ["Inspection", "author_line", "inspect", "list_authors"]

_LARGEST_AUTHORS = 10

_IN_MEMORY_BYTES = 8_000_000
"""Enough for a list of some ten thousand authors; a longer list goes to a temporary file."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """The figures of an archive, as `inspect` finds them out.

    Attributes:
        path: The archive.
        bytes: Size of its file.
        posts: Posts that it holds.
        authors: Authors of these posts.
        largest_authors: At most ten of them, the one with most posts first.
        first_post: When the oldest post was created, RFC 3339; None if no time near that end is readable.
        last_post: When the newest was created, likewise.
        months: Month in UTC, like "2024-05", → posts, the oldest first; "" has those without a readable time.
        media_rows: Rows about media files.
        archive_schema_version: Version of its schema, 1 to 3.
        journal_mode: "rollback" or "wal".
        created_at_index: Whether it has the index that exports step along; without, they sort all posts first.
        counts_unknown: Whether likes, reposts, replies and quotes are unknown, and 0: it was made of a repository.
        renderer: The renderer that exports use: `native`, or `python` and why.
        expected_bytes: Format → size of an export of all posts, estimated from a sample; None for a format that needs
            an extra which is not installed.
        warnings: Kind → count of warnings about the archive itself, as an export has them.
        warning_places: Kind → a sentence for each of them.
    """

    path: Path
    bytes: int
    posts: int
    authors: int
    largest_authors: list[Author]
    first_post: str | None
    last_post: str | None
    months: dict[str, int]
    media_rows: int
    archive_schema_version: int
    journal_mode: JournalMode
    created_at_index: bool
    counts_unknown: bool
    renderer: str
    expected_bytes: dict[str, int | None]
    warnings: dict[str, int]
    warning_places: dict[str, list[str]]

    def __repr__(self) -> str:
        authors = "1 author" if self.authors == 1 else f"{self.authors:,} authors"
        return f"<Inspection: {self.path}, {self.posts:,} posts by {authors}>"

    def to_dict(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        path = path_text(self.path)
        return {"status": "ok", **asdict(self), "path": path}

    def lines(self) -> list[str]:
        """The figures for people, one per line."""
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
            ("renderer", self.renderer),
            *((f"{name} export", _size_in_words(name, size)) for name, size in self.expected_bytes.items()),
            ("authors", f"{self.authors:,}"),
        ]
        lines = [f"{name + ':':18}{value}" for name, value in rows]
        lines += [f"  {author_line(author)}" for author in self.largest_authors]
        if self.authors > len(self.largest_authors):
            lines.append(f"  and {self.authors - len(self.largest_authors):,} more: --authors lists all")
        if self.counts_unknown:
            lines.append(f"note: {COUNTS_UNKNOWN}")
        lines += [f"warning: {place}" for places in self.warning_places.values() for place in places]
        return lines


_EXTRAS = {"parquet": f"pyarrow: {INSTALL_PARQUET}", "html": f"Jinja2: {INSTALL_HTML}"}
"""Form → the package that it needs, and how to install it."""


def author_line(author: Author) -> str:
    """A line about an author for people: posts, DID, handle."""
    return f"{author.posts:>12,}  {author.did}" + (f"  {author.handle}" if author.handle is not None else "")


def inspect(archive: str | os.PathLike[str]) -> Inspection:
    """Look into an archive: how many posts, by whom, from when, and how large exports of it would be.

        found = inspect("archive.db")
        print(found.posts, found.expected_bytes["csv"])

    Args:
        archive: Its path.

    Raises:
        OptionError: *archive* is no path.
        ArchiveError, ArchiveBusyError: It cannot be read.
    """
    return _inspected(parse_path(archive, "archive"))


def _inspected(path: Path) -> Inspection:
    with Archive(path) as archive:
        posts = archive.count_posts()
        first, last = archive.first_and_last()
        return Inspection(
            path=archive.path,
            bytes=archive.status.st_size,
            posts=posts,
            authors=archive.count_authors(),
            largest_authors=list(archive.authors(_LARGEST_AUTHORS)),
            first_post=first,
            last_post=last,
            months=posts_by_month(archive),
            media_rows=count_media(archive),
            archive_schema_version=archive.schema.version,
            journal_mode=archive.source.journal_mode,
            created_at_index=archive.created_at_index is not None,
            counts_unknown=archive.source.imported,
            renderer=renderer_in_words(),
            expected_bytes={name: _expected_bytes(archive, form, posts) for name, form in FORMS.items()},
            warnings=archive.notices().warnings,
            warning_places=archive.notices().places,
        )


def _expected_bytes(archive: Archive, form: Form, posts: int) -> int | None:
    """The expected bytes of an export of all posts; None if the format needs an extra that is not installed."""
    try:
        form.require()
    except MissingExtraError:
        return None
    return Sample.of(archive, form, Selection()).expected_bytes(posts)


def _size_in_words(form: str, size: int | None) -> str:
    return f"needs {_EXTRAS[form]}" if size is None else f"about {format_size(size)}"


def list_authors(path: Path) -> tuple[int, Iterator[Author]]:
    """The number of authors of the archive at *path*, and all authors, those with most posts first.

    The archive is already closed when this function returns, since people may read the list slowly.

    Raises:
        ArchiveError, ArchiveBusyError: The archive cannot be read.
        OutputError: There is no room for temporary files.
    """
    file = tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES, dir=str(temporary_folder()))  # noqa: SIM115
    with Archive(path) as archive:
        try:
            count = 0
            for author in archive.authors():
                count += 1
                file.write(orjson.dumps([author.did, author.handle, author.posts]) + b"\n")
            file.seek(0)
        except OSError as error:
            raise OutputError(
                f"cannot write a temporary file for the list of authors: {error.strerror}",
                "set TMPDIR to a place where there is room",
            ) from error
    return count, _authors_in(file)


def _authors_in(file: IO[bytes]) -> Iterator[Author]:
    with file:
        for line in file:
            yield Author(*orjson.loads(line))
