"""The local page in browsers: from the file that opens it to a download that verifies."""

from __future__ import annotations

import itertools
import time
import zipfile
from pathlib import Path

import pytest

import make_archive
from skyexport.web.server import write_opener
from tests.archives import file_archive, post
from tests.browsers import Browser, Chromium, browser, chromium
from tests.command import skyexport
from tests.web.servers import LocalPage

__all__ = ["browser", "chromium"]

PATHS = (
    *("/", "/archives/1", "/archives/1/posts", "/archives/1/authors", "/archives/1/export"),
    *("/exports", "/exports/1", "/exports/1/delete", "/jobs", "/nothing"),
)

BUTTON = "[...document.querySelectorAll('button, a.button')].find((b) => b.textContent.trim() === %r)"
PRESS = f"({BUTTON}.click(), true)"


def enter(browser: Browser, page: LocalPage, place: Path) -> str:
    """Open the page as the program does, by a file; returns its address without a path."""
    page.wait_for_address(1)
    file = place / f"open-{page.port}-{time.monotonic_ns()}.html"
    write_opener(file, f"http://{page.own}{page.entry}")
    browser.open(file)
    root: str = browser.wait_for("document.title.startsWith('Archives') && document.body.dataset.root")
    # A page that waits for counts loads itself again.
    browser.wait_for("!document.querySelector('[data-counting]')")
    browser.errors()  # also those of the server before
    return f"http://{page.own}{root}"


def visit(browser: Browser, address: str) -> None:
    """Open a page of the site, and wait until it is the one that is shown."""
    browser.open(address)
    browser.wait_for(f"location.href === '{address}' && document.readyState === 'complete'")
    browser.wait_for("document.querySelectorAll('h1').length > 0")


def fill(browser: Browser, field: str, value: str) -> None:
    """Write into a field, as soon as it is there."""
    browser.wait_for(f"!!document.querySelector('#{field}')")
    browser.evaluate(f"(document.querySelector('#{field}').value = '{value}', true)")


def click(browser: Browser, selector: str) -> None:
    """Click the first element that a CSS selector finds, as soon as it is there."""
    browser.wait_for(f"!!document.querySelector('{selector}')")
    browser.evaluate(f"(document.querySelector('{selector}').click(), true)")


def press(browser: Browser, text: str) -> None:
    """Press a button or link, as soon as it is there."""
    browser.wait_for(f"!!{BUTTON % text}")
    browser.evaluate(PRESS % text)


@pytest.mark.quick(1)
def test_from_the_form_to_the_file(browser: Browser, small_archive: make_archive.ArchiveInfo, tmp_path: Path) -> None:
    """In each browser: the file that opens the page, the form, its answer, the export, verifying, and deleting."""
    exports = tmp_path / "exports"
    with LocalPage(small_archive.path, "-o", exports, enter=False) as page:
        base = enter(browser, page, tmp_path)
        browser.wait_for("document.body.innerText.includes('2,500 posts')")
        press(browser, "Export")
        fill(browser, "format", "csv")
        fill(browser, "limit", "100")
        press(browser, "Next: check")
        browser.wait_for("document.body.innerText.includes('100 of 2,500')")
        press(browser, "Start the export")
        press(browser, "Show the export")
        browser.wait_for("document.body.innerText.includes('posts.csv')")
        press(browser, "Verify")
        browser.wait_for("location.pathname.includes('/jobs/')")
        browser.wait_for("document.body.innerText.includes('all checksums match')")
        (directory,) = (exports / "all").iterdir()
        assert skyexport("verify", directory).returncode == 0
        visit(browser, f"{base}/exports")
        click(browser, "h2 a")
        press(browser, "Delete …")
        press(browser, "Delete it")
        browser.wait_for("document.body.innerText.includes('There is no export yet')")
        assert not directory.exists()
        assert browser.errors() == []


