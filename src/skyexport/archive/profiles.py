"""People, as far as an archive knows them: names, descriptions, and the handles they had before.

bskyarchive adds a row to `profiles` each time it looks at a profile, and one to `sessions` for each account that is
logged in. The latest row decides. Only the columns named here are read, and only while `each_profile` runs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import apsw
import orjson

from skyexport import json_text
from skyexport.archive.authorizer import Authorizer
from skyexport.archive.authors import PEOPLE, instant_of, tables_of_people
from skyexport.posts import as_bytes

__all__ = ["Profile", "each_profile"]

_TEXTS = {"handle": 300, "display_name": 3000, "description": 20_000}
"""Column → most bytes that are read: more than Bluesky accepts."""

_READABLE = {table: frozenset({"did", time, *_TEXTS}) for table, time in PEOPLE.items()}

_MOST_HANDLES = 20
"""Earlier handles that are kept of each person."""

_MOST_ROWS = 1000
"""Rows of a person in memory; of more, only the latest matter, however many a stranger made."""


@dataclass(slots=True)
class Profile:
    """A person, as the latest row has them; texts are empty if unknown."""

    did: bytes
    handle: str
    """Without `@`."""
    name: str
    about: str
    earlier_handles: list[str]
    """Other handles, the latest first."""


def each_profile(connection: apsw.Connection, dids: Collection[str] | None = None) -> Iterator[Profile]:
    """Yield each person with a row in `profiles` or `sessions` once.

    Args:
        connection: A restricted connection, whose main database is the archive.
        dids: Only these people; None for all.
    """
    wanted = "" if dids is None else " and did in (select value from json_each(:dids))"
    parameters = {} if dids is None else {"dids": orjson.dumps(list(dids)).decode()}
    selects = []
    for columns, time, found in tables_of_people(connection, "main"):
        texts = (
            f"iif(octet_length({name}) <= {most}, cast({name} as blob), null)" if name in columns else "null"
            for name, most in _TEXTS.items()
        )  # fmt: skip
        when = f"iif(typeof({time}) = 'integer', {time}, cast({time} as blob))"
        selects.append(f"select cast(did as blob) as did, {when}, {', '.join(texts)} from {found}{wanted}")
    if not selects:
        return
    with Authorizer.reading_columns(connection, _READABLE):
        rows: Any = connection.execute(f"{' union all '.join(selects)} order by 1", parameters)
        group: list[tuple[int, str, str, str]] = []
        present = b""
        for did, time, *texts in rows:
            if did != present and group:
                yield _latest(present, group)
                group = []
            present = did
            handle, name, about = (json_text.decode(as_bytes(text)) for text in texts)
            group.append((instant_of(time), handle.removeprefix("@"), name, about))
            if len(group) > _MOST_ROWS:
                group = sorted(group)[-_MOST_HANDLES:]
        if group:
            yield _latest(present, group)


def _latest(did: bytes, rows: list[tuple[int, str, str, str]]) -> Profile:
    rows.sort(reverse=True)
    handles = list(dict.fromkeys(handle for _, handle, _, _ in rows if handle))
    name = next((name for _, _, name, _ in rows if name), "")
    about = next((about for _, _, _, about in rows if about), "")
    return Profile(did, handles[0] if handles else "", name, about, handles[1 : 1 + _MOST_HANDLES])
