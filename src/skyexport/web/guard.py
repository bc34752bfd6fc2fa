"""The rules that every request must obey before anything else sees it.

Other users of this machine, and pages from elsewhere in the same browser, can send requests to 127.0.0.1, too. So:

1. One Host header, which names this server literally, else 421: a name of the attacker's may lead here as well.
2. GET, HEAD and POST only, and a path of plain names without any escape, else 405 and 400.
3. No Origin but this one; and nothing but GET and HEAD without it, or if the browser says that another site asks: 403.
4. The key of this run at the beginning of the path, and the session's cookie, else 401. Both come from an address that
   works once and that only the user gets. The cookie alone would not do: browsers send it to servers on other ports,
   which may be those of other users. Pages of exports have keys of their own instead, one an export: browsers keep
   them apart from this site and from each other, as they may be a stranger's.
5. A head of at most 16 KiB, and a body of at most 64 KiB that comes within ten seconds, else 431, 413 and 408.

Every answer says that browsers keep, guess, frame and lend nothing of it.

Source: CVE-2024-28224 and CVE-2025-66414 (rule 1), the Fetch and Cookie standards (rules 3 and 4).
"""

from __future__ import annotations

import asyncio
import hmac
import re
import secrets
from collections.abc import Callable, Sequence

from starlette.datastructures import MutableHeaders
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from skyexport.runtime.for_tests import Limit

__all__ = ["MOST_HEAD_BYTES", "PAGES", "REQUEST_SECONDS", "Guard"]

_CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self'; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

