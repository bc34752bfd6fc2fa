"""Reading the posts of a page, and what they refer to: the archive and the plan, from the view of one page."""

from __future__ import annotations

import contextlib
import json
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import apsw

from skyexport import json_text
from skyexport.layout import MEDIA_DIRECTORY
from skyexport.pages import paths
from skyexport.pages.addresses import profile_address
from skyexport.pages.limits import LONGEST_URI_BYTES, MOST_EMBED_BYTES, MOST_LABELS_BYTES, MOST_TEXT_BYTES
from skyexport.pages.post_text import clean
from skyexport.pages.post_views import CopiedFile
from skyexport.pages.views import AuthorView
from skyexport.posts import COLUMNS, StoredPost, as_bytes, stored_value_sql

__all__ = ["PageRow", "PlanReader", "Posts", "SeenFrom", "author_view", "handles_of", "row_id_by_uri", "snippet"]

_SNIPPET_BYTES = 600
_SNIPPET_CHARACTERS = 140
"""Of the text of a post that is answered, or liked most."""

_SHOWN = tuple(name for name in COLUMNS if name not in ("cid", "indexed_at", "is_reply", "embed_type", "archived_at"))
"""The columns that a page shows something of."""

_KNOWN_AUTHORS = 5000
"""Authors that are kept in memory."""

_LISTED = "temp.carray(:row_ids) as batch cross join posts on posts.rowid = batch.value"
"""The posts of a list of row ids, in its order."""

_TOO_LARGE_LABELS = b'"labels too large to show"'


@dataclass(frozen=True, slots=True)
class PageRow:
    """A page of the plan."""

    id: int
    kind: str
    """`month`, `undated`, `thread`, `author`, `authors`, `search`, or `posts`: a file that search reads."""
    author: int
    month: str
    number: int
    first: int
    """Of its posts: a place among posts, members of threads, or ranks."""
    posts: int
    path: str
    position: int
    """Its place in the order of rendering; the pages of a thread have the same."""


