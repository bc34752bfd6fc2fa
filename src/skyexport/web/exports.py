"""The exports in the export folder, by number, and their files, read as the work of a stranger.

A number belongs to a path for as long as the server runs. What a manifest says is kept while the file is the same.
Files are opened by names that the export lists, one directory after the other, and never through links.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from skyexport.errors import ArchiveChangedError, NoExportError
from skyexport.layout import CLAIMS, EXPORT_NAME, MAX_CLAIMS_BYTES, MEDIA_DIRECTORY, MEDIA_TABLE, is_page_path
from skyexport.output.places import LOCK
from skyexport.output.retention import remove_export
from skyexport.runtime.export_directory import ExportDirectory, is_plain_name
from skyexport.runtime.lock import noted_holder
from skyexport.verification.chains import FoundExport
from skyexport.verification.claims import PAGES_FORMAT, media_sum, page_sum, read_manifest

__all__ = ["Export", "Exports", "ServedFile", "check_zip", "zip_chunks"]

_MANIFEST, _SUMS = CLAIMS

_MOST_EXPORTS = 10_000

_MOST_EARLIER = 10_000
"""Exports that an increment may build on."""

READ_BYTES = 1 << 15
"""Read at once: two hundred slow readers hold so much each, and what lies in their connections."""

_LONGEST_LINE_BYTES = 2000
_DATE_OF_ZIP = (1980, 1, 1, 0, 0, 0)
"""The first that a zip file can hold; only for exports whose manifest has no such time."""
_YEARS_OF_ZIP = range(1980, 2108)


@dataclass(frozen=True)
class ServedFile:
    """An open file, and what a browser needs to know about it."""

    descriptor: int
    bytes: int
    name: str


@dataclass(frozen=True)
class Export:
    """An export directory, as its manifest describes it; nothing is verified."""

    number: int
    directory: Path
    place: str
    """Path below the export folder, with `/`."""
    found: FoundExport | None
    """None if its manifest cannot be read, or is not one of skyexport's."""
    format: str
    """Empty if the manifest cannot be read."""
    posts: int | None
    files: tuple[tuple[str, int | None], ...]
    """Name and bytes of each data file and table; bytes are None if the manifest does not say."""
    bytes: int
    """Of data files or pages."""
    media_files: int
    made: datetime | None
    archive: str
    """Path of the archive; empty if unknown."""
    asked: tuple[str, ...]
    """The options that narrow it, in words."""

    @property
    def has_pages(self) -> bool:
        """Whether it can be opened in a browser."""
        return self.format == PAGES_FORMAT

    @property
    def single_file(self) -> bool:
        """Whether its posts are in one file, and nothing belongs to them."""
        return not self.has_pages and len(self.files) == 1 and not self.media_files


