"""The media of an export: which files belong to the exported posts, where they lie, and whether they were copied.

The list of files is read while the archive is held in the exported state. It lies in a temporary file, since it may not
fit into memory. Files are copied after the archive was released.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import IO, TYPE_CHECKING, Self

from skyexport.archive.archive import Archive
from skyexport.archive.media_rows import count_posts_without_known_media, media_of
from skyexport.errors import OptionError, OutputError
from skyexport.formats.csv_table import CsvRecords
from skyexport.formats.settings import FormatSettings
from skyexport.notices import Notices
from skyexport.options.export_options import Resolved
from skyexport.output.media_copying import copied_media
from skyexport.output.writer import WrittenFile
from skyexport.runtime.media_root import MediaFile, MediaRoot, PresentFile, ShownFile, UnsafePathError
from skyexport.runtime.progress import Counters
from skyexport.runtime.scratch import temporary_folder
from skyexport.selection import Selection
from skyexport.wording import path_text

if TYPE_CHECKING:
    from skyexport.verification.previous_media import EarlierMedia

__all__ = ["Media", "MediaCounts"]

_BLOCK_BYTES = 1 << 16
"""Bytes of SHA256SUMS and of the table that are written at once."""

_MOST_DIGITS = 8
"""Of a width or a height that is one."""

_HEADINGS = ("File", "URI", "MimeType", "Size", "Width", "Height", "AltText")
"""Headings of the table, which has a row for each file and post that shows it."""


@dataclass(slots=True)
class MediaCounts:
    """The counts of an export's media."""

    files: int = 0
    """Media files in the export."""
    linked: int = 0
    """How many of them are hard links to those of an earlier export."""
    rows: int = 0
    """Rows of the table that says which posts show which files."""
    posts_without: int = 0
    """Exported posts with media that the archive does not contain."""


