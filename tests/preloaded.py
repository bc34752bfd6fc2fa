"""Runs of the command in a process that has its modules already: loading them takes longer than most of what is tested.

A server loads the program once, and forks for each run. The fork gets the run's arguments, directory, environment and
files, then does what `python -m skyexport` does, and ends as Python ends. So a run is a process of its own, but shares
memory with the server: what measures memory needs a process that loads the program itself.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import os
import pickle
import pkgutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any

__all__ = ["can_run", "run"]

_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class _Request:
    arguments: list[str]
    directory: str
    environment: dict[str, str]
    output: str
    errors: str


def _send(stream: IO[bytes], message: object) -> None:
    data = pickle.dumps(message)
    stream.write(_LENGTH.pack(len(data)) + data)
    stream.flush()


def _receive(stream: IO[bytes]) -> Any:
    header = stream.read(_LENGTH.size)
    return pickle.loads(stream.read(*_LENGTH.unpack(header))) if header else None


def can_run(environment: dict[str, str]) -> bool:
    """Whether such a run is the same as one in a fresh process: Python has read its own variables at its start."""
    if sys.platform != "linux" or signal.getsignal(signal.SIGCHLD) is not signal.SIG_DFL:
        return False
    return all(
        environment.get(name) == os.environ.get(name)
        for name in {*environment, *os.environ}
        if name.startswith(("PYTHON", "LC_", "LANG", "LD_"))
    )


class _Server:
    """The other process, from here."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from tests.preloaded import _serve; _serve()"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1], start_new_session=True,
        )  # fmt: skip

    def run(self, request: _Request, timeout_seconds: float) -> int:
        """The exit status of a run; minus the signal that ended it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            _send(self._process.stdin, request)
            pid = _receive(self._process.stdout)
            late = threading.Event()

            def end() -> None:
                late.set()
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

            timer = threading.Timer(timeout_seconds, end)
            timer.start()
            status = _receive(self._process.stdout)
            timer.cancel()
        if late.is_set():
            raise subprocess.TimeoutExpired(request.arguments, timeout_seconds)
        return int(status)

    def end(self) -> None:
        self._process.communicate()


@cache
def _server() -> _Server:
    server = _Server()
    atexit.register(server.end)
    return server


def run(
    arguments: list[str], directory: Path | None, environment: dict[str, str], timeout_seconds: float
) -> subprocess.CompletedProcess[str]:
    """Run `skyexport` to its end."""
    with tempfile.TemporaryDirectory(prefix="skyexport-run-") as folder:
        output, errors = Path(folder, "output"), Path(folder, "errors")
        request = _Request(arguments, os.fspath(directory or Path.cwd()), environment, str(output), str(errors))
        status = _server().run(request, timeout_seconds)
        return subprocess.CompletedProcess(arguments, status, output.read_text(), errors.read_text())


def _serve() -> None:
    """The program of the server."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    # Loading it takes as long as three runs.
    import pyarrow.parquet  # noqa: F401

    import skyexport.__main__

    for module in pkgutil.walk_packages(skyexport.__path__, "skyexport."):
        if module.name != "skyexport.rendering.native_renderer":  # An extension of SQLite.
            importlib.import_module(module.name)
    gc.freeze()
    while (request := _receive(requests)) is not None:
        pid = os.fork()
        if not pid:
            requests.close()
            answers.close()
            _become(request)
            # It returns from here, and Python ends as it does after `python -m skyexport`.
            skyexport.__main__.main()
            return
        _send(answers, pid)
        _send(answers, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def _become(request: _Request) -> None:
    """Take arguments, directory, environment and files of a run."""
    for number, path in ((1, request.output), (2, request.errors)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(file, number)
        os.close(file)
    os.chdir(request.directory)
    os.environ.clear()
    os.environ.update(request.environment)
    sys.argv = ["skyexport", *request.arguments]
