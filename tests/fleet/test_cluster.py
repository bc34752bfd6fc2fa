"""Many archives on a Dask cluster: the same bytes as on one machine, whatever dies."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Self

import psutil
import pytest
from distributed import Client, LocalCluster
from distributed.comm.core import CommClosedError

from skyexport import ExportOptions, Migration, OptionError, WorkerError, export_all
from skyexport.errors import ArchiveError
from skyexport.fleet.archive_worker import ExportJob
from skyexport.fleet.cluster import answered
from skyexport.fleet.cluster_worker import ExporterPlugin
from skyexport.fleet.results import Outcome
from skyexport.options.values import ClusterAddress, parse_cluster
from tests.archives import file_archive, post
from tests.clusters import dask, local_cluster, unused_port
from tests.command import PROGRAM, assert_gone, files_below, skyexport, skyexport_json, started
from tests.conftest import limits
from tests.environment import ROOT

needs_unix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal, or no such limit")


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """Two workers of one thread each; one that dies is replaced."""
    with local_cluster(2) as made:
        yield made


@pytest.fixture
def address(cluster: LocalCluster) -> str:
    """Where its scheduler listens."""
    cluster.wait_for_workers(2)
    return str(cluster.scheduler_address)


def made(folder: Path, count: int, posts: int = 20) -> list[Path]:
    """Archives of different sizes, each with posts of its own."""
    return [
        file_archive(
            folder / f"a{number:02}.db",
            [post(1000 * number + n, text=f"{number} " * (n % 9)) for n in range(posts * (1 + number % 3))],
        )
        for number in range(count)
    ]


def exported(archives: list[Path], out: Path, cluster: str | None = None, **options: object) -> Migration:
    """Export the archives."""
    chosen = ExportOptions(archive="-", output_dir=out, sync=False, format="csv", **options)  # type: ignore[arg-type]
    return export_all(archives, chosen, cluster=cluster)


def data_below(folder: Path) -> dict[str, bytes]:
    """Directory of the archive and the author → the data file."""
    return {str(path.relative_to(folder).parent.parent): path.read_bytes() for path in folder.glob("*/*/*/posts.csv")}


def hidden_below(folder: Path) -> list[str]:
    """What unfinished exports left."""
    return [name for name in files_below(folder) if "partial" in name or "lock" in name]


def nannies_worker(cluster: LocalCluster) -> int:
    """The process id of a worker."""
    with Client(cluster, set_as_default=False) as client:
        return int(next(iter(client.run(os.getpid).values())))


def test_a_cluster_exports_what_one_machine_does(tmp_path: Path, address: str) -> None:
    """All archives, a missing one too, with the same bytes; the result is that of one machine, but for times."""
    archives = [*made(tmp_path, 7), tmp_path / "missing.db"]
    alone, shared = exported(archives, tmp_path / "alone"), exported(archives, tmp_path / "shared", address)
    assert data_below(tmp_path / "shared") == data_below(tmp_path / "alone")
    assert [outcome.status for outcome in shared.outcomes] == ["ok"] * 7 + ["failed"]
    assert (shared.posts, shared.bytes, shared.exit_code) == (alone.posts, alone.bytes, alone.exit_code)
    assert shared.to_dict().keys() == alone.to_dict().keys()
    assert shared.exporters == 2
    assert shared.peak_memory_bytes is not None
    for mine, theirs in zip(shared.archives(), alone.archives(), strict=True):
        assert mine.keys() == theirs.keys()
        assert mine["path"] == theirs["path"]
    error = shared.outcomes[7].error
    assert isinstance(error, ArchiveError)
    assert re.search(r"missing\.db.*, on the Dask worker \d of \S+", error.message)
    assert hidden_below(tmp_path) == []


def test_relative_paths(tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are those of the client, also in what it reports; two archives of one name are told apart by them."""
    monkeypatch.chdir(tmp_path)
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        file_archive(tmp_path / folder / "a.db", [post(1, text=folder)])
    done = export_all(
        ["x/a.db", "y/a.db"], ExportOptions(archive="-", output_dir="out", sync=False, format="csv"), cluster=address
    )
    directories = [outcome.summary.directory for outcome in done.outcomes if outcome.summary]
    assert len(directories) == 2
    assert all(directory is not None and directory.parts[0] == "out" for directory in directories)
    assert [re.sub("a-[0-9a-f]{8}", "NAME", str(path)) for path in sorted(data_below(tmp_path / "out"))] == [
        "NAME/all", "NAME/all",
    ]  # fmt: skip


