"""The benches: tables in documents agree with the results, results are complete, and the tools do what they say."""

from __future__ import annotations

import json
import os
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import compare
import documents
import make_archive
import peers
import plots
import results
import scale
import whole
from tests.environment import ROOT

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the benches need os.wait4 and os.sync")

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def kept(name: str) -> Path:
    """A file of bench/results; the test is skipped when nothing was measured yet."""
    path = results.RESULTS / name
    if not path.exists():
        pytest.skip(f"there is no bench/results/{name}: nothing was measured yet")
    return path


# --- What is kept in bench/results ----------------------------------------------------------------------------------


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_tables_of_documents_are_those_of_the_results(document: Path) -> None:
    """Every generated table of a document has the figures of the last run."""
    if not results.RESULTS.is_dir():
        pytest.skip("there is no bench/results: nothing was measured yet")
    text = document.read_text(encoding="utf-8")
    assert documents.with_tables(text, results.RESULTS) == text


def test_every_plot_is_xml() -> None:
    """Plots parse, and are small."""
    for path in results.RESULTS.glob("*.svg"):
        assert ElementTree.parse(path).getroot().tag == "{http://www.w3.org/2000/svg}svg"
        assert path.stat().st_size < 30_000, path.name


@pytest.mark.parametrize("name", ["compare.json", "scale.json"])
def test_results_have_their_environment(name: str) -> None:
    """Results say where and with what they were measured, and which bytes came out."""
    found = json.loads(kept(name).read_text(encoding="utf-8"))
    assert found["environment"].keys() >= {"date", "cpu", "cores", "ram_gb", "system", "filesystem", "python"}
    assert found["environment"]["versions"].keys() >= {"skyexport", "apsw", "sqlite_of_apsw"}
    assert found["digests"]
    assert all(len(digest) == 64 for digest in found["digests"].values())


# --- Statistics, tables, marks --------------------------------------------------------------------------------------


@dataclass
class MadeUp:
    """A run that never was."""

    wall_seconds: float
    cpu_seconds: float = 1.0
    peak_bytes: int = 0


def test_summarised() -> None:
    """Median and spread of the time, the largest memory; an even number of runs has the middle of two."""
    found = results.summarised([MadeUp(3, 5, 70), MadeUp(1, 7, 90), MadeUp(2, 9, 80)], posts=1000)
    assert (found["median_seconds"], found["min_seconds"], found["max_seconds"]) == (2, 1, 3)
    assert (found["cpu_seconds"], found["peak_bytes"], found["posts_per_second"]) == (7, 90, 500)
    assert [run["wall_seconds"] for run in found["runs"]] == [3, 1, 2]
    assert results.summarised([MadeUp(1), MadeUp(2)], posts=3)["median_seconds"] == 1.5


def test_thinned_keeps_peaks() -> None:
    """A long series gets short, and its largest value stays; a short one stays as it is."""
    series = [(float(place), 1000 if place == 777 else 1) for place in range(2001)]
    thin = results.thinned(series, most=100)
    assert len(thin) <= 100
    assert (777.0, 1000) in thin
    assert results.thinned(series[:5], most=100) == series[:5]
    assert results.thinned([]) == []


@pytest.mark.parametrize(
    ("bound", "measured", "met", "verdict"),
    [(">=", 2.2, True, "met"), (">=", 2.19, False, "**not met**"), ("<=", 2.2, True, "met"), ("<=", None, None, "")],
)
def test_targets(bound: str, measured: float | None, met: bool | None, verdict: str) -> None:
    """A target is met at its limit, and nothing is said about what was not measured."""
    target = results.Target("faster", bound, 2.2, "×", measured)
    assert target.met is met
    assert target.cells()[3] == verdict
    assert compare.target_of(target.to_dict()) == target


def test_targets_by_unit() -> None:
    """Limits and figures have their unit."""
    rows = [
        results.Target("a", "<=", 0.1, "%", 0.0951),
        results.Target("b", "<=", 150, "MB", 83.12),
        results.Target("c", "<=", 0, "", 0),
    ]
    assert results.targets_table(rows) == (
        "| target | asked for | measured |  |\n| --- | ---: | ---: | ---: |\n"
        "| a | ≤ 10% | 9.5% | met |\n| b | ≤ 150 MB | 83.1 MB | met |\n| c | ≤ 0 | 0 | met |\n"
    )


def test_comparison_targets() -> None:
    """Ratios are those of the tools; what one of them lacks is not measured."""
    tools: dict[str, dict[str, Any]] = {
        "skyexport": {"median_seconds": 2.0, "peak_bytes": 80_000_000},
        "polars": {"median_seconds": 5.0, "peak_bytes": 1_200_000_000},
        "cp": {"median_seconds": 1.0, "peak_bytes": 0},
    }
    found = {target.what: target.measured for target in compare.targets(tools)}
    assert found["JSON: time of Polars over ADBC"] == 2.5
    assert found["JSON: memory of Polars"] == 15
    assert found["JSON: against the time of `cp`"] == 2
    assert found["peak memory of all processes: JSON, JSON Lines, CSV"] == 80
    assert found["JSON: time of DuckDB"] is None
    assert {target.measured for target in compare.targets({})} == {None}


