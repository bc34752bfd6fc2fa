"""The addresses of the site, and what its errors become."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from skyexport.errors import AlreadyRunningError, ArchiveBusyError, ExportError, NoExportError
from skyexport.pages.templating import assets as assets_of_pages
from skyexport.web import archive_routes, export_routes, job_routes
from skyexport.web.guard import PAGES
from skyexport.web.responses import SHOWN_TYPES, events, poll
from skyexport.web.site import MissingError, Site, render

__all__ = ["application"]


def _own_assets() -> dict[str, bytes]:
    folder = Path(__file__).parent / "assets"
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix in (".css", ".js", ".svg")}


_ASSETS = {**assets_of_pages(), **_own_assets()}


async def _asset(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in _ASSETS:
        raise MissingError("there is no such file")
    return Response(_ASSETS[name], media_type=SHOWN_TYPES[name.rpartition(".")[2]])


_STATUS = {NoExportError: 404, AlreadyRunningError: 409, ArchiveBusyError: 503}
"""Error → status of its page; 400 for all others."""


async def _failed(request: Request, error: Exception) -> Response:
    """The page of an error that a user can understand."""
    assert isinstance(error, ExportError)
    status = _STATUS.get(type(error), 400)
    return render(request, "error.html", status, message=error.message, hint=error.hint)


async def _missing(request: Request, error: Exception) -> Response:
    message = "there is no such page" if isinstance(error, HTTPException) else str(error)
    status = error.status_code if isinstance(error, HTTPException) else 404
    return render(request, "error.html", status, message=message, hint="")


async def _unexpected(request: Request, error: Exception) -> Response:
    """The page of a bug, whose traceback goes to the terminal."""
    for line in traceback.format_exception(error):
        print(f"  {line.rstrip()}", file=sys.stderr)  # noqa: T201
    message = f"unexpected {type(error).__name__}: {error}"
    return render(request, "error.html", 500, message=message, hint="please report it; the terminal shows more")


def application(site: Site) -> Starlette:
    """The site as an ASGI application; the guard belongs in front of it."""
    number = "{number:int}"
    app = Starlette(
        routes=[
            Route("/", archive_routes.archives_page),
            Route(f"/archives/{number}", archive_routes.archive_page),
            Route(f"/archives/{number}/posts", archive_routes.posts_page),
            Route(f"/archives/{number}/authors", archive_routes.authors_page),
            Route(f"/archives/{number}/media/{{name}}", archive_routes.media_file),
            Route(f"/archives/{number}/export", job_routes.export_form),
            Route(f"/archives/{number}/check", job_routes.check_export, methods=["POST"]),
            Route(f"/cars/{number}/import", archive_routes.import_car, methods=["POST"]),
            Route("/jobs", job_routes.jobs_page),
            Route(f"/jobs/{number}", job_routes.job_page),
            Route(f"/jobs/{number}/start", job_routes.start_export, methods=["POST"]),
            Route(f"/jobs/{number}/stop", job_routes.stop_job, methods=["POST"]),
            Route("/exports", export_routes.exports_page),
            Route(f"/exports/{number}", export_routes.export_page),
            Route(f"/exports/{number}/download", export_routes.download),
            Route(f"/exports/{number}/zip", export_routes.export_zip),
            Route(f"/exports/{number}/files/{{index:int}}", export_routes.export_file),
            Route(f"/exports/{number}/verify", export_routes.verify_export, methods=["POST"]),
            Route(f"/exports/{number}/delete", export_routes.confirm_delete),
            Route(f"/exports/{number}/delete", export_routes.delete_export, methods=["POST"]),
            Route(f"/{PAGES}/{{key}}/{number}/{{path:path}}", export_routes.page_of_export),
            Route("/events", events),
            Route("/state", poll),
            Route("/assets/{name}", _asset),
        ],
        exception_handlers={
            ExportError: _failed,
            MissingError: _missing,
            HTTPException: _missing,
            Exception: _unexpected,
        },
    )
    app.state.site = site
    return app