class PlanReader:
    """The database of a plan, which nobody writes any more.

    Args:
        path: The database.
        archive: Open on the archive, with `uri` indexed or not.
        uri_indexed: Which.
    """

    def __init__(self, path: Path, archive: apsw.Connection, *, uri_indexed: bool) -> None:
        self._plan = apsw.Connection(
            f"{path.as_uri()}?mode=ro&immutable=1", flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
        )
        self._archive = archive
        self._uri_indexed = uri_indexed
        self._authors: dict[int, AuthorView] = {}
        self._people: dict[str, AuthorView] = {}
        self._last_month_page = (0, 0, "", 0)
        self.authors = int(self.rows("select count(*) from author where posts").get)
        """The number of authors with posts."""
        self.several_authors = self.authors > 1
        self.has_files = bool(self.rows("select 1 from file limit 1").fetchall())

    def rows(self, sql: str, parameters: Sequence[int | str | bytes] = ()) -> Any:
        """Run a statement on the plan."""
        return self._plan.execute(sql, parameters)

    def page(self, number: int) -> PageRow:
        """The page with this id."""
        row = self.rows(
            "select id, kind, author, month, number, first, posts, path, position from page where id = ?", (number,)
        )
        return PageRow(*row.get)

    def row_id_of(self, uri: bytes) -> int | None:
        """The row id of the post with a uri; None without one in the archive."""
        if len(uri) > LONGEST_URI_BYTES:
            return None
        if self._uri_indexed:
            return row_id_by_uri(self._archive, uri)
        found = self.rows("select row_id from known where kind = 'text' and uri = ?", (uri,)).get
        return None if found is None else int(found)

    def author(self, number: int) -> AuthorView:
        """An author by number."""
        view = self._authors.get(number)
        if view is None:
            view = author_view(*self.rows("select did, handle, name from author where id = ?", (number,)).get)
            self._remember(self._authors, number, view)
        return view

    def author_of(self, did: str) -> AuthorView:
        """An author by DID, known or not."""
        view = self._people.get(did)
        if view is None:
            row = self.rows("select id from author where did = ?", (did.encode(errors="surrogateescape"),)).get
            view = self.author(row) if row is not None else author_view(did.encode(errors="replace"), "", "")
            self._remember(self._people, did, view)
        return view

    def month_page_of(self, seq: int) -> tuple[str, int]:
        """Path and author of the page of a month that has this post."""
        first, end, path, author = self._last_month_page
        if not first <= seq < end:
            first, posts, path, author = self.rows(
                "select first, posts, path, author from page where kind in ('month', 'undated') and first <= ?"
                " order by first desc limit 1",
                (seq,),
            ).get
            self._last_month_page = (first, first + posts, path, author)
        return path, author

    def count_pages(self, page: PageRow) -> int:
        """The number of pages of the same month, or of the same thread."""
        if page.kind == "thread":
            return int(
                self.rows("select max(number) from page where kind = 'thread' and position = ?", (page.position,)).get
            )
        sql = "select max(number) from page where kind in ('month', 'undated') and author = ? and month = ?"
        return int(self.rows(sql, (page.author, page.month)).get)

    def path_beside(self, page: PageRow, number: int) -> str:
        """The path of another page of the same month, or of the same thread."""
        if page.kind == "thread":
            sql = "select path from page where kind = 'thread' and position = ? and number = ?"
            return str(self.rows(sql, (page.position, number)).get)
        return self.folder(page.author) + paths.month_path(page.month, number)

    def pages_around(self, page: PageRow) -> tuple[tuple[str, int, str] | None, tuple[str, int, str] | None]:
        """Month, number and path of the author's pages before and after this one; None at the ends."""
        first, posts = self.rows("select first, posts from author where id = ?", (page.author,)).get
        sql = "select month, number, path from page where kind in ('month', 'undated') and first"
        before = self.rows(f"{sql} < ? and first >= ? order by first desc limit 1", (page.first, first)).get
        after = self.rows(f"{sql} > ? and first < ? order by first limit 1", (page.first, first + posts)).get
        return before, after

    def threads_of(self, first: int, last: int) -> dict[int, str]:
        """Post → path of the page of its thread, of the posts from *first* to *last*."""
        sql = "select seq, path from member join page on page.id = member.page where seq >= ? and seq <= ?"
        return dict(self.rows(sql, (first, last)))

    def folder(self, author: int) -> str:
        """The folder of an author, empty if there is one."""
        return str(self.rows("select folder from author where id = ?", (author,)).get)

    def _remember(self, known: dict[Any, Any], key: object, value: object) -> None:
        if len(known) >= _KNOWN_AUTHORS:
            known.clear()
        known[key] = value


def author_view(did: bytes, handle: str, name: str) -> AuthorView:
    """An author as stored; handle and name may be empty."""
    text = clean(json_text.decode(did))
    return AuthorView(clean(name).strip(), clean(handle), text, profile_address(text))


class SeenFrom:
    """The rest of the export, seen from a page: the `Lookup` of its posts.

    Args:
        reader: The plan.
        path: Of the page.
    """

    def __init__(self, reader: PlanReader, path: str) -> None:
        self._reader = reader
        self.root = "../" * path.count("/")
        self._path = path

    def place(self, uri: str) -> str | None:
        """See `Lookup`."""
        row_id = self._reader.row_id_of(uri.encode(errors="surrogateescape"))
        return None if row_id is None else self.address_of(row_id)

    def address_of(self, row_id: int) -> str | None:
        """Relative address of a post; None if the export does not have it."""
        row = self._reader.rows("select seq, anchor from post where row_id = ?", (row_id,)).get
        if row is None:
            return None
        seq, anchor = row
        return f"{self.relative(self._reader.month_page_of(seq)[0])}#{quote(anchor)}"

    def relative(self, path: str) -> str:
        """A path of the export, as an address on this page."""
        return "" if path == self._path else self.root + path

    def files(self, uri: bytes) -> Sequence[CopiedFile]:
        """See `Lookup`."""
        if not self._reader.has_files:
            return ()
        rows = self._reader.rows(
            "select distinct sha256, name, mime_type, width, height, size, alt from file where uri = ? order by name",
            (uri,),
        )
        return [
            CopiedFile(sha256, f"{self.root}{MEDIA_DIRECTORY}/{name}", kind, width, height, size, alt)
            for sha256, name, kind, width, height, size, alt in rows
        ]

    def author(self, did: str) -> AuthorView:
        """See `Lookup`."""
        return self._reader.author_of(did)


