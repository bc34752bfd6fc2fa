"""Verification of many exports, one after the other, and its result."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from skyexport.errors import NoExportError, StoppedError, VerifyError
from skyexport.options.types import check_paths
from skyexport.options.values import parse_path
from skyexport.runtime.memory import MemoryGuard, ProcessTree
from skyexport.runtime.progress import SCHEMA_VERSION, Counters, Monitor, Progress
from skyexport.verification.chains import exports_below
from skyexport.verification.result import Verification
from skyexport.verification.verifier import verified
from skyexport.wording import format_size, path_text

__all__ = ["Audit", "AuditProgress", "AuditedExport", "verify_all"]


@dataclass(frozen=True, slots=True)
class AuditedExport:
    """The result for one export: a verification, or an error."""

    directory: Path
    verification: Verification | None = None
    """None if the export differs or is missing."""
    error: VerifyError | NoExportError | None = None
    """The differences, or why there is no export; None if all is well."""

    @property
    def status(self) -> str:
        """`ok`; `differs`; or `no export` if it is missing, unreadable, or not an export."""
        return "ok" if self.error is None else "differs" if isinstance(self.error, VerifyError) else "no export"

    def to_dict(self) -> dict[str, object]:
        """The object in the list `exports` of `--json`."""
        fields: dict[str, object] = {"directory": path_text(self.directory)}
        if self.verification is not None:
            return fields | self.verification.to_dict()
        assert self.error is not None
        error = {"exit_code": self.error.exit_code, "error": self.error.message, "hint": self.error.hint}
        return fields | {"status": self.status} | error | self.error.details()

    def lines(self) -> list[str]:
        """The result for people: one line, or one for each difference."""
        if self.verification is not None:
            return [self.verification.sentence()]
        if isinstance(self.error, VerifyError):
            return [f"{self.directory}: {difference}" for difference in self.error.differences]
        return [str(self.error)]


@dataclass(frozen=True, slots=True)
class Audit:
    """The result of verifying many exports."""

    exports: Sequence[AuditedExport]
    """In the order given; exports below one directory are in the order of their paths."""
    seconds: float

    def __repr__(self) -> str:
        differ = sum(export.error is not None for export in self.exports)
        return f"<Audit: {len(self.exports):,} exports, {differ:,} of them not as they were>"

    @property
    def exit_code(self) -> int:
        """The exit code of the first export that differs or is missing; 0 if there is none."""
        return next((export.error.exit_code for export in self.exports if export.error is not None), 0)

    def to_dict(self) -> dict[str, object]:
        """The object that `--json` prints."""
        counts = {status: sum(export.status == status for export in self.exports) for status in _STATUSES}
        return {
            "schema_version": SCHEMA_VERSION,
            "status": "failed" if self.exit_code else "ok",
            "exit_code": self.exit_code,
            "exports_ok": counts["ok"],
            "exports_differing": counts["differs"],
            "exports_missing": counts["no export"],
            "seconds": round(self.seconds, 3),
            "exports": [export.to_dict() for export in self.exports],
        }

    def sentence(self) -> str:
        """The result for people, in one line."""
        counts = {status: sum(export.status == status for export in self.exports) for status in _STATUSES}
        parts = [f"{counts['ok']:,} OK"]
        if differing := counts["differs"]:
            parts.append(f"{differing:,} {'differs' if differing == 1 else 'differ'}")
        if missing := counts["no export"]:
            parts.append(f"{missing:,} missing or not {'an export' if missing == 1 else 'exports'}")
        return f"{_exports(len(self.exports))}: {', '.join(parts)}"


_STATUSES = ("ok", "differs", "no export")


@dataclass(frozen=True, slots=True)
class AuditProgress(Progress):
    """The progress of verifying many exports; posts and bytes are totals of all exports so far."""

    exports: int = 0
    """Exports that are done."""
    exports_to_do: int = 0
    """All exports."""

    @property
    def fraction(self) -> float:
        """The part that is done, 0 to 1, as if all exports had the same size."""
        if not self.exports_to_do:
            return 0.0
        in_hand = self.posts_read / self.posts_to_read if self.posts_to_read else 0.0
        return min(1.0, (self.exports + min(in_hand, 0.99)) / self.exports_to_do)

    def sentence(self) -> str:
        """The progress for people, in one line."""
        return (
            f"{self.fraction:4.0%}  verifying, {self.exports:,} of {_exports(self.exports_to_do)}"
            f", {self.posts:,} posts, {format_size(self.bytes + self.media_bytes)}, {self.seconds:.0f} s"
        )


class _Counters(Counters):
    """Counts all exports; the export in work has its own counters, *in_hand*."""

    def __init__(self, exports: int) -> None:
        super().__init__()
        self.stage = "verifying"
        self.in_hand = Counters()
        self.exports = 0
        self.exports_to_do = exports

    def done_with_one(self) -> None:
        """Add the counts of the export in work, and start with the next."""
        done, self.in_hand = self.in_hand, Counters()
        self.exports += 1
        self.posts += done.posts
        self.bytes += done.bytes
        self.media_files += done.media_files
        self.media_bytes += done.media_bytes

    def progress(self, memory_bytes: int | None) -> AuditProgress:
        """The progress so far."""
        current = self.in_hand
        values = asdict(super().progress(memory_bytes)) | {
            "posts": self.posts + current.posts,
            "posts_read": current.posts_read,
            "posts_to_read": current.posts_to_read,
            "bytes": self.bytes + current.bytes,
            "media_files": self.media_files + current.media_files,
            "media_bytes": self.media_bytes + current.media_bytes,
        }
        return AuditProgress(**values, exports=self.exports, exports_to_do=self.exports_to_do)


def verify_all(
    directories: Iterable[str | os.PathLike[str]],
    on_progress: Callable[[AuditProgress], None] | None = None,
    *,
    recursive: bool = False,
    on_export: Callable[[AuditedExport], None] = lambda _: None,
) -> Audit:
    """Verify many exports, each as `verify` does.

        for export in verify_all(["exports"], recursive=True).exports:
            print(export.directory, export.status)

    Args:
        directories: Export directories; a repeated one is verified once.
        on_progress: Called several times a second; an exception that it raises ends the verification.
        recursive: Verify every export in and below these directories.
        on_export: Called with the result of each export as soon as it is known.

    Returns:
        The result of each export. Differences and missing exports raise nothing.

    Raises:
        OptionError: The path of a directory is empty or not a path, or *directories* is not a list.
        StoppedError: A signal stopped the verification. The message says how many exports were verified.
    """
    started = time.monotonic()
    check_paths(directories, "directories")
    targets = _found([parse_path(directory, "directory") for directory in directories], recursive=recursive)
    counters = _Counters(len(targets))
    exports: list[AuditedExport] = []

    def report(moment: Progress) -> None:
        if on_progress is not None and isinstance(moment, AuditProgress):
            on_progress(moment)

    try:
        with Monitor(counters, MemoryGuard(sys.maxsize, ProcessTree().sample), report) as monitor:
            for target in targets:
                monitor.check()
                exports.append(
                    target if isinstance(target, AuditedExport) else _audited(target, counters.in_hand, monitor.check)
                )
                counters.done_with_one()
                on_export(exports[-1])
    except StoppedError as error:
        error.message = f"stopped by a signal; {len(exports):,} of {_exports(len(targets))} were verified"
        raise
    return Audit(exports, time.monotonic() - started)


def _audited(directory: Path, counters: Counters, check: Callable[[], None]) -> AuditedExport:
    try:
        return AuditedExport(directory, verified(directory, counters, check))
    except (VerifyError, NoExportError) as error:
        return AuditedExport(directory, error=error)


def _found(directories: Sequence[Path], *, recursive: bool) -> list[AuditedExport | Path]:
    """The directories to verify, each once, in order; a directory that cannot be searched is a result with an error."""
    targets: list[AuditedExport | Path] = []
    seen = set()

    def fail(path: Path, reason: str) -> None:
        targets.append(AuditedExport(path, error=NoExportError(f"cannot read the directory {path}: {reason}")))

    for directory in directories:
        before = len(targets)
        none = True
        for path in exports_below(directory, fail) if recursive else [directory]:
            none = False
            same = os.path.realpath(path)
            if same not in seen:
                seen.add(same)
                targets.append(path)
        if none and len(targets) == before:
            error = NoExportError(f"there is no export below {directory}", "check the path")
            targets.append(AuditedExport(directory, error=error))
    return targets


def _exports(count: int) -> str:
    return "1 export" if count == 1 else f"{count:,} exports"
