"""The summary of an export, for programs and for people."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

from skyexport.archive.source import JournalMode
from skyexport.notices import COUNTS_UNKNOWN, FORMULA, MISSED_LOG, MISSED_LOG_HINT, REUSED_HANDLE, WARNING
from skyexport.options.checks import PAGES
from skyexport.output.media import MediaCounts
from skyexport.output.writer import WrittenFile
from skyexport.runtime.memory import Metric, shown_peak
from skyexport.runtime.progress import SCHEMA_VERSION, duration
from skyexport.wording import format_size, path_text

__all__ = ["ExportSummary", "none_in_dates", "reused_handle"]

_WARNINGS = {
    "unreadable_time": ("time that cannot be read", "times that cannot be read"),
    "unreadable_json": ("embed or label that is not JSON", "embeds or labels that are not JSON"),
    "unreadable_count": ("count that is not a number", "counts that are not numbers"),
    "invalid_utf8": ("text that is not valid UTF-8", "texts that are not valid UTF-8"),
}

_OTHER_WARNINGS = {
    REUSED_HANDLE: (
        "other author had this handle before and is left out",
        "other authors had this handle before and are left out",
    ),
    "missing_media": ("media file is missing", "media files are missing"),
    "unreadable_media": (
        "media file cannot be read and is left out",
        "media files cannot be read and are left out",
    ),
    "damaged_media": (
        "media file does not match its hash and is copied unchanged",
        "media files do not match their hashes and are copied unchanged",
    ),
}


_RENDERERS = {"native": "native", "python": "Python"}


@dataclass(frozen=True, slots=True)
class ExportSummary:
    """A finished export."""

    format: str
    posts: int
    batches: int
    workers: int
    """Worker processes; 0 if this process did the work."""
    renderer: str
    """The renderer of usual posts: `native` or `python`."""
    seconds: float
    data_files: int
    bytes: int
    """Size of the data files."""
    peak_memory_bytes: int | None
    """The largest sample of all processes together; None if the system does not report memory."""
    memory_metric: Metric | None
    """The sampled metric: `pss`, `uss` or `rss`; None if the system does not report memory."""
    archive_held_seconds: float
    """How long the archive was held at one state; in rollback mode other programs could not write to it meanwhile."""
    journal_mode: JournalMode
    path: Path | None
    """The data file, or the first of several; None for standard output and devices."""
    directory: Path | None
    """The export directory; None with *to*."""
    files: list[WrittenFile]
    """All files of the export except media, the data files first."""
    media: MediaCounts | None
    """None for an export without media."""
    media_bytes: int
    """Size of the media files."""
    csv_safe: bool
    """Whether cells that a spreadsheet may read as formulas have a leading apostrophe."""
    warnings: dict[str, int]
    """Kind → number of stored values or media files; see docs/formats.md."""
    warning_places: dict[str, list[str]]
    """Kind → column and post, or path, of the first hundred that could not be exported as they are."""
    author: str | None = None
    """DID of the author whose posts were exported; None for all authors."""
    author_handle: str | None = None
    """The requested handle; None if a DID or no author was requested."""
    available: tuple[str | None, str | None] | None = None
    """Creation times of the oldest and the newest post of the author, or of the archive, RFC 3339. None unless dates
    were requested and no post was exported."""
    disappeared: int | None = None
    """Posts of the earlier exports that are no longer in the archive; None without earlier exports."""
    registered: str | None = None
    """Id of the export in the archive's own list of exports; None without *register*."""
    since_export: list[Path] = field(default_factory=list)
    """The earlier exports that this increment continues, oldest first; empty for a full export."""
    removed: list[Path] = field(default_factory=list)
    """The old exports that `keep` removed."""
    renderer_problem: str | None = None
    """Why the installed native renderer could not be used; None if it was used, or is not installed."""
    counts_unknown: bool = False
    """Whether likes, reposts, replies and quotes are unknown, and 0: the archive was made of a repository."""

    def __repr__(self) -> str:
        to = "" if self.path is None else f", {self.path}"
        return f"<ExportSummary: {self.sentences()[0]}{to}>"

    @property
    def media_files(self) -> int:
        """Media files in the export, copied or linked."""
        return 0 if self.media is None else self.media.files

    @property
    def posts_per_second(self) -> float:
        """Posts per second over the whole time."""
        return self.posts / self.seconds if self.seconds > 0 else 0.0

    def to_dict(self) -> dict[str, object]:
        """The object that `--json` prints."""
        return {
            "schema_version": SCHEMA_VERSION,
            "status": "ok",
            "format": self.format,
            "author": self.author,
            "author_handle": self.author_handle,
            "posts": self.posts,
            "available_first_post": None if self.available is None else self.available[0],
            "available_last_post": None if self.available is None else self.available[1],
            "batches": self.batches,
            "workers": self.workers,
            "renderer": self.renderer,
            "renderer_problem": self.renderer_problem,
            "counts_unknown": self.counts_unknown,
            "seconds": round(self.seconds, 3),
            "posts_per_second": round(self.posts_per_second, 1),
            "data_files": self.data_files,
            "bytes": self.bytes,
            "peak_memory_bytes": self.peak_memory_bytes,
            "memory_metric": self.memory_metric,
            "archive_held_seconds": round(self.archive_held_seconds, 3),
            "journal_mode": self.journal_mode,
            "path": _text(self.path),
            "directory": _text(self.directory),
            "files": [asdict(file) for file in self.files],
            "media_files": self.media_files,
            "media_bytes": self.media_bytes,
            "csv_safe": self.csv_safe,
            "media_linked": 0 if self.media is None else self.media.linked,
            "posts_without_known_media": None if self.media is None else self.media.posts_without,
            "warnings": self.warnings,
            "warning_places": self.warning_places,
            "disappeared": self.disappeared,
            "registered": self.registered,
            "since_export": [_text(path) for path in self.since_export],
            "removed": [_text(path) for path in self.removed],
        }

    def sentences(self) -> list[str]:
        """The summary for people: a few lines, the path last."""
        how = {0: "in this process", 1: "with 1 worker"}.get(self.workers, f"with {self.workers} workers")
        posts = "1 post" if self.posts == 1 else f"{self.posts:,} posts"
        took = f"{self.seconds:.2f} s" if self.seconds < 10 else duration(self.seconds)
        lines = [f"{posts} to {self.format.upper()} in {took}: {self.posts_per_second:,.0f} posts/s {how}"]
        if not self.posts:
            what = "no post matched" if self.disappeared is None else "no post is new or changed"
            empty = "pages without posts" if self.format == PAGES else f"an empty {self.format.upper()} file"
            lines = [f"{what}: {empty}, in {took}", *none_in_dates(self.available)]
        peak = shown_peak(self.peak_memory_bytes, self.memory_metric)
        size = format_size(self.bytes)
        if self.data_files > 1:
            size += f" in {self.data_files:,} files"
        lines.append(f"{size}, peak memory {peak}, {_RENDERERS[self.renderer]} renderer")
        if self.renderer_problem is not None:
            lines.append(f"note: {self.renderer_problem}")
        if self.media_files:
            files = "1 media file" if self.media_files == 1 else f"{self.media_files:,} media files"
            linked = f", {self.media.linked:,} of them linked" if self.media and self.media.linked else ""
            lines.append(f"{files}, {format_size(self.media_bytes)}{linked}")
        for kind, (first, *_) in self.warning_places.items():
            count = self.warnings[kind]
            if kind == MISSED_LOG:
                lines.append(f"{WARNING}{first}; {MISSED_LOG_HINT}")
                continue
            if kind in _OTHER_WARNINGS:
                what = _OTHER_WARNINGS[kind][count > 1]
            else:
                what = f"{_WARNINGS[kind][count > 1]}, kept as far as possible"
            lines.append(f"{WARNING}{count:,} {what}; the first: {first}")
        if self.media and (without := self.media.posts_without):
            posts = "1 post has media" if without == 1 else f"{without:,} posts have media"
            lines.append(f"note: {posts} that the archive does not contain")
        if formulas := self.warnings.get(FORMULA):
            cells = "1 cell as a formula" if formulas == 1 else f"{formulas:,} cells as formulas"
            lines.append(
                f"note: without its apostrophe, a spreadsheet may read {cells}"
                if self.csv_safe
                else f"note: a spreadsheet may read {cells}; use --csv-safe"
            )
        if self.counts_unknown:
            lines.append(f"note: {COUNTS_UNKNOWN}")
        if self.journal_mode == "rollback" and self.archive_held_seconds:
            lines.append(self.held_sentence())
        if self.disappeared:
            posts, are = ("1 post", "is") if self.disappeared == 1 else (f"{self.disappeared:,} posts", "are")
            lines.append(f"{posts} of the earlier exports {are} no longer in the archive")
        if self.registered is not None:
            lines.append(f"registered in the archive as {self.registered}")
        if self.path is not None:
            lines.append(str(self.path))
        return lines

    def held_sentence(self) -> str:
        """For people: how long the archive was held, and whether other programs could write to it."""
        writers = "could write" if self.journal_mode == "wal" else "had to wait to write"
        return f"the archive was held for {self.archive_held_seconds:.2f} s; others {writers} meanwhile"


def reused_handle(others: int) -> str:
    """For people: a number of other authors had the handle before."""
    return f"{others:,} {_OTHER_WARNINGS[REUSED_HANDLE][others > 1]}"


def none_in_dates(available: tuple[str | None, str | None] | None) -> list[str]:
    """For people who requested dates and got no post: a line with the dates of the archive, or none.

    Args:
        available: See `ExportSummary.available`.
    """
    if available is None or available == (None, None):
        return []
    first, last = available
    return [f"note: no post in these dates; there are posts from {first or 'unknown'} to {last or 'unknown'}"]


def _text(path: Path | None) -> str | None:
    return None if path is None else path_text(path)
