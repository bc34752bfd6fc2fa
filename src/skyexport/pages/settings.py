"""The facts that all pages of an export share: they travel to workers, which need no more of this package to start."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PageSettings"]


@dataclass(frozen=True, slots=True)
class PageSettings:
    """The plan, and the facts that all pages show."""

    plan: str
    """Path of the database of the plan."""
    exporter: str
    """Name and version of this program."""
    counts_known: bool
    """Whether numbers of likes mean anything."""
    uri_indexed: bool
    """Whether the archive finds posts by uri; if not, the plan does."""
