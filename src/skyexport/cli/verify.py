"""`skyexport verify`: whether exports are complete, unchanged and readable."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated

import typer

from skyexport.errors import StoppedError, VerifyError
from skyexport.options.values import parse_path

if TYPE_CHECKING:
    from skyexport.verification.audit import AuditedExport
from skyexport.cli import printing
from skyexport.cli.boundary import signals_of
from skyexport.options.declarations import AsJson, Debug, ProgressMode

__all__ = ["verify_command"]


def verify_command(
    context: typer.Context,
    directories: Annotated[
        list[str],
        typer.Argument(
            metavar="DIRECTORY...", help="Export directories: those that contain manifest.json.", show_default=False
        ),
    ],
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Verify every export in and below the directories.")
    ] = False,
    as_json: AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print differences and errors only.")] = False,
    progress: ProgressMode = "auto",
    debug: Debug = False,
) -> None:
    """Check that exports are complete, unchanged, and readable."""
    del debug  # `errors_reported` reads it.
    signals = signals_of(context)
    with signals.waiting():
        import skyexport.runtime.progress  # noqa: F401
        from skyexport.verification.audit import verify_all
        from skyexport.verification.verifier import verify

    reporter = printing.progress_reporter(progress, quiet=bool(quiet))
    if recursive or len(directories) > 1:

        def tell(export: AuditedExport) -> None:
            with reporter.paused():
                for line in () if as_json else export.lines():
                    if export.status == "no export":
                        printing.say(f"skyexport: {line}")
                    elif export.error is not None or not quiet:
                        printing.print_line(printing.printable(line))

        with contextlib.closing(reporter):
            audit = verify_all(directories, reporter, recursive=recursive, on_export=tell)
        if as_json:
            printing.print_json(audit.to_dict())
        elif not quiet:
            printing.print_line(audit.sentence())
        signals.settle()
        raise typer.Exit(audit.exit_code)
    try:
        with contextlib.closing(reporter):
            verification = verify(parse_path(directories[0], "directory"), reporter)
    except VerifyError as error:
        if not as_json:
            for difference in error.differences:
                printing.print_line(printing.printable(str(difference)))
        raise
    except StoppedError as error:
        error.message = "stopped by a signal; not everything was verified"
        raise
    if as_json:
        printing.print_json({**verification.to_dict(), "sentences": [verification.sentence()]})
    elif not quiet:
        printing.print_line(printing.printable(verification.sentence()))
