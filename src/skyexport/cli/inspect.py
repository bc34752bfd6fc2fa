"""`skyexport inspect`: what an archive has."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from skyexport.cli import printing
from skyexport.cli.boundary import signals_of
from skyexport.options.declarations import ArchivePath, AsJson, Debug
from skyexport.options.values import parse_path
from skyexport.wording import path_text

__all__ = ["inspect_command"]


def inspect_command(
    context: typer.Context,
    archive: ArchivePath,
    authors: Annotated[
        bool, typer.Option("--authors", help="List all authors instead, one per line: posts, DID, handle.")
    ] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show the contents of an archive, and how large exports would be."""
    del debug  # `errors_reported` reads it.
    signals = signals_of(context)
    with signals.waiting():
        from skyexport.fleet.preflight import check_archive_names
        from skyexport.pipeline.inspection import author_line, inspect, list_authors

    check_archive_names([archive])
    path = parse_path(archive, "archive")
    if authors:
        count, every = list_authors(path)
        if as_json:
            head = {"status": "ok", "path": path_text(path.resolve()), "authors": count}
            printing.print_json({**head, "all_authors": []}, inner=map(asdict, every))
        else:
            for author in every:
                printing.print_line(printing.printable(author_line(author)))
        return
    inspection = inspect(path)
    if as_json:
        printing.print_json(inspection.to_dict())
    else:
        for line in inspection.lines():
            printing.print_line(printing.printable(line))
