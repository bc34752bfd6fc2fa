"""The keys of an export's posts as lines of a temporary file, and the same lines made from an archive by SQL.

A post that both have in the same state gives the same line. So a thousand posts are compared by comparing bytes.
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
from skyexport.archive.plan import Batch, KeyRange, key_ranges
from skyexport.archive.source import as_number
from skyexport.errors import ArchiveChangedError
from skyexport.posts import quote_identifier
from skyexport.runtime.for_tests import Limit
from skyexport.runtime.scratch import no_room
from skyexport.selection import Span
from skyexport.verification.post_keys import PostKey

__all__ = ["ArchiveLines", "KeyLines", "are_usual_times", "exported_time_sql", "key_of"]

_USUAL_TIMES = re.compile(
    r"(?:[0-9]{4}-(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
    r"T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{0,8}[1-9])?Z\n)*+"
)
"""Times as an export has them for nearly every post: real ones, in UTC. It leaves out 29 February."""

_AHEAD_BYTES = 1 << 20
"""Bytes of the file that can be seen ahead. A thousand posts take less than a fifth of it, and no line takes it all."""

_READ_BYTES = 4 * _AHEAD_BYTES

_POSTS_AT_ONCE = Limit("POSTS_AT_ONCE", 1000)
"""Posts whose lines are compared at once."""

_LONGEST_BYTES = 600
"""Length of uri and cid in a line that SQL makes; Bluesky's have less than two hundred."""


class KeyLines:
    """The lines of one export: three values with tabs between them, or JSON, which no line from SQL equals.

    Args:
        path: The file, which is made.

    Raises:
        OutputError: There is no room for it.
    """

    def __init__(self, path: Path) -> None:
        self.posts = 0
        """The number of lines."""
        self._ahead = b""
        self._next = 0
        """Where the next line begins in *_ahead*."""
        try:
            self._file = path.open("x+b")
        except OSError as error:
            raise no_room(error) from error

    def close(self) -> None:
        """Close the file. Calling this again does no harm."""
        with contextlib.suppress(OSError):
            self._file.close()

    def add(self, keys: list[PostKey]) -> None:
        """Write the lines of posts."""
        self.posts += len(keys)
        try:
            self._file.write(_lines(keys))
        except OSError as error:
            raise no_room(error) from error

    def rewind(self) -> None:
        """Read from the beginning."""
        try:
            self._file.seek(0)
        except OSError as error:
            raise no_room(error) from error
        self._ahead, self._next = b"", 0

    def skip(self, lines: bytes) -> bool:
        """Skip these lines if they are the next ones; returns whether they are."""
        self._look_ahead()
        found = self._ahead.startswith(lines, self._next)
        if found:
            self._next += len(lines)
        return found

    def next(self, most: int) -> list[bytes]:
        """The next lines, with their line feeds, at most so many; none only at the end. They are not skipped."""
        self._look_ahead()
        lines = self._ahead[self._next : self._next + _AHEAD_BYTES].split(b"\n", most)[:-1]
        return [line + b"\n" for line in lines]

    def _look_ahead(self) -> None:
        if len(self._ahead) - self._next < _AHEAD_BYTES:
            self._ahead = self._ahead[self._next :] + self._file.read(_READ_BYTES)
            self._next = 0


def _lines(keys: list[PostKey]) -> bytes:
    with contextlib.suppress(TypeError):  # if a value is None
        lines = "\n".join(map("\t".join, cast(list[tuple[str, str, str]], keys))) + "\n"
        whole = lines.count("\n") == len(keys) and lines.count("\t") == 2 * len(keys)
        if whole and are_usual_times(keys):
            return lines.encode()
    if len(keys) == 1:
        return orjson.dumps(keys[0]) + b"\n"
    return b"".join([_lines([key]) for key in keys])


def key_of(line: bytes) -> PostKey:
    """The key with this line."""
    uri, cid, time = line[:-1].decode().split("\t") if b"\t" in line else orjson.loads(line)
    return uri, cid, time


def are_usual_times(keys: Iterable[PostKey]) -> bool:
    """Whether `exported_time_sql` may give the times of all of these posts."""
    return _USUAL_TIMES.fullmatch("".join([f"{time}\n" for _, _, time in keys])) is not None


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


def _line_sql(*, to_second: bool) -> str:
    """SQL for the line of a post, which is empty if Python must compare it."""
    time = exported_time_sql("indexed_at", to_second=to_second)
    return (
        f"iif(octet_length(uri) + octet_length(cid) <= {_LONGEST_BYTES},"
        f" uri || '\t' || cid || '\t' || {time}, '') || '\n'"
    )


class ArchiveLines:
    """The lines of an archive's posts, batch by batch, in export order, but for posts of the same instant.

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
        posts, line = f"{schema}.posts", f"{_line_sql(to_second=to_second)} as line"
        created_at = f"(select created_at from {posts} where rowid"
        self.by_uri = False
        """Whether posts of the same instant are sorted by uri. Without, posts are read a fifth faster."""
        self._range = (
            f"select posts.rowid, {line} from {posts} indexed by {quote_identifier(index)}"
            f" where created_at <= {created_at} = :first) and created_at >= {created_at} = :last)"
            " order by created_at desc"
        )
        self._list = (
            f"select posts.rowid, {line} from (select value as row_id from carray(:row_ids)) as batch"
            f" cross join {posts} on posts.rowid = batch.row_id"
        )

    def batches(self) -> Iterator[Batch]:
        """All posts.

        Raises:
            ArchiveChangedError: The index is damaged.
        """
        left = as_number(self._connection.execute(f"select count(*) from {self._schema}.posts").get)
        order = CreatedAtIndex(self._connection, self._index, Span("true", {}), self._schema)
        for batch in key_ranges(order, _POSTS_AT_ONCE.value):
            left -= batch.posts
            if left < 0:
                # A damaged index can lead in circles.
                raise ArchiveChangedError("the index leads to more posts than it has", "export again")
            yield batch

    def lines(self, batch: Batch) -> bytes:
        """The lines of a batch; an empty line, which no export has, if a post takes more than a line."""
        sql, parameters = self._query(batch)
        # One value, not a thousand rows: each of those would go through Python.
        lines = self._connection.execute(f"select cast(group_concat(line, '') as blob) from ({sql})", parameters).get
        return lines if isinstance(lines, bytes) and lines.count(b"\n") == batch.posts else b"\n"

    def rows(self, batch: Batch) -> list[tuple[int, bytes]]:
        """The row id and the line of each post of a batch."""
        sql, parameters = self._query(batch)
        rows = self._connection.execute(
            f"select rowid, cast(ifnull(line, '') as blob) from ({sql})", parameters
        ).fetchall()
        return cast(list[tuple[int, bytes]], rows)

    def _query(self, batch: Batch) -> tuple[str, dict[str, Any]]:
        if isinstance(batch, KeyRange):
            return self._range + ", uri" * self.by_uri, {"first": batch.first, "last": batch.last}
        return self._list, {"row_ids": apsw.carray(batch.row_ids)}
