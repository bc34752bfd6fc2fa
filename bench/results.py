"""What measurements become: medians, tables, targets beside figures, and the environment."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import sqlite3
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import apsw
import psutil

import skyexport
from skyexport.rendering import native

__all__ = [
    "RESULTS", "Target", "environment", "summarised", "table", "targets_table", "thinned", "without_directories",
    "write_json",
]  # fmt: skip

RESULTS = Path(__file__).parent / "results"

PEER_PACKAGES = (
    "chdb", "duckdb", "duckdb-extension-sqlite-scanner", "polars", "adbc-driver-sqlite", "pyarrow", "sqlite-utils",
)  # fmt: skip

# --- Runs ---------------------------------------------------------------------------------------------------------


class Measured(Protocol):
    """What the statistics read of a run."""

    @property
    def wall_seconds(self) -> float: ...
    @property
    def cpu_seconds(self) -> float: ...
    @property
    def peak_bytes(self) -> int: ...


def summarised(runs: Sequence[Measured], posts: int) -> dict[str, Any]:
    """Median and spread of the time, median of the processor time, the largest memory, and every run.

    Args:
        runs: At least one.
        posts: How many posts each run exported.
    """
    seconds = [run.wall_seconds for run in runs]
    median = statistics.median(seconds)
    return {
        "posts": posts,
        "median_seconds": round(median, 4),
        "min_seconds": round(min(seconds), 4),
        "max_seconds": round(max(seconds), 4),
        "posts_per_second": round(posts / median, 1),
        "cpu_seconds": round(statistics.median(run.cpu_seconds for run in runs), 4),
        "peak_bytes": max(run.peak_bytes for run in runs),
        "runs": [
            {
                "wall_seconds": round(run.wall_seconds, 4),
                "cpu_seconds": round(run.cpu_seconds, 4),
                "peak_bytes": run.peak_bytes,
            }
            for run in runs
        ],
    }


def thinned(series: Sequence[tuple[float, int]], most: int = 250) -> list[tuple[float, int]]:
    """At most *most* points of a series: the largest of each stretch, so that peaks stay."""
    size = -(-len(series) // most) or 1
    return [max(series[start : start + size], key=lambda point: point[1]) for start in range(0, len(series), size)]


# --- Tables -------------------------------------------------------------------------------------------------------


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are figures, and end at the right."""
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


@dataclass(frozen=True, slots=True)
class Target:
    """A figure that was asked for, and what was measured."""

    what: str
    bound: str
    """`>=` or `<=`."""
    limit: float
    unit: str
    """`×`, `%` (of one), `s`, `MB`, `posts/s` or nothing."""
    measured: float | None
    """None when something that it needs was not measured."""

    @property
    def met(self) -> bool | None:
        """Whether it was reached; None when it was not measured."""
        if self.measured is None:
            return None
        return self.measured >= self.limit if self.bound == ">=" else self.measured <= self.limit

    def to_dict(self) -> dict[str, Any]:
        """For the results."""
        measured = None if self.measured is None else round(self.measured, 4)
        own = {"what": self.what, "bound": self.bound, "limit": self.limit, "unit": self.unit}
        return own | {"measured": measured, "met": self.met}

    def cells(self) -> tuple[str, str, str, str]:
        """As a row of the table."""
        verdict = {True: "met", False: "**not met**", None: ""}[self.met]
        sign = {">=": "≥", "<=": "≤"}[self.bound]
        measured = "not measured" if self.measured is None else self._in_unit(self.measured, "exact")
        return self.what, f"{sign} {self._in_unit(self.limit, 'short')}", measured, verdict

    def _in_unit(self, value: float, style: str) -> str:
        if self.unit == "%":
            return f"{value:.0%}" if style == "short" else f"{value:.1%}"
        digits = f"{value:g}" if style == "short" else f"{value:.{ {'MB': 1, 'posts/s': 0, '': 0}.get(self.unit, 2) }f}"
        return f"{digits} {self.unit}".strip()


def targets_table(targets: Sequence[Target]) -> str:
    """Every target with its figure beside it."""
    return table(("target", "asked for", "measured", ""), [target.cells() for target in targets])


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write results; the directory is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def without_directories(text: str) -> str:
    """A message without the directories of this machine: file names only."""
    return re.sub(r"""(?<![\w:/])/(?:[^\s/'":]+/)+""", "", text)


# --- Environment --------------------------------------------------------------------------------------------------


def environment(archive_directory: Path) -> dict[str, Any]:
    """What the figures depend on, besides the programs' arguments; nothing that names this machine."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "ram_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
        "filesystem": filesystem(archive_directory),
        "python": platform.python_version(),
        "versions": versions(),
    }


def environment_table(found: Mapping[str, Any]) -> str:
    """The environment as a table."""
    flat = {key: value for key, value in found.items() if key != "versions"} | found["versions"]
    return table(("environment", ""), [(key.replace("_", " "), str(value)) for key, value in flat.items()])


def cpu_model() -> str:
    """The processor's name."""
    try:
        match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        match = None
    return match[1] if match else platform.processor() or platform.machine()


def filesystem(directory: Path) -> str:
    """The kind of the file system that a directory is on."""
    path = directory.resolve()
    holding = [part for part in psutil.disk_partitions(all=True) if path.is_relative_to(part.mountpoint)]
    return max(holding, key=lambda part: len(part.mountpoint)).fstype if holding else "unknown"


def versions() -> dict[str, str]:
    """Versions of skyexport, of what it runs on, and of the peers that are installed."""
    found = {
        "skyexport": skyexport.__version__,
        "renderer": native.renderer(),
        "apsw": apsw.apsw_version(),
        "sqlite_of_apsw": apsw.sqlite_lib_version(),
        "sqlite_of_python": sqlite3.sqlite_version,
    }
    if program := shutil.which("sqlite3"):
        printed = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
        found["sqlite3_command"] = printed.split(" ")[0]
    for package in PEER_PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
