"""Views → bytes, by the templates beside this module. Everything in a view is escaped, always."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from skyexport.pages.views import AuthorPage, AuthorsPage, PostsPage, SearchPage, Segment

__all__ = ["Page", "assets", "environment", "render"]

Page = PostsPage | AuthorPage | AuthorsPage | SearchPage

_KNOWN_AUTHORS = 1000
"""Authors whose lines above posts are kept."""

_HERE = Path(__file__).parent

_TEMPLATES = {
    PostsPage: "posts.html",
    AuthorPage: "author.html",
    AuthorsPage: "authors.html",
    SearchPage: "search.html",
}
"""Kind of page → its template, which gets it as `page`."""


@functools.cache
def environment(folder: Path | None = None) -> Environment:
    """The templates of pages.

    Args:
        folder: Has further templates, which come first where names are the same.
    """
    folders = [*filter(None, [folder]), _HERE / "templates"]
    environment = Environment(
        autoescape=True, loader=FileSystemLoader(folders), undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True, auto_reload=False,
    )  # fmt: skip
    environment.filters["number"] = "{:,}".format
    environment.filters["counted"] = _counted
    environment.filters["rich"] = _rich
    # Most posts of a page are by one author.
    macros = environment.get_template("macros.html").module
    for name in ("byline", "named"):
        environment.filters[name] = functools.lru_cache(_KNOWN_AUTHORS)(getattr(macros, name))
    return environment


def _rich(segments: Sequence[Segment]) -> Markup:
    """A text with its links."""
    return Markup(
        "".join(
            f'<a href="{escape(part.href)}" rel="noopener noreferrer nofollow">{escape(part.text)}</a>'
            if part.href
            else escape(part.text)
            for part in segments
        )
    )


def _counted(counts: Sequence[tuple[str, str, str]]) -> Markup:
    """Likes and the like, each with its number."""
    return Markup(
        "\n".join(f"<span>{escape(number)} {one if number == '1' else many}</span>" for one, many, number in counts)
    )


def render(page: Page) -> bytes:
    """A page as HTML that is well-formed XML, too.

    Raises:
        jinja2.UndefinedError: A template asks for what the view does not have, which is a bug.
    """
    articles = Markup()
    if isinstance(page, PostsPage):
        # Rendered by themselves, posts do not pass through the blocks of the page, piece by piece.
        template = environment().get_template("articles.html")
        articles = Markup(template.render(posts=page.posts, again=page.kind == "thread"))
    template = environment().get_template(_TEMPLATES[type(page)])
    return template.render(page=page, site=page.site, articles=articles).encode()


def assets() -> dict[str, bytes]:
    """The files that all pages share: name → content."""
    return {
        path.name: path.read_bytes() for path in sorted((_HERE / "assets").iterdir()) if path.suffix in (".css", ".js")
    }
