"""Lists of archives: encodings, ends of paths, and what is not a list."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from skyexport.errors import OptionError
from skyexport.fleet.archive_list import read_list
from tests.archives import file_archive, post
from tests.command import skyexport

NAMES = ["archives/me.db", "b.db"]


def written(tmp_path: Path, content: bytes) -> str:
    """The path of a list with this content."""
    path = tmp_path / "list"
    path.write_bytes(content)
    return str(path)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\0"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_utf_8(tmp_path: Path, end: str, mark: bytes) -> None:
    """UTF-8 is read with and without a byte order mark, with any end of line; comments and empty lines are left out."""
    if end == "\0":
        content = "".join(f"{name}\0" for name in ["#me.db", "größe.db"])
        assert list(read_list(written(tmp_path, content.encode()))) == ["#me.db", "größe.db"]
        return
    content = end.join(["# all", "", *NAMES, "  ", "größe.db"])
    assert list(read_list(written(tmp_path, mark + content.encode()))) == [*NAMES, "größe.db"]


@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
@pytest.mark.parametrize(
    ("codec", "named"),
    [
        *(("utf-16", "UTF-16"), ("utf-16-le", "UTF-16"), ("utf-16-be", "UTF-16"), ("utf-32", "UTF-32")),
        *(("utf_16_be_mark", "UTF-16"), ("utf_32_be_mark", "UTF-32")),
    ],
)
def test_utf_16(tmp_path: Path, codec: str, named: str, end: str) -> None:
    """UTF-16, as PowerShell writes it, and UTF-32 are named, with the way out; also where the mark is missing."""
    lists = [NAMES, ["a.db"], ["/archives/目录/档案.db", "a/b.db"], ["C:\\me\\a.db"]]
    for names in lists:
        text = "".join(f"{name}{end or ' '}" for name in names)
        content = text.encode(codec) if "mark" not in codec else ("\ufeff" + text).encode(codec[:9].replace("_", "-"))
        with pytest.raises(OptionError, match=rf"the list .*list is {named}; save it as UTF-8") as caught:
            read_list(written(tmp_path, content))
        assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "names",
    [["a", "b", "c"], ["a", "b"], ["."], [".", "./a", "./b"], ["x"], ["a.db", "b", ".", "c.db"], ["d", "/tmp/x"]],
)
def test_short_names(tmp_path: Path, names: list[str]) -> None:
    """Paths of one character are not taken for halves of characters."""
    assert list(read_list(written(tmp_path, "".join(f"{name}\0" for name in names).encode()))) == names


@pytest.mark.parametrize("content", [b"", b"\n", b"# none\r\n", b"\0", b"\xef\xbb\xbf"])
def test_empty(tmp_path: Path, content: bytes) -> None:
    """A list without any path is a list."""
    assert list(read_list(written(tmp_path, content))) == []


def test_an_archive_as_a_list(tmp_path: Path) -> None:
    """An archive is told from a list of archives, also on standard input, and nothing is made."""
    path = file_archive(tmp_path / "me.db", [post()])
    done = skyexport("export", "--from-file", path, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        f"skyexport: the list {path} is a SQLite file, not a list; name an archive without --from-file\n"
    )
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [b"a.db\0\0b.db\0", bytes(range(256)) + bytes(20), "a".encode("utf-32-le")])
def test_binary(tmp_path: Path, content: bytes) -> None:
    """So is any file with empty paths in it."""
    with pytest.raises(OptionError, match="is not text: it has empty paths; write one path per line in UTF-8"):
        read_list(written(tmp_path, content))


def test_utf_16_by_command(tmp_path: Path) -> None:
    """The command ends with one line and exit status 2, and begins nothing."""
    file_archive(tmp_path / "b.db", [post()])
    path = written(tmp_path, "b.db\r\n".encode("utf-16"))
    before = sorted(tmp_path.iterdir())
    for more in ([], ["--dry-run"]):
        done = skyexport("export", "--from-file", path, *more, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (2, f"skyexport: the list {path} is UTF-16; save it as UTF-8\n")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.skipif(sys.platform == "win32", reason="Windows takes UTF-8 only")
def test_latin_1(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 are names of files like others; where there is no such file, a line says what it is."""
    path = written(tmp_path, b"gr\xfcn.db\n")
    assert list(read_list(path)) == [os.fsdecode(b"gr\xfcn.db")]
    done = skyexport("export", "--from-file", path, cwd=tmp_path)
    assert done.returncode == 10
    assert "no archive at gr\\xfcn.db; it is not valid UTF-8: check the path, or save the list as UTF-8" in done.stderr


def test_a_directory_as_a_list(tmp_path: Path) -> None:
    """A directory is not a list."""
    with pytest.raises(OptionError, match="cannot read the list of archives"):
        read_list(str(tmp_path))
