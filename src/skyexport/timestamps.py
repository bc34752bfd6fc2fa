"""Stored timestamps → RFC 3339, and → instants.

An archive stores times as text, as Go prints them (`2024-05-22 18:57:38.254 +0000 UTC m=+12.3`), and now and then
in another spelling or as a number; see docs/formats.md. This module reads all of them. `usual_sql` recognises the
one form that nearly every stored time has, so that SQLite can slice it without a call into Python; both ways give
the same text, which a property test holds them to.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

__all__ = [
    "NANOSECONDS",
    "Timestamp",
    "from_instant",
    "parse",
    "rfc3339_seconds_sql",
    "rfc3339_sql",
    "usual_sql",
]

NANOSECONDS = 1_000_000_000
"""Nanoseconds in a second: instants are counted in them, since that is the precision that archives keep."""

_MILLISECONDS_ABOVE = 100_000_000_000
"""A stored integer beyond this counts milliseconds: as seconds it would lie after the year 5138."""

_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()

_SPELLING = re.compile(
    r"(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)"
    r"(?:[ T](?P<hour>\d\d):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:\.(?P<fraction>\d+))?)?"
    r"(?P<zone>Z|\ ?UTC|\ ?(?P<sign>[+-])(?P<zone_hour>\d\d):?(?P<zone_minute>\d\d)"
    r"(?:\ (?:[A-Za-z]{1,6}|[+-]\d\d(?:\d\d)?))?)?)?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Timestamp:
    """A point in time as it was stored: local date and time, fraction, and the distance to UTC."""

    year: int
    month: int
    day: int
    hour: int
    minute: int
    second: int
    nanosecond: int
    offset_minutes: int

    def rfc3339(self) -> str:
        """RFC 3339 with the stored offset (`Z` for zero) and the fraction without its trailing zeros."""
        fraction = f".{self.nanosecond:09d}".rstrip("0") if self.nanosecond else ""
        return f"{self._local()}{fraction}{self._zone()}"

    def rfc3339_seconds(self) -> str:
        """RFC 3339 to the second; the fraction is cut off, not rounded."""
        return f"{self._local()}{self._zone()}"

    def instant_nanoseconds(self) -> int:
        """Nanoseconds since 1970-01-01T00:00:00Z, negative before it."""
        proxy = _proxy_day(self.year, self.month, self.day)
        days = proxy.toordinal() + (self.year - proxy.year) // 400 * 146_097 - _EPOCH_ORDINAL
        minutes = days * 1440 + self.hour * 60 + self.minute - self.offset_minutes
        return (minutes * 60 + self.second) * NANOSECONDS + self.nanosecond

    def _local(self) -> str:
        return f"{self.year:04d}-{self.month:02d}-{self.day:02d}T{self.hour:02d}:{self.minute:02d}:{self.second:02d}"

    def _zone(self) -> str:
        if not self.offset_minutes:
            return "Z"
        hours, minutes = divmod(abs(self.offset_minutes), 60)
        return f"{'-' if self.offset_minutes < 0 else '+'}{hours:02d}:{minutes:02d}"


def parse(stored: str | int) -> Timestamp | None:
    """Read one stored time.

    Args:
        stored: Text in any spelling of docs/formats.md, or an integer: seconds since 1970, or milliseconds when its
            absolute value is above 1e11.

    Returns:
        The timestamp, or None if this is not a time (a 30th of February is not).
    """
    if isinstance(stored, int):
        in_milliseconds = abs(stored) > _MILLISECONDS_ABOVE
        return from_instant(stored * (1_000_000 if in_milliseconds else NANOSECONDS))
    # Go appends its monotonic clock reading, which says nothing about the time of day.
    match = _SPELLING.fullmatch(stored.partition("m=")[0].strip())
    if match is None:
        return None
    field = match.groupdict(default="0")
    year, month, day = int(field["year"]), int(field["month"]), int(field["day"])
    hour, minute, second = int(field["hour"]), int(field["minute"]), int(field["second"])
    zone_hour, zone_minute = int(field["zone_hour"]), int(field["zone_minute"])
    if hour > 23 or minute > 59 or second > 59 or zone_hour > 23 or zone_minute > 59:
        return None
    try:
        _proxy_day(year, month, day)
    except ValueError:
        return None
    offset_minutes = zone_hour * 60 + zone_minute
    if field["sign"] == "-":
        offset_minutes = -offset_minutes
    nanosecond = int(field["fraction"][:9].ljust(9, "0"))
    return Timestamp(year, month, day, hour, minute, second, nanosecond, offset_minutes)


def _proxy_day(year: int, month: int, day: int) -> date:
    """The same day in 2000..2399: the calendar repeats every 400 years, and `date` knows no year 0.

    Raises:
        ValueError: There is no such day.
    """
    return date(2000 + year % 400, month, day)


def from_instant(nanoseconds: int) -> Timestamp | None:
    """Nanoseconds since 1970-01-01T00:00:00Z → the time in UTC, None outside the years 0 to 9999."""
    seconds, nanosecond = divmod(nanoseconds, NANOSECONDS)
    days, second_of_day = divmod(seconds, 86_400)
    ordinal = days + _EPOCH_ORDINAL
    years_ahead = 400 if -366 < ordinal < 1 else 0  # the year 0, a leap year that `date` does not know
    try:
        day = date.fromordinal(ordinal + years_ahead // 400 * 146_097)
    except (OverflowError, ValueError):
        return None
    hour, rest = divmod(second_of_day, 3600)
    minute, second = divmod(rest, 60)
    return Timestamp(day.year - years_ahead, day.month, day.day, hour, minute, second, nanosecond, 0)


_UTC = " +0000 UTC"
_MONOTONIC = " m="
_ZONE_AT = (24, 30, 29, 23, 20, 28, 22, 27, 26, 25)
"""Where the zone begins in a usual time, counted from 1: milliseconds first, then the archiver's own nanoseconds."""

