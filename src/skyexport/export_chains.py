"""The exports that lie in a place, and which of them belong together: a full export and its increments are a chain.

Everything goes by what manifests say. An increment names the exports before it by the SHA-256 of their manifests, so
the order of a chain needs no names of directories and no clock.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from skyexport.claims import MAX_CLAIMS_BYTES
from skyexport.errors import NoExportError
from skyexport.export_directory import ExportDirectory

__all__ = [
    "CLAIMS",
    "EXPORT_NAME",
    "Chain",
    "FoundExport",
    "chains",
    "earlier_manifests",
    "enclosing_export",
    "export_near",
    "exports_below",
    "exports_in",
    "is_export",
]

EXPORT_NAME = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d(?:-\d{1,9})?", re.ASCII)
"""The names of export directories."""

CLAIMS = ("manifest.json", "SHA256SUMS")
"""The files by which an export directory is known."""

_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class FoundExport:
    """An export directory, as its manifest describes it; nothing of it is verified."""

    directory: Path
    manifest_sha256: str
    made: datetime
    """When it was made, in UTC."""
    source: Mapping[str, object]
    """The archive and its state, as `manifest.source_of` has them."""
    options: Mapping[str, object]
    """As `ExportOptions.of_the_output` has them."""
    earlier: tuple[str, ...]
    """The SHA-256 of the manifests that an increment was made since, oldest first; empty for a full export."""

    @classmethod
    def read(cls, directory: Path) -> FoundExport | None:
        """The export in *directory*, which may be anybody's work; None where no manifest tells all of this."""
        try:
            with ExportDirectory(directory) as opened:
                content = opened.read("manifest.json", MAX_CLAIMS_BYTES)
            manifest: Any = orjson.loads(content)
            if not isinstance(manifest, dict):
                return None
            made = datetime.fromisoformat(manifest["export_timestamp"]).astimezone(UTC)
            earlier = earlier_manifests(manifest)
        except (OSError, ValueError, KeyError, TypeError, OverflowError, NoExportError):
            return None
        source, options = manifest.get("source"), manifest.get("options")
        if not isinstance(source, dict) or not isinstance(options, dict):
            return None
        return cls(directory, hashlib.sha256(content).hexdigest(), made, source, options, earlier)


@dataclass(frozen=True, slots=True)
class Chain:
    """A full export and its increments, oldest first; each increment follows all those that it was made since."""

    exports: Sequence[FoundExport]

    @property
    def directories(self) -> tuple[Path, ...]:
        """Where they are."""
        return tuple(export.directory for export in self.exports)


def earlier_manifests(manifest: Mapping[str, object]) -> tuple[str, ...]:
    """The SHA-256 of the manifests that an increment was made since, oldest first; empty for a full export.

    Raises:
        ValueError: The manifest says something else there.
    """
    exports = manifest.get("since_export", [])
    if not isinstance(exports, list):
        raise ValueError("since_export is not a list")
    found = []
    for export in exports:
        match export:
            case {"manifest_sha256": str(sha256)} if _SHA256.fullmatch(sha256):
                found.append(sha256)
            case _:
                raise ValueError("since_export has an entry without the SHA-256 of a manifest")
    return tuple(found)


def exports_in(place: Path) -> list[FoundExport]:
    """The exports in the directory of an author, newest first; empty where there are none."""
    try:
        directories = [path for path in place.iterdir() if EXPORT_NAME.fullmatch(path.name)]
    except OSError:
        return []
    found = [export for export in map(FoundExport.read, directories) if export is not None]
    return sorted(found, key=lambda export: (export.made, export.directory.name), reverse=True)


def chains(exports: Iterable[FoundExport], archive: object, options: Mapping[str, object]) -> list[Chain]:
    """The chains of one archive with one set of options, newest full export first.

    Args:
        exports: Those that lie in one place.
        archive: The path that `manifest.source_of` has for the archive.
        options: What `ExportOptions.of_the_output` has.
    """
    own: dict[str, FoundExport] = {}
    for export in sorted(exports, key=lambda export: (export.made, export.directory.name)):
        if export.source.get("path") == archive and export.options == options:
            # A copy of an export is no other export.
            own.setdefault(export.manifest_sha256, export)
    found = []
    for full in own.values():
        if full.earlier:
            continue
        members = {full.manifest_sha256: full}
        waiting = [export for export in own.values() if full.manifest_sha256 in export.earlier]
        while ready := [export for export in waiting if members.keys() >= set(export.earlier)]:
            members[ready[0].manifest_sha256] = ready[0]
            waiting.remove(ready[0])
        found.append(Chain(tuple(members.values())))
    return found[::-1]


def is_export(directory: Path) -> bool:
    """Whether a directory has both files by which an export is known."""
    return all(os.path.lexists(directory / name) for name in CLAIMS)


def enclosing_export(path: Path) -> Path | None:
    """The export directory that *path*, which need not exist, is or lies in; None where it lies in none."""
    place = path.resolve()
    return next((directory for directory in (place, *place.parents) if is_export(directory)), None)


def export_near(directory: Path) -> Path | None:
    """An export where there are some when the directory of an author, or that of all exports, was named instead."""
    with contextlib.suppress(OSError):
        for pattern in ("*/manifest.json", "*/*/manifest.json", "*/*/*/manifest.json"):
            for manifest in directory.glob(pattern):
                if EXPORT_NAME.fullmatch(manifest.parent.name):
                    return manifest.parent
    return None


def exports_below(directory: Path, fail: Callable[[Path, str], None]) -> Iterator[Path]:
    """Every export directory in *directory*, itself included, in the order of their paths.

    A directory counts that has a manifest or checksums, or the name of an export: one that has lost both must not be
    passed over. Links and hidden directories are not followed, and there is no export inside of an export.

    Args:
        directory: Where to look.
        fail: Called with a directory that cannot be looked into, and the reason; that does not end the search.
    """

    def unreadable(error: OSError) -> None:
        fail(Path(error.filename), error.strerror or str(error))

    for path, directories, files in os.walk(directory, onerror=unreadable):
        if EXPORT_NAME.fullmatch(Path(path).name) or any(name in files or name in directories for name in CLAIMS):
            directories.clear()
            yield Path(path)
        directories[:] = sorted(name for name in directories if not name.startswith("."))
