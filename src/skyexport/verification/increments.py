"""The posts of earlier exports, for an export of the posts that are new since then.

Each earlier export is read once: it is verified, and the keys of its posts are kept meanwhile (`SeenPosts`).
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import apsw
import orjson

from skyexport.archive.schema import Schema
from skyexport.errors import Difference, OptionError, UnrelatedExportError, VerifyError
from skyexport.json_text import decode
from skyexport.layout import MAX_CLAIMS_BYTES, author_directory
from skyexport.options.export_options import Resolved
from skyexport.runtime.export_directory import ExportDirectory
from skyexport.runtime.for_tests import Limit, reached
from skyexport.runtime.progress import Counters
from skyexport.verification.chains import chains, earlier_manifests, exports_in
from skyexport.verification.result import Verification
from skyexport.verification.seen_posts import SeenPosts
from skyexport.verification.verifier import read_back
from skyexport.wording import path_text

__all__ = ["Disappeared", "EarlierExport", "EarlierPosts", "with_last_chain"]

_MOST_DISAPPEARED = Limit("MOST_DISAPPEARED", 100_000)
"""More posts than ever disappear between two exports; if there are more, the archive is another one."""

_MOST_DISAPPEARED_BYTES = 15_000_000
"""Size of all of them together in a manifest, so that the whole manifest stays below `MAX_CLAIMS_BYTES`."""

_AROUND_URI_BYTES = len("    ,\n")

_LONGEST_URI = 1000
"""Characters of a listed uri; longer uris are only counted."""

_TO_SECOND_FORMATS = frozenset({"csv"})
"""Formats whose times are cut off to the second."""


@dataclass(frozen=True, slots=True)
class EarlierExport:
    """An earlier export, as a manifest lists it."""

    directory: str
    """Name of its directory."""
    manifest_sha256: str


@dataclass(frozen=True, slots=True)
class Disappeared:
    """Posts of the earlier exports that the archive no longer has."""

    uris: list[str]
    """The listed uris, sorted by their bytes."""
    unlisted: int
    """Number of further posts, whose uris are too long for the list."""

    @property
    def posts(self) -> int:
        """Number of all of them."""
        return len(self.uris) + self.unlisted


class EarlierPosts:
    """The posts of earlier exports, in a table that `close` removes; a `PostFilter`.

    Args:
        directories: A full export and then its increments, oldest first; or several independent exports.
        counters: `read_back_bytes` grows.
        check: Called now and then; an exception from it ends the reading.

    Raises:
        NoExportError: One of them is missing or not an export.
        VerifyError: One of them does not match its manifest.
        OptionError: One of them cannot be compared with an archive, or does not belong here.
        OutputError: There is no room for the table.
    """

    def __init__(self, directories: Sequence[Path], counters: Counters, check: Callable[[], None]) -> None:
        self.exports: list[EarlierExport] = []
        self.posts = 0
        """The number of posts in all of them."""
        self.sources: dict[Path, str] = {}
        """Directory of an export → the path of its archive, if its manifest has one."""
        self._chains: dict[str, list[int]] = {}
        """SHA-256 of a manifest → the numbers of its full export and the increments to that, which share one list."""
        self._directories = directories
        self._seen = SeenPosts()
        try:
            for number, directory in enumerate(directories):
                self._read(number, directory, counters, check)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Remove the table. Calling this again does no harm."""
        self._seen.close()

    def foreign(self, archive: Path) -> list[str]:
        """A note for each export that was made from another path than *archive*, which may have been moved since."""
        own = path_text(archive)
        return [
            f"note: {directory} was exported from {source}; posts only in that archive count as disappeared"
            for directory, source in self.sources.items()
            if source != own
        ]

    def _read(self, number: int, directory: Path, counters: Counters, check: Callable[[], None]) -> None:
        """Verify one export, and add its posts to the table meanwhile; remove those that were gone when it was made."""
        verification = read_back(
            directory, counters, check, extra_files_allowed=True, keys=partial(self._seen.add, number)
        )
        reached("verified")
        self.posts += verification.posts
        if verification.format in _TO_SECOND_FORMATS:
            self._seen.to_second(number)
        with ExportDirectory(directory) as opened:
            self._read_manifest(number, directory, opened, verification)

    def _read_manifest(self, number: int, directory: Path, opened: ExportDirectory, verification: Verification) -> None:
        """Read what the manifest says about other exports, and about posts that were gone.

        Raises:
            OptionError: It is an increment to an export that is not among those before it.
        """
        try:
            content = opened.read("manifest.json", MAX_CLAIMS_BYTES)
            manifest = orjson.loads(content)
            earlier, gone = earlier_manifests(manifest), manifest.get("disappeared", [])
        except (OSError, ValueError) as error:
            raise _changed(directory, "manifest.json") from error
        sha256 = hashlib.sha256(content).hexdigest()
        known = {checksum.name: checksum.sha256 for checksum in verification.checksums}
        if known.get("manifest.json", sha256) != sha256 or not isinstance(gone, list):
            raise _changed(directory, "manifest.json")
        if not {export.manifest_sha256 for export in self.exports}.issuperset(earlier):
            raise OptionError(
                f"{directory} is an increment to an export that is not named before it",
                "name the full export and all its increments with --since-export, oldest first",
            )
        self._chains[sha256] = self._chains[earlier[0]] if earlier else []
        self._chains[sha256].append(number)
        match manifest.get("source"):
            case {"path": str(path)}:
                self.sources[directory] = path
        self._seen.remove(uri for uri in gone if isinstance(uri, str))
        self.exports.append(EarlierExport(decode(os.fsencode(directory.resolve().name)), sha256))

    def sql(self, schema: str) -> str:
        """SQL that is true for posts that are new or changed since the earlier exports."""
        return self._seen.unseen_sql(schema)

    def parameters(self) -> dict[str, str]:
        """An empty mapping: the SQL has no parameters."""
        return {}

    def prepare(self, connection: apsw.Connection) -> None:
        """Let the connection read what `disappeared` found; nothing before that."""
        self._seen.prepare(connection)

    def disappeared(
        self, connection: apsw.Connection, schema: str, archive: Schema, *, allow_unrelated: bool
    ) -> Disappeared:
        """The posts of earlier exports that *schema*.posts no longer has, in the state that the connection holds.

        After this, `sql` compares with that state.

        Args:
            connection: A restricted connection.
            schema: The archive's schema name in the connection.
            archive: The archive's tables and indexes.
            allow_unrelated: Whether all posts of a full export and its increments may be gone.

        Raises:
            UnrelatedExportError: All posts of a full export and its increments are gone, and may not be.
            OptionError: Too many posts are gone.
        """
        self._seen.compare(connection, schema, archive.created_at_index)
        uris: list[str] = []
        most, size, unlisted = _MOST_DISAPPEARED.value, 0, 0
        gone: Counter[int] = Counter()
        for uri, number in self._seen.gone(connection, schema, uri_index=archive.uri_index is not None):
            gone[number] += 1
            if len(uris) > most or size > _MOST_DISAPPEARED_BYTES:
                continue
            if len(uri) > _LONGEST_URI:
                unlisted += 1
                continue
            uris.append(uri)
            size += len(orjson.dumps(uri)) + _AROUND_URI_BYTES
        if not allow_unrelated:
            self._check_related(connection, gone)
        if len(uris) > most or size > _MOST_DISAPPEARED_BYTES:
            raise OptionError(
                f"{gone.total():,} posts of the earlier exports are no longer in the archive, too many for a list",
                "leave out --since-export or --since-last for a full export",
            )
        return Disappeared(uris, unlisted)

    def _check_related(self, connection: apsw.Connection, gone: Mapping[int, int]) -> None:
        """Check that the archive still has posts of each full export and its increments, if those have any.

        Args:
            connection: A connection with the table attached.
            gone: Number of an export → posts of it that are not in the archive.
        """
        for numbers in {numbers[0]: numbers for numbers in self._chains.values()}.values():
            posts = sum(gone[number] for number in numbers)
            if posts and posts == self._seen.count(connection, numbers):
                there = "its only post is not" if posts == 1 else f"none of its {posts:,} posts is"
                raise UnrelatedExportError(
                    f"{self._directories[numbers[0]]} seems to be of another archive: {there} in this one",
                    "name exports of this archive, or use --allow-unrelated if all those posts are really gone",
                )


def _changed(directory: Path, name: str) -> VerifyError:
    display_path = decode(os.fsencode(directory))
    return VerifyError(
        display_path, [Difference(name, "has changed since it was verified, or is not valid in an export")]
    )


def with_last_chain(resolved: Resolved, did: str | None, archive: Path, say: Callable[[str], None]) -> Resolved:
    """Replace *since_last* with the exports of the newest chain in the output directory.

    Args:
        resolved: The options, with or without *since_last*.
        did: DID of the author; None for all authors.
        archive: Path of the archive, without links.
        say: Called with a line that names the chain, or says that there is none.
    """
    if not resolved.options.since_last:
        return resolved
    place = author_directory(resolved.output_dir, did)
    own_chains = chains(exports_in(place), path_text(archive), resolved.of_the_output(did))
    if not own_chains:
        say(f"{place} has no full export of this archive with these options: this one is full")
        return resolved
    directories = own_chains[0].directories
    increments = len(directories) - 1
    and_more = (
        "" if not increments else " and its increment" if increments == 1 else f" and its {increments:,} increments"
    )
    say(f"increment to {directories[0]}{and_more}")
    return replace(resolved, since_export=tuple(directories))
