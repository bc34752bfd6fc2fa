"""Run all slow tests, and write down what came of them.

    make slow JOBS=2
    make slow FILES=tests/rendering/test_pool.py

JOBS tests run side by side; the usual number is that of the CPUs. With FILES, only tests of these files run, and the
outcomes of the others stay as they were. What came of the run is kept in
docs/slow-results.json, and shown in docs/slow-results.md.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.environment import ROOT, cpus, state_of, system, versions
from tests.slow.results import SlowRun

RESULTS = ROOT / "docs" / "slow-results.json"
PAGE = RESULTS.with_suffix(".md")

_STATE = ("src", "tools", "tests")
"""What a change of means other results."""

_RAN = (0, 1)
"""Exit statuses of pytest after all tests were run."""


def main() -> int:
    """The program.

    Returns:
        Its exit status: that of pytest.
    """
    if len(sys.argv) > 1:
        raise SystemExit(__doc__)
    code = state_of(*_STATE)
    files = os.environ.get("FILES", "").split()
    with tempfile.TemporaryDirectory(prefix="skyexport-slow-") as folder:
        report = Path(folder, "report.xml")
        command = [sys.executable, "-m", "pytest", "-m", "slow", f"--junit-xml={report}", *files]
        command += ["--numprocesses", os.environ.get("JOBS") or str(cpus()), "--dist", "worksteal"]
        status = subprocess.run(command, cwd=ROOT, check=False).returncode
        if status not in _RAN:
            raise SystemExit(f"pytest ended with status {status}: nothing is written down")
        run = SlowRun.of_report(report, code=code, versions=versions(), system=system(), cpus=cpus())
    if files:
        run = SlowRun.read(RESULTS).with_files(run, files)
    run.write(RESULTS)
    PAGE.write_text(run.page(), encoding="utf-8")
    print(f"see {PAGE.relative_to(ROOT)}")
    return status


if __name__ == "__main__":
    sys.exit(main())