class Media:
    """The media of one export. Use it in a `with` statement.

    Args:
        resolved: The options, with the media root and the earlier export to link to, if any.
        archive_directory: The media root if the options name none.

    Raises:
        OptionError: The media root is missing or not a directory.
        NoExportError: The earlier export is missing or not an export.
    """

    def __init__(self, resolved: Resolved, archive_directory: Path) -> None:
        self.counts = MediaCounts()
        self._sync = resolved.options.sync
        self._settings = resolved.settings
        self._named_root = resolved.media_root
        self._list: _MediaList | None = None
        self._closing = contextlib.ExitStack()
        with contextlib.ExitStack() as opened:
            self._root = opened.enter_context(MediaRoot(resolved.media_root or archive_directory))
            self._earlier: EarlierMedia | None = None
            if resolved.link_media is not None:
                # This loads the readers of exports, which takes 15 ms.
                from skyexport.verification.previous_media import EarlierMedia

                self._earlier = opened.enter_context(EarlierMedia(resolved.link_media))
            self._closing = opened.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._closing.close()

    @property
    def nothing_to_link(self) -> bool:
        """Whether the options name an earlier export that has no media."""
        return self._earlier is not None and self._earlier.empty

    def list_files(self, archive: Archive, selection: Selection) -> None:
        """List the media files of the selected posts, in the state that is exported.

        Raises:
            ArchiveError: The archive's media table is not usable.
            OptionError: None of the files is in the media root that the options name.
            OutputError: There is no room for the list.
        """
        self._list = _MediaList(media_of(archive, selection), self._settings)
        self._closing.callback(self._list.close)
        named = self._named_root is not None and self._earlier is None
        if named and self._list.files and next(self.sizes(), None) is None:
            raise OptionError(
                f"none of {self._list.files:,} media files is in {self._named_root}",
                "check --media-root; without it, paths are relative to the archive's directory",
            )
        self.counts.posts_without = count_posts_without_known_media(archive, selection)

    def least_bytes(self, enough: int) -> int:
        """Bytes that the files take at least; the archive's own number if that is no more than *enough*."""
        if self._list is None or self._list.bytes <= enough:
            return 0 if self._list is None else self._list.bytes
        # Files may be missing, and the archive's numbers may be wrong.
        return sum(self.sizes())

    def sizes(self) -> Iterator[int]:
        """Bytes of each file that exists and must be copied, not linked."""
        return iter(()) if self._list is None else iter(self._list.sizes(self._root, self._earlier))

    def present(self) -> Iterator[PresentFile]:
        """Each file that is there now, once for each post that shows it."""
        return iter(()) if self._list is None else self._list.present(self._root, self._earlier)

    def copy(
        self,
        target: Path,
        counters: Counters,
        *,
        check: Callable[[], None],
        note: Callable[[Notices], None],
    ) -> tuple[Iterator[bytes], Iterator[bytes]]:
        """Copy the files, now that nobody waits for the archive any more.

        Args:
            target: The directory for them, made here if there are any.
            counters: Updated as files are copied.
            check: Called several times a second; an exception from it ends the copying.
            note: Called with each warning.

        Returns:
            Lines of SHA256SUMS, and the table of files and the posts that show them. Both come in pieces, to be read
            before the `with` block ends.

        Raises:
            OutputError: A copy cannot be written.
        """
        if self._list is None:
            return iter(()), iter(())
        if self._list.files:
            self._copy(self._list, target, counters, check=check, note=note)
        notices = Notices()
        notices.formulas = self._list.table_formulas
        note(notices)
        self.counts.rows = self._list.table_rows
        return self._list.sums(), self._list.table()

    def _copy(
        self,
        files: _MediaList,
        target: Path,
        counters: Counters,
        *,
        check: Callable[[], None],
        note: Callable[[Notices], None],
    ) -> None:
        counters.stage = "copying media"
        counters.media_files_to_read = files.files
        copies = copied_media(files, self._root, self._earlier, target, sync=self._sync, check=check)
        with contextlib.closing(copies):
            for copy in copies:
                counters.media_files += 1
                if copy.written is not None:
                    self.counts.files += 1
                    self.counts.linked += copy.linked
                    counters.media_bytes += copy.written.bytes
                    files.add_copy(copy.written)
                if copy.warning is not None:
                    path = path_text(copy.file_path)
                    notices = Notices()
                    notices.add(copy.warning, f"{path}: {copy.why}" if copy.why else path)
                    note(notices)
        if not self.counts.files:
            target.rmdir()


