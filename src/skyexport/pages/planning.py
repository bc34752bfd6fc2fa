"""Which post is on which page: decided in one pass over the archive, before anything is rendered.

The pass notes of each selected post its author, its time, the sizes of its text and embed, its likes, and which post it
answers, in a database of its own in a private folder. Sorting that by author and time cuts it into pages, which
end at 200 posts or 64 KB, so that all links are known. Workers read the database and never write it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import apsw

from skyexport import json_text
from skyexport.archive.archive import Archive
from skyexport.archive.plan import PageNumber
from skyexport.archive.profiles import Profile
from skyexport.pages.addresses import anchor_of
from skyexport.pages.cutting import cut, sort_posts
from skyexport.pages.limits import LONGEST_URI_BYTES
from skyexport.posts import stored_value_sql, utc_time
from skyexport.runtime.media_root import PresentFile
from skyexport.runtime.scratch import no_room
from skyexport.selection import Selection

__all__ = ["PagePlan", "Whole", "plan_pages"]

_TABLES = """
create table author (
  id integer primary key, did blob unique, handle text, name text, about text, earlier text,
  folder text, first integer, posts integer, since text, until text
);
create table found (row_id integer primary key, author integer, time text, uri blob, anchor text, text_bytes integer,
  embed_bytes integer, likes integer, answers integer);
create table post (seq integer primary key, row_id integer, author integer, time text, anchor text, likes integer,
  bytes integer, answers integer);
create table page (id integer primary key, kind text, author integer, month text, number integer, first integer,
  posts integer, path text, position integer);
create table member (place integer primary key, seq integer, page integer);
create table whole (path text, column_name text, row_id integer);
create table file (uri blob, sha256 text, name text, mime_type text, width integer, height integer,
  size integer, alt text);
