"""The native renderer: the bytes that Python renders, or a refusal; never beyond its target."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import random
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

import build_native
import make_archive
from skyexport import ExportOptions, export
from skyexport.archive.archive import Archive
from skyexport.archive.authorizer import restrict
from skyexport.errors import OptionError
from skyexport.formats import FORMATS
from skyexport.formats.settings import FormatSettings
from skyexport.posts import COLUMNS
from skyexport.rendering import native
from skyexport.rendering.native import NativeLibrary, NativeRenderer, NotThere, Status
from tests import oracle, strategies
from tests.archives import (
    Cell,
    RawText,
    Row,
    memory_archive,
    post,
    read_rows,
    replaced_posts,
    sorted_row_ids,
    stored_rows,
)
from tests.conftest import each_format
from tests.environment import ROOT
from tests.native_rendering import (
    EACH_SETTING,
    GUARD,
    PREBUILT,
    check_same,
    library_path,
    rendered_natively,
    run,
)

each_setting = pytest.mark.parametrize(
    ("format_name", "settings"), EACH_SETTING, ids=lambda value: value if isinstance(value, str) else "with"
)
needs_compiler = pytest.mark.skipif(
    not (os.environ.get("CC") or shutil.which("cc") or shutil.which("cl")), reason="there is no C compiler"
)
pytestmark = needs_compiler


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> NativeLibrary:
    """The renderer, without a warning of the compiler, with buffers that must grow."""
    found = native.find(library_path(tmp_path_factory.mktemp("native")), build_native.digest())
    assert isinstance(found, NativeLibrary), found
    return found


def archive_in_memory(path: Path) -> apsw.Connection:
    """A copy of an archive, to which an extension may be added."""
    connection = apsw.Connection(":memory:")
    with (
        contextlib.closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as stored,
        connection.backup("main", stored, "main") as backup,
    ):
        backup.step()
    return connection


# --- The same bytes ---------------------------------------------------------------------------------------------


@each_format
@pytest.mark.quick(5)
@pytest.mark.parametrize("name", ["edge", "sample", "real", pytest.param("real in full", marks=pytest.mark.slow)])
def test_archives_of_the_contract(contract_dir: Path, library: NativeLibrary, name: str, format_name: str) -> None:
    """Posts are as Python renders them, and of real archives nearly none is refused."""
    with contextlib.closing(archive_in_memory(contract_dir / name.split()[0] / "archive.db")) as connection:
        row_ids = sorted_row_ids(connection)[:: 10 if name == "real" else 1]
        refused = check_same(connection, library, row_ids, format_name)
    if name == "edge":
        assert refused
    else:
        assert len(refused) <= len(row_ids) // 500


@each_setting
def test_golden_posts(golden_dir: Path, library: NativeLibrary, format_name: str, settings: FormatSettings) -> None:
    """Ordinary and hostile posts, in every setting, in one batch and with a target that is often full."""
    with contextlib.closing(memory_archive(read_rows(golden_dir / "rows.json"))) as connection:
        row_ids = sorted_row_ids(connection)
        for capacity in (4_000_000, 9_000):
            refused = check_same(connection, library, row_ids, format_name, settings, capacity)
            assert len(refused) < len(row_ids)


@each_format
def test_usual_posts_are_not_refused(tmp_path: Path, library: NativeLibrary, format_name: str) -> None:
    """Of an archive as bskyarchive makes it, with posts of other time zones, no post is refused."""
    path = make_archive.make_archive(tmp_path / "a.db", posts=1000, seed=5, offset_share=0.2, ties=50).path
    with contextlib.closing(archive_in_memory(path)) as connection:
        assert check_same(connection, library, sorted_row_ids(connection), format_name) == {}


def test_json_suite(library: NativeLibrary) -> None:
    """Of the JSON parsing suite, what is JSON is taken verbatim, what is none refused, and nothing is decided anew."""
    suite = ROOT.parent / "shared" / "json-suite" / "json-suite.tar.gz"
    if not suite.exists():
        pytest.skip("the JSON parsing suite does not lie beside this checkout")
    with tarfile.open(suite) as files:
        cases = {Path(file.name).name: taken.read() for file in files if (taken := files.extractfile(file))}
    assert len(cases) > 330
    names = [name for name, content in cases.items() if content]
    rows = [post(number, embed_data=cases[name], has_media=1) for number, name in enumerate(names)]
    with contextlib.closing(memory_archive(rows)) as connection:
        ids = list(range(1, len(rows) + 1))
        for format_name in FORMATS:
            refused = {names[row_id - 1] for row_id in check_same(connection, library, ids, format_name)}
            assert {name for name in names if name.startswith("n_")} <= refused
            assert not {name for name in names if name.startswith("y_")} & refused - NOT_USUAL_BUT_JSON[format_name]


NOT_USUAL_BUT_JSON: dict[str, set[str]] = {
    name: {"y_object_escaped_null_in_key.json", "y_string_escaped_noncharacter.json"} if name == "csv" else set()
    for name in FORMATS
}
"""In CSV keys with escapes are looked at by Python."""


@pytest.mark.parametrize("text", [*strategies.MALFORMED_JSON])
def test_what_is_not_json_is_refused(library: NativeLibrary, text: bytes) -> None:
    """What some parsers take for JSON, in the whole and within JSON."""
    embeds = [text, b'{"a":' + text + b"}", b"[" + text + b"]"]
    with replaced_posts([post(number, embed_data=embed, has_media=1) for number, embed in enumerate(embeds)]) as stored:
        ids = sorted_row_ids(stored)
        for format_name in FORMATS:
            assert len(check_same(stored, library, ids, format_name)) >= 1


@pytest.mark.parametrize("levels", [1, 31, 32, 33, 64, 511, 512, 513, 1000])
def test_nested_json(library: NativeLibrary, levels: int) -> None:
    """JSON is taken to a depth of 512, lists and objects in turn."""
    texts = [b"[" * levels + b"]" * levels, b'{"a":' * levels + b"1" + b"}" * levels]
    innermost = b"[]" if levels % 2 else b"1"
    texts.append(b'[{"a":' * (levels // 2) + innermost + b"}]" * (levels // 2))
    with replaced_posts([post(number, embed_data=text) for number, text in enumerate(texts)]) as stored:
        for format_name in ("json", "jsonl", "parquet"):
            refused = check_same(stored, library, sorted_row_ids(stored), format_name)
            assert len(refused) == (len(texts) if levels > 512 else 0)


@given(rows=st.lists(strategies.posts(), min_size=1, max_size=4), setting=st.sampled_from(EACH_SETTING))
def test_any_posts(library: NativeLibrary, rows: list[Row], setting: tuple[str, FormatSettings]) -> None:
    """Whatever is stored, in any setting."""
    check_any(library, rows, *setting)


@pytest.mark.slow
@pytest.mark.parametrize(("format_name", "settings"), EACH_SETTING)
def test_any_posts_at_length(library: NativeLibrary, format_name: str, settings: FormatSettings) -> None:
    """The same with many more examples of each setting."""
    from hypothesis import settings as how

    @how(max_examples=2000)
    @given(rows=st.lists(strategies.posts(), min_size=1, max_size=4))
    def check(rows: list[Row]) -> None:
        check_any(library, rows, format_name, settings)

    check()


def check_any(library: NativeLibrary, rows: list[Row], format_name: str, settings: FormatSettings) -> None:
    rows = [{**row, "uri": f"{number}"} if number else row for number, row in enumerate(rows)]
    with replaced_posts(rows) as connection:
        check_same(connection, library, sorted_row_ids(connection), format_name, settings)


@given(cell=strategies.stored_times)
def test_any_time(library: NativeLibrary, cell: Cell) -> None:
    """A time is read as Python reads it, or refused."""
    with replaced_posts([post(created_at=cell)]) as connection:
        for format_name in FORMATS:
            check_same(connection, library, sorted_row_ids(connection), format_name)


ZONES = ["Z", "+05:30", " -0700 PDT", "+0530", " +0900 +0900", " -0330 -0330", " -0300 -03", " +00:00", " -0000 GMT"]


@pytest.mark.parametrize("zone", [" +0000 UTC", " +0000 UTC m=+12.345678901", *ZONES])
def test_usual_times(library: NativeLibrary, zone: str) -> None:
    """The spellings of Go and RFC 3339 are all read, on the edges of days, months, years and the calendar."""
    days = ["0001-01-02", "1582-10-10", "1900-02-28", "1969-12-31", "1970-01-01", "2000-02-29", "2023-12-31",
            "2024-02-29", "2024-03-01", "9999-12-30"]  # fmt: skip
    fractions = ["", ".5", ".250", ".000", ".123456789", ".000000001", ".123456"]
    clocks = ["00:00:00", "23:59:59"]
    times = [f"{''.join(parts)}{zone}" for parts in itertools.product(days, " T", clocks, fractions)]
    with replaced_posts([post(number, created_at=time) for number, time in enumerate(times)]) as connection:
        for format_name in FORMATS:
            assert check_same(connection, library, sorted_row_ids(connection), format_name) == {}


@pytest.mark.parametrize("year", [0, 9999])
def test_the_edges_of_the_calendar(library: NativeLibrary, year: int) -> None:
    """Times of the first and last day, which in UTC may be in no year of four digits."""
    day = f"{year:04d}-{'01-01' if year == 0 else '12-31'}"
    zones = [" +0000 UTC", " +0900 +0900", " -0900 -0900"]
    times = [f"{day} {clock}{zone}" for clock in ("00:00:00", "23:59:59.999999999") for zone in zones]
    with replaced_posts([post(number, created_at=time) for number, time in enumerate(times)]) as connection:
        for format_name in FORMATS:
            check_same(connection, library, sorted_row_ids(connection), format_name)


@pytest.mark.parametrize("odd", strategies.ODD_BYTES)
def test_odd_bytes_everywhere(library: NativeLibrary, odd: bytes) -> None:
    """Bytes that are not UTF-8, or just are, at every distance from the words of eight bytes that are looked at."""
    texts = [b"a" * before + odd + b"b" * behind for before in range(10) for behind in (0, 1, 9)]
    rows = [
        post(number, text=RawText(text), embed_data=b'{"images":[{"fullsize":"x/' + text + b'"}]}', has_media=1)
        for number, text in enumerate(texts)
    ]
    with replaced_posts(rows) as connection:
        for format_name in FORMATS:
            check_same(connection, library, sorted_row_ids(connection), format_name)


@pytest.mark.parametrize(
    ("format_name", "settings"),
    [
        pytest.param(name, settings, marks=[] if name in ("json", "csv") and not settings.columns else pytest.mark.slow)
        for name, settings in EACH_SETTING
    ],
)
def test_every_character_that_matters(library: NativeLibrary, format_name: str, settings: FormatSettings) -> None:
    """Each character of the first pages, and the edges of every size, first in a cell and behind others."""
    edges = [0x7FF, 0x800, 0xFFF, 0x1000, 0xD7FF, 0xE000, 0xFFFD, 0xFFFF, 0x10000, 0x3FFFF, 0xFFFFF, 0x10FFFF]
    codes = [*range(0x180), *map(ord, strategies.ODD_CHARACTERS), *edges]
    texts = [chr(code) + behind for code in codes for behind in ("", "x")] + [f"seven..{chr(code)}" for code in codes]
    with replaced_posts([post(number, text=text) for number, text in enumerate(texts)]) as connection:
        assert check_same(connection, library, sorted_row_ids(connection), format_name, settings) == {}


def mutated(cell: Cell, choose: random.Random) -> Cell:
    """A cell with a little changed, or of another type."""
    data = cell.data if isinstance(cell, RawText) else cell.encode() if isinstance(cell, str) else cell
    if not isinstance(data, bytes):
        return choose.choice([None, -1, 0.5, "7", b"\x00", 2**62])
    at = choose.randrange(len(data) + 1)
    kind = choose.randrange(4)
    if kind == 0:
        data = data[:at]
    elif kind == 1:
        data = data[:at] + data[at + choose.randrange(1, 4) :]
    else:
        odd = choose.choice([bytes([choose.randrange(256)]), *strategies.ODD_BYTES, b'"', b"\\", b"\xe2\x80\xa8", b" "])
        data = data[:at] + odd + data[at + choose.randrange(2) :]
    return RawText(data) if isinstance(cell, str | RawText) else data


@each_format
@pytest.mark.parametrize("count", [300, pytest.param(20_000, marks=pytest.mark.slow)])
def test_mutations_of_real_posts(contract_dir: Path, library: NativeLibrary, format_name: str, count: int) -> None:
    """Real posts of which one cell or two are cut short, changed or of another type."""
    choose = random.Random(count)
    with contextlib.closing(archive_in_memory(contract_dir / "real" / "archive.db")) as connection:
        stored = connection.execute(f"select {', '.join(COLUMNS)} from posts limit 3000")
        rows = [dict(zip(COLUMNS, values, strict=True)) for values in stored]
    changed: list[Row] = []
    for number in range(count):
        row: Row = dict(choose.choice(rows))
        for name in choose.sample(COLUMNS, choose.choice([1, 1, 2])):
            row[name] = mutated(row[name], choose)
        changed.append({**row, "uri": row["uri"] if not number else f"at://{number}", "cid": row["cid"] or "",
                        "did": row["did"] or "", "indexed_at": row["indexed_at"] or "",
                        "created_at": row["created_at"] or ""})  # fmt: skip
    with replaced_posts(changed) as connection:
        refused = check_same(connection, library, list(range(1, count + 1)), format_name)
    assert 0 < len(refused) < count


@pytest.mark.parametrize("format_name", ["json", "csv"])
def test_prefixes_of_an_embed(library: NativeLibrary, format_name: str) -> None:
    """Every beginning of an embed is refused but the whole, and nothing behind its end is read."""
    # fmt: off
    embed = ('{"images": [{"alt":"\\u0026 é\u2028\\ud83d","fullsize":"https://x/y/name@jpeg","n":-1.5e+7,'
             '"t":[true,false,null]}], "media":{"images":[{"fullsize":"a/b"}]},"external":{"thumb":"c/;,d"}}').encode()
    # fmt: on
    rows = [post(end, embed_data=embed[:end], has_media=1) for end in range(1, len(embed) + 1)]
    with replaced_posts(rows) as connection:
        refused = check_same(connection, library, sorted_row_ids(connection), format_name)
    assert len(refused) == len(rows) - 1


def changed_everywhere(row: Row, choose: random.Random, values: int) -> Iterator[Row]:
    """A row with each of its texts cut short at every byte, and with so many other values at every byte."""
    for name in COLUMNS:
        cell = row[name]
        stored = cell.encode() if isinstance(cell, str) else cell
        if not isinstance(stored, bytes):
            continue
        for at in range(len(stored)):
            others = [stored[:at] + bytes([choose.randrange(256)]) + stored[at + 1 :] for _ in range(values)]
            for data in (stored[:at], *others):
                yield {**row, name: RawText(data) if isinstance(cell, str) else data}


@each_format
@pytest.mark.parametrize(("count", "values"), [(1, 2), pytest.param(100, 8, marks=pytest.mark.slow)])
def test_real_posts_changed_everywhere(
    contract_dir: Path, library: NativeLibrary, format_name: str, count: int, values: int
) -> None:
    """Real posts cut short at every byte, and changed at every byte."""
    choose = random.Random(14)
    with contextlib.closing(archive_in_memory(contract_dir / "real" / "archive.db")) as connection:
        stored = connection.execute(f"select {', '.join(COLUMNS)} from posts where embed_data != x'6e756c6c'")
        rows = [dict(zip(COLUMNS, values, strict=True)) for values in stored]
    for row in choose.sample(rows, count):
        # Its uri would have to be another one for each.
        everywhere = changed_everywhere(row, choose, values)
        changed = [{**one, "uri": f"at://{number}"} for number, one in enumerate(everywhere)]
        with replaced_posts(changed) as connection:
            refused = check_same(connection, library, list(range(1, len(changed) + 1)), format_name)
        assert 0 < len(refused) < len(changed)


# --- Lists of row ids -------------------------------------------------------------------------------------------

NEWEST_FIRST = "(select rowid as row_id, created_at from posts order by created_at desc, rowid desc limit -1)"


def listed(
    connection: apsw.Connection, library: NativeLibrary, capacity: int
) -> tuple[native.NativeResult, list[int], list[int]]:
    """The row ids of all posts, and the places of those of the same instant as the one before."""
    order = native.NativeOrder(connection, library)
    memory = bytearray(b"\xa5" * (capacity + GUARD))
    order.set_target(memoryview(memory)[:capacity])
    with contextlib.suppress(apsw.SQLError):
        connection.execute(f"select {order.aggregate_sql} from {NEWEST_FIRST}").fetchall()
    result = order.result()
    assert memory[capacity:] == b"\xa5" * GUARD
    assert result.bytes == 8 * result.posts
    row_ids, tied = order.listed(memory[:capacity], result)
    return result, list(row_ids), list(tied)


def expected_list(connection: apsw.Connection) -> tuple[list[int], list[int]]:
    """The same by Python."""
    rows: list[Any] = connection.execute(f"select row_id, created_at from {NEWEST_FIRST}").fetchall()
    tied = [place for place in range(1, len(rows)) if rows[place][1] == rows[place - 1][1]]
    return [row_id for row_id, _ in rows], tied


@given(times=st.lists(st.sampled_from(["2024-05", "2024-05-01", "", "x\0y", "x\0z", "x" * 100]), max_size=30))
def test_any_list_of_row_ids(library: NativeLibrary, times: list[str]) -> None:
    """Row ids come as they are given, and which are of one instant; into a small target only the first ones."""
    with contextlib.closing(
        memory_archive([post(n, created_at=time) for n, time in enumerate(times, 1)])
    ) as connection:
        row_ids, tied = expected_list(connection)
        for capacity in range(0, 16 * len(times) + 16, 8):
            result, found, found_tied = listed(connection, library, capacity)
            if capacity >= 8 * (len(row_ids) + len(tied)):
                assert result.status is Status.DONE
                assert (found, found_tied) == (row_ids, tied)
            else:
                assert result.status is Status.TOO_LARGE
                assert result.refused_row_id == row_ids[len(found)]
                assert found == row_ids[: len(found)]
                assert found_tied == [place for place in tied if place < len(found)]


@pytest.mark.parametrize("time", ["5", "5.5", "x'32303234'"])
def test_times_that_are_no_texts_are_not_listed(library: NativeLibrary, time: str) -> None:
    """Other values compare otherwise than by their bytes: the row is refused, and named."""
    with contextlib.closing(memory_archive([post(1), post(2), post(3)])) as connection:
        connection.execute(f"update posts set created_at = {time} where rowid = 2")
        row_ids, _ = expected_list(connection)
        result, found, _ = listed(connection, library, 1000)
    assert (result.status, result.refused_row_id) == (Status.NOT_USUAL, 2)
    assert found == row_ids[: row_ids.index(2)]


# --- Bounds and refusals ----------------------------------------------------------------------------------------


def few_posts() -> list[Row]:
    """Posts that need escapes, quotes, an indentation and another time zone."""
    return [
        post(1, text='A "line", and\nanother\u2028é', has_media=1,
             embed_data=b'{"a":[1,{"b":"\xe2\x80\xa9"}],"images":[]}'),
        post(2, text="", reply_parent="at://x", embed_type="app.bsky.embed.images",
             embed_data=b'{"images":[{"fullsize":"https://x/a;,@jpeg"},{"fullsize":"https://x/b"}]}', has_media=1),
        post(3, created_at="2024-05-22 18:57:38.254 -0700 PDT", labels=b"[]"),
    ]  # fmt: skip


@each_setting
def test_every_capacity(library: NativeLibrary, format_name: str, settings: FormatSettings) -> None:
    """In a target of any size nothing is written beyond its end, and posts that do not fit are told."""
    with contextlib.closing(memory_archive(few_posts())) as connection:
        renderer = NativeRenderer(connection, library, format_name, settings)
        whole = bytearray(20_000)
        needed = run(connection, renderer, [1, 2, 3], memoryview(whole)).bytes
        step = 1 if format_name != "parquet" else 7
        for capacity in range(0, needed + 4_000 if format_name == "parquet" else needed + 2, step):
            memory = bytearray(b"\xa5" * (capacity + GUARD))
            result = run(connection, renderer, [1, 2, 3], memoryview(memory)[:capacity])
            assert memory[capacity:] == b"\xa5" * GUARD
            assert result.status in (Status.DONE, Status.TOO_LARGE)
            if format_name != "parquet":
                assert (result.status is Status.DONE) == (capacity >= needed)
                assert memory[: result.bytes] == whole[: result.bytes]
        assert result.status is Status.DONE


@each_format
@pytest.mark.parametrize("capacity", [900, 1500, 6000])
def test_a_full_target_is_gone_on_with(library: NativeLibrary, format_name: str, capacity: int) -> None:
    """Posts that go out in several targets are the same posts."""
    rows = [post(number, text="é" * (number % 40)) for number in range(30)]
    with contextlib.closing(memory_archive(rows)) as connection:
        check_same(connection, library, sorted_row_ids(connection), format_name, capacity=capacity)
        whole = rendered_natively(connection, library, [1, 2], format_name, capacity=capacity)
        assert len(whole.refused) == 0 or capacity < 6000


@each_format
@pytest.mark.parametrize("column", ["text", "embed_data", "created_at", "like_count", "has_media"])
def test_a_refusal_names_the_row(library: NativeLibrary, format_name: str, column: str) -> None:
    """The row and the column that were refused are told, and the posts before it are kept."""
    odd: dict[str, Cell] = {
        "text": RawText(b"\xff"), "embed_data": b"{", "created_at": "never", "like_count": 0.5, "has_media": 0.5
    }  # fmt: skip
    rows = [post(1), post(2), post(3, **{"has_media": 1, column: odd[column]}), post(4)]
    with contextlib.closing(memory_archive(rows)) as connection:
        renderer = NativeRenderer(connection, library, format_name)
        target = bytearray(20_000)
        two = run(connection, renderer, [1, 2], memoryview(target))
        kept = target[: two.bytes]
        result = run(connection, renderer, [1, 2, 3, 4], memoryview(target))
        if (format_name, column) == ("csv", "text"):  # whose bytes go out as they are
            assert result.status is Status.DONE
            return
        assert (result.status, result.posts, result.refused_row_id) == (Status.NOT_USUAL, 2, 3)
        assert result.refused_column == ("media_files" if (format_name, column) == ("csv", "embed_data") else column)
        assert (result.bytes, target[: result.bytes]) == (two.bytes, kept)


class _Context(ctypes.Structure):
    """The beginning of `struct sky_context`."""

    _fields_ = (("result", ctypes.c_char * 48), ("resize", ctypes.c_void_p))


@each_format
def test_no_memory(library: NativeLibrary, format_name: str) -> None:
    """Whichever allocation fails, the posts before are kept, and the next statement is none the worse."""
    rows = [post(number, text="x" * (number * 20), has_media=1, embed_data=b'{"a":"' + b"y" * number * 20 + b'"}')
            for number in range(20)]  # fmt: skip
    ids = list(range(1, 21))
    refused = 0
    for failing in range(200):
        with contextlib.closing(memory_archive(rows)) as connection:
            renderer = NativeRenderer(connection, library, format_name)
            address = connection.execute("select sky_context()").get
            assert isinstance(address, int)
            context = _Context.from_address(address)
            resize = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_ulonglong)
            usual = resize(context.resize)
            calls = iter(range(1_000_000))
            failing_resize = resize(lambda memory, size: None if next(calls) == failing else usual(memory, size))  # noqa: B023
            context.resize = ctypes.cast(failing_resize, ctypes.c_void_p).value
            target = bytearray(60_000)
            result = run(connection, renderer, ids, memoryview(target))
            data = target[: result.bytes]
            again = run(connection, renderer, ids[: result.posts], memoryview(target))
            assert data == target[: again.bytes]
            assert run(connection, renderer, ids, memoryview(target)).status is Status.DONE
        if result.status is Status.DONE:
            break
        assert result.status is Status.NO_MEMORY
        refused += 1
    assert result.status is Status.DONE
    assert failing == refused
    assert (refused == 0) == (format_name in ("json", "jsonl"))  # these two need no buffer


# --- Who may call it --------------------------------------------------------------------------------------------


def test_nothing_without_a_target(library: NativeLibrary) -> None:
    """Without a target, with one of another format, or with one that was used, the functions fail."""
    with contextlib.closing(memory_archive([post(1)])) as connection:
        renderer = NativeRenderer(connection, library, "json")
        sql = f"select {renderer.aggregate_sql} from posts"
        with pytest.raises(apsw.SQLError, match="no target is set"):
            connection.execute(sql).fetchall()
        target = bytearray(10_000)
        renderer.set_target(target)
        with pytest.raises(apsw.SQLError, match="no target is set"):
            connection.execute(sql.replace("sky_render_json", "sky_render_csv")).fetchall()
        with pytest.raises(apsw.SQLError, match="no target is set"):
            connection.execute(f"{sql} group by rowid union all {sql}").fetchall()
        with pytest.raises(apsw.SQLError, match="no target is set"):
            connection.execute(sql).fetchall()
        assert renderer.result().status is Status.DONE
        assert renderer.result().status is Status.NO_TARGET
        connection.execute("delete from posts")
        renderer.set_target(target)
        assert connection.execute(sql).get == 0
        assert renderer.result().bytes == 0


def test_a_database_cannot_call_it(library: NativeLibrary) -> None:
    """Views and triggers of a database do not reach the functions, and SQL cannot load an extension."""
    with contextlib.closing(memory_archive([post(1)])) as connection:
        renderer = NativeRenderer(connection, library, "json")
        connection.execute(
            f"create view v as select {renderer.aggregate_sql} from posts; create view w as select sky_context()"
        )
        renderer.set_target(bytearray(10_000))
        for view in "vw":
            with pytest.raises(apsw.SQLError, match="unsafe use"):
                connection.execute(f"select * from {view}").fetchall()
        with pytest.raises(apsw.SQLError, match="not authorized"):
            connection.execute("select load_extension(?)", (str(library.path),))


def test_a_restricted_connection(tmp_path: Path, library: NativeLibrary) -> None:
    """It works on a connection that was restricted afterwards, as those of an export are."""
    path = make_archive.make_archive(tmp_path / "a.db", posts=20, seed=5).path
    with contextlib.closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
        renderer = NativeRenderer(connection, library, "json")
        restrict(connection)
        target = bytearray(60_000)
        renderer.set_target(memoryview(target))
        assert connection.execute(f"select {renderer.aggregate_sql} from posts").get == 20


def test_renderers_take_turns(library: NativeLibrary) -> None:
    """Two renderers of one connection, and those of another, do not disturb each other."""
    with contextlib.closing(memory_archive([post(1)])) as one, contextlib.closing(memory_archive([post(2)])) as two:
        for _ in range(2):
            for connection in (one, two):
                for format_name in ("json", "csv", "parquet"):
                    assert check_same(connection, library, [1], format_name) == {}


@each_format
def test_an_error_of_sqlite_is_none_of_the_renderer(library: NativeLibrary, format_name: str) -> None:
    """A statement that SQLite ends says so; the posts before are complete, and its target is forgotten."""
    with contextlib.closing(memory_archive([post(number) for number in range(100)])) as connection:
        renderer = NativeRenderer(connection, library, format_name)
        target = bytearray(200_000)
        renderer.set_target(target)
        connection.set_progress_handler(lambda: True, 1000)
        with pytest.raises(apsw.InterruptError):
            connection.execute(f"select {renderer.aggregate_sql} from posts").fetchall()
        connection.set_progress_handler(None)
        result = renderer.result()
        assert result.status is Status.INTERRUPTED
        assert 0 < result.posts < 100
        data = target[: result.bytes]
        with pytest.raises(apsw.SQLError, match="no target is set"):
            connection.execute(f"select {renderer.aggregate_sql} from posts").fetchall()
        again = run(connection, renderer, list(range(1, result.posts + 1)), memoryview(target))
        assert data == target[: again.bytes]


def test_a_closed_connection(library: NativeLibrary) -> None:
    """After its connection a renderer is of no use, and harms nobody."""
    connection = memory_archive([post(1)])
    renderer = NativeRenderer(connection, library, "csv")
    run(connection, renderer, [1], memoryview(bytearray(10_000)))
    connection.close()
    with pytest.raises(apsw.ConnectionClosedError):
        renderer.set_target(bytearray(10))
    with pytest.raises(apsw.ConnectionClosedError):
        renderer.result()


# --- Finding and building it ------------------------------------------------------------------------------------


def test_finding(tmp_path: Path, library: NativeLibrary) -> None:
    """What is not there, no library, or built from other sources is told in one line."""
    absent = native.find(tmp_path / "absent.so")
    assert absent == NotThere("the native renderer was not built with this installation")
    (tmp_path / "text.so").write_text("no library")
    found = native.find(tmp_path / "text.so")
    assert isinstance(found, NotThere)
    assert found.reason.startswith("the native renderer cannot be loaded: ")
    assert "\n" not in found.reason
    assert native.find(library.path, "0" * 64) == NotThere(
        "the native renderer was built from other sources: install skyexport again", is_installed=True
    )


def test_the_module_knows_the_sources() -> None:
    """The digest in native.py is that of native/: else run `python tools/build_native.py --write-digest`."""
    assert build_native.digest() == native.SOURCES_SHA256


def test_the_digest_is_of_the_sources(tmp_path: Path) -> None:
    """It changes with any content or name, and not with the ends of lines."""
    for path in build_native.SOURCES.glob("*.[ch]"):
        (tmp_path / path.name).write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert build_native.digest(tmp_path) == build_native.digest()
    (tmp_path / "json.c").write_bytes((tmp_path / "json.c").read_bytes() + b"\n")
    changed = build_native.digest(tmp_path)
    assert changed != build_native.digest()
    (tmp_path / "json.c").rename(tmp_path / "jsom.c")
    assert build_native.digest(tmp_path) not in (changed, build_native.digest())


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_no_warnings(compiler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sources compile strictly without a warning."""
    if shutil.which(compiler) is None:
        pytest.skip(f"there is no {compiler}")
    monkeypatch.setenv("CC", compiler)
    build_native.build(tmp_path / "native.so", flags=build_native.STRICT)
    assert isinstance(native.find(tmp_path / "native.so"), NativeLibrary)


