"""Browsers for tests, driven over their own protocols: Chromium over pipes, Firefox over a socket of this machine.

    with Chromium() as browser:
        browser.open(folder / "index.html")
        assert browser.evaluate("document.title") == "Posts"
        assert browser.errors() == []

A test takes the fixtures `chromium`, `firefox`, or `browser` for both, by importing them. They skip the test where the
browser is not installed, or fail it if TEST_BROWSERS=require is set. Browsers have new profiles; they reach no
other machine.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

__all__ = ["BROWSERS", "Browser", "BrowserError", "Chromium", "Firefox", "browser", "chromium", "firefox"]

_TIMEOUT_SECONDS = 60.0
"""For a browser to start, and for everything that it has to do: machines that test are slow."""

_POLL_SECONDS = 0.02

_READ_BYTES = 1 << 16

_LAUNCHER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Becomes Chromium with its pipes where it looks for them."""

_CHROMIUM_FLAGS = [
    "--headless",
    "--remote-debugging-pipe",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-breakpad",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--no-default-browser-check",
    "--no-first-run",
    "--lang=en-US",
]

_FIREFOX_PREFERENCES: dict[str, bool | int | str] = {
    "marionette.port": 0,  # one that is free, written to a file of the profile
    "app.normandy.enabled": False,
    "app.update.disabledForTesting": True,
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.page": 0,
    "browser.topsites.contile.enabled": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "extensions.systemAddon.update.enabled": False,
    "extensions.update.enabled": False,
    "intl.locale.requested": "en-US",
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "network.proxy.type": 1,  # a proxy that is not there: no host can be reached
    "network.proxy.http": "127.0.0.1",
    "network.proxy.http_port": 9,
    "network.proxy.no_proxies_on": "127.0.0.1",
    "network.proxy.ssl": "127.0.0.1",
    "network.proxy.ssl_port": 9,
    "services.settings.server": "data:,",
    "toolkit.telemetry.server": "data:,",
}

_FIREFOX_WATCH = """
if (!globalThis.skyexportRequests) {
  globalThis.skyexportRequests = [];
  Services.obs.addObserver((channel) => {
    const request = channel.QueryInterface(Ci.nsIHttpChannel);
    if (request.loadInfo.browsingContext) globalThis.skyexportRequests.push(request.URI.spec);
  }, "http-on-modify-request");
}
"""
"""Notes what pages ask of hosts, also in vain."""

_FIREFOX_ERRORS = """
const reports = Services.console.getMessageArray()
  .filter((m) => m instanceof Ci.nsIScriptError && !(m.flags & Ci.nsIScriptError.warningFlag))
  .filter((m) => !/^(chrome|resource|moz-extension):/.test(m.sourceName))
  .map((m) => m.errorMessage + " (" + m.sourceName + ":" + m.lineNumber + ")");
Services.console.reset();
return reports;
"""
"""What the browser itself said of errors in pages."""

_FIREFOX_CALLS = """
const storage = Cc["@mozilla.org/consoleAPI-storage;1"].getService(Ci.nsIConsoleAPIStorage);
const calls = storage.getEvents().filter((e) => e.level === "error").map((e) => e.arguments.join(" "));
storage.clearEvents();
return calls;
"""
"""What pages said by `console.error`."""


class BrowserError(Exception):
    """A script in the page failed, or the browser refused something."""


