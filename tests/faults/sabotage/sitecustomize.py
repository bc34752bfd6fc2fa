"""Puts a fault into one worker: Python runs this when it starts with the directory in PYTHONPATH.

SKYEXPORT_SABOTAGE is `where/what/count`: the fault happens when the worker gets there the *count*-th time.
SKYEXPORT_TOKEN names a file: the worker that can take it away is the one that is meant.
"""

from __future__ import annotations

import ctypes
import io
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any


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
    from skyexport import worker
    from skyexport.messages import Kind, write_frame
    from skyexport.plan import Batch
    from skyexport.render import BatchRenderer, Chunk

    met = 0

    def at(place: str) -> bool:
        nonlocal met
        met += place == where
        return place == where and met == count

    render = BatchRenderer.render

    def rendering(self: BatchRenderer, batch: Batch) -> Iterator[Chunk]:
        if at("batch"):
            strike(what)
        yield from render(self, batch)

    def sending(stream: IO[bytes], kind: Kind, *content: Any, **more: Any) -> None:
        if kind is Kind.CHUNK and at("message"):
            whole = io.BytesIO()
            write_frame(whole, kind, *content, **more)
            stream.write(whole.getvalue()[: len(whole.getvalue()) // 2])
            stream.flush()
            strike(what)
        write_frame(stream, kind, *content, **more)
        if kind is Kind.PINNED and at("idle"):
            strike(what)

    BatchRenderer.render = rendering  # type: ignore[method-assign]
    worker.write_frame = sending  # type: ignore[attr-defined]


def main() -> None:
    """Look whether this is the process that is meant."""
    plan, token = os.environ.get("SKYEXPORT_SABOTAGE"), os.environ.get("SKYEXPORT_TOKEN")
    if plan and token and any("skyexport.worker" in argument for argument in sys.orig_argv):
        try:
            Path(token).unlink()
        except FileNotFoundError:
            return
        where, what, count = plan.split("/")
        sabotage(where, what, int(count))


main()
