"""The pages of an HTML export, compared with their lines in SHA256SUMS, and the posts in them counted.

The paths in SHA256SUMS ascend, so all files of a directory follow each other. Each directory is opened once, and only
those that lead to the next file are open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Self

from skyexport.layout import is_posts_page
from skyexport.runtime.export_directory import ExportDirectory
from skyexport.runtime.progress import Counters
from skyexport.verification.claims import PageCounts, page_sum
from skyexport.verification.data_files import Posts, lines, why_unreadable
from skyexport.verification.differences import EXTRA, Differences, ManyDifferences
from skyexport.verification.listed_files import why_wrong
from skyexport.verification.readers.html_page import HtmlPageReader

__all__ = ["ListedTree", "Pages", "page_sums"]

_SUMS = "SHA256SUMS"
_MANIFEST = "manifest.json"

_PAGES = "pages"
"""Stands for all files of pages in differences."""


def page_sums(sums: Iterable[bytes]) -> Iterator[tuple[str, str]]:
    """Path and SHA-256 of each file of pages, ascending, from the lines of SHA256SUMS.

    Lines that are out of order are left out: `read_sums` notes them.
    """
    last = ""
    for named in filter(None, map(page_sum, sums)):
        if named[0] > last:
            last = named[0]
            yield named


class ListedTree:
    """Directories below an export directory, open while paths in them are asked for. Use it in a `with` statement.

    Paths must be asked for in ascending order. Links are never followed.

    Args:
        directory: The export directory.
        names: The names in it that may be extra.
        note_extra: Called with the path of each file and directory that is there but was not asked for. Directories are
            not searched for more.
        note_wrong: Called with the path of a directory that cannot be opened, and the reason.
    """

    def __init__(
        self,
        directory: ExportDirectory,
        names: Iterable[str],
        note_extra: Callable[[str], None],
        note_wrong: Callable[[str, str], None],
    ) -> None:
        self._open: list[tuple[str, ExportDirectory, set[str]]] = [("", directory, set(names))]
        """For each open directory: its path, ending in `/` if there is one; and the names not asked for so far."""
        self._closed = ""
        """Path of the last directory that cannot be opened."""
        self._note_extra = note_extra
        self._note_wrong = note_wrong

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        while self._open:
            self._leave(note=kind is None)

    def place_of(self, path: str) -> tuple[ExportDirectory, str] | None:
        """The directory that a file is in, and its name there; None if that directory cannot be opened."""
        while not path.startswith(self._open[-1][0]):
            self._leave()
        if self._closed and path.startswith(self._closed):
            return None
        while True:
            above, directory, names = self._open[-1]
            name, below, _ = path[len(above) :].partition("/")
            names.discard(name)
            if not below:
                return directory, name
            inner = None
            try:
                inner = directory.subdirectory(name)
                self._open.append((f"{above}{name}/", inner, inner.all_names()))
            except OSError as error:
                if inner is not None:
                    inner.close()
                self._closed = f"{above}{name}/"
                self._note_wrong(f"{above}{name}", why_unreadable(error))
                return None

    def _leave(self, *, note: bool = True) -> None:
        path, directory, names = self._open.pop()
        if self._open:
            directory.close()
        for name in sorted(names) if note else ():
            self._note_extra(f"{path}{name}")


class Pages:
    """Compares the files of pages.

    Args:
        directory: The export directory.
        differences: Gets the differences.
        counters: Updated with the progress, from zero.
        check: Called now and then; an exception from it ends the comparison.
    """

    def __init__(
        self, directory: ExportDirectory, differences: Differences, counters: Counters, check: Callable[[], None]
    ) -> None:
        self._directory = directory
        self._differences = differences
        self._many = ManyDifferences(differences, _PAGES)
        self._counters = counters
        self._check = check
        self._all_read = True
        """Whether all files could be read to the end."""
        self._all_valid = True
        """Whether all pages of posts were valid."""
        self.number = 0
        """Number of HTML pages in SHA256SUMS."""

    def compare(
        self, names: Iterable[str], expected: PageCounts | None, posts: int | None, *, sums_are_valid: bool
    ) -> None:
        """Compare each file with its line in SHA256SUMS, and the files together with the manifest.

        Args:
            names: Names in the export directory, but for those that belong to other files than pages.
            expected: The counts of the manifest; None if they are not valid.
            posts: Number of posts, according to the manifest; None if that is not valid.
            sums_are_valid: Whether SHA256SUMS is valid. If it is not, files may seem extra that are not.
        """
        done = False
        with self._differences.noting(_SUMS):
            with ListedTree(
                self._directory, names, self._note_extra if sums_are_valid else lambda _: None, self._note_wrong
            ) as tree:
                for path, sha256 in page_sums(lines(self._directory, _SUMS)):
                    self._check()
                    place = tree.place_of(path)
                    if place is not None:
                        self._compare_file(path, *place, sha256)
                    self.number += path.endswith(".html")
            done = sums_are_valid
        self._many.finish()
        counters = self._counters
        if done and self._all_read and expected is not None and counters.bytes != expected.bytes:
            self._differences.note(
                _PAGES, f"the size of all files is {counters.bytes:,} bytes; {_MANIFEST} says {expected.bytes:,}"
            )
        if done and self._all_read and self._all_valid and posts not in (None, counters.posts):
            self._differences.note(_PAGES, f"the number of posts is {counters.posts:,}; {_MANIFEST} says {posts:,}")

    def _compare_file(self, path: str, directory: ExportDirectory, name: str, sha256: str) -> None:
        """Read a file once, for its checksum and for the posts in it."""
        posts = Posts(HtmlPageReader(), self._counters, None) if is_posts_page(path) else None

        def take(block: bytes) -> None:
            self._check()
            if posts is not None:
                posts.read(block)
            else:
                self._counters.bytes += len(block)

        try:
            wrong = why_wrong(directory, name, sha256, take)
        except OSError as error:
            self._many.note(path, why_unreadable(error))
            self._all_read = False
            return
        if wrong:
            self._many.note(path, wrong)
        if posts is not None:
            posts.finish()
            for problem in posts.problems:
                self._many.note(path, problem)
                self._all_valid = False

    def _note_extra(self, path: str) -> None:
        self._many.note(path, EXTRA, extra=True)

    def _note_wrong(self, path: str, why: str) -> None:
        self._many.note(path, why)
        self._all_read = False
