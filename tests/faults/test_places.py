"""Places of exports: two runs in one, leftovers in it, names in it that are taken, links that somebody planted."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import os
import random
import shutil
import stat
import string
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import apsw

from skyexport.layout import directory_name
from tests.faults.matrix import trials
from tests.faults.shapes import Shape, in_one_file
from tests.faults.trial import SABOTAGE, Run, Trial, bytes_of, usual_ground

SECONDS_AHEAD = 30
"""So many of the next times are planted as names: longer than it takes until an export has its own."""

LOCKS = (".skyexport.lock", ".posts.lock")

Tree = dict[str, tuple[int, str]]
"""Path → mode, and the digest of a file or the target of a link."""


def tree(*folders: Path) -> Tree:
    """Everything below some directories, the directories themselves left out; links are not followed."""
    found = {}
    for path in (path for folder in folders for path in folder.rglob("*")):
        mode = path.lstat().st_mode
        content = str(path.readlink()) if stat.S_ISLNK(mode) else ""
        if stat.S_ISREG(mode):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        found[str(path)] = (mode, content)
    return found


@functools.cache
def owners_posts() -> bytes:
    """The export of the posts of the archive's owner alone."""
    return bytes_of(usual_ground().archive, author=usual_ground().did)


# --- Two at a time, and what the dead left ------------------------------------------------------------------------


def check_two(trial: Trial, runs: Sequence[Run], shape: Shape, *, one_must_wait: bool) -> None:
    """Runs into one place: each is whole or was told to wait, and none has taken anything from another."""
    ends = [run.end() for run in runs]
    done = sum(ended.status == 0 for ended in ends)
    assert done >= 1
    assert done < len(ends) or not one_must_wait
    for ended in ends:
        exports = trial.check(ended, {0, 15}, data=trial.ground.expected_by(shape))
        assert len(exports) == (done if trial.to is None else 1)
        assert ("is running: process " in ended.errors) == (ended.status == 15)


@trials("two-exports", quick=1, full=100, shapes=0)
def test_exports_that_begin_together(trial: Trial) -> None:
    """Of exports of an author that begin at the same time each is whole, or says that another one runs."""
    where = trial.random.choice(((), (), ("--to", "OUT/posts", "--overwrite")))
    shape = in_one_file(trial.shape) if where else trial.shape
    runs = []
    for _ in range(trial.random.choice((2, 2, 3))):
        runs.append(trial.start_by((*shape, "-j", trial.random.choice(("0", "2")), *where)))
        time.sleep(trial.random.choice((0, 0, trial.random.uniform(0, 0.3))))
    check_two(trial, runs, shape, one_must_wait=False)


@trials("two-exports", quick=1, full=100, shapes=2)
def test_export_while_another_one_runs(trial: Trial) -> None:
    """While one is surely at work, the second one ends at once and says so, and the first one does not notice."""
    where = trial.random.choice(((), ("--to", "OUT/posts", "--overwrite")))
    shape = in_one_file(trial.shape) if where else trial.shape
    first = trial.start_by((*shape, "-j", trial.random.choice(("0", "2")), *where))
    first.wait_for(trial.partial)
    time.sleep(trial.random.uniform(0, 0.05))
    stopped = trial.stop(first)
    at_work = any(path.name in LOCKS for path in trial.out.rglob(".*"))
    second = trial.start_by((*shape, "-j", trial.random.choice(("0", "2")), *where))
    second.process.wait(10)
    trial.go_on(stopped)
    check_two(trial, (first, second), shape, one_must_wait=at_work)


@trials("leftovers", quick=1, full=50)
def test_leftovers_of_the_dead_and_of_the_living(trial: Trial) -> None:
    """The next run removes the files of a dead run, private copies included; the files of a live run stay."""
    snapshot = ("--snapshot", trial.random.choice(("pin", "copy")))
    owner = trial.ground.did
    live = trial.start_by(("--author", owner, "-j", trial.random.choice(("0", "2")), *snapshot))
    live.wait_for(lambda: trial.partial(owner))
    stopped = trial.stop(live)
    made = tree(trial.out / owner, trial.temporary)
    dead = trial.start_by(("-j", trial.random.choice(("0", "2")), *snapshot))
    dead.wait_for(lambda: list(trial.out.glob("all/.*.partial")))
    time.sleep(trial.random.uniform(0, 0.1))
    dead.process.kill()
    dead.end()
    left = [path for path in tree(trial.out / "all", trial.temporary) if path.endswith((".partial", ".scratch"))]
    left = [path for path in left if path not in made]
    next_one = trial.start_by(("-j", "0")).end()
    assert tree(trial.out / owner, trial.temporary) == made
    assert not list((trial.out / "all").glob(".*"))
    assert ("removed leftovers of killed exports" in next_one.errors) == bool(left)
    assert all(path in next_one.errors for path in left)
    trial.go_on(stopped)
    assert live.end().status == 0
    for path in trial.check(next_one, {0}):
        expected = owners_posts() if path.parent.parent.name == owner else trial.ground.json
        assert path.read_bytes() == expected


