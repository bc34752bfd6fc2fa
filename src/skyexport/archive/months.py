"""How many posts each month has, in UTC."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from skyexport.archive.archive import Archive
from skyexport.archive.source import as_number
from skyexport.posts import StoredValue, add_function, stored_value_sql, utc_time

__all__ = ["posts_by_month"]

_USUAL = "'[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9] [0-2][0-9]:[0-5][0-9]:[0-5][0-9]*+0000 UTC'"

_DAYS = ", ".join(f"'{day:%m-%d}'" for day in (date(2023, 1, 1) + timedelta(days) for days in range(365)))
"""The days of all years, like '05-22'."""

_IS_USUAL = (
    f"ifnull(created_at glob {_USUAL} and substr(created_at, 6, 5) in ({_DAYS})"
    " and substr(created_at, 12, 2) < '24', 0)"
)
"""The usual times begin with their month in UTC; reading each one would take three times as long."""


def posts_by_month(archive: Archive) -> dict[str, int]:
    """Month, like "2024-05", → posts, the oldest first; "" has the posts without a readable time.

    It reads the index on created_at, or all posts without one.

    Raises:
        ArchiveError: The archive is damaged.
    """
    stored = stored_value_sql(archive.columns, "created_at")
    add_function(archive.connection, "sky_month", _month_of)
    months: dict[str, int] = {}
    with archive.translating_errors():
        rows: Any = archive.connection.execute(
            f"select iif({_IS_USUAL}, substr(created_at, 1, 7), null), count(*) from posts group by 1"
        ).fetchall()
        if rows and rows[0][0] is None:
            # NULL comes first: the posts with other times.
            rows[:1] = archive.connection.execute(
                f"select sky_month({stored}), count(*) from posts where not {_IS_USUAL} group by 1"
            ).fetchall()
        for month, posts in rows:
            months[str(month)] = months.get(str(month), 0) + as_number(posts)
    return dict(sorted(months.items()))


def _month_of(stored: StoredValue) -> str:
    return (utc_time(stored) or "")[:7]
