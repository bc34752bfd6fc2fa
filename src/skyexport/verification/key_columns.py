"""The keys of posts column by column: of an export in temporary files, and of an archive as SQLite gives them.

Each column is text with a line for each post. Posts that both have in the same state have the same lines. So a thousand
posts are compared by comparing three pieces of bytes.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import apsw
import orjson

from skyexport.archive.created_at import CreatedAtIndex
from skyexport.archive.plan import Batch, KeyRange, key_ranges, no_more_than
from skyexport.archive.source import as_number
from skyexport.posts import quote_identifier
from skyexport.runtime.for_tests import Limit
from skyexport.runtime.scratch import no_room
from skyexport.selection import Span
from skyexport.verification.post_keys import KEY_COLUMNS, LONGEST_VALUE, PostKey

__all__ = ["ArchiveColumns", "KeyFiles", "Values", "are_usual_times", "key_of"]

Values = tuple[bytes, bytes, bytes]
"""uri, cid and time of a post. A usual time is as Go prints it, up to the time zone, which is UTC."""

_USUAL_TIMES = re.compile(
    rb"(?:[0-9]{4}-(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
    rb"T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{0,8}[1-9])?Z\n)*+"
)
"""Times as an export has them for nearly every post: real ones, in UTC. It leaves out 29 February."""

_UTC = re.compile(rb" \+0000 UTC(?: m=[^\n]*+)?\n")
_FRACTION_AND_UTC = re.compile(rb"(?:\.[0-9]{0,8}[1-9])? \+0000 UTC(?: m=[^\n]*+)?\n")

_UNUSUAL = b"["
"""Begins the third value of a post that is no three lines: its key as JSON."""

_BUFFER_BYTES = 1 << 18

_AHEAD_BYTES = 1 << 20
"""Bytes of a column that can be seen ahead. No line takes so many."""

_POSTS_AT_ONCE = Limit("POSTS_AT_ONCE", 1000)
"""Posts that are compared at once."""

_WRITTEN_AT_ONCE = 1000
"""Posts that are written at once."""

_LONGEST_BYTES = 1 << 20
"""Length of a column of these; Bluesky's take a tenth of it."""


class KeyFiles:
    """The columns of one export.

    Args:
        folder: The folder for the files, which are made.

    Raises:
        OutputError: There is no room for them.
    """

    def __init__(self, folder: Path) -> None:
        self.posts = 0
        """The number of posts."""
        self._waiting: list[PostKey] = []
        """Posts to be written, together with more."""
        self._next = [0] * len(KEY_COLUMNS)
        """Where the line of the next post begins in each file."""
        with contextlib.ExitStack() as closing, _finding_room():
            self._files = [
                closing.enter_context((folder / name).open("x+b", buffering=_BUFFER_BYTES)) for name in KEY_COLUMNS
            ]
            self._closing = closing.pop_all()

    def close(self) -> None:
        """Close the files. Calling this again does no harm."""
        with contextlib.suppress(OSError):
            self._closing.close()

    def add(self, keys: list[PostKey]) -> None:
        """Write posts."""
        self.posts += len(keys)
        self._waiting += keys
        if len(self._waiting) >= _WRITTEN_AT_ONCE:
            self._write()

    def _write(self) -> None:
        with _finding_room():
            for file, lines in zip(self._files, _columns(self._waiting), strict=True):
                file.write(lines)
        self._waiting.clear()

    def rewind(self) -> None:
        """Read from the beginning."""
        if self._waiting:
            self._write()
        with _finding_room():
            for file in self._files:
                file.flush()
        self._next = [0] * len(KEY_COLUMNS)

    def skip(self, columns: Values) -> bool:
        """Skip posts with these columns if they are the next ones; returns whether they are."""
        for file, start, lines in zip(self._files, self._next, columns, strict=True):
            file.seek(start)
            if file.read(len(lines)) != lines:
                return False
        self._advance(map(len, columns))
        return True

    def pass_by(self, posts: list[Values]) -> None:
        """Skip these posts, which are the next ones."""
        if posts:
            self._advance(sum(map(len, column)) + len(posts) for column in zip(*posts, strict=True))

    def _advance(self, lengths: Iterable[int]) -> None:
        self._next = [start + length for start, length in zip(self._next, lengths, strict=True)]

    def next(self, most: int) -> list[Values]:
        """The next posts, at most so many; none only at the end. They are not skipped."""
        columns = []
        for file, start in zip(self._files, self._next, strict=True):
            file.seek(start)
            columns.append(file.read(_AHEAD_BYTES).split(b"\n", most)[:-1])
        return list(zip(*columns, strict=False))


@contextlib.contextmanager
def _finding_room() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise no_room(error) from error


