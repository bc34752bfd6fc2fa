"""Adding a finished export to the archive's list of exports: the only thing that is ever written to an archive.

bskyarchive has a table of its exports, which its web page shows. A new row is exactly as bskyarchive writes and accepts
it (docs/formats.md, "Registered exports"). A separate connection writes one row in one short transaction, once the
export is complete and everything that read the archive is closed. Anything that could prevent this is checked before
the export begins.

Source: https://github.com/shindakun/bskyarchive, internal/models/export.go, internal/exporter/exporter.go.
"""

from __future__ import annotations

import contextlib
import os
from datetime import datetime
from pathlib import Path, PurePosixPath

import apsw

from skyexport.archive.archive import Archive
from skyexport.archive.authorizer import Authorizer, folded, restrict
from skyexport.archive.source import as_number, wait_for_writers
from skyexport.errors import ArchiveBusyError, ArchiveChangedError, ArchiveError, OptionError, OutputError
from skyexport.notices import MISSED_LOG_HINT, MISSED_LOG_TEXT
from skyexport.options.export_options import Resolved
from skyexport.runtime.disk import output_error
from skyexport.runtime.for_tests import Limit, reached
from skyexport.runtime.location import absolute, real_path

__all__ = ["Registry"]

_TABLE = "exports"
_COLUMNS = (
    *("id", "did", "format", "created_at", "directory_path", "post_count", "media_count", "size_bytes"),
    *("date_range_start", "date_range_end", "manifest_path"),
)
_DIRECTORY = "exports"
"""bskyarchive accepts exports only in a directory of this name inside the one where it runs."""

_BUSY_MILLISECONDS = Limit("REGISTER_BUSY_MILLISECONDS", 5000)
"""How long to wait for a program that is writing: the export is done, and nobody waits for us."""

_SCHEMA = "sqlite_master"
"""SQLite's name for the schema table when it asks whether it may be read."""

_WITHOUT = "leave out --register"
_SECOND_NANOSECONDS = 1_000_000_000


