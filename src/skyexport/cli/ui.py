"""`skyexport ui`: the local page."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from skyexport.cli import printing
from skyexport.cli.boundary import config_of, signals_of
from skyexport.errors import OptionError, OutputError, StoppedError
from skyexport.options.declarations import Debug
from skyexport.options.export_options import DEFAULT_OUTPUT_DIR
from skyexport.options.values import parse_number, parse_path

__all__ = ["ui_command"]

_HIGHEST_PORT = 65_535


def ui_command(
    context: typer.Context,
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ARCHIVE|DIR...",
            help="Archives, CAR files, or folders with them. [default: the current folder]",
            show_default=False,
        ),
    ] = None,
    output_dir: Annotated[
        Path | None,
        typer.Option(
            "--output-dir",
            "-o",
            metavar="DIR",
            parser=partial(parse_path, what="output directory"),
            help="Exports that are shown, and where new ones go.",
            show_default=str(DEFAULT_OUTPUT_DIR),
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            parser=partial(parse_number, name="ports"),
            help="Listen on this port.",
            show_default="8321, or the next that is free",
        ),
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="Listen on another address: others on the network can then try to open the page.",
        ),
    ] = "127.0.0.1",
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print the address.")] = False,
    debug: Debug = False,
) -> None:
    """Read, export and verify in your browser: a page on this machine.

    Only this machine can reach the page, and only with the address that is printed. An export that the page started
    goes on if you close the page.
    """
    del debug  # `errors_reported` reads it.
    signals = signals_of(context)
    with signals.waiting():
        from skyexport.extras import require_server
        from skyexport.fleet.preflight import check_output_name

        require_server()
        from skyexport.web.server import ServerOptions, serve
    if port is not None and not 0 < port <= _HIGHEST_PORT:
        raise OptionError(f"there is no port {port}", f"ports are 1 to {_HIGHEST_PORT}")
    to = (output_dir or DEFAULT_OUTPUT_DIR).absolute()
    check_output_name(to)
    if to.exists() and not to.is_dir():
        raise OutputError(f"{output_dir} is not a folder", "name another one with -o")
    named = [parse_path(source, "archive or folder") for source in sources or ["."]]
    number = serve(ServerOptions(named, to, host, port, not no_browser, config_of(context)), printing.say)
    stopped = StoppedError(number)
    stopped.message = "stopped by a signal; the page is closed"
    raise stopped
