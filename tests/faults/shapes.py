"""The shapes of data files, as arguments of the command, and the trials that have them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["FURTHER", "SPLIT", "USUAL", "Shape", "in_one_file", "options_of", "shape_of"]

Shape = tuple[str, ...]
"""Arguments of the command that say what data files look like."""

USUAL: tuple[Shape, ...] = (("-f", "json"), ("-f", "csv"))
"""Two trials of three have one of these."""

FURTHER: tuple[Shape, ...] = (
    ("-f", "jsonl"),
    ("-f", "parquet"),
    ("-f", "json", "--compress", "zstd"),
    ("-f", "jsonl", "--compress", "gzip:1"),
    ("-f", "csv", "--compress", "zstd:1", "--csv-safe"),
    ("-f", "jsonl", "--columns", "labels,text,uri"),
    ("-f", "csv", "--columns", "media_files,uri,text", "--delimiter", ";", "--no-bom", "--csv-safe"),
    ("-f", "json", "--split-posts", "700"),
    ("-f", "csv", "--split-bytes", "300000"),
    ("-f", "jsonl", "--compress", "zstd", "--split-posts", "900", "--split-bytes", "600000"),
    ("-f", "json", "--compress", "gzip:1", "--split-bytes", "600000"),
    ("-f", "parquet", "--columns", "originals,uri,created_at", "--split-posts", "1100"),
)
"""Every third trial has one of these."""

SPLIT = tuple(shape for shape in FURTHER if any(argument.startswith("--split") for argument in shape))
"""Those with several data files."""

_WITH_A_VALUE: dict[str, tuple[str, Callable[[str], object]]] = {
    "-f": ("format", str),
    "--compress": ("compress", str),
    "--columns": ("columns", lambda text: tuple(text.split(","))),
    "--delimiter": ("delimiter", str),
    "--split-posts": ("split_posts", int),
    "--split-bytes": ("split_bytes", int),
}
_ALONE: dict[str, tuple[str, bool]] = {"--no-bom": ("bom", False), "--csv-safe": ("csv_safe", True)}


def options_of(arguments: Sequence[str]) -> dict[str, Any]:
    """The options of the API that ask for the same shape; other arguments are ignored."""
    found: dict[str, Any] = {}
    for argument, value in zip(arguments, (*arguments[1:], ""), strict=False):
        if argument in _WITH_A_VALUE:
            name, read = _WITH_A_VALUE[argument]
            found[name] = read(value)
        elif argument in _ALONE:
            name, found[name] = _ALONE[argument]
    return found


def in_one_file(shape: Shape) -> Shape:
    """The same shape, not split, as `--to` needs it."""
    at = min((shape.index(argument) for argument in shape if argument.startswith("--split")), default=len(shape))
    return shape[:at]


def shape_of(first: int, number: int) -> Shape:
    """The shape of a test's trial: a third of the trials have a further shape, and each test begins with another one.

    Args:
        first: The position in `FURTHER` of the test's trial 0.
        number: Which trial it is.
    """
    turn, rest = divmod(number, len(USUAL) + 1)
    return FURTHER[(first + turn) % len(FURTHER)] if rest == 0 else USUAL[rest - 1]
