"""Quoting of words, so that messages can show commands that work."""

from __future__ import annotations

import shlex
import sys

__all__ = ["shell_word"]


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
