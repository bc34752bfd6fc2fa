"""Compression: what chunks become can be concatenated, is read by other programs, and cannot take memory."""

from __future__ import annotations

import gzip
import itertools
import random
import shutil
import subprocess
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyexport.errors import OptionError
from skyexport.formats.compression import Compression, parse_compression

WAYS = ["gzip", "gzip:1", "gzip:9", "zstd", "zstd:1", "zstd:19"]


def compression(words: str) -> Compression:
    """The compression that these words say."""
    found = parse_compression(words)
    assert found is not None
    return found


def decompressed(words: str, data: bytes, block_bytes: int = 1 << 20) -> bytes:
    """What a whole file of it says, fed in blocks of this size."""
    decompressor = compression(words).decompressor()
    pieces = [
        piece
        for start in range(0, len(data), block_bytes)
        for piece in decompressor.feed(data[start : start + block_bytes])
    ]
    decompressor.finish()
    assert all(len(piece) <= 1 << 20 for piece in pieces)
    return b"".join(pieces)


@given(
    words=st.sampled_from(WAYS), chunks=st.lists(st.binary(max_size=200), max_size=6), block_bytes=st.integers(1, 50)
)
def test_chunks_come_back(words: str, chunks: list[bytes], block_bytes: int) -> None:
    """Chunks that were compressed each on its own are one file, read in blocks of any size."""
    compress = compression(words).compressor()
    data = b"".join(map(compress, chunks))
    assert decompressed(words, data, block_bytes) == b"".join(chunks)
    # Neither time nor what was compressed before is in it.
    again = compression(words).compressor()
    assert b"".join(map(again, chunks)) == data


@pytest.mark.quick(1)
@pytest.mark.parametrize("words", WAYS)
def test_large_chunks_and_other_programs(words: str) -> None:
    """Megabytes, compressible or not, are what gzip and zstd themselves make of the file."""
    chunks = [b"a" * 5_000_000, random.Random(1).randbytes(3_000_000), b"", b"end"]
    data = b"".join(map(compression(words).compressor(), chunks))
    assert decompressed(words, data) == decompressed(words, data, 99_991) == b"".join(chunks)
    if words.startswith("gzip"):
        assert gzip.decompress(data) == b"".join(chunks)
    elif shutil.which("zstd"):
        done = subprocess.run(["zstd", "-dc"], input=data, capture_output=True, check=True)
        assert done.stdout == b"".join(chunks)
        assert subprocess.run(["zstd", "-t", "-q"], input=data, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("words", ["gzip", "zstd"])
def test_every_cut_is_noticed(words: str) -> None:
    """A file that ends within a part is refused; where one ends, only the posts in it can tell."""
    compress = compression(words).compressor()
    parts = [compress(b"first" * 10), compress(b"second" * 10)]
    data = b"".join(parts)
    for length in range(len(data)):
        if length in (0, len(parts[0])):
            continue
        with pytest.raises(ValueError, match="cut off within a compressed part"):
            decompressed(words, data[:length])


@pytest.mark.parametrize("words", ["gzip", "zstd"])
def test_damage_is_noticed(words: str) -> None:
    """A changed byte is noticed nearly everywhere, by the checksums of the format; and so is what is none."""
    plain = bytes(range(256)) * 20
    data = compression(words).compressor()(plain)
    unnoticed = 0
    for place, bit in itertools.product(range(len(data)), (1, 128)):
        changed = bytearray(data)
        changed[place] ^= bit
        try:
            unnoticed += decompressed(words, bytes(changed)) != plain
        except ValueError:
            continue
    assert unnoticed == 0
    for odd in (b"{}", b"\0" * 100, data + b"more", b"\x1f\x8b", plain):
        with pytest.raises(ValueError, match=r"not (gzip|Zstandard)|cut off"):
            decompressed(words, odd)


@pytest.mark.slow
@pytest.mark.parametrize("words", ["gzip:9", "zstd:19"])
def test_memory(words: str) -> None:
    """A small file that becomes very large is read in bounded memory."""
    compress = compression(words).compressor()
    data = compress(bytes(200_000_000))
    tracemalloc.start()
    try:
        size = sum(len(piece) for piece in compression(words).decompressor().feed(data))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size == 200_000_000
    assert peak < 10_000_000


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        *((words, "choose ") for words in ("", "lz4", "gzip:0", "gzip:10", "zstd:0", "zstd:20", "zstd:-1")),
        *(("gzip:", "use gzip"), ("GZIP", "use gzip"), ("zstd:3 ", "use zstd:3")),
    ],
)
def test_what_is_no_compression(words: str, hint: str) -> None:
    """Other names and levels are refused, with what can be chosen, or what was probably meant."""
    with pytest.raises(OptionError) as caught:
        parse_compression(words)
    assert caught.value.hint.startswith(hint)


def test_no_compression() -> None:
    """`none` is none."""
    assert parse_compression("none") is None
