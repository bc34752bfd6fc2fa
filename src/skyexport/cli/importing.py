"""`skyexport import`: an archive made of a Bluesky repository."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from skyexport.cli import printing
from skyexport.cli.boundary import signals_of
from skyexport.errors import StoppedError
from skyexport.notices import WARNING
from skyexport.options import declarations as option
from skyexport.options.values import parse_file, parse_path
from skyexport.runtime.signals import Signals

__all__ = ["import_command"]


def import_command(
    context: typer.Context,
    repository: Annotated[
        str,
        typer.Argument(metavar="FILE.car", help="A repository: Bluesky, Settings, Account, Export my data."),
    ],
    to: Annotated[
        Path,
        typer.Option(
            metavar="ARCHIVE",
            parser=parse_file,
            help="The archive: new, or made by an earlier import, which adds what is new.",
            show_default=False,
        ),
    ],
    handle: Annotated[
        str | None,
        typer.Option(
            metavar="HANDLE",
            help="Handle of the account, which is not in the file.",
            show_default="as before, else handle.invalid",
        ),
    ] = None,
    blobs: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            parser=partial(parse_path, what="folder of blobs"),
            help="Folder with images and videos, named by CID: they are checked, and copied beside the archive.",
            show_default=False,
        ),
    ] = None,
    remove_gone: Annotated[
        bool, typer.Option("--remove-gone", help="Remove posts that the repository no longer has.")
    ] = False,
    memory_limit: option.MemoryLimit = "500MB",
    quiet: option.Quiet = 0,
    progress: option.ProgressMode = "auto",
    as_json: option.AsJson = False,
    debug: option.Debug = False,
) -> None:
    """Make an archive of the CAR file that Bluesky lets you download.

    The file is a repository: all posts of an account, and more. Posts, profile, and the names of images and videos are
    imported. The same file always gives the same archive.
    """
    del debug  # `errors_reported` reads it.
    signals = signals_of(context)
    with signals.waiting():
        from skyexport.repository.importing import import_repository
        from skyexport.runtime.progress import Progress
    reporter = printing.progress_reporter(progress, quiet=bool(quiet))

    def watch(moment: Progress) -> None:
        signals.check()
        reporter(moment)

    with _stopped(signals), contextlib.closing(reporter):
        summary = import_repository(
            parse_path(repository, "CAR file"), to, blobs=blobs, handle=handle, remove_gone=remove_gone,
            memory_limit_bytes=int(memory_limit), on_progress=watch,
        )  # fmt: skip
    if as_json:
        printing.print_json({**summary.to_dict(), "sentences": summary.sentences()})
        return
    for line in summary.sentences():
        if not quiet or (quiet == 1 and line.startswith(WARNING)):
            printing.say(line)


@contextlib.contextmanager
def _stopped(signals: Signals) -> Iterator[None]:
    """Say what a signal left."""
    try:
        yield
        signals.settle()
    except StoppedError as error:
        what = f"the import was complete: {error.kept}" if error.kept else "nothing was imported"
        error.message = f"stopped by a signal; {what}"
        raise
