"""`make demo`: what it shows works, and so does what it tells a newcomer to try next."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import needs_bash
from tests.environment import ROOT


@pytest.mark.slow
@needs_bash
def test_demo(tmp_path: Path) -> None:
    """It says what it made, and each of its suggestions works."""
    program = [sys.executable, str(ROOT / "tools" / "demo.py"), "demo", "500"]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    *_, shown, suggested = re.split("(?m)^Made, and verified: all 500 posts, twice.$|^Now your own", done.stdout)
    files = [tmp_path / line.strip() for line in shown.split()]
    assert [file.name for file in files] == ["posts.json", "posts.csv"]
    assert all(file.is_file() for file in files)
    commands = re.findall("(?m)^  (.*skyexport .*)$", suggested)
    assert len(commands) == 6
    for command in commands:
        line = command.replace("path/to/archive.db", "demo/archive.db")
        done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert "coffee" in (tmp_path / "demo" / "coffee.csv").read_text(encoding="utf-8")
    assert (tmp_path / "demo" / "2025.jsonl.zst").stat().st_size > 1000
    increments = [file for file in tmp_path.glob("demo/exports/all/*/posts.json") if file.stat().st_size < 10]
    assert len(increments) == 1
