"""A newer repository is imported into an archive, and something goes wrong at a random time."""

from __future__ import annotations

import atexit
import contextlib
import functools
import shutil
import signal
import sqlite3
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import libipld

from skyexport import import_repository
from tests.car_files import Repository, blob, raw_cid, tid
from tests.command import PROGRAM
from tests.faults.matrix import trials
from tests.faults.privileges import small_disk
from tests.faults.trial import Ended, Run, Trial

WAYS = ("KILL", "INT", "TERM")
USUAL_SECONDS = 0.9
"""In which the command starts, and imports the file."""

OLD_POSTS, POSTS = 300, 2500
IMAGES = 60
START = 1_700_000_000_000_000


@dataclass(frozen=True, slots=True)
class Ground:
    """An archive, a newer repository for it, and what must come of them."""

    archive: Path
    car: Path
    blobs: Path
    rows: list[str]


@functools.cache
def ground() -> Ground:
    """Made once a process."""
    folder = Path(tempfile.mkdtemp(prefix="skyexport-imports-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    made = Ground(folder / "me.db", folder / "newer.car", folder / "blobs", [])
    import_repository(repository(OLD_POSTS).write(folder / "older.car"), made.archive)
    repository(POSTS).write(made.car)
    made.blobs.mkdir()
    for number in range(IMAGES):
        (made.blobs / libipld.encode_cid(raw_cid(image(number)))).write_bytes(image(number))
    shutil.copyfile(made.archive, folder / "new.db")
    import_repository(made.car, folder / "new.db", blobs=made.blobs, remove_gone=True)
    made.rows.extend(rows(folder / "new.db"))
    return made


def image(number: int) -> bytes:
    return b"image %d " % number * 999


def repository(posts: int) -> Repository:
    """Each tenth post is gone in the newer one."""
    made = Repository(revision=tid(START + posts * 10**9))
    for number in range(posts):
        shown = {"$type": "app.bsky.embed.images", "images": [{"alt": "", "image": blob(image(number))}]}
        embed = {"embed": shown} if number < IMAGES else {}
        if number % 10 or posts == OLD_POSTS:
            made.add({"text": f"post {number}", "createdAt": "2023-11-14T22:13:20Z", **embed}, tid(START + number))
    return made


def rows(archive: Path) -> list[str]:
    """All that the archive has."""
    with contextlib.closing(sqlite3.connect(f"file:{archive}?mode=ro", uri=True)) as connection:
        assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
        return [line for line in connection.iterdump() if "posts_fts_" not in line]


def started(trial: Trial, archive: Path) -> Run:
    """The import, going on."""
    made = ground()
    command = [*PROGRAM, "import", str(made.car), "--to", str(archive), "--blobs", str(made.blobs), "--remove-gone"]
    return Run([*command, "-q"], env=trial.environment())


def check(trial: Trial, archive: Path, ended: Ended, *, killed: bool) -> None:
    """The archive is the old one or the new one, whole; nothing else is there; and the next import makes it new."""
    made = ground()
    files = {path.name: path for path in archive.parent.rglob("*") if path.is_file()}
    hidden = [name for name in files if name.startswith(".")]
    whole = [path.read_bytes() for name, path in files.items() if name.endswith(".jpg")]
    assert set(whole) <= {image(number) for number in range(IMAGES)}
    if archive.read_bytes() == made.archive.read_bytes():
        assert ended.status != 0
        assert killed or not hidden
        assert killed or not (archive.parent / "media").exists()
    else:
        assert rows(archive) == made.rows
    # In its first moments the program dies of a signal without a word.
    if ended.status > 0:
        assert len(ended.errors.splitlines()) == 1, ended.errors
    again = started(trial, archive).end()
    assert again.status == 0, again.errors
    assert rows(archive) == made.rows
    assert not list(archive.parent.rglob(".*"))
    assert len(list(archive.parent.rglob("*.jpg"))) == IMAGES - IMAGES // 10


@trials("import", quick=3, full=120)
def test_import_is_disturbed(trial: Trial) -> None:
    """Killed or stopped at a random time, an import leaves the old archive, or the new one."""
    archive = trial.place / "into" / "me.db"
    archive.parent.mkdir()
    shutil.copyfile(ground().archive, archive)
    way = WAYS[trial.number % len(WAYS)]
    run = started(trial, archive)
    time.sleep(trial.random.uniform(0.1, USUAL_SECONDS))
    number = getattr(signal, f"SIG{way}")
    run.process.send_signal(number)
    ended = run.end()
    assert ended.status in (0, -number, 128 + number), ended
    check(trial, archive, ended, killed=way == "KILL")


@trials("import", quick=1, full=40)
def test_import_on_a_full_disk(trial: Trial) -> None:
    """Without room the archive stays as it was, and one line says why."""
    made = ground()
    size = made.archive.stat().st_size
    with small_disk(trial, size + trial.random.randrange(20_000, 3_000_000)) as place:
        archive = place / "into" / "me.db"
        archive.parent.mkdir()
        shutil.copyfile(made.archive, archive)
        ended = started(trial, archive).end()
        assert ended.status in (0, 12), ended
        if ended.status:
            assert "into" in ended.errors
            assert archive.read_bytes() == made.archive.read_bytes()
            assert [path.name for path in archive.parent.iterdir()] == ["me.db"]
        else:
            assert rows(archive) == made.rows
