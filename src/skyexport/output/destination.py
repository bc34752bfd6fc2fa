"""Where an export goes: a new directory, one file, or a stream. It is complete under its final name, or not there.

A directory or a file grows under a hidden name beside the final one. One rename gives it the final name, after all of
its content is on disk. If anything fails before that, it is removed. Only one run at a time writes into a place; this
run removes what killed runs left there under hidden names.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Protocol

from skyexport.errors import OptionError, OutputError
from skyexport.layout import (
    author_directory,
)
from skyexport.options.checks import PAGES
from skyexport.options.export_options import Resolved
from skyexport.output.directory import Directory
from skyexport.output.page_folder import PageFolder
from skyexport.output.places import (
    LOCK,
    ManifestMaker,
    check_writable,
)
from skyexport.output.single_file import File, Stream
from skyexport.output.writer import OutputFile, WrittenFile
from skyexport.runtime.disk import as_output_error, output_error
from skyexport.runtime.hidden_file import lock_beside
from skyexport.runtime.location import absolute, files_beside, real_path
from skyexport.runtime.lock import check_free
from skyexport.verification.chains import enclosing_export

__all__ = [
    "DataDestination",
    "Destination",
    "check_destination",
    "check_output_dir",
    "check_place",
    "destination_of",
]


_STANDARD_OUTPUT = frozenset({"-", "/dev/stdout"})


class Destination(Protocol):
    """The place for an export. Nothing is made before `open`; its caller must call `abort` after any exception."""

    @property
    def swept(self) -> list[Path]:
        """Leftovers of killed runs that `open` removed."""
        ...

    @property
    def kept(self) -> Path | None:
        """The complete export that has its final name and stays, once `commit` or `abort` ended; None without one."""
        ...

    def open(self) -> None:
        """Take the place, and open the first data file.

        Raises:
            OutputError: It cannot be written.
            AlreadyRunningError: Another export is writing there.
        """
        ...

    @property
    def media_directory(self) -> Path | None:
        """The directory for media files, not made yet; None if the destination has no place for them."""
        ...

    def commit(
        self, manifest: ManifestMaker, media_sums: Iterable[bytes] = (), media_table: Iterable[bytes] | None = None
    ) -> tuple[list[WrittenFile], Path | None]:
        """Make the export durable and give it its final name.

        Args:
            manifest: Makes the manifest, for destinations that have one.
            media_sums: Lines of SHA256SUMS for the media files, in pieces.
            media_table: The table of posts and their media files, in pieces; None if media were not asked for.

        Returns:
            The files, data files first, and the path of the first one; None for a stream.

        Raises:
            OutputError: It failed. After `abort`, `kept` says whether the export has its final name all the same.
        """
        ...

    def abort(self) -> None:
        """Remove everything that was written, whatever signals arrive. An export with its final name stays.

        More than once does no harm.
        """
        ...


class DataDestination(Destination, Protocol):
    """A place for data files."""

    file: OutputFile
    """The open data file."""

    def next_file(self) -> OutputFile:
        """Complete the open data file, and open the next.

        Raises:
            OutputError: One of the two files cannot be written, or there are too many.
        """
        ...


def destination_of(resolved: Resolved, did: str | None, now: datetime) -> Destination:
    """The destination of an export, not yet open.

    Args:
        resolved: The options of the export.
        did: DID of the author; None for all authors.
        now: The time that becomes the name of the export directory.

    Raises:
        OutputError: It cannot be written, or exists.
        OptionError: It is the archive.
    """
    _check_current_directory(resolved)
    to, options = resolved.to, resolved.options
    if resolved.format == PAGES:
        return PageFolder(resolved.output_dir, did, now, sync=options.sync)
    if to is None:
        return Directory(resolved.output_dir, did, resolved.data_file_name, now, sync=options.sync)
    _check_not_the_archive(to, resolved.archive)
    if str(to) in _STANDARD_OUTPUT:
        return Stream(None)
    if _is_device(to, overwrite=options.overwrite):
        return Stream(to)
    return File(to, overwrite=options.overwrite, sync=options.sync)


def check_destination(resolved: Resolved, did: str | None) -> tuple[Path | None, Path | None]:
    """Check that `Destination.open` would work now, without making anything.

    Returns:
        The author's directory or the file that the export would go to, and an existing directory on the same disk. For
        a device or a pipe the second is None; for standard output both are.

    Raises:
        OutputError, OptionError, AlreadyRunningError: As `destination_of` and `Destination.open` do.
    """
    _check_current_directory(resolved)
    to, overwrite = resolved.to, resolved.options.overwrite
    if to is None:
        place = author_directory(resolved.output_dir, did)
        there = check_output_dir(place)
        if there == place:
            with as_output_error(place):
                check_free(place / LOCK, f"into {place}")
        return place, there
    _check_not_the_archive(to, resolved.archive)
    if str(to) in _STANDARD_OUTPUT:
        return None, None
    if _is_device(to, overwrite=overwrite):
        return to, None
    final = to.resolve() if overwrite else to
    with as_output_error(to):
        check_writable(final.parent)
        check_free(lock_beside(final), f"to {to}")
    return to, final.parent


def check_output_dir(directory: Path) -> Path:
    """Check that *directory* can be written to, or can be made.

    Returns:
        *directory*, or the nearest existing directory above it.

    Raises:
        OutputError: It can neither be written to nor be made.
    """
    with as_output_error(directory):
        there = next(path for path in (directory, *directory.parents) if path.exists())
        check_writable(there)
    return there


def check_place(resolved: Resolved) -> None:
    """Check that the output does not go into an existing export, which would then no longer verify.

    Raises:
        OptionError: It would.
    """
    if resolved.to is not None and str(resolved.to) in _STANDARD_OUTPUT:
        return
    place = resolved.output_dir if resolved.to is None else resolved.to
    inside = None
    # A place or an earlier export that cannot be found is an error later, when it is opened.
    with contextlib.suppress(OSError):
        inside = enclosing_export(place)
    for directory in () if inside else resolved.since_export:
        # Exports of other programs may have no checksums.
        with contextlib.suppress(OSError):
            if real_path(place).is_relative_to(real_path(directory)):
                inside = directory
    if inside is not None:
        raise OptionError(f"{place} lies in the export {inside}", "choose another place")


def _is_device(to: Path, *, overwrite: bool) -> bool:
    """Whether *to* is a device or a pipe, to be written to directly; otherwise a file can be made there.

    Raises:
        OutputError: It is a directory, or exists and must not be replaced.
    """
    try:
        mode = to.stat().st_mode
    except FileNotFoundError:
        if to.is_symlink() and not overwrite:
            raise OutputError(f"{to} is a link to a file that does not exist", "name that file") from None
        return False
    except OSError as error:
        raise output_error(error, str(to)) from error
    if stat.S_ISDIR(mode):
        raise OutputError(f"{to} is a directory", "name the file with --to, or the place of exports with -o")
    if stat.S_ISREG(mode):
        if not overwrite:
            raise OutputError(f"{to} exists", "choose another name, or replace it with --overwrite")
        return False
    return True


def _check_current_directory(resolved: Resolved) -> None:
    """Check that a relative path leads somewhere: the current directory may have been deleted.

    Raises:
        OutputError: It was deleted.
    """
    place = resolved.to or resolved.output_dir
    if str(place) not in _STANDARD_OUTPUT:
        with as_output_error(place):
            absolute(place)


def _check_not_the_archive(to: Path, archive: Path) -> None:
    """Check that *to* is neither the archive, under any name, nor a file that SQLite would take for a part of it.

    Raises:
        OptionError: It is.
    """
    same = False
    with contextlib.suppress(OSError):
        location = real_path(archive)
        if str(to) in _STANDARD_OUTPUT:
            # A shell may have opened the archive, to append to it.
            same = os.path.samestat(os.fstat(1), location.stat())
        else:
            same = real_path(to) in (location, *files_beside(location)) or to.samefile(location)
    if same:
        raise OptionError(f"{to} is the archive itself, or would be taken for a part of it", "name another file")
