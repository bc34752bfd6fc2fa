"""Cutting posts into batches: pure code, with a list in place of an index."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import example, given, settings
from hypothesis import strategies as st

from skyexport.archive.plan import Batch, KeyRange, RowIds, key_ranges, row_id_batches


class ListOrder:
    """A `CreatedAtOrder` over (instant, row id) pairs in export order."""

    def __init__(self, posts: list[tuple[int, int]]) -> None:
        self.posts = posts
        self.instants = {row_id: instant for instant, row_id in posts}

    def first(self) -> int | None:
        return self.posts[0][1] if self.posts else None

    def step(self, first: int, posts: int) -> tuple[int | None, int | None]:
        rest = self._from(first)
        return (
            rest[posts - 1] if posts <= len(rest) else None,
            rest[posts] if posts < len(rest) else None,
        )

    def same_instant(self, one: int, other: int) -> bool:
        return self.instants[one] == self.instants[other]

    def count_from(self, first: int) -> int:
        return len(self._from(first))

    def count_between(self, first: int, older: int) -> int:
        return sum(1 for row_id in self._from(first) if self.instants[row_id] > self.instants[older])

    def older(self, row_id: int) -> int | None:
        return next((other for instant, other in self.posts if instant < self.instants[row_id]), None)

    def instant(self, row_id: int) -> Iterator[int]:
        return (other for instant, other in self.posts if instant == self.instants[row_id])

    def _from(self, first: int) -> list[int]:
        return [row_id for instant, row_id in self.posts if instant <= self.instants[first]]

    def posts_of(self, batch: Batch) -> list[int]:
        """The row ids that a batch stands for."""
        if isinstance(batch, RowIds):
            return list(batch.row_ids)
        newest, oldest = self.instants[batch.first], self.instants[batch.last]
        return [row_id for instant, row_id in self.posts if oldest <= instant <= newest]


def an_order(ties: list[int], shift: int) -> ListOrder:
    """So many posts in each instant, newest first; row ids in an order of their own."""
    instants = [len(ties) - number for number, posts in enumerate(ties) for _ in range(posts)]
    return ListOrder([(instant, (number * 7919 + shift) % 100_003) for number, instant in enumerate(instants)])


all_ties = st.lists(st.one_of(st.just(1), st.integers(1, 12)), max_size=25)


@settings(max_examples=500)
@given(all_ties, st.integers(1, 15), st.integers(0, 50))
@example([1], 1, 0)
@example([5], 5, 0)
@example([5], 4, 0)
@example([3, 3], 3, 0)
@example([4, 1], 4, 0)
@example([1, 4], 4, 0)
@example([12, 12, 1], 5, 0)
@example([1, 1, 12], 3, 0)
@example([1] * 10, 5, 0)
@example([1] * 11, 5, 0)
def test_every_post_once_and_in_order(ties: list[int], batch_size: int, shift: int) -> None:
    """The batches together are all posts in export order, each once, and none is above the batch size."""
    order = an_order(ties, shift)
    batches = list(key_ranges(order, batch_size))
    found = [row_id for batch in batches for row_id in order.posts_of(batch)]
    assert found == [row_id for _, row_id in order.posts]
    assert all(1 <= batch.posts <= batch_size for batch in batches)
    assert all(batch.posts == len(order.posts_of(batch)) for batch in batches)


@given(all_ties, st.integers(1, 15))
def test_a_range_never_splits_an_instant(ties: list[int], batch_size: int) -> None:
    """Only an instant with more posts than a batch is cut, and only into lists of row ids."""
    order = an_order(ties, 0)
    sizes = dict(enumerate(reversed(ties), start=1))
    for batch in key_ranges(order, batch_size):
        instants = {order.instants[row_id] for row_id in order.posts_of(batch)}
        if isinstance(batch, KeyRange):
            assert batch.posts == sum(sizes[instant] for instant in instants)
        else:
            assert len(instants) == 1
            assert sizes[instants.pop()] > batch_size


@given(all_ties.filter(lambda ties: max(ties, default=0) == 1), st.integers(1, 15))
def test_batches_are_full(ties: list[int], batch_size: int) -> None:
    """Without ties every batch but the last has batch_size posts."""
    sizes = [batch.posts for batch in key_ranges(an_order(ties, 0), batch_size)]
    assert sizes[:-1] == [batch_size] * (len(sizes) - 1)


def test_no_posts() -> None:
    """Nothing is cut into no batches."""
    assert list(key_ranges(ListOrder([]), 10)) == []
    assert list(row_id_batches([], 10)) == []


@given(st.lists(st.integers(-(2**63), 2**63 - 1)), st.integers(1, 10))
def test_row_id_batches(ids: list[int], batch_size: int) -> None:
    """Row ids are cut in their order; all batches but the last are full."""
    batches = [batch for batch in row_id_batches(ids, batch_size) if isinstance(batch, RowIds)]
    assert [row_id for batch in batches for row_id in batch.row_ids] == ids
    assert all(batch.posts == batch_size for batch in batches[:-1])
    assert all(1 <= batch.posts <= batch_size for batch in batches)


def test_planning_is_lazy() -> None:
    """A batch is cut when it is asked for: a sort of millions of posts is not held in memory."""
    asked = 0

    def ids() -> Iterator[int]:
        nonlocal asked
        for number in range(1_000_000):
            asked += 1
            yield number

    next(row_id_batches(ids(), 10))
    assert asked == 10
