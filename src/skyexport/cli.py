"""The command line: parse, call, print, and turn an error into its exit code. Nothing else happens here."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
import typer.core

from skyexport import __version__
from skyexport.configuration import CONFIG, PROJECT_FILE, Configuration
from skyexport.errors import EXIT_CODES, ExportError, OptionError, StoppedError, VerifyError
from skyexport.format_names import form_of_name
from skyexport.notices import WARNING
from skyexport.options import (
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
from skyexport.signals import Signals

if TYPE_CHECKING:
    from skyexport.outcome import Migration, Outcome
    from skyexport.progress import Progress, Reporter
    from skyexport.summary import ExportSummary

__all__ = ["app"]

_CONFIG_FILE = "skyexport.config"
"""Where a context keeps what --config names."""

_CONFIGURATION = "skyexport.configuration"
"""Where a context keeps what environment and files say, or the error in it."""


def _epilog(*examples: str) -> str:
    """Examples and exit codes as they stand below the options; `\\b` keeps their lines as they are."""
    codes = [f"  {code:<4} {meaning}" for code, meaning in EXIT_CODES.items()]
    elsewhere = "Options are also taken from variables SKYEXPORT_<OPTION> and from TOML files; see `skyexport config`."
    return "\b\n" + "\n".join(
        ["Examples:", *(f"  {line}" for line in examples), "", "\b", "Exit status:", *codes, "", elsewhere]
    )


class _Commands(typer.core.TyperGroup):
    """The commands; each of them takes --config, and options from elsewhere than the command line.

    What is said of wrong arguments, which a shell makes of any file names, is safe for a terminal.
    """

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for command in (self, *self.commands.values()):
            option = typer.core.TyperOption(
                param_decls=[f"--{CONFIG}"], type=str, metavar="FILE", expose_value=False, callback=_configure,
                help="Take options from this TOML file as well.",
            )  # fmt: skip
            # The first one: options that are not typed look for their values in the order of their declaration.
            command.params.insert(0, option)

    def make_context(self, *arguments: Any, **more: Any) -> Any:
        with _printable_errors():
            return super().make_context(*arguments, **more)

    def invoke(self, *arguments: Any) -> Any:
        with _printable_errors():
            return super().invoke(*arguments)


@contextlib.contextmanager
def _printable_errors() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        message = getattr(error, "message", None)
        if isinstance(message, str):
            _leave_when_from_elsewhere(error, message)
            error.message = _printable(message)  # type: ignore[attr-defined]
        raise


def _configure(context: Any, _: Any, config: str | None) -> None:
    """Have options that are not typed take the values which environment and files give them.

    What is wrong there is kept until the command begins, and knows how to tell it.
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
    """What environment and files say.

    Raises:
        OptionError: It can not be understood.
    """
    found: Configuration | OptionError = context.meta[_CONFIGURATION]
    if isinstance(found, OptionError):
        raise found
    return found


