"""Checks of paths and queries before anything starts.

Users easily mix up paths: an output file among the archives, an export in the place of the directory of exports. And an
error that concerns all of many archives is reported once, not once for each.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from skyexport.archive.full_text import check_query
from skyexport.errors import ArchiveError, OptionError
from skyexport.fleet.archive_list import ArchiveList
from skyexport.formats import FORMS
from skyexport.formats.names import looks_like_data_file
from skyexport.layout import CLAIMS
from skyexport.options.export_options import Resolved
from skyexport.output.destination import check_output_dir, check_place
from skyexport.pipeline.memory_need import memory_need
from skyexport.runtime.media_root import MediaRoot
from skyexport.runtime.memory import MemoryGuard, ProcessTree
from skyexport.runtime.sqlite_files import is_sqlite
from skyexport.verification.chains import is_export

__all__ = ["check_archive_names", "check_for_all", "check_output_name"]


def check_archive_names(paths: Sequence[str], *, exporting: bool = False) -> None:
    """Refuse paths of archives that surely mean something else.

    Args:
        paths: The paths as typed.
        exporting: Whether the command exports, so that a path may be meant for `--to` or `--since-export`.

    Raises:
        OptionError: A path is an export, a file of an export, or has the name of a data file and is not an archive.
    """
    for text in paths:
        path = Path(text)
        if text and not is_sqlite(path):
            _check_is_no_export(path, exporting=exporting)
            if looks_like_data_file(path):
                others = exporting and len(paths) > 1
                hint = f"did you mean --to {path}?" if others else "name the archive's .db file"
                raise OptionError(f"{path} is not an archive", hint)


def _check_is_no_export(path: Path, *, exporting: bool) -> None:
    directory = path.parent if path.name in CLAIMS else path
    if is_export(directory):
        since = ", or --since-export before it" if exporting and directory == path else ""
        what = "is an export" if directory == path else "is a file of an export"
        raise OptionError(f"{path} {what}, not an archive", f"did you mean `skyexport verify {directory}`{since}?")


def check_output_name(output_dir: Path) -> None:
    """Refuse a path for the directory of exports that surely means something else.

    Raises:
        OptionError: The path is an archive, or has the name of a data file and is not a directory.
    """
    if is_sqlite(output_dir):
        raise OptionError(f"{output_dir} is an archive, but -o names the directory of exports", "leave out -o")
    if looks_like_data_file(output_dir) and not output_dir.is_dir():
        raise OptionError(f"-o {output_dir} would make a directory of that name", f"did you mean --to {output_dir}?")


def check_for_all(archives: ArchiveList, resolved: Resolved) -> None:
    """Check the options that all of many archives share.

    Raises:
        ArchiveError: None of several archives exists.
        ExportError: The format, the query, the memory limit or a path would make every export fail.
    """
    check_place(resolved)
    check_output_dir(resolved.output_dir)
    format = FORMS[resolved.format]
    if format.memory.library and importlib.util.find_spec(format.memory.library) is None:
        # This raises the error. If the library is installed, loading it here would take memory that exporters need.
        format.require()
    options = resolved.options
    need = memory_need(format, resolved.compression, 0)
    MemoryGuard(options.memory_limit_bytes, ProcessTree().sample).check_workable(need, 0, resolved.format)
    if options.match is not None:
        check_query(options.match)
    if resolved.media_root is not None:
        with MediaRoot(resolved.media_root):
            pass
    if resolved.link_media is not None:
        # This imports the readers of exports, which takes 15 ms.
        from skyexport.verification.previous_media import EarlierMedia

        with EarlierMedia(resolved.link_media):
            pass
    if len(archives) > 1 and not any(archive.exists() for archive in archives):
        try:
            hint = f"relative paths start at the current directory, {Path.cwd()}"
        except FileNotFoundError:
            hint = "change to another directory: the current one was deleted"
        raise ArchiveError(f"none of these {len(archives):,} archives exists; the first is {archives[0]}", hint)
