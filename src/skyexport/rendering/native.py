"""The native renderer: a SQLite extension in C that renders the usual posts of a batch.

It lies beside this module when a compiler was there at the build, and knows nothing of Python. It writes straight into
memory that it is given, and refuses whatever is not usual: see the first page of `native/extension.c`.

The connection must be loaded with it before it is restricted (`source.restrict`).
"""

from __future__ import annotations

import functools
import os
import sys
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import apsw

from skyexport.errors import OptionError
from skyexport.formats import FORMATS
from skyexport.formats.settings import DEFAULTS, FormatSettings
from skyexport.posts import COLUMNS, COUNTS, TIMES

if TYPE_CHECKING:
    import ctypes

__all__ = [
    "BUILD_VARIABLE",
    "RENDERER_VARIABLE",
    "NativeLibrary",
    "NativeOrder",
    "NativeRenderer",
    "NativeResult",
    "NotThere",
    "Status",
    "find",
    "library",
    "renderer",
    "renderer_in_words",
]

SOURCES_SHA256 = "0b7c182a064852907c9d25ed8b46a63e434711694d14837e89b1b4fdc0c2a40f"
"""Of the sources that this module goes with: `python tools/build_native.py --write-digest`."""

_ENTRY_POINT = "sqlite3_skyexport_init"

_COLUMN_NUMBERS = {name: number for number, name in enumerate((*COLUMNS, "media_files", "originals"))}
"""As `enum sky_column` has them."""

_FORMAT_NUMBERS = {"json": 1, "jsonl": 2, "csv": 3, "parquet": 4}
"""As `enum sky_format` has them."""

_ROW_IDS = 5
"""The number of the format that is none: a list of row ids."""

_AGGREGATES = {
    "json": "sky_render_json",
    "jsonl": "sky_render_json",
    "csv": "sky_render_csv",
    "parquet": "sky_render_arrow",
}

_MOST_COLUMNS = 18


RENDERER_VARIABLE = "SKYEXPORT_RENDERER"
"""The variable of the environment that chooses a renderer."""

BUILD_VARIABLE = "SKYEXPORT_NATIVE"
"""The variable that says whether a build compiles the native renderer: `auto`, `require` or `off`."""

CHOICES = ("auto", "native", "python")


class Status(IntEnum):
    """How a statement ended, as `enum sky_status` has it."""

    NO_TARGET = 0
    DONE = 2
    """Every post was rendered."""
    NOT_USUAL = 3
    """A post has a value that only Python renders."""
    TOO_LARGE = 4
    """A post does not fit into what is left of the target."""
    NO_MEMORY = 5
    INTERRUPTED = 6
    """SQLite ended it with an error of its own."""


_REFUSALS = (Status.NOT_USUAL, Status.TOO_LARGE, Status.NO_MEMORY)


@dataclass(frozen=True, slots=True)
class NativeResult:
    """How far a statement came. The target has the posts before the refused one, complete, whatever the status."""

    status: Status
    posts: int
    bytes: int
    """Of the target that these posts take."""
    formulas: int
    """Of these posts: cells that a spreadsheet may take for a formula."""
    ties: int
    """Listed posts of the same instant as the one before."""
    refused_row_id: int | None
    """The post that was refused."""
    refused_column: str | None
    """Whose value was refused, or did not fit any more."""


@dataclass(frozen=True, slots=True)
class NotThere:
    """There is no native renderer."""

    reason: str
    """Why, in one line."""
    is_installed: bool = False
    """Whether there is a library, which cannot be used: each export says so."""


@dataclass(frozen=True, slots=True)
class NativeLibrary:
    """The native renderer, found and known to go with this module."""

    path: Path
    functions: ctypes.CDLL


