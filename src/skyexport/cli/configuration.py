"""Options from environment variables and TOML files.

The commands declare their options; this module has no list of its own. The first source that sets an option wins: the
command line, the environment, the file that --config names, the project file in the current directory, the user's own
file, the default. A file has a table for each command, and a key for each long option.

A project file may come with a directory that a stranger made. So it cannot make a command replace files, or read or
write outside that directory; and the command prints that a project file sets options.
"""

from __future__ import annotations

import os
import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

from typer.core import TyperGroup, TyperOption

from skyexport.cli.configuration_files import bytes_of, parse, same, user_file
from skyexport.errors import OptionError
from skyexport.formats.names import nearest
from skyexport.options.values import parse_path
from skyexport.rendering.native import BUILD_VARIABLE, RENDERER_VARIABLE
from skyexport.runtime.for_tests import LIMITS_VARIABLE, TESTING_VARIABLE, changed_limits

__all__ = [
    "CONFIG",
    "PROJECT_FILE",
    "Configuration",
    "ConfigurationFile",
    "Given",
    "Origin",
    "Setting",
    "settings_of",
]

CONFIG = "config"
"""The long option that names a file; a file cannot name another file."""

PROJECT_FILE = Path("skyexport.toml")
"""In the current directory only, not in those above it, so that users can see which file applies."""


_PREFIX = "SKYEXPORT_"

_OTHER_VARIABLES = (RENDERER_VARIABLE, BUILD_VARIABLE, TESTING_VARIABLE, LIMITS_VARIABLE)
"""Variables that choose the renderer, when the package is used and when it is built; and those of tests."""

_NOT_FOR_PROJECTS = frozenset({"from-file", "overwrite", "register", "to"})
"""Options that let an export replace a file, write to an archive, choose archives, or write anywhere."""

_PLACES = re.compile("DIR|DIRECTORY|FILE|LIST|PATH|ARCHIVE")
"""Metavars of options whose value is a path."""

_PLACE_TYPES = ("path", "file", "directory", "filename")
"""Typer's names for types of paths."""

_MOST_TIMES = 9
"""Most repetitions of a flag such as `-qq`."""

_FLAGS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


@dataclass(frozen=True, slots=True)
class Setting:
    """An option of a command that the environment and files can set."""

    command: str
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
class Origin:
    """Where a value comes from."""

    kind: Literal["environment", "--config", "project file", "user file"]
    place: str
    """The name of the variable, or the path of the file."""

    def __str__(self) -> str:
        return f"{self.kind} {self.place}"


@dataclass(frozen=True, slots=True)
class Given:
    """A value and its origin; the value is None if the variable is empty, which restores the default."""

    value: object
    origin: Origin


@dataclass(frozen=True, slots=True)
class ConfigurationFile:
    """A configuration file, whether it exists or not."""

    origin: Origin
    found: bool
    tables: Mapping[str, Mapping[str, object]]
    """Command → name of its option → value."""


def settings_of(group: TyperGroup) -> dict[str, dict[str, Setting]]:
    """The options that the environment and files can set: command → key → setting, in the order of their declaration.

    Arguments, and options that replace the command, such as --help, are left out.
    """
    found: dict[str, dict[str, Setting]] = {}
    for name, command in group.commands.items():
        found[name] = {}
        for option in command.params:
            key = next((text[2:] for text in option.opts if text.startswith("--")), None)
            if isinstance(option, TyperOption) and not option.is_eager and key not in (None, CONFIG):
                found[name][key] = Setting(name, option, key)
    return found


