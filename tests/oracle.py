"""A second, slow and simple reading of docs/formats.md: the expected bytes of posts as they are stored.

It shares no code with the exporter, so that the two agree only where both are right.
"""

from __future__ import annotations

import calendar
import json
import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import cmp_to_key
from typing import Any, NamedTuple

import apsw

from skyexport.formats import arrow_blocks
from skyexport.formats.parquet_table import ParquetTable
from tests import strict_json
from tests.archives import RawText, StoredCell, StoredRow

JSON_KEYS = [
    *("uri", "cid", "did", "text", "created_at", "indexed_at"),
    *("has_media", "like_count", "repost_count", "reply_count", "quote_count", "is_reply"),
    *("reply_parent", "embed_type", "embed_data", "labels", "archived_at"),
]
OPTIONAL_KEYS = {"reply_parent", "embed_type", "embed_data", "labels"}
CSV_HEADER = (
    "URI,CID,DID,Text,CreatedAt,LikeCount,RepostCount,ReplyCount,QuoteCount,IsReply,ReplyParent,HasMedia,MediaFiles,"
    "EmbedType,IndexedAt"
)
WHITE_SPACE = "\t\n\x0b\x0c\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
ESCAPES = {
    '"': '\\"',
    "\\": "\\\\",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\u2028": "\\u2028",
    "\u2029": "\\u2029",
}

SPECIAL = re.compile("[\0-\x1f" + re.escape("".join(ESCAPES)) + "]")
SQLITE = apsw.Connection(":memory:")


class Time(NamedTuple):
    """The parts of a stored time."""

    local: str
    fraction: str
    minutes_east: int

    @property
    def zone(self) -> str:
        """As RFC 3339 has it."""
        if self.minutes_east == 0:
            return "Z"
        sign = "-" if self.minutes_east < 0 else "+"
        return f"{sign}{abs(self.minutes_east) // 60:02d}:{abs(self.minutes_east) % 60:02d}"


def bytes_of(cell: StoredCell) -> bytes:
    """A stored value as SQLite prints it, in bytes."""
    if cell is None:
        return b""
    if isinstance(cell, RawText):
        return cell.data
    if isinstance(cell, bytes):
        return cell
    shown = SQLITE.execute("select cast(? as text)", (cell,)).get
    assert isinstance(shown, str)
    return shown.encode()


def text_of(data: bytes) -> str:
    """UTF-8 with one U+FFFD for each invalid byte."""
    return "".join("\ufffd" if "\udc80" <= c <= "\udcff" else c for c in data.decode("utf-8", "surrogateescape"))


def json_string(text: str) -> str:
    """A JSON string."""
    return '"' + SPECIAL.sub(lambda found: ESCAPES.get(found[0]) or f"\\u{ord(found[0]):04x}", text) + '"'


def read_time(cell: StoredCell) -> Time | None:
    """The time that was stored, None where none can be read."""
    if isinstance(cell, int):
        milliseconds = cell if abs(cell) > 10**11 else cell * 1000
        in_year_0 = -62_167_219_200_000 <= milliseconds < -62_135_596_800_000
        try:
            moment = datetime(2370 if in_year_0 else 1970, 1, 1) + timedelta(milliseconds=milliseconds)  # noqa: DTZ001
        except OverflowError:
            return None
        year = 0 if in_year_0 else moment.year
        return Time(f"{year:04d}{moment.isoformat()[4:19]}", f"{milliseconds % 1000:03d}".rstrip("0"), 0)
    text = text_of(bytes_of(cell)).split("m=")[0].strip()
    day, rest = text[:10], text[10:]
    if not re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", day):
        return None
    year, month, day_of_month = map(int, day.split("-"))
    if not 1 <= month <= 12 or not 1 <= day_of_month <= calendar.monthrange(2000 + year % 400, month)[1]:
        return None
    if not rest:
        return Time(f"{day}T00:00:00", "", 0)
    clock = re.match(r"[ T]([0-9]{2}):([0-9]{2})(:([0-9]{2})(\.([0-9]+))?)?", rest)
    if clock is None:
        return None
    hour, minute, second = int(clock[1]), int(clock[2]), int(clock[4] or 0)
    if hour >= 24 or minute >= 60 or second >= 60:
        return None
    local = f"{day}T{hour:02d}:{minute:02d}:{second:02d}"
    fraction = (clock[6] or "")[:9].rstrip("0")
    zone = rest[clock.end() :]
    if zone in ("", "Z", "UTC", " UTC"):
        return Time(local, fraction, 0)
    offset = re.fullmatch(r" ?([+-])([0-9]{2}):?([0-9]{2})( ([A-Za-z]{1,6}|[+-][0-9]{2}|[+-][0-9]{4}))?", zone)
    if offset is None or int(offset[2]) >= 24 or int(offset[3]) >= 60:
        return None
    minutes = int(offset[2]) * 60 + int(offset[3])
    return Time(local, fraction, -minutes if offset[1] == "-" else minutes)


