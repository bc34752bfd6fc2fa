"""Verifying exports: what is right passes, whatever is wrong is named, and nothing of a stranger's does harm."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import make_archive
from skyexport import ExportOptions, NoExportError, Progress, Verification, VerifyError, export, verify
from skyexport.formats import FORMATS
from skyexport.notices import Notices
from tests.archives import file_archive, post
from tests.command import skyexport, skyexport_json, started
from tests.conftest import posix_only

FLIPS = 24


def exported(archive: Path, to: Path, format: str = "json") -> Path:
    """The directory of a new export."""
    summary = export(ExportOptions(archive=archive, output_dir=to, format=format, workers=0))
    assert summary.directory is not None
    return summary.directory


@pytest.fixture(scope="module", params=list(FORMATS))
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of five posts, in each format; only to be copied."""
    folder = tmp_path_factory.mktemp("whole")
    archive = file_archive(folder / "a.db", [post(number, text=f'number "{number}",\nあ') for number in range(5)])
    return exported(archive, folder, request.param)


@pytest.fixture
def directory(whole: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "export"))


def data_file(directory: Path) -> Path:
    (found,) = directory.glob("posts.*")
    return found


def differences(directory: Path) -> list[str]:
    """What is found to differ; the error names the first."""
    with pytest.raises(VerifyError) as caught:
        verify(directory)
    found = [str(difference) for difference in caught.value.differences]
    assert caught.value.exit_code == 4
    assert found[0] in str(caught.value)
    return found


def reseal(directory: Path, **changes: Any) -> None:
    """Make manifest and checksums agree with the data file again, with *changes* in the manifest."""
    data = data_file(directory).read_bytes()
    manifest = json.loads((directory / "manifest.json").read_bytes())
    checksum = {"name": data_file(directory).name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    write_manifest(directory, json.dumps({**manifest, "checksums": [checksum], **changes}).encode())


def write_manifest(directory: Path, content: bytes) -> None:
    """Put a manifest there, and the checksums that belong to it."""
    (directory / "manifest.json").write_bytes(content)
    paths = (data_file(directory), directory / "manifest.json")
    sums = (f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in paths)
    (directory / "SHA256SUMS").write_text("".join(sums))


@pytest.mark.quick(3)
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", ["real", "sample", "edge"])
def test_contract_archives(contract_dir: Path, tmp_path: Path, name: str, format: str) -> None:
    """Exports of the contract's archives, hostile posts included, verify."""
    directory = exported(contract_dir / name / "archive.db", tmp_path, format)
    found = verify(directory)
    assert found.posts == json.loads((directory / "manifest.json").read_bytes())["post_count"]
    assert_sha256sum_accepts(directory)


def assert_sha256sum_accepts(directory: Path) -> None:
    if shutil.which("sha256sum"):
        done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=directory, capture_output=True, check=False)
        assert done.returncode == 0, done
        assert done.stdout.splitlines() == [f"{data_file(directory).name}: OK".encode(), b"manifest.json: OK"]


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="sha256sum is not installed")
def test_sha256sum_accepts(directory: Path) -> None:
    """The program that SHA256SUMS is named after reads it."""
    assert_sha256sum_accepts(directory)
    with data_file(directory).open("ab") as file:
        file.write(b"\n")
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=directory, capture_output=True, check=False)
    assert done.returncode == 1


def test_what_was_verified(small_archive: make_archive.ArchiveInfo, tmp_path: Path) -> None:
    """The result has figures and checksums; progress ends with all posts."""
    directory = exported(small_archive.path, tmp_path)
    moments: list[Progress] = []
    found = verify(str(directory), moments.append)
    assert isinstance(found, Verification)
    assert (found.directory, found.format, found.posts) == (directory, "json", 2500)
    assert found.bytes == (directory / "posts.json").stat().st_size
    assert {checksum.name for checksum in found.checksums} == {"posts.json", "manifest.json"}
    for checksum in found.checksums:
        assert checksum.sha256 == hashlib.sha256((directory / checksum.name).read_bytes()).hexdigest()
    assert found.unverified == []
    assert (moments[-1].stage, moments[-1].posts, moments[-1].fraction) == ("done", 2500, 1.0)
    assert moments[-1].bytes == found.bytes


