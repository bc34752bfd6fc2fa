"""The server: its socket, its signals, and how a browser finds it.

It listens on this machine only, and writes no log. The first signal ends it: streams end, connections are closed, and
the signal is passed on to what is running, which cleans up as it does on a terminal. The server waits for that.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import getpass
import html
import ipaddress
import logging
import os
import signal
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import anyio.to_thread
import h11
import psutil
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from skyexport.errors import OptionError, OutputError
from skyexport.output.places import open_new
from skyexport.runtime.scratch import Scratch
from skyexport.runtime.signals import STOPPING, handle_stops
from skyexport.web.application import application
from skyexport.web.guard import MOST_HEAD_BYTES, REQUEST_SECONDS, Guard
from skyexport.web.jobs import Jobs
from skyexport.web.site import Site

__all__ = ["ServerOptions", "serve", "write_opener"]

LOOPBACK = "127.0.0.1"

DEFAULT_PORT = 8321

_PORTS_TRIED = 20

_IDLE_SECONDS = 8
_MOST_CONNECTIONS = 500

_OPENER = "open.html"
"""Name of the file that leads a browser here."""

_UNSENT_BYTES = 1 << 13
"""Bytes for a client that is slow, beyond the piece that was sent last; then nothing more is read for it."""

_THREADS = 8
"""Threads that read files; each keeps some memory of its own."""

_GRACE_SECONDS = 0.3
"""For streams to end by themselves; then connections are closed."""

_PATIENCE = 3
"""The third signal ends the program at once, as everywhere in it."""


@dataclass(frozen=True)
class ServerOptions:
    """The options of `skyexport ui`."""

    named: list[Path]
    """Archives, CAR files, and folders with them."""
    output_dir: Path
    host: str
    """The address to listen on."""
    port: int | None
    """None for the usual one, or the next that is free."""
    browser: bool
    """Whether to open one."""
    config: str | None
    """The file of --config."""


class _Protocol(H11Protocol):
    """HTTP, for clients that send the heads of their requests in time."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=_UNSENT_BYTES)
        self._watch_head()

    def data_received(self, data: bytes) -> None:
        try:
            super().data_received(data)
        except h11.LocalProtocolError:
            # After a request that was refused come bytes that are none.
            self.transport.abort()
            return
        self._watch_head()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch_head()

    def _watch_head(self) -> None:
        """Give the client time while it sends the head of a request, and not longer."""
        if self.conn.their_state is not h11.IDLE:
            self._forget_deadline()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(REQUEST_SECONDS.value, self.transport.abort)

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_deadline()
        super().connection_lost(exc)


class _Server(uvicorn.Server):
    """A server that leaves signals to us, and that ends although streams are open."""

    def __init__(self, config: uvicorn.Config, stopping: asyncio.Event) -> None:
        super().__init__(config)
        self._stopping = stopping

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close everything, soon."""
        for server in self.servers:
            server.close()
        for sock in sockets or []:
            sock.close()
        self._stopping.set()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        if self.server_state.tasks:
            await asyncio.wait(list(self.server_state.tasks), timeout=_GRACE_SECONDS)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        tasks = list(self.server_state.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def serve(options: ServerOptions, say: Callable[[str], None]) -> int:
    """Serve the page until a signal comes.

    Args:
        options: The archives to show, and where.
        say: Called with lines for people.

    Returns:
        The number of the signal.

    Raises:
        OptionError: The port is taken, or the address is not one of this machine.
        ArchiveError: There is nothing at one of the paths.
    """
    for name in ("uvicorn.error", "asyncio"):
        # Anybody on this machine can send what they would complain about.
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    with contextlib.ExitStack() as opened:
        listening = opened.enter_context(contextlib.closing(_listening(options)))
        folder = opened.enter_context(Scratch()).path if _may_open(options) else None
        stop = _Stop(say)
        with stop.handling():
            asyncio.run(_serve(options, listening, folder, say, stop))
    return stop.signals[0]


class _Stop:
    """Ends the server when a signal comes, and everything at the third one.

    Args:
        say: Called with lines for people.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end: Callable[[], None] = lambda: None
        self._jobs: Jobs | None = None
        self.signals: list[int] = []
        """Those that came."""

    def watch(self, jobs: Jobs, end: Callable[[], None]) -> None:
        """Call *end* in the loop that is running when a signal comes, and pass it on to *jobs*."""
        self._loop, self._end, self._jobs = asyncio.get_running_loop(), end, jobs
        if self.signals:
            end()

    @contextlib.contextmanager
    def handling(self) -> Iterator[None]:
        """Handle signals, inside a `with` block."""
        before = {number: signal.getsignal(number) for number in STOPPING}
        handle_stops(self._handle)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _handle(self, number: int, _: FrameType | None) -> None:
        self.signals.append(number)
        if len(self.signals) >= _PATIENCE:
            if self._jobs is not None:
                # Another signal than before: two of a kind could become one.
                self._jobs.send(signal.SIGTERM if number == signal.SIGINT else signal.SIGINT)
            os._exit(128 + number)
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stop, number, len(self.signals))

    def _stop(self, number: int, count: int) -> None:
        assert self._jobs is not None
        self._end()
        self._jobs.pass_on(number)
        if self._jobs.active and count == 1:
            self._say("the page is closed; waiting for what is running to clean up")
        elif self._jobs.active:
            self._say("still waiting; once more ends it at once")


