"""The packages of extras: pyarrow for Parquet, Jinja2 for HTML, libipld for CAR files, distributed for clusters, and
Starlette with uvicorn for the local page.

Other modules call this one first, which reports a missing package.
"""

from __future__ import annotations

import importlib
import mmap

from skyexport.errors import MissingExtraError

__all__ = [
    "INSTALL_CAR",
    "INSTALL_CLUSTER",
    "INSTALL_HTML",
    "INSTALL_PARQUET",
    "INSTALL_UI",
    "require_distributed",
    "require_jinja2",
    "require_libipld",
    "require_pyarrow",
    "require_server",
]

INSTALL_PARQUET = "pip install 'skyexport[parquet]', or pipx inject skyexport pyarrow"
"""The commands that install pyarrow, for skyexport from pip and from pipx."""

INSTALL_CLUSTER = "pip install 'skyexport[dask]', or pipx inject skyexport distributed"
"""The commands that install Dask's distributed."""

INSTALL_CAR = "pip install 'skyexport[car]', or pipx inject skyexport libipld"
"""The commands that install libipld."""

INSTALL_HTML = "pip install 'skyexport[html]', or pipx inject skyexport jinja2"
"""The commands that install Jinja2."""

INSTALL_UI = "pip install 'skyexport[ui]', or pipx inject skyexport starlette uvicorn jinja2"
"""The commands that install what the local page needs."""

_OLDEST_PYARROW = 16
"""The version in pyproject.toml, which pip checks only if it installs the extra itself."""

_PYARROW_BYTES = 200 << 20
"""Address space that pyarrow's libraries take, roughly."""


def require_pyarrow(purpose: str) -> None:
    """Load pyarrow.

    Args:
        purpose: The feature that needs pyarrow; the subject of the error.

    Raises:
        MissingExtraError: pyarrow is not installed, cannot be loaded, or is too old.
        MemoryError: The system gives no memory for it.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        problem = "is not installed" if error.name == "pyarrow" else f"lacks {error.name}"
    except (ImportError, AttributeError, OSError) as error:
        # pyarrow was built for another system, another Python or another NumPy.
        _check_room(error)
        problem = f"cannot be loaded ({' '.join(str(error).split())[:200]})"
    else:
        version = str(pyarrow.__version__)
        if int(version.partition(".")[0]) >= _OLDEST_PYARROW:
            return
        problem = f"{_OLDEST_PYARROW} or newer is not installed, but {version}"
    raise MissingExtraError(f"{purpose} needs pyarrow, which {problem}", INSTALL_PARQUET)


def require_distributed() -> None:
    """Load Dask's distributed.

    Raises:
        MissingExtraError: It is not installed, or cannot be loaded.
    """
    _require("distributed", "--cluster needs distributed", INSTALL_CLUSTER)


def require_libipld() -> None:
    """Load libipld, which decodes the blocks of CAR files.

    Raises:
        MissingExtraError: It is not installed, or cannot be loaded.
    """
    _require("libipld", "a CAR file needs libipld", INSTALL_CAR)


def require_jinja2() -> None:
    """Load Jinja2, which fills the templates of pages.

    Raises:
        MissingExtraError: It is not installed, or cannot be loaded.
    """
    _require("jinja2", "html needs Jinja2", INSTALL_HTML)


def require_server() -> None:
    """Load Starlette, uvicorn and Jinja2, which serve the local page.

    Raises:
        MissingExtraError: One of them is not installed, or cannot be loaded.
    """
    for package, name in (("starlette", "Starlette"), ("uvicorn", "uvicorn"), ("jinja2", "Jinja2")):
        _require(package, f"the local page needs {name}", INSTALL_UI)


def _require(package: str, need: str, install: str) -> None:
    try:
        importlib.import_module(package)
    except ModuleNotFoundError as error:
        problem = "is not installed" if error.name == package else f"lacks {error.name}"
    except ImportError as error:
        problem = f"cannot be loaded ({' '.join(str(error).split())[:200]})"
    else:
        return
    raise MissingExtraError(f"{need}, which {problem}", install)


def _check_room(error: Exception) -> None:
    # A library that finds no memory fails like one that is broken, and its words differ between systems.
    try:
        mmap.mmap(-1, _PYARROW_BYTES).close()
    except OSError:
        raise MemoryError("the system gives no memory for pyarrow") from error
