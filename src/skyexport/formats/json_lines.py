"""The JSON Lines format: a post a line, without white space between tokens.

Source: docs/formats.md, "posts.jsonl"; https://jsonlines.org.
"""

from __future__ import annotations

from typing import Self

from skyexport.formats.json_posts import JsonPosts, Layout
from skyexport.formats.settings import DEFAULTS, FormatSettings
from skyexport.posts import COLUMNS

__all__ = ["JsonLines"]


class JsonLines(JsonPosts):
    """Posts as JSON objects, one a line. The braces around posts are in prologue, separator and epilogue."""

    name = "jsonl"
    suffix = ".jsonl"
    columns: tuple[str, ...] = COLUMNS
    takes = frozenset({"columns"})
    prologue = b"{"
    separator = b"}\n{"
    epilogue = b"}\n"
    empty = b""

    def __init__(self, settings: FormatSettings = DEFAULTS) -> None:
        self.settings = settings
        super().__init__(Layout("", ":", indented=False, level=0), settings.columns or COLUMNS)

    def configured(self, settings: FormatSettings) -> Self:
        """With chosen columns."""
        return type(self)(settings)

    def posts_of(self, data: bytes) -> list[bytes]:
        """Cut at the separator: there is no line feed within a post."""
        return data.split(self.separator)
