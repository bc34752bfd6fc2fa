"""Files whose checksums are in SHA256SUMS alone, because there may be very many: media, and the files of pages."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from skyexport.runtime.export_directory import ExportDirectory
from skyexport.verification.data_files import blocks

__all__ = ["why_wrong"]


def why_wrong(directory: ExportDirectory, name: str, sha256: str, take: Callable[[bytes], None]) -> str:
    """Read a file once, from beginning to end, and compare it with its line in SHA256SUMS.

    Args:
        directory: The directory that the file is in.
        name: Its name there.
        sha256: Its checksum, according to SHA256SUMS.
        take: Called with each block of the file.

    Returns:
        The difference in words; empty if the file has this checksum.

    Raises:
        OSError: As `blocks` does.
    """
    digest = hashlib.sha256()
    for block in blocks(directory, name):
        digest.update(block)
        take(block)
    if digest.hexdigest() != sha256:
        return f"has the SHA-256 {digest.hexdigest()}; according to SHA256SUMS it is {sha256}"
    return ""
