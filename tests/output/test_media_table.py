"""media.csv: which posts show which file of an export."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from pathlib import Path
from typing import Any

import apsw
import pytest

from skyexport import ExportOptions, ExportSummary, OptionError, VerifyError, verify
from tests.archives import RawText, file_archive, post
from tests.command import skyexport, skyexport_json
from tests.media_files import add_media, cid_of, exported, images, name_of

HEADER = "File,URI,MimeType,Size,Width,Height,AltText"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Five posts; the first two have a file each, the third shows that of the first, the fourth has a lost one."""
    folder = tmp_path / "in"
    folder.mkdir()
    rows = [post(number, has_media=1, did=f"did:plc:{number % 2}") for number in range(5)]
    rows[2]["embed_data"] = images(cid_of(b"media of 0"))
    path = file_archive(folder / "archive.db", rows)
    for number in (0, 1):
        add_media(path, b"media of %d" % number, number)
    add_media(path, b"lost", 3, there=False)
    run(path, "update media set width = 640, height = 480, alt_text = 'a cat' where post_uri like '%0'")
    return path


def run(archive: Path, sql: str, *values: Any) -> None:
    with contextlib.closing(apsw.Connection(str(archive))) as connection:
        connection.execute(sql, values)


def table_of(summary: ExportSummary) -> bytes:
    assert summary.directory is not None
    return (summary.directory / "media.csv").read_bytes()


def rows_of(summary: ExportSummary, delimiter: str = ",") -> list[list[str]]:
    """The table without its header."""
    text = table_of(summary).decode("utf-8-sig")
    return list(csv.reader(io.StringIO(text, newline="\n"), delimiter=delimiter))[1:]


def uri(number: int) -> str:
    return str(post(number)["uri"])


@pytest.mark.parametrize("format", ["json", "jsonl", "csv", "parquet"])
@pytest.mark.parametrize("snapshot", ["pin", "copy"])
def test_a_row_for_each_file_and_post(archive: Path, format: str, snapshot: str) -> None:
    """By file, then by post: of files that are in the export, and of no others."""
    summary = exported(archive, format=format, snapshot=snapshot)
    lines = table_of(summary).decode("utf-8-sig").splitlines()
    first, second = (f"media/{name_of(b'media of %d' % number)}" for number in (0, 1))
    expected = [
        f"{first},{uri(0)},image/jpeg,10,640,480,a cat",
        f"{first},{uri(2)},image/jpeg,10,640,480,a cat",
        f"{second},{uri(1)},image/jpeg,10,,,",
    ]
    assert lines == [HEADER, *sorted(expected)]
    assert summary.directory is not None
    assert {row[0] for row in rows_of(summary)} == {f"media/{path.name}" for path in summary.directory.glob("media/*")}


@pytest.mark.quick(1)
@pytest.mark.parametrize("snapshot", ["pin", "copy"])
def test_bytes_do_not_depend_on_the_way(archive: Path, snapshot: str) -> None:
    """The same for any workers, batches, snapshots and formats of posts."""
    expected = table_of(exported(archive))
    for options in ({"workers": 2}, {"batch_size": 1}, {"format": "jsonl"}, {"sync": False}):
        assert table_of(exported(archive, snapshot=snapshot, **options)) == expected


def test_only_exported_posts(archive: Path) -> None:
    """A selection has rows for its own posts only, whoever the archive remembers for a file."""
    summary = exported(archive, author="did:plc:1")
    assert [row[1] for row in rows_of(summary)] == [uri(1)]
    run(archive, "delete from posts where uri = ?", uri(0))
    assert {row[1] for row in rows_of(exported(archive, author="did:plc:0"))} == {uri(2)}


def test_in_manifest_and_checksums(archive: Path) -> None:
    """The manifest has it under a key of its own, with its checksum; `files` is as bskyarchive has it."""
    summary = exported(archive)
    assert summary.directory is not None
    manifest = json.loads((summary.directory / "manifest.json").read_bytes())
    assert manifest["files"] == ["media/ (2 files)", "posts.json"]
    assert manifest["media_table"] == {"name": "media.csv", "rows": 3}
    assert [file["name"] for file in manifest["checksums"]] == ["posts.json", "media.csv"]
    assert [file.name for file in summary.files] == ["posts.json", "media.csv", "manifest.json", "SHA256SUMS"]
    names = [line.split("  ")[1] for line in (summary.directory / "SHA256SUMS").read_text().splitlines()]
    assert names[:3] == ["posts.json", "media.csv", "manifest.json"]
    assert "media.csv" in [checksum.name for checksum in verify(summary.directory).checksums]


