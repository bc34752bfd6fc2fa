"""Options from environment variables and from a TOML file.

The commands declare their options; this module has no list of its own. The first source that sets an option wins: the
command line, the environment, the file that --config or SKYEXPORT_CONFIG names, the default. No other file is read: a
file that lies in a directory does not change what a command does there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from typer.core import TyperGroup, TyperOption

from skyexport.errors import OptionError
from skyexport.formats.names import nearest
from skyexport.options.values import parse_path
from skyexport.rendering.native import BUILD_VARIABLE, RENDERER_VARIABLE
from skyexport.runtime.for_tests import LIMITS_VARIABLE, TESTING_VARIABLE, changed_limits

__all__ = ["CONFIG", "MAX_FILE_BYTES", "Configuration", "Given", "Setting", "settings_of"]

CONFIG = "config"
"""The long option that names the file; the file cannot name another file."""

MAX_FILE_BYTES = 100_000
"""A file that sets every option has a few thousand."""

_MAX_DOTS = 100
"""Per line: the time that tomllib needs for dotted keys grows with the square of their dots."""

_PREFIX = "SKYEXPORT_"

_OTHER_VARIABLES = (RENDERER_VARIABLE, BUILD_VARIABLE, TESTING_VARIABLE, LIMITS_VARIABLE)
"""Variables that choose the renderer, when the package is used and when it is built; and those of tests."""

_PLACES = re.compile("DIR|DIRECTORY|FILE|LIST|PATH|ARCHIVE")
"""Metavars of options whose value is a path."""

_PLACE_TYPES = ("path", "file", "directory", "filename")
"""Typer's names for types of paths."""

_MOST_TIMES = 9
"""Most repetitions of a flag such as `-qq`."""

_FLAGS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


@dataclass(frozen=True, slots=True)
class Setting:
    """An option of a command that the environment and a file can set."""

    option: TyperOption
    key: str
    """The long option without its dashes."""

    @property
    def name(self) -> str:
        """The name of the command's parameter."""
        return self.option.name or self.key

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return _PREFIX + self.key.upper().replace("-", "_")

    @property
    def is_place(self) -> bool:
        """Whether its value is a path."""
        return _PLACES.fullmatch(self.option.metavar or "") is not None or self.option.type.name in _PLACE_TYPES


@dataclass(frozen=True, slots=True)
class Given:
    """A value that nobody typed."""

    value: object
    """None if the variable is empty, which restores the default."""
    place: str
    """Its variable, or its key, table and file, in words."""


def settings_of(group: TyperGroup) -> dict[str, dict[str, Setting]]:
    """The options that the environment and a file can set: command → key → setting, in the order of their declaration.

    Arguments, and options that replace the command, such as --help, are left out.
    """
    settings: dict[str, dict[str, Setting]] = {}
    for name, command in group.commands.items():
        settings[name] = {}
        for option in command.params:
            key = next((text[2:] for text in option.opts if text.startswith("--")), None)
            if isinstance(option, TyperOption) and not option.is_eager and key not in (None, CONFIG):
                settings[name][key] = Setting(option, key)
    return settings


class Configuration:
    """The options that the environment and the file set. The file is read when the object is made.

    Args:
        group: The commands with their options.
        config: The value of --config; None without it.
        environment: The environment variables.

    Raises:
        OptionError: The file cannot be read or is not TOML, or it or a variable sets an option that no command has.
    """

    def __init__(self, group: TyperGroup, config: str | None, environment: Mapping[str, str]) -> None:
        self._settings = settings_of(group)
        self._environment = environment
        self._check_variables()
        config = environment.get(_PREFIX + CONFIG.upper()) or None if config is None else config
        self._tables = {} if config is None else self._read(parse_path(config, "configuration file"))

    def given(self, command: str) -> dict[str, Given]:
        """The values that the file and the environment set for a command: name of the parameter → value.

        Raises:
            OptionError: The variable of a flag is neither yes nor no.
        """
        values = dict(self._tables.get(command, {}))
        for setting in self._settings.get(command, {}).values():
            text = self._environment.get(setting.variable)
            if text is not None:
                values[setting.name] = Given(_value_of_variable(setting, text) if text else None, setting.variable)
        return values

    def traced(self, error: OptionError, command: str, typed: Mapping[str, object]) -> OptionError:
        """The same error; its hint also says where the options come from that the error is about.

        The error is about the options whose names or values are in its text. If there are none, not even among those
        of the command line, it may be about any option.

        Args:
            error: The error of a command.
            command: Its name.
            typed: The options on the command line: name → value.
        """
        settings = {setting.name: setting for setting in self._settings.get(command, {}).values()}
        given = {name: entry.value for name, entry in self.given(command).items() if name not in typed}
        given = {name: value for name, value in given.items() if value is not None}
        meant = [name for name, value in given.items() if _is_about(error, settings[name], value)]
        if not meant and not any(_is_about(error, settings[name], typed[name]) for name in typed if name in settings):
            meant = list(given)
        return self.with_places(error, command, meant)

    def with_places(self, error: OptionError, command: str, names: Iterable[str]) -> OptionError:
        """The same error; its hint also says where the values of these options come from."""
        keys = {setting.name: setting.key for setting in self._settings.get(command, {}).values()}
        given = self.given(command)
        places = [f"--{keys[name]} is from {given[name].place}" for name in names if name in given]
        return OptionError(error.message, "; ".join(filter(None, [error.hint, *places])))

    def _check_variables(self) -> None:
        """Refuse variables that begin with SKYEXPORT_ but set no option of any command, and wrong ones of tests.

        Raises:
            OptionError: There is such a variable.
        """
        changed_limits(self._environment)
        settings = [setting for settings in self._settings.values() for setting in settings.values()]
        known = {_PREFIX + CONFIG.upper(), *_OTHER_VARIABLES, *(setting.variable for setting in settings)}
        for name in sorted(self._environment):
            if not name.upper().startswith(_PREFIX) or name in known:
                continue
            # The common prefix would make any two names similar.
            bare = name.upper().removeprefix(_PREFIX)
            near = (
                bare
                if _PREFIX + bare in known
                else nearest(bare, (variable.removeprefix(_PREFIX) for variable in known))
            )
            hint = "unset it; names are SKYEXPORT_ and a long option, as in SKYEXPORT_FORMAT"
            raise OptionError(
                f"the variable {name} is not an option of any command",
                f"did you mean {_PREFIX}{near}?" if near else hint,
            )

    def _read(self, path: Path) -> dict[str, dict[str, Given]]:
        """The values in a file: command → name of the parameter → value."""
        tables: dict[str, dict[str, Given]] = {}
        for command, table in _parse(path, _bytes_of(path)).items():
            settings = self._settings.get(command)
            if not isinstance(table, dict):
                hint = f"write [{command}]" if settings else f"write it below {_tables(self._settings)}"
                raise OptionError(f"{path}: {command!r} is not a table", hint)
            if settings is None:
                near = nearest(command, self._settings)
                hint = f"did you mean [{near}]?" if near else f"tables are {_tables(self._settings)}"
                raise OptionError(f"{path}: there is no command {command!r}", hint)
            tables[command] = dict(self._read_table(path, command, table))
        return tables

    def _read_table(self, path: Path, command: str, table: Mapping[str, object]) -> Iterator[tuple[str, Given]]:
        seen = set()
        for written, value in table.items():
            key = written.replace("_", "-")
            where = f"{path}: [{command}] {written}"
            setting = self._settings[command].get(key)
            if setting is None:
                near = nearest(key, self._settings[command])
                hint = f"did you mean {near!r}?" if near else f"`skyexport {command} --help` has all options"
                raise OptionError(f"{where}: {command} has no such option in files", hint)
            if key in seen:
                raise OptionError(f"{where}: the option is set twice", "leave out one of them")
            seen.add(key)
            yield setting.name, Given(_value_of_file(setting, value, where), f"{key!r} of [{command}] in {path}")


