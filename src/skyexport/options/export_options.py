"""The options of an export, and how their values are parsed.

`ExportOptions` keeps the values as given. `resolve` derives the rest: paths, instants, the format, the compression.
Only the archive knows which author a handle means (`authors`).
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from skyexport import timestamps
from skyexport.errors import OptionError
from skyexport.formats.compression import Compression, parse_compression
from skyexport.formats.names import choice_hint, form_of_name, unknown_format
from skyexport.formats.settings import DELIMITERS, FormatSettings
from skyexport.options.types import check_path, check_type, check_types
from skyexport.runtime.location import absolute

__all__ = [
    "SNAPSHOTS",
    "ExportOptions",
    "Resolved",
    "Split",
    "available_cpus",
    "is_did",
    "parse_author",
    "parse_bound",
    "parse_columns",
    "parse_delimiter",
    "parse_file",
    "parse_number",
    "parse_path",
    "parse_size",
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

MAX_LIMIT = 10**15
"""Posts: more than any archive will ever have."""

SNAPSHOTS = ("pin", "copy")
"""`pin` holds the archive while posts are rendered; `copy` only while posts are copied, which needs disk space."""

_USUAL_FORMAT = "json"

_REGISTERED_FORMATS = ("json", "csv")
"""The formats that bskyarchive's list of exports accepts."""

_OF_ANY_TABLE = frozenset({"delimiter", "bom", "csv_safe"})
"""Settings that also apply to the table of media, which an export in any format may have."""

_ONLY_OF_THE_WAY = frozenset(
    {
        *("archive", "output_dir", "to", "overwrite", "workers", "batch_size", "memory_limit", "sync"),
        *("snapshot", "link_media", "register", "since_export", "since_last", "allow_unrelated", "keep"),
    }
)
"""Options for the place and the way of an export; they do not change the exported data."""

_DELIMITER_WORDS = {"tab": "\t", r"\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}
_DELIMITER_HINT = "choose , ; | or tab"

_DID = re.compile(r"did:[a-z]+:[A-Za-z0-9._:%-]*[A-Za-z0-9._-]")
_MAX_DID_LENGTH = 2048
_HANDLE = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
"""Source: https://atproto.com/specs/handle."""
_MAX_HANDLE_LENGTH = 253
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", re.ASCII)
_CAPITALS = re.compile("(?<=[a-z])(?=[A-Z])")
_NUMBER = re.compile("-?[0-9]{1,18}")
_UNITS = {
    "": 1,
    "b": 1,
    "k": 10**3,
    "kb": 10**3,
    "kib": 2**10,
    "m": 10**6,
    "mb": 10**6,
    "mib": 2**20,
    "g": 10**9,
    "gb": 10**9,
    "gib": 2**30,
    "t": 10**12,
    "tb": 10**12,
    "tib": 2**40,
}
_LEAST_WITHOUT_UNIT = 100_000
"""A smaller number without a unit hardly means bytes: 500 is probably 500MB."""
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII)

Bound = str | date | datetime | None
StrPath = str | os.PathLike[str]
Size = int | str
"""Bytes, or text like `500MB`."""


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
        format: "json", "jsonl", "csv" or "parquet"; by default what the name of *to* says, otherwise "json".
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
    """A name from `formats.FORMATS`."""
    compression: Compression | None
    """None for no compression."""
    settings: FormatSettings
    """*columns*, *delimiter*, *bom*, *header* and *csv_safe*."""
    split: Split
    """When a data file is full."""

    def shaping(self) -> dict[str, Any]:
        """The options that shape data files and are not the default: option → value, as in JSON."""
        found: dict[str, Any] = self.settings.changed()
        if self.compression is not None:
            found["compress"] = str(self.compression)
        bounds = {"split_posts": self.split.posts, "split_bytes": self.split.bytes}
        return found | {name: bound for name, bound in bounds.items() if bound is not None}

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
        usual = {option.name: option.default for option in asked} | {"format": _USUAL_FORMAT, "delimiter": ","}
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
    _check_chains(options)
    if options.limit is not None:
        _check_limit(options, options.limit)
    if options.match is not None:
        _check_match(options.match)
    since = parse_bound(options.since, end_of_day=False, name="since")
    until = parse_bound(options.until, end_of_day=True, name="until")
    format, compression, delimiter = _resolve_format(options, to)
    settings = FormatSettings(
        columns=parse_columns(options.columns), delimiter=delimiter, bom=options.bom, header=options.header,
        csv_safe=options.csv_safe,
    )  # fmt: skip
    split = Split(options.split_posts, None if options.split_bytes is None else parse_size(options.split_bytes))
    _check_format(options, format, compression, settings)
    _check_split(split, format, to)
    resolved = Resolved(
        options=options, archive=archive, output_dir=output_dir, to=to, media_root=media_root, link_media=link_media,
        since_export=since_export, since=since, until=until, format=format, compression=compression, settings=settings,
        split=split,
    )  # fmt: skip
    if options.register:
        _check_register(resolved)
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


