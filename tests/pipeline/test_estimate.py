"""How large exports are said to become."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

import make_archive
from skyexport.archive.archive import Archive
from skyexport.formats import FORMATS
from skyexport.pipeline.estimate import Sample
from skyexport.selection import Selection
from tests.archives import exported, file_archive, post


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("posts", [0, 1, 15, 16, 17, 300])
def test_small_archives_are_sampled_whole(tmp_path: Path, format: str, posts: int) -> None:
    """With few posts each of them is looked at once."""
    path = file_archive(tmp_path / "a.db", [post(number, text="x" * number) for number in range(posts)])
    with Archive(path) as archive:
        size = len(exported(archive, format)[0])
        sample = Sample.of(archive, FORMATS[format], Selection())
    assert sample.expected_bytes(posts) == pytest.approx(size, abs=posts * 2 + 1)
    assert sample.least_bytes(posts) <= size


@pytest.mark.quick(1)
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_the_least_is_never_more(tmp_path: Path, format: str, seed: int) -> None:
    """The lower bound is below the size of the export, and not far below where posts are alike."""
    info = make_archive.make_archive(tmp_path / "a.db", posts=6000, seed=seed, authors=30)
    with Archive(info.path) as archive:
        for selection in (Selection(), Selection(did=info.owner_did), Selection(since=1_700_000_000 * 10**9)):
            size = len(exported(archive, format, selection=selection)[0])
            sample = Sample.of(archive, FORMATS[format], selection)
            assert sample.least_bytes(6000) <= size
            if selection.everything:
                assert sample.expected_bytes(6000) == pytest.approx(size, rel=0.1)
                assert sample.least_bytes(6000) > size * (0.4 if format == "parquet" else 0.7)


def test_an_author_with_few_posts(tmp_path: Path) -> None:
    """Where a place of the archive has none of an author's posts, nothing is taken for granted."""
    rows = [post(number, did="did:plc:rare" if number % 1000 == 0 else "did:plc:usual") for number in range(3000)]
    with Archive(file_archive(tmp_path / "a.db", rows)) as archive:
        sample = Sample.of(archive, FORMATS["json"], Selection(did="did:plc:rare"))
        assert sample.least_bytes(3000) == 0
        assert 0 < sample.expected_bytes(3000) < 10_000


def test_row_ids_with_gaps(tmp_path: Path) -> None:
    """Row ids far from each other are no places without posts."""
    rows = [post(number) for number in range(100)]
    path = file_archive(tmp_path / "a.db", rows)
    with apsw.Connection(str(path)) as connection:
        connection.execute("update posts set rowid = 1000000000 + rowid where rowid > 90")
    with Archive(path) as archive:
        sample = Sample.of(archive, FORMATS["csv"], Selection())
        assert sample.expected_bytes(100) == pytest.approx(len(exported(archive, "csv")[0]), abs=100)