class Exports:
    """All exports in a folder. Threads may share it.

    Args:
        output_dir: The folder; it need not exist.
    """

    def __init__(self, output_dir: Path) -> None:
        self._output_dir = output_dir
        self._numbers: dict[Path, int] = {}
        self._read: dict[Path, tuple[object, Export]] = {}
        self._lock = threading.RLock()

    def all(self) -> list[Export]:
        """The exports that are there now, newest first."""
        with self._lock:
            return self._all()

    def _all(self) -> list[Export]:
        exports = [self._export(path) for path in self._directories()]
        there = {export.directory for export in exports}
        for path in self._read.keys() - there:
            del self._read[path]
        return sorted(exports, key=lambda export: (_instant(export.made), export.directory.name), reverse=True)

    def find(self, number: int) -> Export | None:
        """The export with this number, if it is still there."""
        with self._lock:
            if number not in self._numbers.values():
                self.all()
            path = next((path for path, known in self._numbers.items() if known == number), None)
            if path is None or path.is_symlink() or not path.is_dir():
                return None
            return self._export(path)

    def number_of(self, directory: Path) -> int | None:
        """The number of a directory, if it is an export in the folder."""
        with self._lock:
            return self._numbers.get(directory) or next(
                (export.number for export in self.all() if export.directory == directory), None
            )

    def _directories(self) -> Iterator[Path]:
        """Directories with the name of an export, at DIR/AUTHOR/TIME and DIR/ARCHIVE/AUTHOR/TIME."""
        count = 0
        for pattern in ("*/*", "*/*/*"):
            for path in self._output_dir.glob(pattern):
                if EXPORT_NAME.fullmatch(path.name) and not path.is_symlink() and path.is_dir():
                    count += 1
                    if count > _MOST_EXPORTS:
                        return
                    yield path

    def working(self) -> list[str]:
        """The processes that are exporting into the folder now, in words."""
        found = []
        for pattern in (f"*/{LOCK}", f"*/*/{LOCK}"):
            for lock in self._output_dir.glob(pattern):
                place = lock.parent.relative_to(self._output_dir).as_posix()
                found += [f"{holder} is exporting into {place}" for holder in [noted_holder(lock)] if holder]
        return found

    def _export(self, directory: Path) -> Export:
        number = self._numbers.setdefault(directory, len(self._numbers) + 1)
        state: object = None
        with contextlib.suppress(OSError):
            status = (directory / _MANIFEST).stat()
            state = (status.st_ino, status.st_size, status.st_mtime_ns)
        known = self._read.get(directory)
        if known is not None and known[0] == state:
            return known[1]
        export = _read_export(number, directory, directory.relative_to(self._output_dir).as_posix())
        self._read[directory] = state, export
        return export

    def remove(self, export: Export) -> None:
        """Remove a complete export.

        Raises:
            NoExportError: It is not one of skyexport's.
            AlreadyRunningError, OutputError: See `retention.remove_export`.
        """
        if export.found is None:
            raise NoExportError(f"{export.place} was not made by skyexport", "remove it by hand")
        remove_export(export.found)

    def building_on(self, export: Export) -> int:
        """How many increments need this export."""
        if export.found is None:
            return 0
        digest = export.found.manifest_sha256
        return sum(other.found is not None and digest in other.found.earlier for other in self.all())

    def open_data(self, export: Export, index: int) -> ServedFile:
        """Open one of the export's files by its place in `files`.

        Raises:
            NoExportError: It is not there.
        """
        names = [name for name, _ in export.files] + [_MANIFEST, _SUMS]
        if not 0 <= index < len(names):
            raise NoExportError("there is no such file", "load the page again")
        return _opened(export.directory, names[index])

    def open_page(self, export: Export, path: str) -> ServedFile:
        """Open a file of an HTML export, by the address that its pages use.

        Raises:
            NoExportError: It is not there, or is not a file of pages.
        """
        folder, _, name = path.partition("/")
        is_media = folder == MEDIA_DIRECTORY and is_plain_name(name)
        if not export.has_pages or not (is_page_path(path) or is_media):
            raise NoExportError("there is no such page", "load the page again")
        return _opened(export.directory, path)


def _instant(made: datetime | None) -> float:
    return 0.0 if made is None else made.timestamp()


def _read_export(number: int, directory: Path, place: str) -> Export:
    content = b""
    values: Any = {}
    with contextlib.suppress(OSError, ValueError, NoExportError), ExportDirectory(directory) as opened:
        content = opened.read(_MANIFEST, MAX_CLAIMS_BYTES)
        values = orjson.loads(content)
    found = FoundExport.of(directory, content)
    if not isinstance(values, dict):
        values = {}
    manifest = read_manifest(content)
    sizes = {checksum.name: checksum.bytes for checksum in manifest.checksums or ()}
    names = [*manifest.data_files, *([MEDIA_TABLE] if MEDIA_TABLE in sizes else ())]
    size = manifest.pages.bytes if manifest.pages else sum(sizes.get(name, 0) for name in manifest.data_files)
    source = found.source if found is not None else {}
    path = source.get("path")
    if found is not None:
        # Those of a stranger may be large.
        found = replace(found, source={}, options={}, earlier=found.earlier[:_MOST_EARLIER])
    return Export(
        number=number, directory=directory, place=place, found=found, format=manifest.format or "",
        posts=manifest.posts, files=tuple((name, sizes.get(name)) for name in names), bytes=size,
        media_files=manifest.media_files, made=found.made if found is not None else None,
        archive=path if isinstance(path, str) else "", asked=tuple(_asked(values)),
    )  # fmt: skip


