"""TOML files with options: where they are, and what is in them."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skyexport.errors import OptionError

__all__ = ["MAX_FILE_BYTES", "bytes_of", "parse", "same", "user_file"]

MAX_FILE_BYTES = 100_000
"""A file that sets every option has a few thousand."""

_MAX_DOTS = 100
"""Per line: the time that tomllib needs for dotted keys grows with the square of their dots."""


def user_file(environment: Mapping[str, str], platform: str = sys.platform) -> Path | None:
    """The path of the user's own file on this system; None if the home directory is unknown."""
    home = Path(os.path.expanduser("~"))  # noqa: PTH111, which raises where there is none
    if platform == "win32":
        folder = Path(environment.get("APPDATA", ""))
    elif platform == "darwin":
        folder = home / "Library" / "Application Support"
    else:
        # The XDG specification says to ignore relative paths.
        folder = Path(environment.get("XDG_CONFIG_HOME", ""))
        folder = folder if folder.is_absolute() else home / ".config"
    return folder / "skyexport" / "config.toml" if folder.is_absolute() else None


def same(first: Path, second: Path) -> bool:
    try:
        return first.samefile(second)
    except (OSError, ValueError):
        return False


def bytes_of(path: Path, *, needed: bool) -> bytes | None:
    """The content of a file; None if it does not exist and is not *needed*. A *needed* file may also be a pipe."""
    try:
        with path.open("rb") if needed else open(path, "rb", opener=_open_at_once) as file:
            if not needed and not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OptionError(f"{path} is not a file", "move it away")
            data = file.read(MAX_FILE_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        if needed:
            raise OptionError(f"there is no file {path}", "see --config") from None
        return None
    except (OSError, ValueError) as error:
        # After `su` the home directory may belong to another user: then its file is not meant.
        if not needed and isinstance(error, PermissionError) and not os.path.exists(path):  # noqa: PTH110
            return None
        reason = error.strerror if isinstance(error, OSError) else error
        raise OptionError(f"cannot read {path}: {reason}") from None
    if len(data) > MAX_FILE_BYTES:
        raise OptionError(f"{path} has more than {MAX_FILE_BYTES:,} bytes", "use a file that only sets options")
    return data


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting: a pipe in the place of the file would wait for a writer."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def parse(path: Path, data: bytes) -> dict[str, Any]:
    import tomllib

    try:
        # Editors on Windows write a byte order mark.
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise OptionError(f"{path} is not UTF-8 at byte {error.start}", "save it as UTF-8") from None
    try:
        if any(line.count(".") > _MAX_DOTS for line in text.split("\n") if not line.startswith("#")):
            raise RecursionError
        return tomllib.loads(text)
    except RecursionError:
        raise OptionError(f"{path} is nested too deeply", "use only tables and keys") from None
    except ValueError as error:
        raise OptionError(f"{path} is not TOML: {error}", 'write lines like [export] and format = "csv"') from None


def check_within(place: str, where: str) -> None:
    """Check that a path of a project file is relative and leads into the current directory.

    Raises:
        OptionError: It does not, perhaps because of a link.
    """
    path = Path(place)
    try:
        # A network path must not even be resolved: Windows would log in there.
        inside = not path.anchor and ".." not in path.parts and path.resolve().is_relative_to(Path.cwd().resolve())
    except (OSError, ValueError, RuntimeError):
        inside = False
    if not inside:
        raise OptionError(
            f"{where}: {place!r} is not a relative path below the directory of this project file",
            "set it on the command line, or name a file of your own with --config",
        )
