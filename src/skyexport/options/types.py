"""Whether the values of options have the types that their annotations promise, and which ones to give instead.

A value of another type would end as a TypeError somewhere inside. The annotations are the one place that says what an
option takes: for mypy, for `help`, and here.
"""

from __future__ import annotations

import os
import types
import typing
from collections.abc import Hashable, Iterable, Sequence
from datetime import date
from functools import cache
from typing import Any, cast

from skyexport.errors import OptionError

__all__ = ["check_path", "check_paths", "check_type", "check_types"]

_PATH = "a path (str or pathlib.Path)"
_SIZE = "a number of bytes, a str like '500MB'"
_FORMS: dict[object, str] = {
    bool: "True or False",
    int: "a whole number like 1000",
    str: "a str",
    date: "a date, a datetime with a time zone, a str like '2024-12-31'",
    types.NoneType: "None",
}
"""A type → what to give, in words."""


def check_types(options: object) -> None:
    """Check every field of a dataclass by its annotation.

    Raises:
        OptionError: A value has another type; it says which one to give.
    """
    # mypy does not take a class for hashable.
    for name, hint in _hints(cast("Hashable", type(options))).items():
        check_type(name, getattr(options, name), hint)


def check_type(name: str, value: object, hint: Any) -> None:
    """Check a value by an annotation.

    Raises:
        OptionError: It has another type.
    """
    if _fits(value, hint):
        return
    inner = [typing.get_args(member)[0] for member in _alternatives(hint) if typing.get_origin(member) is Sequence]
    if inner and isinstance(value, list | tuple):
        value = next(part for part in value if not _fits(part, inner[0]))
        name = f"a value in {name}"
    raise _wrong_type(name, value, " or ".join(_forms(hint)))


def check_paths(paths: object, what: str) -> None:
    """Check that *paths* can be gone through, and is not a single path: a str would be taken apart.

    Raises:
        OptionError: It is not so.
    """
    if not isinstance(paths, Iterable) or isinstance(paths, str | bytes | os.PathLike):
        raise _wrong_type(what, paths, "a list of paths")


def check_path(path: object, what: str) -> None:
    """Check that *path* is one.

    Raises:
        OptionError: It is not.
    """
    if not _is_path(path):
        raise _wrong_type(what, path, _PATH)


@cache
def _hints(owner: Hashable) -> dict[str, Any]:
    return typing.get_type_hints(owner)


def _wrong_type(what: str, value: object, forms: str) -> OptionError:
    given = "None" if value is None else f"of type {type(value).__name__}"
    return OptionError(f"{what} is {given}", f"give {forms}")


def _is_path(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, os.PathLike) and isinstance(os.fspath(value), str))


def _alternatives(hint: Any) -> tuple[Any, ...]:
    """The members of a union; of anything else, itself."""
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def _fits(value: object, hint: Any) -> bool:
    return any(_fits_one(value, member) for member in _alternatives(hint))


def _fits_one(value: object, hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        return isinstance(value, str) and value in typing.get_args(hint)
    if origin is Sequence:
        (inner,) = typing.get_args(hint)
        # A str is a sequence of str as well, and bytes one of int.
        is_list = isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray | memoryview)
        return is_list and all(_fits(part, inner) for part in cast("Sequence[object]", value))
    if origin is os.PathLike:
        return _is_path(value)
    # For Python, True is an int.
    return isinstance(value, hint) and not (hint is int and isinstance(value, bool))


def _forms(hint: Any) -> list[str]:
    """The right form, in words, for each kind of value that a hint allows."""
    kinds = _alternatives(hint)
    if date in kinds:
        kinds = tuple(kind for kind in kinds if kind is not str and not (kind is not date and _is_date(kind)))
    forms: list[str] = []
    if {int, str} <= set(kinds):
        forms, kinds = [_SIZE], tuple(kind for kind in kinds if kind not in (int, str))
    for kind in kinds:
        origin = typing.get_origin(kind)
        if origin is typing.Literal:
            forms += [repr(value) for value in typing.get_args(kind)]
        elif origin is Sequence:
            (inner,) = typing.get_args(kind)
            forms.append("a list of str" if inner is str else "a list of paths")
        elif origin is os.PathLike:
            forms = [form for form in forms if form != _FORMS[str]]
            forms.append(_PATH)
        else:
            forms.append(_FORMS[kind])
    return forms


def _is_date(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, date)
