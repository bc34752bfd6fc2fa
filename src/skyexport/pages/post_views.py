"""Stored posts as views: what templates show of a post, and what search finds in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from skyexport import json_text
from skyexport.archive.shown_media import digest_of
from skyexport.notices import Notices
from skyexport.pages import paths
from skyexport.pages.addresses import did_of, post_address
from skyexport.pages.embed_views import NO_EMBED, ShownEmbed, ShownRecord, embed_view, labels_of
from skyexport.pages.post_text import clean, segments
from skyexport.pages.views import AuthorView, Card, Image, Link, Parent, PostView, Quote, Video
from skyexport.posts import StoredPost, StoredValue, as_bytes, count_text, utc_time
from skyexport.wording import format_size

__all__ = ["CopiedFile", "Lookup", "parent_elsewhere", "post_view", "search_text"]

_IMAGES = (".jpg", ".jpeg", ".png", ".gif", ".webp", ".avif")
_VIDEOS = (".mp4", ".webm")
"""Suffixes of files that a page shows. Any other kind of file, which might be a page itself, it only mentions."""

_SMALLEST_SIDE = 100
"""Pixels; a smaller aspect ratio says nothing about the size of an image."""
_USUAL_SIDE = 1000

_LONGEST_UNREADABLE = 40
"""Characters that are shown of a time or a number that is none."""
_LONGEST_CHARACTER = 4
"""Bytes of a character in UTF-8."""

_UNREADABLE_LABEL = "with something unreadable"
"""Stands for labels that nobody can read: the post is shown after a click, too."""

_COUNTS = (
    ("like_count", "like", "likes"),
    ("repost_count", "repost", "reposts"),
    ("reply_count", "reply", "replies"),
    ("quote_count", "quote", "quotes"),
)


@dataclass(frozen=True, slots=True)
class CopiedFile:
    """A media file in the export."""

    sha256: str
    href: str
    """Relative address, seen from the page."""
    mime_type: str
    width: int
    """0 if unknown."""
    height: int
    size_bytes: int
    alt: str


class Lookup(Protocol):
    """The rest of the export, as far as a post needs it."""

    def place(self, uri: str) -> str | None:
        """Relative address of the post with this uri, seen from the page; None if the export does not have it."""
        ...

    def files(self, uri: bytes) -> Sequence[CopiedFile]:
        """The media files of the post that are in the export."""
        ...

    def author(self, did: str) -> AuthorView:
        """The author as the archive knows them: names may be empty."""
        ...


def post_view(
    post: StoredPost,
    lookup: Lookup,
    *,
    anchor: str,
    counts_known: bool,
    parent: Parent | None,
    thread: Link | None,
    whole_text: Link | None,
    whole_embed: Link | None,
    time: str,
    notices: Notices,
) -> PostView:
    """The view of a post.

    Args:
        post: The stored values. Of a text that is too large it has the beginning or None, of such an embed None.
        lookup: The rest of the export.
        anchor: Its `id`, from `addresses.anchor_of`.
        counts_known: Whether numbers of likes and the like mean anything.
        parent: The post that this one answers.
        thread: The page of its thread.
        whole_text: The file with the whole text if it is too large.
        whole_embed: The file with the whole embed if it is too large.
        time: `created_at` as RFC 3339 in UTC; empty if it is not readable.
        notices: Stored values that cannot be shown as they are.
    """
    stored_uri = as_bytes(post["uri"])
    notes = _Notes(notices, stored_uri)
    stored_did = as_bytes(post["did"])
    uri, did = stored_uri.decode(errors="surrogateescape"), stored_did.decode(errors="surrogateescape")
    if not uri.isprintable():
        uri = notes.text(stored_uri, "uri")
    if not did.isprintable():
        did = notes.text(stored_did, "did")
    stored_text = as_bytes(post["text"])
    text = notes.text(_whole_characters(stored_text) if whole_text else stored_text, "text")
    if time:
        time_text = paths.time_text(time)
    else:
        notes.add("unreadable_time", "created_at")
        time_text = _beginning(post["created_at"])
    counts = _counts(post, notes) if counts_known else ()
    if post["reply_parent"]:
        notes.text(post["reply_parent"], "reply_parent")
    shown = NO_EMBED
    if stored_embed := post["embed_data"]:
        shown = embed_view(as_bytes(stored_embed))
        if shown.problem:
            notes.add(shown.problem, "embed_data")
    labels: Sequence[str] = ()
    stored_labels = post["labels"]
    if stored_labels and stored_labels != b"null":
        labels, problem = labels_of(as_bytes(stored_labels))
        if problem:
            notes.add(problem, "labels")
            labels = labels or (_UNREADABLE_LABEL,)
    href = post_address(uri)
    files = lookup.files(stored_uri)
    media = _Media(shown, files, href) if files or shown is not NO_EMBED else _NO_MEDIA
    if post["has_media"] and not media.has_any and not shown.other_embed and not whole_embed:
        media = _Media(shown, (), href)
        media.notes.append("This post has media that this export does not have.")
    card = media.card
    return PostView(
        anchor=anchor,
        author=lookup.author(did),
        time=time,
        time_text=time_text,
        href=href,
        text=segments(text, (card.href,) if card else ()),
        whole_text=whole_text,
        whole_embed=whole_embed,
        parent=parent,
        thread=thread,
        images=media.images,
        video=media.video,
        card=card,
        quote=_quote(shown.quote, lookup) if shown.quote else None,
        other_embed=shown.other_embed,
        notes=media.notes,
        labels=labels,
        counts=counts,
    )


def parent_elsewhere(uri: bytes, lookup: Lookup) -> Parent:
    """The post that is answered, if only its uri is known.

    Args:
        uri: As stored.
        lookup: The rest of the export.
    """
    text = uri.decode(errors="surrogateescape")
    author: AuthorView | None = None
    if text.startswith("at://"):
        known = lookup.author(text.removeprefix("at://").partition("/")[0])
        author = known if known.href else None
    return Parent(author, "", post_address(clean(text)), here=False)


def search_text(text: bytes, embed: bytes) -> str:
    """The text that search finds in a post: its own, alt texts, title and description of a card, text of a quote.

    Args:
        text: As stored.
        embed: As stored.
    """
    found = [clean(json_text.decode(text))]
    if embed and embed != b"null":
        shown = embed_view(embed)
        found += [image.alt for image in shown.images]
        if shown.video:
            found.append(shown.video.alt)
        if shown.card:
            found += (shown.card.title, shown.card.description)
        if shown.quote:
            found += (shown.quote.title, shown.quote.text)
    return "\n".join([part for part in found if part])


class _Notes:
    """Notices about the columns of a post."""

    def __init__(self, notices: Notices, uri: bytes) -> None:
        self._notices = notices
        self._uri = uri

    def add(self, kind: str, column: str) -> None:
        self._notices.add(kind, f"{column} of {json_text.decode(self._uri)}")

    def text(self, value: StoredValue, column: str) -> str:
        """A column as text that a page can hold."""
        data = as_bytes(value)
        try:
            return clean(data.decode())
        except UnicodeDecodeError:
            self.add("invalid_utf8", column)
            return clean(json_text.decode(data))


def _whole_characters(data: bytes) -> bytes:
    """The beginning of a text without the character at its end that may be cut."""
    for length in range(1, min(_LONGEST_CHARACTER, len(data) + 1)):
        first = data[-length]
        if first >= 0xC0:
            needed = 2 + (first >= 0xE0) + (first >= 0xF0)
            return data[:-length] if length < needed else data
        if first < 0x80:
            break
    return data


def _counts(post: StoredPost, notes: _Notes) -> Sequence[tuple[str, str, str]]:
    counts = []
    for column, singular, plural in _COUNTS:
        value = post[column]
        if isinstance(value, int):
            if value > 0:
                counts.append((singular, plural, f"{value:,}"))
        elif (number := count_text(value)) is None:
            notes.add("unreadable_count", column)
            if value != b"":
                counts.append((singular, plural, _beginning(value)))
        elif isinstance(value, float) and value > 0:
            counts.append((singular, plural, number))
    return counts


def _beginning(value: StoredValue) -> str:
    """A value that is not what it should be, as far as it is shown."""
    return clean(json_text.decode(as_bytes(value)[: _LONGEST_UNREADABLE * _LONGEST_CHARACTER]))[:_LONGEST_UNREADABLE]


class _Media:
    """Images and videos of a post, matched with the files of the export."""

    def __init__(self, shown: ShownEmbed, files: Sequence[CopiedFile], href: str) -> None:
        self.notes: list[str] = []
        self._files = {file.sha256: file for file in files}
        self._left = dict(self._files)
        slots = len(shown.images) + (shown.video is not None) + bool(shown.card_image)
        only = files[0] if slots == 1 and len(files) == 1 else None
        self.images = [
            _image(image.alt, image.href, image.width, image.height, self._take(image.name, _IMAGES, only))
            for image in shown.images
        ]
        self.video: Video | None = None
        if shown.video:
            video = shown.video
            file = self._take(video.name, _VIDEOS, only)
            self.video = Video(
                video.alt or (file.alt if file else ""), file.href if file else "", href, video.width, video.height
            )
        self.card = shown.card
        if shown.card and shown.card_image and (file := self._take(shown.card_image, _IMAGES, only)):
            card = shown.card
            self.card = Card(card.title, card.description, card.href, card.host, _image("", "", 0, 0, file))
        for file in self._left.values():
            self._add(file, href)
        self.has_any = bool(self.images or self.video or self.card or files or shown.quote)

    def _take(self, name: str, suffixes: tuple[str, ...], only: CopiedFile | None) -> CopiedFile | None:
        """The file with the digest in a name, or the only one; its kind must be right."""
        file = only
        if self._files and name:
            file = self._files.get(digest_of(name.encode(errors="replace")) or "", only)
        if file is None or not file.href.lower().endswith(suffixes):
            return None
        # A post may show a file twice.
        self._left.pop(file.sha256, None)
        return file

    def _add(self, file: CopiedFile, href: str) -> None:
        """Show a file that no embed explains."""
        alt = clean(file.alt)
        suffix = file.href.lower()
        if suffix.endswith(_IMAGES):
            self.images.append(_image(alt, "", 0, 0, file))
        elif suffix.endswith(_VIDEOS) and self.video is None:
            self.video = Video(alt, file.href, href, _side(file.width), _side(file.height))
        else:
            kind = clean(file.mime_type) or "unknown kind"
            self.notes.append(f"A file of this post is not shown here: {kind}, {format_size(file.size_bytes)}.")


_NO_MEDIA = _Media(NO_EMBED, (), "")


def _image(alt: str, href: str, width: int, height: int, file: CopiedFile | None) -> Image:
    if file is None:
        return Image(alt, "", href, width, height)
    if file.width > 0 and file.height > 0:
        width, height = _side(file.width), _side(file.height)
    elif width and max(width, height) < _SMALLEST_SIDE:
        scale = _USUAL_SIDE / max(width, height)
        width, height = max(1, round(width * scale)), max(1, round(height * scale))
    return Image(alt or clean(file.alt), file.href, href, width, height, file.size_bytes)


def _side(pixels: int) -> int:
    return pixels if 0 < pixels < 1 << 31 else 0


def _quote(record: ShownRecord, lookup: Lookup) -> Quote:
    place = lookup.place(record.uri)
    author = record.author
    if author is None and (did := did_of(record.uri)):
        known = lookup.author(did)
        author = known if known.name or known.handle else None
    note = record.note
    link: Link | None
    if place is not None:
        link = Link("Quoted post", place)
        note = "" if not record.text and not record.title else note
    else:
        where = " on bsky.app" if not record.title else ""
        link = Link(f"{record.title or 'Quoted post'}{where}", record.href) if record.href else None
    time = utc_time(record.created_at.encode()) if record.created_at else None
    title = record.title if link is None else ""
    return Quote(author, segments(record.text or title), f"{time}Z" if time else "", link, note)
