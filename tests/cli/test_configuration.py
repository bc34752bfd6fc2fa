"""Options by environment and by file: which one holds, and what is said of wrong ones."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner, Result

import make_archive
from skyexport import ExportOptions, export
from skyexport.cli.app import app
from skyexport.cli.configuration import MAX_FILE_BYTES, Configuration, Given, Setting, settings_of
from skyexport.errors import OptionError
from skyexport.runtime.signals import Signals
from tests.command import PROGRAM, skyexport
from tests.conftest import posix_only
from tests.environment import ROOT

GROUP: Any = get_command(app)
SETTINGS = settings_of(GROUP)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, in which there is nothing."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str | Path, **variables: str) -> Result:
    """The command, in this process."""
    return CliRunner().invoke(app, [*map(str, arguments)], obj=Signals(), env=variables)


def parameters(*arguments: str | Path, **variables: str) -> dict[str, Any]:
    """The parameters that `export` is called with, by the whole command line."""
    found: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GROUP.commands["export"], "callback", lambda **given: found.update(given))
        for name, text in variables.items():
            patch.setenv(name, text)
        GROUP.main([*map(str, arguments)], standalone_mode=False, obj=Signals())
    assert found
    return found


def given(command: str, key: str, config: str | None = None, **variables: str) -> Given | None:
    """The value that an option has from elsewhere, and its place."""
    return Configuration(GROUP, config, variables).given(command).get(SETTINGS[command][key].name)


def value_of(key: str, config: str | None = None, **variables: str) -> object:
    """The value that an option of export has from elsewhere."""
    found = given("export", key, config, **variables)
    assert found
    return found.value


def failure(*arguments: str | Path, **variables: str) -> str:
    """The one line of a usage error."""
    done = run(*arguments, **variables)
    assert done.exit_code == 2, done.output
    assert isinstance(done.exception, SystemExit)
    (line,) = done.stderr.splitlines()
    assert line.startswith("skyexport: ")
    return line.removeprefix("skyexport: ")


def all_settings() -> list[tuple[str, Setting]]:
    return [(command, setting) for command, settings in SETTINGS.items() for setting in settings.values()]


def test_every_option_is_a_setting() -> None:
    """Whatever option the help of a command has can be given elsewhere; only --help and --config can not."""
    for command, settings in SETTINGS.items():
        shown = re.findall(r"(?m)^  (?:-\w, )?--([a-z-]+)", run(command, "--help").stdout)
        assert {*settings, "help", "config"} == set(shown)


@pytest.mark.parametrize(("command", "setting"), all_settings(), ids=lambda it: getattr(it, "key", it))
def test_every_option(here: Path, command: str, setting: Setting) -> None:
    """Each option of each command takes the value of its variable, and of its key in a file, with either spelling."""
    values = ["true", "yes", "1"] if setting.option.is_flag or setting.option.count else ["7"]
    wanted: object = "7"
    if setting.option.is_flag or setting.option.count:
        wanted = True
    elif setting.option.multiple:
        wanted = ["7"]
    for value in values:
        assert given(command, setting.key, **{setting.variable: value}) == Given(wanted, setting.variable)
    for key in {setting.key, setting.key.replace("-", "_")}:
        (here / "own.toml").write_text(f"[{command}]\n{key} = {values[0]}\n")
        place = f"'{setting.key}' of [{command}] in own.toml"
        assert given(command, setting.key, "own.toml") == Given(wanted, place)


def test_precedence(small_archive: make_archive.ArchiveInfo, here: Path) -> None:
    """Command line, environment, --config, default: the first of these that has it."""
    assert parameters("export", "a.db")["workers"] == parameters("export", "a.db", "-j", "auto")["workers"]
    (here / "named.toml").write_text("[export]\nworkers = 3\nbatch-size = 11\n")
    (here / "other.toml").write_text("[export]\nworkers = 2\n")
    for arguments, variables in (
        (["export", "a.db", "--config", "named.toml"], {}),
        (["--config", "named.toml", "export", "a.db"], {}),
        (["export", "a.db"], {"SKYEXPORT_CONFIG": "named.toml"}),
        (["export", "a.db", "--config", "named.toml"], {"SKYEXPORT_CONFIG": "missing.toml"}),
        (["--config", "missing.toml", "export", "a.db", "--config", "named.toml"], {}),
    ):
        found = parameters(*arguments, **variables)
        assert (found["workers"], found["batch_size"]) == (3, 11)
    # There is only one file: it is not combined with another.
    found = parameters("export", "a.db", "--config", "other.toml", SKYEXPORT_CONFIG="named.toml")
    assert (found["workers"], found["batch_size"]) == (2, 1000)
    found = parameters("export", "a.db", "--config", "named.toml", SKYEXPORT_WORKERS="4")
    assert (found["workers"], found["batch_size"]) == (4, 11)
    typed = run("export", small_archive.path, "--json", "--config", "named.toml", "-j", "0", SKYEXPORT_WORKERS="4")
    assert json.loads(typed.stdout)["workers"] == 0


def test_only_the_named_file_is_read(small_archive: make_archive.ArchiveInfo, here: Path) -> None:
    """No file in the current directory, beside the archive or in a home sets an option."""
    archive = here / "archive.db"
    archive.write_bytes(small_archive.path.read_bytes())
    for name in ("skyexport.toml", ".skyexport.toml", "config.toml", ".config/skyexport/config.toml"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text("[export]\nformat = 'csv'\nnonsense = 1\n")
    home = {"HOME": str(here), "USERPROFILE": str(here), "APPDATA": str(here), "XDG_CONFIG_HOME": str(here / ".config")}
    done = skyexport("export", archive, "--to", "out", cwd=here, env=home)
    assert (done.returncode, "toml" in done.stderr) == (0, False), done.stderr
    assert (here / "out").read_bytes().startswith(b"[\n")


@pytest.mark.parametrize("arguments", [["--config", "own.toml", "-f", "json"], ["-f", "json", "--config", "own.toml"]])
def test_the_command_line_comes_first(
    small_archive: make_archive.ArchiveInfo, here: Path, arguments: list[str]
) -> None:
    """What is typed holds, in whatever order, and the rest of the file as well."""
    (here / "own.toml").write_text('[export]\nformat = "csv"\njson = true\nto = "typed"\n')
    done = run("export", small_archive.path, *arguments)
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["format"] == "json"
    assert (here / "typed").read_bytes().startswith(b"[\n")


def test_an_export_by_environment(small_archive: make_archive.ArchiveInfo, here: Path) -> None:
    """As a process: variables alone make it write what they ask for."""
    done = skyexport(
        "export", small_archive.path, cwd=here,
        env={"SKYEXPORT_FORMAT": "csv", "SKYEXPORT_TO": "out.csv", "SKYEXPORT_QUIET": "yes"},
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (here / "out.csv").read_bytes().startswith("\ufeffURI,CID,".encode())


@pytest.mark.parametrize("text", ["1", "true", "YES", "0", "False", "no"])
def test_flags(here: Path, text: str) -> None:
    """A flag's variable says yes or no, and no is more than the yes of a file."""
    (here / "own.toml").write_text("[export]\nno-sync = true\n")
    wanted = text in ("1", "true", "YES")
    assert parameters("export", "a.db", "--config", "own.toml", SKYEXPORT_NO_SYNC=text)["no_sync"] is wanted


