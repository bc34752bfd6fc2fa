"""Shards: parts of a list of archives that several machines export, and their reports as one."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyexport import ExportOptions, OptionError, export_all, merge_reports
from skyexport.fleet.archive_list import ArchiveList
from skyexport.options.values import Shard, parse_shard
from tests.archives import file_archive, post
from tests.command import files_below, skyexport, skyexport_json
from tests.conftest import needs_bash

PAGE = Path(__file__).resolve().parents[2] / "docs" / "clusters.md"


def made(folder: Path, names: Iterable[str]) -> list[str]:
    """Archives with these names, relative to the folder, each with a post of its own."""
    paths = []
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        file_archive(path, [post(10 * number + n, did=f"did:plc:author{number}") for n in range(3)])
        paths.append(name)
    (folder / "archives.txt").write_text("".join(f"{path}\n" for path in paths), encoding="utf-8")
    return paths


def reports_of(folder: Path, count: int, *options: str, out: str = "exports") -> list[Path]:
    """The reports of all shards, exported one after the other."""
    found = []
    for number in range(1, count + 1):
        done = skyexport(
            "export", "--from-file", "archives.txt", "--shard", f"{number}/{count}", "-o", out, "-j", "0", "--no-sync",
            "--json", *options, cwd=folder,
        )  # fmt: skip
        report = folder / f"shard-{number}.json"
        report.write_text(done.stdout, encoding="utf-8")
        found.append(report)
    return found


def data_below(folder: Path) -> dict[str, bytes]:
    """Directory of the archive and the author → the data file."""
    return {str(path.relative_to(folder).parent.parent): path.read_bytes() for path in folder.glob("*/*/*/posts.json")}


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1), unique=True),
       st.integers(1, 9))  # fmt: skip
def test_each_archive_is_in_one_shard(paths: list[str], count: int) -> None:
    """The hash of the path decides, whatever else is in the list."""
    for path in paths:
        digest = int(hashlib.sha256(path.encode()).hexdigest(), 16)
        having = [number for number in range(1, count + 1) if Shard(number, count).has(path)]
        assert having == [digest % count + 1]


def test_shards_export_what_one_machine_does(tmp_path: Path) -> None:
    """All archives once, with the same bytes; the merged report is that of one machine, but for the times."""
    made(tmp_path, [f"{name}.db" for name in "abcdefghij"] + ["more/deep/k.db"])
    whole = json.loads(
        skyexport(
            "export", "--from-file", "archives.txt", "-o", "whole", "-j", "0", "--no-sync", "--json", cwd=tmp_path
        ).stdout
    )
    reports = reports_of(tmp_path, 3)
    assert data_below(tmp_path / "exports") == data_below(tmp_path / "whole")
    assert len(data_below(tmp_path / "exports")) == 11
    numbers = [entry["number"] for report in reports for entry in json.loads(report.read_bytes())["archives"]]
    assert sorted(numbers) == list(range(1, 12))
    merged = skyexport_json("merge", *reversed(reports))
    differing = {"seconds", "posts_per_second", "peak_memory_bytes", "output_dir"}
    assert {key: merged[key] for key in merged.keys() - differing - {"archives"}} == {
        key: whole[key] for key in whole.keys() - differing - {"archives"}
    }
    for ours, theirs in zip(merged["archives"], whole["archives"], strict=True):
        for key in ("number", "path", "status", "posts", "bytes"):
            assert ours[key] == theirs[key]
    lines = skyexport("merge", *reports).stdout.splitlines()
    assert lines[0] == "11 archives in 3 shards: 11 exported"
    assert lines[1].startswith("33 posts to JSON, ")
    again = reports_of(tmp_path, 3, "--resume-batch")
    assert merge_reports(again).values["archives_skipped"] == 11


def test_directories_do_not_depend_on_the_machine(tmp_path: Path) -> None:
    """Archives of one stem get names by their paths as they are written, wherever the list lies."""
    names = ["x/me.db", "y/me.db", "z/ME.db", "you.db"]
    for machine in ("here", "there"):
        made(tmp_path / machine, names)
        reports_of(tmp_path / machine, 2)
    here, there = ({path.name for path in (tmp_path / machine / "exports").iterdir()} for machine in ("here", "there"))
    digits = [hashlib.sha256(name.encode()).hexdigest()[:8] for name in names[:3]]
    assert here == there == {f"me-{digits[0]}", f"me-{digits[1]}", f"ME-{digits[2]}", "you"}


def test_a_shard_looks_at_its_own_files_only(tmp_path: Path) -> None:
    """The archives of other shards need not be on this machine."""
    names = made(tmp_path, [f"{name}.db" for name in "abcdefgh"])
    for name in names:
        if not Shard(1, 2).has(name):
            (tmp_path / name).unlink()
    done = skyexport("export", "--from-file", "archives.txt", "--shard", "1/2", "-o", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    own = sum(map(Shard(1, 2).has, names))
    assert f"shard 1/2 has {own} archives of 8" in done.stderr
    assert len(data_below(tmp_path / "out")) == own
    listed = ArchiveList([*names], Shard(2, 2))
    assert list(listed.sizes) == [0] * (8 - own)
    with pytest.raises(OptionError, match=r"a\.db is named twice"):
        ArchiveList([*names, "a.db"], Shard(2, 2))


def test_an_empty_shard(tmp_path: Path) -> None:
    """It is a success with a line, and counts when reports are merged."""
    (name,) = made(tmp_path, ["a.db"])
    empty = next(number for number in range(1, 4) if not Shard(number, 3).has(name))
    done = skyexport("export", name, "--shard", f"{empty}/3", "-o", "out", cwd=tmp_path)
    assert done.returncode == 0
    assert f"shard {empty}/3 has 0 archives of 1\n" in done.stderr
    assert files_below(tmp_path / "out") == []
    assert merge_reports(reports_of(tmp_path, 3)).values["archives_exported"] == 1


def test_an_author_of_one_shard(tmp_path: Path) -> None:
    """An author without posts in a shard is no error there; one without posts in any shard is, once merged."""
    made(tmp_path, [f"{name}.db" for name in "abcdef"])
    reports = reports_of(tmp_path, 2, "--author", "did:plc:author3")
    assert [json.loads(report.read_bytes())["exit_code"] for report in reports] == [0, 0]
    merged = merge_reports(reports)
    assert (merged.exit_code, merged.values["archives_without_author"], merged.values["posts"]) == (0, 5, 3)
    reports = reports_of(tmp_path, 2, "--author", "did:plc:nobody", out="none")
    assert [json.loads(report.read_bytes())["exit_code"] for report in reports] == [0, 0]
    done = skyexport("merge", *reports)
    assert done.returncode == 2
    assert "none of the 6 archives has a post by did:plc:nobody" in done.stderr


def test_failures_of_shards(tmp_path: Path) -> None:
    """The merged exit status is that of the first archive in the list that failed."""
    names = made(tmp_path, [f"{name}.db" for name in "abcdef"])
    (tmp_path / names[1]).write_bytes(b"nothing")
    (tmp_path / names[4]).unlink()
    merged = merge_reports(reports_of(tmp_path, 2))
    assert merged.exit_code == 10
    assert merged.values["archives_failed"] == 2
    assert [entry["status"] for entry in merged.archives] == ["ok", "failed", "ok", "ok", "failed", "ok"]
    assert [line for line in merged.sentences() if line.startswith("failed: b.db: ")]
    done = skyexport("merge", *sorted(tmp_path.glob("shard-*.json")), "--json")
    assert (done.returncode, json.loads(done.stdout)["status"]) == (10, "failed")


@pytest.mark.quick(4)
@pytest.mark.parametrize("text", ["", "3", "3/", "/3", "0/3", "4/3", "1/0", "-1/3", "1/3/5", "a/b", "1 / 3", "1.0/3"])
def test_what_is_no_shard(text: str) -> None:
    """It is refused with one line, also where the environment sets it."""
    with pytest.raises(OptionError):
        parse_shard(text)
    done = skyexport("export", "a.db", f"--shard={text}")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    if text:
        done = skyexport("export", "a.db", env={"SKYEXPORT_SHARD": text})
        assert done.returncode == 2
        assert "SKYEXPORT_SHARD" in done.stderr


def test_from_python(tmp_path: Path) -> None:
    """`export_all` takes a shard as the command does."""
    names = [str(tmp_path / name) for name in made(tmp_path, ["a.db", "b.db", "c.db"])]
    options = ExportOptions(archive=names[0], output_dir=tmp_path / "out", workers=0, sync=False)
    found = [export_all(names, options, shard=f"{number}/2") for number in (1, 2)]
    assert sorted(str(outcome.path) for migration in found for outcome in migration.outcomes) == names
    assert sum(migration.posts for migration in found) == 9
    with pytest.raises(OptionError):
        export_all(names, options, shard="3/2")


@pytest.fixture(scope="module")
def three_reports(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The reports of three shards; only to be copied."""
    folder = tmp_path_factory.mktemp("shards")
    made(folder, [f"{name}.db" for name in "abcd"])
    return reports_of(folder, 3)


