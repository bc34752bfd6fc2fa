"""Posts of an archive, fifty at a time: by month, by author, by words.

A place in the list is the row id of a post. What comes before and after it is found along the index on created_at, so
that a page of an archive of a million posts takes as long as one of a thousand.
"""

from __future__ import annotations

import calendar
import contextlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import apsw
import orjson

from skyexport.archive.archive import Archive
from skyexport.archive.full_text import FullTextMatch
from skyexport.archive.profiles import each_profile
from skyexport.archive.shown_media import digest_of
from skyexport.archive.source import as_number
from skyexport.embeds import media_names
from skyexport.errors import OptionError
from skyexport.notices import Notices
from skyexport.options.values import is_did
from skyexport.pages.limits import MOST_EMBED_BYTES, MOST_TEXT_BYTES
from skyexport.pages.post_views import CopiedFile, parent_elsewhere, post_view
from skyexport.pages.reading import Posts, author_view, row_id_by_uri, snippet
from skyexport.pages.views import AuthorView, Parent, PostView
from skyexport.posts import StoredPost, as_bytes, quote_identifier, utc_time
from skyexport.runtime.media_root import MediaFile
from skyexport.selection import Selection, Span
from skyexport.timestamps import NANOSECONDS

__all__ = ["Listing", "Wanted", "posts_of"]

POSTS_ON_A_PAGE = 50

_FEW = 5000
"""Posts of an author, or with a word, that are sorted; of more, there are enough among the newest to find fifty."""

_MOST_FILES = 20
"""Media files that are shown of a post."""
_MOST_ALT_BYTES = 4000
_MOST_MEDIA_ROWS = 2000

_LONGEST_PATH_BYTES = 5000

_URI = "ifnull(uri, '')"
"""Exports list posts with the same time by uri; after it the row id decides, where uris are the same, or missing."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The posts that somebody wants to see."""

    month: str = ""
    """In UTC, like "2024-05"; empty for all."""
    author: str = ""
    """A DID or a handle; empty for all."""
    words: str = ""
    """A query for the full-text index; empty for none."""
    at: int | None = None
    """Row id: the list begins with this post."""
    after: int | None = None
    """Row id: the list begins with the post after this one."""
    before: int | None = None
    """Row id: the list ends with the post before this one."""


@dataclass(frozen=True, slots=True)
class Listing:
    """A page of posts, newest first."""

    posts: Sequence[PostView]
    first: int | None
    """Row id of the first one, if there are newer ones; else None."""
    last: int | None
    """Row id of the last one, if there are older ones; else None."""
    author: AuthorView | None
    """Who wrote them, if only one author was asked for."""
    by_time: bool
    """Whether they are in the order of time; else in the order in which they were archived, newest first."""


def posts_of(archive: Archive, wanted: Wanted, address: str) -> Listing:
    """A page of an archive.

    Args:
        archive: The archive.
        wanted: The posts.
        address: Of the archive on the page, like "/archives/1".

    Raises:
        OptionError: There is no such month or author, or the query is not valid.
        ArchiveError: The archive is damaged, has no full-text index, or reading it takes too long.
        ArchiveBusyError: Another program keeps writing to it.
    """
    did = archive.find_author(wanted.author).did if wanted.author else None
    since, until = _month_bounds(wanted.month) if wanted.month else (None, None)
    match = archive.matching(wanted.words) if wanted.words else None
    selection = Selection(did=did, since=since, until=until, filters=() if match is None else (match,))
    with archive.translating_errors(), archive.reading_names():
        rows = _Rows(archive, selection, match if isinstance(match, FullTextMatch) else None)
        backwards = wanted.before is not None
        key = wanted.before if backwards else wanted.after if wanted.after is not None else wanted.at
        row_ids = rows.near(key, backwards=backwards, with_key=key is not None and key == wanted.at)
        more = len(row_ids) > POSTS_ON_A_PAGE
        row_ids = row_ids[:POSTS_ON_A_PAGE]
        if backwards:
            row_ids.reverse()
        newer, older = (more, True) if backwards else (key is not None, more)
        views = list(_views(archive, row_ids, address))
        author = None if did is None else _People(archive, {did})(did)
    first, last = (row_ids[0], row_ids[-1]) if row_ids else (None, None)
    return Listing(
        views, first if newer else None, last if older else None, author, archive.created_at_index is not None
    )


