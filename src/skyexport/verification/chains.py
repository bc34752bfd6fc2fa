"""The exports in a directory, and the chains that they form: a full export and its increments are a chain.

Only manifests decide. An increment names the exports before it by the SHA-256 of their manifests, so the order of a
chain depends neither on names of directories nor on a clock.
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

from skyexport.errors import NoExportError
from skyexport.layout import CLAIMS, EXPORT_NAME, MAX_CLAIMS_BYTES
from skyexport.runtime.export_directory import ExportDirectory

__all__ = [
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


_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class FoundExport:
    """An export directory, as its manifest describes it; nothing is verified."""

    directory: Path
    manifest_sha256: str
    made: datetime
    """When it was made, in UTC."""
    source: Mapping[str, object]
    """The archive and its state, from `manifest.source_of`."""
    options: Mapping[str, object]
    """The options, from `Resolved.of_the_output`."""
    earlier: tuple[str, ...]
    """SHA-256 of the manifests before an increment, oldest first; empty for a full export."""

    @classmethod
    def read(cls, directory: Path) -> FoundExport | None:
        """Read the export in *directory*, which may come from a stranger; None if its manifest lacks anything."""
        try:
            with ExportDirectory(directory) as opened:
                return cls.of(directory, opened.read("manifest.json", MAX_CLAIMS_BYTES))
        except (OSError, ValueError, NoExportError):
            return None

    @classmethod
    def of(cls, directory: Path, content: bytes) -> FoundExport | None:
        """The export in *directory* whose manifest was read already; None if the manifest lacks anything."""
        try:
            manifest: Any = orjson.loads(content)
            if not isinstance(manifest, dict):
                return None
            made = datetime.fromisoformat(manifest["export_timestamp"]).astimezone(UTC)
            earlier = earlier_manifests(manifest)
        except (ValueError, KeyError, TypeError, OverflowError):
            return None
        source, options = manifest.get("source"), manifest.get("options")
        if not isinstance(source, dict) or not isinstance(options, dict):
            return None
        return cls(directory, hashlib.sha256(content).hexdigest(), made, source, options, earlier)


@dataclass(frozen=True, slots=True)
class Chain:
    """A full export and its increments, oldest first; each increment follows all exports that it builds on."""

    exports: Sequence[FoundExport]

    @property
    def directories(self) -> tuple[Path, ...]:
        """Their directories, oldest first."""
        return tuple(export.directory for export in self.exports)


def earlier_manifests(manifest: Mapping[str, object]) -> tuple[str, ...]:
    """SHA-256 of the manifests before an increment, oldest first; empty for a full export.

    Raises:
        ValueError: `since_export` in *manifest* is not valid.
    """
    exports = manifest.get("since_export", [])
    if not isinstance(exports, list):
        raise ValueError("since_export is not a list")
    checksums = []
    for export in exports:
        match export:
            case {"manifest_sha256": str(sha256)} if _SHA256.fullmatch(sha256):
                checksums.append(sha256)
            case _:
                raise ValueError("since_export has an entry without the SHA-256 of a manifest")
    return tuple(checksums)


def exports_in(place: Path) -> list[FoundExport]:
    """The exports in the directory of an author, newest first; empty if there are none."""
    try:
        directories = [path for path in place.iterdir() if EXPORT_NAME.fullmatch(path.name)]
    except OSError:
        return []
    exports = [export for export in map(FoundExport.read, directories) if export is not None]
    return sorted(exports, key=lambda export: (export.made, export.directory.name), reverse=True)


def chains(exports: Iterable[FoundExport], archive: object, options: Mapping[str, object]) -> list[Chain]:
    """The chains of one archive with one set of options, newest full export first.

    Args:
        exports: The exports of one directory.
        archive: The archive's path, as `manifest.source_of` has it.
        options: The options, as `Resolved.of_the_output` has them.
    """
    own: dict[str, FoundExport] = {}
    for export in sorted(exports, key=lambda export: (export.made, export.directory.name)):
        if export.source.get("path") == archive and export.options == options:
            # A copy counts as the same export.
            own.setdefault(export.manifest_sha256, export)
    own_chains = []
    for full in own.values():
        if full.earlier:
            continue
        members = {full.manifest_sha256: full}
        waiting = [export for export in own.values() if full.manifest_sha256 in export.earlier]
        while ready := [export for export in waiting if members.keys() >= set(export.earlier)]:
            members[ready[0].manifest_sha256] = ready[0]
            waiting.remove(ready[0])
        own_chains.append(Chain(tuple(members.values())))
    return own_chains[::-1]


def is_export(directory: Path) -> bool:
    """Whether a directory has both files that mark an export."""
    return all(os.path.lexists(directory / name) for name in CLAIMS)


def enclosing_export(path: Path) -> Path | None:
    """The export directory that *path* is or lies in; None if there is none. *path* need not exist."""
    place = path.resolve()
    return next((directory for directory in (place, *place.parents) if is_export(directory)), None)


def export_near(directory: Path) -> Path | None:
    """An export below *directory*, which may be an author's directory or the one of all exports; None without one."""
    with contextlib.suppress(OSError):
        for pattern in ("*/manifest.json", "*/*/manifest.json", "*/*/*/manifest.json"):
            for manifest in directory.glob(pattern):
                if EXPORT_NAME.fullmatch(manifest.parent.name):
                    return manifest.parent
    return None


def exports_below(directory: Path, fail: Callable[[Path, str], None]) -> Iterator[Path]:
    """Every export directory below *directory*, itself included, in the order of their paths.

    A directory counts if it has a manifest, checksums, or the name of an export: an export that has lost both files
    must be noticed. Links and hidden directories are not followed, and exports are not searched for other exports.

    Args:
        directory: Where to look.
        fail: Called with a directory that cannot be read, and the reason; the search goes on.
    """

    def unreadable(error: OSError) -> None:
        fail(Path(error.filename), error.strerror or str(error))

    for path, directories, files in os.walk(directory, onerror=unreadable):
        if EXPORT_NAME.fullmatch(Path(path).name) or any(name in files or name in directories for name in CLAIMS):
            directories.clear()
            yield Path(path)
        directories[:] = sorted(name for name in directories if not name.startswith("."))
