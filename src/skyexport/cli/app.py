"""The command line: parse arguments, call the library, print results, and turn errors into exit codes."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer
import typer.core

from skyexport import __version__
from skyexport.cli.configuration import CONFIG, PROJECT_FILE, Configuration
from skyexport.cli.help_pages import (
    ARCHIVES,
    INCREMENTS,
    MEDIA,
    MESSAGES,
    OUTPUT,
    POSTS,
    SPEED,
    TABLES,
    HelpfulCommand,
    HelpfulGroup,
    epilog,
)
from skyexport.cli.usage import check_dashes, unknown_command, usage_error, wants_json
from skyexport.errors import AuthorError, ExportError, OptionError, StoppedError, VerifyError, unexpected
from skyexport.formats.names import choice_hint, form_of_name
from skyexport.notices import WARNING
from skyexport.options.export_options import (
    DEFAULT_BATCH_SIZE,
    DEFAULT_OUTPUT_DIR,
    ExportOptions,
    parse_columns,
    parse_delimiter,
    parse_file,
    parse_number,
    parse_path,
    parse_size,
)
from skyexport.runtime.signals import Signals

if TYPE_CHECKING:
    from skyexport.fleet.outcome import Migration, Outcome
    from skyexport.pipeline.summary import ExportSummary
    from skyexport.runtime.progress import Progress, Reporter
    from skyexport.verification.audit import AuditedExport

__all__ = ["abandon_standard_output", "app", "report"]

_CONFIG_FILE = "skyexport.config"
"""Key of a context's `meta`: the value of --config."""

_READER_LEFT = 13
"""SIGPIPE: nobody reads the output any more."""

_AS_JSON = "skyexport.as_json"
"""Key of the program's `meta`: whether to print results and errors as JSON."""

_CONFIGURATION = "skyexport.cli.configuration"
"""Key of a context's `meta`: the `Configuration`, or the OptionError that reading it raised."""


class _Commands(HelpfulGroup):
    """The commands. Each accepts --config, and options from the environment and from files.

    A usage error prints one line like any other error, and one object with --json.
    """

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for command in (self, *self.commands.values()):
            option = typer.core.TyperOption(
                param_decls=[f"--{CONFIG}"], type=str, metavar="FILE", expose_value=False, callback=_configure,
                help="Read options from this TOML file too.",
            )  # fmt: skip
            # It must be first: Typer looks up the defaults of options in the order of their declaration.
            command.params.insert(0, option)

    def make_context(self, info_name: str | None, args: list[str], *arguments: Any, **more: Any) -> Any:
        as_json = wants_json(args, os.environ)
        with self._errors_of_usage(as_json=as_json):
            check_dashes(args, self)
            context = super().make_context(info_name, args, *arguments, **more)
        context.meta[_AS_JSON] = as_json
        return context

    def invoke(self, ctx: Any) -> Any:
        with self._errors_of_usage(as_json=ctx.meta[_AS_JSON]):
            return super().invoke(ctx)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in self.commands:
            raise unknown_command(args[0], list(self.commands))
        return super().resolve_command(ctx, args)

    @contextlib.contextmanager
    def _errors_of_usage(self, *, as_json: bool) -> Iterator[None]:
        try:
            yield
        except OptionError as error:
            _leave(error, as_json=as_json)
        except Exception as error:
            _leave_when_from_elsewhere(error, as_json=as_json)
            wrong = usage_error(error, self)
            if wrong is None:
                raise
            _leave(wrong, as_json=as_json)


def _configure(context: Any, _: Any, config: str | None) -> None:
    """Let the environment and files set the options that the command line does not set.

    An error in them is kept in the context until the command starts, which knows how to print it.
    """
    if context.resilient_parsing:
        return
    if config is not None:
        context.meta[_CONFIG_FILE] = config
    if context.parent is None:
        return
    try:
        configuration = Configuration(context.parent.command, context.meta.get(_CONFIG_FILE), os.environ)
        given = configuration.given(context.command.name)
    except OptionError as error:
        context.meta[_CONFIGURATION] = error
    else:
        context.meta[_CONFIGURATION] = configuration
        context.default_map = {name: it.value for name, it in given.items() if it.value is not None}


