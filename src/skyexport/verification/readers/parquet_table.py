"""Reading posts.parquet: a table with the columns of posts, whose values must all be readable."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, BinaryIO

from skyexport import timestamps
from skyexport.extras import require_pyarrow
from skyexport.formats.settings import FormatSettings
from skyexport.verification.post_keys import KEY_COLUMNS, Keys, PostKey, comparable
from skyexport.verification.readers.json_posts import KEYS

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

__all__ = ["PARQUET_COLUMNS", "ParquetTableReader"]

_TIMES = ("created_at", "indexed_at", "archived_at")
_COUNTS = ("like_count", "repost_count", "reply_count", "quote_count")
_FLAGS = ("has_media", "is_reply")

PARQUET_COLUMNS = {
    **dict.fromkeys((*KEYS, "originals"), "string"),
    **dict.fromkeys(_TIMES, "timestamp[us, tz=UTC]"),
    **dict.fromkeys(_COUNTS, "int64"),
    **dict.fromkeys(_FLAGS, "bool"),
}
"""Column → its type, in the order of a table with all columns."""

_ROWS = 4096
"""Rows read at once."""


@contextlib.contextmanager
def _opened_table(open_file: Callable[[], BinaryIO]) -> Iterator[pq.ParquetFile]:
    """Open a table for reading with pyarrow.

    Raises:
        MissingExtraError: pyarrow is not installed.
        pyarrow.ArrowException, OSError: The file is not a table, or cannot be read.
    """
    require_pyarrow("reading Parquet")
    import pyarrow as pa
    import pyarrow.parquet as pq

    with contextlib.ExitStack() as closing:
        opened = closing.enter_context(open_file())
        source: BinaryIO | pa.NativeFile = opened
        # Threads of pyarrow release their buffers at the end. With a Python file they need Python's lock for that, and
        # abort the process if it is about to end: one process of a hundred, on a busy machine.
        with contextlib.suppress(OSError):
            source = closing.enter_context(pa.OSFile(f"/dev/fd/{opened.fileno()}"))
        yield closing.enter_context(pq.ParquetFile(source))


class ParquetTableReader:
    """Reads posts.parquet; see `Reader`. It ignores the blocks, and opens the file itself at the end.

    Args:
        settings: The settings of the file, with its columns.
        open_file: Opens the file.
        keys: Takes the keys of posts, if anyone wants them.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """

    def __init__(
        self, settings: FormatSettings, open_file: Callable[[], BinaryIO], keys: Keys | None = None
    ) -> None:  # fmt: skip
        require_pyarrow("reading Parquet")
        self._columns = settings.columns or tuple(PARQUET_COLUMNS)
        self._open_file = open_file
        self._keys = keys
        self.posts = 0

    def feed(self, data: bytes) -> None:
        """Ignore *data*: a table can only be read from its end."""

    def finish(self) -> None:
        """Read the whole table; see `Reader`."""
        import pyarrow as pa

        try:
            with _opened_table(self._open_file) as file:
                columns = {field.name: str(field.type) for field in file.schema_arrow}
                if list(columns.items()) != [(name, PARQUET_COLUMNS[name]) for name in self._columns]:
                    raise ValueError(f"not a table of posts: it has {', '.join(map(' '.join, columns.items()))[:1000]}")
                for batch in file.iter_batches(batch_size=_ROWS, use_threads=False):
                    batch.validate(full=True)
                    self.posts += batch.num_rows
                    if self._keys is not None:
                        self._keys(_post_keys(batch))
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"not Parquet: {str(error).splitlines()[0][:300]}") from None


def _post_keys(rows: pa.RecordBatch) -> list[PostKey]:
    """The keys of posts; a time that is no number of microseconds stands among the originals."""
    uris, cids = (rows.column(name).to_pylist() for name in KEY_COLUMNS[:2])
    times = rows.column("indexed_at").cast("int64").to_pylist()
    originals = rows.column("originals").to_pylist()
    return [
        (comparable(uri), comparable(cid), comparable(_time(time, original)))
        for uri, cid, time, original in zip(uris, cids, times, originals, strict=True)
    ]


def _time(microseconds: int | None, originals: str | None) -> object:
    original = json.loads(originals).get("indexed_at") if originals is not None else None
    if original is not None:
        return original
    timestamp = None if microseconds is None else timestamps.from_instant(microseconds * 1000)
    return None if timestamp is None else timestamp.rfc3339()
