"""The posts that an export selects: by author, by date as instants, however a stored time is written, and by more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import apsw

from skyexport import timestamps
from skyexport.posts import StoredValue, add_function, stored_time, stored_value_sql

__all__ = ["PostFilter", "Selection", "Span"]

_DAY_NANOSECONDS = 86_400 * timestamps.NANOSECONDS
_BEFORE_FIRST_DAY = "0000-"
"""Less than every text that begins with a date. It must not look like a number, or SQLite would compare it as one."""
_AFTER_LAST_DAY = ":"
"""The character after `9`: greater than every text that begins with a digit."""


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of the created_at order: SQL that the index can answer, and its parameters."""

    where: str
    parameters: dict[str, str]


class PostFilter(Protocol):
    """A selection that needs more than the post itself: the full-text index, or earlier exports.

    Workers know nothing about it. It is queried once, and workers get lists of row ids.
    """

    def sql(self, schema: str) -> str:
        """SQL that is true for a selected row of *schema*.posts, after `prepare`."""
        ...

    def parameters(self) -> dict[str, str]:
        """The parameters of `sql`."""
        ...

    def prepare(self, connection: apsw.Connection) -> None:
        """Let a restricted connection read all that `sql` needs. May be called more than once."""
        ...


@dataclass(frozen=True, slots=True)
class Selection:
    """The posts to export.

    Args:
        did: DID of the author; None for all authors.
        since: Earliest creation time, inclusive, in nanoseconds since 1970; None for no bound.
        until: Latest creation time, inclusive, in nanoseconds since 1970; None for no bound.
        filters: Further conditions, which must all hold.
        limit: Most posts: the newest ones, which come first in export order; None for all.
    """

    did: str | None = None
    since: int | None = None
    until: int | None = None
    filters: Sequence[PostFilter] = ()
    limit: int | None = None

    @property
    def by_date(self) -> bool:
        """Whether there is a date bound."""
        return self.since is not None or self.until is not None

    @property
    def everything(self) -> bool:
        """Whether every post is selected."""
        return self.did is None and not self.by_date and not self.by_list

    @property
    def by_list(self) -> bool:
        """Whether a post alone does not decide if it is selected, so workers need lists of row ids."""
        return bool(self.filters) or self.limit is not None

    def spans(self) -> list[Span]:
        """Spans in export order that hold every selected post, and not much else.

        Stored text begins with the local date, which is at most a day away from the date in UTC. In this order, times
        stored as BLOB come first and numbers last, and text with white space before the date is on either side;
        `where_sql` checks each of them.
        """
        if not self.by_date:
            return [Span("true", {})]
        oldest = _BEFORE_FIRST_DAY if self.since is None else _utc(self.since - _DAY_NANOSECONDS)[:10]
        newest = _AFTER_LAST_DAY if self.until is None else _utc(self.until + 2 * _DAY_NANOSECONDS)[:10]
        return [
            Span(f"created_at >= '{_AFTER_LAST_DAY}'", {}),
            Span("created_at >= :oldest and created_at < :newest", {"oldest": oldest, "newest": newest}),
            Span(f"created_at < '{_BEFORE_FIRST_DAY}'", {}),
        ]

    def where_sql(self, schema: str = "main") -> str:
        """SQL that is true for a selected post of *schema*.posts.

        Its parameters are `parameters`; `register` adds its function.
        """
        conditions = []
        if self.did is not None:
            conditions.append("+did = :did")
        if self.by_date:
            conditions.append(f"sky_selected({stored_value_sql({'created_at': 'created_at'}, 'created_at')})")
        conditions += [post_filter.sql(schema) for post_filter in self.filters]
        where = " and ".join(conditions) or "true"
        if self.limit is None:
            return where
        newest = f"from {schema}.posts where {where} order by created_at desc, uri limit {self.limit}"
        return f"posts.rowid in (select rowid {newest})"

    def filters_sql(self, schema: str) -> str:
        """The part of `where_sql` for the filters, for posts of a database other than main."""
        return " and ".join(post_filter.sql(schema) for post_filter in self.filters) or "true"

    def parameters(self) -> dict[str, str]:
        """The parameters of `where_sql`."""
        parameters = {}
        if self.did is not None:
            parameters["did"] = self.did
        for post_filter in self.filters:
            parameters |= post_filter.parameters()
        return parameters

    def register(self, connection: apsw.Connection) -> None:
        """Prepare *connection* for `where_sql`; a function is added only if needed: running statements block that."""
        if self.by_date:
            since = _BEFORE_FIRST_DAY if self.since is None else _utc(self.since).replace(" ", "T")
            until = _AFTER_LAST_DAY if self.until is None else _utc(self.until).replace(" ", "T")

            def selected(stored: StoredValue) -> bool:
                second = timestamps.usual_rfc3339_seconds(stored) if isinstance(stored, bytes) else None
                if second is not None and not second.startswith((since, until)):
                    return since < second < until
                # Within the seconds of the bounds themselves, fractions decide.
                return self._selected(stored)

            add_function(connection, "sky_selected", selected)
        for post_filter in self.filters:
            post_filter.prepare(connection)

    def _selected(self, stored: StoredValue) -> bool:
        """Whether a stored time lies within the bounds; False for an unreadable time."""
        timestamp = stored_time(stored)
        if timestamp is None:
            return False
        instant = timestamp.instant_nanoseconds()
        return (self.since is None or self.since <= instant) and (self.until is None or instant <= self.until)


def _utc(instant: int) -> str:
    """The second of an instant as stored text begins; out of range, a text less or greater than all of them."""
    stamp = timestamps.from_instant(instant)
    if stamp is None:
        return _BEFORE_FIRST_DAY if instant < 0 else _AFTER_LAST_DAY
    return stamp.rfc3339()[:19].replace("T", " ")
