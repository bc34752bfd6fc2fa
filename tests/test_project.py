"""Properties of the project itself: layers, exit codes, documents that agree with the program."""

from __future__ import annotations

import ast
import contextlib
import pickle
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import make_archive
from skyexport import errors
from skyexport.errors import EXIT_CODES, ExportError
from skyexport.runtime.for_tests import LIMITS
from tests.environment import ROOT, SOURCE

PACKAGES = (
    *(
        "cli",
        "web",
        "fleet",
        "pipeline",
        "output",
        "verification",
        "rendering",
        "pages",
        "archive",
        "repository",
        "options",
    ),
    "formats",
    "runtime",
    "",
)
"""From the command down to the words at the top level, which are in no package. Imports go from left to right only."""


def modules() -> dict[str, Path]:
    found = {}
    for path in SOURCE.rglob("*.py"):
        name = ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
        if name not in ("__init__", "__main__"):
            found[name] = path
    return found


def imports_of(path: Path) -> set[str]:
    """Modules of this package that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("skyexport."):
            names.add(node.module.removeprefix("skyexport."))
    return names


def test_packages() -> None:
    """Imports between packages go from left to right, so there are no circles; each package says what it is for."""
    found = modules()
    for name, path in found.items():
        for imported in imports_of(path) - {""}:
            assert place_of(imported) >= place_of(name), f"{name} imports {imported}"
    for name in filter(None, PACKAGES):
        first, empty, *more = (ast.get_docstring(ast.parse(found[name].read_text(encoding="utf-8"))) or "").split("\n")
        assert first.endswith("."), name
        assert not empty, name
        assert more, name


def test_modules_are_small() -> None:
    """A newcomer reads a module in five minutes."""
    for name, path in modules().items():
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 420, name
    assert len([name for name in modules() if "." not in name and place_of(name) == len(PACKAGES) - 1]) <= 15


def place_of(module: str) -> int:
    """The place in `PACKAGES` of the package that a module is in."""
    package = module.partition(".")[0]
    return PACKAGES.index(package if (SOURCE / package).is_dir() else "")


def test_tests_mirror_the_packages() -> None:
    """Each package has a folder of tests. They import something of it, or are named after it or one of its modules."""
    for package in filter(None, PACKAGES):
        paths = sorted((ROOT / "tests" / package).glob("test_*.py"))
        assert paths, package
        names = {package, *(path.stem for path in (SOURCE / package).rglob("*.py"))}
        assert not [name for name in names if (ROOT / "tests" / f"test_{name}.py").exists()], package
        for path in paths:
            imported = {name.partition(".")[0] for name in imports_of(path)} & {*PACKAGES}
            assert not imported or package in imported or path.stem.removeprefix("test_") in names, path


def test_connections_are_made_in_few_places() -> None:
    """No module opens an archive, or a copy of one, but those in which it is restricted at once."""
    found = {name for name, path in modules().items() if "apsw.Connection(" in path.read_text(encoding="utf-8")}
    assert found == {
        *(f"archive.{name}" for name in ("connections", "copying", "full_text", "recovery", "registry", "source")),
        *(f"repository.{name}" for name in ("building", "databases", "existing")),
        *("pages.planning", "pages.reading", "verification.seen_posts"),
    }


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


PATCHED = {
    ("test_render.py", "pieces"): "fails if a method is called, which has no other effect",
    ("test_render.py", "tokens"): "counts calls, which have no other effect",
    ("test_native.py", "find"): "has another library where the program looks for its own",
    ("test_export.py", "check_affordable"): "has an estimate be wrong that is right",
    ("test_many_archives.py", "give"): "acts before and after a message is sent",
    ("test_usage.py", "app"): "ends the program before any command begins",
    ("test_pool.py", "write_frame"): "ends a worker amid a message",
    ("sitecustomize.py", "write_frame"): "ends a worker amid a message",
    ("sitecustomize.py", "_tell"): "ends a worker after a message",
}
"""Name of a file of tests, and what it replaces in this package → why neither a limit nor a moment will do."""


def replaced_in(program: str) -> Iterator[str]:
    """The attributes of this package's modules and classes that a program replaces, also by a program in a string."""
    nodes = list(ast.walk(ast.parse(program)))
    ours = {
        (alias.asname or alias.name).partition(".")[0]
        for node in nodes
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
        if (getattr(node, "module", None) or alias.name).partition(".")[0] == "skyexport"
    }

    def is_ours(place: ast.expr) -> bool:
        return any(isinstance(node, ast.Name) and node.id in ours for node in ast.walk(place))

    for node in nodes:
        match node:
            case ast.Call(func=ast.Attribute(attr="setattr"), args=[ast.Constant(value=str(name)), *_]):
                if name.startswith("skyexport."):
                    yield name.rpartition(".")[2]
            case ast.Call(func=ast.Attribute(attr="setattr"), args=[place, ast.Constant(value=str(name)), *_]):
                if is_ours(place):
                    yield name
            case ast.Assign(targets=[ast.Attribute(value=place, attr=name)]) if is_ours(place):
                yield name
            case ast.Constant(value=str(text)) if "import" in text and "skyexport" in text:
                with contextlib.suppress(SyntaxError):
                    yield from replaced_in(text)


def test_nothing_inside_is_replaced() -> None:
    """Tests change limits, and act at moments, by one module: `runtime/for_tests.py`; exceptions have a reason."""
    found = {
        (path.name, name)
        for path in (ROOT / "tests").rglob("*.py")
        for name in replaced_in(path.read_text(encoding="utf-8"))
    }
    assert found == set(PATCHED)


def test_limits_are_listed() -> None:
    """The limits that tests may change are those that some module has."""
    found = [
        name for path in modules().values() for name in re.findall(r'Limit\("(\w+)"', path.read_text(encoding="utf-8"))
    ]
    assert sorted(found) == sorted(LIMITS)