def _typed(context: typer.Context) -> dict[str, Any]:
    """Options that the command line has."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return {name: context.params[name] for name, source in sources.items() if source and source.name == "COMMANDLINE"}


def _leave_when_from_elsewhere(error: Exception, message: str) -> None:
    """Tell in one line what is wrong with the value of an option that nobody has typed."""
    context: Any = getattr(error, "ctx", None)
    option: Any = getattr(error, "param", None)
    configuration = context.meta.get(_CONFIGURATION) if context and option else None
    if isinstance(configuration, Configuration) and option.name in (context.default_map or {}):
        source = context.get_parameter_source(option.name)
        if source is None or source.name != "COMMANDLINE":
            told = OptionError(f"{option.opts[0]}: {message.rstrip('.')}")
            _leave(configuration.traced(told, context.command.name, _typed(context)), as_json=False)


app = typer.Typer(
    name="skyexport",
    cls=_Commands,
    help="Export local Bluesky archives (SQLite files of bskyarchive), whatever their size, to JSON, CSV or Parquet.",
    epilog=_epilog("skyexport inspect archive.db", "skyexport export archive.db --format csv --since 2024-01-01"),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
)

ArchivePath = Annotated[
    str,
    typer.Argument(metavar="ARCHIVE", help="The archive, a SQLite file; it is only ever read.", show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object on standard output.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show a traceback for every error.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"skyexport {__version__}")
        raise typer.Exit


@app.callback()
def _skyexport(
    version: Annotated[
        bool, typer.Option("--version", "-V", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    del version


@app.command(
    name="export",
    epilog=_epilog(
        "skyexport export archive.db",
        "skyexport export archive.db -f csv --since 2024-01-01 --until 2024-12-31",
        "skyexport export archive.db --did did:plc:ewvi7nxzyoun6zhxrhs64oiz -j 4",
        "skyexport export archive.db --to posts.jsonl.zst",
        "skyexport export archive.db --to - | less",
        "skyexport export archive.db --match 'cats OR dogs' --dry-run",
        "skyexport export archive.db --media --link-media exports/all/2026-11-24_11-23-22",
        "skyexport export archive.db --since-export exports/all/2026-11-24_11-23-22",
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
            help="An archive, a SQLite file; only --register writes to it. Of several, each gets DIR/NAME/AUTHOR/TIME.",
            show_default=False,
        ),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            "-f",
            metavar="json|jsonl|csv|parquet",
            help="The output format.",
            show_default="json, or by --to",
        ),
    ] = None,
    compress: Annotated[
        str | None,
        typer.Option(
            metavar="gzip|zstd[:LEVEL]",
            help="Compress data files of text.",
            show_default="none, or by --to",
        ),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,C", help="Only these columns, in this order; not for json.", show_default="all of them"
        ),
    ] = None,
    delimiter: Annotated[
        str | None,
        typer.Option(
            metavar="CHAR",
            help="What stands between the fields of csv: , ; | or tab.",
            show_default="comma, or by --to",
        ),
    ] = None,
    no_bom: Annotated[bool, typer.Option("--no-bom", help="Begin csv without a byte order mark.")] = False,
    no_header: Annotated[bool, typer.Option("--no-header", help="Begin csv without the names of columns.")] = False,
    csv_safe: Annotated[
        bool,
        typer.Option(
            "--csv-safe", help="Put an apostrophe before cells of csv that a spreadsheet may take for a formula."
        ),
    ] = False,
    split_posts: Annotated[
        str | None, typer.Option(metavar="N", help="Begin another data file after N posts.", show_default="one file")
    ] = None,
    split_bytes: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Begin another data file before one is larger, uncompressed; like 100MB.",
            show_default="one file",
        ),
    ] = None,
    did: Annotated[
        str | None, typer.Option(metavar="DID", help="Only posts by this author.", show_default="every author")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="DATE", help="From this date (in UTC) or RFC 3339 instant on.", show_default="the first post"
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(metavar="DATE", help="Up to this date (the whole day) or instant.", show_default="last post"),
    ] = None,
    limit: Annotated[
        str | None,
        typer.Option(metavar="N", help="Only the newest N of these posts.", show_default="all of them"),
    ] = None,
    output_dir: Annotated[
        str | None,
        typer.Option(
            "--output-dir",
            "-o",
            metavar="DIR",
            help="Make the directory DIR/AUTHOR/TIME for the export.",
            show_default=str(DEFAULT_OUTPUT_DIR),
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Write just the data file, exactly there; - is standard output.", show_default=False
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Let --to replace an existing file.")] = False,
    workers: Annotated[
        str,
        typer.Option(
            "--workers",
            "-j",
            metavar="auto|N",
            help="Worker processes; 0 does all in one. auto: a worker for each CPU, none for a small archive.",
        ),
    ] = "auto",
    batch_size: Annotated[str, typer.Option(metavar="N", help="Posts a batch.")] = str(DEFAULT_BATCH_SIZE),
    memory_limit: Annotated[
        str, typer.Option(metavar="SIZE", help="Bound on the memory of all processes together, like 500MB or 1GiB.")
    ] = "500MB",
    progress: Annotated[
        str,
        typer.Option(
            metavar="auto|bar|plain|json|none",
            help="How to show progress, on standard error. auto: a bar on a terminal, else plain lines.",
        ),
    ] = "auto",
    as_json: AsJson = False,
    no_sync: Annotated[
        bool, typer.Option("--no-sync", help="Do not wait until everything is on the disk: a crash may lose it.")
    ] = False,
    snapshot: Annotated[
        str,
        typer.Option(
            metavar="pin|copy",
            help="pin holds the archive until all is read; copy just until posts are copied to a temporary file.",
        ),
    ] = "pin",
    media: Annotated[
        bool, typer.Option("--media", help="Copy the media files of the exported posts too, into media/ of the export.")
    ] = False,
    media_root: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="What paths of media are relative to.", show_default="the directory of ARCHIVE"
        ),
    ] = None,
    link_media: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="An earlier export: hard-link media files that it has and that have not changed, instead of copying.",
            show_default=False,
        ),
    ] = None,
    match: Annotated[
        str | None,
        typer.Option(
            metavar="QUERY",
            help="Only posts that the archive's full-text index finds, in the syntax of SQLite's FTS5.",
            show_default=False,
        ),
    ] = None,
    since_export: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DIR",
            help="Only posts that are new or changed since the export in DIR; again for its increments, oldest first.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be exported, how large and where; write nothing.")
    ] = False,
    register: Annotated[
        bool,
        typer.Option(
            "--register",
            help="Add the export to the archive's own list, as bskyarchive does: the only write to an archive ever.",
        ),
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Fail when a value can not be exported as stored.")] = False,
    from_file: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="Export the archives of a list too: a path a line (or as find -print0 ends it); - is standard input.",
            show_default=False,
        ),
    ] = None,
    resume_batch: Annotated[
        bool,
        typer.Option(
            "--resume-batch", help="Skip archives whose export is there: same archive, same options, and verified."
        ),
    ] = False,
    quiet: Annotated[
        int,
        typer.Option(
            "--quiet", "-q", count=True, help="Print warnings and errors only; -qq: errors only.", show_default=False
        ),
    ] = 0,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print settings and checksums as well.")] = False,
    debug: Debug = False,
) -> None:
    """Export posts, newest first, to one file of JSON, JSON Lines, CSV or Parquet, or to several; of many archives too.

    The bytes of the file depend on the posts and the format only. Nothing has its final name before it is complete.
    """  # fmt: skip
    signals = _signals(context)
    with _told(context, as_json=as_json, debug=debug):
        with signals.waiting():
            from skyexport.coordinator import export
            from skyexport.progress import MODES, reporter_for

            named = list(archives or ())
            many = len(named) > 1 or from_file is not None or resume_batch
            if many:
                import skyexport.migration  # noqa: F401
        if progress not in MODES:
            raise OptionError(f"unknown progress {progress!r}", f"choose from {', '.join(MODES)}")
        if output_dir is not None and to is not None:
            raise OptionError("-o and --to both say where to write", "leave one of them out")
        if overwrite and to is None:
            raise OptionError("--overwrite is for --to: an export directory never replaces another", "leave it out")
        if as_json and to in ("-", "/dev/stdout"):
            raise OptionError("--json and --to - both want standard output", "leave one of them out")
        if not named and from_file is None:
            raise OptionError("there is no archive to export", "name one, or a list of them with --from-file")
        options = ExportOptions(
            archive=parse_path(named[0] if named else "-", "archive"),
            did=did, since=since, until=until,
            limit=None if limit is None else parse_number(limit, "posts"), format=format or "", compress=compress or "",
            columns=() if columns is None else parse_columns(columns),
            delimiter="" if delimiter is None else parse_delimiter(delimiter),
            bom=not no_bom, header=not no_header, csv_safe=csv_safe,
            split_posts=None if split_posts is None else parse_number(split_posts, "posts"),
            split_bytes=None if split_bytes is None else parse_size(split_bytes),
            output_dir=DEFAULT_OUTPUT_DIR if output_dir is None else parse_path(output_dir, "output directory"),
            to=None if to is None else parse_file(to), overwrite=overwrite, workers=_workers(workers),
            batch_size=parse_number(batch_size, "posts"),
            memory_limit_bytes=parse_size(memory_limit), sync=not no_sync, strict=strict,
            snapshot=snapshot, media=media,
            media_root=None if media_root is None else parse_path(media_root, "directory of media"),
            link_media=None if link_media is None else parse_path(link_media, "earlier export"),
            match=match, register=register,
            since_export=[parse_path(path, "earlier export") for path in since_export or ()],
        )  # fmt: skip
        note = form_of_name(options.to).note if format is None else ""

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
            from skyexport.dry_run import dry_run as find_out

            with contextlib.closing(reporter):
                found = find_out(options, watch)
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
    """Export several archives; say at once which one failed and, with *warn*, what is to be known of the others."""
    from skyexport.migration import export_all

    def tell(outcome: Outcome) -> None:
        for line in outcome.warnings() if warn else ():
            say(line)
        if outcome.error is not None:
            with reporter.paused():
                _say(outcome.sentence())
                for line in "".join(getattr(outcome.error, "__notes__", ())).splitlines() if debug else ():
                    _say(f"  {line}")

    paths = _paths(named, from_file)
    return export_all(paths, options, watch, resume=resume, on_outcome=tell, say=say, debug=debug)


def _paths(named: list[str], from_file: str | None) -> list[str]:
    """The archives that are named, and those of a list."""
    from skyexport.archive_list import read_list

    return [*named, *(read_list(from_file) if from_file is not None else ())]


def _dry_runs(paths: list[str], options: ExportOptions, watch: Callable[[Progress], None], *, as_json: bool) -> int:
    """Say of several archives what an export would do; returns the exit code of the first that can not be exported."""
    from skyexport.dry_run import dry_run
    from skyexport.migration import each_options

    exit_code = 0
    found: list[dict[str, object]] = []
    for one in each_options(paths, options):
        path = os.fsencode(one.archive).decode(errors="replace")
        try:
            result = dry_run(one, watch)
        except StoppedError:
            raise
        except ExportError as error:
            exit_code = exit_code or error.exit_code
            found.append({"path": path, "status": "failed", "exit_code": error.exit_code, "error": error.message})
            _say(f"skyexport: {path}: {error}")
            continue
        found.append({"path": path, **result.to_dict()})
        for line in (path, *(f"  {line}" for line in result.lines())) if not as_json else ():
            _print(_printable(line))
    if as_json:
        _print_json({"status": "failed" if exit_code else "ok", "archives": found})
    return exit_code


def _print_migration(migration: Migration) -> None:
    """The result of many archives as one JSON object, without holding all of it."""
    _print_json({**migration.totals(), "archives": []}, inner=(outcome.to_dict() for outcome in migration.outcomes))


def _summary(summary: ExportSummary, options: ExportOptions, note: str, *, verbose: bool) -> Iterator[str]:
    """What an export did, for people."""
    if note:
        yield note
    if verbose:
        yield f"archive {options.archive}, batches of {options.batch_size:,} posts: {summary.batches:,}"
        if summary.journal_mode == "wal":
            yield summary.held_sentence()
        for file in summary.files:
            yield f"sha256 {file.sha256}  {file.name}  {file.bytes:,} bytes"
    yield from summary.sentences()


@app.command(name="inspect", epilog=_epilog("skyexport inspect archive.db", "skyexport inspect archive.db --json"))
def _inspect(context: typer.Context, archive: ArchivePath, as_json: AsJson = False, debug: Debug = False) -> None:
    """Show what an archive holds: posts, authors, dates, and how large an export would be."""
    signals = _signals(context)
    with _told(context, as_json=as_json, debug=debug):
        with signals.waiting():
            from skyexport.inspection import inspect

        found = inspect(parse_path(archive, "archive"))
        if as_json:
            _print_json(found.to_dict())
        else:
            for line in found.lines():
                _print(_printable(line))


@app.command(
    name="verify",
    epilog=_epilog(
        "skyexport verify exports/all/2026-11-24_11-23-22", "skyexport verify exports/all/2026-11-24_11-23-22 --json"
    ),
)
def _verify(
    context: typer.Context,
    directory: Annotated[
        str,
        typer.Argument(
            metavar="DIRECTORY", help="An export directory: the one that manifest.json is in.", show_default=False
        ),
    ],
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Verify an export: that every file is as it was written, and the data file can be read and has all posts."""
    signals = _signals(context)
    with _told(context, as_json=as_json, debug=debug):
        with signals.waiting():
            from skyexport.progress import reporter_for
            from skyexport.verification import verify

        try:
            with contextlib.closing(reporter_for("auto", sys.stderr)) as reporter:
                found = verify(parse_path(directory, "directory"), reporter)
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
        else:
            _print(_printable(found.sentence()))


