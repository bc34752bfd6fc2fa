"""Properties of the project itself: layers, exit codes, documents that agree with the program."""

from __future__ import annotations

import ast
import pickle
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import make_archive
from skyexport import errors
from skyexport.errors import EXIT_CODES, ExportError
from tests.conftest import ROOT

SOURCE = ROOT / "src" / "skyexport"

LAYERS = [
    {"__main__"},
    {"cli"},
    {"configuration", "usage"},
    {"help_pages"},
    {"audit", "benchmark", "migration", "rehearsal"},
    {"exporters"},
    {"exporter"},
    {"preflight", "resumption", "outcome"},
    {"coordinator", "earlier_posts", "inspection", "verification"},
    {"estimate", "retention"},
    {"destination", "manifest", "pool", "summary"},
    {"media"},
    {"media_copying", "register", "row_ids"},
    {"progress", "sequence", "writer", "worker"},
    {"archive", "archive_list", "disk", "messages", "slots"},
    {"authors", "connections", "copying", "created_at", "recovery", "scratch"},
    {"full_text", "lock", "memory", "native", "render", "shown_media", "source"},
    {"plan", "selection", "options"},
    {"format_names"},
    {"formats", "formats.csv_table", "formats.json_array", "formats.json_lines", "formats.parquet_table"},
    {"formats.json_posts"},
    {"formats.arrow_blocks", "formats.base", "formats.media_names"},
    {"earlier_media", "export_chains"},
    {"claims"},
    {"earlier_export", "export_directory"},
    {"readers", "readers.csv_table", "readers.json_array", "readers.json_lines", "readers.parquet_table"},
    {"readers.json_posts"},
    {"background", "compression", "format_settings"},
    {
        *("cleanup", "extras", "formulas", "json_text", "location", "media_root", "notices", "option_types"),
        *("processes", "shell_words", "signals", "sync", "timestamps"),
    },
    {"errors"},
]
"""From the command down; a module imports from layers below its own, or from its own."""


def modules() -> dict[str, Path]:
    found = {}
    for path in SOURCE.rglob("*.py"):
        name = ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
        if name != "__init__":
            found[name] = path
    return found


def imports_of(path: Path) -> set[str]:
    """Modules of this package that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("skyexport."):
            names.add(node.module.removeprefix("skyexport."))
    return names


def test_layers() -> None:
    """Imports go down the layers, and every module is in one."""
    layer_of = {name: number for number, names in enumerate(LAYERS) for name in names}
    assert set(layer_of) == set(modules())
    for name, path in modules().items():
        for imported in imports_of(path):
            assert layer_of[imported] >= layer_of[name], f"{name} imports {imported}"


def test_connections_are_made_in_few_places() -> None:
    """No module opens an archive, or a copy of one, but those in which it is restricted at once."""
    found = {name for name, path in modules().items() if "apsw.Connection(" in path.read_text(encoding="utf-8")}
    assert found == {"connections", "copying", "earlier_posts", "full_text", "recovery", "register", "source"}


def error_classes() -> list[type[ExportError]]:
    return [
        kind
        for name, kind in vars(errors).items()
        if name in errors.__all__ and isinstance(kind, type) and issubclass(kind, ExportError)
    ]


@pytest.mark.parametrize("kind", error_classes())
def test_errors_pickle_and_have_documented_codes(kind: type[ExportError]) -> None:
    """Every error survives pickling, and its exit code is in the table."""
    error: ExportError
    if kind is errors.StoppedError:
        error = errors.StoppedError(2)
    elif kind is errors.VerifyError:
        error = errors.VerifyError("there", [errors.Difference("posts.json", "missing")])
    else:
        error = kind("what", "try")
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.exit_code) == (type(error), str(error), error.exit_code)
    assert vars(copy) == vars(error)
    assert error.exit_code in EXIT_CODES


def test_exit_codes_in_the_readme() -> None:
    """The README has the table of exit codes, line by line."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for code, meaning in EXIT_CODES.items():
        assert f"| {code} | {meaning} |" in readme


def test_every_dependency_is_justified() -> None:
    """Whatever pyproject.toml asks for has its line in docs/dependencies.md."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    justified = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    for requirement in wanted:
        assert re.split("[<>=]", requirement)[0] in justified


def test_python_of_the_readme_runs(small_archive: make_archive.ArchiveInfo, tmp_path: Path) -> None:
    """The README's program does what it shows."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    program = readme.split("```python\n")[1].split("```")[0]
    (tmp_path / "archive.db").write_bytes(small_archive.path.read_bytes())
    (tmp_path / "program.py").write_text(program)
    done = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "exports" / "all").glob("*/posts.csv"))


def test_promises_are_tested() -> None:
    """Every test that the page about reliability names is there, and every row of its tables names one."""
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    named = re.findall(r"\[`(test_\w+)`\]\(\.\./(tests/[\w/]+\.py)\)", page)
    assert len(named) > 40
    for test, path in named:
        assert f"\ndef {test}(" in (ROOT / path).read_text(encoding="utf-8"), test
    rows = [
        line for line in page.splitlines() if line.startswith("| ") and "---" not in line and "shown by" not in line
    ]
    assert all("`](../tests/" in row for row in rows)
    assert "docs/reliability.md" in (ROOT / "README.md").read_text(encoding="utf-8")
