"""The claims of an export about itself: manifest.json and SHA256SUMS, read as the work of a stranger.

Source: docs/formats.md. Manifests of the established exporter have no checksums; the rest is read the same way.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from skyexport.errors import OptionError
from skyexport.formats.compression import Compression, parse_compression
from skyexport.formats.settings import DEFAULTS, DELIMITERS, FormatSettings
from skyexport.layout import MAX_CLAIMS_BYTES, MEDIA_DIRECTORY, MEDIA_TABLE, is_page_path
from skyexport.runtime.export_directory import is_plain_name
from skyexport.verification.readers import READERS
from skyexport.verification.readers.csv_table import HEADINGS
from skyexport.verification.readers.json_posts import KEYS
from skyexport.verification.readers.parquet_table import PARQUET_COLUMNS

__all__ = [
    "PAGES_FORMAT",
    "Checksum",
    "Manifest",
    "PageCounts",
    "Sums",
    "media_sum",
    "page_sum",
    "read_manifest",
    "read_sums",
]

PAGES_FORMAT = "html"
"""The format of exports with pages instead of data files."""

_SHA256 = re.compile("[0-9a-f]{64}")
_SUM_LINE = re.compile("([0-9a-f]{64})  (.+)")
_MEDIA_LINE = re.compile(rb"([0-9a-f]{64})  media/([A-Za-z0-9._-]{1,200})\n")
_PAGE_LINE = re.compile(rb"([0-9a-f]{64})  ([A-Za-z0-9_][A-Za-z0-9._/-]{0,900})\n")
_MEDIA = re.compile(r"media/ \(([0-9]{1,12}) files?\)")
"""The entry for media in `files`, as the established exporter writes it."""

_MOST_FILES = 10_010
"""Files in a manifest: ten thousand data files, and a few more."""

_MOST_PROBLEMS = 1000
"""Problems of SHA256SUMS that are named."""

_SPLIT = frozenset({"split_posts", "split_bytes"})
"""Options that allow several data files."""

_NUMBERED = re.compile(r"posts-[0-9]{5,}\.[a-z.]+")
"""The names of several data files."""

_COLUMNS = {"csv": frozenset(HEADINGS), "jsonl": frozenset(KEYS), "parquet": frozenset(PARQUET_COLUMNS)}
"""Format → its possible columns, for formats with a choice."""

_SHOWN_CHARACTERS = 60
"""Characters of a wrong value that are shown."""


@dataclass(frozen=True, slots=True)
class Checksum:
    """The name, size, and SHA-256 (hexadecimal) of a file."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class PageCounts:
    """The number of all files of pages, and their size together."""

    files: int
    bytes: int


@dataclass(slots=True)
class Manifest:
    """As much of a manifest as can be read; the rest is None or left out."""

    format: str | None = None
    """A name from `READERS`, or `PAGES_FORMAT`."""
    settings: FormatSettings = DEFAULTS
    compression: Compression | None = None
    posts: int | None = None
    files: list[str] = field(default_factory=list)
    """Plain names."""
    media_files: int = 0
    checksums: list[Checksum] | None = None
    """None if there are none at all, as in manifests of the established exporter."""
    problems: list[str] = field(default_factory=list)
    """Everything that is wrong with the manifest, in words."""

    data_files: list[str] = field(default_factory=list)
    """Names of the data files, in order; `files` must contain them. Empty if there are pages instead."""
    pages: PageCounts | None = None
    """None if there are data files instead."""


