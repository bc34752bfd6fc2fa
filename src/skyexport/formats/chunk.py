"""A chunk: the finished bytes of posts, wherever they were rendered."""

from __future__ import annotations

from dataclasses import dataclass, field

from skyexport.notices import Notices

__all__ = ["Chunk"]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Finished bytes of posts that follow each other in export order."""

    data: bytes | memoryview
    """A memoryview is the beginning of the target that was given last."""
    posts: int
    """How many posts begin in it."""
    goes_on: bool = False
    """Whether its one post goes on in the next chunk."""
    notices: Notices = field(default_factory=Notices)
    """Of these posts."""
    plain_bytes: int = 0
    """Size of the data before compression."""
