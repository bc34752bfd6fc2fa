"""Where an export goes: a new directory, one file, or a stream. It is complete under its final name, or not there.

A directory or a file grows under a hidden name beside the final one. One rename gives it the final name, after all of
its content is on disk. If anything fails before that, it is removed. Only one run at a time writes into a place; this
run removes what killed runs left there under hidden names.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Protocol

from skyexport.errors import AlreadyRunningError, OptionError, OutputError
from skyexport.layout import (
    EXPORT_NAME,
    LONGEST_NAME_BYTES,
    MEDIA_DIRECTORY,
    MEDIA_TABLE,
    author_directory,
    directory_name,
)
from skyexport.options.export_options import Resolved
from skyexport.output.writer import OutputFile, WrittenFile
from skyexport.runtime.cleanup import uninterrupted
from skyexport.runtime.disk import output_error
from skyexport.runtime.location import absolute, files_beside, real_path
from skyexport.runtime.lock import Lock, check_free, remove_leftovers
from skyexport.runtime.sync import sync_directory
from skyexport.verification.chains import enclosing_export

__all__ = [
    "MAX_DATA_FILES",
    "Destination",
    "check_destination",
    "check_output_dir",
    "check_place",
    "destination_of",
    "place_lock",
    "remove_partial",
    "retire",
]

_MANIFEST = "manifest.json"
_SUMS = "SHA256SUMS"

_LOCK = ".skyexport.runtime.lock"
"""Name of the lock file in an author's directory, held while an export into it runs."""

_LEFTOVER = re.compile(rf"\.{EXPORT_NAME.pattern}-[0-9a-f]{{8}}\.(?:partial|removed)", re.ASCII)
"""Names of export directories while they grow, and while they are removed."""

MAX_DATA_FILES = 10_000
"""The most that a manifest can list and still be read at once."""

_ATTEMPTS = 100
"""Attempts to make an author's directory, which a failing run may remove; and attempts to remove an export."""

_REMOVE_SECONDS = 0.01
"""Between attempts to remove an export."""

_STANDARD_OUTPUT = frozenset({"-", "/dev/stdout"})

ManifestMaker = Callable[[list[WrittenFile]], bytes]
"""Makes the manifest of these files: the data files, and the table of media if there is one."""


class Destination(Protocol):
    """The place for data files. Nothing is made before `open`; its caller must call `abort` after any exception."""

    file: OutputFile
    """The open data file."""

    swept: list[Path]
    """Leftovers of killed runs that `open` removed."""

    kept: Path | None
    """The complete export that has its final name and stays, once `commit` or `abort` ended; None without one."""

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

    def next_file(self) -> OutputFile:
        """Complete the open data file, and open the next.

        Raises:
            OutputError: One of the two files cannot be written, or there are too many.
        """
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
    if to is None:
        return _Directory(resolved.output_dir, did, resolved.data_file_name, now, sync=options.sync)
    _check_not_the_archive(to, resolved.archive)
    if str(to) in _STANDARD_OUTPUT:
        return _Stream(None)
    if _is_device(to, overwrite=options.overwrite):
        return _Stream(to)
    return _File(to, overwrite=options.overwrite, sync=options.sync)


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
            with _as_output_error(place):
                check_free(place / _LOCK, f"into {place}")
        return place, there
    _check_not_the_archive(to, resolved.archive)
    if str(to) in _STANDARD_OUTPUT:
        return None, None
    if _is_device(to, overwrite=overwrite):
        return to, None
    final = to.resolve() if overwrite else to
    with _as_output_error(to):
        _check_writable(final.parent)
        check_free(final.with_name(f"{_hidden_stem(final.name)}.lock"), f"to {to}")
    return to, final.parent


def check_output_dir(directory: Path) -> Path:
    """Check that *directory* can be written to, or can be made.

    Returns:
        *directory*, or the nearest existing directory above it.

    Raises:
        OutputError: It can neither be written to nor be made.
    """
    with _as_output_error(directory):
        there = next(path for path in (directory, *directory.parents) if path.exists())
        _check_writable(there)
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


