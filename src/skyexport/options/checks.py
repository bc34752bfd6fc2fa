"""Checks of options that depend on each other: what cannot be asked for together, and what to leave out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from skyexport.errors import OptionError
from skyexport.formats.compression import Compression, parse_compression
from skyexport.formats.names import choice_hint, form_of_name, unknown_format
from skyexport.formats.settings import DELIMITERS, FormatSettings
from skyexport.options.values import (
    DELIMITER_HINT,
)

if TYPE_CHECKING:
    from skyexport.options.export_options import ExportOptions, Resolved, Split

__all__ = [
    "MAX_LIMIT",
    "PAGES",
    "USUAL_FORMAT",
    "check_chains",
    "check_format",
    "check_limit",
    "check_match",
    "check_register",
    "check_split",
    "resolve_format",
]

MAX_LIMIT = 10**15
"""Posts: more than any archive will ever have."""

USUAL_FORMAT = "json"

PAGES = "html"
"""The form of an export for people."""

_REGISTERED_FORMATS = ("json", "csv")
"""The formats that bskyarchive's list of exports accepts."""

_OF_ANY_TABLE = frozenset({"delimiter", "bom", "csv_safe"})
"""Settings that also apply to the table of media, which an export in any format may have."""

_CAPITALS = re.compile("(?<=[a-z])(?=[A-Z])")


def check_limit(options: ExportOptions, limit: int) -> None:
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


def check_chains(options: ExportOptions) -> None:
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


def resolve_format(options: ExportOptions, to: Path | None) -> tuple[str, Compression | None, str]:
    """The format (a name from FORMS), the compression and the delimiter: by options, else by the name of *to*."""
    from skyexport.formats import FORMS

    if options.format and options.format not in FORMS:
        raise unknown_format(options.format, FORMS)
    if options.format == PAGES and to is not None:
        raise OptionError(f"--to writes one file, and html is a folder of pages: {to}", "use -o instead")
    named = form_of_name(to, format_given=bool(options.format))
    format = options.format or named.format or USUAL_FORMAT
    if options.delimiter and named.delimiter not in ("", options.delimiter):
        raise OptionError(
            f"{to} is named like a table with tabs, but --delimiter is {options.delimiter!r}", "leave out --delimiter"
        )
    if named.format not in ("", format):
        raise OptionError(
            f"{to} is named like {named.format}, but --format is {format}",
            f"leave out --format, or name it …{FORMS[format].suffix}",
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
            f"name it …{FORMS[format].suffix}{compression.suffix}",
        )
    return format, compression, options.delimiter or named.delimiter or ","


def check_format(options: ExportOptions, name: str, compression: Compression | None, settings: FormatSettings) -> None:
    """Check the options that a format must support.

    Raises:
        OptionError: The format does not support one of them.
    """
    from skyexport.formats import FORMS

    format = FORMS[name]
    if name == PAGES:
        _check_pages(options, compression)
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
    if (
        options.since_last
        and settings.columns
        and (missing := [column for column in needed if column not in settings.columns])
    ):
        raise OptionError(f"--since-last compares the column {missing[0]}", "add it to --columns")
    if settings.delimiter not in DELIMITERS:
        raise OptionError(f"{settings.delimiter!r} cannot be a delimiter", DELIMITER_HINT)
    if compression is not None and not format.is_text:
        raise OptionError(
            f"{name} has its own compression and cannot use {compression.name}",
            f"leave out --compress, and {compression.suffix} at the end of a name",
        )


def _check_pages(options: ExportOptions, compression: Compression | None) -> None:
    """Check the options of an export as pages for people.

    Raises:
        OptionError: They are for data files.
    """
    if options.columns:
        raise OptionError("--columns is not for html: pages show all that a post has", "leave it out")
    if compression is not None:
        raise OptionError("--compress is not for html: browsers open pages as they are", "leave it out")
    if options.since_export or options.since_last:
        option = "--since-export" if options.since_export else "--since-last"
        raise OptionError(
            f"{option} is not for html: pages of new posts alone would lack their context", "leave it out"
        )


def check_split(split: Split, format: str, to: Path | None) -> None:
    """Refuse what data files cannot be split into.

    Raises:
        OptionError: They cannot.
    """
    from skyexport.formats import FORMS

    if split and format == PAGES:
        raise OptionError("html splits its pages by itself", "leave out --split-posts and --split-bytes")
    if split.bytes is not None and not FORMS[format].is_text:
        raise OptionError(
            f"--split-bytes is not for {format}: the size of a file is known only once it is written",
            "use --split-posts",
        )
    if split and to is not None:
        raise OptionError("--to writes one file, which cannot be split", "use -o instead")
    for bound, what in ((split.posts, "posts"), (split.bytes, "bytes")):
        if bound is not None and bound < 1:
            raise OptionError(f"a data file cannot have {bound} {what}", "choose 1 or more")


def check_register(resolved: Resolved) -> None:
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


def check_match(query: str) -> None:
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
