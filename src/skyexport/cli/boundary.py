"""The beginning and the end of every command: its options from elsewhere, its signals, and what its errors become."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import typer
import typer.core

from skyexport.cli.configuration import PROJECT_FILE, Configuration
from skyexport.errors import ExportError, OptionError, unexpected
from skyexport.runtime.signals import Signals

if TYPE_CHECKING:
    pass
from skyexport.cli import printing

__all__ = ["AS_JSON", "configuration_of", "configure", "leave_when_from_elsewhere", "signals_of", "told"]

_CONFIG_FILE = "skyexport.config"
"""Key of a context's `meta`: the value of --config."""


AS_JSON = "skyexport.as_json"
"""Key of the program's `meta`: whether to print results and errors as JSON."""


_CONFIGURATION = "skyexport.configuration"
"""Key of a context's `meta`: the `Configuration`, or the OptionError that reading it raised."""


def configure(context: Any, _: Any, config: str | None) -> None:
    """Let the environment and files set the options that the command line does not set.

    An error in them is kept in the context until the command starts, which knows how to print it.
    """
    if context.resilient_parsing:
        return
    if config is not None:
        context.meta[_CONFIG_FILE] = config
    if context.parent is None:
        return
    try:
        configuration = Configuration(context.parent.command, context.meta.get(_CONFIG_FILE), os.environ)
        given = configuration.given(context.command.name)
    except OptionError as error:
        context.meta[_CONFIGURATION] = error
    else:
        context.meta[_CONFIGURATION] = configuration
        context.default_map = {name: it.value for name, it in given.items() if it.value is not None}


def configuration_of(context: typer.Context) -> Configuration:
    """The options that the environment and files set.

    Raises:
        OptionError: One of these is not valid.
    """
    found: Configuration | OptionError = context.meta[_CONFIGURATION]
    if isinstance(found, OptionError):
        raise found
    return found


def _typed(context: typer.Context) -> dict[str, Any]:
    """The options that the command line sets: name → value."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return {name: context.params[name] for name, source in sources.items() if source and source.name == "COMMANDLINE"}


def leave_when_from_elsewhere(error: Exception, *, as_json: bool) -> None:
    """Exit with one line if the error is a bad value of an option that came from the environment or a file."""
    context: Any = getattr(error, "ctx", None)
    option: Any = getattr(error, "param", None)
    configuration = context.meta.get(_CONFIGURATION) if context and option else None
    if isinstance(configuration, Configuration) and option.name in (context.default_map or {}):
        source = context.get_parameter_source(option.name)
        if source is None or source.name != "COMMANDLINE":
            wrong = OptionError(f"{option.opts[0]}: {str(getattr(error, 'message', error)).rstrip('.')}")
            printing.leave(configuration.traced(wrong, context.command.name, _typed(context)), as_json=as_json)


def signals_of(context: typer.Context) -> Signals:
    """The signals that the program handles; a new object if a test or another program runs the command."""
    return context.find_object(Signals) or Signals()


@contextlib.contextmanager
def told(context: typer.Context, *, as_json: bool, debug: bool) -> Iterator[None]:
    """Turn an exception into a line for people, an object for programs, and the exit code."""
    signals = signals_of(context)
    # If the environment or a file cannot be read, a --json on the command line still counts.
    as_json = as_json or context.meta[AS_JSON]
    try:
        _say_project_file(context)
        yield
        signals.settle()
    except ExportError as error:
        signals.settle()
        found = context.meta[_CONFIGURATION]
        if isinstance(error, OptionError) and isinstance(found, Configuration):
            error = found.traced(error, context.command.name or "", _typed(context))
        if debug:
            printing.say_traceback()
        printing.leave(error, as_json=as_json)
    except (typer.Exit, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        signals.settle()
        if debug or not isinstance(error, MemoryError):
            printing.say_traceback()
        printing.leave(unexpected(error), as_json=as_json)


def _say_project_file(context: typer.Context) -> None:
    """Print that a project file sets options; its own `quiet` does not silence this line."""
    keys = configuration_of(context).obeyed(context.command.name or "", _typed(context))
    if keys and ("quiet" in keys or not context.params.get("quiet")):
        printing.say(f"{PROJECT_FILE} in this directory sets {', '.join(keys)}")
