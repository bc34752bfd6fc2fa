"""The posts of an archive along its created_at index, for `plan`."""

from __future__ import annotations

from collections.abc import Iterator

import apsw

from skyexport.archive.source import as_number
from skyexport.posts import quote_identifier
from skyexport.selection import Span

__all__ = ["CreatedAtIndex"]


class CreatedAtIndex:
    """`CreatedAtOrder` by steps along an index. The table itself is read only for instants with many posts.

    Args:
        connection: A connection to the archive.
        index: The index on created_at.
        span: The posts.
        schema: The archive's schema name in the connection.
    """

    def __init__(self, connection: apsw.Connection, index: str, span: Span, schema: str = "main") -> None:
        self._connection = connection
        self._parameters = span.parameters
        self._posts = f"{schema}.posts indexed by {quote_identifier(index)} where {span.where}"
        self._first = f"(select created_at from {schema}.posts where rowid = :first)"
        self._other = f"(select created_at from {schema}.posts where rowid = :other)"

    def first(self) -> int | None:
        return self._one(f"select rowid from {self._posts} order by created_at desc limit 1")

    def step(self, first: int, posts: int) -> tuple[int | None, int | None]:
        rows = self._connection.execute(
            f"select rowid from {self._posts} and created_at <= {self._first}"
            " order by created_at desc limit 2 offset :offset",
            {**self._parameters, "first": first, "offset": posts - 1},
        ).fetchall()
        row_ids = [as_number(row[0]) for row in rows]
        return (row_ids[0] if row_ids else None, row_ids[1] if len(row_ids) > 1 else None)

    def same_instant(self, first: int, other: int) -> bool:
        return bool(self._one(f"select {self._first} is {self._other}", first=first, other=other))

    def count_from(self, first: int) -> int:
        return self._one(f"select count(*) from {self._posts} and created_at <= {self._first}", first=first) or 0

    def count_between(self, first: int, older: int) -> int:
        return (
            self._one(
                f"select count(*) from {self._posts} and created_at <= {self._first} and created_at > {self._other}",
                first=first,
                other=older,
            )
            or 0
        )

    def older(self, row_id: int) -> int | None:
        return self._one(
            f"select rowid from {self._posts} and created_at < {self._first} order by created_at desc limit 1",
            first=row_id,
        )

    def instant(self, row_id: int) -> Iterator[int]:
        rows = self._connection.execute(
            f"select rowid from {self._posts} and created_at = {self._first} order by uri",
            {**self._parameters, "first": row_id},
        )
        for (value,) in rows:
            yield as_number(value)

    def _one(self, sql: str, **parameters: int) -> int | None:
        value = self._connection.execute(sql, {**self._parameters, **parameters}).get
        return None if value is None else as_number(value)
