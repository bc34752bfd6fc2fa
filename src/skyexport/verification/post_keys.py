"""Reading which posts an earlier export has: uri, cid, and indexed_at of each, however large anything else in it is.

A verified data file has its values in the expected places. So each format needs little here: it picks the three values
out of a stream of blocks, and neither holds nor parses the rest. To add a format, write a function like `_json_posts`,
and add a line to `_READERS`.

Values are compared as they are written, in UTF-8. A value longer than any of Bluesky's is None, and equals nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

from skyexport import timestamps
from skyexport.formats.formulas import as_stored
from skyexport.formats.settings import USUAL, FormatSettings
from skyexport.json_text import decode
from skyexport.verification.readers.csv_table import HEADINGS
from skyexport.verification.readers.parquet_table import opened_table

__all__ = ["LONGEST_VALUE_BYTES", "EarlierPost", "comparable", "earlier_posts"]

LONGEST_VALUE_BYTES = 4000
"""Length of a value that is compared; Bluesky's have about a hundred bytes."""

_LONGEST_LINE_BYTES = 64_000
"""Bytes of a line or a field that are held: enough for a compared value even if every byte of it is escaped."""

OpenFile = Callable[[], BinaryIO]

EarlierPost = tuple[bytes | None, bytes | None, bytes | None]
"""uri, cid, and indexed_at of a post, as `comparable` returns them."""


def earlier_posts(
    format: str, blocks: Iterable[bytes], settings: FormatSettings = USUAL, open_file: OpenFile | None = None
) -> Iterator[EarlierPost]:
    """The posts of a data file.

    Args:
        format: The format of the file.
        blocks: The file from beginning to end, decompressed, in blocks of any size.
        settings: The settings of the file.
        open_file: Opens the file again, for formats that are not read from beginning to end.

    Raises:
        ValueError: A post lacks one of the three values; the text says which. Or the format is not known here.
    """
    if format not in _READERS:
        raise ValueError(f"posts in the format {format} cannot be compared with those of an archive")
    return _READERS[format](blocks, settings, open_file)


def comparable(data: bytes) -> bytes | None:
    """A value for comparison: in UTF-8, with U+FFFD for each byte that is not; None if it is too long."""
    if not data.isascii():
        data = decode(data).encode()
    return data if len(data) <= LONGEST_VALUE_BYTES else None


# Possessive, here and below: there is only one way to match, and remembering others would take memory.
_MEMBER = re.compile(rb'\n    "(uri|cid|indexed_at)": "([^"\\\n]*+(?:\\.[^"\\\n]*+)*+)"')
_LONG_MEMBER = re.compile(rb'\n    "(uri|cid|indexed_at)": "')


def _json_posts(blocks: Iterable[bytes], *_: object) -> Iterator[EarlierPost]:
    """The posts of posts.json: each member of a post begins a line; all lines inside a member have more indentation."""
    values: dict[bytes, bytes | None] = {}
    rest = b"\n"
    skipping = False
    for block in blocks:
        data = rest + block
        if skipping:
            start = data.find(b"\n")
            if start < 0:
                continue
            data, skipping = data[start:], False
        end = data.rfind(b"\n")
        for member in _MEMBER.finditer(data, 0, end):
            yield from _whole_posts(values, member[1], _json_value(member[2]))
        rest = data[end:]
        if len(rest) > _LONGEST_LINE_BYTES:
            if long := _LONG_MEMBER.match(rest):
                yield from _whole_posts(values, long[1], None)
            rest, skipping = b"", True
    for member in _MEMBER.finditer(rest):
        yield from _whole_posts(values, member[1], _json_value(member[2]))
    if values:
        raise ValueError("its last post has no indexed_at")


def _whole_posts(values: dict[bytes, bytes | None], key: bytes, value: bytes | None) -> Iterator[EarlierPost]:
    """Note a value; yield the post once it has all three."""
    values[key] = value
    if key == b"indexed_at":
        missing = [name for name in ("uri", "cid") if name.encode() not in values]
        if missing:
            raise ValueError(f"a post has no {missing[0]}")
        yield values[b"uri"], values[b"cid"], value
        values.clear()
    elif key == b"uri" and len(values) > 1:
        raise ValueError("a post has no indexed_at")


def _json_value(escaped: bytes) -> bytes | None:
    """The value of a JSON string from its text between the quotes."""
    if b"\\" in escaped:
        try:
            # No export has a lone surrogate, but a stranger may write one.
            escaped = json.loads(b'"' + escaped + b'"').encode("utf-8", "surrogatepass")
        except ValueError:
            return None
    return escaped if len(escaped) <= LONGEST_VALUE_BYTES else None


_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_HEADER = (b"URI", b"CID", b"IndexedAt")
_QUOTED = re.compile(rb'[^"]*+(?:""[^"]*+)*+')


def _csv_posts(blocks: Iterable[bytes], settings: FormatSettings, _: object) -> Iterator[EarlierPost]:
    """The posts of posts.csv."""
    delimiter = re.escape(settings.delimiter.encode())
    field_and_end = re.compile(rb'(?:"([^"]*+(?:""[^"]*+)*+)"|([^"%b\n]*+))([%b\n])' % (delimiter, delimiter))
    field_ends = re.compile(rb"[%b\n]" % delimiter)
    places: list[int] = []
    if not settings.header:
        places = _csv_places([HEADINGS[name].encode() for name in settings.columns or HEADINGS])
    record: list[bytes | None] = []
    for field, ends_record in _csv_fields(_without_mark(blocks), field_and_end, field_ends):
        record.append(field)
        if not ends_record:
            continue
        if not places:
            places = _csv_places(record)
        else:
            if len(record) <= max(places):
                raise ValueError("a record has too few fields")
            found = [record[place] for place in places]
            if settings.csv_safe:
                found = [None if value is None else as_stored(value) for value in found]
            uri, cid, indexed_at = (None if value is None else comparable(value) for value in found)
            yield uri, cid, indexed_at
        record.clear()


