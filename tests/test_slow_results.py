"""What is written down of a run of the slow tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.slow.__main__ import PAGE, RESULTS
from tests.slow.results import SlowRun

REPORT = """<?xml version="1.0" encoding="utf-8"?>
<testsuites name="pytest tests"><testsuite name="pytest" errors="1" failures="1" skipped="1" tests="5" time="61.7">
<testcase classname="tests.test_a" name="test_one[x]" time="1" /><testcase classname="tests.test_a" name="test_two" />
<testcase classname="tests.faults.test_b" name="test_three"><failure message="AssertionError: 1&#10;E 2">more</failure>
</testcase><testcase classname="tests.test_c" name="test_four"><error message="no &#9; fixture">more</error></testcase>
<testcase classname="tests.test_c" name="test_five"><skipped message="not here">more</skipped></testcase>
</testsuite></testsuites>
"""


@pytest.fixture
def run(tmp_path: Path) -> SlowRun:
    (tmp_path / "report.xml").write_text(REPORT)
    return SlowRun.of_report(tmp_path / "report.xml", code="1234567", versions="v", system="s", cpus=2)


def test_a_report(run: SlowRun, tmp_path: Path) -> None:
    """Every test is counted once, failures keep their first line, and a file gives the same back."""
    assert run.passed == {"tests/test_a.py": 2}
    assert run.failed == {
        "tests/faults/test_b.py::test_three": "AssertionError: 1",
        "tests/test_c.py::test_four": "no \t fixture",
    }
    assert run.skipped == {"tests/test_c.py::test_five": "not here"}
    assert run.seconds == 62
    run.write(tmp_path / "results.json")
    assert SlowRun.read(tmp_path / "results.json") == run


def test_some_files_again(run: SlowRun) -> None:
    """Of files that ran again the later outcomes count, of the others the earlier ones; the page says so."""
    later = SlowRun("89abcde", "v", "s", 2, 10, passed={"tests/test_c.py": 2})
    both = run.with_files(later, ["tests/test_c.py"])
    assert both.passed == {"tests/test_a.py": 2, "tests/test_c.py": 2}
    assert (list(both.failed), both.skipped) == (["tests/faults/test_b.py::test_three"], {})
    assert "Ran again later, at 89abcde: tests/test_c.py." in both.page()


def test_the_page(run: SlowRun) -> None:
    """It says what failed, without control characters."""
    page = run.page()
    assert "**2 passed, 2 failed, 1 skipped, in 62 s.**" in page
    assert "- `tests/test_c.py::test_four`: no   fixture\n" in page
    assert "| 1234567 | v | s | 2 |" in page


@pytest.mark.skipif(not RESULTS.exists(), reason="nothing was run yet")
def test_the_page_is_what_the_results_say() -> None:
    """docs/slow-results.md is made from docs/slow-results.json, of a run in which nothing failed."""
    run = SlowRun.read(RESULTS)
    assert PAGE.read_text(encoding="utf-8") == run.page()
    assert run.failed == {}
    assert sum(run.passed.values()) > 100
