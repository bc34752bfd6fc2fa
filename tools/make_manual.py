"""Make the manual page and the shell completions from the declarations of the commands.

They lie in docs/share; the package installs them in share/ of its prefix. Completions are plain lists of words, so
pressing TAB starts no program.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer
from typer.core import TyperArgument, TyperGroup, TyperOption
from typer.main import get_command

from skyexport import __version__
from skyexport.cli.app import app
from skyexport.cli.help_pages import examples_of, grouped_options, option_record
from skyexport.errors import EXIT_CODES

SHARE = Path(__file__).resolve().parents[1] / "docs" / "share"

MADE = "Made by tools/make_manual.py; change it there, and run `make manual`."

DIRECTORIES = ("DIR", "DIRECTORY")
FILES = ("ARCHIVE", "FILE", "LIST", "PATH")
"""Words for values that are paths."""


@dataclass(frozen=True, slots=True)
class Value:
    """A value of an argument or an option."""

    metavar: str
    words: Sequence[str] = ()
    """All possible values, or some of them; empty if it can be anything."""
    kind: str = "any"
    """`files`, `directories`, or `any`."""


@dataclass(frozen=True, slots=True)
class Option:
    """An option as it is typed."""

    names: Sequence[str]
    record: tuple[str, str]
    """Names with the metavar, and the help, as --help shows them."""
    help: str
    value: Value | None
    """None for a flag."""
    repeatable: bool
    instead: bool
    """Whether the option replaces the command, like --help."""
    group: str
    """The heading above the option."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command, or the program itself."""

    name: str
    usage: str
    summary: str
    details: str
    examples: Sequence[str]
    arguments: Sequence[tuple[Value, str]]
    """Each argument with its help."""
    repeats: bool
    """Whether the last argument may be given several times."""
    options: Sequence[Option]


def files() -> dict[str, str]:
    """All files that are made: path below docs/share → text."""
    program, *commands = read_commands()
    return {
        "man/man1/skyexport.1": manual(program, commands),
        "bash-completion/completions/skyexport": bash(program, commands),
        "zsh/site-functions/_skyexport": zsh(program, commands),
        "fish/vendor_completions.d/skyexport.fish": fish(program, commands),
    }


def read_commands() -> list[Command]:
    """The program, then its commands, read from the command line's own tree."""
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    root = typer.Context(group, info_name="skyexport", **group.context_settings)
    contexts = [root]
    for name, command in group.commands.items():
        if not command.hidden:
            contexts.append(typer.Context(command, info_name=name, parent=root))
    return [read_command(context) for context in contexts]


def read_command(context: typer.Context) -> Command:
    """Read one command."""
    command = context.command
    arguments, options, repeats = [], [], False
    for parameter in command.get_params(context):
        if isinstance(parameter, TyperArgument):
            metavar = parameter.make_metavar(ctx=context)
            record = option_record(parameter, context)
            arguments.append((value_of(metavar), record[1] if record else ""))
            repeats = parameter.nargs != 1
    for group, members in grouped_options(command, context):
        for parameter in members:
            record = option_record(parameter, context)
            assert isinstance(parameter, TyperOption)
            assert record is not None
            options.append(
                Option(
                    # The names of --help come from a set, whose order changes from run to run.
                    sorted(
                        [*parameter.opts, *parameter.secondary_opts], key=lambda name: (name.startswith("--"), name)
                    ),
                    record,
                    parameter.help or "",
                    None if parameter.is_flag or parameter.count else value_of(parameter.make_metavar(context)),
                    parameter.multiple or parameter.count,
                    # All flags of the program are, so only --config is not.
                    parameter.is_eager or (context.parent is None and parameter.is_flag),
                    group,
                )
            )
    summary, _, details = (command.help or "").partition("\n\n")
    return Command(
        context.info_name or "",
        " ".join([context.command_path, *command.collect_usage_pieces(context)]),
        " ".join(summary.split()),
        " ".join(details.split()),
        examples_of(command),
        arguments,
        repeats,
        options,
    )


