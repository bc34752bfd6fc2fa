"""The tree of a repository, from its commit to its records.

A node has entries in the order of their keys, each with the CID of a record, and between them links to other nodes. The
keys of a node share beginnings: an entry says how many bytes it has in common with the key before it.
Source: https://atproto.com/specs/repository.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from skyexport.repository.blocks import Blocks
from skyexport.repository.identifiers import is_did

__all__ = ["Commit", "Record", "commit_of", "records"]

_MAX_DEPTH = 100
"""Nodes above each other: a tree with a million records has about ten."""

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


def records(blocks: Blocks, commit: Commit) -> Iterator[Record]:
    """All records of a repository, in the order of their keys.

    Raises:
        RepositoryError: A node is missing or not valid, or the keys do not rise strictly.
    """
    last = b""
    above: list[Iterator[Record | tuple[bytes, int]]] = [iter([(commit.tree, commit.offset)])]
    while above:
        for step in above[-1]:
            if isinstance(step, Record):
                if step.key <= last:
                    raise blocks.refused(
                        step.node_offset, f"a key that is not greater than the one before: {_shown(step.key)}"
                    )
                last = step.key
                yield step
                continue
            if len(above) > _MAX_DEPTH:
                raise blocks.refused(step[1], f"a tree of more than {_MAX_DEPTH} levels")
            above.append(_steps(blocks, *step))
            break
        else:
            above.pop()


def _steps(blocks: Blocks, cid: bytes, asked_at: int) -> Iterator[Record | tuple[bytes, int]]:
    """The records of a node, and between them the nodes below it: CID, and where it is named."""
    node, offset = blocks.value(cid, asked_at)
    entries = node.get("e") if isinstance(node, dict) else None
    if not isinstance(entries, list):
        raise blocks.refused(offset, "a node of the tree without entries")
    if node.get("l") is not None:
        yield blocks.checked_cid(node["l"], offset), offset
    key = b""
    for entry in entries:
        key = _key(blocks, entry, key, offset)
        yield Record(key, blocks.checked_cid(entry.get("v"), offset), offset)
        below = entry.get("t")
        if below is not None:
            yield blocks.checked_cid(below, offset), offset


def _key(blocks: Blocks, entry: Any, before: bytes, offset: int) -> bytes:
    """The key of an entry, of which it shares the beginning with the key *before*."""
    shared, rest = (entry.get("p"), entry.get("k")) if isinstance(entry, dict) else (None, None)
    if not isinstance(shared, int) or not isinstance(rest, bytes) or not 0 <= shared <= len(before):
        raise blocks.refused(offset, "an entry of the tree without a key")
    if before and before[shared : shared + 1] == rest[:1]:
        raise blocks.refused(offset, "a key that shares more with the one before than its entry says")
    key = before[:shared] + rest
    if _KEY.fullmatch(key) is None:
        raise blocks.refused(offset, f"a key that is not a collection and a record key: {_shown(key)}")
    return key


def _shown(key: bytes) -> str:
    return repr(key[:100])[1:]
