"""The choice of the trials that run, and the notes about them.

By default, the trials of the quick tier run. FAULTS=full collects all trials, to repeat one by its id. SEED is the seed
of their random choices, by default 1. `__main__` passes a plan to its processes in FAULTS_PLAN.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator

import pytest

from tests.faults.matrix import Trials
from tests.faults.plan import Plan, Recorder
from tests.faults.trial import Trial, usual_ground

if sys.platform != "linux":
    collect_ignore_glob = ["test_*.py"]
    """Processes are found through /proc, and system calls disturbed as on Linux."""

_PLAN = Plan.given()
_SEED = int(os.environ.get("SEED") or 1)
_FULL = _PLAN is not None or os.environ.get("FAULTS") == "full"


def pytest_configure(config: pytest.Config) -> None:
    """Register a recorder that notes the outcomes of a plan's trials."""
    if _PLAN is not None:
        config.pluginmanager.register(Recorder(_PLAN))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each trial."""
    mark = metafunc.definition.get_closest_marker("trials")
    if mark is not None and "trial" in metafunc.fixturenames:
        ours: Trials = mark.args[0]
        test = metafunc.definition.nodeid
        numbers = ours.numbers(full=_FULL) if _PLAN is None else _PLAN.numbers(test, ours)
        metafunc.parametrize("trial", numbers, indirect=True, ids=[str(number) for number in numbers])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A plan is about trials only. Rows of which the quick tier tries nothing are not there."""
    if _PLAN is None:
        items[:] = [item for item in items if not item.name.endswith("[NOTSET]")]
    else:
        chosen = [item for item in items if _PLAN.has(item)]
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = chosen


@pytest.fixture
def trial(request: pytest.FixtureRequest) -> Iterator[Trial]:
    """A trial of the test's row; its random choices depend on the seed, the test and its number only."""
    number = int(request.param)
    mark = request.node.get_closest_marker("trials")
    shape = mark.args[0].shape(number)
    choices = random.Random(f"{_SEED}/{request.node.originalname}/{number}")
    with Trial(usual_ground(), choices, number, full=_FULL, shape=shape) as made:
        yield made
