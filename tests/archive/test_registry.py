"""--register: a finished export in the archive's own list of exports."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apsw
import pytest

import make_archive
from skyexport import ArchiveBusyError, ArchiveError, ExportOptions, ExportSummary, OptionError, OutputError, export
from skyexport.runtime.for_tests import on_reached
from tests.archives import file_archive, post, run_sql
from tests.command import files_below, skyexport, skyexport_json
from tests.conftest import limits

DID = "did:plc:abc"

COLUMNS = (
    *("id", "did", "format", "created_at", "directory_path", "post_count", "media_count", "size_bytes"),
    *("date_range_start", "date_range_end", "manifest_path"),
)


def home(tmp_path: Path, *statements: str, wal: bool = False, schema_version: int = 3) -> Path:
    """The directory where bskyarchive runs, with its archive in `data/` as it has it."""
    (tmp_path / "home" / "data").mkdir(parents=True)
    archive = tmp_path / "home" / "data" / "archive.db"
    file_archive(archive, [post(number) for number in range(50)], wal=wal, schema_version=schema_version)
    run_sql(archive, *statements)
    return tmp_path / "home"


def registered(place: Path, **options: Any) -> ExportSummary:
    return export(
        ExportOptions(
            archive=place / "data" / "archive.db", output_dir=place / "exports", author=DID, register=True, sync=False,
            **options,
        )
    )  # fmt: skip


def listed(place: Path) -> list[dict[str, Any]]:
    """The list of exports, as bskyarchive reads it."""
    with contextlib.closing(apsw.Connection(str(place / "data" / "archive.db"))) as connection:
        rows = connection.execute("select * from exports where did = ? order by created_at desc", (DID,))
        return [dict(zip(COLUMNS, row, strict=True)) for row in rows]


@pytest.mark.parametrize("wal", [False, True])
@pytest.mark.parametrize("format", ["json", "csv"])
def test_the_row(tmp_path: Path, wal: bool, format: str) -> None:
    """The row is what bskyarchive writes for such an export of its own, and all that was changed."""
    place = home(tmp_path, wal=wal)
    archive = place / "data" / "archive.db"
    before = everything_else(archive)
    files_before = files_below(place / "data")
    began = int(time.time())
    summary = registered(place, format=format, since="2024-01-01", until="2024-12-31")
    assert summary.directory is not None
    stamp = summary.directory.name
    (row,) = listed(place)
    size = sum(path.stat().st_size for path in summary.directory.rglob("*") if path.is_file())
    assert began <= row.pop("created_at") <= time.time()
    assert row == {
        "id": f"{DID}/{stamp}",
        "did": DID,
        "format": format,
        "directory_path": f"./exports/{summary.directory.parent.name}/{stamp}",
        "post_count": 50,
        "media_count": 0,
        "size_bytes": size,
        "date_range_start": int(datetime(2024, 1, 1, tzinfo=UTC).timestamp()),
        "date_range_end": int(datetime(2024, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()),
        "manifest_path": f"exports/{summary.directory.parent.name}/{stamp}/manifest.json",
    }
    assert summary.registered == row["id"]
    assert everything_else(archive) == before
    assert files_below(place / "data") == files_before
    with contextlib.closing(apsw.Connection(str(archive))) as connection:
        assert connection.pragma("journal_mode") == ("wal" if wal else "delete")
        assert connection.pragma("integrity_check") == "ok"
    # As bskyarchive opens it: relative to where it runs.
    assert (place / row["directory_path"] / "manifest.json").is_file()
    assert (place / row["manifest_path"]).is_file()


def everything_else(archive: Path) -> dict[str, list[Any]]:
    """What the archive holds beside its list of exports."""
    with contextlib.closing(apsw.Connection(str(archive))) as connection:
        names = [str(row[1]) for row in connection.execute("pragma table_list") if row[2] == "table"]
        found = {
            name: connection.execute(f'select * from "{name}"').fetchall()
            for name in sorted(names)
            if name != "exports"
        }
        found["schema"] = connection.execute("select type, name, sql from sqlite_schema").fetchall()
        return found


def test_size_with_media(tmp_path: Path) -> None:
    """Media are counted, and all files of the export are in its size."""
    place = tmp_path / "home"
    (place / "data").mkdir(parents=True)
    archive = make_archive.make_archive(place / "data" / "archive.db", posts=200, seed=4, authors=1, media=True).path
    with contextlib.closing(apsw.Connection(str(archive))) as connection:
        did = connection.execute("select did from posts limit 1").get
    summary = skyexport_json("export", archive, "--author", str(did), "--media", "--register", "-o", place / "exports")
    files = [path for path in Path(summary["directory"]).rglob("*") if path.is_file()]
    assert summary["media_files"] > 0
    with contextlib.closing(apsw.Connection(str(archive))) as connection:
        found = connection.execute("select media_count, size_bytes from exports").fetchall()
    assert found == [(summary["media_files"], sum(path.stat().st_size for path in files))]


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_exports_that_lie_elsewhere(tmp_path: Path) -> None:
    """The directory `exports` may be a link to another disk: bskyarchive follows it."""
    place = home(tmp_path)
    (tmp_path / "disk").mkdir()
    (place / "exports").symlink_to(tmp_path / "disk")
    assert registered(place).registered is not None
    assert (place / listed(place)[0]["directory_path"]).is_dir()


def test_without_dates_and_twice(tmp_path: Path) -> None:
    """No bounds are NULL; every export has a row of its own."""
    place = home(tmp_path)
    ids = {registered(place).registered for _ in range(2)}
    rows = listed(place)
    assert {row["id"] for row in rows} == ids
    assert len(ids) == 2
    assert {row["date_range_start"] for row in rows} == {row["date_range_end"] for row in rows} == {None}


def test_command(tmp_path: Path) -> None:
    """Run where bskyarchive runs, as its help says."""
    place = home(tmp_path)
    done = skyexport("export", "data/archive.db", "--author", DID, "--register", cwd=place)
    assert done.returncode == 0
    assert f"registered in the archive as {listed(place)[0]['id']}" in done.stderr
    found = skyexport_json("export", place / "data/archive.db", "--author", DID, "--register", "-o", place / "exports")
    assert found["registered"] in {row["id"] for row in listed(place)}
    tried = skyexport("export", "data/archive.db", "--author", DID, "--register", "--dry-run", cwd=place)
    assert tried.returncode == 0
    assert len(listed(place)) == 2


@pytest.mark.parametrize(
    "options",
    [{"author": None}, {"to": Path("x.json"), "author": DID}, {"author": DID, "output_dir": Path("elsewhere")}],
)
def test_layouts_that_are_not_taken(tmp_path: Path, options: dict[str, Any]) -> None:
    """What bskyarchive would not list, or not find, is refused before anything is written."""
    place = home(tmp_path)
    before = files_below(tmp_path)
    with pytest.raises(OptionError):
        export(
            ExportOptions(
                **{
                    "archive": place / "data" / "archive.db",
                    "output_dir": place / "exports",
                    "register": True,
                    **options,
                }
            )
        )
    with pytest.raises(OptionError, match="exports"):
        export(
            ExportOptions(
                archive=place / "data" / "archive.db",
                author=DID,
                output_dir=tmp_path / "exports" / "exports",
                register=True,
            )
        )
    assert files_below(tmp_path) == before


@pytest.mark.parametrize(
    ("statements", "message"),
    [
        (["drop table exports"], "no list of exports"),
        (["alter table exports add column extra"], "not as bskyarchive creates it"),
        (["alter table exports drop column manifest_path"], "not as bskyarchive creates it"),
        (["drop table exports", "create view exports as select * from posts"], "not as bskyarchive creates it"),
        (["drop table exports", "create virtual table exports using fts5(id)"], "not as bskyarchive creates it"),
        (
            ["create trigger t after insert on exports begin delete from posts; end"],
            "has a trigger",
        ),
        (["create trigger t after insert on EXPORTS begin delete from posts; end"], "has a trigger"),
    ],
)
def test_lists_of_another_shape(tmp_path: Path, statements: list[str], message: str) -> None:
    """A list that is not as bskyarchive makes it is not written to, and no export is made."""
    place = home(tmp_path, *statements)
    before = (place / "data" / "archive.db").read_bytes()
    with pytest.raises(ArchiveError, match=message) as caught:
        registered(place)
    assert caught.value.hint
    assert not (place / "exports").exists()
    assert (place / "data" / "archive.db").read_bytes() == before


def test_old_schema(tmp_path: Path) -> None:
    """Archives of before there was such a list have none."""
    with pytest.raises(ArchiveError, match="no list of exports"):
        registered(home(tmp_path, schema_version=2))


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="who may write anywhere is refused nothing")
def test_archive_that_may_not_be_written_to(tmp_path: Path) -> None:
    """Nor can it be registered in; that is noticed before."""
    place = home(tmp_path)
    (place / "data" / "archive.db").chmod(0o400)
    with pytest.raises(ArchiveError, match=r"cannot write to .*, so nothing can be registered there"):
        registered(place)
    assert not (place / "exports").exists()


def test_archive_that_must_be_recovered(tmp_path: Path) -> None:
    """An archive whose program was stopped while writing is not written to: that would recover it."""
    place = home(tmp_path)
    archive = place / "data" / "archive.db"
    left = tmp_path / "left"
    (left / "data").mkdir(parents=True)
    with contextlib.closing(apsw.Connection(str(archive))) as writer:
        writer.pragma("cache_size", 1)
        writer.execute("begin; update posts set text = hex(zeroblob(2000))")
        writer.cache_flush()
        for name in ("archive.db", "archive.db-journal"):
            shutil.copy(place / "data" / name, left / "data" / name)
        writer.execute("rollback")
    before = (left / "data" / "archive.db").read_bytes()
    with pytest.raises(ArchiveError, match="stopped while writing"):
        registered(left)
    assert (left / "data" / "archive.db").read_bytes() == before


def hold(archive: Path, seconds: float) -> None:
    """Have another program begin to write, for so long."""
    began = threading.Event()

    def work() -> None:
        with contextlib.closing(apsw.Connection(str(archive))) as writer:
            writer.execute("begin immediate")
            began.set()
            time.sleep(seconds)
            writer.execute("rollback")

    threading.Thread(target=work).start()
    began.wait()


def test_another_program_writes(tmp_path: Path) -> None:
    """A short write is waited for; of one that lasts it is said that the export is complete all the same."""
    place = home(tmp_path)
    archive = place / "data" / "archive.db"
    with on_reached("registering", lambda _: hold(archive, 0.2)):
        assert registered(place).registered is not None
    with (
        limits(REGISTER_BUSY_MILLISECONDS=10),
        contextlib.closing(apsw.Connection(str(archive))) as other,
        on_reached("registering", lambda _: other.execute("begin immediate")),
        pytest.raises(ArchiveBusyError, match="is complete, but could not be registered") as caught,
    ):
        registered(place)
    assert caught.value.exit_code == 11
    directories = [path for path in (place / "exports").glob("*/*") if not path.name.startswith(".")]
    assert len(directories) == 2
    assert len(listed(place)) == 1
    for directory in directories:
        assert skyexport("verify", directory).returncode == 0


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (apsw.FullError("disk full"), OutputError, 12),
        (apsw.IOError("io"), OutputError, 12),
        (apsw.CorruptError("x"), ArchiveError, 10),
    ],
)
def test_errors_while_registering(tmp_path: Path, error: Exception, kind: type[Exception], code: int) -> None:
    """Whatever keeps the row from being written, the export stays, and the message says so."""
    place = home(tmp_path)

    def fail(_: object) -> None:
        raise error

    said = "is complete, but could not be registered"
    with on_reached("registering", fail), pytest.raises(kind, match=said) as caught:
        registered(place)
    assert getattr(caught.value, "exit_code", 0) == code
    (directory,) = (path for path in (place / "exports").glob("*/*") if path.is_dir())
    assert json.loads((directory / "manifest.json").read_bytes())["post_count"] == 50
    assert listed(place) == []


def test_a_trigger_that_comes_meanwhile(tmp_path: Path) -> None:
    """The list is looked at again when it is written to, in the same transaction; a trigger never runs."""
    place = home(tmp_path)

    def change(_: object) -> None:
        run_sql(place / "data" / "archive.db", "create trigger t after insert on exports begin delete from posts; end")

    with on_reached("registering", change), pytest.raises(ArchiveError, match=r"is complete.*has a trigger"):
        registered(place)
    assert listed(place) == []
    with contextlib.closing(apsw.Connection(str(place / "data" / "archive.db"))) as connection:
        assert connection.execute("select count(*) from posts").get == 50


def test_an_archive_that_was_replaced(tmp_path: Path) -> None:
    """Only the archive that was exported is written to."""
    place = home(tmp_path)
    archive = place / "data" / "archive.db"

    def replace(_: object) -> None:
        shutil.copy(archive, tmp_path / "other.db")
        (tmp_path / "other.db").replace(archive)

    with on_reached("registering", replace), pytest.raises(ArchiveError, match=r"is complete.*was replaced"):
        registered(place)
    assert listed(place) == []
