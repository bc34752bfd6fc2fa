"""Putting chunks back into order: workers finish in any order, and the writer takes batches by their number."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

__all__ = ["Sequencer"]

Item = TypeVar("Item")


class Sequencer(Generic[Item]):
    """Releases the items of batches 0, 1, 2, … in order; a batch has one item or more.

    This class sets no bound itself: waiting items fill slots of shared memory, and the number of slots is fixed.
    """

    def __init__(self) -> None:
        self._waiting: dict[int, deque[tuple[Item, bool]]] = {}
        self.next_sequence = 0
        """The batch whose turn it is."""

    def add(self, sequence: int, item: Item, *, is_last: bool) -> Iterator[Item]:
        """Take an item of batch *sequence*, and yield all items whose turn has come."""
        self._waiting.setdefault(sequence, deque()).append((item, is_last))
        while items := self._waiting.get(self.next_sequence):
            released, was_last = items.popleft()
            if was_last:
                del self._waiting[self.next_sequence]
                self.next_sequence += 1
            yield released