def test_watch_stop_and_start_again(chromium: Chromium, slow_archive: Path, tmp_path: Path) -> None:
    """The bar moves, also after the page was loaded again; a stopped export leaves nothing; the next is complete."""
    exports = tmp_path / "exports"
    with LocalPage(slow_archive, "-o", exports, enter=False) as page:
        base = enter(chromium, page, tmp_path)
        visit(chromium, f"{base}/archives/1/export")
        fill(chromium, "batch-size", "1")
        fill(chromium, "workers", "0")
        press(chromium, "Next: check")
        press(chromium, "Start the export")
        seen = chromium.wait_for("location.pathname.includes('/jobs/') && document.querySelector('progress')?.value")
        job = chromium.evaluate("location.href")
        chromium.wait_for(f"document.querySelector('progress')?.value > {seen}")
        visit(chromium, job)
        again = chromium.wait_for("document.querySelector('progress')?.value")
        assert again > seen
        chromium.wait_for(f"document.querySelector('progress')?.value > {again}")
        assert "posts/s" in chromium.evaluate("document.querySelector('.figures').innerText")
        press(chromium, "Stop")
        chromium.wait_for("document.body.innerText.includes('nothing of this export was kept')")
        assert not list(exports.rglob("*posts*")) + list(exports.rglob("*.partial"))

        press(chromium, "Export again")
        chromium.wait_for("document.querySelector('#batch-size')?.value === '1'")
        fill(chromium, "batch-size", "")
        press(chromium, "Next: check")
        press(chromium, "Start the export")
        press(chromium, "Show the export")
        chromium.wait_for("document.body.innerText.includes('posts.json')")
        assert chromium.errors() == []
        downloads = tmp_path / "downloads"
        chromium.allow_downloads(downloads)
        press(chromium, "Download")
        file = wait_for_file(chromium, downloads, "posts.json")
        (directory,) = (exports / "all").iterdir()
        assert file.read_bytes() == (directory / "posts.json").read_bytes()
        click(chromium, 'a[href$="/zip"]')
        zipped = wait_for_file(chromium, downloads, f"{directory.name}.zip")
        with zipfile.ZipFile(zipped) as archive:
            archive.extractall(tmp_path / "unzipped")
        assert skyexport("verify", tmp_path / "unzipped" / directory.name).returncode == 0


def wait_for_file(chromium: Chromium, folder: Path, name: str) -> Path:
    """Wait until a download is complete."""
    for _ in range(500):
        if (folder / name).exists() and not list(folder.glob("*.crdownload")):
            return folder / name
        chromium.evaluate("new Promise((done) => setTimeout(() => done(true), 20))")
    raise AssertionError(f"{name} was not downloaded: {list(folder.iterdir())}")


@pytest.mark.slow
def test_two_tabs(chromium: Chromium, slow_archive: Path, tmp_path: Path) -> None:
    """Two tabs show the same export; one of them stops it, and the other one says so."""
    with LocalPage(slow_archive, "-o", tmp_path / "exports", enter=False) as page:
        base = enter(chromium, page, tmp_path)
        visit(chromium, f"{base}/archives/1/export")
        fill(chromium, "batch-size", "1")
        press(chromium, "Next: check")
        press(chromium, "Start the export")
        chromium.wait_for("document.querySelector('progress')?.value > 0")
        job = chromium.evaluate("location.href")
        first = chromium.open_tab()
        visit(chromium, job)
        chromium.wait_for("document.querySelector('progress')?.value > 0")
        press(chromium, "Stop")
        chromium.wait_for("document.body.innerText.includes('stopped by a signal')")
        chromium.use_tab(first)
        chromium.wait_for("document.body.innerText.includes('stopped by a signal')")


