"""Small archives made of given posts, with exactly the stored values that a test wants, and how to render them."""

from __future__ import annotations

import contextlib
import functools
import json
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import apsw

from skyexport.archive.archive import Archive
from skyexport.archive.export_order import order_of, row_ids_in_order
from skyexport.archive.plan import Batch, key_ranges, row_id_batches
from skyexport.formats import FORMATS
from skyexport.formats.chunk import Chunk
from skyexport.notices import Notices
from skyexport.posts import COLUMNS, StoredValue, stored_value_sql
from skyexport.rendering.renderer import BatchRenderer
from skyexport.repository import tables
from skyexport.selection import Selection


@dataclass(frozen=True, slots=True)
class RawText:
    """TEXT of these bytes, whether they are UTF-8 or not."""

    data: bytes


Cell = StoredValue | str | RawText
"""A value to store: `str` and `RawText` as TEXT, bytes as BLOB."""

Row = dict[str, Cell]
"""One post to store, column → value."""

StoredCell = StoredValue | RawText
"""A value as it was stored: TEXT as `RawText`, BLOB as bytes."""

StoredRow = dict[str, StoredCell]
"""One post as it was stored."""

TABLES = tables.TABLES
"""The statements that make the tables of an archive; a test may change them."""

TABLE_COLUMNS = {name: name for name in COLUMNS}
"""Column → name in the table, for an archive of the newest schema."""


def post(number: int = 0, /, **cells: Cell) -> Row:
    """An ordinary post whose uri ends in *number*, with some of its cells changed."""
    usual: Row = {
        "uri": f"at://did:plc:abc/app.bsky.feed.post/{number:08d}",
        "cid": "bafyreia",
        "did": "did:plc:abc",
        "text": "Hello",
        "created_at": "2024-05-22 18:57:38.254 +0000 UTC",
        "indexed_at": "2024-05-23 08:00:00.000000001 +0000 UTC m=+12.345678901",
        "has_media": 0,
        "like_count": 1,
        "repost_count": 2,
        "reply_count": 3,
        "quote_count": 4,
        "is_reply": 0,
        "reply_parent": "",
        "embed_type": "",
        "embed_data": b"null",
        "labels": b"null",
        "archived_at": "2024-05-23 08:00:00 +0000 UTC m=+12.345678902",
    }
    return {**usual, **cells}


def uri_of(row: Row) -> str:
    """The uri of a post, which must be a string."""
    uri = row["uri"]
    assert isinstance(uri, str)
    return uri


def fill(connection: apsw.Connection, rows: Iterable[Row], *, schema_version: int = 3, index: bool = True) -> None:
    """Make the tables of an archive in an empty database, and store the posts."""
    statements = TABLES if schema_version > 1 else TABLES.replace(tables.QUOTE_COUNT_COLUMN, "")
    connection.execute("begin")
    connection.execute(statements)
    if schema_version > 2:
        connection.execute(tables.EXPORTS_TABLE)
    connection.executemany("insert into schema_version values (?, '')", [(v + 1,) for v in range(schema_version)])
    connection.execute(tables.INDEXES + (tables.CREATED_AT_INDEX if index else ""))
    columns = [name for name in COLUMNS if name != "quote_count" or schema_version > 1]
    for row in rows:
        insert(connection, {name: row[name] for name in columns})
    connection.execute("commit")


def insert(connection: apsw.Connection, row: Row) -> None:
    """Store one post."""
    places = ", ".join(map(_place, row.values()))
    connection.execute(f"insert into posts ({', '.join(row)}) values ({places})", [*map(_bound, row.values())])


def change(connection: apsw.Connection, row: Row, *names: str) -> None:
    """Give the stored post with the uri of *row* the row's values of these columns."""
    changes = ", ".join(f"{name} = {_place(row[name])}" for name in names)
    values = [_bound(row[name]) for name in (*names, "uri")]
    connection.execute(f"update posts set {changes} where uri = {_place(row['uri'])}", values)


