"""A strict reader of JSON that is not ours, also of what is nested deeper than Python's own reader takes."""

from __future__ import annotations

import json
import re
from typing import Any

__all__ = ["is_json", "parsed"]

_MAX_DEPTH = 10_000
"""Nested deeper it is no JSON (docs/formats.md)."""

_PARTS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{}]|[^\[\]{}"]+|"', re.DOTALL)


def parsed(text: str) -> Any:
    """One JSON value, numbers as they are spelt.

    Of one that is nested deeper than about a thousand levels, the containers inside the outermost one come out empty.

    Raises:
        ValueError: This is not exactly one JSON value, or it is nested too deep.
    """
    try:
        return _parsed(text)
    except RecursionError:
        return _outermost(text)


def is_json(text: str) -> bool:
    """Whether it is exactly one JSON value, without the extensions of the standard library."""
    try:
        parsed(text)
    except ValueError:
        return False
    return True


def _parsed(text: str) -> Any:
    return json.loads(text, parse_int=str, parse_float=str, parse_constant=_no_such_number)


def _no_such_number(spelt: str) -> None:
    raise ValueError(f"{spelt} is not JSON")


def _outermost(text: str) -> Any:
    """From the inside out: each container is read by itself, with empty ones in the place of those inside it."""
    levels: list[list[str]] = [[]]
    value: Any = None
    for part in _PARTS.findall(text):
        if part in "[{":
            if len(levels) > _MAX_DEPTH:
                raise ValueError(f"nested deeper than {_MAX_DEPTH} levels")
            levels.append([part])
        elif part in "]}":
            inside = levels.pop()
            if not levels:
                raise ValueError(f"{part} closes nothing")
            value = _parsed("".join(inside) + part)
            levels[-1].append("{}" if part == "}" else "[]")
        else:
            levels[-1].append(part)
    if len(levels) > 1:
        raise ValueError("something is not closed")
    _parsed("".join(levels[0]))
    return value
