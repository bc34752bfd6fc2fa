"""The outcomes of a migration, for programs and for people."""

from __future__ import annotations

import contextlib
import os
import pickle
import tempfile
import weakref
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from skyexport.errors import AuthorError, ExportError, OutputError
from skyexport.notices import WARNING, about
from skyexport.options.values import Shard
from skyexport.pipeline.summary import ExportSummary
from skyexport.runtime.for_tests import Limit
from skyexport.runtime.memory import Metric, shown_peak
from skyexport.runtime.progress import SCHEMA_VERSION, duration
from skyexport.runtime.scratch import temporary_folder
from skyexport.verification.result import Verification
from skyexport.wording import format_size, path_text

__all__ = ["Migration", "Outcome", "Outcomes", "nobody_has"]

_IN_MEMORY_BYTES = Limit("OUTCOMES_IN_MEMORY_BYTES", 8_000_000)
"""Enough for a few thousand archives; more outcomes go to a temporary file without a name."""

_FEW_ARCHIVES = 20
"""Up to this many archives are always listed one by one."""

_MOST_KINDS = 1000
"""Most kinds of failures that are counted."""

_SHOWN_KINDS = 5
"""Most kinds of failures in the summary; each failure already had a line of its own."""

_MOST_LINES = 200
"""Most lines of archives, for people; `--json` has all archives."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one archive: a new export, an earlier export, or an error.

    An archive without a post by the requested author is skipped.
    """

    path: Path
    """The archive, as it was named."""
    summary: ExportSummary | None = None
    """The new export; None without one."""
    earlier: Verification | None = None
    """The earlier export that made a new one unnecessary; None without one."""
    error: ExportError | None = None
    """The reason for a failure or for skipping the archive; None for success."""

    @property
    def without_author(self) -> bool:
        """Whether the archive has no post by the requested author."""
        return isinstance(self.error, AuthorError)

    def __repr__(self) -> str:
        return f"<Outcome: {self.sentence()}>"

    @property
    def status(self) -> Literal["ok", "skipped", "failed"]:
        """The outcome in a word."""
        if self.without_author:
            return "skipped"
        if self.error is not None:
            return "failed"
        return "ok" if self.earlier is None else "skipped"

    @property
    def has_warnings(self) -> bool:
        """Whether the export has warnings."""
        return self.summary is not None and bool(self.summary.warning_places)

    def warnings(self) -> list[str]:
        """The warnings of the export for people, one line each."""
        lines = [] if self.summary is None else self.summary.sentences()
        return [about(self.path, line) for line in lines if line.startswith(WARNING)]

    def to_dict(self) -> dict[str, object]:
        """The object in the list `archives` of `--json`."""
        fields: dict[str, object] = {"path": path_text(self.path), "status": self.status}
        if self.error is not None and self.without_author:
            return fields | {"directory": None, "posts": 0, "bytes": 0, "reason": self.error.message}
        if self.error is not None:
            failure = {"exit_code": self.error.exit_code, "error": self.error.message, "hint": self.error.hint}
            return fields | failure | self.error.details()
        done, key = (self.summary, "summary") if self.earlier is None else (self.earlier, "verification")
        assert done is not None
        directory = None if done.directory is None else path_text(done.directory)
        return fields | {"directory": directory, "posts": done.posts, "bytes": done.bytes, key: done.to_dict()}

    def sentence(self) -> str:
        """The outcome for people, in one line."""
        if self.error is not None and self.without_author:
            return f"skipped: {self.error.message}"
        if self.error is not None:
            return f"failed: {self.path}: {self.error}"
        done = self.summary or self.earlier
        assert done is not None
        posts = "1 post" if done.posts == 1 else f"{done.posts:,} posts"
        warnings = ""
        if self.summary is not None and self.has_warnings:
            count = sum(self.summary.warnings[kind] for kind in self.summary.warning_places)
            first = next(iter(self.summary.warning_places.values()))[0]
            warnings = f"; warnings: {count:,}, the first: {first}"
        skipped = "skipped: " if self.earlier is not None else ""
        return f"{skipped}{self.path}: {posts}, {format_size(done.bytes)}, {done.directory}{warnings}"


