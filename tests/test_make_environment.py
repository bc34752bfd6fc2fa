"""`make PYTHON=…`: the virtual environment is of that Python, and made anew when it is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import make_environment
from tests.environment import ROOT


def make(directory: Path, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    program = str(ROOT / "tools" / "make_environment.py")
    return subprocess.run([python, program, str(directory)], capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_it_is_made_anew_when_it_must_be(tmp_path: Path) -> None:
    """It is made once, is left alone while it is whole, and made again when its Python is another, or gone."""
    directory = tmp_path / "venv"
    done = make(directory)
    assert (done.returncode, done.stdout.startswith(f"making {directory} with Python ")) == (0, True)
    (directory / "mark").touch()
    python = make_environment.python_of(directory)
    for program in (sys.executable, str(python)):
        done = make(directory, program)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (directory / "mark").exists()
    for broken in (directory / "nowhere", Path("/bin/true")):
        python.unlink()
        python.symlink_to(broken)
        assert make(directory).stdout.startswith("making ")
        assert not (directory / "mark").exists()
    assert make_environment.who(python) == make_environment.who(Path(sys.executable).resolve())


def test_nothing_else_is_deleted(tmp_path: Path) -> None:
    """A directory that is no virtual environment stays, whatever was typed for VENV."""
    (tmp_path / "photo.jpg").touch()
    done = make(tmp_path)
    assert done.returncode == 1
    assert done.stdout == f"{tmp_path} is not a virtual environment: name another directory, make VENV=.venv\n"
    assert (tmp_path / "photo.jpg").exists()


def test_every_python_is_known() -> None:
    """What the package says that it runs on is what `.ci/run` tries."""
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    (known,) = (line.partition('"')[2].rstrip('"').split() for line in script.splitlines() if line.startswith("known="))
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert [name for name in known if f'"Programming Language :: Python :: {name}"' in project] == known
    assert known[0] == "{}.{}".format(*make_environment.OLDEST)