def indented(text: str, level: int) -> str:
    """Valid JSON, indented to *level*, its tokens untouched: white space goes, line breaks come."""
    tokens = re.findall(r'"(?:[^"\\]|\\.)*"|[{}\[\]:,]|[^\s{}\[\]:,"]+', text, re.DOTALL)
    out = []
    before = ""
    for token in tokens:
        closes = token in ("}", "]")
        level -= closes
        if before == "," or closes != (before in ("{", "[")):
            out.append("\n" + "  " * level)
        out.append(": " if token == ":" else token)
        level += token in ("{", "[")
        before = token
    return "".join(out).replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def json_value(name: str, cell: StoredCell) -> str:
    """The value of one key."""
    data = bytes_of(cell)
    if name.endswith("_at"):
        time = read_time(cell)
        if time is None:
            return json_string(text_of(data))
        return f'"{time.local}{"." if time.fraction else ""}{time.fraction}{time.zone}"'
    if name in ("has_media", "is_reply"):
        return "true" if SQLITE.execute("select iif(?, 1, 0)", (sql_value(cell),)).get else "false"
    if name.endswith("_count"):
        if cell is None:
            return "0"
        finite = isinstance(cell, int) or (isinstance(cell, float) and abs(cell) != float("inf"))
        return repr(cell) if finite else json_string(text_of(data))
    if name in ("embed_data", "labels"):
        try:
            strict_json.parsed(text_of(data))
        except ValueError:
            return json_string(text_of(data))
        return indented(text_of(data), 2)
    return json_string(text_of(data))


def sql_value(cell: StoredCell) -> bytes | int | float | str | None:
    """For SQLite's own opinion on a value that is not text of odd bytes."""
    return text_of(cell.data) if isinstance(cell, RawText) else cell


def json_post(row: StoredRow) -> bytes:
    """One post of posts.json, without its braces."""
    lines = [
        f'\n    "{key}": {json_value(key, row[key])}'
        for key in JSON_KEYS
        if key not in OPTIONAL_KEYS or bytes_of(row[key])
    ]
    return ",".join(lines).encode()


def csv_field(data: bytes) -> bytes:
    """A field, in quotes where it needs them."""
    begins = data.decode("utf-8", "surrogateescape")[:1]
    quoted = any(c in data for c in b',"\r\n') or data == rb"\." or (begins != "" and begins in WHITE_SPACE)
    return b'"' + data.replace(b'"', b'""') + b'"' if quoted else data


def media_files(cell: StoredCell) -> bytes:
    """The column MediaFiles of a post that has media."""
    try:
        embed = strict_json.parsed(text_of(bytes_of(cell)))
    except ValueError:
        return b""

    def member(value: Any, key: str) -> Any:
        return value.get(key) if isinstance(value, dict) else None

    urls = []
    for images in (member(embed, "images"), member(member(embed, "media"), "images")):
        urls += [member(image, "fullsize") for image in images] if isinstance(images, list) else []
    urls.append(member(member(embed, "external"), "thumb"))
    names = [url.split("/")[-1].split("@")[0] for url in urls if isinstance(url, str) and "/" in url]
    joined_names = ";".join(name for name in names if name)
    return "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in joined_names).encode()