# --- Names that are taken -----------------------------------------------------------------------------------------


def stamps() -> list[str]:
    """The names that an export may get if it begins within the next seconds."""
    now = datetime.now(UTC)
    return [(now + timedelta(seconds=ahead)).strftime("%Y-%m-%d_%H-%M-%S") for ahead in range(SECONDS_AHEAD)]


def make_empty(path: Path, _: Path) -> None:
    path.mkdir()


def make_full(path: Path, _: Path) -> None:
    path.mkdir()
    (path / "posts.json").write_text("mine")


def make_file(path: Path, _: Path) -> None:
    path.write_text("mine")


def make_link(path: Path, mine: Path) -> None:
    path.symlink_to(mine)


def make_dangling_link(path: Path, mine: Path) -> None:
    path.symlink_to(mine / "nowhere")


def make_fifo(path: Path, _: Path) -> None:
    os.mkfifo(path)


TAKERS: list[Callable[[Path, Path], None]] = [
    make_empty, make_full, make_file, make_link, make_dangling_link, make_fifo,
]  # fmt: skip


def mine_in(trial: Trial) -> Path:
    """A directory that no export has anything to do with."""
    mine = trial.place / "mine"
    mine.mkdir()
    (mine / "file").write_text("mine")
    return mine


@trials("taken-name", quick=1, full=20)
def test_name_is_taken(trial: Trial) -> None:
    """If something already has the name of the export directory, it stays unchanged, and the export takes another."""
    mine = mine_in(trial)
    take = TAKERS[trial.number % len(TAKERS)]
    author = trial.out / "all"
    author.mkdir(parents=True)
    suffixes = ("", "-2", "-3")[: trial.random.randint(1, 3)]
    taken = [author / f"{stamp}{suffix}" for stamp in stamps() for suffix in suffixes]
    for path in taken:
        take(path, mine)
    before = tree(author, mine)
    ended = trial.start("-j", str(trial.random.choice((0, 2)))).end()
    assert before.items() <= tree(author, mine).items()
    for path in taken:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    (export,) = trial.check(ended, {0}, data=trial.ground.json)
    assert export.parent.name.endswith(f"-{len(suffixes) + 1}")


@trials("taken-name", quick=1, full=20)
def test_file_name_is_taken(trial: Trial) -> None:
    """A name for `--to` that is taken is refused, unless it may be replaced; so it is if that happens meanwhile."""
    mine = mine_in(trial)
    take = TAKERS[trial.number % (len(TAKERS) - 1)]  # what is written to a pipe goes to its reader
    meanwhile = trial.random.random() < 0.5
    arguments = ("-j", trial.random.choice(("0", "2")), "--to", "OUT/posts")
    if not meanwhile:
        trial.out.mkdir()
        take(trial.out / "posts", mine)
    run = trial.start_by(arguments)
    if meanwhile:
        at_work = run.wait_for(trial.partial)
        stopped = trial.stop(run)
        at_work = at_work and not os.path.lexists(trial.out / "posts")
        if at_work:
            take(trial.out / "posts", mine)
        trial.go_on(stopped)
        if not at_work:
            assert len(trial.check(run.end(), {0}, data=trial.ground.json)) == 1
            return
    before = tree(mine)
    ended = run.end()
    assert tree(mine) == before
    posts = trial.out / "posts"
    assert os.path.lexists(posts)
    assert not posts.is_file() or posts.read_text() == "mine"
    shutil.rmtree(posts) if posts.is_dir() and not posts.is_symlink() else posts.unlink()
    trial.check_failed(ended, {12})


# --- Links that somebody planted ----------------------------------------------------------------------------------

