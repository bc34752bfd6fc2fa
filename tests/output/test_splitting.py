"""Splitting: each file complete and within its bounds, no post cut, whatever the chunks are that posts come in."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyexport import ExportOptions, OutputError, export
from skyexport.formats import FORMATS
from skyexport.formats.compression import compressor_of, parse_compression
from skyexport.options.export_options import Split
from skyexport.output.writer import OrderedWriter, OutputFile
from tests.archives import file_archive, post
from tests.conftest import limits


class Files:
    """Data files in a directory of the system's own."""

    def __init__(self) -> None:
        self._descriptors: list[int] = []
        self.next()

    def next(self) -> OutputFile:
        """Another one."""
        descriptor = os.memfd_create("data") if hasattr(os, "memfd_create") else os.open(os.devnull, os.O_RDWR)
        self._descriptors.append(os.dup(descriptor))
        self.file = OutputFile(descriptor, "data", durable=False)
        return self.file

    def contents(self) -> list[bytes]:
        """What they hold."""
        found = []
        for descriptor in self._descriptors:
            os.lseek(descriptor, 0, os.SEEK_SET)
            with os.fdopen(descriptor, "rb") as file:
                found.append(file.read())
        self.file.close()
        return found


posts = st.lists(st.text(st.sampled_from('ab"\n,é'), max_size=30), max_size=30)


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="no nameless files here")
@given(
    texts=posts,
    cuts=st.lists(st.integers(1, 7), min_size=1, max_size=30),
    most_posts=st.none() | st.integers(1, 9),
    most_bytes=st.none() | st.integers(1, 400),
    compress=st.sampled_from(["none", "gzip:1", "zstd"]),
    format=st.sampled_from(["jsonl", "json", "csv"]),
)
def test_any_chunks(
    texts: list[str], cuts: list[int], most_posts: int | None, most_bytes: int | None, compress: str, format: str
) -> None:  # fmt: skip
    """The files depend on the posts and the bounds only; together they have every post, in order, as full as can be."""
    rendered = [_rendered(format, text) for text in texts]
    compression = parse_compression(compress)
    split = Split(most_posts, most_bytes)

    def written(cuts: list[int]) -> list[bytes]:
        files = Files()
        kind = FORMATS[format]
        pack = compressor_of(compression) or bytes
        writer = OrderedWriter(kind, files.file, compression, split, files.next)
        rest = list(rendered)
        number = 0
        while rest:
            count = cuts[number % len(cuts)]
            number += 1
            chunk, rest = rest[:count], rest[count:]
            data = kind.separator.join(chunk)
            writer.add(pack(data), len(chunk), len(data))
        writer.finish()
        assert writer.posts == len(texts)
        contents = files.contents()
        assert writer.files == len(contents)
        assert writer.bytes_written == sum(map(len, contents))
        if compression is None:
            return contents
        return [b"".join(compression.decompressor().feed(content)) for content in contents]

    contents = written(cuts)
    assert contents == written([1]) == written([1000])
    kind = FORMATS[format]
    found = [kind.posts_of(inside) if (inside := _inside(format, content)) else [] for content in contents]
    assert [one for file in found for one in file] == rendered
    for file, following, content in zip(found, [*found[1:], []], contents, strict=True):
        assert most_posts is None or len(file) <= most_posts
        assert most_bytes is None or len(content) <= most_bytes or len(file) <= 1
        if following:
            fits = most_bytes is None or len(content) + len(kind.separator) + len(following[0]) <= most_bytes
            assert len(file) == most_posts or not fits


def _rendered(format: str, text: str) -> bytes:
    """A post as it is rendered, reduced to its text."""
    quoted = json.dumps(text, ensure_ascii=False).encode()
    if format == "csv":
        return b'"' + text.encode().replace(b'"', b'""') + b'",x'
    return b'"text":' + quoted if format == "jsonl" else b'\n    "text": ' + quoted


def _inside(format: str, content: bytes) -> bytes:
    """What a file has between its beginning and its end."""
    empty = b"".join(FORMATS[format].new_file().finish())
    if content == empty:
        return b""
    before = {"json": b"[\n  {", "jsonl": b"{", "csv": empty}[format]
    after = {"json": b"\n  }\n]\n", "jsonl": b"}\n", "csv": b"\n"}[format]
    assert content.startswith(before)
    assert content.endswith(after)
    return content[len(before) : -len(after)]


@pytest.mark.quick(1)
@pytest.mark.parametrize(("workers", "compress"), [(0, "none"), (2, "zstd")])
def test_large_posts(tmp_path: Path, workers: int, compress: str) -> None:
    """A post of megabytes is in one file, the same in one process and with workers, and others are beside it."""
    rows = [post(number, text="x" * 20_000, created_at=f"2024-05-{30 - number:02} 10:00:00") for number in range(12)]
    rows[3]["text"] = "y" * 9_000_000
    rows[4]["text"] = "z" * 3_999_000  # fits into a chunk, alone
    rows[7]["embed_data"] = b"[" * 200 + b"1," * 25_000 + b"1" + b"]" * 200  # grows beyond a chunk by indentation
    path = file_archive(tmp_path / "a.db", rows)
    summary = export(
        ExportOptions(
            archive=path, output_dir=tmp_path / "o", split_bytes=5_000_000, workers=workers, compress=compress
        )
    )
    assert summary.directory is not None
    compression = parse_compression(compress)
    found: list[list[str]] = []
    for name in json.loads((summary.directory / "manifest.json").read_bytes())["files"]:
        data = (summary.directory / name).read_bytes()
        if compression is not None:
            data = b"".join(compression.decompressor().feed(data))
        found.append([one["text"][:1] for one in json.loads(data)])
    assert found == [["x", "x", "x"], ["y"], ["z", "x", "x"], ["x"], ["x", "x", "x", "x"]]


def test_too_many_files(tmp_path: Path) -> None:
    """Beyond the most files that a manifest can list, an export ends, and leaves nothing."""
    path = file_archive(tmp_path / "a.db", [post(number) for number in range(12)])
    with limits(MAX_DATA_FILES=5):
        export(ExportOptions(archive=path, output_dir=tmp_path / "o", split_posts=3, workers=0))
        with pytest.raises(OutputError, match="more than 5 data files; split less often"):
            export(ExportOptions(archive=path, output_dir=tmp_path / "p", split_posts=2, workers=0))
    assert not (tmp_path / "p").exists()


def test_no_posts(tmp_path: Path) -> None:
    """Without posts there is one file, complete and empty."""
    path = file_archive(tmp_path / "a.db", [post(1)])
    summary = export(ExportOptions(archive=path, output_dir=tmp_path, split_posts=3, since="2030-01-01"))
    assert [file.name for file in summary.files] == ["posts-00001.json", "manifest.json", "SHA256SUMS"]
    assert summary.path is not None
    assert summary.path.read_bytes() == b"[]\n"
