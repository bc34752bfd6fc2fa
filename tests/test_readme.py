"""The README: each command that it shows is run as it stands there, by the installed wheel without any extra.

Two kinds of blocks count:

- Blocks of sh: every line that begins with `skyexport` must succeed, in a directory of its own. What it names is there:
  archives (`*.db`), earlier exports (`exports/…/<time>`), a list, an author.
- Blocks with lines that begin with `$ `: the commands run one after the other beside the archive of `make demo`, and
  what they print must be what stands below them, but for times, rates and memory. A line `…` stands for any lines.

What needs an extra must say so, and then succeed with it. Installing (make, pip, pipx, git) is what `.ci/run` does.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import apsw
import pytest

import make_archive
from skyexport import ExportOptions, export
from skyexport.extras import INSTALL_CAR, INSTALL_HTML, INSTALL_PARQUET, INSTALL_UI
from tests.car_files import Repository
from tests.conftest import limits, needs_bash
from tests.environment import ROOT
from tests.web.servers import LocalPage

pytestmark = needs_bash

_INSTALLING = ("make ", "pip ", "pipx ", "uv ", "git ", "cd ", "python3 -m ", "python -m ", ". ")
_TIME = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d(?:-\d+)?")


@dataclass(frozen=True, slots=True)
class Step:
    """A command with what is shown below it."""

    command: str
    shown: str


def blocks() -> list[list[str]]:
    """The lines of each fenced block whose language is sh, console or none."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return [
        re.sub(r"\\\n\s*", "", code).splitlines()
        for language, code in re.findall(r"(?ms)^```(\w*)\n(.*?)^```$", text)
        if language in ("", "sh", "bash", "console", "text")
    ]


def lines() -> list[str]:
    """Every line that begins with the command, without its comment."""
    return [
        re.sub(r"\s+# .*", "", line) for block in blocks() for line in block if re.match(r"skyexport(?:\s|$)", line)
    ]


def sessions() -> list[list[Step]]:
    """The steps of each block that shows what commands print; those that install are left out."""
    found = []
    for block in blocks():
        steps: list[Step] = []
        for line in block:
            if line.startswith("$ "):
                steps.append(Step(line[2:], ""))
            elif steps:
                steps[-1] = Step(steps[-1].command, f"{steps[-1].shown}{line}\n")
        steps = [step for step in steps if not step.command.startswith(_INSTALLING)]
        if steps:
            found.append(steps)
    return found


