"""The manual page and completion: as the commands are, readable by man and the shells, and part of the package."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

import make_manual
from skyexport.errors import EXIT_CODES
from tests.command import skyexport
from tests.environment import ROOT

SHARE = ROOT / "docs" / "share"
PAGE = SHARE / "man" / "man1" / "skyexport.1"
BASH = SHARE / "bash-completion" / "completions" / "skyexport"
ZSH = SHARE / "zsh" / "site-functions" / "_skyexport"
FISH = SHARE / "fish" / "vendor_completions.d" / "skyexport.fish"
COMMANDS = make_manual.read_commands()


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"there is no {program} here")


@pytest.mark.parametrize("name", make_manual.files())
def test_files_are_up_to_date(name: str) -> None:
    """What lies in docs/share is what the commands of today give."""
    assert (SHARE / name).read_text(encoding="utf-8") == make_manual.files()[name], "run `make manual`, and commit"


@pytest.mark.slow
def test_every_run_makes_the_same() -> None:
    """What is made does not depend on the order in which Python happens to have the members of a set."""
    program = "import make_manual; print(make_manual.files())"
    texts = {
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT / "tools"), "PYTHONUTF8": "1"},
        ).stdout
        for seed in ("1", "2", "3", "4")
    }  # fmt: skip
    assert len(texts) == 1


def test_nothing_else_is_installed() -> None:
    """The package brings all of docs/share to share/, and nothing lies there that is not made."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["shared-data"] == {"docs/share": "share"}
    assert "docs" in project["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    found = {path.relative_to(SHARE).as_posix() for path in SHARE.rglob("*") if path.is_file()}
    assert found == set(make_manual.files())


@needs("man")
@needs("groff")
@pytest.mark.skipif(sys.platform != "linux", reason="other systems have another man")
def test_man_shows_the_page() -> None:
    """man has no warning for it, and all commands, options, exit codes and sections are readable there."""
    done = subprocess.run(
        ["man", "--warnings", "-l", str(PAGE)], capture_output=True, text=True, check=False,
        env={"MANWIDTH": "100", "LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin", "MANROFFOPT": "-c"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    text = re.sub(".\b", "", done.stdout)
    sections = re.findall("(?m)^[A-Z][A-Z ]+$", text)
    assert sections == [
        "NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "COMMANDS", "EXIT STATUS", "ENVIRONMENT", "FILES", "EXAMPLES",
        "SEE ALSO",
    ]  # fmt: skip
    for command in COMMANDS:
        assert command.name == "skyexport" or f"   {command.usage}\n" in text
        for option in command.options:
            assert re.search(rf"(?m)^ +{re.escape(option.record[0])}(?: |$)", text), option
        for example in command.examples:
            assert command.name == "skyexport" or f"       {example}\n" in text
    for code, meaning in EXIT_CODES.items():
        assert f" {code} {meaning} " in " ".join(text.split()) + " "


def test_the_page_has_every_word_of_the_help() -> None:
    """What `--help` says of an option, the page says too, whatever characters it has."""
    text = PAGE.read_text(encoding="ascii")
    for command in COMMANDS[1:]:
        shown = set(re.findall(r"(?m)^  (?:-\w, )?(--[a-z-]+)", skyexport(command.name, "--help").stdout))
        assert shown == {name for option in command.options for name in option.names if name.startswith("--")}
        assert all(make_manual.roff(option.help) in text for option in command.options)


@pytest.mark.parametrize("text", [".so /etc/passwd", "'br", "a\\fBb", "…×–\U0001f600", "-- ^~`\"'", "a\nb  c"])
@needs("groff")
def test_troff_prints_what_is_written(text: str) -> None:
    """No character of a text means anything to troff."""
    page = f".TH X 1\n.nh\n.SH Y\n{make_manual.roff(text)}\n"
    done = subprocess.run(
        ["groff", "-ww", "-man", "-Tutf8", "-P-cbou"], input=page, capture_output=True, text=True, check=True,
        encoding="utf-8",
    )  # fmt: skip
    assert " ".join(text.split()) in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("metavar", "words", "kind"),
    [
        ("json|csv", ["json", "csv"], "any"),
        ("auto|N", ["auto"], "any"),
        ("gzip|zstd[:LEVEL]", ["gzip", "zstd"], "any"),
        ("DIR", [], "directories"),
        ("[FILE]", [], "files"),
        ("ARCHIVE...", [], "files"),
        ("DATE", [], "any"),
    ],
)
def test_values(metavar: str, words: list[str], kind: str) -> None:
    """What can be completed for a value is read from the metavar."""
    value = make_manual.value_of(metavar)
    assert (list(value.words), value.kind) == (words, kind)


def in_bash(*words: str, cwd: Path) -> list[str]:
    """What bash would offer for the last word; the script can start no program there."""
    script = (
        'source "$1"; shift; PATH=; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(old); '
        '_skyexport skyexport "${@: -1}" ""; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    command = ["bash", "--norc", "--noprofile", "-c", script, "-", str(BASH), "skyexport", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=cwd)
    assert done.stderr == ""
    return done.stdout.split("\n")[:-1] if done.stdout != "\n" else []


def names_of(number: int) -> list[str]:
    return [name for option in COMMANDS[number].options for name in option.names]


@needs("bash")
def test_bash(tmp_path: Path) -> None:
    """Commands, options, values and directories are completed, at once; where files belong bash offers them itself."""
    (tmp_path / "a b*").mkdir()
    (tmp_path / "a.db").touch()
    commands = [command.name for command in COMMANDS[1:]]
    assert in_bash("", cwd=tmp_path) == commands
    assert in_bash("ex", cwd=tmp_path) == ["export"]
    assert in_bash("-", cwd=tmp_path) == names_of(0)
    assert in_bash("--config", "f.toml", "b", cwd=tmp_path) == ["bench"]
    for number, command in enumerate(commands, 1):
        assert in_bash(command, "-", cwd=tmp_path) == names_of(number)
        assert in_bash("--config", "bench", command, "x", "--", cwd=tmp_path) == [
            name for name in names_of(number) if name.startswith("--")
        ]
        for option in COMMANDS[number].options:
            if option.value is not None and option.value.words:
                for name in option.names:
                    assert in_bash(command, name, "", cwd=tmp_path) == list(option.value.words)
    assert in_bash("export", "a.db", "--format", "=", cwd=tmp_path) == in_bash("export", "-f", "", cwd=tmp_path)
    assert in_bash("export", "a.db", "--format", "=", "c", cwd=tmp_path) == ["csv"]
    assert in_bash("export", "-o", "", cwd=tmp_path) == in_bash("verify", "", cwd=tmp_path) == ["a b*"]
    assert in_bash("export", "a.", cwd=tmp_path) == in_bash("export", "--to", "a.", cwd=tmp_path) == []
    assert "complete -o default -F _skyexport skyexport\n" in BASH.read_text(encoding="utf-8")
    begun = time.monotonic()
    in_bash("export", "--", cwd=tmp_path)
    assert time.monotonic() - begun < 0.5


@needs("fish")
def test_fish(tmp_path: Path) -> None:
    """fish completes the same, and files itself."""
    (tmp_path / "a.db").touch()
    (tmp_path / "exports").mkdir()

    def offered(line: str) -> list[str]:
        script = f"source {FISH}; complete -C '{line}'"
        command = ["fish", "--no-config", "-c", script]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        return [line.split("\t")[0] for line in done.stdout.splitlines()]

    assert set(offered("skyexport ")) == {command.name for command in COMMANDS[1:]}
    assert set(offered("skyexport export --")) == {name for name in names_of(1) if name.startswith("--")}
    assert set(offered("skyexport --config a.db bench --")) == {name for name in names_of(4) if name.startswith("--")}
    assert {"json", "csv"} <= set(offered("skyexport export --format "))
    assert offered("skyexport export a") == ["a.db"]
    assert offered("skyexport verify ") == ["exports/"]
    assert offered("skyexport export --author ") == []


@needs("zsh")
def test_zsh(tmp_path: Path) -> None:
    """zsh takes the script, and a terminal in which TAB is pressed gets the options."""
    (tmp_path / "exports").mkdir()
    script = f"""
        zmodload zsh/zpty
        zpty shell zsh -f -i
        zpty -w shell "PS1=READY; fpath=({ZSH.parent} \\$fpath); autoload -Uz compinit; compinit -u -d {tmp_path}/dump"
        zpty -w shell "cd {tmp_path}; print LOA''DED"
        zpty -r shell text '*LOADED*READY'
        for line in 'skyexport '{{insp,'export --no-sy','export --snapshot pi','bench -o e'}}; do
            zpty -w -n shell "$line"$'\\t\\x15print -r -- DO""NE\\n'
            zpty -r shell text '*DONE*READY'
            print -r -- "$text"
        done
        zpty -d shell
    """
    done = subprocess.run(["zsh", "-f", "-c", script], capture_output=True, text=True, timeout=30, check=False)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", done.stdout)
    for line in (
        "skyexport export ",
        "skyexport export --no-sync ",
        "skyexport export --snapshot pin ",
        "skyexport bench -o exports/",
    ):
        assert line in shown, shown