def _asked(values: dict[str, Any]) -> Iterator[str]:
    """The options that narrow an export, in words, as its manifest has them."""
    author = values.get("author_handle") or values.get("author")
    if isinstance(author, str):
        yield f"by {author[:100]}"
    dates = values.get("date_range")
    if isinstance(dates, dict):
        for key, word in (("start_date", "from"), ("end_date", "to")):
            if isinstance(dates.get(key), str):
                yield f"{word} {dates[key][:10]}"
    if isinstance(values.get("match"), str):
        yield f"matching {values['match'][:100]}"
    if isinstance(values.get("limit"), int):
        yield f"the newest {values['limit']:,}"
    if values.get("since_export"):
        yield "new since an earlier export"


def _opened(directory: Path, path: str) -> ServedFile:
    """Open a file by its path in an export.

    Raises:
        NoExportError: It is not there, or not a plain file.
    """
    *folders, name = path.split("/")
    try:
        with contextlib.ExitStack() as opened:
            place = opened.enter_context(ExportDirectory(directory))
            for folder in folders:
                place = opened.enter_context(place.subdirectory(folder))
            descriptor = place.open(name)
    except OSError as error:
        raise NoExportError(f"cannot read {path}: {error.strerror or error}", "verify the export") from None
    return ServedFile(descriptor, os.fstat(descriptor).st_size, name)


def _listed(directory: ExportDirectory, export: Export) -> Iterator[str]:
    """Paths of all files of an export: by SHA256SUMS, or by the manifest if it has no such file."""
    if not directory.has_file(_SUMS):
        yield from (name for name, _ in export.files)
        yield _MANIFEST
        return
    with os.fdopen(directory.open(_SUMS), "rb") as sums:
        while line := sums.readline(_LONGEST_LINE_BYTES):
            if (named := media_sum(line)) is not None:
                yield f"{MEDIA_DIRECTORY}/{named[0]}"
            elif (page := page_sum(line)) is not None:
                yield page[0]
            else:
                name = line.rstrip(b"\n")[66:].decode("latin-1")
                if is_plain_name(name):
                    yield name
    yield _SUMS


def check_zip(export: Export) -> None:
    """Make sure that the files of an export are there, but for media and pages, before anything is sent.

    Raises:
        NoExportError: One is missing, or is not a plain file.
    """
    with ExportDirectory(export.directory) as directory:
        sums = [_SUMS] if directory.has_file(_SUMS) else []
    for name in [_MANIFEST, *sums, *(name for name, _ in export.files)]:
        os.close(_opened(export.directory, name).descriptor)


class _Outlet:
    """A file that only grows; what was written is taken out again and again."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing to do."""

    def take(self) -> bytes:
        data = b"".join(self._parts)
        self._parts.clear()
        return data


def zip_chunks(export: Export) -> Iterator[bytes]:
    """An export as a zip file, piece by piece, stored as it is; nothing is written to disk.

    Raises:
        NoExportError, ArchiveChangedError: A file is missing or has changed; what was sent so far is not a zip file.
    """
    outlet: Any = _Outlet()
    made = export.made
    stamp = made.timetuple()[:6] if made is not None and made.year in _YEARS_OF_ZIP else _DATE_OF_ZIP
    with (
        ExportDirectory(export.directory) as directory,
        zipfile.ZipFile(outlet, "w", zipfile.ZIP_STORED, allowZip64=True) as archive,
    ):
        for path in _unique(_listed(directory, export)):
            file = _opened(export.directory, path)
            entry = zipfile.ZipInfo(f"{export.directory.name}/{path}", stamp)
            entry.external_attr = (stat.S_IFREG | 0o600) << 16
            with os.fdopen(file.descriptor, "rb") as content, archive.open(entry, "w", force_zip64=True) as target:
                while data := content.read(READ_BYTES):
                    target.write(data)
                    yield outlet.take()
                if content.tell() != file.bytes:
                    raise ArchiveChangedError(f"{path} changed while it was sent", "download it again")
    yield outlet.take()


def _unique(paths: Iterable[str]) -> Iterator[str]:
    """Paths, without those that come right after themselves."""
    last = ""
    for path in paths:
        if path != last:
            last = path
            yield path
