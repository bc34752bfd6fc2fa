"""SHA-256 of data, computed in another thread while the caller does something else with them."""

from __future__ import annotations

import contextlib
import hashlib
from functools import partial

from skyexport.runtime.background import Background
from skyexport.runtime.cleanup import Call

__all__ = ["Digest"]

_BESIDE_BYTES = 1 << 16
"""Smaller pieces are hashed before a thread would have begun."""


class Digest:
    """The SHA-256 of pieces, one after the other. Its owner calls `end`."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._thread: Background | None = None
        self._call: Call[None] | None = None

    def begin(self, data: bytes | memoryview) -> None:
        """Begin with a piece, which must stay as it is until `wait`."""
        self.wait()
        if len(data) >= _BESIDE_BYTES:
            with contextlib.suppress(MemoryError):  # The system may give no more threads.
                if self._thread is None:
                    self._thread = Background(1)
                self._call = self._thread.begin(partial(self._digest.update, data))
                return
        self._digest.update(data)

    def wait(self) -> None:
        """Wait until the last piece is hashed, whatever signals arrive."""
        if self._call is not None:
            self._call.wait()
            self._call = None

    def hexdigest(self) -> str:
        """The SHA-256 of all pieces."""
        self.wait()
        return self._digest.hexdigest()

    def end(self) -> None:
        """End the thread. More than once does no harm."""
        if self._thread is not None:
            self._thread.end()
            self._thread = None
