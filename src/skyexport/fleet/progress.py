"""The progress of many archives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

from skyexport.fleet.archive_list import ArchiveList
from skyexport.fleet.archive_worker import ProgressUpdate
from skyexport.runtime.progress import Counters, Progress

__all__ = ["MigrationCounters", "MigrationProgress"]


@dataclass(frozen=True, slots=True)
class MigrationProgress(Progress):
    """The progress of a migration; posts and bytes are totals of all archives."""

    archives: int = 0
    """Archives that are exported, skipped or failed."""
    archives_to_do: int = 0
    """All archives."""
    archives_failed: int = 0
    source_bytes: int = 0
    """Bytes of the archives read so far."""
    source_bytes_to_read: int = 0
    """Bytes of all archives."""

    @property
    def fraction(self) -> float:
        """The part that is done, 0 to 1, by the size of the archives."""
        if not self.source_bytes_to_read:
            return self.archives / self.archives_to_do if self.archives_to_do else 0.0
        return min(1.0, self.source_bytes / self.source_bytes_to_read)

    def sentence(self) -> str:
        """The progress for people, in one line."""
        failed = f" ({self.archives_failed:,} failed)" if self.archives_failed else ""
        return self._line(f"{self.archives:,} of {self.archives_to_do:,} archives{failed}, {self.posts:,} posts")


class MigrationCounters(Counters):
    """Counts all archives; the monitor reads it from another thread."""

    def __init__(self, archives: ArchiveList) -> None:
        super().__init__()
        self._sizes = archives.sizes
        self.archives = 0
        self.archives_failed = 0
        self.archives_to_do = len(archives)
        self.source_bytes = 0
        self.source_bytes_to_read = sum(archives.sizes)
        self.in_hand: Callable[[], list[ProgressUpdate]] = list
        """Returns the progress of the archives in work."""

    def progress(self, memory_bytes: int | None) -> MigrationProgress:
        """The progress so far."""
        moments = self.in_hand()
        posts = self.posts + sum(moment.posts for moment in moments)
        values = {
            **asdict(super().progress(memory_bytes)),
            "posts": posts,
            "posts_read": posts,
            "bytes": self.bytes + sum(moment.bytes for moment in moments),
        }
        source_bytes = self.source_bytes + sum(round(self._sizes[job.number] * job.fraction) for job in moments)
        return MigrationProgress(
            **values, archives=self.archives, archives_to_do=self.archives_to_do, archives_failed=self.archives_failed,
            source_bytes=source_bytes, source_bytes_to_read=self.source_bytes_to_read,
        )  # fmt: skip
