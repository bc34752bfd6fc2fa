"""How many bytes posts take on pages: rendered as a sample, without a plan, for estimates."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence

import apsw

from skyexport.notices import Notices
from skyexport.pages import templating
from skyexport.pages.post_views import CopiedFile, post_view, search_text
from skyexport.pages.reading import Posts
from skyexport.pages.search_index import Document, documents_js
from skyexport.pages.search_words import words_of_text
from skyexport.pages.views import AuthorView, Parent, PostsPage, Site
from skyexport.posts import as_bytes, utc_time

__all__ = ["bytes_around", "page_bytes"]

_ANCHOR = "3kabcdefghijk"

_POSTING_BYTES = 1.5
"""A word of a post in the index of words."""

_FIRST_PAGES_BYTES = 20_000
"""Of index.html with the months of ten years, and of the page for search."""

_NOBODY = AuthorView(
    "A name of usual length", "someone.example.com", "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", "https://bsky.app/"
)


class _Nowhere:
    """The rest of an export that nobody has planned."""

    def place(self, uri: str) -> str | None:
        del uri
        return None

    def files(self, uri: bytes) -> Sequence[CopiedFile]:
        del uri
        return ()

    def author(self, did: str) -> AuthorView:
        del did
        return _NOBODY


def page_bytes(connection: apsw.Connection, columns: Mapping[str, str], row_ids: array[int]) -> int:
    """Bytes of these posts on a page of a month, on pages of threads, and in the files for search."""
    views = []
    documents = []
    repeated = words = 0
    for _, post, _, _ in Posts(connection, columns).read(row_ids):
        parent = None
        if post["reply_parent"]:
            parent = Parent(_NOBODY, "", "https://bsky.app/profile/did:plc:aaaaaaaaaaaaaaaaaaaaaaaa/post/", here=False)
            repeated += as_bytes(post["reply_parent"]).startswith(b"at://%b/" % as_bytes(post["did"]))
        view = post_view(
            post, _Nowhere(), anchor=_ANCHOR, counts_known=True, parent=parent, thread=None, whole_text=None,
            whole_embed=None, time=f"{time}Z" if (time := utc_time(post["created_at"])) else "", notices=Notices(),
        )  # fmt: skip
        views.append(view)
        text = search_text(as_bytes(post["text"]), as_bytes(post["embed_data"]))
        documents.append(Document("2024/05/1.html", view.anchor, view.time, 0, text))
        words += len(words_of_text(text))
    page = PostsPage(
        site=Site(title="", root="../../", exporter=""), kind="month", author=_NOBODY, home="", heading="", number=1,
        of=1, others=(), previous=None, next=None, posts=views,
    )  # fmt: skip
    size = len(templating.render(page))
    # A thread repeats its posts, and has a first one that answers nobody.
    threads = round(1.4 * repeated * size / len(views)) if views else 0
    return size + threads + len(documents_js(1, documents)) + round(_POSTING_BYTES * words)


def bytes_around() -> int:
    """Bytes of the files that any export has, roughly: shared ones, the first page, search."""
    return sum(map(len, templating.assets().values())) + _FIRST_PAGES_BYTES
