"""Cutting the posts of a plan into pages: months, threads, and the files that search reads.

The oldest posts come first, so that a later export of a grown archive changes only the last page of a month.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import apsw

from skyexport.pages import paths
from skyexport.pages.addresses import file_stem_of
from skyexport.pages.limits import MOST_EMBED_BYTES, MOST_TEXT_BYTES
from skyexport.posts import as_bytes

__all__ = ["cut", "sort_posts"]

_PAGE_POSTS = 200
"""Posts on a page at most: a phone shows more only slowly."""

_PAGE_BYTES = 64_000
"""Stored bytes of texts and embeds on a page at most; a single post may have more."""

_DOCUMENTS = 400
"""Posts in a file for the snippets of search at most."""

_DOCUMENTS_BYTES = 256_000
"""Stored bytes of their texts and embeds at most."""

_LAST = 1 << 60
"""Position of pages that are rendered after all posts."""

_ADD_PAGE = (
    "insert into page (kind, author, month, number, first, posts, path, position) values (?, ?, ?, ?, ?, ?, ?, ?)"
)


def sort_posts(connection: apsw.Connection) -> None:
    """Number the authors by their posts, most first, and the posts by author, time and uri; undated ones come first."""
    connection.execute("""
        create temp table counted as select author as old, count(*) as posts from found group by 1;
        create temp table renumbered as
        select row_number() over (order by ifnull(counted.posts, 0) desc, did) as id, author.id as old,
          ifnull(counted.posts, 0) as posts
        from author left join counted on counted.old = author.id;
        create unique index temp.renumbered_old on renumbered(old);
        insert into post (row_id, author, time, anchor, likes, bytes, answers)
        select row_id, renumbered.id, time, anchor, likes, text_bytes + embed_bytes, answers
        from found cross join renumbered on renumbered.old = found.author
        order by 2, 3, uri, 1;
        create temp table people as
        select renumbered.id, did, handle, name, about, earlier, renumbered.posts
        from author join renumbered on renumbered.old = author.id;
        delete from author;
        insert into author (id, did, handle, name, about, earlier, posts) select * from temp.people order by 1;
        create temp table spans as
        select author as of, min(seq) as first, min(time) as since, max(time) as until from post group by 1;
        create unique index temp.spans_of on spans(of);
        update author set (first, since, until) = (select first, since, until from temp.spans where of = author.id)
        where posts;
        drop table temp.counted; drop table temp.spans; drop table temp.people; drop table temp.renumbered;
        create unique index post_row on post(row_id);
    """)
    several = _number(connection, "select count(*) > 1 from author where posts")
    people: list[Any] = connection.execute("select id, did from author where posts").fetchall()
    folders = ((paths.author_folder(as_bytes(did)) if several else "", number) for number, did in people)
    connection.executemany("update author set folder = ? where id = ?", folders)
    if several:
        connection.execute("""
            create table ranked (rank integer primary key, seq integer, time text);
            insert into ranked (rank, seq, time)
            select row_number() over (order by post.time, uri, post.row_id) - 1, seq, post.time
            from post join found on found.row_id = post.row_id
        """)
    else:
        connection.execute("create view ranked as select seq - 1 as rank, seq, time from post")


def cut(connection: apsw.Connection, check: Callable[[], None]) -> None:
    """Cut the sorted posts into pages, with all that links need.

    Args:
        connection: The database of the plan.
        check: Called now and then; an exception from it ends this.
    """
    folders: dict[int, str] = dict(connection.execute("select id, folder from author where posts"))
    with connection:
        connection.executemany(_ADD_PAGE, _months(connection, folders, check))
        connection.execute("create index page_first on page(first) where kind in ('month', 'undated')")
        _find_threads(connection)
        check()
        _cut_threads(connection, folders)
        check()
        connection.executemany(_ADD_PAGE, _documents(connection, check))
        _add_wholes(connection, folders)
        for author, folder in folders.items():
            _add(connection, "author", author, f"{folder}index.html")
        if len(folders) != 1:
            _add(connection, "authors", 0, "index.html")
        _add(connection, "search", 0, "search.html")
        connection.execute("create index page_month on page(author, month, number) where kind in ('month', 'undated')")
        connection.execute("create index page_thread on page(position) where kind = 'thread'")


def _add(connection: apsw.Connection, kind: str, author: int, path: str) -> None:
    connection.execute(_ADD_PAGE, (kind, author, "", 1, 0, 0, path, _LAST))


@dataclass(slots=True)
class _Filling:
    """A page that is being filled."""

    number: int
    first: int
    posts: int = 0
    size: int = 0

    def takes(self, size: int, most_posts: int, most_bytes: int) -> bool:
        return not self.posts or (self.posts < most_posts and self.size + size <= most_bytes)

    def add(self, size: int) -> None:
        self.posts += 1
        self.size += size


def _filled(items: Iterator[tuple[int, int]], most_posts: int, most_bytes: int) -> Iterator[_Filling]:
    """Cut (place, bytes) into pages."""
    page: _Filling | None = None
    for place, size in items:
        if page is None or not page.takes(size, most_posts, most_bytes):
            if page is not None:
                yield page
            page = _Filling(1 if page is None else page.number + 1, place)
        page.add(size)
    if page is not None:
        yield page


def _months(
    connection: apsw.Connection, folders: dict[int, str], check: Callable[[], None]
) -> Iterator[tuple[str | int, ...]]:
    rows: Any = connection.execute("select author, ifnull(substr(time, 1, 7), ''), seq, bytes from post order by seq")
    for (author, month), posts in groupby(rows, key=lambda row: (row[0], row[1])):
        check()
        for page in _filled(((seq, size) for _, _, seq, size in posts), _PAGE_POSTS, _PAGE_BYTES):
            path = folders[author] + paths.month_path(month, page.number)
            kind = "month" if month else "undated"
            yield kind, author, month, page.number, page.first, page.posts, path, page.first


def _find_threads(connection: apsw.Connection) -> None:
    """Find each post that answers one of the same author, and with it the post that began the thread."""
    connection.execute("""
        create temp table reply as
        select later.seq as seq, earlier.seq as parent
        from post as later cross join post as earlier on earlier.row_id = later.answers
        where later.answers is not null and earlier.author = later.author;
        create index temp.reply_parent on reply(parent);
        create index temp.reply_seq on reply(seq);
        create temp table threaded as
        with recursive thread(root, seq) as (
          select parent, parent from (select distinct parent from reply)
          where parent not in (select seq from reply)
          union all
          select root, reply.seq from thread cross join reply on reply.parent = thread.seq
        )
        select root, seq from thread;
        drop table temp.reply;
    """)


def _cut_threads(connection: apsw.Connection, folders: dict[int, str]) -> None:
    rows: Any = connection.execute("""
        select root, threaded.seq, bytes from temp.threaded cross join post on post.seq = threaded.seq order by 1, 2
    """)
    place = 0
    for root, posts in groupby(rows, key=lambda row: row[0]):
        author, month, stem = _thread(connection, root)
        members = [(seq, size) for _, seq, size in posts]
        begun = 0
        for page in _filled(iter(members), _PAGE_POSTS, _PAGE_BYTES):
            path = folders[author] + paths.thread_path(month, stem, page.number)
            row = ("thread", author, month, page.number, place, page.posts, path, root)
            connection.execute(_ADD_PAGE, row)
            number = connection.last_insert_rowid()
            listed = members[begun : begun + page.posts]
            begun += page.posts
            connection.executemany(
                "insert into member values (?, ?, ?)",
                ((place + index, seq, number) for index, (seq, _) in enumerate(listed)),
            )
            place += page.posts
    connection.execute("drop table temp.threaded")
    connection.execute("create index member_seq on member(seq)")


def _thread(connection: apsw.Connection, root: int) -> tuple[int, str, str]:
    """Author and month of the first post of a thread, and the stem of its file."""
    sql = "select author, ifnull(substr(time, 1, 7), ''), anchor from post where seq = ?"
    author, month, anchor = connection.execute(sql, (root,)).get
    return author, month, file_stem_of(anchor)


def _documents(connection: apsw.Connection, check: Callable[[], None]) -> Iterator[tuple[str | int, ...]]:
    rows: Any = connection.execute(
        "select rank, bytes from ranked cross join post on post.seq = ranked.seq order by rank"
    )
    for file in _filled(rows, _DOCUMENTS, _DOCUMENTS_BYTES):
        check()
        path = f"search/posts-{file.number:05}.js"
        yield "posts", 0, "", file.number, file.first, file.posts, path, file.first


def _add_wholes(connection: apsw.Connection, folders: dict[int, str]) -> None:
    """List the values that are too large for a page."""
    rows: Any = connection.execute(
        "select found.row_id, post.author, post.anchor, text_bytes, embed_bytes"
        " from found join post on post.row_id = found.row_id"
        f" where text_bytes > {MOST_TEXT_BYTES} or embed_bytes > {MOST_EMBED_BYTES}"
    ).fetchall()
    for row_id, author, anchor, text_bytes, embed_bytes in rows:
        stem = f"{folders[author]}texts/{file_stem_of(anchor)}"
        if text_bytes > MOST_TEXT_BYTES:
            connection.execute("insert into whole values (?, 'text', ?)", (f"{stem}.txt", row_id))
        if embed_bytes > MOST_EMBED_BYTES:
            connection.execute("insert into whole values (?, 'embed_data', ?)", (f"{stem}-embed.txt", row_id))


def _number(connection: apsw.Connection, sql: str) -> int:
    value: Any = connection.execute(sql).get
    return int(value)
