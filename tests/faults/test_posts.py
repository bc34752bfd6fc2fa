"""Posts that no archiver should have saved: hostile text, invalid JSON, invalid times, huge posts."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import apsw

from tests import oracle, strict_json
from tests.archives import Cell, RawText, Row, StoredRow, file_archive, post, stored_rows
from tests.faults import invariants
from tests.faults.matrix import trials
from tests.faults.trial import MEMORY_LIMIT_BYTES, Trial, bytes_of
from tests.strategies import GARBAGE_TIMES, MALFORMED_JSON, ODD_BYTES, ODD_CHARACTERS

ROWS = 100
"""Posts of a trial."""

_TEXTS = ("uri", "cid", "did", "text", "reply_parent", "embed_type")
_JSON = ("embed_data", "labels")


def store(trial: Trial, rows: Iterable[Row], *, index: bool = True) -> list[StoredRow]:
    """Make an archive of these posts; how they lie in it."""
    trial.archive.unlink()
    file_archive(trial.archive, rows, index=index)
    trial.remember()
    with contextlib.closing(apsw.Connection(str(trial.archive))) as connection:
        return stored_rows(connection)


def exported(trial: Trial, name: str, data: bytes, **options: Any) -> dict[str, int]:
    """Export to a place of this name, and expect these bytes; what the manifest counts."""
    trial.out = trial.place / name
    (path,) = trial.check(trial.export(**options), {0}, data=data)
    counts: dict[str, int] = json.loads((path.parent / "manifest.json").read_bytes())["warnings"]
    return counts


def check_strict(trial: Trial, counts: dict[str, int], **options: Any) -> None:
    """With `strict`, an export with anything to count fails, and one without does not."""
    trial.out = trial.place / "strict"
    ended = trial.export(strict=True, **options)
    if counts:
        trial.check_failed(ended, {3})
    else:
        trial.check(ended, {0})


def is_utf8(data: bytes) -> bool:
    """Whether Python takes it."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def is_json(data: bytes) -> bool:
    """Whether it is one JSON value, bytes that are not UTF-8 replaced."""
    return strict_json.is_json(oracle.text_of(data))


def to_count(rows: Iterable[StoredRow], format: str) -> dict[str, int]:
    """Counts of the values that cannot be exported as stored: kind of warning → number."""
    counts: Counter[str] = Counter()
    for row in rows:
        shown = {name: oracle.bytes_of(row[name]) for name in (*_TEXTS, *_JSON)}
        if format == "json":
            counts["invalid_utf8"] += sum(not is_utf8(data) for data in shown.values())
            counts["unreadable_json"] += sum(shown[name] != b"" and not is_json(shown[name]) for name in _JSON)
        elif row["has_media"]:
            # Nothing else of a table needs to be understood.
            counts["unreadable_json"] += shown["embed_data"] != b"" and not is_json(shown["embed_data"])
    return {kind: count for kind, count in counts.items() if count}


def records(data: bytes) -> list[list[bytes]]:
    """The fields of a CSV file below its header, as Python reads them."""
    lines = io.StringIO(data[3:].decode("utf-8", "surrogateescape"), newline="")
    return [[field.encode("utf-8", "surrogateescape") for field in record] for record in csv.reader(lines)][1:]


# --- Text -------------------------------------------------------------------------------------------------------


def hostile_text(choices: random.Random) -> bytes:
    """Text with what a reader of it could stumble over."""
    parts = []
    for _ in range(choices.randint(1, 12)):
        character = choices.choice(ODD_CHARACTERS).encode()
        parts.append(choices.choice((choices.choice(ODD_BYTES), character, choices.randbytes(3), b"word, ")))
    parts.append(choices.choice((*ODD_BYTES, b"\0", b"\x1b[2J", b"\xe2\x80\xa8")))
    choices.shuffle(parts)
    return b"".join(parts) * choices.choice((1,) * 49 + (1000,))


def hostile_post(choices: random.Random, number: int) -> Row:
    """A post with a hostile text, and now and then hostile identifiers."""

    def hostile(usual: bytes) -> Cell:
        data = hostile_text(choices)[:500] + usual if choices.random() < 0.2 else usual
        return choices.choice((RawText(data), RawText(data), data))

    text = hostile_text(choices)
    return post(
        number,
        text=choices.choice((RawText(text), RawText(text), text)),
        uri=hostile(b"at://%d" % number),
        **{name: hostile(b"usual") for name in ("cid", "did", "reply_parent", "embed_type")},
    )


