"""The key of a post, which tells whether it is new or changed: its uri, cid, and indexed_at, as an export has them."""

from __future__ import annotations

import contextlib
import itertools
import operator
from collections.abc import Callable, Iterable
from typing import Any

__all__ = ["KEY_COLUMNS", "LONGEST_VALUE", "Keys", "PostKey", "comparable", "key_values", "post_keys"]

KEY_COLUMNS = ("uri", "cid", "indexed_at")

key_values = operator.itemgetter(*KEY_COLUMNS)
"""The values of these columns in an object with all of them."""

LONGEST_VALUE = 4000
"""Characters of a value that is compared; Bluesky's have about a hundred."""

PostKey = tuple[str | None, str | None, str | None]
"""uri, cid, and indexed_at of a post, as `comparable` returns them."""

Keys = Callable[[list[PostKey]], None]
"""Takes the keys of some posts of a file, in their order."""


def comparable(value: object) -> str | None:
    """A value for comparison; None, which equals nothing, for what is no text, or longer than any of Bluesky's."""
    if not isinstance(value, str) or len(value) > LONGEST_VALUE:
        return None
    # A file can spell half a character, though no export does.
    return value if value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value) else None


def post_keys(posts: Iterable[tuple[Any, Any, Any]]) -> list[PostKey]:
    """The keys of posts with these values of `KEY_COLUMNS`."""
    keys = list(posts)
    values = list(itertools.chain.from_iterable(keys))
    with contextlib.suppress(TypeError):  # if a value is no text
        if "".join(values).isascii() and max(map(len, values), default=0) <= LONGEST_VALUE:
            return keys
    return [(comparable(uri), comparable(cid), comparable(indexed_at)) for uri, cid, indexed_at in keys]
