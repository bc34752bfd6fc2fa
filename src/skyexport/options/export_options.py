"""The options of an export, and how their values are parsed.

`ExportOptions` keeps the values as given. `resolve` derives the rest: paths, instants, the format, the compression.
Only the archive knows which author a handle means (`authors`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import date
from pathlib import Path
from typing import Any, Literal

from skyexport.errors import OptionError
from skyexport.formats.compression import Compression
from skyexport.formats.names import choice_hint
from skyexport.formats.settings import FormatSettings
from skyexport.options.checks import (
    USUAL_FORMAT,
    check_chains,
    check_format,
    check_limit,
    check_match,
    check_register,
    check_split,
    resolve_format,
)
from skyexport.options.types import check_types
from skyexport.options.values import (
    Bound,
    Size,
    StrPath,
    parse_author,
    parse_bound,
    parse_columns,
    parse_file,
    parse_path,
    parse_size,
)
from skyexport.runtime.location import absolute
from skyexport.wording import path_text

__all__ = [
    "SNAPSHOTS",
    "ExportOptions",
    "Resolved",
    "Split",
    "resolve",
]

DEFAULT_BATCH_SIZE = 1000
"""Posts per batch: enough to make messages between processes cheap, few enough for a chunk of one MB."""

DEFAULT_MEMORY_LIMIT_BYTES = 500_000_000
"""The limit that the established exporter promises for itself."""

DEFAULT_OUTPUT_DIR = Path("exports")
"""Export directories go below this directory, which is relative to the current one."""

MAX_BATCH_SIZE = 1_000_000
"""Above this, the row ids of a batch would take as much memory as its chunks."""

MAX_WORKERS = 256
"""A larger number is surely a typing error."""


SNAPSHOTS = ("pin", "copy")
"""`pin` holds the archive while posts are rendered; `copy` only while posts are copied, which needs disk space."""


_ONLY_OF_THE_WAY = frozenset(
    {
        *("archive", "output_dir", "to", "overwrite", "workers", "batch_size", "memory_limit", "sync"),
        *("snapshot", "link_media", "register", "since_export", "since_last", "allow_unrelated", "keep"),
    }
)
"""Options for the place and the way of an export; they do not change the exported data."""


@dataclass(frozen=True, slots=True)
class Split:
    """Limits of a data file; beyond them a new file starts, always between two posts. None means no limit."""

    posts: int | None = None
    """Most posts in a file."""
    bytes: int | None = None
    """Largest size of a file before compression; only a file of a single post may be larger. A post that is rendered in
    pieces always starts a new file, because its size is not known in advance."""

    def __bool__(self) -> bool:
        return self.posts is not None or self.bytes is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """One export, as it was asked for. All values are checked when you make the object, before anything is opened.

    A field has the name of the option on the command line, with underscores: `--split-posts` is *split_posts*. For
    `--no-sync`, `--no-bom` and `--no-header` the fields are *sync*, *bom* and *header*, which are True by default. A
    path is a str or a `pathlib.Path`. A size is a whole number of bytes, or text like "500MB".

        options = ExportOptions(archive="archive.db", format="csv", since="2024-01-01", columns="created_at,text")

    Args:
        archive: The archive, an SQLite file. It is only ever read, unless you set *register*. `export_all` ignores it.
        format: "json", "jsonl", "csv", "parquet" or "html"; by default what the name of *to* says, otherwise "json".
        compress: "gzip" or "zstd", with a level if you like ("zstd:9"), or "none"; by default what the name of *to*
            says, otherwise none.
        columns: Only these columns, in this order: a list, or names with commas between; by default all. Not for JSON.
        delimiter: The character between the fields of a CSV file: ",", ";", "|" or a tab; by default a tab if *to* ends
            in .tsv, otherwise a comma.
        bom: Whether a CSV file begins with a byte order mark, as spreadsheets like it.
        header: Whether a CSV file begins with the names of its columns.
        csv_safe: Whether to put an apostrophe before cells of a CSV file that a spreadsheet may read as formulas.
        split_posts: Start a new data file after so many posts; None for one file. Not with *to*.
        split_bytes: Start a new data file before one gets larger, uncompressed: a size, or None for one file. Not with
            *to*, nor for Parquet.
        author: Only posts by this author, a DID or a handle; None for all authors.
        since: Only posts from this date or instant on, inclusive; None for no bound. A date, or text like "2024-12-31",
            is the whole day in UTC. An instant is a datetime with a time zone, or text like "2024-12-31T18:30:00Z".
        until: Only posts up to this date or instant, inclusive, in the same forms; None for no bound.
        limit: Only so many posts, the newest; None for all. Not with *since_export* or *since_last*.
        output_dir: The directory below which the export directory `<author or all>/<time>` is made. Not used with *to*.
        to: Write just the data file, to this path; "-" is standard output, None an export directory.
        overwrite: Whether *to* may replace a file.
        workers: Worker processes. 0 does all the work in this process. "auto" takes one for each CPU, as far as the
            memory limit allows, and none for a small archive.
        batch_size: Posts that a worker renders at a time, 1 to 1,000,000.
        memory_limit: Bound on the memory of this process and its workers together: a size. Memory that your program
            uses already counts.
        sync: Whether to wait until everything is on disk; without, a crash of the machine may lose the export.
        strict: Whether to fail if something cannot be exported as it is stored, instead of counting it.
        snapshot: "pin" holds the archive while posts are read; "copy" only while they are copied to a temporary file.
        media: Whether to copy the media files of the exported posts as well. Not with *to*.
        media_root: The directory that paths of media are relative to; None for the directory of the archive.
        link_media: An earlier export directory: link its media files that have not changed instead of copying; None to
            copy all of them.
        match: Only posts that the archive's full-text index finds, in the syntax of SQLite's FTS5; None for all.
        since_export: Only posts that are new or changed since this export directory, or since a list of them: a full
            export and its increments, oldest first; by default all posts.
        since_last: The same since the newest full export of this archive with these options, and its increments, in
            the place of the export; a full export if there is none. Not with *since_export* or *to*.
        allow_unrelated: Go on if an earlier export has posts, and not one of them is in the archive.
        keep: Once the export is complete and verified, remove older chains of this archive with these options from its
            place, so that so many stay: a chain is a full export and its increments. None keeps all. Not with *to*.
        register: Whether to add the finished export to the archive's own list of exports: the only thing ever written
            to an archive.

    Raises:
        OptionError: A value that no export could have, or a value of a wrong type; the hint says what to give.
    """

    archive: StrPath
    format: str = ""
    compress: str = ""
    columns: str | Sequence[str] = ()
    delimiter: str = ""
    bom: bool = True
    header: bool = True
    csv_safe: bool = False
    split_posts: int | None = None
    split_bytes: Size | None = None
    author: str | None = None
    since: Bound = None
    until: Bound = None
    limit: int | None = None
    output_dir: StrPath = DEFAULT_OUTPUT_DIR
    to: StrPath | None = None
    overwrite: bool = False
    workers: int | Literal["auto"] = "auto"
    batch_size: int = DEFAULT_BATCH_SIZE
    memory_limit: Size = DEFAULT_MEMORY_LIMIT_BYTES
    sync: bool = True
    strict: bool = False
    snapshot: str = "pin"
    media: bool = False
    media_root: StrPath | None = None
    link_media: StrPath | None = None
    match: str | None = None
    since_export: StrPath | Sequence[StrPath] = ()
    since_last: bool = False
    allow_unrelated: bool = False
    keep: int | None = None
    register: bool = False

    def __post_init__(self) -> None:
        check_types(self)
        resolve(self)

    def __repr__(self) -> str:
        """With the options that are not the default."""
        given = [option for option in fields(self) if getattr(self, option.name) != option.default]
        return f"ExportOptions({', '.join(f'{option.name}={getattr(self, option.name)!r}' for option in given)})"

    @property
    def memory_limit_bytes(self) -> int:
        """*memory_limit* in bytes."""
        return parse_size(self.memory_limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """The values that follow from the options of one export alone, without the archive."""

    options: ExportOptions
    """The options as given."""
    archive: Path
    output_dir: Path
    to: Path | None
    media_root: Path | None
    link_media: Path | None
    since_export: tuple[Path, ...]
    since: int | None
    """The first instant to export, in nanoseconds since 1970; None for no bound."""
    until: int | None
    """The last instant to export, in nanoseconds since 1970; None for no bound."""
    format: str
    """A name from `formats.FORMS`."""
    compression: Compression | None
    """None for no compression."""
    settings: FormatSettings
    """*columns*, *delimiter*, *bom*, *header* and *csv_safe*."""
    split: Split
    """When a data file is full."""

    def shaping(self) -> dict[str, Any]:
        """The options that shape data files and are not the default: option → value, as in JSON."""
        changed: dict[str, Any] = self.settings.changed()
        if self.compression is not None:
            changed["compress"] = str(self.compression)
        bounds = {"split_posts": self.split.posts, "split_bytes": self.split.bytes}
        return changed | {name: bound for name, bound in bounds.items() if bound is not None}

    def data_file_name(self, number: int = 1) -> str:
        """Name of a data file in an export directory.

        Args:
            number: Its number, from 1; only names of split exports show it.
        """
        from skyexport.formats import FORMATS

        stem = f"posts-{number:05}" if self.split else "posts"
        return stem + FORMATS[self.format].suffix + (self.compression.suffix if self.compression is not None else "")

    def of_the_output(self, did: str | None) -> dict[str, object]:
        """The options that may change the exported data and are not the default, as a manifest notes them.

        Two exports of one state of an archive are equal if these options are equal.

        Args:
            did: The DID of the author; None for all authors.
        """
        asked = [option for option in fields(self.options) if option.name not in _ONLY_OF_THE_WAY]
        values = {option.name: getattr(self.options, option.name) for option in asked} | {
            "author": did,
            "format": self.format,
            "compress": "" if self.compression is None else str(self.compression),
            "columns": self.settings.columns,
            "split_bytes": self.split.bytes,
            "delimiter": self.settings.delimiter,
            # A relative path would mean another directory when the command is run elsewhere.
            "media_root": None if self.media_root is None else _from_the_root(self.media_root),
        }
        usual = {option.name: option.default for option in asked} | {"format": USUAL_FORMAT, "delimiter": ","}
        return {name: _plain(value) for name, value in values.items() if value != usual[name]}


def resolve(options: ExportOptions) -> Resolved:
    """Check the options of an export, and derive the values that follow from them.

    Raises:
        OptionError: A value is not valid, or two options contradict each other.
    """
    if not isinstance(options, ExportOptions):
        raise OptionError(f"options is of type {type(options).__name__}", "give ExportOptions(archive=...)")
    archive = parse_path(options.archive, "archive")
    output_dir = parse_path(options.output_dir, "output directory")
    to = None if options.to is None else parse_file(options.to)
    media_root = link_media = None
    if options.media_root is not None:
        media_root = parse_path(options.media_root, "directory of media")
        if not options.media:
            raise OptionError("--media-root needs --media", "add --media, or leave out --media-root")
    if options.link_media is not None:
        link_media = parse_path(options.link_media, "earlier export")
        if not options.media:
            raise OptionError("--link-media needs --media", "add --media, or leave out --link-media")
    if options.media and to is not None:
        raise OptionError("--to writes just the data file, without media", "leave out --media, or use -o")
    earlier = options.since_export
    earlier = [earlier] if isinstance(earlier, str | os.PathLike) else earlier
    since_export = tuple(parse_path(path, "earlier export") for path in earlier)
    if len(set(since_export)) < len(since_export):
        raise OptionError("an earlier export is named twice", "name each directory once, oldest first")
    check_chains(options)
    if options.limit is not None:
        check_limit(options, options.limit)
    if options.match is not None:
        check_match(options.match)
    since = parse_bound(options.since, end_of_day=False, name="since")
    until = parse_bound(options.until, end_of_day=True, name="until")
    format, compression, delimiter = resolve_format(options, to)
    settings = FormatSettings(
        columns=parse_columns(options.columns), delimiter=delimiter, bom=options.bom, header=options.header,
        csv_safe=options.csv_safe,
    )  # fmt: skip
    split = Split(options.split_posts, None if options.split_bytes is None else parse_size(options.split_bytes))
    check_format(options, format, compression, settings)
    check_split(split, format, to)
    resolved = Resolved(
        options=options, archive=archive, output_dir=output_dir, to=to, media_root=media_root, link_media=link_media,
        since_export=since_export, since=since, until=until, format=format, compression=compression, settings=settings,
        split=split,
    )  # fmt: skip
    if options.register:
        check_register(resolved)
    if options.author is not None:
        parse_author(options.author)
    if since is not None and until is not None and until < since:
        raise OptionError(f"until {options.until} is before since {options.since}", "swap the two")
    if not 1 <= options.batch_size <= MAX_BATCH_SIZE:
        raise OptionError(f"a batch cannot have {options.batch_size} posts", f"choose 1 to {MAX_BATCH_SIZE:,}")
    if isinstance(options.workers, int) and not 0 <= options.workers <= MAX_WORKERS:
        raise OptionError(f"cannot use {options.workers} workers", f"choose 0 (in this process) to {MAX_WORKERS}")
    if options.snapshot not in SNAPSHOTS:
        raise OptionError(f"unknown snapshot {options.snapshot!r}", choice_hint(options.snapshot, SNAPSHOTS))
    if options.memory_limit_bytes < 1:
        raise OptionError(f"the memory limit cannot be {options.memory_limit_bytes} bytes", "leave it out for 500MB")
    return resolved


def _from_the_root(path: Path) -> Path:
    """An absolute path; unchanged if the current directory was deleted: opening it reports that."""
    try:
        return absolute(path)
    except FileNotFoundError:
        return path


def _plain(value: object) -> object:
    """The value of an option, as in JSON."""
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, date):
        return value.isoformat()
    if value is None or isinstance(value, bool | int | float):
        return value
    return path_text(str(value))
