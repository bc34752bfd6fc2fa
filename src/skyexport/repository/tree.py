"""The tree of a repository, from its commit to its records.

A node has entries in the order of their keys, each with the CID of a record, and between them links to other nodes. The
keys of a node share beginnings: an entry says how many bytes it has in common with the key before it.
Source: https://atproto.com/specs/repository.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from skyexport.repository.blocks import CID_BYTES, RECORD_CID, Blocks
from skyexport.repository.identifiers import is_did

__all__ = ["Commit", "Record", "commit_of", "records"]

_MAX_DEPTH = 40
"""Nodes above each other: a tree with a million records has about ten."""

_NODE_KEYS = frozenset({"e", "l"})

_KEY = re.compile(rb"[A-Za-z0-9.-]{1,317}/[A-Za-z0-9._:~-]{1,512}")
"""Collection and record key."""


@dataclass(frozen=True, slots=True)
class Commit:
    """The commit that a CAR file names as its root."""

    did: str
    """The account."""
    revision: str | None
    """A TID; None in commits of version 2, which have none."""
    tree: bytes
    """CID of the first node."""
    offset: int
    """Where it is in the file."""


class Record(NamedTuple):
    """An entry of the tree."""

    key: bytes
    """Collection, slash, record key."""
    cid: bytes
    node_offset: int
    """Where the node is that names it."""


def commit_of(blocks: Blocks) -> Commit:
    """The commit of a repository.

    Raises:
        RepositoryError: The root is no commit of version 2 or 3, or the file does not have it.
    """
    value, offset = blocks.value(blocks.root, 0)
    version = value.get("version") if isinstance(value, dict) else None
    if version not in (2, 3):
        raise blocks.refused(offset, "a root that is not the commit of a repository, version 2 or 3")
    did, revision = value.get("did"), value.get("rev")
    if not isinstance(did, str) or not is_did(did):
        raise blocks.refused(offset, "a commit without the DID of an account")
    if revision is not None and not isinstance(revision, str):
        raise blocks.refused(offset, "a commit whose revision is not text")
    return Commit(did, revision, blocks.checked_cid(value.get("data"), offset), offset)


def records(blocks: Blocks, commit: Commit, check: Callable[[], None]) -> Iterator[Record]:
    """All records of a repository, in the order of their keys.

    Args:
        blocks: The blocks of its file.
        commit: Its commit.
        check: Called for each node; an exception that it raises ends the walk.

    Raises:
        RepositoryError: A node is missing or not valid, or the keys do not rise strictly.
    """
    last = b""
    # The rest of each node on the way down: its entries, where it is, its last key, and the key before the node.
    above: list[tuple[Iterator[Any], int, bytes, bytes]] = []
    below: tuple[bytes, int] | None = (commit.tree, commit.offset)
    while above or below is not None:
        if below is not None:
            if len(above) == _MAX_DEPTH:
                raise blocks.refused(below[1], f"a tree of more than {_MAX_DEPTH} levels")
            check()
            left, entries, offset = _node(blocks, *below)
            above.append((iter(entries), offset, b"", last))
            below = None if left is None else (left, offset)
            continue
        entries_left, offset, key, before = above.pop()
        for entry in entries_left:
            try:
                shared, rest, cid, right = entry["p"], entry["k"], entry["v"], entry["t"]
                is_wrong = not 0 <= shared <= len(key) or (key != b"" and key[shared : shared + 1] == rest[:1])
                key = key[:shared] + rest
            except (KeyError, TypeError):
                raise blocks.refused(offset, "an entry of the tree that is none") from None
            if is_wrong or key <= last or _KEY.fullmatch(key) is None:
                raise blocks.refused(offset, f"{_problem(key, is_wrong=is_wrong)}: {_shown(key)}")
            if not isinstance(cid, bytes) or len(cid) != CID_BYTES or cid[:4] != RECORD_CID:
                blocks.checked_cid(cid, offset)
            last = key
            yield Record(key, cid, offset)
            if right is not None:
                above.append((entries_left, offset, key, before))
                below = (blocks.checked_cid(right, offset), offset)
                break
        else:
            # Otherwise a node without keys could be named, and read, again and again.
            if above and last == before:
                raise blocks.refused(offset, "a part of the tree without any record")


def _node(blocks: Blocks, cid: bytes, asked_at: int) -> tuple[bytes | None, list[Any], int]:
    """A node: the CID of the node left of its entries, the entries, and where it is."""
    node, offset = blocks.value(cid, asked_at)
    entries = node.get("e") if isinstance(node, dict) else None
    if not isinstance(entries, list) or not _NODE_KEYS.issuperset(node):
        raise blocks.refused(offset, "a node of the tree without entries")
    left = node.get("l")
    return None if left is None else blocks.checked_cid(left, offset), entries, offset


def _problem(key: bytes, *, is_wrong: bool) -> str:
    """Why a key is refused."""
    if is_wrong:
        return "a key that shares more or less with the one before than its entry says"
    if _KEY.fullmatch(key) is None:
        return "a key that is not a collection and a record key"
    return "a key that is not greater than the one before"


def _shown(key: bytes) -> str:
    return repr(key[:100])[1:]
