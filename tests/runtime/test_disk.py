"""What a file system says about its room, and when it is believed."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from skyexport.runtime.disk import free_bytes, takes_bytes_as_they_are


def test_free_bytes(tmp_path: Path) -> None:
    """A directory, a file, and what is yet to be made have the room of their disk."""
    (tmp_path / "file").write_text("x")
    free = free_bytes(tmp_path)
    assert free is not None
    for path in (tmp_path / "file", tmp_path / "not" / "yet"):
        assert free_bytes(path) == pytest.approx(free, rel=0.1)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows is asked in another way")
def test_file_systems_that_do_not_know(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file system that has no blocks at all says nothing about its room, and neither does one that fails."""
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_blocks=0, f_frsize=4096, f_bfree=0, f_bavail=0))
    assert free_bytes(tmp_path) is None

    def failing(_: object) -> None:
        raise PermissionError("no")

    monkeypatch.setattr(os, "statvfs", failing)
    assert free_bytes(tmp_path) is None


@pytest.mark.parametrize(
    ("mounts", "plain"),
    [
        ({"": "ext4"}, True),
        ({"": "btrfs"}, False),
        ({"": "nfs4"}, False),
        ({"": "ext4", "below": "zfs"}, False),
        ({"": "zfs", "below": "xfs"}, True),
        ({"": "zfs", "below": "xfs", "below/place": "tmpfs", "below/placement": "zfs"}, True),
        ({}, False),
    ],
)
def test_file_systems_that_are_believed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mounts: dict[str, str], plain: bool
) -> None:
    """The nearest mount decides; where files may take less than their size, the free space is no bound."""
    place = tmp_path / "below" / "place"
    place.mkdir(parents=True)
    partitions = [SimpleNamespace(mountpoint=str(tmp_path / path), fstype=kind) for path, kind in mounts.items()]
    monkeypatch.setattr(psutil, "disk_partitions", lambda **_: partitions)
    assert takes_bytes_as_they_are(place) is plain


def test_later_mounts_hide_earlier_ones(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of two file systems mounted at the same place, the later one is there."""
    partitions = [SimpleNamespace(mountpoint=str(tmp_path), fstype=kind) for kind in ("ext4", "btrfs")]
    monkeypatch.setattr(psutil, "disk_partitions", lambda **_: partitions)
    assert not takes_bytes_as_they_are(tmp_path)