@pytest.mark.parametrize("text", ["maybe", "2", " ", "on", "tru", "ja\x1b[31m"])
def test_flags_that_are_neither(here: Path, text: str) -> None:
    """Anything else is an error that names the variable; for a command that has no such option it is nothing."""
    for arguments in (["export", "a.db"], ["export", "a.db", "--json"]):
        done = run(*arguments, SKYEXPORT_NO_SYNC=text)
        assert done.exit_code == 2
        assert done.stderr.startswith("skyexport: SKYEXPORT_NO_SYNC is ")
        assert len(done.stderr.splitlines()) == 1
        assert "\x1b" not in done.output
    assert run("inspect", "missing.db", SKYEXPORT_NO_SYNC=text).exit_code == 10
    assert not list(here.iterdir())


def test_an_empty_variable(here: Path) -> None:
    """It gives an option its default back, which is how to be rid of what a file sets."""
    (here / "own.toml").write_text('[export]\nformat = "csv"\nmedia = true\noutput-dir = "o"\n')
    arguments = ("export", "missing.db", "--config", "own.toml")
    default = parameters("export", "missing.db")
    for key in ("format", "media", "output-dir"):
        setting = SETTINGS["export"][key]
        assert parameters(*arguments)[setting.name] != default[setting.name]
        assert parameters(*arguments, **{setting.variable: ""})[setting.name] == default[setting.name]
        assert given("export", key, "own.toml", **{setting.variable: ""}) == Given(None, setting.variable)
    both = "skyexport: -o and --to both say where to write; leave out one of them; "
    done = run(*arguments, "--to", "x", "-q", SKYEXPORT_MEDIA="0")
    assert done.stderr == f"{both}--output-dir is from 'output-dir' of [export] in own.toml\n"
    done = run(*arguments, "--to", "x", "-q", SKYEXPORT_MEDIA="", SKYEXPORT_OUTPUT_DIR="")
    assert done.exit_code == 10


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", "xml"),
        ("author", "alice"),
        ("since", "yesterday"),
        ("until", "2024-01-01T00:00:00"),
        ("workers", "two"),
        ("workers", "999"),
        ("batch-size", "0"),
        ("batch-size", "many"),
        ("memory-limit", "lots"),
        ("memory-limit", "0.0GB"),
        ("progress", "loud"),
        ("snapshot", "polaroid"),
        ("media-root", "somewhere"),
    ],
)
def test_values_that_no_export_could_have(here: Path, key: str, value: str) -> None:
    """The error of such a value says where it came from, and not where others came from."""
    setting = SETTINGS["export"][key]
    others = {"SKYEXPORT_STRICT": "1", "SKYEXPORT_JSON": "0"}
    line = failure("export", "missing.db", **{setting.variable: value}, **others)
    assert f"; --{key} is from {setting.variable}" in line
    # Where no word of the message leads to an option, all of them are named.
    assert ("SKYEXPORT_STRICT" in line) == (value == "0.0GB")
    (here / "own.toml").write_text(f'[export]\n{key} = "{value}"\nquiet = true\n')
    for arguments, variables in ((["--config", "own.toml"], {}), ([], {"SKYEXPORT_CONFIG": "own.toml"})):
        line = failure("export", "missing.db", *arguments, **variables)
        assert f"--{key} is from '{key}' of [export] in own.toml" in line


