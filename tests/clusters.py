"""Dask clusters on this machine, for tests."""

from __future__ import annotations

import socket
import subprocess
import sys

from distributed import LocalCluster

__all__ = ["dask", "local_cluster", "unused_port"]


def local_cluster(workers: int) -> LocalCluster:
    """A cluster of so many workers with one thread each, to be used in a `with` statement."""
    return LocalCluster(
        n_workers=workers, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address="127.0.0.1:0",
        memory_limit=0, silence_logs=60,
    )  # fmt: skip


def dask(command: str, *arguments: str, environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start `dask scheduler` or `dask worker`; None for the environment of the test."""
    program = f"from distributed.cli.dask_{command} import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments], env=environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def unused_port() -> int:
    """A port of this machine where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
