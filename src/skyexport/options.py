"""What an export is asked to do, and how the words that people use for it are read.

`ExportOptions` keeps what was asked. `resolve` makes the values that follow from it: paths, instants, the format, the
compression. Which author a handle means only the archive knows (`authors`).
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
from typing import TYPE_CHECKING, Any

from skyexport import timestamps
from skyexport.compression import Compression, parse_compression
from skyexport.errors import OptionError
from skyexport.format_names import choice_hint, form_of_name, unknown_format
from skyexport.format_settings import DELIMITERS, FormatSettings
from skyexport.location import absolute

if TYPE_CHECKING:
    pass

__all__ = [
    "SNAPSHOTS",
    "ExportOptions",
    "Resolved",
    "Split",
    "available_cpus",
    "format_size",
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
"""Posts a batch: large enough that messages between processes cost nothing, small enough for a chunk of one MB."""

DEFAULT_MEMORY_LIMIT_BYTES = 500_000_000
"""What the established exporter promises for its own memory."""

DEFAULT_OUTPUT_DIR = Path("exports")
"""Where export directories go: below the current one."""

MAX_BATCH_SIZE = 1_000_000
"""Beyond this a list of row ids alone would be as large as the chunks are."""

MAX_WORKERS = 256
"""More processes than this are a typing error."""

MAX_LIMIT = 10**15
"""Posts: more than there will ever be."""

SNAPSHOTS = ("pin", "copy")
"""`pin` holds the archive while posts are rendered; `copy` only until they are copied, and needs room for the copy."""

_USUAL_FORMAT = "json"

_REGISTERED_FORMATS = ("json", "csv")
"""What bskyarchive takes for the format of an export."""
_OF_ANY_TABLE = frozenset({"delimiter", "bom", "csv_safe"})
"""Settings that hold for the table of media as well, which an export in any format may have."""

_ONLY_OF_THE_WAY = frozenset(
    {
        *("archive", "output_dir", "to", "overwrite", "workers", "batch_size", "memory_limit_bytes", "sync"),
        *("snapshot", "link_media", "register", "since_export", "since_last", "allow_unrelated", "keep"),
    }
)
"""Options that say from where, where to and how, and change nothing of what is exported."""

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
"""A smaller number without a unit is hardly meant as bytes: whoever writes 500 means 500MB."""
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII)

Bound = str | date | datetime | None
StrPath = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Split:
    """When a data file is full, so that another begins: a post is never cut. Each is None for no such bound."""

    posts: int | None = None
    """Posts in a file, at most."""
    bytes: int | None = None
    """Its size before compression at most, but for a file of one post that is larger. A post whose size is not known
    when it begins, for it is rendered in pieces, is the first one of its file."""

    def __bool__(self) -> bool:
        return self.posts is not None or self.bytes is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """One export, as it was asked for. Values are checked when the object is made, before anything is opened.

    Raises:
        OptionError: A value that no export could have.
    """

    archive: StrPath
    """The SQLite archive; it is only ever read, but for *register*."""
    format: str = ""
    """A name from `formats.FORMATS`; empty for what the name of *to* says, else JSON."""
    compress: str = ""
    """`gzip` or `zstd`, also with `:level`, or `none`; empty for what the name of *to* says, else none."""
    columns: Sequence[str] = ()
    """Only these columns, in this order; none for all."""
    delimiter: str = ""
    """Between the fields of a CSV file: `,`, `;`, `|` or a tab; empty for a tab if *to* ends in .tsv, else a comma."""
    bom: bool = True
    """Begin a CSV file with a byte order mark."""
    header: bool = True
    """Begin a CSV file with a record of column names."""
    csv_safe: bool = False
    """Put an apostrophe before cells of a CSV file that a spreadsheet may take for a formula."""
    split_posts: int | None = None
    """Begin another data file after so many posts; not with *to*."""
    split_bytes: int | None = None
    """Begin another data file before one has more than so many bytes, uncompressed; not with *to*."""
    author: str | None = None
    """Only posts by this author, a DID or a handle; None for all authors."""
    since: Bound = None
    """Only posts created at or after this: a date (its first instant in UTC), or RFC 3339."""
    until: Bound = None
    """Only posts created at or before this: a date (its last instant in UTC), or RFC 3339."""
    limit: int | None = None
    """Only so many posts, the newest of those that the other options select; None for all. Not with *since_export*."""
    output_dir: StrPath = DEFAULT_OUTPUT_DIR
    """Where the export directory `<author or all>/<time>` is made; not used with *to*."""
    to: StrPath | None = None
    """Write just the data file, exactly there; `-` is standard output."""
    overwrite: bool = False
    """Let *to* replace an existing file."""
    workers: int | None = None
    """Worker processes; 0 renders in this process; None chooses by the CPUs and the size of the archive."""
    batch_size: int = DEFAULT_BATCH_SIZE
    """Posts a batch, at most."""
    memory_limit_bytes: int = DEFAULT_MEMORY_LIMIT_BYTES
    """Bound on the memory of this process and its workers together."""
    sync: bool = True
    """Wait until everything is on the disk before it gets its final name."""
    strict: bool = False
    """Fail when something cannot be exported as it is stored, instead of counting it."""
    snapshot: str = "pin"
    """How one state of the archive is held: a name from `SNAPSHOTS`."""
    media: bool = False
    """Copy the media files of the exported posts into the export directory; not with *to*."""
    media_root: StrPath | None = None
    """What paths of media in the archive are relative to; None for the archive's own directory."""
    link_media: StrPath | None = None
    """An earlier export directory: media files that are there, and unchanged, are linked instead of copied."""
    match: str | None = None
    """Only posts that the archive's full-text index finds for this, in the syntax of FTS5; None for all."""
    since_export: Sequence[StrPath] = ()
    """Only posts that are new or changed since these exports: directories, oldest first."""
    since_last: bool = False
    """Only posts that are new or changed since the newest full export of this archive with these options, and its
    increments, in the place of the export; a full export where there is none. Not with *since_export* or *to*."""
    allow_unrelated: bool = False
    """Go on though an earlier export has posts, and not one of them is in the archive."""
    keep: int | None = None
    """Once the export is complete and verified, remove older chains of this archive with these options from its place,
    so that this many stay: a chain is a full export and its increments. None keeps all. Not with *to*."""
    register: bool = False
    """Add the finished export to the archive's own list of exports, the only thing ever written to an archive."""

    def __post_init__(self) -> None:
        resolve(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """What follows from the options of one export, without a look into the archive."""

    options: ExportOptions
    """What was asked."""
    archive: Path
    output_dir: Path
    to: Path | None
    media_root: Path | None
    link_media: Path | None
    since_export: tuple[Path, ...]
    since: int | None
    """The first instant to export, in nanoseconds since 1970; None for no bound."""
    until: int | None
    """The last instant to export, likewise."""
    format: str
    """A name from `formats.FORMATS`."""
    compression: Compression | None
    """None for no compression."""
    settings: FormatSettings
    """*columns*, *delimiter*, *bom*, *header* and *csv_safe*."""

    @property
    def split(self) -> Split:
        """When a data file is full."""
        return Split(self.options.split_posts, self.options.split_bytes)

    def shaping(self) -> dict[str, Any]:
        """What data files look like, besides their format: what is not as usual, option → value as in JSON."""
        found: dict[str, Any] = self.settings.changed()
        if self.compression is not None:
            found["compress"] = str(self.compression)
        bounds = {"split_posts": self.split.posts, "split_bytes": self.split.bytes}
        return found | {name: bound for name, bound in bounds.items() if bound is not None}

    def data_file_name(self, number: int = 1) -> str:
        """Name of a data file in an export directory.

        Args:
            number: Which one, from 1 on, when there may be several.
        """
        from skyexport.formats import FORMATS

        stem = f"posts-{number:05}" if self.split else "posts"
        return stem + FORMATS[self.format].suffix + (self.compression.suffix if self.compression is not None else "")

    def of_the_output(self, did: str | None) -> dict[str, object]:
        """The options that are not the default and may change what is exported, as a manifest notes them.

        Two exports of one state of an archive with the same of these are the same.

        Args:
            did: The DID of the author; None for all authors.
        """
        asked = [option for option in fields(self.options) if option.name not in _ONLY_OF_THE_WAY]
        values = {option.name: getattr(self.options, option.name) for option in asked} | {
            "author": did,
            "format": self.format,
            "compress": "" if self.compression is None else str(self.compression),
            "columns": self.settings.columns,
            "delimiter": self.settings.delimiter,
            # Relative to where the command was run it would be another one elsewhere.
            "media_root": None if self.media_root is None else _from_the_root(self.media_root),
        }
        usual = {option.name: option.default for option in asked} | {"format": _USUAL_FORMAT, "delimiter": ","}
        return {name: _plain(value) for name, value in values.items() if value != usual[name]}


def resolve(options: ExportOptions) -> Resolved:
    """Check the options of an export, and make the values that follow from them.

    Raises:
        OptionError: A value that no export could have.
    """
    archive = parse_path(options.archive, "archive")
    output_dir = parse_path(options.output_dir, "output directory")
    to = None if options.to is None else parse_file(options.to)
    media_root = link_media = None
    if options.media_root is not None:
        media_root = parse_path(options.media_root, "directory of media")
        if not options.media:
            raise OptionError("a directory of media without media", "add --media, or leave out --media-root")
    if options.link_media is not None:
        link_media = parse_path(options.link_media, "earlier export")
        if not options.media:
            raise OptionError("an earlier export without media", "add --media, or leave out --link-media")
    if options.media and to is not None:
        raise OptionError("--to writes just the data file, without media", "leave out --media, or use -o")
    since_export = tuple(parse_path(path, "earlier export") for path in options.since_export)
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
        columns=tuple(options.columns), delimiter=delimiter, bom=options.bom, header=options.header,
        csv_safe=options.csv_safe,
    )  # fmt: skip
    _check_format(options, format, compression, settings)
    resolved = Resolved(
        options=options, archive=archive, output_dir=output_dir, to=to, media_root=media_root, link_media=link_media,
        since_export=since_export, since=since, until=until, format=format, compression=compression, settings=settings,
    )  # fmt: skip
    if options.register:
        _check_register(resolved)
    if options.author is not None:
        parse_author(options.author)
    if since is not None and until is not None and until < since:
        raise OptionError(f"until {options.until} is before since {options.since}", "exchange the two")
    if not 1 <= options.batch_size <= MAX_BATCH_SIZE:
        raise OptionError(f"a batch of {options.batch_size} posts", f"choose 1 to {MAX_BATCH_SIZE:,}")
    if options.workers is not None and not 0 <= options.workers <= MAX_WORKERS:
        raise OptionError(f"{options.workers} workers", f"choose 0 (in this process) to {MAX_WORKERS}")
    if options.snapshot not in SNAPSHOTS:
        raise OptionError(f"unknown snapshot {options.snapshot!r}", choice_hint(options.snapshot, SNAPSHOTS))
    if options.memory_limit_bytes < 1:
        raise OptionError(f"a memory limit of {options.memory_limit_bytes} bytes", "leave it out for 500MB")
    return resolved


