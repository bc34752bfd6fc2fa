"""The local page from beginning to end: archives, exports, their progress, stopping, and what is left afterwards."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import signal
import sys
import time
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import psutil
import pytest

import make_archive
from skyexport.output.places import place_lock
from tests.archives import file_archive, post, run_sql
from tests.car_files import Repository
from tests.command import skyexport, skyexport_json
from tests.conftest import posix_only
from tests.web.servers import LocalPage


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, small_archive: make_archive.ArchiveInfo) -> Iterator[LocalPage]:
    """A page with one archive, whose exports go to an empty folder."""
    with LocalPage(small_archive.path, "-o", tmp_path_factory.mktemp("page") / "exports") as opened:
        yield opened


def children_of(page: LocalPage) -> list[psutil.Process]:
    return psutil.Process(page.process.pid).children(recursive=True)


def directory_of(page: LocalPage, job: str) -> Path:
    """The directory that an export was written to, from the last line of its page."""
    words = page.get(job).text.split()
    (path,) = [Path(word) for word in words if "/all/" in word or "/did" in word]
    return path.parent


def contents(place: Path) -> list[str]:
    """All paths below a place but for what the page itself keeps there."""
    return sorted(path.relative_to(place).as_posix() for path in place.rglob("*") if path.name != ".skyexport-ui.json")


def test_archives(page: LocalPage, small_archive: make_archive.ArchiveInfo) -> None:
    """The list is there at once; counts, authors, dates and the chart are what `inspect` says."""
    inspected = skyexport_json("inspect", small_archive.path)
    text = page.counted("/").text
    assert f"{inspected['posts']:,} posts by {inspected['authors']} authors" in text
    assert f"from {inspected['first_post'][:10]} to {inspected['last_post'][:10]}" in text
    shown = page.get("/archives/1")
    for key in ("first_post", "last_post", "journal_mode", "path", "renderer"):
        assert str(inspected[key]) in shown.text
    assert f"{inspected['media_rows']:,}" in shown.text
    assert f"schema version {inspected['archive_schema_version']}" in shown.text
    assert shown.links(r"/archives/1/posts\?month=.*")[0].endswith(next(iter(inspected["months"])))
    for author in inspected["largest_authors"]:
        assert (author["handle"] or author["did"]) in shown.text


def test_posts(page: LocalPage, small_archive: make_archive.ArchiveInfo) -> None:
    """Posts are shown fifty at a time, with links to older and newer ones, and to their images."""
    first = page.get("/archives/1/posts")
    assert first.body.count(b"<article") == 50
    (older,) = set(first.links(r"\?after=.*"))
    second = page.get(f"/archives/1/posts{older}")
    assert second.body.count(b"<article") == 50
    (newer,) = set(second.links(r"\?before=.*"))
    again = page.get(f"/archives/1/posts{newer}")
    assert again.body.count(b"<article") == 50
    images: list[str] = []
    address = "/archives/1/posts"
    while not images:
        answer = page.get(address)
        images = answer.links("/archives/1/media/.*")
        address = f"/archives/1/posts{answer.links(r'.*after=.*')[0]}"
    image = page.get(images[0])
    assert image.status == 200
    assert image.headers["content-type"].startswith(("image/", "video/"))
    digest = hashlib.sha256(image.body).hexdigest()
    assert digest in {path.stem for path in (small_archive.path.parent / "media").rglob("*") if path.is_file()}
    for wrong in ("x.jpg", "999999.jpg", "1.svg", "1.html", "1", "00x.jpg", f"{images[0].rpartition('/')[2]}x"):
        assert page.get(f"/archives/1/media/{wrong}").status == 404
    assert page.get("/archives/1/authors").text.count("posts") >= 18
    for wrong in ("?month=2024-77", "?after=x", "?author=nobody.example", "?words=%22"):
        answer = page.get(f"/archives/1/posts{wrong}")
        assert answer.status == 400
        assert b'class="problem"' in answer.body


def test_export(page: LocalPage, small_archive: make_archive.ArchiveInfo, tmp_path: Path) -> None:
    """The form leads to the answer of a dry run, that to an export like the command's, and it is in the list."""
    planned = skyexport_json("export", small_archive.path, "-f", "csv", "--dry-run")
    check = page.check(1, format="csv", csv_safe="on", since="2025-01-01")
    narrowed = skyexport_json("export", small_archive.path, "-f", "csv", "--since", "2025-01-01", "--dry-run")
    text = page.get(check).text
    assert f"posts {narrowed['posts']:,} of {planned['posts']:,}" in text
    assert "it fits" in text
    assert "nothing was written" in text
    started = page.post(f"{check}/start")
    job = page.wait(started.headers["location"])
    assert page.state(job) == "done"
    directory = directory_of(page, job)
    assert skyexport("verify", directory).returncode == 0
    expected = tmp_path / "expected.csv"
    options = ["-f", "csv", "--csv-safe", "--since", "2025-01-01", "--to"]
    assert skyexport("export", small_archive.path, *options, expected).returncode == 0
    assert (directory / "posts.csv").read_bytes() == expected.read_bytes()
    listed = page.get("/exports")
    assert f"CSV, {narrowed['posts']:,} posts" in listed.text
    assert "from 2025-01-01" in listed.text
    assert page.get(f"/archives/1/export?from={check.rpartition('/')[2]}").body.count(b'value="2025-01-01"') == 1