@pytest.mark.quick(1)
def test_pages_of_exports_are_kept_apart(browser: Browser, tmp_path: Path) -> None:
    """Pages of an export work; a stranger's script in them can neither read nor do anything on the site."""
    exports = tmp_path / "exports"
    archive = file_archive(tmp_path / "a.db", [post(number, text=f"Post {number} lantern") for number in range(5)])
    assert skyexport("export", archive, "-f", "html", "-o", exports).returncode == 0
    (directory,) = (exports / "all").iterdir()
    with LocalPage(archive, "-o", exports, enter=False) as page:
        base = enter(browser, page, tmp_path)
        visit(browser, f"{base}/exports")
        press(browser, "Open")
        browser.wait_for("location.pathname.startsWith('/pages/') && document.body.innerText.includes('5 posts')")
        assert browser.evaluate("self.origin") == "null"
        browser.wait_for("!document.querySelector('section.search').hidden")
        browser.evaluate("(document.getElementById('search-words*').value = 'lantern', true)")
        browser.evaluate("(document.getElementById('search-form*').requestSubmit(), true)")
        browser.wait_for("/5 /.test(document.getElementById('search-status*').textContent)")
        click(browser, ".months a")
        browser.wait_for("document.querySelectorAll('article').length === 5")
        (directory / "assets" / "time.js").write_text(ATTACK.replace("ROOT", base))
        visit(browser, f"{base}/exports")
        press(browser, "Open")
        outcome = browser.wait_for("document.documentElement.dataset.outcome")
        assert outcome == "fetch refused, post refused, no frame, no window"
        browser.wait_for("location.pathname.startsWith('/pages/')")
        visit(browser, f"{base}/jobs")
        assert browser.evaluate("document.body.innerText.includes('Nothing has been started')")
        assert directory.is_dir()


ATTACK = """
(async () => {
  const root = "ROOT";
  const outcome = [];
  const attempt = (address, options) => fetch(address, options).then(() => "done", () => "refused");
  outcome.push("fetch " + await attempt(root + "/exports"));
  const body = new URLSearchParams("x=1");
  outcome.push("post " + await attempt(root + "/exports/1/verify", { method: "POST", mode: "no-cors", body }));
  const frame = document.createElement("iframe");
  frame.src = root + "/exports/1/delete";
  document.body.append(frame);
  await new Promise((done) => setTimeout(done, 300));
  let inside = null;
  try { inside = frame.contentDocument && frame.contentDocument.querySelector("form"); } catch (error) { }
  outcome.push(inside ? "frame" : "no frame");
  const opened = window.open(root + "/exports/1/delete");
  await new Promise((done) => setTimeout(done, 300));
  let form = null;
  try { form = opened && opened.document && opened.document.querySelector("form"); } catch (error) { }
  outcome.push(form ? "window" : "no window");
  const posted = document.createElement("form");
  posted.method = "post";
  posted.action = root + "/exports/1/verify";
  document.body.append(posted);
  try { posted.submit(); } catch (error) { }
  await new Promise((done) => setTimeout(done, 300));
  document.documentElement.dataset.outcome = outcome.join(", ");
})();
"""
"""A script that tries all that a page can do to another one, even if it knows where that is."""


def test_without_scripts(chromium: Chromium, small_archive: make_archive.ArchiveInfo, tmp_path: Path) -> None:
    """Without scripts everything works; a page of what is running loads itself again until that has ended."""
    with LocalPage(small_archive.path, "-o", tmp_path / "exports", enter=False) as page:
        base = enter(chromium, page, tmp_path)
        chromium._call("Emulation.setScriptExecutionDisabled", value=True)
        try:
            visit(chromium, f"{base}/archives/1/export")
            press(chromium, "Next: check")
            press(chromium, "Start the export")
            press(chromium, "Show the export")
            chromium.wait_for("document.body.innerText.includes('posts.json')")
            visit(chromium, f"{base}/archives/1/posts")
            click(chromium, "a[rel=next]")
            chromium.wait_for(
                "location.search.includes('after=') && document.querySelectorAll('article').length === 50"
            )
        finally:
            chromium._call("Emulation.setScriptExecutionDisabled", value=False)


