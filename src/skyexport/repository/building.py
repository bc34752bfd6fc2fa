"""The archive that an import makes: a database under a hidden name, new or begun as a copy of the one it will replace.

Nothing else writes to that database, and it is synced as a whole before it gets its name, so SQLite needs no journal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import apsw

from skyexport.posts import COLUMNS
from skyexport.repository.blobs import CopiedBlob, Wanted, media_path
from skyexport.repository.blocks import RAW_CID, cid_text
from skyexport.repository.databases import errors_of
from skyexport.repository.embeds import Blob
from skyexport.repository.existing import Existing
from skyexport.repository.posts import Post, Profile
from skyexport.repository.tables import (
    CREATED_AT_INDEX,
    EXPORTS_TABLE,
    FULL_TEXT_TABLE,
    IMPORTED_ID,
    INDEXES,
    SCHEMA_VERSION,
    TABLES,
    TRIGGERS,
)
from skyexport.runtime.sqlite_files import distrust

__all__ = ["Building"]

_ROWS_AT_ONCE = 2000
"""Posts that are inserted together. A thread for that was tried: it waits for Python as long as it saves."""

_BYTES_AT_ONCE = 4_000_000
"""Or as many as have this size together."""

_STEPS = 100_000
"""SQLite steps between two looks for signals: some milliseconds."""

_SHA256_DIGITS = 64

_UNCHANGED = ("uri", "did", "like_count", "repost_count", "reply_count", "quote_count", "archived_at")
"""Columns of a post that stay when a newer repository has another record under its key."""

_REPLACE = (
    f"update set {', '.join(f'{name} = excluded.{name}' for name in COLUMNS if name not in _UNCHANGED)}"
    " where posts.cid <> excluded.cid"
)
_TEMPORARY = """
create temp table seen (uri text primary key) without rowid;
create temp table changed (uri text primary key) without rowid;
create temp table shown (hash text, post_uri text, mime_type text, file_path text, size_bytes integer, width integer,
                         height integer, alt_text text, created_at text);
