"""Notices about exported values and files: counted by kind, with the first places of each kind."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = [
    "COUNTS_UNKNOWN",
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
"""Beginning of a line for people that is a warning; `-q` prints warnings, `-qq` does not."""

COUNTS_UNKNOWN = "likes, reposts, replies and quotes are unknown, and 0: a repository does not have those of others"
"""A note for people, wherever they may read these counts of an imported archive."""

MAX_PLACES = 100
"""Places kept per kind: enough to understand a warning, and too few for an odd archive to fill the memory."""

FORMULA = "formula"
"""Kind of warning: a cell that a spreadsheet may read as a formula."""

REUSED_HANDLE = "reused_handle"
"""Kind of warning: another author had the requested handle before; the latest author was chosen."""

MISSED_LOG = "missed_log"
"""Kind of warning: newer posts may be in a log beside another name of the archive, which SQLite cannot find."""

MISSED_LOG_TEXT = "has several names (hard links) and no log here: a log beside another name is not read"
"""Text of a warning; it follows the path of the archive."""

MISSED_LOG_HINT = "use the name that bskyarchive opens"

_MAX_PLACE_CHARACTERS = 1000
"""Enough for any uri of Bluesky; a hostile archive may have uris of megabytes."""


def about(path: object, line: str) -> str:
    """A line for people with the path that it is about; a warning still begins with `WARNING`."""
    return f"{WARNING}{path}: {line.removeprefix(WARNING)}" if line.startswith(WARNING) else f"{path}: {line}"


@dataclass(slots=True)
class Notices:
    """Counts of stored values that cannot be exported as they are, and of cells that look like formulas.

    Kinds: `unreadable_time` and `unreadable_json` (exported as a JSON string of the stored value), `invalid_utf8`
    (bytes replaced by U+FFFD), `unreadable_count` (a count that is not a finite number). Of media files:
    `missing_media`, `unreadable_media` (not a plain file below the media root, or no permission), `damaged_media` (not
    matching its hash). Of authors: `reused_handle` (another author had the requested handle before). Of the archive
    itself: `missed_log`, whose place is a whole sentence.
    """

    counts: dict[str, int] = field(default_factory=dict)
    places: dict[str, list[str]] = field(default_factory=dict)
    """Kind → "column of post uri" or "path: reason", shortened if long, for the first MAX_PLACES."""
    formulas: int = 0
    """Cells that a spreadsheet may read as formulas. They are exported unchanged, and too common to list."""

    def __bool__(self) -> bool:
        return bool(self.counts or self.formulas)

    @property
    def warnings(self) -> dict[str, int]:
        """Kind → count, including formulas."""
        return {**self.counts, FORMULA: self.formulas} if self.formulas else dict(self.counts)

    def add(self, kind: str, place: str) -> None:
        """Count one value of *kind*; see `places` for *place*."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self._add_places(kind, [place[:_MAX_PLACE_CHARACTERS]])

    def merge(self, other: Notices) -> None:
        """Add the counts of *other*, which comes later in export order."""
        self.formulas += other.formulas
        for kind, count in other.counts.items():
            self.counts[kind] = self.counts.get(kind, 0) + count
            self._add_places(kind, other.places[kind])

    def _add_places(self, kind: str, places: list[str]) -> None:
        known = self.places.setdefault(kind, [])
        known += places[: MAX_PLACES - len(known)]
