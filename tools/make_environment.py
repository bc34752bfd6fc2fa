"""Make a virtual environment, unless there already is one with the same Python.

    python3 tools/make_environment.py .venv

The environment has the Python that runs this. An environment with another Python is replaced, and so is one that does
not run, for example after an update of Python. If there is nothing to do, nothing is printed.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

OLDEST = (3, 11)

WHO = "import os, sys, pip; print(os.path.realpath(sys._base_executable), sys.version)"
"""Prints what identifies a Python: place and version. It fails without pip: then the environment is incomplete."""


def main(directory: Path) -> int:
    """Make the environment.

    Returns:
        The exit status: 1 when this Python is too old, or cannot make one.
    """
    # This may be the Python of the very environment that is to be replaced.
    python = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    version = "{}.{}.{}".format(*sys.version_info)
    if sys.version_info < OLDEST:
        print(f"skyexport needs Python 3.11 or newer, but {python} is {version}: try make PYTHON=python3.12")
        return 1
    wanted = f"{python} {sys.version}"
    if directory.exists():
        if who(python_of(directory)) == wanted:
            return 0
        if not (directory / "pyvenv.cfg").exists() and any(directory.iterdir()):
            print(f"{directory} is not a virtual environment: name another directory, make VENV=.venv")
            return 1
        shutil.rmtree(directory)
    print(f"making {directory} with Python {version} ({python})", flush=True)
    done = subprocess.run([python, "-m", "venv", str(directory)], capture_output=True, text=True, check=False)
    if done.returncode or who(python_of(directory)) != wanted:
        shutil.rmtree(directory, ignore_errors=True)
        print(f"{done.stdout}{done.stderr}{python} cannot make a virtual environment: try make PYTHON=python3.12")
        return 1
    return 0


def python_of(directory: Path) -> Path:
    """The Python of an environment."""
    return directory / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def who(python: Path) -> str:
    """The identity of a Python: place and version; "" if it does not run."""
    try:
        done = subprocess.run([str(python), "-c", WHO], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
