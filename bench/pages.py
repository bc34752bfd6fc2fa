"""Exports as pages: time, memory and size, and how long a search in a browser takes to its first results.

    python bench/pages.py [--posts 20000,100000] [--runs 5]

Beside each export as pages, the same archive is exported to JSON, so that its time is a ratio in one run. The output is
removed, and the disk synced, before each command. The search runs in Chromium on the last export, if it is installed:
each query on a page that was just opened, from the press of a key to the first results.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
from pathlib import Path

from whole import Run, run_command

ROOT = Path(__file__).absolute().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from tests.browsers import Chromium  # noqa: E402

from make_archive import make_archive  # noqa: E402

_QUERIES = ("library", "quiet river", "lantern", "the", "t", "日", "gibtesnicht")

_TIMED = """new Promise(resolve => {
  const status = document.getElementById("search-status*");
  document.getElementById("search-words*").value = %s;
  const begun = performance.now();
  const look = () => {
    if (/ found/.test(status.textContent)) resolve([performance.now() - begun, status.textContent]);
  };
  new MutationObserver(look).observe(status, { childList: true, characterData: true, subtree: true });
  document.getElementById("search-form*").requestSubmit();
})"""
"""Searches, and gives the milliseconds to the first results, and how many there are."""


def export(archive: Path, to: Path, *options: str) -> Run:
    """Run one export, with nothing left to write from the one before."""
    shutil.rmtree(to, ignore_errors=True)
    if hasattr(os, "sync"):
        os.sync()
    return run_command(
        [sys.executable, "-m", "skyexport", "export", archive, "-o", to, "-j", "2", "-q", *options], cwd=archive.parent
    )


def measure(archive: Path, posts: int, runs: int) -> Path:
    """Print what exports of an archive take; returns the directory of the last one."""
    to = archive.parent / "pages"
    pages, data = [], []
    for _ in range(runs):
        data.append(export(archive, to, "-f", "json"))
        pages.append(export(archive, to, "-f", "html"))
    seconds = statistics.median(run.wall_seconds for run in pages)
    ratio = statistics.median(page.wall_seconds / json.wall_seconds for page, json in zip(pages, data, strict=True))
    memory = max(run.peak_bytes for run in pages)
    (directory,) = (to / "all").iterdir()
    manifest = json.loads((directory / "manifest.json").read_bytes())
    search = sum(path.stat().st_size for path in (directory / "search").iterdir())
    print(
        f"{posts:>9,} posts  {seconds:6.2f} s  {1e6 * seconds / posts:4.0f} µs a post  {ratio:5.1f} × JSON "
        f" {memory / 1e6:4.0f} MB  {manifest['pages']['files']:,} files, {manifest['pages']['bytes'] / posts:,.0f} B a"
        f" post, {search / posts:,.0f} of them for search"
    )
    return directory


def search(directory: Path, runs: int) -> None:
    """Print how long searches take."""
    if shutil.which("chromium") is None:
        print("no Chromium here: searches were not measured")
        return
    with Chromium() as browser:
        for query in _QUERIES:
            times = []
            for _ in range(runs):
                browser.open(directory / "search.html")
                times.append(browser.evaluate(_TIMED % json.dumps(query)))
            print(f"search {query:12} {statistics.median(time for time, _ in times):5.0f} ms  {times[0][1]}")


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--posts", default="20000,100000")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--place", type=Path, default=Path("build/bench"))
    options = parser.parse_args()
    place: Path = options.place.absolute()
    place.mkdir(parents=True, exist_ok=True)
    for posts in map(int, options.posts.split(",")):
        archive = place / f"bench-{posts}.db"
        if not archive.exists():
            make_archive(archive, posts=posts)
        directory = measure(archive, posts, options.runs)
    search(directory, options.runs)


if __name__ == "__main__":
    main()
