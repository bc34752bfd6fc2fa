"""How a data file is to look, as far as its format leaves a choice."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

__all__ = ["DELIMITERS", "USUAL", "FormatSettings"]

DELIMITERS = (",", ";", "|", "\t")
"""What may stand between the fields of a CSV file: what no number, time or identifier of a post has in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatSettings:
    """What a format may be told; each takes some of it, see `Format.takes`. Travels to workers as JSON."""

    columns: tuple[str, ...] = ()
    """Only these columns, in this order; none for all."""
    delimiter: str = ","
    """One of `DELIMITERS`."""
    bom: bool = True
    """Whether a CSV file begins with a byte order mark."""
    header: bool = True
    """Whether a CSV file begins with a record of column names."""
    csv_safe: bool = False
    """Whether cells that a spreadsheet may read as formulas get an apostrophe before them."""

    def changed(self) -> dict[str, Any]:
        """What is not as usual, name → value."""
        return {name: value for name, value in asdict(self).items() if value != getattr(USUAL, name)}

    @classmethod
    def of(cls, values: dict[str, Any]) -> Self:
        """The settings with these values, as JSON has them."""
        return cls(**{**values, "columns": tuple(values["columns"])})


USUAL = FormatSettings()
"""What holds unless something else is asked for."""
