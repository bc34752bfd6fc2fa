"""What `import skyexport` offers: its names, types, documents, and what it says to wrong values."""

from __future__ import annotations

import contextlib
import importlib.resources
import importlib.util
import inspect as python_inspect
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer.main

import make_archive
import skyexport
from skyexport import (
    Archive,
    ExportError,
    ExportOptions,
    OptionError,
    Progress,
    dry_run,
    errors,
    export,
    export_all,
    inspect,
    verify,
    verify_all,
)
from skyexport.cli.app import app
from skyexport.options.export_options import resolve
from tests.archives import file_archive, post
from tests.car_files import Repository
from tests.command import files_below
from tests.environment import ROOT

PAGE = ROOT / "docs" / "python.md"


def programs() -> list[str]:
    """The examples of the page about Python, and of the README."""
    pages = PAGE.read_text(encoding="utf-8") + (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.findall(r"```python\n(.*?)```", pages, re.DOTALL)
    assert len(found) > 7
    return found


# --- Names ------------------------------------------------------------------------------------------------------


def test_names_agree() -> None:
    """What `dir` shows is what a star imports, and every name is there, again and again."""
    assert dir(skyexport) == sorted(skyexport.__all__)
    for _ in range(2):
        for name in skyexport.__all__:
            assert getattr(skyexport, name) is not None
    assert callable(skyexport.dry_run)
    assert callable(skyexport.inspect)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = vars(skyexport)["__getattr__"]("nothing")


def test_every_error_is_public() -> None:
    """Each error that can be raised can be imported from the package, but for one that never leaves it."""
    kinds = {name for name in errors.__all__ if name.endswith("Error")}
    assert kinds - {"UnrecoveredError"} <= set(skyexport.__all__)


@pytest.mark.parametrize("kind", [skyexport.Inspection, skyexport.DryRun])
def test_results_are_explained(kind: type[Any]) -> None:
    """`help` says of every field of a result what it is."""
    words = (python_inspect.getdoc(kind) or "").partition("Attributes:")[2]
    assert re.findall(r"^    (\w+): ", words, re.MULTILINE) == [field.name for field in fields(kind)]


def test_importing_is_quick() -> None:
    """Importing the package loads no library, and neither do its names one that is not needed."""
    program = (
        "import sys, skyexport; dir(skyexport)\n"
        "assert not {'apsw', 'orjson', 'psutil', 'pyarrow', 'typer'} & set(sys.modules)\n"
        "from skyexport import ExportOptions, ExportError\n"
        "ExportOptions(archive='a.db')\n"
        "assert not {'pyarrow', 'typer', 'psutil'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_types_are_shipped() -> None:
    """Type checkers believe the types of an installed package that says so."""
    assert (importlib.resources.files("skyexport") / "py.typed").is_file()


def test_everything_public_is_documented() -> None:
    """Every public class and function has words of its own, functions an example; the page names them all."""
    page = PAGE.read_text(encoding="utf-8")
    for name in skyexport.__all__:
        thing = getattr(skyexport, name)
        if name in ("__version__", "Post"):
            continue
        assert thing.__doc__, name
        assert not thing.__doc__.startswith(f"{name}("), name
        if python_inspect.isfunction(thing) or thing is Archive:
            assert re.search(rf"\b{name}\(", thing.__doc__), name
        assert name in page or name == "Difference", name


# --- Types and examples -----------------------------------------------------------------------------------------


def test_examples_have_strict_types(tmp_path: Path) -> None:
    """mypy --strict finds nothing in the examples."""
    pytest.importorskip("mypy")
    for number, program in enumerate(programs()):
        (tmp_path / f"example{number}.py").write_text(program, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(ROOT / ".mypy_cache" / "examples"), "."],
        cwd=tmp_path, env={**os.environ, "MYPYPATH": str(ROOT / "src")}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_examples_run(small_archive: make_archive.ArchiveInfo, tmp_path: Path) -> None:
    """Each example runs by itself beside an archive."""
    (tmp_path / "archive.db").write_bytes(small_archive.path.read_bytes())
    Repository().write(tmp_path / "repo.car")
    for program in programs():
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout or "print" not in program


# --- Options ----------------------------------------------------------------------------------------------------


def test_options_are_those_of_the_command() -> None:
    """Every field is an option of the command, by the rule for names that is documented, and every option a field."""
    command: Any = typer.main.get_command(app)
    options = {option for one in command.commands["export"].params for option in one.opts if option.startswith("--")}
    by_the_rule = {f"--{name.replace('_', '-')}" for name in (field.name for field in fields(ExportOptions))}
    by_the_rule |= {"--no-sync", "--no-bom", "--no-header"}
    by_the_rule -= {"--sync", "--bom", "--header", "--archive"}
    assert by_the_rule <= options
    of_the_command_alone = {
        *("--config", "--progress", "--json", "--quiet", "--verbose", "--debug", "--dry-run", "--from-file", "--help"),
        *("--resume-batch", "--shard", "--cluster", "--install-completion", "--show-completion"),
    }
    assert options - by_the_rule <= of_the_command_alone


def test_every_option_is_explained() -> None:
    """`help(ExportOptions)` says of every field what it is, and where None is possible what None means."""
    words = python_inspect.getdoc(ExportOptions)
    assert words is not None
    found = dict(
        re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", words.partition("Args:")[2].partition("Raises:")[0], re.MULTILINE)
    )
    assert list(found) == [field.name for field in fields(ExportOptions)]
    for field in fields(ExportOptions):
        assert len(found[field.name]) > 20, field.name
        if field.default is None:
            assert "None" in found[field.name], field.name


ODD = [None, True, 0, -1, 7, 1.5, float("nan"), "", "x", "7", b"x", Path("x"), [], ["x"], [1], (b"x",), {"x": 1}, {"x"},
       object(), datetime(2024, 1, 1, tzinfo=UTC), 10**30, "\ud800", "a\0b", range(3), iter(())]  # fmt: skip


@pytest.mark.parametrize("name", [field.name for field in fields(ExportOptions)])
def test_values_of_any_type(name: str) -> None:
    """Whatever a field is given, it is kept or refused as an option, in one line with what to give."""
    refused: list[OptionError] = []
    for value in ODD:
        try:
            values: dict[str, Any] = {"archive": "a.db", name: value}
            options = ExportOptions(**values)
        except OptionError as odd:
            refused.append(odd)
        else:
            assert getattr(options, name) == value
            assert resolve(options).options is options
            assert repr(options).startswith("ExportOptions(archive=")
    assert refused
    for error in refused:
        assert error.message
        assert error.hint, error
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"batch_size": "5"}, "batch_size is of type str; give a whole number like 1000"),
        ({"batch_size": True}, "batch_size is of type bool; give a whole number like 1000"),
        ({"workers": "two"}, "workers is of type str; give a whole number like 1000 or 'auto'"),
        ({"workers": None}, "workers is None; give a whole number like 1000 or 'auto'"),
        ({"archive": b"x"}, "archive is of type bytes; give a path (str or pathlib.Path)"),
        ({"to": 3}, "to is of type int; give a path (str or pathlib.Path) or None"),
        ({"since_export": ["x", 5]},
         "a value in since_export is of type int; give a path (str or pathlib.Path) or a list of paths"),
        ({"columns": [b"x"]}, "a value in columns is of type bytes; give a str or a list of str"),
        ({"memory_limit": 1.5}, "memory_limit is of type float; give a number of bytes, a str like '500MB'"),
        ({"memory_limit": "much"}, "'much' is not a size; write it like 500MB, 1.5GB or 512MiB"),
        ({"bom": 1}, "bom is of type int; give True or False"),
        ({"since": 5},
         "since is of type int; give a date, a datetime with a time zone, a str like '2024-12-31' or None"),
        ({"since": datetime(2024, 1, 1, 12)},  # noqa: DTZ001 - that is the point
         "since 2024-01-01T12:00:00 has no time zone; add one: datetime(..., tzinfo=UTC)"),
        ({"until": datetime(2024, 1, 1, 12)},  # noqa: DTZ001
         "until 2024-01-01T12:00:00 has no time zone; add one: datetime(..., tzinfo=UTC)"),
    ],
)  # fmt: skip
def test_words_of_wrong_types(values: dict[str, Any], said: str) -> None:
    """The error names the option, and the form that is right."""
    with pytest.raises(OptionError) as caught:
        ExportOptions(**{"archive": "a.db", **values})
    assert str(caught.value) == said


