"""The cookbook: every command of docs/cookbook.md, run as it stands there, and what comes out of it."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apsw
import pytest

import make_archive
from skyexport import ExportOptions, export
from tests import oracle
from tests.archives import RawText, insert, post, uri_of
from tests.conftest import needs_bash

duckdb = pytest.importorskip("duckdb")

PAGE = Path(__file__).resolve().parents[1] / "docs" / "cookbook.md"

pytestmark = needs_bash

FORMULA = post(900001, text='=HYPERLINK("http://example.com")', created_at="2023-01-05 10:00:00.123456789 +0900 +0900")
NUL = post(900002, text="before\0after \\u0000, both stay", created_at="2023-01-04 10:00:00 +0000 UTC")
NOT_UTF8 = post(900003, text=RawText(b"caf\xe9 \0"), created_at="2023-01-03 10:00:00 +0000 UTC")
MARKED = post(900004, text="'=1", created_at="2023-01-02 10:00:00 +0000 UTC", is_reply=1)
LONG = post(900005, text="x" * 200_000, created_at="2023-01-01 10:00:00 +0000 UTC")
HIDDEN = [
    post(900006 + number, text=text, created_at=f"2023-01-01 0{number}:00:00 +0000 UTC")
    for number, text in enumerate(["\n=1", "\0=1", " =1", "\u3000\ufeff\u200b＠a", "''\t", "' =", "'\n"])
]
"""Posts whose texts a spreadsheet may read as formulas, or which only look marked."""
HARD = (FORMULA, NUL, NOT_UTF8, MARKED, LONG, *HIDDEN)


@dataclass(frozen=True, slots=True)
class Block:
    """One block of code: its language, the file that the page tells to save it as, the code."""

    language: str
    file: str | None
    code: str


def sections() -> dict[str, list[Block]]:
    """Heading → blocks of code, in the order of the page."""
    found: dict[str, list[Block]] = {}
    heading, language, prose = "", None, ""
    code: list[str] = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if language is not None:
            if line == "```":
                named = re.search(r"Save this as `([^`]+)`", prose)
                found[heading].append(Block(language, named and named[1], "\n".join(code) + "\n"))
                language, prose, code = None, "", []
            else:
                code.append(line)
        elif line.startswith("## "):
            heading, prose = line[3:], ""
            found[heading] = []
        elif line.startswith("```"):
            language = line[3:]
        else:
            prose += line + "\n"
    return {heading: blocks for heading, blocks in found.items() if blocks}


@dataclass
class Kitchen:
    """An empty directory with `archive.db`, the programs that the page needs, and the blocks of one section."""

    directory: Path
    blocks: list[Block]
    environment: dict[str, str]

    @property
    def archive(self) -> Path:
        return self.directory / "archive.db"

    def next(self, language: str) -> str:
        """The code of the next block, which is of this language."""
        block = self.blocks.pop(0)
        assert block.language == language
        return block.code

    def bash(self, code: str) -> subprocess.CompletedProcess[str]:
        """Run commands as a person does, but end at the first that fails."""
        return subprocess.run(
            ["bash", "-eu", "-c", code], cwd=self.directory, env=self.environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def shell(self) -> None:
        """Run the next block of shell commands, to success."""
        done = self.bash(self.next("sh"))
        assert done.returncode == 0, done.stderr

    def python(self) -> dict[str, Any]:
        """Run the next block of Python; its names."""
        names: dict[str, Any] = {}
        with contextlib.chdir(self.directory):
            exec(compile(self.next("python"), str(PAGE), "exec"), names)
        return names

    def program(self, name: str, code: str) -> None:
        """A program of that name, first in PATH."""
        path = self.directory / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{code}\n", encoding="utf-8")
        path.chmod(0o755)

    def json_posts(self) -> dict[str, Any]:
        """Uri → post, of the JSON of all posts as they are now."""
        to = self.directory / "oracle.json"
        export(ExportOptions(archive=self.archive, to=to, overwrite=True, workers=0))
        return {found["uri"]: found for found in json.loads(to.read_bytes())}

    def change(self, sql: str, *values: apsw.SQLiteValue) -> None:
        """Change the archive, as an archiver does between two exports."""
        with contextlib.closing(apsw.Connection(str(self.archive))) as connection:
            connection.execute(sql, values)


@pytest.fixture(scope="module")
def pantry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive that each section begins with; only to be copied."""
    path = tmp_path_factory.mktemp("pantry") / "archive.db"
    make_archive.make_archive(path, posts=300, seed=7, authors=5, offset_share=0.1, media=True)
    with contextlib.closing(apsw.Connection(str(path))) as connection:
        for row in HARD:
            insert(connection, row)
    return path


