"""Exports in which something was changed, or that somebody made to harm, and `skyexport verify`."""

from __future__ import annotations

import hashlib
import json
import random
import sys
import time
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from skyexport import VerifyError, verify
from tests.command import PROGRAM
from tests.faults import invariants
from tests.faults.matrix import trials
from tests.faults.shapes import options_of
from tests.faults.trial import Ended, Run, Trial

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

FILES = ("manifest.json", "SHA256SUMS")
"""The files beside the data file."""


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
    names = ["posts.json~", ".hidden", "posts (1).csv", "manifest.json.tmp", "x" * 200, "posts-99999.jsonl.zst"]
    name = choices.choice(names)
    (directory / name).write_bytes(choices.randbytes(choices.randrange(100)))
    return name


def _add_data_file(directory: Path, _: random.Random) -> str:
    """Add a copy of the last data file under the name of the next one."""
    last = invariants.data_files(directory)[-1]
    number, suffixes = last.name.removeprefix("posts").removeprefix("-").partition(".")[::2]
    name = f"posts-{int(number or 1) + 1:05}.{suffixes}"
    (directory / name).write_bytes(last.read_bytes())
    return name


def _swap(directory: Path, choices: random.Random) -> str:
    """Exchange two data files; where there is but one, it has itself twice."""
    files = invariants.data_files(directory)
    if not files[1:]:
        files[0].write_bytes(files[0].read_bytes() * 2)
        return files[0].name
    one, other = choices.sample(files, 2)
    data = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(data)
    return choices.choice((one, other)).name


def _flip_data(directory: Path, choices: random.Random) -> str:
    """Change one bit of a data file, so that compressed ones are hit as often as others."""
    path = choices.choice(invariants.data_files(directory))
    data = bytearray(path.read_bytes())
    data[choices.randrange(len(data))] ^= 1 << choices.randrange(8)
    path.write_bytes(data)
    return path.name


def _cut(directory: Path, choices: random.Random) -> str:
    path = choices.choice(sorted(directory.iterdir()))
    data = path.read_bytes()
    path.write_bytes(data[: choices.randrange(len(data))])
    return path.name


CHANGES: tuple[Callable[[Path, random.Random], str], ...] = (
    _flip,
    _lose,
    _swap,
    _add,
    _change_byte,
    _cut,
    _add_data_file,
    _flip_data,
)
"""Each changes something, and gives the name of the file."""


def exported(trial: Trial) -> Path:
    """An export of the trial's shape, which is whole."""
    ended = trial.export(workers=0, **options_of(trial.shape))
    (path,) = trial.check(ended, {0}, data=trial.ground.expected_by(trial.shape))
    return path.parent


@trials("verify-damage", quick=1, full=400, shapes=9)
def test_changed_export(trial: Trial) -> None:
    """For any change in an export, verify names the file, and changes nothing itself."""
    directory = exported(trial)
    assert verify(directory).posts == trial.ground.posts
    changed = CHANGES[(trial.number + 2) % len(CHANGES)](directory, trial.random)
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


# --- What somebody made, with checksums that are right ----------------------------------------------------------

LIMIT_BYTES = 250_000_000
"""Memory for verifying any export: a window of Zstandard (128 MB), and some megabytes of content."""

SECONDS = 20.0
"""How long that may take where little is there."""

Pieces = Iterable[bytes]


def seal(directory: Path, manifest: dict[str, Any]) -> None:
    """Write a manifest and SHA256SUMS that tell the truth of the data files as they are now."""
    table = [manifest["media_table"]["name"]] if "media_table" in manifest else []
    names = [name for name in (*manifest["files"], *table) if (directory / name).is_file()]
    sums = {name: hashlib.sha256((directory / name).read_bytes()).hexdigest() for name in names}
    sizes = {name: (directory / name).stat().st_size for name in names}
    manifest["checksums"] = [{"name": name, "bytes": sizes[name], "sha256": sums[name]} for name in names]
    content = json.dumps(manifest).encode()
    (directory / "manifest.json").write_bytes(content)
    sums["manifest.json"] = hashlib.sha256(content).hexdigest()
    (directory / "SHA256SUMS").write_text("".join(f"{sha256}  {name}\n" for name, sha256 in sums.items()))