def _configuration(context: typer.Context) -> Configuration:
    """The options that the environment and files set.

    Raises:
        OptionError: One of these is not valid.
    """
    found: Configuration | OptionError = context.meta[_CONFIGURATION]
    if isinstance(found, OptionError):
        raise found
    return found


def _typed(context: typer.Context) -> dict[str, Any]:
    """The options that the command line sets: name → value."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return {name: context.params[name] for name, source in sources.items() if source and source.name == "COMMANDLINE"}


def _leave_when_from_elsewhere(error: Exception, *, as_json: bool) -> None:
    """Exit with one line if the error is a bad value of an option that came from the environment or a file."""
    context: Any = getattr(error, "ctx", None)
    option: Any = getattr(error, "param", None)
    configuration = context.meta.get(_CONFIGURATION) if context and option else None
    if isinstance(configuration, Configuration) and option.name in (context.default_map or {}):
        source = context.get_parameter_source(option.name)
        if source is None or source.name != "COMMANDLINE":
            wrong = OptionError(f"{option.opts[0]}: {str(getattr(error, 'message', error)).rstrip('.')}")
            _leave(configuration.traced(wrong, context.command.name, _typed(context)), as_json=as_json)


app = typer.Typer(
    name="skyexport",
    cls=_Commands,
    help="Export local Bluesky archives, the SQLite files of bskyarchive, to JSON, JSON Lines, CSV or Parquet.",
    epilog=epilog(
        "skyexport inspect archive.db",
        "skyexport export archive.db --format csv --since 2024-01-01",
        "skyexport export --help",
    ),
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
)

ArchivePath = Annotated[
    str,
    typer.Argument(metavar="ARCHIVE", help="The archive, a SQLite file; it is only read.", show_default=False),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print the result as one JSON object on stdout.", rich_help_panel=MESSAGES)
]
Debug = Annotated[bool, typer.Option("--debug", help="Show a traceback for every error.", rich_help_panel=MESSAGES)]


def _show_version(wanted: bool) -> None:
    if wanted:
        from skyexport.rendering.native import renderer_in_words

        typer.echo(f"skyexport {__version__}")
        try:
            typer.echo(f"renderer: {renderer_in_words()}")
        except OptionError as error:
            report(error, as_json=False)
            raise typer.Exit(error.exit_code) from None
        raise typer.Exit


@app.callback()
def _skyexport(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", "-V", help="Show the version and the renderer.", callback=_show_version, is_eager=True
        ),
    ] = False,
) -> None:
    del version
    if context.invoked_subcommand is None:
        _say_lines(context.get_help())
        raise typer.Exit(OptionError.exit_code)


@app.command(
    cls=HelpfulCommand,
    name="export",
    epilog=epilog(
        "skyexport export archive.db",
        "skyexport export archive.db -f csv --since 2024-01-01 --until 2024-12-31",
        "skyexport export archive.db --author alice.bsky.social -j 4",
        "skyexport export archive.db --to posts.jsonl.zst",
        "skyexport export archive.db --to - | less",
        "skyexport export archive.db --match 'cats OR dogs' --dry-run",
        "skyexport export a.db --media --link-media exports/all/2026-11-24_11-23-22",
        "skyexport export archive.db --since-export exports/all/2026-11-24_11-23-22",
        "skyexport export archive.db --since-last --keep 4",
        "skyexport export A.db B.db C.db --resume-batch",
        "find archives -name '*.db' -print0 | skyexport export --from-file -",
    ),
)
def _export(
    context: typer.Context,
    archives: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ARCHIVE...",
            help="SQLite files; only --register writes to them.",
            show_default=False,
        ),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            "-f",
            metavar="json|jsonl|csv|parquet",
            help="The format.",
            show_default="by --to, else json",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Write just this data file; - is standard output.",
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    output_dir: Annotated[
        str | None,
        typer.Option(
            "--output-dir",
            "-o",
            metavar="DIR",
            help="Write into DIR/AUTHOR/TIME.",
            show_default=str(DEFAULT_OUTPUT_DIR),
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Let --to replace a file.", rich_help_panel=OUTPUT)
    ] = False,
    compress: Annotated[
        str | None,
        typer.Option(
            metavar="gzip|zstd[:LEVEL]",
            help="Compress text formats.",
            show_default="by --to, else none",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,C",
            help="Only these, in this order; not json.",
            show_default="all",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    delimiter: Annotated[
        str | None,
        typer.Option(
            metavar="CHAR",
            help="One of , ; | or tab.",
            show_default="by --to, else ,",
            rich_help_panel=TABLES,
        ),
    ] = None,
    no_header: Annotated[
        bool, typer.Option("--no-header", help="Leave out the row of column names.", rich_help_panel=TABLES)
    ] = False,
    no_bom: Annotated[
        bool, typer.Option("--no-bom", help="Leave out the byte order mark.", rich_help_panel=TABLES)
    ] = False,
    csv_safe: Annotated[
        bool,
        typer.Option("--csv-safe", help="Prefix formula-like cells with an apostrophe.", rich_help_panel=TABLES),
    ] = False,
    split_posts: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="Start a new file after N posts.",
            show_default="one file",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    split_bytes: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Start a new file before SIZE, like 100MB (uncompressed).",
            show_default="one file",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    author: Annotated[
        str | None,
        typer.Option(
            metavar="DID|HANDLE",
            help="Only posts by did:plc:… or alice.bsky.social.",
            show_default="every author",
            rich_help_panel=POSTS,
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="DATE",
            help="From this day (UTC) or instant.",
            show_default="first post",
            rich_help_panel=POSTS,
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(
            metavar="DATE",
            help="To this day's end, or instant.",
            show_default="last post",
            rich_help_panel=POSTS,
        ),
    ] = None,
    match: Annotated[
        str | None,
        typer.Option(
            metavar="QUERY",
            help="""Only posts that the archive's full-text index finds: cats dogs, cats OR dogs, "the cat", cat*.""",
            show_default=False,
            rich_help_panel=POSTS,
        ),
    ] = None,
    limit: Annotated[
        str | None,
        typer.Option(metavar="N", help="Only the newest N of these posts.", show_default="all", rich_help_panel=POSTS),
    ] = None,
    workers: Annotated[
        str,
        typer.Option(
            "--workers",
            "-j",
            metavar="auto|N",
            help="Worker processes. auto: one per CPU, 0 for small archives.",
            rich_help_panel=SPEED,
        ),
    ] = "auto",
    memory_limit: Annotated[
        str,
        typer.Option(
            metavar="SIZE",
            help="For all processes together, like 1GB.",
            rich_help_panel=SPEED,
        ),
    ] = "500MB",
    batch_size: Annotated[str, typer.Option(metavar="N", help="Posts per batch.", rich_help_panel=SPEED)] = str(
        DEFAULT_BATCH_SIZE
    ),
    no_sync: Annotated[
        bool,
        typer.Option("--no-sync", help="Do not wait for the disk: a crash may lose the export.", rich_help_panel=SPEED),
    ] = False,
    snapshot: Annotated[
        str,
        typer.Option(
            metavar="pin|copy",
            help="pin: hold the archive until all is read. copy: only until its posts are copied.",
            rich_help_panel=SPEED,
        ),
    ] = "pin",
    media: Annotated[
        bool,
        typer.Option("--media", help="Copy the posts' media files too, into media/.", rich_help_panel=MEDIA),
    ] = False,
    media_root: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Base of media paths.",
            show_default="ARCHIVE's directory",
            rich_help_panel=MEDIA,
        ),
    ] = None,
    link_media: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Hard-link unchanged files of the earlier export DIR instead of copying them.",
            show_default=False,
            rich_help_panel=MEDIA,
        ),
    ] = None,
    since_export: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DIR",
            help="Only posts new or changed since the export DIR; repeat for its increments, oldest first.",
            show_default=False,
            rich_help_panel=INCREMENTS,
        ),
    ] = None,
    since_last: Annotated[
        bool,
        typer.Option(
            "--since-last",
            help="Only posts new or changed since the newest full export in DIR/AUTHOR and its increments.",
            rich_help_panel=INCREMENTS,
        ),
    ] = False,
    allow_unrelated: Annotated[
        bool,
        typer.Option(
            "--allow-unrelated",
            help="Accept earlier exports of another archive.",
            rich_help_panel=INCREMENTS,
        ),
    ] = False,
    keep: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="Verify the new export, then keep only N full exports with their increments.",
            show_default="all",
            rich_help_panel=INCREMENTS,
        ),
    ] = None,
    from_file: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="Also export the archives in LIST: one path per line, or as find -print0 prints; - is standard input.",
            show_default=False,
            rich_help_panel=ARCHIVES,
        ),
    ] = None,
    resume_batch: Annotated[
        bool,
        typer.Option(
            "--resume-batch",
            help="Skip archives whose current state already has a verified export with these options.",
            rich_help_panel=ARCHIVES,
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Show what an export would do; write nothing.",
            rich_help_panel=MESSAGES,
        ),
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail if a value cannot be exported as stored.", rich_help_panel=MESSAGES)
    ] = False,
    register: Annotated[
        bool,
        typer.Option(
            "--register",
            help="List the export in the archive, as bskyarchive does: the only write to an archive.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    quiet: Annotated[
        int,
        typer.Option(
            "--quiet",
            "-q",
            count=True,
            help="Print warnings and errors only; -qq: errors only.",
            show_default=False,
            rich_help_panel=MESSAGES,
        ),
    ] = 0,
    verbose: Annotated[
        bool,
        typer.Option("--verbose", "-v", help="Print settings and checksums as well.", rich_help_panel=MESSAGES),
    ] = False,
    progress: Annotated[
        str,
        typer.Option(
            metavar="auto|bar|plain|json|none",
            help="auto: a bar on a terminal, else lines.",
            rich_help_panel=MESSAGES,
        ),
    ] = "auto",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Export posts, newest first, to JSON, JSON Lines, CSV or Parquet.

    The bytes of a file depend only on the posts and the format. An export appears under its final name only once it is
    complete. Several archives are exported side by side, each into DIR/ARCHIVE/AUTHOR/TIME.
    """
    signals = _signals(context)
    with _told(context, as_json=as_json, debug=debug):
        with signals.waiting():
            from skyexport.fleet.preflight import check_archive_names, check_output_name
            from skyexport.pipeline.coordinator import export
            from skyexport.runtime.progress import MODES, reporter_for

            named = list(archives or ())
            many = len(named) > 1 or from_file is not None or resume_batch
            if many:
                import skyexport.fleet.migration  # noqa: F401
        if progress not in MODES:
            raise OptionError(f"unknown progress {progress!r}", choice_hint(progress, MODES))
        if output_dir is not None and to is not None:
            raise OptionError("-o and --to both say where to write", "leave out one of them")
        if overwrite and to is None:
            raise OptionError("--overwrite is for --to: an export directory never replaces another", "leave it out")
        if as_json and to in ("-", "/dev/stdout"):
            raise OptionError("--json and --to - both write to standard output", "leave out one of them")
        if not named and from_file is None:
            raise OptionError(
                "there is no archive to export", "name one, as in skyexport export archive.db, or use --from-file"
            )
        check_archive_names(named, exporting=True)
        if output_dir:
            check_output_name(Path(output_dir))
        options = ExportOptions(
            archive=parse_path(named[0] if named else "-", "archive"),
            author=author, since=since, until=until,
            limit=None if limit is None else parse_number(limit, "posts"), format=format or "", compress=compress or "",
            columns=() if columns is None else parse_columns(columns),
            delimiter="" if delimiter is None else parse_delimiter(delimiter),
            bom=not no_bom, header=not no_header, csv_safe=csv_safe,
            split_posts=None if split_posts is None else parse_number(split_posts, "posts"),
            split_bytes=None if split_bytes is None else parse_size(split_bytes),
            output_dir=DEFAULT_OUTPUT_DIR if output_dir is None else parse_path(output_dir, "output directory"),
            to=None if to is None else parse_file(to), overwrite=overwrite, workers=_workers(workers),
            batch_size=parse_number(batch_size, "posts"),
            memory_limit=parse_size(memory_limit), sync=not no_sync, strict=strict,
            snapshot=snapshot, media=media,
            media_root=None if media_root is None else parse_path(media_root, "directory of media"),
            link_media=None if link_media is None else parse_path(link_media, "earlier export"),
            match=match, register=register,
            since_export=[parse_path(path, "earlier export") for path in since_export or ()],
            since_last=since_last, allow_unrelated=allow_unrelated,
            keep=None if keep is None else parse_number(keep, "exports"),
        )  # fmt: skip
        note = form_of_name(None if to is None else Path(to)).note if format is None else ""

        def say(line: str) -> None:
            if not quiet or (quiet == 1 and line.startswith(WARNING)):
                with reporter.paused():
                    _say(line)

        reporter = reporter_for("none" if quiet and progress == "auto" else progress, sys.stderr)

        def watch(moment: Progress) -> None:
            signals.check()
            reporter(moment)

        if dry_run and many:
            with contextlib.closing(reporter):
                exit_code = _dry_runs(_paths(named, from_file), options, watch, as_json=as_json)
            raise typer.Exit(exit_code)
        if dry_run:
            from skyexport.pipeline.rehearsal import dry_run as find_out

            with contextlib.closing(reporter):
                found = find_out(options, watch, say=_say)
            if as_json:
                _print_json(found.to_dict())
            else:
                for line in filter(None, [*found.lines(), note]):
                    _print(_printable(line))
            return
        if many:
            with contextlib.closing(reporter):
                migration = _migrate(
                    named, from_file, options, watch, reporter, say,
                    resume=resume_batch, debug=debug, warn=quiet > 0 and not as_json,
                )  # fmt: skip
            if as_json:
                _print_migration(migration)
            elif not quiet:
                for sentence in migration.sentences(verbose=verbose):
                    _say(sentence)
            if migration.author_error is not None:
                _say(f"skyexport: {migration.author_error}")
            signals.settle()
            raise typer.Exit(migration.exit_code)

        summary: ExportSummary | None = None
        try:
            with contextlib.closing(reporter):
                summary = export(options, watch, say=say, debug=debug)
            if as_json:
                _print_json(summary.to_dict())
            else:
                for line in _summary(summary, options, note, verbose=verbose):
                    say(line)
            signals.settle()
        except StoppedError as error:
            if summary is None:
                raise
            raise StoppedError(error.signal_number, str(summary.path or "")) from None


def _migrate(
    named: list[str],
    from_file: str | None,
    options: ExportOptions,
    watch: Callable[[Progress], None],
    reporter: Reporter,
    say: Callable[[str], None],
    *,
    resume: bool,
    debug: bool,
    warn: bool,
) -> Migration:
    """Export several archives; print each failure at once and, with *warn*, the warnings of the other archives."""
    from skyexport.fleet.migration import export_all

    def tell(outcome: Outcome) -> None:
        for line in outcome.warnings() if warn else ():
            say(line)
        if outcome.without_author:
            say(outcome.sentence())
        elif outcome.status == "failed":
            with reporter.paused():
                _say(outcome.sentence())
                for line in "".join(getattr(outcome.error, "__notes__", ())).splitlines() if debug else ():
                    _say(f"  {line}")

    paths = _paths(named, from_file)
    return export_all(paths, options, watch, resume_batch=resume, on_outcome=tell, say=say, debug=debug)


def _paths(named: list[str], from_file: str | None) -> list[str]:
    """The archives among the arguments, then those of the list."""
    from skyexport.fleet.archive_list import read_list

    return [*named, *(read_list(from_file) if from_file is not None else ())]


def _dry_runs(paths: list[str], options: ExportOptions, watch: Callable[[Progress], None], *, as_json: bool) -> int:
    """Print what exports of several archives would do.

    Returns:
        The exit code of the first archive that cannot be exported; 0 if all can.
    """
    from skyexport.fleet.migration import each_options
    from skyexport.fleet.outcome import nobody_has
    from skyexport.pipeline.rehearsal import dry_run

    exit_code = without_author = 0
    found: list[dict[str, object]] = []
    for one in each_options(paths, options):
        path = os.fsencode(one.archive).decode(errors="replace")
        try:
            result = dry_run(one, watch, say=_say)
        except StoppedError:
            raise
        except AuthorError as error:
            without_author += 1
            found.append({"path": path, "status": "skipped", "posts": 0, "reason": error.message})
            _say(f"skipped: {error.message}")
            continue
        except ExportError as error:
            exit_code = exit_code or error.exit_code
            found.append({"path": path, "status": "failed", "exit_code": error.exit_code, "error": error.message})
            _say(f"skyexport: {path}: {error}")
            continue
        found.append({"path": path, **result.to_dict()})
        for line in (path, *(f"  {line}" for line in result.lines())) if not as_json else ():
            _print(_printable(line))
    if found and without_author == len(found):
        nobody = nobody_has(options.author, without_author)
        exit_code = nobody.exit_code
        _say(f"skyexport: {nobody}")
    if as_json:
        _print_json({"status": "failed" if exit_code else "ok", "archives": found})
    return exit_code


def _print_migration(migration: Migration) -> None:
    """Print the result of many archives as one JSON object, without holding all of it in memory."""
    _print_json({**migration.totals(), "archives": []}, inner=(outcome.to_dict() for outcome in migration.outcomes))


def _summary(summary: ExportSummary, options: ExportOptions, note: str, *, verbose: bool) -> Iterator[str]:
    """The result of an export, for people."""
    if note:
        yield note
    if verbose:
        yield f"archive {options.archive}, batches of {options.batch_size:,} posts: {summary.batches:,}"
        if summary.journal_mode == "wal":
            yield summary.held_sentence()
        for file in summary.files:
            yield f"sha256 {file.sha256}  {file.name}  {file.bytes:,} bytes"
    yield from summary.sentences()


@app.command(
    cls=HelpfulCommand,
    name="inspect",
    epilog=epilog(
        "skyexport inspect archive.db", "skyexport inspect archive.db --json", "skyexport inspect archive.db --authors"
    ),
)
def _inspect(
    context: typer.Context,
    archive: ArchivePath,
    authors: Annotated[
        bool, typer.Option("--authors", help="List all authors instead, one per line: posts, DID, handle.")
    ] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show the contents of an archive, and how large exports would be."""
    signals = _signals(context)
    with _told(context, as_json=as_json, debug=debug):
        with signals.waiting():
            from skyexport.fleet.preflight import check_archive_names
            from skyexport.pipeline.inspection import author_line, inspect, list_authors

        check_archive_names([archive])
        path = parse_path(archive, "archive")
        if authors:
            count, every = list_authors(path)
            if as_json:
                head = {"status": "ok", "path": os.fsencode(path.resolve()).decode(errors="replace"), "authors": count}
                _print_json({**head, "all_authors": []}, inner=map(asdict, every))
            else:
                for author in every:
                    _print(_printable(author_line(author)))
            return
        found = inspect(path)
        if as_json:
            _print_json(found.to_dict())
        else:
            for line in found.lines():
                _print(_printable(line))


@app.command(
    cls=HelpfulCommand,
    name="verify",
    epilog=epilog(
        "skyexport verify exports/all/2026-11-24_11-23-22",
        "skyexport verify exports --recursive",
        "skyexport verify exports/all/* --json",
    ),
)
def _verify(
    context: typer.Context,
    directories: Annotated[
        list[str],
        typer.Argument(
            metavar="DIRECTORY...", help="Export directories: those that contain manifest.json.", show_default=False
        ),
    ],
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Verify every export in and below the directories.")
    ] = False,
    as_json: AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print differences and errors only.")] = False,
    debug: Debug = False,
) -> None:
    """Check that exports are complete, unchanged, and readable."""
    signals = _signals(context)
    with _told(context, as_json=as_json, debug=debug):
        with signals.waiting():
            from skyexport.runtime.progress import reporter_for
            from skyexport.verification.audit import verify_all
            from skyexport.verification.verifier import verify

        reporter = reporter_for("none" if quiet else "auto", sys.stderr)
        if recursive or len(directories) > 1:

            def tell(export: AuditedExport) -> None:
                with reporter.paused():
                    for line in () if as_json else export.lines():
                        if export.status == "no export":
                            _say(f"skyexport: {line}")
                        elif export.error is not None or not quiet:
                            _print(_printable(line))

            with contextlib.closing(reporter):
                audit = verify_all(directories, reporter, recursive=recursive, on_export=tell)
            if as_json:
                _print_json(audit.to_dict())
            elif not quiet:
                _print(audit.sentence())
            signals.settle()
            raise typer.Exit(audit.exit_code)
        try:
            with contextlib.closing(reporter):
                found = verify(parse_path(directories[0], "directory"), reporter)
        except VerifyError as error:
            if not as_json:
                for difference in error.differences:
                    _print(_printable(str(difference)))
            raise
        except StoppedError as error:
            error.message = "stopped by a signal; not everything was verified"
            raise
        if as_json:
            _print_json(found.to_dict())
        elif not quiet:
            _print(_printable(found.sentence()))


