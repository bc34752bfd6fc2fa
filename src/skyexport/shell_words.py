"""Words of a command line, quoted so that a message can show a command that works."""

from __future__ import annotations

import shlex
import sys

__all__ = ["shell_word"]


def shell_word(text: str, platform: str = sys.platform) -> str:
    """*text* as one word of a command: for POSIX shells, or for those of Windows.

    Single quotes are used where that is readable, double quotes where the text has an apostrophe.
    """
    if platform == "win32":
        plain = text and not set(text) & set(" \t\"'&|<>^%()!;,=#@`$*?[]{}~")
        return text if plain else '"' + text.replace('"', '\\"') + '"'
    if "'" in text and not set(text) & set("\\$`!"):
        return '"' + text.replace('"', '\\"') + '"'
    return shlex.quote(text)
