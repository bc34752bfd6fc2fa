"""The media of an export, compared with what the manifest and SHA256SUMS say about them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from skyexport.layout import MEDIA_DIRECTORY
from skyexport.runtime.export_directory import ExportDirectory
from skyexport.runtime.progress import Counters
from skyexport.verification.claims import media_sum
from skyexport.verification.data_files import MISSING, lines, why_unreadable
from skyexport.verification.differences import EXTRA, Differences, ManyDifferences
from skyexport.verification.listed_files import why_wrong

__all__ = ["MediaFiles"]

_SUMS = "SHA256SUMS"


class MediaFiles:
    """Compares the directory of media.

    Args:
        directory: The export directory.
        differences: Gets the differences.
        counters: Updated with the progress.
        check: Called now and then; an exception from it ends the comparison.
    """

    def __init__(
        self, directory: ExportDirectory, differences: Differences, counters: Counters, check: Callable[[], None]
    ) -> None:
        self._directory = directory
        self._differences = differences
        self._many = ManyDifferences(differences, MEDIA_DIRECTORY)
        self._counters = counters
        self._check = check

    def compare(self, expected: int, with_sums: int) -> None:
        """Compare the files of the directory, which must be there.

        Args:
            expected: Number of media files, according to the manifest.
            with_sums: Number of media files with a line in SHA256SUMS.
        """
        differences = self._differences
        with differences.noting(MEDIA_DIRECTORY), self._directory.subdirectory(MEDIA_DIRECTORY) as media:
            files, others = media.count_files()
            if with_sums:
                self._counters.media_files_to_read = with_sums
                self._compare_files(media, files + len(others))
            elif files and not expected:
                differences.note(MEDIA_DIRECTORY, EXTRA, extra=True)
            else:
                # Without checksums, the names of the files are unknown; but litter has names of its own.
                for name in others:
                    self._note(name, EXTRA, extra=True)
                if files != expected:
                    differences.note(
                        MEDIA_DIRECTORY, f"the number of files is {files:,}; manifest.json says {expected:,}"
                    )

    def _compare_files(self, media: ExportDirectory, names: int) -> None:
        """Compare each media file with its line of SHA256SUMS; the directory has *names* entries."""
        there = 0
        for name, checksum in self._sums():
            try:
                wrong = why_wrong(media, name, checksum, self._take)
            except OSError as error:
                wrong = why_unreadable(error)
            there += wrong != MISSING
            self._counters.media_files += 1
            if wrong:
                self._note(name, wrong)
        if names > there:
            extra = set(media.names())
            for name, _ in self._sums():
                extra.discard(name)
            for name in sorted(extra):
                self._note(name, EXTRA, extra=True)
        self._many.finish()

    def _take(self, block: bytes) -> None:
        self._check()
        self._counters.media_bytes += len(block)

    def _note(self, name: str, what: str, *, extra: bool = False) -> None:
        self._many.note(f"{MEDIA_DIRECTORY}/{name}", what, extra=extra)

    def _sums(self) -> Iterator[tuple[str, str]]:
        """Name and SHA-256 of each media file, according to SHA256SUMS."""
        return filter(None, map(media_sum, lines(self._directory, _SUMS)))
