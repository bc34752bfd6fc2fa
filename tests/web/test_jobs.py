"""Jobs, without a server: stopped at odd moments, and commands that cannot be started."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from skyexport.web.jobs import Jobs


def run(work: Callable[[Jobs], Awaitable[None]]) -> Jobs:
    """Run *work* with jobs, and wait until all of them have ended."""

    async def main() -> Jobs:
        jobs = Jobs()
        await work(jobs)
        async with asyncio.timeout(60):
            await jobs.wait()
        return jobs

    return asyncio.run(main())


def test_stopped_at_once(tmp_path: Path) -> None:
    """A job that is stopped in the moment in which it was added, or is being started, ends, and so do all others."""

    async def work(jobs: Jobs) -> None:
        jobs.stop(jobs.add("export", "first", ["inspect", str(tmp_path / "missing.db")]))
        second = jobs.add("export", "second", ["inspect", str(tmp_path / "missing.db")])
        while second.state == "waiting":
            await asyncio.sleep(0)
        jobs.stop(second)
        jobs.add("check", "third", ["inspect", str(tmp_path / "missing.db")])
        jobs.pass_on(signal.SIGINT)

    assert [job.state for job in run(work).all] == ["stopped"] * 3


def test_what_cannot_be_started() -> None:
    """A command that the system refuses fails in words, and the next one runs."""

    async def work(jobs: Jobs) -> None:
        jobs.add("export", "first", ["verify", "a\0b"])
        jobs.add("export", "second", ["verify", "/missing"])

    first, second = run(work).all
    assert (first.state, second.state) == ("failed", "failed")
    assert "null byte" in first.lines[0]
    assert "there is no directory /missing" in second.result["error"]


@pytest.mark.parametrize("arguments", [["no-such-command"], ["--version"], ["export", "--help"]])
def test_other_output(arguments: list[str]) -> None:
    """Whatever a command prints, a job ends."""

    async def work(jobs: Jobs) -> None:
        jobs.add("export", "one", arguments)

    (job,) = run(work).all
    assert job.has_ended
    assert job.sentence.startswith(f"{job.state}, after")


def test_order_and_number(tmp_path: Path) -> None:
    """Jobs run in the order in which they were added, one at a time, and can be found by number."""
    seen: list[int] = []

    async def work(jobs: Jobs) -> None:
        for _ in range(4):
            jobs.add("verify", "one", ["verify", str(tmp_path)])
        while jobs.active:
            running = [job.number for job in jobs.all if job.state == "running"]
            assert len(running) <= 1
            seen.extend(number for number in running if number not in seen)
            await asyncio.sleep(0.005)

    jobs = run(work)
    assert seen == [1, 2, 3, 4]
    assert jobs.find(3) is jobs.all[2]
    assert jobs.find(9) is None
