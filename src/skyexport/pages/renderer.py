"""Rendering a page: from its number in the plan to its bytes.

A page is one unit of work. Its posts are read with one statement, and so are the posts that they answer. Nothing is
rendered that is not in the plan, so the bytes of a page depend on the plan and the archive alone.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import apsw

from skyexport.archive.plan import PageNumber
from skyexport.errors import ArchiveChangedError
from skyexport.formats.chunk import Chunk
from skyexport.notices import Notices
from skyexport.pages import paths, templating
from skyexport.pages.addresses import file_stem_of
from skyexport.pages.index_pages import author_page, authors_page
from skyexport.pages.limits import MOST_EMBED_BYTES, MOST_TEXT_BYTES
from skyexport.pages.post_views import parent_elsewhere, post_view, search_text
from skyexport.pages.reading import PageRow, PlanReader, Posts, SeenFrom, snippet
from skyexport.pages.search_index import Document, documents_js
from skyexport.pages.settings import PageSettings
from skyexport.pages.views import Link, Parent, PostsPage, PostView, SearchPage, Site
from skyexport.posts import as_bytes
from skyexport.wording import format_size

__all__ = ["PageRenderer"]


_NEAR_PAGES = 5
"""Pages of a month before and after a page that it links to, beside the first and the last."""

_Row = tuple[int, int, str | None, int | None, str]
"""A post of a page: its place, its row id, its time, the post that it answers, and its anchor."""


class PageRenderer:
    """Renders pages of one plan.

    Args:
        connection: Open on the archive.
        columns: Column of a post → SQL for it.
        settings: The facts that all pages share.
    """

    def __init__(self, connection: apsw.Connection, columns: Mapping[str, str], settings: PageSettings) -> None:
        self._connection = connection
        self._posts = Posts(connection, columns)
        self._settings = settings
        self._opened: PlanReader | None = None

    @property
    def _reader(self) -> PlanReader:
        # The plan is made after workers have started.
        if self._opened is None:
            settings = self._settings
            self._opened = PlanReader(Path(settings.plan), self._connection, uri_indexed=settings.uri_indexed)
        return self._opened

    def render(self, unit: PageNumber) -> Iterator[Chunk]:
        """The page, as one chunk.

        Raises:
            ArchiveChangedError: A post is not there.
        """
        page = self._reader.page(unit.number)
        notices = Notices()
        if page.kind == "posts":
            yield Chunk(self._documents(page), 0)
            return
        seen = SeenFrom(self._reader, page.path)
        if page.kind == "author":
            view: templating.Page = author_page(
                self._reader, self._posts, page, self._site(seen), counts=self._settings.counts_known
            )
        elif page.kind == "authors":
            view = authors_page(self._reader, self._site(seen))
        elif page.kind == "search":
            view = SearchPage(site=self._site(seen))
        else:
            view = self._posts_page(page, seen, notices)
        if page.kind == "thread":
            notices = Notices()
        data = templating.render(view)
        yield Chunk(data, unit.posts, notices=notices, plain_bytes=len(data))

    def _site(self, seen: SeenFrom) -> Site:
        reader = self._reader
        authors = reader.authors
        title = f"{authors:,} authors" if authors > 1 else reader.author(1).label if authors else "No posts"
        return Site(title=title, root=seen.root, exporter=self._settings.exporter)

    def _rows_of(self, page: PageRow) -> list[_Row]:
        """The posts of a page."""
        last = page.first + page.posts
        if page.kind == "thread":
            sql = "member cross join post on post.seq = member.seq where place >= ? and place < ? order by place"
        elif page.kind == "posts":
            sql = "ranked cross join post on post.seq = ranked.seq where rank >= ? and rank < ? order by rank"
        else:
            sql = "post where seq >= ? and seq < ? order by seq"
        rows: list[Any] = self._reader.rows(
            f"select post.seq, post.row_id, post.time, post.answers, post.anchor from {sql}", (page.first, last)
        ).fetchall()
        return rows

    def _posts_page(self, page: PageRow, seen: SeenFrom, notices: Notices) -> PostsPage:
        rows = self._rows_of(page)
        views = list(self._views(page, rows, seen, notices))
        reader = self._reader
        of = reader.count_pages(page)
        heading = paths.month_text(page.month)
        if page.kind == "thread":
            first = views[0].time if page.number == 1 else ""
            heading = f"Thread from {paths.day_text(first)}" if first else "Thread"
            before = self._beside(page, page.number - 1, "Earlier in this thread", seen) if page.number > 1 else None
            after = self._beside(page, page.number + 1, "Later in this thread", seen) if page.number < of else None
        else:
            before, after = (self._link_to(near, seen) for near in reader.pages_around(page))
        near = range(max(1, page.number - _NEAR_PAGES), min(of, page.number + _NEAR_PAGES) + 1)
        numbers = sorted({1, *near, of}) if of > 1 else []
        return PostsPage(
            site=self._site(seen), kind=page.kind, author=reader.author(page.author),
            home=seen.relative(reader.folder(page.author) + "index.html"), heading=heading, number=page.number, of=of,
            others=[self._beside(page, number, str(number), seen) for number in numbers], previous=before, next=after,
            posts=views,
        )  # fmt: skip

    def _beside(self, page: PageRow, number: int, text: str, seen: SeenFrom) -> Link:
        """A link to another page of the same month, or of the same thread."""
        return Link(text, seen.relative(self._reader.path_beside(page, number)))

    def _link_to(self, near: tuple[str, int, str] | None, seen: SeenFrom) -> Link | None:
        if near is None:
            return None
        month, number, path = near
        return Link(paths.month_text(month) + (f", page {number}" if number > 1 else ""), seen.relative(path))

    def _views(self, page: PageRow, rows: list[_Row], seen: SeenFrom, notices: Notices) -> Iterator[PostView]:
        reader = self._reader
        answered = self._posts.texts({row[3] for row in rows if row[3] is not None})
        threads = {} if page.kind == "thread" else reader.threads_of(rows[0][0], rows[-1][0]) if rows else {}
        found = self._posts.read(array("q", (row[1] for row in rows)))
        count = 0
        for (seq, row_id, time, parent, anchor), (read_id, post, text_bytes, embed_bytes) in zip(
            rows, found, strict=False
        ):
            if row_id != read_id:
                break
            count += 1
            whole_text = whole_embed = thread = None
            if text_bytes > MOST_TEXT_BYTES or embed_bytes > MOST_EMBED_BYTES:
                stem = f"{reader.folder(page.author)}texts/{file_stem_of(anchor)}"
                if text_bytes > MOST_TEXT_BYTES:
                    whole_text = Link(f"The whole text ({format_size(text_bytes)})", f"{seen.root}{stem}.txt")
                if embed_bytes > MOST_EMBED_BYTES:
                    whole_embed = Link(
                        f"The attachment as stored ({format_size(embed_bytes)})", f"{seen.root}{stem}-embed.txt"
                    )
            if (path := threads.get(seq)) is not None:
                thread = Link("Thread", f"{seen.relative(path)}#{quote(anchor)}")
            elif page.kind == "thread":
                thread = Link("In its month", seen.address_of(row_id) or "")
            yield post_view(
                post, seen, anchor=anchor, counts_known=self._settings.counts_known,
                parent=self._parent(as_bytes(post["reply_parent"]), parent, answered, seen), thread=thread,
                whole_text=whole_text, whole_embed=whole_embed, time=f"{time}Z" if time else "", notices=notices,
            )  # fmt: skip
        if count != len(rows):
            raise ArchiveChangedError(f"{count} of {len(rows)} posts of a page were found", "export again")

    def _parent(
        self, uri: bytes, row_id: int | None, answered: Mapping[int, tuple[bytes, bytes]], seen: SeenFrom
    ) -> Parent | None:
        if not uri:
            return None
        if row_id is not None and row_id in answered and (address := seen.address_of(row_id)) is not None:
            did, beginning = answered[row_id]
            return Parent(
                self._reader.author_of(did.decode(errors="surrogateescape")), snippet(beginning), address, here=True
            )
        return parent_elsewhere(uri, seen)

    def _documents(self, page: PageRow) -> bytes:
        """A file for search: where each post is, and its text."""
        reader = self._reader
        rows = self._rows_of(page)
        documents: list[Document] = []
        found = self._posts.documents(array("q", (row[1] for row in rows)))
        for (seq, row_id, time, _, anchor), (read_id, stored_text, embed) in zip(rows, found, strict=False):
            if row_id != read_id:
                break
            path, author = reader.month_page_of(seq)
            text = search_text(stored_text, embed)
            documents.append(Document(path, anchor, f"{time}Z" if time else "", author - 1, text))
        if len(documents) != len(rows):
            raise ArchiveChangedError(f"{len(documents)} of {len(rows)} posts were found", "export again")
        return documents_js(page.number, documents)
