"""The JSON format: one array, a post an object, indented by two spaces.

Source: docs/formats.md, "posts.json".
"""

from __future__ import annotations

from skyexport.formats.json_posts import JsonPosts, Layout

__all__ = ["JsonArray"]

_KEY_LEVEL = 2
_MEMBER_LINE = "\n" + "  " * _KEY_LEVEL


class JsonArray(JsonPosts):
    """Posts as one indented JSON array. The braces around posts are in the prologue, the separator and the epilogue."""

    name = "json"
    suffix = ".json"
    prologue = b"[\n  {"
    separator = b"\n  },\n  {"
    epilogue = b"\n  }\n]\n"
    empty = b"[]\n"

    def __init__(self) -> None:
        super().__init__(Layout(_MEMBER_LINE, ": ", indented=True, level=_KEY_LEVEL))

    def posts_of(self, data: bytes) -> list[bytes]:
        """Cut at the separator: nothing within a post is indented so little."""
        return data.split(self.separator)
