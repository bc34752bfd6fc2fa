"""Printing of results, errors, and lines for people."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import textwrap
import traceback
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NoReturn

import typer
import typer.core

from skyexport.errors import ExportError, OptionError, StoppedError
from skyexport.formats.names import choice_hint

if TYPE_CHECKING:
    from skyexport.runtime.progress import Reporter

__all__ = [
    "abandon_standard_output",
    "leave",
    "print_json",
    "print_line",
    "printable",
    "progress_reporter",
    "report",
    "say",
    "say_lines",
    "say_traceback",
]

_READER_LEFT = 13
"""SIGPIPE: nobody reads the output any more."""


def leave(error: ExportError, *, as_json: bool) -> NoReturn:
    report(error, as_json=as_json)
    raise typer.Exit(error.exit_code)


def report(error: ExportError, *, as_json: bool) -> None:
    """Print an error: a line on standard error and, with *as_json*, an object on standard output."""
    if isinstance(error, StoppedError) and error.signal_number == _READER_LEFT:
        return
    say(f"skyexport: {error}")
    if as_json:
        with contextlib.suppress(ExportError):
            failure = {"status": "failed", "exit_code": error.exit_code, "error": error.message, "hint": error.hint}
            print_json(failure | error.details())


def print_json(content: dict[str, Any], inner: Iterable[dict[str, Any]] = ()) -> None:
    """Print an object; *inner* yields the elements of the list that is its last value, which is empty in *content*."""
    from skyexport.runtime.progress import SCHEMA_VERSION

    text = _json({"schema_version": SCHEMA_VERSION} | content)
    before = ""
    for element in inner:
        if not before:
            text = text.removesuffix("[]\n}")
            before = f"{text}[\n"
        print_line(before + textwrap.indent(_json(element), "    "), end="")
        before, text = ",\n", "\n  ]\n}"
    print_line(text)


def _json(content: dict[str, Any]) -> str:
    import orjson

    try:
        text = orjson.dumps(content, option=orjson.OPT_INDENT_2).decode()
    except TypeError:
        # A file name that is not UTF-8 has lone surrogates, which orjson refuses.
        text = json.dumps(content, indent=2)
    # orjson does not escape all control characters, nor those that reverse a line; terminals act on them.
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def progress_reporter(mode: str, *, quiet: bool) -> Reporter:
    """The reporter on standard error for a value of --progress.

    Raises:
        OptionError: There is no such way to show progress.
    """
    from skyexport.runtime.progress import MODES, reporter_for

    if mode not in MODES:
        raise OptionError(f"unknown progress {mode!r}", choice_hint(mode, MODES))
    return reporter_for("none" if quiet and mode == "auto" else mode, sys.stderr)


def print_line(text: str, end: str = "\n") -> None:
    """Print to standard output.

    Raises:
        OutputError: Standard output cannot be written.
        StoppedError: Nobody reads it any more.
    """
    try:
        typer.echo(text + end, nl=False)
    except OSError as error:
        from skyexport.runtime.disk import output_error

        abandon_standard_output()
        raise output_error(error, "standard output") from error


def abandon_standard_output() -> None:
    """Let go of what could not be written to standard output: Python would try again, and end with status 120."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say(line: str) -> None:
    # A closed standard error must not end the work.
    with contextlib.suppress(OSError, ValueError):
        typer.echo(printable(line), err=True)


def say_lines(text: str) -> None:
    for line in text.splitlines():
        say(line)


def say_traceback() -> None:
    """Print the traceback of the current exception, indented so that none of its lines looks like a message."""
    for line in traceback.format_exc().splitlines():
        say(f"  {line}")


def printable(text: str) -> str:
    """*text* with control characters escaped: file names and posts must not control the terminal."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
