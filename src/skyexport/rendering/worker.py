"""A worker process: it receives a batch, renders it, puts the bytes into a slot, and reports the slot.

The coordinator starts `main` in a fresh interpreter and talks to it over standard input and output. A thread receives:
when the stream ends, the coordinator is gone, and so is the worker at once, whatever SQLite is doing. The other thread,
which renders, raises the beat beside the slots all the time, also while it waits; when that stays as it is, the
coordinator knows that the renderer hangs, though the receiver may be well.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import IO, Any, TypeVar

import apsw

from skyexport.archive.plan import Unit
from skyexport.archive.source import PIN_BUSY_MILLISECONDS, Source, pin, translate_sqlite_errors, unpin
from skyexport.errors import ArchiveBusyError, ExportError
from skyexport.formats import FORMATS
from skyexport.formats.chunk import Chunk
from skyexport.formats.compression import Compression, compressor_of
from skyexport.formats.settings import FormatSettings
from skyexport.notices import Notices
from skyexport.pages.settings import PageSettings
from skyexport.posts import LargePost
from skyexport.rendering.messages import ChunkReady, Frame, Kind, decode_unit, read_frame, write_frame
from skyexport.rendering.renderer import BatchRenderer, Renderer
from skyexport.rendering.slots import SlotHandle, Slots
from skyexport.selection import Selection

__all__ = ["WorkerSetup", "main"]


_BEAT_SECONDS = 0.5
"""Between beats of a worker that waits."""

_BEAT_STEPS = 100_000
"""Of SQLite's machine between beats: some milliseconds."""

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class WorkerSetup:
    """All that a worker must know to render batches; it travels as JSON."""

    source: Source
    columns: dict[str, str]
    index: str | None
    format: str
    settings: FormatSettings
    compression: Compression | None
    selection: Selection
    pages: PageSettings | None = None
    """Set for an export for people, of which units are pages."""

    def to_json(self, slots: SlotHandle) -> bytes:
        """With the worker's own slots, as the payload of the SETUP message."""
        return json.dumps({**asdict(self), "slots": asdict(slots)}).encode()

    @classmethod
    def from_json(cls, payload: bytes) -> tuple[WorkerSetup, SlotHandle]:
        """What `to_json` was given."""
        values: dict[str, Any] = json.loads(payload)
        slots = SlotHandle(**values.pop("slots"))
        compression, pages = values.pop("compression"), values.pop("pages")
        return cls(
            source=Source(**values.pop("source")),
            selection=Selection(**values.pop("selection")),
            settings=FormatSettings.of(values.pop("settings")),
            compression=Compression(**compression) if compression else None,
            pages=PageSettings(**pages) if pages else None,
            **values,
        ), slots

    def renderer(
        self,
        connection: apsw.Connection,
        before_large_post: Callable[[LargePost], None],
        target: Callable[[], memoryview],
    ) -> Renderer:
        """The renderer of this export, on *connection*; see `BatchRenderer`."""
        if self.pages is not None:
            # Templates take a tenth of a second to load, which other exports do not need.
            from skyexport.pages.renderer import PageRenderer

            return PageRenderer(connection, self.columns, self.pages)
        return BatchRenderer(
            connection,
            self.columns,
            self.index,
            FORMATS[self.format].configured(self.settings),
            self.selection,
            compress=compressor_of(self.compression),
            before_large_post=before_large_post,
            target=target,
        )


class _WorkerArchive:
    """A worker's own connection to the archive, opened when it is to be pinned first."""

    def __init__(
        self,
        setup: WorkerSetup,
        before_large_post: Callable[[LargePost], None],
        target: Callable[[], memoryview],
        while_working: Callable[[], None],
    ) -> None:
        self._setup = setup
        self._before_large_post = before_large_post
        self._target = target
        self._while_working = while_working
        self._connection: apsw.Connection | None = None
        self._renderer: Renderer | None = None

    def pin(self) -> bool:
        """Hold on to the present state; False when another program is writing."""
        try:
            if self._connection is None:
                self._connection = self._setup.source.connect(PIN_BUSY_MILLISECONDS)
                self._connection.set_progress_handler(self._progress, _BEAT_STEPS)
                self._renderer = self._setup.renderer(self._connection, self._before_large_post, self._target)
            pinned = pin(self._connection)
        except ArchiveBusyError:
            return False
        self._setup.source.check_same_file()
        return pinned

    def _progress(self) -> bool:
        self._while_working()
        return False

    def unpin(self) -> None:
        """Let go of it, so that the other program can go on."""
        if self._connection is not None:
            unpin(self._connection)

    def render(self, unit: Unit) -> Iterator[Chunk]:
        """The chunks of a unit."""
        if self._renderer is None:
            raise AssertionError("a unit came before a state was held")
        return self._renderer.render(unit)


