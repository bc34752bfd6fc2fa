"""Cutting an archive into batches: key ranges along the created_at index, or else lists of row ids.

Export order is created_at descending, then uri ascending. The index has the first half of that order. So a usual batch
is the posts from one created_at to another, found by steps along the index that read nothing else:

    newest ┤■■■■■■■■■■├┤■■■■■■■■■■├┤■■■■■■■■■■├ … oldest
            first  last first  last

A range never splits an instant. If a step would end inside an instant, the range ends before it. An instant with more
posts than a batch is sorted once and cut into lists of row ids. Boundaries are row ids, never stored keys: a key may be
text in any encoding, a number, anything, and SQLite compares keys best.

An archive without that index, and an author with few posts, get one sort that is cut into lists of row ids.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from skyexport.errors import ArchiveChangedError

__all__ = [
    "Batch",
    "CreatedAtOrder",
    "KeyRange",
    "PageNumber",
    "Plan",
    "RowIds",
    "Unit",
    "key_ranges",
    "no_more_than",
    "row_id_batches",
]


@dataclass(frozen=True, slots=True)
class KeyRange:
    """The posts from the instant of post *first* down to the instant of post *last*, both instants whole.

    *first* and *last* are row ids; *posts* counts the archive's posts in the range, selected or not.
    """

    first: int
    last: int
    posts: int


@dataclass(frozen=True, slots=True)
class RowIds:
    """The posts with these row ids, which are in export order."""

    row_ids: array[int]

    @property
    def posts(self) -> int:
        """The number of posts, selected or not."""
        return len(self.row_ids)


Batch = KeyRange | RowIds
"""At most batch_size posts of the archive, one after the other in the output."""


@dataclass(frozen=True, slots=True)
class PageNumber:
    """A file of an export for people, by its number in a plan of pages."""

    number: int
    posts: int
    """The posts that count with it: those of a page of a month; 0 for a page that repeats posts."""


Unit = Batch | PageNumber
"""A unit of work."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The batches of an export, found one by one while it runs."""

    batches: Iterator[Batch]
    posts: int
    """Posts of the archive in all batches together; an upper bound if not *exact*."""
    exact: bool


class CreatedAtOrder(Protocol):
    """The posts of a span, newest first, as the created_at index has them."""

    def first(self) -> int | None:
        """The newest post; None if there is none."""

    def step(self, first: int, posts: int) -> tuple[int | None, int | None]:
        """The last of *posts* posts that begin with the instant of *first*, and the post after it.

        Either is None if the span ends before it.
        """

    def same_instant(self, first: int, other: int) -> bool:
        """Whether two posts have the same created_at."""

    def count_from(self, first: int) -> int:
        """The number of posts from the instant of *first* to the end of the span."""

    def count_between(self, first: int, older: int) -> int:
        """The number of posts from the instant of *first* to before the instant of *older*."""

    def older(self, row_id: int) -> int | None:
        """The newest post that is older than *row_id*; None if there is none."""

    def instant(self, row_id: int) -> Iterator[int]:
        """The posts created in the same instant as *row_id*, by uri."""


def key_ranges(order: CreatedAtOrder, batch_size: int) -> Iterator[Batch]:
    """Cut a span into batches of at most *batch_size* posts, in export order, each post in exactly one.

    Raises:
        ArchiveChangedError: The answers of *order* contradict each other.
    """
    first = order.first()
    while first is not None:
        posts = batch_size
        last, following = order.step(first, posts)
        if last is None:
            posts = order.count_from(first)
            last, _ = order.step(first, posts)
        elif following is not None and order.same_instant(last, following):
            posts = order.count_between(first, last)
            if not posts:
                yield from row_id_batches(order.instant(first), batch_size)
                first = order.older(first)
                continue
            following = last
            last, _ = order.step(first, posts)
        if last is None:
            raise ArchiveChangedError("the index has fewer posts than it counted", "export again")
        yield KeyRange(first, last, posts)
        first = following


def no_more_than(posts: int, batches: Iterable[Batch]) -> Iterator[Batch]:
    """The same batches.

    Raises:
        ArchiveChangedError: They have more than *posts* posts: a damaged index can lead in circles.
    """
    for batch in batches:
        posts -= batch.posts
        if posts < 0:
            raise ArchiveChangedError("the index leads to more posts than it has", "export again")
        yield batch


def row_id_batches(row_ids: Iterable[int], batch_size: int) -> Iterator[RowIds]:
    """Cut row ids in export order into batches of *batch_size*; the last one may be smaller."""
    remaining = iter(row_ids)
    while batch := array("q", islice(remaining, batch_size)):
        yield RowIds(batch)