def check_verify(trial: Trial, directory: Path, expected: set[int], seconds: float = SECONDS) -> Ended:
    """Verify by the command: it ends, in time, in bounded memory, and changes nothing."""
    before = invariants.fingerprint(directory)
    run = Run([*PROGRAM, "verify", str(directory)], env=trial.environment())
    peak = 0
    # The only process; to look at all of this machine takes longer than it runs.
    status = Path(f"/proc/{run.process.pid}/status")
    while run.process.poll() is None and seconds > 0:
        lines = status.read_text().splitlines() if status.exists() else []
        peak = max([peak, *(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))])
        seconds -= _LOOK_SECONDS
        time.sleep(_LOOK_SECONDS)
    ended = run.end(0.1)
    trial.out = trial.place / "nothing"
    trial.check(ended, expected)
    assert 0 < peak < LIMIT_BYTES, peak
    assert invariants.fingerprint(directory) == before
    return ended


_LOOK_SECONDS = 0.01


def manifest_of(directory: Path) -> dict[str, Any]:
    """The content of manifest.json."""
    found = json.loads((directory / "manifest.json").read_bytes())
    assert isinstance(found, dict)
    return found


def _nothing(data: bytes, _: random.Random) -> bytes:
    return data


def _flip_some(data: bytes, choices: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(choices.choice((1, 1, 3, 20))):
        changed[choices.randrange(len(data))] ^= 1 << choices.randrange(8)
    return bytes(changed)


def _flip_end(data: bytes, choices: random.Random) -> bytes:
    """Where a table says what is in it, and a compressed file has its checksum."""
    at = max(0, len(data) - 3000)
    return data[:at] + _flip_some(data[at:], choices)


def _zeros(data: bytes, choices: random.Random) -> bytes:
    at, length = choices.randrange(len(data)), choices.randrange(1, 2000)
    return data[:at] + bytes(min(length, len(data) - at)) + data[at + length :]


def _twice(data: bytes, choices: random.Random) -> bytes:
    at, end = sorted(choices.choices(range(len(data)), k=2))
    return data[:end] + data[at:]


DAMAGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _flip_end, _flip_some, _zeros, _twice, lambda data, choices: data[: choices.randrange(len(data))],
    lambda data, choices: data + choices.randbytes(choices.randrange(1, 50)), lambda data, _: data * 2, _nothing,
)  # fmt: skip
"""Changes to the bytes of a data file."""


@trials("verify-damage", quick=1, full=1000, shapes=11)
def test_damage_that_is_sealed(trial: Trial) -> None:
    """A damaged data file with correct checksums is reported, or has all of its posts."""
    directory = exported(trial)
    path = trial.random.choice(invariants.data_files(directory))
    damage = DAMAGES[trial.number % len(DAMAGES)]
    path.write_bytes(damage(path.read_bytes(), trial.random))
    seal(directory, manifest_of(directory))
    ended = check_verify(trial, directory, {0} if damage is _nothing else {0, 4})
    if ended.status:
        assert f"{path.name}: " in ended.errors or "the data files: " in ended.errors


ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 5, 1e300, 2**80, "", "x", "\n", '"', "\x1b[31m", "x" * 3_000_000),
    *([], [[]], [1], [None] * 5, {}, {"a": {"b": [1]}}, ["x"] * 500_000, ["uri"], ["uri", "text"]),
    *(",", ";;", "\t", "\u00e9", "zstd", "gzip", "zstd:19", "zstd:99", "gzip:-1", "zstd:\u0661", "none", "ZSTD"),
)
"""Values of any type and size."""

LONG: tuple[Any, ...] = (["text"] * 700_000, ["uri"] * 40, ["labels"] * 60)
"""Columns, again and again."""

SETTINGS = ("columns", "compress", "split_posts", "split_bytes", "delimiter", "bom", "csv_safe", "further")


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@trials("verify-damage", quick=1, full=600, shapes=4)
def test_hostile_options(trial: Trial) -> None:
    """Any options in a manifest are obeyed or reported; verifying ends, and takes little memory."""
    directory = exported(trial)
    manifest = manifest_of(directory)
    options = manifest["options"]
    if trial.number % 20 == 19:
        manifest["options"] = trial.random.choice((*ODD, _nested(400)))
    else:
        odd = (*ODD, *LONG, _nested(400)) if trial.number > 10 else ODD
        for name in trial.random.sample(SETTINGS, trial.random.choice((1, 1, 2, 8))):
            options[name] = trial.random.choice(odd)
    if trial.number % 5 == 4:
        manifest["files"] += [f"posts-{number:05}.json" for number in range(1, trial.random.choice((3, 200_000)))]
    seal(directory, manifest)
    check_verify(trial, directory, {0, 4})