def test_errors_are_those_of_the_command(page: LocalPage, small_archive: make_archive.ArchiveInfo) -> None:
    """A wrong value gives the message and the hint that the terminal shows."""
    for field, option, value in (
        ("author", "--author", "nobody.example"), ("since", "--since", "yesterday"), ("columns", "--columns", "uri,x"),
        ("memory_limit", "--memory-limit", "12"), ("match", "--match", "cats AND"), ("limit", "--limit", "0"),
        ("workers", "--workers", "two"),
    ):  # fmt: skip
        done = skyexport("export", small_archive.path, "-f", "csv", "--dry-run", f"{option}={value}")
        job = page.check(1, format="csv", **{field: value})
        assert page.state(job) == "failed"
        message, _, hint = done.stderr.strip().removeprefix("skyexport: ").partition("; ")
        shown = page.get(job).text
        assert " ".join(message.split()) in shown
        assert " ".join(hint.split()) in shown
        assert page.post(f"{job}/start").status == 400


def test_downloads(page: LocalPage) -> None:
    """A file is sent as it is, whole or in part; a folder as a zip file with all its files."""
    directory = directory_of(page, page.export(1, format="jsonl", media="on"))
    number = next(
        link for link in page.get("/exports").links("/exports/[0-9]+") if directory.name in page.get(link).text
    )
    data = (directory / "posts.jsonl").read_bytes()
    whole = page.get(f"{number}/files/0")
    assert whole.body == data
    assert whole.headers["content-disposition"] == 'attachment; filename="posts.jsonl"'
    assert whole.headers["content-length"] == str(len(data))
    for asked, first, last in (
        ("0-9", 0, 10),
        ("5-", 5, None),
        ("100-1000000000", 100, None),
        (f"{len(data) - 1}-", -1, None),
    ):
        part = page.get(f"{number}/files/0", ("Range", f"bytes={asked}"))
        assert part.status == 206
        assert part.body == data[first:last]
    for odd in (f"bytes={len(data)}-", "bytes=-5", "bytes=5-3,7-9", "lines=1-2", "bytes=x"):
        assert page.get(f"{number}/files/0", ("Range", odd)).status == 200
    assert page.ask("HEAD", f"{number}/files/0").headers["content-length"] == str(len(data))
    assert page.get(f"{number}/files/99").status == 404
    zipped = page.get(f"{number}/download")
    assert zipped.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(BytesIO(zipped.body)) as archive:
        assert archive.testzip() is None
        names = sorted(archive.namelist())
        there = [path.relative_to(directory.parent).as_posix() for path in directory.rglob("*") if path.is_file()]
        assert names == sorted(there)
        assert all(archive.read(name) == (directory.parent / name).read_bytes() for name in names)
    single = directory_of(page, page.export(1, format="json", limit="10"))
    links = page.get("/exports").links("/exports/[0-9]+")
    number = next(link for link in links if single.name in page.get(link).text)
    assert page.get(f"{number}/download").body == (single / "posts.json").read_bytes()