def test_what_is_typed_is_not_blamed_on_others() -> None:
    """An error in the command line names no variable that has nothing to do with it."""
    line = failure("export", "missing.db", "--batch-size", "many", SKYEXPORT_FORMAT="csv")
    assert line == "'many' is not a number of posts; write it in digits, like 1000"


def test_failure_as_json() -> None:
    """With --json, wherever that is given, what is wrong is an object, too."""
    (done, typed) = (
        run("export", "a.db", SKYEXPORT_JSON="1", SKYEXPORT_WORKERS="two"),
        run("export", "a.db", "--json", SKYEXPORT_NO_SYNC="?"),
    )
    assert "SKYEXPORT_WORKERS" in json.loads(done.stdout)["hint"]
    assert "SKYEXPORT_NO_SYNC" in json.loads(typed.stdout)["error"]


@pytest.mark.quick(6)
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[export]\nfromat = 'csv'", "[export] fromat: export has no such option in files; did you mean 'format'?"),
        ("[export]\narchive = 'a.db'", "[export] archive: export has no such option in files"),
        ("[export]\nconfig = 'a.toml'", "[export] config: export has no such option in files"),
        ("[inspect]\nformat = 'csv'", "[inspect] format: inspect has no such option in files"),
        ("[exprot]\nformat = 'csv'", "there is no command 'exprot'; did you mean [export]?"),
        ("[zzz]", "there is no command 'zzz'; tables are [export], "),
        ("format = 'csv'", "'format' is not a table; write it below [export], "),
        ("export = 1", "'export' is not a table; write [export]"),
        ("[[export]]\nformat = 'csv'", "'export' is not a table; write [export]"),
        ("[export.more]\nx = 1", "[export] more: export has no such option in files"),
        ("[export]\nno-sync = 'yes'", "[export] no-sync is neither true nor false"),
        ("[export]\nno-sync = 1", "[export] no-sync is neither true nor false"),
        ("[export]\nformat = true", "[export] format is neither text nor a whole number"),
        ("[export]\nbatch-size = 1.5", "[export] batch-size is neither text nor a whole number"),
        ("[export]\nformat = ['csv']", "[export] format is neither text nor a whole number"),
        ("[export]\nformat = {a = 1}", "[export] format is neither text nor a whole number"),
        ("[export]\nno-sync = true\nno_sync = true", "[export] no_sync: the option is set twice"),
        ("[export", "is not TOML: "),
        ("[export]\nformat = csv", "is not TOML: "),
        ("[export]\nformat = 'csv'\nformat = 'csv'", "is not TOML: "),
        ("[export]\nx = " + "9" * 5000, "is not TOML: "),
        ("[export]\nx = " + "[" * 50_000, "is nested too deeply"),
        ("[export]\n" + "x." * 40_000 + "x = 1", "is nested too deeply"),
        ("[export]\n" + ".".join(['"\u2028"'] * 5000) + " = 1", "is nested too deeply"),
        ("#" * (MAX_FILE_BYTES + 1), "has more than 100,000 bytes"),
        ("[export]\n\x1b[31m = 1", "is not TOML: "),
    ],
)
def test_files_with_an_error(here: Path, text: str, message: str) -> None:
    """Whatever is wrong with a file: one line that names it, and the key with what was meant, for every command."""
    (here / "own.toml").write_text(text, encoding="utf-8")
    begun = time.monotonic()
    for arguments, variables in (
        (["export", "missing.db"], {"SKYEXPORT_CONFIG": "own.toml"}),
        (["inspect", "missing.db"], {"SKYEXPORT_CONFIG": "own.toml"}),
        (["export", "missing.db", "--config", "own.toml"], {}),
    ):
        line = failure(*arguments, **variables)
        assert line.startswith("own.toml")
        assert message in line
        assert all(character.isprintable() for character in line)
    assert time.monotonic() - begun < 5


