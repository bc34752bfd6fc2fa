"""Wrong usage: one line that says what to write, one object with --json; and what --help shows."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner, Result

import make_archive
from skyexport.cli.app import app
from skyexport.cli.help_pages import examples_of, grouped_options, option_record
from skyexport.errors import EXIT_CODES
from skyexport.options.declarations import GROUPS
from skyexport.runtime.signals import Signals
from tests.command import skyexport, started
from tests.conftest import posix_only

GROUP: Any = get_command(app)


def run(*arguments: str, **variables: str) -> Result:
    """The command, in this process."""
    return CliRunner().invoke(app, list(arguments), obj=Signals(), env=variables, prog_name="skyexport")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with a file and an export in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "posts").touch()
    (tmp_path / "done").mkdir()
    (tmp_path / "done" / "manifest.json").touch()
    return tmp_path


WRONG = [
    (["exprot", "a.db"], "there is no command 'exprot'; did you mean skyexport export?"),
    (["EXPORT", "a.db"], "there is no command 'EXPORT'; did you mean skyexport export?"),
    (["help"], "there is no command 'help'; write skyexport --help, or skyexport COMMAND --help"),
    (["archive.db"], "there is no command 'archive.db'; did you mean skyexport export archive.db?"),
    (["my archive.db"], "there is no command 'my archive.db'; did you mean skyexport export 'my archive.db'?"),
    (["posts"], "there is no command 'posts'; did you mean skyexport export posts?"),
    (["done"], "there is no command 'done'; did you mean skyexport verify done?"),
    (["zzz"], "there is no command 'zzz'; commands are export, import, inspect, verify, ui, merge, bench"),
    (["export", "a.db", "--nope"], "no such option: --nope; see skyexport export --help"),
    (["export", "a.db", "--formt", "csv"], "no such option: --formt; did you mean --format?"),
    (["export", "a.db", "--memory_limit=1GB"], "no such option: --memory_limit; did you mean --memory-limit?"),
    (["export", "a.db", "-format", "csv"], "no such option: -format; did you mean --format?"),
    (["export", "a.db", "-x"], "no such option: -x; see skyexport export --help"),
    (["export", "a.db", "--format"], "--format needs a value; write --format json|jsonl|csv|parquet|html"),
    (["export", "a.db", "--no-bom=yes"], "--no-bom takes no value; write --no-bom alone"),
    (["inspect", "a.db", "--match", "x"], "no such option: --match; export has that option"),
    (
        ["--format", "csv", "export"],
        "no such option: --format; write it after the command: skyexport export … --format",
    ),
    (["inspect"], "missing argument 'ARCHIVE'; for example: skyexport inspect archive.db"),
    (["inspect", "a.db", "b.db"], "unexpected argument: b.db; see skyexport inspect --help"),
    (["--nonsense"], "no such option: --nonsense; see skyexport --help"),
    (["--config"], "--config needs a value; write --config FILE"),
    (["export"], "there is no archive to export; name one, as in skyexport export archive.db, or use --from-file"),
]


@pytest.mark.parametrize(
    ("arguments", "line"), WRONG, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_wrong_usage_is_one_line(arguments: list[str], line: str) -> None:
    """Exit status 2, one line that says what to write, and nothing on standard output."""
    done = run(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == f"skyexport: {line}\n"


@pytest.mark.quick(7)
@pytest.mark.parametrize(
    ("arguments", "line"), WRONG, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_wrong_usage_as_json(arguments: list[str], line: str) -> None:
    """With --json anywhere, or by a variable, the same line and one object with its parts."""
    if arguments == ["--config"]:
        arguments = ["--config", "missing.toml", "export"]
        line = "there is no file missing.toml; see --config"
    for json_arguments, variables in (([*arguments, "--json"], {}), (arguments, {"SKYEXPORT_JSON": "1"})):
        if not variables and arguments[-1] == "--format":
            json_arguments = ["export", "--json", *arguments[1:]]
        done = run(*json_arguments, **variables)
        assert done.exit_code == 2
        # A variable may be what was wrong.
        assert done.stderr.removesuffix("; --json is from SKYEXPORT_JSON\n").strip() == f"skyexport: {line}"
        failure = json.loads(done.stdout)
        assert (failure["status"], failure["exit_code"]) == ("failed", 2)
        assert done.stderr == f"skyexport: {failure['error']}; {failure['hint']}\n"


def test_other_ends_as_json(small_archive: make_archive.ArchiveInfo, here: Path) -> None:
    """Bad values, bad files and bad variables print an object too; what stands behind -- is no option."""
    (here / "bad.toml").write_text("[exprot]\n")
    archive = str(small_archive.path)
    for arguments, variables in (
        (["export", archive, "--json", "--limit", "many"], {}),
        (["export", archive, "--json", "--config", "bad.toml"], {}),
        (["inspect", archive, "--json"], {"SKYEXPORT_FROMAT": "csv"}),
        (["export", archive, "--json"], {"SKYEXPORT_QUIET": "often"}),
    ):
        done = run(*arguments, **variables)
        assert done.exit_code == json.loads(done.stdout)["exit_code"] == 2
        assert len(done.stderr.splitlines()) == 1
    assert run("inspect", "a.db", "--", "--json").stdout == ""


@posix_only
def test_interrupted_with_json(slow_archive: Path, here: Path) -> None:
    """Ctrl-C prints an object as well, whether the command has begun or not."""
    process = started("export", slow_archive, "-j", "0", "--json", "-o", here)
    while not list(here.glob("all/.*.partial")):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    printed, said = process.communicate(timeout=10)
    assert process.returncode == json.loads(printed)["exit_code"] == 130
    assert len(said.splitlines()) == 1


EARLY = """
import os, signal, sys
import skyexport.cli.app
from skyexport.__main__ import main
skyexport.cli.app.app = lambda **_: os.kill(os.getpid(), signal.SIGINT)
sys.argv = ["skyexport", "inspect", "a.db", "--json"]
main()
"""


@posix_only
def test_interrupted_before_a_command() -> None:
    """A signal that comes before the command has begun ends with the same line and object."""
    done = subprocess.run([sys.executable, "-c", EARLY], capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert json.loads(done.stdout)["status"] == "failed"
    assert done.stderr == "skyexport: stopped by a signal; nothing of this export was kept\n"


# --- Help ---------------------------------------------------------------------------------------------------------


def help_of(*arguments: str, columns: int = 80) -> list[str]:
    done = skyexport(*arguments, "--help", env={"COLUMNS": str(columns)})
    assert done.returncode == 0
    return done.stdout.splitlines()


def commands() -> list[tuple[str, Any, Any]]:
    """Each command with its context."""
    root = typer.Context(GROUP, info_name="skyexport", **GROUP.context_settings)
    return [(name, one, typer.Context(one, info_name=name, parent=root)) for name, one in GROUP.commands.items()]


def test_every_option_of_export_is_in_a_group() -> None:
    """Options that are declared without a group are those that every command has."""
    ((_, command, context),) = [one for one in commands() if one[0] == "export"]
    groups = grouped_options(command, context)
    assert [heading for heading, _ in groups] == [*GROUPS, "Other options"]
    assert [option.opts[0] for option in groups[-1][1]] == ["--config", groups[-1][1][-1].opts[0]]
    assert "--help" in groups[-1][1][-1].opts


def test_help_of_export_fits() -> None:
    """At most 100 lines of 80 columns, two for an option; nothing is lost on a narrow terminal."""
    ((_, command, context),) = [one for one in commands() if one[0] == "export"]
    for columns in (80, 60):
        lines = help_of("export", columns=columns)
        options = [line for line in lines if not line.startswith("  skyexport") and not line.startswith("  find")]
        assert max(map(len, options)) <= columns
        text = " ".join(" ".join(lines).split())
        for _, members in grouped_options(command, context):
            for option in members:
                record = option_record(option, context)
                assert record is not None
                assert f"{record[0]} {record[1]}" in text
    lines = help_of("export")
    assert len(lines) <= 100
    assert max(map(len, lines)) <= 80
    entries = re.split(r"\n(?=  -|\S)", "\n".join(lines[: lines.index("Examples:")]))
    for entry in (entry for entry in entries if entry.startswith("  -")):
        assert len(entry.strip("\n").splitlines()) <= 2, entry


@pytest.mark.quick(3)
@pytest.mark.parametrize("name", ["", *GROUP.commands])
def test_help(name: str) -> None:
    """Each help fits into 80 columns, with a summary of one line, and examples that the parser takes."""
    lines = help_of(*filter(None, [name]))
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith(f"Usage: skyexport {name}".rstrip())
    assert "{" not in lines[0]
    statuses = [line for line in lines if re.match(r"  \d+ ", line)]
    assert len(statuses) == (0 if name else len(EXIT_CODES))
    if name:
        assert lines[3] == ""
        command = GROUP.commands[name]
        examples = examples_of(command)
        assert examples
        for example in examples:
            assert f"  {example}" in lines
            words = example.partition("skyexport ")[2].partition("|")[0].split()
            assert words[0] == name
            context = command.make_context(name, [*words[1:]], resilient_parsing=True)
            assert not context.args


def test_help_of_the_program() -> None:
    """It shows the whole summary of each command first, and every exit status; without a command it is an error."""
    lines = help_of()
    assert lines.index("Commands:") < lines.index("Options:") < lines.index("Exit status:")
    for name, command in GROUP.commands.items():
        assert f"  {name:<7}  {(command.help or '').splitlines()[0]}" in lines
    for code, meaning in EXIT_CODES.items():
        assert f"{code} {meaning}" in " ".join(" ".join(lines).split())
    done = skyexport()
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Usage: skyexport [OPTIONS] COMMAND [ARGS]...\n\n  Export local Bluesky archives")


def test_completion_is_that_of_the_package() -> None:
    """There is no second one, which would edit files of the shell."""
    assert not any("completion" in line for line in help_of())
    assert run("--install-completion").exit_code == 2
