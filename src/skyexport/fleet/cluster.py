"""A Dask cluster, as the client of it sees it: connecting, checking its workers, and a cluster of this machine only."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import dask
from distributed import Client, LocalCluster, Worker

from skyexport import __version__
from skyexport.errors import ExportError, OptionError, WorkerError
from skyexport.formats import FORMS
from skyexport.options.values import ClusterAddress
from skyexport.runtime.cleanup import uninterrupted
from skyexport.runtime.for_tests import Limit

__all__ = ["answered", "check_workers", "connected", "worker_name"]

_CONNECT_SECONDS = Limit("CONNECT_SECONDS", 10.0)
"""How long a scheduler may take to answer."""

_CLOSE_SECONDS = 5
"""How long closing may take, when the scheduler is gone."""

_QUIET = {"distributed.worker.profile.enabled": False}
"""Dask's own profiler looks at every thread a hundred times a second, and nobody reads it here."""

_ATTEMPTS = 5
_PAUSE_SECONDS = 0.2
"""How often a cluster is asked before it counts as dead, and how much longer each pause is than the one before."""

Result = TypeVar("Result")

_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class _Needs:
    """The needs of an export, which a worker must meet."""

    version: str
    format: str


@contextlib.contextmanager
def connected(address: ClusterAddress, *, debug: bool) -> Iterator[Client]:
    """A client of the cluster at *address*; one of this machine only is started, and ends with the client.

    Args:
        address: The address.
        debug: Let Dask print its log.

    Raises:
        WorkerError: Nobody answers there, or no cluster can be started.
    """
    opened = _Opened(address)
    with _silent(debug=debug):
        try:
            try:
                uninterrupted(opened.open)
            except (OSError, ValueError, RuntimeError, ImportError) as error:
                raise _no_answer(address, error) from error
            assert opened.client is not None
            yield opened.client
        finally:
            uninterrupted(opened.close)


class _Opened:
    """A client, and the cluster if it is this machine's; both closed by `close`."""

    def __init__(self, address: ClusterAddress) -> None:
        self._address = address
        self._cluster: LocalCluster | None = None
        self.client: Client | None = None

    def open(self) -> None:
        address = self._address
        if address.local_workers:
            # The processes of a cluster inherit this from its thread: a Ctrl-C on the terminal is for this process.
            if hasattr(signal, "pthread_sigmask"):
                # Otherwise it starts with the first process, and unblocks signals then.
                from multiprocessing import resource_tracker

                resource_tracker.ensure_running()
                signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            with dask.config.set(_QUIET):
                self._cluster = LocalCluster(
                    n_workers=address.local_workers, threads_per_worker=1, processes=True, host=_LOOPBACK,
                    dashboard_address=f"{_LOOPBACK}:0", memory_limit=0, silence_logs=logging.CRITICAL,
                )  # fmt: skip
        where = self._cluster or address.text
        self.client = Client(where, timeout=_CONNECT_SECONDS.value, set_as_default=False, name="skyexport")

    def close(self) -> None:
        for closing in (self.client, self._cluster):
            if closing is not None:
                with contextlib.suppress(Exception):
                    closing.close(timeout=_CLOSE_SECONDS)


@contextlib.contextmanager
def _silent(*, debug: bool) -> Iterator[None]:
    """Keep Dask from printing its log meanwhile: its loggers have levels of their own."""
    names = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] in ("distributed", "tornado")]
    before = {name: logging.getLogger(name).level for name in names}
    for name in () if debug else names:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


def _no_answer(address: ClusterAddress, error: Exception) -> ExportError:
    reason = " ".join(str(error).split()) or type(error).__name__
    if address.local_workers:
        return WorkerError(f"cannot start a cluster of {address.local_workers} workers: {reason}", "try fewer")
    if isinstance(error, ValueError | ImportError):
        return OptionError(f"{address} is no address of a Dask scheduler: {reason}", "write it like HOST:8786")
    return WorkerError(
        f"no Dask scheduler answers at {address}",
        "start one with `dask scheduler`, or check the address and who may connect to it",
    )


def check_workers(client: Client, format: str) -> int:
    """Check that all workers of a cluster can export.

    Args:
        client: A client of the cluster.
        format: Name of the format.

    Returns:
        The number of workers.

    Raises:
        WorkerError: A worker has another version of skyexport, or none.
        MissingExtraError: A worker lacks an extra that the format needs.
    """
    found: dict[str, object] = answered(lambda: client.run(_problem, _Needs(__version__, format), on_error="return"))
    for address, problem in sorted(found.items()):
        if isinstance(problem, ExportError):
            raise problem
        if isinstance(problem, OSError):
            # It has died meanwhile.
            continue
        if isinstance(problem, BaseException):
            why = " ".join(str(problem).split())
            if "No module named 'skyexport" in why:
                raise WorkerError(f"the Dask worker {address} has no skyexport", "install it for its Python")
            raise WorkerError(f"the Dask worker {address} cannot export: {why}", "look into its log")
    return len(found)


def answered(question: Callable[[], Result]) -> Result:
    """Ask a cluster. A worker that dies meanwhile makes Dask fail; then the others are asked again.

    Raises:
        WorkerError: The scheduler is gone, or workers die again and again.
    """
    for attempt in range(_ATTEMPTS):
        try:
            return question()
        except ExportError:
            raise
        except Exception as error:
            # A client whose scheduler is gone fails in many ways, also with errors of names.
            lost = error
            time.sleep(_PAUSE_SECONDS * attempt)
    why = " ".join(str(lost).split())[:80]
    raise WorkerError(
        f"the Dask cluster does not answer any more: {why}", "look at its scheduler and workers"
    ) from lost


def _problem(needs: _Needs, dask_worker: Worker) -> ExportError | None:
    """Runs on a worker: why it cannot export; None if it can."""
    problem = version_problem(needs.version, dask_worker)
    if problem is None:
        try:
            FORMS[needs.format].require()
        except ExportError as error:
            problem = at_worker(error, dask_worker)
    return problem


def version_problem(version: str, worker: Worker) -> ExportError | None:
    """Runs on *worker*: the error that it has another version of skyexport than the client; None if it has the same."""
    if version == __version__:
        return None
    return WorkerError(
        f"{worker_name(worker)} has skyexport {__version__}, and this machine {version}",
        "install the same on all machines",
    )


def at_worker(error: ExportError, worker: Worker) -> ExportError:
    """*error*, and on which worker it happened."""
    error.message = f"{error.message}, on {worker_name(worker)}"
    return error


def worker_name(worker: Worker) -> str:
    """Runs on *worker*: how people know it."""
    name = worker.address if worker.name is None else worker.name
    return f"the Dask worker {name} of {socket.gethostname()}"
