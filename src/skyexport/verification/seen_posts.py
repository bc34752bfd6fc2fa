"""The posts of earlier exports, which the connection with the archive's state compares with its posts.

Neither side is ever in memory as a whole. The posts of the first export, usually the full one, go into files, in export
order (`KeyFiles`). The archive's posts are read in the same order, and posts that both have are passed by:

    export   ┤   ■■■■■■■■■■■■■■■■■ ■■■■■■■■■■■├  the same posts: seen
    archive  ┤□□□■■■■■■■■■■■■■■■■■□■■■■■■■■■■■├  other posts: looked up in the table

The posts of the files that are left, and those of all other exports, are in a table. Two values are equal if an export
would write them the same. Nearly always the stored bytes already tell: SQL compares them first, and asks the slower
functions in Python only about the rest.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import apsw

from skyexport.archive.authorizer import Authorizer
from skyexport.archive.plan import Batch
from skyexport.archive.source import as_number, translate_sqlite_errors
from skyexport.json_text import decode
from skyexport.posts import StoredValue, as_bytes, stored_value_sql, usual_time, usual_time_seconds
from skyexport.runtime.for_tests import Limit
from skyexport.runtime.scratch import Scratch
from skyexport.verification.key_columns import ArchiveColumns, KeyFiles, Values, are_usual_times, key_of
from skyexport.verification.post_keys import LONGEST_VALUE, PostKey, comparable

__all__ = ["SeenPosts", "exported_time_sql"]

_CACHE_KIB = 16_000
"""Page cache while the table is filled. It can be small: exports have nearly the same order as the table."""

_ATTACHED = "earlier"
_TABLE = "seen_posts"
_OTHERS = "other_posts"
_TEXT = "sky_comparable"
_TIME = "sky_comparable_time"
_SECOND = "sky_comparable_second"

_GONE = -1
"""The number that stands for an export in the rows of posts that later exports list as disappeared."""

_POSTS_AHEAD = Limit("POSTS_AHEAD", 3000)
"""Posts of the files among which those of a batch are sought, if they are not simply the next ones."""


class SeenPosts:
    """The files and the table, in a private directory that `close` removes.

    Call `add`, `remove` and `to_second` first, then `compare`, and then the rest.

    Raises:
        OutputError: There is no room for them.
    """

    def __init__(self) -> None:
        self._scratch = Scratch()
        self._path = self._scratch.path / "earlier.db"
        self._table: apsw.Connection | None = None
        self._keys: KeyFiles | None = None
        self._left = 0
        """Posts of the files that the archive did not have in the same state."""
        self._to_second: list[int] = []
        self._others_known = False
        """Whether *_OTHERS* has all posts of the archive that were not passed by."""
        try:
            self._keys = KeyFiles(self._scratch.path)
            os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            with self._translating_errors():
                self._table = apsw.Connection(str(self._path))
                self._table.pragma("journal_mode", "off")
                self._table.pragma("synchronous", 0)
                self._table.pragma("cache_size", -_CACHE_KIB)
                self._table.execute(
                    # Descending: exports begin with the newest posts, so nearly every row goes behind the last one.
                    f"create table {_TABLE} (seen_uri blob, seen_cid blob, seen_time blob, export integer,"
                    " time_is_usual integer, primary key (seen_uri desc)) without rowid"
                )
                self._table.execute(f"create table {_OTHERS} (row_id integer primary key)")
                self._table.execute("begin")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Remove everything. Calling this again does no harm."""
        if self._keys is not None:
            self._keys.close()
        if self._table is not None:
            self._table.close()
        self._scratch.close()

    def _translating_errors(self) -> contextlib.AbstractContextManager[None]:
        return translate_sqlite_errors(str(self._path))

    def _execute(self, sql: str, rows: Iterable[tuple[apsw.SQLiteValue, ...]] = ((),)) -> None:
        assert self._table is not None
        with self._translating_errors():
            self._table.executemany(sql, rows)

    def add(self, export: int, keys: list[PostKey]) -> None:
        """Add posts of an export; they replace those of the exports before.

        Args:
            export: A number for it, from 0.
            keys: The keys of the posts.
        """
        if export == 0:
            assert self._keys is not None
            self._keys.add(keys)
        else:
            self._add("insert or replace", export, keys)

    def _add(self, insert: str, export: int, keys: list[PostKey]) -> None:
        usual = are_usual_times(keys)
        self._execute(
            f"{insert} into {_TABLE} values (?, ?, ?, {export}, {usual:d})", (key for key in keys if key[0] is not None)
        )

    def remove(self, uris: Iterable[str]) -> None:
        """Remove the posts with these uris, which had disappeared when the export was made that was added last."""
        rows = ((uri,) for uri in map(comparable, uris) if uri is not None)
        self._execute(f"insert or replace into {_TABLE} values (?, null, null, {_GONE}, 0)", rows)

    def to_second(self, export: int) -> None:
        """Compare times of this export only to the second: it cuts them off there."""
        self._to_second.append(export)

    def compare(self, connection: apsw.Connection, schema: str, index: str | None) -> None:
        """Compare the files with the archive, then attach the table to the connection. It may be called again.

        Args:
            connection: A restricted connection that holds a state of the archive.
            schema: The archive's schema name in the connection.
            index: The archive's index on created_at; None if it has none, so that all posts are looked up.

        Raises:
            ArchiveChangedError: The index is damaged.
        """
        assert self._keys is not None
        assert self._table is not None
        if not self._table.in_transaction:
            self._execute("begin")
            self._execute(f"delete from {_TABLE} where export = 0")
            self._execute(f"delete from {_OTHERS}")
        self._keys.rewind()
        self._left = 0
        self._others_known = index is not None and self._keys.posts > 0
        if index is not None and self._others_known:
            archive = ArchiveColumns(connection, schema, index, to_second=0 in self._to_second)
            for batch in archive.batches():
                columns = archive.columns(batch)
                if columns is None or not self._keys.skip(columns):
                    self._compare_one_by_one(archive, batch)
        while posts := self._keys.next(_POSTS_AHEAD.value):
            self._leave(posts)
            self._keys.pass_by(posts)
        self._execute("commit")
        self.prepare(connection)

    def _compare_one_by_one(self, archive: ArchiveColumns, batch: Batch) -> None:
        """Note the posts of a batch that are not ahead in the files, and pass by the others."""
        assert self._keys is not None
        rows = archive.rows(batch)
        posts = self._keys.next(_POSTS_AHEAD.value)
        ahead = {values: place for place, values in enumerate(posts)}
        places = {ahead[values] for _, values in rows if values in ahead}
        passed = posts[: max(places, default=-1) + 1]
        if len(passed) == len(places) == len(rows):
            # Only their order differs.
            archive.by_uri = True
        self._keys.pass_by(passed)
        self._leave([values for place, values in enumerate(passed) if place not in places])
        others = [(row_id,) for row_id, values in rows if values not in ahead]
        self._execute(f"insert into {_OTHERS} values (?)", others)

    def _leave(self, posts: list[Values]) -> None:
        """Put these posts into the table, unless a later export has replaced them."""
        self._left += len(posts)
        if posts:
            self._add("insert or ignore", 0, list(map(key_of, posts)))

    def prepare(self, connection: apsw.Connection) -> None:
        """Attach the table to a restricted connection, and add the functions that compare unusual values.

        Before `compare` has filled the table, this does nothing.
        """
        assert self._table is not None
        if self._table.in_transaction or _ATTACHED in connection.db_names():
            return
        authorizer = Authorizer.of(connection)
        authorizer.attach(connection, f"{self._path.as_uri()}?mode=ro&immutable=1", _ATTACHED)
        authorizer.allow_reading({_TABLE, _OTHERS})
        functions: dict[str, Any] = {_TEXT: _comparable_text, _TIME: _comparable_time, _SECOND: _comparable_second}
        for name, function in functions.items():
            connection.create_scalar_function(name, function, 1, deterministic=True)

    def unseen_sql(self, schema: str) -> str:
        """SQL that is true for posts of *schema*.posts that are new or changed since the exports, after `compare`."""
        stored = stored_value_sql({"indexed_at": "indexed_at"}, "indexed_at")
        usual, slow = exported_time_sql("indexed_at", to_second=False), f"{_TIME}({stored})"
        if self._to_second:
            exports = ", ".join(map(str, self._to_second))
            usual = f"iif(export in ({exports}), {exported_time_sql('indexed_at', to_second=True)}, {usual})"
            slow = f"iif(export in ({exports}), {_SECOND}({stored}), {slow})"
        seen = f"exists (select 1 from {_ATTACHED}.{_TABLE} where seen_uri ="
        unseen = (
            f"not ({seen} uri and seen_cid = cid and time_is_usual and seen_time = {usual})"
            f" or {seen} {_text_sql('uri')} and seen_cid = {_text_sql('cid')} and seen_time = {slow}))"
        )
        if not self._others_known:
            return unseen
        # A post that was passed by is unseen nevertheless if a later export had it in another state.
        return (
            f"(rowid in (select row_id from {_ATTACHED}.{_OTHERS} union all select rowid from {schema}.posts"
            f" where uri in (select seen_uri from {_ATTACHED}.{_TABLE} where export <> 0)) and {unseen})"
        )

    def gone(self, connection: apsw.Connection, schema: str, *, uri_index: bool) -> Iterator[tuple[str, int]]:
        """The uri, and the number of the export, of each post that *schema*.posts no longer has, by the uris' bytes.

        Args:
            connection: The connection of `compare`.
            schema: The archive's schema name in the connection.
            uri_index: Whether the archive has an index on uri.
        """
        # The archive's own columns may have any other names.
        text = _text_sql("uri")
        if uri_index:
            # A uri that is not found may be stored in other bytes, which an export writes the same.
            there = (
                f"exists (select 1 from {schema}.posts where uri = {_TABLE}.seen_uri) or seen_uri in"
                f" (select {text} from {schema}.posts where {text} is not uri and {text} is not null)"
            )
        else:
            there = f"seen_uri in (select {text} from {schema}.posts where {text} is not null)"
        for uri, export in connection.execute(
            f"select seen_uri, export from {_ATTACHED}.{_TABLE} where export <> {_GONE} and not ({there})"
            " order by seen_uri"
        ):
            assert isinstance(uri, str)
            assert isinstance(export, int)
            yield uri, export

    def count(self, connection: apsw.Connection, exports: Collection[int]) -> int:
        """The number of posts from these exports, after `compare` with *connection*."""
        assert self._keys is not None
        numbers = ", ".join(map(str, exports))
        posts = connection.execute(f"select count(*) from {_ATTACHED}.{_TABLE} where export in ({numbers})").get
        return as_number(posts) + (self._keys.posts - self._left if 0 in exports else 0)