def test_forms_of_one_value(tmp_path: Path) -> None:
    """A path is text or an object, columns a list or text, a size a number or text, one earlier export no list."""
    one = ExportOptions(
        archive="a.db", output_dir="o", format="csv", columns="uri, text", memory_limit="500MB", split_bytes="1.5MB",
        since_export="first", delimiter="\t",
    )  # fmt: skip
    other = ExportOptions(
        archive=Path("a.db"), output_dir=Path("o"), format="csv", columns=["uri", "text"], memory_limit=500_000_000,
        split_bytes=1_500_000, since_export=[Path("first")], delimiter="\t",
    )  # fmt: skip
    assert replace(resolve(one), options=other) == resolve(other)
    assert one.memory_limit_bytes == other.memory_limit_bytes
    assert resolve(one).of_the_output(None) == resolve(other).of_the_output(None)
    archive = file_archive(tmp_path / "a.db", [post(1)])
    for form in (str, Path):
        options = ExportOptions(archive=form(archive), output_dir=form(tmp_path / "o"), workers="auto")
        summary = export(options)
        assert summary.directory is not None
        assert verify(form(summary.directory)).posts == inspect(form(archive)).posts == dry_run(options).posts == 1
        with Archive(form(archive)) as opened:
            assert opened.count_posts() == 1


