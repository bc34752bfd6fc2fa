"""What an export is asked to do, and how the words that people use for it are read: sizes and date bounds."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skyexport import timestamps
from skyexport.compression import COMPRESSIONS, Compression, parse_compression
from skyexport.errors import OptionError
from skyexport.format_settings import DELIMITERS, FormatSettings

if TYPE_CHECKING:
    from skyexport.formats import Format

__all__ = [
    "SNAPSHOTS",
    "ExportOptions",
    "Split",
    "available_cpus",
    "format_size",
    "parse_bound",
    "parse_columns",
    "parse_file",
    "parse_number",
    "parse_path",
    "parse_size",
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

SNAPSHOTS = ("pin", "copy")
"""`pin` holds the archive while posts are rendered; `copy` only until they are copied, and needs room for the copy."""

_REGISTERED_FORMATS = ("json", "csv")
"""What bskyarchive takes for the format of an export."""
_OF_ANY_TABLE = frozenset({"delimiter", "bom", "csv_safe"})
"""Settings that hold for the table of media as well, which an export in any format may have."""

_ONLY_OF_THE_WAY = frozenset(
    {
        *("archive", "output_dir", "to", "overwrite", "workers", "batch_size", "memory_limit_bytes", "sync"),
        *("snapshot", "link_media", "register"),
    }
)
"""Options that say from where, where to and how, and change nothing of what is exported."""

_DID = re.compile(r"did:[a-z]+:[A-Za-z0-9._:%-]*[A-Za-z0-9._-]")
_MAX_DID_LENGTH = 2048
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", re.ASCII)
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
}
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII)

Bound = str | date | datetime | None


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
    """One export. Values are checked when the object is made, before anything is opened.

    Raises:
        OptionError: A value that no export could have.
    """

    archive: Path
    """The SQLite archive; it is only ever read, but for *register*."""
    format: str = ""
    """A name from `formats.FORMATS`; empty for what the name of *to* says, else JSON."""
    compress: str = ""
    """`gzip` or `zstd`, also with `:level`, or `none`; empty for what the name of *to* says, else none. It becomes what
    holds, with its level."""
    columns: tuple[str, ...] = ()
    """Only these columns, in this order; none for all."""
    delimiter: str = ","
    """Between the fields of a CSV file."""
    bom: bool = True
    """Begin a CSV file with a byte order mark."""
    csv_safe: bool = False
    """Put an apostrophe before cells of a CSV file that a spreadsheet may take for a formula."""
    split_posts: int | None = None
    """Begin another data file after so many posts; not with *to*."""
    split_bytes: int | None = None
    """Begin another data file before one has more than so many bytes, uncompressed; not with *to*."""
    did: str | None = None
    """Only posts by this author; None for all."""
    since: Bound = None
    """Only posts created at or after this: a date (its first instant in UTC), or RFC 3339."""
    until: Bound = None
    """Only posts created at or before this: a date (its last instant in UTC), or RFC 3339."""
    output_dir: Path = DEFAULT_OUTPUT_DIR
    """Where the export directory `<author or all>/<time>` is made; not used with *to*."""
    to: Path | None = None
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
    """Fail when something can not be exported as it is stored, instead of counting it."""
    snapshot: str = "pin"
    """How one state of the archive is held: a name from `SNAPSHOTS`."""
    media: bool = False
    """Copy the media files of the exported posts into the export directory; not with *to*."""
    media_root: Path | None = None
    """What paths of media in the archive are relative to; None for the archive's own directory."""
    link_media: Path | None = None
    """An earlier export directory: media files that are there, and unchanged, are linked instead of copied."""
    match: str | None = None
    """Only posts that the archive's full-text index finds for this, in the syntax of FTS5; None for all."""
    since_export: Sequence[Path] = ()
    """Only posts that are new or changed since these exports: directories, oldest first."""
    register: bool = False
    """Add the finished export to the archive's own list of exports, the only thing ever written to an archive."""
    since_nanoseconds: int | None = field(init=False)
    """*since* as an instant: nanoseconds since 1970, inclusive."""
    until_nanoseconds: int | None = field(init=False)
    """*until* as an instant, inclusive."""
    compression: Compression | None = field(init=False)
    """What *compress* says, None for no compression."""
    settings: FormatSettings = field(init=False)
    """*columns*, *delimiter*, *bom* and *csv_safe*."""

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "archive", parse_path(self.archive, "archive"))
        put(self, "output_dir", parse_path(self.output_dir, "output directory"))
        put(self, "to", None if self.to is None else parse_file(self.to))
        if self.media_root is not None:
            put(self, "media_root", parse_path(self.media_root, "directory of media"))
            if not self.media:
                raise OptionError("a directory of media without media", "add --media, or leave out --media-root")
        if self.link_media is not None:
            put(self, "link_media", parse_path(self.link_media, "earlier export"))
            if not self.media:
                raise OptionError("an earlier export without media", "add --media, or leave out --link-media")
        if self.media and self.to is not None:
            raise OptionError("--to writes just the data file, without media", "leave out --media, or use -o")
        put(self, "since_export", tuple(parse_path(path, "earlier export") for path in self.since_export))
        if len(set(self.since_export)) < len(self.since_export):
            raise OptionError("an earlier export is named twice", "name each directory once, oldest first")
        if self.match is not None:
            _check_match(self.match)
        put(self, "since_nanoseconds", parse_bound(self.since, end_of_day=False, name="since"))
        put(self, "until_nanoseconds", parse_bound(self.until, end_of_day=True, name="until"))
        self._check_format()
        if self.register:
            self._check_register()
        if self.did is not None and not (len(self.did) <= _MAX_DID_LENGTH and _DID.fullmatch(self.did)):
            raise OptionError(
                f"{self.did!r} is not an author's DID",
                "it looks like did:plc:ewvi7nxzyoun6zhxrhs64oiz; `skyexport inspect` lists the authors",
            )
        since, until = self.since_nanoseconds, self.until_nanoseconds
        if since is not None and until is not None and until < since:
            raise OptionError(f"until {self.until} is before since {self.since}", "exchange the two")
        if not 1 <= self.batch_size <= MAX_BATCH_SIZE:
            raise OptionError(f"a batch of {self.batch_size} posts", f"choose 1 to {MAX_BATCH_SIZE:,}")
        if self.workers is not None and not 0 <= self.workers <= MAX_WORKERS:
            raise OptionError(f"{self.workers} workers", f"choose 0 (in this process) to {MAX_WORKERS}")
        if self.snapshot not in SNAPSHOTS:
            raise OptionError(f"unknown snapshot {self.snapshot!r}", f"choose from {', '.join(SNAPSHOTS)}")
        if self.memory_limit_bytes < 1:
            raise OptionError(f"a memory limit of {self.memory_limit_bytes} bytes", "leave it out for 500MB")

    def _check_format(self) -> None:
        """Settle format, compression and what else the bytes depend on."""
        from skyexport.formats import FORMATS

        put = object.__setattr__
        named_compression = named_format = None
        if self.to is not None:
            named_compression = COMPRESSIONS.get(self.to.suffix.lower())
            name = self.to.with_suffix("") if named_compression is not None else self.to
            named_format = next((name_ for name_, one in FORMATS.items() if one.suffix == name.suffix.lower()), None)
        if not self.format:
            put(self, "format", named_format or "json")
        if self.format not in FORMATS:
            raise OptionError(f"unknown format {self.format!r}", f"formats are {', '.join(FORMATS)}")
        if named_format not in (None, self.format):
            raise OptionError(
                f"{self.to} is named like {named_format}, and the format is {self.format}",
                f"leave out --format, or name it …{FORMATS[self.format].suffix}",
            )
        put(self, "compression", parse_compression(self.compress) if self.compress else named_compression)
        put(self, "compress", "" if self.compression is None else str(self.compression))
        if named_compression is not None and getattr(self.compression, "name", None) != named_compression.name:
            raise OptionError(
                f"{self.to} is named like {named_compression.name}, and that is not what --compress says",
                "leave out --compress, or give the file another name",
            )
        if named_format is not None and named_compression is None and self.compression is not None:
            raise OptionError(
                f"{self.to} is named like what is not compressed, and --compress says {self.compression.name}",
                f"name it …{FORMATS[self.format].suffix}{self.compression.suffix}",
            )
        put(self, "columns", tuple(self.columns))
        put(self, "settings", FormatSettings(columns=self.columns, delimiter=self.delimiter, bom=self.bom,
                                             csv_safe=self.csv_safe))  # fmt: skip
        self._check_settings(FORMATS[self.format])
        if self.split and self.to is not None:
            raise OptionError("--to writes one file, and is not split", "use -o instead")
        for bound, what in ((self.split_posts, "posts"), (self.split_bytes, "bytes")):
            if bound is not None and bound < 1:
                raise OptionError(f"data files of {bound} {what}", "choose 1 or more")

    def _check_settings(self, format: Format) -> None:
        for name in self.settings.changed():
            if name not in format.takes and not (self.media and name in _OF_ANY_TABLE):
                what = {"columns": "--columns is", "delimiter": "--delimiter is", "bom": "--no-bom is"}.get(name)
                raise OptionError(f"{what or '--csv-safe is'} not for {self.format}", "leave it out")
        if unknown := [name for name in self.columns if name not in format.columns]:
            raise OptionError(f"{self.format} has no column {unknown[0]!r}", f"choose from {', '.join(format.columns)}")
        if len(set(self.columns)) < len(self.columns):
            raise OptionError("a column twice", "name each column once")
        if self.delimiter not in DELIMITERS:
            raise OptionError(f"{self.delimiter!r} can not be a delimiter", "choose , ; | or tab")
        if self.compression is not None and not format.is_text:
            raise OptionError(
                f"{self.format} is compressed in itself, and not with {self.compression.name}",
                f"leave out --compress, and {self.compression.suffix} at the end of a name",
            )
        if self.split_bytes is not None and not format.is_text:
            raise OptionError(
                f"--split-bytes is not for {self.format}: sizes are known only when a file is written",
                "use --split-posts",
            )

    def shaping(self) -> dict[str, Any]:
        """What data files look like, besides their format: what is not as usual, option → value as in JSON."""
        found: dict[str, Any] = self.settings.changed()
        if self.compression is not None:
            found["compress"] = str(self.compression)
        bounds = {"split_posts": self.split_posts, "split_bytes": self.split_bytes}
        return found | {name: bound for name, bound in bounds.items() if bound is not None}

    @property
    def split(self) -> Split:
        """When a data file is full."""
        return Split(self.split_posts, self.split_bytes)

    def data_file_name(self, number: int = 1) -> str:
        """Name of a data file in an export directory.

        Args:
            number: Which one, from 1 on, when there may be several.
        """
        from skyexport.formats import FORMATS

        stem = f"posts-{number:05}" if self.split else "posts"
        return stem + FORMATS[self.format].suffix + (self.compression.suffix if self.compression is not None else "")

    def _check_register(self) -> None:
        """Refuse what the archive's own list of exports can not have.

        Raises:
            OptionError: It can not.
        """
        if self.to is not None:
            raise OptionError("--register is for export directories", "leave out --to, or --register")
        if self.did is None:
            raise OptionError("bskyarchive lists the exports of one author only", "add --did, or leave out --register")
        if self.format not in _REGISTERED_FORMATS:
            raise OptionError(
                f"bskyarchive lists no exports in the format {self.format}",
                f"choose {' or '.join(_REGISTERED_FORMATS)}, or leave out --register",
            )
        if self.shaping():
            raise OptionError(
                f"bskyarchive lists no exports with {', '.join(self.shaping())}", "leave that out, or --register"
            )

    def of_the_output(self) -> dict[str, object]:
        """The options that are not the default and may change what is exported, as a manifest notes them.

        Two exports of one state of an archive with the same of these are the same.
        """
        chosen = {
            option.name: getattr(self, option.name)
            for option in fields(self)
            if option.init and option.name not in _ONLY_OF_THE_WAY and getattr(self, option.name) != option.default
        }
        if self.format == "json":
            del chosen["format"]
        if self.media_root is not None:
            # Relative to where the command was run it would be another one elsewhere.
            chosen["media_root"] = self.media_root.absolute()
        return {name: _plain(value) for name, value in chosen.items()}


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
            f"{query!r} is no query of a full-text index",
            """write words, "a phrase", word*, AND, OR and NOT""",
        )


