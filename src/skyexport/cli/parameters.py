"""Parameters that several commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
import typer.core

from skyexport.cli.help_pages import (
    MESSAGES,
)

if TYPE_CHECKING:
    pass

__all__ = ["ArchivePath", "AsJson", "Debug"]

ArchivePath = Annotated[
    str,
    typer.Argument(metavar="ARCHIVE", help="The archive, a SQLite file; it is only read.", show_default=False),
]


AsJson = Annotated[
    bool, typer.Option("--json", help="Print the result as one JSON object on stdout.", rich_help_panel=MESSAGES)
]


Debug = Annotated[bool, typer.Option("--debug", help="Show a traceback for every error.", rich_help_panel=MESSAGES)]
