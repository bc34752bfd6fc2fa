"""Archives and names that somebody made to learn a secret, to run something, or to steer a terminal."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import apsw

import make_archive
from skyexport.posts import COLUMNS
from tests.archives import RawText, insert, post
from tests.command import PROGRAM
from tests.faults import invariants
from tests.faults.damage import HANGS_SECONDS
from tests.faults.matrix import trials
from tests.faults.shapes import USUAL
from tests.faults.test_snapshots import leave_hot_journal, leave_log_without_index
from tests.faults.trial import Ended, Run, Trial

CANARY = b"canary-"
"""Begins every token, here and in the usual archive."""

TOKENS = (make_archive.ACCESS_TOKEN.encode(), make_archive.REFRESH_TOKEN.encode())


def change(trial: Trial, *statements: str) -> None:
    """Change a trial's archive, as a program with functions and a collation of its own does."""
    with contextlib.closing(apsw.Connection(str(trial.archive))) as connection:
        connection.create_scalar_function("evil", lambda *_: "evil", -1, deterministic=True)
        connection.create_collation("evil", lambda one, other: (one > other) - (one < other))
        for statement in statements:
            connection.execute(statement)
    trial.remember()


def inspect(trial: Trial, *arguments: str) -> Ended:
    """Have the command look into a trial's archive."""
    return Run([*PROGRAM, "inspect", str(trial.archive), *arguments], env=trial.environment()).end(HANGS_SECONDS)


def said(ended: Ended) -> bytes:
    """All that the command printed."""
    return ended.output + ended.errors.encode()


# --- Tokens -----------------------------------------------------------------------------------------------------


def plant_tokens(trial: Trial) -> None:
    """Put many more tokens into the archive, some of them deleted again, so that they lie in unused places too."""
    session = f"'{CANARY.decode()}' || hex(randomblob(200))"
    change(
        trial,
        "with recursive numbers(n) as (values (1) union all select n + 1 from numbers where n < 200)"
        f" insert into sessions select n, 'did:plc:' || n, 'handle', '', {session}, {session}, '', '' from numbers",
        "delete from sessions where rowid % 3 = 0",
    )


