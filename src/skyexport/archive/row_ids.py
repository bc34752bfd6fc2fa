"""A list of row ids in export order, in a temporary file without a name: the list may be too long for memory."""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterable, Iterator
from typing import Self

from skyexport.archive.plan import Plan, RowIds, row_id_batches
from skyexport.runtime.scratch import no_room, temporary_folder

__all__ = ["RowIdFile"]

_AT_ONCE = 8192
"""Row ids written or read at once: 64 kB."""


_AT_ENDS = 100
"""Posts to look at for the first readable time, before giving up."""


class RowIdFile:
    """The list. Use it in a `with` statement.

    Args:
        row_ids: The row ids, all of which are read here.

    Raises:
        OutputError: The list cannot be written.
    """

    def __init__(self, row_ids: Iterable[int]) -> None:
        self.posts = 0
        """The number of row ids."""
        try:
            self._file = tempfile.TemporaryFile(dir=temporary_folder())  # noqa: SIM115
        except OSError as error:
            raise no_room(error) from error
        try:
            for batch in row_id_batches(row_ids, _AT_ONCE):
                self._file.write(batch.row_ids.tobytes())
                self.posts += batch.posts
            self._file.flush()
        except OSError as error:
            self.close()
            raise no_room(error) from error
        except BaseException:
            self.close()
            raise

    @classmethod
    def of(cls, plan: Plan) -> Self:
        """The row ids of a plan whose batches are all lists, as they are if a selection has filters or a limit."""
        return cls(row_id for batch in plan.batches if isinstance(batch, RowIds) for row_id in batch.row_ids)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Delete the list. May be called more than once."""
        self._file.close()

    def __iter__(self) -> Iterator[int]:
        yield from self._from(0, self.posts)

    def ends(self) -> tuple[list[int], list[int]]:
        """Some row ids from the oldest end and some from the newest end, each beginning with the end."""
        few = min(self.posts, _AT_ENDS)
        return list(self._from(self.posts - few, self.posts))[::-1], list(self._from(0, few))

    def stretches(self, number: int, posts: int) -> list[list[int]]:
        """At most *posts* row ids: neighbours from at most *number* places across the list."""
        most = max(1, posts // number)
        starts = sorted({self.posts * place // number for place in range(number)})
        stretches: list[list[int]] = []
        for start, following in zip(starts, [*starts[1:], self.posts], strict=True):
            if start < following:
                stretches.append(list(self._from(start, min(following, start + most))))
        return stretches

    def _from(self, start: int, end: int) -> Iterator[int]:
        while start < end:
            piece = array("q")
            self._file.seek(start * piece.itemsize)
            piece.frombytes(self._file.read(min(_AT_ONCE, end - start) * piece.itemsize))
            start += len(piece)
            yield from piece
