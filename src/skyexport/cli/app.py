"""The program: its commands, and its errors of usage."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer
import typer.core

from skyexport import __version__
from skyexport.cli import printing
from skyexport.cli.bench import bench_command
from skyexport.cli.boundary import AS_JSON, Command, configure, errors_reported
from skyexport.cli.configuration import CONFIG
from skyexport.cli.export import export_command
from skyexport.cli.help_pages import HelpfulGroup, epilog
from skyexport.cli.importing import import_command
from skyexport.cli.inspect import inspect_command
from skyexport.cli.merge import merge_command
from skyexport.cli.ui import ui_command
from skyexport.cli.usage import check_dashes, unknown_command, usage_error, wants_json
from skyexport.cli.verify import verify_command
from skyexport.errors import OptionError

__all__ = ["app"]


class _Commands(HelpfulGroup):
    """The commands. Each accepts --config, and options from the environment and from a file.

    A usage error prints one line like any other error, and one object with --json.
    """

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for command in (self, *self.commands.values()):
            option = typer.core.TyperOption(
                param_decls=[f"--{CONFIG}"], type=str, metavar="FILE", expose_value=False, callback=configure,
                help="Read options from this TOML file too.",
            )  # fmt: skip
            # It must be first: Typer looks up the defaults of options in the order of their declaration.
            command.params.insert(0, option)

    def make_context(self, info_name: str | None, args: list[str], *arguments: Any, **more: Any) -> Any:
        as_json = wants_json(args, os.environ)
        try:
            check_dashes(args, self)
            context = super().make_context(info_name, args, *arguments, **more)
        except Exception as error:
            wrong = error if isinstance(error, OptionError) else usage_error(error, self)
            if wrong is None:
                raise
            printing.leave(wrong, as_json=as_json)
        context.meta[AS_JSON] = as_json
        return context

    def invoke(self, ctx: Any) -> Any:
        with errors_reported(ctx):
            return super().invoke(ctx)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in self.commands:
            raise unknown_command(args[0], list(self.commands))
        return super().resolve_command(ctx, args)


app = typer.Typer(
    name="skyexport",
    cls=_Commands,
    help=(
        "Export local Bluesky archives, the SQLite files of bskyarchive, to JSON, JSON Lines, CSV, Parquet or HTML."
        " Everyone's own repository, a CAR file, can be imported."
    ),
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


def _show_version(wanted: bool) -> None:
    if wanted:
        from skyexport.rendering.native import renderer_in_words

        typer.echo(f"skyexport {__version__}")
        try:
            typer.echo(f"renderer: {renderer_in_words()}")
        except OptionError as error:
            printing.report(error, as_json=False)
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
        printing.say_lines(context.get_help())
        raise typer.Exit(OptionError.exit_code)


app.command(
    cls=Command,
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
        "skyexport export --from-file archives.txt --shard 3/8 --json > shard-3.json",
    ),
)(export_command)
app.command(
    cls=Command,
    name="import",
    epilog=epilog(
        "skyexport import repo.car --to me.db --handle me.bsky.social",
        "skyexport import repo.car --to me.db --blobs me_blobs",
        "skyexport import newer.car --to me.db --remove-gone",
    ),
)(import_command)
app.command(
    cls=Command,
    name="inspect",
    epilog=epilog(
        "skyexport inspect archive.db", "skyexport inspect archive.db --json", "skyexport inspect archive.db --authors"
    ),
)(inspect_command)
app.command(
    cls=Command,
    name="verify",
    epilog=epilog(
        "skyexport verify exports/all/2026-11-24_11-23-22",
        "skyexport verify exports --recursive",
        "skyexport verify exports/all/* --json",
    ),
)(verify_command)
app.command(
    cls=Command,
    name="ui",
    epilog=epilog(
        "skyexport ui", "skyexport ui archive.db -o exports", "skyexport ui ~/archives --port 9000 --no-browser"
    ),
)(ui_command)
app.command(
    cls=Command,
    name="merge",
    epilog=epilog("skyexport merge shard-*.json", "skyexport merge shard-*.json --json > all.json"),
)(merge_command)
app.command(
    cls=Command,
    name="bench",
    epilog=epilog("skyexport bench archive.db", "skyexport bench archive.db -o /mnt/exports --posts 1000000"),
)(bench_command)