@pytest.mark.parametrize("format", FORMATS)
def test_export_without_posts(tmp_path: Path, format: str) -> None:
    """An export that no post matched verifies."""
    found = verify(exported(file_archive(tmp_path / "a.db", []), tmp_path, format))
    assert found.posts == 0


@pytest.mark.quick(2)
def test_one_flipped_byte(directory: Path) -> None:
    """One byte changed, anywhere in any file: exit code 4, and the file is named."""
    chance = random.Random(37)
    for number in range(FLIPS):
        path = sorted(directory.iterdir())[number % 3]
        before = path.read_bytes()
        at = chance.randrange(len(before))
        path.write_bytes(before[:at] + bytes([before[at] ^ chance.randrange(1, 256)]) + before[at + 1 :])
        with pytest.raises(VerifyError, match=path.name):
            verify(directory)
        path.write_bytes(before)
    verify(directory)


@pytest.mark.parametrize("name", ["manifest.json", "SHA256SUMS", "posts"])
def test_missing_file(directory: Path, name: str) -> None:
    """A file that is gone is named, and nothing else."""
    path = data_file(directory) if name == "posts" else directory / name
    path.unlink()
    assert differences(directory) == [f"{path.name}: missing"]


@pytest.mark.parametrize("name", ["notes.txt", ".hidden", "posts.xml", "a\nb", "posts.json.partial"])
def test_extra_file(directory: Path, name: str) -> None:
    """A file that does not belong there is named."""
    (directory / name).write_text("mine")
    assert differences(directory) == [f"{name}: not part of the export"]


@pytest.mark.quick(7)
@pytest.mark.parametrize("name", [".DS_Store", "Thumbs.db", "desktop.ini", "._posts.json", ".directory", "notes.txt"])
def test_what_to_do_with_extra_files(directory: Path, name: str) -> None:
    """What file managers leave is a difference; the hint says to remove it, not to export again."""
    (directory / name).write_text("litter")
    with pytest.raises(VerifyError) as caught:
        verify(directory)
    assert caught.value.hint == "remove it: the export's own files are intact"
    assert [difference.extra for difference in caught.value.differences] == [True]
    (directory / "more").mkdir()
    with pytest.raises(VerifyError) as caught:
        verify(directory)
    assert caught.value.hint == "remove them: the export's own files are intact"
    (directory / "SHA256SUMS").unlink()
    with pytest.raises(VerifyError) as caught:
        verify(directory)
    assert caught.value.hint == "export again"


def test_extra_directories(directory: Path) -> None:
    """Directories likewise, media that no manifest tells of, and the data file of the other format."""
    (directory / "more").mkdir()
    (directory / "media").mkdir()
    (directory / "media" / "a.jpg").touch()
    other = "posts.csv" if data_file(directory).name == "posts.json" else "posts.json"
    (directory / other).touch()
    assert differences(directory) == [
        "more: not part of the export",
        f"{other}: not part of the export",
        "media: not part of the export",
    ]


def test_cut_off(directory: Path) -> None:
    """Of a file that was cut off, size, checksum and the place are told."""
    path = data_file(directory)
    size = path.stat().st_size
    os.truncate(path, size - 10)
    found = differences(directory)
    assert len(found) == 3
    assert found[0] == f"{path.name}: has {size - 10:,} bytes; manifest.json says {size:,}"
    assert "according to manifest.json and SHA256SUMS it is" in found[1]
    assert ("not Parquet" if path.suffix == ".parquet" else "cut off") in found[2]


def test_all_differences_are_found(directory: Path) -> None:
    """One does not hide the other."""
    (directory / "notes.txt").touch()
    data_file(directory).unlink()
    (directory / "SHA256SUMS").write_bytes((directory / "SHA256SUMS").read_bytes() + b"more\n")
    assert differences(directory) == [
        "SHA256SUMS: has 'more' in line 3, not the SHA-256 and the name of a file",
        f"{data_file_name(directory)}: missing",
        "notes.txt: not part of the export",
    ]


