"""Pages about archives: all of them, one of them, its posts, its authors, and its media files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from skyexport.archive.archive import Archive
from skyexport.archive.authors import Author
from skyexport.errors import ExportError, OptionError
from skyexport.pages.index_pages import bars
from skyexport.pages.paths import MONTHS, month_text
from skyexport.pages.views import Bar, Month
from skyexport.posts import as_bytes
from skyexport.runtime.media_root import MediaFile, MediaRoot, UnsafePathError
from skyexport.web.browsing import Wanted, posts_of
from skyexport.web.exports import ServedFile
from skyexport.web.responses import SHOWN_TYPES, file_response
from skyexport.web.site import MissingError, form_of, render, see_other, site_of
from skyexport.web.sources import Facts, SourceFile

__all__ = ["archive_page", "archives_page", "authors_page", "import_car", "media_file", "posts_page"]

_AUTHORS_ON_A_PAGE = 100

_MOST_MONTHS = 600
"""Months that can be chosen from a list: fifty years."""

_LONGEST_PATH_BYTES = 5000


async def archives_page(request: Request) -> Response:
    """All archives and CAR files."""
    site = site_of(request)
    files = site.sources.refresh()
    rows = [(file, *_facts_or_error(request, file)) for file in files if not file.is_car]
    counting = site.sources.counting()
    cars = [(file, file.path.stat().st_size, file.path.with_suffix(".db").name) for file in files if file.is_car]
    return render(request, "archives.html", rows=rows, cars=cars, counting=counting, live=bool(counting))


def _facts_or_error(request: Request, file: SourceFile) -> tuple[Facts | None, str, int]:
    """The facts about an archive, or why there can be none; and the size of its file."""
    try:
        facts = site_of(request).sources.facts(file)
        size = file.path.stat().st_size
    except (ExportError, OSError) as error:
        return None, str(error), 0
    if facts is not None and not facts.is_ok:
        return None, _error_of(facts.values), size
    return facts, "", size


def _error_of(values: Mapping[str, Any]) -> str:
    return "; ".join(filter(None, [values.get("error"), values.get("hint")])) or "it cannot be read"


async def archive_page(request: Request) -> Response:
    """One archive: what `inspect` says, and a chart."""
    site = site_of(request)
    file = site.archive(request.path_params["number"])
    facts, error, size = _facts_or_error(request, file)
    counting = site.sources.counting()
    chart = _chart(request.scope["root_path"], file, facts)
    return render(
        request, "archive.html", file=file, facts=facts, error=error, size=size, chart=chart,
        counting=counting, live=file.number in counting,
    )  # fmt: skip


def _chart(root: str, file: SourceFile, facts: Facts | None) -> list[Bar]:
    if facts is None:
        return []
    address = f"{root}/archives/{file.number}/posts?month="
    return bars([
        (month, Month(name=MONTHS[int(month[5:]) - 1], href=address + month, posts=posts))
        for month, posts in facts.values["months"].items() if _is_month(month)
    ])  # fmt: skip


def _is_month(month: str) -> bool:
    return len(month) == 7 and month.replace("-", "").isdigit() and 1 <= int(month[5:]) <= 12


def _number_in(request: Request, name: str) -> int | None:
    text = request.query_params.get(name, "")
    if not text:
        return None
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 19):
        raise OptionError(f"{text[:30]!r} is not a place in the list", "go back to the newest posts")
    return int(text)


async def posts_page(request: Request) -> Response:
    """Fifty posts of an archive."""
    site = site_of(request)
    file = site.archive(request.path_params["number"])
    asked = {name: request.query_params.get(name, "").strip()[:1000] for name in ("month", "author", "words")}
    address = f"{request.scope['root_path']}/archives/{file.number}"
    listing, error, status = None, "", 200
    try:
        at, after, before = (_number_in(request, name) for name in ("at", "after", "before"))
        wanted = Wanted(asked["month"], asked["author"], asked["words"], at, after, before)
        listing = await site.read(file, partial(posts_of, wanted=wanted, address=address))
    except ExportError as failure:
        # Hints name options, but for one that quotes the words.
        hint = failure.hint.replace("--match ", "")
        error, status = "; ".join(filter(None, [failure.message, hint if "--" not in hint else ""])), 400
    facts, *_ = _facts_or_error(request, file)
    months: list[tuple[str, str]] = []
    if facts is not None:
        known = [month for month in facts.values["months"] if _is_month(month)]
        months = [(month, month_text(month)) for month in reversed(known[-_MOST_MONTHS:])]

    def link(**place: int) -> str:
        return "?" + urlencode({**{name: value for name, value in asked.items() if value}, **place})

    newer = link(before=listing.first) if listing is not None and listing.first is not None else ""
    older = link(after=listing.last) if listing is not None and listing.last is not None else ""
    # A page of large posts takes long to fill in.
    return await run_in_threadpool(
        render, request, "posts_list.html", status, file=file, listing=listing, error=error, asked=asked, months=months,
        facts=facts, newer=newer, older=older, newest=link() if newer else "",
    )  # fmt: skip


async def authors_page(request: Request) -> Response:
    """The authors of an archive, a hundred at a time."""
    site = site_of(request)
    file = site.archive(request.path_params["number"])
    first = max(0, _number_in(request, "from") or 0)

    def read(archive: Archive) -> tuple[int, list[Author]]:
        return archive.count_authors(), list(archive.authors(_AUTHORS_ON_A_PAGE, first))

    count, authors = await site.read(file, read)
    return render(
        request, "authors_list.html", file=file, authors=authors, count=count, first=first,
        older=first + _AUTHORS_ON_A_PAGE if first + _AUTHORS_ON_A_PAGE < count else None,
        newer=max(0, first - _AUTHORS_ON_A_PAGE) if first else None,
    )  # fmt: skip


async def media_file(request: Request) -> Response:
    """A media file of an archive, by the row id of its row."""
    site = site_of(request)
    file = site.archive(request.path_params["number"])
    row_id, _, suffix = request.path_params["name"].partition(".")
    if not (row_id.isascii() and row_id.isdigit() and len(row_id) < 19) or suffix not in SHOWN_TYPES:
        raise MissingError("there is no such file")
    served = await site.read(file, partial(_open_media, row_id=int(row_id), suffix=suffix))
    return file_response(request, served, SHOWN_TYPES[suffix], {"cache-control": "private, max-age=3600"})


def _open_media(archive: Archive, row_id: int, suffix: str) -> ServedFile:
    """Open the file of a row of media, if it is an image or a video."""
    if not archive.schema.has_media_columns or SHOWN_TYPES[suffix].partition("/")[0] not in ("image", "video"):
        raise MissingError("there is no such file")
    with archive.translating_errors():
        row: Any = archive.connection.execute(
            f"select cast(hash as blob), substr(cast(file_path as blob), 1, {_LONGEST_PATH_BYTES}) from media"
            " where rowid = ?",
            (row_id,),
        ).fetchone()
    if row is None:
        raise MissingError("there is no such file")
    media = MediaFile(as_bytes(row[0]).decode(errors="replace"), os.fsdecode(as_bytes(row[1])))
    if media.name is None or media.name.rpartition(".")[2] != suffix or suffix == "svg":
        raise MissingError("there is no such file")
    try:
        with MediaRoot(archive.path.parent) as root:
            descriptor = root.open(media.file_path)
    except (OSError, UnsafePathError, OptionError):
        raise MissingError("this file is not there") from None
    return ServedFile(descriptor, os.fstat(descriptor).st_size, media.name)


async def import_car(request: Request) -> Response:
    """Start the import of a CAR file, into an archive beside it."""
    site = site_of(request)
    file = site.sources.find(request.path_params["number"])
    if file is None or not file.is_car:
        raise MissingError("there is no CAR file with this number")
    form = await form_of(request)
    handle = form.get("handle", "").strip()[:300]
    if not handle.isprintable():
        raise OptionError("a handle has no control characters", "write it like alice.bsky.social")
    arguments = [str(file.path), f"--to={_beside(file.path)}", *([f"--handle={handle}"] if handle else [])]
    job = site.jobs.add("import", f"Import of {file.name}", site.command("import", *arguments))
    return see_other(request, f"/jobs/{job.number}")


def _beside(car: Path) -> Path:
    """The archive that a CAR file becomes: beside it, with the same name."""
    return car.with_suffix(".db")
