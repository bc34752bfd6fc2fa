"""Answers that are not pages: files, whole or in part, zip files, and the stream of events."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Iterator
from io import RawIOBase

import orjson
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from skyexport.errors import OptionError
from skyexport.web.exports import READ_BYTES, ServedFile
from skyexport.web.site import Site, site_of

__all__ = ["SHOWN_TYPES", "events", "file_response", "poll"]

SHOWN_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "txt": "text/plain; charset=utf-8",
    "svg": "image/svg+xml",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "png": "image/png",
    "gif": "image/gif",
    "webp": "image/webp",
    "avif": "image/avif",
    "mp4": "video/mp4",
    "webm": "video/webm",
}
"""Suffix → type, of files that browsers show; any other file is downloaded."""

_RANGE = re.compile(r"bytes=([0-9]{1,18})-([0-9]{0,18})")

_HEARTBEAT_SECONDS = 10.0
"""A connection that is silent for longer may be dropped by what lies between."""

_LEAST_SECONDS = 0.25
"""Between two events: four in a second look like motion."""


def file_response(
    request: Request, file: ServedFile, kind: str = "", headers: dict[str, str] | None = None
) -> Response:
    """Send a file that was opened, or the part that the request asks for.

    Args:
        request: The request.
        file: The file; its descriptor is closed in the end.
        kind: Its type, for a file that is shown; empty for one that is downloaded.
        headers: Further headers.
    """
    sent = {"accept-ranges": "bytes", **(headers or {})}
    if not kind:
        sent["content-disposition"] = f'attachment; filename="{file.name}"'
    first, last, status = 0, file.bytes - 1, 200
    if (part := _RANGE.fullmatch(request.headers.get("range", ""))) and int(part[1]) < file.bytes:
        first, last, status = int(part[1]), min(int(part[2] or last), last), 206
        sent["content-range"] = f"bytes {first}-{last}/{file.bytes}"
    count = max(0, last - first + 1)
    sent["content-length"] = str(count)
    if request.method == "HEAD":
        os.close(file.descriptor)
        return Response(None, status, sent, kind or "application/octet-stream")
    pieces = _pieces(os.fdopen(file.descriptor, "rb", buffering=0), first, count)
    return StreamingResponse(pieces, status, sent, kind or "application/octet-stream")


def _pieces(file: RawIOBase, first: int, count: int) -> Iterator[bytes]:
    with file:
        file.seek(first)
        while count:
            data = file.read(min(count, READ_BYTES))
            if not data:
                raise OptionError("the file became shorter while it was sent")
            count -= len(data)
            yield data


def _state(site: Site) -> bytes:
    """The state that pages show while something is running: made once for all who listen."""
    version = site.jobs.version
    if site.shown_state[0] != version:
        state = {"jobs": [job.to_dict() for job in site.jobs.all], "counting": site.sources.counting()}
        site.shown_state = version, orjson.dumps(state)
    return site.shown_state[1]


async def poll(request: Request) -> Response:
    """The present state, once."""
    return Response(_state(site_of(request)), media_type="application/json")


async def events(request: Request) -> Response:
    """The present state, and again after each change: server-sent events.

    Nothing is queued: a reader that is slow gets the state that is the present one when it is ready for it.
    """
    site = site_of(request)
    if site.stopping.is_set():
        return JSONResponse({}, 503)

    async def stream() -> AsyncIterator[bytes]:
        last = b""
        while not site.stopping.is_set():
            version = site.jobs.version
            state = _state(site)
            if state != last:
                last = state
                yield b"id: %d\ndata: %s\n\n" % (version, state)
            else:
                yield b": still here\n\n"
            await asyncio.sleep(_LEAST_SECONDS)
            await _change_or_end(site, version)

    return StreamingResponse(stream(), media_type="text/event-stream")


async def _change_or_end(site: Site, version: int) -> None:
    """Wait for a change after *version*, for the end of the server, or for the time of a heartbeat."""
    waits = [
        asyncio.ensure_future(site.jobs.changed_since(version, _HEARTBEAT_SECONDS)),
        asyncio.ensure_future(site.stopping.wait()),
    ]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
