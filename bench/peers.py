"""The other exporters of SQLite that whole commands are compared with, those that are Python programs.

    python bench/peers.py NAME ARCHIVE OUTPUT       # a NAME of PEERS, as duckdb-csv

Each does less than skyexport: times stay as they are stored, embeds stay text, nothing is hashed or synced.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from importlib import import_module, resources
from pathlib import Path

COLUMNS = (
    "uri", "cid", "did", "text", "created_at", "indexed_at", "has_media", "like_count", "repost_count", "reply_count",
    "quote_count", "is_reply", "reply_parent", "embed_type", "embed_data", "labels", "archived_at",
)  # fmt: skip
"""What an export to JSON holds."""

CSV_COLUMNS = (
    "uri", "cid", "did", "text", "created_at", "like_count", "repost_count", "reply_count", "quote_count", "is_reply",
    "reply_parent", "has_media", "embed_type", "indexed_at",
)  # fmt: skip
"""What an export to CSV holds, but for the media files, which have to be found in the embeds."""

BLOBS = {"embed_data", "labels"}
"""Stored as BLOBs of JSON, which many tools do not write, or only as base64."""

NUMBERS = {"has_media", "is_reply", *(column for column in COLUMNS if column.endswith("_count"))}

DUCKDB_MEMORY = "400MB"
DUCKDB_PARQUET_MEMORY = "2GB"
"""With less it takes several times as long."""

THREADS = 2


def posts_sql(columns: tuple[str, ...] = COLUMNS, *, blobs_as_text: bool = False) -> str:
    """All posts in the order of an export."""
    terms = (f"cast({name} as text) as {name}" if blobs_as_text and name in BLOBS else name for name in columns)
    return f"select {', '.join(terms)} from posts order by created_at desc, uri"


def run_duckdb(archive: Path, output: Path, form: str, memory: str = DUCKDB_MEMORY) -> None:
    """DuckDB's COPY through its SQLite scanner.

    Every value is read as text, because times as Go prints them are no timestamps for DuckDB; numbers are converted.
    """
    duckdb = import_module("duckdb")
    columns = ", ".join(f"cast({name} as bigint) as {name}" if name in NUMBERS else name for name in COLUMNS)
    with closing(duckdb.connect()) as connection:
        connection.execute("set autoinstall_known_extensions = false")  # nothing is fetched while measuring
        try:
            connection.execute(f"load '{sqlite_scanner(duckdb.__version__)}'")
        except duckdb.Error as error:
            sys.exit(str(error).splitlines()[0])
        connection.execute(f"set memory_limit = '{memory}'")
        connection.execute(f"set threads = {THREADS}")
        connection.execute(f"set temp_directory = '{output.parent / 'duckdb-tmp'}'")
        connection.execute("set sqlite_all_varchar = true")
        connection.execute(f"attach '{archive}' as archive (type sqlite, read_only)")
        connection.execute(
            f"copy (select {columns} from archive.posts order by created_at desc, uri) to '{output}' ({form})"
        )


def sqlite_scanner(version: str) -> str:
    """DuckDB's extension: the file from PyPI, else its name, for where it was installed by other means."""
    try:
        package = resources.files("duckdb_extension_sqlite_scanner")
    except ModuleNotFoundError:
        return "sqlite_scanner"
    return str(package / "extensions" / f"v{version}" / "sqlite_scanner.duckdb_extension")


def run_polars(archive: Path, output: Path, form: str) -> None:
    """Polars over ADBC: one data frame, written as lines of JSON or as Parquet, with Zstandard as it does by itself."""
    polars = import_module("polars")
    uri = f"sqlite:///{archive}"
    frame = polars.read_database_uri(posts_sql(blobs_as_text=True), uri, engine="adbc")
    getattr(frame, f"write_{form}")(output)


def run_chdb(archive: Path, output: Path, form: str, columns: tuple[str, ...] = COLUMNS) -> None:
    """ClickHouse in this process, through its table function for SQLite."""
    chdb = import_module("chdb")
    names = ", ".join(columns)
    chdb.query(
        f"insert into function file('{output}', '{form}') select {names} from sqlite('{archive}', 'posts')"
        f" order by created_at desc, uri settings max_threads = {THREADS}, engine_file_truncate_on_insert = 1"
    )


def run_naive(archive: Path, output: Path) -> None:
    """What one writes first: everything into a list of dicts, one call of json.dump."""
    with closing(sqlite3.connect(f"{archive.as_uri()}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        posts = [dict(row) for row in connection.execute(posts_sql())]
    for post in posts:
        for name in BLOBS:
            post[name] = json.loads(post[name]) if post[name] is not None else None
    with output.open("w", encoding="utf-8") as file:
        json.dump(posts, file, indent=2, ensure_ascii=False)


PEERS: dict[str, Callable[[Path, Path], None]] = {
    "duckdb": lambda archive, output: run_duckdb(archive, output, "format json, array true"),
    "duckdb-csv": lambda archive, output: run_duckdb(archive, output, "format csv, header true"),
    "duckdb-parquet": lambda archive, output: run_duckdb(
        archive, output, "format parquet, compression zstd", DUCKDB_PARQUET_MEMORY
    ),
    "polars": lambda archive, output: run_polars(archive, output, "ndjson"),
    "polars-parquet": lambda archive, output: run_polars(archive, output, "parquet"),
    "chdb-csv": lambda archive, output: run_chdb(archive, output, "CSVWithNames", CSV_COLUMNS),
    "chdb-parquet": lambda archive, output: run_chdb(archive, output, "Parquet"),
    "naive": run_naive,
}

if __name__ == "__main__":
    PEERS[sys.argv[1]](Path(sys.argv[2]).absolute(), Path(sys.argv[3]).absolute())
