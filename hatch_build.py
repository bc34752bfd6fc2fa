"""Build the native renderer into the wheel, when there is a C compiler: a hook of hatchling.

SKYEXPORT_NATIVE says what to do: `auto` (the default) builds it when that is possible, `require` fails when it is not,
`off` builds a wheel for any platform, without it.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

CHOICES = ("auto", "require", "off")


class NativeRendererHook(BuildHookInterface):  # type: ignore[type-arg]
    """Compiles `native/` beside the modules of the package, and tags the wheel for this platform."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build it, for a wheel or an editable installation."""
        del version
        choice = os.environ.get("SKYEXPORT_NATIVE") or "auto"
        if choice not in CHOICES:
            raise SystemExit(f"SKYEXPORT_NATIVE={choice}: use one of {', '.join(CHOICES)}")
        builder = _builder(Path(self.root))
        library = Path(self.root) / "src" / "skyexport" / "rendering" / builder.library_name()
        # One of another build must not end up in this wheel.
        library.unlink(missing_ok=True)
        if choice == "off":
            return
        try:
            builder.build(library)
        except builder.CompileError as error:
            if choice == "require":
                raise SystemExit(f"the native renderer is required but was not built: {error}") from None
            self.app.display_warning(f"without the native renderer, exports take longer: {error}")
            return
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{builder.wheel_platform()}"
        build_data["artifacts"].append(f"/src/skyexport/rendering/{library.name}")

    def clean(self, versions: list[str]) -> None:
        """Remove what was built."""
        del versions
        builder = _builder(Path(self.root))
        (Path(self.root) / "src" / "skyexport" / "rendering" / builder.library_name()).unlink(missing_ok=True)


def _builder(root: Path) -> Any:
    """The module `tools/build_native.py`."""
    found = importlib.util.spec_from_file_location("build_native", root / "tools" / "build_native.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module