Recipe = Callable[[str], contextlib.AbstractContextManager[Kitchen]]


@pytest.fixture
def recipe(pantry: Path, tmp_path: Path) -> Recipe:
    """Heading → the kitchen for that section; when it is left, all blocks of the section must have been used."""

    @contextlib.contextmanager
    def cook(heading: str) -> Iterator[Kitchen]:
        shutil.copytree(pantry.parent, tmp_path, dirs_exist_ok=True)
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PG")},
            "PATH": os.pathsep.join([str(tmp_path / "bin"), os.environ["PATH"]]),
            "HOME": str(tmp_path),
            "SKYEXPORT_BATCH_SIZE": "100",
            "SKYEXPORT_WORKERS": "0",
        }
        kitchen = Kitchen(tmp_path, sections()[heading], environment)
        kitchen.program("skyexport", f'exec {shlex.quote(sys.executable)} -m skyexport "$@"')
        yield kitchen
        assert kitchen.blocks == [], "the page has blocks that no test runs"

    return cook


def test_every_section_is_tested() -> None:
    """There is a test for each section of the page that has code."""
    tested = re.findall(r'with recipe\("([^"]+)"\)', Path(__file__).read_text(encoding="utf-8"))
    assert tested == list(sections())


@pytest.mark.slow
def test_duckdb(recipe: Recipe) -> None:
    """Both tables have all posts, the views what the JSON has."""
    with recipe("DuckDB") as kitchen:
        kitchen.shell()
        expected = kitchen.json_posts()
        with contextlib.chdir(kitchen.directory), contextlib.closing(duckdb.connect("posts.duckdb")) as connection:
            connection.execute(kitchen.next("sql"))

            def column(table: str, column: str) -> dict[str, Any]:
                return dict(connection.execute(f"select uri, {column} from {table}").fetchall())

            texts = {uri: found["text"] for uri, found in expected.items()}
            assert column("posts", "text") == texts
            assert column("posts", "like_count") == {uri: found["like_count"] for uri, found in expected.items()}
            assert column("posts_of_lines", "text") == texts
            assert column("posts_of_lines", "created_at") == {u: found["created_at"] for u, found in expected.items()}
            assert column("described", "alt") == {
                uri: found["embed_data"]["images"][0]["alt"]
                for uri, found in expected.items()
                if found.get("embed_type") == "images"
            }
            written = column("exact_times", "written")
            assert written[str(FORMULA["uri"])] == "2023-01-05T10:00:00.123456789+09:00"
            assert written[str(NUL["uri"])] == "2023-01-04T10:00:00.000000Z"


@pytest.mark.slow
def test_polars(recipe: Recipe) -> None:
    """Months count all posts and likes; descriptions are those of the JSON."""
    with recipe("Polars") as kitchen:
        kitchen.shell()
        expected = kitchen.json_posts()
        months = kitchen.python()["months"].to_dicts()
        assert sum(month["posts"] for month in months) == len(expected)
        assert sum(month["likes"] for month in months) == sum(found["like_count"] for found in expected.values())
        assert months[0]["posts"] == len(HARD)
        assert (kitchen.directory / "months.csv").read_text().count("\n") == len(months) + 1
        with (kitchen.directory / "alts.csv").open(encoding="utf-8", newline="") as file:
            alts = {row["uri"]: row["alt"] for row in csv.DictReader(file)}
        assert alts == {
            uri: found["embed_data"]["images"][0]["alt"]
            for uri, found in expected.items()
            if found.get("embed_type") == "images"
        }


@pytest.mark.slow
def test_pandas(recipe: Recipe) -> None:
    """All posts are there, and the ten most liked ones that are no replies."""
    with recipe("pandas") as kitchen:
        kitchen.shell()
        expected = kitchen.json_posts()
        posts = kitchen.python()["posts"]
        assert dict(zip(posts["uri"], posts["text"], strict=True)) == {u: p["text"] for u, p in expected.items()}
        assert str(posts["like_count"].dtype) == "int64[pyarrow]"
        best = json.loads((kitchen.directory / "best.json").read_bytes())
        likes = sorted((found["like_count"] for found in expected.values() if not found["is_reply"]), reverse=True)
        assert [found["like_count"] for found in best] == likes[:10]


