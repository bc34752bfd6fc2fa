"""Export local Bluesky archives of any size to JSON, JSON Lines, CSV or Parquet, in parallel and in bounded memory.

    from skyexport import ExportOptions, export

    summary = export(ExportOptions(archive="archive.db", format="csv", output_dir="exports"))
    print(summary.posts, summary.path)

`help(ExportOptions)` explains every option; docs/python.md has an example of everything else. All errors are
`ExportError`s, and can be imported from here.

Names are loaded at their first use, so that a worker process loads only the modules that it needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from skyexport.audit import Audit, AuditedExport, AuditProgress, verify_all
    from skyexport.authors import Author
    from skyexport.coordinator import export
    from skyexport.errors import (
        AlreadyRunningError,
        ArchiveBusyError,
        ArchiveChangedError,
        ArchiveError,
        AuthorError,
        Difference,
        ExportError,
        MemoryLimitError,
        MissingExtraError,
        NoExportError,
        OptionError,
        OutputError,
        StoppedError,
        StrictError,
        UnrelatedExportError,
        VerifyError,
        WorkerError,
    )
    from skyexport.inspection import Inspection, inspect
    from skyexport.listing import Archive, Post
    from skyexport.migration import MigrationProgress, export_all
    from skyexport.options import ExportOptions
    from skyexport.outcome import Migration, Outcome
    from skyexport.progress import Progress
    from skyexport.rehearsal import DryRun, dry_run
    from skyexport.summary import ExportSummary
    from skyexport.verification import Verification, verify

__all__ = [
    "AlreadyRunningError",
    "Archive",
    "ArchiveBusyError",
    "ArchiveChangedError",
    "ArchiveError",
    "Audit",
    "AuditProgress",
    "AuditedExport",
    "Author",
    "AuthorError",
    "Difference",
    "DryRun",
    "ExportError",
    "ExportOptions",
    "ExportSummary",
    "Inspection",
    "MemoryLimitError",
    "Migration",
    "MigrationProgress",
    "MissingExtraError",
    "NoExportError",
    "OptionError",
    "Outcome",
    "OutputError",
    "Post",
    "Progress",
    "StoppedError",
    "StrictError",
    "UnrelatedExportError",
    "Verification",
    "VerifyError",
    "WorkerError",
    "__version__",
    "dry_run",
    "export",
    "export_all",
    "inspect",
    "verify",
    "verify_all",
]

_MODULES = {
    "Archive": "archive",
    "Audit": "audit",
    "AuditProgress": "audit",
    "AuditedExport": "audit",
    "Author": "authors",
    "DryRun": "rehearsal",
    "ExportOptions": "options",
    "ExportSummary": "summary",
    "Inspection": "inspection",
    "Migration": "outcome",
    "MigrationProgress": "migration",
    "Outcome": "outcome",
    "Post": "archive",
    "Progress": "progress",
    "Verification": "verification",
    "dry_run": "rehearsal",
    "export": "coordinator",
    "export_all": "migration",
    "inspect": "inspection",
    "verify": "verification",
    "verify_all": "audit",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'skyexport' has no attribute {name!r}")
    module = importlib.import_module(f"skyexport.{_MODULES.get(name, 'errors')}")
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted(__all__)
