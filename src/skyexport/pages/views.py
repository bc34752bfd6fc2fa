"""The contents of pages, ready to be shown: what templates read, and nothing else.

Nothing changes a view; but for those that are looked up, they are not frozen, which would take twice the time to make
them. Addresses in views are safe: `addresses` made each of them, or they are relative ones of this export. Texts are as
people wrote them; templates escape them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

__all__ = [
    "AuthorLine",
    "AuthorPage",
    "AuthorView",
    "AuthorsPage",
    "Bar",
    "Card",
    "Image",
    "Link",
    "Month",
    "Parent",
    "PostView",
    "PostsPage",
    "Quote",
    "SearchPage",
    "Segment",
    "Site",
    "Video",
]


@dataclass(slots=True)
class Link:
    """An address with its text."""

    text: str
    href: str


class Segment(NamedTuple):
    """A stretch of a text: plain, or a link."""

    text: str
    href: str = ""
    """Empty for plain text."""


@dataclass(frozen=True)
class AuthorView:
    """Who wrote something."""

    name: str
    """The display name; empty if unknown."""
    handle: str
    """Without `@`; empty if unknown."""
    did: str
    href: str = ""
    """The profile elsewhere; empty if the DID is not valid."""

    @cached_property
    def label(self) -> str:
        """The best name that there is."""
        return self.name or self.handle or self.did or "unknown"

    @cached_property
    def initials(self) -> str:
        """One or two letters that stand for a picture, which archives do not have."""
        words = [word for word in (self.name or self.handle).replace(".", " ").split() if word[0].isalnum()]
        return "".join(word[0].upper()[:1] for word in (words[:1] + words[-1:] if len(words) > 1 else words[:1])) or "?"


@dataclass(slots=True)
class Image:
    """An image of a post."""

    alt: str
    file: str
    """Relative address of the copy in this export; empty without one."""
    href: str
    """Where the image is elsewhere; empty if nowhere."""
    width: int
    """0 if unknown."""
    height: int
    size_bytes: int = 0
    """Of the copy; 0 without one."""

    @property
    def size(self) -> str:
        """Width and height for people."""
        return f"{self.width} × {self.height}"


@dataclass(slots=True)
class Video:
    """A video of a post."""

    alt: str
    file: str
    """Relative address of the copy; empty without one."""
    href: str
    """Where it can be seen elsewhere."""
    width: int
    height: int


@dataclass(slots=True)
class Card:
    """A link with a title, as a post shows it."""

    title: str
    description: str
    href: str
    """Empty if the address is not one of the web: then only text is shown."""
    host: str
    """Of the address, or the address itself if it is not one of the web."""
    image: Image | None = None
    """The copy of its picture; None without one."""


@dataclass(slots=True)
class Quote:
    """A quoted post, or what stands for it: a list, a feed, a post that is gone."""

    author: AuthorView | None
    text: Sequence[Segment]
    time: str
    """RFC 3339 in UTC; empty if unknown."""
    link: Link | None
    """Where it is: in this export, or elsewhere; None if nowhere."""
    note: str = ""
    """Why nothing of it is shown, or what else it has, like "2 images"."""


@dataclass(slots=True)
class Parent:
    """The post that a reply answers."""

    author: AuthorView | None
    """None if only its address is known."""
    snippet: str
    """The beginning of its text; empty if unknown."""
    href: str
    """In this export, or elsewhere; empty if nowhere."""
    here: bool
    """Whether *href* is in this export."""


@dataclass(slots=True, kw_only=True)
class PostView:
    """One post."""

    anchor: str
    """The value of `id`, unique on its page and among the author's posts: a record key, or `*` and a hash."""
    author: AuthorView
    time: str
    """RFC 3339 in UTC, like 2024-05-22T18:57:38.254Z; empty if the stored time is not readable."""
    time_text: str
    """For people, like "22 May 2024, 18:57 UTC"; a time that is not readable as it is stored."""
    href: str
    """The post elsewhere; empty if its uri is not that of a post."""
    text: Sequence[Segment] = ()
    whole_text: Link | None = None
    """The file with the whole text if *text* is only its beginning."""
    whole_embed: Link | None = None
    """The file with the whole embed if it is too large to be shown."""
    parent: Parent | None = None
    """The post that this one answers."""
    thread: Link | None = None
    """The page of its thread, or on that page, the one of its month; None if it is in none."""
    images: Sequence[Image] = ()
    video: Video | None = None
    card: Card | None = None
    quote: Quote | None = None
    other_embed: str = ""
    """A sentence about an embed that is not shown: of an unknown kind, or not JSON; empty if there is none."""
    notes: Sequence[str] = ()
    """Sentences about media that are not shown."""
    labels: Sequence[str] = ()
    """If there are any, the post is shown after a click."""
    counts: Sequence[tuple[str, str, str]] = ()
    """(name in the singular, in the plural, number as text) of likes, reposts, replies and quotes; empty if unknown."""

    @property
    def fragment(self) -> str:
        """The anchor as it stands in addresses."""
        return self.anchor.replace("*", "%2A")