_SERVER_ZONE_AT = 24
_ARCHIVER_ZONE_AT = 30


def usual_sql(column: str, usual: Callable[[int], str], *, by_server: bool) -> str:
    """SQL that is not NULL for a time in UTC as Go prints it: valid, its fraction without trailing zeros, or none.

    Each place where the zone can begin gets a branch of its own, in which positions are constants: finding them anew
    for each check cost three times as much. Nine times of ten it is the likely place, which is tried first, without
    looking for it.

    Args:
        column: The name of a column of `posts`, or another SQL expression without side effects.
        usual: Where the zone begins → SQL for the result.
        by_server: Times of the column most likely have milliseconds; else they are the archiver's own, with nanoseconds
            and the monotonic reading.
    """
    branches = []
    for zone_at in _ZONE_AT:
        # Behind the zone there is nothing, or the monotonic reading.
        at_end = f"octet_length({column}) = {zone_at + 9}"
        end = f"({at_end} or substr({column}, {zone_at + 10}, {len(_MONOTONIC)}) = '{_MONOTONIC}')"
        branches.append(f"when {zone_at} then iif({_time_of_day_sql(column, zone_at)} and {end}, {usual(zone_at)})")
    anywhere = f"case instr({column}, '{_UTC}') {' '.join(branches)} end"
    if by_server:
        likely_at = _SERVER_ZONE_AT
        zone = f"substr(cast({column} as blob), {likely_at}) = x'{_UTC.encode().hex()}'"
    else:
        likely_at = _ARCHIVER_ZONE_AT
        behind = _UTC + _MONOTONIC
        zone = f"substr({column}, {likely_at}, {len(behind)}) = '{behind}'"
    return f"iif({zone} and {_time_of_day_sql(column, likely_at)}, {usual(likely_at)}, {anywhere})"


def _time_of_day_sql(column: str, zone_at: int) -> str:
    # Equal only for a real date and time. datetime() reads a fraction as well, and refuses what is none ...
    valid = f"datetime(substr({column}, 1, {zone_at - 1})) is substr({column}, 1, 19)"
    if zone_at == 20:
        return valid
    # ... but for white space, Z or +00:00, none of which ends like a trimmed fraction.
    return f"substr({column}, {zone_at - 1}, 1) between '1' and '9' and {valid}"


def rfc3339_sql(column: str, *, by_server: bool, quote: str = "") -> str:
    """SQL for what `Timestamp.rfc3339` gives for a usual time, between quotes; NULL for any other (see `usual_sql`)."""
    return usual_sql(
        column,
        lambda zone_at: (
            f"concat('{quote}', substr({column}, 1, 10), 'T', substr({column}, 12, {zone_at - 12}), 'Z{quote}')"
        ),
        by_server=by_server,
    )


def rfc3339_seconds_sql(column: str, *, by_server: bool) -> str:
    """SQL for what `Timestamp.rfc3339_seconds` gives for a usual time; NULL for any other (see `usual_sql`)."""
    return usual_sql(
        column,
        lambda _: f"concat(substr({column}, 1, 10), 'T', substr({column}, 12, 8), 'Z')",
        by_server=by_server,
    )