class Registry:
    """The archive's list of exports.

    Args:
        archive: The open archive.
        resolved: The options of the export that will be added.
        did: The export's author.

    Raises:
        ArchiveError: The archive has no list as bskyarchive creates it, or cannot be written to.
        OptionError: bskyarchive would not accept the export at its place.
        OutputError: The export's place cannot be written to.
    """

    def __init__(self, archive: Archive, resolved: Resolved, did: str) -> None:
        self._source = archive.source
        self._resolved = resolved
        self._did = did
        self._path = archive.display_path
        try:
            # bskyarchive uses the directory's name, which may be a link; the archive may be a link in it, too.
            place = absolute(resolved.output_dir)
            home, places = real_path(place.parent), (archive.path, real_path(resolved.archive.parent))
        except OSError as error:
            raise output_error(error, str(resolved.output_dir)) from None
        if place.name != _DIRECTORY or not any(path.is_relative_to(home) for path in places):
            raise OptionError(
                f"bskyarchive would not accept exports in {resolved.output_dir}: it looks only in {_DIRECTORY},"
                " in the directory where it runs",
                f"run skyexport there, with the archive below it, and use -o {_DIRECTORY}; or {_WITHOUT}",
            )
        if ".." in did:
            raise OptionError(f"bskyarchive accepts no export of {did}: it has two dots in a row", _WITHOUT)
        if archive.source.from_car:
            raise OptionError(f"{self._path} is a CAR file, which has no list of exports", _WITHOUT)
        if archive.source.private:
            raise ArchiveError(
                f"cannot write to {self._path}: a program was stopped while writing to it",
                f"start and stop bskyarchive once, or {_WITHOUT}",
            )
        if archive.source.missed_log:
            raise ArchiveError(
                f"{self._path} {MISSED_LOG_TEXT}: writing to it could damage it", f"{MISSED_LOG_HINT}, or {_WITHOUT}"
            )
        if not (os.access(archive.path, os.W_OK) and os.access(archive.path.parent, os.W_OK)):
            raise ArchiveError(f"cannot write to {self._path}, so nothing can be registered there", _WITHOUT)
        with archive.translating_errors(), archive.second_connection() as connection:
            self._check_shape(connection)

    def _check_shape(self, connection: apsw.Connection) -> None:
        tables = {folded(row[1]): row for row in connection.execute("pragma table_list") if row[0] == "main"}
        if _TABLE not in tables:
            raise ArchiveError(
                f"{self._path} has no list of exports (no table {_TABLE})",
                f"open it with a recent bskyarchive, which creates one; or {_WITHOUT}",
            )
        plain = tables[_TABLE][2] == "table"
        # For anything but a plain table, listing the columns might run code that the archive brings along.
        columns = list(connection.execute(f"pragma table_xinfo({_TABLE})")) if plain else []
        names = {folded(row[1]) for row in columns if not row[6]}
        key = [folded(row[1]) for row in columns if row[5]]
        with Authorizer.of(connection).reading_for_a_while(_SCHEMA):
            triggers = as_number(
                connection.execute(
                    "select count(*) from sqlite_schema where type = 'trigger' and tbl_name = ? collate nocase",
                    (_TABLE,),
                ).get
            )
        if names != set(_COLUMNS) or len(columns) != len(_COLUMNS) or key != ["id"] or triggers:
            raise ArchiveError(
                f"the table {_TABLE} of {self._path} is not as bskyarchive creates it"
                + (": it has a trigger" if triggers else ""),
                _WITHOUT,
            )

    def add(self, directory: Path, now: datetime, posts: int, media_files: int, size_bytes: int) -> str:
        """Add a complete export.

        Args:
            directory: The export directory.
            now: When the export was made.
            posts: Number of its posts.
            media_files: Number of its media files.
            size_bytes: Size of all its files.

        Returns:
            Its id in the list.

        Raises:
            ArchiveBusyError, ArchiveError, OutputError: It could not be added; the export is complete all the same.
        """
        resolved = self._resolved
        name = f"{self._did}/{directory.name}"
        place = PurePosixPath(_DIRECTORY, directory.parent.name, directory.name)
        values = (
            name, self._did, resolved.format, int(now.timestamp()), f"./{place}", posts, media_files, size_bytes,
            _seconds(resolved.since), _seconds(resolved.until), str(place / "manifest.json"),
        )  # fmt: skip
        try:
            reached("registering")
            self._source.check_same_file()
            self._insert(values)
        except apsw.BusyError:
            raise ArchiveBusyError(
                f"{directory} is complete, but could not be registered: {self._path} is locked by another program",
                "do not export again: nothing is missing",
            ) from None
        except apsw.ConstraintError:
            raise ArchiveError(
                f"{directory} is complete, but could not be registered: {self._path} already lists an export {name}",
                "do not export again: nothing is missing",
            ) from None
        except (apsw.FullError, apsw.IOError, apsw.ReadOnlyError, apsw.CantOpenError) as error:
            raise OutputError(
                f"{directory} is complete, but could not be registered: cannot write to {self._path}: {error}",
                "do not export again: nothing is missing",
            ) from None
        except (apsw.Error, ArchiveError, ArchiveChangedError) as error:
            raise ArchiveError(
                f"{directory} is complete, but could not be registered: {getattr(error, 'message', error)}",
                "do not export again: nothing is missing",
            ) from None
        return name

    def _insert(self, values: tuple[apsw.SQLiteValue, ...]) -> None:
        flags = apsw.SQLITE_OPEN_READWRITE
        with contextlib.closing(apsw.Connection(self._source.path, flags=flags)) as connection:
            wait_for_writers(connection, _BUSY_MILLISECONDS)
            restrict(connection, also_insert=(_TABLE,))
            Authorizer.of(connection).allow_reading({_TABLE})
            places = ", ".join("?" * len(_COLUMNS))
            connection.execute("begin immediate")
            # Closing rolls back an open transaction.
            self._check_shape(connection)
            connection.execute(f"insert into {_TABLE} ({', '.join(_COLUMNS)}) values ({places})", values)
            connection.execute("commit")


def _seconds(instant: int | None) -> int | None:
    return None if instant is None else instant // _SECOND_NANOSECONDS
