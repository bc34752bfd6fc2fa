"""What came of the last run of all slow tests: kept as JSON, shown as a page."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Collection
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

__all__ = ["SlowRun"]


@dataclass(frozen=True, slots=True)
class SlowRun:
    """One run of all of them."""

    code: str
    """The commit of program and tests."""
    versions: str
    system: str
    cpus: int
    seconds: int
    """What the run took, with tests side by side."""
    passed: dict[str, int] = field(default_factory=dict)
    """File of tests → how many of its tests passed."""
    failed: dict[str, str] = field(default_factory=dict)
    """Test → the first line of its error."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Test → the reason."""
    again: dict[str, str] = field(default_factory=dict)
    """File of tests → commit, of those that ran again later, by themselves."""

    @classmethod
    def of_report(cls, report: Path, *, code: str, versions: str, system: str, cpus: int) -> Self:
        """The run that pytest wrote a report of (`--junit-xml`)."""
        suite = ET.parse(report).getroot().find("testsuite")
        assert suite is not None
        passed: Counter[str] = Counter()
        failed, skipped = {}, {}
        for case in suite.iter("testcase"):
            file = f"{case.attrib['classname'].replace('.', '/')}.py"
            test = f"{file}::{case.attrib['name']}"
            problem = case.find("failure") if case.find("failure") is not None else case.find("error")
            reason = case.find("skipped")
            if problem is not None:
                failed[test] = _first_line(problem)
            elif reason is not None:
                skipped[test] = _first_line(reason)
            else:
                passed[file] += 1
        return cls(
            code=code, versions=versions, system=system, cpus=cpus, seconds=round(float(suite.attrib["time"])),
            passed=dict(sorted(passed.items())), failed=dict(sorted(failed.items())),
            skipped=dict(sorted(skipped.items())),
        )  # fmt: skip

    def with_files(self, later: SlowRun, files: Collection[str]) -> SlowRun:
        """This run, but with the outcomes that the tests of some files had *later*."""

        def others(tests: dict[str, Any]) -> dict[str, Any]:
            return {test: found for test, found in tests.items() if test.partition("::")[0] not in files}

        return replace(
            self,
            seconds=self.seconds + later.seconds,
            passed=dict(sorted({**others(self.passed), **later.passed}.items())),
            failed=dict(sorted({**others(self.failed), **later.failed}.items())),
            skipped=dict(sorted({**others(self.skipped), **later.skipped}.items())),
            again={**self.again, **dict.fromkeys(files, later.code)},
        )

    @classmethod
    def read(cls, path: Path) -> Self:
        """The run that a file tells of."""
        return cls(**json.loads(path.read_bytes()))

    def write(self, path: Path) -> None:
        """Keep it in a file."""
        path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    def _again_at(self) -> dict[str, list[str]]:
        """Program → the files that ran again with it."""
        found: dict[str, list[str]] = {}
        for file, code in sorted(self.again.items()):
            found.setdefault(code, []).append(file)
        return found

    def page(self) -> str:
        """It as Markdown."""
        counts = f"{sum(self.passed.values()):,} passed, {len(self.failed):,} failed, {len(self.skipped):,} skipped"
        return "\n".join(
            [
                _HEAD,
                f"**{counts}, in {self.seconds:,} s.**",
                "",
                "| program and tests | versions | system | CPUs |",
                "| --- | --- | --- | --- |",
                f"| {self.code} | {self.versions} | {self.system} | {self.cpus} |",
                "",
                *(f"Ran again later, at {code}: {', '.join(files)}.\n" for code, files in self._again_at().items()),
                "| tests | passed |",
                "| --- | --- |",
                *(f"| {file} | {count:,} |" for file, count in self.passed.items()),
                *_section("Failed", self.failed),
                *_section("Skipped", self.skipped),
                "",
            ]
        )


_HEAD = """# The tests that take long

`make test` leaves them out, `make slow` runs them all. This is what came of the last run.

Made by `make slow`, from slow-results.json beside this page.
"""


def _section(title: str, tests: dict[str, str]) -> list[str]:
    if not tests:
        return []
    return ["", f"## {title}", "", *(f"- `{_cell(test)}`: {_cell(why)}" for test, why in tests.items())]


def _first_line(element: ET.Element) -> str:
    return (element.attrib.get("message") or element.text or "").strip().partition("\n")[0]


def _cell(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)
