"""Views → bytes, by the templates beside this module. Everything in a view is escaped, always."""

from __future__ import annotations

import functools
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from skyexport.pages.views import AuthorPage, AuthorsPage, PostsPage, SearchPage

__all__ = ["Page", "assets", "render"]

Page = PostsPage | AuthorPage | AuthorsPage | SearchPage

_HERE = Path(__file__).parent

_TEMPLATES = {
    PostsPage: "posts.html",
    AuthorPage: "author.html",
    AuthorsPage: "authors.html",
    SearchPage: "search.html",
}
"""Kind of page → its template, which gets it as `page`."""


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        autoescape=True, loader=FileSystemLoader(_HERE / "templates"), undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True, auto_reload=False,
    )  # fmt: skip
    environment.filters["number"] = "{:,}".format
    return environment


def render(page: Page) -> bytes:
    """A page as HTML that is well-formed XML, too.

    Raises:
        jinja2.UndefinedError: A template asks for what the view does not have, which is a bug.
    """
    return _environment().get_template(_TEMPLATES[type(page)]).render(page=page, site=page.site).encode()


def assets() -> dict[str, bytes]:
    """The files that all pages share: name → content."""
    return {path.name: path.read_bytes() for path in sorted((_HERE / "assets").iterdir()) if path.suffix in (".css", ".js")}