def _check_writable(directory: Path) -> None:
    """Check that files can be made in *directory*.

    Raises:
        OSError: They cannot.
    """
    if not directory.is_dir():
        number = errno.ENOTDIR if directory.exists() else errno.ENOENT
        raise OSError(number, os.strerror(number), str(directory))
    if not os.access(directory, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(directory))


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
        with _as_output_error(place):
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


def remove_partial(output_dir: Path) -> None:
    """Remove a dead process's leftovers from an archive's export directory, unless another run works there.

    Args:
        output_dir: Has a directory for each author. All are searched, since the author's DID may be unknown.
    """
    with contextlib.suppress(OSError):
        for parent in list(output_dir.iterdir()):
            with contextlib.suppress(OSError, AlreadyRunningError):
                if (parent / _LOCK).exists():
                    with place_lock(parent) as lock:
                        remove_leftovers(lock, parent, _LEFTOVER)
                # This fails if there is an export.
                parent.rmdir()
        output_dir.rmdir()


def place_lock(place: Path) -> Lock:
    """The lock on an author's directory, which an export into it takes."""
    return Lock(place / _LOCK, f"into {place}")


def retire(directory: Path, lock: Lock, *, sync: bool) -> None:
    """Remove an export directory from a place that this run holds. The next run removes what cannot be removed now.

    Args:
        directory: The export.
        lock: The lock on its place.
        sync: Wait until its hidden name is on disk: a crash must not bring back the old name with half of the files.

    Raises:
        OSError: It cannot be renamed; it stays unchanged.
    """
    hidden = directory.with_name(f".{directory.name}-{secrets.token_hex(4)}.removed")
    directory.rename(hidden)
    if sync:
        sync_directory(directory.parent)
    remove_leftovers(lock, directory.parent, re.compile(re.escape(hidden.name)))


