"""Media files that are not what the archive says, and paths of media that lead elsewhere."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import apsw

from tests.faults import invariants
from tests.faults.matrix import trials
from tests.faults.privileges import NOBODY, needs_nobody, small_disk, workers_of_nobody
from tests.faults.trial import Ended, Trial, json_summary

GOOD = 6
"""Media files of each trial with which nothing is wrong."""

SECRET = b"canary-secret " * 50
"""Content of a file outside of the directory of media, which must not get into an export."""


@dataclass(frozen=True, slots=True)
class Media:
    """The media of a trial."""

    trial: Trial
    content: bytes
    sha256: str
    """Of the file that is tampered with."""

    @property
    def root(self) -> Path:
        """The directory that paths are relative to."""
        return self.trial.archive.parent

    @property
    def usual_path(self) -> str:
        """The path that a file of this hash has."""
        return usual_path(self.sha256)

    @property
    def file(self) -> Path:
        """The file that is tampered with."""
        return self.root / self.usual_path

    @property
    def secret(self) -> Path:
        """A file outside, of somebody else's."""
        return self.trial.place / "secret.jpg"

    def elsewhere(self) -> Path:
        """A directory outside, that has a file of the same name, and another content."""
        folder = self.trial.place / "elsewhere"
        folder.mkdir()
        (folder / self.file.name).write_bytes(SECRET)
        return folder


def usual_path(sha256: str) -> str:
    """Where bskyarchive puts a file."""
    return f"media/{sha256[:2]}/{sha256[2:4]}/{sha256}.jpg"


def add(trial: Trial, sha256: Stored, file_path: Stored, size: int = 1) -> None:
    """A row of the archive's media table, for any post."""
    with contextlib.closing(apsw.Connection(str(trial.archive))) as connection:
        connection.execute(
            "insert into media (hash, post_uri, mime_type, file_path, size_bytes)"
            " select ?, uri, 'image/jpeg', ?, ? from posts order by random() limit 1",
            (sha256, file_path, size),
        )


def media_of(trial: Trial) -> Media:
    """Some good files, and one that is good as well, and not yet in the archive."""
    sizes = (0, 299, 69_999)
    contents = [bytes([number]) + trial.random.randbytes(trial.random.choice(sizes)) for number in range(GOOD + 1)]
    for content in contents:
        file = trial.archive.parent / usual_path(hashlib.sha256(content).hexdigest())
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    for content in contents[:GOOD]:
        sha256 = hashlib.sha256(content).hexdigest()
        add(trial, sha256, usual_path(sha256), len(content))
    media = Media(trial, contents[GOOD], hashlib.sha256(contents[GOOD]).hexdigest())
    media.secret.write_bytes(SECRET)
    return media


def check(trial: Trial, ended: Ended, kind: str, copied: int) -> None:
    """The export is whole, names what is wrong, and has nothing that it must not have."""
    assert len(trial.check(ended, {0}, data=trial.ground.json)) == 1
    summary = json_summary(ended)
    assert summary["warnings"] == ({kind: 1} if kind else {})
    assert summary["media_files"] == copied
    (folder,) = trial.out.glob("*/*")
    files = list((folder / "media").iterdir())
    assert len(files) == copied
    for file in files:
        assert not file.is_symlink()
        assert SECRET[:20] not in file.read_bytes()
        if kind != "damaged_media":
            assert hashlib.sha256(file.read_bytes()).hexdigest() == file.stem


def export(trial: Trial, *before: str) -> Ended:
    """Export with media."""
    workers = trial.random.choice((0, 0, 2))
    chosen = workers_of_nobody(workers) if before else str(workers)
    snapshot = trial.random.choice(("pin", "copy"))
    return trial.start("-j", chosen, "--json", "--media", "--snapshot", snapshot, before=before).end()


# --- Files ------------------------------------------------------------------------------------------------------


def _cut(media: Media) -> None:
    os.truncate(media.file, media.trial.random.randrange(len(media.content)))


def _flip(media: Media) -> None:
    changed = bytearray(media.content)
    changed[media.trial.random.randrange(len(changed))] ^= 1 << media.trial.random.randrange(8)
    media.file.write_bytes(changed)


def _pipe(media: Media) -> None:
    media.file.unlink()
    os.mkfifo(media.file)


def _directory(media: Media) -> None:
    media.file.unlink()
    media.file.mkdir()


def _socket(media: Media) -> None:
    media.file.unlink()
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as made, contextlib.chdir(media.file.parent):
        made.bind(media.file.name)


def _link(media: Media) -> None:
    media.file.unlink()
    media.file.symlink_to(media.secret)


def _link_to_itself(media: Media) -> None:
    media.file.unlink()
    media.file.symlink_to(media.file.name)


def _linked_parent(media: Media) -> None:
    shutil.rmtree(media.file.parent)
    media.file.parent.symlink_to(media.elsewhere(), target_is_directory=True)


def _hard_link(media: Media) -> None:
    media.file.unlink()
    media.file.hardlink_to(media.secret)


