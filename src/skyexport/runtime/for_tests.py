"""The limits and the moments that tests may use: the one way for a test to reach inside the program.

No test should wait two minutes for a worker that hangs, or write ten thousand files to have too many. So two
environment variables change limits. Workers and commands inherit them from the test:

    SKYEXPORT_TESTING=1 SKYEXPORT_TEST_LIMITS="SILENT_SECONDS=2 BUSY_MILLISECONDS=10"

The second variable is refused without the first, so nobody exports with other limits by mistake. A test can also act at
a moment of an export in its own process: see `on_reached`. Tests replace nothing else in this package. They do replace
functions of Python and of libraries, so that the system fails.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, Literal, TypeVar

from skyexport.errors import OptionError

__all__ = [
    "LIMITS",
    "LIMITS_VARIABLE",
    "TESTING_VARIABLE",
    "Limit",
    "Moment",
    "changed_limits",
    "on_reached",
    "reached",
]

TESTING_VARIABLE = "SKYEXPORT_TESTING"
"""The variable that allows all of this, if it is 1."""

LIMITS_VARIABLE = "SKYEXPORT_TEST_LIMITS"
"""The variable with other limits: NAME=number, separated by white space."""

LIMITS = frozenset(
    {
        *("BUSY_MILLISECONDS", "PIN_BUSY_MILLISECONDS", "REGISTER_BUSY_MILLISECONDS"),
        *("SILENT_SECONDS", "SILENT_LARGE_SECONDS", "STOPPED_SECONDS", "LEAVE_SECONDS"),
        *("MAX_CHUNK_BYTES", "ROW_GROUP_POSTS", "ROW_GROUP_BYTES", "MAX_DATA_FILES", "MOST_DISAPPEARED"),
        *("POSTS_AT_ONCE", "POSTS_AHEAD", "CONNECT_SECONDS", "OTHER_ATTEMPT_SECONDS", "IDLE_SECONDS"),
        *("LARGE_ARCHIVE_BYTES", "REQUESTS_AT_ONCE", "OUTCOMES_IN_MEMORY_BYTES", "MOST_WORKERS_MEASURED"),
        "REQUEST_SECONDS",
    }
)
"""The names of all limits. Each is described where it is used."""

Moment = Literal["prepared", "pinning", "held", "copying", "rendering", "verified", "complete", "registering"]
"""Points that an export reaches:

- `prepared`: before the place of the export is locked; with the options
- `pinning`: before this process holds a state of an archive, in each attempt; with the archive
- `held`: after all processes hold one state, or a copy of it
- `copying`: while posts, or a whole archive that must be recovered, are copied
- `rendering`: before a batch is rendered, in the process that renders it; with the batch
- `verified`: after an earlier export was read, in full
- `complete`: after the export has its final name, before it is read back; with the list of its files
- `registering`: before the export is added to the archive's list
"""

Number = TypeVar("Number", int, float)


@dataclass(frozen=True, slots=True)
class Limit(Generic[Number]):
    """A limit that tests may change. Take its value where it is needed, but not for every post."""

    name: str
    usual: Number

    @property
    def value(self) -> Number:
        """The usual limit, or that of the test.

        Raises:
            OptionError: The variable of the limits is not valid, or not allowed.
        """
        changed = changed_limits(os.environ).get(self.name)
        return self.usual if changed is None else type(self.usual)(changed)


def changed_limits(environment: Mapping[str, str]) -> Mapping[str, float]:
    """The limits that the environment changes: name → value.

    Raises:
        OptionError: They are not allowed, or one of them is unknown or not a number.
    """
    text = environment.get(LIMITS_VARIABLE)
    if not text:
        return {}
    if environment.get(TESTING_VARIABLE) != "1":
        raise OptionError(f"the variable {LIMITS_VARIABLE} is for tests of this program only", "unset it")
    return _parsed(text)


@lru_cache
def _parsed(text: str) -> Mapping[str, float]:
    limits: dict[str, float] = {}
    for part in text.split():
        name, _, number = part.partition("=")
        if name not in LIMITS:
            near = difflib.get_close_matches(name, LIMITS, 1)
            hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(sorted(LIMITS))}"
            raise OptionError(f"{LIMITS_VARIABLE}: there is no limit {name!r}", hint)
        if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", number):
            raise OptionError(f"{LIMITS_VARIABLE}: {part!r} has no number", f"write it like {name}=10")
        limits[name] = float(number)
    return limits


_actions: dict[Moment, Callable[[Any], object]] = {}


def reached(moment: Moment, about: object = None) -> None:
    """Do what a test has asked for at this moment, if anything."""
    action = _actions.get(moment)
    if action is not None:
        action(about)


@contextlib.contextmanager
def on_reached(moment: Moment, action: Callable[[Any], object]) -> Iterator[None]:
    """Within this `with` statement, call *action* whenever this process reaches *moment*.

    Args:
        moment: One of the moments.
        action: Called with what the moment is about. What it raises is raised there.

    Raises:
        OptionError: This is no test: the variable `SKYEXPORT_TESTING` is not 1.
    """
    if os.environ.get(TESTING_VARIABLE) != "1":
        raise OptionError(f"moments of an export are for tests: set {TESTING_VARIABLE}=1")
    before = _actions.get(moment)
    _actions[moment] = action
    try:
        yield
    finally:
        if before is None:
            del _actions[moment]
        else:
            _actions[moment] = before