def test_a_worker_dies(tmp_path: Path, cluster: LocalCluster, address: str) -> None:
    """Another one repeats what it had in work; again, all archives are skipped."""
    archives = made(tmp_path, 20, posts=400)
    killed: list[int] = []

    def kill(outcome: Outcome) -> None:
        assert outcome.status != "failed", outcome
        if not killed:
            killed.append(nannies_worker(cluster))
            os.kill(killed[0], signal.SIGKILL)

    options = ExportOptions(archive="-", output_dir=tmp_path / "out", sync=False, format="csv")
    done = export_all(archives, options, cluster=address, on_outcome=kill)
    assert killed
    assert done.exit_code == 0
    exported(archives, tmp_path / "alone")
    assert data_below(tmp_path / "out") == data_below(tmp_path / "alone")
    assert hidden_below(tmp_path / "out") == []
    again = export_all(archives, options, cluster=address)
    assert [outcome.status for outcome in again.outcomes] == ["skipped"] * 20
    assert again.posts == 0


@pytest.mark.slow
def test_an_exporter_dies(tmp_path: Path, address: str) -> None:
    """Its archive fails, as on one machine; its worker takes another process for the next."""
    archives = made(tmp_path, 6, posts=3000)

    def kill(_: Outcome) -> None:
        for process in psutil.process_iter(["cmdline"]) if not killed else ():
            if "archive_worker" in " ".join(process.info["cmdline"] or ()) and process.children() == []:
                killed.append(process.pid)
                process.kill()
                break

    killed: list[int] = []
    options = ExportOptions(archive="-", output_dir=tmp_path / "out", sync=False, format="csv")
    done = export_all(archives, options, cluster=address, on_outcome=kill)
    failed = [outcome for outcome in done.outcomes if outcome.status == "failed"]
    assert len(failed) <= 1
    for outcome in failed:
        assert outcome.error is not None
        assert re.search("the exporter of this archive was killed .*, on the Dask worker", str(outcome.error))
    assert hidden_below(tmp_path / "out") == []


def test_nobody_answers(tmp_path: Path) -> None:
    """One line, after a time that is bounded, and nothing is written."""
    archives = made(tmp_path, 2)
    where = f"127.0.0.1:{unused_port()}"
    with limits(CONNECT_SECONDS=0.5), pytest.raises(WorkerError, match=f"no Dask scheduler answers at {where}"):
        exported(archives, tmp_path / "out", where)
    assert not (tmp_path / "out").exists()


