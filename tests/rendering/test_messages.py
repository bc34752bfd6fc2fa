"""Messages between coordinator and workers survive the way."""

from __future__ import annotations

import io
from array import array

from hypothesis import given
from hypothesis import strategies as st

from skyexport.archive.plan import Batch, KeyRange, RowIds
from skyexport.notices import Notices
from skyexport.rendering.messages import ChunkReady, Kind, decode_unit, encode_unit, read_frame, write_frame

INTEGERS = st.integers(-(2**63), 2**63 - 1)


@given(
    st.builds(KeyRange, INTEGERS, INTEGERS, INTEGERS)
    | st.builds(lambda ids: RowIds(array("q", ids)), st.lists(INTEGERS)),
    st.integers(0, 2**62),
)
def test_batches(batch: Batch, sequence: int) -> None:
    """A batch comes out of a frame as it went in."""
    stream = io.BytesIO()
    kind, payload = encode_unit(batch)
    write_frame(stream, kind, sequence, payload)
    stream.seek(0)
    frame = read_frame(stream)
    assert frame is not None
    assert (frame.sequence, decode_unit(frame)) == (sequence, batch)
    assert read_frame(stream) is None


@given(st.dictionaries(st.text(), st.integers(1, 99), max_size=3))
def test_chunks(counts: dict[str, int]) -> None:
    """So does what is said of a chunk, notices included."""
    notices = Notices(counts, {kind: ["text of at://\x00é"] for kind in counts})
    ready = ChunkReady(2, 4_000_000, 5_000_000, 1000, True, 1001, True, notices)
    assert ChunkReady.decode(ready.encode()) == ready


@given(st.integers(0, 30))
def test_cut_frames_are_the_end(length: int) -> None:
    """A stream that ends inside a frame reads as ended: the other process is gone."""
    stream = io.BytesIO()
    write_frame(stream, Kind.CHUNK, 1, b"x" * 20)
    assert read_frame(io.BytesIO(stream.getvalue()[:length])) is None
