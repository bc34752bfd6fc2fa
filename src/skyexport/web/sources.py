"""The archives and CAR files that the command line named, by number, and what is known of the archives.

The browser knows numbers only. Counting takes seconds for a large archive, so `skyexport inspect` does it in a process
of its own, and its result is kept while the archive's files are the same, in one small file in the export folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw
import orjson

from skyexport import __version__
from skyexport.archive.from_car import is_car_file
from skyexport.errors import ArchiveError, ExportError, OptionError
from skyexport.output.places import open_new
from skyexport.runtime.location import absolute, archive_location, real_path
from skyexport.runtime.sqlite_files import file_state, is_sqlite
from skyexport.web.jobs import run_to_end

__all__ = ["STATE_FILE", "Facts", "SourceFile", "Sources"]

STATE_FILE = ".skyexport-ui.json"
"""Name of the file in the export folder: path of an archive → its state, and what was counted in this state."""

_MOST_STATE_BYTES = 5_000_000
_MOST_KEPT = 200
"""Archives whose counts are kept."""

_MOST_FILES = 1000
"""Archives of a folder that are shown."""

_ARCHIVE_ENDINGS = (".db", ".sqlite", ".sqlite3")

_FAILED_SECONDS = 10.0
"""How long a failure is remembered."""

_REST_SHARE = 5.0
"""Times as long as counting took, an archive that changes all the time is left alone."""


@dataclass(eq=False)
class SourceFile:
    """An archive, or a CAR file."""

    number: int
    path: Path
    """Absolute."""
    name: str
    """The path as it was typed, or the name in its folder."""
    is_car: bool = False


@dataclass(frozen=True)
class Facts:
    """The result of `inspect` for an archive, in one state of it."""

    state: Mapping[str, object]
    values: Mapping[str, Any] = field(default_factory=dict)
    """The object of `skyexport inspect --json`: with `status` "ok", or "failed" with `error` and `hint`."""
    ended: float = 0.0
    """When it was found out, by the monotonic clock; 0 for an earlier run."""
    seconds: float = 0.0
    """How long that took."""

    @property
    def is_ok(self) -> bool:
        """Whether the archive could be read."""
        return self.values.get("status") == "ok"

    def holds_for(self, state: Mapping[str, object]) -> bool:
        """Whether it need not be found out again: a failure may be over soon."""
        return self.state == state and (self.is_ok or time.monotonic() < self.ended + _FAILED_SECONDS)


class Sources:
    """All archives and CAR files.

    Args:
        named: Paths of files, and of folders, whose archives and CAR files are meant.
        output_dir: Where exports go.
        on_change: Called when facts have become known.

    Raises:
        ArchiveError: There is nothing at one of the paths.
    """

    def __init__(self, named: Sequence[Path], output_dir: Path, on_change: Callable[[], None]) -> None:
        for path in named:
            if not path.exists():
                raise ArchiveError(f"there is no archive or folder {path}", "check the path")
        self._named = [absolute(path) for path in named]
        self._shown = [str(path) for path in named]
        self.is_one_archive = len(named) == 1 and not self._named[0].is_dir()
        """Whether the command line named one archive, whose exports need no folder of their own."""
        self._state_file = output_dir / STATE_FILE
        self._on_change = on_change
        self._files: dict[Path, SourceFile] = {}
        self._facts: dict[str, Facts] = _read_kept(self._state_file)
        self._kept = True
        """Whether the file has all of it."""
        self._counting: dict[Path, asyncio.Task[None]] = {}
        self._turn = asyncio.Lock()

    def refresh(self) -> list[SourceFile]:
        """Look at the folders again; returns all archives and CAR files that are there now, in order."""
        found: dict[Path, str] = {}
        for path, shown in zip(self._named, self._shown, strict=True):
            if path.is_dir():
                for entry in sorted(_files_in(path)):
                    found.setdefault(real_path(entry), entry.name if shown == "." else str(Path(shown) / entry.name))
            else:
                found.setdefault(real_path(path), shown)
        files = []
        for path, name in found.items():
            file = self._files.get(path)
            if file is None:
                file = self._files[path] = SourceFile(len(self._files) + 1, path, name)
            file.is_car = is_car_file(path)
            files.append(file)
        return files

    def find(self, number: int) -> SourceFile | None:
        """The file with this number; None if there never was one."""
        return next((file for file in self._files.values() if file.number == number), None)

    def facts(self, file: SourceFile) -> Facts | None:
        """The facts about an archive; those of an earlier state, or None, while it is being counted.

        Raises:
            ExportError: It cannot be read at all.
        """
        state = _state_of(file.path)
        known = self._facts.get(str(file.path))
        if (known is None or not known.holds_for(state)) and file.path not in self._counting:
            self._counting[file.path] = asyncio.create_task(self._count(file, known))
            self._on_change()
        return known

    def counting(self) -> list[int]:
        """Numbers of the archives that are being counted."""
        return [file.number for path, file in self._files.items() if path in self._counting]

    async def _count(self, file: SourceFile, before: Facts | None) -> None:
        try:
            if before is not None:
                # A program that keeps writing to the archive must not keep a processor busy here.
                await asyncio.sleep(before.ended + _REST_SHARE * before.seconds - time.monotonic())
            async with self._turn:
                began = time.monotonic()
                try:
                    state = _state_of(file.path)
                    values = await run_to_end(["inspect", str(file.path)])
                except ExportError as error:
                    state, values = {}, {"status": "failed", "error": error.message, "hint": error.hint}
            values = values or {"status": "failed", "error": f"{file.name} could not be counted"}
            ended = time.monotonic()
            self._facts[str(file.path)] = Facts(state, values, ended, ended - began)
            self._kept = False
            self.keep()
        finally:
            self._counting.pop(file.path, None)
            self._on_change()

    def keep(self) -> None:
        """Write what is known to the file, if there is a folder for it; losing it costs only time."""
        if self._kept:
            return
        newest = list(self._facts.items())[-_MOST_KEPT:]
        archives = {path: {"state": facts.state, "facts": facts.values} for path, facts in newest if facts.is_ok}
        with contextlib.suppress(OSError, TypeError):
            content = orjson.dumps({"program": _program(), "archives": archives})
            hidden = self._state_file.with_name(f"{STATE_FILE}-{secrets.token_hex(4)}")
            try:
                with os.fdopen(open_new(hidden), "wb") as written:
                    written.write(content)
                hidden.replace(self._state_file)
                self._kept = True
            finally:
                hidden.unlink(missing_ok=True)

    async def close(self) -> None:
        """End all counting."""
        tasks = list(self._counting.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _files_in(folder: Path) -> Iterable[Path]:
    """The archives and CAR files of a folder, as far as their beginnings tell."""
    try:
        entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    except OSError as error:
        raise OptionError(f"cannot read the folder {folder}: {error.strerror}", "check the path") from None
    wanted = [Path(entry.path) for entry in entries if entry.name.lower().endswith((".car", *_ARCHIVE_ENDINGS))]
    for path in sorted(wanted)[:_MOST_FILES]:
        with contextlib.suppress(OSError, ValueError):
            if path.is_file() and (path.suffix.lower() == ".car" or is_sqlite(real_path(path))):
                yield path


def _state_of(path: Path) -> dict[str, object]:
    location = archive_location(path)
    try:
        return file_state(location)
    except (OSError, apsw.Error) as error:
        raise ArchiveError(f"cannot read {path}: {error}", "check the path") from None


def _program() -> list[str]:
    """The program that counted, with what decides what it finds out: others may know more, or less."""
    return [__version__, *(name for name in ("jinja2", "pyarrow") if importlib.util.find_spec(name) is not None)]


def _read_kept(path: Path) -> dict[str, Facts]:
    """The facts that an earlier run of the page has kept; none if the file is not there, or not one of those."""
    try:
        if path.is_symlink() or path.stat().st_size > _MOST_STATE_BYTES:
            return {}
        content = orjson.loads(path.read_bytes())
        if content["program"] != _program():
            return {}
        return {
            str(name): Facts(dict(entry["state"]), dict(entry["facts"])) for name, entry in content["archives"].items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}