def value_of(metavar: str) -> Value:
    """The values that a metavar stands for: words with | between them, a kind of path, or anything."""
    bare = re.sub(r"\[[^]]*\]|\.\.\.", "", metavar) or metavar.strip("[].")
    if bare in DIRECTORIES:
        return Value(metavar, kind="directories")
    if bare in FILES:
        return Value(metavar, kind="files")
    return Value(metavar, [word for word in bare.split("|") if "|" in bare and re.fullmatch("[a-z][a-z0-9-]*", word)])


# ------------------------------------------------------------------------------------------------------ manual page

DESCRIPTION = """\
skyexport exports the posts of a local Bluesky archive, the SQLite file of bskyarchive, in parallel and in bounded
memory, whatever its size. It only reads the archive. An export appears under its final name only once it is complete,
and the bytes of a file depend only on the posts and the format."""

ENVIRONMENT = [
    (
        "SKYEXPORT_<OPTION>",
        "The value of a long option, for every command that has it. Write the option in upper case, with _ for -: "
        "SKYEXPORT_FORMAT, SKYEXPORT_MEMORY_LIMIT, SKYEXPORT_NO_SYNC. Flags are 1, true or yes, or 0, false or no. A "
        "typed option overrides the variable, and the variable overrides files. An empty variable means the default.",
    ),
    (
        "SKYEXPORT_CONFIG",
        "The file to read if there is no --config; in the profile of a shell, an absolute path. Empty: no file.",
    ),
    ("TMPDIR", "The directory for temporary files; by default /var/tmp."),
]

FILES_SECTION = [
    (
        "the file of --config or SKYEXPORT_CONFIG",
        "Options in TOML: a table for each command, such as [export], and a key for each long option, such as "
        'format = "csv". Typed options and variables override it. No other file is read.',
    ),
    ("exports/<author or all>/<time>/", "An export: the data file, manifest.json, SHA256SUMS, and media/."),
]


def manual(program: Command, commands: Sequence[Command]) -> str:
    """The page for all commands, in the macros of man(7)."""
    lines = [
        f'.\\" {MADE}',
        f'.TH SKYEXPORT 1 "" "skyexport {__version__}" "User Commands"',
        # Names of options and files must not be hyphenated.
        ".nh",
        ".ad l",
        ".SH NAME",
        f"skyexport \\- {roff(program.summary[0].lower() + program.summary.rstrip('.')[1:])}",
        ".SH SYNOPSIS",
    ]
    for command in commands:
        name, *rest = command.usage.removeprefix("skyexport ").split()
        lines += [f".B skyexport {roff(name)}", roff(" ".join(rest)), ".br"]
    lines += [".SH DESCRIPTION", roff(" ".join(DESCRIPTION.split())), ".SH OPTIONS"]
    for option in program.options:
        lines += tagged(*option.record)
    lines += [".PP", roff("Every command also takes --config and --help."), ".SH COMMANDS"]
    for command in commands:
        lines += [f".SS {roff(command.usage)}", roff(command.summary)]
        if command.details:
            lines += [".PP", roff(command.details)]
        for value, text in command.arguments:
            lines += tagged(value.metavar, text)
        shown = [option for option in command.options if not {"--config", "--help"} & set(option.names)]
        for group in dict.fromkeys(option.group for option in shown):
            if len({option.group for option in shown}) > 1:
                lines += [".PP", f".I {roff(group)}"]
            for option in shown:
                if option.group == group:
                    lines += tagged(*option.record)
    lines.append(".SH EXIT STATUS")
    for code, meaning in EXIT_CODES.items():
        lines += tagged(str(code), meaning)
    lines.append(".SH ENVIRONMENT")
    for name, text in ENVIRONMENT:
        lines += tagged(name, text)
    lines.append(".SH FILES")
    for name, text in FILES_SECTION:
        lines += tagged(name, text)
    lines.append(".SH EXAMPLES")
    for command in commands:
        for example in command.examples:
            lines += [".PP", ".nf", roff(example), ".fi"]
    lines += [".SH SEE ALSO", ".BR sqlite3 (1),", ".BR sha256sum (1)"]
    return "\n".join(lines) + "\n"