class Scratches:
    """Looks at the temporary files of a trial while its command runs."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self.seen: set[str] = set()
        """Names of files that were there."""
        self.leaks: set[str] = set()
        """Those in which there was a token."""
        self.open_to_others: set[str] = set()

    def look(self) -> None:
        """Look once."""
        for folder, folders, files in os.walk(self._trial.temporary):
            for name in (*folders, *files):
                with contextlib.suppress(OSError):
                    self._look_at(Path(folder, name))

    def _look_at(self, path: Path) -> None:
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO) and path.suffix != ".lock":
            self.open_to_others.add(path.name)
        if path.is_file():
            self.seen.add(path.name)
            if CANARY in path.read_bytes():
                self.leaks.add(path.name)


WAYS: dict[str, tuple[Callable[[Trial], object], tuple[str, ...]]] = {
    "copied": (lambda _: None, ("--snapshot", "copy")),
    "journal": (leave_hot_journal, ()),
    "strict": (
        lambda trial: change(trial, "update posts set created_at = 'never' where rowid % 700 = 0"),
        ("--strict", "--debug"),
    ),
    "pinned": (lambda _: None, ()),
    "log": (leave_log_without_index, ("--snapshot", "copy")),
}
"""Way to read an archive → what is done to it before, and options."""


@trials("tokens", quick=1, full=100, shapes=6)
def test_tokens(trial: Trial) -> None:
    """Access tokens get into no output, no message, and no temporary file but the private one for recovering."""
    name = list(WAYS)[trial.number % len(WAYS)]
    before, options = WAYS[name]
    plant_tokens(trial)
    assert all(token in trial.archive.read_bytes() for token in TOKENS)
    before(trial)
    trial.remember()
    # Some columns are exported as they are stored, whatever that is.
    shape = USUAL[0] if name == "strict" and "--columns" in trial.shape else trial.shape
    run = trial.start(*shape, "-j", trial.random.choice(("0", "2")), "-v", "--json", *options)
    scratches = Scratches(trial)
    run.wait_for(scratches.look)
    ended = run.end()
    if name == "strict":
        assert ended.status == 3
        assert "Traceback" in ended.errors
        assert not trial.out.exists()
    else:
        assert len(trial.check(ended, {0})) == 1
        (folder,) = trial.out.glob("*/*")
        assert not any(CANARY in path.read_bytes() for path in folder.iterdir())
    assert CANARY not in said(ended)
    assert ("posts.db" in scratches.seen) == (name in ("copied", "journal", "log"))
    assert scratches.leaks <= (
        {"whole.db", "whole.db-wal", "whole.db-journal"} if name in ("journal", "log") else set()
    )
    assert not scratches.open_to_others
    if trial.full:
        looked = inspect(trial)
        trial.out = trial.place / "nothing"
        trial.check(looked, {0})
        assert CANARY not in said(looked)


# --- Schemas ----------------------------------------------------------------------------------------------------

_ENDLESS = "with recursive numbers(n) as (values (1) union all select n + 1 from numbers) select n as"
_FROM_SESSIONS = ", ".join(f"access_token as {name}" for name in COLUMNS)
_FROM_NUMBERS = ", ".join(f"n as {name}" for name in COLUMNS[1:])


def _schema_text(was: str, becomes: str) -> tuple[str, ...]:
    """Statements that change the text of the schema itself."""
    return (
        "pragma writable_schema = on",
        f"update sqlite_schema set sql = replace(sql, '{was}', '{becomes}') where name = 'posts'",
    )


_MANY_COLUMNS = ", ".join(f"c{number} text" for number in range(1900))
_ODD_NAMES = ('"a""b"', '"\n"', '"\x1b]0;x\x07"', '""', '"' + "x" * 100_000 + '"', '"\u202e"', '"select"', '"uri "')

SCHEMAS: dict[str, tuple[tuple[str, ...], set[int]]] = {
    "posts of sessions": (
        ("alter table posts rename to kept", f"create view posts as select {_FROM_SESSIONS} from sessions"), {10},
    ),
    "endless posts": (
        ("alter table posts rename to kept", f"create view posts as {_ENDLESS} uri, {_FROM_NUMBERS} from numbers"),
        {10},
    ),
    "versions of sessions": (
        ("drop table schema_version", "create view schema_version as select access_token as version from sessions"),
        {10},
    ),
    "endless versions": (
        ("drop table schema_version", f"create view schema_version as {_ENDLESS} version from numbers"), {10},
    ),
    "versions that are computed": (
        (
            "drop table schema_version",
            "create table schema_version (a, version as (length(hex(zeroblob(150000000))) / 100000000))",
            "insert into schema_version values (1)",
        ),
        {10},
    ),
    "versions of a module": (
        ("drop table schema_version", "create virtual table schema_version using fts5(version)"), {10},
    ),
    "media of sessions": (("drop table media", "create view media as select access_token from sessions"), {10}),
    "endless media": (("drop table media", f"create view media as {_ENDLESS} hash from numbers"), {10}),
    "media of a module": (("drop table media", "create virtual table media using fts5(hash)"), {10}),
    "300 MB in a column": (
        ("alter table posts add column bomb text as (hex(zeroblob(150000000)))",), {10},
    ),
    "300 MB in another table": (
        ("create table other (a, b as (hex(zeroblob(150000000))))", "insert into other values (1)"), {0},
    ),
    "triggers": (
        tuple(
            f"create trigger evil_{event} after {event} on posts begin select evil(access_token) from sessions; end"
            for event in ("insert", "update", "delete")
        ),
        {0},
    ),
    "modules": (
        ("create virtual table words using fts5(a)", "create virtual table boxes using rtree(id, a, b)"), {0},
    ),
    "function in an index": (("create index evil on posts(evil(uri))",), {0, 10}),
    "function in the index": (
        ("drop index idx_posts_created_at", "create index evil on posts(created_at, evil(uri))"), {0, 10},
    ),
    "function in a partial index": (("create index evil on posts(created_at) where evil(uri) > 1",), {0, 10}),
    "function in CHECK": (_schema_text("labels json", "labels json check (evil(labels))"), {0, 10}),
    "function in DEFAULT": (_schema_text("labels json", "labels json default (evil(1))"), {0, 10}),
    "collation of a column": (_schema_text("  text text", "  text text collate evil"), {0, 10}),
    "collation of the order": (
        ("drop index idx_posts_created_at", "create index evil on posts(created_at collate evil)"), {0, 10},
    ),
    "collation of the times": (_schema_text("created_at timestamp", "created_at timestamp collate evil"), {10}),
    "many columns": (_schema_text("archived_at timestamp", f"archived_at timestamp, {_MANY_COLUMNS}"), {0}),
    "odd columns": (tuple(f"alter table posts add column {name}" for name in _ODD_NAMES), {0}),
    "odd column that is computed": ((f"alter table posts add column {_ODD_NAMES[4]} as (1)",), {0}),
    "odd tables": (tuple(f"create table {name} (a)" for name in _ODD_NAMES), {0}),
    "odd indexes": (tuple(f"create index {name} on posts(created_at, uri)" for name in _ODD_NAMES), {0}),
    "no such code": (_schema_text("CREATE TABLE", "CREATE TABEL"), {10}),
}  # fmt: skip
"""A change of the schema → the statements for it, and the correct exit codes; 0 means the usual bytes."""

_WAYS = (("-j", "0"), ("-j", "2"), ("-j", "0", "--snapshot", "copy"), ())
"""Options of an export; none means `inspect`."""

_LONGEST_MESSAGE = 2000


@trials("schemas", quick=1, full=4 * len(SCHEMAS), shapes=1)
def test_schema(trial: Trial) -> None:
    """A schema cannot make an export read other tables, run code, or run forever; a harmless one changes nothing."""
    statements, expected = list(SCHEMAS.values())[trial.number % len(SCHEMAS)]
    options = _WAYS[trial.number // len(SCHEMAS) % len(_WAYS)]
    change(trial, *statements)
    if options:
        ended = trial.start(*trial.shape, *options).end(HANGS_SECONDS)
        exports = trial.check(ended, expected, data=trial.ground.expected_by(trial.shape))
        assert len(exports) == (ended.status == 0)
    else:
        ended = inspect(trial)
        trial.check(ended, expected)
    if ended.status:
        trial.check_failed(ended, {10})
        assert str(trial.archive) in ended.errors
        assert len(ended.errors) < _LONGEST_MESSAGE
    assert CANARY not in said(ended)


# --- Escapes ----------------------------------------------------------------------------------------------------

ESCAPES = (
    *("\x1b]0;title\x07", "\x1b[31m", "\x1b[2J\x1b[1;1H", "\x1bP+q544e\x1b\\", "\x1b(0", "\x9b31m", "\x9d0;title\x9c"),
    *("\r", "\n", "\b\b\b", "\x07", "\x0e", "\x05", "\x7f", "\x85", "\u2028", "\u202e", "\u2066", "\ufeff"),
)
"""Text that terminals act on, or that makes lines look like others."""


def escape(trial: Trial) -> str:
    """A name with some of that in it."""
    return "".join(["a", *trial.random.choices(ESCAPES, k=3), "\nskyexport: all is well", trial.random.choice(ESCAPES)])


def plant_escapes(trial: Trial) -> None:
    """Add posts whose values can all steer a terminal, and cannot be exported as stored."""
    with contextlib.closing(apsw.Connection(str(trial.archive))) as connection:
        for number in range(30):
            names = ("uri", "cid", "did", "text", "created_at", "indexed_at", "like_count", "embed_data", "labels")
            cells = {name: RawText(f"{escape(trial)}{number}".encode() + b"\xff" * (number % 2)) for name in names}
            insert(connection, post(number, **cells))


def raw(output: bytes) -> set[str]:
    """The characters in an output that a terminal could act on, or that are not UTF-8."""
    text = output.decode("utf-8", "surrogateescape")
    return {character for character in text if not character.isprintable() and character != "\n"}


def _export(*options: str) -> Callable[[Trial], list[str]]:
    return lambda trial: ["export", str(trial.archive), "-o", str(trial.place / escape(trial)), *options]


def _verify(trial: Trial) -> list[str]:
    """An export with odd names for everything, its own and of files that do not belong there."""
    trial.export(workers=0)
    (directory,) = trial.out.glob("*/*")
    odd = trial.place / escape(trial)
    shutil.move(directory, odd)
    for _ in range(3):
        (odd / escape(trial)).touch()
    manifest = odd / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"posts.json"', '"posts\\u001b[31m.json"'))
    return ["verify", str(odd), *trial.random.choice(([], ["--json"], ["--debug"]))]


def _taken(trial: Trial) -> list[str]:
    taken = trial.place / escape(trial)
    taken.touch()
    return ["export", str(trial.archive), "--to", str(taken), *trial.random.choice(([], ["--json"], ["--debug"]))]


def _no_archive(trial: Trial) -> list[str]:
    trial.archive.write_text("no archive")
    return [trial.random.choice(("export", "inspect")), str(trial.archive), "--debug"]


def _usage(trial: Trial) -> list[str]:
    """Arguments as a shell makes them from hostile file names, and options with such values."""
    name = escape(trial)
    wrong: tuple[list[str], ...] = (
        *(["--author", name], ["-f", name], ["--since", name], ["--batch-size", name], ["--memory-limit", name]),
        *(["-j", name], ["--progress", name], ["--snapshot", name], [f"--{name}"], [f"-{name}"]),
    )
    command = trial.random.choice(
        (["export", str(trial.archive)], ["inspect", str(trial.archive)], ["verify", str(trial.archive)], [])
    )
    if command[:1] != ["export"]:
        # To export, this would be another archive.
        wrong += ([name],)
    return [*command, *trial.random.choice(wrong)]


ESCAPING: dict[str, tuple[Callable[[Trial], list[str]], set[int]]] = {
    "warnings": (_export("-v", "-j", "2"), {0}),
    "strict": (_export("--strict"), {3}),
    "strict, debug": (_export("--strict", "--debug"), {3}),
    "JSON": (_export("--json", "-f", "csv"), {0}),
    "progress": (_export("--progress", "json"), {0}),
    "inspect": (lambda trial: ["inspect", str(trial.archive)], {0}),
    "inspect as JSON": (lambda trial: ["inspect", str(trial.archive), "--json"], {0}),
    "missing": (lambda trial: ["export", str(trial.archive) + escape(trial), "--debug"], {10}),
    "no archive": (_no_archive, {10}),
    "taken": (_taken, {12}),
    "verify": (_verify, {4}),
    "usage": (_usage, {2}),
}
"""A command that prints names → its arguments, and the correct exit codes."""


@trials("escapes", quick=1, full=180)
def test_escapes(trial: Trial) -> None:
    """No name of a post, an author, or a file reaches a terminal unescaped, or fakes a line."""
    # Half of the full tier are usage errors, of which there are many kinds.
    name = "usage" if trial.number % 24 > 11 else list(ESCAPING)[trial.number % 12]
    plant_escapes(trial)
    trial.archive = trial.archive.rename(trial.archive.with_name(escape(trial)))
    arguments, expected = ESCAPING[name]
    command = [*PROGRAM, *arguments(trial)]
    ended = Run(command, env=trial.environment()).end()
    invariants.assert_processes_gone(trial.mark)
    assert ended.status in expected, ended
    assert raw(ended.output) == set()
    assert raw(ended.errors.encode("utf-8", "surrogateescape")) == set()
    causes = [line for line in ended.errors.splitlines() if line.startswith("skyexport: ")]
    assert len(causes) == 1 or (not causes and ended.status in (0, 2))
    assert "skyexport: all is well" not in causes