class _Directory:
    """`<author or all>/<time>/` with the data files, the manifest, and the checksums of all files."""

    _settled = True
    """Whether nothing is left to undo."""

    def __init__(
        self, output_dir: Path, did: str | None, name: Callable[[int], str], now: datetime, *, sync: bool
    ) -> None:
        self._sync = sync
        self._stamp = now.strftime("%Y-%m-%d_%H-%M-%S")
        self._name = name
        """Makes the name of a data file from its number."""
        self._complete: list[WrittenFile] = []
        """The data files before the open one."""
        self._final: Path | None = None
        self._partial_name = f".{self._stamp}-{secrets.token_hex(4)}.partial"
        self._portable_name = directory_name(did, portable=True)
        self._new_parents: list[Path] = []
        """Directories that did not exist before."""
        self.kept: Path | None = None
        self._go_to(author_directory(output_dir, did))

    def _go_to(self, parent: Path) -> None:
        """Use *parent* as the author's directory."""
        self._parent = parent
        self._lock = Lock(parent / _LOCK, f"into {parent}")
        self._partial = parent / self._partial_name
        self.media_directory = self._partial / MEDIA_DIRECTORY

    def __del__(self) -> None:
        # A signal may have kept the owner from calling `abort`.
        if not self._settled:
            self.abort()

    def open(self) -> None:
        self._settled = False
        with _as_output_error(self._parent):
            try:
                self._take_parent()
            except OSError as error:
                if error.errno != errno.EINVAL or self._parent.name == self._portable_name:
                    raise
                # The disk allows no colon in names, like a memory stick with FAT.
                self._go_to(self._parent.with_name(self._portable_name))
                self._take_parent()
            self.swept = remove_leftovers(self._lock, self._parent, _LEFTOVER)
            self._partial.mkdir(mode=0o700)
        self.file = _create(self._partial / self._name(1), sync=self._sync)

    def _take_parent(self) -> None:
        """Make the author's directory, and lock it."""
        for _ in range(_ATTEMPTS):
            missing = [path for path in (self._parent, *self._parent.parents) if not path.exists()]
            self._new_parents += [path for path in missing if path not in self._new_parents]
            # Another run may have made some of them too. When that run fails, it removes those that are empty.
            with contextlib.suppress(FileNotFoundError):
                for path in reversed(missing):
                    path.mkdir(mode=0o700, exist_ok=True)
                self._lock.take()
                return
        raise OutputError(f"{self._parent} keeps disappearing", "choose another place with -o")

    def commit(
        self, manifest: ManifestMaker, media_sums: Iterable[bytes] = (), media_table: Iterable[bytes] | None = None
    ) -> tuple[list[WrittenFile], Path | None]:
        self._finish_file()
        files = self._complete
        if media_table is not None:
            files.append(self._written(MEDIA_TABLE, media_table))
        files.append(self._written(_MANIFEST, [manifest(list(files))]))
        sums = (file.sum_line().encode() for file in list(files))
        files.append(self._written(_SUMS, chain(sums, media_sums)))
        with _as_output_error(self._partial):
            if self._sync and self.media_directory.exists():
                sync_directory(self.media_directory)
            if self._sync:
                sync_directory(self._partial)
            final = self._rename()
        with _as_output_error(final):
            for path in (final, *self._new_parents) if self._sync else ():
                sync_directory(path.parent)
        self._lock.release()
        self.kept = final
        self._settled = True
        return files, final / self._name(1)

    def next_file(self) -> OutputFile:
        self._finish_file()
        number = len(self._complete) + 1
        if number > MAX_DATA_FILES:
            raise OutputError(f"more than {MAX_DATA_FILES:,} data files", "split less often")
        self.file = _create(self._partial / self._name(number), sync=self._sync)
        return self.file

    def _finish_file(self) -> None:
        self.file.sync()
        self.file.close()
        self._complete.append(self.file.written(self._name(len(self._complete) + 1)))

    def _written(self, name: str, content: Iterable[bytes]) -> WrittenFile:
        """Write a file beside the data files, and wait until it is on disk."""
        file = _create(self._partial / name, sync=self._sync)
        try:
            for piece in content:
                file.write(piece)
            file.sync()
        finally:
            file.close()
        return file.written(name)

    def _rename(self) -> Path:
        """Take the first free name; a directory with content is never replaced."""
        attempt = 1
        while True:
            final = self._parent / (self._stamp if attempt == 1 else f"{self._stamp}-{attempt}")
            attempt += 1
            if os.path.lexists(final):
                continue
            self._final = final
            try:
                return self._partial.rename(final)
            except OSError:
                if not os.path.lexists(final):
                    raise

    def abort(self) -> None:
        uninterrupted(self._abort)

    def _abort(self) -> None:
        if self._settled:
            return
        _close(self)
        # Nobody else knows the partial name: if it is gone after an attempt to rename it, the attempt succeeded.
        self.kept = self._final if not self._partial.exists() else None
        for _ in range(_ATTEMPTS):
            shutil.rmtree(self._partial, ignore_errors=True)
            if not self._partial.exists():
                break
            # A thread that copies media may just be ending there.
            time.sleep(_REMOVE_SECONDS)
        self._lock.release()
        for path in sorted(self._new_parents, key=lambda path: len(path.parts), reverse=True):
            # This fails if another export has been made there meanwhile.
            with contextlib.suppress(OSError):
                path.rmdir()
        self._settled = True


