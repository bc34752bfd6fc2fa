"""The output formats, by the name that `--format` takes."""

from __future__ import annotations

from skyexport.formats.base import Format
from skyexport.formats.csv_table import CsvTable
from skyexport.formats.json_array import JsonArray

__all__ = ["FORMATS", "Format"]

FORMATS: dict[str, Format] = {"json": JsonArray(), "csv": CsvTable()}
"""Name → format."""
