"""The archive that everything here is measured on, made once and kept in build/bench."""

from __future__ import annotations

from pathlib import Path

import pytest

from make_archive import make_archive

POSTS = 20_000


@pytest.fixture(scope="session")
def archive_path() -> Path:
    """An archive of POSTS posts, the same in every run."""
    path = Path(__file__).parents[1] / "build" / "bench" / f"archive-{POSTS}.db"
    if not path.exists():
        make_archive(path, posts=POSTS, seed=1)
    return path