def _check_limit(options: ExportOptions, limit: int) -> None:
    if not 1 <= limit <= MAX_LIMIT:
        raise OptionError(
            f"the limit cannot be {limit} posts", f"choose 1 to {MAX_LIMIT:,}, or leave it out for all posts"
        )
    if options.since_export or options.since_last:
        earlier = "--since-export" if options.since_export else "--since-last"
        raise OptionError(
            f"--limit cannot be used with {earlier}: posts beyond the limit would never be exported",
            "leave out one of them",
        )


def _check_chains(options: ExportOptions) -> None:
    """Check the options for chains of exports.

    Raises:
        OptionError: The options contradict each other.
    """
    if options.since_last and options.since_export:
        raise OptionError("--since-last finds the earlier exports that --since-export names", "leave out one of them")
    if options.since_last and options.to is not None:
        raise OptionError(
            "--since-last is for export directories, but --to writes one file",
            "use -o, or name the earlier exports with --since-export",
        )
    if options.allow_unrelated and not (options.since_last or options.since_export):
        raise OptionError("--allow-unrelated is for --since-export and --since-last", "leave it out")
    if options.keep is None:
        return
    if options.keep < 1:
        raise OptionError(f"--keep {options.keep} would keep no export", "choose 1 or more")
    if options.to is not None:
        raise OptionError("--keep is for export directories, but --to writes one file", "use -o, or leave out --keep")
    if options.register:
        raise OptionError("--keep would remove exports that the archive still lists", "leave out --register or --keep")


def _resolve_format(options: ExportOptions, to: Path | None) -> tuple[str, Compression | None, str]:
    """The format (a name from FORMATS), the compression and the delimiter: by options, else by the name of *to*."""
    from skyexport.formats import FORMATS

    if options.format and options.format not in FORMATS:
        raise unknown_format(options.format, FORMATS)
    named = form_of_name(to, format_given=bool(options.format))
    format = options.format or named.format or _USUAL_FORMAT
    if options.delimiter and named.delimiter not in ("", options.delimiter):
        raise OptionError(
            f"{to} is named like a table with tabs, but --delimiter is {options.delimiter!r}", "leave out --delimiter"
        )
    if named.format not in ("", format):
        raise OptionError(
            f"{to} is named like {named.format}, but --format is {format}",
            f"leave out --format, or name it …{FORMATS[format].suffix}",
        )
    compression = parse_compression(options.compress) if options.compress else named.compression
    if named.compression is not None and getattr(compression, "name", None) != named.compression.name:
        raise OptionError(
            f"{to} is named like {named.compression.name}, but --compress is {options.compress}",
            "leave out --compress, or give the file another name",
        )
    if named.format and named.compression is None and compression is not None:
        raise OptionError(
            f"{to} is named like a file without compression, but --compress is {compression.name}",
            f"name it …{FORMATS[format].suffix}{compression.suffix}",
        )
    return format, compression, options.delimiter or named.delimiter or ","


def _check_format(options: ExportOptions, name: str, compression: Compression | None, settings: FormatSettings) -> None:
    """Check the options that a format must support.

    Raises:
        OptionError: The format does not support one of them.
    """
    from skyexport.formats import FORMATS

    format = FORMATS[name]
    for changed in settings.changed():
        if changed not in format.takes and not (options.media and changed in _OF_ANY_TABLE):
            option = {"bom": "no-bom", "header": "no-header"}.get(changed, changed.replace("_", "-"))
            raise OptionError(f"--{option} is not for {name}", "leave it out")
    if unknown := [column for column in settings.columns if column not in format.columns]:
        # People copy headings of CSV: CreatedAt means created_at.
        raise OptionError(
            f"{name} has no column {unknown[0]!r}", choice_hint(_CAPITALS.sub("_", unknown[0]), format.columns)
        )
    if len(set(settings.columns)) < len(settings.columns):
        raise OptionError("a column is named twice", "name each column once")
    needed = ("uri", "cid", "indexed_at", *["originals"] * ("originals" in format.columns))
    if options.since_last and settings.columns and (missing := [one for one in needed if one not in settings.columns]):
        raise OptionError(f"--since-last compares the column {missing[0]}", "add it to --columns")
    if settings.delimiter not in DELIMITERS:
        raise OptionError(f"{settings.delimiter!r} cannot be a delimiter", _DELIMITER_HINT)
    if compression is not None and not format.is_text:
        raise OptionError(
            f"{name} has its own compression and cannot use {compression.name}",
            f"leave out --compress, and {compression.suffix} at the end of a name",
        )


