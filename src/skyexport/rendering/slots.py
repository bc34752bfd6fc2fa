"""Shared memory in which finished chunks travel from a worker to the ordered writer.

Each worker has a few slots of its own. It fills a free slot and reports it. Only the writer frees the slot, once the
bytes are written. So the number of slots bounds the bytes in flight, from end to end.

Behind the slots lies a counter, the beat. A worker keeps raising it, so a beat that stays the same shows that the
worker has stalled.

The memory has no name that could stay behind. On POSIX it is an anonymous file, passed on as a descriptor. On Windows
it is a tagged mapping, which ends with its last process.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import secrets
import sys
import tempfile
from dataclasses import dataclass

__all__ = ["SLOTS_A_WORKER", "SlotHandle", "Slots"]

SLOTS_A_WORKER = 4
"""One is being filled, one is being written, two wait for it. With three an export took up to 8 % longer."""

_BEAT_BYTES = 4096
"""A page of its own for the beat, behind the slots."""


@dataclass(frozen=True, slots=True)
class SlotHandle:
    """How a worker finds its slots: a descriptor on POSIX, a tag on Windows."""

    descriptor: int
    tag: str
    slot_bytes: int
    count: int

    @property
    def bytes(self) -> int:
        """Size of the whole memory."""
        return self.slot_bytes * self.count + _BEAT_BYTES


class Slots:
    """A row of slots of equal size, mapped into this process."""

    def __init__(self, handle: SlotHandle, mapping: mmap.mmap) -> None:
        self.handle = handle
        self._mapping = mapping
        self._view = memoryview(mapping)
        slots_end = handle.slot_bytes * handle.count
        self._beats = self._view[slots_end : slots_end + 8].cast("Q")

    @classmethod
    def create(cls, slot_bytes: int, count: int = SLOTS_A_WORKER) -> Slots:
        """Make new slots; pages that no chunk has touched take no memory."""
        if sys.platform == "win32":
            return cls.attach(SlotHandle(-1, f"skyexport-{secrets.token_hex(8)}", slot_bytes, count))
        if hasattr(os, "memfd_create"):
            descriptor = os.memfd_create("skyexport-slots")
        else:
            with tempfile.TemporaryFile() as file:
                descriptor = os.dup(file.fileno())
        handle = SlotHandle(descriptor, "", slot_bytes, count)
        os.ftruncate(descriptor, handle.bytes)
        return cls.attach(handle)

    @classmethod
    def attach(cls, handle: SlotHandle) -> Slots:
        """Map existing slots; on Windows, create them if the tag is new."""
        if sys.platform == "win32":
            return cls(handle, mmap.mmap(-1, handle.bytes, tagname=handle.tag))
        return cls(handle, mmap.mmap(handle.descriptor, handle.bytes))

    def fill(self, slot: int, data: memoryview) -> None:
        """Copy at most slot_bytes of *data* into *slot*."""
        start = slot * self.handle.slot_bytes
        self._view[start : start + len(data)] = data

    def view(self, slot: int, length: int) -> memoryview:
        """The first *length* bytes of *slot*, not copied: valid until the slot is freed."""
        start = slot * self.handle.slot_bytes
        return self._view[start : start + length]

    def beat(self) -> None:
        """Show progress; only the worker calls this."""
        self._beats[0] = (self._beats[0] + 1) % (1 << 64)

    @property
    def beats(self) -> int:
        """How often the worker has called `beat`."""
        return self._beats[0]

    def close(self) -> None:
        """Unmap the slots here; the memory is freed when the other process has done so too."""
        # A pending exception may still hold a view of a slot; then the mapping lasts as long as the exception.
        with contextlib.suppress(BufferError):
            self._beats.release()
            self._view.release()
            self._mapping.close()
        if self.handle.descriptor >= 0:
            os.close(self.handle.descriptor)