def _columns(keys: list[PostKey]) -> Values:
    with contextlib.suppress(TypeError):  # if a value is None
        uris, cids, times = ["\n".join((*column, "")).encode() for column in zip(*cast(list[Any], keys), strict=True)]
        counts = {uris.count(b"\n"), cids.count(b"\n"), times.count(b"\n")}
        if counts == {len(keys)} and _USUAL_TIMES.fullmatch(times):
            return uris, cids, times.replace(b"T", b" ").replace(b"Z\n", b"\n")
    if len(keys) == 1:
        return b"\n", b"\n", orjson.dumps(keys[0]) + b"\n"
    halves = _columns(keys[: len(keys) // 2]), _columns(keys[len(keys) // 2 :])
    return cast(Values, tuple(map(b"".join, zip(*halves, strict=True))))


def are_usual_times(keys: Iterable[PostKey]) -> bool:
    """Whether these posts have usual times, which a time in an archive can be compared with in SQL."""
    return _USUAL_TIMES.fullmatch("".join([f"{time}\n" for _, _, time in keys]).encode()) is not None


def key_of(values: Values) -> PostKey:
    """The key of a post with these values in the files."""
    uri, cid, time = values
    if time.startswith(_UNUSUAL):
        uri, cid, time = orjson.loads(time)
        return uri, cid, time
    return uri.decode(), cid.decode(), f"{time.decode().replace(' ', 'T')}Z"


class ArchiveColumns:
    """The columns of an archive's posts, batch by batch, in export order, but for posts of the same instant.

    Args:
        connection: A connection that holds a state of the archive.
        schema: The archive's schema name in the connection.
        index: The archive's index on created_at.
        to_second: Whether the export with which they are compared cuts off the fractions of times.
    """

    def __init__(self, connection: apsw.Connection, schema: str, index: str, *, to_second: bool) -> None:
        self._connection = connection
        self._schema = schema
        self._index = index
        self._end_of_time = _FRACTION_AND_UTC if to_second else _UTC
        self.by_uri = False
        """Whether posts of the same instant are sorted by uri. Without, posts are read a fifth faster."""

    def batches(self) -> Iterator[Batch]:
        """All posts.

        Raises:
            ArchiveChangedError: The index is damaged.
        """
        posts = as_number(self._connection.execute(f"select count(*) from {self._schema}.posts").get)
        order = CreatedAtIndex(self._connection, self._index, Span("true", {}), self._schema)
        return no_more_than(posts, key_ranges(order, _POSTS_AT_ONCE.value))

    def columns(self, batch: Batch) -> Values | None:
        """The columns of a batch; None if its posts must be compared one by one."""
        sql, parameters = self._query(batch, ", ".join(KEY_COLUMNS))
        # One row for all posts: each row goes through Python.
        lines = ", ".join(f"cast(group_concat({name}, '\n') as blob)" for name in KEY_COLUMNS)
        longest = self._connection.limit(apsw.SQLITE_LIMIT_LENGTH)
        try:
            self._connection.limit(apsw.SQLITE_LIMIT_LENGTH, _LONGEST_BYTES)
            (columns,) = self._connection.execute(f"select {lines} from ({sql})", parameters).fetchall()
        except apsw.TooBigError:
            return None
        finally:
            self._connection.limit(apsw.SQLITE_LIMIT_LENGTH, longest)
        if None in columns:
            return None
        uris, cids, times = [column + b"\n" for column in cast(Values, columns)]
        times, usual = self._end_of_time.subn(b"\n", times)
        counts = {usual, uris.count(b"\n"), cids.count(b"\n"), times.count(b"\n")}
        return (uris, cids, times) if counts == {batch.posts} and _UNUSUAL not in times else None

    def rows(self, batch: Batch) -> list[tuple[int, Values]]:
        """The row id of each post of a batch, and values that no export has unless they are the same."""
        # Longer values than those of keys are cut off, and still longer.
        values = ", ".join(f"cast(ifnull(substr({name}, 1, {LONGEST_VALUE + 1}), '') as blob)" for name in KEY_COLUMNS)
        sql, parameters = self._query(batch, f"posts.rowid, {values}")
        rows = []
        for row_id, uri, cid, stored in cast(
            list[tuple[int, bytes, bytes, bytes]], self._connection.execute(sql, parameters).fetchall()
        ):
            time, usual = self._end_of_time.subn(b"", stored + b"\n")
            rows.append((row_id, (uri, cid, time if usual and not time.startswith(_UNUSUAL) else b"")))
        return rows

    def _query(self, batch: Batch, columns: str) -> tuple[str, dict[str, Any]]:
        posts = f"{self._schema}.posts"
        if isinstance(batch, KeyRange):
            created_at = f"(select created_at from {posts} where rowid"
            sql = (
                f"select {columns} from {posts} indexed by {quote_identifier(self._index)}"
                f" where created_at <= {created_at} = :first) and created_at >= {created_at} = :last)"
                f" order by created_at desc{', uri' if self.by_uri else ''}"
            )
            return sql, {"first": batch.first, "last": batch.last}
        sql = (
            f"select {columns} from (select value as row_id from carray(:row_ids)) as batch"
            f" cross join {posts} on posts.rowid = batch.row_id"
        )
        return sql, {"row_ids": apsw.carray(batch.row_ids)}