def data_file_name(directory: Path) -> str:
    (name,) = json.loads((directory / "manifest.json").read_bytes())["files"]
    return str(name)


def test_other_posts_under_right_checksums(directory: Path) -> None:
    """Where checksums agree, the posts are counted all the same."""
    reseal(directory, post_count=7)
    name = data_file(directory).name
    assert differences(directory) == [f"{name}: the number of posts is 5; manifest.json says 7"]
    data_file(directory).write_bytes(b"nothing of the kind\n")
    reseal(directory)
    (found,) = differences(directory)
    assert found.startswith(f"{name}: ")
    assert " not " in found


HOSTILE: list[tuple[bytes | dict[str, Any], str]] = [
    (b"", "not JSON"),
    (b"\xff\xfe{}", "not JSON"),
    (b"{" * 100_000, "not JSON"),
    (b"[" * 500 + b"]" * 500, "a list, not an object"),
    (b'"\\u001b]0;title"', "not an object"),
    (b" " * 20_000_001, "is larger than 20.0 MB"),
    (b"{}", "has nothing for export_format"),
    ({"export_format": "xml"}, "has 'xml' for export_format, not json or jsonl or csv or parquet"),
    ({"export_format": ["json"]}, "has a list for export_format"),
    ({"post_count": -1}, "has -1 for post_count"),
    ({"post_count": True}, "has True for post_count"),
    ({"post_count": 1e300}, "has 1e+300 for post_count"),
    ({"post_count": "5" * 1_000_000}, "for post_count, not a number of posts"),
    ({"post_count": json.loads("[" * 900 + "]" * 900)}, "has a list for post_count"),
    ({"files": "posts.json"}, "has 'posts.json' for files, not a list of names"),
    ({"files": []}, "does not name posts."),
    ({"files": ["../../secret"]}, "names '../../secret' in files"),
    ({"files": ["/etc/passwd"]}, "names '/etc/passwd' in files"),
    ({"files": [".."]}, "names '..' in files"),
    ({"files": ["a\x00b"]}, r"names 'a\x00b' in files"),
    ({"files": ["posts.json:stream"]}, "names 'posts.json:stream' in files"),
    ({"files": ["C:\\secret"]}, r"names 'C:\\secret' in files"),
    ({"files": ["x" * 300]}, "names 'xxx"),
    ({"files": [{}, 5]}, "names an object in files"),
    ({"files": ["media/ (99999999999 files)"]}, "has 0 for media_count, but 99,999,999,999 media files"),
    ({"files": ["gone.json"]}, "has no checksum of gone.json"),
    ({"media_count": "no"}, "has 'no' for media_count"),
    ({"media_count": 3}, "has 3 for media_count, but 0 media files in files"),
    ({"checksums": None}, "has nothing for checksums"),
    ({"checksums": {"name": "posts.json"}}, "has an object for checksums"),
    ({"checksums": [["posts.json"]]}, "has a list in checksums"),
    ({"checksums": [{"name": "../secret", "bytes": 1, "sha256": "0" * 64}]}, "has an object in checksums"),
    ({"checksums": [{"name": "posts.json", "bytes": "1", "sha256": "0" * 64}]}, "has an object in checksums"),
    ({"checksums": [{"name": "posts.json", "bytes": True, "sha256": "0" * 64}]}, "has an object in checksums"),
    ({"checksums": [{"name": "posts.json", "bytes": 1, "sha256": "0" * 63}]}, "has an object in checksums"),
    ({"checksums": []}, "has no checksum of posts."),
]


