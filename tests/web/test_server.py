"""How the server begins: its port, its lines, the browser that it opens, and what it needs."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import make_archive
from tests.command import skyexport
from tests.conftest import posix_only
from tests.web.servers import LocalPage


@contextlib.contextmanager
def taken_port() -> Iterator[int]:
    """A port that another program listens on."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def test_next_port(small_archive: make_archive.ArchiveInfo, tmp_path: Path) -> None:
    """Two servers at a time have different ports, and cookies that browsers do not mix up."""
    with (
        LocalPage(small_archive.path, "-o", tmp_path) as first,
        LocalPage(small_archive.path, "-o", tmp_path) as second,
    ):
        assert first.port != second.port
        assert min(first.port, second.port) >= 8321
        assert first.cookie.partition("=")[0] != second.cookie.partition("=")[0]
        both = f"{first.cookie}; {second.cookie}"
        for page in (first, second):
            assert page.ask("GET", "/", [("Host", page.own), ("Cookie", both)], bare=True).status == 200


def test_ports(small_archive: make_archive.ArchiveInfo, tmp_path: Path) -> None:
    """A port that was asked for must be free, and must be one."""
    with taken_port() as port:
        done = skyexport("ui", small_archive.path, "-o", tmp_path, "--no-browser", "--port", str(port))
        assert done.returncode == 2
        assert done.stderr.startswith(f"skyexport: cannot listen on 127.0.0.1, port {port}: ")
        assert done.stderr.endswith("; choose another --port\n")
        assert len(done.stderr.splitlines()) == 1
        free = port
    with LocalPage(small_archive.path, "-o", tmp_path, "--port", str(free)) as page:
        assert page.port == free
    for wrong in ("0", "70000", "x", "-1"):
        done = skyexport("ui", small_archive.path, "--port", wrong)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
    done = skyexport("ui", small_archive.path, "-o", tmp_path, "--host", "203.0.113.7")
    assert done.returncode == 2
    assert done.stderr.startswith("skyexport: cannot listen on 203.0.113.7, port 8321: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.db"], "there is no archive or folder missing.db; check the path"),
        (["-o", "file"], "file"),
        (["--prot", "1"], "no such option: --prot; did you mean --port?"),
    ],
)
def test_wrong_usage(tmp_path: Path, arguments: list[str], message: str) -> None:
    """Mistakes are one line, and nothing is served."""
    (tmp_path / "file").write_text("")
    done = skyexport("ui", *arguments, cwd=tmp_path)
    assert done.returncode in (2, 10, 12)
    assert len(done.stderr.splitlines()) == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_tunnel(small_archive: make_archive.ArchiveInfo, tmp_path: Path) -> None:
    """Over ssh no browser is opened; the line for a tunnel is printed instead."""
    script, opened = browser_script(tmp_path)
    there = {"SSH_CONNECTION": "198.51.100.1 50000 198.51.100.2 2222", "DISPLAY": ":0", "BROWSER": f"{script} %s"}
    with LocalPage(small_archive.path, "-o", tmp_path / "exports", env=there) as page:
        line = next(line for line in page.lines if "ssh" in line)
        assert f"ssh -N -p 2222 -L {page.port}:127.0.0.1:{page.port} " in line
        assert line.endswith("198.51.100.2")
        time.sleep(0.3)
        assert not opened.exists()


def browser_script(place: Path) -> tuple[Path, Path]:
    """A program in the place of a browser, and the file where it notes how it was called."""
    script, opened = place / "browser.sh", place / "opened"
    script.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > "{opened}.part" && mv "{opened}.part" "{opened}"\n')
    script.chmod(0o700)
    return script, opened


@posix_only
def test_browser(small_archive: make_archive.ArchiveInfo, tmp_path: Path) -> None:
    """A browser gets a file that only the user can read, which leads to the page; the secret is on no command line."""
    script, opened = browser_script(tmp_path)
    there = {"DISPLAY": ":0", "BROWSER": f"{script} %s"}
    with LocalPage(small_archive.path, "-o", tmp_path / "exports", env=there, enter=False) as page:
        deadline = time.monotonic() + 20
        while not opened.exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        (address,) = opened.read_text().splitlines()
        assert address.startswith("file:///")
        assert page.entry.rpartition("/")[2] not in address
        file = Path(address.removeprefix("file://"))
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
        (link,) = re.findall('url=([^"]*)"', file.read_text())
        assert link == f"http://{page.own}{page.entry}"
        page.enter()
        assert page.get("/").status == 200
        assert not file.exists()
    assert not file.parent.exists()
    opened.unlink()
    with LocalPage(small_archive.path, "-o", tmp_path / "exports", "--no-browser", env=there):
        time.sleep(0.3)
    assert not opened.exists()


def test_default_is_the_current_folder(small_archive: make_archive.ArchiveInfo, tmp_path: Path) -> None:
    """Without arguments: the archives of the current folder, and the exports in `exports`."""
    os.link(small_archive.path, tmp_path / "mine.db")
    with LocalPage(cwd=tmp_path) as page:
        assert page.lines[0] == f"1 archive; exports go to {tmp_path / 'exports'}"
        assert "mine.db 2,500 posts" in page.counted("/").text
        assert page.state(page.export(1, limit="5")) == "done"
    assert list((tmp_path / "exports" / "mine" / "all").glob("*/posts.json"))
    (tmp_path / "mine.db").unlink()
    with LocalPage(cwd=tmp_path) as page:
        assert page.lines[0].startswith("no archive; exports go to")


def test_configuration(small_archive: make_archive.ArchiveInfo, tmp_path: Path) -> None:
    """The file of --config holds for the page, and for the exports that it starts."""
    config = tmp_path / "skyexport.toml"
    config.write_text(f'[ui]\noutput-dir = "{tmp_path.as_posix()}/there"\n[export]\nlimit = 3\n')
    with LocalPage(small_archive.path, "--config", config) as page:
        assert page.state(page.export(1, format="csv")) == "done"
        assert "CSV, 3 posts" in page.get("/exports").text
    assert list((tmp_path / "there" / "all").glob("*/posts.csv"))


def test_without_the_extra(base_command: Path, small_archive: make_archive.ArchiveInfo) -> None:
    """The base install says in one line how to get the page."""
    done = subprocess.run([base_command, "ui", small_archive.path], capture_output=True, text=True, check=False)
    assert done.returncode == 5
    assert done.stderr == (
        "skyexport: the local page needs Starlette, which is not installed; pip install 'skyexport[ui]', or pipx inject"
        " skyexport starlette uvicorn jinja2\n"
    )


def test_nothing_but_the_commands_need_is_loaded() -> None:
    """Other commands load nothing of the page."""
    program = (
        "import sys; from skyexport.cli.app import app; import skyexport.pipeline.export;"
        " assert not {'starlette', 'uvicorn', 'asyncio', 'skyexport.web'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
