"""The rules of the guard, each tried against the real server over plain sockets."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import make_archive
from skyexport.runtime.for_tests import LIMITS_VARIABLE, TESTING_VARIABLE
from tests.archives import file_archive, post, run_sql
from tests.command import skyexport
from tests.web.servers import LocalPage, read_answer

TOKEN = "secret-access-token"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, small_archive: make_archive.ArchiveInfo) -> Iterator[LocalPage]:
    """A page with one archive and one export to HTML."""
    exports = tmp_path_factory.mktemp("guarded")
    for _ in range(2):
        assert skyexport("export", small_archive.path, "-f", "html", "-o", exports).returncode == 0
    with LocalPage(small_archive.path, "-o", exports) as opened:
        yield opened


@pytest.mark.parametrize("path", ["/", "/exports", "/start/x", "/pages/x/1/index.html", "/assets/ui.css"])
@pytest.mark.parametrize(
    "hosts",
    [
        [], ["example.com"], ["example.com:{port}"], ["127.0.0.1"], ["127.0.0.1:1"], ["127.0.0.1.:{port}"],
        ["127.0.0.1:{port}", "127.0.0.1:{port}"], ["127.0.0.1:{port}", "example.com"], ["127.1:{port}"],
        ["localhost:{port}.example.com"], ["127.0.0.1:{port}@example.com"], [""], ["[::1]:{port}"],
    ],
)  # fmt: skip
def test_wrong_hosts(page: LocalPage, hosts: list[str], path: str) -> None:
    """Only one Host header that names the server literally is accepted, whatever is asked for."""
    headers = [("Host", host.format(port=page.port)) for host in hosts]
    answer = page.ask("GET", path, [*headers, ("Cookie", page.cookie)], bare=True)
    # h11 itself refuses requests without exactly one.
    assert answer.status in (421, 400)
    assert b"skyexport" not in answer.body


def test_right_hosts(page: LocalPage) -> None:
    """Both names of this machine lead to the page."""
    for host in ("127.0.0.1", "localhost", "LOCALHOST"):
        answer = page.ask("GET", "/", [("Host", f"{host}:{page.port}"), ("Cookie", page.cookie)], bare=True)
        assert answer.status == 200


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND"])
def test_methods(page: LocalPage, method: str) -> None:
    """Other methods than those of links and forms are refused."""
    assert page.ask(method, "/exports").status == 405


@pytest.mark.parametrize(
    "path",
    [
        "/../etc/passwd", "/exports/../exports", "/assets/..", "/assets/../ui.css", "/%2e%2e/x", "/assets/%2e%2e%2fx",
        "/exports%2f1", "/exports/1%2ffiles", "/exports//1", "//exports", "/exports/.hidden", "/assets/ui.css%00",
        "/exports\\1", "/exports/1;x", "/%65xports", "/exports/~", "*", "http://example.com/", "/" + "a/" * 20,
    ],
)  # fmt: skip
def test_odd_paths(page: LocalPage, path: str) -> None:
    """A path is made of plain names: no escape, no `..`, no hidden name, no second slash."""
    answer = page.ask("GET", path)
    assert answer.status == 400


@pytest.mark.parametrize("path", ["../manifest.json", "2024/../index.html", "media/../index.html", ".skyexport.lock"])
def test_odd_paths_of_pages(page: LocalPage, path: str) -> None:
    """The same below the pages of an export, where addresses have a path."""
    (index,) = page.get("/exports/1").links("/pages/.*")
    assert page.get(index).status == 200
    assert page.get(index.replace("index.html", path)).status == 400


@pytest.mark.parametrize(
    "name", ["manifest.json", "SHA256SUMS", "index.htm", "nothing.html", "posts.csv", "2024", "media/x.svg"]
)
def test_pages_that_are_none(page: LocalPage, name: str) -> None:
    """Nothing but the files of pages is served there."""
    (index,) = page.get("/exports/1").links("/pages/.*")
    assert page.get(index.replace("index.html", name)).status in (400, 404)


@pytest.mark.parametrize(
    "origins",
    [["http://example.com"], ["null"], ["https://127.0.0.1:{port}"], ["http://127.0.0.1"], ["http://127.0.0.1:1"],
     ["http://127.0.0.1:{port}", "http://127.0.0.1:{port}"], ["http://127.0.0.1:{port}/"], [""]],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_foreign_origins(page: LocalPage, method: str, origins: list[str]) -> None:
    """A request that names another origin is refused, even if it only reads."""
    headers = [("Origin", origin.format(port=page.port)) for origin in origins]
    kind = ("Content-Type", "application/x-www-form-urlencoded")
    answer = page.ask(method, "/exports/1/verify" if method == "POST" else "/exports/1", [*headers, kind])
    assert answer.status == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site", "none"])
def test_forms_of_other_sites(page: LocalPage, site: str) -> None:
    """A form that the browser says another site sent is refused, and so is one without an origin."""
    before = page.get("/jobs").body
    origin, kind = ("Origin", f"http://{page.own}"), ("Content-Type", "application/x-www-form-urlencoded")
    assert page.ask("POST", "/exports/1/verify", [origin, ("Sec-Fetch-Site", site), kind]).status == 403
    assert page.ask("POST", "/exports/1/verify", [("Sec-Fetch-Site", "same-origin"), kind]).status == 403
    assert page.ask("POST", "/exports/1/verify", [kind]).status == 403
    assert page.get("/jobs").body == before
    # Links from elsewhere may lead here; without the cookie, which browsers then hold back, they show nothing.
    assert page.get("/exports", ("Sec-Fetch-Site", site)).status == 200


def test_cookie(page: LocalPage) -> None:
    """Without exactly the session's cookie there is nothing but a hint."""
    own = ("Host", page.own)
    name, _, value = page.cookie.partition("=")
    assert name == f"skyexport-{page.port}"
    wrong = [
        "", f"{name}=", f"{name}={value[:-1]}", f"{name}={value}x", f"{name}={'0' * len(value)}", f"skyexport={value}",
        f"{name}={value}; {name}={value}", f"{name}=x; {name}={value}", f"{name}-1={value}", f"{name.upper()}={value}",
    ]  # fmt: skip
    for cookie in wrong:
        for path in ("/", "/exports/1/download", "/events", "/state", "/assets/ui.js", "/nothing"):
            answer = page.ask("GET", path, [own, ("Cookie", cookie)], bare=True)
            assert answer.status == 401, (cookie, path)
            assert b"terminal of skyexport ui" in answer.body
        posted = page.ask("POST", "/exports/1/delete", [own, ("Cookie", cookie), *page.headers_of_form()], bare=True)
        assert posted.status == 401
    assert page.ask("GET", "/", [own, ("Cookie", f"other=1; {page.cookie}; more=2")], bare=True).status == 200