@pytest.mark.quick(37)  # each of them with about one format
@pytest.mark.parametrize(("content", "message"), HOSTILE, ids=[message for _, message in HOSTILE])
def test_hostile_manifests(
    directory: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | dict[str, Any], message: str
) -> None:
    """Whatever a manifest says: a line that tells what is wrong with it, and nothing outside is opened."""
    (directory.parent / "secret").write_text("secret")
    if isinstance(content, bytes):
        write_manifest(directory, content)
    else:
        reseal(directory, **content)
    opened: list[str] = []
    real_open = os.open

    def observed(path: Any, *arguments: Any, **options: Any) -> int:
        if sys.platform != "win32" and path != directory:
            assert options["dir_fd"] is not None
        opened.append(Path(path).name)
        return real_open(path, *arguments, **options)

    monkeypatch.setattr(os, "open", observed)
    found = differences(directory)
    assert found[0].startswith("manifest.json: ")
    assert any(message in line for line in found), found
    assert all(len(line) < 300 for line in found)
    names = {"export", "manifest.json", "SHA256SUMS", "media", *(f"posts.{name}" for name in FORMATS)}
    assert set(opened) <= names


@pytest.mark.quick(9)
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "has '' in line 3"),
        ("0" * 64 + "  ../secret", "in line 3"),
        ("0" * 64 + "  /etc/passwd", "in line 3"),
        ("0" * 64 + " *posts.json", "in line 3"),
        ("A" * 64 + "  gone", "in line 3"),
        ("0" * 64 + "  gone", "gone: missing"),
        ("0" * 64 + "  manifest.json", "has manifest.json again in line 3"),
        ("\x1b[2J" * 10_000, "in line 3"),
    ],
)
def test_hostile_checksums(directory: Path, line: str, message: str) -> None:
    """What is no line of ours is told, and no file outside is looked for."""
    with (directory / "SHA256SUMS").open("a") as file:
        file.write(f"{line}\n")
    (found,) = differences(directory)
    assert message in found
    assert len(found) < 300


def test_checksums_that_say_something_else(directory: Path) -> None:
    """When one of two checksums agrees with the file, it is the other one that is wrong."""
    name = data_file(directory).name
    (directory / "SHA256SUMS").write_text(
        f"{'0' * 64}  {name}\n{hashlib.sha256((directory / 'manifest.json').read_bytes()).hexdigest()}  manifest.json\n"
    )
    (found,) = differences(directory)
    assert found.startswith(f"SHA256SUMS: says that the SHA-256 of {name} is 000")


def test_checksums_that_leave_something_out(directory: Path) -> None:
    """A file without a line could have been changed: it is told."""
    (directory / "SHA256SUMS").write_bytes(b"")
    assert differences(directory) == [
        "SHA256SUMS: has no line for manifest.json",
        f"SHA256SUMS: has no line for {data_file(directory).name}",
    ]


def to_fifo(path: Path) -> None:
    os.mkfifo(path)


def to_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as end:
        here = Path.cwd()
        os.chdir(path.parent)  # Their paths have few characters.
        try:
            end.bind(path.name)
        finally:
            os.chdir(here)


def to_link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def to_link_to_the_same(path: Path) -> None:
    path.symlink_to(path.parent.parent / "taken")


def to_link_to_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@posix_only
@pytest.mark.quick(19)
@pytest.mark.parametrize(
    ("put", "kind"),
    [
        (Path.mkdir, "a directory"),
        (to_fifo, "a named pipe"),
        (to_socket, "a socket"),
        (to_link_to_itself, "a symbolic link"),
        (to_link_to_the_same, "a symbolic link"),
        (to_link_to_device, "a symbolic link"),
    ],
)
@pytest.mark.parametrize("name", ["manifest.json", "SHA256SUMS", "posts"])
def test_no_files(directory: Path, name: str, put: Callable[[Path], None], kind: str) -> None:
    """What is no plain file is named as what it is; nothing is followed, nothing waits."""
    path = data_file(directory) if name == "posts" else directory / name
    path.rename(directory.parent / "taken")
    put(path)
    assert differences(directory) == [f"{path.name}: {kind}, not a file"]


@posix_only
def test_link_to_the_directory(directory: Path) -> None:
    """The directory itself may be named by a link: the user did that."""
    (directory.parent / "latest").symlink_to(directory)
    assert verify(directory.parent / "latest").posts == 5