class Outcomes(Sequence[Outcome]):
    """The outcomes of all archives, in the order in which the archives were given; they are added in any order.

    Up to a few megabytes are in memory, more in a temporary file that is deleted with this object.

    Args:
        archives: The number of archives.
    """

    def __init__(self, archives: int) -> None:
        # The file must stay open as long as anything refers to these outcomes.
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES.value, dir=_folder())  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        self._places = array("q", [-1]) * archives
        self._failed = bytearray(archives)
        self.complete = 0
        """Archives that have an export, new or earlier."""
        self.skipped = 0
        """Archives whose export is an earlier one."""
        self.without_author = 0
        """Archives without a post by the requested author."""
        self.failed = 0

    def put(self, number: int, outcome: Outcome) -> None:
        """Add the outcome of the archive with this number.

        Raises:
            OutputError: There is no room for temporary files.
        """
        try:
            self._places[number] = self._file.seek(0, os.SEEK_END)
            pickle.dump(outcome, self._file)
        except OSError as error:
            raise OutputError(
                f"cannot write a temporary file for the results of the archives: {error.strerror}",
                "set TMPDIR to a place where there is room",
            ) from error
        self._failed[number] = outcome.status == "failed"
        self.failed += outcome.status == "failed"
        self.without_author += outcome.without_author
        self.complete += outcome.error is None
        self.skipped += outcome.earlier is not None

    def first_failure(self) -> Outcome | None:
        """The first failed archive in the order given; None if none failed."""
        number = self._failed.find(1)
        return None if number < 0 else self[number]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, number: int) -> Outcome:  # type: ignore[override]
        self._file.seek(self._places[number])
        outcome: Outcome = pickle.load(self._file)
        return outcome