class _MediaList:
    """Media files in the order of their hashes, and the facts about them, in temporary files without a name.

    Args:
        shown_files: Each file with each post that shows it.
        settings: The settings of the table.

    Raises:
        OutputError: There is no room for it.
    """

    def __init__(self, shown_files: Iterable[ShownFile], settings: FormatSettings) -> None:
        self.bytes = 0
        """Size of all files according to the archive."""
        self.files = 0
        self._closing = contextlib.ExitStack()
        self._records = CsvRecords(_HEADINGS, settings)
        self.table_rows = 0
        try:
            with _as_output_error():
                self._spool = self._temporary_file()
                self._shown = self._temporary_file()
                self._sums = self._temporary_file()
                self._table = self._temporary_file()
                last: MediaFile | None = None
                for shown in shown_files:
                    if shown.file is not last:
                        last = shown.file
                        self._spool.write(json.dumps([last.sha256, last.file_path]).encode() + b"\n")
                        self.files += 1
                        self.bytes += max(0, shown.size_bytes)
                    if last.name is not None:
                        cells = (shown.uri, shown.mime_type, shown.width, shown.height, shown.alt_text)
                        texts = [last.name, *(cell.decode("latin-1") for cell in cells)]
                        self._shown.write(json.dumps(texts).encode() + b"\n")
                self._spool.flush()
                self._shown.seek(0)
                self._table.write(self._records.header())
        except BaseException:
            self.close()
            raise
        self._next_shown = self._read_shown()

    def _temporary_file(self) -> IO[bytes]:
        return self._closing.enter_context(tempfile.TemporaryFile(dir=temporary_folder()))

    def close(self) -> None:
        """Delete the temporary files. Calling this again does no harm."""
        # Closing may fail to write the rest of a file; nobody needs it any more.
        with contextlib.suppress(OSError):
            self._closing.close()

    def __iter__(self) -> Iterator[MediaFile]:
        self._spool.seek(0)
        for line in self._spool:
            yield MediaFile(*json.loads(line))

    def _read_shown(self) -> list[str] | None:
        """The next file and post; None at the end."""
        line = self._shown.readline()
        return json.loads(line) if line else None

    def add_copy(self, file: WrittenFile) -> None:
        """Note a file that is now in the export. Files come in the order of the list; some may be left out.

        Raises:
            OutputError: There is no room for it.
        """
        name = PurePosixPath(file.name).name
        with _as_output_error():
            self._sums.write(file.sum_line().encode())
            while self._next_shown is not None and self._next_shown[0] <= name:
                shown_name, *texts = self._next_shown
                if shown_name == name:
                    uri, mime_type, width, height, alt_text = (text.encode("latin-1") for text in texts)
                    values = [file.name.encode(), uri, mime_type, b"%d" % file.bytes, width, height, alt_text]
                    self._table.write(self._records.record(values))
                    self.table_rows += 1
                self._next_shown = self._read_shown()

    def present(self, root: MediaRoot, earlier: EarlierMedia | None) -> Iterator[PresentFile]:
        """Each file that is there now, once for each post that shows it. To be called before files are added."""
        files = iter(self)
        name = ""
        size = -1
        while self._next_shown is not None:
            shown_name, uri, mime_type, width, height, alt_text = self._next_shown
            while name != shown_name:
                file = next(files)
                name = file.name or ""
                if name == shown_name:
                    sha256, size = file.sha256, _present_bytes(file, root, earlier)
            if size >= 0:
                yield PresentFile(
                    uri.encode("latin-1"), sha256, name, mime_type.encode("latin-1"), _pixels(width), _pixels(height),
                    alt_text.encode("latin-1"), size,
                )  # fmt: skip
            self._next_shown = self._read_shown()
        self._shown.seek(0)
        self._next_shown = self._read_shown()

    @property
    def table_formulas(self) -> int:
        """Cells of the table that a spreadsheet may read as formulas."""
        return self._records.formulas

    def sums(self) -> Iterator[bytes]:
        """The lines of SHA256SUMS, in pieces.

        Raises:
            OutputError: There is no room for them.
        """
        return _pieces(self._sums)

    def table(self) -> Iterator[bytes]:
        """The table of the files in the export and the posts that show them, in pieces.

        Raises:
            OutputError: There is no room for it.
        """
        return _pieces(self._table)

    def sizes(self, root: MediaRoot, earlier: EarlierMedia | None) -> Iterator[int]:
        """Bytes of each file that exists and surely must be copied."""
        for file in self:
            if earlier is not None and file.name is not None and earlier.has(file.name):
                continue
            if (size := _present_bytes(file, root, None)) >= 0:
                yield size


def _present_bytes(file: MediaFile, root: MediaRoot, earlier: EarlierMedia | None) -> int:
    """Bytes of a file; 0 if the earlier export has it, -1 if it is not there."""
    if earlier is not None and file.name is not None and earlier.has(file.name):
        return 0
    with contextlib.suppress(OSError, UnsafePathError):
        descriptor = root.open(file.file_path)
        try:
            return os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)
    return -1


def _pixels(cell: str) -> int:
    return int(cell) if cell.isascii() and cell.isdigit() and len(cell) < _MOST_DIGITS else 0


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    with _as_output_error():
        file.seek(0)
    while block := file.read(_BLOCK_BYTES):
        yield block


@contextlib.contextmanager
def _as_output_error() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"cannot write a temporary file in {temporary_folder()}: {error.strerror}",
            "set TMPDIR to a place where there is room",
        ) from error