def _check_limit(options: ExportOptions, limit: int) -> None:
    if not 1 <= limit <= MAX_LIMIT:
        raise OptionError(f"a limit of {limit} posts", f"choose 1 to {MAX_LIMIT:,}, or leave it out for all posts")
    if options.since_export or options.since_last:
        earlier = "--since-export" if options.since_export else "--since-last"
        raise OptionError(
            f"--limit and {earlier} exclude each other: posts beyond the limit would never be exported",
            "leave one of them out",
        )


def _check_chains(options: ExportOptions) -> None:
    """Refuse what no chain of exports can have.

    Raises:
        OptionError: The options contradict each other.
    """
    if options.since_last and options.since_export:
        raise OptionError("--since-last finds the earlier exports that --since-export names", "leave one of them out")
    if options.since_last and options.to is not None:
        raise OptionError(
            "--since-last is for export directories, and --to writes one file",
            "use -o, or name the earlier exports with --since-export",
        )
    if options.allow_unrelated and not (options.since_last or options.since_export):
        raise OptionError("--allow-unrelated is for --since-export and --since-last", "leave it out")
    if options.keep is None:
        return
    if options.keep < 1:
        raise OptionError(f"--keep {options.keep} would keep no export", "choose 1 or more")
    if options.to is not None:
        raise OptionError("--keep is for export directories, and --to writes one file", "use -o, or leave out --keep")
    if options.register:
        raise OptionError("--keep would remove exports that the archive still lists", "leave out --register, or --keep")