def test_one_time_address(page: LocalPage) -> None:
    """The address works once; then there is another one. What it gives is a cookie for this site alone."""
    used = page.entry
    fresh = page.wait_for_address(2)
    assert fresh != used
    own = ("Host", page.own)
    for path in (used, used[:-1], f"{fresh[:-1]}{'0' if fresh[-1] != '0' else '1'}", "/start", "/start/", f"{fresh}/x"):
        assert page.ask("GET", path, [own], bare=True).status in (400, 401), path
    assert page.ask("POST", fresh, [own, *page.headers_of_form()], bare=True).status == 401
    assert page.ask("HEAD", fresh, [own], bare=True).status == 401
    answer = page.ask("GET", fresh, [own], bare=True)
    assert answer.status == 200
    assert answer.headers["set-cookie"] == f"{page.cookie}; HttpOnly; Path={page.root}; SameSite=strict"
    assert fresh.rpartition("/")[2] not in answer.body.decode()
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert page.ask("GET", fresh, [own], bare=True).status == 401
    page.wait_for_address(3)


def test_key_of_pages(page: LocalPage) -> None:
    """Pages of exports need the key in their address instead, may only be read, and are kept apart from the site."""
    (index,) = page.get("/exports/1").links("/pages/.*")
    own = ("Host", page.own)
    answer = page.ask("GET", index, [own, ("Sec-Fetch-Site", "cross-site")], bare=True)
    assert answer.status == 200
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("sandbox ")
    assert "allow-same-origin" not in policy
    assert "form-action 'none'" in policy
    _, _, key, rest = index.split("/", 3)
    other = page.get("/exports/2").links("/pages/.*")[0].split("/")[2]
    assert other != key
    for wrong in ("", key[:-1], "x" * len(key), other):
        assert page.ask("GET", f"/pages/{wrong}/{rest}".replace("//", "/x/"), [own], bare=True).status == 401
    assert page.ask("POST", index, [own, *page.headers_of_form()], bare=True).status == 401
    assert page.post(index).status == 401


