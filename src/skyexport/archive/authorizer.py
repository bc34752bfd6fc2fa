"""The restrictions of a connection to an archive: it may read posts and media, and nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping

import apsw

from skyexport.archive.shown_media import ONLY_SHOWN_COLUMN
from skyexport.posts import COLUMNS
from skyexport.runtime.sqlite_files import distrust

__all__ = ["Authorizer", "folded", "restrict"]

_COUNTED = ""
"""The column name that SQLite reports for `count(*)`, which reads no particular column."""

_MEDIA_COLUMNS = (
    "hash",
    "post_uri",
    "mime_type",
    "file_path",
    "size_bytes",
    "width",
    "height",
    "alt_text",
    "created_at",
)

_READABLE: Mapping[str, frozenset[str] | None] = {
    "posts": frozenset({*COLUMNS, "rowid", _COUNTED}),
    "media": frozenset({*_MEDIA_COLUMNS, ONLY_SHOWN_COLUMN, "rowid", _COUNTED}),
    "schema_version": frozenset({"version", _COUNTED}),
    "carray": None,
    "json_each": None,
}
"""Table → the columns that an export may read, None for all. carray holds the row ids of a batch, json_each the result
of a function of ours."""

_ALLOWED_PRAGMAS = frozenset(
    {"cache_size", "data_version", "index_list", "index_xinfo", "page_count", "page_size", "table_list", "table_xinfo"}
)

_ALLOWED_ACTIONS = frozenset({apsw.SQLITE_SELECT, apsw.SQLITE_FUNCTION, apsw.SQLITE_TRANSACTION, apsw.SQLITE_RECURSIVE})


def restrict(connection: apsw.Connection, also_insert: Collection[str] = ()) -> None:
    """Let a connection read only posts and media, trust no schema, and run no views or triggers.

    Args:
        connection: A connection with every database that it needs attached.
        also_insert: Tables of its main database that may get new rows.
    """

    distrust(connection)
    connection.pragma("mmap_size", 0)
    connection.pragma("schema_version")
    connection.authorizer = Authorizer(also_insert)


class Authorizer:
    """Allows reading only the columns that an export needs: the table `sessions` holds access tokens.

    Args:
        also_insert: Tables of the main database that may get new rows.
    """

    def __init__(self, also_insert: Collection[str] = ()) -> None:
        self._also_insert = frozenset(also_insert)
        self._readable = dict(_READABLE)
        self._attaching = False

    @classmethod
    def of(cls, connection: apsw.Connection) -> Authorizer:
        """The authorizer of a connection that `restrict` has restricted."""
        authorizer = connection.authorizer
        assert isinstance(authorizer, Authorizer)
        return authorizer

    def allow_reading(self, tables: Collection[str]) -> None:
        """Allow reading these tables as well, for an export whose options need them."""
        self._readable |= dict.fromkeys(tables)

    @contextlib.contextmanager
    def reading_for_a_while(self, *tables: str) -> Iterator[None]:
        """Allow reading these tables, inside a `with` block only."""
        with self._also(dict.fromkeys(tables)):
            yield

    @classmethod
    @contextlib.contextmanager
    def reading_columns(cls, connection: apsw.Connection, columns: Mapping[str, frozenset[str]]) -> Iterator[None]:
        """Allow *connection* to read only these columns of other tables, inside a `with` block only.

        Args:
            connection: A connection that `restrict` has restricted.
            columns: Table → columns, all in lower case.
        """
        authorizer = cls.of(connection)
        try:
            with authorizer._also(columns):
                yield
        finally:
            # SQLite asks only when it prepares a statement, and apsw keeps prepared ones: this makes them expire.
            connection.authorizer = authorizer

    @contextlib.contextmanager
    def _also(self, columns: Mapping[str, frozenset[str] | None]) -> Iterator[None]:
        added = {table: names for table, names in columns.items() if table not in self._readable}
        self._readable |= added
        try:
            yield
        finally:
            for table in added:
                self._readable.pop(table, None)

    def attach(self, connection: apsw.Connection, uri: str, name: str) -> None:
        """Attach a database of our own, which is not allowed otherwise."""
        self._attaching = True
        try:
            connection.execute(f"attach ? as {name}", (uri,))
        finally:
            self._attaching = False

    def _may_read(self, table: str, column: str) -> bool:
        columns = self._readable.get(table, frozenset())
        return columns is None or column in columns

    def __call__(self, action: int, first: str | None, *others: str | None) -> int:
        # Names come as the archive's schema writes them; names of pragmas come in lower case.
        name = None if first is None else folded(first)
        allowed = (
            action in _ALLOWED_ACTIONS
            or (action == apsw.SQLITE_READ and self._may_read(name or "", folded(others[0] or "")))
            or (action == apsw.SQLITE_PRAGMA and first in _ALLOWED_PRAGMAS)
            or (action == apsw.SQLITE_INSERT and others[1] == "main" and name in self._also_insert)
            or (action == apsw.SQLITE_ATTACH and self._attaching)
        )
        return apsw.SQLITE_OK if allowed else apsw.SQLITE_DENY


def folded(name: str) -> str:
    """The name of a table or column as SQLite compares it: `A` to `Z` in lower case, other characters unchanged."""
    return name.encode("utf-8", "surrogatepass").lower().decode("utf-8", "surrogatepass")
