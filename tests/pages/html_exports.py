"""Exports as pages, read as a browser would: posts, links and anchors of all files."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag

from skyexport import ExportOptions, ExportSummary, export
from tests.archives import Cell, Row, post

DID = "did:plc:abc"


@dataclass(slots=True)
class Article:
    """A post on a page."""

    anchor: str
    again: bool
    text: str = ""
    links: list[str] = field(default_factory=list)


class PageReader(HTMLParser):
    """Reads a page: its posts, ids, and addresses."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.articles: list[Article] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loads: list[str] = []
        self.text = ""
        self._in_article = False
        self.feed(data.decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if "id" in values:
            self.ids.append(values["id"])
        if tag == "article":
            kinds = values["class"].split()
            assert "post" in kinds
            self.articles.append(Article(values["id"], "again" in kinds))
            self._in_article = True
        if "href" in values:
            (self.loads if tag == "link" else self.links).append(values["href"])
            if self._in_article:
                self.articles[-1].links.append(values["href"])
        if "src" in values:
            self.loads.append(values["src"])

    def handle_endtag(self, tag: str) -> None:
        self._in_article = self._in_article and tag != "article"

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._in_article:
            self.articles[-1].text += data


@dataclass(slots=True)
class HtmlExport:
    """An export as pages."""

    directory: Path
    pages: dict[str, PageReader]
    """Path → page."""

    @classmethod
    def of(cls, directory: Path) -> HtmlExport:
        """Read all pages below *directory*."""
        paths = sorted(directory.rglob("*.html"))
        return cls(directory, {path.relative_to(directory).as_posix(): PageReader(path.read_bytes()) for path in paths})

    def posts(self) -> list[tuple[str, Article]]:
        """Path and post of all posts on pages of months, in the order of paths."""
        return [(path, article) for path, page in self.pages.items() for article in page.articles if not article.again]

    def anchors(self) -> list[str]:
        return [article.anchor for _, article in self.posts()]

    def post(self, anchor: str) -> Article:
        """The only post with this anchor on a page of a month."""
        (article,) = [article for _, article in self.posts() if article.anchor == anchor]
        return article

    def check_links(self) -> int:
        """Check that all addresses lead to a file and to an id there, or to the web; returns how many lead to posts."""
        to_posts = 0
        for path, page in self.pages.items():
            assert len(set(page.ids)) == len(page.ids), path
            for address in page.loads:
                assert "://" not in address
                assert (self.directory / path).parent.joinpath(address).resolve().is_file(), (path, address)
            for address in page.links:
                if address.startswith(("https://", "http://")):
                    continue
                file, fragment = urldefrag(address)
                target = ((self.directory / path).parent / unquote(file)).resolve() if file else self.directory / path
                relative = target.relative_to(self.directory.resolve()) if file else Path(path)
                assert target.is_file(), (path, address)
                if fragment:
                    assert unquote(fragment) in self.pages[relative.as_posix()].ids, (path, address)
                    to_posts += bool(file)
        return to_posts

    def digests(self) -> dict[str, str]:
        """Path → SHA-256 of every file but the manifest and the checksums, which have the time."""
        return {
            path.relative_to(self.directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(self.directory.rglob("*"))
            if path.is_file() and path.name not in ("manifest.json", "SHA256SUMS")
        }


def pages_of(archive: Path, output_dir: Path, **options: Any) -> HtmlExport:
    """Export an archive as pages, check the links, and read them."""
    found = HtmlExport.of(directory_of(summary_of(archive, output_dir, **options)))
    found.check_links()
    return found


def summary_of(archive: Path, output_dir: Path, **options: Any) -> ExportSummary:
    """Export an archive as pages."""
    settings: dict[str, Any] = {"workers": 0, "sync": False, **options}
    return export(ExportOptions(archive=archive, output_dir=output_dir, format="html", **settings))


def directory_of(summary: ExportSummary) -> Path:
    """Where an export is."""
    assert summary.directory is not None
    return summary.directory


def at(number: int, time: str, **cells: Cell) -> Row:
    """A post at a time like "2024-05-22 18:57:38"."""
    return post(number, created_at=f"{time} +0000 UTC", **cells)


def uri(number: int, did: str = DID) -> str:
    """The uri of an ordinary post."""
    return f"at://{did}/app.bsky.feed.post/{number:08d}"


def reply(number: int, time: str, parent: str, **cells: Cell) -> Row:
    """A post that answers another one."""
    return at(number, time, is_reply=1, reply_parent=parent, **cells)