@posix_only
def test_names_that_are_not_utf8(directory: Path) -> None:
    """Bytes that are no text are told with replacements."""
    Path(os.fsdecode(os.fsencode(directory) + b"/\xff")).touch()
    assert differences(directory) == ["\ufffd: not part of the export"]


def test_file_that_can_not_be_read(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fails is told with the file, as what the system says."""
    read = os.read
    reads = 0

    def failing(descriptor: int, length: int) -> bytes:
        nonlocal reads
        reads += 1
        if reads == 1:
            raise OSError(5, "Input/output error")
        return read(descriptor, length)

    monkeypatch.setattr(os, "read", failing)
    assert differences(directory)[0] == "manifest.json: cannot be read: Input/output error"


def test_file_that_changes_meanwhile(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that somebody writes to is not read for ever."""
    monkeypatch.setattr(os, "read", lambda *_: b"more and more")
    assert "manifest.json: cannot be read: it is being changed" in differences(directory)


def test_no_export(tmp_path: Path) -> None:
    """Where no export is, it says so, with what to do: exit code 10."""
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    for name, message in [("file", "is not a directory"), ("empty", "no manifest.json"), ("none", "no directory")]:
        with pytest.raises(NoExportError, match=message) as caught:
            verify(tmp_path / name)
        assert caught.value.exit_code == 10
        assert caught.value.hint
    with pytest.raises(NoExportError):
        verify(tmp_path / "nul\x00")


ESTABLISHED = {
    "export_timestamp": "2026-11-23T16:10:25.351829878Z",
    "post_count": 5,
    "media_count": 2,
    "version": "dev",
}


@pytest.fixture
def established(directory: Path) -> Path:
    """An export as the established exporter leaves it: media, no checksums."""
    name = data_file(directory).name
    manifest = {"export_format": name[6:], **ESTABLISHED, "files": ["media/ (2 files)", name]}
    (directory / "manifest.json").write_text(json.dumps(manifest))
    (directory / "SHA256SUMS").unlink()
    (directory / "media").mkdir()
    for number in range(2):
        (directory / "media" / f"{number}.jpg").touch()
    return directory


def test_established_exporter(established: Path) -> None:
    """Its exports are verified as far as they allow, and the rest is told."""
    found = verify(established)
    assert (found.posts, found.media_files, found.checksums) == (5, 2, [])
    assert found.unverified == ["manifest.json", data_file(established).name, "media"]
    name = data_file(established).name
    said = f"{established}: OK: 5 posts, 2 media files, no checksums for manifest.json, {name}, media"
    assert found.sentence() == said


def test_damage_of_the_established_exporters_files(established: Path) -> None:
    """What can be seen without checksums is seen."""
    (established / "media" / "0.jpg").unlink()
    (established / "media" / "more").mkdir()
    os.truncate(data_file(established), 300)
    cut_off, more, media = differences(established)
    assert ("not Parquet" if data_file(established).suffix == ".parquet" else "cut off") in cut_off
    assert more == "media/more: not part of the export"
    assert media == "media: the number of files is 1; manifest.json says 2"
    shutil.rmtree(established / "media")
    assert differences(established)[-1] == "media: missing"
    (established / "media").touch()
    assert differences(established)[-1] == "media: a file, not a directory"


@pytest.mark.parametrize("format", ["json", "csv"])
def test_contract_manifests(contract_dir: Path, tmp_path: Path, format: str) -> None:
    """The manifests that the established exporter wrote are understood."""
    (tmp_path / "media").mkdir()
    for name in (contract_dir / "sample" / "media.txt").read_text().split():
        (tmp_path / "media" / name).touch()
    shutil.copyfile(contract_dir / "sample" / f"posts.{format}", tmp_path / f"posts.{format}")
    shutil.copyfile(contract_dir / "sample" / f"manifest.{format}.json", tmp_path / "manifest.json")
    found = verify(tmp_path)
    assert (found.posts, found.media_files) == (1409, 52)


@pytest.mark.quick(1)
def test_memory(directory: Path) -> None:
    """A post of 60 MB is verified in a fraction of its size."""
    if data_file(directory).suffix == ".parquet":
        pytest.skip("a table is read by pyarrow, whose memory this does not see")
    before, number, after = data_file(directory).read_bytes().partition(b"number ")
    with data_file(directory).open("wb") as file:
        file.write(before)
        for _ in range(60):
            file.write(number + b"x" * 1_000_000)
        file.write(after)
    reseal(directory)
    tracemalloc.start()
    try:
        assert verify(directory).posts == 5
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 40_000_000


def test_manifests_stay_small() -> None:
    """However long the uris of odd posts are, a manifest stays below what is read of it."""
    notices = Notices()
    media = ("missing_media", "unreadable_media", "damaged_media")
    for kind in ("unreadable_time", "unreadable_json", "unreadable_count", "invalid_utf8", *media):
        for _ in range(200):
            notices.add(kind, "\x01" * 1_000_000)
    assert len(json.dumps(notices.places)) < 4_500_000


@pytest.mark.quick(2)
def test_command(directory: Path) -> None:
    """One line on standard output when all is well."""
    done = skyexport("verify", directory)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{directory}: OK: 5 posts, all checksums match\n"
    found = skyexport_json("verify", directory)
    assert (found["schema_version"], found["status"], found["posts"], found["unverified"]) == (1, "ok", 5, [])


@pytest.mark.quick(2)
def test_command_with_differences(directory: Path) -> None:
    """A line each on standard output, the first in the error, exit code 4; names of strangers do no harm."""
    (directory / "a\x1b]0;b\x07\x9b").touch()
    data_file(directory).unlink()
    done = skyexport("verify", directory)
    assert done.returncode == 4
    missing = f"{data_file_name(directory)}: missing"
    assert done.stdout.splitlines() == [missing, r"a\x1b]0;b\x07\x9b: not part of the export"]
    (error,) = done.stderr.splitlines()
    assert error.startswith(f"skyexport: {directory} differs from its manifest: {missing}, and 1 more")
    failed = skyexport_json("verify", directory, status=4)
    assert (failed["exit_code"], failed["differences"][0]["file"]) == (4, data_file_name(directory))
    assert failed["differences"][1] == {
        "file": "a\x1b]0;b\x07\x9b", "what": "not part of the export", "extra": True,
    }  # fmt: skip
    assert "\x9b" not in skyexport("verify", directory, "--json").stdout


def test_command_without_export(tmp_path: Path) -> None:
    """Exit code 10 in one line, also as an object; a traceback on demand only."""
    done = skyexport("verify", tmp_path)
    assert (done.returncode, len(done.stderr.splitlines()), done.stdout) == (10, 1, "")
    assert "no manifest.json" in skyexport_json("verify", tmp_path, status=10)["error"]
    assert "Traceback" in skyexport("verify", tmp_path, "--debug").stderr


@pytest.mark.slow
@posix_only
@pytest.mark.parametrize("whole", ["json"], indirect=True)
def test_progress_and_interrupt(directory: Path) -> None:
    """A file that takes long shows progress; Ctrl-C ends that at once, and says what it means."""
    os.truncate(data_file(directory), 1 << 40)
    process = started("verify", directory)
    try:
        assert process.stderr is not None
        began = time.monotonic()
        line = process.stderr.readline()
        assert time.monotonic() - began < 5
        assert "of 5 posts" in line
        process.send_signal(signal.SIGINT)
        said, error = process.communicate(timeout=2)
    finally:
        process.kill()
    assert process.returncode == 130
    assert said == ""
    assert error == "skyexport: stopped by a signal; not everything was verified\n"


@pytest.mark.slow  # one of a hundred was aborted, on a busy machine
@pytest.mark.parametrize("whole", ["parquet"], indirect=True)
def test_the_end_of_a_damaged_table(directory: Path) -> None:
    """No thread of pyarrow is in the way when the process ends."""
    os.truncate(data_file(directory), 3000)
    with ThreadPoolExecutor(4) as pool:
        ends = list(pool.map(lambda _: skyexport("verify", directory).returncode, range(400)))
    assert set(ends) == {4}
