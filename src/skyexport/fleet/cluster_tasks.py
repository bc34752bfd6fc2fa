"""The tasks of a migration on a Dask cluster: submitted, watched, taken, and stopped, whatever dies.

If a worker dies, the scheduler gives its task to another one. A task whose workers die again and again has failed. If
the scheduler dies, or this process is stopped, all tasks are stopped: they undo their unfinished exports.
"""

from __future__ import annotations

import contextlib
import pickle
import queue
import secrets
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from distributed import Client, Future, KilledWorker

from skyexport.errors import ExportError, WorkerError
from skyexport.fleet.archive_worker import JobResult, ProgressUpdate, Request
from skyexport.fleet.cluster import answered, check_workers
from skyexport.fleet.cluster_worker import ExporterPlugin, run_request, stop_exporters
from skyexport.options.export_options import ExportOptions, resolve
from skyexport.runtime.location import absolute

__all__ = ["ClusterTasks", "everywhere"]

_POLL_SECONDS = 0.1
"""How often to check for signals while no task ends."""

_MOST_TASKS = 2000
"""Tasks with the scheduler: enough for hundreds of workers, and a few megabytes there, however many there are."""

_LEAST_TASKS = 1000
"""With fewer tasks there, the next ones are submitted."""

_RETRIES = 2
"""For tasks that could not run; a failing export is an answer, and not repeated."""

_RESULT_SECONDS = 1.0
"""How long to wait for the result of a task that has ended: its worker may just have died, and another repeats it."""


class ClusterTasks:
    """The tasks of one migration. Use it in a `with` statement, which stops those that are left at its end.

    Args:
        client: The client of the cluster.
        options: The options of the exports.
        say: Called with lines for people.
        debug: Let exporters write to the standard error of their workers.

    Raises:
        WorkerError, MissingExtraError: A worker cannot export.
    """

    def __init__(self, client: Client, options: ExportOptions, say: Callable[[str], None], *, debug: bool) -> None:
        self._client = client
        self._name = f"skyexport-{secrets.token_hex(4)}"
        self._debug = debug
        self._in_work: dict[int, Future[Any]] = {}
        self._ended: queue.SimpleQueue[int] = queue.SimpleQueue()
        """Numbers of tasks that have ended."""
        self._submitted = 0
        self._moments: dict[int, ProgressUpdate] = {}
        self._told: dict[int, JobResult] = {}
        """Answers of tasks that are about to end. To fetch each from its worker would take three messages."""
        check_workers(client, resolve(options).format)
        self.threads = sum(answered(client.nthreads).values())
        """Tasks that the cluster runs at a time, when this began."""
        if not self.threads:
            say("the cluster has no worker yet: waiting for one")

    def __enter__(self) -> Self:
        answered(lambda: self._client.register_plugin(ExporterPlugin(self._name, debug=self._debug)))
        self._client.subscribe_topic(self._name, self._received)
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        with contextlib.suppress(Exception):
            self._client.unregister_worker_plugin(self._name)

    def in_hand(self) -> list[ProgressUpdate]:
        """The progress of the tasks in work."""
        return list(self._moments.values())

    def answers(self, requests: Iterable[Request], check: Callable[[], None]) -> Iterator[JobResult]:
        """Yield the answers as they come.

        Args:
            requests: Each with a number of its own; the first ones begin first.
            check: Called all the time; an exception from it stops all tasks.

        Raises:
            WorkerError: The scheduler is gone.
        """
        left = iter(requests)
        while True:
            check()
            self._submit(left)
            if not self._in_work:
                return
            try:
                number = self._ended.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                if self._client.status not in ("running", "connecting"):
                    raise _scheduler_is_gone() from None
                continue
            answer = self._answer(number)
            if answer is not None:
                del self._in_work[number]
                self._moments.pop(number, None)
                yield answer

    def _submit(self, requests: Iterator[Request]) -> None:
        """Submit tasks, many at once, until enough are with the scheduler."""
        if len(self._in_work) > _LEAST_TASKS:
            return
        batch = list(islice(requests, _MOST_TASKS - len(self._in_work)))
        # The scheduler begins tasks that were submitted together in the order of their names.
        keys = [f"{self._name}-{self._submitted + place:09}" for place in range(len(batch))]
        self._submitted += len(batch)
        futures = self._client.map(run_request, batch, migration=self._name, key=keys, pure=False, retries=_RETRIES)
        for request, future in zip(batch, futures, strict=True):
            self._in_work[request.number] = future
            future.add_done_callback(lambda _, number=request.number: self._ended.put(number))

    def _received(self, event: tuple[float, object]) -> None:
        """A task tells its progress, or its answer."""
        _, message = event
        if isinstance(message, bytes):
            answer = pickle.loads(message)
            self._told[answer.number] = answer
        elif isinstance(message, dict) and message["number"] in self._in_work:
            self._moments[message["number"]] = ProgressUpdate(**message, pulse=())

    def _answer(self, number: int) -> JobResult | None:
        """The answer of a task that has ended; None if its worker died, and another one repeats it."""
        told = self._told.pop(number, None)
        if told is not None:
            return told
        try:
            answer = self._in_work[number].result(timeout=_RESULT_SECONDS)
            assert isinstance(answer, JobResult)
        except TimeoutError:
            self._ended.put(number)
            return None
        except CancelledError:
            raise _scheduler_is_gone() from None
        except KilledWorker as error:
            died = f"{error.allowed_failures + 1} Dask workers died, one after the other, with this archive"
            return JobResult(number, error=WorkerError(died, f"look into the log of {error.last_worker.address}"))
        except Exception as error:
            if self._client.status != "running":
                raise _scheduler_is_gone() from error
            why = " ".join(str(error).split()) or type(error).__name__
            failed = WorkerError(f"no Dask worker could begin this export: {why}", "look into their logs")
            return JobResult(number, error=failed)
        return answer

    def stop(self) -> list[int]:
        """Stop all tasks, and wait until their exports are undone.

        Returns:
            The numbers of those that ended with a complete export, also if their answers were not taken.
        """
        with contextlib.suppress(Exception):
            self._client.cancel(list(self._in_work.values()))
            if self._client.status == "running":
                stopped = self._client.run(stop_exporters, self._name, on_error="ignore")
                return list(chain.from_iterable(stopped.values()))
        return []


def _scheduler_is_gone() -> ExportError:
    return WorkerError(
        "the Dask scheduler is gone, and its workers undo what they did not complete", "start it, and export again"
    )


def everywhere(options: ExportOptions) -> ExportOptions:
    """*options* for a process with another current directory; a task takes one CPU unless they say otherwise."""
    paths: dict[str, Any] = {}
    for name in ("archive", "output_dir", "media_root", "link_media"):
        path = getattr(options, name)
        if path is not None:
            paths[name] = absolute(Path(path))
    return replace(options, **paths, workers=0 if options.workers == "auto" else options.workers)