def test_tables_in_documents(tmp_path: Path) -> None:
    """A table between markers is made anew from the results; the text around it stays."""
    tool = {"label": "skyexport", "median_seconds": 1.25, "posts_per_second": 800_000, "peak_bytes": 83_400_000}
    results.write_json(tmp_path / "compare.json", {"tools": {"skyexport": {**tool, "ratio": 1}}})
    filled = documents.with_tables("before\n<!-- table speed -->\nold\n<!-- /table -->\nafter\n", tmp_path)
    assert filled.startswith("before\n<!-- table speed -->\n| ")
    assert filled.endswith("\n<!-- /table -->\nafter\n")
    assert "| JSON: skyexport | 1.2 s | 800,000 | 83 MB | 1.0 × |\n" in filled
    assert "old" not in filled
    assert documents.with_tables(filled, tmp_path) == filled


@pytest.mark.parametrize(
    "document",
    [
        "<!-- table speed -->\n",
        "<!-- table nothing -->\n<!-- /table -->\n",
        "text <!-- table speed -->\n<!-- /table -->\n",
    ],
)
def test_markers_that_cannot_be_read(document: str, tmp_path: Path) -> None:
    """A marker with a slip in it is an error."""
    with pytest.raises(ValueError, match=r"a marker is not|no table is called"):
        documents.with_tables(document, tmp_path)


def test_nothing_names_this_machine() -> None:
    """Messages and commands have file names, not directories; addresses stay."""
    assert results.without_directories("IO Error: /home/me/x/a.db: see https://a.org/b/c") == (
        "IO Error: a.db: see https://a.org/b/c"
    )
    assert whole.shown([sys.executable, "/x/y/a.db", "--to", "/dev/null", "select 1"], {"select 1": "SQL"}) == (
        "python a.db --to /dev/null SQL"
    )


# --- Plots ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("most", "expected"), [(8.6, [0, 2, 4, 6, 8, 10]), (0.3, [0, 0.1, 0.2, 0.3]), (1, None)])
def test_ticks(most: float, expected: list[float] | None) -> None:
    """Ticks are round, begin at 0 and reach the largest value."""
    found = plots.ticks(most)
    assert found[-1] >= most * 0.999
    if expected is not None:
        assert found == pytest.approx(expected)


def texts_of(picture: str) -> list[str]:
    """All that is written in a plot."""
    return ["".join(node.itertext()) for node in ElementTree.fromstring(picture).iter() if node.tag.endswith("}text")]


def test_bars() -> None:
    """Bars have labels and values; one beyond the cut says so."""
    picture = plots.bar_chart(
        "<Time>", "seconds", [plots.Bar("a & b", 2, 1.5, 2.5, True), plots.Bar("slow", 90, 80, 95, False)], cut=10
    )
    assert {"<Time>", "seconds", "a & b", "2", "90 (bar cut off)"} <= set(texts_of(picture))


@pytest.mark.parametrize("points", [[(1000.0, 5.0)], [(10.0, 1.0), (1e6, 2e6)], [(0.0, 0.0)]])
def test_lines(points: list[tuple[float, float]]) -> None:
    """Lines of any length have both axes, also a single point."""
    logarithmic = points[0][0] > 0
    picture = plots.line_chart("Rate", "posts", "posts/s", [plots.Line("x", points)], logarithmic=logarithmic)
    assert {"Rate", "posts", "posts/s", plots.number(points[-1][0])} <= set(texts_of(picture))


def test_a_long_series_stays_small() -> None:
    """A plot of two thinned series is below 30 kB."""
    series = results.thinned([(second / 20, 80_000_000 + second) for second in range(4000)])
    lines = [plots.Line(name, series, marked=False) for name in ("one", "two")]
    assert len(plots.line_chart("Memory", "seconds", "bytes", lines)) < 30_000


# --- Running --------------------------------------------------------------------------------------------------------


def test_run_command(tmp_path: Path) -> None:
    """A run has its time, its memory with that of its children, and what it printed."""
    program = (
        "import subprocess, sys; data = bytearray(30_000_000); "
        "subprocess.run([sys.executable, '-c', 'import time; data = bytearray(30_000_000); time.sleep(0.4)']); "
        "print('done')"
    )
    run = whole.run_command([sys.executable, "-c", program], cwd=tmp_path, keep_series=True)
    assert run.stdout.strip() == b"done"
    assert run.wall_seconds > 0.4
    assert run.cpu_seconds > 0
    assert run.children == 1
    assert run.peak_bytes > 60_000_000
    assert run.peak_bytes == max(size for _, size in run.series)