def test_options_are_shown_as_given() -> None:
    """Only what was asked for."""
    assert (
        repr(ExportOptions(archive="a.db", workers=2, memory_limit=500_000_000))
        == "ExportOptions(archive='a.db', workers=2)"
    )


@pytest.mark.parametrize("value", [None, 5, 1.5, b"x", ["x"], object()])
@pytest.mark.parametrize(
    "call",
    [
        Archive, inspect, verify, export, dry_run,
        lambda value: verify_all([value]),
        lambda value: export_all([value], ExportOptions(archive="a.db")),
        lambda value: export_all(["a.db"], value),
    ],
)  # fmt: skip
def test_arguments_of_any_type(call: Callable[[Any], object], value: object) -> None:
    """A value of another type than a function takes is an error about options, not one from inside."""
    with pytest.raises(OptionError, match=r"is (?:of type|None).*; give "):
        call(value)


@pytest.mark.parametrize("value", ["a.db", Path("a.db"), b"x", None, 5])
def test_a_path_is_no_list_of_paths(value: Any) -> None:
    """Text in place of a list is not taken apart."""
    for call in (verify_all, lambda paths: export_all(paths, ExportOptions(archive="a.db"))):
        with pytest.raises(OptionError, match="; give a list of paths"):
            call(value)


@pytest.mark.parametrize("values", [{"did": 5}, {"since": 5}, {"until": b"x"}, {"limit": "5"}, {"offset": None}])
def test_arguments_of_posts(tmp_path: Path, values: dict[str, Any]) -> None:
    """The same for reading posts."""
    with Archive(file_archive(tmp_path / "a.db", [post(1)])) as archive, pytest.raises(OptionError, match="; give "):
        archive.list_posts(**values)


# --- In programs and notebooks ----------------------------------------------------------------------------------


def test_results_are_shown_in_a_line(tmp_path: Path) -> None:
    """What a notebook shows of a result is short and says what matters."""
    archive = file_archive(tmp_path / "a.db", [post(1), post(2)])
    options = ExportOptions(archive=archive, output_dir=tmp_path / "o")
    summary = export(options)
    assert summary.directory is not None
    migration = export_all([archive], options)
    shown = {
        repr(found).split(":")[0].removeprefix("<"): repr(found)
        for found in (
            summary, verify(summary.directory), inspect(archive), dry_run(options), migration, migration.outcomes[0],
            verify_all([summary.directory]),
        )
    }  # fmt: skip
    assert set(shown) == {"ExportSummary", "Verification", "Inspection", "DryRun", "Migration", "Outcome", "Audit"}
    for line in shown.values():
        assert "\n" not in line
        assert len(line) < 200 + 3 * len(str(tmp_path))
    assert str(summary.path) in shown["ExportSummary"]
    assert "2 posts" in shown["DryRun"]


