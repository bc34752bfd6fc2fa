"""Sizes up to which stored values are shown on a page; a stranger's post may have anything."""

from __future__ import annotations

__all__ = ["LONGEST_URI_BYTES", "MOST_EMBED_BYTES", "MOST_LABELS_BYTES", "MOST_TEXT_BYTES"]

MOST_TEXT_BYTES = 20_000
"""Bluesky accepts 3,000. More of a text is cut, and the whole is a file of its own."""

MOST_EMBED_BYTES = 256_000
"""Real ones have a few kilobytes. A larger one is not shown, and the whole is a file of its own."""

MOST_LABELS_BYTES = 20_000
"""Larger labels are not read: the post is shown after a click."""

LONGEST_URI_BYTES = 4000
"""A post with a longer uri cannot be linked to."""
