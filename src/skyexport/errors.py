"""Everything that can go wrong, as one small tree: each class owns the exit code that the command ends with.

An error is one line for people: what happened, where, and what to try. Its data travel as attributes, so a
program need not parse the line; errors pickle.
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
    "StoppedError",
    "StrictError",
    "UnrecoveredError",
    "UnrelatedExportError",
    "VerifyError",
    "WorkerError",
]


class ExportError(Exception):
    """An export that did not happen, for a reason that a user can understand.

    Args:
        message: What happened and where, without a full stop at the end.
        hint: What to try, or "" when there is nothing to suggest.

    The attribute `exit_code` is what the command exits with.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def details(self) -> dict[str, object]:
        """What a program may want to know besides, as `--json` prints it."""
        return {}

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class OptionError(ExportError):
    """An option has a value that no export could have; raised before anything is opened."""

    exit_code = 2


class AuthorError(OptionError):
    """The archive has no post by the author that was asked for."""


class StrictError(ExportError):
    """With `strict`: a post holds something that can not be exported as it is stored."""

    exit_code = 3


@dataclass(frozen=True, slots=True)
class Difference:
    """What is not as it should be in an export directory."""

    file: str
    """Its name; bytes that are not UTF-8 are replaced."""
    what: str
    extra: bool = False
    """Whether it is something that does not belong there, as file managers leave it; the export itself is intact."""

    def __str__(self) -> str:
        return f"{self.file}: {self.what}"


class VerifyError(ExportError):
    """An export is not as it says itself.

    Args:
        directory: The export directory.
        differences: All that were found, at least one.
    """

    exit_code = 4

    def __init__(self, directory: str, differences: Sequence[Difference]) -> None:
        more = f", and {len(differences) - 1:,} more" if len(differences) > 1 else ""
        hint = "export again"
        if all(difference.extra for difference in differences):
            it = "them" if len(differences) > 1 else "it"
            hint = f"remove {it}: the export's own files are intact"
        super().__init__(f"{directory} is not as it was exported: {differences[0]}{more}", hint)
        self.args = (directory, differences)
        self.differences = tuple(differences)

    def details(self) -> dict[str, object]:
        """All differences."""
        return {"differences": [asdict(difference) for difference in self.differences]}


class MissingExtraError(ExportError):
    """The command needs an extra that is not installed: pyarrow, for Parquet."""

    exit_code = 5


class NoExportError(ExportError):
    """What should be verified is not there, can not be read, or is no export directory."""

    exit_code = 10


class ArchiveError(ExportError):
    """The archive is missing, unreadable, damaged, or not a bskyarchive archive."""

    exit_code = 10


class UnrecoveredError(ArchiveError):
    """A program was stopped while writing to the archive: what it wrote must be taken back, or in, before reading."""


class UnrelatedExportError(ExportError):
    """An earlier export has posts, and not one of them is in the archive: it seems to be of another archive."""

    exit_code = 10


class ArchiveBusyError(ExportError):
    """Another program holds the archive and did not let go in time."""

    exit_code = 11


class ArchiveChangedError(ExportError):
    """The archive changed while it was read, so that no single state of it could be exported."""

    exit_code = 11


class OutputError(ExportError):
    """The output can not be written: the disk is full, the place is not writable, the file exists."""

    exit_code = 12


class MemoryLimitError(ExportError):
    """The process tree reached the memory limit."""

    exit_code = 13


class WorkerError(ExportError):
    """A worker process died, did not go on, or failed in a way that nobody foresaw."""

    exit_code = 14


class AlreadyRunningError(ExportError):
    """Another export is writing into the same place."""

    exit_code = 15


class StoppedError(ExportError):
    """A signal asked the export to stop.

    Args:
        signal_number: The signal; the exit code is 128 plus this number, as shells have it.
        kept: What has its final name already and is complete; "" for nothing.
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


EXIT_CODES: dict[int, str] = {
    0: "done, also when no post matched",
    1: "an unexpected error: please report it",
    2: "wrong usage: an option or its value",
    3: "--strict: something can not be exported as it is stored",
    4: "verify: the export is not what its manifest says, or a file of it can not be read",
    5: "an extra is not installed: Parquet needs pyarrow",
    10: "the archive, or the export to verify, is missing, unreadable or not one",
    11: "the archive is busy, or changed while it was read",
    12: "the output can not be written",
    13: "the memory limit was reached",
    14: "a worker process died, or did not go on",
    15: "another export into the same place is running",
    130: "stopped by Ctrl-C",
    143: "stopped by SIGTERM; likewise 128 + the number of any other signal",
}
"""Exit status of the command → its meaning; the README's table is made from this."""
