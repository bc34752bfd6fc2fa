"""All errors, as one small tree: each class owns the exit code of the command.

An error is one line for people: what happened, where, and what to try. Its data are attributes, so programs need not
parse the line. Errors can be pickled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

__all__ = [
    "EXIT_CODES",
    "AlreadyRunningError",
    "ArchiveBusyError",
    "ArchiveChangedError",
    "ArchiveError",
    "AuthorError",
    "Difference",
    "ExportError",
    "MemoryLimitError",
    "MissingExtraError",
    "NoExportError",
    "OptionError",
    "OutputError",
    "RepositoryError",
    "StoppedError",
    "StrictError",
    "UnrecoveredError",
    "UnrelatedExportError",
    "VerifyError",
    "WorkerError",
]


class ExportError(Exception):
    """An export failed for a reason that a user can understand.

    Args:
        message: What happened and where, without a full stop at the end.
        hint: What to try; "" for no suggestion.

    The attribute `exit_code` is the exit code of the command.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def details(self) -> dict[str, object]:
        """More fields for programs, as `--json` prints them."""
        return {}

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class OptionError(ExportError):
    """An option has a value that is never valid; raised before anything is opened."""

    exit_code = 2


class AuthorError(OptionError):
    """The archive has no post by the requested author."""


class StrictError(ExportError):
    """With `strict`: a stored value cannot be exported as it is."""

    exit_code = 3


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference between an export directory and its manifest."""

    file: str
    """Name of the file; bytes that are not UTF-8 are replaced."""
    what: str
    """How the file differs, for people."""
    extra: bool = False
    """Whether the file does not belong to the export, like those of file managers; the export itself is intact."""

    def __str__(self) -> str:
        return f"{self.file}: {self.what}"


class VerifyError(ExportError):
    """An export differs from its manifest.

    Args:
        directory: The export directory.
        differences: All differences, at least one.
    """

    exit_code = 4

    def __init__(self, directory: str, differences: Sequence[Difference]) -> None:
        more = f", and {len(differences) - 1:,} more" if len(differences) > 1 else ""
        hint = "export again"
        if all(difference.extra for difference in differences):
            pronoun = "them" if len(differences) > 1 else "it"
            hint = f"remove {pronoun}: the export's own files are intact"
        super().__init__(f"{directory} differs from its manifest: {differences[0]}{more}", hint)
        self.args = (directory, differences)
        self.differences = tuple(differences)

    def details(self) -> dict[str, object]:
        """All differences."""
        return {"differences": [asdict(difference) for difference in self.differences]}


class MissingExtraError(ExportError):
    """An extra that the command needs is not installed: pyarrow for Parquet, libipld for CAR files, distributed for a
    cluster, Starlette and uvicorn for the local page."""

    exit_code = 5


class NoExportError(ExportError):
    """An export is missing, unreadable, or not an export directory."""

    exit_code = 10


class ArchiveError(ExportError):
    """The archive is missing, unreadable, damaged, or not a bskyarchive archive."""

    exit_code = 10


class UnrecoveredError(ArchiveError):
    """A program was stopped while it wrote to the archive; SQLite must recover the archive before it can be read."""


class RepositoryError(ExportError):
    """A CAR file is missing, unreadable, incomplete, damaged, or not a Bluesky repository."""

    exit_code = 10


class UnrelatedExportError(ExportError):
    """The archive has no post of an earlier export, which seems to be of another archive."""

    exit_code = 10


class ArchiveBusyError(ExportError):
    """Another program locks the archive and did not release it in time."""

    exit_code = 11


class ArchiveChangedError(ExportError):
    """The archive changed during the export, so no single state of it could be exported."""

    exit_code = 11


class OutputError(ExportError):
    """The output cannot be written: the disk is full, the directory is not writable, or the file exists."""

    exit_code = 12


class MemoryLimitError(ExportError):
    """The processes together reached the memory limit, or the system gives no more memory."""

    exit_code = 13


NO_MEMORY = "the system gives no more memory"
"""The message of a `MemoryLimitError` in which the limit is the system's."""


class WorkerError(ExportError):
    """A worker process or a cluster died, stopped responding, or failed unexpectedly."""

    exit_code = 14


class AlreadyRunningError(ExportError):
    """Another export is writing to the same place."""

    exit_code = 15


class StoppedError(ExportError):
    """A signal asked the export to stop.

    Args:
        signal_number: The signal; the exit code is 128 plus this number, as in shells.
        kept: Path of the export if it is complete and has its final name; "" if nothing was kept.
    """

    def __init__(self, signal_number: int, kept: str = "") -> None:
        what = f"the export was complete: {kept}" if kept else "nothing of this export was kept"
        super().__init__(f"stopped by a signal; {what}")
        self.args = (signal_number, kept)
        self.signal_number = signal_number
        self.kept = kept

    @property
    def exit_code(self) -> int:  # type: ignore[override]
        return 128 + self.signal_number


def unexpected(error: BaseException) -> ExportError:
    """The error to report for any other exception."""
    if isinstance(error, MemoryError):
        return MemoryLimitError(NO_MEMORY, "end other programs, and try again")
    return ExportError(f"unexpected {type(error).__name__}: {error}", "please report it")


EXIT_CODES: dict[int, str] = {
    0: "done, even if no post matched",
    1: "an unexpected error: please report it",
    2: "wrong usage: an option or its value",
    3: "--strict: a value cannot be exported as stored",
    4: "verify: an export differs from its manifest, or a file of it cannot be read",
    5: "an extra is not installed: Parquet needs pyarrow, html Jinja2, CAR files libipld, --cluster distributed,"
    " ui uvicorn",
    10: "the archive, the export or the CAR file is missing, unreadable, or of the wrong kind",
    11: "the archive is busy, or changed while it was read",
    12: "the output cannot be written",
    13: "the memory limit was reached, or the system gives no more memory",
    14: "a worker process, or a cluster, died or does not answer",
    15: "another export is writing to the same place",
    130: "stopped by Ctrl-C",
    143: "stopped by SIGTERM; for any other signal, 128 + its number",
}
"""Exit status of the command → its meaning. The table in the README has the same lines."""