create table known (kind text, uri blob, row_id integer, primary key (kind, uri)) without rowid;
"""


_KNOWN = "select row_id from known where kind = ? and uri = ?"


@dataclass(frozen=True, slots=True)
class Whole:
    """A value that is too large for a page, and gets a file of its own."""

    path: str
    column: str
    row_id: int


class PagePlan:
    """The database of a plan, open for the process that made it.

    Args:
        path: Where to make it: in a private folder.

    Raises:
        OutputError: There is no room.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.connection = apsw.Connection(str(path))
        except apsw.Error as error:
            raise no_room(OSError(0, str(error))) from error
        for setting in ("journal_mode = off", "synchronous = off", "cache_size = -16000", "temp_store = file"):
            self.connection.execute(f"pragma {setting}").fetchall()
        self.connection.execute(_TABLES)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # Its folder is removed by the owner.
        self.connection.close()

    def count_posts(self) -> int:
        """The number of posts on all pages of months together."""
        posts: Any = self.connection.execute("select count(*) from post").get
        return int(posts)

    def units(self) -> Iterator[PageNumber]:
        """The pages in the order in which they are rendered."""
        rows: Any = self.connection.execute(
            "select id, iif(kind in ('month', 'undated'), posts, 0) from page order by position, id"
        )
        for number, posts in rows:
            yield PageNumber(number, posts)

    def files(self) -> Iterator[tuple[str, str, int]]:
        """Kind, path and first post of each page, in the order of `units`."""
        yield from self._rows("select kind, path, first from page order by position, id")

    def wholes(self) -> Iterator[Whole]:
        """The values that get files of their own."""
        for row in self._rows("select path, column_name, row_id from whole order by path"):
            yield Whole(*row)

    def months(self) -> Iterator[tuple[str, int]]:
        """Each month that has posts, like "2024-05", and the rank of its first post; "" for undated ones."""
        yield from self._rows("select ifnull(substr(time, 1, 7), ''), min(rank) from ranked group by 1 order by 2")

    def documents(self) -> Iterator[int]:
        """The rank of the first post in each file of documents."""
        for (first,) in self._rows("select first from page where kind = 'posts' order by first"):
            yield first

    def authors(self) -> Iterator[tuple[str, str]]:
        """Name and handle of each author with posts, in the order of their numbers."""
        for did, handle, name in self._rows("select did, handle, name from author where posts order by id"):
            yield name or handle or json_text.decode(did), handle

    def count_authors(self) -> int:
        """The number of authors with posts."""
        authors: Any = self.connection.execute("select count(*) from author where posts").get
        return int(authors)

    def add_files(self, files: Iterable[PresentFile]) -> None:
        """Note the media files of posts."""
        rows = (
            (
                file.uri, file.sha256, file.name, json_text.decode(file.mime_type), file.width, file.height,
                file.size_bytes, json_text.decode(file.alt_text),
            )
            for file in files
        )  # fmt: skip
        self._fill("insert into file values (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        self.connection.execute("create index file_uri on file(uri)")

    def _rows(self, sql: str) -> Any:
        return self.connection.execute(sql)

    def _fill(self, sql: str, rows: Iterable[tuple[Any, ...]]) -> None:
        with self.connection:
            self.connection.executemany(sql, rows)


def plan_pages(
    plan: PagePlan, archive: Archive, selection: Selection, people: Iterable[Profile], check: Callable[[], None]
) -> None:
    """Decide which posts are on which pages.

    Args:
        plan: Empty, filled here.
        archive: Held in one state.
        selection: The posts to export.
        people: What the archive knows of people; a copy of its posts does not have that.
        check: Called now and then; an exception from it ends this.
    """
    with archive.translating_errors():
        _note_people(plan, people)
        _note_posts(plan, archive, selection, check)
    sort_posts(plan.connection)
    check()
    cut(plan.connection, check)


def _note_people(plan: PagePlan, people: Iterable[Profile]) -> None:
    plan._fill(
        "insert into author (did, handle, name, about, earlier) values (?, ?, ?, ?, ?)",
        (
            (person.did, person.handle, person.name, person.about, json.dumps(person.earlier_handles))
            for person in people
        ),
    )


def _note_posts(plan: PagePlan, archive: Archive, selection: Selection, check: Callable[[], None]) -> None:
    connection, columns = archive.connection, archive.columns
    selection.register(connection)
    # Two values of different types are never equal.
    answers = ("null", "(select min(rowid) from posts as answered where answered.uri = posts.reply_parent)")
    if archive.schema.uri_index is None:
        answers = ("typeof(reply_parent)", "cast(reply_parent as blob)")
        uris: Any = connection.execute(
            "select typeof(uri), cast(uri as blob), rowid from posts"
            f" where octet_length(uri) <= {LONGEST_URI_BYTES} order by rowid"
        )
        plan._fill("insert or ignore into known values (?, ?, ?)", uris)
    values = (
        "posts.rowid", "cast(did as blob)", stored_value_sql(columns, "created_at"),
        f"iif(octet_length(uri) <= {LONGEST_URI_BYTES}, cast(uri as blob), null)",
        "ifnull(octet_length(text), 0)", "ifnull(octet_length(embed_data), 0)",
        "iif(typeof(like_count) = 'integer', like_count, 0)",
        *(f"iif(octet_length(reply_parent) between 1 and {LONGEST_URI_BYTES}, {sql}, null)" for sql in answers),
    )  # fmt: skip
    authors = _AuthorNumbers(plan)
    ways = [("true", {})] if selection.by_list else [(span.where, span.parameters) for span in selection.spans()]

    def rows() -> Iterator[tuple[object, ...]]:
        for where, parameters in ways:
            sql = f"select {', '.join(values)} from posts where {where} and {selection.where_sql()}"
            found: Any = connection.execute(sql, {**selection.parameters(), **parameters})
            for number, (row_id, did, time, uri, *numbers, kind, answered) in enumerate(found):
                if not number % 1000:
                    check()
                if isinstance(answered, bytes):
                    known = plan.connection.execute(_KNOWN, (kind, answered))
                    answered = known.get
                anchor = anchor_of(uri, did or b"", row_id)
                yield row_id, authors.number_of(did), utc_time(time), uri, anchor, *numbers, answered

    plan._fill("insert into found values (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows())
    if archive.schema.uri_index is None:
        # Without a key, several posts may have the same uri.
        plan.connection.execute("""
            update found set anchor = '*r' || row_id where row_id in (
              select row_id from (
                select row_id, row_number() over (partition by author, anchor order by row_id) as place from found
              ) where place > 1
            )
        """)


class _AuthorNumbers:
    """Numbers of authors, of which there may be as many as posts."""

    def __init__(self, plan: PagePlan) -> None:
        self._connection = plan.connection
        self._known: dict[bytes, int] = {}

    def number_of(self, did: bytes | None) -> int:
        did = did or b""
        number = self._known.get(did)
        if number is None:
            self._connection.execute(
                "insert or ignore into author (did, handle, name, about, earlier) values (?, '', '', '', '[]')", (did,)
            )
            row: Any = self._connection.execute("select id from author where did = ?", (did,)).get
            number = int(row)
            if len(self._known) > 10_000:
                self._known.clear()
            self._known[did] = number
        return number
