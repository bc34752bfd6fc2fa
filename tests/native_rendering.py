"""Rendering with the native renderer as an export would, and with Python alone, to compare both."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

from skyexport.formats import FORMATS, arrow_blocks
from skyexport.formats.format import Format
from skyexport.formats.parquet_table import ParquetTable
from skyexport.formats.settings import DEFAULTS, FormatSettings
from skyexport.notices import Notices
from skyexport.posts import COLUMNS, StoredValue, stored_value_sql
from skyexport.rendering.native import NativeLibrary, NativeRenderer, NativeResult, Status
from tests.archives import TABLE_COLUMNS

PREBUILT = os.environ.get("NATIVE_LIBRARY")
"""A library to test instead of one that is built for it: with sanitizers, for instance."""

SETTINGS = {
    "json": [DEFAULTS],
    "jsonl": [
        DEFAULTS,
        FormatSettings(columns=("reply_parent", "labels", "uri")),
        FormatSettings(columns=("embed_data",)),
    ],
    "csv": [
        DEFAULTS,
        FormatSettings(csv_safe=True),
        FormatSettings(delimiter=";"),
        FormatSettings(delimiter="|", csv_safe=True, columns=("text", "media_files", "created_at", "is_reply")),
        FormatSettings(delimiter="\t", columns=("text", "uri")),
        FormatSettings(columns=("media_files",)),
        FormatSettings(columns=("text",), csv_safe=True),
    ],
    "parquet": [
        DEFAULTS,
        FormatSettings(columns=("originals", "text")),
        FormatSettings(columns=("created_at", "like_count", "has_media", "embed_data")),
    ],
}
"""Format → ways to look, each column and each setting in one of them."""

EACH_SETTING = [(name, settings) for name, several in SETTINGS.items() for settings in several]

_AT_ONCE = 256
"""Posts in a statement at most: after each refusal it lists those that are left."""

GUARD = 64
"""Bytes behind a target that must stay as they are."""


@dataclass
class Rendered:
    """Posts in order, as they were rendered, and what was noticed."""

    parts: list[bytes] = field(default_factory=list)
    """Bytes of some posts that follow each other; for Parquet, blocks of columns."""
    formulas: int = 0
    refused: dict[int, str | None] = field(default_factory=dict)
    """Row id → column whose value was not usual."""


def post_of(connection: apsw.Connection, format: Format, row_id: int, notices: Notices) -> bytes:
    """A post as Python renders it."""
    values = ", ".join(stored_value_sql(TABLE_COLUMNS, name) for name in COLUMNS)
    found: list[Any] = connection.execute(f"select {values} from posts where rowid = ?", (row_id,)).fetchall()
    stored: dict[str, StoredValue] = dict(zip(COLUMNS, found[0], strict=True))
    return b"".join(format.pieces(stored, notices))


def rendered_by_python(
    connection: apsw.Connection, row_ids: Sequence[int], format_name: str, settings: FormatSettings = DEFAULTS
) -> Rendered:
    """All of these posts as Python renders them."""
    format = FORMATS[format_name].configured(settings)
    notices = Notices()
    parts = [post_of(connection, format, row_id, notices) for row_id in row_ids]
    return Rendered(parts, notices.formulas)


def run(
    connection: apsw.Connection, renderer: NativeRenderer, row_ids: Sequence[int], target: memoryview
) -> NativeResult:
    """One statement that renders these posts into *target*."""
    renderer.set_target(target)
    try:
        posts = connection.execute(
            f"select {renderer.aggregate_sql} from (select value as row_id from json_each(?)) as batch"
            " cross join posts on posts.rowid = batch.row_id",
            (json.dumps(list(row_ids)),),
        ).get
    except (apsw.SQLError, apsw.NoMemError):
        result = renderer.result()
        assert result.status in (Status.NOT_USUAL, Status.TOO_LARGE, Status.NO_MEMORY), result
        assert result.refused_row_id == row_ids[result.posts]
    else:
        result = renderer.result()
        assert (result.status, result.posts, result.refused_row_id) == (Status.DONE, posts, None)
        assert posts == len(row_ids)
    assert 0 <= result.bytes <= len(target)
    return result


def rendered_natively(
    connection: apsw.Connection,
    library: NativeLibrary,
    row_ids: Sequence[int],
    format_name: str,
    settings: FormatSettings = DEFAULTS,
    capacity: int = 4_000_000,
) -> Rendered:
    """All of these posts, those that are refused by Python, as an export would put them together."""
    format = FORMATS[format_name].configured(settings)
    renderer = NativeRenderer(connection, library, format_name, settings)
    rendered = Rendered()
    memory = bytearray(b"\xa5" * (capacity + GUARD))
    rest = list(row_ids)
    while rest:
        result = run(connection, renderer, rest[:_AT_ONCE], memoryview(memory)[:capacity])
        assert memory[capacity:] == b"\xa5" * GUARD
        if result.posts:
            data = bytes(memory[: result.bytes])
            rendered.parts.append(data)
        rendered.formulas += result.formulas
        rest = rest[result.posts :]
        if result.status is Status.NOT_USUAL or (result.status is Status.TOO_LARGE and not result.posts):
            notices = Notices()
            rendered.parts.append(post_of(connection, format, rest[0], notices))
            rendered.formulas += notices.formulas
            rendered.refused[rest[0]] = result.refused_column
            rest = rest[1:]
    return rendered


def joined(rendered: Rendered, format: Format) -> Any:
    """The posts in a row: bytes, or a record batch whose buffers are checked."""
    if not isinstance(format, ParquetTable):
        return format.separator.join(rendered.parts)
    rows = arrow_blocks.Rows(format.schema())
    for part in rendered.parts:
        for block, _ in arrow_blocks.whole_blocks(memoryview(part)):
            rows.add(block)
    batch = rows.record_batch()
    batch.validate(full=True)
    return batch


def check_same(
    connection: apsw.Connection,
    library: NativeLibrary,
    row_ids: Sequence[int],
    format_name: str,
    settings: FormatSettings = DEFAULTS,
    capacity: int = 4_000_000,
) -> dict[int, str | None]:
    """Hold both ways to the same bytes and the same count of formulas; gives the rows that were refused, and why."""
    natively = rendered_natively(connection, library, row_ids, format_name, settings, capacity)
    by_python = rendered_by_python(connection, row_ids, format_name, settings)
    if row_ids:
        format = FORMATS[format_name].configured(settings)
        found, expected = joined(natively, format), joined(by_python, format)
        same = found.equals(expected) if format_name == "parquet" else found == expected
        # Not in the assertion itself: comparing megabytes in words would take minutes.
        assert same, (format_name, settings, row_ids[:5], str(found)[-2000:], str(expected)[-2000:])
    assert natively.formulas == by_python.formulas
    return natively.refused


def library_path(directory: Path) -> Path:
    """The library that tests use, built with buffers that must grow."""
    import build_native

    if PREBUILT is not None:
        return Path(PREBUILT)
    path = directory / build_native.library_name()
    build_native.build(path, flags=[*build_native.STRICT, "-DSKY_FIRST_BUFFER_BYTES=64"])
    return path