@app.command(
    name="bench",
    epilog=_epilog("skyexport bench archive.db", "skyexport bench archive.db -o /mnt/exports --posts 1000000"),
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
    posts: Annotated[str, typer.Option(metavar="N", help="Measure with about so many of the newest posts.")] = "200000",
    runs: Annotated[str, typer.Option(metavar="N", help="Runs of each measurement.")] = "3",
    memory_limit: Annotated[
        str, typer.Option(metavar="SIZE", help="Bound on the memory of all processes together, like 500MB or 1GiB.")
    ] = "500MB",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Measure which settings export an archive fastest on this machine, and recommend some.

    Takes a minute or so: exports the newest posts as JSON and CSV, to the null device and to the disk, with several
    numbers of workers.
    """
    signals = _signals(context)
    with _told(context, as_json=as_json, debug=debug):
        with signals.waiting():
            from skyexport.benchmark import benchmark

        options = ExportOptions(
            archive=parse_path(archive, "archive"), output_dir=parse_path(output_dir, "output directory"),
            memory_limit_bytes=parse_size(memory_limit),
        )  # fmt: skip
        measured = benchmark(
            options, posts=parse_number(posts, "posts"), runs=parse_number(runs, "runs"), say=_say, debug=debug
        )
        if as_json:
            _print_json(measured.to_dict())
        else:
            for line in measured.lines():
                _print(_printable(line))


@app.command(name="config", epilog=_epilog("skyexport config", "skyexport config export --json"))
def _config(
    context: typer.Context,
    command: Annotated[
        str | None,
        typer.Argument(metavar="COMMAND", help="Only the options of this command.", show_default="all commands"),
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show which value holds for each option that is not typed, and why.

    The first of these holds: the command line; the variable SKYEXPORT_<OPTION>; the TOML file that --config or
    SKYEXPORT_CONFIG names; skyexport.toml in the current directory; the user's own file; the default.
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


def _workers(text: str) -> int | None:
    if text == "auto":
        return None
    return parse_number(text, "workers", "choose auto, or a number from 0 on")


def _signals(context: typer.Context) -> Signals:
    """Those that the program answers; none where somebody else runs its commands."""
    return context.find_object(Signals) or Signals()


@contextlib.contextmanager
def _told(context: typer.Context, *, as_json: bool, debug: bool) -> Iterator[None]:
    """Turn what is raised into a line for people, an object for programs, and the exit code."""
    signals = _signals(context)
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
        _say_traceback()
        _leave(ExportError(f"unexpected {type(error).__name__}: {error}", "please report it"), as_json=as_json)


def _say_project_file(context: typer.Context) -> None:
    """Name a project file that is obeyed, though a file can not ask for quiet about itself."""
    keys = _configuration(context).obeyed(context.command.name or "", _typed(context))
    if keys and ("quiet" in keys or not context.params.get("quiet")):
        _say(f"{PROJECT_FILE} of this directory sets {', '.join(keys)}")


def _leave(error: ExportError, *, as_json: bool) -> NoReturn:
    reader_left = isinstance(error, StoppedError) and error.signal_number == 13
    if not reader_left:
        _say(f"skyexport: {error}")
        if as_json:
            with contextlib.suppress(ExportError):
                failure = {"status": "failed", "exit_code": error.exit_code, "error": error.message, "hint": error.hint}
                _print_json(failure | error.details())
    raise typer.Exit(error.exit_code)


def _print_json(content: dict[str, Any], inner: Iterable[dict[str, Any]] = ()) -> None:
    """An object; *inner* are the elements of the list that is its last value, and empty until now."""
    from skyexport.progress import SCHEMA_VERSION

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
    # JSON escapes some control characters itself; of the others, and of what turns a line around, terminals know many.
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def _print(text: str, end: str = "\n") -> None:
    """To standard output.

    Raises:
        OutputError, StoppedError: It can not be written, or nobody reads it any more.
    """
    try:
        typer.echo(text + end, nl=False)
    except OSError as error:
        from skyexport.writer import output_error

        raise output_error(error, "standard output") from error


def _say(line: str) -> None:
    # With nobody listening the work still counts.
    with contextlib.suppress(OSError, ValueError):
        typer.echo(_printable(line), err=True)


def _say_traceback() -> None:
    """Where the error that is being handled comes from; indented, so that no line of a message looks like ours."""
    for line in traceback.format_exc().splitlines():
        _say(f"  {line}")


def _printable(text: str) -> str:
    """Without control characters: names and posts of strangers must not steer a terminal."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