def test_failing_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiler that is not there or fails is told in one line, and leaves nothing."""
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(build_native.CompileError, match="no-such-compiler cannot be run"):
        build_native.build(tmp_path / "native.so")
    monkeypatch.delenv("CC")
    with pytest.raises(build_native.CompileError, match=r"failed: .*error"):
        build_native.build(tmp_path / "native.so", flags=["-no-such-flag"])
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(build_native.CompileError, match="there is no C compiler"):
        build_native.build(tmp_path / "native.so")
    assert list(tmp_path.iterdir()) == []


def test_places_in_the_table_of_sqlite(tmp_path: Path) -> None:
    """Every function of our header is at the place that SQLite's own header gives it, and every constant is right."""
    header = (build_native.SOURCES / "sqlite_api.h").read_text(encoding="utf-8")
    table = header.split("struct sky_sqlite_api {")[1].split("};")[0]
    functions = re.findall(r"\(\*(\w+)\)\(", table)
    assert len(functions) == 12
    constants = ["OK", "ERROR", "NOMEM", "UTF8", "DIRECTONLY", "INTEGER", "FLOAT", "TEXT", "BLOB", "NULL"]
    lines = [f'_Static_assert(SKY_SQLITE_{name} == SQLITE_{name}, "{name}");' for name in constants]
    lines += [
        f'_Static_assert(offsetof(struct sky_sqlite_api, {name}) == offsetof(sqlite3_api_routines, {name}), "{name}");'
        for name in functions
    ]
    program = tmp_path / "places.c"
    program.write_text('#include <stddef.h>\n#include <sqlite3ext.h>\n#include "sqlite_api.h"\n' + "\n".join(lines))
    compiler = [os.environ.get("CC") or "cc", "-fsyntax-only", "-I", str(build_native.SOURCES)]
    if subprocess.run(
        [*compiler, "-include", "sqlite3ext.h", "-x", "c", os.devnull], capture_output=True, check=False
    ).returncode:
        pytest.skip("SQLite's header is not installed")
    done = subprocess.run([*compiler, str(program)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_is_exported(library: NativeLibrary) -> None:
    """The library shows the functions of the interface and the entry point, and nothing else."""
    if PREBUILT or sys.platform != "linux" or shutil.which("nm") is None:
        pytest.skip("only looked at on Linux")
    shown = subprocess.run(
        ["nm", "-D", "--defined-only", library.path], capture_output=True, text=True, check=True
    ).stdout  # fmt: skip
    assert sorted(line.split()[-1] for line in shown.splitlines()) == [
        "skyexport_configure",
        "skyexport_finish",
        "skyexport_result",
        "skyexport_set_target",
        "skyexport_sources",
        "sqlite3_skyexport_init",
    ]


@pytest.fixture(scope="session")
def fuzzer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fuzzer's program for given inputs, with the address and undefined behaviour sanitizers."""
    program = tmp_path_factory.mktemp("fuzz") / "fuzz"
    compiler = os.environ.get("CC") or "cc"
    sources = [*build_native.SOURCES.glob("*.c"), *(build_native.SOURCES / "fuzz").glob("*.c")]
    flags = ["-std=c11", *build_native.STRICT, "-g", "-O1", "-DWITH_MAIN", "-DSKY_FIRST_BUFFER_BYTES=64"]
    sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    empty = program.with_name("empty.c")
    empty.write_text("int main(void) { return 0; }")
    tried = subprocess.run([compiler, *sanitizers, str(empty), "-o", str(program)], capture_output=True, check=False)
    if tried.returncode or subprocess.run([program], capture_output=True, check=False).returncode:
        pytest.skip("the compiler has no sanitizers")
    subprocess.run([compiler, *flags, *sanitizers, *map(str, sources), "-o", str(program)], check=True)
    return program


def fuzzed(program: Path, inputs: Path) -> None:
    """Run all files of a directory, and expect nothing to be found."""
    paths = sorted(inputs.iterdir())
    done = subprocess.run([program, *paths], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"{len(paths)} inputs\n"), done.stderr[-3000:]


@pytest.mark.parametrize("count", [300, pytest.param(5_000, marks=pytest.mark.slow)])
def test_fuzzer_with_random_inputs(tmp_path: Path, fuzzer: Path, count: int) -> None:
    """Sanitizers find nothing in random settings, targets, failing allocations and values."""
    choose = random.Random(7)
    words = [b'{"images":[{"fullsize":"x/y"}]}', b"2024-02-29 23:59:59.5 -0700 PDT", b'"', b"\\u0041", b"[", b"}", b","]
    for number in range(count):
        parts = [
            choose.choice([choose.randbytes(choose.randrange(1, 40)), *words]) for _ in range(choose.randrange(30))
        ]
        (tmp_path / f"{number}").write_bytes(choose.randbytes(2) + b"".join(parts))
    fuzzed(fuzzer, tmp_path)


def test_fuzzer_with_its_corpus(tmp_path: Path, fuzzer: Path) -> None:
    """Nor in the inputs that coverage-guided fuzzing found: together they reach all that it reached."""
    with tarfile.open(build_native.SOURCES / "fuzz" / "corpus.tar.gz") as files:
        files.extractall(tmp_path, filter="data")
    fuzzed(fuzzer, tmp_path)


@pytest.fixture(scope="session")
def source_distribution(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, unpacked: it must have all that a build of the renderer takes."""
    directory = tmp_path_factory.mktemp("sdist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(directory)]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    (archive,) = directory.iterdir()
    with tarfile.open(archive) as files:
        files.extractall(directory, filter="data")
    return directory / archive.name.removesuffix(".tar.gz")


@pytest.fixture
def project(source_distribution: Path, tmp_path: Path) -> Path:
    """The same with a library of an earlier build, which must end up in no wheel."""
    copy = shutil.copytree(source_distribution, tmp_path / "project")
    (copy / "src" / "skyexport" / "rendering" / build_native.library_name()).write_text("old")
    return copy


def built(project: Path, **environment: str) -> tuple[str, str, Path | None]:
    """Build the wheel: the end of its name, what the builder says, and the library in it."""
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", "dist"],
        cwd=project, env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = done.stdout + done.stderr
    if done.returncode:
        return "", said, None
    (wheel,) = (project / "dist").iterdir()
    with zipfile.ZipFile(wheel) as files:
        names = [name for name in files.namelist() if "native_renderer" in name]
        library = Path(files.extract(names[0], project / "unpacked")) if names else None
    return wheel.name.partition("-py3-")[2], said, library


def test_a_wheel_with_the_renderer(project: Path) -> None:
    """With a compiler the wheel is one for this platform, and the library in it goes with native.py."""
    tag, _, library = built(project, SKYEXPORT_NATIVE="require")
    assert tag == f"none-{build_native.wheel_platform()}.whl"
    assert library is not None
    assert isinstance(native.find(library), NativeLibrary)


@pytest.mark.quick(2)
@pytest.mark.parametrize(
    ("choice", "compiler", "problem"),
    [
        ("off", "cc", None),
        ("auto", "no-such-compiler", "the compiler no-such-compiler cannot be run: No such file or directory"),
        ("auto", "false", "false failed: without a message"),
        ("", "false", "false failed: without a message"),
    ],
)
def test_a_wheel_without_the_renderer(project: Path, choice: str, compiler: str, problem: str | None) -> None:
    """Where it is not wanted or cannot be built, the wheel is one for any platform, and one line says so."""
    tag, said, library = built(project, SKYEXPORT_NATIVE=choice, CC=compiler)
    assert (tag, library) == ("none-any.whl", None)
    told = [line for line in said.splitlines() if "renderer" in line]
    assert told == ([] if problem is None else [f"without the native renderer, exports take longer: {problem}"])
    assert not (project / "src" / "skyexport" / "rendering" / build_native.library_name()).exists()


@pytest.mark.quick(2)
@pytest.mark.parametrize(("choice", "compiler", "said"), [
    ("require", "no-such-compiler", "the native renderer is required but was not built: the compiler no-such-compiler"),
    ("yes", "cc", "SKYEXPORT_NATIVE=yes: use one of auto, require, off"),
    ("require", "false", "the native renderer is required but was not built: false failed: without a message"),
])  # fmt: skip
def test_no_wheel(project: Path, choice: str, compiler: str, said: str) -> None:
    """Where the renderer is required, a build without it fails in one line; so does an unknown choice."""
    tag, output, _ = built(project, SKYEXPORT_NATIVE=choice, CC=compiler)
    assert tag == ""
    assert said in output
    assert "Traceback" not in output


def test_an_editable_installation(project: Path) -> None:
    """It builds the renderer beside the modules, and removes it when it is not wanted any more."""
    library = project / "src" / "skyexport" / "rendering" / build_native.library_name()
    code = "from hatchling.build import build_editable; print(build_editable('.'))"
    for choice in ("require", "off"):
        environment = {**os.environ, "SKYEXPORT_NATIVE": choice}
        subprocess.run([sys.executable, "-c", code], cwd=project, env=environment, capture_output=True, check=True)
        assert library.exists() == (choice == "require")
        if choice == "require":
            assert isinstance(native.find(library), NativeLibrary)


# --- Which renderer an export uses ------------------------------------------------------------------------------


@pytest.fixture
def _fresh_choice() -> Iterator[None]:
    """Look for the renderer anew in this test, and after it."""
    native.library.cache_clear()
    yield
    native.library.cache_clear()


@pytest.mark.usefixtures("_fresh_choice")
@pytest.mark.parametrize("kind", ["other sources", "no library"])
def test_a_renderer_that_cannot_be_used(
    kind: str, tmp_path: Path, library: NativeLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An export goes on in Python, and one line says why; an export that requires it fails."""
    place = tmp_path / build_native.library_name()
    if kind == "no library":
        place.write_text("no library")
    else:
        shutil.copy(library.path, place)
    find = native.find
    monkeypatch.setattr(native, "find", lambda: find(place, "0" * 64))
    archive = make_archive.make_archive(tmp_path / "a.db", posts=20, seed=5).path
    summary = export(ExportOptions(archive=archive, to=tmp_path / "a.json", workers=0, memory_limit="8GB"))
    assert summary.renderer == "python"
    assert summary.renderer_problem is not None
    assert summary.renderer_problem.startswith("the native renderer ")
    assert f"note: {summary.renderer_problem}" in summary.sentences()
    assert summary.sentences()[1].endswith(", Python renderer")
    monkeypatch.setenv(native.RENDERER_VARIABLE, "native")
    native.library.cache_clear()
    with pytest.raises(OptionError, match=r"the native renderer .*; install skyexport with a C compiler, or leave out"):
        export(ExportOptions(archive=archive, to=tmp_path / "b.json", workers=0, memory_limit="8GB"))


@pytest.mark.usefixtures("_fresh_choice")
@pytest.mark.parametrize(("choice", "renderer"), [("python", "python"), ("native", "native"), ("", "native")])
def test_chosen_renderer(
    choice: str, renderer: str, tmp_path: Path, library: NativeLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SKYEXPORT_RENDERER chooses, and the bytes are the same; no line speaks of a renderer that is not wanted."""
    find = native.find
    monkeypatch.setattr(native, "find", lambda: find(library.path))
    monkeypatch.setenv(native.RENDERER_VARIABLE, choice)
    archive = make_archive.make_archive(tmp_path / "a.db", posts=20, seed=5).path
    summary = export(ExportOptions(archive=archive, to=tmp_path / "a.json", workers=0, memory_limit="8GB"))
    assert (summary.renderer, summary.renderer_problem) == (renderer, None)
    assert not any("SKYEXPORT" in line for line in summary.sentences())
    with Archive(archive) as opened:
        assert (tmp_path / "a.json").read_bytes() == oracle.FILE["json"](stored_rows(opened.connection))
