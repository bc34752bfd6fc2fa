"""The results of all trials so far: kept as JSON, shown as a page.

Each test keeps which of its trials were run, and in which setting. Trials of another setting (another state of the
program or of the test, other versions, another machine, another seed) do not count: the test starts from the beginning.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from tests.faults.matrix import MATRIX
from tests.faults.plan import Found, Outcome

__all__ = ["Results", "Setting", "Tally", "numbers_of", "ranges_of"]


@dataclass(frozen=True, slots=True)
class Setting:
    """The circumstances in which trials were run."""

    code: str
    """The commit of the program."""
    versions: str
    system: str
    cpus: int
    seed: int


@dataclass(slots=True)
class Tally:
    """The results of a test's trials."""

    row: str
    trials: int
    """How many there are."""
    setting: Setting
    source: str
    """Digest of the test's file."""
    date: str = ""
    """When the last of them was run."""
    seconds: float = 0.0
    """Time of all trials together, one after the other."""
    passed: str = ""
    """Numbers of trials, as ranges."""
    failed: dict[int, str] = field(default_factory=dict)
    """Number → cause."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Reason → numbers, as ranges."""

    def pending(self) -> list[int]:
        """The numbers of the trials that were not run yet; those that were skipped count among them."""
        done = {*numbers_of(self.passed), *self.failed}
        return [number for number in range(self.trials) if number not in done]

    def add(self, outcome: Outcome) -> None:
        """Add the outcome of one trial."""
        self.seconds = round(self.seconds + outcome.seconds, 3)
        for reason, numbers in list(self.skipped.items()):
            self.skipped[reason] = ranges_of({*numbers_of(numbers)} - {outcome.number})
            if not self.skipped[reason]:
                del self.skipped[reason]
        if outcome.outcome == "passed":
            self.passed = ranges_of([*numbers_of(self.passed), outcome.number])
        elif outcome.outcome == "failed":
            self.failed[outcome.number] = outcome.why
        else:
            numbers = self.skipped.get(outcome.why, "")
            self.skipped[outcome.why] = ranges_of([*numbers_of(numbers), outcome.number])

    @property
    def run(self) -> int:
        """How many were run."""
        return self.trials - len(self.pending())

    @property
    def skips(self) -> int:
        """How many were skipped."""
        return sum(len(numbers_of(numbers)) for numbers in self.skipped.values())