def test_files_that_can_not_be_read(here: Path) -> None:
    """No UTF-8, no file of this name, or no file but a directory: one line, exit code 2."""
    command = ("inspect", "a.db")
    (here / "own.toml").write_bytes(b'[export]\nformat = "\xff"\n')
    assert failure(*command, "--config", "own.toml") == "own.toml is not UTF-8 at byte 19; save it as UTF-8"
    (here / "own.toml").write_bytes('[export]\nformat = "csv"\n'.encode("utf-16"))
    assert "is not UTF-8" in failure(*command, "--config", "own.toml")
    assert failure(*command, "--config", "missing.toml") == "there is no file missing.toml; see --config"
    assert failure(*command, SKYEXPORT_CONFIG="missing.toml") == "there is no file missing.toml; see --config"
    assert failure(*command, "--config", "") == "the configuration file has no name; write a path"
    assert failure(*command, "--config", here).startswith(f"cannot read {here}: ")


@posix_only
def test_devices_and_pipes(small_archive: make_archive.ArchiveInfo, here: Path) -> None:
    """Of a device without an end no more is read than of a file; the pipe that a shell makes is read."""
    assert failure("inspect", "a.db", "--config", "/dev/zero").startswith("/dev/zero has more than 100,000 bytes")
    command = f"skyexport export {small_archive.path} --to out -q --config <(printf '[export]\\nformat = \"csv\"\\n')"
    script = f'skyexport() {{ {" ".join(PROGRAM)} "$@"; }}; {command}'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (here / "out").read_bytes().startswith("\ufeffURI,CID,".encode())


@posix_only
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_permissions(here: Path) -> None:
    """A file that may not be read is an error."""
    (here / "own.toml").touch(mode=0)
    assert failure("inspect", "a.db", "--config", "own.toml") == "cannot read own.toml: Permission denied"


def test_spellings_of_toml(here: Path) -> None:
    """A byte order mark and the line ends of Windows do no harm; numbers and dates need no quotes."""
    text = "[export]\r\nsince = 2024-01-02\r\nuntil = 2024-01-03T04:05:06Z\r\nbatch_size = 1_000\r\n"
    (here / "own.toml").write_bytes(text.encode("utf-8-sig"))
    assert value_of("since", "own.toml") == "2024-01-02"
    assert value_of("until", "own.toml") == "2024-01-03T04:05:06+00:00"
    assert value_of("batch-size", "own.toml") == "1000"
    assert run("export", "missing.db", "--config", "own.toml").exit_code == 10


def test_every_place_is_recognised() -> None:
    """An option whose value is a path says so by its metavar, so that a file may have `~` in it."""
    texts = [s for _, s in all_settings() if re.search("dir|path|file|root|list|link|export", s.key) or s.key == "to"]
    assert {"output-dir", "media-root", "to"} <= {setting.key for setting in texts}
    for setting in texts:
        assert setting.is_place or setting.option.is_flag, setting.key


