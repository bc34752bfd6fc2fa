"""What bskyarchive asks an archive, so that a test sees whether it could read one.

Source: https://github.com/shindakun/bskyarchive, internal/storage: posts.go, search.go, status.go, profiles.go. It
scans columns into Go's types, which take no NULL, and its driver takes times only in the spelling of Go.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from pathlib import Path
from typing import Any

__all__ = ["all_posts", "latest_profile", "search", "status"]

_GO_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{1,9})? [+-]\d{4} [A-Z]{3,4}( m=[+-]\d+\.\d+)?")
_POST = "uri cid did text created_at indexed_at has_media like_count repost_count reply_count quote_count is_reply"
_COLUMNS = [*_POST.split(), "reply_parent", "embed_type", "embed_data", "labels", "archived_at"]
_TIMES = ("created_at", "indexed_at", "archived_at", "snapshot_at")


def _rows(archive: Path, columns: list[str], query: str, *parameters: object) -> list[dict[str, Any]]:
    with contextlib.closing(sqlite3.connect(archive)) as connection:
        found = [dict(zip(columns, row, strict=True)) for row in connection.execute(query, parameters)]
    for row in found:
        for name, value in row.items():
            assert value is not None, (name, row)
            assert name not in _TIMES or _GO_TIME.fullmatch(value), (name, value)
            assert name not in ("embed_data", "labels") or isinstance(value, bytes), (name, value)
    return found


def all_posts(archive: Path, did: str) -> list[dict[str, Any]]:
    """All posts of an account, newest first, page by page."""
    query = f"select {', '.join(_COLUMNS)} from posts where did = ? order by created_at desc limit 100 offset ?"
    found: list[dict[str, Any]] = []
    while page := _rows(archive, _COLUMNS, query, did, len(found)):
        found += page
    return found


def search(archive: Path, did: str, words: str) -> list[str]:
    """The posts that have these words, by URI."""
    query = (
        "select p.uri from posts_fts join posts p on posts_fts.uri = p.uri where posts_fts match ? and p.did = ?"
        " order by p.created_at desc limit 100 offset 0"
    )
    return [row["uri"] for row in _rows(archive, ["uri"], query, words, did)]


def status(archive: Path, did: str) -> dict[str, Any]:
    """The figures of the first page."""
    query = (
        "select count(*), ifnull(min(created_at), ''), ifnull(max(created_at), ''), ifnull(sum(has_media = 1), 0),"
        " ifnull(sum(is_reply = 1), 0), (select count(distinct m.hash) from media m join posts p on m.post_uri = p.uri"
        " where p.did = ?1), (select max(version) from schema_version) from posts where did = ?1"
    )
    (row,) = _rows(archive, ["posts", "oldest", "newest", "with_media", "replies", "media", "version"], query, did)
    return row


def latest_profile(archive: Path, did: str) -> dict[str, Any]:
    """The newest snapshot of a profile."""
    names = "did handle display_name description avatar_url banner_url followers_count follows_count posts_count"
    columns = [*names.split(), "snapshot_at"]
    query = f"select {', '.join(columns)} from profiles where did = ? order by snapshot_at desc limit 1"
    (row,) = _rows(archive, columns, query, did)
    return row
