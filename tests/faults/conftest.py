"""Which trials of a row run."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator

import pytest

from tests.faults.matrix import Trials
from tests.faults.trial import Trial, usual_ground

if sys.platform != "linux":
    collect_ignore_glob = ["test_*.py"]
    """Processes are found through /proc, and system calls disturbed as on Linux."""


def _seed(config: pytest.Config) -> int:
    return int(config.getoption("faults_seed", 1) or 1)


def _is_full(config: pytest.Config) -> bool:
    return bool(config.getoption("faults_full", False))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each trial."""
    mark = metafunc.definition.get_closest_marker("trials")
    if mark is not None and "trial" in metafunc.fixturenames:
        ours: Trials = mark.args[0]
        metafunc.parametrize("trial", ours.numbers(full=_is_full(metafunc.config)), indirect=True)


@pytest.fixture
def trial(request: pytest.FixtureRequest) -> Iterator[Trial]:
    """A trial of the test's row; its random choices depend on the seed, the test and its number only."""
    number = int(request.param)
    choices = random.Random(f"{_seed(request.config)}/{request.node.originalname}/{number}")
    with Trial(usual_ground(), choices, number, full=_is_full(request.config)) as made:
        yield made
