"""Pages about exports: all of them, one of them with its files, and what can be done with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from skyexport.web.exports import Export, check_zip, zip_chunks
from skyexport.web.guard import PAGES
from skyexport.web.jobs import Job
from skyexport.web.responses import SHOWN_TYPES, file_response
from skyexport.web.site import MissingError, Site, form_of, render, see_other, site_of

__all__ = [
    "confirm_delete",
    "delete_export",
    "download",
    "export_file",
    "export_page",
    "export_zip",
    "exports_page",
    "page_of_export",
    "verify_export",
]

_EXPORTS_ON_A_PAGE = 100

_HEADERS_OF_PAGES = {
    # Without allow-same-origin: pages that a stranger made can neither read nor do anything here.
    "content-security-policy": (
        "sandbox allow-scripts allow-forms allow-popups allow-popups-to-escape-sandbox; default-src 'none';"
        " script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self'; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'"
    ),
    # The page has an origin of its own, and its address has a key that nobody else knows.
    "cross-origin-resource-policy": "cross-origin",
    "referrer-policy": "no-referrer",
}


async def exports_page(request: Request) -> Response:
    """All exports, the newest first."""
    site = site_of(request)
    exports = await run_in_threadpool(site.exports.all)
    page = max(1, int(request.query_params.get("page", "1")[:6])) if _has_page(request) else 1
    shown = exports[(page - 1) * _EXPORTS_ON_A_PAGE : page * _EXPORTS_ON_A_PAGE]
    working = [] if site.jobs.active else await run_in_threadpool(site.exports.working)
    rows = [(export, _verified(site, export)) for export in shown]
    return render(
        request, "exports.html", rows=rows, count=len(exports), page=page, working=working, folder=site.output_dir,
        more=page * _EXPORTS_ON_A_PAGE < len(exports), pages_of=_pages_of(site),
    )  # fmt: skip


def _has_page(request: Request) -> bool:
    text = request.query_params.get("page", "")
    return text.isascii() and text.isdigit()


def _pages_of(site: Site) -> Callable[[Export], str]:
    """The address of the first page of an export."""
    return lambda export: f"/{PAGES}/{site.pages_key(export.number)}/{export.number}/index.html"


def _verified(site: Site, export: Export) -> Job | None:
    """The latest verification of an export by this server."""
    jobs = (job for job in reversed(site.jobs.all) if job.kind == "verify")
    return next((job for job in jobs if job.about["verified"] == export.number), None)


async def export_page(request: Request) -> Response:
    """One export."""
    site = site_of(request)
    export = await run_in_threadpool(site.export, request.path_params["number"])
    return render(
        request, "export.html", export=export, verified=_verified(site, export), pages_of=_pages_of(site),
        archive=Path(export.archive).name,
    )  # fmt: skip


async def verify_export(request: Request) -> Response:
    """Start the verification of an export."""
    site = site_of(request)
    await form_of(request)
    export = await run_in_threadpool(site.export, request.path_params["number"])
    arguments = site.command("verify", str(export.directory))
    job = site.jobs.add("verify", f"Verification of {export.place}", arguments, verified=export.number)
    return see_other(request, f"/jobs/{job.number}")


async def confirm_delete(request: Request) -> Response:
    """Ask whether an export is to be deleted."""
    site = site_of(request)
    export = await run_in_threadpool(site.export, request.path_params["number"])
    needed_by = await run_in_threadpool(site.exports.building_on, export)
    return render(request, "delete.html", export=export, needed_by=needed_by)


async def delete_export(request: Request) -> Response:
    """Delete an export."""
    site = site_of(request)
    await form_of(request)
    export = await run_in_threadpool(site.export, request.path_params["number"])
    await run_in_threadpool(site.exports.remove, export)
    return see_other(request, "/exports")


async def export_file(request: Request) -> Response:
    """One file of an export, by its place in the list."""
    site = site_of(request)
    export = await run_in_threadpool(site.export, request.path_params["number"])
    return file_response(request, await run_in_threadpool(site.exports.open_data, export, request.path_params["index"]))


async def download(request: Request) -> Response:
    """An export as a download: the file itself if it is a single one, else a zip file."""
    site = site_of(request)
    export = await run_in_threadpool(site.export, request.path_params["number"])
    if export.single_file:
        return file_response(request, await run_in_threadpool(site.exports.open_data, export, 0))
    return await _zip(request, export)


async def export_zip(request: Request) -> Response:
    """An export with all its files as a zip file."""
    return await _zip(request, await run_in_threadpool(site_of(request).export, request.path_params["number"]))


async def _zip(request: Request, export: Export) -> Response:
    await run_in_threadpool(check_zip, export)
    headers = {"content-disposition": f'attachment; filename="{export.directory.name}.zip"'}
    if request.method == "HEAD":
        return Response(None, headers=headers, media_type="application/zip")
    return StreamingResponse(zip_chunks(export), headers=headers, media_type="application/zip")


async def page_of_export(request: Request) -> Response:
    """A file of an HTML export, for its pages."""
    site = site_of(request)
    export = await run_in_threadpool(site.export, request.path_params["number"])
    path: str = request.path_params["path"]
    kind = SHOWN_TYPES.get(path.rpartition(".")[2], "")
    if kind.startswith("image/svg") or not kind:
        raise MissingError("there is no such page")
    file = await run_in_threadpool(site.exports.open_page, export, path)
    return file_response(request, file, kind, dict(_HEADERS_OF_PAGES))