"""
_GONE = "select uri from posts where did = ?1 and uri not in (select uri from seen)"


class Building:
    """The growing archive. Use it in a `with` statement.

    Args:
        path: A new, empty file.
        existing: The archive to begin with, if there is one; None for a new one.
        check: Called again and again, a few milliseconds apart; an exception that it raises ends the import.

    Raises:
        OutputError: There is no room.
    """

    def __init__(self, path: Path, existing: Existing | None, check: Callable[[], None]) -> None:

        def look() -> bool:
            check()
            return False

        self._path = path
        with errors_of(path):
            self._connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        self.is_new = existing is None or existing.connection is None
        self._posts: list[Post] = []
        self._posts_bytes = 0
        self._on_conflict = _REPLACE
        self.written = 0
        """Posts that were inserted or changed."""
        try:
            with errors_of(path):
                for name, value in (("journal_mode", "off"), ("synchronous", "off"), ("cache_size", -16_000)):
                    self._connection.pragma(name, value)
                if existing is not None:
                    existing.copy_to(self._connection, check)
                distrust(self._connection)
                self._connection.set_progress_handler(look, _STEPS)
                self._connection.execute("begin")
                if self.is_new:
                    self._connection.pragma("application_id", IMPORTED_ID)
                    self._connection.execute(TABLES + EXPORTS_TABLE + FULL_TEXT_TABLE)
                else:
                    for name in ("posts_ai", "posts_ad", "posts_au"):
                        self._connection.execute(f"drop trigger {name}")
                self._connection.execute(_TEMPORARY)
        except BaseException:
            self._connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def latest(self, did: str) -> tuple[str, str] | None:
        """Handle and time of the latest profile of an account; None if the archive has none."""
        found = self._rows(
            "select handle, snapshot_at from profiles where did = ? order by snapshot_at desc limit 1", did
        )
        return next(((str(handle), str(time)) for handle, time in found), None)

    def _rows(self, statement: str, *parameters: Any) -> Iterator[tuple[Any, ...]]:
        with errors_of(self._path):
            yield from self._connection.execute(statement, parameters)

    def begin(self, *, replaces: bool) -> None:
        """Begin with the posts of an account.

        Args:
            replaces: Whether a post replaces the one that the archive has under its URI, if it is another.
        """
        self._on_conflict = _REPLACE if replaces else "nothing"

    def add(self, post: Post) -> None:
        """Add a post; its URI must be greater than that of the one before."""
        self._posts.append(post)
        self._posts_bytes += len(post.row[3]) + len(post.row[14]) + len(post.row[15])
        if len(self._posts) == _ROWS_AT_ONCE or self._posts_bytes > _BYTES_AT_ONCE:
            self._insert(self._taken())

    def _taken(self) -> list[Post]:
        """The posts that are to be inserted next."""
        posts, self._posts, self._posts_bytes = self._posts, [], 0
        return posts

    def _insert(self, posts: list[Post]) -> None:
        with errors_of(self._path):
            if not self.is_new and self._on_conflict == _REPLACE:
                self._insert_rows("changed (uri)", self._changed(posts))
            before = self._connection.total_changes()
            self._insert_rows(f"posts ({', '.join(COLUMNS)})", [post.row for post in posts], self._on_conflict)
            self.written += self._connection.total_changes() - before
            if self.is_new:
                # Row ids count from 1: the newest posts are those that the index of words does not have.
                self._connection.execute(
                    "insert into posts_fts (rowid, uri, text) select rowid, uri, text from posts where rowid > ?",
                    (self.written - len(posts),),
                )
            else:
                self._insert_rows("seen (uri)", [(post.row[0],) for post in posts])
            self._insert_rows("shown", [_media_row(blob, post) for post in posts for blob in post.blobs])

    def _changed(self, posts: list[Post]) -> list[tuple[Any, ...]]:
        """The posts, by URI, that the archive has with another content."""
        cids = {post.row[0]: post.row[1] for post in posts}
        places = ", ".join("?" * len(cids))
        found = self._rows(f"select uri, cid from posts where uri in ({places})", *cids)
        return [(uri,) for uri, cid in found if cids[uri] != cid]

    def _insert_rows(self, table: str, rows: Sequence[tuple[Any, ...]], on_conflict: str = "") -> None:
        if rows:
            then = f" on conflict (uri) do {on_conflict}" if on_conflict else ""
            places = ", ".join("?" * len(rows[0]))
            self._connection.executemany(f"insert into {table} values ({places}){then}", rows)

    def count_posts(self, did: str) -> int:
        """The posts of an account."""
        if posts := self._taken():
            self._insert(posts)
        return self._number("select count(*) from posts where did = ?", did)

    def gone(self, did: str) -> Iterator[str]:
        """The posts of an account that were not added, by URI."""
        if not self.is_new:
            for (uri,) in self._rows(f"{_GONE} order by uri", did):
                yield str(uri)

    def remove_gone(self, did: str) -> None:
        """Remove the posts of an account that were not added, and what the archive knows about their media alone."""
        shared = []
        for (sha256,) in self._rows(f"select hash from media where post_uri in ({_GONE}) and hash not in"
                                    " (select hash from shown) order by hash", did):  # fmt: skip
            name = cid_text(RAW_CID + bytes.fromhex(sha256)) if len(sha256) == _SHA256_DIGITS else sha256
            shared.append((name, did, sha256))
        with errors_of(self._path):
            # A file of which the archive remembers one post may be shown by others, of other accounts.
            self._connection.executemany(
                "update media set post_uri = ifnull((select uri from posts where instr(embed_data, ?1) and did <> ?2"
                " order by uri limit 1), post_uri) where hash = ?3", shared,
            )  # fmt: skip
            self._connection.execute(f"delete from media where post_uri in ({_GONE})", (did,))
            self._connection.execute(f"delete from posts where uri in ({_GONE})", (did,))

    def finish(self, did: str, handle: str, profile: Profile, follows: int, archived_at: str) -> None:
        """Add the profile and the media, and make the indexes."""
        posts = self.count_posts(did)
        with errors_of(self._path):
            connection = self._connection
            connection.execute("delete from media where post_uri in (select uri from changed)")
            connection.execute(
                "insert into media select * from shown where post_uri in (select uri from posts)"
                " order by rowid on conflict (hash) do nothing"
            )
            connection.execute(
                "insert or replace into profiles values (?, ?, ?, ?, ?, ?, 0, ?, ?, ?)",
                (did, handle, profile.display_name, profile.description, profile.avatar, profile.banner, follows, posts,
                 archived_at),
            )  # fmt: skip
            if self.is_new:
                connection.executemany(
                    "insert into schema_version values (?, ?)",
                    [(version, archived_at) for version in range(1, SCHEMA_VERSION + 1)],
                )
                connection.execute(INDEXES + CREATED_AT_INDEX)
            else:
                connection.execute("insert into posts_fts(posts_fts) values ('rebuild')")
            connection.execute(TRIGGERS)
            connection.execute("commit")

    def wanted(self) -> Iterator[Wanted]:
        """The media of the posts that were added: each once, and where its file belongs."""
        # The archive may be a stranger's: paths in it are not used.
        for sha256, mime_type in self._rows(
            "select hash, mime_type from media where hash in (select hash from shown) order by hash"
        ):
            yield Wanted(str(sha256), media_path(str(sha256), str(mime_type)))

    def note_sizes(self, copied: Iterable[CopiedBlob]) -> None:
        """Note the sizes of the media files that are there: a record may say another size, or none."""
        with errors_of(self._path):
            self._connection.execute("begin")
            for sha256, file_path, size in copied:
                self._connection.execute(
                    "update media set size_bytes = ?, file_path = ? where hash = ?", (size, file_path, sha256)
                )
            self._connection.execute("commit")

    def count_media(self) -> int:
        """The media that the added posts show."""
        return self._number("select count(distinct hash) from shown")

    def _number(self, statement: str, *parameters: str) -> int:
        ((number,),) = self._rows(statement, *parameters)
        return int(number)


def _media_row(blob: Blob, post: Post) -> tuple[str, str, str, str, int, int, int, str, str]:
    return (
        blob.sha256, post.row[0], blob.mime_type, media_path(blob.sha256, blob.mime_type), blob.bytes, blob.width,
        blob.height, blob.alt_text, post.row[-1],
    )  # fmt: skip
