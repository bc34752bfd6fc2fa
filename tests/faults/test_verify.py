"""Exports in which something was changed, and `skyexport verify`."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from skyexport import VerifyError, verify
from tests.command import PROGRAM
from tests.faults import invariants
from tests.faults.matrix import trials
from tests.faults.trial import Ended, Run, Trial

FILES = ("manifest.json", "SHA256SUMS")
"""What lies beside the data file."""


def _flip(directory: Path, choices: random.Random) -> str:
    """Change one bit of one file."""
    path = choices.choice(sorted(directory.iterdir()))
    data = bytearray(path.read_bytes())
    data[choices.randrange(len(data))] ^= 1 << choices.randrange(8)
    path.write_bytes(data)
    return path.name


def _change_byte(directory: Path, choices: random.Random) -> str:
    """Change one byte of the small files, which a random choice by size would never hit in quick runs."""
    path = directory / choices.choice(FILES)
    data = bytearray(path.read_bytes())
    at = choices.randrange(len(data))
    data[at] = (data[at] + choices.randrange(1, 256)) % 256
    path.write_bytes(data)
    return path.name


def _lose(directory: Path, choices: random.Random) -> str:
    path = choices.choice(sorted(directory.iterdir()))
    path.unlink()
    return path.name


def _add(directory: Path, choices: random.Random) -> str:
    name = choices.choice(("posts.json~", ".hidden", "posts (1).csv", "manifest.json.tmp", "x" * 200))
    (directory / name).write_bytes(choices.randbytes(choices.randrange(100)))
    return name


def _cut(directory: Path, choices: random.Random) -> str:
    path = choices.choice(sorted(directory.iterdir()))
    data = path.read_bytes()
    path.write_bytes(data[: choices.randrange(len(data))])
    return path.name


CHANGES: tuple[Callable[[Path, random.Random], str], ...] = (_flip, _lose, _add, _change_byte, _cut)
"""Each changes something, and gives the name of the file."""


@trials("37", quick=3, full=300)
def test_changed_export(trial: Trial) -> None:
    """Whatever is changed in an export, verify says which file it is in, and changes nothing itself."""
    format = ("json", "csv")[trial.number // len(CHANGES) % 2]
    (path,) = trial.check(trial.export(format=format, workers=0), {0}, data=trial.ground.expected[format])
    directory = path.parent
    assert verify(directory).posts == trial.ground.posts
    changed = CHANGES[trial.number % len(CHANGES)](directory, trial.random)
    before = invariants.fingerprint(directory)
    if trial.number % 10 == 0:
        ended = Run([*PROGRAM, "verify", str(directory)], env=trial.environment()).end()
        differences = ended.output.decode().splitlines()
    else:
        try:
            verify(directory)
        except VerifyError as error:
            ended = Ended(error.exit_code, b"", f"skyexport: {error}\n")
            differences = [str(difference) for difference in error.differences]
        else:
            raise AssertionError(f"the change of {changed} was not noticed")
    # A checksum that is not that of the manifest any more may stand for a change of either.
    assert any(line.startswith(f"{changed}: ") or (changed == FILES[1] and changed in line) for line in differences)
    assert differences[0] in ended.errors
    assert invariants.fingerprint(directory) == before
    trial.out = trial.place / "nothing"
    trial.check(ended, {4})
