"""The messages between the coordinator and a worker: frames with a kind, a sequence number and a payload.

They are small: a worker gets row ids and sends lengths, while the bytes of chunks travel in slots. Nothing is
unpickled.
"""

from __future__ import annotations

import json
import struct
from array import array
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import IO

from skyexport.archive.plan import KeyRange, PageNumber, RowIds, Unit
from skyexport.notices import Notices

__all__ = ["ChunkReady", "Frame", "Kind", "decode_unit", "encode_unit", "read_frame", "write_frame"]

_HEADER = struct.Struct("<cqI")
_KEY_RANGE = struct.Struct("<qqq")
_PAGE = struct.Struct("<qq")
_CHUNK = struct.Struct("<qqqqq??")


class Kind(Enum):
    """The kinds of frames: the first eight go to a worker, the others come from one."""

    SETUP = b"S"
    """JSON: the archive, the format, the selection, the slots."""
    PIN = b"P"
    """Release the held state of the archive, if any, and hold the present one."""
    TURN = b"T"
    """The waiting batch is the one being written now, so its large post may be rendered: one at a time."""
    UNPIN = b"U"
    """Release the held state of the archive."""
    KEY_RANGE = b"K"
    ROW_IDS = b"R"
    PAGE = b"H"
    """A unit to render; the sequence number is its place in the export."""
    SLOT_FREE = b"F"
    """The bytes of a slot were written; the sequence number names the slot."""
    READY = b"r"
    """Everything is loaded; the worker answers at once from now on."""
    LARGE = b"l"
    """JSON: a post that takes much memory; its worker waits for TURN."""
    PINNED = b"p"
    """A state is held; with a payload, none is, because another program was writing."""
    CHUNK = b"c"
    """A slot was filled."""
    FAILED = b"f"
    """JSON: the error that ended the worker."""

    # Between this process and an exporter, which does whole exports:
    MESSAGE = b"m"
    """A pickled object."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message."""

    kind: Kind
    sequence: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class ChunkReady:
    """A worker's report on a slot that it filled."""

    slot: int
    length: int
    plain_bytes: int
    """Size of the whole chunk before compression if this is its first part, else 0."""
    posts: int
    """Posts that begin in these bytes."""
    goes_on: bool
    """Whether the one post continues in the next chunk."""
    posts_read: int
    """Posts of the archive that were read since the batch's previous chunk, selected or not."""
    is_last: bool
    """Whether the batch ends here."""
    notices: Notices = field(default_factory=Notices)
    """Notices of the whole batch; empty except in its last chunk."""

    def encode(self) -> bytes:
        """Encode as a payload: numbers, followed by JSON if there are notices."""
        numbers = _CHUNK.pack(
            self.slot, self.length, self.plain_bytes, self.posts, self.posts_read, self.goes_on, self.is_last
        )
        return numbers + (json.dumps(asdict(self.notices)).encode() if self.notices else b"")

    @classmethod
    def decode(cls, payload: bytes) -> ChunkReady:
        """Decode a payload that `encode` made."""
        notices = payload[_CHUNK.size :]
        slot, length, plain_bytes, posts, posts_read, goes_on, is_last = _CHUNK.unpack_from(payload)
        noted = Notices(**json.loads(notices)) if notices else Notices()
        return cls(slot, length, plain_bytes, posts, goes_on, posts_read, is_last, noted)


def write_frame(stream: IO[bytes], kind: Kind, sequence: int = 0, payload: bytes = b"") -> None:
    """Send one message."""
    stream.write(_HEADER.pack(kind.value, sequence, len(payload)) + payload)
    stream.flush()


def read_frame(stream: IO[bytes]) -> Frame | None:
    """Receive one message; None at the end of the stream."""
    header = stream.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return None
    kind, sequence, length = _HEADER.unpack(header)
    payload = stream.read(length)
    return Frame(Kind(kind), sequence, payload) if len(payload) == length else None


def encode_unit(unit: Unit) -> tuple[Kind, bytes]:
    """Encode a unit of work as the kind and payload of a message."""
    if isinstance(unit, KeyRange):
        return Kind.KEY_RANGE, _KEY_RANGE.pack(unit.first, unit.last, unit.posts)
    if isinstance(unit, PageNumber):
        return Kind.PAGE, _PAGE.pack(unit.number, unit.posts)
    return Kind.ROW_IDS, unit.row_ids.tobytes()


def decode_unit(frame: Frame) -> Unit:
    """Decode the unit of a message."""
    if frame.kind is Kind.KEY_RANGE:
        return KeyRange(*_KEY_RANGE.unpack(frame.payload))
    if frame.kind is Kind.PAGE:
        return PageNumber(*_PAGE.unpack(frame.payload))
    row_ids = array("q")
    row_ids.frombytes(frame.payload)
    return RowIds(row_ids)