class Results:
    """The results of all tests."""

    def __init__(self, tests: dict[str, Tally] | None = None) -> None:
        self.tests = tests or {}

    @classmethod
    def read(cls, path: Path) -> Self:
        """Those in a file; none where there is no such file."""
        if not path.exists():
            return cls()
        content = json.loads(path.read_bytes())
        settings = [Setting(**setting) for setting in content["settings"]]
        tests = {}
        for test, values in content["tests"].items():
            failed = {int(number): why for number, why in values.pop("failed").items()}
            tests[test] = Tally(**{**values, "setting": settings[values["setting"]], "failed": failed})
        return cls(tests)

    def write(self, path: Path) -> None:
        """Keep them in a file."""
        settings = self._settings()
        tests = {
            test: {**asdict(found), "setting": settings.index(found.setting)}
            for test, found in sorted(self.tests.items())
        }
        content = {"settings": [asdict(setting) for setting in settings], "tests": tests}
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")

    def prepare(self, found: Iterable[Found], setting: Setting, sources: Mapping[str, str], *, again: bool) -> None:
        """Make the tests of some rows ready to continue, and forget tests that no longer exist, or ran in another way.

        Args:
            found: All tests of these rows.
            setting: Where they are to run now.
            sources: Test → digest of its file.
            again: Whether to forget what was run in the same way, too.
        """
        before = self.tests
        rows = {one.row for one in found}
        self.tests = {test: results for test, results in before.items() if results.row not in rows}
        for one in found:
            new = Tally(one.row, one.trials, setting, sources[one.test])
            old = before.get(one.test)
            same = old is not None and (old.row, old.trials, old.setting, old.source) == (
                (new.row, new.trials, new.setting, new.source)
            )
            self.tests[one.test] = old if old is not None and same and not again else new

    def _settings(self) -> list[Setting]:
        """All of them, each once, the latest first."""
        by_name = [found for _, found in sorted(self.tests.items())]
        latest = sorted(by_name, key=lambda found: found.date, reverse=True)
        return list(dict.fromkeys(found.setting for found in latest))

    def page(self) -> str:
        """All results as Markdown."""
        return "\n".join([_HEAD, *self._setting_lines(), "", *self._row_lines(), "", *self._failure_lines()]) + "\n"

    def _setting_lines(self) -> list[str]:
        lines = ["| setting | program | versions | system | CPUs | seed |", "| --- | --- | --- | --- | --- | --- |"]
        for number, setting in enumerate(self._settings(), 1):
            cells = (number, setting.code, setting.versions, setting.system, setting.cpus, setting.seed)
            lines.append(_line(cells))
        return lines

    def _row_lines(self) -> list[str]:
        heads = ("row", "what is done", "trials", "run", "failures", "skipped", "duration", "date", "setting", "")
        lines = [_line(heads), _line(["---"] * len(heads))]
        for row, what in MATRIX.items():
            tests = [found for found in self.tests.values() if found.row == row]
            figures = self._figures(tests) if tests else [""] * (len(heads) - 3)
            lines.append(_line([row, what, *figures, _state(tests)]))
        return lines

    def _figures(self, tests: Sequence[Tally]) -> list[str]:
        counts = [
            sum(found.trials for found in tests),
            sum(found.run for found in tests),
            sum(len(found.failed) for found in tests),
            sum(found.skips for found in tests),
        ]
        settings = self._settings()
        begun = [found for found in tests if found.date]
        return [
            *(f"{count:,}" for count in counts),
            _duration(sum(found.seconds for found in tests)),
            max((found.date for found in begun), default=""),
            ", ".join(sorted({str(settings.index(found.setting) + 1) for found in begun})),
        ]

    def _failure_lines(self) -> list[str]:
        failed = [
            f"- `FAULTS=full SEED={found.setting.seed} pytest '{test}[{number}]'`: {_cell(why)}"
            for test, found in sorted(self.tests.items())
            for number, why in sorted(found.failed.items())
        ]
        skipped = [
            f"- {test.rpartition('::')[2]}: {len(numbers_of(numbers)):,} × {_cell(reason)}"
            for test, found in sorted(self.tests.items())
            for reason, numbers in found.skipped.items()
        ]
        lines = ["## Trials that failed", "", *(failed or ["None."])]
        return [*lines, "", "## Trials that were skipped", "", *(skipped or ["None."])]


_HEAD = """# How often each fault was tried, and what happened

This page shows how often each promise of [Reliability](reliability.md) was tested under a fault, for readers who want
numbers. `tests/faults` causes each fault on purpose, with new random choices each time. After every trial it checks:

- either a whole export exists and verifies, or nothing does;
- the exit status is the documented one, with one line of cause;
- no process and no temporary file is left, and the archive did not change;
- the bytes are those that one process exports.

If none of *n* trials fails, the true rate of failures is below 3/*n* (with 95 % confidence). The duration is the sum
over the trials; several run at a time.

`make faults` makes this page from fault-results.json, beside it.
"""


def _state(tests: Sequence[Tally]) -> str:
    if any(found.failed for found in tests):
        return "**failed**"
    if not any(found.run for found in tests):
        return "**not run**"
    return "all" if all(found.run == found.trials for found in tests) else "**incomplete**"


def _line(cells: Iterable[object]) -> str:
    return f"| {' | '.join(_cell(str(cell)) for cell in cells)} |"


def _cell(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text).replace("|", "\\|")


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def ranges_of(numbers: Iterable[int]) -> str:
    """Numbers in a short way: `0-3,5`."""
    ranges: list[list[int]] = []
    for number in sorted(set(numbers)):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ",".join(f"{first}-{last}" if last > first else str(first) for first, last in ranges)


def numbers_of(ranges: str) -> list[int]:
    """The numbers in *ranges*, as `ranges_of` wrote them."""
    numbers: list[int] = []
    for part in filter(None, ranges.split(",")):
        first, _, last = part.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return numbers