def csv_cells(row: StoredRow) -> list[bytes]:
    """The cells of one record of posts.csv, before any is quoted."""

    def time(name: str) -> bytes:
        read = read_time(row[name])
        return bytes_of(row[name]) if read is None else f"{read.local}{read.zone}".encode()

    def count(name: str) -> bytes:
        value = json_value(name, row[name])
        return bytes_of(row[name]) if value.startswith('"') else value.encode()

    def flag(name: str) -> bytes:
        return json_value(name, row[name]).encode()

    return [
        *(bytes_of(row[name]) for name in ("uri", "cid", "did", "text")),
        time("created_at"),
        *(count(f"{name}_count") for name in ("like", "repost", "reply", "quote")),
        flag("is_reply"),
        bytes_of(row["reply_parent"]),
        flag("has_media"),
        media_files(row["embed_data"]) if flag("has_media") == b"true" else b"",
        bytes_of(row["embed_type"]),
        time("indexed_at"),
    ]


def csv_post(row: StoredRow) -> bytes:
    """One record of posts.csv, without its line end."""
    return b",".join(map(csv_field, csv_cells(row)))


UNSEEN = "".join(
    map(
        chr,
        [
            *(*range(0x21), *range(0x7F, 0xA1), 0xAD, 0x61C, 0x1680, 0x180E, *range(0x2000, 0x2010)),
            *(*range(0x2028, 0x2030), *range(0x205F, 0x2070), 0x3000, 0xFEFF),
        ],
    )
)
"""Characters that a spreadsheet may drop from the beginning of a cell."""


def is_formula(cell: str) -> bool:
    """Whether a spreadsheet may read it as one."""
    return cell[:1] in tuple("\t\r\n\0") or cell.lstrip(UNSEEN)[:1] in tuple("=+-@＝＋－＠")


def formulas(row: StoredRow) -> int:
    """How many cells of a record begin as formulas do; a number is none."""
    found = 0
    for name, cell in zip(CSV_HEADER.split(","), csv_cells(row), strict=True):
        column = f"{name.removesuffix('Count').lower()}_count"
        is_number = name.endswith("Count") and not json_value(column, row[column]).startswith('"')
        found += not is_number and is_formula(text_of(cell))
    return found


def in_export_order(rows: Iterable[StoredRow]) -> list[StoredRow]:
    """Posts by created_at, newest first, then by uri, as SQLite compares values of any type."""

    def rank(cell: StoredCell) -> tuple[int, Any]:
        if cell is None:
            return (0, 0)
        if isinstance(cell, int | float):
            return (1, cell)
        return (2, cell.data) if isinstance(cell, RawText) else (3, cell)

    def compare(one: StoredRow, other: StoredRow) -> int:
        a, b = rank(one["created_at"]), rank(other["created_at"])
        if a != b:
            return -1 if a > b else 1
        c, d = rank(one["uri"]), rank(other["uri"])
        return (c > d) - (c < d)

    return sorted(rows, key=cmp_to_key(compare))


def json_file(rows: Iterable[StoredRow]) -> bytes:
    """posts.json of these posts."""
    posts = [b"  {" + json_post(row) + b"\n  }" for row in in_export_order(rows)]
    return b"[\n" + b",\n".join(posts) + b"\n]\n" if posts else b"[]\n"


def csv_file(rows: Iterable[StoredRow]) -> bytes:
    """posts.csv of these posts."""
    records = [CSV_HEADER.encode(), *(csv_post(row) for row in in_export_order(rows))]
    return b"\xef\xbb\xbf" + b"".join(record + b"\n" for record in records)


def compact(text: str) -> str:
    """Valid JSON without white space between tokens."""
    tokens = re.findall(r'"(?:[^"\\]|\\.)*"|[{}\[\]:,]|[^\s{}\[\]:,"]+', text, re.DOTALL)
    return "".join(tokens).replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def jsonl_post(row: StoredRow) -> bytes:
    """One line of posts.jsonl, without its braces."""
    members = []
    for key in JSON_KEYS:
        if key not in OPTIONAL_KEYS or bytes_of(row[key]):
            value = json_value(key, row[key])
            members.append(f'"{key}":{compact(value) if key in ("embed_data", "labels") else value}')
    return ",".join(members).encode()