def _file_in_the_way(media: Media) -> None:
    shutil.rmtree(media.file.parent)
    media.file.parent.write_bytes(b"")


FILES: dict[str, tuple[Callable[[Media], None], str, bool]] = {
    "missing": (lambda media: media.file.unlink(), "missing_media", False),
    "missing directory": (lambda media: shutil.rmtree(media.file.parent), "missing_media", False),
    "cut off": (_cut, "damaged_media", True),
    "a bit flipped": (_flip, "damaged_media", True),
    "empty": (lambda media: os.truncate(media.file, 0), "damaged_media", True),
    "pipe": (_pipe, "unreadable_media", False),
    "directory": (_directory, "unreadable_media", False),
    "socket": (_socket, "unreadable_media", False),
    "link": (_link, "unreadable_media", False),
    "link to itself": (_link_to_itself, "unreadable_media", False),
    "linked parent": (_linked_parent, "unreadable_media", False),
    "hard link to a secret": (_hard_link, "unreadable_media", False),
    "a file where a directory should be": (_file_in_the_way, "unreadable_media", False),
}
"""A fault of a file → how to make it, the warning, and whether the file is copied all the same."""


@trials("media-files", quick=1, full=20 * len(FILES))
def test_media_file(trial: Trial) -> None:
    """A media file that is not what it should be is named, is not waited for, and does not end the export."""
    make, kind, copied = list(FILES.values())[trial.number * 5 % len(FILES)]
    media = media_of(trial)
    add(trial, media.sha256, media.usual_path, len(media.content))
    make(media)
    trial.remember()
    check(trial, export(trial), kind, GOOD + copied)


@trials("media-files", quick=1, full=20)
def test_media_of_somebody_else(trial: Trial) -> None:
    """So is one that may not be read."""
    needs_nobody()
    media = media_of(trial)
    add(trial, media.sha256, media.usual_path)
    (media.file.parent if trial.number % 2 else media.file).chmod(0)
    trial.out.mkdir()
    trial.out.chmod(0o777)
    trial.remember()
    check(trial, export(trial, *NOBODY), "unreadable_media", GOOD)


@trials("media-files", quick=1, full=20)
def test_media_that_change(trial: Trial) -> None:
    """A file that grows, shrinks or changes while it is copied ends nothing; a file without a warning is intact."""
    media = media_of(trial)
    media.file.write_bytes(content := trial.random.randbytes(8_000_000))
    sha256 = hashlib.sha256(content).hexdigest()
    add(trial, sha256, media.usual_path, len(content))
    trial.remember()
    changes = (lambda: media.file.write_bytes(content[:-1]), lambda: os.truncate(media.file, 10**7))
    with again_and_again(lambda: trial.random.choice(changes)(), lambda: media.file.write_bytes(content)):
        ended = export(trial)
    warnings = json_summary(ended)["warnings"]
    assert warnings in ({}, {"damaged_media": 1})
    check(trial, ended, *warnings, *[""] * (not warnings), copied=GOOD + 1)  # type: ignore[misc]


@trials("full-disk", quick=0, full=20)
def test_disk_is_full_of_media(trial: Trial) -> None:
    """If the data fit on the disk and the media do not, nothing is left, and the message says why."""
    media = media_of(trial)
    size = 3_000_000
    content = trial.random.randbytes(size)
    sha256 = hashlib.sha256(content).hexdigest()
    media.file.write_bytes(content)
    # If the archive has the true size, the export is refused at once; otherwise later.
    add(trial, sha256, media.usual_path, trial.random.choice((size, 1, -5)))
    trial.remember()
    share = trial.random.uniform(0.05, 0.95)
    with small_disk(trial, len(trial.ground.json) + 200_000 + int(size * share)) as place:
        trial.out = place / "out"
        ended = export(trial)
        trial.check_failed(ended, {12})
        assert "space" in ended.errors


# --- Paths ------------------------------------------------------------------------------------------------------

Stored = str | bytes | int | None

Case = tuple[Callable[[Media], Stored], Callable[[Media], Stored], str, bool]