def _month_bounds(month: str) -> tuple[int, int]:
    """The first and the last instant of a month, in nanoseconds since 1970."""
    year, _, number = month.partition("-")
    if not (len(year) == 4 and len(number) == 2 and (year + number).isascii() and (year + number).isdigit()):
        raise OptionError(f"{month!r} is not a month", "write it like 2024-05")
    if not 1 <= int(number) <= 12 or int(year) < 1:
        raise OptionError(f"there is no month {month}", "write it like 2024-05")
    first = calendar.timegm((int(year), int(number), 1, 0, 0, 0))
    days = calendar.monthrange(int(year), int(number))[1]
    return first * NANOSECONDS, (first + days * 86_400) * NANOSECONDS - 1


class _Rows:
    """Row ids in the order of an export: the newest first, and by uri where times are the same.

    Args:
        archive: The archive.
        selection: The posts.
        match: The filter of *selection* that asks the full-text index, if there is one.
    """

    def __init__(self, archive: Archive, selection: Selection, match: FullTextMatch | None) -> None:
        self._archive = archive
        self._selection = selection
        selection.register(archive.connection)
        self._few = self._found_in_full(match)

    def _found_in_full(self, match: FullTextMatch | None) -> array[int] | None:
        """All posts of the author, or with the words, if they are few; else None."""
        few: set[int] | None = None
        selects: list[tuple[str, Mapping[str, str]]] = []
        if match is not None:
            selects.append((f"select rowid from posts where {match.sql('main')}", match.parameters()))
        if self._selection.did is not None and self._archive.schema.did_index is not None:
            index = quote_identifier(self._archive.schema.did_index)
            selects.append(
                (f"select rowid from posts indexed by {index} where did = :did", {"did": self._selection.did})
            )
        for sql, parameters in selects:
            rows: Any = self._archive.connection.execute(f"{sql} limit {_FEW + 1}", parameters).fetchall()
            if len(rows) <= _FEW:
                found = {as_number(row_id) for (row_id,) in rows}
                few = found if few is None else few & found
        return None if few is None else array("q", sorted(few))

    def near(self, key: int | None, *, backwards: bool, with_key: bool) -> list[int]:
        """Row ids of the posts after *key*, one more than a page has.

        Args:
            key: A row id; None for the beginning.
            backwards: Go to newer posts instead; the nearest comes first.
            with_key: Begin with *key* itself.
        """
        if self._archive.created_at_index is None:
            return self._by_row_id(key, backwards=backwards, with_key=with_key)
        spans = self._selection.spans()
        found: list[int] = []
        for span in reversed(spans) if backwards else spans:
            if len(found) > POSTS_ON_A_PAGE:
                break
            found += self._in_span(span, key, POSTS_ON_A_PAGE + 1 - len(found), backwards=backwards, with_key=with_key)
        return found

    def _in_span(self, span: Span, key: int | None, most: int, *, backwards: bool, with_key: bool) -> list[int]:
        time_of_key, uri_of_key = (f"(select {name} from posts where rowid = :key)" for name in ("created_at", _URI))
        newer, after = ("asc", ">") if backwards else ("desc", "<")
        backward = "desc" if backwards else "asc"
        order = f"created_at {newer}, {_URI} {backward}, posts.rowid {backward}"
        conditions = [span.where, self._selection.where_sql()]
        if key is not None:
            beyond = f"({_URI}, posts.rowid) {'<' if backwards else '>'}{'=' if with_key else ''} ({uri_of_key}, :key)"
            conditions += [
                f"created_at {after}= {time_of_key}", f"(created_at {after} {time_of_key} or {beyond})"
            ]  # fmt: skip
        parameters: dict[str, Any] = {**self._selection.parameters(), **span.parameters, "key": key, "most": most}
        if self._few is not None:
            parameters["few"] = apsw.carray(self._few) if self._few else None
            source = "temp.carray(:few) as few cross join posts on posts.rowid = few.value"
            if not self._few:
                return []
        else:
            source = f"posts indexed by {quote_identifier(self._archive.created_at_index or '')}"
        return self._read(f"{source} where {' and '.join(conditions)} order by {order}", parameters)

    def _by_row_id(self, key: int | None, *, backwards: bool, with_key: bool) -> list[int]:
        """The same for an archive without the index, in the order of row ids."""
        conditions = [self._selection.where_sql()]
        if key is not None:
            conditions.append(f"posts.rowid {'>' if backwards else '<'}{'=' if with_key else ''} :key")
        parameters = {**self._selection.parameters(), "key": key, "most": POSTS_ON_A_PAGE + 1}
        order = "asc" if backwards else "desc"
        return self._read(f"posts where {' and '.join(conditions)} order by posts.rowid {order}", parameters)

    def _read(self, source: str, parameters: dict[str, Any]) -> list[int]:
        rows: Any = self._archive.connection.execute(f"select posts.rowid from {source} limit :most", parameters)
        return [as_number(row_id) for (row_id,) in rows]