def read_manifest(content: bytes) -> Manifest:
    """Read a manifest from *content*, which may be anything."""
    manifest = Manifest()
    wrong = manifest.problems.append
    try:
        values = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        wrong(f"not JSON: {error}")
        return manifest
    if not isinstance(values, dict):
        wrong(f"{_shown(values)}, not an object")
        return manifest
    format, posts = values.get("export_format"), values.get("post_count")
    if isinstance(format, str) and (format in READERS or format == PAGES_FORMAT):
        manifest.format = format
    else:
        wrong(f"has {_shown(format)} for export_format, not {' or '.join((*READERS, PAGES_FORMAT))}")
    if _is_count(posts):
        manifest.posts = posts
    else:
        wrong(f"has {_shown(posts)} for post_count, not a number of posts")
    options = values.get("options", {})
    if isinstance(options, dict):
        _read_options(manifest, options)
    else:
        wrong(f"has {_shown(options)} for options, not an object")
    _read_files(manifest, values.get("files"))
    if manifest.format == PAGES_FORMAT:
        _read_page_counts(manifest, values.get("pages"))
    elif manifest.format is not None:
        _find_data_files(manifest, split=isinstance(options, dict) and bool(_SPLIT & options.keys()))
    table = values.get("media_table")
    if isinstance(table, dict) and table.get("name") == MEDIA_TABLE:
        manifest.files.append(MEDIA_TABLE)
    elif table is not None:
        wrong(f"has {_shown(table)} for media_table, not the name and the rows of {MEDIA_TABLE}")
    media = values.get("media_count", 0)
    if media != manifest.media_files or not _is_count(media):
        wrong(f"has {_shown(media)} for media_count, but {manifest.media_files:,} media files in files")
    if "checksums" in values or manifest.format == PAGES_FORMAT:
        _read_checksums(manifest, values.get("checksums"))
    return manifest


def _read_files(manifest: Manifest, names: Any) -> None:
    if not isinstance(names, list):
        manifest.problems.append(f"has {_shown(names)} for files, not a list of names")
        return
    if len(names) > _MOST_FILES:
        manifest.problems.append(f"names {len(names):,} files, more than any export has")
    for name in names[:_MOST_FILES]:
        media = _MEDIA.fullmatch(name) if isinstance(name, str) else None
        if media is not None:
            manifest.media_files = int(media[1])
        elif isinstance(name, str) and is_plain_name(name):
            manifest.files.append(name)
        else:
            manifest.problems.append(f"names {_shown(name)} in files, which is not a file of an export")


def _read_options(manifest: Manifest, options: dict[Any, Any]) -> None:
    """Read the settings of the data files. Unknown ones may be of a later version, and are ignored."""
    wrong = manifest.problems.append
    columns, delimiter, bom = options.get("columns", []), options.get("delimiter", ","), options.get("bom", True)
    header, csv_safe = options.get("header", True), options.get("csv_safe", False)
    known = _COLUMNS.get(manifest.format or "", frozenset())
    if (
        not isinstance(columns, list)
        or not all(isinstance(name, str) and name in known for name in columns)
        or len(set(columns)) < len(columns)
    ):
        wrong(f"has {_shown(columns)} for columns, not a list of columns, each named once")
    elif delimiter not in DELIMITERS or not all(isinstance(flag, bool) for flag in (bom, header, csv_safe)):
        flags = f"{_shown(bom)} for bom, {_shown(header)} for header, {_shown(csv_safe)} for csv_safe"
        wrong(f"has {_shown(delimiter)} for delimiter, {flags}")
    else:
        manifest.settings = FormatSettings(
            columns=tuple(columns), delimiter=delimiter, bom=bom, header=header, csv_safe=csv_safe
        )
    compress = options.get("compress")
    if compress is not None:
        try:
            manifest.compression = parse_compression(compress if isinstance(compress, str) else "")
        except OptionError:
            wrong(f"has {_shown(compress)} for compress, not a known compression")


def _find_data_files(manifest: Manifest, *, split: bool) -> None:
    """Find the names of the data files, and note those that are not in `files`."""
    suffix = READERS[manifest.format or ""].suffix + (manifest.compression.suffix if manifest.compression else "")
    if not split:
        manifest.data_files = [f"posts{suffix}"]
    else:
        count = sum(bool(_NUMBERED.fullmatch(name)) for name in manifest.files)
        manifest.data_files = [f"posts-{number:05}{suffix}" for number in range(1, max(1, count) + 1)]
    there = set(manifest.files)
    for name in manifest.data_files:
        if name not in there:
            manifest.problems.append(f"does not name {name} in files")


def _read_page_counts(manifest: Manifest, counts: Any) -> None:
    match counts:
        case {"files": files, "bytes": size} if _is_count(files) and _is_count(size):
            manifest.pages = PageCounts(files, size)
        case _:
            manifest.problems.append(f"has {_shown(counts)} for pages, not the number and bytes of their files")


