"""`skyexport export`: one archive, many, or what exporting them would do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from skyexport.cli import printing
from skyexport.cli.boundary import signals_of
from skyexport.errors import AuthorError, ExportError, OptionError, StoppedError
from skyexport.formats.names import form_of_name
from skyexport.notices import WARNING
from skyexport.options import declarations as option
from skyexport.options.export_options import DEFAULT_BATCH_SIZE, DEFAULT_OUTPUT_DIR, ExportOptions
from skyexport.options.values import ClusterAddress, Shard, parse_path
from skyexport.wording import path_text

if TYPE_CHECKING:
    from skyexport.fleet.results import Migration, Outcome
    from skyexport.pipeline.summary import ExportSummary
    from skyexport.runtime.progress import Progress, Reporter
    from skyexport.runtime.signals import Signals
__all__ = ["export_command"]


def export_command(
    context: typer.Context,
    archives: option.Archives = None,
    format: option.FormatName = None,
    to: option.To = None,
    output_dir: option.OutputDir = None,
    overwrite: option.Overwrite = False,
    compress: option.CompressionName = None,
    columns: option.Columns = None,
    delimiter: option.Delimiter = None,
    no_header: option.NoHeader = False,
    no_bom: option.NoBom = False,
    csv_safe: option.CsvSafe = False,
    split_posts: option.SplitPosts = None,
    split_bytes: option.SplitBytes = None,
    author: option.Author = None,
    since: option.Since = None,
    until: option.Until = None,
    match: option.Match = None,
    limit: option.Limit = None,
    workers: option.Workers = "auto",
    memory_limit: option.MemoryLimit = "500MB",
    batch_size: option.BatchSize = DEFAULT_BATCH_SIZE,
    no_sync: option.NoSync = False,
    snapshot: option.Snapshot = "pin",
    media: option.Media = False,
    media_root: option.MediaRoot = None,
    link_media: option.LinkMedia = None,
    since_export: option.SinceExport = None,
    since_last: option.SinceLast = False,
    allow_unrelated: option.AllowUnrelated = False,
    keep: option.Keep = None,
    from_file: option.FromFile = None,
    shard: option.ShardOfMany = None,
    cluster: option.Cluster = None,
    resume_batch: option.ResumeBatch = False,
    dry_run: option.DryRun = False,
    strict: option.Strict = False,
    register: option.Register = False,
    quiet: option.Quiet = 0,
    verbose: option.Verbose = False,
    progress: option.ProgressMode = "auto",
    as_json: option.AsJson = False,
    debug: option.Debug = False,
) -> None:
    """Export posts to JSON, JSON Lines, CSV, Parquet or HTML.

    The bytes of a file depend only on the posts and the format. An export appears under its final name only once it is
    complete. Several archives are exported side by side, each into DIR/ARCHIVE/AUTHOR/TIME.
    """
    named = list(archives or ())
    listed = len(named) > 1 or from_file is not None or resume_batch or shard is not None
    in_parts = cluster is not None and not listed and split_posts is not None
    many = listed or (cluster is not None and not in_parts)
    with signals_of(context).waiting():
        # Slow imports, after the command line was read, and before any work.
        import skyexport.runtime.progress
        from skyexport.fleet.preflight import check_archive_names, check_output_name

        if many or in_parts:
            import skyexport.fleet.schedule  # noqa: F401
    reporter = printing.progress_reporter(progress, quiet=bool(quiet))
    _check_places(named, from_file, output_dir, to, overwrite=overwrite, as_json=as_json)
    check_archive_names(named, exporting=True)
    if output_dir is not None:
        check_output_name(output_dir)
    options = ExportOptions(
        archive=parse_path(named[0] if named else "-", "archive"), author=author, since=since, until=until, limit=limit,
        format=format or "", compress=compress or "", columns=columns or (), delimiter=delimiter or "",
        bom=not no_bom, header=not no_header, csv_safe=csv_safe, split_posts=split_posts, split_bytes=split_bytes,
        output_dir=output_dir or DEFAULT_OUTPUT_DIR, to=to, overwrite=overwrite, workers=workers,
        batch_size=batch_size, memory_limit=memory_limit, sync=not no_sync, strict=strict, snapshot=snapshot,
        media=media, media_root=media_root, link_media=link_media, match=match, register=register,
        since_export=since_export or (), since_last=since_last, allow_unrelated=allow_unrelated, keep=keep,
    )  # fmt: skip
    run = _Run(
        options, signals_of(context), reporter,
        note=form_of_name(to).note if format is None else "",
        quiet=quiet, verbose=verbose, as_json=as_json, debug=debug,
    )  # fmt: skip
    if many:
        paths = _paths(named, from_file)
        if dry_run:
            raise typer.Exit(_dry_runs(run, paths, shard))
        raise typer.Exit(_export_many(run, paths, shard, cluster, resume=resume_batch))
    if dry_run:
        _dry_run(run)
    else:
        _export_one(run, cluster)


def _check_places(
    named: Sequence[str], from_file: str | None, output_dir: Path | None, to: Path | None, *,
    overwrite: bool, as_json: bool,
) -> None:  # fmt: skip
    """Check that the options that say what is read and where to write go together.

    Raises:
        OptionError: They do not.
    """
    if output_dir is not None and to is not None:
        raise OptionError("-o and --to both say where to write", "leave out one of them")
    if overwrite and to is None:
        raise OptionError("--overwrite is for --to: an export directory never replaces another", "leave it out")
    if as_json and to is not None and str(to) in ("-", "/dev/stdout"):
        raise OptionError("--json and --to - both write to standard output", "leave out one of them")
    if not named and from_file is None:
        raise OptionError(
            "there is no archive to export", "name one, as in skyexport export archive.db, or use --from-file"
        )


@dataclass(frozen=True, slots=True)
class _Run:
    """How the command goes and what it prints, beside the options of the export."""

    options: ExportOptions
    signals: Signals
    reporter: Reporter
    note: str
    """About the name of the file; empty if there is nothing to say."""
    quiet: int
    verbose: bool
    as_json: bool
    debug: bool

    def say(self, line: str) -> None:
        """Print a line for people, unless it is quiet."""
        if not self.quiet or (self.quiet == 1 and line.startswith(WARNING)):
            with self.reporter.paused():
                printing.say(line)

    def watch(self, moment: Progress) -> None:
        """Show the progress; a signal ends the export here."""
        self.signals.check()
        self.reporter(moment)


def _export_one(run: _Run, cluster: ClusterAddress | None) -> None:
    """Export one archive, in parts if a cluster does it."""
    from skyexport.pipeline.export import export

    if cluster is not None:
        from skyexport.fleet.schedule import export_in_parts

    summary: ExportSummary | None = None
    try:
        with contextlib.closing(run.reporter):
            if cluster is None:
                summary = export(run.options, run.watch, say=run.say, debug=run.debug)
            else:
                summary = export_in_parts(run.options, cluster, run.watch, say=run.say, debug=run.debug)
        if run.as_json:
            printing.print_json({**summary.to_dict(), "sentences": summary.sentences()})
        else:
            for line in _summary(summary, run.options, run.note, verbose=run.verbose):
                run.say(line)
        run.signals.settle()
    except StoppedError as error:
        if summary is None:
            raise
        raise StoppedError(error.signal_number, str(summary.path or "")) from None


def _dry_run(run: _Run) -> None:
    from skyexport.pipeline.dry_run import dry_run

    with contextlib.closing(run.reporter):
        result = dry_run(run.options, run.watch, say=printing.say)
    if run.as_json:
        printing.print_json({**result.to_dict(), "sentences": result.lines()})
    else:
        for line in filter(None, [*result.lines(), run.note]):
            printing.print_line(printing.printable(line))


def _export_many(
    run: _Run, paths: list[str], shard: Shard | None, cluster: ClusterAddress | None, *, resume: bool
) -> int:
    """Export several archives; print each failure at once, and the warnings of each archive if nothing else is printed.

    Returns:
        The exit code.
    """
    from skyexport.fleet.schedule import export_all

    def tell(outcome: Outcome) -> None:
        for line in outcome.warnings() if run.quiet and not run.as_json else ():
            run.say(line)
        if outcome.without_author:
            run.say(outcome.sentence())
        elif outcome.status == "failed":
            with run.reporter.paused():
                printing.say(outcome.sentence())
                for line in "".join(getattr(outcome.error, "__notes__", ())).splitlines() if run.debug else ():
                    printing.say(f"  {line}")

    with contextlib.closing(run.reporter):
        migration = export_all(
            paths, run.options, run.watch, shard=shard, cluster=cluster, resume_batch=resume, on_outcome=tell,
            say=run.say, debug=run.debug,
        )  # fmt: skip
    if run.as_json:
        _print_migration(migration)
    elif not run.quiet:
        for sentence in migration.sentences(verbose=run.verbose):
            printing.say(sentence)
    if migration.author_error is not None:
        printing.say(f"skyexport: {migration.author_error}")
    run.signals.settle()
    return migration.exit_code


def _paths(named: list[str], from_file: str | None) -> list[str]:
    """The archives among the arguments, then those of the list."""
    from skyexport.fleet.archive_list import read_list

    return [*named, *(read_list(from_file) if from_file is not None else ())]


def _dry_runs(run: _Run, paths: list[str], shard: Shard | None) -> int:
    """Print what exports of several archives would do.

    Returns:
        The exit code of the first archive that cannot be exported; 0 if all can.
    """
    from skyexport.fleet.results import nobody_has
    from skyexport.fleet.schedule import each_options
    from skyexport.pipeline.dry_run import dry_run

    exit_code = without_author = 0
    entries: list[dict[str, object]] = []
    for options in each_options(paths, run.options, shard):
        path = path_text(options.archive)
        try:
            result = dry_run(options, run.watch, say=printing.say)
        except StoppedError:
            raise
        except AuthorError as error:
            without_author += 1
            entries.append({"path": path, "status": "skipped", "posts": 0, "reason": error.message})
            printing.say(f"skipped: {error.message}")
            continue
        except ExportError as error:
            exit_code = exit_code or error.exit_code
            entries.append({"path": path, "status": "failed", "exit_code": error.exit_code, "error": error.message})
            printing.say(f"skyexport: {path}: {error}")
            continue
        entries.append({"path": path, **result.to_dict()})
        for line in (path, *(f"  {line}" for line in result.lines())) if not run.as_json else ():
            printing.print_line(printing.printable(line))
    if entries and without_author == len(entries) and shard is None:
        nobody = nobody_has(run.options.author, without_author)
        exit_code = nobody.exit_code
        printing.say(f"skyexport: {nobody}")
    if run.as_json:
        printing.print_json({"status": "failed" if exit_code else "ok", "archives": entries})
    return exit_code


def _print_migration(migration: Migration) -> None:
    """Print the result of many archives as one JSON object, without holding all of it in memory."""
    printing.print_json({**migration.totals(), "archives": []}, inner=migration.archives())


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