def _resolve_format(options: ExportOptions, to: Path | None) -> tuple[str, Compression | None, str]:
    """The format, a name from FORMATS, the compression and the delimiter: as options, else the name of *to*, say."""
    from skyexport.formats import FORMATS

    if options.format and options.format not in FORMATS:
        raise unknown_format(options.format, FORMATS)
    named = form_of_name(to, format_given=bool(options.format))
    format = options.format or named.format or _USUAL_FORMAT
    if options.delimiter and named.delimiter not in ("", options.delimiter):
        raise OptionError(
            f"{to} is named like a table with tabs, and --delimiter says {options.delimiter!r}", "leave out --delimiter"
        )
    if named.format not in ("", format):
        raise OptionError(
            f"{to} is named like {named.format}, and the format is {format}",
            f"leave out --format, or name it …{FORMATS[format].suffix}",
        )
    compression = parse_compression(options.compress) if options.compress else named.compression
    if named.compression is not None and getattr(compression, "name", None) != named.compression.name:
        raise OptionError(
            f"{to} is named like {named.compression.name}, and that is not what --compress says",
            "leave out --compress, or give the file another name",
        )
    if named.format and named.compression is None and compression is not None:
        raise OptionError(
            f"{to} is named like a file without compression, and --compress says {compression.name}",
            f"name it …{FORMATS[format].suffix}{compression.suffix}",
        )
    return format, compression, options.delimiter or named.delimiter or ","


