"""The settings of formats: choices that a format leaves open."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

__all__ = ["DEFAULTS", "DELIMITERS", "FormatSettings"]

DELIMITERS = (",", ";", "|", "\t")
"""Possible delimiters of a CSV file; no number, time or identifier of a post contains one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatSettings:
    """Settings of a format; `Format.takes` names those that it supports. They travel to workers as JSON."""

    columns: tuple[str, ...] = ()
    """Only these columns, in this order; empty for all."""
    delimiter: str = ","
    """One of `DELIMITERS`."""
    bom: bool = True
    """Whether a CSV file begins with a byte order mark."""
    header: bool = True
    """Whether a CSV file begins with the column names."""
    csv_safe: bool = False
    """Whether cells that a spreadsheet may read as formulas get a leading apostrophe."""

    def changed(self) -> dict[str, Any]:
        """The settings that differ from the default: name → value."""
        return {name: value for name, value in asdict(self).items() if value != getattr(DEFAULTS, name)}

    @classmethod
    def of(cls, values: dict[str, Any]) -> Self:
        """The settings with these values, which come from JSON."""
        return cls(**{**values, "columns": tuple(values["columns"])})


DEFAULTS = FormatSettings()
"""The defaults."""
