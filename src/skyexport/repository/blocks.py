"""The blocks of a CAR file (version 1): a header, then sections of length, CID and block.

Source: https://ipld.io/specs/transport/car/carv1/ and https://atproto.com/specs/repository. The file is the work of a
stranger. Every length has a bound before anything of that size is read, and every block must have the hash that its CID
names. Blocks may come in any order.

The table of blocks is an array with a slot of eight bytes for each, twice as many slots as blocks: a dictionary takes
ten times the memory.
"""

from __future__ import annotations

import functools
import os
import stat
import sys
from array import array
from collections import deque
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, Self

from skyexport.errors import ArchiveChangedError, RepositoryError
from skyexport.extras import require_libipld
from skyexport.repository.wrong_files import what_it_is
from skyexport.runtime.location import real_path
from skyexport.runtime.sqlite_files import is_sqlite
from skyexport.wording import format_size, printable_path

__all__ = ["CID_BYTES", "RAW_CID", "RECORD_CID", "Blocks", "cid_digest", "cid_text"]

CID_BYTES = 36
"""Length of a CID: version, codec, hash function, length of the hash, SHA-256."""

RECORD_CID = b"\x01\x71\x12\x20"
"""First bytes of the CID of a record, a commit, or a node of the tree: version 1, DAG-CBOR, SHA-256."""

RAW_CID = b"\x01\x55\x12\x20"
"""The same of a blob: version 1, raw bytes, SHA-256."""

_CIDS = (RECORD_CID, RAW_CID)

_MAX_BLOCK_BYTES = 4 << 20
"""Bluesky's servers take records and nodes of at most 1 MB."""

_DECODING_ERRORS = (ValueError, TypeError, OverflowError, RecursionError)

_MAX_HEADER_BYTES = 1 << 16

_MAX_VARINT_BYTES = 9

_WINDOW_BYTES = 1 << 20

_READ_TIMES = 4
_READ_ALWAYS_BYTES = 16_000_000
"""The tree is read twice, and a record once; a file may name a block again and again to take all memory, or the disk.
Then reading ends at so many times its size, and these bytes."""

_FIRST_READ_BYTES = 1024
"""Most blocks are smaller, so that one read is enough."""

_OFFSET_BITS = 40
_OFFSET_MASK = (1 << _OFFSET_BITS) - 1
"""A slot has the offset of a section plus one, and above it 24 bits of the hash."""

_PIECE_BYTES = 1 << 17

_USUAL_SECTION_BYTES = 256
"""The first size of the table assumes sections of this size; it grows if they are smaller."""


