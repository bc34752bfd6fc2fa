"""The posts of an archive along its created_at index, for `plan`."""

from __future__ import annotations

from collections.abc import Iterator

import apsw

from skyexport.archive.source import as_number
from skyexport.posts import quote_identifier
from skyexport.selection import Span

__all__ = ["CreatedAtIndex"]

_CREATED_AT_OF_FIRST = "(select created_at from posts where rowid = :first)"


class CreatedAtIndex:
    """`CreatedAtOrder` by steps along an index. The table itself is read only for instants with many posts."""

    def __init__(self, connection: apsw.Connection, index: str, span: Span) -> None:
        self._connection = connection
        self._parameters = span.parameters
        self._posts = f"posts indexed by {quote_identifier(index)} where {span.where}"

    def first(self) -> int | None:
        return self._one(f"select rowid from {self._posts} order by created_at desc limit 1")

    def step(self, first: int, posts: int) -> tuple[int | None, int | None]:
        rows = self._connection.execute(
            f"select rowid from {self._posts} and created_at <= {_CREATED_AT_OF_FIRST}"
            " order by created_at desc limit 2 offset :offset",
            {**self._parameters, "first": first, "offset": posts - 1},
        ).fetchall()
        row_ids = [as_number(row[0]) for row in rows]
        return (row_ids[0] if row_ids else None, row_ids[1] if len(row_ids) > 1 else None)

    def same_instant(self, first: int, other: int) -> bool:
        return bool(
            self._one(
                f"select {_CREATED_AT_OF_FIRST} is (select created_at from posts where rowid = :other)",
                first=first,
                other=other,
            )
        )

    def count_from(self, first: int) -> int:
        return (
            self._one(f"select count(*) from {self._posts} and created_at <= {_CREATED_AT_OF_FIRST}", first=first) or 0
        )

    def count_between(self, first: int, older: int) -> int:
        return (
            self._one(
                f"select count(*) from {self._posts} and created_at <= {_CREATED_AT_OF_FIRST}"
                " and created_at > (select created_at from posts where rowid = :older)",
                first=first,
                older=older,
            )
            or 0
        )

    def older(self, row_id: int) -> int | None:
        return self._one(
            f"select rowid from {self._posts} and created_at < {_CREATED_AT_OF_FIRST} order by created_at desc limit 1",
            first=row_id,
        )

    def instant(self, row_id: int) -> Iterator[int]:
        rows = self._connection.execute(
            f"select rowid from {self._posts} and created_at = {_CREATED_AT_OF_FIRST} order by uri",
            {**self._parameters, "first": row_id},
        )
        for (value,) in rows:
            yield as_number(value)

    def _one(self, sql: str, **parameters: int) -> int | None:
        value = self._connection.execute(sql, {**self._parameters, **parameters}).get
        return None if value is None else as_number(value)
