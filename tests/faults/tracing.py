"""System calls of the coordinator, one by one: which there are, and runs in which one of them fails or kills."""

from __future__ import annotations

import functools
import random
import re
import shutil
import subprocess
from dataclasses import dataclass

import pytest

from tests.faults.trial import Ended, Trial, usual_ground

__all__ = ["Call", "after_the_fault", "calls_of", "needs_strace", "with_fault"]

_ALSO_LOGGED = ("fsync", "rename", "renameat2", "linkat")

_ATTEMPTS = 20
"""To hit the call that is meant."""


@functools.cache
def _works() -> bool:
    if shutil.which("strace") is None:
        return False
    return subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, check=False).returncode == 0


def needs_strace() -> None:
    """Skip the test where system calls cannot be traced."""
    if not _works():
        pytest.skip("strace is not installed, or may not trace here")


@dataclass(frozen=True, slots=True)
class Call:
    """One system call in the main thread of the command."""

    arguments: tuple[str, ...]
    """Of the command; `OUT` stands for the output directory."""
    name: str
    ordinal: int
    """Its number among the calls of this name, from 1 on."""
    text: str


@functools.cache
def calls_of(arguments: tuple[str, ...], names: tuple[str, ...], relevant: str) -> tuple[Call, ...]:
    """The calls of these names in an undisturbed run.

    Args:
        arguments: Of the command; `OUT` stands for the output directory.
        names: Names of system calls; those which this kind of machine does not have are left out.
        relevant: A regular expression for their text, in which `OUT` is the output directory.
    """
    if not _works():
        return ()
    with Trial(usual_ground(), random.Random(0), 0, full=False) as trial:
        log = trial.place / "calls"
        trace = ",".join(f"?{name}" for name in names)
        trial.start_by(arguments, ["strace", "-y", "-o", str(log), "-e", f"trace={trace}", "--"]).end()
        lines = log.read_text(errors="replace").splitlines()
        pattern = re.compile(relevant.replace("OUT", re.escape(str(trial.out))))
    counts: dict[str, int] = {}
    found = []
    for line in lines:
        name = line.split("(")[0]
        if name in names:
            counts[name] = counts.get(name, 0) + 1
            if pattern.search(line):
                found.append(Call(arguments, name, counts[name], line))
    return tuple(found)


def with_fault(trial: Trial, fault: str, call: Call) -> Ended:
    """Run the command with a fault in one call.

    Args:
        trial: Whose archive and place to use.
        fault: What strace's `inject=` takes, like `signal=KILL` or `error=EIO`.
        call: Where, as `calls_of` found it.
    """
    trace = ",".join(f"?{name}" for name in {call.name, *_ALSO_LOGGED})
    for attempt in range(_ATTEMPTS):
        # Where those calls and messages take turns, the same number might be a message every time.
        inject = f"inject={call.name}:{fault}:when={call.ordinal + attempt % 2}"
        before = ["strace", "-y", "-o", str(trial.place / "log"), "-e", f"trace={trace}", "-e", inject, "--"]
        ended = trial.start_by(call.arguments, before).end()
        hit = [line for line in _logged(trial) if "(INJECTED)" in line]
        if fault.startswith("signal") or any(_is_for_the_disk(line, str(trial.out)) for line in hit):
            break
        # How calls for the disk follow messages to workers and lines for people is a matter of time.
        shutil.rmtree(trial.out, ignore_errors=True)
    return ended


def _is_for_the_disk(line: str, out: str) -> bool:
    """Whether a call is about the output, and does not just print its name, or write the text of the lock."""
    return f"<{out}" in line and ".lock>" not in line if line.startswith("write") else out in line


def _logged(trial: Trial) -> list[str]:
    return (trial.place / "log").read_text(errors="replace").splitlines()


def after_the_fault(trial: Trial) -> list[str] | None:
    """The calls for the disk that came after the fault, None where the run had no such call."""
    calls = [line for line in _logged(trial) if "(" in line and not line.startswith(("+", "-"))]
    for number, line in enumerate(calls):
        if "(INJECTED)" in line:
            return calls[number + 1 :]
    return None