class _People:
    """Authors as the archive knows them.

    Args:
        archive: The archive.
        dids: Those that will be asked for.
    """

    def __init__(self, archive: Archive, dids: set[str]) -> None:
        self._views: dict[str, AuthorView] = {}
        for person in each_profile(archive.connection, [did for did in dids if did.isprintable()]):
            did = person.did.decode(errors="replace")
            self._views[did] = author_view(person.did, person.handle, person.name)

    def __call__(self, did: str) -> AuthorView:
        return self._views.get(did) or author_view(did.encode(errors="surrogateescape"), "", "")


def _views(archive: Archive, row_ids: Sequence[int], address: str) -> Iterator[PostView]:
    """The posts as views, in this order; one that is gone is left out."""
    reader = Posts(archive.connection, archive.columns)
    stored = list(reader.read(array("q", row_ids))) if row_ids else []
    lookup = _Lookup(archive, reader, [post for _, post, _, _ in stored], address)
    counts_known = not archive.source.imported
    for row_id, post, text_bytes, embed_bytes in stored:
        stamp = utc_time(post["created_at"])
        view = post_view(
            post, lookup, anchor=f"p{row_id}", counts_known=counts_known, parent=lookup.parent(post), thread=None,
            whole_text=None, whole_embed=None, time=f"{stamp}Z" if stamp else "", notices=Notices(),
        )  # fmt: skip
        if text_bytes > MOST_TEXT_BYTES or embed_bytes > MOST_EMBED_BYTES:
            view.notes = [*view.notes, "This post is too large to be shown in full here; exports have all of it."]
        yield view


