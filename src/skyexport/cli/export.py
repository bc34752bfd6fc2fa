"""`skyexport export`: one archive, many, or what exporting them would do."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer
import typer.core

from skyexport.errors import AuthorError, ExportError, OptionError, StoppedError
from skyexport.formats.names import choice_hint, form_of_name
from skyexport.notices import WARNING
from skyexport.options.export_options import DEFAULT_BATCH_SIZE, DEFAULT_OUTPUT_DIR, ExportOptions
from skyexport.options.values import parse_columns, parse_delimiter, parse_file, parse_number, parse_path, parse_size
from skyexport.wording import path_text

if TYPE_CHECKING:
    from skyexport.fleet.results import Migration, Outcome
    from skyexport.pipeline.summary import ExportSummary
    from skyexport.runtime.progress import Progress, Reporter
from skyexport.cli import printing
from skyexport.cli.boundary import signals_of, told
from skyexport.options.declarations import (
    AllowUnrelated,
    Archives,
    AsJson,
    Author,
    BatchSize,
    Columns,
    CompressionName,
    CsvSafe,
    Debug,
    Delimiter,
    DryRun,
    FormatName,
    FromFile,
    Keep,
    Limit,
    LinkMedia,
    Match,
    Media,
    MediaRoot,
    MemoryLimit,
    NoBom,
    NoHeader,
    NoSync,
    OutputDir,
    Overwrite,
    ProgressMode,
    Quiet,
    Register,
    ResumeBatch,
    Since,
    SinceExport,
    SinceLast,
    Snapshot,
    SplitBytes,
    SplitPosts,
    Strict,
    To,
    Until,
    Verbose,
    Workers,
)

__all__ = ["export_command"]


def export_command(
    context: typer.Context,
    archives: Archives = None,
    format: FormatName = None,
    to: To = None,
    output_dir: OutputDir = None,
    overwrite: Overwrite = False,
    compress: CompressionName = None,
    columns: Columns = None,
    delimiter: Delimiter = None,
    no_header: NoHeader = False,
    no_bom: NoBom = False,
    csv_safe: CsvSafe = False,
    split_posts: SplitPosts = None,
    split_bytes: SplitBytes = None,
    author: Author = None,
    since: Since = None,
    until: Until = None,
    match: Match = None,
    limit: Limit = None,
    workers: Workers = "auto",
    memory_limit: MemoryLimit = "500MB",
    batch_size: BatchSize = str(DEFAULT_BATCH_SIZE),
    no_sync: NoSync = False,
    snapshot: Snapshot = "pin",
    media: Media = False,
    media_root: MediaRoot = None,
    link_media: LinkMedia = None,
    since_export: SinceExport = None,
    since_last: SinceLast = False,
    allow_unrelated: AllowUnrelated = False,
    keep: Keep = None,
    from_file: FromFile = None,
    resume_batch: ResumeBatch = False,
    dry_run: DryRun = False,
    strict: Strict = False,
    register: Register = False,
    quiet: Quiet = 0,
    verbose: Verbose = False,
    progress: ProgressMode = "auto",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Export posts, newest first, to JSON, JSON Lines, CSV or Parquet.

    The bytes of a file depend only on the posts and the format. An export appears under its final name only once it is
    complete. Several archives are exported side by side, each into DIR/ARCHIVE/AUTHOR/TIME.
    """
    signals = signals_of(context)
    with told(context, as_json=as_json, debug=debug):
        with signals.waiting():
            from skyexport.fleet.preflight import check_archive_names, check_output_name
            from skyexport.pipeline.export import export
            from skyexport.runtime.progress import MODES, reporter_for

            named = list(archives or ())
            many = len(named) > 1 or from_file is not None or resume_batch
            if many:
                import skyexport.fleet.schedule  # noqa: F401
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
                    printing.say(line)

        reporter = reporter_for("none" if quiet and progress == "auto" else progress, sys.stderr)

        def watch(moment: Progress) -> None:
            signals.check()
            reporter(moment)

        if dry_run and many:
            with contextlib.closing(reporter):
                exit_code = _dry_runs(_paths(named, from_file), options, watch, as_json=as_json)
            raise typer.Exit(exit_code)
        if dry_run:
            from skyexport.pipeline.dry_run import dry_run as find_out

            with contextlib.closing(reporter):
                found = find_out(options, watch, say=printing.say)
            if as_json:
                printing.print_json(found.to_dict())
            else:
                for line in filter(None, [*found.lines(), note]):
                    printing.print_line(printing.printable(line))
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
                    printing.say(sentence)
            if migration.author_error is not None:
                printing.say(f"skyexport: {migration.author_error}")
            signals.settle()
            raise typer.Exit(migration.exit_code)

        summary: ExportSummary | None = None
        try:
            with contextlib.closing(reporter):
                summary = export(options, watch, say=say, debug=debug)
            if as_json:
                printing.print_json(summary.to_dict())
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
    from skyexport.fleet.schedule import export_all

    def tell(outcome: Outcome) -> None:
        for line in outcome.warnings() if warn else ():
            say(line)
        if outcome.without_author:
            say(outcome.sentence())
        elif outcome.status == "failed":
            with reporter.paused():
                printing.say(outcome.sentence())
                for line in "".join(getattr(outcome.error, "__notes__", ())).splitlines() if debug else ():
                    printing.say(f"  {line}")

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
    from skyexport.fleet.results import nobody_has
    from skyexport.fleet.schedule import each_options
    from skyexport.pipeline.dry_run import dry_run

    exit_code = without_author = 0
    found: list[dict[str, object]] = []
    for one in each_options(paths, options):
        path = path_text(one.archive)
        try:
            result = dry_run(one, watch, say=printing.say)
        except StoppedError:
            raise
        except AuthorError as error:
            without_author += 1
            found.append({"path": path, "status": "skipped", "posts": 0, "reason": error.message})
            printing.say(f"skipped: {error.message}")
            continue
        except ExportError as error:
            exit_code = exit_code or error.exit_code
            found.append({"path": path, "status": "failed", "exit_code": error.exit_code, "error": error.message})
            printing.say(f"skyexport: {path}: {error}")
            continue
        found.append({"path": path, **result.to_dict()})
        for line in (path, *(f"  {line}" for line in result.lines())) if not as_json else ():
            printing.print_line(printing.printable(line))
    if found and without_author == len(found):
        nobody = nobody_has(options.author, without_author)
        exit_code = nobody.exit_code
        printing.say(f"skyexport: {nobody}")
    if as_json:
        printing.print_json({"status": "failed" if exit_code else "ok", "archives": found})
    return exit_code


def _print_migration(migration: Migration) -> None:
    """Print the result of many archives as one JSON object, without holding all of it in memory."""
    printing.print_json(
        {**migration.totals(), "archives": []}, inner=(outcome.to_dict() for outcome in migration.outcomes)
    )


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


def _workers(text: str) -> int | Literal["auto"]:
    if text == "auto":
        return "auto"
    return parse_number(text, "workers", "use auto, 0, 1, 2, …")