PATHS: dict[str, Case] = {
    "as bskyarchive has it": (lambda m: m.sha256, lambda m: m.usual_path, "", True),
    "absolute, but below the root": (lambda m: m.sha256, lambda m: str(m.file), "", True),
    "capital suffix": (lambda m: m.sha256, lambda m: renamed(m, ".JPG"), "", True),
    "stored as BLOB": (lambda m: m.sha256, lambda m: m.usual_path.encode(), "", True),
    "hash stored as BLOB": (lambda m: m.sha256.encode(), lambda m: m.usual_path, "unreadable_media", False),
    "absolute": (lambda m: m.sha256, lambda m: str(m.secret), "unreadable_media", False),
    "system file": (lambda m: m.sha256, lambda _: "/etc/passwd.jpg", "unreadable_media", False),
    "system file without suffix": (lambda m: m.sha256, lambda _: "/etc/passwd", "unreadable_media", False),
    "upwards": (lambda m: m.sha256, lambda _: "../secret.jpg", "unreadable_media", False),
    "down and upwards": (lambda m: m.sha256, lambda _: "media/../../secret.jpg", "unreadable_media", False),
    "absolute and upwards": (lambda m: m.sha256, lambda m: f"{m.root}/../secret.jpg", "unreadable_media", False),
    "dot": (lambda m: m.sha256, lambda m: f"./{m.usual_path}", "unreadable_media", False),
    "two slashes": (lambda m: m.sha256, lambda m: m.usual_path.replace("/", "//"), "unreadable_media", False),
    "only upwards": (lambda m: m.sha256, lambda _: "..", "unreadable_media", False),
    "directory": (lambda m: m.sha256, lambda _: "media/", "unreadable_media", False),
    "empty": (lambda m: m.sha256, lambda _: "", "unreadable_media", False),
    "NUL": (lambda m: m.sha256, lambda m: f"{m.usual_path}\0.jpg", "unreadable_media", False),
    "a name too long": (lambda m: m.sha256, lambda _: "x" * 300 + ".jpg", "unreadable_media", False),
    "a path too long": (lambda m: m.sha256, lambda _: "x/" * 5000 + "y.jpg", "unreadable_media", False),
    "very deep": (lambda m: m.sha256, lambda _: "x/" * 1000 + "y.jpg", "missing_media", False),
    "backslashes": (lambda m: m.sha256, lambda _: "..\\secret.jpg", "unreadable_media", False),
    "no UTF-8": (lambda m: m.sha256, lambda _: b"media/\xff\xfe.jpg", "missing_media", False),
    "escape": (lambda m: m.sha256, lambda _: "media/\x1b]0;x\x07.jpg", "missing_media", False),
    "device": (lambda m: m.sha256, lambda _: "CON.jpg", "missing_media", False),
    "another suffix": (lambda m: m.sha256, lambda m: renamed(m, ".exe"), "unreadable_media", False),
    "trailing dot": (lambda m: m.sha256, lambda m: renamed(m, ".jpg."), "unreadable_media", False),
    "a number": (lambda m: m.sha256, lambda _: 7, "unreadable_media", False),
    "hash with a path": (lambda _: "../../../x", lambda m: m.usual_path, "unreadable_media", False),
    "hash in capitals": (lambda m: m.sha256.upper() + "A", lambda m: m.usual_path, "unreadable_media", False),
    "short hash": (lambda m: m.sha256[:63], lambda m: m.usual_path, "unreadable_media", False),
    "no hash": (lambda _: "", lambda m: m.usual_path, "unreadable_media", False),
    "hash that is NULL": (lambda _: None, lambda m: m.usual_path, "unreadable_media", False),
    "another file's hash": (lambda _: "0" * 64, lambda m: m.usual_path, "damaged_media", True),
}
"""An odd row → hash, path, the warning, and whether the file is copied."""


def renamed(media: Media, suffix: str) -> str:
    """The path of the file, once it has another suffix."""
    return media.file.rename(media.file.with_suffix(suffix)).relative_to(media.root).as_posix()


@trials("paths", quick=1, full=4 * len(PATHS))
def test_media_path(trial: Trial) -> None:
    """With any hash and path in an archive, only plain files below the root are read, and get names of our own."""
    hash_of, path_of, kind, copied = list(PATHS.values())[trial.number * 7 % len(PATHS)]
    media = media_of(trial)
    add(trial, hash_of(media), path_of(media))
    trial.remember()
    ended = export(trial)
    check(trial, ended, kind, GOOD + copied)
    assert "\x1b" not in ended.errors


# --- Races ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def again_and_again(*steps: Callable[[], object]) -> Iterator[None]:
    """Do this all the time, from another thread."""
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            for step in steps:
                step()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@trials("race", quick=1, full=1000)
def test_media_paths_are_swapped(trial: Trial) -> None:
    """A name that becomes a link to elsewhere in between, and a file again, never leads there."""
    media = media_of(trial)
    add(trial, media.sha256, media.usual_path)
    trial.remember()
    elsewhere = media.elsewhere()
    swapped = media.file if trial.number % 2 else media.file.parent
    link, kept = trial.place / "link", trial.place / "kept"
    link.symlink_to(elsewhere / media.file.name if trial.number % 2 else elsewhere)

    def there() -> None:
        swapped.rename(kept)
        link.rename(swapped)

    def back() -> None:
        swapped.rename(link)
        kept.rename(swapped)

    with again_and_again(there, back):
        ended = trial.export(workers=0, media=True)
    assert ended.status == 0
    (data,) = trial.check(ended, {0}, data=trial.ground.json)
    files = list((data.parent / "media").iterdir())
    assert len(files) in (GOOD, GOOD + 1)
    for file in files:
        assert hashlib.sha256(file.read_bytes()).hexdigest() == file.stem
    assert invariants.fingerprint(elsewhere)
