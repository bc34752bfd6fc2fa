"""CAR files of repositories, written block by block: the opposite of what `skyexport import` reads.

Source: https://atproto.com/specs/repository, and https://ipld.io/specs/transport/car/carv1/.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from libipld import encode_dag_cbor

__all__ = ["DID", "Repository", "blob", "cid_of", "header", "raw_cid", "section", "tid", "varint"]

DID = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"

_DIGITS = "234567abcdefghijklmnopqrstuvwxyz"


def varint(number: int) -> bytes:
    """An unsigned LEB128 number."""
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def cid_of(block: bytes) -> bytes:
    """The CID of a block in DAG-CBOR."""
    return b"\x01\x71\x12\x20" + hashlib.sha256(block).digest()


def raw_cid(content: bytes) -> bytes:
    """The CID of a blob."""
    return b"\x01\x55\x12\x20" + hashlib.sha256(content).digest()


def section(block: bytes, cid: bytes | None = None) -> bytes:
    """A block with its CID and length, as a CAR file has it."""
    body = (cid_of(block) if cid is None else cid) + block
    return varint(len(body)) + body


def tid(microseconds: int, clock: int = 0) -> str:
    """The TID of a time in microseconds since 1970."""
    number = microseconds << 10 | clock
    return "".join(_DIGITS[number >> shift & 31] for shift in range(60, -1, -5))


@dataclass
class Repository:
    """An account's records, and how the file is written."""

    records: dict[str, Any] = field(default_factory=dict)
    """Collection and record key, with a slash between → record."""
    did: str = DID
    revision: str | None = tid(1_700_000_000_000_000)
    """None for a commit of version 2."""
    earlier: Sequence[Mapping[str, Any]] = ()
    """Records of earlier commits, whose blocks are in the file too."""
    shuffled: int | None = None
    """Seed of the order of the blocks; None for commit, nodes and records."""

    def add(self, record: Mapping[str, Any], key: str, collection: str = "app.bsky.feed.post") -> str:
        """Add a record; returns its URI."""
        self.records[f"{collection}/{key}"] = {"$type": collection, **record}
        return f"at://{self.did}/{collection}/{key}"

    def blocks(self) -> list[bytes]:
        """All blocks, that of the commit first."""
        blocks: dict[bytes, bytes] = {}
        previous = None
        for records in self.earlier:
            previous = cid_of(self._commit(blocks, records, previous))
        commit = self._commit(blocks, self.records, previous)
        others = [block for block in blocks.values() if block != commit]
        if self.shuffled is not None:
            random.Random(self.shuffled).shuffle(others)
        return [commit, *others]

    def content(self) -> bytes:
        """The file."""
        blocks = self.blocks()
        parts = [header([cid_of(blocks[0])])]
        if self.shuffled is not None:
            random.Random(self.shuffled).shuffle(blocks)
        return b"".join([*parts, *map(section, blocks)])

    def write(self, path: Path) -> Path:
        """Write the file; returns *path*."""
        path.write_bytes(self.content())
        return path

    def _commit(self, blocks: dict[bytes, bytes], records: Mapping[str, Any], previous: bytes | None) -> bytes:
        """Add the blocks of a commit; returns its own."""
        encoded = {}
        nodes: dict[bytes, bytes] = {}
        for key in sorted(records):
            block = encode_dag_cbor(records[key])
            encoded[key.encode()] = cid_of(block)
            blocks[cid_of(block)] = block
        tree = _node(nodes, list(encoded.items()), max(map(_layer, encoded), default=0))
        commit: dict[str, Any] = {"did": self.did, "data": tree, "prev": previous, "sig": b"s" * 64, "version": 2}
        if self.revision is not None:
            commit |= {"version": 3, "rev": self.revision}
        block = encode_dag_cbor(commit)
        blocks.update(nodes)
        blocks[cid_of(block)] = block
        return bytes(block)


def header(roots: Sequence[bytes]) -> bytes:
    """The header of a CAR file."""
    encoded = encode_dag_cbor({"roots": list(roots), "version": 1})
    return varint(len(encoded)) + bytes(encoded)


def blob(content: bytes, mime_type: str = "image/jpeg") -> dict[str, Any]:
    """A reference to a blob."""
    return {"$type": "blob", "ref": raw_cid(content), "mimeType": mime_type, "size": len(content)}


def _layer(key: bytes) -> int:
    """The level of a key in the tree: pairs of zero bits at the beginning of its hash."""
    hashed = int.from_bytes(hashlib.sha256(key).digest())
    return (256 - hashed.bit_length()) // 2


def _node(nodes: dict[bytes, bytes], entries: Sequence[tuple[bytes, bytes]], layer: int) -> bytes:
    """Add the node of *entries* at a level, and those below it; returns its CID."""
    below: list[list[tuple[bytes, bytes]]] = [[]]
    own = []
    for entry in entries:
        if _layer(entry[0]) == layer:
            own.append(entry)
            below.append([])
        else:
            below[-1].append(entry)
    links = [_node(nodes, part, layer - 1) if part else None for part in below]
    listed, before = [], b""
    for (key, cid), right in zip(own, links[1:], strict=True):
        shared = 0
        while shared < min(len(key), len(before)) and key[shared] == before[shared]:
            shared += 1
        listed.append({"p": shared, "k": key[shared:], "v": cid, "t": right})
        before = key
    block = bytes(encode_dag_cbor({"l": links[0], "e": listed}))
    nodes[cid_of(block)] = block
    return cid_of(block)
