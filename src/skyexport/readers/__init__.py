"""Reading data files back, by other means than those that wrote them: what `skyexport verify` trusts.

A reader is fed a file from its beginning, in blocks of any size, and holds a few megabytes of it at most, however
large the file or a single post. It hands groups of whole posts to a fast parser in C; what that one refuses (a post
that is too large for it, a lone surrogate, a number beyond a float) goes through a slow one of its own, which decides.

Nothing here knows how posts are rendered, and nothing is shared with the modules that do it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO, Protocol

from skyexport.format_settings import FormatSettings
from skyexport.readers.csv_table import CsvTableReader
from skyexport.readers.json_array import JsonArrayReader
from skyexport.readers.json_lines import JsonLinesReader
from skyexport.readers.parquet_table import ParquetTableReader

__all__ = ["READERS", "Reader"]


class Reader(Protocol):
    """Reads one data file."""

    @property
    def posts(self) -> int:
        """Whole posts seen so far."""
        ...

    def feed(self, data: bytes) -> None:
        """Read on.

        Raises:
            ValueError: This is not what a data file has there; says where, and what is wrong.
        """
        ...

    def finish(self) -> None:
        """The file ends here.

        Raises:
            ValueError: It is cut off, or the last of it is not what a data file has there.
        """
        ...


ReaderMaker = Callable[[FormatSettings, Callable[[], BinaryIO]], Reader]
"""Makes a reader of (what the file looks like, what opens it once more)."""

READERS: dict[str, tuple[str, ReaderMaker]] = {
    "json": (".json", JsonArrayReader),
    "jsonl": (".jsonl", JsonLinesReader),
    "csv": (".csv", CsvTableReader),
    "parquet": (".parquet", ParquetTableReader),
}
"""Format → suffix of its data files, and what makes a reader of one."""
