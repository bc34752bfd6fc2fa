"""Options by environment and by file: which one holds, that it is told, and what a stranger's file can not do."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
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
from skyexport.cli.configuration import Configuration, Setting, settings_of
from skyexport.cli.configuration_files import MAX_FILE_BYTES, user_file
from skyexport.errors import OptionError
from skyexport.runtime.signals import Signals
from tests.command import PROGRAM, files_below, skyexport
from tests.conftest import posix_only
from tests.environment import ROOT

GROUP = get_command(app)
assert isinstance(GROUP, TyperGroup)
SETTINGS = settings_of(GROUP)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, in which there is nothing; the user's own file would be in `home`."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "home" / "skyexport").mkdir(parents=True)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    return tmp_path / "here"


def run(*arguments: str | Path, **variables: str) -> Result:
    """The command, in this process."""
    return CliRunner().invoke(app, [*map(str, arguments)], obj=Signals(), env=variables)


def configured(*arguments: str | Path, **variables: str) -> dict[str, Any]:
    """What `skyexport config --json` says."""
    done = run("config", "--json", *arguments, **variables)
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def holding(key: str, *arguments: str | Path, **variables: str) -> tuple[object, str, str | None]:
    """Value, why, and where from, of an option of export."""
    found = configured("export", *arguments, **variables)["commands"]["export"][key]
    return found["value"], found["why"], found.get("place")


def failure(*arguments: str | Path, **variables: str) -> str:
    """The one line of a usage error."""
    done = run(*arguments, **variables)
    assert done.exit_code == 2, done.output
    assert isinstance(done.exception, SystemExit)
    (line,) = done.stderr.splitlines()
    assert line.startswith("skyexport: ")
    return line.removeprefix("skyexport: ")


def all_settings() -> list[Setting]:
    return [setting for settings in SETTINGS.values() for setting in settings.values()]


def test_every_option_is_a_setting() -> None:
    """Whatever option the help of a command has can be given elsewhere; only --help and --config can not."""
    for command, settings in SETTINGS.items():
        shown = re.findall(r"(?m)^  (?:-\w, )?--([a-z-]+)", run(command, "--help").stdout)
        assert {*settings, "help", "config"} == set(shown)


@pytest.mark.quick(6)
@pytest.mark.parametrize("setting", all_settings(), ids=lambda it: f"{it.command}-{it.key}")
def test_every_option(here: Path, setting: Setting) -> None:
    """Each option of each command takes the value of its variable, and of its key in a file, with either spelling."""
    values = ["true", "yes", "1"] if setting.option.is_flag or setting.option.count else ["7"]
    wanted: object = "7"
    if setting.option.is_flag or setting.option.count:
        wanted = True
    elif setting.option.multiple:
        wanted = ["7"]
    # What the command config obeys itself.
    text = ["--json"] if setting.command != "config" or setting.key != "json" else []
    for value in values:
        done = run("config", setting.command, *text, **{setting.variable: value})
        found = json.loads(done.stdout)["commands"][setting.command][setting.key]
        assert found == {"value": wanted, "why": "environment", "place": setting.variable}
    for key in {setting.key, setting.key.replace("-", "_")}:
        (here / "own.toml").write_text(f"[{setting.command}]\n{key} = {values[0]}\n")
        done = run("config", setting.command, *text, "--config", "own.toml")
        found = json.loads(done.stdout)["commands"][setting.command][setting.key]
        assert found == {"value": wanted, "why": "--config", "place": "own.toml"}


def test_precedence(small_archive: make_archive.ArchiveInfo, here: Path) -> None:
    """Command line, environment, --config, project file, user file, default: the first of these that has it."""
    assert holding("workers") == ("auto", "default", None)
    own = here.parent / "home" / "skyexport" / "config.toml"
    own.write_text("[export]\nworkers = 1\nbatch-size = 11\n")
    if sys.platform not in ("win32", "darwin"):
        assert holding("workers") == ("1", "user file", str(own))
    (here / "skyexport.toml").write_text("[export]\nworkers = 2\n")
    assert holding("workers") == ("2", "project file", "skyexport.toml")
    if sys.platform not in ("win32", "darwin"):
        assert holding("batch-size") == ("11", "user file", str(own))
    (here / "named.toml").write_text("[export]\nworkers = 3\n")
    for arguments, variables in (
        (["--config", "named.toml"], {}),
        ([], {"SKYEXPORT_CONFIG": "named.toml"}),
        (["--config", "named.toml"], {"SKYEXPORT_CONFIG": "missing.toml"}),
    ):
        assert holding("workers", *arguments, **variables) == ("3", "--config", "named.toml")
    before = json.loads(run("--config", "named.toml", "config", "--json").stdout)
    assert before["commands"]["export"]["workers"]["value"] == "3"
    assert holding("workers", "--config", "named.toml", SKYEXPORT_WORKERS="4") == (
        "4", "environment", "SKYEXPORT_WORKERS",
    )  # fmt: skip
    typed = run("export", small_archive.path, "--json", "--config", "named.toml", "-j", "0", SKYEXPORT_WORKERS="4")
    assert json.loads(typed.stdout)["workers"] == 0


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
    (here / "skyexport.toml").write_text("[export]\nno-sync = true\n")
    wanted = text in ("1", "true", "YES")
    assert holding("no-sync", SKYEXPORT_NO_SYNC=text) == (wanted, "environment", "SKYEXPORT_NO_SYNC")


@pytest.mark.parametrize("text", ["maybe", "2", " ", "on", "tru", "ja\x1b[31m"])
def test_flags_that_are_neither(here: Path, text: str) -> None:
    """Anything else is an error that names the variable; for a command that has no such option it is nothing."""
    for arguments in (["export", "a.db"], ["config"], ["config", "--json", "export"]):
        done = run(*arguments, SKYEXPORT_NO_SYNC=text)
        assert done.exit_code == 2
        assert done.stderr.startswith("skyexport: SKYEXPORT_NO_SYNC is ")
        assert len(done.stderr.splitlines()) == 1
        assert "\x1b" not in done.output
    assert run("inspect", "missing.db", SKYEXPORT_NO_SYNC=text).exit_code == 10
    assert not list(here.iterdir())


def test_an_empty_variable(here: Path) -> None:
    """It gives an option its default back, which is how to be rid of what a file sets."""
    (here / "skyexport.toml").write_text('[export]\nformat = "csv"\nmedia = true\noutput-dir = "o"\n')
    for key, default in (("format", None), ("media", False), ("output-dir", None)):
        variable = "SKYEXPORT_" + key.upper().replace("-", "_")
        assert holding(key, **{variable: ""}) == (default, "environment", variable)
    both = "skyexport: -o and --to both say where to write; leave out one of them; "
    done = run("export", "missing.db", "--to", "x", "-q", SKYEXPORT_MEDIA="0")
    assert done.stderr == f"{both}--output-dir is from 'output-dir' of [export] in skyexport.toml\n"
    done = run("export", "missing.db", "--to", "x", "-q", SKYEXPORT_MEDIA="", SKYEXPORT_OUTPUT_DIR="")
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
    for file in ("skyexport.toml", "own.toml"):
        (here / file).write_text(f'[export]\n{key} = "{value}"\nquiet = true\n')
        done = run("export", "missing.db", *(["--config", file] if file == "own.toml" else []))
        assert done.exit_code == 2
        assert f"--{key} is from '{key}' of [export] in {file}" in done.stderr.splitlines()[-1]
        (here / file).unlink()


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
    (here / "skyexport.toml").write_text(text, encoding="utf-8")
    (here / "own.toml").write_text(text, encoding="utf-8")
    begun = time.monotonic()
    for arguments in (["export", "missing.db"], ["inspect", "missing.db"], ["config"]):
        line = failure(*arguments)
        assert line.startswith("skyexport.toml")
        assert message in line
    (here / "skyexport.toml").unlink()
    line = failure("config", "--config", "own.toml")
    assert line.startswith("own.toml")
    assert message in line
    assert all(character.isprintable() for character in line)
    assert time.monotonic() - begun < 5


def test_files_that_can_not_be_read(here: Path) -> None:
    """No UTF-8, no file at all, or none of this name where one was named: one line, exit code 2."""
    (here / "own.toml").write_bytes(b'[export]\nformat = "\xff"\n')
    assert failure("config", "--config", "own.toml") == "own.toml is not UTF-8 at byte 19; save it as UTF-8"
    (here / "own.toml").write_bytes('[export]\nformat = "csv"\n'.encode("utf-16"))
    assert "is not UTF-8" in failure("config", "--config", "own.toml")
    assert failure("config", "--config", "missing.toml") == "there is no file missing.toml; see --config"
    assert failure("config", SKYEXPORT_CONFIG="missing.toml") == "there is no file missing.toml; see --config"
    assert failure("config", "--config", "") == "the configuration file has no name; write a path"
    (here / "skyexport.toml").mkdir()
    assert failure("config").startswith("cannot read skyexport.toml: ")
    (here / "skyexport.toml").rmdir()
    assert failure("config", "--config", here).startswith(f"cannot read {here}: ")


@posix_only
def test_a_pipe_in_the_place_of_a_file(here: Path) -> None:
    """One that somebody has put there is not waited for; one that the shell makes for --config is read."""
    os.mkfifo("skyexport.toml")
    assert failure("config") == "skyexport.toml is not a file; move it away"
    (here / "skyexport.toml").unlink()
    command = "skyexport config export --config <(printf '[export]\\nformat = \"csv\"\\n')"
    script = f'skyexport() {{ {" ".join(PROGRAM)} "$@"; }}; {command}'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert re.search(r"(?m)^format +csv +--config /dev/fd/", done.stdout), done.stderr


@posix_only
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_permissions(here: Path) -> None:
    """A file that may not be read is an error; a home that may not be looked into, as after `su`, has none."""
    (here / "skyexport.toml").touch(mode=0)
    assert failure("config") == "cannot read skyexport.toml: Permission denied"
    (here / "skyexport.toml").unlink()
    (here.parent / "home").chmod(0)
    try:
        assert configured()["files"][0]["found"] is False
    finally:
        (here.parent / "home").chmod(0o700)


def test_spellings_of_toml(here: Path) -> None:
    """A byte order mark and the line ends of Windows do no harm; numbers and dates need no quotes."""
    text = "[export]\r\nsince = 2024-01-02\r\nuntil = 2024-01-03T04:05:06Z\r\nbatch_size = 1_000\r\n"
    (here / "skyexport.toml").write_bytes(text.encode("utf-8-sig"))
    assert holding("since")[0] == "2024-01-02"
    assert holding("until")[0] == "2024-01-03T04:05:06+00:00"
    assert holding("batch-size")[0] == "1000"
    assert run("export", "missing.db").exit_code == 10


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("overwrite = true", "cannot set this"),
        ("overwrite = false", "cannot set this"),
        ("register = true", "cannot set this"),
        ("to = 'posts.json'", "cannot set this"),
        ("from-file = 'list'", "cannot set this"),
        ("from_file = 'list'", "cannot set this"),
        ("config = 'other.toml'", "export has no such option in files"),
        ("output-dir = '..'", "is not a relative path below"),
        ("output-dir = '/tmp'", "is not a relative path below"),
        (
            r"output-dir = '\\server\share'" if sys.platform == "win32" else "output-dir = '//server/share'",
            "is not a relative path below",
        ),
        ("output-dir = 'a/../../b'", "is not a relative path below"),
        ("output-dir = '~/exports'", "is not a relative path below"),
        ("output-dir = 'link/exports'", "is not a relative path below"),
        ('output-dir = "a\\u0000b"', "is not a relative path below"),
        ("media-root = '../..'", "is not a relative path below"),
        ("media_root = 'link'", "is not a relative path below"),
    ],
)
def test_a_project_file_of_a_stranger(small_archive: make_archive.ArchiveInfo, here: Path, line: str, why: str) -> None:
    """It can not say what is replaced, written to, or taken, nor any place outside of its directory: exit code 2."""
    try:
        (here / "link").symlink_to(here.parent)
    except OSError:
        pytest.skip("no links here")
    (here / "skyexport.toml").write_text(f"[export]\nmedia = true\n{line}\n")
    before = files_below(here.parent)
    for arguments in (["export", small_archive.path], ["config"], ["export", small_archive.path, "-o", "typed"]):
        said = failure(*arguments)
        assert said.startswith(f"skyexport.toml: [export] {line.split(' =', maxsplit=1)[0]}: ")
        assert why in said
    assert files_below(here.parent) == before


def test_every_place_is_recognised() -> None:
    """An option whose value is a path says so by its metavar; those of a project file are held to its directory."""
    texts = [s for s in all_settings() if re.search("dir|path|file|root|list|link|export", s.key) or s.key == "to"]
    assert {"output-dir", "media-root", "to"} <= {setting.key for setting in texts}
    for setting in texts:
        assert setting.is_place or setting.option.is_flag, setting.key


def test_a_project_file_that_is_named_is_ones_own(small_archive: make_archive.ArchiveInfo, here: Path) -> None:
    """With --config it may set everything."""
    (here / "skyexport.toml").write_text("[export]\noverwrite = true\nto = 'out'\n")
    (here / "out").touch()
    done = run("export", small_archive.path, "--config", here / "skyexport.toml", "-q")
    assert (done.exit_code, done.stderr) == (0, "")
    assert (here / "out").stat().st_size


def test_a_project_file_is_told(small_archive: make_archive.ArchiveInfo, here: Path) -> None:
    """Export says first which project file it obeys and in what, but not when asked to be quiet by somebody else."""
    (here / "skyexport.toml").write_text(
        "[export]\nformat = 'csv'\nno_sync = true\noutput-dir = 'o'\n[bench]\nruns = 1"
    )
    told = "skyexport.toml in this directory sets format, output-dir, no-sync"
    assert run("export", small_archive.path).stderr.splitlines()[0] == told
    assert run("export", small_archive.path, "-q").stderr == ""
    assert run("export", small_archive.path, SKYEXPORT_QUIET="1").stderr == ""
    typed = run("export", small_archive.path, "-f", "json", "-o", "p", SKYEXPORT_NO_SYNC="0")
    assert "skyexport.toml" not in typed.stderr
    assert run("inspect", small_archive.path).stderr == ""
    (here / "skyexport.toml").write_text("[export]\nquiet = true\n")
    assert run("export", small_archive.path).stderr == "skyexport.toml in this directory sets quiet\n"


def test_paths_of_files(here: Path) -> None:
    """A file needs no shell for `~`; relative paths are those of the current directory, as they are typed."""
    (here / "own.toml").write_text("[export]\noutput-dir = '~/exports'\nto = 'x/'\nauthor = '~/x'\n")
    assert holding("output-dir", "--config", "own.toml")[0] == os.path.expanduser("~/exports")  # noqa: PTH111
    assert holding("to", "--config", "own.toml")[0] == "x/"
    assert holding("author", "--config", "own.toml")[0] == "~/x"


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
    for command in (["export", "a.db"], ["inspect", "a.db"], ["config"]):
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
        assert holding("quiet", SKYEXPORT_QUIET=text)[0] == times
    for text, times in {"true": 1, "2": 2, "false": 0}.items():
        (here / "own.toml").write_text(f"[export]\nquiet = {text}\n")
        assert holding("quiet", "--config", "own.toml")[0] == times
    for wrong in ("-1", '"yes"'):
        (here / "own.toml").write_text(f"[export]\nquiet = {wrong}\n")
        assert "[export] quiet is neither true nor false" in failure("config", "--config", "own.toml")
    assert "neither yes nor no" in failure("export", "a.db", SKYEXPORT_QUIET="often")


def test_config_in_words(here: Path) -> None:
    """One option a line, aligned: its name, what holds, and why; then the files that were looked for."""
    (here / "skyexport.toml").write_text("[export]\nformat = 'csv'\n")
    lines = run("config", "export", SKYEXPORT_MEMORY_LIMIT="1GB", SKYEXPORT_AUTHOR="").stdout.splitlines()
    assert lines[0] == "[export]"
    columns = {line.split()[0]: re.split(" {2,}", line) for line in lines[1 : len(SETTINGS["export"]) + 1]}
    assert list(columns) == list(SETTINGS["export"])
    assert columns["format"] == ["format", "csv", "project file skyexport.toml"]
    assert columns["memory-limit"] == ["memory-limit", "1GB", "environment SKYEXPORT_MEMORY_LIMIT"]
    assert columns["author"] == ["author", "(every author)", "environment SKYEXPORT_AUTHOR"]
    assert columns["to"] == ["to", "-", "default"]
    assert columns["strict"] == ["strict", "false", "default"]
    assert len({line.index("default") for line in lines if line.endswith("default")}) == 1
    assert re.search(r"(?m)^user file +.*config.toml +not found$", "\n".join(lines))
    text = run("config", "--help").stdout
    assert "  skyexport config export --json\n" in text
    everything = run("config").stdout
    assert all(f"[{command}]" in everything for command in SETTINGS)
    assert failure("config", "exprot").startswith("there is no command 'exprot'; commands are export, ")
    escapes = run("config", "export", SKYEXPORT_AUTHOR="\x1b[31m").stdout
    assert r"\x1b[31m" in escapes


def test_help_whatever_a_file_says(here: Path) -> None:
    """Help shows the defaults of the program, and does not mind a broken file."""
    whole = run("export", "--help").stdout
    assert "SKYEXPORT_<OPTION>" in whole
    (here / "skyexport.toml").write_text("[export")
    assert run("export", "--help", SKYEXPORT_BATCH_SIZE="7", SKYEXPORT_NO_SYNC="?").stdout == whole


def test_programs_are_not_configured(
    small_archive: make_archive.ArchiveInfo, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`skyexport.export` does what its options say, whatever environment and files have for the command."""
    (here / "skyexport.toml").write_text("[export]\nformat = 'csv'\nnonsense = 1\n")
    monkeypatch.setenv("SKYEXPORT_FORMAT", "csv")
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
    for key in ("also", "where"):
        (here / "skyexport.toml").write_text(f"[work]\n{key} = ['a', '../b']\n")
        with pytest.raises(OptionError, match=r"'../b' is not a relative path below"):
            Configuration(group, None, {})


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