@pytest.fixture
def postgresql() -> Iterator[dict[str, str]]:
    """Variables for psql, of a private server without network; its directory has a name short enough for a socket."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [Path(shutil.which("initdb") or "")]
    programs = found[-1].parent
    if not (programs / "pg_ctl").is_file() or not (programs / "psql").is_file():
        pytest.skip("no PostgreSQL server is installed")
    home = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
    who: dict[str, Any] = {}
    if os.geteuid() == 0:  # which PostgreSQL refuses
        who = {"user": "nobody", "extra_groups": []}
        shutil.chown(home, "nobody")

    def run(program: str, *arguments: str) -> None:
        subprocess.run(
            [programs / program, "-D", home / "data", *arguments], cwd=home, check=True, timeout=60,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={"PATH": os.environ["PATH"]}, **who,
        )  # fmt: skip

    try:
        run("initdb", "-A", "trust", "-U", "cook", "-E", "UTF8", "--locale=C", "--no-sync")
        run("pg_ctl", "start", "-w", "-l", str(home / "log"), "-o", f"-k {home} -h '' -F")
        try:
            yield {
                "PGHOST": str(home), "PGUSER": "cook", "PGDATABASE": "postgres", "PGCLIENTENCODING": "UTF8",
                "PSQLRC": os.devnull, "PGBIN": str(programs),
            }  # fmt: skip
        finally:
            run("pg_ctl", "stop", "-m", "immediate")
    finally:
        shutil.rmtree(home)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("iconv") is None, reason="iconv is not here")
def test_postgresql(recipe: Recipe, postgresql: dict[str, str]) -> None:
    """Columns and JSON have all posts, U+0000 and what is not UTF-8 as the page says."""
    with recipe("PostgreSQL") as kitchen:
        kitchen.environment |= postgresql
        kitchen.environment["PATH"] = os.pathsep.join([postgresql["PGBIN"], kitchen.environment["PATH"]])

        def sql(code: str) -> str:
            done = kitchen.bash(f"psql -q -X -A -t -v ON_ERROR_STOP=1 -c {shlex.quote(code)}")
            assert done.returncode == 0, done.stderr
            return done.stdout

        def column(query: str) -> dict[str, Any]:
            return dict(json.loads(sql(f"select json_agg(json_build_array(uri, value)) from ({query}) as found")))

        expected = kitchen.json_posts()
        sql(kitchen.next("sql"))
        kitchen.shell()
        texts = {uri: found["text"].replace("\0", "") for uri, found in expected.items()}
        texts[str(NOT_UTF8["uri"])] = "caf "
        assert column("select uri, text as value from posts") == texts
        assert sql("select count(*) from posts where reply_parent is not null").strip() == str(
            sum("reply_parent" in found for found in expected.values())
        )

        kitchen.shell()
        assert column("select post->>'uri' as uri, post->>'text' as value from lines") == {
            uri: found["text"].replace("\0", "\ufffd") for uri, found in expected.items()
        }
        sql(kitchen.next("sql"))
        widths = [
            (uri, str(image["aspectRatio"]["width"]))
            for uri, found in expected.items()
            if (found.get("embed_data") or {}).get("$type") == "app.bsky.embed.images#view"
            for image in found["embed_data"]["images"]
        ]
        assert widths
        rows = json.loads(sql("select json_agg(json_build_array(uri, width)) from images"))
        assert sorted(map(tuple, rows)) == sorted(widths)
        assert sql("select max(like_count) from images") != "\n"


def test_spreadsheet(recipe: Recipe) -> None:
    """No cell begins like a formula, files have all rows, and taking the marks away gives what is stored."""
    with recipe("A spreadsheet") as kitchen:
        kitchen.shell()
        with contextlib.closing(apsw.Connection(str(kitchen.archive))) as connection:
            stored: dict[str, str] = {
                str(uri): bytes(text).decode("utf-8", "surrogateescape")
                for uri, text in connection.execute("select uri, cast(text as blob) from posts")
            }
        (split,) = kitchen.directory.glob("exports/all/*/posts-00001.csv")
        csv.field_size_limit(2**31 - 1)
        for path, delimiter in ((split, ","), (kitchen.directory / "posts.csv", ";")):
            assert path.read_bytes().startswith(b"\xef\xbb\xbf")
            with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
                rows = list(csv.DictReader(file, delimiter=delimiter))
            assert len(rows) == len(stored)
            assert not [cell for row in rows for cell in row.values() if oracle.is_formula(cell)]
        assert {row["URI"]: row["Text"] for row in rows} != stored
        posts = kitchen.python()["posts"]
        assert {found["URI"]: found["Text"] for found in posts} == stored


@pytest.mark.slow
def test_every_night(recipe: Recipe) -> None:
    """The line of cron exports, verifies, links, removes, and tells warnings only; a failure removes nothing."""
    with recipe("Every night") as kitchen:
        assert kitchen.blocks[0].file == "nightly.sh"
        script = kitchen.directory / "nightly.sh"
        script.write_text(kitchen.next("sh"), encoding="utf-8")
        script.chmod(0o755)
        *when, command = kitchen.next("cron").rstrip("\n").split(None, 5)
        assert [re.fullmatch(r"\*|\d+", part) is not None for part in when] == [True] * 5
        assert "%" not in command, "that is a line break for cron"
        (kitchen.directory / ".local").mkdir()
        (kitchen.directory / "bin").rename(kitchen.directory / ".local" / "bin")

        def night(line: str = command, day: str = "1") -> subprocess.CompletedProcess[str]:
            today.write_text(day)
            if exports():
                # Nights are not within a second of each other: names of exports sort by time.
                last = datetime.strptime(exports()[-1].name, "%Y-%m-%d_%H-%M-%S").replace(tzinfo=UTC)
                time.sleep(max(0, 1.05 - (datetime.now(UTC) - last).total_seconds()))
            return subprocess.run(
                ["/bin/sh", "-c", line], cwd="/", env={"HOME": kitchen.environment["HOME"], "PATH": "/usr/bin:/bin"},
                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip

        def exports() -> list[Path]:
            return sorted(kitchen.directory.glob("exports/all/*"))

        def silent(done: subprocess.CompletedProcess[str]) -> None:
            """The night succeeded and printed nothing."""
            assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

        def warned(done: subprocess.CompletedProcess[str]) -> None:
            """The night succeeded and printed only warnings about the archive's odd posts and lost media."""
            assert (done.returncode, done.stdout) == (0, "")
            invalid, missing = done.stderr.splitlines()
            assert invalid.startswith("warning: 1 text that is not valid UTF-8")
            assert missing.startswith("warning: 2 media files are missing")

        def posts(directory: Path) -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = json.loads((directory / "posts.json").read_bytes())
            return found

        today = kitchen.directory / "today"
        date = kitchen.directory / ".local" / "bin" / "date"
        date.write_text(f'#!/bin/sh\n[ "$1" = +%u ] && cat {shlex.quote(str(today))}\n', encoding="utf-8")
        date.chmod(0o755)

        warned(night())
        kitchen.change("update posts set text = 'later', cid = 'bafyother' where uri = ?", uri_of(MARKED))
        silent(night())
        first, second = exports()
        assert len(posts(first)) > 300, "the first night is a full export"
        assert [found["text"] for found in posts(second)] == ["later"]
        warned(night(day="7"))
        third = exports()[-1]
        assert len(posts(third)) == len(posts(first))
        media = list((third / "media").iterdir())
        assert media
        assert all(path.stat().st_nlink == 2 for path in media)

        assert command.endswith(" 4")
        one = command.removesuffix("4") + "1"
        silent(night(one))
        assert exports()[0] == third, "the first chain has gone as a whole"
        assert len(exports()) == 2
        assert sorted(path.name for path in (kitchen.directory / "exports").iterdir()) == ["all"]
        before = exports()

        done = night(command.removesuffix("4") + "0")
        assert (done.returncode, "--keep 0 would keep no export" in done.stderr) == (2, True)

        kitchen.archive.rename(kitchen.directory / "kept.db")
        kitchen.archive.write_bytes(b"no archive")
        done = night(one)
        assert done.returncode == 10
        assert done.stderr.startswith("nightly export of ")
        assert "archive.db is not a SQLite database" in done.stderr
        (kitchen.directory / "kept.db").replace(kitchen.archive)
        assert exports() == before

        (third / "posts.json").write_bytes((third / "posts.json").read_bytes() + b" ")
        done = night(one)
        assert (done.returncode, "posts.json" in done.stderr) == (4, True)
        assert exports() == before


