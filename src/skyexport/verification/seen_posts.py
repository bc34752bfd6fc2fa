"""A table of the posts of earlier exports, which the connection with the archive's state compares with its posts.

Neither side is ever in memory as a whole. Two values are equal if an export would write them the same. Nearly always
the stored bytes already tell: SQL compares them first, and asks the slower functions in Python only about the rest.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import apsw

from skyexport.archive.authorizer import Authorizer
from skyexport.archive.source import translate_sqlite_errors
from skyexport.json_text import decode
from skyexport.posts import StoredValue, as_bytes, stored_value_sql, usual_time, usual_time_seconds
from skyexport.runtime.background import Background
from skyexport.runtime.cleanup import Call
from skyexport.runtime.scratch import Scratch
from skyexport.verification.post_keys import LONGEST_VALUE, PostKey, comparable

__all__ = ["SeenPosts", "are_usual_times", "same_time_sql"]

_CACHE_KIB = 16_000
"""Page cache while the table is filled. It can be small: exports have nearly the same order as the table."""

_ATTACHED = "earlier"
_TABLE = "seen_posts"
_TEXT = "sky_comparable"
_TIME = "sky_comparable_time"
_SECOND = "sky_comparable_second"

_USUAL_TIMES = re.compile(
    r"(?:[0-9]{4}-(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
    r"T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{0,8}[1-9])?Z\n)*+"
)

_ROWS_AT_ONCE = 100
"""Rows of a statement: SQLite adds them beside Python, which waits for a row each otherwise."""


class SeenPosts:
    """The table, in a private database that `close` removes.

    Raises:
        OutputError: There is no room for the database.
    """

    def __init__(self) -> None:
        self._scratch = Scratch()
        self._path = self._scratch.path / "earlier.db"
        self._filling: apsw.Connection | None = None
        self._thread = Background(1)
        self._adding: Call[object] | None = None
        self._to_second: list[int] = []

    def close(self) -> None:
        """Remove the table. Calling this again does no harm."""
        self._scratch.close()

    @contextlib.contextmanager
    def filling(self) -> Iterator[None]:
        """Allow `add` and `remove`, inside one `with` block."""
        os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        with (
            translate_sqlite_errors(str(self._path)),
            contextlib.closing(apsw.Connection(str(self._path))) as connection,
        ):
            self._filling = connection
            connection.pragma("journal_mode", "off")
            connection.pragma("synchronous", 0)
            connection.pragma("cache_size", -_CACHE_KIB)
            connection.execute(
                # Descending: exports begin with the newest posts, so nearly every row goes behind the last one.
                f"create table {_TABLE} (seen_uri blob, seen_cid blob, seen_time blob, export integer,"
                " time_is_usual integer, primary key (seen_uri desc)) without rowid"
            )
            connection.execute("begin")
            try:
                yield
                self._wait()
            finally:
                # Nothing may use the connection when it is closed.
                self._thread.end()
                self._filling = None
            connection.execute("commit")

    def add(self, export: int, keys: list[PostKey]) -> None:
        """Add posts of an export, or replace them, while the caller goes on.

        Args:
            export: A number for it.
            keys: The keys of the posts.
        """
        self._wait()
        self._adding = self._thread.begin(partial(self._add, export, keys))

    def _add(self, export: int, keys: list[PostKey]) -> None:
        assert self._filling is not None
        rows = [key for key in keys if key[0] is not None]
        whole = len(rows) // _ROWS_AT_ONCE * _ROWS_AT_ONCE
        into, row = f"insert or replace into {_TABLE} values ", f"(?, ?, ?, {export}, {are_usual_times(rows):d})"
        many = into + ", ".join([row] * _ROWS_AT_ONCE)
        for start in range(0, whole, _ROWS_AT_ONCE):
            self._filling.execute(many, tuple(itertools.chain.from_iterable(rows[start : start + _ROWS_AT_ONCE])))
        self._filling.executemany(into + row, rows[whole:])

    def remove(self, uris: Iterable[str]) -> None:
        """Remove the posts with these uris."""
        self._wait()
        assert self._filling is not None
        self._filling.executemany(f"delete from {_TABLE} where seen_uri = ?", ((uri,) for uri in map(comparable, uris)))

    def to_second(self, export: int) -> None:
        """Compare times of this export only to the second: it cuts them off there."""
        self._to_second.append(export)

    def _wait(self) -> None:
        if self._adding is not None:
            self._adding.wait()
            self._adding = None

    def prepare(self, connection: apsw.Connection) -> None:
        """Attach the table to a restricted connection, and add the functions that compare unusual values."""
        if _ATTACHED in connection.db_names():
            return
        authorizer = Authorizer.of(connection)
        authorizer.attach(connection, f"{self._path.as_uri()}?mode=ro&immutable=1", _ATTACHED)
        authorizer.allow_reading({_TABLE})
        functions: dict[str, Any] = {_TEXT: _comparable_text, _TIME: _comparable_time, _SECOND: _comparable_second}
        for name, function in functions.items():
            connection.create_scalar_function(name, function, 1, deterministic=True)

    def unseen_sql(self) -> str:
        """SQL that is true for posts that are new or changed since the exports, after `prepare`."""
        stored = stored_value_sql({"indexed_at": "indexed_at"}, "indexed_at")
        same, slow = same_time_sql("indexed_at", to_second=False), f"{_TIME}({stored})"
        if self._to_second:
            exports = ", ".join(map(str, self._to_second))
            same = f"iif(export in ({exports}), {same_time_sql('indexed_at', to_second=True)}, {same})"
            slow = f"iif(export in ({exports}), {_SECOND}({stored}), {slow})"
        seen = f"exists (select 1 from {_ATTACHED}.{_TABLE} where seen_uri ="
        return (
            f"not ({seen} uri and seen_cid = cid and {same})"
            f" or {seen} {_text_sql('uri')} and seen_cid = {_text_sql('cid')} and seen_time = {slow}))"
        )

    def gone(self, connection: apsw.Connection, schema: str, *, uri_index: bool) -> Iterator[tuple[str, int]]:
        """The uri, and the number of the export, of each post that *schema*.posts no longer has, by the uris' bytes.

        Args:
            connection: A connection for which `prepare` was called.
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
            f"select seen_uri, export from {_ATTACHED}.{_TABLE} where not ({there}) order by seen_uri"
        ):
            assert isinstance(uri, str)
            assert isinstance(export, int)
            yield uri, export

    def count(self, connection: apsw.Connection, exports: Iterable[int]) -> int:
        """The number of posts from these exports."""
        numbers = ", ".join(map(str, exports))
        posts = connection.execute(f"select count(*) from {_ATTACHED}.{_TABLE} where export in ({numbers})").get
        assert isinstance(posts, int)
        return posts


