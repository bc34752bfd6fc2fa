"""The posts of earlier exports, which the connection with the archive's state compares with its posts.

Neither side is ever in memory as a whole. The posts of the first export, usually the full one, are lines of a file, in
export order (`KeyLines`). The archive's posts are read in the same order, and lines that both have are passed by:

    export   ┤■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■├  the same lines: seen
    archive  ┤□□□■■■■■■■■■■■■■■□■■■■■■■■■■■■■■├  other posts: looked up in the table

The lines that are left, and the posts of all other exports, are in a table. Two values are equal if an export would
write them the same. Nearly always the stored bytes already tell: SQL compares them first, and asks the slower functions
in Python only about the rest.
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
from skyexport.verification.key_lines import ArchiveLines, KeyLines, are_usual_times, exported_time_sql, key_of
from skyexport.verification.post_keys import LONGEST_VALUE, PostKey, comparable

__all__ = ["SeenPosts"]

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

_LINES_AHEAD = Limit("LINES_AHEAD", 3000)
"""Lines of the file among which the posts of a batch are sought, if they are not simply the next ones."""


class SeenPosts:
    """The file and the table, in a private directory that `close` removes.

    Call `add`, `remove` and `to_second` first, then `compare`, and then the rest.

    Raises:
        OutputError: There is no room for them.
    """

    def __init__(self) -> None:
        self._scratch = Scratch()
        self._path = self._scratch.path / "earlier.db"
        self._table: apsw.Connection | None = None
        self._lines: KeyLines | None = None
        self._left = 0
        """Lines of the file that were not passed by."""
        self._to_second: list[int] = []
        self._others_known = False
        """Whether *_OTHERS* has all posts of the archive that were not passed by."""
        try:
            self._lines = KeyLines(self._scratch.path / "keys")
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
        if self._lines is not None:
            self._lines.close()
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
            assert self._lines is not None
            self._lines.add(keys)
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
        """Compare the file with the archive, then attach the table to the connection. It may be called again.

        Args:
            connection: A restricted connection that holds a state of the archive.
            schema: The archive's schema name in the connection.
            index: The archive's index on created_at; None if it has none, so that all posts are looked up.

        Raises:
            ArchiveChangedError: The index is damaged.
        """
        assert self._lines is not None
        assert self._table is not None
        if not self._table.in_transaction:
            self._execute("begin")
            self._execute(f"delete from {_TABLE} where export = 0")
            self._execute(f"delete from {_OTHERS}")
        self._lines.rewind()
        self._left = 0
        self._others_known = index is not None and self._lines.posts > 0
        if index is not None and self._others_known:
            archive = ArchiveLines(connection, schema, index, to_second=0 in self._to_second)
            for batch in archive.batches():
                if not self._lines.skip(archive.lines(batch)):
                    self._compare_one_by_one(archive, batch)
        while lines := self._lines.next(_LINES_AHEAD.value):
            self._leave(lines)
            self._lines.skip(b"".join(lines))
        self._execute("commit")
        self.prepare(connection)

    def _compare_one_by_one(self, archive: ArchiveLines, batch: Batch) -> None:
        """Note the posts of a batch whose lines are not ahead in the file, and pass the others."""
        assert self._lines is not None
        rows = archive.rows(batch)
        lines = self._lines.next(_LINES_AHEAD.value)
        ahead = {line: place for place, line in enumerate(lines)}
        places = {ahead[line] for _, line in rows if line in ahead}
        passed = lines[: max(places, default=-1) + 1]
        if len(passed) == len(places) == len(rows):
            # Only their order differs.
            archive.by_uri = True
        self._lines.skip(b"".join(passed))
        self._leave([line for place, line in enumerate(passed) if place not in places])
        self._execute(f"insert into {_OTHERS} values (?)", [(row_id,) for row_id, line in rows if line not in ahead])

    def _leave(self, lines: list[bytes]) -> None:
        """Put the posts of these lines into the table, unless a later export has replaced them."""
        self._left += len(lines)
        if lines:
            self._add("insert or ignore", 0, [key_of(line) for line in lines])

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
        assert self._lines is not None
        numbers = ", ".join(map(str, exports))
        posts = connection.execute(f"select count(*) from {_ATTACHED}.{_TABLE} where export in ({numbers})").get
        return as_number(posts) + (self._lines.posts - self._left if 0 in exports else 0)


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