def test_run_command_that_fails(tmp_path: Path) -> None:
    """A failure is an error with the last line of standard error; standard output goes into a file when asked."""
    with pytest.raises(whole.CommandError, match=r"^exit status 3: because$"):
        whole.run_command(
            [sys.executable, "-c", "import sys; print('so', 'because', sep='\\n', file=sys.stderr); sys.exit(3)"],
            cwd=tmp_path,
        )
    assert whole.run_command([sys.executable, "-c", "print(1)"], cwd=tmp_path, stdout=tmp_path / "out").stdout == b""
    assert (tmp_path / "out").read_text().strip() == "1"


def test_naive_baseline(small_archive: make_archive.ArchiveInfo, tmp_path: Path) -> None:
    """The baseline has every post, with its embed as an object."""
    peers.run_naive(small_archive.path, tmp_path / "out.json")
    posts = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert len(posts) == small_archive.posts
    assert list(posts[0]) == list(peers.COLUMNS)
    assert any(isinstance(post["embed_data"], dict) for post in posts)


def test_what_is_not_installed_is_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A tool names what it lacks, in one line."""
    tool = compare.Tool("x", "X", "json", ("x",), needs=("json", "no_such_module_at_all"))
    missing = tool.missing()
    assert missing == "no_such_module_at_all"
    comparison = compare.Comparison(tmp_path / "a.db", tmp_path)
    comparison.skip(tool, f"{missing} is not installed")
    assert capsys.readouterr().out == "skipped: X: no_such_module_at_all is not installed\n"
    assert compare.Tool("y", "Y", "json", ("y",), needs=("/no-such-program",)).missing() == "no-such-program"


@pytest.fixture(scope="module")
def tiny_archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with an archive of 300 posts, named as bench/scale.py names it."""
    directory = tmp_path_factory.mktemp("archives")
    make_archive.make_archive(directory / "bench-300.db", posts=300, seed=1, fts=False)
    return directory


@pytest.mark.slow
def test_compare_end_to_end(tiny_archives: Path, tmp_path: Path) -> None:
    """One tool, one run: all three files are there, and nothing is left beside the archive."""
    archive = tiny_archives / "bench-300.db"
    before = sorted(tiny_archives.iterdir())
    arguments = [str(archive), "--runs", "1", "--warmup", "0", "--only", "skyexport", "--results", str(tmp_path)]
    assert compare.main(arguments) == 0
    found = json.loads((tmp_path / "compare.json").read_text(encoding="utf-8"))
    tool = found["tools"]["skyexport"]
    assert (found["archive"]["posts"], len(tool["runs"]), tool["ratio"]) == (300, 1, 1.0)
    assert len(found["digests"]["json"]) == 64
    ElementTree.parse(tmp_path / "compare.svg")
    for path in tmp_path.iterdir():
        assert str(tiny_archives) not in path.read_text(encoding="utf-8")
    assert "| JSON: time of DuckDB | ≥ 5 × | not measured |" in (tmp_path / "compare.md").read_text(encoding="utf-8")
    assert sorted(tiny_archives.iterdir()) == before


@pytest.mark.slow
def test_scale_end_to_end(tiny_archives: Path, tmp_path: Path) -> None:
    """Every group has figures, a small archive starts no process, and the plots parse."""
    arguments = ["--sizes", "300", "--workers", "0,1", "--batch-sizes", "100", "--runs", "1", "--warmup", "0"]
    assert scale.main([*arguments, "--archives", str(tiny_archives), "--results", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "scale.json").read_text(encoding="utf-8"))
    assert not found["failed"]
    assert {group: sorted(found[group]) for group in scale.GROUPS} == {
        "sizes": ["300"],
        "workers": ["0", "1"],
        "batch_sizes": ["100"],
        "special": [
            "author",
            "dates",
            "full",
            "no_index",
            *(["real"] if scale.REAL.exists() else []),
            "ties",
            "unusual",
        ],
        "auto": ["0", "2", "auto"],
        "small": ["300"],
    }
    assert (found["small"]["300"]["workers"], found["small"]["300"]["most_children"]) == (0, 0)
    assert found["workers"]["1"]["most_children"] >= 1
    assert 0 < found["special"]["dates"]["posts"] < 30
    assert len(found["digests"]) == (7 if scale.REAL.exists() else 6)
    assert sorted(path.name for path in tmp_path.glob("*.svg")) == [
        "scale-memory.svg", "scale-sizes.svg", "scale-workers.svg",
    ]  # fmt: skip
    for path in tmp_path.iterdir():
        assert str(tiny_archives) not in path.read_text(encoding="utf-8")
        if path.suffix == ".svg":
            ElementTree.parse(path)