def test_verify_and_delete(page: LocalPage) -> None:
    """An export is verified as the command does it, and deleted after asking; other files keep it where it is."""
    directory = directory_of(page, page.export(1, format="csv", limit="100"))
    links = page.get("/exports").links("/exports/[0-9]+")
    number = next(link for link in links if directory.name in page.get(link).text)
    job = page.wait(page.post(f"{number}/verify").headers["location"])
    assert page.state(job) == "done"
    assert "OK: 100 posts, all checksums match" in page.get(job).text
    data = (directory / "posts.csv").read_bytes()
    (directory / "posts.csv").write_bytes(data[:-1] + b"x")
    job = page.wait(page.post(f"{number}/verify").headers["location"])
    assert page.state(job) == "failed"
    assert "differs from its manifest" in page.get(job).text
    assert f'verification: <a href="{page.root}{job}">failed</a>' in page.get("/exports").body.decode()
    (directory / "posts.csv").write_bytes(data)

    assert "removes CSV of 100 posts" in page.get(f"{number}/delete").text
    (directory / "notes.txt").write_text("mine")
    refused = page.post(f"{number}/delete")
    assert refused.status == 400
    assert "notes.txt, which is not part of the export" in refused.text
    assert directory.is_dir()
    (directory / "notes.txt").unlink()
    assert page.post(f"{number}/delete").status == 303
    assert not directory.exists()
    assert directory.name not in page.get("/exports").text
    assert page.get(number).status == 404
    assert page.post(f"{number}/delete").status == 404


def test_delete_names_increments(small_archive: make_archive.ArchiveInfo, tmp_path: Path) -> None:
    """Before a full export is deleted, the page says how many increments need it."""
    exports = tmp_path / "exports"
    assert skyexport("export", small_archive.path, "-o", exports).returncode == 0
    (full,) = (exports / "all").iterdir()
    with LocalPage(small_archive.path, "-o", exports) as page:
        form = page.get("/archives/1/export").body.decode()
        assert f'<option value="1">all/{full.name} (json)</option>' in form
        assert page.state(page.export(1, since_export="1", link_media="")) == "done"
        assert "new since an earlier export" in page.get("/exports").text
        assert "1 increment builds on this export" in page.get("/exports/1/delete").text
        assert "build" not in page.get("/exports/2/delete").text


def test_queue_and_stop(slow_archive: Path, tmp_path: Path) -> None:
    """One export runs at a time, others wait in order; a stopped one leaves nothing, and the next one begins."""
    exports = tmp_path / "exports"
    with LocalPage(slow_archive, "-o", exports) as page:
        checks = [page.check(1, workers="0", batch_size="1") for _ in range(3)]
        first, second, third = (page.post(f"{check}/start").headers["location"] for check in checks)
        page.wait(first, "running")
        assert page.state(second) == page.state(third) == "waiting"
        assert "behind 1 other" in page.get(second).text
        assert "behind 2 others" in page.get(third).text
        assert page.post(f"{second}/stop").status == 303
        assert page.state(second) == "stopped"
        moved = [
            entry for event in page_events(page, 2) for entry in event["jobs"] if f"/jobs/{entry['number']}" == first
        ]
        assert moved[0]["state"] == "running"
        assert page.post(f"{first}/stop").status == 303
        page.wait(first)
        assert page.state(first) == "stopped"
        assert "stopped by a signal; nothing of this export was kept" in page.get(first).text
        page.wait(third, "running", "done")
        page.post(f"{third}/stop")
        page.wait(third)
        assert not [path for path in contents(exports) if "posts" in path or "partial" in path]
        assert page.state(page.export(1, limit="10")) == "done"
        jobs = page.get("/jobs").text
        assert jobs.count("stopped, after") == 3
        assert not children_of(page)


