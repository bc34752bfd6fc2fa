"""Exports by the public API, and what is in them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from skyexport import ExportOptions, ExportSummary, export


def exported_bytes(archive: Path, to: Path, **options: Any) -> bytes:
    """The bytes of one export to a file."""
    export(ExportOptions(archive=archive, to=to, overwrite=True, sync=False, **options))
    return to.read_bytes()


def uris(data: bytes) -> list[str]:
    """The uris in a JSON file, in its order."""
    return [found["uri"] for found in json.loads(data)]


def exported_since(archive: Path, output_dir: Path, *earlier: ExportSummary, **options: Any) -> ExportSummary:
    """One export, since these."""
    directories = [summary.directory for summary in earlier if summary.directory is not None]
    return export(
        ExportOptions(archive=archive, output_dir=output_dir, since_export=directories, sync=False, **options)
    )


def posts_of(summary: ExportSummary) -> list[dict[str, Any]]:
    """The posts of an export, whatever its format, with the names that JSON has for keys."""
    assert summary.path is not None
    data = summary.path.read_bytes()
    if summary.format == "json":
        found: list[dict[str, Any]] = json.loads(data)
        return found
    if summary.format == "jsonl":
        return [json.loads(line) for line in data.splitlines()]
    if summary.format == "parquet":
        rows = pq.read_table(pa.BufferReader(data)).to_pylist()
        return [row | {"indexed_at": row["indexed_at"].isoformat()} for row in rows]
    names = {"URI": "uri", "CID": "cid", "IndexedAt": "indexed_at", "Text": "text"}
    rows = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline="\n"))
    return [{key: row[name] for name, key in names.items()} for row in rows]