def are_usual_times(keys: Iterable[PostKey]) -> bool:
    """Whether the times of all of these posts are as an export has them for nearly every post: real ones, in UTC.

    It is False for 29 February, too.
    """
    return _USUAL_TIMES.fullmatch("".join([f"{time}\n" for _, _, time in keys])) is not None


def same_time_sql(stored: str, *, to_second: bool) -> str:
    """SQL that is true if *seen_time*, a usual time, is what an export writes for a time as Go prints it.

    Args:
        stored: The column with that time.
        to_second: Whether the export cuts off the fraction.
    """
    utc, fraction = "length(seen_time)", "true"
    if to_second:
        utc = f"instr({stored}, ' +0000 UTC')"
        digits = f"substr({stored}, 21, {utc} - 21)"
        fraction = (
            f"length(seen_time) = 20 and ({utc} = 20 or ({utc} between 22 and 30 and substr({stored}, 20, 1) = '.'"
            f" and ltrim({digits}, '0123456789') = '' and {digits} not glob '*0'))"
        )
    return (
        f"(time_is_usual and substr({stored}, 1, 10) = substr(seen_time, 1, 10) and substr({stored}, 11, 1) = ' '"
        f" and substr({stored}, 12, length(seen_time) - 12) = substr(seen_time, 12, length(seen_time) - 12)"
        f" and substr({stored}, {utc}, 13) in (' +0000 UTC', ' +0000 UTC m=') and {fraction}"
        f" and octet_length({stored}) = length({stored}) and instr({stored}, char(10)) = 0)"
    )


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
