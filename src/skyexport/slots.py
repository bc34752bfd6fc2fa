"""Shared memory in which finished chunks travel from a worker to the ordered writer.

Each worker has a few slots of its own. It fills a free one and says so; the writer alone frees it, once the bytes are
written. So the number of slots bounds what is in flight, from end to end.

The memory never has a name that could stay behind: an anonymous file on POSIX, handed over as a descriptor; on
Windows a tagged mapping, which goes with its last process.
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

SLOTS_A_WORKER = 3
"""One being filled, one finished, one being written: with fewer a worker waits for the writer, more gained nothing."""


@dataclass(frozen=True, slots=True)
class SlotHandle:
    """How a worker finds its slots: a descriptor on POSIX, a tag on Windows."""

    descriptor: int
    tag: str
    slot_bytes: int
    count: int


class Slots:
    """A row of slots of equal size, mapped into this process."""

    def __init__(self, handle: SlotHandle, mapping: mmap.mmap) -> None:
        self.handle = handle
        self._mapping = mapping
        self._view = memoryview(mapping)

    @classmethod
    def create(cls, slot_bytes: int, count: int = SLOTS_A_WORKER) -> Slots:
        """Make new slots; pages that no chunk has touched take no memory."""
        size = slot_bytes * count
        if sys.platform == "win32":
            tag = f"skyexport-{secrets.token_hex(8)}"
            return cls(SlotHandle(-1, tag, slot_bytes, count), mmap.mmap(-1, size, tagname=tag))
        if hasattr(os, "memfd_create"):
            descriptor = os.memfd_create("skyexport-slots")
        else:
            with tempfile.TemporaryFile() as file:
                descriptor = os.dup(file.fileno())
        os.ftruncate(descriptor, size)
        return cls(SlotHandle(descriptor, "", slot_bytes, count), mmap.mmap(descriptor, size))

    @classmethod
    def attach(cls, handle: SlotHandle) -> Slots:
        """Map the slots that another process made."""
        size = handle.slot_bytes * handle.count
        if sys.platform == "win32":
            return cls(handle, mmap.mmap(-1, size, tagname=handle.tag))
        return cls(handle, mmap.mmap(handle.descriptor, size))

    def fill(self, slot: int, data: memoryview) -> None:
        """Copy at most slot_bytes of *data* into *slot*."""
        start = slot * self.handle.slot_bytes
        self._view[start : start + len(data)] = data

    def view(self, slot: int, length: int) -> memoryview:
        """The first *length* bytes of *slot*, not copied: valid until the slot is freed."""
        start = slot * self.handle.slot_bytes
        return self._view[start : start + length]

    def close(self) -> None:
        """Unmap them here; the memory goes when the other process has done so too."""
        # An error that is on its way may still hold a view of a slot; then unmapping waits until it is forgotten.
        with contextlib.suppress(BufferError):
            self._view.release()
            self._mapping.close()
        if self.handle.descriptor >= 0:
            os.close(self.handle.descriptor)
