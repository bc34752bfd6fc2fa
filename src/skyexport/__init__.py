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

# Not from typing: loading that takes longer than all the rest here, and Ctrl-C meanwhile shows a traceback.
TYPE_CHECKING = False

__version__ = "0.1.0"

if TYPE_CHECKING:
    from typing import Any

    from skyexport.archive.authors import Author
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
        RepositoryError,
        StoppedError,
        StrictError,
        UnrelatedExportError,
        VerifyError,
        WorkerError,
    )
    from skyexport.fleet.progress import MigrationProgress
    from skyexport.fleet.reports import MergedReport, merge_reports
    from skyexport.fleet.results import Migration, Outcome
    from skyexport.fleet.schedule import export_all, export_in_parts
    from skyexport.options.export_options import ExportOptions
    from skyexport.pipeline.dry_run import DryRun, dry_run
    from skyexport.pipeline.export import export
    from skyexport.pipeline.inspection import Inspection, inspect
    from skyexport.pipeline.listing import Archive, Post
    from skyexport.pipeline.summary import ExportSummary
    from skyexport.repository.importing import import_repository
    from skyexport.repository.summary import ImportSummary
    from skyexport.runtime.progress import Progress
    from skyexport.verification.audit import Audit, AuditedExport, AuditProgress, verify_all
    from skyexport.verification.result import Verification
    from skyexport.verification.verifier import verify

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
    "ImportSummary",
    "Inspection",
    "MemoryLimitError",
    "MergedReport",
    "Migration",
    "MigrationProgress",
    "MissingExtraError",
    "NoExportError",
    "OptionError",
    "Outcome",
    "OutputError",
    "Post",
    "Progress",
    "RepositoryError",
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
    "export_in_parts",
    "import_repository",
    "inspect",
    "merge_reports",
    "verify",
    "verify_all",
]

_MODULES = {
    "Archive": "pipeline.listing",
    "Audit": "verification.audit",
    "AuditProgress": "verification.audit",
    "AuditedExport": "verification.audit",
    "Author": "archive.authors",
    "DryRun": "pipeline.dry_run",
    "ExportOptions": "options.export_options",
    "ExportSummary": "pipeline.summary",
    "ImportSummary": "repository.summary",
    "Inspection": "pipeline.inspection",
    "MergedReport": "fleet.reports",
    "Migration": "fleet.results",
    "MigrationProgress": "fleet.progress",
    "Outcome": "fleet.results",
    "Post": "pipeline.listing",
    "Progress": "runtime.progress",
    "Verification": "verification.verifier",
    "dry_run": "pipeline.dry_run",
    "export": "pipeline.export",
    "export_all": "fleet.schedule",
    "export_in_parts": "fleet.schedule",
    "import_repository": "repository.importing",
    "inspect": "pipeline.inspection",
    "merge_reports": "fleet.reports",
    "verify": "verification.verifier",
    "verify_all": "verification.audit",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'skyexport' has no attribute {name!r}")
    module = importlib.import_module(f"skyexport.{_MODULES.get(name, 'errors')}")
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted(__all__)
