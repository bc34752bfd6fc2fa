"""Names → formats: every name is honoured, refused, or noted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import make_archive
from skyexport.errors import OptionError
from skyexport.formats import FORMATS, FORMS
from skyexport.formats.compression import parse_compression
from skyexport.formats.names import form_of_name, unknown_format
from tests.command import skyexport


@pytest.mark.parametrize(
    ("name", "format", "compression", "delimiter"),
    [
        ("posts.json", "json", "", ""),
        ("posts.jsonl", "jsonl", "", ""),
        ("posts.ndjson", "jsonl", "", ""),
        ("posts.csv", "csv", "", ""),
        ("posts.tsv", "csv", "", "\t"),
        ("posts.parquet", "parquet", "", ""),
        ("posts.pq", "parquet", "", ""),
        ("POSTS.NDJSON", "jsonl", "", ""),
        ("a.b/posts.2024-12-31.Tsv.GZ", "csv", "gzip", "\t"),
        ("posts.jsonl.gzip", "jsonl", "gzip", ""),
        ("posts.jsonl.zstd", "jsonl", "zstd", ""),
        ("posts.json.zst", "json", "zst", ""),
        ("posts.csv.part", "csv", "", ""),
        ("posts.jsonl.zst.tmp", "jsonl", "zstd", ""),
        ("posts.csv ", "csv", "", ""),
        ("posts.csv.", "csv", "", ""),
    ],
)
def test_names_that_tell_a_form(name: str, format: str, compression: str, delimiter: str) -> None:
    """Format, compression and delimiter come from the endings, in any case."""
    form = form_of_name(Path(name))
    expected = parse_compression({"zst": "zstd"}.get(compression, compression)) if compression else None
    assert (form.format, form.compression, form.delimiter, form.note) == (format, expected, delimiter, "")


def test_every_format_has_its_own_suffix() -> None:
    """The suffix that a format has in an export directory tells that format."""
    for name, format in FORMATS.items():
        assert form_of_name(Path("posts" + format.suffix)).format == name


@pytest.mark.parametrize(
    "ending",
    [
        *("xlsx", "xls", "ods", "xml", "yaml", "db", "sqlite", "bz2", "xz", "zip", "7z", "lz4", "br", "tgz"),
        *("csv.bz2", "jsonl.xz", "tar.gz", "json.gpg", "xlsx.gz", "XML", "avro", "feather", "geojson", "sql", "pdf"),
    ],
)
@pytest.mark.parametrize("given", [False, True])
def test_names_of_other_formats(ending: str, given: bool) -> None:
    """A name that tells a format that is not written here is refused, also beside --format."""
    with pytest.raises(OptionError) as error:
        form_of_name(Path(f"posts.{ending}"), format_given=given)
    assert f"cannot write posts.{ending}" in error.value.message
    assert ".jsonl, .csv, .tsv and .parquet" in error.value.hint


@pytest.mark.parametrize(
    "name", ["posts.cvs", "posts.jsnol", "posts.parqet", "posts.csv.gzp", "posts.jason", "posts.tsvv"]
)
def test_misspelt_endings(name: str) -> None:
    """An ending that is nearly one of ours is an error with the probable one, unless --format settles it."""
    with pytest.raises(OptionError, match="not a known format; did you mean"):
        form_of_name(Path(name))
    assert form_of_name(Path(name), format_given=True).note == ""


def test_compressed_twice() -> None:
    """One compression is enough."""
    with pytest.raises(OptionError, match="compressed twice"):
        form_of_name(Path("posts.json.gz.zst"))


@pytest.mark.parametrize("name", ["posts", "posts.txt", "posts.2024-12-31", ".csv", "posts.gz", "posts.backup", "v1.2"])
def test_names_that_tell_nothing(name: str) -> None:
    """They become JSON, and a note says so; with --format there is nothing to note."""
    form = form_of_name(Path(name))
    assert (form.format, form.delimiter) == ("", "")
    assert (
        form.note
        == f"note: the name {name} shows no format, so it is JSON; add --format, or a suffix like .jsonl or .csv"
    )
    assert form_of_name(Path(name), format_given=True).note == ""


@pytest.mark.parametrize("ending", ["html", "HTML", "htm", "xhtml"])
def test_names_of_pages(ending: str) -> None:
    """A page is never a file of --to, and the line says what to write instead."""
    with pytest.raises(OptionError) as caught:
        form_of_name(Path(f"posts.{ending}"), format_given=True)
    assert caught.value.message == f"--to writes one file, and html is a folder of pages: posts.{ending}"
    assert caught.value.hint == "use -f html, and -o for its place"


@pytest.mark.parametrize("name", [None, "-", "/dev/stdout", "/dev/null", "/dev/fd/63"])
def test_places_without_a_name(name: str | None) -> None:
    """Streams, devices and export directories need no note."""
    form = form_of_name(None if name is None else Path(name))
    assert (form.format, form.compression, form.delimiter, form.note) == ("", None, "", "")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("ndjson", "use --format jsonl"),
        ("tsv", "use --format csv --delimiter tab"),
        ("pq", "use --format parquet"),
        (".csv", "use --format csv"),
        ("JSON", "use --format json"),
        ("csv.gz", "use --format csv --compress gzip"),
        ("jsnol", "did you mean jsonl? choose from json, jsonl, csv, parquet, html"),
        ("xlsx", "choose from json, jsonl, csv, parquet, html: spreadsheets open .csv"),
        ("nonsense", "choose from json, jsonl, csv, parquet, html"),
    ],
)
def test_unknown_formats(name: str, hint: str) -> None:
    """A --format that does not exist is answered with what to write."""
    assert unknown_format(name, FORMS).hint == hint


def test_command(small_archive: make_archive.ArchiveInfo, tmp_path: Path) -> None:
    """The command writes what names tell, refuses what it cannot write, and notes where it guesses."""

    def run(*arguments: str) -> tuple[int, str]:
        done = skyexport("export", small_archive.path, "-j", "0", *arguments, cwd=tmp_path)
        return done.returncode, done.stderr

    for name in ("posts.tsv", "posts.ndjson", "posts.pq", "posts.txt"):
        assert run("--to", name)[0] == 0
    assert (tmp_path / "posts.tsv").read_bytes().startswith(b"\xef\xbb\xbfURI\tCID\t")
    lines = (tmp_path / "posts.ndjson").read_bytes().splitlines()
    assert len(lines) == len([json.loads(line) for line in lines]) == 2500
    assert (tmp_path / "posts.pq").read_bytes().startswith(b"PAR1")
    assert len(json.loads((tmp_path / "posts.txt").read_bytes())) == 2500
    there = sorted(path.name for path in tmp_path.iterdir())
    status, said = run("--to", "posts.xlsx")
    assert (status, len(said.splitlines())) == (2, 1)
    assert run("--to", "a.csv.bz2", "-f", "csv")[0] == 2
    assert run("--to", "a.tsv", "--delimiter", ";") == (
        2, "skyexport: a.tsv is named like a table with tabs, but --delimiter is ';'; leave out --delimiter\n",
    )  # fmt: skip
    assert run("--to", "b.tsv", "--delimiter", "tab", "-f", "csv", "-q") == (0, "")
    assert run("--to", "b.json", "-f", "tsv")[1] == (
        "skyexport: unknown format 'tsv'; use --format csv --delimiter tab\n"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*there, "b.tsv"])
    assert run("--to", "noted")[1].startswith("note: the name noted shows no format, so it is JSON; add --format")
    assert run("--to", "noted", "--overwrite", "-q") == (0, "")
    assert "note:" not in run("--to", "noted", "--overwrite", "-f", "json")[1]
    assert (
        "note: the name dry shows no format"
        in skyexport("export", small_archive.path, "--to", "dry", "--dry-run").stdout
    )