@trials("odd-text", quick=1, full=20)
def test_hostile_text(trial: Trial) -> None:
    """For any bytes of a text, JSON is valid UTF-8 with all replacements counted, and CSV has the same bytes."""
    kept = store(trial, [hostile_post(trial.random, number) for number in range(ROWS)])
    in_order = oracle.in_export_order(kept)
    workers = (0, 2)[trial.number % 2]

    data = oracle.json_file(kept)
    counts = exported(trial, "json", data, workers=workers)
    assert counts == to_count(kept, "json")
    texts = [post["text"] for post in strict_json.parsed(data.decode())]
    assert texts == [oracle.text_of(oracle.bytes_of(row["text"])) for row in in_order]
    check_strict(trial, counts, workers=0)

    data = oracle.csv_file(kept)
    assert exported(trial, "csv", data, workers=0, format="csv").keys() <= {"formula"}
    assert [record[3] for record in records(data)] == [oracle.bytes_of(row["text"]) for row in in_order]


# --- Embeds and labels ------------------------------------------------------------------------------------------


def good_json(choices: random.Random, depth: int = 0) -> bytes:
    """An object or array with odd spellings in it."""
    values = [
        *(b"null", b"true", b"-0", b"1.0", b"1E5", b"1e999", b"12345678901234567890123", b'"\\ud800"', b'"\\u0000"'),
        *(b'"\xe2\x80\xa8"', b'"}],"', b'"https://cdn.example/a/b@jpeg"', b'" "', b"[ ]", b"{\n}"),
    ]
    parts = [
        good_json(choices, depth + 1) if depth < 3 and choices.random() < 0.4 else choices.choice(values)
        for _ in range(choices.randint(1, 4))
    ]
    if choices.random() < 0.3:
        return b"[" + b" ,\t".join(parts) + b"]"
    keys = (b'"images"', b'"media"', b'"external"', b'"fullsize"', b'"thumb"', b'"a"', b'"a"', b'"uri"')
    return b"{" + b",".join(choices.choice(keys) + b" : " + part for part in parts) + b"}"


def _digits(choices: random.Random) -> bytes:
    digits = b"1" * 5000
    return choices.choice((b"[%s]", b'{"a":-%s}', b"[0.%s]", b"[1e%s]", b"%s", b"-%s")) % digits


def _deep(choices: random.Random) -> bytes:
    depth = choices.choice((999, 1000, 1001, 1050, 10_001, 100_000, 100_000))
    if choices.random() < 0.5:
        return b"[" * depth + b"]" * depth
    return b'{"a":' * depth + b"1" + b"}" * depth


BAD_JSON: dict[str, Callable[[random.Random], Cell]] = {
    "good": good_json,
    "truncated": lambda choices: (good := good_json(choices))[: choices.randrange(1, len(good))],
    "two values": lambda choices: good_json(choices) + choices.choice((b",", b" ", b"", b"\n")) + good_json(choices),
    "a sibling": lambda choices: choices.choice(
        (b'1},{"uri":"at://injected"', b'null,"text":"injected"', b'null\n  },\n  {\n    "uri":"at://injected"')
    ),
    "no number": lambda choices: b'{"a":%s}' % choices.choice((b"NaN", b"-NaN", b"Infinity", b"-Infinity", b"0x1")),
    "many digits": _digits,
    "deep": _deep,
    "binary": lambda choices: oracle.SQLITE.execute("select jsonb(?)", (good_json(choices).decode(),)).get,
    "JSON5": lambda choices: choices.choice((b"{a:1}", b"['x']", b"[1,]", b"[+1]", b"[.5]", b"/**/[]", b"[0x1F]")),
    "malformed": lambda choices: choices.choice(MALFORMED_JSON),
    "duplicate keys": lambda choices: b'{"a":1,"a":%s,"a":{"a":1,"a":2}}' % good_json(choices),
    "odd bytes": lambda choices: b'["%s"]' % choices.choice(ODD_BYTES),
    "odd bytes outside": lambda choices: b"[%s]" % choices.choice(ODD_BYTES),
    "no text": lambda choices: choices.choice((None, 0, -1, 1.5, 2**63 - 1, 1e300, float("inf"), b"", "", "null")),
}
"""Kind → a value of it, to be stored as TEXT or BLOB."""


def bad_json(choices: random.Random, kinds: Iterable[str]) -> Cell:
    """A value of one of these kinds."""
    value = BAD_JSON[choices.choice(list(kinds))](choices)
    return RawText(value) if isinstance(value, bytes) and choices.random() < 0.5 else value


@trials("odd-json", quick=1, full=20)
def test_bad_json(trial: Trial) -> None:
    """For anything stored as JSON, exactly one valid value is written; invalid JSON is counted."""
    choices = trial.random
    # The deep ones are large: there are some, among the embeds.
    shallow = [kind for kind in BAD_JSON if kind != "deep"]
    rows = [
        post(
            number,
            has_media=choices.randrange(2),
            embed_data=bad_json(choices, shallow if number % 5 else BAD_JSON),
            labels=bad_json(choices, shallow),
        )
        for number in range(ROWS)
    ]
    kept = store(trial, rows)
    for format, workers in (("json", (0, 2)[trial.number % 2]), ("csv", 0)):
        data = oracle.FILE[format](kept)
        counts = exported(trial, format, data, workers=workers, format=format)
        assert counts == to_count(kept, format)
        check_strict(trial, counts, workers=0, format=format)
        if format == "json":
            posts = strict_json.parsed(data.decode())
            assert len(posts) == ROWS
            assert {key for one in posts for key in one} <= set(oracle.JSON_KEYS)


