"""The form for an export: the options of `skyexport export`, in the groups of its help.

Nothing is declared twice: names, groups and help come from `options.declarations`. An option whose value is a path is
left out, or a number stands for a path that the page itself listed: the browser never sends one. Values are checked by
the command, whose errors the page shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from skyexport.errors import OptionError
from skyexport.formats import FORMS
from skyexport.formats.settings import DELIMITERS
from skyexport.options import declarations as option

__all__ = ["FormField", "arguments_of", "fields", "groups"]

Kind = Literal["text", "date", "number", "flag", "choice", "export"]

_LONGEST_VALUE = 5000


@dataclass(frozen=True)
class FormField:
    """A field, for one option of the command."""

    name: str
    """The long option without its dashes."""
    kind: Kind
    group: str
    help: str
    default: str
    """In words; empty if there is none."""
    choices: Sequence[tuple[str, str]] = ()
    """(value, text) of a choice."""
    example: str = ""

    @property
    def label(self) -> str:
        """The option in words: "split posts"."""
        return self.name.replace("-", " ")


def _field(
    name: str,
    declared: Any,
    kind: Kind,
    choices: Sequence[tuple[str, str]] = (),
    *,
    example: str = "",
    default: str = "",
) -> FormField:
    information = get_args(declared)[1]
    shown = information.show_default if kind != "choice" and isinstance(information.show_default, str) else default
    return FormField(name, kind, information.rich_help_panel, information.help, shown, choices, example)


def _choices(*values: str) -> list[tuple[str, str]]:
    return [(value, value) for value in values]


_NAMES = {"json": "JSON", "jsonl": "JSON Lines", "csv": "CSV", "parquet": "Parquet", "html": "HTML: pages to read"}

_FIELDS = (
    _field("author", option.Author, "text", example="alice.bsky.social"),
    _field("since", option.Since, "date"),
    _field("until", option.Until, "date"),
    _field("match", option.Match, "text", example="cats OR dogs"),
    _field("limit", option.Limit, "number"),
    _field("format", option.FormatName, "choice", [(name, _NAMES.get(name, name)) for name in FORMS]),
    _field("compress", option.CompressionName, "choice", [("", "none"), *_choices("gzip", "zstd")]),
    _field("columns", option.Columns, "text", example="uri,text,created_at"),
    _field("split-posts", option.SplitPosts, "number"),
    _field("split-bytes", option.SplitBytes, "text", example="100MB"),
    _field("register", option.Register, "flag"),
    _field(
        "delimiter", option.Delimiter, "choice",
        [("", ","), *(("tab", "tab") if mark == "\t" else (mark, mark) for mark in DELIMITERS if mark != ",")],
    ),
    _field("no-header", option.NoHeader, "flag"),
    _field("no-bom", option.NoBom, "flag"),
    _field("csv-safe", option.CsvSafe, "flag"),
    _field("media", option.Media, "flag"),
    _field("link-media", option.LinkMedia, "export"),
    _field("since-export", option.SinceExport, "export"),
    _field("since-last", option.SinceLast, "flag"),
    _field("keep", option.Keep, "number"),
    _field("workers", option.Workers, "text", example="auto", default="auto"),
    _field("memory-limit", option.MemoryLimit, "text", example="500MB", default="500MB"),
    _field("batch-size", option.BatchSize, "number", default="1000"),
    _field("no-sync", option.NoSync, "flag"),
    _field("snapshot", option.Snapshot, "choice", _choices("pin", "copy")),
    _field("strict", option.Strict, "flag"),
)  # fmt: skip


def fields() -> Sequence[FormField]:
    """All fields, in order."""
    return _FIELDS


def groups() -> list[tuple[str, list[FormField]]]:
    """The fields in the groups of the help: pairs of heading and fields."""
    return [(group, members) for group in option.GROUPS if (members := [f for f in _FIELDS if f.group == group])]


def arguments_of(values: Mapping[str, str], exports: Mapping[str, str]) -> list[str]:
    """The arguments for what was sent.

    Args:
        values: Name of a field → its value; fields that are empty or missing set nothing.
        exports: Number of an export that the form offered → its path.

    Raises:
        OptionError: There is no such field, or no such export.
    """
    known = {field.name: field for field in _FIELDS}
    arguments = []
    for name, value in values.items():
        field = known.get(name)
        if field is None:
            raise OptionError(f"the form has no field {name[:50]!r}", "load the page again")
        value = value.strip()
        if not value:
            continue
        if len(value) > _LONGEST_VALUE or any(ord(character) < 32 for character in value):
            raise OptionError(f"the value of {field.label} is too long, or has control characters", "write another one")
        if field.kind == "flag":
            arguments.append(f"--{name}")
            continue
        if field.kind == "export":
            if value not in exports:
                raise OptionError(f"there is no export {value[:20]}", "load the page again")
            value = exports[value]
        arguments.append(f"--{name}={value}")
    return arguments