class _File:
    """A single data file."""

    media_directory: Path | None = None

    _settled = True
    """Whether nothing is left to undo."""

    def __init__(self, path: Path, *, overwrite: bool, sync: bool) -> None:
        self._path = path
        self._sync = sync
        self._overwrite = overwrite
        self._naming = False
        # The target of a link is replaced, not the link.
        self._final = path.resolve() if overwrite else path
        self._stem = _hidden_stem(self._final.name)
        self._partial = self._final.with_name(f"{self._stem}-{secrets.token_hex(4)}.partial")
        self._lock = Lock(self._final.with_name(f"{self._stem}.lock"), f"to {path}")
        self.kept: Path | None = None

    def __del__(self) -> None:
        # A signal may have kept the owner from calling `abort`.
        if not self._settled:
            self.abort()

    def open(self) -> None:
        self._settled = False
        with _as_output_error(self._path):
            self._lock.take()
        leftover = re.compile(re.escape(self._stem) + r"-[0-9a-f]{8}\.partial")
        self.swept = remove_leftovers(self._lock, self._final.parent, leftover)
        self.file = _create(self._partial, called=self._path, sync=self._sync)

    def next_file(self) -> OutputFile:
        raise AssertionError("there is one file only")

    def commit(
        self, manifest: ManifestMaker, media_sums: Iterable[bytes] = (), media_table: Iterable[bytes] | None = None
    ) -> tuple[list[WrittenFile], Path | None]:
        del manifest, media_sums, media_table
        self.file.sync()
        self.file.close()
        self._naming = True
        with _as_output_error(self._path):
            if self._overwrite:
                self._partial.replace(self._final)
            else:
                self._rename_to_free_name()
            if self._sync:
                sync_directory(self._final.parent)
        self._lock.release()
        self.kept = self._path
        self._settled = True
        return [self.file.written(self._path.name)], self._path

    def _rename_to_free_name(self) -> None:
        try:
            self._path.hardlink_to(self._partial)
        except FileExistsError:
            raise OutputError(f"another program has made {self._path} meanwhile", "choose another name") from None
        except OSError:
            # The file system has no hard links. Windows refuses to replace a file here; elsewhere the check must do.
            if os.path.lexists(self._path):
                raise
            self._partial.rename(self._path)
        else:
            self._partial.unlink()

    def abort(self) -> None:
        uninterrupted(self._abort)

    def _abort(self) -> None:
        if self._settled:
            return
        _close(self)
        with contextlib.suppress(OSError):
            if self._naming and (not self._partial.exists() or self._final.samefile(self._partial)):
                self.kept = self._path
        with contextlib.suppress(OSError):
            self._partial.unlink()
        self._lock.release()
        self._settled = True


class _Stream:
    """A pipe, a device, or standard output, written directly.

    Args:
        path: Path of the device or pipe; None for standard output.
    """

    media_directory: Path | None = None

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._name = "standard output" if path is None else str(path)
        self.swept: list[Path] = []
        self.kept: Path | None = None

    def open(self) -> None:
        with _as_output_error(self._path or Path(self._name)):
            descriptor = os.dup(1) if self._path is None else os.open(self._path, os.O_WRONLY)
        self.file = OutputFile(descriptor, self._name)

    def next_file(self) -> OutputFile:
        raise AssertionError("there is one file only")

    def commit(
        self, manifest: ManifestMaker, media_sums: Iterable[bytes] = (), media_table: Iterable[bytes] | None = None
    ) -> tuple[list[WrittenFile], Path | None]:
        del manifest, media_sums, media_table
        self.file.close()
        return [self.file.written(self._name)], None

    def abort(self) -> None:
        _close(self)


def _close(destination: Destination) -> None:
    """Close the file of a destination, if it was opened."""
    file = getattr(destination, "file", None)
    if file is not None:
        with contextlib.suppress(OutputError):
            file.close()


def _hidden_stem(name: str) -> str:
    """The beginning of the names of hidden files beside *name*: different for each file, and never too long."""
    if len(os.fsencode(name)) <= LONGEST_NAME_BYTES:
        return f".{name}"
    return f".{name[:20]}-{hashlib.sha256(os.fsencode(name)).hexdigest()}"


def _create(path: Path, *, sync: bool, called: Path | None = None) -> OutputFile:
    with _as_output_error(called or path):
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
        return OutputFile(os.open(path, flags, 0o600), str(called or path), path.parent, durable=sync)


@contextlib.contextmanager
def _as_output_error(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise output_error(error, str(path), path.parent) from error
