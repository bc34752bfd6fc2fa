"""The archives of the byte contract: what the established exporter writes for them, byte for byte."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from skyexport.archive.archive import Archive
from tests import oracle
from tests.archives import exported, stored_rows

pytestmark = [pytest.mark.smoke, pytest.mark.usefixtures("each_renderer")]

each_format = pytest.mark.parametrize("format_name", ["json", "csv"])
"""Those that the established exporter has."""


def expected(folder: Path, format_name: str) -> bytes:
    """The file that the established exporter wrote."""
    plain = folder / f"all.{format_name}"
    return plain.read_bytes() if plain.exists() else gzip.decompress(plain.with_name(f"{plain.name}.gz").read_bytes())


@each_format
@pytest.mark.parametrize("name", ["edge", "sample", "real"])
def test_rendering_is_the_contract(contract_dir: Path, name: str, format_name: str) -> None:
    """Every post of the archive has the bytes that it must have."""
    with Archive(contract_dir / name / "archive.db") as archive:
        assert exported(archive, format_name)[0] == expected(contract_dir / name, format_name)


@each_format
def test_batch_size_makes_no_difference(contract_dir: Path, format_name: str) -> None:
    """Also in batches of other sizes, with 1,201 posts in one instant."""
    with Archive(contract_dir / "edge" / "archive.db") as archive:
        for batch_size in (13, 1200, 1201, 100_000):
            found = exported(archive, format_name, batch_size=batch_size)[0]
            assert found == expected(contract_dir / "edge", format_name)


@each_format
@pytest.mark.parametrize("name", ["edge", "sample"])
def test_the_oracle_is_the_contract(contract_dir: Path, name: str, format_name: str) -> None:
    """The slow reading of the contract, which other tests rely on, is right about these archives."""
    with Archive(contract_dir / name / "archive.db") as archive:
        assert oracle.FILE[format_name](stored_rows(archive.connection)) == expected(contract_dir / name, format_name)
