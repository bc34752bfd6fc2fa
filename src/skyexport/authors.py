"""Authors: which DID a handle means, and which handle an author has.

Posts have the DID of their author only. bskyarchive notes handles in two tables: a row of `profiles` each time that it
looks at a profile, and a row of `sessions` for each account that is logged in. Handles change, and may become those of
another author: the latest row decides. Nothing but the columns named here is read of these tables, and only as long as
a function of this module runs.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import apsw

from skyexport import json_text
from skyexport.errors import ArchiveChangedError, AuthorError
from skyexport.formats.base import StoredValue, as_bytes, stored_time
from skyexport.options import is_did, parse_author
from skyexport.source import Authorizer, as_number

__all__ = ["HANDLES", "Author", "ChosenAuthor", "check_author", "copy_handles", "each_author", "find_author"]

HANDLES = "profiles"
"""The table of a private copy that has the handles of both."""

_TIMES = {"profiles": "snapshot_at", "sessions": "created_at"}
"""Table → its column that says when an author had the handle."""
_READABLE = {table: frozenset({"did", "handle", time}) for table, time in _TIMES.items()}

_LONGEST_HANDLE_BYTES = 300
"""No handle is longer, nor an `@` before it."""
_LONGEST_DID_BYTES = 2048
_LONGEST_TIME_BYTES = 200

_SHOWN_NAMES = 3
"""Authors that an error names."""
_COMPARED_NAMES = 2000
"""Authors among which a similar one is looked for, the largest first: comparing them takes some tenths of a second."""
_SIMILAR = 0.85
"""Of a ratio as difflib has it: one letter of seven may be another."""

_ALL_OF_THEM = "`skyexport inspect ARCHIVE --authors` lists all"


@dataclass(frozen=True, slots=True)
class Author:
    """How much one author wrote."""

    did: str
    handle: str | None
    """The latest; None where the archive has none."""
    posts: int


@dataclass(frozen=True, slots=True)
class ChosenAuthor:
    """The author that was asked for."""

    did: str
    handle: str | None = None
    """As it was asked for, in lower case; None where a DID was asked for."""
    others: tuple[str, ...] = ()
    """DIDs of other authors that had this handle before."""


def find_author(connection: apsw.Connection, schema: str, asked: str, path: str) -> ChosenAuthor:
    """The author that somebody asks for.

    Args:
        connection: A restricted one.
        schema: What the archive is called there.
        asked: A DID or a handle.
        path: What messages call the archive.

    Raises:
        OptionError: *asked* is neither.
        AuthorError: The archive has no post by this author.
    """
    author = parse_author(asked)
    chosen = ChosenAuthor(author)
    if not is_did(author):
        with _handles(connection, schema) as handles:
            found = _dids_of(connection, handles, author)
        if not found:
            raise _not_found(f"no author in {path} has the handle {author}", connection, schema, author)
        chosen = ChosenAuthor(found[0], author, tuple(found[1:]))
    if not connection.execute(f"select 1 from {schema}.posts where did = ? limit 1", (chosen.did,)).fetchall():
        if chosen.others:
            hint = f"the handle was that of {', '.join(chosen.others[:_SHOWN_NAMES])} before; {_ALL_OF_THEM}"
            raise AuthorError(f"{path} has no post by {author}, which is {chosen.did}", hint)
        who = author if is_did(author) else f"{author}, which is {chosen.did}"
        raise _not_found(f"{path} has no post by {who}", connection, schema, author)
    return chosen


def check_author(connection: apsw.Connection, schema: str, chosen: ChosenAuthor, path: str) -> None:
    """Make sure that *chosen* is the author in this state of the archive, too; arguments as for `find_author`.

    Raises:
        AuthorError: There is no post by this author any more.
        ArchiveChangedError: The handle has become that of another author.
    """
    now = find_author(connection, schema, chosen.handle or chosen.did, path)
    if now.did != chosen.did:
        raise ArchiveChangedError(
            f"the handle {chosen.handle} went from {chosen.did} to {now.did} while {path} was read", "export again"
        )


def each_author(connection: apsw.Connection, largest: int = -1) -> Iterator[Author]:
    """The authors of an archive's posts, the largest first, found one by one.

    Args:
        connection: A restricted one, whose main database is the archive.
        largest: At most so many; all when negative.
    """
    with _handles(connection, "main") as handles:
        has_handles = bool(connection.execute(f"select 1 from ({handles}) limit 1").fetchall())
        rows: Any = connection.execute(
            "select cast(did as blob), count(*) from posts group by did order by 2 desc, 1 limit ?", (largest,)
        )
        for stored, posts in rows:
            did = json_text.decode(as_bytes(stored))
            yield Author(did, _handle_of(connection, handles, did) if has_handles else None, as_number(posts))


def copy_handles(connection: apsw.Connection, schema: str) -> None:
    """Copy what *schema* says of handles, and nothing else of these tables, into the table `HANDLES` of main."""
    with _handles(connection, schema) as handles:
        connection.execute(f"insert into main.{HANDLES} select did, handle, time from ({handles})")


@contextlib.contextmanager
def _handles(connection: apsw.Connection, schema: str) -> Iterator[str]:
    """SQL for all rows with a handle: did, handle, time. It can be asked inside of a `with` block only.

    Old archives may lack a table or a column, and a stranger's have anything under these names.
    """
    kinds = {str(row[1]).lower(): row[2] for row in connection.execute("pragma table_list") if row[0] == schema}
    selects = []
    for table, time in _TIMES.items():
        if kinds.get(table) != "table":
            continue
        rows = connection.execute(f"pragma {schema}.table_xinfo({table})")
        columns = {str(row[1]).lower() for row in rows if not row[6]}
        if {"did", "handle"} <= columns:
            when = f"iif(octet_length({time}) <= {_LONGEST_TIME_BYTES}, {time}, null)" if time in columns else "null"
            selects.append(
                f"select did, handle, {when} as time from {schema}.{table} where typeof(did) = 'text'"
                f" and octet_length(did) <= {_LONGEST_DID_BYTES} and octet_length(handle) <= {_LONGEST_HANDLE_BYTES}"
            )
    with Authorizer.reading_columns(connection, _READABLE):
        yield " union all ".join(selects or ["select null as did, null as handle, null as time limit 0"])


_TIME_SQL = "iif(typeof(time) = 'integer', time, cast(time as blob))"


def _dids_of(connection: apsw.Connection, handles: str, handle: str) -> list[str]:
    """The authors that had a handle, the latest first."""
    rows: Any = connection.execute(
        f"select cast(did as blob), {_TIME_SQL} from ({handles}) where ltrim(handle, '@') = ? collate nocase", (handle,)
    )
    latest: dict[str, int] = {}
    for stored, time in rows:
        did = json_text.decode(as_bytes(stored))
        latest[did] = max(_instant(time), latest.get(did, _NO_TIME))
    return sorted(latest, key=lambda did: (latest[did], did), reverse=True)


def _handle_of(connection: apsw.Connection, handles: str, did: str) -> str | None:
    """The latest handle of an author."""
    rows: Any = connection.execute(f"select cast(handle as blob), {_TIME_SQL} from ({handles}) where did = ?", (did,))
    found = [(_instant(time), json_text.decode(as_bytes(handle))) for handle, time in rows]
    return max(found)[1].removeprefix("@") if found else None


_NO_TIME = -(10**30)


def _instant(stored: StoredValue) -> int:
    """When an author had a handle, as an instant; before all others where that cannot be read."""
    stamp = stored_time(stored)
    if stamp is None and isinstance(stored, bytes):
        # SQLite's own current_timestamp is in UTC, and does not say so.
        stamp = stored_time(stored + b"Z")
    return _NO_TIME if stamp is None else stamp.instant_nanoseconds()


def _not_found(message: str, connection: apsw.Connection, schema: str, author: str) -> AuthorError:
    """The error that an author is not there, with the most similar one that is."""
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
        none = "the archive has no post" if is_did(author) else "the archive has no handles of authors: write a DID"
        return AuthorError(message, none)
    there = ", ".join(names[:_SHOWN_NAMES]) + (", …" if len(names) > _SHOWN_NAMES else "")
    return AuthorError(message, f"there {'is' if len(names) == 1 else 'are'} {there}; {_ALL_OF_THEM}")


def _names(connection: apsw.Connection, sql: str) -> list[str]:
    rows: Any = connection.execute(sql, (_COMPARED_NAMES,))
    return [json_text.decode(as_bytes(name)) for (name,) in rows]