def jsonl_file(rows: Iterable[StoredRow]) -> bytes:
    """posts.jsonl of these posts."""
    return b"".join(b"{" + jsonl_post(row) + b"}\n" for row in in_export_order(rows))


YEAR_0, YEAR_10000 = -62_167_219_200_000_000, 253_402_300_800_000_000
"""In microseconds since 1970."""


def microseconds(time: Time) -> int:
    """Since 1970, in UTC; whatever is less is cut off."""
    year = int(time.local[:4])
    moment = datetime.fromisoformat(f"{2000 + year % 400:04d}{time.local[4:]}")
    cycles = (2000 + year % 400 - year) // 400
    seconds = calendar.timegm(moment.timetuple()) - cycles * 146_097 * 86_400 - time.minutes_east * 60
    return seconds * 1_000_000 + int(time.fraction[:6].ljust(6, "0"))


def parquet_row(row: StoredRow) -> dict[str, Any]:
    """The values of a row of posts.parquet, times in microseconds."""
    values: dict[str, Any] = {}
    originals: dict[str, Any] = {}
    for key in JSON_KEYS:
        shown = json_value(key, row[key])
        if key in OPTIONAL_KEYS and not bytes_of(row[key]):
            values[key] = None
        elif key in ("embed_data", "labels"):
            values[key] = compact(shown)
        elif key in ("has_media", "is_reply"):
            values[key] = shown == "true"
        elif key.endswith("_at"):
            time = read_time(row[key])
            instant = None if time is None else microseconds(time)
            values[key] = instant if instant is not None and YEAR_0 <= instant < YEAR_10000 else None
            if time is None or time.zone != "Z" or len(time.fraction) > 6:
                originals[key] = json.loads(shown)
        elif key.endswith("_count"):
            number = json.loads(shown)
            values[key] = number if isinstance(number, int) else None
            if not isinstance(number, int):
                originals[key] = number
        else:
            values[key] = text_of(bytes_of(row[key]))
    return values | {"originals": originals}


def shown_row(values: dict[str, Any]) -> bytes:
    """A row of posts.parquet as a line that can be compared."""
    return json.dumps(values, sort_keys=True).encode() + b"\n"


def parquet_post(row: StoredRow) -> bytes:
    """The part of `content` for one post."""
    return shown_row(parquet_row(row))


def parquet_file(rows: Iterable[StoredRow]) -> bytes:
    """The result of `content` for a file of these posts."""
    return b"".join(map(parquet_post, in_export_order(rows)))


def content(format_name: str, data: bytes | memoryview) -> bytes:
    """The content of a file, or of rendered posts: their bytes, or values where other bytes can mean the same."""
    if format_name != "parquet":
        return bytes(data)
    import pyarrow as pa
    import pyarrow.parquet as pq

    if data[:4] == b"PAR1":
        tables = [pq.read_table(pa.BufferReader(data))]
    else:
        found = arrow_blocks.Rows(ParquetTable().schema())
        for block, _ in arrow_blocks.whole_blocks(memoryview(data)):
            found.add(block)
        tables = [pa.Table.from_batches([found.record_batch()])]
    rows = []
    for table in tables:
        for place, name in enumerate(table.column_names):
            if pa.types.is_timestamp(table.schema.field(place).type):
                table = table.set_column(place, name, table.column(place).cast(pa.int64()))
        rows += table.to_pylist()
    return b"".join(shown_row(row | {"originals": json.loads(row["originals"] or "{}")}) for row in rows)


POST = {"json": json_post, "jsonl": jsonl_post, "csv": csv_post, "parquet": parquet_post}
FILE = {"json": json_file, "jsonl": jsonl_file, "csv": csv_file, "parquet": parquet_file}