def tagged(tag: str, text: str) -> list[str]:
    """A paragraph with a hanging tag."""
    return [".TP", f".B {roff(tag)}", roff(text)]


def roff(text: str) -> str:
    """Escape any text for troff."""
    escapes = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti", '"': "\\(dq"}
    line = "".join(escapes.get(c, c if c < "\x7f" else f"\\[u{ord(c):04X}]") for c in " ".join(text.split()))
    return f"\\&{line}" if line.startswith(".") else line


# ------------------------------------------------------------------------------------------------------- completion


def bash(program: Command, commands: Sequence[Command]) -> str:
    """The completion for bash, from 3.2 on, the version of macOS."""
    names = [command.name for command in commands]
    cases = []
    for command in (program, *commands):
        where = "" if command is program else command.name
        valued: dict[str, list[str]] = {}
        for option in command.options:
            if option.value is not None:
                action = bash_action(option.value)
                valued.setdefault(action, []).extend(f"'{where} {name}'" for name in option.names)
        cases += [f"        {' | '.join(patterns)}) {action}; return ;;" for action, patterns in valued.items()]
    options, arguments = [], []
    for command in (program, *commands):
        where = "''" if command is program else command.name
        typed = Value("", words=[name for option in command.options for name in option.names])
        options.append(f"            {where}) {bash_action(typed)} ;;")
        last = command.arguments[-1][0] if command.arguments else Value("", words=names)
        arguments.append(f"            {where}) {bash_action(last)} ;;")
    return f"""\
# Completion of skyexport for bash. {MADE}

_skyexport_words() {{
    local word
    for word in $1; do
        case $word in "$current"*) COMPREPLY+=("$word") ;; esac
    done
    compopt +o default 2>/dev/null
}}

_skyexport_directories() {{
    local word
    while IFS= read -r word; do COMPREPLY+=("$word"); done < <(compgen -d -- "$current")
    compopt -o filenames 2>/dev/null
}}

_skyexport() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD - 1]}} command= number
    COMPREPLY=()
    # A break of words comes before and behind "=".
    if [[ $current == "=" ]]; then
        current=
    elif [[ $before == "=" ]]; then
        before=${{COMP_WORDS[COMP_CWORD - 2]}}
    fi
    for ((number = 1; number < COMP_CWORD; number++)); do
        case ${{COMP_WORDS[number]}} in
            --config) ((number++)) ;;
            {" | ".join(names)}) command=${{COMP_WORDS[number]}}; break ;;
        esac
    done
    # Where nothing is found here bash offers files.
    case "$command $before" in
{chr(10).join(cases)}
    esac
    if [[ $current == -* ]]; then
        case $command in
{chr(10).join(options)}
        esac
    else
        case $command in
{chr(10).join(arguments)}
        esac
    fi
}}

complete -o default -F _skyexport skyexport
"""


def bash_action(value: Value) -> str:
    """The shell function to call for a value."""
    if value.words:
        return f"_skyexport_words '{' '.join(value.words)}'"
    return {"directories": "_skyexport_directories", "files": ":", "any": "_skyexport_words ''"}[value.kind]


def zsh(program: Command, commands: Sequence[Command]) -> str:
    """The completion for zsh."""
    descriptions = "\n".join(f"        {quoted(f'{c.name}:{c.summary}')}" for c in commands)
    branches = []
    for command in commands:
        specs = [*(zsh_option(option) for option in command.options), *zsh_arguments(command)]
        joined = " \\\n            ".join(specs)
        branches.append(f"      {command.name})\n          _arguments -s \\\n            {joined}\n          ;;")
    own = " \\\n    ".join(zsh_option(option) for option in program.options)
    return f"""\
#compdef skyexport
# Completion of skyexport for zsh. {MADE}

_skyexport() {{
  local curcontext=$curcontext state line
  local -a commands
  _arguments -C \\
    {own} \\
    '1:command:->command' \\
    '*::argument:->argument' && return
  case $state in
    command)
      commands=(
{descriptions}
      )
      _describe command commands
      ;;
    argument)
      case $line[1] in
{chr(10).join(branches)}
      esac
      ;;
  esac
}}

_skyexport "$@"
"""