IN_DIRECTORY, TO_FILE, COPYING = (), ("--to", "OUT/posts"), ("--snapshot", "copy")
PLANTED: dict[str, tuple[str, ...]] = {
    "OUT": IN_DIRECTORY,
    "OUT/all": IN_DIRECTORY,
    "OUT/all/.skyexport.lock": IN_DIRECTORY,
    "OUT/all/STAMP": IN_DIRECTORY,
    "OUT/all/.STAMP-00000000.partial": IN_DIRECTORY,
    "OUT/posts": TO_FILE,
    "OUT/.posts.lock": TO_FILE,
    "OUT/.posts-00000000.partial": TO_FILE,
    "TMP/.skyexport-0000000000000000.lock": COPYING,
    "TMP/.skyexport-0000000000000000.scratch": COPYING,
    "ARCHIVE-journal": IN_DIRECTORY,
    "ARCHIVE-wal": IN_DIRECTORY,
    "ARCHIVE-shm": IN_DIRECTORY,
}
"""Every name that an export uses and others could know, when its random part is `0`; and how it comes to use it."""

TARGETS = ("file", "directory", "nothing", "pipe")
PLANTS = list(itertools.product(PLANTED, TARGETS))


def target_of_links(trial: Trial, kind: str) -> Path:
    """The target of the links, in a directory of its own."""
    target = mine_in(trial) / kind
    if kind == "file":
        target.write_text("mine")
    elif kind == "directory":
        target.mkdir()
        (target / "kept").write_text("mine")
    elif kind == "pipe":
        os.mkfifo(target)
    return target


def plant(trial: Trial, name: str, target: Path) -> list[Path]:
    """Make the links, and the directories where they are."""
    places = {"OUT": str(trial.out), "TMP": str(trial.temporary), "ARCHIVE": str(trial.archive)}
    for key, value in places.items():
        name = name.replace(key, value)
    links = [Path(name.replace("STAMP", stamp)) for stamp in stamps()] if "STAMP" in name else [Path(name)]
    links[0].parent.mkdir(parents=True, exist_ok=True)
    for link in links:
        link.symlink_to(target)
    return links


@trials("links", quick=1, full=len(PLANTS), shapes=4)
def test_planted_links(trial: Trial) -> None:
    """Nothing is written through a link that somebody planted, nor waited for; only directories may be links."""
    name, kind = PLANTS[trial.number * 13 % len(PLANTS)]
    target = target_of_links(trial, kind)
    links = plant(trial, name, target)
    before, beside = tree(target.parent), tree(trial.archive.parent)
    shape = in_one_file(trial.shape) if "--to" in PLANTED[name] else trial.shape
    arguments = (*shape, "-j", trial.random.choice(("0", "2")), *PLANTED[name])
    fixed = {"PYTHONPATH": str(SABOTAGE), "SABOTAGE_PLAN": "random"}
    ended = trial.start_by(arguments, environment=fixed).end(timeout=20)
    through = name in ("OUT", "OUT/all") and kind == "directory"
    after = tree(target.parent)
    assert before.items() <= after.items() if through else before == after
    assert tree(trial.archive.parent) == beside
    assert all(link.is_symlink() and link.readlink() == target for link in links)
    if through:
        (target / "kept").unlink()
    else:
        for link in links:
            link.unlink()
    exports = trial.check(ended, {0, 2, 10, 12}, data=trial.ground.expected_by(shape), untouched=False)
    assert bool(exports) == (ended.status == 0)
    if ended.status:
        assert str(links[0].parent) in ended.errors
    if ended.status == 2:
        assert "is an archive, but -o names the directory of exports" in ended.errors


# --- Permissions --------------------------------------------------------------------------------------------------

WAYS = [
    ("-j", "2"),
    ("-j", "0", "--snapshot", "copy"),
    ("-j", "2", "--to", "OUT/posts"),
    ("-j", "0", "--to", "OUT/posts", "--overwrite", "--snapshot", "copy"),
]


def check_private(trial: Trial, *, running: bool) -> None:
    """Only its owner can read or change what an export has made; locks may be read by all."""
    made = tree(trial.out, trial.temporary)
    if trial.to is None:
        made[str(trial.out)] = (trial.out.stat().st_mode, "")
    if running:
        made.pop(str(trial.to), None)  # the file that is to be replaced
    for path, (mode, _) in made.items():
        permissions = stat.S_IMODE(mode)
        if path.endswith(".lock"):
            assert permissions | 0o644 == 0o644, path
        else:
            assert permissions == (0o700 if stat.S_ISDIR(mode) else 0o600), path


