"""The media of an export: which files belong to the exported posts, where they lie, and what became of them.

The list of files is taken while the archive is held at the state that is exported, and lies in a temporary file, since
it may be longer than memory allows. Files are copied when the archive is let go of.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Self

from skyexport.archive import Archive
from skyexport.errors import OptionError, OutputError
from skyexport.media_copying import copied_media
from skyexport.media_root import MediaFile, MediaRoot, UnsafePathError
from skyexport.notices import Notices
from skyexport.options import Resolved
from skyexport.progress import Counters
from skyexport.scratch import temporary_folder
from skyexport.selection import Selection

if TYPE_CHECKING:
    from skyexport.earlier_media import EarlierMedia

__all__ = ["Media", "MediaCounts"]

_BLOCK_BYTES = 1 << 16
"""Of SHA256SUMS, written at once."""


@dataclass(slots=True)
class MediaCounts:
    """What an export says of its media."""

    files: int = 0
    """Files in it."""
    linked: int = 0
    """How many of them are linked to those of an earlier export."""
    posts_without: int = 0
    """Exported posts that have media, of which no file is known to the archive."""


class Media:
    """The media of one export. Use it in a `with` statement.

    Args:
        resolved: Where media lie, and an earlier export, if any.
        archive_directory: Where they lie if nothing else is said.

    Raises:
        OptionError: There is no such directory of media.
        NoExportError: There is no such earlier export.
    """

    def __init__(self, resolved: Resolved, archive_directory: Path) -> None:
        self.counts = MediaCounts()
        self._sync = resolved.options.sync
        self._named_root = resolved.media_root
        self._list: _MediaList | None = None
        self._closing = contextlib.ExitStack()
        with contextlib.ExitStack() as opened:
            self._root = opened.enter_context(MediaRoot(resolved.media_root or archive_directory))
            self._earlier: EarlierMedia | None = None
            if resolved.link_media is not None:
                # It needs the readers of exports, which take 15 ms to load.
                from skyexport.earlier_media import EarlierMedia

                self._earlier = opened.enter_context(EarlierMedia(resolved.link_media))
            self._closing = opened.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._closing.close()

    @property
    def nothing_to_link(self) -> bool:
        """Whether an earlier export was named that has no media."""
        return self._earlier is not None and self._earlier.empty

    def list_files(self, archive: Archive, selection: Selection) -> None:
        """Find out, in the state that is exported, which media files belong to it.

        Raises:
            ArchiveError: Its media table is none.
            OptionError: Not one of them is in the directory that was named for them.
            OutputError: There is no room for the list.
        """
        self._list = _MediaList(archive.media_of(selection))
        self._closing.callback(self._list.close)
        named = self._named_root is not None and self._earlier is None
        if named and self._list.files and next(self.sizes(), None) is None:
            raise OptionError(
                f"not one of {self._list.files:,} media files is in {self._named_root}",
                "check --media-root; without it, paths begin in the archive's directory",
            )
        self.counts.posts_without = archive.count_posts_without_known_media(selection)

    def least_bytes(self, enough: int) -> int:
        """What the files take at least; where the archive says that it is not more than *enough*, just what it says."""
        if self._list is None or self._list.bytes <= enough:
            return 0 if self._list is None else self._list.bytes
        # Files may be missing, and an archive may say anything of their size.
        return sum(self.sizes())

    def sizes(self) -> Iterator[int]:
        """The size of each file that is there, and of those that can be linked, none."""
        return iter(()) if self._list is None else iter(self._list.sizes(self._root, self._earlier))

    def copy(
        self,
        target: Path,
        counters: Counters,
        *,
        check: Callable[[], None],
        note: Callable[[Notices], None],
    ) -> Iterator[bytes]:
        """Copy the files, now that nobody waits for the archive any more.

        Args:
            target: The directory for them, made here if there are any.
            counters: Told how far it is.
            check: Called several times a second; what it raises ends this.
            note: Told what is not as it should be.

        Returns:
            Lines of SHA256SUMS, in pieces, to be read before the `with` block ends.

        Raises:
            OutputError: A copy can not be written.
        """
        if self._list is None or not self._list.files:
            return iter(())
        counters.stage = "copying media"
        counters.media_files_to_read = self._list.files
        copies = copied_media(self._list, self._root, self._earlier, target, sync=self._sync, check=check)
        with contextlib.closing(copies):
            for copy in copies:
                counters.media_files += 1
                if copy.written is not None:
                    self.counts.files += 1
                    self.counts.linked += copy.linked
                    counters.media_bytes += copy.written.bytes
                    self._list.add_sum(copy.written.sum_line())
                if copy.warning is not None:
                    path = os.fsencode(copy.file_path).decode(errors="replace")
                    notices = Notices()
                    notices.add(copy.warning, f"{path}: {copy.why}" if copy.why else path)
                    note(notices)
        if not self.counts.files:
            target.rmdir()
        return self._list.sums()


class _MediaList:
    """Media files in the order of their hashes, and what is found out about them, in temporary files without a name.

    Args:
        found: Them, each hash once, and how many bytes the archive says that they have.

    Raises:
        OutputError: There is no room for it.
    """

    def __init__(self, found: Iterable[tuple[MediaFile, int]]) -> None:
        self.bytes = 0
        """What the archive says that they take."""
        self.files = 0
        self._closing = contextlib.ExitStack()
        try:
            with _as_output_error():
                self._spool = self._temporary_file()
                self._sums = self._temporary_file()
                for file, size in found:
                    self._spool.write(json.dumps([file.sha256, file.file_path]).encode() + b"\n")
                    self.files += 1
                    self.bytes += max(0, size)
                self._spool.flush()
        except BaseException:
            self.close()
            raise

    def _temporary_file(self) -> IO[bytes]:
        return self._closing.enter_context(tempfile.TemporaryFile(dir=temporary_folder()))

    def close(self) -> None:
        """Forget it. More than once does no harm."""
        # What could not be written then can not be now, and nobody wants it any more.
        with contextlib.suppress(OSError):
            self._closing.close()

    def __iter__(self) -> Iterator[MediaFile]:
        self._spool.seek(0)
        for line in self._spool:
            yield MediaFile(*json.loads(line))

    def add_sum(self, line: str) -> None:
        """Note a line of SHA256SUMS.

        Raises:
            OutputError: There is no room for it.
        """
        with _as_output_error():
            self._sums.write(line.encode())

    def sums(self) -> Iterator[bytes]:
        """What was noted, in pieces.

        Raises:
            OutputError: There is no room for it.
        """
        with _as_output_error():
            self._sums.seek(0)
        while block := self._sums.read(_BLOCK_BYTES):
            yield block

    def sizes(self, root: MediaRoot, earlier: EarlierMedia | None) -> Iterator[int]:
        """What the files take that are there, and surely must be copied."""
        for file in self:
            if earlier is not None and file.name is not None and earlier.has(file.name):
                continue
            with contextlib.suppress(OSError, UnsafePathError):
                descriptor = root.open(file.file_path)
                try:
                    yield os.fstat(descriptor).st_size
                finally:
                    os.close(descriptor)


@contextlib.contextmanager
def _as_output_error() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"can not write a temporary file in {temporary_folder()}: {error.strerror}",
            "set TMPDIR to a place where there is room",
        ) from error
