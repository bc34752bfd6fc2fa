"""`skyexport bench`: the settings that export an archive fastest on this machine."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from skyexport.cli import printing
from skyexport.cli.boundary import signals_of
from skyexport.options.declarations import ArchivePath, AsJson, Debug, Size
from skyexport.options.export_options import ExportOptions
from skyexport.options.values import parse_number, parse_path, parse_size

__all__ = ["bench_command"]


def bench_command(
    context: typer.Context,
    archive: ArchivePath,
    output_dir: Annotated[
        Path,
        typer.Option(
            "--output-dir",
            "-o",
            metavar="DIR",
            parser=partial(parse_path, what="output directory"),
            help="A directory on the disk where exports will go; nothing stays there.",
        ),
    ] = Path(),
    posts: Annotated[
        int,
        typer.Option(
            metavar="N", parser=partial(parse_number, name="posts"), help="Measure with about N newest posts."
        ),
    ] = 200_000,
    runs: Annotated[
        int, typer.Option(metavar="N", parser=partial(parse_number, name="runs"), help="Runs per measurement.")
    ] = 3,
    memory_limit: Annotated[
        Size,
        typer.Option(metavar="SIZE", parser=parse_size, help="Memory for all processes together, like 500MB or 1GiB."),
    ] = "500MB",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Measure which settings export an archive fastest on this machine.

    This takes about a minute. It exports the newest posts as JSON and CSV, to the null device and to the disk, with
    different numbers of workers.
    """
    signals = signals_of(context)
    with signals.waiting():
        from skyexport.fleet.preflight import check_archive_names, check_output_name
        from skyexport.pipeline.benchmark import benchmark

    check_archive_names([archive])
    check_output_name(output_dir)
    options = ExportOptions(archive=parse_path(archive, "archive"), output_dir=output_dir, memory_limit=memory_limit)
    measured = benchmark(options, posts=posts, runs=runs, say=printing.say, debug=debug)
    if as_json:
        printing.print_json(measured.to_dict())
    else:
        for line in measured.lines():
            printing.print_line(printing.printable(line))
