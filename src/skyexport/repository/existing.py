"""The place of an archive that an import makes: free, or taken by one that an earlier import made, which is locked."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Self

import apsw

from skyexport.errors import ArchiveBusyError, OutputError, RepositoryError
from skyexport.repository.databases import errors_of, has_our_tables
from skyexport.repository.tables import IMPORTED_ID
from skyexport.runtime.location import files_beside, has_content, real_path
from skyexport.runtime.sqlite_files import application_id, distrust, is_sqlite
from skyexport.wording import printable_path

__all__ = ["Existing", "check_target"]

_BUSY_MILLISECONDS = 2000
"""How long to wait for a program that is using the archive."""

_COPIED_PAGES = 2000
"""Pages that are copied between two looks for signals: 8 MB."""


def check_target(path: Path) -> Path:
    """The file that a path leads to, without links; it need not exist.

    Raises:
        OutputError: Nothing can be made there, or SQLite cannot open such a name.
    """
    shown = printable_path(path)
    try:
        final = real_path(path)
        str(final).encode()
        final.lstat()
    except FileNotFoundError:
        return final
    except UnicodeEncodeError:
        raise OutputError(f"the name {shown} is not UTF-8, and SQLite opens no other", "choose another name") from None
    except (OSError, ValueError, RuntimeError) as error:
        raise OutputError(f"cannot write {shown}: {getattr(error, 'strerror', error)}", "choose another name") from None
    if not final.is_file():
        raise OutputError(f"{shown} exists, and is not a file", "choose another name")
    return final


class Existing:
    """The archive at a place, locked against every program that would write to it; or none. Use it in a `with` block.

    Args:
        path: As `check_target` returns it.

    Raises:
        OutputError: There is a file that no import made, or the log of another database.
        ArchiveBusyError: A program is using the archive.
        RepositoryError: Its tables are not those that an import makes.
    """

    def __init__(self, path: Path) -> None:
        self.connection: apsw.Connection | None = None
        self._path = path
        shown = printable_path(path)
        if not path.exists():
            self.check_nothing_beside()
            return
        if not is_sqlite(path):
            raise OutputError(f"{shown} exists, and is not an archive", "choose another name")
        if application_id(path) != IMPORTED_ID:
            raise OutputError(
                f"{shown} was not made by skyexport import, which never changes other archives", "choose another name"
            )
        with errors_of(path):
            connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            with errors_of(path):
                connection.set_busy_timeout(_BUSY_MILLISECONDS)
                distrust(connection)
                if not has_our_tables(connection):
                    raise RepositoryError(
                        f"the tables of {shown} are not those that skyexport import makes", "import into a new archive"
                    )
                # A log would stay beside the new archive. SQLite takes it in only if no other program has it open.
                if connection.pragma("journal_mode", "delete") != "delete":
                    raise ArchiveBusyError(f"{shown} is used by another program", "try again once that has ended")
                connection.execute("begin immediate")
            self.check_nothing_beside()
        except BaseException:
            connection.close()
            raise
        self.connection = connection

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def check_nothing_beside(self) -> None:
        """Make sure that no log or journal lies at the place: SQLite would take it for that of the new archive.

        Raises:
            OutputError: One does.
        """
        beside = files_beside(self._path)
        for path in (beside.log, beside.journal):
            if has_content(path):
                what = f"{printable_path(path)} is left of another database"
                raise OutputError(what, "move it away, or choose another name")

    def copy_to(self, connection: apsw.Connection, check: Callable[[], None]) -> None:
        """Copy all of it into a new database; nothing if there is none.

        Args:
            connection: Open on the new database.
            check: Called for every 8 MB; an exception that it raises ends the copying.
        """
        if self.connection is None:
            return
        # SQLite copies from no connection that has begun to write, and this one has, so that nobody else can.
        flags = apsw.SQLITE_OPEN_READONLY
        with (
            errors_of(self._path),
            contextlib.closing(apsw.Connection(str(self._path), flags=flags)) as reading,
            connection.backup("main", reading, "main") as copying,
        ):
            while not copying.done:
                copying.step(_COPIED_PAGES)
                check()

    def let_go(self) -> None:
        """Prepare for being replaced: Windows does not replace an open file."""
        self.check_nothing_beside()
        if os.name == "nt":
            self.close()

    def close(self) -> None:
        """Unlock it. Calling this again does no harm."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None