# --- Times ------------------------------------------------------------------------------------------------------


def same(_: random.Random) -> Cell:
    return "2024-05-22 18:57:38.254 +0000 UTC"


def _garbage(choices: random.Random) -> Cell:
    odd: tuple[Cell, ...] = (
        0,
        -1,
        2**63 - 1,
        -(2**63),
        1.5,
        float("inf"),
        b"",
        "",
        b"2024-05-22",
        choices.randbytes(4),
    )
    return choices.choice((choices.choice(GARBAGE_TIMES), RawText(choices.randbytes(6)), choices.choice(odd)))


def _mixed(choices: random.Random) -> Cell:
    day, second = choices.randint(20, 22), choices.randrange(3)
    clock = f"2024-05-{day} 18:57:0{second}"
    spellings = (
        *(f"{clock} +0000 UTC", f"{clock}.5 +0000 UTC m=+1.5", f"{clock} +0900 +0900", f"{clock}.254 -0700 PDT"),
        *(f"{clock}Z", clock.replace(" ", "T") + "+09:00", clock, clock[:10], 1_716_404_220 + second),
    )
    return choices.choice(spellings)


TIMES = {"same": same, "garbage": _garbage, "mixed": _mixed}
"""Kind → a stored created_at of it."""


@trials("odd-times", quick=1, full=50)
def test_times(trial: Trial) -> None:
    """Posts of one instant, and times that are none: each post comes once, in an order that depends on nothing else."""
    kind = list(TIMES)[trial.number % len(TIMES)]
    count = (10_000 if kind == "same" else 2000) if trial.full else 200
    rows = [post(number, created_at=TIMES[kind](trial.random)) for number in range(count)]
    trial.random.shuffle(rows)
    kept = store(trial, rows, index=trial.random.random() < 0.7)
    data = oracle.json_file(kept)
    uris = [post["uri"] for post in strict_json.parsed(data.decode())]
    assert sorted(uris) == sorted(str(row["uri"]) for row in rows)
    options = {"batch_size": trial.random.choice((7, 100, 1000) if trial.full else (20, 100, 1000))}
    for workers in (0, 2):
        exported(trial, f"json {workers}", data, workers=workers, **options)
    workers = trial.random.choice((0, 2)) if trial.full else 0
    exported(trial, "csv", oracle.csv_file(kept), workers=workers, format="csv", **options)


# --- Huge posts -------------------------------------------------------------------------------------------------


def _objects(size_bytes: int) -> dict[str, Cell]:
    one = b'{"fullsize":"a://b/c@d"},'
    return {"embed_data": b'{"images":[' + one * (size_bytes // len(one)) + b"{}]}", "has_media": 1}


HUGE: dict[str, Callable[[int], dict[str, Cell]]] = {
    "ASCII": lambda size_bytes: {"text": "All work and no play. " * (size_bytes // 22)},
    "control characters": lambda size_bytes: {"text": "\x01" * size_bytes},
    "objects": _objects,
}
"""Kind → cells of such a size; an object of the last one has 25 bytes."""


def value_of(path: Path, uri: str, column: str) -> Any:
    """The value of one column of one post in an export."""
    (found,) = [post for post in json.loads(path.read_bytes()) if post["uri"] == uri]
    return found[column]


@trials("large-post", quick=1, full=12)
def test_huge_post(trial: Trial) -> None:
    """A post of 50 MB is exported, or named as too large for the memory limit; the processes stay below the limit."""
    cells = HUGE[list(HUGE)[trial.number % len(HUGE)]](50_000_000 if trial.full else 5_000_000)
    rows = [post(number) for number in range(200)]
    rows[100] |= cells
    store(trial, rows)
    format = ("json", "csv")[trial.number // 3 % 2]
    run = trial.start("-f", format, "-j", ("2", "0")[trial.number // 6 % 2])
    peaks: dict[int, int] = {}

    def look() -> None:
        time.sleep(0.02)
        peaks.update(invariants.memory_peaks(trial.mark))

    run.wait_for(look)
    ended = run.end()
    exports = trial.check(ended, {0, 13}, data=bytes_of(trial.archive, format, memory_limit=1 << 40))
    assert bool(exports) == (ended.status == 0)
    invariants.assert_within_memory(peaks, MEMORY_LIMIT_BYTES)
    uri = str(rows[100]["uri"])
    if ended.status:
        assert uri in ended.errors
    elif format == "json":
        column = "text" if "text" in cells else "embed_data"
        found = value_of(exports[0], uri, column)
        assert found == (cells[column] if column == "text" else json.loads(cells[column]))  # type: ignore[arg-type]
    else:
        (record,) = [record for record in records(exports[0].read_bytes()) if record[0] == uri.encode()]
        assert record[3].decode() == rows[100]["text"]
