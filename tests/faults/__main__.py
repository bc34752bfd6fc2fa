"""Run rows of the fault matrix with all their trials, and record the results.

    make faults ROWS=kill,fuzz SEED=1 JOBS=2 MINUTES=8

Without ROWS, all rows run. JOBS processes run trials side by side; the default is the number of CPUs. After MINUTES, no
more trials start, and the next run of the same rows continues with the rest. AGAIN=1 starts from the beginning.
The results of all runs are kept in docs/fault-results.json, and shown in docs/fault-results.md.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from tests.environment import ROOT, cpus, state_of, system, versions
from tests.faults.matrix import MATRIX
from tests.faults.plan import Found, Plan
from tests.faults.results import Results, Setting

RESULTS = ROOT / "docs" / "fault-results.json"
PAGE = RESULTS.with_suffix(".md")
LOGS = ROOT / "build" / "faults"

_TESTS = "tests/faults"
_PROGRAM = ("src", "tools")
"""Directories whose changes make earlier results outdated."""

_STOPPED = 2
"""pytest's exit status when something ended it early, as the time that is up."""

_ENDS = {0: "all passed", 1: "some failed", _STOPPED: "stopped", 5: "no tests"}
"""Exit statuses of pytest that leave notes to rely on."""


def this_setting(seed: int) -> Setting:
    """The circumstances here and now."""
    program = state_of(*_PROGRAM)
    return Setting(program, f"{versions()}, strace {_strace_version()}", system(), cpus(), seed)


def _strace_version() -> str:
    if shutil.which("strace") is None:
        return "none"
    done = subprocess.run(["strace", "--version"], capture_output=True, text=True, check=False)
    return done.stdout.splitlines()[0].rpartition(" ")[2]


def run_pytest(plan: Plan, files: Sequence[str], name: str, *options: str) -> None:
    """Run one process; its output goes into a file.

    Raises:
        SystemExit: It could not do what the plan says.
    """
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{name}.log"
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", *options, *files]
    environment = plan.environment(Path(f"{plan.notes}.plan"))
    with log.open("w") as file:
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT, check=False)
    if done.returncode not in _ENDS or (done.returncode == _STOPPED and plan.until is None):
        raise SystemExit(f"pytest ended with status {done.returncode}; see {log}")


def find(rows: Sequence[str], folder: Path) -> list[Found]:
    """The tests of *rows*."""
    plan = Plan(str(folder / "found"), rows=rows)
    run_pytest(plan, [_TESTS], "found", "--collect-only")
    return plan.found()


def parts_of(pending: Sequence[tuple[str, int]], jobs: int) -> list[dict[str, list[int]]]:
    """Deal out trials to *jobs* processes."""
    parts: list[dict[str, list[int]]] = [{} for _ in range(jobs)]
    for position, (test, number) in enumerate(pending):
        parts[position % jobs].setdefault(test, []).append(number)
    return [part for part in parts if part]


def run(rows: Sequence[str], *, seed: int, jobs: int, minutes: float | None, again: bool) -> Results:
    """Run what is left of *rows*, and write it down."""
    until = None if minutes is None else time.time() + 60 * minutes
    results = Results.read(RESULTS)
    with tempfile.TemporaryDirectory(prefix="skyexport-faults-") as folder:
        found = find(rows, Path(folder))
        sources = {one.test: _digest(ROOT / one.test.partition("::")[0]) for one in found}
        results.prepare(found, this_setting(seed), sources, again=again)
        pending = [(one.test, number) for one in found for number in results.tests[one.test].pending()]
        print(f"{len(pending):,} trials of rows {', '.join(rows)} in {jobs} processes")
        plans = [
            Plan(str(Path(folder, f"notes{number}")), chosen=part, until=until)
            for number, part in enumerate(parts_of(pending, jobs))
        ]
        try:
            with ThreadPoolExecutor(max_workers=jobs) as pool:
                ends = [
                    pool.submit(run_pytest, plan, _files(plan), f"job{number}") for number, plan in enumerate(plans)
                ]
            for end in ends:
                end.result()
        finally:
            today = datetime.now(UTC).date().isoformat()
            for outcome in (outcome for plan in plans for outcome in plan.outcomes()):
                results.tests[outcome.test].add(outcome)
                results.tests[outcome.test].date = today
            results.write(RESULTS)
            PAGE.write_text(results.page())
    return results


def _files(plan: Plan) -> list[str]:
    return sorted({test.partition("::")[0] for test in plan.chosen or ()})


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def main() -> int:
    """The program; its settings are variables of the environment.

    Returns:
        Its exit status: 1 when a trial failed.
    """
    if len(sys.argv) > 1:
        raise SystemExit(__doc__)
    rows = [row for row in os.environ.get("ROWS", "").replace(" ", "").split(",") if row] or list(MATRIX)
    if unknown := [row for row in rows if row not in MATRIX]:
        raise SystemExit(f"no such row: {', '.join(unknown)}; there are {', '.join(MATRIX)}")
    seed = int(os.environ.get("SEED") or 1)
    os.environ["SEED"] = str(seed)
    minutes = float(os.environ["MINUTES"]) if os.environ.get("MINUTES") else None
    jobs = int(os.environ.get("JOBS") or cpus())
    results = run(rows, seed=seed, jobs=jobs, minutes=minutes, again=bool(os.environ.get("AGAIN")))
    failures = 0
    for test, found in sorted(results.tests.items()):
        if found.row in rows:
            failed = len(found.failed)
            failures += failed
            print(f"row {found.row}: {test.rpartition('::')[2]}: {found.run} of {found.trials} run, {failed} failed, "
                  f"{found.skips} skipped")  # fmt: skip
    print(f"see {PAGE.relative_to(ROOT)}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
