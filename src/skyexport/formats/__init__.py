"""The output formats, by the name that `--format` takes."""

from __future__ import annotations

from skyexport.format_settings import FormatSettings
from skyexport.formats.base import Format
from skyexport.formats.csv_table import CsvTable
from skyexport.formats.json_array import JsonArray
from skyexport.formats.json_lines import JsonLines
from skyexport.formats.parquet_table import ParquetTable

__all__ = ["FORMATS", "Format", "format_with"]

_ALL: tuple[Format, ...] = (
    JsonArray(),
    JsonLines(),
    CsvTable(),
    ParquetTable(),
)

FORMATS = {format.name: format for format in _ALL}
"""Name → format, with the usual settings."""


def format_with(name: str, settings: FormatSettings) -> Format:
    """The format *name* with these settings, ready to write.

    Raises:
        MissingExtraError: It needs a package that is not installed.
    """
    FORMATS[name].require()
    return FORMATS[name].configured(settings)
