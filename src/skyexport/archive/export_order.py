"""The posts of an archive in export order, newest first: cut into batches, listed, or sampled."""

from __future__ import annotations

import contextlib
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import replace

import apsw

from skyexport.archive.archive import Archive
from skyexport.archive.created_at import CreatedAtIndex
from skyexport.archive.full_text import translate_index_errors
from skyexport.archive.plan import Batch, CreatedAtOrder, Plan, RowIds, key_ranges, no_more_than, row_id_batches
from skyexport.archive.source import (
    CACHE_KIB,
    as_number,
)
from skyexport.posts import quote_identifier
from skyexport.selection import Selection, Span

__all__ = ["order_of", "plan_of", "row_ids_in_order", "sample_row_ids", "selected_batches"]

_SORT_CACHE_KIB = 32_000
"""Page cache while sorting: the sort spills to a temporary file beyond it."""

_FEW_SHARE = 0.2
"""Posts of an author with at most this share of all posts are found through the index on did, and sorted."""


def _count_within(archive: Archive, span: Span) -> int:
    """The number of posts in *span*, by all authors."""
    with archive.translating_errors():
        return as_number(
            archive.connection.execute(f"select count(*) from posts where {span.where}", span.parameters).get
        )


def plan_of(archive: Archive, selection: Selection, batch_size: int, posts: int) -> Plan:
    """Cut the selected posts into batches.

    Args:
        selection: The posts to export.
        batch_size: Most posts in a batch.
        posts: The result of `count_posts`.
    """
    by_author = False
    if selection.did is not None and archive.schema.did_index is not None:
        wrote = archive.count_by(selection.did)
        by_author = wrote <= posts * _FEW_SHARE
    if by_author or archive.created_at_index is None or selection.by_list:
        row_ids = row_ids_in_order(archive, selection, by_author=by_author)
        at_most = wrote if by_author else posts
        exact = not (selection.by_date or selection.by_list) and (by_author or selection.did is None)
        return Plan(row_id_batches(row_ids, batch_size), at_most, exact)
    spans = selection.spans()
    within = posts if not selection.by_date else sum(_count_within(archive, span) for span in spans)
    return Plan(_key_ranges(archive, spans, batch_size, within), within, exact=True)


def _key_ranges(archive: Archive, spans: Iterable[Span], batch_size: int, posts: int) -> Iterator[Batch]:
    with archive.translating_errors():
        yield from no_more_than(
            posts, (batch for span in spans for batch in key_ranges(order_of(archive, span), batch_size))
        )


def selected_batches(archive: Archive, selection: Selection, batches: Iterable[Batch]) -> Iterator[Batch]:
    """Yield the batches of a plan with their selected posts alone, for a reader that does not know the selection.

    Args:
        archive: The archive.
        selection: The posts.
        batches: Batches as `plan_of` makes them; lists of row ids have selected posts only.
    """
    if selection.everything:
        yield from batches
        return
    selection.register(archive.connection)
    created_at = "(select created_at from posts where rowid = :{})"
    sql = (
        f"select rowid from posts where created_at <= {created_at.format('first')}"
        f" and created_at >= {created_at.format('last')} and {selection.where_sql()} order by created_at desc, uri"
    )
    for batch in batches:
        if isinstance(batch, RowIds):
            yield batch
            continue
        with archive.translating_errors():
            rows = archive.connection.execute(
                sql, {**selection.parameters(), "first": batch.first, "last": batch.last}
            ).fetchall()
        if rows:
            yield RowIds(array("q", (as_number(row_id) for (row_id,) in rows)))


def order_of(archive: Archive, span: Span) -> CreatedAtOrder:
    """The posts of *span*, newest first; the archive must have a created_at index."""
    assert archive.created_at_index is not None
    return CreatedAtIndex(archive.connection, archive.created_at_index, span)


def row_ids_in_order(
    archive: Archive,
    selection: Selection,
    *,
    by_author: bool = False,
    limit: int = -1,
    offset: int = 0,
    connection: apsw.Connection | None = None,
) -> Iterator[int]:
    """Yield row ids of the selected posts in export order. One sort finds them; a large one uses a temporary file.

    Args:
        selection: The posts.
        by_author: Whether to find the posts through the index on did.
        limit: Most row ids if *selection* has no limit; negative for all.
        offset: Row ids to skip first.
        connection: Another connection to this archive; None for its own.
    """
    connection = connection or archive.connection
    index = f"indexed by {quote_identifier(archive.schema.did_index)}" if by_author and archive.schema.did_index else ""
    where = replace(selection, limit=None).where_sql()
    if selection.limit is not None:
        limit = selection.limit
    if by_author:
        where = where.replace("+did = :did", "did = :did")
    selection.register(connection)
    with archive.translating_errors(), translate_index_errors(selection.filters, archive.display_path):
        connection.pragma("cache_size", -_SORT_CACHE_KIB)
        try:
            for (row_id,) in connection.execute(
                f"select rowid from posts {index} where {where}"
                " order by created_at desc, uri limit :limit offset :offset",
                {**selection.parameters(), "limit": limit, "offset": offset},
            ):
                yield as_number(row_id)
        finally:
            # A caller that stops early may have closed the connection too.
            with contextlib.suppress(apsw.ConnectionClosedError):
                connection.pragma("cache_size", -CACHE_KIB)


def sample_row_ids(archive: Archive, stretches: int, posts: int) -> list[list[int]]:
    """Row ids of at most *posts* posts: neighbours from at most *stretches* places across the archive."""
    row_ids: list[list[int]] = []
    with archive.translating_errors():
        bounds = archive.connection.execute("select min(rowid), max(rowid) from posts having count(*) > 0").fetchall()
        for lowest, highest in bounds:
            length = as_number(highest) - as_number(lowest) + 1
            for number in range(stretches):
                start = as_number(lowest) + length * number // stretches
                if row_ids:
                    start = max(start, row_ids[-1][-1] + 1)
                sql = "select rowid from posts where rowid >= ? order by rowid limit ?"
                rows = archive.connection.execute(sql, (start, posts // stretches)).fetchall()
                if rows:
                    row_ids.append([as_number(row_id) for (row_id,) in rows])
    return row_ids
