"""The local page: time to the first posts, what it adds to an export, and its memory with slow readers.

    python bench/local_page.py build/bench/bench-1000000.db [--runs 5]

Each round starts a server that knows nothing of the archive, asks for the list and the first fifty posts, over HTTP and
in Chromium, and ends it. Then the same export runs by the command and from the page in turn, with the page open in
Chromium and showing the progress; the output is removed, and the disk synced, before each. In the end, two hundred
clients read slowly: a large download each, or events while an export runs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).absolute().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from tests.browsers import Chromium  # noqa: E402
from tests.web.servers import LocalPage  # noqa: E402

_READERS = 200
_OPTIONS = {"format": "json", "workers": "2"}

_LOADED = """
new Promise((done) => {
  const look = () => {
    const [entry] = performance.getEntriesByType("navigation");
    if (entry.loadEventEnd) done(entry.loadEventEnd); else setTimeout(look, 5);
  };
  look();
})
"""
"""Milliseconds from the click to the end of loading."""


def first_posts(archive: Path, runs: int, place: Path) -> None:
    """Print how long the list and the first posts take."""
    listed, shown, painted = [], [], []
    for _ in range(runs):
        with LocalPage(archive, "-o", place / "none", enter=False) as page:
            page.enter()
            began = time.perf_counter()
            assert page.get("/").status == 200
            listed.append(time.perf_counter() - began)
            began = time.perf_counter()
            assert page.get("/archives/1/posts").body.count(b"<article") == 50
            shown.append(time.perf_counter() - began)
            with Chromium() as browser:
                browser.open(f"http://{page.own}{page.wait_for_address(2)}")
                browser.wait_for("!!document.body.dataset.root")
                browser.open(f"http://{page.own}{page.root}/archives/1/posts")
                painted.append(float(browser.evaluate(_LOADED)) / 1000)
    print(
        f"list {statistics.median(listed):.3f} s, first 50 posts {statistics.median(shown):.3f} s; "
        f"posts loaded in Chromium {statistics.median(painted):.3f} s"
    )


def exports(archive: Path, runs: int, place: Path) -> None:
    """Print how long exports take, by the command and from the page."""
    to = place / "exports"
    by_command, from_page, shown = [], [], []

    def prepare() -> None:
        shutil.rmtree(to, ignore_errors=True)
        if hasattr(os, "sync"):
            os.sync()

    command = [sys.executable, "-m", "skyexport", "export", str(archive), "-f", "json", "-j", "2", "-o", str(to), "-q"]
    with LocalPage(archive, "-o", to) as page, Chromium() as browser:
        page.counted("/")
        browser.open(f"http://{page.own}{page.wait_for_address(2)}")
        browser.wait_for("!!document.body.dataset.root")
        for _ in range(runs):
            prepare()
            began = time.perf_counter()
            subprocess.run(command, check=True)
            by_command.append(time.perf_counter() - began)
            check = page.check(1, **_OPTIONS)
            browser.open(f"http://{page.own}{page.root}{check}")
            prepare()
            began = time.perf_counter()
            browser.evaluate("(document.querySelector('button.first').click(), true)")
            browser.wait_for("document.body.innerText.includes('Show the export')", timeout_seconds=300)
            shown.append(time.perf_counter() - began)
            from_page.append(float(json.loads(page.get("/state").body)["jobs"][-1]["seconds"]))
    ratio = statistics.median(page / command for page, command in zip(from_page, by_command, strict=True))
    print(
        f"export by the command {statistics.median(by_command):.2f} s,"
        f" from the page {statistics.median(from_page):.2f} s: {ratio:.3f} times;"
        f" until Chromium shows the end {statistics.median(shown):.2f} s"
    )


def slow_readers(archive: Path, place: Path) -> None:
    """Print the memory of the server while many clients read slowly."""
    with LocalPage(archive, "-o", place / "read") as page:
        server = psutil.Process(page.process.pid)
        alone = memory_of(server)
        page.export(1, format="json")
        (number,) = page.get("/exports").links("/exports/[0-9]+")
        downloads = peak(server, page, f"{number}/files/0", 15)
        zips = peak(server, page, f"{number}/zip", 15)
        check = page.check(1, format="html")
        job = page.post(f"{check}/start").headers["location"]
        page.wait(job, "running")
        events = peak(server, page, "/events", 15)
        page.post(f"{job}/stop")
        page.wait(job)
    print(
        f"memory of the server: {alone:.0f} MB alone; with {_READERS} slow readers of a file {downloads:.0f} MB,"
        f" of zip files {zips:.0f} MB, of events {events:.0f} MB"
    )


def peak(server: psutil.Process, page: LocalPage, path: str, seconds: float) -> float:
    """The largest memory of the server, in MB, while clients read a few bytes a second."""
    clients: list[socket.socket] = []
    largest = 0.0
    try:
        for _ in range(_READERS):
            client = page.connect()
            head = f"Host: {page.own}\r\nCookie: {page.cookie}"
            client.sendall(f"GET {page.root}{path} HTTP/1.1\r\n{head}\r\n\r\n".encode())
            clients.append(client)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for client in clients:
                assert client.recv(100)
            largest = max(largest, memory_of(server))
            time.sleep(0.2)
    finally:
        for client in clients:
            client.close()
    return largest


def memory_of(process: psutil.Process) -> float:
    """MB in memory: PSS where the system tells it, else RSS."""
    information = process.memory_full_info()
    return float(getattr(information, "pss", information.rss)) / 1e6


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    archive: Path = options.archive.absolute()
    with tempfile.TemporaryDirectory(dir=archive.parent) as place:
        first_posts(archive, options.runs, Path(place))
        exports(archive, options.runs, Path(place))
        slow_readers(archive, Path(place))


if __name__ == "__main__":
    main()
