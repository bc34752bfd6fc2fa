"""The progress of an export: one thread counts while it writes, another one reports and samples memory.

The second thread keeps the clock running while the first one waits in a long sort or for the disk.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Literal, Protocol, Self, TextIO

import orjson

from skyexport.runtime.cleanup import start_thread, uninterrupted
from skyexport.runtime.memory import MemoryGuard
from skyexport.wording import format_size

__all__ = ["MODES", "Counters", "Monitor", "Progress", "Reporter", "Stage", "reporter_for"]

SCHEMA_VERSION = 1
"""Version of events and summaries. It grows when a field changes its meaning; new fields may appear at any time."""

Stage = Literal[
    "preparing",
    "planning pages",
    "checking the repository",
    "importing posts",
    "making indexes",
    "reading earlier exports",
    "exporting",
    "copying media",
    "finishing",
    "reading back",
    "verifying",
    "done",
]

_TICK_SECONDS = 0.2
"""A bar that moves five times a second looks alive; a memory sample takes less than a millisecond."""

_LINE_SECONDS = 2.5
"""Time between plain lines: half of the promised five seconds."""

_EVENT_SECONDS = 0.5
"""Time between JSON events: a bar that is drawn from them moves at least every second."""

_BAR_AFTER_SECONDS = 0.4
"""Shorter exports need no bar."""

_BAR_COLUMNS = 20

_BAR_FROM_COLUMNS = 72
"""Narrower terminals show no bar: percent, time left and posts need about 48 columns."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of an export, or of its verification, where posts and bytes are those read back."""

    stage: Stage
    posts: int
    """Posts written so far."""
    posts_read: int
    """Posts of the archive visited so far, exported or not."""
    posts_to_read: int
    """Posts to visit; 0 if still unknown."""
    bytes: int
    """Bytes written so far."""
    seconds: float
    """Seconds since the start of the export."""
    memory_bytes: int | None
    """Memory of all its processes; None if the system does not report memory."""
    media_files: int = 0
    """Media files visited so far, copied or not."""
    media_files_to_read: int = 0
    """Media files to visit."""
    media_bytes: int = 0
    """Bytes of media copied so far."""
    read_back_bytes: int = 0
    """Bytes of the earlier exports and the new export that were read to verify them."""

    @property
    def fraction(self) -> float:
        """The part that is done, 0 to 1."""
        return min(1.0, self.posts_read / self.posts_to_read) if self.posts_to_read else 0.0

    @property
    def posts_per_second(self) -> float:
        """Posts visited per second so far."""
        return self.posts_read / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Estimated seconds to the end; None if still unknown."""
        return self.seconds * (1 / self.fraction - 1) if self.fraction else None

    def sentence(self) -> str:
        """The progress for people, in one line."""
        if self.stage == "preparing":
            return f"reading the archive's index, {self.seconds:.0f} s"
        if self.stage == "planning pages":
            return f"{self.stage}, {self.seconds:.0f} s"
        if self.stage == "checking the repository":
            return f"{self.stage}, {format_size(self.read_back_bytes)}, {self.seconds:.0f} s"
        if self.stage in ("importing posts", "making indexes"):
            return f"{self.stage}: {self.posts_read:,}, {self.seconds:.0f} s"
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
        """Percent, time left, counts, size, rate, memory; narrow terminals show the first, which matter most."""
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
    """The counters of the coordinator."""

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
        """Seconds since the start of the export."""
        return time.monotonic() - self._started

    def progress(self, memory_bytes: int | None) -> Progress:
        """The progress so far."""
        return Progress(
            self.stage, self.posts, self.posts_read, self.posts_to_read, self.bytes, self.seconds, memory_bytes,
            self.media_files, self.media_files_to_read, self.media_bytes, self.read_back_bytes,
        )  # fmt: skip


class Monitor:
    """Samples memory and reports progress several times a second, in a thread of its own. Use it in a `with` statement.

    Args:
        counters: The counters to report.
        guard: Samples the memory.
        on_progress: Called with the progress; an exception that it raises ends the export at the next `check`.
    """

    def __init__(self, counters: Counters, guard: MemoryGuard, on_progress: Callable[[Progress], None] | None) -> None:
        self._counters = counters
        self._guard = guard
        self._on_progress = on_progress
        self._stop = threading.Event()
        self._error: BaseException | None = None
        # If a signal comes before the owner has this object, the thread ends with it.
        look, stop = weakref.WeakMethod(self._look), self._stop
        self._thread = threading.Thread(target=_look_often, args=(look, stop), name="skyexport-monitor", daemon=True)

    def __enter__(self) -> Self:
        if self._guard.latest_bytes is None:
            self._guard.sample()
        try:
            start_thread(self._thread)
        except RuntimeError as error:
            raise MemoryError(f"the system gives no more threads: {error}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        uninterrupted(self._end)
        if kind is None:
            self._guard.sample()
            self._counters.stage = "done"
            # The export is complete: an error of the callback cannot end it now.
            with contextlib.suppress(Exception):
                if self._on_progress is not None:
                    self._on_progress(self._counters.progress(self._guard.latest_bytes))

    def _end(self) -> None:
        self._stop.set()
        self._thread.join()

    def check(self) -> None:
        """Raise the error of this thread, if there is one.

        Raises:
            MemoryLimitError: The memory limit was reached.
            BaseException: *on_progress* raised it.
        """
        if self._error is not None:
            raise self._error
        self._guard.check()

    def _look(self) -> bool:
        """Sample the memory and report; returns whether to go on."""
        try:
            self._guard.sample()
        except Exception as error:
            self._error = error
        if self._on_progress is not None:
            try:
                self._on_progress(self._counters.progress(self._guard.latest_bytes))
            except BaseException as error:
                self._error = error
        return self._error is None


def _look_often(look: Callable[[], Callable[[], bool] | None], stop: threading.Event) -> None:
    """Call what *look* returns several times a second."""
    while not stop.wait(_TICK_SECONDS):
        now = look()
        if now is None or not now():
            return
        del now


class Reporter(Protocol):
    """Shows progress on a stream."""

    def __call__(self, progress: Progress) -> None:
        """Show *progress*, or skip it if the last one is recent."""
        ...

    def paused(self) -> AbstractContextManager[None]:
        """Keep the stream free for other output during the `with` statement."""
        ...

    def close(self) -> None:
        """Remove a bar from the stream."""
        ...


class _Nothing:
    def __call__(self, progress: Progress) -> None:
        pass

    def paused(self) -> AbstractContextManager[None]:
        return contextlib.nullcontext()

    def close(self) -> None:
        pass


class _Lines(_Nothing):
    """A plain line every few seconds, for logs."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._due = _LINE_SECONDS

    def __call__(self, progress: Progress) -> None:
        if progress.seconds >= self._due and progress.stage != "done":
            self._due = progress.seconds + _LINE_SECONDS
            _say(self._stream, progress.sentence())


class _Events(_Nothing):
    """One JSON object per line, for programs: the first at once, the last with stage `done`."""

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
    """A line on a terminal that is updated in place and removed at the end.

    It is ASCII only, because East Asian terminals show many other characters with double width.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shown = 0
        """Columns of the line that the terminal shows."""
        self._drawing = threading.Lock()

    def __call__(self, progress: Progress) -> None:
        if progress.seconds >= _BAR_AFTER_SECONDS and progress.stage != "done":
            with self._drawing:
                self._show(bar_line(progress, self._columns()))

    def _columns(self) -> int:
        """Columns of the terminal now; those of the variable COLUMNS if the terminal does not report them."""
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
    """The sentence of *progress* for a line of a terminal, after a bar if there is room.

    Items that do not fit are dropped from the end.
    """
    # Writing the last column would move the cursor to the next line.
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
"""Ways to show progress; `auto` is a bar on a terminal, else plain lines."""


def reporter_for(mode: str, stream: TextIO | None) -> Reporter:
    """The reporter for *mode* (one of `MODES`) on *stream*, which is None if it was closed from the start."""
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
    # A closed stream must not end the export.
    with contextlib.suppress(OSError, ValueError):
        stream.write(line + "\n")
        stream.flush()
