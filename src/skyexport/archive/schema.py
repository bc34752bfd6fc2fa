"""The schema of an archive. Anybody can make a file of that name: its tables are checked before anything is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import apsw

from skyexport.archive.authorizer import folded
from skyexport.archive.copying import MEDIA_COLUMNS
from skyexport.errors import ArchiveError
from skyexport.posts import COLUMNS, quote_identifier

__all__ = ["Schema", "checked_schema", "not_an_archive"]

_READ_TABLES = ("posts", "media", "schema_version")
_KNOWN_VERSIONS = (1, 2, 3)
_ROW_ID = "rowid"
"""The name of the row id in all statements; a column of that name would hide it."""
_OPTIONAL_COLUMNS = {"quote_count": "0"}
"""Column that old schemas lack → SQL that replaces it."""


@dataclass(frozen=True, slots=True)
class Schema:
    """The tables, columns and indexes of an archive."""

    tables: frozenset[str]
    """Names, in lower case."""
    columns: dict[str, str]
    """Column of a post → SQL for its value."""
    media_columns: Mapping[str, bool]
    """Column of `media`, in lower case → whether it is hidden or generated."""
    version: int
    """1 to 3."""
    created_at_index: str | None
    """Name of an index on created_at; None if there is none, or if a post has no time."""
    did_index: str | None
    uri_index: str | None

    @property
    def has_media_columns(self) -> bool:
        """Whether `media` has the columns that an export reads."""
        return not any(self.media_columns.get(name, True) for name in MEDIA_COLUMNS)


def checked_schema(connection: apsw.Connection, display_path: str) -> Schema:
    """The schema of an archive, if that is what *connection* is open on.

    Args:
        connection: A connection that `restrict` has restricted.
        display_path: The archive's path, for errors.

    Raises:
        ArchiveError: It is not an archive, or a newer one.
        UnicodeDecodeError: A name in it is damaged.
    """
    tables = _checked_tables(connection, display_path)
    columns = _checked_columns(connection, display_path)
    return Schema(
        tables, columns, _columns_of(connection, "media"), _checked_version(connection, tables, columns, display_path),
        _index_on(connection, "created_at") if _has_all_times(connection) else None,
        _index_on(connection, "did"), _index_on(connection, "uri"),
    )  # fmt: skip


def not_an_archive(display_path: str, why: str, hint: str = "") -> ArchiveError:
    """The error that a file is not an archive."""
    return ArchiveError(f"{display_path} is not a bskyarchive archive: {why}", hint)


def _checked_tables(connection: apsw.Connection, display_path: str) -> frozenset[str]:
    """Check that the tables that are read are plain ones; returns the names of all."""
    tables = {folded(row[1]): row for row in connection.execute("pragma table_list") if row[0] == "main"}
    if "posts" not in tables:
        raise not_an_archive(display_path, "no table posts")
    for name in filter(tables.__contains__, _READ_TABLES):
        _, _, kind, _, without_rowid, _ = tables[name]
        if kind != "table":
            raise not_an_archive(display_path, f"{name} is not a plain table")
        if name == "posts" and without_rowid:
            raise not_an_archive(display_path, "posts is a table without row ids")
    return frozenset(tables)


def _checked_columns(connection: apsw.Connection, display_path: str) -> dict[str, str]:
    """Check that `posts` has all that an export needs; returns column → SQL for its value."""
    present = _columns_of(connection, "posts")
    missing = [name for name in COLUMNS if name not in present and name not in _OPTIONAL_COLUMNS]
    if missing:
        raise not_an_archive(display_path, f"posts has no column {', '.join(missing)}")
    # Only columns that are read are computed, so other generated columns do no harm.
    if generated := [name for name in COLUMNS if present.get(name)]:
        raise not_an_archive(display_path, f"posts has a generated column {', '.join(generated)}")
    if _ROW_ID in present:
        raise not_an_archive(display_path, f"posts has a column {_ROW_ID}, which hides the row ids")
    return {name: name if name in present else _OPTIONAL_COLUMNS[name] for name in COLUMNS}


def _columns_of(connection: apsw.Connection, table: str) -> dict[str, bool]:
    """Column in lower case → whether it is hidden or generated."""
    return {folded(str(row[1])): bool(row[6]) for row in connection.execute(f"pragma table_xinfo({table})")}


def _checked_version(
    connection: apsw.Connection, tables: frozenset[str], columns: Mapping[str, str], display_path: str
) -> int:
    noted: list[Any] = []
    if "schema_version" in tables:
        if _columns_of(connection, "schema_version").get("version", True):
            raise not_an_archive(display_path, "schema_version has no column version")
        noted = connection.execute("select max(version) from schema_version having count(*) > 0").fetchall()
    for (version,) in noted:
        if not isinstance(version, int) or version not in _KNOWN_VERSIONS:
            raise ArchiveError(
                f"{display_path} has schema version {version!r:.100},"
                f" and this skyexport knows 1 to {_KNOWN_VERSIONS[-1]}",
                "try a newer skyexport",
            )
        return version
    return 1 if columns["quote_count"] == "0" else 3 if "exports" in tables else 2


def _has_all_times(connection: apsw.Connection) -> bool:
    """Whether every post has a time: steps along the index compare times, and NULL compares with nothing."""
    return not connection.execute("select 1 from posts where created_at is null limit 1").fetchall()


def _index_on(connection: apsw.Connection, column: str) -> str | None:
    """Name of a full index whose first column is *column*, compared bytewise; None if there is none."""
    for _, name, _, _, partial in connection.execute("pragma index_list(posts)").fetchall():
        keys = connection.execute(f"pragma index_xinfo({quote_identifier(str(name))})").fetchall()
        first, collation = str(keys[0][2]), str(keys[0][4])
        if not partial and folded(first) == column and folded(collation) == "binary":
            return str(name)
    return None
