"""What is worth knowing of exported values and files: counted by kind, with the place of the first of each."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = [
    "FORMULA",
    "MAX_PLACES",
    "MISSED_LOG",
    "MISSED_LOG_HINT",
    "MISSED_LOG_TEXT",
    "REUSED_HANDLE",
    "WARNING",
    "Notices",
    "about",
]

WARNING = "warning: "
"""A line for people that begins so is a warning: `-q` leaves it, `-qq` does not."""

MAX_PLACES = 100
"""Enough to see what kind of posts they are; more would let an odd archive fill the memory."""

FORMULA = "formula"
"""Kind of warning: a cell that a spreadsheet may read as a formula."""

REUSED_HANDLE = "reused_handle"
"""Kind of warning: another author who had the handle that was asked for; the latest was taken."""

MISSED_LOG = "missed_log"
"""Kind of warning: newer posts may lie in a log beside another name of the archive, which SQLite cannot find."""

MISSED_LOG_TEXT = "has several names (hard links) and no log here: a log beside another name is not read"
"""Follows the path of the archive; together they are the place of that warning."""

MISSED_LOG_HINT = "use the name that bskyarchive opens"

_MAX_PLACE_CHARACTERS = 1000
"""Enough for any uri of Bluesky; what an archive has in the place of one may be megabytes."""


def about(path: object, line: str) -> str:
    """A line for people about one of many archives; a warning stays one."""
    return f"{WARNING}{path}: {line.removeprefix(WARNING)}" if line.startswith(WARNING) else f"{path}: {line}"


@dataclass(slots=True)
class Notices:
    """Counts of stored values that no export can carry as they are, and of cells that look like formulas.

    Kinds: `unreadable_time` and `unreadable_json` (kept as the JSON string of what is stored), `invalid_utf8` (bytes
    replaced by U+FFFD), `unreadable_count` (a number column that holds no finite number). Of media files:
    `missing_media`, `unreadable_media` (no plain file below the media root, or no permission), `damaged_media` (not
    what their hash says). Of authors: `reused_handle` (another one who had the handle that was asked for). Of the
    archive itself: `missed_log`, whose place is a whole sentence.
    """

    counts: dict[str, int] = field(default_factory=dict)
    places: dict[str, list[str]] = field(default_factory=dict)
    """Kind → "column of post uri" or "path: why", cut short where it is long, for the first MAX_PLACES of them."""
    formulas: int = 0
    """Cells that a spreadsheet may read as formulas: exported as they are stored, and too usual to be listed."""

    def __bool__(self) -> bool:
        return bool(self.counts or self.formulas)

    @property
    def warnings(self) -> dict[str, int]:
        """Kind → count, of everything."""
        return {**self.counts, FORMULA: self.formulas} if self.formulas else dict(self.counts)

    def add(self, kind: str, place: str) -> None:
        """Count one value of *kind*; the *place* of a stored value is "column of post uri"."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self._add_places(kind, [place[:_MAX_PLACE_CHARACTERS]])

    def merge(self, other: Notices) -> None:
        """Add the counts of *other*, which come later in export order."""
        self.formulas += other.formulas
        for kind, count in other.counts.items():
            self.counts[kind] = self.counts.get(kind, 0) + count
            self._add_places(kind, other.places[kind])

    def _add_places(self, kind: str, places: list[str]) -> None:
        known = self.places.setdefault(kind, [])
        known += places[: MAX_PLACES - len(known)]
