"""The chunks of an export in order, rendered in this process or by workers."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from skyexport.archive.archive import Archive
from skyexport.archive.plan import Unit
from skyexport.errors import NO_MEMORY, MemoryLimitError
from skyexport.notices import Notices
from skyexport.options.export_options import Resolved
from skyexport.posts import MAX_CHUNK_BYTES, LargePost
from skyexport.rendering.messages import ChunkReady, Kind
from skyexport.rendering.pool import BATCHES_A_WORKER, Pool, Worker
from skyexport.rendering.sequence import Sequencer
from skyexport.rendering.worker import WorkerSetup
from skyexport.runtime.memory import MemoryGuard
from skyexport.selection import Selection

__all__ = ["LargePosts", "OrderedChunk", "rendered", "setup_of"]

_POLL_SECONDS = 0.1
"""Time between checks of memory and signals while no worker sends anything."""


@dataclass(frozen=True, slots=True)
class OrderedChunk:
    """Finished bytes of the posts that come next."""

    data: bytes | memoryview
    """Valid until the next chunk is asked for; empty if no post of a batch is selected."""
    posts: int
    """How many posts begin in it."""
    posts_read: int
    """How many posts of the batch were passed, selected or not."""
    goes_on: bool
    """Whether its one post continues in the next chunk."""
    plain_bytes: int
    """Size of the data before compression."""
    notices: Notices
    """Of these posts."""
    ends_batch: bool


class LargePosts:
    """The large post that is being rendered, if any: an error about too little memory names it.

    Args:
        guard: The memory limit.
    """

    def __init__(self, guard: MemoryGuard) -> None:
        self._guard = guard
        self._present: LargePost | None = None

    def begin(self, post: LargePost) -> None:
        """Note that *post* is rendered from now on.

        Raises:
            MemoryLimitError: It surely needs more memory than there is.
        """
        self._present = post
        self._guard.check_affordable(post.needed_bytes)

    def end(self) -> None:
        """Note that no large post is being rendered."""
        self._present = None

    @contextlib.contextmanager
    def named(self) -> Iterator[None]:
        """Name the large post in an error about too little memory."""
        self._present = None
        try:
            yield
        except (MemoryLimitError, MemoryError) as error:
            if self._present is None:
                raise
            why = error.message if isinstance(error, MemoryLimitError) else NO_MEMORY
            raise self._present.beyond_memory(why) from error


def setup_of(resolved: Resolved, archive: Archive, selection: Selection) -> WorkerSetup:
    """How the posts of *archive* are rendered."""
    return WorkerSetup(
        archive.source, archive.columns, archive.created_at_index, resolved.format, resolved.settings,
        resolved.compression, selection,
    )  # fmt: skip


def rendered(
    units: Iterator[Unit],
    archive: Archive,
    setup: WorkerSetup,
    pool: Pool,
    large: LargePosts,
    guard: MemoryGuard,
    check: Callable[[], None],
) -> Iterator[OrderedChunk]:
    """Yield the chunks of *units* in order. Asking for the next one frees the memory of the last.

    Args:
        units: The batches or pages.
        archive: The archive, pinned in this process.
        setup: How batches are rendered.
        pool: The workers, which hold the same state; without any, this process renders.
        large: Gets each large post before it is rendered.
        guard: The memory limit: near it, fewer batches are handed out.
        check: Called between chunks; an exception from it ends this.
    """
    if pool.workers:
        return _by_workers(units, pool, large, guard, check)
    return _here(units, archive, setup, large, check)


def _here(
    units: Iterator[Unit], archive: Archive, setup: WorkerSetup, large: LargePosts, check: Callable[[], None]
) -> Iterator[OrderedChunk]:
    target = memoryview(bytearray(MAX_CHUNK_BYTES))
    renderer = setup.renderer(archive.connection, large.begin, lambda: target)
    for unit in units:
        large.end()
        unread = unit.posts
        with archive.translating_errors():
            for chunk in renderer.render(unit):
                check()
                unread -= chunk.posts
                yield OrderedChunk(
                    chunk.data, chunk.posts, chunk.posts, chunk.goes_on, chunk.plain_bytes, chunk.notices,
                    ends_batch=False,
                )  # fmt: skip
        yield OrderedChunk(b"", 0, unread, False, 0, Notices(), ends_batch=True)


def _by_workers(
    units: Iterator[Unit], pool: Pool, large: LargePosts, guard: MemoryGuard, check: Callable[[], None]
) -> Iterator[OrderedChunk]:
    numbered = enumerate(units)
    sequencer: Sequencer[tuple[Worker, ChunkReady]] = Sequencer()
    upcoming = next(numbered, None)
    waiting_for_turn: dict[int, Worker] = {}
    handed_out = 0
    while upcoming is not None or sequencer.next_sequence < handed_out:
        check()
        window = guard.window(len(pool.workers) * BATCHES_A_WORKER)
        while upcoming is not None and handed_out - sequencer.next_sequence < window:
            worker = min(pool.workers, key=lambda worker: len(worker.batches))
            worker.give(*upcoming)
            handed_out += 1
            upcoming = next(numbered, None)
        received = pool.receive(_POLL_SECONDS)
        if received is None:
            continue
        worker, frame = received
        if frame.kind is Kind.LARGE:
            worker.large = LargePost(**json.loads(frame.payload))
            waiting_for_turn[frame.sequence] = worker
            _give_turn(waiting_for_turn, sequencer.next_sequence, large)
            continue
        ready = ChunkReady.decode(frame.payload)
        if ready.is_last:
            worker.finished(frame.sequence)
        for sender, chunk in sequencer.add(frame.sequence, (worker, ready), is_last=ready.is_last):
            yield OrderedChunk(
                sender.slots.view(chunk.slot, chunk.length), chunk.posts, chunk.posts_read, chunk.goes_on,
                chunk.plain_bytes, chunk.notices, ends_batch=chunk.is_last,
            )  # fmt: skip
            sender.send(Kind.SLOT_FREE, chunk.slot)
            if chunk.is_last:
                large.end()
        _give_turn(waiting_for_turn, sequencer.next_sequence, large)


def _give_turn(waiting: dict[int, Worker], sequence: int, large: LargePosts) -> None:
    """Let the worker whose batch is being written continue, if it waits with a large post."""
    worker = waiting.pop(sequence, None)
    if worker is not None and worker.large is not None:
        large.begin(worker.large)
        worker.send(Kind.TURN, sequence)