class Configuration:
    """The options that the environment and the files set. They are read when the object is made.

    Args:
        group: The commands with their options.
        config: The value of --config; None without it.
        environment: The environment variables.

    Raises:
        OptionError: A file cannot be read or is not TOML, or a file or a variable sets an option that no command has.
    """

    def __init__(self, group: TyperGroup, config: str | None, environment: Mapping[str, str]) -> None:
        self.settings = settings_of(group)
        self._environment = environment
        self._check_variables()
        config = environment.get(_PREFIX + CONFIG.upper()) or None if config is None else config
        named = None if config is None else parse_path(config, "configuration file")
        candidates: list[tuple[Literal["--config", "project file", "user file"], Path | None]]
        candidates = [("user file", user_file(environment)), ("project file", PROJECT_FILE), ("--config", named)]
        # If --config names the project file, the user trusts it.
        self.files = [
            self._read(Origin(kind, str(path)), path)
            for kind, path in candidates
            if path is not None and not (kind == "project file" and named is not None and same(path, named))
        ]

    def given(self, command: str) -> dict[str, Given]:
        """The values that the files and the environment set for a command: name → value.

        Raises:
            OptionError: The variable of a flag is neither yes nor no.
        """
        values: dict[str, Given] = {}
        for file in self.files:
            values |= {name: Given(value, file.origin) for name, value in file.tables.get(command, {}).items()}
        for setting in self.settings.get(command, {}).values():
            text = self._environment.get(setting.variable)
            if text is not None:
                value = _value_of_variable(setting, text) if text else None
                values[setting.name] = Given(value, Origin("environment", setting.variable))
        return values

    def _check_variables(self) -> None:
        """Refuse variables that begin with SKYEXPORT_ but set no option of any command, and wrong ones of tests.

        Raises:
            OptionError: There is such a variable.
        """
        changed_limits(self._environment)
        settings = [setting for settings in self.settings.values() for setting in settings.values()]
        known = {_PREFIX + CONFIG.upper(), *_OTHER_VARIABLES, *(setting.variable for setting in settings)}
        for name in sorted(self._environment):
            if not name.upper().startswith(_PREFIX) or name in known:
                continue
            # The common prefix would make any two names similar.
            bare = name.upper().removeprefix(_PREFIX)
            near = bare if _PREFIX + bare in known else nearest(bare, (one.removeprefix(_PREFIX) for one in known))
            hint = "unset it; names are SKYEXPORT_ and a long option, as in SKYEXPORT_FORMAT"
            raise OptionError(
                f"the variable {name} is not an option of any command",
                f"did you mean {_PREFIX}{near}?" if near else hint,
            )

    def obeyed(self, command: str, typed: Container[str]) -> list[str]:
        """The keys of the options that a project file sets, and the command line does not."""
        given = self.given(command)
        return [
            setting.key
            for setting in self.settings.get(command, {}).values()
            if setting.name not in typed and setting.name in given and given[setting.name].origin.kind == "project file"
        ]

    def to_dict(self, commands: Iterable[str]) -> dict[str, Any]:
        """All options of these commands with their values and origins, and the files, for programs."""
        return {
            "commands": {
                command: {
                    setting.key: {"value": value, "why": origin.kind if origin else "default"}
                    | ({"place": origin.place} if origin else {})
                    for setting, value, origin in self._holding(command)
                }
                for command in commands
            },
            "files": [
                {"kind": file.origin.kind, "path": file.origin.place, "found": file.found} for file in self.files
            ],
        }

    def lines(self, commands: Iterable[str]) -> list[str]:
        """The same, for people."""
        lines: list[str] = []
        for command in commands:
            rows = [
                (setting.key, _shown(setting, value), str(origin or "default"))
                for setting, value, origin in self._holding(command)
            ]
            lines += [f"[{command}]", *_aligned(rows), ""]
        rows = [(file.origin.kind, file.origin.place, "" if file.found else "not found") for file in self.files]
        lines += ["files, later ones win", *_aligned(rows)]
        return lines

    def _holding(self, command: str) -> Iterator[tuple[Setting, object, Origin | None]]:
        """Each option with its value and origin; the origin is None for the default."""
        given = self.given(command)
        for setting in self.settings[command].values():
            it = given.get(setting.name)
            if it is None or it.value is None:
                default = setting.option.default
                yield setting, default() if callable(default) else default, None if it is None else it.origin
            else:
                yield setting, it.value, it.origin

    def traced(self, error: OptionError, command: str, typed: Mapping[str, object]) -> OptionError:
        """The same error; its hint also says where the options come from that the error is about.

        The error is about the options whose names or values are in its text. If there are none, not even among those
        of the command line, it may be about any option.

        Args:
            error: The error of a command.
            command: Its name.
            typed: The options on the command line: name → value.
        """
        settings = {setting.name: setting for setting in self.settings.get(command, {}).values()}
        given = {name: it for name, it in self.given(command).items() if name not in typed and it.value is not None}
        values: dict[str, object] = {name: it.value for name, it in given.items()}
        meant = [name for name in given if _is_about(error, settings[name], values[name])]
        if not meant and not any(_is_about(error, settings[name], typed[name]) for name in typed if name in settings):
            meant = list(given)
        places = [f"--{settings[name].key} is from {_place(settings[name], given[name].origin)}" for name in meant]
        return OptionError(error.message, "; ".join(filter(None, [error.hint, *places])))

    def _read(self, origin: Origin, path: Path) -> ConfigurationFile:
        named = origin.kind == "--config"
        data = bytes_of(path, needed=named)
        if data is None:
            return ConfigurationFile(origin, False, {})
        tables: dict[str, dict[str, object]] = {}
        for command, table in parse(path, data).items():
            settings = self.settings.get(command)
            if not isinstance(table, dict):
                hint = f"write [{command}]" if settings else f"write it below {_tables(self.settings)}"
                raise OptionError(f"{path}: {command!r} is not a table", hint)
            if settings is None:
                near = nearest(command, self.settings)
                hint = f"did you mean [{near}]?" if near else f"tables are {_tables(self.settings)}"
                raise OptionError(f"{path}: there is no command {command!r}", hint)
            tables[command] = dict(self._read_table(origin, path, command, table))
        return ConfigurationFile(origin, True, tables)

    def _read_table(
        self, origin: Origin, path: Path, command: str, table: Mapping[str, object]
    ) -> Iterator[tuple[str, object]]:
        of_project = origin.kind == "project file"
        seen = set()
        for written, value in table.items():
            key = written.replace("_", "-")
            where = f"{path}: [{command}] {written}"
            if of_project and key in _NOT_FOR_PROJECTS:
                raise OptionError(
                    f"{where}: a project file cannot set this, since it may come from a stranger",
                    "set it on the command line, or name a file of your own with --config",
                )
            setting = self.settings[command].get(key)
            if setting is None:
                near = nearest(key, self.settings[command])
                hint = f"did you mean {near!r}?" if near else f"`skyexport {command} --help` has all options"
                raise OptionError(f"{where}: {command} has no such option in files", hint)
            if key in seen:
                raise OptionError(f"{where}: the option is set twice", "leave out one of them")
            seen.add(key)
            read = _value_of_file(setting, value, where)
            if of_project and setting.is_place:
                for place in read if isinstance(read, list) else [read]:
                    _check_within(str(place), where)
            yield setting.name, read


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