def test_headers_of_all_answers(page: LocalPage) -> None:
    """Every answer, also an error, forbids browsers to keep, guess, frame and lend it."""
    asked = [
        page.get("/"), page.get("/nothing"), page.get("/state"), page.get("/assets/ui.js"), page.ask("GET", "/%2e"),
        page.ask("GET", "/", [("Host", "x")], bare=True), page.ask("GET", "/", [("Host", page.own)], bare=True),
        page.ask("DELETE", "/"), page.get("/exports/1/download"), page.get("/exports/99"),
        page.post("/exports/1/verify", x="1"),
    ]  # fmt: skip
    assert {answer.status for answer in asked} >= {200, 400, 401, 404, 405, 421}
    for answer in asked:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["cache-control"] == "no-store"
        assert not [name for name in answer.headers if name.startswith("access-control-")]
        assert "server" not in answer.headers


def test_huge_requests(page: LocalPage) -> None:
    """Large heads and bodies are refused, and the server goes on."""
    assert page.get("/", ("X-Large", "x" * 40_000)).status in (400, 431)
    assert page.raw(b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n").status == 400
    large = b"author=" + b"x" * (1 << 17)
    assert page.ask("POST", "/archives/1/check", page.headers_of_form(), large).status in (0, 413)
    many = b"&".join(b"a%d=1" % number for number in range(500))
    assert page.ask("POST", "/archives/1/check", page.headers_of_form(), many).status == 400
    assert page.raw(b"\x16\x03\x01\x02\x00\x01\x00").status in (0, 400)
    assert page.get("/").status == 200


def test_slow_clients(small_archive: make_archive.ArchiveInfo, tmp_path: Path) -> None:
    """A client that sends the head or the body of a request too slowly loses its connection; others go on."""
    quick = {TESTING_VARIABLE: "1", LIMITS_VARIABLE: "REQUEST_SECONDS=0.5"}
    with LocalPage(small_archive.path, "-o", tmp_path, env=quick) as page:
        head = f"POST {page.root}/archives/1/check HTTP/1.1\r\nHost: {page.own}\r\nCookie: {page.cookie}\r\n".encode()
        form = "".join(f"{name}: {value}\r\n" for name, value in page.headers_of_form()).encode()
        with page.connect() as silent, page.connect() as slow_head, page.connect() as slow_body:
            slow_head.sendall(head)
            slow_body.sendall(head + form + b"Content-Length: 100\r\n\r\nauthor=")
            assert page.get("/").status == 200
            assert _reads_nothing(silent)
            assert _reads_nothing(slow_head)
            assert read_answer(slow_body).status == 408
        # A connection that is used again has the same patience.
        with page.connect() as used:
            used.sendall(
                f"GET {page.root}/state HTTP/1.1\r\nHost: {page.own}\r\nCookie: {page.cookie}\r\n\r\n".encode()
            )
            answer = used.makefile("rb")
            while (line := answer.readline()) != b"\r\n":
                assert line
            answer.read1()
            used.sendall(b"GET /state HTTP/1.1\r\n")
            assert _reads_nothing(used)
        assert page.get("/").status == 200


def test_refused_requests_end_the_connection(page: LocalPage) -> None:
    """A client that was refused cannot keep its connection by sending more of the request."""
    head = f"POST /exports HTTP/1.1\r\nHost: {page.own}\r\nContent-Length: 1000000000\r\n\r\n"
    with page.connect() as connection:
        connection.sendall(head.encode())
        assert read_answer(connection).status == 403
    before = len(page.lines)
    for rest in (b"x", b"GET / HTTP/1.1\r\n\r\n", b"\0" * 1000):
        for encoding in (b"Content-Length: 10", b"Transfer-Encoding: chunked"):
            with page.connect() as connection:
                connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\n" + encoding + b"\r\n\r\n" + rest)
                assert read_answer(connection).status in (0, 400, 421)
    assert page.get("/").status == 200
    assert page.lines[before:] == []


def _reads_nothing(connection: socket.socket) -> bool:
    """Whether a connection ends without another byte."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_many_connections(page: LocalPage) -> None:
    """Hundreds of clients that only connect do not keep others out."""
    connections = [page.connect() for _ in range(300)]
    try:
        assert page.get("/").status == 200
    finally:
        for connection in connections:
            connection.close()


def test_nothing_but_loopback(page: LocalPage) -> None:
    """The server listens on this machine's own address alone."""
    listening = [
        entry.laddr for entry in psutil.Process(page.process.pid).net_connections("inet") if entry.status == "LISTEN"
    ]
    assert [(address.ip, address.port) for address in listening] == [("127.0.0.1", page.port)]


def test_other_addresses_need_an_option_and_get_a_warning(
    small_archive: make_archive.ArchiveInfo, tmp_path: Path
) -> None:
    """With --host it listens elsewhere, says what that means, and still knows its names."""
    with LocalPage(small_archive.path, "-o", tmp_path, "--host", "0.0.0.0") as page:
        assert any(line.startswith("warning: everybody who reaches 0.0.0.0") for line in page.lines)
        assert page.get("/").status == 200
        for host in ("example.com", "0.0.0.0.example.com"):
            assert page.ask("GET", "/", [("Host", f"{host}:{page.port}")], bare=True).status == 421
        addresses = [
            entry.address for entries in psutil.net_if_addrs().values() for entry in entries
            if entry.family == socket.AF_INET and not entry.address.startswith("127.")
        ]  # fmt: skip
        for address in addresses[:1]:
            assert page.ask("GET", "/", [("Host", f"{address}:{page.port}")], bare=True).status == 401


FIELDS_WITH_PATHS = ("to", "output-dir", "media-root", "from-file", "config", "cluster", "shard", "overwrite", "debug")


@pytest.mark.parametrize("name", FIELDS_WITH_PATHS)
def test_no_path_from_the_browser(page: LocalPage, tmp_path: Path, name: str) -> None:
    """Options that say where to read and write are no fields of the form; numbers stand for exports."""
    body = f"{name}={tmp_path}/stolen".encode()
    answer = page.ask("POST", "/archives/1/check", page.headers_of_form(), body)
    assert answer.status == 400
    assert "the form has no field" in answer.text
    for field in ("link-media", "since-export"):
        answer = page.ask("POST", "/archives/1/check", page.headers_of_form(), f"{field}={tmp_path}".encode())
        assert "there is no export" in answer.text
    assert not list(tmp_path.iterdir())


def test_values_that_look_like_options(page: LocalPage, tmp_path: Path) -> None:
    """A value stays the value of its option, whatever it looks like."""
    job = page.check(1, author=f"--to={tmp_path}/stolen")
    assert page.state(job) == "failed"
    assert not list(tmp_path.iterdir())


def test_key_of_the_site(page: LocalPage) -> None:
    """The cookie alone does not do: paths begin with the key of this run, which nobody else knows."""
    own, cookie = ("Host", page.own), ("Cookie", page.cookie)
    for root in ("", "/x", page.root[:-1], f"/{'0' * 64}", page.root.upper()):
        for path in ("/", "/exports", "/exports/1/download", "/state"):
            head = f"Host: {page.own}\r\nCookie: {page.cookie}\r\nConnection: close"
            answer = page.raw(f"GET {root}{path} HTTP/1.1\r\n{head}\r\n\r\n".encode())
            assert answer.status == 401, root + path
    assert page.ask("GET", f"{page.root}/", [own, cookie], bare=True).status == 200


def test_wrong_kinds_of_forms(page: LocalPage) -> None:
    """Only forms as browsers send them are read."""
    headers = [("Origin", f"http://{page.own}"), ("Sec-Fetch-Site", "same-origin")]
    for kind in ("text/plain", "application/json", "multipart/form-data; boundary=x", ""):
        answer = page.ask("POST", "/archives/1/check", [*headers, ("Content-Type", kind)], b"format=json")
        assert answer.status == 400
    assert page.ask("POST", "/archives/1/check", page.headers_of_form(), "format=ü".encode()).status == 400


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_links_in_exports(small_archive: make_archive.ArchiveInfo, tmp_path: Path) -> None:
    """A link in the place of an export, of one of its files, or of a folder in it leads nowhere."""
    exports, elsewhere = tmp_path / "exports", tmp_path / "elsewhere"
    for name in ("csv", "html"):
        assert skyexport("export", small_archive.path, "-f", name, "-o", exports, "--media").returncode == 0
        time.sleep(1.1)
    assert skyexport("export", small_archive.path, "-o", elsewhere).returncode == 0
    (other,) = (elsewhere / "all").iterdir()
    secret = tmp_path / "secret.txt"
    secret.write_text("not for others")
    first, second = sorted((exports / "all").iterdir())
    with LocalPage(small_archive.path, "-o", exports) as page:
        pages = page.get("/exports").links(".*index.html")
        assert len(pages) == 1
        (exports / "all" / "2000-01-01_00-00-00").symlink_to(other)
        assert "2000-01-01" not in page.get("/exports").text
        (first / "posts.csv").unlink()
        (first / "posts.csv").symlink_to(secret)
        (second / "search.html").unlink()
        (second / "search.html").symlink_to(secret)
        (second / "assets").rename(tmp_path / "assets")
        (second / "assets").symlink_to(tmp_path / "assets")
        for number in (1, 2):
            for path in (f"/exports/{number}/files/0", f"/exports/{number}/download", f"/exports/{number}/zip"):
                assert b"not for others" not in _read_all(page, path)
        assert page.get(pages[0].replace("index.html", "search.html")).status == 404
        assert page.get(pages[0].replace("index.html", "assets/style.css")).status == 404
        assert page.get(pages[0]).status == 200


def _read_all(page: LocalPage, path: str) -> bytes:
    """What is sent, complete or not."""
    with page.connect() as connection:
        head = f"Host: {page.own}\r\nCookie: {page.cookie}\r\nConnection: close"
        connection.sendall(f"GET {page.root}{path} HTTP/1.1\r\n{head}\r\n\r\n".encode())
        data = bytearray()
        while part := connection.recv(1 << 16):
            data += part
        return bytes(data)


def test_tokens_are_never_read(tmp_path: Path) -> None:
    """No page shows anything of the table with the tokens of accounts but handles and names."""
    archive = file_archive(tmp_path / "archive.db", [post(number) for number in range(3)])
    run_sql(
        archive,
        "insert into sessions (id, did, handle, display_name, access_token, refresh_token, expires_at)"
        f" values ('s', 'did:plc:abc', 'alice.example', 'Alice', '{TOKEN}-1', '{TOKEN}-2', '2030-01-01')",
    )
    with LocalPage(archive, "-o", tmp_path / "exports") as page:
        page.counted("/")
        pages = ["/", "/archives/1", "/archives/1/posts", "/archives/1/authors", "/archives/1/export"]
        answers = [page.get(path) for path in pages]
        assert "Alice" in answers[2].text
        assert "alice.example" in answers[3].text
        assert not [answer for answer in answers if TOKEN.encode() in answer.body]
    kept = tmp_path / "exports" / ".skyexport-ui.json"
    assert not kept.exists() or TOKEN.encode() not in kept.read_bytes()


@pytest.mark.skipif(os.name == "nt", reason="modes of POSIX")
def test_files_are_the_users_own(small_archive: make_archive.ArchiveInfo, tmp_path: Path) -> None:
    """The file that is kept can be read by its owner only."""
    exports = tmp_path / "exports"
    with LocalPage(small_archive.path, "-o", exports) as page:
        page.counted("/")
        page.export(1)
        assert (exports / ".skyexport-ui.json").stat().st_mode & 0o777 == 0o600
