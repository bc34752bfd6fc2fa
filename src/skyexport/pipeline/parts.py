"""A split export in parts: each data file is written by whatever process is free, on this machine or on another.

With a limit of posts per file, a file depends on its posts alone. So one process can plan all files and others write
them: a part is the batches of one file, and how many of their posts belong to the files before. The process that writes
a part reads these batches and nothing else.

All parts must be of one state of the archive, which no process can hold for the others. So the state of its files is
compared before and after each part, and nobody may write to it meanwhile.

A part may be written twice at once. Each attempt has a name of its own, and one rename wins; the bytes are the same.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import apsw

from skyexport.archive.archive import Archive
from skyexport.archive.export_order import selected_batches
from skyexport.archive.plan import Batch, Plan
from skyexport.errors import ArchiveBusyError, ArchiveChangedError, ArchiveError, OutputError
from skyexport.formats import format_with
from skyexport.notices import Notices
from skyexport.options.export_options import ExportOptions, Resolved, Split, resolve
from skyexport.output.destination import Destination
from skyexport.output.directory import Directory
from skyexport.output.media import Media
from skyexport.output.places import create
from skyexport.output.writer import OrderedWriter, OutputFile, WrittenFile
from skyexport.pipeline.chunks import LargePosts, rendered, setup_of
from skyexport.pipeline.hold import Hold, unchanging
from skyexport.pipeline.outcome import Noted, Written
from skyexport.pipeline.preparation import SQLITE_STEPS, Job, planned
from skyexport.rendering.pool import Pool
from skyexport.runtime.disk import as_output_error
from skyexport.runtime.location import absolute
from skyexport.runtime.memory import MemoryGuard, ProcessTree
from skyexport.runtime.progress import Counters, Monitor, Progress
from skyexport.runtime.sqlite_files import file_state
from skyexport.selection import Selection

__all__ = ["Part", "PartWriters", "WrittenPart", "cut_into_files", "write_in_parts", "write_part"]


@dataclass(frozen=True, slots=True)
class Part:
    """One data file of an export, to be written."""

    number: int
    """Number of the file, from 1."""
    archive: Path
    """The file to read: the archive, or a copy of it."""
    state: dict[str, object]
    """The state of that file, as `file_state` returns it."""
    batches: tuple[Batch, ...]
    """All of their posts are selected."""
    skip: int
    """Posts of the first batch that belong to files before."""
    path: Path
    """Where to write."""
    options: ExportOptions


@dataclass(frozen=True, slots=True)
class WrittenPart:
    """A data file that is complete under its name."""

    number: int
    file: WrittenFile
    posts: int
    notices: Notices
    """Of the batches that begin in this file."""
    peak_memory_bytes: int | None


def cut_into_files(batches: Iterable[Batch], posts: int) -> Iterator[tuple[tuple[Batch, ...], int]]:
    """Yield the batches of each file, and how many posts of the first one belong to files before.

    Args:
        batches: All batches, in export order.
        posts: Most posts in a file. Without any post there is one file.
    """
    pending: list[Batch] = []
    skip = there = files = 0
    for batch in batches:
        pending.append(batch)
        there += batch.posts
        while there >= posts:
            yield tuple(pending), skip
            files += 1
            there -= posts
            pending = pending[-1:] if there else []
            skip = pending[0].posts - there if there else 0
    if there or not files:
        yield tuple(pending), skip


class PartWriters(Protocol):
    """Processes that write parts."""

    workers: int
    """How many there are."""

    def written(self, parts: Iterator[Part], check: Callable[[], None]) -> Iterator[WrittenPart]:
        """Yield the parts as they are written, in any order.

        Args:
            parts: All parts.
            check: Called all the time; an exception from it stops all work.

        Raises:
            ExportError: A part could not be written.
        """
        ...

    def in_hand(self) -> tuple[int, int]:
        """Posts and bytes of the parts in work."""
        ...


def _parts_of(
    resolved: Resolved, archive: Archive, batches: Iterable[Batch], path_of: Callable[[int], Path]
) -> Iterator[Part]:
    """Yield the parts of a split export.

    Args:
        resolved: The options, with a limit of posts per file.
        archive: The archive, or its copy.
        batches: Batches, all of whose posts are selected.
        path_of: Returns the path of the data file with this number.

    Raises:
        ArchiveBusyError: Another program may be writing to the archive.
    """
    path = Path(archive.source.path)
    state = file_state(path)
    if "log" in state or "journal" in state:
        raise ArchiveBusyError(
            f"{archive.display_path} has changes that are not in the file yet: another program may be writing to it",
            "end it, or use --snapshot copy",
        )
    assert resolved.options.split_posts is not None
    with unchanging(archive):
        for number, (own, skip) in enumerate(cut_into_files(batches, resolved.options.split_posts), 1):
            yield Part(number, path, state, own, skip, absolute(path_of(number)), resolved.options)


def write_in_parts(
    parts: PartWriters,
    job: Job,
    archive: Archive,
    narrowed: Selection,
    hold: Hold,
    media: Media | None,
    destination: Destination,
    notices: Noted,
) -> Written:
    """Let others write all data files from *archive*: the same as `_write`, and for the same job.

    Raises:
        NeverHeldError: Nothing was written.
    """
    assert isinstance(destination, Directory)
    counters = job.counters
    written: list[WrittenPart] = []
    batches = 0

    def check() -> None:
        job.monitor.check()
        posts, size = parts.in_hand()
        counters.posts = counters.posts_read = sum(part.posts for part in written) + posts
        counters.bytes = sum(part.file.bytes for part in written) + size

    def counted(all_batches: Iterable[Batch]) -> Iterator[Batch]:
        nonlocal batches
        for batch in all_batches:
            batches += 1
            yield batch

    hold.take(Pool(setup_of(job.resolved, archive, narrowed), 0), job.monitor.check)
    posts, disappeared, plan = planned(job, archive, narrowed, media)
    counters.posts_to_read = plan.posts
    counters.stage = "exporting"
    destination.leave_to_others()
    selected = selected_batches(archive, narrowed, counted(plan.batches))
    written.extend(parts.written(_parts_of(job.resolved, archive, selected, destination.path_of), check))
    check()
    hold.release()
    archive.check_unchanged()
    written.sort(key=lambda part: part.number)
    for part in written:
        notices.note(part.notices)
        job.guard.peak_bytes = max(job.guard.peak_bytes or 0, part.peak_memory_bytes or 0) or None
    destination.adopt([part.file for part in written])
    return Written(posts, batches, len(written), hold.seconds, disappeared)


def write_part(part: Part, on_progress: Callable[[Progress], None] | None, *, debug: bool = False) -> WrittenPart:
    """Write one data file.

    Args:
        part: The part.
        on_progress: As in `export`.
        debug: Let workers write to this process's standard error.

    Raises:
        ArchiveChangedError: Somebody wrote to the archive since the parts were planned.
        ExportError: As `export` raises it; the file does not exist then.
    """
    resolved = resolve(part.options)
    counters, tree = Counters(), ProcessTree()
    guard = MemoryGuard(part.options.memory_limit_bytes, tree.sample)
    workers = part.options.workers if isinstance(part.options.workers, int) else 0
    large = LargePosts(guard)
    _check_state(part)
    with (
        Archive(part.archive, memory=guard) as archive,
        Monitor(counters, guard, on_progress) as monitor,
        contextlib.closing(_PartFiles(part)) as files,
    ):
        archive.watch(monitor.check, SQLITE_STEPS)
        setup = setup_of(resolved, archive, Selection())
        hold = Hold(archive)
        plan = Plan(iter(part.batches), sum(batch.posts for batch in part.batches), exact=True)
        counters.posts_to_read = plan.posts
        counters.stage = "exporting"
        format = format_with(resolved.format, resolved.settings)
        writer = OrderedWriter(
            format, files.first, resolved.compression, Split(posts=files.most), files.next_file,
            posts_in_file=files.posts_before,
        )  # fmt: skip
        notices = Notices()
        begun = read = 0
        with Pool(setup, workers, debug=debug) as pool:
            for worker in pool.workers:
                tree.add(worker.process.pid)
            hold.take(pool, monitor.check)
            _check_state(part)
            with _changed_before(part), unchanging(archive), large.named():
                for chunk in rendered(plan.batches, archive, setup, pool, large, guard, monitor.check):
                    if chunk.data:
                        writer.add(chunk.data, chunk.posts, chunk.plain_bytes, goes_on=chunk.goes_on)
                    if begun or not part.skip:
                        notices.merge(chunk.notices)
                    begun += chunk.ends_batch
                    read += chunk.posts_read
                    counters.posts_read = read
                    counters.posts, counters.bytes = files.posts_of(writer.posts), files.bytes_written
                if read != plan.posts:
                    raise ArchiveChangedError(f"{read} of {plan.posts} posts were found")
        hold.release()
        writer.finish()
        archive.check_unchanged()
        file = files.finish()
        _check_state(part)
        guard.sample()
        return WrittenPart(part.number, file, files.posts_of(plan.posts), notices, guard.peak_bytes)


@contextlib.contextmanager
def _changed_before(part: Part) -> Iterator[None]:
    """If somebody wrote to the archive, that is the reason for whatever is wrong with it."""
    try:
        yield
    except (ArchiveError, ArchiveChangedError):
        _check_state(part)
        raise


def _check_state(part: Part) -> None:
    """Check that the archive is still that of the plan.

    Raises:
        ArchiveChangedError: It is not.
    """
    try:
        state = file_state(part.archive)
    except (OSError, apsw.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ArchiveChangedError(f"{part.archive} cannot be read: {reason}", "can this machine see it?") from None
    if state != part.state:
        raise ArchiveChangedError(
            f"somebody wrote to {part.archive} during its export", "end that program, or use --snapshot copy"
        )


class _PartFiles:
    """The file of a part under a hidden name; posts of the files before and after it go nowhere."""

    def __init__(self, part: Part) -> None:
        self._part = part
        assert part.options.split_posts is not None
        self.most = part.options.split_posts
        """Most posts in a file."""
        begins = (part.number - 1) * self.most - part.skip
        self._number = begins // self.most + 1
        """Number of the open file."""
        self.posts_before = begins % self.most
        """Posts of the file in which the first batch begins that are not in the batch."""
        self._hidden = part.path.with_name(f".{part.path.name}-{secrets.token_hex(4)}")
        self._opened: list[OutputFile] = []
        self._file = create(self._hidden, sync=part.options.sync, display_path=part.path)
        self._complete: WrittenFile | None = None
        self.first = self._open()

    def _open(self) -> OutputFile:
        if self._number == self._part.number:
            return self._file
        nowhere = OutputFile(os.open(os.devnull, os.O_WRONLY), os.devnull, durable=False)
        self._opened.append(nowhere)
        return nowhere

    def next_file(self) -> OutputFile:
        """Complete the open file, and open the next."""
        if self._number == self._part.number:
            self.finish()
        self._number += 1
        return self._open()

    def posts_of(self, posts: int) -> int:
        """How many of the first *posts* posts of the batches are in the file."""
        return max(0, min(self.most, posts - self._part.skip))

    @property
    def bytes_written(self) -> int:
        """Bytes of the file so far."""
        return self._file.bytes_written

    def finish(self) -> WrittenFile:
        """Wait until the file is on disk, and give it its name."""
        if self._complete is None:
            path = self._part.path
            self._file.sync()
            self._file.close()
            self._complete = self._file.written(path.name)
            with as_output_error(path):
                self._hidden.replace(path)
        return self._complete

    def close(self) -> None:
        """Close what is open, and remove an unfinished file. More than once does no harm."""
        for file in (self._file, *self._opened):
            with contextlib.suppress(OutputError):
                file.close()
        with contextlib.suppress(OSError):
            self._hidden.unlink(missing_ok=True)