def _file_name() -> str:
    """The library's name on this system."""
    return "native_renderer" + {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")


def find(path: Path | None = None, sources_sha256: str = SOURCES_SHA256) -> NativeLibrary | NotThere:
    """Look for the native renderer.

    Args:
        path: The library; None for the one beside this module.
        sources_sha256: The sources it must be built from.
    """
    path = path or Path(__file__).with_name(_file_name())
    if not path.exists():
        return NotThere("the native renderer was not built with this installation")
    import ctypes

    try:
        functions = ctypes.CDLL(str(path.resolve()))
        functions.skyexport_sources.restype = ctypes.c_char_p
        checksum = functions.skyexport_sources()
        functions.skyexport_result.restype = ctypes.c_void_p
        functions.skyexport_finish.restype = None
    except (OSError, AttributeError) as error:
        return NotThere(f"the native renderer cannot be loaded: {error}", is_installed=True)
    if checksum != sources_sha256.encode():
        return NotThere("the native renderer was built from other sources: install skyexport again", is_installed=True)
    return NativeLibrary(path.resolve(), functions)


@functools.cache
def library() -> NativeLibrary | NotThere:
    """The native renderer that this process uses, as SKYEXPORT_RENDERER says: `auto`, `native` or `python`.

    Raises:
        OptionError: It says something else, or `native` where there is none.
    """
    choice = os.environ.get(RENDERER_VARIABLE) or "auto"
    if choice not in CHOICES:
        raise OptionError(f"{RENDERER_VARIABLE}={choice} is not a renderer", f"choose from {', '.join(CHOICES)}")
    if choice == "python":
        return NotThere(f"{RENDERER_VARIABLE} is python")
    renderer = find()
    if choice == "native" and isinstance(renderer, NotThere):
        raise OptionError(renderer.reason, f"install skyexport with a C compiler, or leave out {RENDERER_VARIABLE}")
    return renderer


def renderer() -> str:
    """The renderer of this process: `native` or `python`."""
    return "native" if isinstance(library(), NativeLibrary) else "python"


def renderer_in_words() -> str:
    """The renderer for people, and why it is not the native one."""
    renderer = library()
    return f"python: {renderer.reason}" if isinstance(renderer, NotThere) else "native"


class _Aggregate:
    """An aggregate of one connection that writes into memory that it is given.

    Several of one connection take turns: each statement goes by the target that was set last.
    """

    def __init__(self, connection: apsw.Connection, library: NativeLibrary, settings: ctypes.Structure) -> None:
        import ctypes

        self._connection = connection
        self._functions = library.functions
        self._settings = settings
        self._target: ctypes.Array[ctypes.c_char] | None = None
        self._context = ctypes.c_void_p(_context(connection, library))
        address = self._functions.skyexport_result(self._context)
        self._result = _structures().result.from_address(address)

    def set_target(self, target: memoryview | bytearray) -> None:
        """Have the next statement write there; the memory must stay until `result` was called.

        Raises:
            ValueError: It is larger than 2 GB.
            apsw.ConnectionClosedError: The connection was closed.
        """
        import ctypes

        self._connection.sqlite3_pointer()  # raises an error when the connection is closed, and the context gone
        self._target = (ctypes.c_char * len(target)).from_buffer(target)
        configured = self._functions.skyexport_configure(self._context, ctypes.byref(self._settings))
        assert configured, "the library does not take these settings"
        if not self._functions.skyexport_set_target(self._context, self._target, ctypes.c_uint64(len(target))):
            self._target = None
            raise ValueError(f"a target of {len(target):,} bytes is too large")

    def result(self) -> NativeResult:
        """How far the last statement came, whether it raised an error or not; the target is let go.

        Raises:
            apsw.ConnectionClosedError: The connection was closed.
        """
        import ctypes

        self._connection.sqlite3_pointer()
        self._functions.skyexport_finish(self._context)
        fields = self._result
        result = NativeResult(
            Status(fields.status),
            fields.posts,
            fields.bytes,
            fields.formulas,
            fields.ties,
            fields.refused_row_id if fields.status in _REFUSALS else None,
            _COLUMN_NAMES.get(fields.refused_column),
        )
        self._functions.skyexport_set_target(self._context, None, ctypes.c_uint64(0))
        self._target = None
        return result


class NativeRenderer(_Aggregate):
    """Renders usual posts of one connection.

    Args:
        connection: Not yet restricted.
        library: As `find` gives it.
        format_name: A key of `FORMATS`.
        settings: How the format is to look.
        columns: Column of an export → SQL for it, in a query with a table `posts`; None for a table that has them all.

    Raises:
        apsw.Error: SQLite cannot load the library.
    """

    def __init__(
        self,
        connection: apsw.Connection,
        library: NativeLibrary,
        format_name: str,
        settings: FormatSettings = DEFAULTS,
        columns: Mapping[str, str] | None = None,
    ) -> None:
        chosen = settings.columns or FORMATS[format_name].columns or COLUMNS
        super().__init__(connection, library, _settings(_FORMAT_NUMBERS[format_name], chosen, settings))
        sql = columns or {name: name for name in COLUMNS}
        read = _read(chosen)
        arguments = ["posts.rowid", *(sql[name] if name in read else "null" for name in COLUMNS)]
        self.aggregate_sql = f"{_AGGREGATES[format_name]}({', '.join(arguments)})"
        """SQL that renders all rows of a query in the order in which they come; its value is their number."""


class NativeOrder(_Aggregate):
    """Lists the row ids of posts that come ordered by their times, and finds those of one instant.

    Args:
        connection: Not yet restricted.
        library: As `find` gives it.
    """

    POST_BYTES: ClassVar[int] = 16
    """Of the target, for each post."""

    aggregate_sql: ClassVar[str] = "sky_list_row_ids(row_id, created_at)"

    def __init__(self, connection: apsw.Connection, library: NativeLibrary) -> None:
        super().__init__(connection, library, _settings(_ROW_IDS, ("created_at",), DEFAULTS))

    def listed(self, target: bytearray, result: NativeResult) -> tuple[array[int], array[int]]:
        """Row ids that a statement put there, and the places of those of the same instant as the one before."""
        row_ids, tied = array("q"), array("q")
        row_ids.frombytes(target[: 8 * result.posts])
        tied.frombytes(target[len(target) - 8 * result.ties :])
        tied.reverse()
        return row_ids, tied


_COLUMN_NAMES = {number: name for name, number in _COLUMN_NUMBERS.items()}


def _read(chosen: tuple[str, ...]) -> frozenset[str]:
    """The columns to read of a post."""
    needed = set(chosen)
    if "media_files" in needed:
        needed |= {"has_media", "embed_data"}
    if "originals" in needed:
        needed |= TIMES | COUNTS
    return frozenset(needed)


def _context(connection: apsw.Connection, library: NativeLibrary) -> int:
    """The address of the context of a connection, into which the extension is loaded the first time."""
    try:
        address = connection.execute("select sky_context()").get
    except apsw.SQLError:
        # Allowed for this call only, and not for the SQL function that could load anything.
        connection.config(apsw.SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 1)
        try:
            connection.load_extension(str(library.path), _ENTRY_POINT)
        finally:
            connection.config(apsw.SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0)
        address = connection.execute("select sky_context()").get
    assert isinstance(address, int)
    return address


@dataclass(frozen=True, slots=True)
class _Structures:
    """Those of `native/skyexport.h`."""

    settings: type[ctypes.Structure]
    result: type[ctypes.Structure]


@functools.cache
def _structures() -> _Structures:
    import ctypes

    class Settings(ctypes.Structure):
        _fields_ = (
            ("format", ctypes.c_int32),
            ("column_count", ctypes.c_int32),
            ("columns", ctypes.c_int32 * _MOST_COLUMNS),
            ("delimiter", ctypes.c_int32),
            ("csv_safe", ctypes.c_int32),
        )

    class Result(ctypes.Structure):
        _fields_ = (
            ("posts", ctypes.c_int64),
            ("bytes", ctypes.c_int64),
            ("refused_row_id", ctypes.c_int64),
            ("formulas", ctypes.c_int64),
            ("ties", ctypes.c_int64),
            ("status", ctypes.c_int32),
            ("refused_column", ctypes.c_int32),
        )

    return _Structures(Settings, Result)


def _settings(format_number: int, chosen: tuple[str, ...], settings: FormatSettings) -> ctypes.Structure:
    import ctypes

    numbers = [_COLUMN_NUMBERS[name] for name in chosen]
    return _structures().settings(
        format_number,
        len(numbers),
        (ctypes.c_int32 * _MOST_COLUMNS)(*numbers),
        ord(settings.delimiter),
        int(settings.csv_safe),
    )
