"""What only an extra brings: pyarrow, for Parquet. Whoever needs it asks here first, and here alone it says so."""

from __future__ import annotations

from skyexport.errors import MissingExtraError

__all__ = ["INSTALL_PARQUET", "require_pyarrow"]

INSTALL_PARQUET = "pip install 'skyexport[parquet]', or pipx inject skyexport pyarrow"
"""The commands that install it: where pip, and where pipx installed skyexport."""

_OLDEST_PYARROW = 16
"""As pyproject.toml asks for it; pip checks that only when it installs the extra itself."""


def require_pyarrow(purpose: str) -> None:
    """Load pyarrow.

    Args:
        purpose: The subject of the error: what needs it.

    Raises:
        MissingExtraError: It is not installed, cannot be loaded, or is too old.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        problem = "is not installed" if error.name == "pyarrow" else f"lacks {error.name}"
    except (ImportError, AttributeError, OSError) as error:
        # Built for another system, another Python or another NumPy.
        problem = f"cannot be loaded ({' '.join(str(error).split())[:200]})"
    else:
        version = str(pyarrow.__version__)
        if int(version.partition(".")[0]) >= _OLDEST_PYARROW:
            return
        problem = f"{_OLDEST_PYARROW} or newer is not installed, but {version}"
    raise MissingExtraError(f"{purpose} needs pyarrow, which {problem}", INSTALL_PARQUET)
