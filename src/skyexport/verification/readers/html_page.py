"""Reading a page of posts of an HTML export, which is well-formed XML, too: a parser for XML counts the posts.

The page may come from a stranger. It can define no entities, and the parser holds only a little of it: depth, names,
posts and the length of a tag are limited.
"""

from __future__ import annotations

from collections.abc import Mapping
from xml.parsers import expat

__all__ = ["HtmlPageReader"]

_PARSED_BYTES = 1 << 16
"""Bytes parsed at once. Limits are looked at in between."""

_DEEPEST = 200
"""Elements in each other. Pages have a dozen."""

_MOST_NAMES = 500
"""Different names of elements and attributes. Pages have a few dozen."""

_MOST_IDS = 20_000
"""Elements with an id in a page."""

_LONGEST_ID = 1000
"""Characters of an id; record keys have at most 512."""

_LONGEST_TOKEN_BYTES = 1 << 22
"""Bytes of a tag or a comment. The description of an image can have a quarter of a megabyte, and five times as much if
it is all quotation marks."""

_DOCTYPE = b"<!doctype"
"""The beginning of a page. XML has only `<!DOCTYPE`, HTML has both."""


class HtmlPageReader:
    """Reads one page; see `Reader`. The first block must have the whole word `<!doctype`, if the page has it."""

    def __init__(self) -> None:
        self.posts = 0
        """Posts whose beginning has been seen."""
        self._depth = 0
        self._ids: set[str] = set()
        self._fed = 0
        self._names: dict[str, str] = {}
        """The names of elements and attributes, which the parser collects."""
        parser = expat.ParserCreate("utf-8", None, self._names)
        parser.StartElementHandler = self._begin
        parser.EndElementHandler = self._end
        parser.StartDoctypeDeclHandler = _check_doctype
        parser.EntityDeclHandler = _refuse_entity
        self._parser: expat.XMLParserType | None = parser

    def feed(self, data: bytes) -> None:
        """Read the next block; see `Reader`."""
        if not self._fed and data[: len(_DOCTYPE)].lower() == _DOCTYPE:
            data = _DOCTYPE.upper() + data[len(_DOCTYPE) :]
        for start in range(0, len(data), _PARSED_BYTES):
            self._parse(data[start : start + _PARSED_BYTES])

    def finish(self) -> None:
        """End the file; see `Reader`."""
        self._parse(b"", last=True)
        self._parser = None  # It refers to this object.

    def _parse(self, data: bytes, *, last: bool = False) -> None:
        parser = self._parser
        if parser is None:
            return
        self._parser = None  # until all is well
        self._fed += len(data)
        try:
            parser.Parse(data, last)
        except expat.ExpatError as error:
            raise ValueError(f"not well-formed XML: {expat.ErrorString(error.code)} in line {error.lineno:,}") from None
        if self._fed - parser.CurrentByteIndex > _LONGEST_TOKEN_BYTES:
            raise ValueError(f"has a tag or comment of more than {_LONGEST_TOKEN_BYTES:,} bytes")
        if len(self._names) > _MOST_NAMES:
            raise ValueError(f"has more than {_MOST_NAMES:,} different names of elements and attributes")
        self._parser = parser

    def _begin(self, name: str, attributes: Mapping[str, str]) -> None:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise ValueError(f"has more than {_DEEPEST:,} elements in each other")
        if "id" in attributes:
            self._add_id(attributes["id"])
        if name == "article":
            classes = attributes.get("class", "").split()
            if "post" in classes and "again" not in classes:
                self.posts += 1
                if not attributes.get("id"):
                    raise ValueError(f"post {self.posts:,} has no id")

    def _end(self, _: str) -> None:
        self._depth -= 1

    def _add_id(self, value: str) -> None:
        if len(value) > _LONGEST_ID:
            raise ValueError(f"has an id of more than {_LONGEST_ID:,} characters")
        if value in self._ids:
            raise ValueError(f"has the id {value[:100]!r} twice")
        if len(self._ids) == _MOST_IDS:
            raise ValueError(f"has more than {_MOST_IDS:,} elements with an id")
        self._ids.add(value)


def _check_doctype(name: str, system: str | None, public: str | None, has_declarations: bool | int) -> None:
    """Check that the document type is that of HTML, and declares nothing: declared entities could grow without end."""
    if has_declarations or system is not None or public is not None or name.lower() != "html":
        raise ValueError("has a document type other than <!doctype html>")


def _refuse_entity(name: str, *_: object) -> None:
    raise ValueError(f"declares an entity, {name[:100]!r}")