@pytest.mark.slow
def test_only_what_is_new(recipe: Recipe) -> None:
    """Two increments have what changed since all before, and together with the full export they are the archive."""
    with recipe("Only what is new") as kitchen:
        kitchen.shell()
        increment = kitchen.next("sh")
        counts = []
        for change in (
            ("delete from posts where uri = ?", uri_of(FORMULA)),
            ("update posts set text = 'edited', cid = 'bafyother' where uri = ?", uri_of(MARKED)),
        ):
            kitchen.change(*change)
            done = kitchen.bash(increment)
            assert done.returncode == 0, done.stderr
            newest = max(kitchen.directory.glob("sent/all/*"), key=lambda path: path.stat().st_mtime_ns)
            manifest = json.loads((newest / "manifest.json").read_bytes())
            counts.append((manifest["post_count"], manifest["disappeared"]))
        assert counts == [(0, [FORMULA["uri"]]), (1, [])]
        posts = kitchen.python()["posts"]
        assert posts == kitchen.json_posts()
        assert posts[MARKED["uri"]]["text"] == "edited"


@pytest.mark.slow
def test_folder_of_archives(recipe: Recipe) -> None:
    """Each archive is exported once; one that fails is told and those that are there are skipped."""
    with recipe("A folder of archives") as kitchen:
        below = kitchen.directory / "archives"
        below.mkdir()
        shutil.copy(kitchen.archive, below / "a.db")
        shutil.copy(kitchen.archive, below / "b b.db")
        migrate = kitchen.next("sh")
        assert kitchen.bash(migrate).returncode == 0
        (below / "c.db").write_bytes(b"no archive")
        done = kitchen.bash(migrate)
        assert done.returncode == 10
        assert "c.db" in done.stderr
        assert len(list(kitchen.directory.glob("exports/*/all/*/posts.parquet"))) == 2, "they were exported again"
        (below / "c.db").unlink()

        kitchen.shell()
        found = sorted(kitchen.directory.glob("found/*/all/*/posts-00001.jsonl.zst"))
        assert len(found) == 2
        with contextlib.chdir(kitchen.directory), contextlib.closing(duckdb.connect()) as connection:
            connection.execute(kitchen.next("sql"))
            rows = connection.execute("select archive, count(*) from posts group by all order by all").fetchall()
            expected = kitchen.json_posts()
            assert rows == [("a", len(expected)), ("b_b", len(expected))]
            matching = connection.execute("select uri from read_json(?)", [str(found[0])]).fetchall()
        words = re.compile(r"\b(cats|dogs|heute)\b", re.IGNORECASE)
        assert {uri for (uri,) in matching} == {uri for uri, post in expected.items() if words.search(post["text"])}
        assert matching


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("zstd") is None, reason="zstd is not here")
def test_pipes(recipe: Recipe) -> None:
    """Here and on the other machine lies what the export alone writes; one that fails there has no name."""
    with recipe("Through a pipe, and over ssh") as kitchen:
        remote = kitchen.directory / "remote"
        remote.mkdir()
        kitchen.program("ssh", f'[ "$1" = backup@example.org ] || exit 255; cd {shlex.quote(str(remote))}; eval "$2"')
        expected = kitchen.json_posts()

        def posts(path: Path) -> dict[str, Any]:
            lines = subprocess.run(["zstd", "-dc", path], capture_output=True, check=True).stdout.splitlines()
            return {found["uri"]: found for found in map(json.loads, lines)}

        kitchen.shell()
        assert posts(kitchen.directory / "piped.jsonl.zst") == expected
        assert posts(kitchen.directory / "posts.jsonl.zst") == expected

        send = kitchen.next("sh")
        kitchen.archive.rename(kitchen.directory / "kept.db")
        assert kitchen.bash(send).returncode != 0
        assert not (remote / "posts.jsonl.zst").exists()
        (kitchen.directory / "kept.db").rename(kitchen.archive)
        done = kitchen.bash(send)
        assert done.returncode == 0, done.stderr
        assert posts(remote / "posts.jsonl.zst") == expected
        assert not (remote / "posts.jsonl.zst.part").exists()

        kitchen.shell()
        (there,) = remote.glob("*/posts.json")
        assert {found["uri"]: found for found in json.loads(there.read_bytes())} == expected
        assert list(there.parent.glob("media/*"))