@dataclass(frozen=True, slots=True)
class Migration:
    """The result of exporting many archives."""

    outcomes: Outcomes
    """One outcome per archive, in the order given."""
    format: str
    author: str | None
    """The requested author; None for all authors."""
    output_dir: Path
    exporters: int
    """Processes that exported small archives side by side; 0 if this process did all the work."""
    posts: int
    """Posts in the new exports."""
    bytes: int
    """Size of the data files of the new exports."""
    seconds: float
    shard: Shard | None
    """The part of the list that was exported; None for all of it."""
    places: Sequence[int]
    """The place of each archive in the whole list, from 0."""
    archives_in_all_shards: int
    """The length of the whole list."""
    peak_memory_bytes: int | None
    """The largest sample of all processes together; None if the system does not report memory."""
    memory_metric: Metric | None

    def __repr__(self) -> str:
        return f"<Migration: {next(iter(self.sentences()))}>"

    @property
    def posts_per_second(self) -> float:
        """Posts per second over the whole time."""
        return self.posts / self.seconds if self.seconds > 0 else 0.0

    @property
    def author_error(self) -> AuthorError | None:
        """The error that no archive has a post by the author; None if one has, or may have in another shard."""
        if self.shard is not None or not self.outcomes or self.outcomes.without_author < len(self.outcomes):
            return None
        return nobody_has(self.author, len(self.outcomes))

    @property
    def exit_code(self) -> int:
        """The exit code of the command: that of the first failure in the order given; 0 without failures."""
        failure = self.outcomes.first_failure()
        error = self.author_error if failure is None else failure.error
        return 0 if error is None else error.exit_code

    def totals(self) -> dict[str, object]:
        """The object that `--json` prints, without its last key `archives`, the list of all outcomes."""
        return {
            "schema_version": SCHEMA_VERSION,
            "status": "failed" if self.exit_code else "ok",
            "exit_code": self.exit_code,
            "archives_exported": self.outcomes.complete - self.outcomes.skipped,
            "archives_skipped": self.outcomes.skipped,
            "archives_without_author": self.outcomes.without_author,
            "archives_failed": self.outcomes.failed,
            "failures": [
                {"error": what, "exit_code": exit_code, "archives": count}
                for what, exit_code, count in self.failure_kinds()
            ],
            "format": self.format,
            "posts": self.posts,
            "bytes": self.bytes,
            "seconds": round(self.seconds, 3),
            "posts_per_second": round(self.posts_per_second, 1),
            "exporters": self.exporters,
            "peak_memory_bytes": self.peak_memory_bytes,
            "memory_metric": self.memory_metric,
            "output_dir": path_text(self.output_dir),
            "author": self.author,
            "shard": None if self.shard is None else str(self.shard),
            "archives_in_all_shards": self.archives_in_all_shards,
        }

    def to_dict(self) -> dict[str, object]:
        """The object that `--json` prints."""
        return {**self.totals(), "archives": list(self.archives())}

    def archives(self) -> Iterator[dict[str, object]]:
        """The objects of all archives in the object that `--json` prints."""
        for place, outcome in zip(self.places, self.outcomes, strict=True):
            yield {"number": place + 1, **outcome.to_dict()}

    def failure_kinds(self) -> list[tuple[str, int, int]]:
        """The kinds of failures, the most frequent first: the error without the archive's path, exit code, count.

        Only the first 1,000 kinds are counted.
        """
        kinds: Counter[tuple[str, int]] = Counter()
        for outcome in self.outcomes:
            if outcome.error is None:
                continue
            what = outcome.error.message
            # If the current directory was deleted, messages have the relative path only.
            with contextlib.suppress(FileNotFoundError):
                what = what.replace(str(outcome.path.absolute()), "…")
            what = what.replace(str(outcome.path), "…")
            kind = (what, outcome.error.exit_code)
            if kind in kinds or len(kinds) < _MOST_KINDS:
                kinds[kind] += 1
        return [(what, exit_code, count) for (what, exit_code), count in kinds.most_common()]

    def sentences(self, *, verbose: bool = False) -> Iterator[str]:
        """The result for people: totals, archives, and the reasons for failures.

        All archives are listed if they are few, or with *verbose*; else only those with warnings. Failed archives are
        not listed: `export_all` reports each failure when it happens.
        """
        count = len(self.outcomes)
        archives = "1 archive" if count == 1 else f"{count:,} archives"
        if self.shard is not None:
            yield f"shard {self.shard} has {archives} of {self.archives_in_all_shards:,}"
            if not count:
                return
        exported = self.outcomes.complete - self.outcomes.skipped
        parts = [f"{exported:,} exported"]
        if self.outcomes.skipped:
            parts.append(f"{self.outcomes.skipped:,} skipped, since they have verified exports")
        if self.outcomes.without_author:
            parts.append(f"{self.outcomes.without_author:,} without a post by {self.author}")
        if self.outcomes.failed:
            parts.append(f"{self.outcomes.failed:,} failed")
        yield f"{archives}: {', '.join(parts)}"
        if exported:
            yield from self._rates()
        all_of_them = verbose or count <= _FEW_ARCHIVES
        done = (
            outcome for outcome in self.outcomes if outcome.status != "failed" and (all_of_them or outcome.has_warnings)
        )
        yield from _lines(done, -1 if verbose else _MOST_LINES)
        if self.outcomes.failed > 1:
            kinds = self.failure_kinds()
            yield from (f"failed: {count:,} × {what}" for what, _, count in kinds[:_SHOWN_KINDS])
            if (more := self.outcomes.failed - sum(count for _, _, count in kinds[:_SHOWN_KINDS])) > 0:
                yield f"failed: {more:,} for other reasons"
        if self.outcomes.complete:
            yield str(self.output_dir)

    def _rates(self) -> Iterator[str]:
        took = f"{self.seconds:.2f} s" if self.seconds < 10 else duration(self.seconds)
        how = f"with {self.exporters} exporters" if self.exporters else "one after the other"
        posts = "1 post" if self.posts == 1 else f"{self.posts:,} posts"
        if not self.posts:
            yield "note: no post matched in any archive"
        yield f"{posts} to {self.format.upper()} in {took}: {self.posts_per_second:,.0f} posts/s {how}"
        yield (f"{format_size(self.bytes)}, peak memory {shown_peak(self.peak_memory_bytes, self.memory_metric)}")


def nobody_has(author: str | None, archives: int) -> AuthorError:
    """The error that none of several archives has a post by *author*.

    Args:
        author: The requested author.
        archives: The number of archives.
    """
    return AuthorError(
        f"none of the {archives:,} archives has a post by {author}",
        "`skyexport inspect ARCHIVE --authors` lists the authors of an archive",
    )


def _lines(outcomes: Iterator[Outcome], most: int) -> Iterator[str]:
    """One line per outcome, *most* at most; a negative *most* means no limit."""
    for number, outcome in enumerate(outcomes):
        if number == most:
            yield f"… and {1 + sum(1 for _ in outcomes):,} more: -v or --json lists all"
            return
        yield outcome.sentence()


def _folder() -> str | None:
    """The directory for temporary files; None if there is none, since few archives need no file."""
    try:
        return str(temporary_folder())
    except OutputError:
        return None
