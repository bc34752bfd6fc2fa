"""The program of an exporter: a process that exports small archives one after the other, each by itself.

The process of a migration starts `main` in a fresh interpreter and sends messages over standard input and output. When
its input ends, the exporter stops as an export does after a signal: it undoes its unfinished export and exits. So
nothing partial stays, even if the process of the migration dies.

Messages are pickled. This is safe because both ends are this program, and no other process has access to the pipes.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import pickle
import queue
import signal
import sys
import threading
import traceback
from dataclasses import dataclass, field
from functools import partial
from typing import IO, TYPE_CHECKING, Any

import apsw

from skyexport import errors
from skyexport.errors import ExportError, MemoryLimitError, StoppedError
from skyexport.fleet.resumption import export_to_skip
from skyexport.options.export_options import ExportOptions
from skyexport.pipeline.export import export
from skyexport.pipeline.summary import ExportSummary
from skyexport.rendering.messages import Kind, read_frame, write_frame
from skyexport.runtime.cleanup import start_thread
from skyexport.runtime.progress import Progress
from skyexport.runtime.signals import Signals
from skyexport.verification.result import Verification

if TYPE_CHECKING:
    from skyexport.pipeline.parts import Part, WrittenPart

__all__ = [
    "ExportJob", "JobResult", "PartJob", "ProgressUpdate", "Request", "main", "read_message", "unexpected",
    "write_message",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class ExportJob:
    """A request for one archive."""

    number: int
    """Number of the archive in the list."""
    options: ExportOptions
    resume: bool = False
    """Look for an earlier export first."""
    export: bool = True
    """Export the archive if there is no earlier export."""


@dataclass(frozen=True, slots=True)
class PartJob:
    """A request for one data file of a split export."""

    number: int
    part: Part


Request = ExportJob | PartJob
"""A request to an exporter."""


@dataclass(frozen=True, slots=True)
class JobResult:
    """The answer to a request: a *summary*, an *earlier* export, a *part*, or an *error*.

    All of them are None if the request only looked for an earlier export and found none.
    """

    number: int
    """Number of the archive in the list."""
    summary: ExportSummary | None = None
    """The new export."""
    earlier: Verification | None = None
    """The earlier export that makes a new one unnecessary."""
    part: WrittenPart | None = None
    """The data file that was asked for."""
    error: ExportError | None = None
    messages: list[str] = field(default_factory=list)
    """Further messages for people, one line each."""

    @property
    def has_export(self) -> bool:
        """Whether the archive has an export now."""
        kept = isinstance(self.error, StoppedError) and bool(self.error.kept)
        return self.summary is not None or self.earlier is not None or kept


@dataclass(frozen=True, slots=True)
class ProgressUpdate:
    """The progress of the request in work; sent several times a second."""

    number: int
    """Number of the archive in the list."""
    posts: int
    bytes: int
    fraction: float
    """The part that is done, 0 to 1."""
    pulse: tuple[object, ...]
    """A value that changes whenever there is progress."""

    @classmethod
    def of(cls, number: int, progress: Progress) -> ProgressUpdate:
        """The message about *progress* of the archive with this number."""
        pulse = (
            progress.stage, progress.posts_read, progress.bytes, progress.media_files, progress.media_bytes,
            progress.read_back_bytes,
        )  # fmt: skip
        # Posts read back by a verification do not count as exported.
        exported = (0, 0) if progress.stage == "verifying" else (progress.posts, progress.bytes)
        return cls(number, *exported, progress.fraction, pulse)


def write_message(stream: IO[bytes], message: object) -> None:
    """Write a message to the stream."""
    write_frame(stream, Kind.MESSAGE, payload=pickle.dumps(message))


def read_message(stream: IO[bytes]) -> Any:
    """Read a message from the stream; None if the stream ends, even in the middle of a message."""
    frame = read_frame(stream)
    return None if frame is None else pickle.loads(frame.payload)


def unexpected(error: BaseException) -> ExportError:
    """The error of an archive for an unexpected exception, with the traceback as its note."""
    failure = errors.unexpected(error)
    failure.add_note(traceback.format_exc())
    return failure


class _Exporter:
    """The state of the process: the requests received and the answer not sent yet."""

    def __init__(self, signals: Signals, requests: IO[bytes], answers: IO[bytes]) -> None:
        self._signals = signals
        self._stream = requests
        self._answers = answers
        self._requests: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._unsent: JobResult | None = None

    def run(self) -> None:
        """Handle requests until the input ends, or until an export runs out of memory.

        Raises:
            StoppedError: The input ended, or there was a signal.
        """
        start_thread(threading.Thread(target=self._receive, daemon=True))
        while (request := self._requests.get()) is not None:
            self._unsent = self._answer(request)
            out_of_memory = isinstance(self._unsent.error, MemoryLimitError)
            self.send_unsent()
            if out_of_memory:
                # This process may keep memory that it has freed; a new process starts with little.
                return

    def send_unsent(self) -> None:
        """Send the answer that is not sent yet, if any: a complete export is reported even after a signal."""
        with self._signals.waiting():
            answer, self._unsent = self._unsent, None
            if answer is not None:
                write_message(self._answers, answer)

    def _receive(self) -> None:
        request: Request | None = None
        while True:
            try:
                request = read_message(self._stream)
            except (OSError, ValueError):
                request = None
            self._requests.put(request)
            if request is None:
                break
        # Raise the signal as if another process had sent it; Windows has no way to send one.
        if sys.platform == "win32":
            _thread.interrupt_main(signal.SIGTERM)
        else:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

    def _answer(self, request: Request) -> JobResult:
        return self._exported(request) if isinstance(request, ExportJob) else self._written(request)

    def _written(self, request: PartJob) -> JobResult:
        from skyexport.pipeline.parts import write_part

        part: WrittenPart | None = None
        try:
            part = write_part(request.part, partial(self._watch, request.number))
        except ExportError as error:
            if part is None:
                return JobResult(request.number, error=error)
        except Exception as error:
            return JobResult(request.number, error=unexpected(error))
        return JobResult(request.number, part=part)

    def _exported(self, request: ExportJob) -> JobResult:
        messages: list[str] = []
        options = request.options
        watch = partial(self._watch, request.number)
        summary: ExportSummary | None = None
        earlier: Verification | None = None
        try:
            if request.resume:
                earlier = export_to_skip(options, watch)
            if earlier is None and request.export:
                # An archive that does not fit into this share is exported again later, alone, with the whole limit.
                summary = export(options, watch, say=messages.append, must_fit=False)
            return JobResult(request.number, summary, earlier, messages=messages)
        except ExportError as error:
            # If the export is complete, a late signal changes nothing.
            if summary is None and earlier is None:
                return JobResult(request.number, error=error, messages=messages)
        except Exception as error:
            return JobResult(request.number, error=unexpected(error), messages=messages)
        return JobResult(request.number, summary, earlier, messages=messages)

    def _watch(self, number: int, progress: Progress) -> None:
        self._signals.check()
        if progress.stage != "done":
            write_message(self._answers, ProgressUpdate.of(number, progress))


def main() -> None:
    """Run the exporter process."""
    signals = Signals()
    signals.install()
    # As in workers, except that another thread may close a connection than the one that opened it.
    apsw.shutdown()
    apsw.config(apsw.SQLITE_CONFIG_MULTITHREAD)
    apsw.config(apsw.SQLITE_CONFIG_MEMSTATUS, False)
    apsw.config(apsw.SQLITE_CONFIG_LOOKASIDE, 4096, 200)
    # Printed output must not mix with the messages on standard output.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    exporter = _Exporter(signals, sys.stdin.buffer, answers)
    status = 0
    try:
        exporter.run()
    except StoppedError as error:
        # This status tells that no archive is in work: the stopped one, if any, has its answer.
        status = error.exit_code
        with contextlib.suppress(StoppedError, OSError):
            exporter.send_unsent()
    except BaseException:
        status = 1
        traceback.print_exc()
    finally:
        os._exit(status)
