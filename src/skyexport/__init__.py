"""Export a local Bluesky archive of any size to JSON or CSV: in parallel, in order, in bounded memory.

    from skyexport import ExportOptions, export

    summary = export(ExportOptions(archive="archive.db", format="csv", output_dir="exports"))
    print(summary.posts, summary.path)

Names are loaded when they are first used, so that a worker process loads only what it needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from skyexport.archive import Archive, Post
    from skyexport.coordinator import export
    from skyexport.errors import (
        AlreadyRunningError,
        ArchiveBusyError,
        ArchiveChangedError,
        ArchiveError,
        ExportError,
        MemoryLimitError,
        OptionError,
        OutputError,
        StoppedError,
        StrictError,
        WorkerError,
    )
    from skyexport.options import ExportOptions
    from skyexport.progress import Progress
    from skyexport.summary import ExportSummary

__all__ = [
    "AlreadyRunningError",
    "Archive",
    "ArchiveBusyError",
    "ArchiveChangedError",
    "ArchiveError",
    "ExportError",
    "ExportOptions",
    "ExportSummary",
    "MemoryLimitError",
    "OptionError",
    "OutputError",
    "Post",
    "Progress",
    "StoppedError",
    "StrictError",
    "WorkerError",
    "__version__",
    "export",
]

_MODULES = {
    "Archive": "archive",
    "ExportOptions": "options",
    "ExportSummary": "summary",
    "Post": "archive",
    "Progress": "progress",
    "export": "coordinator",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'skyexport' has no attribute {name!r}")
    module = importlib.import_module(f"skyexport.{_MODULES.get(name, 'errors')}")
    return getattr(module, name)
