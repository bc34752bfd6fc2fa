"""Pages for people, as the options see them. They are no data files: `skyexport.pages` plans and renders them."""

from __future__ import annotations

from skyexport.extras import require_jinja2
from skyexport.formats.format import FormatMemory
from skyexport.formats.settings import DEFAULTS, FormatSettings

__all__ = ["HtmlPages"]


class HtmlPages:
    """A folder of pages to open in a browser."""

    name = "html"
    settings: FormatSettings = DEFAULTS
    suffix = ".html"
    columns: tuple[str, ...] = ()
    takes: frozenset[str] = frozenset()
    is_text = False
    encoders = 0
    memory = FormatMemory(library="jinja2", library_bytes=12_000_000, rendering_bytes=10_000_000)

    def require(self) -> None:
        """See `Form`."""
        require_jinja2()