def _plain(value: object) -> object:
    """The value of an option as JSON has it."""
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, date):
        return value.isoformat()
    if value is None or isinstance(value, bool | int | float):
        return value
    return os.fsencode(str(value)).decode(errors="replace")


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


def parse_number(text: str, name: str, hint: str = "write it in digits, like 1000") -> int:
    """A whole number in ASCII digits: Python also takes other digits, and underscores between them.

    Raises:
        OptionError: This is none, or has more digits than any number here.
    """
    if not _NUMBER.fullmatch(text):
        raise OptionError(f"{text!r} is no number of {name}", hint)
    return int(text)


def parse_size(text: str) -> int:
    """A size in words → bytes: `500MB` is 500 × 10^6, `500MiB` is 500 × 2^20, a bare number counts bytes.

    Raises:
        OptionError: This is no size.
    """
    match = _SIZE.fullmatch(text.strip())
    unit = _UNITS.get(match[2].lower()) if match else None
    if match is None or unit is None:
        raise OptionError(f"{text!r} is not a size", "write it like 500MB, 1.5GB or 512MiB")
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
        raise OptionError(
            f"{name} {text!r} is not a date",
            "write 2024-12-31 for the whole day in UTC, or an instant like 2024-12-31T18:30:00Z or …+09:00",
        )
    instant = stamp.instant_nanoseconds()
    if end_of_day and len(text) == len("2024-12-31"):
        instant += 86_400 * timestamps.NANOSECONDS - 1
    return instant


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
