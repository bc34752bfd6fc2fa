"""Reading data files back for `skyexport verify`, by other code than the code that wrote them.

A reader is fed a file from its beginning, in blocks of any size, and holds at most a few megabytes of it, however large
the file or a single post is. It hands groups of whole posts to a fast parser in C. If that parser refuses one (too
large, a lone surrogate, a number beyond a float), the reader's own slow parser decides.

Nothing here knows how posts are rendered, and nothing is shared with the modules that render them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import BinaryIO, NamedTuple, Protocol

from skyexport.formats.settings import FormatSettings
from skyexport.verification.post_keys import KEY_COLUMNS, Keys
from skyexport.verification.readers.csv_table import HEADINGS, CsvTableReader
from skyexport.verification.readers.json_array import JsonArrayReader
from skyexport.verification.readers.json_lines import JsonLinesReader
from skyexport.verification.readers.parquet_table import ParquetTableReader

__all__ = ["READERS", "FileKind", "Reader"]


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


ReaderMaker = Callable[[FormatSettings, Callable[[], BinaryIO], Keys | None], Reader]
"""Makes a reader from the settings of the file, a function that opens the file again, and one that takes the keys of
posts, if anyone wants them: the settings must have all their columns then."""


class FileKind(NamedTuple):
    """The data files of one format."""

    suffix: str
    reader: ReaderMaker
    key_columns: Mapping[str, str]
    """The columns that the keys of posts need → their names in the file."""


_KEY_NAMES = {name: name for name in KEY_COLUMNS}

READERS = {
    "json": FileKind(".json", JsonArrayReader, _KEY_NAMES),
    "jsonl": FileKind(".jsonl", JsonLinesReader, _KEY_NAMES),
    "csv": FileKind(".csv", CsvTableReader, {name: HEADINGS[name] for name in KEY_COLUMNS}),
    "parquet": FileKind(".parquet", ParquetTableReader, _KEY_NAMES | {"originals": "originals"}),
}
"""Format → its data files, and how to read them."""
