"""How far an export is: counted by the one thread that writes, watched by another, shown in one of several ways.

The watching thread also samples memory. It is a thread of its own so that the clock goes on while the first one waits
in a long sort or for the disk.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Literal, Protocol, Self, TextIO

import orjson

from skyexport.memory import MemoryGuard
from skyexport.options import format_size

__all__ = ["MODES", "Counters", "Monitor", "Progress", "Reporter", "Stage", "reporter_for"]

SCHEMA_VERSION = 1
"""Of events and summaries: it grows when a field changes its meaning; fields may be added any time."""

Stage = Literal[
    "preparing",
    "reading earlier exports",
    "exporting",
    "copying media",
    "finishing",
    "reading back",
    "verifying",
    "done",
]

_TICK_SECONDS = 0.2
"""A bar that moves five times a second looks alive; a memory sample costs less than a millisecond."""

_LINE_SECONDS = 2.5
"""Between plain lines: half of what users were promised."""

_EVENT_SECONDS = 1.0
"""Between JSON events."""

_BAR_AFTER_SECONDS = 0.4
"""Exports that are done by then need no bar."""

_BAR_COLUMNS = 20

_BAR_FROM_COLUMNS = 72
"""On narrower terminals the words need the room: share, time left and posts have about 48 columns."""


@dataclass(frozen=True, slots=True)
class Progress:
    """A moment of an export, or of verifying one; then posts and bytes are those that were read back."""

    stage: Stage
    posts: int
    """Posts written."""
    posts_read: int
    """Posts of the archive gone through, taken or not."""
    posts_to_read: int
    """How many there are to go through; 0 while that is not known."""
    bytes: int
    """Bytes written."""
    seconds: float
    """Since the export began."""
    memory_bytes: int | None
    """Of all its processes; None where the system does not report that."""
    media_files: int = 0
    """Media files gone through, copied or not."""
    media_files_to_read: int = 0
    """How many there are to go through."""
    media_bytes: int = 0
    """Bytes of media copied."""
    read_back_bytes: int = 0
    """Bytes of earlier exports, and of the new one, that were read to verify them."""

    @property
    def fraction(self) -> float:
        """How much is done, 0 to 1."""
        return min(1.0, self.posts_read / self.posts_to_read) if self.posts_to_read else 0.0

    @property
    def posts_per_second(self) -> float:
        """Rate of posts read so far."""
        return self.posts_read / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Estimate of the time to the end, None while there is nothing to go by."""
        return self.seconds * (1 / self.fraction - 1) if self.fraction else None

    def sentence(self) -> str:
        """For people, in one line."""
        if self.stage == "preparing":
            return f"reading the archive's index, {self.seconds:.0f} s"
        if self.stage == "reading earlier exports":
            return f"verifying and reading earlier exports, {format_size(self.read_back_bytes)}, {self.seconds:.0f} s"
        if self.stage == "reading back":
            return f"verifying the new export, {self.seconds:.0f} s"
        if self.media_files_to_read and self.stage in ("copying media", "verifying"):
            return (
                f"{self.stage.removesuffix(' media')} media, {self.media_files:,} of {self.media_files_to_read:,} files"
                f", {format_size(self.media_bytes)}, {self.seconds:.0f} s"
            )
        if self.stage == "finishing":
            return f"waiting for the disk, {self.seconds:.0f} s: {format_size(self.bytes)} written"
        taken = f", {self.posts:,} taken" if self.posts < self.posts_read else ""
        return self._line(f"{self.posts_read:,} of {self.posts_to_read:,} posts{taken}")

    def _line(self, counts: str) -> str:
        """Share, time left, counts, size, rate and memory: the first matter most, and narrow terminals show those."""
        left = "" if self.seconds_left is None else f"{duration(self.seconds_left)} left, "
        memory = "" if self.memory_bytes is None else f", memory {format_size(self.memory_bytes)}"
        rate = f"{self.posts_per_second:,.0f}/s"
        return f"{self.fraction:4.0%}  {left}{counts}, {format_size(self.bytes)}, {rate}{memory}"


def duration(seconds: float) -> str:
    """Seconds for people: `7 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


class Counters:
    """What the coordinator counts while it works."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self.stage: Stage = "preparing"
        self.posts = 0
        self.posts_read = 0
        self.posts_to_read = 0
        self.bytes = 0
        self.media_files = 0
        self.media_files_to_read = 0
        self.media_bytes = 0
        self.read_back_bytes = 0

    @property
    def seconds(self) -> float:
        """Since the export began."""
        return time.monotonic() - self._started

    def progress(self, memory_bytes: int | None) -> Progress:
        """This moment."""
        return Progress(
            self.stage, self.posts, self.posts_read, self.posts_to_read, self.bytes, self.seconds, memory_bytes,
            self.media_files, self.media_files_to_read, self.media_bytes, self.read_back_bytes,
        )  # fmt: skip