def run(command: Path | None, line: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run a line of the README in a directory.

    Args:
        command: What `skyexport` is in it; None for that of this checkout, which has all extras.
        line: The line.
        directory: Where.

    Returns:
        Its end, with standard error in what it printed.
    """
    programs = directory / ".bin"
    programs.mkdir(exist_ok=True)
    program = [str(command)] if command is not None else [sys.executable, "-m", "skyexport"]
    (programs / "skyexport").write_text(f'#!/bin/sh\nexec {shlex.join(program)} "$@"\n')
    (programs / "skyexport").chmod(0o755)
    return subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", line], cwd=directory, stdin=subprocess.DEVNULL, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, check=False,
        env={**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "HOME": str(directory)},
    )  # fmt: skip


def served(line: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run a line that shows the local page until the page is there."""
    with LocalPage(*shlex.split(line)[2:], cwd=directory) as page:
        answer = page.get("/")
    return subprocess.CompletedProcess(line, 0 if answer.status == 200 else 1, answer.text)


def ran(command: Path, line: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run a line without extras; and if it needs one, which it must say, with it."""
    done = run(command, line, directory)
    if done.returncode == 5:
        assert any(install in done.stdout for install in (INSTALL_CAR, INSTALL_HTML, INSTALL_PARQUET, INSTALL_UI))
        if line.startswith("skyexport ui"):
            return served(line, directory)
        done = run(None, line, directory)
    assert done.returncode == 0, f"{line}\n{done.stdout}"
    return done


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small archive with media, and an earlier export of it; only to be copied."""
    directory = tmp_path_factory.mktemp("readme")
    archive = directory / "archive.db"
    make_archive.make_archive(archive, posts=1200, seed=5, authors=5, media=True)
    export(ExportOptions(archive=archive, output_dir=directory / "exports", workers=0))
    return directory


def lay_out(kitchen: Path, directory: Path, line: str) -> str:
    """Put what a line names into a directory; the line, with a real author in the place of the one it shows."""
    shutil.copytree(kitchen, directory, dirs_exist_ok=True)
    archive = directory / "archive.db"
    for name in re.findall(r"[\w./-]+\.car\b", line):
        Repository().write(directory / name)
    for name in re.findall(r"(?<!--to )\b[\w./-]+\.db\b", line):
        if not (directory / name).exists():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(archive, directory / name)
    for name in re.findall(r"--from-file[ =]([\w./-]+)", line):
        (directory / name).write_text("archive.db\n")
    (earlier,) = directory.glob("exports/all/*")
    for name in dict.fromkeys(re.findall(rf"[\w./:-]*{_TIME.pattern}", line)):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(earlier, directory / name)
    with contextlib.closing(apsw.Connection(str(archive))) as connection:
        owner = connection.execute("select did from posts group by did order by count(*) desc limit 1").get
        for handle in re.findall(r"[\w.-]+\.bsky\.social", line):
            connection.execute("update profiles set handle = ? where did = ?", (handle, owner))
    return re.sub(r"did:plc:[\w…]+", owner, line)


@pytest.mark.parametrize("line", lines())
def test_lines(base_command: Path, kitchen: Path, tmp_path: Path, line: str) -> None:
    """Every command of the README succeeds; bench measures without workers here, which saves the time to start them."""
    with limits(MOST_WORKERS_MEASURED=0):
        ran(base_command, lay_out(kitchen, tmp_path, line), tmp_path)


def normal(text: str, directory: Path) -> str:
    """What a command printed, without what differs from run to run and from machine to machine."""
    text = text.replace(f"{directory.resolve()}/", "").replace(f"{directory}/", "")
    text = re.sub(r"(?m)^ *\d+%  .*\n", "", text)  # progress, on a machine that is busy
    text = _TIME.sub("<time>", text)
    text = re.sub(r"[\d,.]+ (posts|[kMG]?B)/s", r"<rate> \1/s", text)
    text = re.sub(r"(peak memory) [\d.]+ [kMG]?B \(\w+\)", r"\1 <memory>", text)
    text = re.sub(r", (native|Python) renderer$", ", <renderer>", text, flags=re.MULTILINE)
    text = re.sub(r"(?m)^(renderer: +)(native|python.*)$", r"\1<renderer>", text)
    text = re.sub(r"\b\d[\d,.]* (?:m?s|min|h)\b", "<duration>", text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def matches(shown: str, printed: str) -> bool:
    """Whether a text is as it is shown, in which a line `…` stands for any lines."""
    pattern = "\n".join("(?s:.*)" if line.strip() in ("…", "...") else re.escape(line) for line in shown.splitlines())
    return re.fullmatch(pattern, printed) is not None


@pytest.mark.parametrize("steps", sessions(), ids=lambda steps: steps[0].command)
def test_what_is_shown(base_command: Path, tmp_path: Path, steps: list[Step]) -> None:
    """What the README shows below its commands is what they print for the archive of `make demo`."""
    make_archive.make_archive(tmp_path / "archive.db", posts=20_000, seed=1)
    for step in steps:
        exports = sorted(tmp_path.glob("exports/*/*"), key=lambda path: path.stat().st_mtime_ns)
        line = step.command
        for name in dict.fromkeys(_TIME.findall(line)):
            if not list(tmp_path.glob(f"exports/*/{name}")):
                line = line.replace(name, exports[-1].name)
        printed = normal(ran(base_command, line, tmp_path).stdout, tmp_path)
        shown = normal(step.shown, tmp_path)
        assert matches(shown, printed), f"$ {step.command}\nshown:\n{shown}\nprinted:\n{printed}"


def test_there_is_something_to_run() -> None:
    """The README shows what each command does."""
    shown = "\n".join([*lines(), *(step.command for steps in sessions() for step in steps)])
    for command in ("inspect", "export", "verify", "bench"):
        assert f"skyexport {command}" in shown
    assert sessions()


def test_what_is_shown_may_differ_in_times() -> None:
    """Figures of a machine may differ; names, numbers of posts and sizes of files must not."""
    shown = "20,000 posts to JSON in 0.26 s: 78,403 posts/s\n…\nexports/all/2026-11-24_11-23-22/posts.json"
    other = "20,000 posts to JSON in 12 s: 1,666 posts/s\n23 MB\nexports/all/2027-11-25_11-23-22-2/posts.json"
    directory = Path("/nowhere")
    assert matches(normal(shown, directory), normal(other, directory))
    assert not matches(normal(shown, directory), normal(other.replace("20,000", "19,999"), directory))
    assert not matches(normal(shown, directory), normal(other.replace("all", "any"), directory))