@app.command(
    cls=HelpfulCommand,
    name="bench",
    epilog=epilog("skyexport bench archive.db", "skyexport bench archive.db -o /mnt/exports --posts 1000000"),
)
def _bench(
    context: typer.Context,
    archive: ArchivePath,
    output_dir: Annotated[
        str,
        typer.Option(
            "--output-dir",
            "-o",
            metavar="DIR",
            help="A directory on the disk where exports will go; nothing stays there.",
        ),
    ] = ".",
    posts: Annotated[str, typer.Option(metavar="N", help="Measure with about N newest posts.")] = "200000",
    runs: Annotated[str, typer.Option(metavar="N", help="Runs per measurement.")] = "3",
    memory_limit: Annotated[
        str, typer.Option(metavar="SIZE", help="Memory for all processes together, like 500MB or 1GiB.")
    ] = "500MB",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Measure which settings export an archive fastest on this machine.

    This takes about a minute. It exports the newest posts as JSON and CSV, to the null device and to the disk, with
    different numbers of workers.
    """
    signals = _signals(context)
    with _told(context, as_json=as_json, debug=debug):
        with signals.waiting():
            from skyexport.fleet.preflight import check_archive_names, check_output_name
            from skyexport.pipeline.benchmark import benchmark

        check_archive_names([archive])
        if output_dir:
            check_output_name(Path(output_dir))
        options = ExportOptions(
            archive=parse_path(archive, "archive"), output_dir=parse_path(output_dir, "output directory"),
            memory_limit=parse_size(memory_limit),
        )  # fmt: skip
        measured = benchmark(
            options, posts=parse_number(posts, "posts"), runs=parse_number(runs, "runs"), say=_say, debug=debug
        )
        if as_json:
            _print_json(measured.to_dict())
        else:
            for line in measured.lines():
                _print(_printable(line))


@app.command(cls=HelpfulCommand, name="config", epilog=epilog("skyexport config", "skyexport config export --json"))
def _config(
    context: typer.Context,
    command: Annotated[
        str | None,
        typer.Argument(metavar="COMMAND", help="Only the options of this command.", show_default="all commands"),
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show which value each option has, and where it comes from.

    The first source that sets an option wins: the command line; the variable SKYEXPORT_<OPTION>; the TOML file that
    --config or SKYEXPORT_CONFIG names; skyexport.toml in the current directory; the user's own file; the default.
    """
    with _told(context, as_json=as_json, debug=debug):
        configuration = _configuration(context)
        if command is not None and command not in configuration.settings:
            raise OptionError(f"there is no command {command!r}", f"commands are {', '.join(configuration.settings)}")
        commands = [*configuration.settings] if command is None else [command]
        if as_json:
            _print_json(configuration.to_dict(commands))
        else:
            for line in configuration.lines(commands):
                _print(_printable(line))


def _workers(text: str) -> int | Literal["auto"]:
    if text == "auto":
        return "auto"
    return parse_number(text, "workers", "use auto, 0, 1, 2, …")


def _signals(context: typer.Context) -> Signals:
    """The signals that the program handles; a new object if a test or another program runs the command."""
    return context.find_object(Signals) or Signals()


@contextlib.contextmanager
def _told(context: typer.Context, *, as_json: bool, debug: bool) -> Iterator[None]:
    """Turn an exception into a line for people, an object for programs, and the exit code."""
    signals = _signals(context)
    # If the environment or a file cannot be read, a --json on the command line still counts.
    as_json = as_json or context.meta[_AS_JSON]
    try:
        _say_project_file(context)
        yield
        signals.settle()
    except ExportError as error:
        signals.settle()
        found = context.meta[_CONFIGURATION]
        if isinstance(error, OptionError) and isinstance(found, Configuration):
            error = found.traced(error, context.command.name or "", _typed(context))
        if debug:
            _say_traceback()
        _leave(error, as_json=as_json)
    except (typer.Exit, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        signals.settle()
        if debug or not isinstance(error, MemoryError):
            _say_traceback()
        _leave(unexpected(error), as_json=as_json)


def _say_project_file(context: typer.Context) -> None:
    """Print that a project file sets options; its own `quiet` does not silence this line."""
    keys = _configuration(context).obeyed(context.command.name or "", _typed(context))
    if keys and ("quiet" in keys or not context.params.get("quiet")):
        _say(f"{PROJECT_FILE} in this directory sets {', '.join(keys)}")


def _leave(error: ExportError, *, as_json: bool) -> NoReturn:
    report(error, as_json=as_json)
    raise typer.Exit(error.exit_code)


def report(error: ExportError, *, as_json: bool) -> None:
    """Print an error: a line on standard error and, with *as_json*, an object on standard output."""
    if isinstance(error, StoppedError) and error.signal_number == _READER_LEFT:
        return
    _say(f"skyexport: {error}")
    if as_json:
        with contextlib.suppress(ExportError):
            failure = {"status": "failed", "exit_code": error.exit_code, "error": error.message, "hint": error.hint}
            _print_json(failure | error.details())


def _print_json(content: dict[str, Any], inner: Iterable[dict[str, Any]] = ()) -> None:
    """Print an object; *inner* yields the elements of the list that is its last value, which is empty in *content*."""
    from skyexport.runtime.progress import SCHEMA_VERSION

    text = _json({"schema_version": SCHEMA_VERSION} | content)
    before = ""
    for element in inner:
        if not before:
            text = text.removesuffix("[]\n}")
            before = f"{text}[\n"
        _print(before + textwrap.indent(_json(element), "    "), end="")
        before, text = ",\n", "\n  ]\n}"
    _print(text)


def _json(content: dict[str, Any]) -> str:
    import orjson

    text = orjson.dumps(content, option=orjson.OPT_INDENT_2).decode()
    # orjson does not escape all control characters, nor those that reverse a line; terminals act on them.
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def _print(text: str, end: str = "\n") -> None:
    """Print to standard output.

    Raises:
        OutputError: Standard output cannot be written.
        StoppedError: Nobody reads it any more.
    """
    try:
        typer.echo(text + end, nl=False)
    except OSError as error:
        from skyexport.runtime.disk import output_error

        abandon_standard_output()
        raise output_error(error, "standard output") from error


def abandon_standard_output() -> None:
    """Let go of what could not be written to standard output: Python would try again, and end with status 120."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(line: str) -> None:
    # A closed standard error must not end the work.
    with contextlib.suppress(OSError, ValueError):
        typer.echo(_printable(line), err=True)


def _say_lines(text: str) -> None:
    for line in text.splitlines():
        _say(line)


def _say_traceback() -> None:
    """Print the traceback of the current exception, indented so that none of its lines looks like a message."""
    for line in traceback.format_exc().splitlines():
        _say(f"  {line}")


def _printable(text: str) -> str:
    """*text* with control characters escaped: file names and posts must not control the terminal."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