async def _serve(
    options: ServerOptions, listening: socket.socket, folder: Path | None, say: Callable[[str], None], stop: _Stop
) -> None:
    port = listening.getsockname()[1]

    def entered() -> None:
        if folder is not None:
            (folder / _OPENER).unlink(missing_ok=True)
        say(f"to open another browser: {address()}")

    def address() -> str:
        return f"http://{_in_url(_reached_by(options.host))}:{port}/start/{guard.entry}"

    site = Site(options.named, options.output_dir, options.config, lambda number: guard.pages_key(number))
    guard = Guard(application(site), port, [_in_url(host) for host in _names(options.host)], entered)
    server = _Server(_settings(guard), site.stopping)

    def end() -> None:
        server.should_exit = True
        site.stopping.set()

    for line in _welcome(options, site, port, address()):
        say(line)
    if folder is not None:
        _open(folder / _OPENER, address())
    stop.watch(site.jobs, end)
    anyio.to_thread.current_default_thread_limiter().total_tokens = _THREADS
    await server.serve(sockets=[listening])
    await site.jobs.wait()
    await site.sources.close()


def _settings(guard: Guard) -> uvicorn.Config:
    return uvicorn.Config(
        guard, http=_Protocol, ws="none", lifespan="off", log_config=None, access_log=False, server_header=False,
        date_header=False, proxy_headers=False, limit_concurrency=_MOST_CONNECTIONS,
        timeout_keep_alive=_IDLE_SECONDS, h11_max_incomplete_event_size=MOST_HEAD_BYTES,
    )  # fmt: skip


def _names(host: str) -> list[str]:
    """The names by which browsers may call the server."""
    with contextlib.suppress(ValueError):
        host = str(ipaddress.ip_address(host))
    names = [LOOPBACK, "localhost"]
    if host in ("0.0.0.0", "::"):
        names += _own_addresses(socket.AF_INET6 if ":" in host else socket.AF_INET)
    elif host not in names:
        names.append(host)
    return names


def _own_addresses(family: int) -> list[str]:
    """The addresses of this machine."""
    found = [entry for entries in psutil.net_if_addrs().values() for entry in entries]
    return [entry.address.partition("%")[0] for entry in found if entry.family in (family, socket.AF_INET)]


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _reached_by(host: str) -> str:
    return LOOPBACK if host in ("0.0.0.0", "::") else host


def _listening(options: ServerOptions) -> socket.socket:
    """A socket that listens.

    Raises:
        OptionError: The port is taken, or the address is not one of this machine.
        OutputError: The system gives no sockets.
    """
    first = options.port or DEFAULT_PORT
    ports = [first] if options.port is not None else range(first, first + _PORTS_TRIED)
    for port in ports:
        made = socket.socket(socket.AF_INET6 if ":" in options.host else socket.AF_INET, socket.SOCK_STREAM)
        try:
            if sys.platform == "win32":
                made.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
            else:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind((options.host, port))
            made.listen()
            return made
        except OSError as error:
            made.close()
            if error.errno in (errno.EADDRINUSE, errno.EACCES) and options.port is None:
                continue
            reason = error.strerror or str(error)
            where = f"{options.host}, port {port}"
            raise OptionError(f"cannot listen on {where}: {reason}", "choose another --port") from None
    raise OutputError(f"all ports from {ports[0]} to {ports[-1]} are taken", "name a free one with --port")


def _welcome(options: ServerOptions, site: Site, port: int, address: str) -> Iterator[str]:
    """The lines that the program prints at its start."""
    files = site.sources.refresh()
    archives = sum(not file.is_car for file in files)
    counts = [_counted(archives, "archive")]
    if archives < len(files):
        counts.append(_counted(len(files) - archives, "CAR file"))
    yield f"{', '.join(counts)}; exports go to {options.output_dir}"
    yield f"open this address, which works once: {address}"
    if options.host not in (LOOPBACK, "localhost", "::1"):
        yield (
            f"warning: everybody who reaches {options.host}, port {port}, can try to open it, and the connection is not"
            " encrypted; --host 127.0.0.1 is safer"
        )
    elif tunnel := _tunnel(port, os.environ):
        yield f"from your own machine, first: {tunnel}"
    yield "Ctrl-C ends it"


def _counted(number: int, what: str) -> str:
    return f"1 {what}" if number == 1 else f"{number:,} {what}s" if number else f"no {what}"


def _tunnel(port: int, environment: Mapping[str, str]) -> str:
    """The command that leads here from the machine of somebody who came by ssh; empty for anybody else."""
    parts = environment.get("SSH_CONNECTION", "").split()
    if len(parts) != 4:
        return ""
    try:
        user = f"{getpass.getuser()}@"
    except (OSError, KeyError):
        user = ""
    other_port = f"-p {parts[3]} " if parts[3] != "22" else ""
    return f"ssh -N {other_port}-L {port}:{LOOPBACK}:{port} {user}{parts[2]}"


def _may_open(options: ServerOptions) -> bool:
    """Whether there is a screen that a browser can open on."""
    if not options.browser or os.environ.get("SSH_CONNECTION"):
        return False
    return sys.platform in ("win32", "darwin") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _open(file: Path, address: str) -> None:
    """Open a browser on a new file that leads to *address*: other users can see command lines, but not the file."""
    write_opener(file, address)
    threading.Thread(target=webbrowser.open, args=(file.as_uri(),), daemon=True).start()


def write_opener(file: Path, address: str) -> None:
    """Write a page that leads to *address*, into a new file that only its owner can read."""
    shown = html.escape(address)
    with os.fdopen(open_new(file), "w", encoding="utf-8") as written:
        written.write(
            f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>skyexport</title>'
            f'<meta http-equiv="refresh" content="0;url={shown}"></head>'
            f'<body><p><a href="{shown}">Open skyexport</a></p></body></html>\n'
        )