def test_waiting_for_an_export(small_archive: make_archive.ArchiveInfo, tmp_path: Path) -> None:
    """While another export writes to the same place, a dry run is not possible; the export can wait all the same."""
    place = tmp_path / "exports" / "all"
    place.mkdir(parents=True)
    with LocalPage(small_archive.path, "-o", tmp_path / "exports") as page:
        with place_lock(place):
            check = page.check(1, limit="10")
            assert page.state(check) == "failed"
            text = page.get(check).text
            assert "is running: process" in text
            assert "Start it after the other one" in text
        job = page.wait(page.post(f"{check}/start").headers["location"])
        assert page.state(job) == "done"


def page_events(page: LocalPage, count: int) -> list[dict[str, list[dict[str, object]]]]:
    """The first events of the stream, which is then closed."""
    found = []
    with contextlib.closing(page.events()) as events:
        for event in events:
            found.append(event)
            if len(found) == count:
                break
    return found


def test_progress_moves(slow_archive: Path, tmp_path: Path) -> None:
    """The stream sends the state at once, again with the work, at most four times a second, and at the end."""
    with LocalPage(slow_archive, "-o", tmp_path / "exports") as page:
        job = page.start(1, format="json", workers="0", batch_size="5")
        fractions, times = [], []
        with contextlib.closing(page.events()) as events:
            for event in events:
                (entry,) = [entry for entry in event["jobs"] if f"/jobs/{entry['number']}" == job]
                times.append(time.monotonic())
                if entry["state"] == "done":
                    break
                if entry.get("fraction") is not None:
                    fractions.append(entry["fraction"])
                    assert {"posts", "rate", "memory", "time"} <= entry["figures"].keys()
        assert fractions == sorted(fractions)
        assert any(0 < fraction < 1 for fraction in fractions)
        assert all(later - earlier > 0.2 for earlier, later in itertools.pairwise(times))


@posix_only
def test_ctrl_c_while_an_export_runs(slow_archive: Path, tmp_path: Path) -> None:
    """Streams end, the page says what it waits for, the export cleans up, and nothing is left."""
    exports = tmp_path / "exports"
    with LocalPage(slow_archive, "-o", exports) as page:
        check = page.check(1, workers="2", batch_size="1")
        page.wait(page.post(f"{check}/start").headers["location"], "running")
        waiting = page.post(f"{check}/start").headers["location"]
        assert page.state(waiting) == "waiting"
        events = page.events()
        next(events)
        while len(children_of(page)) < 3:
            time.sleep(0.02)
        children = children_of(page)
        page.process.send_signal(signal.SIGINT)
        list(events)
        assert page.process.wait(timeout=30) == 130
        page.close()
        assert "the page is closed; waiting for what is running to clean up" in page.lines
        assert page.lines[-1] == "skyexport: stopped by a signal; the page is closed"
        assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
        assert not [path for path in contents(exports) if "posts" in path or "partial" in path]


@posix_only
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals(small_archive: make_archive.ArchiveInfo, tmp_path: Path, number: int) -> None:
    """Signals that ask programs to end do, with streams and downloads open; the exit status names the signal."""
    assert skyexport("export", small_archive.path, "-o", tmp_path).returncode == 0
    with LocalPage(small_archive.path, "-o", tmp_path) as page:
        with contextlib.closing(page.events()) as events, page.connect() as download:
            next(events)
            head = f"Host: {page.own}\r\nCookie: {page.cookie}"
            download.sendall(f"GET {page.root}/exports/1/files/0 HTTP/1.1\r\n{head}\r\n\r\n".encode())
            assert download.recv(100)
            page.process.send_signal(number)
            assert page.process.wait(timeout=30) == 128 + number
        page.close()
        assert not [line for line in page.lines if "Traceback" in line or "Error" in line]