@pytest.mark.parametrize(
    ("platform", "environment", "place"),
    [
        ("linux", {}, "HOME/.config/skyexport/config.toml"),
        ("linux", {"XDG_CONFIG_HOME": "/x"}, "/x/skyexport/config.toml"),
        ("linux", {"XDG_CONFIG_HOME": ""}, "HOME/.config/skyexport/config.toml"),
        ("linux", {"XDG_CONFIG_HOME": "relative"}, "HOME/.config/skyexport/config.toml"),
        ("darwin", {"XDG_CONFIG_HOME": "/x"}, "HOME/Library/Application Support/skyexport/config.toml"),
        ("win32", {"APPDATA": "/x"}, "/x/skyexport/config.toml"),
        ("win32", {}, None),
    ],
)
@posix_only
def test_the_place_of_the_users_file(platform: str, environment: dict[str, str], place: str | None) -> None:
    """Where each system keeps such files, and never in the current directory."""
    found = user_file(environment, platform)
    assert (None if found is None else str(found)) == (place and place.replace("HOME", str(Path.home())))


@posix_only
def test_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a home there is no file of the user, rather than one in a directory that is called `~`."""
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert user_file({}, "linux") is None
    assert user_file({}, "darwin") is None


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
            path = tmp_path / name[1].replace("~/.config", "home")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            continue
        steps = re.split(r"(?m)^\$ ", text)[1:]
        assert steps
        for step in steps:
            command, _, shown = step.partition("\n")
            script = f'skyexport() {{ {" ".join(PROGRAM)} "$@"; }}\n{command}'
            done = subprocess.run(
                ["bash", "-c", script], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                check=False, env={**os.environ, "XDG_CONFIG_HOME": str(tmp_path / "home")},
            )  # fmt: skip
            pattern = ".*?".join(map(re.escape, shown.split("…")))
            assert re.fullmatch(pattern, done.stdout, re.DOTALL), (command, done.stdout)
    assert len(blocks_of(page, "console")) > 3
