"""--dry-run: what an export would do, with nothing written."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

import make_archive
from skyexport import AlreadyRunningError, ExportError, ExportOptions, OutputError, export
from skyexport.options.export_options import resolve
from skyexport.output.destination import destination_of
from skyexport.pipeline.dry_run import dry_run
from tests.archives import file_archive, post
from tests.command import PROGRAM, files_below, skyexport, skyexport_json

pytestmark = pytest.mark.usefixtures("scratch_folder")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of an archive with media, of which some are missing, and a full-text index."""
    place = tmp_path_factory.mktemp("archive")
    make_archive.make_archive(place / "a.db", posts=3000, seed=8, authors=5, ties=1100, offset_share=0.1, media=True)
    return place


@pytest.fixture
def archive(made: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(made, tmp_path / "archive"), "a.db")


def largest_author(archive: Path) -> str:
    with contextlib.closing(apsw.Connection(str(archive))) as connection:
        found = connection.execute("select did from posts group by did order by count(*) desc limit 1").get
    assert isinstance(found, str)
    return found


@pytest.mark.quick(3)
@pytest.mark.parametrize(
    ("format", "narrower"),
    [
        ("json", {}),
        ("csv", {"author": True}),
        ("json", {"since": "2024-01-01"}),
        ("csv", {"match": "a*"}),
        ("json", {"media": True}),
        ("csv", {"match": "a*", "media": True}),
    ],
)
def test_what_is_said_is_what_happens(archive: Path, tmp_path: Path, format: str, narrower: dict[str, Any]) -> None:
    """Posts, batches, workers, media, dates and size are those of the export, and nothing is left by saying so."""
    narrower = dict(narrower)
    if narrower.pop("author", False):
        narrower["author"] = largest_author(archive)
    options = ExportOptions(
        archive=archive, output_dir=tmp_path / "out", format=format, batch_size=100, workers=0, **narrower
    )
    before = files_below(tmp_path)
    found = dry_run(options)
    assert files_below(tmp_path) == before
    summary = export(options)
    assert (found.posts, found.batches, found.workers) == (summary.posts, summary.batches, summary.workers)
    assert (found.media_files, found.media_bytes) == (summary.media_files, summary.media_bytes)
    assert found.expected_bytes == pytest.approx(summary.bytes, rel=0.1)
    assert summary.directory is not None
    assert found.place == summary.directory.parent
    assert found.fits is True
    assert found.disappeared is None
    assert found.copies_posts is False
    if format == "json":
        assert summary.path is not None
        created = [one["created_at"] for one in json.loads(summary.path.read_bytes())]
        assert (found.first_post, found.last_post) == (created[-1], created[0])


def test_since_export(archive: Path, tmp_path: Path) -> None:
    """What is new and what disappeared is said, too; and that posts would be copied first."""
    first = export(ExportOptions(archive=archive, output_dir=tmp_path / "out"))
    with contextlib.closing(apsw.Connection(str(archive))) as connection:
        connection.execute("delete from posts where rowid <= 2; update posts set cid = 'x' where rowid = 3")
    before = files_below(tmp_path)
    assert first.directory is not None
    for snapshot in ("pin", "copy"):
        found = dry_run(ExportOptions(archive=archive, since_export=[first.directory], snapshot=snapshot))
        assert (found.posts, found.archive_posts, found.disappeared) == (1, 2998, 2)
        assert found.copies_posts is (snapshot == "copy")
    assert files_below(tmp_path) == before


def test_command(archive: Path, tmp_path: Path, scratch_folder: Path) -> None:
    """As text and as an object on standard output."""
    before = files_below(tmp_path)
    done = skyexport("export", archive, "--dry-run", "-o", tmp_path / "out", "--media")
    assert done.returncode == 0
    assert "3,000 of 3,000" in done.stdout
    assert "it fits" in done.stdout
    assert done.stdout.endswith("nothing was written\n")
    found = skyexport_json("export", archive, "--dry-run", "-o", tmp_path / "out", "-j", "2", "--snapshot", "copy")
    assert found["dry_run"] is True
    assert (found["posts"], found["workers"], found["copies_posts"]) == (3000, 2, True)
    assert found["place"] == str(tmp_path / "out" / "all")
    nothing = skyexport_json("export", archive, "--dry-run", "--to", tmp_path / "x.json", "--since", "2099-01-01")
    assert (nothing["posts"], nothing["expected_bytes"], nothing["first_post"]) == (0, 3, None)
    assert skyexport("export", archive, "--dry-run", "--to", "-").stdout.count("standard output") == 1
    assert files_below(tmp_path) == before
    assert files_below(scratch_folder) == []


def same_failure(*arguments: str | Path, **more: Any) -> int:
    """The exit status of a dry run, and of the export."""
    tried = skyexport("export", *arguments, "--dry-run", **more)
    done = skyexport("export", *arguments, **more)
    assert tried.returncode == done.returncode != 0, tried.stderr + done.stderr
    assert tried.stderr == done.stderr
    assert tried.stdout == ""
    return tried.returncode