def test_verify(archive: Path) -> None:
    """A table that is changed, missing, or not expected is a difference, and so is one without a checksum."""
    directory = exported(archive).directory
    assert directory is not None
    table, manifest = directory / "media.csv", directory / "manifest.json"
    content = table.read_bytes()

    def differences() -> list[str]:
        with pytest.raises(VerifyError) as caught:
            verify(directory)
        return [str(difference) for difference in caught.value.differences]

    table.write_bytes(content.replace(b"cat", b"dog"))
    assert differences()[0].startswith("media.csv: has the SHA-256")
    table.unlink()
    assert differences() == ["media.csv: missing"]
    table.write_bytes(content)
    assert verify(directory).media_files == 2
    claims = json.loads(manifest.read_bytes())
    wrongs: list[object] = [{"name": "../x", "rows": 1}, "media.csv", [], {"name": "posts.json"}]
    for wrong in wrongs:
        manifest.write_text(json.dumps({**claims, "media_table": wrong}))
        assert any("media_table" in line for line in differences())
    manifest.write_text(json.dumps({**claims, "checksums": claims["checksums"][:1]}))
    assert "manifest.json: has no checksum of media.csv" in differences()


def test_only_with_media(archive: Path) -> None:
    """Without --media there is none; with it there always is, also when there is no file."""
    summary = exported(archive, media=False)
    assert summary.directory is not None
    assert not (summary.directory / "media.csv").exists()
    assert "media_table" not in json.loads((summary.directory / "manifest.json").read_bytes())
    for sql in ("update media set file_path = 'nowhere.jpg'", "drop table media"):
        run(archive, sql)
        empty = exported(archive)
        assert table_of(empty).decode("utf-8-sig") == f"{HEADER}\n"
        assert empty.directory is not None
        assert verify(empty.directory).media_files == 0


@pytest.mark.parametrize("format", ["json", "csv"])
def test_options_of_csv(archive: Path, format: str) -> None:
    """They hold for this table too, whatever the format of posts."""
    run(archive, "update media set alt_text = ? where post_uri = ?", "=1+1;", uri(1))
    plain = exported(archive, format=format)
    assert plain.warnings["formula"] >= 1
    assert table_of(plain).startswith(b"\xef\xbb\xbfFile,URI,")
    safe = exported(archive, format=format, csv_safe=True, delimiter=";", bom=False)
    assert table_of(safe).startswith(b"File;URI;")
    assert b';"\'=1+1;"\n' in table_of(safe)
    assert "'=1+1;" in [row[6] for row in rows_of(safe, ";")]
    assert safe.directory is not None
    assert verify(safe.directory).posts == 5


def test_options_of_csv_need_csv(archive: Path) -> None:
    """Without media they are refused where nothing is CSV, as before; columns are those of posts."""
    with pytest.raises(OptionError, match="--csv-safe is not for json"):
        ExportOptions(archive=archive, csv_safe=True)
    with pytest.raises(OptionError, match="--columns is not for json"):
        ExportOptions(archive=archive, media=True, columns=("uri",))
    summary = exported(archive, format="csv", columns=("uri",))
    assert table_of(summary).decode("utf-8-sig").startswith(HEADER)


@pytest.mark.parametrize("snapshot", ["pin", "copy"])
def test_odd_values(archive: Path, snapshot: str) -> None:
    """Text goes out as it is stored, with quotes where it needs them; what is no number is left out."""
    run(archive, "update media set mime_type = '', width = 'wide', height = 1.5, alt_text = ?", 'a "b",\nc\0d')
    for row in rows_of(exported(archive, snapshot=snapshot)):
        assert row[2:] == ["", "10", "", "", 'a "b",\nc\0d']
    run(archive, "update media set alt_text = cast(x'ff41' as text)")
    assert table_of(exported(archive, snapshot=snapshot)).count(b",\xffA\n") == 3
    run(archive, "update media set alt_text = ?", "x" * 1_000_001)
    assert {row[6] for row in rows_of(exported(archive, snapshot=snapshot))} == {""}


@pytest.mark.parametrize("snapshot", ["pin", "copy"])
def test_tables_of_other_shapes(archive: Path, snapshot: str) -> None:
    """Of columns that the archive does not have there is nothing; rows that are there twice are taken once."""
    run(archive, "create table copy as select hash, post_uri, file_path, size_bytes from media")
    run(archive, "drop table media")
    run(archive, "alter table copy rename to media")
    run(archive, "insert into media select * from media")
    summary = exported(archive, snapshot=snapshot)
    assert [row[2:] for row in rows_of(summary)] == [["", "10", "", "", ""]] * 3


def test_uris_that_are_no_utf8(tmp_path: Path) -> None:
    """They go out as bytes, as in posts.csv."""
    folder = tmp_path / "in"
    folder.mkdir()
    archive = file_archive(folder / "a.db", [post(1, uri=RawText(b"at://\xff"), has_media=1)])
    add_media(archive, b"media", 1)
    run(archive, "update media set post_uri = cast(x'61743a2f2fff' as text)")
    assert b",at://\xff,image/jpeg," in table_of(exported(archive))


def test_command(archive: Path, tmp_path: Path) -> None:
    """By the command too, with --csv-safe for a JSON export."""
    found = skyexport_json("export", archive, "--media", "--csv-safe", "-o", tmp_path / "o")
    assert "media.csv" in [file["name"] for file in found["files"]]
    done = skyexport("verify", found["directory"])
    assert done.returncode == 0, done.stderr
    again = skyexport("export", archive, "--media", "-o", tmp_path / "o", "--since-export", found["directory"])
    assert again.returncode == 0, again.stderr
