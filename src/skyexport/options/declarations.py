"""The options of the commands, as people read them: their names, types, help, and groups.

To add an option of an export, declare it here, give it a field in `ExportOptions`, and a parameter in
`cli.export.export_command`. Environment, files, manual and completion follow.

A parser gets what was typed, or what the environment or a file sets, and the default, too. It raises OptionError.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import typer.core

from skyexport.options.export_options import DEFAULT_OUTPUT_DIR
from skyexport.options.values import (
    check_bound,
    parse_cluster,
    parse_columns,
    parse_delimiter,
    parse_file,
    parse_number,
    parse_path,
    parse_shard,
    parse_size,
    parse_workers,
)

if TYPE_CHECKING:
    from skyexport.options.values import ClusterAddress, Size, WorkerCount
    from skyexport.options.values import Shard as ShardType
else:
    # Typer knows no unions of types, and leaves the rest to the parsers anyway.
    Size = WorkerCount = ShardType = ClusterAddress = int

__all__ = [
    "ARCHIVES", "GROUPS", "INCREMENTS", "MEDIA", "MESSAGES", "OUTPUT", "POSTS", "SPEED", "TABLES", "AllowUnrelated",
    "ArchivePath", "Archives", "AsJson", "Author", "BatchSize", "Cluster", "Columns", "CompressionName", "CsvSafe",
    "Debug", "Delimiter", "DryRun", "FormatName", "FromFile", "Keep", "Limit", "LinkMedia", "Match", "Media",
    "MediaRoot", "MemoryLimit", "NoBom", "NoHeader", "NoSync", "OutputDir", "Overwrite", "ProgressMode", "Quiet",
    "Register", "ResumeBatch", "ShardOfMany", "Since", "SinceExport", "SinceLast", "Size", "Snapshot", "SplitBytes",
    "SplitPosts", "Strict", "To", "Until", "Verbose", "Workers",
]  # fmt: skip

POSTS = "Which posts"
OUTPUT = "Where to, and in which form"
TABLES = "CSV"
MEDIA = "Media"
INCREMENTS = "Increments"
ARCHIVES = "Many archives"
SPEED = "Speed and memory"
MESSAGES = "Checks and messages"

GROUPS = (POSTS, OUTPUT, TABLES, MEDIA, INCREMENTS, ARCHIVES, SPEED, MESSAGES)
"""In the order of the help; options without a group come last."""

Archives = Annotated[
    list[str] | None,
    typer.Argument(metavar="ARCHIVE...", help="SQLite files; only --register writes to them.", show_default=False),
]

FormatName = Annotated[
    str | None,
    typer.Option(
        "--format",
        "-f",
        metavar="json|jsonl|csv|parquet|html",
        help="The format.",
        show_default="by --to, else json",
        rich_help_panel=OUTPUT,
    ),
]

To = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        parser=parse_file,
        help="Write just this data file; - is standard output.",
        show_default=False,
        rich_help_panel=OUTPUT,
    ),
]

OutputDir = Annotated[
    Path | None,
    typer.Option(
        "--output-dir",
        "-o",
        metavar="DIR",
        parser=partial(parse_path, what="output directory"),
        help="Write into DIR/AUTHOR/TIME.",
        show_default=str(DEFAULT_OUTPUT_DIR),
        rich_help_panel=OUTPUT,
    ),
]

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Let --to replace a file.", rich_help_panel=OUTPUT)]

CompressionName = Annotated[
    str | None,
    typer.Option(
        metavar="gzip|zstd[:LEVEL]",
        help="Compress text formats.",
        show_default="by --to, else none",
        rich_help_panel=OUTPUT,
    ),
]

Columns = Annotated[
    Sequence[str] | None,
    typer.Option(
        metavar="A,B,C",
        parser=parse_columns,
        help="Only these, in this order; not json.",
        show_default="all",
        rich_help_panel=OUTPUT,
    ),
]

Delimiter = Annotated[
    str | None,
    typer.Option(
        metavar="CHAR",
        parser=parse_delimiter,
        help="One of , ; | or tab.",
        show_default="by --to, else ,",
        rich_help_panel=TABLES,
    ),
]

NoHeader = Annotated[
    bool, typer.Option("--no-header", help="Leave out the row of column names.", rich_help_panel=TABLES)
]

NoBom = Annotated[bool, typer.Option("--no-bom", help="Leave out the byte order mark.", rich_help_panel=TABLES)]

CsvSafe = Annotated[
    bool,
    typer.Option("--csv-safe", help="Prefix formula-like cells with an apostrophe.", rich_help_panel=TABLES),
]

SplitPosts = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        parser=partial(parse_number, name="posts"),
        help="Start a new file after N posts.",
        show_default="one file",
        rich_help_panel=OUTPUT,
    ),
]

SplitBytes = Annotated[
    Size | None,
    typer.Option(
        metavar="SIZE",
        parser=parse_size,
        help="Start a new file before SIZE, like 100MB (uncompressed).",
        show_default="one file",
        rich_help_panel=OUTPUT,
    ),
]

Author = Annotated[
    str | None,
    typer.Option(
        metavar="DID|HANDLE",
        help="Only posts by did:plc:… or alice.bsky.social.",
        show_default="every author",
        rich_help_panel=POSTS,
    ),
]

Since = Annotated[
    str | None,
    typer.Option(
        metavar="DATE",
        parser=partial(check_bound, end_of_day=False, name="since"),
        help="From this day (UTC) or instant.",
        show_default="first post",
        rich_help_panel=POSTS,
    ),
]

Until = Annotated[
    str | None,
    typer.Option(
        metavar="DATE",
        parser=partial(check_bound, end_of_day=True, name="until"),
        help="To this day's end, or instant.",
        show_default="last post",
        rich_help_panel=POSTS,
    ),
]

Match = Annotated[
    str | None,
    typer.Option(
        metavar="QUERY",
        help="""Only posts that the archive's full-text index finds: cats dogs, cats OR dogs, "the cat", cat*.""",
        show_default=False,
        rich_help_panel=POSTS,
    ),
]

