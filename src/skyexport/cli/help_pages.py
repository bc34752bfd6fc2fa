"""The pages of `--help`: the options of a command in groups, examples, and exit statuses.

Typer groups options only if rich draws the help. Here plain text shows the groups: an option declares its group as its
`rich_help_panel`.
"""

from __future__ import annotations

import re
from typing import Any

import typer.core

from skyexport.errors import EXIT_CODES
from skyexport.options.declarations import GROUPS

__all__ = ["HelpfulCommand", "HelpfulGroup", "epilog", "examples_of", "grouped_options", "option_record"]

_FEW_OPTIONS = 12
"""Up to this many options are shown as one list."""

_LONGEST_NAME = 20
"""If the names of an option have more characters, its help starts on a new line."""

_ELSEWHERE = "The variable SKYEXPORT_<OPTION> and the file of --config set options too."


def epilog(*examples: str) -> str:
    """Join examples to the `epilog` of a command, one per line."""
    return "\n".join(examples)


def examples_of(command: Any) -> list[str]:
    """The examples in the `epilog` of a command."""
    return (command.epilog or "").splitlines()


def grouped_options(command: Any, context: Any) -> list[tuple[str, list[Any]]]:
    """The visible options of a command in groups: pairs of heading and options."""
    options = [option for option in command.get_params(context) if isinstance(option, typer.core.TyperOption)]
    options = [option for option in options if option_record(option, context)]
    if len(options) <= _FEW_OPTIONS:
        return [("Options", options)]
    groups: dict[str | None, list[Any]] = {group: [] for group in GROUPS}
    for option in options:
        group = option.rich_help_panel
        groups.setdefault(group if group in GROUPS else None, []).append(option)
    return [(group or "Other options", members) for group, members in groups.items() if members]


def option_record(option: Any, context: Any) -> tuple[str, str] | None:
    """Names and help of an option or argument, as the help shows them; None if it is hidden."""
    record = option.get_help_record(context)
    if record is None:
        return None
    names, text = record
    # Typer adds parentheses to a default in words, a range to a counting flag, and [required] to an argument.
    text = re.sub(r" *\[default: \((.*)\)\]", r" [default: \1]", text)
    return names, re.sub(r" *\[(?:x>=0|required)\]$", "", text).replace("  [", " [")


class _Helpful:
    """The common parts of the help of the program and its commands."""

    def collect_usage_pieces(self, context: Any) -> list[str]:
        """The words of the usage line, without the braces that Typer puts around required arguments."""
        pieces: list[str] = super().collect_usage_pieces(context)  # type: ignore[misc]
        return [piece.strip("{}") for piece in pieces]

    def format_options(self, context: Any, formatter: Any) -> None:
        """Write arguments, then options in their groups, all with the same margin."""
        arguments = [parameter for parameter in self.get_params(context) if parameter.param_type_name == "argument"]  # type: ignore[attr-defined]
        groups = [("Arguments", arguments)] if arguments else []
        groups += grouped_options(self, context)
        rows = {heading: [option_record(member, context) for member in members] for heading, members in groups}
        names = [len(row[0]) for group in rows.values() for row in group if row and len(row[0]) <= _LONGEST_NAME]
        for heading, records in rows.items():
            with formatter.section(heading):
                padded = [(row[0].ljust(max(names)), row[1]) for row in records if row]
                formatter.write_dl(padded, col_max=_LONGEST_NAME)

    def format_epilog(self, context: Any, formatter: Any) -> None:
        """Write the examples without wrapping them, so that users can copy them."""
        del context
        with formatter.section("Examples"):
            for example in examples_of(self):
                formatter.write(f"{'':{formatter.current_indent}}{example}\n")
        formatter.write_paragraph()
        formatter.write_text(_ELSEWHERE)


class HelpfulCommand(_Helpful, typer.core.TyperCommand):
    """A command whose help has its options in groups."""


class HelpfulGroup(_Helpful, typer.core.TyperGroup):
    """The program, whose help has the commands first and the exit statuses last."""

    def format_options(self, context: Any, formatter: Any) -> None:
        """Write the commands, each with its whole summary, then the options."""
        commands = {name: command for name, command in self.commands.items() if not command.hidden}
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, (command.help or "").partition("\n\n")[0]) for name, command in commands.items()]
            )
        super().format_options(context, formatter)

    def format_epilog(self, context: Any, formatter: Any) -> None:
        """Write the examples, then the exit statuses."""
        super().format_epilog(context, formatter)
        with formatter.section("Exit status"):
            formatter.write_dl([(str(code), meaning) for code, meaning in EXIT_CODES.items()])