def _check_within(place: str, where: str) -> None:
    """Check that a path of a project file is relative and leads into the current directory.

    Raises:
        OptionError: It does not, perhaps because of a link.
    """
    path = Path(place)
    try:
        # A network path must not even be resolved: Windows would log in there.
        inside = not path.anchor and ".." not in path.parts and path.resolve().is_relative_to(Path.cwd().resolve())
    except (OSError, ValueError, RuntimeError):
        inside = False
    if not inside:
        raise OptionError(
            f"{where}: {place!r} is not a relative path below the directory of this project file",
            "set it on the command line, or name a file of your own with --config",
        )


def _is_about(error: OptionError, setting: Setting, value: object) -> bool:
    texts = (
        []
        if setting.option.is_flag or setting.option.count
        else [str(item) for item in (value if isinstance(value, list) else [value])]
    )
    return _mentions(error.message, texts) or _mentions(f"{error.message} {error.hint}", setting.option.opts)


def _mentions(text: str, words: Sequence[str]) -> bool:
    return any(re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text) for word in words if word)


def _place(setting: Setting, origin: Origin) -> str:
    if origin.kind == "environment":
        return origin.place
    return f"{setting.key!r} of [{setting.command}] in {origin.place}"


def _shown(setting: Setting, value: object) -> str:
    if value is None or value in ([], ()):
        said = setting.option.show_default
        return f"({said})" if isinstance(said, str) else "-"
    if isinstance(value, bool):
        return str(value).lower()
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _tables(commands: Iterable[str]) -> str:
    return ", ".join(f"[{name}]" for name in commands)
