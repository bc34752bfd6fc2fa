"""Exports as pages for people: the part between a held state of the archive and a folder that is complete.

The plan comes first: it needs one pass over the archive. Then workers render pages, whole, and this process writes them
in the order of the plan. It passes the texts for search on to the index, whose files come last.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import apsw

from skyexport import __version__
from skyexport.archive.archive import Archive
from skyexport.archive.profiles import each_profile
from skyexport.errors import ArchiveChangedError
from skyexport.output.media import Media
from skyexport.output.page_folder import PageFolder
from skyexport.pages import templating
from skyexport.pages.planning import PagePlan, Whole, plan_pages
from skyexport.pages.search_index import WordIndex, documents_of, table_js
from skyexport.pages.settings import PageSettings
from skyexport.pipeline.chunks import LargePosts, OrderedChunk, rendered, setup_of
from skyexport.pipeline.hold import Hold, unchanging
from skyexport.pipeline.outcome import Noted, Written
from skyexport.pipeline.preparation import Job, check_state
from skyexport.pipeline.room import check_room_beside_media, sample_if_tight
from skyexport.rendering.pool import Pool
from skyexport.runtime.for_tests import reached
from skyexport.runtime.scratch import Scratch, no_room
from skyexport.selection import Selection

__all__ = ["write_pages"]

_PLAN = "plan.db"
"""Name of the plan's database."""

_PIECE_BYTES = 1 << 20
"""Bytes of a large text that are read at once."""


def write_pages(
    job: Job,
    archive: Archive,
    narrowed: Selection,
    hold: Hold,
    media: Media | None,
    destination: PageFolder,
    notices: Noted,
    *,
    debug: bool,
) -> Written:
    """Write all pages from *archive*, which is that of the job or its copy; arguments as for `export._write`.

    Raises:
        NeverHeldError: Nothing was written.
    """
    resolved, check = job.resolved, job.monitor.check
    large = LargePosts(job.guard)
    with _translating_errors(), Scratch() as scratch:
        setup = replace(setup_of(resolved, archive, job.selection), pages=_settings(archive, scratch.path))
        with large.named():
            sample = sample_if_tight(resolved, archive, job.selection, destination.directory, large.begin)
        with contextlib.ExitStack() as closing, Pool(setup, job.workers, debug=debug) as pool:
            for worker in pool.workers:
                job.tree.add(worker.process.pid)
            hold.take(pool, check)
            reached("held")
            posts = archive.count_posts()
            if archive.copied is None:
                check_state(job, archive.connection, "main")
            job.counters.stage = "planning pages"
            plan = closing.enter_context(PagePlan(scratch.path / _PLAN))
            plan_pages(plan, archive, narrowed, each_profile(job.archive.connection), check)
            if media is not None:
                media.list_files(archive, narrowed)
                plan.add_files(media.present())
            if sample is not None or media is not None:
                least = 0 if sample is None else sample.least_bytes(plan.count_posts() if narrowed.by_list else posts)
                check_room_beside_media(resolved, destination.directory, least, media)
            index = closing.enter_context(_word_index(plan, scratch.path))
            with unchanging(archive), large.named():
                chunks = rendered(plan.units(), archive, setup, pool, large, job.guard, check)
                files = _write_posts(job, plan, chunks, index, destination, notices)
                for whole in plan.wholes():
                    destination.add_pieces(whole.path, _pieces(archive, whole, check))
            pool.stop()
            # The workers are gone and hold nothing. After this, other programs can write.
            hold.release()
            _write_search(plan, index, destination, job)
        for name, content in templating.assets().items():
            destination.add(f"assets/{name}", content, check)
        destination.wait(check)
    job.counters.bytes = destination.bytes_written
    archive.check_unchanged()
    return Written(posts, files, destination.files, hold.seconds, None, page_bytes=destination.bytes_written)


def _settings(archive: Archive, folder: Path) -> PageSettings:
    return PageSettings(
        str(folder / _PLAN), f"skyexport {__version__}", not archive.source.imported,
        archive.schema.uri_index is not None,
    )  # fmt: skip


def _word_index(plan: PagePlan, folder: Path) -> WordIndex:
    words = folder / "words"
    words.mkdir(mode=0o700)
    return WordIndex(words, by_author=plan.count_authors() > 1)


def _write_posts(
    job: Job,
    plan: PagePlan,
    chunks: Iterator[OrderedChunk],
    index: WordIndex,
    destination: PageFolder,
    notices: Noted,
) -> int:
    """Write the rendered files in the order of the plan, and index the texts among them; returns how many there are.

    Raises:
        ArchiveChangedError: Some posts were not there.
    """
    counters, check = job.counters, job.monitor.check
    counters.posts_to_read = plan.count_posts()
    counters.stage = "exporting"
    files = plan.files()
    pieces: list[bytes] = []
    written = 0
    for chunk in chunks:
        if chunk.data:
            pieces.append(bytes(chunk.data))
            counters.posts += chunk.posts
        notices.note(chunk.notices)
        counters.posts_read += chunk.posts_read
        if chunk.ends_batch:
            kind, path, first = next(files)
            content = b"".join(pieces)
            pieces.clear()
            if kind == "posts":
                for rank, document in enumerate(documents_of(content), first):
                    index.add(rank, document.author, document.text)
            destination.add(path, content, check)
            counters.bytes = destination.bytes_written
            written += 1
    if counters.posts_read != counters.posts_to_read:
        raise ArchiveChangedError(f"{counters.posts_read} of {counters.posts_to_read} posts were found")
    return written


def _pieces(archive: Archive, whole: Whole, check: Callable[[], None]) -> Iterator[bytes]:
    """A stored value of any size, behind a mark that lets browsers read it as UTF-8."""
    yield b"\xef\xbb\xbf"
    opened = archive.connection.blob_open
    with archive.translating_errors(), opened("main", "posts", whole.column, whole.row_id, False) as blob:
        while piece := blob.read(_PIECE_BYTES):
            check()
            yield piece


def _write_search(plan: PagePlan, index: WordIndex, destination: PageFolder, job: Job) -> None:
    """Write the index of words, and the table that finds its files."""
    check = job.monitor.check
    firsts = []
    for number, (first, content) in enumerate(index.shards(), 1):
        firsts.append(first)
        destination.add(f"search/words-{number:05}.js", content, check)
    table = table_js(firsts, list(plan.documents()), list(plan.months()), list(plan.authors()), job.counters.posts)
    destination.add("search/table.js", table, check)


@contextlib.contextmanager
def _translating_errors() -> Iterator[None]:
    """Errors of the plan and of the index are those of temporary files."""
    try:
        yield
    except (apsw.FullError, apsw.IOError, apsw.CantOpenError) as error:
        raise no_room(OSError(0, str(error))) from error
    except OSError as error:
        raise no_room(error) from error