class Blocks:
    """The blocks of an open CAR file. Use it in a `with` statement, and call `scan` before anything else.

    Args:
        path: The file.
        display_path: Its path for messages; None for *path*.

    Raises:
        RepositoryError: It cannot be opened, or is not a CAR file.
        MissingExtraError: libipld is not installed.
    """

    def __init__(self, path: Path, display_path: str | None = None) -> None:
        self._decode = _libipld().decode_dag_cbor
        self._shown = printable_path(path) if display_path is None else display_path
        self._file = self._opened(path)
        try:
            self._status = os.fstat(self._file.fileno())
            self.size = self._status.st_size
            self.root, self._begin = self._header()
        except BaseException:
            self._file.close()
            raise
        self.count = 0
        """Different blocks in the file."""
        self._slots = array("Q")
        self._pieces: deque[tuple[int, bytes]] = deque(maxlen=2)
        self._missed: deque[int] = deque(maxlen=4)
        self.read_bytes = 0
        """Bytes of blocks that were read one by one; the same block may have many names."""

    def _opened(self, path: Path) -> BinaryIO:
        try:
            location = real_path(path)
            if not stat.S_ISREG(location.stat().st_mode):
                raise RepositoryError(f"{self._shown} is not a plain file", "save it as a file first")
            # To open and close a database ourselves would drop the locks of this process's connections to it.
            if os.access(location, os.R_OK) and is_sqlite(location):
                what = f"{self._shown} is a SQLite file, not a CAR file"
                raise RepositoryError(what, "an archive can be exported as it is")
            return location.open("rb", buffering=0)
        except (OSError, ValueError, RuntimeError) as error:
            raise RepositoryError(f"cannot read {self._shown}: {getattr(error, 'strerror', error)}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _header(self) -> tuple[bytes, int]:
        """The CID of the only root, and the offset of the first section."""
        start = self._read(0, _MAX_VARINT_BYTES)
        problem = what_it_is(self._shown, self._read(0, _WINDOW_BYTES if len(start) > 1 else 0), self.size)
        if problem is not None:
            raise problem
        length, begin = self._varint(start, 0, 0)
        if not 0 < length <= _MAX_HEADER_BYTES:
            self._refuse(0, f"a header of {length:,} bytes")
        data = self._read(begin, length)
        if len(data) < length:
            self._refuse_end(0)
        header = self._decoded(data, begin)
        if not isinstance(header, dict) or header.get("version") != 1:
            self._refuse(0, "no header of a CAR file of version 1")
        roots = header.get("roots")
        if not isinstance(roots, list) or len(roots) != 1:
            number = len(roots) if isinstance(roots, list) else 0
            self._refuse(0, f"{number} roots, and a repository has one")
        return self.checked_cid(roots[0], 0), begin + length

    def scan(self, on_read: Callable[[int], None] = lambda _: None) -> None:
        """Check every block of the file, and note where it is.

        Args:
            on_read: Called with the bytes read so far, about a hundred times for 100 MB.

        Raises:
            RepositoryError: A section is not valid, a hash is wrong, or the file ends within a block.
        """
        self._slots = array("Q", bytes(8 << max(10, (2 * self.size // _USUAL_SECTION_BYTES).bit_length())))
        offset, window = self._begin, b""
        while True:
            more = self._read(offset + len(window), _WINDOW_BYTES)
            window += more
            whole = self._scan_window(window, offset)
            offset, window = offset + whole, window[whole:]
            on_read(offset)
            if not more:
                break
        if window:
            self._refuse_end(offset)

    def _scan_window(self, window: bytes, base: int) -> int:
        """Check the sections in a piece of the file that begins at *base*; returns where the last whole one ends."""
        slots, cids, mask, end = self._slots, _CIDS, len(self._slots) - 1, len(window)
        position = 0
        # The last bytes may be the beginning of a length: a section has more of them.
        while end - position > _MAX_VARINT_BYTES:
            start = position
            # Most lengths have one or two bytes.
            length, second = window[position], window[position + 1]
            if length < 128:
                position += 1
            elif 0 < second < 128:
                length += (second << 7) - 128
                position += 2
            else:
                length, position = self._varint(window, position, base + position)
            digest_at, block_at, position = position + 4, position + CID_BYTES, position + length
            if position > end:
                if length > _MAX_BLOCK_BYTES + CID_BYTES:
                    most = format_size(_MAX_BLOCK_BYTES)
                    self._refuse(base + start, f"a block of {format_size(length)}, and none may have more than {most}")
                return start
            if length < CID_BYTES or window[digest_at - 4 : digest_at] not in cids:
                self._refuse(base + start, "a CID that is not of version 1, with DAG-CBOR or raw bytes and SHA-256")
            digest = window[digest_at:block_at]
            if sha256(window[block_at:position]).digest() != digest:
                self._refuse(base + start, "a block whose hash is not that of its CID")
            hashed = int.from_bytes(digest[:8], "big")
            entry = (hashed >> _OFFSET_BITS) << _OFFSET_BITS
            slot = hashed & mask
            while found := slots[slot]:
                if found & ~_OFFSET_MASK == entry and self._cid_at(found) == window[digest_at - 4 : block_at]:
                    break
                slot = slot + 1 & mask
            else:
                slots[slot] = entry | base + start + 1
                self.count += 1
                if self.count * 2 > mask:
                    slots = self._grown()
                    mask = len(slots) - 1
        return position

    def _grown(self) -> array[int]:
        """The table, twice as large."""
        old, self._slots = self._slots, array("Q", bytes(16 * len(self._slots)))
        mask = len(self._slots) - 1
        for entry in filter(None, old):
            slot = int.from_bytes(self._cid_at(entry)[4:12], "big") & mask
            while self._slots[slot]:
                slot = slot + 1 & mask
            self._slots[slot] = entry
        return self._slots

    def _cid_at(self, entry: int) -> bytes:
        offset = (entry & _OFFSET_MASK) - 1
        start = self._read(offset, _MAX_VARINT_BYTES + CID_BYTES)
        _, begin = self._varint(start, 0, offset)
        return start[begin : begin + CID_BYTES]

    def check_has(self, cid: bytes, asked_at: int) -> None:
        """Make sure that the file has a block.

        Args:
            cid: Its CID.
            asked_at: Offset of the block that names it, for errors.

        Raises:
            RepositoryError: The file does not have it.
        """
        if self._section(cid) is None:
            self._refuse_missing(cid, asked_at)

    def value(self, cid: bytes, asked_at: int) -> tuple[Any, int]:
        """A block as Python objects, CIDs and byte strings as bytes; and its offset in the file.

        Args:
            cid: Its CID, which `checked_cid` has checked.
            asked_at: Offset of the block that names it, for errors.

        Raises:
            RepositoryError: The file does not have it, or it is not DAG-CBOR.
        """
        found = self._section(cid)
        if found is None:
            self._refuse_missing(cid, asked_at)
        try:
            return self._decode(found[1]), found[0]
        except _DECODING_ERRORS as error:
            raise self._not_cbor(error, found[0]) from None

    def _section(self, cid: bytes) -> tuple[int, bytes] | None:
        """Offset and bytes of a block; None if the file does not have it."""
        hashed = int.from_bytes(cid[4:12], "big")
        slots = self._slots
        mask = len(slots) - 1
        entry = hashed >> _OFFSET_BITS
        slot = hashed & mask
        while found := slots[slot]:
            if found >> _OFFSET_BITS == entry:
                offset = (found & _OFFSET_MASK) - 1
                data, place = self._piece(offset)
                # The length was checked before. Most have two bytes.
                length, begin = data[place], place + 1
                if length > 127:
                    second = data[begin]
                    if second < 128:
                        length, begin = length - 128 + (second << 7), begin + 1
                    else:
                        length, begin = self._varint(data, place, offset)
                block, end = begin + CID_BYTES, begin + length
                if data[begin:block] == cid:
                    self.read_bytes += length
                    if self.read_bytes > _READ_TIMES * self.size + _READ_ALWAYS_BYTES:
                        self._refuse(offset, "records or nodes that are named again and again")
                    if end <= len(data):
                        return offset, data[block:end]
                    return offset, data[block:] + self._read(offset + len(data) - place, end - len(data))
            slot = slot + 1 & mask
        return None

    def _piece(self, offset: int) -> tuple[bytes, int]:
        """Bytes of the file with the beginning of the section at *offset*, and where that is in them.

        Records lie in the order of their keys in most files, or nodes do: then many sections come with one read.
        """
        for begin, data in self._pieces:
            place = offset - begin
            if 0 <= place <= len(data) - _FIRST_READ_BYTES:
                return data, place
        goes_on = any(0 <= offset - other < _PIECE_BYTES for other in self._missed)
        self._missed.append(offset)
        data = self._read(offset, _PIECE_BYTES if goes_on else _FIRST_READ_BYTES)
        if goes_on:
            self._pieces.append((offset, data))
        return data, 0

    def checked_cid(self, value: object, offset: int) -> bytes:
        """A CID of DAG-CBOR with SHA-256.

        Raises:
            RepositoryError: *value* is something else.
        """
        if not isinstance(value, bytes) or len(value) != CID_BYTES or not value.startswith(RECORD_CID):
            self._refuse(offset, "something else where a CID of DAG-CBOR with SHA-256 belongs")
        return value

    def check_unchanged(self) -> None:
        """Make sure that nobody has written to the file meanwhile.

        Raises:
            ArchiveChangedError: Somebody has.
        """
        now = os.fstat(self._file.fileno())
        if (now.st_size, now.st_mtime_ns) != (self._status.st_size, self._status.st_mtime_ns):
            raise ArchiveChangedError(f"{self._shown} was written to while it was read", "import it again")

    def refused(self, offset: int, what: str) -> RepositoryError:
        """The error that the file has *what* at *offset*."""
        return RepositoryError(
            f"{self._shown} is damaged or not a repository: {what}, at byte {offset:,}", "download it again"
        )

    def _refuse(self, offset: int, what: str) -> NoReturn:
        raise self.refused(offset, what)

    def _refuse_missing(self, cid: bytes, asked_at: int) -> NoReturn:
        raise RepositoryError(
            f"{self._shown} is incomplete: the block at byte {asked_at:,} names {cid_text(cid)}, which is missing",
            "download it again",
        )

    def _refuse_end(self, offset: int) -> NoReturn:
        raise RepositoryError(
            f"{self._shown} is incomplete: it ends within what begins at byte {offset:,}", "download it again"
        )

    def _decoded(self, data: bytes, offset: int) -> Any:
        try:
            return self._decode(data)
        except _DECODING_ERRORS as error:
            raise self._not_cbor(error, offset) from None

    def _not_cbor(self, error: Exception, offset: int) -> RepositoryError:
        return self.refused(offset, f"a block that is not DAG-CBOR ({error})")

    def _varint(self, data: bytes, position: int, offset: int) -> tuple[int, int]:
        """An unsigned LEB128 number at *position*, and where it ends.

        Args:
            offset: Where the number is in the file, for errors.
        """
        value = shift = 0
        for byte in data[position : position + _MAX_VARINT_BYTES]:
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                if byte == 0 and shift > 7:
                    self._refuse(offset, "a length that is not in its shortest form")
                return value, position + shift // 7
        if len(data) - position < _MAX_VARINT_BYTES:
            self._refuse_end(offset)
        raise self.refused(offset, "a length of more than 9 bytes")

    def _read(self, offset: int, length: int) -> bytes:
        """Bytes of the file; fewer at its end."""
        try:
            if sys.platform != "win32":
                return os.pread(self._file.fileno(), length, offset)
            self._file.seek(offset)
            return self._file.read(length)
        except OSError as error:
            raise RepositoryError(f"cannot read {self._shown}: {error.strerror}", "try again") from error


def cid_text(cid: bytes) -> str:
    """A CID as people know it: `bafyrei…` for records, `bafkrei…` for blobs."""
    text: str = _libipld().encode_cid(cid)
    return text


def cid_digest(text: str) -> bytes:
    """The SHA-256 in the text of a CID."""
    digest = _libipld().decode_cid(text)["hash"]["digest"]
    assert isinstance(digest, bytes)
    return digest


@functools.cache
def _libipld() -> Any:
    require_libipld()
    import libipld

    return libipld