@dataclass(slots=True, kw_only=True)
class Site:
    """The facts that all pages of an export share, seen from one page."""

    title: str
    """Of the whole: the author's label, or how many authors."""
    root: str
    """Relative address of the folder with index.html: empty, or `../` once or more."""
    exporter: str
    """Name and version of this program."""


@dataclass(slots=True, kw_only=True)
class PostsPage:
    """A page of a month, of undated posts, or of a thread."""

    site: Site
    kind: str
    """`month`, `undated` or `thread`."""
    author: AuthorView
    home: str
    """Relative address of the author's own index page."""
    heading: str
    """"May 2024", "Undated", or "Thread from 22 May 2024"."""
    number: int
    """From 1."""
    of: int
    """How many pages this month, or thread, has."""
    others: Sequence[Link]
    """Pages of it by number: this one, those near to it, the first and the last; empty if it is the only one."""
    previous: Link | None
    """The page before, of an earlier month if need be."""
    next: Link | None
    posts: Sequence[PostView]


@dataclass(slots=True, kw_only=True)
class Month:
    """A month in the list of an author."""

    name: str
    """The month alone, like "May"."""
    href: str
    posts: int


@dataclass(slots=True, kw_only=True)
class Bar:
    """A month in the chart."""

    month: str
    """Like "May 2024"."""
    posts: int
    href: str
    """Empty for a month without posts."""
    year: str = ""
    """Set for the first month of a year that gets a label."""


@dataclass(slots=True, kw_only=True)
class AuthorPage:
    """The index of one author."""

    site: Site
    author: AuthorView
    about: Sequence[Segment]
    """The author's own description; empty if unknown."""
    earlier_handles: Sequence[str]
    posts: int
    first: str
    """Day of the first post, like "22 May 2014"; empty if none has a readable time."""
    last: str
    chart: Sequence[Bar]
    """Months from the first to the last, without gaps; years instead if there are too many."""
    years: Sequence[tuple[str, Sequence[Month]]]
    """(year, its months), newest first."""
    undated: Month | None
    liked: Sequence[tuple[str, Link, str]]
    """(likes, the post with the beginning of its text, its day) of the most liked posts; empty if likes are unknown."""
    home: str = ""
    """Relative address of the page of authors; empty if there is one author."""


@dataclass(slots=True, kw_only=True)
class AuthorLine:
    """An author in the list of authors."""

    author: AuthorView
    href: str
    posts: int
    first: str
    last: str


@dataclass(slots=True, kw_only=True)
class AuthorsPage:
    """The first page of an export with several authors."""

    site: Site
    posts: int
    authors: Sequence[AuthorLine] = field(default_factory=tuple)


@dataclass(slots=True, kw_only=True)
class SearchPage:
    """The page for searching."""

    site: Site
