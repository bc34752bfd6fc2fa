"""Compressing each chunk on its own, so that workers compress in parallel and the results can be concatenated.

A gzip file may have any number of members, a Zstandard file any number of frames (RFC 1952, RFC 8878). The same data
give the same bytes, with the same version of the library: neither names nor times are stored.
"""

from __future__ import annotations

import re
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from skyexport.errors import OptionError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["COMPRESSIONS", "Compression", "Decompressor", "compressor_of", "parse_compression"]

_WORDS = re.compile("([a-z]+)(?::([0-9]{1,2}))?")

_MISSPELT = re.compile(r"\.?(gz|gzip|zst|zstd|zstandard)[:=-]?([0-9]{0,2})")
"""Misspelt compressions: `gz`, `.zst`, `GZIP`, `gzip9`."""

_GZIP = 16 + zlib.MAX_WBITS
"""zlib's code for the gzip format, without a time and a file name."""

_PIECE_BYTES = 1 << 20
"""Most bytes to decompress at once: little data can become very much."""

_FED_BYTES = 1 << 14
"""Bytes to read at once. Each member in a block copies the rest of the block, so blocks are small."""

_ZSTD_BYTES = {3: 3_000_000, 6: 7_000_000, 9: 13_000_000, 11: 24_000_000, 19: 70_000_000}
"""Highest level → memory for compressing a chunk."""

_MAX_WINDOW_LOG = 27
"""As in the `zstd` command: data that look back further than 128 MB are refused, since they need that much memory."""


@dataclass(frozen=True, slots=True)
class Compression:
    """One way to compress."""

    name: str
    suffix: str
    """The end of a file's name."""
    level: int

    def __str__(self) -> str:
        return f"{self.name}:{self.level}"

    @property
    def memory_bytes(self) -> int:
        """Most memory for compressing a chunk, measured with chunks of 4 MB."""
        if self.name == "gzip":
            return 4_000_000
        return next((bytes for level, bytes in _ZSTD_BYTES.items() if self.level <= level), max(_ZSTD_BYTES.values()))

    def compressor(self) -> Callable[[bytes | memoryview], bytes]:
        """A function that turns data into one complete member or frame. Only one thread may use it."""
        if self.name == "gzip":
            return self._gzip_member
        parameters = zstd.CompressionParameter
        compressor = zstd.ZstdCompressor(
            options={parameters.compression_level: self.level, parameters.checksum_flag: 1}
        )
        return lambda data: compressor.compress(data, zstd.ZstdCompressor.FLUSH_FRAME)

    def _gzip_member(self, data: bytes | memoryview) -> bytes:
        compressor = zlib.compressobj(self.level, wbits=_GZIP)
        return compressor.compress(data) + compressor.flush()

    def decompressor(self) -> Decompressor:
        """A decompressor for a whole file, in blocks of any size."""
        return Decompressor(_GzipMember if self.name == "gzip" else _ZstdFrame)


def compressor_of(compression: Compression | None) -> Callable[[bytes | memoryview], bytes] | None:
    """A function that compresses chunks; None for no compression."""
    return None if compression is None else compression.compressor()


class _Member(Protocol):
    """Reads one member or frame."""

    @property
    def eof(self) -> bool:
        """Whether it has ended."""

    @property
    def rest(self) -> bytes:
        """Data that were fed and not used yet, or that follow the end."""

    def read(self, data: bytes) -> bytes:
        """Decompress *data*; returns at most _PIECE_BYTES of the result."""


class _GzipMember:
    def __init__(self) -> None:
        self._decompressor = zlib.decompressobj(wbits=_GZIP)

    @property
    def eof(self) -> bool:
        return self._decompressor.eof

    @property
    def rest(self) -> bytes:
        return self._decompressor.unused_data or self._decompressor.unconsumed_tail

    def read(self, data: bytes) -> bytes:
        try:
            return self._decompressor.decompress(data, _PIECE_BYTES)
        except zlib.error as error:
            raise ValueError(f"not gzip: {error}") from None


class _ZstdFrame:
    def __init__(self) -> None:
        self._decompressor = zstd.ZstdDecompressor(
            options={zstd.DecompressionParameter.window_log_max: _MAX_WINDOW_LOG}
        )

    @property
    def eof(self) -> bool:
        return self._decompressor.eof

    @property
    def rest(self) -> bytes:
        return self._decompressor.unused_data if self.eof else b""

    def read(self, data: bytes) -> bytes:
        try:
            return self._decompressor.decompress(data, _PIECE_BYTES)
        except zstd.ZstdError as error:
            raise ValueError(f"not Zstandard: {error}") from None


class Decompressor:
    """Decompresses a file of consecutive members or frames in bounded memory.

    Args:
        member: Makes a reader of one member or frame.
    """

    def __init__(self, member: Callable[[], _Member]) -> None:
        self._new = member
        self._member: _Member | None = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Decompress the next bytes of the file, in pieces of a megabyte at most.

        Raises:
            ValueError: The file does not have this compression.
        """
        for start in range(0, len(data), _FED_BYTES):
            yield from self._feed(data[start : start + _FED_BYTES])

    def _feed(self, data: bytes) -> Iterator[bytes]:
        while True:
            if self._member is None:
                if not data:
                    return
                self._member = self._new()
            piece = self._member.read(data)
            if piece:
                yield piece
            data = self._member.rest
            if self._member.eof:
                self._member = None
            elif not data and len(piece) < _PIECE_BYTES:
                return

    def finish(self) -> None:
        """Check that the file may end here.

        Raises:
            ValueError: The file is cut off.
        """
        if self._member is not None:
            raise ValueError("cut off within a compressed part")


@dataclass(frozen=True, slots=True)
class _Kind:
    suffix: str
    usual_level: int
    levels: range


_KINDS = {
    "gzip": _Kind(".gz", 6, range(1, 10)),
    # Beyond 19 a compressor takes hundreds of megabytes.
    "zstd": _Kind(".zst", 3, range(1, 20)),
}

COMPRESSIONS = {kind.suffix: Compression(name, kind.suffix, kind.usual_level) for name, kind in _KINDS.items()}
"""Suffix → the usual compression of a file with that suffix."""


def parse_compression(text: str) -> Compression | None:
    """Parse `gzip` or `zstd`, either with `:level`, or `none`; None for no compression.

    Raises:
        OptionError: *text* is something else, or there is no such level.
    """
    match = _WORDS.fullmatch(text)
    if text == "none":
        return None
    kind = _KINDS.get(match[1]) if match else None
    if match is None or kind is None:
        meant = _MISSPELT.fullmatch(text.strip().lower())
        hint = "choose gzip, zstd, gzip:9, zstd:19 or the like, or none"
        if meant is not None:
            name = "gzip" if meant[1].startswith("g") else "zstd"
            hint = f"use {name}:{meant[2]}" if meant[2] else f"use {name}"
        raise OptionError(f"unknown compression {text!r}", hint)
    level = kind.usual_level if match[2] is None else int(match[2])
    if level not in kind.levels:
        raise OptionError(f"{match[1]} has no level {level}", f"choose {kind.levels[0]} to {kind.levels[-1]}")
    return Compression(match[1], kind.suffix, level)
