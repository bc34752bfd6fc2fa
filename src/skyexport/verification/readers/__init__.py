"""Reading data files back for `skyexport verify`, by other code than the code that wrote them.

A reader is fed a file from its beginning, in blocks of any size, and holds at most a few megabytes of it, however large
the file or a single post is. It hands groups of whole posts to a fast parser in C. If that parser refuses one (too
large, a lone surrogate, a number beyond a float), the reader's own slow parser decides.

Nothing here knows how posts are rendered, and nothing is shared with the modules that render them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO, Protocol

from skyexport.formats.settings import FormatSettings
from skyexport.verification.readers.csv_table import CsvTableReader
from skyexport.verification.readers.json_array import JsonArrayReader
from skyexport.verification.readers.json_lines import JsonLinesReader
from skyexport.verification.readers.parquet_table import ParquetTableReader

__all__ = ["READERS", "Reader"]


class Reader(Protocol):
    """Reads one data file."""

    @property
    def posts(self) -> int:
        """Whole posts seen so far."""
        ...

    def feed(self, data: bytes) -> None:
        """Read the next block.

        Raises:
            ValueError: The data is not valid here; the text says where, and what is wrong.
        """
        ...

    def finish(self) -> None:
        """End the file.

        Raises:
            ValueError: The file is cut off, or its end is not valid.
        """
        ...


ReaderMaker = Callable[[FormatSettings, Callable[[], BinaryIO]], Reader]
"""Makes a reader from the settings of the file and a function that opens the file again."""

READERS: dict[str, tuple[str, ReaderMaker]] = {
    "json": (".json", JsonArrayReader),
    "jsonl": (".jsonl", JsonLinesReader),
    "csv": (".csv", CsvTableReader),
    "parquet": (".parquet", ParquetTableReader),
}
"""Format → the suffix of its data files, and the maker of their reader."""
