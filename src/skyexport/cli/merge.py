"""`skyexport merge`: the reports of all shards as one."""

from __future__ import annotations

from typing import Annotated

import typer

from skyexport.cli import printing
from skyexport.cli.boundary import signals_of
from skyexport.options.declarations import AsJson, Debug

__all__ = ["merge_command"]


def merge_command(
    context: typer.Context,
    reports: Annotated[
        list[str],
        typer.Argument(
            metavar="REPORT...", help="What export --shard I/N --json printed, for each shard.", show_default=False
        ),
    ],
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Merge the reports of all shards of one list of archives.

    The exit status is that of the same export on one machine.
    """
    del debug  # `errors_reported` reads it.
    with signals_of(context).waiting():
        from skyexport.fleet.reports import merge_reports

    merged = merge_reports(reports)
    if as_json:
        printing.print_json({**merged.values, "archives": []}, inner=merged.archives)
    else:
        for line in merged.sentences():
            printing.print_line(printing.printable(line))
    if merged.author_error is not None:
        printing.say(f"skyexport: {merged.author_error}")
    raise typer.Exit(merged.exit_code)