@pytest.mark.quick(1)
@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_narrow_and_dark(
    chromium: Chromium, small_archive: make_archive.ArchiveInfo, tmp_path: Path, scheme: str
) -> None:
    """On a phone nothing is wider than the screen, also in the dark, where text stands out, too."""
    exports = tmp_path / "exports"
    assert skyexport("export", small_archive.path, "-f", "csv", "-o", exports).returncode == 0
    with LocalPage(small_archive.path, "-o", exports, enter=False) as page:
        base = enter(chromium, page, tmp_path)
        chromium.set_viewport(360, 700)
        chromium.set_color_scheme(scheme)
        try:
            for path in PATHS:
                visit(chromium, base + path)
                assert chromium.evaluate("document.documentElement.scrollWidth") <= 360, path
                assert chromium.evaluate(CONTRAST) == [], path
        finally:
            chromium.set_viewport(1000, 800)
            chromium.set_color_scheme("light")
        # The last page is not there.
        assert [error for error in chromium.errors() if "404" not in error] == []


CONTRAST = """
(() => {
  const parse = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((v) => v / 255).map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (element) => {
    for (let place = element; place; place = place.parentElement) {
      const color = parse(getComputedStyle(place).backgroundColor);
      if (color.length < 4 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  const weak = [];
  for (const element of document.querySelectorAll("main *, header *, footer *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.offsetParent || element.closest("svg")) continue;
    const [a, b] = [light(parse(getComputedStyle(element).color)), light(behind(element))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) weak.push(element.tagName + ": " + element.textContent.trim().slice(0, 40));
  }
  return weak;
})()
"""
"""Texts whose contrast is below 4.5, which WCAG 2 asks for (1.4.3)."""


def test_keyboard_and_names(chromium: Chromium, small_archive: make_archive.ArchiveInfo, tmp_path: Path) -> None:
    """Every field, button and link has a name, headings are in order, and the first stop leads to the content."""
    exports = tmp_path / "exports"
    assert skyexport("export", small_archive.path, "-f", "csv", "-o", exports).returncode == 0
    with LocalPage(small_archive.path, "-o", exports, enter=False) as page:
        base = enter(chromium, page, tmp_path)
        for path in PATHS:
            visit(chromium, base + path)
            assert chromium.evaluate(NAMELESS) == [], path
            assert chromium.evaluate("document.querySelectorAll('h1').length") == 1
            levels = chromium.evaluate("[...document.querySelectorAll('h1, h2, h3')].map((h) => Number(h.tagName[1]))")
            assert all(later <= earlier + 1 for earlier, later in itertools.pairwise(levels)), path
            assert chromium.evaluate("document.querySelector('a').getAttribute('href')") == "#content"
            assert chromium.evaluate("document.documentElement.lang") == "en"
            ids = chromium.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id)")
            assert len(ids) == len(set(ids)), path


NAMELESS = """
[...document.querySelectorAll("input, select, button, a[href], progress")]
  .filter((e) => e.type !== "hidden" && !e.closest("[aria-hidden]"))
  .filter((e) => !(e.labels?.length || e.textContent.trim() || e.getAttribute("aria-label") || e.querySelector("img")))
  .map((e) => e.outerHTML)
"""


@pytest.mark.slow
def test_server_that_is_killed(chromium: Chromium, slow_archive: Path, tmp_path: Path) -> None:
    """If the server is killed, the page stays as it is; the export goes on, and the next server shows it."""
    with LocalPage(slow_archive, "-o", tmp_path / "exports", enter=False) as page:
        base = enter(chromium, page, tmp_path)
        visit(chromium, f"{base}/archives/1/export")
        press(chromium, "Next: check")
        press(chromium, "Start the export")
        chromium.wait_for("document.querySelector('progress')?.value > 0")
        page.process.kill()
        page.process.wait()
        assert "Export of slow.db" in chromium.evaluate("document.querySelector('h1').textContent")
    chromium.errors()
    with LocalPage(slow_archive, "-o", tmp_path / "exports", enter=False) as page:
        base = enter(chromium, page, tmp_path)
        deadline = time.monotonic() + 60
        while "60,000 posts" not in (chromium._value_now("document.body.innerText") or ""):
            assert time.monotonic() < deadline
            visit(chromium, f"{base}/exports")
        assert chromium.errors() == []
