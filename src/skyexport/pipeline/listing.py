"""An archive as Python programs read it: its posts, as objects."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, Literal, overload

from skyexport.archive import archive as source
from skyexport.archive.export_order import row_ids_in_order
from skyexport.archive.plan import row_id_batches
from skyexport.errors import ArchiveError, OptionError
from skyexport.formats import FORMATS
from skyexport.formats.chunk import Chunk
from skyexport.formats.format import Format
from skyexport.options.export_options import DEFAULT_BATCH_SIZE
from skyexport.options.types import check_type
from skyexport.options.values import Bound, is_did, parse_author, parse_bound
from skyexport.rendering.renderer import BatchRenderer
from skyexport.selection import Selection

__all__ = ["Archive", "Post"]

Post = dict[str, Any]
"""One post: the object that the JSON export has for it."""

_TOO_DEEP = b"\n" + b"  " * 1000
"""JSON with such a line has as many levels as SQLite refuses. Python 3.11 takes fewer, 3.13 many more."""


class Archive(source.Archive):
    """An open archive, whose posts can be listed too. Use it in a `with` statement.

        with Archive("archive.db") as archive:
            print(archive.count_posts())
            for post in archive.list_posts(since="2024-01-01"):
                print(post["created_at"], post["text"])

    Args:
        path: The SQLite file.
        memory: The memory limit: copying refuses a post that surely exceeds it. None for no limit.
        match: The query that `matching` will get. If the archive must be recovered, its index is queried at once, since
            the copy has no index. None for no query.

    Raises:
        OptionError: *path* is not a path.
        ArchiveError: The archive is missing, or cannot be read.
        ArchiveBusyError: Another program keeps writing to it.
    """

    @overload
    def list_posts(
        self, did: str | None = None, since: Bound = None, until: Bound = None, limit: Literal[0] = 0, offset: int = 0
    ) -> Iterator[Post]: ...

    @overload
    def list_posts(
        self, did: str | None = None, since: Bound = None, until: Bound = None, limit: int = 0, offset: int = 0
    ) -> list[Post] | Iterator[Post]: ...

    def list_posts(
        self, did: str | None = None, since: Bound = None, until: Bound = None, limit: int = 0, offset: int = 0
    ) -> list[Post] | Iterator[Post]:
        """Read posts in export order, each as the object that the JSON export has for it.

        Args:
            did: DID of the author; None for all authors.
            since: Earliest creation time, inclusive: a date (whole UTC day) or an instant, as in `ExportOptions`. None
                for no bound.
            until: Latest creation time, inclusive, as for *since*.
            limit: Above 0: return a list of at most so many posts. 0: return an iterator over all posts. It holds one
                batch at a time, and works only while the archive is open.
            offset: Posts to skip first.

        Raises:
            OptionError: A bound is not a date, *did* is a handle, a number is negative, or a value has a wrong type.
            ArchiveError: The archive cannot be read.
        """
        check_type("did", did, str | None)
        check_type("limit", limit, int)
        check_type("offset", offset, int)
        if limit < 0 or offset < 0:
            raise OptionError(f"limit {limit} or offset {offset} is negative", "use 0 or more")
        if did is not None and not is_did(parse_author(did)):
            raise OptionError(f"{did} is a handle", "use the DID, which `find_author` returns")
        selection = Selection(
            did, parse_bound(since, end_of_day=False, name="since"), parse_bound(until, end_of_day=True, name="until")
        )
        posts = self._posts(selection, limit or -1, offset)
        return list(posts) if limit else posts

    def _posts(self, selection: Selection, limit: int, offset: int) -> Iterator[Post]:
        # Sort row ids, then render by row id, on a separate connection that the caller cannot disturb.
        with self.second_connection() as connection, self.translating_errors():
            renderer = BatchRenderer(connection, self.columns, None, FORMATS["json"], Selection())
            row_ids = row_ids_in_order(self, selection, limit=limit, offset=offset, connection=connection)
            for batch in row_id_batches(row_ids, DEFAULT_BATCH_SIZE):
                yield from _parsed(b"".join(_file(FORMATS["json"], renderer.render(batch))))


def _file(format: Format, chunks: Iterable[Chunk]) -> Iterator[bytes]:
    """Yield the pieces of the file that *chunks* make."""
    file = format.new_file()
    for chunk in chunks:
        for piece in file.add(chunk.data, chunk.posts):
            yield bytes(piece)
    yield from file.finish()


def _parsed(posts: bytes) -> list[Post]:
    try:
        if _TOO_DEEP in posts:
            raise RecursionError
        parsed: list[Post] = json.loads(posts, parse_int=_integer)
    except RecursionError:
        raise ArchiveError(
            "a post has an embed that is nested too deeply for Python", "export to a file, which allows any depth"
        ) from None
    return parsed


def _integer(digits: str) -> int | float:
    """A JSON integer; a float if it has thousands of digits, which Python refuses."""
    try:
        return int(digits)
    except ValueError:
        return float(digits)
