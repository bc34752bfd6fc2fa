"""Removing old exports: whole chains of the same archive and options, and nothing else.

The manifests of a chain and the names of its files decide. A directory with one file too many or too few stays, and so
does its chain. Each directory first gets a hidden name, so that half of an export never has the name of a whole one.
The next run removes what is left under hidden names.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from skyexport.errors import AlreadyRunningError, ExportError, NoExportError, OutputError
from skyexport.layout import MEDIA_DIRECTORY, author_directory
from skyexport.options.export_options import Resolved
from skyexport.output.places import place_lock, retire
from skyexport.runtime.disk import as_output_error
from skyexport.runtime.export_directory import ExportDirectory
from skyexport.verification.chains import Chain, FoundExport, chains, exports_in
from skyexport.verification.claims import media_sum, page_sum, read_sums
from skyexport.verification.pages import ListedTree
from skyexport.wording import path_text

__all__ = ["old_chains", "remove_export", "remove_old_chains"]

_SUMS = "SHA256SUMS"
_LONGEST_LINE_BYTES = 1000
"""Length of a line of SHA256SUMS; a longer line is cut, and then names no file."""


def old_chains(resolved: Resolved, did: str | None, archive: Path, new: Path | None) -> list[Chain]:
    """The chains of an archive beyond the number to keep, oldest first.

    A chain stays if an export that stays depends on it.

    Args:
        resolved: The options, with `keep`.
        did: DID of the author; None for all authors.
        archive: Path of the archive, without links.
        new: The export that was just made; its chain always stays. None if it is still to be made.
    """
    keep = resolved.options.keep
    assert keep is not None
    exports = exports_in(author_directory(resolved.output_dir, did))
    own = chains(exports, path_text(archive), resolved.of_the_output(did))
    current = [chain for chain in own if new in chain.directories]
    if new is None and resolved.options.since_last:
        current = own[:1]
    others = [chain for chain in own if chain not in current]
    # The chain of the new export is one of those to keep; an export that is in no chain here does not count.
    old = others[keep - (1 if current or new is None else 0) :]
    going = {export.directory for chain in old for export in chain.exports}
    needed = {sha256 for export in exports if export.directory not in going for sha256 in export.earlier}
    return [chain for chain in old[::-1] if needed.isdisjoint(export.manifest_sha256 for export in chain.exports)]


def remove_old_chains(
    resolved: Resolved, did: str | None, archive: Path, new: Path, say: Callable[[str], None]
) -> list[Path]:
    """Remove the chains beyond the number to keep.

    Args:
        resolved: The options, with `keep`.
        did: DID of the author; None for all authors.
        archive: Path of the archive, without links.
        new: The export that was just made and verified.
        say: Called with a line for each removed directory, and with the reason if one stays.

    Returns:
        The directories that were removed.
    """
    place = author_directory(resolved.output_dir, did)
    lock = place_lock(place)
    try:
        lock.take()
    except (AlreadyRunningError, OSError) as error:
        why = error.message if isinstance(error, ExportError) else error.strerror
        say(f"note: no old export was removed from {place}: {why}")
        return []
    removed = []
    try:
        if not lock.alone:
            say(f"note: no old export was removed: the file system of {place} has no locks")
            return []
        for chain in old_chains(resolved, did, archive, new):
            if odd := next(filter(None, map(_why_not, chain.exports)), None):
                say(f"note: not removed: {odd}")
                continue
            # Newest first: if this is stopped, the rest is still a chain.
            for export in reversed(chain.exports):
                try:
                    retire(export.directory, lock, sync=resolved.options.sync)
                except OSError as error:
                    say(f"note: cannot remove {export.directory}: {error.strerror}")
                    break
                say(f"removed {export.directory}")
                removed.append(export.directory)
    finally:
        lock.release()
    return removed


def remove_export(export: FoundExport) -> None:
    """Remove one export, if it is complete, has no other files, and is what *export* says.

    Args:
        export: As it was read when the user saw it.

    Raises:
        AlreadyRunningError: Another export is writing beside it.
        OutputError: It is not complete, has changed, or cannot be removed; it stays as it is.
    """
    place = export.directory.parent
    lock = place_lock(place)
    with as_output_error(place), lock:
        if odd := _why_not(export):
            raise OutputError(f"not removed: {odd}", "look at it, and remove it by hand")
        if not lock.alone:
            raise OutputError(f"not removed: the file system of {place} has no locks", "remove it by hand")
        retire(export.directory, lock, sync=True)


def _why_not(export: FoundExport) -> str | None:
    """The reason not to remove a directory; None for an export with all its files and no others."""
    if export.directory.is_symlink():
        return f"{export.directory} is a link"
    try:
        with ExportDirectory(export.directory) as opened:
            media: set[str] = set()
            pages: list[str] = []
            with os.fdopen(opened.open(_SUMS), "rb") as file:
                sums = read_sums(_lines(file, media, pages), pages=True)
            if sums.files.get("manifest.json") != export.manifest_sha256:
                return f"{export.directory} has a manifest that does not match its {_SUMS}"
            expected = {_SUMS, *sums.files, *([MEDIA_DIRECTORY] if media else ())}
            there = opened.names()
            differing = _differing(expected, [name for name in there if not pages or name in expected], "")
            if pages and not differing:
                differing = _differing_pages(pages, opened, set(there) - expected)
            if media and not differing:
                with opened.subdirectory(MEDIA_DIRECTORY) as below:
                    differing = _differing(media, below.names(), f"{MEDIA_DIRECTORY}/")
    except (OSError, NoExportError) as error:
        return f"{export.directory}: {error}"
    return f"{export.directory} {differing}" if differing else None


def _lines(file: BinaryIO, media: set[str], pages: list[str]) -> Iterator[bytes]:
    """The lines of SHA256SUMS; adds the names of media files to *media*, and the paths of pages to *pages*."""
    while line := file.readline(_LONGEST_LINE_BYTES):
        if (named := media_sum(line)) is not None:
            media.add(named[0])
        elif (page := page_sum(line)) is not None:
            pages.append(page[0])
        yield line


def _differing_pages(paths: list[str], directory: ExportDirectory, names: set[str]) -> str:
    """The first file of pages that is extra or missing, in words; "" if there is none."""
    extra: list[str] = []
    wrong: list[str] = []
    with ListedTree(directory, names, extra.append, lambda path, why: wrong.append(f"lacks {path}: {why}")) as tree:
        for path in paths:
            place = tree.place_of(path)
            if place is not None and not place[0].has_file(place[1]):
                return f"lacks {path}"
            if wrong:
                return wrong[0]
    return f"has {extra[0]}, which is not part of the export" if extra else ""


def _differing(expected: set[str], names: list[str], prefix: str) -> str:
    """The first file that is extra or missing, in words; "" if there is none."""
    if extra := sorted(set(names) - expected):
        return f"has {prefix}{extra[0]}, which is not part of the export"
    if missing := sorted(expected - set(names)):
        return f"lacks {prefix}{missing[0]}"
    return ""