@posix_only
def test_three_signals_end_it_at_once(slow_archive: Path, tmp_path: Path) -> None:
    """As on the terminal, the third signal ends everything at once; the next export removes what is left."""
    exports = tmp_path / "exports"
    with LocalPage(slow_archive, "-o", exports) as page:
        check = page.check(1, workers="0", batch_size="1")
        page.wait(page.post(f"{check}/start").headers["location"], "running")
        deadline = time.monotonic() + 20
        while not (exports_now := [child for child in children_of(page) if "export" in child.cmdline()]):
            assert time.monotonic() < deadline
        (export,) = exports_now
        while not any("partial" in path for path in contents(exports)):
            assert time.monotonic() < deadline
        # It cannot clean up while it is stopped.
        export.send_signal(signal.SIGSTOP)
        for _ in range(2):
            page.process.send_signal(signal.SIGINT)
            time.sleep(0.7)
        assert page.process.poll() is None
        assert any("once more ends it at once" in line for line in page.lines)
        page.process.send_signal(signal.SIGINT)
        assert page.process.wait(timeout=10) == 130
        export.send_signal(signal.SIGCONT)
        psutil.wait_procs([export], timeout=20)
    assert skyexport("export", slow_archive, "-o", exports, "--limit", "10").returncode == 0
    assert not [path for path in contents(exports) if "partial" in path]


@posix_only
def test_killed_while_an_export_runs(slow_archive: Path, tmp_path: Path) -> None:
    """An export goes on if the server is killed: it is complete, or not there; the next server shows it."""
    exports = tmp_path / "exports"
    with LocalPage(slow_archive, "-o", exports) as page:
        page.wait(page.start(1, batch_size="100"), "running")
        deadline = time.monotonic() + 20
        while not any("partial" in path for path in contents(exports)):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        children = children_of(page)
        page.process.kill()
        page.process.wait()
        with LocalPage(slow_archive, "-o", exports) as other:
            psutil.wait_procs(children, timeout=60)
            assert "JSON, 60,000 posts" in other.get("/exports").text
    (directory,) = (exports / "all").iterdir()
    assert skyexport("verify", directory).returncode == 0
    assert not [path for path in contents(exports) if "partial" in path]


def test_running_elsewhere(slow_archive: Path, tmp_path: Path) -> None:
    """An export that a terminal started into the same folder is mentioned."""
    from tests.command import started

    exports = tmp_path / "exports"
    with LocalPage(slow_archive, "-o", exports) as page:
        process = started("export", slow_archive, "-o", exports, "--batch-size", "50", "-j", "0")
        try:
            deadline = time.monotonic() + 20
            while f"process {process.pid}" not in (text := page.get("/exports").text):
                assert process.poll() is None, "it ended too soon"
                assert time.monotonic() < deadline
            assert "is exporting into all" in text
        finally:
            process.communicate(timeout=60)
        assert "is exporting" not in page.get("/exports").text


def test_import(tmp_path: Path) -> None:
    """A CAR file in the folder becomes an archive beside it, which is in the list at once."""
    records = {
        f"app.bsky.feed.post/3k{number:011}".replace("0", "a").replace("1", "b").replace("8", "c").replace("9", "d"): {
            "$type": "app.bsky.feed.post", "text": f"Post {number}", "createdAt": "2024-05-22T18:57:38.254Z",
        }
        for number in range(7)
    }  # fmt: skip
    (tmp_path / "repo.car").write_bytes(Repository(records).content())
    with LocalPage("-o", "exports", cwd=tmp_path) as page:
        assert "No archive is here" in page.get("/").text
        assert page.post("/cars/1/import", handle="a\0b").status == 400
        job = page.wait(page.post("/cars/1/import", handle="alice.example").headers["location"])
        assert page.state(job) == "done", page.get(job).text
        text = page.counted("/").text
        assert "repo.db" in text
        assert f"{len(records)} posts by 1 author" in text
        (archive,) = page.get("/").links("/archives/[0-9]+")
        assert "alice.example" in page.get(f"{archive}/posts").text
        assert page.post("/cars/2/import").status == 404
    assert (tmp_path / "repo.db").is_file()


