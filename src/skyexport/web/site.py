"""All that the pages of the site share: the archives, the exports, the jobs, and how a page is rendered."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from skyexport import __version__
from skyexport.archive.archive import Archive
from skyexport.archive.source import Source
from skyexport.errors import ArchiveError, OptionError
from skyexport.fleet.archive_list import ArchiveList
from skyexport.pages.templating import environment
from skyexport.runtime.location import archive_location
from skyexport.runtime.progress import duration
from skyexport.web.exports import Export, Exports
from skyexport.web.jobs import Job, Jobs
from skyexport.web.sources import SourceFile, Sources
from skyexport.wording import format_size

__all__ = ["MissingError", "Site", "form_of", "render", "see_other", "site_of"]

_T = TypeVar("_T")

_READ_AT_ONCE = 4
"""Archives that are open at a time: each takes some megabytes."""

_LONGEST_SECONDS = 10.0
"""For a page: an archive without indexes, or one on a slow disk, must not keep a thread for ever."""

_MOST_FIELDS = 60


class MissingError(Exception):
    """There is nothing at this address; the text says what is missing."""


class Site:
    """The state of the server.

    Args:
        named: The archives and folders that the command line named.
        output_dir: The folder of exports.
        config: The file of --config, which commands get too; None without one.
        pages_key: The key in the addresses of the pages of an export, by its number.
    """

    def __init__(
        self, named: list[Path], output_dir: Path, config: str | None, pages_key: Callable[[int], str]
    ) -> None:
        self.output_dir = output_dir
        self.jobs = Jobs(on_end=lambda _: self.sources.keep())
        self.sources = Sources(named, output_dir, self.jobs.wake)
        self.exports = Exports(output_dir)
        self.stopping = asyncio.Event()
        """Set when the server ends: streams end with it."""
        self.pages_key = pages_key
        self.shown_state: tuple[int, bytes] = (-1, b"")
        """The version of the jobs, and what pages show for it while something is running."""
        self._options = [] if config is None else [f"--config={config}"]
        self._reading = asyncio.Semaphore(_READ_AT_ONCE)

    def archive(self, number: int) -> SourceFile:
        """The archive with this number.

        Raises:
            MissingError: There is none.
        """
        file = self.sources.find(number)
        if file is None or file.is_car:
            raise MissingError("there is no archive with this number")
        return file

    def export(self, number: int) -> Export:
        """The export with this number.

        Raises:
            MissingError: It is gone, or never was there.
        """
        export = self.exports.find(number)
        if export is None:
            raise MissingError("this export is not there any more")
        return export

    def job(self, number: int) -> Job:
        """The job with this number.

        Raises:
            MissingError: There is none.
        """
        job = self.jobs.find(number)
        if job is None:
            raise MissingError("there is no job with this number; the server may have been started again")
        return job

    async def read(self, file: SourceFile, work: Callable[[Archive], _T]) -> _T:
        """Call *work* with an open archive, in a thread.

        Raises:
            ArchiveError: It cannot be opened, would have to be copied first, or reading it takes too long.
            ArchiveBusyError: Another program keeps writing to it.
        """

        deadline = time.monotonic() + _LONGEST_SECONDS

        def check() -> None:
            if self.stopping.is_set():
                raise ArchiveError("the server ends", "start it again")
            if time.monotonic() > deadline:
                what = f"reading {file.name} takes more than {_LONGEST_SECONDS:.0f} s"
                raise ArchiveError(what, "choose a month, an author or other words")

        def opened() -> _T:
            Source.of(archive_location(file.path), file.name)
            with Archive(file.path, check=check) as archive:
                return work(archive)

        async with self._reading:
            return await asyncio.to_thread(opened)

    def command(self, name: str, *arguments: str) -> list[str]:
        """The arguments of a command of this program."""
        return [name, *self._options, *arguments]

    def folder_for(self, file: SourceFile) -> Path:
        """The folder for the exports of an archive: its own one, unless the command line named only this archive."""
        if self.sources.is_one_archive:
            return self.output_dir
        archives = [other for other in self.sources.refresh() if not other.is_car]
        if file not in archives:
            raise ArchiveError(f"{file.name} is not there any more", "load the page again")
        return self.output_dir / ArchiveList([other.path for other in archives]).name(archives.index(file))


def site_of(request: Request) -> Site:
    """The site of a request."""
    site: Site = request.app.state.site
    return site


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a form that was sent.

    Raises:
        OptionError: It is not a form of this site.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    if kind != "application/x-www-form-urlencoded":
        raise OptionError("this is not a form of this page", "load the page again")
    try:
        pairs = parse_qsl((await request.body()).decode("ascii"), strict_parsing=False, max_num_fields=_MOST_FIELDS,
                          errors="strict")  # fmt: skip
    except ValueError:
        raise OptionError("this is not a form of this page", "load the page again") from None
    return dict(pairs)


def see_other(request: Request, path: str) -> Response:
    """The answer to a form: another page, which can be loaded again.

    Args:
        request: The request.
        path: Of the page, like "/exports".
    """
    return RedirectResponse(request.scope["root_path"] + path, 303)


@functools.cache
def _environment() -> Any:
    templates = environment(Path(__file__).parent / "templates")
    templates.filters["size"] = format_size
    templates.filters["duration"] = duration
    return templates


def render(request: Request, template: str, status: int = 200, **values: object) -> Response:
    """A page of the site."""
    site = site_of(request)
    text = (
        _environment()
        .get_template(template)
        .render(
            **values,
            exporter=f"skyexport {__version__}",
            active_jobs=len(site.jobs.active),
            path=request.scope["path"].removeprefix(request.scope["root_path"]),
            root=request.scope["root_path"],
        )
    )
    # Names of files that are not UTF-8 have lone surrogates.
    return HTMLResponse(text.encode(errors="replace"), status)