def test_the_file_may_set_everything(small_archive: make_archive.ArchiveInfo, here: Path) -> None:
    """The user named it, so it may say where to write, and that a file is replaced."""
    (here / "own.toml").write_text("[export]\noverwrite = true\nto = 'out'\n")
    (here / "out").touch()
    done = run("export", small_archive.path, "--config", here / "own.toml", "-q")
    assert (done.exit_code, done.stderr) == (0, "")
    assert (here / "out").stat().st_size


def test_paths_of_files(here: Path) -> None:
    """A file needs no shell for `~`; relative paths are those of the current directory, as they are typed."""
    (here / "own.toml").write_text("[export]\noutput-dir = '~/exports'\nto = 'x/'\nauthor = '~/x'\n")
    assert value_of("output-dir", "own.toml") == os.path.expanduser("~/exports")  # noqa: PTH111
    assert value_of("to", "own.toml") == "x/"
    assert value_of("author", "own.toml") == "~/x"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("SKYEXPORT_FROMAT", "SKYEXPORT_FORMAT"),
        ("SKYEXPORT_OUTPUTDIR", "SKYEXPORT_OUTPUT_DIR"),
        ("SKYEXPORT_MEMORY-LIMIT", "SKYEXPORT_MEMORY_LIMIT"),
        pytest.param("skyexport_format", "SKYEXPORT_FORMAT", marks=posix_only),
        pytest.param("Skyexport_Confg", "SKYEXPORT_CONFIG", marks=posix_only),
        ("SKYEXPORT_ZZZZZZ", None),
        ("SKYEXPORT_", None),
    ],
)
def test_unknown_variables(here: Path, name: str, meant: str | None) -> None:
    """A variable that no command knows ends every command, with what was probably meant."""
    for command in (["export", "a.db"], ["inspect", "a.db"]):
        message, hint = failure(*command, **{name: "csv"}).split("; ", 1)
        assert message == f"the variable {name} is not an option of any command"
        assert hint == (f"did you mean {meant}?" if meant else hint)
        assert meant is not None or "unset it" in hint
    assert not list(here.iterdir())


def test_variables_of_other_commands(small_archive: make_archive.ArchiveInfo) -> None:
    """They are known, and so is an empty one for the file of --config; others' variables are none of our business."""
    variables = {"SKYEXPORT_RUNS": "1", "SKYEXPORT_CONFIG": "", "MY_SKYEXPORT_FROMAT": "x", "SKYEXPORTER": "x"}
    assert run("inspect", small_archive.path, **variables).exit_code == 0
    assert run("--version", SKYEXPORT_FROMAT="csv").exit_code == run("export", "-h", SKYEXPORT_X="").exit_code == 0


def test_how_often_a_flag_is_given(here: Path) -> None:
    """What may be repeated is a word or a number, in a variable and in a file."""
    for text, times in {"1": 1, "yes": 1, "2": 2, "no": 0, "0": 0, "99": 9}.items():
        assert value_of("quiet", SKYEXPORT_QUIET=text) == times
    for text, times in {"true": 1, "2": 2, "false": 0}.items():
        (here / "own.toml").write_text(f"[export]\nquiet = {text}\n")
        assert value_of("quiet", "own.toml") == times
    for wrong in ("-1", '"yes"'):
        (here / "own.toml").write_text(f"[export]\nquiet = {wrong}\n")
        assert "[export] quiet is neither true nor false" in failure("export", "a.db", "--config", "own.toml")
    assert "neither yes nor no" in failure("export", "a.db", SKYEXPORT_QUIET="often")


def test_help_whatever_a_file_says(here: Path) -> None:
    """Help shows the defaults of the program, and does not mind a broken file."""
    whole = run("export", "--help").stdout
    assert "SKYEXPORT_<OPTION>" in whole
    (here / "own.toml").write_text("[export")
    variables = {"SKYEXPORT_CONFIG": "own.toml", "SKYEXPORT_BATCH_SIZE": "7", "SKYEXPORT_NO_SYNC": "?"}
    assert run("export", "--help", **variables).stdout == whole