def test_folders(tmp_path: Path, small_archive: make_archive.ArchiveInfo) -> None:
    """Of a folder, the archives are shown; each has a folder of its own for exports. A wrong file says what it is."""
    for name in ("a.db", "b.sqlite"):
        file_archive(tmp_path / name, [post(1), post(2, created_at="2023-01-01T00:00:00Z")])
    (tmp_path / "notes.db").write_text("not an archive")
    (tmp_path / "other.txt").write_text("text")
    run_sql(tmp_path / "c.db", "create table x (y)")
    with LocalPage(tmp_path, small_archive.path, "-o", tmp_path / "exports") as page:
        text = page.counted("/").text
        assert "a.db 2 posts" in text
        assert "b.sqlite 2 posts" in text
        assert "notes.db" not in text
        assert "c.db is not a bskyarchive archive: no table posts" in text
        assert "2,500 posts" in text
        chart = page.get("/archives/1").body.decode()
        assert "<title>May 2024: 1</title>" in chart
        assert "<title>January 2023: 1</title>" in chart
        for number in (1, 2):
            assert page.state(page.export(number, format="csv")) == "done"
        found = sorted(path.relative_to(tmp_path / "exports").parts[0] for path in tmp_path.rglob("posts.csv"))
        assert found == ["a", "b"]
        file_archive(tmp_path / "d.db", [post(1)])
        assert "d.db 1 post by 1 author" in page.counted("/").text
        broken = page.get("/archives/3/posts")
        assert broken.status == 400
        assert "not a bskyarchive archive" in broken.text


def test_counts_are_kept(tmp_path: Path) -> None:
    """Counts are kept while the archive is the same, also by the next server; a change makes them new."""
    archive = file_archive(tmp_path / "a.db", [post(1), post(2)])
    exports = tmp_path / "exports"
    with LocalPage(archive, "-o", exports) as page:
        assert "2 posts" in page.counted("/").text
        page.export(1)
    kept = exports / ".skyexport-ui.json"
    assert json.loads(kept.read_bytes())["archives"][str(archive)]["facts"]["posts"] == 2
    with LocalPage(archive, "-o", exports) as page:
        assert "2 posts" in page.get("/").text
        run_sql(archive, "delete from posts where rowid = 1")
        assert "1 post by" in page.counted("/").text
    for content in (b'{"archives": {"x": 1}}',):
        kept.write_bytes(content)
        with LocalPage(archive, "-o", exports) as page:
            assert "1 post by" in page.counted("/").text


def test_stranger_exports(tmp_path: Path, small_archive: make_archive.ArchiveInfo) -> None:
    """Directories with anything in their manifests are shown as far as they can be, and never deleted."""
    exports = tmp_path / "exports"
    manifests = [
        b"", b"[]", b"{}", b"\xff", b'{"export_format": 5}', b'{"export_format": "csv", "post_count": -1, "files": 7}',
        b'{"export_format": "csv", "post_count": 1, "files": ["../../secret"]}',
        json.dumps({
            "export_format": "html", "post_count": 10**30, "files": [], "export_timestamp": "9999-12-31T23:59:59Z",
            "source": {"path": "<script>alert(1)</script>"}, "options": {}, "author": "<b>x</b>", "match": "'\"><i>",
        }).encode(),
    ]  # fmt: skip
    for number, manifest in enumerate(manifests):
        directory = exports / "all" / f"2024-01-01_00-00-{number:02}"
        directory.mkdir(parents=True)
        (directory / "manifest.json").write_bytes(manifest)
        (directory / "SHA256SUMS").write_bytes(b"x" * 5000)
    (exports / "all" / "2024-01-01_00-01-00").mkdir()
    with LocalPage(small_archive.path, "-o", exports) as page:
        listed = page.get("/exports")
        assert listed.status == 200
        numbers = listed.links("/exports/[0-9]+")
        assert len(numbers) == len(manifests) + 1
        for link in numbers:
            shown = page.get(link)
            assert shown.status == 200
            assert b"<script>alert" not in shown.body
            assert b"<b>x</b>" not in shown.body
            for path in ("download", "zip", "files/0", "files/1", "delete"):
                assert page.get(f"{link}/{path}").status in (200, 400, 404), path
            assert page.post(f"{link}/delete").status in (400, 404)
            job = page.wait(page.post(f"{link}/verify").headers["location"])
            assert page.state(job) == "failed"
        assert page.get("/").status == 200
    assert len(list((exports / "all").iterdir())) == len(manifests) + 1