def exported_time_sql(stored: str, *, to_second: bool) -> str:
    """SQL for what an export writes for a time as Go prints it.

    If it is a usual time, an export writes it. Otherwise it says nothing.

    Args:
        stored: The column with that time.
        to_second: Whether the export cuts off the fraction.
    """
    utc = f"instr({stored}, ' +0000 UTC')"
    is_usual = (
        f"octet_length({stored}) = length({stored}) and instr({stored}, '\n') = 0 and substr({stored}, 11, 1) = ' '"
        f" and substr({stored}, {utc} + 10, 3) in ('', ' m=')"
    )
    length = f"{utc} - 12"
    if to_second:
        digits = f"substr({stored}, 21, {utc} - 21)"
        is_usual += (
            f" and ({utc} = 20 or ({utc} between 22 and 30 and substr({stored}, 20, 1) = '.'"
            f" and ltrim({digits}, '0123456789') = '' and {digits} not glob '*0'))"
        )
        length = "8"
    return f"iif({is_usual}, substr({stored}, 1, 10) || 'T' || substr({stored}, 12, {length}) || 'Z', '')"


def _text_sql(column: str) -> str:
    """SQL for the comparable value of a text."""
    plain = (
        f"typeof({column}) = 'text' and octet_length({column}) = length({column})"
        f" and octet_length({column}) <= {LONGEST_VALUE} and {column} not glob '*[^ -~]*'"
    )
    return f"iif({plain}, {column}, {_TEXT}(cast({column} as blob)))"


def _comparable_text(stored: StoredValue) -> str | None:
    return comparable(decode(as_bytes(stored)))


def _comparable_time(stored: StoredValue) -> str | None:
    time = usual_time(stored)
    return _comparable_text(stored) if time is None else time


def _comparable_second(stored: StoredValue) -> str | None:
    time = usual_time_seconds(stored)
    return _comparable_text(stored) if time is None else time