class Posts:
    """The stored posts of an archive, by row id, with values as large as a page shows them.

    Args:
        connection: Open on the archive.
        columns: Column of a post → SQL for it.
    """

    def __init__(self, connection: apsw.Connection, columns: Mapping[str, str]) -> None:
        self._connection = connection
        values = {name: stored_value_sql(columns, name) for name in _SHOWN}
        for name, most, instead in (
            ("text", MOST_TEXT_BYTES, "null"),
            ("embed_data", MOST_EMBED_BYTES, "null"),
            ("labels", MOST_LABELS_BYTES, f"cast('{_TOO_LARGE_LABELS.decode()}' as blob)"),
            ("uri", LONGEST_URI_BYTES, "null"),
            ("reply_parent", LONGEST_URI_BYTES, "null"),
        ):
            values[name] = f"iif(ifnull(octet_length({columns[name]}), 0) <= {most}, {values[name]}, {instead})"
        sizes = "octet_length(text), octet_length(embed_data)"
        self._sql = f"select batch.value, {sizes}, {', '.join(values.values())} from {_LISTED}"
        found = f"{values['text']}, {values['embed_data']}"
        self._documents_sql = f"select batch.value, octet_length(text), {found} from {_LISTED}"
        self._texts_sql = (
            "select batch.value, cast(did as blob),"
            f" iif(octet_length(text) <= {MOST_TEXT_BYTES}, cast(text as blob), null) from {_LISTED}"
        )

    def read(self, row_ids: array[int]) -> Iterable[tuple[int, StoredPost, int, int]]:
        """Row id, post, and bytes of its text and its embed, in the order of *row_ids*."""
        rows: Any = self._connection.execute(self._sql, {"row_ids": apsw.carray(row_ids)})
        for row_id, text_bytes, embed_bytes, *values in rows:
            post = dict(zip(_SHOWN, values, strict=True))
            if (text_bytes or 0) > MOST_TEXT_BYTES:
                post["text"] = self._beginning(row_id)
            yield row_id, post, text_bytes or 0, embed_bytes or 0

    def documents(self, row_ids: array[int]) -> Iterable[tuple[int, bytes, bytes]]:
        """Row id, text and embed, in the order of *row_ids*."""
        rows: Any = self._connection.execute(self._documents_sql, {"row_ids": apsw.carray(row_ids)})
        for row_id, text_bytes, text, embed in rows:
            cut = (text_bytes or 0) > MOST_TEXT_BYTES
            yield row_id, self._beginning(row_id) if cut else text or b"", embed or b""

    def texts(self, row_ids: Iterable[int]) -> dict[int, tuple[bytes, bytes]]:
        """Row id → DID, and the beginning of the text."""
        listed = array("q", row_ids)
        if not listed:
            return {}
        rows: Any = self._connection.execute(self._texts_sql, {"row_ids": apsw.carray(listed)}).fetchall()
        return {
            row_id: (as_bytes(did), self._beginning(row_id) if text is None else as_bytes(text))
            for row_id, did, text in rows
        }

    def _beginning(self, row_id: int) -> bytes:
        """The beginning of a text, however large the rest is; nothing if there is no text."""
        # A value that is no text is small, and cannot be opened.
        with contextlib.suppress(apsw.SQLError):
            blob = self._connection.blob_open("main", "posts", "text", row_id, False)
            with contextlib.closing(blob):
                return bytes(blob.read(MOST_TEXT_BYTES))
        return b""


def row_id_by_uri(archive: apsw.Connection, uri: bytes) -> int | None:
    """The row id of the post with a uri, by the archive's index; None without one."""
    if len(uri) > LONGEST_URI_BYTES:
        return None
    found: Any = archive.execute("select min(rowid) from posts where uri = cast(? as text)", (uri,)).get
    return None if found is None else int(found)


def snippet(text: bytes) -> str:
    """The beginning of a text, on one line."""
    words = " ".join(clean(text[:_SNIPPET_BYTES].decode(errors="ignore")).split())
    return words if len(words) <= _SNIPPET_CHARACTERS else f"{words[: _SNIPPET_CHARACTERS - 1].rstrip()}…"


def handles_of(stored: str) -> list[str]:
    """Earlier handles of an author, as the plan has them."""
    return [clean(handle) for handle in json.loads(stored)]