def test_busy_and_damaged_archives(tmp_path: Path) -> None:
    """An archive that cannot be read now says so on its pages, in words, and nothing else suffers."""
    archive = file_archive(tmp_path / "a.db", [post(number) for number in range(200)])
    damaged = tmp_path / "b.db"
    damaged.write_bytes(archive.read_bytes()[:20_000])
    with LocalPage(archive, damaged, tmp_path / "a.db", "-o", tmp_path / "exports") as page:
        text = page.counted("/").text
        assert "200 posts" in text
        assert "b.db is damaged" in text
        answer = page.get("/archives/2/posts")
        assert answer.status == 400
        assert "damaged" in answer.text
        archive.unlink()
        assert "no archive at" in page.get("/").text
        assert page.get("/archives/1/posts").status == 400
        assert page.get("/archives/1/export").status in (200, 400)


@posix_only
def test_odd_names(tmp_path: Path, small_archive: make_archive.ArchiveInfo) -> None:
    """Names that are not UTF-8, lock files of others, and numbers of any size do no harm."""
    exports = tmp_path / "exports"
    assert skyexport("export", small_archive.path, "-o", exports, "--limit", "5").returncode == 0
    (made,) = (exports / "all").iterdir()
    odd = Path(os.fsdecode(os.fsencode(exports) + b"/\xff"))
    odd.mkdir()
    made.rename(odd / made.name)
    for number, text in enumerate((b"process ", b"process x", b"process 99999999999999999999", b"process -1", b"\xff")):
        (exports / f"place{number}").mkdir()
        (exports / f"place{number}" / ".skyexport.lock").write_bytes(text)
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.car")).write_bytes(b"x")
    with LocalPage(small_archive.path, tmp_path, "-o", exports) as page:
        assert page.get("/").status == 200
        listed = page.get("/exports")
        assert listed.status == 200
        assert "JSON, 5 posts" in listed.text
        (link,) = listed.links("/exports/[0-9]+")
        assert page.get(f"{link}/download").body.startswith(b"[")
        long = "1" * 5000
        for path in (f"/exports/{long}", f"/archives/{long}", f"/pages/x/{long}/index.html", f"/jobs/{'9' * 190}"):
            assert page.get(path).status in (400, 401, 404)
        for query in ("%C2%B2", "9" * 5000, "-1", "x"):
            assert page.get(f"/archives/1/export?from={query}").status in (200, 404)
            assert page.get(f"/archives/1/authors?from={query}").status in (200, 400)
            assert page.get(f"/exports?page={query}").status == 200


def test_counting_again(tmp_path: Path) -> None:
    """While an archive is counted again, the older counts are shown, and the state says that it is counted."""
    archive = file_archive(tmp_path / "a.db", [post(1), post(2)])
    with LocalPage(archive, "-o", tmp_path / "exports") as page:
        page.counted("/")
        for _ in range(2):
            run_sql(archive, "update posts set like_count = like_count + 1")
            answer = page.get("/")
            assert "2 posts by 1 author" in answer.text
            assert b"data-counting" in answer.body
            assert json.loads(page.get("/state").body)["counting"] == [1]
        page.counted("/")
        assert json.loads(page.get("/state").body)["counting"] == []


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write everywhere")
def test_no_rights(small_archive: make_archive.ArchiveInfo, tmp_path: Path) -> None:
    """A folder that cannot be written gives the command's error."""
    tmp_path.chmod(0o500)
    with LocalPage(small_archive.path, "-o", tmp_path / "exports") as page:
        assert page.state(page.check(1)) == "failed"