def _check_format(options: ExportOptions, name: str, compression: Compression | None, settings: FormatSettings) -> None:
    """Refuse what data files of this format cannot be.

    Raises:
        OptionError: They cannot be so.
    """
    from skyexport.formats import FORMATS

    format = FORMATS[name]
    for changed in settings.changed():
        if changed not in format.takes and not (options.media and changed in _OF_ANY_TABLE):
            option = {"bom": "no-bom", "header": "no-header"}.get(changed, changed.replace("_", "-"))
            raise OptionError(f"--{option} is not for {name}", "leave it out")
    if unknown := [column for column in settings.columns if column not in format.columns]:
        # Headings of CSV are spelt in capitals.
        raise OptionError(
            f"{name} has no column {unknown[0]!r}", choice_hint(_CAPITALS.sub("_", unknown[0]), format.columns)
        )
    if len(set(settings.columns)) < len(settings.columns):
        raise OptionError("a column twice", "name each column once")
    needed = ("uri", "cid", "indexed_at", *["originals"] * ("originals" in format.columns))
    if options.since_last and settings.columns and (missing := [one for one in needed if one not in settings.columns]):
        raise OptionError(f"--since-last compares the column {missing[0]}", "add it to --columns")
    if settings.delimiter not in DELIMITERS:
        raise OptionError(f"{settings.delimiter!r} cannot be a delimiter", _DELIMITER_HINT)
    if compression is not None and not format.is_text:
        raise OptionError(
            f"{name} is compressed in itself, and not with {compression.name}",
            f"leave out --compress, and {compression.suffix} at the end of a name",
        )
    if options.split_bytes is not None and not format.is_text:
        raise OptionError(
            f"--split-bytes is not for {name}: sizes are known only when a file is written",
            "use --split-posts",
        )
    if Split(options.split_posts, options.split_bytes) and options.to is not None:
        raise OptionError("--to writes one file, and is not split", "use -o instead")
    for bound, what in ((options.split_posts, "posts"), (options.split_bytes, "bytes")):
        if bound is not None and bound < 1:
            raise OptionError(f"data files of {bound} {what}", "choose 1 or more")


def _check_register(resolved: Resolved) -> None:
    """Refuse what the archive's own list of exports cannot have.

    Raises:
        OptionError: It cannot.
    """
    if resolved.to is not None:
        raise OptionError("--register is for export directories", "leave out --to, or --register")
    if resolved.options.author is None:
        raise OptionError("bskyarchive lists the exports of one author only", "add --author, or leave out --register")
    if resolved.format not in _REGISTERED_FORMATS:
        raise OptionError(
            f"bskyarchive lists no exports in the format {resolved.format}",
            f"choose {' or '.join(_REGISTERED_FORMATS)}, or leave out --register",
        )
    if resolved.shaping():
        raise OptionError(
            f"bskyarchive lists no exports with {', '.join(resolved.shaping())}", "leave that out, or --register"
        )


