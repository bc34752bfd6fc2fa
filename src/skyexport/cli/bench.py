"""`skyexport bench`: the settings that export an archive fastest on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import typer.core

from skyexport.options.export_options import ExportOptions
from skyexport.options.values import parse_number, parse_path, parse_size

if TYPE_CHECKING:
    pass
from skyexport.cli import printing
from skyexport.cli.boundary import signals_of, told
from skyexport.options.declarations import ArchivePath, AsJson, Debug

__all__ = ["bench_command"]


def bench_command(
    context: typer.Context,
    archive: ArchivePath,
    output_dir: Annotated[
        str,
        typer.Option(
            "--output-dir",
            "-o",
            metavar="DIR",
            help="A directory on the disk where exports will go; nothing stays there.",
        ),
    ] = ".",
    posts: Annotated[str, typer.Option(metavar="N", help="Measure with about N newest posts.")] = "200000",
    runs: Annotated[str, typer.Option(metavar="N", help="Runs per measurement.")] = "3",
    memory_limit: Annotated[
        str, typer.Option(metavar="SIZE", help="Memory for all processes together, like 500MB or 1GiB.")
    ] = "500MB",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Measure which settings export an archive fastest on this machine.

    This takes about a minute. It exports the newest posts as JSON and CSV, to the null device and to the disk, with
    different numbers of workers.
    """
    signals = signals_of(context)
    with told(context, as_json=as_json, debug=debug):
        with signals.waiting():
            from skyexport.fleet.preflight import check_archive_names, check_output_name
            from skyexport.pipeline.benchmark import benchmark

        check_archive_names([archive])
        if output_dir:
            check_output_name(Path(output_dir))
        options = ExportOptions(
            archive=parse_path(archive, "archive"), output_dir=parse_path(output_dir, "output directory"),
            memory_limit=parse_size(memory_limit),
        )  # fmt: skip
        measured = benchmark(
            options, posts=parse_number(posts, "posts"), runs=parse_number(runs, "runs"), say=printing.say, debug=debug
        )
        if as_json:
            printing.print_json(measured.to_dict())
        else:
            for line in measured.lines():
                printing.print_line(printing.printable(line))
