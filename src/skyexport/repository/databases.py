"""The databases of an import: whether their tables are ours, and errors of SQLite about them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import apsw

from skyexport.errors import ArchiveBusyError, OutputError, RepositoryError
from skyexport.repository.tables import CREATED_AT_INDEX, EXPORTS_TABLE, FULL_TEXT, INDEXES, TABLES
from skyexport.wording import printable_path

__all__ = ["errors_of", "has_our_tables"]


def has_our_tables(connection: apsw.Connection) -> bool:
    """Whether a database has the tables, indexes and triggers that an import makes, and no others."""
    with contextlib.closing(apsw.Connection(":memory:")) as expected:
        expected.execute(TABLES + EXPORTS_TABLE + INDEXES + CREATED_AT_INDEX + FULL_TEXT)
        return _statements(connection) == _statements(expected)


def _statements(connection: apsw.Connection) -> set[str]:
    """The statements that made them, without differences of spelling."""
    found = connection.execute(
        "select sql from sqlite_schema where sql is not null and name not like 'sqlite\\_stat%' escape '\\'"
    )
    return {re.sub(r"\s+", " ", str(sql)).lower() for (sql,) in found}


@contextlib.contextmanager
def errors_of(path: Path) -> Iterator[None]:
    """Turn errors of SQLite about the database at *path* into ours."""
    shown = printable_path(path)
    try:
        yield
    except apsw.BusyError:
        raise ArchiveBusyError(f"{shown} is used by another program", "try again once that has ended") from None
    except apsw.NoMemError:
        raise MemoryError("SQLite got no memory from the system") from None
    except (apsw.FullError, apsw.IOError, apsw.CantOpenError, apsw.ReadOnlyError) as error:
        raise OutputError(f"cannot write {shown}: {error}", "make room there, or choose another place") from None
    except (apsw.Error, UnicodeDecodeError) as error:
        raise RepositoryError(f"{shown} is damaged: {error}", "import into a new archive") from None
