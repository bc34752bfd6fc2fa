"""Values of options: parsed from what people write, or refused with what to write instead."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Literal

from skyexport import timestamps
from skyexport.errors import OptionError
from skyexport.formats.settings import DELIMITERS
from skyexport.options.types import check_path, check_type

__all__ = [
    "DELIMITER_HINT",
    "Bound",
    "ClusterAddress",
    "Shard",
    "Size",
    "StrPath",
    "WorkerCount",
    "check_bound",
    "is_did",
    "parse_author",
    "parse_bound",
    "parse_cluster",
    "parse_columns",
    "parse_delimiter",
    "parse_file",
    "parse_number",
    "parse_path",
    "parse_shard",
    "parse_size",
    "parse_workers",
]

_DELIMITER_WORDS = {"tab": "\t", r"\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}

DELIMITER_HINT = "choose , ; | or tab"

_DID = re.compile(r"did:[a-z]+:[A-Za-z0-9._:%-]*[A-Za-z0-9._-]")

_MAX_DID_LENGTH = 2048

_HANDLE = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
"""Source: https://atproto.com/specs/handle."""

_MAX_HANDLE_LENGTH = 253

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", re.ASCII)

_NUMBER = re.compile("-?[0-9]{1,18}")

_CLUSTER = re.compile(r"(?:[a-z]+://)?(?:[^\s:/]+|\[[0-9A-Fa-f:.%]+\]):[0-9]{1,5}", re.ASCII)

_MOST_LOCAL_WORKERS = 256
"""A larger number is surely a typing error."""

_UNITS = {
    "": 1,
    "b": 1,
    "k": 10**3,
    "kb": 10**3,
    "kib": 2**10,
    "m": 10**6,
    "mb": 10**6,
    "mib": 2**20,
    "g": 10**9,
    "gb": 10**9,
    "gib": 2**30,
    "t": 10**12,
    "tb": 10**12,
    "tib": 2**40,
}

_LEAST_WITHOUT_UNIT = 100_000
"""A smaller number without a unit hardly means bytes: 500 is probably 500MB."""

_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII)


Bound = str | date | datetime | None


StrPath = str | os.PathLike[str]


Size = int | str
"""Bytes, or text like `500MB`."""

WorkerCount = int | Literal["auto"]

_LIKELY_BOUNDS = (
    (re.compile(r"(\d{4})[-/.](\d\d?)[-/.](\d\d?)", re.ASCII), (1, 2, 3)),
    (re.compile(r"(\d{4})(\d\d)(\d\d)", re.ASCII), (1, 2, 3)),
    (re.compile(r"(\d\d?)\.\s?(\d\d?)\.\s?(\d{4})", re.ASCII), (3, 2, 1)),
)
"""Dates in other spellings, with the groups for year, month and day. 1/2/2024 is left out, since it is ambiguous."""


def parse_author(text: str) -> str:
    """Parse the name of an author.

    Returns:
        A DID, unchanged; or a handle in lower case, without a leading `@`.

    Raises:
        OptionError: The text is neither.
    """
    handle = text.removeprefix("@")
    if len(text) <= _MAX_DID_LENGTH and _DID.fullmatch(text):
        return text
    if len(handle) <= _MAX_HANDLE_LENGTH and _HANDLE.fullmatch(handle):
        return handle.lower()
    raise OptionError(
        f"{text[:_MAX_HANDLE_LENGTH]!r} is neither a DID nor a handle",
        "write did:plc:… or alice.bsky.social; `skyexport inspect ARCHIVE --authors` lists all authors",
    )


def is_did(author: str) -> bool:
    """Whether a result of `parse_author` is a DID."""
    return author.startswith("did:")


def parse_path(text: StrPath, what: str) -> Path:
    """A path as somebody wrote it.

    Raises:
        OptionError: Nothing was written, which Python takes for the current directory; or this is no path.
    """
    check_path(text, f"the {what}")
    if not os.fspath(text):
        raise OptionError(f"the {what} has no name", "write a path")
    return Path(text)


