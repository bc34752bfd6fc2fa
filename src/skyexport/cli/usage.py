"""Usage errors: each error of Typer becomes one line that says what to write.

Typer contains a private copy of Click. This module recognizes its errors by their attributes, not by their classes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from skyexport.cli.help_pages import examples_of
from skyexport.errors import OptionError
from skyexport.formats.names import nearest
from skyexport.wording import shell_word

__all__ = ["check_dashes", "unknown_command", "usage_error", "wants_json"]

_ARCHIVE_ENDINGS = (".db", ".sqlite", ".sqlite3")
_EXTRA = re.compile(r"got unexpected extra arguments?(?:\(s\))? \((.*)\)", re.DOTALL)
_ONE_DASH = re.compile("-[a-z][a-z-]+")
_LIKELY = 0.6
"""Least similarity of a word that may be a misspelt command, 0 to 1."""


def usage_error(error: Any, root: Any) -> OptionError | None:
    """An error of Typer as an `OptionError` with a hint; None if it is not a usage error.

    Args:
        error: The exception.
        root: The program, with its commands.
    """
    if not callable(getattr(error, "format_message", None)):
        return None
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else root.name
    if hasattr(error, "possibilities"):
        return OptionError(f"no such option: {error.option_name}", _hint_for_option(error, root, context, path))
    message = error.format_message().strip().rstrip(".")
    message = message[:1].lower() + message[1:]
    if name := getattr(error, "option_name", None):
        option = next((option for _, option in _options_of_commands(root, name)), None)
        if option is not None and option.is_flag:
            return OptionError(f"{name} takes no value", f"write {name} alone")
        value = getattr(option, "metavar", None)
        return OptionError(f"{name} needs a value", f"write {name} {value}" if value else f"see {path} --help")
    if extra := _EXTRA.fullmatch(message):
        message = f"unexpected argument: {extra[1]}"
    elif examples := (examples_of(context.command) if context is not None else []):
        return OptionError(message, f"for example: {examples[0]}")
    return OptionError(message, f"see {path} --help")


def _hint_for_option(error: Any, root: Any, context: Any, path: str) -> str:
    name = error.option_name
    for command, _ in _options_of_commands(root, name):
        of_program = context is None or context.parent is None
        return f"write it after the command: {path} {command} … {name}" if of_program else f"{command} has that option"
    # Typer compares the dashes, too, so that any long option is similar to any other.
    bare = {possibility.lstrip("-"): possibility for possibility in error.possibilities or ()}
    if likely := nearest(name.lstrip("-"), bare):
        return f"did you mean {bare[likely]}?"
    return f"see {path} --help"


def _options_of_commands(root: Any, name: str) -> Iterator[tuple[str, Any]]:
    """The options of this name: pairs of command and option."""
    for command_name, command in root.commands.items():
        for option in command.params:
            if name in option.opts and option.param_type_name == "option":
                yield command_name, option


def check_dashes(arguments: Sequence[str], root: Any) -> None:
    """Refuse `-format csv`, which Typer would read as `-f ormat` and an archive.

    Raises:
        OptionError: A long option has only one dash.
    """
    for word in _options(arguments):
        if _ONE_DASH.fullmatch(word) and any(_options_of_commands(root, f"-{word}")):
            raise OptionError(f"no such option: {word}", f"did you mean -{word}?")


def _options(arguments: Sequence[str]) -> Sequence[str]:
    """The arguments before `--`, which may be options."""
    return arguments[: arguments.index("--")] if "--" in arguments else arguments


def unknown_command(name: str, commands: Sequence[str]) -> OptionError:
    """The error for an unknown command; its hint names a similar command, or a command for a path.

    Args:
        name: The first word after `skyexport`.
        commands: The names of all commands.
    """
    if name == "help":
        return OptionError("there is no command 'help'", "write skyexport --help, or skyexport COMMAND --help")
    lowered = name.lower()
    if (Path(name) / "manifest.json").is_file():
        hint = f"did you mean skyexport verify {shell_word(name)}?"
    elif lowered.endswith(_ARCHIVE_ENDINGS) or Path(name).is_file():
        hint = f"did you mean skyexport export {shell_word(name)}?"
    elif likely := nearest(lowered, commands, _LIKELY):
        hint = f"did you mean skyexport {likely}?"
    else:
        hint = f"commands are {', '.join(commands)}"
    return OptionError(f"there is no command {name!r}", hint)


def wants_json(arguments: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Whether the arguments, which may be wrong, or the environment ask for JSON."""
    return "--json" in _options(arguments) or environment.get("SKYEXPORT_JSON", "").lower() in ("1", "true", "yes")