class Worker:
    """A Dask worker of its own, started by *program* with the arguments that follow."""

    def __init__(self, scheduler: str, *program: str, environment: dict[str, str] | None = None) -> None:
        start = "from distributed.cli.dask_worker import main; main()"
        self.process = subprocess.Popen(
            [*(program or (sys.executable, "-c", start)), scheduler, "--name", "odd", "--no-dashboard",
             "--nthreads", "1", "--nworkers", "1", "--no-nanny"],
            env={**os.environ, **(environment or {})}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(20)


@pytest.fixture
def scheduler() -> Iterator[LocalCluster]:
    """A scheduler that has no worker yet."""
    with local_cluster(0) as made:
        yield made


def test_a_worker_without_skyexport(tmp_path: Path, scheduler: LocalCluster) -> None:
    """It is named before anything begins."""
    hide = "import sys; sys.path[:] = [path for path in sys.path if not path.endswith('src')]; "
    start = "from distributed.cli.dask_worker import main; main()"
    with Worker(str(scheduler.scheduler_address), sys.executable, "-c", hide + start):
        scheduler.wait_for_workers(1, timeout=20)
        with pytest.raises(WorkerError, match=r"the Dask worker tcp://127\.0\.0\.1:\d+ has no skyexport"):
            exported(made(tmp_path, 2), tmp_path / "out", str(scheduler.scheduler_address))
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_worker_of_another_version(tmp_path: Path, scheduler: LocalCluster) -> None:
    """It is named before anything begins."""
    source = tmp_path / "src"
    shutil.copytree(ROOT / "src" / "skyexport", source / "skyexport", ignore=shutil.ignore_patterns("__pycache__"))
    init = source / "skyexport" / "__init__.py"
    changed, count = re.subn('__version__ = "[^"]+"', '__version__ = "0.0.1"', init.read_text(encoding="utf-8"))
    assert count == 1
    init.write_text(changed, encoding="utf-8")
    with Worker(str(scheduler.scheduler_address), environment={"PYTHONPATH": str(source)}):
        scheduler.wait_for_workers(1, timeout=20)
        with pytest.raises(WorkerError, match=r"the Dask worker odd of \S+ has skyexport 0\.0\.1, and this machine"):
            exported(made(tmp_path, 2), tmp_path / "out", str(scheduler.scheduler_address))
    assert not (tmp_path / "out").exists()


@needs_unix
@pytest.mark.slow
def test_a_full_disk_on_a_worker(tmp_path: Path, scheduler: LocalCluster) -> None:
    """Each archive fails with the name of the worker, and nothing stays."""
    start = f'ulimit -f 1; exec {sys.executable} -c "from distributed.cli.dask_worker import main; main()" "$@"'
    # Python would cut off its own caches too.
    unwritten = {"PYTHONDONTWRITEBYTECODE": "1"}
    with Worker(str(scheduler.scheduler_address), "bash", "-c", start, "-", environment=unwritten):
        scheduler.wait_for_workers(1, timeout=20)
        done = exported(made(tmp_path, 2, posts=500), tmp_path / "out", str(scheduler.scheduler_address))
    assert done.exit_code == 12
    for outcome in done.outcomes:
        assert re.search(r"File too large, on the Dask worker odd of \S+", str(outcome.error))
    assert hidden_below(tmp_path / "out") == []


def stopped_midway(arguments: list[str], out: Path, by: signal.Signals) -> subprocess.Popen[str]:
    """The command, which got the signal once an export was complete, and its process group too, as on a terminal."""
    process = subprocess.Popen(
        [*PROGRAM, "export", *arguments, "-o", str(out), "--no-sync", "--progress", "none", "-f", "csv"],
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 40
    while not list(out.glob("*/*/*/SHA256SUMS")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, by)
    return process


@needs_unix
def test_exporters_that_nobody_needs_end(tmp_path: Path) -> None:
    """A client that was killed ends no exporter: each ends by itself some time after its last task."""
    worker = SimpleNamespace(name="w", address="tcp://127.0.0.1:1", log_event=lambda *_: None)
    plugin = ExporterPlugin("migration", debug=False)
    plugin.setup(worker)  # type: ignore[arg-type]
    (archive,) = made(tmp_path, 1)
    before = psutil.Process().children()
    with limits(IDLE_SECONDS=1.0):
        for number in range(2):
            options = ExportOptions(archive=archive, output_dir=tmp_path / f"out{number}", workers=0, sync=False)
            assert plugin.export(ExportJob(number, options), f"key{number}").has_export
            assert len(psutil.Process().children()) == len(before) + 1
        (exporter,) = [child for child in psutil.Process().children() if child not in before]
        assert_gone([exporter])


@pytest.mark.parametrize("kind", [CommClosedError, AttributeError, RuntimeError])
@pytest.mark.parametrize("failures", [0, 1, 5])
def test_a_cluster_that_dies_while_it_is_asked(failures: int, kind: type[Exception]) -> None:
    """Dask fails in many ways where a worker dies meanwhile, or the scheduler: it is asked again, a few times."""
    asked = []

    def question() -> str:
        asked.append(1)
        if len(asked) <= failures:
            raise kind("Stream is closed")
        return "answer"

    if failures < 5:
        assert answered(question) == "answer"
    else:
        with pytest.raises(WorkerError, match=r"does not answer any more: Stream is closed; look at its"):
            answered(question)


def test_ctrl_c(tmp_path: Path) -> None:
    """Tasks undo what they did not complete, and the line says how many archives are complete."""
    (first,) = made(tmp_path, 1, posts=12_000)
    archives = [first, *(Path(shutil.copy(first, tmp_path / f"b{number:02}.db")) for number in range(11))]
    process = stopped_midway([*map(str, archives), "--cluster", "local:2"], tmp_path / "out", signal.SIGINT)
    _, errors = process.communicate(timeout=40)
    assert process.returncode == 130, errors
    complete = len(list(tmp_path.glob("out/*/*/*/SHA256SUMS")))
    assert (
        errors
        == f"skyexport: stopped by a signal; {complete} of 12 archives {'is' if complete == 1 else 'are'} complete\n"
    )
    assert hidden_below(tmp_path / "out") == []
    skyexport("verify", *map(str, tmp_path.glob("out/*/*/*")))


@needs_unix
@pytest.mark.slow
def test_the_client_dies(tmp_path: Path, address: str) -> None:
    """Nobody wants the results any more, so the workers stop, and nothing partial stays."""
    archives = made(tmp_path, 12, posts=6000)
    process = stopped_midway([*map(str, archives), "--cluster", address], tmp_path / "out", signal.SIGKILL)
    process.communicate(timeout=40)
    deadline = time.monotonic() + 20
    while hidden_below(tmp_path / "out") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert hidden_below(tmp_path / "out") == []
    assert len(data_below(tmp_path / "out")) < 12
    assert exported(archives, tmp_path / "out", address).exit_code == 0
    assert hidden_below(tmp_path / "out") == []


@needs_unix
@pytest.mark.slow
def test_a_task_that_another_worker_takes(tmp_path: Path) -> None:
    """A silent worker loses its tasks to another one, and then goes on with them: each archive has one export."""
    archives = made(tmp_path, 8, posts=6000)
    port = unused_port()
    environment = {**os.environ, "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "2s"}
    scheduler = dask("scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard", environment=environment)
    where = f"tcp://127.0.0.1:{port}"
    arguments = ("worker", where, "--nthreads", "1", "--no-nanny", "--no-dashboard", "--memory-limit", "0")
    workers = [dask(*arguments, environment=environment) for _ in range(2)]
    try:
        out = tmp_path / "out"
        with started(
            "export", *map(str, archives), "--cluster", where, "-o", str(out), "-f", "csv", "--no-sync"
        ) as process:
            silent = psutil.Process(workers[0].pid)
            deadline = time.monotonic() + 40
            while not (silent.children() and data_below(out)) and time.monotonic() < deadline:
                time.sleep(0.01)
            silent.suspend()
            while len(data_below(out)) < 7 and time.monotonic() < deadline:
                time.sleep(0.05)
            time.sleep(3)
            silent.resume()
            _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    finally:
        for each in (*workers, scheduler):
            each.kill()
            each.wait()
    assert exported(archives, tmp_path / "alone").exit_code == 0
    assert data_below(out) == data_below(tmp_path / "alone")
    assert len(list(out.glob("*/*/*/posts.csv"))) == len(archives)
    assert hidden_below(out) == []


@needs_unix
@pytest.mark.slow
def test_the_scheduler_dies(tmp_path: Path) -> None:
    """One line, exit status 14; the workers undo what they did not complete."""
    archives = made(tmp_path, 12, posts=6000)
    port = unused_port()
    scheduler = dask("scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard")
    where = f"tcp://127.0.0.1:{port}"
    with Worker(where), limits(CONNECT_SECONDS=1):
        try:
            process = started(
                "export", *map(str, archives), "--cluster", where, "-o", str(tmp_path / "out"), "--no-sync", "-f", "csv"
            )
            deadline = time.monotonic() + 40
            while not data_below(tmp_path / "out") and time.monotonic() < deadline:
                time.sleep(0.01)
        finally:
            scheduler.kill()
            scheduler.wait()
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 14, errors
    (line,) = (line for line in errors.splitlines() if "of 12 archives, " not in line)
    assert line.startswith("skyexport: the Dask scheduler is gone")
    assert hidden_below(tmp_path / "out") == []


@pytest.mark.slow
def test_local_workers_by_command(tmp_path: Path) -> None:
    """`--cluster local:2` starts a cluster here; the object is that of many archives."""
    archives = made(tmp_path, 4)
    found = skyexport_json(
        "export", *archives, "--cluster", "local:2", "-o", tmp_path / "out", "--no-sync", "-f", "csv"
    )
    assert (found["archives_exported"], found["archives_failed"], found["exporters"]) == (4, 0, 2)
    exported(archives, tmp_path / "alone")
    assert data_below(tmp_path / "out") == data_below(tmp_path / "alone")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("local:4", ClusterAddress("local:4", 4)),
        ("host:8786", ClusterAddress("host:8786")),
        ("tcp://10.0.0.1:8786", ClusterAddress("tcp://10.0.0.1:8786")),
        ("tls://scheduler.example.org:8786", ClusterAddress("tls://scheduler.example.org:8786")),
        ("tcp://[::1]:8786", ClusterAddress("tcp://[::1]:8786")),
    ],
)
def test_addresses(text: str, expected: ClusterAddress) -> None:
    """What users write."""
    assert parse_cluster(text) == expected


@pytest.mark.parametrize(
    "text", ["", "local", "local:", "local:0", "local:x", "local:1000", "host", "host:", "a b:1", "-3"]
)
def test_no_addresses(tmp_path: Path, text: str) -> None:
    """One line, and what to write instead."""
    with pytest.raises(OptionError, match="write"):
        parse_cluster(text)
    done = skyexport("export", "a.db", "--cluster", text, cwd=tmp_path)
    assert done.returncode == 2
    assert "HOST:8786" in done.stderr or "local:4" in done.stderr
