"""What runs in an exporter: a process that exports small archives, one after the other, all by itself.

The process that migrates many archives starts `main` in a fresh interpreter and talks to it over standard input and
output. When its input ends, the exporter stops as any export does that gets a signal: what it has begun is undone, and
it leaves. So nothing partial stays, whatever becomes of the process that started it.

Messages are pickled: both ends are this program, one has started the other, and nobody else has a hold of the pipes.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import pickle
import queue
import signal
import struct
import sys
import threading
import traceback
from dataclasses import dataclass, field
from functools import partial
from typing import IO, Any

import apsw

from skyexport.coordinator import export
from skyexport.errors import ExportError, MemoryLimitError, StoppedError
from skyexport.options import ExportOptions
from skyexport.progress import Progress
from skyexport.resumption import export_to_skip
from skyexport.signals import Signals
from skyexport.summary import ExportSummary
from skyexport.verification import Verification

__all__ = ["Answer", "Moment", "Request", "main", "read_message", "unexpected", "write_message"]

_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Request:
    """One archive."""

    number: int
    """Its place in the list."""
    options: ExportOptions
    resume: bool = False
    """Look for an export that is already there."""
    export: bool = True
    """Make one, where there is none."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a request: *summary* of an export that was made, one that was there *earlier*, or an *error*.

    None of them when an earlier one was only looked for, and not found.
    """

    number: int
    summary: ExportSummary | None = None
    earlier: Verification | None = None
    error: ExportError | None = None
    said: list[str] = field(default_factory=list)
    """What people should know besides."""


@dataclass(frozen=True, slots=True)
class Moment:
    """How far it is with the request in hand; sent several times a second."""

    number: int
    posts: int
    bytes: int
    fraction: float
    pulse: tuple[object, ...]
    """Is another one whenever something went on."""

    @classmethod
    def of(cls, number: int, progress: Progress) -> Moment:
        """The moment that *progress* tells of, of the archive with this number."""
        pulse = (
            progress.stage, progress.posts_read, progress.bytes, progress.media_files, progress.media_bytes,
            progress.read_back_bytes,
        )  # fmt: skip
        # What is read back for verifying was not exported.
        exported = (0, 0) if progress.stage == "verifying" else (progress.posts, progress.bytes)
        return cls(number, *exported, progress.fraction, pulse)


def write_message(stream: IO[bytes], message: object) -> None:
    """Send a message."""
    payload = pickle.dumps(message)
    stream.write(_LENGTH.pack(len(payload)) + payload)
    stream.flush()


def read_message(stream: IO[bytes]) -> Any:
    """Receive a message; None at the end of the stream, also in the middle of one."""
    header = stream.read(_LENGTH.size)
    if len(header) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(header)
    payload = stream.read(length)
    return pickle.loads(payload) if len(payload) == length else None


def unexpected(error: BaseException) -> ExportError:
    """What nobody foresaw, as an error of one archive; the traceback is its note."""
    found = ExportError(f"unexpected {type(error).__name__}: {error}", "please report it")
    found.add_note(traceback.format_exc())
    return found


class _Exporter:
    """The process's state: the requests that came in, and what is not yet answered."""

    def __init__(self, signals: Signals, requests: IO[bytes], answers: IO[bytes]) -> None:
        self._signals = signals
        self._stream = requests
        self._answers = answers
        self._requests: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._unsent: Answer | None = None

    def run(self) -> None:
        """Work until the input ends.

        Raises:
            StoppedError: It ended, or there was a signal.
        """
        threading.Thread(target=self._receive, daemon=True).start()
        while (request := self._requests.get()) is not None:
            self._unsent = self._answer(request)
            out_of_memory = isinstance(self._unsent.error, MemoryLimitError)
            self.send_unsent()
            if out_of_memory:
                # What was freed may still be this process's: a new one begins with little.
                return

    def send_unsent(self) -> None:
        """Send the answer that was not sent yet, if any: what is complete is told, though a signal came."""
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
        # As if somebody had sent it; and on Windows, where nobody can.
        if sys.platform == "win32":
            _thread.interrupt_main(signal.SIGTERM)
        else:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

    def _answer(self, request: Request) -> Answer:
        said: list[str] = []
        options = request.options
        watch = partial(self._watch, request.number)
        summary: ExportSummary | None = None
        try:
            if request.resume and (earlier := export_to_skip(options, watch)) is not None:
                return Answer(request.number, earlier=earlier)
            if not request.export:
                return Answer(request.number)
            # What its share is too small for is exported again later, alone, with the whole limit.
            summary = export(options, watch, say=said.append, must_fit=False)
        except ExportError as error:
            # A signal that came when all was done changes nothing.
            if summary is None:
                return Answer(request.number, error=error, said=said)
        except Exception as error:
            return Answer(request.number, error=unexpected(error), said=said)
        return Answer(request.number, summary, said=said)

    def _watch(self, number: int, progress: Progress) -> None:
        self._signals.check()
        if progress.stage != "done":
            write_message(self._answers, Moment.of(number, progress))


def main() -> None:
    """The exporter process."""
    signals = Signals()
    signals.install()
    # As in workers; but connections may be closed by another thread than the one that opened them.
    apsw.shutdown()
    apsw.config(apsw.SQLITE_CONFIG_MULTITHREAD)
    apsw.config(apsw.SQLITE_CONFIG_MEMSTATUS, False)
    apsw.config(apsw.SQLITE_CONFIG_LOOKASIDE, 4096, 200)
    # Whatever prints must not end up among the messages.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    exporter = _Exporter(signals, sys.stdin.buffer, answers)
    status = 0
    try:
        exporter.run()
    except StoppedError:
        with contextlib.suppress(StoppedError, OSError):
            exporter.send_unsent()
    except BaseException:
        status = 1
        traceback.print_exc()
    finally:
        os._exit(status)