@pytest.mark.quick(1)
@pytest.mark.parametrize("way", ["standard input", "file", "argument"])
def test_no_guard_is_needed(slow_archive: Path, tmp_path: Path, way: str) -> None:
    """Workers and exporters never run the program that started them, whose code need not be guarded."""
    program = (
        "print('once')\n"
        "from skyexport import ExportOptions, export, export_all\n"
        f"options = ExportOptions(archive={str(slow_archive)!r}, output_dir='o', workers=2)\n"
        "print(export(options).workers)\n"
        f"import shutil; shutil.copy({str(slow_archive)!r}, 'b.db')\n"
        "print(export_all([options.archive, 'b.db'], options).outcomes[1].status)\n"
    )
    (tmp_path / "program.py").write_text(program)
    arguments = {"standard input": ["-"], "file": ["program.py"], "argument": ["-c", program]}[way]
    done = subprocess.run(
        [sys.executable, *arguments], cwd=tmp_path, input=program if way == "standard input" else "",
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.stdout.splitlines() == ["once", "2", "ok"]
    assert way == "standard input" or done.stderr == ""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("workers", [0, 2])
def test_interrupt_leaves_nothing(slow_archive: Path, tmp_path: Path, workers: int) -> None:
    """Ctrl-C in a program, or the stop button of a notebook, ends an export without files or processes."""
    program = (
        "import json, os, psutil, signal\n"
        "from skyexport import ExportOptions, export\n"
        # A shell has its background jobs ignore Ctrl-C, and what they start inherits that.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def show(progress):\n"
        "    if progress.posts: print('exporting', flush=True)\n"
        "try:\n"
        f"    options = ExportOptions(archive={str(slow_archive)!r}, workers={workers}, batch_size=50)\n"
        "    export(options, show)\n"
        "except KeyboardInterrupt:\n"
        "    left = [str(path) for path in os.scandir('.')]\n"
        "    print(json.dumps([left, len(psutil.Process().children())]))\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "exporting\n"
        process.send_signal(signal.SIGINT)
        said = process.stdout.read().splitlines()[-1]
    assert json.loads(said)[1] == 0
    assert [name for name in files_below(tmp_path) if name != "exports"] == []


def test_progress_suits_a_bar(slow_archive: Path, tmp_path: Path) -> None:
    """Posts read only grow, up to those to read, and the last call says that all is done, as a bar of tqdm wants it."""
    seen: list[Progress] = []

    def show(progress: Progress) -> None:
        seen.append(progress)
        time.sleep(0.01)

    summary = export(ExportOptions(archive=slow_archive, to=tmp_path / "x.json", workers=0), show)
    read = [progress.posts_read for progress in seen]
    assert read == sorted(read)
    assert {progress.posts_to_read for progress in seen} <= {0, summary.posts}
    assert (seen[-1].stage, seen[-1].posts_read, seen[-1].posts_to_read) == ("done", summary.posts, summary.posts)


def test_an_error_is_a_line_and_a_hint(tmp_path: Path) -> None:
    """What a notebook shows below the traceback says what happened, and what to try."""
    with contextlib.suppress(OptionError):
        ExportOptions(archive="a.db", format="xml")
    with pytest.raises(ExportError) as caught:
        export(ExportOptions(archive=tmp_path / "none.db"))
    assert str(caught.value) == f"{caught.value.message}; {caught.value.hint}"
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(importlib.util.find_spec("tqdm") is None, reason="tqdm is not installed")
def test_tqdm_of_the_page(slow_archive: Path, tmp_path: Path) -> None:
    """The lines about tqdm work as they stand."""
    (code,) = re.findall(r"```\n(from tqdm.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    options = ExportOptions(archive=slow_archive, to=tmp_path / "x.json")
    exec(compile(code, str(PAGE), "exec"), {"options": options, "export": export, "Progress": Progress})