def _check_split(split: Split, format: str, to: Path | None) -> None:
    """Refuse what data files cannot be split into.

    Raises:
        OptionError: They cannot.
    """
    from skyexport.formats import FORMATS

    if split.bytes is not None and not FORMATS[format].is_text:
        raise OptionError(
            f"--split-bytes is not for {format}: the size of a file is known only once it is written",
            "use --split-posts",
        )
    if split and to is not None:
        raise OptionError("--to writes one file, which cannot be split", "use -o instead")
    for bound, what in ((split.posts, "posts"), (split.bytes, "bytes")):
        if bound is not None and bound < 1:
            raise OptionError(f"a data file cannot have {bound} {what}", "choose 1 or more")


def _check_register(resolved: Resolved) -> None:
    """Check that the archive's own list of exports can have this export.

    Raises:
        OptionError: It cannot.
    """
    if resolved.to is not None:
        raise OptionError("--register is for export directories", "leave out --to or --register")
    if resolved.options.author is None:
        raise OptionError("bskyarchive lists the exports of one author only", "add --author, or leave out --register")
    if resolved.format not in _REGISTERED_FORMATS:
        raise OptionError(
            f"bskyarchive cannot list exports in the format {resolved.format}",
            f"choose {' or '.join(_REGISTERED_FORMATS)}, or leave out --register",
        )
    if resolved.shaping():
        raise OptionError(
            f"bskyarchive cannot list exports with {', '.join(resolved.shaping())}", "leave that out, or --register"
        )


def _check_match(query: str) -> None:
    """Check that a text may be a query; FTS5 reads one that begins with `*` as a command.

    Raises:
        OptionError: It cannot be a query.
    """
    try:
        query.encode()
    except UnicodeEncodeError:
        raise OptionError("the query of --match is not valid UTF-8", "write it in UTF-8") from None
    if not query.strip() or "\0" in query or query.startswith("*"):
        raise OptionError(
            f"{query!r} is not a full-text query",
            """write words, "a phrase", word*, AND, OR and NOT""",
        )


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
    return os.fsencode(str(value)).decode(errors="replace")


def parse_author(text: str) -> str:
    """Parse the name of an author.

    Returns:
        A DID, unchanged; or a handle in lower case, without a leading `@`.

    Raises:
        OptionError: The text is neither.
    """
    handle = text.removeprefix("@")
    if len(text) <= _MAX_DID_LENGTH and _DID.fullmatch(text):
        return text
    if len(handle) <= _MAX_HANDLE_LENGTH and _HANDLE.fullmatch(handle):
        return handle.lower()
    raise OptionError(
        f"{text[:_MAX_HANDLE_LENGTH]!r} is neither a DID nor a handle",
        "write did:plc:… or alice.bsky.social; `skyexport inspect ARCHIVE --authors` lists all authors",
    )


def is_did(author: str) -> bool:
    """Whether a result of `parse_author` is a DID."""
    return author.startswith("did:")


def parse_path(text: StrPath, what: str) -> Path:
    """A path as somebody wrote it.

    Raises:
        OptionError: Nothing was written, which Python takes for the current directory; or this is no path.
    """
    check_path(text, f"the {what}")
    if not os.fspath(text):
        raise OptionError(f"the {what} has no name", "write a path")
    return Path(text)


def parse_file(text: str | os.PathLike[str]) -> Path:
    """Parse the path of a file to write.

    Raises:
        OptionError: The text is empty, or ends like a directory.
    """
    path = parse_path(text, "output file")
    if os.fspath(text).endswith(("/", os.sep)):
        raise OptionError(f"{text} can only be a directory", "name a file with --to, or use -o for a directory")
    return path


def parse_columns(text: str | Sequence[str]) -> tuple[str, ...]:
    """Names of columns, in a list or with commas between them.

    Raises:
        OptionError: A name is empty.
    """
    if not isinstance(text, str):
        return tuple(text)
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise OptionError(f"a column in {text!r} has no name", "write columns like uri,created_at,text")
    return names


def parse_delimiter(text: str) -> str:
    """Parse the delimiter of a CSV file: a character, or a word for it like `tab`.

    Raises:
        OptionError: The text does not mean one of `DELIMITERS`.
    """
    delimiter = _DELIMITER_WORDS.get(text.strip().lower() or text, text)
    if delimiter not in DELIMITERS:
        raise OptionError(f"{text!r} cannot be a delimiter", _DELIMITER_HINT)
    return delimiter