def _read_checksums(manifest: Manifest, values: Any) -> None:
    manifest.checksums = []
    if not isinstance(values, list):
        manifest.problems.append(f"has {_shown(values)} for checksums, not a list")
        return
    for value in values[:_MOST_FILES]:
        checksum = _checksum(value)
        if checksum is None:
            manifest.problems.append(f"has {_shown(value)} in checksums, not name, bytes and sha256 of a file")
        else:
            manifest.checksums.append(checksum)
    summed = {checksum.name for checksum in manifest.checksums}
    manifest.problems += [f"has no checksum of {name}" for name in manifest.files if name not in summed]


def _checksum(value: Any) -> Checksum | None:
    match value:
        case {"name": str(name), "bytes": int(size), "sha256": str(sha256)}:
            if is_plain_name(name) and _is_count(size) and _SHA256.fullmatch(sha256):
                return Checksum(name, size, sha256)
    return None


@dataclass(slots=True)
class Sums:
    """As much of SHA256SUMS as can be read."""

    files: dict[str, str] = field(default_factory=dict)
    """Name → SHA-256, of the files beside it."""
    media_files: int = 0
    """Media files that have a line; their names ascend, so no name occurs twice."""
    page_files: int = 0
    """Files of pages that have a line; their paths ascend, too."""
    problems: list[str] = field(default_factory=list)
    """Problems of the file, in words."""


def read_sums(lines: Iterable[bytes], *, pages: bool = False) -> Sums:
    """Read the lines of SHA256SUMS; each ends with a line feed, but the last one may not.

    Args:
        lines: The lines.
        pages: Whether they are those of an HTML export.
    """
    sums = Sums()
    problems = _Problems(sums.problems)
    read_bytes = 0
    last_media = last_page = ""
    for number, line in enumerate(lines, 1):
        media = media_sum(line)
        if media is not None:
            if media[0] <= last_media:
                problems.add(f"has {MEDIA_DIRECTORY}/{media[0]} out of order in line {number:,}")
            last_media = media[0]
            sums.media_files += 1
            continue
        page = page_sum(line) if pages else None
        if page is not None:
            if page[0] <= last_page:
                problems.add(f"has {page[0]} out of order in line {number:,}")
            last_page = page[0]
            sums.page_files += 1
            continue
        read_bytes += len(line)
        if read_bytes > MAX_CLAIMS_BYTES:
            problems.add(f"has more than {MAX_CLAIMS_BYTES:,} bytes without the lines of media files and pages")
            break
        text = line.decode("latin-1")
        match = _SUM_LINE.fullmatch(text.removesuffix("\n"))
        if not text.endswith("\n"):
            problems.add("does not end with a line feed")
        if match is None or not is_plain_name(match[2]):
            shown = _shown(text.removesuffix("\n"))
            problems.add(f"has {shown} in line {number:,}, not the SHA-256 and the name of a file")
        elif match[2] in sums.files:
            problems.add(f"has {match[2]} again in line {number:,}")
        else:
            sums.files[match[2]] = match[1]
    problems.finish()
    return sums


class _Problems:
    """Problems of SHA256SUMS: the first thousand in words, the others by number."""

    def __init__(self, named: list[str]) -> None:
        self._named = named
        self._others = 0

    def add(self, problem: str) -> None:
        if len(self._named) < _MOST_PROBLEMS:
            self._named.append(problem)
        else:
            self._others += 1

    def finish(self) -> None:
        if self._others:
            self._named.append(f"has {self._others:,} more problems")


def media_sum(line: bytes) -> tuple[str, str] | None:
    """Name and SHA-256 of the media file in a line of SHA256SUMS; None for any other line."""
    match = _MEDIA_LINE.fullmatch(line)
    if match is None or not is_plain_name(match[2].decode()):
        return None
    return match[2].decode(), match[1].decode()


def page_sum(line: bytes) -> tuple[str, str] | None:
    """Path and SHA-256 of the file of pages in a line of SHA256SUMS; None for any other line."""
    match = _PAGE_LINE.fullmatch(line)
    if match is None or not is_page_path(match[2].decode()):
        return None
    return match[2].decode(), match[1].decode()


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _shown(value: Any) -> str:
    """A wrong value in a few words, for people."""
    if value is None:
        return "nothing"
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