_HEADERS = {
    "content-security-policy": _CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # Not no-referrer: browsers would send `Origin: null` with our own forms.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
"""Header → value, unless an answer has set it."""

_PATH = re.compile(rb"/|(?:/[A-Za-z0-9_][A-Za-z0-9._-]{0,199}){1,12}/?")
"""Neither a percent sign, nor `..`, nor a hidden name, nor two slashes."""

_METHODS = ("GET", "HEAD", "POST")

MOST_HEAD_BYTES = 1 << 14
_MOST_BODY_BYTES = 1 << 16
REQUEST_SECONDS = Limit("REQUEST_SECONDS", 10.0)
"""For a client to send the head of a request, and as long again for its body."""

_NUMBER = re.compile("[1-9][0-9]{0,9}")
_PORT_OF_HTTP = 80
"""Browsers leave it out."""

PAGES = "pages"
"""First part of the addresses of pages of exports."""


class Guard:
    """An ASGI application in front of another one.

    Args:
        app: The application.
        port: The port that it listens on.
        hosts: Names and addresses by which it may be called.
        on_entry: Called when a one-time address was used. The next one is in `entry` by then.
    """

    def __init__(self, app: ASGIApp, port: int, hosts: Sequence[str], on_entry: Callable[[], None]) -> None:
        self._app = app
        names = [host.lower().encode() for host in hosts]
        self._hosts = {name + b":%d" % port for name in names} | ({*names} if port == _PORT_OF_HTTP else set())
        self._origins = {b"http://" + host for host in self._hosts}
        self._cookie = f"skyexport-{port}"
        self._session = secrets.token_hex(32)
        self._on_entry = on_entry
        self.root = f"/{secrets.token_hex(32)}"
        """Beginning of the paths of the site: its key."""
        self._pages_secret = secrets.token_bytes(32)
        self.entry = secrets.token_hex(32)
        """The secret of the one-time address that works now."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        answer = self._answer(scope)
        body = b""
        if answer is None and scope["method"] == "POST":
            try:
                async with asyncio.timeout(REQUEST_SECONDS.value):
                    body = await _body(receive)
            except TimeoutError:
                answer = PlainTextResponse("The request takes too long.", 408)
            except ValueError:
                answer = PlainTextResponse("The request is too large.", 413)
        if answer is not None:
            # The rest of a request that was refused is not read.
            answer.headers["connection"] = "close"
            await answer(scope, receive, _with_headers(send))
            return
        if not scope["path"].startswith(f"/{PAGES}/"):
            scope = {**scope, "root_path": self.root}
        await self._app(scope, _replayed(body, receive), _with_headers(send))

    def pages_key(self, number: int) -> str:
        """The key in the addresses of the pages of an export."""
        return hmac.new(self._pages_secret, b"%d" % number, "sha256").hexdigest()

    def _answer(self, scope: Scope) -> Response | None:
        """The answer to a request that breaks a rule, or uses the one-time address; None to let it pass."""
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        hosts = [value for name, value in headers if name == b"host"]
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            return PlainTextResponse("This server has another name.", 421)
        if sum(len(name) + len(value) for name, value in headers) > MOST_HEAD_BYTES:
            return PlainTextResponse("The head of the request is too large.", 431)
        if scope["method"] not in _METHODS:
            return PlainTextResponse("Method not allowed.", 405, {"allow": ", ".join(_METHODS)})
        if not _PATH.fullmatch(scope["raw_path"]):
            return PlainTextResponse("There is no such path.", 400)
        if not self._is_of_this_site(headers, reads=scope["method"] != "POST"):
            return PlainTextResponse("Another site asked for this.", 403)
        first, _, secret = scope["path"].removeprefix("/").partition("/")
        if first == "start":
            return self._enter(secret, scope["method"])
        if first == PAGES and scope["method"] != "POST":
            key, _, rest = secret.partition("/")
            number = rest.partition("/")[0]
            right = self.pages_key(int(number)) if _NUMBER.fullmatch(number) else secrets.token_hex(32)
            return None if hmac.compare_digest(key.encode(), right.encode()) else _lost()
        if not (hmac.compare_digest(f"/{first}".encode(), self.root.encode()) and self._is_known(headers)):
            return _lost()
        return None

    def _is_of_this_site(self, headers: list[tuple[bytes, bytes]], *, reads: bool) -> bool:
        origins = [value for name, value in headers if name == b"origin"]
        if not self._origins.issuperset(origins) or len(origins) > 1:
            return False
        sites = {value for name, value in headers if name == b"sec-fetch-site"}
        return reads or (bool(origins) and sites <= {b"same-origin"})

    def _is_known(self, headers: list[tuple[bytes, bytes]]) -> bool:
        """Whether the request has the session's cookie, once."""
        cookies = b"; ".join(value for name, value in headers if name == b"cookie").split(b";")
        prefix = f"{self._cookie}=".encode()
        found = [cookie.strip().removeprefix(prefix) for cookie in cookies if cookie.strip().startswith(prefix)]
        return len(found) == 1 and hmac.compare_digest(found[0], self._session.encode())

    def _enter(self, secret: str, method: str) -> Response:
        """The answer to a one-time address: the cookie, and the way on."""
        if method != "GET" or not hmac.compare_digest(secret.encode(), self.entry.encode()):
            return _lost()
        self.entry = secrets.token_hex(32)
        self._on_entry()
        # A redirect would count as one from the file that led here, and browsers would hold back the cookie.
        response = HTMLResponse(_GO_ON.format(root=self.root))
        response.headers["referrer-policy"] = "no-referrer"
        response.set_cookie(self._cookie, self._session, httponly=True, samesite="strict", path=self.root)
        return response


def _lost() -> Response:
    return PlainTextResponse("This page needs its key: open it with the address in the terminal of skyexport ui.", 401)


_GO_ON = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>skyexport</title>
<link rel="icon" href="{root}/assets/icon.svg">
<meta http-equiv="refresh" content="0;url={root}/"></head>
<body><p><a href="{root}/">Go on</a></p></body></html>
"""


async def _body(receive: Receive) -> bytes:
    """The body of a request.

    Raises:
        ValueError: It is too large.
    """
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > _MOST_BODY_BYTES:
            raise ValueError("too large")
        if not message.get("more_body", False):
            return bytes(body)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """`receive` that begins with a body that was read already; after it comes the end of the connection."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _with_headers(send: Send) -> Send:
    """`send` that adds the headers of all answers."""

    async def add(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return add
