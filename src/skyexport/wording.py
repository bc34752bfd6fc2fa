"""Sizes, paths and commands, as people read them."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

__all__ = ["format_size", "path_text", "printable_path", "shell_word"]


def format_size(size_bytes: float) -> str:
    """Bytes for people, in powers of 1000, with about three digits: `1.10 GB`."""
    for unit in ("B", "kB", "MB"):
        if size_bytes < 1000:
            return f"{size_bytes:.0f} {unit}" if unit == "B" or size_bytes >= 100 else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.2f} GB"


def shell_word(text: str, platform: str = sys.platform) -> str:
    """*text* as one word of a command, for POSIX shells or those of Windows.

    It gets quotes only if it needs them: single quotes, or double quotes if it has an apostrophe.
    """
    if platform == "win32":
        plain = text and not set(text) & set(" \t\"'&|<>^%()!;,=#@`$*?[]{}~")
        return text if plain else '"' + text.replace('"', '\\"') + '"'
    if "'" in text and not set(text) & set("\\$`!"):
        return '"' + text.replace('"', '\\"') + '"'
    return shlex.quote(text)


def path_text(path: str | os.PathLike[str]) -> str:
    """A path as JSON has it; bytes that are not UTF-8 are replaced."""
    return os.fsencode(path).decode(errors="replace")


def printable_path(path: Path) -> str:
    """*path* as it was typed, for messages; a byte that is not UTF-8 is shown as `\\xff`."""
    return os.fsencode(path).decode(errors="backslashreplace")
