"""The plan for one pytest process of a full run, and the notes of its results.

A plan is a JSON file. With *rows*, it asks for the trials of these rows, and nothing runs; with *chosen*, it names the
trials to run. Notes are lines of JSON: a `Found` for each test in the first case, an `Outcome` for each trial in the
second.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import pytest

from tests.faults.matrix import Trials

__all__ = ["Found", "Outcome", "Plan", "Recorder"]

_VARIABLE = "FAULTS_PLAN"
_TRIAL_ID = re.compile(r"(?s)(.+)\[(\d+)\]")


@dataclass(frozen=True, slots=True)
class Found:
    """A test of a row, and how many trials it has."""

    test: str
    """Its id in pytest, without the number of the trial."""
    row: str
    trials: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a trial."""

    test: str
    number: int
    outcome: str
    """`passed`, `failed` or `skipped`."""
    why: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Plan:
    """The work for one process."""

    notes: str
    """The file for the notes."""
    rows: Sequence[str] = ()
    """To find out which trials these have."""
    chosen: dict[str, list[int]] | None = None
    """Test → numbers of the trials to run."""
    until: float | None = None
    """No trial begins after this time, in seconds since 1970."""

    @classmethod
    def given(cls) -> Self | None:
        """The plan of this process, None without one."""
        path = os.environ.get(_VARIABLE)
        return cls(**json.loads(Path(path).read_bytes())) if path else None

    def environment(self, path: Path) -> dict[str, str]:
        """Put it into the file *path*; the variables of a process that is to follow it."""
        path.write_text(json.dumps(asdict(self)))
        return {**os.environ, _VARIABLE: str(path)}

    def numbers(self, test: str, trials: Trials) -> Sequence[int]:
        """The numbers of a test's trials that are in this plan."""
        if self.chosen is not None:
            return self.chosen.get(test, [])
        return trials.numbers(full=True) if trials.row in self.rows else []

    def has(self, item: pytest.Item) -> bool:
        """Whether a collected test is one of its trials."""
        return item.get_closest_marker("trials") is not None and _TRIAL_ID.fullmatch(item.nodeid) is not None

    def note(self, *notes: Found | Outcome) -> None:
        """Add a line to the notes; a run that is killed loses none."""
        with Path(self.notes).open("a") as file:
            file.writelines(json.dumps(asdict(note)) + "\n" for note in notes)

    def outcomes(self) -> list[Outcome]:
        """The notes of a run."""
        return [Outcome(**note) for note in self._noted()]

    def found(self) -> list[Found]:
        """The notes of a look."""
        return [Found(**note) for note in self._noted()]

    def _noted(self) -> list[dict[str, Any]]:
        path = Path(self.notes)
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class Recorder:
    """The pytest plugin that notes."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._seconds = 0.0
        self._outcome = ("passed", "")

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note what there is."""
        if self._plan.chosen is not None:
            return
        counts: dict[tuple[str, str], int] = {}
        for item in session.items:
            mark = item.get_closest_marker("trials")
            match = _TRIAL_ID.fullmatch(item.nodeid)
            if mark is not None and match is not None:
                key = (match[1], mark.args[0].row)
                counts[key] = counts.get(key, 0) + 1
        self._plan.note(*(Found(test, row, count) for (test, row), count in counts.items()))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take down the three parts of a trial."""
        if report.when == "setup":
            self._seconds, self._outcome = 0.0, ("passed", "")
        self._seconds += report.duration
        if report.failed:
            self._outcome = ("failed", _cause(report))
        elif report.skipped and self._outcome[0] == "passed":
            self._outcome = ("skipped", _cause(report))
        match = _TRIAL_ID.fullmatch(report.nodeid)
        if report.when == "teardown" and match is not None:
            self._plan.note(Outcome(match[1], int(match[2]), *self._outcome, round(self._seconds, 3)))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        """Start no other trial when the time is up."""
        if self._plan.until is not None and time.time() > self._plan.until:
            item.session.shouldstop = "the time is up"
            return True
        return None


def _cause(report: pytest.TestReport) -> str:
    """Why, in a line."""
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    lines = [line[1:].strip() for line in report.longreprtext.splitlines() if line.startswith("E ")]
    return (lines or report.longreprtext.splitlines() or [""])[0][:200]
