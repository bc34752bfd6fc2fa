"""`skyexport config`: the value of each option, and where it comes from."""

from __future__ import annotations

from typing import Annotated

import typer

from skyexport.cli import printing
from skyexport.cli.boundary import configuration_of
from skyexport.errors import OptionError
from skyexport.options.declarations import AsJson, Debug

__all__ = ["config_command"]


def config_command(
    context: typer.Context,
    command: Annotated[
        str | None,
        typer.Argument(metavar="COMMAND", help="Only the options of this command.", show_default="all commands"),
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show which value each option has, and where it comes from.

    The first source that sets an option wins: the command line; the variable SKYEXPORT_<OPTION>; the TOML file that
    --config or SKYEXPORT_CONFIG names; skyexport.toml in the current directory; the user's own file; the default.
    """
    del debug  # `errors_reported` reads it.
    configuration = configuration_of(context)
    if command is not None and command not in configuration.settings:
        raise OptionError(f"there is no command {command!r}", f"commands are {', '.join(configuration.settings)}")
    commands = [*configuration.settings] if command is None else [command]
    if as_json:
        printing.print_json(configuration.to_dict(commands))
    else:
        for line in configuration.lines(commands):
            printing.print_line(printing.printable(line))