class _Worker:
    """A worker's state: its connection, its slots, and the messages that came in."""

    def __init__(self, requests: IO[bytes], answers: IO[bytes]) -> None:
        self._requests = requests
        self._answers = answers
        self._frames: queue.SimpleQueue[Frame] = queue.SimpleQueue()
        self._free_slots: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._turns: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._given_slot: int | None = None
        """The slot that the renderer writes into, and that was not sent yet."""
        self._sequence = 0
        """Of the batch being rendered."""
        self.telling = False
        """Whether a message was begun and is not complete: then nothing else can be told."""

    def run(self) -> None:
        """Work until the coordinator ends this process, or something fails."""
        try:
            threading.Thread(target=self._receive, daemon=True).start()
        except RuntimeError as error:
            raise MemoryError("the system gives no more threads") from error
        setup, handle = WorkerSetup.from_json(self._frames.get().payload)
        self._slots = Slots.attach(handle)
        for slot in range(handle.count):
            self._free_slots.put(slot)
        self._tell(Kind.READY)
        archive = _WorkerArchive(setup, self._wait_for_turn, self._target, self._slots.beat)
        while True:
            frame = self._next(self._frames)
            with translate_sqlite_errors(setup.source.display_path):
                if frame.kind is Kind.PIN:
                    self._tell(Kind.PINNED, payload=b"" if archive.pin() else b"busy")
                elif frame.kind is Kind.UNPIN:
                    archive.unpin()
                else:
                    unit = decode_unit(frame)
                    self._sequence = frame.sequence
                    self._send(unit, archive.render(unit))

    def _receive(self) -> None:
        try:
            while frame := read_frame(self._requests):
                if frame.kind is Kind.SLOT_FREE:
                    self._free_slots.put(frame.sequence)
                elif frame.kind is Kind.TURN:
                    self._turns.put(frame.sequence)
                else:
                    self._frames.put(frame)
        finally:
            # Also when it fails: a worker that hears nothing would wait for ever.
            os._exit(0)

    def _next(self, items: queue.SimpleQueue[Item]) -> Item:
        """Wait for what the receiver puts there."""
        while True:
            self._slots.beat()
            with contextlib.suppress(queue.Empty):
                return items.get(timeout=_BEAT_SECONDS)

    def _tell(self, kind: Kind, sequence: int = 0, payload: bytes = b"") -> None:
        """Send a message to the coordinator."""
        self.telling = True
        write_frame(self._answers, kind, sequence, payload)
        self.telling = False

    def _wait_for_turn(self, post: LargePost) -> None:
        """Wait until the batch is the one being written, so that one worker at a time holds a large post."""
        self._tell(Kind.LARGE, self._sequence, json.dumps(asdict(post)).encode())
        self._next(self._turns)

    def _target(self) -> memoryview:
        """A slot for the renderer to write into."""
        self._given_slot = self._take_slot()
        return self._slots.view(self._given_slot, self._slots.handle.slot_bytes)

    def _take_slot(self) -> int:
        """The slot that was given to the renderer and is still empty; else the next free one."""
        slot, self._given_slot = self._given_slot, None
        return self._next(self._free_slots) if slot is None else slot

    def _send(self, unit: Unit, chunks: Iterator[Chunk]) -> None:
        """Send the chunks of a unit, each as soon as the next one is there: the last says that it is the last."""
        notices = Notices()
        unread = unit.posts
        held: ChunkReady | None = None
        for chunk in chunks:
            notices.merge(chunk.notices)
            for ready in self._in_slots(chunk):
                if held is not None:
                    self._tell(Kind.CHUNK, self._sequence, held.encode())
                    unread -= held.posts
                held = ready
        if held is None:
            held = ChunkReady(self._take_slot(), 0, 0, 0, goes_on=False, posts_read=0, is_last=True)
        last = replace(held, posts_read=unread, is_last=True, notices=notices)
        self._tell(Kind.CHUNK, self._sequence, last.encode())

    def _in_slots(self, chunk: Chunk) -> Iterator[ChunkReady]:
        """A chunk in as many slots as it takes; its posts count with the first."""
        slot_bytes = self._slots.handle.slot_bytes
        if isinstance(chunk.data, memoryview):
            # It was rendered into the slot that was given.
            yield ChunkReady(
                self._take_slot(), len(chunk.data), chunk.plain_bytes, chunk.posts, chunk.goes_on, chunk.posts,
                is_last=False,
            )  # fmt: skip
            return
        data = memoryview(chunk.data)
        for start in range(0, len(data), slot_bytes):
            part = data[start : start + slot_bytes]
            slot = self._take_slot()
            self._slots.fill(slot, part)
            if start:
                yield ChunkReady(slot, len(part), 0, 0, goes_on=False, posts_read=0, is_last=False)
            else:
                yield ChunkReady(
                    slot, len(part), chunk.plain_bytes, chunk.posts, chunk.goes_on, chunk.posts, is_last=False
                )


def main() -> None:
    """The worker process."""
    # One thread uses SQLite here, nobody asks how much memory it has, and it may keep 800 KB at hand for what it
    # allocates and frees with every post: the first two take three percent off the time, the last one as much again.
    apsw.shutdown()
    apsw.config(apsw.SQLITE_CONFIG_SINGLETHREAD)
    apsw.config(apsw.SQLITE_CONFIG_MEMSTATUS, False)
    apsw.config(apsw.SQLITE_CONFIG_LOOKASIDE, 4096, 200)
    # Whatever prints must not end up among the messages.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    worker = _Worker(sys.stdin.buffer, answers)
    try:
        worker.run()
    except BaseException as error:
        if worker.telling:
            # The rest of that message would be taken from this one.
            os._exit(1)
        # With no memory left, this may fail as well; then the end of the process says enough.
        with contextlib.suppress(BaseException):
            failure = {
                "kind": type(error).__name__,
                "message": error.message if isinstance(error, ExportError) else _described(error),
                "hint": error.hint if isinstance(error, ExportError) else "",
                "traceback": traceback.format_exc(),
            }
            write_frame(answers, Kind.FAILED, 0, json.dumps(failure).encode())
    finally:
        os._exit(1)


def _described(error: BaseException) -> str:
    """Kind and message of an error, even if the error cannot be printed."""
    return traceback.format_exception_only(error)[-1].strip()