def _place(cell: Cell) -> str:
    """Where *cell* is bound in a statement."""
    return "cast(? as text)" if isinstance(cell, RawText) else "?"


def _bound(cell: Cell) -> StoredValue | str:
    """What is bound there."""
    return cell.data if isinstance(cell, RawText) else cell


def memory_archive(rows: Iterable[Row], *, schema_version: int = 3, index: bool = True) -> apsw.Connection:
    """An archive in memory; close it."""
    connection = apsw.Connection(":memory:")
    fill(connection, rows, schema_version=schema_version, index=index)
    return connection


def read_rows(path: Path) -> list[Row]:
    """Posts from a JSON file: strings are TEXT, so is `{"text_hex"}`; `{"blob"}` and `{"blob_hex"}` are BLOB."""

    def cell(value: Any) -> Cell:
        if not isinstance(value, dict):
            return cast(Cell, value)
        ((kind, content),) = value.items()
        data = bytes.fromhex(content) if kind.endswith("_hex") else str(content).encode()
        return RawText(data) if kind.startswith("text") else data

    return [{name: cell(value) for name, value in row.items()} for row in json.loads(path.read_bytes())]


@functools.cache
def _shared_archive() -> apsw.Connection:
    return memory_archive([])


@contextlib.contextmanager
def replaced_posts(rows: Iterable[Row]) -> Iterator[apsw.Connection]:
    """An archive in memory with these posts, which the next caller replaces: for tests with many examples."""
    connection = _shared_archive()
    connection.execute("delete from posts")
    for row in rows:
        insert(connection, row)
    yield connection


def file_archive(
    path: Path, rows: Iterable[Row], *, schema_version: int = 3, index: bool = True, wal: bool = False
) -> Path:
    """An archive in a file, cleanly closed."""
    with contextlib.closing(apsw.Connection(str(path))) as connection:
        if wal:
            connection.pragma("journal_mode", "wal")
        fill(connection, rows, schema_version=schema_version, index=index)
    return path


@contextlib.contextmanager
def writing(path: Path) -> Iterator[apsw.Connection]:
    """Another program that writes to the archive."""
    with contextlib.closing(apsw.Connection(str(path))) as connection:
        yield connection


def run_sql(path: Path, *statements: str) -> None:
    """Change the archive by these statements."""
    with writing(path) as connection:
        for statement in statements:
            connection.execute(statement)


PET_WORDS = ("cats", "dogs", "cats and dogs", "birds", "")
"""The texts of `pets`, in turn."""


def pets(count: int = 300) -> list[Row]:
    """Posts by two authors, ten in each instant."""
    return [
        post(
            number * 7919 % count, text=PET_WORDS[number % len(PET_WORDS)], did=f"did:plc:{'ab'[number % 3 == 0]}",
            created_at=f"2024-05-{number // 10 % 28 + 1:02} 10:00:00 +0000 UTC",
        )
        for number in range(count)
    ]  # fmt: skip


def searchable(path: Path, rows: Iterable[Row], **options: Any) -> Path:
    """An archive in a file, with a full-text index."""
    file_archive(path, rows, **options)
    run_sql(path, tables.FULL_TEXT)
    return path


def stored_rows(connection: apsw.Connection) -> list[StoredRow]:
    """The posts as they lie in the table, in any order."""
    cells = ", ".join(f"typeof({name}), iif(typeof({name}) = 'text', cast({name} as blob), {name})" for name in COLUMNS)
    rows = []
    for found in connection.execute(f"select {cells} from posts"):
        row: StoredRow = {}
        for name, kind, value in zip(COLUMNS, found[::2], found[1::2], strict=True):
            assert value is None or isinstance(value, bytes | int | float)
            row[name] = RawText(value) if kind == "text" and isinstance(value, bytes) else value
        rows.append(row)
    return rows


