"""--since-last and --keep: chains of exports, found, continued and removed by what their manifests say."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw
import pytest

from skyexport import ExportOptions, ExportSummary, OptionError, UnrelatedExportError, VerifyError, export, export_all
from skyexport.layout import EXPORT_NAME
from skyexport.options.export_options import resolve
from skyexport.output.places import place_lock
from skyexport.output.retention import remove_old_chains
from skyexport.runtime.for_tests import on_reached
from tests.archives import file_archive, insert, post, uri_of
from tests.command import files_below, skyexport, skyexport_json
from tests.conftest import posix_only


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return file_archive(tmp_path / "a.db", [post(number) for number in range(5)])


def add(archive: Path, number: int) -> None:
    with contextlib.closing(apsw.Connection(str(archive))) as connection:
        insert(connection, post(number))


class Nights:
    """Exports of one archive into one place, night after night."""

    def __init__(self, archive: Path, **options: Any) -> None:
        self.options = ExportOptions(
            archive=archive, output_dir=archive.parent / "out", workers=0, sync=False, **options
        )
        self.said: list[str] = []
        self._next = 1000

    def night(self, **options: Any) -> ExportSummary:
        """One more post, and then an export."""
        add(Path(self.options.archive), self._next)
        self._next += 1
        self.said.clear()
        return export(replace(self.options, **options), say=self.said.append)

    def since_last(self, **options: Any) -> ExportSummary:
        return self.night(since_last=True, **options)

    @property
    def place(self) -> Path:
        return Path(self.options.output_dir) / "all"

    @property
    def there(self) -> list[str]:
        return sorted(path.name for path in self.place.iterdir())


def directory_of(summary: ExportSummary) -> Path:
    assert summary.directory is not None
    return summary.directory


def names(*summaries: ExportSummary) -> list[str]:
    return sorted(directory_of(summary).name for summary in summaries)


def test_the_first_is_full_and_the_others_follow(archive: Path) -> None:
    """Without an earlier export a full one is made, and a line says so; then each is an increment to all before it."""
    nights = Nights(archive)
    first = nights.since_last()
    assert (first.posts, first.since_export) == (6, [])
    assert nights.said == [f"{nights.place} has no full export of this archive with these options: this one is full"]
    second = nights.since_last()
    assert (second.posts, second.since_export) == (1, [directory_of(first)])
    assert nights.said == [f"increment to {first.directory}"]
    third = nights.since_last()
    assert third.since_export == [directory_of(first), directory_of(second)]
    assert nights.said == [f"increment to {first.directory} and its increment"]
    manifest = json.loads((directory_of(third) / "manifest.json").read_bytes())
    assert [one["directory"] for one in manifest["since_export"]] == [directory_of(one).name for one in (first, second)]
    assert manifest["options"] == {}


def test_order_comes_from_manifests(archive: Path) -> None:
    """What directories are called makes no difference: not the -2 of the same second, nor another name of its kind."""
    nights = Nights(archive)
    made = [nights.since_last() for _ in range(4)]
    swapped = ["2030-01-01_00-00-00", "2020-01-01_00-00-00-10", "2020-01-01_00-00-00-9", "2020-01-01_00-00-00"]
    for summary, name in zip(made, swapped, strict=True):
        directory_of(summary).rename(nights.place / name)
    assert [path.name for path in nights.since_last().since_export] == swapped


def test_the_newest_full_export_counts(archive: Path) -> None:
    """A new full export begins a new chain; the old one has nothing to do with it."""
    nights = Nights(archive)
    nights.night()
    nights.since_last()
    full = nights.night()
    assert nights.since_last().since_export == [directory_of(full)]


@pytest.mark.quick(2)
@pytest.mark.parametrize(
    "other",
    [
        {"format": "csv"},
        {"since": "2020-01-01"},
        {"compress": "gzip"},
        {"split_posts": 2},
        {"media": True},
        {"strict": True},
    ],
    ids=str,
)
def test_other_options_are_another_chain(archive: Path, other: dict[str, Any]) -> None:
    """An export with other options is never taken, nor one that is an increment to it."""
    nights = Nights(archive)
    first = nights.since_last()
    mixed = nights.night(since_export=[directory_of(first)], **other)
    assert nights.since_last(**other).since_export == []
    assert nights.since_last().since_export == [directory_of(first)]
    assert mixed.posts == 1


def test_another_archive_is_never_taken(archive: Path, tmp_path: Path) -> None:
    """An archive that exports into the same place has a chain of its own; one put in its place is refused."""
    nights = Nights(archive)
    first = nights.since_last()
    other = Nights(file_archive(tmp_path / "b.db", [post(number, uri=f"at://other/{number}") for number in range(9)]))
    assert other.since_last().since_export == []
    assert nights.since_last().since_export == [directory_of(first)]
    before = nights.there
    shutil.copy(other.options.archive, archive)
    with contextlib.closing(apsw.Connection(str(archive))) as connection:
        connection.execute("delete from posts where uri not like 'at://other/%'")
    with pytest.raises(UnrelatedExportError):
        export(replace(nights.options, since_last=True))
    assert nights.there == before


def test_a_damaged_chain_ends_the_export(archive: Path) -> None:
    """An increment to what is not as it was would be wrong: it is told, and nothing is written."""
    nights = Nights(archive)
    first = nights.since_last()
    nights.since_last()
    assert first.path is not None
    first.path.write_bytes(first.path.read_bytes() + b" ")
    before = files_below(nights.place)
    with pytest.raises(VerifyError):
        nights.since_last()
    assert files_below(nights.place) == before


def test_strangers_in_the_place(archive: Path) -> None:
    """Whatever else lies there is no part of a chain, and is not removed."""
    nights = Nights(archive)
    first = nights.since_last()
    for number, manifest in enumerate(
        [b"[]", b"{", b'{"export_timestamp": 1}', b'{"export_timestamp": "2030-01-01T00:00:00Z", "since_export": [1]}']
    ):
        directory = nights.place / f"2020-01-01_00-00-0{number}"
        directory.mkdir()
        (directory / "manifest.json").write_bytes(manifest)
    (nights.place / "2020-01-01_00-00-09").write_text("a file")
    (nights.place / "mine").mkdir()
    copy = shutil.copytree(directory_of(first), nights.place / "2029-01-01_00-00-00")
    second = nights.since_last(keep=1)
    assert second.since_export in ([directory_of(first)], [Path(copy)])
    third = nights.night(keep=1)
    assert len(third.removed) == 2
    assert len(nights.there) == 8


def test_keep_counts_chains(archive: Path) -> None:
    """A full export and its increments count as one; the oldest go whole, and each is named."""
    nights = Nights(archive)
    chain = [[nights.night(keep=2), *(nights.since_last(keep=2) for _ in range(2))] for _ in range(2)]
    assert nights.there == names(*chain[0], *chain[1])
    last = nights.night(keep=2)
    assert sorted(path.name for path in last.removed) == names(*chain[0])
    assert nights.said == [f"removed {directory_of(one)}" for one in reversed(chain[0])]
    assert nights.there == names(*chain[1], last)
    assert nights.since_last(keep=1).removed
    assert len(nights.there) == 2


def test_other_exports_are_not_counted(archive: Path, tmp_path: Path) -> None:
    """Exports with other options and of other archives stay, whatever there is of them."""
    nights = Nights(archive)
    others = [nights.night(format="csv"), nights.night(format="csv")]
    elsewhere = Nights(file_archive(tmp_path / "b.db", [post(7)]))
    others += [elsewhere.night(), elsewhere.night()]
    first, second = nights.night(keep=1), nights.night(keep=1)
    assert second.removed == [directory_of(first)]
    assert nights.there == names(*others, second)


def test_what_a_kept_increment_depends_on_stays(archive: Path) -> None:
    """A chain stays when an export of other options, which stays, is an increment to it."""
    nights = Nights(archive)
    first = nights.night()
    second = nights.night()
    other = nights.night(format="csv", since_export=[directory_of(first)])
    third = nights.night(keep=1)
    assert third.removed == [directory_of(second)]
    assert nights.there == names(first, other, third)
    mixed = nights.night(since_export=[directory_of(first), directory_of(third)], keep=1)
    assert mixed.removed == []


@pytest.mark.parametrize("where", ["notes.txt", "media/mine.jpg", ".DS_Store"])
def test_a_directory_with_other_files_stays(archive: Path, where: str) -> None:
    """A file of somebody's in an export, or one that is missing, keeps the whole chain, and a line says which it is."""
    nights = Nights(archive)
    first = nights.night()
    nights.since_last()
    (directory_of(first) / where).parent.mkdir(exist_ok=True)
    (directory_of(first) / where).write_text("mine")
    before = nights.there
    last = nights.night(keep=1)
    assert last.removed == []
    assert nights.there == sorted([*before, *names(last)])
    name = where.partition("/")[0]
    assert nights.said == [f"note: not removed: {first.directory} has {name}, which is not part of the export"]


