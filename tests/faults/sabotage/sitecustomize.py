"""Puts a fault into the program's processes: Python runs this when it starts with the directory in PYTHONPATH.

SABOTAGE_PLAN is one of

`where/what/count`: the fault happens when a worker gets there the *count*-th time; SABOTAGE_TOKEN names a file, and
the worker that can take it away is the one that is meant.
`random`: random names are all zeros.
`clock`: the clock jumps to another year whenever somebody looks at it.
"""

from __future__ import annotations

import contextlib
import ctypes
import datetime
import io
import os
import random
import secrets
import signal
import sys
import time
from pathlib import Path
from typing import IO, Any

FOR_EVER = contextlib.ExitStack()
"""Keeps what is done at a moment of the export."""


class OddError(BaseException):
    """An error that can not be pickled, and tells a line break."""


def strike(what: str) -> None:
    """The fault."""
    if what in ("KILL", "STOP"):
        os.kill(os.getpid(), signal.Signals[f"SIG{what}"])
    elif what == "crash":
        ctypes.string_at(0)
    elif what == "exit":
        os._exit(7)
    elif what == "memory":
        raise MemoryError
    else:
        raise OddError("odd\n\x1b[31m", sys.stdin, lambda: None)


def sabotage(where: str, what: str, count: int) -> None:
    """Have the fault happen."""
    from skyexport.archive.plan import Batch
    from skyexport.rendering import worker
    from skyexport.rendering.messages import Kind, write_frame
    from skyexport.runtime.for_tests import on_reached

    met = 0

    def at(place: str) -> bool:
        nonlocal met
        met += place == where
        return place == where and met == count

    def rendering(_: Batch) -> None:
        if at("batch"):
            strike(what)

    def sending(stream: IO[bytes], kind: Kind, *content: Any, **more: Any) -> None:
        if kind is Kind.CHUNK and at("message"):
            whole = io.BytesIO()
            write_frame(whole, kind, *content, **more)
            stream.write(whole.getvalue()[: len(whole.getvalue()) // 2])
            stream.flush()
            strike(what)
        write_frame(stream, kind, *content, **more)

    tell = worker._Worker._tell

    def telling(self: worker._Worker, kind: Kind, *content: Any, **more: Any) -> None:
        tell(self, kind, *content, **more)
        if kind is Kind.PINNED and at("idle"):
            strike(what)

    FOR_EVER.enter_context(on_reached("rendering", rendering))
    worker.write_frame = sending  # type: ignore[attr-defined]
    worker._Worker._tell = telling  # type: ignore[method-assign]


class JumpingClock(datetime.datetime):
    """The time, never the same one."""

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> JumpingClock:
        """A day of the last or the next centuries."""
        return cls.fromtimestamp(random.randrange(4_000_000_000), tz)


def jump() -> None:
    """Have the clock do that; the one that only counts is not set by anybody."""
    datetime.datetime = JumpingClock  # type: ignore[misc]
    time.time = lambda: random.uniform(0, 4e9)


def main() -> None:
    """Look whether this is the process that is meant."""
    plan, token = os.environ.get("SABOTAGE_PLAN"), os.environ.get("SABOTAGE_TOKEN")
    if plan == "random":
        secrets.token_hex = lambda nbytes=None: "00" * (nbytes or 32)
    elif plan == "clock":
        jump()
    elif plan and token and any("skyexport.rendering.worker" in argument for argument in sys.orig_argv):
        try:
            Path(token).unlink()
        except FileNotFoundError:
            return
        where, what, count = plan.split("/")
        sabotage(where, what, int(count))


main()
