"""How a post is spelt.

Here belongs what depends on an output format: its bytes, its settings, its names, and compression. `FORMATS` has the
formats of data files by the name that `--format` takes, `FORMS` has pages for people too.
"""

from __future__ import annotations

from skyexport.formats.csv_table import CsvTable
from skyexport.formats.format import Form, Format
from skyexport.formats.html_pages import HtmlPages
from skyexport.formats.json_array import JsonArray
from skyexport.formats.json_lines import JsonLines
from skyexport.formats.parquet_table import ParquetTable
from skyexport.formats.settings import FormatSettings

__all__ = ["FORMATS", "FORMS", "Form", "Format", "form_with", "format_with"]

_ALL: tuple[Format, ...] = (
    JsonArray(),
    JsonLines(),
    CsvTable(),
    ParquetTable(),
)

FORMATS = {format.name: format for format in _ALL}
"""Name → format of data files, with the usual settings."""

FORMS: dict[str, Form] = {**FORMATS, HtmlPages.name: HtmlPages()}
"""Name → what `--format` can name."""


def form_with(name: str, settings: FormatSettings) -> Form:
    """The format *name* with these settings, or pages, ready to write.

    Raises:
        MissingExtraError: It needs a package that is not installed.
    """
    if name in FORMATS:
        return format_with(name, settings)
    FORMS[name].require()
    return FORMS[name]


def format_with(name: str, settings: FormatSettings) -> Format:
    """The format *name* with these settings, ready to write.

    Raises:
        MissingExtraError: It needs a package that is not installed.
    """
    FORMATS[name].require()
    return FORMATS[name].configured(settings)