Limit = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        parser=partial(parse_number, name="posts"),
        help="Only the newest N of these posts.",
        show_default="all",
        rich_help_panel=POSTS,
    ),
]

Workers = Annotated[
    WorkerCount,
    typer.Option(
        "--workers",
        "-j",
        metavar="auto|N",
        parser=parse_workers,
        help="Worker processes. auto: one per CPU, 0 for small archives.",
        rich_help_panel=SPEED,
    ),
]

MemoryLimit = Annotated[
    Size,
    typer.Option(
        metavar="SIZE", parser=parse_size, help="For all processes together, like 1GB.", rich_help_panel=SPEED
    ),
]

BatchSize = Annotated[
    int,
    typer.Option(
        metavar="N", parser=partial(parse_number, name="posts"), help="Posts per batch.", rich_help_panel=SPEED
    ),
]

NoSync = Annotated[
    bool,
    typer.Option("--no-sync", help="Do not wait for the disk: a crash may lose the export.", rich_help_panel=SPEED),
]

Snapshot = Annotated[
    str,
    typer.Option(
        metavar="pin|copy",
        help="pin: hold the archive until all is read. copy: only until its posts are copied.",
        rich_help_panel=SPEED,
    ),
]

Media = Annotated[
    bool,
    typer.Option("--media", help="Copy the posts' media files too, into media/.", rich_help_panel=MEDIA),
]

MediaRoot = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        parser=partial(parse_path, what="directory of media"),
        help="Base of media paths.",
        show_default="ARCHIVE's directory",
        rich_help_panel=MEDIA,
    ),
]

LinkMedia = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        parser=partial(parse_path, what="earlier export"),
        help="Hard-link unchanged files of the earlier export DIR.",
        show_default=False,
        rich_help_panel=MEDIA,
    ),
]

SinceExport = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="DIR",
        parser=partial(parse_path, what="earlier export"),
        help="Only posts new or changed since the export DIR; repeat for its increments, oldest first.",
        show_default=False,
        rich_help_panel=INCREMENTS,
    ),
]

SinceLast = Annotated[
    bool,
    typer.Option(
        "--since-last",
        help="Only posts new or changed since the newest full export in DIR/AUTHOR and its increments.",
        rich_help_panel=INCREMENTS,
    ),
]

AllowUnrelated = Annotated[
    bool,
    typer.Option("--allow-unrelated", help="Accept earlier exports of another archive.", rich_help_panel=INCREMENTS),
]

Keep = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        parser=partial(parse_number, name="exports"),
        help="Verify the new export, then keep only N full exports with their increments.",
        show_default="all",
        rich_help_panel=INCREMENTS,
    ),
]

FromFile = Annotated[
    str | None,
    typer.Option(
        metavar="LIST",
        help="Also export the archives in LIST: one path per line, or as find -print0 prints; - is standard input.",
        show_default=False,
        rich_help_panel=ARCHIVES,
    ),
]

ShardOfMany = Annotated[
    ShardType | None,
    typer.Option(
        "--shard",
        metavar="I/N",
        parser=parse_shard,
        help="The I-th of N parts of the archives, for one machine.",
        show_default=False,
        rich_help_panel=ARCHIVES,
    ),
]

Cluster = Annotated[
    ClusterAddress | None,
    typer.Option(
        "--cluster",
        metavar="ADDRESS",
        parser=parse_cluster,
        help="Let a Dask cluster export; local:N starts one here.",
        show_default=False,
        rich_help_panel=ARCHIVES,
    ),
]

ResumeBatch = Annotated[
    bool,
    typer.Option(
        "--resume-batch",
        help="Skip archives that have this export, and verified.",
        rich_help_panel=ARCHIVES,
    ),
]

DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show what an export would do; write nothing.", rich_help_panel=MESSAGES)
]

Strict = Annotated[
    bool, typer.Option("--strict", help="Fail if a value cannot be exported as stored.", rich_help_panel=MESSAGES)
]

Register = Annotated[
    bool,
    typer.Option(
        "--register",
        help="List the export in the archive, as bskyarchive does: the only write to an archive.",
        rich_help_panel=OUTPUT,
    ),
]

Quiet = Annotated[
    int,
    typer.Option(
        "--quiet",
        "-q",
        count=True,
        help="Print warnings and errors only; -qq: errors only.",
        show_default=False,
        rich_help_panel=MESSAGES,
    ),
]

Verbose = Annotated[
    bool,
    typer.Option("--verbose", "-v", help="Print settings and checksums as well.", rich_help_panel=MESSAGES),
]

ProgressMode = Annotated[
    str,
    typer.Option(
        metavar="auto|bar|plain|json|none", help="auto: a bar on a terminal, else lines.", rich_help_panel=MESSAGES
    ),
]

ArchivePath = Annotated[
    str,
    typer.Argument(metavar="ARCHIVE", help="The archive, a SQLite file; it is only read.", show_default=False),
]

AsJson = Annotated[
    bool, typer.Option("--json", help="Print the result as one JSON object on stdout.", rich_help_panel=MESSAGES)
]

Debug = Annotated[bool, typer.Option("--debug", help="Show a traceback for every error.", rich_help_panel=MESSAGES)]
