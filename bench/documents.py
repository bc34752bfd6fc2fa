"""Tables of documents, made from bench/results.

    python bench/documents.py README.md docs/performance.md

writes each table anew between its two markers, which stand on lines of their own:

    <!-- table speed -->
    | … |
    <!-- /table -->

A test compares the tables of all documents with the results.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from results import RESULTS, table

__all__ = ["TABLES", "with_tables"]

_BLOCK = re.compile(r"^<!-- table (?P<name>[\w-]+) -->\n(?P<table>.*?)^<!-- /table -->$", re.MULTILINE | re.DOTALL)

_SPEED = (
    ("JSON", ("skyexport", "sqlite3", "polars", "duckdb", "sqlite-utils")),
    ("CSV", ("skyexport-csv", "sqlite3-csv-14", "chdb-csv", "duckdb-csv")),
    ("Parquet", ("skyexport-parquet", "duckdb-parquet", "polars-parquet", "chdb-parquet")),
)
"""Which commands the README compares, a format at a time."""


def _load(directory: Path, name: str) -> Any:
    return json.loads((directory / name).read_text(encoding="utf-8"))


def _speed(directory: Path) -> str:
    """Whole commands: time, memory, and how many times as long as skyexport each one took, in the same format."""
    tools: Mapping[str, Any] = _load(directory, "compare.json")["tools"]
    rows = []
    for format, names in _SPEED:
        for name in (name for name in names if name in tools):
            found = tools[name]
            rows.append((
                f"{format}: {found['label']}", f"{found['median_seconds']:.1f} s",
                f"{found['posts_per_second']:,.0f}", f"{found['peak_bytes'] / 1e6:,.0f} MB", f"{found['ratio']:.1f} ×",
            ))  # fmt: skip
    return table(("a million posts to a file", "time", "posts/s", "memory", "time of skyexport"), rows)


def _targets(directory: Path) -> str:
    """Every target of the comparison with other programs."""
    rows = []
    for target in _load(directory, "compare.json")["targets"]:
        measured = target["measured"]
        sign = {">=": "≥", "<=": "≤"}[target["bound"]]
        rows.append((
            target["what"], f"{sign} {target['limit']:g} {target['unit']}",
            "not measured" if measured is None else f"{measured:.2f} {target['unit']}",
            {True: "met", False: "**not met**", None: ""}[target["met"]],
        ))  # fmt: skip
    return table(("target", "asked for", "measured", ""), rows)


_STAGES = {
    "read": ("read the posts from the file", "worker"),
    "render": ("render them", "worker"),
    "walk": ("walk the index", "coordinator"),
    "hash": ("hash (SHA-256)", "coordinator"),
    "write": ("write to a file (page cache)", "coordinator"),
    "coordinator_null": ("the whole coordinator, to the null device", "coordinator"),
}


def _stages(directory: Path) -> str:
    """Microseconds a post of each stage, JSON and CSV."""
    found = [_load(directory, f"stages-{format}.json")["microseconds_a_post"] for format in ("json", "csv")]
    rows = [
        (what, where, *(f"{stages[name]:.2f}" for stages in found))
        for name, (what, where) in _STAGES.items()
        if all(name in stages for stages in found)
    ]
    return table(("stage", "where", "JSON", "CSV"), rows)


def _model(directory: Path) -> str:
    """Predicted rates by cores, and the measured ones."""
    predicted = _load(directory, "stages-json.json")["predicted_posts_per_second"]
    measured = _load(directory, "scale.json")["workers"]
    of_cores = {"1": "0", "2": "2"}
    rows: Sequence[Sequence[str]] = [
        (
            f"{cores} cores" if cores != "1" else "1 core",
            f"{rate:,}",
            f"{measured[of_cores[cores]]['posts_per_second']:,.0f}" if cores in of_cores else "",
        )
        for cores, rate in predicted.items()
    ]
    return table(("", "predicted posts/s", "measured, to a file"), rows)


TABLES: Mapping[str, Callable[[Path], str]] = {
    "speed": _speed,
    "targets": _targets,
    "stages": _stages,
    "model": _model,
}
"""Name in a marker → what makes the table from a directory of results."""


def with_tables(document: str, directory: Path) -> str:
    """A document with its tables as the results have them.

    Raises:
        ValueError: A marker has no end, or names no table.
    """
    blocks = list(_BLOCK.finditer(document))
    if len(blocks) != document.count("<!-- table ") or len(blocks) != document.count("<!-- /table -->"):
        raise ValueError("a marker is not a line like <!-- table NAME --> with <!-- /table --> after it")
    if unknown := {block["name"] for block in blocks} - set(TABLES):
        raise ValueError(f"no table is called {', '.join(sorted(unknown))}")
    return _BLOCK.sub(
        lambda block: f"<!-- table {block['name']} -->\n{TABLES[block['name']](directory)}<!-- /table -->", document
    )


if __name__ == "__main__":
    for name in sys.argv[1:]:
        target = Path(name)
        target.write_text(with_tables(target.read_text(encoding="utf-8"), RESULTS), encoding="utf-8")
        print(f"{name}: tables are those of bench/results")