def zsh_option(option: Option) -> str:
    """The specification of an option for `_arguments`."""
    names = option.names
    if option.instead:
        first = "(- *)"
    elif option.repeatable:
        first = "*"
    else:
        first = f"({' '.join(names)})" if len(names) > 1 else ""
    help = re.sub(r"([\[\]:\\])", r"\\\1", option.help)
    value = "" if option.value is None else zsh_value(option.value)
    equals = "" if option.value is None else "="
    specs = [f"{name}{equals if name.startswith('--') else ''}[{help}]{value}" for name in names]
    return " ".join(quoted(f"{first}{spec}") for spec in specs)


def zsh_value(value: Value) -> str:
    """Message and action for the value of an option, or for an argument."""
    message = re.sub(r"([:\\])", r"\\\1", value.metavar)
    if value.words:
        return f":{message}:({' '.join(value.words)})"
    return f":{message}:" + {"directories": "_files -/", "files": "_files", "any": " "}[value.kind]


def zsh_arguments(command: Command) -> Iterator[str]:
    """The specifications of a command's arguments for `_arguments`."""
    for number, (value, _) in enumerate(command.arguments, 1):
        last = command.repeats and number == len(command.arguments)
        yield quoted(f"{'*' if last else number}{zsh_value(value)}")


def fish(program: Command, commands: Sequence[Command]) -> str:
    """The completion for fish, from 3.0 on."""
    lines = [
        f"# Completion of skyexport for fish. {MADE}",
        "",
        "function __skyexport_command",
        "    set -l words (commandline -opc)",
        "    set -e words[1]",
        "    while set -q words[1]",
        "        switch $words[1]",
        "            case --config",
        "                set -q words[2]; and set -e words[1]",
        "            case '-*'",
        "            case '*'",
        "                echo $words[1]",
        "                return 0",
        "        end",
        "        set -e words[1]",
        "    end",
        "    return 1",
        "end",
        "",
        "complete -c skyexport -f",
    ]
    nowhere = "complete -c skyexport -n 'not __skyexport_command >/dev/null'"
    lines += [f"{nowhere} -a {command.name} -d {fish_quoted(command.summary)}" for command in commands]
    lines += [f"{nowhere} {fish_option(option)}" for option in program.options]
    for command in commands:
        here = f"complete -c skyexport -n 'contains -- {command.name} (__skyexport_command)'"
        lines.append("")
        lines += [f"{here} {fish_value(value)}" for value, _ in command.arguments if fish_value(value)]
        lines += [f"{here} {fish_option(option)}" for option in command.options]
    return "\n".join(lines) + "\n"


def fish_option(option: Option) -> str:
    """The names, the value, and the help of an option."""
    names = [f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names]
    value = []
    if option.value is not None:
        value = ["-r" if option.value.kind == "files" else "-x", fish_value(option.value)]
    return " ".join(filter(None, [*names, *value, "-d", fish_quoted(option.help)]))


def fish_value(value: Value) -> str:
    """The possible words or files for a value."""
    if value.words:
        return f"-a {fish_quoted(' '.join(value.words))}"
    return {"directories": "-a '(__fish_complete_directories)'", "files": "-F", "any": ""}[value.kind]


def quoted(text: str) -> str:
    """Text in single quotes for zsh."""
    return "'" + text.replace("'", "'\\''") + "'"


def fish_quoted(text: str) -> str:
    """Text in single quotes for fish."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def main() -> None:
    """Write all files."""
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    for name, text in files().items():
        path = SHARE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
        print(path.relative_to(SHARE.parents[1]))


if __name__ == "__main__":
    main()
