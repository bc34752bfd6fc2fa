"""Importing a repository, from its CAR file to an archive.

The way: every block of the file is checked and noted (`blocks`); the tree leads from the commit to the records, in the
order of their keys (`tree`); each post becomes a row (`posts`, `embeds`) of a database under a hidden name
(`building`); files of blobs are copied (`blobs`); and then the database gets its name. Nothing comes from the clock, so
the same file always gives the same rows.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from skyexport.errors import NO_MEMORY, MemoryLimitError, OptionError, StoppedError
from skyexport.repository.blobs import BlobCopier, check_blob_directory
from skyexport.repository.blocks import Blocks
from skyexport.repository.building import Building
from skyexport.repository.existing import Existing, check_target
from skyexport.repository.identifiers import NO_HANDLE, is_handle, tid_microseconds
from skyexport.repository.posts import POSTS, PROFILE, ZERO_TIME, Profile, go_time, post_of, profile_of
from skyexport.repository.summary import ImportSummary, Listed
from skyexport.repository.tree import Commit, commit_of, records
from skyexport.runtime.cleanup import uninterrupted
from skyexport.runtime.disk import as_output_error
from skyexport.runtime.hidden_file import HiddenFile
from skyexport.runtime.memory import MemoryGuard, ProcessTree
from skyexport.runtime.progress import Counters, Monitor, Progress
from skyexport.runtime.sync import sync_file
from skyexport.wording import printable_path

__all__ = ["DEFAULT_MEMORY_LIMIT_BYTES", "import_repository", "imported_into"]

DEFAULT_MEMORY_LIMIT_BYTES = 500_000_000

_POST = "app.bsky.feed.post"
_FOLLOW = "app.bsky.graph.follow"

_LOOK_RECORDS = 256
_LOOK_BYTES = 4_000_000
"""Records, or their bytes, between two looks for signals and memory."""


def import_repository(
    car: str | os.PathLike[str],
    to: str | os.PathLike[str],
    *,
    blobs: str | os.PathLike[str] | None = None,
    handle: str | None = None,
    remove_gone: bool = False,
    memory_limit_bytes: int = DEFAULT_MEMORY_LIMIT_BYTES,
    on_progress: Callable[[Progress], None] | None = None,
) -> ImportSummary:
    """Make an archive of a Bluesky repository, or bring one up to date that was made so.

        summary = import_repository("repo.car", "me.db", handle="me.bsky.social")
        print(summary.posts, summary.new_posts)

    Args:
        car: The CAR file.
        to: The archive: new, or made by an earlier import, also of another account.
        blobs: Folder with files of images and videos, named by CID; None to import none.
        handle: The handle of the account; None for the one that the archive has, or `handle.invalid`.
        remove_gone: Remove posts from the archive that the repository no longer has.
        memory_limit_bytes: As for exports.
        on_progress: As for `export`.

    Returns:
        The summary, once the archive is on disk under its name.

    Raises:
        RepositoryError: The file is no repository, or damaged. Then nothing was changed, as after any other error.
        OptionError: *handle* is not a handle, or *car* and *to* are the same file.
        OutputError: The archive cannot be written, or no import made it.
        ArchiveBusyError, AlreadyRunningError: Another program is using the archive.
        ArchiveChangedError: The CAR file was written to meanwhile.
        MissingExtraError: libipld is not installed.
    """
    source, target = Path(car), Path(to)
    handle = None if handle is None else _checked_handle(handle)
    with contextlib.suppress(OSError):
        if source.samefile(target):
            what = f"{printable_path(source)} and the archive are the same file"
            raise OptionError(what, "choose another name for the archive")
    final = check_target(target)
    if blobs is not None:
        check_blob_directory(Path(blobs))
    counters, tree = Counters(), ProcessTree()
    counters.stage = "checking the repository"
    guard = MemoryGuard(memory_limit_bytes, tree.sample)
    place = HiddenFile(target, overwrite=True, sync=True)
    copier = None
    try:
        place.open()
        with Monitor(counters, guard, on_progress) as monitor, Blocks(source) as blocks:
            commit = _checked(blocks, counters, monitor.check)
            with Existing(final) as existing:
                _make(place.hidden, final)
                with Building(place.hidden, existing, monitor.check) as building:
                    summary = _filled(
                        blocks, commit, building, handle, counters, monitor.check, remove_gone=remove_gone
                    )  # fmt: skip
                    if blobs is not None:
                        counters.stage = "copying media"
                        copier = BlobCopier(Path(blobs), final.parent, place.another_name(), monitor.check)
                        building.note_sizes(copier.copy(building.wanted()))
                blocks.check_unchanged()
                counters.stage = "finishing"
                with as_output_error(target), place.hidden.open("rb+") as file:
                    sync_file(file.fileno())
                existing.let_go()
                place.commit()
        return replace(
            summary, path=target, media_files=0 if copier is None else copier.files,
            media_bytes=0 if copier is None else copier.bytes, blobs_given=blobs is not None,
            seconds=counters.seconds, peak_memory_bytes=guard.peak_bytes, memory_metric=tree.metric,
        )  # fmt: skip
    except BaseException as error:
        uninterrupted(lambda: _undo(place, copier))
        if isinstance(error, StoppedError) and place.kept is not None:
            raise StoppedError(error.signal_number, str(target)) from None
        if isinstance(error, MemoryError):
            raise MemoryLimitError(NO_MEMORY, "end other programs, and try again") from error
        raise


def imported_into(path: Path, blocks: Blocks, counters: Counters, check: Callable[[], None]) -> None:
    """Make a new archive of a repository, for one export.

    Args:
        path: A new file in a private directory.
        blocks: The CAR file.
        counters: Counts posts and bytes.
        check: Called again and again; an exception that it raises ends the import.

    Raises:
        RepositoryError: The file is damaged.
        OutputError: There is no room.
    """
    commit = _checked(blocks, counters, check)
    path.touch(0o600, exist_ok=False)
    with Building(path, None, check) as building:
        _filled(blocks, commit, building, None, counters, check, remove_gone=False)
    blocks.check_unchanged()


def _checked(blocks: Blocks, counters: Counters, check: Callable[[], None]) -> Commit:
    """Check all blocks of the file; returns the commit."""
    counters.stage = "checking the repository"

    def on_read(read_bytes: int) -> None:
        counters.read_back_bytes = read_bytes
        check()

    blocks.scan(on_read)
    return commit_of(blocks)


def _filled(
    blocks: Blocks, commit: Commit, building: Building, handle: str | None, counters: Counters,
    check: Callable[[], None], *, remove_gone: bool,
) -> ImportSummary:  # fmt: skip
    """Fill the archive with all that the repository has for it."""
    archived_at = _archived_at(blocks, commit, check)
    latest = building.latest(commit.did)
    is_older = latest is not None and latest[1] > archived_at
    if is_older and remove_gone:
        raise OptionError(
            f"the archive has a newer state of this account than that of {archived_at[:10]}, so nothing is gone",
            "leave out --remove-gone",
        )
    before = building.count_posts(commit.did)
    building.begin(replaces=not is_older)
    counters.stage = "importing posts"
    counts: Counter[str] = Counter()
    odd = {"time": Listed(), "embed": Listed()}
    profile = Profile()
    collection, prefix, looked = "", b"/", 0
    for number, (key, cid, node_offset) in enumerate(records(blocks, commit, check)):
        if not number % _LOOK_RECORDS or blocks.read_bytes > looked + _LOOK_BYTES:
            counters.posts_read, looked = counts[_POST], blocks.read_bytes
            check()
        if not key.startswith(prefix):
            prefix = key[: key.index(b"/") + 1]
            collection = prefix[:-1].decode()
        counts[collection] += 1
        if prefix == POSTS:
            value, _ = blocks.value(cid, node_offset)
            post = post_of(value, commit.did, key[len(POSTS) :].decode(), cid, archived_at)
            building.add(post)
            if post.time_from_key:
                odd["time"].add(post.row[0])
            if post.unknown_embed:
                odd["embed"].add(post.row[0])
        elif key == PROFILE:
            profile = profile_of(blocks.value(cid, node_offset)[0], commit.did)
        else:
            blocks.check_has(cid, node_offset)
    counters.posts_read = counts[_POST]
    after = building.count_posts(commit.did)
    gone = Listed()
    if not is_older:
        for uri in building.gone(commit.did):
            gone.add(uri)
    if gone.count and remove_gone:
        building.remove_gone(commit.did)
    counters.stage = "making indexes"
    if handle is None:
        handle = NO_HANDLE if latest is None else latest[0]
    building.finish(commit.did, handle, profile, counts[_FOLLOW], archived_at)
    return ImportSummary(
        path=Path(), did=commit.did, handle=handle, archived_at=archived_at, is_older=is_older,
        posts=counts[_POST], new_posts=after - before, changed_posts=building.written - (after - before),
        gone_posts=gone.count, gone=gone.first, removed=remove_gone and gone.count > 0,
        records=dict(sorted(counts.items())), media=building.count_media(), times_from_keys=odd["time"].count,
        unknown_embeds=odd["embed"].count, odd_posts={kind: posts.first for kind, posts in odd.items()},
    )  # fmt: skip


def _archived_at(blocks: Blocks, commit: Commit, check: Callable[[], None]) -> str:
    """The time of the repository: that of the commit's revision, or else of the newest record key."""
    microseconds = None if commit.revision is None else tid_microseconds(commit.revision)
    if microseconds is None:
        keys = (record.key.rpartition(b"/")[2].decode() for record in records(blocks, commit, check))
        microseconds = max((time for time in map(tid_microseconds, keys) if time is not None), default=None)
    return ZERO_TIME if microseconds is None else go_time(microseconds)


def _checked_handle(handle: str) -> str:
    handle = handle.removeprefix("@").lower()
    if not is_handle(handle):
        raise OptionError(f"{handle!r} is not a handle", "it looks like alice.bsky.social")
    return handle


def _make(hidden: Path, target: Path) -> None:
    """Make the file, with the permissions of the archive that it will replace; SQLite would let all users read it."""
    with as_output_error(target):
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
        os.close(os.open(hidden, flags, 0o600))
        if target.exists():
            shutil.copymode(target, hidden)


def _undo(place: HiddenFile, copier: BlobCopier | None) -> None:
    place.abort()
    if copier is not None and place.kept is None:
        copier.undo()