def parse_file(text: str | os.PathLike[str]) -> Path:
    """Parse the path of a file to write.

    Raises:
        OptionError: The text is empty, or ends like a directory.
    """
    path = parse_path(text, "output file")
    if os.fspath(text).endswith(("/", os.sep)):
        raise OptionError(f"{text} can only be a directory", "name a file with --to, or use -o for a directory")
    return path


def parse_columns(text: str | Sequence[str]) -> tuple[str, ...]:
    """Names of columns, in a list or with commas between them.

    Raises:
        OptionError: A name is empty.
    """
    if not isinstance(text, str):
        return tuple(text)
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise OptionError(f"a column in {text!r} has no name", "write columns like uri,created_at,text")
    return names


def parse_delimiter(text: str) -> str:
    """Parse the delimiter of a CSV file: a character, or a word for it like `tab`.

    Raises:
        OptionError: The text does not mean one of `DELIMITERS`.
    """
    delimiter = _DELIMITER_WORDS.get(text.strip().lower() or text, text)
    if delimiter not in DELIMITERS:
        raise OptionError(f"{text!r} cannot be a delimiter", DELIMITER_HINT)
    return delimiter


def parse_number(text: str | int, name: str, hint: str = "write it in digits, like 1000") -> int:
    """Parse a whole number in ASCII digits; Python's int() would also accept other digits and underscores.

    Args:
        text: The number; an int is returned as it is.
        name: What it counts, for an error.
        hint: For an error.

    Raises:
        OptionError: The text is not such a number, or has more than 18 digits.
    """
    if isinstance(text, int):
        return text
    if not _NUMBER.fullmatch(text):
        raise OptionError(f"{text!r} is not a number of {name}", hint)
    return int(text)


def parse_workers(text: str) -> WorkerCount:
    """Parse a number of worker processes, or `auto`.

    Raises:
        OptionError: The text is neither.
    """
    return "auto" if text == "auto" else parse_number(text, "workers", "use auto, 0, 1, 2, …")


@dataclass(frozen=True, slots=True)
class Shard:
    """One of several parts of a list, which together have each of its entries once."""

    number: int
    """From 1."""
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def has(self, path: str) -> bool:
        """Whether a path belongs to this part: its SHA-256, as it is written, tells, and nothing else."""
        return int(hashlib.sha256(os.fsencode(path)).hexdigest(), 16) % self.count == self.number - 1


def parse_shard(text: str | Shard) -> Shard:
    """Parse a shard, like `3/8`.

    Raises:
        OptionError: The text is not a shard.
    """
    if isinstance(text, Shard):
        return text
    number, _, count = text.partition("/")
    if not (_NUMBER.fullmatch(number) and _NUMBER.fullmatch(count)):
        raise OptionError(f"{text!r} is not a shard", "write 3/8 for the third of eight")
    if not 1 <= int(number) <= int(count):
        raise OptionError(f"there is no shard {text}", f"shards of {count} are 1/{count} to {count}/{count}")
    return Shard(int(number), int(count))


@dataclass(frozen=True, slots=True)
class ClusterAddress:
    """The address of a Dask scheduler, or a cluster to be started on this machine."""

    text: str
    local_workers: int = 0
    """Workers of a cluster on this machine; 0 for another one."""

    def __str__(self) -> str:
        return self.text


def parse_cluster(text: str | ClusterAddress) -> ClusterAddress:
    """Parse the address of a Dask scheduler, like `tcp://HOST:8786`; `local:4` is a cluster of this machine.

    Raises:
        OptionError: The text is not an address.
    """
    if isinstance(text, ClusterAddress):
        return text
    hint = "write the address of a Dask scheduler, like HOST:8786, or local:4 to try it on this machine"
    kind, _, rest = text.partition(":")
    if kind == "local":
        if not _NUMBER.fullmatch(rest) or not 1 <= int(rest) <= _MOST_LOCAL_WORKERS:
            raise OptionError(f"{text!r} is no number of workers on this machine", "write it like local:4")
        return ClusterAddress(text, int(rest))
    if not _CLUSTER.fullmatch(text):
        raise OptionError(f"{text!r} is no address of a cluster", hint)
    return ClusterAddress(text)


