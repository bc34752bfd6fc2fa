"""Slots of shared memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from skyexport.rendering.slots import Slots


@pytest.mark.skipif(sys.platform == "win32", reason="descriptors are handed over on POSIX")
def test_another_process_fills_them() -> None:
    """What one process puts into a slot, the other sees, and only there."""
    slots = Slots.create(1000, count=3)
    program = (
        "import sys; from skyexport.rendering.slots import SlotHandle, Slots;"
        "Slots.attach(SlotHandle(int(sys.argv[1]), '', 1000, 3)).fill(1, memoryview(b'x' * 1000))"
    )
    descriptor = slots.handle.descriptor
    subprocess.run([sys.executable, "-c", program, str(descriptor)], pass_fds=(descriptor,), check=True)
    assert bytes(slots.view(0, 1000)) == bytes(1000)
    assert bytes(slots.view(1, 1000)) == b"x" * 1000
    assert bytes(slots.view(2, 1000)) == bytes(1000)
    slots.close()


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="this system shows no shared memory as files")
def test_they_have_no_name() -> None:
    """Nothing appears where named segments would stay behind."""
    before = set(Path("/dev/shm").iterdir())
    slots = Slots.create(1000)
    assert set(Path("/dev/shm").iterdir()) == before
    slots.close()