def test_media_are_looked_through(archive: Path, tmp_path: Path) -> None:
    """An export with media goes; one with a file too many or too few in media/ stays."""
    digest = "a" * 64
    with contextlib.closing(apsw.Connection(str(archive))) as connection:
        connection.execute(
            "insert into media (hash, post_uri, mime_type, file_path, size_bytes)"
            " values (?, ?, 'image/jpeg', 'x.jpg', 1)",
            (digest, uri_of(post(1))),
        )
    (tmp_path / "x.jpg").write_text("x")
    nights = Nights(archive, media=True)
    first = nights.night()
    media = directory_of(first) / "media"
    assert len(list(media.iterdir())) == 1
    (media / "extra.jpg").write_text("mine")
    assert nights.night(keep=1).removed == []
    (media / "extra.jpg").unlink()
    assert len(nights.night(keep=1).removed) == 2
    assert len(nights.there) == 1


def test_the_new_export_is_verified_first(archive: Path) -> None:
    """A new export that is not what was written ends with exit code 4, and nothing is removed."""
    nights = Nights(archive)
    nights.night()
    before = nights.there

    def damage(_: object) -> None:
        (new,) = set(nights.there) - set(before)
        with (nights.place / new / "posts.json").open("ab") as data:
            data.write(b" ")

    with on_reached("complete", damage), pytest.raises(VerifyError):
        nights.night(keep=1)
    assert len(nights.there) == len(before) + 1