def parse_size(text: Size) -> int:
    """A size → bytes: `500MB` is 500 × 10^6, `500MiB` is 500 × 2^20, an int or a large bare number counts bytes.

    Raises:
        OptionError: The text is not a size.
    """
    if isinstance(text, int):
        return text
    match = _SIZE.fullmatch(text.strip())
    unit = _UNITS.get(match[2].lower()) if match else None
    if match is None or unit is None:
        raise OptionError(f"{text!r} is not a size", "write it like 500MB, 1.5GB or 512MiB")
    if not match[2] and 0 < Decimal(match[1]) < _LEAST_WITHOUT_UNIT:
        raise OptionError(f"the size {text!r} has no unit", f"write {match[1]}MB, or {match[1]}B for bytes")
    return int(Decimal(match[1]) * unit)


def parse_bound(bound: Bound, *, end_of_day: bool, name: str = "bound") -> int | None:
    """Parse a date bound into nanoseconds since 1970.

    Args:
        bound: A date (the whole UTC day), an aware datetime, the text of either (RFC 3339), or None for no bound.
        end_of_day: For a date, return its last nanosecond instead of its first.
        name: The name of the option, for an error.

    Returns:
        None for no bound.

    Raises:
        OptionError: This is no date or instant, an instant without a time zone, or has another type.
    """
    check_type(name, bound, Bound)
    if bound is None:
        return None
    text = bound if isinstance(bound, str) else bound.isoformat()
    if isinstance(bound, datetime) and bound.utcoffset() is None:
        raise OptionError(f"{name} {text} has no time zone", "add one: datetime(..., tzinfo=UTC)")
    stamp = timestamps.parse(text.strip().upper()) if _DAY.fullmatch(text) or _RFC3339.fullmatch(text) else None
    if stamp is None:
        likely = _likely_bound(text.strip(), end_of_day=end_of_day)
        raise OptionError(
            f"{name} {text!r} is not a date",
            f"write {likely}"
            if likely
            else "write 2024-12-31 for the whole day in UTC, or an instant like 2024-12-31T18:30:00Z or …+09:00",
        )
    instant = stamp.instant_nanoseconds()
    if end_of_day and len(text) == len("2024-12-31"):
        instant += 86_400 * timestamps.NANOSECONDS - 1
    return instant


def check_bound(text: str, *, end_of_day: bool, name: str) -> str:
    """Check a bound as `parse_bound` does; returns it unchanged, as manifests note it."""
    parse_bound(text, end_of_day=end_of_day, name=name)
    return text


def _likely_bound(text: str, *, end_of_day: bool) -> str | None:
    """The correct spelling of the bound that was probably meant; None if that is not clear."""
    today = datetime.now(UTC).date()
    words = {"today": today, "now": today, "yesterday": today - timedelta(days=1)}
    if text.lower() in words:
        return words[text.lower()].isoformat()
    if re.fullmatch(r"\d{4}", text, re.ASCII):
        return f"{text}-12-31" if end_of_day else f"{text}-01-01"
    if re.fullmatch(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?", text, re.ASCII):
        likely = text.replace(" ", "T") + (":00Z" if text.count(":") == 1 else "Z")
        return f"{likely} for UTC, or with another zone like +09:00" if timestamps.parse(likely) else None
    for pattern, groups in _LIKELY_BOUNDS:
        if match := pattern.fullmatch(text):
            with contextlib.suppress(ValueError):
                return date(*(int(match[group]) for group in groups)).isoformat()
    return None