@trials("modes", quick=0, full=40, shapes=11)
def test_permissions(trial: Trial) -> None:
    """Only the owner can ever read the output, whatever the umask, even where it replaces a public file."""
    way = WAYS[trial.number % len(WAYS)]
    arguments = (*(in_one_file(trial.shape) if "--to" in way else trial.shape), *way)
    umask = trial.random.choice((0, 0o022, 0o027, 0o077))
    if "--overwrite" in arguments:
        trial.out.mkdir()
        (trial.out / "posts").touch()
        (trial.out / "posts").chmod(0o644)
    run = trial.start_by(arguments, umask=umask)
    if run.wait_for(trial.partial):
        stopped = trial.stop(run)
        check_private(trial, running=run.process.poll() is None)
        trial.go_on(stopped)
    ended = run.end()
    check_private(trial, running=False)
    assert len(trial.check(ended, {0}, data=trial.ground.expected_by(arguments))) == 1


# --- Authors' names -----------------------------------------------------------------------------------------------

LETTERS = string.ascii_letters + string.digits + "._-"
PIECES = [
    "..",
    ".",
    ":",
    "::",
    "%2F",
    "%2e%2e",
    "%00",
    "-",
    "_",
    "_3a",
    "CON",
    "con",
    "nul.",
    "all",
    "a" * 60,
    "Z" * 210,
]
UNFIT = ["/", "\\", "\0", "\n", " ", "é", "~", "*", "\u202e", "\ud800"]


def some_did(choices: random.Random) -> str:
    """A valid name of an author, as odd as possible."""
    pieces = [choices.choice([choices.choice(LETTERS), choices.choice(PIECES)]) for _ in range(choices.randint(0, 12))]
    method = "".join(choices.choice(string.ascii_lowercase) for _ in range(choices.randint(1, 8)))
    return f"did:{method}:{''.join(pieces)[:2000]}{choices.choice(LETTERS)}"


def similar_did(did: str, choices: random.Random) -> str:
    """Another valid name that is easily taken for it."""
    head, body = did[: did.index(":", 4) + 1], did[did.index(":", 4) + 1 :]
    position = choices.randrange(len(body))
    ways = [
        body + "-",
        f"{body[:position]}.{body[position:]}",
        body.swapcase(),
        body.replace(":", "_3a"),
        body.replace("_3a", ":", 1) if not body.endswith("_3a") else f"_3a{body}",
        f"{body[:-1]}{'x' if body[-1] != 'x' else 'y'}",
    ]
    return choices.choice([f"{head}{way}" for way in ways if way != body])


def unfit_did(did: str, choices: random.Random) -> str:
    """A text that is not a DID."""
    position = choices.randrange(len(did) + 1)
    with_letter = f"{did[:position]}{choices.choice(UNFIT)}{did[position:]}"
    return choices.choice([with_letter, f"{did}:", f"{did}%", did.upper(), did[4:], f"{did}{'a' * 2100}", f" {did}"])


@trials("names", quick=1, full=2000)
def test_names_of_authors(trial: Trial) -> None:
    """Every author has a directory of their own, one component; what is no author's name is refused."""
    did = some_did(trial.random)
    other = similar_did(did, trial.random)
    with contextlib.closing(apsw.Connection(str(trial.archive))) as connection:
        for number, author in enumerate((did, other)):
            connection.execute("update posts set did = ? where rowid % 2 = ?", (author, number))
    trial.remember()
    names = set()
    for author in (did, other):
        ended = trial.export(author=author, workers=0)
        assert ended.status == 0, (author, ended.errors)
        exports = trial.check(ended, {0})
        names |= {path.relative_to(trial.out).parts[0] for path in exports}
        assert all(len(path.relative_to(trial.out).parts) == 3 for path in exports)
    assert {path.read_bytes() for path in exports} == {bytes_of(trial.archive, author=one) for one in (did, other)}
    assert len(names) == 2, names
    assert all(len(name.encode()) <= 255 for name in names)
    assert len({directory_name(author, portable=True).lower() for author in (did, other)}) == 2
    unfit = unfit_did(did, trial.random)
    before = tree(trial.place)
    assert trial.export(author=unfit, workers=0).status == 2, unfit
    assert tree(trial.place) == before