def parse_number(text: str, name: str, hint: str = "write it in digits, like 1000") -> int:
    """Parse a whole number in ASCII digits; Python's int() would also accept other digits and underscores.

    Args:
        text: The number.
        name: What it counts, for an error.
        hint: For an error.

    Raises:
        OptionError: The text is not such a number, or has more than 18 digits.
    """
    if not _NUMBER.fullmatch(text):
        raise OptionError(f"{text!r} is not a number of {name}", hint)
    return int(text)


def parse_size(text: Size) -> int:
    """A size → bytes: `500MB` is 500 × 10^6, `500MiB` is 500 × 2^20, an int or a large bare number counts bytes.

    Raises:
        OptionError: The text is not a size.
    """
    if isinstance(text, int):
        return text
    match = _SIZE.fullmatch(text.strip())
    unit = _UNITS.get(match[2].lower()) if match else None
    if match is None or unit is None:
        raise OptionError(f"{text!r} is not a size", "write it like 500MB, 1.5GB or 512MiB")
    if not match[2] and 0 < Decimal(match[1]) < _LEAST_WITHOUT_UNIT:
        raise OptionError(f"the size {text!r} has no unit", f"write {match[1]}MB, or {match[1]}B for bytes")
    return int(Decimal(match[1]) * unit)


def parse_bound(bound: Bound, *, end_of_day: bool, name: str = "bound") -> int | None:
    """Parse a date bound into nanoseconds since 1970.

    Args:
        bound: A date (the whole UTC day), an aware datetime, the text of either (RFC 3339), or None for no bound.
        end_of_day: For a date, return its last nanosecond instead of its first.
        name: The name of the option, for an error.

    Returns:
        None for no bound.

    Raises:
        OptionError: This is no date or instant, an instant without a time zone, or has another type.
    """
    check_type(name, bound, Bound)
    if bound is None:
        return None
    text = bound if isinstance(bound, str) else bound.isoformat()
    if isinstance(bound, datetime) and bound.utcoffset() is None:
        raise OptionError(f"{name} {text} has no time zone", "add one: datetime(..., tzinfo=UTC)")
    stamp = timestamps.parse(text.strip().upper()) if _DAY.fullmatch(text) or _RFC3339.fullmatch(text) else None
    if stamp is None:
        likely = _likely_bound(text.strip(), end_of_day=end_of_day)
        raise OptionError(
            f"{name} {text!r} is not a date",
            f"write {likely}"
            if likely
            else "write 2024-12-31 for the whole day in UTC, or an instant like 2024-12-31T18:30:00Z or …+09:00",
        )
    instant = stamp.instant_nanoseconds()
    if end_of_day and len(text) == len("2024-12-31"):
        instant += 86_400 * timestamps.NANOSECONDS - 1
    return instant


_LIKELY_BOUNDS = (
    (re.compile(r"(\d{4})[-/.](\d\d?)[-/.](\d\d?)", re.ASCII), (1, 2, 3)),
    (re.compile(r"(\d{4})(\d\d)(\d\d)", re.ASCII), (1, 2, 3)),
    (re.compile(r"(\d\d?)\.\s?(\d\d?)\.\s?(\d{4})", re.ASCII), (3, 2, 1)),
)
"""Dates in other spellings, with the groups for year, month and day. 1/2/2024 is left out, since it is ambiguous."""


def _likely_bound(text: str, *, end_of_day: bool) -> str | None:
    """The correct spelling of the bound that was probably meant; None if that is not clear."""
    today = datetime.now(UTC).date()
    words = {"today": today, "now": today, "yesterday": today - timedelta(days=1)}
    if text.lower() in words:
        return words[text.lower()].isoformat()
    if re.fullmatch(r"\d{4}", text, re.ASCII):
        return f"{text}-12-31" if end_of_day else f"{text}-01-01"
    if re.fullmatch(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?", text, re.ASCII):
        likely = text.replace(" ", "T") + (":00Z" if text.count(":") == 1 else "Z")
        return f"{likely} for UTC, or with another zone like +09:00" if timestamps.parse(likely) else None
    for pattern, groups in _LIKELY_BOUNDS:
        if match := pattern.fullmatch(text):
            with contextlib.suppress(ValueError):
                return date(*(int(match[group]) for group in groups)).isoformat()
    return None


def available_cpus() -> int:
    """The number of CPUs that this process may use, by affinity and, on Linux, the quota of its control group."""
    try:
        cpus = len(os.sched_getaffinity(0))
    except AttributeError:
        cpus = os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            cpus = min(cpus, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        pass
    return cpus