@pytest.fixture
def reports(three_reports: list[Path], tmp_path: Path) -> list[Path]:
    """Copies of them, to be changed."""
    return [Path(shutil.copy(report, tmp_path)) for report in three_reports]


def changed(report: Path, **values: Any) -> None:
    report.write_text(json.dumps({**json.loads(report.read_bytes()), **values}), encoding="utf-8")


def test_reports_that_are_not_those_of_all_shards(reports: list[Path], tmp_path: Path) -> None:
    """No report is left out, counted twice, or mixed with those of another export."""
    first, second, third = reports
    cases = [
        ([first, third], "the report of shard 2 of 3 missing"),
        ([second], "the reports of shards 1, 3 of 3 missing"),
        ([first, second, third, second], "there are 2 reports of shard 2/3"),
        ([first, second, tmp_path / "no.json"], "cannot read the report"),
        ([first, second, tmp_path], "cannot read the report"),
    ]
    for paths, message in cases:
        done = skyexport("merge", *paths)
        assert (done.returncode, done.stdout) == (2, "")
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"shard": None}, "is not the report of a shard"),
        ({"shard": "3/2"}, "there is no shard 3/2"),
        ({"shard": "2/4"}, "is of 3 shards, and"),
        ({"format": "csv"}, "are of different exports: format is"),
        ({"archives": {}}, "is not the report of a shard"),
        ({"archives": [{"number": 1}]}, "is not the report of a shard"),
        ({"archives": []}, "not of the same list"),
        ({"posts": "many"}, "is not the report of a shard"),
        ({"schema_version": 99}, "is not a report of this version"),
        ({"archives_in_all_shards": 5}, "are of different exports"),
    ],
)
def test_reports_of_strangers(reports: list[Path], values: dict[str, Any], message: str) -> None:
    """A report that looks wrong never becomes a success."""
    full = max(reports, key=lambda report: len(json.loads(report.read_bytes())["archives"]))
    changed(full, **values)
    done = skyexport("merge", *reports)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_shard_that_was_stopped(reports: list[Path]) -> None:
    """A report that was cut off, or is an error, says which shard to export again."""
    whole = reports[1].read_bytes()
    for length in (0, 1, len(whole) // 2, len(whole) - 3):
        reports[1].write_bytes(whole[:length])
        with pytest.raises(OptionError, match="not a report, or only a part"):
            merge_reports(reports)
    stopped = {"schema_version": 1, "status": "failed", "exit_code": 130, "error": "stopped by a signal", "hint": ""}
    reports[1].write_text(json.dumps(stopped), encoding="utf-8")
    with pytest.raises(OptionError, match="ended with an error: stopped by a signal"):
        merge_reports(reports)


def blocks(language: str) -> dict[str, list[str]]:
    """Heading of the page → the code in this language."""
    found: dict[str, list[str]] = {}
    for section in PAGE.read_text(encoding="utf-8").replace("\n### ", "\n## ").split("\n## ")[1:]:
        heading, _, body = section.partition("\n")
        found[heading] = re.findall(rf"^```{language}\n(.*?)^```", body, re.MULTILINE | re.DOTALL)
    return found


STAND_INS = {
    # A scheduler that runs what it is given, one task after the other.
    "sbatch": 'count=$(sed -n "s/^#SBATCH --array=1-//p" "$1")\n'
    'for task in $(seq "$count"); do SLURM_ARRAY_TASK_ID=$task bash -eu "$1"; done',
    "ssh": 'shift\nexec bash -euc "$*"',
    "parallel": 'while [ "${1#-}" != "$1" ]; do shift 2; done\ncommand=$1\nshift 2\n'
    'for value in "$@"; do bash -euc "${command//\\{\\}/$value}"; done',
}


@needs_bash
@pytest.mark.quick(1)
@pytest.mark.parametrize("heading", ["Slurm", "Kubernetes", "GNU parallel", "A loop over ssh"])
def test_recipes(tmp_path: Path, heading: str) -> None:
    """Each recipe exports all archives once and merges the reports; bash stands in for the scheduler."""
    made(tmp_path, [f"{name}.db" for name in "abcdefg"])
    programs = {**STAND_INS, "skyexport": f'exec {shlex.quote(sys.executable)} -m skyexport "$@"'}
    (tmp_path / "bin").mkdir()
    for name, code in programs.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{code}\n", encoding="utf-8")
        (tmp_path / "bin" / name).chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "SKYEXPORT_NO_SYNC": "1",
    }
    code = "\n".join(blocks("sh")[heading]).replace("/srv/archives", str(tmp_path))
    if heading == "Kubernetes":
        (job,) = blocks("yaml")[heading]
        count = int(re.findall(r"completions: (\d+)", job)[0])
        assert count == int(re.findall(r"parallelism: (\d+)", job)[0])
        (command,) = re.findall(r"- (skyexport export.*?)\n *resources", job, re.DOTALL)
        command = re.sub(r"\s*\n\s*", " ", command).replace("/data", str(tmp_path))
        code = (
            f"for index in $(seq 0 {count - 1});"
            f" do JOB_COMPLETION_INDEX=$index bash -euc {shlex.quote(command)}; done\n"
        )
        code += "\n".join(blocks("sh")[heading]).replace("/data", str(tmp_path))
    if heading == "Slurm":
        (script,) = blocks("bash")[heading]
        (tmp_path / "export.sbatch").write_text(script, encoding="utf-8")
    done = subprocess.run(
        ["bash", "-euc", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "7 archives in" in done.stdout
    assert len(data_below(tmp_path / "exports")) == 7
