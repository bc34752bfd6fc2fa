"""The golden posts: ordinary and hostile ones, whose bytes change only on purpose."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from skyexport.archive.archive import Archive
from skyexport.formats import FORMATS
from tests import oracle
from tests.archives import exported, file_archive, memory_archive, read_rows, rendered_by_row_ids, stored_rows
from tests.conftest import each_format

pytestmark = [pytest.mark.smoke, pytest.mark.usefixtures("each_renderer")]

WARNINGS = {
    "json": {"unreadable_time": 6, "unreadable_json": 6, "invalid_utf8": 7, "unreadable_count": 1},
    "jsonl": {"unreadable_time": 6, "unreadable_json": 6, "invalid_utf8": 7, "unreadable_count": 1},
    "parquet": {"unreadable_time": 6, "unreadable_json": 6, "invalid_utf8": 7, "unreadable_count": 1},
    "csv": {"unreadable_time": 4, "unreadable_json": 1, "unreadable_count": 1},
}


def golden_file(golden_dir: Path, format_name: str) -> bytes:
    """The golden posts in a format, or what it says; the bytes of Parquet are those of a version of its library."""
    suffix = {"parquet": ".parquet.txt"}.get(format_name, f".{format_name}")
    return (golden_dir / f"posts{suffix}").read_bytes()


@each_format
@pytest.mark.parametrize("batch_size", [1, 7, 1000])
@pytest.mark.parametrize("index", [True, False])
def test_golden_bytes(golden_dir: Path, tmp_path: Path, format_name: str, batch_size: int, index: bool) -> None:
    """An archive of the golden posts is exported as the golden file has it, in batches of any size."""
    path = file_archive(tmp_path / "golden.db", read_rows(golden_dir / "rows.json"), index=index)
    expected = golden_file(golden_dir, format_name)
    with Archive(path) as archive:
        data, notices = exported(archive, format_name, batch_size=batch_size)
    assert oracle.content(format_name, data) == expected
    assert notices.counts == WARNINGS[format_name]


@each_format
def test_golden_files_are_the_contract(golden_dir: Path, format_name: str) -> None:
    """The golden files are what the slow reading of the contract gives."""
    with contextlib.closing(memory_archive(read_rows(golden_dir / "rows.json"))) as connection:
        expected = oracle.FILE[format_name](stored_rows(connection))
    assert golden_file(golden_dir, format_name) == expected


def test_golden_rows_in_any_order(golden_dir: Path) -> None:
    """The order in which posts were saved makes no difference."""
    rows = read_rows(golden_dir / "rows.json")
    with contextlib.closing(memory_archive(reversed(rows))) as connection:
        for format in FORMATS.values():
            data = rendered_by_row_ids(connection, format.name)[0]
            assert oracle.content(format.name, data) == golden_file(golden_dir, format.name)