class _Lookup:
    """The rest of the archive, as far as the posts of a page need it."""

    def __init__(self, archive: Archive, reader: Posts, posts: Sequence[StoredPost], address: str) -> None:
        self._archive = archive
        self._address = address
        self._row_ids: dict[str, int | None] = {}
        answered = {as_bytes(post["reply_parent"]) for post in posts} - {b""}
        self._parents = {uri: self._row_id_of(uri.decode(errors="surrogateescape")) for uri in answered}
        self._texts = reader.texts(row_id for row_id in self._parents.values() if row_id is not None)
        dids = {as_bytes(post["did"]).decode(errors="surrogateescape") for post in posts}
        dids |= {did.decode(errors="surrogateescape") for did, _ in self._texts.values()}
        dids |= {_did_in(uri) for uri in answered}
        self._people = _People(archive, dids)
        self._files = self._all_files(posts)

    def parent(self, post: StoredPost) -> Parent | None:
        """The post that *post* answers."""
        uri = as_bytes(post["reply_parent"])
        if not uri:
            return None
        row_id = self._parents.get(uri)
        if row_id is None or row_id not in self._texts:
            return parent_elsewhere(uri, self)
        did, text = self._texts[row_id]
        return Parent(
            self.author(did.decode(errors="surrogateescape")), snippet(text), self._place_of(row_id), here=True
        )

    def place(self, uri: str) -> str | None:
        """See `pages.post_views.Lookup`."""
        row_id = self._row_id_of(uri)
        return None if row_id is None else self._place_of(row_id)

    def author(self, did: str) -> AuthorView:
        """See `pages.post_views.Lookup`."""
        return self._people(did)

    def files(self, uri: bytes) -> Sequence[CopiedFile]:
        """See `pages.post_views.Lookup`."""
        return self._files.get(uri, ())

    def _place_of(self, row_id: int) -> str:
        return f"{self._address}/posts?at={row_id}#p{row_id}"

    def _row_id_of(self, uri: str) -> int | None:
        if self._archive.schema.uri_index is None:
            return None
        if uri not in self._row_ids:
            self._row_ids[uri] = row_id_by_uri(self._archive.connection, uri.encode(errors="surrogateescape"))
        return self._row_ids[uri]

    def _all_files(self, posts: Sequence[StoredPost]) -> dict[bytes, list[CopiedFile]]:
        """Uri → the media files of the post: those that the archive has for it, and those that its embed shows."""
        schema = self._archive.schema
        if not schema.has_media_columns or "json_each" in schema.tables:
            return {}
        shown = {as_bytes(post["uri"]): _digests(as_bytes(post["embed_data"])) for post in posts if post["has_media"]}
        if not shown:
            return {}
        details = ("mime_type", "width", "height", "alt_text")
        cells = ", ".join(
            "null"
            if schema.media_columns.get(name, True)
            else f"iif(typeof({name}) = 'integer', {name}, substr(cast({name} as blob), 1, {_MOST_ALT_BYTES}))"
            for name in details
        )
        rows: Any = self._archive.connection.execute(
            f"select rowid, cast(hash as blob), cast(post_uri as blob), substr(cast(file_path as blob), 1,"
            f" {_LONGEST_PATH_BYTES}), iif(typeof(size_bytes) = 'integer', size_bytes, 0), {cells} from media"
            " where post_uri in (select value from json_each(:uris)) or hash in (select value from json_each(:hashes))"
            f" limit {_MOST_MEDIA_ROWS}",
            {
                "uris": orjson.dumps([uri.decode(errors="replace") for uri in shown]).decode(),
                "hashes": orjson.dumps(sorted(set().union(*shown.values()))).decode(),
            },
        )
        files: dict[bytes, list[CopiedFile]] = {}
        for row_id, digest, post_uri, path, size, kind, width, height, alt in rows:
            sha256 = as_bytes(digest).decode(errors="replace")
            name = MediaFile(sha256, as_bytes(path).decode(errors="replace")).name
            if name is None:
                continue
            suffix = name.rpartition(".")[2]
            file = CopiedFile(
                sha256, f"{self._address}/media/{row_id}.{suffix}", _text(kind), _number(width), _number(height),
                _number(size), _text(alt),
            )  # fmt: skip
            for uri, digests in shown.items():
                of_post = files.setdefault(uri, [])
                if len(of_post) < _MOST_FILES and (uri == as_bytes(post_uri) or sha256 in digests):
                    of_post.append(file)
        return files


def _digests(embed: bytes) -> set[str]:
    """The SHA-256 in the names of files that an embed shows."""
    with contextlib.suppress(ValueError):
        return {digest for name in media_names(embed).split(b";") if (digest := digest_of(name))} if embed else set()
    return set()


def _did_in(uri: bytes) -> str:
    did = uri.decode(errors="replace").removeprefix("at://").partition("/")[0]
    return did if is_did(did) else ""


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else ""


def _number(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0