class Monitor:
    """Samples memory and reports progress, several times a second, in a thread of its own, while the `with` lasts.

    Args:
        counters: What is reported.
        guard: Samples the memory.
        on_progress: Is told; what it raises ends the export at the next `check`.
    """

    def __init__(self, counters: Counters, guard: MemoryGuard, on_progress: Callable[[Progress], None] | None) -> None:
        self._counters = counters
        self._guard = guard
        self._on_progress = on_progress
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="skyexport-monitor", daemon=True)

    def __enter__(self) -> Self:
        if self._guard.latest_bytes is None:
            self._guard.sample()
        try:
            self._thread.start()
        except RuntimeError as error:
            raise MemoryError(f"the system gives no more threads: {error}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if kind is None:
            self._guard.sample()
            self._counters.stage = "done"
            # The export is complete: a listener that fails now cannot end it any more.
            with contextlib.suppress(Exception):
                if self._on_progress is not None:
                    self._on_progress(self._counters.progress(self._guard.latest_bytes))

    def check(self) -> None:
        """Fail when the memory limit was reached, or the reporting failed.

        Raises:
            MemoryLimitError: The limit was reached.
        """
        if self._error is not None:
            raise self._error
        self._guard.check()

    def _run(self) -> None:
        while not self._stop.wait(_TICK_SECONDS) and self._error is None:
            try:
                self._guard.sample()
            except Exception as error:
                self._error = error
            self._report()

    def _report(self) -> None:
        if self._on_progress is not None:
            try:
                self._on_progress(self._counters.progress(self._guard.latest_bytes))
            except BaseException as error:
                self._error = error


class Reporter(Protocol):
    """Shows progress to somebody."""

    def __call__(self, progress: Progress) -> None:
        """Show it, or leave it out when the last one is still fresh."""
        ...

    def paused(self) -> AbstractContextManager[None]:
        """Leave the stream to somebody else, while the `with` statement lasts."""
        ...

    def close(self) -> None:
        """Leave the stream as it should be for what is written next."""
        ...


class _Nothing:
    def __call__(self, progress: Progress) -> None:
        pass

    def paused(self) -> AbstractContextManager[None]:
        return contextlib.nullcontext()

    def close(self) -> None:
        pass


class _Lines(_Nothing):
    """One plain line every few seconds, for logs."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._due = _LINE_SECONDS

    def __call__(self, progress: Progress) -> None:
        if progress.seconds >= self._due and progress.stage != "done":
            self._due = progress.seconds + _LINE_SECONDS
            _say(self._stream, progress.sentence())


class _Events(_Nothing):
    """One JSON object a line, for programs; the first at once, the last with stage `done`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._due = 0.0

    def __call__(self, progress: Progress) -> None:
        if progress.seconds >= self._due or progress.stage == "done":
            self._due = progress.seconds + _EVENT_SECONDS
            left = progress.seconds_left
            event = {
                "schema_version": SCHEMA_VERSION,
                "event": "progress",
                **asdict(progress),
                "seconds": round(progress.seconds, 3),
                "fraction": round(progress.fraction, 4),
                "posts_per_second": round(progress.posts_per_second, 1),
                "seconds_left": None if left is None else round(left, 1),
            }
            _say(self._stream, orjson.dumps(event).decode())


class _Bar:
    """A line on a terminal that is written again and again, and goes away at the end.

    It has ASCII only: terminals of East Asia show many other characters twice as wide.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shown = 0
        """Columns of the line that is on the terminal."""
        self._drawing = threading.Lock()

    def __call__(self, progress: Progress) -> None:
        if progress.seconds >= _BAR_AFTER_SECONDS and progress.stage != "done":
            with self._drawing:
                self._show(bar_line(progress, self._columns()))

    def _columns(self) -> int:
        """Columns of the terminal now; COLUMNS says it where the terminal does not."""
        try:
            columns = os.get_terminal_size(self._stream.fileno()).columns
        except (OSError, ValueError, AttributeError):
            columns = 0
        return columns or shutil.get_terminal_size().columns

    def _show(self, line: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(f"\r{line:{self._shown}}" if line else f"\r{'':{self._shown}}\r")
            self._stream.flush()
        self._shown = len(line)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        with self._drawing:
            self._clear()
            yield

    def close(self) -> None:
        with self._drawing:
            self._clear()

    def _clear(self) -> None:
        if self._shown:
            self._show("")


def bar_line(progress: Progress, columns: int) -> str:
    """The sentence about *progress*, with a bar before it where there is room, in one line of a terminal.

    What does not fit is left out from the end, item by item.
    """
    # A terminal goes to the next line when the last column is written.
    columns -= 1
    sentence = progress.sentence()
    bar = ""
    if columns >= _BAR_FROM_COLUMNS:
        done = round(progress.fraction * _BAR_COLUMNS)
        bar = f"[{'#' * done}{'.' * (_BAR_COLUMNS - done)}] "
    while len(bar + sentence) > columns and ", " in sentence:
        sentence = sentence.rpartition(", ")[0]
    if len(sentence) > columns:
        sentence = sentence.removesuffix(" left")
    return (bar + sentence)[: max(0, columns)]


MODES = ("auto", "bar", "plain", "json", "none")
"""Ways to show progress; `auto` is a bar on a terminal and plain lines elsewhere."""


def reporter_for(mode: str, stream: TextIO | None) -> Reporter:
    """The reporter that *mode* (one of `MODES`) means for *stream*, which is None when it was closed from the start."""
    if stream is None:
        return _Nothing()
    if mode == "auto":
        mode = "bar" if stream.isatty() and os.environ.get("TERM", "") != "dumb" else "plain"
    if mode == "bar":
        return _Bar(stream)
    if mode == "json":
        return _Events(stream)
    return _Lines(stream) if mode == "plain" else _Nothing()


def _say(stream: TextIO, line: str) -> None:
    # Whoever stopped listening to the progress still wants the export.
    with contextlib.suppress(OSError, ValueError):
        stream.write(line + "\n")
        stream.flush()
