"""Verifying an export: whether the files of a directory match its manifest and checksums.

Everything in the directory may come from a stranger. Small files are read whole, up to a limit. A data file is read
once, from beginning to end, for its checksum and by a reader that shares nothing with the code that wrote the file.
Each difference is noted, and the rest is still verified.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from skyexport.errors import MissingExtraError, NoExportError, OptionError, VerifyError
from skyexport.layout import MAX_CLAIMS_BYTES, MEDIA_DIRECTORY
from skyexport.options.values import parse_path
from skyexport.runtime.digest import Digest
from skyexport.runtime.export_directory import ExportDirectory
from skyexport.runtime.memory import MemoryGuard, ProcessTree
from skyexport.runtime.progress import Counters, Monitor, Progress
from skyexport.verification.chains import export_near
from skyexport.verification.claims import PAGES_FORMAT, Checksum, Manifest, Sums, read_manifest, read_sums
from skyexport.verification.data_files import MISSING, Posts, Unread, blocks, lines
from skyexport.verification.differences import EXTRA, Differences
from skyexport.verification.media_files import MediaFiles
from skyexport.verification.pages import Pages
from skyexport.verification.post_keys import Keys
from skyexport.verification.readers import READERS, Reader
from skyexport.verification.result import Verification
from skyexport.wording import format_size, path_text

__all__ = ["read_back", "verified", "verify"]

_MANIFEST = "manifest.json"
_SUMS = "SHA256SUMS"


def verify(
    directory: str | os.PathLike[str],
    on_progress: Callable[[Progress], None] | None = None,
    *,
    extra_files_allowed: bool = False,
) -> Verification:
    """Verify the export in *directory*: it must have the files, bytes, and posts that its manifest lists.

        print(verify("exports/all/2026-11-24_11-23-22").posts)

    The order of posts depends on times as the archive stores them, which an export does not have, so only the checksum
    covers it. Manifests of the established exporter have no checksums. Then the data file must be readable and have
    the right number of posts, and `unverified` lists the files without a checksum.

    Args:
        directory: An export directory, `<output-dir>/<author or all>/<time>`.
        on_progress: Called as in `export`, with the stage `verifying`.
        extra_files_allowed: Ignore files in the directory that do not belong to the export.

    Raises:
        OptionError: *directory* is not a path.
        VerifyError: Something differs; `differences` lists everything.
        NoExportError: There is no such directory, or no export in it.
        MissingExtraError: The data files have no checksums, and reading them needs an extra that is not installed.
    """
    path = parse_path(directory, "directory")
    counters = Counters()
    counters.stage = "verifying"
    with Monitor(counters, MemoryGuard(sys.maxsize, ProcessTree().sample), on_progress) as monitor:
        return verified(path, counters, monitor.check, extra_files_allowed=extra_files_allowed)


def verified(
    path: Path, counters: Counters, check: Callable[[], None], *, extra_files_allowed: bool = False,
    keys: Keys | None = None,
) -> Verification:  # fmt: skip
    """Verify as `verify` does, for a caller with its own monitor.

    Args:
        path: An export directory.
        counters: Updated with the progress.
        check: Called now and then; an exception from it ends the verification.
        extra_files_allowed: As in `verify`.
        keys: Gets the keys of all posts, in files that may yet turn out to differ.

    Raises:
        OptionError: *keys* are asked for, and the export does not have all their columns.
    """
    started = time.monotonic()
    with ExportDirectory(path) as opened:
        verifier = _Verifier(opened, counters, keys)
        verifier.read_claims(path)
        verifier.compare(check)
    manifest = verifier.manifest
    differences = [each for each in verifier.differences.found if not (each.extra and extra_files_allowed)]
    if differences or manifest.format is None:
        raise VerifyError(path_text(path), differences)
    unverified = verifier.unverified()
    if verifier.missing_extra is not None and not set(manifest.data_files).isdisjoint(unverified):
        raise verifier.missing_extra
    return Verification(
        directory=path, format=manifest.format, settings=manifest.settings, compression=manifest.compression,
        data_files=manifest.data_files, pages=verifier.html_pages,
        posts=counters.posts if verifier.missing_extra is None else manifest.posts or 0,
        posts_read=verifier.missing_extra is None, bytes=counters.bytes,
        media_files=manifest.media_files, checksums=verifier.checksums, unverified=unverified,
        seconds=time.monotonic() - started,
    )  # fmt: skip


def read_back(
    path: Path, counters: Counters, check: Callable[[], None], *, extra_files_allowed: bool = False,
    keys: Keys | None = None,
) -> Verification:  # fmt: skip
    """Verify as `verified` does, while another export is being made; in *counters*, only `read_back_bytes` grows."""
    own = Counters()
    before = counters.read_back_bytes

    def look() -> None:
        counters.read_back_bytes = before + own.bytes + own.media_bytes
        check()

    return verified(path, own, look, extra_files_allowed=extra_files_allowed, keys=keys)


@dataclass(slots=True)
class _Expected:
    """The expected size and checksum of a file."""

    bytes: int | None = None
    sha256: dict[str, str] = field(default_factory=dict)
    """Name of the file that contains the checksum → the checksum."""


class _Verifier:
    """Verifies one directory, and notes the differences."""

    def __init__(self, directory: ExportDirectory, counters: Counters, keys: Keys | None) -> None:
        self._directory = directory
        self._counters = counters
        self._keys = keys
        self._names = dict.fromkeys(directory.names())
        """All names in the directory, in order; a dict finds a name quickly, however many a stranger made."""
        self._expected: dict[str, _Expected] = {}
        self._small_files: dict[str, bytes] = {}
        """The manifest, name → content."""
        self._sums = Sums()
        self.manifest = Manifest()
        self.differences = Differences()
        self.html_pages = 0
        """Number of HTML pages, if there are pages instead of data files."""
        self.checksums: list[Checksum] = []
        self._data_files: set[str] = set()
        self._read_files: set[str] = set()
        """The data files that could be read to the end."""
        self._posts_read = 0
        self.missing_extra: MissingExtraError | None = None
        """The reason why posts were not read back, though the checksums of their files were compared."""

    def read_claims(self, path: Path) -> None:
        """Read the manifest and SHA256SUMS.

        Raises:
            NoExportError: *path* has neither.
            OptionError: The posts lack a column of the keys that are asked for.
        """
        if _MANIFEST not in self._names and _SUMS not in self._names:
            below = export_near(path)
            raise NoExportError(
                f"there is no export in {path}: no {_MANIFEST}",
                "name the directory that an export made, <output-dir>/<author or all>/<time>"
                if below is None
                else f"there are exports below it, like {below}; `skyexport verify --recursive` verifies all",
            )
        content = self._small_file(_MANIFEST)
        if content is not None:
            self.manifest = read_manifest(content)
            self.differences.note(_MANIFEST, *self.manifest.problems)
        if self._keys is not None:
            self._check_comparable(path)
        self._counters.posts_to_read = self.manifest.posts or 0
        self._data_files.update(self.manifest.data_files)
        for name in (_MANIFEST, *self.manifest.files):
            self._expect(name)
        for checksum in self.manifest.checksums or ():
            expected = self._expect(checksum.name)
            expected.bytes = checksum.bytes
            expected.sha256[_MANIFEST] = checksum.sha256
        if self.manifest.checksums is not None or _SUMS in self._names:
            self._read_sums()

    def _check_comparable(self, path: Path) -> None:
        if self.manifest.format == PAGES_FORMAT:
            raise OptionError(
                f"an HTML export cannot be compared with an archive: {path}", "name an export in another format"
            )
        columns = self.manifest.settings.columns
        if self.manifest.format is not None and columns:
            needed = READERS[self.manifest.format].key_columns
            if missing := [name for column, name in needed.items() if column not in columns]:
                raise OptionError(
                    f"{path} cannot be compared with an archive: it has no column {missing[0]}",
                    "name an export with this column, or with all",
                )

    def _read_sums(self) -> None:
        if _SUMS in self._names:
            with self.differences.noting(_SUMS):
                may_have_pages = self.manifest.format not in READERS
                self._sums = read_sums(lines(self._directory, _SUMS), pages=may_have_pages)
                self.differences.note(_SUMS, *self._sums.problems)
                if self.manifest.checksums is not None:
                    missing = [name for name in self._expected if name not in self._sums.files]
                    self.differences.note(_SUMS, *(f"has no line for {name}" for name in missing))
                    if self._sums.media_files != self.manifest.media_files:
                        self.differences.note(
                            _SUMS,
                            f"has lines for {self._sums.media_files:,} media files;"
                            f" {_MANIFEST} says {self.manifest.media_files:,}",
                        )
                pages = self.manifest.pages
                if pages is not None and self._sums.page_files != pages.files:
                    self.differences.note(
                        _SUMS,
                        f"has lines for {self._sums.page_files:,} files of pages; {_MANIFEST} says {pages.files:,}",
                    )
                for name, sha256 in self._sums.files.items():
                    self._expect(name).sha256[_SUMS] = sha256
        self._expect(_SUMS)

    def _expect(self, name: str) -> _Expected:
        return self._expected.setdefault(name, _Expected())

    def compare(self, check: Callable[[], None]) -> None:
        """Compare the directory with the expected files.

        Args:
            check: Called now and then; an exception from it ends the comparison.
        """
        for name, content in self._small_files.items():
            self._compare_bytes(name, len(content), hashlib.sha256(content).hexdigest())
        for name in self._expected:
            if name not in self._names:
                self.differences.note(name, MISSING)
            elif name not in (_MANIFEST, _SUMS):
                self._compare_file(name, check)
        others = [name for name in self._names if name not in self._expected and name != MEDIA_DIRECTORY]
        if self.manifest.format == PAGES_FORMAT or self._sums.page_files:
            self._compare_pages(others, check)
            self._compare_media(check)
            return
        self._compare_posts()
        if self._expected.keys() - {_MANIFEST, _SUMS}:
            for name in others:
                self.differences.note(name, EXTRA, extra=True)
            self._compare_media(check)

    def _compare_pages(self, others: list[str], check: Callable[[], None]) -> None:
        """Compare the files of pages, which *others* must lead to, if SHA256SUMS is there."""
        if _SUMS in self._names:
            pages = Pages(self._directory, self.differences, self._counters, check)
            pages.compare(others, self.manifest.pages, self.manifest.posts, sums_are_valid=not self._sums.problems)
            self.html_pages = pages.number

    def _compare_media(self, check: Callable[[], None]) -> None:
        if MEDIA_DIRECTORY in self._names:
            media = MediaFiles(self._directory, self.differences, self._counters, check)
            media.compare(self.manifest.media_files, self._sums.media_files)
        elif self.manifest.media_files:
            self.differences.note(MEDIA_DIRECTORY, MISSING)

    def _compare_posts(self) -> None:
        """Compare the number of posts, if all data files could be read."""
        expected = self.manifest.posts
        if expected not in (None, self._posts_read) and self._data_files == self._read_files:
            name = self.manifest.data_files[0] if len(self._data_files) == 1 else "the data files"
            self.differences.note(name, f"the number of posts is {self._posts_read:,}; {_MANIFEST} says {expected:,}")

    def _posts_of(self, name: str, format: str) -> Posts:
        reader: Reader
        try:
            reader = READERS[format].reader(
                self.manifest.settings, lambda: os.fdopen(self._directory.open(name), "rb"), self._keys
            )
        except MissingExtraError as error:
            if self._keys is not None:
                raise
            reader, self.missing_extra = Unread(), error
        compression = self.manifest.compression
        return Posts(reader, self._counters, compression.decompressor() if compression is not None else None)

    def _compare_file(self, name: str, check: Callable[[], None]) -> None:
        """Read a file once, from beginning to end, and compare it with its expected size and checksum."""
        posts = None
        if name in self._data_files and self.manifest.format is not None:
            posts = self._posts_of(name, self.manifest.format)
        size = 0
        with self.differences.noting(name), contextlib.ExitStack() as closing:
            digest = Digest()
            closing.callback(digest.end)
            for block in blocks(self._directory, name):
                check()
                size += len(block)
                digest.begin(block)
                if posts is not None:
                    posts.read(block)
            self._compare_bytes(name, size, digest.hexdigest())
            if posts is not None:
                posts.finish()
                self.differences.note(name, *posts.problems)
                self._posts_read += posts.posts
                if not posts.problems and self.missing_extra is None:
                    self._read_files.add(name)

    def _compare_bytes(self, name: str, size: int, sha256: str) -> None:
        expected = self._expect(name)
        if expected.bytes not in (None, size):
            self.differences.note(name, f"has {size:,} bytes; {_MANIFEST} says {expected.bytes:,}")
        if not expected.sha256:
            return
        self.checksums.append(Checksum(name, size, sha256))
        wrong = [who for who, checksum in expected.sha256.items() if checksum != sha256]
        if len(wrong) < len(expected.sha256):
            # The other one agrees with the file.
            for who in wrong:
                self.differences.note(who, f"says that the SHA-256 of {name} is {expected.sha256[who]}; it is {sha256}")
        else:
            for checksum in dict.fromkeys(expected.sha256.values()):
                say = " and ".join(who for who in wrong if expected.sha256[who] == checksum)
                self.differences.note(name, f"has the SHA-256 {sha256}; according to {say} it is {checksum}")

    def unverified(self) -> list[str]:
        """The files without a checksum."""
        if self.manifest.checksums is not None:
            return []
        files = [name for name, expected in self._expected.items() if not expected.sha256 and name != _SUMS]
        return [*files, MEDIA_DIRECTORY] if self.manifest.media_files > self._sums.media_files else files

    def _small_file(self, name: str) -> bytes | None:
        """The content of a file; None if it cannot be read (noted here) or is missing (noted later)."""
        if name not in self._names:
            return None
        content = bytearray()
        with self.differences.noting(name):
            for block in blocks(self._directory, name):
                content += block
                if len(content) > MAX_CLAIMS_BYTES:
                    self.differences.note(
                        name, f"is larger than {format_size(MAX_CLAIMS_BYTES)}, the limit for this file"
                    )
                    return None
            self._small_files[name] = bytes(content)
        return self._small_files.get(name)