def _csv_places(header: list[bytes | None]) -> list[int]:
    """The places of the three values in a record."""
    missing = [name.decode() for name in _HEADER if name not in header]
    if missing:
        raise ValueError(f"it has no column {missing[0]}")
    return [header.index(name) for name in _HEADER]


def _without_mark(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The blocks of a file without its byte order mark."""
    stream = iter(blocks)
    beginning = b""
    for block in stream:
        beginning += block
        if len(beginning) >= len(_BYTE_ORDER_MARK):
            break
    yield beginning.removeprefix(_BYTE_ORDER_MARK)
    yield from stream


def _csv_fields(
    blocks: Iterable[bytes], field_and_end: re.Pattern[bytes], field_ends: re.Pattern[bytes]
) -> Iterator[tuple[bytes | None, bool]]:
    """Each field, and whether it ends a record; None for a field that is too long to be held."""
    stream = iter(blocks)
    data, position = b"", 0
    while True:
        field = field_and_end.match(data, position)
        # A quote at the end of a block may be the first of two, so a match includes the end mark of the field.
        if field is not None:
            quoted, plain, end = field.groups()
            yield (plain if quoted is None else quoted.replace(b'""', b'"')), end == b"\n"
            position = field.end()
            continue
        data, position = data[position:], 0
        if len(data) > _LONGEST_LINE_BYTES:
            data = _behind_long_field(data, stream, field_ends)
            yield None, data.startswith(b"\n")
            position = 1
            if not data:
                return
            continue
        block = next(stream, None)
        if block is None:
            if data:
                raise ValueError("its last record has no end")
            return
        data += block


def _behind_long_field(data: bytes, stream: Iterator[bytes], field_ends: re.Pattern[bytes]) -> bytes:
    """Skip the field at the beginning of *data*, reading more blocks as needed.

    Returns:
        The rest of the data, beginning with the mark that ends the field; empty at the end of the file.
    """
    if data.startswith(b'"'):
        data = data[1:]
        while True:
            closing = _QUOTED.match(data)
            end = closing.end() if closing is not None else 0
            # The last byte may be the first quote of two.
            if end + 1 < len(data):
                data = data[end + 1 :]
                break
            data = data[end:]
            block = next(stream, None)
            if block is None:
                return data[1:]
            data += block
    while True:
        mark = field_ends.search(data)
        if mark is not None:
            return data[mark.start() :]
        block = next(stream, None)
        if block is None:
            return b""
        data = block


_LARGE_BYTES = 4_000_000
"""A longer line is not held."""

_FIRST_URI = re.compile(rb'\{"uri":"([^"\\]*+)"')


def _json_lines_posts(blocks: Iterable[bytes], *_: object) -> Iterator[EarlierPost]:
    """The posts of posts.jsonl; a post in a very long line has only its uri, so it equals no other."""
    rest = b""
    skipping = False
    for block in blocks:
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            if not skipping:
                yield _json_line(line)
            skipping = False
        if len(rest) > _LARGE_BYTES:
            if not skipping:
                first = _FIRST_URI.match(rest)
                if first is None:
                    raise ValueError(f"a post has more than {_LARGE_BYTES:,} bytes, and no uri at its beginning")
                yield comparable(first[1]), None, None
            rest, skipping = b"", True
    if rest or skipping:
        raise ValueError("its last line has no end")


def _json_line(line: bytes) -> EarlierPost:
    try:
        post = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"a line cannot be read: {error}") from None
    if not isinstance(post, dict):
        raise ValueError("a line is not a post")
    found: list[bytes | None] = []
    for name in ("uri", "cid", "indexed_at"):
        value = post.get(name)
        if not isinstance(value, str):
            raise ValueError(f"a post has no {name}")
        found.append(comparable(value.encode("utf-8", "surrogatepass")))
    return found[0], found[1], found[2]


def _parquet_posts(blocks: Iterable[bytes], _: object, open_file: OpenFile | None) -> Iterator[EarlierPost]:
    """The posts of posts.parquet, which is opened again."""
    for _block in blocks:
        pass  # Reading the blocks computes the caller's checksum.
    assert open_file is not None
    names = ("uri", "cid", "indexed_at", "originals")
    with opened_table(open_file) as file:
        if missing := [name for name in names if name not in file.schema_arrow.names]:
            raise ValueError(f"it has no column {missing[0]}")
        for batch in file.iter_batches(batch_size=4096, columns=list(names), use_threads=False):
            times = batch.column(batch.schema.names.index("indexed_at")).cast("int64").to_pylist()
            uris, cids, originals = (
                batch.column(batch.schema.names.index(name)).to_pylist() for name in ("uri", "cid", "originals")
            )
            for uri, cid, time, original in zip(uris, cids, times, originals, strict=True):
                kept = json.loads(original).get("indexed_at") if original is not None else None
                stamp = timestamps.from_instant(time * 1000) if kept is None and time is not None else None
                shown = kept if isinstance(kept, str) else None if stamp is None else stamp.rfc3339()
                yield (
                    comparable(uri.encode()),
                    comparable(cid.encode()),
                    None if shown is None else comparable(shown.encode()),
                )


_READERS: dict[str, Callable[[Iterable[bytes], FormatSettings, OpenFile | None], Iterator[EarlierPost]]] = {
    "json": _json_posts,
    "jsonl": _json_lines_posts,
    "csv": _csv_posts,
    "parquet": _parquet_posts,
}
"""Format → the function that finds the posts in its data file."""
