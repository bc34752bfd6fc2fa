"""Authors: the DID that a handle means, and the handle of an author.

A post has only the DID of its author. bskyarchive records handles in two tables: a row of `profiles` each time it looks
at a profile, and a row of `sessions` for each account that is logged in. Handles change, and may pass to another
author: the latest row decides. Only the columns named here are read from these tables, and only while a function of
this module runs.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import apsw

from skyexport import json_text
from skyexport.archive.authorizer import Authorizer
from skyexport.archive.source import as_number
from skyexport.errors import ArchiveChangedError, AuthorError
from skyexport.options.values import is_did, parse_author
from skyexport.posts import StoredValue, as_bytes, stored_time

__all__ = [
    "HANDLES",
    "PEOPLE",
    "Author",
    "ChosenAuthor",
    "check_author",
    "copy_handles",
    "each_author",
    "find_author",
    "instant_of",
    "tables_of_people",
]

HANDLES = "profiles"
"""Table of a private copy with the handles from both tables."""

PEOPLE = {"profiles": "snapshot_at", "sessions": "created_at"}
"""Table with people → its column with the time of a row."""
_READABLE = {table: frozenset({"did", "handle", time}) for table, time in PEOPLE.items()}

_LONGEST_HANDLE_BYTES = 300
"""No handle is longer, even with an `@` before it."""
_LONGEST_DID_BYTES = 2048
_LONGEST_TIME_BYTES = 200

_SHOWN_NAMES = 3
"""Most authors that an error names."""
_COMPARED_NAMES = 2000
"""Most names to compare with, in search of a similar one: so many take some tenths of a second."""
_SIMILAR = 0.85
"""Least difflib ratio of a similar name: one letter in seven may differ."""

_ALL_OF_THEM = "`skyexport inspect ARCHIVE --authors` lists all"


@dataclass(frozen=True, slots=True)
class Author:
    """An author, with the number of posts."""

    did: str
    handle: str | None
    """The latest handle; None if the archive has none."""
    posts: int


@dataclass(frozen=True, slots=True)
class ChosenAuthor:
    """The author that the user asked for."""

    did: str
    handle: str | None = None
    """The handle that the user gave, in lower case; None if it was a DID."""
    others: tuple[str, ...] = ()
    """DIDs of other authors that had this handle before."""


def find_author(connection: apsw.Connection, schema: str, asked: str, path: str) -> ChosenAuthor:
    """Find an author.

    Args:
        connection: A restricted connection.
        schema: The archive's schema name there.
        asked: A DID or a handle.
        path: The archive's path, for messages.

    Raises:
        OptionError: *asked* is neither.
        AuthorError: The archive has no post by this author.
    """
    author = parse_author(asked)
    chosen = ChosenAuthor(author)
    if not is_did(author):
        with _handles(connection, schema) as handles:
            dids = _dids_of(connection, handles, author)
        if not dids:
            raise _not_found(f"no author in {path} has the handle {author}", connection, schema, author)
        chosen = ChosenAuthor(dids[0], author, tuple(dids[1:]))
    if not connection.execute(f"select 1 from {schema}.posts where did = ? limit 1", (chosen.did,)).fetchall():
        if chosen.others:
            hint = f"the handle belonged to {', '.join(chosen.others[:_SHOWN_NAMES])} before; {_ALL_OF_THEM}"
            raise AuthorError(f"{path} has no post by {author} ({chosen.did})", hint)
        who = author if is_did(author) else f"{author} ({chosen.did})"
        raise _not_found(f"{path} has no post by {who}", connection, schema, author)
    return chosen


def check_author(connection: apsw.Connection, schema: str, chosen: ChosenAuthor, path: str) -> None:
    """Make sure that *chosen* is still right in this state of the archive; arguments as for `find_author`.

    Raises:
        AuthorError: The archive no longer has a post by this author.
        ArchiveChangedError: The handle now belongs to another author.
    """
    now = find_author(connection, schema, chosen.handle or chosen.did, path)
    if now.did != chosen.did:
        raise ArchiveChangedError(
            f"the handle {chosen.handle} moved from {chosen.did} to {now.did} while {path} was read", "export again"
        )


def each_author(connection: apsw.Connection, largest: int = -1, offset: int = 0) -> Iterator[Author]:
    """Yield the authors of an archive's posts, those with the most posts first.

    Args:
        connection: A restricted connection, whose main database is the archive.
        largest: Most authors to yield; negative for all.
        offset: Authors to leave out first.
    """
    with _handles(connection, "main") as handles:
        has_handles = bool(connection.execute(f"select 1 from ({handles}) limit 1").fetchall())
        rows: Any = connection.execute(
            "select cast(did as blob), count(*) from posts group by did order by 2 desc, 1 limit ? offset ?",
            (largest, offset),
        )
        for stored, posts in rows:
            did = json_text.decode(as_bytes(stored))
            yield Author(did, _handle_of(connection, handles, did) if has_handles else None, as_number(posts))


def copy_handles(connection: apsw.Connection, schema: str) -> None:
    """Copy only the handles of *schema* into the table `HANDLES` of main."""
    with _handles(connection, schema) as handles:
        connection.execute(f"insert into main.{HANDLES} select did, handle, time from ({handles})")


@contextlib.contextmanager
def _handles(connection: apsw.Connection, schema: str) -> Iterator[str]:
    """SQL for all rows with a handle: did, handle, time. It works only inside the `with` block.

    See `tables_of_people` for what archives may have there.
    """
    selects = [
        f"select did, handle, {time} as time from {rows} and octet_length(handle) <= {_LONGEST_HANDLE_BYTES}"
        for columns, time, rows in tables_of_people(connection, schema)
        if "handle" in columns
    ]
    with Authorizer.reading_columns(connection, _READABLE):
        yield " union all ".join(selects or ["select null as did, null as handle, null as time limit 0"])


def tables_of_people(connection: apsw.Connection, schema: str) -> Iterator[tuple[set[str], str, str]]:
    """Yield the tables of `PEOPLE` that the archive has.

    An old archive may lack a table or a column, and a stranger's file may have anything under these names.

    Returns:
        The columns of a table, in lower case; SQL for the time of a row; and its rows with a DID: what follows `from`.
    """
    kinds = {str(row[1]).lower(): row[2] for row in connection.execute("pragma table_list") if row[0] == schema}
    for table, time in PEOPLE.items():
        if kinds.get(table) != "table":
            continue
        rows = connection.execute(f"pragma {schema}.table_xinfo({table})")
        columns = {str(row[1]).lower() for row in rows if not row[6]}
        if "did" in columns:
            when = f"iif(octet_length({time}) <= {_LONGEST_TIME_BYTES}, {time}, null)" if time in columns else "null"
            known = f"typeof(did) = 'text' and octet_length(did) <= {_LONGEST_DID_BYTES}"
            yield columns, when, f"{schema}.{table} where {known}"


_TIME_SQL = "iif(typeof(time) = 'integer', time, cast(time as blob))"


def _dids_of(connection: apsw.Connection, handles: str, handle: str) -> list[str]:
    """DIDs of the authors that had *handle*, the latest first."""
    rows: Any = connection.execute(
        f"select cast(did as blob), {_TIME_SQL} from ({handles}) where ltrim(handle, '@') = ? collate nocase", (handle,)
    )
    latest: dict[str, int] = {}
    for stored, time in rows:
        did = json_text.decode(as_bytes(stored))
        latest[did] = max(instant_of(time), latest.get(did, _NO_TIME))
    return sorted(latest, key=lambda did: (latest[did], did), reverse=True)


def _handle_of(connection: apsw.Connection, handles: str, did: str) -> str | None:
    """The latest handle of an author; None if there is none."""
    rows: Any = connection.execute(f"select cast(handle as blob), {_TIME_SQL} from ({handles}) where did = ?", (did,))
    dated_handles = [(instant_of(time), json_text.decode(as_bytes(handle))) for handle, time in rows]
    return max(dated_handles)[1].removeprefix("@") if dated_handles else None


_NO_TIME = -(10**30)


def instant_of(stored: StoredValue) -> int:
    """When an author had a handle, in nanoseconds since 1970; `_NO_TIME` if that cannot be read."""
    stamp = stored_time(stored)
    if stamp is None and isinstance(stored, bytes):
        # SQLite's own current_timestamp is in UTC, but has no offset.
        stamp = stored_time(stored + b"Z")
    return _NO_TIME if stamp is None else stamp.instant_nanoseconds()


def _not_found(message: str, connection: apsw.Connection, schema: str, author: str) -> AuthorError:
    """The error for an unknown author; the hint names the most similar known author."""
    if is_did(author):
        sql = f"select cast(did as blob) from {schema}.posts group by did order by count(*) desc limit ?"
        names = _names(connection, sql)
    else:
        with _handles(connection, schema) as handles:
            sql = f"select distinct cast(handle as blob) from ({handles}) where did in (select did from {schema}.posts)"
            names = _names(connection, f"{sql} order by 1 limit ?")
    near = difflib.get_close_matches(author, names, 1, _SIMILAR)
    if near:
        return AuthorError(message, f"did you mean {near[0]}? {_ALL_OF_THEM}")
    if not names:
        none = "the archive has no posts" if is_did(author) else "the archive has no handles: use a DID"
        return AuthorError(message, none)
    there = ", ".join(names[:_SHOWN_NAMES]) + (", …" if len(names) > _SHOWN_NAMES else "")
    return AuthorError(message, f"the archive has {there}; {_ALL_OF_THEM}")


def _names(connection: apsw.Connection, sql: str) -> list[str]:
    rows: Any = connection.execute(sql, (_COMPARED_NAMES,))
    return [json_text.decode(as_bytes(name)) for (name,) in rows]