def _bytes_of(path: Path) -> bytes:
    """The content of the file, which may also be a pipe."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise OptionError(f"there is no file {path}", "see --config") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise OptionError(f"cannot read {path}: {reason}") from None
    if len(data) > MAX_FILE_BYTES:
        raise OptionError(f"{path} has more than {MAX_FILE_BYTES:,} bytes", "use a file that only sets options")
    return data


def _parse(path: Path, data: bytes) -> dict[str, Any]:
    import tomllib

    try:
        # Editors on Windows write a byte order mark.
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise OptionError(f"{path} is not UTF-8 at byte {error.start}", "save it as UTF-8") from None
    try:
        if any(line.count(".") > _MAX_DOTS for line in text.split("\n") if not line.startswith("#")):
            raise RecursionError
        return tomllib.loads(text)
    except RecursionError:
        raise OptionError(f"{path} is nested too deeply", "use only tables and keys") from None
    except ValueError as error:
        raise OptionError(f"{path} is not TOML: {error}", 'write lines like [export] and format = "csv"') from None


def _value_of_variable(setting: Setting, text: str) -> object:
    """The value of a variable that is not empty, as the command expects it."""
    if setting.option.count and text.isascii() and text.isdigit():
        return min(int(text[:3]), _MOST_TIMES)
    if setting.option.is_flag or setting.option.count:
        try:
            return _FLAGS[text.lower()]
        except KeyError:
            raise OptionError(
                f"{setting.variable} is {text!r}, neither yes nor no", "write 1, true or yes; or 0, false or no"
            ) from None
    if setting.option.multiple:
        return list(setting.option.type.split_envvar_value(text))
    return text


def _value_of_file(setting: Setting, value: object, where: str) -> object:
    """A value of TOML, as the command expects it: true and false for flags, else text."""
    if setting.option.count:
        if not isinstance(value, int) or value < 0:
            raise OptionError(f"{where} is neither true nor false", "write it without quotes, or a number")
        return min(value, _MOST_TIMES)
    if setting.option.is_flag:
        if not isinstance(value, bool):
            raise OptionError(f"{where} is neither true nor false", "write it without quotes")
        return value
    if setting.option.multiple and isinstance(value, list):
        return [_text_of(setting, item, where) for item in value]
    text = _text_of(setting, value, where)
    return [text] if setting.option.multiple else text


def _text_of(setting: Setting, value: object, where: str) -> str:
    if isinstance(value, date):  # or a datetime
        return value.isoformat()
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise OptionError(f"{where} is neither text nor a whole number", "write the value in quotes")
    # A shell does the same with paths on the command line.
    return os.path.expanduser(value) if setting.is_place else value  # noqa: PTH111, which drops a final slash


def _is_about(error: OptionError, setting: Setting, value: object) -> bool:
    texts = (
        []
        if setting.option.is_flag or setting.option.count
        else [str(item) for item in (value if isinstance(value, list) else [value])]
    )
    return _mentions(error.message, texts) or _mentions(f"{error.message} {error.hint}", setting.option.opts)


def _mentions(text: str, words: Sequence[str]) -> bool:
    return any(re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text) for word in words if word)


def _tables(commands: Iterable[str]) -> str:
    return ", ".join(f"[{name}]" for name in commands)
