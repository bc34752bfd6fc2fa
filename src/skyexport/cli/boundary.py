"""The beginning and the end of every command: its options from elsewhere, its signals, and what its errors become."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import typer

from skyexport.cli import printing
from skyexport.cli.configuration import Configuration
from skyexport.cli.help_pages import HelpfulCommand
from skyexport.cli.usage import usage_error
from skyexport.errors import ExportError, OptionError, unexpected
from skyexport.runtime.signals import Signals

__all__ = ["AS_JSON", "Command", "config_of", "configure", "errors_reported", "signals_of"]

_CONFIG_FILE = "skyexport.config"
"""Key of a context's `meta`: the value of --config."""


AS_JSON = "skyexport.as_json"
"""Key of the program's `meta`: whether to print results and errors as JSON."""


_CONFIGURATION = "skyexport.configuration"
"""Key of a context's `meta`: the `Configuration`."""


_COMMAND = "skyexport.command"
"""Key of a context's `meta`: the context of the command, once its options from elsewhere are known."""


def configure(context: Any, _: Any, config: str | None) -> None:
    """Let the environment and a file set the options that the command line does not set.

    Raises:
        OptionError: A value of theirs is not valid.
    """
    if context.resilient_parsing:
        return
    if config is not None:
        context.meta[_CONFIG_FILE] = config
    if context.parent is None:
        return
    configuration = Configuration(context.parent.command, context.meta.get(_CONFIG_FILE), os.environ)
    given = configuration.given(context.command.name)
    context.meta[_CONFIGURATION] = configuration
    context.meta[_COMMAND] = context
    context.default_map = {name: entry.value for name, entry in given.items() if entry.value is not None}
    context.meta[AS_JSON] = context.meta[AS_JSON] or bool(context.default_map.get("as_json"))


def _configuration_of(context: typer.Context) -> Configuration:
    """The options that the environment and a file set."""
    configuration: Configuration = context.meta[_CONFIGURATION]
    return configuration


def _typed(context: typer.Context) -> dict[str, Any]:
    """The options that the command line sets: name → value."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return {name: context.params[name] for name, source in sources.items() if source and source.name == "COMMANDLINE"}


def config_of(context: typer.Context) -> str | None:
    """The file that --config names; None without one."""
    config: str | None = context.meta.get(_CONFIG_FILE)
    return config


def signals_of(context: typer.Context) -> Signals:
    """The signals that the program handles; a new object if a test or another program runs the command."""
    return context.find_object(Signals) or Signals()


class Command(HelpfulCommand):
    """A command whose options may come from elsewhere: an error about one says where that is."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        try:
            return super().parse_args(ctx, args)
        except OptionError as error:
            raise _with_place(ctx, error) from None

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except OptionError as error:
            raise _configuration_of(ctx).traced(error, self.name or "", _typed(ctx)) from error


def _with_place(context: Any, error: OptionError) -> OptionError:
    """*error* about the option that is being parsed; the hint says where its value is from, if nobody typed it."""
    for option in context.command.params:
        source = context.get_parameter_source(option.name)
        if option.expose_value and source is not None and option.name not in context.params:
            if source.name == "COMMANDLINE":
                return error
            return _configuration_of(context).with_places(error, context.command.name, [option.name])
    return error


@contextlib.contextmanager
def errors_reported(program: Any) -> Iterator[None]:
    """Turn an exception into a line for people, an object for programs, and the exit code.

    Args:
        program: The context of the program.
    """
    signals = signals_of(program)
    try:
        yield
        signals.settle()
    except (typer.Exit, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        signals.settle()
        command = program.meta.get(_COMMAND)
        options = {} if command is None else command.params
        reported = error if isinstance(error, ExportError) else _usage_error(error, program.command)
        if options.get("debug") or (reported is None and not isinstance(error, MemoryError)):
            printing.say_traceback()
        printing.leave(reported or unexpected(error), as_json=program.meta[AS_JSON] or bool(options.get("as_json")))


def _usage_error(error: Any, group: Any) -> OptionError | None:
    """An error of Typer as an `OptionError`, with the place of a value that nobody typed; None for other errors."""
    context, option = getattr(error, "ctx", None), getattr(error, "param", None)
    if context is not None and option is not None and option.name in (context.default_map or {}):
        source = context.get_parameter_source(option.name)
        if source is None or source.name != "COMMANDLINE":
            wrong = OptionError(f"{option.opts[0]}: {str(getattr(error, 'message', error)).rstrip('.')}")
            return _configuration_of(context).with_places(wrong, context.command.name, [option.name])
    return usage_error(error, group)
