"""The account of the trials: nothing counts that was not run, or was run in another way."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.environment import ROOT
from tests.faults.__main__ import PAGE, RESULTS, main, parts_of
from tests.faults.matrix import MATRIX
from tests.faults.plan import Found, Outcome, Plan
from tests.faults.results import Results, Setting, numbers_of, ranges_of
from tests.faults.shapes import FURTHER, USUAL

SETTING = Setting("1234567", "Python 3", "Linux", 2, 1)
FOUND = [Found("a.py::test_a", "kill", 5), Found("a.py::test_b", "kill", 1), Found("b.py::test_c", "kill-at-call", 2)]
SOURCES = {"a.py::test_a": "a", "a.py::test_b": "a", "b.py::test_c": "b"}


def prepared(results: Results | None = None, setting: Setting = SETTING, **sources: str) -> Results:
    results = results or Results()
    results.prepare(FOUND, setting, {**SOURCES, **{f"a.py::{name}": one for name, one in sources.items()}}, again=False)
    return results


def add(results: Results, test: str, *numbers: int, outcome: str = "passed", why: str = "") -> None:
    for number in numbers:
        results.tests[test].add(Outcome(test, number, outcome, why, 1.5))
    results.tests[test].date = "2026-01-02"


def row(results: Results, name: str) -> list[str]:
    """The cells of a row of the page."""
    (line,) = (line for line in results.page().splitlines() if line.startswith(f"| {name} |"))
    return [cell.strip() for cell in line.split("|")[1:-1]]


def test_a_row_is_complete_when_every_trial_was_run() -> None:
    """Not before, and not with skipped ones; a failed trial stands with what repeats it."""
    results = prepared()
    assert row(results, "kill")[2:4] == ["6", "0"]
    assert row(results, "kill")[-1] == row(results, "workers")[-1] == "**not run**"
    add(results, "a.py::test_a", 0, 1, 2, 4)
    add(results, "a.py::test_b", 0, outcome="skipped", why="no strace")
    assert row(results, "kill")[2:7] == ["6", "4", "0", "1", "8 s"]
    assert row(results, "kill")[-1] == "**incomplete**"
    assert "- test_b: 1 × no strace" in results.page()
    assert results.tests["a.py::test_a"].pending() == [3]
    assert results.tests["a.py::test_b"].pending() == [0]
    add(results, "a.py::test_a", 3)
    add(results, "a.py::test_b", 0)
    assert row(results, "kill")[2:] == ["6", "6", "0", "0", "10 s", "2026-01-02", "1", "all"]
    add(results, "b.py::test_c", 1, outcome="failed", why="a | b\x1b")
    assert row(results, "kill-at-call")[-1] == "**failed**"
    assert "- `FAULTS=full SEED=1 pytest 'b.py::test_c[1]'`: a \\| b \n" in results.page()


def test_only_runs_of_the_same_kind_count_together(tmp_path: Path) -> None:
    """Another program, machine, seed or test begins anew; rows that are not asked for keep what they have."""
    results = prepared()
    add(results, "a.py::test_a", 0, 1)
    add(results, "b.py::test_c", 0)
    results.write(tmp_path / "results.json")
    results = prepared(Results.read(tmp_path / "results.json"))
    assert results.tests["a.py::test_a"].pending() == [2, 3, 4]
    assert prepared(results, test_a="other").tests["a.py::test_a"].pending() == [0, 1, 2, 3, 4]
    other = Results.read(tmp_path / "results.json")
    other.prepare(FOUND[:2], replace(SETTING, seed=2), SOURCES, again=False)
    assert other.tests["a.py::test_a"].run == 0
    assert other.tests["b.py::test_c"].run == 1
    assert other.page().count("| 1234567 |") == 2
    assert row(other, "kill-at-call")[-2] == "1"
    again = Results.read(tmp_path / "results.json")
    again.prepare(FOUND, SETTING, SOURCES, again=True)
    assert all(tally.run == 0 for tally in again.tests.values())


def test_ranges() -> None:
    """Numbers are written in a short way, and read back."""
    assert ranges_of([5, 0, 1, 2, 7, 8, 2]) == "0-2,5,7-8"
    assert numbers_of("0-2,5,7-8") == [0, 1, 2, 5, 7, 8]
    assert numbers_of("") == []


def test_trials_are_dealt_out() -> None:
    """Each process gets some of every test, and each trial belongs to one."""
    parts = parts_of([("a", 0), ("a", 1), ("a", 2), ("b", 0)], 3)
    assert parts == [{"a": [0], "b": [0]}, {"a": [1]}, {"a": [2]}]
    assert parts_of([("a", 7)], 2) == [{"a": [7]}]


PROBE = """
import pytest
from tests.faults.matrix import trials
from tests.faults.trial import Trial

@trials("workers", quick=1, full=4)
def test_probe(trial: Trial) -> None:
    if trial.number == 1:
        pytest.skip("not here")
    assert trial.number != 2, "as meant"
"""


@pytest.mark.slow
def test_a_plan_is_followed(tmp_path: Path) -> None:
    """A process runs the trials of its plan, nothing else, and notes the outcomes; it runs none when time is up."""
    (tmp_path / "pytest.ini").touch()
    (tmp_path / "test_probe.py").write_text(PROBE)

    def follow(plan: Plan, *options: str) -> None:
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "tests.faults.conftest"]
        done = subprocess.run(
            [*command, "-c", str(tmp_path / "pytest.ini"), str(tmp_path), *options], cwd=ROOT, check=False,
            env={**plan.environment(tmp_path / "plan"), "PYTHONPATH": "tools"}, capture_output=True, text=True,
        )  # fmt: skip
        assert "error" not in done.stdout.lower().replace("assertionerror", ""), done.stdout

    test = "test_probe.py::test_probe"
    look = Plan(str(tmp_path / "found"), rows=["workers"])
    follow(look, "--collect-only")
    assert look.found() == [Found(test, "workers", 4)]
    some = Plan(str(tmp_path / "some"), chosen={test: [1, 2, 3]})
    follow(some)
    assert [(note.number, note.outcome) for note in some.outcomes()] == [(1, "skipped"), (2, "failed"), (3, "passed")]
    assert [note.why for note in some.outcomes()] == ["not here", "AssertionError: as meant", ""]
    late = Plan(str(tmp_path / "late"), chosen={test: [1, 2, 3]}, until=1.0)
    follow(late)
    assert late.outcomes() == []


def test_rows_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are chosen by their names, which say something; one line refuses others, and names those that exist."""
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", name) for name in MATRIX)
    assert {found.row for found in Results.read(RESULTS).tests.values()} <= MATRIX.keys()
    monkeypatch.setattr(sys, "argv", ["faults"])
    monkeypatch.setenv("ROWS", "kill, 2,fuzz,other")
    with pytest.raises(SystemExit, match=r"^no such row: 2, other; there are kill, kill-at-call, .*, race$"):
        main()


@pytest.mark.skipif(not RESULTS.exists(), reason="nothing was run yet")
def test_the_page_is_what_the_results_say() -> None:
    """docs/fault-results.md is made from docs/fault-results.json."""
    assert PAGE.read_text() == Results.read(RESULTS).page()


def test_the_quick_tier_has_every_shape() -> None:
    """A few trials of everyday runs cover every shape of data files."""
    found = set()
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        module = importlib.import_module(f"tests.faults.{path.stem}")
        for test in vars(module).values():
            for mark in getattr(test, "pytestmark", []):
                if mark.name == "trials":
                    found |= {mark.args[0].shape(number) for number in mark.args[0].numbers(full=False)}
    assert found == {*USUAL, *FURTHER}