@posix_only
def test_a_killed_removal_is_swept(archive: Path) -> None:
    """A run that is killed while it removes leaves no export with a whole name and half of its files."""
    nights = Nights(archive)
    first = nights.night()
    nights.night()
    program = (
        "import os, shutil, signal, skyexport.runtime.lock as lock\n"
        "from skyexport import ExportOptions, export\n"
        "def half(path, **_):\n"
        "    os.unlink(os.path.join(path, 'posts.json')); os.kill(os.getpid(), signal.SIGKILL)\n"
        "shutil.rmtree = half\n"
        "import sys\n"
        "export(ExportOptions(archive=sys.argv[1], output_dir=sys.argv[2], workers=0, keep=2))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, archive, nights.options.output_dir], capture_output=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    hidden = [path for path in nights.place.iterdir() if path.name.endswith(".removed")]
    assert [path.name.startswith(f".{directory_of(first).name}-") for path in hidden] == [True]
    last = nights.since_last()
    assert nights.said[0].startswith("removed leftovers of killed exports: ")
    assert not hidden[0].exists()
    assert len(last.since_export) == 1
    assert all(EXPORT_NAME.fullmatch(name) for name in nights.there)


def test_another_run_at_the_same_time(archive: Path) -> None:
    """While another run holds the place nothing is removed, and a line says so."""
    nights = Nights(archive)
    nights.night()
    new = directory_of(nights.night())
    said: list[str] = []
    with place_lock(nights.place):
        resolved = resolve(replace(nights.options, keep=1))
        assert remove_old_chains(resolved, None, archive.resolve(), new, said.append) == []
    assert len(said) == 1
    assert said[0].startswith(f"note: no old export was removed from {nights.place}: another export")
    assert len(nights.there) == 2


@pytest.mark.quick(1)
@pytest.mark.parametrize("workers", [0, 2])
def test_many_archives_have_chains_of_their_own(tmp_path: Path, workers: int) -> None:
    """Each archive has its own chain in its own place; one that has not changed is skipped with --resume-batch."""
    archives = [file_archive(tmp_path / f"{name}.db", [post(1), post(2)]) for name in "abc"]
    options = ExportOptions(
        archive=archives[0], output_dir=tmp_path / "out", workers=workers, since_last=True, keep=1, sync=False
    )
    said: list[str] = []
    assert export_all(archives, options, say=said.append).posts == 6
    assert len([line for line in said if line.endswith("this one is full")]) == 3
    add(archives[1], 5)
    again = export_all(archives, options, resume_batch=True)
    assert [one.status for one in again.outcomes] == ["skipped", "ok", "skipped"]
    assert again.posts == 1
    resumed = export_all(archives, options, resume_batch=True)
    assert [one.status for one in resumed.outcomes] == ["skipped"] * 3
    full = export_all(archives, replace(options, since_last=False), resume_batch=True)
    assert [one.status for one in full.outcomes] == ["skipped", "ok", "skipped"]
    assert [len(list((tmp_path / "out" / name / "all").iterdir())) for name in "abc"] == [1, 1, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"since_last": True, "since_export": ["x"]}, "--since-last finds"),
        ({"since_last": True, "to": "x.json"}, "--since-last is for export directories"),
        ({"since_last": True, "format": "csv", "columns": ("uri", "text")}, "--since-last compares the column cid"),
        ({"since_last": True, "format": "parquet", "columns": ("uri", "cid", "indexed_at")}, "the column originals"),
        ({"keep": 0}, "--keep 0"),
        ({"keep": -1}, "--keep -1"),
        ({"keep": 2, "to": "x.json"}, "--keep is for export directories"),
        ({"keep": 2, "register": True, "author": "did:plc:abc"}, "--keep would remove"),
        ({"allow_unrelated": True}, "--allow-unrelated is for"),
    ],
)
def test_options_that_contradict_each_other(options: dict[str, Any], message: str) -> None:
    """They are refused before anything is opened."""
    with pytest.raises(OptionError, match=message):
        ExportOptions(archive=Path("missing.db"), **options)


def test_command(archive: Path, tmp_path: Path) -> None:
    """As commands, night after night, with the result as one object; a dry run tells what would be."""
    out = tmp_path / "out"
    arguments = ("export", archive, "-o", out, "--since-last", "--keep", "1")
    first = skyexport_json(*arguments)
    assert (first["posts"], first["since_export"], first["removed"]) == (5, [], [])
    add(archive, 77)
    done = skyexport(*arguments, "--dry-run")
    assert done.returncode == 0
    assert f"increment to {first['directory']}" in done.stderr
    assert "1 of 6" in done.stdout
    assert skyexport_json(*arguments)["since_export"] == [first["directory"]]
    found = skyexport_json("export", archive, "-o", out, "--keep", "1", "--dry-run")
    assert sorted(found["removed"]) == sorted(map(str, (out / "all").iterdir()))
    assert skyexport_json(*arguments, "--dry-run")["removed"] == []
    full = skyexport("export", archive, "-o", out, "--keep", "1", "-q")
    assert (full.returncode, full.stderr) == (0, "")
    assert len(list((out / "all").iterdir())) == 1
    assert skyexport("export", archive, "-o", out, "--keep", "two").returncode == 2