def stored_values(connection: apsw.Connection) -> list[list[StoredValue]]:
    """The values of every post as a format takes them, in order of row ids."""
    values = ", ".join(stored_value_sql(TABLE_COLUMNS, name) for name in COLUMNS)
    found: list[Any] = connection.execute(f"select {values} from posts order by rowid").fetchall()
    return [list(row) for row in found]


def usual_bytes(connection: apsw.Connection, format_name: str) -> list[tuple[bytes, Notices] | None]:
    """Every post in order of row ids as a usual one, and what was noticed; None for a post that is not."""
    format = FORMATS[format_name]
    posts: list[tuple[bytes, Notices] | None] = []
    for values in stored_values(connection):
        notices = Notices()
        part = format.usual(values, notices)
        posts.append(None if part is None else (format.joined([part]), notices))
    return posts


def exact_bytes(connection: apsw.Connection, format_name: str) -> list[tuple[bytes, Notices]]:
    """The same by the generator that takes every post."""
    posts = []
    for values in stored_values(connection):
        notices = Notices()
        stored = dict(zip(COLUMNS, values, strict=True))
        posts.append((b"".join(FORMATS[format_name].pieces(stored, notices)), notices))
    return posts


def rendered(
    connection: apsw.Connection,
    format_name: str,
    batches: Iterable[Batch],
    *,
    index: str | None = "idx_posts_created_at",
    columns: Mapping[str, str] = TABLE_COLUMNS,
    selection: Selection | None = None,
) -> tuple[bytes, Notices]:
    """A whole file of these batches, and the notices."""
    renderer = BatchRenderer(connection, columns, index, FORMATS[format_name], selection or Selection())
    return joined(format_name, (chunk for batch in batches for chunk in renderer.render(batch)))


def joined(format_name: str, chunks: Iterable[Chunk]) -> tuple[bytes, Notices]:
    """The file that the chunks make, and the sum of their notices."""
    format = FORMATS[format_name]
    file = format.new_file()
    parts: list[bytes | memoryview] = []
    notices = Notices()
    for chunk in chunks:
        parts += file.add(chunk.data, chunk.posts)
        notices.merge(chunk.notices)
    return b"".join([*parts, *file.finish()]), notices


def sorted_row_ids(connection: apsw.Connection) -> list[int]:
    """The row ids of all posts, in export order."""
    ids = []
    for (row_id,) in connection.execute("select rowid from posts order by created_at desc, uri"):
        assert isinstance(row_id, int)
        ids.append(row_id)
    return ids


def rendered_by_row_ids(
    connection: apsw.Connection, format_name: str, *, batch_size: int = 1000, selection: Selection | None = None
) -> tuple[bytes, Notices]:
    """A whole file, rendered along a sort of the posts."""
    batches = row_id_batches(sorted_row_ids(connection), batch_size)
    return rendered(connection, format_name, batches, index=None, selection=selection)


def planned(archive: Archive, selection: Selection, batch_size: int) -> Iterator[Batch]:
    """The batches of an export, cut along the created_at index where there is one."""
    if archive.created_at_index is None:
        yield from row_id_batches(row_ids_in_order(archive, selection), batch_size)
        return
    for span in selection.spans():
        yield from key_ranges(order_of(archive, span), batch_size)


def exported(
    archive: Archive, format_name: str, *, batch_size: int = 1000, selection: Selection | None = None
) -> tuple[bytes, Notices]:
    """A whole file, planned and rendered as an export does, in one process."""
    selection = selection or Selection()
    batches = list(planned(archive, selection, batch_size))
    with contextlib.closing(archive.source.connect()) as connection:
        return rendered(
            connection,
            format_name,
            batches,
            index=archive.created_at_index,
            columns=archive.columns,
            selection=selection,
        )


def row_ids(*ids: int) -> array[int]:
    """Row ids as a batch has them."""
    return array("q", ids)