class Browser:
    """A browser with one window, as a context: it starts when it is made, and it is gone at the end.

    Attributes:
        executable: Where Debian installs it.
    """

    executable: Path

    def __init__(self) -> None:
        """Start the browser.

        Raises:
            OSError: It is not installed.
            TimeoutError: It does not answer.
        """
        self._profile = Path(tempfile.mkdtemp(prefix="skyexport-browser-"))
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the browser with all of its processes, and remove its profile."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(Exception):
                self._quit()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=10)
            deadline = time.monotonic() + 10
            with contextlib.suppress(ProcessLookupError):
                while time.monotonic() < deadline:
                    os.killpg(process.pid, signal.SIGKILL)  # until nothing of its group is left
                    process.poll()
                    time.sleep(_POLL_SECONDS)
            process.wait(timeout=10)
        self._disconnect()
        shutil.rmtree(self._profile, ignore_errors=True)

    def open(self, path: Path | str) -> None:
        """Open a file, or an address, and wait until it has been loaded.

        Raises:
            BrowserError: The browser cannot open it.
        """
        self._navigate(path.resolve().as_uri() if isinstance(path, Path) else path)

    def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression in the page, as JSON has it; of a promise, what it becomes.

        Raises:
            BrowserError: It threw something.
        """
        raise NotImplementedError

    def _value_now(self, script: str) -> Any:
        """The value of an expression; None while another page is being opened."""
        try:
            return self.evaluate(script)
        except BrowserError:
            return None

    def wait_for(self, script: str, timeout_seconds: float = 30) -> Any:
        """The value of an expression as soon as it counts as true.

        Raises:
            TimeoutError: It never does.
        """
        deadline = time.monotonic() + timeout_seconds
        while not (value := self._value_now(script)):
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"this did not become true: {script}; the page has {self._value_now('document.body.innerText')}"
                )
            time.sleep(_POLL_SECONDS)
        return value

    def errors(self) -> list[str]:
        """What consoles of pages said of errors since this was called last: exceptions, blocked or missing files."""
        raise NotImplementedError

    def requests(self) -> list[str]:
        """Addresses that pages asked for since this was called last; Firefox only notes those of hosts, not files."""
        raise NotImplementedError

    def set_viewport(self, width: int, height: int) -> None:
        """Make the page so large, in CSS pixels; below a width of 600, Chromium behaves like that of a phone."""
        raise NotImplementedError

    def set_color_scheme(self, scheme: str) -> None:
        """Let pages be `light` or `dark`."""
        raise NotImplementedError

    def screenshot(self, path: Path) -> None:
        """Save what the whole page looks like as PNG."""
        path.write_bytes(base64.b64decode(self._screenshot()))

    def _launch(self, arguments: list[str | Path], pass_fds: tuple[int, ...] = ()) -> None:
        """Start the process as the first of a group of its own."""
        self._process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=pass_fds,
            start_new_session=True,
            env={**os.environ, "HOME": str(self._profile), "MOZ_CRASHREPORTER_DISABLE": "1"},
        )

    def _start(self) -> None:
        raise NotImplementedError

    def _quit(self) -> None:
        raise NotImplementedError

    def _disconnect(self) -> None:
        raise NotImplementedError

    def _navigate(self, address: str) -> None:
        raise NotImplementedError

    def _screenshot(self) -> str:
        raise NotImplementedError


class Chromium(Browser):
    """Chromium, by the DevTools protocol: JSON messages that end in NUL."""

    executable = Path("/usr/bin/chromium")

    _to_browser = _from_browser = -1

    def _start(self) -> None:
        theirs_in, self._to_browser = os.pipe()
        self._from_browser, theirs_out = os.pipe()
        self._received = b""
        self._last_id = 0
        self._session = ""
        self._loaded = False
        self._errors: list[str] = []
        self._requests: list[str] = []
        passed = (theirs_in, theirs_out)
        assert theirs_out != 3, "the launcher would lose it"
        launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, *map(str, passed)]
        flags = [*_CHROMIUM_FLAGS, f"--user-data-dir={self._profile}"]
        try:
            self._launch([*launcher, self.executable, *flags, "about:blank"], pass_fds=passed)
        finally:
            for number in passed:
                os.close(number)
        self._new_tab()

    def open_tab(self) -> str:
        """Open another tab, to which everything goes from now on; returns the one before, for `use_tab`."""
        before, self._session = self._session, ""
        self._session = self._new_tab()
        return before

    def allow_downloads(self, folder: Path) -> None:
        """Put downloads into a folder, which is made."""
        folder.mkdir(exist_ok=True)
        session, self._session = self._session, ""
        self._call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
        self._session = session

    def use_tab(self, tab: str) -> str:
        """Go on in a tab that was left before; returns the present one."""
        before, self._session = self._session, tab
        self._call("Page.bringToFront")
        return before

    def _new_tab(self) -> str:
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        session: str = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._session = session
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")
        return session

    def _quit(self) -> None:
        self._session = ""
        self._call("Browser.close", timeout_seconds=5)

    def _disconnect(self) -> None:
        for number in (self._to_browser, self._from_browser):
            if number >= 0:
                os.close(number)
        self._to_browser = self._from_browser = -1

    def _call(self, method: str, timeout_seconds: float = _TIMEOUT_SECONDS, **parameters: Any) -> Any:
        """Call a method of the protocol and wait for its result."""
        self._last_id += 1
        message = {"id": self._last_id, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._to_browser, data) :]
        deadline = time.monotonic() + timeout_seconds
        while True:
            answer = self._receive(deadline)
            if answer.get("id") == self._last_id:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def _receive(self, deadline: float) -> dict[str, Any]:
        """The next message; events are noted."""
        while b"\0" not in self._received:
            if not select.select([self._from_browser], [], [], max(0, deadline - time.monotonic()))[0]:
                raise TimeoutError("Chromium does not answer")
            data = os.read(self._from_browser, _READ_BYTES)
            if not data:
                raise BrowserError("Chromium has gone")
            self._received += data
        line, _, self._received = self._received.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, event: str, parameters: dict[str, Any]) -> None:
        if event == "Page.loadEventFired":
            self._loaded = True
        elif event == "Network.requestWillBeSent":
            self._requests.append(parameters["request"]["url"])
        elif event == "Runtime.exceptionThrown":
            details = parameters["exceptionDetails"]
            self._errors.append(details.get("exception", {}).get("description", details["text"]))
        elif event == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "assert"):
            self._errors.append(" ".join(str(item.get("value", "")) for item in parameters["args"]))
        elif event == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self._errors.append(f"{parameters['entry']['text']} ({parameters['entry'].get('url', '')})")

    def _navigate(self, address: str) -> None:
        self._loaded = False
        result = self._call("Page.navigate", url=address)
        if result.get("errorText"):
            raise BrowserError(f"{address}: {result['errorText']}")
        deadline = time.monotonic() + _TIMEOUT_SECONDS
        while "loaderId" in result and not self._loaded:  # without one, only the fragment is another
            self._receive(deadline)

    def evaluate(self, script: str) -> Any:
        result = self._call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            details = result["exceptionDetails"]
            raise BrowserError(details.get("exception", {}).get("description", details["text"]))
        return result["result"].get("value")

    def errors(self) -> list[str]:
        self._call("Page.getFrameTree")  # reads the events before its answer
        errors, self._errors = self._errors, []
        return errors

    def requests(self) -> list[str]:
        self._call("Page.getFrameTree")
        requests, self._requests = self._requests, []
        return requests

    def set_viewport(self, width: int, height: int) -> None:
        self._call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def set_color_scheme(self, scheme: str) -> None:
        self._call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def _screenshot(self) -> str:
        size = self._call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        data: str = self._call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)["data"]
        return data


class Firefox(Browser):
    """Firefox ESR, by Marionette: JSON messages after their length and a colon."""

    executable = Path("/usr/bin/firefox-esr")

    _socket: socket.socket | None = None

    def _start(self) -> None:
        lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in _FIREFOX_PREFERENCES.items()]
        (self._profile / "user.js").write_text("\n".join(lines))
        flags = ["--headless", "--marionette", "--remote-allow-system-access", "--no-remote", "--profile"]
        self._launch([self.executable, *flags, self._profile])
        self._received = b""
        self._last_id = 0
        self._socket = self._connected()
        self._read()  # it greets
        self._call("WebDriver:NewSession", acceptInsecureCerts=False)
        self._call("WebDriver:SetTimeouts", script=int(_TIMEOUT_SECONDS * 1000))
        self._privileged(_FIREFOX_WATCH)
        self.errors()

    def _connected(self) -> socket.socket:
        """A connection, as soon as the browser takes one."""
        port_file = self._profile / "MarionetteActivePort"
        deadline = time.monotonic() + _TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, ValueError):
                connection = socket.create_connection(("127.0.0.1", int(port_file.read_text())), timeout=5)
                connection.settimeout(_TIMEOUT_SECONDS + 10)
                return connection
            if self._process is not None and self._process.poll() is not None:
                raise BrowserError("Firefox ended at once")
            time.sleep(_POLL_SECONDS)
        raise TimeoutError("Firefox does not start")

    def _quit(self) -> None:
        if self._socket is not None:
            self._socket.settimeout(5)
            self._call("Marionette:Quit", flags=["eForceQuit"])

    def _disconnect(self) -> None:
        if self._socket is not None:
            self._socket.close()

    def _read(self) -> Any:
        """The next message."""
        assert self._socket is not None
        while b":" not in self._received:
            self._receive()
        length, _, self._received = self._received.partition(b":")
        size = int(length)
        while len(self._received) < size:
            self._receive()
        message, self._received = self._received[:size], self._received[size:]
        return json.loads(message)

    def _receive(self) -> None:
        assert self._socket is not None
        data = self._socket.recv(_READ_BYTES)
        if not data:
            raise BrowserError("Firefox has gone")
        self._received += data

    def _call(self, command: str, **parameters: Any) -> Any:
        """Call a command of the protocol and wait for its result."""
        assert self._socket is not None
        self._last_id += 1
        message = json.dumps([0, self._last_id, command, parameters]).encode()
        self._socket.sendall(b"%d:%b" % (len(message), message))
        while True:
            _, number, error, result = self._read()
            if number == self._last_id:
                if error:
                    raise BrowserError(f"{command}: {error['message']}")
                return result

    def _privileged(self, script: str, *arguments: Any) -> Any:
        """The result of a function body that may do what the browser itself may."""
        self._call("Marionette:SetContext", value="chrome")
        try:
            return self._call(
                "WebDriver:ExecuteScript", script=script, args=arguments, newSandbox=False, sandbox="skyexport"
            )["value"]
        finally:
            self._call("Marionette:SetContext", value="content")

    def _navigate(self, address: str) -> None:
        self._call("WebDriver:Navigate", url=address)

    def evaluate(self, script: str) -> Any:
        body = f"return (async () => (\n{script}\n))()"  # no eval, which the page's policy may forbid
        return self._call("WebDriver:ExecuteScript", script=body, args=[], newSandbox=True, sandbox=None)["value"]

    def errors(self) -> list[str]:
        parameters = {"script": _FIREFOX_CALLS, "args": [], "newSandbox": True, "sandbox": "system"}
        calls: list[str] = self._call("WebDriver:ExecuteScript", **parameters)["value"]
        reports: list[str] = self._privileged(_FIREFOX_ERRORS)
        return reports + calls

    def requests(self) -> list[str]:
        requests: list[str] = self._privileged("return globalThis.skyexportRequests.splice(0)")
        return requests

    def set_viewport(self, width: int, height: int) -> None:
        self._call("WebDriver:SetWindowRect", width=width, height=height)
        inner_width, inner_height = self.evaluate("[innerWidth, innerHeight]")
        self._call("WebDriver:SetWindowRect", width=2 * width - inner_width, height=2 * height - inner_height)

    def set_color_scheme(self, scheme: str) -> None:
        value = {"dark": 0, "light": 1}[scheme]
        name = "layout.css.prefers-color-scheme.content-override"
        self._privileged("Services.prefs.setIntPref(arguments[0], arguments[1])", name, value)

    def _screenshot(self) -> str:
        data: str = self._call("WebDriver:TakeScreenshot", full=True, hash=False)["value"]
        return data


BROWSERS: dict[str, type[Browser]] = {"chromium": Chromium, "firefox": Firefox}
"""The browsers by name."""


def _started(name: str) -> Browser:
    """A new browser; skips the test if it is not installed."""
    made = BROWSERS[name]
    if not made.executable.exists():
        message = f"{made.executable} is not installed"
        if os.environ.get("TEST_BROWSERS") == "require":
            pytest.fail(message)
        pytest.skip(message)
    return made()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Chromium, one for the tests of a module."""
    with _started("chromium") as started:
        yield started


@pytest.fixture(scope="module")
def firefox() -> Iterator[Browser]:
    """Firefox, one for the tests of a module."""
    with _started("firefox") as started:
        yield started


@pytest.fixture(scope="module", params=list(BROWSERS))
def browser(request: pytest.FixtureRequest) -> Iterator[Browser]:
    """Each browser in turn, one for the tests of a module."""
    with _started(request.param) as started:
        yield started