def test_programs_are_not_configured(
    small_archive: make_archive.ArchiveInfo, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`skyexport.export` does what its options say, whatever environment and files have for the command."""
    (here / "own.toml").write_text("[export]\nformat = 'csv'\nnonsense = 1\n")
    monkeypatch.setenv("SKYEXPORT_FORMAT", "csv")
    monkeypatch.setenv("SKYEXPORT_CONFIG", "own.toml")
    assert export(ExportOptions(archive=small_archive.path, to=here / "out")).format == "json"


other = typer.Typer(cls=type(GROUP))
"""A program with kinds of options that skyexport may have one day."""


@other.command()
def work(
    context: typer.Context,
    count: Annotated[int, typer.Option()] = 3,
    also: Annotated[list[str] | None, typer.Option(metavar="FILE")] = None,
    where: Annotated[list[Path] | None, typer.Option()] = None,
    safe: Annotated[bool, typer.Option()] = True,
) -> None:
    """Show what it was given."""
    del context
    typer.echo(json.dumps([count, also, [*map(str, where or [])], safe]))


@other.command()
def rest() -> None:
    """Make `work` a command of its own name."""


def worked(*arguments: str, **variables: str) -> Any:
    done = CliRunner().invoke(other, ["work", *arguments], env=variables)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_repeatable_options(here: Path) -> None:
    """A variable of one is split at white space, one of paths as PATH is; a file has a list, or one value."""
    variables = {"SKYEXPORT_ALSO": " a  b ", "SKYEXPORT_WHERE": os.pathsep.join(["a b", "c"]), "SKYEXPORT_SAFE": "no"}
    assert worked(**variables) == [3, ["a", "b"], ["a b", "c"], False]
    assert worked("--also", "x", "--also", "y z", **variables)[1] == ["x", "y z"]
    (here / "own.toml").write_text("[work]\nalso = ['a b', 7]\nwhere = 'c d'\ncount = 5\nsafe = false\n")
    assert worked("--config", "own.toml") == [5, ["a b", "7"], ["c d"], False]
    assert worked("--config", "own.toml", "--safe")[3] is True
    (here / "own.toml").write_text("[work]\nalso = [true]\n")
    group = get_command(other)
    assert isinstance(group, TyperGroup)
    with pytest.raises(OptionError, match=r"own.toml: \[work\] also is neither text nor a whole number"):
        Configuration(group, "own.toml", {})


def test_values_that_typer_refuses(here: Path) -> None:
    """An error that is found before the command begins is told likewise, with its place, in one line."""
    (here / "own.toml").write_text("[work]\ncount = 'three'\n")
    for arguments, variables, place in (
        (["--config", "own.toml"], {}, "'count' of [work] in own.toml"),
        ([], {"SKYEXPORT_COUNT": "three"}, "SKYEXPORT_COUNT"),
    ):
        done = CliRunner().invoke(other, ["work", *arguments], env=variables)
        assert done.exit_code == 2
        assert re.fullmatch("skyexport: --count: 'three' is not a valid int[a-z]*; --count is from (.*)\n", done.stderr)
        assert done.stderr.endswith(f" is from {place}\n")
    assert "SKYEXPORT" not in CliRunner().invoke(other, ["work", "--count", "x"], env={"SKYEXPORT_COUNT": "x"}).output


def blocks_of(page: str, kind: str) -> list[str]:
    return re.findall(rf"(?ms)^```{kind}\n(.*?)^```$", page)


@posix_only
def test_examples_of_the_page(small_archive: make_archive.ArchiveInfo, tmp_path: Path) -> None:
    """docs/configuration.md: its files are accepted, its commands do what it shows, `…` stands for anything."""
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    (tmp_path / "archive.db").write_bytes(small_archive.path.read_bytes())
    for kind, text in re.findall(r"(?ms)^```(toml|console)\n(.*?)^```$", page):
        if kind == "toml":
            name = re.match(r"# (\S+)", text)
            assert name, text
            (tmp_path / name[1]).write_text(text)
            continue
        steps = re.split(r"(?m)^\$ ", text)[1:]
        assert steps
        for step in steps:
            command, _, shown = step.partition("\n")
            script = f'skyexport() {{ {" ".join(PROGRAM)} "$@"; }}\n{command}'
            done = subprocess.run(
                ["bash", "-c", script], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                check=False,
            )  # fmt: skip
            pattern = ".*?".join(map(re.escape, shown.split("…")))
            assert re.fullmatch(pattern, done.stdout, re.DOTALL), (command, done.stdout)
    assert len(blocks_of(page, "console")) > 3