# --- Bombs --------------------------------------------------------------------------------------------------------

_PIECE_BYTES = 1_000_000


def _gzipped(pieces: Pieces) -> bytes:
    compressor = zlib.compressobj(1, wbits=31)
    return b"".join([*(compressor.compress(piece) for piece in pieces), compressor.flush()])


def _zstandard(pieces: Pieces, window: int = 20) -> bytes:
    names = zstd.CompressionParameter
    compressor = zstd.ZstdCompressor(options={names.compression_level: 1, names.window_log: window})
    return b"".join([*(compressor.compress(piece) for piece in pieces), compressor.flush()])


def _array(count: int) -> Pieces:
    return [b"[", *[b" " * _PIECE_BYTES] * count, b"]\n"]


def _lines(count: int) -> Pieces:
    return [b'{"uri":"', *[b"x" * _PIECE_BYTES] * count, b'"}\n']


def _records(count: int) -> Pieces:
    return [b'\xef\xbb\xbfURI\n"', *[b'""' * (_PIECE_BYTES // 2)] * count, b'"\n']


def _empty_parts(compress: Callable[[Pieces], bytes], count: int) -> bytes:
    """Parts of which each stands for nothing, and then a file."""
    return compress([b""]) * (100 * count) + compress([b"[]\n"])


def _table(values: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"uri": values}), sink, compression="zstd", row_group_size=1 << 30)
    return bytes(sink.getvalue())


Bomb = tuple[str, str, int, Callable[[int], bytes]]
"""Format, compression, posts (0: there are none; 1: one, however large; 2: many), and the data of so many megabytes."""

BOMBS: dict[str, Bomb] = {
    "array, zstd": ("json", "zstd", 0, lambda count: _zstandard(_array(count))),
    "lines, gzip": ("jsonl", "gzip", 1, lambda count: _gzipped(_lines(count))),
    "table of nothing": ("parquet", "", 2, lambda count: _table(pa.nulls(100_000 * count, pa.string()))),
    "records, zstd": ("csv", "zstd", 1, lambda count: _zstandard(_records(count))),
    "array, gzip": ("json", "gzip", 0, lambda count: _gzipped(_array(count))),
    "lines, zstd": ("jsonl", "zstd", 1, lambda count: _zstandard(_lines(count))),
    "records, gzip": ("csv", "gzip", 1, lambda count: _gzipped(_records(count))),
    "large window": ("json", "zstd", 0, lambda count: _zstandard(_array(count), 27)),
    "empty members": ("json", "gzip", 0, lambda count: _empty_parts(_gzipped, count)),
    "empty frames": ("json", "zstd", 0, lambda count: _empty_parts(_zstandard, count)),
    "one large cell": ("parquet", "", 1, lambda count: _table(pa.array(["x" * (_PIECE_BYTES * count)]))),
    "too large a window": ("json", "zstd", -1, lambda count: _zstandard(_array(count), 30)),
}
"""Small files that become large when somebody reads them."""


@trials("verify-damage", quick=1, full=2 * len(BOMBS))
def test_bomb(trial: Trial) -> None:
    """A small file that stands for gigabytes is read in bounded memory, to its end or to the first error."""
    format, compress, posts, make = BOMBS[list(BOMBS)[trial.number % len(BOMBS)]]
    count = (300, 2000)[trial.number // len(BOMBS)] if trial.full else 50
    if posts == 1:
        count = 50  # pyarrow decodes a cell as a whole: verify needs three times its size (docs/reliability.md)
    directory = trial.place / "export"
    directory.mkdir()
    name = f"posts.{format}" + {"": "", "gzip": ".gz", "zstd": ".zst"}[compress]
    (directory / name).write_bytes(make(count))
    assert (directory / name).stat().st_size < 20_000 * count
    options = {**({"compress": compress} if compress else {}), **({"columns": ["uri"]} if format != "json" else {})}
    manifest = {
        "export_format": format, "post_count": 100_000 * count if posts == 2 else max(0, posts), "media_count": 0,
        "files": [name], "options": options,
    }  # fmt: skip
    seal(directory, manifest)
    check_verify(trial, directory, {4} if posts < 0 else {0}, seconds=5 + count / 10)
