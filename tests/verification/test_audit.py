"""Verifying many exports by one command."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from skyexport import AuditProgress, ExportOptions, OptionError, StoppedError, export, verify_all
from tests.archives import file_archive, post
from tests.command import skyexport, skyexport_json, started
from tests.conftest import posix_only


@pytest.fixture
def exports(tmp_path: Path) -> list[Path]:
    """Three exports of one archive, in `out/all`."""
    archive = file_archive(tmp_path / "a.db", [post(number) for number in range(5)])
    options = ExportOptions(archive=archive, output_dir=tmp_path / "out", workers=0, sync=False)
    found = [export(options).directory for _ in range(3)]
    return sorted(path for path in found if path is not None)


def damage(directory: Path) -> None:
    data = directory / "posts.json"
    data.write_bytes(data.read_bytes().replace(b"Hello", b"Hallo", 1))


def test_any_number(exports: list[Path]) -> None:
    """Each has its line, and one line sums them up; named twice, an export is verified once."""
    done = skyexport("verify", *exports, exports[0])
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[:-1] == [f"{path}: OK: 5 posts, all checksums match" for path in exports]
    assert lines[-1] == "3 exports: 3 OK"
    assert skyexport("verify", *exports, "-q").stdout == ""
    assert skyexport("verify", exports[0], "-q").stdout == ""


def test_differences(exports: list[Path], tmp_path: Path) -> None:
    """Lines name the export and the file; the exit status is that of the first which is not as it was."""
    damage(exports[1])
    done = skyexport("verify", *exports, tmp_path / "none")
    assert done.returncode == 4
    assert [line for line in done.stdout.splitlines() if line.startswith(f"{exports[1]}: posts.json: has the SHA-256")]
    assert done.stdout.splitlines()[-1] == "4 exports: 2 OK, 1 differs, 1 missing or not an export"
    assert done.stderr.splitlines() == [
        f"skyexport: there is no directory {tmp_path / 'none'}; `skyexport export` prints where exports are"
    ]
    quiet = skyexport("verify", *exports, "--quiet")
    assert quiet.returncode == 4
    assert all(line.startswith(f"{exports[1]}: ") for line in quiet.stdout.splitlines())
    found = skyexport_json("verify", tmp_path / "none", *exports, status=10)
    assert (found["status"], found["exit_code"]) == ("failed", 10)
    assert (found["exports_ok"], found["exports_differing"], found["exports_missing"]) == (2, 1, 1)
    assert [one["status"] for one in found["exports"]] == ["no export", "ok", "differs", "ok"]
    assert found["exports"][1]["posts"] == 5
    assert found["exports"][2]["differences"][0]["file"] == "posts.json"


def test_recursive(exports: list[Path], tmp_path: Path) -> None:
    """Every export below is found, in order; what grows or is removed is none, what lost its manifest is one."""
    out = tmp_path / "out"
    other = out / "me" / "did:plc:abc" / "2020-01-01_00-00-00"
    shutil.copytree(exports[0], other)
    shutil.copytree(exports[0], out / "all" / ".2020-01-01_00-00-00-0123abcd.partial")
    (out / "notes").mkdir()
    done = skyexport("verify", "--recursive", out)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[:-1] == [f"{path}: OK: 5 posts, all checksums match" for path in (*exports, other)]
    assert lines[-1] == "4 exports: 4 OK"
    assert skyexport_json("verify", "-r", exports[0], out / "all")["exports_ok"] == 3

    (exports[0] / "manifest.json").unlink()
    (exports[1] / "manifest.json").unlink()
    (exports[1] / "SHA256SUMS").unlink()
    found_json = skyexport_json("verify", "-r", out, status=4)
    assert [one["status"] for one in found_json["exports"]] == ["differs", "no export", "ok", "ok"]


def test_nothing_to_verify(tmp_path: Path) -> None:
    """A directory without exports, one that is not there, and a file are no success."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    for name, message in (("empty", "no export below"), ("none", "cannot read"), ("file", "cannot read")):
        done = skyexport("verify", "-r", tmp_path / name)
        assert done.returncode == 10, done.stderr
        assert message in done.stderr
        assert done.stdout == "1 export: 0 OK, 1 missing or not an export\n"
    assert skyexport("verify", "-r", "").returncode == 2
    with pytest.raises(OptionError):
        verify_all(["", tmp_path])


@posix_only
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root reads everything")
def test_a_directory_that_cannot_be_read(exports: list[Path], tmp_path: Path) -> None:
    """It is named, and the others are verified all the same."""
    (tmp_path / "out" / "locked").mkdir(mode=0)
    found = skyexport_json("verify", "-r", tmp_path / "out", status=10)
    assert (found["exports_ok"], found["exports_missing"]) == (len(exports), 1)


def test_from_python(exports: list[Path]) -> None:
    """verify_all gives each export's result as soon as it is known; progress ends with all of them."""
    moments: list[AuditProgress] = []
    told: list[str] = []
    found = verify_all(exports, moments.append, on_export=lambda one: told.append(one.status))
    assert told == ["ok"] * 3
    assert (found.exit_code, json.loads(json.dumps(found.to_dict()))["exports_ok"]) == (0, 3)
    last = moments[-1]
    assert (last.stage, last.exports, last.exports_to_do, last.posts, last.fraction) == ("done", 3, 3, 15, 1.0)
    assert "verifying, 3 of 3 exports, 15 posts" in last.sentence()

    def stop(_: object) -> None:
        raise StoppedError(2)

    with pytest.raises(StoppedError, match=r"stopped by a signal; \d of 3 exports"):
        verify_all(exports, on_export=stop)


@pytest.mark.quick(1)
@posix_only
def test_ctrl_c(slow_archive: Path, tmp_path: Path) -> None:
    """Ctrl-C ends it with one line that says how many were verified."""
    directory = export(ExportOptions(archive=slow_archive, output_dir=tmp_path / "out", sync=False)).directory
    assert directory is not None
    for number in range(8):
        shutil.copytree(directory, directory.with_name(f"2020-01-01_00-00-0{number}"), copy_function=os.link)
    process = started("verify", "-r", tmp_path / "out")
    assert process.stdout is not None
    assert ": OK: " in process.stdout.readline()
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "of 9 exports were verified" in said
