"""The JSON format: one array, a post an object, indented by two spaces.

Source: docs/formats.md, "posts.json".
"""

from __future__ import annotations

from skyexport import json_text
from skyexport.formats.json_posts import POST_ENDS, JsonPosts, Layout

__all__ = ["JsonArray"]

_KEY_LEVEL = 2
_MEMBER_LINE = b"\n" + b"  " * _KEY_LEVEL


class JsonArray(JsonPosts):
    """Posts as one indented JSON array. The braces around posts are in the prologue, the separator and the epilogue."""

    name = "json"
    suffix = ".json"
    prologue = b"[\n  {"
    separator = b"\n  },\n  {"
    epilogue = b"\n  }\n]\n"
    empty = b"[]\n"

    def __init__(self) -> None:
        # SQL begins lines without indentation, which `placed` adds everywhere at once.
        super().__init__(Layout("\n", _MEMBER_LINE, ": ", "json_pretty({}, '  ')", json_text.indent, _KEY_LEVEL))

    def placed(self, text: bytes) -> bytes:
        """Indented, and with the lines between posts."""
        return text.replace(b"\n", _MEMBER_LINE).replace(POST_ENDS.encode(), self.separator)

    def posts_of(self, data: bytes) -> list[bytes]:
        """Cut at the separator: nothing within a post is indented so little."""
        return data.split(self.separator)
