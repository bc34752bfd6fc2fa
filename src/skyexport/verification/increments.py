"""The posts of earlier exports, for an export of the posts that are new since then.

The earlier exports are verified, and their posts are read into a table of a private database: uri, cid, and indexed_at
of each as it is written there. That database is attached to the connection that holds the archive's state, and SQLite
compares: two values are equal if an export would write them the same. Neither side is ever in memory as a whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import apsw
import orjson

from skyexport.archive.authorizer import Authorizer
from skyexport.archive.source import reading
from skyexport.errors import Difference, OptionError, UnrelatedExportError, VerifyError
from skyexport.formats.compression import Compression
from skyexport.json_text import decode
from skyexport.layout import author_directory
from skyexport.options.export_options import Resolved
from skyexport.posts import StoredValue, as_bytes, stored_value_sql, usual_time, usual_time_seconds
from skyexport.runtime.export_directory import ExportDirectory
from skyexport.runtime.progress import Counters
from skyexport.runtime.scratch import Scratch
from skyexport.verification.chains import chains, earlier_manifests, exports_in
from skyexport.verification.claims import MAX_CLAIMS_BYTES
from skyexport.verification.post_keys import LONGEST_VALUE_BYTES, EarlierPost, comparable, earlier_posts
from skyexport.verification.result import Verification
from skyexport.verification.verifier import read_back
from skyexport.wording import path_text

__all__ = ["Disappeared", "EarlierExport", "EarlierPosts", "may_be_table", "with_last_chain"]

_BLOCK_BYTES = 1 << 20
_CACHE_KIB = 16_000
"""Page cache while the table is filled. It can be small: exports have nearly the same order as the table."""

_MOST_DISAPPEARED = 100_000
"""More posts than ever disappear between two exports; if there are more, the archive is another one."""

_MOST_DISAPPEARED_BYTES = 15_000_000
"""Size of all of them together in a manifest, so that the whole manifest stays below `MAX_CLAIMS_BYTES`."""

_AROUND_URI_BYTES = len("    ,\n")

_LONGEST_URI = 1000
"""Characters of a listed uri; longer uris are only counted."""

_ATTACHED = "earlier"
_TABLE = "seen_posts"
_KEY = "sky_comparable"
_TIME = "sky_comparable_time"
_SECOND = "sky_comparable_second"
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
    """The posts of earlier exports, in a private database that `close` removes; a `Narrowing`.

    Args:
        directories: A full export and then its increments, oldest first; or several independent exports.
        counters: `read_back_bytes` grows.
        check: Called now and then; an exception from it ends the reading.

    Raises:
        NoExportError: One of them is missing or not an export.
        VerifyError: One of them does not match its manifest.
        OptionError: One of them cannot be compared with an archive, or does not belong here.
        OutputError: There is no room for the database.
    """

    def __init__(self, directories: Sequence[Path], counters: Counters, check: Callable[[], None]) -> None:
        self.exports: list[EarlierExport] = []
        self.sources: dict[Path, str] = {}
        """Directory of an export → the path of its archive, if its manifest has one."""
        self._counters = counters
        self._full_exports: list[Path] = []
        self._full_export_of: dict[str, int] = {}
        """SHA-256 of a manifest → the number of the full export that this export is, or is an increment to."""
        self._scratch = Scratch()
        self._path = self._scratch.path / "earlier.db"
        try:
            os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            with reading(str(self._path)), contextlib.closing(apsw.Connection(str(self._path))) as connection:
                connection.pragma("journal_mode", "off")
                connection.pragma("synchronous", 0)
                connection.pragma("cache_size", -_CACHE_KIB)
                connection.execute(
                    f"create table {_TABLE} (seen_uri blob primary key, seen_cid blob, seen_time blob, to_second,"
                    " full_export) without rowid"
                )
                connection.execute("begin")
                for directory in directories:
                    self._read(directory, connection, check)
                connection.execute("commit")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Remove the database. Calling this again does no harm."""
        self._scratch.close()

    def foreign(self, archive: Path) -> list[str]:
        """A note for each export that was made from another path than *archive*, which may have been moved since."""
        own = path_text(archive)
        return [
            f"note: {directory} was exported from {source}; posts only in that archive count as disappeared"
            for directory, source in self.sources.items()
            if source != own
        ]

    def _read(self, directory: Path, connection: apsw.Connection, check: Callable[[], None]) -> None:
        """Add the posts of one export to the table, without those that were gone when it was made."""
        verification = read_back(directory, self._counters, check, extra_files_allowed=True)
        with ExportDirectory(directory) as opened:
            export = self._read_manifest(directory, opened, verification, connection)
            full_export = self._full_export_of[export.manifest_sha256]
            posts = sum(
                self._read_file(directory, opened, name, verification, connection, full_export, check)
                for name in verification.data_files
            )
        if posts != verification.posts:
            raise OptionError(
                f"{directory} cannot be compared with an archive: its posts are not laid out as in an export",
                "name another export",
            )
        self.exports.append(export)

    def _read_file(
        self, directory: Path, opened: ExportDirectory, name: str, verification: Verification,
        connection: apsw.Connection, full_export: int, check: Callable[[], None],
    ) -> int:  # fmt: skip
        """Add the posts of one data file to the table; returns their number."""
        digest = hashlib.sha256()
        blocks = _blocks(opened, name, digest.update, check)
        plain = blocks if verification.compression is None else _decompressed(blocks, verification.compression)
        posts = _Counted(
            earlier_posts(verification.format, plain, verification.settings, lambda: os.fdopen(opened.open(name), "rb"))
        )
        to_second = verification.format in _TO_SECOND_FORMATS
        try:
            connection.executemany(
                f"insert or replace into {_TABLE} values (?, ?, ?, {to_second:d}, {full_export})",
                (post for post in posts if post[0] is not None),
            )
        except ValueError as error:
            raise OptionError(
                f"{directory} cannot be compared with an archive: in {name} {error}", "name another export"
            ) from None
        except OSError as error:
            raise _changed(directory, name) from error
        known = {checksum.name: checksum.sha256 for checksum in verification.checksums}
        if known.get(name, digest.hexdigest()) != digest.hexdigest():
            raise _changed(directory, name)
        return posts.count

    def _read_manifest(
        self, directory: Path, opened: ExportDirectory, verification: Verification, connection: apsw.Connection
    ) -> EarlierExport:
        """Remove the posts that were gone when the export was made; returns its entry for the next manifest.

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
        if not earlier:
            self._full_exports.append(directory)
        self._full_export_of[sha256] = self._full_export_of[earlier[0]] if earlier else len(self._full_exports) - 1
        match manifest.get("source"):
            case {"path": str(path)}:
                self.sources[directory] = path
        connection.executemany(
            f"delete from {_TABLE} where seen_uri = ?",
            ((uri.encode("utf-8", "surrogatepass"),) for uri in gone if isinstance(uri, str)),
        )
        return EarlierExport(decode(os.fsencode(directory.resolve().name)), sha256)

    def sql(self, schema: str) -> str:
        """SQL that is true for posts that are new or changed since the earlier exports."""
        del schema
        time = stored_value_sql({"indexed_at": "indexed_at"}, "indexed_at")
        return (
            f"not exists (select 1 from {_ATTACHED}.{_TABLE} where seen_uri = {_key_sql('uri')}"
            f" and seen_cid = {_key_sql('cid')}"
            f" and seen_time = iif(to_second, {_SECOND}({time}), {_TIME}({time})))"
        )

    def parameters(self) -> dict[str, str]:
        """An empty mapping: the SQL has no parameters."""
        return {}

    def prepare(self, connection: apsw.Connection) -> None:
        """Attach the table, and add the SQL functions that compare unusual values."""
        if _ATTACHED in connection.db_names():
            return
        authorizer = Authorizer.of(connection)
        authorizer.attach(connection, f"{self._path.as_uri()}?mode=ro&immutable=1", _ATTACHED)
        authorizer.allow_reading({_TABLE})
        functions: dict[str, Any] = {_KEY: _comparable, _TIME: _comparable_time, _SECOND: _comparable_second}
        for name, function in functions.items():
            connection.create_scalar_function(name, function, 1, deterministic=True)

    def disappeared(
        self, connection: apsw.Connection, schema: str, *, uri_index: bool, allow_unrelated: bool
    ) -> Disappeared:
        """The posts of earlier exports that *schema*.posts no longer has, in the state that the connection holds.

        Args:
            connection: A restricted connection.
            schema: The archive's schema name in the connection.
            uri_index: Whether the archive has an index on uri.
            allow_unrelated: Whether all posts of a full export and its increments may be gone.

        Raises:
            UnrelatedExportError: All posts of a full export and its increments are gone, and may not be.
            OptionError: Too many posts are gone.
        """
        self.prepare(connection)
        # The archive's own columns may have any other names.
        key = _key_sql("uri")
        keys = f"select {key} from {schema}.posts where {key} is not null"
        if uri_index:
            # A uri that is not found may be stored in other bytes, which an export writes the same.
            there = (
                f"exists (select 1 from {schema}.posts where uri = cast({_TABLE}.seen_uri as text)) or seen_uri in"
                f" ({keys} and not {_plain_sql('uri')})"
            )
        else:
            there = f"seen_uri in ({keys})"
        uris: list[str] = []
        size = unlisted = 0
        gone: Counter[int] = Counter()
        rows: Any = connection.execute(
            f"select seen_uri, full_export from {_ATTACHED}.{_TABLE} where not ({there}) order by seen_uri"
        )
        for key, full_export in rows:
            gone[full_export] += 1
            if len(uris) > _MOST_DISAPPEARED or size > _MOST_DISAPPEARED_BYTES:
                continue
            uri = decode(key)
            if len(uri) > _LONGEST_URI:
                unlisted += 1
                continue
            uris.append(uri)
            size += len(orjson.dumps(uri)) + _AROUND_URI_BYTES
        if not allow_unrelated:
            self._check_related(connection, gone)
        if len(uris) > _MOST_DISAPPEARED or size > _MOST_DISAPPEARED_BYTES:
            raise OptionError(
                f"{gone.total():,} posts of the earlier exports are no longer in the archive, too many for a list",
                "leave out --since-export or --since-last for a full export",
            )
        return Disappeared(uris, unlisted)

    def _check_related(self, connection: apsw.Connection, gone: Mapping[int, int]) -> None:
        """Check that the archive still has posts of each full export and its increments, if those have any.

        Args:
            connection: A connection with the table attached.
            gone: Number of a full export → posts of it and its increments that are not in the archive.
        """
        for full_export, posts in gone.items():
            had: Any = connection.execute(
                f"select count(*) from {_ATTACHED}.{_TABLE} where full_export = ?", (full_export,)
            ).get
            if posts == had:
                number = "its only post is not" if posts == 1 else f"none of its {posts:,} posts is"
                raise UnrelatedExportError(
                    f"{self._full_exports[full_export]} seems to be of another archive: {number} in this one",
                    "name exports of this archive, or use --allow-unrelated if all those posts are really gone",
                )


class _Counted:
    """Posts, counted as they are iterated."""

    def __init__(self, posts: Iterable[EarlierPost]) -> None:
        self._posts = posts
        self.count = 0

    def __iter__(self) -> Iterator[EarlierPost]:
        for post in self._posts:
            self.count += 1
            yield post


def _changed(directory: Path, name: str) -> VerifyError:
    called = decode(os.fsencode(directory))
    return VerifyError(called, [Difference(name, "has changed since it was verified, or is not valid in an export")])


def _decompressed(blocks: Iterable[bytes], compression: Compression) -> Iterator[bytes]:
    decompressor = compression.decompressor()
    for block in blocks:
        yield from decompressor.feed(block)


def _blocks(
    directory: ExportDirectory,
    name: str,
    see: Callable[[bytes], None],
    check: Callable[[], None],
) -> Iterator[bytes]:
    """A file from beginning to end."""
    descriptor = directory.open(name)
    try:
        left = os.fstat(descriptor).st_size
        while left > 0 and (block := os.read(descriptor, min(_BLOCK_BYTES, left))):
            check()
            left -= len(block)
            see(block)
            yield block
    finally:
        os.close(descriptor)


def _plain_sql(column: str) -> str:
    """SQL that is true for a short text of printable ASCII, which an export writes unchanged."""
    return (
        f"(typeof({column}) = 'text' and octet_length({column}) = length({column})"
        f" and octet_length({column}) <= {LONGEST_VALUE_BYTES} and {column} not glob '*[^ -~]*')"
    )


def _key_sql(column: str) -> str:
    """SQL for the comparable value of a text."""
    return f"iif({_plain_sql(column)}, cast({column} as blob), {_KEY}(cast({column} as blob)))"


def _comparable(stored: StoredValue) -> bytes | None:
    return comparable(as_bytes(stored))


def _comparable_time(stored: StoredValue) -> bytes | None:
    time = usual_time(stored)
    return comparable(as_bytes(stored)) if time is None else time.encode()


def _comparable_second(stored: StoredValue) -> bytes | None:
    time = usual_time_seconds(stored)
    return comparable(as_bytes(stored)) if time is None else time.encode()


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
    found = chains(exports_in(place), path_text(archive), resolved.of_the_output(did))
    if not found:
        say(f"{place} has no full export of this archive with these options: this one is full")
        return resolved
    directories = found[0].directories
    increments = len(directories) - 1
    and_more = (
        "" if not increments else " and its increment" if increments == 1 else f" and its {increments:,} increments"
    )
    say(f"increment to {directories[0]}{and_more}")
    return replace(resolved, since_export=tuple(directories))


def may_be_table(directory: Path) -> bool:
    """Whether the export in *directory* seems to be Parquet, which takes more memory to read."""
    return any((directory / name).exists() for name in ("posts.parquet", "posts-00001.parquet"))
