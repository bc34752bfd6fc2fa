"""Names → formats: the one place that decides what `--to posts.csv.gz` and `--format ndjson` mean.

The suffix of a format that skyexport does not write is an error. A name without a known suffix means JSON, with a note.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from skyexport.errors import OptionError
from skyexport.formats.compression import COMPRESSIONS, Compression

__all__ = ["NamedForm", "choice_hint", "form_of_name", "looks_like_data_file", "nearest", "unknown_format"]


@dataclass(frozen=True, slots=True)
class NamedForm:
    """The form of a data file according to its name; "" or None for parts that the name does not show."""

    format: str = ""
    """A name from `formats.FORMATS`."""
    compression: Compression | None = None
    delimiter: str = ""
    """Of a CSV file."""
    note: str = ""
    """One line for people, if the name shows no format and JSON is a guess."""


_FORMATS = {
    "json": ("json", ""),
    "jsonl": ("jsonl", ""),
    "ndjson": ("jsonl", ""),
    "csv": ("csv", ""),
    "tsv": ("csv", "\t"),
    "parquet": ("parquet", ""),
    "pq": ("parquet", ""),
}
"""Suffix of a name → format and delimiter."""

_COMPRESSIONS = {"gz": ".gz", "gzip": ".gz", "zst": ".zst", "zstd": ".zst"}
"""Suffix of a name → suffix in `COMPRESSIONS`."""

_WRITTEN = "formats are .json, .jsonl, .csv, .tsv and .parquet; text may be .gz or .zst too"

_OTHERS = {
    "spreadsheets open .csv": "xls xlsx xlsm xlsb xlt ods fods numbers gsheet",
    "databases import .csv and .parquet": "db db3 sqlite sqlite3 duckdb ddb mdb accdb sql dbf",
    "readers of tables take .parquet": "avro orc arrow feather ipc h5 hdf5 nc npy npz pkl pickle rds sas7bdat sav dta",
    "readers of JSON take .json or .jsonl": "json5 hjson geojson jsonld jsonc bson cbor msgpack proto pb yaml yml toml",
    "use .json or .csv": "xml rss atom ics md markdown rst adoc tex rtf pdf doc docx odt ppt pptx ini",
    "use .gz or .zst, or write to a pipe: --to - | …": (
        "bz2 bzip2 xz lzma lz lz4 lzo br brotli z sz snappy zip zipx 7z rar tar tgz tbz tbz2 txz tzst cab iso zlib"
    ),
    "encrypt in a pipe: --to - | …": "gpg pgp asc age enc aes p7m",
}
"""Hint → suffixes of other formats."""

_PAGES = frozenset({"html", "htm", "xhtml"})
"""Suffixes of pages, which are never one file."""

_HINTS = {suffix: hint for hint, suffixes in _OTHERS.items() for suffix in suffixes.split()}

_UNFINISHED = frozenset({"part", "partial", "tmp", "temp", "new", "old", "bak", "orig", "download"})
"""Suffixes that scripts add until they rename the file: `posts.csv.part` is a CSV file."""

_TEXT = frozenset({"", "txt", "text", "out", "data", "dat", "log"})
"""Suffixes that show no format."""

_NEAR = 0.6
"""Least similarity of a misspelt word, 0 to 1: `cvs` for `csv`, `cpoy` for `copy`."""


def form_of_name(path: Path | None, *, format_given: bool = False) -> NamedForm:
    """The form that the name of an output file shows.

    Args:
        path: The file of `--to`; None for an export directory. The names `-` and /dev/… show nothing.
        format_given: Whether --format sets the format, so that the name need not show it.

    Raises:
        OptionError: The name shows a form that skyexport does not write, or its suffix seems misspelt.
    """
    if path is None or str(path) == "-" or path.parts[:2] == ("/", "dev"):
        return NamedForm()
    endings = path.name.strip().strip(".").lower().split(".")[1:]
    while endings and endings[-1] in _UNFINISHED:
        endings.pop()
    compression = None
    if endings and endings[-1] in _COMPRESSIONS:
        compression = COMPRESSIONS[_COMPRESSIONS[endings.pop()]]
    ending = endings[-1] if endings else ""
    if ending in _FORMATS:
        format, delimiter = _FORMATS[ending]
        return NamedForm(format, compression, delimiter)
    if ending in _COMPRESSIONS:
        raise OptionError(f"{path} is named like a file that is compressed twice", "leave out one of the two suffixes")
    if ending in _PAGES:
        raise OptionError(
            f"--to writes one file, and html is a folder of pages: {path}", "use -f html, and -o for its place"
        )
    if ending in _HINTS:
        raise OptionError(f"cannot write {path}: .{ending} is not a format of skyexport", _hint(ending))
    if format_given:
        return NamedForm(compression=compression)
    if ending not in _TEXT and (likely := nearest(ending, [*_FORMATS, *_COMPRESSIONS])):
        raise OptionError(
            f"{path} ends in .{ending}, which is not a known format", f"did you mean .{likely}? Else add --format"
        )
    note = f"note: the name {path.name} shows no format, so it is JSON; add --format, or a suffix like .jsonl or .csv"
    return NamedForm("", compression, note=note)


def looks_like_data_file(path: Path) -> bool:
    """Whether a file has the name of a data file, compressed or not."""
    try:
        return bool(form_of_name(path).format)
    except OptionError:
        return False


def unknown_format(name: str, formats: Iterable[str]) -> OptionError:
    """The error for an unknown --format; its hint names the format that was probably meant.

    Args:
        name: The unknown name.
        formats: The known names.
    """
    formats = list(formats)
    bare = name.strip().lower().lstrip(".")
    *inner, last = bare.split(".")
    if inner and last in _COMPRESSIONS:
        hint = f"use --format {_option(inner[-1])} --compress {COMPRESSIONS[_COMPRESSIONS[last]].name}"
    elif bare in _FORMATS:
        hint = f"use --format {_option(bare)}"
    elif bare in _HINTS:
        hint = f"choose from {', '.join(formats)}: {_HINTS[bare]}"
    else:
        hint = choice_hint(bare, formats)
    return OptionError(f"unknown format {name!r}", hint)


def choice_hint(word: str, choices: Iterable[str]) -> str:
    """A hint with all choices, and first the one that was probably meant."""
    choices = list(choices)
    likely = nearest(word.lower(), choices)
    return (f"did you mean {likely}? " if likely else "") + f"choose from {', '.join(choices)}"


def nearest(word: str, words: Iterable[str], least: float = _NEAR) -> str | None:
    """The most similar of *words*; None if the similarity of all is below *least*."""
    return next(iter(difflib.get_close_matches(word, list(words), 1, least)), None)


def _option(ending: str) -> str:
    format, delimiter = _FORMATS.get(ending, (ending, ""))
    return f"{format} --delimiter tab" if delimiter else format


def _hint(ending: str) -> str:
    return f"{_HINTS[ending]}; {_WRITTEN}"