def test_failures_of_options_and_archives(archive: Path, tmp_path: Path) -> None:
    """What ends an export at its start ends the dry run, with the same words."""
    plain = file_archive(tmp_path / "plain.db", [post()])
    assert same_failure(archive, "--since", "never") == 2
    assert same_failure(archive, "--match", "a AND", "-o", tmp_path / "out") == 2
    assert same_failure(tmp_path / "none.db") == 10
    assert same_failure(plain, "--match", "a") == 10
    assert same_failure(archive, "--since-export", tmp_path / "none") == 10
    assert same_failure(archive, "--register") == 2
    assert same_failure(archive, "--register", "--author", "did:plc:a", "-o", tmp_path / "elsewhere") == 2
    assert not (tmp_path / "out").exists()


def test_failures_of_the_place(archive: Path, tmp_path: Path) -> None:
    """A place that can not be written to, or has something in it already, is noticed."""
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "directory").mkdir()
    assert same_failure(archive, "--to", tmp_path / "file") == 12
    assert same_failure(archive, "--to", tmp_path / "directory") == 12
    assert same_failure(archive, "--to", tmp_path / "none" / "x.json") == 12
    assert same_failure(archive, "-o", tmp_path / "file") == 12
    assert same_failure(archive, "--to", archive, "--overwrite") == 2
    (tmp_path / ".x.json.lock").write_bytes(b"somebody's own")
    assert same_failure(archive, "--to", tmp_path / "x.json") == 12


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="who may write anywhere notices nothing")
def test_a_place_that_may_not_be_written_to(archive: Path, tmp_path: Path) -> None:
    """Neither may a directory be made there."""
    (tmp_path / "closed").mkdir(mode=0o500)
    assert same_failure(archive, "-o", tmp_path / "closed") == 12


@pytest.mark.parametrize("to", [True, False])
def test_another_export_is_running(archive: Path, tmp_path: Path, to: bool) -> None:
    """A place that another export holds is noticed, and the lock stays as it is."""
    place: dict[str, Any] = {"to": tmp_path / "x.json"} if to else {"output_dir": tmp_path / "out"}
    options = ExportOptions(archive=archive, **place)
    from datetime import UTC, datetime

    running = destination_of(resolve(options), None, datetime.now(UTC))
    running.open()
    try:
        before = files_below(tmp_path)
        with pytest.raises(AlreadyRunningError, match="is running"):
            dry_run(options)
        assert files_below(tmp_path) == before
    finally:
        running.abort()
    assert dry_run(options).posts == 3000


@pytest.mark.quick(1)
def test_no_room(archive: Path, tmp_path: Path, small_disk: Callable[[int, str], None]) -> None:
    """What surely does not fit ends it as it ends the export; what probably does not is said."""
    options = ExportOptions(archive=archive, output_dir=tmp_path / "out")
    size = dry_run(options).expected_bytes
    small_disk(10_000, "ext4")
    with pytest.raises(OutputError, match="needs"):
        dry_run(options)
    small_disk(size - 1, "ext4")
    found = dry_run(options)
    assert found.fits is False
    assert "it would not fit" in "\n".join(found.lines())


def test_an_archive_at_work(tmp_path: Path) -> None:
    """The archive is not changed, nor held longer than it takes."""
    archive = file_archive(tmp_path / "a.db", [post(number) for number in range(100)], wal=True)
    before = archive.read_bytes()
    with contextlib.closing(apsw.Connection(str(archive))) as writer:
        assert dry_run(ExportOptions(archive=archive)).posts == 100
        writer.execute("delete from posts where rowid = 1")
        assert dry_run(ExportOptions(archive=archive)).posts == 99
    archive.write_bytes(before)
    try:
        dry_run(ExportOptions(archive=archive))
    except ExportError as error:  # pragma: no cover
        pytest.fail(str(error))
    assert archive.read_bytes() == before


def test_nothing_is_opened_for_writing(archive: Path, tmp_path: Path) -> None:
    """A dry run of an ordinary export opens nothing for writing and makes nothing, temporary files included."""
    program = (
        "import os, sys\n"
        "writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT\n"
        "def look(event, arguments):\n"
        "    if event in ('os.mkdir', 'os.rename', 'os.remove', 'os.rmdir'):\n"
        "        raise SystemExit(f'{event} {arguments}')\n"
        "    if event == 'open' and isinstance(arguments[2], int) and arguments[2] & writing:\n"
        "        raise SystemExit(f'{event} {arguments}')\n"
        "sys.addaudithook(look)\n"
        "from pathlib import Path\n"
        "from skyexport import ExportOptions\n"
        "from skyexport.pipeline.dry_run import dry_run\n"
        "print(dry_run(ExportOptions(archive=Path(sys.argv[1]), output_dir=Path(sys.argv[2]))).posts)\n"
    )
    done = subprocess.run(
        [PROGRAM[0], "-B", "-c", program, str(archive), str(tmp_path / "out")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "3000\n"), done.stderr