def _check_match(query: str) -> None:
    """Refuse what is no query, or one that FTS5 takes for an order to itself.

    Raises:
        OptionError: It is such.
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
    """An absolute path; as it is where the current directory was deleted, and opening it says so."""
    try:
        return absolute(path)
    except FileNotFoundError:
        return path


def _plain(value: object) -> object:
    """The value of an option as JSON has it."""
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, date):
        return value.isoformat()
    if value is None or isinstance(value, bool | int | float):
        return value
    return os.fsencode(str(value)).decode(errors="replace")


def parse_author(text: str) -> str:
    """An author as somebody wrote it.

    Returns:
        A DID as it is; a handle in lower case, without `@` before it.

    Raises:
        OptionError: It is neither.
    """
    handle = text.removeprefix("@")
    if len(text) <= _MAX_DID_LENGTH and _DID.fullmatch(text):
        return text
    if len(handle) <= _MAX_HANDLE_LENGTH and _HANDLE.fullmatch(handle):
        return handle.lower()
    raise OptionError(
        f"{text[:_MAX_HANDLE_LENGTH]!r} is neither a DID nor a handle",
        "write did:plc:ewvi7nxzyoun6zhxrhs64oiz or alice.bsky.social; `skyexport inspect ARCHIVE --authors` lists them",
    )


def is_did(author: str) -> bool:
    """Whether what `parse_author` gave is a DID."""
    return author.startswith("did:")


def parse_path(text: str | os.PathLike[str], what: str) -> Path:
    """A path as somebody wrote it.

    Raises:
        OptionError: Nothing was written, which Python takes for the current directory.
    """
    if not os.fspath(text):
        raise OptionError(f"the {what} has no name", "write a path")
    return Path(text)


def parse_file(text: str | os.PathLike[str]) -> Path:
    """The path of a file to write.

    Raises:
        OptionError: Nothing was written, or what can only be a directory.
    """
    path = parse_path(text, "output file")
    if os.fspath(text).endswith(("/", os.sep)):
        raise OptionError(f"{text} can only be a directory", "name the file with --to, or the place of exports with -o")
    return path


def parse_columns(text: str) -> tuple[str, ...]:
    """Names of columns with commas between them.

    Raises:
        OptionError: There is a name missing.
    """
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise OptionError(f"{text!r} lacks the name of a column", "write them like uri,created_at,text")
    return names


def parse_delimiter(text: str) -> str:
    """The delimiter of a CSV file, as a character or as a word → the character.

    Raises:
        OptionError: This is none of `DELIMITERS`.
    """
    delimiter = _DELIMITER_WORDS.get(text.strip().lower() or text, text)
    if delimiter not in DELIMITERS:
        raise OptionError(f"{text!r} cannot be a delimiter", _DELIMITER_HINT)
    return delimiter


def parse_number(text: str, name: str, hint: str = "write it in digits, like 1000") -> int:
    """A whole number in ASCII digits: Python also takes other digits, and underscores between them.

    Raises:
        OptionError: This is none, or has more digits than any number here.
    """
    if not _NUMBER.fullmatch(text):
        raise OptionError(f"{text!r} is no number of {name}", hint)
    return int(text)


def parse_size(text: str) -> int:
    """A size in words → bytes: `500MB` is 500 × 10^6, `500MiB` is 500 × 2^20, a large bare number counts bytes.

    Raises:
        OptionError: This is no size.
    """
    match = _SIZE.fullmatch(text.strip())
    unit = _UNITS.get(match[2].lower()) if match else None
    if match is None or unit is None:
        raise OptionError(f"{text!r} is not a size", "write it like 500MB, 1.5GB or 512MiB")
    if not match[2] and 0 < Decimal(match[1]) < _LEAST_WITHOUT_UNIT:
        raise OptionError(f"the size {text!r} has no unit", f"write {match[1]}MB, or {match[1]}B for bytes")
    return int(Decimal(match[1]) * unit)


def format_size(size_bytes: float) -> str:
    """Bytes for people, in powers of 1000, with three figures or so: `1.10 GB`."""
    for unit in ("B", "kB", "MB"):
        if size_bytes < 1000:
            return f"{size_bytes:.0f} {unit}" if unit == "B" or size_bytes >= 100 else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.2f} GB"


def parse_bound(bound: Bound, *, end_of_day: bool, name: str = "bound") -> int | None:
    """A date bound → nanoseconds since 1970.

    Args:
        bound: A date (the whole UTC day), an aware datetime, the text of either (RFC 3339), or None for no bound.
        end_of_day: For a date, its last nanosecond instead of its first.
        name: What to call it in an error.

    Raises:
        OptionError: This is no date or instant, or an instant without a time zone.
    """
    if bound is None:
        return None
    text = bound if isinstance(bound, str) else bound.isoformat()
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
"""Dates in other spellings, and which of their groups are year, month and day; 1/2/2024 may be either."""


def _likely_bound(text: str, *, end_of_day: bool) -> str | None:
    """The bound that was probably meant, as it must be written; None where that is not clear."""
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
    """The CPUs that this process may use: affinity and, on Linux, the control group's quota."""
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
