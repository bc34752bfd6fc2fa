"""The local page as its users start it: the command in a process of its own, asked over plain sockets.

with LocalPage(archive, "-o", exports) as page:
    assert page.get("/exports").status == 200
    job = page.export(1, format="csv")
"""

from __future__ import annotations

import contextlib
import html
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

from tests.command import PROGRAM

__all__ = ["Answer", "LocalPage"]

_ADDRESS = re.compile(r"http://(\S+):(\d+)(/start/\S+)")
_ROOT = re.compile("^/[0-9a-f]{64}(?=/)")
_SECONDS = 30.0


@dataclass(frozen=True)
class Answer:
    """What the server answered."""

    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def text(self) -> str:
        """The words of a page, on one line."""
        page = self.body.decode()
        main = re.search("<main.*</main>", page, re.DOTALL)
        return " ".join(html.unescape(re.sub("<[^>]*>", " ", main[0] if main else page)).split())

    def links(self, pattern: str) -> list[str]:
        """The addresses in the page that match, without the beginning that all have."""
        found = [_ROOT.sub("", link) for link in re.findall('href="([^"]*)"', self.body.decode())]
        return [link for link in found if re.fullmatch(pattern, link)]


class LocalPage:
    """`skyexport ui` with these arguments, entered by its one-time address."""

    def __init__(
        self, *arguments: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None, enter: bool = True
    ) -> None:
        self.process = subprocess.Popen(
            [*PROGRAM, "ui", *map(str, arguments)], cwd=cwd, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
            text=True, env={**os.environ, "DISPLAY": "", "WAYLAND_DISPLAY": "", "SSH_CONNECTION": "", **(env or {})},
        )  # fmt: skip
        self.lines: list[str] = []
        """Everything that it has printed."""
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()
        self.cookie = self.root = ""
        try:
            self.entry = self.wait_for_address(1)
            if enter:
                self.enter()
        except BaseException:
            self.close()
            raise

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))

    def wait_for_address(self, number: int) -> str:
        """The path of the one-time address that was printed as the *number*th."""
        deadline = time.monotonic() + _SECONDS
        while len(found := [match for line in self.lines if (match := _ADDRESS.search(line))]) < number:
            assert self.process.poll() is None or self._reading.is_alive(), self.lines
            assert time.monotonic() < deadline, self.lines
            time.sleep(0.01)
        self.host, self.port = "127.0.0.1", int(found[-1][2])
        return found[-1][3]

    def enter(self) -> Answer:
        """Use the one-time address."""
        answer = self.get(self.entry)
        self.cookie = answer.headers.get("set-cookie", "").partition(";")[0]
        found = re.search("url=(/[0-9a-f]+)/", answer.body.decode())
        self.root = found[1] if found else ""
        """Beginning of all paths."""
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the server as Ctrl-C does; kill it if it does not end."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(timeout=_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                raise
        self._reading.join(timeout=_SECONDS)
        if self.process.stderr is not None:
            self.process.stderr.close()

    @property
    def own(self) -> str:
        """Host and port."""
        return f"{self.host}:{self.port}"

    def connect(self) -> socket.socket:
        """A connection to the server."""
        return socket.create_connection((self.host, self.port), timeout=_SECONDS)

    def raw(self, request: bytes) -> Answer:
        """Send these bytes; the answer to them."""
        with self.connect() as connection:
            connection.sendall(request)
            return read_answer(connection)

    def ask(
        self, method: str, path: str, headers: Sequence[tuple[str, str]] = (), body: bytes = b"", *, bare: bool = False
    ) -> Answer:
        """Send a request with exactly these headers; *bare*: not even a Host and the cookie."""
        given = [*headers] if bare else [("Host", self.own), ("Cookie", self.cookie), *headers]
        if body:
            given.append(("Content-Length", str(len(body))))
        if path.startswith("/") and not path.startswith(("/start", "/pages", self.root or "/")):
            path = self.root + path
        head = "".join(f"{name}: {value}\r\n" for name, value in [*given, ("Connection", "close")])
        return self.raw(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body)

    def get(self, path: str, *headers: tuple[str, str]) -> Answer:
        """Ask for a page as a browser does."""
        return self.ask("GET", path, headers)

    def post(self, path: str, **fields: str) -> Answer:
        """Send a form as a browser does."""
        names = {name.replace("_", "-"): value for name, value in fields.items()}
        return self.ask("POST", path, self.headers_of_form(), urlencode(names).encode())

    def headers_of_form(self) -> list[tuple[str, str]]:
        """The headers that browsers send with a form."""
        return [
            ("Origin", f"http://{self.own}"), ("Sec-Fetch-Site", "same-origin"),
            ("Content-Type", "application/x-www-form-urlencoded"),
        ]  # fmt: skip

    def check(self, archive: int, **fields: str) -> str:
        """Send the form for an export; returns the address of the page with the answer, once it is there."""
        sent = self.post(f"/archives/{archive}/check", **fields)
        assert sent.status == 303, sent.text
        return self.wait(sent.headers["location"])

    def start(self, archive: int, **fields: str) -> str:
        """Check and start an export; returns the address of its page."""
        started = self.post(f"{self.check(archive, **fields)}/start")
        assert started.status == 303, started.text
        return started.headers["location"]

    def export(self, archive: int, **fields: str) -> str:
        """Export to the end; returns the address of the job."""
        return self.wait(self.start(archive, **fields))

    def state(self, job: str) -> str:
        """The state of a job."""
        number = int(job.rpartition("/")[2])
        states: dict[str, Any] = json.loads(self.get("/state").body)
        return next(str(entry["state"]) for entry in states["jobs"] if entry["number"] == number)

    def wait(self, job: str, *states: str) -> str:
        """Wait until a job has ended, or is in one of these states."""
        wanted = states or ("done", "failed", "stopped")
        deadline = time.monotonic() + 2 * _SECONDS
        while (state := self.state(job)) not in wanted:
            assert time.monotonic() < deadline, f"{job} is {state}"
            time.sleep(0.05)
        return job

    def counted(self, path: str) -> Answer:
        """A page, as soon as it has the counts of its archives."""
        deadline = time.monotonic() + _SECONDS
        while b"data-counting" in (answer := self.get(path)).body:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return answer

    def events(self) -> Generator[dict[str, Any], None, None]:
        """What the stream of events sends, until it ends."""
        with self.connect() as connection:
            connection.sendall(
                f"GET {self.root}/events HTTP/1.1\r\nHost: {self.own}\r\nCookie: {self.cookie}\r\n\r\n".encode()
            )
            file = connection.makefile("rb")
            for line in file:
                if line.startswith(b"data: "):
                    yield json.loads(line.removeprefix(b"data: "))


def read_answer(connection: socket.socket) -> Answer:
    """Read an answer to its end, which is that of the connection."""
    data = bytearray()
    # A server that does not read all of a large request ends the connection amid it.
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(1 << 16):
            data += part
    head, _, body = bytes(data).partition(b"\r\n\r\n")
    if not head:
        return Answer(0, {}, b"")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if "location" in headers:
        headers["location"] = _ROOT.sub("", headers["location"])
    if headers.get("transfer-encoding") == "chunked":
        body = _without_chunks(body)
    return Answer(int(status.split()[1]), headers, body)


def _without_chunks(data: bytes) -> bytes:
    parts: list[bytes] = []
    while data:
        size, _, rest = data.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            return b"".join(parts)
        parts.append(rest[:length])
        data = rest[length + 2 :]
    raise AssertionError("the answer is not complete")
